"""The stack's own word on what an audit found: other levels, and waivers with a reason and a last day."""

from __future__ import annotations

from dataclasses import replace
from fnmatch import fnmatchcase
from typing import TYPE_CHECKING

from lockbuild.findings import Check, Finding, Report

if TYPE_CHECKING:
    from collections.abc import Collection, Iterator
    from datetime import date

    from lockbuild.stack.audit import AuditPolicy, Waiver

__all__ = ["CHECKS", "apply"]

_EXPIRED = Check(
    id="waiver-expired",
    level="error",
    what="no waiver of the stack is past its last day",
    why="what was put up with for a while is now put up with for good",
    mend="mend what it waives, or look at it again and move `until`",
)
_UNUSED = Check(
    id="waiver-unused",
    level="warning",
    what="every waiver of the stack waives something",
    why="it would silently waive the next thing that fits it",
    mend="take it out of the stack",
)
_UNKNOWN = Check(
    id="check-unknown",
    level="error",
    what="`[audit]` of the stack names checks that there are",
    why="a misspelt name changes nothing, and nobody would know",
    mend="`lockbuild audit --list` has all names",
)
CHECKS = (_EXPIRED, _UNUSED, _UNKNOWN)


def apply(policy: AuditPolicy, report: Report, *, known: Collection[str], today: date) -> Report:
    """Return *report* as the stack's *policy* wants it, with what is wrong about the policy itself.

    Args:
        known: Ids of all checks.
        today: Waivers whose last day is before it are expired.
    """
    off = {change.check: change.reason for change in policy.levels if change.level == "off"}
    levels = {change.check: change.level for change in policy.levels if change.level != "off"}
    used: set[Waiver] = set()
    findings = []
    for finding in report.findings:
        if finding.check in off:
            continue
        level = levels.get(finding.check)
        one = replace(finding, level="error" if level == "error" else "warning") if level else finding
        # Of several that fit, one that has not expired is meant.
        waivers = sorted(
            (waiver for waiver in policy.waivers if _fits(waiver, one)),
            key=lambda waiver: waiver.until < today,
        )
        waiver = next(iter(waivers), None)
        if waiver is not None:
            used.add(waiver)
            if waiver.until >= today:
                one = replace(one, waived=f"until {waiver.until}: {waiver.reason}")
        findings.append(one)
    # A check may find something before it comes to what it cannot look at.
    unseen = {*off, *(check for check, _ in report.skipped)}
    ran = {*report.passed, *(finding.check for finding in report.findings)} - unseen
    findings += _about(policy, known=known, today=today, used=used, ran=ran)
    found = {finding.check for finding in findings}
    return Report(
        findings=tuple(findings),
        passed=(
            *(check for check in report.passed if check not in off),
            *(check.id for check in CHECKS if check.id not in found),
        ),
        skipped=(
            *report.skipped,
            *((check, f"switched off by the stack: {reason}") for check, reason in sorted(off.items())),
        ),
    )


def _fits(waiver: Waiver, finding: Finding) -> bool:
    return (
        waiver.check == finding.check
        and fnmatchcase(finding.subject, waiver.subject)
        and fnmatchcase(finding.message, waiver.message)
    )


def _about(
    policy: AuditPolicy,
    *,
    known: Collection[str],
    today: date,
    used: Collection[Waiver],
    ran: Collection[str],
) -> Iterator[Finding]:
    """Yield what is wrong about the policy; a waiver is unused only where its check could run."""
    for waiver in policy.waivers:
        where = f"audit.waive of {waiver.check}"
        if waiver.check not in known:
            yield _finding(_UNKNOWN, where, "there is no such check")
        elif waiver.until < today:
            yield _finding(_EXPIRED, where, f"its last day was {waiver.until}: {waiver.reason}")
        elif waiver not in used and waiver.check in ran:
            yield _finding(_UNUSED, where, f"nothing is found that fits `{waiver.subject}`")
    for change in policy.levels:
        if change.check not in known:
            yield _finding(_UNKNOWN, f"audit.levels.{change.check}", "there is no such check")


def _finding(check: Check, subject: str, message: str) -> Finding:
    return Finding(check=check.id, level=check.level, subject=subject, message=message, mend=check.mend)
