"""What a branch, a tag or an abbreviated commit stands for now."""

from __future__ import annotations

import difflib
import re
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING

from lockbuild.errors import ResolveError
from lockbuild.sources.git.commands import Git, said, unreachable
from lockbuild.sources.git.modules import check_url
from lockbuild.sources.http import redact

if TYPE_CHECKING:
    from lockbuild.process import Completed

__all__ = ["resolve_ref"]

_NEAR = 5


def resolve_ref(url: str, ref: str, *, work: Path) -> str:
    """Return the full commit that *ref* stands for now.

    Args:
        ref: A branch, a tag, a full reference (`refs/pull/7/head`), or a commit, abbreviated or not.
            A full commit is not asked for.
        work: Folder for repositories; an abbreviated commit may need the history.

    Raises:
        ResolveError: There is none, or it could mean several; near names are told.
        FetchError: The repository cannot be reached.
    """
    if re.fullmatch(r"[0-9a-fA-F]{40}", ref):
        return ref.lower()
    check_url(url, local=True)
    work.mkdir(parents=True, exist_ok=True)
    git = Git.found(work)
    address = git.address(url)
    local = git.repository_at(address)
    references = _references(git, url, address, local)
    meant = _named(references, ref)
    if not meant and re.fullmatch(r"[0-9a-fA-F]{4,39}", ref):
        short = ref.lower()
        meant = {one: one for one in _abbreviated(git, url, local, short, work)}
    commits = sorted(set(meant.values()))
    if len(commits) == 1:
        return commits[0]
    if not commits:
        raise ResolveError(
            f"git repository `{redact(url)}` has no branch, tag or commit `{ref}`",
            hint=_near(references, ref),
        )
    raise ResolveError(
        f"`{ref}` means several commits in git repository `{redact(url)}`",
        details=tuple(f"{name}: {commit}" for name, commit in sorted(meant.items())),
        hint="give the full name or the full commit",
    )


def _references(git: Git, url: str, address: str, local: Path | None) -> dict[str, str]:
    """Return every reference with its commit; a tag's is the one it was put on."""
    if local is None:
        ended = git.fetching("ls-remote", "--quiet", url)
        if ended.returncode != 0:
            raise unreachable(url, address, ended)
    else:
        # Not through a server: git's refuses repositories of other users.
        ended = git.fetching("show-ref", "--head", "--dereference", repository=local)
    return _parsed(ended)


def _parsed(ended: Completed) -> dict[str, str]:
    found: dict[str, str] = {}
    for line in ended.stdout.splitlines():
        commit, _, name = line.replace("\t", " ").partition(" ")
        found[name] = commit
    return {
        name: found.get(f"{name}^{{}}", commit) for name, commit in found.items() if name[-3:] != "^{}"
    }


def _named(references: dict[str, str], ref: str) -> dict[str, str]:
    if ref in references:
        return {ref: references[ref]}
    names = [f"refs/heads/{ref}", f"refs/tags/{ref}"]
    found = {name: references[name] for name in names if name in references}
    other = f"refs/{ref}"
    return found or ({other: references[other]} if other in references else {})


def _abbreviated(git: Git, url: str, local: Path | None, short: str, work: Path) -> list[str]:
    if local is not None:
        return _commits(git, local, short)
    with tempfile.TemporaryDirectory(dir=work, prefix="history-") as folder:
        repository = Path(folder).absolute() / "history.git"
        for arguments in (
            ("init", "--quiet", "--bare", "--template=", "--object-format=sha1", str(repository)),
            # History alone, where the server can leave out the rest.
            ("fetch", "--quiet", "--no-tags", "--filter=tree:0", url, "+refs/*:refs/all/*"),
        ):
            ended = git.fetching(*arguments, repository=repository)
            if ended.returncode != 0:
                raise ResolveError(
                    f"the history of git repository `{redact(url)}` cannot be had, to look for `{short}`",
                    details=said(ended),
                    hint="give the full commit",
                )
        return _commits(git, repository, short)


def _commits(git: Git, repository: Path, short: str) -> list[str]:
    history = git.fetching("rev-list", "--all", repository=repository).stdout.split()
    return sorted(commit for commit in history if commit.startswith(short))


def _near(references: dict[str, str], ref: str) -> str:
    names = [
        name.split("/", 2)[-1] for name in references if name.startswith(("refs/heads/", "refs/tags/"))
    ]
    near = difflib.get_close_matches(ref, names, n=_NEAR, cutoff=0.5)
    if near:
        return f"near names: {', '.join(f'`{name}`' for name in near)}"
    shown = ", ".join(f"`{name}`" for name in names[:_NEAR])
    return f"it has {shown}" if shown else "it has no branches and no tags"
