"""How git is run: the user's configuration decides where bytes come from, never what they are."""

from __future__ import annotations

import os
import re
import secrets
import subprocess
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING
from urllib.request import url2pathname

from lockbuild.errors import FetchError, ToolMissing
from lockbuild.process import Completed, install_hint, need_tool, run
from lockbuild.sources.http import redact

if TYPE_CHECKING:
    from collections.abc import Mapping

__all__ = ["Git", "said", "unreachable"]

_OLDEST = (2, 31)
# What would lead git to another repository than the one it is told; `git rev-parse --local-env-vars`
# without the configuration, which is the user's.
_LEADING = frozenset(
    {
        "GIT_ALTERNATE_OBJECT_DIRECTORIES",
        "GIT_COMMON_DIR",
        "GIT_CONFIG",
        "GIT_DEFAULT_HASH",
        "GIT_DIR",
        "GIT_GRAFT_FILE",
        "GIT_IMPLICIT_WORK_TREE",
        "GIT_INDEX_FILE",
        "GIT_INTERNAL_SUPER_PREFIX",
        "GIT_NAMESPACE",
        "GIT_OBJECT_DIRECTORY",
        "GIT_PREFIX",
        "GIT_QUARANTINE_PATH",
        "GIT_REPLACE_REF_BASE",
        "GIT_SHALLOW_FILE",
        "GIT_TEMPLATE_DIR",
        "GIT_WORK_TREE",
    }
)
_PROTOCOLS = ("file", "git", "http", "https", "ssh")
# Nothing that a user sets for working in repositories may run or change anything in ours.
_SETTINGS = {
    "core.hooksPath": os.devnull,
    "core.fsmonitor": "false",
    "fetch.output": "full",
    "fetch.prune": "false",
    "fetch.pruneTags": "false",
    "fetch.recurseSubmodules": "false",
    "fetch.writeCommitGraph": "false",
    "gc.auto": "0",
    "maintenance.auto": "false",
}
_NOISE = ("warning: filtering not recognized", "warning: no common commits", "From ")
_CAUSES = (
    (r"could not resolve host|name resolution", "its host's name cannot be resolved"),
    (
        r"could not read username|authentication failed|permission denied|error: 40[13]",
        "credentials are needed",
    ),
    (
        r"not found|not appear to be a git repository|does not exist",
        "there is none, or not for everybody",
    ),
    (r"certificate|SSL", "no secure connection"),
    (r"timed out|timeout|too slow", "no answer in time"),
    (r"error: 5\d\d", "its server fails"),
    (r"connect|refused|no route|unreachable", "no connection"),
)
"""What git, curl and ssh say when a repository cannot be asked, and what it means."""
_TAIL = 4
_SILENCE_S = 120


