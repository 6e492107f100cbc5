"""Reading upstream repositories: each reader on the hard forms, and what a draft makes of them all."""

from __future__ import annotations

import re
import sys
from typing import TYPE_CHECKING, Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from lockbuild import cells
from lockbuild.stack import from_document
from lockbuild.stack.schema import parse_stack_text
from lockbuild.upstream import Upstream, draft, is_aside, pointer_of, read_text, submodule_findings
from lockbuild.upstream.choosing import choose
from lockbuild.upstream.findings import (
    AptPackage,
    ByHand,
    Claim,
    Clone,
    Download,
    Finding,
    GitRequirement,
    HubName,
    Import,
    Index,
    LocalPackage,
    Note,
    Place,
    Project,
    Requirement,
    Setting,
    Submodule,
    VersionLine,
)
from lockbuild.upstream.knowledge import torch_release

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

COMMIT = "0123456789abcdef0123456789abcdef01234567"


def found(text: str, path: str, kind: type[Any]) -> list[Any]:
    return [one for one in read_text(text, path) if isinstance(one, kind)]


def drafted(
    files: Mapping[str, str],
    *,
    git: str = "https://git.example.org/lab/nerf",
    extra: tuple[Finding, ...] = (),
) -> str:
    findings = [one for path, text in files.items() for one in read_text(text, path)]
    modules = {path.removesuffix(".py").rpartition("/")[2] for path in files if path.endswith(".py")}
    upstream = Upstream(
        name="nerf",
        git=git,
        commit=COMMIT if git else "",
        findings=(*findings, *extra),
        modules=frozenset(modules),
    )
    return draft(upstream, name="nerf", standard=sys.stdlib_module_names)


def document(text: str) -> dict[str, Any]:
    return parse_stack_text(text, file="stack.toml")


# ---- readers --------------------------------------------------------------------------------------


def test_environment_of_conda() -> None:
    text = """\
name: x
channels: [pytorch]
dependencies:
  - python=3.8.13
  - pytorch::pytorch=1.12.1=py3.8_cuda11.3_cudnn8.3.2_0
  - cudatoolkit=11.3
  - numpy=1.21
  - scipy>=1.5,<2
  - ffmpeg
  - libgcc-ng=11.2.0
  - pip:
    - --extra-index-url https://index.example.org/simple
    - cuml-cu11==23.04
    - ./ops/rasterizer
    - git+https://git.example.org/tools.git@v1.0#subdirectory=python
"""
    everything = list(read_text(text, "environment.yml"))
    requirements = {one.text: one.place.line for one in everything if isinstance(one, Requirement)}
    assert {text.replace("<2,>=1.5", ">=1.5,<2"): line for text, line in requirements.items()} == {
        "torch==1.12.1": 5,
        "numpy==1.21.*": 7,
        "scipy>=1.5,<2": 8,
        "cuml-cu11==23.04": 13,
    }
    assert {(one.what, one.version) for one in everything if isinstance(one, Claim)} == {
        ("python", "3.8.13"),
        ("cuda", "11.3"),
    }
    assert [one.near for one in everything if isinstance(one, Index)] == [("cuml-cu11",)]
    assert [one.path for one in everything if isinstance(one, LocalPackage)] == ["ops/rasterizer"]
    assert [one.name for one in everything if isinstance(one, AptPackage)] == ["ffmpeg"]
    (git,) = [one for one in everything if isinstance(one, GitRequirement)]
    assert (git.name, git.revision, git.subdirectory) == ("tools", "v1.0", "python")


