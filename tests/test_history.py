"""What a store remembers of builds, and that damage to it is no fault."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

import pytest

from lockbuild.digest import store_path
from lockbuild.store.history import History, Verdict
from tests.values import sha

if TYPE_CHECKING:
    from pathlib import Path

PATH = store_path(["an object"], "gamma-2.0")
VERDICT = Verdict(
    name="gamma-2.0",
    path=PATH,
    sha256=sha("bytes"),
    identical=False,
    differences=("a.so: other bytes",),
    seconds=12.5,
    when="2026-01-31T23:59:59Z",
    where="sandbox, Linux 6.1 x86_64",
)


@pytest.fixture
def history(tmp_path: Path) -> History:
    return History(tmp_path)


def test_the_newest_duration_counts(history: History) -> None:
    history.took("gamma-2.0", 5)
    history.took("gamma-2.0", 7.25)
    assert history.durations(["gamma-2.0", "delta-0.1"]) == {"gamma-2.0": 7.2}


def test_a_verdict_comes_back_as_one_that_was_kept(history: History) -> None:
    history.keep(VERDICT)
    assert history.verdict(PATH, VERDICT.sha256) == replace(VERDICT, kept=True)


def test_a_verdict_of_other_bytes_is_none(history: History) -> None:
    history.keep(VERDICT)
    assert history.verdict(PATH, sha("others")) is None


def test_a_verdict_can_be_forgotten(history: History) -> None:
    history.keep(VERDICT)
    history.forget(PATH)
    history.forget(PATH)
    assert history.verdict(PATH, VERDICT.sha256) is None


@pytest.mark.parametrize("text", ["", "{", "[]", "{}", '{"schema": 2}', '{"schema": 1}', "\xff"])
def test_what_cannot_be_read_was_never_there(history: History, tmp_path: Path, text: str) -> None:
    history.keep(VERDICT)
    history.took("gamma-2.0", 5)
    for file in tmp_path.glob("*/*.json"):
        file.write_text(text, encoding="latin-1")
    assert history.verdict(PATH, VERDICT.sha256) is None
    assert history.durations(["gamma-2.0"]) == {}
