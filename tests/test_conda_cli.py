"""Conda packages on the command line: from a channel on loopback to a prefix that runs without a network."""

from __future__ import annotations

import json
import subprocess
import sys
import tarfile
import tomllib
from typing import TYPE_CHECKING, Any

import pytest

from lockbuild.condalock import CONDA_LOCK
from lockbuild.derivation import PREFIX_TAR
from lockbuild.documents import toml_text
from lockbuild.folders import STACK_FILE
from tests.conda import PLACEHOLDER, CondaPackage, add_package, archive_bytes, make_channel
from tests.needs import need
from tests.servers.faulty import Fault, faulty_server
from tests.test_cli import builder, run, world  # noqa: F401 - fixtures

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from tests.servers.faulty import FaultyServer
    from tests.test_cli import Run
    from tests.worlds import World

TOOL = CondaPackage(
    name="tool",
    version="2.1",
    depends=("__cuda >=11.2", "words"),
    files={"bin/tool": b"#!/bin/sh\nexec cat " + PLACEHOLDER.encode() + b"/share/words\n"},
)
WORDS = CondaPackage(name="words", version="1.0", noarch="generic", files={"share/words": b"hello\n"})
TOOL_FILE = "/main/linux-64/tool-2.1-0.conda"


@pytest.fixture
def channel(tmp_path: Path) -> Path:
    return make_channel(tmp_path / "www" / "main", [TOOL, WORDS])


@pytest.fixture
def server(channel: Path) -> Iterator[FaultyServer]:
    with faulty_server(channel.parent) as served:
        yield served


@pytest.fixture
def stack(world: World, server: FaultyServer) -> World:
    """The small stack with a conda package."""
    declare(world, channels=[f"{server.url}/main"], packages=["tool"])
    return world


def declare(world: World, **conda: Any) -> None:
    document = tomllib.loads(world.folder.read_stack_text())
    document["conda"] = conda
    if not conda:
        del document["conda"]
    (world.folder.path / STACK_FILE).write_text(toml_text(document), encoding="utf-8")


def locked(world: World) -> dict[str, str]:
    return {package.name: package.version for package in world.lock.conda}


def good(ended: Any) -> Any:
    assert ended.code == 0, ended.err
    return ended


# ---- resolving -------------------------------------------------------------------------------------------


