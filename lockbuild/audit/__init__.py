"""Auditing: is what is there what was locked? Hashes bytes again; asks no network, but for `online` where it is told to.

`CHECKS` is the one table of what is looked at, why, and how it is mended. Each module beside this one holds a
part of it, `RULES`: `drifted` the lock itself, `locked` what lies here, `hosts` whether it will be served
next year, `hygiene` whether it can be made again, `venv` and `imaged` what environments and images hold,
`sbomed` what the latter say of themselves, `vulnerable` what is known of it, `licensed` who may pass it on. `policy`
is the stack's own word on them.
"""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

from lockbuild.audit import (
    drifted,
    hosts,
    hygiene,
    imaged,
    licensed,
    locked,
    online,
    policy,
    sbomed,
    venv,
    vulnerable,
    weights,
)
from lockbuild.audit.imaged import LOCK_LABEL
from lockbuild.audit.rules import ImageContents, LockDrift, Skip, Subject
from lockbuild.errors import LockbuildError
from lockbuild.findings import About, Check, Finding, Report
from lockbuild.gate.rules import CHECKS as GATE_CHECKS

if TYPE_CHECKING:
    from collections.abc import Collection, Iterator

    from lockbuild.audit.rules import Rule

__all__ = [
    "ABOUT",
    "ALL_CHECKS",
    "CHECKS",
    "LOCK_LABEL",
    "Check",
    "Finding",
    "ImageContents",
    "LockDrift",
    "Report",
    "Subject",
    "audit",
]

_RULES: tuple[Rule, ...] = (
    *drifted.RULES,
    *locked.RULES,
    *hosts.RULES,
    *online.RULES,
    *hygiene.RULES,
    *weights.RULES,
    *venv.RULES,
    *imaged.RULES,
    *sbomed.RULES,
    *vulnerable.RULES,
    *licensed.RULES,
)
CHECKS = (*(rule.check for rule in _RULES), *policy.CHECKS)
ALL_CHECKS = (
    *CHECKS,
    *(replace(check, id=f"gate-{check.id}", about="wheelhouse") for check in GATE_CHECKS),
)
"""Those of the gate among them, as the audit of a wheelhouse calls them."""
ABOUT: tuple[About, ...] = ("lock", "wheelhouse", "venv", "image")


def audit(subject: Subject, about: Collection[About] = ABOUT) -> Report:
    """Run every check of `CHECKS` that is about one of *about* on *subject*; `policy.apply` comes after it.

    Where a vulnerability database was named it is asked in any case: what an image holds is what was locked, or the
    checks of the image say otherwise.
    """
    findings: list[Finding] = []
    passed: list[str] = []
    skipped: list[tuple[str, str]] = []
    for rule in _RULES:
        asked = subject.osv is not None and rule in vulnerable.RULES
        if rule.check.about not in about and not asked:
            continue
        found: list[Finding] = []
        try:
            # What was found before something could not be looked at was found.
            for one in _findings(rule, subject):
                found.append(one)  # noqa: PERF402 - `extend` promises nothing of what comes before a fault
        except Skip as reason:
            skipped.append((rule.check.id, str(reason)))
        except (LockbuildError, LookupError) as error:
            if not subject.drift:
                raise
            skipped.append((rule.check.id, f"the lock does not fit the stack: {error}"))
        else:
            passed += [] if found else [rule.check.id]
        findings += found
    return Report(findings=tuple(findings), passed=tuple(passed), skipped=tuple(skipped))


def _findings(rule: Rule, subject: Subject) -> Iterator[Finding]:
    check = rule.check
    return (
        Finding(
            check=check.id,
            level=one.level or check.level,
            subject=one.subject,
            message=one.message,
            mend=check.mend,
            layer=one.layer,
            facts=one.facts,
        )
        for one in rule.find(subject)
    )
