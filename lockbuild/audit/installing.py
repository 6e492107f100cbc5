"""What installing a wheel puts where: the files of the wheel, and those that pip makes beside them. Runs nothing.

https://packaging.python.org/en/latest/specifications/binary-distribution-format/#installing-a-wheel-distribution-1-0-py32-none-any-whl
"""

from __future__ import annotations

import base64
import configparser
import csv
import hashlib
import re
import zipfile
import zlib
from contextlib import suppress
from typing import TYPE_CHECKING, NamedTuple

from lockbuild.digest import sha256_of
from lockbuild.errors import BuildError

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

__all__ = [
    "Program",
    "Wanted",
    "commands",
    "compiled_from",
    "installed_files",
    "programs",
    "record_rows",
    "recorded",
    "true_contents",
]

_BROKEN = (
    *(zipfile.BadZipFile, zlib.error, NotImplementedError, RuntimeError),
    *(OSError, EOFError, KeyError, ValueError, configparser.Error),
)
_MADE = frozenset({""})
_SCRIPT = b"#!python"
_PIP = sha256_of(b"pip\n")
_EMPTY = sha256_of(b"")
_BYTECODE = re.compile(r"(?P<folder>.+/)?__pycache__/(?P<stem>[^/]+)\.[a-z]+-\d+\.pyc")


class Wanted(NamedTuple):
    """A file that an installed wheel has."""

    contents: frozenset[str]
    """Its sha256, one of these; an empty one where installing makes it."""
    optional: bool = False


class Program(NamedTuple):
    """What may be in `bin` under a name: one of these is given."""

    calls: str = ""
    """The entry point that a script calls: `module:attribute`."""
    script: bytes | None = None
    """The script as the wheel has it: in its first line may be a word for the interpreter."""
    sha256: str = ""


def installed_files(wheel: Path, *, prefix: str, python: str) -> dict[str, Wanted]:
    """Return path -> content of every file that pip installs of *wheel*, as its RECORD says.

    Args:
        prefix: The environment, without a slash before it: `opt/venv`.
        python: Major and minor version.

    Raises:
        BuildError: It cannot be read as a wheel.
    """
    site = f"{prefix}/lib/python{python}/site-packages"
    try:
        with zipfile.ZipFile(wheel) as archive:
            names = [info.filename for info in archive.infolist() if not info.is_dir()]
            folder = _dist_info(names)
            project = folder.partition("-")[0]
            hashes = recorded(archive.read(f"{folder}/RECORD"))
            found: dict[str, Wanted] = {}
            for name in names:
                place = _place(name, prefix=prefix, site=site, python=python, project=project)
                if compiled_from(place):
                    # Written anew with all other bytecode, and only where the module still compiles.
                    found[place] = Wanted(_MADE, optional=True)
                elif place.startswith(f"{prefix}/bin/"):
                    found[place] = Wanted(_script(archive.read(name), prefix))
                else:
                    sha256 = hashes.get(name) or sha256_of(archive.read(name))
                    found[place] = Wanted(frozenset({sha256}))
            # Its own list is written anew, with what is made beside it.
            found[f"{site}/{folder}/RECORD"] = Wanted(_MADE)
            found[f"{site}/{folder}/INSTALLER"] = Wanted(frozenset({_PIP}))
            found[f"{site}/{folder}/REQUESTED"] = Wanted(frozenset({_EMPTY}), optional=True)
            if f"{folder}/entry_points.txt" in names:
                text = archive.read(f"{folder}/entry_points.txt").decode("utf-8", "replace")
                for script in commands(text):
                    found[f"{prefix}/bin/{script}"] = Wanted(_MADE)
            if project == "pip":
                for script in ("pip", "pip3", f"pip{python}"):
                    found[f"{prefix}/bin/{script}"] = Wanted(_MADE, optional=True)
            return found
    except _BROKEN as error:
        raise BuildError(f"`{wheel.name}` cannot be read as a wheel: {error}") from error


