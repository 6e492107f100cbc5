"""Who may import whom: the contracts of pyproject.toml hold, and they catch what they are for."""

from __future__ import annotations

import shutil
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

from tests.conftest import PURE

ROOT = Path(__file__).parents[1]
LINT = "from importlinter.cli import lint_imports_command; lint_imports_command()"


def lint(folder: Path) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-c", LINT, "--no-cache", "--no-logo"],
        cwd=folder,
        capture_output=True,
        text=True,
        check=False,
        timeout=300,
    )


@pytest.fixture
def project(tmp_path: Path) -> Path:
    """Return a copy of the project's package and contracts, to be spoilt."""
    shutil.copytree(
        ROOT / "lockbuild", tmp_path / "lockbuild", ignore=shutil.ignore_patterns("__pycache__")
    )
    shutil.copy(ROOT / "pyproject.toml", tmp_path)
    return tmp_path


def test_layers_hold() -> None:
    ended = lint(ROOT)
    assert ended.returncode == 0, ended.stdout + ended.stderr


@pytest.mark.parametrize(
    ("module", "line", "contract"),
    [
        ("digest.py", "import lockbuild.lock", "imports go down only"),
        (
            "errors.py",
            "from typing import TYPE_CHECKING\nif TYPE_CHECKING:\n    from lockbuild.plan import Plan",
            "imports go down only",
        ),
        ("folders.py", "def late():\n    import lockbuild.settings", "imports go down only"),
        ("store/__init__.py", "import lockbuild.builders", "imports go down only"),
        ("process.py", "import lockbuild.wheels", "imports go down only"),
        ("lock/values.py", "import os", "levels 0 to 2 ask nothing"),
        ("realise.py", "import click", "only the command line talks to people"),
        ("packing.py", "import lockbuild.stack.schema", "only who checks a stack file imports"),
    ],
)
def test_contract_refuses(project: Path, module: str, line: str, contract: str) -> None:
    file = project / "lockbuild" / module
    file.write_text(f"{file.read_text(encoding='utf-8')}\n{line}\n", encoding="utf-8")
    ended = lint(project)
    broken = [text for text in ended.stdout.splitlines() if text.endswith(" BROKEN")]
    assert ended.returncode == 1, ended.stdout
    assert [text for text in broken if text.startswith(contract)], ended.stdout


def test_new_module_must_be_given_a_layer(project: Path) -> None:
    (project / "lockbuild" / "newcomer.py").write_text("", encoding="utf-8")
    ended = lint(project)
    assert ended.returncode == 1
    assert "newcomer" in ended.stdout + ended.stderr


def test_sockets_are_blocked_in_the_tests_of_pure_modules() -> None:
    settings = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))
    contracts = {c["id"]: c for c in settings["tool"]["importlinter"]["contracts"]}
    pure = {name.removeprefix("lockbuild.") for name in contracts["pure"]["source_modules"]}
    lowest = {name for layer in contracts["layers"]["layers"][-3:] for name in layer.split(" : ")}
    assert pure == lowest
    # Some modules are tested with others, and some packages have tests of a part of theirs.
    tests = {path.stem.removeprefix("test_") for path in (ROOT / "tests").glob("test_*.py")}
    assert tests | pure >= PURE
    assert tests & pure <= PURE
