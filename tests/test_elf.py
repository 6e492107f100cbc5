from __future__ import annotations

import pytest

from lockbuild.elf import Dynamic, read_dynamic
from tests.elves import make_elf


def dynamic(data: bytes) -> Dynamic:
    found = read_dynamic(data)
    assert found is not None
    return found


@pytest.mark.parametrize("tag", [15, 29])
def test_libraries_and_where_they_are_looked_for_are_read(tag: int) -> None:
    data = make_elf(
        needed=("libpython3.12.so.1.0", "libc.so.6"), run_path="/opt/own/lib:$ORIGIN", tag=tag
    )
    found = dynamic(data)
    assert found.needed == ("libpython3.12.so.1.0", "libc.so.6")
    assert found.run_path == "/opt/own/lib:$ORIGIN"
    assert data[found.run_path_at :].startswith(b"/opt/own/lib:$ORIGIN\0")


def test_versions_of_symbols_are_read_and_the_latest_of_glibc_counts() -> None:
    versions = ("GLIBC_2.9", "GLIBC_2.34", "GLIBC_2.2.5", "GLIBC_PRIVATE", "OPENSSL_3.0.0")
    found = dynamic(make_elf(needed=("libc.so.6",), versions=versions))
    assert found.versions == tuple(sorted(versions))
    assert found.glibc() == (2, 34)


def test_what_asks_for_nothing_needs_no_c_library() -> None:
    found = dynamic(make_elf())
    assert (found.needed, found.run_path, found.versions, found.glibc()) == ((), "", (), ())


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"#!/bin/sh\n",
        b"\x7fELF\x01\x01 of 32 bits",
        make_elf(needed=("libc.so.6",))[:200],
        make_elf(needed=("libc.so.6",)).replace((0x400000 + 176).to_bytes(8, "little"), b"\xff" * 8),
        make_elf()[:32]
        + (0).to_bytes(8, "little")
        + make_elf()[40:54]
        + b"\x38\0\0\0"
        + make_elf()[58:],
    ],
    ids=["empty", "script", "32 bits", "cut off", "table nowhere", "no segments"],
)
def test_other_and_damaged_files_ask_for_nothing(data: bytes) -> None:
    assert read_dynamic(data) is None
