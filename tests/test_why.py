"""Why something is built again, on the small stack at the command line; and what builds nothing again."""

from __future__ import annotations

import json
import tomllib
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import pytest

from lockbuild.derivation import SANDBOX_VERSION
from lockbuild.derivationtext import derivation_text
from lockbuild.documents import toml_text
from lockbuild.folders import STACK_FILE
from lockbuild.plan import make_plan
from lockbuild.plan.reasons import keys_of, reasons_for
from tests.test_cli import builder, run, world
from tests.values import any_build, deb, package, sha, small_lock, small_stack

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from lockbuild.lock import Lock
    from tests.fakes import ScriptedBuilder
    from tests.test_cli import Run
    from tests.worlds import World

__all__ = ["builder", "run", "world"]

EDIT = {"file": "setup.py", "old": "14", "new": "17", "reason": "why"}


def edit(world: World, change: Callable[[dict[str, Any]], object], lock: Lock | None = None) -> None:
    """Change the stack file, and lock it."""
    lock = lock or world.lock
    document = tomllib.loads(world.folder.read_stack_text())
    change(document)
    (world.folder.path / STACK_FILE).write_text(toml_text(document), encoding="utf-8")
    world.relock(lock)


def edits(*them: dict[str, Any]) -> Callable[[dict[str, Any]], None]:
    def change(document: dict[str, Any]) -> None:
        document["build"][0]["edits"] = list(them)

    return change


def said(run: Run, *words: str) -> list[str]:
    """Return what a dry run says of builds, without the stamps that follow from them."""
    lines: list[str] = run("build", "small", "--dry-run", *words).out.splitlines()
    return [line for line in lines if line.startswith("build ")]


def built(builder: ScriptedBuilder) -> list[str]:
    """Return the names of what was built, without the probes of finished wheels."""
    return [name for name in builder.names if not name.startswith("gate-")]


# ---- reasons ---------------------------------------------------------------------------------------


def test_what_was_never_built_is_told(run: Run) -> None:
    assert "build gamma-2.0: never built here" in said(run)


def test_changed_variable_is_told_with_both_values(world: World, run: Run) -> None:
    run("build", "small")
    edit(world, lambda document: document["target"].update({"cuda-architectures": ["8.6", "9.0"]}))
    assert said(run) == [
        "build gamma-2.0: env TORCH_CUDA_ARCH_LIST: 8.6;8.9+PTX -> 8.6;9.0",
        *said(run)[1:2],
        (
            "build delta-0.1: env TORCH_CUDA_ARCH_LIST: 8.6;8.9+PTX -> 8.6;9.0; "
            f"needs {environment(world, 'delta')}, which changes"
        ),
    ]
    assert "needs gamma-2.0, which changes" in said(run)[1]


def environment(world: World, name: str) -> str:
    return world.plan.name_of(keys_of(world.plan)[f"environment {name}"])


def test_exactly_what_depends_on_an_edit_is_built_again(
    world: World, run: Run, builder: ScriptedBuilder
) -> None:
    edit(world, edits(EDIT))
    run("build", "small")
    builder.tasks.clear()
    edit(world, edits({**EDIT, "new": "20"}))
    lines = said(run)
    assert lines[0] == "build gamma-source: edit of setup.py changed"
    assert lines[1] == "build gamma-2.0: needs gamma-source, which changes"
    run("build", "small")
    # delta needs gamma, by way of an environment that holds it.
    assert built(builder) == ["gamma-source", "gamma-2.0", environment(world, "delta"), "delta-0.1"]


def test_edit_of_what_nothing_needs_builds_that_alone(
    world: World, run: Run, builder: ScriptedBuilder
) -> None:
    def delta(new: str) -> Callable[[dict[str, Any]], None]:
        return lambda document: document["build"][1].update(edits=[{**EDIT, "new": new}])

    edit(world, delta("17"))
    run("build", "small")
    builder.tasks.clear()
    edit(world, delta("20"))
    run("build", "small")
    assert built(builder) == ["delta-source", "delta-0.1"]


def test_why_rebuild_says_it_down_to_the_change(world: World, run: Run) -> None:
    edit(world, edits(EDIT))
    run("build", "small")
    edit(world, edits({**EDIT, "new": "20"}))
    lines = run("why-rebuild", "small", "delta").out.splitlines()
    assert lines == [
        "delta: is built again",
        f"  needs {environment(world, 'delta')}, which changes",
        "    needs gamma-2.0, which changes",
        "      needs gamma-source, which changes",
        "        edit of setup.py changed",
    ]


