"""What a builder is asked and what every engine has in common: paths, environment, and the verdict.

Both engines start the same few lines of shell (`LAUNCH`) as process 1 of a namespace without
network, with the same files. What a build could still tell them apart by: the toolchain's files
belong to `builder` in the sandbox and to root in a container; supplementary groups, which only
root could drop; `/.dockerenv`; and a container's 1 GiB of /dev/shm.

A build that tries the network has failed, whatever its command returned. The kernel counts, in
each network namespace, the packets for which there was no route. The namespace has loopback and
nothing else, and its name server is an address that is never routed (RFC 5737), so every look-up
and every connection to elsewhere is counted, by whichever library it is made, while loopback stays
usable. It costs nothing. The counters do not say who asked for what: `lockbuild.builders.watch` adds
that, and where it cannot, the log's own words are shown.
"""

from __future__ import annotations

import os
import re
import select
import stat
import time
from collections import deque
from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol

from lockbuild.derivation import BuildOutcome
from lockbuild.errors import BuildError

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from pathlib import Path

    from lockbuild.derivation import BuildStatus, BuildTask

__all__ = [
    "BUILD",
    "HOME",
    "HOSTNAME",
    "INPUTS",
    "LAUNCH",
    "NAME_SERVER",
    "OUT",
    "REPORT",
    "SOURCE",
    "TMP",
    "UID",
    "USER",
    "Builder",
    "Scratch",
    "environment",
    "failed",
    "judge",
    "launch_arguments",
    "prepare",
    "pump",
    "timed_out",
]

BUILD = "/build"
INPUTS = "/build/inputs"
SOURCE = "/build/source"
OUT = "/build/out"
HOME = "/build/home"
TMP = "/tmp"  # noqa: S108 - the build's own folder, not the machine's
REPORT = "/build/.report"
HOSTNAME = "lockbuild"
USER = "builder"
UID = 1000
NAME_SERVER = "192.0.2.1"

_TAIL_LINES = 30
_TAIL_BYTES = 64 * 1024
_CHUNK = 64 * 1024
_KILLED = 128 + 9

LAUNCH = f"""\
echo begun >{REPORT}
finish=$1; shift
umask 022
exec 3<&0 </dev/null 2>&1
(read -r _ <&3; kill -KILL -1) &
exec 3<&-
PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin
env -i "$@"
status=$?
kill -KILL -1
eval "$finish"
exec >{REPORT}
echo "status $status"
for table in /proc/net/snmp /proc/net/snmp6; do
  [ ! -e $table ] || while read -r line; do echo "$line"; done <$table
done
exit $status
"""
"""Process 1 of a build, in POSIX shell.

Its standard input is a pipe that only lockbuild holds: when lockbuild ends, however it ends, the
pipe closes and everything in the namespace is killed. What the command left running is killed before
the report is written, so that nothing but process 1 can have written it.
"""

_FILES = {
    "group": f"root:x:0:\n{USER}:x:1000:\nnogroup:x:65534:\n",
    "hostname": f"{HOSTNAME}\n",
    # Both families: a resolver asks the name server for the one that is not here.
    "hosts": f"127.0.0.1 localhost {HOSTNAME}\n::1 localhost {HOSTNAME}\n",
    "nsswitch.conf": "passwd: files\ngroup: files\nshadow: files\nhosts: files dns\n",
    "passwd": (
        "root:x:0:0:root:/:/bin/sh\n"
        f"{USER}:x:1000:1000:{USER}:{HOME}:/bin/sh\n"
        "nobody:x:65534:65534:nobody:/nonexistent:/usr/sbin/nologin\n"
    ),
    "resolv.conf": f"nameserver {NAME_SERVER}\noptions timeout:1 attempts:1\n",
}

# Settings that make common tools repeat themselves; part of the sandbox's version.
_CONSTANTS = {
    "HOME": HOME,
    "LANG": "C.UTF-8",
    "LC_ALL": "C.UTF-8",
    "LOGNAME": USER,
    "PATH": "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin",
    "PYTHONDONTWRITEBYTECODE": "1",
    "PYTHONHASHSEED": "0",
    "PYTHONNOUSERSITE": "1",
    "SHELL": "/bin/sh",
    "SOURCE_DATE_EPOCH": "315532800",  # 1980-01-01, the first day a zip archive can tell
    "TMPDIR": TMP,
    "TZ": "UTC",
    "USER": USER,
}

# How programs name, in the log, what they could not reach: curl and git, Python, glibc, wget.
_SAYS_WHERE = re.compile(
    r"could not resolve host|failed to resolve|name resolution|name or service not known|"
    r"network is unreachable|unable to resolve host|bad address|failed to connect to",
    re.IGNORECASE,
)


