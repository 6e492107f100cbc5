"""Pinning Python packages: those that run, and those that extensions are built with."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from packaging.utils import canonicalize_name

from lockbuild.digest import parse_sha256
from lockbuild.errors import ResolveError
from lockbuild.labels import labelled, unlabelled
from lockbuild.lock import LockedFile, LockedPackage
from lockbuild.locking.former import Former, nearest
from lockbuild.plan import INSTALLER, nvcc_wheels
from lockbuild.resolvers import PythonQuestion, Stub, differences, uv
from lockbuild.wheels import wheel_matches

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Sequence
    from pathlib import Path

    from lockbuild.locking.gaps import Gaps
    from lockbuild.progress import Progress
    from lockbuild.resolvers import PythonAnswer
    from lockbuild.sources import Mirrors
    from lockbuild.stack import BuildSpec, PinnedWheel, Stack

__all__ = ["ENGINES", "PythonPinner"]

ENGINES = ("uv", "pip-tools")
_INPUTS = ("target.", "python.", "build.", "toolchain.nvcc.wheels", "file ")
"""What decides which packages there are."""
_PYPI = frozenset({"pypi"})


@dataclass(slots=True, kw_only=True)
class PythonPinner:
    """Asks the engines what has to be asked, and keeps what has not changed."""

    stack: Stack
    stack_file: str
    """How the stack file is called in messages."""
    former: Former
    mirrors: Callable[[frozenset[str]], Mirrors]
    progress: Progress
    scratch: Path
    gaps: Gaps
    engines: tuple[str, ...] = ()
    """The engines that were asked and agreed."""

    def pin(
        self,
    ) -> tuple[tuple[LockedPackage, ...], tuple[tuple[str, tuple[LockedPackage, ...]], ...]]:
        """Return the runtime lock, in which what is built has its label, and the build locks."""
        runtime, build = self._pinned()
        return labelled(runtime, self.stack), build

    def _pinned(
        self,
    ) -> tuple[tuple[LockedPackage, ...], tuple[tuple[str, tuple[LockedPackage, ...]], ...]]:
        kept = self.former.kept(*_INPUTS)
        options = self.former.options
        # Sources that are not built are no packages.
        sources = {canonicalize_name(source.name) for source in self.stack.sources}
        if kept and not options.cross_check and options.upgrade_packages <= sources:
            return kept.runtime, kept.build
        try:
            return self._asked()
        except ResolveError as error:
            known = self.former.same(*_INPUTS)
            if known is None or not error.unreachable or self.former.options.cross_check:
                raise
            self.gaps.keep("python", "packages", error)
            return known.runtime, known.build

    def _asked(
        self,
    ) -> tuple[tuple[LockedPackage, ...], tuple[tuple[str, tuple[LockedPackage, ...]], ...]]:
        stack = self.stack
        runtime = self._ask("runtime", self._runtime_question())
        _check_needs(stack, runtime, self.stack_file)
        _check_pinned_wheels(stack, runtime, self.stack_file)
        build = tuple(
            (name, self._ask(f"build environment {name}".strip(), self._build_question(name, runtime)))
            for name in stack.build_environments() or ("",)
        )
        for name, packages in build:
            _check_same_bytes(runtime, packages, name)
        return runtime, build

    def _runtime_question(self) -> PythonQuestion:
        stack = self.stack
        builds = tuple(f"{spec.name}=={spec.version}" for spec in stack.builds)
        return PythonQuestion(
            target=stack.target,
            requirements=(*stack.python.requires, *builds),
            constraints=stack.python.constraints,
            overrides=stack.python.overrides,
            stubs=self._stubs(),
            indexes=stack.python.indexes,
            exclude_newer=stack.python.exclude_newer,
            preferences=self._preferences(self.former.lock.runtime if self.former.lock else ()),
        )

    def _build_question(self, environment: str, runtime: tuple[LockedPackage, ...]) -> PythonQuestion:
        stack = self.stack
        specs = [spec for spec in stack.builds if spec.environment == environment]
        wanted = {text for spec in specs for text in (*spec.build_requires, *spec.needs)} | {INSTALLER}
        wanted |= {text for spec in specs for text in nvcc_wheels(stack, runtime, spec)}
        former = dict(self.former.lock.build).get(environment, ()) if self.former.lock else ()
        pins = tuple(f"{package.name}=={package.version}" for package in runtime)
        return PythonQuestion(
            target=stack.target,
            requirements=tuple(sorted(wanted)),
            # What ships is what extensions are compiled against: the same versions, so the same wheels.
            constraints=(*pins, *stack.python.constraints),
            overrides=stack.python.overrides,
            stubs=self._stubs(),
            indexes=stack.python.indexes,
            exclude_newer=stack.python.exclude_newer,
            preferences=self._preferences(former),
        )

    def _stubs(self) -> tuple[Stub, ...]:
        own: tuple[BuildSpec | PinnedWheel, ...] = (*self.stack.builds, *self.stack.python.wheels)
        return tuple(Stub(name=one.name, version=one.version, requires=one.requires) for one in own)

    def _preferences(self, former: Iterable[LockedPackage]) -> tuple[tuple[str, str], ...]:
        if self.former.options.upgrade:
            return ()
        free = self.former.options.upgrade_packages
        former = unlabelled(former, self.stack)
        return tuple((package.name, package.version) for package in former if package.name not in free)

    def _ask(self, name: str, question: PythonQuestion) -> tuple[LockedPackage, ...]:
        chosen = self.former.options.engine
        asked = (
            [chosen, *(e for e in ENGINES if e != chosen)]
            if self.former.options.cross_check
            else [chosen]
        )
        with self.progress.phase(f"resolving the {name}", total=len(asked), unit="engines") as phase:
            answers = []
            for engine in asked:
                answers.append(self._engine(engine, question, name))
                phase.advance(1)
                phase.line(f"{name}: {len(answers[-1].packages)} packages ({engine})")
        for engine, answer in zip(asked[1:], answers[1:], strict=True):
            apart = differences(answers[0], answer, names=(chosen, engine))
            if apart:
                raise ResolveError(
                    f"{name}: {chosen} and {engine} pin different versions",
                    details=apart,
                    hint="constrain these packages in `python.constraints` until both agree",
                )
        self.engines = tuple(asked)
        return self._with_pinned_wheels(self._sized(answers[0]))

    def _with_pinned_wheels(self, packages: tuple[LockedPackage, ...]) -> tuple[LockedPackage, ...]:
        """Return the packages, those that the stack pins by their bytes with their files."""
        pinned = {wheel.name: wheel for wheel in self.stack.python.wheels}

        def complete(package: LockedPackage) -> LockedPackage:
            if package.name not in pinned:
                return package
            wheel = pinned[package.name]
            if wheel.first_fetched:
                # Its bytes, if they are known at all, are looked up once everything is resolved.
                return replace(package, urls=wheel.url)
            file = LockedFile(
                filename=wheel.filename, sha256=parse_sha256(wheel.sha256), size=wheel.size
            )
            return replace(package, wheel=file, urls=wheel.url)

        return tuple(complete(package) for package in packages)

    def _engine(self, engine: str, question: PythonQuestion, name: str) -> PythonAnswer:
        work = self.scratch / f"{engine}-{name}".replace(" ", "-")
        work.mkdir()
        if engine == "uv":
            return uv.resolve(question, work=work)
        from lockbuild.resolvers import pip_tools  # noqa: PLC0415 - the second opinion is seldom asked

        return pip_tools.resolve(question, work=work)

    def _sized(self, answer: PythonAnswer) -> tuple[LockedPackage, ...]:
        """Return the packages with the sizes of their wheels, asked of the index's host where it did not say."""
        former = self._former_sizes()
        urls = dict(answer.urls)
        unknown = {
            p.wheel.filename: urls[p.wheel.filename]
            for p in answer.packages
            if p.wheel
            and p.wheel.size is None
            and p.wheel.sha256 not in former
            and p.wheel.filename in urls
        }
        asked = self._ask_sizes(tuple(unknown.values())) if unknown else {}

        def sized(wheel: LockedFile) -> LockedFile:
            size = former.get(wheel.sha256) or asked.get(unknown.get(wheel.filename, ""))
            return wheel if wheel.size is not None else replace(wheel, size=size)

        return tuple(replace(p, wheel=sized(p.wheel)) if p.wheel else p for p in answer.packages)

    def _ask_sizes(self, urls: tuple[str, ...]) -> dict[str, int]:
        from lockbuild import sources  # noqa: PLC0415 - not loaded when the lock knows everything

        return sources.sizes(urls, mirrors=self.mirrors(_PYPI))

    def _former_sizes(self) -> dict[str, int]:
        """Return sha256 -> bytes of every wheel that was locked before: content does not change its size."""
        locks = (
            [self.former.lock.runtime, *(packages for _, packages in self.former.lock.build)]
            if self.former.lock
            else []
        )
        wheels = [package.wheel for packages in locks for package in packages if package.wheel]
        return {wheel.sha256: wheel.size for wheel in wheels if wheel.size is not None}


