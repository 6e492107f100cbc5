"""A graph in layers from left to right, as a drawing: who is needed stands right of who needs it. Pure."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from lockbuild.graph import reduced

if TYPE_CHECKING:
    from collections.abc import Collection, Iterable, Mapping, Sequence

__all__ = ["Drawing", "Edge", "Node", "draw"]

_LETTER = 7.2
_PADDING = 20
_ROW = 32
_HEIGHT = 24
_BETWEEN = 56
_SWEEPS = 6


@dataclass(frozen=True, slots=True, kw_only=True)
class Node:
    """One of the graph, with its box."""

    key: str
    label: str
    x: float
    y: float
    width: float
    height: float = _HEIGHT


@dataclass(frozen=True, slots=True, kw_only=True)
class Edge:
    """A line from the right side of a box to the left side of another."""

    start: tuple[float, float]
    end: tuple[float, float]

    @property
    def path(self) -> str:
        """The `d` of an SVG path: level where it leaves and where it comes in."""
        (x, y), (to_x, to_y) = self.start, self.end
        middle = (x + to_x) / 2
        return f"M{x:g} {y:g}C{middle:g} {y:g} {middle:g} {to_y:g} {to_x:g} {to_y:g}"


@dataclass(frozen=True, slots=True, kw_only=True)
class Drawing:
    """A drawing of a graph."""

    width: float
    height: float
    nodes: tuple[Node, ...]
    edges: tuple[Edge, ...]


def draw(start: str, edges: Collection[tuple[str, str]], labels: Mapping[str, str]) -> Drawing:
    """Return a drawing of all that *start* leads to.

    Lines that others already say are left out: where a leads to b and b to c, there is none from a to c.
    Nor are there any that lead back.

    Args:
        edges: From whom to whom.
        labels: What is written in the box of each.
    """
    forward = _forward(start, edges)
    layer = _layers(start, forward)
    lines = reduced(forward)
    columns = _ordered(layer, lines)
    tallest = max(len(column) for column in columns)
    nodes: dict[str, Node] = {}
    x = 0.0
    for column in columns:
        width = max(len(labels[key]) for key in column) * _LETTER + _PADDING
        for place, key in enumerate(column):
            nodes[key] = Node(key=key, label=labels[key], x=x, y=place * _ROW, width=width)
        x += width + _BETWEEN
    return Drawing(
        width=x - _BETWEEN,
        height=tallest * _ROW - (_ROW - _HEIGHT),
        nodes=tuple(nodes.values()),
        edges=tuple(_edge(nodes[a], nodes[b]) for a in sorted(lines) for b in lines[a]),
    )


def _edge(a: Node, b: Node) -> Edge:
    return Edge(start=(a.x + a.width, a.y + a.height / 2), end=(b.x, b.y + b.height / 2))


def _forward(start: str, edges: Collection[tuple[str, str]]) -> dict[str, tuple[str, ...]]:
    """Return the edges below *start*, without those that lead back to one they came from."""
    follow: dict[str, list[str]] = {}
    for a, b in sorted(edges):
        follow.setdefault(a, []).append(b)
    found: dict[str, list[str]] = {start: []}
    on_way = [start]
    waiting = [iter(follow.get(start, ()))]
    while waiting:
        here = on_way[-1]
        nearest = next(waiting[-1], None)
        if nearest is None:
            waiting.pop()
            on_way.pop()
        elif nearest not in on_way:
            found[here].append(nearest)
            if nearest not in found:
                found[nearest] = []
                on_way.append(nearest)
                waiting.append(iter(follow.get(nearest, ())))
    return {key: tuple(ends) for key, ends in found.items()}


def _layers(start: str, forward: Mapping[str, Sequence[str]]) -> dict[str, int]:
    """Return how far each is from *start* on the longest way."""
    layer = dict.fromkeys(forward, 0)
    for key in _topological(start, forward):
        for other in forward[key]:
            layer[other] = max(layer[other], layer[key] + 1)
    return layer


def _topological(start: str, forward: Mapping[str, Sequence[str]]) -> list[str]:
    """Return all keys, each before those it leads to."""
    done: list[str] = []
    seen = {start}
    waiting = [(start, iter(forward[start]))]
    while waiting:
        key, rest = waiting[-1]
        follower = next((one for one in rest if one not in seen), None)
        if follower is None:
            done.append(key)
            waiting.pop()
        else:
            seen.add(follower)
            waiting.append((follower, iter(forward[follower])))
    return done[::-1]


def _ordered(layer: Mapping[str, int], edges: Mapping[str, Iterable[str]]) -> list[list[str]]:
    """Return the columns, ordered so that few lines cross: each near the middle of its neighbours."""
    columns: list[list[str]] = [[] for _ in range(max(layer.values()) + 1)]
    for key in sorted(layer):
        columns[layer[key]].append(key)
    beside: dict[str, list[str]] = {key: [] for key in layer}
    for a, ends in edges.items():
        for b in ends:
            beside[a].append(b)
            beside[b].append(a)
    place = {key: _place(column, index) for column in columns for index, key in enumerate(column)}
    for sweep in range(_SWEEPS):
        for column in columns if sweep % 2 == 0 else reversed(columns):
            middle = {key: _mean([place[one] for one in beside[key]], place[key]) for key in column}
            column.sort(key=lambda key: (middle[key], key))
            place |= {key: _place(column, index) for index, key in enumerate(column)}
    return columns


def _place(column: Sequence[str], index: int) -> float:
    """Return how far from the middle of its column one stands."""
    return index - (len(column) - 1) / 2


def _mean(values: Sequence[float], otherwise: float) -> float:
    return sum(values) / len(values) if values else otherwise
