"""`lockbuild gate`, and what keeps wheels out of a wheelhouse."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING

import click

from lockbuild.cli.session import (
    console_of,
    json_option,
    open_realiser,
    print_json,
    refuse_blocked,
    stack_argument,
)
from lockbuild.errors import UsageError

if TYPE_CHECKING:
    from collections.abc import Sequence

    from lockbuild.findings import Report
    from lockbuild.folders import StackFolder
    from lockbuild.gate import Judgement
    from lockbuild.realise import Realiser

__all__ = ["gate", "pass_gate"]


@click.command()
@stack_argument
@click.argument(
    "wheels",
    metavar="[WHEEL]...",
    nargs=-1,
    type=click.Path(exists=True, dir_okay=False, path_type=Path),
)
@json_option
@click.pass_context
def gate(ctx: click.Context, folder: StackFolder, *, wheels: tuple[Path, ...], as_json: bool) -> None:
    """Judge the wheels that STACK has built, or WHEEL files: may they enter its wheelhouse?

    Looks into their ELF files and device code, and imports what they provide in the image's root file system,
    without a network and without a GPU. Builds no wheel.
    """
    from lockbuild.gate import Subject, built_wheels, judge_wheels, refusal  # noqa: PLC0415 - heavy
    from lockbuild.hashing import sha256_of_file  # noqa: PLC0415

    console = console_of(ctx)
    realiser = open_realiser(ctx, folder, console)
    subjects = tuple(Subject(file=file, sha256=sha256_of_file(file)) for file in wheels)
    if not wheels:
        subjects = built_wheels(realiser)
        if not subjects:
            raise UsageError(
                f"the store has no wheel that {folder.label} builds",
                hint=f"`lockbuild build {folder.label}` builds and judges them, or name a wheel file",
            )
        absent = [name for name, path in realiser.plan.builds if realiser.store.info(path) is None]
        if absent:
            console.warn(
                f"not built, and so not judged: {', '.join(absent)}; `lockbuild build {folder.label}` does both"
            )
    refuse_blocked(realiser, _judging(realiser), what="no wheel can be judged")
    judgements = judge_wheels(realiser, subjects)
    if as_json:
        print_json([_as_json(one) for one in judgements])
    else:
        _print(judgements)
    if error := refusal(judgements):
        raise error


def pass_gate(realiser: Realiser) -> None:
    """Refuse to go on with built wheels that do not pass; all of them are in the store.

    Raises:
        BuildError: With a line for each fault, and one for what mends each kind.
        ResolveError: The lock does not say what they are to be judged in.
    """
    from lockbuild.gate import built_wheels, judge_wheels, refusal  # noqa: PLC0415 - not needed for --help

    if realiser.plan.builds:
        refuse_blocked(realiser, _judging(realiser), what="no built wheel can be judged")
        if error := refusal(judge_wheels(realiser, built_wheels(realiser))):
            raise error


def _judging(realiser: Realiser) -> tuple[str, ...]:
    """Return the names of what wheels are judged in."""
    return ("runtime", *(package.name for package in realiser.lock.runtime if package.wheel))


def _as_json(one: Judgement) -> dict[str, object]:
    return {
        "wheel": one.subject.file.name,
        "sha256": one.subject.sha256,
        "findings": [asdict(finding) for finding in one.report.findings],
        "passed": list(one.report.passed),
        "skipped": [{"check": check, "reason": reason} for check, reason in one.report.skipped],
    }


def _print(judgements: Sequence[Judgement]) -> None:
    for one in judgements:
        click.echo(one.subject.file.name)
        for check, state, text in _rows(one.report):
            click.echo(f"  {state} {check:<14} {text}".rstrip())


def _rows(report: Report) -> list[tuple[str, str, str]]:
    from lockbuild.gate import CHECKS  # noqa: PLC0415 - heavy

    rows = []
    for check in CHECKS:
        faults = [finding for finding in report.findings if finding.check == check.id]
        reason = dict(report.skipped).get(check.id)
        if reason is not None:
            rows.append((check.id, "not checked", reason))
        elif not faults:
            rows.append((check.id, "ok         ", check.what))
        for fault in faults:
            where = fault.subject.partition(": ")[2]
            state = click.style(f"{fault.level:<11}", fg="red" if fault.level == "error" else "yellow")
            rows.append((check.id, state, f"{where}: {fault.message}" if where else fault.message))
    return rows
