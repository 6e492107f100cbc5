"""What a store keeps and what it need not: roots, closures, and what no record speaks of."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import TYPE_CHECKING

from lockbuild.errors import StoreError
from lockbuild.store.disk import PARTIAL, write_whole
from lockbuild.store.records import parse_root, root_text

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator
    from pathlib import Path

    from lockbuild.derivation import PathInfo
    from lockbuild.digest import StorePath

__all__ = ["Collected", "Leftover", "closure", "leftovers", "read_roots", "write_root"]

_ROOT_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._+-]{0,199}")


@dataclass(frozen=True, slots=True, kw_only=True)
class Collected:
    """What garbage collection removed."""

    paths: tuple[StorePath, ...]
    size: int
    """Bytes, as recorded."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Leftover:
    """Something in a store that is not part of a valid object."""

    place: str
    """Relative to the store's root."""
    owner: str
    """The object that it would have become a part of: its lock guards it."""


def read_roots(folder: Path) -> dict[str, tuple[StorePath, ...]]:
    """Return name -> store paths of every root in *folder*, sorted by name.

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


def write_root(folder: Path, name: str, paths: Iterable[StorePath]) -> None:
    """Write the root called *name*.

    Raises:
        ValueError: No file can be called that.
    """
    if not _ROOT_NAME.fullmatch(name):
        msg = f"not a name for a root: {name!r}"
        raise ValueError(msg)
    write_whole(folder / name, root_text(paths).encode())


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


def _names(folder: Path) -> list[str]:
    try:
        return sorted(file.name for file in folder.iterdir())
    except PermissionError:
        return []  # of another user, whose unpacked trees are not to be looked into


def _owner(name: str) -> str:
    return name.removeprefix(".").removesuffix(PARTIAL).removesuffix(".json")
