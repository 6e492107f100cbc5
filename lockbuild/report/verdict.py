"""What an audit comes to: the verdict, findings by check, the state of each check, and what was not looked at. Pure."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

from lockbuild.findings import Check
from lockbuild.report.words import count

if TYPE_CHECKING:
    from collections.abc import Iterable

    from lockbuild.findings import Finding
    from lockbuild.results import Result

__all__ = [
    "CheckState",
    "FindingGroup",
    "Unchecked",
    "Verdict",
    "all_checks",
    "check_states",
    "groups",
    "unchecked",
    "verdict",
]

State = Literal["error", "warning", "waived", "passed", "skipped", "not asked"]
_GRAVITY = ("error", "warning")


@dataclass(frozen=True, slots=True, kw_only=True)
class Verdict:
    """Whether the stack passes, in words and numbers."""

    state: Literal["failed", "warned", "passed"]
    title: str
    said: str
    errors: int
    warnings: int
    waived: int


@dataclass(frozen=True, slots=True, kw_only=True)
class FindingGroup:
    """What one check found."""

    check: Check
    level: str
    """The gravest among them."""
    findings: tuple[Finding, ...]
    mends: tuple[str, ...]
    """What to do, each once."""


@dataclass(frozen=True, slots=True, kw_only=True)
class CheckState:
    """A check, and how it ended."""

    check: Check
    state: State
    said: str
    """How many it found, or why it could not run."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Unchecked:
    """Checks that did not run for one reason."""

    reason: str
    checks: tuple[str, ...]


def verdict(result: Result) -> Verdict:
    """Return whether the stack passes."""
    report = result.report
    waived = sum(bool(one.waived) for one in report.findings)
    errors = report.errors
    warnings = report.count(warnings=True) - errors
    counts = [count(errors, "error")] if errors else []
    counts += [count(warnings, "warning")] if warnings else []
    tail = [count(waived, "finding is", "findings are") + " waived"] if waived else []
    if report.skipped:
        tail.append(count(len(report.skipped), "check") + " could not run")
    ran = len(report.passed) + len({one.check for one in report.findings})
    found = f"{' and '.join(counts)} in {count(ran, 'check')}" if counts else _nothing(ran)
    return Verdict(
        state="failed" if errors else "warned" if warnings else "passed",
        title="Fails" if errors else "Passes, with warnings" if warnings else "Passes",
        said="; ".join([found, *tail]) + ".",
        errors=errors,
        warnings=warnings,
        waived=waived,
    )


def _nothing(ran: int) -> str:
    return (
        f"{count(ran, 'check')} ran, none of which found anything that counts" if ran else "No check ran"
    )


def groups(result: Result, *, waived: bool) -> tuple[FindingGroup, ...]:
    """Return what is found, or what of it is waived, by check: errors first, then in the order of the checks."""
    known = {check.id: check for check in all_checks(result)}
    found: dict[str, list[Finding]] = {}
    for one in result.report.findings:
        if bool(one.waived) is waived:
            found.setdefault(one.check, []).append(one)
    made = [
        FindingGroup(
            check=known[check],
            level=min((one.level for one in findings), key=_GRAVITY.index),
            findings=tuple(sorted(findings, key=lambda one: _GRAVITY.index(one.level))),
            mends=tuple(dict.fromkeys(one.mend for one in findings if one.mend)),
        )
        for check, findings in found.items()
    ]
    order = list(known)
    return tuple(sorted(made, key=lambda one: (_GRAVITY.index(one.level), order.index(one.check.id))))


def check_states(result: Result) -> tuple[CheckState, ...]:
    """Return how every check ended: what found something first, then in the order of the checks."""
    report = result.report
    skipped, passed = dict(report.skipped), set(report.passed)
    found = {group.check.id: group for group in groups(result, waived=False)}
    waived = {group.check.id: group for group in groups(result, waived=True)}

    def state(check: Check) -> CheckState:
        if check.id in found:
            group = found[check.id]
            level: State = "error" if group.level == "error" else "warning"
            return CheckState(check=check, state=level, said=count(len(group.findings), "finding"))
        if check.id in waived:
            number = len(waived[check.id].findings)
            return CheckState(check=check, state="waived", said=count(number, "waived finding"))
        if check.id in skipped:
            return CheckState(check=check, state="skipped", said=skipped[check.id])
        if check.id in passed:
            return CheckState(check=check, state="passed", said="")
        return CheckState(check=check, state="not asked", said=_not_asked(check))

    order: tuple[State, ...] = ("error", "warning", "waived", "skipped", "passed", "not asked")
    return tuple(sorted(map(state, all_checks(result)), key=lambda one: order.index(one.state)))


def unchecked(states: Iterable[CheckState]) -> tuple[Unchecked, ...]:
    """Return what did not run, by reason."""
    reasons: dict[str, list[str]] = {}
    for one in states:
        if one.state in {"skipped", "not asked"}:
            reasons.setdefault(one.said, []).append(one.check.id)
    return tuple(Unchecked(reason=reason, checks=tuple(ids)) for reason, ids in reasons.items())


def _not_asked(check: Check) -> str:
    return f"no {'environment' if check.about == 'venv' else check.about} was looked into"


def all_checks(result: Result) -> tuple[Check, ...]:
    """Return every check, also one that only a finding names: a rule must be there for it."""
    known = {check.id: check for check in result.checks}
    for finding in result.report.findings:
        known.setdefault(
            finding.check,
            Check(id=finding.check, level=finding.level, what=finding.check, why="", mend=finding.mend),
        )
    return tuple(known.values())
