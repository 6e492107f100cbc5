"""Edits as values: how a stack says them, and the build that applies them."""

from __future__ import annotations

import ast
import json
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import pytest

from lockbuild.digest import StorePath, store_path
from lockbuild.documents import toml_text
from lockbuild.edits import Edit, Graft, Patch, Substitute, program, source_build
from lockbuild.errors import StackError
from lockbuild.stack import inputs_of
from lockbuild.stack.schema import parse_stack_text
from tests.values import small_stack, stack_document

if TYPE_CHECKING:
    from lockbuild.derivation import Build

PATCH = Patch(path="patches/load file.patch", reason="torch 2.6 loads weights only")
SUBSTITUTE = Substitute(file="setup.py", old="c++14", new="c++17", count=2, reason="torch needs it")
GRAFT = Graft(source="detectron2", take="projects/deeplab", put="detectron2/deeplab", reason="lacking")
EDITS: tuple[Edit, ...] = (PATCH, SUBSTITUTE, GRAFT)


def path(name: str) -> StorePath:
    return store_path(["test", name], name)


def build_of(*edits: Edit, **changes: Any) -> Build:
    arguments: dict[str, Any] = {
        "system": "x86_64-linux",
        "toolchain": path("toolchain"),
        "tree": path("tree"),
        "patches": {PATCH.path: path("load.patch")},
        "grafts": {"detectron2": path("detectron2")},
        "epoch": 315532800,
        "path_env": "/usr/bin:/bin",
    }
    return source_build("gamma-2.0-source", edits=edits, **(arguments | changes))


# ---- the build -------------------------------------------------------------------------------------


def test_tree_patches_and_grafts_are_the_inputs() -> None:
    assert build_of(*EDITS).inputs == (
        ("grafts/detectron2", path("detectron2")),
        ("patches/1-load_file.patch", path("load.patch")),
        ("tree", path("tree")),
    )


def test_source_of_two_grafts_is_one_input() -> None:
    build = build_of(GRAFT, replace(GRAFT, put="elsewhere"))
    assert [name for name, _ in build.inputs] == ["grafts/detectron2", "tree"]


def test_build_is_a_source_in_the_toolchain() -> None:
    build = build_of(*EDITS)
    assert (build.kind, build.toolchain, build.system) == ("source", path("toolchain"), "x86_64-linux")
    assert build.env == (("PATH", "/usr/bin:/bin"), ("SOURCE_DATE_EPOCH", "315532800"))


def test_command_is_the_program_and_the_edits_in_their_order() -> None:
    *python, text, base, edits = build_of(*EDITS).command
    assert (python, text, base) == (["python3", "-I", "-c"], program(), "/build")
    assert json.loads(edits) == [
        {"kind": "patch", "input": "1-load_file.patch", "strip": 1},
        {"kind": "substitute", "file": "setup.py", "old": "c++14", "new": "c++17", "count": 2},
        {
            "kind": "graft",
            "source": "detectron2",
            "take": "projects/deeplab",
            "put": "detectron2/deeplab",
            "replace": False,
        },
    ]


def test_paths_lose_parts_that_say_nothing() -> None:
    build = build_of(replace(SUBSTITUTE, file="./a//b/"), replace(GRAFT, take="./"))
    assert [edit.get("file", edit.get("take")) for edit in json.loads(build.command[-1])] == ["a/b", "."]


@pytest.mark.parametrize("edit", EDITS)
def test_reason_does_not_count(edit: Edit) -> None:
    assert build_of(edit).path == build_of(replace(edit, reason="another")).path


@pytest.mark.parametrize(
    "edits",
    [
        (),
        EDITS[::-1],
        (replace(PATCH, strip=0), SUBSTITUTE, GRAFT),
        (PATCH, replace(SUBSTITUTE, count=1), GRAFT),
        (PATCH, replace(SUBSTITUTE, new="c++20"), GRAFT),
        (PATCH, SUBSTITUTE, replace(GRAFT, replace=True)),
    ],
)
def test_edits_and_their_order_count(edits: tuple[Edit, ...]) -> None:
    assert build_of(*edits).path != build_of(*EDITS).path


@pytest.mark.parametrize(
    "change",
    [
        {"tree": path("other")},
        {"patches": {PATCH.path: path("other")}},
        {"grafts": {"detectron2": path("other")}},
        {"toolchain": path("other")},
    ],
)
def test_inputs_count(change: dict[str, Any]) -> None:
    assert build_of(*EDITS, **change).path != build_of(*EDITS).path


def test_patch_that_is_not_given_is_an_error() -> None:
    with pytest.raises(KeyError, match="load file"):
        build_of(PATCH, patches={})


def test_edits_longer_than_an_argument_are_refused() -> None:
    with pytest.raises(StackError, match="131071 at most") as caught:
        build_of(replace(SUBSTITUTE, new="é" * 66_000))
    assert caught.value.hint == "put the longest of them into a patch"


