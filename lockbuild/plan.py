"""From stack and lock to the derivations that realise them. Pure: asks neither store nor network."""

from __future__ import annotations

import shlex
from dataclasses import dataclass
from typing import TYPE_CHECKING

from packaging.utils import canonicalize_name

from lockbuild.derivation import (
    INTERPRETER_FOLDER,
    Addresses,
    ArchiveMembers,
    BesideFile,
    Build,
    Derivation,
    Fetch,
    FolderArchive,
    GitTree,
    IndexFile,
    PoolFile,
    Where,
    rootfs_command,
)
from lockbuild.digest import parse_sha256
from lockbuild.edits import Graft, source_build
from lockbuild.errors import LockError, StackError
from lockbuild.lock import LockedFile, build_lock_name, closure

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from lockbuild.assetlock import LockedAsset
    from lockbuild.digest import StorePath
    from lockbuild.lock import Lock, LockedDeb, LockedPackage
    from lockbuild.stack import Asset, BuildSpec, Interpreter, Source, Stack, Standalone
    from lockbuild.target import Target

__all__ = [
    "EPOCH",
    "INSTALLER",
    "ROOTS",
    "Missing",
    "Plan",
    "asset_fetch",
    "compilers",
    "make_plan",
    "missing",
    "search_path",
]

EPOCH = 315532800
"""SOURCE_DATE_EPOCH of every build: 1980-01-01, the first day that a zip archive can hold. Seconds."""

INSTALLER = "pip"
"""The package of the build environment that installs wheels, there and in the image."""

ROOTS = ("runtime", "toolchain")
"""The root file systems of a stack."""

_ENVIRONMENT = "environment"
_INPUTS = "/build/inputs"
_SYSTEM_PATH = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"


@dataclass(frozen=True, slots=True, kw_only=True)
class Plan:
    """Every derivation that a stack needs, and which of them were asked for."""

    derivations: Mapping[StorePath, Derivation]
    wheels: tuple[tuple[str, StorePath], ...]
    """Normalised name of each package of the runtime lock that is fetched -> its wheel."""
    builds: tuple[tuple[str, StorePath], ...]
    """Normalised name of each package that is built -> its build."""
    roots: tuple[tuple[str, StorePath], ...]
    """Name of each root file system -> its build."""
    installer: StorePath
    """The wheel of `INSTALLER`."""
    assets: tuple[tuple[str, StorePath], ...] = ()
    """Name of each asset of the image -> its file, or the folder of its members; the stack's order. Those
    that are open in the lock are left out."""

    @property
    def targets(self) -> tuple[StorePath, ...]:
        """Return what an image needs: wheels, builds, root file systems, assets and the installer."""
        named = (*self.wheels, *self.builds, *self.roots, *self.assets)
        return tuple(dict.fromkeys((*(path for _, path in named), self.installer)))

    def fetches(self) -> tuple[Fetch, ...]:
        """Return every fetch, sorted by store path."""
        found = (self.derivations[path] for path in sorted(self.derivations))
        return tuple(derivation for derivation in found if isinstance(derivation, Fetch))

    def name_of(self, path: StorePath) -> str:
        """Return what people call the derivation at *path*."""
        derivation = self.derivations[path]
        return derivation.filename if isinstance(derivation, Fetch) else derivation.name


@dataclass(frozen=True, slots=True, kw_only=True)
class Missing:
    """What is still to be done to realise targets."""

    to_fetch: tuple[Fetch, ...]
    """Sorted by file name."""
    to_build: tuple[Build, ...]
    """In an order in which each comes after what it needs."""

    @property
    def nothing(self) -> bool:
        """Whether everything is there."""
        return not self.to_fetch and not self.to_build


def missing(plan: Plan, targets: Iterable[StorePath], *, valid: frozenset[StorePath]) -> Missing:
    """Return what must be fetched and built to realise *targets*.

    A valid output hides its inputs: they are neither fetched nor built unless something else needs them.

    Args:
        valid: Paths the store already has.
    """
    fetches: dict[StorePath, Fetch] = {}
    builds: dict[StorePath, Build] = {}

    def visit(path: StorePath) -> None:
        if path in valid or path in fetches or path in builds:
            return
        derivation = plan.derivations[path]
        if isinstance(derivation, Fetch):
            fetches[path] = derivation
            return
        for reference in derivation.references:
            visit(reference)
        builds[path] = derivation

    for target in targets:
        visit(target)
    return Missing(
        to_fetch=tuple(sorted(fetches.values(), key=lambda fetch: (fetch.filename, fetch.sha256))),
        to_build=tuple(builds.values()),
    )


