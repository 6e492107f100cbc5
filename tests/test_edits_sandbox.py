"""Edits applied by a real builder, in a root file system of a few packages and Python."""

from __future__ import annotations

import re
import shutil
import subprocess
from typing import TYPE_CHECKING

import pytest

from lockbuild.builders.sandbox import SandboxBuilder
from lockbuild.derivation import BuildTask
from lockbuild.digest import StorePath, store_path
from lockbuild.edits import Graft, Patch, Substitute, source_build
from lockbuild.errors import BuildError
from lockbuild.process import run
from tests.needs import missing, need
from tests.test_builders import rootfs as rootfs  # noqa: PLC0414 - a fixture

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from lockbuild.derivation import BuildOutcome
    from lockbuild.edits import Edit

PATCH = "--- a/gamma.c\n+++ b/gamma.c\n@@ -1,2 +1,3 @@\n int gamma;\n+int more;\n int end;\n"
EDITS: tuple[Edit, ...] = (
    Patch(path="patches/more.patch", reason="more"),
    Substitute(file="gamma.c", old="int", new="long", count=3, reason="longer"),
    Graft(source="other", take="deeplab", put="projects/deeplab", reason="lacking"),
)


@pytest.fixture(scope="module")
def toolchain(rootfs: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a copy of the builders' root file system that has Python, as apt on this machine finds it."""
    need("apt-cache")
    shown = run(["apt-cache", "show", "python3-minimal"]).stdout
    versions = re.findall(r"^(?:Pre-)?Depends:.*?python(3\.\d+)-minimal", shown, re.MULTILINE)
    if not versions:
        missing("apt-cache does not know python3-minimal")
    kinds = ("python{}-minimal", "libpython{}-minimal", "libpython{}-stdlib")
    names = ("python3-minimal", *(kind.format(versions[0]) for kind in kinds))
    debs = tmp_path_factory.mktemp("python")
    fetched = run(["apt-get", "download", *names, "libexpat1", "zlib1g"], cwd=debs, timeout_s=120)
    if fetched.returncode != 0:
        missing(f"apt-get cannot fetch: {fetched.stderr.strip()}")
    root = tmp_path_factory.mktemp("with-python") / "root"
    shutil.copytree(rootfs, root, symlinks=True)
    for deb in sorted(debs.glob("*.deb")):
        packed = subprocess.run(["dpkg-deb", "--fsys-tarfile", deb], check=True, capture_output=True)
        # `dpkg-deb -x` would put folders in the place of links such as /lib.
        subprocess.run(
            ["tar", "-x", "--keep-directory-symlink", "-C", root], input=packed.stdout, check=True
        )
    return root


@pytest.fixture
def build(tmp_path: Path, toolchain: Path) -> Callable[..., BuildOutcome]:
    """Return a function that applies edits to a small tree in the sandbox."""
    need("bwrap")
    builder = SandboxBuilder()
    try:
        builder.probe()
    except BuildError as error:
        missing(f"{error.message}: {error.hint}")
    store = {name: store_path(["test", name], name) for name in ("tree", "more.patch", "other")}
    places = {path: tmp_path / name for name, path in store.items()}
    (tmp_path / "other/deeplab").mkdir(parents=True)
    (tmp_path / "other/deeplab/__init__.py").write_text("")
    (tmp_path / "more.patch").write_text(PATCH)
    (tmp_path / "tree").mkdir()
    (tmp_path / "tree/gamma.c").write_text("int gamma;\nint end;\n")
    (tmp_path / "tree/gamma.c").chmod(0o444)
    (tmp_path / "tree/configure").write_text("#!/bin/sh\n")
    (tmp_path / "tree/configure").chmod(0o555)

    def apply(*edits: Edit) -> BuildOutcome:
        made = source_build(
            "gamma-2.0-source",
            system="x86_64-linux",
            toolchain=StorePath(store["tree"]),
            tree=store["tree"],
            edits=edits,
            patches={"patches/more.patch": store["more.patch"]},
            grafts={"other": store["other"]},
            epoch=315532800,
            path_env="/usr/bin:/bin",
        )
        return builder.build(
            BuildTask(
                name=made.name,
                kind=made.kind,
                rootfs=toolchain,
                rootfs_name="python",
                command=made.command,
                env=made.env,
                inputs=tuple((name, places[path]) for name, path in made.inputs),
                scratch=tmp_path / "scratch",
                log=tmp_path / "build.log",
                timeout_s=60,
            )
        )

    return apply


def test_edits_are_applied(build: Callable[..., BuildOutcome]) -> None:
    outcome = build(*EDITS)
    assert (outcome.status, outcome.message) == ("built", ""), outcome.tail
    assert outcome.output is not None
    assert (outcome.output / "gamma.c").read_text() == "long gamma;\nlong more;\nlong end;\n"
    assert (outcome.output / "configure").stat().st_mode & 0o777 == 0o755
    assert (outcome.output / "projects/deeplab/__init__.py").is_file()


def test_edit_that_does_not_fit_fails_the_build_and_ends_its_log(
    build: Callable[..., BuildOutcome],
) -> None:
    outcome = build(EDITS[0], Substitute(file="gamma.c", old="int", new="long", count=2, reason="r"))
    assert (outcome.status, outcome.message) == ("failed", "`gamma-2.0-source` exited with 65")
    assert outcome.tail == (
        "the tree: copied",
        "edit 1 of 2, patch `1-more.patch`: `gamma.c` changed",
        "error: edit 2 of 2, substitute: `gamma.c`: the text is there 3 times (lines 1, 2, 3), expected 2 times",
        "  text: `int`",
    )
