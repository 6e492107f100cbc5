"""What `lockbuild audit` found, in each of its formats."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING
from urllib.parse import quote

import click

from lockbuild.errors import ToolMissing, UsageError

if TYPE_CHECKING:
    from collections.abc import Iterator

    from lockbuild.findings import Finding, Report
    from lockbuild.lock import Lock
    from lockbuild.report.since import Audited
    from lockbuild.results import Result
    from lockbuild.stack import Stack

__all__ = ["FORMATS", "read_earlier", "report_text"]

FORMATS = ("table", "json", "sarif", "cyclonedx", "spdx", "html")
_COLOURS = {"error": "red", "warning": "yellow"}


def report_text(  # noqa: PLR0913 - each format wants another thing
    result: Result,
    format_: str,
    *,
    lock: Path,
    stack: Stack,
    locked: Lock,
    earlier: Audited | None = None,
    terminal: bool = False,
) -> str:
    """Return *result* as the text of one of `FORMATS`, a table in colours.

    Args:
        lock: The stack's lock, which SARIF shows findings at.
        stack: Whose edits bills of materials name.
        locked: What is in that lock.
        earlier: An audit that the HTML report compares with.
        terminal: Whether a table is for eyes: grouped by level, the gravest last, and without what passed. Else
            each thing has a line of its own.

    Raises:
        ToolMissing: What writes SPDX is not installed.
    """
    from lockbuild.documents import json_text  # noqa: PLC0415 - heavy, as all here
    from lockbuild.report.words import plain  # noqa: PLC0415
    from lockbuild.results import json_document  # noqa: PLC0415

    match format_:
        case "cyclonedx" | "spdx":
            return _bill_text(result, format_, stack, locked)
        case "json":
            text = json_text(json_document(result))
        case "sarif":
            from lockbuild.report.sarif import sarif_document  # noqa: PLC0415

            text = json_text(sarif_document(result, lock=_uri(lock)))
        case "html":
            from lockbuild.cli.templates import template_text  # noqa: PLC0415
            from lockbuild.report import TEMPLATES, html  # noqa: PLC0415

            templates = {name: template_text(name) for name in TEMPLATES}
            text = html(result, templates=templates, earlier=earlier)
        case _:
            lines = _grouped(result.report) if terminal else _table(result.report)
            asked = (f"vulnerabilities are those of {result.osv}",) if result.osv else ()
            text = "".join(f"{line}\n" for line in (*lines, *asked, _summary(result.report)))
    return plain(text)


def read_earlier(file: Path) -> Audited:
    """Return what an earlier report says.

    Raises:
        UsageError: It cannot be read, or is no report.
    """
    from lockbuild.report import parse_earlier  # noqa: PLC0415 - heavy

    try:
        text = file.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise UsageError(f"`--since {file}` cannot be read: {error}") from error
    return parse_earlier(text, label=f"`--since {file}`")


def _bill_text(result: Result, format_: str, stack: Stack, locked: Lock) -> str:
    from lockbuild.sbom import bill_of  # noqa: PLC0415 - heavy

    bill = bill_of(stack, locked, result.components, result.report.findings)
    if format_ == "cyclonedx":
        from lockbuild.sbom.cyclonedx import cyclonedx_text  # noqa: PLC0415 - takes a moment to import

        return cyclonedx_text(bill)
    try:
        from lockbuild.sbom.spdx import spdx_text  # noqa: PLC0415 - likewise, and is of an extra
    except ImportError:
        raise ToolMissing(
            "`spdx-tools` is not installed; writing SPDX needs it",
            hint="pip install 'lockbuild[spdx]'; `--format cyclonedx` needs nothing more",
        ) from None
    return spdx_text(bill)


def _uri(path: Path) -> str:
    """Return the URI of *path*: relative to where the user is, when it is below."""
    here = Path.cwd()
    return quote(path.relative_to(here).as_posix()) if path.is_relative_to(here) else path.as_uri()


def _table(report: Report) -> Iterator[str]:
    for check in report.passed:
        yield f"ok           {check}"
    for check, reason in report.skipped:
        yield _line(f"not checked  {check}: {reason}")
    for finding in report.findings:
        if finding.waived:
            yield _line(f"waived       {finding.check}: {finding.subject}: {finding.waived}")
            continue
        yield f"{click.style(f'{finding.level:<11}', fg=_COLOURS[finding.level])}  {_told(finding)}"
    left = [finding for finding in report.findings if not finding.waived]
    for check, mend in dict.fromkeys((finding.check, finding.mend) for finding in left):
        yield f"mend         {check}: {mend}"


def _grouped(report: Report) -> Iterator[str]:
    if report.skipped:
        yield _heading("not checked", len(report.skipped))
        reasons: dict[str, list[str]] = {}
        for check, reason in report.skipped:
            reasons.setdefault(reason, []).append(check)
        yield from (_line(f"  {', '.join(checks)}: {reason}") for reason, checks in reasons.items())
        yield ""
    waived = [finding for finding in report.findings if finding.waived]
    if waived:
        yield _heading("waived", len(waived))
        yield from (f"  {_told(finding)} ({finding.waived})" for finding in waived)
        yield ""
    for level in ("warning", "error"):
        found = [one for one in report.findings if one.level == level and not one.waived]
        if found:
            yield _heading(f"{level}s", len(found), colour=_COLOURS[level])
            yield from _by_check(found)
            yield ""


def _by_check(found: list[Finding]) -> Iterator[str]:
    for check in dict.fromkeys(finding.check for finding in found):
        mine = [finding for finding in found if finding.check == check]
        yield f"  {click.style(check, bold=True)}"
        yield from (f"    {_told(finding).removeprefix(f'{check}: ')}" for finding in mine)
        yield from (f"    mend: {mend}" for mend in dict.fromkeys(finding.mend for finding in mine))


def _heading(name: str, count: int, *, colour: str | None = None) -> str:
    return f"{click.style(name, bold=True, fg=colour)} ({count})"


def _told(finding: Finding) -> str:
    layer = f" (layer {finding.layer})" if finding.layer else ""
    return _line(f"{finding.check}: {finding.subject}: {finding.message}{layer}")


def _line(text: str) -> str:
    """Return a stranger's text on one line, and without what a terminal would obey: file names may have anything."""
    from lockbuild.report.words import visible  # noqa: PLC0415 - as in `report_text`

    return visible(text).replace("\n", "\\n")


def _summary(report: Report) -> str:
    left = [finding.level for finding in report.findings if not finding.waived]
    waived = len(report.findings) - len(left)
    counts = ((left.count("error"), "error"), (left.count("warning"), "warning"))
    words = [f"{count} {word}" if count == 1 else f"{count} {word}s" for count, word in counts]
    return ", ".join((*words, f"{waived} waived", f"{len(report.skipped)} not checked"))
