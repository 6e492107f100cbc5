"""What an audit says of virtual environments: nothing of one of the lock, and each thing that was changed in it."""

from __future__ import annotations

import base64
import dataclasses
import hashlib
import os
import platform
import py_compile
import subprocess
import sys
import venv as python_venv
from datetime import date
from types import SimpleNamespace
from typing import TYPE_CHECKING

import pytest
from uv import find_uv_bin

from lockbuild.audit import Subject, audit
from lockbuild.packing import make_manifest, object_file
from tests.audited import SITE, audited_world, installed, made_venv
from tests.wheels import make_wheel

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping
    from pathlib import Path

    from lockbuild.findings import About, Report
    from tests.worlds import World

AGAINST: tuple[About, ...] = ("venv",)
HERE = SITE.removeprefix("opt/venv/")
PIP = {"pip/__init__.py": b""}


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> Iterator[World]:
    with audited_world(tmp_path_factory.mktemp("world")) as made:
        yield made


@pytest.fixture
def venv(world: World, tmp_path: Path) -> Path:
    return made_venv(world, tmp_path / "venv")


def report(world: World, venv: Path) -> Report:
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
    return audit(subject, AGAINST)


def found(world: World, venv: Path) -> list[str]:
    findings = report(world, venv).findings
    return [f"{one.check}: {one.subject}: {one.message}" for one in findings]


def put(
    venv: Path, name: str, version: str, files: Mapping[str, bytes] | None = None, points: bytes = b""
) -> None:
    """Install a further wheel by hand."""
    info = {"entry_points.txt": points} if points else {}
    wheel = make_wheel(venv.parent / "wheels", name, version, files=files, dist_info=info)
    for member in installed(wheel):
        file = venv / member.name.removeprefix("opt/venv/")
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_bytes(member.content or b"")


def test_an_environment_of_the_lock_gives_no_finding(world: World, venv: Path) -> None:
    assert found(world, venv) == []


def test_what_makes_environments_puts_in_is_no_finding(world: World, venv: Path) -> None:
    put(venv, "pip", "25.0", PIP)
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


# ---- files that run at every start ------------------------------------------------------------------


@pytest.mark.parametrize(
    ("name", "text"),
    [("_virtualenv.pth", "import os; os.system('evil')"), ("_virtualenv.py", "import evil")],
)
def test_venv_extra__a_hook_of_virtualenv_s_with_other_content(
    world: World, venv: Path, name: str, text: str
) -> None:
    (venv / HERE / name).write_text(text)
    said = f"venv-extra: {name}: is none that virtualenv or uv is known to write"
    assert found(world, venv) == [said]


@pytest.mark.parametrize(
    "row", ["{0},,", "{0},sha256=2jmj7l5rSw0yVb_vlWAYkK_YBwk,9", "{0},sha256={1},{2}"]
)
@pytest.mark.parametrize(
    "name", ["evil.pth", "sitecustomize.py", "usercustomize/__init__.py", "brotli.py"]
)
def test_venv_extra__that_the_list_of_a_seed_names(
    world: World, venv: Path, name: str, row: str
) -> None:
    put(venv, "pip", "25.0", PIP)
    data = b"import os"
    file, record = venv / HERE / name, venv / HERE / "pip-25.0.dist-info/RECORD"
    file.parent.mkdir(exist_ok=True)
    file.write_bytes(data)
    digest = base64.urlsafe_b64encode(hashlib.sha256(data).digest()).decode().rstrip("=")
    record.write_text(f"{record.read_text()}{row.format(name, digest, len(data))}\n")
    said = f"venv-extra: {name}: is in the environment, and of no locked package"
    assert said in found(world, venv)


def test_venv_extra__a_file_of_a_seed_without_a_hash(world: World, venv: Path) -> None:
    put(venv, "pip", "25.0", PIP)
    (venv / HERE / "pip/more.py").write_text("import os")
    record = venv / HERE / "pip-25.0.dist-info/RECORD"
    record.write_text(f"{record.read_text()}pip/more.py,,\n")
    assert found(world, venv) == [
        "venv-extra: pip/more.py: is in the environment, and of no locked package"
    ]


def test_venv_extra__that_the_list_of_a_package_nobody_locked_names(world: World, venv: Path) -> None:
    put(venv, "requests", "2.0", {"requests.py": b"", "evil.pth": b"import os"})
    assert [line.rpartition(": ")[0] for line in found(world, venv)] == [
        "venv-packages: requests",
        "venv-extra: evil.pth",
    ]


def test_venv_files__of_a_seed(world: World, venv: Path) -> None:
    name = "distutils-precedence.pth"
    put(venv, "setuptools", "80.0", {"setuptools/__init__.py": b"", name: b"import os"})
    assert found(world, venv) == []
    (venv / HERE / name).write_text("import evil")
    (line,) = found(world, venv)
    assert line.startswith(f"venv-files: {name}: of setuptools 80.0: found sha256 ")


