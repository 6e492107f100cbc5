"""Conda packages among the parts of a stack, and what they tell."""

from __future__ import annotations

import json
import tarfile
import zipfile
from typing import IO, TYPE_CHECKING, Any

from lockbuild.builders.prefix import zstd_module
from lockbuild.components import Component, LicenceFile, ref_of
from lockbuild.digest import sha256_of
from lockbuild.errors import StoreError, ToolMissing
from lockbuild.inventory.facts import Facts, known, noted, parse_facts
from lockbuild.licences.metadata import of_name_and_files
from lockbuild.purls import package_url

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator
    from pathlib import Path

    from lockbuild.lock import Lock
    from lockbuild.plan import Plan
    from lockbuild.stack import Stack
    from lockbuild.store import Store

__all__ = ["conda_packages", "read_package", "texts_of_package"]

_MOST_BYTES = 64 * 1024 * 1024
_LICENCES = "info/licenses/"


def conda_packages(stack: Stack, lock: Lock, plan: Plan, store: Store) -> Iterator[Component]:
    """Yield the conda packages of the image."""
    fetched = {(fetch.filename, fetch.sha256): fetch.path for fetch in plan.fetches()}
    channels = dict(stack.conda.named_channels()) if stack.conda else {}
    refs = {package.name: ref_of("conda", package.name, package.version) for package in lock.conda}
    for package in lock.conda:
        path = fetched.get((package.filename, package.sha256))
        more = {"build": package.build, "channel": package.channel, "subdir": package.subdir}
        component = Component(
            ref=refs[package.name],
            kind="conda",
            name=package.name,
            version=package.version,
            purl=package_url("conda", package.name, package.version, **more),
            sha256=package.sha256,
            size=package.size,
            path=path,
            origin=channels.get(package.channel, package.channel),
            needs=tuple(sorted(refs[name] for name in package.needs if name in refs)),
            requested=package.requested,
        )
        yield known(component, _facts(component, package.filename, store))


def _facts(component: Component, filename: str, store: Store) -> Facts | None:
    path = component.path
    if path is None or store.info(path) is None:
        return None
    file = store.locate(path)
    try:
        (facts,) = noted(
            store, path, "conda", read=lambda: (read_package(file, filename),), parse=parse_facts
        )
    except (StoreError, ToolMissing):
        return None
    return facts


def texts_of_package(file: Path, filename: str) -> Iterable[bytes]:
    """Return the texts that go along with the conda package in *file*.

    Raises:
        StoreError: It cannot be read.
        ToolMissing: What unpacks it is not installed.
    """
    return [data for name, data in _info_of(file, filename).items() if name.startswith(_LICENCES)]


def read_package(file: Path, filename: str) -> Facts:
    """Return what the conda package in *file*, which is called *filename*, tells.

    Raises:
        StoreError: It cannot be read.
        ToolMissing: What unpacks it is not installed.
    """
    info = _info_of(file, filename)
    try:
        index = json.loads(info["info/index.json"])
        about = json.loads(info.get("info/about.json", b"{}"))
        paths = json.loads(info.get("info/paths.json", b"{}"))
        texts = {name: data for name, data in info.items() if name.startswith(_LICENCES)}
        return Facts(
            installed_size=_installed_size(paths),
            told=of_name_and_files(
                str(index.get("license") or about.get("license") or ""),
                {name: data.decode(errors="replace") for name, data in texts.items()},
            ),
            files=tuple(
                LicenceFile(name=name, sha256=sha256_of(data)) for name, data in sorted(texts.items())
            ),
        )
    except (AttributeError, KeyError, ValueError) as error:
        raise _unreadable(filename, error) from error


def _unreadable(filename: str, error: Exception) -> StoreError:
    return StoreError(f"`{filename}` cannot be read as a conda package: {error}")


def _installed_size(paths: Any) -> int | None:  # noqa: ANN401 - whatever a package says
    sizes = [entry.get("size_in_bytes") for entry in paths.get("paths", ())]
    known_ones = [size for size in sizes if isinstance(size, int)]
    return sum(known_ones) if known_ones else None


def _info_of(file: Path, filename: str) -> dict[str, bytes]:
    """Return what a package tells of itself, by path."""
    try:
        if filename.endswith(".tar.bz2"):
            with tarfile.open(file, "r|bz2") as tar:
                return dict(_wanted(tar))
        with zipfile.ZipFile(file) as whole:
            (name,) = (name for name in whole.namelist() if name.startswith("info-"))
            with whole.open(name) as packed, zstd_module().ZstdFile(packed) as plain:
                return _members(plain)
    except (tarfile.TarError, zipfile.BadZipFile, EOFError, OSError, ValueError) as error:
        raise _unreadable(filename, error) from error


def _members(stream: IO[bytes]) -> dict[str, bytes]:
    with tarfile.open(fileobj=stream, mode="r|") as tar:
        return dict(_wanted(tar))


def _wanted(tar: tarfile.TarFile) -> Iterator[tuple[str, bytes]]:
    for member in tar:
        name = member.name.removeprefix("./")
        wanted = name in {"info/index.json", "info/about.json", "info/paths.json"}
        if (wanted or name.startswith(_LICENCES)) and member.isreg() and member.size <= _MOST_BYTES:
            source = tar.extractfile(member)
            yield name, source.read() if source else b""
