"""`lockbuild notice`."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import click

from lockbuild.cli.session import console_of, open_realiser, stack_argument

if TYPE_CHECKING:
    from lockbuild.folders import StackFolder


@click.command()
@stack_argument
@click.option(
    "--output",
    type=click.Path(dir_okay=False, path_type=Path),
    metavar="FILE",
    help="Write it there, in place of standard output.",
)
@click.pass_context
def notice(ctx: click.Context, folder: StackFolder, *, output: Path | None) -> None:
    """Print the NOTICE of STACK's image: its parts with their licences, and each licence's text once.

    Needs no network, and everything that the image holds in the store.
    """
    from lockbuild.folders import write_output  # noqa: PLC0415 - not needed for --help
    from lockbuild.inventory import components  # noqa: PLC0415
    from lockbuild.inventory.notices import notice_text  # noqa: PLC0415

    realiser = open_realiser(ctx, folder, console_of(ctx))
    parts = components(realiser.stack, realiser.lock, realiser.plan, realiser.store)
    text = notice_text(realiser.stack, parts, realiser.store)
    if output is None:
        click.echo(text, nl=False)
        return
    write_output(output, text, label=f"--output {output}")
