"""What a file is by its first bytes: whether what came is what was asked for. Pure.

Servers answer with a page where they should with an error: a login, a proxy, a quota that is used up. With
a hash that is noticed anyway; the first time a file is seen, only this notices it.
"""

from __future__ import annotations

import re
import struct
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

__all__ = ["HEAD", "KINDS", "fault_of_kind", "kind_of", "page_in"]

HEAD = 1024
"""How many of the first bytes are looked at."""

_TAR_HEADER = 512
_TAR_CHECKSUM = slice(148, 156)
_LONGEST_SAFETENSORS_HEADER = 100_000_000
_POINTER = b"version https://git-lfs.github.com/spec/"


def page_in(head: bytes) -> str | None:
    """Return words for a page that came instead of a file: of a login, a proxy, a download counter."""
    text = head.decode(errors="replace").lstrip("\ufeff")
    if not re.match(r"\s*(<!doctype html|<html|<head)", text, re.IGNORECASE):
        return None
    title = re.search(r"<title>([^<]{1,60})", text, re.IGNORECASE)
    named = "".join(c for c in title[1] if c.isprintable()).strip() if title else ""
    return f"an HTML page came instead of the file{f': `{named}`' if named else ''}"


def _begins(*beginnings: bytes) -> Callable[[bytes], bool]:
    return lambda head: head.startswith(beginnings)


def _is_tar(head: bytes) -> bool:
    """Tell whether the first header's checksum is right, which also tars of before POSIX have."""
    header = head[:_TAR_HEADER]
    if len(header) < _TAR_HEADER:
        return False
    said = re.match(rb" *([0-7]+)[ \0]", header[_TAR_CHECKSUM])
    spaces = b" " * 8
    return said is not None and int(said[1], 8) == sum(header[:148] + spaces + header[156:])


def _is_safetensors(head: bytes) -> bool:
    prefix = 8
    if len(head) <= prefix:
        return False
    (length,) = struct.unpack("<Q", head[:prefix])
    return length <= _LONGEST_SAFETENSORS_HEADER and head[prefix : prefix + 1] == b"{"


def _is_text(head: bytes) -> bool:
    # The last character may be cut off in the middle.
    return b"\0" not in head and any(_decodes(head[: len(head) - cut]) for cut in range(4))


def _decodes(data: bytes) -> bool:
    try:
        data.decode()
    except UnicodeDecodeError:
        return False
    return True


_is_zip = _begins(b"PK\x03\x04", b"PK\x05\x06")
# Protocols 2 to 5; the earlier ones begin with nothing that could be told from text.
_is_pickle = _begins(b"\x80\x02", b"\x80\x03", b"\x80\x04", b"\x80\x05")

KINDS: Mapping[str, Callable[[bytes], bool]] = {
    "gzip": _begins(b"\x1f\x8b"),
    "hdf5": _begins(b"\x89HDF\r\n\x1a\n"),
    "npy": _begins(b"\x93NUMPY"),
    "npz": _is_zip,
    "pickle": _is_pickle,
    "safetensors": _is_safetensors,
    "tar": _is_tar,
    "text": _is_text,
    # A zip since 1.6, pickles one behind another before.
    "torch": lambda head: _is_zip(head) or _is_pickle(head),
    "zip": _is_zip,
}
"""Type that a stack may name -> whether a file that begins so is one."""

# Told of a file that is another than it should be; the first that fits.
_TOLD = ("zip", "gzip", "hdf5", "npy", "pickle", "tar", "safetensors", "text")


def kind_of(head: bytes) -> str | None:
    """Return what a file that begins with *head* seems to be."""
    return next((kind for kind in _TOLD if KINDS[kind](head)), None) if head else None


def fault_of_kind(head: bytes, kind: str | None) -> str | None:
    """Return why a file that begins with *head* is not what was wanted; none when nothing speaks against it.

    Args:
        kind: One of `KINDS`; none where anything will do that is no page and no pointer.
    """
    if page := page_in(head):
        return page
    if head.startswith(_POINTER):
        return "a pointer of Git LFS came instead of the file: the address must be one that gives the content"
    if kind is None or KINDS[kind](head):
        return None
    found = kind_of(head)
    return f"expected a file of type `{kind}`, found {f'`{found}`' if found else f'one that begins with {head[:8]!r}'}"
