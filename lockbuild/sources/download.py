"""One artifact: from the places that may have it into a file whose bytes are the locked ones.

Bytes go into `<sha256>.part`, which is locked against other processes, carried on by later runs, and
renamed to `<sha256>` only when sha256 and size are right.
"""

from __future__ import annotations

import fcntl
import hashlib
import os
import re
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

from packaging.utils import canonicalize_name

from lockbuild.derivation import Addresses, ChannelFile, FolderArchive, IndexFile, PoolFile
from lockbuild.errors import FetchError
from lockbuild.sources.http import Fault, is_file, redact
from lockbuild.sources.index import local_path
from lockbuild.sources.kinds import HEAD, fault_of_kind
from lockbuild.sources.places import Place, places

if TYPE_CHECKING:
    import threading
    from collections.abc import Callable, Iterable, Iterator
    from pathlib import Path

    from lockbuild.derivation import Fetch
    from lockbuild.sources.http import Answer, Client
    from lockbuild.sources.index import Pages
    from lockbuild.sources.places import Mirrors

__all__ = [
    "CHUNK",
    "RANGE_NOT_SATISFIABLE",
    "Downloader",
    "Stopped",
    "asked",
    "broken_off",
    "extent",
    "open_locked",
    "told",
]

CHUNK = 1024 * 1024
_GONE = frozenset({404, 410})
_DENIED = frozenset({401, 403, 407})
_PARTIAL = 206
RANGE_NOT_SATISFIABLE = 416
_LOCK_POLL_S = 0.1
_DIGITS = 18
"""As many as the length of a file can have; Python refuses to read thousands."""


class Stopped(Exception):
    """The run is being ended."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Downloader:
    """Gets artifacts one after the other; several threads may share one."""

    client: Client
    pages: Pages
    mirrors: Mirrors
    into: Path
    stop: threading.Event
    taken: Callable[[Fetch], bool]
    """Whether what it is asked for need not come any more."""

    def get(self, fetch: Fetch, *, advance: Callable[[int], None]) -> Path | None:
        """Return the file with exactly the bytes of *fetch*; none when it was taken meanwhile.

        Args:
            advance: Told the bytes that came, and negative ones when some must come again.

        Raises:
            FetchError: No place has it.
            OSError: The folder cannot be written to.
            Stopped: The run is being ended.
        """
        final = self.into / fetch.sha256
        with _open_part(self.into / f"{fetch.sha256}.part", advance=advance, stop=self.stop) as part:
            # The process that held the part before this one may have finished it, and its caller may
            # have taken the file already, or take it while it is hashed.
            if self.taken(fetch):
                return None
            with suppress(FileNotFoundError):
                # What another process finished, or an earlier run left, is hashed before it is used.
                part.copy_state_of(final)
                if part.matches(fetch):
                    part.remove()
                    return final
                part.forget()
                final.unlink()
            part.absorb()
            self._fill(part, fetch)
            # Not flushed to the disk here: after a power cut it would be hashed again, see above.
            part.path.rename(final)
        return final

    def _fill(self, part: _Part, fetch: Fetch) -> None:
        if part.matches(fetch):
            return
        tried: list[tuple[Place, Fault]] = []
        for place in places(fetch, self.mirrors):
            try:
                self._from(place, fetch, part)
            except Fault as fault:
                if self.stop.is_set():
                    raise Stopped from fault
                tried.append((place, fault))
            else:
                return
        raise _failure(fetch, tried, self.mirrors)

    def _from(self, place: Place, fetch: Fetch, part: _Part) -> None:
        address = place.address if place.kind == "file" else self._find(place.address, fetch)
        if is_file(address):
            _copy(address, fetch, part)
            return
        self.client.persist(
            address, lambda: self._transfer(address, fetch, part), reached=lambda: part.furthest
        )

    def _find(self, page: str, fetch: Fetch) -> str:
        """Return the file's own address as the index page says it."""
        named = [file for file in self.pages.files(page) if file.filename == fetch.filename]
        for file in named:
            if file.sha256 in (None, fetch.sha256):
                return file.url
        if named:
            raise Fault("the index now serves other bytes", details=_hashes(fetch, str(named[0].sha256)))
        raise Fault("the project's page does not list this file", status=404)

    def _transfer(self, address: str, fetch: Fetch, part: _Part) -> None:
        """Ask once for what is missing and add it; raise a Fault unless all is there and right."""
        begun_before = part.position
        if begun_before and fetch.size is not None and begun_before >= fetch.size:
            # As long as it should be, yet not it.
            part.restart()
            begun_before = 0
        headers = {"Range": f"bytes={begun_before}-"} if begun_before else {}
        try:
            with self.client.open(address, headers=headers) as answer:
                start, total = extent(answer)
                if fetch.size is not None and total is not None and total != fetch.size:
                    raise _wrong_size(
                        fetch, total, head=next(answer.chunks(HEAD), b"") if start == 0 else b""
                    )
                if start != begun_before:
                    part.restart()
                    begun_before = 0
                try:
                    self._pour(answer.chunks(CHUNK), fetch, part)
                except Fault as fault:
                    raise broken_off(fault, part.position, fetch.size or total) from fault
        except Fault as fault:
            if fault.status != RANGE_NOT_SATISFIABLE or not begun_before:
                raise
            part.restart()
            raise Fault("the server has fewer bytes than an earlier try gave", again=True) from fault
        if fetch.size is not None and part.position < fetch.size:
            ended = Fault("the server closed the connection before the end", again=True)
            raise broken_off(ended, part.position, fetch.size)
        if part.matches(fetch):
            return
        wrong = _wrong_bytes(fetch, part)
        part.restart()
        if begun_before:
            # The beginning may be another mirror's; this one is judged by its own bytes alone. No
            # `If-Range` is sent: the sha256 decides, and a part may be carried on at any mirror.
            raise Fault("what came did not fit to what an earlier try had left", again=True)
        raise wrong

    def _pour(self, chunks: Iterable[bytes], fetch: Fetch, part: _Part) -> None:
        for chunk in chunks:
            if self.stop.is_set():
                raise Stopped
            part.add(chunk)
            if fetch.size is not None and part.position > fetch.size:
                fault = _wrong_size(fetch, None, head=part.head())
                part.restart()
                raise fault


