"""What is built again when one plan takes the place of another, on the small ones."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Any

from lockbuild.plan import make_plan
from lockbuild.plan.changes import Rebuilding, Rebuilt, left_by, rebuilding
from tests.values import deb, package, small_lock, small_stack, stack_document

if TYPE_CHECKING:
    from lockbuild.lock import Lock, LockedPackage


def of(lock: Lock | None = None, **changes: Any) -> Rebuilding:
    """Return what is built again once the small stack is changed."""
    old = make_plan(small_stack(), small_lock())
    return rebuilding(old, make_plan(small_stack(**changes), lock or small_lock()))


def named(found: Rebuilding, name: str) -> Rebuilt:
    (one,) = (one for one in (*found.builds, *found.image_builds) if name in one.names)
    return one


def builds(**env: str) -> list[dict[str, Any]]:
    gamma, delta = stack_document()["build"]
    return [{**gamma, "env": env}, delta]


def test_the_same_plan_builds_nothing() -> None:
    assert of() == Rebuilding(fetches=(), builds=())


def test_all_that_needs_a_change_is_built_in_order() -> None:
    found = of(build=builds(FORCE_CUDA="0"))
    order = [name for one in found.builds for name in one.names]
    assert sorted(order) == [
        "environment delta",
        "stamp delta",
        "stamp gamma",
        "wheel delta",
        "wheel gamma",
    ]
    assert order.index("wheel gamma") < order.index("environment delta") < order.index("wheel delta")
    assert named(found, "wheel delta").causes == ("env FORCE_CUDA: 1 -> 0",)
    assert found.stamped_only == ()
    assert len(found.compiled) == 3


def test_reasons_lead_down_to_the_change() -> None:
    (reason,) = named(of(build=builds(FORCE_CUDA="0")), "environment delta").reasons
    assert reason.text == "needs gamma-2.0, which changes"
    assert [one.text for one in reason.because] == ["env FORCE_CUDA: 1 -> 0"]


def test_what_reaches_it_by_way_of_others_can_be_left_out() -> None:
    found = of(build=builds(FORCE_CUDA="0"))
    others = [one.build for one in found.builds]
    assert named(found, "wheel gamma").causes_beside(others) == ("env FORCE_CUDA: 1 -> 0",)
    assert named(found, "environment delta").causes_beside(others) == ()


def test_wheels_of_one_version_for_other_pythons_are_told_apart() -> None:
    lock = small_lock()

    def other(one: LockedPackage) -> LockedPackage:
        if one.name != "beta" or one.wheel is None:
            return one
        return replace(one, wheel=replace(one.wheel, filename="beta-0.9-cp311-cp311-linux_x86_64.whl"))

    build = tuple((name, tuple(map(other, found))) for name, found in lock.build)
    found = of(replace(lock, runtime=tuple(map(other, lock.runtime)), build=build))
    assert named(found, "environment gamma").causes == (
        "input wheel beta: beta-0.9-py3-none-any.whl -> beta-0.9-cp311-cp311-linux_x86_64.whl",
    )


def test_label_alone_is_stamped_alone() -> None:
    lock = small_lock()
    runtime = tuple(replace(p, version="2.0+ours") if p.name == "gamma" else p for p in lock.runtime)
    gamma, delta = stack_document()["build"]
    found = of(replace(lock, runtime=runtime), build=[{**gamma, "label": "ours"}, delta])
    assert found.compiled == ()
    assert [one.names for one in found.stamped_only] == [("stamp gamma",)]
    assert found.stamped_only[0].causes == ("version: 2.0 -> 2.0+ours",)


def test_what_nothing_took_the_place_of_is_new() -> None:
    extra = {**stack_document()["build"][1], "name": "omega"}
    source = replace(small_lock().sources[1], name="omega")
    lock = replace(
        small_lock(),
        sources=(*small_lock().sources, source),
        runtime=(*small_lock().runtime, package("omega", "0.1", index="")),
    )
    one = named(of(lock, build=[*stack_document()["build"], extra]), "wheel omega")
    assert one.former is None
    assert one.causes == ("nothing was built in its place before",)


def test_the_images_own_parts_are_told_apart() -> None:
    lock = small_lock()
    runtime_only = replace(lock, debs=(*lock.debs, deb("libgl1", "runtime")))
    found = of(runtime_only)
    assert (found.builds, found.fetches) == ((), ())
    assert {one.names for one in found.image_builds} == {("root runtime",), ("gate",)}
    assert [fetch.filename for fetch in found.image_fetches] == ["libgl1_1.0-1_amd64.deb"]
    assert named(found, "root runtime").causes == ("package libgl1: now 1.0-1",)


def test_what_was_planned_and_not_needed_is_not_there() -> None:
    stack = small_stack(build=[])
    runtime = tuple(one for one in small_lock().runtime if one.wheel)
    bare = make_plan(stack, replace(small_lock(), runtime=runtime, sources=()))
    assert bare.roots[1][1] not in left_by(bare)
    found = rebuilding(bare, make_plan(small_stack(), small_lock()))
    assert named(found, "root toolchain").causes == ("nothing that was built needed it before",)
    assert named(found, "wheel gamma").causes == ("nothing was built in its place before",)


def test_what_wheels_are_tried_in_is_left_by_a_build() -> None:
    plan = make_plan(small_stack(), small_lock())
    assert plan.environment in left_by(plan)
    assert dict(plan.roots)["runtime"] in left_by(plan)
    assert set(plan.wheelhouse) <= left_by(plan)
