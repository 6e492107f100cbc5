"""What else a stack is made of: sources, assets, base images and interpreters."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from packaging.utils import canonicalize_name

from lockbuild.components import Component, LicenceFile, ref_of
from lockbuild.digest import Sha256
from lockbuild.inventory.facts import Facts, known
from lockbuild.inventory.wheels import is_licence_file
from lockbuild.licences import Told
from lockbuild.purls import package_url, url_of_commit, url_of_image

if TYPE_CHECKING:
    from collections.abc import Iterator

    from lockbuild.digest import StorePath
    from lockbuild.lock import Lock, LockedSource
    from lockbuild.plan import Plan
    from lockbuild.stack import NamedSource, Source, Stack
    from lockbuild.store import Store

__all__ = ["assets", "bases", "interpreters", "sources"]

_PYTHON = re.compile(r"cpython-(\d+\.\d+\.\d+)")


# ---- sources ---------------------------------------------------------------------------------------


def sources(stack: Stack, lock: Lock, plan: Plan, store: Store) -> Iterator[Component]:
    """Yield every source with its submodules: of the image, compiled from, or grafted from."""
    fetched = {(fetch.filename, fetch.sha256): fetch.path for fetch in plan.fetches()}
    named = {source.name: source for source in stack.pinned_sources()}
    placed = {source.name: source for source in stack.placed}
    trees = dict(plan.sources)
    for locked in lock.sources:
        source = named.get(locked.name)
        if source is None:
            continue
        parts = tuple(_submodules(locked, in_image=locked.name in placed))
        path = fetched.get((locked.file.filename, locked.file.sha256))
        component = Component(
            ref=ref_of("source", locked.name, locked.commit or locked.version),
            kind="source",
            name=locked.name,
            version=locked.commit or locked.version,
            purl=_purl_of_source(locked, source.source),
            sha256=locked.file.sha256,
            size=locked.file.size,
            in_image=locked.name in placed,
            path=path,
            origin=source.source.git or locked.index or locked.path or "",
            needs=tuple(sorted(part.ref for part in parts)),
            requested=True,
        )
        if locked.name in placed:
            facts = _tree(placed[locked.name], trees.get(locked.name), store)
            component = known(component, facts)
        yield component
        yield from parts


def _submodules(locked: LockedSource, *, in_image: bool) -> Iterator[Component]:
    for path, address, commit in locked.submodules:
        yield Component(
            ref=ref_of("source", f"{locked.name}/{path}", commit),
            kind="source",
            name=f"{locked.name}/{path}",
            version=commit,
            purl=url_of_commit(address, commit),
            sha256=None,
            size=None,
            in_image=in_image,
            origin=address,
        )


def _purl_of_source(locked: LockedSource, source: Source) -> str:
    if locked.commit:
        return url_of_commit(source.git or "", locked.commit)
    if locked.path:
        checksum = f"sha256:{locked.file.sha256}"
        return package_url("generic", locked.name, locked.version, checksum=checksum)
    project = canonicalize_name((source.sdist or locked.name).partition("==")[0])
    return package_url("pypi", project, locked.version, file_name=locked.file.filename)


def _tree(source: NamedSource, path: StorePath | None, store: Store) -> Facts | None:
    """Return what a tree of the image tells: its size, and texts at its top and that of its submodules."""
    info = store.info(path) if path else None
    told = Told(
        licence=source.license, declared=source.license, told_by="stack" if source.license else ""
    )
    if path is None or info is None:
        return Facts(told=told) if source.license else None
    below = f"{source.source.subdirectory.strip('/')}/" if source.source.subdirectory else ""
    files = tuple(
        LicenceFile(name=entry.path, sha256=Sha256(entry.content))
        for entry in store.members(path)
        if entry.kind in ("file", "executable") and is_licence_file(entry.path.rpartition("/")[2])
        if entry.path.startswith(below)
    )
    return Facts(installed_size=info.size, told=told, files=files)


# ---- assets ----------------------------------------------------------------------------------------


def assets(stack: Stack, lock: Lock, plan: Plan) -> Iterator[Component]:
    """Yield the assets that the image has, and those that whoever runs it brings along."""
    known_ones = {asset.name: asset for asset in lock.assets}
    paths = dict(plan.assets)
    for asset in stack.assets:
        locked = known_ones.get(asset.name)
        sha256 = locked.sha256 if locked else None
        size = locked.size if locked else asset.size
        url = asset.url[0] if asset.url else ""
        checksum = f"sha256:{sha256}" if sha256 else ""
        yield Component(
            ref=ref_of("asset", asset.name),
            kind="asset",
            name=asset.name,
            version="",
            purl=package_url("generic", asset.name, checksum=checksum, download_url=url),
            sha256=sha256,
            size=size,
            installed_size=size if asset.bundled else None,
            in_image=asset.bundled,
            path=paths.get(asset.name),
            origin=url,
            requested=True,
            licence=asset.license if asset.license not in ("NONE", "NOASSERTION") else "",
            declared=asset.license,
            told_by="stack" if asset.license else "",
        )


# ---- base images and interpreters ------------------------------------------------------------------


def bases(stack: Stack, lock: Lock, plan: Plan) -> Iterator[Component]:
    """Yield the images that root file systems stand on; the runtime's is in the image."""
    fetched = {fetch.sha256: fetch.path for fetch in plan.fetches()}
    for image in sorted(lock.images, key=lambda image: image.root != "runtime"):
        manifest = image.manifest
        sha256 = manifest.blob.sha256 if manifest else None
        yield Component(
            ref=ref_of("base", image.reference, image.digest or ""),
            kind="base",
            name=image.reference,
            version=image.digest or "",
            purl=url_of_image(image.reference, sha256, stack.target.debian_architecture)
            if sha256
            else "",
            sha256=sha256,
            size=manifest.size if manifest else None,
            in_image=image.root == "runtime",
            path=fetched.get(sha256) if sha256 else None,
            origin=image.reference,
            requested=True,
        )


def interpreters(stack: Stack, lock: Lock, plan: Plan) -> Iterator[Component]:
    """Yield a Python that is neither a Debian nor a conda package nor part of a base image."""
    standalone = stack.interpreter.standalone
    if standalone:
        found = _PYTHON.search(standalone.filename)
        filename, sha256, size = standalone.filename, Sha256(standalone.sha256), standalone.size
        version, origin = found[1] if found else stack.target.python, standalone.url[0]
    elif lock.interpreter:
        file = lock.interpreter.file
        filename, sha256, size = file.filename, file.sha256, file.size
        version, origin = (
            lock.interpreter.version,
            f"`{stack.interpreter.host}` of the resolving machine",
        )
    else:
        return
    fetched = {(fetch.filename, fetch.sha256): fetch.path for fetch in plan.fetches()}
    more = {"checksum": f"sha256:{sha256}", "download_url": origin if standalone else ""}
    yield Component(
        ref=ref_of("interpreter", "cpython", version),
        kind="interpreter",
        name="cpython",
        version=version,
        purl=package_url("generic", "cpython", version, **more),
        sha256=sha256,
        size=size,
        path=fetched.get((filename, sha256)),
        origin=origin,
        requested=True,
    )
