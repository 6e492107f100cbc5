"""Reading what the gate judges: wheels, the torch that ships, and the root file system that they meet."""

from __future__ import annotations

import io
import os
import re
import zipfile
from pathlib import Path, PurePosixPath
from typing import TYPE_CHECKING

from packaging.tags import parse_tag
from packaging.utils import InvalidWheelFilename, parse_wheel_filename
from packaging.version import Version

from lockbuild import wheels
from lockbuild.binaries import MAGIC, find_text, read_binary
from lockbuild.errors import BuildError
from lockbuild.gate.facts import Contents
from lockbuild.gate.paths import PATH_IN_BINARY, PATH_IN_TEXT
from lockbuild.gate.rules import TORCH_SYMBOL
from lockbuild.hashing import sha256_of_file

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping

    from lockbuild.binaries import Binary
    from lockbuild.lock import Lock

__all__ = [
    "base_libraries",
    "base_versions",
    "cuda_of",
    "libraries_among",
    "places_in",
    "read_torch",
    "read_wheel",
    "unpack_wheel",
]

_LIBRARY = re.compile(r"[^/]+\.so(?:\.[\w.]+)?")
_TORCH_LIBRARY = re.compile(r"torch/lib/[^/]+\.so(?:\.[\w.]+)?")
_VERSIONED = ("libc.so.6", "libgcc_s.so.1", "libgomp.so.1", "libstdc++.so.6")
# Where ld.so looks without being told, ld.so(8), and where Debian keeps libraries of its machines.
_DEFAULT_FOLDERS = ("lib", "lib64", "usr/lib", "usr/lib64")
_CONFIGURATION = "etc/ld.so.conf"
_MOST_LINKS = 40


# ---- wheels ----------------------------------------------------------------------------------------


def read_wheel(path: Path, sha256: str | None = None) -> Contents:
    """Return what is in the wheel at *path*; of one that is not whole, only why.

    Args:
        sha256: Of its bytes, where that is known.
    """
    sha256 = sha256 or sha256_of_file(path)
    try:
        name, version, _, tags = parse_wheel_filename(path.name)
    except InvalidWheelFilename as error:
        return Contents(
            filename=path.name,
            sha256=sha256,
            name="",
            version="",
            tags=(),
            members=(),
            binaries={},
            faults=(str(error),),
        )
    faults = wheels.check_wheel(path, expects=())
    members: tuple[str, ...] = ()
    binaries: dict[str, Binary] = {}
    paths: list[tuple[str, str, str]] = []
    said: tuple[str, ...] = ()
    facts = None
    if not faults:
        try:
            members, binaries, paths = _read_members(path)
            facts = wheels.inspect_wheel(path)
            said = _said_tags(facts)
        except BuildError as error:
            faults = (error.message,)
    return Contents(
        filename=path.name,
        sha256=sha256,
        name=name,
        version=str(version),
        tags=tuple(sorted(map(str, tags))),
        members=members,
        binaries=binaries,
        paths=tuple(sorted(paths)),
        said_tags=said,
        requires=facts.requires if facts else (),
        requires_python=facts.requires_python if facts else None,
        faults=faults,
    )


def _read_members(
    path: Path,
) -> tuple[tuple[str, ...], dict[str, Binary], list[tuple[str, str, str]]]:
    members: list[str] = []
    binaries: dict[str, Binary] = {}
    paths: list[tuple[str, str, str]] = []
    with zipfile.ZipFile(path) as archive:
        for info in archive.infolist():
            if info.is_dir():
                continue
            member, data = wheels.installed_name(info.filename), archive.read(info)
            members.append(member)
            if data.startswith(MAGIC):
                stream = io.BytesIO(data)
                binaries[member] = read_binary(stream, member)
                found = find_text(stream, member, PATH_IN_BINARY)
                paths += [(member, section, text) for section, text in found]
            else:
                texts = {match[0].decode("utf-8", "replace") for match in PATH_IN_TEXT.finditer(data)}
                paths += [(member, "", text) for text in texts]
    return tuple(sorted(members)), dict(sorted(binaries.items())), paths


def _said_tags(facts: wheels.WheelFacts) -> tuple[str, ...]:
    try:
        return tuple(sorted({str(tag) for one in facts.tags for tag in parse_tag(one)}))
    except ValueError as error:
        said = ", ".join(facts.tags)
        raise BuildError(f"WHEEL has a strange tag among {said}: {error}") from error


def unpack_wheel(path: Path, folder: Path) -> None:
    """Put the modules of a wheel that was checked into *folder*, where Python can import them."""
    with zipfile.ZipFile(path) as archive:
        for info in archive.infolist():
            name = PurePosixPath(wheels.installed_name(info.filename))
            if not info.is_dir() and not name.parts[0].endswith(".data"):
                target = folder / name
                target.parent.mkdir(parents=True, exist_ok=True)
                target.write_bytes(archive.read(info))


