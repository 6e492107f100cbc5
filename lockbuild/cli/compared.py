"""What two sides of a comparison differ in, as far as plans, store and a vulnerability database tell."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence
    from pathlib import Path

    from lockbuild.cli.sides import Side
    from lockbuild.components import Component
    from lockbuild.differences import Change, Licences, Vulnerabilities
    from lockbuild.digest import StorePath
    from lockbuild.osv import Database, Package
    from lockbuild.plan.changes import Rebuilding
    from lockbuild.plan.reasons import Reason
    from lockbuild.store import Store

__all__ = ["Comparison", "LookedUp", "compare"]


@dataclass(frozen=True, slots=True, kw_only=True)
class LookedUp:
    """What a vulnerability database says of both sides."""

    database: str
    """Which it is and how old, for people."""
    found: Vulnerabilities
    blind: tuple[str, ...]
    """What it says nothing of, and why: a line each."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Comparison:
    """What two sides differ in."""

    old: Side
    new: Side
    changes: tuple[Change, ...]
    download: tuple[int, int]
    """Bytes."""
    installed: tuple[int, int] | None
    """Bytes; none where nobody knows that of every part of the images."""
    licences: Licences | None
    """None where nobody knows the parts of both sides."""
    looked_up: LookedUp | None
    """None where no database was named, likewise."""
    rebuilding: Rebuilding | None
    """None where a side has no plan."""
    durations: dict[StorePath, float]
    """Seconds that builds, or those in whose place they are, took the last time."""

    @property
    def no_stack(self) -> tuple[str, ...]:
        """Labels of the sides without a stack that can be read: what only stacks say was not compared."""
        return tuple(side.label for side in (self.old, self.new) if side.stack is None)

    def document(self) -> dict[str, Any]:
        """Return what `--json` prints."""
        return {
            "from": _side(self.old),
            "to": _side(self.new),
            "no-stack": list(self.no_stack),
            "changes": [_change(one) for one in self.changes],
            "licences": _licences(self.licences),
            "vulnerabilities": _vulnerabilities(self.looked_up),
            "size": {"download": _sizes(self.download), "installed": _sizes(self.installed)},
            **self._rebuilt(),
        }

    def _rebuilt(self) -> dict[str, Any]:
        found = self.rebuilding
        if found is None:
            return {"fetch": None, "build": None}
        every = (*found.builds, *found.image_builds)
        return {
            "fetch": [str(fetch.path) for fetch in found.fetches],
            "build": [str(one.build.path) for one in found.builds],
            "image": {
                "fetch": [str(fetch.path) for fetch in found.image_fetches],
                "build": [str(one.build.path) for one in found.image_builds],
            },
            "stamped-only": [str(one.build.path) for one in found.stamped_only],
            "why": {one.build.path: [_reason(reason) for reason in one.reasons] for one in every},
            "names": {one.build.path: list(one.names) for one in every},
            "seconds": {str(path): seconds for path, seconds in self.durations.items()},
            "blocked": {
                name: [part.label for part in parts]
                for name, parts in (self.new.plan.blocked if self.new.plan else ())
            },
        }


def compare(old: Side, new: Side, store: Store, *, osv: Path | None) -> Comparison:
    """Return what *old* and *new* differ in.

    Args:
        osv: An export to look vulnerabilities up in.

    Raises:
        UsageError: There is no OSV record in it.
    """
    from lockbuild import differences  # noqa: PLC0415 - heavy
    from lockbuild.plan.changes import rebuilding  # noqa: PLC0415

    # Of a stack that one side has not nobody knows what it said there: nothing, or the same.
    readable = old.stack is not None and new.stack is not None
    parts = [differences.parts_of(side.lock, side.stack if readable else None) for side in (old, new)]
    planned = old.plan is not None and new.plan is not None
    sides = [_components(side, store) for side in (old, new)] if planned else []
    sizes = [differences.installed_size(one) for one in sides]
    rebuilt = rebuilding(old.plan, new.plan) if old.plan and new.plan else None
    return Comparison(
        old=old,
        new=new,
        changes=differences.changes(*parts),
        download=(differences.download_size(parts[0]), differences.download_size(parts[1])),
        installed=(sizes[0][0], sizes[1][0])
        if planned and not any(unknown for _, unknown in sizes)
        else None,
        licences=differences.licences(sides[0], sides[1]) if planned else None,
        looked_up=_looked_up(osv, (old, new), sides) if osv and planned else None,
        rebuilding=rebuilt,
        durations=_durations(rebuilt, store),
    )


