"""Graphs as text, with names that mean something to those who read it."""

from __future__ import annotations

from typing import TYPE_CHECKING

from lockbuild.drawing import Group, Node, Picture, dot_text, mermaid_text

if TYPE_CHECKING:
    from collections.abc import Callable

PICTURE = Picture(
    title='a "small" one',
    groups=(
        Group(
            heading="Python packages",
            colour="#cfe2ff",
            nodes=(
                Node(id="wheel:a@1", lines=("a 1", "2.0 MB"), size=2_000_000, strong=True),
                Node(id="wheel:b@1", lines=("b 1", "0.5 MB"), size=500_000, marked=True),
            ),
        ),
        Group(
            heading="Sources",
            colour="#fff3cd",
            nodes=(Node(id="source:end", lines=("end",), dashed=True),),
        ),
    ),
    arrows=(("wheel:a@1", "wheel:b@1"), ("wheel:b@1", "source:end")),
)
NASTY = ('"];evil -> all;', "\\N \\", "]):::x", "<script>", "# ;", "`md`", "%%", "a\nb\0c", "é")


def nasty() -> Picture:
    nodes = tuple(Node(id=f"wheel:{text}", lines=(text,)) for text in NASTY)
    return Picture(
        title=NASTY[0], groups=(Group(heading=NASTY[0], colour="#ffffff", nodes=nodes),), arrows=()
    )


def test_dot(golden: Callable[[str, str], None]) -> None:
    golden("graph/small.dot", dot_text(PICTURE))


def test_mermaid(golden: Callable[[str, str], None]) -> None:
    golden("graph/small.mmd", mermaid_text(PICTURE))


def test_no_name_ends_a_text_of_graphviz() -> None:
    lines = [line for line in dot_text(nasty()).splitlines() if "tooltip" in line]
    assert len(lines) == len(NASTY)
    assert '"wheel:\\"];evil -> all;"' in lines[0]
    assert 'label="\\\\N \\\\"' in lines[1]
    assert 'label="abc"' in lines[7]


def test_no_name_means_anything_to_mermaid() -> None:
    lines = [line for line in mermaid_text(nasty()).splitlines() if ":::k0" in line]
    assert [line.split('"')[1] for line in lines] == [
        "#34;#93;#59;evil -#62; all#59;",
        "#92;N #92;",
        "#93;#41;:::x",
        "#60;script#62;",
        "#35; #59;",
        "#96;md#96;",
        "#37;#37;",
        "abc",
        "é",
    ]


def test_nothing_is_a_picture_too() -> None:
    empty = Picture(title="none", groups=(), arrows=())
    assert dot_text(empty).startswith('digraph "none" {')
    assert mermaid_text(empty).endswith("flowchart LR\n")
