"""One flipped byte, wherever it is, is refused: with both hashes, or with the name of what is not right."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

import pytest

from tests.end_to_end.project import RUNTIME, flip
from tests.servers.faulty import Fault

if TYPE_CHECKING:
    from lockbuild.process import Completed
    from tests.end_to_end.conftest import Mirror
    from tests.end_to_end.project import Project


def _two_hashes(ended: Completed) -> bool:
    """Tell whether a message shows at least two hashes that are not the same."""
    return len(set(re.findall(r"\b[0-9a-f]{64}\b", ended.stdout + ended.stderr))) >= 2


# ---- the store -------------------------------------------------------------------------------------------


def test_a_flipped_byte_in_a_store_object_is_found(project: Project) -> None:
    flip(project.locate(lambda name: name.startswith("markupsafe-")))
    ended = project.run("store", "verify", exit_code=7)
    assert "1 store object is damaged" in ended.stderr
    assert "recorded sha256" in ended.stderr
    assert "found    sha256" in ended.stderr
    assert _two_hashes(ended)


def test_a_flipped_byte_in_a_built_wheel_is_found_with_the_file(project: Project) -> None:
    (wheel,) = project.locate(lambda name: name == "native-sum-1.0").glob("*.whl")
    flip(wheel)
    ended = project.run("store", "verify", exit_code=7)
    assert wheel.name in ended.stderr
    assert _two_hashes(ended)


def test_no_build_takes_a_damaged_wheel_for_input(project: Project) -> None:
    project.forget_wheels()
    flip(project.locate(lambda name: name.startswith("markupsafe-")))
    ended = project.run("build", "small", exit_code=7)
    assert "is damaged" in ended.stderr
    assert _two_hashes(ended)


def test_no_root_file_system_is_made_of_a_damaged_deb(project: Project) -> None:
    project.forget(lambda name: name == RUNTIME)
    flip(project.locate(lambda name: name.startswith("base-files_")))
    ended = project.run("render", "--context", "small", exit_code=7)
    assert "base-files_" in ended.stderr
    assert _two_hashes(ended)


def test_no_build_context_takes_a_damaged_root_file_system(project: Project) -> None:
    flip(project.locate(lambda name: name == RUNTIME) / "rootfs.tar")
    ended = project.run("render", "--context", "small", exit_code=7)
    assert "rootfs.tar" in ended.stderr
    assert _two_hashes(ended)


def test_an_audit_finds_a_damaged_deb(project: Project) -> None:
    flip(project.locate(lambda name: name.startswith("base-files_")))
    ended = project.run("audit", "small", exit_code=9)
    assert "store-bytes" in ended.stdout
    assert "base-files_" in ended.stdout
    assert _two_hashes(ended)


def test_repairing_forgets_what_is_damaged_and_the_next_run_brings_it_again(
    project: Project, mirror: Mirror
) -> None:
    flip(project.locate(lambda name: name.startswith("base-files_")))
    flip(project.locate(lambda name: name == "greeting-2.1-stamped") / "greeting-2.1-py3-none-any.whl")
    project.run("store", "repair")
    said = project.with_env(**mirror.env).run("build", "small")
    assert "greeting-2.1-stamped: built" in said.stderr
    project.with_env(**mirror.env).run("fetch", "small")
    assert project.damages() == ""


# ---- the wheelhouse and the build context ----------------------------------------------------------------


@pytest.mark.parametrize("pattern", ["markupsafe-*.whl", "native_sum-*.whl"])
def test_an_audit_finds_a_flipped_byte_in_the_wheelhouse(project: Project, pattern: str) -> None:
    (wheel,) = project.wheels.glob(pattern)
    flip(wheel)
    ended = project.run("audit", "small", exit_code=9)
    assert "wheel-bytes" in ended.stdout
    assert wheel.name in ended.stdout
    assert _two_hashes(ended)


def test_no_image_is_made_beside_a_damaged_wheelhouse(project: Project) -> None:
    (wheel,) = project.wheels.glob("markupsafe-*.whl")
    flip(wheel)
    ended = project.run("render", "--context", "small", exit_code=7)
    assert wheel.name in ended.stderr
    assert _two_hashes(ended)


@pytest.mark.parametrize("name", ["rootfs/runtime.tar", "wheels.txt", "Dockerfile"])
def test_rendering_mends_a_build_context(project: Project, name: str) -> None:
    before = (project.context / name).read_bytes()
    flip(project.context / name)
    project.run("render", "--context", "small")
    assert (project.context / name).read_bytes() == before


def test_an_audit_finds_an_edited_dockerfile(project: Project) -> None:
    file = project.stack / "Dockerfile"
    file.write_text(file.read_text() + "RUN apt-get install --yes curl\n")
    ended = project.run("audit", "small", exit_code=9)
    assert "dockerfile-current" in ended.stdout
    assert "dockerfile-network" in ended.stdout


# ---- the lock --------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["pylock.toml", "pylock.build.toml", "requirements.txt"])
def test_a_flipped_byte_in_a_file_of_the_lock_is_refused(fresh: Project, name: str) -> None:
    flip(fresh.stack / name)
    ended = fresh.run("fetch", "small", exit_code=3)
    assert f"{name} is not as it was written" in ended.stderr
    assert _two_hashes(ended)


def test_an_audit_finds_an_edited_file_of_the_lock(fresh: Project) -> None:
    file = fresh.stack / "requirements.txt"
    file.write_text(re.sub(r"sha256:\w{8}", "sha256:00000000", file.read_text(), count=1))
    said = fresh.run("audit", "small", exit_code=9).stdout
    assert "lock-edited: requirements.txt: is not as it was written" in said
    assert "lock-contradicts: " in said


def test_a_changed_hash_in_the_lock_is_refused(fresh: Project) -> None:
    file = fresh.stack / "lockbuild.lock"
    text = file.read_text()
    (deb,) = re.findall(r'package = "base-files".*?sha256 = "(\w+)"', text, re.DOTALL)
    file.write_text(text.replace(deb, deb[::-1]))
    ended = fresh.run("fetch", "small", exit_code=3)
    assert "lockbuild.lock is not as it was written" in ended.stderr
    assert _two_hashes(ended)


def test_a_flipped_byte_anywhere_in_the_lock_is_refused(fresh: Project) -> None:
    file = fresh.stack / "lockbuild.lock"
    whole = file.read_bytes()
    # A bit that makes another letter: anything else is no TOML, which would be refused too easily.
    for place in range(0, len(whole), len(whole) // 12):
        file.write_bytes(whole[:place] + bytes([whole[place] ^ 1]) + whole[place + 1 :])
        ended = fresh.run("fetch", "small", exit_code=3)
        assert "lockbuild.lock" in ended.stderr


# ---- on the way ------------------------------------------------------------------------------------------


def test_a_mirror_that_sends_other_bytes_is_refused_with_both_hashes(
    project: Project, mirror: Mirror
) -> None:
    project.forget(lambda name: name.startswith("base-files_"))
    (path,) = list(mirror.archive.root.rglob("base-files_*.deb"))
    asked = f"/{path.relative_to(mirror.archive.root).as_posix()}"
    mirror.archive.faults[asked] = Fault(kind="wrong")
    try:
        ended = project.with_env(**mirror.env).run("fetch", "small", exit_code=5)
    finally:
        del mirror.archive.faults[asked]
    assert "base-files_" in ended.stderr
    assert _two_hashes(ended)