def test_requirements_file() -> None:
    text = """\
-r other.txt
--find-links https://download.pytorch.org/whl/cu111/torch_stable.html
torch==1.9.0+cu111  # comment
numpy \\
  ==1.20
-e .
git+https://git.example.org/a/b.git#egg=c&subdirectory=d
name @ git+ssh://git@git.example.org/a/x.git
https://wheels.example.org/torch-1.8.1%2Bcpu-cp37-cp37m-linux_x86_64.whl
pillow>=8; python_version < "3.9"
not a requirement at all
"""
    everything = list(read_text(text, "sub/requirements.txt"))
    assert [one.text for one in everything if isinstance(one, Requirement)] == [
        "torch==1.9.0+cu111",
        "numpy==1.20",
        "torch==1.8.1+cpu",
        'pillow>=8; python_version < "3.9"',
    ]
    assert [one.version for one in everything if isinstance(one, Claim)] == ["11.1"]
    assert [one.path for one in everything if isinstance(one, LocalPackage)] == ["sub"]
    assert [
        (one.name, one.url, one.subdirectory) for one in everything if isinstance(one, GitRequirement)
    ] == [
        ("c", "https://git.example.org/a/b.git", "d"),
        ("name", "https://git.example.org/a/x.git", ""),
    ]
    assert any("not a requirement at all" in one.text for one in everything if isinstance(one, Note))


SETUP = """\
import os, glob, torch
from setuptools import setup
from torch.utils.cpp_extension import BuildExtension, CppExtension, CUDAExtension

NAME = "nerf_ops"
flags = ["-O3", "-std=c++14"]

def extensions():
    kind = CppExtension
    if torch.cuda.is_available() or os.getenv("FORCE_CUDA", "0") == "1":
        kind = CUDAExtension
    return [kind("nerf_ops._C", glob.glob("csrc/*.cu") + ["csrc/ops.cpp"])]

raise SystemExit("this must never run")
setup(name=NAME, version="1.2", install_requires=["numpy>=1.19", "x @ https://x.example.org/x.zip"],
      python_requires=">=3.7", ext_modules=extensions(), cmdclass={"build_ext": BuildExtension})
"""


def test_setup_py_is_read_and_not_run() -> None:
    (project,) = found(SETUP, "ops/setup.py", Project)
    assert (project.folder, project.name, project.version) == ("ops", "nerf_ops", "1.2")
    assert project.requires == ("numpy>=1.19", "x @ https://x.example.org/x.zip")
    assert project.requires_python == ">=3.7"
    assert [(one.module, one.cuda) for one in project.extensions] == [("nerf_ops._C", True)]
    assert project.sources == ("csrc/*.cu", "csrc/ops.cpp")
    assert project.standards == (("c++14", 6),)
    assert (project.asks_env, project.asks_gpu) == (("FORCE_CUDA",), 10)
    assert "torch" in project.imports


def test_setup_cfg_and_pyproject() -> None:
    (cfg,) = found(
        "[metadata]\nname = a\nversion = attr: a.v\n[options]\ninstall_requires =\n  x\n  y>1\n",
        "setup.cfg",
        Project,
    )
    assert (cfg.name, cfg.version, cfg.requires) == ("a", "", ("x", "y>1"))
    assert found("[isort]\nline_length = 3\n", "setup.cfg", Project) == []
    (toml,) = found(
        '[project]\nname = "b"\nversion = "2"\ndependencies = ["numpy<2"]\nrequires-python = ">=3.9"\n',
        "pyproject.toml",
        Project,
    )
    assert (toml.name, toml.version, toml.requires, toml.requires_python) == (
        "b",
        "2",
        ("numpy<2",),
        ">=3.9",
    )
    (poetry,) = found(
        '[tool.poetry]\nname = "c"\n[tool.poetry.dependencies]\npython = "^3.8"\ntorch = "^1.12.1"\nx = "*"\ny = {version = "~0.3"}\n',
        "pyproject.toml",
        Project,
    )
    assert poetry.requires == ("torch>=1.12.1,<2", "x", "y>=0.3,<0.4")


