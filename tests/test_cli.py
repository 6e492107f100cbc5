"""The command line on the small stack: what is printed where, and with which exit code it ends.

Commands run in this process through `main`, but where a terminal, a pipe or a signal is needed.
"""

from __future__ import annotations

import json
import os
import pty
import re
import signal
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, NoReturn

import pytest

from lockbuild import __version__, errors
from lockbuild.cli import main, session
from lockbuild.documents import toml_text
from lockbuild.errors import LockbuildError
from lockbuild.folders import STACK_FILE
from tests.fakes import NATIVE, ScriptedBuilder, failing, giving, wheel_files
from tests.values import stack_document
from tests.worlds import World, make_world, unconfigured

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    Run = Callable[..., "Ended"]

ROOT = Path(__file__).parent.parent
WAIT_S = 60
"""How long another process may take before its test fails."""
VERBS = [
    "init",
    "resolve",
    "fetch",
    "build",
    "gate",
    "check",
    "why-rebuild",
    "diff",
    "why",
    "graph",
    "rebuild",
    "render",
    "describe",
    "image",
    "provenance",
    "notice",
    "preflight",
    "audit",
    "doctor",
    "store",
    "schema",
]


@dataclass(frozen=True, slots=True, kw_only=True)
class Ended:
    """A command that has ended."""

    code: int
    out: str
    err: str

    @property
    def json(self) -> Any:
        """What it printed."""
        return json.loads(self.out)


@pytest.fixture
def builder() -> ScriptedBuilder:
    """Who builds, in all commands of the test."""
    return ScriptedBuilder()


@pytest.fixture(autouse=True)
def world(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, builder: ScriptedBuilder) -> Iterator[World]:
    """The small stack in the working folder, on a machine that is configured for the world's servers."""
    unconfigured(monkeypatch, tmp_path / "home")
    document = stack_document()
    del document["python"]["exclude-newer"]
    with make_world(tmp_path, document=document) as made:
        monkeypatch.chdir(tmp_path)
        for name, value in {
            "DOCKER_HOST": f"unix://{tmp_path}/no.sock",
            "LOCKBUILD_ARCHIVE_DEBIAN": made.archive.as_uri(),
            "LOCKBUILD_CONFIG": "",
            "LOCKBUILD_CORES": "2",
            "LOCKBUILD_STORE": str(made.store.root),
            "UV_DEFAULT_INDEX": made.index.url,
        }.items():
            monkeypatch.setenv(name, value)
        monkeypatch.setattr(session, "builder_of", lambda _settings: builder)
        monkeypatch.setattr(session, "root_builder", lambda: builder)
        yield made


