"""`lockbuild init`: looking through folders and repositories, and writing the first stack file once."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner, Result

from lockbuild.cli import group
from lockbuild.errors import FetchError, LockbuildError, UsageError
from lockbuild.init import draft_stack, survey
from lockbuild.stack.schema import parse_stack_text
from lockbuild.upstream.findings import Pointer, Requirement, Submodule
from tests.needs import need

SETUP = """\
import torch
from setuptools import setup
from torch.utils.cpp_extension import CUDAExtension
open("/tmp/lockbuild-init-ran", "w")
setup(name="ops", version="1.0", ext_modules=[CUDAExtension("ops._C", ["ops.cu"])])
"""
POINTER = f"version https://git-lfs.github.com/spec/v1\noid sha256:{'a' * 64}\nsize 1234\n"


def git(folder: Path, *arguments: str) -> str:
    settings = [
        "-c",
        "user.name=t",
        "-c",
        "user.email=t@example.org",
        "-c",
        "protocol.file.allow=always",
    ]
    ended = subprocess.run(
        ["git", "-C", str(folder), *settings, *arguments], capture_output=True, text=True, check=True
    )
    return ended.stdout.strip()


def write(folder: Path, files: dict[str, str]) -> Path:
    for name, text in files.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_text(text, encoding="utf-8")
    return folder


@pytest.fixture
def upstream(tmp_path: Path) -> Path:
    return write(
        tmp_path / "nerf",
        {
            "requirements.txt": "torch==1.12.1\nnumpy\n",
            "ops/setup.py": SETUP,
            "run.py": "import wandb\n",
            "weights/model.pt": POINTER,
        },
    )


@pytest.fixture
def checkout(upstream: Path, tmp_path: Path) -> Path:
    """Return a checkout with a submodule, and an `origin` whose address holds a password."""
    need("git")
    inner = write(tmp_path / "raster", {"setup.py": SETUP.replace('"ops', '"raster')})
    for folder in (inner, upstream):
        git(folder, "init", "--quiet", "--initial-branch=main")
        git(folder, "add", ".")
        git(folder, "commit", "--quiet", "-m", "first")
    git(upstream, "submodule", "--quiet", "add", str(inner), "ext/raster")
    text = '[submodule "ext/raster"]\n\tpath = ext/raster\n\turl = ../raster.git\n'
    (upstream / ".gitmodules").write_text(text, encoding="utf-8")
    git(upstream, "commit", "--quiet", "-am", "second")
    git(upstream, "tag", "-a", "v1", "-m", "one")
    git(upstream, "remote", "add", "origin", "https://me:secret@git.example.org/lab/nerf.git")
    return upstream


def stack_of(path: Path, **options: str) -> dict[str, Any]:
    return parse_stack_text(draft_stack(path, name="nerf", **options), file="stack.toml")


# ---- folders --------------------------------------------------------------------------------------


def test_folder_is_read_and_nothing_of_it_is_run(upstream: Path) -> None:
    found = survey(upstream)
    assert (found.name, found.git, found.commit) == ("nerf", "", "")
    assert {one.name for one in found.findings if isinstance(one, Requirement)} == {"torch", "numpy"}
    assert [one.path for one in found.findings if isinstance(one, Pointer)] == ["weights/model.pt"]
    assert not Path("/tmp/lockbuild-init-ran").exists()
    assert "no file says its licence" in draft_stack(upstream, name="nerf")
    (upstream / "LICENSE.md").write_text("yours", encoding="utf-8")
    assert "LICENSE.md says its licence" in draft_stack(upstream, name="nerf")


def test_links_are_not_followed(upstream: Path, tmp_path: Path) -> None:
    write(tmp_path / "outside", {"requirements.txt": "secret==1\n", "a.py": "import secret\n"})
    (upstream / "requirements-x.txt").symlink_to(tmp_path / "outside" / "requirements.txt")
    (upstream / "out").symlink_to(tmp_path / "outside")
    (upstream / "loop").symlink_to(upstream)
    (upstream / "self.txt").symlink_to("self.txt")
    (upstream / "environment.yml").symlink_to("/dev/zero")
    assert "secret" not in draft_stack(upstream, name="nerf")


def test_what_is_no_file_or_no_text_is_passed_over(upstream: Path) -> None:
    os.mkfifo(upstream / "environment.yml")
    (upstream / "README.md").write_bytes(b"torch==9\0\xff" * 100)
    (upstream / "INSTALL.md").write_bytes(b"x" * 2_000_000)
    (upstream / "setup.py").write_bytes(bytes(range(128, 256)))
    (upstream / os.fsdecode(b"b\xff\n[[build]].py")).write_text("import odd\n", encoding="utf-8")
    (upstream / "requirements-w.txt").write_bytes("einops==0.4\n".encode("utf-16"))
    text = draft_stack(upstream, name="nerf")
    assert "# not read, as they are too long: INSTALL.md" in text
    assert '"einops==0.4"' in text
    assert "build" not in parse_stack_text(text, file="stack.toml")
    text.encode()


def test_folder_that_cannot_be_read_is_passed_over(upstream: Path) -> None:
    write(upstream, {"closed/requirements.txt": "secret\n"})
    (upstream / "closed").chmod(0)
    try:
        assert survey(upstream).name == "nerf"
    finally:
        (upstream / "closed").chmod(0o700)


# ---- repositories ---------------------------------------------------------------------------------


def test_checkout_gives_sources_their_commits(checkout: Path) -> None:
    (submodule,) = [one for one in survey(checkout).findings if isinstance(one, Submodule)]
    assert submodule.url == "https://git.example.org/lab/raster.git"
    assert submodule.commit == git(checkout / "ext" / "raster", "rev-parse", "HEAD")
    stack = stack_of(checkout)
    commit = git(checkout, "rev-parse", "HEAD")
    origin = "https://git.example.org/lab/nerf.git"
    assert stack["source"] == [{"name": "nerf", "git": origin, "commit": commit, "submodules": True}]
    sources = {build["name"]: build["source"] for build in stack["build"]}
    assert sources["ops"] == {"git": origin, "commit": commit, "submodules": True, "subdirectory": "ops"}
    assert sources["raster"] == {"git": submodule.url, "commit": submodule.commit, "submodules": True}
    assert "secret" not in draft_stack(checkout, name="nerf")


def test_bare_repository_is_read_at_any_revision(checkout: Path, tmp_path: Path) -> None:
    bare = tmp_path / "bare.git"
    git(tmp_path, "clone", "--quiet", "--bare", str(checkout), str(bare))
    first, last = git(checkout, "rev-parse", "HEAD~"), git(checkout, "rev-parse", "HEAD")
    assert (
        survey(bare).commit
        == survey(bare, revision="v1").commit
        == survey(bare, revision="main").commit
        == last
    )
    assert not [one for one in survey(bare, revision=first).findings if isinstance(one, Submodule)]
    git(bare, "pack-refs", "--all")
    found = survey(bare, revision="v1", git="https://git.example.org/lab/nerf")
    assert (found.commit, found.git, found.name) == (last, "https://git.example.org/lab/nerf", "nerf")
    assert [one.path for one in found.findings if isinstance(one, Pointer)] == ["weights/model.pt"]


def test_uncommitted_files_are_not_upstream(checkout: Path) -> None:
    write(checkout, {"venv/x.py": "import secret\n", "requirements.txt": "torch==1.13.1\n"})
    text = draft_stack(checkout, name="nerf")
    assert "secret" not in text
    assert "torch==1.13.1" in text
    assert "not as the commit has them: requirements.txt" in text


def test_configuration_of_the_repository_runs_nothing(checkout: Path, tmp_path: Path) -> None:
    ran = tmp_path / "ran"
    for key in (
        "core.fsmonitor",
        "core.sshCommand",
        "core.pager",
        "core.gitProxy",
        "uploadpack.packObjectsHook",
    ):
        git(checkout, "config", key, f"touch {ran}; false")
    git(checkout, "config", "extensions.partialClone", "origin")
    git(checkout, "config", "remote.origin.promisor", "true")
    git(checkout, "config", "remote.origin.url", "ssh://git@git.example.org/lab/nerf")
    one = git(checkout, "rev-parse", "HEAD:run.py")
    (checkout / ".git" / "objects" / one[:2] / one[2:]).unlink()
    found = survey(checkout, revision="main")
    assert any("lacks their content: run.py" in note for note in found.notes)
    assert not ran.exists()


def test_missing_revision_and_folder_are_said(upstream: Path, tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="is no folder"):
        survey(tmp_path / "none")
    with pytest.raises(UsageError, match="is no git repository"):
        survey(upstream, revision="v1")


@pytest.mark.parametrize("revision", ["v9", "../../HEAD", "-x", "0" * 40])
def test_unknown_revision_is_said(checkout: Path, revision: str) -> None:
    with pytest.raises((UsageError, FetchError)):
        survey(checkout, revision=revision)


def test_damaged_repository_leaves_the_folder_to_be_read(upstream: Path) -> None:
    need("git")
    write(upstream, {".git/HEAD": "ref: refs/heads/none\n", ".git/objects/x": "", ".git/refs/x": ""})
    found = survey(upstream)
    assert any("git says nothing of it" in note for note in found.notes)
    assert {one.name for one in found.findings if isinstance(one, Requirement)} == {"torch", "numpy"}


# ---- the command ----------------------------------------------------------------------------------


def run(*arguments: str) -> Result:
    return CliRunner().invoke(group, ["init", *arguments])


def test_init_writes_a_stack_once(
    upstream: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    ended = run("nerf", "--from", str(upstream))
    assert ended.exit_code == 0, ended.output
    file = tmp_path / "stacks" / "nerf" / "stack.toml"
    parse_stack_text(file.read_text(encoding="utf-8"), file="stack.toml")
    assert "lockbuild resolve nerf" in ended.output
    file.write_text("mine", encoding="utf-8")
    ended = run("nerf", "--from", str(upstream))
    assert isinstance(ended.exception, LockbuildError)
    assert (ended.exception.exit_code, "is not overwritten" in ended.exception.message) == (2, True)
    assert file.read_text(encoding="utf-8") == "mine"


def test_init_overwrites_no_link(
    upstream: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "stacks" / "nerf").mkdir(parents=True)
    (tmp_path / "stacks" / "nerf" / "stack.toml").symlink_to("elsewhere.toml")
    assert isinstance(run("nerf", "--from", str(upstream)).exception, UsageError)


def test_print_writes_nothing(upstream: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    ended = run("nerf", "--from", str(upstream), "--print")
    parse_stack_text(ended.stdout, file="stack.toml")
    assert not (tmp_path / "stacks").exists()


@pytest.mark.parametrize("name", ["../up", "Upper", "a/b", ""])
def test_name_must_be_a_stack_s(
    name: str, upstream: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    ended = run(name, "--from", str(upstream))
    assert isinstance(ended.exception, LockbuildError)
    assert ended.exception.exit_code == 2
    assert not (tmp_path / "stacks").exists()
