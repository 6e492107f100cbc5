"""What a machine has, as a kernel would tell it."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

import pytest

from lockbuild.machine import cores, free_memory

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

GB = 10**9


@pytest.fixture
def machine(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[..., Path]:
    """Return a function that returns the root of a machine with eight cores and these files."""
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: set(range(8)))

    def write(cgroup: str = "", **files: str) -> Path:
        written = {"proc/meminfo": "MemTotal: 32000000 kB\nMemAvailable:   16000000 kB\n"}
        written["proc/self/cgroup"] = cgroup
        written |= {f"sys/fs/cgroup/{name}": text for name, text in files.items()}
        root = tmp_path / "machine"
        for name, text in written.items():
            (root / name).parent.mkdir(parents=True, exist_ok=True)
            (root / name).write_text(text)
        return root

    return write


# ---- cores -----------------------------------------------------------------------------------------


def test_cores_are_those_that_the_process_may_use(machine: Callable[..., Path]) -> None:
    assert cores(machine()) == 8
    assert cores(machine("0::/\n", **{"cpu.max": "max 100000\n"})) == 8


@pytest.mark.parametrize(
    ("quota", "expected"), [(200_000, 2), (150_000, 2), (10_000, 1), (1_600_000, 8)]
)
def test_a_cgroup_gives_the_time_of_so_many_cores(
    machine: Callable[..., Path], quota: int, expected: int
) -> None:
    assert cores(machine("0::/\n", **{"cpu.max": f"{quota} 100000\n"})) == expected


def test_the_least_time_of_all_cgroups_around_counts(machine: Callable[..., Path]) -> None:
    outer = {"cpu.max": "300000 100000\n"}
    inner = {"box/cpu.max": "500000 100000\n"}
    assert cores(machine("0::/box\n", **outer, **inner)) == 3


@pytest.mark.parametrize(("quota", "expected"), [("-1", 8), ("250000", 3)])
def test_the_first_version_of_cgroups_limits_time(
    machine: Callable[..., Path], quota: str, expected: int
) -> None:
    files = {"cpu/cpu.cfs_quota_us": f"{quota}\n", "cpu/cpu.cfs_period_us": "100000\n"}
    # A container sees its own cgroup at the top, and its name as the machine knows it.
    assert cores(machine("4:memory:/docker/1f\n2:cpu,cpuacct:/docker/1f\n", **files)) == expected


def test_a_cgroup_that_makes_no_sense_limits_nothing(machine: Callable[..., Path]) -> None:
    assert cores(machine("0::/\n", **{"cpu.max": "100000 0\n"})) == 8
    assert cores(machine("0::/\n", **{"cpu.max": "\n"})) == 8


# ---- memory ----------------------------------------------------------------------------------------


def limited(limit: object, used: int, *, folder: str = "", cached: int = 0) -> dict[str, str]:
    return {
        f"{folder}memory.max": f"{limit}\n",
        f"{folder}memory.current": f"{used}\n",
        f"{folder}memory.stat": f"anon 5\ninactive_file {cached}\nactive_file 7\n",
    }


def test_free_memory_is_what_the_kernel_says(machine: Callable[..., Path]) -> None:
    assert free_memory(machine()) == 16_384_000_000


def test_a_cgroup_leaves_what_it_does_not_use(machine: Callable[..., Path]) -> None:
    assert free_memory(machine("0::/\n", **limited(4 * GB, 3 * GB))) == GB


def test_cached_files_do_not_count_as_used(machine: Callable[..., Path]) -> None:
    assert free_memory(machine("0::/\n", **limited(4 * GB, 3 * GB, cached=2 * GB))) == 3 * GB


def test_a_cgroup_without_a_limit_leaves_everything(machine: Callable[..., Path]) -> None:
    assert free_memory(machine("0::/\n", **limited("max", 3 * GB))) == 16_384_000_000


def test_a_cgroup_around_the_own_counts(machine: Callable[..., Path]) -> None:
    outer = limited(6 * GB, 5 * GB, folder="user.slice/")
    inner = limited("max", GB, folder="user.slice/session.scope/")
    assert free_memory(machine("0::/user.slice/session.scope\n", **outer, **inner)) == GB


def test_a_cgroup_that_is_slowed_down_has_nothing_more_to_give(machine: Callable[..., Path]) -> None:
    files = {**limited(6 * GB, 3 * GB), "memory.high": f"{4 * GB}\n"}
    assert free_memory(machine("0::/\n", **files)) == GB
    assert free_memory(machine("0::/\n", **{**files, "memory.high": "max\n"})) == 3 * GB


def test_a_cgroup_that_uses_more_than_its_limit_leaves_nothing(machine: Callable[..., Path]) -> None:
    assert free_memory(machine("0::/\n", **limited(GB, 2 * GB))) == 0


def test_the_first_version_of_cgroups_is_known(machine: Callable[..., Path]) -> None:
    files = {
        "memory/box/memory.limit_in_bytes": f"{5 * GB}\n",
        "memory/box/memory.usage_in_bytes": f"{4 * GB}\n",
        "memory/box/memory.stat": f"cache 1\ntotal_inactive_file {GB}\n",
    }
    assert free_memory(machine("9:cpu,cpuacct:/box\n5:memory:/box\n", **files)) == 2 * GB
