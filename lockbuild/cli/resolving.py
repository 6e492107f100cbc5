"""`lockbuild resolve` and `lockbuild schema`."""

from __future__ import annotations

from dataclasses import asdict
from typing import TYPE_CHECKING

import click
from packaging.utils import canonicalize_name

from lockbuild.cli.session import (
    console_of,
    json_option,
    mirrors_of,
    open_lines,
    open_store,
    print_json,
    settings_of,
    stack_argument,
)
from lockbuild.errors import ResolveError

if TYPE_CHECKING:
    from lockbuild.cli.console import Console
    from lockbuild.folders import StackFolder
    from lockbuild.locking import Resolved


@click.command()
@stack_argument
@click.option(
    "--engine",
    type=click.Choice(["uv", "pip-tools"]),
    default="uv",
    show_default=True,
    help="Who resolves the Python packages.",
)
@click.option("--cross-check", is_flag=True, help="Ask both engines; they must pin the same versions.")
@click.option("--upgrade", is_flag=True, help="Move every pin to the newest that fits.")
@click.option(
    "-P",
    "--upgrade-package",
    "packages",
    multiple=True,
    metavar="NAME",
    help="Let this package move; may be repeated.",
)
@click.option(
    "--repin",
    multiple=True,
    metavar="NAME",
    help="Forget the pinned bytes of this build, asset or wheel; may be repeated.",
)
@click.option(
    "--verify-pins",
    is_flag=True,
    help="Compare the wheels that the stack pins with what is published of them.",
)
@click.option("--allow-open", is_flag=True, help="Accept a lock that lacks what cannot be had now.")
@json_option
@click.pass_context
def resolve(  # noqa: PLR0913 - the options, as keywords
    ctx: click.Context,
    folder: StackFolder,
    *,
    engine: str,
    cross_check: bool,
    upgrade: bool,
    packages: tuple[str, ...],
    repin: tuple[str, ...],
    verify_pins: bool,
    allow_open: bool,
    as_json: bool,
) -> None:
    """Resolve STACK into pylock.toml, pylock.build.toml, requirements.txt and lockbuild.lock.

    Only this command writes locks. What has not changed in the stack keeps its pins. Where something cannot
    be had and never was, the lock says so, all else is locked, and the exit code is 4.
    """
    from lockbuild.locking import ResolveOptions  # noqa: PLC0415 - heavy
    from lockbuild.locking import resolve as resolve_stack  # noqa: PLC0415

    settings, console = settings_of(ctx), console_of(ctx)
    resolved = resolve_stack(
        folder,
        options=ResolveOptions(
            engine="pip-tools" if engine == "pip-tools" else "uv",
            cross_check=cross_check,
            upgrade=upgrade,
            upgrade_packages=frozenset(canonicalize_name(name) for name in packages),
            repin=frozenset(repin),
            verify_pins=verify_pins,
        ),
        mirrors=lambda names: mirrors_of(settings, names),
        store=open_store(settings),
        progress=console,
    )
    if as_json:
        print_json(
            {
                "stack": folder.path.name,
                "changed": list(resolved.changed),
                "moved": list(resolved.moved),
                "unpinned": list(resolved.unpinned),
                "open": [asdict(part) for part in resolved.open],
                "kept": [asdict(part) for part in resolved.kept],
                "unverified": [asdict(one) for one in resolved.unverified],
                "findings": [asdict(finding) for finding in resolved.warnings],
                "lock": resolved.lock.digest,
            }
        )
    else:
        _say(resolved, folder, console, accepted=allow_open)
    _refuse_gaps(resolved, folder, console, allow_open=allow_open)


def _refuse_gaps(resolved: Resolved, folder: StackFolder, console: Console, *, allow_open: bool) -> None:
    """End with an error where a written lock is not all that was asked for."""
    width = max((len(one.name) for one in resolved.unverified), default=0)
    unverified = tuple(f"{one.name:<{width}}  {one.reason}" for one in resolved.unverified)
    if resolved.open and not allow_open:
        for line in unverified:
            console.warn(f"not verified: {line}")
        raise ResolveError(
            f"{folder.label}: the lock is written, but {_count(len(resolved.open))} open",
            details=open_lines(resolved.open, resolved.causes),
            hint="resolve again where they can be had, or accept it with `--allow-open`: what needs them waits, "
            "all else does not",
        )
    if unverified:
        raise ResolveError(
            f"{folder.label}: the lock is written, but nothing published speaks for {len(unverified)} of its "
            "pinned wheels",
            details=unverified,
            hint="verify them where their indexes can be reached",
        )


def _count(parts: int) -> str:
    return "1 of its parts is" if parts == 1 else f"{parts} of its parts are"


def _say(resolved: Resolved, folder: StackFolder, console: Console, *, accepted: bool) -> None:
    for line in resolved.moved:
        click.echo(line)
    if resolved.engines[1:]:
        console.note(f"{' and '.join(resolved.engines)} agree")
    if resolved.changed:
        console.note(f"{folder.label}: wrote {', '.join(resolved.changed)}")
    else:
        console.note(f"{folder.label}: the lock is up to date")
    for finding in resolved.warnings:
        console.warn(f"{finding.check}: {finding.message}")
    for part in resolved.kept:
        first, *more = open_lines([part], resolved.causes)
        console.warn("\n".join((f"keeps its former pins: {first}", *more)))
    # What is not accepted is told at the end, by the error.
    for line in open_lines(resolved.open) if accepted else ():
        console.warn(f"open: {line}")
    if resolved.unpinned:
        console.note(
            f"not built yet, so without a hash: {', '.join(resolved.unpinned)}; "
            f"`lockbuild build {folder.label}`, then `lockbuild resolve {folder.label}` pins their bytes"
        )


@click.command()
def schema() -> None:
    """Print the JSON Schema of a stack file, for editors."""
    from lockbuild.stack.schema import json_schema  # noqa: PLC0415 - heavy

    print_json(json_schema())