def test_dockerfile() -> None:
    text = """\
FROM docker.io/nvidia/cuda:11.1.1-cudnn8-devel-ubuntu18.04 AS base
ENV FVCORE_CACHE="/tmp" DEBIAN_FRONTEND=noninteractive
RUN apt-get update && apt-get install -y --no-install-recommends \\
    libgl1-mesa-glx ninja-build=1.8.2-1 wget
RUN pip3 install torch==1.10 -f https://download.pytorch.org/whl/cu111/torch_stable.html
RUN git clone https://git.example.org/lab/other other_repo
RUN pip install -e other_repo
ARG TORCH_CUDA_ARCH_LIST="7.5;8.6+PTX"
"""
    everything = list(read_text(text, "docker/Dockerfile"))
    assert {(one.what, one.version) for one in everything if isinstance(one, Claim)} == {
        ("cuda", "11.1"),
        ("ubuntu", "18.04"),
    }
    assert [one.name for one in everything if isinstance(one, AptPackage)] == [
        "libgl1-mesa-glx",
        "ninja-build",
        "wget",
    ]
    assert [one.text for one in everything if isinstance(one, Requirement)] == ["torch==1.10"]
    assert [one.url for one in everything if isinstance(one, GitRequirement)] == [
        "https://git.example.org/lab/other"
    ]
    assert {one.name: one.value for one in everything if isinstance(one, Setting)} == {
        "FVCORE_CACHE": "/tmp",
        "DEBIAN_FRONTEND": "noninteractive",
        "TORCH_CUDA_ARCH_LIST": "7.5;8.6+PTX",
    }


def test_page_with_commands() -> None:
    text = """\
Tested on Ubuntu 18.04, CUDA 11.3, PyTorch 1.12.1 with Python >= 3.7.

```bash
git clone git@git.example.org:lab/nerf.git
git clone https://git.example.org/lab/detect.git
cd detect
pip install -e .
cd ..
$ conda install pytorch==1.8.1 cudatoolkit=11.1 -c pytorch
  mim install mmcv-full==1.7.1   # needs torch
FORCE_CUDA=1 python setup.py build install
cd tools/faces
wget "https://data.example.org/fpn.pth"
```
Get [the model](https://drive.google.com/file/d/1ozeh3U3uxZImjabKVae8kNZSoNuvFx49/view?usp=sharing),
and `pip install "git+https://git.example.org/lab/p3d.git@v1#egg=p3d"`.
"""
    everything = list(read_text(text, "README.md"))
    claims = {(one.what, one.version, one.exact) for one in everything if isinstance(one, Claim)}
    assert claims >= {
        ("cuda", "11.3", True),
        ("torch", "1.12.1", True),
        ("python", "3.7", False),
        ("cuda", "11.1", True),
    }
    assert [one.url for one in everything if isinstance(one, Clone)] == [
        "https://git.example.org/lab/nerf.git",
        "https://git.example.org/lab/detect.git",
    ]
    assert [(one.name, one.revision) for one in everything if isinstance(one, GitRequirement)] == [
        ("detect", ""),
        ("p3d", "v1"),
    ]
    assert [one.text for one in everything if isinstance(one, Requirement)] == [
        "torch==1.8.1",
        "mmcv-full==1.7.1",
    ]
    assert [one.path for one in everything if isinstance(one, LocalPackage)] == ["."]
    downloads = [one for one in everything if isinstance(one, Download)]
    assert ("fpn.pth", "tools/faces/") in {(one.filename, one.target) for one in downloads}
    (drive,) = [one for one in downloads if "drive" in one.url]
    assert "1ozeh3U3uxZImjabKVae8kNZSoNuvFx49" in drive.url
    assert drive.words == "Get the model"


def test_script_names_what_it_unpacks() -> None:
    (one, *_) = found(
        "gdown 1qIq0CBBj-O6wVc9nJXG-JDEtWPzRQ4KC\nunzip data-set.zip\n", "scripts/get.sh", Download
    )
    assert one.filename == "data-set.zip"


def test_python_source() -> None:
    text = """\
import os, cv2
from torch.hub import load_state_dict_from_url
urls = {"a": "https://weights.example.org/resnet18-5c106cde.pth"}
def f():
    import dlib
    x = numpy.float
    load_state_dict_from_url(urls["a"])
    torch.hub.load(
        "lab/dino", "vits14")
    Model.from_pretrained("lab/hubert-large")
    Model.from_pretrained(path)
"""
    everything = list(read_text(text, "pkg/a.py"))
    assert {(one.module, one.guarded) for one in everything if isinstance(one, Import)} == {
        ("os", False),
        ("cv2", False),
        ("torch", False),
        ("dlib", True),
    }
    assert [(one.filename, one.hub) for one in everything if isinstance(one, Download)] == [
        ("resnet18-5c106cde.pth", True)
    ]
    assert {(one.hub, one.name) for one in everything if isinstance(one, HubName)} == {
        ("torch.hub", "lab/dino vits14"),
        ("Hugging Face", "lab/hubert-large"),
    }
    assert any("np.float" in one.text for one in everything if isinstance(one, Note))
    assert found('__version__ = "0.6"\n', "pkg/__init__.py", VersionLine)[0].version == "0.6"