@pytest.fixture
def run(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> Run:
    """Return a function that runs a command and tells how it ended."""

    def call(*words: str) -> Ended:
        monkeypatch.setattr(sys, "argv", ["lockbuild", *words])
        capsys.readouterr()
        with pytest.raises(SystemExit) as ended:
            main()
        said = capsys.readouterr()
        assert isinstance(ended.value.code, int)
        return Ended(code=ended.value.code, out=said.out, err=said.err)

    return call


def outside(*words: str, **options: Any) -> subprocess.Popen[bytes]:
    """Start a command in a process of its own."""
    env = {**os.environ, "PYTHONPATH": str(ROOT)}
    return subprocess.Popen([sys.executable, "-m", "lockbuild", *words], env=env, **options)


def on_terminal(*words: str) -> str:
    """Return what a command shows on a terminal."""
    ours, theirs = pty.openpty()
    process = outside(*words, stdout=theirs, stderr=theirs, stdin=subprocess.DEVNULL)
    os.close(theirs)
    shown = b""
    while True:
        try:
            chunk = os.read(ours, 1 << 16)
        except OSError:  # the other end is closed
            break
        if not chunk:
            break
        shown += chunk
    process.wait(WAIT_S)
    os.close(ours)
    return shown.decode()


# ---- help ------------------------------------------------------------------------------------------


def test_help_names_every_command_and_the_exit_codes(run: Run) -> None:
    ended = run("--help")
    assert ended.code == 0
    assert re.findall(r"^  ([\w-]+)  ", ended.out.partition("Commands:")[2], re.MULTILINE) == VERBS
    assert "9 audit found errors" in " ".join(ended.out.split())


@pytest.mark.parametrize("verb", VERBS)
def test_every_command_has_help(run: Run, verb: str) -> None:
    ended = run(verb, "--help")
    assert ended.code == 0
    assert ended.out.startswith(f"Usage: lockbuild {verb}")


def test_help_of_the_store_tells_whole_sentences(run: Run) -> None:
    assert "..." not in run("store", "--help").out.partition("Commands:")[2]


@pytest.mark.parametrize(
    ("words", "expected"),
    [("build sm", "plain,small\n"), ("audit stacks/", "dir,stacks/\n"), ("fet", "plain,fetch\n")],
)
def test_a_shell_completes_commands_and_stacks(
    run: Run, monkeypatch: pytest.MonkeyPatch, words: str, expected: str
) -> None:
    monkeypatch.setenv("_LOCKBUILD_COMPLETE", "bash_complete")
    monkeypatch.setenv("COMP_WORDS", f"lockbuild {words}")
    monkeypatch.setenv("COMP_CWORD", str(len(words.split())))
    assert run().out == expected


def test_version_is_told(run: Run) -> None:
    assert run("--version").out == f"lockbuild, version {__version__}\n"


def test_help_loads_neither_docker_nor_pydantic() -> None:
    code = "import sys; sys.argv = ['lockbuild', '--help']\nfrom lockbuild.cli import main\n"
    code += "try: main()\nexcept SystemExit: print({'docker', 'pydantic', 'urllib3', 'rich'} & set(sys.modules))"
    ended = subprocess.run(
        [sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True
    )
    assert ended.stdout.endswith("set()\n")


def test_the_schema_is_json(run: Run) -> None:
    assert run("schema").json["type"] == "object"


# ---- errors ----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "kind",
    [k for k in vars(errors).values() if isinstance(k, type) and issubclass(k, LockbuildError)],
    ids=lambda kind: kind.__name__,
)
def test_every_error_ends_with_its_exit_code(
    run: Run, monkeypatch: pytest.MonkeyPatch, kind: type[LockbuildError]
) -> None:
    def fail(*_: object, **__: object) -> NoReturn:
        raise kind("it is so", details=("first", "second"), hint="do that")

    monkeypatch.setattr(session, "find_stack", fail)
    ended = run("build", "small")
    assert ended.code == kind.exit_code
    assert (ended.out, ended.err) == ("", "error: it is so\n  first\n  second\nhint: do that\n")


def test_a_bug_shows_a_traceback_and_asks_for_a_report(
    run: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*_: object, **__: object) -> NoReturn:
        raise ZeroDivisionError

    monkeypatch.setattr(session, "find_stack", fail)
    ended = run("build", "small")
    assert ended.code == 1
    assert "Traceback (most recent call last)" in ended.err
    assert "please report it" in ended.err


def test_an_unknown_stack_is_told_with_the_nearest_name(run: Run) -> None:
    ended = run("build", "smal")
    assert ended.code == 2
    assert (
        ended.err
        == f"error: no stack at `smal`: there is no {STACK_FILE}\nhint: did you mean `small`?\n"
    )


def test_an_unknown_package_is_told_with_those_there_are(run: Run) -> None:
    ended = run("build", "small", "gomma")
    assert ended.code == 2
    assert "hint: it builds: delta, gamma, runtime, toolchain" in ended.err


@pytest.mark.parametrize(
    "words", [("nope",), ("build",), ("build", "small", "--nope"), ("--cores", "0", "fetch", "small")]
)
def test_wrong_usage_ends_with_2(run: Run, words: tuple[str, ...]) -> None:
    ended = run(*words)
    assert (ended.code, ended.out) == (2, "")
    assert "Usage: lockbuild" in ended.err


def test_a_name_that_no_image_can_have_is_refused_before_anything_is_fetched(
    world: World, run: Run
) -> None:
    run("resolve", "small")
    ended = run("image", "small", "--tag", "Bad Tag!")
    assert ended.code == 2
    assert "`--tag`: found `Bad Tag!`, expected the name of an image" in ended.err
    assert not world.store.paths()


def test_a_wrong_stack_file_ends_with_2(world: World, run: Run) -> None:
    change_stack(world, colour="green")
    ended = run("resolve", "small")
    assert ended.code == 2
    assert "`colour`" in ended.err


def change_stack(world: World, **changes: object) -> None:
    document = {**stack_document(), "name": "small", **changes}
    (world.folder.path / STACK_FILE).write_text(toml_text(document))


def test_a_missing_lock_ends_with_3(world: World, run: Run) -> None:
    (world.folder.path / "lockbuild.lock").unlink()
    ended = run("build", "small")
    assert ended.code == 3
    assert "hint: lockbuild resolve stacks/small" in ended.err


@pytest.mark.parametrize("verb", ["fetch", "build", "check", "render", "describe", "image"])
def test_a_stale_lock_ends_with_3_and_says_what_moved(world: World, run: Run, verb: str) -> None:
    change_stack(world, summary="another")
    ended = run(verb, "small")
    assert ended.code == 3
    assert "`summary` was changed" in ended.err


def test_what_cannot_be_resolved_ends_with_4(world: World, run: Run) -> None:
    change_stack(world, python={"requires": ["nobody-serves-this"]}, build=[])
    assert run("resolve", "small").code == 4


def test_what_cannot_be_fetched_ends_with_5(world: World, run: Run) -> None:
    world.index.faults.status["alpha-1.2-py3-none-any.whl"] = 404
    ended = run("fetch", "small")
    assert ended.code == 5
    assert "alpha-1.2-py3-none-any.whl" in ended.err


def test_a_failed_build_ends_with_6(run: Run, builder: ScriptedBuilder) -> None:
    builder.recipes = {"gamma-2.0": failing("exited with 7")}
    ended = run("build", "small")
    assert ended.code == 6
    assert "gamma-2.0: failed: exited with 7" in ended.err


def test_a_damaged_store_ends_with_7(world: World, run: Run) -> None:
    run("fetch", "small")
    damage(world)
    ended = run("store", "verify")
    assert ended.code == 7
    assert "hint: `lockbuild store repair`" in ended.err


def damage(world: World) -> None:
    file = world.store.locate(world.fetched("gamma-2.0.tar.gz"))
    file.chmod(0o644)
    file.write_bytes(b"source of gommo")


def test_audit_errors_end_with_9(world: World, run: Run) -> None:
    run("build", "small")
    (world.folder.wheels / "old-1.0-py3-none-any.whl").write_bytes(b"stray")
    ended = run("audit", "small")
    assert ended.code == 9
    assert "wheel-extra: old-1.0-py3-none-any.whl: not in the manifest" in ended.out
    assert "gate-wheel: old-1.0-py3-none-any.whl: not a readable zip archive" in ended.out
    assert "gate-declared: old-1.0-py3-none-any.whl: found a wheel of `old`" in ended.out
    assert ended.err.endswith("error: the audit of stacks/small found 3 errors\n")


def test_an_audit_with_warnings_alone_ends_with_0(run: Run) -> None:
    run("build", "small")
    ended = run("audit", "small")
    assert ended.code == 0
    assert "warning      build-pinned: gamma" in ended.out


def test_an_image_without_an_engine_ends_with_10(run: Run) -> None:
    ended = run("image", "small")
    assert ended.code == 10
    assert "no Docker Engine answers" in ended.err


def test_doctor_ends_with_10_when_something_does_not_work(run: Run) -> None:
    ended = run("doctor", "small")
    assert ended.code == 10
    assert "docker engine" in ended.err


def test_a_stack_is_found_by_folder_and_by_its_file(world: World, run: Run) -> None:
    for argument in ("stacks/small", f"stacks/small/{STACK_FILE}", str(world.folder.path)):
        assert run("fetch", argument).code == 0


# ---- what is said ----------------------------------------------------------------------------------


def test_data_goes_to_standard_output_and_all_else_to_standard_error(run: Run) -> None:
    ended = run("fetch", "small")
    assert ended.out == ""
    assert "stacks/small: fetched 10 artifacts" in ended.err


def test_a_log_has_a_line_per_step(run: Run) -> None:
    lines = run("build", "small").err.splitlines()
    assert "building: 7 builds" in lines
    assert "  gamma-2.0: started" in lines


def test_quiet_says_nothing_but_results(run: Run) -> None:
    assert run("--quiet", "build", "small").err == ""


def test_quiet_still_says_errors(run: Run) -> None:
    assert "error: no stack" in run("--quiet", "build", "smal").err


def test_a_second_run_has_nothing_to_do(run: Run) -> None:
    run("build", "small")
    assert run("build", "small").err.startswith("stacks/small: nothing to do\n")


def test_a_dry_run_says_what_would_be_done_and_does_nothing(world: World, run: Run) -> None:
    lines = run("build", "small", "--dry-run").out.splitlines()
    assert "fetch alpha-1.2-py3-none-any.whl" in lines
    assert "build delta-0.1: never built here" in lines
    assert lines[-1] == "stamp gamma-2.0: never built here"
    assert world.store.paths() == ()


def test_one_package_is_built_without_touching_the_wheelhouse(world: World, run: Run) -> None:
    ended = run("build", "small", "gamma")
    assert ended.code == 0
    assert re.search(
        r"\d built in \d+ s; their own times add up to \d+ s; the wheelhouse is as it was", ended.err
    )
    assert not world.folder.wheels.exists()


def test_keep_going_builds_what_it_can(world: World, run: Run, builder: ScriptedBuilder) -> None:
    builder.recipes = {"gamma-2.0": failing()}
    assert run("build", "small", "runtime", "gamma", "--keep-going").code == 6
    assert world.store.valid([world.built("runtime")])


def test_resolve_pins_what_was_built(world: World, run: Run) -> None:
    assert "`lockbuild resolve stacks/small` does" in run("build", "small").err
    assert run("resolve", "small").code == 0
    assert {pin.name for pin in world.lock.pins} == {"gamma", "delta"}
    assert "does not yet pin" not in run("build", "small").err


def test_a_check_that_finds_a_difference_says_where_and_ends_with_6(
    run: Run, builder: ScriptedBuilder
) -> None:
    run("build", "small")
    other = ("gamma", "2.0", NATIVE, wheel_files("gamma", b"others"))
    builder.recipes = {"gamma-2.0": giving(other)}
    ended = run("check", "small", "gamma")
    assert ended.code == 6
    assert ended.out.startswith("gamma-2.0: different\n")
    assert "gamma/_ext.so" in ended.out


def test_no_password_of_an_index_is_shown(
    world: World, run: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("UV_DEFAULT_INDEX", world.index.url.replace("://", "://me:s3cr3t@"))
    world.index.faults.status["alpha-1.2-py3-none-any.whl"] = 404
    change = {"requires": ["nobody-serves-this"]}
    said = [run("fetch", "small"), run("doctor", "small")]
    change_stack(world, python=change, build=[])
    said.append(run("resolve", "small"))
    assert [ended.code for ended in said] == [5, 10, 4]
    assert not any("s3cr3t" in ended.out + ended.err for ended in said)


# ---- JSON ------------------------------------------------------------------------------------------


def test_json_of_fetch(world: World, run: Run) -> None:
    assert world.fetched("gamma-2.0.tar.gz") in run("fetch", "small", "--json").json["fetched"]


def test_json_of_build(world: World, run: Run) -> None:
    found = run("build", "small", "--json").json
    assert {one["name"]: one["status"] for one in found["built"]}["gamma-2.0"] == "built"
    assert found["wheelhouse"] == str(world.folder.wheels)
    assert "manifest.json" in found["changed"]


def test_json_of_a_dry_run(world: World, run: Run) -> None:
    found = run("build", "small", "--dry-run", "--json").json
    assert found["build"][-1] == world.built("gamma")
    assert world.fetched("gamma-2.0.tar.gz") in found["fetch"]


def test_json_of_check(run: Run) -> None:
    first, second = (run("check", "small", "gamma", "--json").json for _ in range(2))
    assert [(one["name"], one["identical"], one["differences"]) for one in first] == [
        ("gamma-2.0", True, [])
    ]
    assert second == [{**first[0], "kept": True}]


def test_json_of_a_check_that_fails_has_the_other_verdicts(run: Run, builder: ScriptedBuilder) -> None:
    assert run("build", "small").code == 0
    builder.recipes = {"gamma-2.0": failing()}
    ended = run("check", "small", "--keep-going", "--json")
    assert ended.code == 6
    assert {one["name"] for one in json.loads(ended.out)} == {
        "bookworm-runtime",
        "bookworm-toolchain",
        "delta-0.1",
    }


def test_a_verdict_that_was_kept_says_so(run: Run) -> None:
    assert run("check", "small", "gamma").out == "gamma-2.0: identical\n"
    assert run("check", "small", "gamma").out.startswith("gamma-2.0: identical (checked before, 20")
    assert run("check", "small", "gamma", "--again").out == "gamma-2.0: identical\n"


def test_a_toolchain_without_ccache_is_told_of(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    assert "compiler cache" not in run("build", "small", "gamma").err
    monkeypatch.setenv("LOCKBUILD_COMPILER_CACHE", "true")
    assert "no compiler cache: `ccache` is not among" in run("build", "small", "gamma").err


def test_description_is_markdown_on_standard_output(world: World, run: Run) -> None:
    ended = run("describe", "small")
    assert (ended.code, ended.err) == (0, "")
    assert "\n# small\n" in ended.out
    assert not world.store.valid(world.plan.derivations), "nothing is fetched or built for it"


def test_json_of_render(world: World, run: Run) -> None:
    assert run("render", "small", "--json").json == {"changed": ["Dockerfile", "docker-bake.json"]}
    assert not world.store.valid(world.plan.derivations), "nothing is fetched or built for it"
    assert not world.folder.context.exists()


def test_json_of_render_with_its_context(world: World, run: Run) -> None:
    found = run("render", "--context", "small", "--json").json
    assert found == {"changed": ["Dockerfile", "docker-bake.json"], "context": str(world.folder.context)}
    assert (world.folder.context / "rootfs/runtime.tar").is_file()


def test_json_of_resolve(world: World, run: Run) -> None:
    found = run("resolve", "small", "--json").json
    assert (found["stack"], found["changed"], found["unpinned"]) == ("small", [], ["gamma", "delta"])
    assert found["lock"] == world.lock.digest


def test_json_of_audit(run: Run) -> None:
    run("render", "--context", "small")
    found = run("audit", "small", "--json").json
    checks = {"build-pinned", "built-elsewhere", "licence-unknown", "moving-archive", "never-checked"}
    assert {finding["check"] for finding in found["findings"]} == checks
    assert "wheel-bytes" in found["passed"]
    skipped = {entry["check"] for entry in found["skipped"]}
    assert {check for check in skipped if not check.startswith("image-")} == {
        "gone-upstream",
        "yanked",
        "vulnerability",
        "vulnerability-database-old",
        "vulnerability-not-looked-up",
    }
    assert "image-packages" in skipped


def test_json_of_an_audit_that_found_errors_is_whole(world: World, run: Run) -> None:
    run("build", "small")
    (world.folder.wheels / "old-1.0-py3-none-any.whl").write_bytes(b"stray")
    ended = run("audit", "small", "--json")
    assert ended.code == 9
    assert "wheel-extra" in {finding["check"] for finding in ended.json["findings"]}


def test_sarif_of_audit_shows_findings_at_the_lock(run: Run) -> None:
    run("build", "small")
    (log,) = run("audit", "small", "--format", "sarif").json["runs"]
    (result,) = [one for one in log["results"] if one["ruleId"] == "build-pinned"][:1]
    place = result["locations"][0]["physicalLocation"]["artifactLocation"]
    assert place["uri"] == "stacks/small/lockbuild.lock"


def test_bills_of_materials_of_a_stack_tell_what_it_is_made_of(run: Run) -> None:
    run("build", "small")
    cyclonedx = run("audit", "small", "--format", "cyclonedx").json
    assert {"alpha", "gamma", "delta"} <= {one["name"] for one in cyclonedx["components"]}
    built = next(one for one in cyclonedx["components"] if one["name"] == "gamma")
    assert built["pedigree"]["ancestors"][0]["name"] == "gamma"
    spdx = run("audit", "small", "--format", "spdx").json
    assert {"alpha", "gamma", "delta"} <= {one["name"] for one in spdx["packages"]}


def test_bill_of_materials_does_not_hide_errors(world: World, run: Run) -> None:
    run("build", "small")
    (world.folder.wheels / "old-1.0-py3-none-any.whl").write_bytes(b"stray")
    ended = run("audit", "small", "--format", "cyclonedx")
    assert (ended.code, ended.json["bomFormat"]) == (9, "CycloneDX")


def test_provenance_of_each_built_wheel_is_a_line(run: Run) -> None:
    run("build", "small")
    lines = [json.loads(line) for line in run("provenance", "small").out.splitlines()]
    parameters = [one["predicate"]["buildDefinition"]["externalParameters"] for one in lines]
    assert [one.get("package") for one in parameters[:2]] == ["delta", "gamma"]
    assert [one["name"] for one in parameters[2:]] == ["runtime", "toolchain"]
    (gamma,) = run("provenance", "small", "gamma").out.splitlines()
    assert json.loads(gamma) == lines[1]


def test_provenance_of_a_wheel_that_nobody_has_built_ends_with_6(run: Run) -> None:
    ended = run("provenance", "small", "gamma")
    assert (ended.code, ended.out) == (6, "")
    assert "hint: `lockbuild build small gamma`" in ended.err


def test_provenance_of_what_is_not_built_yet_is_told(world: World, run: Run) -> None:
    run("build", "small")
    world.store.remove(dict(world.plan.roots)["runtime"])
    ended = run("provenance", "small")
    assert (ended.code, len(ended.out.splitlines())) == (0, 3)
    assert "not built yet, and so without a Statement: runtime" in ended.err
    ended = run("provenance", "small", "runtime", "gamma")
    assert (ended.code, ended.out) == (6, "")
    assert "`runtime` is not built yet" in ended.err


def test_provenance_of_what_the_stack_does_not_build_ends_with_2(run: Run) -> None:
    ended = run("provenance", "small", "alpha")
    assert ended.code == 2
    assert "it builds: delta, gamma" in ended.err


def test_an_audit_is_written_to_a_file(run: Run, tmp_path: Path) -> None:
    printed = run("audit", "small")
    ended = run("audit", "small", "--output", "found/audit.txt")
    assert (ended.code, ended.out) == (printed.code, "")
    assert (tmp_path / "found" / "audit.txt").read_text(encoding="utf-8") == printed.out


def test_an_audit_that_cannot_be_written_ends_with_2(run: Run, tmp_path: Path) -> None:
    (tmp_path / "found").write_text("a file", encoding="utf-8")
    ended = run("audit", "small", "--output", "found/audit.txt")
    assert ended.code == 2
    assert "`--output found/audit.txt` cannot be written" in ended.err


def test_a_report_says_what_has_changed_since_an_earlier_one(run: Run, tmp_path: Path) -> None:
    run("build", "small")
    before = run("audit", "small", "--format", "html")
    assert before.out.startswith("<!doctype html>\n")
    (tmp_path / "before.html").write_text(before.out, encoding="utf-8")
    (tmp_path / "wheels" / "small" / "old-1.0-py3-none-any.whl").write_bytes(b"stray")
    ended = run("audit", "small", "--format", "html", "--since", "before.html")
    assert ended.code == 9
    assert "Findings: 3 new, 0 gone, 0 told otherwise" in ended.out


@pytest.mark.parametrize(
    ("options", "said"),
    [
        (
            ("--since", "stacks/small/stack.toml"),
            "found with `--format table`, expected with `--format html`",
        ),
        (
            ("--format", "html", "--since", "stacks/small/stack.toml"),
            "is not a report of `lockbuild audit`",
        ),
        (("--format", "html", "--since", "binary"), "cannot be read"),
    ],
)
def test_since_wants_an_earlier_report(
    run: Run, tmp_path: Path, options: tuple[str, ...], said: str
) -> None:
    (tmp_path / "binary").write_bytes(b"\xff")
    ended = run("audit", "small", *options)
    assert ended.code == 2
    assert said in ended.err


def test_json_of_doctor(run: Run) -> None:
    found = {one["name"]: one["state"] for one in run("doctor", "--json").json}
    assert found["uv"] == "works"


def test_json_of_store_verify(world: World, run: Run) -> None:
    run("fetch", "small")
    assert run("store", "verify", "--json").json == []
    damage(world)
    ended = run("store", "verify", "--json")
    assert ended.code == 7
    assert [one["path"] for one in ended.json] == [world.fetched("gamma-2.0.tar.gz")]


def test_json_of_store_repair(world: World, run: Run) -> None:
    run("fetch", "small")
    damage(world)
    found = run("store", "repair", "--json").json
    assert found["forgotten"] == [world.fetched("gamma-2.0.tar.gz")]


def test_json_of_store_gc(world: World, run: Run) -> None:
    run("fetch", "small")
    world.store.remove_root(next(iter(world.store.roots())))
    world.store.close()
    found = run("store", "gc", "--dry-run", "--json").json
    assert len(found["removed"]) == 10


# ---- words that are mistaken -----------------------------------------------------------------------


def test_a_command_that_is_none_names_the_nearest(run: Run) -> None:
    ended = run("resolv", "small")
    assert ended.code == errors.UsageError.exit_code
    assert "No such command 'resolv'. Did you mean 'resolve'?" in ended.err
    assert "No such command 'xyzzy'.\n" in run("xyzzy").err


# ---- the store -------------------------------------------------------------------------------------


def test_the_store_is_where_the_option_says(run: Run, tmp_path: Path) -> None:
    assert run("--store", str(tmp_path / "other"), "store", "path").out == f"{tmp_path / 'other'}\n"


def test_a_repaired_store_is_filled_again(world: World, run: Run) -> None:
    run("fetch", "small")
    damage(world)
    assert "forgot" in run("store", "repair").out
    assert "fetched 1 artifact\n" in run("fetch", "small").err
    assert run("store", "verify").code == 0


def test_garbage_collection_keeps_what_a_stack_needs(world: World, run: Run) -> None:
    run("build", "small")
    before = world.store.paths()
    world.store.close()
    assert run("store", "gc").code == 0
    assert world.store.paths() == before


def test_garbage_of_a_stack_folder_that_is_gone_is_kept_until_that_is_said(
    world: World, run: Run
) -> None:
    run("fetch", "small")
    (name,) = world.store.roots()
    world.store.close()
    assert run("store", "gc").err == "0 objects, 0 B, were removed\n"
    folder = world.folder.path
    assert run("store", "roots").out.startswith(f"{name}  {folder}\n  10 objects, ")
    folder.rename(folder.with_name("renamed"))
    assert f"{name}  {folder} (gone)\n" in run("store", "roots").out
    ended = run("store", "gc")
    assert ended.out == ""
    assert "1 stack folder gone, " in ended.err
    assert "`lockbuild store gc --forget-gone` forgets it" in ended.err
    (told,) = run("store", "roots", "--json").json
    assert (told["name"], told["gone"], told["objects"]) == (name, True, 10)
    found = run("store", "gc", "--forget-gone", "--json").json
    assert (len(found["removed"]), found["forgotten"]) == (10, [name])
    assert run("store", "roots").out == ""


def test_garbage_of_a_root_that_is_named(world: World, run: Run) -> None:
    run("fetch", "small")
    (name,) = world.store.roots()
    world.store.close()
    ended = run("store", "gc", "--forget", name[:-1])
    assert ended.code == errors.UsageError.exit_code
    assert f"did you mean `{name}`?" in ended.err
    assert len(run("store", "gc", "--forget", name).out.splitlines()) == 10


# ---- terminals, pipes and signals ------------------------------------------------------------------


def test_a_terminal_has_colour() -> None:
    assert "\x1b[31m" in on_terminal("build", "smal")


def test_no_color_is_honoured(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("NO_COLOR", "1")
    shown = on_terminal("build", "smal")
    assert shown.startswith("error: no stack")
    assert "\x1b" not in shown


def test_a_log_has_no_colour(run: Run) -> None:
    assert "\x1b" not in run("build", "smal").err


def test_a_terminal_has_a_bar(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TERM", "xterm")
    assert "━" in on_terminal("fetch", "small")


def test_output_is_utf_8_in_every_locale(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PYTHONIOENCODING", "latin-1")
    text = world.folder.read_stack_text().replace("two wheels", "dvě kola")
    (world.folder.path / STACK_FILE).write_text(text, encoding="utf-8")
    world.relock(world.lock)
    process = outside("describe", "small", stdout=subprocess.PIPE)
    out, _ = process.communicate(timeout=WAIT_S)
    assert process.returncode == 0
    assert "dvě kola" in out.decode("utf-8")


def test_a_full_disk_is_no_bug() -> None:
    with Path("/dev/full").open("wb") as full:
        ended = outside("schema", stdout=full, stderr=subprocess.PIPE)
        said = ended.communicate(timeout=WAIT_S)[1].decode()
    assert ended.returncode == errors.StoreError.exit_code
    assert said.startswith("error: no space is left on the disk\nhint: ")
    assert "Traceback" not in said


def test_a_reader_that_has_gone_is_no_bug() -> None:
    reading, writing = os.pipe()
    os.close(reading)
    process = outside("schema", stdout=writing, stderr=subprocess.PIPE)
    os.close(writing)
    _, said = process.communicate(timeout=WAIT_S)
    assert (process.returncode, said) == (0, b"")


_SLOW = """
import sys, threading
from lockbuild.cli import main, session
from tests.fakes import ScriptedBuilder

def wait(task, out):
    print("begun", flush=True)
    threading.Event().wait()

builder = ScriptedBuilder({"bookworm-toolchain": wait})
session.builder_of = lambda settings: builder
session.root_builder = lambda: builder
sys.argv = ["lockbuild", "build", "small"]
main()
"""


def test_an_interrupted_build_ends_at_once_and_the_next_run_goes_on(world: World, run: Run) -> None:
    process = subprocess.Popen(
        [sys.executable, "-c", _SLOW],
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
    )
    try:
        assert process.stdout is not None
        assert process.stdout.readline() == b"begun\n"
        process.send_signal(signal.SIGINT)
        _, said = process.communicate(timeout=WAIT_S)
    finally:
        process.kill()
        process.wait()
    assert process.returncode == 130
    assert b"run the same command again" in said
    assert not world.store.valid([world.built("toolchain")])
    assert run("build", "small").code == 0
    assert tuple(world.store.verify()) == ()


def test_main_is_the_module_that_python_runs(world: World) -> None:
    process = outside("store", "path", stdout=subprocess.PIPE)
    out, _ = process.communicate(timeout=WAIT_S)
    assert out.decode() == f"{world.store.root}\n"
