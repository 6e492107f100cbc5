"""A listener on some system calls of a build: who tries to reach what, who runs what, who asks who it is.

Linux hands each call that opens a connection or sends to lockbuild before it happens (seccomp_unotify(2));
lockbuild reads the address, notes it when it is not loopback, and lets the call go on, to fail because there
is no route. This only tells: a call it cannot see is still refused and counted by the kernel
(`lockbuild.builders`). It works alike for root and for other users, since the watched processes
descend from lockbuild's own. A call costs a tenth of a millisecond; a build makes few.

A connection to a name server is answered with "connected", so that the resolver goes on to send its
question; the question holds the name, and is refused.

Where builds share jobs, it also sees each program that is about to run, and holds compilers back until it is
their turn (`lockbuild.builders.turns`).

nvcc's front end puts its process id into the names of symbols, where a file defines nothing that others can link
to: `_GLOBAL__N__2d1a14e2_20_sparse_reordering_cu_a79ab029_1162`. When it asks for that id it is told 1, so that
the bytes do not depend on how many processes there were before. (nvcc's `-frandom-seed` is for 12.9 and later.)

The module is also the program that puts on the filter and then becomes the sandbox, since a filter
stays on the process that puts it on: `python -I -S watch.py READY GO CALLS COMMAND…`. It leaves a second process beside
the sandbox, which sees to it that nothing stays where lockbuild was killed, and which lockbuild waits for.
"""

from __future__ import annotations

import ctypes
import errno
import fcntl
import ipaddress
import os
import platform
import select
import signal
import socket
import struct
import sys
import threading
from contextlib import suppress

TYPE_CHECKING = False
if TYPE_CHECKING:
    from lockbuild.builders.turns import Turns

_PR_SET_NO_NEW_PRIVS = 38
_SECCOMP_SET_MODE_FILTER = 1
_SECCOMP_FILTER_FLAG_NEW_LISTENER = 8
_NOTIF_RECV = 0xC0502100
_NOTIF_SEND = 0xC0182101
_FLAG_CONTINUE = 1
_NOTIF = struct.Struct("=QIIiIQ6Q")
_RESPONSE = struct.Struct("=QqiI")
_RET_ALLOW = 0x7FFF0000
_RET_USER_NOTIF = 0x7FC00000
_PIDFD_GETFD = 438

# Machine -> audit number, seccomp, then the calls to watch: connect, sendto, sendmsg, sendmmsg, getpid, execve.
_CALLS = {
    "x86_64": (0xC000003E, 317, (42, 44, 46, 307, 39, 59)),
    "aarch64": (0xC00000B7, 277, (203, 206, 211, 269, 172, 221)),
}
NOTHING, SENDING, RUNNING = "0", "5", "6"
"""How many of them: none; those that send or ask; those and the one that runs programs. All but none need a listener."""

# Programs that put their process id into what they make, and ask for it for nothing else.
_NAMED_AFTER_THEMSELVES = (b"cicc", b"cudafe++")
_SAME_FOR_ALL = 1

_DNS = 53
_MOST = 8
_MOST_KEPT = 1000
_LONGEST = 120


class _Filter(ctypes.Structure):
    _fields_ = (("length", ctypes.c_ushort), ("program", ctypes.c_char_p))


