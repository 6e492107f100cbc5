"""The files of a tree, written into a folder."""

from __future__ import annotations

import os
import re
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from lockbuild.errors import FetchError
from lockbuild.sources.git.objects import Damaged

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from lockbuild.progress import Phase
    from lockbuild.sources.git.objects import Entry, Objects

__all__ = ["Pointer", "write"]

_POINTER = re.compile(
    rb"version https://(?:git-lfs|hawser)\.github\.com/spec/v1\n(?:ext-[^\n]*\n)*"
    rb"oid sha256:([0-9a-f]{64})\nsize ([0-9]+)\n?"
)
_POINTER_BYTES = 1024


@dataclass(frozen=True, slots=True, kw_only=True)
class Pointer:
    """A small text that git-lfs keeps in a file's place."""

    path: str
    sha256: str
    """Of the file that it stands for."""
    size: int

    def below(self, prefix: str) -> Pointer:
        """Return the pointer with its path below a folder."""
        return replace(self, path=prefix + self.path)


def write(objects: Objects, entries: Sequence[Entry], *, into: Path, phase: Phase) -> list[Pointer]:
    """Write *entries* below a folder, and return those that are git-lfs pointers.

    It may be done again over what an earlier call left. No path may lead through another one that is
    a symlink: the caller has seen to that.

    Raises:
        Absent: An object is not there.
        Damaged: An object has other bytes than its id says.
        FetchError: A symlink leads to what is no path.
    """
    pointers: list[Pointer] = []
    done = 0
    try:
        for entry in entries:
            file = into / entry.path
            file.parent.mkdir(parents=True, exist_ok=True)
            if entry.kind == "symlink":
                _link(file, _target(objects, entry))
                continue
            size, head = _write_one(objects, entry, file)
            found = _POINTER.fullmatch(head) if size <= _POINTER_BYTES else None
            if found:
                pointers.append(Pointer(path=entry.path, sha256=found[1].decode(), size=int(found[2])))
            done += size
            phase.advance(size)
    except Damaged:
        phase.advance(-done)
        raise
    return pointers


def _write_one(objects: Objects, entry: Entry, file: Path) -> tuple[int, bytes]:
    """Write one file and return its size and its beginning."""
    flags = os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_NOFOLLOW | os.O_CLOEXEC
    head = bytearray()

    def take(piece: bytes) -> None:
        if len(head) <= _POINTER_BYTES:
            head.extend(piece[: _POINTER_BYTES + 1])
        stream.write(piece)

    with open(os.open(file, flags, 0o600), "wb") as stream:  # a symlink is not followed
        size = objects.copy(entry.id, take)
        # Whatever mask the user has for new files.
        os.fchmod(stream.fileno(), 0o755 if entry.kind == "executable" else 0o644)
    return size, bytes(head)


def _target(objects: Objects, entry: Entry) -> str:
    try:
        target = objects.blob(entry.id).decode()
    except UnicodeDecodeError:
        target = ""
    if not target or "\0" in target:
        raise FetchError(
            f"symlink `{entry.path}` leads to what is no path, or not UTF-8",
            hint="leave it out with `exclude`",
        )
    return target


def _link(file: Path, target: str) -> None:
    file.unlink(missing_ok=True)
    file.symlink_to(target)
