"""Under which licence a wheel or a conda package is, by its metadata and the texts that it brings along. Pure."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import TYPE_CHECKING

from lockbuild.licences.expressions import all_of, canonical
from lockbuild.licences.names import admits, is_exact, of_classifier, of_name
from lockbuild.licences.texts import recognise
from lockbuild.licences.told import Told

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

__all__ = ["of_files", "of_metadata", "of_name_and_files"]

_LONG = 200
"""No name of a licence is longer: it is its text."""
_MAIN = re.compile(r"(un)?licen[cs]e|copying(\.lesser)?", re.IGNORECASE)
_FILE = "licence file"


@dataclass(frozen=True, slots=True)
class _Words:
    """What one place says."""

    told_by: str
    said: str
    """Word for word, on one line."""
    candidate: str
    """A licence, or a pattern of them; empty where the words tell none."""
    partial: bool = False
    """Whether it comes from a text of which not all was understood."""
    several: bool = False
    """Whether the candidate is several ones, and nobody says whether one may choose."""


def of_metadata(fields: Mapping[str, Sequence[str]], texts: Mapping[str, str]) -> Told:
    """Return the licence that a wheel tells.

    Its `License-Expression` counts more than its `License`, that more than its classifiers, and these more than the
    texts that it brings along. Whatever is told by a later place has to agree with an earlier one that is less exact.

    Args:
        fields: Name in METADATA -> values, in their order.
        texts: Name -> text of each licence file of the project itself, and of nothing that it holds.
    """
    for text in fields.get("License-Expression", ()):
        expression = canonical(text)
        if expression:
            told = _Words("License-Expression", text, expression)
            return _concluded([told, *_of_texts(texts)])
    return _concluded([*_declared(fields), *_of_texts(texts)])


def of_name_and_files(name: str, texts: Mapping[str, str]) -> Told:
    """Return the licence that goes by *name* or, where it goes by none, that the licence files tell."""
    return _concluded([*_declared({"License": [name]}), *_of_texts(texts)])


def of_files(texts: Mapping[str, str]) -> Told:
    """Return the licence that licence files tell: all of them, to their last word."""
    return _concluded([*_of_texts(texts)])


def _declared(fields: Mapping[str, Sequence[str]]) -> Iterator[_Words]:
    for text in fields.get("License", ()):
        if len(text) <= _LONG and "\n" not in text.strip():
            name = of_name(text)
            yield _Words("License", _line(text), name)
        else:
            found = recognise(text)
            yield _Words("License", _line(text), all_of(found.licences), partial=not found.whole)
    classifiers = [one for one in fields.get("Classifier", ()) if one.startswith("License ::")]
    if classifiers:
        named = " AND ".join(filter(None, map(of_classifier, classifiers)))
        yield _Words("classifiers", "; ".join(classifiers), named, several=len(classifiers) > 1)


def _of_texts(texts: Mapping[str, str]) -> Iterator[_Words]:
    """Yield what the main licence files tell, where something is recognised in each of them."""
    main = {name: text for name, text in texts.items() if _MAIN.fullmatch(_stem(name))}
    found = {name: recognise(text) for name, text in sorted((main or texts).items())}
    if found and all(one.licences for one in found.values()):
        expression = all_of(name for one in found.values() for name in one.licences)
        yield _Words(_FILE, expression, expression, partial=not all(one.whole for one in found.values()))


def _stem(name: str) -> str:
    return re.sub(r"\.(txt|md|rst)$", "", name.rpartition("/")[2], flags=re.IGNORECASE)


def _line(text: str) -> str:
    words = " ".join(text.split())
    return words if len(words) <= _LONG else f"{words[: _LONG - 1]}…"


def _concluded(places: Sequence[_Words]) -> Told:
    """Return what follows from what several places say, the more important first."""
    declared = "; ".join(
        one.said for one in places if one.told_by != _FILE and one.said.upper() != "UNKNOWN"
    )
    for place in places:
        if not is_exact(place.candidate) or place.several:
            continue
        others = [one for one in places if one is not place and one.candidate and not one.partial]
        agreed = [one for one in others if admits(one.candidate, place.candidate)]
        # A text of which not all was understood may go on to say anything, and needs words that go with it.
        if agreed or not place.partial:
            doubts = (f"{one.told_by}: {one.said}" for one in others if one not in agreed)
            return Told(
                licence=place.candidate,
                declared=declared,
                told_by=place.told_by,
                doubt="; ".join(doubts),
            )
    return Told(declared=declared)
