"""Pickles among assets, sources and packages: what is found in them, and that it is found once."""

from __future__ import annotations

import io
import json
import pickle
import zipfile
from dataclasses import replace
from typing import TYPE_CHECKING

import pytest

from lockbuild.derivation import Addresses, Fetch
from lockbuild.digest import sha256_of
from tests.test_audit import broken, only, skips, subject, world  # noqa: F401 - fixtures
from tests.test_pickles import evil
from tests.wheels import make_wheel

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

    from lockbuild.audit import Subject

CODE = b"\x80\x02cmodels.yolo\nModel\n)\x81}b."
URLS = ("https://a.example.org/x", "https://b.example.org/x")


def with_asset(subject: Subject, data: bytes, name: str = "weights.pth") -> Subject:
    fetch = Fetch(filename=name, sha256=sha256_of(data), size=len(data), where=Addresses(urls=URLS))
    file = subject.store.root.parent / "given"
    file.write_bytes(data)
    subject.store.add_file(fetch.path, file, sha256=fetch.sha256, size=len(data))
    plan = replace(
        subject.plan,
        derivations={**subject.plan.derivations, fetch.path: fetch},
        assets=(("weights", fetch.path),),
    )
    return replace(subject, plan=plan)


def with_members(subject: Subject, kind: str, files: Mapping[str, bytes], tmp_path: Path) -> Subject:
    folder = tmp_path / "members"
    for name, data in files.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_bytes(data)
    fetch = Fetch(filename="data", sha256=sha256_of(b"data"), size=None, where=Addresses(urls=URLS))
    subject.store.add_folder(fetch.path, folder)
    derivations = {**subject.plan.derivations, fetch.path: fetch}
    change = {"derivations": derivations, kind: (("data", fetch.path),)}
    return replace(subject, plan=replace(subject.plan, **change))  # type: ignore[arg-type]


def test_pickle_code__in_weights(subject: Subject) -> None:
    assert only(with_asset(subject, evil()), "pickle-code") == (
        "asset weights: loading weights.pth imports posix.system, which can run whatever the file says"
    )


def test_pickle_code__of_another_package_is_a_warning(subject: Subject) -> None:
    from lockbuild.audit import audit

    (finding,) = audit(with_asset(subject, CODE)).findings
    assert (finding.check, finding.level) == ("pickle-code", "warning")
    assert finding.facts == (("imports", "models.yolo.Model"),)


def test_pickle_code__in_a_member_of_an_archive(subject: Subject, tmp_path: Path) -> None:
    other = with_members(subject, "assets", {"a/model.dat": evil(), "b.txt": b"text"}, tmp_path)
    assert only(other, "pickle-code").startswith("asset data: loading a/model.dat imports posix.system")


def test_pickle_code__in_a_source(subject: Subject, tmp_path: Path) -> None:
    # The application's own classes are no news, and names that no pickle has are not looked at.
    files = {"zoo/a.pkl": evil(), "zoo/b.pkl": CODE, "zoo/c.py": evil()}
    other = with_members(subject, "sources", files, tmp_path)
    assert only(other, "pickle-code").startswith("source data: loading zoo/a.pkl imports posix.system")


def test_pickle_code__in_a_package(subject: Subject, tmp_path: Path) -> None:
    own = b"\x80\x02cjoblib.parallel\nParallel\n."
    files = {"alpha/data/x.pkl": evil(), "alpha/data/y.pkl": CODE, "alpha/z.pth": b"import os\n"}
    wheel = make_wheel(
        tmp_path, "alpha", "9.0", files={**files, "alpha/own.pkl": own.replace(b"joblib", b"alpha")}
    )
    data = wheel.read_bytes()
    fetch = Fetch(
        filename=wheel.name, sha256=sha256_of(data), size=len(data), where=Addresses(urls=URLS)
    )
    subject.store.add_file(fetch.path, wheel, sha256=fetch.sha256)
    wheels = tuple((name, fetch.path if name == "alpha" else path) for name, path in subject.plan.wheels)
    other = replace(subject, plan=replace(subject.plan, wheels=wheels))
    (line,) = broken(other)["pickle-code"]
    assert line.startswith("alpha: loading alpha/data/x.pkl imports posix.system")


def test_a_damaged_wheel_of_the_store_is_told_as_damaged_alone(subject: Subject, tmp_path: Path) -> None:
    wheel = make_wheel(tmp_path, "alpha", "9.0", files={"alpha/x.pkl": evil()})
    data = wheel.read_bytes()
    fetch = Fetch(
        filename=wheel.name, sha256=sha256_of(data), size=len(data), where=Addresses(urls=URLS)
    )
    subject.store.add_file(fetch.path, wheel, sha256=fetch.sha256)
    place = subject.store.locate(fetch.path)
    place.chmod(0o644)
    place.write_bytes(data[:100])
    wheels = tuple((name, fetch.path if name == "alpha" else path) for name, path in subject.plan.wheels)
    derivations = {**subject.plan.derivations, fetch.path: fetch}
    other = replace(subject, plan=replace(subject.plan, wheels=wheels, derivations=derivations))
    assert set(broken(other)) == {"store-bytes"}
    # Once it is repaired it is looked into.
    place.write_bytes(data)
    assert broken(other)["pickle-code"][0].startswith("alpha: loading alpha/x.pkl imports posix")


def test_weights_without_code_are_nothing(subject: Subject) -> None:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as archive:
        archive.writestr("archive/data.pkl", pickle.dumps({"w": 1}, protocol=2))
    assert not broken(with_asset(subject, buffer.getvalue()))


def test_pickle_unread__of_weights_that_are_cut_off(subject: Subject) -> None:
    line = only(with_asset(subject, pickle.dumps({"w": [1.0] * 99}, protocol=2)[:60]), "pickle-unread")
    assert line.endswith(": it is cut off")


def test_what_was_found_is_noted_and_read_from_there(subject: Subject) -> None:
    other = with_asset(subject, evil())
    (_, path) = other.plan.assets[0]
    before = broken(other)
    version, noted = json.loads(subject.store.note(path, "pickles") or "")
    assert noted[0]["what"] == ["posix.system"]
    subject.store.write_note(path, "pickles", json.dumps([version, [{**noted[0], "what": ["os.fork"]}]]))
    assert "imports os.fork" in broken(other)["pickle-code"][0]
    subject.store.write_note(path, "pickles", json.dumps([version - 1, []]))
    assert broken(other) == before


@pytest.mark.parametrize("note", ["", "[]", "{", "[1, 2]", '[1, [{"member": 1}]]'])
def test_a_damaged_note_is_none(subject: Subject, note: str) -> None:
    other = with_asset(subject, evil())
    subject.store.write_note(other.plan.assets[0][1], "pickles", note)
    assert "pickle-code" in broken(other)


def test_of_an_empty_store_no_pickle_is_read(subject: Subject) -> None:
    for path in subject.store.paths():
        subject.store.remove(path)
    assert "lockbuild fetch" in skips(subject)["pickle-code"]
