"""Wheels as files: looking into one, checking one, and giving equal content equal bytes.

A normalised wheel is **stored, not compressed**. Deflate has no canonical output: zlib, zlib-ng and
Cloudflare's zlib, which distributions swap for one another, give different bytes for the same input and
level, and a pin made on one machine would not hold on the next. Bytes that are stored are the same
everywhere. The price is disk: a wheel takes what its files take once installed (pip's own: 7.0 MB
instead of 2.1). Installing has nothing to inflate, and image layers are compressed when they are
exported anyway.
"""

from __future__ import annotations

import base64
import csv
import functools
import hashlib
import io
import re
import stat
import struct
import time
import zipfile
import zlib
from contextlib import contextmanager
from dataclasses import dataclass
from email.parser import BytesParser
from fnmatch import fnmatchcase
from itertools import pairwise
from pathlib import Path, PurePosixPath
from typing import TYPE_CHECKING, BinaryIO

from packaging.utils import (
    InvalidWheelFilename,
    canonicalize_name,
    parse_wheel_filename,
)
from packaging.version import InvalidVersion, Version

from lockbuild.errors import BuildError

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping, Sequence

    from packaging.tags import Tag

    from lockbuild.target import Target

__all__ = [
    "WheelFacts",
    "check_wheel",
    "dist_info_of",
    "headers_of",
    "inspect_wheel",
    "installed_name",
    "missing_members",
    "normalise_wheel",
    "place_of",
    "requires_of",
    "stamp_wheel",
    "wheel_matches",
]

# The dates a zip archive can hold.
_EARLIEST, _LATEST = 315532800, 4354819198
_CHUNK = 1024 * 1024
_MAX_BYTES = 32 * 1024**3
# Deflate reaches 1032; CUDA libraries stay below 10, and small members say nothing.
_MAX_RATIO, _RATIO_MATTERS = 200, 64 * 1024 * 1024
_METHODS = (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED)
# What installers and build front ends leave behind, with paths and times of the machine in it; and
# signatures of the RECORD that is written anew.
_NOT_CONTENT = frozenset(
    {"INSTALLER", "RECORD.jws", "RECORD.p7s", "REQUESTED", "direct_url.json", "uv_cache.json"}
)
_SIGNATURES = ("RECORD.jws", "RECORD.p7s")
_HASHES = ("sha256", "sha384", "sha512")
_DIST_INFO = re.compile(r"[^/]+\.dist-info")
_VERSION = re.compile(rb"(?im)^Version:[^\r\n]*")
# Installers take every folder of that ending for the wheel's, whatever is in front of it.
_DATA = re.compile(r"[^/]+\.data/(purelib|platlib|scripts|headers|data)/(.+)", re.DOTALL)
_SITE = re.compile(r"lib(?:64)?/python3\.\d+/(?:site|dist)-packages/(.+)", re.DOTALL)
_FOLDERS = {"scripts": "bin/", "headers": "include/site/"}
_PREFIX = "../../../"
# What a damaged archive makes zipfile, zlib and csv raise; zipfile checks little.
_BROKEN = (
    *(zipfile.BadZipFile, zlib.error, csv.Error, struct.error, EOFError, NotImplementedError),
    *(RuntimeError, OSError, ValueError, LookupError),
)


@dataclass(frozen=True, slots=True, kw_only=True)
class WheelFacts:
    """What a wheel says of itself."""

    name: str
    """Normalised."""
    version: str
    tags: tuple[str, ...]
    """Of its WHEEL file, sorted: not those of the file name."""
    requires: tuple[str, ...]
    """`Requires-Dist`, in the order of the file."""
    members: tuple[str, ...]
    """Names of its files, sorted."""
    requires_python: str | None = None


def wheel_matches(filename: str, target: Target) -> bool:
    """Tell whether the wheel called *filename* fits *target*; what is no wheel's name does not."""
    try:
        tags = parse_wheel_filename(filename)[3]
    except InvalidWheelFilename:
        return False
    return not tags.isdisjoint(_target_tags(target))


@functools.lru_cache(maxsize=16)
def _target_tags(target: Target) -> frozenset[Tag]:
    return frozenset(target.tags())


# ---- looking ---------------------------------------------------------------------------------------


def requires_of(metadata: bytes) -> tuple[str, ...]:
    """Return `Requires-Dist` of a METADATA file, in its order."""
    return tuple(headers_of(metadata).get("Requires-Dist", ()))


