"""Bringing fetches into the store: files from the network, trees of repositories, what lies beside a stack."""

from __future__ import annotations

import shutil
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

from lockbuild.assets import put_members, refuse_other_kind
from lockbuild.derivation import (
    Addresses,
    ArchiveMembers,
    BesideFile,
    ChannelFile,
    Fetch,
    FolderArchive,
    GitTree,
    HostInterpreter,
    IndexFile,
    PoolFile,
    RegistryImage,
)
from lockbuild.errors import FULL_DISK, FetchError, LockError
from lockbuild.folders import archive_folder
from lockbuild.progress import Silent
from lockbuild.store import trees

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping, Sequence

    from lockbuild.progress import Phase, Progress
    from lockbuild.sources import Mirrors
    from lockbuild.store import Store

__all__ = ["Failure", "bring", "bring_again", "failed", "git_cache"]

_AGAIN = "packages"
"""Folder below the downloads for what archives give again: others' bytes are never found there."""

_FLUSHING = 4
_NAMED = 3
_TREES = 4
"""Trees taken side by side: git uses several cores for each."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Failure:
    """A fetch that could not be had, and why."""

    fetch: Fetch
    error: FetchError


def bring(  # noqa: PLR0913 - each says where another kind comes from
    fetches: Sequence[Fetch],
    *,
    stack_folder: Path,
    store: Store,
    mirrors: Callable[[frozenset[str]], Mirrors],
    progress: Progress,
    connections: int,
) -> list[Failure]:
    """Put what *fetches* name into the store, and return why some could not be had.

    Args:
        stack_folder: What `BesideFile` and `FolderArchive` are relative to.
        mirrors: Gives the mirrors of the indexes and archives that are named.
        connections: Downloads side by side.

    Raises:
        FetchError: The store's folder is full. Never for one artifact's fault.
        LockError: What lies beside the stack file is not what was locked.
    """
    for fetch in fetches:
        if isinstance(fetch.where, (BesideFile, FolderArchive)):
            _take(fetch, fetch.where, stack_folder, store)
    kinds = (Addresses, ChannelFile, IndexFile, PoolFile)
    files = [fetch for fetch in fetches if isinstance(fetch.where, kinds)]
    parts = [fetch for fetch in fetches if isinstance(fetch.where, ArchiveMembers)]
    own = [fetch for fetch in fetches if isinstance(fetch.where, HostInterpreter)]
    images = [fetch for fetch in fetches if isinstance(fetch.where, RegistryImage)]
    trees_ = [fetch for fetch in fetches if isinstance(fetch.where, GitTree)]
    return [
        *_download(files, store, mirrors, progress, connections),
        *_take_apart(parts, store, mirrors, progress, connections),
        *_check_out(trees_, store, progress),
        *_pull(images, store, mirrors, progress),
        *(failure for fetch in own if (failure := _pack(fetch, store))),
    ]


def bring_again(
    packages: Sequence[Fetch],
    *,
    store: Store,
    mirrors: Callable[[frozenset[str]], Mirrors],
    progress: Progress,
    connections: int,
) -> list[Failure]:
    """Download Debian *packages* whether or not the store has them, and return why some could not be had.

    A store knows file name and hash, and not who gave the bytes. After this, their archives have given these.

    Raises:
        FetchError: The store's folder is full.
    """
    return _download(packages, store, mirrors, progress, connections, again=True)


def failed(failures: Sequence[Failure], *, wanted: int) -> FetchError:
    """Return one fault for all *failures*, with a table of artifact, host and reason.

    Args:
        wanted: How many fetches were asked for.
    """
    count = "1 artifact" if len(failures) == 1 else f"{len(failures)} artifacts"
    rows = [("artifact", "host", "reason")]
    for failure in sorted(failures, key=lambda failure: failure.fetch.filename):
        name = _artifact(failure.fetch)
        for host, reason in _reasons(failure):
            rows.append((name, host, reason))
            name = ""
    widths = [max(len(row[column]) for row in rows) for column in (0, 1)]
    hints: dict[str, list[str]] = {}
    # What somebody gave and was wrong is graver than what nobody gave.
    for failure in sorted(failures, key=lambda failure: failure.error.unreachable):
        if failure.error.hint:
            hints.setdefault(failure.error.hint, []).append(failure.fetch.filename)
    return FetchError(
        f"{count} of {wanted} could not be fetched; all else is in the store",
        details=tuple(f"{a:<{widths[0]}}  {b:<{widths[1]}}  {c}" for a, b, c in rows),
        hint=_said(hints) or None,
        unreachable=all(failure.error.unreachable for failure in failures),
    )


def _artifact(fetch: Fetch) -> str:
    """Return what people call what is fetched."""
    return fetch.where.reference if isinstance(fetch.where, RegistryImage) else fetch.filename


def _said(hints: Mapping[str, Sequence[str]]) -> str:
    """Return a line for each hint, which says for what it is meant unless there is only one."""
    if len(hints) == 1:
        return next(iter(hints))
    shown = {
        hint: ", ".join((*names[:_NAMED], *["…"] * (len(names) > _NAMED)))
        for hint, names in hints.items()
    }
    return "\n".join(f"{names}: {hint}" for hint, names in shown.items())


def _reasons(failure: Failure) -> list[tuple[str, str]]:
    """Return host and reason for each address that was tried."""
    error, where = failure.error, failure.fetch.where
    if error.tried:
        return [(_host(address), reason) for address, reason in error.tried]
    urls = where.urls[:1] if isinstance(where, (Addresses, ArchiveMembers)) else ()
    if isinstance(where, (GitTree, IndexFile)) and where.url:
        urls = (where.url,)
    reason = "; ".join((error.message, *(line.strip() for line in error.details)))
    if isinstance(where, HostInterpreter):
        return [("this machine", reason)]
    return [(_host(urls[0]) if urls else "-", reason)]


def _host(address: str) -> str:
    """Return the host of an address, also of git's `user@host:path`."""
    if "://" not in address and not address.startswith("/"):
        return address.partition(":")[0].rpartition("@")[2]
    return urlsplit(address).netloc.rpartition("@")[2] or "this machine"


