"""A small real project, and lockbuild run on it as its user would: the command, a folder, a store, a home."""

from __future__ import annotations

import contextlib
import gzip
import io
import os
import shutil
import subprocess
import sys
import tarfile
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

from lockbuild.process import Completed
from lockbuild.store import Store, remove_tree

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping, Sequence

    from lockbuild.digest import StorePath

__all__ = [
    "BUILDS",
    "NAME",
    "NATIVE",
    "REPOSITORY",
    "RUNTIME",
    "TOOLCHAIN",
    "Project",
    "flip",
    "home_env",
    "make_sdist",
    "scratch_folder",
    "snapshot",
    "stack_text",
]

REPOSITORY = Path(__file__).parents[2]
NAME = "small"
BUILDS = ("native-sum", "greeting")
RUNTIME, TOOLCHAIN = "bookworm-runtime", "bookworm-toolchain"
_TIMEOUT_S = 400

# `greeting` needs a package that ships, and comes from an index of the stack's own.
_STACK = """\
name = "small"
summary = "what the tests build"

[target]
python = "3.11"
platform = "linux_x86_64"
glibc = "2.36"

[base]
debian = {{ suite = "bookworm" }}

[interpreter]
apt = "python3"

[apt]
toolchain = ["gcc", "libc6-dev", "libpython3-dev"]

[python]
requires = ["markupsafe"]

[[python.index]]
name = "ours"
url = "{index}"
only = ["greeting", "picky"]

[[build]]
name = "native-sum"
version = "1.0"
source = {{ path = "native" }}
build-requires = ["setuptools<81"]
expects = ["native_sum*.so"]

[[build]]
name = "greeting"
version = "2.1"
source = {{ sdist = "greeting==2.1" }}
needs = ["markupsafe"]
build-requires = ["setuptools<81"]
requires = ["markupsafe"]

[preflight]
imports = ["greeting", "markupsafe", "native_sum"]
checks = ["import native_sum; assert native_sum.add(2, 3) == 5"]
"""

NATIVE: Mapping[str, str] = {
    "setup.py": """\
from setuptools import Extension, setup

setup(name="native-sum", version="1.0", ext_modules=[Extension("native_sum", ["native_sum.c"])])
""",
    "native_sum.c": """\
#include <Python.h>

static PyObject *add(PyObject *self, PyObject *args) {
    long first, second;
    if (!PyArg_ParseTuple(args, "ll", &first, &second))
        return NULL;
    return PyLong_FromLong(first + second);
}

static PyMethodDef methods[] = {{"add", add, METH_VARARGS, "Add."}, {NULL, NULL, 0, NULL}};
static struct PyModuleDef module = {PyModuleDef_HEAD_INIT, "native_sum", NULL, -1, methods};

PyMODINIT_FUNC PyInit_native_sum(void) { return PyModule_Create(&module); }
""",
}
"""The source of the C extension: file name -> text."""

_GREETING = {
    "setup.py": """\
from pathlib import Path

from markupsafe import escape
from setuptools import setup

Path("greeting.py").write_text(f"TEXT = {str(escape('<hello>'))!r}\\n")
setup(name="greeting", version="2.1", py_modules=["greeting"], install_requires=["markupsafe"])
""",
}


def stack_text(index: str) -> str:
    """Return the stack file, whose own index is at *index*."""
    return _STACK.format(index=index)


def home_env(home: Path) -> dict[str, str]:
    """Return what makes *home* the user's own folder for every tool."""
    return {
        "HOME": str(home),
        "XDG_CACHE_HOME": str(home / ".cache"),
        "XDG_CONFIG_HOME": str(home / ".config"),
        "XDG_DATA_HOME": str(home / ".local/share"),
    }


def make_sdist(folder: Path) -> Path:
    """Write the sdist of `greeting` into *folder*."""
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w") as archive:
        for name, text in _GREETING.items():
            member = tarfile.TarInfo(f"greeting-2.1/{name}")
            member.size = len(text.encode())
            archive.addfile(member, io.BytesIO(text.encode()))
    path = folder / "greeting-2.1.tar.gz"
    path.write_bytes(gzip.compress(buffer.getvalue(), mtime=0))
    return path


