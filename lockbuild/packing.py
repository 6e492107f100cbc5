"""Laying out what the store holds for others: the wheelhouse, and the build context of an image."""

from __future__ import annotations

import errno
import fcntl
import filecmp
import os
import shutil
from typing import TYPE_CHECKING

from lockbuild.derivation import PREFIX_TAR, ROOTFS_TAR, Fetch
from lockbuild.digest import Sha256
from lockbuild.dockerfile import AssetFile, BundledAsset, bill_name, notice_name
from lockbuild.errors import StoreError
from lockbuild.folders import write_text, writing
from lockbuild.hashing import sha256_of_file, side_by_side
from lockbuild.inventory.notices import notice_text
from lockbuild.placing import write_archive
from lockbuild.stack.assets import image_paths
from lockbuild.wheelhouse import MANIFEST, Manifest, WheelEntry, manifest_text

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping
    from pathlib import Path

    from lockbuild.components import Component
    from lockbuild.digest import StorePath
    from lockbuild.lock import Lock
    from lockbuild.placing import SourceTree
    from lockbuild.plan import Plan
    from lockbuild.stack import Asset, Stack
    from lockbuild.store import Store

__all__ = [
    "bundled_assets",
    "documents",
    "fill_context",
    "make_manifest",
    "object_file",
    "strays",
    "verify_wheelhouse",
    "write_wheelhouse",
]

# What `pip install --find-links` looks at: https://pip.pypa.io/en/stable/cli/pip_install/
_TAKEN = (
    *(".whl", ".zip", ".tar", ".tar.bz2", ".tbz", ".tar.gz", ".tgz"),
    *(".tar.xz", ".txz", ".tar.lz", ".tlz", ".tar.lzma"),
)
# linux/fs.h: share the blocks of another file, so that writing to one never changes the other.
_FICLONE = 0x40049409


def make_manifest(stack: Stack, lock: Lock, plan: Plan, store: Store) -> Manifest:
    """Return what the wheelhouse of *stack* holds; everything is in the store."""
    built, fetched = dict(plan.builds), dict(plan.wheels)
    entries = []
    for package in lock.runtime:
        path = built.get(package.name) or fetched[package.name]
        info = store.info(path)
        if info is None:
            raise StoreError(f"`{path}` is not in the store", hint=f"lockbuild build {stack.name}")
        derivation = plan.derivations[path]
        if isinstance(derivation, Fetch):
            filename, sha256, size = derivation.filename, info.sha256, info.size
        else:
            filename, sha256, size = next(o for o in info.outputs if o[0].endswith(".whl"))
        entries.append(
            WheelEntry(
                name=package.name,
                version=package.version,
                filename=filename,
                sha256=sha256,
                size=size,
                origin="fetched" if isinstance(derivation, Fetch) else "built",
                path=path,
            )
        )
    return Manifest(stack=stack.name, lock=lock.digest, wheels=tuple(entries))


def bundled_assets(stack: Stack, plan: Plan, store: Store) -> tuple[BundledAsset, ...]:
    """Return the files of each asset of the image, in the stack's order; everything is in the store.

    Raises:
        StoreError: One is not.
    """
    paths = dict(plan.assets)
    return tuple(
        _bundled(asset, paths[asset.name], store) for asset in stack.bundles if asset.name in paths
    )


def _bundled(asset: Asset, path: StorePath, store: Store) -> BundledAsset:
    info = store.info(path)
    if info is None:
        raise StoreError(f"`{path}` is not in the store", hint="`lockbuild fetch` brings it")
    if not asset.members:
        (place,) = image_paths(asset.path, ())
        file = AssetFile(context="", path=place, size=info.size, sha256=info.sha256)
        return BundledAsset(name=asset.name, files=(file,))
    folder = store.locate(path)
    files = tuple(
        AssetFile(
            context=entry.path,
            path=f"{asset.path}/{entry.path}",
            # A listing has hashes, which say it all, and no sizes.
            size=(folder / entry.path).stat().st_size,
            sha256=Sha256(entry.content),
        )
        for entry in store.members(path)
        if entry.kind == "file"
    )
    return BundledAsset(name=asset.name, files=files)


