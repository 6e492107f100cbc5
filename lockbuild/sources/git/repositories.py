"""Repositories where they can be read: on this machine as they are, else as much of them as is needed.

A remote repository is kept bare in a cache folder, one for each address: shallow, and without the
blobs that nobody wanted, where the server can. Nothing but git writes into it, under a lock that also
git itself holds, and a broken one is made anew.
"""

from __future__ import annotations

import fcntl
import hashlib
import os
import re
import shutil
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, TypeVar

from lockbuild.errors import FetchError
from lockbuild.sources.git.commands import Git, said, unreachable
from lockbuild.sources.git.modules import check_url, is_local
from lockbuild.sources.git.objects import Absent, Damaged, Entry, Objects
from lockbuild.sources.http import redact

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping
    from pathlib import Path

    from lockbuild.process import Completed

__all__ = ["Repository", "use"]

_Result = TypeVar("_Result")

_NO_BLOBS = "--filter=blob:none"
# The second time everything: pull requests, merge requests, changes, and what else a server has.
_WIDER = (
    ("+refs/heads/*:refs/lockbuild/heads/*", "+refs/tags/*:refs/lockbuild/tags/*"),
    ("+refs/*:refs/lockbuild/all/*",),
)
_NOT_THERE = re.compile(r"not our ref ([0-9a-f]{40})")
_SHOWN = 20


@dataclass(frozen=True, slots=True, kw_only=True)
class Repository:
    """One repository, while it may be used."""

    git: Git
    url: str
    address: str
    """What the user's configuration makes of the URL."""
    objects: Path
    cached: Path | None
    """Its folder in the cache; none for a repository of this machine, which is only read."""
    lock: int | None = None

    def tree(self, commit: str) -> tuple[Entry, ...]:
        """Return every path of *commit*, which is fetched if need be.

        Raises:
            FetchError: The server cannot be reached, or has no such commit.
        """
        try:
            return self._tree(commit)
        except Absent as absent:
            if self.cached is None:
                raise self._no_commit(commit, str(absent)) from None
        self._fetch_commit(self.cached, commit)
        try:
            return self._tree(commit)
        except Absent as absent:
            # A commit without its trees is what is left of a fetch that went wrong.
            raise Damaged(f"{absent} did not come with {commit}") from None

    def need(self, commit: str, blobs: Mapping[str, str]) -> None:
        """Have the *blobs* of *commit* ready to be read, fetching at once all that are not.

        Args:
            blobs: Blob id -> a path where it stands, for messages.

        Raises:
            FetchError: Some cannot be had.
        """
        absent = self._absent(blobs)
        if absent and self.cached is not None:
            absent = self._fetch_blobs(self.cached, commit, blobs, absent)
        if absent:
            lines = tuple(f"`{blobs[one]}`: blob {one}" for one in sorted(absent, key=blobs.__getitem__))
            more = () if len(lines) <= _SHOWN else (f"… and {len(lines) - _SHOWN} more",)
            raise FetchError(
                f"git repository `{redact(self.url)}` lacks {len(lines)} of the files of commit {commit}",
                details=(*lines[:_SHOWN], *more),
                hint="leave them out with `exclude`, or name a mirror that is complete: "
                "git config --global url.<mirror>.insteadOf <address>",
            )

    def _fetch_blobs(
        self, folder: Path, commit: str, blobs: Mapping[str, str], absent: frozenset[str]
    ) -> frozenset[str]:
        """Fetch the *absent* ones of *blobs*, and return those that the server does not have."""
        refused: set[str] = set()
        while absent - refused:
            # The way git itself asks for the missing blobs of a partial clone, but all of them in one.
            ended = self._fetch(folder, _NO_BLOBS, "--stdin", wants=absent - refused)
            answer = _NOT_THERE.search(ended.stderr)
            # A server names one blob at a time, and gives none of the others along with it.
            if answer is None or answer[1] in refused or len(refused) == _SHOWN:
                break
            refused.add(answer[1])
        absent = self._absent(blobs)
        if absent and not refused:
            self._reachable()
            self._begin_again(folder, commit)
            absent = self._absent(blobs)
        return absent

    def _absent(self, blobs: Mapping[str, str]) -> frozenset[str]:
        with Objects(self.git, self.objects) as objects:
            return objects.absent(blobs)

    def _tree(self, commit: str) -> tuple[Entry, ...]:
        with Objects(self.git, self.objects) as objects:
            return objects.tree(commit)

    # ---- fetching --------------------------------------------------------------------------------

    def _fetch_commit(self, folder: Path, commit: str) -> None:
        whole = _whole(folder)
        filters = () if whole else (_NO_BLOBS,)
        first = ended = self._fetch(folder, "--depth=1", *filters, wants=(commit,))
        if ended.returncode == 0 and self._has(commit):
            return
        # Whoever has the commit at all gives it under protocol 2; others say that they do not give it.
        gone = _NOT_THERE.search(ended.stderr)
        for references in () if gone else _WIDER:
            self._reachable()
            shallow = folder / "shallow"
            deepen = ("--unshallow",) if shallow.exists() and shallow.stat().st_size else ()
            ended = self._fetch(folder, *deepen, *filters, wants=references)
            if ended.returncode == 0 and self._has(commit):
                return
        if gone or ended.returncode == 0:
            raise self._no_commit(commit, commit)
        raise Damaged("\n".join((*said(first), *said(ended))))

    def _begin_again(self, folder: Path, commit: str) -> None:
        """Fetch with all blobs, from a server that can leave them out but gives none by itself."""
        _remove(folder)
        _prepare(self.git, folder, self.url)
        _marker(folder).touch()
        self._fetch_commit(folder, commit)

    def _fetch(self, folder: Path, *options: str, wants: tuple[str, ...] | frozenset[str]) -> Completed:
        by_stdin = "--stdin" in options
        words = () if by_stdin else tuple(wants)
        settings = ("-c", "fetch.negotiationAlgorithm=noop") if by_stdin else ()
        return self.git.fetching(
            *settings,
            "fetch",
            "--no-tags",
            "--no-write-fetch-head",
            "--recurse-submodules=no",
            "--no-auto-maintenance",
            *options,
            "origin",
            *words,
            repository=folder,
            stdin="".join(f"{one}\n" for one in sorted(wants)) if by_stdin else "",
            held=self.lock,
        )

    def _has(self, commit: str) -> bool:
        with Objects(self.git, self.objects) as objects:
            return not objects.absent([commit])

    def _reachable(self) -> None:
        ended = self.git.fetching("ls-remote", "--quiet", self.url, "HEAD", held=self.lock)
        if ended.returncode != 0:
            raise unreachable(self.url, self.address, ended)

    def _no_commit(self, commit: str, absent: str) -> FetchError:
        what = "commit" if absent == commit else f"object {absent} of commit"
        return FetchError(
            f"git repository `{redact(self.url)}` has no {what} {commit}",
            details=() if self.address == self.url else (f"asked: {redact(self.address)}",),
            hint="it may have been force-pushed away, or never pushed: name a fork or mirror that has it "
            "(git config --global url.<mirror>.insteadOf <address>), or pin another commit",
        )


