"""Realising the small stack: real store, real downloads from loopback, builds as the tests script them."""

from __future__ import annotations

import os
import threading
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from typing import TYPE_CHECKING, NoReturn

import pytest

from lockbuild import failures, jobs, wheels
from lockbuild.checking import check
from lockbuild.derivation import Build, BuildOutcome, Fetch, FolderArchive, IndexFile, JobPool
from lockbuild.digest import sha256_of
from lockbuild.errors import BuildError, FetchError, LockError, StoreError
from lockbuild.lock import BuiltPin, LockedFile
from tests.fakes import NATIVE, Failure, RecordingProgress, ScriptedBuilder, failing, giving, wheel_files
from tests.values import any_build, sha, stack_document
from tests.wheels import make_wheel
from tests.worlds import World, make_world

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from lockbuild.derivation import BuildTask
    from lockbuild.sources import Mirrors
    from tests.fakes import Recipe

GAMMA = ("gamma", "2.0", NATIVE, wheel_files("gamma"))
WAIT_S = 20
"""How long a build waits for another before its test fails; a good run never waits."""


@pytest.fixture
def world(tmp_path: Path) -> Iterator[World]:
    with make_world(tmp_path) as made:
        yield made


def build(
    world: World, *names: str, keep_going: bool = False, cores: int = 2, **recipes: Recipe
) -> ScriptedBuilder:
    """Build what is called *names*, or all; a recipe's `_` stands for the `-` of its build's name."""
    builder = ScriptedBuilder({_build_name(name): recipe for name, recipe in recipes.items()})
    realiser = world.realiser(builder, cores=cores)
    targets = [world.built(name) for name in names] or realiser.plan.targets
    realiser.build(targets, keep_going=keep_going)
    return builder


def _build_name(name: str) -> str:
    versions = {"gamma": "gamma-2.0", "delta": "delta-0.1"}
    return versions.get(name, name.replace("_", "-"))


def failure(world: World, *names: str, keep_going: bool = False, **recipes: Recipe) -> str:
    """Build, and return all that the failure says."""
    with pytest.raises(BuildError) as caught:
        build(world, *names, keep_going=keep_going, cores=2, **recipes)
    return "\n".join((caught.value.message, *caught.value.details))


# ---- fetching --------------------------------------------------------------------------------------


def test_fetch_brings_everything_that_the_plan_needs(world: World) -> None:
    fetched = world.realiser().fetch()
    assert {fetch.path for fetch in fetched} == {fetch.path for fetch in world.plan.fetches()}
    assert world.store.valid(fetch.path for fetch in fetched) == {fetch.path for fetch in fetched}


def test_a_fetched_file_has_the_bytes_that_were_served(world: World) -> None:
    world.realiser().fetch()
    served = (world.files / "alpha-1.2-py3-none-any.whl").read_bytes()
    assert world.store.locate(world.fetched("alpha-1.2-py3-none-any.whl")).read_bytes() == served


def test_a_second_fetch_asks_nobody(world: World) -> None:
    world.realiser().fetch()
    world.index.requests.clear()
    assert world.realiser().fetch() == ()
    assert world.index.requests == []


def test_mirrors_are_not_looked_up_when_nothing_is_missing(world: World) -> None:
    world.realiser().fetch()

    def mirrors(_names: frozenset[str]) -> NoReturn:
        pytest.fail("somebody asked for mirrors")

    assert replace(world.realiser(), mirrors=mirrors).fetch() == ()


def test_only_mirrors_of_what_is_missing_are_looked_up(world: World) -> None:
    asked: list[frozenset[str]] = []

    def mirrors(names: frozenset[str]) -> Mirrors:
        asked.append(names)
        return world.mirrors

    replace(world.realiser(), mirrors=mirrors).fetch([world.fetched("alpha-1.2-py3-none-any.whl")])
    assert asked == [frozenset({"pypi"})]


