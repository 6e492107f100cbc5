"""This machine's Python as an archive: what an interpreter needs of its prefix, where python-build-standalone has it.

The archive follows from the content of what it holds alone. Everything is below `python/`, paths of the
prefix in texts are those of `INTERPRETER_FOLDER`, and the program finds its library beside itself.
"""

from __future__ import annotations

import hashlib
import io
import json
import os
import re
import tarfile
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from lockbuild.binaries import MAGIC, read_binary, run_path_of
from lockbuild.derivation import INTERPRETER_FOLDER
from lockbuild.digest import Sha256
from lockbuild.errors import BuildError, FetchError, ToolMissing
from lockbuild.process import clean_env, find_tool, run

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from lockbuild.binaries import Binary

__all__ = ["HostPython", "Packed", "ask_python", "pack_python"]

_ASK = """
import importlib, json, os, platform, sys, sysconfig
build = importlib.import_module(sysconfig._get_sysconfigdata_name()).build_time_vars
print(json.dumps({
    "implementation": platform.python_implementation(),
    "version": platform.python_version(),
    "machine": platform.machine(),
    "prefix": sys.base_prefix,
    "configured": build.get("prefix") or sys.base_prefix,
    "library": os.path.dirname(os.path.realpath(os.__file__)),
    "headers": sysconfig.get_path("include"),
    "abi": [name for name in ("Py_DEBUG", "Py_GIL_DISABLED") if build.get(name)],
    "distribution": "deb_system" in sysconfig.get_scheme_names() or sys.base_prefix == "/usr",
}))
"""

_EPOCH = 315532800
_TOP = "python"
_RUN_PATH = "$ORIGIN/../lib"
_NOT_FOUND = 127
"""What a shell and pyenv's shims end with when there is no such command: POSIX, `2.8.2 Exit Status for Commands`."""

_OWN_FOLDER = "take a Python in a folder of its own, as `uv python install`, pyenv and conda make them"

# Of the library: what is installed beside it, what is made when it runs, what only tests it, and what needs a screen.
_LEFT_OUT_FOLDERS = frozenset(
    (
        *("__pycache__", "dist-packages", "site-packages"),
        *("idle_test", "test", "tests"),
        *("idlelib", "tkinter", "turtledemo"),
    )
)
_LEFT_OUT = re.compile(
    r".*\.(a|o|pyc)|EXTERNALLY-MANAGED|turtle\.py|lib-dynload/(_test|_ctypes_test|_tkinter|_xxtest|xxlimited).*"
)
# Texts that name folders of the prefix, for those who compile extensions.
_NAMES_FOLDERS = re.compile(
    r"(config-[^/]*/.*|_sysconfigdata_[^/]*\.py|_sysconfig_vars_[^/]*\.json|build-details\.json)"
)


@dataclass(frozen=True, slots=True, kw_only=True)
class HostPython:
    """A Python of this machine, as it says of itself."""

    command: str
    version: str
    """`3.12.1`."""
    machine: str
    """Its processor: `x86_64`."""
    prefix: Path
    """The folder that it is installed in; of a virtual environment, that of the Python below it."""
    configured: str
    """The folder that it was configured for, which its texts name."""
    library: Path
    headers: Path

    @property
    def minor(self) -> str:
        """Major and minor version."""
        return ".".join(self.version.split(".")[:2])

    @property
    def filename(self) -> str:
        """The name of its archive."""
        return f"cpython-{self.version}-host.tar"


@dataclass(frozen=True, slots=True, kw_only=True)
class Packed:
    """An archive of a Python."""

    sha256: Sha256
    size: int
    glibc: str
    """The oldest C library that it runs with; empty where it is not linked with glibc."""


