"""What a stack says, as frozen values. Pure."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING
from urllib.parse import unquote

from lockbuild.derivation import CONDA_FOLDER, INTERPRETER_FOLDER
from lockbuild.stack.assets import ON_FIRST_FETCH
from lockbuild.stack.audit import AuditPolicy
from lockbuild.stack.toolchain import Toolchain

if TYPE_CHECKING:
    from lockbuild.edits import Edit
    from lockbuild.stack.assets import Asset
    from lockbuild.stack.conda import Conda
    from lockbuild.target import Target

__all__ = [
    "Apt",
    "Base",
    "BuildSpec",
    "DebianBase",
    "Image",
    "Index",
    "Interpreter",
    "Mount",
    "NamedSource",
    "PinnedWheel",
    "Python",
    "Source",
    "Stack",
    "Standalone",
    "file_name_of",
]


@dataclass(frozen=True, slots=True, kw_only=True)
class DebianBase:
    """Root file systems made from locked .debs."""

    suite: str
    """`bookworm`: the release suite alone is used, whose versions stand still between point releases."""
    vendor: str = "debian"
    """Whose archive: `debian` or `ubuntu`."""
    components: tuple[str, ...] = ("main",)
    snapshot: str | None = None
    """Time stamp of a snapshot archive (`20250601T000000Z`); none for the archive as it is now."""
    updates: tuple[str, ...] = ()
    """Further suites of the archive: `focal-updates`. Only beside images, which hold what came with them."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Base:
    """What toolchain and runtime stand on: root file systems made from .debs, or images of a registry."""

    debian: DebianBase | None = None
    toolchain: str | None = None
    """Image that extensions are compiled in: `docker.io/nvidia/cuda:TAG@sha256:…`; without `debian`."""
    runtime: str | None = None
    """Image that the stack's own stands on; without `debian`."""
    packages: DebianBase | None = None
    """Where .debs come from that are installed on top of images."""

    @property
    def archive(self) -> DebianBase | None:
        """Where .debs come from; none where images are all there is."""
        return self.debian or self.packages

    @property
    def images(self) -> tuple[tuple[str, str], ...]:
        """Root file system and image of each, sorted; none of a base that is made from .debs."""
        return tuple(
            (root, reference)
            for root, reference in (("runtime", self.runtime), ("toolchain", self.toolchain))
            if reference is not None
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class Standalone:
    """A CPython that works wherever it is unpacked: an `install_only` archive of python-build-standalone."""

    url: tuple[str, ...]
    """Where it may be had, asked in order."""
    sha256: str
    size: int | None = None

    @property
    def filename(self) -> str:
        """The archive's name: that of the first address."""
        return file_name_of(self.url[0])


@dataclass(frozen=True, slots=True, kw_only=True)
class Interpreter:
    """Where Python comes from: exactly one of these."""

    apt: str | None = None
    """Debian package: `python3`."""
    image: str | None = None
    """Command in the base images: `python3.8`, or its absolute path."""
    standalone: Standalone | None = None
    conda: str | None = None
    """The conda package that brings it."""
    host: str | None = None
    """Command of the machine that resolves: `python3.12`."""

    @property
    def folder(self) -> str | None:
        """Where it is in a root file system; none for one that is spread over the system's own folders."""
        if self.standalone or self.host:
            return INTERPRETER_FOLDER
        return CONDA_FOLDER if self.conda else None


@dataclass(frozen=True, slots=True, kw_only=True)
class Apt:
    """Packages wanted in each root file system, beside Debian's essential ones."""

    toolchain: tuple[str, ...] = ()
    runtime: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class Index:
    """A package index that serves only what is named, so that no other package can come from it."""

    name: str
    url: str
    only: tuple[str, ...]
    """Normalised project names."""


@dataclass(frozen=True, slots=True, kw_only=True)
class PinnedWheel:
    """A wheel known by its bytes, or by the first that come, so that resolving needs no access to the index it comes from."""

    name: str
    version: str
    """With its local label: `2.7.1+cu118`."""
    filename: str
    url: tuple[str, ...]
    """Where it may be had, asked in order."""
    sha256: str
    """`ON_FIRST_FETCH` where nobody publishes one."""
    size: int | None = None
    requires: tuple[str, ...] = ()
    """Its run-time requirements, as its own metadata says them."""

    @property
    def first_fetched(self) -> bool:
        """Whether nobody but its first fetch tells its hash."""
        return self.sha256 == ON_FIRST_FETCH


@dataclass(frozen=True, slots=True, kw_only=True)
class Python:
    """What is installed by wheels, and what may be said about resolving it."""

    requires: tuple[str, ...] = ()
    constraints: tuple[str, ...] = ()
    overrides: tuple[str, ...] = ()
    """Pins stronger than a package's own requirements."""
    reasons: tuple[tuple[str, str], ...] = ()
    """Constraint or override -> why it is there, for people."""
    exclude_newer: str | None = None
    """Files uploaded later than this date or time do not exist."""
    indexes: tuple[Index, ...] = ()
    wheels: tuple[PinnedWheel, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class Source:
    """Where code comes from: an sdist, a folder beside the stack file, or a commit."""

    sdist: str | None = None
    """`NAME==VERSION`."""
    path: str | None = None
    """Folder below the stack's folder."""
    git: str | None = None
    """Address of a repository."""
    commit: str | None = None
    """40 hexadecimal digits; every commit's tree is one set of bytes, wherever it comes from."""
    ref: str | None = None
    """A branch or tag, in place of a commit: the lock has the commit that it stood for."""
    submodules: bool = False
    include: tuple[str, ...] = ()
    """Path patterns of what is wanted of the tree; none for everything."""
    exclude: tuple[str, ...] = ()
    subdirectory: str | None = None
    """Folder of the tree that is built, or goes into the image."""


@dataclass(frozen=True, slots=True, kw_only=True)
class NamedSource:
    """A pinned source that is not built itself: application code, or something to graft from."""

    name: str
    source: Source
    path: str = ""
    """The folder of the image that its tree is in; empty where the image has it not."""
    edits: tuple[Edit, ...] = ()
    """Changes to the tree in the image, in order; a graft takes from the tree as it was."""
    writable: bool = False
    """Whether the image's user may write there; else the files are root's."""
    license: str = ""
    accept_license: str = ""
    """Why the image may hold it although its licence does not let everybody pass it on."""


@dataclass(frozen=True, slots=True, kw_only=True)
class BuildSpec:
    """A package compiled in the sandbox into a wheel."""

    name: str
    version: str
    source: Source
    edits: tuple[Edit, ...] = ()
    """Changes to the source, in order."""
    needs: tuple[str, ...] = ()
    """Packages of the runtime lock that the build imports or links: the very same bytes."""
    build_requires: tuple[str, ...] = ()
    requires: tuple[str, ...] = ()
    """Run-time requirements, said here so that resolving runs no setup.py."""
    environment: str = ""
    """Builds that name the same one share one lock of build requirements."""
    env: tuple[tuple[str, str], ...] = ()
    expects: tuple[str, ...] = ()
    """Patterns of files that the wheel must hold: `mmcv/_ext*.so`."""
    label: str | None = None
    """Local version label of the wheel, empty for none; nothing said: what it was compiled against."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Mount:
    """A folder or file that whoever runs the image brings along."""

    path: str
    """Where it is in the image."""
    holds: tuple[str, ...] = ()
    """Paths and patterns below it that must be there; none for a file."""
    why: str = ""
    """What it is, and why the image does not have it: said when it is missing."""
    optional: bool = False
    """Whether the image is of use without it."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Image:
    """How the image is run."""

    user: str = "lockbuild"
    workdir: str = "/workspace"
    entrypoint: tuple[str, ...] = ()
    command: tuple[str, ...] = ("python3",)


@dataclass(frozen=True, slots=True, kw_only=True)
class Stack:
    """A declared environment."""

    name: str
    summary: str
    target: Target
    base: Base
    interpreter: Interpreter
    apt: Apt = field(default_factory=Apt)
    toolchain: Toolchain = field(default_factory=Toolchain)
    python: Python = field(default_factory=Python)
    builds: tuple[BuildSpec, ...] = ()
    sources: tuple[NamedSource, ...] = ()
    conda: Conda | None = None
    """None where the image has no conda packages."""
    env: tuple[tuple[str, str], ...] = ()
    """Environment variables of the image, sorted by name."""
    mounts: tuple[Mount, ...] = ()
    """Those that assets ask for are among them."""
    assets: tuple[Asset, ...] = ()
    """In the order of the stack file."""
    gpu: str = "none"
    """Whether the image's command needs a GPU: `none`, `optional` or `required`."""
    imports: tuple[str, ...] = ()
    """Modules that must import in the image."""
    checks: tuple[str, ...] = ()
    """Python programs that must run in the image without an error."""
    image: Image = field(default_factory=Image)
    audit: AuditPolicy = field(default_factory=AuditPolicy)

    def build(self, name: str) -> BuildSpec:
        """Return the build called *name*.

        Raises:
            KeyError: There is none.
        """
        for spec in self.builds:
            if spec.name == name:
                return spec
        raise KeyError(name)

    def packages_of(self, root: str) -> tuple[str, ...]:
        """Return the packages of Debian's or Ubuntu's that the root file system *root* is to have, sorted."""
        wanted = self.apt.runtime
        if root == "toolchain":
            # An image that no archive is named for brings its compilers itself.
            wanted = (*self.apt.toolchain, *(self.toolchain.packages if self.base.archive else ()))
        python = (self.interpreter.apt,) if self.interpreter.apt else ()
        return tuple(sorted({*python, *wanted}))

    @property
    def bundles(self) -> tuple[Asset, ...]:
        """The assets that the image has."""
        return tuple(asset for asset in self.assets if asset.bundled)

    @property
    def placed(self) -> tuple[NamedSource, ...]:
        """The sources that the image has."""
        return tuple(source for source in self.sources if source.path)

    def edits_of(self, name: str) -> tuple[Edit, ...]:
        """Return the changes to the source of that name, a build's or another."""
        named = {spec.name: spec.edits for spec in self.builds}
        named |= {source.name: source.edits for source in self.sources}
        return named.get(name, ())

    def pinned_sources(self) -> tuple[NamedSource, ...]:
        """Return what every build is made of, then every further source, as the stack file has them."""
        return (
            *(NamedSource(name=spec.name, source=spec.source) for spec in self.builds),
            *self.sources,
        )

    def build_environments(self) -> tuple[str, ...]:
        """Return the names of the build environments, sorted.

        The unnamed one, the empty string, is always among them: it brings what installs wheels.
        """
        return tuple(sorted({"", *(spec.environment for spec in self.builds)}))


def file_name_of(url: str) -> str:
    """Return the file name that an address ends in, without what follows it (`#sha256=…`)."""
    return unquote(url.partition("#")[0].partition("?")[0].rpartition("/")[2])