def make_plan(stack: Stack, lock: Lock) -> Plan:
    """Return the plan that follows from *stack* and *lock*.

    Raises:
        LockError: The lock lacks something that the stack needs.
        StackError: Builds need one another in a circle.
    """
    planner = _Planner(stack, lock)
    roots = tuple((root, planner.root(root)) for root in ROOTS)
    wheels = tuple((p.name, planner.wheel(p, p.wheel).path) for p in lock.runtime if p.wheel)
    builds = tuple(
        (spec.name, planner.build(spec)) for spec in sorted(stack.builds, key=lambda b: b.name)
    )
    locked = {asset.name: asset for asset in lock.assets}
    assets = tuple(
        (asset.name, fetch.path)
        for asset in stack.bundles
        if (fetch := asset_fetch(asset, locked.get(asset.name))) and planner.add(fetch)
    )
    return Plan(
        derivations=planner.derivations,
        wheels=wheels,
        builds=builds,
        roots=roots,
        installer=planner.installer("").path,
        assets=assets,
    )


def asset_fetch(asset: Asset, locked: LockedAsset | None) -> Fetch | None:
    """Return how *asset* is fetched; none while it is open.

    Raises:
        LockError: The lock does not know it at all.
    """
    if locked is None:
        raise LockError(f"the lock has no asset `{asset.name}`", hint="`lockbuild resolve` pins it")
    if locked.sha256 is None:
        return None
    where: Where = Addresses(urls=asset.url, type=asset.type)
    if locked.archive:
        where = ArchiveMembers(
            urls=asset.url,
            archive=locked.archive.sha256,
            archive_size=locked.archive.size,
            members=asset.members,
            type=asset.type,
        )
    return Fetch(filename=asset.name, sha256=locked.sha256, size=locked.size, where=where)


def search_path(interpreter: Interpreter) -> str:
    """Return the PATH on which `python3` is the stack's."""
    # By way of the links in /usr/local/bin, an older Python makes virtual environments that do not work.
    return f"{INTERPRETER_FOLDER}/bin:{_SYSTEM_PATH}" if interpreter.standalone else _SYSTEM_PATH


def compilers(interpreter: Interpreter, own: Mapping[str, str]) -> dict[str, str]:
    """Return the variables that name the compilers and linkers for extensions, beside a build's *own*.

    A Python from Debian knows Debian's. A standalone one remembers the clang and the archiver of the machine
    that it was made on, which the toolchain has not.
    """
    if interpreter.standalone is None:
        return {}
    cc, cxx = own.get("CC", "gcc"), own.get("CXX", "g++")
    linkers = {"LDSHARED": f"{cc} -shared", "LDCXXSHARED": f"{cxx} -shared"}
    return {"AR": "ar", "CC": cc, "CXX": cxx, **linkers}


