"""A stack's folder on disk: reading what people and `resolve` wrote there, and writing whole files."""

from __future__ import annotations

import difflib
import hashlib
import io
import os
import secrets
import stat
import tarfile
import tomllib
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from lockbuild.condalock import CONDA_LOCK
from lockbuild.digest import Sha256
from lockbuild.errors import LockError, StackError, UsageError
from lockbuild.lock import LOCK_FILE, Lock, parse_lock
from lockbuild.stack import inputs_of
from lockbuild.stack.shared import INCLUDE, SHARED, check_shared, expand, included
from lockbuild.stack.unlocked import check_unlocked

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

__all__ = [
    "STACK_FILE",
    "StackFolder",
    "archive_folder",
    "find_stack",
    "moved_inputs",
    "write_output",
    "write_text",
    "writing",
]

STACK_FILE = "stack.toml"
_NOT_SOURCE = frozenset({".git", "__pycache__"})
_MOST_LINKS = 40
"""That Linux follows, one after another."""


@dataclass(frozen=True, slots=True, kw_only=True)
class StackFolder:
    """Where a stack lives: `stacks/NAME` of a project, or any folder with a stack file."""

    path: Path
    called: str = ""
    """What messages call it where its path says nothing to people: `HEAD~3:stacks/cpu`."""

    @property
    def wheels(self) -> Path:
        """The wheelhouse: `wheels/NAME` beside `stacks`, or `wheels` in a folder that stands alone."""
        parent = self.path.parent
        return (
            parent.parent / "wheels" / self.path.name
            if parent.name == "stacks"
            else self.path / "wheels"
        )

    @property
    def wheels_from_here(self) -> str:
        """The wheelhouse as seen from the stack's folder."""
        return os.path.relpath(self.wheels, self.path)

    @property
    def context(self) -> Path:
        """The build context that `render` fills."""
        return self.path / "context"

    @property
    def label(self) -> str:
        """How the folder is called in messages: relative to where the user is, when it is below."""
        if self.called:
            return self.called
        here = Path.cwd()
        return str(self.path.relative_to(here)) if self.path.is_relative_to(here) else str(self.path)

    @property
    def stack_file(self) -> str:
        """How the stack file is called in messages."""
        return f"{self.label}/{STACK_FILE}"

    def read_stack_text(self) -> str:
        """Return the stack file's text.

        Raises:
            StackError: It cannot be read or is not UTF-8.
        """
        try:
            return (self.path / STACK_FILE).read_text(encoding="utf-8")
        except (OSError, UnicodeDecodeError) as error:
            raise StackError(f"{self.stack_file} cannot be read: {error}") from error

    def read_document(self) -> dict[str, Any]:
        """Return the stack file's document, with the shared builds that it includes written out.

        Raises:
            StackError: It, or a shared build, cannot be read or is not TOML.
        """
        document = _toml(self.read_stack_text(), self.stack_file)
        return expand(document, {name: self._shared_build(name) for name in included(document)})

    def _shared_build(self, name: str) -> dict[str, Any]:
        folder = self.path.parent / SHARED
        file = folder / f"{name}.toml"
        label = os.path.relpath(file, self.path)
        if file.parent != folder or not file.is_file():
            known = sorted(path.stem for path in folder.glob("*.toml"))
            nearest = difflib.get_close_matches(name, known, n=1, cutoff=0.4)
            raise StackError(
                f"{self.stack_file}: `{INCLUDE}` names the shared build `{name}`, and there is no {label}",
                hint=f"did you mean `{nearest[0]}`?"
                if nearest
                else f"there are: {', '.join(known) or 'none'}",
            )
        try:
            table = _toml(file.read_text(encoding="utf-8"), label)
        except (OSError, UnicodeDecodeError) as error:
            raise StackError(f"{label} cannot be read: {error}") from error
        check_shared(table, file=label)
        return table

    def read_lock_texts(self) -> dict[str, str]:
        """Return name -> text of every lock file that is there, as `lockbuild.lock.parse_lock` takes it.

        Raises:
            LockError: One cannot be read.
        """
        patterns = (LOCK_FILE, "pylock*.toml", "requirements.txt", CONDA_LOCK)
        paths = sorted(path for pattern in patterns for path in self.path.glob(pattern))
        try:
            return {p.name: p.read_bytes().decode("utf-8", errors="surrogateescape") for p in paths}
        except OSError as error:
            raise LockError(f"a lock file of {self.label} cannot be read: {error}") from error

    def read_lock(self, *, edited: list[LockError] | None = None) -> Lock:
        """Return the lock.

        Args:
            edited: As for `parse_lock`.

        Raises:
            LockError: It is missing, or not as it was written.
        """
        texts = self.read_lock_texts()
        if LOCK_FILE not in texts:
            raise LockError(
                f"{self.label}: there is no {LOCK_FILE}", hint=f"lockbuild resolve {self.label}"
            )
        try:
            return parse_lock(texts, edited=edited)
        except LockError as error:
            raise LockError(
                f"{self.label}: {error.message}", details=error.details, hint=error.hint
            ) from error

    def read_locked(self) -> tuple[dict[str, Any], Lock]:
        """Return the stack's document and its lock, which is not stale.

        Of the document only what the lock does not vouch for is checked: the rest was, when the lock was made.

        Raises:
            LockError: The lock is missing, damaged or stale; the details say which inputs moved.
            StackError: The stack file, or a shared build of it, is not TOML; or what was checked is wrong.
        """
        lock = self.read_lock()
        document = self.read_document()
        # The document first: which files it uses can be asked only of one that was checked.
        moved = self.moved(lock, document, files=False)
        if not moved:
            check_unlocked(document, file=self.stack_file)
            moved = self.moved(lock, document)
        if moved:
            raise LockError(
                f"the lock of {self.label} is stale: {STACK_FILE} has changed since",
                details=moved,
                hint=f"lockbuild resolve {self.label}",
            )
        return document, lock

    def moved(self, lock: Lock, document: Mapping[str, Any], *, files: bool = True) -> tuple[str, ...]:
        """Return a line for each input that *document* has otherwise than *lock*.

        Args:
            files: Whether the files beside the stack file count, for which the document must be one that was checked.
        """
        locked = dict(lock.inputs)
        if files:
            return moved_inputs(locked, inputs_of(document, self.used_files(document)))
        return moved_inputs(_without_files(locked), inputs_of(document, {}))

    def used_files(self, document: Mapping[str, Any]) -> dict[str, str]:
        """Return path -> sha256 of each file beside the stack file that an accepted *document* uses.

        Raises:
            StackError: A folder or a patch is not there.
        """
        builds, named = document.get("build", ()), document.get("source", ())
        folders = {
            table["source"]["path"]: f"build[{table['name']}].source.path"
            for table in builds
            if "path" in table["source"]
        }
        folders |= {
            table["folder"]: f"source[{table['name']}].folder" for table in named if "folder" in table
        }
        patches = {
            edit["patch"]: f"{kind}[{table['name']}].edits"
            for kind, tables in (("build", builds), ("source", named))
            for table in tables
            for edit in table.get("edits", ())
            if "patch" in edit
        }
        self._refuse_absent(folders, patches)
        found = {
            path: hashlib.sha256(b"-" + (self.path / path).read_bytes()).hexdigest()
            for path in sorted(patches)
        }
        for path in sorted(folders):
            for file in _source_files(self.path / path):
                name = os.fsencode(file.relative_to(self.path)).decode(errors="backslashreplace")
                found[name] = hashlib.sha256(_kind(file) + self._content(file, name)).hexdigest()
        return found

    def _refuse_absent(self, folders: Mapping[str, str], patches: Mapping[str, str]) -> None:
        """Refuse a stack whose *folders* and *patches*, path -> the key that names it, are not all there."""
        absent = [
            f"`{key}`: `{path}` is not a folder"
            for path, key in folders.items()
            if not (self.path / path).is_dir()
        ]
        absent += [
            f"`{key}`: `{path}` is not a file"
            for path, key in patches.items()
            if not (self.path / path).is_file()
        ]
        if absent:
            raise StackError(
                f"{self.stack_file}: what lies beside it is not there",
                details=tuple(sorted(absent)),
                hint=f"paths begin at {self.path}; correct them, or put there what they name",
            )

    def _content(self, file: Path, name: str) -> bytes:
        """Return the bytes of a source's *file*, or where a link leads."""
        try:
            if file.is_symlink():
                return os.fsencode(os.readlink(file))
            if file.is_file():
                return file.read_bytes()
        except OSError as error:
            raise StackError(
                f"{self.stack_file}: `{name}` of a source cannot be read: {error.strerror}",
                hint="look at its owner and mode",
            ) from error
        # Reading a pipe would wait for whoever writes to it.
        raise StackError(
            f"{self.stack_file}: `{name}` of a source is neither a file, a folder nor a link",
            hint="remove it, or keep it elsewhere",
        )

    def write_texts(self, texts: Mapping[str, str]) -> tuple[str, ...]:
        """Write the files whose text differs, `lockbuild.lock` last, and return their names.

        The last file holds the others' hashes: until it is written, an interrupted run leaves a lock
        that says it is not whole.
        """
        changed = [name for name, text in texts.items() if not _same(self.path / name, text)]
        for name in sorted(changed, key=lambda name: (name == LOCK_FILE, name)):
            write_text(self.path / name, texts[name])
        stale = [
            path
            for pattern in ("pylock.build*.toml", CONDA_LOCK)
            for path in self.path.glob(pattern)
            if path.name not in texts and LOCK_FILE in texts
        ]
        for path in stale:
            with writing(path):
                path.unlink()
        return tuple(sorted([*changed, *(path.name for path in stale)]))


