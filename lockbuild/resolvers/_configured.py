"""What the user configured for uv or pip about the default index, and nothing else of it.

Both tools run without the user's configuration, so that nothing in it can change an answer: no further
index, no folder of wheels, no pre-release switch. What is let through says where the default index is
and how to be let in: its address, credentials, certificates and proxies.
"""

from __future__ import annotations

import configparser
import os
import re
import sys
import tomllib
from pathlib import Path
from typing import Any

import uv

from lockbuild.errors import ResolveError, StackError, ToolMissing
from lockbuild.process import clean_env, find_tool, home_folder, run

__all__ = ["NO_CACHE", "default_index", "find_uv", "no_cache", "tool_env", "uv_settings"]

NO_CACHE = "Failed to initialize cache"
"""What uv says where it cannot write to its cache."""

_KEPT = (
    *("HOME", "NETRC", "TMPDIR", "XDG_CACHE_HOME", "XDG_CONFIG_HOME", "XDG_DATA_HOME"),
    *("SSL_CERT_FILE", "SSL_CERT_DIR", "SSL_CLIENT_CERT"),
    *("HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY", "NO_PROXY"),
    *("http_proxy", "https_proxy", "all_proxy", "no_proxy"),
    *("UV_CACHE_DIR", "UV_CREDENTIALS_DIR", "UV_KEYRING_PROVIDER", "UV_INSECURE_HOST"),
    *("UV_HTTP_TIMEOUT", "UV_HTTP_RETRIES", "UV_NATIVE_TLS", "UV_SYSTEM_CERTS"),
)
_CREDENTIAL = re.compile(r"UV_INDEX_\w+_(USERNAME|PASSWORD)")
_UV_KEYS = ("allow-insecure-host", "keyring-provider", "native-tls", "system-certs")


def find_uv() -> Path:
    """Return where the `uv` program is: that of the Python package, else the one on PATH.

    Raises:
        ToolMissing: There is none.
    """
    try:
        return Path(uv.find_uv_bin())
    except FileNotFoundError as error:
        found = find_tool("uv")
        if found is None:
            raise ToolMissing(
                "`uv` is not installed; resolving needs it", hint="install it: pip install uv"
            ) from error
        return found


def tool_env(**extra: str) -> dict[str, str]:
    """Return the environment in which uv runs: the way to the indexes, and *extra*."""
    credentials = [name for name in os.environ if _CREDENTIAL.fullmatch(name)]
    env = clean_env(*_KEPT, *credentials) | {"UV_NO_CONFIG": "1", "UV_PYTHON_DOWNLOADS": "never"}
    certificate = os.environ.get("PIP_CERT") or _pip_setting("cert")
    if certificate and "SSL_CERT_FILE" not in env:
        env["SSL_CERT_FILE"] = certificate
    return env | extra


def default_index() -> str:
    """Return the address of the default index as configured for uv or pip, else uv's own.

    It may hold credentials: it is for asking, never for showing or writing.

    Raises:
        ResolveError: uv does not tell its default index.
    """
    configured = uv_settings().get("index")
    if configured:
        return str(configured[0]["url"])
    # Without requirements uv asks nobody, and prints the index that it would have asked.
    words = ("pip", "compile", "--offline", "--emit-index-url", "--no-header", "-p", sys.executable, "-")
    ended = run((find_uv(), *words), env=tool_env(), cwd=Path("/"), stdin="")
    found = re.search(r"^--index-url\s+(\S+)", ended.stdout, re.MULTILINE)
    if NO_CACHE in ended.stderr:
        raise no_cache(tuple(ended.stderr.splitlines()))
    if ended.returncode or not found:
        raise ResolveError(
            "`uv` does not tell its default index",
            details=tuple(ended.stderr.splitlines()),
            hint="set UV_DEFAULT_INDEX to the address of the index to use",
        )
    return found[1]


def no_cache(details: tuple[str, ...]) -> ResolveError:
    """Return the error for a uv that said `NO_CACHE`, as it does to a user without a home."""
    return ResolveError(
        "`uv` cannot make its cache folder",
        details=details,
        hint="set UV_CACHE_DIR to a folder that this user may write to",
    )


