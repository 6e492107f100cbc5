"""What is wrong with a wheel: with its archive, its names, its RECORD, and what it must hold."""

from __future__ import annotations

import base64
import csv
import hashlib
import re
import stat
import zipfile
from fnmatch import fnmatchcase
from itertools import pairwise
from pathlib import PurePosixPath
from typing import TYPE_CHECKING

from packaging.utils import InvalidWheelFilename, canonicalize_name, parse_wheel_filename
from packaging.version import InvalidVersion, Version

from lockbuild.wheels.places import installed_name, place_of
from lockbuild.wheels.reading import BROKEN, dist_info_of, headers_of

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence
    from pathlib import Path

__all__ = ["check_wheel", "hostile", "missing_members", "record_digest"]

_MAX_BYTES = 32 * 1024**3
# Deflate reaches 1032; CUDA libraries stay below 10, and small members say nothing.
_MAX_RATIO, _RATIO_MATTERS = 200, 64 * 1024 * 1024
_METHODS = (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED)
_SIGNATURES = ("RECORD.jws", "RECORD.p7s")
_HASHES = ("sha256", "sha384", "sha512")


def check_wheel(path: Path, *, expects: Sequence[str]) -> tuple[str, ...]:
    """Return what is wrong with the wheel at *path*, one line each; nothing for a good one.

    Installers trust RECORD: pip and uv install a wheel whose members are not those it lists.

    Args:
        expects: Patterns of files that it must install, as `mmcv/_ext*.so`; `*` stays in one folder.
    """
    try:
        with zipfile.ZipFile(path) as archive:
            # Nothing is unpacked from an archive that lies about where or how much.
            faults = tuple(hostile(archive))
            if faults:
                return faults
            names = [info.filename for info in archive.infolist() if not info.is_dir()]
            try:
                folder = dist_info_of(names)
            except ValueError as error:
                return (str(error),)
            return (
                *_name_faults(path.name, folder, archive),
                *_record_faults(archive, f"{folder}/RECORD", names),
                *_expected_faults(names, expects),
            )
    except BROKEN as error:
        return (f"not a readable zip archive: {error}",)


def hostile(archive: zipfile.ZipFile) -> Iterator[str]:
    """Yield what no honest tool puts into a wheel."""
    infos = archive.infolist()
    seen: set[str] = set()
    files = {place_of(info.filename): info.filename for info in infos if not info.is_dir()}
    for info in infos:
        name = info.filename
        if name in seen:
            yield f"`{name}` is there twice"
        elif files.get(place_of(name), name) != name:
            yield f"`{name}` and `{files[place_of(name)]}` are installed to the same place"
        seen.add(name)
        if not _is_safe(name):
            yield f"{name!r} is not a path below the folder it is installed to"
        elif any(str(parent) in files for parent in PurePosixPath(place_of(name)).parents):
            yield f"`{name}` is below something that is a file"
        kind = stat.S_IFMT(info.external_attr >> 16)
        if kind not in (0, stat.S_IFREG, stat.S_IFDIR):
            yield f"`{name}` is neither file nor folder"
        if info.flag_bits & 0x1:
            yield f"`{name}` is encrypted"
        if info.compress_type not in _METHODS:
            yield f"`{name}` is compressed by method {info.compress_type}, expected stored or deflated"
        if info.file_size > _RATIO_MATTERS and info.file_size > info.compress_size * _MAX_RATIO:
            yield f"`{name}` grows from {info.compress_size} to {info.file_size} bytes"
    total = sum(info.file_size for info in infos)
    if total > _MAX_BYTES:
        yield f"its members have {total} bytes, at most {_MAX_BYTES} are accepted"
    yield from _overlaps(infos)


def _is_safe(name: str) -> bool:
    parts = name.removesuffix("/").split("/")
    return (
        not any(part in ("", ".", "..") for part in parts)
        and "\\" not in name
        and not re.match(r"[A-Za-z]:", name)
        and name.isprintable()
    )


def _overlaps(infos: Sequence[zipfile.ZipInfo]) -> Iterator[str]:
    """Yield members that share bytes: how a few kilobytes become petabytes (Fifield's zip bomb)."""
    ordered = sorted(infos, key=lambda info: info.header_offset)
    for one, other in pairwise(ordered):
        header = 30 + len(one.filename.encode())
        if one.header_offset + header + one.compress_size > other.header_offset:
            yield f"`{one.filename}` and `{other.filename}` share bytes"


