"""The gate as a whole: what it is judged in, what it keeps in the store, and what it refuses."""

from __future__ import annotations

import json
from dataclasses import replace
from typing import TYPE_CHECKING

import pytest

from lockbuild import gate
from lockbuild.gate import Subject, built_wheels, judge_wheels, judged, reading, ready, refusal
from lockbuild.gate.auditing import audit_wheelhouse
from lockbuild.hashing import sha256_of_file
from lockbuild.packing import make_manifest, write_wheelhouse
from lockbuild.plan import make_plan
from tests import values
from tests.fakes import ScriptedBuilder, failing, giving, wheel_files
from tests.libraries import compiled
from tests.needs import need
from tests.wheels import make_wheel
from tests.worlds import World, make_world

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping
    from pathlib import Path

    from lockbuild.derivation import BuildTask
    from lockbuild.findings import Report
    from lockbuild.realise import Realiser
    from lockbuild.wheelhouse import Manifest
    from tests.fakes import Recipe

TAG = "cp311-cp311-linux_x86_64"


def importing(*faults: tuple[str, str]) -> Recipe:
    """Return a recipe that imports, with these faults."""

    def run(_task: BuildTask, out: Path) -> None:
        (out / "imports.json").write_text(json.dumps(faults))

    return run


def builder(changes: Mapping[str, Recipe] | None = None) -> ScriptedBuilder:
    return ScriptedBuilder(changes or {})


@pytest.fixture
def world(tmp_path: Path) -> Iterator[World]:
    with make_world(tmp_path) as made:
        yield made


def realised(world: World, scripted: ScriptedBuilder) -> Realiser:
    realiser = world.realiser(scripted)
    realiser.build([path for _, path in realiser.plan.builds])
    return realiser


def tried(scripted: ScriptedBuilder) -> list[str]:
    return [name for name in scripted.names if name.startswith("gate-")]


def lines(report: Report) -> list[str]:
    return [f"{finding.check}: {finding.message}" for finding in report.findings]


# ---- judging ---------------------------------------------------------------------------------------


def test_wheels_are_judged_beside_all_others_in_the_runtime(world: World) -> None:
    scripted = builder()
    realiser = realised(world, scripted)
    judgements = judge_wheels(realiser, built_wheels(realiser))
    assert [one.subject.name for one in judgements] == ["delta", "gamma"]
    assert [lines(one.report) for one in judgements] == [[], []]
    assert refusal(judgements) is None
    task = next(task for task in scripted.tasks if task.name == "gate-gamma")
    assert task.rootfs_name == world.built("runtime").digest
    assert {name for name, _ in task.inputs} == {
        "built/delta",
        "built/gamma",
        "environment",
        "probe.py",
    }
    assert dict(task.env)["PYTHONPATH"] == "/build/source/site"
    places = json.loads(task.command[4])
    assert (places[0], places[-1]) == ("/build/inputs/built/gamma", "/build/inputs/environment")
    assert [*map(json.loads, task.command[-2:])] == [[], ["gamma"]]


def test_what_passed_is_not_judged_again(world: World) -> None:
    scripted = builder()
    realiser = realised(world, scripted)
    first = judge_wheels(realiser, built_wheels(realiser))
    again = judge_wheels(realiser, built_wheels(realiser))
    assert [one.kept for one in (*first, *again)] == [False, False, True, True]
    assert [one.report for one in first] == [one.report for one in again]
    assert tried(scripted) == ["gate-gamma"]


def test_faults_are_kept_too(world: World) -> None:
    scripted = builder({"gate-gamma": importing(("gamma", "ImportError: no"))})
    realiser = realised(world, scripted)
    for _ in range(2):
        delta, gamma = judge_wheels(realiser, built_wheels(realiser))
        assert lines(delta.report) == []
        assert lines(gamma.report) == ["imports: ImportError: no"]
        (finding,) = gamma.report.findings
        assert (finding.level, bool(finding.mend)) == ("error", True)
    assert tried(scripted).count("gate-gamma") == 1


