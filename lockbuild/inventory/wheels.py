"""Wheels among the parts of a stack, and what they tell: licence, the texts that go along with them, size."""

from __future__ import annotations

import re
import zipfile
import zlib
from dataclasses import replace
from typing import TYPE_CHECKING

from lockbuild.components import Component, LicenceFile, ref_of
from lockbuild.digest import sha256_of
from lockbuild.errors import StoreError
from lockbuild.inventory.facts import Facts, known, noted, parse_facts
from lockbuild.inventory.sources import source_facts
from lockbuild.inventory.texts import MOST_BYTES, is_licence_file
from lockbuild.licences.metadata import of_metadata
from lockbuild.purls import package_url
from lockbuild.wheels import dist_info_of, headers_of

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping
    from pathlib import Path

    from lockbuild.digest import Sha256, StorePath
    from lockbuild.lock import Lock, LockedPackage
    from lockbuild.plan import Plan
    from lockbuild.stack import Stack
    from lockbuild.store import Store

__all__ = ["SOURCE", "read_wheel", "wheel_file", "wheels"]

SOURCE = "source/"
"""Before the name of a licence file that is in the source of a built wheel, and not in the wheel."""


def wheels(stack: Stack, lock: Lock, plan: Plan, store: Store) -> Iterator[Component]:
    """Yield the wheels of the image, then those that builds are only compiled with."""
    fetched = {(fetch.filename, fetch.sha256): fetch.path for fetch in plan.fetches()}
    built = dict(plan.builds)
    repositories = {spec.name: spec.source.git or "" for spec in stack.builds}
    indexes = {index.name: index.url for index in stack.python.indexes}
    for in_image, packages in ((True, lock.runtime), *((False, found) for _, found in lock.build)):
        refs = {package.name: ref_of("wheel", package.name, package.version) for package in packages}
        for package in packages:
            path = built.get(package.name)
            if package.wheel:
                path = fetched.get((package.wheel.filename, package.wheel.sha256))
            sha256, size = _bytes(package, lock, path, store)
            component = Component(
                ref=refs[package.name],
                kind="wheel",
                name=package.name,
                version=package.version,
                purl=_purl(package, indexes),
                sha256=sha256,
                size=size,
                in_image=in_image,
                built=package.name in repositories,
                path=path,
                origin=_origin(package, lock, repositories),
                needs=tuple(sorted(refs[name] for name in package.dependencies if name in refs)),
                requested=package.requested,
            )
            if not in_image:
                yield component
                continue
            facts = _facts(component, store)
            if component.built and not (facts and facts.told.licence):
                facts = _with_source(facts, source_facts(package.name, stack, lock, plan, store))
            yield known(component, facts)


def _with_source(facts: Facts | None, source: Facts | None) -> Facts | None:
    """Return what a built wheel tells, which tells no licence or is not built yet, with what its source tells."""
    if source is None:
        return facts
    wheel = facts or Facts()
    files = (replace(one, name=f"{SOURCE}{one.name}") for one in source.files)
    told = replace(source.told, declared=wheel.told.declared or source.told.declared)
    return replace(wheel, told=told, files=(*wheel.files, *files))


def _bytes(
    package: LockedPackage, lock: Lock, path: StorePath | None, store: Store
) -> tuple[Sha256 | None, int | None]:
    """Return hash and size of a wheel: of a built one, of what the store has, else of what the lock pins."""
    if package.wheel:
        return package.wheel.sha256, package.wheel.size
    info = store.info(path) if path else None
    for filename, sha256, size in info.outputs if info else ():
        if filename.endswith(".whl"):
            return sha256, size
    pin = lock.pin(package.name)
    if pin and pin.derivation == path:
        return pin.wheel.sha256, pin.wheel.size
    return None, None


def _purl(package: LockedPackage, indexes: Mapping[str, str]) -> str:
    more = {
        "download_url": package.urls[0] if package.urls else "",
        "repository_url": indexes.get(package.index, ""),
    }
    return package_url("pypi", package.name, package.version, **more)


def _origin(package: LockedPackage, lock: Lock, repositories: Mapping[str, str]) -> str:
    if package.name in repositories:
        source = next((source for source in lock.sources if source.name == package.name), None)
        return repositories[package.name] or (source and (source.index or source.path)) or ""
    return package.urls[0] if package.urls else package.index


def wheel_file(path: StorePath, store: Store) -> Path | None:
    """Return the wheel in the object *path*; none where the store has not got it."""
    info = store.info(path)
    if info is None:
        return None
    names = [filename for filename, _, _ in info.outputs if filename.endswith(".whl")]
    return store.locate(path) / names[0] if names else store.locate(path)


def _facts(component: Component, store: Store) -> Facts | None:
    path = component.path
    file = wheel_file(path, store) if path else None
    if path is None or file is None:
        return None
    try:
        (facts,) = noted(store, path, "wheel", read=lambda: (read_wheel(file),), parse=parse_facts)
    except StoreError:
        return None  # `store-bytes` tells what is wrong with it.
    return facts


def read_wheel(file: Path) -> Facts:
    """Return what the wheel in *file* tells.

    Raises:
        StoreError: It cannot be read.
    """
    try:
        with zipfile.ZipFile(file) as archive:
            members = [info for info in archive.infolist() if not info.is_dir()]
            folder = dist_info_of([info.filename for info in members])
            fields = headers_of(archive.read(f"{folder}/METADATA"))
            texts = {
                info.filename: archive.read(info)
                for info in members
                if _goes_along(info.filename, folder) and info.file_size <= MOST_BYTES
            }
    except (
        zipfile.BadZipFile,
        zlib.error,
        EOFError,
        KeyError,
        OSError,
        RuntimeError,
        ValueError,
    ) as error:
        raise StoreError(f"`{file.name}` cannot be read as a wheel: {error}") from error
    return Facts(
        installed_size=sum(info.file_size for info in members),
        told=of_metadata(fields, _own_texts(texts, folder)),
        files=tuple(
            LicenceFile(name=name, sha256=sha256_of(data)) for name, data in sorted(texts.items())
        ),
    )


def _own_texts(texts: Mapping[str, bytes], dist_info: str) -> dict[str, str]:
    """Return the texts of the project itself, and not of what it holds."""
    top = re.compile(rf"{re.escape(dist_info)}/(licenses/(licenses/)?)?[^/]+")
    # Before there was a place for them, they were beside the code: `cv2/LICENSE.txt`.
    for pattern in (top, re.compile(r"[^/]+/[^/]+")):
        if found := [name for name in texts if pattern.fullmatch(name)]:
            return {name: texts[name].decode(errors="replace") for name in found}
    return {}


def _goes_along(name: str, dist_info: str) -> bool:
    # PEP 639 keeps them in `licenses`, under whatever names they had.
    return name.startswith(f"{dist_info}/licenses/") or is_licence_file(name.rpartition("/")[2])
