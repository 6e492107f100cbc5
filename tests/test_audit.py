"""Every check, broken alone: a whole subject passes all of them, and each test spoils one thing."""

from __future__ import annotations

import base64
import hashlib
import json
import os
import re
import tarfile
import zipfile
from dataclasses import replace
from datetime import UTC, date, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from lockbuild.assetlock import LockedAsset
from lockbuild.audit import (
    CHECKS,
    Finding,
    LockDrift,
    Report,
    Subject,
    audit,
    policy,
)
from lockbuild.audit.vulnerable import told_by
from lockbuild.cells import CHECKS as CELLS
from lockbuild.condalock import CONDA_LOCK
from lockbuild.derivation import PREFIX_TAR
from lockbuild.digest import Sha256, sha256_of, store_path
from lockbuild.inventory import components
from lockbuild.lock import Lock, lock_texts
from lockbuild.osv import Database
from lockbuild.packing import make_manifest, write_wheelhouse
from lockbuild.stack import DebianBase, PinnedWheel
from lockbuild.stack.assets import ON_FIRST_FETCH, Asset
from lockbuild.store.history import Verdict
from tests.advisories import CRITICAL, about, parsed, record
from tests.audited import audited_world, made_image, made_venv, seen, write_archive
from tests.values import HOST, any_build
from tests.wheels import make_wheel

if TYPE_CHECKING:
    from collections.abc import Iterator

    from lockbuild.digest import StorePath
    from lockbuild.findings import About
    from tests.worlds import World

ALPHA = "alpha-1.2-py3-none-any.whl"
DOCKERFILE = (
    "FROM scratch AS image\nCOPY wheels /wheels\nRUN python3 -m pip install --no-index /wheels/*.whl\n"
)
LOCK: tuple[About, ...] = ("lock",)
ONLINE = {"gone-upstream", "yanked"}
"""Checks that ask a network, once they are told to."""
IDS = [check.id for check in CHECKS if check not in policy.CHECKS]


@pytest.fixture
def world(tmp_path: Path) -> Iterator[World]:
    with audited_world(tmp_path) as made:
        for name, path in (*made.plan.builds, *made.plan.roots):
            made.store.history.keep(checked(made, name, path))
        yield made


def checked(world: World, name: str, path: StorePath, **more: Any) -> Verdict:
    """Return a verdict of the object at *path*: identical, where nothing else is said."""
    info = world.store.info(path)
    assert info is not None
    values = {"identical": True, "when": "2026-01-31T23:59:59Z", "where": "sandbox, Linux", **more}
    return Verdict(name=name, path=path, sha256=info.sha256, **values)


@pytest.fixture
def subject(world: World, tmp_path: Path) -> Subject:
    """A stack of which nothing is wrong."""
    lock, manifest = world.lock, make_manifest(world.stack, world.lock, world.plan, world.store)
    write_wheelhouse(world.folder.wheels, manifest, world.store)
    return Subject(
        stack=world.stack,
        lock=lock,
        plan=world.plan,
        store=world.store,
        wheelhouse=world.folder.wheels,
        manifest=manifest,
        dockerfile=DOCKERFILE,
        rendered=DOCKERFILE,
        image=seen(world, write_archive(tmp_path / "image.tar", made_image(world))),
        venv=made_venv(world, tmp_path / "venv"),
        today=date(2026, 1, 1),
        drift=LockDrift(texts=world.folder.read_lock_texts()),
        components=tuple(
            replace(one, licence="MIT") for one in components(world.stack, lock, world.plan, world.store)
        ),
        osv=database(),
    )


def relocked(subject: Subject, lock: Lock) -> Subject:
    """Return *subject* with *lock*, and the texts of that lock."""
    files = lock_texts(lock, name=subject.stack.name, target=subject.stack.target, wheels="wheels")
    if lock.conda:
        files[CONDA_LOCK] = "".join(f"sha256: {package.sha256}\n" for package in lock.conda)
    return replace(subject, lock=lock, drift=LockDrift(texts=files))


