"""Taking single files out of an archive of strangers' making.

Nothing in the archive decides where anything is written: names in it are only compared, and what is taken
out goes where the caller says. All that is not asked for is passed over and never written.
"""

from __future__ import annotations

import bz2
import difflib
import errno
import gzip
import lzma
import stat
import struct
import tarfile
import zipfile
import zlib
from contextlib import contextmanager
from typing import IO, TYPE_CHECKING

from lockbuild.errors import FetchError

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence
    from pathlib import Path

__all__ = ["take_members"]

_CHUNK = 1024 * 1024
_MOST_AT_ONCE = 64 * 1024 * 1024
"""Bytes that one header of a tar may want to be read at once."""

_LEAST = 1024 * 1024 * 1024
_RATIO = 50
"""How many times its size an archive may unpack to, beyond a first gigabyte: weights hardly shrink."""

_SHOWN = 10
_ENCRYPTED = 1


class _Refused(Exception):
    """The archive is not one to take anything from, for the reason given."""


def take_members(archive: Path, members: Sequence[tuple[str, str]], *, into: Path, name: str) -> None:
    """Write the *members* of a zip or a tar, compressed or not, below the empty folder *into*.

    Args:
        members: Name in the archive, as it is written there but for a leading `./`, and path below *into*.
        name: What the archive belongs to, for messages.

    Raises:
        FetchError: It is no such archive; a member is not there, is there twice, or is no plain file; or it
            unpacks to more than is likely. *into* may hold some of the files.
    """
    wanted = {_plain(member): into / target for member, target in members}
    try:
        found = _from_zip(archive, wanted) if _is_zip(archive) else _from_tar(archive, wanted)
    except _Refused as reason:
        raise FetchError(f"`{name}`: its archive is refused: {reason}", hint=_HINT) from reason
    except (NotImplementedError, RuntimeError) as error:
        raise FetchError(f"`{name}`: its archive cannot be read: {error}", hint=_HINT) from error
    except _DAMAGED as error:
        raise FetchError(f"`{name}`: its archive is damaged: {error}", hint=_HINT) from error
    except OSError as error:
        # The decompressors' own have no number, and none but a damaged archive leads before a file's beginning.
        if error.errno not in (None, errno.EINVAL):
            raise
        raise FetchError(f"`{name}`: its archive is damaged: {error}", hint=_HINT) from error
    absent = [member for member in wanted if member not in found]
    if absent:
        raise FetchError(
            f"`{name}`: its archive lacks what `members` names",
            details=tuple(_absence(member, found) for member in absent),
            hint="write the names as the archive has them",
        )


_DAMAGED = (
    *(tarfile.TarError, zipfile.BadZipFile, zlib.error, lzma.LZMAError, struct.error, EOFError),
    # Python's readers trust numbers and names in headers: what these do not fit to comes out as it is.
    *(ValueError, OverflowError, IndexError, MemoryError),
)
_HINT = "look at the archive by hand; another `url` may have a whole one"


def _plain(name: str) -> str:
    return name.removeprefix("./")


def _absence(member: str, names: Mapping[str, bool]) -> str:
    nearest = difflib.get_close_matches(member, names, n=1, cutoff=0.5)
    if nearest:
        return f"`{member}`: absent; did you mean `{nearest[0]}`?"
    shown = ", ".join(f"`{name}`" for name in sorted(names)[:_SHOWN])
    return (
        f"`{member}`: absent; the archive has {shown or 'no file'}{', …' if len(names) > _SHOWN else ''}"
    )


def _is_zip(archive: Path) -> bool:
    # A zip is found from its end, so a tar may end in one.
    with archive.open("rb") as stream:
        return stream.read(2) == b"PK" and zipfile.is_zipfile(archive)


def _limit(archive: Path) -> int:
    return _LEAST + _RATIO * archive.stat().st_size


def _write(source: IO[bytes], size: int, target: Path) -> None:
    """Write exactly *size* bytes of *source*, which is what its header promised."""
    target.parent.mkdir(parents=True, exist_ok=True)
    left = size
    with target.open("xb") as copy:
        while left and (chunk := source.read(min(_CHUNK, left))):
            copy.write(chunk)
            left -= len(chunk)
    if left:
        raise EOFError(f"it ends {left} bytes before it should")


