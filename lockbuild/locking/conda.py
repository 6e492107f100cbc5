"""Pinning conda packages: the closure of those that the image has, and the file that conda-lock reads."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from lockbuild.condalock import CONDA_LOCK
from lockbuild.errors import ResolveError
from lockbuild.resolvers import CondaQuestion

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from lockbuild.condalock import LockedConda
    from lockbuild.folders import StackFolder
    from lockbuild.lock import Lock
    from lockbuild.locking.former import Former
    from lockbuild.locking.gaps import Gaps
    from lockbuild.progress import Progress
    from lockbuild.sources import Mirrors
    from lockbuild.stack import Conda, Stack
    from lockbuild.store import Store

__all__ = ["CondaPinner"]

_INPUTS = (
    *("conda.", "interpreter.conda"),
    *("target.cuda", "target.glibc", "target.platform", "target.python"),
)
"""What decides which packages there are."""


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
    gaps: Gaps

    def pin(self) -> tuple[LockedConda, ...]:
        """Return the closure of conda packages; none while they are open.

        Raises:
            ResolveError: A package is unknown, or they cannot be had together.
            ToolMissing: py-rattler is not installed.
        """
        conda = self.stack.conda
        if conda is None:
            return ()
        known = self._known()
        if known and not self.former.options.upgrade:
            return known.conda
        name = ", ".join(name for name, _ in conda.named_channels())
        try:
            return self._ask(conda)
        except ResolveError as error:
            if not error.unreachable:
                raise
            if known:
                self.gaps.keep("conda", name, error)
                return known.conda
            self.gaps.leave("conda", name, error)
            return ()

    def _ask(self, conda: Conda) -> tuple[LockedConda, ...]:
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
        if conda is None or not packages:
            return {}
        known = self._known()
        if known and known.conda == packages:
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

    def _known(self) -> Lock | None:
        """Return the former lock, if it answers what is asked now."""
        same = self.former.same(*_INPUTS)
        return same if same and not same.open_of("conda") else None


def _packages(stack: Stack) -> tuple[str, ...]:
    """Return what the channels are asked for, Python among it where it comes from there."""
    python = stack.interpreter.conda
    packages = stack.conda.packages if stack.conda else ()
    return (*packages, *((f"{python} {stack.target.python}.*",) if python else ()))
