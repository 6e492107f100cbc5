"""Root file systems from .debs, with the real mmdebstrap and Debian's own essential packages."""

from __future__ import annotations

import hashlib
import pickle
import shutil
import signal
import socket
import subprocess
import sys
import tarfile
import time
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from lockbuild.builders.rootfs import RootfsBuilder
from lockbuild.derivation import BuildOutcome, BuildTask, rootfs_command
from lockbuild.digest import sha256_of
from lockbuild.errors import LockbuildError
from lockbuild.lock import LockedDeb
from lockbuild.resolvers import AptQuestion
from lockbuild.resolvers.apt import configured_mirrors, resolve
from lockbuild.stack import DebianBase
from tests.debs import make_deb
from tests.needs import missing, need

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

SUITE = "bookworm"
EPOCH = "1700000000"


@dataclass(frozen=True, slots=True, kw_only=True)
class Debs:
    """Locked packages and the folder that holds their files."""

    locked: tuple[LockedDeb, ...]
    folder: Path

    def adding(self, path: Path) -> Debs:
        """Return these and the package in *path*, linked into the folder."""
        name, version, _ = path.stem.split("_")
        (self.folder / path.name).unlink(missing_ok=True)
        (self.folder / path.name).symlink_to(path)
        data = path.read_bytes()
        added = LockedDeb(
            package=name,
            version=version,
            architecture="amd64",
            path=path.name,
            sha256=sha256_of(data),
            size=len(data),
            source=f"{name} {version}",
            roots=("runtime",),
        )
        return Debs(locked=(*self.locked, added), folder=self.folder)

    def without(self, package: str) -> Debs:
        """Return these but for *package*."""
        kept = tuple(deb for deb in self.locked if deb.package != package)
        return Debs(locked=kept, folder=self.folder)


def task_for(debs: Debs, scratch: Path, *, timeout_s: float | None = None) -> BuildTask:
    """Return the task that makes a root of *debs*."""
    scratch.mkdir(parents=True)
    return BuildTask(
        name="tests-runtime",
        kind="rootfs",
        rootfs=None,
        rootfs_name=None,
        command=rootfs_command(SUITE, debs.locked),
        env=(("SOURCE_DATE_EPOCH", EPOCH),),
        inputs=tuple((deb.filename, debs.folder / deb.filename) for deb in debs.locked),
        scratch=scratch,
        log=scratch.with_suffix(".log"),
        timeout_s=timeout_s,
    )


@pytest.fixture(scope="module")
def builder() -> RootfsBuilder:
    """The builder, where it works."""
    need("mmdebstrap", "apt-get", "dpkg-deb", "unshare", "setpriv")
    made = RootfsBuilder()
    try:
        made.probe()
    except LockbuildError as error:
        missing(f"{error.message}: {' '.join(error.details)}")
    return made


@pytest.fixture(scope="module")
def essential(tmp_path_factory: pytest.TempPathFactory) -> Debs:
    """Debian's essential packages, from the archive that apt is configured for."""
    need("apt-get")
    mirrors = configured_mirrors("debian")
    if not mirrors:
        missing("apt is not configured for an archive of Debian on this machine")
    folder = tmp_path_factory.mktemp("debs")
    base = DebianBase(suite=SUITE)
    asked = AptQuestion(base=base, architecture="amd64", roots=(("runtime", ()),))
    locked = resolve(asked, mirrors=mirrors, keyring=None, work=folder / "apt")

    # apt's own fetcher: it goes the way this machine's apt is configured for, and checks the hashes.
    words = ["/usr/lib/apt/apt-helper", "download-file"]
    for deb in locked:
        words += [mirrors[0] + deb.path, str(folder / deb.filename), f"SHA256:{deb.sha256}"]
    subprocess.run(words, check=True, capture_output=True, timeout=300)
    return Debs(locked=locked, folder=folder)


@pytest.fixture(scope="module")
def listener() -> Iterator[int]:
    """A port of this machine's loopback at which somebody listens."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        yield server.getsockname()[1]


@pytest.fixture(scope="module")
def witness(tmp_path_factory: pytest.TempPathFactory, essential: Debs, listener: int) -> Debs:
    """The essential packages and one that writes down what its script sees."""
    need("dpkg-deb")
    # Chance, the host's name and its network must not reach the root by way of a script.
    script = f"""#!/bin/bash
        if echo > /dev/tcp/127.0.0.1/{listener}; then echo yes; else echo no; fi > /reached 2>/dev/null
        cat /proc/net/dev > /devices
        hostname > /name
        perl -e 'print join(" ", keys %{{{{map {{$_ => 1}} 1..50}}}})' > /order
        touch /var/log/noise.log /var/cache/noise
        """
    path = make_deb(tmp_path_factory.mktemp("witness"), "witness", postinst=script)
    return essential.adding(path)


@pytest.fixture(scope="module")
def built(
    builder: RootfsBuilder, witness: Debs, tmp_path_factory: pytest.TempPathFactory
) -> BuildOutcome:
    """A root file system."""
    # Stores may lie anywhere: Jenkins calls folders `stacks%2Fcu118`.
    folder = tmp_path_factory.mktemp("built") / "a größer%20one"
    outcome = builder.build(task_for(witness, folder / "scratch"))
    assert outcome.status == "built", "\n".join(outcome.tail)
    return outcome


@pytest.fixture(scope="module")
def members(built: BuildOutcome) -> dict[str, tarfile.TarInfo]:
    """The root's entries by path below the root, without its dot."""
    with tarfile.open(tar_of(built)) as tar:
        return {member.name.removeprefix("."): member for member in tar}


