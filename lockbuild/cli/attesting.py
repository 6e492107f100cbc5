"""`lockbuild provenance`."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

import click

from lockbuild.cli.session import console_of, open_realiser, stack_argument
from lockbuild.derivation import PREFIX_TAR, ROOTFS_TAR
from lockbuild.errors import BuildError, UsageError
from lockbuild.lock import LockedFile

if TYPE_CHECKING:
    from collections.abc import Sequence

    from lockbuild.digest import StorePath
    from lockbuild.folders import StackFolder
    from lockbuild.plan import Plan
    from lockbuild.provenance import Provenance
    from lockbuild.realise import Realiser


@click.command()
@stack_argument
@click.argument("packages", metavar="[PACKAGE]...", nargs=-1)
@click.pass_context
def provenance(ctx: click.Context, folder: StackFolder, *, packages: tuple[str, ...]) -> None:
    """Print where what STACK builds comes from, as in-toto Statements with SLSA Provenance v1.

    One on each line (JSON Lines), for what signs them: of each wheel, and of the root file systems `toolchain` and
    `runtime` and the prefix of conda packages, as far as they are built. With PACKAGE, only of those.
    """
    from lockbuild.attestation import statement, system_statement  # noqa: PLC0415 - not needed for --help

    console = console_of(ctx)
    realiser = open_realiser(ctx, folder, console)
    plan = realiser.plan
    wheels, systems = _chosen(realiser, packages)
    files = {name: _wheel(realiser, name, path) for name, path in wheels.items()}
    archives = {name: _archive(realiser, path) for name, path in systems.items()}
    absent = [name for name, archive in archives.items() if archive is None]
    if absent and packages:
        raise BuildError(
            f"`{absent[0]}` is not built yet: nobody knows its hash",
            hint=f"`lockbuild build {realiser.stack.name}`",
        )
    versions = {package.name: package.version for package in realiser.lock.runtime}
    documents = [
        statement(
            _provenance(plan, name, dict(plan.compiles)[name], versions[name]), files[name], stamped=path
        )
        for name, path in wheels.items()
    ]
    documents += [
        system_statement(_provenance(plan, name, systems[name]), archive)
        for name, archive in archives.items()
        if archive
    ]
    for document in documents:
        click.echo(json.dumps(document, sort_keys=True, separators=(",", ":")))
    if absent:
        console.note(f"not built yet, and so without a Statement: {', '.join(absent)}")


def _provenance(plan: Plan, name: str, path: StorePath, version: str = "") -> Provenance:
    from lockbuild.provenance import Provenance, closure_of  # noqa: PLC0415 - not needed for --help

    derivations = closure_of(path, plan.derivations)
    return Provenance(name=name, version=version, build=path, derivations=derivations)


def _chosen(
    realiser: Realiser, names: Sequence[str]
) -> tuple[dict[str, StorePath], dict[str, StorePath]]:
    """Return name -> store path of wheels, and of all else that is built for the image."""
    plan = realiser.plan
    found = (dict(plan.builds), dict((*plan.roots, *plan.prefixes)))
    unknown = sorted(set(names) - found[0].keys() - found[1].keys())
    if unknown:
        raise UsageError(
            f"`{unknown[0]}` is nothing that stack `{realiser.stack.name}` builds",
            hint=f"it builds: {', '.join(sorted({**found[0], **found[1]})) or 'nothing'}",
        )
    wheels, systems = (
        {name: path for name, path in one.items() if not names or name in names} for one in found
    )
    return wheels, systems


def _archive(realiser: Realiser, path: StorePath) -> LockedFile | None:
    """Return the archive that was built; none where the store has not got it."""
    info = realiser.store.info(path)
    for filename, sha256, size in info.outputs if info else ():
        if filename in (PREFIX_TAR, ROOTFS_TAR):
            return LockedFile(filename=filename, sha256=sha256, size=size)
    return None


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
