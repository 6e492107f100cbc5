"""One upstream of every kind that a stack can name, each on loopback, and the stack that takes from all of them."""

from __future__ import annotations

import zipfile
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from io import BytesIO
from typing import TYPE_CHECKING
from urllib.parse import quote

import pytest

from lockbuild.digest import sha256_of
from tests import repositories
from tests.conda import PLACEHOLDER, CondaPackage, make_channel
from tests.end_to_end.project import make_sdist
from tests.servers.faulty import faulty_server
from tests.servers.git import git_server
from tests.servers.index import serve_index
from tests.servers.registry import serve_registry
from tests.standalone import make_archive
from tests.wheels import make_wheel

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping
    from pathlib import Path

__all__ = ["APP", "MODELS", "PATCH", "upstreams"]

APP = "/workspace/app"
MODELS = f"{APP}/models"
"""Where the mount belongs, without which nothing runs."""

# The Python is another one than that of the images, which lack `libgomp1`.
_STACK = """\
name = "small"
summary = "one of every kind"

[target]
python = "3.10"
platform = "linux_x86_64"
glibc = "2.36"

[base]
toolchain = "{registry}/tests/devel@{toolchain}"
runtime = "{registry}/tests/base@{runtime}"
packages = {{ suite = "bookworm" }}

[apt]
runtime = ["libgomp1"]

[interpreter]
standalone = {{ url = ["{files}/{python}"], sha256 = "{python_sha256}" }}

[conda]
channels = ["{files}/channel"]
packages = ["tool >=2"]

[python]
requires = ["markupsafe", "pinned"]

[[python.index]]
name = "ours"
url = "{index}"
only = ["greeting"]

[[python.wheel]]
name = "pinned"
version = "1.0+ours"
url = ["{files}/{wheel}"]
sha256 = "{wheel_sha256}"
requires = ["markupsafe"]

[[build]]
name = "native-every"
version = "1.0"
source = {{ git = "{git}/native", commit = "{native}", submodules = true }}
build-requires = ["setuptools<81"]
edits = [
  {{ graft = "extras", take = "headers/graft", put = "graft", reason = "upstream lacks it" }},
  {{ patch = "patches/native.patch", reason = "upstream has not taken it" }},
  {{ file = "native_every.c", old = 'SUBSTITUTE "substitute"', new = 'SUBSTITUTE "substituted"', reason = "only here" }},
]
expects = ["native_every*.so"]

[[build]]
name = "greeting"
version = "2.1"
source = {{ sdist = "greeting==2.1" }}
needs = ["markupsafe"]
build-requires = ["setuptools<81"]
requires = ["markupsafe"]

[[source]]
name = "extras"
git = "{git}/extras"
ref = "main"
include = ["headers/**"]

[[source]]
name = "app"
git = "{git}/app"
commit = "{app}"
path = "/workspace/app"
license = "MIT"
edits = [{{ file = "settings.py", old = '"cuda"', new = '"cpu"', reason = "no GPU here" }}]

[[asset]]
name = "weights"
path = "/workspace/app/weights/tiny.bin"
url = ["{files}/gone.bin", "{files}/tiny.bin"]
sha256 = "{weights_sha256}"
size = {weights_size}
license = "MIT"

[[asset]]
name = "tables"
path = "/opt/tables"
url = ["{files}/tables.zip"]
sha256 = "on-first-fetch"
type = "zip"
members = {{ "deep/table.txt" = "table.txt" }}
license = "CC0-1.0"

[[asset]]
name = "models"
path = "/workspace/app/models"
policy = "mount"
holds = ["*.pkl"]
why = "its licence lets nobody pass it on"

[[asset]]
name = "recordings"
path = "/workspace/app/recordings"
policy = "optional-mount"
why = "only training needs them"

[env]
APP_MODE = "small"

[preflight]
imports = ["greeting", "markupsafe", "native_every", "pinned"]
checks = ["import native_every; assert native_every.value()['submodule'] == 42"]

[image]
workdir = "/workspace/app"
command = ["python3", "main.py"]
"""

# ---- what is compiled: a repository, its submodule, and that one's submodule -----------------------------

_NATIVE = {
    "setup.py": b"""\
from setuptools import Extension, setup

setup(name="native-every", version="1.0", ext_modules=[Extension("native_every", ["native_every.c"])])
""",
    "native_every.c": b"""\
#include <Python.h>
#include "graft/graft.h"
#include "middle/middle.h"

#define PATCH "patch"
#define SUBSTITUTE "substitute"

static PyObject *value(PyObject *self, PyObject *unused) {
    return Py_BuildValue("{sisssssi}", "submodule", MIDDLE, "patch", PATCH, "substitute", SUBSTITUTE,
                         "graft", GRAFT);
}

static PyMethodDef methods[] = {{"value", value, METH_NOARGS, "What edits left."}, {NULL, NULL, 0, NULL}};
static struct PyModuleDef module = {PyModuleDef_HEAD_INIT, "native_every", NULL, -1, methods};

PyMODINIT_FUNC PyInit_native_every(void) { return PyModule_Create(&module); }
""",
}
PATCH = """\
--- a/native_every.c
+++ b/native_every.c
@@ -5,2 +5,2 @@
-#define PATCH "patch"
+#define PATCH "patched"
 #define SUBSTITUTE "substitute"
"""
_MIDDLE = {"middle.h": b'#include "inner/inner.h"\n#define MIDDLE (2 * INNER)\n'}
_INNER = {"inner.h": b"#define INNER 21\n"}
_EXTRAS = {"headers/graft/graft.h": b"#define GRAFT 7\n", "notes/unwanted.txt": b"left out\n"}