class _Part:
    """A half-written file, its position and the sha256 of what is in it."""

    def __init__(
        self, path: Path, fd: int, advance: Callable[[int], None], stop: threading.Event
    ) -> None:
        self.path = path
        self.position = 0
        self.furthest = 0  # the longest it ever was
        self._fd = fd
        self._advance = advance
        self._stop = stop
        self._digest = hashlib.sha256()

    @property
    def sha256(self) -> str:
        return self._digest.hexdigest()

    def matches(self, fetch: Fetch) -> bool:
        return fetch.size in (None, self.position) and self.sha256 == fetch.sha256

    def absorb(self) -> None:
        """Take in what an earlier run left."""
        self._hash(self._fd)

    def copy_state_of(self, file: Path) -> None:
        """Take in the bytes of another file without copying them."""
        with file.open("rb") as stream:
            self._hash(stream.fileno())

    def _hash(self, fd: int) -> None:
        buffer = memoryview(bytearray(CHUNK))
        while read := os.preadv(fd, [buffer], self.position):
            if self._stop.is_set():
                raise Stopped
            self._digest.update(buffer[:read])
            self._moved(read)

    def add(self, chunk: bytes) -> None:
        self._digest.update(chunk)
        view = memoryview(chunk)
        while view:
            written = os.pwrite(self._fd, view, self.position)
            self._moved(written)
            view = view[written:]

    def forget(self) -> None:
        """Begin at 0 again, leaving the file as it is."""
        self._advance(-self.position)
        self.position = 0
        self._digest = hashlib.sha256()

    def restart(self) -> None:
        """Throw everything away and begin at 0 again."""
        os.ftruncate(self._fd, 0)
        self.forget()

    def remove(self) -> None:
        self.path.unlink(missing_ok=True)

    def head(self) -> bytes:
        return os.pread(self._fd, HEAD, 0)

    def _moved(self, count: int) -> None:
        self.position += count
        self.furthest = max(self.furthest, self.position)
        self._advance(count)


