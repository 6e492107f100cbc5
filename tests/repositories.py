"""Real repositories for tests: commits of exactly the trees that a test says, and git without this machine's settings."""

from __future__ import annotations

import os
import subprocess
from typing import TYPE_CHECKING

from tests.fetching import own_environment
from tests.needs import need

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

    import pytest

__all__ = ["blob", "commit", "commit_index", "configure", "git", "gitmodules", "new", "own_git"]


def own_git(monkeypatch: pytest.MonkeyPatch, home: Path) -> None:
    """Keep this machine's configuration of git out of a test, and let the test commit."""
    need("git")
    own_environment(monkeypatch, home)
    for name in [name for name in os.environ if name.startswith("GIT_")]:
        monkeypatch.delenv(name)
    config = home / "gitconfig"
    config.write_text("[init]\n\tdefaultBranch = main\n", encoding="utf-8")
    monkeypatch.setenv("GIT_CONFIG_GLOBAL", str(config))
    monkeypatch.setenv("GIT_CONFIG_NOSYSTEM", "1")
    for who in ("AUTHOR", "COMMITTER"):
        monkeypatch.setenv(f"GIT_{who}_NAME", "Nobody")
        monkeypatch.setenv(f"GIT_{who}_EMAIL", "nobody@example.org")
        monkeypatch.setenv(f"GIT_{who}_DATE", "2020-01-01T00:00:00Z")


def configure(home: Path, *settings: str) -> None:
    with (home / "gitconfig").open("a", encoding="utf-8") as file:
        file.write("\n".join(settings) + "\n")


def git(folder: Path, *arguments: str, stdin: bytes = b"") -> str:
    ended = subprocess.run(
        ["git", "-C", str(folder), *arguments], input=stdin, capture_output=True, check=True, timeout=60
    )
    return ended.stdout.decode().strip()


def commit_index(repository: Path, rows: Mapping[str, tuple[str, str]], *, parent: str = "") -> str:
    """Commit a tree of PATH -> (mode, id) as it stands: no file of a work tree has a say in it."""
    (repository / "index").unlink(missing_ok=True)
    listed = "".join(f"{mode} {one}\t{path}\0" for path, (mode, one) in rows.items())
    git(repository, "update-index", "-z", "--index-info", stdin=listed.encode())
    tree = git(repository, "write-tree")
    parents = ("-p", parent) if parent else ()
    return git(repository, "commit-tree", "-m", "a commit", *parents, tree)


def blob(repository: Path, data: bytes) -> str:
    return git(repository, "hash-object", "-w", "--stdin", stdin=data)


def new(folder: Path) -> Path:
    folder.mkdir(parents=True)
    git(folder, "init", "--quiet", "--bare")
    return folder


def commit(
    repository: Path,
    files: Mapping[str, bytes],
    *,
    links: Mapping[str, str] | None = None,
    executable: frozenset[str] = frozenset(),
    parent: str = "",
    ref: str = "refs/heads/main",
) -> str:
    """Commit *files* and gitlinks, and put *ref* on the commit."""
    rows = {
        path: ("100755" if path in executable else "100644", blob(repository, data))
        for path, data in files.items()
    }
    rows |= {path: ("160000", one) for path, one in (links or {}).items()}
    made = commit_index(repository, rows, parent=parent)
    git(repository, "update-ref", ref, made)
    return made


def gitmodules(**urls: str) -> bytes:
    return "".join(f'[submodule "{p}"]\n\tpath = {p}\n\turl = {u}\n' for p, u in urls.items()).encode()
