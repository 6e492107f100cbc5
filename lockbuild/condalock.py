"""Conda packages in a lock: their bytes, and which of a stack's channels has them. Pure."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from lockbuild.digest import Sha256, parse_sha256

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

__all__ = [
    "CONDA_LOCK",
    "LINK_SCRIPT",
    "LockedConda",
    "conda_table",
    "in_link_order",
    "parse_conda",
]

CONDA_LOCK = "conda-lock.yml"
"""The file that conda-lock reads. Nothing of lockbuild does: `lockbuild.lock` says the same and more."""

LINK_SCRIPT = re.compile(r"(^|/)bin/\.[^/]+-(post|pre)-link\.sh$")
"""Path of a program that conda runs when it installs a package: `bin/.NAME-post-link.sh`."""

_CHANNEL = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]*")
_SUBDIR = re.compile(r"[a-z0-9-]+")
_FILENAME = re.compile(r"[A-Za-z0-9_][A-Za-z0-9._+!~%-]*\.(conda|tar\.bz2)")
_MD5 = re.compile(r"[0-9a-f]{32}")


@dataclass(frozen=True, slots=True, kw_only=True)
class LockedConda:
    """A conda package as solved for the target."""

    name: str
    version: str
    build: str
    """Build string: `py311h12c1d0e_0`."""
    channel: str
    """Name of the channel that serves it."""
    subdir: str
    """Folder of the channel: `linux-64` or `noarch`."""
    filename: str
    md5: str
    """What conda's own tools check; lockbuild goes by the sha256."""
    sha256: Sha256
    size: int
    depends: tuple[str, ...] = ()
    """What it requires, as the channel says it: `libgcc >=13`, `__glibc >=2.17`."""
    requested: bool = False
    """Whether the stack itself asks for it."""

    @property
    def needs(self) -> tuple[str, ...]:
        """Names of the packages it requires, without virtual ones, in their order."""
        names = (depend.split(" ", 1)[0].lower() for depend in self.depends)
        return tuple(dict.fromkeys(name for name in names if not name.startswith("__")))


def conda_table(package: LockedConda) -> dict[str, Any]:
    """Return *package* as the lock writes it."""
    table: dict[str, Any] = {
        "name": package.name,
        "version": package.version,
        "build": package.build,
        "channel": package.channel,
        "subdir": package.subdir,
        "filename": package.filename,
        "size": package.size,
        "md5": package.md5,
        "sha256": package.sha256,
    }
    if package.depends:
        table["depends"] = list(package.depends)
    if package.requested:
        table["requested"] = True
    return table


def parse_conda(table: Mapping[str, Any]) -> LockedConda:
    """Return the package in a lock's *table*.

    Raises:
        KeyError: Something is missing.
        ValueError: A name could lead out of a folder or an address, or a hash is none.
    """
    for key, pattern in (
        ("channel", _CHANNEL),
        ("subdir", _SUBDIR),
        ("filename", _FILENAME),
        ("md5", _MD5),
    ):
        if not pattern.fullmatch(table[key]):
            msg = f"not the {key} of a conda package: {table[key]!r}"
            raise ValueError(msg)
    return LockedConda(
        name=table["name"],
        version=table["version"],
        build=table["build"],
        channel=table["channel"],
        subdir=table["subdir"],
        filename=table["filename"],
        size=table["size"],
        md5=table["md5"],
        sha256=parse_sha256(table["sha256"]),
        depends=tuple(table.get("depends", ())),
        requested=table.get("requested", False),
    )


def in_link_order(packages: Iterable[LockedConda]) -> tuple[LockedConda, ...]:
    """Return *packages* with each after those it requires, as far as they do not require one another."""
    by_name = {package.name: package for package in packages}
    found: dict[str, LockedConda] = {}
    entered: set[str] = set()

    # No recursion: chains of requirements may be longer than Python's stack is deep.
    for start in sorted(by_name):
        waiting = [(start, False)]
        while waiting:
            name, ready = waiting.pop()
            if ready:
                found[name] = by_name[name]
            elif name not in entered:
                entered.add(name)
                needs = sorted(set(by_name[name].needs) & by_name.keys(), reverse=True)
                waiting += [(name, True), *((need, False) for need in needs)]
    return tuple(found.values())