class _Planner:
    """Collects derivations while it walks from builds to what they need."""

    def __init__(self, stack: Stack, lock: Lock) -> None:
        self.derivations: dict[StorePath, Derivation] = {}
        self._stack = stack
        self._lock = lock
        self._urls = {index.name: index.url for index in stack.python.indexes}
        self._waiting: list[str] = []
        self._roots: dict[str, StorePath] = {}
        self._sources = {source.name: source.source for source in stack.pinned_sources()}
        self._path = search_path(stack.interpreter)
        self._resolve_hint = f"lockbuild resolve {stack.name}"

    def add(self, derivation: Derivation) -> StorePath:
        path = derivation.path
        self.derivations[path] = derivation
        return path

    def _fetch(self, file: LockedFile, where: Where) -> Fetch:
        fetch = Fetch(filename=file.filename, sha256=file.sha256, size=file.size, where=where)
        self.add(fetch)
        return fetch

    def _of_index(self, index: str, project: str) -> IndexFile:
        return IndexFile(index=index, project=project, url=self._urls.get(index))

    def wheel(self, package: LockedPackage, file: LockedFile) -> Fetch:
        if package.urls:
            return self._fetch(file, Addresses(urls=package.urls))
        return self._fetch(file, self._of_index(package.index, package.name))

    def installer(self, environment: str) -> Fetch:
        for package in self._lock.build_environment(environment):
            if package.name == INSTALLER and package.wheel:
                return self.wheel(package, package.wheel)
        raise LockError(
            f"{build_lock_name(environment)} has no wheel of `{INSTALLER}`", hint=self._resolve_hint
        )

    def _deb(self, deb: LockedDeb) -> Fetch:
        base = self._stack.base.debian
        where = PoolFile(vendor=base.vendor, path=deb.path, snapshot=base.snapshot)
        file = LockedFile(filename=deb.filename, sha256=deb.sha256, size=deb.size)
        return self._fetch(file, where)

    def _standalone(self, archive: Standalone) -> Fetch:
        file = LockedFile(
            filename=archive.filename, sha256=parse_sha256(archive.sha256), size=archive.size
        )
        return self._fetch(file, Addresses(urls=archive.url))

    def root(self, root: str) -> StorePath:
        if root not in self._roots:
            self._roots[root] = self._make_root(root)
        return self._roots[root]

    def _make_root(self, root: str) -> StorePath:
        debs = [deb for deb in self._lock.debs if root in deb.roots]
        inputs = [(deb.filename, self._deb(deb).path) for deb in debs]
        interpreter = None
        if standalone := self._stack.interpreter.standalone:
            interpreter = (self._stack.target.python, standalone.filename)
            inputs.append((standalone.filename, self._standalone(standalone).path))
        return self.add(
            Build(
                name=f"{self._stack.base.debian.suite}-{root}",
                kind="rootfs",
                system=self._stack.target.system,
                toolchain=None,
                command=rootfs_command(self._stack.base.debian.suite, debs, interpreter=interpreter),
                env=(("SOURCE_DATE_EPOCH", str(EPOCH)),),
                inputs=tuple(sorted(inputs)),
            )
        )

    def _source(self, name: str) -> Fetch:
        """Return the fetch of a pinned source: an archive, or a tree."""
        locked = self._lock.source(name)
        if locked.path:
            return self._fetch(locked.file, FolderArchive(path=locked.path))
        if locked.commit:
            return self._fetch(locked.file, _git_tree(self._sources[name], locked.commit))
        return self._fetch(locked.file, self._of_index(locked.index, canonicalize_name(name)))

    def _edited(self, spec: BuildSpec) -> tuple[StorePath, str | None]:
        """Return the source of *spec* as it is built, and its file name if it is an archive."""
        fetch = self._source(spec.name)
        if not spec.edits:
            return fetch.path, None if isinstance(fetch.where, GitTree) else fetch.filename
        patches = {
            path: self._fetch(file, BesideFile(path=path)).path
            for path, file in self._lock.source(spec.name).patches
        }
        grafts = {edit.source for edit in spec.edits if isinstance(edit, Graft)}
        build = source_build(
            f"{spec.name}-source",
            system=self._stack.target.system,
            toolchain=self.root("toolchain"),
            tree=fetch.path,
            edits=spec.edits,
            patches=patches,
            grafts={name: self._source(name).path for name in sorted(grafts)},
            epoch=EPOCH,
            path_env=self._path,
        )
        return self.add(build), None

    def _environment(self, spec: BuildSpec) -> StorePath:
        """Return the build environment of *spec*: only what it asks for and needs, with what that requires."""
        packages = self._lock.build_environment(spec.environment)
        asked = _projects(spec.build_requires, self._stack.target)
        wanted = closure(packages, [*asked, *spec.needs, INSTALLER])
        absent = sorted({*asked, *spec.needs} - {package.name for package in wanted})
        if absent:
            raise LockError(
                f"the lock lacks what build `{spec.name}` needs: {', '.join(absent)}",
                hint=self._resolve_hint,
            )
        inputs = [
            (f"wheels/{package.wheel.filename}", self.wheel(package, package.wheel).path)
            if package.wheel
            else (f"built/{package.name}", self.build(self._stack.build(package.name)))
            for package in wanted
        ]
        installer = self.installer(spec.environment).filename
        path = (("PATH", self._path),) if self._stack.interpreter.standalone else ()
        return self.add(
            Build(
                name=f"{spec.name}-environment",
                kind="environment",
                system=self._stack.target.system,
                toolchain=self.root("toolchain"),
                command=_install_command(installer, built=any(not p.wheel for p in wanted)),
                env=(*path, ("SOURCE_DATE_EPOCH", str(EPOCH))),
                inputs=tuple(sorted(inputs)),
            )
        )

    def build(self, spec: BuildSpec) -> StorePath:
        if spec.name in self._waiting:
            circle = " -> ".join([*self._waiting[self._waiting.index(spec.name) :], spec.name])
            raise StackError(
                f"builds need one another in a circle: {circle}",
                hint="take one of them out of the `needs` or `build-requires` of the next",
            )
        self._waiting.append(spec.name)
        source, archive = self._edited(spec)
        environment = self._environment(spec)
        self._waiting.pop()
        place = f"{_INPUTS}/{_ENVIRONMENT}"
        env = {
            "PATH": f"{place}/bin:{self._path}",
            "PYTHONPATH": place,
            "SOURCE_DATE_EPOCH": str(EPOCH),
        }
        if self._stack.target.cuda_architectures:
            env["TORCH_CUDA_ARCH_LIST"] = ";".join(self._stack.target.cuda_architectures)
        env |= compilers(self._stack.interpreter, dict(spec.env))
        return self.add(
            Build(
                name=f"{spec.name}-{spec.version}",
                kind="wheel",
                system=self._stack.target.system,
                toolchain=self.root("toolchain"),
                command=_wheel_command(archive, spec.source.subdirectory),
                env=tuple(sorted((env | dict(spec.env)).items())),
                inputs=tuple(
                    sorted(
                        (
                            (_ENVIRONMENT, environment),
                            (f"source/{archive}" if archive else "source", source),
                        )
                    )
                ),
            )
        )


