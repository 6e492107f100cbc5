"""A small stack with everything behind its lock in the store, and the image that an engine would make of it.

The image is put together here by hand, not by what the audit expects of it: that both agree is what tests show.
"""

from __future__ import annotations

import hashlib
import io
import json
import tarfile
import zipfile
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from lockbuild.assetlock import LockedAsset
from lockbuild.audit.looking import look_into
from lockbuild.digest import Sha256, sha256_of
from lockbuild.dockerfile import TEMPLATES, run_settings
from lockbuild.image.archive import read_archive
from lockbuild.lock import BuiltPin, LockedFile, LockedSource
from lockbuild.packing import make_manifest, object_file
from lockbuild.preflight import preflight_texts
from lockbuild.store.trees import listing, listing_sha256
from tests.fakes import NATIVE, ScriptedBuilder, giving, wheel_files
from tests.images import Member, layer
from tests.values import stack_document
from tests.worlds import make_world

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from lockbuild.audit import ImageContents
    from lockbuild.derivation import BuildTask
    from lockbuild.lock import Lock
    from lockbuild.plan import Plan
    from tests.worlds import World

__all__ = [
    "SITE",
    "Made",
    "audited_world",
    "installed",
    "made_image",
    "made_venv",
    "seen",
    "templates",
    "write_archive",
]

SITE = "opt/venv/lib/python3.11/site-packages"
BILL = '{"bomFormat": "CycloneDX"}'
DOCUMENTS = {"small.cdx.json": BILL, "small.NOTICE": "NOTICE"}
"""What an image says of itself."""
WEIGHTS = b"weights of the authors"
APP = {"main.py": b"print('app')\n", "pkg/data.txt": b"data\n"}
STATUS = """\
Package: libc6
Status: install ok installed
Architecture: amd64
Version: 2.36-9+deb12u10

Package: python3
Status: install ok installed
Architecture: amd64
Version: 3.11.2-1+b1

Package: tzdata
Status: install ok installed
Architecture: all
Version: 2025b-0+deb12u1

"""
PASSWD = b"root:x:0:0:root:/root:/bin/bash\n"
GROUP = b"root:x:0:\nshadow:x:42:\n"
_LIST = b"/.\n/usr\n/usr/bin\n/usr/bin/python3.11\n"
ROOT = (
    Member(name="./"),
    Member(name="./bin", link="usr/bin"),
    Member(name="./etc"),
    Member(name="./etc/passwd", content=PASSWD),
    Member(name="./etc/group", content=GROUP),
    Member(name="./usr"),
    Member(name="./usr/bin"),
    Member(name="./usr/bin/chage", content=b"chage", mode=0o2755, owner=(0, 42)),
    Member(name="./usr/bin/python3.11", content=b"python", mode=0o755),
    Member(name="./usr/bin/python3", link="python3.11"),
    Member(name="./usr/bin/su", content=b"su", mode=0o4755),
    Member(name="./usr/lib"),
    Member(name="./usr/lib/libc.so.6", content=b"libc"),
    Member(name="./usr/lib/libc-copy.so", hard="./usr/lib/libc.so.6"),
    Member(name="./usr/share/python-wheels/pip.whl", content=b"a wheel of the base"),
    Member(name="./var/lib/dpkg/status", content=STATUS.encode()),
    Member(name="./var/lib/dpkg/info/python3.list", content=_LIST),
)
"""The runtime's root file system, as the store has it."""


VENDORED = {
    "gamma/_vendor/inner/__init__.py": b"",
    "gamma/_vendor/inner-1.0.dist-info/METADATA": b"Metadata-Version: 2.1\nName: inner\nVersion: 1.0\n",
    "gamma/_vendor/inner-1.0.dist-info/RECORD": b"inner/__init__.py,,\n",
}
"""A package inside another's, as setuptools has some: nobody installed it."""


def document() -> dict[str, Any]:
    """Return the small stack with an asset, a mount and a source."""
    weights = {
        "name": "weights",
        "url": ["https://zenodo.org/weights.bin"],
        "sha256": sha256_of(WEIGHTS),
        "path": "/app/weights/model.bin",
        "license": "MIT",
    }
    smpl = {
        "name": "smpl",
        "policy": "mount",
        "path": "/app/body_models",
        "holds": ["SMPL_NEUTRAL.pkl"],
        "why": "its licence forbids passing it on",
    }
    app = {
        "name": "app",
        "git": "https://softwareheritage.org/app",
        "commit": "c" * 40,
        "path": "/app",
        "license": "MIT",
    }
    base = {"debian": {"suite": "bookworm", "components": ["main"], "snapshot": "20250601T000000Z"}}
    return stack_document(asset=[weights, smpl], source=[app], base=base)


