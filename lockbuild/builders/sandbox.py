"""Builds in a bubblewrap sandbox: no daemon, no root, nothing to clean up.

The toolchain's top-level entries, and each entry of its /etc, are bound read-only into a fresh root,
so that mount points can be made beside them and the toolchain itself is never written. All
capabilities are dropped. No system call is forbidden: that would want a maintained list (libseccomp's
or the Docker Engine's), and what runs here is what the user would run anyway.
"""

from __future__ import annotations

import json
import os
import select
import signal
import subprocess
import sys
import time
from contextlib import suppress
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

from lockbuild.builders import (
    BUILD,
    HOSTNAME,
    INPUTS,
    SOURCE,
    UID,
    Scratch,
    ccache,
    judge,
    launch_arguments,
    prepare,
    pump,
    timed_out,
    watch,
)
from lockbuild.builders.turns import Turns
from lockbuild.errors import BuildError
from lockbuild.process import need_tool, run

if TYPE_CHECKING:
    from collections.abc import Iterator

    from lockbuild.derivation import BuildOutcome, BuildTask

__all__ = ["SandboxBuilder"]

_NAMESPACES = (
    "--unshare-user",
    "--unshare-pid",
    "--unshare-ipc",
    "--unshare-uts",
    "--unshare-cgroup-try",
    "--unshare-net",
)
# Entries of the toolchain that the sandbox gives afresh.
_FRESH = frozenset({"build", "dev", "etc", "proc", "sys", "tmp"})
_PROBE_TIMEOUT_S = 20
_GUARD_TIMEOUT_MS = 10_000
_BLOCKED = {
    "/proc/sys/kernel/apparmor_restrict_unprivileged_userns": (
        "1",
        (
            "AppArmor blocks user namespaces: give bwrap a profile that allows `userns`, or run "
            "`sysctl kernel.apparmor_restrict_unprivileged_userns=0`; or use the container engine"
        ),
    ),
    "/proc/sys/kernel/unprivileged_userns_clone": (
        "0",
        "user namespaces are switched off: `sysctl kernel.unprivileged_userns_clone=1`",
    ),
    "/proc/sys/user/max_user_namespaces": (
        "0",
        "user namespaces are switched off: `sysctl user.max_user_namespaces=10000`",
    ),
}


class SandboxBuilder:
    """The default engine."""

    name = "sandbox"

    def probe(self) -> None:
        """Start an empty sandbox.

        Raises:
            ToolMissing: bubblewrap is not installed.
            BuildError: The kernel does not let it make its namespaces.
        """
        bwrap = need_tool("bwrap", purpose="building in a sandbox")
        tried = run(
            [bwrap, *_NAMESPACES, *_identity(), "--ro-bind", "/", "/", "--proc", "/proc", "true"],
            timeout_s=_PROBE_TIMEOUT_S,
        )
        if tried.returncode != 0:
            raise BuildError(
                f"bubblewrap cannot make a sandbox: {tried.stderr.strip() or tried.returncode}",
                hint=_why_blocked(),
            )

    def build(self, task: BuildTask) -> BuildOutcome:
        """Run *task* in a sandbox of its own.

        Raises:
            ToolMissing: bubblewrap is not installed.
            BuildError: bubblewrap cannot make the sandbox: an input is absent, namespaces are blocked.
        """
        bwrap = need_tool("bwrap", purpose="building in a sandbox")
        scratch = prepare(task)
        task = ccache.with_cache(task)
        arguments = tuple(_mounts(task, scratch))
        started = time.monotonic()
        with _start(bwrap, arguments, task) as sandbox:
            if not sandbox.run(task):
                return timed_out(task, started=started)
        if not scratch.report.stat().st_size:
            raise BuildError(
                f"bubblewrap refused build `{task.name}`",
                details=tuple(task.log.read_text(encoding="utf-8", errors="replace").splitlines()),
                hint="`lockbuild doctor` tries the sandbox",
            )
        return judge(task, scratch, started=started, attempts=sandbox.seen)


def _identity() -> tuple[str, ...]:
    return ("--uid", str(UID), "--gid", str(UID), "--cap-drop", "ALL", "--hostname", HOSTNAME)


def _why_blocked() -> str:
    for setting, (blocked, hint) in _BLOCKED.items():
        with suppress(OSError):
            if Path(setting).read_text(encoding="utf-8").strip() == blocked:
                return hint
    return "inside a container, it must allow user namespaces; or build with the container engine"


def _mounts(task: BuildTask, scratch: Scratch) -> Iterator[str]:
    if task.rootfs is None:
        msg = f"build `{task.name}` has no toolchain to run in"
        raise ValueError(msg)
    yield from (*_NAMESPACES, *_identity(), "--die-with-parent", "--new-session")
    yield from ("--as-pid-1", "--clearenv")
    yield from ("--tmpfs", "/")
    yield from _read_only(task.rootfs, "", without=_FRESH)
    ours = frozenset(name for name, _ in scratch.etc)
    yield from ("--perms", "0755", "--dir", "/etc")
    yield from _read_only(task.rootfs / "etc", "/etc", without=ours)
    yield from ("--proc", "/proc", "--dev", "/dev", "--dir", "/sys", "--dir", BUILD)
    inputs = ((f"{INPUTS}/{name}", path) for name, path in task.inputs)
    for place, path in (*scratch.read_only, *inputs):
        yield from ("--ro-bind", str(path), place)
    for place, path in scratch.writable:
        yield from ("--bind", str(path), place)
    yield from ccache.mounts(task)
    yield from ("--remount-ro", "/", "--chdir", SOURCE)