def test_venv_extra__that_only_a_package_s_own_list_names(world: World, venv: Path) -> None:
    (venv / HERE / "evil.pth").write_bytes(b"import os")
    digest = base64.urlsafe_b64encode(hashlib.sha256(b"import os").digest()).decode().rstrip("=")
    record = venv / HERE / "beta-0.9.dist-info/RECORD"
    record.write_text(f"{record.read_text()}evil.pth,sha256={digest},9\n")
    place = world.store.root / "records" / f"{world.fetched('beta-0.9-py3-none-any.whl')}.json"
    text = place.read_text()
    place.unlink()
    try:
        (line,) = found(world, venv)
    finally:
        place.write_text(text)
    assert line.startswith("venv-extra: evil.pth: is in the environment, and of no locked package")
    assert line.endswith("it lacks that of beta")


def test_an_empty_mark_of_virtualenv_s_is_no_finding(world: World, venv: Path) -> None:
    put(venv, "pip", "25.0", PIP)
    mark = venv / HERE / "pip-25.0.virtualenv"
    mark.touch()
    assert found(world, venv) == []
    mark.write_text("more")
    assert [line.partition(": ")[0] for line in found(world, venv)] == ["venv-extra"]


def test_venv_extra__a_link_to_a_folder(world: World, venv: Path, tmp_path: Path) -> None:
    (tmp_path / "elsewhere").mkdir()
    (tmp_path / "elsewhere/__init__.py").write_text("import os")
    (venv / HERE / "evil").symlink_to(tmp_path / "elsewhere")
    assert found(world, venv) == ["venv-extra: evil: is in the environment, and of no locked package"]


def test_venv_extra__a_package_s_folder_that_lies_elsewhere(
    world: World, venv: Path, tmp_path: Path
) -> None:
    (venv / HERE / "gamma").rename(tmp_path / "gamma")
    (venv / HERE / "gamma").symlink_to(tmp_path / "gamma")
    assert found(world, venv) == ["venv-extra: gamma: is in the environment, and of no locked package"]


def test_venv_extra__a_second_folder_of_packages(world: World, venv: Path) -> None:
    (venv / "lib64").symlink_to("lib")
    assert found(world, venv) == []
    (venv / "lib64").unlink()
    (venv / "lib64").mkdir()
    assert found(world, venv) == [
        "venv-extra: lib64: is no link to `lib`: some Pythons look for packages there, too"
    ]


# ---- bytecode --------------------------------------------------------------------------------------

EVIL = "import os"
MODE = py_compile.PycInvalidationMode
own_python = pytest.mark.skipif(sys.version_info[:2] != (3, 11), reason="the stack's Python is 3.11")


def compiled(venv: Path, text: str, mode: py_compile.PycInvalidationMode) -> None:
    """Write bytecode of *text* for `beta.py` whose stamp fits that module."""
    module, file = venv / HERE / "beta.py", venv / HERE / "__pycache__/beta.cpython-311.pyc"
    other = venv.parent / "other.py"
    other.write_text(text)
    py_compile.compile(str(module), cfile=str(file), doraise=True, invalidation_mode=mode)
    stamp = file.read_bytes()[:16]
    py_compile.compile(str(other), cfile=str(file), doraise=True, invalidation_mode=mode)
    file.write_bytes(stamp + file.read_bytes()[16:])


@own_python
@pytest.mark.parametrize("mode", [MODE.TIMESTAMP, MODE.CHECKED_HASH])
def test_venv_bytecode__of_another_module_whose_stamp_fits(
    world: World, venv: Path, mode: py_compile.PycInvalidationMode
) -> None:
    compiled(venv, (venv / HERE / "beta.py").read_text(), mode)
    assert found(world, venv) == []
    compiled(venv, EVIL, mode)
    assert found(world, venv) == [
        "venv-bytecode: __pycache__/beta.cpython-311.pyc: is not what its module compiles to"
    ]


@own_python
@pytest.mark.parametrize(
    ("version", "level"), [(platform.python_version(), "error"), ("3.11.99", "warning")]
)
def test_venv_bytecode__of_other_instructions(
    world: World, venv: Path, version: str, level: str
) -> None:
    # Releases of one Python may compile a module to other instructions.
    put(venv, "pip", "25.0", {"pip/__init__.py": b"x = y < 1"})
    (venv / "pyvenv.cfg").write_text(f"version = {version}\n")
    (venv.parent / "other.py").write_text("x = y > 1")
    file = venv / HERE / "pip/__pycache__/__init__.cpython-311.pyc"
    py_compile.compile(str(venv.parent / "other.py"), cfile=str(file), doraise=True)
    (finding,) = report(world, venv).findings
    assert (finding.check, finding.level) == ("venv-bytecode", level)


def test_venv_bytecode__that_python_runs_unseen(world: World, venv: Path) -> None:
    compiled(venv, (venv / HERE / "beta.py").read_text(), MODE.UNCHECKED_HASH)
    (line,) = found(world, venv)
    assert line.endswith("is run whatever its module says: its stamp asks Python not to look")


