"""The result of an audit, and its documents for programs. Pure."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from datetime import date

    from lockbuild.components import Component
    from lockbuild.digest import Sha256
    from lockbuild.findings import Check, Report

__all__ = ["Result", "json_document"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Result:
    """What an audit looked at, and what it found."""

    stack: str
    summary: str
    lock: Sha256
    """Digest of the lock."""
    image: str
    """The image, archive or environment that was looked into; empty for none."""
    today: date
    report: Report
    checks: tuple[Check, ...]
    """All that there are: those that `report` names are among them."""
    components: tuple[Component, ...]
    """Sorted by ref."""
    osv: str = ""
    """Which vulnerability database was asked and how old it is, for people; empty for none."""


def json_document(result: Result) -> dict[str, Any]:
    """Return what `--format json` prints."""
    report = result.report
    return {
        "stack": result.stack,
        "lock": result.lock,
        "image": result.image or None,
        "date": result.today.isoformat(),
        "vulnerability-database": result.osv or None,
        "findings": [{**asdict(finding), "facts": dict(finding.facts)} for finding in report.findings],
        "passed": list(report.passed),
        "skipped": [{"check": check, "reason": reason} for check, reason in report.skipped],
        "components": [_component(component) for component in result.components],
    }


def _component(component: Component) -> dict[str, Any]:
    return {
        "ref": component.ref,
        "kind": component.kind,
        "name": component.name,
        "version": component.version,
        "sha256": component.sha256,
        "size": component.size,
        "installed-size": component.installed_size,
        "in-image": component.in_image,
        "built": component.built,
        "requested": component.requested,
        "needs": list(component.needs),
        "origin": component.origin or None,
        "license": component.licence or None,
    }
