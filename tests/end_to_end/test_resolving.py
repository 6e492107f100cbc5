"""Locks: the same from whoever resolves them, and what is said where they cannot be had."""

from __future__ import annotations

import subprocess
import sys
from dataclasses import replace
from typing import TYPE_CHECKING

import pytest

from lockbuild.resolvers._configured import find_uv
from tests.end_to_end.project import REPOSITORY
from tests.needs import missing

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from tests.end_to_end.conftest import Filled
    from tests.end_to_end.project import Project

LOCKS = ("lockbuild.lock", "pylock.build.toml", "pylock.toml", "requirements.txt")
OLDEST, NEWEST = (3, 11), (3, 14)
# Nobody listens there.
NOWHERE = "http://127.0.0.1:9"


def _locks(project: Project) -> dict[str, bytes]:
    return {name: (project.stack / name).read_bytes() for name in LOCKS}


def _forget_locks(project: Project) -> None:
    for name in LOCKS:
        (project.stack / name).unlink()


def _installed(project: Project, python: str, folder: Path) -> Project:
    """Return the project with lockbuild installed, as its users have it, under another interpreter."""
    env = project.full_env()
    del env["PYTHONPATH"]
    uv = find_uv()
    subprocess.run([uv, "venv", "--quiet", "--python", python, folder], env=env, check=True)
    target = folder / "bin/python"
    install = [uv, "pip", "install", "--quiet", "--python", target, REPOSITORY]
    subprocess.run(install, env=env, check=True, timeout=400)
    return replace(project, env=env, python=str(target))


# ---- the same bytes --------------------------------------------------------------------------------------


def _other_versions() -> list[object]:
    """The versions that are not the running one; one of them is enough every day."""
    found: list[object] = []
    for minor in range(NEWEST[1] - 1, OLDEST[1] - 1, -1):
        if (3, minor) != sys.version_info[:2]:
            marks = [pytest.mark.slow] if found else []
            found.append(pytest.param(f"3.{minor}", marks=marks))
    return found


@pytest.mark.parametrize("version", _other_versions())
def test_another_python_resolves_to_the_same_bytes(
    project: Project, tmp_path: Path, python_of: Callable[[str], str | None], version: str
) -> None:
    python = python_of(version)
    if python is None:
        pytest.skip(f"there is no Python {version} on this machine")
    before = _locks(project)
    _forget_locks(project)
    _installed(project, python, tmp_path / "venv").run("resolve", "small")
    assert _locks(project) == before


def test_resolving_from_nothing_twice_gives_the_same_bytes(project: Project) -> None:
    before = _locks(project)
    _forget_locks(project)
    project.run("resolve", "small")
    assert _locks(project) == before


def test_both_engines_agree(project: Project, target_python: str) -> None:
    path = f"{target_python.rpartition('/')[0]}:{project.env['PATH']}"
    before = _locks(project)
    said = project.with_env(PATH=path).run("resolve", "small", "--cross-check")
    assert "uv and pip-tools agree" in said.stderr
    assert _locks(project) == before


# ---- what cannot be resolved -----------------------------------------------------------------------------


def test_a_conflict_is_shown_with_what_leads_to_it(project: Project) -> None:
    before = _locks(project)
    project.edit_stack('requires = ["markupsafe"]\n\n[[python', 'requires = ["markupsafe>=2", "picky"]\n\n[[python')
    said = project.run("resolve", "small", exit_code=4).stderr
    assert "picky" in said
    assert "markupsafe<1" in said
    assert "markupsafe>=2" in said
    assert _locks(project) == before


def test_a_package_that_no_index_has_is_named(project: Project) -> None:
    project.edit_stack('only = ["greeting", "picky"]', 'only = ["greeting", "nobody-made-this"]')
    project.edit_stack('requires = ["markupsafe"]\n\n[[python', 'requires = ["nobody-made-this"]\n\n[[python')
    assert "nobody-made-this" in project.run("resolve", "small", exit_code=4).stderr