@contextmanager
def _open_part(path: Path, *, advance: Callable[[int], None], stop: threading.Event) -> Iterator[_Part]:
    fd = open_locked(path, stop)
    try:
        yield _Part(path, fd, advance, stop)
    finally:
        if _is_at(path, fd) and os.fstat(fd).st_size == 0:
            path.unlink()
        # Closing gives the lock up, and so does the end of the process, however it ends.
        os.close(fd)


def open_locked(path: Path, stop: threading.Event) -> int:
    """Return a descriptor of the file at *path*, made if need be, once no other process holds it."""
    while not stop.is_set():
        fd = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW, 0o644)
        try:
            fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
            # Whoever held the lock may have renamed the file meanwhile: then this is the finished one.
            if _is_at(path, fd):
                return fd
        except BlockingIOError:
            stop.wait(_LOCK_POLL_S)
        except BaseException:
            os.close(fd)
            raise
        os.close(fd)
    raise Stopped


def _is_at(path: Path, fd: int) -> bool:
    try:
        return os.path.samestat(os.fstat(fd), path.stat())
    except FileNotFoundError:
        return False


def _copy(address: str, fetch: Fetch, part: _Part) -> None:
    try:
        stream = local_path(address).open("rb", buffering=0)
    except FileNotFoundError as error:
        raise Fault(f"there is no file {error.filename}", status=404) from error
    except OSError as error:
        raise Fault(f"{error.filename}: {error.strerror}") from error
    part.restart()
    with stream:
        while chunk := stream.read(CHUNK):
            part.add(chunk)
    if not part.matches(fetch):
        wrong = _wrong_bytes(fetch, part)
        part.restart()
        raise wrong


def extent(answer: Answer) -> tuple[int, int | None]:
    """Return where the body of *answer* begins in the file, and how long the whole file is."""
    if answer.status == _PARTIAL:
        found = re.fullmatch(
            rf"bytes (\d{{1,{_DIGITS}}})-\d+/(\d{{1,{_DIGITS}}}|\*)",
            answer.headers.get("Content-Range", "").strip(),
        )
        if found is None:
            raise Fault("a part of the file came without a usable `Content-Range`")
        return int(found[1]), None if found[2] == "*" else int(found[2])
    length = re.fullmatch(rf"\d{{1,{_DIGITS}}}", answer.headers.get("Content-Length", "").strip())
    return 0, int(length[0]) if length else None


def broken_off(fault: Fault, came: int, total: int | None) -> Fault:
    """Return *fault*, if it came in the middle of a file, with how far the file had come."""
    if not fault.again:
        return fault
    of = f" of {total}" if total is not None else ""
    return Fault(
        f"{fault}, after {came}{of} bytes",
        again=True,
        unreachable=fault.unreachable,
        no_answer=fault.no_answer,
    )


def _hashes(fetch: Fetch, found: str) -> tuple[str, ...]:
    return (f"expected sha256 {fetch.sha256}", f"found    sha256 {found}")


def _wrong_bytes(fetch: Fetch, part: _Part) -> Fault:
    if fetch.size not in (None, part.position):
        return _wrong_size(fetch, part.position, head=part.head())
    other = fault_of_kind(part.head(), None)
    return Fault(
        other or "wrong bytes", details=_hashes(fetch, part.sha256), other_file=other is not None
    )


def _wrong_size(fetch: Fetch, found: int | None, *, head: bytes) -> Fault:
    length = f"{found} bytes" if found is not None else f"more than {fetch.size} bytes"
    other = fault_of_kind(head, None)
    return Fault(
        other or "wrong size",
        details=(f"expected {fetch.size} bytes", f"found    {length}"),
        other_file=other is not None,
    )


def _failure(fetch: Fetch, tried: list[tuple[Place, Fault]], mirrors: Mirrors) -> FetchError:
    if not tried:
        return _nowhere(fetch)
    wrong = any(fault.details for _, fault in tried)
    message = "no place has the locked bytes" if wrong else "cannot be fetched"
    hint = _hint(fetch, tried, mirrors)
    return FetchError(
        f"`{fetch.filename}`: {message}",
        details=told((place.address, fault) for place, fault in tried),
        hint=hint,
        unreachable=any(fault.no_answer for _, fault in tried),
        tried=asked((place.address, fault) for place, fault in tried),
    )


