"""`lockbuild doctor`."""

from __future__ import annotations

from contextlib import suppress
from dataclasses import asdict

import click

from lockbuild.cli.session import json_option, print_json, settings_of
from lockbuild.errors import LockError, ToolMissing
from lockbuild.folders import find_stack


@click.command()
@click.argument("stack", metavar="[STACK]", required=False)
@json_option
@click.pass_context
def doctor(ctx: click.Context, *, stack: str | None, as_json: bool) -> None:
    """Try every tool that lockbuild needs, and say what to do about those that do not work."""
    from pathlib import Path  # noqa: PLC0415 - heavy with the rest

    from lockbuild.doctor import Diagnosis, examine, of_lock  # noqa: PLC0415
    from lockbuild.stack import from_document  # noqa: PLC0415
    from lockbuild.stack.schema import check_document  # noqa: PLC0415

    vendor, images, found = "debian", False, list[Diagnosis]()
    if stack:
        folder = find_stack(stack, here=Path.cwd())
        document = folder.read_document()
        check_document(document, file=folder.stack_file)
        base = from_document(document).base
        vendor, images = base.archive.vendor if base.archive else vendor, bool(base.images)
        # One that is missing or damaged is for the commands that need it.
        with suppress(LockError):
            found += of_lock(folder.read_lock())
    diagnoses = (*examine(settings_of(ctx), vendor=vendor, images=images), *found)
    if as_json:
        print_json([asdict(diagnosis) for diagnosis in diagnoses])
    else:
        for one in diagnoses:
            click.echo(f"{one.state:8} {one.name:15} {one.detail}")
            if one.state != "works" and one.mend:
                click.echo(f"{'':8} {'':15} {one.mend}")
    bad = [one.name for one in diagnoses if one.state in ("absent", "broken")]
    if bad:
        raise ToolMissing(f"not everything works: {', '.join(bad)}")
