"""Realising a plan: fetching what is missing, and building what is missing."""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from lockbuild import jobs, wheels
from lockbuild.derivation import (
    ROOTFS_TAR,
    Build,
    BuildOutcome,
    BuildTask,
    Fetch,
    FolderArchive,
    JobPool,
)
from lockbuild.derivationtext import derivation_text
from lockbuild.digest import sha256_of, store_path
from lockbuild.errors import BuildError
from lockbuild.failures import failure
from lockbuild.fetching import bring, failed
from lockbuild.finishing import Promise, finish_wheel, promise_of
from lockbuild.plan import missing
from lockbuild.plan.reasons import keys_of, reasons_for
from lockbuild.scheduling import Work, longest_first, schedule
from lockbuild.stamping import Stamper
from lockbuild.store import Root

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping, Sequence
    from pathlib import Path

    from lockbuild.builders import Builder
    from lockbuild.digest import JsonValue, StorePath
    from lockbuild.lock import Lock
    from lockbuild.plan import Plan
    from lockbuild.plan.reasons import Reason
    from lockbuild.progress import Phase, Progress
    from lockbuild.sources import Mirrors
    from lockbuild.stack import Stack
    from lockbuild.store import Store

__all__ = ["BUILDER_NOTE", "PlanRealiser", "Realiser"]

BUILDER_NOTE = "builder"
"""Name of the note in which a store keeps who built an object."""

_OF_SOURCES = ("source", "wheel")
"""Kinds of builds of whose inputs people ask which commit they were."""


