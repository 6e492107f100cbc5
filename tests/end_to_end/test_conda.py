"""A stack whose Python and tools are conda packages: solved, compiled against, put into an image and run."""

from __future__ import annotations

import json
import shutil
from contextlib import closing
from typing import TYPE_CHECKING

import pytest
from docker import DockerClient

from tests.conda import PLACEHOLDER, CondaPackage, make_channel
from tests.end_to_end.audits import EXPECTED
from tests.end_to_end.project import NATIVE, Project, scratch_folder
from tests.needs import need
from tests.test_builders_conda_python import NOARCH, conda_python

if TYPE_CHECKING:
    from collections.abc import Iterator

# Debian 12 has Python 3.11. No package of it is asked for, nor any of its headers.
_STACK = """\
name = "small"

[target]
python = "3.10"
platform = "linux_x86_64"
glibc = "2.36"
cuda = "11.8"

[base]
debian = {{ suite = "bookworm" }}

[interpreter]
conda = "python"

[conda]
channels = ["{channel}"]
packages = ["tool", "script"]

[apt]
toolchain = ["gcc", "libc6-dev"]

[python]
requires = ["markupsafe"]

[[build]]
name = "native-sum"
version = "1.0"
source = {{ path = "native" }}
build-requires = ["setuptools"]
expects = ["native_sum*.so"]

[preflight]
imports = ["markupsafe", "native_sum"]
"""
_TOOL = CondaPackage(
    name="tool",
    version="2.0",
    depends=("__cuda >=11.2", "__glibc >=2.17"),
    files={
        "bin/tool": b"#!/bin/sh\nexec cat " + PLACEHOLDER.encode() + b"/share/words\n",
        "share/words": b"out of the prefix\n",
    },
)
_PROOF = """
import json, markupsafe, native_sum, os, subprocess, sys
run = lambda *words: subprocess.run(words, capture_output=True, text=True, check=True).stdout.strip()
print(json.dumps({
    "version": sys.version_info[:2],
    "prefix": sys.base_prefix,
    "sum": native_sum.add(2, 3),
    "tool": run("tool"),
    "script": run("script"),
    "user": os.getuid(),
}))
"""


@pytest.fixture(scope="module")
def project(
    tmp_path_factory: pytest.TempPathFactory, user_env: dict[str, str], no_network: tuple[str, ...]
) -> Iterator[Project]:
    """The stack, built without a network and without its channel."""
    need("bwrap", "mmdebstrap", "apt-get")
    with scratch_folder(tmp_path_factory.mktemp("conda")) as folder:
        made = Project(root=folder / "project", store=folder / "store", env=user_env)
        newer = CondaPackage(name="tool", version="3.0", depends=("__cuda >=12",))
        channel = make_channel(folder / "main", [conda_python(folder), NOARCH, _TOOL, newer])
        (made.stack / "native").mkdir(parents=True)
        (made.stack / "stack.toml").write_text(_STACK.format(channel=channel.as_uri()))
        for name, text in NATIVE.items():
            made.edit_native(name, text)
        made.run("resolve", "small")
        made.run("fetch", "small")
        shutil.rmtree(channel)
        cut_off = Project(root=made.root, store=made.store, env=user_env, prefix=no_network)
        cut_off.run("build", "small")
        cut_off.run("resolve", "small")
        yield cut_off


@pytest.fixture(scope="module")
def image(project: Project, engine: str) -> str:
    """The image."""
    return project.with_env(DOCKER_HOST=engine).run("image", "small").stdout.strip()


def test_wheel_is_compiled_for_the_python_of_conda(project: Project) -> None:
    (wheel,) = project.wheels.glob("native_sum-*.whl")
    assert "-cp310-cp310-linux_x86_64" in wheel.name
    assert "python3" not in {
        line.split('"')[1]
        for line in (project.stack / "lockbuild.lock").read_text().splitlines()
        if line.startswith("package = ")
    }


def test_image_runs_what_conda_packages_brought(engine: str, image: str) -> None:
    with closing(DockerClient(base_url=engine)) as client:
        output: bytes = client.containers.run(
            image, ["python3", "-c", _PROOF], network_mode="none", remove=True
        )
    assert json.loads(output) == {
        "version": [3, 10],
        "prefix": "/opt/conda",
        "sum": 5,
        "tool": "out of the prefix",
        "script": "from conda",
        "user": 1000,
    }


def test_audit_finds_nothing(project: Project, engine: str, image: str) -> None:
    report = json.loads(project.with_env(DOCKER_HOST=engine).run("audit", "small", "--json").stdout)
    assert image
    assert {finding["check"] for finding in report["findings"]} <= EXPECTED
    assert {"image-conda", "conda-scripts"} <= set(report["passed"])


def test_everything_is_the_same_bytes_again(project: Project) -> None:
    verdicts = json.loads(project.run("check", "small", "--json").stdout)
    assert [verdict for verdict in verdicts if not verdict["identical"]] == []
