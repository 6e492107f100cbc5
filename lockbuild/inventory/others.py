"""What else a stack is made of: assets, base images and interpreters."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from lockbuild.components import Component, ref_of
from lockbuild.digest import Sha256
from lockbuild.errors import StoreError
from lockbuild.inventory.facts import known, noted, parse_facts
from lockbuild.inventory.sources import read_archive
from lockbuild.licences.told import UNSTATED
from lockbuild.purls import package_url, url_of_image

if TYPE_CHECKING:
    from collections.abc import Iterator

    from lockbuild.digest import StorePath
    from lockbuild.inventory.facts import Facts
    from lockbuild.lock import Lock
    from lockbuild.plan import Plan
    from lockbuild.stack import Stack
    from lockbuild.store import Store

__all__ = ["assets", "bases", "interpreters"]

_PYTHON = re.compile(r"cpython-(\d+\.\d+\.\d+)")


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
            licence=asset.license if asset.license not in UNSTATED else "",
            declared=asset.license,
            told_by="stack" if asset.license else "",
        )


# ---- base images and interpreters ------------------------------------------------------------------


def bases(stack: Stack, lock: Lock, plan: Plan, store: Store) -> Iterator[Component]:
    """Yield the images that root file systems stand on; the runtime's is in the image."""
    fetched = {fetch.sha256: fetch.path for fetch in plan.fetches()}
    root = dict(plan.roots).get("runtime")
    looked_into = root is not None and store.info(root) is not None
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
            needs_known=looked_into or image.root != "runtime",
            requested=True,
        )


def interpreters(stack: Stack, lock: Lock, plan: Plan, store: Store) -> Iterator[Component]:
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
    path = fetched.get((filename, sha256))
    more = {"checksum": f"sha256:{sha256}", "download_url": origin if standalone else ""}
    component = Component(
        ref=ref_of("interpreter", "cpython", version),
        kind="interpreter",
        name="cpython",
        version=version,
        purl=package_url("generic", "cpython", version, **more),
        sha256=sha256,
        size=size,
        path=path,
        origin=origin,
        requested=True,
    )
    yield known(component, _unpacked(path, store))


def _unpacked(path: StorePath | None, store: Store) -> Facts | None:
    if path is None or store.info(path) is None:
        return None
    file = store.locate(path)

    def read() -> tuple[Facts]:
        # `LICENSE.txt` is beside the standard library.
        return (read_archive(file, own=r"([^/]+/)*lib/python[0-9.]+"),)

    try:
        (facts,) = noted(store, path, "interpreter", read=read, parse=parse_facts)
    except StoreError:
        return None
    return facts
