"""Open parts on the command line: each command goes on as far as it can, and says what waits for what."""

from __future__ import annotations

import tomllib
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

import pytest

from lockbuild.documents import toml_text
from lockbuild.folders import STACK_FILE
from tests.test_cli import builder, run, world  # noqa: F401 - fixtures
from tests.values import stack_document
from tests.wheels import make_wheel

if TYPE_CHECKING:
    from pathlib import Path

    from tests.test_cli import Run
    from tests.worlds import World

URL = "https://code.invalid/gamma"


def declare(world: World, **changes: object) -> None:
    document = tomllib.loads(world.folder.read_stack_text()) | changes
    (world.folder.path / STACK_FILE).write_text(toml_text(document), encoding="utf-8")


@pytest.fixture
def open_apt(run: Run, world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    """The small stack with another toolchain, whose archive is out of reach."""
    declare(world, apt={"toolchain": ["g++", "ninja-build"]})
    monkeypatch.setenv("LOCKBUILD_ARCHIVE_DEBIAN", "http://127.0.0.1:9/debian")
    assert run("resolve", "small").code == 4


@pytest.fixture
def open_gamma(run: Run, world: World) -> None:
    """The small stack with gamma from a repository that is gone, and delta without it."""
    gamma, delta = stack_document()["build"]
    gamma["source"] = {"git": URL, "commit": "1" * 40}
    declare(world, build=[gamma, {**delta, "needs": []}])
    assert run("resolve", "small").code == 4


def test_resolve_tells_what_is_open_and_what_was_tried(
    run: Run, world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    declare(world, apt={"toolchain": ["ninja-build"]})
    monkeypatch.setenv("LOCKBUILD_ARCHIVE_DEBIAN", "http://127.0.0.1:9/debian")
    ended = run("resolve", "small")
    assert ended.code == 4
    assert "the lock is written, but 1 of its parts is open" in ended.err
    assert "apt bookworm  no archive of `debian` gives the suite `bookworm`" in ended.err
    assert "Could not connect to 127.0.0.1:9" in ended.err
    assert "127.0.0.1" not in "".join(world.folder.read_lock_texts().values())


def test_resolve_says_what_keeps_its_pins(
    run: Run, world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    before = world.lock.debs
    monkeypatch.setenv("LOCKBUILD_ARCHIVE_DEBIAN", "http://127.0.0.1:9/debian")
    ended = run("resolve", "small", "--upgrade", "--json")
    assert ended.code == 0
    assert [part["name"] for part in ended.json["kept"]] == ["bookworm"]
    assert (world.lock.debs, world.lock.open) == (before, ())
    assert "keeps its former pins: apt bookworm" in run("resolve", "small", "--upgrade").err


@pytest.mark.usefixtures("open_apt")
def test_fetch_brings_all_but_what_is_open(run: Run, world: World) -> None:
    ended = run("fetch", "small", "--json")
    assert ended.code == 0
    assert [part["kind"] for part in ended.json["open"]] == ["apt"]
    names = {path.partition("-")[2] for path in ended.json["fetched"]}
    assert {"gamma-2.0.tar.gz", "setuptools-80.0-py3-none-any.whl"} <= names
    assert len(world.store.paths()) == len(ended.json["fetched"]) == 6


@pytest.mark.usefixtures("open_apt")
@pytest.mark.parametrize("words", [("build",), ("build", "gamma"), ("build", "runtime"), ("check",)])
def test_what_needs_the_archive_waits(run: Run, words: tuple[str, ...]) -> None:
    ended = run(words[0], "small", *words[1:])
    assert ended.code == 4
    assert "waits for apt bookworm" in ended.err
    assert "the lock of `small` is open" in ended.err


@pytest.mark.usefixtures("open_gamma")
def test_build_of_everything_says_what_waits_before_it_begins(run: Run, world: World) -> None:
    ended = run("build", "small")
    assert ended.code == 4
    assert "gamma  waits for source gamma" in ended.err
    assert f"git repository `{URL}` cannot be reached" in ended.err
    assert "delta" not in ended.err
    assert world.store.paths() == ()


@pytest.mark.usefixtures("open_gamma")
def test_build_keeps_going_with_the_rest(run: Run, world: World) -> None:
    ended = run("build", "small", "--keep-going")
    assert ended.code == 4
    assert "the rest is built, but not everything can be" in ended.err
    assert world.store.info(world.built("delta"))


@pytest.mark.usefixtures("open_gamma")
def test_build_of_another_package_waits_for_nothing(run: Run, world: World) -> None:
    assert run("build", "small", "delta").code == 0
    assert world.store.info(world.built("delta"))


@pytest.mark.usefixtures("open_gamma")
def test_dry_run_says_what_waits(run: Run) -> None:
    assert "wait gamma: source gamma" in run("build", "small", "--dry-run").out
    assert run("build", "small", "--dry-run", "--json").json["blocked"] == {"gamma": ["source gamma"]}


@pytest.mark.usefixtures("open_gamma")
def test_no_image_and_an_error_of_the_audit(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("lockbuild.image.engine.find_engine", lambda: None)
    assert "no image can be made of: source gamma" in run("image", "small").err
    monkeypatch.undo()


@pytest.mark.usefixtures("open_gamma")
def test_audit_names_it(run: Run) -> None:
    ended = run("audit", "small")
    assert ended.code == 9
    assert f"open: source gamma: git repository `{URL}`" in ended.out


@pytest.mark.usefixtures("open_gamma")
def test_doctor_names_it(run: Run) -> None:
    ended = run("doctor", "small", "--json")
    (lock,) = (one for one in ended.json if one["name"] == "lock")
    assert lock["state"] == "warning"
    assert lock["detail"].startswith("open: source gamma: git repository")


@pytest.mark.usefixtures("open_apt")
def test_audit_does_not_pass_root_file_systems_that_nobody_knows(run: Run) -> None:
    out = run("audit", "small").out
    assert "open: apt bookworm" in out
    assert "not checked  base-pinned" in out


@pytest.mark.usefixtures("open_gamma")
def test_fetch_ends_with_one_table_and_the_open_parts(run: Run, world: World) -> None:
    world.index.faults.status["alpha-1.2-py3-none-any.whl"] = 404
    world.index.faults.flip.add("setuptools-80.0-py3-none-any.whl")
    ended = run("fetch", "small")
    assert ended.code == 5
    lines = [line.split() for line in ended.err.splitlines()]
    assert ["artifact", "host", "reason"] in lines
    host = urlsplit(world.index.url).netloc
    (alpha,) = (line for line in lines if line[:2] == ["alpha-1.2-py3-none-any.whl", host])
    assert alpha[2:4] == ["HTTP", "404"]
    assert any(line[:2] == ["setuptools-80.0-py3-none-any.whl", host] for line in lines)
    assert "not asked for, as the lock is open:" in ended.err
    assert world.store.info(world.fetched("pip-25.0-py3-none-any.whl"))


# ---- wheels without a hash ---------------------------------------------------------------------------


@pytest.fixture
def wheel(world: World, tmp_path: Path) -> Path:
    """Where the wheel of `pinned`, whose hash nobody tells, can be had once it is there."""
    folder = tmp_path / "pinned"
    folder.mkdir()
    file = folder / "pinned-2.0-py3-none-any.whl"
    python = stack_document()["python"] | {
        "index": [{"name": "extra", "url": world.index.url, "only": ["beta"]}],
        "requires": ["alpha>=1", "pinned==2.0"],
        "wheel": [
            {"name": "pinned", "version": "2.0", "url": [file.as_uri()], "sha256": "on-first-fetch"}
        ],
    }
    del python["exclude-newer"]
    declare(world, python=python)
    return file


def test_wheel_that_cannot_be_had_is_open(run: Run, world: World, wheel: Path) -> None:
    ended = run("resolve", "small")
    assert ended.code == 4
    assert f"wheel pinned  {wheel.as_uri()}: there is no file" in ended.err
    (package,) = (one for one in world.lock.runtime if one.name == "pinned")
    assert (package.version, package.wheel) == ("2.0", None)
    assert run("fetch", "small").code == 0
    ended = run("build", "small")
    assert (ended.code, "pinned  waits for wheel pinned" in ended.err) == (4, True)


def test_wheel_is_pinned_by_its_first_fetch(run: Run, world: World, wheel: Path) -> None:
    make_wheel(wheel.parent, "pinned", "2.0")
    assert run("resolve", "small").code == 0
    wheel.unlink()
    assert run("resolve", "small").code == 0
    assert run("fetch", "small").code == 0
    assert "on-first-fetch: pinned: nobody told its hash beforehand" in run("audit", "small").out
    assert world.store.info(world.fetched(wheel.name))


def test_pin_of_a_wheel_holds_until_it_is_forgotten(run: Run, world: World, wheel: Path) -> None:
    def sha256() -> str:
        (package,) = (one for one in world.lock.runtime if one.name == "pinned")
        return package.wheel.sha256 if package.wheel else "open"

    make_wheel(wheel.parent, "pinned", "2.0")
    run("resolve", "small")
    first = sha256()
    make_wheel(wheel.parent, "pinned", "2.0", requires=["beta"])
    run("resolve", "small", "--upgrade")
    assert sha256() == first
    assert run("resolve", "small", "--repin", "pinned").code == 0
    assert sha256() not in (first, "open")


def test_another_wheel_than_the_stack_describes_is_refused(run: Run, wheel: Path) -> None:
    make_wheel(wheel.parent, "other", "2.0").rename(wheel)
    ended = run("resolve", "small")
    assert ended.code == 4
    assert "`python.wheel[pinned]`: found other 2.0, expected pinned 2.0" in ended.err


def test_what_is_no_wheel_is_refused(run: Run, wheel: Path) -> None:
    wheel.write_bytes(b"PK\x03\x04" + b"\0" * 600)
    ended = run("resolve", "small")
    assert ended.code == 4
    assert "`python.wheel[pinned]`: what came is no wheel" in ended.err
