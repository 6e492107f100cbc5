"""Each diagnosis, with the tools of this machine or with programs that the test writes in their place."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

import pytest

from lockbuild.doctor import Diagnosis, examine
from lockbuild.process import find_tool
from lockbuild.resolvers import apt
from lockbuild.settings import Settings
from tests.needs import need
from tests.worlds import unconfigured

if TYPE_CHECKING:
    from pathlib import Path

NAMES = [
    *(
        "uv",
        "default index",
        "apt-get",
        "debian archive",
        "keyring",
        "mmdebstrap",
        "skopeo",
        "bubblewrap",
    ),
    *("docker engine", "docker client", "git", "store"),
]


@pytest.fixture(autouse=True)
def _machine(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    unconfigured(monkeypatch, tmp_path / "home")
    # No engine that happens to run here is asked.
    monkeypatch.setenv("DOCKER_HOST", f"unix://{tmp_path}/no.sock")


def examined(
    tmp_path: Path, *, vendor: str = "debian", archives: tuple[str, ...] = ()
) -> dict[str, Diagnosis]:
    named = ((vendor, archives),) if archives else ()
    settings = Settings(store=tmp_path / "store", archives=named)
    return {one.name: one for one in examine(settings, vendor=vendor)}


def program(folder: Path, name: str, text: str) -> None:
    """Put a program on PATH that says *text*, a line of shell."""
    folder.mkdir(exist_ok=True)
    (folder / name).write_text(f"#!/bin/sh\n{text}\n")
    (folder / name).chmod(0o755)


@pytest.fixture
def programs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Return a folder that stands first on PATH."""
    monkeypatch.setenv("PATH", f"{tmp_path / 'bin'}{os.pathsep}{os.environ['PATH']}")
    return tmp_path / "bin"


def test_every_tool_is_examined(tmp_path: Path) -> None:
    assert list(examined(tmp_path)) == NAMES


def test_a_tool_that_works_is_told_with_its_version(tmp_path: Path, programs: Path) -> None:
    program(programs, "git", "echo git version 9.9")
    git = examined(tmp_path)["git"]
    assert (git.state, git.detail, git.mend) == ("works", "git version 9.9", "")


@pytest.mark.parametrize("text", ["exit 3", "echo cannot load libcurl; exit 1"])
def test_a_tool_that_fails_is_broken(tmp_path: Path, programs: Path, text: str) -> None:
    program(programs, "git", text)
    git = examined(tmp_path)["git"]
    assert git.state == "broken"
    assert "`git --version` does not work" in git.detail


@pytest.mark.parametrize("name", ["apt-get", "git"])
def test_a_tool_that_is_not_there_is_absent(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    monkeypatch.setattr(
        "lockbuild.doctor.find_tool", lambda tool: None if tool == name else find_tool(tool)
    )
    one = examined(tmp_path)[name]
    assert (one.state, one.detail) == ("absent", "not installed")
    assert name in one.mend


def test_an_engine_that_does_not_answer_is_told_with_what_to_do(tmp_path: Path) -> None:
    engine = examined(tmp_path)["docker engine"]
    assert engine.state in ("absent", "broken")
    assert engine.mend


def test_a_sandbox_is_tried(tmp_path: Path, programs: Path) -> None:
    need("bwrap")
    program(programs, "bwrap", "echo no permissions to create a namespace >&2; exit 1")
    sandbox = examined(tmp_path)["bubblewrap"]
    assert sandbox.state == "broken"
    assert "no permissions to create a namespace" in sandbox.detail


def test_the_default_index_is_the_configured_one(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("UV_DEFAULT_INDEX", "https://packages.example.org/a@b/simple")
    assert examined(tmp_path)["default index"].detail == "https://packages.example.org/a@b/simple"


def test_no_password_is_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("UV_DEFAULT_INDEX", "https://me:s3cr3t@packages.example.org/simple")
    found = examined(tmp_path, archives=("https://me:s3cr3t@debs.example.org/debian",))
    assert not any("s3cr3t" in f"{one.detail}{one.mend}" for one in found.values())
    assert found["default index"].detail == "https://packages.example.org/simple"
    assert found["debian archive"].detail == "https://debs.example.org/debian"


def test_an_archive_that_nobody_configured_is_absent(tmp_path: Path) -> None:
    archive = examined(tmp_path, vendor="nobody")["nobody archive"]
    assert archive.state == "absent"
    assert 'LOCKBUILD_ARCHIVE_NOBODY="URL"' in archive.mend


def test_an_absent_keyring_is_told_with_its_package(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(apt, "_KEYRINGS", tmp_path)
    keyring = examined(tmp_path)["keyring"]
    assert keyring.state == "absent"
    assert "debian-archive-keyring" in keyring.mend


def test_a_store_is_told_with_its_place(tmp_path: Path) -> None:
    store = examined(tmp_path)["store"]
    assert store.detail.startswith(f"{tmp_path / 'store'}, ")
    assert not (tmp_path / "store").exists()


def test_little_space_is_a_warning(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("lockbuild.doctor._LITTLE_SPACE", 1 << 62)
    store = examined(tmp_path)["store"]
    assert (store.state, store.mend) == ("warning", "a stack with CUDA needs tens of GB")


def test_a_store_that_cannot_be_written_is_broken(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    # Root may write everywhere.
    monkeypatch.setattr(os, "access", lambda *_: False)
    store = examined(tmp_path)["store"]
    assert store.state == "broken"
    assert "LOCKBUILD_STORE" in store.mend


@pytest.mark.parametrize(("images", "state"), [(False, "warning"), (True, "absent")])
def test_skopeo_is_missed_only_where_base_images_are_needed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, *, images: bool, state: str
) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    found = examine(Settings(store=tmp_path / "store"), vendor="debian", images=images)
    skopeo = next(one for one in found if one.name == "skopeo")
    assert skopeo.state == state
    assert "skopeo" in skopeo.mend
