"""Reading OSV exports: folders and zips, newest entries, and what others may have put into them."""

from __future__ import annotations

import json
import os
import stat
import subprocess
import sys
import zipfile
from contextlib import contextmanager
from datetime import date
from typing import TYPE_CHECKING, Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from lockbuild.errors import UsageError
from lockbuild.osvexport import read_export
from lockbuild.progress import Silent
from tests.advisories import MODIFIED, about, record, write_folder, write_zip
from tests.needs import need

if TYPE_CHECKING:
    from collections.abc import Collection, Iterator
    from pathlib import Path

    from lockbuild.osv.records import Database, Name
    from lockbuild.progress import Progress

TORCH, ZLIB = ("PyPI", "torch"), ("Debian", "zlib")
OF_TORCH = record("GHSA-1", about("torch", ("introduced", "0"), ("fixed", "2")))
OF_ZLIB = record("DEBIAN-CVE-1-1", about("zlib", ("introduced", "0"), ecosystem="Debian:12"))
OF_OTHER = record("GHSA-2", about("other", ("introduced", "0")))


TODAY = date(2026, 3, 5)


def read(path: Path, names: Collection[Name], progress: Progress | None = None) -> Database:
    return read_export(path, names, progress, today=TODAY)


def read_ids(path: Path) -> list[str]:
    return [one.id for one in read(path, {TORCH, ZLIB}).records]


# ---- shapes ----------------------------------------------------------------------------------------


def test_a_folder_with_a_folder_for_each_ecosystem(tmp_path: Path) -> None:
    database = read(write_folder(tmp_path / "osv", OF_TORCH, OF_ZLIB, OF_OTHER), {TORCH, ZLIB})
    assert [one.id for one in database.records] == ["DEBIAN-CVE-1-1", "GHSA-1"]
    assert (database.total, sorted(database.newest), database.faults) == (3, ["Debian", "PyPI"], ())


def test_a_zip(tmp_path: Path) -> None:
    assert read_ids(write_zip(tmp_path / "all.zip", OF_TORCH, OF_ZLIB)) == ["DEBIAN-CVE-1-1", "GHSA-1"]


def test_a_folder_with_a_zip_for_each_ecosystem_and_what_lies_beside(tmp_path: Path) -> None:
    for name, one in (("PyPI", OF_TORCH), ("Debian", OF_ZLIB)):
        (tmp_path / name).mkdir()
        write_zip(tmp_path / name / "all.zip", one)
    (tmp_path / "modified_id.csv").write_text("2026-01-01,PyPI/GHSA-1\n", encoding="utf-8")
    (tmp_path / "ecosystems.txt").write_text("PyPI\n", encoding="utf-8")
    assert read_ids(tmp_path) == ["DEBIAN-CVE-1-1", "GHSA-1"]


def test_one_record(tmp_path: Path) -> None:
    write_folder(tmp_path, OF_TORCH)
    assert read_ids(tmp_path / "PyPI" / "GHSA-1.json") == ["GHSA-1"]


def test_what_is_null_is_not_said(tmp_path: Path) -> None:
    told = about("torch", ("introduced", "0"))
    told["ranges"][0]["events"][0]["fixed"] = None
    write_folder(tmp_path, record("GHSA-1", {**told, "severity": None}, aliases=None, withdrawn=None))
    assert read_ids(tmp_path) == ["GHSA-1"]


def test_names_are_normalised(tmp_path: Path) -> None:
    write_folder(tmp_path, record("GHSA-1", about("Torch", ("introduced", "0"))))
    assert read_ids(tmp_path) == ["GHSA-1"]


def test_withdrawn_records_are_left_out(tmp_path: Path) -> None:
    write_folder(tmp_path, {**OF_TORCH, "withdrawn": MODIFIED}, OF_ZLIB)
    assert read_ids(tmp_path) == ["DEBIAN-CVE-1-1"]


