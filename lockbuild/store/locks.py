"""Locks between processes and folders that vanish with the process that made them.

Both stand on `flock`, which the kernel lets go of when a process dies, however it dies: nothing here
guesses whether a process id is still the same process.
"""

from __future__ import annotations

import fcntl
import os
import secrets
import socket
from contextlib import contextmanager, suppress
from typing import TYPE_CHECKING

from lockbuild.errors import StoreError
from lockbuild.store.trees import remove_tree

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

__all__ = ["fresh_folder", "locked", "sweep", "try_locked"]

_LOCK = ".lock"


@contextmanager
def locked(file: Path, on_wait: Callable[[str], None] | None = None) -> Iterator[None]:
    """Hold the lock called *file*, waiting for whoever has it; the file is there only while it is held.

    Args:
        on_wait: Told once, before waiting, who holds the lock.
    """
    descriptor = _acquire(file)
    if descriptor is None and on_wait is not None:
        on_wait(_holder(file))
    while descriptor is None:
        descriptor = _acquire(file, wait=True)
    with _held(file, descriptor):
        yield


@contextmanager
def try_locked(file: Path) -> Iterator[bool]:
    """Hold the lock called *file* if nobody else does; the value tells whether."""
    descriptor = _acquire(file)
    if descriptor is None:
        yield False
        return
    with _held(file, descriptor):
        yield True


@contextmanager
def _held(file: Path, descriptor: int) -> Iterator[None]:
    try:
        os.ftruncate(descriptor, 0)
        os.pwrite(descriptor, f"process {os.getpid()} on {socket.gethostname()}\n".encode(), 0)
        yield
    finally:
        # Unlinked while still held: who waits for it finds that its file is no longer the one there.
        file.unlink(missing_ok=True)
        os.close(descriptor)


def _acquire(file: Path, *, wait: bool = False) -> int | None:
    """Return a descriptor that holds the lock; none when it is held, or was let go of in between."""
    descriptor = os.open(file, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o644)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | (0 if wait else fcntl.LOCK_NB))
        if _still(file, descriptor):
            return descriptor
    except BlockingIOError:
        pass
    except BaseException:
        os.close(descriptor)
        raise
    os.close(descriptor)
    return None


def _still(file: Path, descriptor: int) -> bool:
    try:
        return os.path.samestat(file.stat(), os.fstat(descriptor))
    except FileNotFoundError:
        return False


def _holder(file: Path) -> str:
    with suppress(OSError):
        return file.read_text(encoding="utf-8", errors="replace").strip() or "another process"
    return "another process"


@contextmanager
def fresh_folder(parent: Path, name: str) -> Iterator[Path]:
    """Give a new empty folder in *parent* that is removed at the end.

    Its lock file is made before it and removed after it, so that `sweep` can tell a folder in use from
    one whose process died.
    """
    while True:
        folder = parent / f"{name}-{secrets.token_hex(4)}"
        lock = folder.with_name(folder.name + _LOCK)
        with try_locked(lock) as ours:
            if not ours:
                continue
            folder.mkdir()
            try:
                yield folder
            except BaseException:
                # What went wrong in there matters more than what is left behind: `sweep` comes later.
                with suppress(StoreError, OSError):
                    remove_tree(folder)
                raise
            remove_tree(folder)
            return


def sweep(parent: Path) -> None:
    """Remove the folders in *parent* whose processes are dead. What cannot be removed stays."""
    names = sorted(entry.name for entry in os.scandir(parent))
    for name in names:
        lock = parent / (name if name.endswith(_LOCK) else name + _LOCK)
        with try_locked(lock) as dead, suppress(StoreError):
            if dead:
                remove_tree(lock.with_suffix(""))
