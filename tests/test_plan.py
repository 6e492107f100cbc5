"""Plans: which derivations follow from a stack and its lock, and what is missing to realise them."""

from __future__ import annotations

import json
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lockbuild.derivation import (
    Addresses,
    BesideFile,
    Build,
    Fetch,
    FolderArchive,
    GitTree,
    HostInterpreter,
    IndexFile,
    PoolFile,
)
from lockbuild.documents import json_text
from lockbuild.errors import LockError, StackError
from lockbuild.lock import LockedFile, LockedSource
from lockbuild.plan import Missing, Plan, make_plan, missing
from tests.values import HOST, any_build, deb, package, sha, small_lock, small_stack, stack_document

if TYPE_CHECKING:
    from collections.abc import Callable
    from random import Random

    from lockbuild.derivation import Derivation
    from lockbuild.digest import StorePath
    from lockbuild.lock import Lock, LockedPackage
    from lockbuild.stack import Stack


def small_plan(**changes: Any) -> Plan:
    return make_plan(small_stack(**changes), small_lock())


def build_of(plan: Plan, name: str) -> Build:
    """Return the only build called *name*."""
    (build,) = (d for d in plan.derivations.values() if isinstance(d, Build) and d.name == name)
    return build


def environment_of(plan: Plan, name: str) -> Build:
    """Return the build environment of the only build called *name*."""
    environment = plan.derivations[dict(build_of(plan, name).inputs)["environment"]]
    assert isinstance(environment, Build)
    return environment


def everything(found: Missing) -> set[StorePath]:
    return {fetch.path for fetch in found.to_fetch} | {build.path for build in found.to_build}


def fetch_of(plan: Plan, filename: str) -> Fetch:
    (fetch,) = (fetch for fetch in plan.fetches() if fetch.filename == filename)
    return fetch


def changed_build(position: int, **changes: Any) -> list[dict[str, Any]]:
    """Return the small stack's builds with keys of one replaced."""
    builds = stack_document()["build"]
    builds[position] = {**builds[position], **changes}
    return list(builds)


# ---- what a plan holds -------------------------------------------------------------------------------


def shown(derivation: Derivation) -> dict[str, Any]:
    if isinstance(derivation, Fetch):
        return {"path": derivation.path, "fetch": derivation.filename}
    return {
        "path": derivation.path,
        derivation.kind: derivation.name,
        "toolchain": derivation.toolchain,
        "command": [json.loads(word) if word.startswith("{") else word for word in derivation.command],
        "env": dict(derivation.env),
        "inputs": dict(derivation.inputs),
    }


def test_plan_is_the_golden_one(golden: Callable[[str, str], None]) -> None:
    plan = small_plan()
    derivations = sorted(plan.derivations.values(), key=lambda d: (type(d).__name__, d.path.name))
    golden("plan.json", json_text([shown(derivation) for derivation in derivations]))


def test_every_derivation_stands_at_its_own_path() -> None:
    assert all(path == derivation.path for path, derivation in small_plan().derivations.items())


def test_every_reference_is_planned() -> None:
    plan = small_plan()
    for derivation in plan.derivations.values():
        if isinstance(derivation, Build):
            assert set(derivation.references) <= plan.derivations.keys()


def test_targets_are_wheels_builds_roots_and_installer() -> None:
    plan = small_plan()
    assert [plan.name_of(path) for path in plan.targets] == [
        "alpha-1.2-py3-none-any.whl",
        "beta-0.9-py3-none-any.whl",
        "delta-0.1-stamped",
        "gamma-2.0-stamped",
        "bookworm-runtime",
        "bookworm-toolchain",
        "pip-25.0-py3-none-any.whl",
    ]


def test_target_that_is_asked_for_twice_is_one() -> None:
    lock = small_lock()
    plan = make_plan(small_stack(), replace(lock, runtime=(*lock.runtime, package("pip", "25.0"))))
    assert len(plan.targets) == len(set(plan.targets))
    assert plan.installer in dict(plan.wheels).values()


