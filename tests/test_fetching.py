"""Bringing fetches into the store: trees of real repositories, files, and what lies beside a stack."""

from __future__ import annotations

import os
import shutil
import sys
import zipfile
from dataclasses import replace
from typing import TYPE_CHECKING

import pytest

from lockbuild.derivation import (
    Addresses,
    ArchiveMembers,
    BesideFile,
    Fetch,
    FolderArchive,
    GitTree,
    HostInterpreter,
)
from lockbuild.digest import Sha256, sha256_of
from lockbuild.errors import LockError
from lockbuild.fetching import bring, failed
from lockbuild.folders import archive_folder
from lockbuild.hostpython import ask_python, pack_python
from lockbuild.progress import Silent
from lockbuild.sources import Mirrors
from lockbuild.sources.git import checkout
from lockbuild.store import Store
from lockbuild.store.trees import listing, listing_sha256
from tests.fakes import RecordingProgress
from tests.needs import missing
from tests.repositories import commit, new, own_git

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence
    from pathlib import Path

    from lockbuild.errors import FetchError
    from lockbuild.progress import Progress

FILES = {"setup.py": b"import setuptools\n", "csrc/a.c": b"int a;\n"}


@pytest.fixture(autouse=True)
def _own_git(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    own_git(monkeypatch, tmp_path)


@pytest.fixture
def store(tmp_path: Path) -> Iterator[Store]:
    with Store(tmp_path / "store") as made:
        yield made


@pytest.fixture
def stack_folder(tmp_path: Path) -> Path:
    folder = tmp_path / "stack"
    folder.mkdir()
    return folder


@pytest.fixture
def tree(tmp_path: Path) -> Fetch:
    return tree_of(tmp_path, "gamma", FILES)


def tree_of(parent: Path, name: str, files: dict[str, bytes]) -> Fetch:
    """Return the fetch of a new repository's only commit, known by its listing."""
    repository = new(parent / f"{name}.git")
    where = GitTree(url=repository.as_uri(), commit=commit(repository, files))
    checkout(where, into=parent / f"{name}.tree", cache=parent / "cache", phase=Silent())
    return Fetch(
        filename=f"{name}-{where.commit[:12]}",
        sha256=listing_sha256(listing(parent / f"{name}.tree")),
        size=None,
        where=where,
    )


def beside(folder: Path, path: str, content: bytes) -> Fetch:
    (folder / path).parent.mkdir(parents=True, exist_ok=True)
    (folder / path).write_bytes(content)
    name = path.rpartition("/")[2]
    return Fetch(
        filename=name, sha256=sha256_of(content), size=len(content), where=BesideFile(path=path)
    )


def no_mirrors(names: frozenset[str]) -> Mirrors:
    assert not names, f"nobody wants anything of {sorted(names)}"
    return Mirrors()


def ask(
    store: Store, folder: Path, fetches: Sequence[Fetch], *, progress: Progress | None = None
) -> list[FetchError]:
    failures = bring(
        fetches,
        stack_folder=folder,
        store=store,
        mirrors=no_mirrors,
        progress=progress or Silent(),
        connections=2,
    )
    return [failure.error for failure in failures]


# ---- trees -------------------------------------------------------------------------------------------


def test_tree_is_put_into_the_store_as_a_folder(store: Store, stack_folder: Path, tree: Fetch) -> None:
    assert ask(store, stack_folder, [tree]) == []
    info = store.info(tree.path)
    assert info is not None
    assert (info.kind, info.sha256) == ("folder", tree.sha256)
    found = {path: (store.locate(tree.path) / path).read_bytes() for path in FILES}
    assert found == FILES


def test_tree_that_is_there_is_not_asked_for(store: Store, stack_folder: Path, tree: Fetch) -> None:
    ask(store, stack_folder, [tree])
    forget_repositories(store, stack_folder.parent)
    assert ask(store, stack_folder, [tree]) == []


def test_tree_that_is_not_the_locked_one_is_told_with_both_hashes(
    store: Store, stack_folder: Path, tree: Fetch
) -> None:
    locked = Fetch(filename=tree.filename, sha256=Sha256("0" * 64), size=None, where=tree.where)
    (error,) = ask(store, stack_folder, [locked])
    assert error.message == f"`{tree.filename}`: the tree is not the locked one"
    assert error.details == (f"locked sha256 {'0' * 64}", f"found  sha256 {tree.sha256}")
    assert error.hint is not None
    assert store.paths() == ()


def test_unreachable_repository_is_told_while_all_else_arrives(
    store: Store, stack_folder: Path, tree: Fetch, tmp_path: Path
) -> None:
    gone = tree_of(tmp_path, "gone", {"a": b"a"})
    shutil.rmtree(tmp_path / "gone.git")
    other = tree_of(tmp_path, "other", {"b": b"b"})
    served = tmp_path / "alpha.whl"
    served.write_bytes(b"wheel")
    wheel = Fetch(
        filename="alpha.whl",
        sha256=sha256_of(b"wheel"),
        size=5,
        where=Addresses(urls=(served.as_uri(),)),
    )
    patch = beside(stack_folder, "patches/a.patch", b"--- a\n")
    (error,) = ask(store, stack_folder, [gone, tree, wheel, patch, other])
    assert "gone.git" in error.message
    assert set(store.paths()) == {tree.path, other.path, wheel.path, patch.path}


def test_every_tree_is_told_and_counted(store: Store, stack_folder: Path, tree: Fetch) -> None:
    progress = RecordingProgress()
    ask(store, stack_folder, [tree], progress=progress)
    assert progress.phases == [("fetching sources", 1, "trees")]
    assert (progress.done, progress.lines) == (1, [tree.filename])


def forget_repositories(store: Store, parent: Path) -> None:
    """Remove every repository, and all that the store keeps of them."""
    shutil.rmtree(store.root / "git")
    for repository in parent.glob("*.git"):
        shutil.rmtree(repository)


# ---- beside the stack file ---------------------------------------------------------------------------


def test_patch_is_taken_from_beside_the_stack_file(store: Store, stack_folder: Path) -> None:
    patch = beside(stack_folder, "patches/load.patch", b"--- a\n+++ b\n")
    assert ask(store, stack_folder, [patch]) == []
    assert store.locate(patch.path).read_bytes() == b"--- a\n+++ b\n"


def test_patch_that_has_changed_since_is_refused_with_both_hashes(
    store: Store, stack_folder: Path
) -> None:
    patch = beside(stack_folder, "patches/load.patch", b"as locked")
    (stack_folder / "patches/load.patch").write_bytes(b"as it is")
    with pytest.raises(LockError, match=r"^`patches/load.patch` is not what was locked$") as caught:
        ask(store, stack_folder, [patch])
    assert caught.value.details == (
        f"locked sha256 {sha256_of(b'as locked')}",
        f"found  sha256 {sha256_of(b'as it is')}",
    )
    assert store.paths() == ()


def test_folder_is_taken_as_the_archive_that_was_locked(
    store: Store, stack_folder: Path, tmp_path: Path
) -> None:
    (stack_folder / "extension").mkdir()
    (stack_folder / "extension/setup.py").write_text("import setuptools\n")
    sha256, size = archive_folder(stack_folder / "extension", tmp_path / "delta.tar")
    where = FolderArchive(path="extension")
    folder = Fetch(filename="delta-0.1.tar", sha256=sha256, size=size, where=where)
    assert ask(store, stack_folder, [folder]) == []
    assert store.locate(folder.path).read_bytes() == (tmp_path / "delta.tar").read_bytes()


# ---- a machine's Python ------------------------------------------------------------------------------

RUNNING = f"python{sys.version_info.major}.{sys.version_info.minor}"


@pytest.fixture
def python(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Fetch:
    """The fetch of the Python that runs the tests."""
    if sys.base_prefix == "/usr":
        missing("the tests run on a distribution's Python")
    monkeypatch.setenv("PATH", f"{sys.base_prefix}/bin", prepend=os.pathsep)
    found = ask_python(RUNNING)
    packed = pack_python(found, tmp_path / "python.tar")
    where = HostInterpreter(command=RUNNING)
    return Fetch(filename=found.filename, sha256=packed.sha256, size=packed.size, where=where)


def test_python_of_this_machine_is_packed_again(
    store: Store, stack_folder: Path, tmp_path: Path, python: Fetch
) -> None:
    assert ask(store, stack_folder, [python]) == []
    assert store.locate(python.path).read_bytes() == (tmp_path / "python.tar").read_bytes()


def test_other_python_than_the_locked_one_is_refused_with_both(
    store: Store, stack_folder: Path, python: Fetch
) -> None:
    locked = replace(python, filename="cpython-3.0.1-host.tar", sha256=Sha256("a" * 64))
    (error,) = ask(store, stack_folder, [locked])
    assert error.message == f"`{RUNNING}` is not the interpreter that was locked"
    assert error.details == (
        f"locked cpython-3.0.1-host.tar sha256 {'a' * 64}",
        f"found  {python.filename} sha256 {python.sha256}",
    )
    assert "`lockbuild resolve` takes this one" in (error.hint or "")
    assert store.paths() == ()


def test_absent_python_is_named_in_the_table(store: Store, stack_folder: Path) -> None:
    lost = Fetch(
        filename="cpython-9.9.1-host.tar",
        sha256=Sha256("a" * 64),
        size=1,
        where=HostInterpreter(command="python9.9"),
    )
    failures = bring(
        [lost],
        stack_folder=stack_folder,
        store=store,
        mirrors=no_mirrors,
        progress=Silent(),
        connections=1,
    )
    error = failed(failures, wanted=1)
    assert error.details[1].split(maxsplit=3) == [
        "cpython-9.9.1-host.tar",
        "this",
        "machine",
        "`python9.9` is not on this machine's PATH",
    ]


# ---- several runs on one store -----------------------------------------------------------------------


class Overtaken(RecordingProgress):
    """Shows the work of a run that another one overtakes: once a file has come, it is taken away."""

    def __init__(self, take: Callable[[], None]) -> None:
        super().__init__()
        self._take = take

    def line(self, text: str) -> None:
        super().line(text)
        self._take()


def weights_of(folder: Path, *, size: int | None) -> Fetch:
    file = folder / "weights.npy"
    file.write_bytes(b"\x93NUMPY" * 1000)
    where = Addresses(urls=(file.as_uri(),), type="npy")
    return Fetch(filename=file.name, sha256=sha256_of(file.read_bytes()), size=size, where=where)


@pytest.mark.parametrize("size", [6000, None])
def test_what_another_run_put_into_the_store_is_there(
    store: Store, stack_folder: Path, tmp_path: Path, size: int | None
) -> None:
    wanted = weights_of(tmp_path, size=size)

    def take() -> None:
        with Store(store.root) as other:
            other.add_file(wanted.path, other.downloads / wanted.sha256, sha256=wanted.sha256)

    assert ask(store, stack_folder, [wanted], progress=Overtaken(take)) == []
    assert store.check(wanted.path).size == 6000


def test_what_another_run_took_and_threw_away_is_told(
    store: Store, stack_folder: Path, tmp_path: Path
) -> None:
    wanted = weights_of(tmp_path, size=6000)
    progress = Overtaken((store.downloads / wanted.sha256).unlink)
    (error,) = ask(store, stack_folder, [wanted], progress=progress)
    assert "another run has taken what came" in error.message
    assert error.hint == "run the same again"


def test_members_that_another_run_took_are_there(
    store: Store, stack_folder: Path, tmp_path: Path
) -> None:
    with zipfile.ZipFile(tmp_path / "a.zip", "w") as archive:
        archive.writestr("model.pth", b"weights")
    (tmp_path / "tree").mkdir()
    (tmp_path / "tree" / "m.pth").write_bytes(b"weights")
    data = (tmp_path / "a.zip").read_bytes()
    where = ArchiveMembers(
        urls=((tmp_path / "a.zip").as_uri(),),
        archive=sha256_of(data),
        archive_size=len(data),
        members=(("model.pth", "m.pth"),),
    )
    tree = listing_sha256(listing(tmp_path / "tree"))
    wanted = Fetch(filename="weights", sha256=tree, size=7, where=where)

    def take() -> None:
        with Store(store.root) as other:
            other.add_folder(wanted.path, tmp_path / "tree")
            (other.downloads / sha256_of(data)).unlink()

    assert ask(store, stack_folder, [wanted], progress=Overtaken(take)) == []
    assert store.info(wanted.path)
