"""What can be realised: fetches and builds, their store paths, and what a builder is told and answers.

Pure: reads and writes no files. A fetch is fixed-output, its path follows from the content's hash, so
URLs never enter it. A build is input-addressed, its path follows from everything that can change the
result. Job counts, timeouts, logs, mirrors and which engine ran stay out.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

from lockbuild.digest import JsonValue, Sha256, StorePath, store_path

if TYPE_CHECKING:
    from collections.abc import Iterable
    from pathlib import Path

    from lockbuild.lock import LockedDeb

__all__ = [
    "CONDA_FOLDER",
    "IMAGE_INPUT",
    "INTERPRETER_FOLDER",
    "PREFIX_TAR",
    "ROOTFS_TAR",
    "SANDBOX_VERSION",
    "Addresses",
    "ArchiveMembers",
    "BesideFile",
    "Build",
    "BuildKind",
    "BuildOutcome",
    "BuildStatus",
    "BuildTask",
    "ChannelFile",
    "Derivation",
    "Fetch",
    "FolderArchive",
    "GitTree",
    "HostInterpreter",
    "IndexFile",
    "JobPool",
    "PathInfo",
    "PoolFile",
    "RegistryImage",
    "Where",
    "image_rootfs_command",
    "rootfs_command",
]

SANDBOX_VERSION = 1
"""Raised whenever the sandbox changes in a way that can change what a build gives."""

CONDA_FOLDER = "/opt/conda"
"""Where conda packages are in an image."""

PREFIX_TAR = "conda.tar"
"""Name of the file that a `prefix` build gives, to be unpacked at the root of a file system."""

ROOTFS_TAR = "rootfs.tar"
"""Name of the file that a `rootfs` build gives."""

IMAGE_INPUT = "image"
"""Input of a root file system on top of an image: the image's OCI layout."""


INTERPRETER_FOLDER = "/opt/python"
"""Where a standalone Python is in a root file system."""


@dataclass(frozen=True, slots=True, kw_only=True)
class IndexFile:
    """A file of a Python package index."""

    index: str
    """Name of the index: `pypi` is the default index as configured on the machine."""
    project: str
    """Normalised project name."""
    url: str | None = None
    """The index's address, for an index that the stack names; never the default index's."""


@dataclass(frozen=True, slots=True, kw_only=True)
class PoolFile:
    """A .deb of a Debian or Ubuntu archive."""

    vendor: str
    """`debian` or `ubuntu`: whose archive, as configured on the machine."""
    path: str
    """Path below the archive's root: `pool/main/z/zlib/…`."""
    snapshot: str | None = None
    """Time stamp of a snapshot archive, `20250601T000000Z`."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ChannelFile:
    """A package of a conda channel."""

    channel: str
    """Name of the channel."""
    subdir: str
    """Folder of the channel: `linux-64` or `noarch`."""
    url: str
    """The channel's address, as the stack says it."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Addresses:
    """A file that the stack itself says where to find."""

    urls: tuple[str, ...]
    """Asked in order; any of them will do, as the content decides."""
    type: str | None = None
    """What the file must be by its first bytes, where the stack says it."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ArchiveMembers:
    """Files taken out of an archive; the rest of it goes nowhere."""

    urls: tuple[str, ...]
    """Of the archive, asked in order."""
    archive: Sha256
    archive_size: int
    members: tuple[tuple[str, str], ...]
    """Name in the archive and path in the tree of each."""
    type: str | None = None
    """What the archive must be by its first bytes, where the stack says it."""


@dataclass(frozen=True, slots=True, kw_only=True)
class FolderArchive:
    """An archive that lockbuild makes of a folder beside the stack file."""

    path: str
    """Below the stack's folder."""


@dataclass(frozen=True, slots=True, kw_only=True)
class GitTree:
    """The tree of a commit, or a part of it; any repository that has the commit will do."""

    url: str
    commit: str
    """40 lower-case hexadecimal digits."""
    submodules: bool = False
    """Whether submodules, and theirs, are part of the tree; else their folders are empty."""
    include: tuple[str, ...] = ()
    """Path patterns of what is wanted; none for everything. `*` and `?` stay within a name, `**` does
    not; patterns begin at the top, and one that matches a folder selects all below it."""
    exclude: tuple[str, ...] = ()
    """Path patterns of what is not wanted; stronger than `include`."""

    def __post_init__(self) -> None:
        if not re.fullmatch(r"[0-9a-f]{40}", self.commit):
            msg = f"not a commit (40 lower-case hexadecimal digits): {self.commit!r}"
            raise ValueError(msg)


