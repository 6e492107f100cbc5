"""`lockbuild fetch`, `build` and `check`."""

from __future__ import annotations

import time
from dataclasses import asdict
from typing import TYPE_CHECKING

import click

from lockbuild.cli.session import (
    console_of,
    json_option,
    keep_going_option,
    open_lines,
    open_realiser,
    print_json,
    refuse_blocked,
    refuse_impossible,
    stack_argument,
)
from lockbuild.cli.words import counted
from lockbuild.errors import BuildError, FetchError, UsageError

if TYPE_CHECKING:
    from collections.abc import Sequence

    from lockbuild.cli.console import Console
    from lockbuild.derivation import BuildOutcome
    from lockbuild.digest import StorePath
    from lockbuild.folders import StackFolder
    from lockbuild.realise import Realiser
    from lockbuild.store.history import Verdict


@click.command()
@stack_argument
@json_option
@click.pass_context
def fetch(ctx: click.Context, folder: StackFolder, *, as_json: bool) -> None:
    """Bring every wheel, source, .deb and asset of STACK into the store.

    After it, nothing else needs a network.
    """
    console = console_of(ctx)
    realiser = open_realiser(ctx, folder, console)
    parts = realiser.lock.open_parts
    try:
        fetched = realiser.fetch()
    except FetchError as error:
        if not parts:
            raise
        note = ("not asked for, as the lock is open:", *(f"  {line}" for line in open_lines(parts)))
        raise FetchError(error.message, details=(*error.details, *note), hint=error.hint) from error
    for line in open_lines(parts):
        console.warn(f"not fetched, as the lock is open: {line}")
    if as_json:
        print_json(
            {
                "fetched": [str(one.path) for one in fetched],
                "open": [asdict(part) for part in parts],
            }
        )
    elif fetched:
        console.note(f"{folder.label}: fetched {counted(len(fetched), 'artifact')}")
    else:
        console.note(f"{folder.label}: everything is fetched")


@click.command()
@stack_argument
@click.argument("packages", metavar="[PACKAGE]...", nargs=-1)
@keep_going_option
@click.option("--dry-run", is_flag=True, help="Say what would be fetched and built, and do nothing.")
@json_option
@click.pass_context
def build(  # noqa: PLR0913 - the options, as keywords
    ctx: click.Context,
    folder: StackFolder,
    *,
    packages: tuple[str, ...],
    keep_going: bool,
    dry_run: bool,
    as_json: bool,
) -> None:
    """Build STACK's packages in the sandbox and fill its wheelhouse.

    Sources with edits are built, too. With PACKAGE, build only those and leave the wheelhouse as it is.
    """
    console = console_of(ctx)
    realiser = open_realiser(ctx, folder, console)
    targets = _targets(realiser, packages)
    wanted = packages or wheel_names(realiser)
    if dry_run:
        _say_missing(realiser, targets, console, as_json=as_json)
        return
    refuse_impossible(realiser)
    if not keep_going:
        refuse_blocked(realiser, wanted, what="not everything can be built")
    if not _has_ccache(realiser):
        console.note("no compiler cache: `ccache` is not among the packages of the toolchain")
    started = time.monotonic()
    outcomes = realiser.build(targets, keep_going=keep_going)
    wall_s = time.monotonic() - started
    refuse_blocked(realiser, wanted, what="the rest is built, but not everything can be")
    changed: tuple[str, ...] = ()
    if not packages:
        changed = fill_wheelhouse(realiser, folder)
    if as_json:
        print_json(
            {
                "built": [
                    {"name": o.name, "status": o.status, "seconds": round(o.duration_s, 1)}
                    for o in outcomes
                ],
                "seconds": round(wall_s, 1),
                "wheelhouse": str(folder.wheels),
                "changed": list(changed),
            }
        )
    elif outcomes or changed:
        left = "as it was" if packages else folder.wheels
        console.note(f"{folder.label}: {_summary(outcomes, wall_s)}; the wheelhouse is {left}")
    else:
        console.note(f"{folder.label}: nothing to do")
    _say_unpinned(realiser, folder, console)


def _has_ccache(realiser: Realiser) -> bool:
    """Tell whether the toolchain has what a compiler cache needs, where one is wanted; an image may bring it."""
    lock = realiser.lock
    debs = (deb for deb in lock.debs if "toolchain" in deb.roots)
    wanted = realiser.compiler_cache and not lock.image("toolchain")
    return not wanted or any(deb.package == "ccache" for deb in debs)


def _summary(outcomes: Sequence[BuildOutcome], wall_s: float) -> str:
    """Return what was built, how long that took, and what the builds' own times add up to."""
    own_s = sum(outcome.duration_s for outcome in outcomes)
    if len(outcomes) < 2:  # noqa: PLR2004 - one has nothing to be added to
        return f"{len(outcomes)} built in {wall_s:.0f} s" if outcomes else "0 built"
    return f"{len(outcomes)} built in {wall_s:.0f} s; their own times add up to {own_s:.0f} s"


