"""Pinning sources: what each build is made of, and what it takes from other repositories."""

from __future__ import annotations

import hashlib
from concurrent.futures import ThreadPoolExecutor, wait
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from packaging.utils import canonicalize_name

from lockbuild.derivation import Fetch, GitTree
from lockbuild.digest import Sha256
from lockbuild.edits import Patch
from lockbuild.errors import FetchError, ResolveError
from lockbuild.fetching import git_cache
from lockbuild.folders import archive_folder
from lockbuild.lock import LockedFile, LockedSource
from lockbuild.store import trees

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence
    from pathlib import Path

    from lockbuild.errors import LockbuildError
    from lockbuild.folders import StackFolder
    from lockbuild.locking.former import Former
    from lockbuild.locking.gaps import Gaps
    from lockbuild.progress import Phase, Progress
    from lockbuild.sources import Mirrors
    from lockbuild.stack import NamedSource, Source, Stack
    from lockbuild.store import Store

__all__ = ["SourcePinner"]

_PYPI = frozenset({"pypi"})
_SIDE_BY_SIDE = 4

# What decides which bytes a source has, wherever they come from.
_CONTENT = ("commit", "submodules", "include", "exclude", "sdist")

# What decides the bytes of a source that is not built. Not where the image has it, and how it is changed there.
_IDENTITY = ("commit", "exclude", "folder", "git", "include", "ref", "sdist", "submodules")


