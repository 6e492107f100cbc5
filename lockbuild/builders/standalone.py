"""A Python in a folder of its own in a root file system: what its archive may hold, and how it gets there.

The archive is one of python-build-standalone's `install_only` kind: everything below `python/`, the
interpreter at `python/bin/python3`; or such a one that lockbuild has made of a machine's Python, not compressed; or
the prefix of conda packages that lockbuild has made.
"""

from __future__ import annotations

import shlex
import tarfile
import zlib
from dataclasses import dataclass
from posixpath import dirname, join, normpath
from typing import TYPE_CHECKING

from lockbuild.derivation import PREFIX_TAR

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

__all__ = ["Interpreter", "archive_faults", "install_command"]

_TOP = "python"
_PROGRAM = f"{_TOP}/bin/python3"
_SHOWN = 5

# What a damaged archive makes tarfile and zlib raise; tarfile checks little.
_BROKEN = (
    *(tarfile.TarError, zlib.error, EOFError, RuntimeError, OSError, ValueError),
    *(ArithmeticError, LookupError),
)

# Runs inside the new root, with its own tools and the archive as standard input. The archive's programs
# run without any power over the root. `-I` would not read PYTHONHASHSEED, on which bytecode depends.
_INSTALL = r"""
place=$1 version=$2 compile=$3
shift 3
powerless() {
  setpriv --reuid=65534 --regid=65534 --clear-groups --no-new-privs --inh-caps=-all --bounding-set=-all "$@"
}
cd /
mkdir -p "${place%/*}" usr/local/bin
mkdir "$place"
tar --extract "$@" --no-same-owner --no-same-permissions --directory="$place"
find "$place" ! -type l -perm /7000 -exec chmod u-s,g-s,-t {} +
found=$(powerless "$place/bin/python3" -I -B -c 'import sys; print("%d.%d" % sys.version_info[:2])') || {
  echo "the interpreter's bin/python3 does not run"
  exit 1
}
[ "$found" = "$version" ] || { echo "the interpreter is Python $found, expected $version"; exit 1; }
[ -x "$place/bin/python$version" ] || { echo "the interpreter has no bin/python$version"; exit 1; }
chown -Rh 65534:65534 "$place"
powerless "$place/bin/python3" -s -W ignore -c "$compile" "$place/lib/python$version"
chown -Rh 0:0 "$place"
for name in python3 "python$version"; do ln -s "$place/bin/$name" "usr/local/bin/$name"; done
"""

# Makes bytecode as Debian's packages do, found by its source's hash, since times are changed later. Unlike
# `compileall` it writes marshal's second version: later ones tell objects that are referred to once from
# others, and that hangs on the addresses at which a cache happens to keep names. What does not compile is
# data, and what that version cannot hold is compiled when it is imported.
_COMPILE = r"""
import marshal, os, sys
from importlib.util import MAGIC_NUMBER, cache_from_source, source_hash

for folder, folders, names in os.walk(sys.argv[1]):
    folders[:] = sorted(set(folders) - {"__pycache__", "idle_test", "test", "tests"})
    for path in (os.path.join(folder, name) for name in sorted(names) if name.endswith(".py")):
        with open(path, "rb") as file:
            source = file.read()
        try:
            code = marshal.dumps(compile(source, path, "exec", dont_inherit=True), 2)
        except (SyntaxError, ValueError):
            continue
        cached = cache_from_source(path)
        os.makedirs(os.path.dirname(cached), exist_ok=True)
        with open(cached, "wb") as file:
            file.write(MAGIC_NUMBER + (1).to_bytes(4, "little") + source_hash(source) + code)
"""

# What pip and torch import. What the Python was built without it lacks everywhere.
_CHECK = r"""
import importlib, sys

lacking = {}
for name in ("_bz2", "_ctypes", "_hashlib", "_lzma", "_ssl", "pyexpat", "zlib"):
    try:
        importlib.import_module(name)
    except ModuleNotFoundError:
        pass
    except ImportError as error:
        lacking.setdefault(str(error).split(":")[0], []).append(name)
if lacking:
    words = ", ".join("%s (%s)" % (library, ", ".join(names)) for library, names in sorted(lacking.items()))
    print("the interpreter wants libraries that are not here: " + words + "; name their packages under `[apt]`")
    sys.exit(1)
"""
_RUN_CHECK = r"""
powerless "$place/bin/python3" -I -B -c "$check"
"""