def test_fetches_are_sorted_by_path() -> None:
    paths = [fetch.path for fetch in small_plan().fetches()]
    assert paths == sorted(paths)
    assert len(paths) == 10


def test_stack_without_builds_still_brings_the_installer() -> None:
    lock = replace(small_lock(), runtime=(package("alpha", "1.2"),), sources=())
    plan = make_plan(small_stack(build=[]), lock)
    assert plan.builds == ()
    assert plan.name_of(plan.installer) == "pip-25.0-py3-none-any.whl"


# ---- where things are looked for -----------------------------------------------------------------------


def test_wheel_of_the_default_index_has_no_address() -> None:
    where = fetch_of(small_plan(), "alpha-1.2-py3-none-any.whl").where
    assert where == IndexFile(index="pypi", project="alpha", url=None)


def test_wheel_of_a_named_index_has_its_address() -> None:
    where = fetch_of(small_plan(), "beta-0.9-py3-none-any.whl").where
    address = "https://packages.example.org/simple"
    assert where == IndexFile(index="extra", project="beta", url=address)


def test_pinned_wheel_is_looked_for_where_the_stack_says() -> None:
    lock = small_lock()
    pinned = replace(package("zeta", index=""), wheel=package("zeta").wheel, urls=("file:///zeta",))
    plan = make_plan(small_stack(), replace(lock, runtime=(*lock.runtime, pinned)))
    assert fetch_of(plan, "zeta-1.0-py3-none-any.whl").where == Addresses(urls=("file:///zeta",))


def test_sdist_is_looked_for_in_its_index() -> None:
    where = fetch_of(small_plan(), "gamma-2.0.tar.gz").where
    assert where == IndexFile(index="pypi", project="gamma", url=None)


def test_folder_is_packed_here() -> None:
    assert fetch_of(small_plan(), "delta-0.1.tar").where == FolderArchive(path="extension")


def test_deb_is_looked_for_in_the_archive_of_the_stack() -> None:
    base = {"debian": {"suite": "noble", "vendor": "ubuntu", "snapshot": "20250601T000000Z"}}
    where = fetch_of(small_plan(base=base), "libc6_2.36-9+deb12u10_amd64.deb").where
    path = "pool/main/l/libc6/libc6_2.36-9+deb12u10_amd64.deb"
    assert where == PoolFile(vendor="ubuntu", path=path, snapshot="20250601T000000Z")


# ---- root file systems -----------------------------------------------------------------------------


def test_root_holds_its_own_debs_only() -> None:
    plan = small_plan()
    runtime = [name for name, _ in build_of(plan, "bookworm-runtime").inputs]
    toolchain = [name for name, _ in build_of(plan, "bookworm-toolchain").inputs]
    assert [name.partition("_")[0] for name in runtime] == ["libc6", "python3", "tzdata"]
    assert set(toolchain) - set(runtime) == {"g++_4:12.2.0-3_amd64.deb"}


def test_root_needs_no_toolchain() -> None:
    root = build_of(small_plan(), "bookworm-runtime")
    assert (root.kind, root.toolchain) == ("rootfs", None)
    assert root.command[0] == "--suite=bookworm"


# ---- builds ----------------------------------------------------------------------------------------


def test_build_environment_holds_what_the_build_asks_for_with_its_requirements() -> None:
    inputs = environment_of(small_plan(), "gamma-2.0").inputs
    assert [name for name, _ in inputs] == [
        "wheels/alpha-1.2-py3-none-any.whl",
        "wheels/beta-0.9-py3-none-any.whl",
        "wheels/pip-25.0-py3-none-any.whl",
        "wheels/setuptools-80.0-py3-none-any.whl",
    ]


def test_build_environment_holds_nothing_else() -> None:
    plan = small_plan(build=changed_build(0, needs=[]))
    names = [name for name, _ in environment_of(plan, "gamma-2.0").inputs]
    assert names == ["wheels/pip-25.0-py3-none-any.whl", "wheels/setuptools-80.0-py3-none-any.whl"]