def inspect_wheel(path: Path) -> WheelFacts:
    """Return what the wheel at *path* says of itself; that it is true is for `check_wheel`.

    Raises:
        BuildError: It cannot be read, or lacks METADATA or WHEEL.
    """
    try:
        with zipfile.ZipFile(path) as archive:
            folder = dist_info_of(archive.namelist())
            metadata = headers_of(archive.read(f"{folder}/METADATA"))
            wheel = headers_of(archive.read(f"{folder}/WHEEL"))
            members = sorted(info.filename for info in archive.infolist() if not info.is_dir())
    except _BROKEN as error:
        raise BuildError(f"`{path.name}` cannot be read as a wheel: {error}") from error
    if not metadata.get("Name") or not metadata.get("Version"):
        raise BuildError(f"`{path.name}` cannot be read as a wheel: METADATA lacks name or version")
    return WheelFacts(
        name=canonicalize_name(metadata["Name"][0]),
        version=metadata["Version"][0],
        tags=tuple(sorted(wheel.get("Tag", ()))),
        requires=tuple(metadata.get("Requires-Dist", ())),
        members=tuple(members),
        requires_python=next(iter(metadata.get("Requires-Python", ())), None),
    )


def headers_of(data: bytes) -> dict[str, list[str]]:
    """Return the fields of a METADATA or WHEEL file, each with its values in their order."""
    # The default policy, compat32, does not touch what is not ASCII, nor unfold what is long.
    message = BytesParser().parsebytes(data, headersonly=True)
    found: dict[str, list[str]] = {}
    for name, value in message.items():
        found.setdefault(name, []).append(str(value).strip())
    return found


def dist_info_of(names: Sequence[str]) -> str:
    """Return the name of the .dist-info folder among the members *names* of a wheel.

    Raises:
        ValueError: There is none, or more than one.
    """
    folders = {name.split("/")[0] for name in names if _DIST_INFO.fullmatch(name.split("/")[0])}
    if len(folders) != 1:
        msg = f"found {len(folders)} .dist-info folders, expected 1"
        raise ValueError(msg)
    return folders.pop()


def place_of(member: str) -> str:
    """Return where a member of a wheel is installed, as pip writes it into RECORD: seen from site-packages.

    `a-1.data/platlib/a/b.so` is `a/b.so`, `a-1.data/scripts/run` is `../../../bin/run`.
    """
    found = _DATA.fullmatch(member)
    if found is None:
        return member
    scheme, path = found.groups()
    if scheme in {"purelib", "platlib"}:
        return path
    inside = _FOLDERS.get(scheme, "") + path
    site = _SITE.fullmatch(inside)
    return site[1] if site else f"{_PREFIX}{inside}"


def installed_name(member: str) -> str:
    """Return where in site-packages a member of a wheel is installed; its own name where it is elsewhere."""
    place = place_of(member)
    return member if place.startswith(_PREFIX) else place


# ---- normalising -----------------------------------------------------------------------------------


def normalise_wheel(source: Path, destination: Path, *, epoch: int) -> None:
    """Write the content of the wheel *source* to *destination* in the one way that lockbuild writes it.

    Members are sorted, the .dist-info folder last and RECORD at the very end (as PEP 427 recommends),
    stored, with one date, modes 0644 or 0755 and a RECORD of their true hashes. Entries for folders,
    `__pycache__` and what installers leave behind are dropped. Equal content gives equal bytes.

    Args:
        epoch: SOURCE_DATE_EPOCH, the date of every member; moved into what a zip can hold (1980 to 2107).

    Raises:
        BuildError: It is no wheel, or one that would write outside its folder; nothing is written.
    """
    with _archive(source) as archive:
        folder = dist_info_of(archive.namelist())
        _rewrite(archive, destination, epoch, {folder: folder}, {})


def stamp_wheel(
    source: Path, folder: Path, *, version: str, files: Mapping[str, bytes], epoch: int
) -> Path:
    """Write the wheel *source* into *folder* under another *version*, with further *files*, and return it.

    Nothing that is compiled or installed changes: file name, .dist-info and .data folder, METADATA and RECORD do.

    Args:
        files: Path below the .dist-info folder -> content; it takes the place of what is there.
        epoch: As for `normalise_wheel`.

    Raises:
        BuildError: As `normalise_wheel`.
    """
    with _archive(source) as archive:
        old = dist_info_of(archive.namelist())
        stem, _, before = old.removesuffix(".dist-info").partition("-")
        names = {f"{stem}-{before}{end}": f"{stem}-{version}{end}" for end in (".dist-info", ".data")}
        metadata = _VERSION.sub(f"Version: {version}".encode(), archive.read(f"{old}/METADATA"), count=1)
        written = {f"{names[old]}/{name}": data for name, data in files.items()}
        parts = source.name.split("-")
        destination = folder / "-".join((parts[0], version, *parts[2:]))
        _rewrite(archive, destination, epoch, names, {f"{names[old]}/METADATA": metadata, **written})
    return destination


