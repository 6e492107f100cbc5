"""Holding back the compilers of a build until there is a job for them.

lockbuild sees each program that a sandbox is about to run (`lockbuild.builders.watch`). A compiler waits there, in
the kernel, until the pool has a job for it, and gives the job back by ending, whatever ends it. So
ninja, make and setuptools of any version share the cores, and nothing in the build's files or variables differs.

What a compiler runs is part of its job: nvcc calls g++, g++ calls cc1plus.
"""

from __future__ import annotations

import os
import re
import select
import time
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING

from lockbuild import jobs

if TYPE_CHECKING:
    from collections.abc import Iterator

    from lockbuild.derivation import JobPool

__all__ = ["Turns", "is_compiler"]

_COMPILER = re.compile(
    r"(?:[\w.]+-)*(?:nvcc|hipcc|gcc|g\+\+|cc|c\+\+|clang|clang\+\+|gfortran|rustc)(?:-\d[\d.]*)?"
)
# Ends of its own compilers are told at once; of jobs that other builds give back nobody is told. Each question takes
# a lock and a look at every job: asked a hundred times a second it cost more than the waiting.
_AGAIN_MS = 50
_STANDSTILL_S = 5.0


def is_compiler(program: str) -> bool:
    """Tell whether a program of this path is one whose number is limited."""
    return _COMPILER.fullmatch(program.rpartition("/")[2]) is not None


class Turns:
    """The compilers of one build: those that run, and those that wait. Of one thread only.

    Args:
        pool: Where their jobs come from.
    """

    def __init__(self, pool: JobPool) -> None:
        self._pool = pool
        self._ended = select.epoll()
        self._running: dict[int, tuple[int, int | None]] = {}  # pidfd -> process, its job
        self._waiting: dict[int, int] = {}  # process -> the question that it waits for an answer to
        self._claim: int | None = None
        self._seen: tuple[tuple[int, ...], tuple[tuple[int, str], ...]] | None = None
        self._seen_at = 0.0

    def fileno(self) -> int:
        """Return what becomes readable when a compiler ends."""
        return self._ended.fileno()

    @property
    def patience_ms(self) -> int | None:
        """How long to wait before `granted` is asked again; none while nobody waits."""
        return _AGAIN_MS if self._waiting else None

    def ask(self, question: int, process: int, program: str) -> bool:
        """Tell whether *process* may run *program* at once; else `granted` gives its *question* later."""
        if not is_compiler(program):
            return True
        process = _leader(process)
        if self._is_covered(process):
            return True
        # A signal interrupts the call; the process then asks again, with another number.
        self._waiting[process] = question
        return False

    def granted(self) -> Iterator[int]:
        """Yield the questions that can be answered now."""
        self._take_back()
        for process, question in list(self._waiting.items()):
            job: int | None = None
            # Where the pool cannot be used at all, too many compilers are better than a build that waits for ever.
            with suppress(OSError):
                job = jobs.take(self._pool, process, first=not self._running)
                if job is None and not self._is_stuck():
                    break
            del self._waiting[process]
            if self._note(process, job):
                yield question
        self._renew_claim()

    def close(self) -> None:
        """Give back all that is held."""
        for descriptor, (_, job) in self._running.items():
            _close(descriptor, job)
        self._running.clear()
        self._waiting.clear()
        self._renew_claim()
        self._ended.close()

    def _take_back(self) -> None:
        for descriptor, _ in self._ended.poll(0):
            self._ended.unregister(descriptor)
            _close(descriptor, self._running.pop(descriptor)[1])

    def _note(self, process: int, job: int | None) -> bool:
        """Remember that *process* has *job* until it ends; tell whether it still is there."""
        try:
            descriptor = os.pidfd_open(process)
        except OSError:
            _close(job)
            return False
        self._running[descriptor] = (process, job)
        self._ended.register(descriptor, select.EPOLLIN)
        return True

    def _is_covered(self, process: int) -> bool:
        running = {process for process, _ in self._running.values()}
        while process > 1:
            if process in running:
                return True
            process = _status(process, "PPid")
        return False

    def _is_stuck(self) -> bool:
        """Tell whether no job of the pool has run at all for a while.

        Then all wait for something that may be held back here: the other end of a pipe, or a parent that cannot
        read on before its next child has begun (vfork(2)). A job that stands still has no core, either. Or those that
        had the jobs have ended, and the lockbuild that would give them back is stopped itself.
        """
        now = time.monotonic()
        if self._seen and now < self._seen_at + _STANDSTILL_S:
            return False
        without = (process for process, job in self._running.values() if job is None)
        processes = (*jobs.holders(self._pool), *without)
        seen = (processes, jobs.standing(processes))
        # Of one that is not known nobody can tell.
        stuck = bool(processes) and all(processes) and seen == self._seen
        self._seen, self._seen_at = seen, now
        return stuck

    def _renew_claim(self) -> None:
        wanted = bool(self._waiting) and not self._running
        if wanted and self._claim is None:
            with suppress(OSError):
                self._claim = jobs.claim(self._pool)
        elif not wanted and self._claim is not None:
            os.close(self._claim)
            self._claim = None


def _leader(thread: int) -> int:
    return _status(thread, "Tgid") or thread


def _status(process: int, field: str) -> int:
    with suppress(OSError):
        text = Path(f"/proc/{process}/status").read_text(encoding="utf-8", errors="replace")
        found = re.search(rf"^{field}:\s+(\d+)$", text, re.MULTILINE)
        return int(found[1]) if found else 0
    return 0


def _close(*descriptors: int | None) -> None:
    for descriptor in descriptors:
        if descriptor is not None:
            os.close(descriptor)
