"""`[audit]` as people write it. Pure."""

from __future__ import annotations

from datetime import date
from typing import Annotated, Literal

from pydantic import AfterValidator, Field

from lockbuild.stack.licences import Licence
from lockbuild.stack.table import Table
from lockbuild.stack.words import matching

__all__ = ["AuditTable"]

CheckName = Annotated[
    str,
    AfterValidator(matching(r"[a-z0-9]+(-[a-z0-9]+)*", "the name of a check: `lockbuild audit --list`")),
]
Reason = Annotated[str, Field(min_length=1)]
LicencePattern = Annotated[
    str,
    AfterValidator(
        matching(
            r"[A-Za-z0-9.+*-]+( WITH [A-Za-z0-9.*-]+)?",
            "an SPDX licence or a pattern: `GPL-*`, `*GPL-* WITH GCC-exception-*`",
        )
    ),
]


class LevelTable(Table):
    """Another level for all that a check finds."""

    level: Literal["error", "warning", "off"]
    reason: Reason


class WaiverTable(Table):
    """Findings that the stack puts up with until a day."""

    check: CheckName
    subject: str = "*"
    message: str = "*"
    reason: Reason
    until: date


class LicensesTable(Table):
    """Which licences the parts of the image may have."""

    allow: list[LicencePattern] = []
    deny: list[LicencePattern] = []
    unknown: Literal["error", "warning", "off"] = "warning"
    of: dict[str, Licence] = {}


class AuditTable(Table):
    """What the stack says about its audit; no lock follows from it."""

    levels: dict[CheckName, LevelTable] = {}
    waive: list[WaiverTable] = []
    licenses: LicensesTable = LicensesTable()
