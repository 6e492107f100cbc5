"""Folders as values: their canonical listing and its hash, and making, flushing and removing them.

The canonical listing of a folder is the JSON text, with neither spaces nor a newline, of

    ["tree",1,[[PATH,KIND,CONTENT],...]]

with one entry for everything below the folder, sorted by PATH, code point by code point:

- PATH is relative, with `/` between names; names are UTF-8 and are not normalised in any way.
- KIND is `file`, `executable` (a file whose owner may run it), `symlink` or `folder`.
- CONTENT is the sha256 of a file's bytes, the target of a symlink as it is written there, and empty
  for a folder.

Owners, times, other mode bits, hard links and extended attributes do not exist in it. The sha256 of
this text is the hash of the folder. `tests/test_store.py` pins the bytes.
"""

from __future__ import annotations

import hashlib
import os
import shutil
import stat
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from lockbuild.digest import JsonValue, Sha256, canonical_json, sha256_of
from lockbuild.errors import StoreError
from lockbuild.hashing import side_by_side
from lockbuild.process import find_tool, run

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

__all__ = [
    "Entry",
    "EntryKind",
    "difference",
    "flush",
    "flush_one",
    "freeze",
    "hash_file",
    "listing",
    "listing_sha256",
    "listing_text",
    "own",
    "remove_tree",
]

EntryKind = Literal["executable", "file", "folder", "symlink"]

_MANY_BYTES = 16 * 1024 * 1024
_MANY_FILES = 64
_MOUNTS = Path("/proc/self/mountinfo")


@dataclass(frozen=True, slots=True, kw_only=True)
class Entry:
    """One thing below a folder."""

    path: str
    """Relative, with `/` between names."""
    kind: EntryKind
    content: str
    """Sha256 of a file's bytes, target of a symlink; empty for a folder."""
    size: int = 0
    """Bytes of a file. Not part of the canonical listing: the hash says it all."""


# ---- listing ---------------------------------------------------------------------------------------


def listing(folder: Path) -> tuple[Entry, ...]:
    """Return everything below *folder*, sorted by path, with every file's bytes hashed.

    Raises:
        StoreError: There is something that is neither file, symlink nor folder, or a name or a target
            is not UTF-8.
    """
    found = sorted(_walk(folder, ""), key=lambda item: item[0])
    files = [(path, size) for path, kind, size in found if kind in ("file", "executable")]

    def digest(item: tuple[str, int]) -> Sha256:
        return hash_file(folder / item[0])

    many = len(files) > 1 and sum(size for _, size in files) > _MANY_BYTES
    hashes = list(side_by_side(digest, files) if many else map(digest, files))
    by_path = dict(zip((path for path, _ in files), hashes, strict=True))
    return tuple(
        Entry(path=path, kind=kind, size=size, content=_content(folder, path, kind, by_path))
        for path, kind, size in found
    )


def _walk(folder: Path, prefix: str) -> Iterator[tuple[str, EntryKind, int]]:
    with os.scandir(folder) as entries:
        for entry in entries:
            path = prefix + _utf8(entry.name, f"the name `{prefix}{entry.name!r}`")
            status = entry.stat(follow_symlinks=False)
            kind = _kind(status.st_mode, path)
            yield path, kind, status.st_size if kind in ("file", "executable") else 0
            if kind == "folder":
                yield from _walk(Path(entry.path), f"{path}/")


def _kind(mode: int, path: str) -> EntryKind:
    if stat.S_ISLNK(mode):
        return "symlink"
    if stat.S_ISDIR(mode):
        return "folder"
    if stat.S_ISREG(mode):
        return "executable" if mode & stat.S_IXUSR else "file"
    raise StoreError(
        f"`{path}` is a {_special(mode)}: a store object holds files, folders and symlinks only",
        hint="have the build remove it",
    )


def _special(mode: int) -> str:
    names = ((stat.S_ISFIFO, "pipe"), (stat.S_ISSOCK, "socket"), (stat.S_ISBLK, "block device"))
    return next((name for test, name in names if test(mode)), "character device")


def _content(folder: Path, path: str, kind: EntryKind, hashes: dict[str, Sha256]) -> str:
    if kind == "symlink":
        target = os.readlink(folder / path)  # a Path would tidy `a//b` into `a/b`
        return _utf8(target, f"the target of `{path}`")
    return hashes.get(path, "")


def _utf8(text: str, what: str) -> str:
    try:
        text.encode()
    except UnicodeEncodeError as error:
        raise StoreError(f"{what} is not UTF-8", hint="have the build give it a name that is") from error
    return text


def listing_text(entries: Iterable[Entry]) -> bytes:
    """Return the canonical listing, whose sha256 is the hash of the folder."""
    rows: list[JsonValue] = [
        [entry.path, entry.kind, entry.content] for entry in sorted(entries, key=lambda e: e.path)
    ]
    return canonical_json(["tree", 1, rows])


def listing_sha256(entries: Iterable[Entry]) -> Sha256:
    """Return the hash of the folder that *entries* list."""
    return sha256_of(listing_text(entries))


