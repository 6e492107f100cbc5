"""Reading tars as they come: one pass, from blocks of bytes, nothing unpacked and nothing written.

Python's `tarfile` takes several times as long for a header as it takes to hash a small file, and a layer has tens
of thousands of them. What is read here is what engines write: ustar, pax and GNU's long names, and where the
formats leave something open it means what https://pkg.go.dev/archive/tar, which engines use, takes it to mean.
https://pubs.opengroup.org/onlinepubs/9799919799/utilities/pax.html
"""

from __future__ import annotations

import re
from contextlib import suppress
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Literal

from lockbuild.errors import ImageError

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

__all__ = ["Header", "Kind", "Source", "is_tar", "members", "path_of"]

Kind = Literal["file", "link", "symlink", "folder", "special"]

_BLOCK = 512
_ZEROS = bytes(_BLOCK)
_KINDS: dict[int, Kind] = {
    **dict.fromkeys(b"\x0007", "file"),
    ord("1"): "link",
    ord("2"): "symlink",
    ord("5"): "folder",
    **dict.fromkeys(b"346", "special"),
}
_PAX, _PAX_GLOBAL, _LONG_NAME, _LONG_LINK = b"xgLK"
_MAX_EXTENDED = 1 << 20
"""Bytes of a pax header or a long name: Linux's paths have 4096 at most, its attributes 65536."""
_RECORD = re.compile(rb"(\d{1,7}) ")
_CAPABILITY = "SCHILY.xattr.security.capability"


class Source:
    """Bytes that come in blocks, read once from beginning to end."""

    def __init__(self, blocks: Iterable[bytes | memoryview], what: str) -> None:
        """Read *blocks*, which are those of *what*: the word for it in messages."""
        self._blocks = iter(blocks)
        self._here = memoryview(b"")
        self.what = what

    def peek(self, count: int) -> bytes:
        """Return the next *count* bytes, fewer at the end, and leave them to be read."""
        while len(self._here) < count and (block := next(self._blocks, None)) is not None:
            self._here = memoryview(bytes(self._here) + block) if self._here else memoryview(block)
        return bytes(self._here[:count])

    def take(self, count: int) -> bytes:
        """Return the next *count* bytes.

        Raises:
            ImageError: There are fewer.
        """
        here = self._here
        if len(here) >= count:
            self._here = here[count:]
            return bytes(here[:count])
        return b"".join(self.blocks(count))

    def blocks(self, count: int) -> Iterator[memoryview]:
        """Yield the next *count* bytes, in blocks as they come.

        Raises:
            ImageError: There are fewer.
        """
        while count:
            if not self._here:
                block = next(self._blocks, None)
                if block is None:
                    raise ImageError(f"{self.what} is cut short: {count:,} bytes more were to come")
                self._here = memoryview(block)
            part = self._here[:count]
            self._here = self._here[len(part) :]
            count -= len(part)
            yield part

    def drain(self) -> Iterator[memoryview]:
        """Yield all that is left."""
        yield self._here
        self._here = memoryview(b"")
        for block in self._blocks:
            yield memoryview(block)

    @property
    def ended(self) -> bool:
        """Whether nothing is left."""
        return not self.peek(1)


@dataclass(slots=True)
class Header:
    """What a tar says of a member, before its content."""

    name: str
    kind: Kind
    mode: int
    uid: int
    gid: int
    size: int
    """Of the content that follows."""
    target: str = ""
    """Of a link or symlink."""
    capability: bool = False
    """Whether the file has capabilities, which let it do what only root may."""


@dataclass(slots=True)
class _Extended:
    """What the headers before a member's own say of it."""

    pax: dict[str, bytes] = field(default_factory=dict)
    """Of the last pax header: what one before it said is forgotten."""
    long: dict[str, bytes] = field(default_factory=dict)
    """GNU's long names, which are stronger."""

    def settle(self, header: Header, what: str) -> Header:
        """Complete *header*, and forget what was said of it."""
        if not self.pax and not self.long:
            return header
        # An empty value says nothing.
        said = {key: value for key, value in {**self.pax, **self.long}.items() if value}
        self.pax, self.long = {}, {}
        if any(key.startswith("GNU.sparse.") for key in said):
            raise ImageError(f"{what}: `{header.name}` is a sparse file, which no layer may hold")
        if "path" in said:
            header.name = _text(said["path"])
        if "linkpath" in said:
            header.target = _text(said["linkpath"])
        for key in ("size", "uid", "gid"):
            if key in said:
                setattr(header, key, _decimal(said[key], what))
        header.capability = _CAPABILITY in said
        return header


