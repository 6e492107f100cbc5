"""Paths and names of the machine that built a wheel: what they look like, and which of them a wheel may hold. Pure."""

from __future__ import annotations

import re
from posixpath import dirname, join, normpath
from typing import TYPE_CHECKING

from lockbuild.builders import HOSTNAME, USER
from lockbuild.provenance import FOLDER, RECORD
from lockbuild.wheels import place_of

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from lockbuild.gate.facts import Contents

__all__ = ["PATH_IN_BINARY", "PATH_IN_TEXT", "paths_of_builders", "run_paths_elsewhere"]

_UTF8 = rb"[\xc2-\xdf][\x80-\xbf]|[\xe0-\xef][\x80-\xbf]{2}|[\xf0-\xf4][\x80-\xbf]{3}"
_CHARACTER = rb"(?:[^\x00-\x20\"'`<>|\x7f-\xff]|" + _UTF8 + rb")"
_IN_A_NAME = rb"(?:[\w.+@~#,-]|" + _UTF8 + rb")"
_BEGIN = rb"(?:(?<![\w.~-])|(?<=-[IL]))"
_KNOWN = rb"/(?:build|home|root|(?:var/)?tmp)/" + _CHARACTER + rb"{1,200}"
_KNOWN_IN_BINARY = rb"/(?:build|home|root|Users|(?:var/)?tmp)/" + _CHARACTER + rb"{1,200}"
# `__FILE__` as assertions have it; `//` is in addresses: https://example.org/x.h
_SOURCE = (
    rb"(?<!/)/(?:" + _IN_A_NAME + rb"{1,255}/){1,40}" + _IN_A_NAME + rb"{1,255}"
    rb"\.(?:c|cc|cpp|cxx|cu|cuh|h|hh|hpp|hxx|inl|pyx)(?![\w.-])"
)
# As programs write who built them, and as every sandbox is called. Others could be the address of an author.
_WHO = f"{USER}@{HOSTNAME}"
_NAMED = re.escape(_WHO).encode() + rb"(?![\w-])"
# Wider than any rule below, which say what of it is a fault.
PATH_IN_TEXT = re.compile(_BEGIN + rb"(?:" + _KNOWN + rb"|" + _NAMED + rb")")
PATH_IN_BINARY = re.compile(
    _BEGIN + rb"(?:" + _KNOWN_IN_BINARY + rb"|" + _SOURCE + rb"|" + _NAMED + rb")"
)

# nvcc, GCC and pip name what they make for a while; what a program itself writes to /tmp is its own affair.
_TEMPORARY = re.compile(
    r"(?:/var)?/tmp/(?:tmpxft_|pip-|build-env-|cc[A-Za-z0-9]{6}\b|tmp[a-z0-9_]{8}\b)"
)
_SANDBOX = re.compile(r"/build/(?:source|inputs|out|home)(?![\w-]|\.\w)")
_HOME = re.compile(r"/(?:root/.|(?:home|Users)/[\w.+@~-]+)")
_SOURCE_FILE = re.compile(r"/.+\.(?:c|cc|cpp|cxx|cu|cuh|h|hh|hpp|hxx|inl|pyx)(?![\w.-])")
# The same wherever it is compiled: headers of the toolchain, and what Debian and NVIDIA left in archives (`.a`) that are linked in.
_OF_ALL_MACHINES = re.compile(
    r"/usr/|/opt/(?:[^/]+/)+include/|/dvs/p4/build/|/build/reproducible-path/|/build/[a-z0-9][a-z0-9.+-]*-[A-Za-z0-9]{6}/"
    r"|/tmp/[^/]+$"
)
# What lockbuild itself writes of how a wheel was made: the same on every machine.
_PROVENANCE = re.compile(rf"\.dist-info/(?:{re.escape(RECORD)}$|{re.escape(FOLDER)}/)")
_ORIGIN = re.compile(r"\$(?:ORIGIN|\{ORIGIN\})(?=/|$)/*")
# From site-packages to the folder of the environment: lib/python3.11/site-packages.
_DEPTH = 3


def paths_of_builders(contents: Contents) -> Iterator[tuple[str, str, tuple[str, ...]]]:
    """Yield member, section and texts of what names the machine or the sandbox that built a wheel."""
    seen: dict[tuple[str, str], list[str]] = {}
    for member, section, text in contents.paths:
        if not _PROVENANCE.search(member) and _is_of_a_builder(text, in_binary=bool(section)):
            seen.setdefault((member, section), []).append(text)
    yield from ((member, section, tuple(texts)) for (member, section), texts in seen.items())


def _is_of_a_builder(text: str, *, in_binary: bool) -> bool:
    if text == _WHO:
        return True
    # Texts speak of home folders and of sources in upstream's own words.
    patterns = (_SANDBOX, _TEMPORARY, _HOME) if in_binary else (_SANDBOX, _TEMPORARY)
    if any(pattern.match(text) for pattern in patterns):
        return True
    whole = normpath(text)
    return in_binary and bool(_SOURCE_FILE.match(whole)) and not _OF_ALL_MACHINES.match(whole)


def run_paths_elsewhere(member: str, folders: Iterable[str]) -> Iterator[str]:
    """Yield what is wrong with the run path of the library *member*, which is to stay in its environment."""
    for folder in folders:
        origin = _ORIGIN.match(folder)
        if not folder:
            yield "found an empty part in its rpath, which is the current folder, expected `$ORIGIN` and what is below it"
        elif origin is None:
            yield f"found rpath `{folder}`, expected `$ORIGIN` and what is below it"
        else:
            place = normpath(join(dirname(place_of(member)), folder[origin.end() :]))
            if place.split("/").count("..") > _DEPTH:
                yield f"found rpath `{folder}`, which leads out of the environment, expected `$ORIGIN` and what is beside it"
