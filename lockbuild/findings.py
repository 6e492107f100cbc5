"""What a check looks at, and what it finds. Pure."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

__all__ = ["About", "Check", "Finding", "Level", "Report"]

Level = Literal["error", "warning"]
About = Literal["lock", "wheelhouse", "venv", "image"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Check:
    """One thing that is looked at."""

    id: str
    level: Level
    what: str
    why: str
    mend: str
    about: About = "lock"
    """What has to be there for it: `lockbuild audit --against`."""


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
    layer: str = ""
    """The layer of the image that brought it: its number from 1, and the instruction that made it."""
    facts: tuple[tuple[str, str], ...] = ()
    """Further things that programs want to know, by name: `severity`, `fixed`, `aliases`."""
    waived: str = ""
    """Why the stack puts up with it; empty when it does not."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Report:
    """What some checks found."""

    findings: tuple[Finding, ...]
    passed: tuple[str, ...]
    """Ids of the checks that ran and found nothing."""
    skipped: tuple[tuple[str, str], ...]
    """Ids of the checks that could not run, and why."""

    def __add__(self, other: Report) -> Report:
        return Report(
            findings=(*self.findings, *other.findings),
            passed=(*self.passed, *other.passed),
            skipped=(*self.skipped, *other.skipped),
        )

    @property
    def errors(self) -> int:
        """How many findings are errors that nothing waives."""
        return self.count()

    def count(self, *, warnings: bool = False) -> int:
        """Return how many findings are errors, or also warnings, that nothing waives."""
        return sum(
            (warnings or finding.level == "error") and not finding.waived for finding in self.findings
        )