@dataclass(frozen=True, slots=True, kw_only=True)
class PlanRealiser(ABC):
    """A plan, and what is needed to carry it out, whoever made it."""

    plan: Plan
    stack_folder: Path
    """What lies beside the stack file."""
    store: Store
    mirrors: Callable[[frozenset[str]], Mirrors]
    """Gives the mirrors of the indexes and archives that are named; finding out takes time."""
    builder: Callable[[], Builder]
    """Gives who makes wheels and environments, once there is something to build."""
    root_builder: Callable[[], Builder]
    """Gives who makes root file systems."""
    prefix_builder: Callable[[], Builder]
    """Gives who makes prefixes of conda packages."""
    progress: Progress
    cores: int
    connections: int = 8
    memory_per_job: int = jobs.MEMORY_PER_JOB
    """Bytes that a compiler may come to need."""
    compiler_cache: bool = False
    """Whether wheels are built with what compilers gave before."""

    @property
    @abstractmethod
    def root(self) -> str | None:
        """Name under which the store keeps what the plan needs; none to keep nothing."""

    @abstractmethod
    def promise(self, build: Build) -> Promise:
        """Return what the wheel of *build* must be."""

    # ---- fetching ------------------------------------------------------------------------------

    def fetch(self, targets: Iterable[StorePath] | None = None) -> tuple[Fetch, ...]:
        """Bring what is missing of the fetches that *targets* need, or of all, and return it.

        Raises:
            FetchError: Some could not be had; all others are in the store.
        """
        self._keep()
        everything = {fetch.path: fetch for fetch in self.plan.fetches()}
        valid = self.store.valid(self.plan.derivations)
        wanted = (
            tuple(fetch for path, fetch in everything.items() if path not in valid)
            if targets is None
            else missing(self.plan, targets, valid=valid).to_fetch
        )
        if not wanted:
            return ()
        failures = bring(
            wanted,
            stack_folder=self.stack_folder,
            store=self.store,
            mirrors=self.mirrors,
            progress=self.progress,
            connections=self.connections,
        )
        if failures:
            raise failed(failures, wanted=len(wanted))
        return wanted

    def _keep(self) -> None:
        """Keep what the plan needs from garbage collection."""
        name = self.root
        wanted = Root(paths=tuple(sorted(self.plan.derivations)), folder=str(self.stack_folder))
        if name and self.store.roots().get(name) != wanted:
            self.store.set_root(name, wanted)

    # ---- building ------------------------------------------------------------------------------

    def build(
        self, targets: Iterable[StorePath], *, keep_going: bool = False
    ) -> tuple[BuildOutcome, ...]:
        """Fetch and build what is missing of *targets*, independent builds side by side.

        Args:
            keep_going: Whether builds that do not need a failed one go on.

        Raises:
            BuildError: A build failed or its output was rejected; the details hold every log's last lines.
        """
        targets = tuple(targets)
        outcomes = self.attempt(targets, keep_going=keep_going)
        if failed := [outcome for outcome in outcomes if outcome.failed]:
            raise failure(failed, edited=self.edited)
        self._check_expected(targets)
        return outcomes

    def attempt(self, targets: Iterable[StorePath], *, keep_going: bool) -> tuple[BuildOutcome, ...]:
        """Do the same, and leave it to the caller to look which builds failed."""
        targets = tuple(targets)
        self.fetch(targets)
        to_build = missing(self.plan, targets, valid=self.store.valid(self.plan.derivations)).to_build
        outcomes: tuple[BuildOutcome, ...] = ()
        self._remember()
        if to_build:
            with self.progress.phase("building", total=len(to_build), unit="builds") as phase:
                try:
                    outcomes = self._build_all(to_build, phase, keep_going=keep_going)
                finally:
                    self._remember()
        return outcomes

    @property
    def edited(self) -> frozenset[str]:
        """Names of the builds that apply edits to a source."""
        builds = (one for one in self.plan.derivations.values() if isinstance(one, Build))
        return frozenset(build.name for build in builds if build.kind == "source")

    def _remember(self) -> None:
        """Keep what was realised, as text, so that the next change can be told from it."""
        history, keys = self.store.history, keys_of(self.plan) if self.root else {}
        valid = self.store.valid(keys.values())
        for path in valid:
            derivation = self.plan.derivations[path]
            inputs = [used for _, used in derivation.inputs] if isinstance(derivation, Build) else []
            few = inputs if isinstance(derivation, Build) and derivation.kind in _OF_SOURCES else []
            for one in (path, *few):
                history.keep_derivation(one, derivation_text(self.plan.derivations[one]))
        if self.root:
            history.keep_realised(self.root, {key: path for key, path in keys.items() if path in valid})

    def why(self, build: Build) -> tuple[Reason, ...]:
        """Return why *build*, which the store does not have, is to be built."""
        history = self.store.history
        realised = history.realised(self.root) if self.root else {}
        mine = [key for key, path in keys_of(self.plan).items() if path == build.path]
        former = next((realised[key] for key in mine if key in realised), None)
        text = history.derivation(former) if former else None
        return reasons_for(build, text, self.plan, history.derivation)

    def _check_expected(self, targets: Iterable[StorePath]) -> None:
        """Look again for the files that wheels must hold: `expects` may be younger than a wheel.

        Raises:
            BuildError: A wheel lacks one.
        """
        wanted = frozenset(targets)
        for name, path in self.plan.builds:
            build = self.plan.derivations[path]
            if not isinstance(build, Build) or path not in wanted:
                continue
            expects = self.promise(build).expects
            for wheel in self.store.locate(path).glob("*.whl") if expects else ():
                if faults := wheels.missing_members(wheels.inspect_wheel(wheel).members, expects):
                    raise BuildError(
                        f"{wheel.name} lacks what `build[{name}].expects` names", details=faults
                    )

    def _build_all(
        self, to_build: Sequence[Build], phase: Phase, *, keep_going: bool
    ) -> tuple[BuildOutcome, ...]:
        history = self.store.history
        ordered = longest_first(to_build, history.durations(build.name for build in to_build))
        work = Work(
            run=lambda build, count: self._realise(build, count, phase),
            good=lambda outcome: not outcome.failed,
            log=lambda build: self.store.log_file(build.path),
        )
        outcomes = schedule(ordered, work, phase, width=self.cores, keep_going=keep_going)
        failed = {path: one.name for path, one in outcomes.items() if one.failed}
        # In buildable order: what a build needs is judged before it. The others were not begun.
        for build in to_build:
            culprit = next((failed[need] for need in build.references if need in failed), None)
            if culprit and build.path not in outcomes:
                failed[build.path] = build.name
                outcomes[build.path] = BuildOutcome(
                    name=build.name, status="dependency-failed", message=f"needs {culprit}"
                )
        return tuple(outcomes.values())

    def _realise(self, build: Build, count: int, phase: Phase) -> BuildOutcome:
        """Build one derivation, one of *count* that run now, and put its output into the store."""

        def tell(holder: str) -> None:
            phase.line(f"{build.name}: waiting for {holder}, which builds it")

        with self.store.lock(build.path, tell):
            if self.store.info(build.path):
                return BuildOutcome(name=build.name, status="valid")
            with self.store.scratch(build.name) as scratch:
                phase.line(f"{build.name}: started")
                outcome = self.run(build, scratch, self.store.log_file(build.path), count, cached=True)
                if outcome.status == "built" and outcome.output:
                    self.store.add_folder(build.path, outcome.output, references=build.references)
                    # An audit asks whether it was a sandbox.
                    self.store.write_note(build.path, BUILDER_NOTE, f"{self._builder(build).name}\n")
                    self.store.history.took(build.name, outcome.duration_s)
                    phase.line(f"{build.name}: built in {outcome.duration_s:.0f} s")
                else:
                    phase.line(f"{build.name}: {outcome.status}")
                return replace(outcome, output=None)

    def run(  # noqa: PLR0913 - as keywords
        self,
        build: Build,
        scratch: Path,
        log: Path,
        count: int,
        *,
        cached: bool,
        instead: Mapping[StorePath, Path] | None = None,
    ) -> BuildOutcome:
        """Run the builder and judge what it gave; the output is in *scratch*.

        Args:
            count: How many builds run now.
            cached: Whether the compiler cache may be used, where it is wanted.
            instead: Input -> what stands in its place, for one that is not to be the store's.

        Raises:
            StoreError: An input is not what it was when it came into the store.
        """
        instead = instead or {}
        for _, path in build.inputs:
            if path not in instead:
                self.store.check(path)
        rootfs = self.store.unpacked(build.toolchain, ROOTFS_TAR) if build.toolchain else None
        pool = JobPool(folder=self.store.jobs, jobs=self.cores, memory=self.memory_per_job)
        task = BuildTask(
            name=build.name,
            kind=build.kind,
            rootfs=rootfs,
            rootfs_name=build.toolchain.digest if build.toolchain else None,
            command=build.command,
            env=build.env,
            inputs=tuple(
                (name, instead.get(path) or self.store.locate(path)) for name, path in build.inputs
            ),
            scratch=scratch,
            log=log,
            cores=jobs.share(pool, count),
            pool=pool,
            compiler_cache=self._cache(build) if cached and self.compiler_cache else None,
        )
        outcome = self._builder(build).build(task)
        if outcome.status == "built" and build.kind in ("stamped", "wheel"):
            return finish_wheel(self.promise(build), build, outcome)
        return outcome

    def _cache(self, build: Build) -> Path | None:
        """Return the folder in which results of the compilers of *build* are kept.

        Only builds of the same package with the same toolchain and variables share one: what a build
        leaves there reaches no other package, and what ccache does not look at, nvcc's own variables, is the same. So
        are the times of sources, which nvcc writes into names: they are set, but for those that come out of a tar.
        """
        name = next((name for name, path in self.plan.compiles if path == build.path), None)
        if name is None:
            return None
        env: dict[str, JsonValue] = {**dict(build.env)}
        tars = (path for place, path in build.inputs if self._brings_times(place, path))
        identity: list[JsonValue] = ["compiler-cache", 1, name, build.toolchain, env, *tars]
        return self.store.compiler_cache(store_path(identity, name))

    def _brings_times(self, place: str, path: StorePath) -> bool:
        """Tell whether an input is a source whose files get the times that others gave them in a tar."""
        fetch = self.plan.derivations.get(path)
        packed_here = isinstance(fetch, Fetch) and isinstance(fetch.where, FolderArchive)
        return place.startswith("source/") and not place.endswith(".zip") and not packed_here

    def _builder(self, build: Build) -> Builder:
        if build.kind == "rootfs":
            return self.root_builder()
        if build.kind == "stamped":
            return Stamper()
        return self.prefix_builder() if build.kind == "prefix" else self.builder()


@dataclass(frozen=True, slots=True, kw_only=True)
class Realiser(PlanRealiser):
    """One stack's plan, and what is needed to carry it out."""

    stack: Stack
    lock: Lock

    @property
    def root(self) -> str:
        """Name of what the store keeps for this checkout of the stack."""
        place = sha256_of(str(self.stack_folder).encode())[:12]
        return f"{self.stack.name}-{place}"

    def promise(self, build: Build) -> Promise:
        """Return what stack and lock say of the wheel of *build*."""
        return promise_of(self.stack, self.lock, self.plan, build)
