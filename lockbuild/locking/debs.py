"""Pinning Debian packages: the closure of each root file system."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from lockbuild.errors import ResolveError
from lockbuild.plan import ROOTS
from lockbuild.resolvers import AptQuestion

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from lockbuild.lock import LockedDeb
    from lockbuild.locking.former import Former
    from lockbuild.locking.gaps import Gaps
    from lockbuild.progress import Progress
    from lockbuild.sources import Mirrors
    from lockbuild.stack import Stack

__all__ = ["DebPinner"]

_INPUTS = ("target.platform", "base.", "apt.", "interpreter.")
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

    def pin(self) -> tuple[LockedDeb, ...]:
        """Return the closure of .debs for all root file systems; none while they are open.

        Raises:
            ResolveError: A package is unknown, wishes cannot be met together, or an archive is not signed.
        """
        suite = self.stack.base.debian.suite
        same = self.former.same(*_INPUTS)
        known = same if same and not same.open_of("apt") else None
        if known and not self.former.options.upgrade:
            return known.debs
        try:
            return self._ask()
        except ResolveError as error:
            if not error.unreachable:
                raise
            if known:
                self.gaps.keep("apt", suite, error)
                return known.debs
            self.gaps.leave("apt", suite, error)
            return ()

    def _ask(self) -> tuple[LockedDeb, ...]:
        from lockbuild.resolvers import apt  # noqa: PLC0415 - not loaded when the lock knows everything

        stack = self.stack
        base = stack.base.debian
        wanted = {"runtime": stack.apt.runtime, "toolchain": stack.apt.toolchain}
        python = {stack.interpreter.apt} if stack.interpreter.apt else set()
        question = AptQuestion(
            base=base,
            architecture=stack.target.debian_architecture,
            roots=tuple((root, tuple(sorted({*python, *wanted[root]}))) for root in ROOTS),
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
