"""`lockbuild provenance`."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

import click

from lockbuild.cli.session import console_of, open_realiser, stack_argument
from lockbuild.errors import BuildError, UsageError
from lockbuild.lock import LockedFile

if TYPE_CHECKING:
    from collections.abc import Sequence

    from lockbuild.digest import StorePath
    from lockbuild.folders import StackFolder
    from lockbuild.realise import Realiser


@click.command()
@stack_argument
@click.argument("packages", metavar="[PACKAGE]...", nargs=-1)
@click.pass_context
def provenance(ctx: click.Context, folder: StackFolder, *, packages: tuple[str, ...]) -> None:
    """Print where the wheels that STACK builds come from, as in-toto Statements with SLSA Provenance v1.

    One on each line (JSON Lines), for what signs them. With PACKAGE, only of those.
    """
    from lockbuild.attestation import statement  # noqa: PLC0415 - not needed for --help
    from lockbuild.provenance import Provenance, closure_of  # noqa: PLC0415

    realiser = open_realiser(ctx, folder, console_of(ctx))
    compiles, derivations = dict(realiser.plan.compiles), realiser.plan.derivations
    versions = {package.name: package.version for package in realiser.lock.runtime}
    chosen = _chosen(realiser, packages)
    wheels = {name: _wheel(realiser, name, path) for name, path in chosen.items()}
    for name, path in chosen.items():
        record = Provenance(
            name=name,
            version=versions[name],
            build=compiles[name],
            derivations=closure_of(compiles[name], derivations),
        )
        document = statement(record, wheels[name], stamped=path)
        click.echo(json.dumps(document, sort_keys=True, separators=(",", ":")))


def _chosen(realiser: Realiser, packages: Sequence[str]) -> dict[str, StorePath]:
    builds = dict(realiser.plan.builds)
    unknown = sorted(set(packages) - builds.keys())
    if unknown:
        raise UsageError(
            f"`{unknown[0]}` is nothing that stack `{realiser.stack.name}` builds",
            hint=f"it builds: {', '.join(sorted(builds)) or 'nothing'}",
        )
    return {name: path for name, path in builds.items() if not packages or name in packages}


def _wheel(realiser: Realiser, name: str, path: StorePath) -> LockedFile:
    """Return the wheel that was built: as it is pinned, else as the store has it."""
    pin = realiser.lock.pin(name)
    if pin and pin.derivation == path:
        return pin.wheel
    info = realiser.store.info(path)
    for filename, sha256, size in info.outputs if info else ():
        if filename.endswith(".whl"):
            return LockedFile(filename=filename, sha256=sha256, size=size)
    raise BuildError(
        f"`{name}` is not built yet: nobody knows the hash of its wheel",
        hint=f"`lockbuild build {realiser.stack.name} {name}`",
    )
