"""The pickles in a file: bare ones, torch's files of every age, NumPy's, joblib's, archives, and compressed ones."""

from __future__ import annotations

import ast
import bz2
import gzip
import io
import lzma
import re
import struct
import tarfile
import zipfile
import zlib
from dataclasses import dataclass
from itertools import takewhile
from typing import TYPE_CHECKING, Literal, cast

from lockbuild.pickles.opcodes import Reader, TooMuch, Trace, is_opcode, trace

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from typing import BinaryIO

__all__ = ["BROKEN", "MAY_HOLD", "Suspect", "suspects", "unreadable"]

MAY_HOLD = frozenset(
    (
        *(".bin", ".ckpt", ".joblib", ".model", ".npy", ".npz", ".p", ".pickle", ".pkl", ".pt", ".pt2"),
        *(".pth", ".pyt", ".sav", ".tar", ".th"),
    )
)
"""Ends of the names of files that people load with pickle; what is in them is told by their bytes."""

_BARE = frozenset((".joblib", ".p", ".pickle", ".pkl", ".pt", ".pth", ".sav", ".th"))
"""Of these, those that nothing but a pickle has: what begins like one of protocol 0 or 1, with any letter, may be one."""

_MOST = 16 << 30
"""Bytes that are looked through, unpacked: nobody's weights have more."""

BROKEN = (
    *(zipfile.BadZipFile, tarfile.TarError, lzma.LZMAError, zlib.error, struct.error),
    *(EOFError, LookupError, OSError, OverflowError, RuntimeError, ValueError),
)
"""What unpacking raises at bytes that no honest tool wrote: a `NotImplementedError` is a `RuntimeError`."""

_DEPTH = 3
_MOST_MEMBERS = 100_000
_MOST_MEMORY = 16 << 20
_TORCH_MAGIC = 0x1950A86A20F9469CFC6C
_TORCH_PICKLES = 5
"""Pickles of a file of `torch.save` before 1.6: magic number, version, machine, object, keys; bytes follow."""

_JOBLIB = "joblib.numpy_pickle.NumpyArrayWrapper"
"""Stands before the bytes of an array, which joblib reads in the middle of its pickle."""