def test_builds_that_want_the_same_packages_share_their_environment() -> None:
    wanted = {key: changed_build(0)[0][key] for key in ("needs", "build-requires")}
    plan = small_plan(build=changed_build(1, environment="", **wanted))
    assert environment_of(plan, "delta-0.1") == environment_of(plan, "gamma-2.0")


def test_build_compiles_against_the_very_wheel_that_ships() -> None:
    plan = small_plan()
    inputs = dict(environment_of(plan, "gamma-2.0").inputs)
    assert inputs["wheels/alpha-1.2-py3-none-any.whl"] == dict(plan.wheels)["alpha"]


def test_build_that_another_needs_is_its_input() -> None:
    plan = small_plan()
    environment = environment_of(plan, "delta-0.1")
    assert dict(environment.inputs)["built/gamma"] == dict(plan.compiles)["gamma"]
    assert "/build/inputs/built/*/*.whl" in environment.command[2]


def test_build_sees_its_environment_and_its_source() -> None:
    plan = small_plan()
    gamma = build_of(plan, "gamma-2.0")
    assert gamma.inputs == (
        ("environment", environment_of(plan, "gamma-2.0").path),
        ("source/gamma-2.0.tar.gz", fetch_of(plan, "gamma-2.0.tar.gz").path),
    )
    assert gamma.toolchain == dict(plan.roots)["toolchain"]


def test_build_is_given_the_architectures_of_the_stack() -> None:
    env = dict(build_of(small_plan(), "gamma-2.0").env)
    assert (env["TORCH_CUDA_ARCH_LIST"], env["FORCE_CUDA"]) == ("8.6;8.9+PTX", "1")


def test_stack_without_architectures_sets_none() -> None:
    target = {"python": "3.11", "platform": "linux_x86_64", "glibc": "2.36"}
    assert "TORCH_CUDA_ARCH_LIST" not in dict(build_of(small_plan(target=target), "gamma-2.0").env)


def test_variable_of_a_build_is_the_stronger_one() -> None:
    plan = small_plan(build=changed_build(0, env={"SOURCE_DATE_EPOCH": "1", "PATH": "/opt/bin"}))
    env = dict(build_of(plan, "gamma-2.0").env)
    assert (env["SOURCE_DATE_EPOCH"], env["PATH"]) == ("1", "/opt/bin")


@pytest.mark.parametrize(
    ("filename", "unpacks"),
    [
        (
            "gamma-2.0.tar.gz",
            "tar --extract --file /build/inputs/source/gamma-2.0.tar.gz --no-same-owner",
        ),
        ("gamma-2.0.zip", "python3 -m zipfile -e /build/inputs/source/gamma-2.0.zip .;"),
        ("gamma;~2.tar", "tar --extract --file '/build/inputs/source/gamma;~2.tar' --no-same-owner"),
    ],
)
def test_source_is_unpacked_by_its_kind(filename: str, unpacks: str) -> None:
    lock = small_lock()
    gamma = replace(lock.sources[0], file=replace(lock.sources[0].file, filename=filename))
    plan = make_plan(small_stack(), replace(lock, sources=(gamma, lock.sources[1])))
    assert build_of(plan, "gamma-2.0").command[2].startswith(f"cd /build/source; {unpacks}")


# ---- what moves what -------------------------------------------------------------------------------


def moved(stack: Stack | None = None, lock: Lock | None = None) -> set[str]:
    """Return the targets of the small stack whose paths differ with another stack or lock."""
    before, after = small_plan(), make_plan(stack or small_stack(), lock or small_lock())
    named = {after.name_of(path) for path in set(after.targets) - set(before.targets)}
    compiled = {after.name_of(p) for _, p in set(after.compiles) - set(before.compiles)}
    assert {f"{name}-stamped" for name in compiled} <= named
    return {name for name in named if not name.endswith("-stamped")} | compiled


EVERY_BUILD = {"gamma-2.0", "delta-0.1"}


