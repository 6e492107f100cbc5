"""A file that is seen for the first time, from servers on their bad days."""

from __future__ import annotations

import gzip
import hashlib
import io
import pickle
import random
import tarfile
import threading
import zipfile
from typing import TYPE_CHECKING, Any

import pytest

from lockbuild.errors import FetchError
from lockbuild.sources import First, Unpinned, fault_of_kind, first
from lockbuild.sources.kinds import HEAD, kind_of
from tests.fetching import LIMITS, own_environment
from tests.servers.faulty import Fault, FaultyServer, faulty_server

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

DATA = random.Random(3).randbytes(400_000)
SHA1 = hashlib.sha1(DATA).hexdigest()
BLOB = hashlib.sha1(b"blob %d\0" % len(DATA) + DATA).hexdigest()
TAG = (("ETag", '"one"'),)


@pytest.fixture
def server(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[FaultyServer]:
    own_environment(monkeypatch, tmp_path)
    (tmp_path / "www").mkdir()
    for name in ("w.pth", "mirror.pth"):
        (tmp_path / "www" / name).write_bytes(DATA)
    with faulty_server(tmp_path / "www") as made:
        yield made


def see(server: FaultyServer, tmp_path: Path, *paths: str, **known: Any) -> First:
    into = tmp_path / "into"
    into.mkdir(exist_ok=True)
    keep = tmp_path / "keep"
    keep.mkdir(exist_ok=True)
    urls = tuple(path if "://" in path else server.url + path for path in paths or ("/w.pth",))
    return first(
        Unpinned(name="w.pth", urls=urls, **known),
        into=into,
        keep=keep,
        stop=threading.Event(),
        limits=LIMITS,
    )


def refusal(server: FaultyServer, tmp_path: Path, *paths: str, **known: Any) -> str:
    with pytest.raises(FetchError) as caught:
        see(server, tmp_path, *paths, **known)
    return "\n".join(caught.value.details)


def is_whole(found: First) -> bool:
    right = (found.sha256, found.size) == (hashlib.sha256(DATA).hexdigest(), len(DATA))
    return right and found.file.read_bytes() == DATA


def test_hash_and_size_are_those_of_what_came(server: FaultyServer, tmp_path: Path) -> None:
    assert is_whole(see(server, tmp_path))


@pytest.mark.parametrize("checksum", [("sha1", SHA1), ("git-blob", BLOB)], ids=["sha1", "git-blob"])
def test_what_upstream_publishes_is_compared(
    server: FaultyServer, tmp_path: Path, checksum: tuple[str, str]
) -> None:
    assert is_whole(see(server, tmp_path, checksums=(checksum,)))


@pytest.mark.parametrize("name", ["sha1", "git-blob"])
def test_other_bytes_than_upstream_publishes_are_refused(
    server: FaultyServer, tmp_path: Path, name: str
) -> None:
    said = refusal(server, tmp_path, checksums=((name, "0" * 40),))
    assert f"expected {name} {'0' * 40}" in said
    assert f"found    {name} {SHA1 if name == 'sha1' else BLOB}" in said


def test_a_known_sha256_is_compared(server: FaultyServer, tmp_path: Path) -> None:
    assert "wrong bytes" in refusal(server, tmp_path, sha256="0" * 64)


def test_the_next_address_is_asked_after_a_404(server: FaultyServer, tmp_path: Path) -> None:
    assert is_whole(see(server, tmp_path, "/absent.pth", "/mirror.pth"))


@pytest.mark.parametrize(
    "fault",
    [Fault(kind="html"), Fault(kind="status", status=404), Fault(kind="truncate", after=1000)],
    ids=lambda fault: fault.kind,
)
def test_the_next_address_is_asked_after_every_fault(
    server: FaultyServer, tmp_path: Path, fault: Fault
) -> None:
    server.faults["/w.pth"] = fault
    assert is_whole(see(server, tmp_path, "/w.pth", "/mirror.pth"))


def test_a_page_that_came_instead_is_named_with_its_title(server: FaultyServer, tmp_path: Path) -> None:
    server.faults["/w.pth"] = Fault(kind="html")
    assert "an HTML page came instead of the file: `Sign in`" in refusal(server, tmp_path)


def test_a_long_quota_page_is_refused_before_it_is_all_there(
    server: FaultyServer, tmp_path: Path
) -> None:
    page = b"<!DOCTYPE html><html><head><title>Google Drive - Quota exceeded</title>" + b" " * 9_000_000
    (server.root / "w.pth").write_bytes(page)
    assert "`Google Drive - Quota exceeded`" in refusal(server, tmp_path)
    assert server.sent["/w.pth"] < len(page)
    assert [*(tmp_path / "keep").iterdir()] == []


def test_a_redirect_loop_is_given_up(server: FaultyServer, tmp_path: Path) -> None:
    server.faults["/w.pth"] = Fault(kind="redirect", location="/w.pth")
    assert "more than 10 redirects" in refusal(server, tmp_path)


def test_a_truncated_file_is_never_taken_for_whole(server: FaultyServer, tmp_path: Path) -> None:
    server.faults["/w.pth"] = Fault(kind="truncate", after=1000)
    assert "closed the connection before the end, after 1000 of 400000 bytes (3 tries)" in refusal(
        server, tmp_path
    )


def test_a_file_without_an_end_that_could_be_told_is_refused(
    server: FaultyServer, tmp_path: Path
) -> None:
    server.faults["/w.pth"] = Fault(length=False)
    assert "does not say how long the file is, and neither does `size`" in refusal(server, tmp_path)


def test_a_known_size_is_the_end_of_a_file(server: FaultyServer, tmp_path: Path) -> None:
    server.faults["/w.pth"] = Fault(length=False)
    assert is_whole(see(server, tmp_path, size=len(DATA)))


def test_another_size_is_refused(server: FaultyServer, tmp_path: Path) -> None:
    assert "expected 5 bytes\n  found    400000 bytes" in refusal(server, tmp_path, size=5)


def test_a_broken_line_is_carried_on_where_the_file_is_the_same(
    server: FaultyServer, tmp_path: Path
) -> None:
    server.faults["/w.pth"] = (Fault(kind="truncate", after=100_000, headers=TAG), Fault(headers=TAG))
    assert is_whole(see(server, tmp_path))
    assert [request.headers.get("Range") for request in server.asked("/w.pth")] == [
        None,
        "bytes=100000-",
    ]
    assert server.asked("/w.pth")[1].headers["If-Range"] == '"one"'


def test_a_broken_line_begins_anew_where_nothing_tells_the_file_from_another(
    server: FaultyServer, tmp_path: Path
) -> None:
    server.faults["/w.pth"] = (Fault(kind="truncate", after=100_000), Fault())
    assert is_whole(see(server, tmp_path))
    assert [request.headers.get("Range") for request in server.asked("/w.pth")] == [None, None]


def test_another_call_goes_on_where_the_file_is_the_same(server: FaultyServer, tmp_path: Path) -> None:
    cut = Fault(kind="truncate", after=100_000, headers=TAG)
    nothing = Fault(kind="truncate", headers=TAG)
    server.faults["/w.pth"] = (cut, *[nothing] * 3, Fault(headers=TAG))
    assert "after 100000 of 400000 bytes (3 tries)" in refusal(server, tmp_path)
    assert is_whole(see(server, tmp_path))
    assert server.asked("/w.pth")[-1].headers["Range"] == "bytes=100000-"
    assert [*(tmp_path / "keep").iterdir()] == []


def test_another_call_begins_anew_where_the_file_is_another(
    server: FaultyServer, tmp_path: Path
) -> None:
    cut = Fault(kind="truncate", after=100_000, headers=TAG)
    nothing = Fault(kind="truncate", headers=TAG)
    server.faults["/w.pth"] = (cut, *[nothing] * 3, Fault(headers=(("ETag", '"two"'),)))
    refusal(server, tmp_path)
    # This server does not heed `If-Range`, and gives the end of the other file.
    assert is_whole(see(server, tmp_path))
    assert [request.headers.get("Range") for request in server.asked("/w.pth")[-2:]] == [
        "bytes=100000-",
        None,
    ]


def test_nothing_is_kept_that_could_not_be_told_from_another_file(
    server: FaultyServer, tmp_path: Path
) -> None:
    server.faults["/w.pth"] = Fault(kind="truncate", after=100_000)
    refusal(server, tmp_path)
    assert [*(tmp_path / "keep").iterdir()] == []


def test_an_empty_file_is_refused(server: FaultyServer, tmp_path: Path) -> None:
    (server.root / "w.pth").write_bytes(b"")
    assert "it is empty" in refusal(server, tmp_path)


def test_a_file_of_this_machine_is_copied(server: FaultyServer, tmp_path: Path) -> None:
    assert is_whole(see(server, tmp_path, (server.root / "w.pth").as_uri()))
    assert (server.root / "w.pth").exists()


def test_a_folder_of_this_machine_is_no_file(server: FaultyServer, tmp_path: Path) -> None:
    said = refusal(server, tmp_path, server.root.as_uri())
    assert f"{server.root}: Is a directory" in said


def test_packed_bytes_are_not_pinned_as_the_files_own(server: FaultyServer, tmp_path: Path) -> None:
    packed = gzip.compress(DATA)
    (server.root / "w.pth").write_bytes(packed)
    (server.root / "w.tar.gz").write_bytes(packed)
    for path in ("/w.pth", "/w.tar.gz"):
        server.faults[path] = Fault(headers=(("Content-Encoding", "gzip"),))
    assert "`Content-Encoding: gzip`" in refusal(server, tmp_path)
    # A hash tells what is meant, and so does a name.
    assert see(server, tmp_path, sha256=hashlib.sha256(packed).hexdigest()).size == len(packed)
    assert see(server, tmp_path, "/w.tar.gz").size == len(packed)


def test_a_length_of_thousands_of_digits_is_none(server: FaultyServer, tmp_path: Path) -> None:
    server.faults["/w.pth"] = Fault(headers=(("Content-Length", "9" * 5000),))
    assert "does not say how long the file is" in refusal(server, tmp_path)


def test_another_type_is_refused_with_what_was_found(server: FaultyServer, tmp_path: Path) -> None:
    (server.root / "w.pth").write_bytes(SAMPLES["gzip"])
    assert "expected a file of type `zip`, found `gzip`" in refusal(server, tmp_path, type="zip")


def test_an_lfs_pointer_is_named(server: FaultyServer, tmp_path: Path) -> None:
    pointer = f"version https://git-lfs.github.com/spec/v1\noid sha256:{'0' * 64}\nsize 12\n"
    (server.root / "w.pth").write_text(pointer)
    assert "a pointer of Git LFS came instead of the file" in refusal(server, tmp_path)


# ---- types -----------------------------------------------------------------------------------------


def _zipped() -> bytes:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as archive:
        archive.writestr("data.pkl", b"x")
    return buffer.getvalue()


def _tarred(layout: int) -> bytes:
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w", format=layout) as archive:
        archive.addfile(tarfile.TarInfo("x"))
    return buffer.getvalue()


SAMPLES = {
    "gzip": b"\x1f\x8b\x08\x00" + bytes(20),
    "hdf5": b"\x89HDF\r\n\x1a\n" + bytes(20),
    "npy": b"\x93NUMPY\x01\x00v\x00{'descr'",
    "pickle": pickle.dumps({"a": 1}, protocol=2),
    "safetensors": (30).to_bytes(8, "little") + b'{"a":{"dtype":"F32"}}' + bytes(40),
    "tar": _tarred(tarfile.USTAR_FORMAT),
    "text": "Gewichte: ü\n".encode(),
    "zip": _zipped(),
}


@pytest.mark.parametrize("kind", SAMPLES)
def test_every_type_is_recognised(kind: str) -> None:
    head = SAMPLES[kind][:HEAD]
    assert kind_of(head) == kind
    assert fault_of_kind(head, kind) is None


@pytest.mark.parametrize(
    ("kind", "sample"), [("torch", "zip"), ("torch", "pickle"), ("npz", "zip"), ("tar", "tar")]
)
def test_types_that_are_written_as_others_are_accepted(kind: str, sample: str) -> None:
    assert fault_of_kind(SAMPLES[sample][:HEAD], kind) is None


def test_a_tar_of_before_posix_is_a_tar() -> None:
    old = bytearray(_tarred(tarfile.USTAR_FORMAT)[:512])
    old[257:265] = bytes(8)
    old[148:156] = b" " * 8
    old[148:156] = b"%06o\0 " % sum(old)
    assert fault_of_kind(bytes(old), "tar") is None


def test_text_may_be_cut_off_in_the_middle_of_a_character() -> None:
    assert fault_of_kind("ü".encode()[:1], "text") is None


def test_what_nothing_is_known_of_may_be_anything() -> None:
    assert fault_of_kind(b"\x00\x01 darknet", None) is None


def test_bytes_of_no_known_type_are_shown() -> None:
    assert (
        fault_of_kind(b"\x00\x01\xff", "zip")
        == "expected a file of type `zip`, found one that begins with b'\\x00\\x01\\xff'"
    )