# ---- the application -------------------------------------------------------------------------------------

_APP = {
    "settings.py": b'DEVICE = "cuda"\n',
    "main.py": b"""\
import ctypes, json, os, socket, subprocess, sys
from pathlib import Path

import greeting, markupsafe, native_every, pinned, settings


def network():
    try:
        socket.create_connection(("192.0.2.1", 80), timeout=5).close()
    except OSError as error:
        return error.strerror
    return "there"


print(json.dumps({
    "python": [list(sys.version_info[:2]), sys.base_prefix],
    "user": os.getuid(),
    "base": os.environ.get("BASE"),
    "package": ctypes.CDLL("libgomp.so.1").omp_get_max_threads() > 0,
    "network": network(),
    "wheel": markupsafe._speedups is not None,
    "pinned wheel": pinned.TEXT,
    "sdist": greeting.TEXT,
    "git": native_every.value(),
    "conda": subprocess.run(["tool"], capture_output=True, text=True, check=True).stdout.strip(),
    "source": settings.DEVICE,
    "variable": os.environ["APP_MODE"],
    "bundle": Path("weights/tiny.bin").read_text(),
    "archive": sorted(f"{path}: {path.read_text()}" for path in Path("/opt/tables").rglob("*.*")),
    "mount": sorted(path.name for path in Path("models").iterdir()),
    "optional mount": Path("recordings").exists() and sorted(os.listdir("recordings")),
}))
""",
}
_TOOL = CondaPackage(
    name="tool",
    version="2.1",
    depends=("words", "__glibc >=2.17"),
    files={"bin/tool": b"#!/bin/sh\nexec cat " + PLACEHOLDER.encode() + b"/share/words\n"},
)
_WORDS = CondaPackage(
    name="words", version="1.0", noarch="generic", files={"share/words": b"out of conda\n"}
)
_WEIGHTS = b"weights"
_ENV = ("PATH=/usr/local/bin:/usr/bin:/bin", "BASE=of a registry")


@dataclass(frozen=True, slots=True, kw_only=True)
class _Commits:
    """What the stack pins."""

    native: str
    app: str


@contextmanager
def upstreams(folder: Path, roots: Mapping[str, Path]) -> Iterator[str]:
    """Serve all that the stack takes from *folder*, and give the stack file; after the block nobody answers.

    Args:
        roots: `runtime` and `toolchain` -> a tar; each is the one layer of an image.
    """
    files = folder / "files"
    python = make_archive(_made(files), "3.10")
    wheel = make_wheel(
        files,
        "pinned",
        "1.0+ours",
        requires=["markupsafe"],
        files={"pinned.py": b'TEXT = "by its hash"\n'},
    )
    make_channel(files / "channel", [_TOOL, _WORDS])
    (files / "tiny.bin").write_bytes(_WEIGHTS)
    (files / "tables.zip").write_bytes(_zip({"deep/table.txt": b"rows", "unwanted.txt": b"left out"}))
    make_sdist(_made(folder / "index"))
    with ExitStack() as servers:
        served = servers.enter_context(faulty_server(files))
        index = servers.enter_context(serve_index(folder / "index"))
        git = servers.enter_context(git_server(_made(folder / "git")))
        registry = servers.enter_context(serve_registry(folder / "registry"))
        commits = _commit_all(folder / "git", git.url)
        yield _STACK.format(
            registry=registry.host,
            runtime=registry.push("tests/base", [roots["runtime"].read_bytes()], env=_ENV).digest,
            toolchain=registry.push("tests/devel", [roots["toolchain"].read_bytes()], env=_ENV).digest,
            files=served.url,
            index=index.url,
            git=git.url,
            native=commits.native,
            app=commits.app,
            python=quote(python.name),
            python_sha256=sha256_of(python.read_bytes()),
            wheel=quote(wheel.name),
            wheel_sha256=sha256_of(wheel.read_bytes()),
            weights_sha256=sha256_of(_WEIGHTS),
            weights_size=len(_WEIGHTS),
        )


def _made(folder: Path) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    return folder


def _commit_all(folder: Path, url: str) -> _Commits:
    """Make the repositories: one submodule is named by its address, the other one beside it."""
    with pytest.MonkeyPatch.context() as patch:
        repositories.own_git(patch, _made(folder.parent / "home"))
        inner = repositories.commit(repositories.new(folder / "inner"), _INNER)
        middle = repositories.commit(
            repositories.new(folder / "middle"),
            {**_MIDDLE, ".gitmodules": repositories.gitmodules(inner="../inner")},
            links={"inner": inner},
        )
        native = repositories.commit(
            repositories.new(folder / "native"),
            {**_NATIVE, ".gitmodules": repositories.gitmodules(middle=f"{url}/middle")},
            links={"middle": middle},
        )
        repositories.commit(repositories.new(folder / "extras"), _EXTRAS)
        app = repositories.commit(repositories.new(folder / "app"), _APP)
    return _Commits(native=native, app=app)


def _zip(members: dict[str, bytes]) -> bytes:
    stream = BytesIO()
    with zipfile.ZipFile(stream, "w") as archive:
        for name, data in members.items():
            archive.writestr(zipfile.ZipInfo(name), data)
    return stream.getvalue()
