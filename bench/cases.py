"""The comparisons: what each side does, on which input, and what makes it fair."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
import sysconfig
import tomllib
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import uv

from bench.audits import NAME, make_audited
from bench.loopback import random_file, serve
from bench.pairs import Absent, Command, Result, measure
from lockbuild.digest import Sha256
from lockbuild.folders import StackFolder
from lockbuild.lock import Lock, LockedDeb, LockedFile, LockedPackage, lock_texts
from lockbuild.stack import Stack, from_document, inputs_of

if TYPE_CHECKING:
    from collections.abc import Callable

__all__ = ["CASES", "Options"]

PROJECT = Path(__file__).resolve().parent.parent
STACK = "cpu"
_FILES = 8


@dataclass(frozen=True, slots=True, kw_only=True)
class Options:
    """How much is measured."""

    work: Path
    """An empty folder."""
    pairs: int
    slow_pairs: int
    """Pairs where the peer may take minutes."""
    limit_s: float
    """After which a command is stopped."""
    megabytes: int
    """Of the files that are fetched."""


# ---- resolving ----------------------------------------------------------------------------------------


def resolve_uv(options: Options) -> Result:
    """`lockbuild resolve` against `uv pip compile`, both warm."""
    return _resolve(
        options,
        title="resolve / uv pip compile",
        peer=lambda folder, stack: _compile(folder, stack, _uv_compile(stack)),
        goal=1.25,
        pairs=options.pairs,
        note="one cache for both; the peer writes two requirements files with hashes, ours two pylock files with graph"
        " and sizes, and all other files of the lock. The .debs stay as they were",
    )


def resolve_pip_tools(options: Options) -> Result:
    """`lockbuild resolve` against `pip-compile --generate-hashes`, both warm."""
    return _resolve(
        options,
        title="resolve / pip-compile",
        peer=lambda folder, stack: _compile(folder, stack, _pip_compile()),
        goal=0.05,
        pairs=options.slow_pairs,
        note="the peer resolves for the Python that runs it, not for the target",
    )


def _resolve(
    options: Options,
    *,
    title: str,
    peer: Callable[[Path, Stack], Command],
    goal: float,
    pairs: int,
    note: str,
) -> Result:
    folder = options.work / "stacks" / STACK
    shutil.copytree(PROJECT / "stacks" / STACK, folder, ignore=shutil.ignore_patterns("context"))
    stack = from_document(tomllib.loads((folder / "stack.toml").read_text(encoding="utf-8")))
    # A lock that is not there, or not for this stack file, is made first; its time is not counted.
    _checked((_lockbuild(), "resolve", STACK), cwd=options.work)
    ours = Command(
        programs=((_lockbuild(), "resolve", STACK, "--upgrade-package", "numpy"),), cwd=options.work
    )
    return measure(
        title,
        ours,
        peer(options.work / "peer", stack),
        goal=goal,
        pairs=pairs,
        limit_s=options.limit_s,
        note=note,
    )


def _compile(folder: Path, stack: Stack, program: tuple[str, ...]) -> Command:
    """Return the peer's way from the stack's requirements to two files: runtime, and builds under its pins.

    What the stack builds has declared requirements; they stand in its place, so that no peer runs a setup.py.
    """
    folder.mkdir()
    built = {spec.name for spec in stack.builds}
    runtime = [*stack.python.requires, *(text for spec in stack.builds for text in spec.requires)]
    build = {
        "pip",
        *(text for spec in stack.builds for text in (*spec.build_requires, *spec.needs)),
    } - built
    (folder / "runtime.in").write_text(
        "".join(f"{line}\n" for line in sorted(set(runtime))), encoding="utf-8"
    )
    (folder / "build.in").write_text(
        "".join(f"{line}\n" for line in ["-c runtime.txt", *sorted(build)]), encoding="utf-8"
    )
    return Command(
        programs=(
            (*program, "--upgrade-package", "numpy", "--output-file", "runtime.txt", "runtime.in"),
            (*program, "--upgrade-package", "numpy", "--output-file", "build.txt", "build.in"),
        ),
        cwd=folder,
    )


def _uv_compile(stack: Stack) -> tuple[str, ...]:
    target = stack.target
    platform = f"{target.machine}-manylinux_{target.glibc.replace('.', '_')}"
    return (
        *(uv.find_uv_bin(), "pip", "compile", "--quiet", "--no-header", "--generate-hashes"),
        *("--python-version", target.python, "--python-platform", platform, "--only-binary", ":all:"),
    )


def _pip_compile() -> tuple[str, ...]:
    return (
        *(sys.executable, "-m", "piptools", "compile", "--quiet", "--no-header", "--generate-hashes"),
        *(
            "--allow-unsafe",
            "--strip-extras",
            "--no-emit-index-url",
            "--pip-args",
            "--only-binary :all:",
        ),
    )


# ---- starting, and having nothing to do ---------------------------------------------------------------


def start(options: Options) -> Result:
    """`lockbuild --help` against a Python that does nothing."""
    return measure(
        "--help / python -c pass",
        Command(programs=((_lockbuild(), "--help"),), cwd=options.work),
        Command(programs=((sys.executable, "-c", "pass"),), cwd=options.work),
        goal=4,
        pairs=max(options.pairs, 15),
        limit_s=options.limit_s,
        note="the same interpreter",
    )


def nothing_to_do(options: Options) -> Result:
    """`lockbuild build` against `uv sync`, both with everything in place."""
    absent = json.loads(_checked((_lockbuild(), "build", STACK, "--dry-run", "--json"), cwd=PROJECT))
    if absent["fetch"] or absent["build"]:
        raise Absent(f"the store does not hold what `{STACK}` needs: `make demo` fills it")
    folder = options.work / "sync"
    folder.mkdir()
    document = tomllib.loads((PROJECT / "stacks" / STACK / "stack.toml").read_text(encoding="utf-8"))
    stack = from_document(document)
    (folder / "pyproject.toml").write_text(
        '[project]\nname = "bench"\nversion = "1"\n'
        f'requires-python = "=={stack.target.python}.*"\ndependencies = {json.dumps(list(stack.python.requires))}\n'
        "[tool.uv]\npackage = false\n",
        encoding="utf-8",
    )
    return measure(
        "build, nothing to do / uv sync",
        Command(programs=((_lockbuild(), "build", STACK),), cwd=PROJECT),
        Command(programs=((uv.find_uv_bin(), "sync", "--quiet"),), cwd=folder),
        goal=3,
        pairs=max(options.pairs, 15),
        limit_s=options.limit_s,
        note="the same requirements; ours also covers the packages that are built and the root file systems",
    )


# ---- fetching -----------------------------------------------------------------------------------------


def fetch(options: Options) -> Result:
    """`lockbuild fetch` into an empty store against `curl --parallel`, from an index on loopback."""
    curl = shutil.which("curl")
    if curl is None:
        raise Absent("`curl` is not installed")
    files, store, out = (options.work / name for name in ("index", "store", "curl"))
    files.mkdir()
    wheels = [
        _large_wheel(files, number, options.megabytes * 10**6 // _FILES) for number in range(_FILES)
    ]
    with serve(files) as address:
        _stack_of(options.work / "fetch", wheels, files, address)
        urls = [f"{address}/{wheel.name}/{wheel.wheel.filename}" for wheel in wheels if wheel.wheel]
        quiet = ("--silent", "--show-error", "--fail")
        return measure(
            f"fetch {options.megabytes} MB / curl --parallel",
            Command(
                programs=(
                    (
                        *("env", f"LOCKBUILD_ARCHIVE_DEBIAN={address}/archive"),
                        *(_lockbuild(), "--store", str(store), "fetch", "fetch"),
                    ),
                ),
                cwd=options.work,
                before=lambda: _emptied(store),
            ),
            Command(
                programs=(
                    (
                        curl,
                        *quiet,
                        "--parallel",
                        "--parallel-max",
                        str(_FILES),
                        "--remote-name-all",
                        *urls,
                    ),
                ),
                cwd=out,
                before=lambda: _emptied(out),
                shown=f"curl {' '.join(quiet)} --parallel --parallel-max {_FILES} --remote-name-all URL…",
            ),
            goal=1.2,
            pairs=options.pairs,
            limit_s=options.limit_s,
            note=f"{_FILES} files; ours also checks sha256, flushes to the disk and writes records",
        )


def _large_wheel(files: Path, number: int, size: int) -> LockedPackage:
    name = f"bench-{number}"
    filename = f"bench_{number}-1-py3-none-any.whl"
    (files / name).mkdir()
    sha256 = Sha256(random_file(files / name / filename, size))
    wheel = LockedFile(filename=filename, sha256=sha256, size=size)
    return LockedPackage(name=name, version="1", index="bench", wheel=wheel)


def _stack_of(folder: Path, wheels: list[LockedPackage], files: Path, address: str) -> None:
    """Write a stack of *wheels* with its lock: nothing has to be resolved for it."""
    (files / "pip").mkdir()
    small = random_file(files / "pip" / "pip-1-py3-none-any.whl", 1000)
    pip = LockedPackage(
        name="pip",
        version="1",
        index="bench",
        wheel=LockedFile(filename="pip-1-py3-none-any.whl", sha256=Sha256(small), size=1000),
    )
    (files / "archive").mkdir()
    deb = LockedDeb(
        package="bench",
        version="1",
        architecture="amd64",
        path="bench_1_amd64.deb",
        sha256=Sha256(random_file(files / "archive" / "bench_1_amd64.deb", 1000)),
        size=1000,
        source="bench 1",
        roots=("runtime", "toolchain"),
    )
    names = json.dumps([*(wheel.name for wheel in wheels), "pip"])
    text = (
        'name = "fetch"\n[target]\npython = "3.11"\nplatform = "linux_x86_64"\nglibc = "2.36"\n'
        '[base]\ndebian = { suite = "bookworm" }\n[interpreter]\napt = "python3"\n'
        f'[[python.index]]\nname = "bench"\nurl = "{address}"\nonly = {names}\n'
    )
    document = tomllib.loads(text)
    lock = Lock(
        inputs=tuple(sorted(inputs_of(document, {}).items())),
        runtime=tuple(wheels),
        build=(("", (pip,)),),
        sources=(),
        debs=(deb,),
    )
    folder.mkdir()
    (folder / "stack.toml").write_text(text, encoding="utf-8")
    target = from_document(document).target
    StackFolder(path=folder).write_texts(lock_texts(lock, name="fetch", target=target, wheels="wheels"))


def _emptied(folder: Path) -> None:
    if folder.exists():
        # Store objects and their folders are read-only, so that nobody changes them by mistake.
        for path in folder.rglob("*"):
            if path.is_dir() and not path.is_symlink():
                path.chmod(0o755)
        shutil.rmtree(folder)
    folder.mkdir()


# ---- auditing -----------------------------------------------------------------------------------------


def audit_archive(options: Options) -> Result:
    """`lockbuild audit --against archive` of an image of 200 packages against sha256 of the same bytes."""
    archive = make_audited(options.work, 2 * options.megabytes)
    hashing = (
        "import hashlib, sys; print(hashlib.file_digest(open(sys.argv[1], 'rb'), 'sha256').hexdigest())"
    )
    ours = (_lockbuild(), "--store", str(options.work / "store"), "audit", str(options.work / NAME))
    return measure(
        f"audit of {archive.stat().st_size // 10**6} MB / sha256",
        Command(programs=((*ours, "--against", "archive", str(archive)),), cwd=options.work),
        Command(
            programs=((sys.executable, "-c", hashing, str(archive)),),
            cwd=options.work,
            shown="python -c 'hashlib.file_digest(FILE, \"sha256\")'",
        ),
        goal=4,
        pairs=options.pairs,
        limit_s=options.limit_s,
        note="ours hashes each byte twice, for its layer and its file, and reads 200 wheels of the store; files of the base"
        " were noted by the run that is not counted",
    )


def audit_store(options: Options) -> Result:
    """`lockbuild audit` of lock, store and wheelhouse of 200 packages against sha256 of the same store."""
    make_audited(options.work, 2 * options.megabytes)
    objects = options.work / "store" / "objects"
    hashing = (
        "import hashlib, pathlib, sys\n"
        "for file in sorted(pathlib.Path(sys.argv[1]).rglob('*')):\n"
        "    if file.is_file(): hashlib.file_digest(file.open('rb'), 'sha256').hexdigest()"
    )
    size = sum(file.stat().st_size for file in objects.rglob("*") if file.is_file())
    ours = (_lockbuild(), "--store", str(options.work / "store"), "audit", str(options.work / NAME))
    return measure(
        f"audit of a store of {size // 10**6} MB / sha256",
        Command(
            programs=tuple((*ours, "--against", what) for what in ("lock", "wheelhouse")),
            cwd=options.work,
        ),
        Command(
            programs=((sys.executable, "-W", "ignore", "-c", hashing, str(objects)),),
            cwd=options.work,
            shown="python -c 'hashlib.file_digest(FILE, \"sha256\")' of each file",
        ),
        goal=4,
        pairs=options.pairs,
        limit_s=options.limit_s,
        note="ours hashes a wheel in the store and twice in the wheelhouse, on all processors; what RECORDs say was noted by"
        " the run that is not counted",
    )


# ---- running ------------------------------------------------------------------------------------------


def _lockbuild() -> str:
    return str(Path(sysconfig.get_path("scripts")) / "lockbuild")


def _checked(program: tuple[str, ...], *, cwd: Path) -> str:
    """Run a program that prepares a case and return what it printed."""
    ended = subprocess.run(program, cwd=cwd, capture_output=True, text=True, check=False)
    if ended.returncode != 0:
        raise Absent(" / ".join(ended.stderr.strip().splitlines()[:3]))
    return ended.stdout


CASES: dict[str, Callable[[Options], Result]] = {
    "start": start,
    "nothing-to-do": nothing_to_do,
    "audit-archive": audit_archive,
    "audit-store": audit_store,
    "fetch": fetch,
    "resolve-uv": resolve_uv,
    "resolve-pip-tools": resolve_pip_tools,
}
