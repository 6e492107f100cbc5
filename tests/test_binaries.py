"""ELF files of the machine's own compiler, fat binaries as nvcc lays them out, and what is neither."""

from __future__ import annotations

import io
import re
import struct
from typing import TYPE_CHECKING

import pytest
from elftools.elf.elffile import ELFFile
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from lockbuild.binaries import (
    DeviceCode,
    Section,
    difference_of_binaries,
    find_text,
    read_binary,
)
from lockbuild.digest import sha256_of
from lockbuild.errors import BuildError
from tests.elves import make_elf
from tests.libraries import compiled, fat_binary
from tests.needs import need

if TYPE_CHECKING:
    from pathlib import Path

    from lockbuild.binaries import Binary

PATHS = re.compile(rb"/build/[a-z]+")


@pytest.fixture(autouse=True)
def _gcc() -> None:
    need("gcc")


def read(data: bytes, *, deep: bool = True) -> Binary:
    return read_binary(io.BytesIO(data), "it.so", deep=deep)


# ---- the dynamic linker's part ---------------------------------------------------------------------


def test_name_needs_and_run_path_are_read(tmp_path: Path) -> None:
    data = compiled(
        tmp_path, soname="libit.so.1", needs=["libc10.so", "libcudart.so.11.0"], rpath="$ORIGIN:/opt/x"
    )
    binary = read(data)
    assert (binary.machine, binary.bits, binary.soname) == ("EM_X86_64", 64, "libit.so.1")
    assert binary.needs == ("libc10.so", "libcudart.so.11.0")
    assert binary.rpath == ("$ORIGIN", "/opt/x")


def test_the_older_rpath_is_one_too(tmp_path: Path) -> None:
    data = compiled(tmp_path, rpath="/opt/x", options=["-Wl,--disable-new-dtags"])
    assert read(data).rpath == ("/opt/x",)


def test_symbols_are_those_that_others_see(tmp_path: Path) -> None:
    binary = read(
        compiled(
            tmp_path,
            """
            extern int wanted(void); extern int perhaps(void) __attribute__((weak));
            static int own(void) { return 1; }
            __attribute__((visibility("hidden"))) int hidden(void) { return own(); }
            int given(void) { return wanted() + (perhaps ? perhaps() : 0) + hidden(); }
            """,
        )
    )
    assert binary.undefined == {"wanted"}
    assert binary.defined == {"given"}


def test_versions_are_read_on_both_sides(tmp_path: Path) -> None:
    script = "LIB_1.0 { global: old; }; LIB_2.0 { global: new; } LIB_1.0;"
    source = "int old(void) { return 1; } int new(void) { return 2; }"
    library = compiled(tmp_path / "lib", source, soname="liblib.so.1", versions=script)
    (tmp_path / "liblib.so").write_bytes(library)
    user = compiled(
        tmp_path / "user",
        "extern int new(void); int use(void) { return new(); }",
        options=[str(tmp_path / "liblib.so")],
    )
    assert set(read(library).versions_defined) == {"LIB_1.0", "LIB_2.0", "liblib.so.1"}
    assert read(user).versions_needed == (("liblib.so.1", "LIB_2.0"),)


def test_other_machines_are_told_apart(tmp_path: Path) -> None:
    data = bytearray(compiled(tmp_path))
    data[18:20] = struct.pack("<H", 183)
    assert read(bytes(data)).machine == "EM_AARCH64"


def test_sections_have_size_and_hash(tmp_path: Path) -> None:
    source = '__asm__(".section .mine,\\"a\\"\\n.ascii \\"hello\\"\\n.previous");'
    found = {section.name: section for section in read(compiled(tmp_path, source)).sections}
    assert found[".mine"] == Section(name=".mine", size=5, sha256=sha256_of(b"hello"))


def test_what_is_not_wanted_is_not_read(tmp_path: Path) -> None:
    binary = read(compiled(tmp_path, fat=b"no fat binary"), deep=False)
    assert (binary.sections, binary.device_code) == ((), ())


# ---- device code -----------------------------------------------------------------------------------


