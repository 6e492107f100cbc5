"""Bills of materials: what they say, that each standard's own validator takes them, and that nothing else enters them."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from cyclonedx.schema import SchemaVersion
from cyclonedx.validation.json import JsonStrictValidator
from ntia_conformance_checker import NTIAChecker
from packageurl import PackageURL
from spdx_tools.spdx.parser.parse_anything import parse_file
from spdx_tools.spdx.validation.document_validator import validate_full_spdx_document

from lockbuild.components import Component, ref_of
from lockbuild.findings import Finding
from lockbuild.lock import LockedFile, LockedSource
from lockbuild.sbom import Bill, bill_of
from lockbuild.sbom.cyclonedx import cyclonedx_text
from lockbuild.sbom.spdx import spdx_text
from tests.values import sha, small_lock, small_stack, stack_document

if TYPE_CHECKING:
    from collections.abc import Callable

COMMIT = "44f764299fa305faf6ec5ebd99939e0508331503"
PATCH = LockedFile(filename="load.patch", sha256=sha("patch"))
EDITS = [
    {"patch": "patches/load.patch", "reason": "loads weights alone"},
    {"file": "setup.py", "old": "14", "new": "17", "reason": "torch wants C++17"},
]


def one(kind: Any, name: str, version: str = "", **more: Any) -> Component:
    """Return a component with whatever else is said of it."""
    ref = ref_of(kind, name, version)
    return Component(
        **{
            "ref": ref,
            "kind": kind,
            "name": name,
            "version": version,
            "purl": "",
            "sha256": sha(ref),
            "size": 7,
            **more,
        }
    )


ALPHA = one(
    "wheel",
    "alpha",
    "1.2",
    purl="pkg:pypi/alpha@1.2",
    origin="pypi",
    licence="BSD-3-Clause AND LicenseRef-Alpha",
    declared="BSD and more",
    told_by="License",
    needs=("deb:libc6@1.0-1", "wheel:gone@1"),
    requested=True,
)
GAMMA = one(
    "wheel",
    "gamma",
    "2.0+pt20",
    purl="pkg:pypi/gamma@2.0%2Bpt20",
    origin="https://github.com/Example/Gamma.git",
    built=True,
    needs=("wheel:alpha@1.2",),
    licence="MIT",
    told_by="licence file",
)
LIBC = one(
    "deb",
    "libc6",
    "1.0-1",
    purl="pkg:deb/debian/libc6@1.0-1?arch=amd64",
    origin="debian bookworm",
    source_name="glibc",
    source_version="1.0-1",
    declared="see copyright",
    installed_size=12,
)
COMPILER = one(
    "deb",
    "g++",
    "4:12.2.0-3",
    purl="pkg:deb/debian/g%2B%2B@4:12.2.0-3?arch=amd64",
    origin="debian bookworm",
    in_image=False,
    needs=("deb:libc6@1.0-1",),
)
SOURCE = one(
    "source",
    "gamma",
    COMMIT,
    purl=f"pkg:github/example/gamma@{COMMIT}",
    origin="https://github.com/Example/Gamma.git",
    in_image=False,
)
APP = one("source", "app", origin="stack", licence="Apache-2.0", told_by="stack")
WEIGHTS = one(
    "asset", "weights.pth", origin="https://example.org/weights.pth", licence="MIT", told_by="stack"
)
BODY = one("asset", "body", in_image=False, sha256=None, size=None)
BASE = one("base", "debian", "bookworm", sha256=None, size=None, origin="debian bookworm")
COMPONENTS = (ALPHA, GAMMA, LIBC, COMPILER, SOURCE, APP, WEIGHTS, BODY, BASE)
TZDATA = one("deb", "tzdata", "2025b-0", purl="pkg:deb/debian/tzdata@2025b-0", requested=True)
UNFETCHED = tuple(
    replace(part, needs_known=part not in (LIBC, TZDATA, BASE)) for part in (*COMPONENTS, TZDATA)
)
"""As an empty store has it: who needs libc6 nobody knows, nor what it needs, nor what the base brings along."""


def bill(*components: Component, findings: tuple[Finding, ...] = ()) -> Bill:
    document = stack_document()
    document["build"][0]["source"] = {"git": "https://github.com/Example/Gamma.git", "commit": COMMIT}
    document["build"][0]["edits"] = EDITS
    lock = small_lock()
    source = LockedSource(
        name="gamma",
        version="2.0",
        index="",
        file=LockedFile(filename="gamma-44f764299fa3", sha256=sha("tree")),
        commit=COMMIT,
        patches=(("patches/load.patch", PATCH),),
    )
    lock = replace(lock, sources=(source, lock.sources[1]), digest=sha("lock"))
    return bill_of(small_stack(build=document["build"]), lock, components or COMPONENTS, findings)


def cyclonedx(*components: Component, findings: tuple[Finding, ...] = ()) -> dict[str, Any]:
    found: dict[str, Any] = json.loads(cyclonedx_text(bill(*components, findings=findings)))
    return found


def spdx(*components: Component) -> dict[str, Any]:
    found: dict[str, Any] = json.loads(spdx_text(bill(*components)))
    return found


def by_ref(listed: list[dict[str, Any]]) -> dict[str, dict[str, Any]]:
    return {entry["bom-ref"]: entry for entry in listed}


def by_name(document: dict[str, Any]) -> dict[str, dict[str, Any]]:
    return {package["SPDXID"]: package for package in document["packages"]}


def related(document: dict[str, Any], kind: str) -> set[tuple[str, str]]:
    return {
        (
            entry["spdxElementId"].removeprefix("SPDXRef-"),
            entry["relatedSpdxElement"].removeprefix("SPDXRef-"),
        )
        for entry in document["relationships"]
        if entry["relationshipType"] == kind
    }


# ---- both -----------------------------------------------------------------------------------------


@pytest.mark.parametrize(("name", "write"), [("cyclonedx", cyclonedx_text), ("spdx", spdx_text)])
def test_document_is_the_golden_one(
    name: str, write: Callable[[Bill], str], golden: Callable[[str, str], None]
) -> None:
    golden(f"sbom/{name}.json", write(bill()))


@pytest.mark.parametrize("write", [cyclonedx_text, spdx_text])
def test_order_and_hash_seed_change_nothing(write: Callable[[Bill], str]) -> None:
    assert write(bill(*reversed(COMPONENTS))) == write(bill())
    module = write.__module__
    script = f"import sys; from tests.test_sbom import bill; from {module} import {write.__name__} as w; sys.stdout.write(w(bill()))"
    texts = {
        subprocess.run(
            [sys.executable, "-c", script],
            env={"PYTHONHASHSEED": seed, "PYTHONPATH": ":".join(sys.path), "TZ": zone},
            capture_output=True,
            check=True,
        ).stdout
        for seed, zone in (("1", "UTC"), ("2", "Asia/Tokyo"))
    }
    assert texts == {write(bill()).encode()}


@pytest.mark.parametrize("write", [cyclonedx_text, spdx_text])
def test_another_content_is_another_document(write: Callable[[Bill], str]) -> None:
    def name(*components: Component) -> str:
        found = json.loads(write(bill(*components)))
        return str(found.get("serialNumber") or found["documentNamespace"])

    assert name() != name(*COMPONENTS[1:])
    assert re.fullmatch(r"urn:uuid:[0-9a-f-]{36}", name())


@pytest.mark.parametrize("write", [cyclonedx_text, spdx_text])
def test_what_a_store_happens_to_have_of_a_compiler_changes_nothing(
    write: Callable[[Bill], str],
) -> None:
    """It is in the image, whose bytes must not depend on that."""
    told = tuple(
        replace(part, installed_size=9, needs=(LIBC.ref,)) if part == COMPILER else part
        for part in COMPONENTS
    )
    untold = tuple(
        replace(part, installed_size=None, needs=()) if part == COMPILER else part for part in COMPONENTS
    )
    assert write(bill(*told)) == write(bill(*untold))


@pytest.mark.parametrize(
    ("origin", "supplier"),
    [
        ("pypi", "PyPI"),
        ("debian bookworm", "Debian"),
        ("pytorch-cu113", "pytorch-cu113"),
        ("https://github.com/Example/Gamma.git", "github.com/Example"),
        ("https://example.org/weights.pth", "example.org"),
        ("docker.io/nvidia/cuda:11.8.0-runtime-ubuntu22.04", "docker.io/nvidia"),
        ("", ""),
    ],
)
def test_supplier_is_whoever_gives_it_out(origin: str, supplier: str) -> None:
    (part,) = bill(replace(ALPHA, origin=origin)).parts
    assert part.supplier == supplier


def test_supplier_of_a_folder_beside_the_stack_file_is_the_stack() -> None:
    """And of what is compiled from it."""
    purl = "pkg:generic/delta@0.1?checksum=sha256:0"
    source = one("source", "delta", "0.1", purl=purl, origin="extension", in_image=False)
    wheel = one("wheel", "delta", "0.1", purl="pkg:pypi/delta@0.1", origin="extension", built=True)
    assert [part.supplier for part in bill(source, wheel).parts] == ["small", "small"]


# ---- CycloneDX ------------------------------------------------------------------------------------


def test_cyclonedx_validator_takes_it() -> None:
    assert JsonStrictValidator(SchemaVersion.V1_6).validate_str(cyclonedx_text(bill())) is None


def test_cyclonedx_of_what_is_not_fetched_leaves_out_what_nobody_knows() -> None:
    text = cyclonedx_text(bill(*(replace(part, needs=()) for part in UNFETCHED)))
    assert JsonStrictValidator(SchemaVersion.V1_6).validate_str(text) is None
    document = json.loads(text)
    edges = {entry["ref"]: entry["dependsOn"] for entry in document["dependencies"]}
    assert edges.keys().isdisjoint({LIBC.ref, TZDATA.ref})
    assert edges[GAMMA.ref] == []
    # That nothing else needs it is not known of a .deb here.
    assert LIBC.ref not in edges["image"]
    assert {TZDATA.ref, GAMMA.ref} <= set(edges["image"])
    assert document["compositions"] == [
        {
            "aggregate": "incomplete",
            "assemblies": ["image"],
            "dependencies": ["image", LIBC.ref, TZDATA.ref],
        }
    ]


def test_cyclonedx_of_what_is_all_known_calls_nothing_incomplete() -> None:
    document = cyclonedx()
    assert "compositions" not in document
    assert all("dependsOn" in entry for entry in document["dependencies"])


def test_cyclonedx_of_an_image_with_nothing_in_it_is_valid() -> None:
    assert JsonStrictValidator(SchemaVersion.V1_6).validate_str(cyclonedx_text(bill(COMPILER))) is None


def test_components_are_what_the_image_holds_or_is_given() -> None:
    found = by_ref(cyclonedx()["components"])
    assert set(found) == {part.ref for part in (ALPHA, GAMMA, LIBC, APP, WEIGHTS, BODY, BASE)}
    assert {ref for ref, entry in found.items() if entry.get("scope") == "optional"} == {"asset:body"}


def test_what_was_only_compiled_with_stands_under_formulation() -> None:
    (formula,) = cyclonedx()["formulation"]
    assert set(by_ref(formula["components"])) == {COMPILER.ref, SOURCE.ref}


def test_dependencies_are_edges_between_what_is_there() -> None:
    edges = {entry["ref"]: entry.get("dependsOn", []) for entry in cyclonedx()["dependencies"]}
    assert edges[GAMMA.ref] == [ALPHA.ref]
    assert edges[ALPHA.ref] == [LIBC.ref]
    # Asked for, or needed by nothing else.
    assert edges["image"] == [
        "asset:body",
        "asset:weights.pth",
        "base:debian@bookworm",
        "source:app",
        ALPHA.ref,
        GAMMA.ref,
    ]


def test_file_has_its_hash_and_a_tree_that_of_its_listing() -> None:
    document = cyclonedx()
    (formula,) = document["formulation"]
    tree = by_ref(formula["components"])[SOURCE.ref]
    assert "hashes" not in tree
    assert {"name": "lockbuild:tree-sha256", "value": SOURCE.sha256} in tree["properties"]
    assert by_ref(document["components"])[ALPHA.ref]["hashes"] == [
        {"alg": "SHA-256", "content": ALPHA.sha256}
    ]


def test_built_wheel_has_its_source_and_patches_as_pedigree() -> None:
    pedigree = by_ref(cyclonedx()["components"])[GAMMA.ref]["pedigree"]
    assert [source["purl"] for source in pedigree["ancestors"]] == [SOURCE.purl]
    assert [patch["diff"]["url"] for patch in pedigree["patches"]] == ["patches/load.patch"]
    assert pedigree["notes"] == (
        f"patch patches/load.patch sha256:{PATCH.sha256}: loads weights alone\n"
        "text replaced in setup.py: torch wants C++17"
    )


def test_licence_says_who_said_so() -> None:
    found = by_ref(cyclonedx()["components"])
    (declared,), (read,), (words,) = (found[ref]["licenses"] for ref in (ALPHA.ref, GAMMA.ref, LIBC.ref))
    assert declared == {"acknowledgement": "declared", "expression": ALPHA.licence}
    assert read == {"acknowledgement": "concluded", "expression": "MIT"}
    assert words == {"license": {"acknowledgement": "declared", "name": "see copyright"}}


def test_every_package_url_is_kept() -> None:
    for entry in cyclonedx()["components"]:
        if "purl" in entry:
            assert entry["purl"] in {part.purl for part in COMPONENTS}
            assert PackageURL.from_string(entry["purl"]).to_string() == entry["purl"]


FOUND = Finding(
    check="vulnerability",
    level="error",
    subject="alpha",
    message="1.2 has PYSEC-2025-1",
    mend="move to a version that has it fixed",
    facts=(
        ("id", "PYSEC-2025-1"),
        ("aliases", "CVE-2025-1 GHSA-x"),
        ("severity", "high"),
        ("score", "7.5"),
        ("fixed", "1.2.9 1.3"),
        ("package", "alpha"),
        ("version", "1.2"),
        ("components", f"{ALPHA.ref} {COMPILER.ref}"),
    ),
)


def of_gamma(**facts: str) -> Finding:
    """Return the finding of another part, with other facts."""
    return replace(
        FOUND,
        facts=tuple({**dict(FOUND.facts), "package": "gamma", "components": GAMMA.ref, **facts}.items()),
    )


def vulnerabilities(*findings: Finding) -> list[dict[str, Any]]:
    text = cyclonedx_text(bill(findings=findings))
    assert JsonStrictValidator(SchemaVersion.V1_6).validate_str(text) is None
    found: list[dict[str, Any]] = json.loads(text).get("vulnerabilities", [])
    return found


def test_vulnerability_stands_beside_what_it_is_of() -> None:
    (found,) = vulnerabilities(FOUND, replace(FOUND, check="licence-unknown"))
    assert found["id"] == "PYSEC-2025-1"
    assert found["ratings"] == [{"score": 7.5, "severity": "high"}]
    assert [one["id"] for one in found["references"]] == ["CVE-2025-1", "GHSA-x"]
    # The compiler is not in the image.
    assert found["affects"] == [
        {"ref": ALPHA.ref, "versions": [{"version": "1.2", "status": "affected"}]}
    ]
    assert found["recommendation"] == "fixed in 1.2.9, 1.3"


def test_vulnerability_of_two_packages_is_said_of_each_and_a_waiver_with_it() -> None:
    other = replace(
        of_gamma(severity="unknown", score="", fixed=""), waived="until 2026-01-01: not used"
    )
    found = by_ref(vulnerabilities(FOUND, other))
    assert set(found) == {"PYSEC-2025-1:alpha", "PYSEC-2025-1:gamma"}
    second = found["PYSEC-2025-1:gamma"]
    assert second["analysis"] == {"detail": "waived until 2026-01-01: not used"}
    assert second["ratings"] == [{"severity": "unknown"}]
    assert "recommendation" not in second


def test_vulnerability_of_a_wheel_and_a_deb_of_one_name_is_said_of_each() -> None:
    found = vulnerabilities(FOUND, of_gamma(package="alpha", ecosystem="Debian:12"))
    assert len({one["bom-ref"] for one in found}) == len(found) == 2
    assert sorted(one["affects"][0]["ref"] for one in found) == sorted((ALPHA.ref, GAMMA.ref))


@pytest.mark.parametrize(
    ("word", "severity"),
    [
        ("low", "low"),
        ("malicious", "critical"),
        ("unimportant", "info"),
        ("not yet assigned", "unknown"),
    ],
)
def test_severity_is_said_in_the_standards_words(word: str, severity: str) -> None:
    (found,) = vulnerabilities(of_gamma(severity=word))
    assert found["ratings"][0]["severity"] == severity


def test_vulnerability_of_what_only_compiles_is_none_of_the_image() -> None:
    assert vulnerabilities(of_gamma(components=COMPILER.ref)) == []


# ---- SPDX -----------------------------------------------------------------------------------------


@pytest.mark.parametrize("components", [COMPONENTS, (COMPILER,), UNFETCHED])
def test_spdx_validator_takes_it(components: tuple[Component, ...], tmp_path: Path) -> None:
    file = tmp_path / "small.spdx.json"
    file.write_text(spdx_text(bill(*components)), encoding="utf-8")
    assert validate_full_spdx_document(parse_file(str(file))) == []


def test_pyspdxtools_takes_it(tmp_path: Path) -> None:
    file = tmp_path / "small.spdx.json"
    file.write_text(spdx_text(bill()), encoding="utf-8")
    program = Path(sys.executable).parent / "pyspdxtools"
    command = [str(program), "--infile", str(file), "--version", "SPDX-2.3"]
    ran = subprocess.run(command, capture_output=True, text=True, check=False)
    assert (ran.returncode, ran.stderr) == (0, "")


def test_a_reader_that_is_not_ours_finds_the_minimum_elements(tmp_path: Path) -> None:
    """NTIA's: supplier, name, version, identifier, relationship, author, time. The checker is the SPDX project's."""
    file = tmp_path / "small.spdx.json"
    file.write_text(spdx_text(bill()), encoding="utf-8")
    checker = NTIAChecker(str(file))
    assert (checker.parsing_errors, checker.validation_messages) == ([], [])
    assert checker.get_total_number_components() > len(bill().of("held"))
    assert checker.compliant


def test_image_contains_what_it_holds_and_nothing_else() -> None:
    document = spdx()
    held = {name for root, name in related(document, "CONTAINS") if root == "image"}
    assert held == {
        "wheel-alpha-1.2",
        "wheel-gamma-2.0-pt20",
        "deb-libc6-1.0-1",
        "source-app",
        "asset-weights.pth",
        "base-debian-bookworm",
    }
    assert related(document, "BUILD_TOOL_OF") == {("deb-g-4-12.2.0-3", "image")}
    assert related(document, "PROVIDED_DEPENDENCY_OF") == {("asset-body", "image")}


def test_spdx_asserts_nothing_of_what_nobody_knows() -> None:
    document = spdx(*UNFETCHED)
    unknown = {"image", "deb-libc6-1.0-1", "deb-tzdata-2025b-0"}
    assert {name for name, other in related(document, "DEPENDS_ON") if other == "NOASSERTION"} == unknown
    assert ("image", "NOASSERTION") in related(document, "CONTAINS")
    assert "NOASSERTION" not in {other for _, other in related(spdx(), "DEPENDS_ON")}


def test_built_wheel_is_generated_from_its_source_and_patched() -> None:
    document = spdx()
    assert related(document, "GENERATED_FROM") == {("wheel-gamma-2.0-pt20", f"source-gamma-{COMMIT}")}
    assert related(document, "PATCH_FOR") == {("patch-patches-load.patch", "wheel-gamma-2.0-pt20")}
    assert by_name(document)["SPDXRef-patch-patches-load.patch"]["checksums"] == [
        {"algorithm": "SHA256", "checksumValue": PATCH.sha256}
    ]


def test_names_that_spdx_would_confuse_are_told_apart() -> None:
    plain, plus = one("deb", "g", "1"), one("deb", "g+", "1")
    found = {package["name"]: package["SPDXID"] for package in spdx(plain, plus)["packages"]}
    assert found["g"] != found["g+"]


def test_licence_of_no_list_stands_with_its_words() -> None:
    (own,) = spdx()["hasExtractedLicensingInfos"]
    assert own == {
        "licenseId": "LicenseRef-Alpha",
        "name": "BSD and more",
        "extractedText": "BSD and more",
    }


def test_commit_can_be_had_again() -> None:
    found = by_name(spdx())[f"SPDXRef-source-gamma-{COMMIT}"]
    assert found["downloadLocation"] == f"git+https://github.com/Example/Gamma.git@{COMMIT}"
