"""Conda packages and channels, made by hand: archives of both formats and the `repodata.json` beside them."""

from __future__ import annotations

import hashlib
import json
import tarfile
import zipfile
from dataclasses import dataclass, field
from io import BytesIO
from posixpath import dirname
from typing import TYPE_CHECKING, Any

from lockbuild.builders.prefix import zstd_module

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping
    from pathlib import Path

__all__ = ["PLACEHOLDER", "CondaPackage", "add_package", "archive_bytes", "make_channel"]

PLACEHOLDER = "/feedstock_root/build_artifacts/pack/_h_env_" + "placehold_" * 16
"""What stands for the prefix in built packages: long, so that any other fits into its place."""

_TIME = 1_700_000_000


@dataclass(frozen=True, kw_only=True)
class CondaPackage:
    """What a channel says of a package, and what is in it."""

    name: str
    version: str
    build: str = "0"
    depends: tuple[str, ...] = ()
    constrains: tuple[str, ...] = ()
    files: Mapping[str, bytes] = field(default_factory=dict)
    """Path -> content; executable below `bin`. With the placeholder in it, replaced on installing:
    as text, or as binary where there is a NUL."""
    links: Mapping[str, str] = field(default_factory=dict)
    license: str | None = None
    license_files: Mapping[str, bytes] = field(default_factory=dict)
    """Name -> content."""
    noarch: str | None = None
    """`python` or `generic`."""
    entry_points: tuple[str, ...] = ()
    extra: tuple[tarfile.TarInfo, ...] = ()
    """Further members of its archive."""
    suffix: str = ".conda"

    @property
    def subdir(self) -> str:
        return "noarch" if self.noarch else "linux-64"

    @property
    def stem(self) -> str:
        return f"{self.name}-{self.version}-{self.build}"

    @property
    def filename(self) -> str:
        return self.stem + self.suffix

    def index(self) -> dict[str, Any]:
        found: dict[str, Any] = {
            "name": self.name,
            "version": self.version,
            "build": self.build,
            "build_number": 0,
            "depends": list(self.depends),
            "constrains": list(self.constrains),
            "subdir": self.subdir,
            "timestamp": _TIME * 1000,
        }
        if self.noarch:
            found["noarch"] = self.noarch
        if self.license:
            found["license"] = self.license
        return found


def make_channel(folder: Path, packages: Iterable[CondaPackage]) -> Path:
    """Write *packages* and the index of them into *folder*, and return it."""
    for subdir in ("linux-64", "noarch"):
        (folder / subdir).mkdir(parents=True, exist_ok=True)
        _write_index(folder, subdir, {})
    for package in packages:
        add_package(folder, package)
    return folder


def add_package(folder: Path, package: CondaPackage) -> Path:
    """Write one more package into the channel in *folder*, and return its archive."""
    data = archive_bytes(package)
    path = folder / package.subdir / package.filename
    path.write_bytes(data)
    repodata = json.loads((folder / package.subdir / "repodata.json").read_text())
    entries = {**repodata["packages"], **repodata["packages.conda"]}
    entries[package.filename] = {
        **package.index(),
        "size": len(data),
        "md5": hashlib.md5(data).hexdigest(),
        "sha256": hashlib.sha256(data).hexdigest(),
    }
    _write_index(folder, package.subdir, entries)
    return path


def _write_index(folder: Path, subdir: str, entries: Mapping[str, Any]) -> None:
    repodata = {
        "info": {"subdir": subdir},
        "packages": {name: entry for name, entry in entries.items() if name.endswith(".tar.bz2")},
        "packages.conda": {name: entry for name, entry in entries.items() if name.endswith(".conda")},
        "removed": [],
        "repodata_version": 1,
    }
    (folder / subdir / "repodata.json").write_text(json.dumps(repodata, indent=1, sort_keys=True))


def archive_bytes(package: CondaPackage) -> bytes:
    """Return the archive of *package*."""
    info = {"info/index.json": _json(package.index()), "info/paths.json": _json(_paths(package))}
    if package.noarch == "python":
        link = {"noarch": {"type": "python"}, "package_metadata_version": 1}
        if package.entry_points:
            link["noarch"] = {"type": "python", "entry_points": list(package.entry_points)}
        info["info/link.json"] = _json(link)
    info |= {f"info/licenses/{name}": data for name, data in package.license_files.items()}
    if package.suffix == ".tar.bz2":
        return _tar({**info, **package.files}, package.links, package.extra, "w:bz2")
    stream = BytesIO()
    with zipfile.ZipFile(stream, "w", zipfile.ZIP_STORED) as archive:
        compress = zstd_module().compress
        for name, data in (
            ("metadata.json", b'{"conda_pkg_format_version": 2}'),
            (f"pkg-{package.stem}.tar.zst", compress(_tar(package.files, package.links, package.extra))),
            (f"info-{package.stem}.tar.zst", compress(_tar(info, {}, ()))),
        ):
            archive.writestr(zipfile.ZipInfo(name), data)
    return stream.getvalue()


def _json(value: object) -> bytes:
    return json.dumps(value, indent=1, sort_keys=True).encode()


def _paths(package: CondaPackage) -> dict[str, Any]:
    paths: list[dict[str, Any]] = []
    for path, data in package.files.items():
        entry = {
            "_path": path,
            "path_type": "hardlink",
            "sha256": hashlib.sha256(data).hexdigest(),
            "size_in_bytes": len(data),
        }
        if PLACEHOLDER.encode() in data:
            mode = "binary" if b"\0" in data else "text"
            entry |= {"file_mode": mode, "prefix_placeholder": PLACEHOLDER}
        paths.append(entry)
    paths += [{"_path": path, "path_type": "softlink"} for path in package.links]
    return {"paths": sorted(paths, key=lambda entry: entry["_path"]), "paths_version": 1}


def _tar(
    files: Mapping[str, bytes],
    links: Mapping[str, str],
    extra: Iterable[tarfile.TarInfo],
    mode: Any = "w",
) -> bytes:
    stream = BytesIO()
    with tarfile.open(fileobj=stream, mode=mode) as tar:
        for path, data in files.items():
            member = tarfile.TarInfo(path)
            member.size, member.mtime = len(data), _TIME
            member.mode = 0o755 if dirname(path).endswith("bin") else 0o644
            tar.addfile(member, BytesIO(data))
        for path, target in links.items():
            member = tarfile.TarInfo(path)
            member.type, member.linkname, member.mtime = tarfile.SYMTYPE, target, _TIME
            tar.addfile(member)
        for member in extra:
            tar.addfile(member)
    return stream.getvalue()
