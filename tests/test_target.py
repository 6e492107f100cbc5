"""The machine that a stack is made for, whatever machine runs lockbuild."""

from __future__ import annotations

import sysconfig
from dataclasses import replace

import pytest
from packaging.markers import Marker, default_environment
from packaging.tags import parse_tag

from lockbuild.target import MACHINES, Target

TARGET = Target(python="3.11", platform="linux_x86_64", glibc="2.36")


def fits(wheel_tag: str, target: Target = TARGET) -> bool:
    return not parse_tag(wheel_tag).isdisjoint(target.tags())


def test_python_version_is_two_numbers() -> None:
    assert TARGET.python_version == (3, 11)


def test_machine_has_a_name_in_each_world() -> None:
    names = (TARGET.machine, TARGET.debian_architecture, TARGET.system, TARGET.conda_subdir)
    assert names == MACHINES["linux_x86_64"] == ("x86_64", "amd64", "x86_64-linux", "linux-64")


def test_platforms_go_down_from_the_c_library_to_the_oldest_manylinux() -> None:
    target = replace(TARGET, glibc="2.18")
    expected = [
        "manylinux_2_18_x86_64",
        "manylinux_2_17_x86_64",
        "manylinux2014_x86_64",
        *(f"manylinux_2_{level}_x86_64" for level in (16, 15, 14, 13, 12)),
        "manylinux2010_x86_64",
        *(f"manylinux_2_{level}_x86_64" for level in (11, 10, 9, 8, 7, 6, 5)),
        "manylinux1_x86_64",
        "linux_x86_64",
    ]
    assert list(target.platforms()) == expected


@pytest.mark.parametrize(
    "tag",
    [
        "cp311-cp311-manylinux_2_36_x86_64",
        "cp311-cp311-manylinux_2_17_x86_64.manylinux2014_x86_64",
        "cp311-cp311-linux_x86_64",
        "cp38-abi3-manylinux_2_28_x86_64",
        "py3-none-manylinux1_x86_64",
        "py3-none-any",
        "py2.py3-none-any",
    ],
)
def test_wheel_fits(tag: str) -> None:
    assert fits(tag)


@pytest.mark.parametrize(
    "tag",
    [
        "cp311-cp311-manylinux_2_37_x86_64",
        "cp311-cp311-musllinux_1_2_x86_64",
        "cp311-cp311-manylinux_2_17_aarch64",
        "cp311-cp311-win_amd64",
        "cp311-cp311d-linux_x86_64",
        "cp310-cp310-linux_x86_64",
        "cp312-abi3-linux_x86_64",
        "py2-none-any",
    ],
)
def test_wheel_does_not_fit(tag: str) -> None:
    assert not fits(tag)


def test_best_wheel_comes_first_and_pure_ones_last() -> None:
    shown = [str(tag) for tag in TARGET.tags()]
    assert shown[0] == "cp311-cp311-manylinux_2_36_x86_64"
    assert shown.index("cp311-cp311-linux_x86_64") < shown.index("cp311-abi3-manylinux_2_36_x86_64")
    assert shown[-1] == "py30-none-any"


def test_python_before_3_8_has_its_own_abi_name() -> None:
    old = replace(TARGET, python="3.7")
    assert fits("cp37-cp37m-manylinux1_x86_64", old)
    assert not fits("cp37-cp37-manylinux1_x86_64", old)


@pytest.mark.parametrize(("variable", "python"), [("Py_DEBUG", "3.11"), ("Py_GIL_DISABLED", "3.13")])
def test_tags_do_not_follow_the_python_that_runs(
    monkeypatch: pytest.MonkeyPatch, variable: str, python: str
) -> None:
    target = replace(TARGET, python=python)
    monkeypatch.setitem(sysconfig.get_config_vars(), variable, 0)
    before = target.tags()
    monkeypatch.setitem(sysconfig.get_config_vars(), variable, 1)
    assert target.tags() == before


def test_marker_environment_names_all_that_markers_may_ask() -> None:
    assert TARGET.marker_environment().keys() == default_environment().keys() | {"extra"}


@pytest.mark.parametrize(
    ("marker", "holds"),
    [
        ("python_version >= '3.9'", True),
        ("python_version < '3.11'", False),
        ("python_full_version < '3.12'", True),
        ("sys_platform == 'linux' and platform_machine == 'x86_64'", True),
        ("platform_system == 'Windows'", False),
        ("platform_python_implementation == 'CPython'", True),
        ("implementation_name == 'pypy'", False),
        ("extra == 'test'", False),
    ],
)
def test_markers_are_judged_for_the_target(marker: str, *, holds: bool) -> None:
    environment = TARGET.marker_environment()
    assert Marker(marker).evaluate(environment) is holds
