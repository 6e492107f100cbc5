"""What the files of an image say is installed: Python, Debian and conda packages. Pure; nothing runs."""

from __future__ import annotations

import json
import posixpath
import re
from dataclasses import dataclass
from email.parser import HeaderParser
from typing import TYPE_CHECKING

from packaging.utils import canonicalize_name

from lockbuild.audit.installing import record_rows

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from lockbuild.image.layers import Placed
    from lockbuild.image.manifests import LayeredImage

__all__ = ["STATUS", "Present", "conda_of", "conda_record", "debs_in", "debs_of", "kept", "pythons_of"]

STATUS = "var/lib/dpkg/status"
_METADATA = re.compile(r"(?:.*/)?[^/]+\.(?:dist-info/METADATA|egg-info/PKG-INFO)")
_KEPT = re.compile(
    r"(?:.*/)?[^/]+\.(?:dist-info/(?:METADATA|RECORD)|egg-info/PKG-INFO)"
    r"|var/lib/dpkg/(?:status|status\.d/[^/]+|info/[^/]+\.list)|(?:.*/)?conda-meta/[^/]+\.json"
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Present:
    """A package that an image has."""

    name: str
    version: str
    path: str
    """The file that says so."""
    layer: int
    """The layer that brought that file, from 0."""
    files: frozenset[str] = frozenset()
    """What it says that it brought."""


def kept(path: str) -> bool:
    """Whether the content of the file at *path* tells what is installed."""
    return _KEPT.fullmatch(path) is not None


def _texts(image: LayeredImage, files: Mapping[str, Placed]) -> Iterator[tuple[str, Placed, str]]:
    """Yield path, place and text of every file of the final file system that was kept."""
    for path, placed in files.items():
        if placed.file.kind == "file" and _KEPT.fullmatch(path):
            data = image.layers[placed.layer].content.texts.get(placed.file.path, b"")
            yield path, placed, data.decode("utf-8", "replace")


def pythons_of(image: LayeredImage, files: Mapping[str, Placed]) -> tuple[Present, ...]:
    """Return every Python package, wherever it is, sorted by path."""
    texts = {path: (placed, text) for path, placed, text in _texts(image, files)}
    found = []
    for path, (placed, text) in texts.items():
        if _METADATA.fullmatch(path):
            headers = HeaderParser().parsestr(text)
            record = texts.get(f"{posixpath.dirname(path)}/RECORD")
            below = posixpath.dirname(posixpath.dirname(path))
            found.append(
                Present(
                    name=canonicalize_name(headers["Name"] or "?"),
                    version=headers["Version"] or "?",
                    path=path,
                    layer=placed.layer,
                    files=frozenset(files.keys() & _recorded(record[1], below))
                    if record
                    else frozenset(),
                )
            )
    return tuple(found)


def _recorded(record: str, below: str) -> Iterator[str]:
    for row in record_rows(record):
        if row:
            yield posixpath.normpath(posixpath.join(f"/{below}", row[0])).removeprefix("/")


def debs_of(image: LayeredImage, files: Mapping[str, Placed]) -> tuple[Present, ...]:
    """Return every installed Debian package, sorted by name."""
    lists: dict[str, tuple[str, Placed, str]] = {}
    found: list[tuple[str, str, str, Placed]] = []
    for path, placed, text in _texts(image, files):
        if path == STATUS or path.startswith(f"{STATUS}.d/"):
            found += [(name, version, path, placed) for name, version in debs_in(text).items()]
        elif path.endswith(".list"):
            name = posixpath.basename(path).removesuffix(".list").partition(":")[0]
            lists[name] = (path, placed, text)
    present = []
    for name, version, path, placed in sorted(found):
        said, where, text = lists.get(name, (path, placed, ""))
        listed = {line.removeprefix("/") for line in text.splitlines()}
        # Packages from before /usr was merged say where their files were then.
        present.append(
            Present(
                name=name,
                version=version,
                path=said,
                layer=where.layer,
                files=frozenset({*listed, *(f"usr/{one}" for one in listed)}),
            )
        )
    return tuple(present)


def debs_in(status: str) -> dict[str, str]:
    """Return name -> version of every package that dpkg's status calls installed."""
    found = {}
    for paragraph in re.split(r"\n\n+", status):
        headers = HeaderParser().parsestr(paragraph)
        installed = "Status" not in headers or headers["Status"].endswith(" installed")
        if installed and headers["Package"]:
            found[headers["Package"]] = headers["Version"] or "?"
    return found


def conda_of(image: LayeredImage, files: Mapping[str, Placed], folder: str) -> tuple[Present, ...]:
    """Return every conda package below *folder*, sorted by path."""
    found = []
    for path, placed, text in _texts(image, files):
        if posixpath.dirname(path) == f"{folder.removeprefix('/')}/conda-meta":
            name, version, listed = conda_record(text, posixpath.basename(path))
            below = folder.removeprefix("/")
            found.append(
                Present(
                    name=name,
                    version=version,
                    path=path,
                    layer=placed.layer,
                    files=frozenset({path, *(f"{below}/{one}" for one in listed)}),
                )
            )
    return tuple(found)


def conda_record(text: str, file: str) -> tuple[str, str, list[str]]:
    """Return name, version and files of a conda package as its record *file* says them."""
    try:
        record = json.loads(text)
        name, version = str(record["name"]), f"{record['version']} {record['build']}"
        return name, version, [str(one) for one in record.get("files") or ()]
    except (AttributeError, KeyError, RecursionError, TypeError, ValueError):
        return file, "?", []
