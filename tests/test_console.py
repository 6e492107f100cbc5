"""How far builds have come, as a log and a terminal show it."""

from __future__ import annotations

from typing import TYPE_CHECKING

from lockbuild.cli.console import Console

if TYPE_CHECKING:
    import pytest


def shown(capsys: pytest.CaptureFixture[str], *, total: int | None, last: int) -> list[str]:
    with Console().phase("building", total=1, unit="builds") as phase:
        for done in range(1, last + 1):
            phase.steps("mmcv-full-1.7.2", done, total)
        phase.ended("mmcv-full-1.7.2")
    return capsys.readouterr().err.splitlines()[1:]


def test_a_log_says_each_tenth_of_the_steps(capsys: pytest.CaptureFixture[str]) -> None:
    lines = shown(capsys, total=129, last=129)
    assert lines[4] == "  mmcv-full-1.7.2: 65 of 129 steps"
    assert len(lines) == 10


def test_a_log_says_each_tenth_step_where_their_number_is_not_known(
    capsys: pytest.CaptureFixture[str],
) -> None:
    assert shown(capsys, total=None, last=25) == [
        "  mmcv-full-1.7.2: 10 steps",
        "  mmcv-full-1.7.2: 20 steps",
    ]


def test_a_log_says_of_bytes_alone_that_their_number_is_not_known(
    capsys: pytest.CaptureFixture[str],
) -> None:
    for name, unit in (("fetching", "bytes"), ("building the image", "steps")):
        with Console().phase(name, total=None, unit=unit):
            pass
    assert capsys.readouterr().err == "fetching: size not known beforehand\nbuilding the image\n"


def test_quiet_says_nothing(capsys: pytest.CaptureFixture[str]) -> None:
    with Console(quiet=True).phase("building", total=1, unit="builds") as phase:
        phase.steps("mmcv-full-1.7.2", 129, 129)
    assert capsys.readouterr().err == ""


def test_a_terminal_shows_a_bar_for_each_build_that_has_steps(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TERM", "xterm")
    monkeypatch.setenv("COLUMNS", "200")
    monkeypatch.setattr("sys.stderr.isatty", lambda: True)
    with Console().phase("building", total=2, unit="builds") as phase:
        phase.steps("mmcv-full-1.7.2", 57, 129)
    assert " 57/129" in capsys.readouterr().err
