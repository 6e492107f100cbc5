"""The wheelhouse in the hands of people who do not have lockbuild: pip and uv, without a network."""

from __future__ import annotations

import os
import subprocess
from typing import TYPE_CHECKING

import pytest

from lockbuild.process import clean_env, run
from lockbuild.resolvers._configured import find_uv

if TYPE_CHECKING:
    from pathlib import Path

    from lockbuild.process import Completed
    from tests.end_to_end.conftest import Filled

_PROOF = "import greeting, markupsafe._speedups, native_sum; print(greeting.TEXT, native_sum.add(2, 3))"


@pytest.fixture
def venv(tmp_path: Path, target_python: str) -> Path:
    """An empty virtual environment."""
    words = (target_python, "-m", "venv", "--without-pip", tmp_path / "venv")
    subprocess.run(words, check=True, env=_env(tmp_path))
    return tmp_path / "venv"


def _env(home: Path) -> dict[str, str]:
    """An environment in which neither pip nor uv finds anything of this user's."""
    return clean_env(
        HOME=str(home), PIP_CONFIG_FILE=os.devnull, UV_NO_CONFIG="1", UV_PYTHON_DOWNLOADS="never"
    )


def _install(filled: Filled, venv: Path, *words: str | Path, no_network: tuple[str, ...]) -> Completed:
    return run([*no_network, *words], env=_env(venv.parent), cwd=filled.project.root)


def _works(venv: Path) -> bool:
    return run([venv / "bin/python", "-c", _PROOF]).stdout == "&lt;hello&gt; 5\n"


def test_pip_installs_with_hashes_from_the_wheelhouse(
    filled: Filled, venv: Path, no_network: tuple[str, ...]
) -> None:
    # The pip that came with Python.
    subprocess.run([venv / "bin/python", "-m", "ensurepip", "--default-pip"], check=True, env=_env(venv))
    words = ("install", "--no-index", "--find-links", "wheels/small", "--require-hashes")
    requirements = filled.project.stack / "requirements.txt"
    ended = _install(filled, venv, venv / "bin/pip", *words, "-r", requirements, no_network=no_network)
    assert ended.returncode == 0, ended.stderr
    assert _works(venv)


def test_pip_installs_from_pylock(filled: Filled, venv: Path, no_network: tuple[str, ...]) -> None:
    # The pip that Python brings may be older than the standard; the locked one is not.
    (pip,) = filled.project.context.glob("tools/pip-*.whl")
    words = (venv / "bin/python", pip / "pip", "install", "--no-index", "-r")
    pylock = filled.project.stack / "pylock.toml"
    ended = _install(filled, venv, *words, pylock, no_network=no_network)
    assert ended.returncode == 0, ended.stderr
    assert _works(venv)


def test_uv_syncs_an_environment_with_pylock(
    filled: Filled, venv: Path, no_network: tuple[str, ...]
) -> None:
    words = (find_uv(), "pip", "sync", "--offline", "--no-index", "--python", venv / "bin/python")
    pylock = filled.project.stack / "pylock.toml"
    ended = _install(filled, venv, *words, pylock, no_network=no_network)
    assert ended.returncode == 0, ended.stderr
    assert _works(venv)


def test_uv_installs_with_hashes_from_the_wheelhouse(
    filled: Filled, venv: Path, no_network: tuple[str, ...]
) -> None:
    words = (find_uv(), "pip", "install", "--offline", "--no-index", "--find-links", "wheels/small")
    chosen = ("--require-hashes", "--python", venv / "bin/python")
    requirements = filled.project.stack / "requirements.txt"
    ended = _install(filled, venv, *words, *chosen, "-r", requirements, no_network=no_network)
    assert ended.returncode == 0, ended.stderr
    assert _works(venv)
