"""Every fault a user can meet, with its exit code and the next thing to do.

Only `lockbuild.cli` turns these into text and an exit status. Whatever is raised that is not a
`LockbuildError` is a bug and keeps its traceback.
"""

from __future__ import annotations

import errno
from typing import TYPE_CHECKING, Any, ClassVar

if TYPE_CHECKING:
    from collections.abc import Mapping

__all__ = [
    "FULL_DISK",
    "AuditError",
    "BuildError",
    "FetchError",
    "ImageError",
    "LockError",
    "LockbuildError",
    "PreflightError",
    "ResolveError",
    "StackError",
    "StoreError",
    "ToolMissing",
    "UsageError",
]

FULL_DISK = frozenset({errno.ENOSPC, errno.EDQUOT})
"""Numbers of the `OSError` that says that no space is left."""


class LockbuildError(Exception):
    """Root of all foreseen faults.

    Args:
        message: What was found and what was expected; lower case, no full stop.
        details: Further lines, one fault or fact each.
        hint: The next thing to do, as a sentence or a command; a line for each where there are several.
        unreachable: Whether nobody who could have told was reached: what is wanted may well be there.
        tried: Each address that was asked, without secrets, and what it gave.
    """

    exit_code: ClassVar[int] = 1

    def __init__(
        self,
        message: str,
        *,
        details: tuple[str, ...] = (),
        hint: str | None = None,
        unreachable: bool = False,
        tried: tuple[tuple[str, str], ...] = (),
    ) -> None:
        super().__init__(message)
        self.message = message
        self.details = details
        self.hint = hint
        self.unreachable = unreachable
        self.tried = tried

    def __reduce__(self) -> tuple[object, ...]:
        # Exceptions pickle through positional arguments only; errors come back from worker
        # processes with all that they say.
        names = ("details", "hint", "unreachable", "tried")
        return (_rebuild, (type(self), self.message, {name: getattr(self, name) for name in names}))


def _rebuild(kind: type[LockbuildError], message: str, facts: Mapping[str, Any]) -> LockbuildError:
    return kind(message, **facts)


class UsageError(LockbuildError):
    """The command line asks for something that does not exist or cannot be combined."""

    exit_code = 2


class StackError(LockbuildError):
    """A stack file is wrong; `details` holds one line per fault."""

    exit_code = 2


class LockError(LockbuildError):
    """A lock is missing, stale, or not a lock."""

    exit_code = 3


class ResolveError(LockbuildError):
    """Requirements or packages cannot be resolved, or two engines disagree."""

    exit_code = 4


class FetchError(LockbuildError):
    """An artifact cannot be had, or its bytes are not the locked ones."""

    exit_code = 5


class BuildError(LockbuildError):
    """A build failed, or its output was rejected."""

    exit_code = 6


class StoreError(LockbuildError):
    """A store object is damaged, the store cannot be used, or a disk is full."""

    exit_code = 7


class ImageError(LockbuildError):
    """Rendering a Dockerfile, or building or loading an image, failed."""

    exit_code = 8


class AuditError(LockbuildError):
    """The audit found errors."""

    exit_code = 9


class PreflightError(LockbuildError):
    """Something that an image needs is missing where it was run: EX_CONFIG, as the image itself ends."""

    exit_code = 78


class ToolMissing(LockbuildError):
    """A tool that this step needs is absent or does not work."""

    exit_code = 10