def test_program_is_python_3_8_and_fits_into_an_argument() -> None:
    ast.parse(program(), feature_version=(3, 8))
    assert len(program().encode()) < 128 * 1024


# ---- in a stack ------------------------------------------------------------------------------------

TABLES: list[dict[str, Any]] = [
    {"patch": PATCH.path, "reason": PATCH.reason},
    {"file": "setup.py", "old": "c++14", "new": "c++17", "count": 2, "reason": "torch needs it"},
    {
        "graft": "detectron2",
        "take": "projects/deeplab",
        "put": "detectron2/deeplab",
        "reason": "lacking",
    },
]


def document_with(*tables: dict[str, Any]) -> dict[str, Any]:
    gamma, *others = stack_document()["build"]
    source = {"name": "detectron2", "git": "https://example.org/detectron2", "commit": "02b5c4e2" * 5}
    return stack_document(build=[{**gamma, "edits": list(tables)}, *others], source=[source])


def fault_of(table: dict[str, Any]) -> str:
    with pytest.raises(StackError) as caught:
        parse_stack_text(toml_text(document_with(table)), file="stack.toml")
    (fault,) = caught.value.details
    return fault


def test_edits_are_accepted_and_read() -> None:
    document = parse_stack_text(toml_text(document_with(*TABLES)), file="stack.toml")
    assert small_stack(**document).build("gamma").edits == EDITS
    assert small_stack(**document).build("delta").edits == ()


def test_options_of_edits_are_read() -> None:
    tables = [{**TABLES[0], "strip": 0}, {**TABLES[2], "take": ".", "replace": True}]
    document = parse_stack_text(toml_text(document_with(*tables)), file="stack.toml")
    expected = (replace(PATCH, strip=0), replace(GRAFT, take=".", replace=True))
    assert small_stack(**document).build("gamma").edits == expected


@pytest.mark.parametrize(
    ("table", "expected"),
    [
        ({"reason": "none"}, "found a table, expected exactly one of `patch`, `file` and `graft`"),
        (TABLES[0] | TABLES[2], "found a table, expected exactly one of `patch`, `file` and `graft`"),
        (
            {"file": "a", "new": "b", "reason": "r"},
            "found a table, expected `new` and `old` beside `file`",
        ),
        ({**TABLES[1], "strip": 1}, "found a table, expected no `strip` beside `file`"),
        ({**TABLES[0], "count": 1}, "found a table, expected no `count` beside `patch`"),
        ({**TABLES[1], "old": ""}, "found a table, expected `old` to be some text, and `new` another"),
        (
            {**TABLES[1], "new": "c++14"},
            "found a table, expected `old` to be some text, and `new` another",
        ),
    ],
)
def test_fault_of_an_edit_is_told(table: dict[str, Any], expected: str) -> None:
    assert fault_of(table) == f"`build[gamma].edits[0]`: {expected}"


@pytest.mark.parametrize(
    ("key", "table", "expected"),
    [
        ("reason", {**TABLES[1], "reason": " "}, 'found " ", expected one line that says why'),
        (
            "file",
            {**TABLES[1], "file": "*.py"},
            'found "*.py", expected one path: patterns are not for edits',
        ),
        (
            "file",
            {**TABLES[1], "file": "../a"},
            "expected a path inside the source, with forward slashes",
        ),
        ("put", {**TABLES[2], "put": "/etc"}, "expected a path inside the source, with forward slashes"),
        ("take", {**TABLES[2], "take": ".."}, "with forward slashes; `.` is all of it"),
        ("patch", {**TABLES[0], "patch": "../x"}, "expected a path below the stack's folder"),
        ("count", {**TABLES[1], "count": 0}, "found 0, expected"),
        ("fiel", {"fiel": "a", "patch": "b", "reason": "r"}, "unknown key; did you mean `file`?"),
    ],
)
def test_fault_of_a_key_is_told(key: str, table: dict[str, Any], expected: str) -> None:
    fault = fault_of(table)
    assert fault.startswith(f"`build[gamma].edits[0].{key}`: ")
    assert expected in fault


def test_source_of_a_graft_must_be_there() -> None:
    fault = fault_of({**TABLES[2], "graft": "detectron"})
    assert fault.startswith("`stack`: found a table, expected ")
    assert "there is none for `detectron`" in fault


def test_reason_is_required() -> None:
    assert fault_of({"patch": "a.patch"}).startswith("`build[gamma].edits[0].reason`: missing")


def test_each_edit_is_an_input_of_the_lock() -> None:
    before = inputs_of(document_with(*TABLES), {})
    after = inputs_of(document_with(TABLES[0], {**TABLES[1], "old": "c++11"}, TABLES[2]), {})
    assert {key for key in before if before[key] != after[key]} == {"build.gamma.edits.2.old"}
