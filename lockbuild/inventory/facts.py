"""What objects of the store tell of what they hold, and the notes that keep it."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass, field, replace
from typing import TYPE_CHECKING, Any, TypeVar

from lockbuild.components import LicenceFile
from lockbuild.digest import parse_sha256
from lockbuild.documents import json_text
from lockbuild.licences.told import Told

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping

    from lockbuild.components import Component
    from lockbuild.digest import StorePath
    from lockbuild.store import Store

__all__ = ["READING", "Facts", "PackageFacts", "known", "noted", "parse_facts", "parse_package"]

READING = 11
"""Raised whenever the same object would be read otherwise, by other rules for licences, say. Notes are named by it."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Facts:
    """What a wheel, a tree or a package tells."""

    installed_size: int | None = None
    """Bytes of its files."""
    told: Told = field(default_factory=Told)
    files: tuple[LicenceFile, ...] = ()
    """Sorted by name."""


@dataclass(frozen=True, slots=True, kw_only=True)
class PackageFacts:
    """What a Debian package tells, or dpkg's record of an installed one."""

    package: str
    version: str
    architecture: str
    source: str
    """Source package and version, as locks have them: `zlib 1:1.2.13.dfsg-1`."""
    needs: tuple[tuple[str, ...], ...] = ()
    """For each requirement, the names of the packages of which any will do."""
    provides: tuple[str, ...] = ()
    vendor: str = ""
    """Whose system it is installed in, as that says: `ubuntu`."""
    suite: str = ""
    """The system's release: `focal`."""
    documented: str = ""
    """The package whose documents are its own, where it brings none but a link to them."""
    facts: Facts = field(default_factory=Facts)


def parse_facts(document: Mapping[str, Any], path: StorePath) -> Facts:
    """Return the facts of a note about the object *path*."""
    return Facts(
        installed_size=document["installed_size"],
        told=Told(**document["told"]),
        files=tuple(
            LicenceFile(name=file["name"], sha256=parse_sha256(file["sha256"]), path=path)
            for file in document["files"]
        ),
    )


def parse_package(document: Mapping[str, Any], path: StorePath) -> PackageFacts:
    """Return the facts of a package in a note about the object *path*."""
    return PackageFacts(
        **{key: document[key] for key in ("package", "version", "architecture", "source")},
        needs=tuple(tuple(names) for names in document["needs"]),
        provides=tuple(document["provides"]),
        vendor=document["vendor"],
        suite=document["suite"],
        documented=document["documented"],
        facts=parse_facts(document["facts"], path),
    )


_One = TypeVar("_One", Facts, PackageFacts)


def noted(  # noqa: PLR0913 - as keywords
    store: Store,
    path: StorePath,
    name: str,
    *,
    read: Callable[[], Iterable[_One]],
    parse: Callable[[Mapping[str, Any], StorePath], _One],
    several: bool = False,
) -> tuple[_One, ...]:
    """Return what was noted about the object *path* under *name*; where nothing was, *read* it and note it.

    Files come back with that path.

    Args:
        several: Whether it may tell any number of facts, and not one.
    """
    note = f"{name}-{READING}.json"
    text = store.note(path, note)
    if text is not None:
        try:
            found = tuple(parse(document, path) for document in json.loads(text))
            if several or len(found) == 1:
                return found
        except (AttributeError, KeyError, RecursionError, TypeError, ValueError):
            pass  # Nothing leans on a note: the object says it again.
    documents = [asdict(one) for one in read()]
    store.write_note(path, note, json_text(documents))
    return tuple(parse(document, path) for document in documents)


def known(component: Component, facts: Facts | None) -> Component:
    """Return *component* with what its object tells, where it was read."""
    if facts is None:
        return component
    return replace(
        component,
        installed_size=facts.installed_size,
        licence=facts.told.licence,
        declared=facts.told.declared,
        told_by=facts.told.told_by,
        doubt=facts.told.doubt,
        licence_files=facts.files,
    )