def database(*records: dict[str, Any], **changes: Any) -> Database:
    """Return a vulnerability database of today with *records*."""
    today = datetime(2026, 1, 1, tzinfo=UTC)
    whole = Database(
        label="osv",
        records=parsed(*records),
        total=len(records),
        newest={"PyPI": today, "Debian": today},
        written=today.date(),
    )
    return replace(whole, **changes)


def broken(subject: Subject) -> dict[str, list[str]]:
    """Return check -> what it found, a line each."""
    found: dict[str, list[str]] = {}
    for finding in audit(subject).findings:
        found.setdefault(finding.check, []).append(f"{finding.subject}: {finding.message}")
    return found


def only(subject: Subject, check: str) -> str:
    """Return the one thing that *check* found, having seen that no other found any."""
    found = broken(subject)
    assert list(found) == [check]
    (line,) = found[check]
    return line


def skips(subject: Subject) -> dict[str, str]:
    """Return why checks could not run, but for those that want a network."""
    return {check: reason for check, reason in audit(subject).skipped if check not in ONLINE}


# ---- the whole -------------------------------------------------------------------------------------


def test_a_whole_subject_passes_every_check(subject: Subject) -> None:
    report = audit(subject)
    assert (report.findings, {check for check, _ in report.skipped}) == ((), ONLINE)
    assert list(report.passed) == [check for check in IDS if check not in ONLINE]


def test_every_check_says_what_it_looks_at_why_and_how_it_is_mended() -> None:
    assert all(check.what and check.why and check.mend for check in CHECKS)
    assert len(set(IDS)) == len(IDS)


def test_every_check_has_a_test_of_its_own() -> None:
    texts = (path.read_text(encoding="utf-8") for path in Path(__file__).parent.glob("test_audit*.py"))
    names = (name for text in texts for name in re.findall(r"^def test_(\w+?)__", text, re.MULTILINE))
    tested = {name.replace("_", "-") for name in names}
    # Those of cells are tested with them.
    assert set(IDS) - {check.id for check in CELLS} <= tested


def test_a_finding_tells_how_it_is_mended(subject: Subject) -> None:
    (finding,) = audit(replace(subject, dockerfile="FROM scratch\n")).findings
    assert (finding.level, finding.mend) == ("error", "`lockbuild render`")


def test_warnings_are_no_errors(subject: Subject) -> None:
    report = audit(relocked(subject, replace(subject.lock, pins=())))
    assert (report.errors, {finding.level for finding in report.findings}) == (0, {"warning"})


def test_errors_are_counted(subject: Subject) -> None:
    manifest = replace(subject.manifest, wheels=()) if subject.manifest else None
    assert audit(replace(subject, manifest=manifest, dockerfile="FROM scratch\n")).errors == 9


def test_a_report_names_each_check_once(subject: Subject) -> None:
    report: Report = audit(replace(subject, image=None, dockerfile="FROM scratch\n"))
    named = [
        *report.passed,
        *(check for check, _ in report.skipped),
        *(f.check for f in report.findings),
    ]
    assert sorted(named) == sorted(IDS)


# ---- wheels ----------------------------------------------------------------------------------------


def test_wheel_bytes__of_another_program(subject: Subject) -> None:
    (subject.wheelhouse / ALPHA).unlink()
    make_wheel(subject.wheelhouse, "alpha", "1.2", files={"alpha.py": b"evil = True"})
    assert "expected sha256" in only(subject, "wheel-bytes")


def test_wheel_bytes__missing(subject: Subject) -> None:
    (subject.wheelhouse / ALPHA).unlink()
    assert only(subject, "wheel-bytes") == f"{ALPHA}: missing"


def test_wheel_bytes__of_a_clone_that_has_the_manifest_alone(subject: Subject) -> None:
    assert subject.manifest is not None
    for entry in subject.manifest.wheels:
        (subject.wheelhouse / entry.filename).unlink()
    count = len(subject.manifest.wheels)
    assert (
        only(subject, "wheel-bytes") == f"{subject.wheelhouse.name}: none of its {count} wheels is there"
    )


