"""What builds run: commands, search paths and compilers. Pure."""

from __future__ import annotations

import shlex
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Mapping

    from lockbuild.imagelock import LockedImage
    from lockbuild.stack import Interpreter

__all__ = ["INPUTS", "compilers", "image_env", "install_command", "search_path", "wheel_command"]

INPUTS = "/build/inputs"
"""Where a build finds its inputs."""

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


def install_command(installer: str, *, built: bool) -> tuple[str, ...]:
    """Return what installs wheels into a build environment.

    Args:
        installer: File name of pip's own wheel among them.
        built: Whether some were built, not fetched.
    """
    wheels = f"{INPUTS}/wheels/*.whl" + (f" {INPUTS}/built/*/*.whl" if built else "")
    return (
        "/bin/sh",
        "-euc",
        (
            f"python3 {INPUTS}/wheels/{installer}/pip install --no-index --no-deps --no-compile --no-cache-dir"
            f" --disable-pip-version-check --no-warn-script-location --target /build/out {wheels}"
        ),
    )


def _unpack_command(archive: str | None) -> str:
    """Return what puts the source into a folder of its own, and goes there."""
    if archive is None:
        # Inputs are read-only, and many a setup.py writes beside itself.
        return f"mkdir tree; cp -R {INPUTS}/source/. tree; chmod -R u+w tree; cd tree"
    place = shlex.quote(f"{INPUTS}/source/{archive}")
    unpack = (
        f"python3 -m zipfile -e {place} ."
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