def _toml(text: str, label: str) -> dict[str, Any]:
    try:
        return tomllib.loads(text)
    except tomllib.TOMLDecodeError as error:
        raise StackError(f"{label} is not TOML: {error}") from error


def find_stack(argument: str, *, here: Path) -> StackFolder:
    """Return the folder of the stack that *argument* names: a folder, its stack file, or a name.

    Raises:
        UsageError: There is none; the hint names the nearest.
    """
    # A name that no file can have, or links in a circle, lead to no stack either.
    with suppress(OSError, RuntimeError):
        given = (here / argument).resolve()
        for folder in (
            given,
            given.parent if given.name == STACK_FILE else given,
            here.resolve() / "stacks" / argument,
        ):
            if (folder / STACK_FILE).is_file():
                return StackFolder(path=folder)
    known = sorted(path.parent.name for path in (here / "stacks").glob(f"*/{STACK_FILE}"))
    nearest = difflib.get_close_matches(Path(argument).name, known, n=1, cutoff=0.4)
    hint = "names are looked for in `stacks` of the folder that this runs in: go to where that is, or name the stack's folder"
    if known:
        hint = f"did you mean `{nearest[0]}`?" if nearest else f"the stacks here are: {', '.join(known)}"
    raise UsageError(f"no stack at `{argument}`: there is no {STACK_FILE}", hint=hint)


