"""Fetching whole files, from mirrors, in runs that end early or run side by side."""

from __future__ import annotations

import errno
import hashlib
import os
import random
import signal
import subprocess
import sys
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import pytest

from lockbuild.derivation import FolderArchive, PoolFile
from lockbuild.errors import StoreError
from lockbuild.process import find_tool, run
from lockbuild.progress import Silent
from lockbuild.sources import Mirrors, fetch
from tests.fetching import (
    DATA,
    LIMITS,
    NAME,
    PATH,
    SIZE,
    archives,
    failure,
    get,
    has_data,
    own_environment,
    ranges,
    served_folder,
    wanted,
)
from tests.needs import missing
from tests.servers.faulty import Fault, FaultyServer, faulty_server

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path


@pytest.fixture(autouse=True)
def _own_environment(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    own_environment(monkeypatch, tmp_path / "home")


@pytest.fixture
def root(tmp_path: Path) -> Path:
    return served_folder(tmp_path)


@pytest.fixture
def into(tmp_path: Path) -> Path:
    return tmp_path / "into"


# ---- whole files -----------------------------------------------------------------------------------


def test_file_is_named_by_its_hash(root: Path, into: Path) -> None:
    with faulty_server(root) as server:
        assert has_data(get(wanted(), into, archives(server.url)))
    assert [entry.name for entry in into.iterdir()] == [wanted().sha256]


def test_file_that_is_already_there_is_not_asked_for(root: Path, into: Path) -> None:
    into.mkdir()
    (into / wanted().sha256).write_bytes(DATA)
    with faulty_server(root) as server:
        assert has_data(get(wanted(), into, archives(server.url)))
        assert server.requests == []


def test_damaged_file_that_is_already_there_is_replaced(root: Path, into: Path) -> None:
    into.mkdir()
    (into / wanted().sha256).write_bytes(b"x" * SIZE)
    with faulty_server(root) as server:
        assert has_data(get(wanted(), into, archives(server.url)))


def test_unknown_size_is_no_fault(root: Path, into: Path) -> None:
    with faulty_server(root) as server:
        assert has_data(get(wanted(size=None), into, archives(server.url)))


def test_empty_file_comes(root: Path, into: Path) -> None:
    (root / "empty").write_bytes(b"")
    one = wanted(b"", where=PoolFile(vendor="debian", path="empty"))
    with faulty_server(root) as server:
        ended = get(one, into, archives(server.url))
    assert ended.file is not None
    assert ended.file.read_bytes() == b""


def test_file_of_a_local_mirror_folder_comes(root: Path, into: Path) -> None:
    assert has_data(get(wanted(), into, archives(root.as_uri())))


def test_many_files_all_come_biggest_first(root: Path, into: Path) -> None:
    contents = {f"f{n}": random.Random(n).randbytes(1000 * (n + 1)) for n in range(20)}
    fetches = []
    for name, data in contents.items():
        (root / name).write_bytes(data)
        fetches.append(wanted(data, name=name, where=PoolFile(vendor="debian", path=name)))
    with faulty_server(root) as server:
        mirrors = archives(server.url)
        ended = list(fetch(fetches, into=into, mirrors=mirrors, progress=Silent(), connections=1))
    assert [one.fetch.filename for one in ended] == [f"f{n}" for n in reversed(range(20))]
    assert all(one.file and one.file.read_bytes() == contents[one.fetch.filename] for one in ended)


def test_one_bad_artifact_does_not_stop_the_others(root: Path, into: Path) -> None:
    absent = wanted(b"absent", where=PoolFile(vendor="debian", path="absent"))
    with faulty_server(root) as server:
        mirrors = archives(server.url)
        ended = list(
            fetch([absent, wanted()], into=into, mirrors=mirrors, progress=Silent(), limits=LIMITS)
        )
    assert {one.fetch.sha256: one.error is None for one in ended} == {
        absent.sha256: False,
        wanted().sha256: True,
    }


def test_two_names_of_the_same_bytes_are_one_download(root: Path, into: Path) -> None:
    with faulty_server(root) as server:
        both = [wanted(), wanted(name="other.deb")]
        ended = list(fetch(both, into=into, mirrors=archives(server.url), progress=Silent()))
        assert len(server.asked(PATH)) == 1
    assert {one.fetch.filename for one in ended if has_data(one)} == {NAME, "other.deb"}


@dataclass
class Recorder:
    """A progress that remembers."""

    total: int | None = None
    done: int = 0
    lines: list[str] = field(default_factory=list)

    def advance(self, amount: int) -> None:
        self.done += amount

    def line(self, text: str) -> None:
        self.lines.append(text)

    def steps(self, part: str, done: int, total: int | None) -> None:
        pytest.fail(f"fetching has no steps: {part}: {done} of {total}")

    def ended(self, part: str) -> None:
        pytest.fail(f"fetching has no parts: {part}")

    @contextmanager
    def phase(self, name: str, *, total: int | None, unit: str) -> Iterator[Recorder]:
        assert (name, unit) == ("fetching", "bytes")
        self.total = total
        yield self


def test_progress_ends_at_its_total_though_bytes_came_twice(root: Path, into: Path) -> None:
    recorder = Recorder()
    bad = (Fault(kind="truncate", after=300_000, ranges=False), Fault(ranges=False))
    with faulty_server(root, {PATH: bad}) as server:
        mirrors = archives(server.url)
        list(fetch([wanted()], into=into, mirrors=mirrors, progress=recorder, limits=LIMITS))
        assert server.sent[PATH] == SIZE + 300_000
    assert (recorder.total, recorder.done, recorder.lines) == (SIZE, SIZE, [f"{NAME} (700.0 kB)"])


# ---- mirrors and hashes ------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "bad",
    [Fault(kind="wrong"), Fault(kind="status", status=404), Fault(kind="status"), Fault(kind="html")],
    ids=lambda fault: f"{fault.kind}-{fault.status}",
)
def test_next_mirror_is_asked(root: Path, into: Path, bad: Fault) -> None:
    with faulty_server(root, {PATH: bad}) as first, faulty_server(root) as second:
        assert has_data(get(wanted(), into, archives(first.url, second.url)))


