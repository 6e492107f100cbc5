"""`lockbuild why` and `lockbuild graph` on the small stack, whose artifacts say what they require."""

from __future__ import annotations

import json
import tomllib
from dataclasses import replace
from typing import TYPE_CHECKING

import pytest

from lockbuild.digest import sha256_of
from lockbuild.documents import toml_text
from lockbuild.folders import STACK_FILE
from lockbuild.imagelock import LockedImage
from lockbuild.lock import OpenPart
from lockbuild.process import run as start
from tests.debs import make_deb
from tests.needs import need
from tests.test_cli import builder, run, world
from tests.wheels import make_wheel

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path
    from xml.etree.ElementTree import Element

    from lockbuild.lock import LockedDeb, LockedPackage
    from tests.test_cli import Run
    from tests.worlds import World

__all__ = ["builder", "run", "world"]

_DEPENDS = {
    "python3": {"Pre-Depends": "libc6 (>= 2.36)", "Depends": "timezones | absent, tzdata (>= 1)"},
    "tzdata": {"Essential": "yes", "Provides": "timezones"},
    "g++": {"Depends": "libc6:any"},
}


@pytest.fixture(autouse=True)
def requiring(world: World, tmp_path: Path) -> None:
    """Let the artifacts of the small stack say what they require, and lock those."""
    need("dpkg-deb")

    def packed(deb: LockedDeb) -> LockedDeb:
        made = make_deb(tmp_path, deb.package, deb.version, fields=_DEPENDS.get(deb.package))
        (world.archive / deb.path).write_bytes(data := made.read_bytes())
        return replace(deb, sha256=sha256_of(data), size=len(data))

    document = tomllib.loads(world.folder.read_stack_text())
    bound = {"requirement": "beta<1", "reason": "it is small"}
    document["python"]["constraints"] = [bound, "alpha<2"]
    (world.folder.path / STACK_FILE).write_text(toml_text(document), encoding="utf-8")
    world.relock(replace(world.lock, debs=tuple(map(packed, world.lock.debs))))
    requires = ["beta>=0.5; python_version >= '3.8'", "Beta<9", "beta>1; extra == 'all'", "other"]
    relocked(world, requires)


def relocked(world: World, requires: Sequence[str]) -> None:
    """Let alpha's wheel say that it *requires* so much, and lock it."""
    data = make_wheel(world.files, "alpha", "1.2", requires=requires).read_bytes()

    def locked(package: LockedPackage) -> LockedPackage:
        if package.name != "alpha" or package.wheel is None:
            return package
        return replace(package, wheel=replace(package.wheel, sha256=sha256_of(data), size=len(data)))

    lock = world.lock
    build = tuple((name, tuple(map(locked, found))) for name, found in lock.build)
    world.relock(replace(lock, runtime=tuple(map(locked, lock.runtime)), build=build))


# ---- bills of materials ----------------------------------------------------------------------------


def test_bill_of_materials_of_what_is_not_fetched_says_that_it_is_incomplete(run: Run) -> None:
    empty = run("audit", "small", "--against", "lock", "--format", "cyclonedx").json
    (incomplete,) = empty["compositions"]
    assert all(ref == "image" or ref.startswith("deb:") for ref in incomplete["dependencies"])
    run("fetch", "small")
    fetched = run("audit", "small", "--against", "lock", "--format", "cyclonedx").json
    assert "compositions" not in fetched
    assert fetched["serialNumber"] != empty["serialNumber"]


# ---- why -------------------------------------------------------------------------------------------


