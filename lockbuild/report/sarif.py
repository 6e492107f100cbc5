"""An audit as SARIF 2.1.0, the form that code scanning and editors read. Pure.

Rules are the checks, results the findings; waived ones are suppressed with their reason, and what could not be
checked is a notification of the run.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from lockbuild import __version__
from lockbuild.digest import canonical_json, sha256_of
from lockbuild.report.verdict import all_checks
from lockbuild.report.words import plain

if TYPE_CHECKING:
    from lockbuild.findings import Check, Finding
    from lockbuild.results import Result

__all__ = ["sarif_document"]

_SCHEMA = "https://docs.oasis-open.org/sarif/sarif/v2.1.0/errata01/os/schemas/sarif-schema-2.1.0.json"
_FINGERPRINT = "lockbuildFinding/v1"
_KINDS = {"lock": "package", "wheelhouse": "wheel", "venv": "package", "image": "file"}


def sarif_document(result: Result, *, lock: str) -> dict[str, Any]:
    """Return *result* as a SARIF log of one run.

    Args:
        lock: URI of the lock, relative to where the user is. Findings are shown at its first line: what an audit
            looks at has no lines, and all of it answers to the lock.
    """
    checks = all_checks(result)
    index = {check.id: number for number, check in enumerate(checks)}
    return {
        "$schema": _SCHEMA,
        "version": "2.1.0",
        "runs": [
            {
                "tool": {
                    "driver": {
                        "name": "lockbuild",
                        "version": __version__,
                        "semanticVersion": __version__,
                        "rules": [_rule(check) for check in checks],
                    }
                },
                "automationDetails": {
                    "id": f"lockbuild/audit/{result.stack}/",
                    "description": _text(f"audit of the stack {result.stack}"),
                },
                "invocations": [
                    {
                        "executionSuccessful": True,
                        "toolExecutionNotifications": [
                            _notification(check, reason, index)
                            for check, reason in result.report.skipped
                        ],
                    }
                ],
                "results": [
                    _result(finding, checks[index[finding.check]], index=index[finding.check], lock=lock)
                    for finding in result.report.findings
                ],
                "properties": {
                    "lock": f"sha256:{result.lock}",
                    "image": result.image,
                    "date": result.today.isoformat(),
                    "vulnerabilityDatabase": result.osv,
                    "passed": list(result.report.passed),
                },
            }
        ],
    }


def _rule(check: Check) -> dict[str, Any]:
    return {
        "id": check.id,
        "shortDescription": _text(check.what),
        "fullDescription": _text(check.why or check.what),
        "help": _text(check.mend),
        "defaultConfiguration": {"level": check.level},
        "properties": {"tags": [check.about]},
    }


def _result(finding: Finding, check: Check, *, index: int, lock: str) -> dict[str, Any]:
    properties = {
        **({"layer": finding.layer} if finding.layer else {}),
        **({"facts": dict(finding.facts)} if finding.facts else {}),
    }
    key = [plain(text) for text in ("finding/1", finding.check, finding.subject, finding.message)]
    return {
        "ruleId": finding.check,
        "ruleIndex": index,
        "level": finding.level,
        "message": _text(f"{finding.subject}: {finding.message}"),
        "locations": [
            {
                "physicalLocation": {
                    "artifactLocation": {"uri": lock},
                    "region": {"startLine": 1},
                },
                "logicalLocations": [
                    {"fullyQualifiedName": plain(finding.subject), "kind": _KINDS[check.about]}
                ],
            }
        ],
        "partialFingerprints": {_FINGERPRINT: sha256_of(canonical_json([*key]))},
        # Empty where nothing waives it: an absent list would say that nobody knows.
        "suppressions": [{"kind": "external", "status": "accepted", "justification": finding.waived}]
        if finding.waived
        else [],
        **({"properties": properties} if properties else {}),
    }


def _notification(check: str, reason: str, index: dict[str, int]) -> dict[str, Any]:
    return {
        "level": "note",
        "message": _text(f"{check} was not checked: {reason}"),
        "associatedRule": {"id": check, **({"index": index[check]} if check in index else {})},
    }


def _text(text: str) -> dict[str, str]:
    return {"text": _sentence(text)}


def _sentence(text: str) -> str:
    """Return *text* with the full stop that the standard asks of messages (3.11.3)."""
    text = plain(text).strip()
    return text if text.endswith((".", "!", "?")) else f"{text}."