def test_python_2_is_read_line_by_line() -> None:
    assert [one.module for one in found("import cPickle\nprint 'x'\n", "a.py", Import)] == ["cPickle"]


def test_submodules_and_pointers() -> None:
    text = '[submodule "a"]\n\tpath = ext/a\n\turl = ../a.git\n[submodule "b"]\n\turl = https://x.example.org/b\n'
    assert [(one.path, one.url) for one in submodule_findings(text, ".gitmodules")] == [
        ("ext/a", "../a.git")
    ]
    pointer = b"version https://git-lfs.github.com/spec/v1\noid sha256:" + b"a" * 64 + b"\nsize 12\n"
    assert (one := pointer_of(pointer, "w.pt"))
    assert (one.sha256, one.size) == ("a" * 64, 12)
    assert pointer_of(b"a model", "w.pt") is None


# ---- the draft ------------------------------------------------------------------------------------


def test_draft_builds_the_extensions_of_folders() -> None:
    text = drafted(
        {
            "ops/setup.py": SETUP,
            "environment.yml": "dependencies:\n  - python=3.8\n  - pytorch=2.1.0\n  - pytorch-cuda=11.8\n",
        }
    )
    stack = document(text)
    (build,) = stack["build"]
    assert build == {
        "name": "nerf-ops",
        "version": "1.2",
        "source": {"git": "https://git.example.org/lab/nerf", "commit": COMMIT, "subdirectory": "ops"},
        "needs": ["torch"],
        "build-requires": ["setuptools<70", "wheel"],
        "requires": ["numpy>=1.19"],
        "env": {"FORCE_CUDA": "1"},
        "expects": ["nerf_ops/_C*.so"],
    }
    assert stack["target"]["cuda"] == "11.8"
    assert "torch==2.1.0+cu118" in stack["python"]["requires"]
    assert stack["python"]["index"][0]["only"] == ["torch"]
    assert stack["toolchain"] == {"nvcc": {"apt": "nvidia-cuda-toolkit"}, "compiler": "g++-11"}
    assert "nerf_ops._C" in stack["preflight"]["imports"]
    assert re.search(r"c\+\+14 at line 6; decide: torch 2.1 and later need C\+\+17", text)


def test_draft_without_an_address_leaves_builds_to_a_person() -> None:
    text = drafted(
        {"ops/setup.py": SETUP, "README.md": "git clone https://git.example.org/lab/nerf.git\n"}, git=""
    )
    assert "build" not in document(text)
    assert "# decide: git address and commit" in text
    assert '# name = "nerf-ops"' in text
    assert "README.md:1 clones https://git.example.org/lab/nerf.git" in text


def test_draft_takes_the_more_binding_text_and_names_both() -> None:
    files = {
        "README.md": "pip install torch==1.9.0 torchvision==0.10.0\n",
        "requirements.txt": "torch==1.8.1\n",
        "sub/requirements.txt": "torch==1.7.1\neinops\n",
    }
    text = drafted(files)
    assert "torch==1.8.1" in document(text)["python"]["requires"]
    assert (
        "#  - torch: ==1.8.1 (requirements.txt:1); ==1.9.0 (README.md:1); ==1.7.1 (sub/requirements.txt:1)"
        in text
    )
    assert "decide: torch 1.8.1 goes with torchvision 0.9, not 0.10.0" in text
    assert '  # "einops",  # sub/requirements.txt:2' in text


def test_draft_takes_the_text_that_bounds_a_version_where_another_does_not() -> None:
    # conda's wish comes first in the file, pip's is what is there in the end.
    environment = """
dependencies:
  - cython
  - pip:
    - cython==3.0.10
"""
    cog = "build:\n  python_packages: [colored==1.4.4]\n"
    files = {"requirements.txt": "colored\n", "cog.yaml": cog, "part/requirements.txt": "cython==0.29"}
    text = drafted({"environment.yml": environment, **files})
    assert document(text)["python"]["requires"] == ["colored==1.4.4", "cython==3.0.10"]
    assert '  "colored==1.4.4",  # cog.yaml:2' in text