@dataclass(frozen=True, slots=True, kw_only=True)
class SourcePinner:
    """Pins the sources of one stack, and keeps every former pin whose declaration has not changed."""

    stack: Stack
    folder: StackFolder
    former: Former
    mirrors: Callable[[frozenset[str]], Mirrors]
    store: Store
    progress: Progress
    scratch: Path
    gaps: Gaps

    def pin(self) -> tuple[LockedSource, ...]:
        """Return every source that is not open, in the order of the stack file.

        Raises:
            ResolveError: An index does not have an sdist.
            FetchError: A commit is not there, or its files are not.
        """
        wanted = self.stack.pinned_sources()
        unknown = [named for named in wanted if self._kept(named) is None]
        found: dict[str, LockedSource | None] = {}
        if unknown:
            with self.progress.phase("resolving sources", total=len(unknown), unit="sources") as phase:
                found = self._find_all(unknown, phase)
        kept = {named.name: found.get(named.name) or self._kept(named) for named in wanted}
        return tuple(
            replace(source, patches=self._patches(source.name))
            for source in kept.values()
            if source is not None
        )

    def _kept(self, named: NamedSource) -> LockedSource | None:
        """Return the former pin while the stack says the same of it: content does not move."""
        return None if named.source.path or self._may_move(named) else self._former(named)

    def _may_move(self, named: NamedSource) -> bool:
        """Tell whether its branch or tag is to be looked up again."""
        options = self.former.options
        chosen = named.name in options.repin or canonicalize_name(named.name) in options.upgrade_packages
        return named.source.ref is not None and (options.upgrade or chosen)

    def _former(self, named: NamedSource) -> LockedSource | None:
        """Return the former pin while the stack says the same of the source."""
        name = named.name
        named_keys = (f"source.{name}.{key}" for key in _IDENTITY)
        former = self.former.same(f"build.{name}.source.", f"build.{name}.version", *named_keys)
        return next((s for s in former.sources if s.name == name), None) if former else None

    def _same_content(self, named: NamedSource) -> LockedSource | None:
        """Return the former pin of the same content, which the stack may look for elsewhere by now."""
        if named.source.ref:
            # What another repository calls so may be anything.
            return self._former(named)
        name = named.name
        places = (f"build.{name}.source", f"source.{name}")
        former = self.former.same(*(f"{place}.{key}" for place in places for key in _CONTENT))
        pinned = next((s for s in former.sources if s.name == name), None) if former else None
        if pinned is None or named.source.path or pinned.path:
            return None
        return replace(pinned, version=self._version(named))

    def _find_all(self, unknown: Sequence[NamedSource], phase: Phase) -> dict[str, LockedSource | None]:
        """Look at every source, several at a time; wrong answers are raised once all have answered."""
        pool = ThreadPoolExecutor(max_workers=_SIDE_BY_SIDE, thread_name_prefix="sources")
        try:
            asked = {named.name: pool.submit(self._find_one, named, phase) for named in unknown}
            wait(asked.values())
        finally:
            # An interrupt does not wait for git, which ends with this process.
            pool.shutdown(wait=False, cancel_futures=True)
        wrong = {name: error for name, one in asked.items() if (error := one.exception())}
        foreseen = {name: e for name, e in wrong.items() if isinstance(e, (FetchError, ResolveError))}
        for name, error in wrong.items():
            if name not in foreseen:
                raise error
        if foreseen:
            raise _wrong(foreseen)
        return {name: ended.result() for name, ended in asked.items()}

    def _find_one(self, named: NamedSource, phase: Phase) -> LockedSource | None:
        """Return a source; where nobody can be asked, its former pin, or none while it is open."""
        found: LockedSource | None
        try:
            found = self._find(named, phase)
        except FetchError as error:
            if not error.unreachable:
                raise
            found = self._same_content(named)
            note = self.gaps.keep if found else self.gaps.leave
            note("source", named.name, error)
        phase.advance(1)
        phase.line(f"{named.name}: {found.file.filename if found else 'open'}")
        return found

    def _find(self, named: NamedSource, phase: Phase) -> LockedSource:
        source = named.source
        if source.path:
            return self._folder(named, source.path)
        if source.git:
            former, commit = self._former(named), source.commit or self._commit(named, source.git)
            if former and former.commit == commit:
                return former
            return self._tree(named, source.git, commit, phase)
        return self._sdist(named, source)

    def _commit(self, named: NamedSource, url: str) -> str:
        """Return the commit that a branch or tag stands for: as it was pinned, unless it may move."""
        from lockbuild.sources import git  # noqa: PLC0415 - not loaded when the lock knows everything

        places = (f"build.{named.name}.source", f"source.{named.name}")
        former = self.former.same(*(f"{place}.{key}" for place in places for key in ("git", "ref")))
        pinned = (s.commit for s in former.sources if s.name == named.name) if former else ()
        known = None if self._may_move(named) else next(iter(pinned), None)
        return known or git.resolve_ref(url, named.source.ref or "HEAD", work=git_cache(self.store))

    def _version(self, named: NamedSource) -> str:
        return next((spec.version for spec in self.stack.builds if spec.name == named.name), "")

    def _folder(self, named: NamedSource, path: str) -> LockedSource:
        version = self._version(named)
        archive = self.scratch / ("-".join(filter(None, (named.name, version))) + ".tar")
        sha256, size = archive_folder(self.folder.path / path, archive)
        file = LockedFile(filename=archive.name, sha256=sha256, size=size)
        return LockedSource(name=named.name, version=version, index="", file=file, path=path)

    def _sdist(self, named: NamedSource, source: Source) -> LockedSource:
        from lockbuild import sources  # noqa: PLC0415 - not loaded when the lock knows everything

        project, _, version = (source.sdist or "").partition("==")
        project = canonicalize_name(project)
        index = next((i for i in self.stack.python.indexes if project in i.only), None)
        name, url = (index.name, index.url) if index else ("pypi", None)
        file, _ = sources.sdist(project, version, index=name, url=url, mirrors=self.mirrors(_PYPI))
        return LockedSource(name=named.name, version=self._version(named), index=name, file=file)

    def _tree(self, named: NamedSource, url: str, commit: str, phase: Phase) -> LockedSource:
        """Check the tree out, put it into the store, and pin its listing."""
        from lockbuild.sources import git  # noqa: PLC0415 - not loaded when the lock knows everything

        source = named.source
        where = GitTree(
            url=url,
            commit=commit,
            submodules=source.submodules,
            include=source.include,
            exclude=source.exclude,
        )
        with self.store.scratch("tree") as scratch:
            tree = scratch / "tree"
            submodules = git.checkout(where, into=tree, cache=git_cache(self.store), phase=phase)
            sha256 = trees.listing_sha256(trees.listing(tree))
            file = LockedFile(filename=f"{named.name}-{commit[:12]}", sha256=sha256)
            fetch = Fetch(filename=file.filename, sha256=sha256, size=None, where=where)
            with self.store.lock(fetch.path):
                if self.store.info(fetch.path) is None:
                    self.store.add_folder(fetch.path, tree)
        return LockedSource(
            name=named.name,
            version=self._version(named),
            index="",
            file=file,
            commit=commit,
            ref=source.ref,
            submodules=tuple((module.path, module.url, module.commit) for module in submodules),
        )

    def _patches(self, name: str) -> tuple[tuple[str, LockedFile], ...]:
        """Return path and content of each patch that edits the source called *name*."""
        edits = self.stack.edits_of(name)
        paths = sorted({edit.path for edit in edits if isinstance(edit, Patch)})
        return tuple((path, _locked_file(self.folder.path / path)) for path in paths)


def _wrong(errors: Mapping[str, FetchError | ResolveError]) -> LockbuildError:
    """Return one fault for all sources that gave a wrong answer."""
    name, error = next(iter(errors.items()))
    kind = type(error)
    if len(errors) == 1:
        return kind(f"source `{name}`: {error.message}", details=error.details, hint=error.hint)
    return kind(
        f"{len(errors)} sources cannot be pinned",
        details=tuple(
            line
            for name, error in errors.items()
            for line in (f"source `{name}`: {error.message}", *(f"  {line}" for line in error.details))
        ),
        hint="\n".join(dict.fromkeys(error.hint for error in errors.values() if error.hint)) or None,
    )


def _locked_file(file: Path) -> LockedFile:
    content = file.read_bytes()
    return LockedFile(
        filename=file.name, sha256=Sha256(hashlib.sha256(content).hexdigest()), size=len(content)
    )