@pytest.mark.parametrize("first", ["a", "b"])
def test_of_two_entries_with_one_id_the_later_counts(tmp_path: Path, first: str) -> None:
    second = "b" if first == "a" else "a"
    older, later = "2026-01-01T00:00:00Z", "2026-01-01T00:00:00.5Z"
    write_zip(tmp_path / f"{first}.zip", {**OF_TORCH, "modified": older})
    write_zip(tmp_path / f"{second}.zip", {**OF_TORCH, "modified": later, "withdrawn": later}, OF_ZLIB)
    assert read_ids(tmp_path) == ["DEBIAN-CVE-1-1"]


def test_age(tmp_path: Path) -> None:
    write_folder(
        tmp_path,
        OF_TORCH,
        {**OF_OTHER, "modified": "2026-03-04T05:06:07.123456789Z"},
        {**OF_ZLIB, "modified": "2025-02-03T04:05:06Z"},
    )
    for number, file in enumerate(sorted(tmp_path.rglob("*.json"))):
        os.utime(file, (1_700_000_000 + number * 86400,) * 2)
    database = read(tmp_path, {TORCH})
    assert {family: when and when.date() for family, when in database.newest.items()} == {
        "PyPI": date(2026, 3, 4),
        "Debian": date(2025, 2, 3),
    }
    assert database.written == date(2023, 11, 16)


@pytest.mark.parametrize(
    "later", ["2026-03-06T00:00:00Z", "9999-12-31T23:59:59Z", "9999-12-31T23:59:59-12:00"]
)
def test_a_record_of_a_day_to_come_says_nothing_of_the_age(tmp_path: Path, later: str) -> None:
    today = {**OF_OTHER, "modified": "2026-03-05T23:59:59.9Z"}
    write_folder(tmp_path, today, {**OF_TORCH, "modified": later}, {**OF_ZLIB, "modified": later})
    database = read(tmp_path, {TORCH, ZLIB})
    newest = database.newest["PyPI"]
    assert newest
    assert newest.date() == TODAY
    assert database.newest["Debian"] is None
    assert [one.id for one in database.records] == ["DEBIAN-CVE-1-1", "GHSA-1"]


class _Counting(Silent):
    """Counts what is told of progress."""

    def __init__(self) -> None:
        self.phases: list[tuple[str, int | None]] = []
        self.done = 0

    def advance(self, amount: int) -> None:
        self.done += amount

    @contextmanager
    def phase(self, name: str, *, total: int | None, unit: str) -> Iterator[_Counting]:  # noqa: ARG002
        self.phases.append((name, total))
        yield self


def test_progress_is_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("lockbuild.osvexport._TELLING", 1)
    write_folder(tmp_path, OF_TORCH)
    size = write_zip(tmp_path / "all.zip", OF_ZLIB).stat().st_size
    size += (tmp_path / "PyPI" / "GHSA-1.json").stat().st_size
    counting = _Counting()
    read(tmp_path, {TORCH}, counting)
    assert counting.phases == [("reading vulnerabilities", size)]
    assert 0 < counting.done <= size


# ---- what others may have put into it --------------------------------------------------------------


def test_no_record_at_all(tmp_path: Path) -> None:
    (tmp_path / "a.json").write_text("[]", encoding="utf-8")
    with pytest.raises(UsageError, match="found no OSV record") as caught:
        read(tmp_path, ())
    assert caught.value.details == (f"{tmp_path.name}/a.json: found no JSON object",)


