"""Patterns of SPDX licences, as a policy names them: `AGPL-*`, `*GPL-* WITH GCC-exception-*`. Pure.

Upper and lower case are the same, as SPDX wants identifiers to be compared:
https://spdx.github.io/spdx-spec/v2.3/SPDX-license-expressions/#d2-case-sensitivity
"""

from __future__ import annotations

import difflib
from fnmatch import fnmatchcase
from typing import TYPE_CHECKING

from lockbuild.licences.names import of_name

if TYPE_CHECKING:
    from collections.abc import Iterable

__all__ = ["fits", "is_of_spdx", "nearest"]

_WITH = " WITH "
_OWN = "licenseref-"
"""How the name of a licence begins that SPDX does not list; what comes then is anybody's."""


def fits(licence: str, patterns: Iterable[str]) -> bool:
    """Tell whether one of *patterns* is meant for *licence*: with any exception, where it names none."""
    whole = licence.casefold()
    name = whole.partition(_WITH.casefold())[0]
    return any(
        fnmatchcase(whole if _WITH in pattern else name, pattern.casefold()) for pattern in patterns
    )


def is_of_spdx(pattern: str) -> bool:
    """Tell whether *pattern* fits a licence that SPDX lists, and such an exception, or is of a `LicenseRef-…`."""
    name, with_, exception = pattern.partition(_WITH)
    return _is_licence(name) and (not with_ or _is_exception(exception))


def nearest(pattern: str) -> str:
    """Return what may be meant by a *pattern* that fits nothing; empty where nothing is near."""
    licences, exceptions = _listed()
    name, with_, exception = pattern.partition(_WITH)
    later = f"{name.removesuffix('+')}-or-later" if name.endswith("+") else ""
    near = next((one for one in (name, later, of_name(name)) if one and _is_licence(one)), "")
    near = near or _near(name, licences)
    if not with_:
        return near
    near_exception = exception if _is_exception(exception) else _near(exception, exceptions)
    return f"{near}{_WITH}{near_exception}" if near and near_exception else ""


def _is_licence(pattern: str) -> bool:
    folded = pattern.casefold()
    # `+` says "or any later version" behind any identifier.
    return folded.startswith(_OWN) or any(
        fnmatchcase(one.casefold(), wanted)
        for wanted in (folded, folded.removesuffix("+"))
        for one in _listed()[0]
    )


def _is_exception(pattern: str) -> bool:
    return any(fnmatchcase(one.casefold(), pattern.casefold()) for one in _listed()[1])


def _near(pattern: str, names: Iterable[str]) -> str:
    """Return the name or, of a pattern, the family of names that is nearest to *pattern*."""
    start = "*" if pattern.startswith("*") else ""
    known = {f"{start}{one}" for one in (_families(names) if "*" in pattern else names)}
    folded = {one.casefold(): one for one in sorted(known)}
    found = difflib.get_close_matches(pattern.casefold(), folded, n=1)
    return folded[found[0]] if found else ""


def _families(names: Iterable[str]) -> set[str]:
    """Return `AGPL-*` and `AGPL-3.0-*` for `AGPL-3.0-only`."""
    parts = [name.split("-") for name in names]
    return {"-".join((*one[:count], "*")) for one in parts for count in range(1, len(one))}


def _listed() -> tuple[tuple[str, ...], tuple[str, ...]]:
    """Return the licences and the exceptions that SPDX lists."""
    # packaging has the lists, and shows them to nobody: no other place here may look at them.
    from packaging.licenses import _spdx  # noqa: PLC0415 - takes a moment

    listed = {one["id"] for one in _spdx.LICENSES.values()}
    return (
        # `GPL-3.0` of old is either of two licences today, and fits the name of neither.
        tuple(sorted(one for one in listed if f"{one.removesuffix('+')}-only" not in listed)),
        tuple(one["id"] for one in _spdx.EXCEPTIONS.values()),
    )
