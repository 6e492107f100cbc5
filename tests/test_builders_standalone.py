"""A standalone Python in a root file system: with the real mmdebstrap, and archives that are refused."""

from __future__ import annotations

import shutil
import subprocess
import sys
import tarfile
from dataclasses import replace
from io import BytesIO
from typing import TYPE_CHECKING

import pytest

from lockbuild.builders.standalone import archive_faults
from lockbuild.derivation import rootfs_command
from lockbuild.digest import sha256_of
from lockbuild.hostpython import ask_python, pack_python
from tests.needs import missing, need
from tests.standalone import make_archive
from tests.test_builders_rootfs import SUITE, Debs, content, tar_of, task_for
from tests.test_builders_rootfs import builder as builder  # noqa: PLC0414 - a fixture
from tests.test_builders_rootfs import essential as essential  # noqa: PLC0414 - a fixture

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from lockbuild.builders.rootfs import RootfsBuilder
    from lockbuild.derivation import BuildOutcome, BuildTask

VERSION = "3.10"
EPOCH = 1700000000
PROGRAM = "python/bin/python3"
RUNNING = f"{sys.version_info.major}.{sys.version_info.minor}"


def with_python(task: BuildTask, debs: Debs, archive: Path, version: str = VERSION) -> BuildTask:
    """Return *task* with a standalone Python in its root."""
    command = rootfs_command(SUITE, debs.locked, interpreter=(version, archive.name))
    return replace(task, command=command, inputs=(*task.inputs, (archive.name, archive)))


def entry(
    name: str, kind: bytes = tarfile.REGTYPE, *, link: str = "", mode: int = 0o644
) -> tarfile.TarInfo:
    """Return the header of an entry of an archive."""
    member = tarfile.TarInfo(name)
    member.type, member.linkname, member.mode = kind, link, mode
    return member


def listing(outcome: BuildOutcome) -> dict[str, tuple[object, ...]]:
    """Return what the tar says of every path in the root."""
    with tarfile.open(tar_of(outcome)) as tar:
        files = {member: tar.extractfile(member) if member.isreg() else None for member in tar}
        return {
            member.name: (*member.get_info().values(), sha256_of(file.read()) if file else None)
            for member, file in files.items()
        }


@pytest.fixture
def packed(tmp_path: Path) -> Callable[..., Path]:
    """Return a function that writes an archive of headers."""

    def pack(*members: tarfile.TarInfo, data: bytes = b"") -> Path:
        path = tmp_path / "python.tar.gz"
        with tarfile.open(path, "w:gz") as tar:
            for member in members:
                member.size = len(data) if member.isreg() else 0
                tar.addfile(member, BytesIO(data))
        return path

    return pack


