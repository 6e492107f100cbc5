"""Recognising well-known licences in texts, by their own sentences. Pure.

Of a text only the words count: case, punctuation, marks of comments and line breaks say nothing. A licence is there
where its phrases follow one another with no more between them than its own words and somebody's name would need.
The phrases are those of https://spdx.org/licenses/.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator

__all__ = ["Recognised", "recognise", "words_of"]

_NO_WORD = re.compile(r"[^a-z0-9]+")


@dataclass(frozen=True, slots=True, kw_only=True)
class Recognised:
    """What a text was recognised as."""

    licences: tuple[str, ...] = ()
    """SPDX, with exceptions, in the order of the text."""
    whole: bool = False
    """Whether nothing else in the text speaks of rights or duties."""


@dataclass(frozen=True, slots=True)
class _Licence:
    name: str
    phrases: tuple[str | tuple[str, ...], ...]
    """In their order; of several in one place any will do."""
    gap: int = 1_200
    """Most characters between the end of one and the beginning of the next."""
    never: tuple[str, ...] = ()
    """What has no place in it: it would be another licence."""
    tail: str = ""
    """The end of what often follows the licence, and belongs to its text."""


# ---- the phrases -----------------------------------------------------------------------------------

_LONG = 60_000
_TAIL = 6_000

_USE = "redistribution and use in source and binary forms"
_SOURCE = (
    "source code must retain the above",
    "source code must retain the accompanying",
    "source code must retain copyright",
    "source code must retain all copyright",
    "source code must retain the original",
)
_BINARY = ("in binary form must reproduce the",)
_ADVERTISING = "all advertising materials mentioning features or use of this"
_NAMES = (
    "be used to endorse or promote products",
    "be used to endorse or to promote products",
    "used to endorse or promote products",
    "be used to promote products derived",
)
_DAMAGE = ("possibility of such damage", "such damages", "such damage", "out of the use of this")
_FREE = "permission is hereby granted free of charge to any person obtaining a copy of this"
_NOTICE = "shall be included in"
_DEALINGS = ("dealings in the", "other dealings", "or other liability")
_COPY = "permission to use copy modify"
_FEE = ("for any purpose with or without fee",)
_SELL = "permission to use copy modify distribute and sell this software and its documentation for any purpose is hereby granted without fee"
_HPND = "permission to use copy modify and distribute this software and its documentation for any purpose and without fee is hereby granted"
_GIFT = "is hereby granted the software is provided as is and"
_APPEAR = "copyright notice and this permission notice appear in all"
_AS_IS = "the software is provided as is and"
_PERFORMANCE = "performance of this software"
_END = "end of terms and conditions"
_CONTACT = "creative commons may be contacted at creativecommons org"
_PSF = ("psf license agreement for python", "python software foundation license version 2")
_PYTHON = (
    _PSF,
    "beopen",
    "cnri",
    ("cwi license agreement", "stichting mathematisch centrum"),
    _PERFORMANCE,
)

_LICENCES = (
    # Those whose text holds or resembles that of another come before the other.
    _Licence(
        "Apache-2.0", ("version 2 0 january 2004", _END), 14_000, tail="limitations under the license"
    ),
    _Licence(
        "Apache-2.0",
        ("version 2 0 january 2004", "accepting any such warranty or additional liability"),
        14_000,
    ),
    _Licence(
        "LLVM-exception",
        ("llvm exceptions to the apache 2 0 license", "either in whole or in part"),
        2_000,
    ),
    _Licence(
        "LGPL-3.0-only",
        (
            "gnu lesser general public license version 3 29 june 2007",
            "choose that version for the library",
        ),
        _LONG,
    ),
    _Licence(
        "LGPL-2.1-only",
        ("gnu lesser general public license version 2 1 february 1999", _END),
        _LONG,
        tail="that s all there is to it",
    ),
    _Licence(
        "LGPL-2.0-only",
        ("gnu library general public license version 2 june 1991", _END),
        _LONG,
        tail="that s all there is to it",
    ),
    _Licence(
        "AGPL-3.0-only",
        ("gnu affero general public license version 3 19 november 2007", _END),
        _LONG,
        tail="gnu agpl see",
    ),
    _Licence(
        "GPL-3.0-only",
        ("gnu general public license version 3 29 june 2007", _END),
        _LONG,
        tail="why not lgpl html",
    ),
    _Licence(
        "GPL-2.0-only",
        ("gnu general public license version 2 june 1991", _END),
        _LONG,
        tail="instead of this license",
    ),
    _Licence(
        "GPL-1.0-only",
        ("gnu general public license version 1 february 1989", _END),
        _LONG,
        tail="that s all there is to it",
    ),
    _Licence(
        "GCC-exception-3.1",
        ("gcc runtime library exception version 3 1", "licensing of the independent modules"),
        4_000,
    ),
    _Licence(
        "MPL-2.0",
        (
            "mozilla public license version 2 0",
            "incompatible with secondary licenses as defined by the mozilla public license",
        ),
        20_000,
    ),
    _Licence(
        "MPL-1.1",
        (
            "mozilla public license version 1 1",
            "exhibit a mozilla public license",
            "file under either the",
        ),
        _LONG,
    ),
    _Licence(
        "EPL-2.0", ("eclipse public license v 2 0", "accurate notices of copyright ownership"), 20_000
    ),
    _Licence("EPL-1.0", ("eclipse public license v 1 0", "any resulting litigation"), 20_000),
    _Licence("CC0-1.0", ("cc0 1 0 universal", "with respect to this cc0 or use of the work"), 9_000),
    _Licence(
        "CC-BY-NC-SA-4.0", ("attribution noncommercial sharealike 4 0 international", _CONTACT), _LONG
    ),
    _Licence(
        "CC-BY-NC-ND-4.0", ("attribution noncommercial noderivatives 4 0 international", _CONTACT), _LONG
    ),
    _Licence("CC-BY-NC-4.0", ("attribution noncommercial 4 0 international", _CONTACT), _LONG),
    _Licence("CC-BY-SA-4.0", ("attribution sharealike 4 0 international", _CONTACT), _LONG),
    _Licence("CC-BY-4.0", ("attribution 4 0 international", _CONTACT), _LONG),
    _Licence("OFL-1.1", ("sil open font license version 1 1", "dealings in the font software"), 9_000),
    # CPython's own text tells the history of its licences first.
    _Licence("Python-2.0", ("history of the software python was created", *_PYTHON), 9_000),
    _Licence("Python-2.0", _PYTHON, 9_000),
    _Licence("PSF-2.0", (_PSF, "terms and conditions of this license agreement"), 4_000),
    _Licence(
        "BSL-1.0",
        ("boost software license version 1 0 august 17th 2003", "dealings in the software"),
        1_500,
    ),
    _Licence(
        "BSL-1.0",
        (
            "permission is hereby granted free of charge to any person or organization obtaining a copy of the software and accompanying documentation",
            "dealings in the software",
        ),
        1_500,
    ),
    _Licence(
        "Unlicense",
        (
            "free and unencumbered software released into the public domain",
            ("refer to http unlicense org", "refer to https unlicense org", "dealings in the software"),
        ),
        1_500,
    ),
    _Licence(
        "NCSA",
        (
            _FREE,
            "to deal with the software",
            _SOURCE,
            _BINARY,
            "be used to endorse or promote products",
            "dealings with the software",
        ),
    ),
    _Licence(
        "X11",
        (
            _FREE,
            "to deal in",
            _NOTICE,
            "except as contained in this notice the name",
            "prior written authorization",
        ),
    ),
    _Licence("MIT", (_FREE, "to deal in", "subject to", _NOTICE, "is provided as is", _DEALINGS)),
    _Licence(
        "MIT-0", (_FREE, "to deal in", "is furnished to do so the software is provided as is", _DEALINGS)
    ),
    _Licence("BSD-4-Clause", (_USE, _SOURCE, _BINARY, _ADVERTISING, _NAMES, _DAMAGE)),
    _Licence(
        "BSD-3-Clause-Clear",
        (
            _USE,
            _SOURCE,
            _BINARY,
            _NAMES,
            "no express or implied licenses to any party s patent rights",
            _DAMAGE,
        ),
    ),
    _Licence("BSD-3-Clause", (_USE, _SOURCE, _BINARY, _NAMES, _DAMAGE)),
    _Licence("BSD-2-Clause", (_USE, _SOURCE, _BINARY, _DAMAGE), never=("endorse", "advertising")),
    _Licence("BSD-1-Clause", (_USE, _SOURCE, _DAMAGE), never=("binary form", "endorse", "advertising")),
    _Licence(
        "MIT-open-group",
        (_SELL, "supporting documentation", _NOTICE, "except as contained in this notice the name"),
    ),
    _Licence(
        "HPND-sell-variant",
        (_SELL, "supporting documentation", ("performance of this", "implied warranty")),
    ),
    _Licence("HPND", (_HPND, "supporting documentation", ("performance of this", "implied warranty"))),
    _Licence("ISC", (_COPY, _FEE, _APPEAR, _AS_IS, _PERFORMANCE)),
    _Licence("0BSD", (_COPY, _FEE, _GIFT, _PERFORMANCE)),
    _Licence(
        "PostgreSQL",
        (
            _COPY,
            "distribute this software and its documentation for any purpose without fee and without a written agreement",
            "enhancements or modifications",
        ),
        1_500,
    ),
    _Licence(
        "Zlib",
        (
            "as is without any express or implied warranty",
            "the origin of this software must not be misrepresented",
            "this notice may not be removed or altered",
        ),
    ),
    _Licence(
        "WTFPL",
        ("do what the fuck you want to public license", "you just do what the fuck you want to"),
        900,
    ),
    _Licence(
        "Info-ZIP",
        ("copyright and license info zip is defined as", "retain the right to use the names info zip"),
        6_000,
    ),
    # What files say that have the licence's text elsewhere.
    _Licence(
        "Apache-2.0", ("licensed under the apache license version 2 0", "limitations under the license")
    ),
)
# Words before and after a licence that give it a name and somebody the rights.
_TITLE = re.compile(
    r"\b(?:the |a |an )?(?:(?:new|modified|simplified|revised|clear|original|open source|permissive|free) |or )*"
    r"(?:mit|x11|expat|bsd|isc|zlib|apache|boost|mozilla public|gnu|gpl|lgpl|psf|unlicense|ncsa|postgresql)\b"
    r"(?: (?:[0-9]|x|clause|style|software|lesser|general|public|open|source|or|v|version|org)\b)*(?: licen[cs]e[ds]?)?\b"
)
_GRANT = re.compile(
    r"(?:(?:this (?:software|project|package|code|work|library|program)|\w+) is )?"
    r"(?:licensed|released|distributed|available|made available) under (?:the )?(?:terms of )?(?:the )?(?:following )?(?:licen[cs]e)?"
    r"|(?:software )?licen[cs]e(?: text| terms| file| agreement)?$|^licen[cs]e|all rights reserved"
    r"|see (?:the )?licen[cs]e(?: file)?(?: for (?:more )?details)?"
)
_LEGAL = re.compile(
    r"\b(?:licen[cs]\w*|permission|permitted|redistribut\w*|warrant\w*|liab\w+|copyleft|patents?|may not|must|prohibited|forbidden|commercial\w*|noncommercial)\b"
)


def words_of(text: str) -> str:
    """Return the words of *text*, in lower case, with one space between them."""
    return _NO_WORD.sub(" ", text.lower()).strip()


def recognise(text: str) -> Recognised:
    """Return the licences whose own words *text* has, in their order.

    A text of the GPL and its kin does not say whether later versions will do too: it is taken for this one alone.
    """
    words = words_of(text)
    found: list[tuple[int, str]] = []
    for licence in _LICENCES:
        for start, end in _spans(licence, words):
            found.append((start, licence.name))
            # As many characters as before, so that what is found later has its place.
            words = f"{words[:start]}{'|' * (end - start)}{words[end:]}"
    names = tuple(dict.fromkeys(name for _, name in sorted(found)))
    return Recognised(licences=_with_exceptions(names), whole=bool(names) and not _speaks_on(words))


def _spans(licence: _Licence, words: str) -> Iterator[tuple[int, int]]:
    """Yield where *licence* begins and ends, as often as it is there."""
    position = 0
    while (span := _next(licence, words, position)) is not None:
        yield span
        position = span[1]


def _next(licence: _Licence, words: str, position: int) -> tuple[int, int] | None:
    first, *others = licence.phrases
    while (begun := _find(first, words, position, len(words))) is not None:
        start, end = begun
        for phrase in others:
            following = _find(phrase, words, end, end + licence.gap)
            if following is None or "|" in words[end : following[0]]:
                break
            end = following[1]
        else:
            if any(phrase in words[start:end] for phrase in licence.never):
                position = start + 1
                continue
            tail = _find(licence.tail, words, end, end + _TAIL) if licence.tail else None
            return start, tail[1] if tail and "|" not in words[end : tail[0]] else end
        position = start + 1
    return None


def _find(phrase: str | tuple[str, ...], words: str, position: int, most: int) -> tuple[int, int] | None:
    """Return begin and end of the earliest of some phrases that begins between two positions."""
    found = []
    for one in (phrase,) if isinstance(phrase, str) else phrase:
        start = words.find(one, position, most + len(one))
        if start >= 0:
            found.append((start, start + len(one)))
    return min(found, key=lambda span: (span[0], -span[1]), default=None)


def _with_exceptions(names: tuple[str, ...]) -> tuple[str, ...]:
    """Put exceptions beside the licences that they are from."""
    found = list(names)
    for exception, licence, meant in (
        ("LLVM-exception", "Apache-2.0", "Apache-2.0 WITH LLVM-exception"),
        ("GCC-exception-3.1", "GPL-3.0-only", "GPL-3.0-or-later WITH GCC-exception-3.1"),
    ):
        if exception in found:
            found = [meant if name == licence else name for name in found if name != exception]
    return tuple(found)


def _speaks_on(words: str) -> bool:
    """Tell whether what is left of a text speaks of rights or duties."""
    return any(
        _LEGAL.search(_GRANT.sub(" ", _TITLE.sub(" ", part).strip())) for part in re.split(r"\|+", words)
    )
