"""Sources among the parts of a stack, and what their trees and archives tell."""

from __future__ import annotations

import re
import tarfile
import zipfile
import zlib
from functools import partial
from typing import TYPE_CHECKING

from packaging.utils import canonicalize_name

from lockbuild.components import Component, LicenceFile, ref_of
from lockbuild.digest import Sha256, sha256_of
from lockbuild.errors import StoreError
from lockbuild.inventory.facts import Facts, known, noted, parse_facts
from lockbuild.inventory.texts import MOST_BYTES, is_licence_file
from lockbuild.licences.metadata import of_files
from lockbuild.licences.told import UNSTATED, Told
from lockbuild.purls import package_url, url_of_commit

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Iterable, Iterator
    from pathlib import Path

    from lockbuild.digest import StorePath
    from lockbuild.lock import Lock, LockedSource
    from lockbuild.plan import Plan
    from lockbuild.stack import NamedSource, Source, Stack
    from lockbuild.store import Store

__all__ = ["read_archive", "source_facts", "sources", "texts_of_archive"]

_BROKEN = (tarfile.TarError, zipfile.BadZipFile, zlib.error, EOFError, OSError, ValueError)


def sources(stack: Stack, lock: Lock, plan: Plan, store: Store) -> Iterator[Component]:
    """Yield every source with its submodules: of the image, compiled from, or grafted from."""
    named = {source.name: source for source in stack.pinned_sources()}
    placed = {source.name: source for source in stack.placed}
    trees = dict(plan.sources)
    for locked in lock.sources:
        source = named.get(locked.name)
        if source is None:
            continue
        tree = trees.get(locked.name) if locked.name in placed else None
        parts = tuple(_submodules(locked, tree, store, in_image=locked.name in placed))
        component = Component(
            ref=ref_of("source", locked.name, locked.commit or locked.version),
            kind="source",
            name=locked.name,
            version=locked.commit or locked.version,
            purl=_purl(locked, source.source),
            sha256=locked.file.sha256,
            size=locked.file.size,
            in_image=locked.name in placed,
            path=_fetched(locked, plan),
            origin=source.source.git or locked.index or locked.path or "",
            needs=tuple(sorted(part.ref for part in parts)),
            requested=True,
        )
        if locked.name in placed:
            component = known(component, _placed(placed[locked.name], tree, store))
        yield component
        yield from parts


def _submodules(
    locked: LockedSource, tree: StorePath | None, store: Store, *, in_image: bool
) -> Iterator[Component]:
    for path, address, commit in locked.submodules:
        component = Component(
            ref=ref_of("source", f"{locked.name}/{path}", commit),
            kind="source",
            name=f"{locked.name}/{path}",
            version=commit,
            purl=url_of_commit(address, commit),
            sha256=None,
            size=None,
            in_image=in_image,
            path=tree,
            origin=address,
        )
        yield known(component, _tree(tree, f"{path}/", store))


def _purl(locked: LockedSource, source: Source) -> str:
    if locked.commit:
        return url_of_commit(source.git or "", locked.commit)
    if locked.path:
        checksum = f"sha256:{locked.file.sha256}"
        return package_url("generic", locked.name, locked.version, checksum=checksum)
    project = canonicalize_name((source.sdist or locked.name).partition("==")[0])
    return package_url("pypi", project, locked.version, file_name=locked.file.filename)


def _fetched(locked: LockedSource, plan: Plan) -> StorePath | None:
    wanted = (locked.file.filename, locked.file.sha256)
    return next((one.path for one in plan.fetches() if (one.filename, one.sha256) == wanted), None)


def source_facts(name: str, stack: Stack, lock: Lock, plan: Plan, store: Store) -> Facts | None:
    """Return what the source of the build called *name* tells; none where the store has not got it."""
    locked = next((source for source in lock.sources if source.name == name), None)
    path = _fetched(locked, plan) if locked else None
    if locked is None or path is None or store.info(path) is None:
        return None
    if locked.commit:
        below = stack.build(name).source.subdirectory
        inner = _tree(path, f"{below.strip('/')}/", store) if below else None
        return inner if inner and inner.told.licence else _tree(path, "", store)
    file = store.locate(path)

    def read() -> tuple[Facts]:
        return (read_archive(file, own=r"[^/]+"),)

    try:
        (facts,) = noted(store, path, "archive", read=read, parse=parse_facts)
    except StoreError:
        return None
    return facts


