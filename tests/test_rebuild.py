"""Making a wheel again from the record in it: real store, real downloads, builds as the tests script them."""

from __future__ import annotations

import json
import secrets
import zipfile
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import pytest

from lockbuild import wheels
from lockbuild.derivation import Build, Fetch, PoolFile, RegistryImage
from lockbuild.digest import canonical_json
from lockbuild.errors import BuildError, FetchError, LockError, UsageError
from lockbuild.progress import Silent
from lockbuild.provenance import RECORD
from lockbuild.rebuilding import Rebuilder, Rebuilt, read_claim, rebuild, refuse_absent
from lockbuild.store import Store
from tests.fakes import NATIVE, ScriptedBuilder, giving, wheel_files
from tests.values import sha
from tests.wheels import make_wheel
from tests.worlds import World, make_world

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> Iterator[World]:
    with make_world(tmp_path_factory.mktemp("world")) as made:
        made.realise()
        yield made


@pytest.fixture
def elsewhere(tmp_path: Path) -> Iterator[Store]:
    """The store of somebody who has nothing but the wheel."""
    with Store(tmp_path / "elsewhere") as store:
        yield store


def wheel_of(world: World, name: str = "gamma") -> Path:
    (wheel,) = world.store.locate(world.built(name)).glob("*.whl")
    return wheel


def rebuilder(
    world: World, file: Path, store: Store, builder: ScriptedBuilder | None = None, **changes: Any
) -> Rebuilder:
    chosen = builder or ScriptedBuilder()
    claim = read_claim(file)
    made = Rebuilder(
        claim=claim,
        plan=claim.plan(),
        stack_folder=world.folder.path,
        store=store,
        mirrors=lambda _names: world.mirrors,
        builder=lambda: chosen,
        root_builder=lambda: chosen,
        prefix_builder=lambda: chosen,
        progress=Silent(),
        cores=1,
    )
    return replace(made, **changes)


def changed(wheel: Path, folder: Path, member: str, change: Callable[[bytes], bytes]) -> Path:
    """Write the wheel with one member changed, and all that RECORD says of it put right."""
    with zipfile.ZipFile(wheel) as archive:
        content = {info.filename: archive.read(info) for info in archive.infolist()}
    (name,) = (name for name in content if name.endswith(member))
    content[name] = change(content[name])
    raw = folder / "raw" / wheel.name
    raw.parent.mkdir()
    with zipfile.ZipFile(raw, "w") as archive:
        for place, data in content.items():
            archive.writestr(place, data)
    wheels.normalise_wheel(raw, folder / wheel.name, epoch=315532800)
    return folder / wheel.name


# ---- the same again --------------------------------------------------------------------------------


def test_wheel_is_made_again_where_nothing_of_it_is(world: World, elsewhere: Store) -> None:
    builder = ScriptedBuilder()
    found = rebuild(rebuilder(world, wheel_of(world), elsewhere, builder))
    assert (found.identical, found.compiled, found.differences) == (True, True, ())
    assert found.path == world.built("gamma")
    assert builder.names[-1] == "gamma-2.0"
    assert "bookworm-toolchain" in builder.names


def test_wheel_that_needs_another_build_is_made_again(world: World, elsewhere: Store) -> None:
    builder = ScriptedBuilder()
    found = rebuild(rebuilder(world, wheel_of(world, "delta"), elsewhere, builder))
    assert found.identical
    assert {"gamma-2.0", "delta-0.1"} <= set(builder.names)


def test_what_the_store_has_is_compared_and_not_compiled(world: World) -> None:
    builder = ScriptedBuilder()
    found = rebuild(rebuilder(world, wheel_of(world), world.store, builder))
    assert (found.identical, found.compiled, builder.names) == (True, False, [])


def test_again_compiles_though_the_store_has_it(world: World) -> None:
    builder = ScriptedBuilder()
    found = rebuild(rebuilder(world, wheel_of(world), world.store, builder), again=True)
    assert (found.identical, found.compiled, builder.names) == (True, True, ["gamma-2.0"])


def test_nothing_is_kept_from_garbage_collection(world: World, elsewhere: Store) -> None:
    rebuild(rebuilder(world, wheel_of(world), elsewhere))
    assert elsewhere.roots() == {}


# ---- something else --------------------------------------------------------------------------------


def test_changed_wheel_is_told_member_by_member(world: World, tmp_path: Path, elsewhere: Store) -> None:
    file = changed(wheel_of(world), tmp_path, "_ext.so", lambda data: data + b"!")
    found = rebuild(rebuilder(world, file, elsewhere))
    assert not found.identical
    assert any("gamma/_ext.so" in line for line in found.differences)


