"""What is built again when one plan takes the place of another. Pure."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from lockbuild.derivation import Build
from lockbuild.derivationtext import derivation_text
from lockbuild.plan import missing
from lockbuild.plan.reasons import Reason, keys_of, reasons_for

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from lockbuild.derivation import Fetch
    from lockbuild.digest import StorePath
    from lockbuild.plan import Missing, Plan

__all__ = ["Rebuilding", "Rebuilt", "left_by", "rebuilding"]

_NEW = Reason(text="nothing was built in its place before")
_NEEDED = Reason(text="nothing that was built needed it before")
_GATE = "gate"
"""What the environment is called that wheels are tried in, among the names of builds: the store asks no reason of it."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Rebuilt:
    """A build of the later plan that the former one does not give."""

    build: Build
    names: tuple[str, ...]
    """What it is to its stack, sorted: `wheel gamma`, `environment gamma`, `root toolchain`; `gate` for what wheels are
    tried in."""
    former: Build | None
    """What was built in its place; none for what is new."""
    reasons: tuple[Reason, ...]

    @property
    def causes(self) -> tuple[str, ...]:
        """Return what was changed in the end: the reasons that have no reason themselves, each once, sorted."""
        return self.causes_beside(())

    def causes_beside(self, others: Iterable[Build]) -> tuple[str, ...]:
        """Return the causes but for those that reach it only by way of *others*, which are built again as well."""
        told = frozenset(f"needs {other.name}, which changes" for other in others)
        return tuple(sorted(set(_leaves(self.reasons, told))))


@dataclass(frozen=True, slots=True, kw_only=True)
class Rebuilding:
    """What is to be done where a former plan was carried out and a later one is to be."""

    fetches: tuple[Fetch, ...]
    """What `lockbuild build` fetches, sorted by file name."""
    builds: tuple[Rebuilt, ...]
    """What `lockbuild build` builds, in an order in which each comes after what it needs."""
    image_fetches: tuple[Fetch, ...] = ()
    """What the gate and the image need beyond that: assets, base images, packages of the runtime."""
    image_builds: tuple[Rebuilt, ...] = ()
    """Likewise: the runtime's root file system, and what wheels are tried in."""

    @property
    def compiled(self) -> tuple[Rebuilt, ...]:
        """Everything that `lockbuild build` does but stamping labels and records into wheels."""
        return tuple(one for one in self.builds if one.build.kind != "stamped")

    @property
    def stamped_only(self) -> tuple[Rebuilt, ...]:
        """Wheels that get another label or record, and are compiled as they were."""
        compiled = {one.build.path for one in self.builds}
        stamps = (one for one in self.builds if one.build.kind == "stamped")
        return tuple(one for one in stamps if not compiled.intersection(one.build.references))


def left_by(plan: Plan) -> frozenset[StorePath]:
    """Return what a store holds in which nothing was done but `lockbuild build` for *plan*."""
    # What wheels are tried in is built with them, where any are built.
    judged = (plan.environment,) if plan.environment else ()
    done = missing(plan, (*plan.wheelhouse, *judged), valid=frozenset())
    return frozenset(_paths(done))


def rebuilding(former: Plan, later: Plan) -> Rebuilding:
    """Return what is to be done for *later* in a store in which *former* was built, and nothing else."""
    there = left_by(former)
    first = missing(later, later.wheelhouse, valid=there)
    judged = (later.environment,) if later.environment else ()
    # Of an image, the former one's parts may be there as well.
    known = frozenset((*there, *former.derivations, *_paths(first)))
    more = missing(later, (*later.targets, *judged), valid=known)
    return Rebuilding(
        fetches=first.to_fetch,
        builds=tuple(_rebuilt(first.to_build, former, later)),
        image_fetches=more.to_fetch,
        image_builds=tuple(_rebuilt(more.to_build, former, later)),
    )


def _rebuilt(builds: Iterable[Build], former: Plan, later: Plan) -> Iterator[Rebuilt]:
    before = keys_of(former)
    names: dict[StorePath, list[str]] = {}
    for key, path in sorted(keys_of(later).items()):
        names.setdefault(path, []).append(key)
    if former.environment and later.environment:
        before[_GATE] = former.environment
        names.setdefault(later.environment, []).append(_GATE)
    texts = {path: derivation_text(one) for path, one in former.derivations.items()}
    for build in builds:
        mine = tuple(names.get(build.path, ()))
        place = next((before[key] for key in mine if key in before), None)
        replaced = former.derivations[place] if place else None
        if replaced is None:
            yield Rebuilt(build=build, names=mine, former=None, reasons=(_NEW,))
        elif not isinstance(replaced, Build):
            reasons = reasons_for(build, derivation_text(replaced), later, texts.get)
            yield Rebuilt(build=build, names=mine, former=None, reasons=reasons)
        elif replaced.path == build.path:
            yield Rebuilt(build=build, names=mine, former=replaced, reasons=(_NEEDED,))
        else:
            reasons = reasons_for(build, derivation_text(replaced), later, texts.get)
            yield Rebuilt(build=build, names=mine, former=replaced, reasons=reasons)


def _paths(found: Missing) -> Iterator[StorePath]:
    yield from (fetch.path for fetch in found.to_fetch)
    yield from (build.path for build in found.to_build)


def _leaves(reasons: Iterable[Reason], told: frozenset[str]) -> Iterator[str]:
    for reason in reasons:
        if reason.text in told:
            continue
        if reason.because:
            yield from _leaves(reason.because, told)
        else:
            yield reason.text