def test_text_that_says_more_than_a_version_is_kept() -> None:
    files = {"requirements.txt": "uvicorn[standard]\nuvicorn==0.30.0\n"}
    assert document(drafted(files))["python"]["requires"] == ["uvicorn[standard]"]


def test_bounds_that_agree_are_no_contradiction() -> None:
    assert "contradict" not in drafted(
        {"requirements.txt": "scipy==1.7.0\n", "README.md": "pip install 'scipy>=1.5'\n"}
    )


def test_draft_names_what_nobody_declares() -> None:
    files = {
        "requirements.txt": "opencv-python\nmmcv-full==1.7.1\n",
        "run.py": "import cv2, mmcv, os, wandb, helper\nfrom PIL import Image\n",
        "helper.py": "x = 1\n",
    }
    text = drafted(files)
    named = re.findall(r'^  # "([\w-]+)",  # import', text, re.MULTILINE)
    assert named == ["pillow", "wandb"]


def test_draft_makes_one_build_of_folders_that_make_the_same_package() -> None:
    text = drafted({"a/ops/setup.py": SETUP, "b/ops/setup.py": SETUP})
    assert [build["source"]["subdirectory"] for build in document(text)["build"]] == ["a/ops"]
    assert "b/ops/setup.py makes a package of the same name" in " ".join(text.replace("#", " ").split())


def test_what_setup_py_computes_is_left_to_a_person() -> None:
    text = "from setuptools import Extension, setup\nsetup(name='a', version=read(), install_requires=read(), ext_modules=[Extension('a', ['a.c'])])\n"
    notes = drafted({"setup.py": text})
    assert "# decide: version: only running its setup.py would say it" in notes
    assert "# decide: requires: only running its setup.py would say them" in notes
    assert (
        document(drafted({"setup.py": text, "a/__init__.py": "__version__ = '1.5'"}))["build"][0][
            "version"
        ]
        == "1.5"
    )


def test_submodule_that_somebody_installs_is_built_at_its_commit() -> None:
    inner = Submodule(
        path="ext/raster",
        url="https://git.example.org/lab/raster",
        commit="f" * 40,
        place=Place(file=".gitmodules", line=1),
    )
    files = {"scripts/env.sh": "cd ext/raster\npip install -e .\ncd ../..\n"}
    (build,) = document(drafted(files, extra=(inner,)))["build"]
    assert build["source"] == {"git": inner.url, "commit": inner.commit, "submodules": True}
    assert "build" not in document(drafted({}, extra=(inner,)))


def test_draft_builds_what_has_no_wheel() -> None:
    (build,) = document(drafted({"README.md": "mim install mmcv-full==1.7.1\n"}))["build"]
    assert build["source"] == {"sdist": "mmcv-full==1.7.1"}
    assert build["expects"] == ["mmcv/_ext*.so"]


def uncommented(text: str, heading: str) -> list[dict[str, Any]]:
    """Return the assets that a draft has as comments below *heading*."""
    before, _, below = text.partition(heading)
    keys = r"\[\[asset|name|policy|path|url|sha256|lfs-oid|size|license|accept-license|why"
    bare = re.sub(rf"^# (?=({keys})\b)", "", below, flags=re.MULTILINE)
    return list(document(f"{before}# {bare}")["asset"])