@dataclass(frozen=True, slots=True, kw_only=True)
class BesideFile:
    """A file beside the stack file."""

    path: str
    """Below the stack's folder."""


@dataclass(frozen=True, slots=True, kw_only=True)
class RegistryImage:
    """An image of a registry, for one platform; any registry that has the manifest will do."""

    reference: str
    """As the stack has it, without digest: `docker.io/nvidia/cuda:11.3.1-cudnn8-devel-ubuntu20.04`."""
    architecture: str
    """As images say it: `amd64`."""


@dataclass(frozen=True, slots=True, kw_only=True)
class HostInterpreter:
    """An archive that lockbuild makes of a Python of the machine that it runs on; see `lockbuild.hostpython`."""

    command: str
    """What starts it there: `python3.12`."""


Where = (
    Addresses
    | ArchiveMembers
    | BesideFile
    | ChannelFile
    | FolderArchive
    | GitTree
    | HostInterpreter
    | IndexFile
    | PoolFile
    | RegistryImage
)
"""Where a fetch may be looked for. Never part of a digest."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Fetch:
    """A file or tree known by its content: wherever it comes from, only these bytes will do."""

    filename: str
    sha256: Sha256
    """Of the file's bytes; of a tree's canonical listing; of an image's manifest, from which all else of its
    layout follows."""
    size: int | None
    """Bytes, where known beforehand."""
    where: Where

    @property
    def identity(self) -> list[JsonValue]:
        """What decides the store path."""
        return ["fetch", 1, self.filename, self.sha256]

    @property
    def path(self) -> StorePath:
        """The store path: file name and sha256 decide it."""
        return store_path(self.identity, self.filename)


BuildKind = Literal["environment", "prefix", "rootfs", "source", "stamped", "wheel"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Build:
    """A computation without network whose result follows from what is listed here."""

    name: str
    kind: BuildKind
    """`rootfs` makes a toolchain from .debs, `prefix` unpacks conda packages, `stamped` writes version and
    provenance into a wheel; the others run a command in a toolchain."""
    system: str
    toolchain: StorePath | None
    """Root file system in which the command runs; none for a `rootfs`, a `prefix` and a `stamped` wheel."""
    command: tuple[str, ...]
    """The argument vector; for those without a toolchain, what they are made of and how."""
    env: tuple[tuple[str, str], ...]
    """Environment variables, sorted by name."""
    inputs: tuple[tuple[str, StorePath], ...]
    """Name below /build/inputs and the store object that stands there, sorted by name."""

    def __post_init__(self) -> None:
        if list(self.env) != sorted(self.env) or list(self.inputs) != sorted(self.inputs):
            msg = f"environment and inputs of build `{self.name}` are not sorted"
            raise ValueError(msg)

    @property
    def identity(self) -> list[JsonValue]:
        """What decides the store path: all fields and the sandbox's version."""
        return [
            "build",
            1,
            SANDBOX_VERSION,
            self.kind,
            self.name,
            self.system,
            self.toolchain,
            list(self.command),
            [[name, value] for name, value in self.env],
            [[name, path] for name, path in self.inputs],
        ]

    @property
    def path(self) -> StorePath:
        """The store path: the digest of the identity."""
        return store_path(self.identity, self.name)

    @property
    def references(self) -> tuple[StorePath, ...]:
        """The store objects that must be there before this can be built."""
        paths = {path for _, path in self.inputs}
        return tuple(sorted(paths | ({self.toolchain} if self.toolchain else set())))


Derivation = Fetch | Build


def rootfs_command(
    suite: str,
    debs: Iterable[LockedDeb],
    *,
    interpreter: tuple[str, str] | None = None,
    place: str = INTERPRETER_FOLDER,
) -> tuple[str, ...]:
    """Return the command of the `rootfs` build that installs *debs*.

    Options first, as long words (`--suite=bookworm`, `--architecture=amd64`), then every package of the
    root as `NAME=VERSION`, sorted: nothing is left for a solver to choose. A standalone interpreter is one
    more option: `--interpreter=3.8:/opt/python:cpython-….tar.gz`.

    Args:
        interpreter: Python version that an interpreter in a folder of its own must have, and the input that
            holds it.
        place: That folder.

    Raises:
        ValueError: The packages are of no architecture, or of several.
    """
    debs = tuple(debs)
    architectures = sorted({deb.architecture for deb in debs} - {"all"})
    if len(architectures) != 1:
        msg = f"packages of one architecture were expected, found {architectures}"
        raise ValueError(msg)
    pins = sorted(f"{deb.package}={deb.version}" for deb in debs)
    options = [f"--suite={suite}", f"--architecture={architectures[0]}"]
    if interpreter:
        version, archive = interpreter
        options.append(f"--interpreter={version}:{place}:{archive}")
    return (*options, *pins)


