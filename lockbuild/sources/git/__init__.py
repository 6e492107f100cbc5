"""Source trees pinned by commit: their plain files, and those of their submodules, selected by path.

The commit decides every byte: filters, line endings, attributes and the user's configuration have no
say in it, so that a mirror, a fork or a partial snapshot that has the commit is as good as the
original. Nothing here writes a `.git`.
"""

from __future__ import annotations

from collections import deque
from functools import partial
from typing import TYPE_CHECKING

from lockbuild.errors import FetchError
from lockbuild.progress import Silent
from lockbuild.sources.git.files import Pointer, write
from lockbuild.sources.git.modules import Submodule, check_url, declared_urls, is_local, resolve_url
from lockbuild.sources.git.objects import Entry, Objects
from lockbuild.sources.git.refs import resolve_ref
from lockbuild.sources.git.repositories import Repository, use
from lockbuild.sources.git.selection import Selection, refuse_hostile
from lockbuild.sources.http import redact

if TYPE_CHECKING:
    from collections.abc import Collection, Sequence
    from pathlib import Path

    from lockbuild.derivation import GitTree
    from lockbuild.progress import Phase

__all__ = ["Submodule", "checkout", "resolve_ref", "submodules"]

_MOST_SUBMODULES = 1000
_SHOWN = 20


def submodules(tree: GitTree, *, work: Path) -> tuple[Submodule, ...]:
    """Return the submodules of *tree* and theirs, in the order of their paths, whether it wants them or not.

    Those that the patterns leave out are not looked at.

    Args:
        work: Folder for repositories, kept between calls; `checkout` may use the same.

    Raises:
        FetchError: One of the repositories cannot be had.
    """
    return _Visit(tree=tree, cache=work, phase=Silent()).run()


def checkout(
    tree: GitTree, *, into: Path, cache: Path, phase: Phase, assets: Collection[str] = ()
) -> tuple[Submodule, ...]:
    """Write the files of *tree* into a folder, and return the submodules that are in it.

    Files get the modes 0644 and 0755; symlinks are written as they are and never followed. The same
    *tree* gives the same files wherever it comes from. After a fault the folder holds some of them.

    Args:
        into: An empty folder, or one to be made.
        cache: Folder for repositories, kept between calls; processes may share it.
        phase: Gets the bytes written, and a line for each repository.
        assets: Paths at which an asset will stand: there a git-lfs pointer may stay.

    Raises:
        FetchError: A repository, a commit or a file cannot be had; a path cannot be written; a pattern
            matches nothing; a file is a git-lfs pointer. All faults of one kind are told at once.
    """
    into.mkdir(parents=True, exist_ok=True)
    if any(into.iterdir()):
        raise FetchError(f"`{into}` is not empty", hint="give an empty folder")
    return _Visit(tree=tree, cache=cache, phase=phase, into=into, assets=frozenset(assets)).run()