# A program asks /proc where it is, to find the library beside it. A container may forbid a new /proc.
_WITH_PROC = """
mkdir -p "$root/proc"
mount -t proc proc "$root/proc" 2>/dev/null || mount --rbind /proc "$root/proc"
chroot "$root" {command} < {archive}
umount --lazy "$root/proc"
"""


@dataclass(frozen=True, slots=True, kw_only=True)
class Interpreter:
    """The option `--interpreter` of a `rootfs` command, read."""

    version: str
    """Major and minor, which it must have."""
    place: str
    """Folder in the root."""
    archive: str
    """Name of the input that holds it; where that is a folder, `NAME/FILE`."""

    @property
    def input(self) -> str:
        """Name of the input."""
        return self.archive.partition("/")[0]

    @property
    def prefix(self) -> bool:
        """Whether it comes with all of a prefix of conda packages."""
        return self.archive.endswith(f"/{PREFIX_TAR}")

    @property
    def host(self) -> bool:
        """Whether it is a machine's Python, which was linked with libraries of that machine."""
        return self.archive.endswith(".tar") and not self.prefix

    @classmethod
    def read(cls, option: str) -> Interpreter:
        """Return what `VERSION:PLACE:ARCHIVE` says."""
        version, place, archive = option.split(":", 2)
        return cls(version=version, place=place, archive=archive)


def install_command(interpreter: Interpreter, archive: Path) -> str:
    """Return the shell command that installs *archive* into the root at `$root`."""
    depth = interpreter.place.count("/") if interpreter.prefix else 1
    packed = () if interpreter.prefix or interpreter.host else ("--gzip",)
    how = (f"--strip-components={depth}", *packed)
    script = _INSTALL + (f"check={shlex.quote(_CHECK)}\n{_RUN_CHECK}" if interpreter.host else "")
    words = ("/bin/sh", "-euc", script, "sh", interpreter.place, interpreter.version, _COMPILE, *how)
    return _WITH_PROC.format(command=shlex.join(words), archive=shlex.quote(str(archive)))


def archive_faults(archive: Path) -> tuple[str, ...]:
    """Return why *archive* is not unpacked: what reaches out of it, and what is not an interpreter's."""
    try:
        with tarfile.open(archive, "r:" if archive.suffix == ".tar" else "r:gz") as tar:
            faults = tuple(_faults(tar))
    except _BROKEN as error:
        kind = ".tar" if archive.suffix == ".tar" else ".tar.gz"
        return (f"is not a `{kind}` archive: {error}",)
    if len(faults) > _SHOWN:
        return (*faults[:_SHOWN], f"and {len(faults) - _SHOWN} more")
    return faults


def _faults(tar: tarfile.TarFile) -> Iterator[str]:
    seen: dict[str, tarfile.TarInfo] = {}
    for member in tar:
        name = member.name.removesuffix("/")
        fault = _place_fault(name, seen) or _kind_fault(member, name, seen)
        if fault:
            yield f"`{member.name}`: {fault}"
        seen[name] = member
    if _PROGRAM not in seen:
        yield f"has no `{_PROGRAM}`: an `install_only` archive was expected"


def _place_fault(name: str, seen: dict[str, tarfile.TarInfo]) -> str | None:
    if normpath(name) != name or name.split("/", 1)[0] != _TOP:
        return f"is not below `{_TOP}/`"
    if name in seen and not seen[name].isdir():
        return "is there twice"
    above = dirname(name)
    while above:
        if above in seen and not seen[above].isdir():
            return f"is below `{above}`, which is no folder"
        above = dirname(above)
    return None


def _kind_fault(member: tarfile.TarInfo, name: str, seen: dict[str, tarfile.TarInfo]) -> str | None:
    if member.isdir() or member.isreg():
        return None
    if member.issym():
        inside = normpath(join(dirname(name), member.linkname)).split("/", 1)[0] == _TOP
        return None if inside else f"is a link to `{member.linkname}`, out of the archive"
    if member.islnk():
        there = member.linkname in seen and seen[member.linkname].isreg()
        return None if there else f"is a hard link to `{member.linkname}`, which is no file before it"
    return "is neither file, folder nor link"
