"""What becomes of a wheel between its builder and the store: normalised, and rejected when it is not what was promised."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

from lockbuild import wheels
from lockbuild.errors import BuildError
from lockbuild.plan import EPOCH
from lockbuild.store import trees

if TYPE_CHECKING:
    from lockbuild.derivation import Build, BuildOutcome
    from lockbuild.digest import Sha256
    from lockbuild.lock import Lock
    from lockbuild.plan import Plan
    from lockbuild.stack import Stack
    from lockbuild.target import Target

__all__ = ["Promise", "finish_wheel", "promise_of"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Promise:
    """What the wheel of a build must be."""

    name: str
    """Normalised."""
    version: str
    """With its label, where it is stamped."""
    expects: tuple[str, ...] = ()
    """Patterns of files that it must hold."""
    target: Target | None = None
    """The machine that it must fit; none where nobody says it."""
    sha256: Sha256 | None = None
    """What it is pinned to."""


def promise_of(stack: Stack, lock: Lock, plan: Plan, build: Build) -> Promise:
    """Return what *stack* and *lock* promise of the wheel that *build* gives."""
    made = (*plan.compiles, *plan.builds)
    spec = next(s for s in stack.builds if (s.name, build.path) in made)
    version, pin = spec.version, lock.pin_of(build.path)
    if build.kind == "stamped":
        version = next((p.version for p in lock.runtime if p.name == spec.name), version)
    return Promise(
        name=spec.name,
        version=version,
        expects=spec.expects,
        target=stack.target,
        sha256=pin.wheel.sha256 if pin else None,
    )


def finish_wheel(promise: Promise, build: Build, outcome: BuildOutcome) -> BuildOutcome:
    """Normalise the one wheel of a build and reject it when it is not what was promised."""
    output = outcome.output or Path()
    found = sorted(output.glob("*.whl"))
    if len(found) != 1:
        names = ", ".join(sorted(path.name for path in output.iterdir())) or "nothing"
        return _rejected(outcome, f"expected one wheel, found {names}")
    wheel = output / found[0].name
    try:
        # What is stamped has been normalised by who stamped it.
        if build.kind == "wheel":
            raw = wheel.rename(output.parent / f"raw-{wheel.name}")
            wheels.normalise_wheel(raw, wheel, epoch=EPOCH)
        faults = _faults(promise, wheel)
    except BuildError as error:
        faults = (error.message, *error.details)
    return _rejected(outcome, *faults) if faults else outcome


def _faults(promise: Promise, wheel: Path) -> tuple[str, ...]:
    """Return what is wrong with the *wheel* that a build gave."""
    faults = list(wheels.check_wheel(wheel, expects=promise.expects))
    facts = wheels.inspect_wheel(wheel)
    if (facts.name, facts.version) != (promise.name, promise.version):
        faults.append(f"expected {promise.name} {promise.version}, found {facts.name} {facts.version}")
    target = promise.target
    if target and not wheels.wheel_matches(wheel.name, target):
        faults.append(f"`{wheel.name}` does not fit Python {target.python} on {target.platform}")
    if promise.sha256 and (sha256 := trees.hash_file(wheel)) != promise.sha256:
        faults += [
            f"pinned sha256 {promise.sha256}",
            f"built  sha256 {sha256}",
            f"the build is not reproducible: `lockbuild resolve --repin {promise.name}` forgets the pin",
        ]
    return tuple(faults)


def _rejected(outcome: BuildOutcome, *faults: str) -> BuildOutcome:
    return replace(outcome, status="output-rejected", message="; ".join(faults))
