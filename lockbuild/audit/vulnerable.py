"""Is what ships known to be vulnerable? Asks a local OSV export, and nobody else."""

from __future__ import annotations

from collections import Counter
from dataclasses import replace
from datetime import timedelta
from typing import TYPE_CHECKING

from lockbuild import osv
from lockbuild.audit.rules import Found, Rule, Skip
from lockbuild.errors import LockbuildError
from lockbuild.findings import Check
from lockbuild.wheels import inspect_wheel

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping
    from datetime import datetime
    from pathlib import Path

    from lockbuild.audit.rules import Subject
    from lockbuild.osv import Database, Package, Reach, Vulnerability
    from lockbuild.progress import Progress

__all__ = ["RULES", "told_by", "with_export"]

_OLD = timedelta(days=30)
_NO_EXPORT = "no vulnerability database was named: `--osv DIR`; docs/audit.md says where to get one"
_NAMED_FAULTS = 20
_WITHOUT_RECORDS = ("conda", "interpreter")
"""Kinds of programs that no ecosystem of OSV tells of by version. Sources are told of by commit, and mostly one's own."""
_SUMMARY = 120


def with_export(subject: Subject, path: Path, progress: Progress | None = None) -> Subject:
    """Return *subject* with what the OSV export at *path* says of its packages.

    Raises:
        UsageError: There is no OSV record.
    """
    from lockbuild import osvexport  # noqa: PLC0415 - heavy

    names = {package.key for package in _packages(subject)}
    return replace(subject, osv=osvexport.read_export(path, names, progress, today=subject.today))


def told_by(database: Database | None) -> str:
    """Return which database was asked and how old it is, for people; empty for none."""
    if database is None:
        return ""
    ages = ", ".join(
        f"newest of {family} {_day_of(database.newest[family])}"
        for family in ("PyPI", "Debian", "Ubuntu")
        if family in database.newest
    )
    records = "1 record" if database.total == 1 else f"{database.total} records"
    return f"{database.label}: {records}, {ages or 'none of PyPI or Debian'}, written {database.written}"


def _day_of(modified: datetime | None) -> str:
    return str(modified.date()) if modified else "of a day to come"


def _database(subject: Subject) -> Database:
    if subject.osv is None:
        raise Skip(_NO_EXPORT)
    return subject.osv


def _packages(subject: Subject) -> tuple[Package, ...]:
    return osv.packages_of(subject.components, osv.ecosystems_of(subject.stack.base))


def _vulnerability(subject: Subject) -> Iterator[Found]:
    database = _database(subject)
    for found in osv.vulnerabilities(_packages(subject), database.records):
        reach = osv.reach(found, subject.stack, _bounds(found, subject))
        yield Found(
            found.package.name,
            _message(found, reach),
            facts=_facts(found, reach),
            level="error" if found.serious or reach.answer == "yes" else "warning",
        )


def _bounds(found: Vulnerability, subject: Subject) -> tuple[osv.Bound, ...]:
    if found.package.family != "PyPI":
        return ()
    return osv.bounds_on(
        found.package.name, subject.stack, subject.lock, _metadata(found.package.name, subject)
    )


def _metadata(name: str, subject: Subject) -> Mapping[str, tuple[str, ...]]:
    """Return what the fetched wheels that need the package *name* require, as far as the store has them."""
    wheels = dict(subject.plan.wheels)
    paths = {
        p.name: wheels[p.name]
        for p in subject.lock.runtime
        if name in p.dependencies and p.name in wheels
    }
    valid, said = subject.store.valid(paths.values()), {}
    for package, path in paths.items():
        if path in valid:
            try:
                said[package] = inspect_wheel(subject.store.locate(path)).requires
            except LockbuildError:
                continue
    return said


def _message(found: Vulnerability, reach: Reach) -> str:
    others = f" ({', '.join(found.aliases)})" if found.aliases else ""
    score = "" if found.score is None else f" {found.score}"
    bad = f", {found.severity or 'severity'}{score}" if found.severity or score else ", severity unknown"
    fixed = ", ".join(fix.version for fix in found.fixes)
    mend = {
        "yes": f", fixed in {fixed}, which the stack allows",
        "no": f", fixed in {fixed}, which the stack does not allow: {reach.why}",
        "unknown": f", fixed in {fixed}; whether the stack allows it is unknown: {reach.why}",
    }
    ending = mend[reach.answer] if fixed else ", no fixed version is known"
    summary = "".join(one for one in " ".join(found.summary.split()) if one.isprintable())[:_SUMMARY]
    about = f": {summary}" if summary else ""
    return f"{found.package.version} has {found.id}{others}{bad}{ending}{about}"