@pytest.mark.parametrize(
    ("data", "why"),
    [
        (b"", "EOF while parsing"),
        (b'{"id": "X-1"', "EOF while parsing"),
        (b"\xff\xfe", "expected value"),
        (b"[" * 100_000, "recursion limit"),
        (b"17", "found no JSON object"),
        (json.dumps({"modified": MODIFIED}).encode(), "`id` is missing"),
        (json.dumps({"id": "\x1b[2J", "modified": MODIFIED}).encode(), "`id` is missing or is none"),
        (json.dumps({"id": "X-1"}).encode(), "`modified` is missing"),
        (json.dumps({"id": "X-1", "modified": "\x1b"}).encode(), "Invalid isoformat string: '\\x1b'"),
        (
            json.dumps({"id": "X-1", "modified": MODIFIED, "affected": 3}).encode(),
            "`affected` is no list",
        ),
        (
            json.dumps(record("X-1", {**about("torch"), "versions": "1.2"})).encode(),
            "affected.0.versions: Input should be a valid tuple",
        ),
        (
            json.dumps(record("X-1", about("torch", ("introduced", 1)))).encode(),  # type: ignore[arg-type]
            "affected.0.ranges.0.events.0.introduced: Input should be a valid string",
        ),
    ],
)
@pytest.mark.parametrize("zipped", [True, False])
def test_what_is_no_record_is_named(tmp_path: Path, data: bytes, why: str, *, zipped: bool) -> None:
    write_folder(tmp_path, OF_TORCH)
    if zipped:
        with zipfile.ZipFile(tmp_path / "all.zip", "w") as archive:
            archive.writestr("bad.json", data)
        where = f"{tmp_path.name}/all.zip: bad.json: "
    else:
        (tmp_path / "bad.json").write_bytes(data)
        where = f"{tmp_path.name}/bad.json: "
    database = read(tmp_path, {TORCH})
    (fault,) = database.faults
    assert fault.startswith(where + why), fault
    assert fault.isprintable()
    assert [one.id for one in database.records] == ["GHSA-1"]


def test_a_wrong_record_of_another_package_is_not_looked_at(tmp_path: Path) -> None:
    write_folder(tmp_path, OF_TORCH, record("X-1", {**about("other"), "versions": "1.2"}))
    assert read(tmp_path, {TORCH}).faults == ()


def test_what_is_no_zip_is_named(tmp_path: Path) -> None:
    write_folder(tmp_path, OF_TORCH)
    (tmp_path / "all.zip").write_bytes(b"<html>please sign in</html>")
    (fault,) = read(tmp_path, {TORCH}).faults
    assert fault == f"{tmp_path.name}/all.zip: cannot be read: File is not a zip file"