def documents(stack: Stack, lock: Lock, store: Store, components: Iterable[Component]) -> dict[str, str]:
    """Return file name -> text of what the image says of itself: bill of materials and NOTICE.

    Raises:
        StoreError: Something that the image holds is not in the store.
    """
    from lockbuild.sbom import bill_of  # noqa: PLC0415 - heavy, and a wheelhouse needs none of it
    from lockbuild.sbom.cyclonedx import cyclonedx_text  # noqa: PLC0415

    components = tuple(components)
    return {
        bill_name(stack): cyclonedx_text(bill_of(stack, lock, components)),
        notice_name(stack): notice_text(stack, components, store),
    }


def write_wheelhouse(folder: Path, manifest: Manifest, store: Store) -> tuple[str, ...]:
    """Make *folder* hold the wheels of *manifest* and nothing else, and return what was put or taken away.

    A wheel that is there, unchanged since it was put, is not read again.

    Raises:
        StoreError: A store object's bytes are not those of its record.
        UsageError: The folder cannot be written to.
    """
    changes = []
    with writing(folder):
        folder.mkdir(parents=True, exist_ok=True)
        for entry in manifest.wheels:
            origin = object_file(store, entry)
            if _place(origin, folder / entry.filename, entry.sha256):
                changes.append(entry.filename)
        for stray in strays(folder, manifest):
            stray.unlink()
            changes.append(stray.name)
        text = manifest_text(manifest)
        if _write_changed(folder / MANIFEST, text):
            changes.append(MANIFEST)
    return tuple(changes)


def strays(folder: Path, manifest: Manifest) -> tuple[Path, ...]:
    """Return the files in *folder* that pip would take and *manifest* does not name, sorted."""
    known = {entry.filename for entry in manifest.wheels}
    found = (path for path in folder.iterdir() if path.name.lower().endswith(_TAKEN))
    return tuple(sorted(p for p in found if p.name not in known and (p.is_symlink() or not p.is_dir())))


def verify_wheelhouse(folder: Path, manifest: Manifest) -> tuple[str, ...]:
    """Hash every wheel in *folder* again and return a line for each that is not the manifest's."""

    def fault(entry: WheelEntry) -> str | None:
        path = folder / entry.filename
        if not path.is_file():
            return f"{path.name}: missing"
        found = sha256_of_file(path)
        return (
            None
            if found == entry.sha256
            else f"{path.name}: expected sha256 {entry.sha256}, found {found}"
        )

    return tuple(found for found in side_by_side(fault, manifest.wheels) if found)


def fill_context(  # noqa: PLR0913 - all that goes in
    folder: Path,
    *,
    texts: Mapping[str, str],
    manifest: Manifest,
    plan: Plan,
    store: Store,
    assets: Iterable[BundledAsset] = (),
    sources: Iterable[SourceTree] = (),
) -> None:
    """Make *folder* a build context: texts, wheels, the installer, root file systems, assets and sources.

    Every byte is hashed again on its way in.

    Raises:
        StoreError: A store object's bytes are not those of its record.
        UsageError: The folder cannot be written to.
    """
    installer = plan.derivations[plan.installer]
    files = {f"wheels/{entry.filename}": object_file(store, entry) for entry in manifest.wheels}
    files |= {f"rootfs/{name}.tar": store.locate(path) / ROOTFS_TAR for name, path in plan.roots}
    files |= {f"conda/{PREFIX_TAR}": store.locate(path) / PREFIX_TAR for _, path in plan.prefixes}
    files[f"tools/{plan.name_of(installer.path)}"] = store.locate(plan.installer)
    bundles = dict(plan.assets)
    files |= {
        f"assets/{asset.name}/{file.context}".rstrip("/"): store.locate(bundles[asset.name])
        / file.context
        for asset in assets
        for file in asset.files
    }
    archives = {f"sources/{tree.name}.tar": tree for tree in sources}
    named = (*plan.roots, *plan.prefixes, *plan.assets, *plan.sources)
    for damage in store.verify(
        {*(e.path for e in manifest.wheels), *(p for _, p in named), plan.installer}
    ):
        raise damage.fault()
    with writing(folder):
        _remove_strays(folder, {*files, *archives, *texts})
        for name, origin in files.items():
            target = folder / name
            _make_room(folder, target)
            _place(origin, target, None)
        for name, tree in archives.items():
            _make_room(folder, folder / name)
            write_archive(tree, folder / name)
        for name, text in texts.items():
            _write_changed(folder / name, text)