@pytest.mark.parametrize(
    ("changes", "expected"),
    [
        ({"summary": "another"}, set()),
        ({"env": {"OMP_NUM_THREADS": "2"}}, set()),
        ({"preflight": {"imports": []}}, set()),
        ({"python": {"requires": ["alpha>=1"]}}, set()),
        ({"build": changed_build(0, env={})}, EVERY_BUILD),
        ({"build": changed_build(0, needs=[])}, EVERY_BUILD),
        ({"build": changed_build(0, expects=[])}, set()),
        ({"build": changed_build(1, needs=[])}, {"delta-0.1"}),
    ],
)
def test_change_of_the_stack_moves(changes: dict[str, Any], expected: set[str]) -> None:
    assert moved(stack=small_stack(**changes)) == expected


def test_other_wheel_moves_what_is_compiled_against_it() -> None:
    def swapped(packages: tuple[LockedPackage, ...]) -> tuple[LockedPackage, ...]:
        return tuple(package("beta", "1.0", index="extra") if p.name == "beta" else p for p in packages)

    lock = small_lock()
    build = tuple((name, swapped(packages)) for name, packages in lock.build)
    other = replace(lock, runtime=swapped(lock.runtime), build=build)
    assert moved(lock=other) == {*EVERY_BUILD, "beta-1.0-py3-none-any.whl"}


def test_other_compiler_moves_every_build_but_not_the_runtime() -> None:
    debs = (deb("g++", "toolchain", version="4:13"), *small_lock().debs[1:])
    assert moved(lock=replace(small_lock(), debs=debs)) == {*EVERY_BUILD, "bookworm-toolchain"}


def test_other_source_moves_its_build_and_what_needs_it() -> None:
    lock = small_lock()
    gamma, delta = lock.sources
    other = replace(gamma, file=replace(gamma.file, sha256=sha("another")))
    assert moved(lock=replace(lock, sources=(other, delta))) == EVERY_BUILD


@pytest.mark.property
@given(st.randoms())
def test_plan_does_not_depend_on_the_order_of_stack_and_lock(random: Random) -> None:
    def mixed(values: tuple[Any, ...]) -> tuple[Any, ...]:
        return tuple(random.sample(values, len(values)))

    stack, lock = small_stack(), small_lock()
    other_lock = replace(
        lock,
        runtime=mixed(lock.runtime),
        build=mixed(tuple((name, mixed(packages)) for name, packages in lock.build)),
        sources=mixed(lock.sources),
        debs=mixed(lock.debs),
    )
    found = make_plan(replace(stack, builds=mixed(stack.builds)), other_lock)
    expected = small_plan()
    assert found.derivations == expected.derivations
    assert found.builds == expected.builds
    assert set(found.targets) == set(expected.targets)


# ---- faults ----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("changes", "absent"),
    [
        ({"needs": ["omega"]}, "omega"),
        ({"build-requires": ["Cython>=3", "ninja; python_version < '3.9'"]}, "cython"),
    ],
)
def test_what_a_build_needs_must_be_locked(changes: dict[str, Any], absent: str) -> None:
    with pytest.raises(LockError, match=f"lacks what build `gamma` needs: {absent}$") as caught:
        small_plan(build=changed_build(0, **changes))
    assert caught.value.hint == "lockbuild resolve small"


@pytest.mark.parametrize("packages", [(), (package("pip", index=""),)])
def test_installer_must_be_locked(packages: tuple[LockedPackage, ...]) -> None:
    lock = replace(small_lock(), build=(("", packages),), sources=())
    with pytest.raises(LockError, match=r"pylock.build.toml has no wheel of `pip`"):
        make_plan(small_stack(build=[]), lock)


def test_source_must_be_locked() -> None:
    with pytest.raises(LockError, match="has no source of `delta`"):
        make_plan(small_stack(), replace(small_lock(), sources=()))


