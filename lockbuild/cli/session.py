"""What commands share: options, and opening a stack with its store, builders and mirrors."""

from __future__ import annotations

import json
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar, cast

import click
from click.shell_completion import CompletionItem

from lockbuild.errors import LockbuildError, LockError, ResolveError, UsageError
from lockbuild.folders import STACK_FILE, find_stack
from lockbuild.settings import load_settings
from lockbuild.stack import from_document
from lockbuild.stack.unlocked import check_unlocked

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from lockbuild.audit.rules import LockDrift
    from lockbuild.builders import Builder
    from lockbuild.cli.console import Console
    from lockbuild.folders import StackFolder
    from lockbuild.lock import Lock, OpenPart
    from lockbuild.plan import Plan
    from lockbuild.realise import Realiser
    from lockbuild.rebuilding import Claim, Rebuilder
    from lockbuild.settings import Settings
    from lockbuild.sources import Mirrors
    from lockbuild.stack import Stack
    from lockbuild.store import Store

__all__ = [
    "console_of",
    "json_option",
    "keep_going_option",
    "open_drifted",
    "open_lines",
    "open_realiser",
    "open_rebuilder",
    "open_store",
    "optional_stack_argument",
    "print_json",
    "refuse_blocked",
    "refuse_impossible",
    "refuse_open",
    "settings_of",
    "stack_argument",
]

_F = TypeVar("_F", bound="Callable[..., Any]")


def stack_argument(function: _F) -> _F:
    """Add the argument STACK, given to the command as a `StackFolder`."""
    return click.argument("folder", metavar="STACK", callback=_found, shell_complete=_stacks)(function)


def optional_stack_argument(function: _F) -> _F:
    """Add the argument STACK, which may be left out: the command is then given none."""
    return click.argument(
        "folder", metavar="[STACK]", required=False, callback=_found, shell_complete=_stacks
    )(function)


def _stacks(_ctx: click.Context, _parameter: click.Parameter, incomplete: str) -> list[CompletionItem]:
    """Return how STACK may go on: as the name of one that is here, else as a folder."""
    names = (path.parent.name for path in Path("stacks").glob(f"*/{STACK_FILE}"))
    found = [CompletionItem(name) for name in sorted(names) if name.startswith(incomplete)]
    return found or [CompletionItem(incomplete, type="dir")]


def _found(_ctx: click.Context, _parameter: click.Parameter, value: str | None) -> StackFolder | None:
    if value is None:
        return None
    try:
        here = Path.cwd()
    except FileNotFoundError as error:
        raise UsageError(
            "the folder that this command runs in is gone", hint="go to one that is there: `cd`"
        ) from error
    return find_stack(value, here=here)


def json_option(function: _F) -> _F:
    """Add `--json`."""
    return click.option("--json", "as_json", is_flag=True, help="Print the result as JSON.")(function)


def keep_going_option(function: _F) -> _F:
    """Add `--keep-going`."""
    return click.option(
        "-k", "--keep-going", is_flag=True, help="After a failure, go on with what does not need it."
    )(function)


def print_json(value: Any) -> None:  # noqa: ANN401 - any JSON value
    """Print *value* on standard output."""
    click.echo(json.dumps(value, indent=2, ensure_ascii=False))


def settings_of(ctx: click.Context) -> Settings:
    """Return the settings that the group's options and the machine give."""
    options = ctx.obj
    return load_settings(store=options["store"], builder=options["builder"], cores=options["cores"])


def console_of(ctx: click.Context) -> Console:
    """Return what shows progress and notes."""
    from lockbuild.cli.console import Console  # noqa: PLC0415 - not needed for --help

    return Console(quiet=ctx.obj["quiet"], verbose=ctx.obj["verbose"])


def open_store(settings: Settings) -> Store:
    """Return the store, made when it is not there yet."""
    from lockbuild.store import Store  # noqa: PLC0415 - not needed for --help

    return Store(settings.store)