def test_each_step_says_what_is_required(run: Run) -> None:
    run("fetch", "small")
    assert run("why", "small", "Beta").out.splitlines() == [
        "beta 0.9 (wheel) in the image",
        "  python.requires: alpha>=1",
        "    alpha 1.2 requires beta>=0.5; python_version >= '3.8'; Beta<9",
        "beta 0.9 (wheel) in the build environment",
        "  build[gamma].needs: alpha",
        "    alpha 1.2 requires beta>=0.5; python_version >= '3.8'; Beta<9",
        "beta 0.9 (wheel) in the build environment `native`",
        "  build[delta].needs: gamma",
        "    gamma 2.0 requires alpha",
        "    alpha 1.2 requires beta>=0.5; python_version >= '3.8'; Beta<9",
        "bounded by python.constraints: beta<1 (it is small)",
    ]


def test_debs_say_what_they_depend_on(run: Run) -> None:
    run("fetch", "small")
    steps = [
        "  base: essential in every system",
        "  interpreter.apt: python3",
        "    python3 3.11.2-1+b1 requires timezones | absent; tzdata (>= 1)",
    ]
    assert run("why", "small", "tzdata").out.splitlines() == [
        "tzdata 2025b-0+deb12u1 (deb) in the image",
        *steps,
        "tzdata 2025b-0+deb12u1 (deb) in the toolchain",
        *steps,
    ]
    lines = run("why", "small", "deb:libc6").out.splitlines()
    assert "    g++ 4:12.2.0-3 requires libc6:any" in lines
    assert "    python3 3.11.2-1+b1 requires libc6 (>= 2.36)" in lines


def test_what_is_not_fetched_requires_by_name_alone(run: Run) -> None:
    lines = run("why", "small", "beta").out.splitlines()
    assert "    alpha 1.2 requires beta" in lines


def test_what_is_not_fetched_may_lead_to_a_deb(run: Run) -> None:
    ended = run("why", "small", "libc6")
    assert "  as far as is known, nothing that the stack asks for leads to it" in ended.out.splitlines()
    assert (
        "packages are not fetched, so that what they need is not known: `lockbuild fetch " in ended.err
    )
    # What wheels need is in the lock.
    assert "not known" not in run("why", "small", "beta").err
    run("fetch", "small")
    assert "not known" not in run("why", "small", "libc6").err


def test_what_only_an_extra_requires_is_told(run: Run, world: World) -> None:
    relocked(world, ["beta>=0.5; extra == 'all'", "beta (>=1.*)"])
    run("fetch", "small")
    assert "    alpha 1.2 requires beta>=0.5; extra == 'all'" in run("why", "small", "beta").out


def test_damaged_artifacts_require_by_name_alone(run: Run, world: World) -> None:
    run("fetch", "small")
    for name in ("alpha-1.2-py3-none-any.whl", "python3_3.11.2-1+b1_amd64.deb"):
        path = world.store.locate(world.fetched(name))
        path.chmod(0o644)
        path.write_bytes(b"damaged")
    assert "    alpha 1.2 requires beta" in run("why", "small", "beta").out.splitlines()
    ended = run("why", "small", "tzdata")
    assert ended.code == 0
    assert "1 package cannot be read, so that what it needs is not known: `lockbuild audit " in ended.err
    assert "base: essential" in ended.out


def test_what_a_base_image_brings_may_not_be_known_yet(run: Run, world: World) -> None:
    reference = "docker.io/library/debian:12"
    document = tomllib.loads(world.folder.read_stack_text())
    document |= {
        "base": {"toolchain": reference, "runtime": reference},
        "interpreter": {"image": "python3"},
        "apt": {},
    }
    (world.folder.path / STACK_FILE).write_text(toml_text(document), encoding="utf-8")
    images = tuple(LockedImage(root=root, reference=reference) for root in ("runtime", "toolchain"))
    parts = tuple(OpenPart(kind="base", name=one.root, reason="no answer") for one in images)
    world.relock(replace(world.lock, debs=(), images=images, open=parts))
    ended = run("why", "small", "zlib1g")
    assert ended.code == 2
    assert "what the base image brings is known once" in ended.err
    assert "what the base image brings is known once" in run("graph", "small").err
    assert "base.runtime: docker.io/library/debian:12" in run("why", "small", reference).out


