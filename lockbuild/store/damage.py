"""Comparing an object with its record."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from lockbuild.errors import StoreError
from lockbuild.hashing import side_by_side
from lockbuild.store.faults import REPAIR
from lockbuild.store.trees import difference, hash_file, listing, listing_sha256

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping
    from pathlib import Path

    from lockbuild.derivation import PathInfo
    from lockbuild.digest import Sha256, StorePath
    from lockbuild.progress import Progress
    from lockbuild.store.trees import Entry

__all__ = ["Damage", "damage_of", "find_damages"]

_SHOWN = 20
_OTHER_BYTES = "its bytes are not those that were recorded"


@dataclass(frozen=True, slots=True, kw_only=True)
class Damage:
    """A store object that is not what its record says."""

    path: StorePath
    problem: str
    """In words: `its bytes are not those that were recorded`."""
    expected: Sha256 | None = None
    """None where the record cannot be read."""
    found: Sha256 | None = None
    """None where there is nothing that could be hashed."""
    members: tuple[str, ...] = ()
    """What differs in a folder, one line each; see `lockbuild.store.trees.difference`."""

    def fault(self) -> StoreError:
        """Return the error that tells of it."""
        return StoreError(
            f"store object `{self.path}` is damaged: {self.problem}",
            details=(
                f"recorded sha256 {self.expected or 'unknown'}",
                f"found    sha256 {self.found or 'nothing'}",
                *self.members[:_SHOWN],
            ),
            hint=REPAIR,
        )


def damage_of(info: PathInfo, place: Path, recorded: tuple[Entry, ...] | None) -> Damage | None:
    """Hash the object at *place* and return how it differs from *info*; none when it does not.

    Args:
        recorded: What a folder held when it was added; none where that is no longer known.
    """

    def damage(problem: str, found: Sha256 | None, members: tuple[str, ...] = ()) -> Damage:
        return Damage(
            path=info.path, problem=problem, expected=info.sha256, found=found, members=members
        )

    if not place.is_symlink() and not place.exists():
        return damage("it is missing", None)
    if place.is_symlink() or place.is_dir() != (info.kind == "folder"):
        return damage(f"it is no longer a {info.kind}", None)
    try:
        if info.kind == "file":
            found = hash_file(place)
            return None if found == info.sha256 else damage(_OTHER_BYTES, found)
        entries = listing(place)
    except (OSError, StoreError) as error:
        return damage(f"it cannot be read: {error}", None)
    found = listing_sha256(entries)
    if found == info.sha256:
        return None
    return damage(_OTHER_BYTES, found, difference(recorded, entries) if recorded is not None else ())


def find_damages(
    sizes: Mapping[StorePath, int], look: Callable[[StorePath], Damage | None], progress: Progress
) -> tuple[Damage, ...]:
    """Return what *look* finds of each object of *sizes*, path -> bytes; sorted by path."""
    # The longest first: none of them is to be left for the end, when all others are done.
    order = sorted(sizes, key=sizes.__getitem__, reverse=True)
    with progress.phase("hashing", total=sum(sizes.values()), unit="bytes") as phase:

        def looked(path: StorePath) -> Damage | None:
            damage = look(path)
            phase.advance(sizes[path])
            return damage

        found = [damage for damage in side_by_side(looked, order) if damage is not None]
    return tuple(sorted(found, key=lambda damage: damage.path))
