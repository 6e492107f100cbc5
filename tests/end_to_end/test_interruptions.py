"""Killed, interrupted, out of space, two at once: the next plain run completes, and nothing is damaged."""

from __future__ import annotations

import contextlib
import os
import random
import shutil
import signal
import subprocess
import time
from dataclasses import replace
from typing import TYPE_CHECKING

import pytest

from lockbuild.process import run
from tests.end_to_end.audits import UNASKED
from tests.end_to_end.project import RUNTIME, snapshot
from tests.needs import missing
from tests.servers.faulty import Fault

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence
    from pathlib import Path

    from tests.end_to_end.conftest import Filled, Mirror
    from tests.end_to_end.project import Project

_WAIT_S = 60
_SLEEPS = "import time\nprint('the build is asleep', flush=True)\ntime.sleep(600)\n"
# How many moments: a handful every day, twenty when asked for.
_MOMENTS = [3, pytest.param(20, marks=pytest.mark.slow)]


@pytest.fixture
def chance() -> random.Random:
    """Chance that can be had again: LOCKBUILD_TEST_SEED."""
    seed = int(os.environ.get("LOCKBUILD_TEST_SEED") or random.SystemRandom().randrange(10**6))
    print(f"LOCKBUILD_TEST_SEED={seed}")  # noqa: T201 - pytest shows it beside a failure
    return random.Random(seed)


@pytest.fixture
def slow_mirror(mirror: Mirror) -> Iterator[Mirror]:
    """The mirror on loopback, slow enough that there is a moment to be interrupted in."""
    for path in mirror.archive.root.rglob("*.deb"):
        asked = f"/{path.relative_to(mirror.archive.root).as_posix()}"
        mirror.archive.faults[asked] = Fault(kind="slow")
    yield mirror
    mirror.archive.faults.clear()


def _kill_after(project: Project, words: Sequence[str], seconds: float) -> str:
    """Run a command and kill it with what a kill -9 is, unless it has ended before; say which."""
    with project.running(*words) as process:
        try:
            _, said = process.communicate(timeout=seconds)
        except subprocess.TimeoutExpired:
            return f"killed after {seconds:.2f} s"
        assert process.returncode == 0, said
        return "ended before"


def _gone(project: Project) -> bool:
    """Wait until nothing of the project runs any more; tell whether that came true."""
    deadline = time.monotonic() + _WAIT_S
    while time.monotonic() < deadline:
        if not project.processes():
            return True
        time.sleep(0.1)
    return False


def _kill_again_and_again(
    project: Project, verb: str, *, count: int, within_s: float, chance: random.Random
) -> None:
    """Kill *count* runs of *verb*, each of which goes on from the one before; then let one end.

    What `render` is asked for is the build context, too.
    """
    words = (verb, "small", *(("--context",) if verb == "render" else ()))
    for _ in range(count):
        ended = _kill_after(project, words, chance.uniform(0.1, within_s))
        print(f"{verb}: {ended}")  # noqa: T201 - see above
        assert _gone(project), project.processes()
    project.run(*words)
    assert project.damages() == ""


# ---- kill -9 -------------------------------------------------------------------------------------------


@pytest.mark.parametrize("count", _MOMENTS)
def test_a_fetch_killed_at_any_moment_goes_on_from_there(
    fresh: Project, slow_mirror: Mirror, chance: random.Random, count: int
) -> None:
    project = fresh.with_env(**slow_mirror.env)
    _kill_again_and_again(project, "fetch", count=count, within_s=3, chance=chance)
    assert "everything is fetched" in project.run("fetch", "small").stderr
    assert list((project.store / "downloads").iterdir()) == []


@pytest.mark.parametrize("count", _MOMENTS)
def test_a_build_of_wheels_killed_at_any_moment_goes_on_from_there(
    filled: Filled, project: Project, chance: random.Random, count: int
) -> None:
    project.forget_wheels()
    for wheel in project.wheels.iterdir():
        wheel.unlink()
    _kill_again_and_again(project, "build", count=count, within_s=4, chance=chance)
    wheels = {path.name: path.read_bytes() for path in project.wheels.iterdir()}
    assert wheels == {path.name: path.read_bytes() for path in filled.project.wheels.iterdir()}
    assert list((project.store / "scratch").iterdir()) == []


