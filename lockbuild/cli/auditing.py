"""`lockbuild audit`."""

from __future__ import annotations

import sys
from dataclasses import asdict, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING

import click

from lockbuild.cli.looking import image_contents, venv_of
from lockbuild.cli.reporting import FORMATS, read_earlier, report_text
from lockbuild.cli.session import console_of, open_drifted, optional_stack_argument, print_json
from lockbuild.errors import AuditError, LockbuildError, UsageError
from lockbuild.folders import write_output
from lockbuild.lock import LOCK_FILE

if TYPE_CHECKING:
    from datetime import date

    from lockbuild.audit import LockDrift, Subject
    from lockbuild.audit.online import Upstream
    from lockbuild.components import Component
    from lockbuild.findings import About
    from lockbuild.folders import StackFolder
    from lockbuild.realise import Realiser
    from lockbuild.results import Result
    from lockbuild.wheelhouse import Manifest

AGAINST = ("lock", "wheelhouse", "venv", "image", "archive")
_ABOUT: dict[str | None, tuple[About, ...]] = {
    None: ("lock", "wheelhouse", "image"),
    "lock": ("lock",),
    "wheelhouse": ("wheelhouse",),
    "venv": ("venv",),
    "image": ("image",),
    "archive": ("image",),
}


@click.command()
@optional_stack_argument
@click.argument("where", metavar="[PATH|REF|FILE]", required=False)
@click.option(
    "--against",
    type=click.Choice(AGAINST),
    help="What to look into: the lock alone, the wheelhouse, a virtual environment (`venv PATH`), an image of the"
    " engine (`image REF`), or an archive or OCI layout (`archive FILE`). Left out: all that is there.",
)
@click.option(
    "--osv",
    type=click.Path(exists=True, path_type=Path),
    metavar="DIR",
    help="A local OSV export to look vulnerabilities up in: a folder or zip of its records.",
)
@click.option(
    "--format",
    "format_",
    type=click.Choice(FORMATS),
    default="table",
    show_default=True,
    help="What to print.",
)
@click.option(
    "--output",
    type=click.Path(dir_okay=False, writable=True, path_type=Path),
    metavar="FILE",
    help="Write it to this file, whole or not at all, or into this device or pipe, instead of printing it.",
)
@click.option(
    "--since",
    type=click.Path(exists=True, dir_okay=False, path_type=Path),
    metavar="FILE",
    help="With `--format html`: an earlier report, HTML or JSON, to say what has changed since.",
)
@click.option(
    "--online",
    is_flag=True,
    help="Also ask indexes, archives, repositories and registries whether they still serve what is locked.",
)
@click.option(
    "--level",
    type=click.Choice(("error", "warning")),
    default="error",
    show_default=True,
    help="From which level on findings make the exit code 9.",
)
@click.option("--list", "list_", is_flag=True, help="Print every check there is, and look at nothing.")
@click.option("--json", "as_json", is_flag=True, help="The same as `--format json`.")
@click.pass_context
def audit(  # noqa: PLR0913 - each says another thing
    ctx: click.Context,
    folder: StackFolder | None,
    *,
    where: str | None,
    against: str | None,
    osv: Path | None,
    format_: str,
    output: Path | None,
    since: Path | None,
    online: bool,
    level: str,
    list_: bool,
    as_json: bool,
) -> None:
    """Check that STACK's wheelhouse, store, Dockerfile and image are what was locked, and may be used.

    Needs no network but for --online; reads an image's files without running it.
    """
    if list_:
        _list(as_json=as_json)
        return
    if folder is None:
        raise UsageError(
            "it is not said what to audit",
            hint="`lockbuild audit STACK`; `--list` alone prints every check",
        )
    _check_where(against, where)
    format_ = "json" if as_json else format_
    if since and format_ != "html":
        raise UsageError(f"`--since`: found with `--format {format_}`, expected with `--format html`")
    earlier = read_earlier(since) if since else None
    realiser, drift = open_drifted(ctx, folder, console_of(ctx))
    result = _audited(realiser, folder, drift, against=against, where=where, osv=osv, online=online)
    text = report_text(
        result,
        format_,
        lock=folder.path / LOCK_FILE,
        stack=realiser.stack,
        locked=realiser.lock,
        earlier=earlier,
        terminal=output is None and sys.stdout.isatty(),
    )
    if output is None:
        click.echo(text, nl=False)
    else:
        _write(output, click.unstyle(text))
    bad = result.report.count(warnings=level == "warning")
    if bad:
        count = f"1 {level}" if bad == 1 else f"{bad} {level}s"
        raise AuditError(f"the audit of {folder.label} found {count}")


def _check_where(against: str | None, where: str | None) -> None:
    if against in ("venv", "archive") and where is None:
        raise UsageError(
            f"`--against {against}` needs to know which",
            hint=f"`lockbuild audit STACK --against {against} PATH`",
        )
    if where is not None and against not in ("venv", "archive", "image"):
        raise UsageError(
            f"`{where}`: found without what it is, expected `--against venv`, `image` or `archive` before it"
        )


