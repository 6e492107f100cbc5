"""What a lock holds, as frozen values. Pure."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from lockbuild.digest import Sha256, canonical_json, sha256_of
from lockbuild.errors import LockError

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from lockbuild.assetlock import LockedAsset
    from lockbuild.condalock import LockedConda
    from lockbuild.digest import StorePath
    from lockbuild.imagelock import LockedImage

__all__ = [
    "LOCK_FILE",
    "LOCK_VERSION",
    "REQUIREMENTS",
    "RUNTIME_LOCK",
    "BuiltPin",
    "Lock",
    "LockedDeb",
    "LockedFile",
    "LockedInterpreter",
    "LockedPackage",
    "LockedSource",
    "OpenPart",
    "build_lock_name",
    "closure",
    "content_digest",
]

LOCK_FILE = "lockbuild.lock"
LOCK_VERSION = 1
RUNTIME_LOCK = "pylock.toml"
REQUIREMENTS = "requirements.txt"
_NOT_WRITTEN = Sha256("")


@dataclass(frozen=True, slots=True, kw_only=True)
class LockedFile:
    """A file by name and content."""

    filename: str
    sha256: Sha256
    size: int | None = None
    """Bytes; none where the index does not tell."""


@dataclass(frozen=True, slots=True, kw_only=True)
class LockedPackage:
    """A Python package as resolved for the target."""

    name: str
    """Normalised."""
    version: str
    index: str = "pypi"
    """Name of the index that serves it; empty for a package that is built or has `urls`."""
    urls: tuple[str, ...] = ()
    """Where its wheel may be had, for one that the stack pins itself."""
    wheel: LockedFile | None = None
    """The best wheel for the target; none for a package that is built, or whose wheel is open."""
    dependencies: tuple[str, ...] = ()
    """Normalised names of the packages it requires on the target, sorted."""
    requested: bool = False
    """Whether the stack itself asks for it."""


@dataclass(frozen=True, slots=True, kw_only=True)
class LockedSource:
    """The source of a build, or a source that is not built itself."""

    name: str
    """The build's name, or the source's own."""
    version: str
    """Of the build; empty for a source that is not built."""
    index: str
    """Name of the index that serves an sdist; empty for the others."""
    file: LockedFile
    """An sdist; the archive that lockbuild makes of a folder; for a commit, the tree, whose sha256 is that
    of its canonical listing."""
    path: str | None = None
    """Folder below the stack's folder."""
    commit: str | None = None
    """For a tree of a repository."""
    ref: str | None = None
    """The branch or tag that stood for the commit, where the stack names one."""
    submodules: tuple[tuple[str, str, str], ...] = ()
    """Path, address and commit of each submodule that is part of the tree."""
    patches: tuple[tuple[str, LockedFile], ...] = ()
    """Path below the stack's folder and content of each patch that edits it, sorted."""


@dataclass(frozen=True, slots=True, kw_only=True)
class LockedDeb:
    """A Debian package and the root file systems that hold it."""

    package: str
    version: str
    architecture: str
    path: str
    """Path below the archive's root."""
    sha256: Sha256
    size: int
    source: str
    """Source package and version: `zlib 1:1.2.13.dfsg-1`."""
    roots: tuple[str, ...]
    """`runtime`, `toolchain`: sorted."""

    @property
    def filename(self) -> str:
        """The file's name in the archive."""
        return self.path.rpartition("/")[2]


@dataclass(frozen=True, slots=True, kw_only=True)
class LockedInterpreter:
    """The Python of the machine that resolved, as an archive."""

    file: LockedFile
    version: str
    """`3.12.1`."""
    glibc: str
    """The oldest C library that it runs with; empty where it is linked with none."""


@dataclass(frozen=True, slots=True, kw_only=True)
class BuiltPin:
    """The bytes that a build gave when it was pinned."""

    name: str
    derivation: StorePath
    wheel: LockedFile


@dataclass(frozen=True, slots=True, kw_only=True, order=True)
class OpenPart:
    """A part of a stack that nobody knows yet: it could not be had, and never was before."""

    kind: str
    """`apt` (all Debian packages of a suite), `asset`, `base` (an image), `conda` (all conda packages), `interpreter`,
    `source` or `wheel`."""
    name: str
    """The suite; the channels; the asset; the root file system; the build or source; the normalised project; the
    interpreter's command."""
    reason: str
    """Why it could not be had, on one line."""

    @property
    def label(self) -> str:
        """What people call it: `source mmcv-full`."""
        return f"{self.kind} {self.name}"


