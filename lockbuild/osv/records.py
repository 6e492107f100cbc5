"""Records of the OSV schema, in its own words and shape; what lockbuild does not use is left out. Pure."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from packaging.utils import canonicalize_name

if TYPE_CHECKING:
    from collections.abc import Mapping
    from datetime import date, datetime

__all__ = [
    "Affected",
    "Database",
    "Event",
    "Name",
    "PackageName",
    "Range",
    "Record",
    "Severity",
    "named",
]

Name = tuple[str, str]
"""Family of an ecosystem (`PyPI`, `Debian`) and a name in it; normalised where the family normalises."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Event:
    """One point of a range: one of its fields is said."""

    introduced: str | None = None
    fixed: str | None = None
    last_affected: str | None = None
    limit: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Range:
    """Versions from events on, in the order of `type`."""

    type: str
    """`ECOSYSTEM`, `SEMVER` or `GIT`."""
    events: tuple[Event, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class Severity:
    """How bad it is, by a method."""

    type: str
    """`CVSS_V2`, `CVSS_V3`, `CVSS_V4`, or a word of the database's own, such as `Ubuntu`."""
    score: str
    """A vector, or a word."""


@dataclass(frozen=True, slots=True, kw_only=True)
class PackageName:
    """A package of an ecosystem."""

    ecosystem: str
    """`PyPI`, `Debian:12`."""
    name: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Affected:
    """Versions of one package that have the vulnerability."""

    package: PackageName | None = None
    """None where only commits are told."""
    versions: tuple[str, ...] = ()
    ranges: tuple[Range, ...] = ()
    severity: tuple[Severity, ...] = ()
    ecosystem_specific: dict[str, Any] = field(default_factory=dict)
    database_specific: dict[str, Any] = field(default_factory=dict)

    def is_of(self, ecosystem: str, name: str) -> bool:
        """Tell whether this is about the package *name* of *ecosystem*; one with no release is about all of them."""
        if self.package is None:
            return False
        family = ecosystem.partition(":")[0]
        return (
            self.package.ecosystem in (ecosystem, family)
            and named(self.package.ecosystem, self.package.name)[1] == name
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class Record:
    """One entry of a vulnerability database."""

    id: str
    modified: str
    withdrawn: str | None = None
    aliases: tuple[str, ...] = ()
    """The same vulnerability in other databases."""
    upstream: tuple[str, ...] = ()
    """The vulnerabilities of other projects that this advisory is about."""
    summary: str = ""
    severity: tuple[Severity, ...] = ()
    affected: tuple[Affected, ...] = ()
    database_specific: dict[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, slots=True, kw_only=True)
class Database:
    """What an export holds of some packages."""

    label: str
    """The export as its reader called it."""
    records: tuple[Record, ...]
    """Those about packages that were asked for, none twice and none withdrawn, sorted by id."""
    total: int
    """How many records the export has of all packages."""
    newest: Mapping[str, datetime | None]
    """Family of ecosystems -> when its newest record was modified; none where all are dated later than today."""
    written: date
    """The day of the export's newest file."""
    faults: tuple[str, ...] = ()
    """Files and records that could not be read, and why."""


def named(ecosystem: str, name: str) -> Name:
    """Return the family and the name by which records are found."""
    family = ecosystem.partition(":")[0]
    return family, canonicalize_name(name) if family == "PyPI" else name
