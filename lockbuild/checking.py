"""Building again what the store already has, and comparing every byte. Verdicts are kept as they come."""

from __future__ import annotations

import platform
from dataclasses import replace
from datetime import UTC, datetime
from typing import TYPE_CHECKING

from lockbuild.comparing import difference_of_tars, difference_of_wheels
from lockbuild.derivation import Build, BuildOutcome
from lockbuild.errors import BuildError, UsageError
from lockbuild.failures import failure
from lockbuild.scheduling import Work, longest_first, schedule
from lockbuild.store import trees
from lockbuild.store.history import Verdict

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Mapping
    from pathlib import Path

    from lockbuild.digest import StorePath
    from lockbuild.progress import Phase
    from lockbuild.realise import PlanRealiser, Realiser

__all__ = ["Verdict", "build_again", "check"]


def check(
    realiser: Realiser,
    names: Iterable[str] = (),
    *,
    again: bool = False,
    keep_going: bool = False,
    tell: Callable[[Verdict], object] = lambda _: None,
) -> tuple[Verdict, ...]:
    """Build root file systems, prefix and wheels again, and compare them with those in the store.

    A wheel is compiled again, gets label and provenance again, and is compared as people get it. An object that was found identical before is not built again, as long as it is the same object. Each verdict is
    kept at once, so that a check which is stopped goes on from there.

    Args:
        realiser: Whose plan it is.
        names: Builds or root file systems to check; all when empty.
        again: Whether those that were found identical before are built again, too.
        keep_going: Whether the others go on when a build fails, be it the first time.
        tell: Given each verdict as it comes, those of former checks first.

    Raises:
        BuildError: A build failed, the first time or, though it worked before, again.
    """
    chosen = _chosen(realiser, frozenset(names))
    unbuilt = _build(realiser, chosen, keep_going=keep_going)
    there = realiser.store.valid(chosen)
    builds = {path: build for path, build in chosen.items() if path in there}
    found: dict[StorePath, Verdict] = {}
    for path in builds if not again else ():
        verdict = _kept(realiser, path)
        if verdict and verdict.identical:
            found[path] = verdict
            tell(verdict)
    left = [build for path, build in builds.items() if path not in found]
    failed = unbuilt | _compare_all(realiser, left, found, keep_going=keep_going, tell=tell)
    if failed:
        # An edit that could be applied before is none to be corrected.
        raise failure(tuple(failed.values()), edited=realiser.edited & unbuilt.keys())
    return tuple(found[path] for path in builds)


def _build(
    realiser: Realiser, targets: Iterable[StorePath], *, keep_going: bool
) -> dict[str, BuildOutcome]:
    """Build what is missing of *targets*; return those that failed by name, where the others are to go on.

    Raises:
        BuildError: One failed, and they are not.
    """
    if not keep_going:
        realiser.build(targets)
        return {}
    outcomes = realiser.attempt(targets, keep_going=True)
    return {outcome.name: outcome for outcome in outcomes if outcome.failed}


def _chosen(realiser: Realiser, wanted: frozenset[str]) -> Mapping[StorePath, Build]:
    plan = realiser.plan
    sources = [(n, p) for n, p in plan.sources if isinstance(plan.derivations[p], Build)]
    chosen = [*plan.roots, *plan.prefixes, *plan.builds, *sources]
    unknown = wanted - {name for name, _ in chosen}
    if unknown:
        raise UsageError(
            f"nothing to check is called {', '.join(f'`{name}`' for name in sorted(unknown))}",
            hint=f"there are: {', '.join(name for name, _ in chosen)}",
        )
    derivations = ((p, plan.derivations[p]) for name, p in chosen if not wanted or name in wanted)
    return {path: build for path, build in derivations if isinstance(build, Build)}


def _kept(realiser: Realiser, path: StorePath) -> Verdict | None:
    info = realiser.store.info(path)
    return realiser.store.history.verdict(path, info.sha256) if info else None