def test_drafted_assets_are_accepted_once_their_comments_are_taken_off() -> None:
    lfs = pointer_of(
        b"version https://git-lfs.github.com/spec/v1\noid sha256:" + b"a" * 64 + b"\nsize 12\n",
        "w/model 1.pt",
    )
    assert lfs is not None
    files = {
        "net.py": 'from torch.hub import load_url\nload_url("https://weights.example.org/a-5c106cde.pth")\n',
        "get.sh": "wget https://a.example.org/x.zip -O data/x.zip\nwget https://b.example.org/x.zip -O data/x.zip\n",
        "README.md": "[here](https://drive.google.com/file/d/1ozeh3U3uxZImjabKVae8kNZSoNuvFx49/view) <https://c.example.org/../..pth>\n",
    }
    text = drafted(files, git="https://github.com/lab/nerf", extra=(lfs,))
    assert "asset" not in document(text)
    assets = uncommented(text, "# Weights")
    paths = {asset["url"][0]: asset["path"] for asset in assets}
    assert (
        paths["https://weights.example.org/a-5c106cde.pth"]
        == "/workspace/.cache/torch/hub/checkpoints/a-5c106cde.pth"
    )
    assert paths["https://a.example.org/x.zip"] == "/workspace/nerf/data/x.zip"
    assert len(assets) == 6
    assert f"https://media.githubusercontent.com/media/lab/nerf/{COMMIT}/w/model%201.pt" in paths


def test_data_that_people_are_to_put_somewhere_is_drafted_as_mounted() -> None:
    page = """\
# 1. copy 01_MorphableModel.mat to data_util/3DMM/
Then move the file `b.pkl` into the folder `./../c/d/`. Download https://x.example.org/e.pth and put e.pth in weights/.
* Put training video under `data/<ID>/<ID>.mp4`, f.npz in `data/<ID>/`, and copy the code g.py to lib/.
Copy 01_MorphableModel.mat to elsewhere/
"""
    files = {"README.md": page}
    (one, other, *more) = found(page, "README.md", ByHand)
    assert (one.filename, one.target, str(one.place)) == (
        "01_MorphableModel.mat",
        "data_util/3DMM/",
        "README.md:1",
    )
    assert (other.filename, other.target) == ("b.pkl", "./../c/d/")
    assert [each.filename for each in more] == ["e.pth", "01_MorphableModel.mat"]
    text = drafted(files)
    assert "asset" not in document(text)
    assets = uncommented(text, "# Put there by hand")
    assert [(asset["path"], asset["policy"]) for asset in assets] == [
        ("/workspace/nerf/data_util/3DMM/01_MorphableModel.mat", "mount"),
        ("/workspace/nerf/c/d/b.pkl", "mount"),
    ]
    assert "# [[asset]]  # README.md:1, README.md:4" in text


def test_drafted_source_is_accepted_in_the_image_once_its_comments_are_taken_off() -> None:
    text = re.sub(r"^# (?=(path|license|accept-license) )", "", drafted({}), flags=re.MULTILINE)
    (source,) = document(text)["source"]
    assert (source["path"], source["license"]) == ("/workspace/nerf", "NOASSERTION")


def test_draft_of_nothing_is_a_stack() -> None:
    stack = document(drafted({}))
    assert stack["target"]["python"] == "3.11"
    assert "cuda" not in stack["target"]


@pytest.mark.parametrize(
    ("python", "torch", "expected"),
    [
        ("3.8", "1.12.1", "3.8"),
        ("3.7", "1.6.0", "3.8"),
        ("3.6", "1.10.0", "3.8"),
        ("3.13", "2.7.1", "3.13"),
        ("3.11", "2.0.1", "3.11"),
    ],
)
def test_python_has_an_interpreter(python: str, torch: str, expected: str) -> None:
    text = f"dependencies:\n  - python={python}\n  - pytorch={torch}\n"
    machine = choose(list(read_text(text, "environment.yml")), compiles=False)
    assert machine.python.value == expected
    assert bool(machine.python.notes) == (python != expected)


def test_torch_without_wheels_for_a_cuda_gets_the_nearest() -> None:
    files = {"environment.yml": "dependencies:\n  - pytorch=1.11.0\n  - cudatoolkit=11.6\n"}
    text = drafted(files)
    assert "torch==1.11.0+cu115" in document(text)["python"]["requires"]
    assert "torch 1.11.0 has no wheels for CUDA 11.6" in text


def test_what_is_known_of_torch_fits_together() -> None:
    for minor in range(4, 14):
        release = torch_release(f"1.{minor}.0+cu1")
        assert release is not None
        assert release.pythons[0] <= release.pythons[1]
        assert release.vision == f"0.{minor + 1}"


