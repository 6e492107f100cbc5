"""Wheelhouse and build context of the small stack, from a real store."""

from __future__ import annotations

import errno
import fcntl
import os
import shutil
import tempfile
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, NoReturn

import pytest

from lockbuild.errors import StoreError, UsageError
from lockbuild.packing import fill_context, make_manifest, strays, verify_wheelhouse, write_wheelhouse
from lockbuild.wheelhouse import MANIFEST, parse_manifest
from tests.fakes import NATIVE, ScriptedBuilder
from tests.needs import missing
from tests.wheels import make_wheel
from tests.worlds import World, make_world

if TYPE_CHECKING:
    from collections.abc import Iterator

    from lockbuild.wheelhouse import Manifest

ALPHA = "alpha-1.2-py3-none-any.whl"
WHEELS = [
    ALPHA,
    "beta-0.9-py3-none-any.whl",
    f"delta-0.1-{NATIVE}.whl",
    f"gamma-2.0-{NATIVE}.whl",
]


@pytest.fixture
def world(tmp_path: Path) -> Iterator[World]:
    """The small stack with everything built."""
    with make_world(tmp_path) as made:
        made.realise(ScriptedBuilder())
        yield made


@pytest.fixture
def house(tmp_path: Path) -> Path:
    """Where the wheelhouse goes."""
    return tmp_path / "wheels"


def manifest_of(world: World) -> Manifest:
    return make_manifest(world.stack, world.lock, world.plan, world.store)


def write(world: World, house: Path) -> tuple[str, ...]:
    return write_wheelhouse(house, manifest_of(world), world.store)


def names(folder: Path) -> list[str]:
    return sorted(path.relative_to(folder).as_posix() for path in folder.rglob("*") if not path.is_dir())


def damage(path: Path) -> None:
    """Change the last byte of a file, as a failing disk does."""
    path.chmod(0o644)
    data = path.read_bytes()
    path.write_bytes(data[:-1] + bytes([data[-1] ^ 1]))
    os.utime(path, (1, 1))


# ---- the manifest ----------------------------------------------------------------------------------


def test_a_manifest_names_every_package_of_the_lock(world: World) -> None:
    found = {(entry.name, entry.version, entry.origin) for entry in manifest_of(world).wheels}
    assert found == {
        ("alpha", "1.2", "fetched"),
        ("beta", "0.9", "fetched"),
        ("gamma", "2.0", "built"),
        ("delta", "0.1", "built"),
    }


def test_a_manifest_names_the_lock_that_it_fulfils(world: World) -> None:
    assert manifest_of(world).lock == world.lock.digest


def test_there_is_no_manifest_of_what_was_not_built(world: World) -> None:
    world.store.remove(world.built("gamma"))
    with pytest.raises(StoreError, match=r"gamma-2\.0-stamped` is not in the store") as caught:
        manifest_of(world)
    assert caught.value.hint == "lockbuild build small"


# ---- the wheelhouse --------------------------------------------------------------------------------


def test_a_wheelhouse_holds_every_wheel_and_the_manifest(world: World, house: Path) -> None:
    assert write(world, house) == (*WHEELS, MANIFEST)
    assert names(house) == [*WHEELS, MANIFEST]


def test_the_manifest_beside_the_wheels_is_that_of_the_lock(world: World, house: Path) -> None:
    write(world, house)
    assert parse_manifest((house / MANIFEST).read_text()) == manifest_of(world)


def test_writing_again_changes_nothing(world: World, house: Path) -> None:
    write(world, house)
    assert write(world, house) == ()


def test_a_missing_wheel_is_put_back(world: World, house: Path) -> None:
    write(world, house)
    (house / ALPHA).unlink()
    assert write(world, house) == (ALPHA,)


def test_a_replaced_wheel_is_noticed(world: World, house: Path) -> None:
    write(world, house)
    (house / ALPHA).unlink()
    (house / ALPHA).write_bytes(b"another")
    assert write(world, house) == (ALPHA,)
    assert verify_wheelhouse(house, manifest_of(world)) == ()


