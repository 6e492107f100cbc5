"""What builds run: commands, search paths and compilers. Pure."""

from __future__ import annotations

import shlex
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Mapping

    from lockbuild.imagelock import LockedImage
    from lockbuild.stack import Interpreter

__all__ = [
    "ENVIRONMENT",
    "INPUTS",
    "build_env",
    "compilers",
    "image_env",
    "install_command",
    "runtime_command",
    "search_path",
    "toolkit_command",
    "wheel_command",
]

INPUTS = "/build/inputs"
"""Where a build finds its inputs."""

ENVIRONMENT = f"{INPUTS}/environment"
"""Where it finds its build environment."""

_PREFIX_MAPS = tuple(f"-ffile-prefix-map={folder}/=" for folder in ("/build/source", ENVIRONMENT))
_FLAGS = " ".join(("-g0", *_PREFIX_MAPS))
_REPEATABLE = {
    "CFLAGS": _FLAGS,
    "CXXFLAGS": _FLAGS,
    # nvcc writes the names of its temporary files, which hold its process id, into objects.
    "NVCC_APPEND_FLAGS": f"--objdir-as-tempdir -Xcompiler={','.join(_PREFIX_MAPS)}",
}
"""Flags that keep folders, names and line tables of the machine out of objects: GCC's manual, `-ffile-prefix-map`;
nvcc's, `--objdir-as-tempdir`."""

SORTED_LISTINGS = """\
# What a glob gathers is linked in the order in which the file system lists it, which is each file system's own.
import os

_listdir, _scandir = os.listdir, os.scandir


class _Sorted:
    def __init__(self, path="."):
        with _scandir(path) as found:
            self._entries = iter(sorted(found, key=lambda entry: entry.name))

    def __iter__(self):
        return self

    def __next__(self):
        return next(self._entries)

    def __enter__(self):
        return self

    def __exit__(self, *error):
        self.close()

    def close(self):
        self._entries = iter(())


def listdir(path="."):
    return sorted(_listdir(path))


os.listdir, os.scandir = listdir, _Sorted
"""
"""`sitecustomize.py` of every build environment: Python imports it before it runs anything."""

_FIXED_TIMES = "find . -exec touch --no-dereference --date=@$SOURCE_DATE_EPOCH {} +"
"""nvcc names what a file keeps to itself by a checksum that holds the time at which its source was written. What an
archive holds has the archive's times; what is copied has those of the copying."""

_SYSTEM_PATH = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"


def search_path(interpreter: Interpreter, image: LockedImage | None = None) -> str:
    """Return the PATH on which `python3` is the stack's.

    Args:
        image: What the root file system stands on.
    """
    path = (image.path if image else "") or _SYSTEM_PATH
    # By way of the links in /usr/local/bin, an older Python makes virtual environments that do not work.
    return f"{interpreter.folder}/bin:{path}" if interpreter.folder else path


def image_env(image: LockedImage | None) -> dict[str, str]:
    """Return the variables that the *image* of a root file system sets, but for PATH."""
    return {name: value for name, value in (image.env if image else ()) if name != "PATH"}


def compilers(interpreter: Interpreter, own: Mapping[str, str]) -> dict[str, str]:
    """Return the variables that name the compilers and linkers for extensions, beside a build's *own*.

    A Python from Debian knows Debian's. A standalone one remembers the clang and the archiver of the machine
    that it was made on, and one from conda conda's own, which the toolchain has not.
    """
    if interpreter.folder is None:
        return {}
    cc, cxx = own.get("CC", "gcc"), own.get("CXX", "g++")
    linkers = {"LDSHARED": f"{cc} -shared", "LDCXXSHARED": f"{cxx} -shared"}
    return {"AR": "ar", "CC": cc, "CXX": cxx, **linkers}