def told(tried: Iterable[tuple[str, Fault]]) -> tuple[str, ...]:
    """Return a line for each address and its fault, with the fault's details below it."""
    lines: list[str] = []
    for address, fault in tried:
        lines.append(f"{redact(address)}: {fault}")
        lines.extend(f"  {detail}" for detail in fault.details)
    return tuple(lines)


def asked(tried: Iterable[tuple[str, Fault]]) -> tuple[tuple[str, str], ...]:
    """Return each address without secrets, and on one line what it gave."""
    return tuple((redact(url), "; ".join((str(fault), *fault.details))) for url, fault in tried)


def _nowhere(fetch: Fetch) -> FetchError:
    where = fetch.where
    if isinstance(where, FolderArchive):
        return FetchError(
            f"`{fetch.filename}` is made from the folder `{where.path}`, not fetched",
            hint="restore the folder to what was locked, or lock again with `lockbuild resolve`",
        )
    key = f"archives.{where.vendor}" if isinstance(where, PoolFile) else "indexes"
    if isinstance(where, IndexFile):
        key = f"indexes.{where.index}"
    return FetchError(
        f"`{fetch.filename}`: no address is known that could have it",
        hint=f"configure one (key `{key}`)",
        unreachable=True,
    )


def _hint(fetch: Fetch, tried: list[tuple[Place, Fault]], mirrors: Mirrors) -> str:
    where = fetch.where
    statuses = {fault.status for _, fault in tried}
    again = "lock again with `lockbuild resolve --upgrade`"
    if any(fault.details for _, fault in tried):
        return _hint_on_other_bytes(fetch, again, page=all(fault.other_file for _, fault in tried))
    if statuses & _DENIED:
        hosts = sorted({urlsplit(place.address).hostname or "" for place, _ in tried})
        return f"give credentials for {', '.join(hosts)} in the configured address or in ~/.netrc"
    if not statuses & _GONE and any(fault.no_answer for _, fault in tried):
        return (
            "look at the network and the proxy settings, then run the same again: what has come is kept"
        )
    if isinstance(where, PoolFile) and statuses & _GONE:
        # Archives drop a version as soon as its successor is in.
        if where.snapshot is None:
            return (
                f"configure a snapshot archive (key `snapshots.{where.vendor}`) and say its time stamp"
                f" as `snapshot` under `base`, or {again}"
            )
        if not dict(mirrors.snapshots).get(where.vendor):
            return f"configure a snapshot archive (key `snapshots.{where.vendor}`), or {again}"
    key = _keys(fetch)
    return (
        f"name {key}"
        if isinstance(where, Addresses)
        else f"configure a further mirror ({key}), or {again}"
    )


def _hint_on_other_bytes(fetch: Fetch, again: str, *, page: bool) -> str:
    why = "find out why the bytes differ before you"
    if not isinstance(fetch.where, Addresses):
        return f"ask another mirror ({_keys(fetch)}); {why} {again}"
    if page:
        return f"name {_keys(fetch)}, one that gives the file itself"
    return (
        f"name {_keys(fetch)}; {why} correct the sha256 there, or forget one that only the lock has"
        f" with `lockbuild resolve --repin {_pinned_name(fetch.filename)}`"
    )


def _pinned_name(filename: str) -> str:
    """Return what the stack calls a file: a wheel by its project, an asset as the file."""
    if not filename.endswith(".whl"):
        return filename
    return canonicalize_name(filename.partition("-")[0])


def _keys(fetch: Fetch) -> str:
    where = fetch.where
    if isinstance(where, IndexFile):
        return f"key `indexes.{where.index}`"
    if isinstance(where, ChannelFile):
        return f"key `channels.{where.channel}`"
    return (
        f"key `archives.{where.vendor}`" if isinstance(where, PoolFile) else "another `url` in the stack"
    )