def test_wheel_bytes__that_manifest_and_lock_say_differently(subject: Subject) -> None:
    packages = tuple(
        replace(p, wheel=replace(p.wheel, sha256=sha256_of(b"other")))
        if p.name == "alpha" and p.wheel
        else p
        for p in subject.lock.runtime
    )
    found = only(replace(subject, lock=replace(subject.lock, runtime=packages)), "wheel-bytes")
    assert "the manifest says sha256" in found


def test_wheel_bytes__of_a_build_that_are_not_the_pinned_ones(subject: Subject) -> None:
    pin = subject.lock.pins[0]
    other = replace(pin, wheel=replace(pin.wheel, sha256=sha256_of(b"other")))
    lock = replace(subject.lock, pins=(other, *subject.lock.pins[1:]))
    assert pin.wheel.filename in only(relocked(subject, lock), "wheel-bytes")


def test_wheel_bytes__that_the_manifest_lacks(subject: Subject) -> None:
    assert subject.manifest is not None
    manifest = replace(subject.manifest, wheels=subject.manifest.wheels[1:])
    (subject.wheelhouse / ALPHA).unlink()
    found = only(replace(subject, manifest=manifest), "wheel-bytes")
    assert found == "alpha: 1.2 is locked, but not in the manifest"


@pytest.mark.parametrize("name", ["old-1.0-py3-none-any.whl", "old-1.0.tar.gz"])
def test_wheel_extra__in_the_folder(subject: Subject, name: str) -> None:
    (subject.wheelhouse / name).write_bytes(b"stray")
    assert only(subject, "wheel-extra") == f"{name}: not in the manifest"


def test_wheel_extra__in_the_manifest(subject: Subject) -> None:
    assert subject.manifest is not None
    path = make_wheel(subject.wheelhouse, "old", "1.0")
    entry = replace(
        subject.manifest.wheels[0], name="old", filename=path.name, sha256=sha256_of(path.read_bytes())
    )
    found = only(
        replace(subject, manifest=replace(subject.manifest, wheels=(*subject.manifest.wheels, entry))),
        "wheel-extra",
    )
    assert found == f"{path.name}: in the manifest, but not in the lock"


def test_wheel_record__that_is_not_true(subject: Subject) -> None:
    """A wheel whose own author wrote a wrong RECORD, locked as it is."""
    path = subject.wheelhouse / ALPHA
    path.unlink()
    make_wheel(subject.wheelhouse, "alpha", "1.2", files={"alpha.py": b"true"})
    true, wrong = (
        base64.urlsafe_b64encode(hashlib.sha256(d).digest())[:43] for d in (b"true", b"wrong")
    )
    with_wrong_record(path, true, wrong)
    line = only(locked_as_it_is(subject), "wheel-record")
    assert "`alpha.py`: RECORD says sha256" in line


def test_wheel_record__is_read_once_for_the_same_bytes(subject: Subject) -> None:
    assert broken(subject) == {}
    assert subject.manifest is not None
    for entry in subject.manifest.wheels:
        asked, faults = json.loads(subject.store.note(entry.path, "record.json") or "")
        assert faults == []
        subject.store.write_note(entry.path, "record.json", json.dumps([asked, ["as noted"]]))
    names = [entry.filename for entry in subject.manifest.wheels]
    assert broken(subject) == {"wheel-record": [f"{name}: as noted" for name in names]}


def test_wheel_record__of_other_bytes_is_read_again(subject: Subject) -> None:
    """What was noted of the wheel that belongs there says nothing of the one that lies there."""
    assert broken(subject) == {}
    path = subject.wheelhouse / ALPHA
    path.unlink()
    path.write_bytes(b"no wheel")
    found = broken(subject)
    assert "not a readable zip archive" in found["wheel-record"][0]
    assert set(found) == {"wheel-bytes", "wheel-record"}


def test_wheel_record__is_read_again_where_a_note_is_broken(subject: Subject) -> None:
    assert broken(subject) == {}
    assert subject.manifest is not None
    for entry in subject.manifest.wheels:
        subject.store.write_note(entry.path, "record.json", "{")
    assert broken(subject) == {}


