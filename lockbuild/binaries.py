"""ELF files and the CUDA code inside them, read into values. Nothing is run: neither GPU nor cuobjdump is asked.

The sections `.nv_fatbin` and `__nv_relfatbin` hold fat binaries one after another, one for each object that nvcc
compiled. NVIDIA's `fatbinary_section.h` names the sections and no more; the layout is told by Niklas Eiling's
https://github.com/n-eiling/cuda-fatbin-decompression (`fatbin-decompress.h`), and agrees with what nvcc 11.8 writes:

    header  u32 magic 0xBA55ED50   u16 version   u16 header size   u64 bytes of all entries
    entry   u16 kind (1 PTX, 2 ELF, that is a cubin)   u16 version   u32 header size   u64 bytes, padded
            u64 bytes, compressed   u16 minor, u16 major (of PTX or cubin)   u32 SM version: 86
            u32 place of a name   u32 its length   u64 flags   …

Payloads may be compressed; headers never are, and they are all that is read. That two of the flags tell the variants
sm_90a and sm_100f, of cubin and PTX alike, is what nvcc 13.0 writes; whether older ones do is not known.
"""

from __future__ import annotations

import hashlib
import struct
import zlib
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, BinaryIO

from elftools.common.exceptions import ELFCompressionError, ELFError
from elftools.elf.dynamic import DynamicSection
from elftools.elf.elffile import ELFFile
from elftools.elf.gnuversions import GNUVerDefSection, GNUVerNeedSection

from lockbuild.errors import BuildError

if TYPE_CHECKING:
    import re
    from collections.abc import Iterator

    from elftools.elf.gnuversions import GNUVersionSection, Version
    from elftools.elf.sections import Section as ElfSection

__all__ = [
    "MAGIC",
    "Binary",
    "DeviceCode",
    "Section",
    "difference_of_binaries",
    "find_text",
    "read_binary",
    "run_path_of",
]

MAGIC = b"\x7fELF"
"""The first bytes of every ELF file."""

