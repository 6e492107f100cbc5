"""Builds a root file system from locked .debs, alone or on top of an image: then a normalised tar.

`scratch/out/rootfs.tar` is the same bytes whenever the task is: the packages are told one by one, the
root's own tools clean and pack it, and neither the host's apt, names, users nor clock reach it. It can
be given to `docker import`, or unpacked and used as the root of a sandbox.
"""

from __future__ import annotations

import hashlib
import os
import shlex
import signal
import subprocess
import time
from dataclasses import dataclass
from pathlib import Path
from tarfile import TarError
from typing import TYPE_CHECKING
from urllib.parse import quote

from debian.arfile import ArError
from debian.debfile import DebFile

from lockbuild.builders.on_image import (
    ImagePython,
    check_command,
    install_debs_command,
    unpack_command,
)
from lockbuild.builders.standalone import Interpreter, archive_faults, install_command
from lockbuild.derivation import IMAGE_INPUT, PREFIX_TAR, BuildOutcome
from lockbuild.digest import sha256_of
from lockbuild.errors import ToolMissing
from lockbuild.process import need_tool, run

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from lockbuild.derivation import BuildStatus, BuildTask

__all__ = ["RootfsBuilder"]

_TOOLS = ("unshare", "setpriv", "chroot", "hostname", "tar")
_DEB_TOOLS = ("apt-get", "dpkg")
_BOOTSTRAP = "mmdebstrap"
_PURPOSE = "making a root file system"
_PATH = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
_TAIL_LINES = 40

# Runs as the first process of the new namespaces; when it ends or is killed, all others end with it. An
# image may have no tar of its own, or a lesser one.
_SUPERVISE = """
set -eu
root=$1 tar=$2 normalise=$3 interpreter=$4
shift 4
umask 022
hostname lockbuild
"$@"
eval "$interpreter"
if [ -s "$normalise" ]; then chroot "$root" /bin/sh -eu < "$normalise"; fi
pack() {
  "$@" --create --format=pax --pax-option=exthdr.name=%d/PaxHeaders/%f,delete=atime,delete=ctime \\
    --sort=name --mtime="@$SOURCE_DATE_EPOCH" --clamp-mtime --numeric-owner --one-file-system \\
    --xattrs --xattrs-include=security.capability . > "$tar"
}
case $(chroot "$root" /bin/tar --version 2>&1 || true) in
  *"GNU tar"*) pack chroot "$root" /bin/tar --directory=/ ;;
  *) pack tar --directory="$root" ;;
esac
rm -rf --one-file-system "$root"
"""

# A new root has its /usr merged from the first file on; `usr-is-merged` refuses any other.
_MERGE_USR = """
for name in {names}; do mkdir -p "$1/usr/$name"; ln -s "usr/$name" "$1/$name"; done
"""
_MERGED_FOLDERS = {"amd64": "bin sbin lib lib32 lib64 libx32"}

# Run inside the root, with its own tools. What is left of the host, of the build's moment and of chance
# goes, and so does what apt and others make anew, and what is only read by people, but for licences.
_NORMALISE_FRESH = """
cd /
mkdir -p build dev proc sys run tmp
chmod 0755 build dev proc sys run
chmod 1777 tmp
find dev -mindepth 1 -delete
rm -f etc/resolv.conf etc/hostname etc/fstab
printf '127.0.0.1\\tlocalhost\\n::1\\tlocalhost\\n' > etc/hosts
rm -rf etc/dpkg/dpkg.cfg.d/99mmdebstrap etc/apt/apt.conf.d/99mmdebstrap
rm -rf etc/apt/sources.list etc/apt/sources.list.d/* var/lib/apt/*
if [ ! -e usr/bin/apt-get ]; then rm -rf etc/apt var/lib/apt var/cache/apt; fi
find usr/share/doc -mindepth 2 ! -type d ! -name 'copyright*' ! -name 'LICEN*' ! -name 'NOTICE*' -delete
find usr/share/doc -mindepth 2 -type d -empty -delete
for folder in man info lintian; do
  if [ -d "usr/share/$folder" ]; then find "usr/share/$folder" -mindepth 1 ! -type d -delete; fi
done
find etc/alternatives -type l -lname '/usr/share/man/*' -delete
"""
# Of these, what installing .debs on top of an image leaves behind, too.
_NORMALISE = """
cd /
: > etc/machine-id
rm -f var/lib/dbus/machine-id etc/ssh/ssh_host_* etc/ssl/private/ssl-cert-snakeoil.key
rm -f etc/passwd- etc/group- etc/shadow- etc/gshadow- etc/subuid- etc/subgid-
day=$((SOURCE_DATE_EPOCH / 86400))
if [ -e etc/shadow ]; then
  awk -F: -v OFS=: -v day="$day" '$3 != "" { $3 = day } { print }' etc/shadow > tmp/shadow
  cat tmp/shadow > etc/shadow
  rm tmp/shadow
fi
for folder in log cache; do
  if [ -d "var/$folder" ]; then find "var/$folder" -type f ! -path 'var/cache/debconf/*' -delete; fi
done
rm -f var/cache/debconf/*-old var/lib/dpkg/*-old var/lib/dpkg/lock var/lib/dpkg/lock-frontend
"""


