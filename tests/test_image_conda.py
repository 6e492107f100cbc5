"""Conda packages in an image that a real engine has built without a network, and run in it."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import pytest

from lockbuild.audit.contents import conda_of, kept
from lockbuild.condalock import LockedConda
from lockbuild.derivation import CONDA_FOLDER, PREFIX_TAR
from lockbuild.digest import sha256_of
from lockbuild.dockerfile import PREFIX
from lockbuild.image.archive import Reading, read_saved
from lockbuild.image.building import build
from lockbuild.image.containers import run
from lockbuild.image.layers import final
from lockbuild.plan import EPOCH
from lockbuild.stack import Conda
from tests.conda import PLACEHOLDER, CondaPackage, archive_bytes
from tests.test_builders_prefix import build as build_prefix
from tests.test_builders_prefix import made as made_prefix
from tests.test_dockerfile import STACK
from tests.test_image import engine, installer, make_context, rootfs  # noqa: F401 - fixtures

if TYPE_CHECKING:
    from pathlib import Path

    from lockbuild.image import Engine, ImageFacts

TOOL = CondaPackage(
    name="tool",
    version="2.1",
    build="h1_0",
    files={
        "bin/tool": b"#!/bin/sh\nexec cat " + PLACEHOLDER.encode() + b"/share/words\n",
        "share/words": b"hello\n",
    },
    links={"bin/also": "tool"},
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Made:
    """An image with conda packages, and its context."""

    context: Path
    facts: ImageFacts


def locked(package: CondaPackage) -> LockedConda:
    data = archive_bytes(package)
    return LockedConda(
        name=package.name,
        version=package.version,
        build=package.build,
        channel="main",
        subdir=package.subdir,
        filename=package.filename,
        md5="0" * 32,
        sha256=sha256_of(data),
        size=len(data),
    )


@pytest.fixture(scope="module")
def made(
    engine: Engine, rootfs: Path, installer: Path, tmp_path_factory: pytest.TempPathFactory
) -> Made:
    folder = tmp_path_factory.mktemp("conda")
    context = folder / "context"
    (context / "conda").mkdir(parents=True)
    tar = made_prefix(build_prefix(folder / "prefix", TOOL))
    (context / "conda" / PREFIX_TAR).hardlink_to(tar)
    stack = replace(STACK, conda=Conda(channels=("https://conda.example.org/main",), packages=("tool",)))
    make_context(context, stack, rootfs, installer, conda=(locked(TOOL),))
    facts = build(context, tag="conda:1", engine=engine, log=folder / "log", epoch=EPOCH)
    return Made(context=context, facts=facts)


@pytest.mark.usefixtures("made")
@pytest.mark.parametrize("program", ["tool", "also", f"{CONDA_FOLDER}/bin/tool"])
def test_program_runs_without_a_network(engine: Engine, program: str) -> None:
    ended = run("conda:1", ["--preflight-skip", program], engine=engine)
    assert (ended.returncode, ended.stdout) == (0, "hello\n"), ended.stderr


@pytest.mark.usefixtures("made")
def test_the_environment_s_python_goes_before_any_of_the_prefix(engine: Engine) -> None:
    program = "import sys; print(sys.prefix)"
    ended = run("conda:1", ["--preflight-skip", "python3", "-c", program], engine=engine)
    assert ended.stdout.strip() == PREFIX


@pytest.mark.usefixtures("made")
def test_packages_are_read_off_the_image(engine: Engine) -> None:
    image = read_saved("conda:1", Reading(keep=kept), engine=engine)
    found = conda_of(image, final([layer.content for layer in image.layers]), CONDA_FOLDER)
    assert [(one.name, one.version) for one in found] == [("tool", "2.1 h1_0")]


def test_image_is_labelled_with_the_packages(made: Made) -> None:
    assert dict(made.facts.labels)["io.lockbuild.conda"].startswith("sha256:")


def test_second_build_gives_the_same_image(made: Made, engine: Engine, tmp_path: Path) -> None:
    again = build(
        made.context, tag="conda:2", engine=engine, log=tmp_path / "log", epoch=EPOCH, cache=False
    )
    assert again.id == made.facts.id