def test_part_of_one_mirror_is_carried_on_at_the_next(root: Path, into: Path) -> None:
    bad = (Fault(kind="truncate", after=300_000), Fault(kind="status", status=404))
    with faulty_server(root, {PATH: bad}) as first, faulty_server(root) as second:
        assert has_data(get(wanted(), into, archives(first.url, second.url)))
        assert ranges(second) == ["bytes=300000-"]


def test_good_mirror_is_not_blamed_for_the_part_of_a_bad_one(root: Path, into: Path) -> None:
    into.mkdir()
    (into / f"{wanted().sha256}.part").write_bytes(b"x" * 300_000)
    with faulty_server(root) as server:
        assert has_data(get(wanted(), into, archives(server.url)))
        assert ranges(server) == ["bytes=300000-", None]


def test_part_longer_than_the_file_is_thrown_away(root: Path, into: Path) -> None:
    into.mkdir()
    (into / f"{wanted().sha256}.part").write_bytes(DATA + b"x")
    with faulty_server(root) as server:
        assert has_data(get(wanted(size=None), into, archives(server.url)))
        assert ranges(server) == [f"bytes={SIZE + 1}-", None]


def test_wrong_bytes_everywhere_tell_both_hashes_and_leave_no_part(root: Path, into: Path) -> None:
    wrong = hashlib.sha256(bytes(byte ^ 1 for byte in DATA[:64]) + DATA[64:]).hexdigest()
    gone, bad = {PATH: Fault(kind="status", status=404)}, {PATH: Fault(kind="wrong")}
    with faulty_server(root, gone) as one, faulty_server(root, bad) as other:
        error = failure(wanted(), into, archives(one.url, other.url))
    assert error.message == f"`{NAME}`: no place has the locked bytes"
    assert error.details == (
        f"{one.url}{PATH}: HTTP 404 Not Found",
        f"{other.url}{PATH}: wrong bytes",
        f"  expected sha256 {wanted().sha256}",
        f"  found    sha256 {wrong}",
    )
    assert list(into.iterdir()) == []