def tar_of(outcome: BuildOutcome) -> Path:
    """Return the file that *outcome* brought."""
    assert outcome.output is not None
    return outcome.output / "rootfs.tar"


def content(outcome: BuildOutcome, path: str) -> str:
    """Return the text of the file at *path* in the root."""
    with tarfile.open(tar_of(outcome)) as tar:
        file = tar.extractfile(f".{path}")
        assert file is not None
        return file.read().decode()


# ---- the command ------------------------------------------------------------------------------------


def test_command_names_suite_architecture_and_every_package(tmp_path: Path) -> None:
    debs = Debs(locked=(), folder=tmp_path)
    for name in ("zlib1g", "bash"):
        debs = debs.adding(make_deb(tmp_path / "made", name))
    assert rootfs_command(SUITE, debs.locked) == (
        "--suite=bookworm",
        "--architecture=amd64",
        "bash=1.0",
        "zlib1g=1.0",
    )


def test_packages_of_no_architecture_make_no_command() -> None:
    with pytest.raises(ValueError, match="one architecture"):
        rootfs_command(SUITE, ())


# ---- what a root holds -------------------------------------------------------------------------------


def test_same_task_gives_the_same_bytes(
    builder: RootfsBuilder, witness: Debs, built: BuildOutcome, tmp_path: Path
) -> None:
    again = builder.build(task_for(witness, tmp_path / "elsewhere/deeper"))
    digests = []
    for outcome in (built, again):
        with tar_of(outcome).open("rb") as file:
            digests.append(hashlib.file_digest(file, "sha256").hexdigest())
    assert digests[0] == digests[1]


@pytest.mark.parametrize(
    "path",
    [
        "/etc/resolv.conf",
        "/etc/hostname",
        "/etc/passwd-",
        "/etc/apt",
        "/var/lib/apt",
        "/var/log/noise.log",
        "/var/log/dpkg.log",
        "/var/cache/noise",
        "/etc/dpkg/dpkg.cfg.d/99mmdebstrap",
    ],
)
def test_nothing_of_the_host_or_of_the_moment_is_left(
    members: dict[str, tarfile.TarInfo], path: str
) -> None:
    assert path not in members


@pytest.mark.parametrize("path", ["/build", "/dev", "/proc", "/run", "/sys", "/tmp"])
def test_mount_points_are_there(members: dict[str, tarfile.TarInfo], path: str) -> None:
    assert members[path].isdir()


def test_device_nodes_are_not(members: dict[str, tarfile.TarInfo]) -> None:
    kinds = {member.name for member in members.values() if member.isdev()}
    assert kinds == set()


def test_every_package_keeps_its_licence(members: dict[str, tarfile.TarInfo], essential: Debs) -> None:
    def has_licence(package: str) -> bool:
        folder = f"/usr/share/doc/{package}"
        # Packages of one source may share a folder by a link.
        return f"{folder}/copyright" in members or members[folder].issym()

    assert [deb.package for deb in essential.locked if not has_licence(deb.package)] == []


def test_documents_other_than_licences_are_left_out(members: dict[str, tarfile.TarInfo]) -> None:
    assert not [path for path in members if "changelog" in path and path.startswith("/usr/share/doc")]


def test_nothing_is_newer_than_the_epoch(members: dict[str, tarfile.TarInfo]) -> None:
    assert max(member.mtime for member in members.values()) == int(EPOCH)


def test_machine_id_is_empty(members: dict[str, tarfile.TarInfo]) -> None:
    assert members["/etc/machine-id"].size == 0


def test_usr_is_merged(members: dict[str, tarfile.TarInfo]) -> None:
    assert members["/bin"].linkname == "usr/bin"


def test_all_packages_are_installed(built: BuildOutcome, witness: Debs) -> None:
    status = content(built, "/var/lib/dpkg/status")
    assert status.count("Status: install ok installed") == len(witness.locked)


def test_script_of_a_package_reaches_no_network(built: BuildOutcome) -> None:
    assert content(built, "/reached") == "no\n"
    assert [line.split(":")[0].strip() for line in content(built, "/devices").splitlines()[2:]] == ["lo"]