def ask_python(command: str) -> HostPython:
    """Return what the Python that *command* starts on this machine says of itself.

    Raises:
        FetchError: It is not on PATH (then `unreachable`), or is no Python that can be taken along.
    """
    place = find_tool(command)
    if place is None:
        raise _absent(command)
    try:
        told = run([place, "-I", "-B", "-c", _ASK], env=clean_env("HOME"))
    except ToolMissing as error:
        raise FetchError(error.message) from error
    said = tuple(line.strip() for line in told.stderr.splitlines() if line.strip())
    if told.returncode == _NOT_FOUND:
        raise _absent(command, *said)
    try:
        facts = json.loads(told.stdout)
    except ValueError as error:
        raise FetchError(f"`{command}` is no Python that runs", details=said) from error
    if facts["implementation"] != "CPython" or facts["abi"]:
        kind = " ".join((facts["implementation"], *facts["abi"]))
        raise FetchError(f"`{command}` is {kind}; wheels are for CPython as it is usually built")
    if facts["distribution"]:
        raise FetchError(
            f"`{command}` is the Python of this machine's distribution, which is spread over `{facts['prefix']}`",
            hint=f"`interpreter.apt` takes Debian's or Ubuntu's from locked packages; else {_OWN_FOLDER}",
        )
    return HostPython(
        command=command,
        version=facts["version"],
        machine=facts["machine"],
        prefix=Path(facts["prefix"]),
        configured=facts["configured"],
        library=Path(facts["library"]),
        headers=Path(facts["headers"]),
    )


def pack_python(python: HostPython, into: Path) -> Packed:
    """Write the archive of *python*.

    Raises:
        FetchError: It lacks a part, or would not find its parts elsewhere.
    """
    _refuse_incomplete(python)
    linked: list[Binary] = []
    with into.open("xb") as file, tarfile.open(fileobj=file, mode="w", format=tarfile.PAX_FORMAT) as tar:

        def add(name: str, content: bytes, mode: int) -> None:
            member = _member(name, mode)
            member.size = len(content)
            tar.addfile(member, io.BytesIO(content))
            if binary := _binary(content, name):
                linked.append(binary)

        for name, content, mode in _files(python):
            add(name, content, mode)
        wanted = {needed for binary in linked for needed in binary.needs}
        links = {f"bin/{name}": f"python{python.minor}" for name in ("python", "python3")}
        for library in _libraries(python, wanted):
            if library.is_symlink() and "/" not in os.readlink(library):
                links[f"lib/{library.name}"] = os.readlink(library)
            else:
                add(f"lib/{library.name}", library.read_bytes(), 0o755)
        for name, target in links.items():
            link = _member(name, 0o777)
            link.type, link.linkname = tarfile.SYMTYPE, target
            tar.addfile(link)
    glibc = max((_glibc(binary) for binary in linked), default=())
    with into.open("rb") as packed:
        sha256 = hashlib.file_digest(packed, "sha256").hexdigest()
    return Packed(sha256=Sha256(sha256), size=into.stat().st_size, glibc=".".join(map(str, glibc)))


def _absent(command: str, *said: str) -> FetchError:
    return FetchError(
        f"`{command}` is not on this machine's PATH",
        details=said,
        hint=f"install it: {_OWN_FOLDER}",
        unreachable=True,
    )


def _program(python: HostPython) -> Path:
    return python.prefix / "bin" / f"python{python.minor}"


def _refuse_incomplete(python: HostPython) -> None:
    where = f"`{python.command}` ({python.version} in `{python.prefix}`)"
    library = python.prefix / "lib" / f"python{python.minor}"
    if library.resolve() != python.library.resolve():
        raise FetchError(
            f"{where} has its library in `{python.library}`, not in `{library}`", hint=_OWN_FOLDER
        )
    if not _program(python).is_file():
        raise FetchError(f"{where} has no `bin/{_program(python).name}`", hint=_OWN_FOLDER)
    lacking = [name for name in ("Python.h", "pyconfig.h") if not (python.headers / name).is_file()]
    if lacking:
        raise FetchError(
            f"{where} has no headers, with which extensions are compiled: no `{lacking[0]}` in `{python.headers}`",
            hint=f"install its development files, or {_OWN_FOLDER}",
        )


# ---- what goes in ------------------------------------------------------------------------------------


