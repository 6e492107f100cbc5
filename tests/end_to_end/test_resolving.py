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
VERSIONS = ("3.13", "3.12", "3.11", "3.14")
# Nobody listens there.
NOWHERE = "http://127.0.0.1:9"


def _locks(project: Project) -> dict[str, bytes]:
    return {name: (project.stack / name).read_bytes() for name in LOCKS}


def _forget_locks(project: Project) -> None:
    for name in LOCKS:
        (project.stack / name).unlink()


def _installed(project: Project, python: str, folder: Path) -> Project:
    """Return the project with lockbuild installed, as its users have it, under another interpreter."""
    env = {name: text for name, text in project.full_env().items() if name != "PYTHONPATH"}
    uv = find_uv()
    target = str(folder / "bin/python")
    for words in (
        ["venv", "--python", python, folder],
        ["pip", "install", "--python", target, REPOSITORY],
    ):
        subprocess.run([str(uv), "--quiet", *map(str, words)], env=env, check=True, timeout=400)
    return replace(project, env=env, python=target)


# ---- the same bytes --------------------------------------------------------------------------------------


@pytest.mark.parametrize("count", [1, pytest.param(None, marks=pytest.mark.slow, id="all")])
def test_resolving_from_nothing_again_gives_the_same_bytes_under_another_python_too(
    project: Project, tmp_path: Path, python_of: Callable[[str], str | None], count: int | None
) -> None:
    before = _locks(project)
    others = [version for version in VERSIONS if version != "{}.{}".format(*sys.version_info)]
    # Where there is no other one, that it is done twice is what is left to see.
    found = [*filter(None, map(python_of, others))] or [sys.executable]
    for number, python in enumerate(found[:count]):
        _forget_locks(project)
        _installed(project, python, tmp_path / f"venv-{number}").run("resolve", "small")
        assert _locks(project) == before, python


def test_both_engines_agree(project: Project, target_python: str) -> None:
    path = f"{target_python.rpartition('/')[0]}:{project.env['PATH']}"
    before = _locks(project)
    said = project.with_env(PATH=path).run("resolve", "small", "--cross-check")
    assert "uv and pip-tools agree" in said.stderr
    assert _locks(project) == before


# ---- what cannot be resolved -----------------------------------------------------------------------------


def test_a_conflict_is_shown_with_what_leads_to_it(fresh: Project) -> None:
    before = _locks(fresh)
    fresh.edit_stack(
        'requires = ["markupsafe"]\n\n[[python', 'requires = ["markupsafe>=2", "picky"]\n\n[[python'
    )
    said = fresh.run("resolve", "small", exit_code=4).stderr
    assert "picky" in said
    assert "markupsafe<1" in said
    assert "markupsafe>=2" in said
    assert _locks(fresh) == before


def test_a_package_that_no_index_has_is_named(fresh: Project) -> None:
    fresh.edit_stack('only = ["greeting", "picky"]', 'only = ["greeting", "nobody-made-this"]')
    fresh.edit_stack(
        'requires = ["markupsafe"]\n\n[[python', 'requires = ["nobody-made-this"]\n\n[[python'
    )
    assert "nobody-made-this" in fresh.run("resolve", "small", exit_code=4).stderr


def test_an_index_out_of_reach_is_named_and_the_lock_keeps_its_pins(fresh: Project) -> None:
    before = _locks(fresh)
    index = f"{NOWHERE}/simple"
    away = fresh.with_env(UV_DEFAULT_INDEX=index, LOCKBUILD_INDEX_PYPI=index, UV_HTTP_RETRIES="0")
    said = away.run("resolve", "small", "--upgrade").stderr
    assert "keeps its former pins: python packages" in said
    assert "127.0.0.1:9" in said
    assert _locks(fresh) == before


def test_an_archive_out_of_reach_is_named_and_the_lock_keeps_its_pins(fresh: Project) -> None:
    before = _locks(fresh)
    away = fresh.with_env(LOCKBUILD_ARCHIVE_DEBIAN=f"{NOWHERE}/debian")
    said = away.run("resolve", "small", "--upgrade").stderr
    assert "keeps its former pins: apt bookworm" in said
    assert "127.0.0.1:9" in said
    assert _locks(fresh) == before


def test_without_any_network_an_up_to_date_lock_needs_none(filled: Filled) -> None:
    assert "resolve" in filled.steps
    if not filled.offline:
        missing("this user may not make a network namespace: `unshare --net`")
    assert "wrote" in filled.steps["pin"].stderr


# ---- what is wrong in the stack file ---------------------------------------------------------------------

_SIX = (
    # What is written instead, key path, what was found, what was expected or is nearest.
    ('summary = "what', 'sumary = "what', "`sumary`", "unknown key", "`summary`"),
    ('glibc = "2.36"', 'glibc = "new"', "`target.glibc`", '"new"', "`2.36`"),
    ('suite = "bookworm"', "suite = 12", "`base.debian.suite`", "12", "a string"),
    ('toolchain = ["gcc"', 'toolchian = ["gcc"', "`apt.toolchian`", "unknown key", "`toolchain`"),
    ('version = "1.0"', 'version = "one"', "`build[native-sum].version`", '"one"', "a version"),
    ('imports = ["greeting"', 'import = ["greeting"', "`preflight.import`", "unknown key", "`imports`"),
)


def test_six_mistakes_are_all_named_at_once(fresh: Project) -> None:
    for old, new, *_ in _SIX:
        fresh.edit_stack(old, new)
    said = fresh.run("resolve", "small", exit_code=2).stderr
    assert "6 faults" in said
    for _, _, *words in _SIX:
        assert any(all(word in line for word in words) for line in said.splitlines()), words


# ---- stale -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("verb", ["fetch", "build", "check", "render", "image"])
def test_a_changed_stack_file_stops_every_verb_but_resolve(fresh: Project, verb: str) -> None:
    fresh.edit_stack('"gcc", "libc6-dev"', '"gcc", "make", "libc6-dev"')
    said = fresh.run(verb, "small", exit_code=3).stderr
    assert "the lock of stacks/small is stale: stack.toml has changed since" in said
    assert "`apt.toolchain` was changed" in said
    assert "hint: lockbuild resolve stacks/small" in said


def test_an_audit_tells_what_a_changed_stack_file_moved(fresh: Project) -> None:
    fresh.edit_stack('"gcc", "libc6-dev"', '"gcc", "make", "libc6-dev"')
    said = fresh.run("audit", "small", exit_code=9).stdout
    assert "lock-stale: apt.toolchain: was changed since the lock was made" in said


def test_a_changed_source_beside_the_stack_file_makes_the_lock_stale(fresh: Project) -> None:
    fresh.edit_native("native_sum.h", "/* new */\n")
    said = fresh.run("build", "small", exit_code=3).stderr
    assert "`file native/native_sum.h` was added" in said


def test_a_stack_without_a_lock_says_how_to_make_one(fresh: Project) -> None:
    _forget_locks(fresh)
    said = fresh.run("fetch", "small", exit_code=3).stderr
    assert "there is no lockbuild.lock" in said
    assert "hint: lockbuild resolve stacks/small" in said