@pytest.mark.parametrize(
    "name", ["old-1.0-py3-none-any.whl", "old-1.0.tar.gz", "old-1.0.zip", "-r\n.WHL"]
)
def test_what_pip_would_take_and_nobody_locked_is_removed(world: World, house: Path, name: str) -> None:
    house.mkdir()
    (house / name).write_bytes(b"stray")
    assert name in write(world, house)
    assert not (house / name).exists()


def test_what_pip_does_not_look_at_stays(world: World, house: Path) -> None:
    house.mkdir()
    (house / "README.md").write_text("ours")
    (house / "folder.whl").mkdir()
    write(world, house)
    assert (house / "README.md").exists()
    assert (house / "folder.whl").exists()


def test_a_stray_link_is_removed_and_what_it_points_to_stays(
    world: World, house: Path, tmp_path: Path
) -> None:
    house.mkdir()
    (tmp_path / "precious").mkdir()
    (house / "old.whl").symlink_to(tmp_path / "precious")
    assert "old.whl" in write(world, house)
    assert (tmp_path / "precious").is_dir()


def test_strays_are_told_without_being_touched(world: World, house: Path) -> None:
    write(world, house)
    make_wheel(house, "old", "1.0")
    assert [path.name for path in strays(house, manifest_of(world))] == ["old-1.0-py3-none-any.whl"]
    assert (house / "old-1.0-py3-none-any.whl").exists()


def test_a_wheel_damaged_in_the_store_is_refused(world: World, house: Path) -> None:
    damage(world.store.locate(world.fetched(ALPHA)))
    with pytest.raises(StoreError, match="is damaged in the store"):
        write(world, house)
    assert not (house / ALPHA).exists()


def test_verifying_names_a_changed_wheel_with_both_hashes(world: World, house: Path) -> None:
    write(world, house)
    (house / ALPHA).unlink()
    make_wheel(house, "alpha", "1.2", files={"alpha.py": b"evil"})
    (fault,) = verify_wheelhouse(house, manifest_of(world))
    entry = manifest_of(world).wheels[0]
    assert fault.startswith(f"{ALPHA}: expected sha256 {entry.sha256}, found ")


def test_verifying_names_a_missing_wheel(world: World, house: Path) -> None:
    write(world, house)
    (house / ALPHA).unlink()
    assert verify_wheelhouse(house, manifest_of(world)) == (f"{ALPHA}: missing",)


def test_verifying_sees_a_change_that_keeps_size_and_time(world: World, house: Path) -> None:
    write(world, house)
    damage(house / ALPHA)
    assert len(verify_wheelhouse(house, manifest_of(world))) == 1


# ---- how files get there ---------------------------------------------------------------------------


