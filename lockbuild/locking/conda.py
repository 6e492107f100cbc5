"""Pinning conda packages: the closure of those that the image has, and the file that conda-lock reads."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from lockbuild.condalock import CONDA_LOCK
from lockbuild.resolvers import CondaQuestion

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from lockbuild.condalock import LockedConda
    from lockbuild.folders import StackFolder
    from lockbuild.lock import Lock
    from lockbuild.locking.former import Former
    from lockbuild.progress import Progress
    from lockbuild.sources import Mirrors
    from lockbuild.stack import Stack
    from lockbuild.store import Store

__all__ = ["CondaPinner"]


@dataclass(frozen=True, slots=True, kw_only=True)
class CondaPinner:
    """Asks py-rattler, unless nothing that decides its answer has changed."""

    stack: Stack
    folder: StackFolder
    former: Former
    mirrors: Callable[[frozenset[str]], Mirrors]
    store: Store
    progress: Progress
    scratch: Path

    def pin(self) -> tuple[LockedConda, ...]:
        """Return the closure of conda packages.

        Raises:
            ResolveError: A channel cannot be asked, or the packages cannot be had together.
            ToolMissing: py-rattler is not installed.
        """
        conda = self.stack.conda
        if conda is None:
            return ()
        kept = self._kept()
        if kept:
            return kept.conda
        # Not loaded when the lock knows everything.
        from lockbuild.resolvers.conda import resolve  # noqa: PLC0415

        channels = conda.named_channels()
        configured = dict(self.mirrors(frozenset()).channels)
        former = self.former.lock
        question = CondaQuestion(
            channels=tuple((name, (*configured.get(name, ()), url)) for name, url in channels),
            subdir=self.stack.target.conda_subdir,
            packages=_packages(self.stack),
            virtual_packages=conda.virtual(self.stack.target),
            former=() if former is None or self.former.options.upgrade else former.conda,
        )
        with self.progress.phase("solving conda packages", total=1, unit="sets") as phase:
            found = resolve(question, cache=self.store.root / "conda")
            phase.advance(1)
            phase.line(f"{', '.join(name for name, _ in channels)}: {len(found)} conda packages")
        return found

    def texts(self, packages: tuple[LockedConda, ...]) -> dict[str, str]:
        """Return `conda-lock.yml` for *packages*, where the stack has any.

        Raises:
            ToolMissing: conda-lock is not installed.
        """
        conda = self.stack.conda
        if conda is None:
            return {}
        kept = self._kept()
        if kept and kept.conda == packages:
            # Its bytes were compared with the lock's digest when the lock was read.
            return {CONDA_LOCK: (self.folder.path / CONDA_LOCK).read_text(encoding="utf-8")}
        from lockbuild.resolvers.conda_lock import conda_lock_text  # noqa: PLC0415 - as above

        text = conda_lock_text(
            packages,
            name=self.stack.name,
            channels=dict(conda.named_channels()),
            subdir=self.stack.target.conda_subdir,
            work=self.scratch,
        )
        return {CONDA_LOCK: text}

    def _kept(self) -> Lock | None:
        return self.former.kept(
            "conda.",
            "interpreter.conda",
            "target.cuda",
            "target.glibc",
            "target.platform",
            "target.python",
        )


def _packages(stack: Stack) -> tuple[str, ...]:
    """Return what the channels are asked for, Python among it where it comes from there."""
    python = stack.interpreter.conda
    packages = stack.conda.packages if stack.conda else ()
    return (*packages, *((f"{python} {stack.target.python}.*",) if python else ()))