def git_cache(store: Store) -> Path:
    """Return the folder for repositories that trees are taken from."""
    return store.root / "git"


def _download(  # noqa: PLR0913 - as `bring`
    fetches: Sequence[Fetch],
    store: Store,
    mirrors: Callable[[frozenset[str]], Mirrors],
    progress: Progress,
    connections: int,
    *,
    again: bool = False,
) -> list[Failure]:
    if not fetches:
        return []
    from lockbuild import sources  # noqa: PLC0415 - when nothing is missing, nothing that reaches out is loaded

    failures = []
    shared = Counter(fetch.sha256 for fetch in fetches)
    # Objects are flushed to the disk while the next ones arrive.
    with ThreadPoolExecutor(max_workers=_FLUSHING) as pool:
        adding = []
        for fetched in sources.fetch(
            fetches,
            into=store.downloads / _AGAIN if again else store.downloads,
            mirrors=mirrors(_places(fetches)),
            progress=progress,
            connections=connections,
            taken=lambda fetch: not again and bool(store.valid([fetch.path])),
        ):
            if fetched.error:
                failures.append(Failure(fetch=fetched.fetch, error=fetched.error))
            if fetched.file is None:
                continue
            shared[fetched.fetch.sha256] -= 1
            try:
                _refuse_other_kind(fetched.fetch, fetched.file, store)
            except FetchError as error:
                failures.append(Failure(fetch=fetched.fetch, error=error))
                if not shared[fetched.fetch.sha256]:
                    fetched.file.unlink(missing_ok=True)
                continue
            if shared[fetched.fetch.sha256]:
                _add(fetched.fetch, fetched.file, store, last=False)
            else:
                adding.append(pool.submit(_add, fetched.fetch, fetched.file, store, last=True))
        for added in adding:
            added.result()
    return failures


def _refuse_other_kind(fetch: Fetch, file: Path, store: Store) -> None:
    if not isinstance(fetch.where, Addresses):
        return
    try:
        refuse_other_kind(fetch, fetch.where.type, file)
    except FileNotFoundError:
        # Another run has taken it since ours compared its bytes.
        if not store.valid([fetch.path]):
            raise _gone(fetch) from None
        refuse_other_kind(fetch, fetch.where.type, store.locate(fetch.path))


def _gone(fetch: Fetch) -> FetchError:
    return FetchError(
        f"`{fetch.filename}`: another run has taken what came, and not put it into the store",
        hint="run the same again",
    )


