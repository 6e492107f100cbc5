"""Which parts of a stack known vulnerabilities are about, each vulnerability once. Pure."""

from __future__ import annotations

from collections import defaultdict
from dataclasses import dataclass
from typing import TYPE_CHECKING

from lockbuild.osv import severity
from lockbuild.osv.merging import merged
from lockbuild.osv.records import named
from lockbuild.osv.versions import affects, fixes, sort_key

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from lockbuild.components import Component
    from lockbuild.osv.records import Affected, Name, Record
    from lockbuild.stack import Base

__all__ = ["Fix", "Package", "Vulnerability", "ecosystems_of", "packages_of", "vulnerabilities"]

_RELEASES = {
    "debian": {
        "buster": "10",
        "bullseye": "11",
        "bookworm": "12",
        "trixie": "13",
        "forky": "14",
        "duke": "15",
    },
    "ubuntu": {
        "bionic": "18.04:LTS",
        "focal": "20.04:LTS",
        "jammy": "22.04:LTS",
        "noble": "24.04:LTS",
        "resolute": "26.04:LTS",
    },
}
"""Vendor -> suite -> what OSV calls its release."""
_PRO = "Ubuntu:Pro:"


@dataclass(frozen=True, slots=True, kw_only=True)
class Package:
    """What records are looked up for: a Python project, or a source package of a distribution."""

    ecosystems: tuple[str, ...]
    """`PyPI`; `Debian:12`. None for .debs of a suite that OSV has no name for."""
    name: str
    version: str
    components: tuple[str, ...]
    """Refs of the components that come from it, sorted."""

    @property
    def family(self) -> str:
        """The ecosystems without their release; empty where there are none."""
        return self.ecosystems[0].partition(":")[0] if self.ecosystems else ""

    @property
    def key(self) -> Name:
        """What records about it are found by."""
        return self.family, self.name


@dataclass(frozen=True, slots=True, kw_only=True)
class Fix:
    """A version that does not have the vulnerability any more."""

    version: str
    before: str = ""
    """The next version that has it again; empty for none."""
    subscribers_only: bool = False
    """Whether it is for those who pay: Ubuntu Pro."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Vulnerability:
    """One vulnerability of one package, whatever number of databases tell of it."""

    package: Package
    id: str
    """Of a CVE where there is one."""
    aliases: tuple[str, ...]
    """Its other ids, and those of advisories that tell of it among others; sorted."""
    severity: str
    """A word; empty where nobody tells."""
    score: float | None
    """The highest of its CVSS base scores."""
    fixes: tuple[Fix, ...]
    """Later versions that are in no record's range, the first one first."""
    summary: str

    @property
    def serious(self) -> bool:
        """Whether it scores 7.0 or more, or is called `high`, `critical` or `malicious`; but not harmless."""
        if self.severity in severity.HARMLESS:
            return False
        return self.severity in severity.SERIOUS or (self.score or 0.0) >= 7.0  # noqa: PLR2004 - CVSS: high


def ecosystems_of(base: Base) -> tuple[str, ...]:
    """Return what OSV calls the release that the .debs of a stack come from; nothing for one without a name."""
    archive = base.archive
    release = _RELEASES.get(archive.vendor, {}).get(archive.suite) if archive else None
    if archive is None or release is None:
        return ()
    if archive.vendor == "ubuntu":
        return (f"Ubuntu:{release}", f"{_PRO}{release}")
    return (f"{archive.vendor.capitalize()}:{release}",)


def packages_of(components: Iterable[Component], ecosystems: tuple[str, ...]) -> tuple[Package, ...]:
    """Return the packages that the image holds, sorted.

    Args:
        ecosystems: Those of the .debs: see `ecosystems_of`.
    """
    refs: dict[tuple[tuple[str, ...], str, str], list[str]] = defaultdict(list)
    for component in components:
        if not component.in_image:
            continue
        if component.kind == "wheel":
            refs[("PyPI",), component.name, component.version].append(component.ref)
        elif component.kind == "deb":
            refs[ecosystems, component.source_name, component.source_version].append(component.ref)
    return tuple(
        Package(
            ecosystems=found,
            name=name,
            version=version,
            components=tuple(sorted(refs[found, name, version])),
        )
        for found, name, version in sorted(refs)
    )


def vulnerabilities(packages: Iterable[Package], records: Iterable[Record]) -> tuple[Vulnerability, ...]:
    """Return what *records* say of *packages*, in the order of the packages, then by id."""
    by_name: dict[Name, dict[str, Record]] = defaultdict(dict)
    for record in records:
        for affected in record.affected:
            if affected.package:
                by_name[named(affected.package.ecosystem, affected.package.name)][record.id] = record
    return tuple(
        found
        for package in packages
        for found in sorted(_of(package, by_name[package.key].values()), key=lambda found: found.id)
    )


_Hit = tuple["Record", "Affected"]


def _of(package: Package, records: Iterable[Record]) -> Iterator[Vulnerability]:
    records = tuple(records)
    hits: dict[str, list[_Hit]] = {}
    for record in records:
        for affected in record.affected:
            about = any(affected.is_of(ecosystem, package.name) for ecosystem in package.ecosystems)
            if about and affects(affected, package.version, package.family):
                hits.setdefault(record.id, []).append((record, affected))
    for one in merged(records, hits):
        found = [hit for member in one.records for hit in hits[member]]
        word, score = severity.rate(found)
        yield Vulnerability(
            package=package,
            id=one.id,
            aliases=one.aliases,
            severity=word,
            score=score,
            fixes=_fixes(package, found),
            summary=next((record.summary for record, _ in found if record.summary), ""),
        )


def _fixes(package: Package, hits: Iterable[_Hit]) -> tuple[Fix, ...]:
    """Return the later versions that none of *hits* calls affected."""
    hits, found = tuple(hits), {}
    for _, affected in hits:
        pro = affected.package is not None and affected.package.ecosystem.startswith(_PRO)
        for version, before in fixes(affected, package.version, package.family):
            if not any(affects(other, version, package.family) for _, other in hits):
                found[version] = Fix(version=version, before=before, subscribers_only=pro)
    return tuple(sorted(found.values(), key=lambda fix: sort_key(fix.version, package.family)))
