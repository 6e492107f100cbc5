"""Sources of an image: their trees out of a real store, what must not be in them, and their archives."""

from __future__ import annotations

import os
import tarfile
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import pytest

from lockbuild.digest import StorePath, store_path
from lockbuild.errors import ImageError, StackError, StoreError
from lockbuild.placing import SourceTree, source_trees, write_archive
from lockbuild.plan import EPOCH, Plan, make_plan
from lockbuild.stack import Asset, NamedSource, Source
from lockbuild.store import Store
from tests.values import small_lock, small_stack

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from lockbuild.stack import Stack

NAMED = NamedSource(name="app", source=Source(path="app"), path="/workspace/app", license="MIT")
TREE = store_path(["test", "app"], "app")


@pytest.fixture
def store(tmp_path: Path) -> Iterator[Store]:
    with Store(tmp_path / "store") as made:
        yield made


@pytest.fixture
def tree(tmp_path: Path) -> Path:
    """Return a folder with a program, a file, an empty folder and links."""
    folder = tmp_path / "tree"
    (folder / "src/models").mkdir(parents=True)
    (folder / "empty").mkdir()
    (folder / "src/run.sh").write_text("#!/bin/sh\n")
    (folder / "src/run.sh").chmod(0o700)
    (folder / "src/models/a.py").write_text("a = 1\n")
    (folder / "src/inside").symlink_to("models/a.py")
    (folder / "absolute").symlink_to("/workspace/app/src")
    return folder


def trees_of(
    store: Store, tree: Path, named: NamedSource = NAMED, **changes: Any
) -> tuple[SourceTree, ...]:
    store.add_folder(TREE, tree)
    stack: Stack = replace(small_stack(), sources=(named,), **changes)
    return source_trees(stack, _plan(TREE), store)


def _plan(path: StorePath) -> Plan:
    return replace(make_plan(small_stack(), small_lock()), sources=(("app", path),))


def archived(tree: SourceTree, file: Path) -> list[tuple[str, int, bytes, str, int, int]]:
    write_archive(tree, file)
    with tarfile.open(file) as archive:
        return [(m.name, m.mode, m.type, m.linkname, int(m.mtime), m.uid) for m in archive]


def test_an_archive_holds_the_tree_with_fixed_modes_owner_and_time(
    store: Store, tree: Path, tmp_path: Path
) -> None:
    (found,) = trees_of(store, tree)
    folder, file, link = tarfile.DIRTYPE, tarfile.REGTYPE, tarfile.SYMTYPE
    assert archived(found, tmp_path / "app.tar") == [
        ("absolute", 0o755, link, "/workspace/app/src", EPOCH, 0),
        ("empty", 0o755, folder, "", EPOCH, 0),
        ("src", 0o755, folder, "", EPOCH, 0),
        ("src/inside", 0o755, link, "models/a.py", EPOCH, 0),
        ("src/models", 0o755, folder, "", EPOCH, 0),
        ("src/models/a.py", 0o644, file, "", EPOCH, 0),
        ("src/run.sh", 0o755, file, "", EPOCH, 0),
    ]


def test_the_same_tree_gives_the_same_bytes(store: Store, tree: Path, tmp_path: Path) -> None:
    (found,) = trees_of(store, tree)
    write_archive(found, tmp_path / "a.tar")
    os.utime(found.origin / "src/models/a.py", (7, 7))
    write_archive(found, tmp_path / "b.tar")
    assert (tmp_path / "a.tar").read_bytes() == (tmp_path / "b.tar").read_bytes()
    assert sorted(path.name for path in tmp_path.glob("*.tar*")) == ["a.tar", "b.tar"]


def test_an_archive_that_is_there_is_left_alone_and_a_damaged_one_is_not(
    store: Store, tree: Path, tmp_path: Path
) -> None:
    (found,) = trees_of(store, tree)
    file = tmp_path / "app.tar"
    write_archive(found, file)
    before, data = file.stat(), file.read_bytes()
    write_archive(found, file)
    assert file.stat() == before
    file.write_bytes(data[:-1] + b"x")
    write_archive(found, file)
    assert file.read_bytes() == data
    assert sorted(path.name for path in tmp_path.glob("*.tar*")) == ["app.tar"]


def test_a_subdirectory_is_all_there_is(store: Store, tree: Path, tmp_path: Path) -> None:
    (tree / "absolute").unlink()
    named = replace(NAMED, source=Source(path="app", subdirectory="./src/"))
    (found,) = trees_of(store, tree, named)
    names = [name for name, *_ in archived(found, tmp_path / "app.tar")]
    assert names == ["inside", "models", "models/a.py", "run.sh"]


@pytest.mark.parametrize("subdirectory", ["sr", "src/run.sh"])
def test_a_subdirectory_that_is_no_folder_is_named(store: Store, tree: Path, subdirectory: str) -> None:
    named = replace(NAMED, source=Source(path="app", subdirectory=subdirectory))
    with pytest.raises(StackError, match=f"has no folder `{subdirectory}`"):
        trees_of(store, tree, named)


@pytest.mark.parametrize("target", ["/etc/passwd", "../../x", "/workspace/app-b/x"])
def test_a_link_that_leads_out_is_refused(store: Store, tree: Path, target: str) -> None:
    (tree / "out").symlink_to(target)
    with pytest.raises(ImageError) as caught:
        trees_of(store, tree)
    assert caught.value.details == (f"source `app`: the link `out` leads out of it, to `{target}`",)


def test_a_link_out_of_the_subdirectory_leads_out(store: Store, tree: Path) -> None:
    (tree / "src/up").symlink_to("../empty")
    with pytest.raises(ImageError):
        trees_of(store, tree, replace(NAMED, source=Source(path="app", subdirectory="src")))


@pytest.mark.parametrize(
    ("path", "there"),
    [
        ("/workspace/app/src/run.sh", "executable `src/run.sh`"),
        ("/workspace/app/src/models", "folder `src/models`"),
        ("/workspace/app/src/inside/w.pth", "symlink `src/inside`"),
        ("/workspace/app/src/models/a.py/w.pth", "file `src/models/a.py`"),
    ],
)
def test_an_asset_where_the_source_has_something_is_refused(
    store: Store, tree: Path, path: str, there: str
) -> None:
    with pytest.raises(ImageError) as caught:
        trees_of(store, tree, assets=(Asset(name="w", path=path),))
    assert caught.value.details == (f"asset `w` goes to {path}, where source `app` has the {there}",)


def test_an_asset_beside_what_the_source_has_is_welcome(store: Store, tree: Path) -> None:
    inside = Asset(name="w", path="/workspace/app/src/models/w.pth")
    mounted = Asset(name="m", path="/workspace/app/src/run.sh", policy="mount")
    members = Asset(name="d", path="/workspace/app", members=(("x", "new/deep/x"),))
    assert trees_of(store, tree, assets=(inside, mounted, members))


def test_a_tree_that_is_not_in_the_store_is_named(store: Store) -> None:
    stack = replace(small_stack(), sources=(NAMED,))
    with pytest.raises(StoreError, match=f"`{TREE}` is not in the store"):
        source_trees(stack, _plan(TREE), store)
    with pytest.raises(StoreError, match="`app` is not in the store"):
        source_trees(stack, replace(_plan(TREE), sources=()), store)
