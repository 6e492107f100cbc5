"""Checking the small stack: builds as the tests script them, verdicts in a real store."""

from __future__ import annotations

import tarfile
from dataclasses import replace
from typing import TYPE_CHECKING

import pytest

from lockbuild.checking import check
from lockbuild.derivation import Build
from lockbuild.digest import sha256_of
from lockbuild.errors import BuildError, UsageError
from lockbuild.lock import BuiltPin, LockedFile
from tests.fakes import NATIVE, RecordingProgress, ScriptedBuilder, failing, giving, wheel_files
from tests.worlds import World, make_world

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from lockbuild.derivation import BuildTask
    from lockbuild.store.history import Verdict
    from tests.fakes import Recipe

EVERYTHING = {"bookworm-runtime", "bookworm-toolchain", "gamma-2.0", "delta-0.1"}


@pytest.fixture
def world(tmp_path: Path) -> Iterator[World]:
    with make_world(tmp_path) as made:
        yield made


@pytest.fixture
def builder(world: World) -> ScriptedBuilder:
    """Build everything, and return who did it: what else it builds is built again."""
    made = ScriptedBuilder()
    world.realise(made)
    made.tasks.clear()
    return made


def differing() -> Recipe:
    """Return a recipe whose wheel has other bytes each time."""
    count = iter(range(9))

    def give(task: BuildTask, out: Path) -> None:
        giving(("gamma", "2.0", NATIVE, wheel_files("gamma", b"build %d" % next(count))))(task, out)

    return give


# ---- comparing -------------------------------------------------------------------------------------


def test_equal_builds_are_identical(world: World, builder: ScriptedBuilder) -> None:
    verdicts = check(world.realiser(builder))
    assert {verdict.name: verdict.identical for verdict in verdicts} == dict.fromkeys(EVERYTHING, True)


def test_the_member_that_differs_is_named(world: World) -> None:
    (verdict,) = check(world.realiser(ScriptedBuilder({"gamma-2.0": differing()})), ["gamma"])
    assert not verdict.identical
    assert any("gamma/_ext.so" in line for line in verdict.differences)


def test_the_file_of_a_root_file_system_that_differs_is_named(world: World) -> None:
    count = iter(range(9))

    def give(_task: BuildTask, out: Path) -> None:
        with tarfile.open(out / "rootfs.tar", "w") as archive:
            archive.addfile(tarfile.TarInfo(f"etc/{next(count)}"))

    (verdict,) = check(world.realiser(ScriptedBuilder({"bookworm-runtime": give})), ["runtime"])
    assert verdict.differences[1:] == ("  missing: etc/0", "  added: etc/1")


def test_what_cannot_be_read_differs(world: World, builder: ScriptedBuilder) -> None:
    def give(_task: BuildTask, out: Path) -> None:
        (out / "rootfs.tar").write_bytes(b"no tar")

    builder.recipes = {"bookworm-runtime": give}
    verdicts = check(world.realiser(builder))
    (verdict,) = (verdict for verdict in verdicts if not verdict.identical)
    assert verdict.differences[1].startswith("  `rootfs.tar` cannot be compared: ")
    assert len(verdicts) == len(EVERYTHING)


def test_objects_stay_as_they_were(world: World) -> None:
    realiser = world.realise(ScriptedBuilder({"gamma-2.0": differing()}))
    before = world.store.info(world.built("gamma"))
    check(realiser, ["gamma"])
    assert world.store.info(world.built("gamma")) == before


def test_what_a_pin_would_reject_is_compared(world: World, builder: ScriptedBuilder) -> None:
    info = world.store.info(world.built("gamma"))
    assert info is not None
    name, _, size = info.outputs[0]
    wheel = LockedFile(filename=name, sha256=sha256_of(b"others"), size=size)
    pin = BuiltPin(name="gamma", derivation=info.path, wheel=wheel)
    world.relock(replace(world.lock, pins=(pin,)))
    builder.recipes = {"gamma-2.0": differing()}
    (verdict,) = check(world.realiser(builder), ["gamma"])
    assert not verdict.identical