class Builder(Protocol):
    """Runs one build, with nothing of the machine but what its task names, and without network."""

    name: str

    def probe(self) -> None:
        """Try the engine on something empty.

        Raises:
            ToolMissing: A program or service is absent.
            BuildError: It is there and does not work; the hint says what to change.
        """

    def build(self, task: BuildTask) -> BuildOutcome:
        """Run *task* to its end. A build that fails is an outcome, not an exception.

        Raises:
            ToolMissing: A program or service is absent.
            BuildError: The engine itself does not work.
        """


@dataclass(frozen=True, slots=True, kw_only=True)
class Scratch:
    """The folders and files of one build on the machine."""

    out: Path
    source: Path
    home: Path
    tmp: Path
    report: Path
    inputs: Path
    """A folder with an empty mount point for each input."""
    etc: tuple[tuple[str, Path], ...]
    """File in the build's /etc -> file of the machine, sorted by name."""

    @property
    def read_only(self) -> tuple[tuple[str, Path], ...]:
        """Place in the build -> what stands there and may only be read; outer ones first."""
        return (*((f"/etc/{name}", path) for name, path in self.etc), (INPUTS, self.inputs))

    @property
    def writable(self) -> tuple[tuple[str, Path], ...]:
        """Place in the build -> folder or file of the machine that the build may write."""
        return (
            (HOME, self.home),
            (OUT, self.out),
            (REPORT, self.report),
            (SOURCE, self.source),
            (TMP, self.tmp),
        )


def prepare(task: BuildTask) -> Scratch:
    """Make the folders and files that a build sees, below the task's scratch folder.

    Raises:
        BuildError: An input is not there.
    """
    absent = [f"`{name}`: nothing at {path}" for name, path in task.inputs if not path.exists()]
    if absent:
        raise BuildError(f"build `{task.name}` lacks inputs", details=tuple(absent))
    folders = {name: task.scratch / name for name in ("out", "source", "home", "tmp")}
    for folder in folders.values():
        folder.mkdir(parents=True)
        folder.chmod(0o755)
    etc = task.scratch / "etc"
    etc.mkdir()
    for name, text in _FILES.items():
        (etc / name).write_text(text, encoding="utf-8")
        (etc / name).chmod(0o644)
    report = task.scratch / "report"
    report.touch()
    inputs = task.scratch / "inputs"
    inputs.mkdir()
    for name, path in task.inputs:
        point = inputs / name
        point.parent.mkdir(parents=True, exist_ok=True)
        if path.is_dir():
            point.mkdir(exist_ok=True)
        else:
            point.touch()
    task.log.parent.mkdir(parents=True, exist_ok=True)
    return Scratch(
        **folders,
        report=report,
        inputs=inputs,
        etc=tuple((name, etc / name) for name in sorted(_FILES)),
    )


def environment(task: BuildTask) -> dict[str, str]:
    """Return the whole environment of the build's command.

    The constants belong to the sandbox's version, the task's own variables to the derivation; the
    numbers of jobs to neither, since they must not change a result.
    """
    jobs = str(task.cores)
    cores = {
        "CMAKE_BUILD_PARALLEL_LEVEL": jobs,
        "LOCKBUILD_CORES": jobs,
        "MAKEFLAGS": f"-j{jobs}",
        "MAX_JOBS": jobs,
    }
    return dict(sorted((_CONSTANTS | cores | dict(task.env)).items()))


def launch_arguments(task: BuildTask, *, finish: str = "") -> tuple[str, ...]:
    """Return the argument vector of process 1: the shell, `LAUNCH`, environment and command.

    Args:
        finish: Shell commands to run when the command has ended, whatever it returned.
    """
    pairs = (f"{name}={value}" for name, value in environment(task).items())
    return ("/bin/sh", "-c", LAUNCH, "lockbuild", finish, *pairs, *task.command)


def pump(descriptor: int, take: Callable[[bytes], object], *, timeout_s: float | None) -> bool:
    """Give what *descriptor* brings to *take* until it ends, and tell whether that came in time."""
    deadline = None if timeout_s is None else time.monotonic() + timeout_s
    poll = select.poll()
    poll.register(descriptor, select.POLLIN)
    while True:
        left = None if deadline is None else deadline - time.monotonic()
        if left is not None and left <= 0:
            return False
        if poll.poll(None if left is None else left * 1000):
            chunk = os.read(descriptor, _CHUNK)
            if not chunk:
                return True
            take(chunk)


# ---- the verdict -----------------------------------------------------------------------------------


def judge(
    task: BuildTask, scratch: Scratch, *, started: float, attempts: Sequence[str] = ()
) -> BuildOutcome:
    """Return what became of a build whose process 1 has ended.

    Args:
        started: When it began, by the monotonic clock.
        attempts: Attempts to use the network that a watcher saw, in words.
    """
    status, unrouted = _read_report(scratch.report)
    if attempts or unrouted:
        return failed(task, _network(task, status, unrouted, attempts), started=started)
    if status != 0:
        return failed(task, _exit(task, status), started=started)
    fault = _fault(scratch.out)
    if fault:
        return _outcome(task, "output-rejected", f"`{task.name}`: {fault}", started=started)
    duration = time.monotonic() - started
    return BuildOutcome(
        name=task.name,
        status="built",
        output=scratch.out,
        tail=_tail(task.log),
        log=task.log,
        duration_s=duration,
    )