def moved_inputs(locked: Mapping[str, str], found: Mapping[str, str]) -> tuple[str, ...]:
    """Return a line for each input that was added, removed or changed since the lock was made."""
    lines = []
    for key in sorted({*locked, *found}):
        if key not in found:
            lines.append(f"`{key}` was removed")
        elif key not in locked:
            lines.append(f"`{key}` was added")
        elif locked[key] != found[key]:
            lines.append(f"`{key}` was changed")
    return tuple(lines)


@contextmanager
def writing(path: Path, *, label: str = "") -> Iterator[None]:
    """Turn an `OSError` that comes up while *path*, a file or a folder, is written into a `UsageError`.

    Args:
        label: What messages call it where that is not its path.
    """
    try:
        yield
    except OSError as error:
        # What is beside it is a temporary name.
        where = Path(error.filename or path)
        raise UsageError(
            f"`{label or path}` cannot be written: {error.strerror or error}",
            details=() if where.parent == path.parent else (str(where),),
            hint="look at the room on the disk, and at the folder's owner and mode",
        ) from error


def write_text(path: Path, text: str, *, label: str = "") -> None:
    """Write *text* as the whole file at *path*, or leave what was there.

    Args:
        label: As for `writing`.

    Raises:
        UsageError: It cannot be written.
    """
    temporary = path.with_name(f".{path.name}.{secrets.token_hex(8)}")
    with writing(path, label=label):
        path.parent.mkdir(parents=True, exist_ok=True)
        try:
            with temporary.open("x", encoding="utf-8", newline="\n") as stream:
                stream.write(text)
                stream.flush()
                os.fsync(stream.fileno())
            temporary.replace(path)
        except BaseException:
            with suppress(OSError):
                temporary.unlink(missing_ok=True)
            raise