def test_fetch_of_targets_brings_only_what_they_need(world: World) -> None:
    fetched = world.realiser().fetch([world.fetched("alpha-1.2-py3-none-any.whl")])
    assert [fetch.filename for fetch in fetched] == ["alpha-1.2-py3-none-any.whl"]


def test_a_failed_fetch_names_every_artifact_that_could_not_be_had(world: World) -> None:
    world.index.faults.status["alpha-1.2-py3-none-any.whl"] = 404
    world.index.faults.flip.add("beta-0.9-py3-none-any.whl")
    with pytest.raises(FetchError) as caught:
        world.realiser().fetch()
    assert caught.value.message.startswith("2 artifacts of 10 could not be fetched")
    details = "\n".join(caught.value.details)
    assert "alpha-1.2-py3-none-any.whl" in details
    assert "beta-0.9-py3-none-any.whl" in details


def test_a_failed_fetch_keeps_all_others(world: World) -> None:
    world.index.faults.status["alpha-1.2-py3-none-any.whl"] = 404
    with pytest.raises(FetchError, match="1 artifact of 10"):
        world.realiser().fetch()
    world.index.faults.status.clear()
    assert [fetch.filename for fetch in world.realiser().fetch()] == ["alpha-1.2-py3-none-any.whl"]


def test_the_same_bytes_under_two_names_are_two_objects(world: World) -> None:
    lock = world.lock
    twin = next(deb for deb in lock.debs if deb.package == "tzdata")
    (world.archive / "pool/copy").mkdir()
    (world.archive / "pool/copy/zoneinfo_1_all.deb").write_bytes(b"tzdata_2025b-0+deb12u1_all.deb")
    copy = replace(twin, package="zoneinfo", version="1", path="pool/copy/zoneinfo_1_all.deb")
    world.relock(replace(lock, debs=(*lock.debs, copy)))
    world.realiser().fetch()
    data = {
        world.store.locate(world.fetched(name)).read_bytes() for name in (twin.filename, copy.filename)
    }
    assert data == {b"tzdata_2025b-0+deb12u1_all.deb"}


def test_nothing_stays_among_the_downloads(world: World) -> None:
    world.realiser().fetch()
    assert list(world.store.downloads.glob("[0-9a-f]*")) == []


def test_a_changed_source_folder_is_not_fetched(world: World) -> None:
    realiser = world.realiser()
    (world.folder.path / "extension/delta.c").write_text("int changed;\n")
    with pytest.raises(LockError, match="`extension` is not what was locked"):
        realiser.fetch()


def test_what_the_plan_needs_is_kept_from_garbage_collection(world: World) -> None:
    world.realise()
    before = world.store.paths()
    world.store.collect()
    assert world.store.paths() == before


def test_what_a_former_plan_needed_is_collected(world: World) -> None:
    world.realise()
    lock = world.lock
    old = world.built("runtime")
    elsewhere = replace(lock.debs[-1], roots=("toolchain",))
    world.relock(replace(lock, debs=(*lock.debs[:-1], elsewhere)))
    world.realise()
    assert world.store.collect().paths == (old,)


# ---- order and width -------------------------------------------------------------------------------


def environment_of(world: World, name: str) -> str:
    """Return what the build environment of the package *name* is called."""
    build = world.plan.derivations[world.compiled(name)]
    assert isinstance(build, Build)
    return world.plan.name_of(dict(build.inputs)["environment"])


def test_builds_come_after_what_they_need(world: World) -> None:
    names = build(world, cores=1).names
    gamma, delta = environment_of(world, "gamma"), environment_of(world, "delta")
    order = ["bookworm-toolchain", gamma, "gamma-2.0", delta, "delta-0.1"]
    assert [name for name in names if name in order] == order