def test_wrong_size_is_refused_before_the_bytes_come(root: Path, into: Path) -> None:
    with faulty_server(root) as server:
        error = failure(wanted(size=SIZE + 1), into, archives(server.url))
    assert error.details[1:] == (f"  expected {SIZE + 1} bytes", f"  found    {SIZE} bytes")


def test_stream_longer_than_the_file_is_cut_off(root: Path, into: Path) -> None:
    with faulty_server(root, {PATH: Fault(length=False)}) as server:
        error = failure(wanted(size=1000), into, archives(server.url))
    assert error.details[2] == "  found    more than 1000 bytes"


def test_deb_gone_from_the_archive_comes_from_the_snapshot(
    root: Path, into: Path, tmp_path: Path
) -> None:
    empty = tmp_path / "empty"
    empty.mkdir()
    (tmp_path / "snap").mkdir()
    root.rename(tmp_path / "snap" / "20250601T000000Z")
    one = wanted(where=PoolFile(vendor="debian", path=PATH, snapshot="20250601T000000Z"))
    with faulty_server(empty) as archive, faulty_server(tmp_path / "snap") as snapshots:
        mirrors = Mirrors(
            archives=(("debian", (archive.url,)),),
            snapshots=(("debian", (snapshots.url + "/{timestamp}/",)),),
        )
        assert has_data(get(one, into, mirrors))
        assert len(archive.requests) == 1


def test_deb_gone_from_the_archive_hints_at_snapshots(into: Path, tmp_path: Path) -> None:
    one = wanted(where=PoolFile(vendor="debian", path=PATH, snapshot="20250601T000000Z"))
    with faulty_server(tmp_path) as server:
        error = failure(one, into, archives(server.url))
    assert error.hint == (
        "configure a snapshot archive (key `snapshots.debian`), or lock again with `lockbuild resolve --upgrade`"
    )


def test_archive_without_address_names_the_key(into: Path) -> None:
    assert failure(wanted(), into, Mirrors()).hint == "configure one (key `archives.debian`)"


def test_archive_of_a_folder_is_not_fetched(into: Path) -> None:
    error = failure(wanted(where=FolderArchive(path="src/x")), into, Mirrors())
    assert "made from the folder `src/x`" in error.message


# ---- runs that end early, and runs side by side ------------------------------------------------------

_CHILD = """
import sys
from pathlib import Path
from lockbuild.derivation import Fetch, PoolFile
from lockbuild.progress import Silent
from lockbuild.sources import Mirrors, fetch
url, into, path, sha256, size = sys.argv[1:]
one = Fetch(filename="x", sha256=sha256, size=int(size), where=PoolFile(vendor="debian", path=path))
mirrors = Mirrors(archives=(("debian", (url,)),))
for ended in fetch([one], into=Path(into), mirrors=mirrors, progress=Silent()):
    sys.exit(0 if ended.file else str(ended.error.details))
"""


@contextmanager
def child(server: FaultyServer, into: Path) -> Iterator[subprocess.Popen[bytes]]:
    """Run a fetch in a process of its own; it is gone after the block."""
    one = wanted()
    argv = [
        sys.executable,
        "-c",
        _CHILD,
        server.url,
        str(into),
        PATH.lstrip("/"),
        one.sha256,
        str(one.size),
    ]
    process = subprocess.Popen(argv, stderr=subprocess.PIPE)
    try:
        yield process
    finally:
        process.kill()
        process.communicate()


def wait_for_part(into: Path, size: int) -> None:
    part = into / f"{wanted().sha256}.part"
    for _ in range(2000):
        if part.exists() and part.stat().st_size >= size:
            return
        time.sleep(0.01)
    pytest.fail("the part did not grow")