def write_output(path: Path, text: str, *, label: str = "") -> None:
    """Write *text* where somebody asked for it.

    A link stays, and the file that it leads to is written whole or not at all. What is no file, such as a device, a pipe
    or `/dev/stdout`, is written into: a file in its place would be another thing for everybody who uses it.

    Args:
        label: As for `writing`.

    Raises:
        UsageError: It cannot be written.
    """
    with writing(path, label=label):
        descriptor = _place_to_write_into(path)
        if descriptor is not None:
            with open(descriptor, "w", encoding="utf-8", newline="\n") as stream:
                stream.write(text)
            return
    write_text(Path(os.path.realpath(path)), text, label=label or str(path))


def _place_to_write_into(path: Path) -> int | None:
    """Return an open descriptor of what is at *path*, or none where a file is or can be."""
    if (number := _own_descriptor(path)) is not None:
        # As it is open: where it is in a file, and whether it appends, is known to no path.
        return os.dup(number)
    try:
        mode = path.stat().st_mode
    except (FileNotFoundError, NotADirectoryError):
        return None
    return None if stat.S_ISREG(mode) else os.open(path, os.O_WRONLY)


def _own_descriptor(path: Path) -> int | None:
    """Return the number of this process's descriptor that *path* or a link on its way names, as `/dev/stdout` does."""
    own = os.path.realpath("/proc/self/fd")
    for _ in range(_MOST_LINKS):
        if not path.is_symlink():
            return None
        if path.name.isdecimal() and os.path.realpath(path.parent) == own:
            return int(path.name)
        path = path.parent / path.readlink()
    return None


def _without_files(inputs: Mapping[str, str]) -> dict[str, str]:
    """Return the *inputs* that stand in the stack file itself."""
    return {key: digest for key, digest in inputs.items() if not key.startswith("file ")}


def _same(path: Path, text: str) -> bool:
    try:
        return path.read_bytes() == text.encode()
    except OSError:
        return False


def _source_files(folder: Path) -> Iterator[Path]:
    for path in sorted(folder.iterdir()):
        if path.name in _NOT_SOURCE:
            continue
        if path.is_dir() and not path.is_symlink():
            yield from _source_files(path)
        else:
            yield path


def _kind(file: Path) -> bytes:
    """Return one byte that tells programs, other files and symbolic links apart."""
    mode = file.lstat().st_mode
    if stat.S_ISLNK(mode):
        return b"l"
    return b"x" if mode & stat.S_IXUSR else b"-"


def archive_folder(folder: Path, destination: Path) -> tuple[Sha256, int]:
    """Write a tar of the files in *folder* that follows from their content alone.

    Version control's folder and compiled Python are left out. Returns sha256 and size in bytes.
    """
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w", format=tarfile.PAX_FORMAT) as archive:
        for file in _source_files(folder):
            member = tarfile.TarInfo(f"{folder.name}/{file.relative_to(folder).as_posix()}")
            member.mtime = 315532800
            member.mode = 0o755 if _kind(file) == b"x" else 0o644
            if file.is_symlink():
                member.type, member.linkname = tarfile.SYMTYPE, os.readlink(file)
                archive.addfile(member)
                continue
            content = file.read_bytes()
            member.size = len(content)
            archive.addfile(member, io.BytesIO(content))
    data = buffer.getvalue()
    destination.write_bytes(data)
    return Sha256(hashlib.sha256(data).hexdigest()), len(data)