def test_independent_builds_run_side_by_side(world: World) -> None:
    together = threading.Barrier(2)

    def meet(task: BuildTask, out: Path) -> None:
        together.wait(WAIT_S)
        ScriptedBuilder().build(replace(task, scratch=out.parent / "inner"))
        for file in (out.parent / "inner/out").iterdir():
            file.rename(out / file.name)

    build(world, "runtime", "toolchain", bookworm_runtime=meet, bookworm_toolchain=meet)


def test_no_more_builds_run_at_once_than_there_are_cores(world: World) -> None:
    running, most, lock = 0, 0, threading.Lock()

    class Counting(ScriptedBuilder):
        def build(self, task: BuildTask) -> object:  # type: ignore[override]
            nonlocal running, most
            with lock:
                running += 1
                most = max(most, running)
            try:
                return ScriptedBuilder.build(self, task)
            finally:
                with lock:
                    running -= 1

    realiser = world.realiser(Counting(), cores=1)
    realiser.build(realiser.plan.targets)
    assert most == 1


def test_who_waits_for_another_run_says_so(world: World) -> None:
    said = threading.Event()

    class Listening(RecordingProgress):
        def line(self, text: str) -> None:
            RecordingProgress.line(self, text)
            if "waiting" in text:
                said.set()

    progress = Listening()
    realiser, path = world.realiser(progress=progress), world.built("runtime")
    with ThreadPoolExecutor(1) as threads:
        with world.store.lock(path):
            built = threads.submit(realiser.build, [path])
            assert said.wait(WAIT_S)
        assert [outcome.status for outcome in built.result()] == ["built"]
    (line,) = (line for line in progress.lines if "waiting" in line)
    assert line.startswith(f"bookworm-runtime: waiting for process {os.getpid()} on ")
    assert line.endswith(", which builds it")


def test_builds_share_one_pool_of_jobs(world: World) -> None:
    pool = JobPool(folder=world.store.jobs, jobs=8, memory=jobs.MEMORY_PER_JOB)
    assert {task.pool for task in build(world, cores=8).tasks} == {pool}


def test_an_engine_without_a_pool_gets_a_share_of_the_jobs(world: World) -> None:
    builder = ScriptedBuilder()
    realiser = replace(world.realiser(builder, cores=8), memory_per_job=1)
    realiser.build([world.built("runtime"), world.built("toolchain")])
    assert [task.cores for task in builder.tasks] == [4, 4]


def test_every_build_has_at_least_one_job(world: World) -> None:
    builder = ScriptedBuilder()
    realiser = replace(world.realiser(builder, cores=8), memory_per_job=1 << 60)
    realiser.build([world.built("runtime"), world.built("toolchain")])
    assert [task.cores for task in builder.tasks] == [1, 1]


def test_a_build_that_took_longer_begins_first(world: World) -> None:
    world.store.history.took("bookworm-runtime", 5)
    world.store.history.took("bookworm-toolchain", 50)
    assert build(world, "runtime", "toolchain", cores=1).names[0] == "bookworm-toolchain"


def test_how_long_a_build_took_is_remembered(world: World) -> None:
    build(world, "gamma")
    names = ("bookworm-runtime", "bookworm-toolchain", "gamma-2.0")
    assert set(world.store.history.durations(names)) == {"bookworm-toolchain", "gamma-2.0"}


def test_only_wheels_have_a_compiler_cache(world: World) -> None:
    builder = ScriptedBuilder()
    realiser = replace(world.realiser(builder), compiler_cache=True)
    realiser.build(realiser.plan.targets)
    cached = {task.name: task.compiler_cache for task in builder.tasks if task.compiler_cache}
    assert set(cached) == {"gamma-2.0", "delta-0.1"}
    assert len(set(cached.values())) == 2


