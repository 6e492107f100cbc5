"""`make test-gpu` where there is nothing to try: it says so, and is no success."""

from __future__ import annotations

import importlib.util
import subprocess
import sys
from pathlib import Path

import pytest

PROJECT = Path(__file__).resolve().parent.parent


def run(*words: str, python: str = sys.executable) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        ["make", "test-gpu", f"PYTHON={python}", *words],
        cwd=PROJECT,
        capture_output=True,
        text=True,
        check=False,
    )


def test_without_torch_nothing_is_tried() -> None:
    if importlib.util.find_spec("torch"):
        pytest.skip("this Python has torch")
    ended = run()
    assert ended.returncode != 0
    assert f"{sys.executable} has no `torch`" in ended.stderr
    assert "Error 10" in ended.stderr


@pytest.mark.parametrize(
    ("available", "message"),
    [(False, "torch 9.9 sees no GPU: nothing was tried"), (True, "one wheel each was expected of ")],
)
def test_without_gpu_or_wheels_nothing_is_tried(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, available: bool, message: str
) -> None:
    (tmp_path / "torch.py").write_text(
        f"__version__ = '9.9'\nclass cuda:\n    is_available = staticmethod(lambda: {available})\n"
    )
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))
    ended = run(f"WHEELS={tmp_path}")
    assert message in ended.stderr
    assert "Error 10" in ended.stderr


def test_make_test_leaves_it_out() -> None:
    others = ["--ignore-glob=tests/test_*.py", "--ignore=tests/end_to_end", "--ignore=tests/full"]
    command = [sys.executable, "-m", "pytest", "--collect-only", "-q", *others, "tests"]
    ended = subprocess.run(command, cwd=PROJECT, capture_output=True, text=True, check=False)
    assert ended.returncode == pytest.ExitCode.NO_TESTS_COLLECTED, ended.stdout + ended.stderr
