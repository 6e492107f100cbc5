"""One small stack resolved, fetched and built for all end-to-end tests; each gets a copy of it."""

from __future__ import annotations

import os
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from lockbuild.derivation import PoolFile
from lockbuild.folders import StackFolder
from lockbuild.plan import make_plan
from lockbuild.process import find_tool, run
from lockbuild.resolvers._configured import default_index, tool_env
from lockbuild.settings import config_path
from lockbuild.stack import from_document
from tests.end_to_end.project import (
    NATIVE,
    REPOSITORY,
    Project,
    home_env,
    make_sdist,
    scratch_folder,
    stack_text,
)
from tests.needs import missing, need
from tests.servers.engine import private_engine
from tests.servers.faulty import faulty_server
from tests.servers.index import serve_index
from tests.wheels import make_wheel

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping

    from lockbuild.process import Completed
    from tests.servers.faulty import FaultyServer

_NO_NETWORK = ("unshare", "--net", "--")


@dataclass(frozen=True, slots=True, kw_only=True)
class Filled:
    """The project, once the whole chain but the image has run; nobody changes it."""

    project: Project
    steps: Mapping[str, Completed]
    """What each command said the first time; `resolve` and `build` again as `pin` and `rebuild`."""
    offline: bool
    """Whether all but resolving and fetching ran without a network."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Mirror:
    """All that the stack fetches, on loopback."""

    archive: FaultyServer
    env: Mapping[str, str]
    """What makes lockbuild ask there."""


# ---- once ----------------------------------------------------------------------------------------------


@pytest.fixture(scope="session")
def session_folder(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    with scratch_folder(tmp_path_factory.mktemp("end-to-end")) as folder:
        yield folder


@pytest.fixture(scope="session")
def user_env(session_folder: Path) -> dict[str, str]:
    """The environment of a user of this machine: its way to the indexes, and a home with nothing in it."""
    home = session_folder / "home"
    home.mkdir()
    asked, config = ("LOCKBUILD_ARCHIVE", "LOCKBUILD_INDEX"), config_path()
    return tool_env(
        **home_env(home),
        LOCKBUILD_CONFIG=str(config) if config.exists() else "",
        LOCKBUILD_BUILDER="sandbox",
        PYTHONPATH=str(REPOSITORY),
        UV_DEFAULT_INDEX=default_index(),
        **{name: text for name, text in os.environ.items() if name.startswith(asked)},
    )


@pytest.fixture(scope="session")
def index(session_folder: Path) -> Iterator[str]:
    """The address of the index that the stack names: an sdist, and a wheel that agrees with nobody."""
    folder = session_folder / "index"
    folder.mkdir()
    make_sdist(folder)
    make_wheel(folder, "picky", "1.0", requires=["markupsafe<1"])
    with serve_index(folder) as server:
        yield server.url


@pytest.fixture(scope="session")
def no_network() -> tuple[str, ...]:
    """A command that runs another without any network; empty where this user may not."""
    if find_tool("unshare") is None or run([*_NO_NETWORK, "true"]).returncode != 0:
        return ()
    return _NO_NETWORK


@pytest.fixture(scope="session")
def filled(
    session_folder: Path, user_env: dict[str, str], index: str, no_network: tuple[str, ...]
) -> Filled:
    need("bwrap", "mmdebstrap", "apt-get")
    project = Project(root=session_folder / "project", store=session_folder / "store", env=user_env)
    (project.stack / "native").mkdir(parents=True)
    (project.stack / "stack.toml").write_text(stack_text(index))
    for name, text in NATIVE.items():
        project.edit_native(name, text)
    steps = {"resolve": project.run("resolve", "small"), "fetch": project.run("fetch", "small")}
    cut_off = Project(root=project.root, store=project.store, env=user_env, prefix=no_network)
    for step, words in (
        ("build", ("build",)),
        ("pin", ("resolve",)),
        ("rebuild", ("build",)),
        ("render", ("render", "--context")),
    ):
        steps[step] = cut_off.run(*words, "small")
    return Filled(project=project, steps=steps, offline=bool(no_network))


@pytest.fixture(scope="session")
def engine(session_folder: Path) -> Iterator[str]:
    """DOCKER_HOST of an engine that has no network and knows no other image."""
    with private_engine(session_folder / "engine") as host:
        yield host


@pytest.fixture(scope="session")
def mirror(session_folder: Path, filled: Filled) -> Iterator[Mirror]:
    www, wheels = session_folder / "www", session_folder / "wheels"
    wheels.mkdir()
    document, lock = StackFolder(path=filled.project.stack).read_locked()
    for fetch in make_plan(from_document(document), lock).fetches():
        place = www / fetch.where.path if isinstance(fetch.where, PoolFile) else wheels / fetch.filename
        if place.suffix in (".deb", ".whl"):
            place.parent.mkdir(parents=True, exist_ok=True)
            place.hardlink_to(filled.project.store / "objects" / fetch.path)
    with faulty_server(www) as archive, serve_index(wheels) as served:
        env = {"LOCKBUILD_ARCHIVE_DEBIAN": archive.url, "LOCKBUILD_INDEX_PYPI": served.url}
        yield Mirror(archive=archive, env=env)


@pytest.fixture(scope="session")
def python_of() -> Callable[[str], str | None]:
    """Return a function that finds an interpreter of a version: on PATH, or one of pyenv's."""

    def find(version: str) -> str | None:
        pyenv = Path(os.environ.get("PYENV_ROOT") or Path.home() / ".pyenv")
        places = [Path(sys.executable), find_tool(f"python{version}")]
        places += sorted(pyenv.glob(f"versions/{version}.*/bin/python3"))
        for place in filter(None, places):
            # pyenv's own commands on PATH say no where another version is the chosen one.
            told = subprocess.run(
                [place, "-c", "import ensurepip, sys, venv; print('%d.%d' % sys.version_info[:2])"],
                capture_output=True,
                text=True,
                check=False,
            )
            if told.stdout.strip() == version:
                return str(place)
        return None

    return find


@pytest.fixture(scope="session")
def target_python(python_of: Callable[[str], str | None]) -> str:
    """An interpreter of the target's version on this machine."""
    found = python_of("3.11")
    if found is None:
        missing("there is no Python 3.11 with `venv` on this machine: install python3.11-venv")
    return str(found)


# ---- for each test -------------------------------------------------------------------------------------


@pytest.fixture
def project(filled: Filled, tmp_path: Path) -> Iterator[Project]:
    """A copy of the filled project, to be changed at will."""
    with scratch_folder(tmp_path / "copy") as folder:
        yield filled.project.copy(folder)


@pytest.fixture
def fresh(filled: Filled, tmp_path: Path) -> Iterator[Project]:
    """The same stack and lock, a store with nothing in it, and nothing built."""
    with scratch_folder(tmp_path / "fresh") as folder:
        yield _fresh(filled.project, folder)


def _fresh(filled: Project, folder: Path) -> Project:
    project = Project(root=folder / "project", store=folder / "store", env=filled.env)
    (project.stack / "native").mkdir(parents=True)
    for path in (*filled.stack.glob("*.*"), *filled.stack.glob("native/*")):
        if path.is_file():
            (project.stack / path.relative_to(filled.stack)).write_bytes(path.read_bytes())
    return project
