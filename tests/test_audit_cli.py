"""`lockbuild audit` of locks that were edited or are stale, without a stack, and on a terminal."""

from __future__ import annotations

import re
import tomllib
from typing import TYPE_CHECKING

import pytest

from lockbuild.documents import toml_text
from lockbuild.folders import STACK_FILE
from lockbuild.lock import LOCK_FILE
from tests.test_cli import builder, on_terminal, run, world  # noqa: F401 - fixtures

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path
    from typing import Any

    from tests.test_cli import Run
    from tests.worlds import World


def change_stack(folder: Path, change: Callable[[dict[str, Any]], None]) -> None:
    file = folder / STACK_FILE
    document = tomllib.loads(file.read_text())
    change(document)
    file.write_text(toml_text(document))


def findings(run: Run, *, code: int = 9) -> dict[str, list[str]]:
    ended = run("audit", "small", "--json")
    assert ended.code == code, ended.err
    found: dict[str, list[str]] = {}
    for one in ended.json["findings"]:
        found.setdefault(one["check"], []).append(f"{one['subject']}: {one['message']}")
    return found


def test_a_stale_lock_is_audited(world: World, run: Run) -> None:
    change_stack(world.folder.path, lambda document: document["env"].update({"NEW": "1"}))
    assert findings(run)["lock-stale"] == ["env.NEW: was added since the lock was made"]


def test_a_changed_source_folder_is_a_stale_lock(world: World, run: Run) -> None:
    (world.folder.path / "extension" / "delta.c").write_text("long delta;\n")
    (line,) = findings(run)["lock-stale"]
    assert line.startswith("file extension/delta.c: was changed")


def test_a_lock_without_a_source_of_what_is_built_is_audited(world: World, run: Run) -> None:
    new = {"name": "epsilon", "version": "1.0", "source": {"sdist": "epsilon==1.0"}}
    change_stack(world.folder.path, lambda document: document["build"].append(new))
    ended = run("audit", "small", "--json")
    assert ended.code == 9
    assert "lock-stale" in {one["check"] for one in ended.json["findings"]}
    reasons = {one["check"]: one["reason"] for one in ended.json["skipped"]}
    assert "epsilon" in reasons["store-bytes"]


def test_a_wrong_stack_file_is_no_finding(world: World, run: Run) -> None:
    change_stack(world.folder.path, lambda document: document.update({"colour": "red"}))
    ended = run("audit", "small")
    assert (ended.code, "`colour`" in ended.err) == (2, True)


@pytest.mark.parametrize(
    "command",
    [("audit", "small"), ("build", "small", "--dry-run"), ("render", "small"), ("describe", "small")],
)
@pytest.mark.parametrize(
    ("policy", "fault"),
    [
        ('[audit.licenses]\ndeni = ["*"]', "`audit.licenses.deni`: unknown key; did you mean `deny`?"),
        ('[audit]\nwaive = "x"', '`audit.waive`: found "x", expected a list'),
        ('[audit.licenses]\ndeny = "MIT"', '`audit.licenses.deny`: found "MIT", expected a list'),
    ],
)
def test_a_policy_that_is_none_is_refused_by_every_command(
    world: World, run: Run, command: tuple[str, ...], policy: str, fault: str
) -> None:
    with (world.folder.path / STACK_FILE).open("a") as file:
        file.write(f"\n{policy}\n")
    ended = run(*command)
    assert (ended.code, ended.out) == (2, "")
    assert f"{STACK_FILE}: 1 fault\n  {fault}\n" in ended.err


def test_an_edited_lock_is_audited(world: World, run: Run) -> None:
    file = world.folder.path / "requirements.txt"
    file.write_text(file.read_text().replace("alpha==1.2", "alpha==1.3"))
    found = findings(run)
    assert found["lock-edited"][0].startswith(
        "requirements.txt: is not as it was written; lockbuild.lock says"
    )
    assert found["lock-contradicts"][0].startswith("alpha: requirements.txt has 1.3")


def test_an_edited_main_file_is_audited(world: World, run: Run) -> None:
    file = world.folder.path / LOCK_FILE
    text = file.read_text()
    file.write_text(text.replace('created-by = "lockbuild"', 'created-by = "somebody"'))
    assert findings(run)["lock-edited"][0].startswith(f"{LOCK_FILE}: is not as it was written; `digest`")