def _take_apart(
    fetches: Sequence[Fetch],
    store: Store,
    mirrors: Callable[[frozenset[str]], Mirrors],
    progress: Progress,
    connections: int,
) -> list[Failure]:
    """Download archives, put what is wanted of each into the store, and throw the rest away."""
    if not fetches:
        return []
    from lockbuild import sources  # noqa: PLC0415 - see `_download`

    wanted: dict[str, list[tuple[Fetch, ArchiveMembers]]] = {}
    for fetch in fetches:
        if isinstance(fetch.where, ArchiveMembers):
            wanted.setdefault(fetch.where.archive, []).append((fetch, fetch.where))
    failures = []
    for fetched in sources.fetch(
        [_archive(*parts[0]) for parts in wanted.values()],
        into=store.downloads,
        mirrors=mirrors(frozenset()),
        progress=progress,
        connections=connections,
        taken=lambda archive: all(store.valid([part.path]) for part, _ in wanted[archive.sha256]),
    ):
        if fetched.error:
            failures += [
                Failure(fetch=part, error=fetched.error) for part, _ in wanted[fetched.fetch.sha256]
            ]
        if fetched.file is None:
            continue
        for fetch, where in wanted[fetched.fetch.sha256]:
            try:
                refuse_other_kind(fetch, where.type, fetched.file)
                put_members(fetch, where, fetched.file, store)
            except FetchError as error:
                failures.append(Failure(fetch=fetch, error=error))
            except FileNotFoundError:
                if not store.valid([fetch.path]):
                    failures.append(Failure(fetch=fetch, error=_gone(fetch)))
        fetched.file.unlink(missing_ok=True)
    return failures


def _archive(fetch: Fetch, where: ArchiveMembers) -> Fetch:
    return Fetch(
        filename=fetch.filename,
        sha256=where.archive,
        size=where.archive_size,
        where=Addresses(urls=where.urls, type=where.type),
    )


def _places(fetches: Iterable[Fetch]) -> frozenset[str]:
    """Return the names of the indexes and archives whose addresses only the machine knows."""
    places = (fetch.where for fetch in fetches)
    return frozenset(
        where.vendor if isinstance(where, PoolFile) else where.index
        for where in places
        if isinstance(where, PoolFile) or (isinstance(where, IndexFile) and where.url is None)
    )


def _add(fetch: Fetch, file: Path, store: Store, *, last: bool) -> None:
    """Put a downloaded file into the store; the same bytes may be wanted under another name too."""
    with store.lock(fetch.path):
        if store.info(fetch.path):
            # Another run has put it there since ours began to download it.
            if last:
                file.unlink(missing_ok=True)
            return
        if not file.exists():
            raise _gone(fetch)
        if last:
            store.add_file(fetch.path, file, sha256=fetch.sha256, trusted_hash=True)
            return
        with store.scratch("copy") as scratch:
            copy = Path(shutil.copyfile(file, scratch / fetch.sha256))
            store.add_file(fetch.path, copy, sha256=fetch.sha256)


def _take(fetch: Fetch, where: BesideFile | FolderArchive, stack_folder: Path, store: Store) -> None:
    """Put what lies beside the stack file into the store: a file, or the archive of a folder."""
    with store.scratch("take") as scratch:
        copy, place = scratch / fetch.filename, stack_folder / where.path
        try:
            if isinstance(where, FolderArchive):
                archive_folder(place, copy)
            else:
                shutil.copyfile(place, copy)
        except OSError as error:
            if error.errno in FULL_DISK:
                raise
            raise LockError(
                f"`{where.path}` cannot be read: {error.strerror or error}", details=(str(place),)
            ) from error
        sha256 = trees.hash_file(copy)
        if sha256 != fetch.sha256:
            raise LockError(
                f"`{where.path}` is not what was locked",
                details=(f"locked sha256 {fetch.sha256}", f"found  sha256 {sha256}"),
                hint="`lockbuild resolve` locks what is there now",
            )
        store.add_file(fetch.path, copy, sha256=sha256, trusted_hash=True)


