"""What a wheel says of itself: name, version, tags, requirements and members."""

from __future__ import annotations

import csv
import functools
import re
import struct
import zipfile
import zlib
from dataclasses import dataclass
from email.parser import BytesParser
from typing import TYPE_CHECKING

from packaging.utils import InvalidWheelFilename, canonicalize_name, parse_wheel_filename

from lockbuild.errors import BuildError

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from packaging.tags import Tag

    from lockbuild.target import Target

__all__ = [
    "BROKEN",
    "WheelFacts",
    "dist_info_of",
    "headers_of",
    "inspect_wheel",
    "requires_of",
    "wheel_matches",
]

_DIST_INFO = re.compile(r"[^/]+\.dist-info")
# What a damaged archive makes zipfile, zlib and csv raise; zipfile checks little.
BROKEN = (
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
    except BROKEN as error:
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