_CALLABLE = re.compile(r"\w[\w-]*(\.[^\W\d][\w-]*)+")
_FIRST, _LAST = 2, 5
"""Protocols whose pickles say which they are."""
_LEADING = 8
"""Pickles of plain values that are read before one that imports something, in a file of another name."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Suspect:
    """One pickle that may do more than give data."""

    member: str
    """Name of the file, and of what is in it, joined by `!`."""
    kind: Literal["grave", "code", "unread"]
    what: tuple[str, ...]
    """What it imports, sorted; why it could not be read to its end."""


def suspects(stream: BinaryIO, name: str) -> Iterator[Suspect]:
    """Yield what is suspicious about the pickles in *stream*, which can seek.

    Args:
        name: Of the file: its end tells what people do with it.
    """
    yield from _file(stream, name, 0)


def _file(stream: BinaryIO, name: str, depth: int) -> Iterator[Suspect]:
    head = stream.read(512)
    stream.seek(0)
    if depth > _DEPTH:
        yield _unread(name, "it is packed into itself again and again")
        return
    if head.startswith(b"PK\x03\x04"):
        yield from _zip(stream, name, depth)
        return
    if head.startswith(b"\x93NUMPY"):
        yield from _npy(stream, name)
        return
    # One file can be several things: what loads it decides, so all of them count.
    if _is_tar(head) or name.endswith(".tar"):
        yield from _tar(stream, name, depth)
        stream.seek(0)
    if opened := next((how for magic, how in _PACKED if head.startswith(magic)), None):
        yield from _packed(stream, name, opened, depth)
        stream.seek(0)
    if head.startswith((b"\x28\xb5\x2f\xfd", b"\x04\x22\x4d\x18")) and _end(name) in _BARE:
        yield _unread(name, "it is packed with zstd or lz4, which is not looked into")
    if head and is_opcode(head[0]):
        yield from _pickles(Reader(stream, _MOST), name, sure=_says_so(head))


def _end(name: str) -> str:
    return f".{name.lower().rpartition('.')[2]}"


def _says_so(head: bytes) -> bool:
    return len(head) > 1 and head[0] == 0x80 and _FIRST <= head[1] <= _LAST  # noqa: PLR2004 - opcode PROTO


def _is_tar(head: bytes) -> bool:
    """Tell whether Python opens it as a tar archive: the oldest have no magic number, but a sum of their header."""
    try:
        tarfile.TarInfo.frombuf(head, "utf-8", "surrogateescape")
    except tarfile.TarError:
        return head[257:262] == b"ustar"
    return True


def _unread(name: str, why: str) -> Suspect:
    return Suspect(member=name, kind="unread", what=(why,))


def unreadable(name: str, error: Exception) -> Suspect:
    """Return what is to be said of the member *name* of an archive that raised *error*, one of `BROKEN`."""
    return _unread(name, f"it cannot be unpacked: {str(error) or 'it is cut off'}")


# ---- pickles --------------------------------------------------------------------------------------


def _pickles(reader: Reader, name: str, *, sure: bool) -> Iterator[Suspect]:
    """Yield what is suspicious about one pickle behind another.

    Args:
        sure: Whether the first is one: else it may be a text that happens to begin like one.
    """
    number, most = 0, 0
    try:
        while reader.peek(1):
            found = trace(reader)
            if not sure and not _believed(found, bare=_end(name) in _BARE, number=number):
                return
            yield from _judged(found, name)
            if _JOBLIB in found.names and found.ended != "stopped":
                yield _unread(
                    name, "joblib's arrays stand in the middle of it: nothing behind the first is seen"
                )
            elif sure and number == 0 and found.ended == "cut":
                yield _unread(name, "it is cut off")
            if found.ended != "stopped":
                return
            if number == 0 and found.number == _TORCH_MAGIC:
                most = _TORCH_PICKLES
            number += 1
            if number == most:
                return
            sure = bool(most) or _says_so(reader.peek(2))
    except TooMuch:
        yield _unread(name, "it has more than any file of weights")


def _believed(found: Trace, *, bare: bool, number: int) -> bool:
    """Tell whether bytes that need not be a pickle are one.

    Args:
        bare: Whether only pickles have such a name: else it may be a text, or a tensor, that begins like one.
        number: Of pickles before it.
    """
    # What is no name nobody can import: there it breaks, and what was called before has been run.
    names = tuple(takewhile(_CALLABLE.fullmatch, found.names))
    whole = len(names) == len(found.names)
    stopped = whole and found.ended == "stopped"
    if stopped and (names or bare):
        return True
    if found.calls and ("grave" in map(found.names.get, names) or (bare and whole)):
        return True
    return stopped and not found.hidden and number < _LEADING


def _judged(found: Trace, name: str) -> Iterator[Suspect]:
    grave = sorted(one for one, verdict in found.names.items() if verdict == "grave")
    code = sorted(one for one, verdict in found.names.items() if verdict == "code")
    if grave or found.hidden:
        yield Suspect(member=name, kind="grave", what=(*grave, *found.hidden))
    elif code:
        yield Suspect(member=name, kind="code", what=tuple(code))


# ---- archives and arrays --------------------------------------------------------------------------


def _zip(stream: BinaryIO, name: str, depth: int) -> Iterator[Suspect]:
    try:
        archive = zipfile.ZipFile(stream)
        infos = archive.infolist()
    except BROKEN as error:
        yield _unread(name, f"it begins as a zip archive and is none: {error}")
        return
    names = {info.filename.rpartition("/")[2] for info in infos}
    # torch reads no other member as a pickle: the rest are bytes of tensors, which may begin like anything.
    torch = "data.pkl" in names
    script = "constants.pkl" in names
    for info in infos[:_MOST_MEMBERS]:
        if info.is_dir() or _end(info.filename) not in ((".pkl",) if torch else MAY_HOLD):
            continue
        member = f"{name}!{info.filename}"
        try:
            with archive.open(info) as opened:
                for suspect in _file(cast("BinaryIO", opened), member, depth + 1):
                    if kept := (_without_types(suspect) if script else suspect):
                        yield kept
        except BROKEN as error:
            yield unreadable(member, error)
    if len(infos) > _MOST_MEMBERS:
        yield _unread(name, f"it has {len(infos)} members")


def _without_types(suspect: Suspect) -> Suspect | None:
    """Leave out TorchScript's own types, which no Python module has: its loader knows them."""
    what = tuple(one for one in suspect.what if not one.startswith("__torch__."))
    return Suspect(member=suspect.member, kind=suspect.kind, what=what) if what else None


def _tar(stream: BinaryIO, name: str, depth: int) -> Iterator[Suspect]:
    """Look into an archive; torch's oldest files are some, whose members are called so."""
    try:
        with tarfile.open(fileobj=stream, mode="r:") as archive:
            for number, info in enumerate(archive):
                if number >= _MOST_MEMBERS:
                    yield _unread(name, f"it has more than {_MOST_MEMBERS} members")
                    return
                opened = archive.extractfile(info) if info.isreg() else None
                if opened and info.name in ("pickle", "storages", "tensors"):
                    yield from _pickles(
                        Reader(cast("BinaryIO", opened), _MOST), f"{name}!{info.name}", sure=True
                    )
                elif opened and _end(info.name) in MAY_HOLD:
                    yield from _file(cast("BinaryIO", opened), f"{name}!{info.name}", depth + 1)
    except BROKEN as error:
        yield _unread(name, f"it begins as a tar archive and is none: {error}")


