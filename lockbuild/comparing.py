"""Comparing two wheels: member by member, and inside ELF files section by section."""

from __future__ import annotations

import io
import struct
import zipfile
import zlib
from typing import TYPE_CHECKING

from lockbuild.binaries import MAGIC, difference_of_binaries
from lockbuild.errors import BuildError
from lockbuild.hashing import sha256_of_file

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

__all__ = ["difference_of_wheels"]

_CHUNK = 1024 * 1024
# What a damaged archive makes zipfile and zlib raise; zipfile checks little.
_BROKEN = (
    *(zipfile.BadZipFile, zlib.error, struct.error, EOFError, NotImplementedError),
    *(RuntimeError, OSError, ValueError, LookupError),
)


def difference_of_wheels(before: Path, after: Path) -> tuple[str, ...]:
    """Return how two wheels differ, one line each; nothing when their bytes are equal.

    Sections of an ELF member that differ follow it, set in by two spaces.

    Raises:
        BuildError: One of them cannot be read.
    """
    try:
        with zipfile.ZipFile(before) as old, zipfile.ZipFile(after) as new:
            lines = (*_members_that_differ(old, new), *_packed_differently(old, new))
    except _BROKEN as error:
        raise BuildError(f"`{before.name}` cannot be compared: {error}") from error
    if lines or sha256_of_file(before) == sha256_of_file(after):
        return lines
    return ("the members are equal, the archives around them are not",)


def _members_that_differ(old: zipfile.ZipFile, new: zipfile.ZipFile) -> Iterator[str]:
    olds, news = set(old.namelist()), set(new.namelist())
    for name in sorted(olds | news):
        if name not in news:
            yield f"missing: {name}"
        elif name not in olds:
            yield f"added: {name}"
        else:
            offset = _first_difference(old, new, name)
            if offset is not None:
                sizes = f"{old.getinfo(name).file_size} and {new.getinfo(name).file_size} bytes"
                yield f"changed: {name}: {sizes}, first difference at byte {offset}"
                yield from (f"  {line}" for line in _sections_that_differ(old, new, name))


def _sections_that_differ(old: zipfile.ZipFile, new: zipfile.ZipFile, name: str) -> tuple[str, ...]:
    for archive in (old, new):
        with archive.open(name) as stream:
            if stream.read(len(MAGIC)) != MAGIC:
                return ()
    try:
        return difference_of_binaries(*(io.BytesIO(archive.read(name)) for archive in (old, new)))
    except BuildError as error:
        return (error.message,)


def _first_difference(old: zipfile.ZipFile, new: zipfile.ZipFile, name: str) -> int | None:
    offset = 0
    with old.open(name) as one, new.open(name) as other:
        while True:
            left, right = one.read(_CHUNK), other.read(_CHUNK)
            if left != right:
                pairs = enumerate(zip(left, right, strict=False))
                differing = (place for place, (a, b) in pairs if a != b)
                return offset + next(differing, min(len(left), len(right)))
            if not left:
                return None
            offset += len(left)


def _packed_differently(old: zipfile.ZipFile, new: zipfile.ZipFile) -> Iterator[str]:
    """Yield what differs around the bytes of members that both have."""
    both = set(old.namelist()) & set(new.namelist())
    orders = [[name for name in archive.namelist() if name in both] for archive in (old, new)]
    if orders[0] != orders[1]:
        yield "the members are in another order"
    for what in ("date_time", "external_attr", "compress_type", "create_system"):
        names = [n for n in sorted(both) if _attribute(old, n, what) != _attribute(new, n, what)]
        if names:
            one, other = (_attribute(archive, names[0], what) for archive in (old, new))
            yield f"`{what}` of {len(names)} members differs: {names[0]}: {one} and {other}"


def _attribute(archive: zipfile.ZipFile, name: str, what: str) -> object:
    return getattr(archive.getinfo(name), what)
