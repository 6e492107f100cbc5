"""What uv and pip say when there is no answer, as lockbuild's errors. Pure."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from packaging.utils import canonicalize_name

from lockbuild.errors import ResolveError
from lockbuild.resolvers._compile import PROJECT
from lockbuild.resolvers._configured import NO_CACHE, no_cache
from lockbuild.resolvers._python import index_names, no_wheel

if TYPE_CHECKING:
    from pathlib import Path

    from lockbuild.process import Completed
    from lockbuild.resolvers import PythonQuestion

__all__ = ["fault_of", "lines_of", "redacted", "undated", "unreachable", "unreadable", "yanked"]

_NAME = r"`?(?:all versions of |only )?([A-Za-z0-9][\w.-]*)`?"


def yanked(ended: Completed) -> tuple[str, ...]:
    """Return the yanked versions that uv took, as `name 1.0 (reason)`: it does when they are pinned."""
    found = re.findall(r"^warning: `(\S+?)==(\S+?)` is yanked(.*)", ended.stderr, re.MULTILINE)
    return tuple(f"{name} {version}{reason}" for name, version, reason in found)


def undated(ended: Completed, question: PythonQuestion) -> frozenset[str]:
    """Return the stack's indexes that tell no upload times and so seem empty under `exclude-newer`."""
    if "is missing an upload date" not in ended.stderr:
        return frozenset()
    filtered = re.findall(r"`([^`]+)` was filtered by `exclude-newer`", ended.stderr)
    sources = index_names(question)
    return frozenset(filter(None, (sources.get(canonicalize_name(name)) for name in filtered)))


def fault_of(ended: Completed, question: PythonQuestion, *, folder: Path) -> ResolveError:
    """Return the error for a `uv pip compile` that gave no answer, or one with yanked versions."""
    details = lines_of(ended.stderr, folder)
    text = "\n".join(details)
    if taken := yanked(ended):
        return ResolveError(
            f"`{taken[0].split(' (')[0]}` was yanked from its index",
            details=tuple(taken),
            hint="ask for another version: a yanked one is broken or withdrawn",
        )
    if NO_CACHE in text:
        return no_cache(details)
    if failed := re.search(r"Failed to (?:fetch|download)[^\n]*?(\w+://\S+)", text):
        return unreachable(failed[1].strip("`"), question, details)
    if failed := re.search(r"unexpected (?:JSON|HTML) from `(\S+?)`", text):
        return unreadable(failed[1], details)
    for fault in (_refused, _hidden, _yanked_only, _other_tag, _other_python, _uncached, _absent):
        if found := fault(text, question, details):
            return found
    return ResolveError(
        "the requirements cannot be met together",
        details=details,
        hint="loosen one of the requirements above, or say which is right in `overrides`",
    )


def lines_of(stderr: str, folder: Path) -> tuple[str, ...]:
    """Return a tool's report without colours, scratch folders and passwords."""
    text = re.sub(r"\x1b\[[0-9;]*[A-Za-z]", "", stderr)
    text = text.replace(f"{folder.as_uri()}/", "").replace(f"{folder}/", "").replace(str(folder), ".")
    text = redacted(text).replace(f"{PROJECT} depends on", "the stack requires")
    lines = (re.sub(r"^(?:error: |\s*cause: | {9})", "", line).rstrip() for line in text.splitlines())
    idle = ("Resolved ", "Using ", "No solution found when resolving")
    return tuple(line for line in lines if line and not line.startswith(idle))


def redacted(text: str) -> str:
    """Return *text* with the user and password of every address hidden."""
    return re.sub(r"(\w+://)[^/@\s]+@", r"\1****@", text)


def unreachable(url: str, question: PythonQuestion, details: tuple[str, ...]) -> ResolveError:
    """Return the error for an index, known by an address below it, that cannot be asked."""
    index = next(
        (index for index in question.indexes if url.startswith(index.url.rstrip("/") + "/")), None
    )
    called = f"the index `{index.name}`" if index else "the default index"
    where = "its url in the stack" if index else "what uv or pip is configured to use"
    return ResolveError(
        f"{called} cannot be reached: {redacted(url)}",
        details=details,
        hint=f"check {where}, the proxy and the certificates; what is cached can be had offline",
        unreachable=True,
        tried=((redacted(url), details[-1] if details else "cannot be reached"),),
    )