def test_order_of_files_does_not_show() -> None:
    files = {
        "requirements.txt": "torch==1.8.1\n",
        "b.py": "import wandb\n",
        "a.py": "import wandb\n",
        "ops/setup.py": SETUP,
    }
    assert drafted(files) == drafted(dict(reversed(files.items())))


# ---- a whole repository ----------------------------------------------------------------------------

REPOSITORY = {
    "environment.yml": """\
name: nerf
dependencies:
  - python=3.8.13
  - pytorch::pytorch=1.12.1
  - torchvision
  - torchaudio=0.11.0
  - cudatoolkit=11.3
  - faiss-gpu=1.7.2
  - gxx_linux-64
  - pip:
    - numpy
    - opencv-python
    - chumpy==0.70
    - ./ext/raster
    - -e ./ops
    - --extra-index-url https://pypi.nvidia.example.org
    - cuml-cu11==23.04
    - git+https://git.example.org/lab/moving
    - git+https://git.example.org/lab/fixed@0123456789abcdef0123456789abcdef01234567#subdirectory=py
""",
    "cog.yaml": """\
build:
  gpu: true
  cuda: "11.6"
  python_version: "3.9"
  python_packages: ["torch==1.13.0"]
  system_packages: [libturbojpeg]
  run: [pip install loguru]
""",
    "docker/Dockerfile": """\
FROM nvidia/cuda:11.3.1-devel-ubuntu20.04
ENV TORCH_CUDA_ARCH_LIST="7.5;8.6+PTX" MODEL_CACHE=/tmp
RUN apt-get update && apt-get install -y libgl1-mesa-glx python3-dev wget libeigen3-dev
""",
    "README.md": """\
Tested with CUDA 11.3 and PyTorch 1.12.1.

    git clone https://git.example.org/lab/nerf

Weights: [link](https://drive.google.com/file/d/1ozeh3U3uxZImjabKVae8kNZSoNuvFx49/view), [all](https://drive.google.com/drive/folders/1E_8W805lioIznqbkvTQHWWi5IFXUG7Er).
""",
    "ops/setup.py": SETUP,
    "gpu/setup.py": SETUP.replace("nerf_ops", "other_ops").replace(
        'os.getenv("FORCE_CUDA", "0") == "1"', "False"
    ),
    "part/requirements.txt": "torch==1.10.0\neinops\n",
    "configs/base.yaml": "weights: detectron2://ImageNet/R-50.pkl\n",
    "net/load.py": """\
import cv2, torch, wandb
from torch.hub import load_state_dict_from_url
load_state_dict_from_url("https://weights.example.org/resnet18-5c106cde.pth")
torch.hub.load("lab/dino:v2", "vits14")
Model.from_pretrained("lab/hubert-large")
numpy.bool
""",
    "tests/requirements.txt": "torch==0.1\n",
}


def test_draft_of_a_whole_repository(golden: Callable[[str, str], None]) -> None:
    inner = Submodule(
        path="ext/raster",
        url="https://git.example.org/lab/raster",
        commit="f" * 40,
        place=Place(file=".gitmodules", line=1),
    )
    pointer = pointer_of(
        b"version https://git-lfs.github.com/spec/v1\noid sha256:" + b"a" * 64 + b"\nsize 12\n",
        "w/model.pt",
    )
    assert pointer is not None
    files = {path: text for path, text in REPOSITORY.items() if not is_aside(path)}
    text = drafted(files, extra=(inner, pointer))
    document(text)
    # Versions differ in CUDA's minor one alone, which is worth a warning.
    found = cells.findings(from_document(document(text)), None)
    assert {(finding.check, finding.level) for finding in found} <= {("cuda-minor", "warning")}
    golden("upstream/stack.toml", text)


# ---- anything at all ------------------------------------------------------------------------------

