"""Open parts of every kind: what is planned without them, and what waits."""

from __future__ import annotations

from dataclasses import replace

import pytest

from lockbuild.assetlock import LockedAsset
from lockbuild.lock import (
    Lock,
    LockedFile,
    LockedPackage,
    LockedSource,
    OpenPart,
    lock_texts,
    parse_lock,
)
from lockbuild.plan import make_plan
from lockbuild.stack import from_document
from lockbuild.target import Target
from tests.values import sha, small_lock, small_stack, stack_document

TARGET = Target(python="3.11", platform="linux_x86_64", glibc="2.36")


def part(kind: str, name: str) -> OpenPart:
    return OpenPart(kind=kind, name=name, reason="out of reach")


APT, GAMMA, ALPHA = part("apt", "bookworm"), part("source", "gamma"), part("wheel", "alpha")


def without_debs() -> Lock:
    return replace(small_lock(), debs=(), open=(APT,))


def without_gamma() -> Lock:
    lock = small_lock()
    return replace(lock, sources=lock.sources[1:], open=(GAMMA,))


def without_alpha() -> Lock:
    """The lock of a stack that pins alpha's wheel by its first fetch, which has not been yet."""
    lock = small_lock()

    def opened(packages: tuple[LockedPackage, ...]) -> tuple[LockedPackage, ...]:
        url = "https://wheels.example.org/alpha-1.2-py3-none-any.whl"
        return tuple(
            replace(one, wheel=None, index="", urls=(url,)) if one.name == "alpha" else one
            for one in packages
        )

    build = tuple((name, opened(packages)) for name, packages in lock.build)
    return replace(lock, runtime=opened(lock.runtime), build=build, open=(ALPHA,))


def fetched(lock: Lock) -> set[str]:
    return {fetch.filename for fetch in make_plan(small_stack(), lock).fetches()}


EVERYTHING = fetched(small_lock())

# ---- the plan ----------------------------------------------------------------------------------------


def test_nothing_is_blocked_in_a_lock_without_open_parts() -> None:
    assert make_plan(small_stack(), small_lock()).blocked == ()


def test_without_debs_everything_is_fetched_and_nothing_built() -> None:
    plan = make_plan(small_stack(), without_debs())
    assert (plan.builds, plan.roots) == ((), ())
    assert dict(plan.blocked) == dict.fromkeys(["delta", "gamma", "runtime", "toolchain"], (APT,))
    assert fetched(without_debs()) == {name for name in EVERYTHING if not name.endswith(".deb")}


def test_without_debs_an_interpreter_of_its_own_is_fetched() -> None:
    table = {"url": ["https://example.org/cpython-3.11.tar.gz"], "sha256": "0" * 64}
    stack = small_stack(interpreter={"standalone": table})
    names = {fetch.filename for fetch in make_plan(stack, without_debs()).fetches()}
    assert "cpython-3.11.tar.gz" in names


def test_without_the_machine_s_interpreter_everything_else_is_fetched_and_nothing_built() -> None:
    stack, lacking = small_stack(interpreter={"host": "python3.11"}), part("interpreter", "python3.11")
    plan = make_plan(stack, replace(small_lock(), open=(lacking,)))
    assert (plan.builds, plan.roots) == ((), ())
    assert dict(plan.blocked) == dict.fromkeys(["delta", "gamma", "runtime", "toolchain"], (lacking,))
    assert {fetch.filename for fetch in plan.fetches()} == {
        name for name in EVERYTHING if not name.endswith(".deb")
    }


def test_source_blocks_its_build_and_what_needs_it() -> None:
    plan = make_plan(small_stack(), without_gamma())
    assert dict(plan.blocked) == {"gamma": (GAMMA,), "delta": (GAMMA,)}
    assert [name for name, _ in plan.roots] == ["runtime", "toolchain"]
    assert fetched(without_gamma()) == EVERYTHING - {"gamma-2.0.tar.gz"}


def test_source_does_not_block_what_does_not_need_it() -> None:
    document = stack_document()
    document["build"][1]["needs"] = []
    plan = make_plan(from_document(document), without_gamma())
    assert [name for name, _ in plan.builds] == ["delta"]
    assert dict(plan.blocked) == {"gamma": (GAMMA,)}


def test_source_that_is_grafted_blocks_who_grafts_it() -> None:
    document = stack_document()
    document["build"][1] |= {
        "needs": [],
        "edits": [{"graft": "gamma", "take": "csrc", "put": "gamma", "reason": "lacking"}],
    }
    plan = make_plan(from_document(document), without_gamma())
    assert dict(plan.blocked) == {"gamma": (GAMMA,), "delta": (GAMMA,)}


@pytest.mark.parametrize(
    ("edits", "blocked"),
    [([], []), ([{"file": "a.py", "old": "a", "new": "b", "reason": "wrong"}], ["code"])],
)
def test_source_of_the_image_waits_for_the_toolchain_where_it_is_changed(
    edits: list[dict[str, str]], blocked: list[str]
) -> None:
    code = {"name": "code", "git": "https://code.example.org/code", "commit": "1" * 40, "path": "/app"}
    tree = LockedSource(
        name="code",
        version="",
        index="",
        file=LockedFile(filename="code-111111111111", sha256=sha("code")),
        commit="1" * 40,
    )
    lock = replace(without_debs(), sources=(*small_lock().sources, tree))
    plan = make_plan(small_stack(source=[{**code, "edits": edits, "license": "MIT"}]), lock)
    assert [name for name in dict(plan.blocked) if name == "code"] == blocked
    assert [name for name, _ in plan.sources] == ([] if blocked else ["code"])
    assert "code-111111111111" in {fetch.filename for fetch in plan.fetches()}


def test_wheel_blocks_itself_and_the_builds_that_need_it() -> None:
    plan = make_plan(small_stack(), without_alpha())
    assert dict(plan.blocked) == dict.fromkeys(["alpha", "delta", "gamma"], (ALPHA,))
    assert fetched(without_alpha()) == EVERYTHING - {"alpha-1.2-py3-none-any.whl"}


@pytest.mark.parametrize(
    ("root", "blocked"), [("runtime", ["runtime"]), ("toolchain", ["delta", "gamma", "toolchain"])]
)
def test_base_image_blocks_its_own_root_file_system(root: str, blocked: list[str]) -> None:
    plan = make_plan(small_stack(), replace(small_lock(), open=(part("base", root),)))
    assert [name for name, _ in plan.blocked] == blocked


def test_several_parts_are_all_named() -> None:
    lock = replace(without_gamma(), debs=(), open=(APT, GAMMA))
    assert dict(make_plan(small_stack(), lock).blocked)["gamma"] == (APT, GAMMA)


# ---- the lock ----------------------------------------------------------------------------------------


@pytest.mark.parametrize("lock", [without_debs(), without_gamma(), without_alpha()])
def test_an_open_lock_reads_back_as_it_was_written(lock: Lock) -> None:
    texts = lock_texts(lock, name="small", target=TARGET, wheels="../../wheels/small")
    again = parse_lock(texts)
    assert again.open == lock.open
    assert replace(again, digest=lock.digest) == lock


def test_open_packages_have_no_hash_in_the_requirements() -> None:
    texts = lock_texts(without_alpha(), name="small", target=TARGET, wheels="../../wheels/small")
    assert "alpha==1.2  # its bytes are not known yet\n" in texts["requirements.txt"]


def test_every_kind_of_open_part_is_in_one_answer() -> None:
    lock = replace(without_debs(), assets=(LockedAsset(name="weights", reason="gone"),))
    assert [one.label for one in lock.open_parts] == ["apt bookworm", "asset weights"]
