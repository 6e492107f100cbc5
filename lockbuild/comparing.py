"""Comparing two wheels or two tars: member by member, and inside ELF files section by section."""

from __future__ import annotations

import io
import struct
import tarfile
import zipfile
import zlib
from dataclasses import dataclass
from typing import IO, TYPE_CHECKING

from lockbuild.binaries import MAGIC, difference_of_binaries
from lockbuild.errors import BuildError
from lockbuild.hashing import sha256_of_file

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping
    from pathlib import Path

__all__ = ["difference_of_tars", "difference_of_wheels"]

_CHUNK = 1024 * 1024
# What a damaged archive makes zipfile, tarfile and zlib raise; they check little.
_BROKEN = (
    *(zipfile.BadZipFile, tarfile.TarError, zlib.error, struct.error, EOFError, NotImplementedError),
    *(RuntimeError, OSError, ValueError, LookupError),
)
_OF_ZIPS = ("date_time", "external_attr", "compress_type", "create_system")
_OF_TARS = ("uid", "gid", "mtime", "linkname", "pax_headers")


@dataclass(frozen=True, slots=True, kw_only=True)
class _Members:
    """The members of an archive, as what is compared wants them."""

    sizes: Mapping[str, int]
    """Name -> bytes, in the archive's order."""
    open: Callable[[str], IO[bytes]]
    attributes: Callable[[str], Mapping[str, object]]


def difference_of_wheels(before: Path, after: Path) -> tuple[str, ...]:
    """Return how two wheels differ, one line each; nothing when their bytes are equal.

    Sections of an ELF member that differ follow it, set in by two spaces.

    Raises:
        BuildError: One of them cannot be read.
    """
    try:
        with zipfile.ZipFile(before) as old, zipfile.ZipFile(after) as new:
            lines = tuple(_difference(_of_zip(old), _of_zip(new)))
    except _BROKEN as error:
        raise BuildError(f"`{before.name}` cannot be compared: {error}") from error
    return lines or _around(before, after)


def difference_of_tars(before: Path, after: Path) -> tuple[str, ...]:
    """Return the same of two tars that are not compressed.

    Raises:
        BuildError: One of them cannot be read.
    """
    try:
        with tarfile.open(before, "r:") as old, tarfile.open(after, "r:") as new:
            lines = tuple(_difference(_of_tar(old), _of_tar(new)))
    except _BROKEN as error:
        raise BuildError(f"`{before.name}` cannot be compared: {error}") from error
    return lines or _around(before, after)


def _around(before: Path, after: Path) -> tuple[str, ...]:
    if sha256_of_file(before) == sha256_of_file(after):
        return ()
    return ("the members are equal, the archives around them are not",)


def _of_zip(archive: zipfile.ZipFile) -> _Members:
    return _Members(
        sizes={info.filename: info.file_size for info in archive.infolist()},
        open=archive.open,
        attributes=lambda name: {what: getattr(archive.getinfo(name), what) for what in _OF_ZIPS},
    )


def _of_tar(archive: tarfile.TarFile) -> _Members:
    # As for zip archives, the last of a name counts: it is what unpacking leaves.
    members = {member.name: member for member in archive}

    def opened(name: str) -> IO[bytes]:
        content = archive.extractfile(members[name]) if members[name].isreg() else None
        return content or io.BytesIO()

    return _Members(
        sizes={name: member.size for name, member in members.items()},
        open=opened,
        attributes=lambda name: _tar_attributes(members[name]),
    )


def _tar_attributes(member: tarfile.TarInfo) -> dict[str, object]:
    kinds = ((member.isdir, "folder"), (member.issym, "link"), (member.islnk, "hard link"))
    kind = next((kind for test, kind in kinds if test()), "file" if member.isreg() else "device")
    others = {what: getattr(member, what) for what in _OF_TARS}
    return {"kind": kind, "mode": f"{member.mode:04o}", **others}


def _difference(old: _Members, new: _Members) -> Iterator[str]:
    yield from _members_that_differ(old, new)
    yield from _packed_differently(old, new)


def _members_that_differ(old: _Members, new: _Members) -> Iterator[str]:
    for name in sorted({*old.sizes, *new.sizes}):
        if name not in new.sizes:
            yield f"missing: {name}"
        elif name not in old.sizes:
            yield f"added: {name}"
        else:
            offset = _first_difference(old, new, name)
            if offset is not None:
                sizes = f"{old.sizes[name]} and {new.sizes[name]} bytes"
                yield f"changed: {name}: {sizes}, first difference at byte {offset}"
                yield from (f"  {line}" for line in _sections_that_differ(old, new, name))


def _sections_that_differ(old: _Members, new: _Members, name: str) -> tuple[str, ...]:
    contents = []
    for archive in (old, new):
        with archive.open(name) as stream:
            if stream.read(len(MAGIC)) != MAGIC:
                return ()
            contents.append(io.BytesIO(MAGIC + stream.read()))
    try:
        return difference_of_binaries(*contents)
    except BuildError as error:
        return (error.message,)


def _first_difference(old: _Members, new: _Members, name: str) -> int | None:
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


def _packed_differently(old: _Members, new: _Members) -> Iterator[str]:
    """Yield what differs around the bytes of members that both have."""
    both = old.sizes.keys() & new.sizes.keys()
    orders = [[name for name in archive.sizes if name in both] for archive in (old, new)]
    if orders[0] != orders[1]:
        yield "the members are in another order"
    rows = [(name, old.attributes(name), new.attributes(name)) for name in sorted(both)]
    for what in rows[0][1] if rows else ():
        differing = [row for row in rows if row[1][what] != row[2][what]]
        if differing:
            name, one, other = differing[0]
            yield f"`{what}` of {len(differing)} members differs: {name}: {one[what]} and {other[what]}"
