"""The record of a built wheel: what it says, that CycloneDX takes it, and that no tampered one is believed."""

from __future__ import annotations

import json
from contextlib import suppress
from dataclasses import replace
from functools import cache
from typing import TYPE_CHECKING, Any

import pytest
from cyclonedx.schema import SchemaVersion
from cyclonedx.validation.json import JsonStrictValidator
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from packageurl import PackageURL

from lockbuild.derivation import ArchiveMembers, BesideFile, Build, Fetch, RegistryImage
from lockbuild.derivationtext import derivation_text, parse_derivation
from lockbuild.digest import StorePath, canonical_json
from lockbuild.lock import LockedFile, LockedSource
from lockbuild.plan import EPOCH, make_plan
from lockbuild.provenance import Provenance, closure_of, parse_record, record_text, stamped_build
from tests.values import any_build, deb, sha, small_lock, small_stack, stack_document

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from lockbuild.derivation import Derivation
    from lockbuild.plan import Plan

COMMIT = "44f764299fa305faf6ec5ebd99939e0508331503"
EDITS = [
    {"patch": "patches/load.patch", "reason": "why"},
    {"file": "setup.py", "old": "14", "new": "17", "reason": "why"},
]


def edited_plan() -> Plan:
    """Return the small plan with a toolchain that has compilers, and gamma from an edited repository."""
    document = stack_document()
    gamma = document["build"][0]
    gamma["source"] = {"git": "https://github.com/Example/Gamma.git", "commit": COMMIT}
    gamma["edits"] = EDITS
    lock = small_lock()
    source = LockedSource(
        name="gamma",
        version="2.0",
        index="",
        file=LockedFile(filename="gamma-44f764299fa3", sha256=sha("tree")),
        commit=COMMIT,
        patches=(("patches/load.patch", LockedFile(filename="load.patch", sha256=sha("patch"))),),
    )
    more = (
        deb("gcc-11", "toolchain", version="11.3.0-12"),
        deb("nvidia-cuda-toolkit", "toolchain", version="11.8.89~11.8.0-5~deb12u1"),
    )
    lock = replace(lock, sources=(source, lock.sources[1]), debs=(*more, *lock.debs))
    runtime = tuple(replace(p, version="2.0+ours") if p.name == "gamma" else p for p in lock.runtime)
    return make_plan(small_stack(build=document["build"]), replace(lock, runtime=runtime))


def record_of(plan: Plan, name: str) -> str:
    build = plan.derivations[dict(plan.builds)[name]]
    assert isinstance(build, Build)
    return build.command[-1]


def document_of(plan: Plan, name: str) -> dict[str, Any]:
    found: dict[str, Any] = json.loads(record_of(plan, name))
    return found


def roles(components: list[dict[str, Any]]) -> set[tuple[str, str]]:
    return {
        (one["name"], prop["value"])
        for one in components
        for prop in one["properties"]
        if prop["name"] == "lockbuild:role"
    }


@pytest.fixture(scope="module")
def plan() -> Plan:
    return edited_plan()


# ---- what it says ----------------------------------------------------------------------------------


def test_record_is_the_golden_one(plan: Plan, golden: Callable[[str, str], None]) -> None:
    shown = json.dumps(document_of(plan, "gamma"), indent=2, ensure_ascii=False)
    golden("provenance.json", f"{shown}\n")


@pytest.mark.parametrize("name", ["gamma", "delta"])
def test_cyclonedx_takes_the_record(plan: Plan, name: str) -> None:
    assert JsonStrictValidator(SchemaVersion.V1_6).validate_str(record_of(plan, name)) is None


def test_every_package_url_is_canonical(plan: Plan) -> None:
    for name in ("gamma", "delta"):
        document = document_of(plan, name)
        components = (*document["components"], *document["formulation"][0]["components"])
        for component in (document["metadata"]["component"], *components):
            assert PackageURL.from_string(component["purl"]).to_string() == component["purl"]