# ---- trees -----------------------------------------------------------------------------------------


def _placed(source: NamedSource, tree: StorePath | None, store: Store) -> Facts | None:
    """Return what the tree of an image tells, where the stack's own word on its licence is the strongest."""
    below = source.source.subdirectory
    facts = _tree(tree, f"{below.strip('/')}/" if below else "", store)
    if not source.license:
        return facts
    said = source.license if source.license not in UNSTATED else ""
    told = Told(licence=said, declared=source.license, told_by="stack")
    return Facts(
        installed_size=facts.installed_size if facts else None,
        told=told,
        files=facts.files if facts else (),
    )


def _tree(path: StorePath | None, below: str, store: Store) -> Facts | None:
    """Return what the folder *below*, which ends in a slash or is empty, of a tree in the store tells."""
    if path is None or store.info(path) is None:
        return None
    try:
        name = f"tree-{sha256_of(below.encode())[:12]}"
        (facts,) = noted(
            store, path, name, read=lambda: (_read_tree(path, below, store),), parse=parse_facts
        )
    except StoreError:
        return None  # `store-bytes` tells what is wrong with it.
    return facts


def _read_tree(path: StorePath, below: str, store: Store) -> Facts:
    folder = store.locate(path)
    files = [
        entry
        for entry in store.members(path)
        if entry.path.startswith(below) and entry.kind in ("file", "executable")
    ]
    sizes = {entry.path: (folder / entry.path).stat().st_size for entry in files}
    kept = {
        entry.path: Sha256(entry.content)
        for entry in files
        if is_licence_file(entry.path.rpartition("/")[2]) and sizes[entry.path] <= MOST_BYTES
    }
    own = {
        name: (folder / name).read_text(encoding="utf-8", errors="replace")
        for name in kept
        if "/" not in name.removeprefix(below)
    }
    return Facts(
        installed_size=sum(sizes.values()),
        told=of_files(own),
        files=tuple(LicenceFile(name=name, sha256=sha256) for name, sha256 in sorted(kept.items())),
    )


# ---- archives --------------------------------------------------------------------------------------


def read_archive(file: Path, *, own: str) -> Facts:
    """Return what an archive tells, and keep no more than the texts of its project itself.

    Args:
        own: Pattern of the folders that these are in.

    Raises:
        StoreError: It cannot be read.
    """
    folders = re.compile(own)
    size, texts = 0, {}
    try:
        for name, length, content in _members(file):
            size += length
            folder, _, base = name.rpartition("/")
            if folders.fullmatch(folder) and is_licence_file(base) and length <= MOST_BYTES:
                texts[name] = content()
    except _BROKEN as error:
        raise StoreError(f"`{file.name}` cannot be read as an archive: {error}") from error
    return Facts(
        installed_size=size,
        told=of_files({name: data.decode(errors="replace") for name, data in texts.items()}),
        files=tuple(
            LicenceFile(name=name, sha256=sha256_of(data)) for name, data in sorted(texts.items())
        ),
    )


def texts_of_archive(file: Path, names: Collection[str]) -> Iterable[bytes]:
    """Return those of its files called *names*.

    Raises:
        StoreError: It cannot be read.
    """
    try:
        return [content() for name, _, content in _members(file) if name in names]
    except _BROKEN as error:
        raise StoreError(f"`{file.name}` cannot be read as an archive: {error}") from error


def _members(file: Path) -> Iterator[tuple[str, int, Callable[[], bytes]]]:
    """Yield name, size and reader of each file of a tar, compressed or not, or a zip."""
    if zipfile.is_zipfile(file):
        with zipfile.ZipFile(file) as whole:
            for info in whole.infolist():
                if not info.is_dir():
                    yield info.filename, info.file_size, partial(whole.read, info)
        return
    with tarfile.open(file) as tar:
        for member in tar:
            if member.isreg():
                yield member.name.removeprefix("./"), member.size, partial(_content, tar, member)


def _content(tar: tarfile.TarFile, member: tarfile.TarInfo) -> bytes:
    source = tar.extractfile(member)
    return source.read() if source else b""