@pytest.fixture(scope="module")
def archive(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A standalone Python with a file that wants more than it gets."""
    plain = make_archive(tmp_path_factory.mktemp("python"), VERSION)
    path = plain.with_name("cpython-3.10+more-install_only.tar.gz")
    greedy = entry("python/lib/greedy", mode=0o6777)
    greedy.uid = greedy.gid = 1234
    with tarfile.open(plain) as origin, tarfile.open(path, "w:gz", compresslevel=1) as tar:
        for member in origin:
            tar.addfile(member, origin.extractfile(member) if member.isreg() else None)
        tar.addfile(greedy)
    return path


@pytest.fixture(scope="module")
def built(
    builder: RootfsBuilder, essential: Debs, archive: Path, tmp_path_factory: pytest.TempPathFactory
) -> BuildOutcome:
    """A root file system with a standalone Python."""
    task = task_for(essential, tmp_path_factory.mktemp("built") / "scratch")
    outcome = builder.build(with_python(task, essential, archive))
    assert outcome.status == "built", "\n".join(outcome.tail)
    return outcome


@pytest.fixture(scope="module")
def members(built: BuildOutcome) -> dict[str, tarfile.TarInfo]:
    """The root's entries by path."""
    with tarfile.open(tar_of(built)) as tar:
        return {member.name.removeprefix("."): member for member in tar}


# ---- the command ------------------------------------------------------------------------------------


def test_command_names_the_version_the_place_and_the_archive(essential: Debs) -> None:
    command = rootfs_command(SUITE, essential.locked, interpreter=("3.8", "cpython.tar.gz"))
    assert command[2] == "--interpreter=3.8:/opt/python:cpython.tar.gz"


# ---- what an archive may hold ------------------------------------------------------------------------


def test_archive_of_an_interpreter_has_no_fault(archive: Path) -> None:
    assert archive_faults(archive) == ()


@pytest.mark.parametrize(
    ("member", "fault"),
    [
        (entry("/etc/passwd"), "`/etc/passwd`: is not below `python/`"),
        (entry("python/../etc/passwd"), "`python/../etc/passwd`: is not below `python/`"),
        (entry("etc/passwd"), "`etc/passwd`: is not below `python/`"),
        (
            entry("python/out", tarfile.SYMTYPE, link="/etc"),
            "`python/out`: is a link to `/etc`, out of the archive",
        ),
        (
            entry("python/out", tarfile.SYMTYPE, link="../../etc"),
            "`python/out`: is a link to `../../etc`, out of the archive",
        ),
        (
            entry("python/hard", tarfile.LNKTYPE, link="/etc/shadow"),
            "`python/hard`: is a hard link to `/etc/shadow`, which is no file before it",
        ),
        (entry("python/disk", tarfile.BLKTYPE), "`python/disk`: is neither file, folder nor link"),
        (entry(PROGRAM), "`python/bin/python3`: is there twice"),
        (
            entry(f"{PROGRAM}/below"),
            "`python/bin/python3/below`: is below `python/bin/python3`, which is no folder",
        ),
    ],
    ids=lambda value: value.name if isinstance(value, tarfile.TarInfo) else "",
)
def test_hostile_member_is_named(
    packed: Callable[..., Path], member: tarfile.TarInfo, fault: str
) -> None:
    assert archive_faults(packed(entry(PROGRAM), member)) == (fault,)


def test_member_that_is_written_through_a_link_is_named(packed: Callable[..., Path]) -> None:
    link = entry("python/lib", tarfile.SYMTYPE, link="bin")
    (fault,) = archive_faults(packed(entry(PROGRAM), link, entry("python/lib/a")))
    assert fault == "`python/lib/a`: is below `python/lib`, which is no folder"


def test_links_inside_the_archive_have_no_fault(packed: Callable[..., Path]) -> None:
    soft = entry("python/lib/deep/soft", tarfile.SYMTYPE, link="../../bin/python3")
    hard = entry("python/hard", tarfile.LNKTYPE, link=PROGRAM)
    assert archive_faults(packed(entry(PROGRAM), soft, hard)) == ()


def test_archive_of_another_kind_is_told_from_an_interpreter(packed: Callable[..., Path]) -> None:
    (fault,) = archive_faults(packed(entry("python/install/bin/python3")))
    assert fault == "has no `python/bin/python3`: an `install_only` archive was expected"


def test_many_faults_are_counted(packed: Callable[..., Path]) -> None:
    faults = archive_faults(packed(entry(PROGRAM), *(entry(f"out-{number}") for number in range(9))))
    assert (len(faults), faults[-1]) == (6, "and 4 more")


@pytest.mark.parametrize("what", ["text", "truncated", "damaged"])
def test_file_that_is_no_archive_is_refused(packed: Callable[..., Path], what: str) -> None:
    path = packed(entry(PROGRAM), data=bytes(range(256)) * 400)
    whole = path.read_bytes()
    damaged = whole[:40] + bytes(60) + whole[100:]
    path.write_bytes({"text": b"<html>", "truncated": whole[:-200], "damaged": damaged}[what])
    (fault,) = archive_faults(path)
    assert fault.startswith("is not a `.tar.gz` archive: ")


def test_header_with_strange_numbers_is_refused(packed: Callable[..., Path]) -> None:
    strange = entry("python/sparse")
    strange.pax_headers = {"GNU.sparse.map": "a,b"}
    (fault,) = archive_faults(packed(entry(PROGRAM), strange))
    assert fault.startswith("is not a `.tar.gz` archive: ")


# ---- what a root holds -------------------------------------------------------------------------------


def test_python_runs_and_finds_its_library(built: BuildOutcome, tmp_path: Path) -> None:
    need("bwrap")
    with tarfile.open(tar_of(built)) as tar:
        tar.extractall(tmp_path, filter="tar")
    words = [
        "bwrap",
        "--ro-bind",
        str(tmp_path),
        "/",
        "--unshare-all",
        "--dev",
        "/dev",
        "--proc",
        "/proc",
    ]
    program = (
        "import json, sys, sysconfig; print(sys.prefix, sysconfig.get_path('include'), json.__cached__)"
    )
    for name in ("python3", "python3.10"):
        inside = subprocess.run(
            [*words, name, "-c", program],
            capture_output=True,
            text=True,
            check=True,
            timeout=60,
            env={"PATH": "/usr/local/bin:/usr/bin"},
        )
        prefix, include, cached = inside.stdout.split()
        assert (prefix, include) == ("/opt/python", "/opt/python/include/python3.10")
        assert (tmp_path / cached[1:]).is_file()


def test_same_archive_gives_the_same_bytes(
    builder: RootfsBuilder, essential: Debs, archive: Path, built: BuildOutcome, tmp_path: Path
) -> None:
    again = builder.build(with_python(task_for(essential, tmp_path / "again"), essential, archive))
    assert listing(again) == listing(built)
    assert sha256_of(tar_of(again).read_bytes()) == sha256_of(tar_of(built).read_bytes())


def test_everything_belongs_to_root(members: dict[str, tarfile.TarInfo]) -> None:
    own = [member for path, member in members.items() if path.startswith("/opt/python")]
    assert len(own) > 500
    assert {(member.uid, member.gid) for member in own} == {(0, 0)}


def test_file_gets_no_power_and_no_other_writer(members: dict[str, tarfile.TarInfo]) -> None:
    assert members["/opt/python/lib/greedy"].mode == 0o755


def test_nothing_is_newer_than_the_epoch(members: dict[str, tarfile.TarInfo]) -> None:
    assert max(member.mtime for member in members.values()) == EPOCH


def test_bytecode_is_found_by_its_source_s_hash(built: BuildOutcome) -> None:
    with tarfile.open(tar_of(built)) as tar:
        cached = tar.extractfile("./opt/python/lib/python3.10/json/__pycache__/__init__.cpython-310.pyc")
        assert cached is not None
        # PEP 552: the lowest bit says by hash, the next one whether the source is asked.
        assert int.from_bytes(cached.read(8)[4:], "little") == 1


def test_no_pip_is_linked(members: dict[str, tarfile.TarInfo]) -> None:
    links = {path for path in members if path.startswith("/usr/local/bin/")}
    assert links == {"/usr/local/bin/python3", "/usr/local/bin/python3.10"}


def test_packages_are_installed_beside_it(built: BuildOutcome, essential: Debs) -> None:
    status = content(built, "/var/lib/dpkg/status")
    assert status.count("Status: install ok installed") == len(essential.locked)


# ---- failures ----------------------------------------------------------------------------------------


def test_another_version_fails_with_both(
    builder: RootfsBuilder, essential: Debs, archive: Path, tmp_path: Path
) -> None:
    task = with_python(task_for(essential, tmp_path / "scratch"), essential, archive, "3.11")
    outcome = builder.build(task)
    assert (outcome.status, outcome.output) == ("failed", None)
    assert outcome.message == "the interpreter is Python 3.10, expected 3.11"


def test_program_that_does_not_run_fails_the_build(
    builder: RootfsBuilder, essential: Debs, packed: Callable[..., Path], tmp_path: Path
) -> None:
    broken = packed(entry(PROGRAM, mode=0o755), data=b"\x7fELF of another machine")
    outcome = builder.build(with_python(task_for(essential, tmp_path / "scratch"), essential, broken))
    assert outcome.message == "the interpreter's bin/python3 does not run"


def test_hostile_archive_fails_before_anything_is_installed(
    builder: RootfsBuilder, essential: Debs, packed: Callable[..., Path], tmp_path: Path
) -> None:
    hostile = packed(entry(PROGRAM), entry("python/out", tarfile.SYMTYPE, link="/etc"))
    outcome = builder.build(with_python(task_for(essential, tmp_path / "scratch"), essential, hostile))
    assert outcome.message.startswith("`python.tar.gz` `python/out`: is a link to `/etc`")
    assert not (tmp_path / "scratch/root").exists()


def test_archive_that_is_not_handed_over_fails_by_name(
    builder: RootfsBuilder, essential: Debs, archive: Path, tmp_path: Path
) -> None:
    task = task_for(essential, tmp_path / "scratch")
    outcome = builder.build(replace(with_python(task, essential, archive), inputs=task.inputs))
    assert outcome.message == f"`{archive.name}`: found none, expected the archive of the interpreter"


# ---- a machine's Python ------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def host(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The archive of the Python that runs the tests."""
    if sys.base_prefix == "/usr":
        missing("the tests run on a distribution's Python")
    python = ask_python(f"{sys.base_prefix}/bin/python{RUNNING}")
    path = tmp_path_factory.mktemp("host") / python.filename
    pack_python(python, path)
    return path


def test_libraries_that_a_machine_s_python_lacks_are_named(
    builder: RootfsBuilder, essential: Debs, host: Path, tmp_path: Path
) -> None:
    lacking = b"raise ImportError('libnowhere.so.1: cannot open shared object file')\n"
    module = entry(f"python/lib/python{RUNNING}/_bz2.py")
    module.size = len(lacking)
    archive = tmp_path / host.name
    shutil.copyfile(host, archive)
    with tarfile.open(archive, "a:") as tar:
        tar.addfile(module, BytesIO(lacking))
    task = with_python(task_for(essential, tmp_path / "scratch"), essential, archive, RUNNING)
    outcome = builder.build(task)
    assert outcome.status == "failed"
    assert outcome.message.startswith("the interpreter wants libraries that are not here: ")
    assert "libnowhere.so.1 (_bz2)" in outcome.message
    assert outcome.message.endswith("; name their packages under `[apt]`")
