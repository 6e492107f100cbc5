"""Progress that nobody sees."""

from __future__ import annotations

from typing import TYPE_CHECKING

from lockbuild.progress import Silent

if TYPE_CHECKING:
    import pytest

    from lockbuild.progress import Progress


def test_silent_phase_shows_nothing(capsys: pytest.CaptureFixture[str]) -> None:
    progress: Progress = Silent()
    with progress.phase("fetching", total=None, unit="bytes") as phase:
        phase.advance(10)
        phase.advance(-10)
        phase.line("a step")
        phase.steps("a build", 1, 2)
        phase.ended("a build")
    shown = capsys.readouterr()
    assert (shown.out, shown.err) == ("", "")