def cache_of(world: World, place: str, source: Fetch) -> Path | None:
    """Return the compiler cache that gamma gets when it is made of *source*."""
    build = any_build(kind="wheel", toolchain=None, inputs=((place, source.path),))
    builder = ScriptedBuilder()
    realiser = world.realiser(builder)
    derivations = {**realiser.plan.derivations, source.path: source}
    plan = replace(realiser.plan, compiles=(("gamma", build.path),), derivations=derivations)
    realiser = replace(realiser, compiler_cache=True, plan=plan)
    with world.store.scratch("gamma") as scratch:
        instead = {source.path: world.files}
        realiser.run(build, scratch, scratch / "log", 1, cached=True, instead=instead)
    return builder.tasks[0].compiler_cache


SDIST, FOLDER = IndexFile(index="pypi", project="gamma"), FolderArchive(path="gamma")


@pytest.mark.parametrize(
    ("place", "where", "caches"),
    [
        ("source", SDIST, 1),
        ("source/gamma.zip", SDIST, 1),
        ("source/gamma.tar", FOLDER, 1),
        ("source/gamma.tar.gz", SDIST, 2),
    ],
)
def test_tars_of_others_whose_times_may_differ_share_no_compiler_cache(
    world: World, place: str, where: IndexFile | FolderArchive, caches: int
) -> None:
    sources = [Fetch(filename="gamma", sha256=sha(text), size=1, where=where) for text in ("a", "b")]
    assert len({cache_of(world, place, source) for source in sources}) == caches


def test_there_is_no_compiler_cache_unless_it_is_wanted(world: World) -> None:
    assert {task.compiler_cache for task in build(world).tasks} == {None}


def test_a_builder_sees_inputs_by_the_names_of_the_derivation(world: World) -> None:
    seen: dict[str, bool] = {}

    def look(task: BuildTask, out: Path) -> None:
        seen.update({name: path.exists() for name, path in task.inputs})
        giving(GAMMA)(task, out)

    build(world, "gamma", gamma=look)
    assert seen == {"environment": True, "source/gamma-2.0.tar.gz": True}


def test_a_toolchain_is_unpacked_for_the_builder(world: World) -> None:
    texts: list[str] = []

    def look(task: BuildTask, out: Path) -> None:
        assert task.rootfs is not None
        texts.append((task.rootfs / "etc/hostname").read_text())
        giving(GAMMA)(task, out)

    build(world, "gamma", gamma=look)
    assert texts == ["bookworm-toolchain"]


def test_progress_counts_every_build(world: World) -> None:
    progress = RecordingProgress()
    realiser = world.realiser(progress=progress)
    realiser.fetch()
    progress.done = 0
    realiser.build(realiser.plan.targets)
    assert progress.phases[-1] == ("building", 8, "builds")
    assert progress.done == 8
    assert "gamma-2.0: started" in progress.lines


# ---- what is there already -------------------------------------------------------------------------


def test_nothing_is_built_twice(world: World) -> None:
    world.realise()
    assert build(world).names == []


def test_a_valid_output_hides_its_inputs(world: World) -> None:
    world.realise()
    plan = world.plan
    hidden = [
        world.fetched("gamma-2.0.tar.gz"),
        *(path for path in plan.derivations if "environment" in path),
    ]
    for path in hidden:
        world.store.remove(path)
    world.index.requests.clear()
    assert build(world).names == []
    assert world.index.requests == []


def test_a_build_that_another_process_finished_meanwhile_is_valid(world: World) -> None:
    def meanwhile(task: BuildTask, out: Path) -> None:
        other = ScriptedBuilder()
        path = world.built("toolchain")
        with world.store.scratch("other") as scratch:
            made = other.build(replace(task, name="bookworm-toolchain", scratch=scratch))
            assert made.output is not None
            references = world.plan.derivations[path].references  # type: ignore[union-attr]
            world.store.add_folder(path, made.output, references=references)
        made = other.build(replace(task, scratch=out.parent / "inner"))
        (out.parent / "inner/out/rootfs.tar").rename(out / "rootfs.tar")

    builder = ScriptedBuilder({"bookworm-runtime": meanwhile})
    targets = [world.built("runtime"), world.built("toolchain")]
    outcomes = world.realiser(builder, cores=1).build(targets)
    assert [(outcome.name, outcome.status) for outcome in outcomes] == [
        ("bookworm-runtime", "built"),
        ("bookworm-toolchain", "valid"),
    ]