def test_what_a_pin_of_the_compiled_wheel_would_reject_is_compared_as_stamped(
    world: World, builder: ScriptedBuilder
) -> None:
    check(world.realiser(builder), ["gamma"])
    compiled = dict(world.plan.compiles)["gamma"]
    info = world.store.info(compiled)
    assert info
    filename, sha256, size = info.outputs[0]
    wheel = LockedFile(filename=filename, sha256=sha256, size=size)
    pin = BuiltPin(name="gamma", derivation=compiled, wheel=wheel)
    world.relock(replace(world.lock, compiled=(pin,)))
    builder.recipes = {"gamma-2.0": differing()}
    (verdict,) = check(world.realiser(builder), ["gamma"], again=True)
    assert not verdict.identical
    assert not any("missing: gamma-2.0" in line for line in verdict.differences)
    assert any("gamma/_ext.so" in line for line in verdict.differences)


def test_what_is_not_there_is_built_first(world: World) -> None:
    builder = ScriptedBuilder()
    check(world.realiser(builder), ["gamma"])
    assert builder.names.count("gamma-2.0") == 2


def test_inputs_that_a_valid_output_hid_are_brought_back(world: World, builder: ScriptedBuilder) -> None:
    world.store.remove(world.fetched("gamma-2.0.tar.gz"))
    (verdict,) = check(world.realiser(builder), ["gamma"])
    assert verdict.identical


def test_the_compiler_cache_is_not_used(world: World, builder: ScriptedBuilder) -> None:
    check(replace(world.realiser(builder), compiler_cache=True), ["gamma"])
    assert [task.compiler_cache for task in builder.tasks] == [None]


def test_what_took_longest_is_checked_first(world: World, builder: ScriptedBuilder) -> None:
    for seconds, name in enumerate(("delta-0.1", "bookworm-toolchain", "bookworm-runtime", "gamma-2.0")):
        world.store.history.took(name, seconds)
    check(world.realiser(builder, cores=1))
    assert builder.names == ["gamma-2.0", "bookworm-runtime", "bookworm-toolchain", "delta-0.1"]


def test_an_unknown_name_is_refused_with_those_that_there_are(world: World) -> None:
    with pytest.raises(UsageError, match="`gomma`") as caught:
        check(world.realiser(), ["gomma"])
    assert caught.value.hint == "there are: runtime, toolchain, delta, gamma"


# ---- failures --------------------------------------------------------------------------------------


def test_a_build_that_fails_the_second_time_is_a_fault(world: World, builder: ScriptedBuilder) -> None:
    builder.recipes = {"gamma-2.0": failing("exited with 3")}
    with pytest.raises(BuildError) as caught:
        check(world.realiser(builder), ["gamma"])
    assert "exited with 3" in caught.value.details[0]


def test_after_a_failure_nothing_more_is_begun(world: World, builder: ScriptedBuilder) -> None:
    world.store.history.took("gamma-2.0", 1000)
    for name in EVERYTHING - {"gamma-2.0"}:
        world.store.history.took(name, 1)
    builder.recipes = {"gamma-2.0": failing()}
    with pytest.raises(BuildError):
        check(world.realiser(builder, cores=1))
    assert builder.names == ["gamma-2.0"]


def test_keep_going_checks_the_others(world: World, builder: ScriptedBuilder) -> None:
    builder.recipes = {"gamma-2.0": failing()}
    told: list[Verdict] = []
    with pytest.raises(BuildError, match="1 build failed"):
        check(world.realiser(builder), keep_going=True, tell=told.append)
    assert {verdict.name for verdict in told} == EVERYTHING - {"gamma-2.0"}


def test_keep_going_checks_what_could_be_built(world: World) -> None:
    told: list[Verdict] = []
    with pytest.raises(BuildError, match="1 build failed") as caught:
        check(
            world.realiser(ScriptedBuilder({"gamma-2.0": failing()})), keep_going=True, tell=told.append
        )
    assert {verdict.name for verdict in told} == {"bookworm-runtime", "bookworm-toolchain"}
    assert any(line.startswith("delta-0.1: dependency-failed") for line in caught.value.details)


