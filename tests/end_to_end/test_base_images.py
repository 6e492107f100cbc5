"""A stack on base images of a registry: pulled once, then built, put into an image and run without one."""

from __future__ import annotations

import json
from contextlib import closing
from typing import TYPE_CHECKING

import pytest
from docker import DockerClient

from lockbuild.folders import StackFolder
from tests.end_to_end.audits import EXPECTED
from tests.end_to_end.project import NATIVE, RUNTIME, TOOLCHAIN, Project, scratch_folder
from tests.needs import need
from tests.servers.registry import serve_registry

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tests.end_to_end.conftest import Filled
    from tests.servers.registry import Registry

# Debian's `libgomp1` is in neither image; `libexpat1` is in both.
_STACK = """\
name = "small"

[target]
python = "3.11"
platform = "linux_x86_64"
glibc = "2.36"

[base]
toolchain = "{host}/tests/devel:1@{digest}"
runtime = "{host}/tests/runtime:1"
packages = {{ suite = "bookworm" }}

[interpreter]
image = "python3.11"

[apt]
runtime = ["libexpat1", "libgomp1"]

[python]
requires = ["markupsafe"]

[[build]]
name = "native-sum"
version = "1.0"
source = {{ path = "native" }}
build-requires = ["setuptools<81"]
expects = ["native_sum*.so"]

[preflight]
imports = ["markupsafe", "native_sum"]
checks = ["import native_sum; assert native_sum.add(2, 3) == 5"]
"""
_SETUP = """\
import os
from setuptools import Extension, setup

print("CUDA_HOME is", os.environ.get("CUDA_HOME"))
setup(name="native-sum", version="1.0", ext_modules=[Extension("native_sum", ["native_sum.c"])])
"""
_PROOF = """
import ctypes, json, native_sum, os, sys
ctypes.CDLL("libgomp.so.1")
print(json.dumps({
    "version": sys.version_info[:2],
    "base": sys.base_prefix,
    "sum": native_sum.add(2, 3),
    "variable": os.environ.get("NVIDIA_REQUIRE_CUDA"),
    "path": os.environ["PATH"],
    "user": os.getuid(),
}))
"""
_PATH = "/usr/local/nvidia/bin:/usr/local/bin:/usr/bin:/bin"


@pytest.fixture(scope="module")
def registry(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Registry]:
    """A registry with nothing in it yet."""
    need("skopeo", "docker-registry")
    with scratch_folder(tmp_path_factory.mktemp("registry")) as folder, serve_registry(folder) as made:
        yield made


@pytest.fixture(scope="module")
def digest(registry: Registry, filled: Filled) -> str:
    """Push both images, and return the digest of the one to compile in."""
    roots = {
        name: (filled.project.locate(lambda path, name=name: path == name) / "rootfs.tar").read_bytes()  # type: ignore[misc]
        for name in (RUNTIME, TOOLCHAIN)
    }
    env = (f"PATH={_PATH}", "CUDA_HOME=/usr/local/cuda", "NVIDIA_REQUIRE_CUDA=cuda>=11.3 brand=tesla")
    runtime = registry.push("tests/runtime", [roots[RUNTIME]], env=env)
    # As CUDA's are: an index, of which one image fits.
    registry.push_index("tests/runtime", {"linux/amd64": runtime}, tag="1")
    return registry.push("tests/devel", [roots[TOOLCHAIN]], env=env).digest


@pytest.fixture(scope="module")
def project(
    registry: Registry,
    digest: str,
    tmp_path_factory: pytest.TempPathFactory,
    user_env: dict[str, str],
    no_network: tuple[str, ...],
) -> Iterator[Project]:
    """The stack, resolved and fetched; the registry is gone before anything is built."""
    with scratch_folder(tmp_path_factory.mktemp("base-images")) as folder:
        made = Project(root=folder / "project", store=folder / "store", env=user_env)
        (made.stack / "native").mkdir(parents=True)
        (made.stack / "stack.toml").write_text(_STACK.format(host=registry.host, digest=digest))
        made.edit_native("setup.py", _SETUP)
        made.edit_native("native_sum.c", NATIVE["native_sum.c"])
        made.run("resolve", "small")
        made.run("fetch", "small")
        registry.stop()
        cut_off = Project(root=made.root, store=made.store, env=user_env, prefix=no_network)
        cut_off.run("build", "small")
        cut_off.run("resolve", "small")
        yield cut_off


