"""What becomes of a wheel between its builder and the store: normalised, and rejected when it is not what was promised."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from lockbuild import wheels
from lockbuild.errors import BuildError
from lockbuild.plan import EPOCH
from lockbuild.store import trees

if TYPE_CHECKING:
    from lockbuild.derivation import Build, BuildOutcome
    from lockbuild.lock import Lock
    from lockbuild.plan import Plan
    from lockbuild.stack import Stack

__all__ = ["finish_wheel", "normalised", "the_wheel"]


def finish_wheel(
    stack: Stack, lock: Lock, plan: Plan, build: Build, outcome: BuildOutcome
) -> BuildOutcome:
    """Normalise the one wheel of a build and reject it when it is not what the stack promises."""
    outcome = normalised(outcome) if build.kind == "wheel" else outcome
    if outcome.status != "built":
        return outcome
    try:
        faults = _faults(stack, lock, plan, the_wheel(outcome), build)
    except BuildError as error:
        faults = (error.message, *error.details)
    return _rejected(outcome, *faults) if faults else outcome


def normalised(outcome: BuildOutcome) -> BuildOutcome:
    """Normalise the one wheel that a compiling build gave; reject what is none."""
    output = outcome.output or Path()
    found = sorted(output.glob("*.whl"))
    if len(found) != 1:
        names = ", ".join(sorted(path.name for path in output.iterdir())) or "nothing"
        return _rejected(outcome, f"expected one wheel, found {names}")
    wheel = output / found[0].name
    raw = wheel.rename(output.parent / f"raw-{wheel.name}")
    try:
        wheels.normalise_wheel(raw, wheel, epoch=EPOCH)
    except BuildError as error:
        return _rejected(outcome, error.message, *error.details)
    return outcome


def the_wheel(outcome: BuildOutcome) -> Path:
    """Return the one wheel that a build gave."""
    (wheel,) = (outcome.output or Path()).glob("*.whl")
    return wheel


def _faults(stack: Stack, lock: Lock, plan: Plan, wheel: Path, build: Build) -> tuple[str, ...]:
    """Return what is wrong with the *wheel* that *build* gave."""
    made = (*plan.compiles, *plan.builds)
    spec = next(s for s in stack.builds if (s.name, build.path) in made)
    faults = list(wheels.check_wheel(wheel, expects=spec.expects))
    facts = wheels.inspect_wheel(wheel)
    version = spec.version
    if build.kind == "stamped":
        version = next((p.version for p in lock.runtime if p.name == spec.name), version)
    if (facts.name, facts.version) != (spec.name, version):
        faults.append(f"expected {spec.name} {version}, found {facts.name} {facts.version}")
    if not wheels.wheel_matches(wheel.name, stack.target):
        faults.append(
            f"`{wheel.name}` does not fit Python {stack.target.python} on {stack.target.platform}"
        )
    if pin := lock.pin_of(build.path):
        sha256 = trees.hash_file(wheel)
        if sha256 != pin.wheel.sha256:
            faults += [
                f"pinned sha256 {pin.wheel.sha256}",
                f"built  sha256 {sha256}",
                f"the build is not reproducible: `lockbuild resolve --repin {spec.name}` forgets the pin",
            ]
    return tuple(faults)


def _rejected(outcome: BuildOutcome, *faults: str) -> BuildOutcome:
    return replace(outcome, status="output-rejected", message="; ".join(faults))
