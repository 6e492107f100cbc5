"""Derivations as text: one line of canonical JSON each, and reading it from whoever wrote it. Pure.

A build's text is the very list that its store path is the digest of. A fetch's has, beside that list, its size
and where to look. What is read is checked as a stranger's: it may come out of a wheel.
"""

from __future__ import annotations

import functools
import json
import re
from typing import TYPE_CHECKING, Any, get_args
from urllib.parse import urlsplit

from lockbuild.baseimage import parse_reference
from lockbuild.derivation import (
    SANDBOX_VERSION,
    Addresses,
    ArchiveMembers,
    BesideFile,
    Build,
    BuildKind,
    ChannelFile,
    Derivation,
    Fetch,
    FolderArchive,
    GitTree,
    HostInterpreter,
    IndexFile,
    PoolFile,
    RegistryImage,
    Where,
)
from lockbuild.digest import JsonValue, Sha256, StorePath, canonical_json, parse_sha256

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

__all__ = ["WHERE", "derivation_text", "parse_derivation"]

_FILENAME = re.compile(r"[A-Za-z0-9_][A-Za-z0-9._+!~:%@=-]{0,254}")
_PYTHON = re.compile(r"python[0-9A-Za-z._+-]*", re.ASCII)
_VARIABLE = re.compile(r"[A-Za-z_][A-Za-z0-9_]*")
_URL = re.compile(r"[a-z][a-z0-9+.-]*://[!-~]+|[\w.-]+@[\w.-]+:[!-~]+", re.ASCII)
_TYPES = frozenset(
    ("gzip", "hdf5", "npy", "npz", "pickle", "safetensors", "tar", "text", "torch", "zip")
)
"""What a stack may say that a file is; a test compares them with `lockbuild.sources.kinds`."""

_UNTRUSTED = ("prefix", "rootfs")
"""Kinds whose command is read by a builder outside the sandbox."""


def _text(value: Any) -> str:  # noqa: ANN401 - any JSON value
    if not isinstance(value, str) or "\0" in value:
        raise ValueError(f"expected a text, found {_short(value)}")
    return value


def _file(value: Any) -> str:  # noqa: ANN401
    if not _FILENAME.fullmatch(_text(value)):
        raise ValueError(f"expected a file name, found {_short(value)}")
    return str(value)


def _python(value: Any) -> str:  # noqa: ANN401
    """Return a command that will be started to see which Python it is: a Python's name, and no other program's."""
    if not _PYTHON.fullmatch(_text(value)):
        raise ValueError(f"expected a command such as `python3.12`, found {_short(value)}")
    return str(value)


def _inside(value: Any) -> str:  # noqa: ANN401
    """Return a path that leads out of no folder."""
    parts = _text(value).split("/")
    if not all(part.isprintable() and part not in ("", ".", "..") for part in parts):
        raise ValueError(f"expected a path below a folder, found {_short(value)}")
    return str(value)


def _url(value: Any) -> str:  # noqa: ANN401
    if not _URL.fullmatch(_text(value)) or not _can_be_asked(value):
        raise ValueError(f"expected an address, found {_short(value)}")
    return str(value)


def _can_be_asked(url: str) -> bool:
    """Tell whether an address has parts that Python can take apart, and no hidden end."""
    try:
        return "%00" not in url and (urlsplit(url).port or 1) > 0
    except ValueError:
        # A repository as ssh has it, `user@host:path`, has no port.
        return "://" not in url and "%00" not in url


def _sha256(value: Any) -> Sha256:  # noqa: ANN401
    return parse_sha256(_text(value))


def _reference(value: Any) -> str:  # noqa: ANN401
    """Return the reference of an image, without digest."""
    parse_reference(f"{_text(value)}@sha256:{'0' * 64}")
    return str(value)


def _type(value: Any) -> str:  # noqa: ANN401
    if _text(value) not in _TYPES:
        raise ValueError(f"expected a type of file, found {_short(value)}")
    return str(value)


def _flag(value: Any) -> bool:  # noqa: ANN401
    if not isinstance(value, bool):
        raise ValueError(f"expected true or false, found {_short(value)}")  # noqa: TRY004 - the text is wrong
    return value


def _size(value: Any) -> int:  # noqa: ANN401
    if not isinstance(value, int) or isinstance(value, bool) or value < 0:
        raise ValueError(f"expected a number of bytes, found {_short(value)}")
    return value


def _each(read: Callable[[Any], str]) -> Callable[[Any], tuple[str, ...]]:
    return lambda value: tuple(read(item) for item in _list(value))


def _members(value: Any) -> tuple[tuple[str, str], ...]:  # noqa: ANN401
    return tuple((_text(name), _inside(path)) for name, path in (_list(pair) for pair in _list(value)))


WHERE: Mapping[str, tuple[type[Where], Mapping[str, Callable[[Any], Any]]]] = {
    "addresses": (Addresses, {"urls": _each(_url), "type": _type}),
    "archive-members": (
        ArchiveMembers,
        {
            "urls": _each(_url),
            "archive": _sha256,
            "archive_size": _size,
            "members": _members,
            "type": _type,
        },
    ),
    "beside": (BesideFile, {"path": _inside}),
    "channel": (ChannelFile, {"channel": _text, "subdir": _inside, "url": _url}),
    "folder": (FolderArchive, {"path": _inside}),
    "git": (
        GitTree,
        {
            "url": _url,
            "commit": _text,
            "submodules": _flag,
            "include": _each(_text),
            "exclude": _each(_text),
        },
    ),
    "host": (HostInterpreter, {"command": _python}),
    "index": (IndexFile, {"index": _file, "project": _file, "url": _url}),
    "pool": (PoolFile, {"vendor": _file, "path": _inside, "snapshot": _file}),
    "registry": (RegistryImage, {"reference": _reference, "architecture": _file}),
}
"""Word in the text -> class, and how each of its fields is read. Written by hand: a new field changes no text."""