def test_a_wheel_is_a_hard_link_where_blocks_cannot_be_shared(
    world: World, house: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(fcntl, "ioctl", _refuse)
    write(world, house)
    assert (house / ALPHA).samefile(world.store.locate(world.fetched(ALPHA)))


def _refuse(*_: object) -> NoReturn:
    raise OSError(errno.EOPNOTSUPP, "not supported")


def test_a_wheel_shares_its_blocks_where_the_file_system_can(
    world: World, house: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def clone(target: int, _request: int, source: int) -> None:
        os.write(target, os.pread(source, 1 << 20, 0))

    monkeypatch.setattr(fcntl, "ioctl", clone)
    write(world, house)
    assert not (house / ALPHA).samefile(world.store.locate(world.fetched(ALPHA)))
    assert verify_wheelhouse(house, manifest_of(world)) == ()
    assert write(world, house) == ()


def test_a_wheel_is_copied_to_another_file_system(world: World) -> None:
    memory = Path("/dev/shm")
    if not memory.is_dir() or memory.stat().st_dev == world.store.root.stat().st_dev:
        missing("there is no second file system at /dev/shm")
    with tempfile.TemporaryDirectory(dir=memory) as folder:
        house = Path(folder)
        write(world, house)
        assert verify_wheelhouse(house, manifest_of(world)) == ()
        assert write(world, house) == ()


def test_an_unforeseen_refusal_of_a_link_is_not_hidden(
    world: World, house: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def broken(*_: object) -> NoReturn:
        raise OSError(errno.EIO, "input/output error")

    monkeypatch.setattr(fcntl, "ioctl", _refuse)
    monkeypatch.setattr(os, "link", broken)
    with pytest.raises(UsageError, match="cannot be written: input/output error"):
        write(world, house)


def test_a_wheelhouse_that_cannot_be_written_is_named(world: World, house: Path) -> None:
    house.write_text("in the way", encoding="utf-8")
    with pytest.raises(UsageError) as caught:
        write(world, house)
    assert caught.value.message == f"`{house}` cannot be written: File exists"
    assert caught.value.hint is not None


def test_writing_leaves_no_temporary_file(world: World, house: Path) -> None:
    write(world, house)
    (house / ALPHA).unlink()
    os.link(world.store.locate(world.fetched(ALPHA)), house / ALPHA)
    os.utime(house / ALPHA, (5, 5))
    write(world, house)
    assert names(house) == [*WHEELS, MANIFEST]


# ---- the build context -----------------------------------------------------------------------------

TEXTS = {"Dockerfile": "FROM scratch\n", ".dockerignore": "*\n"}


def fill(world: World, folder: Path) -> None:
    fill_context(folder, texts=TEXTS, manifest=manifest_of(world), plan=world.plan, store=world.store)


def test_a_context_holds_texts_wheels_installer_and_roots(world: World, tmp_path: Path) -> None:
    fill(world, tmp_path / "context")
    assert names(tmp_path / "context") == [
        ".dockerignore",
        "Dockerfile",
        "rootfs/runtime.tar",
        "rootfs/toolchain.tar",
        "tools/pip-25.0-py3-none-any.whl",
        *(f"wheels/{name}" for name in WHEELS),
    ]


def test_a_context_loses_what_does_not_belong_to_it(world: World, tmp_path: Path) -> None:
    context = tmp_path / "context"
    fill(world, context)
    before = names(context)
    (context / "old/deep").mkdir(parents=True)
    (context / "old/deep/file").write_text("old")
    (context / "wheels/old-1.0-py3-none-any.whl").write_text("old")
    fill(world, context)
    assert names(context) == before
    assert not (context / "old").exists()


def test_a_link_in_a_context_is_removed_and_what_it_points_to_stays(
    world: World, tmp_path: Path
) -> None:
    (tmp_path / "precious").mkdir()
    (tmp_path / "precious/file").write_text("ours")
    (tmp_path / "context").mkdir()
    (tmp_path / "context/wheels").symlink_to(tmp_path / "precious")
    fill(world, tmp_path / "context")
    assert names(tmp_path / "precious") == ["file"]
    assert not (tmp_path / "context/wheels").is_symlink()


@pytest.mark.parametrize("name", ["runtime", "gamma"])
def test_a_context_of_damaged_objects_is_refused(world: World, tmp_path: Path, name: str) -> None:
    folder = world.store.locate(world.built(name))
    damage(next(path for path in folder.rglob("*") if path.is_file()))
    with pytest.raises(StoreError, match="is damaged"):
        fill(world, tmp_path / "context")


def test_a_context_is_filled_again_from_a_lock_with_fewer_wheels(world: World, tmp_path: Path) -> None:
    context = tmp_path / "context"
    fill(world, context)
    manifest = manifest_of(world)
    fewer = replace(manifest, wheels=manifest.wheels[:1])
    fill_context(context, texts=TEXTS, manifest=fewer, plan=world.plan, store=world.store)
    assert sorted(path.name for path in (context / "wheels").iterdir()) == [ALPHA]


def test_removing_a_wheelhouse_leaves_the_store_whole(world: World, house: Path) -> None:
    write(world, house)
    shutil.rmtree(house)
    assert tuple(world.store.verify()) == ()