@dataclass(frozen=True, slots=True, kw_only=True)
class Lock:
    """Everything that was resolved for a stack."""

    inputs: tuple[tuple[str, str], ...]
    """Key path in the stack -> short digest, sorted; see `lockbuild.stack.inputs_of`."""
    runtime: tuple[LockedPackage, ...]
    build: tuple[tuple[str, tuple[LockedPackage, ...]], ...]
    """Name of a build environment -> its packages; both sorted by name."""
    sources: tuple[LockedSource, ...]
    debs: tuple[LockedDeb, ...]
    pins: tuple[BuiltPin, ...] = ()
    """Of the wheels that people get, with label and provenance."""
    compiled: tuple[BuiltPin, ...] = ()
    """Of the same wheels as they were compiled: these pins outlive another label."""
    assets: tuple[LockedAsset, ...] = ()
    """Those that the image has, sorted by name."""
    images: tuple[LockedImage, ...] = ()
    """What root file systems stand on, sorted by root; none where .debs are all there is."""
    conda: tuple[LockedConda, ...] = ()
    """Sorted by name."""
    interpreter: LockedInterpreter | None = None
    """None where Python is not the resolving machine's, and while it is open."""
    open: tuple[OpenPart, ...] = ()
    """What is open beside assets, which say so themselves; sorted."""
    digest: Sha256 = _NOT_WRITTEN
    """Digest of all files together."""

    def build_environment(self, name: str) -> tuple[LockedPackage, ...]:
        """Return the packages of the build environment called *name*.

        Raises:
            LockError: The lock has none of that name.
        """
        packages = dict(self.build).get(name)
        if packages is None:
            raise LockError(
                f"{LOCK_FILE} names no {build_lock_name(name)}", hint="`lockbuild resolve` writes it"
            )
        return packages

    @property
    def open_parts(self) -> tuple[OpenPart, ...]:
        """Everything that is open, assets included; sorted."""
        assets = (
            OpenPart(kind="asset", name=asset.name, reason=asset.reason)
            for asset in self.assets
            if asset.sha256 is None
        )
        return tuple(sorted((*self.open, *assets)))

    def open_of(self, kind: str) -> dict[str, OpenPart]:
        """Return name -> part of everything of *kind* that is open."""
        return {part.name: part for part in self.open_parts if part.kind == kind}

    def pin(self, name: str) -> BuiltPin | None:
        """Return the pin of the build called *name*, if it has one."""
        return next((pin for pin in self.pins if pin.name == name), None)

    def pin_of(self, derivation: StorePath) -> BuiltPin | None:
        """Return the pin of what *derivation* gives, compiled or stamped, if it has one."""
        found = (pin for pin in (*self.pins, *self.compiled) if pin.derivation == derivation)
        return next(found, None)

    def image(self, root: str) -> LockedImage | None:
        """Return the image that the root file system called *root* stands on, if it stands on one."""
        return next((image for image in self.images if image.root == root), None)

    def source(self, name: str) -> LockedSource:
        """Return the source of the build called *name*.

        Raises:
            LockError: The lock has none.
        """
        found = next((source for source in self.sources if source.name == name), None)
        if found is None:
            raise LockError(
                f"{LOCK_FILE} has no source of `{name}`", hint="`lockbuild resolve` finds it"
            )
        return found


def build_lock_name(environment: str) -> str:
    """Return the file name of a build environment's lock: `pylock.build.toml` for the unnamed one."""
    return f"pylock.build-{environment}.toml" if environment else "pylock.build.toml"


def closure(packages: Iterable[LockedPackage], names: Iterable[str]) -> tuple[LockedPackage, ...]:
    """Return the packages called *names* and all they require, sorted by name."""
    by_name = {package.name: package for package in packages}
    found: dict[str, LockedPackage] = {}
    waiting = list(names)
    while waiting:
        name = waiting.pop()
        if name not in found and name in by_name:
            found[name] = by_name[name]
            waiting.extend(by_name[name].dependencies)
    return tuple(found[name] for name in sorted(found))


def content_digest(content: Mapping[str, Any]) -> Sha256:
    """Return the digest of everything in `lockbuild.lock` but the digest itself."""
    kept = {key: value for key, value in content.items() if key != "digest" and value != []}
    return sha256_of(canonical_json(kept))