def test_bytecode_of_another_python_s_is_not_checked(world: World, venv: Path) -> None:
    stack = world.stack
    target = dataclasses.replace(stack.target, python="3.99")
    other = SimpleNamespace(
        **{name: getattr(world, name) for name in ("lock", "plan", "store", "folder")},
        stack=dataclasses.replace(stack, target=target),
    )
    (venv / HERE).parent.rename(venv / "lib/python3.99")
    file = venv / "lib/python3.99/site-packages/__pycache__/beta.cpython-399.pyc"
    file.write_bytes(b"\0\0\r\n" + bytes(40))
    skipped = dict(report(other, venv).skipped)  # type: ignore[arg-type]
    assert "runs on Python 3.99 can compare 1 file" in skipped["venv-bytecode"]


# ---- programs --------------------------------------------------------------------------------------

POINTS = b"[console_scripts]\nwheel = wheel._commands:main\n"
SCRIPT = """\
#!{python}
# -*- coding: utf-8 -*-
import re
import sys
from wheel._commands import main
if __name__ == '__main__':
    sys.argv[0] = re.sub(r'(-script\\.pyw|\\.exe)?$', '', sys.argv[0])
    sys.exit(main())
"""


@pytest.mark.parametrize("name", ["wheel", "wheel3", "wheel-3.11"])
def test_a_console_script_is_no_finding(world: World, venv: Path, name: str) -> None:
    put(venv, "wheel", "0.45", {"wheel/__init__.py": b""}, POINTS)
    (venv / "bin").mkdir()
    (venv / "bin" / name).write_text(SCRIPT.format(python=venv / "bin/python"))
    (venv / "bin/activate").write_text("# activates")
    assert found(world, venv) == []


@pytest.mark.parametrize(
    ("before", "after", "said"),
    [
        ("import re\n", "import re, evil\n", "is not what installers make of its package"),
        ("wheel._commands", "evil", "is not what installers make of its package"),
        (
            "{python}",
            "/tmp/python",
            "is run by another program than the environment's Python: /tmp/python",
        ),
    ],
)
def test_venv_programs__an_edited_console_script(
    world: World, venv: Path, before: str, after: str, said: str
) -> None:
    put(venv, "wheel", "0.45", {"wheel/__init__.py": b""}, POINTS)
    (venv / "bin").mkdir()
    script = SCRIPT.replace(before, after).format(python=venv / "bin/python")
    (venv / "bin/wheel").write_text(script)
    assert found(world, venv) == [f"venv-programs: bin/wheel: {said}"]


@pytest.mark.parametrize("name", ["evil", "json.py", "json/__init__.py", "pyvenv.cfg"])
def test_venv_programs__of_nobody(world: World, venv: Path, name: str) -> None:
    (venv / "bin" / name).parent.mkdir(parents=True)
    (venv / "bin" / name).write_text("import os")
    assert found(world, venv) == [
        f"venv-programs: bin/{name}: is in the environment, and of no locked package"
    ]


def test_venv_programs__another_python(world: World, venv: Path, tmp_path: Path) -> None:
    (tmp_path / "home").mkdir()
    (tmp_path / "home/python3").write_bytes(b"python")
    (tmp_path / "evil").write_bytes(b"evil")
    (venv / "pyvenv.cfg").write_text(f"home = {tmp_path}/home\nversion = 3.11.2\n")
    (venv / "bin").mkdir()
    (venv / "bin/python").symlink_to(tmp_path / "home/python3")
    (venv / "bin/python3").write_bytes(b"python")
    assert found(world, venv) == []
    (venv / "bin/python3.11").symlink_to(tmp_path / "evil")
    (line,) = found(world, venv)
    assert line.startswith("venv-programs: bin/python3.11: is not the Python that `pyvenv.cfg` names")


# ---- real environments -----------------------------------------------------------------------------


@own_python
@pytest.mark.parametrize("maker", ["venv", "uv"])
def test_an_environment_that_its_maker_made_gives_no_finding(
    world: World, tmp_path: Path, maker: str
) -> None:
    folder = tmp_path / "real"
    uv = find_uv_bin()
    if maker == "venv":
        python_venv.create(folder, with_pip=True, symlinks=True)
        install = [str(folder / "bin/python"), "-m", "pip", "install", "-q", "--no-deps", "--no-index"]
    else:
        subprocess.run([uv, "venv", "-q", "-p", sys.executable, folder], check=True)
        install = [uv, "pip", "install", "-q", "--no-deps", "--no-index", "--no-cache"]
        install += ["--compile-bytecode", "-p", str(folder)]
    manifest = make_manifest(world.stack, world.lock, world.plan, world.store)
    for entry in manifest.wheels:
        (tmp_path / entry.filename).write_bytes(object_file(world.store, entry).read_bytes())
    files = [str(tmp_path / entry.filename) for entry in manifest.wheels]
    environment = {**os.environ, "PIP_CONFIG_FILE": os.devnull, "PIP_NO_CACHE_DIR": "1"}
    subprocess.run([*install, *files], check=True, env=environment)
    assert found(world, folder) == []