class Watcher:
    """Listens to one sandbox, in a thread, from `start` to `attempts`.

    Args:
        turns: Says when compilers may run; none where that is not watched.
    """

    def __init__(self, turns: Turns | None = None) -> None:
        self._turns = turns
        self._listener = -1
        self._thread: threading.Thread | None = None
        self._attempts: dict[str, None] = {}
        self._asking: dict[tuple[int, int], str] = {}
        self._calls = _CALLS.get(platform.machine(), (0, 0, (-1,) * 6))[2]
        self._end, self._told = os.pipe()

    def start(self, process: int, ready: int) -> bool:
        """Take the listener of *process*, which writes its number to *ready*, begin to listen, and return true.

        Without one (an old kernel, another filter's listener already there, a container that may not take descriptors
        of other processes) nothing is ever seen, and the process must not go on with its filter.
        """
        number = os.read(ready, 16)
        if not number:
            return False
        try:
            self._listener = _take(process, int(number))
        except OSError:
            return False
        self._thread = threading.Thread(target=self._listen, daemon=True)
        self._thread.start()
        return True

    def attempts(self) -> tuple[str, ...]:
        """Stop listening and return what was seen, in words, in the order it came."""
        os.close(self._told)
        if self._thread is not None:
            self._thread.join()
        for descriptor in (self._end, self._listener):
            if descriptor >= 0:
                os.close(descriptor)
        if self._turns is not None:
            self._turns.close()
        for who in self._asking.values():
            self._note(who, "asked a name server")
        seen = tuple(self._attempts)
        more = (f"and {len(seen) - _MOST} more",) if len(seen) > _MOST else ()
        return seen[:_MOST] + more

    def _listen(self) -> None:
        poll = select.poll()
        poll.register(self._listener, select.POLLIN)
        poll.register(self._end, select.POLLIN)
        turns = self._turns
        if turns is not None:
            poll.register(turns, select.POLLIN)
        while True:
            for descriptor, event in poll.poll(turns.patience_ms if turns else None):
                # The listener hangs up when the last watched process has gone.
                if descriptor == self._end or not event & select.POLLIN:
                    return
                if descriptor == self._listener:
                    self._answer_next()
            for question in turns.granted() if turns else ():
                self._send(question, None)

    def _answer_next(self) -> None:
        buffer = bytearray(_NOTIF.size)
        try:
            fcntl.ioctl(self._listener, _NOTIF_RECV, buffer)
        except OSError:
            return  # the caller was killed meanwhile
        ident, pid, _, call, _, _, *arguments = _NOTIF.unpack(buffer)
        if call == self._calls[4]:
            self._send(
                ident, None, value=_SAME_FOR_ALL if _name(pid) in _NAMED_AFTER_THEMSELVES else None
            )
            return
        if call == self._calls[5]:
            if self._may_run(ident, pid, arguments[0]):
                self._send(ident, None)
            return
        answer: int | None = None
        # Where its memory cannot be read or makes no sense, the kernel will say so to the caller.
        with suppress(OSError, ValueError, struct.error, IndexError, OverflowError):
            answer = self._judge(pid, call, arguments)
        self._send(ident, answer)

    def _may_run(self, ident: int, pid: int, address: int) -> bool:
        """Tell whether the program whose path is at *address* may run at once; else its turn comes later."""
        if self._turns is None:
            return True
        try:
            program = _read(pid, address, 512).partition(b"\0")[0]
        except (OSError, OverflowError):
            # No such memory, as the kernel will say to the caller; or the caller was killed meanwhile.
            return True
        return self._turns.ask(ident, pid, os.fsdecode(program))

    def _send(self, ident: int, answer: int | None, *, value: int | None = None) -> None:
        """Answer a call: it goes on, or ends with the error *answer* or, without one, with *value*."""
        flags = _FLAG_CONTINUE if answer is None and value is None else 0
        response = _RESPONSE.pack(ident, value or 0, -(answer or 0), flags)
        with suppress(OSError):
            fcntl.ioctl(self._listener, _NOTIF_SEND, response)

    def _judge(self, pid: int, call: int, arguments: list[int]) -> int | None:
        """Return none to let the call go on, 0 to pretend that it succeeded, or the error it gets."""
        connect, sendto, _, sendmmsg, *_ = self._calls
        descriptor = arguments[0] & 0xFFFFFFFF
        if call == connect:
            return self._judge_connect(pid, descriptor, _read(pid, arguments[1], arguments[2]))
        if call == sendto:
            name = _read(pid, arguments[4], arguments[5]) if arguments[4] else b""
            return self._judge_send(pid, descriptor, name, _read(pid, arguments[1], arguments[2]))
        # struct mmsghdr begins with a struct msghdr; the first message will do.
        if call == sendmmsg and not arguments[2]:
            return None
        where, length, _, vector, count = struct.unpack("=QIIQQ", _read(pid, arguments[1], 32))
        base, size = struct.unpack("=QQ", _read(pid, vector, 16)) if count else (0, 0)
        name = _read(pid, where, length) if where else b""
        return self._judge_send(pid, descriptor, name, _read(pid, base, size))

    def _judge_connect(self, pid: int, descriptor: int, name: bytes) -> int | None:
        self._asking.pop((pid, descriptor), None)
        address = _foreign(name)
        if address is None:
            return None
        if address[1] == _DNS:
            self._asking[pid, descriptor] = _who(pid)
            return 0
        self._note(_who(pid), f"tried to reach {_show(address)}")
        return None

    def _judge_send(self, pid: int, descriptor: int, name: bytes, payload: bytes) -> int | None:
        address = _foreign(name)
        who = self._asking.pop((pid, descriptor), None)
        if who is not None or (address and address[1] == _DNS):
            asked = _question(payload)
            self._note(who or _who(pid), f"looked up `{asked}`" if asked else "asked a name server")
            return errno.ENETUNREACH
        if address is not None:
            self._note(_who(pid), f"tried to reach {_show(address)}")
        return None

    def _note(self, who: str, what: str) -> None:
        if len(self._attempts) < _MOST_KEPT:
            self._attempts[f"`{who}` {what}"] = None


def _take(process: int, number: int) -> int:
    pidfd = os.pidfd_open(process)
    try:
        taken = ctypes.CDLL(None, use_errno=True).syscall(_PIDFD_GETFD, pidfd, number, 0)
    finally:
        os.close(pidfd)
    if taken < 0:
        raise OSError(ctypes.get_errno(), "pidfd_getfd")
    os.set_inheritable(taken, False)
    return int(taken)


def _read(pid: int, address: int, size: int) -> bytes:
    size = min(size, 512)
    if not address or not size:
        return b""
    with open(f"/proc/{pid}/mem", "rb", buffering=0) as memory:
        return os.pread(memory.fileno(), size, address)


def _name(pid: int) -> bytes:
    with suppress(OSError), open(f"/proc/{pid}/comm", "rb") as stream:
        return stream.read().rstrip(b"\n")
    return b""


