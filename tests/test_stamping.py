"""Version label and provenance in a wheel: what changes in it, and what does not."""

from __future__ import annotations

import zipfile
from typing import TYPE_CHECKING

import pytest

from lockbuild import wheels
from lockbuild.derivation import BuildOutcome, BuildTask
from lockbuild.errors import BuildError
from lockbuild.provenance import RECORD
from lockbuild.stamping import Stamper
from tests.fakes import NATIVE
from tests.values import sha
from tests.wheels import make_wheel

if TYPE_CHECKING:
    from pathlib import Path

VERSION = "1.7.2+pt20cu118"
FILES = {
    "mmcv/_ext.so": b"compiled",
    "mmcv/version.py": b"__version__ = '1.7.2'\n",
    "mmcv_full-1.7.2.data/scripts/run": b"#!python\n",
}


@pytest.fixture
def compiled(tmp_path: Path) -> Path:
    raw = make_wheel(
        tmp_path / "raw", "mmcv-full", "1.7.2", tag=NATIVE, files=FILES, requires=["addict"]
    )
    folder = tmp_path / "compiled"
    folder.mkdir()
    wheels.normalise_wheel(raw, folder / raw.name, epoch=315532800)
    return folder / raw.name


def stamped(compiled: Path, folder: Path, version: str = VERSION, record: str = "{}") -> BuildOutcome:
    task = BuildTask(
        name="mmcv-full-stamped",
        kind="stamped",
        rootfs=None,
        rootfs_name=None,
        command=("--format=1", f"--version={version}", record),
        env=(("SOURCE_DATE_EPOCH", "315532800"),),
        inputs=(("wheel", compiled.parent),),
        scratch=folder,
        log=folder / "log",
    )
    return Stamper().build(task)


def only(outcome: BuildOutcome) -> Path:
    assert outcome.output is not None, outcome.message
    (wheel,) = outcome.output.iterdir()
    return wheel


def members(wheel: Path) -> dict[str, bytes]:
    with zipfile.ZipFile(wheel) as archive:
        return {name: archive.read(name) for name in archive.namelist()}


def test_wheel_has_the_label_wherever_a_version_stands(compiled: Path, tmp_path: Path) -> None:
    wheel = only(stamped(compiled, tmp_path / "scratch"))
    assert wheel.name == f"mmcv_full-{VERSION}-{NATIVE}.whl"
    assert wheels.check_wheel(wheel, expects=["mmcv/_ext*.so"]) == ()
    facts = wheels.inspect_wheel(wheel)
    assert (facts.name, facts.version, facts.requires) == ("mmcv-full", VERSION, ("addict",))


def test_nothing_else_changes(compiled: Path, tmp_path: Path) -> None:
    before, after = members(compiled), members(only(stamped(compiled, tmp_path / "scratch")))
    old, new = "mmcv_full-1.7.2.dist-info", f"mmcv_full-{VERSION}.dist-info"
    moved = {
        name.replace(old, new).replace("mmcv_full-1.7.2.data", f"mmcv_full-{VERSION}.data"): data
        for name, data in before.items()
    }
    assert set(after) - set(moved) == {f"{new}/{RECORD}"}
    assert set(moved) - set(after) == set()
    differing = {name for name in moved if moved[name] != after[name]}
    assert differing == {f"{new}/METADATA", f"{new}/RECORD"}
    assert after[f"{new}/METADATA"] == before[f"{old}/METADATA"].replace(
        b"Version: 1.7.2\n", f"Version: {VERSION}\n".encode()
    )


def test_record_is_there_to_the_byte(compiled: Path, tmp_path: Path) -> None:
    wheel = only(stamped(compiled, tmp_path / "scratch", record='{"a":"ö"}\n'))
    assert members(wheel)[f"mmcv_full-{VERSION}.dist-info/{RECORD}"] == '{"a":"ö"}\n'.encode()


def test_wheel_without_a_label_keeps_its_name(compiled: Path, tmp_path: Path) -> None:
    wheel = only(stamped(compiled, tmp_path / "scratch", version="1.7.2"))
    assert wheel.name == compiled.name
    assert set(members(wheel)) - set(members(compiled)) == {f"mmcv_full-1.7.2.dist-info/{RECORD}"}


def test_stamping_twice_gives_the_same_bytes(compiled: Path, tmp_path: Path) -> None:
    one, other = (only(stamped(compiled, tmp_path / name)) for name in ("one", "other"))
    assert one.read_bytes() == other.read_bytes()


def test_only_the_header_is_a_version(tmp_path: Path) -> None:
    folder = tmp_path / "compiled"
    wheel = make_wheel(folder, "a", "1.0", requires=["b\n\nVersion: 9\nText"])
    found = members(only(stamped(wheel, tmp_path / "scratch", version="1.0+x")))
    metadata = found["a-1.0+x.dist-info/METADATA"].decode()
    assert "\nVersion: 1.0+x\n" in metadata
    assert "\nVersion: 9\n" in metadata


def test_patches_are_in_the_wheel_by_their_hash(compiled: Path, tmp_path: Path) -> None:
    patch = tmp_path / "load.patch"
    patch.write_text("diff")
    task = BuildTask(
        name="mmcv-full-stamped",
        kind="stamped",
        rootfs=None,
        rootfs_name=None,
        command=("--format=1", f"--version={VERSION}", "{}"),
        env=(("SOURCE_DATE_EPOCH", "315532800"),),
        inputs=((f"patches/{sha('diff')}.patch", patch), ("wheel", compiled.parent)),
        scratch=tmp_path / "scratch",
        log=tmp_path / "log",
    )
    found = members(only(Stamper().build(task)))
    assert found[f"mmcv_full-{VERSION}.dist-info/lockbuild/{sha('diff')}.patch"] == b"diff"


def test_a_hostile_wheel_is_not_stamped(tmp_path: Path) -> None:
    wheel = make_wheel(tmp_path / "compiled", "a", "1.0", files={"../../evil": b""})
    outcome = stamped(wheel, tmp_path / "scratch")
    assert (outcome.status, outcome.output) == ("failed", None)
    assert "is not a path below the folder" in outcome.message


def test_a_damaged_wheel_leaves_nothing_behind(tmp_path: Path) -> None:
    wheel = make_wheel(tmp_path / "compiled", "a", "1.0", files={"a.py": b"text of a module"})
    wheel.write_bytes(wheel.read_bytes().replace(b"METADATA", b"METAxATA"))
    with pytest.raises(BuildError, match="cannot be normalised"):
        wheels.stamp_wheel(wheel, tmp_path, version="1.0+x", files={}, epoch=0)
    assert list(tmp_path.glob("*.whl")) == list(tmp_path.glob(".*")) == []