def test_keep_going_checks_those_whose_inputs_can_be_brought_back(
    world: World, builder: ScriptedBuilder
) -> None:
    build = world.plan.derivations[world.compiled("gamma")]
    assert isinstance(build, Build)
    environment = dict(build.inputs)["environment"]
    world.store.remove(environment)
    builder.recipes = {environment.name: failing()}
    told: list[Verdict] = []
    with pytest.raises(BuildError, match="1 build failed"):
        check(world.realiser(builder), keep_going=True, tell=told.append)
    assert {verdict.name for verdict in told} == EVERYTHING - {"gamma-2.0"}


# ---- verdicts that are kept ------------------------------------------------------------------------


def test_what_was_found_identical_is_not_built_again(world: World, builder: ScriptedBuilder) -> None:
    check(world.realiser(builder))
    builder.tasks.clear()
    verdicts = check(world.realiser(builder))
    assert builder.names == []
    assert {(verdict.name, verdict.kept) for verdict in verdicts} == {
        (name, True) for name in EVERYTHING
    }


def test_again_builds_it_again(world: World, builder: ScriptedBuilder) -> None:
    check(world.realiser(builder), ["gamma"])
    (verdict,) = check(world.realiser(builder), ["gamma"], again=True)
    assert builder.names == ["gamma-2.0", "gamma-2.0"]
    assert not verdict.kept


def test_what_was_found_different_is_checked_again(world: World, builder: ScriptedBuilder) -> None:
    builder.recipes = {"gamma-2.0": differing()}
    check(world.realiser(builder), ["gamma"])
    builder.recipes = {}
    (verdict,) = check(world.realiser(builder), ["gamma"])
    assert verdict.identical


def test_another_object_of_the_same_path_is_checked(world: World, builder: ScriptedBuilder) -> None:
    check(world.realiser(builder), ["gamma"])
    world.store.remove(world.built("gamma"))
    world.store.remove(world.compiled("gamma"))
    builder.recipes = {"gamma-2.0": giving(("gamma", "2.0", NATIVE, wheel_files("gamma", b"others")))}
    world.realise(builder)
    builder.tasks.clear()
    check(world.realiser(builder), ["gamma"])
    assert builder.names == ["gamma-2.0"]


def test_a_check_that_is_stopped_goes_on_where_it_was(world: World, builder: ScriptedBuilder) -> None:
    def stop(verdict: Verdict) -> None:
        if verdict.name == "bookworm-toolchain":
            raise KeyboardInterrupt

    for seconds, name in enumerate(("delta-0.1", "gamma-2.0", "bookworm-toolchain", "bookworm-runtime")):
        world.store.history.took(name, seconds)
    with pytest.raises(KeyboardInterrupt):
        check(world.realiser(builder, cores=1), tell=stop)
    builder.tasks.clear()
    check(world.realiser(builder, cores=1))
    assert set(builder.names) <= {"gamma-2.0", "delta-0.1"}


def test_a_verdict_tells_when_and_with_what_it_was_found(world: World, builder: ScriptedBuilder) -> None:
    check(world.realiser(builder), ["gamma"])
    (verdict,) = check(world.realiser(builder), ["gamma"])
    assert verdict.when.endswith("Z")
    assert verdict.where.startswith("scripted, Linux ")


def test_collecting_garbage_forgets_verdicts(world: World, builder: ScriptedBuilder) -> None:
    check(world.realiser(builder), ["gamma"])
    info = world.store.info(world.built("gamma"))
    assert info is not None
    for name in world.store.roots():
        world.store.remove_root(name)
    world.store.collect()
    assert world.store.history.verdict(info.path, info.sha256) is None


def test_progress_counts_what_is_left(world: World, builder: ScriptedBuilder) -> None:
    check(world.realiser(builder), ["gamma", "delta"])
    progress = RecordingProgress()
    check(world.realiser(builder, progress=progress))
    assert progress.phases == [("checking", 2, "builds")]