@dataclass(frozen=True, slots=True, kw_only=True)
class Git:
    """The git of this machine, and an empty repository in which it is run."""

    program: Path
    view: Path
    """A bare repository without objects, references and configuration."""

    @staticmethod
    def found(folder: Path) -> Git:
        """Return the git of this machine, with its empty repository in *folder*.

        Raises:
            ToolMissing: There is none, or it is too old.
        """
        program = need_tool("git", purpose="fetching source trees")
        text = run([program, "--version"], env=_environment()).stdout
        version = re.search(r"(\d+)\.(\d+)", text)
        if version is None or (int(version[1]), int(version[2])) < _OLDEST:
            raise ToolMissing(
                f"`git` is too old: found `{text.strip()}`, expected 2.31 or newer",
                hint=install_hint("git"),
            )
        view = folder.absolute() / "empty.git"
        for name in ("objects", "refs"):
            (view / name).mkdir(parents=True, exist_ok=True)
        head = view / "HEAD"
        if not head.exists():
            # Threads of one process may be here at once, and processes of two machines with the same number.
            fresh = view / f"HEAD.{secrets.token_hex(8)}"
            fresh.write_text("ref: refs/heads/none\n", encoding="ascii")
            fresh.replace(head)
        return Git(program=program, view=view)

    def fetching(
        self,
        *arguments: str | Path,
        repository: Path | None = None,
        stdin: str = "",
        held: int | None = None,
    ) -> Completed:
        """Run a command that may reach out, with the user's configuration.

        Args:
            repository: Where it runs; none for the empty repository.
            stdin: Text for its standard input.
            held: Descriptor of a lock. The child keeps it, so that the lock outlives a process that was
                killed while its git still writes.
        """
        settings = [word for key, value in _SETTINGS.items() for word in ("-c", f"{key}={value}")]
        argv = [
            str(self.program),
            f"--git-dir={repository or self.view}",
            *settings,
            *map(str, arguments),
        ]
        ended = subprocess.run(
            argv,
            env=_environment(),
            input=stdin,
            capture_output=True,
            text=True,
            errors="replace",
            check=False,
            cwd=self.view,
            # Without a terminal nobody, ssh included, can ask a question that nobody will answer.
            start_new_session=True,
            pass_fds=() if held is None else (held,),
        )
        return Completed(
            argv=tuple(argv), returncode=ended.returncode, stdout=ended.stdout, stderr=ended.stderr
        )

    def reading(self, objects: Path, *arguments: str) -> tuple[list[str], Mapping[str, str]]:
        """Return argument vector and environment of a command that reads *objects* and nothing else.

        Neither the user's configuration nor that of the repository to which they belong takes part, and
        nothing that is missing is asked of anybody.
        """
        argv = [str(self.program), f"--git-dir={self.view}", *arguments]
        isolated = {
            "GIT_ATTR_NOSYSTEM": "1",
            "GIT_CONFIG_GLOBAL": os.devnull,
            "GIT_CONFIG_NOSYSTEM": "1",
            "GIT_NO_REPLACE_OBJECTS": "1",
            "GIT_OBJECT_DIRECTORY": str(objects),
            # Before 2.32 git knows no GIT_CONFIG_GLOBAL.
            "HOME": str(self.view),
            "XDG_CONFIG_HOME": str(self.view),
        }
        kept = {k: v for k, v in _environment().items() if not k.startswith("GIT_CONFIG")}
        return argv, kept | isolated

    def address(self, url: str) -> str:
        """Return what *url* becomes under the user's `url.<base>.insteadOf`."""
        return self.fetching("ls-remote", "--get-url", url).stdout.strip() or url

    def repository_at(self, address: str) -> Path | None:
        """Return the git folder of the local repository at *address*; none when that is no such thing."""
        if not address.startswith(("/", "file://")):
            return None
        path = Path(url2pathname(address.removeprefix("file://")) if address[0] != "/" else address)
        for candidate in (path / ".git", path, path.parent / f"{path.name}.git"):
            if candidate.exists() and self._objects(candidate):
                return candidate
        return None

    def objects_of(self, repository: Path) -> Path:
        """Return the folder with the objects of a local *repository*, which may be a linked work tree."""
        return Path(self._objects(repository))

    def _objects(self, repository: Path) -> str:
        ended = self.fetching(
            "rev-parse", "--path-format=absolute", "--git-path", "objects", repository=repository
        )
        return ended.stdout.rstrip("\n") if ended.returncode == 0 else ""


def _environment() -> dict[str, str]:
    kept = {name: value for name, value in os.environ.items() if name not in _LEADING}
    allowed = kept.get("GIT_ALLOW_PROTOCOL", ":".join(_PROTOCOLS)).split(":")
    kept.setdefault("GIT_HTTP_LOW_SPEED_LIMIT", "1")
    kept.setdefault("GIT_HTTP_LOW_SPEED_TIME", str(_SILENCE_S))
    return kept | {
        "GIT_ALLOW_PROTOCOL": ":".join(name for name in allowed if name in _PROTOCOLS),
        "GIT_TERMINAL_PROMPT": "0",
        "LC_ALL": "C.UTF-8",
        "LANGUAGE": "C",
    }


def said(ended: Completed) -> tuple[str, ...]:
    """Return the last lines that git wrote about what went wrong, without secrets."""
    lines = [line.strip() for line in ended.stderr.splitlines()]
    telling = [line for line in lines if line and not line.startswith(_NOISE)]
    return tuple(redact(line) for line in telling[-_TAIL:]) or (f"git ended with {ended.returncode}",)


def unreachable(url: str, address: str, ended: Completed) -> FetchError:
    """Return the fault of a repository that cannot be asked."""
    shown, asked = redact(url), redact(address)
    via = () if shown == asked else (f"asked: {asked} (`url.<base>.insteadOf`)",)
    # The message is written into locks: it says nothing of this machine's mirrors, and the same each time.
    why = next(
        (words for pattern, words in _CAUSES if re.search(pattern, ended.stderr, re.IGNORECASE)), ""
    )
    return FetchError(
        f"git repository `{shown}` cannot be reached" + (f": {why}" if why else ""),
        details=(*via, *said(ended)),
        hint="look at the network, the address and your credentials, or name a mirror: "
        "git config --global url.<mirror>.insteadOf <address>",
        unreachable=True,
        tried=((asked, "; ".join(said(ended))),),
    )