@pytest.fixture(scope="module")
def image(project: Project, engine: str) -> str:
    """The image."""
    return project.with_env(DOCKER_HOST=engine).run("image", "small").stdout.strip()


def test_only_what_the_images_lack_is_locked(project: Project) -> None:
    lock = StackFolder(path=project.stack).read_lock()
    # `gcc-12-base` is in both images, as are the libraries that Python needs.
    assert {deb.package: deb.roots for deb in lock.debs} == {"libgomp1": ("runtime",)}
    assert [image.root for image in lock.images] == ["runtime", "toolchain"]


def test_the_registry_is_asked_for_each_layer_once(project: Project, registry: Registry) -> None:
    lock = StackFolder(path=project.stack).read_lock()
    for locked in lock.images:
        assert locked.manifest is not None
        for blob in locked.manifest.layers:
            asked = [line for line in registry.asked() if blob.digest in line and line.startswith("GET")]
            assert len(asked) == 1


def test_builds_see_the_variables_of_the_image(project: Project) -> None:
    (log,) = project.store.rglob("*-native-sum-1.0.log")
    assert "CUDA_HOME is /usr/local/cuda" in log.read_text()


def test_wheel_and_roots_are_the_same_bytes_again(project: Project) -> None:
    verdicts = json.loads(project.run("check", "small", "--json").stdout)
    assert [verdict for verdict in verdicts if not verdict["identical"]] == []
    assert {"runtime", "toolchain"} <= {verdict["name"].removeprefix("image-") for verdict in verdicts}


def test_the_dockerfile_names_the_image_and_asks_no_registry(project: Project) -> None:
    project.run("render", "small")
    text = (project.stack / "Dockerfile").read_text()
    lock = StackFolder(path=project.stack).read_lock()
    runtime = lock.image("runtime")
    assert runtime is not None
    assert f"{runtime.reference}@{runtime.digest}" in text
    stages = [line.split()[1] for line in text.splitlines() if line.startswith("FROM ")]
    assert {stage for stage in stages if ":" in stage or "/" in stage} == set()


def test_the_image_has_all_of_its_base(project: Project, engine: str, image: str) -> None:
    with closing(DockerClient(base_url=engine)) as client:
        words = ["python3", "-c", _PROOF]
        output: bytes = client.containers.run(image, words, network_mode="none", remove=True)
    assert json.loads(output) == {
        "version": [3, 11],
        "base": "/usr",
        "sum": 5,
        "variable": "cuda>=11.3 brand=tesla",
        "path": f"/opt/venv/bin:{_PATH}",
        "user": 1000,
    }
    report = json.loads(project.with_env(DOCKER_HOST=engine).run("audit", "small", "--json").stdout)
    assert {finding["check"] for finding in report["findings"]} <= EXPECTED


def test_without_the_registry_all_but_the_images_is_locked(
    project: Project, registry: Registry, tmp_path_factory: pytest.TempPathFactory
) -> None:
    assert registry.process.poll() is not None
    with scratch_folder(tmp_path_factory.mktemp("elsewhere")) as folder:
        other = Project(root=folder / "project", store=folder / "store", env=project.env)
        other.stack.mkdir(parents=True)
        (other.stack / "stack.toml").write_text((project.stack / "stack.toml").read_text())
        (other.stack / "native").symlink_to(project.stack / "native")
        said = other.run("resolve", "small", exit_code=4).stderr
        assert "base runtime" in said
        assert "the registry cannot be reached" in said
        other.run("resolve", "small", "--allow-open")
        lock = StackFolder(path=other.stack).read_lock()
        assert {part.kind for part in lock.open} == {"apt", "base"}
        toolchain = lock.image("toolchain")
        assert toolchain is not None
        assert toolchain.digest is not None
        assert toolchain.manifest is None
        other.run("fetch", "small")
        assert "base toolchain" in other.run("build", "small", exit_code=4).stderr
