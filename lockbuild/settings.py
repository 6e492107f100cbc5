"""What this machine's user decides: where the store is, who builds, which mirrors are asked.

None of it enters a lock or a digest. An environment variable is stronger than the configuration file.
"""

from __future__ import annotations

import os
import re
import tomllib
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from lockbuild import machine
from lockbuild.errors import UsageError
from lockbuild.process import home_folder

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

__all__ = ["BUILDERS", "Settings", "config_path", "load_settings"]

BUILDERS = ("sandbox", "container")
_TABLES = ("indexes", "archives", "snapshots", "channels", "registries")
_NUMBERS = ("cores", "memory-per-job", "connections", "stall-timeout", "tries")
_SWITCHES = ("compiler-cache",)
_KEYS = ("store", "builder", *_NUMBERS, *_SWITCHES, *_TABLES)
_COUNT = "a whole number above 0"
_ONE_OF_BUILDERS = " or ".join(f"`{name}`" for name in BUILDERS)


@dataclass(frozen=True, slots=True, kw_only=True)
class Settings:
    """One user's choices on one machine."""

    store: Path
    builder: str = "sandbox"
    """A name of `BUILDERS`."""
    cores: int = 1
    """Compilers side by side, for all builds together."""
    memory_per_job: int = 3000
    """Megabytes that a compiler may come to need: no more of them are started than fit into the free memory."""
    compiler_cache: bool = False
    """Whether builds keep what their compilers gave, for the next time."""
    connections: int = 8
    """Downloads side by side."""
    stall_timeout: int = 30
    """Seconds without a single byte after which a server is asked again."""
    tries: int = 5
    """How often an address is asked in a row while nothing new comes."""
    indexes: tuple[tuple[str, tuple[str, ...]], ...] = ()
    """Name of an index -> addresses that are asked before its own."""
    archives: tuple[tuple[str, tuple[str, ...]], ...] = ()
    """`debian` or `ubuntu` -> addresses of its archive, instead of those that apt is configured for."""
    snapshots: tuple[tuple[str, tuple[str, ...]], ...] = ()
    """`debian` or `ubuntu` -> addresses of snapshot archives, with `{timestamp}` where it belongs."""
    channels: tuple[tuple[str, tuple[str, ...]], ...] = ()
    """Name of a conda channel -> addresses that are asked before its own."""
    registries: tuple[tuple[str, tuple[str, ...]], ...] = ()
    """Host of a registry, with `-` for `.` and `:` -> registries or folders of them that are asked before it."""


def config_path() -> Path:
    """Return the configuration file: LOCKBUILD_CONFIG, or `lockbuild/config.toml` in the user's folder."""
    given = os.environ.get("LOCKBUILD_CONFIG")
    if given:
        return Path(given)
    base = os.environ.get("XDG_CONFIG_HOME") or home_folder() / ".config"
    return Path(base) / "lockbuild" / "config.toml"


def load_settings(
    *, store: str | None = None, builder: str | None = None, cores: int | None = None
) -> Settings:
    """Return the settings: arguments first, then environment variables, then the configuration file.

    Raises:
        UsageError: The configuration file or an environment variable is wrong.
    """
    document = _read(config_path())
    environ = os.environ
    data_home = environ.get("XDG_DATA_HOME") or home_folder() / ".local" / "share"
    chosen = (
        store
        or environ.get("LOCKBUILD_STORE")
        or document.get("store")
        or Path(data_home) / "lockbuild" / "store"
    )
    return Settings(
        store=_folder(chosen),
        builder=_builder("--builder", builder)
        or _builder("LOCKBUILD_BUILDER", environ.get("LOCKBUILD_BUILDER"))
        or document.get("builder")
        or BUILDERS[0],
        cores=cores or _whole("LOCKBUILD_CORES") or document.get("cores") or machine.cores(),
        memory_per_job=_whole("LOCKBUILD_MEMORY_PER_JOB") or document.get("memory-per-job") or 3000,
        compiler_cache=_switch(
            "LOCKBUILD_COMPILER_CACHE", default=document.get("compiler-cache", False)
        ),
        connections=_whole("LOCKBUILD_CONNECTIONS") or document.get("connections") or 8,
        stall_timeout=_whole("LOCKBUILD_STALL_TIMEOUT") or document.get("stall-timeout") or 30,
        tries=_whole("LOCKBUILD_TRIES") or document.get("tries") or 5,
        indexes=_addresses("INDEX", document.get("indexes", {})),
        archives=_addresses("ARCHIVE", document.get("archives", {})),
        snapshots=_addresses("SNAPSHOT", document.get("snapshots", {})),
        channels=_addresses("CHANNEL", document.get("channels", {})),
        registries=_addresses(
            # A variable's name holds neither dot nor colon.
            "REGISTRY",
            {
                re.sub(r"[.:]", "-", name): value
                for name, value in document.get("registries", {}).items()
            },
        ),
    )


