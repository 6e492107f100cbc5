"""What cannot be planned while parts of a lock are open, and which of them each waits for. Pure."""

from __future__ import annotations

from typing import TYPE_CHECKING

from packaging.utils import canonicalize_name

from lockbuild.edits import Graft
from lockbuild.errors import LockError
from lockbuild.lock import closure

if TYPE_CHECKING:
    from collections.abc import Iterable

    from lockbuild.edits import Edit
    from lockbuild.lock import Lock, LockedPackage, OpenPart
    from lockbuild.stack import BuildSpec, Stack
    from lockbuild.target import Target

__all__ = [
    "INSTALLER",
    "NVCC_WHEEL",
    "PREFIX",
    "ROOTS",
    "TORCH",
    "blocked_builds",
    "blocked_prefix",
    "blocked_roots",
    "blocked_sources",
    "environment_packages",
    "nvcc_wheels",
    "sources_of",
]

INSTALLER = "pip"
"""The package of the build environment that installs wheels, there and in the image."""

TORCH = "torch"
"""The package whose extensions are compiled with nvcc."""

NVCC_WHEEL = "nvidia-cuda-nvcc"
"""NVIDIA's wheel that has nvcc itself: of CUDA 13 and later, as those of earlier ones have parts of it alone."""

PREFIX = "conda"
"""What the prefix of conda packages is called among builds."""

ROOTS = ("runtime", "toolchain")
"""The root file systems of a stack."""


def environment_packages(stack: Stack, lock: Lock, spec: BuildSpec) -> tuple[LockedPackage, ...]:
    """Return the packages of the environment of *spec*: only what it asks for and needs, with what that requires.

    Raises:
        LockError: The lock lacks some.
    """
    asked = _projects((*spec.build_requires, *nvcc_wheels(stack, lock.runtime, spec)), stack.target)
    wanted = closure(lock.build_environment(spec.environment), [*asked, *spec.needs, INSTALLER])
    absent = sorted({*asked, *spec.needs} - {package.name for package in wanted})
    if absent:
        raise LockError(
            f"the lock lacks what build `{spec.name}` needs: {', '.join(absent)}",
            hint=f"lockbuild resolve {stack.name}",
        )
    return wanted


def nvcc_wheels(stack: Stack, runtime: Iterable[LockedPackage], spec: BuildSpec) -> tuple[str, ...]:
    """Return the requirements that bring nvcc into the environment of *spec*: none where it needs no torch.

    What needs torch, itself or by way of others, is an extension of torch; whether it compiles any CUDA only its
    `setup.py` knows.

    Args:
        runtime: The packages that are installed, from whose requirements that follows.
    """
    wheels = stack.toolchain.nvcc.wheels
    if not wheels or TORCH not in {package.name for package in closure(runtime, spec.needs)}:
        return ()
    return wheels


def sources_of(name: str, edits: Iterable[Edit]) -> tuple[str, ...]:
    """Return the names of the sources that one with *edits* is made of: its own, then those it grafts, sorted."""
    grafts = {edit.source for edit in edits if isinstance(edit, Graft)}
    return (name, *sorted(grafts - {name}))


def blocked_prefix(lock: Lock) -> dict[str, tuple[OpenPart, ...]]:
    """Return the prefix of conda packages -> the open part that it waits for, if it waits."""
    parts = tuple(lock.open_of("conda").values())
    return {PREFIX: parts} if parts else {}


def blocked_roots(stack: Stack, lock: Lock) -> dict[str, tuple[OpenPart, ...]]:
    """Return root file system -> the open parts that it waits for, of those that wait."""
    python = lock.open_of("conda") if stack.interpreter.conda else lock.open_of("interpreter")
    packages = (*lock.open_of("apt").values(), *python.values())
    bases = lock.open_of("base")
    waiting = {root: (*packages, *(bases[root],)) if root in bases else packages for root in ROOTS}
    return {root: parts for root, parts in waiting.items() if parts}


def blocked_builds(stack: Stack, lock: Lock) -> dict[str, tuple[OpenPart, ...]]:
    """Return build -> the open parts that it waits for, itself or by way of builds that it needs.

    Raises:
        LockError: The lock lacks what a build needs.
    """
    if not lock.open:
        return {}
    sources, wheels = lock.open_of("source"), lock.open_of("wheel")
    toolchain = blocked_roots(stack, lock).get("toolchain", ())
    waiting: dict[str, set[OpenPart]] = {}
    needed: dict[str, set[str]] = {}
    for spec in stack.builds:
        names = {package.name for package in environment_packages(stack, lock, spec)}
        waiting[spec.name] = {
            *toolchain,
            *(sources[name] for name in sources_of(spec.name, spec.edits) if name in sources),
            *(wheels[name] for name in names if name in wheels),
        }
        needed[spec.name] = names
    moved = True
    while moved:
        moved = False
        for name, names in needed.items():
            more = {part for other in names & waiting.keys() for part in waiting[other]}
            moved = moved or not more <= waiting[name]
            waiting[name] |= more
    return {name: tuple(sorted(parts)) for name, parts in waiting.items() if parts}


def blocked_sources(stack: Stack, lock: Lock) -> dict[str, tuple[OpenPart, ...]]:
    """Return source of the image -> the open parts that it waits for, of those that wait."""
    sources = lock.open_of("source")
    toolchain = blocked_roots(stack, lock).get("toolchain", ())
    waiting: dict[str, set[OpenPart]] = {}
    for named in stack.placed:
        names = sources_of(named.name, named.edits)
        waiting[named.name] = {sources[name] for name in names if name in sources}
        # Only a tree as it came needs nobody to unpack or to change it.
        if named.edits or not named.source.git:
            waiting[named.name].update(toolchain)
    return {name: tuple(sorted(parts)) for name, parts in waiting.items() if parts}


def _projects(requirements: Iterable[str], target: Target) -> list[str]:
    """Return the normalised names in *requirements* whose markers hold on *target*."""
    from packaging.requirements import Requirement  # noqa: PLC0415 - needed only to plan a build

    environment = target.marker_environment()
    found = [Requirement(text) for text in requirements]
    return [
        canonicalize_name(r.name) for r in found if r.marker is None or r.marker.evaluate(environment)
    ]
