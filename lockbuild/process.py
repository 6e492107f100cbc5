"""Other programs: where they are, how they are run, and what to do when one is absent."""

from __future__ import annotations

import errno
import os
import shlex
import shutil
import subprocess
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from lockbuild.errors import ToolMissing

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

__all__ = ["Completed", "clean_env", "find_tool", "home_folder", "install_hint", "need_tool", "run"]

# Program -> package, where the names differ; by package manager.
_PACKAGES = {
    "apt-get": {
        "bwrap": "bubblewrap",
        "docker": "docker.io",
        "dockerd": "docker.io iptables",
        "dot": "graphviz",
        "newuidmap": "uidmap",
    },
    "dnf": {
        "bwrap": "bubblewrap",
        "docker": "docker-ce",
        "dockerd": "docker-ce",
        "apt-get": "apt",
        "dot": "graphviz",
    },
    "pacman": {"bwrap": "bubblewrap", "dockerd": "docker", "apt-get": "apt", "dot": "graphviz"},
    "zypper": {"bwrap": "bubblewrap", "dockerd": "docker", "apt-get": "apt", "dot": "graphviz"},
}
_INSTALL = {
    "apt-get": "apt-get install",
    "dnf": "dnf install",
    "pacman": "pacman -S",
    "zypper": "zypper install",
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Completed:
    """A program that has ended."""

    argv: tuple[str, ...]
    returncode: int
    stdout: str
    stderr: str

    @property
    def command(self) -> str:
        """The command as a person would type it."""
        return shlex.join(self.argv)


def run(
    argv: Sequence[str | Path],
    *,
    env: Mapping[str, str] | None = None,
    cwd: Path | None = None,
    stdin: str | None = None,
    timeout_s: float | None = None,
) -> Completed:
    """Run a program to its end and return what it printed; a failure is not an exception.

    Args:
        env: The whole environment; none for the one lockbuild has.
        stdin: Text for its standard input; none for an empty one.

    Raises:
        ToolMissing: The program cannot be started.
        subprocess.TimeoutExpired: It took longer than *timeout_s* and was killed.
    """
    words = tuple(str(word) for word in argv)
    try:
        ended = subprocess.run(
            words,
            env=None if env is None else dict(env),
            cwd=cwd,
            input=stdin,
            stdin=subprocess.DEVNULL if stdin is None else None,
            capture_output=True,
            text=True,
            errors="replace",
            check=False,
            timeout=timeout_s,
        )
    except OSError as error:
        # A working folder that is not there, or too long a command line, is no fault of the program's.
        if error.filename != words[0] or error.errno == errno.E2BIG:
            raise
        raise ToolMissing(
            f"`{words[0]}` cannot be started: {error.strerror}", hint=install_hint(words[0])
        ) from error
    return Completed(argv=words, returncode=ended.returncode, stdout=ended.stdout, stderr=ended.stderr)


def clean_env(*keep: str, **extra: str) -> dict[str, str]:
    """Return an environment with nothing but PATH, the variables called *keep*, and *extra*."""
    kept = {name: os.environ[name] for name in ("PATH", *keep) if name in os.environ}
    return kept | {"LC_ALL": "C.UTF-8"} | extra


def home_folder() -> Path:
    """Return the user's folder; where the system knows none, as in a container, one that is nowhere."""
    try:
        return Path.home()
    except RuntimeError:
        return Path("/nonexistent")


def find_tool(name: str) -> Path | None:
    """Return where the program called *name* is, looking in the system's folders after PATH."""
    # An empty entry would be the working folder.
    path = os.pathsep.join(
        [os.environ.get("PATH") or os.defpath, "/usr/local/sbin", "/usr/sbin", "/sbin"]
    )
    found = shutil.which(name, path=path)
    return Path(found) if found else None


def need_tool(name: str, *, purpose: str) -> Path:
    """Return where the program called *name* is.

    Raises:
        ToolMissing: It is not on this machine; the hint says how to install it.
    """
    found = find_tool(name)
    if found is None:
        raise ToolMissing(f"`{name}` is not installed; {purpose} needs it", hint=install_hint(name))
    return found


def install_hint(name: str) -> str:
    """Return the command that installs the program called *name* on this machine."""
    name = Path(name).name
    for manager, command in _INSTALL.items():
        if shutil.which(manager):
            return f"install it: {command} {_PACKAGES[manager].get(name, name)}"
    return f"install `{name}` with this system's package manager"
