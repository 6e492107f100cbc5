"""How two locked stacks differ: what is in them, under which licences, how large they are. Pure.

What is built again because of it stands in `lockbuild.plan.changes`.
"""

from __future__ import annotations

import json
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Literal

from packaging.version import InvalidVersion, Version

from lockbuild.plan import image_env
from lockbuild.stack.assets import image_paths

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping, Sequence

    from lockbuild.components import Component
    from lockbuild.lock import Lock, LockedPackage
    from lockbuild.osv import Vulnerability
    from lockbuild.stack import Stack

__all__ = [
    "GROUPS",
    "Change",
    "How",
    "LicenceChange",
    "Licences",
    "Part",
    "Vulnerabilities",
    "changes",
    "download_size",
    "installed_size",
    "licences",
    "parts_of",
    "vulnerabilities",
]

GROUPS = {
    "target": "Target",
    "base": "Base images",
    "interpreter": "Interpreter",
    "wheel": "Python packages",
    "deb": "Debian packages",
    "conda": "Conda packages",
    "source": "Sources",
    "asset": "Assets",
    "toolchain": "Toolchain",
    "build-wheel": "Build environments",
    "env": "Environment variables",
    "image": "Image settings",
}
"""Kind of a part -> its heading, in the order in which they are told."""

