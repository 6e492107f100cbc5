"""Pinning Debian packages: the closure of each root file system."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from lockbuild.baseimage import parse_reference
from lockbuild.builders import layers
from lockbuild.errors import FetchError, ResolveError
from lockbuild.fetching import bring
from lockbuild.plan import ROOTS, image_fetch
from lockbuild.resolvers import AptQuestion

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from lockbuild.derivation import Fetch
    from lockbuild.imagelock import LockedImage
    from lockbuild.lock import LockedDeb
    from lockbuild.locking.former import Former
    from lockbuild.locking.gaps import Gaps
    from lockbuild.progress import Progress
    from lockbuild.sources import Mirrors
    from lockbuild.stack import DebianBase, Stack
    from lockbuild.store import Store

__all__ = ["DebPinner"]

_STATUS = "var/lib/dpkg/status"
_INPUTS = ("target.platform", "base.", "apt.", "interpreter.", "toolchain.")
"""What decides which packages there are."""


@dataclass(frozen=True, slots=True, kw_only=True)
class DebPinner:
    """Asks apt, unless nothing that decides its answer has changed."""

    stack: Stack
    former: Former
    mirrors: Callable[[frozenset[str]], Mirrors]
    progress: Progress
    scratch: Path
    gaps: Gaps
    images: tuple[LockedImage, ...]
    """What the root file systems stand on, where that is images."""
    store: Store

    def pin(self) -> tuple[LockedDeb, ...]:
        """Return the closure of .debs for all root file systems; none while they are open.

        Raises:
            FetchError: A base image that must be looked into has other bytes.
            ResolveError: A package is unknown, wishes cannot be met together, or an archive is not signed.
        """
        base, wishes = self.stack.base.archive, self._wishes()
        if base is None or not wishes:
            return ()
        same = self.former.same(*_INPUTS)
        # What is locked follows from what the images have; a tag may have come to stand for another one.
        known = same if same and same.images == self.images and not same.open_of("apt") else None
        if known and not self.former.options.upgrade:
            return known.debs
        try:
            return self._ask(base, wishes)
        except (FetchError, ResolveError) as error:
            if not error.unreachable:
                raise
            if known:
                self.gaps.keep("apt", base.suite, error)
                return known.debs
            self.gaps.leave("apt", base.suite, error)
            return ()

    def _wishes(self) -> tuple[tuple[str, tuple[str, ...]], ...]:
        """Return root file system -> packages that it is to have; of those on images, only where there are any."""
        wishes = ((root, self.stack.packages_of(root)) for root in ROOTS)
        return tuple((root, names) for root, names in wishes if names or self.stack.base.debian)

    def _ask(
        self, base: DebianBase, wishes: tuple[tuple[str, tuple[str, ...]], ...]
    ) -> tuple[LockedDeb, ...]:
        from lockbuild.resolvers import apt  # noqa: PLC0415 - not loaded when the lock knows everything

        question = AptQuestion(
            base=base,
            architecture=self.stack.target.debian_architecture,
            roots=wishes,
            installed=self._installed({root for root, _ in wishes}),
        )
        work = self.scratch / "apt"
        work.mkdir()
        mirrors = self.mirrors(frozenset({base.vendor}))
        places = dict(mirrors.snapshots if base.snapshot else mirrors.archives)
        with self.progress.phase(f"resolving {base.suite}", total=1, unit="suites") as phase:
            found = apt.resolve(question, mirrors=places.get(base.vendor, ()), keyring=None, work=work)
            phase.advance(1)
            phase.line(f"{base.suite}: {len(found)} Debian packages")
        return found

    def _installed(self, roots: set[str]) -> tuple[tuple[str, str], ...]:
        """Return root file system -> dpkg's status of its image, which is fetched for it."""
        images = [image for image in self.images if image.root in roots]
        unknown = [image for image in images if image.manifest is None]
        if unknown:
            named = " and ".join(f"`base.{image.root}`" for image in unknown)
            hosts = ", ".join(sorted({parse_reference(image.reference).registry for image in unknown}))
            raise ResolveError(
                f"the packages go on top of {named}, which could never be read from {hosts}",
                unreachable=True,
            )
        fetches = {image.root: image_fetch(image, self.stack.target) for image in images}
        valid = self.store.valid(fetch.path for fetch in fetches.values())
        missing = {fetch.path: fetch for fetch in fetches.values() if fetch.path not in valid}
        failures = bring(
            tuple(missing.values()),
            stack_folder=self.scratch,
            store=self.store,
            mirrors=self.mirrors,
            progress=self.progress,
            connections=1,
        )
        if failures:
            raise failures[0].error
        return tuple((image.root, self._status(image, fetches[image.root])) for image in images)

    def _status(self, image: LockedImage, fetch: Fetch) -> str:
        self.store.check(fetch.path)
        try:
            tree = layers.merge(
                layers.layer_files(self.store.locate(fetch.path)), keep=lambda path: path == _STATUS
            )
            found = tree.find(_STATUS)
        except layers.LayerFault as fault:
            raise ResolveError(f"`{image.reference}` cannot be a base: {fault}") from fault
        if found is None or found.content is None:
            raise ResolveError(
                f"Debian packages cannot be put on top of `{image.reference}`: it has no dpkg",
                hint=f"leave `apt.{image.root}` empty, or take an image of Debian or Ubuntu",
            )
        return found.content.decode(errors="replace")
