"""How a report says sizes, counts and strangers' texts. Pure."""

from __future__ import annotations

import re
from unicodedata import category

__all__ = ["brief", "count", "plain", "short", "size_text", "visible"]

_UNITS = ("B", "kB", "MB", "GB", "TB")
_THOUSAND = 1000
_ROOM = 44
"""Letters of a licence expression that a cell of a table has room for."""
_COMMIT = 12
_HASH = re.compile(r"[0-9a-f]{40}|[0-9a-f]{64}")
_OPERATOR = re.compile(r"\s+(?:AND|OR)\s+|[()]")
_KEPT = frozenset("\n\t")
# Controls, formatting (marks of direction, characters of no width), surrogates, separators of lines.
_UNSEEN = frozenset({"Cc", "Cf", "Cs", "Zl", "Zp"})


def size_text(size: int | None) -> str:
    """Return a number of bytes as people say it; a dash for none."""
    if size is None:
        return "-"
    value, units = float(size), list(_UNITS)
    while value >= _THOUSAND and len(units) > 1:
        value /= _THOUSAND
        del units[0]
    return f"{value:.0f} {units[0]}" if units[0] == "B" else f"{value:.1f} {units[0]}"


def count(number: int, one: str, many: str = "") -> str:
    """Return `1 error`, `2 errors`; *many* where it is not *one* with an `s`."""
    return f"{number:,} {one if number == 1 else many or f'{one}s'}"


def short(version: str) -> str:
    """Return a version, of a commit its first letters."""
    return version[:_COMMIT] if _HASH.fullmatch(version) else version


def brief(expression: str) -> str:
    """Return a licence expression, or where it is long its first licences and how many others it has."""
    if len(expression) <= _ROOM:
        return expression
    licences = list(dict.fromkeys(filter(None, map(str.strip, _OPERATOR.split(expression)))))
    first = licences[0] if len(licences[0]) <= _ROOM else f"{licences[0][: _ROOM - 1]}…"
    return f"{first} and {count(len(licences) - 1, 'other')}" if licences[1:] else first


def plain(text: str) -> str:
    r"""Return *text* with what UTF-8 cannot say, as file names may have it, written out: `\udcff`."""
    return text.encode("utf-8", "backslashreplace").decode()


def visible(text: str) -> str:
    r"""Return *text* with every character that is not seen, or that turns others around, written out: `\u202e`."""
    return "".join(
        character
        if character in _KEPT or category(character) not in _UNSEEN
        else character.encode("unicode_escape").decode()
        for character in text
    )
