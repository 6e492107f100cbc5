"""What a check looks at, and what it finds. Pure."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

__all__ = ["Check", "Finding", "Level", "Report"]

Level = Literal["error", "warning"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Check:
    """One thing that is looked at."""

    id: str
    level: Level
    what: str
    why: str
    mend: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Finding:
    """One thing that is not as it should be."""

    check: str
    level: Level
    subject: str
    """File, package or key."""
    message: str
    """What was found and what was expected."""
    mend: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Report:
    """What some checks found."""

    findings: tuple[Finding, ...]
    passed: tuple[str, ...]
    """Ids of the checks that ran and found nothing."""
    skipped: tuple[tuple[str, str], ...]
    """Ids of the checks that could not run, and why."""

    @property
    def errors(self) -> int:
        """How many findings are errors."""
        return sum(finding.level == "error" for finding in self.findings)