def _name_faults(filename: str, folder: str, archive: zipfile.ZipFile) -> Iterator[str]:
    try:
        name, version, _, _ = parse_wheel_filename(filename)
    except InvalidWheelFilename as error:
        yield str(error)
        return
    said_name, _, said_version = folder.removesuffix(".dist-info").partition("-")
    yield from _same_name(f"folder `{folder}`", (name, version), said_name, said_version)
    for file in ("METADATA", "WHEEL"):
        if f"{folder}/{file}" not in archive.namelist():
            yield f"`{folder}/{file}` is missing"
            return
    metadata = headers_of(archive.read(f"{folder}/METADATA"))
    said_name = next(iter(metadata.get("Name", ())), "")
    said_version = next(iter(metadata.get("Version", ())), "")
    yield from _same_name("METADATA", (name, version), said_name, said_version)
    layout = next(iter(headers_of(archive.read(f"{folder}/WHEEL")).get("Wheel-Version", ())), "none")
    if not layout.startswith("1."):
        yield f"WHEEL has `Wheel-Version` {layout}, expected 1.x"


def _same_name(where: str, expected: tuple[str, Version], name: str, version: str) -> Iterator[str]:
    if canonicalize_name(name) != expected[0]:
        yield f"{where} says name `{name}`, the file name says `{expected[0]}`"
    try:
        same = Version(version.replace("_", "-")) == expected[1]
    except InvalidVersion:
        same = False
    if not same:
        yield f"{where} says version `{version}`, the file name says `{expected[1]}`"


def _record_faults(archive: zipfile.ZipFile, record: str, names: Sequence[str]) -> Iterator[str]:
    if record not in names:
        yield f"`{record}` is missing"
        return
    try:
        rows = [row for row in csv.reader(archive.read(record).decode().splitlines()) if row]
        listed = {name: (digest, size) for name, digest, size in rows}
    except (ValueError, csv.Error) as error:
        yield f"`{record}` is not a RECORD: {error}"
        return
    if len(listed) != len(rows):
        yield f"`{record}` lists a file twice"
    exempt = {record, *(f"{record.removesuffix('RECORD')}{name}" for name in _SIGNATURES)}
    yield from (f"`{name}` is not listed in RECORD" for name in sorted({*names} - {*listed} - exempt))
    yield from (f"`{name}` is listed in RECORD and missing" for name in sorted({*listed} - {*names}))
    for name in sorted({*listed} & {*names} - exempt):
        yield from _member_faults(archive, name, *listed[name])


def _member_faults(archive: zipfile.ZipFile, name: str, digest: str, size: str) -> Iterator[str]:
    algorithm, _, expected = digest.partition("=")
    if algorithm not in _HASHES:
        yield f"`{name}`: RECORD has `{digest}`, expected a sha256, sha384 or sha512"
        return
    with archive.open(name) as stream:
        found = record_digest(hashlib.file_digest(stream, algorithm).digest())  # type: ignore[arg-type]
    if found != expected.rstrip("="):
        yield f"`{name}`: RECORD says {algorithm} {expected}, its bytes give {found}"
    if size and size != str(archive.getinfo(name).file_size):
        yield f"`{name}`: RECORD says {size} bytes, it has {archive.getinfo(name).file_size}"


def missing_members(names: Iterable[str], expects: Sequence[str]) -> tuple[str, ...]:
    """Return a line for each pattern of *expects* that none of a wheel's members *names* fits."""
    return tuple(_expected_faults(names, expects))


def _expected_faults(names: Iterable[str], expects: Sequence[str]) -> Iterator[str]:
    installed = [installed_name(name) for name in names]
    for pattern in expects:
        if not any(_fits(name, pattern) for name in installed):
            compiled = sorted(name for name in installed if name.endswith(".so"))
            found = ", ".join(f"`{name}`" for name in compiled[:5]) or "no compiled module at all"
            yield f"expected `{pattern}`: found {found}"


def _fits(name: str, pattern: str) -> bool:
    names, patterns = name.split("/"), pattern.split("/")
    return len(names) == len(patterns) and all(map(fnmatchcase, names, patterns))


def record_digest(digest: bytes) -> str:
    """Return *digest* as a RECORD writes it: URL-safe base64 without padding."""
    return base64.urlsafe_b64encode(digest).decode().rstrip("=")