def test_builds_in_a_circle_are_refused() -> None:
    lock = small_lock()
    alpha, beta, gamma, pip, setuptools = lock.build_environment("native")
    delta = package("delta", "0.1", index="")
    environment = (alpha, beta, delta, gamma, pip, setuptools)
    builds = changed_build(0, needs=["delta"], environment="native")
    with pytest.raises(StackError, match=r"in a circle: delta -> gamma -> delta$") as caught:
        make_plan(
            small_stack(build=builds),
            replace(lock, build=(lock.build[0], ("native", environment))),
        )
    assert caught.value.hint is not None


# ---- what is missing -------------------------------------------------------------------------------


def test_everything_is_missing_at_first() -> None:
    plan = small_plan()
    found = missing(plan, plan.targets, valid=frozenset())
    # What the gate judges wheels in is in no image.
    assert everything(found) == set(plan.derivations) - {plan.environment}
    assert not found.nothing


def test_nothing_is_missing_at_last() -> None:
    plan = small_plan()
    found = missing(plan, plan.targets, valid=frozenset(plan.targets))
    assert found == Missing(to_fetch=(), to_build=())
    assert found.nothing


def test_one_target_needs_its_own_closure_only() -> None:
    plan = small_plan()
    found = missing(plan, [dict(plan.roots)["runtime"]], valid=frozenset())
    assert [build.name for build in found.to_build] == ["bookworm-runtime"]
    assert [fetch.filename.partition("_")[0] for fetch in found.to_fetch] == [
        "libc6",
        "python3",
        "tzdata",
    ]


def test_valid_build_hides_its_inputs() -> None:
    plan = small_plan()
    valid = frozenset([dict(plan.compiles)["gamma"], dict(plan.roots)["toolchain"]])
    found = missing(plan, [dict(plan.compiles)["delta"]], valid=valid)
    assert found.to_build == (environment_of(plan, "delta-0.1"), build_of(plan, "delta-0.1"))
    assert [fetch.filename for fetch in found.to_fetch] == [
        "alpha-1.2-py3-none-any.whl",
        "beta-0.9-py3-none-any.whl",
        "delta-0.1.tar",
        "pip-25.0-py3-none-any.whl",
        "setuptools-80.0-py3-none-any.whl",
    ]


@st.composite
def graphs(draw: st.DrawFn) -> tuple[dict[StorePath, Derivation], list[StorePath], frozenset[StorePath]]:
    """Draw derivations each of which needs some earlier ones, targets among them, and valid ones."""
    derivations: dict[StorePath, Derivation] = {}
    for number in range(draw(st.integers(1, 12))):
        references = (
            sorted(draw(st.sets(st.sampled_from(list(derivations)), max_size=4))) if number else []
        )
        derivation: Derivation = (
            any_build(
                name=f"build-{number}",
                toolchain=references[0] if number % 3 and references else None,
                inputs=tuple((f"{position}", path) for position, path in enumerate(references)),
            )
            if references or number % 2
            else Fetch(
                filename=f"file-{number}",
                sha256=sha(str(number)),
                size=None,
                where=FolderArchive(path="."),
            )
        )
        derivations[derivation.path] = derivation
    paths = st.sampled_from(list(derivations))
    return derivations, draw(st.lists(paths, max_size=4)), draw(st.frozensets(paths))


def references_of(derivation: Derivation) -> tuple[StorePath, ...]:
    return derivation.references if isinstance(derivation, Build) else ()


@pytest.mark.property
@given(graphs())
def test_missing_is_the_closure_and_nothing_more(
    graph: tuple[dict[StorePath, Derivation], list[StorePath], frozenset[StorePath]],
) -> None:
    derivations, targets, valid = graph
    plan = replace(small_plan(), derivations=derivations)
    found = missing(plan, targets, valid=valid)

    # Nothing is named twice, and builds come in an order in which each finds what it needs.
    builds = [build.path for build in found.to_build]
    there = valid | {fetch.path for fetch in found.to_fetch}
    for build in found.to_build:
        assert set(build.references) <= there | set(builds[: builds.index(build.path)])
    assert len({*builds}) == len(builds)

    # What is named is what can be reached from the targets without passing through a valid object.
    reached = set(targets) - valid
    while True:
        further = {r for path in reached for r in references_of(derivations[path])} - valid - reached
        if not further:
            break
        reached |= further
    assert everything(found) == reached


