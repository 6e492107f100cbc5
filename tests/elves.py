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
    device_code: bytes = b"",
) -> bytes:
    """Return a 64-bit little-endian ELF file whose dynamic section says so.

    Args:
        versions: Of symbols, of a library without a name.
        device_code: What its section `.nv_fatbin` holds; without any it has no such section.
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
    entries += [(29, places[run_path])] if run_path is not None else []
    entries += [(0x6FFFFFFE, _BASE + at_verneed), (0x6FFFFFFF, 1)] if versions else []
    entries += [(5, _BASE + start), (10, len(strings)), (0, 0)]
    dynamic = b"".join(struct.pack("<QQ", *entry) for entry in entries)
    names = b"\0.dynstr\0.gnu.version_r\0.dynamic\0.nv_fatbin\0.shstrtab\0"
    at_code = at_dynamic + len(dynamic)
    at_names = at_code + len(device_code)
    # Kind, where, size, section of its texts, how many.
    table = [
        (b".dynstr", 3, start, len(strings), 0, 0, 0),
        (b".gnu.version_r", 0x6FFFFFFE, at_verneed, len(verneed), 1, bool(versions), 0),
        (b".dynamic", 6, at_dynamic, len(dynamic), 1, 0, 16),
        *([(b".nv_fatbin", 1, at_code, len(device_code), 0, 0, 0)] if device_code else []),
        (b".shstrtab", 3, at_names, len(names), 0, 0, 0),
    ]
    sections = bytes(64)
    for name, kind, at, length, link, count, each in table:
        where = names.index(b"\0" + name + b"\0") + 1
        address = 0 if kind == 3 and at == at_names else _BASE + at
        sections += struct.pack("<IIQQQQIIQQ", where, kind, 2, address, at, length, link, count, 1, each)
    size = at_names + len(names)
    header = b"\x7fELF\x02\x01\x01".ljust(16, b"\0") + struct.pack(
        "<HHIQQQIHHHHHH", 3, 62, 1, 0, 64, size, 0, 64, 56, 2, 64, len(table) + 1, len(table)
    )
    segments = struct.pack("<IIQQQQQQ", 1, 5, 0, _BASE, _BASE, size, size, 4096)
    place = _BASE + at_dynamic
    segments += struct.pack("<IIQQQQQQ", 2, 6, at_dynamic, place, place, len(dynamic), len(dynamic), 8)
    return header + segments + strings + verneed + dynamic + device_code + names + sections
