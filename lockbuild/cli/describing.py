"""`lockbuild describe`."""

from __future__ import annotations

from typing import TYPE_CHECKING

import click

from lockbuild.cli.session import stack_argument
from lockbuild.cli.templates import template_text
from lockbuild.description import TEMPLATE
from lockbuild.description import describe as describe_stack
from lockbuild.stack import from_document

if TYPE_CHECKING:
    from lockbuild.folders import StackFolder

__all__ = ["describe", "page"]


def page(folder: StackFolder) -> str:
    """Return the page of the stack in *folder*.

    Raises:
        LockError: The lock is missing, damaged or stale.
    """
    document, lock = folder.read_locked()
    return describe_stack(from_document(document), lock, template=template_text(TEMPLATE))


@click.command()
@stack_argument
def describe(folder: StackFolder) -> None:
    """Print STACK's page: what its image holds, where that is from, and what it needs, as Markdown."""
    click.echo(page(folder), nl=False)
