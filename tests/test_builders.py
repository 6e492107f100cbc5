"""The contract of builders, which both engines keep with the real tools."""

from __future__ import annotations

import gc
import gzip
import os
import signal
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

import docker
import pytest

from lockbuild.builders import environment
from lockbuild.builders.container import ContainerBuilder
from lockbuild.builders.sandbox import SandboxBuilder
from lockbuild.derivation import BuildTask, JobPool
from lockbuild.errors import BuildError, ToolMissing
from lockbuild.process import find_tool, run
from tests.needs import missing, need
from tests.servers.engine import private_engine

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from lockbuild.builders import Builder

    MakeTask = Callable[..., BuildTask]

ENGINES = ("sandbox", "container")
# Enough of Debian or Ubuntu for a shell, glibc's resolver and a language with sockets.
PACKAGES = ("busybox-static", "libc-bin", "libc6", "libcrypt1", "perl-base")
PATIENCE_S = 60.0

PRINT_ENV = r'print "$_=$ENV{$_}\n" for sort keys %ENV'
SEND = "socket(S, AF_INET, SOCK_DGRAM, 0); send(S, 1, 0, pack_sockaddr_in(9, inet_aton('203.0.113.1')))"
CONNECT_6 = (
    "socket(S, AF_INET6, SOCK_STREAM, 0);"
    "connect(S, pack_sockaddr_in6(443, inet_pton(AF_INET6, '2001:db8::1')))"
)
REFUSED = "socket(S, AF_INET, SOCK_STREAM, 0); connect(S, pack_sockaddr_in(9, INADDR_LOOPBACK))"
REFUSED_6 = "socket(S, AF_INET6, SOCK_STREAM, 0); connect(S, pack_sockaddr_in6(9, IN6ADDR_LOOPBACK))"
LOOPBACK = r"""
my $server = IO::Socket::INET->new(Listen => 1, LocalAddr => "127.0.0.1") or die "listen: $!";
my $client = IO::Socket::INET->new(PeerAddr => "localhost", PeerPort => $server->sockport) or die "$@";
print "connected\n";
"""