def test_what_the_wheel_holds_is_its_source_and_its_patches(plan: Plan) -> None:
    document = document_of(plan, "gamma")
    assert roles(document["components"]) == {("Gamma", "source"), ("load.patch", "patch")}
    source = next(one for one in document["components"] if one["name"] == "Gamma")
    assert source["purl"] == f"pkg:github/example/gamma@{COMMIT}"
    (patch,) = source["pedigree"]["patches"]
    assert patch["diff"]["url"] == f"../lockbuild/{sha('patch')}.patch"
    assert '"old":"14"' in source["pedigree"]["notes"]


def test_what_it_was_made_with_is_no_component_of_it(plan: Plan) -> None:
    (formula,) = document_of(plan, "gamma")["formulation"]
    assert roles(formula["components"]) >= {
        ("alpha", "build environment"),
        ("setuptools", "build environment"),
        ("gcc-11", "host compiler"),
        ("g++", "host compiler"),
        ("nvidia-cuda-toolkit", "nvcc"),
        ("python3", "interpreter"),
        ("libc6", "toolchain"),
    }
    assert "Gamma" not in {one["name"] for one in formula["components"]}


def test_every_file_has_its_hash_and_a_tree_that_of_its_listing(plan: Plan) -> None:
    document = document_of(plan, "gamma")
    components = (*document["components"], *document["formulation"][0]["components"])
    without = {one["name"] for one in components if "hashes" not in one}
    assert without == {"Gamma"}
    tree = next(one for one in components if one["name"] == "Gamma")
    assert {"name": "lockbuild:tree-sha256", "value": sha("tree")} in tree["properties"]


def test_debian_version_has_its_epoch(plan: Plan) -> None:
    (formula,) = document_of(plan, "gamma")["formulation"]
    compiler = next(one for one in formula["components"] if one["name"] == "g++")
    assert compiler["purl"] == "pkg:deb/debian/g%2B%2B@4:12.2.0-3?arch=amd64"


def test_build_that_another_needs_is_named_as_it_was_compiled(plan: Plan) -> None:
    document = document_of(plan, "delta")
    assert roles(document["components"]) == {("delta-0.1.tar", "source")}
    found = roles(document["formulation"][0]["components"])
    assert {("gamma", "build environment"), ("Gamma", "source")} <= found


def test_image_is_known_by_its_digest() -> None:
    reference = "docker.io/nvidia/cuda:11.8.0-devel-ubuntu22.04"
    image = RegistryImage(reference=reference, architecture="amd64")
    some = next(iter(small_plan_fetches()))
    fetch = replace(some, filename="image-1", sha256=sha("image"), where=image)
    root = any_build(
        name="image-toolchain",
        kind="rootfs",
        toolchain=None,
        command=(),
        inputs=(("image", fetch.path),),
    )
    wheel = any_build(toolchain=root.path, inputs=())
    found = {one.path: one for one in (fetch, root, wheel)}
    text = record_text(Provenance(name="a", version="1", build=wheel.path, derivations=found))
    (component,) = json.loads(text)["formulation"][0]["components"]
    assert component["type"] == "container"
    assert component["purl"] == (
        f"pkg:oci/cuda@sha256:{sha('image')}?arch=amd64&repository_url=docker.io/nvidia/cuda"
        "&tag=11.8.0-devel-ubuntu22.04"
    )
    assert JsonStrictValidator(SchemaVersion.V1_6).validate_str(text) is None


def small_plan_fetches() -> Any:
    return make_plan(small_stack(), small_lock()).fetches()


def test_record_names_no_default_index_no_time_and_no_machine(plan: Plan) -> None:
    text = record_of(plan, "gamma")
    assert "serialNumber" not in text
    assert "timestamp" not in text
    assert '"index":"pypi"' in text.replace("\\", "")
    assert "/home/" not in text
    assert "://" in text
    hosts = {part.split("/")[0] for part in text.replace("\\", "").split("://")[1:]}
    assert hosts == {"cyclonedx.org", "github.com", "packages.example.org"}


# ---- what follows from what ------------------------------------------------------------------------


def test_version_is_that_of_the_lock(plan: Plan) -> None:
    assert document_of(plan, "gamma")["metadata"]["component"]["version"] == "2.0+ours"
    assert plan.name_of(dict(plan.builds)["gamma"]) == "gamma-2.0+ours-stamped"
    assert plan.name_of(dict(plan.compiles)["gamma"]) == "gamma-2.0"


