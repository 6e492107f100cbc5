"""The pictures of a report: how components hang together, the treemap, and graphs in layers."""

from __future__ import annotations

from itertools import combinations
from typing import TYPE_CHECKING

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lockbuild.report.layers import draw
from lockbuild.report.parts import Parts, taken
from lockbuild.report.treemap import Box, squarify, treemap
from tests.reports import component, components

if TYPE_CHECKING:
    from collections.abc import Sequence

    from lockbuild.components import Component


def chain(**needs: str) -> Parts:
    """Return wheels that need one another: `a="b c"`; those in capitals are asked for."""
    names = sorted(needs)
    refs = {name.lower(): f"wheel:{name.lower()}@1.0" for name in names}
    return Parts(
        tuple(
            component(
                "wheel",
                name.lower(),
                requested=name.isupper(),
                needs=tuple(refs.get(one, f"wheel:{one}@1.0") for one in needs[name].split()),
            )
            for name in sorted(names, key=str.lower)
        )
    )


def names(parts: Sequence[Component]) -> str:
    return "".join(one.name for one in parts)


# ---- why, and what is brought -----------------------------------------------------------------------


def test_why_is_the_shortest_way_from_what_is_asked_for() -> None:
    parts = chain(A="b", b="c", c="d", D="", E="c", f="")
    assert [names(parts.why(f"wheel:{one}@1.0")) for one in "abcdef"] == ["a", "ab", "ec", "d", "e", ""]


def test_why_ends_where_needs_go_round() -> None:
    parts = chain(A="b", b="c a", c="b")
    assert names(parts.why("wheel:c@1.0")) == "abc"


def test_what_the_image_holds_is_there_for_something_in_the_image() -> None:
    parts = Parts(
        (
            component(
                "deb",
                "compiler",
                requested=True,
                in_image=False,
                needs=("deb:lib@1.0", "deb:linker@1.0"),
            ),
            component("deb", "lib"),
            component("deb", "linker", in_image=False),
            component("deb", "middle", needs=("deb:lib@1.0",)),
            component("deb", "asked", requested=True, needs=("deb:middle@1.0", "deb:linker@1.0")),
        )
    )
    ways = [[one.name for one in parts.why(f"deb:{name}@1.0")] for name in ("lib", "linker")]
    assert ways == [["asked", "middle", "lib"], ["compiler", "linker"]]
    brought = {one.component.name: one for one in parts.brought}
    assert [names(step) for step in brought["asked"].steps] == ["middle", "lib"]
    assert [one.name for one in brought["asked"].own] == ["asked", "lib", "middle"]
    assert [one.name for one in brought["compiler"].own] == ["compiler"]


def test_a_need_that_the_stack_has_not_is_left_out() -> None:
    assert chain(A="b gone", b="").needs["wheel:a@1.0"] == ("wheel:b@1.0",)


def test_what_is_brought_is_told_by_distance_and_by_what_would_go() -> None:
    first, second, third = chain(A="b c", b="d", c="d", d="", E="d", F="").brought
    assert [names(step) for step in first.steps] == ["bc", "d"]
    assert (first.number, first.size, names(first.own), first.own_size) == (3, 4000, "abc", 3000)
    assert (second.component.name, second.size, names(second.own)) == ("e", 2000, "e")
    assert (third.component.name, third.number, third.steps) == ("f", 0, ())


def test_what_something_else_needs_would_not_go() -> None:
    (a, b) = chain(A="b", B="").brought
    assert (a.own_size, b.own_size) == (1000, 0)


def test_needed_by_is_the_other_way_round() -> None:
    assert chain(A="b", B="", c="b").needed_by["wheel:b@1.0"] == ("wheel:a@1.0", "wheel:c@1.0")


# ---- the treemap ------------------------------------------------------------------------------------


@pytest.mark.property
@given(
    st.lists(st.integers(1, 10**10), min_size=1, max_size=60),
    st.integers(50, 2000),
    st.integers(50, 2000),
)
def test_boxes_fill_the_whole_by_their_sizes(sizes: list[int], width: int, height: int) -> None:
    sizes.sort(reverse=True)
    whole = Box(0, 0, width, height)
    boxes = squarify(sizes, whole)
    for size, box in zip(sizes, boxes, strict=True):
        assert box.area == pytest.approx(size * whole.area / sum(sizes), rel=1e-6, abs=1e-6)
        assert box.x >= 0
        assert box.y >= 0
        # A thousandth of a pixel: what is left for the smallest beside the largest is a difference of near numbers.
        assert box.x + box.width <= width + 1e-3
        assert box.y + box.height <= height + 1e-3
    for one, other in combinations(boxes, 2):
        assert overlap(one, other) <= whole.area * 1e-9


