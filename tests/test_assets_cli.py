"""Open parts of a lock on the command line: who goes on without them, and who does not."""

from __future__ import annotations

import tomllib
from typing import TYPE_CHECKING, Any

import pytest

from lockbuild.documents import toml_text
from lockbuild.folders import STACK_FILE
from tests.test_cli import builder, run, world  # noqa: F401 - fixtures

if TYPE_CHECKING:
    from pathlib import Path

    from tests.test_cli import Run
    from tests.worlds import World


@pytest.fixture
def weights(tmp_path: Path, world: World) -> Path:
    """Where the stack's only asset can be had, once it is there."""
    file = tmp_path / "drive" / "weights.pth"
    declare(
        world,
        {
            "name": "weights",
            "path": "/app/w",
            "url": [file.as_uri()],
            "sha256": "on-first-fetch",
            "license": "MIT",
        },
    )
    return file


def declare(world: World, *assets: dict[str, Any]) -> None:
    document = tomllib.loads(world.folder.read_stack_text())
    document["asset"] = list(assets)
    (world.folder.path / STACK_FILE).write_text(toml_text(document), encoding="utf-8")


@pytest.mark.usefixtures("weights")
def test_a_lock_with_open_parts_is_written_and_ends_with_a_table(run: Run) -> None:
    ended = run("resolve", "small")
    assert ended.code == 4
    assert "the lock is written, but 1 of its parts is open" in ended.err
    assert "asset weights  file://" in ended.err
    assert "there is no file" in ended.err
    assert "`--allow-open`" in ended.err
    assert run("resolve", "small", "--allow-open").code == 0


@pytest.mark.usefixtures("weights")
def test_open_parts_may_be_accepted(run: Run) -> None:
    ended = run("resolve", "small", "--allow-open", "--json")
    assert ended.code == 0
    (part,) = ended.json["open"]
    assert (part["kind"], part["name"]) == ("asset", "weights")


@pytest.mark.usefixtures("weights")
def test_fetch_and_build_go_on_without_what_is_open(run: Run) -> None:
    run("resolve", "small")
    fetched = run("fetch", "small")
    assert (fetched.code, "not fetched, as the lock is open: asset weights" in fetched.err) == (0, True)
    assert run("build", "small").code == 0


@pytest.mark.usefixtures("weights")
@pytest.mark.parametrize("words", [("render", "--context"), ("image",)])
def test_no_image_is_made_of_an_open_lock(
    run: Run, words: tuple[str, ...], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("lockbuild.image.engine.find_engine", lambda: None)
    run("resolve", "small")
    ended = run(*words, "small")
    assert ended.code == 3
    assert "is open, which no image can be made of: asset weights" in ended.err


@pytest.mark.usefixtures("weights")
def test_an_open_lock_is_rendered_and_what_is_open_is_said(run: Run) -> None:
    run("resolve", "small")
    ended = run("render", "small")
    assert ended.code == 0
    assert "no image can be made yet, as the lock is open: asset weights" in ended.err


@pytest.mark.usefixtures("weights")
def test_audit_names_what_is_open(run: Run) -> None:
    run("resolve", "small")
    ended = run("audit", "small")
    assert ended.code == 9
    assert "open: asset weights: file://" in ended.out


def test_audit_warns_of_what_nobody_told_the_hash_of(run: Run, weights: Path) -> None:
    weights.parent.mkdir()
    weights.write_bytes(b"weights")
    assert run("resolve", "small").code == 0
    assert run("fetch", "small").code == 0
    assert "on-first-fetch: weights: nobody told its hash beforehand" in run("audit", "small").out


def test_a_pin_is_forgotten_by_name(run: Run, weights: Path) -> None:
    weights.parent.mkdir()
    weights.write_bytes(b"weights")
    run("resolve", "small")
    weights.write_bytes(b"others")
    assert "weights (asset): " in run("resolve", "small", "--repin", "weights").out
