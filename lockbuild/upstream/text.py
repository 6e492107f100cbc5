"""TOML and its comments, out of text that anybody may have written. Pure."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING
from unicodedata import category

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

__all__ = ["comment", "listed", "quoted", "said", "strings"]

_WIDTH = 110
_LONGEST = 300


def quoted(text: str) -> str:
    """Return *text* as a TOML string on one line."""
    # JSON's escapes are TOML's, but for the one control character that JSON leaves alone.
    return json.dumps(_plain(text), ensure_ascii=False).replace("\x7f", "\\u007f")


def said(text: str) -> str:
    """Return *text* as a comment can hold it: one line, no control characters, not without end."""
    shown = " ".join(_plain(text).split())
    return shown if len(shown) <= _LONGEST else f"{shown[: _LONGEST - 1]}…"


def _plain(text: str) -> str:
    """Return *text* with what no file should hold in the open: controls, lone surrogates, line separators."""
    return "".join(" " if category(one) in {"Cc", "Cf", "Cs", "Co", "Zl", "Zp"} else one for one in text)


def comment(text: str, *, first: str = "# ", rest: str = "#   ") -> Iterator[str]:
    """Yield *text* as lines of comments, no wider than a page where its words allow that."""
    line = first.rstrip()
    for word in said(text).split(" "):
        if len(line) + len(word) >= _WIDTH and line.strip() not in {"#", first.strip()}:
            yield line
            line = f"{rest.rstrip()}{' ' * (len(rest) - len(rest.rstrip()))}{word}"
        else:
            line = f"{line} {word}"
    yield line


def strings(key: str, values: Iterable[str]) -> Iterator[str]:
    """Yield `key = […]`, on one line if that is short."""
    words = [quoted(value) for value in values]
    short = f"{key} = [{', '.join(words)}]"
    if len(short) <= _WIDTH:
        yield short
        return
    yield f"{key} = ["
    yield from (f"  {word}," for word in words)
    yield "]"


def listed(places: Iterable[object], *, most: int = 3) -> str:
    """Return places in words: the first few, and how many more there are."""
    texts = list(dict.fromkeys(str(place) for place in places))
    more = f" and {len(texts) - most} more" if len(texts) > most else ""
    return ", ".join(texts[:most]) + more
