"""Writing that survives: whole files, whole moves, and the marker that makes a folder a store."""

from __future__ import annotations

import errno
import os
import shutil
from typing import TYPE_CHECKING, TypeVar

from lockbuild.errors import StoreError
from lockbuild.store.locks import fresh_folder
from lockbuild.store.records import SCHEMA, marker_text, parse_marker
from lockbuild.store.trees import flush_one, listing, remove_tree

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

__all__ = ["PARTIAL", "has_text", "move_in", "open_marker", "write_whole"]

PARTIAL = ".partial"
_MARKER = "lockbuild-store"
_T = TypeVar("_T")


def open_marker(root: Path) -> tuple[int, bool]:
    """Return a descriptor of the marker of the store at *root*, and whether it can be written to.

    A folder that is missing or empty becomes a store.

    Raises:
        StoreError: There is something else, or a store of another layout.
    """
    marker = root / _MARKER
    if not marker.exists():
        root.mkdir(parents=True, exist_ok=True)
        # Another process may be doing the same.
        ours = (_MARKER, f".{_MARKER}")
        strange = sorted(file.name for file in root.iterdir() if not file.name.startswith(ours))
        if strange and not marker.exists():
            raise StoreError(
                f"`{root}` is no store and not empty: found `{strange[0]}`",
                hint="choose a folder that is empty or does not exist yet",
            )
        write_whole(marker, marker_text().encode(), f"{os.getpid()}{PARTIAL}")
    try:
        schema = parse_marker(marker.read_text(encoding="utf-8"))
    except ValueError as error:
        raise StoreError(f"`{marker}` is damaged: {error}", hint="choose another store") from error
    if schema != SCHEMA:
        raise StoreError(
            f"the store at `{root}` has layout {schema}, this lockbuild knows layout {SCHEMA}",
            hint="use the version that made it, or choose another store",
        )
    flags = os.O_CLOEXEC | os.O_NOFOLLOW
    if os.access(root, os.W_OK):
        return os.open(marker, os.O_RDWR | flags), True
    return os.open(marker, os.O_RDONLY | flags), False


def write_whole(file: Path, data: bytes, suffix: str = PARTIAL) -> None:
    """Write *file* so that it is there whole or not at all, whatever happens.

    Who writes the same file at the same time needs a lock, or a *suffix* of its own.
    """
    partial = file.with_name(f".{file.name}{suffix}")
    try:
        with partial.open("wb") as stream:
            stream.write(data)
            stream.flush()
            os.fsync(stream.fileno())
        partial.replace(file)
    except BaseException:
        partial.unlink(missing_ok=True)
        raise
    flush_one(file.parent)


def has_text(file: Path, text: str) -> bool:
    """Tell whether *file* is there and holds *text*."""
    try:
        return file.read_bytes() == text.encode()
    except FileNotFoundError:
        return False


def move_in(source: Path, target: Path, scratch: Path, prepare: Callable[[Path], _T]) -> _T:
    """Move *source* to *target*, where nothing is, and return what *prepare* made of it.

    Args:
        scratch: Folder on the file system of *target*, for a source from another one.
        prepare: Checks and flushes what it is given, which has its final bytes and can be renamed.
    """
    try:
        if source.stat(follow_symlinks=False).st_dev == target.parent.stat().st_dev:
            result = prepare(source)
            source.rename(target)
            flush_one(target.parent)
            return result
    except OSError as error:
        # Two mounts of one file system: same device, and yet no rename.
        if error.errno != errno.EXDEV:
            raise
    with fresh_folder(scratch, "copy") as folder:
        copy = folder / "copy"
        if source.is_dir() and not source.is_symlink():
            # A pipe would be copied until its writer ends.
            listing(source)
            shutil.copytree(source, copy, symlinks=True)
        else:
            shutil.copy2(source, copy, follow_symlinks=False)
        result = prepare(copy)
        copy.rename(target)
        flush_one(target.parent)
    remove_tree(source)
    return result
