"""What a test needs of the machine: absent, the test is skipped with the reason; in CI it fails."""

from __future__ import annotations

import os

import pytest

from lockbuild.process import find_tool, install_hint


def need(*tools: str) -> None:
    """Skip the running test when one of *tools* is not on this machine; fail it in CI."""
    for tool in tools:
        if find_tool(tool) is None:
            missing(f"`{tool}` is not installed: {install_hint(tool)}")


def missing(reason: str) -> None:
    """Skip the running test for *reason*; in CI, where everything must run, fail it."""
    if os.environ.get("CI") == "true":
        pytest.fail(reason)
    pytest.skip(reason)
