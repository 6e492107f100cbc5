"""How far a build has come, as its log tells while it grows: ninja's, CMake's and setuptools' own words."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from os import stat_result
    from pathlib import Path

__all__ = ["Follower", "Steps", "read_steps"]

_MOST = 1 << 20
# `[12/129] nvcc …`, which Cython writes alike; `[ 45%] Building CXX object …`; `x86_64-linux-gnu-gcc … -c a.c -o a.o`.
_STEP = re.compile(
    rb"^[ \t]*(?:\[(?P<done>\d+)/(?P<total>\d+)\] (?!Cythonizing)|\[ *(?P<percent>\d+)%\] "
    rb"|(?P<compiled>(?:\S*/)?(?:[\w.]+-)*(?:nvcc|gcc|g\+\+|cc|c\+\+|clang|clang\+\+)(?:-[\d.]+)?(?:[ \t].*)?[ \t]-c[ \t]))",
    re.MULTILINE,
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Steps:
    """Steps of a build."""

    done: int
    total: int | None = None
    """None where the build does not tell."""


def read_steps(text: bytes, before: Steps | None = None) -> Steps | None:
    """Return what a piece of a log says last, or *before* where it says nothing.

    Compilers that are called one after another, with no word about how many there will be, are counted.
    """
    steps = before
    for found in _STEP.finditer(text):
        if found["total"]:
            steps = Steps(done=int(found["done"]), total=int(found["total"]))
        elif found["percent"]:
            steps = Steps(done=int(found["percent"]), total=100)
        elif steps is None or steps.total is None:
            steps = Steps(done=(steps.done if steps else 0) + 1)
    return steps


class Follower:
    """Reads a log as it grows.

    Args:
        log: The file; one that is there already is of a former build until it changes.
    """

    def __init__(self, log: Path) -> None:
        self._log = log
        self._former = _state(log)
        self._offset = 0
        self._steps: Steps | None = None

    def look(self) -> Steps | None:
        """Return how far the build has come; none where that is as it was."""
        state = _state(self._log)
        if state is None or _same(state, self._former):
            return None
        self._former = None
        if state.st_size < self._offset:
            self._offset, self._steps = 0, None
        if state.st_size > self._offset + _MOST:
            self._offset = state.st_size - _MOST
        with self._log.open("rb") as stream:
            stream.seek(self._offset)
            text = stream.read(_MOST)
        whole = text[: text.rfind(b"\n") + 1]
        self._offset += len(whole)
        steps = read_steps(whole, self._steps)
        changed = steps != self._steps
        self._steps = steps
        return steps if changed else None


def _state(file: Path) -> stat_result | None:
    try:
        return file.stat()
    except FileNotFoundError:
        return None


def _same(one: stat_result, other: stat_result | None) -> bool:
    return other is not None and (one.st_mtime_ns, one.st_size, one.st_ino) == (
        other.st_mtime_ns,
        other.st_size,
        other.st_ino,
    )
