"""`lockbuild init`."""

from __future__ import annotations

import os
from pathlib import Path

import click

from lockbuild.cli.session import console_of


@click.command()
@click.argument("name")
@click.option(
    "--from",
    "origin",
    required=True,
    metavar="PATH",
    type=click.Path(path_type=Path),
    help="The upstream repository: a checkout, any folder, or a bare git repository.",
)
@click.option(
    "--git", default="", metavar="URL", help="Where everybody can have it [default: its origin]."
)
@click.option(
    "--revision",
    default="",
    metavar="REV",
    help="Read this branch, tag or commit, not what is checked out.",
)
@click.option("--print", "to_stdout", is_flag=True, help="Print the stack file and write nothing.")
@click.pass_context
def init(  # noqa: PLR0913 - the options, as keywords
    ctx: click.Context, *, name: str, origin: Path, git: str, revision: str, to_stdout: bool
) -> None:
    """Write a first stacks/NAME/stack.toml for an upstream repository.

    Reads environments, requirements, setup.py, Dockerfiles, pages and sources as text, and runs nothing of
    them. What upstream leaves open, or says in two ways, stands in the file as a comment with `decide`.
    """
    from lockbuild.errors import UsageError  # noqa: PLC0415 - as light as the others
    from lockbuild.folders import STACK_FILE, write_text  # noqa: PLC0415
    from lockbuild.init import draft_stack  # noqa: PLC0415 - heavy
    from lockbuild.stack.schema import parse_stack_text  # noqa: PLC0415 - heavy

    file = Path("stacks", name, STACK_FILE)
    if Path(name).name != name:
        raise UsageError(
            f"`{name}` is no name of a stack", hint="lower-case letters, digits, `.`, `_`, `-`"
        )
    refuse = UsageError(
        f"{file} is there already, and is not overwritten", hint="take another name, or `--print`"
    )
    if not to_stdout and os.path.lexists(file):
        raise refuse
    text = draft_stack(origin, name=name, git=git, revision=revision)
    parse_stack_text(text, file=str(file))
    if to_stdout:
        click.echo(text, nl=False)
        return
    if os.path.lexists(file):
        raise refuse
    write_text(file, text)
    console_of(ctx).note(
        f"wrote {file}: settle what says `decide` in it, then `lockbuild resolve {name}`"
    )
