"""What a stack says about its audit: levels of its own, what it puts up with, which licences it takes. Pure."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from datetime import date

__all__ = ["AuditPolicy", "LevelChange", "LicencePolicy", "Waiver"]


@dataclass(frozen=True, slots=True, kw_only=True)
class LevelChange:
    """Another level for all that a check finds."""

    check: str
    level: str
    """`error`, `warning` or `off`."""
    reason: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Waiver:
    """Findings that the stack puts up with until a day."""

    check: str
    reason: str
    until: date
    """The last day that it holds."""
    subject: str = "*"
    """Pattern of what was found: a package, file or key."""
    message: str = "*"
    """Pattern of what is said of it."""


@dataclass(frozen=True, slots=True, kw_only=True)
class LicencePolicy:
    """Which licences the parts of the image may have."""

    allow: tuple[str, ...] = ()
    """SPDX licences, and patterns of them; none for all that are not denied."""
    deny: tuple[str, ...] = ()
    unknown: str = "warning"
    """What a part without a known licence is: `error`, `warning` or `off`."""
    of: tuple[tuple[str, str], ...] = ()
    """Component -> its licence as an SPDX expression, where it does not say it or says it wrongly."""


@dataclass(frozen=True, slots=True, kw_only=True)
class AuditPolicy:
    """`[audit]` of a stack. No lock follows from it."""

    levels: tuple[LevelChange, ...] = ()
    waivers: tuple[Waiver, ...] = ()
    licences: LicencePolicy = field(default_factory=LicencePolicy)