def with_wrong_record(path: Path, true: bytes, wrong: bytes) -> None:
    with zipfile.ZipFile(path) as archive:
        members = {info.filename: archive.read(info) for info in archive.infolist()}
    with zipfile.ZipFile(path, "w") as archive:
        for name, data in members.items():
            archive.writestr(name, data.replace(true, wrong) if name.endswith("RECORD") else data)


def locked_as_it_is(subject: Subject) -> Subject:
    """Return *subject* with lock and manifest that have the hash of alpha's wheel as it lies there."""
    assert subject.manifest is not None
    sha256 = sha256_of((subject.wheelhouse / ALPHA).read_bytes())
    wheels = tuple(
        replace(entry, sha256=sha256) if entry.filename == ALPHA else entry
        for entry in subject.manifest.wheels
    )
    packages = tuple(
        replace(p, wheel=replace(p.wheel, sha256=sha256)) if p.name == "alpha" and p.wheel else p
        for p in subject.lock.runtime
    )
    manifest, lock = replace(subject.manifest, wheels=wheels), replace(subject.lock, runtime=packages)
    return replace(subject, manifest=manifest, lock=lock)


def test_wheel_record__without_what_the_stack_expects(subject: Subject) -> None:
    builds = tuple(
        replace(spec, expects=("delta/_cuda*.so",)) if spec.name == "delta" else spec
        for spec in subject.stack.builds
    )
    line = only(replace(subject, stack=replace(subject.stack, builds=builds)), "wheel-record")
    assert "expected `delta/_cuda*.so`" in line


def test_wheel_tags__of_another_python(subject: Subject) -> None:
    target = replace(subject.stack.target, python="3.12")
    found = broken(replace(subject, stack=replace(subject.stack, target=target)))
    assert list(found) == ["wheel-tags", "interpreter-version", "venv-python"]
    assert [line.partition("-")[0] for line in found["wheel-tags"]] == ["delta", "gamma"]


def test_build_pinned__by_nobody(subject: Subject) -> None:
    line = only(relocked(subject, replace(subject.lock, pins=subject.lock.pins[1:])), "build-pinned")
    assert line == f"{subject.lock.pins[0].name}: the lock does not pin its bytes"


def test_open__an_asset_that_nobody_could_have(subject: Subject) -> None:
    asset = LockedAsset(name="weights", reason="HTTP 403")
    found = only(replace(subject, lock=replace(subject.lock, assets=(asset,))), "open")
    assert found == "asset weights: HTTP 403"


def test_on_first_fetch__an_asset_whose_hash_nobody_told(subject: Subject) -> None:
    asset = Asset(name="weights", path="/w", sha256=ON_FIRST_FETCH)
    locked = LockedAsset(name="weights", sha256=Sha256("a" * 64))
    first = replace(
        subject,
        stack=replace(subject.stack, assets=(asset,)),
        lock=replace(subject.lock, assets=(locked,)),
    )
    assert (
        only(first, "on-first-fetch") == f"weights: nobody told its hash beforehand: sha256 {'a' * 64}"
    )


def test_on_first_fetch__a_wheel_whose_hash_nobody_told(subject: Subject) -> None:
    url = ("https://example.org/alpha-1.2-py3-none-any.whl",)
    pinned = PinnedWheel(
        name="alpha", version="1.2", filename="alpha", url=url, sha256=ON_FIRST_FETCH, requires=()
    )
    python = replace(subject.stack.python, wheels=(pinned,))
    first = replace(subject, stack=replace(subject.stack, python=python))
    assert only(first, "on-first-fetch").startswith("alpha: nobody told its hash beforehand: sha256 ")


def test_moving_ref__a_source_that_names_a_branch(subject: Subject) -> None:
    gamma = replace(subject.lock.sources[0], commit="1" * 40, ref="stable")
    found = only(replace(subject, lock=replace(subject.lock, sources=(gamma,))), "moving-ref")
    assert found == f"{gamma.name}: `stable` stood for {'1' * 40} when it was resolved"


