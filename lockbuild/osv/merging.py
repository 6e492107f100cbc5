"""Which records tell of the same vulnerability: CVE, GHSA, PYSEC, DEBIAN-CVE and DSA of one thing. Pure."""

from __future__ import annotations

import re
from collections import defaultdict
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Collection, Iterable

    from lockbuild.osv.records import Record

__all__ = ["Merged", "merged"]

# Distributions name their record of a CVE after it: DEBIAN-CVE-2024-3094.
_OF_CVE = re.compile(r"[A-Z]+-(CVE-\d+-\d+)")
_RANKS = ("CVE-", "GHSA-", "PYSEC-")


@dataclass(frozen=True, slots=True, kw_only=True)
class Merged:
    """One vulnerability."""

    id: str
    """Of a CVE where there is one."""
    aliases: tuple[str, ...]
    """Its other ids, sorted."""
    records: tuple[str, ...]
    """Ids of the records that tell of it, sorted."""


class _Groups:
    """Ids that mean the same: a union-find."""

    def __init__(self) -> None:
        self._parents: dict[str, str] = {}

    def find(self, id_: str) -> str:
        while (parent := self._parents.setdefault(id_, id_)) != id_:
            self._parents[id_] = self._parents[parent]
            id_ = parent
        return id_

    def join(self, *ids: str) -> None:
        first = self.find(ids[0])
        for id_ in ids[1:]:
            self._parents[self.find(id_)] = first

    def members(self) -> dict[str, set[str]]:
        found: dict[str, set[str]] = defaultdict(set)
        for id_ in tuple(self._parents):
            found[self.find(id_)].add(id_)
        return found


def merged(records: Iterable[Record], hits: Collection[str]) -> tuple[Merged, ...]:
    """Return the vulnerabilities that the records called *hits* tell of, sorted by id.

    Aliases are one thing, and so are a record and the only thing upstream of it. An advisory of several things
    (a DSA of three CVEs) is no bond between them: it goes along with each of them where all have a record
    of their own among *hits*, and is a vulnerability by itself otherwise, so that none is lost.

    Args:
        records: All that may say which ids mean the same.
    """
    groups, records = _Groups(), tuple(records)
    for record in records:
        groups.join(record.id, *record.aliases)
        for id_ in (record.id, *record.aliases, *record.upstream):
            if of_cve := _OF_CVE.fullmatch(id_):
                groups.join(id_, of_cve[1])
    bundles: dict[str, set[str]] = {}
    for record in records:
        upstream = {groups.find(id_) for id_ in record.upstream} - {groups.find(record.id)}
        if len(upstream) == 1:
            groups.join(record.id, *upstream)
        elif upstream:
            bundles[record.id] = upstream
    told: dict[str, set[str]] = defaultdict(set)
    for id_ in set(hits) - bundles.keys():
        told[groups.find(id_)].add(id_)
    ids = groups.members()
    also: dict[str, set[str]] = defaultdict(set)
    for bundle in bundles.keys() & set(hits):
        roots = {groups.find(id_) for id_ in bundles[bundle]}
        if roots <= told.keys():
            for root in roots:
                also[root].add(bundle)
        else:
            alone = groups.find(bundle)
            told[alone].add(bundle)
            also[alone] |= {id_ for root in roots for id_ in ids[root]}
    return tuple(
        sorted(
            (
                _merged(ids[root], also[root], found | (also[root] & bundles.keys()))
                for root, found in told.items()
            ),
            key=lambda one: one.id,
        )
    )


def _merged(ids: set[str], also: set[str], records: set[str]) -> Merged:
    primary = min(ids, key=_rank)
    return Merged(
        id=primary, aliases=tuple(sorted((ids | also) - {primary})), records=tuple(sorted(records))
    )


def _rank(id_: str) -> tuple[int, str]:
    ranks = [number for number, prefix in enumerate(_RANKS) if id_.startswith(prefix)]
    return (*ranks, len(_RANKS))[0], id_