def _make_room(folder: Path, target: Path) -> None:
    """Make the folder of *target*, where an asset that was a file may now be one of members, or the reverse."""
    for parent in reversed(target.relative_to(folder).parents):
        if (folder / parent).is_file():
            (folder / parent).unlink()
    target.parent.mkdir(parents=True, exist_ok=True)


def _write_changed(target: Path, text: str) -> bool:
    """Write *text* unless it is what stands there, and return whether it was written."""
    if target.is_file() and target.read_bytes() == text.encode():
        return False
    write_text(target, text)
    return True


def object_file(store: Store, entry: WheelEntry) -> Path:
    """Return the wheel of *entry* in the store."""
    place = store.locate(entry.path)
    return place if entry.origin == "fetched" else place / entry.filename


def _remove_strays(folder: Path, wanted: Iterable[str]) -> None:
    keep = set(wanted)
    for path in sorted(folder.rglob("*"), reverse=True):
        if path.is_dir() and not path.is_symlink():
            if not any(path.iterdir()):
                path.rmdir()
        elif path.relative_to(folder).as_posix() not in keep:
            path.unlink()


def _place(origin: Path, target: Path, sha256: Sha256 | None) -> bool:
    """Make *target* the same file as *origin*: blocks shared, else a hard link, else a copy.

    Returns whether anything was done.

    Raises:
        StoreError: The bytes are not those of *sha256*.
    """
    # Who names no hash has just hashed the origin; the same goes for its hard link, but for no copy.
    if _unchanged(origin, target) and (sha256 is not None or _same_bytes(origin, target)):
        return False
    if sha256 is not None and (found := sha256_of_file(origin)) != sha256:
        raise StoreError(
            f"{origin.name} is damaged in the store",
            details=(f"expected sha256 {sha256}", f"found    sha256 {found}"),
            hint="lockbuild store repair",
        )
    temporary = target.with_name(f".{target.name}.{os.getpid()}")
    temporary.unlink(missing_ok=True)
    _share(origin, temporary)
    temporary.replace(target)
    # Renaming one hard link of a file over another does nothing and leaves both names.
    temporary.unlink(missing_ok=True)
    return True


def _unchanged(origin: Path, target: Path) -> bool:
    """Whether *target* was put from *origin* and nobody wrote to either since: the store's fixed time tells."""
    try:
        there, here = target.stat(), origin.stat()
    except FileNotFoundError:
        return False
    return (there.st_size, there.st_mtime_ns) == (here.st_size, here.st_mtime_ns) and (
        here.st_mtime == 1
    )


def _same_bytes(origin: Path, target: Path) -> bool:
    return target.samefile(origin) or filecmp.cmp(origin, target, shallow=False)


def _share(origin: Path, target: Path) -> None:
    with origin.open("rb") as source, target.open("xb") as copy:
        try:
            fcntl.ioctl(copy.fileno(), _FICLONE, source.fileno())
        except OSError:
            cloned = False
        else:
            cloned = True
    if cloned:
        shutil.copystat(origin, target)
        return
    target.unlink()
    try:
        os.link(origin, target)
    except OSError as error:
        if error.errno not in (errno.EXDEV, errno.EPERM, errno.EMLINK, errno.ENOTSUP):
            raise
        shutil.copy2(origin, target)