def places_in(wheel: Path) -> frozenset[str]:
    """Return where the files of a wheel are installed; its table of contents is all that is read."""
    with zipfile.ZipFile(wheel) as archive:
        return frozenset(wheels.place_of(name) for name in archive.namelist() if not name.endswith("/"))


def libraries_among(places: Iterable[str]) -> frozenset[str]:
    """Return the names of the shared libraries that are installed to *places*."""
    names = (place.rpartition("/")[2] for place in places)
    return frozenset(name for name in names if _LIBRARY.fullmatch(name))


# ---- torch -----------------------------------------------------------------------------------------


def read_torch(wheel: Path, scratch: Path) -> frozenset[str]:
    """Return the names of torch's own that the libraries in its *wheel* define.

    Args:
        scratch: An empty folder that takes one library after the other: they are too big for memory.
    """
    found: set[str] = set()
    with zipfile.ZipFile(wheel) as archive:
        for name in archive.namelist():
            if _TORCH_LIBRARY.fullmatch(name):
                place = Path(archive.extract(name, scratch))
                with place.open("rb") as stream:
                    binary = read_binary(stream, name, deep=False)
                place.unlink()
                found.update(symbol for symbol in binary.defined if TORCH_SYMBOL.match(symbol))
    return frozenset(found)


def cuda_of(lock: Lock, version: str) -> str | None:
    """Return the major version of the CUDA that the locked torch of that *version* runs on; none for one without.

    The label of torch's version says it (`2.0.1+cu118`), else the wheel of the CUDA runtime in the lock.
    """
    label = re.match(r"cu(\d+)\d(?:\.|$)", Version(version).local or "")
    if label:
        return label[1]
    for package in lock.runtime:
        suffix = re.fullmatch(r"nvidia-cuda-runtime(?:-cu(\d+))?", package.name)
        if suffix:
            return suffix[1] or str(Version(package.version).major)
    return None


# ---- the root file system --------------------------------------------------------------------------


def base_libraries(rootfs: Path, more: Iterable[str] = ()) -> Mapping[str, Path]:
    """Return name -> file of every shared library that the linker of the root file system *rootfs* finds.

    Args:
        more: Further folders that it searches, as LD_LIBRARY_PATH says them.
    """
    found: dict[str, Path] = {}
    for folder in (*more, *_configured(rootfs, _CONFIGURATION), *_default_folders(rootfs)):
        place = _inside(rootfs, folder)
        if place.is_dir():
            for file in place.iterdir():
                if _LIBRARY.fullmatch(file.name):
                    found.setdefault(file.name, file)
    return found


def base_versions(rootfs: Path, libraries: Mapping[str, Path]) -> dict[str, frozenset[str]]:
    """Return what versions the C library and the compiler's own define: `libc.so.6`, `libstdc++.so.6`, …."""
    found = {}
    for name in _VERSIONED:
        if name in libraries:
            file = _inside(rootfs, str(libraries[name].relative_to(rootfs)))
            with file.open("rb") as stream:
                binary = read_binary(stream, name, deep=False)
            found[name] = frozenset(binary.versions_defined)
    return found


def _default_folders(rootfs: Path) -> Iterator[str]:
    for folder in _DEFAULT_FOLDERS:
        yield folder
        place = _inside(rootfs, folder)
        if place.is_dir():
            yield from sorted(f"{folder}/{p.name}" for p in place.glob("*-linux-gnu"))


def _configured(rootfs: Path, file: str, depth: int = 0) -> Iterator[str]:
    """Yield the folders that ld.so.conf and what it includes name: ldconfig(8)."""
    place = _inside(rootfs, file)
    if depth > _MOST_LINKS or not place.is_file():
        return
    for line in place.read_text(encoding="utf-8", errors="replace").splitlines():
        word, _, pattern = line.partition("#")[0].strip().partition(" ")
        if word == "include":
            pattern = pattern.strip()
            base = PurePosixPath(pattern if pattern.startswith("/") else f"/etc/{pattern}")
            folder = _inside(rootfs, str(base.parent))
            for included in sorted(folder.glob(base.name)) if folder.is_dir() else ():
                yield from _configured(rootfs, f"{base.parent}/{included.name}", depth + 1)
        elif word:
            yield word


def _inside(rootfs: Path, path: str) -> Path:
    """Return where *path* leads when *rootfs* is the root: links in it are not the machine's."""
    waiting, done, links = [*reversed(PurePosixPath(path).parts)], rootfs, 0
    while waiting:
        part = waiting.pop()
        if part == "/":
            done = rootfs
        elif part == "..":
            done = done.parent if done != rootfs else rootfs
        elif (done / part).is_symlink() and links < _MOST_LINKS:
            links += 1
            waiting += reversed(PurePosixPath(os.readlink(done / part)).parts)
        else:
            done /= part
    return done
