"""Resolving: from a stack file to its lock files. The only code that writes locks."""

from __future__ import annotations

import difflib
import tempfile
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from packaging.utils import canonicalize_name

from lockbuild.assets import AssetPinner, open_parts
from lockbuild.digest import parse_sha256
from lockbuild.errors import LockError, ResolveError, UsageError
from lockbuild.lock import BuiltPin, Lock, LockedFile, LockedPackage, lock_texts
from lockbuild.plan import INSTALLER, ROOTS, make_plan
from lockbuild.resolvers import AptQuestion, PythonQuestion, Stub, differences, uv
from lockbuild.sourcing import SourcePinner
from lockbuild.stack import from_document, inputs_of
from lockbuild.stack.schema import parse_stack_text
from lockbuild.wheels import wheel_matches

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Sequence

    from lockbuild.folders import StackFolder
    from lockbuild.lock import LockedDeb
    from lockbuild.progress import Progress
    from lockbuild.resolvers import PythonAnswer
    from lockbuild.sources import Mirrors
    from lockbuild.stack import BuildSpec, PinnedWheel, Stack
    from lockbuild.store import Store

__all__ = ["ENGINES", "ResolveOptions", "Resolved", "resolve"]

ENGINES = ("uv", "pip-tools")


@dataclass(frozen=True, slots=True, kw_only=True)
class ResolveOptions:
    """How a stack is resolved."""

    engine: Literal["uv", "pip-tools"] = "uv"
    cross_check: bool = False
    """Whether the other engine must pin the same versions."""
    upgrade: bool = False
    """Whether everything may move."""
    upgrade_packages: frozenset[str] = frozenset()
    """Normalised names of Python packages that may move though nothing else does."""
    repin: frozenset[str] = frozenset()
    """Names of builds and assets whose pinned bytes are forgotten."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Resolved:
    """What resolving gave."""

    lock: Lock
    changed: tuple[str, ...]
    """Names of the files that were written; empty when the lock was up to date."""
    moved: tuple[str, ...]
    """A line for each pin that was added, removed or moved."""
    unpinned: tuple[str, ...]
    """Builds whose bytes nobody has seen yet."""
    engines: tuple[str, ...]
    """The engines that agreed; empty when nothing had to be resolved."""
    open: tuple[tuple[str, str], ...] = ()
    """What the lock does not pin, as it could not be had and never was before, and why."""


def resolve(
    folder: StackFolder,
    *,
    options: ResolveOptions,
    mirrors: Callable[[frozenset[str]], Mirrors],
    store: Store,
    progress: Progress,
) -> Resolved:
    """Write the lock of the stack in *folder*, keeping every former pin that nothing speaks against.

    Raises:
        StackError: The stack file is wrong.
        UsageError: The options name a package or a build that there is not.
        ResolveError: Requirements cannot be met, or two engines disagree. No file is touched.
    """
    document = parse_stack_text(folder.read_stack_text(), file=folder.stack_file)
    stack = from_document(document)
    inputs = tuple(sorted(inputs_of(document, folder.used_files(document)).items()))
    former = _former(folder)
    options = replace(options, repin=_repinned(options, stack))
    _check_options(options, stack, former)
    with tempfile.TemporaryDirectory(prefix="lockbuild-resolve-") as scratch:
        resolver = _Resolver(
            folder=folder,
            stack=stack,
            options=options,
            mirrors=mirrors,
            progress=progress,
            former=former,
            scratch=Path(scratch),
        )
        lock = resolver.lock(inputs, store)
    lock = replace(lock, pins=_pins(stack, lock, former, store, options.repin))
    texts = lock_texts(lock, name=stack.name, target=stack.target, wheels=folder.wheels_from_here)
    changed = folder.write_texts(texts)
    return Resolved(
        lock=folder.read_lock(),
        changed=changed,
        moved=_moved(former, lock),
        unpinned=tuple(spec.name for spec in stack.builds if lock.pin(spec.name) is None),
        engines=resolver.engines,
        open=open_parts(lock),
    )


def _former(folder: StackFolder) -> Lock | None:
    # An absent or damaged lock has no pins to keep; it is about to be written anew.
    try:
        return folder.read_lock()
    except LockError:
        return None


def _repinned(options: ResolveOptions, stack: Stack) -> frozenset[str]:
    """Return what is to be pinned anew: builds have normalised names, assets any."""
    assets = {asset.name for asset in stack.bundles}
    return frozenset(name if name in assets else canonicalize_name(name) for name in options.repin)


def _check_options(options: ResolveOptions, stack: Stack, former: Lock | None) -> None:
    """Refuse names that would be passed over in silence."""
    builds = {spec.name for spec in stack.builds}
    pinned = builds | {asset.name for asset in stack.bundles}
    packages = set(builds)
    if former:
        packages |= {p.name for found in (former.runtime, *dict(former.build).values()) for p in found}
    upgraded = options.upgrade_packages if former else frozenset[str]()
    kind = "build or asset" if stack.bundles else "build"
    for what, wanted, known in ((kind, options.repin, pinned), ("package", upgraded, packages)):
        for name in sorted(wanted - known):
            raise UsageError(
                f"stack `{stack.name}` has no {what} called `{name}`", hint=_nearest(name, known)
            )


def _nearest(name: str, known: Iterable[str]) -> str | None:
    found = difflib.get_close_matches(name, sorted(known), n=1)
    return f"did you mean `{found[0]}`?" if found else None


_PYPI = frozenset({"pypi"})
_PYTHON_INPUTS = ("target.", "python.", "build.", "file ")
_APT_INPUTS = ("target.platform", "base.", "apt.", "interpreter.")


@dataclass(slots=True, kw_only=True)
class _Resolver:
    """Asks the engines what has to be asked, and keeps what has not changed."""

    folder: StackFolder
    stack: Stack
    options: ResolveOptions
    mirrors: Callable[[frozenset[str]], Mirrors]
    progress: Progress
    former: Lock | None
    scratch: Path
    engines: tuple[str, ...] = ()
    """The engines that were asked and agreed."""

    def _kept(self, inputs: tuple[tuple[str, str], ...], prefixes: tuple[str, ...]) -> Lock | None:
        """Return the former lock when none of the inputs under *prefixes* has changed since."""
        former, options = self.former, self.options
        if former is None or options.upgrade:
            return None
        before = [pair for pair in former.inputs if pair[0].startswith(prefixes)]
        return former if before == [pair for pair in inputs if pair[0].startswith(prefixes)] else None

    def lock(self, inputs: tuple[tuple[str, str], ...], store: Store) -> Lock:
        """Return the lock without the pins of what is built."""
        runtime, build = self.python(inputs)
        sources = SourcePinner(
            stack=self.stack,
            folder=self.folder,
            former=self.former,
            inputs=dict(inputs),
            mirrors=self.mirrors,
            store=store,
            progress=self.progress,
            scratch=self.scratch,
        )
        assets = AssetPinner(
            stack=self.stack,
            former=self.former,
            inputs=dict(inputs),
            repin=self.options.repin,
            store=store,
            progress=self.progress,
        )
        return Lock(
            inputs=inputs,
            runtime=runtime,
            build=build,
            sources=sources.pin(),
            debs=self.debs(inputs),
            assets=assets.pin(),
        )

    def python(
        self, inputs: tuple[tuple[str, str], ...]
    ) -> tuple[tuple[LockedPackage, ...], tuple[tuple[str, tuple[LockedPackage, ...]], ...]]:
        """Return the runtime lock and the build locks."""
        kept = self._kept(inputs, _PYTHON_INPUTS)
        if kept and not self.options.cross_check and not self.options.upgrade_packages:
            return kept.runtime, kept.build
        stack = self.stack
        runtime = self._ask("runtime", self._runtime_question())
        _check_needs(stack, runtime, self.folder.stack_file)
        _check_pinned_wheels(stack, runtime, self.folder.stack_file)
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
            preferences=self._preferences(self.former.runtime if self.former else ()),
        )

    def _build_question(self, environment: str, runtime: tuple[LockedPackage, ...]) -> PythonQuestion:
        stack = self.stack
        specs = [spec for spec in stack.builds if spec.environment == environment]
        wanted = {text for spec in specs for text in (*spec.build_requires, *spec.needs)} | {INSTALLER}
        former = dict(self.former.build).get(environment, ()) if self.former else ()
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
        if self.options.upgrade:
            return ()
        free = self.options.upgrade_packages
        return tuple((package.name, package.version) for package in former if package.name not in free)

    def _ask(self, name: str, question: PythonQuestion) -> tuple[LockedPackage, ...]:
        chosen = self.options.engine
        asked = [chosen, *(e for e in ENGINES if e != chosen)] if self.options.cross_check else [chosen]
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
            [self.former.runtime, *(packages for _, packages in self.former.build)]
            if self.former
            else []
        )
        wheels = [package.wheel for packages in locks for package in packages if package.wheel]
        return {wheel.sha256: wheel.size for wheel in wheels if wheel.size is not None}

    def debs(self, inputs: tuple[tuple[str, str], ...]) -> tuple[LockedDeb, ...]:
        """Return the closure of .debs for all root file systems."""
        kept = self._kept(inputs, _APT_INPUTS)
        if kept:
            return kept.debs
        from lockbuild.resolvers import apt  # noqa: PLC0415 - not loaded when the lock knows everything

        stack = self.stack
        base = stack.base.debian
        wanted = {"runtime": stack.apt.runtime, "toolchain": stack.apt.toolchain}
        python = {stack.interpreter.apt} if stack.interpreter.apt else set()
        question = AptQuestion(
            base=base,
            architecture=stack.target.debian_architecture,
            roots=tuple((root, tuple(sorted({*python, *wanted[root]}))) for root in ROOTS),
        )
        work = self.scratch / "apt"
        work.mkdir()
        mirrors = self.mirrors(frozenset({base.vendor}))
        places = dict(mirrors.snapshots if base.snapshot else mirrors.archives)
        with self.progress.phase(f"resolving {base.suite}", total=1, unit="suites") as phase:
            found = apt.resolve(question, mirrors=places.get(base.vendor, ()), keyring=None, work=work)
            phase.advance(1)
            phase.line(f"{base.suite}: {len(found)} Debian packages")
        return found


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
                faults.append("; ".join(filter(None, (said, _nearest(need, names)))))
    if faults:
        raise ResolveError(f"{file}: builds need what is not installed", details=tuple(faults))


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


def _pins(
    stack: Stack, lock: Lock, former: Lock | None, store: Store, repin: frozenset[str]
) -> tuple[BuiltPin, ...]:
    """Return the pin of each build: the former one while its derivation is the same, else what the store has."""
    pins = []
    for name, path in make_plan(stack, lock).builds:
        pin = former.pin(name) if former and name not in repin else None
        if pin is None or pin.derivation != path:
            info = store.info(path)
            wheel = next((o for o in info.outputs if o[0].endswith(".whl")), None) if info else None
            if wheel is None:
                continue
            file = LockedFile(filename=wheel[0], sha256=wheel[1], size=wheel[2])
            pin = BuiltPin(name=name, derivation=path, wheel=file)
        pins.append(pin)
    return tuple(pins)


def _moved(former: Lock | None, lock: Lock) -> tuple[str, ...]:
    """Return a line for each pin that differs between two locks."""
    if former is None:
        return ()

    def pins(one: Lock) -> dict[str, str]:
        found = {package.name: package.version for package in one.runtime}
        for environment, packages in one.build:
            label = f"build environment {environment}".strip()
            found |= {f"{package.name} ({label})": package.version for package in packages}
        found |= {f"{asset.name} (asset)": asset.sha256 or "open" for asset in one.assets}
        return found | {f"{deb.package} (Debian)": deb.version for deb in one.debs}

    before, after = pins(former), pins(lock)
    return tuple(
        f"{name}: {before.get(name, 'absent')} -> {after.get(name, 'absent')}"
        for name in sorted({*before, *after})
        if before.get(name) != after.get(name)
    )