def _foreign(name: bytes) -> tuple[str, int] | None:
    """Return address and port of a `struct sockaddr` that is not on this machine's loopback."""
    if len(name) < 8:
        return None
    family = struct.unpack_from("=H", name)[0]
    port = int.from_bytes(name[2:4], "big")
    address: ipaddress.IPv4Address | ipaddress.IPv6Address
    if family == socket.AF_INET:
        address = ipaddress.IPv4Address(name[4:8])
    elif family == socket.AF_INET6 and len(name) >= 24:
        sixth = ipaddress.IPv6Address(name[8:24])
        address = sixth.ipv4_mapped or sixth
    else:
        return None
    return None if address.is_loopback or address.is_unspecified else (str(address), port)


def _show(address: tuple[str, int]) -> str:
    host, port = address
    return f"`[{host}]:{port}`" if ":" in host else f"`{host}:{port}`"


def _question(payload: bytes) -> str:
    """Return the name asked for by a DNS message (RFC 1035, section 4.1)."""
    for start in (12, 14):  # over TCP a length of two bytes comes first
        labels, position = [], start
        while position < len(payload) and 0 < payload[position] < 64:
            size = payload[position]
            labels.append(payload[position + 1 : position + 1 + size])
            position += 1 + size
        if labels and position < len(payload) and payload[position] == 0:
            name = b".".join(labels).decode("ascii", errors="replace")
            if name.isprintable():
                return name
    return ""


def _who(pid: int) -> str:
    try:
        with open(f"/proc/{pid}/cmdline", "rb") as stream:
            words = stream.read(4096).rstrip(b"\0").decode("utf-8", errors="replace").split("\0")
    except OSError:
        words = [""]
    text = " ".join(" ".join(words).split()).replace("`", "'") or "a process"
    # The line comes from the build and is shown on a terminal.
    line = "".join(character if character.isprintable() else "?" for character in text)
    return line if len(line) <= _LONGEST else line[:_LONGEST] + "…"


# ---- the program that puts on the filter -----------------------------------------------------------


def _program(audit: int, calls: tuple[int, ...]) -> bytes:
    """Return the filter in classic BPF: these calls of this architecture are told, all others go on."""
    load, jump, give = 0x20, 0x15, 0x06
    steps = [(load, 0, 0, 4), (jump, 0, len(calls) + 1, audit), (load, 0, 0, 0)]
    steps += [(jump, len(calls) - index, 0, call) for index, call in enumerate(calls)]
    steps += [(give, 0, 0, _RET_ALLOW), (give, 0, 0, _RET_USER_NOTIF)]
    return b"".join(struct.pack("=HBBI", *step) for step in steps)


def _put_on(count: int) -> int:
    """Put the filter on this process and return the listener; -1 where the kernel cannot, or nothing is watched."""
    if not count or platform.machine() not in _CALLS:
        return -1
    audit, seccomp, calls = _CALLS[platform.machine()]
    library = ctypes.CDLL(None, use_errno=True)
    code = _program(audit, calls[:count])
    # Without this, who is not root may not put on a filter.
    if library.prctl(_PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0):
        return -1
    return int(
        library.syscall(
            seccomp,
            _SECCOMP_SET_MODE_FILTER,
            _SECCOMP_FILTER_FLAG_NEW_LISTENER,
            ctypes.byref(_Filter(len(code) // 8, code)),
        )
    )


def _guard(go: int) -> None:
    """Leave a process behind that ends this one's group once this one or lockbuild has ended.

    bubblewrap dies with lockbuild, but where that happens before it has told the first process of the sandbox to
    go on, that one waits for ever. So does this program, if lockbuild dies while it asks whether it may become the sandbox.
    """
    if os.getpgrp() != os.getpid():
        return  # others are in the group
    try:
        sandbox = os.pidfd_open(os.getpid())
    except OSError:
        return  # before Linux 5.3
    if os.fork():
        os.close(sandbox)
        return
    try:
        _wait_for_end(go, sandbox)
    finally:
        os.killpg(0, signal.SIGKILL)


def _wait_for_end(go: int, sandbox: int) -> None:
    """Wait until lockbuild closes its end of *go*, or has gone, or the process *sandbox* has."""
    # Others wait for the ends of all else. A limit of files may be a billion, too many to be closed one by one.
    for descriptor in {*map(int, os.listdir("/proc/self/fd"))} - {go, sandbox}:  # noqa: PTH208 - pathlib takes long to start
        with suppress(OSError):  # that of the list itself
            os.close(descriptor)
    poll = select.poll()
    poll.register(go, 0)
    poll.register(sandbox, select.POLLIN)
    poll.poll()


def _main() -> None:
    ready, go, count, *command = sys.argv[1:]
    _guard(int(go))
    listener = _put_on(int(count))
    if listener >= 0:
        os.write(int(ready), str(listener).encode())
    os.close(int(ready))
    if not os.read(int(go), 1):
        return  # lockbuild has gone
    os.close(int(go))
    os.execv(command[0], command)  # noqa: S606 - an argument vector that lockbuild made


if __name__ == "__main__":
    _main()
