"""Resolving: from a stack file to its lock files. The only code that writes locks."""

from __future__ import annotations

import tempfile
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

from packaging.utils import canonicalize_name

from lockbuild import cells
from lockbuild.errors import LockError, UsageError
from lockbuild.lock import BuiltPin, Lock, LockedFile, lock_texts
from lockbuild.locking.assets import AssetPinner
from lockbuild.locking.conda import CondaPinner
from lockbuild.locking.debs import DebPinner
from lockbuild.locking.former import Former, ResolveOptions, nearest
from lockbuild.locking.gaps import Gaps
from lockbuild.locking.images import ImagePinner
from lockbuild.locking.interpreter import InterpreterPinner
from lockbuild.locking.python import ENGINES, PythonPinner
from lockbuild.locking.sources import SourcePinner
from lockbuild.locking.verifying import Unverified, verify_pins
from lockbuild.locking.wheels import WheelPinner
from lockbuild.plan import make_plan
from lockbuild.stack import from_document, inputs_of
from lockbuild.stack.schema import check_document

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from lockbuild.digest import StorePath
    from lockbuild.findings import Finding
    from lockbuild.folders import StackFolder
    from lockbuild.imagelock import LockedImage
    from lockbuild.lock import LockedDeb, LockedInterpreter, LockedPackage, OpenPart
    from lockbuild.plan import Plan
    from lockbuild.progress import Progress
    from lockbuild.sources import Mirrors
    from lockbuild.stack import Stack
    from lockbuild.store import Store