def test_interpreter_host__a_python_of_somebody_s_machine(subject: Subject) -> None:
    found = only(replace(subject, lock=replace(subject.lock, interpreter=HOST)), "interpreter-host")
    assert found == (
        "cpython-3.11.9-host.tar: comes from the machine that resolved; nobody else can fetch it"
    )


def test_without_a_wheelhouse_nothing_is_said_of_wheels(subject: Subject) -> None:
    reasons = skips(replace(subject, manifest=None))
    assert set(reasons) == {check.id for check in CHECKS if check.about == "wheelhouse"}
    assert reasons["wheel-bytes"] == "there is no wheelhouse yet: `lockbuild build`"


# ---- store and bases -------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["root file system", "source"])
def test_store_bytes__changed(subject: Subject, world: World, name: str) -> None:
    roots, source = world.store.locate(world.built("runtime")), world.fetched("gamma-2.0.tar.gz")
    file = roots / "rootfs.tar" if name == "root file system" else world.store.locate(source)
    file.chmod(0o644)
    file.write_bytes(file.read_bytes()[:-1] + b"!")
    os.utime(file, (1, 1))
    assert "damaged" in only(subject, "store-bytes")


def test_of_an_empty_store_nothing_is_said(subject: Subject, world: World) -> None:
    for path in world.store.paths():
        world.store.remove(path)
    reasons = skips(subject)
    made = {"never-checked", "not-reproducible"}
    assert set(reasons) == {"store-bytes", "pickle-code", "pickle-unread", *made}
    assert reasons["store-bytes"] == "the store holds nothing of this stack: `lockbuild fetch`"


def test_base_pinned__by_no_deb(subject: Subject) -> None:
    debs = tuple(replace(deb, roots=("runtime",)) for deb in subject.lock.debs if "runtime" in deb.roots)
    line = only(replace(subject, lock=replace(subject.lock, debs=debs)), "base-pinned")
    assert line == "toolchain: no .deb is locked for it"


# ---- the Dockerfile --------------------------------------------------------------------------------


def test_dockerfile_current__edited(subject: Subject) -> None:
    edited = replace(subject, dockerfile=DOCKERFILE + "ENV EDITED=1\n")
    assert only(edited, "dockerfile-current") == "Dockerfile: is not what the lock renders"


@pytest.mark.parametrize(
    "step",
    ["RUN apt-get update", "ADD https://example.org/file /", "FROM python:3.11 AS other"],
)
def test_dockerfile_network__reached_by_a_step(subject: Subject, step: str) -> None:
    text = f"{DOCKERFILE}{step}\n"
    line = only(replace(subject, dockerfile=text, rendered=text), "dockerfile-network")
    assert line == f"Dockerfile: line 4: {step}"


def test_without_a_dockerfile_nothing_is_said_of_it(subject: Subject) -> None:
    reasons = skips(replace(subject, dockerfile=None))
    assert set(reasons) == {"dockerfile-current", "dockerfile-network"}


# ---- the image -------------------------------------------------------------------------------------


def test_conda_scripts__that_nobody_runs(subject: Subject, tmp_path: Path) -> None:
    build = any_build(name="conda", kind="prefix", toolchain=None)
    plan = replace(subject.plan, derivations={**subject.plan.derivations, build.path: build})
    subject = replace(subject, plan=plan)
    assert "is not built yet" in skips(subject)["conda-scripts"]
    (tmp_path / "prefix").mkdir()
    with tarfile.open(tmp_path / "prefix" / PREFIX_TAR, "w") as tar:
        for name in ("bin/tool", "bin/.tool-post-link.sh", "share/on-post-link.sh"):
            tar.addfile(tarfile.TarInfo(f"opt/conda/{name}"))
    subject.store.add_folder(build.path, tmp_path / "prefix")
    assert only(subject, "conda-scripts") == "/opt/conda/bin/.tool-post-link.sh: is not run"
    place = subject.store.locate(build.path) / PREFIX_TAR
    place.chmod(0o644)
    place.write_bytes(b"damaged")
    assert "cannot be read" in skips(subject)["conda-scripts"]