_WORDS = {kind: word for word, (kind, _) in WHERE.items()}


@functools.lru_cache(maxsize=4096)  # the toolchain's stand in the record of every wheel
def derivation_text(derivation: Derivation) -> str:
    """Return the text of a derivation, on one line: the same for equal ones, on every machine."""
    identity = derivation.identity
    if isinstance(derivation, Fetch):
        identity = [*identity, derivation.size, _where_document(derivation.where)]
    return canonical_json(identity).decode()


def _where_document(where: Where) -> dict[str, JsonValue]:
    word = _WORDS[type(where)]
    found: dict[str, JsonValue] = {"kind": word}
    for field in WHERE[word][1]:
        value = getattr(where, field)
        # What says nothing is left out, so that a field that is new one day changes no former text.
        if value is not None and value is not False and value != ():
            found[field] = _plain(value)
    return found


def _plain(value: Any) -> JsonValue:  # noqa: ANN401 - of a field
    return [_plain(item) for item in value] if isinstance(value, tuple) else value


def parse_derivation(text: str) -> Derivation:
    """Return the derivation whose text this is.

    Raises:
        ValueError: It is none of ours: not as `derivation_text` writes it, byte by byte; of another version; or
            with names, paths and commands that lead out of the folders they belong to.
    """
    try:
        document = _list(json.loads(text))
        kind, schema = document[0], document[1]
    except (IndexError, RecursionError) as error:
        raise ValueError("not a derivation") from error
    if schema != 1:
        raise ValueError(f"derivations of schema 1 were expected, found {_short(schema)}")
    if kind == "fetch":
        found: Derivation = _parse_fetch(document)
    elif kind == "build":
        found = _parse_build(document)
    else:
        raise ValueError(f"expected a `fetch` or a `build`, found {_short(kind)}")
    if derivation_text(found) != text:
        raise ValueError(f"`{found.path}` is not written canonically")
    return found


def _parse_fetch(document: list[Any]) -> Fetch:
    try:
        _, _, filename, sha256, size, where = document
    except ValueError as error:
        raise ValueError("a fetch has six parts") from error
    return Fetch(
        filename=_file(filename),
        sha256=_sha256(sha256),
        size=None if size is None else _size(size),
        where=_parse_where(where),
    )


def _parse_where(document: Any) -> Where:  # noqa: ANN401 - any JSON value
    word = document.get("kind") if isinstance(document, dict) else None
    if not isinstance(word, str) or word not in WHERE:
        raise ValueError(f"expected where to look, found {_short(document)}")
    kind, fields = WHERE[word]
    unknown = sorted(document.keys() - fields.keys() - {"kind"})
    if unknown:
        raise ValueError(f"`{word}` has no {_short(unknown[0])}")
    try:
        return kind(**{name: fields[name](value) for name, value in document.items() if name != "kind"})
    except TypeError as error:
        raise ValueError(f"`{word}`: {error}") from error


def _parse_build(document: list[Any]) -> Build:
    try:
        _, _, sandbox, kind, name, system, toolchain, command, env, inputs = document
    except ValueError as error:
        raise ValueError("a build has ten parts") from error
    if sandbox != SANDBOX_VERSION:
        raise ValueError(
            f"made for version {_short(sandbox)} of the sandbox; this lockbuild has version {SANDBOX_VERSION}"
        )
    if kind not in get_args(BuildKind):
        raise ValueError(f"no kind of build is called {_short(kind)}")
    words = tuple(_text(word) for word in _list(command))
    if kind in _UNTRUSTED:
        for word in words:
            if not word.isprintable() or ".." in re.split(r"[/:=]", word):
                raise ValueError(f"a word of the command leads out of its folder: {_short(word)}")
    return Build(
        name=_file(name),
        kind=kind,
        system=_file(system),
        toolchain=None if toolchain is None else StorePath(_text(toolchain)),
        command=words,
        env=tuple((_variable(key), _text(value)) for key, value in _pairs(env)),
        inputs=tuple((_inside(place), StorePath(_text(path))) for place, path in _pairs(inputs)),
    )


def _variable(value: Any) -> str:  # noqa: ANN401
    if not _VARIABLE.fullmatch(_text(value)):
        raise ValueError(f"expected the name of a variable, found {_short(value)}")
    return str(value)


def _list(value: Any) -> list[Any]:  # noqa: ANN401
    if not isinstance(value, list):
        raise ValueError(f"expected a list, found {_short(value)}")  # noqa: TRY004 - the text is wrong
    return value


def _pairs(value: Any) -> list[tuple[Any, Any]]:  # noqa: ANN401
    found = []
    for item in _list(value):
        one, other = _list(item)
        found.append((one, other))
    return found


def _short(value: Any) -> str:  # noqa: ANN401
    try:
        text = repr(value)
    except RecursionError:
        text = "what is nested too deeply"
    return text if len(text) <= 80 else f"{text[:77]}..."  # noqa: PLR2004 - about a line
