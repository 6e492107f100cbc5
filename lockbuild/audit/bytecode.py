"""Is bytecode what its module compiles to? It is read by a reader of its own, as Python's may crash on what it reads.

Line numbers are left out: releases of one minor version of Python differ in them, and in little else.
"""

from __future__ import annotations

import marshal
import sys
import warnings
from importlib.util import MAGIC_NUMBER
from typing import TYPE_CHECKING, Literal

if TYPE_CHECKING:
    from collections.abc import Callable

__all__ = ["Verdict", "judge"]

Verdict = Literal["fits", "unseen", "alike", "other", "unknown"]
"""Python may run it, or never would; it is run without a look at its module; its names and constants are those of its
module, but not its instructions; it is compiled from something else; this Python has other bytecode and cannot tell."""

_HEADER = 16
_HASHED, _CHECKED = 0b01, 0b10
_NUMBERS, _PARTS = 5, 10
"""Of a code object: sizes and flags, then what it consists of."""
_FILE_AND_LINES = frozenset({5, 8})
_INSTRUCTIONS = frozenset({0, 9})


def judge(data: bytes, module: bytes, *, name: str, python: str) -> Verdict:
    """Tell whether Python should run bytecode for *module*, whatever its stamp says: who can write it makes that fit.

    Args:
        data: The .pyc file: https://peps.python.org/pep-0552/
        module: The module's source.
        name: Of the module's file, as an installer knows it.
        python: Major and minor version of the Python that runs it.
    """
    flags = int.from_bytes(data[4:8], "little")
    if len(data) < _HEADER or data[2:4] != b"\r\n" or flags & ~(_HASHED | _CHECKED):
        return "fits"
    if flags & _HASHED and not flags & _CHECKED:
        return "unseen"
    if python != f"{sys.version_info.major}.{sys.version_info.minor}":
        return "unknown"
    return "fits" if data[:4] != MAGIC_NUMBER else _compared(data[_HEADER:], module, name)


def _compared(code: bytes, module: bytes, name: str) -> Verdict:
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            compiled = marshal.dumps(compile(module, name, "exec", dont_inherit=True, optimize=0))
        if code == compiled or _read(code) == _read(compiled):
            return "fits"
        return "alike" if _read(code, loose=True) == _read(compiled, loose=True) else "other"
    except (SyntaxError, ValueError, IndexError, MemoryError, RecursionError):
        return "other"


def _read(data: bytes, *, loose: bool = False) -> object:
    return _Reading(data, loose=loose).whole()


class _Reading:
    """Reads what `marshal` writes as tuples that can be compared: CPython's Python/marshal.c, `w_object`.

    How often an object is named instead of repeated, and which texts are interned, is chance, and is not seen.
    """

    def __init__(self, data: bytes, *, loose: bool) -> None:
        self._data = data
        self._loose = loose
        self._at = 0
        self._named: list[object] = []

    def whole(self) -> object:
        """Return the only object.

        Raises:
            ValueError: It is none.
            IndexError: It names what is not there.
        """
        found = self._object()
        if self._at != len(self._data):
            raise ValueError("there is more behind it")
        return found

    def _bytes(self, size: int) -> bytes:
        if not 0 <= size <= len(self._data) - self._at:
            raise ValueError("it is cut off")
        self._at += size
        return self._data[self._at - size : self._at]

    def _number(self, width: int = 4) -> int:
        return int.from_bytes(self._bytes(width), "little", signed=width > 1)

    def _object(self) -> object:
        head = self._bytes(1)[0]
        kind = chr(head & 0x7F)
        if kind == "r":
            found = self._named[self._number()]
            if found is None:
                raise ValueError("it holds itself")
            return found
        place = len(self._named)
        if head & 0x80:
            self._named.append(None)
        found = self._value(kind)
        if head & 0x80:
            self._named[place] = found
        return found

    def _value(self, kind: str) -> object:
        if kind in _SINGLE:
            return (kind,)
        if kind in _SIZED:
            name, size, width = _SIZED[kind]
            return (name, self._bytes(size if not width else self._number(width)))
        if kind in _MANY:
            name, width = _MANY[kind]
            items = [self._object() for _ in range(self._number(width))]
            # Sets are written in an order that hangs on chance, too.
            return (name, *(sorted(items, key=repr) if "set" in name else items))
        others: dict[str, Callable[[], object]] = {"l": self._long, "c": self._code, ":": self._slice}
        if kind not in others:
            raise ValueError("no code has such an object")
        return others[kind]()

    def _long(self) -> object:
        digits = self._number()
        return ("long", digits, self._bytes(2 * abs(digits)))

    def _slice(self) -> object:
        return ("slice", self._object(), self._object(), self._object())

    def _code(self) -> object:
        numbers = self._bytes(4 * _NUMBERS)
        without = _FILE_AND_LINES | _INSTRUCTIONS if self._loose else _FILE_AND_LINES
        parts: list[object] = [] if self._loose else [numbers]
        for number in range(_PARTS):
            if number == _PARTS - 2:
                self._number()  # the first line
            part = self._object()
            if number not in without:
                parts.append(part)
        return ("code", *parts)


_SINGLE = frozenset("NFTS.")
_SIZED = {
    "i": ("int", 4, 0),
    "g": ("float", 8, 0),
    "y": ("complex", 16, 0),
    "s": ("bytes", 0, 4),
    **dict.fromkeys("utaA", ("text", 0, 4)),
    **dict.fromkeys("zZ", ("text", 0, 1)),
}
"""Name, size, and width of the number that says the size otherwise."""
_MANY = {")": ("tuple", 1), "(": ("tuple", 4), "[": ("list", 4), "<": ("set", 4), ">": ("frozenset", 4)}
