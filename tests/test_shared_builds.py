"""Builds that several stacks share."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Any

import pytest

from lockbuild.documents import toml_text
from lockbuild.errors import LockError, StackError
from lockbuild.folders import STACK_FILE, StackFolder
from lockbuild.lock import lock_texts
from lockbuild.stack import inputs_of
from lockbuild.stack.schema import check_document, json_schema
from lockbuild.stack.shared import expand, included
from tests.values import small_lock, small_stack, stack_document

if TYPE_CHECKING:
    from pathlib import Path

SHARED = {
    "name": "gamma",
    "version": "2.0",
    "source": {"sdist": "gamma==2.0"},
    "needs": ["alpha"],
    "env": {"FORCE_CUDA": "1", "OPS": "1"},
    "edits": [{"file": "a.py", "old": "1", "new": "2", "reason": "r"}],
}
EDIT = {"file": "b.py", "old": "3", "new": "4", "reason": "r"}


def expanded(**own: Any) -> dict[str, Any]:
    """Return the build of a stack that includes `SHARED` and says *own* beside it."""
    document = expand({"build": [{"include": "gamma", **own}]}, {"gamma": SHARED})
    (build,) = document["build"]
    return dict(build)


def test_an_included_build_is_written_out() -> None:
    assert expanded() == SHARED


def test_own_keys_take_the_place_of_shared_ones() -> None:
    found = expanded(version="2.1", needs=[])
    assert (found["version"], found["needs"], found["source"]) == ("2.1", [], SHARED["source"])


def test_variables_are_joined_and_edits_are_appended() -> None:
    found = expanded(env={"OPS": "0", "MORE": "1"}, edits=[EDIT])
    assert found["env"] == {"FORCE_CUDA": "1", "OPS": "0", "MORE": "1"}
    assert [edit["file"] for edit in found["edits"]] == ["a.py", "b.py"]


def test_what_has_another_shape_is_left_for_the_check() -> None:
    for build in ([{"include": 3}], ["gamma"], {"include": "gamma"}):
        assert expand({"build": build}, {}) == {"build": build}
        assert included({"build": build}) == ()


# ---- on disk ---------------------------------------------------------------------------------------


@pytest.fixture
def folder(tmp_path: Path) -> StackFolder:
    """Return a stack that includes its build `gamma`, which lies beside it."""
    document = stack_document()
    gamma = next(build for build in document["build"] if build["name"] == "gamma")
    others = [build for build in document["build"] if build is not gamma]
    path = tmp_path / "stacks" / "small"
    path.mkdir(parents=True)
    (path / STACK_FILE).write_text(toml_text({**document, "build": [{"include": "gamma"}, *others]}))
    share(path, gamma)
    for beside in (build["source"].get("path") for build in others):
        if beside:
            (path / beside).mkdir()
    return StackFolder(path=path)


def share(path: Path, table: dict[str, Any]) -> None:
    file = path.parent / "_builds" / "gamma.toml"
    file.parent.mkdir(exist_ok=True)
    file.write_text(toml_text(table))


def test_a_stack_that_includes_its_build_is_the_same_stack(folder: StackFolder) -> None:
    document = folder.read_document()
    check_document(document, file=STACK_FILE)
    assert inputs_of(document, {}) == inputs_of(stack_document(), {})


def test_a_changed_shared_build_makes_the_lock_stale(folder: StackFolder) -> None:
    document = folder.read_document()
    files = folder.used_files(document)
    lock = replace(small_lock(), inputs=tuple(sorted(inputs_of(document, files).items())))
    target = small_stack().target
    folder.write_texts(lock_texts(lock, name="small", target=target, wheels=folder.wheels_from_here))
    folder.read_locked()
    (gamma,) = (build for build in folder.read_document()["build"] if build["name"] == "gamma")
    share(folder.path, {**gamma, "env": {"OPS": "2"}})
    with pytest.raises(LockError) as caught:
        folder.read_locked()
    assert "`build.gamma.env.OPS` was added" in caught.value.details


def test_an_unknown_shared_build_names_the_nearest(folder: StackFolder) -> None:
    (folder.path / STACK_FILE).write_text(toml_text({"build": [{"include": "gama"}]}))
    with pytest.raises(StackError, match=r"`include` names the shared build `gama`") as caught:
        folder.read_document()
    assert caught.value.hint == "did you mean `gamma`?"


def test_a_name_that_leaves_the_folder_is_none(folder: StackFolder) -> None:
    (folder.path / STACK_FILE).write_text(toml_text({"build": [{"include": "../small/stack"}]}))
    with pytest.raises(StackError, match="there is no"):
        folder.read_document()


@pytest.mark.parametrize(
    "more",
    [
        {"source": {"path": "native"}},
        {"edits": [{"patch": "patches/a.patch", "reason": "r"}]},
        {"include": "delta"},
    ],
)
def test_a_shared_build_names_no_files_beside_a_stack(folder: StackFolder, more: dict[str, Any]) -> None:
    share(folder.path, {**SHARED, **more})
    with pytest.raises(StackError, match="a shared build stands alone"):
        folder.read_document()


@pytest.mark.parametrize("more", [{"source": 5}, {"source": "path"}, {"edits": 3}, {"edits": ["patch"]}])
def test_a_shared_build_of_another_shape_is_left_for_the_check(
    folder: StackFolder, more: dict[str, Any]
) -> None:
    share(folder.path, {**SHARED, **more})
    with pytest.raises(StackError, match="1 fault"):
        check_document(folder.read_document(), file=folder.stack_file)


def test_a_broken_shared_build_is_named(folder: StackFolder) -> None:
    (folder.path.parent / "_builds" / "gamma.toml").write_text("name = \n")
    with pytest.raises(StackError, match=r"^\.\./_builds/gamma\.toml is not TOML"):
        folder.read_document()


def test_editors_know_included_builds() -> None:
    schema = json_schema()
    included_build = schema["$defs"]["IncludedBuild"]
    assert included_build["required"] == ["include"]
    assert {"$ref": "#/$defs/IncludedBuild"} in schema["properties"]["build"]["items"]["anyOf"]
