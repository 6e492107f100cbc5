"""Giving equal content equal bytes: how lockbuild writes wheels.

A normalised wheel is **stored, not compressed**. Deflate has no canonical output: zlib, zlib-ng and
Cloudflare's zlib, which distributions swap for one another, give different bytes for the same input and
level, and a pin made on one machine would not hold on the next. Bytes that are stored are the same
everywhere. The price is disk: a wheel takes what its files take once installed (pip's own: 7.0 MB
instead of 2.1). Installing has nothing to inflate, and image layers are compressed when they are
exported anyway.
"""

from __future__ import annotations

import csv
import hashlib
import io
import re
import stat
import time
import zipfile
from contextlib import contextmanager
from typing import TYPE_CHECKING, BinaryIO

from lockbuild.errors import FULL_DISK, BuildError
from lockbuild.wheels.checking import hostile, record_digest
from lockbuild.wheels.reading import BROKEN, dist_info_of

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping
    from pathlib import Path

__all__ = ["normalise_wheel", "stamp_wheel"]

# The dates a zip archive can hold.
_EARLIEST, _LATEST = 315532800, 4354819198
_CHUNK = 1024 * 1024
# What installers and build front ends leave behind, with paths and times of the machine in it; and
# signatures of the RECORD that is written anew.
_NOT_CONTENT = frozenset(
    {"INSTALLER", "RECORD.jws", "RECORD.p7s", "REQUESTED", "direct_url.json", "uv_cache.json"}
)
_VERSION = re.compile(rb"(?im)^Version:[^\r\n]*")


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
            faults = tuple(hostile(archive))
            if faults:
                raise BuildError(f"`{wheel.name}` is not a wheel to be used", details=faults)
            yield archive
    except BROKEN as error:
        if isinstance(error, OSError) and error.errno in FULL_DISK:
            raise  # where it is written, and no fault of the wheel's
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
    return record_digest(digest.digest())