def test_label_moves_no_other_path() -> None:
    bare = make_plan(small_stack(), small_lock())
    lock = small_lock()
    runtime = tuple(replace(p, version="2.0+ours") if p.name == "gamma" else p for p in lock.runtime)
    other = make_plan(small_stack(), replace(lock, runtime=runtime))
    assert other.compiles == bare.compiles
    assert set(other.derivations) ^ set(bare.derivations) == {
        dict(bare.builds)["gamma"],
        dict(other.builds)["gamma"],
    }


def test_stamped_wheel_brings_its_patches(plan: Plan) -> None:
    build = plan.derivations[dict(plan.builds)["gamma"]]
    assert isinstance(build, Build)
    assert [place for place, _ in build.inputs] == [f"patches/{sha('patch')}.patch", "wheel"]


# ---- reading ---------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["gamma", "delta"])
def test_record_is_read_as_it_was_written(plan: Plan, name: str) -> None:
    provenance = parse_record(record_of(plan, name))
    assert provenance.build == dict(plan.compiles)[name]
    assert provenance.derivations == closure_of(provenance.build, plan.derivations)
    assert stamped_build(provenance, epoch=EPOCH) == plan.derivations[dict(plan.builds)[name]]


def refusal(document: Any) -> str:
    text = document if isinstance(document, str) else f"{canonical_json(document).decode()}\n"
    with pytest.raises(ValueError, match=".") as caught:
        parse_record(text)
    return str(caught.value)


@pytest.mark.parametrize(
    "text",
    ["", "null", "[]", "{}", "[" * 99_999, '{"metadata":{}}', '{"metadata":{"component":{"name":"a"}}}'],
    ids=lambda text: text[:20],
)
def test_what_is_no_record_is_refused(text: str) -> None:
    assert refusal(text)


def test_record_of_another_format_is_told_apart(plan: Plan) -> None:
    document = document_of(plan, "gamma")
    document["formulation"][0]["properties"][0]["value"] = "2"
    assert refusal(document) == "its format is '2', this lockbuild knows '1'"


def test_component_that_does_not_follow_from_the_derivations_is_refused(plan: Plan) -> None:
    document = document_of(plan, "gamma")
    document["formulation"][0]["components"][0]["version"] = "9.9"
    assert refusal(document) == "it does not follow from the derivations that it names"


def test_record_with_other_spaces_is_refused(plan: Plan) -> None:
    text = json.dumps(document_of(plan, "gamma"), indent=1)
    assert refusal(text) == "it does not follow from the derivations that it names"


def tampered(plan: Plan, change: Callable[[list[dict[str, str]]], None]) -> str:
    document = document_of(plan, "gamma")
    change(document["formulation"][0]["properties"])
    return refusal(document)


def test_changed_derivation_is_another_and_its_path_is_missed(plan: Plan) -> None:
    def change(properties: list[dict[str, str]]) -> None:
        wheel = next(one for one in properties if '"fetch",1,"alpha-' in one["value"])
        wheel["value"] = wheel["value"].replace(sha("alpha-1.2-py3-none-any.whl"), sha("another"))

    assert "does not say how that is made" in tampered(plan, change)


def test_changed_command_is_another_build(plan: Plan) -> None:
    def change(properties: list[dict[str, str]]) -> None:
        wheel = next(one for one in properties if '"wheel","gamma-2.0"' in one["value"])
        wheel["value"] = wheel["value"].replace("--verbose", "--quiet")

    assert "has no such build of a wheel" in tampered(plan, change)


def test_lacking_derivation_is_missed(plan: Plan) -> None:
    def change(properties: list[dict[str, str]]) -> None:
        del properties[-1]

    assert "does not say how that is made" in tampered(plan, change)


def test_derivation_that_nothing_needs_is_refused(plan: Plan) -> None:
    stray = derivation_text(any_build(name="stray", toolchain=None, inputs=()))

    def change(properties: list[dict[str, str]]) -> None:
        properties.append({"name": "lockbuild:derivation", "value": stray})

    assert "has a derivation that nothing needs" in tampered(plan, change)