def _facts(found: Vulnerability, reach: Reach) -> tuple[tuple[str, str], ...]:
    return (
        ("id", found.id),
        ("aliases", " ".join(found.aliases)),
        ("severity", found.severity or "unknown"),
        ("score", "" if found.score is None else str(found.score)),
        ("fixed", " ".join(fix.version for fix in found.fixes)),
        ("reachable", reach.answer),
        ("reachable-why", reach.why),
        ("package", found.package.name),
        ("version", found.package.version),
        ("ecosystem", found.package.ecosystems[0]),
        ("components", " ".join(found.package.components)),
    )


def _old(subject: Subject) -> Iterator[Found]:
    database = _database(subject)
    for family in sorted({package.family for package in _packages(subject)} & database.newest.keys()):
        modified = database.newest[family]
        if modified is None:
            yield Found(
                family, "all of its records are dated later than today, so nobody knows how old it is"
            )
        elif subject.today - modified.date() > _OLD:
            days = (subject.today - modified.date()).days
            yield Found(
                family,
                f"its newest record is of {modified.date()}, {days} days ago, expected at most {_OLD.days}",
            )


def _not_looked_up(subject: Subject) -> Iterator[Found]:
    database, base = _database(subject), subject.stack.base
    counted = Counter(package.family for package in _packages(subject))
    suite = f"{base.archive.vendor} {base.archive.suite}" if base.archive else base.runtime or "runtime"
    for family, count in sorted(counted.items()):
        if not family:
            yield Found(
                suite, f"OSV has no name for it: {_counted(count, 'source package')} not looked up"
            )
        elif family not in database.newest:
            yield Found(
                family, f"the database has no record of it: {_counted(count, 'package')} not looked up"
            )
    if base.runtime and not any(
        c.kind == "deb" and c.origin == base.runtime for c in subject.components
    ):
        yield Found(base.runtime, "what the image holds is not looked up: it is not in the store")
    for kind, count in sorted(Counter(c.kind for c in subject.components if c.in_image).items()):
        if kind in _WITHOUT_RECORDS:
            yield Found(kind, f"OSV has no records of it: {_counted(count, 'part')} not looked up")
    yield from _unread(database)


def _unread(database: Database) -> Iterator[Found]:
    for fault in database.faults[:_NAMED_FAULTS]:
        where, _, why = fault.partition(": ")
        yield Found(where, why)
    if len(database.faults) > _NAMED_FAULTS:
        yield Found(
            database.label, f"{len(database.faults) - _NAMED_FAULTS} more records cannot be read"
        )


def _counted(count: int, noun: str) -> str:
    return f"1 {noun} is" if count == 1 else f"{count} {noun}s are"


RULES = (
    Rule(
        Check(
            id="vulnerability",
            level="warning",
            what="nothing that the image holds is known to be vulnerable",
            why="what everybody knows how to attack is attacked",
            mend="`lockbuild resolve --upgrade-package NAME` where the stack allows a fixed version (`--upgrade` for .debs), else"
            " change what is in its way; or waive it in `[audit]` with the reason",
        ),
        _vulnerability,
    ),
    Rule(
        Check(
            id="vulnerability-database-old",
            level="warning",
            what="the vulnerability database is at most 30 days old",
            why="what was found since is not in it",
            mend="get a new export: docs/audit.md",
        ),
        _old,
    ),
    Rule(
        Check(
            id="vulnerability-not-looked-up",
            level="warning",
            what="the vulnerability database can be read, and tells of all that the image is made of",
            why="what it does not tell of is unknown, not safe",
            mend="add the ecosystem's `all.zip` to the export, or get it anew: docs/audit.md; `lockbuild build` brings the base"
            " image into the store",
        ),
        _not_looked_up,
    ),
)
