"""Where a wheel installs its files, and whose places these are: other wheels', or Python's own. Pure."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from packaging.utils import canonicalize_name

from lockbuild.wheels import missing_members, place_of

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from lockbuild.gate.facts import Contents, Expected, Runtime

__all__ = ["is_expected", "overwritten", "shared", "startup_files"]

# What `site` runs or reads, https://docs.python.org/3/library/site.html, and Python itself.
_STARTUP = re.compile(
    r"[^/]+\.pth|(?:site|user)customize(?:[./].*)?"
    r"|(?:\.\./){3}(?:pyvenv\.cfg|bin/python[\d.]*|lib(?:64)?/python3\.\d+/.*)",
    re.DOTALL,
)
_MODULE = re.compile(r"[^/]+(?:\.py|\.so)")
_DIST_INFO = re.compile(r"([^/]+?)-[^/-]+\.dist-info")
_SCRIPTS = "../../../bin/"
# What many a setup.py installs for everybody without wanting to.
_SLOPPY = frozenset(
    {
        *("benchmark", "benchmarks", "configs", "data", "demo", "demos", "doc", "docs", "example"),
        *("examples", "projects", "samples", "script", "scripts", "test", "tests", "tool", "tools"),
        *("util", "utils"),
    }
)

_Found = tuple[str, str]


def startup_files(contents: Contents, expected: Expected | None, _runtime: Runtime) -> Iterator[_Found]:
    """Yield what Python runs or reads whenever it starts, and the stack does not expect."""
    for member in contents.members:
        if _STARTUP.fullmatch(place_of(member)) and not is_expected(member, expected):
            yield (
                member,
                "found a file that Python runs or reads at every start, expected none that `expects` does not name",
            )


def overwritten(contents: Contents, expected: Expected | None, runtime: Runtime) -> Iterator[_Found]:
    """Yield what takes the place of another wheel's file, or is put into the package that is called as its project."""
    for member, owners in _conflicts(contents, runtime):
        if not _is_harmless(place_of(member), owners):
            yield (
                member,
                f"found a file that comes with {owners[0]} as well, expected none of another wheel",
            )
    for top, (owner, members) in _planted(contents, expected, runtime).items():
        if _is_named_after(top, owner):
            yield members[0], _said(top, owner, members)


def shared(contents: Contents, expected: Expected | None, runtime: Runtime) -> Iterator[_Found]:
    """Yield what shares a place with other wheels' files in the way that careless projects do."""
    for member, owners in _conflicts(contents, runtime):
        if _is_harmless(place_of(member), owners):
            yield (
                member,
                f"found a file that comes with {', '.join(owners)} as well; which one stays is chance",
            )
    for top, (owner, members) in _planted(contents, expected, runtime).items():
        if not _is_named_after(top, owner):
            yield members[0], _said(top, owner, members)


def _said(top: str, owner: str, members: list[str]) -> str:
    more = f" and {len(members) - 1} more" if len(members) > 1 else ""
    return f"found this file{more} in `{top}`, a package of {owner}, expected none that `expects` does not name"


def _conflicts(contents: Contents, runtime: Runtime) -> Iterator[tuple[str, list[str]]]:
    for member in contents.members:
        if owners := _others(contents, runtime, place_of(member)):
            yield member, owners


def _others(contents: Contents, runtime: Runtime, place: str) -> list[str]:
    return [owner for owner in runtime.owners.get(place, ()) if owner != contents.name]


def _is_harmless(place: str, owners: list[str]) -> bool:
    """Tell whether nobody misses the file that is lost: one of many, of tests and the like, or no code."""
    top, inside, _ = place.partition("/")
    if len(owners) > 1 or top in _SLOPPY:
        return True
    if top == "..":
        return not place.startswith(_SCRIPTS)
    return not inside and not _MODULE.fullmatch(top)


def _planted(
    contents: Contents, expected: Expected | None, runtime: Runtime
) -> Mapping[str, tuple[str, list[str]]]:
    """Return package -> owner and members that are put into it, for each package that is one other wheel's alone."""
    found: dict[str, tuple[str, list[str]]] = {}
    places = {place_of(member): member for member in contents.members}
    for place, member in places.items():
        top, inside, _ = place.partition("/")
        # A wheel that has the package's own __init__.py takes its place, which is told.
        if not inside or top in _SLOPPY or f"{top}/__init__.py" in places:
            continue
        owners = _owners_of(contents, runtime, top)
        taken = _others(contents, runtime, place)
        if len(owners) == 1 and not taken and not is_expected(member, expected):
            found.setdefault(top, (owners[0], []))[1].append(member)
    return found


def _owners_of(contents: Contents, runtime: Runtime, top: str) -> list[str]:
    """Return the other wheels whose the folder *top* in site-packages is."""
    if described := _DIST_INFO.fullmatch(top):
        name = canonicalize_name(described[1])
        return [name] if name in runtime.installed and name != contents.name else []
    return _others(contents, runtime, f"{top}/__init__.py")


def _is_named_after(top: str, owner: str) -> bool:
    described = _DIST_INFO.fullmatch(top)
    return canonicalize_name(described[1] if described else top) == owner


def is_expected(member: str, expected: Expected | None) -> bool:
    """Tell whether a pattern of `build.expects` fits *member*."""
    patterns = expected.patterns if expected else ()
    return any(not missing_members((member,), (pattern,)) for pattern in patterns)