@contextmanager
def audited_world(parent: Path) -> Iterator[World]:
    """Give the world of `document`, whose store has everything."""
    with make_world(parent, document=document()) as world:
        tree = parent / "tree"
        for name, data in APP.items():
            (tree / name).parent.mkdir(parents=True, exist_ok=True)
            (tree / name).write_bytes(data)
        file = LockedFile(filename="app", sha256=listing_sha256(listing(tree)))
        app = LockedSource(name="app", version="", index="", file=file, commit="c" * 40)
        weights = LockedAsset(name="weights", sha256=sha256_of(WEIGHTS), size=len(WEIGHTS))
        lock = world.lock
        world.relock(replace(lock, sources=(*lock.sources, app), assets=(weights,)))
        (parent / "weights").write_bytes(WEIGHTS)
        world.store.add_file(
            dict(world.plan.assets)["weights"], parent / "weights", sha256=sha256_of(WEIGHTS)
        )
        world.store.add_folder(dict(world.plan.sources)["app"], tree)
        gamma = giving(("gamma", "2.0", NATIVE, {**wheel_files("gamma"), **VENDORED}))
        recipes = {"bookworm-runtime": _root, "gamma-2.0": gamma}
        world.realise(ScriptedBuilder(name="sandbox", recipes=recipes))
        world.relock(replace(world.lock, pins=_pins(world)))
        yield world


def _root(_task: BuildTask, out: Path) -> None:
    (out / "rootfs.tar").write_bytes(layer(*ROOT))


def _pins(world: World) -> tuple[BuiltPin, ...]:
    pins = []
    for name, path in world.plan.builds:
        info = world.store.info(path)
        assert info is not None
        filename, sha256, size = info.outputs[0]
        file = LockedFile(filename=filename, sha256=Sha256(sha256), size=size)
        pins.append(BuiltPin(name=name, derivation=path, wheel=file))
    return tuple(pins)


def templates() -> dict[str, str]:
    """Return the templates that lockbuild comes with."""
    folder = Path(__file__).parents[1] / "templates"
    return {name: (folder / name).read_text(encoding="utf-8") for name in TEMPLATES}


# ---- the image -------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True, kw_only=True)
class Made:
    """An image: layers with the instruction of each, and its configuration."""

    layers: tuple[tuple[str, bytes], ...]
    config: Mapping[str, Any]
    history: tuple[tuple[str, bool], ...] = field(default=())
    """Further instructions, and whether each is of a layer."""

    def above(self, instruction: str, *members: Member) -> Made:
        """Return this image with a layer on top."""
        return replace(self, layers=(*self.layers, (instruction, layer(*members))))

    def configured(self, instruction: str, **changes: Any) -> Made:
        """Return this image with another configuration, set by *instruction*."""
        return replace(
            self,
            config={**self.config, **changes},
            history=(*self.history, (instruction, False)),
        )


def made_image(world: World, lock: Lock | None = None) -> Made:
    """Return the image of *world*, or of another lock, as an engine makes it of the rendered Dockerfile."""
    settings = run_settings(world.stack, lock or world.lock)
    labels = {**dict(settings.labels), "io.lockbuild.sbom": f"sha256:{sha256_of(BILL.encode())}"}
    sbom = [
        Member(name=f"usr/share/sbom/{name}", content=text.encode()) for name, text in DOCUMENTS.items()
    ]
    app = [
        Member(name="app/"),
        *(Member(name=f"app/{name}", content=data) for name, data in APP.items()),
    ]
    return Made(
        layers=(
            ("ADD rootfs/runtime.tar /", layer(*ROOT)),
            (
                "COPY --from=asset-1 /image/ /",
                layer(Member(name="app/weights/model.bin", content=WEIGHTS, mode=0o444)),
            ),
            ("COPY --from=source-1 /image/ /", layer(*app)),
            ("COPY --from=environment /image/ /", layer(*_environment(world))),
            ("COPY --from=preflight /image/ /", layer(*_preflight(world), *sbom)),
        ),
        config={
            "Env": [f"{name}={value}" for name, value in settings.env],
            "Labels": {**labels, "io.lockbuild.context": "0"},
            "User": "1000:1000",
            "WorkingDir": "/workspace",
            "Entrypoint": ["/opt/lockbuild/entrypoint"],
            "Cmd": ["python3"],
        },
    )


