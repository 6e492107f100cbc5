"""An archive like python-build-standalone's `install_only` ones, made of a Python on this machine.

What makes those special is made here too: the program finds its library beside it wherever it is unpacked,
`sysconfig` names the compiler, the archiver and the prefix of a machine that is not this one, and there is no
bytecode.
"""

from __future__ import annotations

import json
import os
import re
import subprocess
import tarfile
from io import BytesIO
from pathlib import Path

from lockbuild.process import find_tool
from tests.needs import missing

__all__ = ["make_archive"]

_ASK = "import sys; print(sys.base_prefix, '%d.%d' % sys.version_info[:2])"
_LEFT_OUT = re.compile(r"/(__pycache__|test|idlelib|site-packages/.*|config-[^/]*)(/|$)|\.a$")
_RUN_PATH = b"$ORIGIN/../lib"


def make_archive(folder: Path, version: str) -> Path:
    """Write the archive of a Python of *version* into *folder*; skip the test where there is none to take."""
    prefix = _find(version)
    path = folder / f"cpython-{version}+tests-install_only.tar.gz"
    with tarfile.open(path, "w:gz", compresslevel=1) as tar:
        for name in ("bin", "include", "lib"):
            tar.add(prefix / name, f"python/{name}", filter=lambda member: _taken(member, version))
        for name, data in (
            (f"bin/python{version}", _relocatable(prefix, version)),
            (f"lib/python{version}/{_sysconfig(prefix, version).name}", _foreign(prefix, version)),
        ):
            member = tar.gettarinfo(prefix / name, f"python/{name}")
            member.size = len(data)
            tar.addfile(member, BytesIO(data))
    return path


def _find(version: str) -> Path:
    pyenv = Path(os.environ.get("PYENV_ROOT") or Path.home() / ".pyenv")
    places = [find_tool(f"python{version}"), *sorted(pyenv.glob(f"versions/{version}.*/bin/python3"))]
    for place in filter(None, places):
        told = subprocess.run([place, "-I", "-c", _ASK], capture_output=True, text=True, check=False)
        prefix, _, found = told.stdout.strip().rpartition(" ")
        # Debian spreads its own over /usr, and patches where it looks for itself.
        if (
            found == version
            and Path(prefix) != Path("/usr")
            and _sysconfig(Path(prefix), version).exists()
        ):
            return Path(prefix)
    missing(f"there is no Python {version} of its own folder on this machine: `pyenv install {version}`")
    raise AssertionError


def _sysconfig(prefix: Path, version: str) -> Path:
    found = sorted((prefix / f"lib/python{version}").glob("_sysconfigdata_*.py"))
    return found[0] if found else prefix / "none"


def _taken(member: tarfile.TarInfo, version: str) -> tarfile.TarInfo | None:
    replaced = member.name == f"python/bin/python{version}" or "/_sysconfigdata_" in member.name
    others = member.name.startswith("python/bin/") and not member.name.startswith("python/bin/python")
    return None if replaced or others or _LEFT_OUT.search(member.name) else member


def _relocatable(prefix: Path, version: str) -> bytes:
    """Return the program, which looks for its library beside itself instead of below *prefix*."""
    data = (prefix / f"bin/python{version}").read_bytes()
    old = f"{prefix}/lib".encode() + b"\0"
    if len(old) <= len(_RUN_PATH):
        missing(f"no room for another run path in {prefix}/bin/python{version}")
    return data.replace(old, _RUN_PATH.ljust(len(old), b"\0"))


def _foreign(prefix: Path, version: str) -> bytes:
    """Return the configuration as a build machine with clang leaves it, at a prefix that is nowhere."""
    values: dict[str, dict[str, object]] = {}
    exec(_sysconfig(prefix, version).read_text(), values)
    text = json.dumps(values["build_time_vars"], indent=4, sort_keys=True)
    for old, new in ((str(prefix), "/install"), ("gcc", "clang"), ("g++", "clang++")):
        text = text.replace(old, new)
    text = re.sub(r'"AR": "[^"]*"', '"AR": "/tools/llvm/bin/llvm-ar"', text)
    return f"build_time_vars = {text}\n".encode()