@pytest.mark.parametrize(
    "change",
    [
        {"target": {**values.stack_document()["target"], "cuda-architectures": ["9.0"]}},
        {"preflight": {"imports": ["gamma", "gamma.more"]}},
        {"env": {"OMP_NUM_THREADS": "2"}},
    ],
)
def test_a_changed_stack_is_judged_anew(world: World, change: Mapping[str, object]) -> None:
    realiser = realised(world, builder())
    subjects = built_wheels(realiser)
    judge_wheels(realiser, subjects)
    assert judged(realiser, subjects)
    stack = values.small_stack(**change)
    assert not judged(replace(realiser, stack=stack), subjects)


def test_changed_rules_judge_anew_and_compile_nothing(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    scripted = builder()
    realiser = realised(world, scripted)
    judge_wheels(realiser, built_wheels(realiser))
    before = scripted.names.count("gamma-2.0")
    monkeypatch.setattr(gate, "RULES_VERSION", 999)
    assert not judged(realiser, built_wheels(realiser))
    judge_wheels(realiser, built_wheels(realiser))
    assert scripted.names.count("gamma-2.0") == before
    assert tried(scripted).count("gate-gamma") == 2


def test_a_verdict_goes_with_its_wheel(world: World) -> None:
    realiser = realised(world, builder())
    judge_wheels(realiser, built_wheels(realiser))
    path = world.built("gamma")
    notes = world.store.root / "notes" / path
    assert list(notes.iterdir())
    world.store.remove(path)
    assert not notes.exists()


def test_a_damaged_verdict_is_none(world: World) -> None:
    realiser = realised(world, builder())
    judge_wheels(realiser, built_wheels(realiser))
    for note in (world.store.root / "notes" / world.built("gamma")).iterdir():
        note.write_text('{"findings": [["nothing", "x", "y"]], "passed": [], "skipped": []}')
    delta, gamma = judge_wheels(realiser, built_wheels(realiser))
    assert (delta.kept, gamma.kept) == (True, False)


def test_a_sandbox_that_fails_is_no_pass(world: World) -> None:
    realiser = realised(world, builder({"gate-gamma": failing("tried to use the network")}))
    _, gamma = judge_wheels(realiser, built_wheels(realiser))
    (line,) = lines(gamma.report)
    assert line.startswith("imports: tried to use the network")


def test_a_sandbox_that_says_nothing_is_no_pass(world: World) -> None:
    realiser = realised(world, builder({"gate-gamma": lambda _task, out: (out / "x").touch()}))
    _, gamma = judge_wheels(realiser, built_wheels(realiser))
    (line,) = lines(gamma.report)
    assert line.startswith("imports: the program that imports left no report")


def test_a_wheel_of_code_without_modules_is_imported_by_nobody(world: World) -> None:
    recipe = giving(("gamma", "2.0", "py3-none-any", {"other.py": b""}))
    scripted = builder({"gamma-2.0": recipe})
    document = values.stack_document()
    unexpecting = [{**table, "expects": []} for table in document["build"]]
    realiser = replace(world.realiser(scripted), stack=values.small_stack(build=unexpecting))
    realiser.build([path for _, path in realiser.plan.builds])
    judge_wheels(realiser, built_wheels(realiser))
    assert tried(scripted) == []


# ---- refusing --------------------------------------------------------------------------------------


def test_refusal_names_wheel_rule_and_what_mends_it(world: World) -> None:
    need("gcc")
    text = 'const char *file = "/build/source/gamma/it.c";'
    library = compiled(world.files / "it", text, needs=["libnowhere.so.1"])
    recipe = giving(("gamma", "2.0", TAG, wheel_files("gamma") | {"gamma/_ext.so": library}))
    realiser = realised(world, builder({"gamma-2.0": recipe}))
    error = refusal(judge_wheels(realiser, built_wheels(realiser)))
    assert error is not None
    name = f"gamma-2.0-{TAG}.whl"
    assert (error.exit_code, error.message) == (6, f"1 wheel may not enter the wheelhouse: {name}")
    said = "\n".join(error.details)
    assert f"{name}: gamma/_ext.so: elf-needs: needs libnowhere.so.1, expected in" in said
    assert f"{name}: gamma/_ext.so: build-path: found `/build/source/gamma/it.c` in .rodata" in said
    assert {line.partition(":")[0] for line in (error.hint or "").splitlines()} == {
        "architectures",
        "build-path",
        "elf-needs",
    }


def test_a_wheel_is_judged_beside_the_files_and_versions_of_the_lock(world: World) -> None:
    def recipe(_task: BuildTask, out: Path) -> None:
        files = {**wheel_files("gamma"), "alpha.py": b"", "delta/__init__.py": b""}
        requires = ("alpha<1", "black", "delta==0.1")
        make_wheel(out, "gamma", "2.0", tag=TAG, files=files, requires=requires)

    realiser = realised(world, builder({"gamma-2.0": recipe}))
    delta, gamma = judge_wheels(realiser, built_wheels(realiser))
    assert lines(gamma.report) == [
        "overwrites: found a file that comes with alpha as well, expected none of another wheel",
        "overwrites: found a file that comes with delta as well, expected none of another wheel",
        "requires: needs `alpha<1`, expected what alpha 1.2 fits, the lock's",
        "requires: needs `black`, expected in the lock",
    ]
    assert lines(delta.report) == [
        "overwrites: found a file that comes with gamma as well, expected none of another wheel"
    ]


def test_a_wheel_of_torch_and_nvcc_is_asked_for_device_code(world: World) -> None:
    need("gcc")
    library = compiled(world.files / "it")
    recipe = giving(("gamma", "2.0", TAG, wheel_files("gamma") | {"gamma/_ext.so": library}))
    realiser = realised(world, builder({"gamma-2.0": recipe}))
    document = values.stack_document()
    builds = [
        {**table, "needs": ["torch"], "env": {"FORCE_CUDA": ""}} if table["name"] == "gamma" else table
        for table in document["build"]
    ]
    said = [{**table, "env": {}} for table in builds]
    torch = replace(world.lock, runtime=(*world.lock.runtime, values.package("torch", "2.0.1")))
    for nvcc, tables, found in (({"apt": "nvcc"}, said, 1), ({"apt": "nvcc"}, builds, 0), ({}, said, 0)):
        stack = values.small_stack(build=tables, toolchain={"nvcc": nvcc})
        changed = replace(realiser, stack=stack, lock=torch)
        _, gamma = judge_wheels(changed, built_wheels(changed))
        assert sum(line.startswith("device-code: ") for line in lines(gamma.report)) == found


def test_a_wheel_from_elsewhere_takes_the_place_of_its_namesake(world: World, tmp_path: Path) -> None:
    scripted = builder()
    realiser = realised(world, scripted)
    file = make_wheel(tmp_path / "theirs", "gamma", "2.0", tag=TAG, files=wheel_files("gamma"))
    foreign = Subject(file=file, sha256=sha256_of_file(file))
    (one,) = judge_wheels(realiser, [foreign])
    assert (one.kept, lines(one.report)) == (False, [])
    task = next(task for task in scripted.tasks if task.name == "gate-gamma")
    assert [name for name, _ in task.inputs].count("built/gamma") == 1
    assert not judged(realiser, [foreign])


def test_what_is_no_wheel_by_name_is_refused(world: World, tmp_path: Path) -> None:
    realiser = realised(world, builder())
    file = tmp_path / "gamma.whl"
    file.write_bytes(b"")
    (one,) = judge_wheels(realiser, [Subject(file=file, sha256=sha256_of_file(file))])
    assert {finding.check for finding in one.report.findings} == {"wheel", "declared"}


# ---- the plan --------------------------------------------------------------------------------------


def test_the_environment_holds_what_is_fetched_in_the_runtime() -> None:
    plan = make_plan(values.small_stack(), values.small_lock())
    assert plan.environment is not None
    build = plan.derivations[plan.environment]
    assert build.toolchain == dict(plan.roots)["runtime"]  # type: ignore[union-attr]
    names = [name for name, _ in build.inputs]  # type: ignore[union-attr]
    assert names == [
        "installer/pip-25.0-py3-none-any.whl",
        "wheels/alpha-1.2-py3-none-any.whl",
        "wheels/beta-0.9-py3-none-any.whl",
    ]
    assert plan.environment not in plan.targets


def test_a_stack_that_builds_nothing_needs_no_environment() -> None:
    stack = values.small_stack(build=[])
    lock = values.small_lock()
    only = tuple(package for package in lock.runtime if package.wheel)
    assert make_plan(stack, replace(lock, runtime=only, sources=())).environment is None


# ---- auditing --------------------------------------------------------------------------------------


@pytest.fixture
def house(world: World) -> Realiser:
    """A world whose wheelhouse is filled."""
    realiser = realised(world, builder())
    realiser.build(realiser.plan.targets)
    judge_wheels(realiser, built_wheels(realiser))
    write_wheelhouse(world.folder.wheels, manifest(realiser), realiser.store)
    return realiser


def manifest(realiser: Realiser) -> Manifest:
    return make_manifest(realiser.stack, realiser.lock, realiser.plan, realiser.store)


def audited(world: World, realiser: Realiser) -> Report:
    return audit_wheelhouse(realiser, world.folder.wheels, manifest(realiser))


def test_a_wheelhouse_as_it_was_filled_passes(world: World, house: Realiser) -> None:
    report = audited(world, house)
    assert (report.findings, report.skipped) == ((), ())
    assert "gate-imports" in report.passed


def test_a_foreign_wheel_in_the_wheelhouse_is_judged(world: World, house: Realiser) -> None:
    make_wheel(world.folder.wheels, "stranger", "1.0", tag="cp38-cp38-linux_x86_64")
    found = {finding.check for finding in audited(world, house).findings}
    assert found == {"gate-declared", "gate-python-abi"}


def test_a_changed_wheel_in_the_wheelhouse_is_judged_as_it_is(world: World, house: Realiser) -> None:
    path = world.folder.wheels / f"gamma-2.0-{TAG}.whl"
    path.unlink()
    make_wheel(world.folder.wheels, "gamma", "2.0", tag=TAG, files={"gamma/__init__.py": b""})
    (finding,) = audited(world, house).findings
    assert finding.check == "gate-modules"
    assert "expected `gamma/_ext*.so`" in finding.message


def test_nothing_is_built_for_an_audit(world: World, house: Realiser) -> None:
    assert house.plan.environment is not None
    world.store.remove(house.plan.environment)
    assert not ready(house)
    assert audited(world, house).skipped == ()
    make_wheel(world.folder.wheels, "stranger", "1.0")
    ((check, reason),) = audited(world, house).skipped
    assert (check, "lockbuild gate" in reason) == ("gate", True)


# ---- reading ---------------------------------------------------------------------------------------


def test_torchs_symbols_are_read_from_its_wheel(tmp_path: Path) -> None:
    need("gcc")
    text = "int _ZN3c105CheckEv(void) { return 1; } int other(void) { return 2; }"
    library = compiled(tmp_path / "it", text)
    files = {"torch/lib/libc10.so": library, "torch/elsewhere.so": b"", "torch/lib/readme": b""}
    wheel = make_wheel(tmp_path, "torch", "2.0.1", tag=TAG, files=files)
    scratch = tmp_path / "scratch"
    scratch.mkdir()
    assert reading.read_torch(wheel, scratch) == {"_ZN3c105CheckEv"}
    assert not [path for path in scratch.rglob("*") if path.is_file()]


@pytest.mark.parametrize(
    ("version", "package", "cuda"),
    [
        ("2.0.1+cu118", ("beta", "1.0"), "11"),
        ("2.7.1+cu128", ("beta", "1.0"), "12"),
        ("2.0.1", ("nvidia-cuda-runtime-cu11", "11.7.99"), "11"),
        ("2.6.0", ("nvidia-cuda-runtime-cu12", "12.4.127"), "12"),
        ("2.9.0", ("nvidia-cuda-runtime", "13.0.96"), "13"),
        ("2.0.1+cu117.with.pypi.cudnn", ("beta", "1.0"), "11"),
        ("2.0.1+cpu", ("beta", "1.0"), None),
    ],
)
def test_cuda_of_torch_is_told_by_its_label_or_its_runtime(
    version: str, package: tuple[str, str], cuda: str | None
) -> None:
    lock = replace(values.small_lock(), runtime=(values.package(*package),))
    assert reading.cuda_of(lock, version) == cuda


def test_libraries_are_those_that_the_linker_finds(tmp_path: Path) -> None:
    files = {
        "usr/lib/x86_64-linux-gnu/libc.so.6": "",
        "usr/lib/x86_64-linux-gnu/gcc/libinner.so": "",
        "usr/lib/x86_64-linux-gnu/readme.txt": "",
        "usr/local/cuda/lib64/libcudart.so.11.0": "",
        "opt/more/libmore.so.1.2": "",
        "opt/hidden/libhidden.so": "",
        "etc/ld.so.conf": "include /etc/ld.so.conf.d/*.conf\n",
        "etc/ld.so.conf.d/cuda.conf": "# CUDA\n/usr/local/cuda/lib64  \n",
    }
    for name, text in files.items():
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text(text)
    # Absolute links are those of the root file system, not the machine's.
    (tmp_path / "lib").symlink_to("/usr/lib")
    (tmp_path / "lib64").symlink_to("lib64")
    found = reading.base_libraries(tmp_path, ["/opt/more"])
    assert set(found) == {"libc.so.6", "libcudart.so.11.0", "libmore.so.1.2"}


def test_versions_are_those_of_the_runtimes_own_libraries(tmp_path: Path) -> None:
    need("gcc")
    script = "GLIBCXX_3.4 { global: it; };"
    library = compiled(
        tmp_path / "it", "int it(void) { return 1; }", soname="libstdc++.so.6", versions=script
    )
    root = tmp_path / "root"
    (root / "usr/lib").mkdir(parents=True)
    (root / "usr/lib/libstdc++.so.6.0.30").write_bytes(library)
    (root / "usr/lib/libstdc++.so.6").symlink_to("/usr/lib/libstdc++.so.6.0.30")
    script = "GLIBC_2.36 { global: it; };"
    library = compiled(
        tmp_path / "it", "int it(void) { return 1; }", soname="libc.so.6", versions=script
    )
    (root / "usr/lib/libc.so.6").write_bytes(library)
    found = reading.base_versions(root, reading.base_libraries(root))
    assert found == {
        "libc.so.6": {"GLIBC_2.36", "libc.so.6"},
        "libstdc++.so.6": {"GLIBCXX_3.4", "libstdc++.so.6"},
    }


def test_data_of_a_wheel_is_not_where_modules_are(tmp_path: Path) -> None:
    files = {
        "gamma-2.0.data/purelib/gamma/__init__.py": b"",
        "gamma-2.0.data/scripts/run": b"",
        "gamma/more.py": b"",
    }
    reading.unpack_wheel(make_wheel(tmp_path, "gamma", "2.0", files=files), tmp_path / "out")
    assert {p.name for p in (tmp_path / "out/gamma").iterdir()} == {"__init__.py", "more.py"}
    assert not (tmp_path / "out/gamma-2.0.data").exists()
