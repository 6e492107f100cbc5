"""Graphs as text that other programs draw: graphviz's language, and mermaid's. Pure."""

from __future__ import annotations

import json
import math
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator

__all__ = ["Group", "Node", "Picture", "dot_text", "mermaid_text"]

_WIDEST = 3.0
"""Inches by which the largest node is wider than the smallest."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Node:
    """A box."""

    id: str
    """Unique in its picture; shown to nobody but where a picture has tips."""
    lines: tuple[str, ...]
    size: int | None = None
    """Bytes, where boxes are drawn by them."""
    strong: bool = False
    """Whether its border is thick: the stack asks for it."""
    dashed: bool = False
    """Whether its border is dashed: the image has it not."""
    marked: bool = False
    """Whether it is what the picture is about."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Group:
    """Boxes that stand together, under a heading and in a colour."""

    heading: str
    colour: str
    """Of the boxes: `#rrggbb`, light enough for black letters."""
    nodes: tuple[Node, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Picture:
    """A graph of boxes and arrows."""

    title: str
    groups: tuple[Group, ...]
    arrows: tuple[tuple[str, str], ...]
    """Ids of the nodes that each leads from and to."""

    @property
    def nodes(self) -> tuple[Node, ...]:
        """All boxes, group by group."""
        return tuple(node for group in self.groups for node in group.nodes)


# ---- graphviz --------------------------------------------------------------------------------------


def dot_text(picture: Picture) -> str:
    """Return *picture* in graphviz's language: https://graphviz.org/doc/info/lang.html."""
    return "\n".join(_dot_lines(picture)) + "\n"


def _dot_lines(picture: Picture) -> Iterator[str]:
    largest = max((node.size or 0 for node in picture.nodes), default=0)
    yield f"digraph {_quoted(picture.title)} {{"
    yield f"  graph [label={_quoted(picture.title)}, labelloc=t, fontname=sans, rankdir=LR, ranksep=1, nodesep=0.1];"
    yield "  node [shape=box, style=filled, fontname=sans, fontsize=10, height=0.25, margin=0.08];"
    yield '  edge [color="#00000066", arrowsize=0.6];'
    for number, group in enumerate(picture.groups):
        yield f"  subgraph cluster_{number} {{"
        yield f'    graph [label={_quoted(group.heading)}, color="#999999", style=rounded];'
        for node in group.nodes:
            words = [
                f"label={_quoted(*node.lines)}",
                f"tooltip={_quoted(node.id)}",
                f'fillcolor="{group.colour}"',
                *(['style="filled,dashed"'] if node.dashed else []),
                *(["penwidth=2.5"] if node.strong or node.marked else []),
                *(['color="#c00000"'] if node.marked else []),
            ]
            if node.size is not None and largest:
                # By its square root, or one weight of gigabytes would leave all else one width.
                words.append(f"width={0.5 + _WIDEST * math.sqrt(node.size / largest):.2f}")
            yield f"    {_quoted(node.id)} [{', '.join(words)}];"
        yield "  }"
    for source, target in picture.arrows:
        yield f"  {_quoted(source)} -> {_quoted(target)};"
    yield "}"


def _quoted(*lines: str) -> str:
    # A backslash begins an escape in labels (`\N` is the node's name); a NUL would end the file.
    kept = ("".join(char for char in line if char.isprintable()) for line in lines)
    text = "\\n".join(line.replace("\\", "\\\\").replace('"', '\\"') for line in kept)
    return f'"{text}"'


# ---- mermaid ---------------------------------------------------------------------------------------


def mermaid_text(picture: Picture) -> str:
    """Return *picture* as a flowchart of mermaid's: https://mermaid.js.org/syntax/flowchart.html."""
    return "\n".join(_mermaid_lines(picture)) + "\n"


def _mermaid_lines(picture: Picture) -> Iterator[str]:
    # Ids that are words of the language (`end`) break a flowchart: each has a number instead.
    numbers = {node.id: f"n{number}" for number, node in enumerate(picture.nodes)}
    yield "---"
    yield f"title: {json.dumps(picture.title)}"
    yield "---"
    yield "flowchart LR"
    for number, group in enumerate(picture.groups):
        yield f'  subgraph g{number}["{_entities(group.heading)}"]'
        for node in group.nodes:
            label = "<br/>".join(_entities(line) for line in node.lines)
            yield f'    {numbers[node.id]}["{label}"]:::k{number}'
        yield "  end"
    for source, target in picture.arrows:
        yield f"  {numbers[source]} --> {numbers[target]}"
    for number, group in enumerate(picture.groups):
        yield f"  classDef k{number} fill:{group.colour},stroke:#666,color:#000"
    for name, style, nodes in (
        ("strong", "stroke-width:3px", [node for node in picture.nodes if node.strong]),
        ("dashed", "stroke-dasharray:4", [node for node in picture.nodes if node.dashed]),
        ("marked", "stroke:#c00000", [node for node in picture.nodes if node.marked]),
    ):
        if nodes:
            yield f"  classDef {name} {style}"
            yield f"  class {','.join(numbers[node.id] for node in nodes)} {name}"


def _entities(text: str) -> str:
    """Return *text* with all that mermaid, markdown or HTML could take for their own as numbered entities."""
    return "".join(
        char if char.isalnum() or char in " .,_+-/:" else f"#{ord(char)};"
        for char in text
        if char.isprintable()
    )