def true_contents(wheel: Path, path: str, *, prefix: str, python: str) -> frozenset[str]:
    """Return the sha256 of what *wheel* itself installs at *path*: a RECORD may say otherwise, and pip believes it.

    Raises:
        BuildError: It cannot be read as a wheel.
    """
    site = f"{prefix}/lib/python{python}/site-packages"
    try:
        with zipfile.ZipFile(wheel) as archive:
            names = [info.filename for info in archive.infolist() if not info.is_dir()]
            project = _dist_info(names).partition("-")[0]
            found = set()
            for name in names:
                if _place(name, prefix=prefix, site=site, python=python, project=project) == path:
                    with archive.open(name) as stream:
                        found.add(hashlib.file_digest(stream, "sha256").hexdigest())  # type: ignore[arg-type]
            return frozenset(found)
    except _BROKEN as error:
        raise BuildError(f"`{wheel.name}` cannot be read as a wheel: {error}") from error


def programs(wheel: Path) -> dict[str, Program]:
    """Return name -> what installing *wheel* puts into `bin`.

    Raises:
        BuildError: It cannot be read as a wheel.
    """
    try:
        with zipfile.ZipFile(wheel) as archive:
            names = [info.filename for info in archive.infolist() if not info.is_dir()]
            folder = _dist_info(names)
            found: dict[str, Program] = {}
            for name in names:
                place = _place(name, prefix="", site="", python="", project="")
                if place.startswith("/bin/"):
                    found[place.removeprefix("/bin/")] = Program(script=archive.read(name))
            if f"{folder}/entry_points.txt" in names:
                found |= commands(archive.read(f"{folder}/entry_points.txt").decode("utf-8", "replace"))
            return found
    except _BROKEN as error:
        raise BuildError(f"`{wheel.name}` cannot be read as a wheel: {error}") from error


def compiled_from(path: str) -> str | None:
    """Return the module that bytecode at *path* is compiled from; none where it is no bytecode."""
    found = _BYTECODE.fullmatch(path)
    return f"{found['folder'] or ''}{found['stem']}.py" if found else None


def _dist_info(names: list[str]) -> str:
    folders = {name.split("/")[0] for name in names if name.split("/")[0].endswith(".dist-info")}
    if len(folders) != 1:
        msg = f"found {len(folders)} .dist-info folders, expected 1"
        raise ValueError(msg)
    return folders.pop()


def _place(name: str, *, prefix: str, site: str, python: str, project: str) -> str:
    """Return where a member of a wheel is installed."""
    top, _, rest = name.partition("/")
    scheme, _, below = rest.partition("/")
    if not top.endswith(".data") or not below:
        return f"{site}/{name}"
    match scheme:
        case "purelib" | "platlib":
            return f"{site}/{below}"
        case "scripts":
            return f"{prefix}/bin/{below}"
        case "headers":
            return f"{prefix}/include/site/python{python}/{project}/{below}"
        case _:
            return f"{prefix}/{below}"


def _script(data: bytes, prefix: str) -> frozenset[str]:
    """Return the sha256 of a script as it is installed: the environment's Python in its first line."""
    first, newline, rest = data.partition(b"\n")
    if first.startswith(_SCRIPT):
        data = f"#!/{prefix}/bin/python\n".encode() + rest if newline else data
    return frozenset({sha256_of(data)})


def record_rows(text: str) -> Iterator[list[str]]:
    """Yield the rows of a RECORD, up to one that cannot be read: what images and environments say may be anything."""
    with suppress(csv.Error):
        yield from csv.reader(text.splitlines())


def recorded(data: bytes) -> dict[str, str]:
    """Return member -> sha256 in hexadecimal, of those that a RECORD gives one for."""
    found = {}
    for row in record_rows(data.decode("utf-8", "replace")):
        name, hashed = (*row, "", "")[:2]
        algorithm, _, digest = hashed.partition("=")
        if algorithm == "sha256":
            try:
                raw = base64.urlsafe_b64decode(f"{digest.rstrip('=')}=")
            except ValueError:  # no base 64, or not even ASCII
                continue
            found[name] = raw.hex()
    return found


def commands(text: str) -> dict[str, Program]:
    """Return the scripts of an `entry_points.txt`, by name.

    Raises:
        configparser.Error: It cannot be read.
    """
    parser = configparser.ConfigParser(delimiters=("=",), strict=False, interpolation=None)
    parser.optionxform = str  # type: ignore[assignment, method-assign]
    parser.read_string(text)
    found: dict[str, Program] = {}
    for section in ("console_scripts", "gui_scripts"):
        if parser.has_section(section):
            found |= {name.strip(): Program(calls=value) for name, value in parser.items(section)}
    return found