def mirrors_of(settings: Settings, names: frozenset[str]) -> Mirrors:
    """Return where this machine looks for what.

    Args:
        names: Indexes and archives that will be asked: only those are looked up in other tools' settings.
    """
    from lockbuild.resolvers import apt  # noqa: PLC0415 - only who fetches needs them
    from lockbuild.resolvers._configured import default_index  # noqa: PLC0415
    from lockbuild.sources import Limits, Mirrors  # noqa: PLC0415

    indexes, archives = dict(settings.indexes), dict(settings.archives)
    if "pypi" in names:
        indexes["pypi"] = (*indexes.get("pypi", ()), default_index())
    for vendor in names & {"debian", "ubuntu"}:
        if vendor not in archives:
            archives[vendor] = apt.configured_mirrors(vendor)
    return Mirrors(
        indexes=tuple(sorted(indexes.items())),
        archives=tuple(sorted(archives.items())),
        snapshots=settings.snapshots,
        channels=settings.channels,
        registries=settings.registries,
        limits=Limits(read_s=settings.stall_timeout, attempts=settings.tries),
    )


def open_lines(
    parts: Sequence[OpenPart], causes: Sequence[tuple[str, tuple[str, ...]]] = ()
) -> tuple[str, ...]:
    """Return a line of a table for each open part of a lock: what it is, and why it is open.

    Args:
        causes: Label of a part -> what more there is to say, put below its line.
    """
    width, more = max((len(part.label) for part in parts), default=0), dict(causes)
    return tuple(
        line
        for part in parts
        for line in (
            f"{part.label:<{width}}  {part.reason}",
            *(f"{'':<{width}}    {cause}" for cause in more.get(part.label, ())),
        )
    )


def refuse_blocked(realiser: Realiser, names: Sequence[str], *, what: str) -> None:
    """Refuse to do without *names* what waits for open parts of the lock.

    Args:
        names: Of wheels, builds and root file systems, of which some may be blocked.
        what: What cannot be done, for the message.

    Raises:
        ResolveError: With a line for each that waits, and one for each part.
    """
    blocked = {name: parts for name, parts in realiser.plan.blocked if name in names}
    if not blocked:
        return
    width = max(len(name) for name in blocked)
    waits = (
        f"{name:<{width}}  waits for {', '.join(part.label for part in parts)}"
        for name, parts in blocked.items()
    )
    parts = sorted({part for found in blocked.values() for part in found})
    raise ResolveError(
        f"{what}: the lock of `{realiser.stack.name}` is open",
        details=(*waits, *open_lines(parts)),
        hint="`lockbuild resolve` where these can be had",
    )


def refuse_open(realiser: Realiser) -> None:
    """Refuse to make an image of a lock that does not say all that belongs into it.

    Raises:
        LockError: With a line for each part that is open.
    """
    parts = realiser.lock.open_parts
    if parts:
        names = ", ".join(part.label for part in parts)
        raise LockError(
            f"the lock of `{realiser.stack.name}` is open, which no image can be made of: {names}",
            details=open_lines(parts),
            hint="`lockbuild resolve` where these can be had",
        )


def refuse_impossible(realiser: Realiser) -> None:
    """Refuse to build what cannot go together, which a lock made by hand may ask for.

    Raises:
        ResolveError: With two lines for each finding.
    """
    from lockbuild import cells  # noqa: PLC0415 - not needed for --help

    found = cells.findings(realiser.stack, realiser.lock)
    if error := cells.refused(realiser.stack.name, found, what="nothing is built"):
        raise error


def builder_of(settings: Settings) -> Builder:
    """Return the builder that the settings name."""
    if settings.builder == "container":
        from lockbuild.builders.container import ContainerBuilder  # noqa: PLC0415 - imports the Docker SDK

        return ContainerBuilder()
    from lockbuild.builders.sandbox import SandboxBuilder  # noqa: PLC0415

    return SandboxBuilder()


def root_builder() -> Builder:
    """Return the builder of root file systems."""
    from lockbuild.builders.rootfs import RootfsBuilder  # noqa: PLC0415 - imports python-debian

    return RootfsBuilder()


