"""How a report says sizes, counts and strangers' texts. Pure."""

from __future__ import annotations

from unicodedata import category

__all__ = ["count", "plain", "size_text", "visible"]

_UNITS = ("B", "kB", "MB", "GB", "TB")
_THOUSAND = 1000
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
