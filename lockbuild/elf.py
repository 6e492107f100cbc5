"""What a program or shared library asks of the dynamic loader: libraries, where to look, versions. Pure.

Reads 64-bit little-endian ELF files, as the System V ABI and the Linux Standard Base describe them.
"""

from __future__ import annotations

import struct
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator

__all__ = ["Dynamic", "read_dynamic"]

_MAGIC = b"\x7fELF\x02\x01"
_LOAD, _DYNAMIC = 1, 2
_NEEDED, _STRTAB, _RPATH, _RUNPATH = 1, 5, 15, 29
_VERNEED, _VERNEEDNUM = 0x6FFFFFFE, 0x6FFFFFFF


@dataclass(frozen=True, slots=True, kw_only=True)
class Dynamic:
    """The dynamic section of a file, as far as it matters where the file can run."""

    needed: tuple[str, ...]
    """File names of the libraries that it needs."""
    run_path: str
    """Where the loader looks for them first, colons between; empty where it does not say."""
    run_path_at: int
    """Offset of that text in the file."""
    versions: tuple[str, ...]
    """Versions of symbols that it needs: `GLIBC_2.34`. Sorted."""

    def glibc(self) -> tuple[int, ...]:
        """Return the oldest C library that has all it needs; empty where it needs none of glibc's."""
        texts = (version.removeprefix("GLIBC_") for version in self.versions if version[:6] == "GLIBC_")
        found = (text.split(".") for text in texts)
        return max((tuple(map(int, one)) for one in found if all(map(str.isdigit, one))), default=())


def read_dynamic(data: bytes) -> Dynamic | None:
    """Return what *data* asks of the loader; none for what is no such file, or asks nothing."""
    if not data.startswith(_MAGIC):
        return None
    try:
        return _read(data)
    except (struct.error, IndexError, ValueError):
        # Not as its header says: whoever runs it will be told.
        return None


def _read(data: bytes) -> Dynamic | None:
    segments = tuple(_segments(data))
    place = next((offset for kind, offset, _, _ in segments if kind == _DYNAMIC), None)
    if place is None:
        return None
    entries = tuple(_entries(data, place))
    tags = dict(entries)

    def offset(address: int) -> int:
        for kind, start, virtual, size in segments:
            if kind == _LOAD and virtual <= address < virtual + size:
                return address - virtual + start
        raise ValueError(address)

    strings = offset(tags[_STRTAB]) if _STRTAB in tags else 0
    run_path = tags.get(_RUNPATH, tags.get(_RPATH))
    versions: set[str] = set()
    if _VERNEED in tags:
        count = tags.get(_VERNEEDNUM, 0)
        versions.update(
            _text(data, strings + at) for at in _versions(data, offset(tags[_VERNEED]), count)
        )
    return Dynamic(
        needed=tuple(_text(data, strings + value) for tag, value in entries if tag == _NEEDED),
        run_path="" if run_path is None else _text(data, strings + run_path),
        run_path_at=0 if run_path is None else strings + run_path,
        versions=tuple(sorted(versions)),
    )


def _segments(data: bytes) -> Iterator[tuple[int, int, int, int]]:
    """Yield kind, offset, address and size in the file of each segment."""
    (table,) = struct.unpack_from("<Q", data, 32)
    size, count = struct.unpack_from("<HH", data, 54)
    for number in range(count):
        kind, _, offset, address, _, length = struct.unpack_from("<IIQQQQ", data, table + number * size)
        yield kind, offset, address, length


def _entries(data: bytes, place: int) -> Iterator[tuple[int, int]]:
    """Yield tag and value of each entry of the dynamic section, which a zero tag ends."""
    while True:
        tag, value = struct.unpack_from("<QQ", data, place)
        if tag == 0:
            return
        yield tag, value
        place += 16


def _versions(data: bytes, place: int, count: int) -> Iterator[int]:
    """Yield where the string table has the name of each version that is needed."""
    for _ in range(count):
        _, needed, _, first, following = struct.unpack_from("<HHIII", data, place)
        at = place + first
        for _ in range(needed):
            _, _, _, name, step = struct.unpack_from("<IHHII", data, at)
            yield name
            at += step
        place += following


def _text(data: bytes, place: int) -> str:
    return data[place : data.index(b"\0", place)].decode()
