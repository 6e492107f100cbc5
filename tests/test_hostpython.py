"""A machine's Python as an archive: of the one that runs the tests, and of made-up prefixes."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tarfile
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from lockbuild.builders.standalone import archive_faults
from lockbuild.digest import sha256_of
from lockbuild.errors import FetchError
from lockbuild.hostpython import HostPython, ask_python, pack_python
from tests.elves import make_elf
from tests.needs import missing

if TYPE_CHECKING:
    from collections.abc import Callable

COMMAND = f"python{sys.version_info.major}.{sys.version_info.minor}"
OWN = "libpython3.12.so.1.0"
PROGRAM = make_elf(needed=(OWN, "libc.so.6"), run_path="/home/you/python/lib", versions=("GLIBC_2.35",))


@pytest.fixture
def running() -> HostPython:
    """The Python that runs the tests."""
    if sys.base_prefix == "/usr":
        missing(
            "the tests run on a distribution's Python: `make test PYTHON=…` with one in a folder of its own"
        )
    return ask_python(str(Path(sys.base_prefix, "bin", COMMAND)))


@pytest.fixture
def prefix(tmp_path: Path) -> HostPython:
    """A made-up Python 3.12 in a prefix, with what a real one has beside what it needs."""
    root = tmp_path / "prefix"
    files = {
        "bin/python3.12": PROGRAM,
        "bin/pip": b"#!/bin/sh\n",
        "include/python3.12/Python.h": b"",
        "include/python3.12/pyconfig.h": b"",
        "include/python3.12/internal/core.h": b"",
        "include/zlib.h": b"",
        f"lib/{OWN}": make_elf(needed=("libm.so.6",), versions=("GLIBC_2.36",)),
        "lib/libssl.so.3": make_elf(needed=("libcrypto.so.3",)),
        "lib/libcrypto.so.3": make_elf(),
        "lib/libother.so.1": make_elf(),
        "lib/python3.12/os.py": b"",
        "lib/python3.12/EXTERNALLY-MANAGED": b"",
        "lib/python3.12/json/__init__.py": b"",
        "lib/python3.12/json/__pycache__/__init__.cpython-312.pyc": b"",
        "lib/python3.12/test/test_os.py": b"",
        "lib/python3.12/tkinter/__init__.py": b"",
        "lib/python3.12/site-packages/pip/__init__.py": b"",
        "lib/python3.12/lib-dynload/_ssl.so": make_elf(
            needed=("libssl.so.3",), run_path="$ORIGIN/../.."
        ),
        "lib/python3.12/lib-dynload/_tkinter.so": make_elf(needed=("libother.so.1",)),
        "lib/python3.12/config-3.12-x86_64-linux-gnu/Makefile": f"prefix={root}\nLIB={root}/lib\n".encode(),
        "lib/python3.12/config-3.12-x86_64-linux-gnu/libpython3.12.a": b"",
        "lib/python3.12/_sysconfigdata__linux_.py": f"x = '{root}/lib {root}-other /built/lib'\n".encode(),
    }
    for name, content in files.items():
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_bytes(content)
    (root / "bin/python3.12").chmod(0o755)
    (root / "lib/libpython3.12.so").symlink_to(OWN)
    return HostPython(
        command="python3.12",
        version="3.12.1",
        machine="x86_64",
        prefix=root,
        configured="/built",
        library=root / "lib/python3.12",
        headers=root / "include/python3.12",
    )


def packed(python: HostPython, folder: Path) -> dict[str, tarfile.TarInfo]:
    """Return the members of the archive of *python*, which lies in *folder* then."""
    pack_python(python, folder / python.filename)
    with tarfile.open(folder / python.filename) as tar:
        return {member.name: member for member in tar}


def text(python: HostPython, folder: Path, name: str) -> str:
    with tarfile.open(folder / python.filename) as tar:
        file = tar.extractfile(name)
        assert file is not None
        return file.read().decode("utf-8", "surrogateescape")


# ---- the Python that runs the tests ------------------------------------------------------------------


def test_python_says_what_it_is(running: HostPython) -> None:
    assert running.minor == f"{sys.version_info.major}.{sys.version_info.minor}"
    assert running.prefix == Path(sys.base_prefix)
    assert (running.headers / "Python.h").is_file()


def test_virtual_environment_leads_to_the_python_below_it(
    running: HostPython, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    subprocess.run([sys.executable, "-m", "venv", "--without-pip", tmp_path / "venv"], check=True)
    monkeypatch.setenv("PATH", str(tmp_path / "venv/bin"))
    assert replace(ask_python(COMMAND), command=running.command) == running


def test_archive_is_an_interpreter_that_runs_elsewhere(running: HostPython, tmp_path: Path) -> None:
    found = pack_python(running, tmp_path / running.filename)
    assert archive_faults(tmp_path / running.filename) == ()
    assert found.sha256 == sha256_of((tmp_path / running.filename).read_bytes())
    with tarfile.open(tmp_path / running.filename) as tar:
        tar.extractall(tmp_path, filter="tar")
    program = (
        "import ctypes, json, sys, sysconfig, zlib; "
        "maps = [line.split()[-1] for line in open('/proc/self/maps') if 'libpython' in line]; "
        "print(json.dumps([sys.prefix, sysconfig.get_path('include'), json.__file__, sorted(set(maps))]))"
    )
    ran = subprocess.run(
        [tmp_path / "python/bin/python3", "-I", "-B", "-c", program],
        capture_output=True,
        text=True,
        check=True,
        env={},
    )
    prefix, include, module, libraries = json.loads(ran.stdout)
    assert prefix == str(tmp_path / "python")
    assert Path(include, "Python.h").is_file()
    assert [path for path in (include, module, *libraries) if not path.startswith(prefix)] == []


def test_same_python_gives_the_same_bytes(running: HostPython, tmp_path: Path) -> None:
    assert pack_python(running, tmp_path / "one.tar") == pack_python(running, tmp_path / "two.tar")


# ---- what is taken, and what is not --------------------------------------------------------------------


def test_only_what_an_interpreter_needs_is_taken(prefix: HostPython, tmp_path: Path) -> None:
    assert sorted(packed(prefix, tmp_path)) == [
        "python/bin/python",
        "python/bin/python3",
        "python/bin/python3.12",
        "python/include/python3.12/Python.h",
        "python/include/python3.12/internal/core.h",
        "python/include/python3.12/pyconfig.h",
        "python/lib/libcrypto.so.3",
        "python/lib/libpython3.12.so",
        f"python/lib/{OWN}",
        "python/lib/libssl.so.3",
        "python/lib/python3.12/_sysconfigdata__linux_.py",
        "python/lib/python3.12/config-3.12-x86_64-linux-gnu/Makefile",
        "python/lib/python3.12/json/__init__.py",
        "python/lib/python3.12/lib-dynload/_ssl.so",
        "python/lib/python3.12/os.py",
    ]


def test_archive_says_nothing_of_owner_and_time(prefix: HostPython, tmp_path: Path) -> None:
    found = packed(prefix, tmp_path).values()
    assert {(m.uid, m.gid, m.uname, m.gname, m.mtime) for m in found} == {(0, 0, "", "", 315532800)}
    assert {m.mode for m in found if m.isreg()} == {0o644, 0o755}


def test_texts_name_the_folder_that_it_goes_to(prefix: HostPython, tmp_path: Path) -> None:
    pack_python(prefix, tmp_path / prefix.filename)
    library = "python/lib/python3.12"
    makefile = text(prefix, tmp_path, f"{library}/config-3.12-x86_64-linux-gnu/Makefile")
    assert makefile == "prefix=/opt/python\nLIB=/opt/python/lib\n"
    data = text(prefix, tmp_path, f"{library}/_sysconfigdata__linux_.py")
    assert data == f"x = '/opt/python/lib {prefix.prefix}-other /opt/python/lib'\n"


def test_c_library_is_the_latest_that_any_file_needs(prefix: HostPython, tmp_path: Path) -> None:
    assert pack_python(prefix, tmp_path / prefix.filename).glibc == "2.36"


def test_latest_c_library_is_told_by_number(prefix: HostPython, tmp_path: Path) -> None:
    versions = ("GLIBC_2.9", "GLIBC_2.40", "GLIBC_2.2.5", "GLIBC_PRIVATE", "OPENSSL_3.0.0")
    (prefix.prefix / f"lib/{OWN}").write_bytes(make_elf(versions=versions))
    assert pack_python(prefix, tmp_path / prefix.filename).glibc == "2.40"


def test_a_damaged_library_is_taken_as_it_is(prefix: HostPython, tmp_path: Path) -> None:
    (prefix.prefix / f"lib/{OWN}").write_bytes(b"\x7fELF of another kind")
    assert pack_python(prefix, tmp_path / prefix.filename).glibc == "2.35"


def test_a_changed_file_is_another_archive(prefix: HostPython, tmp_path: Path) -> None:
    before = pack_python(prefix, tmp_path / "before.tar")
    (prefix.library / "os.py").write_text("import sys\n")
    assert pack_python(prefix, tmp_path / "after.tar").sha256 != before.sha256


# ---- where the program looks for its library -----------------------------------------------------------


@pytest.mark.parametrize(
    ("before", "after"),
    [
        ("/home/you/python/lib", "$ORIGIN/../lib"),
        ("/usr/local/lib", "$ORIGIN/../lib"),
        ("$ORIGIN/../lib", "$ORIGIN/../lib"),
        ("/nowhere:${ORIGIN}/../lib/", "/nowhere:${ORIGIN}/../lib/"),
    ],
)
def test_program_finds_its_library_beside_itself(
    prefix: HostPython, tmp_path: Path, before: str, after: str
) -> None:
    program = make_elf(needed=(OWN,), run_path=before)
    (prefix.prefix / "bin/python3.12").write_bytes(program)
    pack_python(prefix, tmp_path / prefix.filename)
    found = text(prefix, tmp_path, "python/bin/python3.12").encode("utf-8", "surrogateescape")
    assert found == program.replace(before.encode(), after.encode().ljust(len(before), b"\0"))


@pytest.mark.parametrize(
    ("run_path", "found"),
    [("/opt/py/lib", "looks for it in `/opt/py/lib` alone"), (None, "is not told where")],
)
def test_program_without_room_for_that_is_refused(
    prefix: HostPython, tmp_path: Path, run_path: str | None, found: str
) -> None:
    (prefix.prefix / "bin/python3.12").write_bytes(make_elf(needed=(OWN,), run_path=run_path))
    with pytest.raises(FetchError, match=found) as caught:
        pack_python(prefix, tmp_path / prefix.filename)
    assert "patchelf --set-rpath '$ORIGIN/../lib'" in (caught.value.hint or "")


def test_program_that_has_python_in_itself_stays_as_it_is(prefix: HostPython, tmp_path: Path) -> None:
    program = make_elf(needed=("libc.so.6",))
    (prefix.prefix / "bin/python3.12").write_bytes(program)
    pack_python(prefix, tmp_path / prefix.filename)
    assert text(prefix, tmp_path, "python/bin/python3.12").encode("utf-8", "surrogateescape") == program


# ---- refused -------------------------------------------------------------------------------------------


def test_absent_command_may_be_elsewhere() -> None:
    with pytest.raises(FetchError, match="`python9.9` is not on this machine's PATH") as caught:
        ask_python("python9.9")
    assert caught.value.unreachable


@pytest.fixture
def saying(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[..., str]:
    """Return a function that puts a command on PATH which says of itself what it is told to."""

    def make(text: str | None = None, *, code: int = 0, **facts: object) -> str:
        told = {
            "implementation": "CPython",
            "version": "3.12.1",
            "machine": "x86_64",
            "prefix": "/opt/one",
            "configured": "/opt/one",
            "library": "/opt/one/lib/python3.12",
            "headers": "/opt/one/include/python3.12",
            "abi": [],
            "distribution": False,
        } | facts
        program = tmp_path / "bin/pythonx"
        program.parent.mkdir()
        said = json.dumps(told) if text is None else text
        program.write_text(f"#!/bin/sh\necho '{said}' >&{2 if code else 1}\nexit {code}\n")
        program.chmod(0o755)
        monkeypatch.setenv("PATH", str(program.parent), prepend=os.pathsep)
        return program.name

    return make


def test_command_that_is_no_python_is_refused_with_what_it_said(saying: Callable[..., str]) -> None:
    with pytest.raises(FetchError, match="`pythonx` is no Python that runs$") as caught:
        ask_python(saying("it is broken", code=1))
    assert (caught.value.details, caught.value.unreachable) == (("it is broken",), False)


def test_shim_that_finds_no_such_python_is_an_absent_command(saying: Callable[..., str]) -> None:
    with pytest.raises(FetchError, match="`pythonx` is not on this machine's PATH") as caught:
        ask_python(saying("pyenv: pythonx: command not found", code=127))
    assert caught.value.unreachable
    assert caught.value.details == ("pyenv: pythonx: command not found",)


def test_command_that_cannot_be_started_is_refused(tmp_path: Path) -> None:
    (tmp_path / "python").write_bytes(b"\x7fELF of another machine")
    (tmp_path / "python").chmod(0o755)
    with pytest.raises(FetchError, match="cannot be started"):
        ask_python(str(tmp_path / "python"))


@pytest.mark.parametrize(
    ("facts", "found"),
    [
        ({"implementation": "PyPy"}, "is PyPy; wheels are for CPython"),
        ({"abi": ["Py_DEBUG"]}, "is CPython Py_DEBUG; "),
        ({"distribution": True, "prefix": "/usr"}, "which is spread over `/usr`"),
    ],
)
def test_python_that_cannot_be_taken_along_is_refused(
    saying: Callable[..., str], facts: dict[str, object], found: str
) -> None:
    with pytest.raises(FetchError, match=found) as caught:
        ask_python(saying(**facts))
    assert not caught.value.unreachable


def test_distribution_s_python_has_a_kind_of_its_own(saying: Callable[..., str]) -> None:
    with pytest.raises(FetchError) as caught:
        ask_python(saying(distribution=True))
    assert "`interpreter.apt`" in (caught.value.hint or "")


@pytest.mark.parametrize(
    ("absent", "found"),
    [
        ("bin/python3.12", "has no `bin/python3.12`"),
        ("include/python3.12/Python.h", "has no headers"),
        ("include/python3.12/pyconfig.h", "has no headers"),
    ],
)
def test_python_that_lacks_a_part_is_refused(
    prefix: HostPython, tmp_path: Path, absent: str, found: str
) -> None:
    (prefix.prefix / absent).unlink()
    with pytest.raises(FetchError, match=found):
        pack_python(prefix, tmp_path / prefix.filename)


def test_library_in_another_place_is_refused(prefix: HostPython, tmp_path: Path) -> None:
    elsewhere = replace(prefix, library=prefix.prefix / "lib64/python3.12")
    with pytest.raises(FetchError, match="has its library in `.*lib64/python3.12`, not in "):
        pack_python(elsewhere, tmp_path / prefix.filename)
