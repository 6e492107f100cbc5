"""Compilers that may run at once on this machine: jobs, which builds take and give back.

A job is a `flock` on a file of the pool's folder. The kernel lets go of it when its process dies, however it
dies, so no job is ever lost; and any number of lockbuild processes that use one folder share its jobs. GNU make's
job server would lose the tokens of what is killed, and is known to no make before 4.4 and no ninja before 1.13,
nor to any ninja that is told `-j`, as PyTorch's is.
"""

from __future__ import annotations

import fcntl
import os
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import TYPE_CHECKING

from lockbuild.machine import free_memory

if TYPE_CHECKING:
    from collections.abc import Iterator

    from lockbuild.derivation import JobPool

__all__ = ["MEMORY_PER_JOB", "claim", "holders", "share", "standing", "take"]

MEMORY_PER_JOB = 3 * 10**9
"""Bytes: nvcc's cicc and cudafe++ take 1 to 3 GB over PyTorch's headers, g++ up to 1.5 GB. Too many jobs cost a
build that took hours; one too few costs its share of the cores."""

_CLAIM = "claim"


def share(pool: JobPool, builds: int) -> int:
    """Return how many jobs each of *builds* may run where nobody holds compilers back, at least one."""
    return max(1, min(pool.jobs, free_memory() // pool.memory) // max(1, builds))


def take(pool: JobPool, process: int, *, first: bool) -> int | None:
    """Return a descriptor that holds a job, to be closed when *process* has ended; none while there is none.

    A job is free when the cores are, and the memory that it may need beside what running ones may still come to
    need; the first of all is always free.

    Args:
        first: Whether the build that asks has no other: it comes before those that have some.
    """
    with _one_at_a_time(pool):
        if not first and _is_claimed(pool):
            return None
        free, held = _look(pool)
        if free is None:
            return None
        try:
            enough = not held or _room(pool, held) >= pool.memory
        except BaseException:
            os.close(free)
            raise
        if not enough:
            os.close(free)
            return None
        # The lock is the job; who has it is only told, which takes a disk that is not full.
        with suppress(OSError):
            os.ftruncate(free, 0)
            os.pwrite(free, f"{process} {_namespace()}".encode(), 0)
        return free


def claim(pool: JobPool) -> int:
    """Return a descriptor that, until it is closed, keeps builds that have jobs from taking the next one."""
    pool.folder.mkdir(parents=True, exist_ok=True)
    descriptor = os.open(pool.folder / _CLAIM, os.O_RDONLY | os.O_CREAT | os.O_CLOEXEC, 0o644)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_SH)
    except BaseException:
        os.close(descriptor)
        raise
    return descriptor


def holders(pool: JobPool) -> tuple[int, ...]:
    """Return the processes that jobs were given to; 0 for one that is not known here."""
    with _one_at_a_time(pool):
        free, held = _look(pool)
        if free is not None:
            os.close(free)
        return held


def standing(processes: tuple[int, ...]) -> tuple[tuple[int, str], ...]:
    """Return how far *processes* and their descendants have come: equal twice if none ran in between."""
    found = []
    for top in processes:
        for process in _family(top):
            with suppress(OSError, IndexError):
                text = Path(f"/proc/{process}/stat").read_text(encoding="utf-8", errors="replace")
                # User and system time; the name before them may hold anything.
                found.append((process, " ".join(text.rpartition(")")[2].split()[11:13])))
    return tuple(found)


# ---- the locks -------------------------------------------------------------------------------------


@contextmanager
def _one_at_a_time(pool: JobPool) -> Iterator[None]:
    pool.folder.mkdir(parents=True, exist_ok=True)
    descriptor = os.open(pool.folder, os.O_RDONLY | os.O_CLOEXEC)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX)
        yield
    finally:
        os.close(descriptor)


def _look(pool: JobPool) -> tuple[int | None, tuple[int, ...]]:
    """Return a descriptor that holds a job that was free, if there is one, and who has the others."""
    free: int | None = None
    held = []
    for number in range(pool.jobs):
        descriptor = os.open(pool.folder / str(number), os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o644)
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            held.append(_holder(os.pread(descriptor, 50, 0)))
        else:
            if free is None:
                free = descriptor
                continue
        os.close(descriptor)
    return free, tuple(held)


def _holder(text: bytes) -> int:
    """Return the process that a job's file names; 0 where it names none, or one that has another number here."""
    process, _, namespace = text.decode(errors="replace").partition(" ")
    return int(process) if process.isdecimal() and namespace == str(_namespace()) else 0


def _namespace() -> int:
    """Return which processes are numbered as here: containers that share a store number theirs otherwise."""
    return Path("/proc/self/ns/pid").stat().st_ino


def _is_claimed(pool: JobPool) -> bool:
    descriptor = os.open(pool.folder / _CLAIM, os.O_RDONLY | os.O_CREAT | os.O_CLOEXEC, 0o644)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return True
    finally:
        os.close(descriptor)
    return False


# ---- memory ----------------------------------------------------------------------------------------


def _room(pool: JobPool, held: tuple[int, ...]) -> int:
    """Return the bytes that are free when every running job has come to need what it may."""
    return free_memory() - sum(max(0, pool.memory - _resident(process)) for process in held)


def _resident(process: int) -> int:
    pages = 0
    for one in _family(process):
        with suppress(OSError, IndexError):
            pages += int(Path(f"/proc/{one}/statm").read_text(encoding="utf-8").split()[1])
    return pages * os.sysconf("SC_PAGE_SIZE")


def _family(process: int) -> Iterator[int]:
    """Yield *process* and all that descend from it."""
    waiting = [process] if process else []
    while waiting:
        process = waiting.pop()
        yield process
        # It may end at any time.
        with suppress(OSError):
            for thread in Path(f"/proc/{process}/task").iterdir():
                children = (thread / "children").read_text(encoding="utf-8")
                waiting += map(int, children.split())
