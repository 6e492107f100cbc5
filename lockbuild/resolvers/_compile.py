"""`uv pip compile`, driven so that nothing but the question decides: files, arguments, environment.

Wheels only, so that no setup.py is ever run; stubs come in as constraints with an address, which uv
takes for direct and for transitive requirements alike.
"""

from __future__ import annotations

import sys
import tomllib
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

from lockbuild.documents import toml_text
from lockbuild.process import Completed, run
from lockbuild.resolvers._configured import find_uv, tool_env, uv_settings
from lockbuild.resolvers._python import Graph, cutoff, parse_via, write_stub

if TYPE_CHECKING:
    from lockbuild.resolvers import PythonQuestion
    from lockbuild.target import Target

__all__ = ["PROJECT", "Compilation", "Forced"]

PROJECT = "lockbuild-question"
"""Name of the project that stands for the question; seen in uv's chains of requirements."""

# Levels of manylinux that uv knows: https://docs.astral.sh/uv/reference/cli/#uv-pip-compile--python-platform
_LEVELS = (17, 28, *range(31, 41))


@dataclass(frozen=True, slots=True, kw_only=True)
class Forced:
    """What uv must be told beside the question, found out as it goes."""

    names: frozenset[str] = frozenset()
    """Packages asked for directly, as uv takes a package's index from direct requirements alone."""
    undated: frozenset[str] = frozenset()
    """Indexes that tell no upload times, so that `exclude-newer` would hide all they have."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Compilation:
    """A question laid out for uv in an empty folder."""

    question: PythonQuestion
    folder: Path
    interpreter: Path
    offline: bool
    undated: tuple[str, ...]
    """Packages that `exclude-newer` must not judge, sorted."""

    @classmethod
    def prepare(
        cls,
        question: PythonQuestion,
        folder: Path,
        *,
        interpreter: Path | None,
        offline: bool,
        forced: Forced,
    ) -> Compilation:
        """Write the files that uv reads into *folder*, which is made."""
        folder.mkdir(parents=True)
        # Links in the path would show in messages as two folders.
        folder = folder.resolve()
        _write_private(folder / "uv.toml", toml_text(uv_settings()))
        (folder / "pyproject.toml").write_text(toml_text(_project(question, forced)), encoding="utf-8")
        stubs = [
            f"{stub.name} @ {write_stub(stub, folder / 'stubs').as_uri()}" for stub in question.stubs
        ]
        _write_lines(folder / "constraints.txt", (*question.constraints, *stubs))
        _write_lines(folder / "overrides.txt", question.overrides)
        undated = {
            canonicalize_name(name)
            for index in question.indexes
            for name in index.only
            if index.name in forced.undated
        }
        return cls(
            undated=tuple(sorted(undated)),
            question=question,
            folder=folder,
            interpreter=interpreter or Path(sys.executable),
            offline=offline,
        )

    def lock(self, *options: str) -> Completed:
        """Resolve for the target; `packages` reads the answer when uv ends well."""
        stubs = {canonicalize_name(stub.name) for stub in self.question.stubs}
        # A pin without its index is none to uv, where a package may come from one index alone.
        served = {
            canonicalize_name(name): {"index": index.url}
            for index in self.question.indexes
            for name in index.only
        }
        known = [
            {"name": name, "version": version, **served.get(canonicalize_name(name), {})}
            for name, version in self.question.preferences
            if name not in stubs
        ]
        preferred = {"lock-version": "1.0", "created-by": "lockbuild", "packages": known}
        # uv prefers the pins of the file that it is about to overwrite.
        self._output.write_text(toml_text(preferred), encoding="utf-8")
        return self._run("--format", "pylock.toml", "-o", self._output.name, *options)

    def packages(self) -> tuple[dict[str, Any], ...]:
        """Return the packages of the pylock.toml that `lock` wrote."""
        document = tomllib.loads(self._output.read_text(encoding="utf-8"))
        return tuple(document.get("packages", ()))

    def graph(self, packages: tuple[dict[str, Any], ...]) -> tuple[Completed, dict[str, str], Graph]:
        """Return how uv ended, and pins and graph of the resolution whose *packages* are known.

        All that it needs is in uv's cache by now; only an index that forbids caching is asked again.
        """
        output = self.folder / "graph.txt"
        known = [f"{table['name']}=={table['version']}" for table in packages if "archive" not in table]
        words = ("--format", "requirements.txt", "--annotation-style", "split", "-o", output.name)
        for mode in ("--offline",), ():
            _write_lines(output, known)
            ended = self._run(*words, *mode)
            if self.offline or not ended.returncode:
                break
        return ended, *parse_via(output.read_text(encoding="utf-8"))

    @property
    def _output(self) -> Path:
        return self.folder / "pylock.toml"

    def _run(self, *options: str) -> Completed:
        target, question = self.question.target, self.question
        words = ["--config-file", "uv.toml", "-p", str(self.interpreter.absolute())]
        words += ["--python-version", target.python, "--python-platform", _platform(target)]
        words += ["--only-binary", ":all:", "--no-header", "--no-progress", "--color", "never"]
        words += ["-c", "constraints.txt"] if question.constraints or question.stubs else []
        words += ["--override", "overrides.txt"] if question.overrides else []
        words += ["--exclude-newer", cutoff(question.exclude_newer)] if question.exclude_newer else []
        words += [f"--exclude-newer-package={name}=false" for name in self.undated]
        words += ["--offline"] if self.offline and "--offline" not in options else []
        argv: tuple[str | Path, ...] = (find_uv(), "pip", "compile", *words, *options, "pyproject.toml")
        return run(argv, env=tool_env(), cwd=self.folder)


def _project(question: PythonQuestion, forced: Forced) -> dict[str, Any]:
    """Return the pyproject.toml whose requirements are the question's.

    uv takes sources from a project alone, and only for what the project itself asks for.
    """
    stubs = {canonicalize_name(stub.name) for stub in question.stubs}
    sources = {
        name: {"index": index.name}
        for index in question.indexes
        for name in map(canonicalize_name, index.only)
        if name not in stubs
    }
    asked = {canonicalize_name(Requirement(text).name) for text in question.requirements}
    indexes = [{"name": index.name, "url": index.url, "explicit": True} for index in question.indexes]
    # A workspace of its own, lest uv takes the folder for a member of one that lies above.
    tool: dict[str, Any] = {"workspace": {}}
    tool |= {
        "sources": {name: source for name, source in sources.items() if name in asked | forced.names}
    }
    tool |= {"index": indexes} if indexes else {}
    return {
        "project": {
            "name": PROJECT,
            "version": "0",
            "dependencies": [*question.requirements, *sorted(forced.names - asked)],
        },
        "tool": {"uv": tool},
    }


def _platform(target: Target) -> str:
    """Return the target as uv names it: the highest level it knows that is not above the target's."""
    level = int(target.glibc.partition(".")[2])
    known = max((known for known in _LEVELS if known <= level), default=_LEVELS[0])
    return f"{target.machine}-manylinux_2_{known}"


def _write_lines(path: Path, lines: tuple[str, ...] | list[str]) -> None:
    path.write_text("".join(f"{line}\n" for line in lines), encoding="utf-8")


def _write_private(path: Path, text: str) -> None:
    # An index's address may hold a password.
    path.touch(mode=0o600)
    path.write_text(text, encoding="utf-8")
