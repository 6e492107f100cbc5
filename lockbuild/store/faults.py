"""What the operating system refuses, in the words of a store."""

from __future__ import annotations

import errno
from contextlib import contextmanager
from typing import TYPE_CHECKING

from lockbuild.errors import FULL_DISK, StoreError

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from lockbuild.digest import StorePath

__all__ = ["REPAIR", "damaged_record", "full_in_words", "in_words"]

REPAIR = "`lockbuild store repair` fetches or builds it again"

_REFUSED = (errno.EACCES, errno.EPERM, errno.EROFS)
_NO_LOCKS = (errno.ENOLCK, errno.ENOSYS, errno.EOPNOTSUPP)


@contextmanager
def in_words(root: Path) -> Iterator[None]:
    """Turn an `OSError` that comes up while the store at *root* is used into a `StoreError`."""
    try:
        yield
    except OSError as error:
        raise _fault(root, error) from error


@contextmanager
def full_in_words(root: Path) -> Iterator[None]:
    """Turn an `OSError` that says that the disk is full into a `StoreError`, and no other."""
    try:
        yield
    except OSError as error:
        if error.errno not in FULL_DISK:
            raise
        raise _fault(root, error) from error


def damaged_record(path: StorePath, error: ValueError) -> StoreError:
    """Return the fault that the record of *path* cannot be read."""
    return StoreError(f"the record of store object `{path}` is damaged: {error}", hint=REPAIR)


def _fault(root: Path, error: OSError) -> StoreError:
    details = (str(error),)
    if error.errno in FULL_DISK:
        return StoreError(
            f"no space is left for the store: {root}",
            details=details,
            hint="free some space, `lockbuild store gc` does; or choose another store: LOCKBUILD_STORE",
        )
    if error.errno in _REFUSED:
        return StoreError(
            f"the store cannot be written to: {root}",
            details=details,
            hint="give this user the right to write there, or choose another store: LOCKBUILD_STORE",
        )
    if error.errno in _NO_LOCKS:
        return StoreError(
            f"the file system of the store knows no locks: {root}",
            details=details,
            hint="choose a store on a local file system: LOCKBUILD_STORE",
        )
    return StoreError(
        f"the store cannot be used: {root}",
        details=details,
        hint="name a folder that this user may make or write to: `--store`, LOCKBUILD_STORE",
    )
