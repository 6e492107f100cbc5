"""`lockbuild store …`."""

from __future__ import annotations

from typing import TYPE_CHECKING

import click

from lockbuild.cli.session import console_of, json_option, open_store, print_json, settings_of
from lockbuild.errors import StoreError

if TYPE_CHECKING:
    from lockbuild.store import Damage


@click.group()
def store() -> None:
    """Look after the store."""


@store.command()
@click.pass_context
def path(ctx: click.Context) -> None:
    """Print where the store is."""
    click.echo(str(settings_of(ctx).store))


@store.command()
@json_option
@click.pass_context
def verify(ctx: click.Context, *, as_json: bool) -> None:
    """Hash every object again and compare it with its record."""
    console = console_of(ctx)
    opened = open_store(settings_of(ctx))
    with console.phase("verifying", total=len(opened.paths()), unit="objects"):
        damages = tuple(opened.verify())
    if as_json:
        print_json(
            [
                {
                    "path": str(damage.path),
                    "problem": damage.problem,
                    "expected": damage.expected,
                    "found": damage.found,
                    "members": list(damage.members),
                }
                for damage in damages
            ]
        )
    if damages:
        count = "1 store object is" if len(damages) == 1 else f"{len(damages)} store objects are"
        raise StoreError(
            f"{count} damaged",
            details=tuple(line for damage in damages for line in _lines(damage)),
            hint="`lockbuild store repair` forgets what is damaged, so that it is made again",
        )
    console.note(f"all {len(opened.paths())} store objects are whole")


@store.command()
@json_option
@click.pass_context
def repair(ctx: click.Context, *, as_json: bool) -> None:
    """Forget what is damaged or unfinished, so that it is fetched or built again when it is needed."""
    opened = open_store(settings_of(ctx))
    damages = tuple(opened.verify())
    for damage in damages:
        opened.remove(damage.path)
    leftovers = opened.forget_invalid()
    if as_json:
        print_json({"forgotten": [str(damage.path) for damage in damages], "removed": list(leftovers)})
        return
    for damage in damages:
        click.echo(f"forgot {damage.path}: {damage.problem}")
    for leftover in leftovers:
        click.echo(f"removed {leftover}")
    console_of(ctx).note(f"{len(damages)} damaged objects forgotten")


@store.command()
@click.option("--dry-run", is_flag=True, help="Say what would go, and do nothing.")
@json_option
@click.pass_context
def gc(ctx: click.Context, *, dry_run: bool, as_json: bool) -> None:
    """Remove every object that no stack built here still needs."""
    collected = open_store(settings_of(ctx)).collect(dry_run=dry_run)
    if as_json:
        print_json({"removed": [str(gone) for gone in collected.paths], "size": collected.size})
        return
    for gone in collected.paths:
        click.echo(str(gone))
    verb = "would be" if dry_run else "were"
    console_of(ctx).note(
        f"{len(collected.paths)} objects, {collected.size / 1e6:.1f} MB, {verb} removed"
    )


def _lines(damage: Damage) -> tuple[str, ...]:
    return (
        f"{damage.path}: {damage.problem}",
        f"  recorded sha256 {damage.expected or 'unknown'}",
        f"  found    sha256 {damage.found or 'nothing'}",
        *(f"  {member}" for member in damage.members),
    )
