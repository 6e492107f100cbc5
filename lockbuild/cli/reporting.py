"""What `lockbuild audit` found, in each of its formats."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING
from urllib.parse import quote

import click

from lockbuild.errors import ToolMissing, UsageError

if TYPE_CHECKING:
    from collections.abc import Iterator

    from lockbuild.findings import Report
    from lockbuild.lock import Lock
    from lockbuild.report.since import Audited
    from lockbuild.results import Result
    from lockbuild.stack import Stack

__all__ = ["FORMATS", "read_earlier", "report_text"]

FORMATS = ("table", "json", "sarif", "cyclonedx", "spdx", "html")


def report_text(  # noqa: PLR0913 - each format wants another thing
    result: Result,
    format_: str,
    *,
    lock: Path,
    stack: Stack,
    locked: Lock,
    earlier: Audited | None = None,
) -> str:
    """Return *result* as the text of one of `FORMATS`, a table in colours.

    Args:
        lock: The stack's lock, which SARIF shows findings at.
        stack: Whose edits bills of materials name.
        locked: What is in that lock.
        earlier: An audit that the HTML report compares with.

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
            text = "".join(f"{line}\n" for line in _table(result.report))
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
        yield f"not checked  {check}: {reason}"
    for finding in report.findings:
        if finding.waived:
            yield f"waived       {finding.check}: {finding.subject}: {finding.waived}"
            continue
        level = click.style(f"{finding.level:<11}", fg="red" if finding.level == "error" else "yellow")
        layer = f" (layer {finding.layer})" if finding.layer else ""
        yield f"{level}  {finding.check}: {finding.subject}: {finding.message}{layer}"
    left = [finding for finding in report.findings if not finding.waived]
    for check, mend in dict.fromkeys((finding.check, finding.mend) for finding in left):
        yield f"mend         {check}: {mend}"
