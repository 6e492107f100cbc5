"""Conda packages as the lock writes and reads them, and the order in which they are installed."""

from __future__ import annotations

from dataclasses import replace

import pytest

from lockbuild.condalock import LockedConda, conda_table, in_link_order, parse_conda
from tests.values import sha


def package(name: str, *depends: str) -> LockedConda:
    return LockedConda(
        name=name,
        version="1.0",
        build="h1_0",
        channel="main",
        subdir="linux-64",
        filename=f"{name}-1.0-h1_0.conda",
        md5="0" * 32,
        sha256=sha(name),
        size=len(name),
        depends=depends,
    )


@pytest.mark.parametrize(
    "found", [package("a"), replace(package("b", "a >=1", "__glibc >=2.17"), requested=True)]
)
def test_package_is_read_as_it_was_written(found: LockedConda) -> None:
    assert parse_conda(conda_table(found)) == found


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("filename", "../a-1.0-0.conda"),
        ("filename", "a/b-1.0-0.conda"),
        ("filename", "a-1.0-0.zip"),
        ("subdir", "../linux-64"),
        ("channel", "a/b"),
        ("md5", "zz"),
        ("sha256", "00"),
    ],
)
def test_what_could_lead_astray_is_refused(key: str, value: str) -> None:
    with pytest.raises(ValueError, match="not "):
        parse_conda({**conda_table(package("a")), key: value})


def test_needs_are_names_without_virtual_packages() -> None:
    assert package("a", "b >=1", "__cuda >=11.2", "b <2", "C").needs == ("b", "c")


def test_each_comes_after_what_it_requires() -> None:
    found = in_link_order([package("a", "c"), package("b"), package("c", "d >=1"), package("d")])
    assert [one.name for one in found] == ["d", "c", "a", "b"]


def test_packages_that_require_one_another_are_all_there_in_one_order() -> None:
    ring = [package("python", "pip"), package("pip", "python", "wheel"), package("wheel", "python")]
    found = in_link_order(ring)
    assert sorted(one.name for one in found) == ["pip", "python", "wheel"]
    assert in_link_order(reversed(ring)) == found


def test_long_chain_needs_no_deep_stack() -> None:
    chain = [package(f"p{number}", f"p{number + 1}") for number in range(5000)]
    assert in_link_order(chain)[0].name == "p4999"
