"""Addresses of repositories and of the submodules in them. Pure but for git's parser of `.gitmodules`."""

from __future__ import annotations

import re
import subprocess
from dataclasses import dataclass
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

from lockbuild.errors import FetchError
from lockbuild.sources.http import redact

if TYPE_CHECKING:
    from lockbuild.sources.git.commands import Git

__all__ = ["Submodule", "check_url", "declared_urls", "is_local", "resolve_url"]

_SCHEMES = frozenset({"git", "git+ssh", "http", "https", "ssh", "ssh+git"})
_SCP = re.compile(r"(?:[\w.-]+@)?[\w.-]+:(?!:)(?!//).+")


@dataclass(frozen=True, slots=True, kw_only=True)
class Submodule:
    """A repository inside another one."""

    path: str
    """Below the top of the outermost tree."""
    url: str
    """As `.gitmodules` has it, made absolute."""
    commit: str


def is_local(url: str) -> bool:
    """Tell whether *url* is a repository of this machine."""
    return url.startswith(("/", "file://"))


def check_url(url: str, *, local: bool) -> None:
    """Refuse an address that would run a program or, unless *local*, read this machine's files.

    Raises:
        FetchError: It is such an address, or none at all.
    """
    scheme = urlsplit(url).scheme if "://" in url else ""
    fine = scheme in _SCHEMES or (not scheme and _SCP.fullmatch(url) and "://" not in url)
    # Line ends and bytes of no text would end up in locks and on terminals.
    if fine and not url.startswith("-") and url.isprintable():
        return
    if is_local(url) and url.isprintable():
        if local:
            return
        raise FetchError(
            f"`{redact(url)}` is a path of this machine; a submodule of a remote repository cannot be there",
            hint="ask upstream, or leave it out with `exclude`",
        )
    raise FetchError(
        f"`{redact(url)}` is not an address of a git repository that lockbuild uses",
        hint="expected https://, http://, ssh://, git://, user@host:path, or an absolute path",
    )


def resolve_url(parent: str, url: str) -> str:
    """Return the address of a submodule, which may be relative to the *parent* repository's.

    Raises:
        FetchError: It leads above the parent's host.
    """
    if not url.startswith(("./", "../")):
        return url
    base, separator = parent.rstrip("/"), "/"
    rest = url
    while rest.startswith(("./", "../")):
        if rest.startswith("./"):
            rest = rest[2:]
            continue
        rest = rest[3:]
        head, slash, _ = base.rpartition("/")
        if slash and not head.endswith("/") and head != "file:":
            base = head
        elif ":" in base and "://" not in base and separator == "/":
            # `host:project` has no slash to go up to: its sibling is `host:other`.
            base, separator = base.rpartition(":")[0], ":"
        else:
            raise FetchError(f"submodule address `{url}` leads out of the host of `{redact(parent)}`")
    return f"{base}{separator}{rest.rstrip('/')}"


def declared_urls(git: Git, gitmodules: bytes) -> dict[str, str]:
    """Return the address of each submodule path that the text of a `.gitmodules` declares.

    Raises:
        FetchError: Git cannot parse it.
    """
    # Git's own parser; with `--file` it follows no include.
    argv, env = git.reading(git.view / "objects", "config", "--file", "-", "--null", "--list")
    ended = subprocess.run(argv, env=env, input=gitmodules, capture_output=True, check=False)
    if ended.returncode != 0:
        raise FetchError(
            "`.gitmodules` cannot be parsed", details=(ended.stderr.decode(errors="replace").strip(),)
        )
    found: dict[str, dict[str, str]] = {}
    for item in ended.stdout.decode(errors="surrogateescape").split("\0"):
        key, _, value = item.partition("\n")
        section, _, rest = key.partition(".")
        name, _, what = rest.rpartition(".")
        if section == "submodule":
            found.setdefault(name, {})[what] = value
    return {
        one["path"].rstrip("/"): one["url"]
        for one in found.values()
        if one.get("path") and one.get("url")
    }