class _Visit:
    """One pass over a tree and its submodules, which writes their files if it is told where."""

    def __init__(
        self,
        *,
        tree: GitTree,
        cache: Path,
        phase: Phase,
        into: Path | None = None,
        assets: frozenset[str] = frozenset(),
    ) -> None:
        self._tree = tree
        self._cache = cache
        self._phase = phase
        self._into = into
        self._assets = assets
        self._selection = Selection(tree.include, tree.exclude)
        self._pointers: list[Pointer] = []
        self._recursive = tree.submodules or into is None

    def run(self) -> tuple[Submodule, ...]:
        """Visit one repository after the other; no two of their locks are ever held at once."""
        found: list[Submodule] = []
        top = Submodule(path="", url=self._tree.url, commit=self._tree.commit)
        waiting = deque([top])
        while waiting:
            part = waiting.popleft()
            try:
                nested = use(part.url, self._cache, partial(self._repository, part))
            except OSError as error:
                raise FetchError(
                    f"`{error.filename or self._cache}` cannot be written: {error.strerror or error}",
                    hint="look at the room on the disk, and at the folder's owner and mode",
                ) from error
            except FetchError as error:
                raise _within(part, top, error) from error
            found.extend(nested)
            waiting.extend(nested)
            if len(found) > _MOST_SUBMODULES:
                # Each may bring more of them, and the next one the same again.
                raise FetchError(
                    f"`{redact(top.url)}` at {top.commit} has more than {_MOST_SUBMODULES} submodules in submodules",
                    details=(f"the last: `{found[-1].path}`",),
                    hint="leave out with `exclude` what is not needed",
                )
        self._check()
        return tuple(sorted(found, key=lambda one: one.path))

    def _check(self) -> None:
        unused = self._selection.unused()
        if unused:
            raise FetchError(
                f"no path of `{redact(self._tree.url)}` at {self._tree.commit} is matched by "
                + ", ".join(f"`{pattern}`" for pattern in unused),
                hint="patterns begin at the top of the tree; `**/` stands for any folders",
            )
        if self._into is not None and self._tree.include and not any(self._into.iterdir()):
            raise FetchError(
                f"`include` and `exclude` leave nothing of `{redact(self._tree.url)}`",
                hint="`exclude` is the stronger of the two",
            )
        if self._pointers:
            raise _left(self._tree, self._pointers)

    def _repository(self, part: Submodule, repository: Repository) -> list[Submodule]:
        prefix = f"{part.path}/" if part.path else ""
        entries = repository.tree(part.commit)
        links = [
            e for e in entries if e.kind == "submodule" and self._selection.reaches(prefix + e.path)
        ]
        files = [e for e in entries if e.kind != "submodule" and self._selection.wants(prefix + e.path)]
        nested = self._nested(repository, part, links, entries) if self._recursive else []
        if self._into is not None:
            where = f"`{redact(part.url)}` at {part.commit}"
            refuse_hostile((prefix + entry.path for entry in (*files, *links)), where=where)
            repository.need(part.commit, {entry.id: entry.path for entry in files})
            with Objects(repository.git, repository.objects) as objects:
                left = write(objects, files, into=self._into / prefix, phase=self._phase)
            self._pointers += [
                one.below(prefix) for one in left if prefix + one.path not in self._assets
            ]
            for link in links:
                # As in a clone whose submodules were not asked for.
                if self._selection.wants(prefix + link.path):
                    (self._into / prefix / link.path).mkdir(parents=True, exist_ok=True)
            self._phase.line(f"{redact(part.url)} at {part.commit[:12]} ({len(files)} files)")
        return nested

    def _nested(
        self, repository: Repository, part: Submodule, links: Sequence[Entry], entries: Sequence[Entry]
    ) -> list[Submodule]:
        if not links:
            return []
        declared = next((e for e in entries if e.path == ".gitmodules" and e.kind != "submodule"), None)
        urls: dict[str, str] = {}
        if declared is not None:
            repository.need(part.commit, {declared.id: declared.path})
            with Objects(repository.git, repository.objects) as objects:
                urls = declared_urls(repository.git, objects.blob(declared.id))
        unknown = [link.path for link in links if link.path not in urls]
        if unknown:
            raise FetchError(
                f"`.gitmodules` of `{redact(part.url)}` at {part.commit} says nothing of its submodules "
                + ", ".join(f"`{path}`" for path in unknown),
                hint="leave them out with `exclude`",
            )
        prefix = f"{part.path}/" if part.path else ""
        found = [
            Submodule(
                path=prefix + link.path, url=resolve_url(part.url, urls[link.path]), commit=link.id
            )
            for link in links
        ]
        for one in found:
            # What the user maps to another place was looked at by the user.
            mapped = repository.git.address(one.url) != one.url
            check_url(one.url, local=mapped or is_local(part.url))
        return found


def _within(part: Submodule, top: Submodule, error: FetchError) -> FetchError:
    if part is top:
        return error
    return FetchError(
        f"submodule `{part.path}` of `{redact(top.url)}` at {top.commit}: {error.message}",
        details=error.details,
        hint="; ".join(filter(None, (error.hint, f"or leave `{part.path}` out with `exclude`"))),
        unreachable=error.unreachable,
        tried=tuple((address, f"submodule `{part.path}`: {why}") for address, why in error.tried),
    )


def _left(tree: GitTree, pointers: Sequence[Pointer]) -> FetchError:
    lines = [f"`{one.path}`: sha256 {one.sha256}, {one.size} bytes" for one in pointers]
    more = () if len(lines) <= _SHOWN else (f"… and {len(lines) - _SHOWN} more",)
    found = "1 file" if len(lines) == 1 else f"{len(lines)} files"
    kind = "is a git-lfs pointer" if len(lines) == 1 else "are git-lfs pointers"
    return FetchError(
        f"{found} of `{redact(tree.url)}` at {tree.commit} {kind}, expected the content itself",
        details=(*lines[:_SHOWN], *more),
        hint="leave them out with `exclude`; what the image needs of them is an `[[asset]]` each, with the sha256 "
        "above as `lfs-oid`",
    )
