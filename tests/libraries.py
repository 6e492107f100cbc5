"""Small ELF files, compiled by the machine's gcc, and fat binaries as nvcc lays them out."""

from __future__ import annotations

import shutil
import struct
import subprocess
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterable
    from pathlib import Path

__all__ = ["compiled", "fat_binary"]

_KINDS = {"ptx": 1, "cubin": 2}


def fat_binary(
    *codes: tuple[int, str],
    compressed: bool = False,
    language: tuple[int, int] = (7, 8),
    variant: str = "",
) -> bytes:
    """Return a fat binary with an entry for each SM version and kind: `(86, "cubin")`.

    Args:
        language: Version of the PTX.
        variant: Of all its code: `a` or `f`.
    """
    entries = b""
    for version, kind in codes:
        payload = f"code for {version}".encode().ljust(24, b"\1")
        major, minor = language if kind == "ptx" else (1, 7)
        numbers = (_KINDS[kind], 0x101, 64, len(payload), 20, minor, major, version)
        header = struct.pack("<HHIQQHHI", *numbers)
        marks = {"": 0, "a": 0x100000, "f": 0x200000}[variant]
        flags = struct.pack("<IIQ", 0, 0, (0x2011 if compressed else 0x11) | marks)
        entries += (header + flags).ljust(64, b"\0") + payload
    return struct.pack("<IHHQ", 0xBA55ED50, 1, 16, len(entries)) + entries


def compiled(
    folder: Path,
    source: str = "",
    *,
    soname: str | None = None,
    needs: Iterable[str] = (),
    rpath: str | None = None,
    versions: str | None = None,
    fat: bytes | None = None,
    options: Iterable[str] = (),
) -> bytes:
    """Return a shared library of the C text *source*.

    Args:
        needs: Names of libraries that it is to need, whether they are anywhere or not.
        versions: A version script for the linker.
        fat: What its section `.nv_fatbin` holds.
    """
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    if fat is not None:
        (folder / "fat").write_bytes(fat)
        source += f'\n__asm__(".section .nv_fatbin,\\"a\\"\\n.incbin \\"{folder}/fat\\"\\n.previous");\n'
    (folder / "it.c").write_text(source)
    command = ["gcc", "-shared", "-fPIC", "-nostdlib", "-Wl,--no-as-needed", "-o", "it.so", "it.c"]
    for number, need in enumerate(needs):
        (folder / f"need{number}.c").write_text("")
        stub = ["gcc", "-shared", "-nostdlib", f"-Wl,-soname,{need}", "-o", f"need{number}.so"]
        subprocess.run([*stub, f"need{number}.c"], cwd=folder, check=True)
        command.append(f"need{number}.so")
    if soname:
        command.append(f"-Wl,-soname,{soname}")
    if rpath:
        command.append(f"-Wl,-rpath,{rpath}")
    if versions:
        (folder / "it.map").write_text(versions)
        command.append("-Wl,--version-script=it.map")
    subprocess.run([*command, *options], cwd=folder, check=True)
    return (folder / "it.so").read_bytes()
