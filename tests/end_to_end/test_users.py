"""Somebody who is not root, with a store of their own: the same bytes, or clear words on what is missing."""

from __future__ import annotations

import os
import sys
import tempfile
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from lockbuild.process import run
from lockbuild.store import remove_tree
from tests.end_to_end.project import BUILDS, REPOSITORY, RUNTIME, Project, home_env
from tests.needs import missing, need

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tests.end_to_end.conftest import Filled

_UID = 61234
# Runs in a mount namespace of its own: Python and this checkout often lie where nobody but root may look.
_AS_USER = """\
set -eu
umask 022
aside=$1 etc=$2
shift 2
for file in "$etc"/*; do
  touch "/etc/${file##*/}"
  mount --bind "$file" "/etc/${file##*/}"
done
number=0
for folder in $FOLDERS; do
  number=$((number + 1))
  mkdir -p "$aside/$number"
  mount --bind "$folder" "$aside/$number"
done
for folder in $HIDDEN; do mount -t tmpfs -o mode=755 none "$folder"; done
number=0
for folder in $FOLDERS; do
  number=$((number + 1))
  mkdir -p "$folder"
  mount --bind "$aside/$number" "$folder"
done
exec setpriv --reuid=UID --regid=UID --clear-groups -- "$@"
""".replace("UID", str(_UID), 2)


def _hidden(folders: list[Path]) -> list[Path]:
    """Return the outermost folders above *folders* that others may not enter."""
    found = []
    for folder in folders:
        above = reversed(folder.parents)
        found += [place for place in above if not place.stat().st_mode & 0o001][:1]
    return sorted(set(found))


def _as_user(project: Project, home: Path) -> Project:
    """Return the project as another user has it, whose folder is *home*; files of its `etc` are that user's."""
    folders = sorted({Path(sys.prefix), Path(sys.base_prefix), REPOSITORY})
    env = {
        **project.env,
        **home_env(home),
        "FOLDERS": " ".join(map(str, folders)),
        "HIDDEN": " ".join(map(str, _hidden(folders))),
        "LOCKBUILD_CONFIG": "",
    }
    inside = ("sh", "-c", _AS_USER, "sh", str(home / "aside"), str(home / "etc"))
    return replace(project, env=env, prefix=("unshare", "--mount", "--", *inside))


@pytest.fixture(scope="module")
def home() -> Iterator[Path]:
    """A folder of the user's; the one of the tests is root's."""
    if os.geteuid() != 0:
        missing("becoming another user needs root")
    need("setpriv", "unshare")
    folder = Path(tempfile.mkdtemp(prefix="lockbuild-user-"))
    try:
        yield folder
    finally:
        remove_tree(folder)


@pytest.fixture(scope="module")
def users(filled: Filled, home: Path) -> Project:
    """The project in the hands of another user, whose store has the toolchain and what was fetched."""
    project = filled.project.copy(home / "linked")
    project.forget(
        lambda name: name.startswith((*BUILDS, RUNTIME)) and not name.endswith((".tar", ".gz"))
    )
    (project.store / "unpacked").unlink()
    remove_tree(project.wheels)
    remove_tree(project.context)
    # A hard link would give root's own files away.
    run(["cp", "-r", "--preserve=mode,timestamps", project.root, project.store, home])
    remove_tree(home / "linked")
    run(["chown", "-R", f"{_UID}:{_UID}", home])
    for name in ("aside", "etc"):
        (home / name).mkdir()
    known = Path("/etc/passwd").read_text()
    (home / "etc/passwd").write_text(f"{known}somebody:x:{_UID}:{_UID}::{home}:/bin/sh\n")
    return _as_user(replace(project, root=home / "project", store=home / "store"), home)


@pytest.fixture
def subordinate_ids(users: Project, home: Path) -> Iterator[None]:
    """Ids that the user may give to others, for one test; what was made with them goes too."""
    need("newuidmap")
    files = [home / "etc" / name for name in ("subuid", "subgid")]
    for file in files:
        file.write_text("somebody:700000:65536\n")
    yield
    for file in files:
        file.unlink()
    users.forget(lambda name: name == RUNTIME)


@pytest.mark.usefixtures("subordinate_ids")
def test_another_user_builds_the_same_wheels(filled: Filled, users: Project) -> None:
    users.run("build", "small")
    made = {path.name: path.read_bytes() for path in users.wheels.iterdir()}
    assert made == {path.name: path.read_bytes() for path in filled.project.wheels.iterdir()}
    assert {path.stat().st_uid for path in users.wheels.iterdir()} == {_UID}


def test_a_user_without_subordinate_ids_is_told_how_to_get_them(users: Project) -> None:
    said = users.run("render", "--context", "small", exit_code=10).stderr
    assert "root file system" in said
    assert "--add-subuids" in said
    assert "Traceback" not in said


@pytest.mark.usefixtures("subordinate_ids")
def test_a_user_with_subordinate_ids_makes_the_same_root_file_system(
    filled: Filled, users: Project
) -> None:
    users.run("render", "--context", "small")
    (path,) = filled.project.objects(lambda name: name == RUNTIME)
    listing = filled.project.store / "listings" / path
    assert (users.store / "listings" / path).read_bytes() == listing.read_bytes()