def test_other_compiler_output_is_told(world: World, elsewhere: Store) -> None:
    other = giving(("gamma", "2.0", NATIVE, wheel_files("gamma", b"others")))
    found = rebuild(rebuilder(world, wheel_of(world), elsewhere, ScriptedBuilder({"gamma-2.0": other})))
    assert isinstance(found, Rebuilt)
    assert not found.identical


def test_what_cannot_be_fetched_is_named(world: World, elsewhere: Store) -> None:
    world.index.faults.status["gamma-2.0.tar.gz"] = 404
    try:
        with pytest.raises(FetchError) as caught:
            rebuild(rebuilder(world, wheel_of(world), elsewhere))
    finally:
        world.index.faults.status.clear()
    assert "gamma-2.0.tar.gz" in "\n".join((caught.value.message, *caught.value.details))


def test_folder_beside_the_stack_file_is_asked_for(world: World, elsewhere: Store) -> None:
    claim = read_claim(wheel_of(world, "delta"))
    with pytest.raises(UsageError, match="lay beside a stack file") as caught:
        refuse_absent(claim, elsewhere)
    assert caught.value.hint == "--beside FOLDER: the folder of that stack"
    assert caught.value.details[0].startswith("extension: sha256 ")
    refuse_absent(claim, world.store)


def test_folder_that_is_not_where_the_user_says_is_told(
    world: World, elsewhere: Store, tmp_path: Path
) -> None:
    realiser = rebuilder(world, wheel_of(world, "delta"), elsewhere, stack_folder=tmp_path)
    with pytest.raises(LockError, match="`extension` cannot be read"):
        rebuild(realiser)


# ---- what would run outside the sandbox ------------------------------------------------------------


def rooted(world: World) -> Store:
    """Return a store with all but the root file systems and what was built in them."""
    store = Store(world.store.root.parent / f"fetched-{secrets.token_hex(4)}")
    world_of = replace(world, store=store)
    world_of.realiser().fetch()
    return store


def deb_of(world: World) -> tuple[Fetch, Path]:
    """Return a Debian package of the toolchain, and the archive's file."""
    toolchain = world.plan.derivations[world.built("toolchain")]
    assert isinstance(toolchain, Build)
    fetch = world.plan.derivations[toolchain.inputs[0][1]]
    assert isinstance(fetch, Fetch)
    assert isinstance(fetch.where, PoolFile)
    return fetch, world.archive / fetch.where.path


def test_package_is_asked_of_its_archive_though_the_store_has_it(world: World) -> None:
    fetch, file = deb_of(world)
    kept = file.read_bytes()
    builder = ScriptedBuilder()
    with rooted(world) as store:
        (store.downloads / fetch.sha256).write_bytes(
            kept
        )  # as another fetch of the same bytes leaves it
        file.unlink()
        try:
            with pytest.raises(FetchError) as caught:
                rebuild(rebuilder(world, wheel_of(world), store, builder))
        finally:
            file.write_bytes(kept)
        assert any(fetch.filename in line for line in caught.value.details)
        assert builder.names == []
        assert rebuild(rebuilder(world, wheel_of(world), store, builder)).identical


def test_package_that_the_archive_has_otherwise_is_not_installed(world: World) -> None:
    _, file = deb_of(world)
    kept = file.read_bytes()
    builder = ScriptedBuilder()
    with rooted(world) as store:
        file.write_bytes(b"!" * len(kept))
        try:
            with pytest.raises(FetchError):
                rebuild(rebuilder(world, wheel_of(world), store, builder))
        finally:
            file.write_bytes(kept)
    assert builder.names == []


def test_root_that_the_store_has_is_not_fetched_for(world: World) -> None:
    _, file = deb_of(world)
    kept = file.read_bytes()
    file.unlink()
    try:
        assert rebuild(rebuilder(world, wheel_of(world), world.store), again=True).identical
    finally:
        file.write_bytes(kept)


def on_image(world: World, store: Store) -> Rebuilder:
    """Return what makes gamma again, in a toolchain that stands on an image."""
    where = RegistryImage(reference="docker.io/nvidia/cuda:11.3.1", architecture="amd64")
    digest = sha("image")
    image = Fetch(filename=f"image-{digest[:12]}", sha256=digest, size=1, where=where)
    made = rebuilder(world, wheel_of(world), store)
    former = world.plan.derivations[world.built("toolchain")]
    assert isinstance(former, Build)
    root = replace(
        former,
        command=(f"--image=sha256:{digest}", *former.command[1:]),
        inputs=tuple(sorted((*former.inputs, ("image", image.path)))),
    )
    compiled = made.plan.derivations[made.claim.provenance.build]
    assert isinstance(compiled, Build)
    moved = replace(compiled, toolchain=root.path)
    stamped = replace(made.claim.stamped, inputs=(("wheel", moved.path),))
    derivations = {**made.plan.derivations, **{one.path: one for one in (image, root, moved, stamped)}}
    claim = replace(
        made.claim,
        provenance=replace(made.claim.provenance, build=moved.path, derivations=derivations),
        stamped=stamped,
    )
    return replace(made, claim=claim, plan=replace(made.plan, derivations=derivations))


