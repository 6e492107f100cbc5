"""What a file of an upstream repository says about the environment that it wants, as frozen values. Pure."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

__all__ = [
    "AptPackage",
    "ByHand",
    "Claim",
    "Clone",
    "Download",
    "Extension",
    "Finding",
    "GitRequirement",
    "HubName",
    "Import",
    "Index",
    "LocalPackage",
    "Note",
    "Place",
    "Pointer",
    "Project",
    "Requirement",
    "Setting",
    "Submodule",
    "VersionLine",
]

Kind = Literal["declared", "project", "image", "command", "prose"]
"""What sort of text says it: an environment or requirements file, a package's own metadata, a Dockerfile,
a command in a script or a page, or words."""


@dataclass(frozen=True, slots=True, kw_only=True, order=True)
class Place:
    """A line of a file."""

    file: str
    line: int

    def __str__(self) -> str:
        return f"{self.file}:{self.line}" if self.line else self.file


@dataclass(frozen=True, slots=True, kw_only=True)
class Requirement:
    """A Python package that is wanted, as PEP 508 writes it, without an address."""

    name: str
    """Normalised."""
    text: str
    kind: Kind
    place: Place
    conda: bool = False
    """Whether it is a conda package, whose name PyPI may not know."""


@dataclass(frozen=True, slots=True, kw_only=True)
class GitRequirement:
    """A Python package wanted from a repository, or from another address, as it is now."""

    name: str
    url: str
    revision: str
    """Branch, tag or commit; empty for whatever is newest."""
    subdirectory: str
    place: Place


@dataclass(frozen=True, slots=True, kw_only=True)
class LocalPackage:
    """A folder of the repository that is installed."""

    path: str
    """Below the repository; `.` for itself."""
    place: Place


@dataclass(frozen=True, slots=True, kw_only=True)
class Claim:
    """A version of something that is no Python package."""

    what: Literal["python", "cuda", "ubuntu", "torch"]
    version: str
    exact: bool
    """Whether it is that version, and not at least that one."""
    kind: Kind
    place: Place


@dataclass(frozen=True, slots=True, kw_only=True)
class Index:
    """A package index, or a page of links, beside the default one."""

    url: str
    near: tuple[str, ...]
    """Normalised names of what is asked of it, where one command says both."""
    place: Place


@dataclass(frozen=True, slots=True, kw_only=True)
class AptPackage:
    """A Debian or Ubuntu package."""

    name: str
    place: Place


@dataclass(frozen=True, slots=True, kw_only=True)
class Setting:
    """An environment variable of an image."""

    name: str
    value: str
    place: Place


@dataclass(frozen=True, slots=True, kw_only=True)
class Extension:
    """A compiled module."""

    module: str
    """Dotted; empty where it is not said in so many words."""
    cuda: bool
    place: Place


@dataclass(frozen=True, slots=True, kw_only=True)
class Project:
    """A folder with a `setup.py`, a `setup.cfg` or a `pyproject.toml` that makes a package."""

    folder: str
    """Below the repository; `.` for its top."""
    place: Place
    name: str = ""
    version: str = ""
    requires: tuple[str, ...] = ()
    build_requires: tuple[str, ...] = ()
    requires_python: str = ""
    extensions: tuple[Extension, ...] = ()
    sources: tuple[str, ...] = ()
    """Files and patterns that are compiled, as the text names them."""
    standards: tuple[tuple[str, int], ...] = ()
    """C++ standards that it asks for, each with its line."""
    asks_env: tuple[str, ...] = ()
    """Environment variables that it looks at."""
    asks_gpu: int = 0
    """Line at which it looks for a GPU; 0 for nowhere."""
    imports: tuple[str, ...] = ()
    """Modules that it imports: they must be there while it is built."""
    computed: tuple[str, ...] = ()
    """Arguments of `setup` that are no literals."""


@dataclass(frozen=True, slots=True, kw_only=True)
class VersionLine:
    """`__version__ = "…"`."""

    folder: str
    version: str
    place: Place


@dataclass(frozen=True, slots=True, kw_only=True)
class Submodule:
    """A repository inside the repository."""

    path: str
    url: str
    commit: str
    """Empty where nobody could say."""
    place: Place


@dataclass(frozen=True, slots=True, kw_only=True)
class Clone:
    """A repository that somebody is told to clone."""

    url: str
    place: Place


@dataclass(frozen=True, slots=True, kw_only=True)
class Download:
    """Weights or other data that something fetches, or somebody is told to."""

    url: str
    filename: str
    """Empty where the address does not say it."""
    target: str
    """Where it is to lie, below the repository; empty where that is not said."""
    hub: bool
    """Whether `torch.hub` fetches it into its cache."""
    place: Place
    words: str = ""
    """What a page says around an address that does not say what it is of."""


@dataclass(frozen=True, slots=True, kw_only=True)
class HubName:
    """A model that a hub's client loads by name."""

    hub: Literal["torch.hub", "Hugging Face"]
    name: str
    place: Place


@dataclass(frozen=True, slots=True, kw_only=True)
class ByHand:
    """A file of data that a person is told to put somewhere, and that nothing fetches."""

    filename: str
    target: str
    """Folder below the repository, with a slash at its end."""
    place: Place


@dataclass(frozen=True, slots=True, kw_only=True)
class Pointer:
    """What Git LFS has in place of a file."""

    path: str
    sha256: str
    size: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Import:
    """A module that Python sources import."""

    module: str
    """Its first name."""
    guarded: bool
    """Whether that is inside a function or a `try`."""
    place: Place


@dataclass(frozen=True, slots=True, kw_only=True)
class Note:
    """What should be known and has no place in a stack file."""

    text: str
    place: Place


Finding = (
    AptPackage
    | ByHand
    | Claim
    | Clone
    | Download
    | GitRequirement
    | HubName
    | Import
    | Index
    | LocalPackage
    | Note
    | Pointer
    | Project
    | Requirement
    | Setting
    | Submodule
    | VersionLine
)