@pytest.mark.parametrize("count", [1, pytest.param(20, marks=pytest.mark.slow)])
def test_a_root_file_system_killed_at_any_moment_is_made_again(
    filled: Filled, project: Project, chance: random.Random, count: int
) -> None:
    project.forget(lambda name: name == RUNTIME)
    _kill_again_and_again(project, "render", count=count, within_s=10, chance=chance)
    (first,) = filled.project.objects(lambda name: name == RUNTIME)
    listings = (filled.project.store / "listings" / first, project.store / "listings" / first)
    assert listings[0].read_bytes() == listings[1].read_bytes()


@pytest.mark.parametrize("count", [2, pytest.param(20, marks=pytest.mark.slow)])
def test_an_image_killed_at_any_moment_is_made_all_the_same(
    project: Project, engine: str, chance: random.Random, count: int
) -> None:
    # Another name, another lock, another image: no other test has made it.
    project.edit_stack('summary = "what', f'summary = "{count}, what')
    project.run("resolve", "small")
    project = project.with_env(DOCKER_HOST=engine)
    _kill_again_and_again(project, "image", count=count, within_s=6, chance=chance)
    assert "the image is up to date" in project.run("image", "small").stderr
    assert project.run("audit", "small").stdout.count("\nnot checked  ") == len(UNASKED)


@pytest.mark.slow
def test_everything_killed_twenty_times_from_nothing_on_is_made_in_the_end(
    filled: Filled, fresh: Project, mirror: Mirror, chance: random.Random
) -> None:
    project = fresh.with_env(**mirror.env)
    _kill_again_and_again(project, "render", count=20, within_s=40, chance=chance)
    for path in filled.project.context.rglob("*"):
        if path.is_file():
            made = project.context / path.relative_to(filled.project.context)
            assert made.read_bytes() == path.read_bytes(), path


# ---- Ctrl-C --------------------------------------------------------------------------------------------


def _wait_for(process: subprocess.Popen[str], words: str) -> None:
    assert process.stderr is not None
    for line in process.stderr:
        if words in line:
            return
    pytest.fail(f"it ended without saying `{words}`")


def _interrupt(process: subprocess.Popen[str]) -> str:
    """Do what Ctrl-C in a terminal does, and return what was said then."""
    os.killpg(process.pid, signal.SIGINT)
    try:
        return process.communicate(timeout=_WAIT_S)[1]
    except subprocess.TimeoutExpired:
        pytest.fail("Ctrl-C does not end it")


def test_ctrl_c_ends_a_fetch_with_a_sentence(fresh: Project, slow_mirror: Mirror) -> None:
    project = fresh.with_env(**slow_mirror.env)
    with project.running("fetch", "small") as process:
        _wait_for(process, ".deb")
        said = _interrupt(process)
    assert process.returncode == 130
    assert said.endswith("interrupted: run the same command again, it goes on from there\n")
    assert "Traceback" not in said
    assert project.damages() == ""


def test_ctrl_c_ends_a_build_and_all_that_it_runs(project: Project) -> None:
    project.edit_native("setup.py", _SLEEPS)
    project.run("resolve", "small")
    with project.running("build", "small") as process:
        _wait_until_asleep(project)
        said = _interrupt(process)
    assert process.returncode == 130
    assert said.endswith("interrupted: run the same command again, it goes on from there\n")
    assert "Traceback" not in said
    assert _gone(project), project.processes()


def _wait_until_asleep(project: Project) -> None:
    deadline = time.monotonic() + _WAIT_S
    while time.monotonic() < deadline:
        if any(
            b"is asleep" in log.read_bytes() for log in project.store.glob("logs/*native-sum-1.0.log")
        ):
            return
        time.sleep(0.1)
    pytest.fail("the build does not begin")


# ---- two at once ---------------------------------------------------------------------------------------


def test_two_fetches_at_once_share_a_store(fresh: Project, mirror: Mirror) -> None:
    project = fresh.with_env(**mirror.env)
    _both_end_well(project, "fetch")
    assert "everything is fetched" in project.run("fetch", "small").stderr


