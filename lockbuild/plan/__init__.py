"""From stack and lock to the derivations that realise them. Pure: asks neither store nor network."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from lockbuild.derivation import Build, Derivation, Fetch
from lockbuild.plan.blocking import (
    INSTALLER,
    NVCC_WHEEL,
    ROOTS,
    TORCH,
    blocked_builds,
    blocked_prefix,
    blocked_roots,
    blocked_sources,
    nvcc_wheels,
)
from lockbuild.plan.commands import compilers, image_env, search_path
from lockbuild.plan.planner import EPOCH, Planner, asset_fetch, image_fetch

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from lockbuild.digest import StorePath
    from lockbuild.lock import Lock, OpenPart
    from lockbuild.stack import Stack

__all__ = [
    "EPOCH",
    "INSTALLER",
    "NVCC_WHEEL",
    "ROOTS",
    "TORCH",
    "Missing",
    "Plan",
    "asset_fetch",
    "compilers",
    "image_env",
    "image_fetch",
    "make_plan",
    "missing",
    "nvcc_wheels",
    "search_path",
]


@dataclass(frozen=True, slots=True, kw_only=True)
class Plan:
    """Every derivation that a stack needs, and which of them were asked for."""

    derivations: Mapping[StorePath, Derivation]
    wheels: tuple[tuple[str, StorePath], ...]
    """Normalised name of each package of the runtime lock that is fetched -> its wheel."""
    builds: tuple[tuple[str, StorePath], ...]
    """Normalised name of each package that is built -> its wheel as people get it, with label and provenance."""
    roots: tuple[tuple[str, StorePath], ...]
    """Name of each root file system -> its build."""
    installer: StorePath
    """The wheel of `INSTALLER`."""
    compiles: tuple[tuple[str, StorePath], ...] = ()
    """Normalised name of each package that is built -> what compiles it: the input of its build, and of the
    environments of others."""
    assets: tuple[tuple[str, StorePath], ...] = ()
    """Name of each asset of the image -> its file, or the folder of its members; the stack's order. Those
    that are open in the lock are left out."""
    sources: tuple[tuple[str, StorePath], ...] = ()
    """Name of each source of the image -> its tree as the image has it; the stack's order."""
    prefix: StorePath | None = None
    """The prefix of conda packages, for a layer of its own; none where the stack has none, or where Python
    is in it and the root file systems hold it."""
    environment: StorePath | None = None
    """What the gate tries built wheels in: all that are fetched, installed in the image's root file system; none
    where nothing is built, or where that waits for open parts. No image needs it."""
    blocked: tuple[tuple[str, tuple[OpenPart, ...]], ...] = ()
    """Name of each wheel, build, source of the image, root file system and prefix that is not planned -> the open
    parts that it waits for; sorted."""

    @property
    def targets(self) -> tuple[StorePath, ...]:
        """Return what an image needs: wheels, builds, roots, prefix, sources, assets and the installer."""
        named = (
            *(*self.wheels, *self.builds, *self.roots),
            *(*self.prefixes, *self.sources, *self.assets),
        )
        return tuple(dict.fromkeys((*(path for _, path in named), self.installer)))

    @property
    def wheelhouse(self) -> tuple[StorePath, ...]:
        """Return what `lockbuild build` makes: all wheels, and the sources of the image, whose edits may not fit."""
        return tuple(path for _, path in (*self.wheels, *self.builds, *self.sources))

    @property
    def prefixes(self) -> tuple[tuple[str, StorePath], ...]:
        """Name of the prefix of conda packages -> its build; nothing where there is none."""
        return (("conda", self.prefix),) if self.prefix else ()

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

    What waits for an open part of the lock is not planned; whatever can be fetched for it is.

    Raises:
        LockError: The lock lacks something that the stack needs.
        StackError: Builds need one another in a circle.
    """
    planner = Planner(stack, lock)
    idle_roots, idle_builds = blocked_roots(stack, lock), blocked_builds(stack, lock)
    idle_sources = blocked_sources(stack, lock)
    planner.interpreter()
    for image in lock.images:
        if image.manifest:
            planner.add(image_fetch(image, stack.target))
    roots = tuple((root, planner.root(root)) for root in ROOTS if root not in idle_roots)
    wheels = tuple((p.name, planner.wheel(p, p.wheel).path) for p in lock.runtime if p.wheel)
    specs = [s for s in sorted(stack.builds, key=lambda b: b.name) if s.name not in idle_builds]
    compiles = tuple((spec.name, planner.build(spec)) for spec in specs)
    builds = tuple((spec.name, planner.stamped(spec, dict(compiles)[spec.name])) for spec in specs)
    _fetch_for_blocked(planner, stack, {*idle_builds, *idle_sources})
    idle_wheels = {name: (part,) for name, part in lock.open_of("wheel").items()}
    locked = {asset.name: asset for asset in lock.assets}
    assets = tuple(
        (asset.name, fetch.path)
        for asset in stack.bundles
        if (fetch := asset_fetch(asset, locked.get(asset.name))) and planner.add(fetch)
    )
    judged = builds and wheels and not idle_wheels and "runtime" not in idle_roots
    return Plan(
        derivations=planner.derivations,
        wheels=wheels,
        builds=builds,
        compiles=compiles,
        roots=roots,
        installer=planner.installer("").path,
        assets=assets,
        sources=tuple(
            (source.name, planner.placed(source))
            for source in stack.placed
            if source.name not in idle_sources
        ),
        prefix=None if stack.interpreter.conda else planner.prefix(),
        environment=planner.runtime_environment() if judged else None,
        blocked=tuple(
            sorted(
                {
                    **idle_wheels,
                    **idle_builds,
                    **idle_sources,
                    **idle_roots,
                    **blocked_prefix(lock),
                }.items()
            )
        ),
    )


def _fetch_for_blocked(planner: Planner, stack: Stack, idle: set[str]) -> None:
    """Plan what can be fetched for the builds and sources that wait for open parts of the lock."""
    for spec in stack.builds:
        if spec.name in idle:
            planner.fetches(spec)
    for source in stack.placed:
        if source.name in idle:
            planner.source_fetches(source.name, source.edits)
