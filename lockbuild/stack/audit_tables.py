"""`[audit]` as people write it. Pure."""

from __future__ import annotations

from datetime import date
from typing import TYPE_CHECKING, Annotated, Any, Literal

from pydantic import AfterValidator, ConfigDict, ValidationError

from lockbuild.licences import patterns
from lockbuild.stack.faults import refused
from lockbuild.stack.licences import Expression
from lockbuild.stack.table import Table
from lockbuild.stack.words import Reason, fault, matching

if TYPE_CHECKING:
    from collections.abc import Mapping

__all__ = ["AuditTable", "check_audit"]

CheckName = Annotated[
    str,
    AfterValidator(matching(r"[a-z0-9]+(-[a-z0-9]+)*", "the name of a check: `lockbuild audit --list`")),
]


def _not_of_expired(check: str) -> str:
    if check == "waiver-expired":
        raise fault(
            "another check: an expired waiver stays an error until it goes, or its `until` moves"
        )
    return check


Changed = Annotated[CheckName, AfterValidator(_not_of_expired)]
"""A check that a stack may have its own word on."""


def _of_spdx(pattern: str) -> str:
    if not patterns.is_of_spdx(pattern):
        near = patterns.nearest(pattern)
        suggestion = f"; did you mean `{near}`?" if near else ""
        raise fault(f"what fits a licence of SPDX's list, or begins with `LicenseRef-`{suggestion}")
    return pattern


LicencePattern = Annotated[
    str,
    AfterValidator(
        matching(
            r"[A-Za-z0-9.+*-]+( WITH [A-Za-z0-9.*-]+)?",
            "an SPDX licence or a pattern: `GPL-*`, `*GPL-* WITH GCC-exception-*`",
        )
    ),
    AfterValidator(_of_spdx),
]


class LevelTable(Table):
    """Another level for all that a check finds."""

    level: Literal["error", "warning", "off"]
    reason: Reason


class WaiverTable(Table):
    """Findings that the stack puts up with until a day."""

    check: Changed
    subject: str = "*"
    message: str = "*"
    reason: Reason
    until: date


class LicensesTable(Table):
    """Which licences the parts of the image may have."""

    allow: list[LicencePattern] = []
    deny: list[LicencePattern] = []
    unknown: Literal["error", "warning", "off"] = "warning"
    of: dict[str, Expression] = {}


class AuditTable(Table):
    """What the stack says about its audit; no lock follows from it."""

    levels: dict[Changed, LevelTable] = {}
    waive: list[WaiverTable] = []
    licenses: LicensesTable = LicensesTable()


class _Audited(Table):
    """A stack file of which nothing but this is looked at."""

    model_config = ConfigDict(extra="ignore")

    audit: AuditTable


def check_audit(document: Mapping[str, Any], *, file: str) -> None:
    """Accept `[audit]` of a stack's *document*, or say all that is wrong with it.

    Args:
        file: How the stack file is called in messages.

    Raises:
        StackError: With one line per fault: key path, found, expected, nearest name.
    """
    try:
        _Audited.model_validate(document)
    except ValidationError as error:
        raise refused(error, document, _Audited, file=file) from error
