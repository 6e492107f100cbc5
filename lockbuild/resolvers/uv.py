"""The default Python engine: `uv pip compile`, for any target from whatever Python runs lockbuild."""

from __future__ import annotations

import re
from dataclasses import replace
from typing import TYPE_CHECKING

from packaging.utils import canonicalize_name

from lockbuild.errors import ResolveError
from lockbuild.resolvers._compile import Compilation, Forced
from lockbuild.resolvers._faults import fault_of, undated, yanked
from lockbuild.resolvers._python import answer_of, index_names, requested_names

if TYPE_CHECKING:
    from pathlib import Path

    from lockbuild.resolvers import PythonAnswer, PythonQuestion

__all__ = ["resolve"]


def resolve(
    question: PythonQuestion, *, work: Path, interpreter: Path | None = None, offline: bool = False
) -> PythonAnswer:
    """Resolve *question* for its target.

    A package that an index of the stack serves comes from there even when only another package requires
    it. uv takes an index from direct requirements alone, so such a package is asked for directly once it
    is seen, and left out again should nothing require it in the end. An index of the stack that tells no
    upload times is exempt from `exclude-newer`.

    Args:
        work: An empty folder for whatever uv reads and writes.
        interpreter: Python that uv looks at, of any version, to no effect; none for the running one.
        offline: Answer from what uv has cached.

    Raises:
        ResolveError: There is no answer, or an index cannot be asked.
        ToolMissing: There is no uv.
    """
    elsewhere = {name for name, index in index_names(question).items() if index}
    candidates = elsewhere - requested_names(question)
    forced = Forced()
    while True:
        folder = work / f"uv-{len(forced.names)}-{len(forced.undated)}"
        compilation = Compilation.prepare(
            question, folder, interpreter=interpreter, offline=offline, forced=forced
        )
        ended = compilation.lock()
        hidden = undated(ended, question) - forced.undated
        if ended.returncode and hidden:
            forced = replace(forced, undated=forced.undated | hidden)
            continue
        if ended.returncode:
            seen = {canonicalize_name(word) for word in re.findall(r"[A-Za-z0-9][\w.-]*", ended.stderr)}
        else:
            seen = {table["name"] for table in compilation.packages()}
        more = (candidates & seen) - forced.names
        if not more:
            break
        forced = replace(forced, names=forced.names | more)
    if ended.returncode or yanked(ended):
        raise fault_of(ended, question, folder=compilation.folder)
    return _answer(compilation)


def _answer(compilation: Compilation) -> PythonAnswer:
    packages = compilation.packages()
    ended, pins, graph = compilation.graph(packages)
    if ended.returncode:
        raise fault_of(ended, compilation.question, folder=compilation.folder)
    other = {name: version for name, version in pins.items() if version}
    first = {table["name"]: table["version"] for table in packages if "archive" not in table}
    if other != first:
        moved = sorted(set(first.items()) ^ set(other.items()))
        raise ResolveError(
            "the index changed while it was asked",
            details=tuple(f"{name} {version}" for name, version in moved),
            hint="resolve again",
        )
    return answer_of(compilation.question, packages, graph)
