"""What one pickle would import, by following its opcodes: values are skipped, and names alone are kept.

What a pickle does before it turns out to be cut off or broken, it has done: so all that was found before the fault
counts, and nothing after it, as Python's unpickler stops there as well.
"""

from __future__ import annotations

import _compat_pickle
import codecs
import pickletools
import re
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Literal

from lockbuild.pickles.words import judged

if TYPE_CHECKING:
    from pickletools import OpcodeInfo
    from typing import BinaryIO

    from lockbuild.pickles.words import Verdict

__all__ = ["Reader", "TooMuch", "Trace", "is_opcode", "trace"]

_CHUNK = 1 << 20
_MOST_OPCODES = 50_000_000
_MOST_STACKED = 4_000_000
_MOST_NAMES = 1_000_000
_LONGEST_NAME = 400
_LONGEST_LINE = 1 << 16
_LONGEST_NUMBER = 40
_FIRST_MAPPED = 3
"""Protocols before it are Python 2's, whose names are those of former modules."""

_NAME = re.compile(r"[^\W\d]\w*(\.[^\W\d]\w*)*")
_STRINGS = frozenset(
    (
        *("STRING", "BINSTRING", "SHORT_BINSTRING"),
        *("UNICODE", "SHORT_BINUNICODE", "BINUNICODE", "BINUNICODE8"),
    )
)
_CALLS = frozenset(("REDUCE", "INST", "OBJ", "NEWOBJ", "NEWOBJ_EX"))
_MARK = object()
_BY_CODE = {ord(op.code): op for op in pickletools.opcodes}


def is_opcode(byte: int) -> bool:
    """Tell whether a pickle may begin with *byte*."""
    return byte in _BY_CODE


Ended = Literal["stopped", "cut", "broken"]


class TooMuch(Exception):
    """There is more than a scan will look through."""


class _Fault(Exception):
    """Python's unpickler would stop here."""

    def __init__(self, ended: Ended) -> None:
        super().__init__(ended)
        self.ended: Ended = ended


class Reader:
    """Reads a stream once, from front to back, and never more than a piece of it into memory."""

    def __init__(self, stream: BinaryIO, most: int) -> None:
        self._stream = stream
        self._buffer = b""
        self._at = 0
        self._left = most

    def _fill(self) -> bool:
        if self._left <= 0:
            raise TooMuch
        chunk = self._stream.read(min(_CHUNK, self._left))
        self._left -= len(chunk)
        self._buffer = self._buffer[self._at :] + chunk
        self._at = 0
        return bool(chunk)

    def peek(self, size: int) -> bytes:
        """Return the next bytes, fewer at the end, without going on."""
        while len(self._buffer) - self._at < size and self._fill():
            pass
        return self._buffer[self._at : self._at + size]

    def read(self, size: int) -> bytes:
        """Return the next *size* bytes, of which there must be so many."""
        found = self.peek(size)
        if len(found) < size:
            raise _Fault("cut")
        self._at += size
        return found

    def skip(self, size: int) -> None:
        """Go past the next *size* bytes."""
        while size > len(self._buffer) - self._at:
            size -= len(self._buffer) - self._at
            self._at = len(self._buffer)
            if not self._fill():
                raise _Fault("cut")
        self._at += size

    def line(self) -> bytes:
        """Return the bytes before the next line feed, and go past it; of a longer line its begin alone."""
        kept = b""
        while True:
            end = self._buffer.find(b"\n", self._at)
            piece = self._buffer[self._at : end if end >= 0 else len(self._buffer)]
            kept = (kept + piece)[:_LONGEST_LINE]
            self._at += len(piece)
            if end >= 0:
                self._at += 1
                return kept
            if not self._fill():
                raise _Fault("cut")


@dataclass(slots=True)
class Trace:
    """What one pickle would do."""

    names: dict[str, Verdict] = field(default_factory=dict)
    """What it imports, and what that is."""
    hidden: dict[str, None] = field(default_factory=dict)
    """What it imports whose name only running it would tell: why."""
    ended: Ended = "broken"
    calls: bool = False
    """Whether it calls anything, and has what it calls."""
    number: int = 0
    """The last large number in it: torch's files begin with one."""


@dataclass(slots=True)
class _Memo:
    """What was put aside under a number: names alone, with how many numbers are taken."""

    names: dict[int, str] = field(default_factory=dict)
    dense: int = 0
    """All numbers below it are taken."""
    sparse: set[int] = field(default_factory=set)

    def put(self, number: int, item: object) -> None:
        if number == self.dense:
            self.dense += 1
            while self.dense in self.sparse:
                self.sparse.remove(self.dense)
                self.dense += 1
        elif number > self.dense:
            self.sparse.add(number)
        if isinstance(item, str) and len(self.names) < _MOST_NAMES:
            self.names[number] = item
        else:
            self.names.pop(number, None)
        if len(self.sparse) > _MOST_NAMES:
            raise TooMuch

    @property
    def next(self) -> int:
        # As CPython's unpickler counts: Modules/_pickle.c, _Unpickler_MemoPut.
        return self.dense + len(self.sparse)