def _npy(stream: BinaryIO, name: str) -> Iterator[Suspect]:
    """Look into an array of objects: https://numpy.org/doc/stable/reference/generated/numpy.lib.format.html."""
    reader = Reader(stream, _MOST)
    try:
        version = reader.peek(7)[6]
        wide = version > 1
        start = reader.peek(12 if wide else 10)
        size = struct.unpack("<I" if wide else "<H", start[8:])[0]
        header = reader.peek(len(start) + min(size, _MOST_MEMORY))[len(start) :]
        text = header.decode("utf-8" if version > 2 else "latin-1")  # noqa: PLR2004
        # Python 2 wrote its long integers so.
        described = ast.literal_eval(re.sub(r"(?<=\d)L\b", "", text))["descr"]
        objects = _has_objects(described)
    except (
        IndexError,
        KeyError,
        MemoryError,
        RecursionError,
        SyntaxError,
        TypeError,
        ValueError,
        struct.error,
    ):
        yield _unread(name, "it begins as an array of NumPy's and is none")
        return
    if objects and len(header) < size:
        yield _unread(name, "it is cut off")
    elif objects:
        reader.skip(len(start) + size)
        yield from _pickles(reader, name, sure=True)


def _has_objects(described: object) -> bool:
    """Tell whether a type of NumPy's has objects: `|O`, in a field of a record as well."""
    if isinstance(described, str):
        return described.endswith("O")
    if isinstance(described, tuple) and len(described) > 1 and not isinstance(described[0], list):
        # A field: name, type, shape. A type with a shape has its type in front.
        return any(_has_objects(part) for part in described[:2] if not isinstance(part, int))
    return isinstance(described, list | tuple) and any(_has_objects(one) for one in described)


# ---- packed ---------------------------------------------------------------------------------------


def _packed(
    stream: BinaryIO, name: str, how: Callable[[BinaryIO], BinaryIO], depth: int
) -> Iterator[Suspect]:
    try:
        yield from _file(how(stream), name, depth + 1)
    except BROKEN as error:
        yield unreadable(name, error)


class _Inflated(io.RawIOBase):
    """What a stream of zlib holds, as joblib writes it."""

    def __init__(self, stream: BinaryIO) -> None:
        super().__init__()
        self._stream = stream
        self._inflate = zlib.decompressobj()
        self._at = 0

    def seekable(self) -> bool:
        """Tell that it can go back to its begin."""
        return True

    def seek(self, offset: int, whence: int = 0) -> int:
        """Go back to the begin, and nowhere else."""
        if (offset, whence) == (0, io.SEEK_SET):
            self._stream.seek(0)
            self._inflate, self._at = zlib.decompressobj(), 0
        elif (offset, whence) != (0, io.SEEK_CUR):
            raise io.UnsupportedOperation("what zlib packed is read from front to back")
        return self._at

    def readable(self) -> bool:
        """Tell that it can be read."""
        return True

    def readinto(self, buffer: bytearray) -> int:  # type: ignore[override]
        """Read some bytes, none at the end."""
        data = b""
        while not data and not self._inflate.eof:
            packed = self._inflate.unconsumed_tail or self._stream.read(1 << 16)
            if not packed:
                raise EOFError("it is cut off")
            data = self._inflate.decompress(packed, len(buffer))
        buffer[: len(data)] = data
        self._at += len(data)
        return len(data)


_PACKED: tuple[tuple[bytes, Callable[[BinaryIO], BinaryIO]], ...] = (
    (b"\x1f\x8b", lambda stream: cast("BinaryIO", gzip.GzipFile(fileobj=stream, mode="rb"))),
    (b"BZh", lambda stream: cast("BinaryIO", bz2.BZ2File(stream))),
    (b"\xfd7zXZ\x00", lambda stream: cast("BinaryIO", lzma.LZMAFile(stream))),  # noqa: SIM115 - the stream is another's
    *(
        (begin, lambda stream: cast("BinaryIO", io.BufferedReader(_Inflated(stream))))
        for begin in (b"\x78\x01", b"\x78\x5e", b"\x78\x9c", b"\x78\xda")
    ),
)
"""What a packed file begins with, and how it is read."""
