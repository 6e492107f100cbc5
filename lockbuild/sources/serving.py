"""Whether what is locked is still to be had: asked of those that serve it, and nothing is fetched."""

from __future__ import annotations

import threading
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from functools import partial
from typing import TYPE_CHECKING, Literal

from lockbuild.baseimage import parse_reference
from lockbuild.derivation import Addresses, ArchiveMembers, GitTree, IndexFile, RegistryImage
from lockbuild.errors import LockbuildError
from lockbuild.sources.git.repositories import use
from lockbuild.sources.http import Client, Fault, is_file, redact
from lockbuild.sources.index import Pages, local_path
from lockbuild.sources.places import places
from lockbuild.sources.registry import describe

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping
    from pathlib import Path

    from lockbuild.derivation import Fetch
    from lockbuild.digest import StorePath
    from lockbuild.progress import Phase
    from lockbuild.sources.places import Mirrors

__all__ = ["Served", "State", "served"]

State = Literal["served", "yanked", "other", "gone", "unknown"]
"""As locked; withdrawn, though it may still be had; there with other bytes; not there; nobody told."""

_ATTEMPTS = 2
_GONE = (404, 410)
_ONCE = (405, 501)
"""What a server says that does not know HEAD."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Served:
    """What those that serve a fetch say of it."""

    state: State
    said: str = ""
    """Why it is not as locked; of what was withdrawn the reason, which may be empty."""


def served(
    fetches: Iterable[Fetch], *, mirrors: Mirrors, work: Path, phase: Phase, connections: int = 8
) -> Mapping[StorePath, Served]:
    """Return what can be learnt of each of *fetches*; what only this machine has is left out.

    Args:
        work: An empty folder for what is read of repositories: their commits and trees, and no file.
        phase: Told each one that was asked for.
    """
    stop = threading.Event()
    named = (*mirrors.indexes, *mirrors.archives, *mirrors.snapshots, *mirrors.channels)
    client = Client(
        limits=replace(mirrors.limits, attempts=_ATTEMPTS),
        connections=connections,
        stop=stop,
        addresses=[address for _, addresses in named for address in addresses],
    )
    pages = Pages(client)

    def ask(fetch: Fetch) -> tuple[StorePath, Served | None]:
        try:
            return fetch.path, _ask(fetch, client, pages, mirrors, work)
        finally:
            phase.advance(1)

    pool = ThreadPoolExecutor(max_workers=connections, thread_name_prefix="serving")
    try:
        answers = dict(pool.map(ask, fetches))
    finally:
        stop.set()
        pool.shutdown(wait=False, cancel_futures=True)
        client.close()
    return {path: answer for path, answer in answers.items() if answer}


def _ask(fetch: Fetch, client: Client, pages: Pages, mirrors: Mirrors, work: Path) -> Served | None:
    where = fetch.where
    if isinstance(where, IndexFile):
        return _first(fetch, mirrors, partial(_listed, fetch, pages))
    if isinstance(where, GitTree):
        return _repository(where, work)
    if isinstance(where, RegistryImage):
        return _registry(fetch, where, mirrors)
    if isinstance(where, Addresses | ArchiveMembers):
        size = where.archive_size if isinstance(where, ArchiveMembers) else fetch.size
        return _best([_asked(partial(_there, client, size), url) for url in where.urls])
    return _first(fetch, mirrors, partial(_there, client, fetch.size))


def _first(fetch: Fetch, mirrors: Mirrors, look: partial[Served]) -> Served | None:
    found = [_asked(look, place.address) for place in places(fetch, mirrors)]
    return _best(found) if found else None


def _asked(look: partial[Served], address: str) -> Served:
    """Return what *look* sees at an address, or why it sees nothing."""
    try:
        return look(address)
    except Fault as fault:
        state: State = "gone" if fault.status in _GONE else "unknown"
        return Served(state=state, said=f"{redact(address)}: {fault}")


def _best(answers: list[Served]) -> Served:
    """Return the best of what several places say: any of them will do."""
    order: tuple[State, ...] = ("served", "yanked", "unknown", "other", "gone")
    best = min(answers, key=lambda answer: order.index(answer.state))
    if best.state in ("served", "yanked"):
        return best
    return replace(best, said="; ".join(dict.fromkeys(answer.said for answer in answers)))


# ---- who is asked ---------------------------------------------------------------------------------


def _listed(fetch: Fetch, pages: Pages, page: str) -> Served:
    files = [file for file in pages.files(page) if file.filename == fetch.filename]
    if not files:
        return Served(state="gone", said=f"{redact(page)} lists it no more")
    told = {file.sha256 for file in files} - {None}
    if told and fetch.sha256 not in told:
        others = ", ".join(sorted(str(sha256) for sha256 in told))
        return Served(state="other", said=f"{redact(page)} lists it with sha256 {others}")
    yanked = files[0].yanked
    return Served(state="served") if yanked is None else Served(state="yanked", said=yanked)


def _there(client: Client, size: int | None, url: str) -> Served:
    length: int | None
    if is_file(url):
        path = local_path(url)
        if not path.is_file():
            return Served(state="gone", said=f"there is no file {path}")
        length, kind = path.stat().st_size, ""
    else:
        length, kind = client.persist(url, partial(_head, client, url))
    if size is not None and length is not None and length != size:
        return Served(state="other", said=f"{redact(url)} has {length} bytes, {size} are locked")
    if kind == "text/html" and length is None:
        return Served(state="other", said=f"{redact(url)} gives a page")
    return Served(state="served")


def _head(client: Client, url: str) -> tuple[int | None, str]:
    """Return length and media type of the file at *url*."""
    try:
        with client.open(url, method="HEAD") as answer:
            length = answer.headers.get("Content-Length", "")
            kind = answer.headers.get("Content-Type", "")
    except Fault as fault:
        if fault.status not in _ONCE:
            raise
        with client.open(url, headers={"Range": "bytes=0-0"}) as answer:
            length = answer.headers.get("Content-Range", "").rpartition("/")[2]
            kind = answer.headers.get("Content-Type", "")
    return int(length) if length.isdecimal() else None, kind.partition(";")[0].strip().lower()


def _repository(tree: GitTree, work: Path) -> Served:
    try:
        use(tree.url, work, lambda repository: repository.tree(tree.commit))
    except LockbuildError as error:
        return Served(state="unknown" if error.unreachable else "gone", said=error.message)
    return Served(state="served")


def _registry(fetch: Fetch, where: RegistryImage, mirrors: Mirrors) -> Served:
    reference = parse_reference(f"{where.reference}@sha256:{fetch.sha256}")
    try:
        describe(reference, architecture=where.architecture, mirrors=mirrors)
    except LockbuildError as error:
        return Served(state="unknown" if error.unreachable else "gone", said=error.message)
    return Served(state="served")
