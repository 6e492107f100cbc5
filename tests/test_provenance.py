"""The record of a built wheel: what it says, that CycloneDX takes it, and that no tampered one is believed."""

from __future__ import annotations

import json
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import pytest
from cyclonedx.schema import SchemaVersion
from cyclonedx.validation.json import JsonStrictValidator
from packageurl import PackageURL

from lockbuild.derivation import Addresses, Build, Fetch, RegistryImage
from lockbuild.derivationtext import derivation_text
from lockbuild.digest import canonical_json
from lockbuild.lock import LockedFile, LockedSource
from lockbuild.plan import EPOCH, make_plan
from lockbuild.provenance import Provenance, closure_of, parse_record, record_text, stamped_build
from tests.values import any_build, deb, sha, small_lock, small_stack, stack_document

if TYPE_CHECKING:
    from collections.abc import Callable

    from lockbuild.digest import StorePath
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


def test_derivation_that_says_too_little_is_refused() -> None:
    where = Addresses(urls=("https://example.org/gamma.tar.gz",))
    file = Fetch(filename="gamma.tar.gz", sha256=sha("it"), size=1, where=where)
    none = {"toolchain": None, "env": ()}
    source = any_build(kind="source", command=(), inputs=(("source", file.path),), **none)
    wheel = any_build(inputs=(("source", source.path),), **none)
    made_of = (file, source, wheel)
    properties = [
        {"name": "lockbuild:format", "value": "1"},
        {"name": "lockbuild:build", "value": wheel.path},
        *({"name": "lockbuild:derivation", "value": derivation_text(one)} for one in made_of),
    ]
    named = {"metadata": {"component": {"name": "gamma", "version": "2.0"}}}
    message = refusal({**named, "formulation": [{"properties": properties}]})
    assert "a derivation that says too little" in message


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
