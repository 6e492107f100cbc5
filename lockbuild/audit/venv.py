"""Is a virtual environment what was locked? Nothing of it is run or imported: its files are read and hashed."""

from __future__ import annotations

import posixpath
import re
from contextlib import suppress
from email.parser import BytesHeaderParser
from typing import TYPE_CHECKING

from packaging.utils import canonicalize_name

from lockbuild.audit.installing import (
    compiled_from,
    installed_files,
    record_rows,
    recorded,
    true_contents,
)
from lockbuild.audit.rules import Found, Rule, Skip
from lockbuild.errors import LockbuildError
from lockbuild.findings import Check
from lockbuild.hashing import sha256_of_file

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping
    from pathlib import Path

    from lockbuild.audit.rules import Subject
    from lockbuild.lock import LockedPackage

__all__ = ["RULES"]

_SHOWN = 5
_SEEDS = frozenset({"pip", "setuptools", "wheel"})
"""What makers of environments put into them, whatever is installed later."""
_MADE = re.compile(
    r"_virtualenv\.(?:py|pth)|[^/]+\.dist-info/(?:INSTALLER|REQUESTED|RECORD|direct_url\.json|uv_cache\.json)"
)
"""What they and installers write beside the packages' own files."""


def _folder(subject: Subject) -> Path:
    if subject.venv is None:
        raise Skip("no virtual environment is named: `--against venv PATH`")
    return subject.venv


def _settings(folder: Path) -> dict[str, str]:
    """Return what `pyvenv.cfg` says."""
    file = folder / "pyvenv.cfg"
    if not file.is_file():
        raise Skip(f"{folder} is no virtual environment: it has no pyvenv.cfg")
    lines = (
        line.partition("=") for line in file.read_text(encoding="utf-8", errors="replace").splitlines()
    )
    return {name.strip().lower(): value.strip() for name, _, value in lines}


def _site(subject: Subject) -> Path:
    folder = _folder(subject)
    _settings(folder)
    site = folder / "lib" / f"python{subject.stack.target.python}" / "site-packages"
    if not site.is_dir():
        raise Skip(f"{folder} has no packages for Python {subject.stack.target.python}")
    return site


def _installed(site: Path) -> dict[str, tuple[str, str]]:
    """Return normalised name -> version and name of the .dist-info folder."""
    found: dict[str, tuple[str, str]] = {}
    for file in sorted(site.glob("*.dist-info/METADATA")):
        headers = BytesHeaderParser().parsebytes(file.read_bytes())
        name = canonicalize_name(str(headers["Name"] or "?"))
        found[name] = (str(headers["Version"] or "?"), file.parent.name)
    return found


def _venv_python(subject: Subject) -> Iterator[Found]:
    said = _settings(_folder(subject))
    version = said.get("version_info") or said.get("version") or "unknown"
    wanted = subject.stack.target.python
    if not f"{version}.".startswith(f"{wanted}."):
        yield Found("pyvenv.cfg", f"Python {version}, the stack has {wanted}")
    if said.get("include-system-site-packages", "").lower() == "true":
        yield Found("pyvenv.cfg", "packages of the system are seen in it, too")


def _venv_packages(subject: Subject) -> Iterator[Found]:
    found = {name: version for name, (version, _) in _installed(_site(subject)).items()}
    locked = {package.name: package.version for package in subject.lock.runtime}
    for name in sorted({*found, *locked}):
        if name not in locked:
            if name not in _SEEDS:
                yield Found(name, f"{found[name]} is in the environment, but not in the lock")
        elif name not in found:
            yield Found(name, f"{locked[name]} is locked, but not in the environment")
        elif found[name] != locked[name]:
            yield Found(name, f"the environment has {found[name]}, the lock {locked[name]}")


# ---- files -----------------------------------------------------------------------------------------


def _venv_files(subject: Subject) -> Iterator[Found]:
    site = _site(subject)
    present = _installed(site)
    for package in subject.lock.runtime:
        version, folder = present.get(package.name, ("", ""))
        if version != package.version:
            continue  # said already
        wanted, wheel = _wanted(subject, package, site, folder)
        wrong = [
            (path, said)
            for path, contents in sorted(wanted.items())
            if (said := _wrong(subject, site / path, contents, wheel))
        ]
        for path, said in wrong[:_SHOWN]:
            yield Found(path, f"of {package.name} {version}: {said}")
        if len(wrong) > _SHOWN:
            yield Found(package.name, f"{len(wrong) - _SHOWN:,} more files like these")


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


