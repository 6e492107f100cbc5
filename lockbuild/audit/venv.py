"""Is a virtual environment what was locked? Nothing of it is run or imported: its files are read and hashed."""

from __future__ import annotations

import configparser
import platform
import posixpath
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING

from lockbuild.audit.bytecode import judge
from lockbuild.audit.environment import entries, installed, is_made, packages, settings, site_of
from lockbuild.audit.installing import (
    Program,
    commands,
    compiled_from,
    programs,
    recorded,
    true_contents,
)
from lockbuild.audit.makers import (
    ACTIVATION,
    HOOKS,
    PYTHON,
    SEEDS,
    is_hook,
    script_fault,
    seed_names,
    starts,
)
from lockbuild.audit.rules import Found, Rule, Skip
from lockbuild.findings import Check
from lockbuild.hashing import sha256_of_file

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

    from lockbuild.audit.bytecode import Verdict
    from lockbuild.audit.environment import Package
    from lockbuild.audit.rules import Subject
    from lockbuild.findings import Level

__all__ = ["RULES"]

_SHOWN = 5
_OF_NOBODY = "is in the environment, and of no locked package"


def _venv_python(subject: Subject) -> Iterator[Found]:
    said = settings(subject)
    version = said.get("version_info") or said.get("version") or "unknown"
    wanted = subject.stack.target.python
    if not f"{version}.".startswith(f"{wanted}."):
        yield Found("pyvenv.cfg", f"Python {version}, the stack has {wanted}")
    if said.get("include-system-site-packages", "").lower() == "true":
        yield Found("pyvenv.cfg", "packages of the system are seen in it, too")


def _venv_packages(subject: Subject) -> Iterator[Found]:
    folder, site = site_of(subject)
    found = {name: version for name, (version, _) in installed(folder / site).items()}
    locked = {package.name: package.version for package in subject.lock.runtime}
    for name in sorted({*found, *locked}):
        if name not in locked:
            if name not in SEEDS:
                yield Found(name, f"{found[name]} is in the environment, but not in the lock")
        elif name not in found:
            yield Found(name, f"{locked[name]} is locked, but not in the environment")
        elif found[name] != locked[name]:
            yield Found(name, f"the environment has {found[name]}, the lock {locked[name]}")


# ---- files -----------------------------------------------------------------------------------------


def _venv_files(subject: Subject) -> Iterator[Found]:
    _, site = site_of(subject)
    for package in packages(subject):
        if package.kind == "other":
            continue  # said already
        wrong = [
            (path.removeprefix(f"{site}/"), said)
            for path, contents in sorted(package.files.items())
            if (said := _wrong(subject, package, path, contents))
        ]
        for path, said in wrong[:_SHOWN]:
            yield Found(path, f"of {package.name} {package.version}: {said}")
        if len(wrong) > _SHOWN:
            yield Found(package.name, f"{len(wrong) - _SHOWN:,} more files like these")


def _wrong(subject: Subject, package: Package, path: str, contents: frozenset[str]) -> str:
    folder, site = site_of(subject)
    file = folder / path
    if not file.is_file():
        # Installers differ in what they put elsewhere, and users take pip to pieces.
        return "is missing" if package.kind == "locked" and path.startswith(site) else ""
    found = sha256_of_file(file)
    if found in contents:
        return ""
    python = subject.stack.target.python
    if package.wheel and found in true_contents(package.wheel, f"/{path}", prefix="", python=python):
        return ""  # a RECORD that its author got wrong
    source = "the wheel" if package.wheel else "its RECORD"
    return f"found sha256 {found[:12]}…, {source} has {min(contents)[:12]}…"


def _venv_extra(subject: Subject) -> Iterator[Found]:
    folder, site = site_of(subject)
    there = tuple(packages(subject))
    known = {path.removeprefix(f"{site}/") for package in there for path in package.files}
    known |= {name for name in HOOKS if _is_hook(folder / site / name)}
    marks = {f"{one.name}-{one.version}.virtualenv" for one in there if one.kind == "seed"}
    extra = []
    for path in entries(folder / site):
        file = folder / site / path
        marked = path in marks and file.is_file() and not file.stat().st_size
        ours = path in known or is_made(path) or compiled_from(path) in known or marked
        if file.is_dir() or not ours:
            extra.append(path)
    # What runs at every start is told first.
    extra.sort(key=lambda path: not starts(path))
    without = [one.name for one in there if one.kind == "locked" and one.wheel is None]
    for path in extra[:_SHOWN]:
        yield Found(path, _extra_fault(path, without))
    if len(extra) > _SHOWN:
        yield Found(site, f"{len(extra) - _SHOWN:,} more files like these")
    other = folder / "lib64"
    if other.is_dir() and other.resolve() != (folder / "lib").resolve():
        yield Found("lib64", "is no link to `lib`: some Pythons look for packages there, too")


def _is_hook(file: Path) -> bool:
    return file.is_file() and is_hook(file.name, file.read_bytes())


def _extra_fault(path: str, without: Sequence[str]) -> str:
    if path in HOOKS:
        return "is none that virtualenv or uv is known to write"
    if without and starts(path):
        # No list in the environment is believed about what runs at every start.
        return (
            f"{_OF_NOBODY} whose wheel is in the store; it lacks that of {', '.join(without[:_SHOWN])}"
        )
    return _OF_NOBODY