def _check_pinned_wheels(stack: Stack, runtime: Iterable[LockedPackage], file: str) -> None:
    """Refuse pinned wheels that do not fit the target, or that nothing asks for.

    Raises:
        ResolveError: With a line for each.
    """
    names = {package.name for package in runtime}
    faults = []
    for wheel in stack.python.wheels:
        if not wheel_matches(wheel.filename, stack.target):
            faults.append(
                f"`python.wheel[{wheel.name}]`: `{wheel.filename}` does not fit Python {stack.target.python}, "
                f"{stack.target.platform}, glibc {stack.target.glibc}"
            )
        elif wheel.name not in names:
            faults.append(
                f"`python.wheel[{wheel.name}]`: nothing requires it; name it in `python.requires`"
            )
    if faults:
        raise ResolveError(f"{file}: pinned wheels cannot be used", details=tuple(faults))


def _check_needs(stack: Stack, runtime: Sequence[LockedPackage], file: str) -> None:
    names = [package.name for package in runtime]
    faults = []
    for spec in stack.builds:
        for need in spec.needs:
            if need not in names:
                said = (
                    f"`build[{spec.name}].needs`: found `{need}`, expected a package of the runtime lock"
                )
                faults.append("; ".join(filter(None, (said, nearest(need, names)))))
    if faults:
        raise ResolveError(
            f"{file}: builds need what is not installed",
            details=tuple(faults),
            hint="correct the name, or say under `python.requires` that the image has it; what builds alone want is `build-requires`",
        )


def _check_same_bytes(
    runtime: Iterable[LockedPackage], build: Iterable[LockedPackage], environment: str
) -> None:
    wheels = {package.name: package.wheel for package in runtime}
    for package in build:
        ships = wheels.get(package.name)
        if ships and package.wheel and ships.sha256 != package.wheel.sha256:
            raise ResolveError(
                f"build environment `{environment}` would compile against another `{package.name}` than ships",
                details=(f"ships    {ships.filename}", f"compiles {package.wheel.filename}"),
                hint="resolve again: the index has changed in between",
            )
