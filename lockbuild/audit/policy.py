"""The stack's own word on what an audit found: other levels, and waivers with a reason and a last day."""

from __future__ import annotations

from dataclasses import replace
from fnmatch import fnmatchcase
from typing import TYPE_CHECKING

from lockbuild.findings import Check, Finding, Report

if TYPE_CHECKING:
    from collections.abc import Collection, Iterable, Iterator
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


_OWN = frozenset(check.id for check in CHECKS)


def apply(policy: AuditPolicy, report: Report, *, known: Collection[str], today: date) -> Report:
    """Return *report* as the stack's *policy* wants it, with what is wrong about the policy itself.

    Levels and waivers hold for that as well; no stack file has any for `waiver-expired`.

    Args:
        known: Ids of all checks.
        today: Waivers whose last day is before it are expired.
    """
    off = {change.check: change.reason for change in policy.levels if change.level == "off"}
    # A check may find something before it comes to what it cannot look at.
    unseen = {*off, *(check for check, _ in report.skipped)}
    ran = {*report.passed, *(finding.check for finding in report.findings)} - unseen
    findings, used = _judged(policy, report.findings, today=today)
    own, of_own = _judged(
        policy,
        [*_about(policy, known=known, today=today), *_unused(policy, used=used, ran=ran, today=today)],
        today=today,
    )
    # What is wrong about the policy is all found by now but for waivers of just that, which waive nothing of one another.
    late = _unused(policy, used=of_own, ran=_OWN - off.keys(), today=today)
    findings += (*own, *(one for finding in late if (one := _at_level(policy, finding))))
    found = {finding.check for finding in findings}
    return Report(
        findings=tuple(findings),
        passed=(
            *(check for check in report.passed if check not in off),
            *(check.id for check in CHECKS if check.id not in found and check.id not in off),
        ),
        skipped=(
            *report.skipped,
            *((check, f"switched off by the stack: {reason}") for check, reason in sorted(off.items())),
        ),
    )


def _judged(
    policy: AuditPolicy, found: Iterable[Finding], *, today: date
) -> tuple[list[Finding], set[Waiver]]:
    """Return what of *found* counts, at its level and waived where it is, and every waiver that fits one of them."""
    used: set[Waiver] = set()
    findings = []
    for finding in found:
        one = _at_level(policy, finding)
        if one is None:
            continue
        waivers = [waiver for waiver in policy.waivers if _fits(waiver, one)]
        used.update(waivers)
        # Of several that fit, one that has not expired is meant.
        holding = next((waiver for waiver in waivers if waiver.until >= today), None)
        if holding is not None:
            one = replace(one, waived=f"until {holding.until}: {holding.reason}")
        findings.append(one)
    return findings, used


def _at_level(policy: AuditPolicy, finding: Finding) -> Finding | None:
    """Return *finding* at the level that *policy* gives its check; none where that is off."""
    level = next((one.level for one in policy.levels if one.check == finding.check), None)
    if level == "off":
        return None
    return replace(finding, level="error" if level == "error" else "warning") if level else finding


def _fits(waiver: Waiver, finding: Finding) -> bool:
    return (
        waiver.check == finding.check
        and fnmatchcase(finding.subject, waiver.subject)
        and fnmatchcase(finding.message, waiver.message)
    )


def _about(policy: AuditPolicy, *, known: Collection[str], today: date) -> Iterator[Finding]:
    """Yield what is wrong about the policy, whatever was found."""
    for waiver in policy.waivers:
        if waiver.check not in known:
            yield _finding(_UNKNOWN, _where(waiver), "there is no such check")
        elif waiver.until < today:
            yield _finding(_EXPIRED, _where(waiver), f"its last day was {waiver.until}: {waiver.reason}")
    for change in policy.levels:
        if change.check not in known:
            yield _finding(_UNKNOWN, f"audit.levels.{change.check}", "there is no such check")


def _unused(
    policy: AuditPolicy, *, used: Collection[Waiver], ran: Collection[str], today: date
) -> Iterator[Finding]:
    """Yield the waivers that fit nothing: only of checks that *ran*, or nobody knows."""
    for waiver in policy.waivers:
        if waiver.check in ran and waiver not in used and waiver.until >= today:
            yield _finding(_UNUSED, _where(waiver), f"nothing is found that fits `{waiver.subject}`")


def _where(waiver: Waiver) -> str:
    return f"audit.waive of {waiver.check}"


def _finding(check: Check, subject: str, message: str) -> Finding:
    return Finding(check=check.id, level=check.level, subject=subject, message=message, mend=check.mend)