@pytest.mark.property
@given(graphs())
def test_after_doing_what_is_missing_nothing_is(
    graph: tuple[dict[StorePath, Derivation], list[StorePath], frozenset[StorePath]],
) -> None:
    derivations, targets, valid = graph
    plan = replace(small_plan(), derivations=derivations)
    found = missing(plan, targets, valid=valid)
    done = valid | everything(found)
    assert missing(plan, targets, valid=done).nothing


# ---- trees and edits ---------------------------------------------------------------------------------

COMMIT = "0123456789" * 4
TREE = {"git": "https://git.example.org/gamma", "commit": COMMIT}
OTHER = {"name": "other", "git": "https://git.example.org/other", "commit": COMMIT[::-1]}
PATCH = {"patch": "patches/more.patch", "reason": "more"}
GRAFT = {"graft": "other", "take": "deeplab", "put": "deeplab", "reason": "lacking"}
TEXT = {"file": "setup.py", "old": "c++14", "new": "c++17", "reason": "torch needs it"}


def tree_plan(*edits: dict[str, Any], patch: str = "patch", **source: Any) -> Plan:
    """Return the plan of the small stack with `gamma` from a tree that is edited."""
    gamma = {"source": {**TREE, **source}, "edits": list(edits)}
    stack = small_stack(build=changed_build(0, **gamma), source=[OTHER])
    content = LockedFile(filename="more.patch", sha256=sha(patch), size=len(patch))
    tree, other = (
        LockedSource(
            name=name,
            version=version,
            index="",
            file=LockedFile(filename=f"{name}-{commit[:12]}", sha256=sha(name)),
            commit=commit,
            patches=patches,
        )
        for name, version, commit, patches in (
            ("gamma", "2.0", COMMIT, (("patches/more.patch", content),)),
            ("other", "", COMMIT[::-1], ()),
        )
    )
    lock = small_lock()
    return make_plan(stack, replace(lock, sources=(tree, lock.source("delta"), other)))


def test_tree_without_edits_is_the_source_itself() -> None:
    plan = tree_plan()
    tree = fetch_of(plan, f"gamma-{COMMIT[:12]}")
    build = build_of(plan, "gamma-2.0")
    assert dict(build.inputs)["source"] == tree.path
    assert build.command[2].startswith(
        "cd /build/source; mkdir tree; cp -R /build/inputs/source/. tree;"
    )


def test_tree_is_looked_for_as_the_stack_says_and_the_lock_pins() -> None:
    plan = tree_plan(submodules=True, include=["csrc"], exclude=["csrc/test"])
    assert fetch_of(plan, f"gamma-{COMMIT[:12]}").where == GitTree(
        url="https://git.example.org/gamma",
        commit=COMMIT,
        submodules=True,
        include=("csrc",),
        exclude=("csrc/test",),
    )


def test_subdirectory_is_what_is_built() -> None:
    command = build_of(tree_plan(subdirectory="sub dir/cuda"), "gamma-2.0").command[2]
    assert "; cd tree; " in command
    assert "; cd 'sub dir/cuda'; python3 -m pip wheel " in command


def test_edited_tree_is_a_build_of_tree_patches_and_grafts() -> None:
    plan = tree_plan(PATCH, GRAFT, TEXT)
    source = build_of(plan, "gamma-source")
    assert (source.kind, source.toolchain) == ("source", dict(plan.roots)["toolchain"])
    assert source.inputs == (
        ("grafts/other", fetch_of(plan, f"other-{COMMIT[::-1][:12]}").path),
        ("patches/1-more.patch", fetch_of(plan, "more.patch").path),
        ("tree", fetch_of(plan, f"gamma-{COMMIT[:12]}").path),
    )
    assert fetch_of(plan, "more.patch").where == BesideFile(path="patches/more.patch")
    assert dict(build_of(plan, "gamma-2.0").inputs)["source"] == source.path