def _read_only(folder: Path, place: str, *, without: frozenset[str]) -> Iterator[str]:
    entries = sorted(os.scandir(folder), key=lambda entry: entry.name) if folder.is_dir() else []
    for entry in entries:
        if entry.name in without:
            continue
        if entry.is_symlink():
            yield from ("--symlink", os.readlink(entry.path), f"{place}/{entry.name}")
        else:
            yield from ("--ro-bind", entry.path, f"{place}/{entry.name}")


@dataclass(slots=True)
class _Sandbox:
    """A running sandbox; leaving the block ends whatever still runs."""

    process: subprocess.Popen[bytes]
    watcher: watch.Watcher
    info: int
    """Where bubblewrap writes, as JSON, the number of the sandbox's process 1."""
    go: int
    """What tells the sandbox to begin; when it is closed, by us or by our death, nothing of the sandbox stays."""
    child: int | None = None
    seen: tuple[str, ...] = ()

    def __enter__(self) -> _Sandbox:
        return self

    def __exit__(self, *_: object) -> None:
        if self.process.poll() is None:
            self.kill()
        for stream in (self.process.stdin, self.process.stdout):
            if stream is not None:
                stream.close()
        os.close(self.info)
        self._wait_for_guard()
        os.close(self.go)
        self.seen = self.watcher.attempts()

    def _wait_for_guard(self) -> None:
        """Wait until the process beside the sandbox has gone: it ends by itself, the last that could read *go*."""
        poll = select.poll()
        poll.register(self.go, 0)  # a pipe that nobody reads is in error
        poll.poll(_GUARD_TIMEOUT_MS)

    def run(self, task: BuildTask) -> bool:
        """Copy the output to the log until the sandbox ends, and tell whether it did in time."""
        output = self.process.stdout
        if output is None:
            return True
        with task.log.open("wb", buffering=0) as log:
            if not pump(output.fileno(), log.write, timeout_s=task.timeout_s):
                return False
        self.process.wait()
        return True

    def learn_child(self) -> None:
        text = b""
        while chunk := os.read(self.info, 4096):
            text += chunk
        with suppress(ValueError, KeyError):
            self.child = int(json.loads(text)["child-pid"])

    def kill(self) -> None:
        # With its process 1 the whole namespace goes, and bubblewrap ends only after that; killing
        # bubblewrap first would leave a moment in which the build still runs.
        if self.child is not None:
            with suppress(ProcessLookupError):
                os.kill(self.child, signal.SIGKILL)
        else:
            self.process.kill()
        self.process.wait()


def _start(bwrap: Path, arguments: tuple[str, ...], task: BuildTask) -> _Sandbox:
    """Start the sandbox: watched and among those that share jobs, or, where the kernel does not let us, with a fixed part."""
    calls, turns, shared = watch.SENDING, None, task
    if task.pool is not None:
        calls, turns = watch.RUNNING, Turns(task.pool)
        shared = replace(task, cores=task.pool.jobs)
    sandbox = _launch(bwrap, arguments, shared, watch.Watcher(turns), calls)
    if sandbox is None:
        sandbox = _launch(bwrap, arguments, task, watch.Watcher(), watch.NOTHING)
    if sandbox is None:
        msg = "a sandbox that nobody watches starts in any case"
        raise RuntimeError(msg)
    return sandbox


def _launch(
    bwrap: Path, arguments: tuple[str, ...], task: BuildTask, watcher: watch.Watcher, calls: str
) -> _Sandbox | None:
    """Return the running sandbox; none where its calls are to be watched and cannot be."""
    ready, tell_ready = os.pipe()
    go, tell_go = os.pipe()
    info, tell_info = os.pipe()
    try:
        process = subprocess.Popen(
            [
                *(sys.executable, "-I", "-S", watch.__file__, str(tell_ready), str(go), calls),
                *(str(bwrap), "--info-fd", str(tell_info), *arguments, "--"),
                *launch_arguments(task),
            ],
            stdin=subprocess.PIPE,
            # A pipe, as in a container: a build can see what its output is.
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            pass_fds=(tell_ready, go, tell_info),
            start_new_session=True,
        )
    finally:
        for descriptor in (tell_ready, go, tell_info):
            os.close(descriptor)
    sandbox = _Sandbox(process, watcher, info, tell_go)
    try:
        if not watcher.start(process.pid, ready) and calls != watch.NOTHING:
            # It may have put on the filter, and calls that nobody can answer would all fail.
            sandbox.__exit__()
            return None
        os.write(tell_go, b"1")
        sandbox.learn_child()
    except BaseException:
        sandbox.__exit__()
        raise
    finally:
        os.close(ready)
    return sandbox
