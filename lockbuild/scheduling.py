"""In which order builds run, and how many side by side: longest way first, each as soon as it can begin."""

from __future__ import annotations

import math
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, wait
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Generic, TypeVar

from lockbuild.steps import Follower

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping, Sequence
    from pathlib import Path

    from lockbuild.derivation import Build
    from lockbuild.digest import StorePath
    from lockbuild.progress import Phase

__all__ = ["Work", "longest_first", "schedule", "workers"]

_T = TypeVar("_T")
_LOOK_S = 1.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Work(Generic[_T]):
    """What is done with each build."""

    run: Callable[[Build, int], _T]
    """Given a build and how many run now, itself among them."""
    good: Callable[[_T], bool]
    """Whether what needs the build may begin, and others go on without `keep_going`."""
    log: Callable[[Build], Path]
    """Where its output goes, which tells how far it has come."""
    done: Callable[[Build, _T], object] = lambda _build, _result: None
    """Told of each result as it comes, in one thread."""


def schedule(  # noqa: PLR0913 - what is to be done, and three ways to do it, as keywords
    builds: Sequence[Build],
    work: Work[_T],
    phase: Phase,
    *,
    width: int,
    keep_going: bool,
    apart: bool = False,
) -> dict[StorePath, _T]:
    """Do the work with *builds*, those that are ready in their order, and return what was done, as it ended.

    What needs another of *builds* waits for it. What needs a bad one is not begun. After an exception nothing is; it is
    raised once those have ended that run, which are looked after until then.

    Args:
        width: How many run side by side.
        keep_going: Whether builds that do not need a bad one are begun after it.
        apart: Whether none waits for another, since all that they need is there.
    """
    waiting = {build.path: build for build in builds}
    running: dict[Future[_T], tuple[Build, Follower]] = {}
    results: dict[StorePath, _T] = {}
    bad: set[StorePath] = set()
    faults: list[BaseException] = []
    with workers(max(1, min(width, len(builds)))) as pool:
        while True:
            absent = {*waiting, *(build.path for build, _ in running.values()), *bad}
            ready = [b for b in waiting.values() if apart or not absent.intersection(b.references)]
            go_on = not faults and (keep_going or not bad)
            starting = ready[: width - len(running)] if go_on else []
            count = len(running) + len(starting)
            for build in starting:
                del waiting[build.path]
                follower = Follower(work.log(build))
                running[pool.submit(work.run, build, count)] = build, follower
            if not running:
                break
            for future in _first_of(running, phase):
                build, _ = running.pop(future)
                phase.ended(build.name)
                if fault := future.exception():
                    faults.append(fault)
                    phase.line(f"{build.name}: {fault}")
                    continue
                results[build.path] = future.result()
                work.done(build, results[build.path])
                if not work.good(results[build.path]):
                    bad.add(build.path)
                phase.advance(1)
    if faults:
        raise faults[0]
    return results


def _first_of(
    running: Mapping[Future[_T], tuple[Build, Follower]], phase: Phase
) -> frozenset[Future[_T]]:
    """Return those that have ended, once there is one; meanwhile tell how far the others have come."""
    while True:
        ended = wait(running, timeout=_LOOK_S, return_when=FIRST_COMPLETED).done
        if ended:
            return frozenset(ended)
        for build, follower in running.values():
            if steps := follower.look():
                phase.steps(build.name, steps.done, steps.total)


def longest_first(
    builds: Sequence[Build], durations: Mapping[str, float], *, apart: bool = False
) -> tuple[Build, ...]:
    """Return *builds* with those first that most time depends on: their own and that of what needs them.

    Args:
        builds: In an order in which they can be built.
        durations: Name of a build -> seconds that it took before; one that is not here may take very long.
        apart: Whether none waits for another.
    """
    way: dict[StorePath, float] = {}
    for build in reversed(builds):
        after = [way[user.path] for user in builds if build.path in user.references and not apart]
        way[build.path] = durations.get(build.name, math.inf) + max(after, default=0.0)
    return tuple(sorted(builds, key=lambda build: -way[build.path]))


@contextmanager
def workers(count: int) -> Iterator[ThreadPoolExecutor]:
    """Give a pool of threads. An interrupt does not wait for them: what they run ends with the process."""
    pool = ThreadPoolExecutor(max_workers=count)
    try:
        yield pool
    except BaseException as error:
        pool.shutdown(wait=not isinstance(error, KeyboardInterrupt), cancel_futures=True)
        raise
    pool.shutdown()