def _wanted(
    subject: Subject, package: LockedPackage, site: Path, folder: str
) -> tuple[dict[str, frozenset[str]], Path | None]:
    """Return path below *site* -> what may be there: as the wheel says it, else the environment's own list."""
    wheel, files = _wheel_of(subject, package), None
    if wheel is not None:
        # Of a damaged one `store-bytes` tells.
        with suppress(LockbuildError):
            files = installed_files(wheel, prefix="", python=subject.stack.target.python)
    if files is None:
        record = site / folder / "RECORD"
        listed = recorded(record.read_bytes()) if record.is_file() else {}
        found = {posixpath.normpath(path): frozenset({sha256}) for path, sha256 in listed.items()}
        return {path: one for path, one in found.items() if _is_compared(path)}, None
    below = f"/lib/python{subject.stack.target.python}/site-packages/"
    return {
        path.removeprefix(below): one.contents
        for path, one in files.items()
        if path.startswith(below) and _is_compared(path.removeprefix(below)) and "" not in one.contents
    }, wheel


def _is_compared(path: str) -> bool:
    """Whether a file of an installed package is the wheel's own, and below `site-packages`."""
    return not path.startswith(("..", "/")) and not _MADE.fullmatch(path) and compiled_from(path) is None


def _wrong(subject: Subject, file: Path, contents: frozenset[str], wheel: Path | None) -> str:
    if not file.is_file():
        return "is missing"
    found = sha256_of_file(file)
    if found in contents:
        return ""
    python = subject.stack.target.python
    path = f"/lib/python{python}/site-packages/{file.relative_to(_site(subject)).as_posix()}"
    if wheel and found in true_contents(wheel, path, prefix="", python=python):
        return ""  # a RECORD that its author got wrong
    source = "the wheel" if wheel else "its RECORD"
    return f"found sha256 {found[:12]}…, {source} has {min(contents)[:12]}…"


def _venv_extra(subject: Subject) -> Iterator[Found]:
    site = _site(subject)
    known = set(_listed(subject, site))
    extra = []
    for file in sorted(site.rglob("*")):
        path = file.relative_to(site).as_posix()
        if file.is_dir() or path in known or _MADE.fullmatch(path) or compiled_from(path) in known:
            continue
        extra.append(path)
    for path in extra[:_SHOWN]:
        yield Found(path, "is in the environment, and of no locked package")
    if len(extra) > _SHOWN:
        yield Found(str(site), f"{len(extra) - _SHOWN:,} more files like these")


def _listed(subject: Subject, site: Path) -> Iterator[str]:
    """Yield what locked packages and the seeds bring, and what packages that are told of already say of themselves."""
    locked: Mapping[str, LockedPackage] = {package.name: package for package in subject.lock.runtime}
    for name, (version, folder) in _installed(site).items():
        if name in locked and locked[name].version == version:
            yield from _wanted(subject, locked[name], site, folder)[0]
        else:
            record = site / folder / "RECORD"
            text = record.read_text(encoding="utf-8", errors="replace") if record.is_file() else ""
            yield from (posixpath.normpath(row[0]) for row in record_rows(text) if row)


def _check(
    check: str,
    what: str,
    why: str,
    mend: str = "make it again: `uv pip sync` or `pip install` of the lock",
) -> Check:
    return Check(id=check, level="error", what=what, why=why, mend=mend, about="venv")


RULES = (
    Rule(
        _check(
            "venv-python",
            "the environment is of the stack's Python, and of it alone",
            "wheels fit one version; packages of the system are in no lock",
            mend="make it with the stack's Python, without `--system-site-packages`",
        ),
        _venv_python,
    ),
    Rule(
        _check(
            "venv-packages",
            "the environment's packages are those of the lock",
            "what runs must be what was resolved",
        ),
        _venv_packages,
    ),
    Rule(
        _check(
            "venv-files",
            "every file of the environment's packages is the one of the locked wheel",
            "a file that was changed is another program; its own list of hashes may have been changed with it",
        ),
        _venv_files,
    ),
    Rule(
        _check(
            "venv-extra",
            "the environment's folder of packages holds nothing else",
            "Python runs what lies there, some of it at every start",
            mend="delete the file, or make the environment again",
        ),
        _venv_extra,
    ),
)