def fill_wheelhouse(realiser: Realiser, folder: StackFolder) -> tuple[str, ...]:
    """Write the wheelhouse of a stack whose wheels are all in the store, once the built ones have passed the gate."""
    from lockbuild.cli.gating import pass_gate  # noqa: PLC0415 - not needed for --help
    from lockbuild.packing import make_manifest, write_wheelhouse  # noqa: PLC0415 - not needed for --help

    pass_gate(realiser)
    manifest = make_manifest(realiser.stack, realiser.lock, realiser.plan, realiser.store)
    return write_wheelhouse(folder.wheels, manifest, realiser.store)


def wheel_names(realiser: Realiser) -> tuple[str, ...]:
    """Return the names of all that `Plan.wheelhouse` gives the paths of, as far as they are planned."""
    packages = (package.name for package in realiser.lock.runtime)
    return (*packages, *(source.name for source in realiser.stack.placed))


def _targets(realiser: Realiser, packages: tuple[str, ...]) -> tuple[StorePath, ...]:
    if not packages:
        return realiser.plan.wheelhouse
    plan = realiser.plan
    known: dict[str, StorePath | None] = dict.fromkeys(name for name, _ in plan.blocked)
    known |= dict((*plan.builds, *plan.sources, *plan.roots))
    unknown = [name for name in packages if name not in known]
    if unknown:
        raise UsageError(
            f"`{unknown[0]}` is nothing that stack `{realiser.stack.name}` builds",
            hint=f"it builds: {', '.join(sorted(known))}",
        )
    return tuple(path for name in packages if (path := known[name]))


def _say_missing(
    realiser: Realiser, targets: tuple[StorePath, ...], console: Console, *, as_json: bool
) -> None:
    from lockbuild.plan import missing  # noqa: PLC0415 - not needed for --help

    absent = missing(realiser.plan, targets, valid=realiser.store.valid(realiser.plan.derivations))
    why = {build.path: realiser.why(build) for build in absent.to_build}
    if as_json:
        print_json(
            {
                "fetch": [str(fetch.path) for fetch in absent.to_fetch],
                "build": [str(build.path) for build in absent.to_build],
                "why": {path: [reason.text for reason in found] for path, found in why.items()},
                "blocked": {
                    name: [part.label for part in parts] for name, parts in realiser.plan.blocked
                },
            }
        )
        return
    for fetch in absent.to_fetch:
        click.echo(f"fetch {fetch.filename}")
    for build in absent.to_build:
        what = "stamp" if build.kind == "stamped" else "build"
        reasons = "; ".join(reason.text for reason in why[build.path])
        click.echo(f"{what} {build.name.removesuffix('-stamped')}: {reasons}")
    for name, parts in realiser.plan.blocked:
        click.echo(f"wait {name}: {', '.join(part.label for part in parts)}")
    if not (absent.to_fetch or absent.to_build or realiser.plan.blocked):
        console.note("nothing to fetch and nothing to build: the store has it all")


def _say_unpinned(realiser: Realiser, folder: StackFolder, console: Console) -> None:
    unpinned = [spec.name for spec in realiser.stack.builds if realiser.lock.pin(spec.name) is None]
    if unpinned:
        console.note(
            f"the lock does not yet pin the bytes of {', '.join(unpinned)}: `lockbuild resolve {folder.label}` does"
        )


def _buildable(realiser: Realiser) -> tuple[str, ...]:
    from lockbuild.plan import ROOTS  # noqa: PLC0415 - not needed for --help

    return (*(spec.name for spec in realiser.stack.builds), *ROOTS)


@click.command()
@stack_argument
@click.argument("packages", metavar="[PACKAGE]...", nargs=-1)
@click.option("--again", is_flag=True, help="Also check what was found identical before.")
@keep_going_option
@json_option
@click.pass_context
def check(  # noqa: PLR0913 - the options, as keywords
    ctx: click.Context,
    folder: StackFolder,
    *,
    packages: tuple[str, ...],
    again: bool,
    keep_going: bool,
    as_json: bool,
) -> None:
    """Build STACK's packages and root file systems again and compare every byte.

    With PACKAGE, only those (`runtime` and `toolchain` are the root file systems). The store keeps each verdict: what was
    found identical is not built again, and a check that was stopped goes on where it was.
    """
    from lockbuild import checking  # noqa: PLC0415 - not needed for --help

    console = console_of(ctx)
    realiser = open_realiser(ctx, folder, console)
    refuse_blocked(realiser, packages or _buildable(realiser), what="not everything can be checked")
    verdicts: list[Verdict] = []

    def tell(verdict: Verdict) -> None:
        verdicts.append(verdict)
        if not as_json:
            _say_checked(verdict)

    try:
        checking.check(realiser, packages, again=again, keep_going=keep_going, tell=tell)
    finally:
        if as_json:
            print_json([asdict(verdict) for verdict in verdicts])
    apart = [verdict.name for verdict in verdicts if not verdict.identical]
    if apart:
        raise BuildError(
            f"not reproducible: {', '.join(apart)}", hint="the lines above say which members differ"
        )


def _say_checked(verdict: Verdict) -> None:
    before = f" (checked before, {verdict.when})" if verdict.kept else ""
    click.echo(f"{verdict.name}: {'identical' if verdict.identical else 'different'}{before}")
    for line in verdict.differences:
        click.echo(f"  {line}")