def difference(before: Iterable[Entry], after: Iterable[Entry]) -> tuple[str, ...]:
    """Return one line for each member that is only in one of the two listings, or differs."""
    old = {entry.path: entry for entry in before}
    new = {entry.path: entry for entry in after}
    return tuple(
        _changed(path, old.get(path), new.get(path))
        for path in sorted(old.keys() | new.keys())
        if _identity(old.get(path)) != _identity(new.get(path))
    )


def _identity(entry: Entry | None) -> tuple[str, str] | None:
    return None if entry is None else (entry.kind, entry.content)


def _changed(path: str, old: Entry | None, new: Entry | None) -> str:
    if old is None:
        return f"added: {path}"
    if new is None:
        return f"missing: {path}"
    if old.kind != new.kind:
        return f"changed: {path}: {old.kind} became {new.kind}"
    return f"changed: {path}: {old.content} became {new.content}"


def hash_file(path: Path) -> Sha256:
    """Return the sha256 of a file's bytes."""
    # A symlink put there in the meantime is not followed.
    with open(os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC), "rb") as file:
        return Sha256(hashlib.file_digest(file, "sha256").hexdigest())


# ---- taking over -----------------------------------------------------------------------------------


def freeze(folder: Path, entries: Iterable[Entry]) -> None:
    """Make all below *folder* read-only with modes and times that are always the same.

    Files get 0444 or 0555, folders 0555, everything the time 1; set-user-id and its like go. A file
    with a second name elsewhere is copied first, since it could be changed through that name. The
    folder itself keeps its mode: one that cannot be written to cannot be moved.
    """
    for entry in sorted(entries, key=lambda e: e.path, reverse=True):
        path = folder / entry.path
        if entry.kind in ("file", "executable"):
            own(path)
        if entry.kind != "symlink":
            path.chmod(0o444 if entry.kind == "file" else 0o555)
        os.utime(path, (1, 1), follow_symlinks=False)
    os.utime(folder, (1, 1))


def own(path: Path) -> None:
    """Give the file at *path* bytes that have no second name."""
    if path.stat(follow_symlinks=False).st_nlink > 1:
        copy = path.with_name(f".{path.name[:100]}.{os.getpid()}.lockbuild")
        try:
            shutil.copy2(path, copy)
            copy.replace(path)
        finally:
            copy.unlink(missing_ok=True)


def flush(top: Path, entries: Iterable[Entry] | None = None) -> None:
    """Have the disk hold *top* and all below it before this returns.

    Args:
        entries: The listing of *top*, where it is a folder and that is known; without one, or for
            many files, the whole file system is flushed, which is then the faster way.
    """
    known = None if entries is None else [e for e in entries if e.kind != "symlink"]
    if known is None or len(known) > _MANY_FILES:
        tool = find_tool("sync")
        if tool is None or run([tool, "--file-system", top]).returncode != 0:
            os.sync()
        return
    for entry in known:
        flush_one(top / entry.path)
    flush_one(top)


def flush_one(path: Path) -> None:
    """Have the disk hold one file, or the names in one folder."""
    descriptor = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


# ---- removing --------------------------------------------------------------------------------------


def remove_tree(path: Path) -> None:
    """Remove a file or a folder with all below it, also where folders are read-only.

    Raises:
        StoreError: Something is mounted below it (removing would reach into what is mounted), or
            files belong to another user.
    """
    if path.is_symlink() or not path.is_dir():
        path.unlink(missing_ok=True)
        return
    mounted = _mounted_below(path)
    if mounted:
        raise StoreError(
            f"`{path}` cannot be removed: `{mounted}` is mounted there", hint=f"umount {mounted}"
        )
    shutil.rmtree(path, ignore_errors=True)
    if path.exists():
        _open_up(path)
        shutil.rmtree(path, ignore_errors=True)
    if path.exists():
        _remove_as_mapped_root(path)


def _open_up(path: Path) -> None:
    """Let this user write to every folder below that is its own."""
    with suppress(OSError):
        path.chmod(0o700)
    for parent, names, _ in os.walk(path):
        for name in names:
            folder = Path(parent, name)
            with suppress(OSError):
                if not folder.is_symlink():
                    folder.chmod(0o700)


def _remove_as_mapped_root(path: Path) -> None:
    """Remove what subordinate users of this one left behind, as mmdebstrap and podman make them."""
    unshare = find_tool("unshare")
    if unshare is not None and os.geteuid() != 0:
        run([unshare, "--user", "--map-root-user", "--map-auto", "rm", "-rf", "--", path])
    if path.exists():
        raise StoreError(
            f"`{path}` cannot be removed whole: some of its files belong to another user",
            hint=f"sudo rm -rf {path}",
        )


def _mounted_below(path: Path) -> str | None:
    """Return the first mount point in *path* or below; a bind mount has the device of its source."""
    try:
        lines = _MOUNTS.read_text(encoding="utf-8", errors="surrogateescape").splitlines()
    except OSError:
        return None
    top = str(path.resolve())
    for line in lines:
        point = line.split(" ")[4].replace("\\040", " ").replace("\\134", "\\")
        if point == top or point.startswith(f"{top}/"):
            return point
    return None
