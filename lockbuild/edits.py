"""Edits to a source: patches, substitutes and grafts, and the build that applies them. Pure.

What applies them is `lockbuild/edits_apply.py`, whose text the sandbox is given. It is our own, and
not `patch` or `git apply`, because it needs nothing but the Python that every toolchain has: a
package more would give the toolchain another store path, and one edited source would build every
other extension again. It is also stricter than `patch` (no fuzz, no guess between places that look
alike) and says what it found. The tests hold it against `git apply`.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from functools import cache
from importlib.resources import files
from typing import TYPE_CHECKING

from lockbuild.derivation import Build
from lockbuild.digest import JsonValue, StorePath, canonical_json
from lockbuild.errors import StackError

if TYPE_CHECKING:
    from collections.abc import Mapping

__all__ = ["Edit", "Graft", "Patch", "Substitute", "program", "source_build"]

# Linux refuses an argument of more bytes, with its closing zero: MAX_ARG_STRLEN in <linux/binfmts.h>.
_LONGEST_ARGUMENT = 128 * 1024 - 1


@dataclass(frozen=True, slots=True, kw_only=True)
class Patch:
    """A unified diff beside the stack file."""

    path: str
    """Below the stack's folder."""
    strip: int = 1
    """How many leading parts of its paths do not count."""
    reason: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Substitute:
    """A text that takes the place of another, which must be there exactly so many times."""

    file: str
    old: str
    new: str
    count: int = 1
    reason: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Graft:
    """A file or folder of another pinned source, put into this one."""

    source: str
    """The other source's name."""
    take: str
    """Path in the other source; `.` is all of it."""
    put: str
    """Path in this source, where nothing may be."""
    replace: bool = False
    """Something must be at `put`, and gives way."""
    reason: str


Edit = Patch | Substitute | Graft
"""A change to a source. Its reason is for people: it is not part of the digest."""


def source_build(  # noqa: PLR0913 - each of them decides the result
    name: str,
    *,
    system: str,
    toolchain: StorePath,
    tree: StorePath,
    edits: tuple[Edit, ...],
    patches: Mapping[str, StorePath],
    grafts: Mapping[str, StorePath],
    epoch: int,
    path_env: str,
) -> Build:
    """Return the build that leaves *tree* with *edits*, applied in order, as its output.

    Args:
        tree: A folder; or an archive, an sdist say, whose only top-level folder is then the tree.
        patches: Path of each patch below the stack's folder -> the file.
        grafts: Name of each other source -> its tree, a folder or an archive.
        epoch: SOURCE_DATE_EPOCH.
        path_env: PATH, on which the toolchain's `python3` is.

    Raises:
        KeyError: A patch or a graft's source is not given.
        StackError: The edits are longer than a program's argument can be.
    """
    described = canonical_json([_described(edit, number) for number, edit in enumerate(edits, 1)])
    if len(described) > _LONGEST_ARGUMENT:
        raise StackError(
            f"the edits of `{name}` are {len(described)} bytes, expected {_LONGEST_ARGUMENT} at most",
            hint="put the longest of them into a patch",
        )
    inputs = {("tree", tree)}
    for number, edit in enumerate(edits, 1):
        if isinstance(edit, Patch):
            inputs.add((f"patches/{_input_of(edit, number)}", patches[edit.path]))
        elif isinstance(edit, Graft):
            inputs.add((f"grafts/{edit.source}", grafts[edit.source]))
    return Build(
        name=name,
        kind="source",
        system=system,
        toolchain=toolchain,
        command=("python3", "-I", "-c", program(), "/build", described.decode()),
        env=(("PATH", path_env), ("SOURCE_DATE_EPOCH", str(epoch))),
        inputs=tuple(sorted(inputs)),
    )


@cache
def program() -> str:
    """Return the text of the program that applies edits: code of this package, as much as an import is."""
    return (files("lockbuild") / "edits_apply.py").read_text(encoding="utf-8")


def _described(edit: Edit, number: int) -> dict[str, JsonValue]:
    """Return what the program is told of *edit*; `number` is its place among the edits, from 1."""
    if isinstance(edit, Patch):
        return {"kind": "patch", "input": _input_of(edit, number), "strip": edit.strip}
    if isinstance(edit, Graft):
        return {
            "kind": "graft",
            "source": edit.source,
            "take": _plain(edit.take),
            "put": _plain(edit.put),
            "replace": edit.replace,
        }
    return {
        "kind": "substitute",
        "file": _plain(edit.file),
        "old": edit.old,
        "new": edit.new,
        "count": edit.count,
    }


def _input_of(patch: Patch, number: int) -> str:
    """Return the name of a patch among the inputs, safe for every engine's mounts."""
    return f"{number}-{re.sub(r'[^A-Za-z0-9+._-]', '_', patch.path.rpartition('/')[2])}"


def _plain(path: str) -> str:
    """Return *path* without parts that say nothing: `./a//b/` is `a/b`."""
    return "/".join(part for part in path.split("/") if part not in {"", "."}) or "."
