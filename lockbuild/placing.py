"""Sources of an image: their trees as the store has them, checked against what else is put there, and as archives."""

from __future__ import annotations

import filecmp
import os
import posixpath
import tarfile
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from lockbuild.errors import ImageError, StackError, StoreError
from lockbuild.plan import EPOCH
from lockbuild.stack.assets import image_paths
from lockbuild.store.trees import listing_sha256

if TYPE_CHECKING:
    from pathlib import Path

    from lockbuild.digest import Sha256, StorePath
    from lockbuild.plan import Plan
    from lockbuild.stack import NamedSource, Stack
    from lockbuild.store import Store
    from lockbuild.store.trees import Entry

__all__ = ["SourceTree", "source_trees", "write_archive"]


@dataclass(frozen=True, slots=True, kw_only=True)
class SourceTree:
    """What an image has of a source."""

    name: str
    path: str
    """Its folder in the image."""
    entries: tuple[Entry, ...]
    """Everything below that folder, sorted by path."""
    origin: Path
    """The folder of the store that holds it."""

    @property
    def sha256(self) -> Sha256:
        """Hash of the listing."""
        return listing_sha256(self.entries)


def source_trees(stack: Stack, plan: Plan, store: Store) -> tuple[SourceTree, ...]:
    """Return the tree of each source of the image, in the stack's order; everything is in the store.

    Raises:
        ImageError: A link leads out of a tree, or an asset would go where a tree has something.
        StackError: A tree has no such `subdirectory`.
        StoreError: A tree is not in the store.
    """
    paths = dict(plan.sources)
    found = tuple(_tree(source, paths.get(source.name), store) for source in stack.placed)
    faults = [fault for tree in found for fault in (*_outward(tree), *_displaced(tree, stack))]
    if faults:
        raise ImageError(
            "sources and assets do not go together in the image",
            details=tuple(faults),
            hint="leave out what is in the way, with `exclude` or an edit, or give the asset another `path`",
        )
    return found


def _tree(source: NamedSource, path: StorePath | None, store: Store) -> SourceTree:
    # A source that is open has no path.
    if path is None or store.info(path) is None:
        raise StoreError(
            f"`{path or source.name}` is not in the store",
            hint=f"`lockbuild build` makes `{source.name}`",
        )
    entries, origin = store.members(path), store.locate(path)
    if source.source.subdirectory:
        below = posixpath.normpath(source.source.subdirectory)
        if not any((entry.path, entry.kind) == (below, "folder") for entry in entries):
            raise StackError(
                f"`source[{source.name}].subdirectory`: the source has no folder `{below}`",
                hint="it is below the top of the tree, after all edits",
            )
        entries = tuple(
            replace(entry, path=entry.path.removeprefix(f"{below}/"))
            for entry in entries
            if entry.path.startswith(f"{below}/")
        )
        origin /= below
    return SourceTree(name=source.name, path=source.path, entries=entries, origin=origin)


def _outward(tree: SourceTree) -> list[str]:
    """Return a line for each link that leads out of *tree*: what it means would be left to the machine."""
    faults = []
    for entry in tree.entries:
        if entry.kind == "symlink":
            place = posixpath.join(tree.path, posixpath.dirname(entry.path), entry.content)
            if not f"{posixpath.normpath(place)}/".startswith(f"{tree.path}/"):
                faults.append(
                    f"source `{tree.name}`: the link `{entry.path}` leads out of it, to `{entry.content}`"
                )
    return faults


def _displaced(tree: SourceTree, stack: Stack) -> list[str]:
    """Return a line for each file of an asset that *tree* leaves no room for."""
    kinds = {entry.path: entry.kind for entry in tree.entries}
    faults = []
    for asset in stack.bundles:
        for path in image_paths(asset.path, asset.members):
            if not path.startswith(f"{tree.path}/"):
                continue
            inside = path.removeprefix(f"{tree.path}/")
            names = inside.split("/")
            parents = ("/".join(names[:count]) for count in range(1, len(names)))
            blocked = next((p for p in parents if kinds.get(p, "folder") != "folder"), None)
            taken = inside if inside in kinds else blocked
            if taken:
                faults.append(
                    f"asset `{asset.name}` goes to {path}, where source `{tree.name}` has the {kinds[taken]} `{taken}`"
                )
    return faults


def write_archive(tree: SourceTree, target: Path) -> None:
    """Write *tree* as a tar that follows from its content alone: root's, one time stamp, modes 0644 and 0755.

    One that is there with the same bytes is left alone.
    """
    temporary = target.with_name(f".{target.name}.{os.getpid()}")
    try:
        with tarfile.open(temporary, "w", format=tarfile.PAX_FORMAT) as archive:
            for entry in tree.entries:
                _add(archive, entry, tree.origin / entry.path)
        if not (target.is_file() and filecmp.cmp(temporary, target, shallow=False)):
            temporary.replace(target)
    finally:
        temporary.unlink(missing_ok=True)


def _add(archive: tarfile.TarFile, entry: Entry, origin: Path) -> None:
    member = tarfile.TarInfo(entry.path)
    member.mtime = EPOCH
    member.mode = 0o644 if entry.kind == "file" else 0o755
    if entry.kind == "folder":
        member.type = tarfile.DIRTYPE
        archive.addfile(member)
    elif entry.kind == "symlink":
        member.type, member.linkname = tarfile.SYMTYPE, entry.content
        archive.addfile(member)
    else:
        member.size = origin.stat().st_size
        with origin.open("rb") as stream:
            archive.addfile(member, stream)
