"""Vulnerabilities of the project's own stacks: planted ones are found, and pip-audit finds the same where it sees any."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from packaging.version import Version

from lockbuild.folders import StackFolder
from tests.advisories import CRITICAL, about, record, write_folder, write_zip
from tests.servers.osv import serve_osv
from tests.test_cli import run  # noqa: F401 - a fixture

if TYPE_CHECKING:
    from tests.test_cli import Run

PROJECT = Path(__file__).resolve().parent.parent
OF_TORCH = record(
    "GHSA-47fc-vmwq-366v",
    about("torch", ("introduced", "0"), ("fixed", "1.13.1")),
    aliases=["CVE-2022-45907"],
    severity=[CRITICAL],
)
FIXED_BEFORE = record("GHSA-before", about("torch", ("introduced", "0"), ("fixed", "1.12.1")))


@pytest.fixture(autouse=True)
def _own_store(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LOCKBUILD_STORE", str(tmp_path / "store"))


@pytest.fixture
def audited(run: Run) -> Any:
    """Return a function that looks a stack of this project up in an export, and returns what is found."""

    def audit(stack: str, osv: Path) -> dict[str, Any]:
        ended = run(
            "audit", str(PROJECT / "stacks" / stack), "--against", "lock", "--osv", str(osv), "--json"
        )
        assert ended.code in (0, 9), ended.err
        return dict(json.loads(ended.out))

    return audit


def vulnerabilities(document: dict[str, Any]) -> list[dict[str, Any]]:
    return [finding for finding in document["findings"] if finding["check"] == "vulnerability"]


def ids(document: dict[str, Any]) -> dict[str, list[str]]:
    """Return package -> ids of what was found."""
    found: dict[str, list[str]] = {}
    for finding in vulnerabilities(document):
        found.setdefault(finding["subject"], []).append(finding["facts"]["id"])
    return found


def test_a_local_version_of_torch_is_found_in_cu113(audited: Any, tmp_path: Path) -> None:
    document = audited("cu113", write_folder(tmp_path / "osv", OF_TORCH, FIXED_BEFORE))
    (finding,) = vulnerabilities(document)
    assert (finding["subject"], finding["level"]) == ("torch", "error")
    facts = finding["facts"]
    assert (facts["id"], facts["aliases"], facts["version"], facts["score"], facts["fixed"]) == (
        "CVE-2022-45907",
        "GHSA-47fc-vmwq-366v",
        "1.12.1+cu113",
        "9.8",
        "1.13.1",
    )
    assert (facts["reachable"], facts["components"]) == ("no", "wheel:torch@1.12.1+cu113")
    assert "python.wheel says `torch==1.12.1+cu113`" in finding["message"]


def test_a_source_package_is_found_in_cpu_and_one_out_of_range_is_not(
    audited: Any, tmp_path: Path
) -> None:
    _, lock = StackFolder(path=PROJECT / "stacks" / "cpu").read_locked()
    (zlib,) = [deb for deb in lock.debs if deb.package == "zlib1g"]
    source, _, version = zlib.source.partition(" ")
    assert (source, "runtime" in zlib.roots) == ("zlib", True)
    export = write_zip(
        tmp_path / "all.zip",
        record(
            "DEBIAN-CVE-2023-45853",
            about("zlib", ("introduced", "0"), ("fixed", f"{version}+deb12u9"), ecosystem="Debian:12"),
            upstream=["CVE-2023-45853"],
        ),
        record("DSA-1", about("zlib", ("introduced", "0"), ("fixed", version), ecosystem="Debian:12")),
        record("DSA-2", about("zlib", ("introduced", "0"), ecosystem="Debian:11")),
        record("DSA-3", about("zlib1g", ("introduced", "0"), ecosystem="Debian:12")),
        record("DSA-4", about("gcc-12", ("introduced", "99"), ecosystem="Debian:12")),
        record("GHSA-zlib", about("zlib", ("introduced", "0"))),
    )
    (finding,) = vulnerabilities(audited("cpu", export))
    assert (finding["subject"], finding["level"]) == ("zlib", "warning")
    facts = finding["facts"]
    assert (facts["id"], facts["ecosystem"], facts["version"]) == (
        "CVE-2023-45853",
        "Debian:12",
        version,
    )
    assert facts["components"] == f"deb:zlib1g@{zlib.version}"


def test_what_only_the_toolchain_has_is_not_in_the_image(audited: Any, tmp_path: Path) -> None:
    _, lock = StackFolder(path=PROJECT / "stacks" / "cpu").read_locked()
    toolchain = {deb.source.split()[0] for deb in lock.debs if "runtime" not in deb.roots}
    image = {deb.source.split()[0] for deb in lock.debs if "runtime" in deb.roots}
    assert toolchain - image
    records = [
        record(f"DSA-{name}", about(name, ("introduced", "0"), ecosystem="Debian:12"))
        for name in sorted(toolchain | image)
    ]
    assert set(ids(audited("cpu", write_zip(tmp_path / "all.zip", *records)))) == image


def test_the_answer_says_which_database_was_asked(audited: Any, tmp_path: Path) -> None:
    export = write_zip(tmp_path / "all.zip", {**OF_TORCH, "modified": "2020-01-02T00:00:00Z"})
    os.utime(export, (1_600_000_000,) * 2)
    document = audited("cu113", export)
    assert document["vulnerability-database"] == (
        f"{export}: 1 record, newest of PyPI 2020-01-02, written 2020-09-13"
    )
    old = [one for one in document["findings"] if one["check"] == "vulnerability-database-old"]
    assert [one["subject"] for one in old] == ["PyPI"]


def test_a_table_says_which_database_was_asked(run: Run, tmp_path: Path) -> None:
    export = write_zip(tmp_path / "all.zip", OF_TORCH)
    ended = run("audit", str(PROJECT / "stacks" / "cu113"), "--against", "lock", "--osv", str(export))
    assert f"\nvulnerabilities are those of {export}: 1 record, newest of PyPI 2026-01-01" in ended.out


def test_an_export_without_records_is_refused(run: Run, tmp_path: Path) -> None:
    ended = run("audit", str(PROJECT / "stacks" / "cpu"), "--against", "lock", "--osv", str(tmp_path))
    assert ended.code == 2
    assert "found no OSV record" in ended.err


# ---- as pip-audit ----------------------------------------------------------------------------------


def planted(packages: dict[str, str]) -> list[dict[str, Any]]:
    """Return records about *packages* of each shape, with the versions listed as OSV's own service lists them."""
    records = []
    for number, (name, version) in enumerate(sorted(packages.items())):
        public = Version(version).public
        above = f"{Version(version).major + 1}.0"

        def told(
            kind: str,
            *events: tuple[str, str],
            hit: bool,
            name: str = name,
            public: str = public,
            **more: Any,
        ) -> None:
            listed = ["0.0.1", public] if hit else ["0.0.1"]
            records.append(record(f"{kind}-{name}", about(name, *events, versions=listed), **more))

        match number % 5:
            case 0:
                told(
                    "GHSA",
                    ("introduced", "0"),
                    ("fixed", above),
                    hit=True,
                    aliases=[f"CVE-2025-{number}"],
                )
                told(
                    "PYSEC",
                    ("introduced", "0"),
                    ("fixed", above),
                    hit=True,
                    aliases=[f"CVE-2025-{number}"],
                )
            case 1:
                told("GHSA", ("introduced", "0"), ("fixed", public), hit=False)
                told("PYSEC", ("introduced", above), hit=False)
            case 2:
                told("PYSEC", ("introduced", "0"), ("last_affected", public), hit=True)
                told("GHSA", ("introduced", "0"), ("fixed", above), hit=True)
            case 3:
                told("GHSA", ("introduced", "0"), hit=True, withdrawn="2025-09-01T00:00:00Z")
            case _:
                told("OSV", ("introduced", "0"), ("fixed", "0.0.2"), ("introduced", public), hit=True)
    return records