@pytest.mark.parametrize("compressed", [False, True])
def test_every_object_has_its_own_device_code(tmp_path: Path, compressed: bool) -> None:
    first = fat_binary((75, "cubin"), (86, "cubin"), (86, "ptx"), compressed=compressed)
    second = fat_binary((120, "cubin"))
    found = read(compiled(tmp_path, fat=first + bytes(16) + second)).device_code
    assert [set(code) for code in found] == [
        {
            DeviceCode(architecture="7.5", kind="cubin"),
            DeviceCode(architecture="8.6", kind="cubin"),
            DeviceCode(architecture="8.6", kind="ptx"),
        },
        {DeviceCode(architecture="12.0", kind="cubin")},
    ]


def test_code_of_unknown_kind_is_named_by_its_number(tmp_path: Path) -> None:
    data = bytearray(fat_binary((86, "cubin")))
    data[16:18] = struct.pack("<H", 16)
    ((code,),) = read(compiled(tmp_path, fat=bytes(data))).device_code
    assert code.kind == "kind 16"


@pytest.mark.parametrize("variant", ["", "a", "f"])
def test_code_for_a_variant_says_so(tmp_path: Path, variant: str) -> None:
    data = fat_binary((100, "cubin"), (100, "ptx"), variant=variant)
    (found,) = read(compiled(tmp_path, fat=data)).device_code
    assert {code.architecture for code in found} == {f"10.0{variant}"}


def test_ptx_has_the_version_of_its_language(tmp_path: Path) -> None:
    data = fat_binary((86, "cubin"), (86, "ptx"), language=(8, 0))
    (codes,) = read(compiled(tmp_path, fat=data)).device_code
    assert {code.kind: code.version for code in codes} == {"cubin": None, "ptx": (8, 0)}


@pytest.mark.parametrize(
    ("fat", "said"),
    [
        (b"nothing of the kind " * 2, "at byte 0 of its device code stands no fat binary"),
        (fat_binary((86, "cubin"))[:-8], "stands no fat binary"),
        (
            fat_binary((86, "cubin"))[:24] + struct.pack("<Q", 999) + bytes(72),
            "goes beyond its end",
        ),
    ],
)
def test_damaged_device_code_is_no_code(tmp_path: Path, fat: bytes, said: str) -> None:
    with pytest.raises(BuildError, match=said):
        read(compiled(tmp_path, fat=fat))


# ---- what is no ELF file ---------------------------------------------------------------------------


@pytest.mark.parametrize("data", [b"", b"#!/bin/sh\n", b"\x7fELF", b"\x7fELF" + bytes(200)])
def test_what_is_no_elf_file_is_refused(data: bytes) -> None:
    with pytest.raises(BuildError, match=r"`it\.so` cannot be read as an ELF file"):
        read(data)


def test_a_table_of_versions_without_an_end_is_refused() -> None:
    data = bytearray(make_elf(needed=("libc.so.6",), versions=("GLIBC_2.2",)))
    # Its one entry is followed by itself, as often as the section's header counts.
    header = struct.unpack_from("<Q", data, 40)[0] + 2 * 64
    data[header + 44 : header + 48] = b"\xff" * 4
    with pytest.raises(BuildError, match=r"`it\.so` .*\.gnu\.version_r has no room for all versions"):
        read(bytes(data))


@pytest.fixture(scope="module")
def sample(tmp_path_factory: pytest.TempPathFactory) -> bytes:
    need("gcc")
    return compiled(
        tmp_path_factory.mktemp("sample") / "it",
        "extern int wanted(void); int given(void) { return wanted(); }",
        needs=["libc10.so"],
        fat=fat_binary((86, "cubin")),
    )


