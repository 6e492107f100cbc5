"""How bad a vulnerability is: a CVSS score and its word, else the word of the database. Pure."""

from __future__ import annotations

from typing import TYPE_CHECKING

from cvss import CVSS2, CVSS3, CVSS4, CVSSError

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from lockbuild.osv.records import Affected, Record, Severity

__all__ = ["HARMLESS", "MALICIOUS", "SERIOUS", "rate"]

HARMLESS = frozenset({"negligible", "unimportant"})
"""Words by which a distribution says that its package does not have the problem that the score is of."""
MALICIOUS = "malicious"
SERIOUS = frozenset({"critical", "high", MALICIOUS})
_METHODS = {"CVSS_V2": CVSS2, "CVSS_V3": CVSS3, "CVSS_V4": CVSS4}
_MALICIOUS_ID = "MAL-"
_SAME = {"moderate": "medium"}
_WORDS = frozenset({"critical", "high", "low", "medium", "none", *HARMLESS, *_SAME})


def rate(told: Iterable[tuple[Record, Affected]]) -> tuple[str, float | None]:
    """Return the word, empty where nothing tells, and the highest score of what records say of one package."""
    told = tuple(told)
    words = [word for record, affected in told for word in _words(record, affected)]
    scores = [
        score for record, affected in told for score in _scores(affected.severity or record.severity)
    ]
    score, rating = max(scores, default=(None, ""))
    if any(record.id.startswith(_MALICIOUS_ID) for record, _ in told):
        return MALICIOUS, score
    harmless = next((word for word in words if word in HARMLESS), "")
    return harmless or rating or next(iter(words), ""), score


def _scores(severities: Iterable[Severity]) -> Iterator[tuple[float, str]]:
    for severity in severities:
        method = _METHODS.get(severity.type)
        if method is None:
            continue
        try:
            vector = method(severity.score)
        except CVSSError:
            continue
        yield float(vector.base_score), vector.severities()[0].lower()


def _words(record: Record, affected: Affected) -> Iterator[str]:
    said = (
        *(severity.score for severity in (*affected.severity, *record.severity)),
        affected.ecosystem_specific.get("urgency"),
        affected.ecosystem_specific.get("severity"),
        affected.database_specific.get("severity"),
        record.database_specific.get("severity"),
    )
    for word in said:
        if isinstance(word, str) and word.lower() in _WORDS:
            yield _SAME.get(word.lower(), word.lower())
