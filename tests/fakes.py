"""A builder that does what a test says, and a progress that remembers what it was told."""

from __future__ import annotations

import io
import tarfile
import threading
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from lockbuild.derivation import BuildOutcome
from tests.elves import make_elf
from tests.libraries import fat_binary
from tests.wheels import make_wheel

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping
    from pathlib import Path

    from lockbuild.derivation import BuildTask

    Recipe = Callable[[BuildTask, Path], object]
    """Fills the folder given as its second argument; a `Failure` makes the build fail."""

__all__ = ["Failure", "RecordingProgress", "ScriptedBuilder", "failing", "giving", "wheel_files"]

NATIVE = "cp311-cp311-linux_x86_64"
_CODE = fat_binary((86, "cubin"), (89, "cubin"), (89, "ptx"))
"""For the GPUs of the small stack, see `tests.values`."""


class Failure(Exception):
    """What a recipe raises to make its build fail, with the words of the outcome."""


@dataclass(slots=True)
class ScriptedBuilder:
    """A `lockbuild.builders.Builder` without a sandbox.

    What no recipe is given for is built well: a root file system of one file, an environment that
    names its inputs, a wheel as its build's name says, and modules that import.
    """

    recipes: Mapping[str, Recipe] = field(default_factory=dict)
    """Name of a build -> what it does."""
    name: str = "scripted"
    tasks: list[BuildTask] = field(default_factory=list)
    """Every task, in the order in which they began."""
    _lock: threading.Lock = field(default_factory=threading.Lock)

    @property
    def names(self) -> list[str]:
        """Names of the builds, in the order in which they began."""
        return [task.name for task in self.tasks]

    def probe(self) -> None:
        """Work always."""

    def build(self, task: BuildTask) -> BuildOutcome:
        """Run the recipe of *task*."""
        with self._lock:
            self.tasks.append(task)
        out = task.scratch / "out"
        out.mkdir(parents=True)
        task.log.parent.mkdir(parents=True, exist_ok=True)
        task.log.write_text(f"building {task.name}\n", encoding="utf-8")
        try:
            self.recipes.get(task.name, _well)(task, out)
        except Failure as failure:
            said = (f"building {task.name}", "it broke")
            return BuildOutcome(
                name=task.name, status="failed", message=str(failure), tail=said, log=task.log
            )
        return BuildOutcome(name=task.name, status="built", output=out, log=task.log)


def failing(message: str = "exited with 1") -> Recipe:
    """Return a recipe that fails."""

    def fail(_task: BuildTask, _out: Path) -> None:
        raise Failure(message)

    return fail


def giving(*wheels: tuple[str, str, str, Mapping[str, bytes]]) -> Recipe:
    """Return a recipe that leaves wheels: name, version, tag, and content by path in the wheel."""

    def give(_task: BuildTask, out: Path) -> None:
        for name, version, tag, files in wheels:
            make_wheel(out, name, version, tag=tag, files=files)

    return give


def wheel_files(name: str, content: bytes = b"compiled") -> dict[str, bytes]:
    """Return the content of the wheel of an extension called *name*.

    Args:
        content: What stands in its library behind all that is read of it.
    """
    return {f"{name}/__init__.py": b"", f"{name}/_ext.so": make_elf(device_code=_CODE) + content}


def _well(task: BuildTask, out: Path) -> None:
    if task.kind == "rootfs":
        pins = [word.partition("=") for word in task.command if not word.startswith("--")]
        status = "".join(
            f"Package: {name}\nStatus: install ok installed\nVersion: {version}\nInstalled-Size: 1\n\n"
            for name, _, version in pins
        )
        files = {"etc/hostname": task.name, "var/lib/dpkg/status": status}
        _write_tar(out / "rootfs.tar", files)
    elif task.name.startswith("gate-"):
        (out / "imports.json").write_text("[]", encoding="utf-8")
    elif task.kind == "environment":
        (out / "inputs").write_text("\n".join(name for name, _ in task.inputs), encoding="utf-8")
    else:
        name, _, version = task.name.rpartition("-")
        make_wheel(out, name, version, tag=NATIVE, files=wheel_files(name))


def _write_tar(path: Path, files: Mapping[str, str]) -> None:
    with tarfile.open(path, "w") as archive:
        for name, text in files.items():
            member = tarfile.TarInfo(name)
            data = text.encode()
            member.size = len(data)
            archive.addfile(member, io.BytesIO(data))


class RecordingProgress:
    """A `lockbuild.progress.Progress` that remembers."""

    def __init__(self) -> None:
        self.phases: list[tuple[str, int | None, str]] = []
        """Name, total and unit of each phase."""
        self.lines: list[str] = []
        self.parts: list[tuple[str, int, int | None]] = []
        """Name, steps done and steps of all, as they were told."""
        self.done = 0
        """Sum of all that phases advanced by."""

    def advance(self, amount: int) -> None:
        """Add to what is done."""
        self.done += amount

    def line(self, text: str) -> None:
        """Remember the line."""
        self.lines.append(text)

    def steps(self, part: str, done: int, total: int | None) -> None:
        """Remember how far the part has come."""
        self.parts.append((part, done, total))

    def ended(self, part: str) -> None:
        """Take no notice."""

    @contextmanager
    def phase(self, name: str, *, total: int | None, unit: str) -> Iterator[RecordingProgress]:
        """Remember the phase."""
        self.phases.append((name, total, unit))
        yield self
