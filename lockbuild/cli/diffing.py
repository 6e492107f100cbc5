"""`lockbuild diff`."""

from __future__ import annotations

from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING

import click

from lockbuild.cli.compared import compare
from lockbuild.cli.session import json_option, open_store, print_json, settings_of
from lockbuild.cli.sides import read_sides
from lockbuild.cli.words import counted, in_bytes, in_time

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence

    from lockbuild.cli.compared import Comparison
    from lockbuild.cli.sides import Side
    from lockbuild.derivation import Fetch
    from lockbuild.differences import Change
    from lockbuild.plan.changes import Rebuilt
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
@click.option(
    "--osv",
    type=click.Path(exists=True, path_type=Path),
    metavar="DIR",
    help="A local OSV export to look vulnerabilities up in: a folder or zip of its records.",
)
@json_option
@click.pass_context
def diff(
    ctx: click.Context,
    *,
    places: tuple[str, ...],
    stack: str | None,
    osv: Path | None,
    as_json: bool,
) -> None:
    """Say how B differs from A: versions, licences, size, and what is built again because of it.

    Each is a stack (a folder or a name), a lock file, a stack at a git revision (HEAD~3:stacks/cpu),
    or a revision alone, which means the other side's stack. A stack alone is compared with HEAD's.

    Nothing is fetched, built or checked out. What is built again is what `lockbuild build --dry-run`
    says of B where A is built.
    """
    with read_sides(places, stack=stack, here=Path.cwd()) as (old, new), _store(ctx) as store:
        found = compare(old, new, store, osv=osv)
        if as_json:
            print_json(found.document())
        else:
            _say(found)


@contextmanager
def _store(ctx: click.Context) -> Iterator[Store]:
    """Give the store; one that is empty and goes away where there is none: comparing makes none."""
    settings = settings_of(ctx)
    with TemporaryDirectory(prefix="lockbuild-diff-") as empty:
        there = settings.store.is_dir()
        with open_store(settings if there else replace(settings, store=Path(empty, "store"))) as store:
            yield store


def _say(found: Comparison) -> None:
    click.echo(f"{_named(found.old)} -> {_named(found.new)}")
    if found.old.lock.digest == found.new.lock.digest:
        click.echo("the locks are the same")
    if found.no_stack:
        click.echo(
            "what only stack files say is not compared: there is none to be read of"
            f" {' and '.join(found.no_stack)}"
        )
    _say_changes(found)
    _say_licences(found)
    _say_vulnerabilities(found)
    _say_size(found)
    _say_rebuilt(found)


def _say_changes(found: Comparison) -> None:
    from lockbuild.differences import GROUPS  # noqa: PLC0415 - heavy

    for kind, heading in GROUPS.items():
        group = [change for change in found.changes if change.kind == kind]
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


def _say_licences(found: Comparison) -> None:
    licences = found.licences
    if licences is None or not (licences.changed or licences.gained or licences.lost):
        return
    click.echo(f"\n{click.style('Licences', bold=True)}")
    for one in licences.changed:
        click.echo(f"  changed      {one.name}: {one.old or _NOBODY} -> {one.new or _NOBODY}")
    for how, lines in (("gained", licences.gained), ("lost", licences.lost)):
        for expression, names in lines:
            more = f" and {len(names) - _NAMES} more" if len(names) > _NAMES else ""
            click.echo(f"  {how:<11}  {expression or _NOBODY}: {', '.join(names[:_NAMES])}{more}")
    for side, unknown in zip((found.old, found.new), licences.unknown, strict=True):
        if unknown:
            click.echo(f"  not known    of {counted(unknown, 'part')} of {side.label}: not fetched")


def _say_vulnerabilities(found: Comparison) -> None:
    asked = found.looked_up
    if asked is None:
        return
    click.echo(f"\n{click.style('Known vulnerabilities', bold=True)} ({asked.database})")
    for how, ones in (("gained", asked.found.gained), ("lost", asked.found.lost)):
        for one in ones:
            score = "" if one.score is None else f" {one.score}"
            fixed = ", ".join(fix.version for fix in one.fixes)
            more = f", fixed in {fixed}" if fixed and how == "gained" else ""
            click.echo(
                f"  {how:<11}  {one.package.name} {one.package.version}: {one.id},"
                f" {one.severity or 'severity'}{score or ('' if one.severity else ' unknown')}{more}"
            )
    click.echo(f"  {asked.found.both} on both sides")
    for line in asked.blind:
        click.echo(f"  not looked up: {line}")


