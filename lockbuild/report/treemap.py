"""Sizes as a treemap: areas as large as what they stand for, near to squares. Pure.

The squarified layout of M. Bruls, K. Huizing and J. J. van Wijk, "Squarified Treemaps" (2000).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from lockbuild.report.parts import taken
from lockbuild.report.words import count, size_text

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence

    from lockbuild.components import Component

__all__ = ["Box", "Group", "Tile", "Treemap", "squarify", "treemap"]

_HEAD = 20
"""Height of the line over a group that says its kind."""
_LEAST = 260
"""Square pixels that a component needs to have a tile of its own."""
_LETTER = 7.2
"""Width of a letter: more than it has on average, so that what is said to fit does."""
_LINE = 15
_THIN = 1e-9
"""What rounding may leave of a side, so that nothing is divided by 0."""
_MARGIN = 10


@dataclass(frozen=True, slots=True)
class Box:
    """A rectangle, in pixels."""

    x: float
    y: float
    width: float
    height: float

    @property
    def area(self) -> float:
        """Its area."""
        return self.width * self.height


@dataclass(frozen=True, slots=True, kw_only=True)
class Tile:
    """A component, or what is too small to be seen alone."""

    box: Box
    name: str
    said: str
    """All of it, for who points at it."""
    lines: tuple[str, ...]
    """What there is room for."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Group:
    """All components of a kind."""

    kind: str
    box: Box
    head: str
    """Empty where there is no room for it."""
    tiles: tuple[Tile, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Treemap:
    """A picture of all sizes for one width of page."""

    width: int
    height: int
    groups: tuple[Group, ...]


def treemap(components: Iterable[Component], *, width: int, height: int) -> Treemap:
    """Return the picture of what takes room, kind by kind; what takes none is not in it."""
    kinds: dict[str, list[Component]] = {}
    for one in components:
        if taken(one) > 0:
            kinds.setdefault(one.kind, []).append(one)
    for parts in kinds.values():
        parts.sort(key=lambda one: (-taken(one), one.ref))
    order = sorted(kinds, key=lambda kind: (-_sum(kinds[kind]), kind))
    boxes = squarify([_sum(kinds[kind]) for kind in order], Box(0, 0, width, height))
    groups = tuple(_group(kind, kinds[kind], box) for kind, box in zip(order, boxes, strict=True))
    return Treemap(width=width, height=height, groups=groups)


def squarify(sizes: Sequence[float], box: Box) -> list[Box]:
    """Return a box for each of *sizes*, all of them greater than 0, the largest first, that fill *box*."""
    whole = sum(sizes)
    areas = [size * box.area / whole for size in sizes]
    boxes: list[Box] = []
    start = 0
    while start < len(areas):
        end, side = start + 1, min(box.width, box.height)
        while end < len(areas) and _worst(areas[start : end + 1], side) <= _worst(
            areas[start:end], side
        ):
            end += 1
        row, box = _lay(areas[start:end], box)
        boxes += row
        start = end
    return boxes


def _worst(areas: Sequence[float], side: float) -> float:
    """Return the largest ratio of sides in a row of *areas* along *side*."""
    whole = sum(areas)
    return max(side**2 * areas[0] / whole**2, whole**2 / (side**2 * areas[-1]))


def _lay(areas: Sequence[float], box: Box) -> tuple[list[Box], Box]:
    """Lay a row of *areas* along the shorter side of *box*; return it, and what is left of the box."""
    row, whole = [], sum(areas)
    if box.width >= box.height:
        depth, y = whole / box.height, box.y
        for area in areas:
            row.append(Box(box.x, y, depth, area / depth))
            y += area / depth
        return row, Box(box.x + depth, box.y, max(box.width - depth, _THIN), box.height)
    depth, x = whole / box.width, box.x
    for area in areas:
        row.append(Box(x, box.y, area / depth, depth))
        x += area / depth
    return row, Box(box.x, box.y + depth, box.width, max(box.height - depth, _THIN))


def _group(kind: str, parts: Sequence[Component], box: Box) -> Group:
    total = _sum(parts)
    head = f"{kind} {size_text(total)}"
    inner = box
    if box.height > 3 * _HEAD and box.width > _MARGIN + len(kind) * _LETTER:
        head = head if box.width > _MARGIN + len(head) * _LETTER else kind
        inner = Box(box.x, box.y + _HEAD, box.width, box.height - _HEAD)
    else:
        head = ""
    seen = [one for one in parts if taken(one) * inner.area / total >= _LEAST]
    rest = parts[len(seen) :]
    if len(rest) == 1:
        seen, rest = list(parts), []
    # What is left may be larger than the last that is seen; the layout wants the largest first.
    sized = [(taken(one), one.name, f"{one.name} {one.version}".strip()) for one in seen]
    if rest:
        said = ", ".join(one.name for one in rest[:12]) + (", …" if len(rest) > 12 else "")  # noqa: PLR2004
        sized.append((_sum(rest), f"{len(rest):,} more", f"{count(len(rest), 'more part')}: {said}"))
    sized.sort(key=lambda one: -one[0])
    boxes = squarify([size for size, _, _ in sized], inner)
    return Group(
        kind=kind,
        box=box,
        head=head,
        tiles=tuple(
            Tile(
                box=place,
                name=name,
                said=f"{said}: {size_text(size)}",
                lines=tuple(_lines(name, size_text(size), place)),
            )
            for (size, name, said), place in zip(sized, boxes, strict=True)
        ),
    )


def _lines(name: str, size: str, box: Box) -> Iterator[str]:
    """Yield the lines of text that *box* has room for: a name is never cut to less than makes sense."""
    letters = int((box.width - _MARGIN) / _LETTER)
    if box.height < _LINE + 4 or letters < 4:  # noqa: PLR2004 - less says nothing
        return
    if len(name) <= letters:
        yield name
    elif letters >= 8:  # noqa: PLR2004
        yield f"{name[: letters - 1]}…"
    else:
        return
    if box.height >= 2 * _LINE + 6 and len(size) <= letters:
        yield size


def _sum(parts: Iterable[Component]) -> int:
    return sum(taken(one) for one in parts)