def _projects(requirements: Iterable[str], target: Target) -> list[str]:
    """Return the normalised names in *requirements* whose markers hold on *target*."""
    from packaging.requirements import Requirement  # noqa: PLC0415 - needed only to plan a build

    environment = target.marker_environment()
    found = [Requirement(text) for text in requirements]
    return [
        canonicalize_name(r.name) for r in found if r.marker is None or r.marker.evaluate(environment)
    ]


def _install_command(installer: str, *, built: bool) -> tuple[str, ...]:
    wheels = f"{_INPUTS}/wheels/*.whl" + (f" {_INPUTS}/built/*/*.whl" if built else "")
    return (
        "/bin/sh",
        "-euc",
        (
            f"python3 {_INPUTS}/wheels/{installer}/pip install --no-index --no-deps --no-compile --no-cache-dir"
            f" --disable-pip-version-check --no-warn-script-location --target /build/out {wheels}"
        ),
    )


def _git_tree(source: Source, commit: str) -> GitTree:
    return GitTree(
        url=source.git or "",
        commit=commit,
        submodules=source.submodules,
        include=source.include,
        exclude=source.exclude,
    )


def _unpack_command(archive: str | None) -> str:
    """Return what puts the source into a folder of its own, and goes there."""
    if archive is None:
        # Inputs are read-only, and many a setup.py writes beside itself.
        return f"mkdir tree; cp -R {_INPUTS}/source/. tree; chmod -R u+w tree; cd tree"
    place = shlex.quote(f"{_INPUTS}/source/{archive}")
    unpack = (
        f"python3 -m zipfile -e {place} ."
        if archive.endswith(".zip")
        else f"tar --extract --file {place} --no-same-owner"
    )
    # An sdist holds one folder, whose name is not always its file's.
    return f"{unpack}; cd ./*/"


def _wheel_command(archive: str | None, subdirectory: str | None) -> tuple[str, ...]:
    enter = f"cd /build/source; {_unpack_command(archive)}"
    if subdirectory:
        enter += f"; cd {shlex.quote(subdirectory)}"
    return (
        "/bin/sh",
        "-euc",
        (
            f"{enter}; python3 -m pip wheel --no-index --no-deps --no-build-isolation"
            " --no-cache-dir --disable-pip-version-check --verbose --wheel-dir /build/out ."
        ),
    )
