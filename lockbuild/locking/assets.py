"""Pinning assets: what is known of each, and what only its first fetch tells."""

from __future__ import annotations

import threading
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from lockbuild.archives import take_members
from lockbuild.assetlock import LockedArchive, LockedAsset
from lockbuild.assets import add_tree
from lockbuild.digest import parse_sha256
from lockbuild.errors import FetchError
from lockbuild.lock import OpenPart
from lockbuild.locking.gaps import unseen
from lockbuild.plan import asset_fetch
from lockbuild.stack.assets import ON_FIRST_FETCH
from lockbuild.store import trees

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from lockbuild.locking.former import Former
    from lockbuild.locking.gaps import Gaps
    from lockbuild.progress import Phase, Progress
    from lockbuild.sources import First, Mirrors
    from lockbuild.stack import Asset, Stack
    from lockbuild.store import Store

__all__ = ["AssetPinner"]

_SIDE_BY_SIDE = 4

# What decides which bytes an asset has. Not its addresses: any of them will do that gives the pinned bytes.
_IDENTITY = ("sha256", "sha1", "git-blob", "lfs-oid", "members")


@dataclass(frozen=True, slots=True, kw_only=True)
class AssetPinner:
    """Pins the assets of one stack, and keeps every former pin whose declaration has not changed."""

    stack: Stack
    former: Former
    gaps: Gaps
    mirrors: Callable[[frozenset[str]], Mirrors]
    store: Store
    progress: Progress

    def pin(self) -> tuple[LockedAsset, ...]:
        """Return every asset of the image, sorted by name; those that cannot be had are open."""
        locked = {asset.name: self._known(asset) for asset in self.stack.bundles}
        unknown = [asset for asset in self.stack.bundles if locked[asset.name] is None]
        if unknown:
            with self.progress.phase("pinning assets", total=len(unknown), unit="assets") as phase:
                locked |= self._see(unknown, phase)
        found = (locked[name] for name in sorted(locked))
        return tuple(asset for asset in found if asset is not None)

    def _known(self, asset: Asset) -> LockedAsset | None:
        """Return the pin of an asset that need not be seen for it."""
        former = self._kept(asset)
        if former:
            return former if asset.size is None or asset.members else replace(former, size=asset.size)
        if asset.sha256 in (None, ON_FIRST_FETCH) or asset.members:
            return None
        return LockedAsset(name=asset.name, sha256=parse_sha256(asset.sha256), size=asset.size)

    def _kept(self, asset: Asset) -> LockedAsset | None:
        if asset.name in self.former.options.repin:
            return None
        former = self.former.same(*(f"asset.{asset.name}.{key}" for key in _IDENTITY))
        pins = former.assets if former else ()
        return next((a for a in pins if a.name == asset.name and a.sha256 is not None), None)

    def _see(self, assets: list[Asset], phase: Phase) -> dict[str, LockedAsset]:
        stop = threading.Event()
        pool = ThreadPoolExecutor(max_workers=_SIDE_BY_SIDE, thread_name_prefix="assets")
        try:
            seen = list(pool.map(lambda asset: self._see_one(asset, stop, phase), assets))
        finally:
            stop.set()
            pool.shutdown(wait=False, cancel_futures=True)
        return {locked.name: locked for locked in seen}

    def _see_one(self, asset: Asset, stop: threading.Event, phase: Phase) -> LockedAsset:
        """Fetch an asset, put it into the store, and return its pin; or why it stays open."""
        from lockbuild import sources  # noqa: PLC0415 - not loaded when the lock knows everything

        known = None if asset.sha256 == ON_FIRST_FETCH else asset.sha256
        wanted = sources.Unpinned(
            name=asset.name,
            urls=asset.url,
            sha256=known,
            checksums=asset.checksums,
            size=asset.size,
            type=asset.type,
        )
        try:
            with self.store.scratch("asset") as scratch:
                found = sources.first(
                    wanted,
                    into=scratch,
                    keep=self.store.downloads,
                    stop=stop,
                    limits=self.mirrors(frozenset()).limits,
                )
                locked = self._put(asset, found, scratch)
        except FetchError as error:
            locked = LockedAsset(name=asset.name, reason=unseen(asset.url, error))
            part = OpenPart(kind="asset", name=asset.name, reason=locked.reason)
            self.gaps.explain(part, error)
        phase.advance(1)
        phase.line(f"{asset.name}: {locked.sha256 or locked.reason}")
        return locked

    def _put(self, asset: Asset, found: First, scratch: Path) -> LockedAsset:
        if not asset.members:
            locked = LockedAsset(name=asset.name, sha256=found.sha256, size=found.size)
            fetch = asset_fetch(asset, locked)
            if fetch:
                with self.store.lock(fetch.path):
                    if self.store.info(fetch.path) is None:
                        self.store.add_file(
                            fetch.path, found.file, sha256=found.sha256, trusted_hash=True
                        )
            return locked
        tree = scratch / "tree"
        tree.mkdir()
        take_members(found.file, asset.members, into=tree, name=asset.name)
        found.file.unlink()
        entries = trees.listing(tree)
        locked = LockedAsset(
            name=asset.name,
            sha256=trees.listing_sha256(entries),
            size=sum(entry.size for entry in entries),
            archive=LockedArchive(sha256=found.sha256, size=found.size),
        )
        fetch = asset_fetch(asset, locked)
        if fetch:
            add_tree(fetch, tree, self.store)
        return locked
