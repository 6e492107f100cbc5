"""Resolving the small stack with the real uv against an index on loopback.

The Debian part comes from the former lock, but where a test says otherwise.
"""

from __future__ import annotations

import shutil
import socket
import sys
import tomllib
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import pytest

from lockbuild.documents import toml_text
from lockbuild.errors import LockError, ResolveError, StackError, UsageError
from lockbuild.folders import STACK_FILE, StackFolder
from lockbuild.lock import LOCK_FILE
from lockbuild.locking import Resolved, ResolveOptions, resolve
from lockbuild.locking.python import _check_same_bytes
from lockbuild.progress import Silent
from lockbuild.resolvers import apt
from lockbuild.store import Store
from tests.debs import SUITE, Archive, SigningKey
from tests.needs import need
from tests.values import package, sha, stack_document
from tests.wheels import make_wheel
from tests.worlds import World, make_world, unconfigured

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from lockbuild.lock import Lock
    from lockbuild.sources import Mirrors

PYTHON = f"{sys.version_info.major}.{sys.version_info.minor}"


@pytest.fixture(scope="module")
def resolved_once(tmp_path_factory: pytest.TempPathFactory) -> Iterator[World]:
    """The small stack, resolved; after that its index got a later release of everything."""
    document = stack_document()
    # What the index of the tests serves has no date.
    del document["python"]["exclude-newer"]
    document["python"]["requires"] = ["alpha>=1", "pip"]
    # pip-compile resolves for the Python it runs under.
    document["target"]["python"] = PYTHON
    folder = tmp_path_factory.mktemp("resolved")
    with make_world(folder, document=document) as made, pytest.MonkeyPatch.context() as patch:
        unconfigured(patch, folder / "home")
        patch.setenv("UV_DEFAULT_INDEX", made.index.url)
        make_wheel(made.files, "alpha", "1.2", requires=["beta"])
        ask(made, upgrade_packages=frozenset({"alpha"}))
        make_wheel(made.files, "alpha", "1.3", requires=["beta"])
        for name in ("beta", "setuptools", "pip", "epsilon"):
            make_wheel(made.files, name, "99.0")
        # A release that pip takes, since its requirement names it, and uv does not.
        make_wheel(made.files, "zeta", "1.0", requires=["eta>=1.0a1"])
        for version in ("1.0", "2.0a1"):
            make_wheel(made.files, "eta", version)
        yield made


@pytest.fixture
def world(resolved_once: World, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[World]:
    """A copy of the resolved stack, with a store of its own."""
    unconfigured(monkeypatch, tmp_path / "home")
    monkeypatch.setenv("UV_DEFAULT_INDEX", resolved_once.index.url)
    folder = StackFolder(path=tmp_path / "stacks" / "small")
    shutil.copytree(resolved_once.folder.path, folder.path)
    with Store(tmp_path / "store") as store:
        yield replace(resolved_once, folder=folder, store=store)


def ask(world: World, mirrors: Mirrors | None = None, **options: Any) -> Resolved:
    """Resolve with *options*."""
    return resolve(
        world.folder,
        options=ResolveOptions(**options),
        mirrors=lambda _names: mirrors or world.mirrors,
        store=world.store,
        progress=Silent(),
    )


def edit(world: World, change: Callable[[dict[str, Any]], object]) -> None:
    """Change the stack file."""
    document = tomllib.loads(world.folder.read_stack_text())
    change(document)
    (world.folder.path / STACK_FILE).write_text(toml_text(document), encoding="utf-8")


def versions(lock: Lock) -> dict[str, str]:
    return {found.name: found.version for found in lock.runtime}


def files_of(world: World) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in world.folder.path.iterdir() if path.is_file()}


def said(error: ResolveError | UsageError) -> str:
    return "\n".join((error.message, *error.details, error.hint or ""))


