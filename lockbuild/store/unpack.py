"""Unpacking a tar into a folder that is then only read."""

from __future__ import annotations

import os
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING

from lockbuild.errors import StoreError
from lockbuild.process import clean_env, need_tool, run
from lockbuild.store.faults import REPAIR
from lockbuild.store.trees import flush, hash_file, remove_tree

if TYPE_CHECKING:
    from lockbuild.digest import Sha256

__all__ = ["unpack_checked", "unpack_tar"]

# GNU tar itself refuses `..`, strips leading slashes and makes doubtful symlinks last, so that no
# member is written through one. Device nodes are left out: a sandbox brings its own /dev, and a node in
# a folder of the host is a door.
_OPTIONS = (
    "--force-local",
    "--numeric-owner",
    "--delay-directory-restore",
    "--no-acls",
    "--no-selinux",
    "--no-xattrs",
    "--anchored",
    "--exclude=./dev/*",
    "--exclude=dev/*",
)
# Ownership is kept where it can be: files of `_apt` or `man` then belong to them in the sandbox too.
_AS_ROOT = ("--same-owner", "--same-permissions")
# Set-user-id bits of another's file must not become this user's.
_AS_USER = ("--no-same-owner", "--no-same-permissions")


def unpack_checked(archive: Path, folder: Path, expected: Sha256) -> None:
    """Unpack *archive*, whose bytes must be the *expected* ones, into *folder*, and flush it to disk.

    What an interrupted attempt left in *folder* is removed first.
    """
    found = hash_file(archive)
    if found != expected:
        raise StoreError(
            f"`{archive}` is damaged: its bytes are not those that were recorded",
            details=(f"recorded sha256 {expected}", f"found    sha256 {found}"),
            hint=REPAIR,
        )
    remove_tree(folder)
    folder.mkdir(parents=True)
    try:
        unpack_tar(archive, folder)
    except BaseException:
        # It may be what filled the disk.
        with suppress(StoreError, OSError):
            remove_tree(folder)
        raise
    flush(folder)


def unpack_tar(archive: Path, folder: Path) -> None:
    """Unpack *archive* into the empty *folder*: with its owners as root, without them as a user.

    Raises:
        StoreError: tar refused; its last words are in the details.
        ToolMissing: There is no tar.
    """
    tar = need_tool("tar", purpose="unpacking a root file system")
    root = os.geteuid() == 0
    command: list[str | Path] = [tar, "--extract", *_OPTIONS, *(_AS_ROOT if root else _AS_USER)]
    _run(archive, [*command, "--file", archive, "--directory", folder])
    if not root:
        # Root is not held back by write bits; sandboxes show the tree read-only in any case.
        _run(archive, ["chmod", "--recursive", "a-w", folder])


def _run(archive: Path, command: list[str | Path]) -> None:
    ended = run(command, env=clean_env())
    if ended.returncode != 0:
        raise StoreError(
            f"`{archive.name}` cannot be unpacked: `{Path(command[0]).name}` ended with"
            f" {ended.returncode}",
            details=tuple(ended.stderr.splitlines()[-5:]),
            hint="look whether the disk is full: the archive itself has the recorded bytes",
        )
