"""The pool of jobs, with real locks."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from typing import TYPE_CHECKING

import pytest

from lockbuild import jobs
from lockbuild.derivation import JobPool

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

GB = 10**9


@pytest.fixture
def pool(tmp_path: Path) -> JobPool:
    return JobPool(folder=tmp_path / "jobs", jobs=2, memory=1)


@pytest.fixture
def other() -> Iterator[subprocess.Popen[bytes]]:
    """Run a process that does nothing."""
    with subprocess.Popen(["sleep", "60"]) as process:
        yield process
        process.kill()


def take(pool: JobPool, *, first: bool = False) -> int:
    job = jobs.take(pool, os.getpid(), first=first)
    assert job is not None
    return job


def none_is_left(pool: JobPool) -> bool:
    job = jobs.take(pool, os.getpid(), first=True)
    if job is not None:
        os.close(job)
    return job is None


# ---- taking and giving back ------------------------------------------------------------------------


def test_there_are_as_many_jobs_as_the_pool_says(pool: JobPool) -> None:
    held = [take(pool), take(pool)]
    assert none_is_left(pool)
    for job in held:
        os.close(job)


def test_a_job_that_is_given_back_can_be_taken(pool: JobPool) -> None:
    held = [take(pool), take(pool)]
    os.close(held.pop())
    held.append(take(pool))
    assert none_is_left(pool)
    for job in held:
        os.close(job)


def test_jobs_of_a_process_that_was_killed_are_free(pool: JobPool) -> None:
    program = (
        "import sys, pathlib, time; from lockbuild import jobs; from lockbuild.derivation import JobPool;"
        f"pool = JobPool(folder=pathlib.Path({str(pool.folder)!r}), jobs=2, memory=1);"
        "held = [jobs.take(pool, 1, first=True) for _ in range(2)];"
        "print('held', flush=True); time.sleep(60)"
    )
    with subprocess.Popen([sys.executable, "-c", program], stdout=subprocess.PIPE) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == b"held\n"
        assert none_is_left(pool)
        process.send_signal(signal.SIGKILL)
    assert not none_is_left(pool)


def test_who_has_the_jobs_is_known(pool: JobPool) -> None:
    job = take(pool)
    assert jobs.holders(pool) == (os.getpid(),)
    os.close(job)
    assert jobs.holders(pool) == ()


def test_who_has_a_job_in_another_container_is_not_known(pool: JobPool) -> None:
    job = take(pool)
    os.pwrite(job, f"{os.getpid()} 1".ljust(50).encode(), 0)
    assert jobs.holders(pool) == (0,)
    os.close(job)


def test_a_build_that_has_none_comes_before_those_that_have_some(pool: JobPool) -> None:
    claim = jobs.claim(pool)
    assert jobs.take(pool, os.getpid(), first=False) is None
    os.close(take(pool, first=True))
    os.close(claim)
    os.close(take(pool))


def test_several_can_come_first(pool: JobPool) -> None:
    claims = [jobs.claim(pool), jobs.claim(pool)]
    os.close(claims.pop())
    assert jobs.take(pool, os.getpid(), first=False) is None
    os.close(claims.pop())


# ---- memory ----------------------------------------------------------------------------------------


def test_no_more_jobs_are_given_than_memory_has_room_for(tmp_path: Path) -> None:
    pool = JobPool(folder=tmp_path, jobs=8, memory=1 << 60)
    job = take(pool)
    assert none_is_left(pool)
    os.close(job)


def test_shares_are_of_cores_and_memory(tmp_path: Path) -> None:
    plenty = JobPool(folder=tmp_path, jobs=8, memory=1)
    little = JobPool(folder=tmp_path, jobs=8, memory=1 << 60)
    assert [jobs.share(plenty, builds) for builds in (1, 2, 3, 99)] == [8, 4, 2, 1]
    assert jobs.share(little, 1) == 1


# ---- standing still --------------------------------------------------------------------------------


def test_a_process_that_sleeps_stands_still(other: subprocess.Popen[bytes]) -> None:
    jobs.standing((other.pid,))
    assert jobs.standing((other.pid,)) == jobs.standing((other.pid,))


def test_a_process_that_works_does_not_stand_still() -> None:
    seen = jobs.standing((os.getpid(),))
    while jobs.standing((os.getpid(),)) == seen:
        sum(range(100_000))


def test_processes_that_end_while_they_are_looked_at_are_no_fault() -> None:
    script = "while :; do sh -c 'true & true & wait' & sh -c 'true & true & wait' & wait; done"
    with subprocess.Popen(["sh", "-c", script]) as process:
        try:
            for _ in range(500):
                assert jobs.standing((process.pid,))
        finally:
            process.kill()


def test_what_has_ended_stands_nowhere(other: subprocess.Popen[bytes]) -> None:
    other.kill()
    other.wait()
    assert jobs.standing((other.pid,)) == ()
