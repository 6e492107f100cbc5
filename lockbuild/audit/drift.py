"""Where an image is not what it shall be, file by file and layer by layer. Pure.

Every file that differs is said once, by the check that knows most of it: what may not be passed on before what
gives rights of others, that before secrets, leftovers of building, packages, and all else.
"""

from __future__ import annotations

import posixpath
import re
from dataclasses import dataclass
from typing import TYPE_CHECKING

from lockbuild.audit.compared import Compared, Difference, PackageDrift, above, size_of
from lockbuild.audit.contents import conda_of, debs_in, debs_of, pythons_of
from lockbuild.audit.expected import MADE
from lockbuild.audit.forbidden import (
    forbidden,
    marks,
    replaced_in_place,
    why_forbidden,
    why_licensed,
    why_not,
)
from lockbuild.audit.installing import compiled_from
from lockbuild.audit.leaks import PATH
from lockbuild.derivation import CONDA_FOLDER
from lockbuild.dockerfile import PREFIX
from lockbuild.image.layers import final

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Mapping

    from lockbuild.audit.compared import Way
    from lockbuild.audit.contents import Present
    from lockbuild.audit.expected import Expected, PartName, Want
    from lockbuild.image.layers import LayerFile, Placed
    from lockbuild.image.manifests import LayeredImage
    from lockbuild.lock import Lock
    from lockbuild.stack import Stack

__all__ = ["Drift", "build_paths", "drift_of"]

_TOP = PREFIX.removeprefix("/")
# What lies deeper is inside a package, as setuptools has others of its own.
_INSTALLED = re.compile(rf"{re.escape(_TOP)}/lib(?:64)?/python[\d.]+/site-packages/[^/]+/[^/]+")
_SHORT = 12
# What installing a .deb changes beside the package's own files: what only dpkg and its like read, and what it adds.
_DPKG = re.compile(
    r"var/lib/dpkg/(?:status|available|lock|triggers/|diversions|statoverride|alternatives/|[^/]+-old$)"
    r"|var/(?:log|cache)/(?:apt|debconf|ldconfig|man)/|var/log/(?:dpkg|alternatives)\.log|var/lib/apt/"
)
_DPKG_ADDS = re.compile(rf"{_DPKG.pattern}|etc/ld\.so\.cache$|etc/alternatives/")
# Where packages bring files to. What they say of other places is not believed.
_OF_DEBS = ("bin/", "boot/", "etc/", "lib/", "lib32/", "lib64/", "libx32/", "sbin/", "usr/", "var/")
_OF_CONDA = (f"{CONDA_FOLDER.removeprefix('/')}/",)
_SITE = re.compile(r"(?P<top>(?:.*/)?)lib(?:64)?/python[\d.]+/(?:site|dist)-packages")


@dataclass(frozen=True, slots=True, kw_only=True)
class Drift:
    """All that differs."""

    files: tuple[Difference, ...] = ()
    python: tuple[PackageDrift, ...] = ()
    debs: tuple[PackageDrift, ...] = ()
    conda: tuple[PackageDrift, ...] = ()