def test_why_as_json(run: Run) -> None:
    run("fetch", "small")
    (first, *_) = run("why", "small", "beta", "--json").json
    assert first == {
        "ref": "wheel:beta@0.9",
        "kind": "wheel",
        "name": "beta",
        "version": "0.9",
        "place": "the image",
        "count": 1,
        "chains": [
            {
                "asked-by": "python.requires",
                "asks": "alpha>=1",
                "steps": [
                    {
                        "ref": "wheel:alpha@1.2",
                        "requires": "beta>=0.5; python_version >= '3.8'; Beta<9",
                    }
                ],
            }
        ],
    }


def test_kinds_of_one_name_are_told_apart(run: Run) -> None:
    both = run("why", "small", "gamma").out
    assert "gamma 2.0 (wheel) in the image" in both
    assert "gamma 2.0 (source) in what is compiled from" in both
    assert "(wheel)" not in run("why", "small", "source:gamma").out
    assert run("why", "small", "wheel:gamma@2.0").out.count("gamma 2.0 (") == 2


def test_unknown_names_get_the_nearest(run: Run) -> None:
    ended = run("why", "small", "alfa")
    assert ended.code == 2
    assert "`alfa` is no part of stacks/small" in ended.err
    assert "did you mean `alpha`?" in ended.err


def test_many_chains_are_cut_short(run: Run, world: World) -> None:
    document = tomllib.loads(world.folder.read_stack_text())
    document["python"]["requires"] = [f"alpha>={number / 100}" for number in range(12)]
    (world.folder.path / STACK_FILE).write_text(toml_text(document), encoding="utf-8")
    world.relock(world.lock)
    out = run("why", "small", "beta").out
    assert out.count("  python.requires: ") == 10
    assert "  and 2 more: `--all`" in out.splitlines()
    assert run("why", "small", "beta", "--all").out.count("  python.requires: ") == 12


# ---- graph -----------------------------------------------------------------------------------------


def arrows(dot: str) -> set[tuple[str, str]]:
    """Return the arrows of a graph, as graphviz reads them."""
    need("dot")
    read = start(["dot", "-Tdot_json"], stdin=dot)
    assert read.returncode == 0, read.stderr
    found = json.loads(read.stdout)
    names = {one["_gvid"]: one["name"] for one in found["objects"]}
    return {(names[one["tail"]], names[one["head"]]) for one in found.get("edges", ())}


IMAGE = {
    ("wheel:alpha@1.2", "wheel:beta@0.9"),
    ("wheel:gamma@2.0", "wheel:alpha@1.2"),
    ("deb:python3@3.11.2-1+b1", "deb:libc6@2.36-9+deb12u10"),
    ("deb:python3@3.11.2-1+b1", "deb:tzdata@2025b-0+deb12u1"),
}
COMPILED = {
    ("deb:g++@4:12.2.0-3", "deb:libc6@2.36-9+deb12u10"),
    ("wheel:delta@0.1", "source:delta@0.1"),
    ("wheel:gamma@2.0", "source:gamma@2.0"),
}


@pytest.mark.parametrize(
    ("words", "expected"),
    [
        ((), IMAGE),
        (("--all",), IMAGE | COMPILED),
        (("--kind", "wheel"), {one for one in IMAGE if one[0].startswith("wheel")}),
        (("--around", "beta"), {("wheel:alpha@1.2", "wheel:beta@0.9")}),
        (("--around", "beta", "--depth", "2"), {one for one in IMAGE if one[0].startswith("wheel")}),
        (("--around", "g++", "--all"), {("deb:g++@4:12.2.0-3", "deb:libc6@2.36-9+deb12u10")}),
        (("--depth", "0"), {("wheel:gamma@2.0", "wheel:alpha@1.2")}),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, tuple) else "",
)
def test_graph_of_components(run: Run, words: tuple[str, ...], expected: set[tuple[str, str]]) -> None:
    run("fetch", "small")
    assert arrows(run("graph", "small", *words).out) == expected


