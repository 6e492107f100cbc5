"""Pinning an interpreter of the machine that resolves: an archive of it, in the store from then on."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from lockbuild.derivation import Fetch, HostInterpreter
from lockbuild.errors import FetchError, ResolveError
from lockbuild.lock import LockedFile, LockedInterpreter

if TYPE_CHECKING:
    from lockbuild.hostpython import HostPython
    from lockbuild.locking.former import Former
    from lockbuild.locking.gaps import Gaps
    from lockbuild.progress import Progress
    from lockbuild.stack import Stack
    from lockbuild.store import Store

__all__ = ["InterpreterPinner"]

_INPUTS = ("interpreter.host", "target.platform", "target.python")


@dataclass(frozen=True, slots=True, kw_only=True)
class InterpreterPinner:
    """Takes this machine's Python, unless the store has the one that was taken before."""

    stack: Stack
    former: Former
    store: Store
    progress: Progress
    gaps: Gaps

    def pin(self) -> LockedInterpreter | None:
        """Return the interpreter; none where the stack wants no machine's, and while it is open.

        Raises:
            ResolveError: This machine has another Python under that name, or one that cannot be taken along.
        """
        command = self.stack.interpreter.host
        if command is None:
            return None
        same = self.former.same(*_INPUTS)
        known = same.interpreter if same else None
        if known and not self.former.options.upgrade and self._has(known, command):
            return known
        try:
            return self._take(command)
        except FetchError as error:
            if not error.unreachable:
                raise ResolveError(error.message, details=error.details, hint=error.hint) from error
            if known:
                self.gaps.keep("interpreter", command, error)
                return known
            # The lock says nothing of this machine; whoever resolves now is told.
            told = FetchError(error.message, details=(error.message, *error.details), unreachable=True)
            reason = f"no machine that has `{command}` has resolved yet"
            self.gaps.leave("interpreter", command, told, reason=reason)
            return None

    def _has(self, known: LockedInterpreter, command: str) -> bool:
        return bool(self.store.valid([_fetch(known.file, command).path]))

    def _take(self, command: str) -> LockedInterpreter:
        """Put the archive of this machine's Python into the store."""
        from lockbuild import hostpython  # noqa: PLC0415 - not loaded when the store has it

        python = hostpython.ask_python(command)
        self._refuse_other(python)
        with (
            self.progress.phase("taking this machine's Python", total=1, unit="interpreters") as phase,
            self.store.scratch("python") as scratch,
        ):
            packed = hostpython.pack_python(python, scratch / python.filename)
            file = LockedFile(filename=python.filename, sha256=packed.sha256, size=packed.size)
            path = _fetch(file, command).path
            with self.store.lock(path):
                if self.store.info(path) is None:
                    archive = scratch / python.filename
                    self.store.add_file(path, archive, sha256=file.sha256, trusted_hash=True)
            phase.advance(1)
            phase.line(f"{command}: Python {python.version}")
        return LockedInterpreter(file=file, version=python.version, glibc=packed.glibc)

    def _refuse_other(self, python: HostPython) -> None:
        target = self.stack.target
        for key, found, expected in (
            ("target.python", python.minor, target.python),
            ("target.platform", python.machine, target.machine),
        ):
            if found != expected:
                raise ResolveError(
                    f"`interpreter.host`: `{python.command}` is Python {python.version} for {python.machine},"
                    f" `{key}` wants {expected}",
                    hint="put the right one first on PATH, or correct the stack",
                )


def _fetch(file: LockedFile, command: str) -> Fetch:
    where = HostInterpreter(command=command)
    return Fetch(filename=file.filename, sha256=file.sha256, size=file.size, where=where)