@dataclass(frozen=True, slots=True, kw_only=True)
class _Recipe:
    """The command of a `rootfs` task, read; see `lockbuild.derivation.rootfs_command`."""

    suite: str
    """Empty on top of an image."""
    image: str | None
    """Digest of the manifest of the image below; none where the packages are all there is."""
    architecture: str
    packages: Mapping[str, str]
    """Name -> version."""
    interpreter: Interpreter | None
    """A Python in a folder of its own, installed beside the packages."""
    python: ImagePython | None
    """The image's Python, where that is the stack's."""


class RootfsBuilder:
    """Makes root file systems with mmdebstrap, as root or as a user with subordinate ids."""

    name = "rootfs"

    def probe(self) -> None:
        """Check that root file systems can be made on this machine.

        Raises:
            ToolMissing: A tool is absent, or the system grants no namespaces.
        """
        _probe(*_TOOLS, *_DEB_TOOLS, _BOOTSTRAP)

    def build(self, task: BuildTask) -> BuildOutcome:
        """Make the root file system that *task* describes, into `scratch/out/rootfs.tar`.

        Raises:
            ToolMissing: A tool is not on this machine, or the system grants no namespaces.
        """
        recipe = _read_command(task.command)
        # Takes a moment, and says more than the log of a build that ends where it begins.
        _probe(
            *_TOOLS, *(_DEB_TOOLS if recipe.packages else ()), *(() if recipe.image else (_BOOTSTRAP,))
        )
        start = time.monotonic()
        status, message, tail = _make(task, recipe)
        return BuildOutcome(
            name=task.name,
            status=status,
            output=_output(task) if status == "built" else None,
            message=message,
            tail=tuple(tail),
            log=task.log,
            duration_s=time.monotonic() - start,
        )


def _probe(*tools: str) -> None:
    for tool in tools:
        need_tool(tool, purpose=_PURPOSE)
    tried = run([*_namespaces(), "true"])
    if tried.returncode != 0:
        raise ToolMissing(
            f"`unshare` gets no namespaces of its own; {_PURPOSE} needs them",
            details=tuple(tried.stderr.splitlines()),
            hint="run as root, or install `uidmap` and give this user subordinate ids:"
            " usermod --add-subuids 100000-165535 --add-subgids 100000-165535 USER",
        )


def _output(task: BuildTask) -> Path:
    return task.scratch / "out"


def _make(task: BuildTask, recipe: _Recipe) -> tuple[BuildStatus, str, Sequence[str]]:
    """Make the root file system; return what became of it, why, and the end of the log."""
    _output(task).mkdir(parents=True, exist_ok=True)
    task.log.parent.mkdir(parents=True, exist_ok=True)
    faults = [*_write_repository(task, recipe), *_interpreter_faults(task, recipe)]
    if faults:
        # Names in archives may be no text at all.
        task.log.write_text("".join(f"{fault}\n" for fault in faults), errors="backslashreplace")
        return "failed", faults[0], faults
    status, message = _run(task, _command(task, recipe))
    if status == "built":
        return status, "", ()
    lines = task.log.read_text(errors="replace").splitlines()
    return status, message or _reason(lines), lines[-_TAIL_LINES:]


def _reason(lines: Sequence[str]) -> str:
    """Return the line of the log that says best why it failed: the first fault that apt or dpkg names."""
    for prefix in ("dpkg: error", "E: "):
        for line, following in zip(lines, [*lines[1:], ""], strict=True):
            if line.startswith(prefix):
                cause = following.strip() if line.endswith(":") else ""
                return f"{line.removeprefix('E: ')} {cause}".strip()
    return next((line for line in reversed(lines) if line.strip()), "no output")