@pytest.fixture(scope="session")
def rootfs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Unpack a root file system of a few packages, as apt on this machine finds them."""
    need("apt-get", "dpkg-deb")
    debs = tmp_path_factory.mktemp("debs")
    root = tmp_path_factory.mktemp("toolchain") / "root"
    fetched = run(["apt-get", "download", *PACKAGES], cwd=debs, timeout_s=120)
    if fetched.returncode != 0:
        missing(f"apt-get cannot fetch: {fetched.stderr.strip()}")
    for deb in sorted(debs.glob("*.deb")):
        subprocess.run(["dpkg-deb", "-x", deb, root], check=True)
    for name in ("bin", "lib", "lib64"):
        # Since 2024 packages hold nothing in these: a folder /usr/bin, and /bin is a link to it.
        if not (root / name).exists():
            (root / name).symlink_to(f"usr/{name}")
    (root / "etc").mkdir(exist_ok=True)
    busybox = next(path for path in root.glob("**/bin/busybox"))
    for applet in run([busybox, "--list"]).stdout.split():
        if not (root / "bin" / applet).exists() and not (root / "usr/bin" / applet).exists():
            (root / "bin" / applet).symlink_to(f"/{busybox.relative_to(root)}")
    return root


@pytest.fixture(scope="session")
def docker_host(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """Run a Docker Engine for these tests."""
    with private_engine(tmp_path_factory.mktemp("engine")) as host:
        yield host


@pytest.fixture(params=ENGINES)
def builder(request: pytest.FixtureRequest) -> Builder:
    """Give one engine after the other."""
    return engine(request.param, request)


def engine(name: str, request: pytest.FixtureRequest) -> Builder:
    """Return the engine called *name*, if it works on this machine."""
    if name == "container":
        return ContainerBuilder(request.getfixturevalue("docker_host"))
    need("bwrap")
    sandbox = SandboxBuilder()
    try:
        sandbox.probe()
    except BuildError as error:
        missing(f"{error.message}: {error.hint}")
    return sandbox


@pytest.fixture
def task(tmp_path: Path, rootfs: Path) -> MakeTask:
    """Make tasks that run in the small root file system."""
    made = iter(range(100))

    def make(
        *command: str,
        inputs: tuple[tuple[str, Path], ...] = (),
        env: tuple[tuple[str, str], ...] = (),
        timeout_s: float | None = PATIENCE_S,
        cores: int = 1,
    ) -> BuildTask:
        folder = tmp_path / f"task-{next(made)}"
        return BuildTask(
            name="thing",
            kind="wheel",
            rootfs=rootfs,
            rootfs_name="tiny",
            command=command,
            env=env,
            inputs=inputs,
            scratch=folder / "scratch",
            log=folder / "build.log",
            cores=cores,
            timeout_s=timeout_s,
        )

    return make


def shell(script: str) -> tuple[str, ...]:
    return ("sh", "-c", script)


def perl(script: str) -> tuple[str, ...]:
    return ("perl", "-MSocket=:all", "-MIO::Socket::INET", "-e", script)


def printed(builder: Builder, task: BuildTask) -> list[str]:
    """Return what *task* prints, after it has been run."""
    builder.build(task)
    return task.log.read_text(encoding="utf-8").splitlines()


# ---- what comes back -------------------------------------------------------------------------------


def test_probe_finds_a_working_engine(builder: Builder) -> None:
    builder.probe()


def test_output_comes_back(builder: Builder, task: MakeTask) -> None:
    outcome = builder.build(task(*shell("mkdir /build/out/deep; echo 7 >/build/out/deep/file")))
    assert (outcome.status, outcome.message) == ("built", "")
    assert outcome.output is not None
    assert (outcome.output / "deep/file").read_text(encoding="utf-8") == "7\n"


def test_output_belongs_to_who_runs_lockbuild(builder: Builder, task: MakeTask) -> None:
    outcome = builder.build(task(*shell("echo 7 >/build/out/file")))
    assert outcome.output is not None
    assert (outcome.output / "file").stat().st_uid == os.getuid()


def test_empty_output_is_rejected(builder: Builder, task: MakeTask) -> None:
    outcome = builder.build(task(*shell("mkdir /build/out/empty")))
    assert outcome.status == "output-rejected"
    assert outcome.message == "`thing`: the command left no file in /build/out"
    assert outcome.output is None


def test_exit_code_is_told(builder: Builder, task: MakeTask) -> None:
    outcome = builder.build(task(*shell("echo 7 >/build/out/file; exit 3")))
    assert (outcome.status, outcome.message) == ("failed", "`thing` exited with 3")


def test_signal_is_told(builder: Builder, task: MakeTask) -> None:
    outcome = builder.build(task(*shell("kill -SEGV $$")))
    assert outcome.message == "`thing` was ended by signal 11 (exit code 139)"


def test_killed_build_hints_at_memory(builder: Builder, task: MakeTask) -> None:
    assert "out of memory" in builder.build(task(*shell("kill -KILL $$"))).message


def test_absent_program_is_named(builder: Builder, task: MakeTask) -> None:
    assert "`no-such-program`" in builder.build(task("no-such-program")).message


def test_timeout_kills_the_build(builder: Builder, task: MakeTask) -> None:
    outcome = builder.build(task(*shell("echo begun; sleep 600.25 & sleep 600.25"), timeout_s=3))
    assert (outcome.status, outcome.tail) == ("timed-out", ("begun",))
    assert processes("600.25") == []


def test_absent_input_is_named(builder: Builder, task: MakeTask, tmp_path: Path) -> None:
    with pytest.raises(BuildError, match="build `thing` lacks inputs") as caught:
        builder.build(task("true", inputs=(("gone", tmp_path / "gone"),)))
    assert caught.value.details == (f"`gone`: nothing at {tmp_path / 'gone'}",)


def test_unusable_toolchain_is_an_error(builder: Builder, task: MakeTask, tmp_path: Path) -> None:
    (tmp_path / "empty/etc").mkdir(parents=True)
    with pytest.raises(BuildError, match="refused build `thing`"):
        builder.build(replace(task("true"), rootfs=tmp_path / "empty", rootfs_name="empty"))


# ---- what a build sees -----------------------------------------------------------------------------


def test_environment_is_exactly_the_declared_one(builder: Builder, task: MakeTask) -> None:
    declared = task("perl", "-e", PRINT_ENV, env=(("FORCE_CUDA", "1"),), cores=3)
    found = dict(line.split("=", 1) for line in printed(builder, declared))
    assert found == environment(declared)
    assert (found["FORCE_CUDA"], found["MAX_JOBS"], found["MAKEFLAGS"]) == ("1", "3", "-j3")


@pytest.mark.parametrize(
    ("command", "expected"),
    [
        ("pwd", "/build/source"),
        ("hostname", "lockbuild"),
        ("umask", "0022"),
        ("id -un; id -u; id -gn; id -g", "builder 1000 builder 1000"),
        ("date +%Z", "UTC"),
        ("echo $$ >/build/home/x; mktemp -u | cut -c1-5; echo $HOME", "/tmp/ /build/home"),
        ("ls -A /build", ".report home inputs out source"),
        ("ls -A /build/source /sys", "/build/source: /sys:"),
        ("ls /sys/class 2>&1", "ls: /sys/class: No such file or directory"),
        ("grep CapEff /proc/self/status", "CapEff: 0000000000000000"),
        ("grep NoNewPrivs /proc/self/status", "NoNewPrivs: 1"),
        ("cat /proc/net/dev | sed -n 's/^ *\\(.*\\):.*/\\1/p'", "lo"),
        ("readlink /proc/self/fd/0", "/dev/null"),
        ("readlink /proc/self/fd/1 | cut -c1-4", "pipe"),
        ("tty", "not a tty"),
        ("cat /etc/hosts", "127.0.0.1 localhost lockbuild ::1 localhost lockbuild"),
        ("cat /dev/shm/x 2>/dev/null; echo 1 >/dev/shm/x; cat /dev/shm/x", "1"),
    ],
)
def test_build_sees(builder: Builder, task: MakeTask, command: str, expected: str) -> None:
    assert " ".join(" ".join(printed(builder, task(*shell(command)))).split()) == expected


def test_inputs_are_where_they_are_named(builder: Builder, task: MakeTask, tmp_path: Path) -> None:
    (tmp_path / "a").write_text("file a\n", encoding="utf-8")
    (tmp_path / "folder").mkdir()
    (tmp_path / "folder/b").write_text("file b\n", encoding="utf-8")
    inputs = (("needs/folder", tmp_path / "folder"), ("wheels/a.whl", tmp_path / "a"))
    script = "cat /build/inputs/wheels/a.whl /build/inputs/needs/folder/b"
    assert printed(builder, task(*shell(script), inputs=inputs)) == ["file a", "file b"]


@pytest.mark.parametrize(
    "place",
    ["/x", "/usr/x", "/etc/passwd", "/etc/x", "/build/x", "/build/inputs/x", "/build/inputs/in/x"],
)
def test_everything_else_is_read_only(
    builder: Builder, task: MakeTask, tmp_path: Path, place: str
) -> None:
    (tmp_path / "in").mkdir(mode=0o777)
    lines = printed(builder, task(*shell(f"echo 1 >{place}"), inputs=(("in", tmp_path / "in"),)))
    assert "Read-only file system" in lines[0]
    assert list((tmp_path / "in").iterdir()) == []


def test_machine_is_out_of_sight(builder: Builder, task: MakeTask, tmp_path: Path) -> None:
    assert "No such file" in printed(builder, task(*shell(f"ls {tmp_path}")))[0]


def test_both_engines_make_the_same_bytes(
    request: pytest.FixtureRequest, task: MakeTask, tmp_path: Path
) -> None:
    (tmp_path / "main.c").write_text("int main(void) { return 0; }\n", encoding="utf-8")
    script = """
        cp /build/inputs/main.c . && sort main.c >sorted
        { env; id -u; pwd; hostname; date -d @$SOURCE_DATE_EPOCH; ls; cat sorted; } >all
        touch -d @$SOURCE_DATE_EPOCH all && tar -cf all.tar all && gzip all.tar
        cp all.tar.gz /build/out
    """
    made = []
    for name in ENGINES:
        given = task(*shell(script), inputs=(("main.c", tmp_path / "main.c"),))
        outcome = engine(name, request).build(given)
        assert outcome.output is not None, outcome
        made.append(gzip.decompress((outcome.output / "all.tar.gz").read_bytes()))
    assert made[0] == made[1]


# ---- the network -----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("command", "what"),
    [
        (shell("getent ahosts files.example; true"), "looked up `files.example`"),
        (shell("getent hosts files.example; true"), "looked up `files.example`"),
        (
            shell("wget -q http://198.51.100.7/ 2>/dev/null; true"),
            "tried to reach `198.51.100.7:80`",
        ),
        (perl(SEND), "tried to reach `203.0.113.1:9`"),
        (perl(CONNECT_6), "tried to reach `[2001:db8::1]:443`"),
    ],
    ids=[
        "looks-up-with-getaddrinfo",
        "looks-up-with-gethostbyname",
        "connects",
        "sends",
        "connects-over-ipv6",
    ],
)
def test_swallowed_attempt_fails_the_build(
    builder: Builder, task: MakeTask, command: tuple[str, ...], what: str
) -> None:
    if "sh" in command[0]:
        command = shell("echo 1 >/build/out/file; " + command[2])
    else:
        command = (*command[:-1], "open(F, '>/build/out/file'); print F 1; close F; " + command[-1])
    outcome = builder.build(task(*command))
    assert outcome.status == "failed"
    assert "tried to use the network" in outcome.message
    assert "returned 0 all the same" in outcome.message
    if builder.name == "sandbox":
        assert what in outcome.message


def test_attempt_names_the_program(request: pytest.FixtureRequest, task: MakeTask) -> None:
    outcome = engine("sandbox", request).build(task(*shell("getent hosts files.example; exit 2")))
    assert outcome.message == (
        "`thing` tried to use the network, and builds have none: "
        "`getent hosts files.example` looked up `files.example` (`thing` exited with 2)"
    )


@pytest.mark.parametrize(("program", "told"), [("cicc", True), ("cudafe++", True), ("cicc2", False)])
def test_nvcc_is_told_the_same_process_id_in_every_build(
    request: pytest.FixtureRequest, task: MakeTask, program: str, told: bool
) -> None:
    script = f"printf '#!/bin/sh\\necho $$\\n' >{program}; chmod +x {program}; true; true; ./{program}"
    output = printed(engine("sandbox", request), task(*shell(script)))
    assert (output == ["1"]) is told


def test_attempt_is_quoted_from_the_log_where_nobody_watches(
    request: pytest.FixtureRequest, task: MakeTask
) -> None:
    outcome = engine("container", request).build(task(*shell("wget http://198.51.100.7/; exit 1")))
    assert "(198.51.100.7): Network is unreachable (`thing` exited with 1)" in outcome.message


@pytest.mark.parametrize(
    "command",
    [
        perl(LOOPBACK),
        perl(REFUSED),
        perl(REFUSED_6),
        shell("getent hosts localhost lockbuild"),
        shell("hostname -f"),
    ],
    ids=["talks", "refused", "refused-over-ipv6", "looks-up-itself", "asks-its-name"],
)
def test_loopback_is_no_network(builder: Builder, task: MakeTask, command: tuple[str, ...]) -> None:
    outcome = builder.build(task(*command))
    assert outcome.status == "output-rejected", outcome
    assert "network" not in outcome.message


# ---- the log ---------------------------------------------------------------------------------------


def test_tail_holds_the_last_lines(builder: Builder, task: MakeTask) -> None:
    outcome = builder.build(task(*shell("seq 1 50; echo wrong >&2; exit 1")))
    assert outcome.tail == (*(str(number) for number in range(22, 51)), "wrong")
    assert outcome.log is not None
    assert len(outcome.log.read_text(encoding="utf-8").splitlines()) == 51


def test_large_log_is_whole(builder: Builder, task: MakeTask) -> None:
    given = task(*shell("seq 1 2000000"))
    builder.build(given)
    lines = given.log.read_bytes().split()
    assert (len(lines), lines[-1]) == (2000000, b"2000000")


def test_log_need_not_be_text(builder: Builder, task: MakeTask) -> None:
    outcome = builder.build(task("perl", "-e", r'print "\xff\x00\n"; exit 1'))
    assert outcome.tail == ("�\0",)


def test_log_grows_while_the_build_runs(builder: Builder, task: MakeTask) -> None:
    given = task(*shell("echo begun; until [ -e /build/source/go ]; do sleep 0.05; done"))
    with ThreadPoolExecutor(1) as pool:
        running = pool.submit(builder.build, given)
        until(lambda: given.log.exists() and given.log.read_bytes() == b"begun\n")
        (given.scratch / "source/go").touch()
        assert running.result().status == "output-rejected"


# ---- what must not happen --------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("script", "why"),
    [
        ("ln -s /etc/shadow /build/out/thing.whl", "leaves /build/out: `/etc/shadow`"),
        (
            "mkdir /build/out/a; ln -s ../../../etc /build/out/a/b",
            "leaves /build/out: `../../../etc`",
        ),
        ("mkfifo /build/out/pipe", "neither a file, a folder nor a link"),
    ],
)
def test_hostile_output_is_rejected(builder: Builder, task: MakeTask, script: str, why: str) -> None:
    outcome = builder.build(task(*shell(f"echo 1 >/build/out/file; {script}")))
    assert outcome.status == "output-rejected"
    assert why in outcome.message


def test_set_user_id_is_dropped(builder: Builder, task: MakeTask) -> None:
    outcome = builder.build(task(*shell("echo 1 >/build/out/file; chmod 6755 /build/out/file")))
    assert outcome.output is not None
    assert (outcome.output / "file").stat().st_mode & 0o7777 == 0o755


def test_what_nobody_may_read_can_be_taken_by_its_owner(builder: Builder, task: MakeTask) -> None:
    script = "cd /build/out; mkdir d; echo 1 >d/f; echo 1 >f; chmod 0 d/f f; chmod 0555 d; chmod 0500 ."
    outcome = builder.build(task(*shell(script)))
    assert outcome.output is not None
    modes = [(outcome.output / name).stat().st_mode & 0o700 for name in ("", "d", "d/f", "f")]
    assert modes == [0o700, 0o700, 0o400, 0o400]


def test_devices_cannot_be_made(builder: Builder, task: MakeTask) -> None:
    outcome = builder.build(task(*shell("mknod /build/out/null c 1 3")))
    assert outcome.status == "failed"
    assert "Operation not permitted" in outcome.tail[0]


def test_links_within_the_output_are_kept(builder: Builder, task: MakeTask) -> None:
    script = "cd /build/out; mkdir bin; echo 1 >f; ln -s ../f bin/g; ln -s /usr/bin/perl bin/p"
    outcome = builder.build(task(*shell(script)))
    assert outcome.output is not None
    assert os.readlink(outcome.output / "bin/p") == "/usr/bin/perl"


def test_left_over_processes_end_with_the_build(builder: Builder, task: MakeTask) -> None:
    outcome = builder.build(task(*shell("sleep 600.75 & echo 1 >/build/out/file")))
    assert outcome.status == "built"
    assert processes("600.75") == []


def test_a_build_ends_after_the_process_that_guards_it(
    request: pytest.FixtureRequest, task: MakeTask
) -> None:
    builder = engine("sandbox", request)
    wait = "touch /build/source/here; until [ -e /build/source/go ]; do sleep 0.05; done"
    given = task(*shell(f"{wait}; echo 1 >/build/out/file"))
    with ThreadPoolExecutor(1) as pool:
        running = pool.submit(builder.build, given)
        until((given.scratch / "source/here").exists)
        (guard,) = (
            number
            for number, line in running_processes()
            if str(given.scratch) in line and "watch.py" in line
        )
        os.kill(guard, signal.SIGSTOP)
        try:
            (given.scratch / "source/go").touch()
            with pytest.raises(TimeoutError):
                running.result(1)
        finally:
            os.kill(guard, signal.SIGCONT)
        assert running.result(PATIENCE_S).status == "built"


def test_two_builds_at_once(builder: Builder, task: MakeTask) -> None:
    # Each waits until the test has seen that both run.
    wait = "touch /build/source/here; until [ -e /build/source/go ]; do sleep 0.05; done"
    tasks = [task(*shell(f"{wait}; echo {number} >/build/out/file")) for number in (1, 2)]
    with ThreadPoolExecutor(2) as pool:
        running = [pool.submit(builder.build, given) for given in tasks]
        for given in tasks:
            until((given.scratch / "source/here").exists)
        for given in tasks:
            (given.scratch / "source/go").touch()
        outputs = [future.result().output for future in running]
    assert [(path / "file").read_text(encoding="utf-8") for path in outputs if path] == [
        "1\n",
        "2\n",
    ]


@pytest.mark.parametrize("ending", [signal.SIGINT, signal.SIGTERM, signal.SIGKILL])
def test_build_ends_with_lockbuild(
    builder: Builder, task: MakeTask, request: pytest.FixtureRequest, ending: signal.Signals
) -> None:
    mark = f"601.{ending.value}"
    given = task(*shell(f"sleep {mark} & sleep {mark}"), timeout_s=None)
    host = request.getfixturevalue("docker_host") if builder.name == "container" else ""
    lockbuild = subprocess.Popen(
        [sys.executable, "-c", _BUILD, builder.name, host, repr(given)],
        cwd=Path(__file__).parent.parent,
        stderr=subprocess.DEVNULL,
    )
    try:
        until(lambda: len(processes(f"sleep {mark}", exactly=True)) == 2)
        lockbuild.send_signal(ending)
        lockbuild.wait(PATIENCE_S)
    finally:
        lockbuild.kill()
        lockbuild.wait()
    until(lambda: processes(mark) == [])
    if host:
        until(lambda: containers(host) == [])


_BUILD = """
import sys
from pathlib import Path, PosixPath
from lockbuild.derivation import BuildTask
from lockbuild.builders.container import ContainerBuilder
from lockbuild.builders.sandbox import SandboxBuilder
name, host, task = sys.argv[1:]
(ContainerBuilder(host) if name == "container" else SandboxBuilder()).build(eval(task))
"""


def running_processes() -> Iterator[tuple[int, str]]:
    """Yield number and command line of this machine's processes."""
    for file in Path("/proc").glob("[0-9]*/cmdline"):
        with suppress(OSError):
            line = file.read_bytes().rstrip(b"\0").replace(b"\0", b" ").decode(errors="replace")
            yield int(file.parent.name), line


