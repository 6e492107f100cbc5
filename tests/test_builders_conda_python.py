"""Python from conda in a root file system: the real mmdebstrap, and a prefix of conda packages."""

from __future__ import annotations

import subprocess
import tarfile
from dataclasses import replace
from typing import TYPE_CHECKING

import pytest

from lockbuild.derivation import PREFIX_TAR, rootfs_command
from tests.conda import PLACEHOLDER, CondaPackage
from tests.needs import need
from tests.standalone import make_archive
from tests.test_builders_prefix import build, made
from tests.test_builders_rootfs import SUITE, Debs, tar_of, task_for
from tests.test_builders_rootfs import builder as builder  # noqa: PLC0414 - a fixture
from tests.test_builders_rootfs import essential as essential  # noqa: PLC0414 - a fixture

if TYPE_CHECKING:
    from pathlib import Path

    from lockbuild.builders.rootfs import RootfsBuilder
    from lockbuild.derivation import BuildOutcome, BuildTask

VERSION = "3.10"
PLACE = "/opt/conda"
NOARCH = CondaPackage(
    name="script",
    version="1.0",
    noarch="python",
    files={"site-packages/script.py": b"def main():\n    print('from conda')\n"},
    entry_points=("script = script:main",),
)


def conda_python(folder: Path) -> CondaPackage:
    """Return a conda package of a Python on this machine."""
    files, links = {}, {}
    with tarfile.open(make_archive(folder, VERSION)) as tar:
        for member in tar:
            name = member.name.removeprefix("python/")
            if member.issym():
                links[name] = member.linkname
            elif member.isreg():
                file = tar.extractfile(member)
                assert file is not None
                files[name] = file.read()
    files["share/where"] = PLACEHOLDER.encode()
    return CondaPackage(name="python", version=f"{VERSION}.1", files=files, links=links)


@pytest.fixture(scope="module")
def prefix(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A prefix with Python in it."""
    folder = tmp_path_factory.mktemp("prefix")
    return made(build(folder / "build", conda_python(folder), NOARCH)).parent


def with_prefix(task: BuildTask, debs: Debs, prefix: Path, version: str = VERSION) -> BuildTask:
    command = rootfs_command(
        SUITE, debs.locked, interpreter=(version, f"conda/{PREFIX_TAR}"), place=PLACE
    )
    return replace(task, command=command, inputs=(*task.inputs, ("conda", prefix)))


@pytest.fixture(scope="module")
def built(
    builder: RootfsBuilder, essential: Debs, prefix: Path, tmp_path_factory: pytest.TempPathFactory
) -> BuildOutcome:
    """A root file system with the prefix."""
    task = task_for(essential, tmp_path_factory.mktemp("built") / "scratch")
    outcome = builder.build(with_prefix(task, essential, prefix))
    assert outcome.status == "built", "\n".join(outcome.tail)
    return outcome


def test_python_and_the_prefix_s_programs_run(built: BuildOutcome, tmp_path: Path) -> None:
    need("bwrap")
    with tarfile.open(tar_of(built)) as tar:
        tar.extractall(tmp_path, filter="tar")
    root = [
        "bwrap",
        "--ro-bind",
        str(tmp_path),
        "/",
        "--unshare-all",
        "--dev",
        "/dev",
        "--proc",
        "/proc",
    ]
    program = "import script, sys; print(sys.prefix, script.__cached__)"
    for words, expected in (
        (["python3", "-c", program], None),
        ([f"{PLACE}/bin/script"], "from conda"),
        (["cat", f"{PLACE}/share/where"], PLACE),
    ):
        done = subprocess.run(
            [*root, *words],
            capture_output=True,
            text=True,
            check=True,
            timeout=60,
            env={"PATH": "/usr/local/bin:/usr/bin"},
        )
        if expected:
            assert done.stdout.strip() == expected
        else:
            place, cached = done.stdout.split()
            assert place == PLACE
            assert (tmp_path / cached[1:]).is_file()


def test_same_prefix_gives_the_same_bytes(
    builder: RootfsBuilder, essential: Debs, prefix: Path, built: BuildOutcome, tmp_path: Path
) -> None:
    again = builder.build(with_prefix(task_for(essential, tmp_path / "again"), essential, prefix))
    assert tar_of(again).read_bytes() == tar_of(built).read_bytes()


def test_python_of_another_version_is_refused(
    builder: RootfsBuilder, essential: Debs, prefix: Path, tmp_path: Path
) -> None:
    outcome = builder.build(
        with_prefix(task_for(essential, tmp_path / "scratch"), essential, prefix, "3.12")
    )
    assert outcome.status == "failed"
    assert "the interpreter is Python 3.10, expected 3.12" in "\n".join(outcome.tail)