def _compare_all(
    realiser: Realiser,
    builds: list[Build],
    found: dict[StorePath, Verdict],
    *,
    keep_going: bool,
    tell: Callable[[Verdict], object],
) -> dict[str, BuildOutcome]:
    """Build again and add to *found* what was seen; return the builds that failed, by name."""
    if not builds:
        return {}
    # A build's environment is an input of it; its fetches may have been hidden by valid outputs.
    compiled = {build.path: _compiled(realiser, build) for build in builds}
    needs = {build.path: {*build.references, *compiled[build.path].references} for build in builds}
    failed = _build(
        realiser, {path for paths in needs.values() for path in paths}, keep_going=keep_going
    )
    store = realiser.store
    there = store.valid(path for paths in needs.values() for path in paths)
    builds = [build for build in builds if needs[build.path] <= there]
    durations = store.history.durations(build.name for build in compiled.values())
    durations |= {b.name: durations[c.name] for b in builds if (c := compiled[b.path]).name in durations}

    def compare(build: Build, count: int) -> Verdict | BuildOutcome:
        return _compare(realiser, build, count, phase)

    def ended(result: Verdict | BuildOutcome) -> bool:
        return isinstance(result, Verdict)

    def done(build: Build, result: Verdict | BuildOutcome) -> None:
        if isinstance(result, BuildOutcome):
            failed[result.name] = result
        else:
            found[build.path] = result
            tell(result)

    with realiser.progress.phase("checking", total=len(builds), unit="builds") as phase:
        work = Work(run=compare, good=ended, log=lambda build: _log(realiser, build), done=done)
        ordered = longest_first(builds, durations, apart=True)
        schedule(ordered, work, phase, width=realiser.cores, keep_going=keep_going, apart=True)
    return failed


def _compiled(realiser: PlanRealiser, build: Build) -> Build:
    """Return what compiles the wheel that *build* stamps; *build* itself, if that is not what it does."""
    path = dict(build.inputs)["wheel"] if build.kind == "stamped" else build.path
    compiled = realiser.plan.derivations[path]
    return compiled if isinstance(compiled, Build) else build


def build_again(realiser: PlanRealiser, build: Build, scratch: Path, count: int) -> BuildOutcome:
    """Build *build* in *scratch*, and before it what compiles the wheel that it stamps."""
    compiled, first, again = _compiled(realiser, build), scratch / "first", scratch / "again"
    first.mkdir()
    outcome = realiser.run(compiled, first, _log(realiser, build), count, cached=False)
    if compiled is build or outcome.output is None or not any(outcome.output.glob("*.whl")):
        return outcome
    # Other bytes than pinned are rejected, and still stamped: what is in the store is, too.
    again.mkdir()
    log = realiser.store.log_file(build.path).with_suffix(".check.log")
    stamped = realiser.run(
        build, again, log, count, cached=False, instead={compiled.path: outcome.output}
    )
    return replace(stamped, duration_s=outcome.duration_s + stamped.duration_s)


def _compare(realiser: Realiser, build: Build, count: int, phase: Phase) -> Verdict | BuildOutcome:
    store = realiser.store
    name = build.name.removesuffix("-stamped")
    with store.scratch(f"check-{build.name}") as scratch:
        outcome = build_again(realiser, build, scratch, count)
        if outcome.output is None or outcome.status not in ("built", "output-rejected"):
            phase.line(f"{name}: {outcome.status}")
            return outcome
        differences = _differences(store.locate(build.path), outcome.output)
    verdict = Verdict(
        name=name,
        path=build.path,
        sha256=store.check(build.path).sha256,
        identical=not differences,
        differences=differences,
        seconds=round(outcome.duration_s, 1),
        when=datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%SZ"),
        where=f"{realiser.builder().name}, {platform.system()} {platform.release()} {platform.machine()}",
    )
    store.history.keep(verdict)
    phase.line(f"{name}: {'identical' if verdict.identical else 'different'}")
    return verdict


def _log(realiser: PlanRealiser, build: Build) -> Path:
    return realiser.store.log_file(_compiled(realiser, build).path).with_suffix(".check.log")


def _differences(first: Path, again: Path) -> tuple[str, ...]:
    """Return how two outputs differ: file by file, and inside wheels and tars member by member."""
    lines: list[str] = []
    for line in trees.difference(trees.listing(first), trees.listing(again)):
        lines.append(line)
        for name, compare in _archives(first):
            if line.startswith(f"changed: {name}: ") and (again / name).is_file():
                try:
                    lines += [f"  {inner}" for inner in compare(first / name, again / name)]
                except BuildError as error:
                    # What cannot be read is different, too, and no reason to check nothing else.
                    lines.append(f"  {error.message}")
    return tuple(lines)


def _archives(folder: Path) -> Iterator[tuple[str, Callable[[Path, Path], tuple[str, ...]]]]:
    yield from ((path.name, difference_of_wheels) for path in sorted(folder.glob("*.whl")))
    yield from ((path.name, difference_of_tars) for path in sorted(folder.glob("*.tar")))