def without_versions(records: list[dict[str, Any]]) -> list[dict[str, Any]]:
    return [
        {**one, "affected": [{**affected, "versions": []} for affected in one["affected"]]}
        for one in records
    ]


def pins_of(stack: str, file: Path) -> Path:
    """Write the pins of a stack's `requirements.txt` without hashes: where some have none yet, pip-audit refuses all."""
    text = (PROJECT / "stacks" / stack / "requirements.txt").read_text(encoding="utf-8")
    file.write_text(
        "\n".join(re.findall(r"^[a-z0-9][^ \n]+==[^ \n]+", text, re.MULTILINE)), encoding="utf-8"
    )
    return file


Told = dict[str, dict[frozenset[str], list[str]]]
"""Package -> the ids of each vulnerability -> later versions that do not have it."""


def pip_audit(requirements: Path, url: str, cache: Path) -> Told:
    ended = subprocess.run(
        [
            *(sys.executable, "-m", "pip_audit", "--vulnerability-service", "osv", "--osv-url", url),
            *("--no-deps", "--disable-pip", "--requirement", str(requirements), "--format", "json"),
            *("--progress-spinner", "off", "--cache-dir", str(cache)),
        ],
        capture_output=True,
        text=True,
        check=False,
    )
    assert ended.returncode == 1, ended.stderr
    return {
        package["name"]: {
            # pip-audit lists what mends a branch that is behind as well.
            frozenset((found["id"], *found["aliases"])): [
                fixed for fixed in found["fix_versions"] if Version(fixed) > Version(package["version"])
            ]
            for found in package["vulns"]
        }
        for package in json.loads(ended.stdout)["dependencies"]
        if package.get("vulns")
    }


def lockbuild(document: dict[str, Any]) -> Told:
    told: Told = {}
    for finding in vulnerabilities(document):
        facts = finding["facts"]
        names = frozenset((facts["id"], *facts["aliases"].split()))
        told.setdefault(finding["subject"], {})[names] = facts["fixed"].split()
    return told


@pytest.mark.parametrize("stack", ["cpu", "cu113"])
def test_pip_audit_finds_the_same_where_it_sees_any(audited: Any, tmp_path: Path, stack: str) -> None:
    _, lock = StackFolder(path=PROJECT / "stacks" / stack).read_locked()
    packages = {package.name: package.version for package in lock.runtime}
    records = planted(packages)
    with serve_osv(records) as url:
        theirs = pip_audit(pins_of(stack, tmp_path / "pins.txt"), url, tmp_path / "cache")
    listed = lockbuild(audited(stack, write_zip(tmp_path / "listed.zip", *records)))
    ranged = lockbuild(audited(stack, write_zip(tmp_path / "ranged.zip", *without_versions(records))))
    assert listed == ranged
    unseen = {name for name, version in packages.items() if Version(version).local}
    assert {name: found for name, found in ranged.items() if name not in unseen} == theirs
    assert len(theirs) > len(packages) / 2 - len(unseen)
    # Local versions are what pip-audit passes over in silence.
    assert not unseen & theirs.keys()
    assert bool(unseen & ranged.keys()) is (stack == "cu113")