_SPICE = st.sampled_from(
    [
        '"',
        "'''",
        "\\",
        "\x00",
        "\x7f",
        "\x85",
        "\u2028",
        "�",
        "\u202e",
        "]]",
        "# ",
        "\r",
        "[[build]]",
        "$(",
        "`",
        "torch==",
        "1.12.1+cu113",
        "git+https://",
        "@",
        "pip install ",
        "FROM nvidia/cuda:",
        "name=",
        "setup(",
        "https://",
        ".pth",
        "cudatoolkit=",
        "- ",
        "dependencies:\n",
        "python=",
        "3.9",
        "wget ",
        "\n",
        "  ",
        "import ",
        "CUDA ",
        "99999999999999999999",
        chr(0x663) + "." + chr(0x661),
    ]
)
_TEXTS = st.lists(st.one_of(_SPICE, _SPICE, st.text(max_size=12)), max_size=40).map("".join)
_PATHS = st.sampled_from(
    [
        "environment.yml",
        "requirements.txt",
        "setup.py",
        "x/setup.py",
        "setup.cfg",
        "pyproject.toml",
        "Dockerfile",
        "README.md",
        "get.sh",
        "a.py",
        "cog.yaml",
        "x y/'\"\n.py",
        "x/pkg/__init__.py",
        "c.json",
        "�.md",
        "requirements/a.txt",
    ]
)


@pytest.mark.property
@settings(max_examples=400)
@given(st.dictionaries(_PATHS, _TEXTS, max_size=5), st.booleans())
def test_no_text_crashes_a_reader_or_breaks_out_of_the_draft(
    files: dict[str, str], located: bool
) -> None:
    text = drafted(files, git="https://git.example.org/lab/nerf" if located else "")
    text.encode()
    stack = document(text)
    assert stack["name"] == "nerf"
    assert set(stack) <= {
        "name",
        "summary",
        "target",
        "base",
        "interpreter",
        "apt",
        "python",
        "build",
        "source",
        "env",
        "preflight",
    }


@pytest.mark.property
@settings(max_examples=300)
@given(
    st.sampled_from(
        [
            "dependencies:\n  - pytorch={}\n  - cudatoolkit={}\n  - python={}\n",
            "dependencies:\n  - {}\n  - pip:\n    - {}\n    - --extra-index-url {}\n",
        ]
    ),
    st.lists(_TEXTS.map(lambda text: text.replace("\n", " ")), min_size=3, max_size=3),
)
def test_no_value_of_an_environment_breaks_out_of_the_draft(frame: str, values: list[str]) -> None:
    document(drafted({"environment.yml": frame.format(*values)}))


@pytest.mark.parametrize(
    ("path", "text"),
    [
        ("environment.yml", "dependencies:\n  - &a [*a]\n"),
        ("environment.yml", "dependencies:\n  - 0-\n  - a_ =1\n"),
        ("environment.yml", "dependencies:\n" + "  - [" * 3000),
        ("environment.yml", "dependencies:\n  - !!python/object/apply:os.system ['exit 1']\n"),
        ("pyproject.toml", "a = " + "[" * 5000),
        ("setup.py", "(" * 5000),
        ("setup.py", "x = " + "-" * 50_000 + "1"),
        ("a.py", "import " + "a." * 50_000),
        ("README.md", "pip install " + "x " * 200_000),
        ("README.md", "https://" * 50_000),
        ("README.md", "`pip install " * 50_000),
        ("Dockerfile", "RUN <<A\n" * 2000),
        ("requirements.txt", "x\\\n" * 50_000),
        ("setup.cfg", "[a\n" * 1000),
        ("get.sh", "cd a\n" * 150_000),
        ("environment.yml", "dependencies:\n" + "\n" * 5000 + "x"),
        ("README.md", ("CUDA" + " " * 3990 + "\n") * 200),
        ("README.md", "pip install " + "-" * 100_000),
        ("README.md", "drive.google.com/uc?" + "a&" * 50_000),
        ("Dockerfile", "RUN " + "--a " * 20_000 + "\nENV " + 'A="' * 20_000),
        ("a.py", "# " + "np." * 100_000 + "\n" + "pip install -x " * 50_000),
        ("a.py", ("\n" + "from " + "a." * 900) * 500),
        (".gitmodules", "path =" + " " * 100_000),
    ],
    ids=lambda value: value[:24],
)
def test_text_made_to_hurt_is_survived(path: str, text: str) -> None:
    document(drafted({path: text}))