_FAT_MAGIC = 0xBA55ED50
_FAT_SECTIONS = (".nv_fatbin", "__nv_relfatbin")
_FAT_HEADER = struct.Struct("<IHHQ")
_FAT_ENTRY = struct.Struct("<HHIQQHHI")
_FAT_FLAGS = struct.Struct("<IIQ")
_KINDS = {1: "ptx", 2: "cubin"}
_VARIANTS = {0x100000: "a", 0x200000: "f"}
_SYMBOL = struct.Struct("<IBBHQQ")  # Elf64_Sym
_LEAST_VERSION = 8  # bytes of Elf64_Verdaux, the smallest part of a table of versions
_GLOBAL, _WEAK = 1, 2
_CHUNK = 1024 * 1024
# What a damaged file makes pyelftools raise; its parser, construct, checks little.
_BROKEN = (
    *(ELFError, struct.error, zlib.error, ValueError, LookupError, TypeError, AttributeError),
    *(OverflowError, MemoryError, AssertionError),
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Section:
    """A section of an ELF file."""

    name: str
    size: int
    sha256: str
    """Of its bytes in the file; those of a section without any are none."""


@dataclass(frozen=True, slots=True, kw_only=True, order=True)
class DeviceCode:
    """One piece of code for GPUs."""

    architecture: str
    """Compute capability: `8.6`; `9.0a` where it runs on no later one."""
    kind: str
    """`cubin`, `ptx`, or `kind N` for one that is not known here."""
    version: tuple[int, int] | None = field(default=None, compare=False)
    """Of PTX, that of its language: `(7, 8)`, which says whose nvcc wrote it."""

    def __str__(self) -> str:
        return self.architecture if self.kind == "cubin" else f"{self.architecture} {self.kind.upper()}"


@dataclass(frozen=True, slots=True, kw_only=True)
class Binary:
    """What an ELF file says of itself."""

    machine: str
    """`EM_X86_64`."""
    bits: int
    soname: str | None
    needs: tuple[str, ...]
    """`DT_NEEDED`, in the order of the file."""
    rpath: tuple[str, ...]
    """Folders of `DT_RPATH` and `DT_RUNPATH`; an empty one is the current folder, ld.so(8)."""
    versions_needed: tuple[tuple[str, str], ...]
    """Library and version of each versioned need, sorted: `("libc.so.6", "GLIBC_2.34")`."""
    versions_defined: tuple[str, ...]
    """Sorted."""
    undefined: frozenset[str]
    """Dynamic symbols that another file must define; weak ones are left out, as they need not be."""
    defined: frozenset[str]
    """Dynamic symbols that others may use."""
    sections: tuple[Section, ...]
    device_code: tuple[frozenset[DeviceCode], ...]
    """Of each fat binary, in the order of the file."""


def read_binary(stream: BinaryIO, name: str, *, deep: bool = True) -> Binary:
    """Return what the ELF file in *stream* says.

    Args:
        name: What people call it.
        deep: Whether sections and device code are wanted, which means reading all of it.

    Raises:
        BuildError: It is none, is damaged, or has no table of sections.
    """
    try:
        elf = _open(stream)
        sections = tuple(elf.iter_sections())
        undefined, defined = _symbols(elf)
        rpath, needs, soname = _dynamic(sections)
        return Binary(
            machine=str(elf["e_machine"]),
            bits=elf.elfclass,
            soname=soname,
            needs=needs,
            rpath=rpath,
            versions_needed=tuple(sorted(_versions_needed(sections))),
            versions_defined=tuple(sorted(_versions_defined(sections))),
            undefined=undefined,
            defined=defined,
            sections=tuple(_hashed(s, stream) for s in sections if s.name) if deep else (),
            device_code=tuple(
                code
                for section in sections
                if deep and section.name in _FAT_SECTIONS and section["sh_type"] != "SHT_NOBITS"
                for code in _fat_binaries(section.data())
            ),
        )
    except _BROKEN as error:
        raise BuildError(f"`{name}` cannot be read as an ELF file: {error}") from error


def run_path_of(stream: BinaryIO, name: str) -> tuple[int, str] | None:
    """Return where in the ELF file in *stream* its run path stands, and what it is; none where it has none.

    Raises:
        BuildError: It is none, or is damaged.
    """
    try:
        elf = _open(stream)
        for section in elf.iter_sections():
            for tag in section.iter_tags() if isinstance(section, DynamicSection) else ():
                kind = tag.entry.d_tag
                if kind in {"DT_RPATH", "DT_RUNPATH"}:
                    start = elf.get_section(section["sh_link"])["sh_offset"] + tag.entry.d_val
                    return start, str(getattr(tag, kind.removeprefix("DT_").lower()))
    except _BROKEN as error:
        raise BuildError(f"`{name}` cannot be read as an ELF file: {error}") from error
    return None


def find_text(stream: BinaryIO, name: str, pattern: re.Pattern[bytes]) -> tuple[tuple[str, str], ...]:
    """Return section and text of everything in the ELF file in *stream* that *pattern* matches; once each, sorted.

    Compressed sections are looked into; fat binaries are not, most of which are compressed in a way of their own.

    Raises:
        BuildError: It is none, or is damaged.
    """
    try:
        return tuple(
            sorted(
                {
                    (section.name, match[0].decode("utf-8", "replace"))
                    for section in _open(stream).iter_sections()
                    if section["sh_type"] != "SHT_NOBITS" and section.name not in _FAT_SECTIONS
                    for match in pattern.finditer(_unpacked(section))
                }
            )
        )
    except _BROKEN as error:
        raise BuildError(f"`{name}` cannot be read as an ELF file: {error}") from error


def difference_of_binaries(before: BinaryIO, after: BinaryIO) -> tuple[str, ...]:
    """Return how two ELF files differ, a line for each section; nothing when their bytes are equal.

    Raises:
        BuildError: One of them is none, or is damaged.
    """
    try:
        olds, news = (_numbered(_open(stream)) for stream in (before, after))
        lines = []
        for name in dict.fromkeys((*olds, *news)):
            if name not in news:
                lines.append(f"missing: {name}: {olds[name]['sh_size']} bytes")
            elif name not in olds:
                lines.append(f"added: {name}: {news[name]['sh_size']} bytes")
            else:
                lines += _section_difference(name, (olds[name], before), (news[name], after))
        return tuple(lines or _outside(before, after))
    except _BROKEN as error:
        raise BuildError(f"ELF files cannot be compared: {error}") from error


def _open(stream: BinaryIO) -> ELFFile:
    stream.seek(0)
    elf = ELFFile(stream)
    if not elf.num_sections():
        msg = "it has no table of sections"
        raise ValueError(msg)
    return elf


# ---- the dynamic linker's part ---------------------------------------------------------------------


def _dynamic(sections: tuple[ElfSection, ...]) -> tuple[tuple[str, ...], tuple[str, ...], str | None]:
    """Return search path, needs and own name."""
    rpath: list[str] = []
    needs: list[str] = []
    soname = None
    tags = (tag for s in sections if isinstance(s, DynamicSection) for tag in s.iter_tags())
    for tag in tags:
        kind = tag.entry.d_tag
        if kind == "DT_NEEDED":
            needs.append(str(getattr(tag, "needed")))  # noqa: B009 - set by pyelftools for tags of this kind
        elif kind == "DT_SONAME":
            soname = str(getattr(tag, "soname"))  # noqa: B009
        elif kind in {"DT_RPATH", "DT_RUNPATH"}:
            text = str(getattr(tag, kind.removeprefix("DT_").lower()))
            rpath += text.split(":") if text else ()
    return tuple(rpath), tuple(needs), soname


def _versions_needed(sections: tuple[ElfSection, ...]) -> set[tuple[str, str]]:
    return {
        (str(library.name), version)
        for section in sections
        if isinstance(section, GNUVerNeedSection)
        for library, versions in _versions(section)
        for version in versions
    }


def _versions_defined(sections: tuple[ElfSection, ...]) -> set[str]:
    # The first name of a definition is its own, the others are those that it follows.
    return {
        versions[0]
        for section in sections
        if isinstance(section, GNUVerDefSection)
        for _, versions in _versions(section)
    }


def _versions(section: GNUVersionSection) -> Iterator[tuple[Version, tuple[str, ...]]]:
    """Yield each entry of a table of versions, with its names.

    Raises:
        ValueError: There are more than it has room for: one that is followed by itself has no end.
    """
    left = min(section["sh_size"], section.elffile.stream_len) // _LEAST_VERSION
    for entry, parts in section.iter_versions():
        names: list[str] = []
        for part in parts:
            names.append(str(part.name))
            left -= 1
            if left < 0:
                msg = f"its section {section.name} has no room for all versions that it counts"
                raise ValueError(msg)
        yield entry, tuple(names)


def _symbols(elf: ELFFile) -> tuple[frozenset[str], frozenset[str]]:
    """Return the dynamic symbols that are wanted, and those that are given.

    Read in one go: libtorch has a hundred thousand, for which pyelftools' own objects take a minute.
    """
    table = elf.get_section_by_name(".dynsym")
    if table is None or elf.elfclass != 64 or not elf.little_endian:  # noqa: PLR2004 - bits
        return frozenset(), frozenset()
    names: bytes = elf.get_section(table["sh_link"]).data()
    undefined: set[str] = set()
    defined: set[str] = set()
    for name, kind, _, section, _, _ in _SYMBOL.iter_unpack(table.data()):
        binding = kind >> 4
        if name and (section or binding == _GLOBAL):
            text = names[name : names.index(b"\0", name)].decode("utf-8", "replace")
            (defined if section else undefined).add(text)
    return frozenset(undefined), frozenset(defined)


# ---- CUDA ------------------------------------------------------------------------------------------


def _fat_binaries(data: bytes) -> Iterator[frozenset[DeviceCode]]:
    """Yield the code of each fat binary in a section.

    Raises:
        ValueError: There is something else in it.
    """
    place = 0
    while place < len(data):
        if not any(data[place : place + 8]):
            place += 8  # the linker's padding
            continue
        magic, _, header, size = _FAT_HEADER.unpack_from(data, place)
        if magic != _FAT_MAGIC or header < _FAT_HEADER.size or place + header + size > len(data):
            msg = f"at byte {place} of its device code stands no fat binary"
            raise ValueError(msg)
        end = place + header + size
        yield frozenset(_entries(data, place + header, end))
        place = end + -end % 8


def _entries(data: bytes, place: int, end: int) -> Iterator[DeviceCode]:
    while place < end:
        number, _, header, size, _, minor_of, major_of, version = _FAT_ENTRY.unpack_from(data, place)
        if header < _FAT_ENTRY.size or place + header + size > end:
            msg = f"the fat binary's entry at byte {place} goes beyond its end"
            raise ValueError(msg)
        major, minor = divmod(version, 10)
        kind = _KINDS.get(number, f"kind {number}")
        language = (major_of, minor_of) if kind == "ptx" else None
        flags = 0
        if header >= _FAT_ENTRY.size + _FAT_FLAGS.size:
            _, _, flags = _FAT_FLAGS.unpack_from(data, place + _FAT_ENTRY.size)
        variant = "".join(letter for bit, letter in _VARIANTS.items() if flags & bit)
        yield DeviceCode(architecture=f"{major}.{minor}{variant}", kind=kind, version=language)
        place += header + size


# ---- sections --------------------------------------------------------------------------------------


def _hashed(section: ElfSection, stream: BinaryIO) -> Section:
    digest = hashlib.sha256()
    for chunk in _chunks(section, stream):
        digest.update(chunk)
    return Section(name=section.name, size=section["sh_size"], sha256=digest.hexdigest())


def _unpacked(section: ElfSection) -> bytes:
    """Return the content of a section, inflated.

    Raises:
        ValueError: It is compressed in a way that cannot be looked into.
    """
    if section.compressed and not section.data_size:
        return b""  # to zlib no size is any size
    try:
        return bytes(section.data())
    except ELFCompressionError as error:
        msg = f"its section {section.name} is not as `-gz=zlib` compresses it: {error}"
        raise ValueError(msg) from error


def _chunks(section: ElfSection, stream: BinaryIO) -> Iterator[bytes]:
    """Yield the bytes of a section as the file has them, compressed or not."""
    place, left = section["sh_offset"], section["sh_size"]
    while left and section["sh_type"] != "SHT_NOBITS":
        stream.seek(place)
        chunk = stream.read(min(left, _CHUNK))
        if not chunk:
            msg = f"the file ends within section {section.name}"
            raise ValueError(msg)
        yield chunk
        place, left = place + len(chunk), left - len(chunk)


def _numbered(elf: ELFFile) -> dict[str, ElfSection]:
    """Return name -> section, with a number behind names that stand for several."""
    found: dict[str, ElfSection] = {}
    for section in elf.iter_sections():
        name, count = section.name or "(no name)", 1
        while (name if count == 1 else f"{name} #{count}") in found:
            count += 1
        found[name if count == 1 else f"{name} #{count}"] = section
    return found


def _section_difference(
    name: str, before: tuple[ElfSection, BinaryIO], after: tuple[ElfSection, BinaryIO]
) -> Iterator[str]:
    sizes = f"{before[0]['sh_size']} and {after[0]['sh_size']} bytes"
    offset = _first_difference(_chunks(*before), _chunks(*after))
    if offset is not None:
        yield f"changed: {name}: {sizes}, first difference at byte {offset}"
    elif before[0]["sh_size"] != after[0]["sh_size"]:
        yield f"changed: {name}: {sizes}"


def _outside(before: BinaryIO, after: BinaryIO) -> Iterator[str]:
    offset = _first_difference(_whole(before), _whole(after))
    if offset is not None:
        yield f"the sections are equal, what stands around them differs first at byte {offset} of the file"


def _whole(stream: BinaryIO) -> Iterator[bytes]:
    stream.seek(0)
    while chunk := stream.read(_CHUNK):
        yield chunk


def _first_difference(one: Iterator[bytes], other: Iterator[bytes]) -> int | None:
    """Return where two rows of chunks begin to differ. Chunks of equal number have equal sizes but for the last."""
    offset = 0
    while True:
        left, right = next(one, b""), next(other, b"")
        if left != right:
            pairs = enumerate(zip(left, right, strict=False))
            differing = (place for place, (a, b) in pairs if a != b)
            return offset + next(differing, min(len(left), len(right)))
        if not left:
            return None
        offset += len(left)