def test_two_builds_at_once_share_a_store_and_a_stack(filled: Filled, project: Project) -> None:
    project.forget_wheels()
    for wheel in project.wheels.iterdir():
        wheel.unlink()
    _both_end_well(project, "build")
    assert {path.name for path in project.wheels.iterdir()} == {
        path.name for path in filled.project.wheels.iterdir()
    }


def _both_end_well(project: Project, verb: str) -> None:
    with project.running(verb, "small") as first, project.running(verb, "small") as second:
        for process in (first, second):
            _, said = process.communicate(timeout=300)
            assert process.returncode == 0, said
    assert project.damages() == ""


# ---- no space left -------------------------------------------------------------------------------------


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A file system of 150 MB."""
    folder = tmp_path / "disk"
    folder.mkdir()
    if run(["mount", "-t", "tmpfs", "-o", "size=150m", "none", folder]).returncode != 0:
        missing("this user may not mount a file system")
    try:
        yield folder
    finally:
        run(["umount", "--lazy", folder])


def _fill(folder: Path, *, leave: int = 0) -> Path:
    """Write a file that leaves *leave* bytes of the file system, whoever else writes there."""
    ballast = folder / "ballast"
    with ballast.open("wb", buffering=0) as stream, contextlib.suppress(OSError):
        while (free := shutil.disk_usage(folder).free - leave) > 0:
            stream.write(bytes(min(free, 1 << 20)))
    return ballast


def test_a_fetch_that_cannot_fit_says_so_before_it_begins(
    fresh: Project, mirror: Mirror, small_disk: Path
) -> None:
    project = replace(fresh, store=small_disk / "store").with_env(**mirror.env)
    ballast = _fill(small_disk, leave=30_000_000)
    said = project.run("fetch", "small", exit_code=7).stderr
    assert "space" in said or "free" in said
    assert "Traceback" not in said
    ballast.unlink()
    project.run("fetch", "small")
    assert project.damages() == ""


def test_a_disk_that_fills_up_on_the_way_is_said_and_the_next_run_goes_on(
    fresh: Project, slow_mirror: Mirror, small_disk: Path
) -> None:
    project = replace(fresh, store=small_disk / "store").with_env(**slow_mirror.env)
    with project.running("fetch", "small") as process:
        _wait_for(process, ".deb")
        ballast = _fill(small_disk)
        _, said = process.communicate(timeout=_WAIT_S)
    assert process.returncode in (5, 7), said
    assert "space" in said
    assert "hint: " in said
    assert "Traceback" not in said
    ballast.unlink()
    project.run("fetch", "small")
    assert project.damages() == ""


def test_a_build_without_space_fails_in_words_and_is_made_when_there_is_some(
    project: Project, small_disk: Path
) -> None:
    project.forget_wheels()
    # The store as it is, and what is new on the small disk.
    for name in ("new", "work"):
        (small_disk / name).mkdir()
    folders = f"lowerdir={project.store},upperdir={small_disk}/new,workdir={small_disk}/work"
    mounted = run(["mount", "-t", "overlay", "-o", folders, "none", project.store])
    if mounted.returncode != 0:
        missing(f"no overlay can be mounted here: {mounted.stderr}")
    try:
        ballast = _fill(small_disk, leave=4_000_000)
        said = project.run("build", "small", exit_code=6).stderr
        assert "No space left on device" in said
        assert "Traceback" not in said
        ballast.unlink()
        project.run("build", "small")
        assert project.damages() == ""
    finally:
        run(["umount", project.store])


# ---- no network ----------------------------------------------------------------------------------------


def test_a_fetch_without_a_network_names_what_it_could_not_reach(fresh: Project) -> None:
    nowhere = "http://127.0.0.1:9"
    away = fresh.with_env(
        LOCKBUILD_ARCHIVE_DEBIAN=nowhere,
        LOCKBUILD_INDEX_PYPI=f"{nowhere}/simple",
        UV_DEFAULT_INDEX=f"{nowhere}/simple",
    )
    before = snapshot(fresh.root)
    said = away.run("fetch", "small", exit_code=5).stderr
    assert "could not be fetched" in said
    assert "127.0.0.1:9" in said
    assert "hint: " in said
    assert "Traceback" not in said
    assert snapshot(fresh.root) == before