def test_edited_sdist_is_a_build_of_its_archive() -> None:
    plan = small_plan(build=changed_build(0, edits=[TEXT]))
    source = build_of(plan, "gamma-source")
    assert source.inputs == (("tree", fetch_of(plan, "gamma-2.0.tar.gz").path),)
    assert dict(build_of(plan, "gamma-2.0").inputs)["source"] == source.path


def test_source_that_nothing_grafts_is_not_fetched() -> None:
    names = {fetch.filename for fetch in tree_plan(TEXT).fetches()}
    assert not {name for name in names if name.startswith("other-")}


@pytest.mark.parametrize(
    "again",
    [
        tree_plan(PATCH, GRAFT, {**TEXT, "reason": "another"}),
        tree_plan(PATCH, GRAFT, TEXT, git="https://mirror.example.org/gamma"),
    ],
    ids=["reason", "address"],
)
def test_what_people_read_and_where_bytes_come_from_rebuild_nothing(again: Plan) -> None:
    assert again.compiles == tree_plan(PATCH, GRAFT, TEXT).compiles


@pytest.mark.parametrize(
    "again",
    [
        tree_plan(PATCH, GRAFT, TEXT, patch="another"),
        tree_plan(GRAFT, PATCH, TEXT),
        tree_plan(PATCH, GRAFT, {**TEXT, "new": "c++20"}),
        tree_plan(PATCH, {**GRAFT, "put": "elsewhere"}, TEXT),
        tree_plan(PATCH, GRAFT),
    ],
    ids=["patch", "order", "text", "place", "fewer"],
)
def test_other_edits_rebuild(again: Plan) -> None:
    before = tree_plan(PATCH, GRAFT, TEXT)
    assert dict(again.builds)["gamma"] != dict(before.builds)["gamma"]
    assert again.roots == before.roots


def placed_plan(*edits: dict[str, Any], folder: str = "", **changes: Any) -> Plan:
    """Return the plan of the small stack with the source `other` in its image, from a tree or a folder."""
    origin = {"folder": folder} if folder else {key: OTHER[key] for key in ("git", "commit")}
    table = {"name": "other", **origin, "path": "/app", "license": "MIT", **changes}
    content = LockedFile(filename="more.patch", sha256=sha("patch"), size=5)
    locked = LockedSource(
        name="other",
        version="",
        index="",
        file=LockedFile(filename="other.tar" if folder else "other-9876543210", sha256=sha("other")),
        path=folder or None,
        commit=None if folder else COMMIT[::-1],
        patches=(("patches/more.patch", content),),
    )
    lock = small_lock()
    stack = small_stack(source=[{**table, "edits": list(edits)}])
    return make_plan(stack, replace(lock, sources=(*lock.sources, locked)))


def test_tree_of_the_image_is_a_target() -> None:
    plan = placed_plan()
    assert plan.sources == (("other", fetch_of(plan, "other-9876543210").path),)
    assert plan.sources[0][1] in plan.targets


def test_edited_tree_of_the_image_is_a_build() -> None:
    plan = placed_plan(PATCH, TEXT)
    build = build_of(plan, "other-source")
    assert plan.sources == (("other", build.path),)
    assert dict(build.inputs) == {
        "patches/1-more.patch": fetch_of(plan, "more.patch").path,
        "tree": fetch_of(plan, "other-9876543210").path,
    }


def test_folder_of_the_image_is_a_build_that_unpacks_its_archive() -> None:
    plan = placed_plan(folder="app")
    build = build_of(plan, "other-source")
    assert plan.sources == (("other", build.path),)
    assert build.inputs == (("tree", fetch_of(plan, "other.tar").path),)


def test_where_the_image_has_a_source_rebuilds_nothing() -> None:
    again = placed_plan(PATCH, path="/elsewhere", writable=True, subdirectory="src")
    assert again.sources == placed_plan(PATCH).sources


# ---- a standalone interpreter --------------------------------------------------------------------------

ARCHIVE = "cpython-3.11.9+1-install_only.tar.gz"


