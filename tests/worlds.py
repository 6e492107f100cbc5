"""The small stack of `tests.values` with real files behind its lock, served on loopback."""

from __future__ import annotations

import os
import re
from contextlib import contextmanager
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from lockbuild.digest import sha256_of
from lockbuild.documents import toml_text
from lockbuild.folders import STACK_FILE, StackFolder, archive_folder
from lockbuild.lock import LockedFile, lock_texts
from lockbuild.plan import make_plan
from lockbuild.progress import Silent
from lockbuild.realise import Realiser
from lockbuild.sources import Mirrors
from lockbuild.stack import from_document, inputs_of
from lockbuild.store import Store
from tests import values
from tests.fakes import ScriptedBuilder
from tests.servers.index import serve_index
from tests.wheels import make_wheel

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping
    from pathlib import Path
    from typing import Any

    import pytest

    from lockbuild.digest import StorePath
    from lockbuild.lock import Lock, LockedPackage
    from lockbuild.plan import Plan
    from lockbuild.progress import Progress
    from lockbuild.stack import Stack
    from tests.servers.index import IndexServer

__all__ = ["World", "make_world", "unconfigured"]


def unconfigured(monkeypatch: pytest.MonkeyPatch, home: Path) -> None:
    """Take away whatever lockbuild, uv and pip are configured to do on this machine."""
    for name in [*os.environ]:
        if re.match(r"(?i)LOCKBUILD_|UV_|PIP_|(all|https?|no)_proxy$|XDG_|NETRC$", name):
            monkeypatch.delenv(name)
    home.mkdir()
    (home / "uv.toml").write_text("")
    for name, value in {
        "HOME": str(home),
        "PIP_CONFIG_FILE": os.devnull,
        "PIP_RETRIES": "0",
        "UV_CONFIG_FILE": str(home / "uv.toml"),
        "UV_HTTP_RETRIES": "0",
        "XDG_CONFIG_DIRS": str(home / "etc"),
    }.items():
        monkeypatch.setenv(name, value)


@dataclass(frozen=True, slots=True, kw_only=True)
class World:
    """A locked stack, the servers that have its artifacts, and a store."""

    folder: StackFolder
    files: Path
    """Wheels and sdists of both indexes."""
    archive: Path
    """Root of the Debian archive."""
    index: IndexServer
    store: Store

    @property
    def stack(self) -> Stack:
        """The stack as its file says it."""
        return from_document(self.folder.read_locked()[0])

    @property
    def lock(self) -> Lock:
        """The lock as its files say it."""
        return self.folder.read_lock()

    @property
    def plan(self) -> Plan:
        """What follows from stack and lock."""
        return make_plan(self.stack, self.lock)

    @property
    def mirrors(self) -> Mirrors:
        """Where everything is."""
        return Mirrors(
            indexes=(("pypi", (self.index.url,)),),
            archives=(("debian", (self.archive.as_uri(),)),),
        )

    def built(self, name: str) -> StorePath:
        """Return the store path of the build or root file system called *name*."""
        return dict((*self.plan.builds, *self.plan.roots))[name]

    def compiled(self, name: str) -> StorePath:
        """Return the store path of what compiles the wheel of the build called *name*."""
        return dict(self.plan.compiles)[name]

    def fetched(self, filename: str) -> StorePath:
        """Return the store path of the fetch of *filename*."""
        (path,) = (fetch.path for fetch in self.plan.fetches() if fetch.filename == filename)
        return path

    def realiser(
        self, builder: ScriptedBuilder | None = None, *, cores: int = 2, progress: Progress | None = None
    ) -> Realiser:
        """Return what realises the plan, with *builder* for everything."""
        chosen = builder or ScriptedBuilder()
        return Realiser(
            stack=self.stack,
            lock=self.lock,
            plan=self.plan,
            stack_folder=self.folder.path,
            store=self.store,
            mirrors=lambda _names: self.mirrors,
            builder=lambda: chosen,
            root_builder=lambda: chosen,
            prefix_builder=lambda: chosen,
            progress=progress or Silent(),
            cores=cores,
        )

    def realise(self, builder: ScriptedBuilder | None = None) -> Realiser:
        """Build everything that an image needs, and return what did."""
        realiser = self.realiser(builder)
        realiser.build(realiser.plan.targets)
        return realiser

    def relock(self, lock: Lock) -> None:
        """Write *lock* as the stack's, for the inputs that the stack has now."""
        _write_lock(self.folder, self.folder.read_document(), lock)


@contextmanager
def make_world(parent: Path, *, document: Mapping[str, Any] | None = None) -> Iterator[World]:
    """Make a world below *parent*; its servers stop when the block ends."""
    files, archive = parent / "index", parent / "archive"
    files.mkdir()
    folder = StackFolder(path=parent / "stacks" / "small")
    with serve_index(files) as index, Store(parent / "store") as store:
        content = dict(document or values.stack_document())
        named = [{**table, "url": index.url} for table in content["python"]["index"]]
        content["python"] = {**content["python"], "index": named}
        folder.path.mkdir(parents=True)
        (folder.path / STACK_FILE).write_text(toml_text(content), encoding="utf-8")
        for path, text in values.FILES.items():
            (folder.path / path).parent.mkdir(parents=True, exist_ok=True)
            (folder.path / path).write_text(text, encoding="utf-8")
        _write_lock(folder, content, _real_lock(folder.path, files, archive))
        yield World(folder=folder, files=files, archive=archive, index=index, store=store)


def _write_lock(folder: StackFolder, document: Mapping[str, Any], lock: Lock) -> None:
    locked = values.with_inputs(lock, inputs_of(document, folder.used_files(document)))
    target = from_document(document).target
    folder.write_texts(lock_texts(locked, name="small", target=target, wheels=folder.wheels_from_here))


def _real_lock(stack: Path, files: Path, archive: Path) -> Lock:
    """Write every artifact of the small lock, and return the lock with their true hashes."""

    def real(package: LockedPackage) -> LockedPackage:
        if package.wheel is None:
            return package
        path = make_wheel(files, package.name, package.version)
        return replace(package, wheel=_locked(path.name, path.read_bytes()))

    lock = values.small_lock()
    sdist = files / "gamma-2.0.tar.gz"
    sdist.write_bytes(b"source of gamma")
    packed = archive.parent / "delta-0.1.tar"
    archive_folder(stack / "extension", packed)
    sources = {"gamma": sdist, "delta": packed}
    debs = []
    for deb in lock.debs:
        path = archive / deb.path
        path.parent.mkdir(parents=True)
        path.write_bytes(deb.filename.encode())
        found = _locked(deb.filename, path.read_bytes())
        debs.append(replace(deb, sha256=found.sha256, size=found.size or 0))
    return replace(
        lock,
        runtime=tuple(real(package) for package in lock.runtime),
        build=tuple((name, tuple(real(package) for package in found)) for name, found in lock.build),
        sources=tuple(
            replace(source, file=_locked(sources[source.name].name, sources[source.name].read_bytes()))
            for source in lock.sources
        ),
        debs=tuple(debs),
    )


def _locked(filename: str, data: bytes) -> LockedFile:
    return LockedFile(filename=filename, sha256=sha256_of(data), size=len(data))