def processes(mark: str, *, exactly: bool = False) -> list[str]:
    """Return the command lines of this machine's processes that hold *mark*."""
    return [line for _, line in running_processes() if line == mark or (mark in line and not exactly)]


def containers(host: str) -> list[str]:
    client = docker.DockerClient(base_url=host)
    try:
        return [
            str(container.name) for container in client.containers.list(all=True, ignore_removed=True)
        ]
    finally:
        client.close()


def until(condition: Callable[[], bool]) -> None:
    """Wait until *condition* holds; fail if it never does."""
    deadline = time.monotonic() + PATIENCE_S
    while not condition():
        assert time.monotonic() < deadline, "waited in vain"
        time.sleep(0.05)


# ---- each engine's own -----------------------------------------------------------------------------

# bubblewrap is killed by the end of its pipe, and tells the first process of the sandbox nothing any more.
_KILLED = """
import os, signal, sys
from pathlib import Path, PosixPath
from lockbuild.builders.sandbox import SandboxBuilder, _Sandbox
from lockbuild.derivation import BuildTask, JobPool
_Sandbox.learn_child = lambda sandbox: os.kill(os.getpid(), signal.SIGKILL)
SandboxBuilder().build(eval(sys.argv[1]))
"""


@pytest.mark.parametrize("shared", [True, False])
def test_nothing_stays_of_a_sandbox_that_begins_as_lockbuild_is_killed(
    tmp_path: Path, task: MakeTask, *, shared: bool
) -> None:
    need("bwrap")
    given = task(*shell("sleep 600"))
    if shared:
        given = replace(given, pool=JobPool(folder=tmp_path / "jobs", jobs=2, memory=1))
    ended = subprocess.run(
        [sys.executable, "-c", _KILLED, repr(given)], cwd=Path(__file__).parent.parent, check=False
    )
    assert ended.returncode == -signal.SIGKILL
    until(lambda: processes(str(given.scratch)) == [])