def build_env(own: Mapping[str, str], env: Mapping[str, str]) -> dict[str, str]:
    """Return the variables of a build: *env*, flags that make compilers repeat themselves, and a build's *own*.

    A build's own flags come after ours, and leave them standing.
    """
    flags = {name: f"{ours} {own[name]}" for name, ours in _REPEATABLE.items() if name in own}
    return {**env, **_REPEATABLE, **own, **flags}


def install_command(installer: str, *, built: bool, toolkit: str | None = None) -> tuple[str, ...]:
    """Return what installs wheels into a build environment.

    Args:
        installer: File name of pip's own wheel among them.
        built: Whether some were built, not fetched.
        toolkit: The folder below the environment that NVIDIA's wheels put their toolkit into, if it is compiled with.
    """
    wheels = f"{INPUTS}/wheels/*.whl" + (f" {INPUTS}/built/*/*.whl" if built else "")
    return (
        "/bin/sh",
        "-euc",
        (
            f"{_install(f'{INPUTS}/wheels/{installer}', wheels)}"
            f"cat > /build/out/sitecustomize.py <<'EOF'\n{SORTED_LISTINGS}EOF\n"
            f"{toolkit_command(toolkit) if toolkit else ''}"
        ),
    )


def runtime_command(installer: str) -> tuple[str, ...]:
    """Return what installs the wheels that are fetched for an image, to try the others beside them.

    Args:
        installer: File name of pip's own wheel, which is not installed.
    """
    return ("/bin/sh", "-euc", _install(f"{INPUTS}/installer/{installer}", f"{INPUTS}/wheels/*.whl"))


def _install(installer: str, wheels: str) -> str:
    # pip unpacks beside its target, and moves: within one mount that is renaming.
    return (
        "export TMPDIR=/build/out/.pip; mkdir $TMPDIR\n"
        f"python3 {installer}/pip install --no-index --no-deps --no-compile --no-cache-dir"
        f" --disable-pip-version-check --no-warn-script-location --target /build/out {wheels}\n"
        "rm -r $TMPDIR\n"
    )


def toolkit_command(toolkit: str) -> str:
    """Return what makes links in the *toolkit* of a build environment, by which compilers find its libraries.

    Extensions of torch are linked with `-L$CUDA_HOME/lib64 -lcudart`; the wheels have `lib/libcudart.so.13` alone.
    """
    return (
        f"cd /build/out/{toolkit}\n"
        "[ -e lib64 ] || ln -s lib lib64\n"
        'for library in lib/lib*.so.*; do link="${library%%.so.*}.so"; '
        '[ -e "$link" ] || ln -s "${library##*/}" "$link"; done\n'
    )


def _unpack_command(archive: str | None) -> str:
    """Return what puts the source into a folder of its own, and goes there."""
    if archive is None:
        # Inputs are read-only, and many a setup.py writes beside itself.
        return f"mkdir tree; cp -R {INPUTS}/source/. tree; chmod -R u+w tree; cd tree; {_FIXED_TIMES}"
    place = shlex.quote(f"{INPUTS}/source/{archive}")
    unpack = (
        f"python3 -m zipfile -e {place} .; {_FIXED_TIMES}"
        if archive.endswith(".zip")
        else f"tar --extract --file {place} --no-same-owner"
    )
    # An sdist holds one folder, whose name is not always its file's.
    return f"{unpack}; cd ./*/"


def wheel_command(archive: str | None, subdirectory: str | None) -> tuple[str, ...]:
    """Return what makes a wheel of a source: of an *archive* of that file name, or of a folder."""
    enter = f"cd /build/source; {_unpack_command(archive)}"
    if subdirectory:
        enter += f"; cd {shlex.quote(subdirectory)}"
    return (
        "/bin/sh",
        "-euc",
        (
            f"{enter}; python3 -m pip wheel --no-index --no-deps --no-build-isolation"
            " --no-cache-dir --disable-pip-version-check --verbose --wheel-dir /build/out ."
        ),
    )