def test_without_an_image_the_reason_is_told(subject: Subject) -> None:
    reasons = skips(replace(subject, image=None, no_image="no Docker Engine answers"))
    ids = [check.id for check in CHECKS if check.about == "image"]
    assert reasons == dict.fromkeys(ids, "no Docker Engine answers")


def test_without_an_environment_the_reason_is_told(subject: Subject) -> None:
    reasons = skips(replace(subject, venv=None))
    assert set(reasons) == {check.id for check in CHECKS if check.about == "venv"}


# ---- vulnerabilities -------------------------------------------------------------------------------

OF_ALPHA = about("alpha", ("introduced", "1.0"), ("fixed", "1.3"))


def vulnerability(subject: Subject, *records: dict[str, Any]) -> Finding:
    (found,) = audit(replace(subject, osv=database(*records)), LOCK).findings
    assert found.check == "vulnerability"
    return found


def test_vulnerability__of_a_wheel(subject: Subject) -> None:
    found = vulnerability(
        subject,
        record(
            "GHSA-1", OF_ALPHA, aliases=["CVE-2025-1"], severity=[CRITICAL], summary="Bad\n\x1bwords"
        ),
    )
    assert (found.subject, found.level) == ("alpha", "error")
    assert (
        found.message
        == "1.2 has CVE-2025-1 (GHSA-1), critical 9.8, fixed in 1.3, which the stack allows: Bad words"
    )
    assert dict(found.facts) == {
        "id": "CVE-2025-1",
        "aliases": "GHSA-1",
        "severity": "critical",
        "score": "9.8",
        "fixed": "1.3",
        "reachable": "yes",
        "reachable-why": "",
        "package": "alpha",
        "version": "1.2",
        "ecosystem": "PyPI",
        "components": "wheel:alpha@1.2",
    }


def test_vulnerability__of_a_source_package_of_the_image(subject: Subject) -> None:
    (libc,) = [deb for deb in subject.lock.debs if deb.package == "libc6"]
    told = about(libc.source.split()[0], ("introduced", "0"), ecosystem="Debian:12")
    found = vulnerability(subject, record("DEBIAN-CVE-2025-2", told))
    assert (found.subject, found.level) == (libc.source.split()[0], "warning")
    assert found.message.endswith(
        "has CVE-2025-2 (DEBIAN-CVE-2025-2), severity unknown, no fixed version is known"
    )


def test_vulnerability__that_is_grave_is_an_error_without_a_fix(subject: Subject) -> None:
    told = about("alpha", ("introduced", "0"))
    assert vulnerability(subject, record("X-1", told, severity=[CRITICAL])).level == "error"
    assert vulnerability(subject, record("X-1", told)).level == "warning"


def test_vulnerability__of_what_builds_are_only_compiled_with(subject: Subject) -> None:
    told = record(
        "X-1",
        about("setuptools", ("introduced", "0")),
        about("g++", ("introduced", "0"), ecosystem="Debian:12"),
    )
    assert not broken(replace(subject, osv=database(told)))


def test_vulnerability__out_of_range(subject: Subject) -> None:
    told = record("X-1", about("alpha", ("introduced", "0"), ("fixed", "1.2")))
    assert not broken(replace(subject, osv=database(told)))


def test_vulnerability__whose_fix_another_wheel_keeps_out(subject: Subject, tmp_path: Path) -> None:
    told = record("X-1", about("beta", ("introduced", "0"), ("fixed", "1.0")))
    assert dict(vulnerability(subject, told).facts)["reachable"] == "yes"
    wheel = make_wheel(tmp_path, "alpha", "1.2", requires=["beta<1"])
    sha256 = sha256_of(wheel.read_bytes())
    path = store_path(["alpha", sha256], wheel.name)
    wheels = tuple((name, path if name == "alpha" else old) for name, old in subject.plan.wheels)
    other = replace(subject, plan=replace(subject.plan, wheels=wheels))
    assert dict(vulnerability(other, told).facts)["reachable"] == "unknown"
    subject.store.add_file(path, wheel, sha256=sha256)
    found = vulnerability(other, told)
    assert (dict(found.facts)["reachable"], found.level) == ("no", "warning")
    assert found.message.endswith(
        "fixed in 1.0, which the stack does not allow: alpha 1.2 says `beta<1`"
    )


