"""Whether the stack lets a fixed version in: what it and its parts require, without asking any index. Pure."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

from packaging.requirements import InvalidRequirement, Requirement
from packaging.specifiers import SpecifierSet
from packaging.utils import canonicalize_name

from lockbuild.osv.versions import public

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping

    from lockbuild.lock import Lock
    from lockbuild.osv.matching import Fix, Vulnerability
    from lockbuild.stack import Stack
    from lockbuild.target import Target

__all__ = ["Bound", "Reach", "bounds_on", "reach"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Bound:
    """What something wants of a package's version."""

    where: str
    """Who says so: `python.requires`, `matplotlib 3.11.2`."""
    text: str
    """What it says."""
    specifier: SpecifierSet | None
    """None where nobody here can tell."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Reach:
    """Whether a fixed version may be resolved without changing the stack."""

    answer: Literal["yes", "no", "unknown"]
    why: str
    """What stands in the way, or what is not known; empty for `yes`."""


def reach(found: Vulnerability, stack: Stack, bounds: Iterable[Bound]) -> Reach:
    """Return whether *stack* lets a version in that does not have what was *found*.

    `yes` says that nothing which is known forbids one. Which releases an index has, which of them fit the target, and what
    `exclude-newer` hides, is told by `lockbuild resolve` alone.

    Args:
        bounds: Those on the package: see `bounds_on`. Not needed for .debs.
    """
    if not found.fixes:
        return Reach(answer="no", why="no record tells of a fixed version")
    if found.package.family != "PyPI":
        return _of_suite(found, stack)
    bounds = tuple(bounds)
    known = [bound.specifier for bound in bounds if bound.specifier is not None]
    if all(_empty(fix, *known) for fix in found.fixes):
        in_way = [
            f"{bound.where} says `{bound.text}`"
            for bound in bounds
            if bound.specifier is not None and all(_empty(fix, bound.specifier) for fix in found.fixes)
        ]
        every = (f"{bound.where} says `{bound.text}`" for bound in bounds if bound.specifier)
        return Reach(answer="no", why="; ".join(in_way or every))
    unknown = [bound.where for bound in bounds if bound.specifier is None]
    if unknown:
        return Reach(answer="unknown", why=f"the store has no metadata of {', '.join(unknown)}")
    return Reach(answer="yes", why="")


def _of_suite(found: Vulnerability, stack: Stack) -> Reach:
    archive = stack.base.archive
    if all(fix.subscribers_only for fix in found.fixes):
        return Reach(answer="no", why="only Ubuntu Pro has a fixed version")
    if archive and archive.snapshot:
        return Reach(
            answer="unknown", why=f"the stack takes the archive as it was at {archive.snapshot}"
        )
    suite = archive.suite if archive else "its suite"
    return Reach(
        answer="unknown", why=f"a security update is in `{suite}` from its next point release on"
    )


def _empty(fix: Fix, *specifiers: SpecifierSet) -> bool:
    # Specifiers take no local versions but for equality.
    first, before = public(fix.version, "PyPI"), public(fix.before, "PyPI")
    wanted = SpecifierSet(f">={first}" + (f",<{before}" if before else ""))
    for specifier in specifiers:
        wanted &= specifier
    return wanted.is_unsatisfiable()


def bounds_on(
    name: str, stack: Stack, lock: Lock, metadata: Mapping[str, tuple[str, ...]]
) -> tuple[Bound, ...]:
    """Return what the stack and the other packages of the lock want of the version of *name*.

    Args:
        metadata: Name of a fetched wheel -> its `Requires-Dist`; those that the store does not have are absent.
    """
    pinned = [wheel for wheel in stack.python.wheels if canonicalize_name(wheel.name) == name]
    built = [build for build in stack.builds if canonicalize_name(build.name) == name]
    fixed = [
        *(("python.wheel", wheel.version) for wheel in pinned),
        *((f"build.{build.name}", build.version) for build in built),
    ]
    if fixed:
        return tuple(
            Bound(where=where, text=f"{name}=={version}", specifier=SpecifierSet(f"=={version}"))
            for where, version in fixed
        )
    overrides = tuple(_bounds("python.overrides", stack.python.overrides, name, stack.target))
    if overrides:
        return overrides
    return (
        *_bounds("python.requires", stack.python.requires, name, stack.target),
        *_bounds("python.constraints", stack.python.constraints, name, stack.target),
        *_of_packages(name, stack, lock, metadata),
    )


def _of_packages(
    name: str, stack: Stack, lock: Lock, metadata: Mapping[str, tuple[str, ...]]
) -> Iterator[Bound]:
    said: dict[str, tuple[str, ...]] = dict(metadata)
    said |= {canonicalize_name(build.name): build.requires for build in stack.builds}
    said |= {canonicalize_name(wheel.name): wheel.requires for wheel in stack.python.wheels}
    for package in lock.runtime:
        if name not in package.dependencies:
            continue
        where = f"{package.name} {package.version}"
        lines = said.get(package.name)
        if lines is None:
            yield Bound(where=where, text=name, specifier=None)
        else:
            yield from _bounds(where, lines, name, stack.target)


def _bounds(where: str, lines: Iterable[str], name: str, target: Target) -> Iterator[Bound]:
    """Yield what *lines* say of *name* on the target; those of extras only where nothing else does."""
    about = [one for one in map(_requirement, lines) if one and canonicalize_name(one.name) == name]
    plain = [one for one in about if _holds(one, target)]
    for one in plain or [one for one in about if "extra" in str(one.marker)]:
        if str(one.specifier):
            yield Bound(where=where, text=str(one), specifier=one.specifier)


def _requirement(line: str) -> Requirement | None:
    try:
        return Requirement(line)
    except InvalidRequirement:
        return None


def _holds(one: Requirement, target: Target) -> bool:
    return one.marker is None or one.marker.evaluate(dict(target.marker_environment()))
