"""`lockbuild store …`."""

from __future__ import annotations

import difflib
from dataclasses import asdict
from typing import TYPE_CHECKING

import click

from lockbuild.cli.session import console_of, json_option, open_store, print_json, settings_of
from lockbuild.cli.words import counted, in_bytes
from lockbuild.errors import StoreError, UsageError

if TYPE_CHECKING:
    from collections.abc import Collection, Iterable

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
    damages = opened.verify(progress=console)
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


@store.command(short_help="Forget what is damaged or unfinished.")
@json_option
@click.pass_context
def repair(ctx: click.Context, *, as_json: bool) -> None:
    """Forget what is damaged or unfinished, so that it is fetched or built again when it is needed."""
    opened = open_store(settings_of(ctx))
    damages = opened.verify(progress=console_of(ctx))
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
    console_of(ctx).note(f"{counted(len(damages), 'damaged object')} forgotten")


@store.command(short_help="Say for which stack folders the store keeps objects.")
@json_option
@click.pass_context
def roots(ctx: click.Context, *, as_json: bool) -> None:
    """Say for which stack folders the store keeps objects, and how much each keeps alone."""
    kept = open_store(settings_of(ctx)).kept()
    if as_json:
        print_json([{**asdict(one), "gone": one.gone} for one in kept])
        return
    for one in kept:
        folder = (
            f"{one.folder}{' (gone)' if one.gone else ''}" if one.folder else "a folder not recorded"
        )
        click.echo(f"{one.name}  {folder}")
        click.echo(
            f"  {counted(one.objects, 'object')}, {in_bytes(one.size)}; {in_bytes(one.alone)} of it kept for this alone"
        )


@store.command()
@click.option("--dry-run", is_flag=True, help="Say what would go, and do nothing.")
@click.option(
    "--forget-gone", is_flag=True, help="Keep nothing for stack folders that are not there any more."
)
@click.option(
    "--forget",
    metavar="NAME",
    multiple=True,
    help="Keep nothing for this one of `lockbuild store roots`; more than once for more.",
)
@json_option
@click.pass_context
def gc(
    ctx: click.Context, *, dry_run: bool, forget_gone: bool, forget: tuple[str, ...], as_json: bool
) -> None:
    """Remove every object that no stack built here still needs."""
    opened = open_store(settings_of(ctx))
    kept = opened.kept()
    _know(forget, {one.name for one in kept})
    gone = [one for one in kept if one.gone]
    forgotten = {*forget, *(one.name for one in gone if forget_gone)}
    collected = opened.collect(without=forgotten, dry_run=dry_run)
    if as_json:
        print_json(
            {
                "removed": [str(path) for path in collected.paths],
                "size": collected.size,
                "forgotten": sorted(forgotten),
            }
        )
        return
    for path in collected.paths:
        click.echo(str(path))
    verb = "would be" if dry_run else "were"
    console = console_of(ctx)
    objects = counted(len(collected.paths), "object")
    console.note(f"{objects}, {in_bytes(collected.size)}, {verb} removed")
    left = {one.name for one in gone} - forgotten
    if left:
        without = opened.collect(without=forgotten | left, dry_run=True).size
        size = in_bytes(without - (collected.size if dry_run else 0))
        console.note(
            f"{counted(len(left), 'stack folder')} gone, {size} still kept: "
            "`lockbuild store roots` names what, `lockbuild store gc --forget-gone` forgets it"
        )


def _know(names: Iterable[str], known: Collection[str]) -> None:
    for name in names:
        if name not in known:
            near = difflib.get_close_matches(name, known, n=1)
            hint = (
                f"did you mean `{near[0]}`?" if near else "`lockbuild store roots` lists what it keeps"
            )
            raise UsageError(f"the store keeps nothing for `{name}`", hint=hint)


def _lines(damage: Damage) -> tuple[str, ...]:
    return (
        f"{damage.path}: {damage.problem}",
        f"  recorded sha256 {damage.expected or 'unknown'}",
        f"  found    sha256 {damage.found or 'nothing'}",
        *(f"  {member}" for member in damage.members),
    )
