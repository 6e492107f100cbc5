"""`lockbuild why-rebuild`."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import click

from lockbuild.cli.session import console_of, json_option, open_realiser, print_json, stack_argument
from lockbuild.derivation import Build
from lockbuild.errors import UsageError

if TYPE_CHECKING:
    from collections.abc import Sequence

    from lockbuild.digest import StorePath
    from lockbuild.folders import StackFolder
    from lockbuild.plan.reasons import Reason
    from lockbuild.realise import Realiser


@click.command("why-rebuild")
@stack_argument
@click.argument("packages", metavar="[PACKAGE]...", nargs=-1)
@json_option
@click.pass_context
def why_rebuild(
    ctx: click.Context, folder: StackFolder, *, packages: tuple[str, ...], as_json: bool
) -> None:
    """Say why STACK's packages are to be built again, down to what was changed.

    With PACKAGE, only of those (`runtime` and `toolchain` are the root file systems). Nothing is built.
    """
    realiser = open_realiser(ctx, folder, console_of(ctx))
    found: dict[str, tuple[Reason, ...]] = {}
    for name, path in _chosen(realiser, packages).items():
        build = realiser.plan.derivations[path]
        found[name] = ()
        if isinstance(build, Build) and realiser.store.info(path) is None:
            found[name] = realiser.why(build)
    if as_json:
        print_json({name: [_document(one) for one in reasons] for name, reasons in found.items()})
        return
    for name, reasons in found.items():
        click.echo(f"{name}: {'is built again' if reasons else 'is there'}")
        _say(reasons, 1)


def _chosen(realiser: Realiser, packages: Sequence[str]) -> dict[str, StorePath]:
    """Return what is to be explained: compiled wheels, and those whose label or record alone changes; roots."""
    plan = realiser.plan
    compiles, builds = dict(plan.compiles), dict(plan.builds)
    valid = realiser.store.valid((*compiles.values(), *builds.values()))
    known = {name: builds[name] if path in valid else path for name, path in compiles.items()}
    known |= dict(plan.roots)
    unknown = sorted(set(packages) - known.keys())
    if unknown:
        raise UsageError(
            f"`{unknown[0]}` is nothing that stack `{realiser.stack.name}` builds",
            hint=f"it builds: {', '.join(sorted(known))}",
        )
    return {name: path for name, path in known.items() if not packages or name in packages}


def _say(reasons: Sequence[Reason], depth: int) -> None:
    for reason in reasons:
        click.echo(f"{'  ' * depth}{reason.text}")
        _say(reason.because, depth + 1)


def _document(reason: Reason) -> dict[str, Any]:
    return {"reason": reason.text, "because": [_document(one) for one in reason.because]}
