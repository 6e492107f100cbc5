"""The gate at the command line: what it prints, and what stays as it was when it refuses."""

from __future__ import annotations

from typing import TYPE_CHECKING

from lockbuild.gate import CHECKS
from tests.fakes import ScriptedBuilder, giving, wheel_files
from tests.test_cli import builder, run, world  # noqa: F401 - fixtures
from tests.test_gate import TAG, importing
from tests.wheels import make_wheel

if TYPE_CHECKING:
    from pathlib import Path

    from tests.test_cli import Run
    from tests.worlds import World

GAMMA = f"gamma-2.0-{TAG}.whl"


def test_each_wheel_has_a_line_for_each_rule(run: Run) -> None:
    run("build", "small")
    ended = run("gate", "small")
    assert ended.code == 0
    lines = ended.out.splitlines()
    assert [line for line in lines if not line.startswith(" ")] == [f"delta-0.1-{TAG}.whl", GAMMA]
    assert "  ok          imports        its modules import in the image's root file system" in ended.out
    assert len(lines) == 2 + 2 * len(CHECKS)


def test_json_of_a_judgement(run: Run, tmp_path: Path) -> None:
    run("build", "small")
    foreign = make_wheel(
        tmp_path, "gamma", "2.0", tag="cp38-cp38-linux_x86_64", files=wheel_files("gamma")
    )
    ended = run("gate", "small", str(foreign), "--json")
    assert ended.code == 6
    (one,) = ended.json
    assert one["wheel"] == foreign.name
    (finding,) = one["findings"]
    assert (finding["check"], finding["level"]) == ("python-abi", "error")
    assert finding["message"] == (
        "found tag cp38-cp38-linux_x86_64, expected one of Python 3.11 on linux_x86_64"
    )
    assert "imports" in one["passed"]


def test_without_wheels_there_is_nothing_to_judge(run: Run) -> None:
    ended = run("gate", "small")
    assert ended.code == 2
    assert "the store has no wheel that stacks/small builds" in ended.err


def test_wheels_that_are_not_built_yet_are_named(run: Run) -> None:
    run("build", "small", "gamma")
    ended = run("gate", "small")
    assert ended.code == 0
    assert "warning: not built, and so not judged: delta; `lockbuild build stacks/small`" in ended.err
    run("build", "small")
    assert "not judged" not in run("gate", "small").err


def test_a_refused_wheel_leaves_the_wheelhouse_as_it_was(
    world: World, run: Run, builder: ScriptedBuilder
) -> None:
    builder.recipes = {"gate-gamma": importing(("gamma", "ImportError: libx.so.1: cannot open"))}
    ended = run("build", "small")
    assert ended.code == 6
    assert not world.folder.wheels.exists()
    assert f"error: 1 wheel may not enter the wheelhouse: {GAMMA}" in ended.err
    assert f"  {GAMMA}: gamma: imports: ImportError: libx.so.1: cannot open" in ended.err
    assert "hint: imports: add what is missing to `build.requires`" in ended.err


def test_a_build_with_nothing_to_do_judges_nothing(run: Run, builder: ScriptedBuilder) -> None:
    run("build", "small")
    tried = builder.names.count("gate-gamma")
    ended = run("build", "small")
    assert "judging" not in ended.err
    assert builder.names.count("gate-gamma") == tried == 1


def test_packages_alone_are_not_judged(run: Run, builder: ScriptedBuilder) -> None:
    builder.recipes = {"gamma-2.0": giving(("gamma", "2.0", TAG, wheel_files("gamma")))}
    assert run("build", "small", "gamma").code == 0
    assert not [name for name in builder.names if name.startswith("gate-")]


def test_a_file_that_is_not_there_is_a_wrong_use(run: Run) -> None:
    ended = run("gate", "small", "nowhere.whl")
    assert ended.code == 2
    assert "nowhere.whl" in ended.err
