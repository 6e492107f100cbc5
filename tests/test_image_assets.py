"""Assets in an image that a real engine has built: where they are, whose, and in which layers."""

from __future__ import annotations

import json
import os
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import pytest

from lockbuild.digest import sha256_of
from lockbuild.dockerfile import AssetFile, BundledAsset
from lockbuild.errors import ImageError
from lockbuild.image.building import build
from lockbuild.image.containers import run
from lockbuild.plan import EPOCH
from lockbuild.stack import Asset, Mount
from tests.test_dockerfile import STACK
from tests.test_image import engine, installer, make_context, rootfs  # noqa: F401 - fixtures

if TYPE_CHECKING:
    from pathlib import Path

    from lockbuild.image import Engine, ImageFacts

WEIGHTS, MEAN = b"weights" * 1000, b"mean"
MODEL = "/usr/share/models/m.pth"
# Below a symbolic link of the base: /lib leads to /usr/lib.
LINKED = "/lib/weights.pth"
HOME = "/home/lockbuild/.torch/w.pth"


@dataclass(frozen=True, slots=True, kw_only=True)
class Made:
    """An image with assets, and its context."""

    context: Path
    facts: ImageFacts


def declared(*assets: BundledAsset) -> tuple[Asset, ...]:
    """Return assets as their stack declares them."""
    return tuple(
        Asset(name=asset.name, path=asset.files[0].path)
        if not asset.files[0].context
        else Asset(
            name=asset.name,
            path=asset.files[0].path.removesuffix(f"/{asset.files[0].context}"),
            members=tuple((file.context, file.context) for file in asset.files),
        )
        for asset in assets
    )


def asset(context: Path, name: str, files: dict[str, tuple[str, bytes]]) -> BundledAsset:
    """Put an asset into the context: name below it -> path in the image and content."""
    made = []
    for inside, (path, data) in files.items():
        file = context / "assets" / name / inside if inside else context / "assets" / name
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_bytes(data)
        file.chmod(0o600)
        made.append(AssetFile(context=inside, path=path, size=len(data), sha256=sha256_of(data)))
    return BundledAsset(name=name, files=tuple(made))


def context_of(folder: Path, rootfs: Path, installer: Path, broken: bytes = b"") -> Path:
    folder.mkdir()
    assets = (
        asset(folder, "weights.pth", {"": (LINKED, WEIGHTS)}),
        asset(folder, "home", {"": (HOME, MEAN)}),
        asset(
            folder,
            "data",
            {"m.pth": (MODEL, WEIGHTS), "a/mean.npz": ("/usr/share/models/a/mean.npz", MEAN)},
        ),
    )
    stack = replace(
        STACK,
        assets=declared(*assets),
        mounts=(Mount(path="/app/smpl", holds=("*.pkl",), why="licence"),),
    )
    make_context(folder, stack, rootfs, installer, broken=broken, assets=assets)
    return folder


@pytest.fixture(scope="module")
def made(
    engine: Engine,
    rootfs: Path,
    installer: Path,
    tmp_path_factory: pytest.TempPathFactory,
) -> Made:
    folder = tmp_path_factory.mktemp("assets")
    context = context_of(folder / "context", rootfs, installer)
    return Made(
        context=context,
        facts=build(context, tag="assets:1", engine=engine, log=folder / "log", epoch=EPOCH),
    )


def look(engine: Engine, program: str) -> str:
    ended = run("assets:1", ["--preflight-skip", "python3", "-c", program], engine=engine)
    assert (ended.returncode, ended.stderr) == (0, "")
    return ended.stdout.strip()


@pytest.mark.usefixtures("made")
@pytest.mark.parametrize("path", [LINKED, HOME, MODEL])
def test_an_asset_is_roots_and_everybody_can_read_it(engine: Engine, path: str) -> None:
    program = f"import os; s = os.stat({path!r}); print(oct(s.st_mode), s.st_uid, s.st_gid, s.st_mtime, len(open({path!r}, 'rb').read()))"
    size = len(MEAN) if path == HOME else len(WEIGHTS)
    assert look(engine, program) == f"0o100444 0 0 {float(EPOCH)} {size}"


@pytest.mark.usefixtures("made")
def test_links_and_folders_of_the_base_stay_as_they_are(engine: Engine) -> None:
    program = "import os; print(os.readlink('/lib'), oct(os.stat('/usr/share').st_mode), os.stat('/home/lockbuild').st_uid)"
    assert look(engine, program) == "usr/lib 0o40755 1000"


@pytest.mark.usefixtures("made")
def test_the_preflight_hashes_assets_and_names_the_flag_of_a_mount(engine: Engine) -> None:
    ended = run("assets:1", ["--preflight-only", "--preflight-full", "--preflight-json"], engine=engine)
    found = {(one["check"], one["subject"]): one for one in json.loads(ended.stdout)["findings"]}
    assert ended.returncode == 78
    assert found["asset", MODEL]["state"] == "ok"
    assert found["mount", "/app/smpl"]["flag"] == "-v /path/to/smpl:/app/smpl"


def test_a_second_build_gives_the_same_layers(made: Made, engine: Engine, tmp_path: Path) -> None:
    for file in (made.context / "assets").rglob("*"):
        os.utime(file, (1_700_000_000, 1_700_000_000))
    again = build(
        made.context, tag="assets:2", engine=engine, log=tmp_path / "log", epoch=EPOCH, cache=False
    )
    assert again.id == made.facts.id


def test_another_package_leaves_the_layers_of_assets(
    made: Made,
    engine: Engine,
    rootfs: Path,
    installer: Path,
    tmp_path: Path,
) -> None:
    context = context_of(tmp_path / "context", rootfs, installer, broken=b"x = 1\n")
    other = build(context, tag="assets:3", engine=engine, log=tmp_path / "log", epoch=EPOCH)
    # The root file system and three assets.
    assert other.layers[:4] == made.facts.layers[:4]
    assert other.layers[4] != made.facts.layers[4]


def test_an_asset_in_place_of_a_file_of_the_base_is_refused(
    engine: Engine,
    rootfs: Path,
    installer: Path,
    tmp_path: Path,
) -> None:
    context = tmp_path / "context"
    context.mkdir()
    assets = (asset(context, "evil", {"": ("/etc/passwd", b"root::0:0::/:/bin/sh")}),)
    stack = replace(STACK, assets=declared(*assets))
    make_context(context, stack, rootfs, installer, assets=assets)
    with pytest.raises(ImageError) as caught:
        build(context, tag="assets:4", engine=engine, log=tmp_path / "log", epoch=EPOCH)
    assert "the base has /etc/passwd already: give the asset another path" in "\n".join(
        caught.value.details
    )