def test_a_zip_that_breaks_off_is_named(tmp_path: Path) -> None:
    write_folder(tmp_path, OF_ZLIB)
    whole = write_zip(tmp_path / "all.zip", OF_TORCH).read_bytes()
    (tmp_path / "all.zip").write_bytes(whole[: len(whole) // 2])
    assert "cannot be read" in read(tmp_path, {TORCH}).faults[0]


def test_a_member_with_other_bytes_is_named_and_the_next_is_read(tmp_path: Path) -> None:
    file = tmp_path / "all.zip"
    with zipfile.ZipFile(file, "w") as archive:
        archive.writestr("GHSA-1.json", json.dumps(OF_TORCH))
        archive.writestr("DEBIAN-CVE-1-1.json", json.dumps(OF_ZLIB))
    file.write_bytes(file.read_bytes().replace(b'"GHSA-1"', b'"GHSA-9"', 1))
    database = read(file, {TORCH, ZLIB})
    assert [one.id for one in database.records] == ["DEBIAN-CVE-1-1"]
    assert "GHSA-1.json: cannot be read: Bad CRC-32" in database.faults[0]


def test_an_encrypted_member_is_named(tmp_path: Path) -> None:
    file = write_zip(tmp_path / "all.zip", OF_TORCH, OF_ZLIB)
    data = bytearray(file.read_bytes())
    data[6] |= 1
    data[data.index(b"PK\x01\x02") + 8] |= 1
    file.write_bytes(bytes(data))
    assert read(file, {TORCH}).faults == ("all.zip: GHSA-1.json: is encrypted",)


def test_a_member_compressed_otherwise_is_named(tmp_path: Path) -> None:
    with zipfile.ZipFile(tmp_path / "all.zip", "w", zipfile.ZIP_LZMA) as archive:
        archive.writestr("GHSA-1.json", json.dumps(OF_TORCH))
    write_folder(tmp_path, OF_ZLIB)
    (fault,) = read(tmp_path, {TORCH}).faults
    assert fault == f"{tmp_path.name}/all.zip: GHSA-1.json: is compressed by method 14"


def test_ids_of_others_that_are_none_are_left_out(tmp_path: Path) -> None:
    names = ["CVE-2025-1", "CVE-2025-2 CVE-2025-3", "\x1b[2J", ""]
    write_folder(tmp_path, {**OF_TORCH, "aliases": names, "upstream": names})
    (one,) = read(tmp_path, {TORCH}).records
    assert (one.aliases, one.upstream) == (("CVE-2025-1",), ("CVE-2025-1",))


def test_members_that_are_no_records_are_passed_over(tmp_path: Path) -> None:
    file = write_zip(tmp_path / "all.zip", OF_TORCH)
    with zipfile.ZipFile(file, "a") as archive:
        archive.mkdir("folder.json")
        archive.writestr("README", "hello")
    assert read(file, {TORCH}).faults == ()


def test_nothing_is_written_whatever_members_are_called(tmp_path: Path) -> None:
    (tmp_path / "in").mkdir()
    with zipfile.ZipFile(tmp_path / "in" / "all.zip", "w") as archive:
        archive.writestr("../../outside.json", json.dumps(OF_TORCH))
        archive.writestr("bad\x1b[2J.json", "{")
    before = sorted(tmp_path.rglob("*"))
    database = read(tmp_path / "in", {TORCH})
    assert sorted(tmp_path.rglob("*")) == before
    assert [one.id for one in database.records] == ["GHSA-1"]
    assert all(fault.isprintable() for fault in database.faults)


def test_a_record_without_end_is_not_read_to_its_end(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("lockbuild.osvexport._MOST", 2000)
    write_folder(tmp_path, OF_TORCH, {**OF_ZLIB, "details": "x" * 2000})
    write_zip(tmp_path / "all.zip", {**OF_ZLIB, "details": "x" * 2000})
    database = read(tmp_path, {TORCH, ZLIB})
    assert [one.id for one in database.records] == ["GHSA-1"]
    assert [fault.rpartition(": ")[2] for fault in database.faults] == ["has more than 2000 bytes"] * 2


def test_a_zip_that_unpacks_to_far_more_than_its_size_is_left(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("lockbuild.osvexport._LEAST", 0)
    bomb = [
        record(f"X-{n}", about("torch", ("introduced", "0")), details="x" * 1_000_000) for n in range(9)
    ]
    write_zip(tmp_path / "all.zip", *bomb)
    write_folder(tmp_path, OF_ZLIB)
    database = read(tmp_path, {TORCH, ZLIB})
    assert [one.id for one in database.records] == ["DEBIAN-CVE-1-1"]
    assert "unpacks to far more than its size" in database.faults[0]


def test_what_is_no_plain_file_is_passed_over(tmp_path: Path) -> None:
    write_folder(tmp_path, OF_TORCH)
    os.mkfifo(tmp_path / "waits.json")
    (tmp_path / "nowhere.json").symlink_to("gone")
    (tmp_path / "round").symlink_to(tmp_path)
    assert read(tmp_path, {TORCH}).faults == ()
    assert stat.S_ISFIFO((tmp_path / "waits.json").stat().st_mode)


def test_links_to_folders_are_followed(tmp_path: Path) -> None:
    write_folder(tmp_path / "data", OF_TORCH, OF_ZLIB)
    (tmp_path / "osv").mkdir()
    (tmp_path / "osv" / "PyPI").symlink_to(tmp_path / "data" / "PyPI")
    assert read_ids(tmp_path / "osv") == ["GHSA-1"]
    (tmp_path / "linked").symlink_to("osv")
    assert read_ids(tmp_path / "linked") == ["GHSA-1"]


def test_a_folder_is_read_once_whatever_links_lead_there(tmp_path: Path) -> None:
    write_folder(tmp_path, OF_TORCH)
    (tmp_path / "PyPI" / "up").symlink_to("..")
    (tmp_path / "PyPI" / "self").symlink_to("self")
    (tmp_path / "again").symlink_to("PyPI")
    counting = _Counting()
    assert read(tmp_path, {TORCH}, counting).total == 1
    (file,) = (tmp_path / "PyPI").glob("*.json")
    assert counting.phases == [("reading vulnerabilities", file.stat().st_size)]


@pytest.mark.parametrize("mode", [0, 0o444], ids=["unread", "unsearched"])
def test_a_folder_that_cannot_be_read_is_refused_by_name(tmp_path: Path, mode: int) -> None:
    write_folder(tmp_path, OF_TORCH, OF_ZLIB)
    program = f"""
from datetime import date
from pathlib import Path
from lockbuild.errors import UsageError
from lockbuild.osvexport import read_export
try:
    read_export(Path({str(tmp_path)!r}), (), today=date(2026, 3, 5))
except UsageError as error:
    print(error.message)
"""
    as_others = []
    if os.geteuid() == 0:
        need("setpriv")
        as_others = ["setpriv", "--bounding-set=-dac_override,-dac_read_search"]
    (tmp_path / "PyPI").chmod(mode)
    try:
        said = subprocess.run(
            [*as_others, sys.executable, "-c", program], capture_output=True, text=True, check=True
        ).stdout
    finally:
        (tmp_path / "PyPI").chmod(0o755)
    assert said.startswith(str(tmp_path / "PyPI"))
    assert said.endswith(": cannot be read: Permission denied\n")


json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=5,
)


@pytest.mark.property
@settings(suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    key=st.sampled_from(sorted(OF_TORCH)),
    inner=st.sampled_from(["", *about("torch")]),
    value=json_values,
)
def test_no_value_anywhere_stops_the_reading(tmp_path: Path, key: str, inner: str, value: Any) -> None:
    changed = (
        {**OF_TORCH, "affected": [{**OF_TORCH["affected"][0], inner: value}]} if inner else OF_TORCH
    )
    changed = changed if inner else {**OF_TORCH, key: value}
    (tmp_path / "a.json").write_text(json.dumps(changed), encoding="utf-8")
    (tmp_path / "b.json").write_text(json.dumps(OF_ZLIB), encoding="utf-8")
    assert "DEBIAN-CVE-1-1" in read_ids(tmp_path)


@pytest.mark.property
@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], max_examples=500)
@given(
    changes=st.lists(st.tuples(st.integers(0, 2000), st.integers(0, 255)), max_size=4),
    cut=st.integers(0, 2000),
)
def test_no_byte_anywhere_stops_the_reading(
    tmp_path: Path, changes: list[tuple[int, int]], cut: int
) -> None:
    data = bytearray(write_zip(tmp_path / "all.zip", OF_TORCH, OF_OTHER).read_bytes())
    for place, value in changes:
        data[place % len(data)] = value
    (tmp_path / "all.zip").write_bytes(bytes(data[: -cut or None] if cut < len(data) // 10 else data))
    (tmp_path / "b.json").write_text(json.dumps(OF_ZLIB), encoding="utf-8")
    assert "DEBIAN-CVE-1-1" in read_ids(tmp_path)


def test_names_that_are_no_text(tmp_path: Path) -> None:
    """Found by changing bytes: the central directory names a member by bytes that are not UTF-8, another by nothing."""
    data = write_zip(tmp_path / "a.zip", {**OF_TORCH, "id": "GHSA-é"}).read_bytes()
    for number, name in enumerate((b"\xc3\xa9", b"\xff\xff")):
        assert name == b"\xff\xff" or name in data
        (tmp_path / f"{number}.zip").write_bytes(data.replace("é".encode(), name))
    write_folder(tmp_path, OF_ZLIB)
    database = read(tmp_path, {ZLIB})
    assert [one.id for one in database.records] == ["DEBIAN-CVE-1-1"]
    assert f"{tmp_path.name}/1.zip: cannot be read: 'utf-8' codec" in database.faults[-1]
