"""Small ELF files that ask the dynamic loader for something, and do nothing."""

from __future__ import annotations

import struct

__all__ = ["make_elf"]

_BASE = 0x400000


def make_elf(
    *,
    needed: tuple[str, ...] = (),
    run_path: str | None = None,
    versions: tuple[str, ...] = (),
    tag: int = 29,
) -> bytes:
    """Return a 64-bit little-endian ELF file whose dynamic section says so.

    Args:
        versions: Of symbols, all of the library `libc.so.6`.
        tag: Of the run path: DT_RUNPATH, or 15 for DT_RPATH.
    """
    strings = b"\0"
    places: dict[str, int] = {}
    for text in (*needed, *versions, *([run_path] if run_path is not None else [])):
        places.setdefault(text, len(strings))
        strings += text.encode() + b"\0"
    verneed = b""
    if versions:
        verneed = struct.pack("<HHIII", 1, len(versions), 0, 16, 0)
        for number, version in enumerate(versions, 1):
            following = 16 if number < len(versions) else 0
            verneed += struct.pack("<IHHII", 0, 0, 0, places[version], following)
    start = 64 + 2 * 56
    at_verneed = start + len(strings)
    at_dynamic = at_verneed + len(verneed)
    entries = [(1, places[name]) for name in needed]
    entries += [(tag, places[run_path])] if run_path is not None else []
    entries += [(0x6FFFFFFE, _BASE + at_verneed), (0x6FFFFFFF, 1)] if versions else []
    entries += [(5, _BASE + start), (0, 0)]
    dynamic = b"".join(struct.pack("<QQ", *entry) for entry in entries)
    size = at_dynamic + len(dynamic)
    header = b"\x7fELF\x02\x01\x01".ljust(16, b"\0") + struct.pack(
        "<HHIQQQIHHHHHH", 3, 62, 1, 0, 64, 0, 0, 64, 56, 2, 0, 0, 0
    )
    segments = struct.pack("<IIQQQQQQ", 1, 5, 0, _BASE, _BASE, size, size, 4096)
    place = _BASE + at_dynamic
    segments += struct.pack("<IIQQQQQQ", 2, 6, at_dynamic, place, place, len(dynamic), len(dynamic), 8)
    return header + segments + strings + verneed + dynamic
