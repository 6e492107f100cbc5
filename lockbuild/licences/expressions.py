"""SPDX expressions: whether one is valid, what it names, and whether it is acceptable. Pure."""

from __future__ import annotations

import re
from itertools import accumulate
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

__all__ = ["acceptable", "all_of", "canonical", "licences_in"]

_WORD = re.compile(r"[()]|[^\s()]+")


def canonical(text: str) -> str | None:
    """Return *text* as SPDX writes it; none where it is no expression."""
    # The list of licences takes a moment to load, and most commands ask nothing of it.
    from packaging.licenses import (  # noqa: PLC0415
        InvalidLicenseExpression,
        canonicalize_license_expression,
    )

    try:
        return canonicalize_license_expression(text)
    except InvalidLicenseExpression:
        return None


def all_of(expressions: Iterable[str]) -> str:
    """Return the expression of all of *expressions* together, each part of it once, in their order."""
    found = dict.fromkeys(term for one in expressions if one for term in _terms(one))
    # `AND` binds more strongly than `OR`.
    return " AND ".join(
        f"({term})" if len(found) > 1 and _splits(term, "OR") else term for term in found
    )


def _terms(expression: str) -> list[str]:
    """Return what `AND` joins in *expression*, outermost."""
    while _is_wrapped(expression):
        expression = expression[1:-1]
    if _splits(expression, "OR"):
        return [expression]
    terms = _splits(expression, "AND") or [expression]
    return [expression] if terms == [expression] else [one for term in terms for one in _terms(term)]


def _splits(expression: str, joint: str) -> list[str]:
    """Return the parts of *expression* that *joint* joins outside of brackets; none where it joins nothing."""
    parts: list[list[str]] = [[]]
    depth = 0
    for word in _WORD.findall(expression):
        depth += {"(": 1, ")": -1}.get(word, 0)
        if word == joint and depth == 0:
            parts.append([])
        else:
            parts[-1].append(word)
    if len(parts) == 1:
        return []
    return [" ".join(part).replace("( ", "(").replace(" )", ")") for part in parts]


def _is_wrapped(expression: str) -> bool:
    """Tell whether one pair of brackets is around all of *expression*."""
    depths = list(accumulate({"(": 1, ")": -1}.get(sign, 0) for sign in expression))
    return expression.startswith("(") and depths.index(0) == len(depths) - 1


def licences_in(expression: str) -> tuple[str, ...]:
    """Return every licence that *expression* names, with its exception, each once, in their order."""
    found: list[str] = []

    def look(licence: str) -> bool:
        found.append(licence)
        return True

    acceptable(expression, look)
    return tuple(dict.fromkeys(found))


def acceptable(expression: str, judge: Callable[[str], bool]) -> bool:
    """Tell whether what is under *expression* may be used, where *judge* says it of each licence.

    Of licences joined by `OR` any may be chosen, those joined by `AND` hold together.

    Args:
        judge: Given a licence with its exception: `GPL-2.0-or-later WITH GCC-exception-2.0`.
    """
    words = _WORD.findall(expression)
    return bool(words) and _any(words, judge)


def _any(words: list[str], judge: Callable[[str], bool]) -> bool:
    """Judge, and take away, `A OR B …` from the front of *words*."""
    good = _all(words, judge)
    while words and words[0].upper() == "OR":
        del words[0]
        good = _all(words, judge) or good
    return good


def _all(words: list[str], judge: Callable[[str], bool]) -> bool:
    """Judge, and take away, `A AND B …` from the front of *words*."""
    good = _one(words, judge)
    while words and words[0].upper() == "AND":
        del words[0]
        good = _one(words, judge) and good
    return good


def _one(words: list[str], judge: Callable[[str], bool]) -> bool:
    """Judge, and take away, one licence with its exception, or what is in brackets."""
    word = words.pop(0)
    if word == "(":
        good = _any(words, judge)
        del words[:1]
        return good
    if len(words) > 1 and words[0].upper() == "WITH":
        word = f"{word} WITH {words[1]}"
        del words[:2]
    return judge(word)
