"""An image of 200 packages as an archive, and the stack that it is of: locked, in a store, not built by any engine."""

from __future__ import annotations

import hashlib
import io
import json
import random
import tarfile
import tomllib
import zipfile
from base64 import urlsafe_b64encode
from typing import TYPE_CHECKING

from lockbuild.cli.imaging import templates
from lockbuild.digest import Sha256, sha256_of
from lockbuild.dockerfile import BILL_FOLDER, BILL_LABEL, PREFIX, bill_name, run_settings
from lockbuild.folders import StackFolder
from lockbuild.inventory import components
from lockbuild.lock import Lock, LockedDeb, LockedFile, LockedPackage, lock_texts
from lockbuild.packing import make_manifest, write_wheelhouse
from lockbuild.plan import make_plan
from lockbuild.preflight import FOLDER, preflight_texts
from lockbuild.sbom import bill_of
from lockbuild.sbom.cyclonedx import cyclonedx_text
from lockbuild.stack import from_document, inputs_of
from lockbuild.store import Store

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping
    from pathlib import Path

    from lockbuild.stack import Stack

__all__ = ["NAME", "make_audited"]

NAME = "audited"
PACKAGES = 200
_MODULES = 60
"""Files of a package beside its library: what the median of a real environment has."""
_BASE_FILES = 5000
_SITE = f"{PREFIX}/lib/python3.11/site-packages".removeprefix("/")
_STACK = """\
name = "audited"
summary = "200 packages"
[target]
python = "3.11"
platform = "linux_x86_64"
glibc = "2.36"
[base]
debian = { suite = "bookworm" }
[interpreter]
apt = "python3"
[[python.index]]
name = "bench"
url = "https://index.example.org"
only = %s
[audit.levels]
image-sbom = { level = "off", reason = "no `lockbuild image` made this image" }
"""
_ENVIRONMENT = (
    (f"{PREFIX}/pyvenv.cfg"[1:], b"home"),
    (f"{PREFIX}/bin/python"[1:], "/usr/bin/python3.11"),
)
_PASSWD, _GROUP = b"root:x:0:0::/root:/bin/sh\n", b"root:x:0:\n"


