"""Cells that cannot be, at the command line: refused before anything is written or built."""

from __future__ import annotations

import tomllib
from typing import TYPE_CHECKING, Any

import pytest

from lockbuild.documents import toml_text
from lockbuild.folders import STACK_FILE
from tests.test_cells import EARLY, document
from tests.test_cli import builder, run, world  # noqa: F401 - fixtures
from tests.wheels import make_wheel

if TYPE_CHECKING:
    from pathlib import Path

    from tests.fakes import ScriptedBuilder
    from tests.test_cli import Run
    from tests.worlds import World


def change(world: World, **tables: Any) -> None:
    """Write the stack file with keys of some of its tables replaced."""
    content = tomllib.loads(world.folder.read_stack_text())
    for name, table in tables.items():
        content[name] = content.get(name, {}) | table
    (world.folder.path / STACK_FILE).write_text(toml_text(content), encoding="utf-8")


def texts(folder: Path) -> dict[str, str]:
    return {path.name: path.read_text() for path in folder.iterdir() if path.is_file()}


@pytest.mark.parametrize("case", EARLY)
def test_what_the_stack_file_rules_out_is_found_without_a_network(
    run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, case: str
) -> None:
    monkeypatch.setenv("UV_DEFAULT_INDEX", "http://127.0.0.1:9/simple")
    changes, check = EARLY[case]
    folder = tmp_path / "stacks" / "cell"
    folder.mkdir()
    (folder / STACK_FILE).write_text(toml_text(document(**changes)))
    ended = run("resolve", "cell")
    assert ended.code == 4
    assert "what is to go together cannot; nothing is written" in ended.err
    assert f"  {check}: " in ended.err
    assert list(texts(folder)) == [STACK_FILE]


def torch_from_wheels(world: World, *, torch: str, cuda: str, nvcc: str) -> None:
    """Let the stack need a torch and an nvcc of the index, whose versions only resolving tells."""
    change(
        world,
        target={"cuda": nvcc},
        toolchain={"nvcc": {"wheels": ["nvidia-cuda-nvcc"]}},
    )
    # What decides about Debian packages is as it was locked; Python packages are asked for anew.
    world.relock(world.lock)
    change(world, python={"requires": ["alpha>=1", "torch"]})
    runtime = f"nvidia-cuda-runtime-cu{cuda.partition('.')[0]}"
    make_wheel(world.files, runtime, f"{cuda}.99")
    make_wheel(world.files, "alpha", "1.2", requires=["beta", "torch"])
    make_wheel(world.files, "torch", torch, requires=[runtime])
    make_wheel(world.files, "nvidia-cuda-nvcc", f"{nvcc}.88")


def test_resolver_s_answer_that_cannot_be_is_not_written(run: Run, world: World) -> None:
    torch_from_wheels(world, torch="2.0.1", cuda="11.7", nvcc="13.0")
    before = texts(world.folder.path)
    ended = run("resolve", "small")
    assert ended.code == 4
    assert (
        "cuda-major: torch 2.0.1 is CUDA 11.7 (`nvidia-cuda-runtime-cu11` 11.7.99 in pylock.toml); "
        "nvcc is 13.0 (`nvidia-cuda-nvcc` 13.0.88 in pylock.build.toml)"
    ) in ended.err
    assert texts(world.folder.path) == before


def test_what_may_not_be_meant_is_a_warning(run: Run, world: World) -> None:
    torch_from_wheels(world, torch="2.4.1", cuda="12.1", nvcc="12.4")
    ended = run("resolve", "small")
    assert ended.code == 0
    assert "warning: cuda-minor: torch 2.4.1 is CUDA 12.1 (" in ended.err
    assert "nvidia-cuda-nvcc" in world.folder.path.joinpath("pylock.build.toml").read_text()
    assert "nvidia-cuda-nvcc" not in world.folder.path.joinpath("pylock.toml").read_text()
    assert run("resolve", "small").err.count("cuda-minor") == 1


def test_warnings_are_in_the_json(run: Run, world: World) -> None:
    torch_from_wheels(world, torch="2.4.1", cuda="12.1", nvcc="12.4")
    (finding,) = run("resolve", "small", "--json").json["findings"]
    assert (finding["check"], finding["level"], finding["subject"]) == ("cuda-minor", "warning", "torch")


@pytest.mark.parametrize("words", [["build"], ["render", "--context"]], ids=" ".join)
def test_lock_that_cannot_be_is_not_built(
    run: Run, world: World, builder: ScriptedBuilder, words: list[str]
) -> None:
    change(world, target={"glibc": "2.39"})
    world.relock(world.lock)
    ended = run(*words, "small")
    assert ended.code == 4
    assert "glibc: `target.glibc` is 2.39; the image's is 2.36 (`libc6` 2.36-9+deb12u10" in ended.err
    assert builder.tasks == []


def test_audit_shows_what_cannot_be(run: Run, world: World) -> None:
    change(world, target={"glibc": "2.39"})
    world.relock(world.lock)
    ended = run("audit", "small", "--json")
    assert ended.code == 9
    assert [f["subject"] for f in ended.json["findings"] if f["check"] == "glibc"] == ["target.glibc"]
    assert "cuda-major" in ended.json["passed"]
