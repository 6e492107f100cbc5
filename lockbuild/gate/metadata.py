"""What a wheel's METADATA asks of Python and of other packages. Pure."""

from __future__ import annotations

from typing import TYPE_CHECKING

from packaging.markers import UndefinedEnvironmentName
from packaging.requirements import InvalidRequirement, Requirement
from packaging.specifiers import InvalidSpecifier, SpecifierSet
from packaging.utils import canonicalize_name
from packaging.version import InvalidVersion

if TYPE_CHECKING:
    from collections.abc import Iterator

    from lockbuild.gate.facts import Contents, Expected, Runtime
    from lockbuild.target import Target

__all__ = ["python_fault", "unmet_requirements"]

# A target names no patch release: any one will do.
_MOST_PATCHES = 50


def python_fault(said: str | None, target: Target) -> str | None:
    """Return why *said*, its `Requires-Python`, keeps a wheel from the target's Python; none where it does not."""
    if said is None:
        return None
    try:
        wanted = SpecifierSet(said)
    except InvalidSpecifier:
        return f"found `Requires-Python: {said}`, expected versions of Python"
    if any(wanted.contains(f"{target.python}.{patch}") for patch in range(_MOST_PATCHES)):
        return None
    return f"found `Requires-Python: {said}`, expected one that Python {target.python} fits"


def unmet_requirements(
    contents: Contents, _expected: Expected | None, runtime: Runtime
) -> Iterator[tuple[str, str]]:
    """Yield what a wheel requires of other packages and the lock has not; extras are nobody's wish."""
    environment = runtime.target.marker_environment()
    for said in contents.requires:
        try:
            wanted = Requirement(said)
            applies = wanted.marker is None or wanted.marker.evaluate(environment)
        except (InvalidRequirement, UndefinedEnvironmentName):
            yield "", f"found `Requires-Dist: {said}`, expected a requirement"
            continue
        if not applies:
            continue
        version = runtime.installed.get(canonicalize_name(wanted.name))
        if version is None:
            yield "", f"needs `{wanted}`, expected in the lock"
        elif not _fits(version, wanted.specifier):
            yield "", f"needs `{wanted}`, expected what {wanted.name} {version} fits, the lock's"


def _fits(version: str, specifier: SpecifierSet) -> bool:
    try:
        return specifier.contains(version, prereleases=True)
    except InvalidVersion:
        return True  # conda's versions have a form of their own
