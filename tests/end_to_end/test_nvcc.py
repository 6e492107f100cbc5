"""A CUDA extension compiled by the real nvcc, out of NVIDIA's wheels: judged, built again, and imported without a GPU.

torch itself is gigabytes, so a stand-in has its name, version and requirements; nothing here compiles against it.
"""

from __future__ import annotations

import json
import zipfile
from dataclasses import replace
from typing import TYPE_CHECKING

import pytest

from lockbuild.binaries import read_binary
from lockbuild.digest import sha256_of
from tests.end_to_end.project import Project, scratch_folder
from tests.needs import need
from tests.servers.index import serve_index
from tests.wheels import make_wheel

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

_STACK = """\
name = "small"

[target]
python = "3.11"
platform = "linux_x86_64"
glibc = "2.36"
cuda = "13.0"
cuda-architectures = ["7.5", "9.0+PTX"]

[base]
debian = {{ suite = "bookworm" }}

[interpreter]
apt = "python3"

[toolchain]
nvcc = {{ wheels = ["cuda-toolkit[cccl,crt,cudart,nvcc,nvvm]==13.0.2"] }}
compiler = "g++-12"

[apt]
toolchain = ["libpython3-dev"]
runtime = ["libstdc++6"]

[python]
requires = ["torch==2.11.0"]

[[python.wheel]]
name = "torch"
version = "2.11.0"
url = ["{url}"]
sha256 = "{sha256}"
requires = ["nvidia-cuda-runtime==13.0.96"]

[[build]]
name = "scale"
version = "1.0"
source = {{ path = "native" }}
needs = ["torch"]
build-requires = ["setuptools<81"]
requires = ["torch"]
expects = ["scale*.so"]

[preflight]
imports = ["scale"]
checks = ["import scale; assert scale.devices() == -1"]
"""

# As torch's cpp_extension does it: code for each architecture, and PTX where `+PTX` asks for it.
_SETUP = """\
import os
import subprocess
from pathlib import Path
from setuptools import Extension, setup
from setuptools.command.build_ext import build_ext
from sysconfig import get_path

CUDA = os.environ["CUDA_HOME"]


def codes():
    for architecture in os.environ["TORCH_CUDA_ARCH_LIST"].split(";"):
        number = architecture.removesuffix("+PTX").replace(".", "")
        yield f"-gencode=arch=compute_{number},code=sm_{number}"
        if architecture.endswith("+PTX"):
            yield f"-gencode=arch=compute_{number},code=compute_{number}"


class Build(build_ext):
    def build_extension(self, extension):
        include = f"-I{get_path('include')}"
        nvcc = [f"{CUDA}/bin/nvcc", "-ccbin", os.environ["CXX"], "-O2", "-Xcompiler=-fPIC", include]
        # As with more jobs or fewer, process ids differ from one build to the next.
        for _ in range(os.urandom(1)[0]):
            subprocess.run(["true"], check=True)
        for name in ("scale", "hidden"):
            source = str(Path(f"{name}.cu").resolve())
            subprocess.run([*nvcc, *codes(), "-c", source, "-o", f"{name}.o"], check=True)
        target = self.get_ext_fullpath(extension.name)
        Path(target).parent.mkdir(parents=True, exist_ok=True)
        rpath = "-Wl,-rpath,$ORIGIN/nvidia/cu13/lib"
        linker = [os.environ["CXX"], "-shared", "scale.o", "hidden.o", f"-L{CUDA}/lib64", "-lcudart", rpath]
        subprocess.run([*linker, "-o", target], check=True)


setup(
    name="scale",
    version="1.0",
    ext_modules=[Extension("scale", ["scale.cu"])],
    cmdclass={"build_ext": Build},
)
"""
_SOURCE = """\
#include <Python.h>
#include <cuda_runtime.h>

__global__ void scale(float *values, float factor, int count) {
    int here = blockIdx.x * blockDim.x + threadIdx.x;
    if (here < count)
        values[here] *= factor;
}

static PyObject *run(PyObject *self, PyObject *) {
    float *values = nullptr;
    if (cudaMalloc(&values, 1024 * sizeof(float)) != cudaSuccess)
        Py_RETURN_FALSE;
    scale<<<4, 256>>>(values, 2.0f, 1024);
    cudaFree(values);
    Py_RETURN_TRUE;
}

static PyObject *devices(PyObject *self, PyObject *) {
    int count = 0;
    return PyLong_FromLong(cudaGetDeviceCount(&count) == cudaSuccess ? count : -1);
}

static PyMethodDef methods[] = {
    {"devices", devices, METH_NOARGS, "Count GPUs; -1 without a driver."},
    {"run", run, METH_NOARGS, "Scale something."},
    {NULL, NULL, 0, NULL}};
static struct PyModuleDef module = {PyModuleDef_HEAD_INIT, "scale", NULL, -1, methods};

PyMODINIT_FUNC PyInit_scale(void) { return PyModule_Create(&module); }
"""
# nvcc names what is in it after the file and, as nothing here can be linked to, after a process.
_HIDDEN = """\
namespace {
__global__ void fill(int *values) { values[0] = 1; }
}
template <typename T> void start(T *values) { fill<<<1, 1>>>((int *)values); }
template void start<int>(int *);
"""


