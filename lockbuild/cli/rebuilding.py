"""`lockbuild rebuild`."""

from __future__ import annotations

from pathlib import Path

import click

from lockbuild.cli.session import console_of, json_option, open_rebuilder, print_json
from lockbuild.errors import BuildError


@click.command()
@click.argument("file", metavar="FILE.whl", type=click.Path(path_type=Path))
@click.option(
    "--again", is_flag=True, help="Compile it even where the store has what it was compiled to."
)
@click.option(
    "--beside",
    metavar="FOLDER",
    type=click.Path(path_type=Path, file_okay=False, exists=True),
    help="The stack's folder, for a source that is a folder beside the stack file.",
)
@click.option(
    "--trust-image",
    is_flag=True,
    help="Let programs of the base image that the record names run outside the sandbox.",
)
@json_option
@click.pass_context
def rebuild(  # noqa: PLR0913 - as keywords
    ctx: click.Context,
    file: Path,
    *,
    again: bool,
    beside: Path | None,
    trust_image: bool,
    as_json: bool,
) -> None:
    """Make a wheel that lockbuild has built again, from the record in it alone, and compare every byte.

    What the record asks to run runs in the sandbox, without a network.
    """
    from lockbuild import rebuilding  # noqa: PLC0415 - not needed for --help

    claim = rebuilding.read_claim(file)
    realiser = open_rebuilder(ctx, claim, beside, console_of(ctx), trust_image=trust_image)
    if beside is None:
        rebuilding.refuse_absent(claim, realiser.store)
    found = rebuilding.rebuild(realiser, again=again)
    label = f"{found.name}-{found.version}"
    if as_json:
        print_json(
            {
                "name": found.name,
                "version": found.version,
                "path": found.path,
                "identical": found.identical,
                "compiled": found.compiled,
                "sha256": {"file": found.claimed, "rebuilt": found.sha256},
                "differences": list(found.differences),
            }
        )
    else:
        how = "compiled again" if found.compiled else "as the store has it"
        click.echo(f"{label}: {'identical' if found.identical else 'different'} ({how})")
        for line in found.differences:
            click.echo(f"  {line}")
    if not found.identical:
        raise BuildError(
            f"`{file.name}` is not what its record gives",
            details=(f"file    sha256 {found.claimed}", f"rebuilt sha256 {found.sha256}"),
            hint="it was changed after it was built, or the build is not reproducible",
        )