def image_rootfs_command(  # noqa: PLR0913 - as keywords
    image: str,
    debs: Iterable[LockedDeb],
    *,
    architecture: str,
    interpreter: tuple[str, str] | None = None,
    place: str = INTERPRETER_FOLDER,
    python: tuple[str, str, str] | None = None,
) -> tuple[str, ...]:
    """Return the command of the `rootfs` build that unpacks an image and installs *debs* on top of it.

    As `rootfs_command` has it, with `--image=sha256:…` in place of a suite: the manifest in the input `image`.
    An interpreter that the image has is `--python=3.8:python3.8`.

    Args:
        interpreter: As for `rootfs_command`.
        place: Likewise.
        python: Python version that a command of the image must have, the command, and where the image looks
            for commands: empty where it does not say that.
    """
    pins = sorted(f"{deb.package}={deb.version}" for deb in debs)
    options = [f"--image={image}", f"--architecture={architecture}"]
    if interpreter:
        version, archive = interpreter
        options.append(f"--interpreter={version}:{place}:{archive}")
    if python:
        version, command, path = python
        options.append(f"--python={version}:{command}")
        if path:
            options.append(f"--path={path}")
    return (*options, *pins)


@dataclass(frozen=True, slots=True, kw_only=True)
class PathInfo:
    """The record of a valid store object. An object without one is not valid, whatever lies there."""

    path: StorePath
    sha256: Sha256
    """Of the bytes of a file; of the canonical listing of a folder."""
    size: int
    """Bytes of all files together."""
    references: tuple[StorePath, ...] = ()
    """Inputs of the build that made it."""
    kind: Literal["file", "folder"] = "file"
    outputs: tuple[tuple[str, Sha256, int], ...] = ()
    """Name, sha256 and size of each top-level file of a folder, sorted: the wheels of a build."""


@dataclass(frozen=True, slots=True, kw_only=True)
class JobPool:
    """How many compilers may run at once on a machine, for all builds that share the folder."""

    folder: Path
    """Holds a lock for each job; see `lockbuild.jobs`."""
    jobs: int
    memory: int
    """Bytes that one compiler may come to need."""


@dataclass(frozen=True, slots=True, kw_only=True)
class BuildTask:
    """All that a builder may know. Paths are those of the machine; it never sees a store."""

    name: str
    kind: BuildKind
    rootfs: Path | None
    """Unpacked toolchain, never written to; none when a root file system is what is built."""
    rootfs_name: str | None
    """A name that changes whenever the toolchain's content does: engines that import it use it as a tag."""
    command: tuple[str, ...]
    env: tuple[tuple[str, str], ...]
    inputs: tuple[tuple[str, Path], ...]
    """Name below /build/inputs and the file or folder of the machine that is shown there, read-only."""
    scratch: Path
    """An empty folder of the builder's own; what the command leaves in `scratch/out` is the output."""
    log: Path
    """File that takes the build's whole output."""
    cores: int = 1
    """Jobs that it may run at once where an engine knows no pool."""
    pool: JobPool | None = None
    """What it shares with other builds, in place of `cores`, where the engine can hold compilers back."""
    timeout_s: float | None = None
    compiler_cache: Path | None = None
    """A folder that outlives the build, for the results of its compilers; none for no cache."""


BuildStatus = Literal[
    "built",
    "substituted",
    "valid",
    "failed",
    "timed-out",
    "output-rejected",
    "not-deterministic",
    "dependency-failed",
]


@dataclass(frozen=True, slots=True, kw_only=True)
class BuildOutcome:
    """What became of a build: a value, not an exception, so that other builds can go on."""

    name: str
    status: BuildStatus
    output: Path | None = None
    """Folder with the result; none unless the status is `built`."""
    message: str = ""
    """What went wrong, in words; the log's last lines follow in `tail`."""
    tail: tuple[str, ...] = ()
    log: Path | None = None
    duration_s: float = 0.0

    @property
    def failed(self) -> bool:
        """Whether there is no output that can be used."""
        return self.status not in ("built", "substituted", "valid")