@pytest.mark.property
@settings(max_examples=60, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(place=st.integers(0, 20000), value=st.binary(min_size=1, max_size=8), cut=st.integers(0, 20000))
def test_a_damaged_file_is_read_or_refused(sample: bytes, place: int, value: bytes, cut: int) -> None:
    place %= len(sample)
    damaged = (sample[:place] + value + sample[place + len(value) :])[: len(sample) - cut % 64]
    try:
        read(damaged)
        find_text(io.BytesIO(damaged), "it.so", PATHS)
        difference_of_binaries(io.BytesIO(sample), io.BytesIO(damaged))
    except BuildError as error:
        assert "cannot be" in error.message  # noqa: PT017 - either is right


# ---- text ------------------------------------------------------------------------------------------


def test_text_is_found_with_its_section(tmp_path: Path) -> None:
    source = 'const char *a = "in /build/source", *b = "in /build/out/x and /build/source";'
    found = find_text(io.BytesIO(compiled(tmp_path, source)), "it.so", PATHS)
    rodata = {text for section, text in found if section.startswith(".rodata")}
    assert rodata == {"/build/source", "/build/out"}


def test_text_is_found_in_compressed_sections(tmp_path: Path) -> None:
    options = ["-g", "-gz=zlib", "-fdebug-prefix-map=/=/build/inside/"]
    found = find_text(io.BytesIO(compiled(tmp_path, "int x;", options=options)), "it.so", PATHS)
    assert any(section.startswith(".debug") and text == "/build/inside" for section, text in found)


@pytest.mark.parametrize(
    ("place", "value", "said"),
    [
        (0, 2, r"section \.debug_\w+ is not as `-gz=zlib` compresses it: Unknown compression type: 0x2"),
        (24, 0xFFFFFFFF, "incorrect header check"),
    ],
    ids=["zstd", "damaged"],
)
def test_what_cannot_be_inflated_is_refused(tmp_path: Path, place: int, value: int, said: str) -> None:
    many = "".join(f"int number_{number};" for number in range(100))  # else nothing is worth it
    data = bytearray(compiled(tmp_path, many, options=["-g", "-gz=zlib"]))
    sections = ELFFile(io.BytesIO(bytes(data))).iter_sections()
    start = next(section["sh_offset"] for section in sections if section.compressed) + place
    data[start : start + 4] = struct.pack("<I", value)
    with pytest.raises(BuildError, match=said):
        find_text(io.BytesIO(bytes(data)), "it.so", PATHS)


def test_text_in_device_code_is_left_out(tmp_path: Path) -> None:
    data = fat_binary((86, "cubin")).replace(b"code for 86", b"/build/asdf")
    assert b"/build/asdf" in data
    assert find_text(io.BytesIO(compiled(tmp_path, fat=data)), "it.so", PATHS) == ()


# ---- differences -----------------------------------------------------------------------------------


def difference(before: bytes, after: bytes) -> tuple[str, ...]:
    return difference_of_binaries(io.BytesIO(before), io.BytesIO(after))


def section(name: str, text: str) -> str:
    return f'__asm__(".section {name},\\"a\\"\\n.ascii \\"{text}\\"\\n.previous");\n'


def test_equal_files_do_not_differ(tmp_path: Path) -> None:
    data = compiled(tmp_path)
    assert difference(data, data) == ()


def test_difference_names_sections_and_the_first_byte(tmp_path: Path) -> None:
    before = compiled(tmp_path, section(".same", "same") + section(".mine", "hello"))
    after = compiled(tmp_path, section(".same", "same") + section(".mine", "helpers"))
    lines = difference(before, after)
    assert "changed: .mine: 5 and 7 bytes, first difference at byte 3" in lines
    assert not any(".same" in line for line in lines)


def test_difference_names_sections_that_only_one_has(tmp_path: Path) -> None:
    lines = difference(
        compiled(tmp_path, section(".old", "abc")), compiled(tmp_path, section(".new", "abcd"))
    )
    assert "missing: .old: 3 bytes" in lines
    assert "added: .new: 4 bytes" in lines


def test_difference_around_the_sections_is_said(tmp_path: Path) -> None:
    data = bytearray(compiled(tmp_path))
    data[9] = 1  # padding of the identification
    (line,) = difference(compiled(tmp_path), bytes(data))
    assert line.endswith("differs first at byte 9 of the file")
