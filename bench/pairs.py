"""Timing two commands against one another, in turn, and the table of what came out."""

from __future__ import annotations

import os
import shlex
import statistics
import subprocess
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from pathlib import Path

__all__ = ["Absent", "Command", "Result", "measure", "table"]


class Absent(Exception):
    """A case cannot run on this machine, for the reason given."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Command:
    """One side of a comparison: programs run one after the other."""

    programs: tuple[tuple[str, ...], ...]
    cwd: Path
    before: Callable[[], None] = lambda: None
    """Sets things up before every run; its time is not counted."""
    shown: str = ""
    """As the table has it; the programs as typed when empty."""

    def __str__(self) -> str:
        return self.shown or " && ".join(shlex.join(program) for program in self.programs)


@dataclass(frozen=True, slots=True, kw_only=True)
class Result:
    """What comparing gave."""

    title: str
    ours: Command | None = None
    peer: Command | None = None
    goal: float | None = None
    """The median ratio that ours is meant to stay below."""
    pairs: tuple[tuple[float, float], ...] = ()
    """Seconds of ours and of the peer's, pair by pair."""
    note: str = ""
    bounded: bool = False
    """Whether the peer was stopped at the time limit: the ratios are then upper bounds."""

    @property
    def ratios(self) -> tuple[float, ...]:
        """Ours divided by the peer's, pair by pair."""
        return tuple(ours / peer for ours, peer in self.pairs)

    @property
    def verdict(self) -> str:
        """`pass` or `miss`; `not run` where nothing was measured."""
        if not self.pairs or self.goal is None:
            return "not run"
        return "pass" if statistics.median(self.ratios) <= self.goal else "miss"


def measure(
    title: str,
    ours: Command,
    peer: Command,
    *,
    goal: float,
    pairs: int,
    limit_s: float = 600,
    note: str = "",
) -> Result:
    """Run both commands in turn, after one run of each that is not counted, and return the times.

    A peer that takes longer than *limit_s* is stopped and counts with that time.

    Raises:
        Absent: A command fails; the message holds its last lines.
    """
    _seconds(ours, limit_s)
    bounded = _seconds(peer, limit_s) >= limit_s
    found = []
    for number in range(pairs):
        # Who goes first changes from pair to pair, so that neither always finds the caches of the other.
        if number % 2:
            second = _seconds(peer, limit_s)
            first = _seconds(ours, limit_s)
        else:
            first = _seconds(ours, limit_s)
            second = _seconds(peer, limit_s)
        bounded = bounded or second >= limit_s
        found.append((first, second))
    return Result(
        title=title, ours=ours, peer=peer, goal=goal, pairs=tuple(found), note=note, bounded=bounded
    )


def _seconds(command: Command, limit_s: float) -> float:
    command.before()
    env = os.environ | {"NO_COLOR": "1"}
    began = time.perf_counter()
    for program in command.programs:
        try:
            ended = subprocess.run(
                program,
                cwd=command.cwd,
                env=env,
                stdin=subprocess.DEVNULL,
                capture_output=True,
                text=True,
                check=False,
                timeout=max(0.1, limit_s - (time.perf_counter() - began)),
            )
        except subprocess.TimeoutExpired:
            return limit_s
        except OSError as error:
            raise Absent(f"`{program[0]}` cannot be started: {error.strerror}") from error
        if ended.returncode != 0:
            said = (ended.stderr or ended.stdout).strip().splitlines()[-3:]
            raise Absent(
                f"`{shlex.join(program[:4])} …` ended with {ended.returncode}: {' / '.join(said)}"
            )
    return time.perf_counter() - began


def table(results: Sequence[Result]) -> str:
    """Return the table and, below it, the commands of both sides."""
    heads = ("case", "ours", "peer", "median", "min", "max", "pairs", "goal", "verdict")
    rows = [heads, *(_row(result) for result in results)]
    widths = [max(len(row[column]) for row in rows) for column in range(len(heads))]
    rows.insert(1, tuple("-" * width for width in widths))
    lines = [
        "  ".join(
            cell.ljust(width) if column == 0 else cell.rjust(width)
            for column, (cell, width) in enumerate(zip(row, widths, strict=True))
        )
        for row in rows
    ]
    lines += ["", "ours and peer: median seconds; median, min, max: of ours / peer, pair by pair", ""]
    for result in results:
        lines.append(result.title)
        lines += [f"  ours  {result.ours}", f"  peer  {result.peer}"] if result.ours else []
        lines += [f"  note  {result.note}"] if result.note else []
    return "\n".join(lines)


def _row(result: Result) -> tuple[str, ...]:
    goal = "" if result.goal is None else f"<= {result.goal:g}"
    if not result.pairs:
        return (result.title, "", "", "", "", "", "", goal, result.verdict)
    ours, peer = (statistics.median(side) for side in zip(*result.pairs, strict=True))
    bound = "<" if result.bounded else ""
    ratios = result.ratios
    return (
        result.title,
        f"{ours:.3f}",
        f"{'>' if result.bounded else ''}{peer:.3f}",
        f"{bound}{statistics.median(ratios):.3f}",
        f"{bound}{min(ratios):.3f}",
        f"{bound}{max(ratios):.3f}",
        str(len(result.pairs)),
        goal,
        result.verdict,
    )
