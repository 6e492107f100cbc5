"""`lockbuild diff`."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from lockbuild.cli.session import json_option, open_store, print_json, settings_of
from lockbuild.cli.sides import read_sides

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from lockbuild.cli.sides import Side
    from lockbuild.components import Component
    from lockbuild.derivation import Fetch
    from lockbuild.differences import Change, Licences
    from lockbuild.digest import StorePath
    from lockbuild.plan.changes import Rebuilding, Rebuilt
    from lockbuild.plan.reasons import Reason
    from lockbuild.store import Store

_HOW = {"bytes": "other bytes"}
_ARROWS = {"up", "down", "changed"}
_NAMES = 5
_NOBODY = "nobody tells"
_SHORT = 12
_CAUSES = 8
"""As many are said of what is built again; all stand above, or in what `--json` prints."""


@click.command()
@click.argument("places", metavar="A [B]", nargs=-1, required=True)
@click.option(
    "--stack", metavar="STACK", help="The stack that A and B are revisions of; without B, as it is now."
)
@json_option
@click.pass_context
def diff(ctx: click.Context, *, places: tuple[str, ...], stack: str | None, as_json: bool) -> None:
    """Say how B differs from A: versions, licences, size, and what is built again because of it.

    Each is a stack (a folder or a name), a lock file, a stack at a git revision (HEAD~3:stacks/cpu),
    or a revision alone, which means the other side's stack. A stack alone is compared with HEAD's.

    Nothing is fetched, built or checked out. What is built again is what `lockbuild build --dry-run`
    says of B where A is built.
    """
    with read_sides(places, stack=stack, here=Path.cwd()) as (old, new):
        store = _store(ctx)
        found = _Compared(old, new, store)
        if as_json:
            print_json(found.document())
        else:
            found.say()


def _store(ctx: click.Context) -> Store | None:
    """Return the store, if there is one: comparing makes none."""
    settings = settings_of(ctx)
    return open_store(settings) if settings.store.is_dir() else None


class _Compared:
    """What two sides differ in."""

    def __init__(self, old: Side, new: Side, store: Store | None) -> None:
        from lockbuild.differences import (  # noqa: PLC0415 - heavy
            changes,
            download_size,
            installed_size,
            licences,
            parts_of,
        )
        from lockbuild.plan.changes import rebuilding  # noqa: PLC0415

        parts = [parts_of(side.lock, side.stack) for side in (old, new)]
        self.old, self.new = old, new
        self.changes = changes(*parts)
        self.download = (download_size(parts[0]), download_size(parts[1]))
        self.rebuilding = rebuilding(old.plan, new.plan) if old.plan and new.plan else None
        self.durations = _durations(self.rebuilding, store)
        sides = [_components(side, store) for side in (old, new)]
        self.licences = licences(*sides) if sides[0] and sides[1] else None
        self.installed = [installed_size(one) for one in sides] if self.licences else None

    # ---- as JSON ---------------------------------------------------------------------------------

    def document(self) -> dict[str, Any]:
        """Return what `--json` prints."""
        return {
            "from": _side(self.old),
            "to": _side(self.new),
            "changes": [_change(one) for one in self.changes],
            "licences": _licences(self.licences),
            "size": {"download": _sizes(self.download), "installed": _sizes(self._installed())},
            **self._rebuilt(),
        }

    def _installed(self) -> tuple[int, int] | None:
        """Return how many bytes the images are; none where nobody knows that of every part."""
        if self.installed is None or any(unknown for _, unknown in self.installed):
            return None
        return self.installed[0][0], self.installed[1][0]

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

    # ---- for people ------------------------------------------------------------------------------

    def say(self) -> None:
        """Print it for people."""
        click.echo(f"{_named(self.old)} -> {_named(self.new)}")
        if self.old.lock.digest == self.new.lock.digest:
            click.echo("the locks are the same")
        self._say_changes()
        self._say_licences()
        self._say_size()
        self._say_rebuilt()

    def _say_changes(self) -> None:
        from lockbuild.differences import GROUPS  # noqa: PLC0415 - heavy

        for kind, heading in GROUPS.items():
            group = [change for change in self.changes if change.kind == kind]
            if not group:
                continue
            counts = [(how, sum(one.how == how for one in group)) for how in _order(group)]
            summary = ", ".join(f"{count} {_HOW.get(how, how)}" for how, count in counts)
            click.echo(f"\n{click.style(heading, bold=True)}: {summary}")
            width = max(len(change.name) for change in group)
            for change in sorted(group, key=lambda one: _order(group).index(one.how)):
                click.echo(
                    f"  {_HOW.get(change.how, change.how):<11}  {change.name:<{width}}  {_versions(change)}"
                )

    def _say_licences(self) -> None:
        found = self.licences
        if found is None or not (found.changed or found.gained or found.lost):
            return
        click.echo(f"\n{click.style('Licences', bold=True)}")
        for one in found.changed:
            click.echo(f"  changed      {one.name}: {one.old or _NOBODY} -> {one.new or _NOBODY}")
        for how, lines in (("gained", found.gained), ("lost", found.lost)):
            for expression, names in lines:
                more = f" and {len(names) - _NAMES} more" if len(names) > _NAMES else ""
                click.echo(f"  {how:<11}  {expression or _NOBODY}: {', '.join(names[:_NAMES])}{more}")
        for side, unknown in zip((self.old, self.new), found.unknown, strict=True):
            if unknown:
                click.echo(f"  not known    of {_count(unknown, 'part')} of {side.label}: not fetched")

    def _say_size(self) -> None:
        for heading, sizes in (("Download", self.download), ("Installed", self._installed())):
            if sizes and sizes[0] != sizes[1]:
                click.echo(f"\n{click.style(heading, bold=True)}: {_moved(*sizes)}")

    def _say_rebuilt(self) -> None:
        found = self.rebuilding
        heading = click.style("Built again", bold=True)
        if found is None:
            click.echo(f"\n{heading}: nobody can say")
            for side in (self.old, self.new):
                for line in side.no_plan:
                    click.echo(f"  {side.label}: {line}")
            return
        compiled = found.compiled
        if not compiled:
            click.echo(f"\n{heading}: nothing")
        else:
            click.echo(f"\n{heading}: {_count(len(compiled), 'build')}{self._time(compiled)}")
            self._say_grouped(compiled)
        if found.stamped_only:
            click.echo(
                f"\n{click.style('Labelled or recorded anew', bold=True)}, and compiled as they were:"
            )
            for one in found.stamped_only:
                click.echo(f"  {_called(one)}: {'; '.join(reason.text for reason in one.reasons)}")
        if found.image_builds:
            count = _count(len(found.image_builds), "build")
            heading = click.style("For the gate and the image", bold=True)
            click.echo(f"\n{heading}: {count}{self._time(found.image_builds)}")
            self._say_grouped(found.image_builds)
        _say_fetches("Fetched", found.fetches)
        _say_fetches("Fetched for the image", found.image_fetches)
        for name, parts in self.new.plan.blocked if self.new.plan else ():
            click.echo(f"\nwaits: {name}: {', '.join(part.label for part in parts)}")

    def _say_grouped(self, builds: Sequence[Rebuilt]) -> None:
        """Say what is built under what was changed for it in the end: one change often reaches many builds."""
        groups: dict[tuple[str, ...], list[Rebuilt]] = {}
        for one in builds:
            # What wheels are tried in has them all, which nobody wants to read again.
            groups.setdefault(() if "gate" in one.names else one.causes, []).append(one)
        for causes, members in groups.items():
            for cause in causes[:_CAUSES]:
                click.echo(f"  {cause}")
            if len(causes) > _CAUSES:
                click.echo(f"  and {_count(len(causes) - _CAUSES, 'more change')}")
            for one in members:
                via = [reason.text for reason in one.reasons if reason.because]
                seconds = self.durations.get(one.build.path)
                more = [_time(seconds)] if seconds is not None else []
                click.echo(f"    {_called(one)}{_in_brackets([*more, *via])}")

    def _time(self, builds: Sequence[Rebuilt]) -> str:
        known = [self.durations[one.build.path] for one in builds if one.build.path in self.durations]
        if not known:
            return ""
        unknown = len(builds) - len(known)
        rest = f", and {_count(unknown, 'build')} of which nobody knows how long" if unknown else ""
        return f", about {_time(sum(known))} one after another{rest}"


def _components(side: Side, store: Store | None) -> tuple[Component, ...]:
    """Return what is in the image of *side*, as far as the store knows it; nothing without one."""
    from lockbuild.inventory import components  # noqa: PLC0415 - heavy

    if store is None or side.stack is None or side.plan is None:
        return ()
    return components(side.stack, side.lock, side.plan, store)


def _durations(found: Rebuilding | None, store: Store | None) -> dict[StorePath, float]:
    """Return how long each build took the last time: itself, or what was built in its place."""
    if found is None or store is None:
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


def _sizes(sizes: tuple[int, int] | None) -> dict[str, int] | None:
    return {"from": sizes[0], "to": sizes[1]} if sizes else None


def _reason(reason: Reason) -> dict[str, Any]:
    return {"reason": reason.text, "because": [_reason(one) for one in reason.because]}


# ---- words ---------------------------------------------------------------------------------------


def _named(side: Side) -> str:
    return f"{side.label} ({side.commit[:_SHORT]})" if side.commit else side.label


def _order(group: Iterable[Change]) -> list[str]:
    found = {change.how for change in group}
    return [how for how in ("up", "down", "changed", "bytes", "added", "removed") if how in found]


def _versions(change: Change) -> str:
    versions = f"{change.old} -> {change.new}" if change.how in _ARROWS else change.new or change.old
    sizes = [size for size in (change.old_size, change.new_size) if size is not None]
    if change.how in _ARROWS and len(sizes) > 1 and sizes[0] != sizes[1]:
        return f"{versions}  ({_difference(*sizes)})"
    return (
        f"{versions}  ({_bytes(sizes[-1])})"
        if change.how in ("added", "removed") and sizes
        else versions
    )


def _called(one: Rebuilt) -> str:
    """Return what people call a build; whose environment or source it is."""
    name = one.build.name.removesuffix("-stamped")
    owners = [
        owner for kind, _, owner in (name.partition(" ") for name in one.names) if kind == "environment"
    ]
    if "gate" in one.names:
        return f"{name} of the gate"
    return f"{name} of {', '.join(owners)}" if one.build.kind == "environment" and owners else name


def _say_fetches(heading: str, fetches: Sequence[Fetch]) -> None:
    if fetches:
        size = sum(fetch.size or 0 for fetch in fetches)
        unknown = " or more" if any(fetch.size is None for fetch in fetches) else ""
        click.echo(
            f"\n{click.style(heading, bold=True)}: {_count(len(fetches), 'file')}, {_bytes(size)}{unknown}"
        )


def _in_brackets(words: Sequence[str]) -> str:
    return f"  ({'; '.join(words)})" if words else ""


def _count(number: int, what: str) -> str:
    return f"{number} {what}" if number == 1 else f"{number} {what}s"


def _moved(old: int, new: int) -> str:
    return f"{_bytes(old)} -> {_bytes(new)} ({_difference(old, new)})"


def _difference(old: int, new: int) -> str:
    return f"{'+' if new > old else '-'}{_bytes(abs(new - old))}"


def _bytes(size: int) -> str:
    for unit, factor in (("GB", 10**9), ("MB", 10**6), ("kB", 10**3)):
        if size >= factor:
            return f"{size / factor:.1f} {unit}"
    return f"{size} B"


def _time(seconds: float) -> str:
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    if hours:
        return f"{hours} h {minutes} min"
    return f"{minutes} min {rest} s" if minutes else f"{rest} s"
