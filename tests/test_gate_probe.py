"""The program that imports modules in the image's Python, run by the Python of the tests."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

from lockbuild import gate

PROGRAM = Path(gate.__file__).with_name("probe.py")


@pytest.fixture
def modules(tmp_path: Path) -> Path:
    texts = {
        "good": "",
        "bad": "raise RuntimeError('not here')",
        "deadly": "import os; os._exit(3)",
        "killed": "import os, signal; os.kill(os.getpid(), signal.SIGKILL)",
        "loud": "print('[1, 2')",
        "leaving": "raise SystemExit(0)",
        "wants_first": "import sys; assert 'good' in sys.modules",
    }
    for name, text in texts.items():
        (tmp_path / f"{name}.py").write_text(text)
    return tmp_path


def faults(folder: Path, *modules: str, first: tuple[str, ...] = ()) -> list[list[str]]:
    report = folder / "report.json"
    command = [sys.executable, str(PROGRAM), str(report), json.dumps(first), json.dumps(modules)]
    subprocess.run(command, check=True, env={"PYTHONPATH": str(folder)}, capture_output=True)
    found: list[list[str]] = json.loads(report.read_text())
    return found


def test_modules_that_import_are_not_named(modules: Path) -> None:
    assert faults(modules, "good", "loud") == []


def test_a_fault_is_told_as_python_tells_it(modules: Path) -> None:
    assert faults(modules, "bad", "good", "nowhere") == [
        ["bad", "RuntimeError: not here"],
        ["nowhere", "ModuleNotFoundError: No module named 'nowhere'"],
    ]


def test_a_module_that_leaves_does_not_hide_the_others(modules: Path) -> None:
    assert faults(modules, "deadly", "bad", "killed", "leaving", "good") == [
        ["deadly", "ended Python with exit code 3"],
        ["bad", "RuntimeError: not here"],
        ["killed", "ended Python with signal 9"],
        ["leaving", "SystemExit: 0"],
    ]


def test_what_comes_first_is_there_for_all(modules: Path) -> None:
    assert faults(modules, "wants_first", "deadly", "wants_first", first=("good",)) == [
        ["deadly", "ended Python with exit code 3"]
    ]


@pytest.mark.parametrize(
    ("first", "fault"),
    [("bad", "RuntimeError: not here"), ("deadly", "ended Python with exit code 3")],
)
def test_what_comes_first_and_fails_is_what_is_told(modules: Path, first: str, fault: str) -> None:
    assert faults(modules, "good", "bad", first=(first,)) == [[first, fault]]
