"""Building again what the store already has, and comparing every byte."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from lockbuild.comparing import difference_of_wheels
from lockbuild.derivation import Build
from lockbuild.errors import BuildError
from lockbuild.realise import failure, workers
from lockbuild.store import trees

if TYPE_CHECKING:
    from collections.abc import Iterable
    from pathlib import Path

    from lockbuild.progress import Phase
    from lockbuild.realise import Realiser

__all__ = ["Verdict", "check"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Verdict:
    """What building again gave."""

    name: str
    identical: bool
    differences: tuple[str, ...] = ()
    """A line for each member that differs, and how."""


def check(realiser: Realiser, names: Iterable[str] = ()) -> tuple[Verdict, ...]:
    """Build root file systems, prefix and wheels again, and compare them with those in the store.

    Args:
        realiser: Whose plan it is.
        names: Builds or root file systems to check; all when empty.

    Raises:
        BuildError: A build that worked before failed.
    """
    plan = realiser.plan
    sources = [(n, p) for n, p in plan.sources if isinstance(plan.derivations[p], Build)]
    chosen = [*plan.roots, *plan.prefixes, *plan.builds, *sources]
    wanted = set(names)
    unknown = wanted - {name for name, _ in chosen}
    if unknown:
        raise BuildError(
            f"nothing to check is called {', '.join(f'`{name}`' for name in sorted(unknown))}",
            hint=f"there are: {', '.join(name for name, _ in chosen)}",
        )
    paths = [path for name, path in chosen if not wanted or name in wanted]
    realiser.build(paths)
    # A build's environment is an input of it; its fetches may have been hidden by valid outputs.
    builds = [b for b in (plan.derivations[path] for path in paths) if isinstance(b, Build)]
    realiser.build([reference for build in builds for reference in build.references])
    with realiser.progress.phase("checking", total=len(builds), unit="builds") as phase:
        width = max(1, min(realiser.cores, len(builds)))
        with workers(width) as pool:
            return tuple(
                pool.map(lambda build: _compare(realiser, build, realiser.cores // width, phase), builds)
            )


def _compare(realiser: Realiser, build: Build, cores: int, phase: Phase) -> Verdict:
    with realiser.store.scratch(f"check-{build.name}") as scratch:
        log = realiser.store.log_file(build.path).with_suffix(".check.log")
        outcome = realiser.run(build, scratch, log, max(1, cores))
        if outcome.output is None or outcome.status not in ("built", "output-rejected"):
            raise failure([outcome], edited=())
        differences = _differences(realiser.store.locate(build.path), outcome.output)
    phase.advance(1)
    phase.line(f"{build.name}: {'identical' if not differences else 'different'}")
    return Verdict(name=build.name, identical=not differences, differences=differences)


def _differences(first: Path, again: Path) -> tuple[str, ...]:
    """Return how two outputs differ: file by file, and inside wheels member by member."""
    lines: list[str] = []
    for line in trees.difference(trees.listing(first), trees.listing(again)):
        lines.append(line)
        lines += [
            f"  {inner}"
            for name in sorted(path.name for path in first.glob("*.whl"))
            if name in line and (again / name).exists()
            for inner in difference_of_wheels(first / name, again / name)
        ]
    return tuple(lines)
