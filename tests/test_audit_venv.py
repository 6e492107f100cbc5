"""What an audit says of virtual environments: nothing of one of the lock, and each thing that was changed in it."""

from __future__ import annotations

import base64
import hashlib
from datetime import date
from typing import TYPE_CHECKING

import pytest

from lockbuild.audit import Subject, audit
from tests.audited import SITE, audited_world, installed, made_venv
from tests.wheels import make_wheel

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from lockbuild.findings import About
    from tests.worlds import World

AGAINST: tuple[About, ...] = ("venv",)
HERE = SITE.removeprefix("opt/venv/")


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> Iterator[World]:
    with audited_world(tmp_path_factory.mktemp("world")) as made:
        yield made


@pytest.fixture
def venv(world: World, tmp_path: Path) -> Path:
    return made_venv(world, tmp_path / "venv")


def found(world: World, venv: Path) -> list[str]:
    subject = Subject(
        stack=world.stack,
        lock=world.lock,
        plan=world.plan,
        store=world.store,
        wheelhouse=world.folder.wheels,
        manifest=None,
        dockerfile=None,
        rendered="",
        image=None,
        venv=venv,
        today=date(2026, 1, 1),
    )
    return [f"{one.check}: {one.subject}: {one.message}" for one in audit(subject, AGAINST).findings]


def put(venv: Path, name: str, version: str) -> None:
    """Install a further wheel by hand."""
    wheel = make_wheel(venv.parent / "wheels", name, version)
    for member in installed(wheel):
        file = venv / member.name.removeprefix("opt/venv/")
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_bytes(member.content or b"")


def test_an_environment_of_the_lock_gives_no_finding(world: World, venv: Path) -> None:
    assert found(world, venv) == []


def test_what_makes_environments_puts_in_is_no_finding(world: World, venv: Path) -> None:
    put(venv, "pip", "25.0")
    (venv / HERE / "_virtualenv.pth").write_text("import _virtualenv")
    assert found(world, venv) == []


@pytest.mark.parametrize(
    ("before", "after", "said"),
    [
        ("3.11.2", "3.12.1", "Python 3.12.1, the stack has 3.11"),
        ("3.11.2", "3.1", "Python 3.1, the stack has 3.11"),
        (
            "version = 3.11.2",
            "version = 3.11.2\ninclude-system-site-packages = true",
            "packages of the system are seen in it, too",
        ),
    ],
    ids=["newer", "older", "of the system"],
)
def test_venv_python__of_another(world: World, venv: Path, before: str, after: str, said: str) -> None:
    file = venv / "pyvenv.cfg"
    file.write_text(file.read_text().replace(before, after))
    assert found(world, venv) == [f"venv-python: pyvenv.cfg: {said}"]


def test_venv_packages__that_nobody_locked(world: World, venv: Path) -> None:
    put(venv, "requests", "2.0")
    assert found(world, venv) == [
        "venv-packages: requests: 2.0 is in the environment, but not in the lock"
    ]


def test_venv_packages__of_another_version(world: World, venv: Path) -> None:
    for file in (venv / HERE / "alpha-1.2.dist-info").iterdir():
        file.unlink()
    put(venv, "alpha", "1.3")
    assert found(world, venv) == ["venv-packages: alpha: the environment has 1.3, the lock 1.2"]


def test_venv_packages__missing(world: World, venv: Path) -> None:
    for file in (*(venv / HERE / "beta-0.9.dist-info").iterdir(), *(venv / HERE).rglob("beta*.py*")):
        file.unlink()
    assert found(world, venv) == ["venv-packages: beta: 0.9 is locked, but not in the environment"]


def test_venv_files__edited_together_with_their_own_list(world: World, venv: Path) -> None:
    file, record = venv / HERE / "gamma/_ext.so", venv / HERE / "gamma-2.0.dist-info/RECORD"
    hashes = (hashlib.sha256(data).digest() for data in (file.read_bytes(), b"evil"))
    digests = [base64.urlsafe_b64encode(digest).decode().rstrip("=") for digest in hashes]
    assert digests[0] in record.read_text()
    record.write_text(record.read_text().replace(digests[0], digests[1]))
    file.write_bytes(b"evil")
    (line,) = found(world, venv)
    assert line.startswith("venv-files: gamma/_ext.so: of gamma 2.0: found sha256 ")


def test_venv_files__missing(world: World, venv: Path) -> None:
    (venv / HERE / "gamma/_ext.so").unlink()
    assert found(world, venv) == ["venv-files: gamma/_ext.so: of gamma 2.0: is missing"]


def test_without_the_wheel_the_environment_s_own_list_is_compared(world: World, venv: Path) -> None:
    place = world.store.root / "records" / f"{world.fetched('beta-0.9-py3-none-any.whl')}.json"
    (venv / HERE / "beta.py").write_bytes(b"evil")
    text = place.read_text()
    place.unlink()
    try:
        (line,) = found(world, venv)
    finally:
        place.write_text(text)
    assert line.startswith("venv-files: beta.py: of beta 0.9: found sha256 ")
    assert "its RECORD has" in line


def test_venv_extra__that_runs_at_every_start(world: World, venv: Path) -> None:
    (venv / HERE / "evil.pth").write_text("import os")
    assert found(world, venv) == [
        "venv-extra: evil.pth: is in the environment, and of no locked package"
    ]


def test_bytecode_without_a_module_is_a_file_too_many(world: World, venv: Path) -> None:
    (venv / HERE / "__pycache__/evil.cpython-311.pyc").write_bytes(b"")
    assert [line.partition(":")[0] for line in found(world, venv)] == ["venv-extra"]