def test_vulnerability__whatever_else_is_looked_into(subject: Subject) -> None:
    named = replace(subject, osv=database(record("X-1", OF_ALPHA)))
    assert "vulnerability" in {found.check for found in audit(named, ["image"]).findings}
    unnamed = audit(replace(subject, osv=None), ["image"])
    assert "vulnerability" not in dict(unnamed.skipped)


def test_vulnerability_is_not_checked_without_a_database(subject: Subject) -> None:
    reasons = skips(replace(subject, osv=None))
    ours = ("vulnerability", "vulnerability-database-old", "vulnerability-not-looked-up")
    assert tuple(reasons) == ours
    assert all("`--osv DIR`" in reason for reason in reasons.values())


def test_vulnerability_database_old__by_a_day(subject: Subject) -> None:
    newest = {"PyPI": datetime(2025, 12, 1, tzinfo=UTC), "Debian": datetime(2025, 12, 2, tzinfo=UTC)}
    line = only(replace(subject, osv=database(newest=newest)), "vulnerability-database-old")
    assert line == "PyPI: its newest record is of 2025-12-01, 31 days ago, expected at most 30"


def test_vulnerability_database_old__where_no_date_can_be_believed(subject: Subject) -> None:
    newest = {**database().newest, "PyPI": None}
    asked = replace(subject, osv=database(newest=newest))
    line = only(asked, "vulnerability-database-old")
    assert line == "PyPI: all of its records are dated later than today, so nobody knows how old it is"
    assert "newest of PyPI of a day to come, newest of Debian 2026-01-01" in told_by(asked.osv)


def test_vulnerability_database_old__of_an_ecosystem_that_nobody_asks(subject: Subject) -> None:
    whole = database()
    newest = {**whole.newest, "npm": datetime(2020, 1, 1, tzinfo=UTC)}
    assert not broken(replace(subject, osv=replace(whole, newest=newest)))


def test_vulnerability_not_looked_up__for_want_of_an_ecosystem(subject: Subject) -> None:
    newest = {"PyPI": datetime(2026, 1, 1, tzinfo=UTC)}
    line = only(replace(subject, osv=database(newest=newest)), "vulnerability-not-looked-up")
    assert line == "Debian: the database has no record of it: 3 packages are not looked up"


def test_vulnerability_not_looked_up__for_want_of_a_name(subject: Subject) -> None:
    base = replace(subject.stack.base, debian=DebianBase(suite="sid"))
    line = only(replace(subject, stack=replace(subject.stack, base=base)), "vulnerability-not-looked-up")
    assert line == "debian sid: OSV has no name for it: 3 source packages are not looked up"


def test_vulnerability_not_looked_up__of_a_base_image_and_an_interpreter(subject: Subject) -> None:
    base = replace(subject.stack.base, debian=None, packages=subject.stack.base.debian, runtime="base:1")
    parts = tuple(
        replace(part, kind="interpreter", ref="interpreter:cpython") if part.name == "alpha" else part
        for part in subject.components
    )
    found = broken(replace(subject, stack=replace(subject.stack, base=base), components=parts))
    assert found["vulnerability-not-looked-up"] == [
        "base:1: what the image holds is not looked up: it is not in the store",
        "interpreter: OSV has no records of it: 1 part is not looked up",
    ]


def test_vulnerability_not_looked_up__of_what_cannot_be_read(subject: Subject) -> None:
    faults = tuple(f"osv/{number}.json: found no JSON object" for number in range(25))
    lines = broken(replace(subject, osv=database(faults=faults)))["vulnerability-not-looked-up"]
    assert (len(lines), lines[0], lines[-1]) == (
        21,
        "osv/0.json: found no JSON object",
        "osv: 5 more records cannot be read",
    )