def test_graph_says_of_how_many_packages_arrows_are_absent(run: Run) -> None:
    ended = run("graph", "small", "--kind", "deb")
    assert arrows(ended.out) == set()
    assert "3 packages are not fetched, so that what they need is not known" in ended.err
    assert run("graph", "small", "--kind", "wheel").err == ""
    run("fetch", "small")
    assert run("graph", "small", "--kind", "deb").err == ""


def test_graph_says_how_large_parts_are(run: Run) -> None:
    run("fetch", "small")
    lines = run("graph", "small", "--sizes").out.splitlines()
    (alpha,) = (line for line in lines if line.startswith('    "wheel:alpha'))
    assert ' B"' in alpha
    assert "width=" in alpha


def test_graph_of_builds(run: Run, world: World) -> None:
    found = arrows(run("graph", "small", "--builds").out)
    plan = world.plan
    toolchain, stamped = world.built("toolchain"), world.built("gamma")
    assert (str(stamped), str(world.compiled("gamma"))) in found
    assert (str(world.compiled("gamma")), str(toolchain)) in found
    reduced = arrows(run("graph", "small", "--builds", "--reduce").out)
    # The environment of a wheel is of the same toolchain.
    assert (str(world.compiled("gamma")), str(toolchain)) not in reduced
    assert reduced < found
    assert {path for arrow in found for path in arrow} <= {str(path) for path in plan.derivations}


@pytest.mark.parametrize("name", ["gamma", "wheel gamma", "gamma-2.0"])
def test_graph_around_a_build(run: Run, world: World, name: str) -> None:
    found = arrows(run("graph", "small", "--builds", "--around", name).out)
    assert (str(world.built("gamma")), str(world.compiled("gamma"))) in found
    assert str(world.built("delta")) not in {path for arrow in found for path in arrow}


def test_graph_shows_what_the_store_lacks(run: Run) -> None:
    assert run("graph", "small", "--builds").out.count("dashed") == 9
    run("build", "small")
    assert "dashed" not in run("graph", "small", "--builds").out


def test_graph_as_mermaid(run: Run) -> None:
    lines = run("graph", "small", "--format", "mermaid", "--kind", "wheel").out.splitlines()
    assert lines[3] == "flowchart LR"
    assert '    n0["alpha 1.2"]:::k0' in lines
    assert "  n0 --> n1" in lines


def test_graph_as_svg(run: Run) -> None:
    need("dot")
    from xml.etree import ElementTree as ET

    root: Element = ET.fromstring(run("graph", "small", "--format", "svg").out)
    assert root.tag == "{http://www.w3.org/2000/svg}svg"
    texts = {found.text for found in root.iter("{http://www.w3.org/2000/svg}text")}
    assert {"alpha 1.2", "Python packages", "Debian packages"} <= texts


def test_without_graphviz_there_is_no_svg(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("lockbuild.process.find_tool", lambda _name: None)
    ended = run("graph", "small", "--format", "svg")
    assert ended.code == 10
    assert "`dot` is not installed; drawing a graph as SVG needs it" in ended.err
    assert "graphviz" in ended.err


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (("--around", "alfa"), "`alfa` is no part of stacks/small"),
        (("--around", "g++"), "`g++` is not among what is drawn of stacks/small"),
        (("--builds", "--around", "gama"), "`gama` is nothing that stacks/small builds"),
        (("--builds", "--kind", "wheel"), "`--builds`: found beside `--kind`"),
    ],
    ids=str,
)
def test_what_cannot_be_drawn_is_refused(run: Run, words: tuple[str, ...], message: str) -> None:
    ended = run("graph", "small", *words)
    assert ended.code == 2
    assert message in ended.err


def test_too_many_arrows_for_mermaid_are_told(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("lockbuild.cli.drawing._MOST_ARROWS", 1)
    assert "mermaid draws 1 arrows and these are 2" in run("graph", "small", "--format", "mermaid").err