def make_audited(folder: Path, megabytes: int) -> Path:
    """Write stack, store and wheelhouse below *folder*, and return the archive of the image.

    Args:
        megabytes: About how much the wheels take, and the archive.
    """
    chance = random.Random(1)
    wheels = {
        f"bench-{number}": dict(_content(f"bench_{number}", megabytes * 10**6 // PACKAGES, chance))
        for number in range(PACKAGES)
    }
    packed = {name: _wheel(files) for name, files in wheels.items()}
    stack, lock = _locked(folder / NAME, packed)
    with Store(folder / "store") as store:
        plan = make_plan(stack, lock)
        root = folder / "root"
        root.mkdir()
        (root / "rootfs.tar").write_bytes(_tar(_base(chance)))
        rootfs = (root / "rootfs.tar").read_bytes()
        store.add_folder(dict(plan.roots)["runtime"], root)
        for name, data in packed.items():
            (folder / "wheel").write_bytes(data)
            store.add_file(dict(plan.wheels)[name], folder / "wheel", sha256=sha256_of(data))
        write_wheelhouse(
            StackFolder(path=folder / NAME).wheels, make_manifest(stack, lock, plan, store), store
        )
        bill = cyclonedx_text(bill_of(stack, lock, components(stack, lock, plan, store)))
    environment = _tar(
        (*_ENVIRONMENT, *(file for files in wheels.values() for file in _installed(files)))
    )
    return _image(
        folder / "image.tar", stack, lock, [rootfs, environment, _tar(_own(stack, bill))], bill
    )


def _content(package: str, size: int, chance: random.Random) -> Iterator[tuple[str, bytes]]:
    """Yield a package's files: a library of *size* bytes, modules, and what installers read."""
    yield f"{package}/_library.so", chance.randbytes(size)
    for number in range(_MODULES):
        yield f"{package}/module_{number}.py", b"# " + chance.randbytes(2000).hex().encode()
    folder = f"{package}-1.dist-info"
    yield f"{folder}/METADATA", f"Metadata-Version: 2.1\nName: {package}\nVersion: 1\n".encode()
    yield f"{folder}/WHEEL", b"Wheel-Version: 1.0\nRoot-Is-Purelib: true\nTag: py3-none-any\n"


def _wheel(files: Mapping[str, bytes]) -> bytes:
    folder = next(name.split("/")[0] for name in files if name.endswith("/METADATA"))
    rows = []
    for name, data in files.items():
        digest = urlsafe_b64encode(hashlib.sha256(data).digest()).decode().rstrip("=")
        rows.append(f"{name},sha256={digest},{len(data)}\n")
    output = io.BytesIO()
    with zipfile.ZipFile(output, "w") as archive:
        for name, data in {**files, f"{folder}/RECORD": "".join(rows).encode()}.items():
            archive.writestr(zipfile.ZipInfo(name), data)
    return output.getvalue()


def _installed(files: Mapping[str, bytes]) -> Iterator[tuple[str, bytes]]:
    folder = next(name.split("/")[0] for name in files if name.endswith("/METADATA"))
    for name, data in files.items():
        yield f"{_SITE}/{name}", data
        if name.endswith(".py"):
            package, _, module = name.rpartition("/")
            yield f"{_SITE}/{package}/__pycache__/{module[:-3]}.cpython-311.pyc", data[:2000]
    yield f"{_SITE}/{folder}/RECORD", b""
    yield f"{_SITE}/{folder}/INSTALLER", b"pip\n"


def _base(chance: random.Random) -> Iterator[tuple[str, bytes]]:
    yield "etc/passwd", _PASSWD
    yield "etc/group", _GROUP
    yield "var/lib/dpkg/status", b"Package: python3\nStatus: install ok installed\nVersion: 1\n\n"
    for number in range(_BASE_FILES):
        yield f"usr/share/base/{number % 100}/{number}", chance.randbytes(20_000)


def _own(stack: Stack, bill: str) -> Iterator[tuple[str, bytes]]:
    yield "etc/passwd", _PASSWD + b"lockbuild:x:1000:1000::/home/lockbuild:/bin/sh\n"
    yield "etc/group", _GROUP + b"lockbuild:x:1000:\n"
    yield f"{BILL_FOLDER}/{bill_name(stack)}".removeprefix("/"), bill.encode()
    for name, text in preflight_texts(stack, templates=templates()).items():
        yield f"{FOLDER}/{name.rpartition('/')[2]}".removeprefix("/"), text.encode()


def _tar(files: Iterable[tuple[str, bytes | str]]) -> bytes:
    """Return a tar of *files*; text is the target of a link."""
    output = io.BytesIO()
    with tarfile.open(fileobj=output, mode="w") as archive:
        for name, data in files:
            info = tarfile.TarInfo(name)
            if isinstance(data, str):
                info.type, info.linkname = tarfile.SYMTYPE, data
                archive.addfile(info)
            else:
                info.size = len(data)
                archive.addfile(info, io.BytesIO(data))
    return output.getvalue()


def _locked(folder: Path, wheels: Mapping[str, bytes]) -> tuple[Stack, Lock]:
    """Write stack file and lock, and return both."""
    text = _STACK % json.dumps([*wheels, "pip"])
    document = tomllib.loads(text)
    packages = [_package(name, data) for name, data in wheels.items()]
    deb = LockedDeb(
        package="python3",
        version="1",
        architecture="amd64",
        path="python3_1_amd64.deb",
        sha256=Sha256("0" * 64),
        size=1000,
        source="python3 1",
        roots=("runtime", "toolchain"),
    )
    lock = Lock(
        inputs=tuple(sorted(inputs_of(document, {}).items())),
        runtime=tuple(sorted(packages, key=lambda package: package.name)),
        build=(("", (_package("pip", b"pip"),)),),
        sources=(),
        debs=(deb,),
    )
    folder.mkdir()
    (folder / "stack.toml").write_text(text, encoding="utf-8")
    stack, place = from_document(document), StackFolder(path=folder)
    place.write_texts(lock_texts(lock, name=NAME, target=stack.target, wheels="wheels"))
    return stack, place.read_lock()


def _package(name: str, data: bytes) -> LockedPackage:
    filename = f"{name.replace('-', '_')}-1-py3-none-any.whl"
    wheel = LockedFile(filename=filename, sha256=sha256_of(data), size=len(data))
    return LockedPackage(name=name, version="1", index="bench", wheel=wheel)


def _image(file: Path, stack: Stack, lock: Lock, layers: list[bytes], bill: str) -> Path:
    """Write what `docker save` writes."""
    settings = run_settings(stack, lock)
    config = json.dumps(
        {
            "architecture": "amd64",
            "os": "linux",
            "config": {
                "Env": [f"{name}={value}" for name, value in settings.env],
                "Labels": {**dict(settings.labels), BILL_LABEL: f"sha256:{sha256_of(bill.encode())}"},
                "User": settings.user,
                "WorkingDir": settings.workdir,
                "Entrypoint": list(settings.entrypoint),
                "Cmd": list(settings.command),
            },
            "rootfs": {
                "type": "layers",
                "diff_ids": [f"sha256:{hashlib.sha256(data).hexdigest()}" for data in layers],
            },
        }
    ).encode()
    names = [f"{number}/layer.tar" for number in range(len(layers))]
    manifest = [{"Config": "config.json", "RepoTags": None, "Layers": names}]
    with tarfile.open(file, "w") as archive:
        for name, data in (
            *zip(names, layers, strict=True),
            ("config.json", config),
            ("manifest.json", json.dumps(manifest).encode()),
        ):
            info = tarfile.TarInfo(name)
            info.size = len(data)
            archive.addfile(info, io.BytesIO(data))
    return file