How = Literal["up", "down", "changed", "bytes", "added", "removed"]
"""`bytes`: the same version, made of other bytes. `changed`: nobody knows which of two versions is the later."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Part:
    """One thing that a lock or a stack says, to be compared with what another says of the same name."""

    kind: str
    """A key of `GROUPS`."""
    name: str
    version: str
    """What people call it: a version, a commit, a value."""
    content: str = ""
    """What decides whether it is the same; empty where the version does."""
    order: Literal["", "debian", "pep440"] = ""
    """By which rules one version is later than another; empty where none is."""
    size: int | None = None
    """Bytes that are downloaded for it."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Change:
    """One thing that differs."""

    kind: str
    name: str
    how: How
    old: str = ""
    """Empty for what was added."""
    new: str = ""
    """Empty for what was removed."""
    old_size: int | None = None
    new_size: int | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class LicenceChange:
    """A component that both sides have, under another licence."""

    name: str
    old: str
    new: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Licences:
    """Which licences of what images hold come and go; an empty expression is one that nothing tells.

    Parts that were not looked into say nothing: what the store has not got tells no licence.
    """

    changed: tuple[LicenceChange, ...]
    gained: tuple[tuple[str, tuple[str, ...]], ...]
    """Expression that nothing had before -> the components that have it; both sorted."""
    lost: tuple[tuple[str, tuple[str, ...]], ...]
    """Expression that nothing has any more -> the components that had it."""
    unknown: tuple[int, int]
    """How many parts of either side were not looked into."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Vulnerabilities:
    """Known vulnerabilities that only one side has."""

    gained: tuple[Vulnerability, ...]
    lost: tuple[Vulnerability, ...]
    both: int
    """How many both sides have."""


# ---- parts ---------------------------------------------------------------------------------------


def parts_of(lock: Lock, stack: Stack | None) -> tuple[Part, ...]:
    """Return everything that *lock* pins and *stack* decides, in the order of `GROUPS`.

    Args:
        stack: None where the lock stands alone.
    """
    found = [
        *_packages(lock),
        *_debs(lock),
        *_sources(lock),
        *(
            Part(
                kind="conda",
                name=one.name,
                version=one.version,
                content=one.sha256,
                order="pep440",
                size=one.size,
            )
            for one in lock.conda
        ),
        *(
            Part(
                kind="asset",
                name=one.name,
                version=f"sha256 {one.sha256[:12]}" if one.sha256 else "open",
                content=one.sha256 or "",
                size=one.archive.size if one.archive else one.size,
            )
            for one in lock.assets
        ),
        *(
            Part(
                kind="base",
                name=one.root,
                version=one.reference,
                content=one.digest or "",
                size=one.manifest.size if one.manifest else None,
            )
            for one in lock.images
        ),
    ]
    if lock.interpreter:
        file = lock.interpreter.file
        version = lock.interpreter.version
        host = Part(
            kind="interpreter", name="host", version=version, content=file.sha256, size=file.size
        )
        found.append(replace(host, order="pep440"))
    found += _declared(lock, stack) if stack else ()
    order = list(GROUPS)
    return tuple(sorted(found, key=lambda part: (order.index(part.kind), part.name)))


def _packages(lock: Lock) -> Iterator[Part]:
    runtime = {(one.name, one.version, _content(one, lock)) for one in lock.runtime}
    for one in lock.runtime:
        yield _package("wheel", one.name, one, lock)
    for environment, packages in lock.build:
        for one in packages:
            # What ships stands among the Python packages already.
            if (one.name, one.version, _content(one, lock)) not in runtime:
                name = f"{one.name} ({environment})" if environment else one.name
                yield _package("build-wheel", name, one, lock)


def _package(kind: str, name: str, one: LockedPackage, lock: Lock) -> Part:
    size = one.wheel.size if one.wheel else None
    return Part(
        kind=kind,
        name=name,
        version=one.version,
        content=_content(one, lock),
        order="pep440",
        size=size,
    )


def _content(one: LockedPackage, lock: Lock) -> str:
    """Return the sha256 of a wheel; of one that is built where it is pinned."""
    pin = None if one.wheel else lock.pin(one.name)
    file = one.wheel or (pin.wheel if pin else None)
    return file.sha256 if file else ""


def _debs(lock: Lock) -> Iterator[Part]:
    for one in lock.debs:
        kind = "deb" if "runtime" in one.roots else "toolchain"
        yield Part(
            kind=kind,
            name=one.package,
            version=one.version,
            content=one.sha256,
            order="debian",
            size=one.size,
        )


def _sources(lock: Lock) -> Iterator[Part]:
    for one in lock.sources:
        version = one.commit[:12] if one.commit else one.version or f"sha256 {one.file.sha256[:12]}"
        yield Part(
            kind="source",
            name=one.name,
            version=version,
            content=one.file.sha256,
            order="" if one.commit else "pep440",
            size=one.file.size,
        )
        for path, file in one.patches:
            yield Part(kind="source", name=f"{one.name}: {path}", version=f"sha256 {file.sha256[:12]}")


def _declared(lock: Lock, stack: Stack) -> Iterator[Part]:
    """Yield what the stack decides and no file stands for."""
    target = stack.target
    for name, value in {
        "python": target.python,
        "platform": target.platform,
        "glibc": target.glibc,
        "cuda": target.cuda or "",
        "cuda-architectures": " ".join(target.cuda_architectures),
    }.items():
        if value:
            yield Part(kind="target", name=name, version=value)
    if stack.base.archive:
        archive = stack.base.archive
        yield Part(
            kind="base",
            name="archive",
            version=" ".join((archive.vendor, archive.suite, *archive.updates)),
        )
    own = stack.interpreter
    # The machine's Python is in the lock, once somebody has resolved it.
    host = None if lock.interpreter else own.host
    commands = {"apt": own.apt, "image": own.image, "conda": own.conda, "host": host}
    for name, command in commands.items():
        if command:
            yield Part(kind="interpreter", name=name, version=command)
    if own.standalone:
        one = own.standalone
        yield Part(
            kind="interpreter",
            name="standalone",
            version=one.filename,
            content=one.sha256,
            size=one.size,
        )
    nvcc = stack.toolchain.nvcc
    if value := nvcc.apt or nvcc.image or " ".join(nvcc.wheels):
        yield Part(kind="toolchain", name="nvcc", version=value)
    if stack.toolchain.compiler:
        yield Part(kind="toolchain", name="compiler", version=stack.toolchain.compiler)
    for name, value in {**image_env(lock.image("runtime")), **dict(stack.env)}.items():
        yield Part(kind="env", name=name, version=value)
    for spec in stack.builds:
        for name, value in spec.env:
            yield Part(kind="env", name=f"{name} (build {spec.name})", version=value)
    for name, value in _settings(stack):
        yield Part(kind="image", name=name, version=value)


def _settings(stack: Stack) -> Iterator[tuple[str, str]]:
    """Yield what else the image follows from, by its key in the stack file, each value on one line."""
    image = stack.image
    said = {
        "summary": " ".join(stack.summary.split()),
        "image.user": image.user,
        "image.workdir": image.workdir,
        "image.entrypoint": _listed(image.entrypoint),
        "image.command": _listed(image.command),
        "preflight.gpu": stack.gpu,
        "preflight.imports": _listed(stack.imports),
        "preflight.checks": _listed(stack.checks),
    }
    yield from ((name, value) for name, value in said.items() if value)
    for mount in stack.mounts:
        holds = (f"holds {_listed(mount.holds)}",) if mount.holds else ()
        why = (" ".join(mount.why.split()),) if mount.why else ()
        needed = "optional" if mount.optional else "required"
        yield f"mount {mount.path}", "; ".join((needed, *holds, *why))
    for asset in stack.bundles:
        yield f"asset {asset.name}", " ".join(image_paths(asset.path, asset.members))
    for source in stack.placed:
        yield f"source {source.name}", f"{source.path}{', writable' if source.writable else ''}"


def _listed(values: Sequence[str]) -> str:
    """Return a list as the stack file may have it; empty where there is nothing in it."""
    return json.dumps(values, ensure_ascii=False) if values else ""


# ---- changes -------------------------------------------------------------------------------------


def changes(old: Iterable[Part], new: Iterable[Part]) -> tuple[Change, ...]:
    """Return what differs between two sides, in the order of `GROUPS`, then by name."""
    before = {(part.kind, part.name): part for part in old}
    after = {(part.kind, part.name): part for part in new}
    order = list(GROUPS)
    keys = sorted({*before, *after}, key=lambda key: (order.index(key[0]), key[1]))
    found = (_change(*key, before.get(key), after.get(key)) for key in keys)
    return tuple(change for change in found if change)


def _change(kind: str, name: str, old: Part | None, new: Part | None) -> Change | None:
    how = _how(old, new) if old and new else "added" if new else "removed"
    if how is None:
        return None
    return Change(
        kind=kind,
        name=name,
        how=how,
        old=old.version if old else "",
        new=new.version if new else "",
        old_size=old.size if old else None,
        new_size=new.size if new else None,
    )


def _how(old: Part, new: Part) -> How | None:
    """Return how one part became the other; none where it is the same."""
    if old.version == new.version:
        # A wheel that is built has no bytes before it is pinned.
        other = old.content and new.content and old.content != new.content
        return "bytes" if other else None
    if old.order and old.order == new.order:
        later = _compare(old.version, new.version, new.order)
        if later:
            return "up" if later > 0 else "down"
    return "changed"


def _compare(old: str, new: str, order: str) -> int:
    """Return a positive number where *new* is later than *old*, 0 where nobody can tell."""
    if order == "debian":
        from debian.debian_support import version_compare  # noqa: PLC0415 - only where .debs differ

        return int(version_compare(new, old))
    try:
        first, second = Version(old), Version(new)
    except InvalidVersion:
        return 0
    return (second > first) - (second < first)


# ---- components ----------------------------------------------------------------------------------


def licences(old: Sequence[Component], new: Sequence[Component]) -> Licences:
    """Return which licences change, come and go in what images hold."""
    before, after = _licensed(old), _licensed(new)
    both = sorted(before.keys() & after.keys())
    return Licences(
        changed=tuple(
            LicenceChange(name=name, old=before[kind, name], new=after[kind, name])
            for kind, name in both
            if before[kind, name] != after[kind, name]
        ),
        gained=_only(after, before),
        lost=_only(before, after),
        unknown=(_unknown(old), _unknown(new)),
    )


def _licensed(components: Iterable[Component]) -> dict[tuple[str, str], str]:
    return {(one.kind, one.name): one.licence for one in components if one.in_image and _known(one)}


def _known(component: Component) -> bool:
    """Tell whether somebody has looked into *component*."""
    return bool(component.licence) or component.installed_size is not None


def _unknown(components: Iterable[Component]) -> int:
    return sum(one.in_image and not _known(one) for one in components)


def _only(
    side: Mapping[tuple[str, str], str], other: Mapping[tuple[str, str], str]
) -> tuple[tuple[str, tuple[str, ...]], ...]:
    found: dict[str, list[str]] = {}
    for (_, name), expression in sorted(side.items()):
        if expression not in set(other.values()):
            found.setdefault(expression, []).append(name)
    return tuple((expression, tuple(names)) for expression, names in sorted(found.items()))


def vulnerabilities(old: Iterable[Vulnerability], new: Iterable[Vulnerability]) -> Vulnerabilities:
    """Return which vulnerabilities only one side has, whatever version of a package has them."""
    before, after = ({(*one.package.key, one.id): one for one in side} for side in (old, new))
    return Vulnerabilities(
        gained=tuple(after[key] for key in sorted(after.keys() - before.keys())),
        lost=tuple(before[key] for key in sorted(before.keys() - after.keys())),
        both=len(before.keys() & after.keys()),
    )


def download_size(parts: Iterable[Part]) -> int:
    """Return how many bytes *parts* are that are fetched, each file once; those that nobody knows count nothing."""
    sizes = {(part.content or (part.kind, part.name)): part.size or 0 for part in parts}
    return sum(sizes.values())


def installed_size(components: Iterable[Component]) -> tuple[int, int]:
    """Return how many bytes *components* take in the image, and of how many nobody knows."""
    sizes = [one.installed_size for one in components if one.in_image]
    return sum(size or 0 for size in sizes), sizes.count(None)