def test_the_first_and_the_last_edit_of_a_source_are_told(world: World, run: Run) -> None:
    run("build", "small")
    edit(world, edits(EDIT))
    assert said(run)[:2] == [
        "build gamma-source: edit of setup.py added",
        "build gamma-2.0: needs gamma-source, which changes",
    ]
    run("build", "small")
    edit(world, lambda document: document["build"][0].pop("edits"))
    lines = run("why-rebuild", "small", "gamma").out.splitlines()
    # The wheel without the edit is there from before.
    assert lines == ["gamma: is there"]
    edit(world, lambda document: document["build"][0].update(env={"FORCE_CUDA": "0"}))
    assert run("why-rebuild", "small", "gamma").out.splitlines() == [
        "gamma: is built again",
        "  env FORCE_CUDA: 1 -> 0",
        "  input source: nothing is changed in it any more",
        "    edit of setup.py is no longer made",
    ]


def test_of_long_values_the_words_are_told_that_differ(world: World, run: Run) -> None:
    run("build", "small")
    edit(world, lambda document: document["build"][0].update(env={"CFLAGS": "-O2 -fno-strict-aliasing"}))
    assert (
        said(run)[0]
        == "build gamma-2.0: env CFLAGS: now also -O2 -fno-strict-aliasing; env FORCE_CUDA: no longer set, was 1"
    )
    run("build", "small")
    edit(world, lambda document: document["build"][0].update(env={"CFLAGS": "-O3 -fno-strict-aliasing"}))
    assert said(run)[0] == "build gamma-2.0: env CFLAGS: -O2 -> -O3"
    run("build", "small")
    edit(world, lambda document: document["build"][0].update(env={"CFLAGS": "-fno-strict-aliasing -O3"}))
    assert said(run)[0] == "build gamma-2.0: env CFLAGS: the same words in another order or number"
    edit(world, lambda document: document["build"][0].update(env={"CFLAGS": "-O3"}))
    assert said(run)[0] == "build gamma-2.0: env CFLAGS: now without -fno-strict-aliasing"


def test_why_rebuild_as_json(world: World, run: Run) -> None:
    run("build", "small")
    edit(world, lambda document: document["build"][1].update(env={"NEW": "1"}))
    found = run("why-rebuild", "small", "--json").json
    assert found["delta"] == [{"reason": "env NEW: now 1", "because": []}]
    assert found["gamma"] == found["toolchain"] == []


def test_what_is_there_needs_no_reason(run: Run) -> None:
    run("build", "small")
    assert "gamma: is there" in run("why-rebuild", "small").out.splitlines()


def test_unknown_package_is_refused(run: Run) -> None:
    ended = run("why-rebuild", "small", "nobody")
    assert ended.code == 2
    assert "it builds: delta, gamma, runtime, toolchain" in ended.err


def test_label_alone_stamps_alone(world: World, run: Run, builder: ScriptedBuilder) -> None:
    run("build", "small")
    builder.tasks.clear()
    lock = world.lock
    runtime = tuple(replace(p, version="2.0+ours") if p.name == "gamma" else p for p in lock.runtime)
    edit(
        world, lambda document: document["build"][0].update(label="ours"), replace(lock, runtime=runtime)
    )
    assert run("build", "small", "--dry-run").out.splitlines() == [
        "stamp gamma-2.0+ours: version: 2.0 -> 2.0+ours"
    ]
    assert run("why-rebuild", "small", "gamma").out.splitlines()[1] == "  version: 2.0 -> 2.0+ours"
    run("build", "small")
    assert built(builder) == []


def test_what_was_collected_is_told(world: World, run: Run) -> None:
    run("build", "small")
    world.store.remove(world.built("delta"))
    world.store.remove(world.compiled("delta"))
    assert said(run) == ["build delta-0.1: its output is no longer in the store"]


def test_reasons_outlive_a_run_that_failed(world: World, run: Run, builder: ScriptedBuilder) -> None:
    from tests.fakes import failing

    run("build", "small")
    edit(world, lambda document: document["build"][0].update(env={"FORCE_CUDA": "0"}))
    builder.recipes = {"gamma-2.0": failing()}
    assert run("build", "small").code == 6
    assert said(run)[0] == "build gamma-2.0: env FORCE_CUDA: 1 -> 0"


def test_garbage_collection_keeps_what_reasons_need(world: World, run: Run) -> None:
    run("build", "small")
    old = world.compiled("gamma")
    edit(world, lambda document: document["build"][0].update(env={"FORCE_CUDA": "0"}))
    run("fetch", "small")
    with world.store as store:
        store.close()
    run("store", "gc")
    assert not (world.store.root / "objects" / old).exists()
    assert said(run)[0] == "build gamma-2.0: env FORCE_CUDA: 1 -> 0"


