"""Files as a git revision has them, written out beside the work tree: neither it nor its index is touched."""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from lockbuild.errors import UsageError
from lockbuild.process import need_tool, run

if TYPE_CHECKING:
    from collections.abc import Sequence

    from lockbuild.process import Completed

__all__ = ["Repository", "repository_of"]

# Nothing that is set for working in the repository may run or leave something out.
_SETTINGS = {
    "advice.detachedHead": "false",
    "core.fsmonitor": "false",
    "core.hooksPath": os.devnull,
    "core.sparseCheckout": "false",
    "core.splitIndex": "false",
    "submodule.recurse": "false",
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Repository:
    """A git repository with a work tree."""

    top: Path
    """The work tree."""
    git: Path
    """The repository's own folder."""
    prefix: str
    """The folder that was asked for, below the work tree: empty, or with a slash at its end."""

    def commit(self, revision: str) -> str | None:
        """Return the commit that *revision* stands for; none where there is no such."""
        ended = self._git(
            "rev-parse", "--verify", "--quiet", "--end-of-options", f"{revision}^{{commit}}"
        )
        return ended.stdout.strip() if ended.returncode == 0 else None

    def has(self, commit: str, path: str) -> bool:
        """Tell whether *commit* has a file or folder at *path*, below the work tree."""
        return self._git("cat-file", "-e", f"{commit}:{path.strip('/')}").returncode == 0

    def folders_with(self, commit: str, name: str) -> tuple[str, ...]:
        """Return the folders of *commit* that have a file called *name*, sorted."""
        listed = self._git("ls-tree", "-r", "-z", "--name-only", commit).stdout.split("\0")
        return tuple(sorted(path.rpartition("/")[0] for path in listed if Path(path).name == name))

    def write(self, commit: str, paths: Sequence[str], into: Path) -> None:
        """Write what *commit* has at *paths* below the folder *into*, as a checkout would.

        Attributes count that a checkout would heed (line ends, filters), and none that only archives know.

        Raises:
            UsageError: git cannot.
        """
        tree = into / "tree"
        tree.mkdir()
        own = {"GIT_INDEX_FILE": str(into / "index"), "GIT_WORK_TREE": str(tree)}
        present = [f":(top,literal){path.strip('/')}" for path in paths if self.has(commit, path)]
        for arguments in (("read-tree", commit), ("checkout", "--quiet", "--force", "--", *present)):
            ended = self._git(*arguments, cwd=tree, **own)
            if ended.returncode:
                raise UsageError(
                    f"git cannot read {commit[:12]} of {self.top}",
                    details=tuple(ended.stderr.splitlines()),
                )

    def _git(self, *arguments: str, cwd: Path | None = None, **env: str) -> Completed:
        settings = (word for key, value in _SETTINGS.items() for word in ("-c", f"{key}={value}"))
        return run(
            ["git", f"--git-dir={self.git}", *settings, *arguments],
            env={**_environment(), **env},
            cwd=cwd or self.top,
        )


def repository_of(folder: Path) -> Repository | None:
    """Return the repository in whose work tree *folder* lies; none where there is none.

    Raises:
        ToolMissing: There is no git.
    """
    git = need_tool("git", purpose="reading revisions")
    words = ("--show-toplevel", "--absolute-git-dir", "--show-prefix")
    ended = run([git, "rev-parse", *words], env=_environment(), cwd=folder)
    lines = ended.stdout.split("\n")
    if ended.returncode or len(lines) < len(words):
        return None
    return Repository(top=Path(lines[0]), git=Path(lines[1]), prefix=lines[2])


def _environment() -> dict[str, str]:
    # A hook of git's has these set, for its own index.
    led = {"GIT_DIR", "GIT_INDEX_FILE", "GIT_PREFIX", "GIT_WORK_TREE"}
    kept = {name: value for name, value in os.environ.items() if name not in led}
    return {**kept, "GIT_OPTIONAL_LOCKS": "0", "GIT_TERMINAL_PROMPT": "0", "LC_ALL": "C.UTF-8"}