def test_script_of_a_package_does_not_see_the_host_s_name(built: BuildOutcome) -> None:
    assert content(built, "/name") == "lockbuild\n"


def test_root_can_be_unpacked_and_run(built: BuildOutcome, tmp_path: Path) -> None:
    need("bwrap")
    with tarfile.open(tar_of(built)) as tar:
        tar.extractall(tmp_path, filter="tar")
    words = ["bwrap", "--ro-bind", str(tmp_path), "/", "--unshare-all", "--dev", "/dev"]
    inside = subprocess.run(
        [*words, "dpkg", "--audit"], capture_output=True, text=True, check=True, timeout=60
    )
    assert inside.stdout == ""


def test_scratch_holds_no_tree_of_packages_afterwards(built: BuildOutcome) -> None:
    left = {path.name for path in tar_of(built).parent.parent.iterdir()}
    assert left == {"normalise", "out", "repository"}


# ---- failures ----------------------------------------------------------------------------------------


def test_missing_dependency_fails_with_its_name(
    builder: RootfsBuilder, essential: Debs, tmp_path: Path
) -> None:
    outcome = builder.build(task_for(essential.without("libpam0g"), tmp_path / "scratch"))
    assert outcome.status == "failed"
    assert outcome.output is None
    assert "libpam0g" in "\n".join(outcome.tail)


def test_deb_that_is_not_handed_over_fails_by_name(
    builder: RootfsBuilder, essential: Debs, tmp_path: Path
) -> None:
    task = task_for(essential, tmp_path / "scratch")
    inputs = tuple(entry for entry in task.inputs if not entry[0].startswith("bash_"))
    outcome = builder.build(replace(task, inputs=inputs))
    assert outcome.status == "failed"
    assert outcome.message.startswith("`bash`: found none")


def test_file_that_is_no_package_fails_by_name(
    builder: RootfsBuilder, essential: Debs, tmp_path: Path
) -> None:
    broken = tmp_path / "broken_1.0_amd64.deb"
    broken.write_bytes(b"no archive")
    outcome = builder.build(task_for(essential.adding(broken), tmp_path / "scratch"))
    assert outcome.status == "failed"
    assert "`broken_1.0_amd64.deb` is not a Debian package" in outcome.message


def test_failing_script_fails_the_build_and_stands_in_the_log(
    builder: RootfsBuilder, essential: Debs, tmp_path: Path
) -> None:
    deb = make_deb(tmp_path / "made", "stubborn", postinst="#!/bin/sh\necho i-refuse\nexit 3\n")
    outcome = builder.build(task_for(essential.adding(deb), tmp_path / "scratch"))
    assert outcome.status == "failed"
    assert "stubborn" in outcome.message
    assert outcome.log is not None
    assert "i-refuse" in outcome.log.read_text()


def test_build_that_takes_too_long_is_ended(
    builder: RootfsBuilder, essential: Debs, tmp_path: Path
) -> None:
    outcome = builder.build(task_for(essential, tmp_path / "scratch", timeout_s=2))
    assert outcome.status == "timed-out"
    shutil.rmtree(tmp_path / "scratch")
    assert processes_in(tmp_path) == []


def processes_in(folder: Path) -> list[str]:
    """Return the command lines of running processes that name *folder*."""
    found = []
    for entry in Path("/proc").glob("[0-9]*/cmdline"):
        try:
            line = entry.read_bytes().replace(b"\0", b" ").decode(errors="replace")
        except OSError:
            continue
        if str(folder) in line:
            found.append(line)
    return found


def wait_until(condition: Callable[[], bool]) -> None:
    """Return once *condition* holds; fail when it does not for a minute."""
    deadline = time.monotonic() + 60
    while not condition():
        assert time.monotonic() < deadline, "waited in vain"
        time.sleep(0.05)


_CHILD = """
import pickle, sys
from lockbuild.builders.rootfs import RootfsBuilder
RootfsBuilder().build(pickle.load(sys.stdin.buffer))
"""


@pytest.mark.usefixtures("builder")
@pytest.mark.parametrize("how", [signal.SIGKILL, signal.SIGINT], ids=["killed", "interrupted"])
def test_nothing_goes_on_when_lockbuild_is_ended(
    essential: Debs, tmp_path: Path, how: signal.Signals
) -> None:
    scratch = tmp_path / "scratch"
    process = subprocess.Popen([sys.executable, "-c", _CHILD], stdin=subprocess.PIPE)
    assert process.stdin is not None
    process.stdin.write(pickle.dumps(task_for(essential, scratch)))
    process.stdin.close()
    wait_until((scratch / "root/usr/bin/dpkg").exists)
    process.send_signal(how)
    process.wait(30)
    wait_until(lambda: not processes_in(tmp_path))
    assert str(tmp_path) not in Path("/proc/mounts").read_text()
    shutil.rmtree(scratch)
