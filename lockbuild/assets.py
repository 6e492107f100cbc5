"""Assets on their way into the store: what they must be, and only what is wanted of an archive."""

from __future__ import annotations

from typing import TYPE_CHECKING

from lockbuild.archives import take_members
from lockbuild.errors import FetchError
from lockbuild.stack.assets import ON_FIRST_FETCH
from lockbuild.store import trees

if TYPE_CHECKING:
    from pathlib import Path

    from lockbuild.derivation import ArchiveMembers, Fetch
    from lockbuild.stack import Stack
    from lockbuild.store import Store

__all__ = ["add_tree", "first_seen", "put_members", "refuse_other_kind"]


def first_seen(stack: Stack) -> tuple[str, ...]:
    """Return the names of the assets of the image whose hash nobody but their first fetch has told."""
    return tuple(asset.name for asset in stack.bundles if asset.sha256 == ON_FIRST_FETCH)


def refuse_other_kind(fetch: Fetch, kind: str | None, file: Path) -> None:
    """Refuse a file that has the locked bytes, but is a page, or not of the type that the stack names.

    Raises:
        FetchError: Somebody pinned a page, or the type is wrong.
    """
    from lockbuild import sources  # noqa: PLC0415 - not loaded when nothing is missing

    with file.open("rb") as stream:
        fault = sources.fault_of_kind(stream.read(sources.HEAD), kind)
    if fault:
        raise FetchError(
            f"`{fetch.filename}`: {fault}",
            details=("it has the locked bytes",),
            hint="correct `type`, or the sha256 of what was pinned by mistake",
        )


def put_members(fetch: Fetch, where: ArchiveMembers, archive: Path, store: Store) -> None:
    """Take the members out of a downloaded *archive*, which stays where it is, and put them into the store.

    Raises:
        FetchError: It is no archive with such members, or they are not the locked ones.
    """
    with store.scratch("members") as scratch:
        tree = scratch / "tree"
        tree.mkdir()
        take_members(archive, where.members, into=tree, name=fetch.filename)
        found = trees.listing_sha256(trees.listing(tree))
        if found != fetch.sha256:
            raise FetchError(
                f"`{fetch.filename}`: the archive's members are not the locked ones",
                details=(f"locked sha256 {fetch.sha256}", f"found  sha256 {found}"),
                hint=f"`lockbuild resolve --repin {fetch.filename}` pins them anew, once it is clear why they differ",
            )
        add_tree(fetch, tree, store)


def add_tree(fetch: Fetch, tree: Path, store: Store) -> None:
    """Put a folder into the store, unless another run has done so meanwhile."""
    with store.lock(fetch.path):
        if store.info(fetch.path) is None:
            store.add_folder(fetch.path, tree)