def test_build_that_is_no_wheel_is_refused(plan: Plan) -> None:
    root: StorePath = dict(plan.roots)["toolchain"]

    def change(properties: list[dict[str, str]]) -> None:
        properties[1]["value"] = root

    assert "has no such build of a wheel" in tampered(plan, change)


@pytest.mark.parametrize("word", [["x"], {"a": 1}, None, 3])
@pytest.mark.parametrize("key", ["name", "value"])
def test_property_that_is_no_text_is_refused(plan: Plan, key: str, word: Any) -> None:
    def change(properties: list[dict[str, Any]]) -> None:
        properties[0][key] = word

    assert "it lacks what a record of lockbuild's has" in tampered(plan, change)


def test_package_that_the_wheel_brings_along_is_refused() -> None:
    evil = Fetch(filename="a.patch", sha256=sha("evil"), size=1, where=BesideFile(path="a.patch"))
    root = any_build(
        kind="rootfs",
        toolchain=None,
        command=("--suite=bookworm", "--architecture=amd64", "evil=1"),
        env=(("SOURCE_DATE_EPOCH", "315532800"),),
        inputs=(("evil.bin", evil.path),),
    )
    wheel = any_build(toolchain=root.path, inputs=())
    found = {one.path: one for one in (evil, root, wheel)}
    text = record_text(Provenance(name="gamma", version="2.0", build=wheel.path, derivations=found))
    assert refusal(text) == "it brings along what is no patch: `evil.bin`"


def test_wheel_without_a_toolchain_is_refused() -> None:
    wheel = any_build(toolchain=None, inputs=())
    found = {wheel.path: wheel}
    text = record_text(Provenance(name="gamma", version="2.0", build=wheel.path, derivations=found))
    assert refusal(text) == "`gamma-2.0` has no root file system to run in"


@pytest.mark.parametrize("name", ["../a", "a b", "", "-a", "a\n"])
def test_strange_name_is_refused(plan: Plan, name: str) -> None:
    document = document_of(plan, "gamma")
    document["metadata"]["component"]["name"] = name
    assert "names a strange package" in refusal(document)


def test_more_bytes_than_anybody_wants_are_refused(plan: Plan) -> None:
    found = closure_of(dict(plan.compiles)["gamma"], plan.derivations)
    fetch = next(one for one in found.values() if not isinstance(one, Build))
    huge = {**found, fetch.path: replace(fetch, size=2**60)}
    path = dict(plan.compiles)["gamma"]
    text = record_text(Provenance(name="gamma", version="2.0", build=path, derivations=huge))
    assert "would be fetched" in refusal(text)


def test_archive_is_fetched_whole(plan: Plan) -> None:
    found = closure_of(dict(plan.compiles)["gamma"], plan.derivations)
    fetch = next(one for one in found.values() if isinstance(one, Fetch))
    members = ArchiveMembers(
        urls=("https://example.org/a.zip",),
        archive=sha("zip"),
        archive_size=2**60,
        members=(("a", "a"),),
    )
    huge = {**found, fetch.path: replace(fetch, where=members)}
    path = dict(plan.compiles)["gamma"]
    text = record_text(Provenance(name="gamma", version="2.0", build=path, derivations=huge))
    assert "would be fetched" in refusal(text)


# ---- anything at all -------------------------------------------------------------------------------

ODD = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(),
    st.floats(allow_nan=False),
    st.sampled_from(["", "..", "/", "\0", "\ud800", "é", "--suite=-", "http://[", "x" * 300]),
    st.lists(st.just("x"), max_size=1),
    st.dictionaries(st.just("kind"), st.lists(st.just("x"), max_size=1), max_size=1),
)
"""What a stranger might write in the place of anything."""


def places(value: Any, *way: Any) -> Iterator[tuple[Any, ...]]:
    """Yield the way to everything in a JSON document."""
    if way:
        yield way
    pairs = (
        value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    )
    for key, child in pairs:
        yield from places(child, *way, key)