def _venv_bytecode(subject: Subject) -> Iterator[Found]:
    folder, site = site_of(subject)
    wheels = {path: one.wheel for one in packages(subject) for path in one.bytecode}
    python = subject.stack.target.python
    wrong: dict[Verdict, list[str]] = {"unseen": [], "other": [], "alike": [], "unknown": []}
    for below in (site, "bin"):
        for path in (f"{below}/{one}" for one in entries(folder / below)):
            verdict = _judged(folder, path, python)
            if verdict != "fits" and not _has(wheels.get(path), path, folder, python):
                wrong[verdict].append(path.removeprefix(f"{site}/"))
    for verdict, (said, level) in _verdicts(subject).items():
        for path in wrong[verdict][:_SHOWN]:
            yield Found(path, said, level=level)
        if len(wrong[verdict]) > _SHOWN:
            yield Found(site, f"{len(wrong[verdict]) - _SHOWN:,} more files like these", level=level)
    if wrong["unknown"]:
        raise Skip(
            f"only a lockbuild that runs on Python {python} can compare {len(wrong['unknown']):,} files of"
            " its bytecode; or delete `__pycache__`, and Python makes it anew"
        )


def _verdicts(subject: Subject) -> dict[Verdict, tuple[str, Level]]:
    """Return what is said of a verdict, and how grave it is."""
    said, own = settings(subject), platform.python_version()
    there = said.get("version_info") or said.get("version") or "unknown"
    other = "is not what its module compiles to"
    alike: tuple[str, Level] = (other, "error")
    if not f"{there}.".startswith(f"{own}."):
        why = (
            f"has other instructions than Python {own} makes of its module; the environment has {there}"
        )
        alike = (why, "warning")
    unseen = "is run whatever its module says: its stamp asks Python not to look"
    return {"unseen": (unseen, "error"), "other": (other, "error"), "alike": alike}


def _judged(folder: Path, path: str, python: str) -> Verdict:
    module = folder / (compiled_from(path) or path)
    file = folder / path
    if module == file or not (module.is_file() and file.is_file()):
        return "fits"  # Python does not look for it
    return judge(file.read_bytes(), module.read_bytes(), name=str(module), python=python)


def _has(wheel: Path | None, path: str, folder: Path, python: str) -> bool:
    """Tell whether a wheel brings a file as it is in the environment."""
    if wheel is None:
        return False
    found = true_contents(wheel, f"/{path}", prefix="", python=python)
    return sha256_of_file(folder / path) in found


# ---- programs --------------------------------------------------------------------------------------


def _venv_programs(subject: Subject) -> Iterator[Found]:
    folder, _ = site_of(subject)
    wanted = _programs(subject)
    wrong = [
        (f"bin/{name}", said)
        for name in entries(folder / "bin")
        if (said := _program_fault(subject, folder / "bin" / name, name, wanted))
    ]
    for path, said in wrong[:_SHOWN]:
        yield Found(path, said)
    if len(wrong) > _SHOWN:
        yield Found("bin", f"{len(wrong) - _SHOWN:,} more files like these")


def _program_fault(
    subject: Subject, file: Path, name: str, wanted: Mapping[str, Sequence[Program]]
) -> str:
    if PYTHON.fullmatch(name):
        return _python_fault(subject, file)
    if file.is_dir():
        return _OF_NOBODY
    if ACTIVATION.fullmatch(name) or compiled_from(name) in wanted or not file.exists():
        return ""
    if name not in wanted:
        return _OF_NOBODY
    return script_fault(file.read_bytes(), wanted[name], file.parent)


def _python_fault(subject: Subject, file: Path) -> str:
    """Compare the environment's Python with the one that it was made of, where that is on this machine."""
    home = Path(settings(subject).get("home", ""))
    names = {file.name, "python", "python3", f"python{subject.stack.target.python}"}
    made_of = {(home / name).resolve() for name in names if (home / name).is_file()}
    place = file.resolve()
    if not place.is_file() or place in made_of:
        return ""
    if sha256_of_file(place) in {sha256_of_file(one) for one in made_of}:
        return ""
    return f"is not the Python that `pyvenv.cfg` names: found `{place}`, `home` is `{home}`"


def _programs(subject: Subject) -> dict[str, list[Program]]:
    """Return name -> what may be in `bin` under it."""
    folder, site = site_of(subject)
    found: dict[str, list[Program]] = {}
    for package in packages(subject):
        there = programs(package.wheel) if package.wheel else _by_own_list(folder / site, package)
        for name, program in there.items():
            names = seed_names(name, subject.stack.target.python) if package.name in SEEDS else (name,)
            for one in names:
                found.setdefault(one, []).append(program)
    return found


def _by_own_list(site: Path, package: Package) -> dict[str, Program]:
    """Return what a package without a wheel says that it has in `bin`."""
    info = site / package.folder
    record = (info / "RECORD").read_bytes() if (info / "RECORD").is_file() else b""
    found: dict[str, Program] = {
        path.rpartition("/bin/")[2]: Program(sha256=sha256)
        for path, sha256 in recorded(record).items()
        if package.kind != "seed" and posixpath.normpath(path).startswith("../../../bin/")
    }
    with suppress(OSError, ValueError, configparser.Error):
        found |= commands((info / "entry_points.txt").read_text(encoding="utf-8", errors="replace"))
    return found


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
    Rule(
        _check(
            "venv-bytecode",
            "the environment's bytecode is what its modules compile to",
            "Python runs it in place of the module",
            mend="delete `__pycache__`: Python makes it anew",
        ),
        _venv_bytecode,
    ),
    Rule(
        _check(
            "venv-programs",
            "the environment's `bin` holds what installers make of its packages, run by its own Python",
            "what lies there is what people run, and what its programs import first",
            mend="delete the file, or make the environment again",
        ),
        _venv_programs,
    ),
)
