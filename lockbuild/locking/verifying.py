"""Comparing the wheels that a stack pins by their bytes with what is published of them."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import TYPE_CHECKING

from packaging.requirements import InvalidRequirement, Requirement
from packaging.utils import canonicalize_name

from lockbuild import wheels
from lockbuild.errors import FetchError, ResolveError
from lockbuild.locking.gaps import one_line

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping

    from lockbuild.lock import Lock
    from lockbuild.progress import Progress
    from lockbuild.sources import Mirrors
    from lockbuild.stack import PinnedWheel, Stack

__all__ = ["Unverified", "verify_pins"]

_SIDE_BY_SIDE = 4


@dataclass(frozen=True, slots=True, kw_only=True)
class Unverified:
    """A pinned wheel that nothing published speaks for, and why not."""

    name: str
    reason: str


def verify_pins(
    stack: Stack, lock: Lock, *, mirrors: Callable[[frozenset[str]], Mirrors], progress: Progress
) -> tuple[Unverified, ...]:
    """Compare every pinned wheel with its index, and return those that cannot be compared.

    The sha256 must be the one that a page tells of that file; where an index offers the wheel's own metadata
    (PEP 658), `requires` must say the same for the target.

    Raises:
        ResolveError: Some are not what is published, each with both sides.
    """
    files = {package.name: package.wheel for package in lock.runtime}
    pinned = [
        (wheel, file.sha256)
        for wheel in stack.python.wheels
        if (file := files.get(wheel.name)) is not None
    ]
    if not pinned:
        return ()
    known = mirrors(frozenset({"pypi"}))
    faults: list[str] = []
    unverified: list[Unverified] = []
    pool = ThreadPoolExecutor(max_workers=_SIDE_BY_SIDE, thread_name_prefix="pins")
    try:
        with progress.phase("verifying pins", total=len(pinned), unit="wheels") as phase:
            asked = [pool.submit(_faults, stack, wheel, sha256, known) for wheel, sha256 in pinned]
            for (wheel, _), answer in zip(pinned, asked, strict=True):
                try:
                    found = answer.result()
                    faults += found
                    phase.line(f"{wheel.name}: {'as published' if not found else 'not as published'}")
                except FetchError as error:
                    reason = "; ".join(f"{address}: {why}" for address, why in error.tried)
                    unverified.append(Unverified(name=wheel.name, reason=one_line(reason)))
                    phase.line(f"{wheel.name}: {error.message}")
                phase.advance(1)
    finally:
        pool.shutdown(wait=False, cancel_futures=True)
    if faults:
        raise ResolveError(
            "pinned wheels are not what is published",
            details=tuple(faults),
            hint="find out which is right, then correct `python.wheel` in the stack",
        )
    return tuple(unverified)


def _faults(stack: Stack, wheel: PinnedWheel, sha256: str, mirrors: Mirrors) -> list[str]:
    """Return a line for each thing that is published otherwise.

    Raises:
        FetchError: Nobody tells.
    """
    from lockbuild import sources  # noqa: PLC0415 - only who verifies asks

    index = next((index for index in stack.python.indexes if wheel.name in index.only), None)
    found = sources.listed(
        wheel.filename,
        project=wheel.name,
        index=index.name if index else "pypi",
        index_url=index.url if index else None,
        urls=wheel.url,
        mirrors=mirrors,
    )
    where = f"`python.wheel[{wheel.name}]`"
    faults = []
    if found.file.sha256 != sha256:
        faults += [
            f"{where}: pinned    sha256 {sha256}",
            f"{where}: published sha256 {found.file.sha256} by {found.page}",
        ]
    if found.metadata is not None:
        environment = stack.target.marker_environment()
        stated = _holding(wheel.requires, environment)
        told = _holding(wheels.requires_of(found.metadata), environment)
        faults += [
            f"{where}.requires: lacks `{text}`, which its metadata says" for text in told - stated
        ]
        faults += [
            f"{where}.requires: has `{text}`, which its metadata does not say" for text in stated - told
        ]
    return sorted(faults, key=lambda line: line.partition(":")[0])


def _holding(requirements: Iterable[str], environment: Mapping[str, str]) -> set[str]:
    """Return in one spelling what holds of *requirements* on the target."""
    found = set()
    for text in requirements:
        try:
            requirement = Requirement(text)
        except InvalidRequirement:
            # Old metadata has forms that no tool takes today.
            found.add(text)
            continue
        if requirement.marker is None or requirement.marker.evaluate({**environment, "extra": ""}):
            extras = f"[{','.join(sorted(requirement.extras))}]" if requirement.extras else ""
            bounds = ",".join(sorted(map(str, requirement.specifier)))
            found.add(f"{canonicalize_name(requirement.name)}{extras}{bounds}")
    return found