@dataclass(frozen=True, slots=True, kw_only=True)
class Project:
    """A folder with a stack in it, and who works there."""

    root: Path
    store: Path
    env: Mapping[str, str]
    """The whole environment of the command."""
    prefix: tuple[str, ...] = ()
    """A command that runs the command: `unshare --net`."""
    python: str = sys.executable

    @property
    def stack(self) -> Path:
        """The stack's folder."""
        return self.root / "stacks" / NAME

    @property
    def wheels(self) -> Path:
        """The wheelhouse."""
        return self.root / "wheels" / NAME

    @property
    def context(self) -> Path:
        """The build context."""
        return self.stack / "context"

    # ---- running -----------------------------------------------------------------------------------

    def command(self, *words: str) -> list[str]:
        """Return the command line that runs lockbuild with *words*."""
        return [*self.prefix, self.python, "-m", "lockbuild", *words]

    def run(self, *words: str, exit_code: int = 0) -> Completed:
        """Run lockbuild to its end; it must end with *exit_code*."""
        ended = subprocess.run(
            self.command(*words),
            cwd=self.root,
            env=self.full_env(),
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            check=False,
            timeout=_TIMEOUT_S,
        )
        assert ended.returncode == exit_code, (
            f"lockbuild {' '.join(words)}: exit code {ended.returncode}, expected {exit_code}\n"
            f"{ended.stdout}\n{ended.stderr}"
        )
        return Completed(
            argv=words, returncode=ended.returncode, stdout=ended.stdout, stderr=ended.stderr
        )

    @contextlib.contextmanager
    def running(self, *words: str) -> Iterator[subprocess.Popen[str]]:
        """Start lockbuild in a process group of its own, as a shell does; at the end nothing is left of it."""
        with subprocess.Popen(
            self.command(*words),
            cwd=self.root,
            env=self.full_env(),
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.PIPE,
            text=True,
            process_group=0,
        ) as process:
            try:
                yield process
            finally:
                process.kill()

    def full_env(self) -> dict[str, str]:
        """Return the environment with the store in it."""
        return {**self.env, "LOCKBUILD_STORE": str(self.store)}

    def with_env(self, **variables: str) -> Project:
        """Return the same project under another environment."""
        return replace(self, env={**self.env, **variables})

    # ---- changing ----------------------------------------------------------------------------------

    def copy(self, folder: Path) -> Project:
        """Return a copy in *folder*: objects are hard links, so change none of their bytes in place."""
        folder.mkdir(parents=True, exist_ok=True)
        root, store = folder / "project", folder / "store"
        _tool("cp", "-al", self.root, root)
        for path in (*root.glob("stacks/*/*"), *root.glob("stacks/*/native/*")):
            if path.is_file():
                _unlink_others(path)
        store.mkdir()
        for place in sorted(self.store.iterdir()):
            if place.name == "unpacked":
                # Thousands of files that nobody changes.
                (store / place.name).symlink_to(place)
            else:
                # All but objects is written to in place, or locked.
                _tool("cp", "-al" if place.name == "objects" else "-a", place, store)
        return replace(self, root=root, store=store)

    def edit_stack(self, old: str, new: str) -> None:
        """Replace *old* in the stack file."""
        file = self.stack / "stack.toml"
        text = file.read_text()
        assert old in text
        file.write_text(text.replace(old, new))

    def edit_native(self, name: str, text: str) -> None:
        """Write one file of the extension's source."""
        (self.stack / "native" / name).write_text(text)

    def objects(self, wanted: Callable[[str], bool]) -> tuple[StorePath, ...]:
        """Return the valid paths whose name, without the digest, is *wanted*."""
        with Store(self.store) as store:
            return tuple(path for path in store.paths() if wanted(path.partition("-")[2]))

    def forget(self, wanted: Callable[[str], bool]) -> None:
        """Take out of the store what `objects` returns."""
        paths = self.objects(wanted)
        assert paths, "nothing to forget"
        with Store(self.store) as store:
            for path in paths:
                store.remove(path)

    def forget_wheels(self) -> None:
        """Take the built wheels and their environments out of the store."""
        made = (*BUILDS, "environment-")
        self.forget(lambda name: name.startswith(made) and not name.endswith((".tar", ".tar.gz")))

    def locate(self, wanted: Callable[[str], bool]) -> Path:
        """Return where the one object lies whose name is *wanted*."""
        (path,) = self.objects(wanted)
        return self.store / "objects" / path

    # ---- looking -----------------------------------------------------------------------------------

    def damages(self) -> str:
        """Return what `lockbuild store verify` has to say against the store."""
        ended = subprocess.run(
            self.command("store", "verify"),
            env=self.full_env(),
            capture_output=True,
            text=True,
            check=False,
            timeout=_TIMEOUT_S,
        )
        return "" if ended.returncode == 0 else ended.stdout + ended.stderr

    def processes(self) -> list[str]:
        """Return the command line of every process that has anything of this project in its hands."""
        return list(_processes(self.store))


def _processes(folder: Path) -> Iterator[str]:
    mark = str(folder).encode()
    for process in Path("/proc").glob("[0-9]*"):
        if int(process.name) == os.getpid():
            continue
        # A build's own environment and words are clean; its mounts still show where they come from.
        with contextlib.suppress(OSError):
            seen = [(process / name).read_bytes() for name in ("cmdline", "environ", "mountinfo")]
            if any(mark in text for text in seen):
                yield seen[0].replace(b"\0", b" ").decode(errors="replace")


def _tool(*words: str | Path) -> None:
    subprocess.run(words, check=True, timeout=_TIMEOUT_S)


@contextlib.contextmanager
def scratch_folder(folder: Path) -> Iterator[Path]:
    """Give *folder*, made; remove it at the end, stores and all: they are too large to be kept."""
    folder.mkdir(parents=True, exist_ok=True)
    try:
        yield folder
    finally:
        remove_tree(folder)


def _unlink_others(path: Path) -> None:
    """Make *path* the only name of its file."""
    copy = path.with_name(f".{path.name}.copy")
    shutil.copy2(path, copy)
    copy.replace(path)


def flip(path: Path) -> None:
    """Change one byte in the middle of a file as a bad disk would: size, mode and times stay.

    The file's other hard links keep the byte.
    """
    # A folder of the store can be read only.
    folder, mode = path.parent, path.parent.stat().st_mode
    folder.chmod(mode | 0o200)
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 1
    other = path.with_name(f".{path.name}.flipped")
    other.write_bytes(data)
    shutil.copystat(path, other)
    other.replace(path)
    folder.chmod(mode)


def snapshot(*folders: Path, without: Sequence[str] = ()) -> dict[str, tuple[int, int, int]]:
    """Return inode, size and time of every file below *folders*, but for parts of paths in *without*."""
    found = {}
    for folder in folders:
        for path in sorted(folder.rglob("*")):
            if path.is_file() and not set(without) & set(path.relative_to(folder).parts):
                facts = path.lstat()
                found[str(path)] = (facts.st_ino, facts.st_size, facts.st_mtime_ns)
    return found