def test_a_debian_package_that_the_suite_lacks_is_named_with_the_nearest(project: Project) -> None:
    project.edit_stack('"libc6-dev"', '"libc6-devv"')
    said = project.run("resolve", "small", exit_code=4).stderr
    assert "`libc6-devv`: did you mean" in said
    assert "`libc6-dev`" in said


def test_an_index_out_of_reach_is_named_and_no_lock_is_touched(project: Project) -> None:
    before = _locks(project)
    away = project.with_env(UV_DEFAULT_INDEX=f"{NOWHERE}/simple", LOCKBUILD_INDEX_PYPI=f"{NOWHERE}/simple")
    said = away.run("resolve", "small", "--upgrade", exit_code=4).stderr
    assert "127.0.0.1:9" in said
    assert "Traceback" not in said
    assert _locks(project) == before


def test_an_archive_out_of_reach_is_named_and_no_lock_is_touched(project: Project) -> None:
    before = _locks(project)
    away = project.with_env(LOCKBUILD_ARCHIVE_DEBIAN=f"{NOWHERE}/debian")
    said = away.run("resolve", "small", "--upgrade", exit_code=4).stderr
    assert "127.0.0.1:9" in said
    assert "hint: check the network" in said
    assert _locks(project) == before


def test_without_any_network_an_up_to_date_lock_needs_none(filled: Filled) -> None:
    assert "resolve" in filled.steps
    if not filled.offline:
        missing("this user may not make a network namespace: `unshare --net`")
    assert "wrote" in filled.steps["pin"].stderr


# ---- what is wrong in the stack file ---------------------------------------------------------------------

_SIX = (
    ("[target]", "[targett]", "`targett`", "`target`"),
    ('glibc = "2.36"', 'glibc = "new"', "glibc", "`new`"),
    ('suite = "bookworm"', "suite = 12", "base.debian.suite", "12"),
    ('toolchain = ["gcc"', 'toolchian = ["gcc"', "apt.toolchian", "toolchain"),
    ('version = "1.0"', 'version = "one"', "version", "`one`"),
    ('imports = ["greeting"', 'import = ["greeting"', "preflight.import", "imports"),
)


def test_six_mistakes_are_all_named_at_once(project: Project) -> None:
    for old, new, _, _ in _SIX[1:]:
        project.edit_stack(old, new)
    project.edit_stack('summary = "what', 'sumary = "what')
    said = project.run("resolve", "small", exit_code=2).stderr
    assert "6 faults" in said
    for _, _, key, found in _SIX[1:]:
        assert any(key in line and found in line for line in said.splitlines()), (key, found, said)
    assert any("`sumary`" in line and "`summary`" in line for line in said.splitlines())


# ---- stale -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("verb", ["fetch", "build", "check", "render", "image", "audit"])
def test_a_changed_stack_file_stops_every_verb_but_resolve(filled: Filled, project: Project, verb: str) -> None:
    project.edit_stack('"gcc", "libc6-dev"', '"gcc", "make", "libc6-dev"')
    said = project.run(verb, "small", exit_code=3).stderr
    assert "the lock of stacks/small is stale: stack.toml has changed since" in said
    assert "`apt.toolchain` was changed" in said
    assert "hint: lockbuild resolve stacks/small" in said


def test_a_changed_source_beside_the_stack_file_makes_the_lock_stale(project: Project) -> None:
    project.edit_native("native_sum.h", "/* new */\n")
    said = project.run("build", "small", exit_code=3).stderr
    assert "`file native/native_sum.h` was added" in said


def test_a_stack_without_a_lock_says_how_to_make_one(project: Project) -> None:
    _forget_locks(project)
    said = project.run("fetch", "small", exit_code=3).stderr
    assert "there is no lockbuild.lock" in said
    assert "hint: lockbuild resolve stacks/small" in said