__all__ = ["ENGINES", "ResolveOptions", "Resolved", "resolve"]


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
    open: tuple[OpenPart, ...] = ()
    """What the lock does not pin, as it could not be had and never was before, and why."""
    kept: tuple[OpenPart, ...] = ()
    """What keeps its former pins, as nobody could be asked, and why not."""
    causes: tuple[tuple[str, tuple[str, ...]], ...] = ()
    """Label of an open part -> what was tried on this machine, a line each."""
    unverified: tuple[Unverified, ...] = ()
    """Pinned wheels that were to be verified, and could not be."""
    warnings: tuple[Finding, ...] = ()
    """What of the cell may not be meant."""


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
        ResolveError: Requirements cannot be met, two engines disagree, or what is to go together cannot. No
            file is touched.
        FetchError: What somebody gave is not what was asked for. No file is touched.
    """
    document = folder.read_document()
    check_document(document, file=folder.stack_file)
    stack = from_document(document)
    # What the stack file alone rules out needs nobody to be asked.
    _judge(folder, stack, None)
    before = _former(folder)
    options = replace(options, repin=_repinned(options, stack))
    _check_options(options, stack, before)
    inputs = inputs_of(document, folder.used_files(document))
    former = Former(lock=before, inputs=inputs, options=options)
    gaps = Gaps()
    with tempfile.TemporaryDirectory(prefix="lockbuild-resolve-") as scratch:
        lock, further, engines = _composed(
            folder,
            stack,
            former,
            mirrors=mirrors,
            store=store,
            progress=progress,
            scratch=Path(scratch),
            gaps=gaps,
        )
    warnings = _judge(folder, stack, lock)
    unverified = (
        verify_pins(stack, lock, mirrors=mirrors, progress=progress) if options.verify_pins else ()
    )
    lock = _with_pins(lock, before, make_plan(stack, lock), store, options.repin)
    texts = lock_texts(
        lock, name=stack.name, target=stack.target, wheels=folder.wheels_from_here, further=further
    )
    changed = folder.write_texts(texts)
    return Resolved(
        lock=folder.read_lock(),
        changed=changed,
        moved=_moved(before, lock),
        unpinned=tuple(spec.name for spec in stack.builds if lock.pin(spec.name) is None),
        engines=engines,
        open=lock.open_parts,
        kept=tuple(sorted(gaps.kept)),
        causes=tuple(sorted(gaps.causes.items())),
        unverified=unverified,
        warnings=warnings,
    )


def _judge(folder: StackFolder, stack: Stack, lock: Lock | None) -> tuple[Finding, ...]:
    found = cells.findings(stack, lock)
    if error := cells.refused(folder.stack_file, found, what="nothing is written"):
        raise error
    return found


def _former(folder: StackFolder) -> Lock | None:
    # An absent or damaged lock has no pins to keep; it is about to be written anew.
    try:
        return folder.read_lock()
    except LockError:
        return None


def _repinned(options: ResolveOptions, stack: Stack) -> frozenset[str]:
    """Return what is to be pinned anew: builds and wheels have normalised names, assets and sources any."""
    exact = {asset.name for asset in stack.bundles} | {source.name for source in stack.sources}
    return frozenset(name if name in exact else canonicalize_name(name) for name in options.repin)


def _check_options(options: ResolveOptions, stack: Stack, former: Lock | None) -> None:
    """Refuse names that would be passed over in silence."""
    builds = {spec.name for spec in stack.builds}
    kinds = {
        "build": builds,
        "asset": {asset.name for asset in stack.bundles},
        "source": {one.name for one in stack.sources if one.source.ref},
        "wheel": {wheel.name for wheel in stack.python.wheels if wheel.first_fetched},
    }
    pinned = {name for names in kinds.values() for name in names}
    packages = builds | {canonicalize_name(one.name) for one in stack.sources if one.source.ref}
    if former:
        packages |= {p.name for found in (former.runtime, *dict(former.build).values()) for p in found}
    upgraded = options.upgrade_packages if former else frozenset[str]()
    kind = " or ".join(kind for kind, names in kinds.items() if names) or "build"
    for what, wanted, known in ((kind, options.repin, pinned), ("package", upgraded, packages)):
        for name in sorted(wanted - known):
            raise UsageError(
                f"stack `{stack.name}` has no {what} called `{name}`", hint=nearest(name, known)
            )


def _composed(  # noqa: PLR0913 - all that any part asks
    folder: StackFolder,
    stack: Stack,
    former: Former,
    *,
    mirrors: Callable[[frozenset[str]], Mirrors],
    store: Store,
    progress: Progress,
    scratch: Path,
    gaps: Gaps,
) -> tuple[Lock, dict[str, str], tuple[str, ...]]:
    """Return the lock without the pins of what is built, files beside it, and the engines that were asked."""
    sources = SourcePinner(
        stack=stack,
        folder=folder,
        former=former,
        mirrors=mirrors,
        store=store,
        progress=progress,
        scratch=scratch,
        gaps=gaps,
    )
    interpreter, images, debs = _bases(
        stack, former, mirrors=mirrors, store=store, progress=progress, scratch=scratch, gaps=gaps
    )
    assets = AssetPinner(
        stack=stack, former=former, gaps=gaps, mirrors=mirrors, store=store, progress=progress
    )
    conda = CondaPinner(
        stack=stack,
        folder=folder,
        former=former,
        mirrors=mirrors,
        store=store,
        progress=progress,
        scratch=scratch,
        gaps=gaps,
    )
    runtime, build, engines = _packages(
        folder,
        stack,
        former,
        mirrors=mirrors,
        store=store,
        progress=progress,
        scratch=scratch,
        gaps=gaps,
    )
    lock = Lock(
        inputs=tuple(sorted(former.inputs.items())),
        runtime=runtime,
        build=build,
        sources=sources.pin(),
        debs=debs,
        assets=assets.pin(),
        images=images,
        conda=conda.pin(),
        interpreter=interpreter,
    )
    lock = replace(lock, open=tuple(sorted(gaps.open)))
    return lock, conda.texts(lock.conda), engines


def _packages(  # noqa: PLR0913 - as above
    folder: StackFolder,
    stack: Stack,
    former: Former,
    *,
    mirrors: Callable[[frozenset[str]], Mirrors],
    store: Store,
    progress: Progress,
    scratch: Path,
    gaps: Gaps,
) -> tuple[
    tuple[LockedPackage, ...],
    tuple[tuple[str, tuple[LockedPackage, ...]], ...],
    tuple[str, ...],
]:
    """Return the Python packages of the runtime and of each build environment, and the engines that were asked."""
    python = PythonPinner(
        stack=stack,
        stack_file=folder.stack_file,
        former=former,
        mirrors=mirrors,
        progress=progress,
        scratch=scratch,
        gaps=gaps,
    )
    wheels = WheelPinner(
        stack=stack, former=former, mirrors=mirrors, store=store, progress=progress, gaps=gaps
    )
    return (*wheels.pin(*python.pin()), python.engines)


def _bases(  # noqa: PLR0913 - as above
    stack: Stack,
    former: Former,
    *,
    mirrors: Callable[[frozenset[str]], Mirrors],
    store: Store,
    progress: Progress,
    scratch: Path,
    gaps: Gaps,
) -> tuple[LockedInterpreter | None, tuple[LockedImage, ...], tuple[LockedDeb, ...]]:
    """Return this machine's interpreter, what the root file systems stand on, and the packages that follow from it."""
    # Asks this machine alone: what is wrong here is said before anybody else is asked.
    interpreter = InterpreterPinner(
        stack=stack, former=former, store=store, progress=progress, gaps=gaps
    ).pin()
    images = ImagePinner(stack=stack, former=former, mirrors=mirrors, progress=progress, gaps=gaps).pin()
    debs = DebPinner(
        stack=stack,
        former=former,
        mirrors=mirrors,
        progress=progress,
        scratch=scratch,
        gaps=gaps,
        images=images,
        store=store,
    )
    return interpreter, images, debs.pin()