def _files(python: HostPython) -> Iterator[tuple[str, bytes, int]]:
    """Yield path, content and mode of each file, but for libraries beside the interpreter's own."""
    yield f"bin/python{python.minor}", _relocatable(python), 0o755
    include = f"include/{python.headers.name}"
    for name, path in _walk(python.headers):
        yield f"{include}/{name}", path.read_bytes(), 0o644
    for name, path in _walk(python.library):
        if _LEFT_OUT.fullmatch(name):
            continue
        content = path.read_bytes()
        if _NAMES_FOLDERS.fullmatch(name):
            content = _elsewhere(content, python)
        mode = 0o755 if path.stat().st_mode & 0o100 else 0o644
        yield f"lib/python{python.minor}/{name}", content, mode


def _walk(folder: Path) -> Iterator[tuple[str, Path]]:
    """Yield path below *folder* and place of each file that is an interpreter's, sorted; links are what they lead to."""
    for entry in sorted(folder.iterdir()):
        if entry.is_dir():
            if entry.name not in _LEFT_OUT_FOLDERS and not entry.is_symlink():
                yield from ((f"{entry.name}/{name}", path) for name, path in _walk(entry))
        elif entry.is_file():
            yield entry.name, entry


def _elsewhere(text: bytes, python: HostPython) -> bytes:
    """Return *text* with the folder that the archive is unpacked into in the place of the prefix."""
    prefixes = sorted({python.configured, str(python.prefix)}, key=len, reverse=True)
    pattern = b"|".join(re.escape(os.fsencode(prefix)) for prefix in prefixes)
    return re.sub(rb"(?:%s)(?![\w.-])" % pattern, INTERPRETER_FOLDER.encode(), text)


def _relocatable(python: HostPython) -> bytes:
    """Return the program, which looks for its own library beside itself.

    Raises:
        FetchError: It does not, and has no room to say so.
    """
    content, name = _program(python).read_bytes(), _program(python).name
    binary, own = _binary(content, name), f"libpython{python.minor}"
    if binary is None or not any(needed.startswith(own) for needed in binary.needs):
        return content
    start, found = run_path_of(io.BytesIO(content), name) or (0, "")
    if any(re.fullmatch(r"\$(ORIGIN|\{ORIGIN\})/\.\./lib/?", place) for place in found.split(":")):
        return content
    room = len(os.fsencode(found))
    if room < len(_RUN_PATH):
        looks = f"looks for it in `{found}` alone" if found else "is not told where"
        raise FetchError(
            f"`{python.command}` needs `{own}.so`, and {looks}: it cannot find it in another folder",
            hint=f"patchelf --set-rpath '{_RUN_PATH}' {_program(python)}; or {_OWN_FOLDER}",
        )
    return content[:start] + _RUN_PATH.encode().ljust(room, b"\0") + content[start + room :]


def _libraries(python: HostPython, wanted: Iterable[str]) -> tuple[Path, ...]:
    """Return the libraries of the prefix that are *wanted*, and those that they want and lead to, sorted.

    Beside the interpreter's own these are what it was linked with there: of conda, OpenSSL and more.
    """
    folder = python.prefix / "lib"
    own = folder.glob(f"libpython{python.minor}.so*")
    waiting, found = {*wanted, *(path.name for path in own), "libpython3.so"}, set[Path]()
    while waiting:
        path = folder / waiting.pop()
        if path in found or not path.is_file():
            continue
        found.add(path)
        if path.is_symlink():
            waiting.add(os.readlink(path))
        if binary := _binary(path.read_bytes(), path.name):
            waiting.update(binary.needs)
    return tuple(sorted(path for path in found if path.parent == folder))


def _binary(content: bytes, name: str) -> Binary | None:
    if not content.startswith(MAGIC):
        return None
    try:
        return read_binary(io.BytesIO(content), name, deep=False)
    except BuildError:
        # Whoever loads it will be told.
        return None


def _glibc(binary: Binary) -> tuple[int, ...]:
    """Return the oldest C library that has all versions of symbols that *binary* needs; empty for none of glibc's."""
    found = (re.fullmatch(r"GLIBC_(\d+(?:\.\d+)*)", version) for _, version in binary.versions_needed)
    return max((tuple(map(int, one[1].split("."))) for one in found if one), default=())


def _member(name: str, mode: int) -> tarfile.TarInfo:
    member = tarfile.TarInfo(f"{_TOP}/{name}")
    member.mode, member.mtime = mode, _EPOCH
    return member
