"""What needs what, and by which ways the small stack comes to its parts."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lockbuild.components import Component, Kind, ref_of
from lockbuild.condalock import LockedConda
from lockbuild.graph import (
    Ask,
    Place,
    around,
    behind,
    chains,
    component_needs,
    count_chains,
    places,
    reduced,
)
from tests.values import package, sha, small_lock, small_stack, stack_document

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping


def asks(*refs: str) -> tuple[Ask, ...]:
    return tuple(Ask(who="stack", says=ref, ref=ref) for ref in refs)


def place(needs: dict[str, str], *asked: str) -> Place:
    """Return a place in which each letter needs the letters of its text."""
    return Place(name="here", needs={ref: tuple(text) for ref, text in needs.items()}, asks=asks(*asked))


def ways(found: Place, ref: str) -> list[str]:
    return ["".join(chain.refs) for chain in chains(found, ref)]


# ---- chains ----------------------------------------------------------------------------------------


def test_every_shortest_chain_is_told() -> None:
    # a -> b -> d, a -> c -> d, and the long way a -> e -> f -> d.
    found = place({"a": "bce", "b": "d", "c": "d", "d": "", "e": "f", "f": "d"}, "a")
    assert ways(found, "d") == ["abd", "acd"]
    assert count_chains(found, "d") == 2


def test_what_is_asked_for_itself_comes_first() -> None:
    found = place({"a": "b", "b": ""}, "a", "b")
    assert ways(found, "b") == ["b", "ab"]


def test_no_chain_leads_through_what_is_asked_for_itself() -> None:
    # Without b, a would still come to d: by way of c, e.
    found = place({"a": "bc", "b": "d", "c": "e", "d": "", "e": "d"}, "a", "b")
    assert ways(found, "d") == ["bd", "aced"]
    # Here b is the only way, and tells its own chain.
    assert ways(place({"a": "b", "b": "d", "d": ""}, "a", "b"), "d") == ["bd"]


def test_circles_end() -> None:
    found = place({"a": "b", "b": "c", "c": "bd", "d": "a"}, "a")
    assert ways(found, "d") == ["abcd"]
    assert ways(found, "a") == ["a"]


def test_what_nothing_leads_to_has_no_chain() -> None:
    found = place({"a": "", "b": ""}, "a")
    assert ways(found, "b") == ways(found, "gone") == []
    assert count_chains(found, "b") == count_chains(found, "gone") == 0


def test_very_many_chains_are_counted_without_making_them() -> None:
    # 60 diamonds in a row: 2**60 chains.
    needs: dict[str, tuple[str, ...]] = {"0": ()}
    for number in range(60):
        needs |= {f"l{number}": (str(number),), f"r{number}": (str(number),)}
        needs[str(number + 1)] = (f"l{number}", f"r{number}")
    found = Place(name="here", needs=needs, asks=asks("60"))
    assert count_chains(found, "0") == 2**60
    assert len(next(chains(found, "0")).refs) == 121


_GRAPHS = st.dictionaries(
    st.sampled_from("abcdefg"), st.sets(st.sampled_from("abcdefg")), min_size=1
).map(lambda found: {one: tuple(sorted(needed & found.keys() - {one})) for one, needed in found.items()})


def _paths(needs: Mapping[str, Iterable[str]], start: str, end: str, blocked: set[str]) -> list[str]:
    """Return all simple ways from *start* to *end* that lead through nothing that is blocked."""
    found, waiting = [], [start]
    while waiting:
        way = waiting.pop()
        if way[-1] == end:
            found.append(way)
            continue
        if way[-1] in blocked and way != start:
            continue
        waiting += [way + one for one in needs[way[-1]] if one not in way]
    return found


@pytest.mark.property
@given(_GRAPHS, st.sets(st.sampled_from("abcdefg")), st.sampled_from("abcdefg"))
def test_chains_are_the_shortest_of_all_ways(
    needs: dict[str, tuple[str, ...]], asked: set[str], end: str
) -> None:
    asked &= needs.keys()
    found = Place(name="here", needs=needs, asks=asks(*sorted(asked)))
    expected = []
    for start in asked if end in needs else ():
        every = _paths(needs, start, end, asked - {end})
        shortest = min(map(len, every), default=0)
        expected += [way for way in every if len(way) == shortest]
    assert sorted(ways(found, end)) == sorted(expected)
    assert count_chains(found, end) == len(expected)


@pytest.mark.property
@given(_GRAPHS)
def test_reducing_loses_no_way(needs: dict[str, tuple[str, ...]]) -> None:
    def closure(of: Mapping[str, tuple[str, ...]]) -> dict[str, frozenset[str]]:
        return {ref: behind(of, [ref], depth=len(of)) for ref in of}

    left = reduced(needs)
    assert closure(left) == closure(needs)
    assert all(set(left[ref]) <= set(needs[ref]) for ref in needs)


def test_arrows_that_others_imply_are_left_out() -> None:
    assert reduced({"a": ("b", "c"), "b": ("c",), "c": ()}) == {"a": ("b",), "b": ("c",), "c": ()}
    circle = {"a": ("b", "c"), "b": ("c",), "c": ("b",)}
    assert reduced(circle) == circle


def test_what_is_near_is_before_and_behind() -> None:
    needs = {"a": ("b",), "b": ("c",), "c": ("d",), "d": (), "x": ("c",)}
    assert around(needs, ["c"], depth=0) == {"c"}
    assert around(needs, ["c"], depth=1) == {"b", "x", "c", "d"}
    assert around(needs, ["c"], depth=9) == set(needs)
    assert behind(needs, ["b"], depth=1) == {"b", "c"}


# ---- places ----------------------------------------------------------------------------------------


def component(name: str, version: str = "", *needs: str, kind: Kind = "wheel", **more: Any) -> Component:
    values = {"purl": "", "sha256": "0" * 64, "size": 1, **more}
    return Component(
        ref=ref_of(kind, name, version), kind=kind, name=name, version=version, needs=needs, **values
    )


def small_components() -> list[Component]:
    return [
        component("alpha", "1.2", "wheel:beta@0.9"),
        component("beta", "0.9"),
        component("gamma", "2.0", "wheel:alpha@1.2", built=True),
        component("delta", "0.1", built=True),
        component("libc6", "2.36-9+deb12u10", kind="deb"),
        component("python3", "3.11.2-1+b1", "deb:libc6@2.36-9+deb12u10", kind="deb"),
        component("tzdata", "2025b-0+deb12u1", kind="deb"),
        component("g++", "4:12.2.0-3", "deb:libc6@2.36-9+deb12u10", kind="deb", in_image=False),
        component("gamma", "2.0", kind="source", in_image=False, requested=True),
        component("delta", "0.1", kind="source", in_image=False, requested=True),
        component("weights", kind="asset", requested=True, origin="https://example.org/w"),
        component("body", kind="asset", requested=True, in_image=False),
    ]


def told(ref: str, *, essential: tuple[str, ...] = (), **changes: Any) -> list[str]:
    """Return a line for each chain to *ref*, in every place that has it."""
    found = places(small_stack(**changes), small_lock(), small_components(), essential=essential)
    return [
        f"{one.name}: {chain.ask.who}: {chain.ask.says} {' '.join(chain.refs[:-1])}".rstrip()
        for one in found
        for chain in chains(one, ref)
    ]


def test_a_wheel_is_there_for_requirements_and_builds() -> None:
    assert told("wheel:alpha@1.2") == [
        "the image: python.requires: alpha>=1",
        "the image: build[gamma]: gamma 2.0 wheel:gamma@2.0",
        "the build environment: build[gamma].needs: alpha",
        "the build environment `native`: build[delta].needs: gamma wheel:gamma@2.0",
    ]


def test_a_build_environment_says_which_and_for_what() -> None:
    assert told("wheel:setuptools@80.0") == [
        "the build environment: build[gamma].build-requires: setuptools>=74",
        "the build environment `native`: build[delta].build-requires: Setuptools",
    ]
    assert told("wheel:pip@25.0") == [
        "the build environment: lockbuild: pip installs wheels",
        "the build environment `native`: lockbuild: pip installs wheels",
    ]


def test_a_requirement_that_is_not_of_the_target_asks_for_nothing() -> None:
    lock = small_lock()
    more = replace(
        lock, build=(lock.build[0], (lock.build[1][0], (*lock.build[1][1], package("tomli"))))
    )
    found = places(small_stack(), more, small_components())
    assert [chain for one in found for chain in chains(one, "wheel:tomli@1.0")] == []


def test_nvcc_of_wheels_is_asked_for_by_the_toolchain() -> None:
    lock = small_lock()
    torch = package("torch", dependencies=())
    nvcc = package("nvidia-cuda-nvcc", "13.0")
    gamma, delta = stack_document()["build"]
    more = replace(
        lock,
        runtime=(*lock.runtime, torch),
        build=(("", (*lock.build[0][1], torch, nvcc)), lock.build[1]),
    )
    stack = small_stack(
        build=[{**gamma, "needs": ["torch"]}, delta],
        toolchain={"nvcc": {"wheels": ["nvidia-cuda-nvcc==13.0"]}},
    )
    (chain,) = (
        c
        for one in places(stack, more, small_components())
        for c in chains(one, "wheel:nvidia-cuda-nvcc@13.0")
    )
    assert (chain.ask.who, chain.ask.says) == ("toolchain.nvcc.wheels", "nvidia-cuda-nvcc==13.0")


def test_a_deb_is_there_for_what_is_wanted_and_essential() -> None:
    assert told("deb:libc6@2.36-9+deb12u10", essential=("tzdata",)) == [
        "the image: interpreter.apt: python3 deb:python3@3.11.2-1+b1",
        "the toolchain: interpreter.apt: python3 deb:python3@3.11.2-1+b1",
        "the toolchain: apt.toolchain: g++ deb:g++@4:12.2.0-3",
    ]
    assert told("deb:tzdata@2025b-0+deb12u1", essential=("tzdata",)) == [
        "the image: base: essential in every system",
        "the toolchain: base: essential in every system",
    ]


def test_compilers_are_asked_for_by_the_toolchain() -> None:
    found = told("deb:g++@4:12.2.0-3", toolchain={"compiler": "g++"}, apt={"runtime": ["tzdata"]})
    assert found == ["the toolchain: toolchain.compiler: g++"]
    assert told("deb:tzdata@2025b-0+deb12u1", apt={"runtime": ["tzdata"]}) == [
        "the image: apt.runtime: tzdata"
    ]


def test_sources_and_assets_are_named_by_the_stack() -> None:
    assert told("source:gamma@2.0") == ["what is compiled from: build[gamma].source: gamma==2.0"]
    assert told("asset:weights") == ["the image: asset[weights]: https://example.org/w"]
    assert told("asset:body") == ["what whoever runs the image brings along: asset[body]: body"]


def test_conda_packages_are_wanted_or_bring_python() -> None:
    def locked(name: str) -> LockedConda:
        return LockedConda(
            name=name,
            version="1",
            build="0",
            channel="forge",
            subdir="noarch",
            filename=f"{name}-1-0.conda",
            md5="0" * 32,
            sha256=sha(name),
            size=1,
        )

    stack = small_stack(
        interpreter={"conda": "python"},
        conda={"channels": ["https://conda.example.org/forge"], "packages": ["FFmpeg >=6", "gone"]},
    )
    lock = replace(small_lock(), conda=(locked("ffmpeg"), locked("python")))
    found = places(stack, lock, [component(name, "1", kind="conda") for name in ("ffmpeg", "python")])
    assert [(ask.who, ask.says, ask.ref) for ask in found[0].asks] == [
        ("conda.packages", "FFmpeg >=6", "conda:ffmpeg@1"),
        ("interpreter.conda", "python 3.11", "conda:python@1"),
    ]


def test_an_interpreter_and_a_source_of_the_image_are_named() -> None:
    app = component("app", "1" * 40, kind="source", requested=True, origin="https://example.org/app")
    python = component("cpython", "3.11.9", kind="interpreter", origin="python3.11 of a machine")
    (found, *_) = places(small_stack(interpreter={"host": "python3.11"}), small_lock(), [app, python])
    assert [(ask.who, ask.says) for ask in found.asks] == [
        ("source[app]", "https://example.org/app"),
        ("interpreter.host", "python3.11 of a machine"),
    ]


def test_what_is_open_is_not_there() -> None:
    lock = small_lock()
    # Neither its source nor what it needs is known yet, and nobody has resolved an installer.
    bare = replace(lock, runtime=lock.runtime[:2], build=(("", ()), ("native", ())), sources=())
    found = places(small_stack(), bare, [component("alpha", "1.2")])
    assert [ask.who for one in found for ask in one.asks] == ["python.requires"]


def test_a_graft_is_asked_for_by_an_edit() -> None:
    gamma, delta = stack_document()["build"]
    edit = {"graft": "delta", "take": "a.c", "put": "b.c", "reason": "r"}
    assert told("source:delta@0.1", build=[{**gamma, "edits": [edit]}, delta]) == [
        "what is compiled from: build[delta].source: extension",
        "what is compiled from: build[gamma].edits: graft of a.c to b.c",
    ]


def test_a_base_image_brings_what_no_lock_names() -> None:
    image = "docker.io/library/debian:12"
    stack = small_stack(base={"runtime": image, "toolchain": image}, interpreter={"image": "python3"})
    base = component(image, "sha256:0", kind="base")
    brought = component("bash", "5", kind="deb", sha256=None, origin=image)
    (found, *_) = places(stack, small_lock(), [base, brought])
    assert [(ask.who, ask.says, ask.ref) for ask in found.asks] == [
        ("base.runtime", image, base.ref),
        ("base.runtime", f"{image} brings it", brought.ref),
    ]


def test_a_built_wheel_also_needs_what_it_is_compiled_from() -> None:
    needs = component_needs(small_components())
    assert needs["wheel:gamma@2.0"] == ("wheel:alpha@1.2", "source:gamma@2.0")
    assert needs["wheel:alpha@1.2"] == ("wheel:beta@0.9",)
    # What is not drawn is not needed.
    assert component_needs([component("alpha", "1.2", "wheel:beta@0.9")]) == {"wheel:alpha@1.2": ()}
