"""`[[source]]`: its faults, its licences, and its place among assets and mounts."""

from __future__ import annotations

from typing import Any

import pytest

from lockbuild.documents import toml_text
from lockbuild.edits import Graft, Patch
from lockbuild.errors import StackError
from lockbuild.stack import NamedSource, Source, Stack, from_document
from lockbuild.stack.schema import parse_stack_text
from tests.values import minimal_document

COMMIT = "9bd34f732e30cd94c0a9a087a125d2dda228e258"
GRAFTED: dict[str, Any] = {
    "name": "other",
    "git": "https://git.example.org/other",
    "commit": COMMIT,
}
PLACED: dict[str, Any] = {
    "name": "Talking",
    "git": "https://git.example.org/talking",
    "commit": COMMIT,
    "path": "/workspace/Talking",
    "license": "MIT",
}
EDITS: list[dict[str, Any]] = [
    {"patch": "patches/a.patch", "reason": "a"},
    {"graft": "other", "take": "a", "put": "b", "reason": "lacking"},
]
WEIGHTS: dict[str, Any] = {
    "name": "weights.pth",
    "path": "/workspace/Talking/weights.pth",
    "url": ["https://example.invalid/weights.pth"],
    "sha256": "a" * 64,
    "license": "MIT",
}


def read(*sources: dict[str, Any], **document: Any) -> Stack:
    text = toml_text({**minimal_document(), "source": list(sources), **document})
    return from_document(parse_stack_text(text, file="stack.toml"))


def fault(*sources: dict[str, Any], **document: Any) -> str:
    with pytest.raises(StackError) as caught:
        read(*sources, **document)
    (line,) = caught.value.details
    return line


def test_a_source_of_the_image_is_read() -> None:
    table = {**PLACED, "submodules": True, "subdirectory": "app", "writable": True, "edits": EDITS}
    stack = read(GRAFTED, table)
    assert stack.sources[1] == NamedSource(
        name="Talking",
        source=Source(git=PLACED["git"], commit=COMMIT, submodules=True, subdirectory="app"),
        path="/workspace/Talking",
        edits=(
            Patch(path="patches/a.patch", reason="a"),
            Graft(source="other", take="a", put="b", reason="lacking"),
        ),
        writable=True,
        license="MIT",
    )
    assert stack.placed == stack.sources[1:]
    assert stack.edits_of("Talking") == stack.sources[1].edits


@pytest.mark.parametrize(
    ("origin", "source"),
    [
        ({"folder": "app"}, Source(path="app")),
        ({"sdist": "talking==1.0"}, Source(sdist="talking==1.0")),
    ],
)
def test_a_source_may_be_a_folder_or_an_sdist(origin: dict[str, Any], source: Source) -> None:
    table = {key: PLACED[key] for key in ("name", "path", "license")}
    assert read({**table, **origin}).placed[0].source == source


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"folder": "app"}, "exactly one of `sdist`, `folder` and `git`"),
        ({"path": "workspace"}, "an absolute path in the image"),
        ({"path": "/opt/venv/app"}, "a path outside of `/opt/venv`"),
        ({"license": "MIT or so"}, "an SPDX expression"),
        ({"license": "LicenseRef-Own"}, "does not let everybody pass it on"),
        ({"license": "NOASSERTION"}, "a `[[mount]]` in place of `path`"),
        ({"license": "MIT", "redistributable": True, "path": 1}, "expected a string"),
        ({"edits": [{**EDITS[1], "graft": "oter"}]}, "there is none for `oter`"),
    ],
)
def test_fault(change: dict[str, Any], said: str) -> None:
    assert said in fault({**PLACED, **change})


def test_what_the_image_passes_on_has_a_licence() -> None:
    assert "expected `license`" in fault({k: v for k, v in PLACED.items() if k != "license"})


@pytest.mark.parametrize(
    "accepted",
    [{"redistributable": True}, {"accept-license": "research at an institute that has agreed to it"}],
)
def test_a_licence_that_is_accepted_is_no_fault(accepted: dict[str, Any]) -> None:
    (source,) = read({**PLACED, "license": "LicenseRef-Own", **accepted}).placed
    assert source.accept_license == accepted.get("accept-license", "")


@pytest.mark.parametrize("change", [{"edits": EDITS[:1]}, {"writable": True}, {"subdirectory": "a"}])
def test_a_source_outside_the_image_is_not_changed(change: dict[str, Any]) -> None:
    (key,) = change
    assert f"`{key}` only beside `path`" in fault({**GRAFTED, **change})


# ---- places ------------------------------------------------------------------------------------------


def test_assets_and_mounts_may_be_inside_a_source() -> None:
    mounts = [{"path": "/workspace/Talking/data"}]
    assert read(PLACED, asset=[WEIGHTS], mount=mounts).placed


def test_sources_may_be_side_by_side() -> None:
    assert read(PLACED, {**PLACED, "name": "b", "path": "/workspace/Talking-b"}).placed


@pytest.mark.parametrize("path", ["/workspace/Talking", "/workspace/Talking/inner"])
def test_a_source_in_a_source_is_refused(path: str) -> None:
    assert "a graft puts one into another" in fault(PLACED, {**PLACED, "name": "b", "path": path})


@pytest.mark.parametrize("path", ["/workspace/Talking", "/workspace"])
def test_a_mount_that_hides_a_source_is_refused(path: str) -> None:
    said = f"mounting `{path}` would hide `/workspace/Talking`"
    assert said in fault(PLACED, mount=[{"path": path}])
    asset = {"name": "data", "path": path, "policy": "mount"}
    assert said in fault(PLACED, asset=[asset])


@pytest.mark.parametrize("path", ["/workspace/Talking", "/workspace"])
def test_an_asset_in_place_of_a_source_s_folder_is_refused(path: str) -> None:
    assert "no asset in place of a source's folder" in fault(PLACED, asset=[{**WEIGHTS, "path": path}])
