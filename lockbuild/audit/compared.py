"""An image beside what it shall be: what all comparisons look at, and what they say. Pure."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Literal

from lockbuild.audit.expected import MADE
from lockbuild.dockerfile import PREFIX

if TYPE_CHECKING:
    from lockbuild.audit.expected import Expected
    from lockbuild.image.layers import LayerFile, Placed
    from lockbuild.image.manifests import LayeredImage
    from lockbuild.stack import Mount

__all__ = ["Compared", "Difference", "PackageDrift", "Way", "above", "size_of"]

Way = Literal["missing", "changed", "added"]
_ANCHOR = f"{PREFIX}/pyvenv.cfg".removeprefix("/")


@dataclass(frozen=True, slots=True, kw_only=True)
class Difference:
    """A file that is not as it shall be."""

    check: str
    """Id of the check that says it; empty where a package's own finding does."""
    way: Way
    path: str
    message: str
    layer: int | None
    """The layer that brought it, or took it away, from 0; none where no layer did."""
    owner: str = ""
    """Package, .deb, source or asset that it shall be of."""


@dataclass(frozen=True, slots=True, kw_only=True)
class PackageDrift:
    """A package that is not the locked one."""

    name: str
    message: str
    path: str
    """The file that says so; empty for a package that is missing."""
    layer: int | None


@dataclass(slots=True)
class Compared:
    """An image beside what it shall be."""

    image: LayeredImage
    expected: Expected
    actual: dict[str, Placed]
    mounts: tuple[Mount, ...]
    shown: dict[tuple[int, str], str] = field(init=False)
    """Layer and path there -> where a program sees it."""
    gone: tuple[frozenset[str], ...] = field(init=False)
    """Of each layer what it takes away; the top is an empty name."""

    def __post_init__(self) -> None:
        contents = [layer.content for layer in self.image.layers]
        self.gone = tuple(frozenset((*one.removed, *one.emptied)) for one in contents)
        self.shown = {(one.layer, one.file.path): path for path, one in self.actual.items()}

    @property
    def anchor(self) -> int | None:
        """The layer that brought the environment."""
        placed = self.actual.get(_ANCHOR)
        return placed.layer if placed else None

    def is_held(self, path: str) -> bool:
        """Whether some part of the lock brings anything to *path*."""
        return path in self.expected.held

    def ours(self, number: int, file: LayerFile) -> bool:
        """Whether the lock brings this file, as it is, to this place."""
        held = self.expected.held
        path = self.shown.get((number, file.path), file.path)
        contents = held.get(path, frozenset()) | held.get(file.path, frozenset())
        return file.content in contents or (bool(MADE & contents) and number == self.anchor)

    def later(self, number: int, path: str) -> str:
        """Return what became of a file of a lower layer, for its message."""
        places = above(path)
        for layer, gone in zip(self.image.layers[number + 1 :], self.gone[number + 1 :], strict=True):
            if not gone.isdisjoint(places):
                return f"; layer {layer.number} deletes it, and it is still shipped"
        return "; a later layer replaces it, and it is still shipped"


def above(path: str) -> list[str]:
    """Return *path*, all folders that it is in, and the top."""
    found = [path]
    while "/" in found[-1]:
        found.append(found[-1].rpartition("/")[0])
    return [*found, ""]


def size_of(file: LayerFile) -> str:
    """Return what a file is, for a message: `12,345 bytes`, `a symlink`."""
    return f"{file.size:,} bytes" if file.kind == "file" else f"a {file.kind}"
