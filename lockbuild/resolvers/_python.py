"""What both Python engines share: reading the question, stubs as wheels, picking a wheel, the answer."""

from __future__ import annotations

import re
import zipfile
from collections import defaultdict
from datetime import UTC, date, datetime, timedelta
from typing import TYPE_CHECKING, Any
from urllib.parse import unquote, urldefrag, urlsplit

from packaging.markers import Marker
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name, parse_wheel_filename

from lockbuild.digest import parse_sha256
from lockbuild.errors import ResolveError
from lockbuild.lock import LockedFile, LockedPackage
from lockbuild.resolvers import PythonAnswer

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence
    from pathlib import Path

    from lockbuild.resolvers import PythonQuestion, Stub

__all__ = [
    "answer_of",
    "cutoff",
    "index_names",
    "no_wheel",
    "parse_via",
    "requested_names",
    "write_stub",
]

Graph = dict[str, frozenset[str]]
"""Normalised name -> names of the packages that it requires on the target."""


# ---- the question ----------------------------------------------------------------------------------


def requested_names(question: PythonQuestion) -> frozenset[str]:
    """Return the normalised names that the question's requirements ask for on its target."""
    environment = question.target.marker_environment()
    requirements = (Requirement(text) for text in question.requirements)
    return frozenset(
        canonicalize_name(requirement.name)
        for requirement in requirements
        if requirement.marker is None or requirement.marker.evaluate(environment)
    )


def index_names(question: PythonQuestion) -> dict[str, str]:
    """Return name of a package -> name of the one index that serves it; empty for a stub."""
    sources = {
        str(canonicalize_name(name)): index.name for index in question.indexes for name in index.only
    }
    return sources | {canonicalize_name(stub.name): "" for stub in question.stubs}


def cutoff(exclude_newer: str) -> str:
    """Return the first moment that is too late, in UTC, whatever the machine's time zone.

    A date takes its whole day in; a time without an offset is UTC.

    Raises:
        ResolveError: It is neither a date nor a time.
    """
    try:
        if re.fullmatch(r"\d{4}-\d\d-\d\d", exclude_newer):
            day = date.fromisoformat(exclude_newer) + timedelta(days=1)
            return f"{day.isoformat()}T00:00:00Z"
        moment = datetime.fromisoformat(exclude_newer)
    except ValueError as error:
        raise ResolveError(
            f"`exclude-newer`: found `{exclude_newer}`, expected a date or a time",
            hint="write it as `2025-06-01` or `2025-06-01T12:00:00Z`",
        ) from error
    moment = moment if moment.tzinfo else moment.replace(tzinfo=UTC)
    return moment.astimezone(UTC).isoformat().replace("+00:00", "Z")


def write_stub(stub: Stub, folder: Path) -> Path:
    """Write *stub* into *folder* as a wheel that holds nothing but its metadata; return its path."""
    stem = canonicalize_name(stub.name).replace("-", "_")
    lines = ["Metadata-Version: 2.1", f"Name: {stub.name}", f"Version: {stub.version}"]
    lines += [f"Requires-Dist: {requirement}" for requirement in stub.requires]
    content = {
        "METADATA": "\n".join(lines) + "\n",
        "WHEEL": "Wheel-Version: 1.0\nGenerator: lockbuild\nRoot-Is-Purelib: true\nTag: py3-none-any\n",
        "RECORD": "",
    }
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / f"{stem}-{stub.version}-py3-none-any.whl"
    with zipfile.ZipFile(path, "w") as archive:
        for name, text in content.items():
            archive.writestr(f"{stem}-{stub.version}.dist-info/{name}", text)
    return path


# ---- the answer ------------------------------------------------------------------------------------


def answer_of(
    question: PythonQuestion, packages: Iterable[Mapping[str, Any]], graph: Graph
) -> PythonAnswer:
    """Return the answer that the `packages` of a pylock.toml and the graph between them make.

    Packages that nothing asked for requires are left out.

    Raises:
        ResolveError: A package has no wheel for the target, or no sha256.
    """
    environment = question.target.marker_environment()
    tables = {
        str(table["name"]): table
        for table in packages
        if "marker" not in table or Marker(table["marker"]).evaluate(environment)
    }
    asked = requested_names(question)
    kept = _reachable(graph, asked) & tables.keys()
    sources, urls, locked = index_names(question), {}, []
    for name in sorted(kept):
        table = tables[name]
        index = sources.get(name, "pypi")
        file = None
        if index:
            wheel = _best_wheel(table, question)
            file = _locked_file(name, wheel)
            urls[file.filename] = urldefrag(wheel["url"]).url
        locked.append(
            LockedPackage(
                name=name,
                version=table["version"],
                index=index,
                wheel=file,
                dependencies=tuple(sorted((graph.get(name, frozenset()) & kept) - {name})),
                requested=name in asked,
            )
        )
    return PythonAnswer(packages=tuple(locked), urls=tuple(sorted(urls.items())))