@pytest.mark.parametrize("verb", ["build", "fetch", "render"])
def test_nobody_else_takes_an_edited_lock(world: World, run: Run, verb: str) -> None:
    file = world.folder.path / "requirements.txt"
    file.write_text(f"{file.read_text()}evil==1.0\n")
    assert run(verb, "small").code == 3


def test_a_dockerfile_in_another_encoding_is_told(world: World, run: Run) -> None:
    (world.folder.path / "Dockerfile").write_bytes(b"FROM scratch\n# f\xfcr\n")
    assert findings(run)["dockerfile-current"] == ["Dockerfile: is not what the lock renders"]


@pytest.mark.parametrize("data", [b"\xff", b"{", b"[" * 100_000], ids=["bytes", "half", "nested"])
def test_a_damaged_manifest_is_told(world: World, run: Run, data: bytes) -> None:
    run("build", "small")
    (world.folder.wheels / "manifest.json").write_bytes(data)
    ended = run("audit", "small", "--json")
    assert ended.code == 9, ended.err
    (told,) = (one["message"] for one in ended.json["findings"] if one["check"] == "manifest-lock")
    assert told.startswith("its manifest cannot be read: ")
    reasons = {one["check"]: one["reason"] for one in ended.json["skipped"]}
    assert {reasons[check] for check in ("wheel-bytes", "wheel-provenance", "gate")} == {
        "the wheelhouse's manifest cannot be read: `lockbuild build` writes it anew"
    }
    # Nobody looks at the wheelhouse there.
    assert "manifest" not in run("audit", "small", "--against", "lock").out
    run("build", "small")
    assert "manifest-lock" in run("audit", "small", "--json").json["passed"]


def test_without_a_wheelhouse_there_is_nothing_to_judge(run: Run) -> None:
    ended = run("audit", "small", "--against", "wheelhouse", "--json")
    reasons = {one["check"]: one["reason"] for one in ended.json["skipped"]}
    assert {reasons["gate"], reasons["manifest-lock"]} == {
        "there is no wheelhouse yet: `lockbuild build`"
    }


@pytest.mark.parametrize("data", [b"\xff", b"[" * 100_000, b"[]"], ids=["bytes", "nested", "list"])
def test_damaged_notes_are_none(world: World, run: Run, data: bytes) -> None:
    run("build", "small")
    before = run("audit", "small", "--json").json
    notes = [path for path in (world.store.root / "notes").glob("*/*") if path.suffix == ".json"]
    assert len({path.name for path in notes}) > 3
    for note in notes:
        # That a system has no packages is no damage.
        if data != b"[]" or not note.name.startswith("debs-"):
            note.write_bytes(data)
    after = run("audit", "small", "--json")
    assert after.json == before, after.err


def test_a_missing_lock_cannot_be_audited(world: World, run: Run) -> None:
    (world.folder.path / LOCK_FILE).unlink()
    assert run("audit", "small").code == 3


# ---- what is printed -------------------------------------------------------------------------------


def test_the_list_needs_no_stack(run: Run) -> None:
    ended = run("audit", "--list")
    assert ended.code == 0
    assert "moving-ref" in ended.out


def test_without_a_stack_nothing_can_be_audited(run: Run) -> None:
    ended = run("audit")
    assert (ended.code, "`lockbuild audit STACK`" in ended.err) == (2, True)


def test_the_last_line_counts(run: Run) -> None:
    run("build", "small")
    last = run("audit", "small", "--against", "lock").out.splitlines()[-1]
    counted = {word: number for number, word in (part.split(" ", 1) for part in last.split(", "))}
    assert counted["errors"] == "0"
    assert int(counted["warnings"]) >= 2


def test_warnings_can_end_with_9(run: Run) -> None:
    run("build", "small")
    ended = run("audit", "small", "--level", "warning")
    assert ended.code == 9
    assert "warnings" in ended.err


def test_on_a_terminal_findings_stand_below_their_level(run: Run) -> None:
    run("build", "small")
    shown = on_terminal("audit", "small", "--against", "lock")
    lines = [re.sub(r"\x1b\[[0-9;]*m", "", line).rstrip() for line in shown.splitlines()]
    start = next(number for number, line in enumerate(lines) if line.startswith("warnings ("))
    assert "  build-pinned" in lines[start:]
    assert "    gamma: the lock does not pin its bytes" in lines[start:]
    assert lines.index("    mend: `lockbuild build`, then `lockbuild resolve`") > start
    assert lines[-1].startswith("0 errors, ")
    # What passed is no news.
    assert not any(line.startswith("ok ") for line in lines)
