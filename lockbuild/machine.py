"""What this machine has, and cgroups leave of it to this process: cores and memory."""

from __future__ import annotations

import math
import os
import re
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator

__all__ = ["cores", "free_memory"]

_ROOT = Path("/")
_UNLIMITED = 1 << 60  # bytes, where the kernel tells nothing


def cores(root: Path = _ROOT) -> int:
    """Return how many processes can run at once: on the cores that this one may use, and in the time of cores that cgroups give it.

    Args:
        root: Where `proc` and `sys` are.
    """
    allowed = len(os.sched_getaffinity(0))
    return max(1, min((allowed, *map(math.ceil, _shares_of_time(root)))))


def free_memory(root: Path = _ROOT) -> int:
    """Return the bytes that new processes may take: what the kernel has, and what cgroups leave of it.

    Args:
        root: Where `proc` and `sys` are.
    """
    meminfo = (root / "proc/meminfo").read_text(encoding="utf-8")
    found = re.search(r"^MemAvailable:\s+(\d+) kB", meminfo, re.MULTILINE)
    free = int(found[1]) * 1024 if found else _UNLIMITED
    return max(0, min((free, *_left_by_cgroups(root))))


def _shares_of_time(root: Path) -> Iterator[float]:
    """Yield how many cores' time each cgroup around this process gives, where it limits that."""
    for folder, first in _cgroups(root, "cpu"):
        with suppress(OSError, ValueError, ZeroDivisionError):
            # In microseconds. Without a limit the quota is -1, or `max`.
            files = ("cpu.cfs_quota_us", "cpu.cfs_period_us") if first else ("cpu.max",)
            quota, period = map(int, " ".join(_text(folder / name) for name in files).split())
            if quota > 0:
                yield quota / period


def _left_by_cgroups(root: Path) -> Iterator[int]:
    """Yield what each cgroup around this process leaves of the memory that it limits."""
    for folder, first in _cgroups(root, "memory"):
        # Above `high`, processes are not refused memory, but slowed down until they hardly run.
        limits = ("memory.limit_in_bytes",) if first else ("memory.max", "memory.high")
        for limit in limits:
            with suppress(OSError, ValueError):
                yield int(_text(folder / limit)) - _used(folder, first=first)


def _used(folder: Path, *, first: bool) -> int:
    used, reclaimable = (
        ("memory.usage_in_bytes", "total_inactive_file")
        if first
        else ("memory.current", "inactive_file")
    )
    # Cached files count as used until somebody else needs the memory.
    cached = re.search(rf"^{reclaimable} (\d+)$", _text(folder / "memory.stat"), re.MULTILINE)
    return int(_text(folder / used)) - (int(cached[1]) if cached else 0)


def _cgroups(root: Path, controller: str) -> Iterator[tuple[Path, bool]]:
    """Yield the folder of each cgroup around this process that may limit it, and whether it is of version 1: cgroups(7)."""
    with suppress(OSError):
        for line in _text(root / "proc/self/cgroup").splitlines():
            _, controllers, place = line.split(":", 2)
            top = root / "sys/fs/cgroup"
            if controllers:
                if controller not in controllers.split(","):
                    continue
                top /= controller
            inner = Path(place.lstrip("/"))
            for folder in (top / inner, *(top / outer for outer in inner.parents)):
                yield folder, bool(controllers)


def _text(file: Path) -> str:
    return file.read_text(encoding="utf-8")
