"""The stacks of this project: what is committed is what follows from stack file and lock."""

from __future__ import annotations

import re
import subprocess
from pathlib import Path
from urllib.parse import urlsplit

import pytest

from lockbuild.cli.describing import page
from lockbuild.cli.imaging import rendered_texts
from lockbuild.dockerfile.steps import network_steps
from lockbuild.folders import STACK_FILE, StackFolder
from lockbuild.resolvers import apt
from lockbuild.resolvers._configured import default_index
from lockbuild.stack import from_document
from lockbuild.stack.schema import check_document
from lockbuild.wheelhouse import MANIFEST, parse_manifest
from tests.hadolint import complaints

PROJECT = Path(__file__).resolve().parent.parent
STACKS = [StackFolder(path=file.parent) for file in sorted(PROJECT.glob(f"stacks/*/{STACK_FILE}"))]

each_stack = pytest.mark.parametrize("folder", STACKS, ids=lambda folder: folder.path.name)


@each_stack
def test_stack_file_has_no_fault_and_is_called_as_its_folder(folder: StackFolder) -> None:
    document = folder.read_document()
    check_document(document, file=folder.stack_file)
    assert document["name"] == folder.path.name


@each_stack
def test_lock_is_current(folder: StackFolder) -> None:
    folder.read_locked()


@each_stack
def test_no_lock_has_the_interpreter_of_somebody_s_machine(folder: StackFolder) -> None:
    _, lock = folder.read_locked()
    assert lock.interpreter is None, "commit it open: `lockbuild resolve` closes it, where it is wanted"


@each_stack
def test_what_is_committed_is_what_is_rendered(folder: StackFolder) -> None:
    document, lock = folder.read_locked()
    for name, text in rendered_texts(from_document(document), lock).items():
        assert (folder.path / name).read_text(encoding="utf-8") == text, (
            f"lockbuild render {folder.path.name}"
        )


@each_stack
def test_page_is_what_follows_from_stack_and_lock(folder: StackFolder) -> None:
    committed = PROJECT / "docs" / "stacks" / f"{folder.path.name}.md"
    assert committed.read_text(encoding="utf-8") == page(folder), "make docs"


def test_every_page_is_of_a_stack() -> None:
    pages = {file.stem for file in PROJECT.glob("docs/stacks/*.md")}
    assert pages == {folder.path.name for folder in STACKS}


@each_stack
def test_committed_manifest_is_of_this_lock(folder: StackFolder) -> None:
    _, lock = folder.read_locked()
    file = folder.wheels / MANIFEST
    if file.is_file():
        assert parse_manifest(file.read_text(encoding="utf-8")).lock == lock.digest, (
            f"lockbuild build {folder.path.name}"
        )


@each_stack
def test_no_step_of_the_dockerfile_can_use_a_network(folder: StackFolder) -> None:
    assert network_steps((folder.path / "Dockerfile").read_text(encoding="utf-8")) == ()


@each_stack
def test_hadolint_has_no_complaint(folder: StackFolder, tmp_path: Path) -> None:
    assert complaints((folder.path / "Dockerfile").read_text(encoding="utf-8"), tmp_path) == []


def _hosts() -> set[str]:
    """Return the hosts of the default indexes: the usual ones, and those that this machine asks."""
    asked = {default_index(), *(url for vendor in ("debian", "ubuntu") for url in _archives(vendor))}
    usual = {("pypi", "org"), ("pythonhosted", "org"), ("deb", "debian", "org"), ("npmjs", "org")}
    hosts = {urlsplit(url).hostname for url in asked} | {".".join(words) for words in usual}
    return {host for host in hosts if host and host != "localhost"}


def _archives(vendor: str) -> tuple[str, ...]:
    try:
        return apt.configured_mirrors(vendor)
    except Exception:  # noqa: BLE001 - a machine without apt asks none
        return ()


def _committed() -> list[Path]:
    listed = subprocess.run(
        ["git", "ls-files", "-z", "--", "stacks", "docs/stacks"],
        cwd=PROJECT,
        capture_output=True,
        check=False,
    )
    names = [name for name in listed.stdout.decode().split("\0") if name]
    found = [PROJECT / name for name in names] or [*PROJECT.glob("stacks/*/*")]
    return [file for file in found if file.is_file()]


def test_no_file_of_a_stack_names_the_host_of_a_default_index() -> None:
    pattern = re.compile("|".join(map(re.escape, sorted(_hosts()))))
    named = {
        file.relative_to(PROJECT).as_posix(): found[0]
        for file in _committed()
        if (found := pattern.search(file.read_text(encoding="utf-8", errors="replace")))
    }
    assert named == {}
