"""Builds: the same bytes again and from either builder, and what is said of those that fail."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from lockbuild.store import Store
from tests.end_to_end.project import NATIVE, RUNTIME, TOOLCHAIN, Project

if TYPE_CHECKING:
    from tests.end_to_end.conftest import Filled

# Put before the setup.py of the extension.
_PHONES_HOME = """\
import socket
try:
    socket.create_connection(("{host}", 443), timeout=3)
except OSError:
    pass
"""
_CHANCE = """\
import os
open("chance.py", "w").write(f"CHANCE = {os.urandom(8)!r}\\n")
open("chance.c", "w").write(f"const char *chance = \\"{os.urandom(8).hex()}\\";\\n")
"""

# nvcc names what a file keeps to itself by when its source was written.
_TIMES = """\
import os
open("chance.py", "w").write(f"CHANCE = {os.stat('native_sum.c').st_mtime_ns}\\n")
"""


def _changed(project: Project, code: str) -> None:
    """Put *code* before the extension's setup.py, and lock it."""
    setup = NATIVE["setup.py"].replace('"native_sum.c"', '"native_sum.c", "chance.c"')
    setup = setup.replace("ext_modules=", 'py_modules=["chance"], ext_modules=')
    for name in ("chance.py", "chance.c"):
        project.edit_native(name, "")
    project.edit_native("setup.py", code + setup)
    project.run("resolve", "small")


def _wheels(project: Project) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in project.wheels.glob("*.whl")}


# ---- again -----------------------------------------------------------------------------------------------


def test_wheels_and_root_file_systems_are_identical_when_built_again(project: Project) -> None:
    verdicts = json.loads(project.run("check", "small", "--json").stdout)
    assert {verdict["name"] for verdict in verdicts} == {
        "greeting-2.1",
        "native-sum-1.0",
        RUNTIME,
        TOOLCHAIN,
    }
    assert [verdict for verdict in verdicts if not verdict["identical"]] == []


def test_a_build_that_is_not_reproducible_is_shown_member_by_member(project: Project) -> None:
    _changed(project, _CHANCE)
    project.run("build", "small", "native-sum")
    ended = project.run("check", "small", "native-sum", exit_code=6)
    lines = [line.strip() for line in ended.stdout.splitlines()]
    assert "native-sum-1.0: different" in lines
    assert any(line.startswith("changed: chance.py: ") for line in lines)
    assert any(line.startswith("changed: native_sum.") and ".so: " in line for line in lines)
    assert not any("METADATA" in line for line in lines)
    assert "not reproducible: native-sum-1.0" in ended.stderr


def test_sources_have_the_same_times_in_every_build(project: Project) -> None:
    _changed(project, _TIMES)
    project.run("build", "small", "native-sum")
    assert project.run("check", "small", "native-sum").stdout == "native-sum-1.0: identical\n"


def test_other_bytes_than_the_pinned_ones_are_refused(project: Project) -> None:
    _changed(project, _CHANCE)
    project.run("build", "small", "native-sum")
    project.run("resolve", "small")
    project.forget(lambda name: name.startswith("native-sum-1.0"))
    said = project.run("build", "small", exit_code=6).stderr
    assert "pinned sha256 " in said
    assert "built  sha256 " in said
    assert "lockbuild resolve --repin native-sum" in said


def test_a_container_gives_the_same_wheels_as_the_sandbox(
    filled: Filled, project: Project, engine: str
) -> None:
    project.forget_wheels()
    for wheel in project.wheels.glob("*.whl"):
        wheel.unlink()
    said = project.with_env(LOCKBUILD_BUILDER="container", DOCKER_HOST=engine).run("build", "small")
    assert "small: 6 built" in said.stderr
    assert _wheels(project) == _wheels(filled.project)


# ---- builds that fail ------------------------------------------------------------------------------------


@pytest.mark.parametrize("host", ["phone.example.org", "192.0.2.7"])
def test_a_build_that_phones_home_fails_and_whom_it_called_is_said(project: Project, host: str) -> None:
    # The one that was built before, from another source, is in the store.
    _changed(project, _PHONES_HOME.format(host=host))
    said = project.run("build", "small", exit_code=6).stderr
    assert "`native-sum-1.0` tried to use the network, and builds have none" in said
    assert host in said
    assert len(project.objects(lambda name: name == "native-sum-1.0")) == 1


def test_a_failed_build_shows_its_last_lines_and_where_its_log_is(project: Project) -> None:
    project.edit_native("native_sum.c", "#error this is wrong\n")
    project.run("resolve", "small")
    said = project.run("build", "small", exit_code=6).stderr
    assert "#error this is wrong" in said
    (log,) = [Path(line.partition("log: ")[2]) for line in said.splitlines() if "log: " in line]
    assert log.is_relative_to(project.store)
    assert "#error this is wrong" in log.read_text()


def _two_that_fail_in_turn(project: Project) -> None:
    """Let the extension fail; the other build is not there yet either, and only one core is to be had."""
    project.edit_native("native_sum.c", "#error this is wrong\n")
    project.run("resolve", "small")
    project.forget(lambda name: name.startswith("greeting-2.1") and not name.endswith(".gz"))
    # What took longest before begins first: here that is to be the extension, however busy the machine was.
    for name, seconds in (("native-sum-1.0", 1000.0), ("greeting-2.1", 0.1)):
        with Store(project.store) as store:
            store.history.took(name, seconds)


def test_a_failure_stops_what_has_not_begun(project: Project) -> None:
    _two_that_fail_in_turn(project)
    project.forget(lambda name: name.startswith("environment-"))
    said = project.run("--cores", "1", "build", "small", "native-sum", "greeting", exit_code=6).stderr
    assert "native-sum-1.0: failed" in said
    assert project.objects(lambda name: name == "greeting-2.1") == ()


def test_with_keep_going_the_others_are_built_all_the_same(project: Project) -> None:
    _two_that_fail_in_turn(project)
    project.forget(lambda name: name.startswith("environment-"))
    words = ("--cores", "1", "build", "small", "native-sum", "greeting", "--keep-going")
    said = project.run(*words, exit_code=6).stderr
    assert "error: 1 build failed" in said
    assert len(project.objects(lambda name: name == "greeting-2.1")) == 1


def test_a_package_that_is_not_built_here_is_refused_with_those_that_are(project: Project) -> None:
    said = project.run("build", "small", "markupsafe", exit_code=2).stderr
    assert "`markupsafe` is nothing that stack `small` builds" in said
    assert "greeting, native-sum" in said
