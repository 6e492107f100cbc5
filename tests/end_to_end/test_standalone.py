"""A stack whose Python is no Debian package: resolved, compiled, put into an image and run."""

from __future__ import annotations

import json
import re
from contextlib import closing
from typing import TYPE_CHECKING

import pytest
from docker import DockerClient

from lockbuild.digest import sha256_of
from tests.end_to_end.audits import EXPECTED
from tests.end_to_end.project import NATIVE, Project, scratch_folder
from tests.needs import need
from tests.standalone import make_archive

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

# Debian 12 has Python 3.11. No package of it is asked for, nor any of its headers.
_STACK = """\
name = "small"

[target]
python = "3.10"
platform = "linux_x86_64"
glibc = "2.36"

[base]
debian = {{ suite = "bookworm" }}

[interpreter]
standalone = {{ url = ["{url}"], sha256 = "{sha256}" }}

[apt]
toolchain = ["g++"]
runtime = ["libstdc++6"]

[python]
requires = ["markupsafe"]

[[build]]
name = "native-sum"
version = "1.0"
source = {{ path = "native" }}
edits = [{{ file = "native_sum.c", old = "first + second", new = "second + first", reason = "tests" }}]
build-requires = ["setuptools"]
expects = ["native_sum*.so", "native_plus*.so"]

[preflight]
imports = ["markupsafe", "native_sum"]
checks = ["import native_plus; assert native_plus.twice(2) == 4"]
"""
_SETUP = """\
import json
import sys
from setuptools import Extension, setup

json.dump({"version": sys.version_info[:2], "executable": sys.executable}, open("native_seen.json", "w"))
modules = [Extension("native_sum", ["native_sum.c"]), Extension("native_plus", ["native_plus.cpp"])]
setup(
    name="native-sum",
    version="1.0",
    ext_modules=modules,
    py_modules=["native_seen"],
)
print(json.load(open("native_seen.json")))
"""
_PLUS = """\
#include <Python.h>
#include <string>

static PyObject *twice(PyObject *self, PyObject *number) {
    std::string text(static_cast<size_t>(PyLong_AsLong(number)), 'x');
    return PyLong_FromSize_t((text + text).size());
}

static PyMethodDef methods[] = {{"twice", twice, METH_O, "Double."}, {NULL, NULL, 0, NULL}};
static struct PyModuleDef module = {PyModuleDef_HEAD_INIT, "native_plus", NULL, -1, methods};

PyMODINIT_FUNC PyInit_native_plus(void) { return PyModule_Create(&module); }
"""
_PROOF = """
import json, markupsafe, native_plus, native_sum, os, subprocess, sys
assert markupsafe._speedups
venv = subprocess.run([sys.executable, "-m", "venv", "--without-pip", "/tmp/venv"])
inner = subprocess.run(["/tmp/venv/bin/python", "-c", "print(42)"], capture_output=True, text=True)
print(json.dumps({
    "version": sys.version_info[:2],
    "prefix": sys.base_prefix,
    "sums": [native_sum.add(2, 3), native_plus.twice(4)],
    "user": os.getuid(),
    "venv": inner.stdout.strip(),
}))
"""


@pytest.fixture(scope="module")
def project(
    tmp_path_factory: pytest.TempPathFactory, user_env: dict[str, str], no_network: tuple[str, ...]
) -> Iterator[Project]:
    """The stack, built without a network."""
    need("bwrap", "mmdebstrap", "apt-get")
    with scratch_folder(tmp_path_factory.mktemp("standalone")) as folder:
        made = Project(root=folder / "project", store=folder / "store", env=user_env)
        archive = make_archive(folder, "3.10")
        (made.stack / "native").mkdir(parents=True)
        sha256 = sha256_of(archive.read_bytes())
        (made.stack / "stack.toml").write_text(_STACK.format(url=archive.as_uri(), sha256=sha256))
        made.edit_native("setup.py", _SETUP)
        made.edit_native("native_sum.c", NATIVE["native_sum.c"])
        made.edit_native("native_plus.cpp", _PLUS)
        made.edit_native("native_seen.py", "")
        made.run("resolve", "small")
        made.run("fetch", "small")
        archive.unlink()
        cut_off = Project(root=made.root, store=made.store, env=user_env, prefix=no_network)
        cut_off.run("build", "small")
        cut_off.run("resolve", "small")
        yield cut_off


@pytest.fixture(scope="module")
def image(project: Project, engine: str) -> str:
    """The image."""
    return project.with_env(DOCKER_HOST=engine).run("image", "small").stdout.strip()


def _run(engine: str, image: str, *words: str) -> str:
    with closing(DockerClient(base_url=engine)) as client:
        output: bytes = client.containers.run(image, list(words), network_mode="none", remove=True)
    return output.decode()


def test_no_python_of_debian_is_locked(project: Project) -> None:
    assert "python3" not in (project.stack / "lockbuild.lock").read_text()


def test_wheel_is_compiled_for_the_standalone_python(project: Project) -> None:
    (wheel,) = project.wheels.glob("native_sum-*.whl")
    assert "-cp310-cp310-linux_x86_64" in wheel.name


def test_extensions_are_compiled_by_the_toolchain_s_compilers(project: Project) -> None:
    log = _log(project, "native-sum-1.0")
    assert "gcc " in log
    assert re.search(r"^ *g\+\+ .*-shared ", log, re.MULTILINE)
    assert "clang" not in log
    assert "'executable': '/opt/python/bin/python3'" in log


def _log(project: Project, name: str) -> str:
    (path,) = (p for p in project.store.rglob("*.log*") if f"-{name}.log" in p.name)
    return path.read_text()


def test_wheel_and_roots_are_the_same_bytes_again(project: Project) -> None:
    verdicts = json.loads(project.run("check", "small", "--json").stdout)
    assert [verdict for verdict in verdicts if not verdict["identical"]] == []


def test_image_runs_on_the_standalone_python(engine: str, image: str) -> None:
    seen = json.loads(_run(engine, image, "python3", "-c", _PROOF))
    assert seen == {
        "version": [3, 10],
        "prefix": "/opt/python",
        "sums": [5, 8],
        "user": 1000,
        "venv": "42",
    }


def test_python_outside_the_environment_is_the_standalone_one(engine: str, image: str) -> None:
    program = "import sys; print(sys.version_info[:2], sys.prefix)"
    assert (
        _run(engine, image, "/usr/local/bin/python3", "-c", program).split("\n")[0]
        == "(3, 10) /opt/python"
    )


def test_preflight_passes_with_imports_and_checks(engine: str, image: str) -> None:
    _run(engine, image, "--preflight-full", "true")


def test_audit_finds_nothing(project: Project, engine: str, image: str) -> None:
    report = json.loads(project.with_env(DOCKER_HOST=engine).run("audit", "small", "--json").stdout)
    assert image
    assert {finding["check"] for finding in report["findings"]} <= EXPECTED


def test_another_archive_makes_the_lock_stale(project: Project, tmp_path: Path) -> None:
    copy = project.copy(tmp_path / "copy")
    sha256 = re.search("[0-9a-f]{64}", (copy.stack / "stack.toml").read_text())
    assert sha256
    copy.edit_stack(sha256[0], "0" * 64)
    said = copy.run("build", "small", exit_code=3).stderr
    assert "interpreter.standalone.sha256" in said