def _check_out(fetches: Sequence[Fetch], store: Store, progress: Progress) -> list[Failure]:
    if not fetches:
        return []

    def one(fetch: Fetch) -> Failure | None:
        try:
            with store.lock(fetch.path):
                if store.info(fetch.path) is None:
                    _check_out_one(fetch, store)
        except FetchError as error:
            phase.line(error.message)
            return Failure(fetch=fetch, error=error)
        else:
            phase.line(fetch.filename)
            return None
        finally:
            phase.advance(1)

    pool = ThreadPoolExecutor(max_workers=_TREES, thread_name_prefix="trees")
    try:
        with progress.phase("fetching sources", total=len(fetches), unit="trees") as phase:
            return [failure for failure in pool.map(one, fetches) if failure]
    finally:
        # An interrupt does not wait for git, which ends with this process.
        pool.shutdown(wait=False, cancel_futures=True)


def _check_out_one(fetch: Fetch, store: Store) -> None:
    from lockbuild.sources import git  # noqa: PLC0415 - see `_download`

    if not isinstance(fetch.where, GitTree):
        raise TypeError(fetch)
    with store.scratch("tree") as scratch:
        tree = scratch / "tree"
        git.checkout(fetch.where, into=tree, cache=git_cache(store), phase=Silent())
        sha256 = trees.listing_sha256(trees.listing(tree))
        if sha256 != fetch.sha256:
            raise FetchError(
                f"`{fetch.filename}`: the tree is not the locked one",
                details=(f"locked sha256 {fetch.sha256}", f"found  sha256 {sha256}"),
                hint="`lockbuild resolve` locks it anew, once it is clear why it differs",
            )
        store.add_folder(fetch.path, tree)


def _pull(
    fetches: Sequence[Fetch],
    store: Store,
    mirrors: Callable[[frozenset[str]], Mirrors],
    progress: Progress,
) -> list[Failure]:
    """Pull base images, each as an OCI layout, one after the other: what two of them share comes once."""
    failures: list[Failure] = []
    if not fetches:
        return failures
    places = mirrors(frozenset())
    total = sum(fetch.size or 0 for fetch in fetches)
    with progress.phase("fetching base images", total=total, unit="bytes") as phase:
        for fetch in fetches:
            try:
                with store.lock(fetch.path):
                    if store.info(fetch.path) is None:
                        _pull_one(fetch, store, places, phase)
                phase.line(_artifact(fetch))
            except FetchError as error:
                failures.append(Failure(fetch=fetch, error=error))
    return failures


def _pull_one(fetch: Fetch, store: Store, mirrors: Mirrors, phase: Phase) -> None:
    from lockbuild.sources import registry  # noqa: PLC0415 - see `_download`

    where = fetch.where
    if not isinstance(where, RegistryImage):
        raise TypeError(fetch)
    with store.scratch("image") as scratch:
        layout = scratch / "layout"
        layout.mkdir()
        registry.pull(
            fetch,
            reference=where.reference,
            architecture=where.architecture,
            into=layout,
            # Not the scratch folder, which an interrupted run loses.
            work=store.downloads / fetch.filename,
            mirrors=mirrors,
            known=(store.locate(path) for path in store.paths() if path.name.startswith("image-")),
            phase=phase,
        )
        store.add_folder(fetch.path, layout)


def _pack(fetch: Fetch, store: Store) -> Failure | None:
    """Make the archive of this machine's Python again, if it is the one that was locked."""
    from lockbuild import hostpython  # noqa: PLC0415 - few stacks have such a one

    if not isinstance(fetch.where, HostInterpreter):
        raise TypeError(fetch)
    try:
        with store.scratch("python") as scratch, store.lock(fetch.path):
            if store.info(fetch.path) is None:
                copy = scratch / fetch.filename
                python = hostpython.ask_python(fetch.where.command)
                packed = hostpython.pack_python(python, copy)
                if (python.filename, packed.sha256) != (fetch.filename, fetch.sha256):
                    raise FetchError(
                        f"`{fetch.where.command}` is not the interpreter that was locked",
                        details=(
                            f"locked {fetch.filename} sha256 {fetch.sha256}",
                            f"found  {python.filename} sha256 {packed.sha256}",
                        ),
                        hint="another machine's Python is another interpreter: `lockbuild resolve` takes this one",
                    )
                store.add_file(fetch.path, copy, sha256=fetch.sha256, trusted_hash=True)
    except FetchError as error:
        return Failure(fetch=fetch, error=error)
    return None