def prefix_builder() -> Builder:
    """Return the builder of prefixes of conda packages."""
    from lockbuild.builders.prefix import PrefixBuilder  # noqa: PLC0415 - few stacks have any

    return PrefixBuilder()


def open_realiser(ctx: click.Context, folder: StackFolder, console: Console) -> Realiser:
    """Return the stack in *folder* with a plan, ready to be realised.

    Raises:
        LockError: The lock is missing, damaged or stale.
    """
    from lockbuild.plan import make_plan  # noqa: PLC0415 - not needed for --help

    document, lock = folder.read_locked()
    stack = from_document(document)
    return _realiser(ctx, folder, console, stack=stack, lock=lock, plan=make_plan(stack, lock))


def open_drifted(
    ctx: click.Context, folder: StackFolder, console: Console
) -> tuple[Realiser, LockDrift]:
    """Return the same of a lock that may be stale or edited, and how it is.

    Where no plan can be made of stack and lock, whoever looks at the realiser's is told so by `Skip`.

    Raises:
        LockError: The lock is missing, or none that can be read.
        StackError: The stack file is wrong.
    """
    from lockbuild.audit.rules import LockDrift, NoPlan  # noqa: PLC0415 - heavy
    from lockbuild.plan import make_plan  # noqa: PLC0415

    edited: list[LockError] = []
    lock = folder.read_lock(edited=edited)
    document = folder.read_document()
    moved = folder.moved(lock, document, files=False)
    if moved:
        from lockbuild.stack.schema import check_document  # noqa: PLC0415 - only a changed file needs it

        check_document(document, file=folder.stack_file)
    else:
        check_unlocked(document, file=folder.stack_file)
    moved = folder.moved(lock, document)
    stack = from_document(document)
    drift = LockDrift(
        moved=moved,
        edited=tuple((error.message, error.details) for error in edited),
        texts=folder.read_lock_texts(),
    )
    try:
        plan: Plan = make_plan(stack, lock)
    except (LockbuildError, LookupError, StopIteration) as error:
        if not drift:
            raise
        plan = cast("Plan", NoPlan(f"the lock does not fit the stack: {error}"))
    return _realiser(ctx, folder, console, stack=stack, lock=lock, plan=plan), drift


def _realiser(  # noqa: PLR0913 - what a stack is, each under its name
    ctx: click.Context, folder: StackFolder, console: Console, *, stack: Stack, lock: Lock, plan: Plan
) -> Realiser:
    from lockbuild.realise import Realiser  # noqa: PLC0415 - not needed for --help

    settings = settings_of(ctx)
    return Realiser(
        stack=stack,
        lock=lock,
        plan=plan,
        stack_folder=folder.path,
        store=open_store(settings),
        mirrors=lambda names: mirrors_of(settings, names),
        builder=cache(lambda: builder_of(settings)),
        root_builder=root_builder,
        prefix_builder=prefix_builder,
        progress=console,
        cores=settings.cores,
        memory_per_job=settings.memory_per_job * 10**6,
        compiler_cache=settings.compiler_cache,
        connections=settings.connections,
    )


def open_rebuilder(
    ctx: click.Context, claim: Claim, beside: Path | None, console: Console, *, trust_image: bool
) -> Rebuilder:
    """Return what makes the wheel of *claim* again.

    Args:
        beside: The folder of the stack that it was built for, where that is known.
        trust_image: Whether programs of a base image may run outside the sandbox.
    """
    from lockbuild.rebuilding import Rebuilder  # noqa: PLC0415 - not needed for --help

    settings = settings_of(ctx)
    return Rebuilder(
        claim=claim,
        plan=claim.plan(),
        stack_folder=beside or claim.file.absolute().parent,
        store=open_store(settings),
        mirrors=lambda names: mirrors_of(settings, names),
        builder=cache(lambda: builder_of(settings)),
        root_builder=root_builder,
        prefix_builder=prefix_builder,
        progress=console,
        cores=settings.cores,
        memory_per_job=settings.memory_per_job * 10**6,
        # What a cache gives would be nobody's second opinion.
        compiler_cache=False,
        connections=settings.connections,
        trust_image=trust_image,
    )
