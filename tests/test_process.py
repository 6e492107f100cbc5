"""Running other programs: what they print, how they end, and what is said of those that are absent."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from lockbuild.errors import ToolMissing
from lockbuild.process import Completed, clean_env, find_tool, install_hint, need_tool, run

PYTHON = sys.executable


def python(program: str, **how: object) -> Completed:
    return run([PYTHON, "-c", program], **how)  # type: ignore[arg-type]


def make_program(path: Path, text: str = "#!/bin/sh\n") -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text, encoding="utf-8")
    path.chmod(0o755)
    return path


# ---- run -------------------------------------------------------------------------------------------


def test_output_and_errors_are_kept_apart() -> None:
    ended = python("import sys; print('out'); print('err', file=sys.stderr)")
    assert (ended.returncode, ended.stdout, ended.stderr) == (0, "out\n", "err\n")


def test_failure_is_a_value() -> None:
    assert python("raise SystemExit(3)").returncode == 3


def test_death_by_a_signal_is_a_value() -> None:
    assert python("import os, signal; os.kill(os.getpid(), signal.SIGKILL)").returncode == -9


def test_bytes_that_are_no_text_are_replaced() -> None:
    assert python("import os; os.write(1, b'a\\xffb')").stdout == "a\ufffdb"


def test_standard_input_is_empty_unless_given() -> None:
    assert python("import sys; print(repr(sys.stdin.read()))").stdout == "''\n"


def test_standard_input_is_the_text_given() -> None:
    assert python("import sys; print(sys.stdin.read().upper())", stdin="text").stdout == "TEXT\n"


def test_environment_is_the_one_given_and_nothing_else() -> None:
    ended = python("import os; print('HOME' in os.environ, os.environ['MARK'])", env={"MARK": "1"})
    assert ended.stdout == "False 1\n"


def test_environment_is_inherited_unless_given(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MARK", "inherited")
    assert python("import os; print(os.environ['MARK'])").stdout == "inherited\n"


def test_working_folder_is_the_one_given(tmp_path: Path) -> None:
    assert python("import os; print(os.getcwd())", cwd=tmp_path).stdout == f"{tmp_path.resolve()}\n"


def test_words_reach_the_program_as_they_are() -> None:
    ended = run([PYTHON, "-c", "import sys; print(sys.argv[1:])", "a b", "$HOME;", Path("x")])
    assert ended.stdout == "['a b', '$HOME;', 'x']\n"


def test_command_is_what_a_person_would_type() -> None:
    ended = run([PYTHON, "-c", "print(1)"])
    assert ended.command == f"{PYTHON} -c 'print(1)'"


def test_program_that_takes_too_long_is_killed() -> None:
    with pytest.raises(subprocess.TimeoutExpired):
        python("import time; time.sleep(600)", timeout_s=0.2)


def test_absent_program_is_named_with_a_hint() -> None:
    with pytest.raises(
        ToolMissing, match="`lockbuild-absent` cannot be started: No such file"
    ) as caught:
        run(["lockbuild-absent"])
    assert caught.value.hint is not None
    assert "lockbuild-absent" in caught.value.hint


def test_file_that_may_not_be_run_is_a_missing_tool(tmp_path: Path) -> None:
    program = make_program(tmp_path / "tool")
    program.chmod(0o644)
    with pytest.raises(ToolMissing, match="Permission denied"):
        run([program])


def test_file_that_is_no_program_is_a_missing_tool(tmp_path: Path) -> None:
    with pytest.raises(ToolMissing, match="Exec format error"):
        run([make_program(tmp_path / "tool", "neither ELF nor script")])


def test_absent_working_folder_is_not_blamed_on_the_program(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match="nowhere"):
        run([PYTHON, "--version"], cwd=tmp_path / "nowhere")


def test_too_long_a_command_line_is_not_blamed_on_the_program() -> None:
    with pytest.raises(OSError, match="Argument list too long"):
        run([PYTHON, "x" * 4_000_000])


# ---- clean_env -------------------------------------------------------------------------------------


def test_clean_environment_has_the_path_and_a_locale(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", "/bin")
    monkeypatch.setenv("LC_ALL", "de_DE.UTF-8")
    monkeypatch.setenv("PYTHONPATH", "/somewhere")
    assert clean_env() == {"PATH": "/bin", "LC_ALL": "C.UTF-8"}


def test_clean_environment_keeps_what_is_named_and_takes_more(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", "/bin")
    monkeypatch.setenv("KEPT", "1")
    monkeypatch.delenv("ABSENT", raising=False)
    found = clean_env("KEPT", "ABSENT", PATH="/other")
    assert found == {"PATH": "/other", "LC_ALL": "C.UTF-8", "KEPT": "1"}


# ---- tools -----------------------------------------------------------------------------------------


def test_tool_is_found_on_the_path_first(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    program = make_program(tmp_path / "sh")
    monkeypatch.setenv("PATH", os.pathsep.join([str(tmp_path), "/usr/bin", "/bin"]))
    assert find_tool("sh") == program


@pytest.mark.parametrize("path", ["", "/nonexistent"])
def test_system_folders_are_looked_in_too(path: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", path)
    found = find_tool("ldconfig")
    assert found in {Path("/usr/sbin/ldconfig"), Path("/sbin/ldconfig")}


@pytest.mark.parametrize("path", ["", None])
def test_working_folder_is_never_looked_in(
    path: str | None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    make_program(tmp_path / "lockbuild-tool")
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("PATH")
    if path is not None:
        monkeypatch.setenv("PATH", path)
    assert find_tool("lockbuild-tool") is None


def test_needed_tool_is_returned() -> None:
    assert need_tool("sh", purpose="a test").name == "sh"


def test_needed_tool_that_is_absent_is_named_with_its_purpose() -> None:
    with pytest.raises(ToolMissing, match="`lockbuild-absent` is not installed; a test needs it"):
        need_tool("lockbuild-absent", purpose="a test")


@pytest.mark.parametrize(
    ("manager", "tool", "hint"),
    [
        ("apt-get", "bwrap", "install it: apt-get install bubblewrap"),
        ("apt-get", "/usr/bin/git", "install it: apt-get install git"),
        ("dnf", "docker", "install it: dnf install docker-ce"),
        ("pacman", "bwrap", "install it: pacman -S bubblewrap"),
        ("zypper", "mmdebstrap", "install it: zypper install mmdebstrap"),
    ],
)
def test_hint_is_the_command_of_this_systems_package_manager(
    manager: str, tool: str, hint: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    make_program(tmp_path / manager)
    monkeypatch.setenv("PATH", str(tmp_path))
    assert install_hint(tool) == hint


def test_hint_without_a_known_package_manager_names_the_tool(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    assert install_hint("bwrap") == "install `bwrap` with this system's package manager"