def test_nothing_is_too_small_beside_the_largest() -> None:
    assert len(squarify([10**30, 10**10, 1, 1], Box(0, 0, 1080, 600))) == 4


def overlap(one: Box, other: Box) -> float:
    width = min(one.x + one.width, other.x + other.width) - max(one.x, other.x)
    height = min(one.y + one.height, other.y + other.height) - max(one.y, other.y)
    return max(width, 0) * max(height, 0)


def test_boxes_are_near_to_squares() -> None:
    # The example of the paper.
    boxes = squarify([6, 6, 4, 3, 2, 2, 1], Box(0, 0, 6, 4))
    assert [(round(box.width, 2), round(box.height, 2)) for box in boxes[:4]] == [
        (3, 2),
        (3, 2),
        (1.71, 2.33),
        (1.29, 2.33),
    ]


@pytest.mark.parametrize("width", [328, 640, 1080])
def test_a_treemap_shows_all_that_takes_room(width: int) -> None:
    parts = components()
    made = treemap(parts, width=width, height=600)
    area = sum(tile.box.area for group in made.groups for tile in group.tiles)
    heads = sum(20 * group.box.width for group in made.groups if group.head)
    assert area == pytest.approx(width * 600 - heads)
    said = [tile.name for group in made.groups for tile in group.tiles]
    assert "torch" in said
    assert len(said) < len([one for one in parts if taken(one)])
    more = [tile for group in made.groups for tile in group.tiles if tile.name.endswith(" more")]
    assert more
    assert all("more parts: " in tile.said for tile in more)


def test_no_label_is_wider_than_its_tile() -> None:
    for width in (328, 1080):
        for group in treemap(components(), width=width, height=600).groups:
            for tile in group.tiles:
                assert all(len(line) * 7.2 <= tile.box.width - 10 for line in tile.lines)
                assert 15 * len(tile.lines) <= tile.box.height


def test_what_takes_no_room_has_no_tile() -> None:
    assert (
        treemap(
            [component("wheel", "a", size=0), component("deb", "b", size=None)], width=9, height=9
        ).groups
        == ()
    )


# ---- graphs -----------------------------------------------------------------------------------------


def drawn(*edges: str) -> tuple[dict[str, tuple[float, float]], set[str]]:
    """Return where each stands, and which lines there are, of edges `ab`."""
    pairs = [(edge[0], edge[1]) for edge in edges]
    labels = {key: key for edge in edges for key in edge}
    drawing = draw("a", pairs, labels)
    at = {node.key: (node.x, node.y) for node in drawing.nodes}
    left = {(node.x, node.y + node.height / 2): node.key for node in drawing.nodes}
    right = {(node.x + node.width, node.y + node.height / 2): node.key for node in drawing.nodes}
    return at, {right[edge.start] + left[edge.end] for edge in drawing.edges}


def test_who_is_needed_stands_further_right() -> None:
    at, _ = drawn("ab", "bc", "ac", "ad")
    assert at["a"][0] < at["b"][0] < at["c"][0]
    assert at["d"][0] == at["b"][0]


def test_a_line_that_others_say_is_left_out() -> None:
    assert drawn("ab", "bc", "ac", "cd", "bd")[1] == {"ab", "bc", "cd"}


def test_lines_that_lead_back_are_left_out() -> None:
    at, lines = drawn("ab", "bc", "ca", "cb", "bb")
    assert lines == {"ab", "bc"}
    assert set(at) == {"a", "b", "c"}


def test_what_the_start_does_not_lead_to_is_not_drawn() -> None:
    assert set(drawn("ab", "xy")[0]) == {"a", "b"}


def test_lines_do_not_cross_where_they_need_not() -> None:
    at, _ = drawn("ab", "ac", "by", "cx")
    assert (at["b"][1] < at["c"][1]) == (at["y"][1] < at["x"][1])


def test_no_boxes_overlap() -> None:
    parts = Parts(components())
    for brought in parts.brought:
        refs = {brought.component.ref, *(one.ref for step in brought.steps for one in step)}
        drawing = draw(
            brought.component.ref, parts.edges(refs), {ref: parts.by_ref[ref].name for ref in refs}
        )
        boxes = [Box(node.x, node.y, node.width, node.height) for node in drawing.nodes]
        assert len(boxes) == len(refs)
        assert all(overlap(one, other) == 0 for one, other in combinations(boxes, 2))
        assert max(box.x + box.width for box in boxes) == pytest.approx(drawing.width)
        assert max(box.y + box.height for box in boxes) <= drawing.height + 1e-9