def _environment(world: World) -> Iterator[Member]:
    yield Member(name="etc/passwd", content=PASSWD + b"lockbuild:x:1000:1000::/home/lockbuild:/bin/sh\n")
    yield Member(name="etc/group", content=GROUP + b"lockbuild:x:1000:\n")
    yield Member(name="home/lockbuild", owner=(1000, 1000))
    yield Member(name="opt/venv/bin/activate", content=b"# activates\n")
    yield Member(name="opt/venv/bin/python", link="python3.11")
    yield Member(name="opt/venv/bin/python3.11", link="/usr/bin/python3.11")
    yield Member(name="opt/venv/lib64", link="lib")
    yield Member(name="opt/venv/pyvenv.cfg", content=b"home = /usr/bin\n")
    manifest = make_manifest(world.stack, world.lock, world.plan, world.store)
    for entry in manifest.wheels:
        yield from installed(object_file(world.store, entry))


def installed(wheel: Path) -> Iterator[Member]:
    """Yield what pip makes of a wheel, with compiled modules."""
    with zipfile.ZipFile(wheel) as archive:
        names = archive.namelist()
        tops = (name.split("/")[0] for name in names)
        folder = next(top for top in tops if top.endswith(".dist-info"))
        for name in names:
            data = archive.read(name)
            if name == f"{folder}/RECORD":
                data += f"{folder}/INSTALLER,,\n".encode()
            yield Member(name=f"{SITE}/{name}", content=data)
            if name.endswith(".py"):
                parent, _, module = name.rpartition("/")
                cached = f"{parent}/__pycache__/{module[:-3]}.cpython-311.pyc".removeprefix("/")
                yield Member(name=f"{SITE}/{cached}", content=b"compiled " + data)
        yield Member(name=f"{SITE}/{folder}/INSTALLER", content=b"pip\n")
        yield Member(name=f"{SITE}/{folder}/REQUESTED", content=b"")


def _preflight(world: World) -> Iterator[Member]:
    weights = [("/app/weights/model.bin", len(WEIGHTS), sha256_of(WEIGHTS))]
    for name, text in preflight_texts(world.stack, templates=templates(), assets=weights).items():
        mode = 0o755 if name.endswith("entrypoint") else 0o644
        yield Member(name=f"opt/lockbuild/{name.rpartition('/')[2]}", content=text.encode(), mode=mode)


def write_archive(file: Path, image: Made) -> Path:
    """Write *image* as `docker save` does, and return the file."""
    digests = [hashlib.sha256(data).hexdigest() for _, data in image.layers]
    steps = [*((text, True) for text, _ in image.layers), *image.history]
    config = json.dumps(
        {
            "architecture": "amd64",
            "os": "linux",
            "config": image.config,
            "rootfs": {"type": "layers", "diff_ids": [f"sha256:{digest}" for digest in digests]},
            "history": [
                {"created_by": text, **({} if made else {"empty_layer": True})} for text, made in steps
            ],
        }
    ).encode()
    name = f"{hashlib.sha256(config).hexdigest()}.json"
    manifest = [
        {
            "Config": name,
            "RepoTags": ["small:1"],
            "Layers": [f"{digest}/layer.tar" for digest in digests],
        }
    ]
    members = {
        f"{digest}/layer.tar": data for digest, (_, data) in zip(digests, image.layers, strict=True)
    }
    members |= {name: config, "manifest.json": json.dumps(manifest).encode()}
    with tarfile.open(file, "w") as archive:
        for member, data in members.items():
            info = tarfile.TarInfo(member)
            info.size = len(data)
            archive.addfile(info, io.BytesIO(data))
    return file


def seen(
    world: World, file: Path, *, lock: Lock | None = None, plan: Plan | None = None
) -> ImageContents:
    """Return what an audit of *world*, or of another lock and plan, sees in the archive *file*."""
    return look_into(
        file.name,
        partial(read_archive, file),
        stack=world.stack,
        lock=lock or world.lock,
        plan=plan or world.plan,
        store=world.store,
        templates=templates(),
        documents=lambda: DOCUMENTS,
    )


def made_venv(world: World, folder: Path) -> Path:
    """Make the virtual environment that a user gets of the wheels of *world*, and return *folder*."""
    (folder / SITE.removeprefix("opt/venv/")).mkdir(parents=True)
    (folder / "pyvenv.cfg").write_text("home = /usr/bin\nversion = 3.11.2\n", encoding="utf-8")
    manifest = make_manifest(world.stack, world.lock, world.plan, world.store)
    for entry in manifest.wheels:
        for member in installed(object_file(world.store, entry)):
            file = folder / member.name.removeprefix("opt/venv/")
            file.parent.mkdir(parents=True, exist_ok=True)
            file.write_bytes(member.content or b"")
    return folder