def test_a_damaged_input_is_refused(world: World) -> None:
    build(world, "toolchain")
    world.realiser().fetch()
    source = world.store.locate(world.fetched("gamma-2.0.tar.gz"))
    source.chmod(0o644)
    source.write_bytes(b"source of gommo")
    with pytest.raises(StoreError, match="is damaged"):
        build(world, "gamma")


# ---- failures --------------------------------------------------------------------------------------


def test_a_failure_tells_its_message_last_lines_and_log(world: World) -> None:
    said = failure(world, gamma=failing("exited with 7"))
    assert said.startswith("1 build failed")
    assert "gamma-2.0: failed: exited with 7" in said
    assert "| it broke" in said
    assert f"log: {world.store.log_file(world.compiled('gamma'))}" in said


def test_a_build_that_fills_the_disk_comes_with_what_to_do() -> None:
    line = "cp: error writing 'x': No space left on device"
    full = BuildOutcome(name="gamma-2.0", status="failed", message="exited with 1", tail=(line,))
    assert "`lockbuild store gc`" in (failures.failure([full], edited=()).hint or "")
    assert failures.failure([replace(full, tail=())], edited=()).hint is None


def test_a_build_whose_log_tells_what_it_lacks_comes_with_what_to_do(tmp_path: Path) -> None:
    log = tmp_path / "log"
    log.write_text(
        "x.cu:1:10: fatal error: glm/glm.hpp: No such file or directory\n" + "  a traceback\n" * 99
    )
    failed = BuildOutcome(
        name="gamma-2.0", status="failed", message="exited with 1", tail=("  a traceback",), log=log
    )
    hint = failures.failure([failed], edited=()).hint or ""
    assert hint.startswith("gamma-2.0: there is no `glm/glm.hpp` to include: ")


def test_the_log_of_a_failed_build_stays(world: World) -> None:
    failure(world, "gamma", gamma=failing())
    assert world.store.log_file(world.compiled("gamma")).read_text() == "building gamma-2.0\n"


def test_what_needs_a_failed_build_is_told_apart(world: World) -> None:
    said = failure(world, keep_going=True, gamma=failing())
    delta = environment_of(world, "delta")
    assert f"{delta}: dependency-failed: needs gamma-2.0" in said
    assert f"delta-0.1: dependency-failed: needs {delta}" in said


def test_keep_going_builds_what_does_not_need_the_failed_one(world: World) -> None:
    failure(world, keep_going=True, bookworm_runtime=failing())
    assert world.store.valid([world.built("delta")])


def test_without_keep_going_nothing_is_begun_after_a_failure(world: World) -> None:
    builder = ScriptedBuilder({"bookworm-runtime": failing(), "bookworm-toolchain": failing()})
    realiser = world.realiser(builder, cores=1)
    with pytest.raises(BuildError):
        realiser.build(realiser.plan.targets)
    assert len(builder.names) == 1


def test_what_was_not_begun_is_not_called_failed(world: World) -> None:
    builder = ScriptedBuilder({"bookworm-runtime": failing()})
    realiser = world.realiser(builder, cores=1)
    with pytest.raises(BuildError) as caught:
        realiser.build([world.built("runtime"), world.built("toolchain")])
    assert "toolchain" not in "\n".join(caught.value.details)


def test_what_was_running_beside_a_failure_is_kept(world: World) -> None:
    begun, failed = threading.Event(), threading.Event()

    def fail(_task: BuildTask, _out: Path) -> None:
        assert begun.wait(WAIT_S)
        failed.set()
        raise Failure("exited with 1")

    def finish(_task: BuildTask, out: Path) -> None:
        begun.set()
        assert failed.wait(WAIT_S)
        (out / "rootfs.tar").write_bytes(b"kept")

    failure(world, "runtime", "toolchain", bookworm_runtime=fail, bookworm_toolchain=finish)
    assert world.store.valid([world.built("toolchain")])


