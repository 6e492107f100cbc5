"""Pinning Debian packages: the closure of each root file system."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from lockbuild.plan import ROOTS
from lockbuild.resolvers import AptQuestion

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from lockbuild.lock import LockedDeb
    from lockbuild.locking.former import Former
    from lockbuild.progress import Progress
    from lockbuild.sources import Mirrors
    from lockbuild.stack import Stack

__all__ = ["DebPinner"]


@dataclass(frozen=True, slots=True, kw_only=True)
class DebPinner:
    """Asks apt, unless nothing that decides its answer has changed."""

    stack: Stack
    former: Former
    mirrors: Callable[[frozenset[str]], Mirrors]
    progress: Progress
    scratch: Path

    def pin(self) -> tuple[LockedDeb, ...]:
        """Return the closure of .debs for all root file systems."""
        kept = self.former.kept("target.platform", "base.", "apt.", "interpreter.")
        if kept:
            return kept.debs
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
