"""`resolve --verify-pins`: pinned wheels against what a real index on loopback publishes of them."""

from __future__ import annotations

import hashlib
import shutil
import tomllib
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import pytest

from lockbuild.documents import toml_text
from lockbuild.folders import STACK_FILE
from tests.servers.index import serve_index
from tests.test_cli import builder, run, world  # noqa: F401 - fixtures
from tests.wheels import make_wheel

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tests.servers.index import IndexServer
    from tests.test_cli import Run
    from tests.worlds import World

REQUIRES = ["alpha>=1,<9", "tomli; python_version < '3.11'", "rich; extra == 'shown'"]


@pytest.fixture(params=["json", "html"])
def form(request: pytest.FixtureRequest) -> Literal["json", "html"]:
    found: Literal["json", "html"] = request.param
    return found


@pytest.fixture
def published(tmp_path: Path, form: Literal["json", "html"]) -> Iterator[IndexServer]:
    """An index of its own for the wheel that the stack pins."""
    make_wheel(tmp_path / "published", "pinned", "2.0+cu118", requires=REQUIRES, extras=["shown"])
    with serve_index(tmp_path / "published", form=form, metadata=True) as server:
        yield server


@pytest.fixture
def wheel(tmp_path: Path, published: IndexServer) -> Path:
    assert published.url
    return tmp_path / "published" / "pinned-2.0+cu118-py3-none-any.whl"


def pin(world: World, server: IndexServer, wheel: Path, *, named: bool = False, **changes: Any) -> None:
    """Pin *wheel* in the stack, found beside its address, or in an index that the stack names."""
    document = tomllib.loads(world.folder.read_stack_text())
    python = document["python"]
    python["requires"] = ["alpha>=1", "pinned"]
    address = f"{server.url}/{wheel.name}" if not named else f"https://gone.invalid/{wheel.name}"
    if named:
        python["index"].append({"name": "own", "url": server.url, "only": ["pinned"]})
    table = {
        "name": "pinned",
        "version": "2.0+cu118",
        "url": [address],
        "sha256": hashlib.sha256(wheel.read_bytes()).hexdigest(),
        "requires": ["alpha<9,>=1"],
    }
    python["wheel"] = [table | changes]
    (world.folder.path / STACK_FILE).write_text(toml_text(document), encoding="utf-8")


@pytest.mark.parametrize("named", [True, False])
def test_pin_that_is_as_published_is_verified(
    run: Run, world: World, published: IndexServer, wheel: Path, *, named: bool
) -> None:
    pin(world, published, wheel, named=named)
    ended = run("resolve", "small", "--verify-pins", "--json")
    assert ended.code == 0, ended.err
    assert ended.json["unverified"] == []
    assert f"/files/{wheel.name}.metadata".replace("+", "%2B") in {
        request.replace("+", "%2B") for request in published.requests
    }


def test_other_hash_is_refused_with_both_and_no_lock_is_written(
    run: Run, world: World, published: IndexServer, wheel: Path
) -> None:
    before = world.folder.read_lock_texts()
    pin(world, published, wheel, sha256="0" * 64)
    ended = run("resolve", "small", "--verify-pins")
    assert ended.code == 4
    assert f"pinned    sha256 {'0' * 64}" in ended.err
    assert f"published sha256 {hashlib.sha256(wheel.read_bytes()).hexdigest()}" in ended.err
    assert world.folder.read_lock_texts() == before


@pytest.mark.parametrize(
    ("requires", "said"),
    [
        ([], "`python.wheel[pinned]`.requires: lacks `alpha<9,>=1`, which its metadata says"),
        (
            ["alpha>=1,<9", "beta"],
            "`python.wheel[pinned]`.requires: has `beta`, which its metadata does not say",
        ),
    ],
)
def test_other_requirements_are_refused(
    run: Run, world: World, published: IndexServer, wheel: Path, requires: list[str], said: str
) -> None:
    pin(world, published, wheel, requires=requires)
    ended = run("resolve", "small", "--verify-pins")
    assert (ended.code, said in ended.err) == (4, True), ended.err


def test_pin_whose_index_is_out_of_reach_is_listed_and_locked(
    run: Run, world: World, published: IndexServer, wheel: Path
) -> None:
    pin(world, published, wheel, url=[f"http://127.0.0.1:9/whl/{wheel.name}"])
    ended = run("resolve", "small", "--verify-pins")
    assert ended.code == 4
    assert "nothing published speaks for 1 of its pinned wheels" in ended.err
    assert "pinned  http://127.0.0.1:9/whl/pinned/: " in ended.err
    assert "pinned" in {package.name for package in world.lock.runtime}


def test_index_without_hashes_verifies_nothing(run: Run, world: World, wheel: Path) -> None:
    with serve_index(wheel.parent, hashes=False) as silent:
        pin(world, silent, wheel)
        ended = run("resolve", "small", "--verify-pins")
    assert ended.code == 4
    assert "the page tells no sha256 of it" in ended.err


def test_pin_that_is_not_asked_for_asks_nobody(
    run: Run, world: World, published: IndexServer, wheel: Path
) -> None:
    pin(world, published, wheel)
    assert run("resolve", "small").code == 0
    assert published.requests == []


def test_pin_of_a_first_fetch_is_verified_too(
    run: Run, world: World, published: IndexServer, wheel: Path, tmp_path: Path
) -> None:
    (tmp_path / "mirror").mkdir()
    copy = Path(shutil.copy(wheel, tmp_path / "mirror" / wheel.name))
    pin(world, published, wheel, named=True, url=[copy.as_uri()], sha256="on-first-fetch")
    assert run("resolve", "small", "--verify-pins").code == 0
    make_wheel(wheel.parent, "pinned", "2.0+cu118", requires=REQUIRES, files={"other.py": b"1\n"})
    assert "published sha256" in run("resolve", "small", "--verify-pins").err
