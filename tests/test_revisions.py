"""Files of revisions, out of real repositories."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

import pytest

from lockbuild.errors import UsageError
from lockbuild.revisions import Repository, repository_of
from tests.repositories import configure, git, own_git

if TYPE_CHECKING:
    from pathlib import Path


@pytest.fixture
def top(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Return a work tree with one commit."""
    home = tmp_path / "home"
    home.mkdir()
    own_git(monkeypatch, home)
    top = tmp_path / "work"
    (top / "stacks" / "a" / "folder").mkdir(parents=True)
    (top / "stacks" / "a" / "stack.toml").write_text("name = 'a'\n")
    (top / "stacks" / "a" / "folder" / "run").write_text("#!/bin/sh\n")
    (top / "stacks" / "a" / "folder" / "run").chmod(0o755)
    (top / "stacks" / "a" / "folder" / "link").symlink_to("run")
    (top / "stacks" / "b").mkdir()
    (top / "stacks" / "b" / "stack.toml").write_text("name = 'b'\n")
    git(top, "init", "--quiet")
    commit(top)
    return top


def commit(top: Path) -> None:
    git(top, "add", "--all")
    git(top, "commit", "--quiet", "--message", "a commit")


def opened(folder: Path) -> Repository:
    found = repository_of(folder)
    assert found
    return found


def written(top: Path, *paths: str, revision: str = "HEAD") -> dict[str, str]:
    """Return path -> content of what a revision has at *paths*."""
    repository, into = opened(top), top.parent / "out"
    into.mkdir()
    commit = repository.commit(revision)
    assert commit
    repository.write(commit, paths, into)
    files = (file for file in (into / "tree").rglob("*") if file.is_symlink() or file.is_file())
    return {
        file.relative_to(into / "tree").as_posix(): os.readlink(file)
        if file.is_symlink()
        else file.read_bytes().decode()
        for file in files
    }


def test_files_of_a_revision_are_written_as_they_were(top: Path) -> None:
    (top / "stacks" / "a" / "stack.toml").write_text("name = 'later'\n")
    (top / "stacks" / "a" / "untracked").write_text("")
    commit(top)
    (top / "stacks" / "a" / "stack.toml").write_text("name = 'not committed'\n")
    assert written(top, "stacks/a", "stacks/absent", revision="HEAD~1") == {
        "stacks/a/stack.toml": "name = 'a'\n",
        "stacks/a/folder/run": "#!/bin/sh\n",
        "stacks/a/folder/link": "run",
    }
    assert os.access(top.parent / "out" / "tree" / "stacks" / "a" / "folder" / "run", os.X_OK)


def test_only_what_a_checkout_heeds_changes_files(top: Path) -> None:
    # An archive would leave the first out and write a commit into the second.
    lines = ["run export-ignore", "stack.toml export-subst eol=crlf"]
    (top / "stacks" / "a" / ".gitattributes").write_text("\n".join(lines))
    (top / "stacks" / "a" / "stack.toml").write_text("commit = '$Format:%H$'\n")
    commit(top)
    found = written(top, "stacks/a")
    assert "stacks/a/folder/run" in found
    assert found["stacks/a/stack.toml"] == "commit = '$Format:%H$'\r\n"


def test_nothing_that_is_set_for_working_runs(top: Path) -> None:
    hook = top / ".git" / "hooks" / "post-checkout"
    hook.parent.mkdir(exist_ok=True)
    hook.write_text(f"#!/bin/sh\ntouch {top}/ran\n")
    hook.chmod(0o755)
    git(top, "sparse-checkout", "set", "stacks/b")
    configure(top.parent / "home", "[core]", "\thooksPath = .git/hooks")
    assert "stacks/a/stack.toml" in written(top, "stacks/a")
    assert not (top / "ran").exists()


def test_index_and_environment_of_a_hook_are_left_alone(
    top: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    index = top / ".git" / "index"
    before = index.read_bytes()
    monkeypatch.setenv("GIT_INDEX_FILE", str(index))
    monkeypatch.setenv("GIT_DIR", str(top / "nowhere"))
    assert "stacks/a/stack.toml" in written(top, "stacks/a")
    assert index.read_bytes() == before


def test_a_linked_work_tree_is_a_repository(top: Path) -> None:
    linked = top.parent / "linked"
    git(top, "worktree", "add", "--quiet", str(linked))
    repository = opened(linked / "stacks" / "a")
    assert (repository.top, repository.prefix) == (linked, "stacks/a/")
    assert "stacks/b/stack.toml" in written(linked, "stacks/b")


def test_what_a_revision_has_is_known(top: Path) -> None:
    repository = opened(top)
    commit = repository.commit("HEAD")
    assert commit == git(top, "rev-parse", "HEAD")
    assert repository.commit("gone") is None
    assert repository.commit("--all") is None
    assert repository.folders_with(commit, "stack.toml") == ("stacks/a", "stacks/b")
    assert repository.has(commit, "stacks/a/")
    assert not repository.has(commit, "stacks/c")


def test_a_folder_outside_of_all_repositories_has_none(top: Path) -> None:
    assert repository_of(top.parent) is None


def test_what_git_cannot_read_is_refused(top: Path) -> None:
    (top.parent / "out").mkdir()
    with pytest.raises(UsageError, match="git cannot read 000000000000"):
        opened(top).write("0" * 40, ["stacks/a"], top.parent / "out")
