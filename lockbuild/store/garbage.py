"""What a store keeps and what it need not: roots, closures, and what no record speaks of."""

from __future__ import annotations

import os
import re
from collections import Counter
from dataclasses import dataclass
from typing import TYPE_CHECKING

from lockbuild.errors import StoreError
from lockbuild.store.disk import PARTIAL, write_whole
from lockbuild.store.records import parse_path, parse_root, root_text

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Mapping
    from pathlib import Path

    from lockbuild.derivation import PathInfo
    from lockbuild.digest import StorePath
    from lockbuild.store.records import Root

__all__ = [
    "Collected",
    "Kept",
    "Leftover",
    "closure",
    "kept_by",
    "leftovers",
    "logs_of_others",
    "read_roots",
    "write_root",
]

_ROOT_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._+-]{0,199}")


@dataclass(frozen=True, slots=True, kw_only=True)
class Collected:
    """What garbage collection removed."""

    paths: tuple[StorePath, ...]
    size: int
    """Bytes, as recorded."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Kept:
    """What one root keeps from garbage collection."""

    name: str
    folder: str | None
    """The stack folder whose it is; none where it was not recorded."""
    objects: int
    size: int
    """Bytes, as recorded, of all that it keeps."""
    alone: int
    """Bytes of what no other root keeps: what forgetting it would free."""

    @property
    def gone(self) -> bool:
        """Whether its stack folder is no longer there; not where that cannot be seen."""
        if self.folder is None:
            return False
        try:
            os.lstat(self.folder)
        except (FileNotFoundError, NotADirectoryError):
            return True
        except OSError:
            return False
        return False


@dataclass(frozen=True, slots=True, kw_only=True)
class Leftover:
    """Something in a store that is not part of a valid object."""

    place: str
    """Relative to the store's root."""
    owner: str
    """The object that it would have become a part of: its lock guards it."""


def read_roots(folder: Path) -> dict[str, Root]:
    """Return name -> root of every one in *folder*, sorted by name.

    Raises:
        StoreError: One is damaged.
    """
    found = {}
    for name in _names(folder):
        if not _ROOT_NAME.fullmatch(name):
            continue
        try:
            found[name] = parse_root((folder / name).read_text(encoding="utf-8"))
        except ValueError as error:
            raise StoreError(
                f"root `{name}` of the store is damaged: {error}",
                hint=f"build that stack again, or remove {folder / name}",
            ) from error
    return found


def write_root(folder: Path, name: str, root: Root) -> None:
    """Write a root and call it *name*.

    Raises:
        ValueError: No file can be called that.
    """
    if not _ROOT_NAME.fullmatch(name):
        msg = f"not a name for a root: {name!r}"
        raise ValueError(msg)
    write_whole(folder / name, root_text(root).encode())


def closure(
    paths: Iterable[StorePath], info: Callable[[StorePath], PathInfo | None]
) -> frozenset[StorePath]:
    """Return *paths* and all that they refer to, directly or not, as far as it is valid."""
    found: set[StorePath] = set()
    waiting = list(paths)
    while waiting:
        path = waiting.pop()
        if path not in found:
            found.add(path)
            record = info(path)
            waiting.extend(record.references if record else ())
    return frozenset(found)


def kept_by(roots: Mapping[str, Root], info: Callable[[StorePath], PathInfo | None]) -> tuple[Kept, ...]:
    """Return what each of *roots* keeps, and what it alone keeps."""
    records = {
        name: {path: found for path in closure(root.paths, info) if (found := info(path))}
        for name, root in roots.items()
    }
    keepers = Counter(path for ours in records.values() for path in ours)
    return tuple(
        Kept(
            name=name,
            folder=roots[name].folder,
            objects=len(ours),
            size=sum(one.size for one in ours.values()),
            alone=sum(one.size for path, one in ours.items() if keepers[path] == 1),
        )
        for name, ours in records.items()
    )


def leftovers(root: Path, valid: frozenset[str]) -> Iterator[Leftover]:
    """Yield what lies in the store at *root* and belongs to no object of *valid*."""
    for folder in ("objects", "listings", "notes", "unpacked"):
        for name in _names(root / folder):
            if name not in valid:
                yield Leftover(place=f"{folder}/{name}", owner=_owner(name))
    for name in _names(root / "records"):
        owner = _owner(name)
        if name != f"{owner}.json" or owner not in valid:
            yield Leftover(place=f"records/{name}", owner=owner)


def logs_of_others(folder: Path, kept: frozenset[StorePath]) -> Iterator[Path]:
    """Yield the logs in *folder* of building and checking what is not *kept*, whether it ever became valid or not."""
    for name in _names(folder):
        path = parse_path(name.removesuffix(".log").removesuffix(".check"))
        if path is not None and path not in kept:
            yield folder / name


def _names(folder: Path) -> list[str]:
    try:
        return sorted(file.name for file in folder.iterdir())
    except PermissionError:
        return []  # of another user, whose unpacked trees are not to be looked into


def _owner(name: str) -> str:
    return name.removeprefix(".").removesuffix(PARTIAL).removesuffix(".json")