def test_container_leaves_nothing_behind(request: pytest.FixtureRequest, task: MakeTask) -> None:
    host = request.getfixturevalue("docker_host")
    ContainerBuilder(host).build(task(*shell("exit 1")))
    assert containers(host) == []


def test_toolchain_is_imported_once(request: pytest.FixtureRequest, task: MakeTask) -> None:
    host = request.getfixturevalue("docker_host")
    for _ in range(2):
        ContainerBuilder(host).build(task("true"))
    client = docker.DockerClient(base_url=host)
    try:
        names = [image.tags for image in client.images.list() if image.tags]
        assert sum("tiny" in str(tags) for tags in names) == 1
    finally:
        client.close()


@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")
def test_absent_engine_is_explained(tmp_path: Path) -> None:
    with pytest.raises(ToolMissing, match="no Docker Engine answers") as caught:
        ContainerBuilder(f"unix://{tmp_path}/none.sock").probe()
    assert "sandbox engine" in (caught.value.hint or "")
    del caught
    # The SDK leaves open the socket that could not connect; let it go while that is allowed.
    gc.collect()


def test_absent_bubblewrap_is_explained(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    if find_tool("bwrap"):
        pytest.skip("bubblewrap is in a folder that is always looked into")
    with pytest.raises(ToolMissing, match="`bwrap` is not installed") as caught:
        SandboxBuilder().probe()
    assert "install" in (caught.value.hint or "")


def test_toolchain_is_never_written(builder: Builder, task: MakeTask, rootfs: Path) -> None:
    before = sorted((path, path.lstat().st_mtime_ns) for path in rootfs.rglob("*"))
    builder.build(task(*shell("rm -rf /usr/bin/perl /etc /bin; touch /usr/bin/perl")))
    assert sorted((path, path.lstat().st_mtime_ns) for path in rootfs.rglob("*")) == before