def unreadable(url: str, details: tuple[str, ...]) -> ResolveError:
    """Return the error for an index whose pages are not what they are announced as."""
    return ResolveError(
        f"not a page of a package index: {redacted(url)}",
        details=details,
        hint="check the index's address, and the Content-Type that it answers with",
    )


def _refused(text: str, question: PythonQuestion, details: tuple[str, ...]) -> ResolveError | None:
    found = re.search(r"An index(?: URL)? \((\S+?)\) .*?(40[13] \w+)", text)
    if not found:
        return None
    fault = unreachable(found[1] + "/", question, details)
    return ResolveError(
        f"{fault.message} ({found[2]})",
        details=details,
        hint="give the credentials: ~/.netrc, or UV_INDEX_*",
        unreachable=True,
        tried=((redacted(found[1]), found[2]),),
    )


def _hidden(text: str, question: PythonQuestion, details: tuple[str, ...]) -> ResolveError | None:
    found = re.search(r"`([^`]+)` was filtered by `exclude-newer`", text)
    if not found:
        return None
    kept = tuple(line for line in details if "exclude-newer-package" not in line)
    undated_index = "is missing an upload date" in text
    return ResolveError(
        f"`exclude-newer = {question.exclude_newer}` leaves no fitting version of `{found[1]}`",
        details=kept,
        hint="its index tells no upload times: name a mirror that does, or drop `exclude-newer`"
        if undated_index
        else "set a later `exclude-newer`, or ask for an older version",
    )


def _yanked_only(text: str, _: PythonQuestion, details: tuple[str, ...]) -> ResolveError | None:
    found = re.search(rf"{_NAME}(?:[=<>]=?(\S+))? (?:was|were) yanked", text)
    if not found:
        return None
    return ResolveError(
        f"what would fit of `{found[1]}` was yanked from its index",
        details=details,
        hint="ask for another version: a yanked one is broken or withdrawn",
    )


def _other_tag(text: str, question: PythonQuestion, details: tuple[str, ...]) -> ResolveError | None:
    found = re.search(rf"{_NAME}(?:==(\S+)|[<>]\S*)? ha(?:s|ve) no (?:usable )?wheels", text)
    if not found:
        return None
    # uv speaks of its own switch there, which the user never set.
    kept = tuple(line for line in details if "building from source is disabled" not in line)
    return no_wheel(" ".join(filter(None, found.groups())), question, (), kept)


def _other_python(text: str, question: PythonQuestion, details: tuple[str, ...]) -> ResolveError | None:
    found = re.search(rf"{_NAME}(?:==(\S+)|[<>]\S*)? (?:requires|depends on) Python", text)
    if not found:
        return None
    return ResolveError(
        f"`{' '.join(filter(None, found.groups()))}` does not support Python {question.target.python}",
        details=details,
        hint="ask for a version that does, or change `target.python`",
    )


def _uncached(text: str, _: PythonQuestion, details: tuple[str, ...]) -> ResolveError | None:
    found = re.search(
        rf"{_NAME}\S* (?:was not found in the cache|needs to be downloaded from a registry)", text
    )
    if not found:
        return None
    return ResolveError(
        f"`{found[1].partition('==')[0]}` is not in uv's cache",
        details=tuple(line for line in details if "network was disabled" not in line),
        hint="resolve once with the network: what is asked then is cached",
    )


def _absent(text: str, question: PythonQuestion, details: tuple[str, ...]) -> ResolveError | None:
    found = re.search(rf"{_NAME} was not found in the package registry", text)
    if found:
        index = index_names(question).get(canonicalize_name(found[1])) or "pypi"
        return ResolveError(
            f"index `{index}` has no package `{found[1]}`",
            details=details,
            hint="check the spelling, name the index that has it, or declare it under [[build]]",
        )
    found = re.search(r"there (?:is|are) no versions? of ([A-Za-z0-9][\w.-]*)(\S*)", text)
    if not found:
        return None
    return ResolveError(
        f"there is no version of `{found[1]}` that fits `{found[1]}{found[2].rstrip(',')}`",
        details=details,
        hint="ask for a version that its index has",
    )
