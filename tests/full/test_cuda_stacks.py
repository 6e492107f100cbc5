"""The stacks that compile CUDA extensions, whole: built, judged, put into an image, imported there, and built again.

Hours of compiling. It uses the user's own store and configuration (git's as well, by which repositories are reached) and leaves
everything there, so that a run that was stopped goes on where it was: `make test-full`.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from contextlib import closing
from pathlib import Path

import pytest
from docker import DockerClient

from tests.needs import need

pytestmark = pytest.mark.slow

PROJECT = Path(__file__).resolve().parents[2]

MODULES = {
    "cu118-bookworm": (
        "mmcv.ops",
        "pytorch3d._C",
        "diff_gaussian_rasterization",
        "simple_knn._C",
        "gridencoder",
        "MultiScaleDeformableAttention",
        "detectron2._C",
    ),
    "cu130": ("diff_gaussian_rasterization", "simple_knn._C", "gridencoder"),
}
FROM_PROJECTS = (
    "from detectron2.projects.deeplab import add_deeplab_config",
    "from detectron2.projects.point_rend import ColorAugSSDTransform",
    "from detectron2.projects.point_rend.point_features import point_sample",
)
# What only who compiles needs.
NOT_INSIDE = "nvcc gcc g++ cc c++ ptxas cicc ninja"

each_stack = pytest.mark.parametrize("name", MODULES)


def lockbuild(*words: str) -> str:
    """Run lockbuild in the project as its user, and return what it gave."""
    ended = subprocess.run(
        [sys.executable, "-m", "lockbuild", *words],
        cwd=PROJECT,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        text=True,
        check=False,
    )
    assert ended.returncode == 0, f"lockbuild {' '.join(words)}: exit code {ended.returncode}"
    return ended.stdout


@each_stack
def test_everything_is_built_and_passes_the_gate(name: str) -> None:
    need("bwrap", "mmdebstrap", "apt-get", "git")
    lockbuild("build", name)
    committed = subprocess.run(
        ["git", "status", "--porcelain", "--", f"wheels/{name}", f"stacks/{name}"],
        cwd=PROJECT,
        capture_output=True,
        text=True,
        check=True,
    )
    assert committed.stdout == "", "what was built is not what is committed"


@each_stack
def test_the_image_has_every_module_and_no_compiler(name: str) -> None:
    image = lockbuild("image", name).strip()
    imports = "; ".join([*(f"import {module}" for module in MODULES[name])])
    if name == "cu118-bookworm":
        imports = "; ".join([imports, *FROM_PROJECTS])
    assert run(image, "python3", "-c", f"import torch; {imports}; print('fine')") == "fine\n"
    looked = f"for tool in {NOT_INSIDE}; do command -v $tool || true; done; find / -xdev -name '*.whl'"
    # As root: the image's own user may not look into every folder.
    assert run(image, "sh", "-c", looked, user="root") == ""


def run(image: str, *words: str, user: str | None = None) -> str:
    """Run *words* in *image* without a network, and return what they said."""
    with closing(DockerClient(base_url=os.environ.get("DOCKER_HOST"))) as client:
        output: bytes = client.containers.run(
            image,
            list(words[1:]),
            entrypoint=words[0],
            user=user,
            network_mode="none",
            remove=True,
        )
    return output.decode()


@each_stack
def test_every_build_is_identical_when_built_again(name: str) -> None:
    verdicts = json.loads(lockbuild("check", name, "--json"))
    assert verdicts
    assert [verdict["name"] for verdict in verdicts if not verdict["identical"]] == []
