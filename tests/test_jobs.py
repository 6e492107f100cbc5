"""The pool of jobs: real locks, and memory as a kernel would tell it."""

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
    from collections.abc import Callable, Iterator
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


@pytest.fixture
def machine(tmp_path: Path) -> Callable[..., int]:
    """Return a function that asks for the free memory of a machine with these files."""

    def free(cgroup: str = "", **files: str) -> int:
        root = tmp_path / "machine"
        written = {"proc/meminfo": "MemTotal: 32000000 kB\nMemAvailable:   16000000 kB\n"}
        written["proc/self/cgroup"] = cgroup
        written |= {f"sys/fs/cgroup/{name}": text for name, text in files.items()}
        for name, text in written.items():
            (root / name).parent.mkdir(parents=True, exist_ok=True)
            (root / name).write_text(text)
        return jobs.free_memory(root)

    return free


def limited(limit: object, used: int, *, folder: str = "", cached: int = 0) -> dict[str, str]:
    return {
        f"{folder}memory.max": f"{limit}\n",
        f"{folder}memory.current": f"{used}\n",
        f"{folder}memory.stat": f"anon 5\ninactive_file {cached}\nactive_file 7\n",
    }


def test_free_memory_is_what_the_kernel_says(machine: Callable[..., int]) -> None:
    assert machine() == 16_384_000_000


def test_a_cgroup_leaves_what_it_does_not_use(machine: Callable[..., int]) -> None:
    assert machine("0::/\n", **limited(4 * GB, 3 * GB)) == GB


def test_cached_files_do_not_count_as_used(machine: Callable[..., int]) -> None:
    assert machine("0::/\n", **limited(4 * GB, 3 * GB, cached=2 * GB)) == 3 * GB


def test_a_cgroup_without_a_limit_leaves_everything(machine: Callable[..., int]) -> None:
    assert machine("0::/\n", **limited("max", 3 * GB)) == 16_384_000_000


def test_a_cgroup_around_the_own_counts(machine: Callable[..., int]) -> None:
    outer = limited(6 * GB, 5 * GB, folder="user.slice/")
    inner = limited("max", GB, folder="user.slice/session.scope/")
    assert machine("0::/user.slice/session.scope\n", **outer, **inner) == GB


def test_a_cgroup_that_uses_more_than_its_limit_leaves_nothing(machine: Callable[..., int]) -> None:
    assert machine("0::/\n", **limited(GB, 2 * GB)) == 0


def test_the_first_version_of_cgroups_is_known(machine: Callable[..., int]) -> None:
    files = {
        "memory/box/memory.limit_in_bytes": f"{5 * GB}\n",
        "memory/box/memory.usage_in_bytes": f"{4 * GB}\n",
        "memory/box/memory.stat": f"cache 1\ntotal_inactive_file {GB}\n",
    }
    assert machine("9:cpu,cpuacct:/box\n5:memory:/box\n", **files) == 2 * GB


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