def _once(name: str, wanted: Mapping[str, Path], found: dict[str, bool]) -> bool:
    """Remember *name* and tell whether it is wanted.

    Raises:
        _Refused: It is wanted and there for the second time: programs disagree on which one counts.
    """
    if name in wanted and name in found:
        raise _Refused(f"it has `{name}` twice")
    found[name] = True
    return name in wanted


# ---- zip -------------------------------------------------------------------------------------------


def _from_zip(archive: Path, wanted: Mapping[str, Path]) -> dict[str, bool]:
    found: dict[str, bool] = {}
    limit = _limit(archive)
    with zipfile.ZipFile(archive) as opened:
        for entry in opened.infolist():
            name = _plain(entry.filename)
            if entry.is_dir() or not _once(name, wanted, found):
                continue
            _check_entry(entry, name)
            limit -= entry.file_size
            if limit < 0:
                raise _Refused("it would unpack to far more than its size")
            with opened.open(entry) as source:
                _write(source, entry.file_size, wanted[name])
                # Reading on past the end compares the checksum.
                if source.read(1):
                    raise _Refused(f"`{name}` is longer than the archive says")
    return found


def _check_entry(entry: zipfile.ZipInfo, name: str) -> None:
    kind = stat.S_IFMT(entry.external_attr >> 16)
    if kind not in (0, stat.S_IFREG):
        raise _Refused(f"`{name}` is {'a symbolic link' if kind == stat.S_IFLNK else 'no plain file'}")
    if entry.flag_bits & _ENCRYPTED:
        raise _Refused(f"`{name}` is encrypted")


# ---- tar -------------------------------------------------------------------------------------------


class _Bounded:
    """A stream that gives so many bytes and no more, and no huge piece at once.

    `tarfile` believes what headers say of their length: it would read any of it into memory, and unpack any
    amount to come to the next one.
    """

    def __init__(self, stream: IO[bytes], limit: int) -> None:
        self._stream = stream
        self._limit = limit

    def read(self, size: int = -1) -> bytes:
        if not 0 <= size <= _MOST_AT_ONCE:
            raise _Refused("a header of it is far too long")
        self._check(self._stream.tell() + size)
        return self._stream.read(size)

    def seek(self, position: int) -> int:
        self._check(position)
        return self._stream.seek(position)

    def tell(self) -> int:
        return self._stream.tell()

    def _check(self, position: int) -> None:
        # A last read may ask for more than there is.
        if position > self._limit + _MOST_AT_ONCE:
            raise _Refused("it would unpack to far more than its size")


@contextmanager
def _decompressed(archive: Path) -> Iterator[IO[bytes]]:
    with archive.open("rb") as raw:
        head = raw.read(6)
        raw.seek(0)
        stream: IO[bytes] = raw
        if head.startswith(b"\x1f\x8b"):
            stream = gzip.GzipFile(fileobj=raw)  # type: ignore[assignment] # it reads as any file does
        elif head.startswith(b"BZh"):
            stream = bz2.BZ2File(raw)
        elif head.startswith(b"\xfd7zXZ\x00"):
            stream = lzma.LZMAFile(raw)  # noqa: SIM115 - closing *raw* is what counts
        yield stream


def _from_tar(archive: Path, wanted: Mapping[str, Path]) -> dict[str, bool]:
    found: dict[str, bool] = {}
    with _decompressed(archive) as stream:
        bounded = _Bounded(stream, _limit(archive))
        with tarfile.open(fileobj=bounded, mode="r:", errorlevel=2) as opened:  # type: ignore[call-overload] # no whole file
            for entry in opened:
                name = _plain(entry.name)
                if entry.isdir() or not _once(name, wanted, found):
                    continue
                if not entry.isreg() or entry.issparse():
                    raise _Refused(
                        f"`{name}` is {'a link' if entry.issym() or entry.islnk() else 'no plain file'}"
                    )
                source = opened.extractfile(entry)
                if source is None:
                    raise _Refused(f"`{name}` is no plain file")
                _write(source, entry.size, wanted[name])
    return found