def use(url: str, cache: Path, work: Callable[[Repository], _Result]) -> _Result:
    """Call *work* with the repository at *url*, twice if its copy in the cache turns out to be broken.

    Raises:
        FetchError: There is no such repository, or its objects are damaged where they come from.
        ToolMissing: There is no usable git.
    """
    cache.mkdir(parents=True, exist_ok=True)
    git = Git.found(cache)
    check_url(url, local=True)
    address = git.address(url)
    local = git.repository_at(address)
    if local is not None:
        objects = git.objects_of(local)
        try:
            return work(Repository(git=git, url=url, address=address, objects=objects, cached=None))
        except Damaged as damage:
            raise _damaged(url, address, damage) from damage
    check_url(address, local=is_local(address))
    name = hashlib.sha256(url.encode()).hexdigest()[:32]
    folder = cache.absolute() / f"{name}.git"
    with _locked(cache / f"{name}.lock") as lock:
        repository = Repository(
            git=git, url=url, address=address, objects=folder / "objects", cached=folder, lock=lock
        )
        fresh = _prepare(git, folder, url)
        try:
            return work(repository)
        except Damaged as damage:
            if fresh:
                raise _damaged(url, address, damage) from damage
        _remove(folder)
        _prepare(git, folder, url)
        try:
            return work(repository)
        except Damaged as damage:
            raise _damaged(url, address, damage) from damage


def _damaged(url: str, address: str, damage: Damaged) -> FetchError:
    where = () if url == address else (f"asked: {redact(address)}",)
    return FetchError(
        f"what git repository `{redact(url)}` gives cannot be used",
        details=(*where, *(redact(line) for line in str(damage).splitlines())),
        hint="look at the repository with `git fsck`, or name a mirror that is whole",
    )


# ---- the cache -----------------------------------------------------------------------------------------


@contextmanager
def _locked(file: Path) -> Iterator[int]:
    descriptor = os.open(file, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o644)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX)
        yield descriptor
    finally:
        os.close(descriptor)


def _prepare(git: Git, folder: Path, url: str) -> bool:
    """Have the repository of *url* in *folder*, and tell whether it is a new one."""
    if folder.exists():
        known = git.fetching("config", "--local", "--get", "remote.origin.url", repository=folder)
        if known.returncode == 0 and known.stdout.rstrip("\n") == url:
            # Whoever wrote these is dead, and so is its git: the lock is ours.
            for left in (*folder.glob("*.lock"), *folder.glob("refs/**/*.lock")):
                left.unlink(missing_ok=True)
            for left in (*folder.glob("objects/pack/tmp_*"), *folder.glob("objects/pack/.tmp-*")):
                left.unlink(missing_ok=True)
            return False
        _remove(folder)
    fresh = folder.with_suffix(".new")
    _remove(fresh)
    for arguments in (
        ("init", "--quiet", "--bare", "--template=", "--object-format=sha1", str(fresh)),
        ("config", "remote.origin.url", url),
    ):
        ended = git.fetching(*arguments, repository=fresh)
        if ended.returncode != 0:
            raise FetchError(f"`{folder.parent}` takes no git repository", details=said(ended))
    fresh.replace(folder)
    return True


def _marker(folder: Path) -> Path:
    return folder / "lockbuild-whole"


def _whole(folder: Path) -> bool:
    return _marker(folder).exists()


def _remove(folder: Path) -> None:
    if folder.exists():
        shutil.rmtree(folder)