def drift_of(image: LayeredImage, expected: Expected, *, stack: Stack, lock: Lock) -> Drift:
    """Return where *image* is not what *expected* says."""
    actual = final([layer.content for layer in image.layers])
    compared = Compared(image, expected, actual, stack.mounts)
    python, python_files, python_names = _python(compared, lock)
    debs, deb_files, deb_names = _debs(compared, stack, lock)
    conda, conda_files, conda_names = _conda(compared, lock)
    if expected.absent:
        # Who does not know all that belongs there cannot tell what does not, but for what never does.
        licensed = [*forbidden(compared, why_licensed), *replaced_in_place(compared, why_licensed)]
        files = tuple(licensed) if expected.placed else ()
        return Drift(files=files, python=python, debs=debs, conda=conda)
    told = _Told(
        files=frozenset((*python_files, *deb_files, *conda_files)),
        replaced={"package": python_names, "base": deb_names, "conda": conda_names},
        has_debs=bool(debs),
    )
    found = [*forbidden(compared, why_forbidden)]
    said = {(one.path, one.layer) for one in found}
    for one, part in (*_wanted(compared), *_added(compared)):
        if (one.path, one.layer) not in said and not told.says(one, part):
            found.append(one)
    found += replaced_in_place(compared, why_not)
    return Drift(
        files=tuple(sorted(found, key=lambda one: (one.layer or 0, one.path))),
        python=python,
        debs=debs,
        conda=conda,
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class _Told:
    """What findings of packages say already."""

    files: frozenset[str]
    """What packages that are not the locked ones say that they brought."""
    replaced: Mapping[PartName, frozenset[str]]
    """Names of locked packages that are not there, or in another version."""
    has_debs: bool

    def says(self, one: Difference, part: PartName) -> bool:
        """Whether a package's own finding says it: what a stranger lists says nothing of files of the lock."""
        if one.way == "added" and not one.owner:
            listed = one.path in self.files or compiled_from(one.path) in self.files
            return listed or (self.has_debs and _DPKG_ADDS.match(one.path) is not None)
        if one.owner:
            return one.owner in self.replaced.get(part, ())
        return self.has_debs and part == "base" and _DPKG.match(one.path) is not None


# ---- packages --------------------------------------------------------------------------------------

_Packages = tuple[tuple[PackageDrift, ...], frozenset[str], frozenset[str]]
"""What differs, the files that it brought, and the names of those of the lock that are not there as locked."""


def _python(compared: Compared, lock: Lock) -> _Packages:
    """Compare the environment's packages, and find those that are somewhere else and nobody brought."""
    locked = {package.name: package.version for package in lock.runtime}
    here, elsewhere = [], []
    for one in pythons_of(compared.image, compared.actual):
        if _INSTALLED.fullmatch(one.path):
            here.append(one)
        elif not compared.expected.absent and not compared.is_held(one.path):
            elsewhere.append(one)
    drift, files = _packages(here, locked, "the lock", _places)
    for one in elsewhere:
        message = f"{one.version} is in the image, but not in the lock"
        drift.append(PackageDrift(name=one.name, message=message, path=one.path, layer=one.layer))
        files |= _brought(one, _places(one))
    # What installers write beside a package's own files need not be in its list.
    folders = tuple(f"{posixpath.dirname(one.path)}/" for one in drift if one.path)
    files |= {path for path in compared.actual if path.startswith(folders)}
    return tuple(drift), frozenset(files), _replaced(here, locked)


def _places(one: Present) -> tuple[str, ...]:
    """Return the folders that a Python package brings files to: the others of its own, and those beside them."""
    folder = posixpath.dirname(one.path)
    site = posixpath.dirname(folder)
    if found := _SITE.fullmatch(site):
        return (f"{site}/", *(f"{found['top']}{name}/" for name in ("bin", "include", "share")))
    return (f"{folder}/",)


def _debs(compared: Compared, stack: Stack, lock: Lock) -> _Packages:
    present = list(debs_of(compared.image, compared.actual))
    status = compared.expected.status
    if status:
        locked = debs_in(status.decode("utf-8", "replace"))
        where = "the root file system of the lock"
    else:
        locked = {deb.package: deb.version for deb in lock.debs if "runtime" in deb.roots}
        where = "the lock"
        if not stack.base.debian:
            # The others came with the base image, whose digest is locked.
            present = [one for one in present if one.name in locked]
    drift, files = _packages(present, locked, where, lambda _: _OF_DEBS)
    names = {one.name for one in drift}
    files |= {
        path
        for path in compared.actual
        if path.startswith("var/lib/dpkg/info/")
        and posixpath.basename(path).rpartition(".")[0].partition(":")[0] in names
    }
    return tuple(drift), frozenset(files), _replaced(present, locked)


def _conda(compared: Compared, lock: Lock) -> _Packages:
    locked = {package.name: f"{package.version} {package.build}" for package in lock.conda}
    present = conda_of(compared.image, compared.actual, CONDA_FOLDER)
    if not locked:
        present = tuple(one for one in present if not compared.is_held(one.path))
    drift, files = _packages(present, locked, "the lock", lambda _: _OF_CONDA)
    return tuple(drift), frozenset(files), _replaced(present, locked)


def _replaced(present: Iterable[Present], locked: Mapping[str, str]) -> frozenset[str]:
    """Return the locked packages that are not there, or in another version alone."""
    there = {one.name for one in present if one.version == locked.get(one.name)}
    return frozenset(locked.keys() - there)


def _brought(one: Present, places: tuple[str, ...]) -> set[str]:
    """Return what a package says that it brought, and the file that says it, below *places*."""
    return {path for path in one.files if path.startswith(places)} | {one.path}


def _packages(
    present: Iterable[Present],
    locked: Mapping[str, str],
    where: str,
    places: Callable[[Present], tuple[str, ...]],
) -> tuple[list[PackageDrift], set[str]]:
    drift: list[PackageDrift] = []
    files: set[str] = set()
    seen: set[str] = set()
    for one in sorted(present, key=lambda one: (one.name, one.path)):
        expected = locked.get(one.name)
        seen.add(one.name)
        if one.version == expected:
            continue
        message = (
            f"{one.version} is in the image, but not in {where}"
            if expected is None
            else f"the image has {one.version}, {where} {expected}"
        )
        drift.append(PackageDrift(name=one.name, message=message, path=one.path, layer=one.layer))
        files |= _brought(one, places(one))
    for name in sorted(locked.keys() - seen):
        message = f"{locked[name]} is locked, but not in the image"
        drift.append(PackageDrift(name=name, message=message, path="", layer=None))
    return sorted(drift, key=lambda one: one.name), files


# ---- what must be there ----------------------------------------------------------------------------

_CHECKS: dict[PartName, str] = {
    "base": "image-base-files",
    "conda": "image-conda-files",
    "asset": "image-assets",
    "source": "image-sources",
    "package": "image-package-files",
    "own": "image-own-files",
    "sbom": "image-sbom",
}
_WORDS: dict[PartName, str] = {
    "base": "of the base",
    "conda": "of the conda packages",
    "asset": "of asset `{}`",
    "source": "of source `{}`",
    "package": "of {}",
    "own": "of the Dockerfile",
    "sbom": "of what follows from the lock",
}


def _wanted(compared: Compared) -> Iterator[tuple[Difference, PartName]]:
    """Yield what is missing or another than it shall be."""
    for path, want in compared.expected.files.items():
        placed = compared.actual.get(path)
        if placed is None:
            if not want.optional and want.kind != "folder":
                layer = _removed_by(compared, path)
                yield _difference("missing", path, want, "is missing", layer), want.part
        elif said := _other(compared, path, want, placed):
            yield _difference("changed", path, want, said, placed.layer), want.part


def _difference(way: Way, path: str, want: Want, said: str, layer: int | None) -> Difference:
    owner = f" ({want.owner})" if want.part == "base" and want.owner else ""
    words = _WORDS[want.part].format(want.owner) + owner
    return Difference(
        check=_CHECKS[want.part],
        way=way,
        path=path,
        message=f"{words}: {said}",
        layer=layer,
        owner=want.owner,
    )


def _other(compared: Compared, path: str, want: Want, placed: Placed) -> str:
    """Return in what a file differs from what it shall be; empty where it does not."""
    file = placed.file
    # What is made may be a link to what is made, as the environment's Python is.
    linked = want.kind == "file" and want.contents == MADE and file.kind == "symlink"
    if file.kind != want.kind and not linked:
        return f"is a {file.kind}, expected a {want.kind}"
    if want.kind != "folder" and file.content not in want.contents:
        if MADE & want.contents:
            if placed.layer != compared.anchor:
                return "was changed after the environment was made"
        elif not (
            want.part == "package" and file.content in compared.expected.recheck(want.owner, path)
        ):
            kind = "target" if file.kind == "symlink" else "sha256"
            return f"found {kind} {_short(file.content)}, expected {_short(min(want.contents))}"
    if want.rights and file.kind != "symlink":
        rights = (file.mode, file.uid, file.gid)
        if rights != want.rights:
            return f"found {_rights(rights)}, expected {_rights(want.rights)}"
    return ""


def _short(content: str) -> str:
    return f"{content[:_SHORT]}…" if re.fullmatch(r"[0-9a-f]{64}", content) else f"`{content}`"


def _rights(rights: tuple[int, int, int]) -> str:
    mode, uid, gid = rights
    return f"mode {mode:04o} of {uid}:{gid}"


def _removed_by(compared: Compared, path: str) -> int | None:
    places = above(path)
    for number, gone in reversed(list(enumerate(compared.gone))):
        if not gone.isdisjoint(places):
            return number
    return None


def _added(compared: Compared) -> Iterator[tuple[Difference, PartName]]:
    """Yield the files of every layer that the lock does not bring."""
    files = compared.expected.files
    for number, layer in enumerate(compared.image.layers):
        for file in layer.content.files:
            path = compared.shown.get((number, file.path))
            if file.kind == "folder" or (path in files if path else False):
                continue
            if compared.ours(number, file) or _is_bytecode(compared, number, path or file.path):
                continue
            place = path or file.path
            source = files.get(compiled_from(place) or "")
            if source is not None and source.part == "package" and path:
                said = "bytecode that did not come with its module, and runs in its place"
                yield _difference("added", place, source, said, number), "package"
                continue
            hidden = "" if path else compared.later(number, file.path)
            yield (
                Difference(
                    check="image-extra",
                    way="added",
                    path=place,
                    message=f"{size_of(file)} that the lock does not bring{hidden}",
                    layer=number,
                ),
                "own",
            )


def _is_bytecode(compared: Compared, number: int, path: str) -> bool:
    """Whether a file is what compiling the environment makes: it comes with it, beside its module."""
    source = compiled_from(path)
    return (
        source is not None
        and number == compared.anchor
        and path.startswith(f"{_TOP}/lib/")
        and source in compared.expected.files
    )


def build_paths(image: LayeredImage) -> Iterator[tuple[LayerFile, int, str]]:
    """Yield each file that names a path of the machine that built it, its layer from 0, and the path."""
    for number, layer in enumerate(image.layers):
        for file in (*layer.content.files, *layer.content.replaced):
            for path in marks(file, PATH):
                yield file, number, path
