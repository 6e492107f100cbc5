"""Debian packages among the parts of a stack: those that are locked, and those that a base image brings along."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

from lockbuild.components import Component, ref_of
from lockbuild.derivation import ROOTFS_TAR
from lockbuild.errors import StoreError
from lockbuild.inventory.facts import known, noted, parse_package
from lockbuild.inventory.systems import read_deb, read_system
from lockbuild.purls import package_url

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

    from lockbuild.digest import StorePath
    from lockbuild.inventory.facts import Facts, PackageFacts
    from lockbuild.lock import Lock, LockedDeb
    from lockbuild.plan import Plan
    from lockbuild.stack import Stack
    from lockbuild.store import Store

__all__ = ["debs"]

_RUNTIME = "runtime"


def debs(stack: Stack, lock: Lock, plan: Plan, store: Store) -> Iterator[Component]:
    """Yield the packages of the image, locked ones first, then those of the toolchain alone."""
    fetched = {(fetch.filename, fetch.sha256): fetch.path for fetch in plan.fetches()}
    paths = {deb.package: fetched.get((deb.filename, deb.sha256)) for deb in lock.debs}
    installed = {one.package: one for one in _installed(plan, store)}
    tells: dict[str, PackageFacts | None] = {}
    for deb in lock.debs:
        in_image = _RUNTIME in deb.roots
        found = installed.get(deb.package) if in_image else None
        tells[deb.package] = found or _packed(paths[deb.package], store, licences=in_image)
    runtime = {deb.package: deb.version for deb in lock.debs if _RUNTIME in deb.roots}
    brought = {name: one for name, one in installed.items() if name not in runtime}
    needs = _needs({**tells, **brought}, runtime | {name: one.version for name, one in brought.items()})
    for deb in lock.debs:
        if deb.package in runtime:
            component = _locked(deb, stack, paths[deb.package], needs.get(deb.package))
            yield known(component, _documented(deb.package, tells))
    for name, one in brought.items():
        yield known(_brought(one, stack, needs[name]), one.facts)
    compiled_in = {deb.package: deb.version for deb in lock.debs if set(deb.roots) - {_RUNTIME}}
    needs = _needs(tells, compiled_in)
    for deb in lock.debs:
        if deb.package not in runtime:
            path, facts = paths[deb.package], _documented(deb.package, tells)
            component = _locked(deb, stack, path, needs.get(deb.package), in_image=False)
            yield known(component, facts)


def _installed(plan: Plan, store: Store) -> tuple[PackageFacts, ...]:
    """Return what the image's root file system says is installed; nothing where the store has not got it."""
    path = dict(plan.roots).get(_RUNTIME)
    if path is None or store.info(path) is None:
        return ()
    tar = store.locate(path) / ROOTFS_TAR
    try:
        return noted(
            store, path, "debs", read=lambda: read_system(tar), parse=parse_package, several=True
        )
    except StoreError:
        return ()  # `store-bytes` tells what is wrong with it.


def _packed(path: StorePath | None, store: Store, *, licences: bool) -> PackageFacts | None:
    """Return what a .deb says itself; none where the store has not got it."""
    if path is None or store.info(path) is None:
        return None
    file = store.locate(path)
    try:
        (facts,) = noted(
            store,
            path,
            "deb" if licences else "control",
            read=lambda: (read_deb(file, licences=licences),),
            parse=parse_package,
        )
    except StoreError:
        return None
    return facts


def _documented(package: str, found: Mapping[str, PackageFacts | None]) -> Facts | None:
    """Return what *package* tells, with the licence of the package whose documents it links to."""
    one = found.get(package)
    if one is None:
        return None
    other = found.get(one.documented)
    if other is None or one.facts.files:
        return one.facts
    return replace(other.facts, installed_size=one.facts.installed_size)


def _needs(
    found: Mapping[str, PackageFacts | None], versions: Mapping[str, str]
) -> dict[str, tuple[str, ...]]:
    """Return package -> refs of what it needs among the packages of *versions*.

    Of packages of which any will do, the first that is there is meant; of a virtual one, all that provide it.
    """
    providers: dict[str, list[str]] = {}
    for name, one in found.items():
        for virtual in one.provides if one and name in versions else ():
            providers.setdefault(virtual, []).append(name)

    def chosen(names: Sequence[str]) -> Sequence[str]:
        real = next((name for name in names if name in versions), None)
        if real:
            return (real,)
        return next((providers[name] for name in names if name in providers), ())

    return {
        name: tuple(
            sorted(
                {
                    ref_of("deb", needed, versions[needed])
                    for names in one.needs
                    for needed in chosen(names)
                    if needed != name
                }
            )
        )
        for name, one in found.items()
        if one
    }


def _locked(
    deb: LockedDeb,
    stack: Stack,
    path: StorePath | None,
    needs: tuple[str, ...] | None,
    *,
    in_image: bool = True,
) -> Component:
    archive = stack.base.archive
    vendor, suite = (archive.vendor, archive.suite) if archive else ("debian", "")
    source, _, source_version = deb.source.partition(" ")
    return Component(
        ref=ref_of("deb", deb.package, deb.version),
        kind="deb",
        name=deb.package,
        version=deb.version,
        purl=package_url("deb", deb.package, deb.version, vendor, arch=deb.architecture, distro=suite),
        sha256=deb.sha256,
        size=deb.size,
        in_image=in_image,
        path=path,
        origin=f"{vendor} {suite}".strip(),
        source_name=source,
        source_version=source_version or deb.version,
        needs=needs or (),
        needs_known=needs is not None,
        requested=any(deb.package in stack.packages_of(root) for root in deb.roots),
    )


def _brought(one: PackageFacts, stack: Stack, needs: tuple[str, ...]) -> Component:
    """Return a package that the image below brings along, which no lock names."""
    vendor, suite = one.vendor or "debian", one.suite
    source, _, source_version = one.source.partition(" ")
    return Component(
        ref=ref_of("deb", one.package, one.version),
        kind="deb",
        name=one.package,
        version=one.version,
        purl=package_url("deb", one.package, one.version, vendor, arch=one.architecture, distro=suite),
        sha256=None,
        size=None,
        origin=stack.base.runtime or f"{vendor} {suite}".strip(),
        source_name=source,
        source_version=source_version,
        needs=needs,
    )
