"""What follows from locked conda packages: fetches, one prefix, and Python where it comes from there."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from lockbuild.derivation import Build, ChannelFile, Fetch
from lockbuild.description import TEMPLATE, describe
from lockbuild.dockerfile import render
from lockbuild.documents import toml_text
from lockbuild.errors import LockError, StackError
from lockbuild.lock import OpenPart, lock_texts, parse_lock
from lockbuild.plan import make_plan
from lockbuild.stack import from_document
from lockbuild.stack.schema import parse_stack_text
from tests.test_condalock import package
from tests.test_dockerfile import LOCK, TEMPLATE_TEXTS
from tests.test_plan import build_of, fetch_of
from tests.values import small_lock, stack_document

if TYPE_CHECKING:
    from lockbuild.lock import Lock
    from lockbuild.stack import Stack

CHANNEL = "https://conda.example.org/main"
PACKAGES = (package("apple", "cherry"), package("cherry"), package("python"))


def stack_of(**changes: Any) -> Stack:
    conda = {"channels": [CHANNEL], "packages": ["apple"]}
    return from_document(stack_document(**{"conda": conda, **changes}))


def lock_of() -> Lock:
    return replace(small_lock(), conda=PACKAGES)


def test_each_package_is_a_fetch_from_its_channel() -> None:
    fetch = fetch_of(make_plan(stack_of(), lock_of()), "apple-1.0-h1_0.conda")
    assert fetch.where == ChannelFile(channel="main", subdir="linux-64", url=CHANNEL)
    assert fetch.size == len("apple")


def test_prefix_is_made_of_all_in_the_order_of_what_they_require() -> None:
    plan = make_plan(stack_of(), lock_of())
    build = build_of(plan, "conda")
    assert (build.kind, build.toolchain) == ("prefix", None)
    assert build.command == (
        "--place=/opt/conda",
        "main/linux-64/cherry-1.0-h1_0.conda",
        "main/linux-64/apple-1.0-h1_0.conda",
        "main/linux-64/python-1.0-h1_0.conda",
    )
    assert dict(build.inputs).keys() == {f"{p.name}-1.0-h1_0.conda" for p in PACKAGES}
    assert plan.prefix == build.path
    assert build.path in plan.targets


def test_address_of_the_channel_changes_nothing() -> None:
    other = stack_of(conda={"channels": ["https://mirror.example.org/main"], "packages": ["apple"]})
    assert make_plan(other, lock_of()).prefix == make_plan(stack_of(), lock_of()).prefix


def test_other_builds_do_not_follow_from_it() -> None:
    plan, without = make_plan(stack_of(), lock_of()), make_plan(stack_of(), small_lock())
    assert without.prefix is None
    assert (plan.builds, plan.roots) == (without.builds, without.roots)


def test_python_from_conda_is_in_both_root_file_systems() -> None:
    plan = make_plan(stack_of(interpreter={"conda": "python"}), lock_of())
    prefix = build_of(plan, "conda")
    assert plan.prefix is None
    for root, path in plan.roots:
        build = plan.derivations[path]
        assert isinstance(build, Build), root
        assert "--interpreter=3.11:/opt/conda:conda/conda.tar" in build.command
        assert dict(build.inputs)["conda"] == prefix.path
    env = dict(build_of(plan, "gamma-2.0").env)
    assert env["PATH"].endswith(
        ":/opt/conda/bin:/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
    )
    assert (env["CC"], env["CXX"]) == ("gcc", "g++")


def test_python_from_conda_needs_a_lock_with_it() -> None:
    with pytest.raises(LockError, match="has no conda packages"):
        make_plan(stack_of(interpreter={"conda": "python"}), small_lock())


def test_open_packages_hold_up_the_prefix_alone() -> None:
    part = OpenPart(kind="conda", name="main", reason="out of reach")
    plan = make_plan(stack_of(), replace(small_lock(), open=(part,)))
    assert plan.blocked == (("conda", (part,)),)
    assert [name for name, _ in plan.roots] == ["runtime", "toolchain"]


def test_open_packages_hold_up_everything_where_python_is_one() -> None:
    part = OpenPart(kind="conda", name="main", reason="out of reach")
    stack = stack_of(interpreter={"conda": "python"})
    plan = make_plan(stack, replace(small_lock(), open=(part,)))
    assert dict(plan.blocked) == dict.fromkeys(
        ["conda", "delta", "gamma", "runtime", "toolchain"], (part,)
    )


@pytest.mark.parametrize(
    ("changes", "expected"),
    [
        ({"interpreter": {"conda": "python"}}, "a table `[conda]`"),
        ({"interpreter": {"conda": "python", "apt": "python3"}}, "exactly one of"),
        ({"conda": {"channels": [CHANNEL]}}, "`conda.packages`"),
    ],
)
def test_python_from_conda_and_channels_belong_together(changes: dict[str, Any], expected: str) -> None:
    with pytest.raises(StackError) as caught:
        parse_stack_text(toml_text(stack_document(**changes)), file="stack.toml")
    assert expected in "\n".join(caught.value.details)


def test_channels_alone_are_enough_where_python_comes_from_them() -> None:
    document = stack_document(interpreter={"conda": "python"}, conda={"channels": [CHANNEL]})
    assert parse_stack_text(toml_text(document), file="stack.toml") == document


def test_dockerfile_unpacks_the_prefix_unless_the_base_has_it() -> None:
    lock = replace(LOCK, conda=PACKAGES)
    text = render(stack_of(), lock, templates=TEMPLATE_TEXTS)["Dockerfile"]
    assert text.count("ADD conda/conda.tar /\n") == 1
    text = render(stack_of(interpreter={"conda": "python"}), lock, templates=TEMPLATE_TEXTS)[
        "Dockerfile"
    ]
    assert "ADD conda/" not in text
    assert "/opt/conda/bin/python3.11 -m venv" in text
    assert 'PATH="/opt/venv/bin:/opt/conda/bin:' in text


def test_lock_with_conda_packages_is_read_as_it_was_written() -> None:
    stack = stack_of()
    further = {"conda-lock.yml": "version: 1\n"}
    texts = lock_texts(lock_of(), name="small", target=stack.target, wheels="w", further=further)
    found = parse_lock(texts)
    assert found.conda == PACKAGES
    texts["conda-lock.yml"] += "#\n"
    with pytest.raises(LockError, match="conda-lock.yml is not as it was written"):
        parse_lock(texts)


def test_every_fetch_is_known_by_its_bytes() -> None:
    plan = make_plan(stack_of(), lock_of())
    channel = [f for f in plan.fetches() if isinstance(f.where, ChannelFile)]
    assert {f.sha256 for f in channel} == {p.sha256 for p in PACKAGES}
    assert all(isinstance(f, Fetch) for f in channel)


def test_page_of_the_stack_lists_packages_and_channels() -> None:
    text = (Path(__file__).parents[1] / "templates" / TEMPLATE).read_text(encoding="utf-8")
    page = describe(stack_of(interpreter={"conda": "python"}), lock_of(), template=text)
    assert "| Python | 3.11: the conda package `python` |" in page
    assert "| cherry | 1.0 | h1_0 | the channel `main` |" in page