def test_programs_of_an_image_run_only_where_it_is_trusted(world: World, elsewhere: Store) -> None:
    realiser = on_image(world, elsewhere)
    with pytest.raises(UsageError, match="would run outside the sandbox") as caught:
        rebuild(realiser)
    assert caught.value.details == (f"docker.io/nvidia/cuda:11.3.1@sha256:{sha('image')}",)
    assert caught.value.hint is not None
    assert caught.value.hint.startswith("--trust-image")
    assert elsewhere.paths() == ()
    # Nobody has that image; it is asked for.
    with pytest.raises(FetchError, match="could not be fetched"):
        rebuild(replace(realiser, trust_image=True))


# ---- records ---------------------------------------------------------------------------------------


def test_file_that_is_not_there_is_told(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="there is no file"):
        read_claim(tmp_path / "a-1-py3-none-any.whl")


def test_what_is_no_wheel_is_told(tmp_path: Path) -> None:
    file = tmp_path / "a-1-py3-none-any.whl"
    file.write_bytes(b"text")
    with pytest.raises(UsageError, match="is no wheel to be made again"):
        read_claim(file)


def test_wheel_without_a_record_is_told(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="does not say where it comes from") as caught:
        read_claim(make_wheel(tmp_path, "a", "1.0"))
    assert caught.value.hint == "only wheels that lockbuild has built do"


def test_record_of_another_wheel_is_told(world: World, tmp_path: Path) -> None:
    with zipfile.ZipFile(wheel_of(world)) as archive:
        (name,) = (name for name in archive.namelist() if name.endswith(RECORD))
        record = archive.read(name)
    other = make_wheel(
        tmp_path, "gamma", "3.0", tag=NATIVE, files={f"gamma-3.0.dist-info/{RECORD}": record}
    )
    with pytest.raises(BuildError, match=r"is that of gamma 2\.0"):
        read_claim(other)


def tampered(change: Callable[[list[dict[str, str]]], None]) -> Callable[[bytes], bytes]:
    def rewritten(data: bytes) -> bytes:
        document = json.loads(data)
        change(document["formulation"][0]["properties"])
        return canonical_json(document) + b"\n"

    return rewritten


def replaced(old: str, new: str) -> Callable[[bytes], bytes]:
    def change(properties: list[dict[str, str]]) -> None:
        found = [one for one in properties if old in one["value"]]
        assert found
        for one in found:
            one["value"] = one["value"].replace(old, new)

    return tampered(change)


@pytest.mark.parametrize(
    "change",
    [
        lambda _data: b"{}",
        lambda data: data + b" ",
        lambda data: data[:-20],
        lambda data: b"\xff" + data,
        replaced("alpha-1.2-py3", "../alpha-1.2-py3"),
        replaced('"extra"', '"../../x"'),
        replaced('"url":"', '"url":"-o'),
        replaced("--suite=bookworm", "--suite=../../home"),
        replaced("--suite=bookworm", "--suite=--setup-hook=id"),
        replaced("--architecture=amd64", "--architecture=amd64$(id)"),
        replaced('"kind":"pool"', '"kind":["pool"]'),
        replaced('"kind":"pool"', '"kind":"shell"'),
        replaced("--no-deps", "--no-deps --pre"),
        replaced('"SOURCE_DATE_EPOCH","315532800"', '"SOURCE_DATE_EPOCH","1"'),
    ],
    ids=lambda change: getattr(change, "__name__", ""),
)
def test_tampered_record_is_not_believed(
    world: World, tmp_path: Path, change: Callable[[bytes], bytes]
) -> None:
    file = changed(wheel_of(world), tmp_path, RECORD, change)
    with pytest.raises(BuildError, match="is not to be believed"):
        read_claim(file)


def test_forged_patch_is_refused(world: World, tmp_path: Path, elsewhere: Store) -> None:
    from lockbuild.derivation import BesideFile
    from lockbuild.provenance import Provenance
    from lockbuild.rebuilding import Claim, provide_patches

    patch = Fetch(filename="a.patch", sha256=sha("a"), size=1, where=BesideFile(path="a.patch"))
    claim = read_claim(wheel_of(world))
    provenance = Provenance(
        name="gamma", version="2.0", build=claim.provenance.build, derivations={patch.path: patch}
    )
    forged = Claim(file=claim.file, provenance=provenance, stamped=claim.stamped)
    with pytest.raises(BuildError, match=r"does not hold the patch `a\.patch`"):
        provide_patches(forged, elsewhere)
    file = changed(
        wheel_of(world), tmp_path, "WHEEL", lambda data: data
    )  # the same wheel, as normalised again
    assert file.read_bytes() == wheel_of(world).read_bytes()