def _with_pins(lock: Lock, former: Lock | None, plan: Plan, store: Store, repin: frozenset[str]) -> Lock:
    """Return the lock with pins of what is built, compiled and stamped.

    A former pin stays while its derivation is the same; else what the store has is pinned.
    """

    def pins(builds: Iterable[tuple[str, StorePath]]) -> tuple[BuiltPin, ...]:
        found = (
            (former.pin_of(path) if former and name not in repin else None) or _pin(name, path, store)
            for name, path in builds
        )
        return tuple(pin for pin in found if pin)

    return replace(lock, pins=pins(plan.builds), compiled=pins(plan.compiles))


def _pin(name: str, path: StorePath, store: Store) -> BuiltPin | None:
    info = store.info(path)
    wheel = next((o for o in info.outputs if o[0].endswith(".whl")), None) if info else None
    if wheel is None:
        return None
    file = LockedFile(filename=wheel[0], sha256=wheel[1], size=wheel[2])
    return BuiltPin(name=name, derivation=path, wheel=file)


def _moved(former: Lock | None, lock: Lock) -> tuple[str, ...]:
    """Return a line for each pin that differs between two locks."""
    if former is None:
        return ()

    def pins(one: Lock) -> dict[str, str]:
        found = {package.name: package.version for package in one.runtime}
        for environment, packages in one.build:
            label = f"build environment {environment}".strip()
            found |= {f"{package.name} ({label})": package.version for package in packages}
        found |= {f"{p.name} (conda)": f"{p.version} {p.build}" for p in one.conda}
        found |= {
            " ".join(filter(None, (f"{source.name} (source)", source.ref))): source.commit[:12]
            for source in one.sources
            if source.commit
        }
        found |= {f"{asset.name} (asset)": asset.sha256 or "open" for asset in one.assets}
        if one.interpreter:
            file = one.interpreter.file
            found["python (interpreter)"] = f"{one.interpreter.version} {file.sha256[:12]}"
        found |= {f"{image.root} (base image)": image.digest or "open" for image in one.images}
        return found | {f"{deb.package} (Debian)": deb.version for deb in one.debs}

    before, after = pins(former), pins(lock)
    after |= {f"{part.name} ({part.kind})": "open" for part in lock.open if part not in former.open}
    return tuple(
        f"{name}: {before.get(name, 'absent')} -> {after.get(name, 'absent')}"
        for name in sorted({*before, *after})
        if before.get(name) != after.get(name)
    )
