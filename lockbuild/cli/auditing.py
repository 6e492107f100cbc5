"""`lockbuild audit` and `lockbuild doctor`."""

from __future__ import annotations

from contextlib import suppress
from dataclasses import asdict
from typing import TYPE_CHECKING

import click

from lockbuild.cli.session import (
    console_of,
    json_option,
    open_realiser,
    print_json,
    settings_of,
    stack_argument,
)
from lockbuild.derivation import CONDA_FOLDER
from lockbuild.errors import AuditError, LockbuildError, LockError, ToolMissing
from lockbuild.folders import find_stack

if TYPE_CHECKING:
    from lockbuild.audit import ImageContents, Subject
    from lockbuild.findings import Report
    from lockbuild.folders import StackFolder
    from lockbuild.placing import SourceTree
    from lockbuild.realise import Realiser


@click.command()
@stack_argument
@click.option(
    "--image",
    "reference",
    metavar="NAME",
    help="The image to look at; the one of this lock when left out.",
)
@json_option
@click.pass_context
def audit(ctx: click.Context, folder: StackFolder, *, reference: str | None, as_json: bool) -> None:
    """Check that STACK's wheelhouse, store, Dockerfile and image are what was locked.

    Needs no network; reads an image's files without running it.
    """
    from lockbuild.audit import audit as run_checks  # noqa: PLC0415 - heavy
    from lockbuild.findings import Report  # noqa: PLC0415
    from lockbuild.gate.auditing import audit_wheelhouse  # noqa: PLC0415

    console = console_of(ctx)
    realiser = open_realiser(ctx, folder, console)
    subject = _subject(realiser, folder, reference)
    report = run_checks(subject)
    judged = audit_wheelhouse(realiser, folder.wheels, subject.manifest)
    report = Report(
        findings=(*report.findings, *judged.findings),
        passed=(*report.passed, *judged.passed),
        skipped=(*report.skipped, *judged.skipped),
    )
    if as_json:
        print_json(
            {
                "findings": [asdict(finding) for finding in report.findings],
                "passed": list(report.passed),
                "skipped": [{"check": check, "reason": reason} for check, reason in report.skipped],
            }
        )
    else:
        _print(report)
    if report.errors:
        count = "1 error" if report.errors == 1 else f"{report.errors} errors"
        raise AuditError(f"the audit of {folder.label} found {count}")


def _subject(realiser: Realiser, folder: StackFolder, reference: str | None) -> Subject:
    from lockbuild.audit import Subject  # noqa: PLC0415 - heavy
    from lockbuild.cli.imaging import rendered_texts  # noqa: PLC0415
    from lockbuild.wheelhouse import MANIFEST, parse_manifest  # noqa: PLC0415

    manifest_file, dockerfile = folder.wheels / MANIFEST, folder.path / "Dockerfile"
    image, no_image = _image(realiser, reference)
    return Subject(
        stack=realiser.stack,
        lock=realiser.lock,
        plan=realiser.plan,
        store=realiser.store,
        wheelhouse=folder.wheels,
        manifest=parse_manifest(manifest_file.read_text(encoding="utf-8"))
        if manifest_file.is_file()
        else None,
        dockerfile=dockerfile.read_text(encoding="utf-8") if dockerfile.is_file() else None,
        rendered=rendered_texts(realiser.stack, realiser.lock)["Dockerfile"],
        image=image,
        trees=_trees(realiser),
        no_image=no_image,
    )


def _image(realiser: Realiser, reference: str | None) -> tuple[ImageContents | None, str]:
    """Return what the image holds, or none and why."""
    from lockbuild.audit import ImageContents  # noqa: PLC0415 - heavy
    from lockbuild.cli.imaging import image_tag  # noqa: PLC0415
    from lockbuild.dockerfile import PREFIX  # noqa: PLC0415
    from lockbuild.image import containers  # noqa: PLC0415
    from lockbuild.image.engine import find_engine  # noqa: PLC0415

    name = reference or image_tag(realiser.stack.name, realiser.lock)
    try:
        engine = find_engine()
    except ToolMissing as error:
        if reference:
            raise
        return None, error.message
    facts = (
        containers.inspect(name, engine=engine) if reference else containers.find(name, engine=engine)
    )
    if facts is None:
        return None, f"the engine has no image `{name}`: `lockbuild image`"
    installed = containers.installed(facts.id, prefix=PREFIX, conda=CONDA_FOLDER, engine=engine)
    contents = ImageContents(
        reference=name,
        packages=dict(installed.python),
        debs=dict(installed.debs),
        conda=dict(installed.conda),
        labels=dict(facts.labels),
        sources={
            source.name: containers.files_below(facts.id, source.path, engine=engine)
            for source in realiser.stack.placed
        },
    )
    return contents, ""


def _trees(realiser: Realiser) -> tuple[SourceTree, ...] | None:
    """Return what the image must have of sources; none where it cannot be known."""
    from lockbuild.placing import source_trees  # noqa: PLC0415 - heavy

    try:
        return source_trees(realiser.stack, realiser.plan, realiser.store)
    except LockbuildError:
        return None


def _print(report: Report) -> None:
    for check in report.passed:
        click.echo(f"ok           {check}")
    for check, reason in report.skipped:
        click.echo(f"not checked  {check}: {reason}")
    for finding in report.findings:
        colour = "red" if finding.level == "error" else "yellow"
        click.echo(
            f"{click.style(f'{finding.level:<11}', fg=colour)}  {finding.check}: {finding.subject}: {finding.message}"
        )
    for check, mend in dict.fromkeys((finding.check, finding.mend) for finding in report.findings):
        click.echo(f"mend         {check}: {mend}")


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
