"""What has changed since an earlier report: ours as HTML, or the JSON of `--format json`. Pure."""

from __future__ import annotations

import json
import re
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, TypeVar

from lockbuild.errors import UsageError
from lockbuild.report.words import brief, short, size_text

if TYPE_CHECKING:
    from collections.abc import Callable, Hashable, Iterable, Sequence

__all__ = [
    "EMBEDDED",
    "Audited",
    "Change",
    "Changes",
    "Part",
    "Past",
    "audited",
    "changes",
    "parse_earlier",
]

EMBEDDED = "lockbuild-audit"
"""Id of the element of an HTML report that holds its JSON."""
# The JSON in it has no `<`: see the template.
_SCRIPT = re.compile(rf'<script type="application/json" id="{EMBEDDED}">([^<]*)</script>')
_SHORT = 12
_T = TypeVar("_T")


@dataclass(frozen=True, slots=True, kw_only=True)
class Past:
    """A finding as a document tells it."""

    check: str
    level: str
    subject: str
    message: str
    waived: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Part:
    """A component as a document tells it."""

    ref: str
    kind: str
    name: str
    version: str
    sha256: str | None
    size: int | None
    licence: str
    in_image: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class Audited:
    """An audit as a document tells it."""

    stack: str
    lock: str
    date: str
    findings: tuple[Past, ...]
    parts: tuple[Part, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Change:
    """What is there as before, but not the same."""

    kind: str
    name: str
    what: tuple[tuple[str, str, str], ...]
    """What changed, what it was and what it is."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Changes:
    """The difference of two audits."""

    before: Audited
    came: tuple[Past, ...]
    """Findings that are new."""
    went: tuple[Past, ...]
    altered: tuple[Change, ...]
    """Findings that are told otherwise."""
    added: tuple[Part, ...]
    removed: tuple[Part, ...]
    changed: tuple[Change, ...]
    """Components that changed."""


def parse_earlier(text: str, *, label: str) -> Audited:
    """Return what an earlier report says.

    Args:
        label: How the file is called in messages.

    Raises:
        UsageError: It is neither an HTML report nor the JSON of an audit.
    """
    found = _SCRIPT.search(text)
    try:
        return audited(json.loads(found[1] if found else text))
    except (AttributeError, KeyError, OverflowError, RecursionError, TypeError, ValueError) as error:
        raise UsageError(
            f"{label} is not a report of `lockbuild audit`, as HTML or JSON",
            hint="`lockbuild audit STACK --format html --output FILE` writes one",
        ) from error


def audited(document: dict[str, Any]) -> Audited:
    """Return the values of the document of `lockbuild.results.json_document`."""
    return Audited(
        stack=str(document["stack"]),
        lock=str(document["lock"]),
        date=str(document["date"]),
        findings=tuple(
            Past(**{key: str(one[key]) for key in ("check", "level", "subject", "message", "waived")})
            for one in document["findings"]
        ),
        parts=tuple(_part(one) for one in document["components"]),
    )


def _part(one: dict[str, Any]) -> Part:
    installed, size = one["installed-size"], one["size"]
    return Part(
        ref=str(one["ref"]),
        kind=str(one["kind"]),
        name=str(one["name"]),
        version=str(one["version"]),
        sha256=one["sha256"] and str(one["sha256"]),
        size=int(size if installed is None else installed) if {size, installed} != {None} else None,
        licence=str(one["license"] or ""),
        in_image=bool(one["in-image"]),
    )


def changes(before: Audited, after: Audited) -> Changes:
    """Return what is otherwise in *after*."""
    same, came, went = _pair(
        before.findings,
        after.findings,
        # The same words first, then whatever is left of the same check and subject.
        (lambda one: (one.check, one.subject, one.message), lambda one: (one.check, one.subject)),
    )
    parts, added, removed = _pair(
        before.parts,
        after.parts,
        (lambda one: one.ref, lambda one: (one.kind, one.name, one.in_image)),
    )
    return Changes(
        before=before,
        came=tuple(sorted(came, key=lambda one: one.level)),  # errors before warnings
        went=went,
        altered=tuple(
            Change(kind=new.check, name=new.subject, what=what)
            for old, new in same
            if (what := _finding_changes(old, new))
        ),
        added=added,
        removed=removed,
        changed=tuple(
            Change(kind=new.kind, name=new.name, what=what)
            for old, new in parts
            if (what := _part_changes(old, new))
        ),
    )


def _pair(
    before: Sequence[_T], after: Sequence[_T], keys: Iterable[Callable[[_T], Hashable]]
) -> tuple[list[tuple[_T, _T]], tuple[_T, ...], tuple[_T, ...]]:
    """Return what is on both sides, what only after and what only before, by the first key that fits."""
    left, right = list(before), list(after)
    pairs: list[tuple[_T, _T]] = []
    for key in keys:
        waiting: dict[Hashable, list[_T]] = {}
        for one in left:
            waiting.setdefault(key(one), []).append(one)
        alone = []
        for one in right:
            others = waiting.get(key(one))
            if others:
                pairs.append((others.pop(0), one))
            else:
                alone.append(one)
        left, right = [one for others in waiting.values() for one in others], alone
    return pairs, tuple(right), tuple(left)


def _finding_changes(old: Past, new: Past) -> tuple[tuple[str, str, str], ...]:
    return _differing(
        ("level", old.level, new.level),
        ("waiver", old.waived or "none", new.waived or "none"),
        ("found", old.message, new.message),
    )


def _part_changes(old: Part, new: Part) -> tuple[tuple[str, str, str], ...]:
    found = _differing(
        ("version", short(old.version) or "none", short(new.version) or "none"),
        ("licence", brief(old.licence) or "unknown", brief(new.licence) or "unknown"),
        ("size", size_text(old.size), size_text(new.size)),
    )
    if old.version == new.version:
        found += _differing(("sha256", _short(old.sha256), _short(new.sha256)))
    return found


def _differing(*fields: tuple[str, str, str]) -> tuple[tuple[str, str, str], ...]:
    return tuple(field for field in fields if field[1] != field[2])


def _short(sha256: str | None) -> str:
    return sha256[:_SHORT] if sha256 else "none"