# ---- nothing ---------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("variable", "value"),
    [
        ("LOCKBUILD_CORES", "1"),
        ("LOCKBUILD_MEMORY_PER_JOB", "500"),
        ("LOCKBUILD_STALL_TIMEOUT", "5"),
        ("LOCKBUILD_TRIES", "9"),
        ("LOCKBUILD_CONNECTIONS", "2"),
        ("LOCKBUILD_INDEX_PYPI", "http://127.0.0.1:9/simple"),
        ("LOCKBUILD_ARCHIVE_DEBIAN", "http://127.0.0.1:9/debian"),
        ("UV_DEFAULT_INDEX", "http://127.0.0.1:9/simple"),
        ("MAX_JOBS", "1"),
    ],
)
def test_what_is_the_machines_builds_nothing_again(
    run: Run, monkeypatch: pytest.MonkeyPatch, variable: str, value: str
) -> None:
    run("build", "small")
    monkeypatch.setenv(variable, value)
    ended = run("build", "small", "--dry-run")
    assert (ended.out, ended.err) == (
        "",
        "nothing to fetch and nothing to build: the store has it all\n",
    )


def test_another_address_in_the_stack_compiles_nothing(
    world: World, run: Run, builder: ScriptedBuilder
) -> None:
    run("build", "small")
    builder.tasks.clear()
    mirror = f"{world.index.url}/"
    edit(world, lambda document: document["python"]["index"][0].update(url=mirror))
    assert {line.partition(" ")[0] for line in run("build", "small", "--dry-run").out.splitlines()} == {
        "stamp"
    }
    assert "the record says another place" in run("build", "small", "--dry-run").out
    run("build", "small")
    assert built(builder) == []


def test_reason_of_an_edit_builds_nothing(world: World, run: Run) -> None:
    edit(world, edits(EDIT))
    run("build", "small")
    edit(world, edits({**EDIT, "reason": "another"}))
    assert run("build", "small", "--dry-run").out == ""


# ---- each kind of difference -----------------------------------------------------------------------


def reasons(name: str, before: Lock, after: Lock) -> Sequence[str]:
    """Return why the build of that key changes from one lock to the other."""
    old, new = make_plan(small_stack(), before), make_plan(small_stack(), after)
    texts = {path: derivation_text(derivation) for path, derivation in old.derivations.items()}
    build = new.derivations[keys_of(new)[name]]
    found = reasons_for(build, texts[keys_of(old)[name]], new, texts.get)  # type: ignore[arg-type]
    return [reason.text for reason in found]


def test_package_of_a_root_file_system_is_told_with_its_versions() -> None:
    lock = small_lock()
    other = replace(lock, debs=(deb("g++", "toolchain", version="4:13.1"), *lock.debs[1:]))
    assert "package g++: 4:12.2.0-3 -> 4:13.1" in reasons("root toolchain", lock, other)
    assert reasons("wheel gamma", lock, other)[0] == "needs bookworm-toolchain, which changes"


def test_wheel_of_a_build_environment_is_told_with_its_versions() -> None:
    lock = small_lock()

    def moved(found: tuple[Any, ...]) -> tuple[Any, ...]:
        return tuple(package("beta", "1.1", index="extra") if p.name == "beta" else p for p in found)

    build = tuple((name, moved(found)) for name, found in lock.build)
    other = replace(lock, runtime=moved(lock.runtime), build=build)
    assert reasons("environment gamma", lock, other) == ["input wheel beta: 0.9 -> 1.1"]


def test_other_bytes_of_the_same_name_are_told() -> None:
    lock = small_lock()
    gamma = replace(lock.sources[0], file=replace(lock.sources[0].file, sha256=sha("another")))
    other = replace(lock, sources=(gamma, lock.sources[1]))
    assert reasons("wheel gamma", lock, other) == [
        f"input source: sha256 {sha('gamma')[:12]} -> {sha('another')[:12]}"
    ]


def test_another_sandbox_is_told() -> None:
    build = any_build()
    text = json.dumps([*build.identity[:2], SANDBOX_VERSION - 1, *build.identity[3:]])
    plan = make_plan(small_stack(), small_lock())
    (reason,) = reasons_for(build, text, plan, lambda _path: None)
    assert reason.text == f"sandbox: version {SANDBOX_VERSION - 1} -> {SANDBOX_VERSION}"


def test_another_command_is_told_where_it_differs() -> None:
    old, new = any_build(), any_build(command=("/bin/sh", "-euc", "make all"))
    plan = make_plan(small_stack(), small_lock())
    (reason,) = reasons_for(new, derivation_text(old), plan, lambda _path: None)
    assert reason.text == "command: make -> make all"
