"""Scripts of an environment are those that installers write: their words, and the environment's own Python."""

from __future__ import annotations

from pathlib import Path

import pytest

from lockbuild.audit.installing import Program, programs
from lockbuild.audit.makers import is_hook, script_fault, starts
from lockbuild.digest import sha256_of
from tests.wheels import make_wheel

FOLDER = Path("/nowhere/env/bin")
FIRST = b"#!/nowhere/env/bin/python\n"
POINT = (Program(calls="tool.cli:Main.run"),)
OTHER = "is not what installers make of its package"


@pytest.mark.parametrize(
    "text",
    [
        # pip 23 and virtualenv, by way of distlib; a later one; installer
        (
            "# -*- coding: utf-8 -*-\nimport re\nimport sys\nfrom tool.cli import Main\nif __name__ == '__main__':\n"
            "    sys.argv[0] = re.sub(r'(-script\\.pyw|\\.exe)?$', '', sys.argv[0])\n    sys.exit(Main.run())\n"
        ),
        (
            "import sys\nfrom tool.cli import Main\nif __name__ == '__main__':\n"
            "    sys.argv[0] = sys.argv[0].removesuffix('.exe')\n    sys.exit(Main.run())\n"
        ),
        (
            '# -*- coding: utf-8 -*-\nimport re\nimport sys\nfrom tool.cli import Main\nif __name__ == "__main__":\n'
            '    sys.argv[0] = re.sub(r"(-script\\.pyw|\\.exe)?$", "", sys.argv[0])\n    sys.exit(Main.run())\n'
        ),
        # uv
        (
            '# -*- coding: utf-8 -*-\nimport sys\nfrom tool.cli import Main\nif __name__ == "__main__":\n'
            '    if sys.argv[0].endswith("-script.pyw"):\n        sys.argv[0] = sys.argv[0][:-11]\n'
            '    elif sys.argv[0].endswith(".exe"):\n        sys.argv[0] = sys.argv[0][:-4]\n    sys.exit(Main.run())\n'
        ),
    ],
    ids=["distlib", "pip", "installer", "uv"],
)
def test_a_script_that_calls_its_entry_point_is_well(text: str) -> None:
    assert script_fault(FIRST + text.encode(), POINT, FOLDER) == ""
    assert script_fault(FIRST + f"{text}import os\n".encode(), POINT, FOLDER) == OTHER
    assert script_fault(FIRST + text.encode(), (Program(calls="other:main"),), FOLDER) == OTHER


SHELL = b"#!/bin/sh\n'''exec' %s \"$0\" \"$@\"\n' '''\n"
BESIDE = b'"$(dirname -- "$(realpath -- "$0")")"/\'python\''


@pytest.mark.parametrize(
    ("first", "well"),
    [
        (b"#!/nowhere/env/bin/python3.11\n", True),
        (b"#!/nowhere/env/bin/../bin/python3\n", True),
        (SHELL % b'"/nowhere/env/bin/python3"', True),
        (SHELL % BESIDE, True),
        (b"#!/nowhere/other/bin/python\n", False),
        (b"#!/usr/bin/env python\n", False),
        (b"#!/nowhere/env/bin/python -c evil\n", False),
        (b"#!/nowhere/env/bin/evil\n", False),
        (SHELL % b"/nowhere/env/bin/$(evil)/../python", False),
        (SHELL % b"/nowhere/env/bin/python; evil", False),
        (b"", False),
    ],
)
def test_a_script_is_run_by_the_python_beside_it(first: bytes, *, well: bool) -> None:
    script = first + b"print(1)\n"
    said = script_fault(script, (Program(script=b"#!python\nprint(1)\n"),), FOLDER)
    assert (said == "") == well


def test_a_program_that_is_no_script_of_python_s_is_as_the_wheel_has_it() -> None:
    wanted = (Program(script=b"\x7fELF"),)
    assert script_fault(b"\x7fELF", wanted, FOLDER) == ""
    assert script_fault(b"\x7fELG", wanted, FOLDER) == OTHER
    assert script_fault(b"#!/bin/sh\necho", wanted, FOLDER).endswith("Python: /bin/sh")


def test_without_the_wheel_a_script_has_the_hash_of_the_list() -> None:
    wanted = (Program(sha256=sha256_of(b"#!/bin/sh\n")),)
    assert script_fault(b"#!/bin/sh\n", wanted, FOLDER) == ""
    assert script_fault(b"#!/bin/sh\necho", wanted, FOLDER)


def test_programs_of_a_wheel(tmp_path: Path) -> None:
    files = {
        "tool.py": b"",
        "tool-1.data/scripts/run.sh": b"#!/bin/sh\n",
        "tool-1.data/data/bin/more": b"more",
        "tool-1.data/data/share/x": b"x",
    }
    points = b"[console_scripts]\ntool = tool:main\n[gui_scripts]\nshown = tool:show [gui]\n"
    wheel = make_wheel(tmp_path, "tool", "1", files=files, dist_info={"entry_points.txt": points})
    assert programs(wheel) == {
        "run.sh": Program(script=b"#!/bin/sh\n"),
        "more": Program(script=b"more"),
        "tool": Program(calls="tool:main"),
        "shown": Program(calls="tool:show [gui]"),
    }


@pytest.mark.parametrize(
    ("path", "told"),
    [
        ("evil.pth", True),
        ("sitecustomize.py", True),
        ("usercustomize/__init__.py", True),
        ("sitecustomize.cpython-311-x86_64-linux-gnu.so", True),
        ("pkg/evil.pth", False),
        ("pkg/sitecustomize.py", False),
        ("sitecustomized.py", False),
    ],
)
def test_what_runs_at_every_start_is_known(path: str, *, told: bool) -> None:
    assert starts(path) == told


def test_hooks_are_known_by_their_content() -> None:
    assert is_hook("_virtualenv.pth", b"import _virtualenv")
    assert not is_hook("_virtualenv.pth", b"import _virtualenv; import evil")
    assert not is_hook("_virtualenv.pth", b"import _virtualenv\nimport evil")
    assert not is_hook("_virtualenv.py", b"")