def members(source: Source) -> Iterator[tuple[Header, Iterator[memoryview]]]:
    """Yield each member of a tar with its content, which may be left unread.

    Raises:
        ImageError: It is no tar, is damaged or cut short, or holds what no layer may.
    """
    extended = _Extended()
    while not source.ended:
        block = source.take(_BLOCK)
        if block == _ZEROS:
            return
        flag, header = _header(block, source.what)
        if flag in (_PAX, _PAX_GLOBAL, _LONG_NAME, _LONG_LINK):
            _extend(extended, flag, header.size, source)
            continue
        header = extended.settle(header, source.what)
        if not flag and header.name.endswith("/"):
            header.kind = "folder"  # as before ustar
        if header.kind != "file":
            # A link may say how big its file is, and has no content all the same.
            header.size = 0
        content = source.blocks(header.size)
        yield header, content
        for _ in content:
            pass
        source.take(-header.size % _BLOCK)


def is_tar(block: bytes) -> bool:
    """Whether a tar can begin with *block*."""
    return block == _ZEROS or (len(block) == _BLOCK and _is_header(block))


def path_of(name: str, what: str) -> str:
    """Return the path of a member below the top: `opt/venv/bin/python`; empty for the top itself.

    Raises:
        ImageError: The name leads somewhere else.
    """
    path = name.removeprefix("./").rstrip("/")
    if not path or path == ".":
        return ""
    if "//" in path or "/./" in f"{path}/":
        path = "/".join(part for part in path.split("/") if part not in ("", "."))
    if name.startswith("/") or ".." in path.split("/") or "\0" in name:
        raise ImageError(f"{what}: {name!r} leads out of it")
    return path


def _header(block: bytes, what: str) -> tuple[int, Header]:
    if not _is_header(block):
        raise ImageError(f"{what} is damaged: found no header of a tar where one must be")
    flag = block[156]
    if flag not in _KINDS and flag not in (_PAX, _PAX_GLOBAL, _LONG_NAME, _LONG_LINK):
        raise ImageError(f"{what}: a member of type {chr(flag)!r}, which no layer may hold")
    name = _string(block[:100])
    # GNU's own format has other things where ustar has the beginning of a long name.
    if block[257:265] == b"ustar\x0000" and block[345]:
        name = f"{_string(block[345:500])}/{name}"
    try:
        mode, uid, gid, size = (_number(block[start:end]) for start, end in _NUMBERS)
    except ValueError as error:
        raise ImageError(f"{what}: the header of {name!r} has a field that is no number") from error
    return flag, Header(
        name, _KINDS.get(flag, "file"), mode & 0o7777, uid, gid, size, _string(block[157:257])
    )


_NUMBERS = ((100, 108), (108, 116), (116, 124), (124, 136))


def _is_header(block: bytes) -> bool:
    """Whether the checksum is that of the header's bytes, with blanks where the checksum itself is."""
    with suppress(ValueError):
        return sum(block) - sum(block[148:156]) + 8 * 0x20 == _octal(block[148:156])
    return False


def _octal(digits: bytes) -> int:
    text = digits.strip(b" \0").partition(b"\0")[0]
    return int(text, 8) if text else 0


def _number(digits: bytes) -> int:
    """Return a number as tar writes it: in octal digits, or in base 256 where they do not suffice."""
    if digits[0] & 0x80:
        return int.from_bytes(bytes([digits[0] & 0x7F]) + digits[1:])
    found = _octal(digits)
    if found < 0:
        raise ValueError(digits)
    return found


def _string(data: bytes) -> str:
    return _text(data.partition(b"\0")[0])


def _text(data: bytes) -> str:
    return data.decode("utf-8", "surrogateescape")


def _decimal(data: bytes, what: str) -> int:
    if not re.fullmatch(rb"\d{1,19}", data):
        raise ImageError(f"{what}: a pax header with {data[:40]!r}, expected a number")
    return int(data)


def _extend(extended: _Extended, flag: int, size: int, source: Source) -> None:
    if size > _MAX_EXTENDED:
        raise ImageError(
            f"{source.what}: a header of {size:,} bytes, at most {_MAX_EXTENDED:,} are read"
        )
    data = source.take(size)
    source.take(-size % _BLOCK)
    match flag:
        case 0x4C:  # L
            extended.long["path"] = data.partition(b"\0")[0]
        case 0x4B:  # K
            extended.long["linkpath"] = data.partition(b"\0")[0]
        case 0x67:  # g
            pass  # What is said of all members engines pass over.
        case _:
            extended.pax = _records(data, source.what)


def _records(data: bytes, what: str) -> dict[str, bytes]:
    """Return the records of a pax header: each says its own length, a blank, and `KEY=VALUE` on a line."""
    found, place = {}, 0
    while place < len(data):
        length = _RECORD.match(data, place)
        end = place + int(length[1]) if length else 0
        key, equals, value = data[length.end() : end - 1].partition(b"=") if length else (b"", b"", b"")
        if not equals or end > len(data) or data[end - 1 : end] != b"\n":
            raise ImageError(f"{what} is damaged: a pax header that cannot be read")
        found[_text(key)] = value
        place = end
    return found
