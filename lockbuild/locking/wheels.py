"""Pinning wheels whose sha256 nobody publishes: the first bytes that come are theirs from then on."""

from __future__ import annotations

import threading
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from packaging.version import Version

from lockbuild import wheels
from lockbuild.derivation import Addresses, Fetch
from lockbuild.errors import BuildError, FetchError, ResolveError
from lockbuild.lock import LockedFile
from lockbuild.locking.gaps import unseen

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable
    from pathlib import Path

    from lockbuild.lock import LockedPackage
    from lockbuild.locking.former import Former
    from lockbuild.locking.gaps import Gaps
    from lockbuild.progress import Phase, Progress
    from lockbuild.sources import Mirrors
    from lockbuild.stack import PinnedWheel, Stack
    from lockbuild.store import Store

__all__ = ["WheelPinner"]

_SIDE_BY_SIDE = 4

# What decides which bytes a wheel has. Not its addresses: any of them will do that gives the pinned bytes.
_IDENTITY = ("filename", "sha256", "version")


@dataclass(frozen=True, slots=True, kw_only=True)
class WheelPinner:
    """Pins such wheels of one stack, and keeps every former pin whose declaration has not changed."""

    stack: Stack
    former: Former
    mirrors: Callable[[frozenset[str]], Mirrors]
    store: Store
    progress: Progress
    gaps: Gaps

    def pin(
        self,
        runtime: tuple[LockedPackage, ...],
        build: tuple[tuple[str, tuple[LockedPackage, ...]], ...],
    ) -> tuple[tuple[LockedPackage, ...], tuple[tuple[str, tuple[LockedPackage, ...]], ...]]:
        """Return runtime and build locks with the file of each such wheel; the others are open.

        Raises:
            ResolveError: What came is not the wheel that the stack describes.
        """
        used = {package.name for package in runtime}
        wanted = [w for w in self.stack.python.wheels if w.first_fetched and w.name in used]
        found = {wheel.name: self._kept(wheel) for wheel in wanted}
        unknown = [wheel for wheel in wanted if found[wheel.name] is None]
        if unknown:
            with self.progress.phase("pinning wheels", total=len(unknown), unit="wheels") as phase:
                found |= self._see(unknown, phase)

        def complete(packages: Iterable[LockedPackage]) -> tuple[LockedPackage, ...]:
            return tuple(replace(p, wheel=found[p.name]) if p.name in found else p for p in packages)

        return complete(runtime), tuple((name, complete(packages)) for name, packages in build)

    def _kept(self, wheel: PinnedWheel) -> LockedFile | None:
        if wheel.name in self.former.options.repin:
            return None
        former = self.former.same(*(f"python.wheel.{wheel.name}.{key}" for key in _IDENTITY))
        packages = former.runtime if former else ()
        pinned = next((package.wheel for package in packages if package.name == wheel.name), None)
        return pinned if pinned and pinned.filename == wheel.filename else None

    def _see(self, unknown: list[PinnedWheel], phase: Phase) -> dict[str, LockedFile | None]:
        stop = threading.Event()
        pool = ThreadPoolExecutor(max_workers=_SIDE_BY_SIDE, thread_name_prefix="wheels")
        try:
            seen = list(pool.map(lambda wheel: self._see_one(wheel, stop, phase), unknown))
        finally:
            stop.set()
            pool.shutdown(wait=False, cancel_futures=True)
        return {wheel.name: file for wheel, file in zip(unknown, seen, strict=True)}

    def _see_one(self, wheel: PinnedWheel, stop: threading.Event, phase: Phase) -> LockedFile | None:
        """Fetch a wheel, put it into the store, and return its pin; none for one that stays open."""
        from lockbuild import sources  # noqa: PLC0415 - not loaded when the lock knows everything

        wanted = sources.Unpinned(name=wheel.filename, urls=wheel.url, size=wheel.size, type="zip")
        try:
            with self.store.scratch("wheel") as scratch:
                found = sources.first(
                    wanted,
                    into=scratch,
                    keep=self.store.downloads,
                    stop=stop,
                    limits=self.mirrors(frozenset()).limits,
                )
                named = found.file.rename(scratch / wheel.filename)
                _refuse_other(wheel, named)
                file = LockedFile(filename=wheel.filename, sha256=found.sha256, size=found.size)
                fetch = Fetch(
                    filename=file.filename,
                    sha256=file.sha256,
                    size=file.size,
                    where=Addresses(urls=wheel.url),
                )
                with self.store.lock(fetch.path):
                    if self.store.info(fetch.path) is None:
                        self.store.add_file(fetch.path, named, sha256=file.sha256, trusted_hash=True)
        except FetchError as error:
            self.gaps.leave("wheel", wheel.name, error, reason=unseen(wheel.url, error))
            file = None
        phase.advance(1)
        phase.line(f"{wheel.name}: {file.sha256 if file else 'open'}")
        return file


def _refuse_other(wheel: PinnedWheel, file: Path) -> None:
    """Refuse what is no wheel, or another one than the stack describes.

    Raises:
        ResolveError: With what was found and what was expected.
    """
    where, expected = f"`python.wheel[{wheel.name}]`", f"{wheel.name} {wheel.version}"
    try:
        facts = wheels.inspect_wheel(file)
    except BuildError as error:
        raise ResolveError(
            f"{where}: what came is no wheel: {error.message}", details=error.details
        ) from error
    if (facts.name, Version(facts.version)) != (wheel.name, Version(wheel.version)):
        raise ResolveError(
            f"{where}: found {facts.name} {facts.version}, expected {expected}",
            hint="correct `url`, or `name` and `version`",
        )