def test_killed_run_is_carried_on_by_the_next(root: Path, into: Path) -> None:
    with faulty_server(root, {PATH: (Fault(kind="slow"),)}) as server:
        server.pause_s = 0.1
        with child(server, into) as process:
            wait_for_part(into, 200_000)
            process.send_signal(signal.SIGKILL)
            process.wait(10)
        kept = (into / f"{wanted().sha256}.part").stat().st_size
        assert 200_000 <= kept < SIZE
        assert has_data(get(wanted(), into, archives(server.url)))
        assert ranges(server) == [None, f"bytes={kept}-"]


def test_interrupt_ends_at_once_and_keeps_the_part(root: Path, into: Path) -> None:
    stalls = {PATH: Fault(kind="stall", after=300_000)}
    with faulty_server(root, stalls) as server, child(server, into) as process:
        wait_for_part(into, 300_000)
        process.send_signal(signal.SIGINT)
        # The server stays silent for as long as the test runs; the client would wait for it 30 s.
        process.wait(10)
        assert process.returncode != 0
    assert (into / f"{wanted().sha256}.part").stat().st_size == 300_000


def test_caller_that_goes_away_stops_the_threads(root: Path, into: Path) -> None:
    (root / "small").write_bytes(b"small")
    small = wanted(b"small", where=PoolFile(vendor="debian", path="small"))
    with faulty_server(root, {PATH: Fault(kind="slow")}) as server:
        server.pause_s = 0.3
        running = fetch([wanted(), small], into=into, mirrors=archives(server.url), progress=Silent())
        assert next(running).fetch == small
        wait_for_part(into, 1)
        del running
        for thread in threading.enumerate():
            if thread.name.startswith("fetch-"):
                thread.join(30)
                assert not thread.is_alive()
    assert 0 < (into / f"{wanted().sha256}.part").stat().st_size < SIZE


def test_two_processes_share_one_download(root: Path, into: Path) -> None:
    with faulty_server(root, {PATH: (Fault(kind="slow"),)}) as server:
        with child(server, into) as first:
            wait_for_part(into, 64 * 1024)
            with child(server, into) as second:
                assert (first.wait(30), second.wait(30)) == (0, 0)
        assert server.sent[PATH] == SIZE
    assert (into / wanted().sha256).read_bytes() == DATA
    assert len(list(into.iterdir())) == 1


def test_what_another_process_has_moved_on_is_not_asked_for(root: Path, into: Path) -> None:
    with faulty_server(root) as server:
        mirrors = archives(server.url)
        (ended,) = fetch([wanted()], into=into, mirrors=mirrors, progress=Silent(), taken=lambda _: True)
        assert (ended.file, ended.error) == (None, None)
        assert server.requests == []
    assert list(into.iterdir()) == []


def test_many_runs_at_once_do_not_disturb_each_other(root: Path, into: Path) -> None:
    with faulty_server(root) as server, ThreadPoolExecutor(8) as pool:
        ended = list(pool.map(lambda _: get(wanted(), into, archives(server.url)), range(16)))
        assert all(has_data(one) for one in ended)
        assert server.sent[PATH] == SIZE


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """Return a file system of 256 KiB."""
    folder = tmp_path / "small"
    folder.mkdir()
    if os.geteuid() != 0 or find_tool("mount") is None:
        missing("mounting a small file system needs root")
    mounted = run(["mount", "-t", "tmpfs", "-o", "size=256k", "tmpfs", folder])
    if mounted.returncode != 0:
        missing(f"no file system can be mounted here: {mounted.stderr.strip()}")
    yield folder
    run(["umount", folder])


def test_full_disk_is_seen_beforehand(root: Path, small_disk: Path) -> None:
    with faulty_server(root) as server:
        with pytest.raises(StoreError, match="not enough space") as caught:
            get(wanted(), small_disk, archives(server.url))
        assert server.requests == []
    assert caught.value.details[0].startswith(f"needed {SIZE} bytes")


def test_disk_that_fills_up_stops_the_run(root: Path, small_disk: Path) -> None:
    with faulty_server(root) as server, pytest.raises(StoreError, match="not enough space") as caught:
        get(wanted(size=None), small_disk, archives(server.url))
    assert str(small_disk) in caught.value.message
    assert isinstance(caught.value.__cause__, OSError)
    assert caught.value.__cause__.errno == errno.ENOSPC
