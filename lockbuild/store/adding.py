"""Making files and folders ready to be objects: checked, read-only, and on the disk."""

from __future__ import annotations

import os
from dataclasses import dataclass
from typing import TYPE_CHECKING

from lockbuild.derivation import PathInfo
from lockbuild.digest import Sha256, sha256_of
from lockbuild.errors import StoreError
from lockbuild.store.trees import (
    flush,
    flush_one,
    freeze,
    hash_file,
    listing,
    listing_text,
    own,
    remove_tree,
)

if TYPE_CHECKING:
    from pathlib import Path

    from lockbuild.digest import StorePath

__all__ = ["Prepared", "drop_same", "prepare_file", "prepare_folder"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Prepared:
    """What can be renamed into the store."""

    info: PathInfo
    listing: bytes | None = None
    """Canonical listing of a folder."""


def prepare_file(file: Path, wanted: PathInfo, *, size: int | None, trusted: bool) -> Prepared:
    """Make *file* ready to be the object that *wanted* describes.

    Args:
        size: Bytes it must have; none where that is not known.
        trusted: Its hash is known to be the wanted one.

    Raises:
        StoreError: It is no file, or its bytes are others.
    """
    if file.is_symlink() or not file.is_file():
        raise StoreError(f"`{file}` is not a file: `{wanted.path}` cannot be made of it")
    found_size = file.stat().st_size
    if size is not None and found_size != size:
        raise _refused(wanted.path, f"{size} bytes", f"{found_size} bytes")
    if not trusted and (found := hash_file(file)) != wanted.sha256:
        raise _refused(wanted.path, f"sha256 {wanted.sha256}", f"sha256 {found}")
    own(file)
    file.chmod(0o444)
    os.utime(file, (1, 1))
    flush_one(file)
    return Prepared(
        info=PathInfo(
            path=wanted.path,
            sha256=wanted.sha256,
            size=found_size,
            references=wanted.references,
        )
    )


def drop_same(source: Path, found: PathInfo, present: PathInfo) -> None:
    """Remove *source*, which is *found*, as the store has it already: *present*.

    Raises:
        StoreError: It has another content.
    """
    if (found.sha256, found.kind) != (present.sha256, present.kind):
        raise StoreError(
            f"store object `{present.path}` is valid already, with another content",
            details=(f"recorded sha256 {present.sha256}", f"offered  sha256 {found.sha256}"),
            hint="a build that gives other bytes each time is found by `lockbuild check`",
        )
    remove_tree(source)


def prepare_folder(folder: Path, path: StorePath, references: tuple[StorePath, ...]) -> Prepared:
    """Make *folder* ready to be the object *path*.

    Raises:
        StoreError: It is no folder, or holds what no object may.
    """
    if folder.is_symlink() or not folder.is_dir():
        raise StoreError(f"`{folder}` is not a folder: `{path}` cannot be made of it")
    entries = listing(folder)
    freeze(folder, entries)
    flush(folder, entries)
    text = listing_text(entries)
    files = [entry for entry in entries if entry.kind in ("file", "executable")]
    info = PathInfo(
        path=path,
        sha256=sha256_of(text),
        size=sum(entry.size for entry in files),
        references=references,
        kind="folder",
        outputs=tuple(
            (entry.path, Sha256(entry.content), entry.size) for entry in files if "/" not in entry.path
        ),
    )
    return Prepared(info=info, listing=text)


def _refused(path: StorePath, expected: str, found: str) -> StoreError:
    return StoreError(
        f"refused as store object `{path}`: the bytes are others",
        details=(f"expected {expected}", f"found    {found}"),
        hint="whatever made or sent the file gave something else: fetch or build it again",
    )
