"""Wheels that a stack pins by their bytes: resolved without their index, fetched from their addresses."""

from __future__ import annotations

import hashlib
import tomllib
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import pytest

from lockbuild.derivation import Addresses
from lockbuild.documents import toml_text
from lockbuild.errors import FetchError, ResolveError, StackError
from lockbuild.folders import STACK_FILE
from lockbuild.locking import ResolveOptions, resolve
from lockbuild.progress import Silent
from lockbuild.stack.schema import parse_stack_text
from tests.values import stack_document
from tests.wheels import make_wheel
from tests.worlds import World, make_world, unconfigured

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from lockbuild.lock import Lock

VERSION = "2.0+cu118"


@pytest.fixture
def world(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[World]:
    """A stack that asks for `pinned`, which no index has; its wheel lies in a folder of its own."""
    document = stack_document()
    del document["python"]["exclude-newer"]
    folder = tmp_path / "world"
    folder.mkdir()
    with make_world(folder, document=document) as made:
        unconfigured(monkeypatch, tmp_path / "home")
        monkeypatch.setenv("UV_DEFAULT_INDEX", made.index.url)
        yield made


def pin(world: World, folder: Path, *, requires: tuple[str, ...] = ("beta",), **change: Any) -> str:
    """Put a wheel into *folder* and a pin of it into the stack; return its sha256."""
    folder.mkdir(exist_ok=True)
    wheel = make_wheel(folder, "pinned", VERSION, requires=list(requires))
    sha256 = hashlib.sha256(wheel.read_bytes()).hexdigest()
    document = tomllib.loads(world.folder.read_stack_text())
    document["python"]["requires"].append(f"pinned=={VERSION}")
    table = {
        "name": "pinned",
        "version": VERSION,
        "url": [wheel.as_uri()],
        "sha256": sha256,
        "requires": list(requires),
    }
    document["python"]["wheel"] = [table | change]
    (world.folder.path / STACK_FILE).write_text(toml_text(document), encoding="utf-8")
    return sha256


def ask(world: World) -> Lock:
    options = ResolveOptions()
    mirrors = world.mirrors
    return resolve(
        world.folder,
        options=options,
        mirrors=lambda _names: mirrors,
        store=world.store,
        progress=Silent(),
    ).lock


def test_a_pinned_wheel_is_resolved_without_its_address(world: World, tmp_path: Path) -> None:
    sha256 = pin(
        world, tmp_path / "gone", url=["https://unreachable.invalid/pinned-2.0+cu118-py3-none-any.whl"]
    )
    (found,) = (package for package in ask(world).runtime if package.name == "pinned")
    assert found.wheel is not None
    assert (found.version, found.wheel.sha256, found.index) == (VERSION, sha256, "")
    assert found.dependencies == ("beta",)


def test_its_address_and_bytes_are_what_is_planned(world: World, tmp_path: Path) -> None:
    sha256 = pin(world, tmp_path / "wheels")
    ask(world)
    (fetch,) = (fetch for fetch in world.plan.fetches() if fetch.sha256 == sha256)
    assert fetch.where == Addresses(urls=((tmp_path / "wheels" / fetch.filename).as_uri(),))


def test_it_is_fetched_from_the_first_address_that_has_it(world: World, tmp_path: Path) -> None:
    sha256 = pin(world, tmp_path / "wheels")
    document = tomllib.loads(world.folder.read_stack_text())
    table = document["python"]["wheel"][0]
    table["url"] = [table["url"][0].replace("/wheels/", "/elsewhere/"), *table["url"]]
    (world.folder.path / STACK_FILE).write_text(toml_text(document), encoding="utf-8")
    ask(world)
    world.realiser().fetch()
    (fetch,) = (fetch for fetch in world.plan.fetches() if fetch.sha256 == sha256)
    assert world.store.check(fetch.path).sha256 == sha256


def test_other_bytes_are_refused_with_both_hashes(world: World, tmp_path: Path) -> None:
    sha256 = pin(world, tmp_path / "wheels", sha256="0" * 64)
    ask(world)
    with pytest.raises(FetchError) as caught:
        world.realiser().fetch()
    said = "\n".join(caught.value.details)
    assert sha256 in said
    assert "0" * 64 in said
    assert "`lockbuild resolve --repin pinned`" in str(caught.value.hint)


def test_a_pinned_wheel_that_does_not_fit_the_target_is_refused(world: World, tmp_path: Path) -> None:
    name = "pinned-2.0+cu118-cp38-cp38-linux_x86_64.whl"
    pin(world, tmp_path / "wheels", filename=name)
    with pytest.raises(ResolveError) as caught:
        ask(world)
    assert name in caught.value.details[0]


def test_a_pinned_wheel_that_nothing_requires_is_refused(world: World, tmp_path: Path) -> None:
    pin(world, tmp_path / "wheels")
    document = tomllib.loads(world.folder.read_stack_text())
    document["python"]["requires"].pop()
    (world.folder.path / STACK_FILE).write_text(toml_text(document), encoding="utf-8")
    with pytest.raises(ResolveError) as caught:
        ask(world)
    assert "nothing requires it" in caught.value.details[0]


def test_a_build_may_need_a_pinned_wheel(world: World, tmp_path: Path) -> None:
    sha256 = pin(world, tmp_path / "wheels")
    document = tomllib.loads(world.folder.read_stack_text())
    document["build"][0]["needs"] = [*document["build"][0].get("needs", []), "pinned"]
    (world.folder.path / STACK_FILE).write_text(toml_text(document), encoding="utf-8")
    environment = document["build"][0].get("environment", "")
    found = {package.name: package.wheel for package in ask(world).build_environment(environment)}
    wheel = found["pinned"]
    assert wheel is not None
    assert wheel.sha256 == sha256


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"sha256": "4adf"}, '`python.wheel[pinned].sha256`: found "4adf", expected a sha256'),
        ({"version": "3.0"}, "expected `name` and `version` of the wheel"),
        ({"url": ["https://example.invalid/x"]}, "a wheel's name, or `filename`"),
        ({"url": []}, "`python.wheel[pinned].url`: found [], expected at least one entry"),
    ],
)
def test_a_wrong_pin_is_a_fault_of_the_stack_file(
    world: World, tmp_path: Path, change: dict[str, Any], said: str
) -> None:
    pin(world, tmp_path / "wheels", **change)
    with pytest.raises(StackError) as caught:
        parse_stack_text(world.folder.read_stack_text(), file=STACK_FILE)
    assert any(said in line for line in caught.value.details), caught.value.details


def test_the_lock_reads_back_as_it_was_written(world: World, tmp_path: Path) -> None:
    pin(world, tmp_path / "wheels")
    lock = ask(world)
    assert replace(world.lock, digest=lock.digest) == lock
