"""What components require of one another, word for word, as far as the store has them."""

from __future__ import annotations

import lzma
import re
import tarfile
import zipfile
import zlib
from typing import TYPE_CHECKING

from debian.arfile import ArError
from debian.deb822 import Deb822
from debian.debfile import DebError, DebFile
from packaging.requirements import InvalidRequirement, Requirement
from packaging.utils import canonicalize_name

from lockbuild.inventory.wheels import wheel_file
from lockbuild.wheels import dist_info_of, headers_of

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping
    from pathlib import Path

    from lockbuild.components import Component
    from lockbuild.lock import Lock
    from lockbuild.stack import Stack
    from lockbuild.store import Store

__all__ = ["Requirements"]

_EXTRA = re.compile(r"extra\s*==\s*['\"]([^'\"]+)")
_BROKEN = (
    ArError,
    DebError,
    EOFError,
    KeyError,
    OSError,
    RuntimeError,
    ValueError,
    lzma.LZMAError,
    tarfile.TarError,
    zipfile.BadZipFile,
    zlib.error,
)


class Requirements:
    """What components require, each read once: out of the store, and where it has them not out of stack and lock."""

    def __init__(self, stack: Stack, lock: Lock, store: Store) -> None:
        self._stack = stack
        self._store = store
        self._conda = {one.name: one.depends for one in lock.conda}
        self._said: dict[str, tuple[str, ...]] = {
            **{canonicalize_name(one.name): one.requires for one in stack.python.wheels},
            **{canonicalize_name(one.name): one.requires for one in stack.builds},
        }
        self._controls: dict[str, Mapping[str, str]] = {}
        self._dists: dict[str, tuple[str, ...]] = {}

    def of(self, one: Component, needed: Component) -> tuple[str, ...]:
        """Return how *one* says that it needs *needed*; nothing where nobody knows."""
        if one.kind == "wheel":
            return self._of_wheel(one, needed.name)
        if one.kind == "deb":
            return tuple(self._of_deb(one, needed))
        depends = self._conda.get(one.name, ()) if one.kind == "conda" else ()
        return tuple(text for text in depends if text.split(" ", 1)[0].lower() == needed.name)

    def essential(self, components: Iterable[Component]) -> frozenset[str]:
        """Return the names of those *components* that are Debian packages which every system must have."""
        debs = (one for one in components if one.kind == "deb")
        return frozenset(one.name for one in debs if self._control(one).get("Essential") == "yes")

    def _of_wheel(self, one: Component, name: str) -> tuple[str, ...]:
        """Return what holds on the target; where nothing does, what holds with one of the wheel's extras."""
        environment = self._stack.target.marker_environment()
        plain, extra = [], []
        for text in self._dist(one):
            try:
                requirement = Requirement(text)
            except InvalidRequirement:
                continue  # Old wheels require `foo (>=1.*)`, which no installer heeds.
            marker = requirement.marker
            if canonicalize_name(requirement.name) != name:
                continue
            if marker is None or marker.evaluate(environment):
                plain.append(text)
            elif any(marker.evaluate({**environment, "extra": other}) for other in _EXTRA.findall(text)):
                extra.append(text)
        return tuple(plain or extra)

    def _dist(self, one: Component) -> tuple[str, ...]:
        """Return the requirements of a wheel: its own metadata's, else those that the stack says of it."""
        if one.ref not in self._dists:
            file = wheel_file(one.path, self._store) if one.path else None
            own = _requires_dist(file) if file else None
            self._dists[one.ref] = self._said.get(one.name, ()) if own is None else own
        return self._dists[one.ref]

    def _of_deb(self, one: Component, needed: Component) -> Iterator[str]:
        control = self._control(one)
        names = {needed.name, *_names(self._control(needed).get("Provides", ""))}
        for field in ("Pre-Depends", "Depends"):
            for relation in control.get(field, "").split(","):
                if names & {*_names(relation)}:
                    yield " ".join(relation.split())

    def _control(self, one: Component) -> Mapping[str, str]:
        if one.ref not in self._controls:
            there = self._store.locate(one.path) if one.path and self._store.info(one.path) else None
            self._controls[one.ref] = _control_of(there) if there else {}
        return self._controls[one.ref]


def _requires_dist(file: Path) -> tuple[str, ...] | None:
    """Return what a wheel's METADATA requires; none where it cannot be read: the audit says so."""
    try:
        with zipfile.ZipFile(file) as archive:
            folder = dist_info_of(archive.namelist())
            return tuple(headers_of(archive.read(f"{folder}/METADATA")).get("Requires-Dist", ()))
    except _BROKEN:
        return None


def _control_of(file: Path) -> Mapping[str, str]:
    """Return the control fields of a .deb; none where it cannot be read: the audit says so."""
    try:
        with file.open("rb") as stream:
            text = DebFile(fileobj=stream).control.get_content("control") or b""
    except _BROKEN:
        return {}
    paragraphs = Deb822.iter_paragraphs(text.decode(errors="replace").splitlines(), use_apt_pkg=False)
    return next(iter(paragraphs), {})


def _names(relations: str) -> Iterator[str]:
    """Yield the names of packages in a field's relations, without versions and architectures."""
    for relation in re.split(r"[,|]", relations):
        if name := re.split(r"[\s(:\[<]", relation.strip(), maxsplit=1)[0]:
            yield name
