"""Progress and notes on standard error: bars on a terminal, a line per step in a log."""

from __future__ import annotations

import os
import sys
import threading
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import click

if TYPE_CHECKING:
    from collections.abc import Iterator

__all__ = ["Console"]


class _Lines:
    """A phase in a log: its steps, a line each."""

    def __init__(self, *, quiet: bool) -> None:
        self._quiet = quiet
        self._lock = threading.Lock()
        self._tenths: dict[str, int] = {}

    def advance(self, amount: int) -> None:
        """Take no notice: a log shows steps, not shares."""

    def line(self, text: str) -> None:
        """Print the step."""
        if not self._quiet:
            with self._lock:
                click.echo(f"  {text}", err=True)

    def steps(self, part: str, done: int, total: int | None) -> None:
        """Print how far *part* has come, at most ten times on its way."""
        tenth = done * 10 // total if total else done // 10
        if tenth != self._tenths.get(part, 0):
            self._tenths[part] = tenth
            self.line(f"{part}: {_steps(done, total)}")

    def ended(self, part: str) -> None:
        """Forget how far *part* had come."""
        self._tenths.pop(part, None)


class _Bar:
    """A phase on a terminal: one bar, and below it one for each part that has steps of its own."""

    def __init__(self, bar: Any, task: Any, *, verbose: bool) -> None:  # noqa: ANN401 - rich's types
        self._bar = bar
        self._task = task
        self._verbose = verbose
        self._parts: dict[str, Any] = {}

    def advance(self, amount: int) -> None:
        """Move the bar."""
        self._bar.advance(self._task, amount)

    def line(self, text: str) -> None:
        """Show the step: beside the bar, or above it when everything is wanted."""
        if self._verbose:
            self._bar.console.print(f"  {text}", highlight=False, markup=False)
        else:
            self._bar.update(self._task, step=text)

    def steps(self, part: str, done: int, total: int | None) -> None:
        """Show how far *part* has come."""
        if part not in self._parts:
            self._parts[part] = self._bar.add_task(f"  {part}", total=total, unit="steps", step="")
        self._bar.update(self._parts[part], completed=done, total=total)

    def ended(self, part: str) -> None:
        """Take the bar of *part* away."""
        if part in self._parts:
            self._bar.remove_task(self._parts.pop(part))


@dataclass(frozen=True, slots=True, kw_only=True)
class Console:
    """Shows what long work tells. A `lockbuild.progress.Progress`."""

    quiet: bool = False
    verbose: bool = False

    def note(self, text: str) -> None:
        """Say *text*, unless nothing but results is wanted."""
        if not self.quiet:
            click.echo(text, err=True)

    def warn(self, text: str) -> None:
        """Say that something wants attention."""
        click.echo(f"{click.style('warning:', fg='yellow', bold=True)} {text}", err=True)

    @contextmanager
    def phase(self, name: str, *, total: int | None, unit: str) -> Iterator[_Lines | _Bar]:
        """Begin a phase: a bar on a terminal, else lines."""
        terminal = sys.stderr.isatty() and os.environ.get("TERM") != "dumb"
        if self.quiet or not terminal:
            if not self.quiet:
                amount = _amount(total, unit)
                click.echo(f"{name}: {amount}" if amount else name, err=True)
            yield _Lines(quiet=self.quiet)
            return
        with _bar(unit) as bar:
            task = bar.add_task(name, total=total, step="", unit="" if unit == "bytes" else unit)
            yield _Bar(bar, task, verbose=self.verbose)


def _bar(unit: str) -> Any:  # noqa: ANN401 - rich is imported only where a bar is shown
    from rich.console import Console as RichConsole  # noqa: PLC0415
    from rich.progress import (  # noqa: PLC0415
        BarColumn,
        DownloadColumn,
        MofNCompleteColumn,
        Progress,
        TextColumn,
        TimeElapsedColumn,
        TimeRemainingColumn,
        TransferSpeedColumn,
    )

    amounts = (
        [DownloadColumn(), TransferSpeedColumn(), TimeRemainingColumn()]
        if unit == "bytes"
        else [MofNCompleteColumn(), TextColumn("{task.fields[unit]}"), TimeElapsedColumn()]
    )
    return Progress(
        TextColumn("{task.description}"),
        BarColumn(bar_width=24),
        *amounts,
        TextColumn("{task.fields[step]}", markup=False),
        console=RichConsole(stderr=True),
    )


def _steps(done: int, total: int | None) -> str:
    return f"{done} steps" if total is None else f"{done} of {total} steps"


def _amount(total: int | None, unit: str) -> str:
    if total is None:
        return "size not known beforehand" if unit == "bytes" else ""
    if unit == "bytes":
        return f"{total / 1_000_000:.1f} MB"
    return f"{total} {unit if total != 1 else unit.removesuffix('s')}"