def standalone_plan(**changes: Any) -> Plan:
    """Return the small stack's plan with an interpreter of its own, with some top-level keys replaced."""
    standalone = {"url": [f"https://example.org/{ARCHIVE}"], "sha256": "a" * 64, "size": 7}
    return small_plan(interpreter={"standalone": standalone}, **changes)


def test_standalone_interpreter_is_looked_for_where_the_stack_says() -> None:
    fetch = fetch_of(standalone_plan(), ARCHIVE)
    assert (fetch.sha256, fetch.size) == ("a" * 64, 7)
    assert fetch.where == Addresses(urls=(f"https://example.org/{ARCHIVE}",))


def test_standalone_interpreter_is_in_every_root() -> None:
    plan = standalone_plan()
    for _, path in plan.roots:
        root = plan.derivations[path]
        assert isinstance(root, Build)
        assert dict(root.inputs)[ARCHIVE] == fetch_of(plan, ARCHIVE).path
        assert f"--interpreter=3.11:/opt/python:{ARCHIVE}" in root.command


def test_every_python_of_a_build_is_the_standalone_one() -> None:
    edit = {"file": "a.py", "old": "1", "new": "2", "reason": "r"}
    plan = standalone_plan(build=changed_build(0, edits=[edit]))
    builds = (
        build_of(plan, "gamma-source"),
        environment_of(plan, "gamma-2.0"),
        build_of(plan, "gamma-2.0"),
    )
    for build in builds:
        path = dict(build.env)["PATH"]
        found = [folder for folder in path.split(":") if not folder.startswith("/build/")]
        assert found[0] == "/opt/python/bin", build.name


def test_standalone_interpreter_compiles_with_the_toolchain_s_compilers() -> None:
    env = dict(build_of(standalone_plan(), "gamma-2.0").env)
    assert {name: env[name] for name in ("AR", "CC", "CXX", "LDCXXSHARED", "LDSHARED")} == {
        "AR": "ar",
        "CC": "gcc",
        "CXX": "g++",
        "LDCXXSHARED": "g++ -shared",
        "LDSHARED": "gcc -shared",
    }


def test_compilers_of_a_build_s_own_link_too() -> None:
    build = changed_build(0, env={"CC": "gcc-11", "CXX": "g++-11", "LDCXXSHARED": "mold"})
    env = dict(build_of(standalone_plan(build=build), "gamma-2.0").env)
    assert (env["CC"], env["LDSHARED"], env["LDCXXSHARED"]) == ("gcc-11", "gcc-11 -shared", "mold")


def test_other_interpreter_moves_every_root_and_build() -> None:
    before, after = small_plan(), standalone_plan()
    assert not {path for path in after.targets if isinstance(after.derivations[path], Build)} & {
        *before.targets
    }


# ---- an interpreter of the machine that resolved --------------------------------------------------------


def host_plan() -> Plan:
    stack = small_stack(interpreter={"host": "python3.11"})
    return make_plan(stack, replace(small_lock(), interpreter=HOST))


def test_machine_s_interpreter_is_made_again_where_it_is_missing() -> None:
    fetch = fetch_of(host_plan(), HOST.file.filename)
    assert (fetch.sha256, fetch.size) == (HOST.file.sha256, HOST.file.size)
    assert fetch.where == HostInterpreter(command="python3.11")


def test_machine_s_interpreter_is_a_standalone_one_for_whoever_uses_it() -> None:
    plan, name = host_plan(), HOST.file.filename
    for _, path in plan.roots:
        root = plan.derivations[path]
        assert isinstance(root, Build)
        assert dict(root.inputs)[name] == fetch_of(plan, name).path
        assert f"--interpreter=3.11:/opt/python:{name}" in root.command
    env = dict(build_of(plan, "gamma-2.0").env)
    assert (env["CC"], "/opt/python/bin" in env["PATH"].split(":")) == ("gcc", True)


def test_lock_without_the_machine_s_interpreter_is_refused() -> None:
    with pytest.raises(LockError, match="the lock has no interpreter `python3.11`"):
        small_plan(interpreter={"host": "python3.11"})