def _audited(  # noqa: PLR0913 - as keywords
    realiser: Realiser,
    folder: StackFolder,
    drift: LockDrift,
    *,
    against: str | None,
    where: str | None,
    osv: Path | None,
    online: bool,
) -> Result:
    from lockbuild.audit import ALL_CHECKS, policy, vulnerable  # noqa: PLC0415 - heavy
    from lockbuild.audit import audit as run_checks  # noqa: PLC0415
    from lockbuild.audit.rules import Skip, manifest_of  # noqa: PLC0415
    from lockbuild.findings import Report  # noqa: PLC0415
    from lockbuild.gate.auditing import audit_wheelhouse  # noqa: PLC0415
    from lockbuild.results import Result  # noqa: PLC0415

    about = _ABOUT[against]
    today = datetime.now(UTC).date()
    parts = _components(realiser, drift)
    manifest, no_manifest = _manifest(folder) if "wheelhouse" in about else (None, "")
    image, no_image = (
        image_contents(realiser, parts, against=against, where=where) if "image" in about else (None, "")
    )
    subject = replace(
        _subject(realiser, folder, today),
        manifest=manifest,
        no_manifest=no_manifest,
        image=image,
        no_image=no_image,
        venv=venv_of(against, where),
        components=parts,
        drift=drift,
        upstream=_upstream(realiser) if online else None,
    )
    if osv is not None:
        subject = vulnerable.with_export(subject, osv, realiser.progress)
    report = run_checks(subject, about)
    if "wheelhouse" in about:
        try:
            report += audit_wheelhouse(realiser, folder.wheels, manifest_of(subject))
        except Skip as reason:
            report += Report(findings=(), passed=(), skipped=(("gate", str(reason)),))
    known = {check.id for check in ALL_CHECKS}
    return Result(
        stack=realiser.stack.name,
        summary=realiser.stack.summary,
        lock=realiser.lock.digest,
        image=subject.image.reference if subject.image else str(subject.venv or ""),
        today=today,
        report=policy.apply(realiser.stack.audit, report, known=known, today=today),
        checks=ALL_CHECKS,
        components=subject.components,
        osv=vulnerable.told_by(subject.osv),
    )


def _subject(realiser: Realiser, folder: StackFolder, today: date) -> Subject:
    from lockbuild.audit import Subject  # noqa: PLC0415 - heavy

    dockerfile = folder.path / "Dockerfile"
    return Subject(
        stack=realiser.stack,
        lock=realiser.lock,
        plan=realiser.plan,
        store=realiser.store,
        wheelhouse=folder.wheels,
        manifest=None,
        # Whoever edited it may have saved it in another encoding: it is not what is rendered, and that is told.
        dockerfile=dockerfile.read_text(encoding="utf-8", errors="replace")
        if dockerfile.is_file()
        else None,
        rendered=_rendered(realiser),
        image=None,
        today=today,
        progress=realiser.progress,
    )


def _manifest(folder: StackFolder) -> tuple[Manifest | None, str]:
    """Return the manifest of the wheelhouse, where there is one, or why it cannot be read."""
    from lockbuild.wheelhouse import MANIFEST, parse_manifest  # noqa: PLC0415 - heavy

    file = folder.wheels / MANIFEST
    if not file.is_file():
        return None, ""
    try:
        return parse_manifest(file.read_text(encoding="utf-8")), ""
    except LockbuildError as error:
        return None, error.message
    except (OSError, UnicodeDecodeError) as error:
        return None, str(error)


def _rendered(realiser: Realiser) -> str:
    from lockbuild.cli.imaging import rendered_texts  # noqa: PLC0415 - heavy

    try:
        return rendered_texts(realiser.stack, realiser.lock)["Dockerfile"]
    except (LockbuildError, LookupError):
        # Only a lock that has moved away from its stack renders nothing, and that is told.
        return ""


def _upstream(realiser: Realiser) -> Upstream:
    from lockbuild.audit.online import Upstream  # noqa: PLC0415 - heavy

    return Upstream(
        mirrors=realiser.mirrors, progress=realiser.progress, connections=realiser.connections
    )


def _components(realiser: Realiser, drift: LockDrift) -> tuple[Component, ...]:
    """Return what stack and image are made of; nothing where the lock has moved too far from its stack."""
    from lockbuild.audit.rules import Skip  # noqa: PLC0415 - heavy
    from lockbuild.inventory import components  # noqa: PLC0415

    try:
        return components(realiser.stack, realiser.lock, realiser.plan, realiser.store)
    except (LockbuildError, LookupError, Skip):
        if not drift:
            raise
        return ()


def _write(output: Path, text: str) -> None:
    write_output(output, text, label=f"--output {output}")


def _list(*, as_json: bool) -> None:
    from lockbuild.audit import ALL_CHECKS  # noqa: PLC0415 - heavy

    if as_json:
        print_json([asdict(check) for check in ALL_CHECKS])
        return
    for check in ALL_CHECKS:
        click.echo(f"{check.id:<20} {check.level:<8} {check.about:<10} {check.what}")
