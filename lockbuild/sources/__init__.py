"""Artifacts from the network: fetched by hash, so that where they come from does not matter.

Archives are not unpacked here, and a name that an index gives is never used as a path.
"""

from __future__ import annotations

import queue
import shutil
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING

from lockbuild.errors import FULL_DISK, FetchError, LockbuildError, StoreError
from lockbuild.sources.download import Downloader, Stopped
from lockbuild.sources.first import First, Unpinned, first
from lockbuild.sources.http import Client, Fault, Limits, is_file
from lockbuild.sources.index import Pages, ProjectFile, local_path
from lockbuild.sources.kinds import HEAD, fault_of_kind
from lockbuild.sources.listings import Listed, listed
from lockbuild.sources.places import Mirrors
from lockbuild.sources.projects import project_files, sdist

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence
    from pathlib import Path

    from lockbuild.derivation import Fetch
    from lockbuild.progress import Phase, Progress

__all__ = [
    "HEAD",
    "Fetched",
    "First",
    "Limits",
    "Listed",
    "Mirrors",
    "ProjectFile",
    "Unpinned",
    "fault_of_kind",
    "fetch",
    "first",
    "listed",
    "project_files",
    "sdist",
    "sizes",
]

_GOODBYE_S = 1.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Fetched:
    """What became of one fetch: a value, not an exception, so that the others can go on."""

    fetch: Fetch
    file: Path | None = None
    """The file with the locked bytes; none where `error` says why, or where somebody else has taken it."""
    error: FetchError | None = None


def fetch(  # noqa: PLR0913 - as keywords
    fetches: Sequence[Fetch],
    *,
    into: Path,
    mirrors: Mirrors,
    progress: Progress,
    connections: int = 8,
    limits: Limits | None = None,
    taken: Callable[[Fetch], bool] = lambda _: False,
) -> Iterator[Fetched]:
    """Download *fetches*, several at a time, and yield each as it ends.

    Interrupted at any moment, the next call goes on from the parts in *into*. Several processes may
    share the folder; each artifact is downloaded by one of them, and the others take what it left.

    Args:
        into: Folder for `<sha256>` and, while it is not whole, `<sha256>.part`; the caller moves the
            files on, and copies the one that two fetches share.
        connections: Downloads side by side.
        limits: Those of *mirrors* unless said.
        taken: Asked before each download whether another process has already moved the file on.

    Raises:
        StoreError: The folder's disk is full.
        FetchError: The folder cannot be written to. Never for one artifact's fault.
    """
    if not fetches:
        return
    into.mkdir(parents=True, exist_ok=True)
    # Two names for the same bytes are one download.
    groups: dict[str, list[Fetch]] = {}
    # The biggest first: begun last, it would be waited for alone. An unknown size may be the biggest.
    for wanted in sorted(fetches, key=lambda f: (f.size is not None, -(f.size or 0), f.filename)):
        groups.setdefault(wanted.sha256, []).append(wanted)
    heads = [group[0] for group in groups.values()]
    _check_space(heads, into)
    total = sum(f.size or 0 for f in heads) or None
    stop = threading.Event()
    client = _client(mirrors, limits, connections, stop)
    downloader = Downloader(
        client=client,
        pages=Pages(client),
        mirrors=mirrors,
        into=into,
        stop=stop,
        taken=lambda head: all(taken(wanted) for wanted in groups[head.sha256]),
    )
    with progress.phase("fetching", total=total, unit="bytes") as phase:
        for ended in _Run(heads, downloader, phase, connections).results():
            for wanted in groups[ended.fetch.sha256]:
                yield Fetched(fetch=wanted, file=ended.file, error=ended.error)


def _client(mirrors: Mirrors, limits: Limits | None, connections: int, stop: threading.Event) -> Client:
    named = (*mirrors.indexes, *mirrors.archives, *mirrors.snapshots, *mirrors.channels)
    configured = [address for _, addresses in named for address in addresses]
    return Client(
        limits=limits or mirrors.limits, connections=connections, stop=stop, addresses=configured
    )