def _read_command(command: Sequence[str]) -> _Recipe:
    options = dict(word.removeprefix("--").split("=", 1) for word in command if word.startswith("--"))
    pins = (word.partition("=") for word in command if not word.startswith("--"))
    return _Recipe(
        suite=options.get("suite", "image"),
        image=options.get("image"),
        architecture=options["architecture"],
        packages={name: version for name, _, version in pins},
        interpreter=Interpreter.read(options["interpreter"]) if "interpreter" in options else None,
        python=ImagePython.read(options, path=_PATH),
    )


def _interpreter_faults(task: BuildTask, recipe: _Recipe) -> list[str]:
    if recipe.interpreter is None:
        return []
    name = recipe.interpreter.archive
    archive = _interpreter_archive(task, recipe.interpreter)
    if archive is None or not archive.is_file():
        return [f"`{name}`: found none, expected the archive of the interpreter"]
    if recipe.interpreter.prefix:
        return []
    return [f"`{name}` {fault}" for fault in archive_faults(archive)]


def _interpreter_archive(task: BuildTask, interpreter: Interpreter) -> Path | None:
    given = dict(task.inputs).get(interpreter.input)
    return given / PREFIX_TAR if given and interpreter.prefix else given


# ---- the repository ----------------------------------------------------------------------------------


def _write_repository(task: BuildTask, recipe: _Recipe) -> list[str]:
    """Write an index of the task's .debs beside links to them; return what is wrong with them."""
    folder = task.scratch / "repository"
    folder.mkdir()
    found: dict[str, str] = {}
    faults: list[str] = []
    index = ""
    others = {recipe.interpreter.input} if recipe.interpreter else set()
    if recipe.image:
        others.add(IMAGE_INPUT)
    debs = sorted(entry for entry in task.inputs if entry[0] not in others)
    for number, (name, path) in enumerate(debs):
        try:
            record = _record(path)
        except (ArError, TarError, OSError, ValueError) as error:
            faults.append(f"`{name}` is not a Debian package: {error}")
            continue
        # The names in an archive may hold characters that apt would decode.
        link = f"{number}.deb"
        (folder / link).symlink_to(path.resolve())
        index += _stanza({**record, "Filename": f"./{link}"})
        found[record["Package"]] = record["Version"]
    (folder / "Packages").write_text(index)
    (folder / "Release").write_text(_release(recipe, index.encode()))
    return faults + _differences(recipe, found)


def _differences(recipe: _Recipe, found: Mapping[str, str]) -> list[str]:
    """Return where the .debs are not the packages that the command names."""
    faults = []
    for package, version in sorted(recipe.packages.items()):
        if found.get(package) != version:
            was = f"found {found[package]}" if package in found else "found none"
            faults.append(f"`{package}`: {was}, expected a .deb of version {version}")
    surplus = sorted(found.keys() - recipe.packages.keys())
    return faults + [f"`{package}`: a .deb that the command does not name" for package in surplus]


def _release(recipe: _Recipe, index: bytes) -> str:
    suite, digest = recipe.suite, sha256_of(index)
    # mmdebstrap looks for essential packages in the suite that has one of these names.
    return f"Suite: {suite}\nCodename: {suite}\nSHA256:\n {digest} {len(index)} Packages\n"


def _record(path: Path) -> dict[str, str]:
    """Return the control fields of a .deb, with the size and sha256 of its bytes."""
    with path.open("rb") as file:
        control = DebFile(fileobj=file).debcontrol()
        size = file.seek(0, os.SEEK_END)
        file.seek(0)
        digest = hashlib.file_digest(file, "sha256").hexdigest()
    return {**control, "Size": str(size), "SHA256": digest}


def _stanza(record: Mapping[str, str]) -> str:
    return "".join(f"{field}: {value}\n" for field, value in record.items()) + "\n"


# ---- running -----------------------------------------------------------------------------------------


def _namespaces() -> list[str]:
    """Return the command that runs another without network, killed when this process dies."""
    user = [] if os.geteuid() == 0 else ["--user", "--map-root-user", "--map-auto"]
    # Mounts live in the mount namespace and processes in that of pids: both are gone with the first
    # process, whatever kills it.
    return [
        *("setpriv", "--pdeathsig", "KILL", "--", "unshare", *user),
        *("--net", "--mount", "--ipc", "--uts", "--pid", "--fork", "--kill-child=KILL", "--"),
    ]