def _say_size(found: Comparison) -> None:
    for heading, sizes in (("Download", found.download), ("Installed", found.installed)):
        if sizes and sizes[0] != sizes[1]:
            click.echo(f"\n{click.style(heading, bold=True)}: {_moved(*sizes)}")


def _say_rebuilt(found: Comparison) -> None:
    rebuilding = found.rebuilding
    heading = click.style("Built again", bold=True)
    if rebuilding is None:
        click.echo(f"\n{heading}: nobody can say")
        for side in (found.old, found.new):
            for line in side.no_plan:
                click.echo(f"  {side.label}: {line}")
        return
    compiled = rebuilding.compiled
    if not compiled:
        click.echo(f"\n{heading}: nothing")
    else:
        click.echo(f"\n{heading}: {counted(len(compiled), 'build')}{_time(found, compiled)}")
        _say_grouped(found, compiled)
    if rebuilding.stamped_only:
        click.echo(
            f"\n{click.style('Labelled or recorded anew', bold=True)}, and compiled as they were:"
        )
        for one in rebuilding.stamped_only:
            click.echo(f"  {_called(one)}: {'; '.join(reason.text for reason in one.reasons)}")
    if rebuilding.image_builds:
        count = counted(len(rebuilding.image_builds), "build")
        heading = click.style("For the gate and the image", bold=True)
        click.echo(f"\n{heading}: {count}{_time(found, rebuilding.image_builds)}")
        _say_grouped(found, rebuilding.image_builds)
    _say_fetches("Fetched", rebuilding.fetches)
    _say_fetches("Fetched for the image", rebuilding.image_fetches)
    for name, parts in found.new.plan.blocked if found.new.plan else ():
        click.echo(f"\nwaits: {name}: {', '.join(part.label for part in parts)}")


def _say_grouped(found: Comparison, builds: Sequence[Rebuilt]) -> None:
    """Say what is built under what was changed for it: one change often reaches many builds."""
    groups: dict[tuple[str, ...], list[Rebuilt]] = {}
    for one in builds:
        # What wheels are tried in has every change of theirs, which nobody wants to read again.
        causes = () if "gate" in one.names else one.causes_beside(other.build for other in builds)
        groups.setdefault(causes, []).append(one)
    for causes, members in sorted(groups.items(), key=lambda group: not group[0]):
        for cause in causes[:_CAUSES]:
            click.echo(f"  {cause}")
        if len(causes) > _CAUSES:
            click.echo(f"  and {counted(len(causes) - _CAUSES, 'more change')}")
        if not causes:
            click.echo("  what needs these" if len(groups) > 1 else "  what wheels are tried in")
        for one in members:
            seconds = found.durations.get(one.build.path)
            time = [in_time(seconds)] if seconds is not None else []
            click.echo(f"    {_called(one)}{_in_brackets([*time, *_needed(one)])}")


def _time(found: Comparison, builds: Sequence[Rebuilt]) -> str:
    known = [found.durations[one.build.path] for one in builds if one.build.path in found.durations]
    if not known:
        return ""
    unknown = len(builds) - len(known)
    rest = f", and {counted(unknown, 'build')} of which nobody knows how long" if unknown else ""
    return f", about {in_time(sum(known))} one after another{rest}"


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
        f"{versions}  ({in_bytes(sizes[-1])})"
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


def _needed(one: Rebuilt) -> list[str]:
    """Return the builds that it needs and that are others now, in words; nothing where there are none."""
    texts = (reason.text for reason in one.reasons if reason.because)
    names = [text.removeprefix("needs ").removesuffix(", which changes") for text in texts]
    return [f"needs {', '.join(names)}"] if names else []


def _say_fetches(heading: str, fetches: Sequence[Fetch]) -> None:
    if fetches:
        size = sum(fetch.size or 0 for fetch in fetches)
        unknown = " or more" if any(fetch.size is None for fetch in fetches) else ""
        click.echo(
            f"\n{click.style(heading, bold=True)}: {counted(len(fetches), 'file')}, {in_bytes(size)}{unknown}"
        )


def _in_brackets(words: Sequence[str]) -> str:
    return f"  ({'; '.join(words)})" if words else ""


def _moved(old: int, new: int) -> str:
    return f"{in_bytes(old)} -> {in_bytes(new)} ({_difference(old, new)})"


def _difference(old: int, new: int) -> str:
    return f"{'+' if new > old else '-'}{in_bytes(abs(new - old))}"