def test_lock_is_the_same_whichever_mirror_was_asked(
    run: Run, stack: World, server: FaultyServer, channel: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    good(run("resolve", "small"))
    assert locked(stack) == {"tool": "2.1", "words": "1.0"}
    before = {path.name: path.read_bytes() for path in stack.folder.path.glob("*lock*")}
    assert CONDA_LOCK in before
    declare(stack)
    good(run("resolve", "small"))
    monkeypatch.setenv("LOCKBUILD_CHANNEL_MAIN", channel.as_uri())
    declare(stack, channels=[f"{server.url}/main"], packages=["tool"])
    server.requests.clear()
    good(run("resolve", "small"))
    assert {path.name: path.read_bytes() for path in stack.folder.path.glob("*lock*")} == before
    assert server.requests == []


@pytest.mark.usefixtures("stack")
def test_resolving_again_asks_nobody_and_loads_neither_solver_nor_conda_lock(
    run: Run, server: FaultyServer
) -> None:
    good(run("resolve", "small"))
    server.requests.clear()
    program = (
        "import sys; from lockbuild.cli import main\n"
        "try: main()\n"
        "except SystemExit as e: assert not e.code, e.code\n"
        "print({'rattler', 'conda_lock'} & set(sys.modules))"
    )
    done = subprocess.run(
        [sys.executable, "-c", program, "resolve", "small"], capture_output=True, text=True, check=True
    )
    assert done.stdout.splitlines()[-1] == "set()"
    assert server.requests == []


def test_package_moves_only_when_asked_to(
    run: Run, stack: World, channel: Path, server: FaultyServer
) -> None:
    good(run("resolve", "small"))
    add_package(channel, CondaPackage(name="words", version="1.1", noarch="generic"))
    declare(stack, channels=[f"{server.url}/main"], packages=["tool >=2"])
    good(run("resolve", "small"))
    assert locked(stack)["words"] == "1.0"
    declare(stack, channels=[f"{server.url}/main"], packages=["tool", "words >1.0"])
    ended = good(run("resolve", "small"))
    assert locked(stack)["words"] == "1.1"
    assert "words (conda): 1.0 0 -> 1.1 0" in ended.out + ended.err


def test_set_that_does_not_fit_the_target_ends_with_its_virtual_packages(
    run: Run, stack: World, server: FaultyServer
) -> None:
    declare(
        stack,
        channels=[f"{server.url}/main"],
        packages=["tool"],
        **{"virtual-packages": {"__cuda": "11.1"}},
    )
    ended = run("resolve", "small")
    assert ended.code == 4
    assert "__cuda >=11.2" in ended.err
    assert "__cuda 11.1, __glibc 2.36" in ended.err
    assert not (stack.folder.path / CONDA_LOCK).exists()


def test_lock_of_a_stack_without_conda_packages_loses_its_file(run: Run, stack: World) -> None:
    good(run("resolve", "small"))
    assert (stack.folder.path / CONDA_LOCK).exists()
    declare(stack)
    good(run("resolve", "small"))
    assert not (stack.folder.path / CONDA_LOCK).exists()
    assert stack.lock.conda == ()


def test_edited_conda_lock_is_refused(run: Run, stack: World) -> None:
    good(run("resolve", "small"))
    file = stack.folder.path / CONDA_LOCK
    file.write_text(file.read_text().replace("2.1", "2.2"))
    ended = run("fetch", "small")
    assert ended.code == 3
    assert f"{CONDA_LOCK} is not as it was written" in ended.err


@pytest.mark.usefixtures("stack")
@pytest.mark.parametrize("module", ["rattler", "conda_lock"])
def test_absent_tool_is_named_with_what_installs_it(
    run: Run, monkeypatch: pytest.MonkeyPatch, module: str
) -> None:
    for name in [name for name in sys.modules if name.split(".")[0] == module]:
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.setitem(sys.modules, module, None)
    ended = run("resolve", "small")
    assert ended.code == 10
    assert "pip install 'lockbuild[conda]'" in ended.err


# ---- a channel out of reach ------------------------------------------------------------------------------


@pytest.fixture
def unreached(world: World) -> World:
    """The small stack with a conda package of a channel that nobody reaches."""
    declare(world, channels=["http://127.0.0.1:9/main"], packages=["tool"])
    return world


def test_lock_is_open_while_the_channel_is_out_of_reach(run: Run, unreached: World) -> None:
    ended = run("resolve", "small")
    assert ended.code == 4
    assert "conda main  the conda channel `main` cannot be asked" in ended.err
    good(run("resolve", "small", "--allow-open"))
    assert not (unreached.folder.path / CONDA_LOCK).exists()
    assert [part.label for part in unreached.lock.open_parts] == ["conda main"]
    assert [name for name, _ in unreached.plan.blocked] == ["conda"]
    # Whatever does not need it goes on.
    good(run("build", "small"))
    good(run("render", "small"))
    assert run("render", "small", "--context").code == 3


def test_lock_is_closed_as_soon_as_the_channel_answers(
    run: Run, unreached: World, channel: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    good(run("resolve", "small", "--allow-open"))
    monkeypatch.setenv("LOCKBUILD_CHANNEL_MAIN", channel.as_uri())
    good(run("resolve", "small"))
    assert unreached.lock.open_parts == ()
    assert locked(unreached) == {"tool": "2.1", "words": "1.0"}


def test_former_pins_are_kept_where_an_upgrade_cannot_be_asked_for(
    run: Run, unreached: World, channel: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("LOCKBUILD_CHANNEL_MAIN", channel.as_uri())
    good(run("resolve", "small"))
    monkeypatch.delenv("LOCKBUILD_CHANNEL_MAIN")
    monkeypatch.setattr("lockbuild.resolvers.apt.resolve", lambda *_, **__: unreached.lock.debs)
    before = (unreached.folder.path / CONDA_LOCK).read_bytes()
    ended = run("resolve", "small", "--upgrade")
    assert "the conda channel `main` cannot be asked" in ended.err, ended.err
    assert (unreached.folder.path / CONDA_LOCK).read_bytes() == before
    assert locked(unreached) == {"tool": "2.1", "words": "1.0"}


# ---- fetching --------------------------------------------------------------------------------------------


def test_fetch_brings_packages_from_the_channel(run: Run, stack: World, server: FaultyServer) -> None:
    good(run("resolve", "small"))
    server.requests.clear()
    good(run("fetch", "small"))
    assert len(server.asked(TOOL_FILE)) == 1
    wanted = [stack.fetched("tool-2.1-0.conda"), stack.fetched("words-1.0-0.conda")]
    assert stack.store.valid(wanted) == frozenset(wanted)


@pytest.mark.usefixtures("stack")
def test_mirror_is_asked_before_the_channel(
    run: Run, server: FaultyServer, channel: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    good(run("resolve", "small"))
    server.requests.clear()
    monkeypatch.setenv("LOCKBUILD_CHANNEL_MAIN", channel.as_uri())
    good(run("fetch", "small"))
    assert server.requests == []


@pytest.mark.parametrize("kind", ["swapped", "truncated", "absent"])
def test_archive_with_other_bytes_is_refused(
    run: Run, stack: World, server: FaultyServer, channel: Path, kind: str
) -> None:
    good(run("resolve", "small"))
    file = channel / "linux-64" / "tool-2.1-0.conda"
    if kind == "swapped":
        evil = CondaPackage(name="tool", version="2.1", files={"bin/tool": b"#!/bin/sh\necho evil\n"})
        file.write_bytes(archive_bytes(evil))
    elif kind == "truncated":
        file.write_bytes(file.read_bytes()[:-7])
    else:
        server.faults[TOOL_FILE] = Fault(kind="status", status=404)
    ended = run("fetch", "small")
    assert ended.code == 5
    assert "tool-2.1-0.conda" in ended.err
    assert "channels.main" in ended.err
    assert not stack.store.valid([stack.fetched("tool-2.1-0.conda")])


def test_file_channel_is_no_way_around_the_hash(run: Run, stack: World, channel: Path) -> None:
    declare(stack, channels=[channel.as_uri()], packages=["tool"])
    good(run("resolve", "small"))
    file = channel / "linux-64" / "tool-2.1-0.conda"
    file.write_bytes(archive_bytes(CondaPackage(name="tool", version="2.1")))
    ended = run("fetch", "small")
    assert ended.code == 5
    assert "`tool-2.1-0.conda`: no place has the locked bytes" in ended.err


# ---- what is made of it ----------------------------------------------------------------------------------


def prefix(world: World) -> Path:
    path = world.plan.prefix
    assert path is not None
    return world.store.locate(path) / PREFIX_TAR


def test_rendered_context_holds_the_prefix(run: Run, stack: World) -> None:
    good(run("resolve", "small"))
    good(run("render", "small", "--context"))
    context = stack.folder.context
    assert (context / "conda" / PREFIX_TAR).read_bytes() == prefix(stack).read_bytes()
    dockerfile = (context / "Dockerfile").read_text()
    assert "ADD conda/conda.tar /\n" in dockerfile
    assert 'PATH="/opt/venv/bin:/opt/conda/bin:/usr/local/sbin' in dockerfile
    assert "io.lockbuild.conda=" in dockerfile


@pytest.mark.usefixtures("stack")
def test_prefix_is_built_again_with_the_same_bytes(run: Run) -> None:
    good(run("resolve", "small"))
    ended = good(run("check", "small", "conda"))
    assert "conda: identical" in ended.out


def test_audit_knows_the_bytes_and_the_scripts_that_are_not_run(
    run: Run, stack: World, channel: Path
) -> None:
    script = {"bin/.tool-post-link.sh": b"#!/bin/sh\n", **TOOL.files}
    add_package(channel, CondaPackage(name="tool", version="2.2", depends=("words",), files=script))
    good(run("resolve", "small"))
    good(run("render", "small", "--context"))
    found = run("audit", "small", "--json").json["findings"]
    assert [(f["check"], f["level"], f["subject"]) for f in found if "conda" in f["check"]] == [
        ("conda-scripts", "warning", "/opt/conda/bin/.tool-post-link.sh")
    ]
    file = stack.store.locate(stack.fetched("tool-2.2-0.conda"))
    file.chmod(0o644)
    file.write_bytes(b"other bytes")
    found = run("audit", "small", "--json").json["findings"]
    assert [f for f in found if f["check"] == "store-bytes" and "tool-2.2-0.conda" in f["subject"]]


def test_program_of_the_prefix_runs_without_a_network(run: Run, stack: World, tmp_path: Path) -> None:
    need("bwrap")
    good(run("resolve", "small"))
    good(run("render", "small", "--context"))
    with tarfile.open(prefix(stack)) as tar:
        tar.extractall(tmp_path / "root", filter="tar")
    words = [
        *("bwrap", "--unshare-all", "--ro-bind", "/", "/", "--tmpfs", "/opt", "--dir", "/opt/conda"),
        *("--ro-bind", str(tmp_path / "root/opt/conda"), "/opt/conda", "/opt/conda/bin/tool"),
    ]
    done = subprocess.run(words, capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout) == (0, "hello\n"), done.stderr


_HASHES = """
import json, sys
from pathlib import Path
from conda_lock.lockfile import parse_conda_lock_file
lock = parse_conda_lock_file(Path(sys.argv[1]))
print(json.dumps({package.url: [package.hash.md5, package.hash.sha256] for package in lock.package}))
"""


def test_conda_lock_reads_the_file_and_says_the_same(
    run: Run, stack: World, server: FaultyServer
) -> None:
    good(run("resolve", "small"))
    words = [sys.executable, "-c", _HASHES, str(stack.folder.path / CONDA_LOCK)]
    found = json.loads(subprocess.run(words, capture_output=True, text=True, check=True).stdout)
    assert found == {
        f"{server.url}/main/{package.subdir}/{package.filename}": [package.md5, package.sha256]
        for package in stack.lock.conda
    }