def failed(task: BuildTask, message: str, *, started: float) -> BuildOutcome:
    """Return the outcome of a build that failed for the reason *message*."""
    return _outcome(task, "failed", message, started=started)


def timed_out(task: BuildTask, *, started: float) -> BuildOutcome:
    """Return the outcome of a build that was killed because it took too long."""
    message = f"`{task.name}` was killed: it took longer than {task.timeout_s:g} s"
    return _outcome(task, "timed-out", message, started=started)


def _outcome(task: BuildTask, status: BuildStatus, message: str, *, started: float) -> BuildOutcome:
    return BuildOutcome(
        name=task.name,
        status=status,
        message=message,
        tail=_tail(task.log),
        log=task.log,
        duration_s=time.monotonic() - started,
    )


def _read_report(report: Path) -> tuple[int | None, int]:
    """Return the command's exit status and how many packets found no route.

    No status means that process 1 was killed before it could write one.
    """
    text = report.read_text(encoding="utf-8", errors="replace")
    status = re.match(r"status (\d+)$", text, re.MULTILINE)
    names, values = ([], []) if status is None else _ip_lines(text)
    table = dict(zip(names, values, strict=False))
    sixth = re.search(r"^Ip6OutNoRoutes\s+(\d+)$", text, re.MULTILINE)
    unrouted = int(table.get("OutNoRoutes", "0")) + (int(sixth[1]) if sixth else 0)
    return (int(status[1]) if status else None), unrouted


def _ip_lines(text: str) -> tuple[list[str], list[str]]:
    # /proc/net/snmp holds a line of names and a line of values per protocol.
    names, values = (line.split()[1:] for line in text.splitlines() if line.startswith("Ip: "))
    return names, values


def _network(task: BuildTask, status: int | None, unrouted: int, attempts: Sequence[str]) -> str:
    ending = "its command returned 0 all the same" if status == 0 else _exit(task, status)
    if attempts:
        seen = "; ".join(attempts)
    else:
        lines = [line.strip() for line in _tail(task.log) if _SAYS_WHERE.search(line)]
        uncertain = f"{unrouted} packets had no route, and who sent them was not seen"
        seen = lines[-1][:200] if lines else uncertain
    return f"`{task.name}` tried to use the network, and builds have none: {seen} ({ending})"


def _exit(task: BuildTask, status: int | None) -> str:
    if status is None or status == _KILLED:
        return f"`{task.name}` was killed (137, signal 9): out of memory, perhaps: try fewer cores"
    if status > 128:
        return f"`{task.name}` was ended by signal {status - 128} (exit code {status})"
    if status == 127:
        program = task.command[0]
        return f"`{task.name}` exited with 127: `{program}` or a program it needs was not found"
    return f"`{task.name}` exited with {status}"


def _fault(out: Path) -> str | None:
    """Return why the output cannot be taken; drop set-user-id bits on the way, and let its owner read it and move it."""
    files = 0
    out.chmod(0o755)
    for folder, names, leaves in os.walk(out):
        for name in (*names, *leaves):
            path = f"{folder}/{name}"
            mode = os.lstat(path).st_mode
            shown = os.path.relpath(path, out)
            if stat.S_ISLNK(mode):
                if not _stays_inside(path, out):
                    return f"output `{shown}` is a link that leaves {OUT}: `{os.readlink(path)}`"
            elif not (stat.S_ISREG(mode) or stat.S_ISDIR(mode)):
                return f"output `{shown}` is neither a file, a folder nor a link"
            elif (plain := mode & 0o777 | _owners(mode)) != stat.S_IMODE(mode):
                os.chmod(path, plain)
            files += stat.S_ISREG(mode)
    return None if files else f"the command left no file in {OUT}"


def _owners(mode: int) -> int:
    """Return what a user's own lockbuild needs, where root's could do without."""
    return 0o700 if stat.S_ISDIR(mode) else 0o400


def _stays_inside(link: str, out: Path) -> bool:
    # By its text alone: following it would ask the machine's file system, not the build's. Deep in a
    # folder an absolute link speaks of the toolchain (the interpreter of a virtual environment); at
    # the top stand the files that lockbuild itself will open.
    target = os.readlink(link)
    if target.startswith("/"):
        return os.path.dirname(link) != str(out)
    joined = os.path.normpath(os.path.join(os.path.dirname(link), target))
    return os.path.commonpath([joined, out]) == str(out)


def _tail(log: Path) -> tuple[str, ...]:
    if not log.exists():
        return ()
    with log.open("rb") as stream:
        stream.seek(max(0, log.stat().st_size - _TAIL_BYTES))
        text = stream.read().decode("utf-8", errors="replace")
    return tuple(deque(text.splitlines(), maxlen=_TAIL_LINES))