def _command(task: BuildTask, recipe: _Recipe) -> list[str]:
    scratch = task.scratch.resolve()
    root = scratch / "root"
    normalise = scratch / "normalise"
    # apt decodes the address once as it reads its list of sources, and again as it copies.
    repository = quote(quote(str(scratch / "repository")))
    further = ""
    if recipe.interpreter:
        archive = _interpreter_archive(task, recipe.interpreter)
        further = install_command(recipe.interpreter, archive.resolve()) if archive else ""
    if recipe.image:
        make = unpack_command(dict(task.inputs)[IMAGE_INPUT].resolve(), root)
        install = install_debs_command(repository, recipe.packages, architecture=recipe.architecture)
        further = install + further + (check_command(recipe.python) if recipe.python else "")
        # Layers alone have no trace of the moment or the machine.
        normalise.write_text(_NORMALISE if recipe.packages else "")
    else:
        make = _debs_command(recipe, root, repository)
        normalise.write_text(_NORMALISE_FRESH + _NORMALISE)
    return [
        *(*_namespaces(), "sh", "-c", _SUPERVISE, "sh"),
        *(str(root), str(_output(task).resolve() / "rootfs.tar"), str(normalise), further),
        *make,
    ]


def _debs_command(recipe: _Recipe, root: Path, repository: str) -> list[str]:
    """Return the command that makes *root* of nothing but the packages in *repository*."""
    hooks = []
    if "usr-is-merged" in recipe.packages:
        names = _MERGED_FOLDERS.get(recipe.architecture, "bin sbin lib")
        hooks = [f"--setup-hook={_MERGE_USR.format(names=names)}"]
    return [
        *("mmdebstrap", "--mode=root", "--variant=essential", "--format=directory", "--verbose"),
        # The index is lockbuild's own, and no keyring of the host is asked about it.
        "--skip=check/signed-by",
        f"--architectures={recipe.architecture}",
        f"--include={','.join(sorted(recipe.packages))}",
        # The scratch folder may be one that the user `_apt` cannot enter.
        '--aptopt=APT::Sandbox::User "root"',
        # A root that the machine's crash leaves half written is thrown away: nothing need be flushed.
        "--dpkgopt=force-unsafe-io",
        *(*hooks, "--"),
        *(recipe.suite, str(root), f"deb [trusted=yes] copy:{repository} ./"),
    ]


def _environment(task: BuildTask) -> dict[str, str]:
    # The order in which Python and Perl walk their tables reaches compiled files and debconf's database.
    settled = {"PYTHONHASHSEED": "0", "PERL_HASH_SEED": "0", "PERL_PERTURB_KEYS": "0"}
    # What a killed mmdebstrap leaves behind goes with the scratch folder.
    fixed = {"PATH": _PATH, "LC_ALL": "C.UTF-8", "HOME": "/root", "TMPDIR": str(task.scratch.resolve())}
    return {**fixed, **settled, **dict(task.env)}


def _run(task: BuildTask, command: Sequence[str]) -> tuple[BuildStatus, str]:
    """Run *command* to its end; return what became of it, and why unless the log says it."""
    with task.log.open("wb") as log:
        log.write(f"$ {shlex.join(command[-3:])}\n".encode())
        log.flush()
        process = subprocess.Popen(
            command,
            env=_environment(task),
            cwd=task.scratch,
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )
        try:
            returncode = process.wait(task.timeout_s)
        except subprocess.TimeoutExpired:
            return "timed-out", f"not done after {task.timeout_s:g} s"
        finally:
            _end(process, task.scratch / "root")
    return ("built" if returncode == 0 else "failed"), ""


def _end(process: subprocess.Popen[bytes], root: Path) -> None:
    """Kill what still runs and remove the tree, which may belong to subordinate ids."""
    if process.poll() is None:
        # `unshare` ends after the first process of its namespaces, and that one after all others; were
        # `unshare` itself killed, they could still be writing while the tree is removed.
        children = Path(f"/proc/{process.pid}/task/{process.pid}/children")
        for child in children.read_text().split() if children.exists() else ():
            os.kill(int(child), signal.SIGKILL)
        try:
            process.wait(10)
        except subprocess.TimeoutExpired:
            os.killpg(process.pid, signal.SIGKILL)
            process.wait()
    if root.exists():
        run([*_namespaces(), "rm", "-rf", "--one-file-system", root])