def parse_via(text: str) -> tuple[dict[str, str], Graph]:
    """Return pins and graph of a requirements.txt with split annotations, uv's or pip-compile's.

    Pins that are addresses have an empty version.
    """
    pins: dict[str, str] = {}
    requires: defaultdict[str, set[str]] = defaultdict(set)
    current = ""
    for line in text.splitlines():
        if pinned := re.match(r"([A-Za-z0-9][\w.-]*)(?:\[[^]]*\])?\s*(?:==([^\s;\\]+)|@)", line):
            current = canonicalize_name(pinned[1])
            pins[current] = pinned[2] or ""
            continue
        origin = re.match(r"\s+#\s+(?:via\b\s*)?(.*)", line)
        # What is not a package's name alone is a file: `-r requirements.in`, `stack (pyproject.toml)`.
        if origin and re.fullmatch(r"[A-Za-z0-9][\w.-]*(?:\[[^]]*\])?", origin[1].strip()):
            requires[canonicalize_name(origin[1].partition("[")[0].strip())].add(current)
    return pins, {name: frozenset(names) for name, names in requires.items()}


def _reachable(graph: Graph, names: Iterable[str]) -> set[str]:
    found: set[str] = set()
    waiting = list(names)
    while waiting:
        name = waiting.pop()
        if name not in found:
            found.add(name)
            waiting.extend(graph.get(name, ()))
    return found


def _best_wheel(table: Mapping[str, Any], question: PythonQuestion) -> Mapping[str, Any]:
    """Return the wheel that an installer on the target takes: best tag, then highest build number."""
    wheels: Sequence[Mapping[str, Any]] = table.get("wheels", ())
    order = {tag: place for place, tag in enumerate(question.target.tags())}
    ranked = []
    for wheel in wheels:
        _, _, build, tags = parse_wheel_filename(_filename(wheel))
        fitting = [order[tag] for tag in tags if tag in order]
        if fitting:
            number = (-build[0], build[1]) if build else (1, "")
            ranked.append((min(fitting), number, _filename(wheel), wheel))
    if not ranked:
        raise no_wheel(f"{table['name']} {table['version']}", question, map(_filename, wheels))
    return min(ranked, key=lambda entry: entry[:3])[3]


def no_wheel(
    package: str, question: PythonQuestion, wheels: Iterable[str], details: Iterable[str] = ()
) -> ResolveError:
    """Return the error for a package, `NAME VERSION`, whose *wheels* do not fit the target."""
    target = question.target
    accepts = f"cp{target.python.replace('.', '')}, {next(target.platforms())} and older, any"
    found = ("its wheels:", *(f"  {name}" for name in wheels)) if wheels else ()
    return ResolveError(
        f"`{package}` has no wheel for the target",
        details=(*details, *(found if len(found) > 1 else ()), f"the target accepts: {accepts}"),
        hint=f"declare `{package.split(maxsplit=1)[0]}` under [[build]], or ask for a version that has a wheel",
    )


def _filename(wheel: Mapping[str, Any]) -> str:
    name = wheel.get("name") or urlsplit(wheel["url"]).path.rpartition("/")[2]
    return unquote(str(name))


def _locked_file(package: str, wheel: Mapping[str, Any]) -> LockedFile:
    hashes = wheel.get("hashes", {})
    if "sha256" not in hashes:
        raise ResolveError(
            f"`{package}`: the index tells no sha256 of `{_filename(wheel)}`",
            details=(f"found: {', '.join(sorted(hashes)) or 'no hash'}",),
            hint="use an index that tells sha256, or a mirror of it that does",
        )
    sha256 = parse_sha256(hashes["sha256"])
    return LockedFile(filename=_filename(wheel), sha256=sha256, size=wheel.get("size"))