@contextmanager
def _archive(wheel: Path) -> Iterator[zipfile.ZipFile]:
    """Give a wheel that is about to be written anew."""
    try:
        with zipfile.ZipFile(wheel) as archive:
            faults = tuple(_hostile(archive))
            if faults:
                raise BuildError(f"`{wheel.name}` is not a wheel to be used", details=faults)
            yield archive
    except _BROKEN as error:
        raise BuildError(f"`{wheel.name}` cannot be normalised: {error}") from error


def _rewrite(
    archive: zipfile.ZipFile,
    destination: Path,
    epoch: int,
    names: Mapping[str, str],
    written: Mapping[str, bytes],
) -> None:
    """Write the content of *archive* to *destination*, whole or not at all.

    Args:
        names: Top-level folder -> what it is called from now on.
        written: Name -> content of what is written in place of what is there, or beside it.
    """
    partial = destination.with_name(f".{destination.name}.partial")
    try:
        _write(archive, partial, epoch, names, written)
        partial.replace(destination)
    finally:
        partial.unlink(missing_ok=True)


def _write(
    archive: zipfile.ZipFile,
    destination: Path,
    epoch: int,
    names: Mapping[str, str],
    written: Mapping[str, bytes],
) -> None:
    old_folder = dist_info_of(archive.namelist())
    folder = names[old_folder]
    record = f"{folder}/RECORD"
    members: dict[str, zipfile.ZipInfo | bytes] = {
        _renamed(info.filename, names): info
        for info in archive.infolist()
        if _is_content(info, old_folder)
    }
    members.update(written)
    date = time.gmtime(min(max(epoch, _EARLIEST), _LATEST))[:6]
    rows: list[tuple[str, str, str]] = []
    with zipfile.ZipFile(destination, "w", zipfile.ZIP_STORED) as new:
        for name in sorted(members, key=lambda name: (name.startswith(f"{folder}/"), name)):
            content = members[name]
            mode = 0 if isinstance(content, bytes) else content.external_attr >> 16
            info = _member(name, date, executable=bool(mode & 0o111))
            info.file_size = len(content) if isinstance(content, bytes) else content.file_size
            with _opened(archive, content) as stream, new.open(info, "w") as out:
                digest = _copy(stream, out)  # type: ignore[arg-type]
            rows.append((name, f"sha256={digest}", str(info.file_size)))
        text = io.StringIO()
        csv.writer(text, lineterminator="\n").writerows([*rows, (record, "", "")])
        new.writestr(_member(record, date, executable=False), text.getvalue().encode())


def _renamed(name: str, names: Mapping[str, str]) -> str:
    top, slash, rest = name.partition("/")
    return f"{names.get(top, top)}{slash}{rest}"


def _opened(archive: zipfile.ZipFile, content: zipfile.ZipInfo | bytes) -> BinaryIO:
    return io.BytesIO(content) if isinstance(content, bytes) else archive.open(content)  # type: ignore[return-value]


def _is_content(info: zipfile.ZipInfo, folder: str) -> bool:
    parts = info.filename.split("/")
    if info.is_dir() or "__pycache__" in parts or info.filename == f"{folder}/RECORD":
        return False
    return parts[0] != folder or len(parts) != 2 or parts[1] not in _NOT_CONTENT  # noqa: PLR2004


def _member(name: str, date: tuple[int, ...], *, executable: bool) -> zipfile.ZipInfo:
    info = zipfile.ZipInfo(name, date)  # type: ignore[arg-type]
    info.create_system = 3  # Unix, wherever this runs
    info.external_attr = (stat.S_IFREG | (0o755 if executable else 0o644)) << 16
    info.compress_type = zipfile.ZIP_STORED
    return info


def _copy(stream: BinaryIO, out: BinaryIO) -> str:
    digest = hashlib.sha256()
    while chunk := stream.read(_CHUNK):
        digest.update(chunk)
        out.write(chunk)
    return _base64(digest.digest())


def _base64(digest: bytes) -> str:
    return base64.urlsafe_b64encode(digest).decode().rstrip("=")


# ---- checking --------------------------------------------------------------------------------------


def check_wheel(path: Path, *, expects: Sequence[str]) -> tuple[str, ...]:
    """Return what is wrong with the wheel at *path*, one line each; nothing for a good one.

    Installers trust RECORD: pip and uv install a wheel whose members are not those it lists.

    Args:
        expects: Patterns of files that it must install, as `mmcv/_ext*.so`; `*` stays in one folder.
    """
    try:
        with zipfile.ZipFile(path) as archive:
            # Nothing is unpacked from an archive that lies about where or how much.
            hostile = tuple(_hostile(archive))
            if hostile:
                return hostile
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
    except _BROKEN as error:
        return (f"not a readable zip archive: {error}",)


def _hostile(archive: zipfile.ZipFile) -> Iterator[str]:
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
        found = _base64(hashlib.file_digest(stream, algorithm).digest())  # type: ignore[arg-type]
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
