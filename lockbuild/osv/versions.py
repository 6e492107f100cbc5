"""Whether a version is affected: the evaluation algorithm of the OSV schema, in the order of the ecosystem. Pure."""

from __future__ import annotations

from functools import lru_cache
from typing import TYPE_CHECKING, Any

from debian.debian_support import NativeVersion
from packaging.version import InvalidVersion, Version

if TYPE_CHECKING:
    from collections.abc import Iterator

    from lockbuild.osv.records import Affected, Event, Range

__all__ = ["affects", "fixes", "public", "sort_key"]

_ORDERED = ("ECOSYSTEM", "SEMVER")
"""Types of ranges that versions tell. SemVer's versions have the same order in PEP 440's and dpkg's eyes as far
as these ecosystems use them; commits (`GIT`) need the repository."""

# Places of versions on a line. What cannot be read is put where it hides nothing: a vulnerability that begins
# there begins before all versions, one that ends there never does.
_FIRST, _LAST = (0, None), (2, None)
_Place = tuple[int, Any]


def affects(affected: Affected, version: str, family: str) -> bool:
    """Tell whether *affected* names *version*, by the list of its versions or by a range.

    A local version (`2.7.1+cu118`) is another build of the public one and has its vulnerabilities.
    """
    ours = sort_key(public(version, family), family)
    both = (ours, sort_key(version, family))
    return any(_place(one, family, _FIRST) in both for one in affected.versions) or any(
        _in_range(ours, one, family) for one in affected.ranges if one.type in _ORDERED
    )


def public(version: str, family: str) -> str:
    """Return *version* without its local label."""
    return version.partition("+")[0] if family == "PyPI" else version


def fixes(affected: Affected, version: str, family: str) -> Iterator[tuple[str, str]]:
    """Yield each version above *version* that mends it, and the next one that brings it back, or nothing."""
    ours = sort_key(public(version, family), family)
    for one in affected.ranges:
        if one.type not in _ORDERED:
            continue
        begins = [event.introduced for event in one.events if _parsed(event.introduced or "", family)]
        for fixed in (event.fixed for event in one.events):
            if fixed is None or not _parsed(fixed, family) or sort_key(fixed, family) <= ours:
                continue
            later = [
                begin for begin in begins if begin and sort_key(begin, family) > sort_key(fixed, family)
            ]
            yield fixed.strip(), min(later, key=lambda begin: sort_key(begin, family), default="")


def sort_key(version: str, family: str) -> tuple[int, Any]:
    """Return what versions are sorted by; those that cannot be read come last."""
    return _place(version, family, _LAST)


def _in_range(version: _Place, one: Range, family: str) -> bool:
    if not _before_limits(version, one, family):
        return False
    vulnerable = False
    for place, event in sorted(
        ((_event_place(event, family), event) for event in one.events), key=lambda pair: pair[0]
    ):
        if event.introduced is not None and version >= place:
            vulnerable = True
        elif (event.fixed is not None and version >= place) or (
            event.last_affected is not None and version > place
        ):
            vulnerable = False
    return vulnerable


def _before_limits(version: _Place, one: Range, family: str) -> bool:
    limits = [event.limit for event in one.events if event.limit is not None]
    return not limits or any("*" in limit or version < _place(limit, family, _LAST) for limit in limits)


def _event_place(event: Event, family: str) -> _Place:
    if event.introduced is not None:
        return _FIRST if event.introduced == "0" else _place(event.introduced, family, _FIRST)
    return _place(event.fixed or event.last_affected or "", family, _LAST)


def _place(version: str, family: str, unreadable: _Place) -> _Place:
    parsed = _parsed(version, family)
    return unreadable if parsed is None else (1, parsed)


@lru_cache(maxsize=65536)
def _parsed(version: str, family: str) -> Any:  # noqa: ANN401 - each ecosystem has a class of its own
    try:
        return Version(version) if family == "PyPI" else NativeVersion(version)
    except (InvalidVersion, ValueError):
        return None