def _looked_up(path: Path, sides: Sequence[Side], components: Sequence[Sequence[Component]]) -> LookedUp:
    from lockbuild import osv  # noqa: PLC0415 - heavy
    from lockbuild.audit.vulnerable import told_by  # noqa: PLC0415
    from lockbuild.differences import vulnerabilities  # noqa: PLC0415
    from lockbuild.osvexport import read_export  # noqa: PLC0415

    packages = [
        osv.packages_of(found, osv.ecosystems_of(side.stack.base))
        for side, found in zip(sides, components, strict=True)
        if side.stack
    ]
    names = {package.key for found in packages for package in found}
    database = read_export(path, names, today=datetime.now(UTC).date())
    old, new = (osv.vulnerabilities(found, database.records) for found in packages)
    blind = (
        line
        for each in zip(sides, packages, components, strict=True)
        for line in _blind(*each, database)
    )
    return LookedUp(
        database=told_by(database),
        found=vulnerabilities(old, new),
        blind=tuple(dict.fromkeys(blind)),
    )


def _blind(
    side: Side, packages: Sequence[Package], components: Sequence[Component], database: Database
) -> Iterator[str]:
    """Yield what *database* says nothing of, which is not to be taken for safe."""
    for family in sorted({package.family for package in packages} - database.newest.keys()):
        yield f"{family or 'the Debian packages'}: the database has no record of it"
    image = side.stack.base.runtime if side.stack else None
    if image and not any(one.kind == "deb" and one.origin == image for one in components):
        yield f"what {image} holds: it is not in the store"


def _components(side: Side, store: Store) -> tuple[Component, ...]:
    """Return what is in the image of *side*, as far as lock and store know it."""
    from lockbuild.inventory import components  # noqa: PLC0415 - heavy

    if side.stack is None or side.plan is None:
        return ()
    return components(side.stack, side.lock, side.plan, store)


def _durations(found: Rebuilding | None, store: Store) -> dict[StorePath, float]:
    """Return how long each build took the last time: itself, or what was built in its place."""
    if found is None:
        return {}
    every = (*found.builds, *found.image_builds)
    names = {
        name for one in every for name in (one.build.name, one.former.name if one.former else "") if name
    }
    known = store.history.durations(names)
    durations: dict[StorePath, float] = {}
    for one in every:
        for build in (one.build, one.former):
            if build and build.name in known:
                durations.setdefault(one.build.path, known[build.name])
    return durations


# ---- documents -----------------------------------------------------------------------------------


def _side(side: Side) -> dict[str, Any]:
    return {
        "stack": side.label,
        "commit": side.commit or None,
        "lock": side.lock.digest,
        "no-plan": list(side.no_plan),
    }


def _change(change: Change) -> dict[str, Any]:
    return {
        "kind": change.kind,
        "name": change.name,
        "change": change.how,
        "from": change.old or None,
        "to": change.new or None,
        "size-from": change.old_size,
        "size-to": change.new_size,
    }


def _licences(found: Licences | None) -> dict[str, Any] | None:
    if found is None:
        return None
    return {
        "changed": [{"name": one.name, "from": one.old, "to": one.new} for one in found.changed],
        "gained": {expression: list(names) for expression, names in found.gained},
        "lost": {expression: list(names) for expression, names in found.lost},
        "unknown": {"from": found.unknown[0], "to": found.unknown[1]},
    }


def _vulnerabilities(looked_up: LookedUp | None) -> dict[str, Any] | None:
    if looked_up is None:
        return None
    found = looked_up.found
    lists = {
        how: [
            {
                "id": one.id,
                "aliases": list(one.aliases),
                "package": one.package.name,
                "version": one.package.version,
                "severity": one.severity or None,
                "score": one.score,
                "fixed": [fix.version for fix in one.fixes],
            }
            for one in ones
        ]
        for how, ones in (("gained", found.gained), ("lost", found.lost))
    }
    return {"database": looked_up.database, "not-looked-up": list(looked_up.blind), **lists}


def _sizes(sizes: tuple[int, int] | None) -> dict[str, int] | None:
    return {"from": sizes[0], "to": sizes[1]} if sizes else None


def _reason(reason: Reason) -> dict[str, Any]:
    return {"reason": reason.text, "because": [_reason(one) for one in reason.because]}