def trace(reader: Reader) -> Trace:
    """Return what the pickle that begins at *reader* would do, and leave the reader behind it.

    Raises:
        TooMuch: It has more opcodes, or a deeper stack, than any file of weights.
    """
    found = Trace()
    stack: list[object] = []
    memo = _Memo()
    protocol = 0
    try:
        for _ in range(_MOST_OPCODES):
            operation = _BY_CODE.get(reader.read(1)[0])
            if operation is None:
                raise _Fault("broken")
            lines, data = _argument(reader, operation)
            if operation.name == "PROTO":
                protocol = data[0]
            if operation.name == "STOP":
                found.ended = "stopped"
                return found
            if operation.name in ("LONG1", "LONG4"):
                found.number = int.from_bytes(data, "little", signed=True)
            elif operation.name in ("INT", "LONG"):
                found.number = _large(lines[0])
            found.calls = found.calls or _can_call(operation, stack)
            _import(found, operation, lines, stack, protocol)
            _move(operation, lines, data, stack, memo)
            if len(stack) > _MOST_STACKED:
                raise TooMuch
    except _Fault as fault:
        found.ended = fault.ended
        return found
    raise TooMuch


# ---- arguments ------------------------------------------------------------------------------------


def _argument(reader: Reader, operation: OpcodeInfo) -> tuple[list[bytes], bytes]:
    """Return the lines, or the bytes, of an operation's argument, where those can be a name or a number."""
    argument = operation.arg
    if argument is None:
        return [], b""
    if argument.n == pickletools.UP_TO_NEWLINE:
        return [reader.line() for _ in range(2 if operation.name in ("GLOBAL", "INST") else 1)], b""
    if argument.n >= 0:
        return [], reader.read(argument.n)
    width, signed = {
        pickletools.TAKEN_FROM_ARGUMENT1: (1, False),
        pickletools.TAKEN_FROM_ARGUMENT4: (4, True),
        pickletools.TAKEN_FROM_ARGUMENT4U: (4, False),
        pickletools.TAKEN_FROM_ARGUMENT8U: (8, False),
    }[argument.n]
    size = int.from_bytes(reader.read(width), "little", signed=signed)
    if size < 0:
        raise _Fault("broken")
    if size <= _LONGEST_NAME:
        return [], reader.read(size)
    reader.skip(size)
    return [], b""


def _text(operation: OpcodeInfo, lines: list[bytes], data: bytes) -> str | None:
    """Return the name that an operation pushes; none for a text that is no name."""
    try:
        if operation.name == "STRING":
            text = codecs.escape_decode(lines[0].strip()[1:-1])[0].decode()
        elif operation.name == "UNICODE":
            text = lines[0].decode("raw-unicode-escape")
        else:
            text = data.decode()
    except ValueError:
        return None
    return text if len(text) <= _LONGEST_NAME and _NAME.fullmatch(text) else None


# ---- imports --------------------------------------------------------------------------------------


def _import(
    found: Trace, operation: OpcodeInfo, lines: list[bytes], stack: list[object], protocol: int
) -> None:
    match operation.name:
        case "GLOBAL" | "INST":
            module, name = (line.decode(errors="replace") for line in lines)
            _imported(found, module, name, protocol)
        case "STACK_GLOBAL":
            module_, name_ = stack[-2:] if len(stack) > 1 else (None, None)
            if isinstance(module_, str) and isinstance(name_, str):
                _imported(found, module_, name_, protocol)
            else:
                found.hidden["a name that is put together when it is loaded"] = None
        case "EXT1" | "EXT2" | "EXT4":
            found.hidden["a number of copyreg's that stands for a name"] = None


def _imported(found: Trace, module: str, name: str, protocol: int) -> None:
    if protocol < _FIRST_MAPPED:
        if (module, name) in _compat_pickle.NAME_MAPPING:
            module, name = _compat_pickle.NAME_MAPPING[module, name]
        elif module in _compat_pickle.IMPORT_MAPPING:
            module = _compat_pickle.IMPORT_MAPPING[module]
    if len(found.names) < _MOST_NAMES:
        found.names[f"{module}.{name}"] = judged(module, name)


# ---- the stack ------------------------------------------------------------------------------------


def _move(
    operation: OpcodeInfo, lines: list[bytes], data: bytes, stack: list[object], memo: _Memo
) -> None:
    """Do to the stack what the operation does, with names in place of values."""
    match operation.name:
        case "PUT":
            memo.put(_number(lines), stack[-1] if stack else None)
        case "BINPUT" | "LONG_BINPUT":
            memo.put(int.from_bytes(data, "little"), stack[-1] if stack else None)
        case "MEMOIZE":
            memo.put(memo.next, stack[-1] if stack else None)
        case "GET":
            stack.append(memo.names.get(_number(lines)))
        case "BINGET" | "LONG_BINGET":
            stack.append(memo.names.get(int.from_bytes(data, "little")))
        case "DUP":
            stack.append(stack[-1] if stack else None)
        case "MARK":
            stack.append(_MARK)
        case name if name in _STRINGS:
            stack.append(_text(operation, lines, data))
        case _:
            _pop(operation, stack)
            stack.extend([None] * len(operation.stack_after))


def _pop(operation: OpcodeInfo, stack: list[object]) -> None:
    before = operation.stack_before
    count = len(before)
    if pickletools.markobject in before or (operation.name == "POP" and stack and stack[-1] is _MARK):
        while stack and stack.pop() is not _MARK:
            pass
        count = before.index(pickletools.markobject) if pickletools.markobject in before else 0
    if count:
        del stack[-count:]


def _can_call(operation: OpcodeInfo, stack: list[object]) -> bool:
    """Tell whether an operation calls something: a text that looks like one has nothing on the stack."""
    if operation.name not in _CALLS:
        return False
    return _MARK in stack if operation.name in ("INST", "OBJ") else len(stack) > 1


def _large(line: bytes) -> int:
    digits = line.strip().removesuffix(b"L")
    return int(digits) if len(digits) <= _LONGEST_NUMBER and digits.isdigit() else 0


def _number(lines: list[bytes]) -> int:
    try:
        return int(lines[0])
    except ValueError as error:
        raise _Fault("broken") from error
