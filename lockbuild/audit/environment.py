"""What a virtual environment holds, and what its packages say that it shall. Nothing of it is run or imported."""

from __future__ import annotations

import os
import posixpath
import re
from contextlib import suppress
from dataclasses import dataclass
from email.parser import BytesHeaderParser
from pathlib import Path
from typing import TYPE_CHECKING

from packaging.utils import canonicalize_name

from lockbuild.audit.installing import compiled_from, installed_files, record_rows, recorded
from lockbuild.audit.makers import SEEDS, starts
from lockbuild.audit.rules import Skip
from lockbuild.errors import LockbuildError

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping
    from typing import Literal

    from lockbuild.audit.rules import Subject
    from lockbuild.lock import LockedPackage

__all__ = ["Package", "entries", "installed", "is_made", "packages", "settings", "site_of"]

_MADE = re.compile(
    r"[^/]+\.dist-info/(?:INSTALLER|REQUESTED|RECORD|direct_url\.json|uv_(build|cache)\.json)"
)
"""What installers write beside the packages' own files."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Package:
    """A package of the environment."""

    name: str
    version: str
    folder: str
    """Name of its .dist-info folder."""
    kind: Literal["locked", "seed", "other"]
    wheel: Path | None = None
    """The locked wheel; none where the store has not got it."""
    files: Mapping[str, frozenset[str]]
    """Path below the environment -> what may be there: as the wheel says it, else the package's own list."""
    bytecode: frozenset[str] = frozenset()
    """Of the wheel, by path: some bring it."""


def settings(subject: Subject) -> dict[str, str]:
    """Return what `pyvenv.cfg` says.

    Raises:
        Skip: There is no environment.
    """
    folder = subject.venv
    if folder is None:
        raise Skip("no virtual environment is named: `--against venv PATH`")
    file = folder / "pyvenv.cfg"
    if not file.is_file():
        raise Skip(f"{folder} is no virtual environment: it has no pyvenv.cfg")
    lines = (
        line.partition("=") for line in file.read_text(encoding="utf-8", errors="replace").splitlines()
    )
    return {name.strip().lower(): value.strip() for name, _, value in lines}


def site_of(subject: Subject) -> tuple[Path, str]:
    """Return the environment, and where its packages are in it.

    Raises:
        Skip: There is none, or it has no packages for the stack's Python.
    """
    settings(subject)
    folder = Path(subject.venv or "")
    site = f"lib/python{subject.stack.target.python}/site-packages"
    if not (folder / site).is_dir():
        raise Skip(f"{folder} has no packages for Python {subject.stack.target.python}")
    return folder, site


def entries(folder: Path) -> Iterator[str]:
    """Yield the path of everything below *folder* but folders; a link to a folder is followed by Python, not by this."""
    found = []
    for where, folders, files in os.walk(folder):
        links = (name for name in folders if os.path.islink(os.path.join(where, name)))  # noqa: PTH114 - of each file
        below = Path(where).relative_to(folder).as_posix()
        found += [posixpath.normpath(f"{below}/{name}") for name in (*files, *links)]
    return iter(sorted(found))


def installed(site: Path) -> dict[str, tuple[str, str]]:
    """Return normalised name -> version and name of the .dist-info folder."""
    found: dict[str, tuple[str, str]] = {}
    for file in sorted(site.glob("*.dist-info/METADATA")):
        headers = BytesHeaderParser().parsebytes(file.read_bytes())
        name = canonicalize_name(str(headers["Name"] or "?"))
        found[name] = (str(headers["Version"] or "?"), file.parent.name)
    return found


def is_made(path: str) -> bool:
    """Tell whether an installer writes the file *path* of `site-packages` anew."""
    return _MADE.fullmatch(path) is not None


def packages(subject: Subject) -> Iterator[Package]:
    """Yield the packages of the environment, with the files that they bring."""
    folder, site = site_of(subject)
    locked = {package.name: package for package in subject.lock.runtime}
    for name, (version, info) in sorted(installed(folder / site).items()):
        if name in locked and locked[name].version == version:
            yield _locked(subject, locked[name], info)
            continue
        record = folder / site / info / "RECORD"
        data = record.read_bytes() if record.is_file() else b""
        if name in SEEDS:
            kind, files = "seed", _of_seed(data, site, {*SEEDS[name], info})
        else:
            kind, files = "other", _of_other(data, site)
        yield Package(name=name, version=version, folder=info, kind=kind, files=files)  # type: ignore[arg-type]


def _locked(subject: Subject, package: LockedPackage, info: str) -> Package:
    folder, site = site_of(subject)
    wheel, files = _wheel_of(subject, package), None
    if wheel is not None:
        # Of a damaged one `store-bytes` tells.
        with suppress(LockbuildError):
            wanted = installed_files(wheel, prefix="", python=subject.stack.target.python)
            files = {path.lstrip("/"): one.contents for path, one in wanted.items()}
    if files is None:
        record = folder / site / info / "RECORD"
        listed = _hashed(record.read_bytes() if record.is_file() else b"", site)
        files = {path: one for path, one in listed.items() if not starts(path.removeprefix(f"{site}/"))}
        wheel = None
    return Package(
        name=package.name,
        version=package.version,
        folder=info,
        kind="locked",
        wheel=wheel,
        files={path: one for path, one in files.items() if _is_own(path, site) and "" not in one},
        bytecode=frozenset(path for path in files if compiled_from(path)),
    )


def _wheel_of(subject: Subject, package: LockedPackage) -> Path | None:
    """Return the package's wheel in the store; none where the store has not got it."""
    plan, store = subject.plan, subject.store
    path = dict(plan.builds).get(package.name) or dict(plan.wheels).get(package.name)
    info = store.info(path) if path else None
    if path is None or info is None:
        return None
    place = store.locate(path)
    if info.kind == "file":
        return place
    return place / next(name for name, _, _ in info.outputs if name.endswith(".whl"))


def _is_own(path: str, site: str) -> bool:
    """Tell whether an installed file is as the wheel has it, wherever the environment is."""
    below = path.removeprefix(f"{site}/")
    return (
        not path.startswith(("..", "/", "bin/")) and not is_made(below) and compiled_from(path) is None
    )


def _hashed(record: bytes, site: str) -> dict[str, frozenset[str]]:
    return {
        posixpath.normpath(f"{site}/{path}"): frozenset({sha256})
        for path, sha256 in recorded(record).items()
    }


def _of_seed(record: bytes, site: str, tops: set[str]) -> dict[str, frozenset[str]]:
    """Return what a seed may have: what it has no hash for, or does not come with, its list was given by somebody else."""
    return {
        path: one
        for path, one in _hashed(record, site).items()
        if path.startswith(f"{site}/") and path.removeprefix(f"{site}/").split("/")[0] in tops
    }


def _of_other(record: bytes, site: str) -> dict[str, frozenset[str]]:
    """Return what is told of with its package already; what runs at every start is told of in any case."""
    rows = record_rows(record.decode("utf-8", "replace"))
    paths = (posixpath.normpath(row[0]) for row in rows if row)
    return {f"{site}/{path}": frozenset() for path in paths if not starts(path)}