def closed_address() -> str:
    """Return an address at which nobody listens."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        return f"http://127.0.0.1:{server.getsockname()[1]}/simple"


# ---- what is kept ----------------------------------------------------------------------------------


def test_a_lock_that_is_up_to_date_asks_nobody_and_stays(world: World) -> None:
    world.index.requests.clear()
    before = files_of(world)
    resolved = ask(world)
    assert (resolved.changed, resolved.moved, resolved.engines) == ((), (), ())
    assert world.index.requests == []
    assert files_of(world) == before


def test_former_pins_are_kept_when_the_stack_changes(world: World) -> None:
    before = versions(world.lock)
    edit(world, lambda document: document["python"]["requires"].append("epsilon"))
    assert versions(ask(world).lock) == {**before, "epsilon": "99.0"}


def test_debian_packages_are_kept_when_the_python_part_changes(world: World) -> None:
    before = world.lock.debs
    edit(world, lambda document: document["python"]["requires"].append("beta"))
    assert ask(world).lock.debs == before


def test_python_packages_are_kept_when_nothing_of_them_changes(world: World) -> None:
    edit(world, lambda document: document.update(summary="another"))
    world.index.requests.clear()
    resolved = ask(world)
    assert LOCK_FILE in resolved.changed
    assert world.index.requests == []


def test_a_change_below_apt_asks_the_archive(world: World) -> None:
    edit(world, lambda document: document["apt"]["runtime"].append("ffmpeg"))
    resolved = ask(world, replace(world.mirrors, archives=()))
    (part,) = resolved.open
    assert (part.label, part.reason) == (
        "apt bookworm",
        "no archive of `debian` is configured on this machine",
    )
    assert resolved.lock.debs == ()
    assert "bookworm (apt): absent -> open" in resolved.moved


def test_what_moved_is_told(world: World) -> None:
    edit(world, lambda document: document["python"]["requires"].append("epsilon"))
    assert ask(world).moved == ("epsilon: absent -> 99.0",)


def test_the_answer_is_what_the_files_say(world: World) -> None:
    edit(world, lambda document: document["python"]["requires"].append("beta"))
    assert ask(world).lock == world.lock


# ---- labels ----------------------------------------------------------------------------------------


def test_a_label_is_in_the_version_that_is_locked_and_in_no_environment(world: World) -> None:
    edit(world, lambda document: document["build"][0].update(label="ours.1"))
    resolved = ask(world)
    assert versions(resolved.lock)["gamma"] == "2.0+ours.1"
    native = {found.name: found.version for found in resolved.lock.build_environment("native")}
    assert native["gamma"] == "2.0"
    assert "gamma: 2.0 -> 2.0+ours.1" in resolved.moved
    pinned = (world.folder.path / "requirements.txt").read_text()
    assert "gamma==2.0+ours.1 " in pinned


def test_a_label_compiles_nothing(world: World) -> None:
    before = world.plan
    edit(world, lambda document: document["build"][0].update(label="ours.1"))
    ask(world)
    assert world.plan.compiles == before.compiles
    assert dict(world.plan.builds)["delta"] == dict(before.builds)["delta"]
    assert dict(world.plan.builds)["gamma"] != dict(before.builds)["gamma"]


def test_what_needs_torch_is_labelled_with_the_torch_that_was_resolved(world: World) -> None:
    make_wheel(world.files, "torch", "2.1.2")

    def torch(document: dict[str, Any]) -> None:
        document["python"]["requires"].append("torch<2.2")
        document["build"][0]["needs"] = ["alpha", "torch"]
        # There is no nvcc that could compile for them.
        del document["target"]["cuda-architectures"]

    edit(world, torch)
    first = ask(world, cross_check=True).lock
    assert versions(first)["gamma"] == "2.0+pt21cu121"
    assert versions(first)["delta"] == "0.1"
    edit(world, lambda document: document["python"]["requires"].append("epsilon"))
    again = ask(world)
    assert again.moved == ("epsilon: absent -> 99.0",)
    (world.files / "torch-2.1.2-py3-none-any.whl").unlink()


def test_a_label_is_taken_back(world: World) -> None:
    edit(world, lambda document: document["build"][0].update(label="ours"))
    ask(world)
    edit(world, lambda document: document["build"][0].update(label=""))
    assert "gamma: 2.0+ours -> 2.0" in ask(world).moved


# ---- what moves ------------------------------------------------------------------------------------


def test_an_upgraded_package_moves_alone(world: World) -> None:
    lock = world.lock
    moved = ask(world, upgrade_packages=frozenset({"alpha"})).lock
    assert versions(moved) == {**versions(lock), "alpha": "1.3"}


def test_an_upgraded_package_moves_in_build_environments_too(world: World) -> None:
    moved = ask(world, upgrade_packages=frozenset({"alpha"})).lock
    build = {found.name: found.version for found in moved.build_environment("")}
    assert build["alpha"] == "1.3"


def test_an_unknown_upgraded_package_is_refused_with_the_nearest_name(world: World) -> None:
    with pytest.raises(UsageError, match="no package called `alpa`") as caught:
        ask(world, upgrade_packages=frozenset({"alpa"}))
    assert caught.value.hint == "did you mean `alpha`?"


def test_upgrade_asks_everybody_again_and_keeps_what_nobody_tells(world: World) -> None:
    before = world.lock.debs
    resolved = ask(world, replace(world.mirrors, archives=()), upgrade=True)
    assert versions(resolved.lock)["alpha"] == "1.3"
    assert resolved.lock.debs == before
    assert [part.label for part in resolved.kept] == ["apt bookworm"]
    assert resolved.open == ()


def test_upgrade_without_the_index_keeps_every_package(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    before = world.lock
    monkeypatch.setenv("UV_DEFAULT_INDEX", closed_address())
    resolved = ask(world, upgrade_packages=frozenset({"alpha"}))
    assert (resolved.lock, resolved.changed) == (before, ())
    assert [part.label for part in resolved.kept] == ["python packages"]


def test_changed_requirements_wait_for_their_index(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    edit(world, lambda document: document["python"]["requires"].append("epsilon"))
    monkeypatch.setenv("UV_DEFAULT_INDEX", closed_address())
    with pytest.raises(ResolveError, match="the default index cannot be reached"):
        ask(world)


def test_an_open_archive_is_asked_again(world: World) -> None:
    edit(world, lambda document: document["apt"]["runtime"].append("ffmpeg"))
    ask(world, replace(world.mirrors, archives=()))
    resolved = ask(world, replace(world.mirrors, archives=(("debian", (closed_address(),)),)))
    (part,) = resolved.open
    assert part.reason == "no archive of `debian` gives the suite `bookworm`"
    causes = "\n".join(dict(resolved.causes)["apt bookworm"])
    assert "Could not connect" in causes


def test_a_changed_source_folder_is_locked_anew(world: World) -> None:
    before = world.lock.source("delta").file
    (world.folder.path / "extension/delta.c").write_text("int other;\n")
    after = ask(world).lock.source("delta").file
    assert after.filename == before.filename
    assert after.sha256 != before.sha256


def test_an_sdist_is_locked_by_the_hash_of_its_bytes(world: World) -> None:
    assert world.lock.source("gamma").file.sha256 == sha("source of gamma")


def test_a_build_environment_is_resolved_under_the_runtime_pins(world: World) -> None:
    runtime = {found.name: found.wheel for found in world.lock.runtime}
    (alpha,) = (p for p in world.lock.build_environment("") if p.name == "alpha")
    assert alpha.wheel == runtime["alpha"]


def test_a_built_package_has_no_wheel_in_the_lock(world: World) -> None:
    (gamma,) = (found for found in world.lock.runtime if found.name == "gamma")
    assert (gamma.index, gamma.wheel) == ("", None)


# ---- refusals --------------------------------------------------------------------------------------


def test_a_need_that_is_not_installed_is_refused_with_the_nearest_name(world: World) -> None:
    edit(world, lambda document: document["build"][0].update(needs=["alpa"]))
    with pytest.raises(ResolveError) as caught:
        ask(world)
    assert "`build[gamma].needs`: found `alpa`" in said(caught.value)
    assert "did you mean `alpha`?" in said(caught.value)
    assert "`python.requires`" in (caught.value.hint or "")


def test_a_requirement_that_nobody_serves_touches_no_file(world: World) -> None:
    edit(world, lambda document: document["python"]["requires"].append("nobody-serves-this"))
    before = files_of(world)
    with pytest.raises(ResolveError, match="nobody-serves-this"):
        ask(world)
    assert files_of(world) == before


def test_a_wrong_stack_file_touches_no_file(world: World) -> None:
    edit(world, lambda document: document.update(colour="green"))
    before = files_of(world)
    with pytest.raises(StackError):
        ask(world)
    assert files_of(world) == before


def test_compiling_against_other_bytes_than_ship_is_refused() -> None:
    ships = package("torch")
    assert ships.wheel is not None
    other = replace(ships, wheel=replace(ships.wheel, sha256=sha("other")))
    with pytest.raises(ResolveError, match="another `torch` than ships"):
        _check_same_bytes([ships], [other], "")


# ---- two engines -----------------------------------------------------------------------------------


def test_engines_that_agree_are_named(world: World) -> None:
    assert ask(world, cross_check=True).engines == ("uv", "pip-tools")


def test_engines_that_disagree_are_refused_with_a_table(world: World) -> None:
    edit(world, lambda document: document["python"]["requires"].append("zeta"))
    before = files_of(world)
    with pytest.raises(ResolveError) as caught:
        ask(world, cross_check=True)
    assert caught.value.exit_code == 4
    assert caught.value.details == ("eta: uv 1.0, pip-tools 2.0a1",)
    assert files_of(world) == before


def test_the_other_engine_can_be_the_first(world: World) -> None:
    edit(world, lambda document: document["python"]["requires"].append("beta"))
    assert ask(world, engine="pip-tools").engines == ("pip-tools",)


# ---- pins of built wheels --------------------------------------------------------------------------


def test_a_wheel_that_nobody_built_is_not_pinned(world: World) -> None:
    assert ask(world).unpinned == ("gamma", "delta")


def test_a_built_wheel_is_pinned(world: World) -> None:
    world.realise()
    resolved = ask(world)
    info = world.store.info(world.built("gamma"))
    pin = resolved.lock.pin("gamma")
    assert info is not None
    assert pin is not None
    assert (pin.wheel.filename, pin.wheel.sha256, pin.wheel.size) == info.outputs[0]
    assert resolved.unpinned == ()


def test_a_pin_stays_when_the_store_is_emptied(world: World) -> None:
    world.realise()
    pins = ask(world).lock.pins
    world.store.remove(world.built("gamma"))
    assert ask(world).lock.pins == pins


def test_a_forgotten_pin_is_gone(world: World) -> None:
    world.realise()
    ask(world)
    world.store.remove(world.built("gamma"))
    resolved = ask(world, repin=frozenset({"gamma"}))
    assert resolved.unpinned == ("gamma",)
    assert resolved.lock.pin("delta")


def test_an_unknown_forgotten_pin_is_refused_with_the_nearest_name(world: World) -> None:
    with pytest.raises(UsageError, match="no build called `gama`") as caught:
        ask(world, repin=frozenset({"gama"}))
    assert caught.value.hint == "did you mean `gamma`?"


def test_a_pin_is_dropped_when_its_build_becomes_another(world: World) -> None:
    world.realise()
    ask(world)
    edit(world, lambda document: document["build"][0]["env"].update(FORCE_CUDA="0"))
    assert "gamma" in ask(world).unpinned


# ---- writing ---------------------------------------------------------------------------------------


def test_resolving_twice_from_nothing_gives_the_same_files(world: World) -> None:
    edit(world, lambda document: document["python"]["requires"].append("beta"))
    ask(world)
    first = files_of(world)
    edit(world, lambda document: document["python"]["requires"].remove("beta"))
    ask(world)
    edit(world, lambda document: document["python"]["requires"].append("beta"))
    ask(world)
    assert files_of(world) == first


def test_no_address_of_the_index_is_written(world: World) -> None:
    address = world.index.url.encode()
    locks = {name: data for name, data in files_of(world).items() if name != STACK_FILE}
    assert [name for name, data in locks.items() if address in data] == []


def test_an_interrupted_write_leaves_a_lock_that_is_refused(world: World) -> None:
    edit(world, lambda document: document["python"]["requires"].append("beta"))
    before = (world.folder.path / LOCK_FILE).read_bytes()
    ask(world)
    # What a run leaves that was killed before it wrote the last file.
    (world.folder.path / LOCK_FILE).write_bytes(before)
    with pytest.raises(LockError, match="is not as it was written"):
        world.folder.read_lock()


def test_the_file_that_vouches_for_the_others_is_written_last(world: World) -> None:
    edit(world, lambda document: document["python"]["requires"].append("beta"))
    before = files_of(world)
    (world.folder.path / LOCK_FILE).unlink()
    # Nothing can be renamed over a folder that is not empty.
    (world.folder.path / LOCK_FILE / "in-the-way").mkdir(parents=True)
    with pytest.raises(UsageError, match="cannot be written"):
        world.folder.write_texts({LOCK_FILE: "new", "pylock.toml": "new", "requirements.txt": "new"})
    after = files_of(world)
    assert (after["pylock.toml"], after["requirements.txt"]) == (b"new", b"new")
    assert before["pylock.toml"] != b"new"


def test_a_build_environment_that_is_no_more_loses_its_lock(world: World) -> None:
    edit(world, lambda document: document["build"].pop())
    resolved = ask(world)
    assert "pylock.build-native.toml" in resolved.changed
    assert not (world.folder.path / "pylock.build-native.toml").exists()


# ---- Debian packages -------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("interpreter", "expected"),
    [
        ({"apt": "python3"}, ["base", "python3", "zlib"]),
        ({"standalone": {"url": ["https://example.org/a.tar.gz"], "sha256": "0" * 64}}, ["base"]),
    ],
    ids=["apt", "standalone"],
)
def test_debian_packages_are_asked_of_the_configured_archive(
    world: World,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    interpreter: dict[str, Any],
    expected: list[str],
) -> None:
    need("apt-get", "dpkg-deb", "gpg", "gpgv")
    key = SigningKey(tmp_path / "gpg")
    try:
        archive = Archive(tmp_path / "debian", key)
        archive.add("base", Essential="yes")
        archive.add("python3", "3.11.2-1", Depends="zlib")
        archive.add("zlib")
        archive.publish()
    finally:
        key.close()
    (tmp_path / "keyrings").mkdir()
    (tmp_path / "keyrings/debian-archive-keyring.gpg").write_bytes(key.keyring.read_bytes())
    monkeypatch.setattr(apt, "_KEYRINGS", tmp_path / "keyrings")
    edit(world, lambda document: document["base"]["debian"].update(suite=SUITE))
    edit(world, lambda document: document["apt"].update(toolchain=[]))
    edit(world, lambda document: document.update(interpreter=interpreter))
    resolved = ask(world, replace(world.mirrors, archives=(("debian", (archive.address,)),)))
    assert [deb.package for deb in resolved.lock.debs] == expected