def mutated(value: Any, data: st.DataObject) -> None:
    """Put something odd into *value*, take something away, or put it there twice."""
    ways = list(places(value))
    *way, last = data.draw(st.sampled_from(ways))
    inner = value
    for key in way:
        inner = inner[key]
    how = data.draw(st.sampled_from(["odd", "gone", "twice", "moved"]))
    if how == "odd":
        inner[last] = data.draw(ODD)
    elif how == "gone":
        del inner[last]
    elif how == "moved":
        inner[last] = data.draw(st.sampled_from(_words()))
    elif isinstance(inner, list):
        inner.insert(last, inner[last])


@cache
def _words() -> tuple[Any, ...]:
    """Return every text of a derivation that is well formed."""
    texts = [derivation_text(one) for one in edited_plan().derivations.values()]
    return tuple(
        sorted(
            {repr(word): word for text in texts for word in _flat(json.loads(text))}.values(), key=repr
        )
    )


def _flat(value: Any) -> Iterator[Any]:
    children = value.values() if isinstance(value, dict) else value if isinstance(value, list) else ()
    yield from () if isinstance(value, (dict, list)) else (value,)
    for child in children:
        yield from _flat(child)


def read_or_refused(text: str) -> None:
    with suppress(ValueError):
        parse_record(text)


@pytest.mark.property
@settings(max_examples=300, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(data=st.data())
def test_mutated_record_is_read_or_refused(plan: Plan, data: st.DataObject) -> None:
    document = document_of(plan, "gamma")
    for _ in range(data.draw(st.integers(1, 3))):
        mutated(document, data)
    read_or_refused(json.dumps(document, sort_keys=True, separators=(",", ":")) + "\n")


@pytest.mark.property
@settings(max_examples=500, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(data=st.data())
def test_record_of_a_mutated_derivation_is_read_or_refused(plan: Plan, data: st.DataObject) -> None:
    """All that needs the derivation is made to fit, so that the change is seen by what looks at derivations."""
    build = dict(plan.compiles)["gamma"]
    derivations = closure_of(build, plan.derivations)
    document = json.loads(derivation_text(derivations[data.draw(st.sampled_from(sorted(derivations)))]))
    old = canonical_json(document).decode()
    mutated(document, data)
    texts = refitted([derivation_text(one) for one in derivations.values()], old, document)
    properties = [
        {"name": "lockbuild:format", "value": "1"},
        {"name": "lockbuild:build", "value": texts.pop(0)},
        *({"name": "lockbuild:derivation", "value": text} for text in texts),
    ]
    named = {"metadata": {"component": {"name": "gamma", "version": "2.0"}}}
    read_or_refused(json.dumps({**named, "formulation": [{"properties": properties}]}))
    found = read_all(texts)
    if found and isinstance(found.get(StorePath(properties[1]["value"])), Build):
        provenance = Provenance(
            name="gamma", version="2.0", build=StorePath(properties[1]["value"]), derivations=found
        )
        with suppress(ValueError):
            read_or_refused(record_text(provenance))


def read_all(texts: list[str]) -> dict[StorePath, Derivation]:
    try:
        return {one.path: one for one in map(parse_derivation, texts)}
    except ValueError:
        return {}


def refitted(texts: list[str], old: str, document: Any) -> list[str]:
    """Return the path of the wheel's build and all *texts*, with *document* for *old* and new paths wherever it was."""
    try:
        waiting = [
            (
                path_of(old),
                json.dumps(document, sort_keys=True, separators=(",", ":"), ensure_ascii=False),
            )
        ]
        waiting[0][1].encode()
    except ValueError:
        return ["0" * 32 + "-x", *texts]
    build = path_of(next(text for text in texts if '"wheel","gamma-2.0"' in text))
    texts = [text for text in texts if text != old] + [waiting[0][1]]
    while waiting:
        before, text = waiting.pop()
        try:
            after = path_of(text)
        except ValueError:
            continue
        build = after if build == before else build
        for number, one in enumerate(texts):
            if before in one and one != text:
                texts[number] = one.replace(before, after)
                waiting.append((path_of(one), texts[number]))
    return [build, *texts]


def path_of(text: str) -> str:
    return str(parse_derivation(text).path)