def uv_settings() -> dict[str, Any]:
    """Return the content of a `uv.toml` that names the configured default index and how to enter it.

    Empty where nothing is configured: uv then uses its own default.
    """
    tables = _uv_files()
    kept = {key: table[key] for table in tables for key in _UV_KEYS if key in table}
    index = _from_uv_env() or next(filter(None, map(_default_of, reversed(tables))), None)
    index = index or _from_pip()
    return kept | ({"index": [{**index, "default": True}]} if index else {})


def _from_uv_env() -> dict[str, Any] | None:
    value = os.environ.get("UV_DEFAULT_INDEX") or os.environ.get("UV_INDEX_URL")
    if not value:
        return None
    named = re.fullmatch(r"([\w.-]+)=(.+)", value)
    return {"name": named[1], "url": named[2]} if named else {"url": value}


def _uv_files() -> list[dict[str, Any]]:
    """Return the machine's and the user's uv configuration, the stronger one last."""
    if os.environ.get("UV_NO_CONFIG", "").lower() in ("1", "true", "yes", "on"):
        return []
    if named := os.environ.get("UV_CONFIG_FILE"):
        return [_uv_file(Path(named))]
    home = Path(os.environ.get("XDG_CONFIG_HOME") or home_folder() / ".config")
    machine = [Path(base) for base in os.environ.get("XDG_CONFIG_DIRS", "").split(":") if base]
    shared = [base / "uv/uv.toml" for base in (*machine, Path("/etc"))]
    system = next(filter(Path.is_file, shared), None)
    return [_uv_file(path) for path in (system, home / "uv/uv.toml") if path and path.is_file()]


def _uv_file(path: Path) -> dict[str, Any]:
    try:
        table = tomllib.loads(path.read_text(encoding="utf-8"))
    except (OSError, tomllib.TOMLDecodeError) as error:
        raise StackError(
            f"{path}: uv's configuration cannot be read: {error}", hint="mend or remove that file"
        ) from error
    for index in table.get("index", ()):
        # uv takes a path from where its file lies; ours lies elsewhere.
        if "://" not in index.get("url", "://"):
            index["url"] = (path.parent / index["url"]).resolve().as_uri()
    return table


def _default_of(table: dict[str, Any]) -> dict[str, Any] | None:
    for index in table.get("index", ()):
        if index.get("default") and index.get("url"):
            return dict(index)
    url = table.get("pip", {}).get("index-url") or table.get("index-url")
    return {"url": url} if url else None


def _from_pip() -> dict[str, Any] | None:
    url = os.environ.get("PIP_INDEX_URL") or _pip_setting("index-url")
    return {"url": url} if url else None


def _pip_setting(key: str) -> str | None:
    """Return what pip's configuration says for *key*, as `pip install` would see it."""
    found = None
    for path in _pip_files():
        # pip reads its files in the same way, `%` and all: https://pip.pypa.io/en/stable/topics/configuration/
        parser = configparser.RawConfigParser()
        try:
            parser.read(path, encoding="utf-8")
        except (configparser.Error, UnicodeDecodeError):
            continue
        for section in ("global", "install"):
            found = parser.get(section, key, fallback=found)
    return found


def _pip_files() -> list[Path]:
    """Return pip's configuration files, the strongest last."""
    named = os.environ.get("PIP_CONFIG_FILE")
    if named == os.devnull:
        return []
    machine = [Path(base) for base in os.environ.get("XDG_CONFIG_DIRS", "/etc/xdg").split(":") if base]
    files = [base / "pip/pip.conf" for base in reversed(machine)] + [Path("/etc/pip.conf")]
    if named and Path(named).exists():
        return [*files, Path(sys.prefix) / "pip.conf", Path(named)]
    home = Path(os.environ.get("XDG_CONFIG_HOME") or home_folder() / ".config")
    user = [home_folder() / ".pip/pip.conf", home / "pip/pip.conf"]
    return [*files, *user, Path(sys.prefix) / "pip.conf"]
