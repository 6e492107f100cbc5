"""What a resolver is asked and what it answers. Each engine is a module of its own."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from lockbuild.resolvers._configured import default_index

if TYPE_CHECKING:
    from lockbuild.condalock import LockedConda
    from lockbuild.lock import LockedDeb, LockedPackage
    from lockbuild.stack import DebianBase, Index
    from lockbuild.target import Target

__all__ = [
    "AptAnswer",
    "AptQuestion",
    "CondaQuestion",
    "PythonAnswer",
    "PythonQuestion",
    "Stub",
    "default_index",
    "differences",
]


@dataclass(frozen=True, slots=True, kw_only=True)
class Stub:
    """A package that lockbuild makes itself, so that no index is asked about it and no setup.py runs.

    Engines see it as a wheel with nothing but this metadata.
    """

    name: str
    version: str
    requires: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class PythonQuestion:
    """One set of requirements to be resolved for a target, whatever Python runs lockbuild."""

    target: Target
    requirements: tuple[str, ...]
    constraints: tuple[str, ...] = ()
    overrides: tuple[str, ...] = ()
    stubs: tuple[Stub, ...] = ()
    indexes: tuple[Index, ...] = ()
    exclude_newer: str | None = None
    preferences: tuple[tuple[str, str], ...] = ()
    """Name and version of former pins: kept where nothing speaks against it."""


@dataclass(frozen=True, slots=True, kw_only=True)
class PythonAnswer:
    """The packages for the target, sorted by name; those of stubs have neither index nor wheel."""

    packages: tuple[LockedPackage, ...]
    urls: tuple[tuple[str, str], ...]
    """File name -> address it was seen at, for asking its size. Never written to a lock."""


@dataclass(frozen=True, slots=True, kw_only=True)
class AptQuestion:
    """Packages wanted in the root file systems of a stack."""

    base: DebianBase
    architecture: str
    """As Debian says it: `amd64`."""
    roots: tuple[tuple[str, tuple[str, ...]], ...]
    """Root file system -> packages wanted beside the essential ones, sorted by name."""
    installed: tuple[tuple[str, str], ...] = ()
    """Root file system -> dpkg's status of the image that it stands on, where it stands on one: what is there
    stays as it is, and is no part of the answer."""


AptAnswer = tuple["LockedDeb", ...]
"""The closure over both roots, sorted by package; each says which roots hold it."""


@dataclass(frozen=True, slots=True, kw_only=True)
class CondaQuestion:
    """Conda packages wanted in one prefix."""

    channels: tuple[tuple[str, tuple[str, ...]], ...]
    """Name of each channel and the addresses it is asked at, in order; the more important channel first."""
    subdir: str
    """The machine in conda's words: `linux-64`."""
    packages: tuple[str, ...]
    virtual_packages: tuple[tuple[str, str], ...]
    """Name -> `VERSION` or `VERSION=BUILD` of all that there are; the host's play no part."""
    former: tuple[LockedConda, ...] = ()
    """Former pins: kept where nothing speaks against it."""


def differences(
    one: PythonAnswer, other: PythonAnswer, *, names: tuple[str, str] = ("uv", "pip-tools")
) -> tuple[str, ...]:
    """Return what two answers do not agree on, a line each: `numpy: uv 2.2.6, pip-tools 2.2.5`.

    Args:
        names: What to call the engine that gave *one*, and the one that gave *other*.
    """
    left = {package.name: package.version for package in one.packages}
    right = {package.name: package.version for package in other.packages}
    return tuple(
        f"{name}: {names[0]} {left.get(name, 'none')}, {names[1]} {right.get(name, 'none')}"
        for name in sorted(left.keys() | right.keys())
        if left.get(name) != right.get(name)
    )
