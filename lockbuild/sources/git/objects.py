"""Objects of a repository as they are: no filter, no line ending, no attribute touches their bytes.

Every object is hashed again when it is read, so that a commit's id vouches for all below it wherever
the objects came from.
"""

from __future__ import annotations

import hashlib
import subprocess
from contextlib import suppress
from dataclasses import dataclass
from typing import IO, TYPE_CHECKING, Literal

from lockbuild.errors import FetchError

if TYPE_CHECKING:
    from collections.abc import Callable, Collection
    from pathlib import Path
    from types import TracebackType
    from typing import Self

    from lockbuild.sources.git.commands import Git

__all__ = ["Absent", "Damaged", "Entry", "Objects"]

_CHUNK = 1024 * 1024
_MOST_PATHS = 2_000_000
_KINDS = {0o040000: "folder", 0o120000: "symlink", 0o160000: "submodule", 0o100000: "file"}


class Absent(Exception):
    """An object that is needed is not there."""


class Damaged(Exception):
    """An object is not what its id says, or cannot be read."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Entry:
    """One path of a commit's tree."""

    path: str
    """From the top of its own repository."""
    kind: Literal["executable", "file", "submodule", "symlink"]
    id: str


class Objects:
    """Reads the objects in one folder, within a `with` block."""

    def __init__(self, git: Git, folder: Path) -> None:
        self._git = git
        self._folder = folder

    def __enter__(self) -> Self:
        argv, env = self._git.reading(self._folder, "cat-file", "--batch")
        self._process = subprocess.Popen(
            argv, env=env, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL
        )
        assert self._process.stdin is not None  # noqa: S101 - pipes were asked for
        assert self._process.stdout is not None  # noqa: S101
        self._asks: IO[bytes] = self._process.stdin
        self._answers: IO[bytes] = self._process.stdout
        return self

    def __exit__(
        self, kind: type[BaseException] | None, value: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._process.kill()
        with suppress(BrokenPipeError):
            self._asks.close()
        self._answers.close()
        self._process.wait()

    def absent(self, ids: Collection[str]) -> frozenset[str]:
        """Return those of *ids* that are not there."""
        if not ids:
            return frozenset()
        argv, env = self._git.reading(self._folder, "cat-file", "--batch-check=%(objectname)")
        asked = "".join(f"{one}\n" for one in ids)
        ended = subprocess.run(argv, env=env, input=asked, capture_output=True, text=True, check=False)
        answers = ended.stdout.splitlines()
        if ended.returncode != 0 or len(answers) != len(ids):
            raise Damaged(ended.stderr.strip())
        return frozenset(line.split(" ")[0] for line in answers if line.endswith(" missing"))

    def tree(self, commit: str) -> tuple[Entry, ...]:
        """Return every path of *commit*, sorted.

        Raises:
            Absent: The commit or one of its trees is not there.
            FetchError: It is no commit, or has too many files.
        """
        kind, data = self._read(commit)
        if kind != "commit":
            raise FetchError(_not_a_commit(commit, kind, data))
        found: list[Entry] = []
        waiting = [("", data.split(b"\n", 1)[0].removeprefix(b"tree ").decode("ascii", "replace"))]
        while waiting:
            prefix, tree = waiting.pop()
            kind, data = self._read(tree)
            if kind != "tree":
                raise Damaged(f"{tree} is a {kind}, not a tree")
            for path, mode, one in _members(tree, data, prefix):
                what = _kind(path, mode)
                if what == "folder":
                    waiting.append((f"{path}/", one))
                else:
                    found.append(Entry(path=path, kind=what, id=one))
            # A few trees that hold one another ten times over name more files than any disk has.
            if max(len(found), len(waiting)) > _MOST_PATHS:
                raise FetchError(
                    f"commit {commit} has more than {_MOST_PATHS} files: no source is so large",
                    hint="look at it with `git ls-tree`, or pin another commit",
                )
        return tuple(sorted(found, key=lambda entry: entry.path))

    def blob(self, one: str) -> bytes:
        """Return the bytes of a small file.

        Raises:
            Absent: It is not there.
        """
        return self._read(one)[1]

    def copy(self, one: str, take: Callable[[bytes], object]) -> int:
        """Give *take* the bytes of a file, piece by piece, and return how many there were.

        Raises:
            Absent: It is not there.
            Damaged: The bytes, all of which *take* may have got, are not the ones that the id names.
        """
        kind, size = self._ask(one)
        digest = hashlib.sha1(f"{kind} {size}\0".encode(), usedforsecurity=False)
        left = size
        while left:
            piece = self._answers.read(min(left, _CHUNK))
            if not piece:
                raise Damaged(f"{one} cannot be read")
            digest.update(piece)
            take(piece)
            left -= len(piece)
        self._answers.read(1)
        if digest.hexdigest() != one or kind not in {"blob", "tree", "commit", "tag"}:
            raise Damaged(f"{one} has other bytes than its id says")
        return size

    def _read(self, one: str) -> tuple[str, bytes]:
        kind, size = self._ask(one)
        data = self._answers.read(size)
        self._answers.read(1)
        header = f"{kind} {size}\0".encode()
        if len(data) != size or hashlib.sha1(header + data, usedforsecurity=False).hexdigest() != one:
            raise Damaged(f"{one} has other bytes than its id says")
        return kind, data

    def _ask(self, one: str) -> tuple[str, int]:
        try:
            self._asks.write(f"{one}\n".encode())
            self._asks.flush()
        except BrokenPipeError as error:
            raise Damaged(f"{one} cannot be read") from error
        answer = self._answers.readline().decode(errors="replace").split()
        if len(answer) == 2 and answer[1] == "missing":  # noqa: PLR2004
            raise Absent(one)
        if len(answer) != 3:  # noqa: PLR2004 - git ends at an object that it cannot read
            raise Damaged(f"{one} cannot be read")
        return answer[1], int(answer[2])


def _members(tree: str, data: bytes, prefix: str) -> list[tuple[str, int, str]]:
    """Parse a tree object: `MODE NAME`, a zero byte, and 20 bytes of id for each member."""
    members, at = [], 0
    try:
        while at < len(data):
            end = data.index(b"\0", at)
            mode, _, name = data[at:end].partition(b" ")
            path = prefix + name.decode(errors="surrogateescape")
            members.append((path, int(mode, 8), data[end + 1 : end + 21].hex()))
            at = end + 21
    except ValueError as error:
        raise FetchError(f"tree `{tree}` is malformed: no git writes the like") from error
    return members


def _kind(path: str, mode: int) -> Literal["executable", "file", "folder", "submodule", "symlink"]:
    # Only the owner's right to run a file is kept: old repositories have 0664 and its like.
    match _KINDS.get(mode & 0o170000):
        case "file":
            return "executable" if mode & 0o100 else "file"
        case "folder":
            return "folder"
        case "submodule":
            return "submodule"
        case "symlink":
            return "symlink"
        case _:
            raise FetchError(f"{path!a} has the mode {mode:o}, which no git writes")


def _not_a_commit(commit: str, kind: str, data: bytes) -> str:
    if kind != "tag":
        return f"`{commit}` is a {kind}, not a commit"
    target = data.split(b"\n", 1)[0].removeprefix(b"object ").decode("ascii", "replace")
    return f"`{commit}` is an annotated tag, not a commit; it names {target}"
