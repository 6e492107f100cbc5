"""Members taken out of archives: from every kind of them, and nothing out of hostile ones."""

from __future__ import annotations

import gzip
import io
import struct
import tarfile
import zipfile
from typing import TYPE_CHECKING

import pytest

from lockbuild import archives
from lockbuild.archives import take_members
from lockbuild.errors import FetchError

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

WEIGHTS = b"weights" * 300_000
FILES = {"data/model.pth": WEIGHTS, "data/smpl/SMPL_NEUTRAL.pkl": b"licensed", "readme": b"text"}


def make_zip(file: Path, files: dict[str, bytes]) -> Path:
    with zipfile.ZipFile(file, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, data in files.items():
            archive.writestr(name, data)
    return file


def make_tar(file: Path, files: dict[str, bytes], *, kind: str = "", prefix: str = "") -> Path:
    with tarfile.open(file, f"w:{kind}") as archive:  # type: ignore[call-overload]
        for name, data in files.items():
            member = tarfile.TarInfo(prefix + name)
            member.size = len(data)
            archive.addfile(member, io.BytesIO(data))
    return file


def link(file: Path, name: str, target: str, kind: bytes) -> Path:
    with tarfile.open(file, "w") as archive:
        member = tarfile.TarInfo(name)
        member.type, member.linkname = kind, target
        archive.addfile(member)
    return file


def take(archive: Path, **members: str) -> dict[str, bytes]:
    """Take members, target -> name, and return what lies there now."""
    into = archive.parent / "into"
    into.mkdir()
    take_members(archive, [(name, target) for target, name in members.items()], into=into, name="data")
    return {
        path.relative_to(into).as_posix(): path.read_bytes()
        for path in into.rglob("*")
        if path.is_file()
    }


def refusal(archive: Path, name: str) -> str:
    with pytest.raises(FetchError) as caught:
        take(archive, target=name)
    assert [p for p in archive.parent.rglob("*") if p.is_symlink()] == []
    return "\n".join((caught.value.message, *caught.value.details))


MAKERS: dict[str, Callable[[Path], Path]] = {
    "zip": lambda folder: make_zip(folder / "a", FILES),
    "tar": lambda folder: make_tar(folder / "a", FILES),
    "tar.gz": lambda folder: make_tar(folder / "a", FILES, kind="gz"),
    "tar.bz2": lambda folder: make_tar(folder / "a", FILES, kind="bz2"),
    "tar.xz": lambda folder: make_tar(folder / "a", FILES, kind="xz"),
    "dotted tar": lambda folder: make_tar(folder / "a", FILES, prefix="./"),
}


@pytest.mark.parametrize("make", MAKERS.values(), ids=MAKERS)
def test_only_what_is_wanted_is_taken(make: Callable[[Path], Path], tmp_path: Path) -> None:
    assert take(make(tmp_path), model="data/model.pth") == {"model": WEIGHTS}


@pytest.mark.parametrize("make", MAKERS.values(), ids=MAKERS)
def test_an_absent_member_is_told_with_the_nearest(make: Callable[[Path], Path], tmp_path: Path) -> None:
    assert "`data/model.pt`: absent; did you mean `data/model.pth`?" in refusal(
        make(tmp_path), "data/model.pt"
    )


def test_a_member_that_resembles_nothing_is_told_with_what_there_is(tmp_path: Path) -> None:
    said = refusal(make_zip(tmp_path / "a", {"x": b"1"}), "weights/model.pth")
    assert "`weights/model.pth`: absent; the archive has `x`" in said


def test_names_that_lead_outside_are_only_names(tmp_path: Path) -> None:
    hostile = {"../../evil": b"1", "/etc/evil": b"2", "model": b"3"}
    assert take(make_tar(tmp_path / "a", hostile), inside="../../evil", model="model") == {
        "inside": b"1",
        "model": b"3",
    }
    assert sorted(path.name for path in tmp_path.iterdir()) == ["a", "into"]


@pytest.mark.parametrize("kind", [tarfile.SYMTYPE, tarfile.LNKTYPE], ids=["symbolic", "hard"])
def test_a_link_in_a_tar_is_refused(tmp_path: Path, kind: bytes) -> None:
    assert "`model` is a link" in refusal(link(tmp_path / "a", "model", "/etc/passwd", kind), "model")


@pytest.mark.parametrize("kind", [tarfile.FIFOTYPE, tarfile.CHRTYPE], ids=["pipe", "device"])
def test_a_special_file_in_a_tar_is_refused(tmp_path: Path, kind: bytes) -> None:
    assert "`model` is no plain file" in refusal(link(tmp_path / "a", "model", "", kind), "model")


def test_a_link_in_a_zip_is_refused(tmp_path: Path) -> None:
    entry = zipfile.ZipInfo("model")
    entry.external_attr = 0o120777 << 16
    with zipfile.ZipFile(tmp_path / "a", "w") as archive:
        archive.writestr(entry, "/etc/passwd")
    assert "`model` is a symbolic link" in refusal(tmp_path / "a", "model")


@pytest.mark.filterwarnings("ignore:Duplicate name")
def test_a_name_that_is_there_twice_is_refused(tmp_path: Path) -> None:
    with zipfile.ZipFile(tmp_path / "a", "w") as archive:
        archive.writestr("model", b"1")
        archive.writestr("model", b"2")
    assert "it has `model` twice" in refusal(tmp_path / "a", "model")


def test_an_encrypted_member_is_refused(tmp_path: Path) -> None:
    file = make_zip(tmp_path / "a", {"model": b"1"})
    data = bytearray(file.read_bytes())
    data[6] |= 1
    data[data.rindex(b"PK\x01\x02") + 8] |= 1
    file.write_bytes(data)
    assert "`model` is encrypted" in refusal(file, "model")


@pytest.mark.parametrize("kind", ["zip", "tar.gz"])
def test_an_archive_that_unpacks_to_far_too_much_is_refused(
    kind: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(archives, "_LEAST", 1024)
    monkeypatch.setattr(archives, "_MOST_AT_ONCE", 2 * 1024 * 1024)
    bomb = {"zeros": bytes(30_000_000), "model": b"1"}
    file = make_zip(tmp_path / "a", bomb) if kind == "zip" else make_tar(tmp_path / "a", bomb, kind="gz")
    assert "far more than its size" in refusal(file, "zeros")


def test_a_bomb_in_front_of_what_is_wanted_is_not_unpacked(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(archives, "_LEAST", 1024)
    monkeypatch.setattr(archives, "_MOST_AT_ONCE", 2 * 1024 * 1024)
    file = make_tar(tmp_path / "a", {"zeros": bytes(30_000_000), "model": b"1"}, kind="gz")
    assert "far more than its size" in refusal(file, "model")


def test_a_header_that_claims_gigabytes_is_not_believed(tmp_path: Path) -> None:
    header = tarfile.TarInfo("././@PaxHeader")
    header.type, header.size = tarfile.XHDTYPE, 4 << 30
    (tmp_path / "a").write_bytes(gzip.compress(header.tobuf(tarfile.USTAR_FORMAT) + bytes(4096)))
    assert "a header of it is far too long" in refusal(tmp_path / "a", "model")


@pytest.mark.parametrize("make", MAKERS.values(), ids=MAKERS)
def test_a_cut_off_archive_is_refused(make: Callable[[Path], Path], tmp_path: Path) -> None:
    file = make(tmp_path)
    data = file.read_bytes()
    file.write_bytes(data[: len(data) // 3])
    assert "archive" in refusal(file, "data/model.pth")


def test_a_changed_byte_in_a_zip_is_noticed(tmp_path: Path) -> None:
    with zipfile.ZipFile(tmp_path / "a", "w") as archive:
        archive.writestr("model", WEIGHTS)
    data = bytearray((tmp_path / "a").read_bytes())
    data[100] ^= 1
    (tmp_path / "a").write_bytes(data)
    assert "its archive is damaged" in refusal(tmp_path / "a", "model")


@pytest.mark.parametrize("data", [b"", b"just text", struct.pack("<64I", *range(64))])
def test_what_is_no_archive_is_refused(tmp_path: Path, data: bytes) -> None:
    (tmp_path / "a").write_bytes(data)
    assert "archive" in refusal(tmp_path / "a", "model")


@pytest.mark.parametrize(
    "said",
    [
        {"GNU.sparse.size": "many"},
        {"GNU.sparse.map": "here,there", "GNU.sparse.size": "5", "GNU.sparse.name": "model"},
        {"GNU.sparse.major": "1", "GNU.sparse.minor": "0", "GNU.sparse.realsize": "many"},
        {"size": "-5"},
    ],
    ids=["sparse size", "sparse map", "sparse members", "size below zero"],
)
def test_numbers_in_headers_that_are_none_are_damage(tmp_path: Path, said: dict[str, str]) -> None:
    with tarfile.open(tmp_path / "a", "w", format=tarfile.PAX_FORMAT) as archive:
        member = tarfile.TarInfo("model")
        member.size, member.pax_headers = len(WEIGHTS), said
        archive.addfile(member, io.BytesIO(WEIGHTS))
    assert "its archive is damaged" in refusal(tmp_path / "a", "model")


def test_a_name_in_a_zip_that_is_not_in_the_encoding_it_claims_is_damage(tmp_path: Path) -> None:
    make_zip(tmp_path / "a", {"modèle": b"weights"})
    data = (tmp_path / "a").read_bytes().replace("è".encode(), b"\xff\xfe")
    (tmp_path / "a").write_bytes(data)
    assert "its archive is damaged" in refusal(tmp_path / "a", "model")


def test_a_zip_that_leads_before_its_beginning_is_damaged(tmp_path: Path) -> None:
    make_zip(tmp_path / "a", {"model": b"weights"})
    data = bytearray((tmp_path / "a").read_bytes())
    # The length of the table of contents, far longer than the file.
    end = data.rindex(b"PK\x05\x06")
    entry = data.index(b"PK\x01\x02")
    data[entry + 42 : entry + 46] = struct.pack("<I", 0xFFFFFF00)
    data[end + 16 : end + 20] = struct.pack("<I", entry + 1000)
    (tmp_path / "a").write_bytes(data)
    assert "its archive is damaged" in refusal(tmp_path / "a", "model")