def test_a_failed_build_leaves_no_scratch_folder(world: World) -> None:
    failure(world, gamma=failing())
    assert list((world.store.root / "scratch").iterdir()) == []


def test_a_failed_build_is_tried_again(world: World) -> None:
    failure(world, gamma=failing())
    assert "gamma-2.0" in build(world).names


# ---- outputs that are rejected ---------------------------------------------------------------------


@pytest.mark.parametrize(
    ("wheels", "said"),
    [
        ((), "expected one wheel, found nothing"),
        (
            (GAMMA, ("other", "1.0", NATIVE, {})),
            f"expected one wheel, found gamma-2.0-{NATIVE}.whl, other-1.0-{NATIVE}.whl",
        ),
        ((("gomma", *GAMMA[1:]),), "expected gamma 2.0, found gomma 2.0"),
        ((("gamma", "2.1", *GAMMA[2:]),), "expected gamma 2.0, found gamma 2.1"),
        (
            (("gamma", "2.0", "cp312-cp312-linux_x86_64", GAMMA[3]),),
            "does not fit Python 3.11 on linux_x86_64",
        ),
        ((("gamma", "2.0", NATIVE, {"gamma/__init__.py": b""}),), "expected `gamma/_ext*.so`"),
        ((("gamma", "2.0", NATIVE, {"../escape.so": b""}),), "not a path below"),
    ],
    ids=["none", "two", "name", "version", "tag", "module", "hostile"],
)
def test_an_output_that_is_not_what_the_stack_says_is_rejected(
    world: World, wheels: tuple[tuple[str, str, str, dict[str, bytes]], ...], said: str
) -> None:
    told = failure(world, "gamma", gamma=giving(*wheels))
    assert "gamma-2.0: output-rejected" in told
    assert said in told
    assert not world.store.valid([world.built("gamma")])


def test_an_output_that_is_no_zip_is_rejected(world: World) -> None:
    def write(_task: BuildTask, out: Path) -> None:
        (out / f"gamma-2.0-{NATIVE}.whl").write_bytes(b"not a zip")

    assert "gamma-2.0: output-rejected" in failure(world, "gamma", gamma=write)


def test_a_rejected_output_says_what_to_do(world: World) -> None:
    with pytest.raises(BuildError) as caught:
        build(world, "gamma", gamma=giving(("gamma", "2.0", NATIVE, {"gamma/__init__.py": b""})))
    assert "`expects`" in (caught.value.hint or "")


def test_a_rejected_output_does_not_end_other_builds(world: World) -> None:
    failure(world, keep_going=True, gamma=giving(("gamma", "2.0", NATIVE, {"../escape.so": b""})))
    assert world.store.valid([world.built("runtime")])


def test_a_built_wheel_is_normalised(world: World) -> None:
    def compress(_task: BuildTask, out: Path) -> None:
        make_wheel(
            out,
            "gamma",
            "2.0",
            tag=NATIVE,
            files={**wheel_files("gamma"), "gamma/__pycache__/x.pyc": b""},
        )

    build(world, "gamma", gamma=compress)
    first = world.store.info(world.built("gamma"))
    world.store.remove(world.built("gamma"))
    build(world, "gamma")
    second = world.store.info(world.built("gamma"))
    assert first is not None
    assert second is not None
    assert first.outputs == second.outputs


# ---- pins ------------------------------------------------------------------------------------------