class _Run:
    """The threads of one call of `fetch`."""

    def __init__(
        self, fetches: Sequence[Fetch], downloader: Downloader, phase: Phase, connections: int
    ) -> None:
        self._fetches = fetches
        self._downloader = downloader
        self._phase = phase
        self._count_unknown = all(f.size is None for f in fetches)
        self._waiting: queue.SimpleQueue[Fetch] = queue.SimpleQueue()
        self._ended: queue.SimpleQueue[Fetched | BaseException] = queue.SimpleQueue()
        # Daemons: a thread that waits for a silent server must not hold up Ctrl-C.
        self._threads = [
            threading.Thread(target=self._work, name=f"fetch-{number}", daemon=True)
            for number in range(min(connections, len(fetches)))
        ]

    def results(self) -> Iterator[Fetched]:
        """Yield each fetch as it ends; stop everything when the caller goes away."""
        for wanted in self._fetches:
            self._waiting.put(wanted)
        try:
            for thread in self._threads:
                thread.start()
            for _ in self._fetches:
                ended = self._ended.get()
                if isinstance(ended, OSError):
                    raise self._disk(ended) from ended
                if isinstance(ended, BaseException):
                    raise ended
                yield ended
        finally:
            self._downloader.stop.set()
            deadline = time.monotonic() + _GOODBYE_S
            for thread in self._threads:
                thread.join(max(0.0, deadline - time.monotonic()))
            self._downloader.client.close()

    def _work(self) -> None:
        while not self._downloader.stop.is_set():
            try:
                wanted = self._waiting.get_nowait()
            except queue.Empty:
                return
            try:
                self._ended.put(self._one(wanted))
            except Stopped:
                return
            except BaseException as error:  # noqa: BLE001 - raised again in the caller's thread
                self._ended.put(error)
                return

    def _one(self, wanted: Fetch) -> Fetched:
        counted = wanted.size is not None or self._count_unknown
        advance = self._phase.advance if counted else _ignore
        try:
            file = self._downloader.get(wanted, advance=advance)
        except FetchError as error:
            self._phase.line(error.message)
            return Fetched(fetch=wanted, error=error)
        if file is None:
            advance(wanted.size or 0)
            return Fetched(fetch=wanted)
        size = wanted.size
        if size is None:
            # Another run may have taken the file already.
            with suppress(FileNotFoundError):
                size = file.stat().st_size
        self._phase.line(wanted.filename if size is None else f"{wanted.filename} ({_human(size)})")
        return Fetched(fetch=wanted, file=file)

    def _disk(self, error: OSError) -> LockbuildError:
        into = self._downloader.into
        if error.errno in FULL_DISK:
            return _full(into, _needed(self._fetches, into))
        return FetchError(
            f"`{into}` cannot be written to: {error.strerror or error}",
            hint="look at its owner and mode, or choose another store",
        )


def _ignore(_amount: int) -> None:
    """Take no notice: bytes of unknown number are in no total."""


def _needed(fetches: Sequence[Fetch], into: Path) -> int:
    """Return how many bytes are still to come, as far as sizes are known."""
    needed = 0
    for wanted in fetches:
        for file in (into / wanted.sha256, into / f"{wanted.sha256}.part"):
            try:
                needed -= min(file.stat().st_size, wanted.size or 0)
            except FileNotFoundError:
                continue
        needed += wanted.size or 0
    return max(needed, 0)


def _check_space(fetches: Sequence[Fetch], into: Path) -> None:
    needed = _needed(fetches, into)
    if needed > shutil.disk_usage(into).free:
        raise _full(into, needed)


def _full(into: Path, needed: int) -> StoreError:
    free = shutil.disk_usage(into).free
    return StoreError(
        f"not enough space in `{into}`",
        details=(f"needed {needed} bytes ({_human(needed)})", f"free   {free} bytes ({_human(free)})"),
        hint="make room or choose a store on another disk, then run it again: what has come is kept",
    )


def _human(size: int) -> str:
    amount = float(size)
    for unit in ("B", "kB", "MB"):
        if amount < 1000:  # noqa: PLR2004
            return f"{amount:.0f} {unit}" if unit == "B" else f"{amount:.1f} {unit}"
        amount /= 1000
    return f"{amount:.2f} GB"


def sizes(
    urls: Sequence[str],
    *,
    mirrors: Mirrors = Mirrors(),  # noqa: B008 - frozen
    connections: int = 8,
    limits: Limits | None = None,
) -> dict[str, int]:
    """Return address -> bytes of each file, asked for side by side; what nobody tells is left out.

    Args:
        mirrors: Whose credentials are used.
    """
    stop = threading.Event()
    client = _client(mirrors, limits, connections, stop)
    wanted = tuple(dict.fromkeys(urls))
    pool = ThreadPoolExecutor(max_workers=connections, thread_name_prefix="sizes")
    try:
        found = dict(zip(wanted, pool.map(lambda url: _size(client, url), wanted), strict=True))
    finally:
        stop.set()
        pool.shutdown(wait=False, cancel_futures=True)
        client.close()
    return {url: size for url, size in found.items() if size is not None}


def _size(client: Client, url: str) -> int | None:
    if is_file(url):
        path = local_path(url)
        return path.stat().st_size if path.is_file() else None
    # Servers without HEAD are asked for one byte, whose `Content-Range` tells the whole length.
    questions: tuple[tuple[str, dict[str, str]], ...] = (("HEAD", {}), ("GET", {"Range": "bytes=0-0"}))
    for method, headers in questions:
        try:
            size = client.persist(url, partial(_length, client, url, method, headers))
        except Fault:
            continue
        if size is not None:
            return size
    return None


def _length(client: Client, url: str, method: str, headers: dict[str, str]) -> int | None:
    with client.open(url, method=method, headers=headers) as answer:
        ranged = answer.headers.get("Content-Range", "").rpartition("/")[2]
        length = ranged if answer.status == 206 else answer.headers.get("Content-Length", "")  # noqa: PLR2004
        return int(length) if length.isdecimal() else None