@pytest.fixture(scope="module")
def project(
    tmp_path_factory: pytest.TempPathFactory, user_env: dict[str, str], no_network: tuple[str, ...]
) -> Iterator[Project]:
    """The stack, built without a network."""
    need("bwrap", "mmdebstrap", "apt-get")
    with scratch_folder(tmp_path_factory.mktemp("nvcc")) as folder:
        made = Project(root=folder / "project", store=folder / "store", env=user_env)
        torch = make_wheel(
            folder / "index", "torch", "2.11.0", requires=["nvidia-cuda-runtime==13.0.96"]
        )
        (made.stack / "native").mkdir(parents=True)
        made.edit_native("setup.py", _SETUP)
        made.edit_native("scale.cu", _SOURCE)
        made.edit_native("hidden.cu", _HIDDEN)
        with serve_index(folder / "index") as server:
            text = _STACK.format(url=_address(server.url, torch), sha256=sha256_of(torch.read_bytes()))
            (made.stack / "stack.toml").write_text(text)
            made.run("resolve", "small")
            made.run("fetch", "small")
        cut_off = Project(root=made.root, store=made.store, env=user_env, prefix=no_network)
        cut_off.run("build", "small")
        yield cut_off


def _address(index: str, wheel: Path) -> str:
    return f"{index.removesuffix('/').removesuffix('/simple')}/files/{wheel.name}"


def _wheel(project: Project) -> Path:
    (wheel,) = project.wheels.glob("scale-*.whl")
    return wheel


def test_the_wheel_says_its_cell(project: Project) -> None:
    assert _wheel(project).name == "scale-1.0+pt211cu130-cp311-cp311-linux_x86_64.whl"


def test_the_extension_has_code_for_the_architectures_of_the_stack(
    project: Project, tmp_path: Path
) -> None:
    with zipfile.ZipFile(_wheel(project)) as archive:
        (name,) = (name for name in archive.namelist() if name.endswith(".so"))
        with open(archive.extract(name, tmp_path), "rb") as stream:
            binary = read_binary(stream, name)
    found = {(code.kind, code.architecture) for codes in binary.device_code for code in codes}
    assert found == {("cubin", "7.5"), ("cubin", "9.0"), ("ptx", "9.0")}


def test_nvcc_repeats_itself(project: Project) -> None:
    verdicts = json.loads(project.run("check", "small", "scale", "--json").stdout)
    assert [verdict["identical"] for verdict in verdicts] == [True]


def test_other_architectures_than_the_stack_has_are_refused(project: Project, tmp_path: Path) -> None:
    other = project.copy(tmp_path / "copy")
    other.edit_stack('["7.5", "9.0+PTX"]', '["8.0"]')
    replace(other, prefix=()).run("resolve", "small")
    wheel = _wheel(project)
    said = other.run("gate", "small", str(wheel), exit_code=6)
    assert "architectures" in said.stdout + said.stderr