def pinned(world: World, sha256: str | None = None) -> None:
    """Pin the wheel of gamma, with the bytes that it has or with others."""
    build(world, "gamma")
    info = world.store.info(world.built("gamma"))
    assert info is not None
    name, digest, size = info.outputs[0]
    file = LockedFile(filename=name, sha256=sha256_of(b"others") if sha256 else digest, size=size)
    world.relock(replace(world.lock, pins=(BuiltPin(name="gamma", derivation=info.path, wheel=file),)))
    world.store.remove(info.path)
    world.store.remove(world.compiled("gamma"))


def test_a_build_that_gives_the_pinned_bytes_is_taken(world: World) -> None:
    pinned(world)
    assert "gamma-2.0" in build(world, "gamma").names
    assert world.store.valid([world.built("gamma")])


def test_a_build_that_gives_other_bytes_than_pinned_is_rejected(world: World) -> None:
    pinned(world)
    told = failure(
        world, "gamma", gamma=giving(("gamma", "2.0", NATIVE, wheel_files("gamma", b"others")))
    )
    assert "pinned sha256" in told
    assert "`lockbuild resolve --repin gamma` forgets the pin" in told


def test_a_pin_of_another_derivation_binds_nobody(world: World) -> None:
    pinned(world, "others")
    pin = world.lock.pins[0]
    world.relock(replace(world.lock, pins=(replace(pin, derivation=world.built("delta")),)))
    assert "gamma-2.0" in build(world, "gamma").names


def test_a_stack_without_builds_is_realised(tmp_path: Path) -> None:
    document = stack_document()
    del document["build"]
    with make_world(tmp_path, document=document) as world:
        lock = world.lock
        packages = tuple(package for package in lock.runtime if package.wheel)
        world.relock(replace(lock, runtime=packages, sources=(), build=lock.build[:1]))
        assert sorted(build(world).names) == ["bookworm-runtime", "bookworm-toolchain"]


# ---- stamping --------------------------------------------------------------------------------------


def labelled_world(world: World, version: str = "2.0+ours") -> World:
    """Give gamma's locked version a label."""
    runtime = tuple(replace(p, version=version) if p.name == "gamma" else p for p in world.lock.runtime)
    world.relock(replace(world.lock, runtime=runtime))
    return world


def test_what_people_get_has_label_and_record_and_others_are_built_with_neither(world: World) -> None:
    build(labelled_world(world))
    (stamped,) = world.store.locate(world.built("gamma")).glob("*.whl")
    (compiled,) = world.store.locate(world.compiled("gamma")).glob("*.whl")
    assert stamped.name == f"gamma-2.0+ours-{NATIVE}.whl"
    assert compiled.name == f"gamma-2.0-{NATIVE}.whl"
    facts = wheels.inspect_wheel(stamped)
    assert facts.version == "2.0+ours"
    assert "gamma-2.0+ours.dist-info/sboms/lockbuild.cdx.json" in facts.members


def test_another_label_compiles_nothing(world: World) -> None:
    build(world)
    assert build(labelled_world(world)).names == []
    assert world.store.valid([world.built("gamma")])


def test_check_compiles_and_stamps_again(world: World) -> None:
    build(labelled_world(world))
    builder = ScriptedBuilder()
    (verdict,) = check(world.realiser(builder), ["gamma"])
    assert (verdict.name, verdict.identical) == ("gamma-2.0+ours", True)
    assert builder.names == ["gamma-2.0"]


def test_compiled_bytes_are_pinned_whatever_the_label(world: World) -> None:
    build(world, "gamma")
    info = world.store.info(world.compiled("gamma"))
    assert info is not None
    file = LockedFile(filename=info.outputs[0][0], sha256=sha256_of(b"others"), size=1)
    pin = BuiltPin(name="gamma", derivation=info.path, wheel=file)
    world.relock(replace(labelled_world(world).lock, compiled=(pin,)))
    world.store.remove(info.path)
    assert "gamma-2.0: output-rejected: pinned sha256" in failure(world, "gamma")
    assert not world.store.valid([world.compiled("gamma"), world.built("gamma")])
