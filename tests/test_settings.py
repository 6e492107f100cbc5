"""Settings: which of argument, environment and configuration file is heard, and what is wrong with one."""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from lockbuild.errors import UsageError
from lockbuild.settings import config_path, load_settings

if TYPE_CHECKING:
    from collections.abc import Callable


@pytest.fixture(autouse=True)
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Give the test a home of its own, and no settings from the environment it runs in."""
    for variable in os.environ:
        if variable.startswith(("LOCKBUILD_", "XDG_")):
            monkeypatch.delenv(variable)
    monkeypatch.setenv("HOME", str(tmp_path))
    return tmp_path


@pytest.fixture
def configure(home: Path) -> Callable[[str], Path]:
    """Return a function that writes the user's configuration file."""

    def write(text: str) -> Path:
        path = home / ".config" / "lockbuild" / "config.toml"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text, encoding="utf-8")
        return path

    return write


# ---- places ------------------------------------------------------------------------------------------


def test_configuration_is_in_the_users_folder(home: Path) -> None:
    assert config_path() == home / ".config" / "lockbuild" / "config.toml"


def test_configuration_follows_xdg(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_CONFIG_HOME", str(home / "conf"))
    assert config_path() == home / "conf" / "lockbuild" / "config.toml"


def test_configuration_can_be_elsewhere(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (home / "mine.toml").write_text("cores = 3\n", encoding="utf-8")
    monkeypatch.setenv("LOCKBUILD_CONFIG", str(home / "mine.toml"))
    assert load_settings().cores == 3


def test_configuration_that_is_named_and_not_there_is_refused(
    home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("LOCKBUILD_CONFIG", str(home / "mine.toml"))
    with pytest.raises(UsageError, match=f"^LOCKBUILD_CONFIG: there is no file `{home}/mine.toml`$"):
        load_settings()


def test_store_is_in_the_users_folder(home: Path) -> None:
    assert load_settings().store == home / ".local" / "share" / "lockbuild" / "store"


def test_store_follows_xdg(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_DATA_HOME", str(home / "data"))
    assert load_settings().store == home / "data" / "lockbuild" / "store"


def test_home_is_understood_in_the_stores_place(home: Path, configure: Callable[[str], Path]) -> None:
    configure('store = "~/objects"\n')
    assert load_settings().store == home / "objects"


def test_place_of_the_store_is_absolute(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(home)
    assert load_settings(store="objects").store == home / "objects"


# ---- what is heard -----------------------------------------------------------------------------------


def test_defaults(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("lockbuild.machine.cores", lambda: 13)
    settings = load_settings()
    assert (settings.builder, settings.connections) == ("sandbox", 8)
    assert settings.cores == 13
    assert (settings.indexes, settings.archives, settings.snapshots) == ((), (), ())


@pytest.mark.parametrize(
    ("key", "variable", "of_file", "of_environment", "of_argument"),
    [
        ("store", "LOCKBUILD_STORE", "/file", "/environment", "/argument"),
        ("builder", "LOCKBUILD_BUILDER", "container", "sandbox", "container"),
        ("cores", "LOCKBUILD_CORES", 2, 3, 4),
        ("memory-per-job", "LOCKBUILD_MEMORY_PER_JOB", 2, 3, None),
        ("connections", "LOCKBUILD_CONNECTIONS", 2, 3, None),
        ("stall-timeout", "LOCKBUILD_STALL_TIMEOUT", 2, 3, None),
        ("tries", "LOCKBUILD_TRIES", 2, 3, None),
    ],
)
def test_argument_beats_environment_beats_file(
    key: str,
    variable: str,
    of_file: object,
    of_environment: object,
    of_argument: object,
    configure: Callable[[str], Path],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    configure(f"{key} = {of_file!r}\n")
    name = key.replace("-", "_")
    assert str(getattr(load_settings(), name)) == str(of_file)
    monkeypatch.setenv(variable, str(of_environment))
    assert str(getattr(load_settings(), name)) == str(of_environment)
    if of_argument is not None:
        settings = load_settings(**{key: of_argument})  # type: ignore[arg-type]
        assert str(getattr(settings, key)) == str(of_argument)


@pytest.mark.parametrize(
    ("text", "variable", "wanted"),
    [
        ("", "", False),
        ("compiler-cache = true\n", "", True),
        ("", "true", True),
        ("", "1", True),
        ("compiler-cache = true\n", "false", False),
        ("compiler-cache = true\n", "0", False),
    ],
)
def test_a_compiler_cache_is_wanted_or_not(
    text: str,
    variable: str,
    *,
    wanted: bool,
    configure: Callable[[str], Path],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    configure(text)
    monkeypatch.setenv("LOCKBUILD_COMPILER_CACHE", variable)
    assert load_settings().compiler_cache is wanted


def test_a_switch_is_on_or_off(
    configure: Callable[[str], Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("LOCKBUILD_COMPILER_CACHE", "yes")
    with pytest.raises(UsageError, match="LOCKBUILD_COMPILER_CACHE: found `yes`, expected `true` or"):
        load_settings()
    configure("compiler-cache = 'yes'\n")
    with pytest.raises(UsageError) as caught:
        load_settings()
    assert caught.value.details == ("`compiler-cache`: found 'yes', expected true or false",)


def test_empty_variable_is_none(
    configure: Callable[[str], Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    configure("cores = 2\n")
    monkeypatch.setenv("LOCKBUILD_CORES", "")
    assert load_settings().cores == 2


def test_mirrors_are_read_and_sorted(configure: Callable[[str], Path]) -> None:
    configure(
        "[indexes]\nzeta = ['https://z.example.org']\nalpha = ['https://a.example.org', 'file:///a']\n"
        "[archives]\ndebian = ['https://d.example.org']\n"
        "[snapshots]\ndebian = ['https://s.example.org/{timestamp}']\n"
    )
    settings = load_settings()
    assert settings.indexes == (
        ("alpha", ("https://a.example.org", "file:///a")),
        ("zeta", ("https://z.example.org",)),
    )
    assert settings.archives == (("debian", ("https://d.example.org",)),)
    assert settings.snapshots == (("debian", ("https://s.example.org/{timestamp}",)),)


@pytest.mark.parametrize(
    ("variable", "table", "name"),
    [
        ("LOCKBUILD_ARCHIVE_DEBIAN", "archives", "debian"),
        ("LOCKBUILD_INDEX_PYTORCH_CU113", "indexes", "pytorch-cu113"),
        ("LOCKBUILD_SNAPSHOT_UBUNTU", "snapshots", "ubuntu"),
    ],
)
def test_variable_replaces_the_mirrors_of_the_file(
    variable: str,
    table: str,
    name: str,
    configure: Callable[[str], Path],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    configure(f"[{table}]\n{name} = ['https://file.example.org']\nother = []\n")
    monkeypatch.setenv(variable, "https://one.example.org https://two.example.org")
    addresses = ("https://one.example.org", "https://two.example.org")
    assert dict(getattr(load_settings(), table)) == {name: addresses, "other": ()}


# ---- faults ------------------------------------------------------------------------------------------


def test_all_faults_of_a_file_are_named_at_once(configure: Callable[[str], Path]) -> None:
    path = configure(
        "stoer = 'x'\nstore = 3\ncores = 0\nconnections = true\n"
        "indexes = 'x'\n[archives]\ndebian = 'https://d.example.org'\nubuntu = [1]\n"
    )
    with pytest.raises(UsageError) as caught:
        load_settings()
    assert caught.value.message == f"{path}: 7 faults"
    assert caught.value.details == (
        (
            "`stoer`: unknown key; known keys: store, builder, cores, memory-per-job, connections, "
            "stall-timeout, tries, compiler-cache, indexes, archives, snapshots, channels, registries"
        ),
        "`store`: found 3, expected a string",
        "`cores`: found 0, expected a whole number above 0",
        "`connections`: found True, expected a whole number above 0",
        "`indexes`: expected a table of lists of addresses",
        "`archives.debian`: expected a list of addresses",
        "`archives.ubuntu`: expected a list of addresses",
    )


def test_one_fault_is_counted_as_one(configure: Callable[[str], Path]) -> None:
    configure("cores = 1.5\n")
    with pytest.raises(UsageError, match=r": 1 fault$"):
        load_settings()


def test_file_that_is_not_toml_is_named(configure: Callable[[str], Path]) -> None:
    path = configure("cores\n")
    with pytest.raises(UsageError, match=f"^{path} cannot be used: .*line 1"):
        load_settings()


def test_file_that_cannot_be_read_is_named(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LOCKBUILD_CONFIG", str(home))
    with pytest.raises(UsageError, match=r"cannot be used: .*Is a directory"):
        load_settings()


@pytest.mark.parametrize("text", ["many", "0", "-1", "1.5"])
def test_variable_that_is_no_number_is_named(text: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LOCKBUILD_CORES", text)
    with pytest.raises(UsageError, match=f"^LOCKBUILD_CORES: found `{text}`, expected a whole number"):
        load_settings()


def test_unknown_builder_is_refused_with_where_it_stands(
    configure: Callable[[str], Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    said = "found `podman`, expected `sandbox` or `container`"
    with pytest.raises(UsageError, match=f"^--builder: {said}"):
        load_settings(builder="podman")
    monkeypatch.setenv("LOCKBUILD_BUILDER", "podman")
    with pytest.raises(UsageError, match=f"^LOCKBUILD_BUILDER: {said}"):
        load_settings()
    path = configure('builder = "podman"\n')
    with pytest.raises(UsageError, match=f"^{path}: 1 fault") as caught:
        load_settings()
    assert caught.value.details == (f"`builder`: {said}",)


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ('store = "~nobody-of-this-name/s"', "nobody knows that user's folder"),
        ('store = "a\\u0000b"', "zero byte"),
    ],
)
def test_store_that_can_be_nowhere_is_refused(
    text: str, said: str, configure: Callable[[str], Path]
) -> None:
    configure(text)
    with pytest.raises(UsageError, match=said):
        load_settings()


def test_user_without_a_folder_needs_none(monkeypatch: pytest.MonkeyPatch) -> None:
    # As in a container that is run as a number.
    monkeypatch.delenv("HOME")
    monkeypatch.setattr(os, "getuid", lambda: 4_000_000_000)
    assert load_settings(store="/srv/store").store == Path("/srv/store")
    assert load_settings().store == Path("/nonexistent/.local/share/lockbuild/store")