def _folder(chosen: str | Path) -> Path:
    """Return the store's folder.

    Raises:
        UsageError: No folder can be called that, or nobody knows whose it is.
    """
    if "\0" in str(chosen):
        raise UsageError(f"store: found {str(chosen)!r}, expected a path, which holds no zero byte")
    try:
        return Path(chosen).expanduser().absolute()
    except RuntimeError as error:
        raise UsageError(
            f"store: found `{chosen}`, and nobody knows that user's folder",
            hint="write the whole path",
        ) from error


def _read(path: Path) -> dict[str, Any]:
    try:
        document = tomllib.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError as error:
        if str(path) == os.environ.get("LOCKBUILD_CONFIG"):
            raise UsageError(
                f"LOCKBUILD_CONFIG: there is no file `{path}`",
                hint="correct the path, or unset the variable",
            ) from error
        return {}
    except (OSError, UnicodeDecodeError, tomllib.TOMLDecodeError) as error:
        raise UsageError(f"{path} cannot be used: {error}") from error
    faults = tuple(_faults(document))
    if faults:
        count = "1 fault" if len(faults) == 1 else f"{len(faults)} faults"
        raise UsageError(f"{path}: {count}", details=faults)
    return document


def _faults(document: Mapping[str, Any]) -> Iterator[str]:
    """Yield a line for each fault of a configuration file."""
    for key, value in document.items():
        if key in _TABLES:
            yield from _table_faults(key, value)
        elif key not in _KEYS:
            yield f"`{key}`: unknown key; known keys: {', '.join(_KEYS)}"
        elif key in _NUMBERS:
            if not _is_count(value):
                yield f"`{key}`: found {value!r}, expected {_COUNT}"
        elif key in _SWITCHES:
            if not isinstance(value, bool):
                yield f"`{key}`: found {value!r}, expected true or false"
        elif not isinstance(value, str):
            yield f"`{key}`: found {value!r}, expected a string"
        elif key == "builder" and value not in BUILDERS:
            yield f"`{key}`: found `{value}`, expected {_ONE_OF_BUILDERS}"


def _table_faults(key: str, table: object) -> Iterator[str]:
    if not isinstance(table, dict):
        yield f"`{key}`: expected a table of lists of addresses"
        return
    for name, value in table.items():
        if not isinstance(value, list) or not all(isinstance(address, str) for address in value):
            yield f"`{key}.{name}`: expected a list of addresses"


def _is_count(value: object) -> bool:
    # `true` is an int to Python.
    return isinstance(value, int) and not isinstance(value, bool) and value > 0


def _builder(where: str, name: str | None) -> str | None:
    """Return *name*, which stood at *where*.

    Raises:
        UsageError: No builder is called that.
    """
    if name and name not in BUILDERS:
        raise UsageError(f"{where}: found `{name}`, expected {_ONE_OF_BUILDERS}")
    return name


def _whole(variable: str) -> int | None:
    """Return the number in an environment variable; none where it is not set.

    Raises:
        UsageError: It holds something else.
    """
    text = os.environ.get(variable)
    if not text:
        return None
    if not text.isdecimal() or int(text) < 1:
        raise UsageError(f"{variable}: found `{text}`, expected {_COUNT}")
    return int(text)


def _switch(variable: str, *, default: bool) -> bool:
    """Return what an environment variable says, or *default* where it is not set.

    Raises:
        UsageError: It holds something else than `true` or `false`, or `1` or `0`.
    """
    text = os.environ.get(variable)
    if not text:
        return default
    if text not in ("true", "false", "1", "0"):
        raise UsageError(f"{variable}: found `{text}`, expected `true` or `false`")
    return text in ("true", "1")


def _addresses(
    kind: str, configured: Mapping[str, list[str]]
) -> tuple[tuple[str, tuple[str, ...]], ...]:
    """Return name -> addresses; LOCKBUILD_ARCHIVE_DEBIAN="URL URL" replaces `archives.debian`."""
    prefix = f"LOCKBUILD_{kind}_"
    table = {name: tuple(value) for name, value in configured.items()}
    for variable, text in os.environ.items():
        if variable.startswith(prefix):
            table[variable.removeprefix(prefix).lower().replace("_", "-")] = tuple(text.split())
    return tuple(sorted(table.items()))
