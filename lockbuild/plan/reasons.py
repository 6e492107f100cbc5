"""Why something is built: what a derivation has that the one which was realised before had not. Pure."""

from __future__ import annotations

import json
import re
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from lockbuild.derivation import SANDBOX_VERSION, Build, Derivation, Fetch, GitTree
from lockbuild.derivationtext import derivation_text, parse_derivation

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping, Sequence

    from lockbuild.digest import StorePath
    from lockbuild.plan import Plan

__all__ = ["Reason", "former_of", "keys_of", "reasons_for"]

_LONG = 60


@dataclass(frozen=True, slots=True, kw_only=True)
class Reason:
    """One thing that differs."""

    text: str
    because: tuple[Reason, ...] = ()
    """Why an input that is built itself is another one."""


def keys_of(plan: Plan) -> dict[str, StorePath]:
    """Return what each build of *plan* is to its stack -> its path: a name that no changed version changes."""
    keys: dict[str, StorePath] = {}
    for name, path in plan.compiles:
        keys[f"wheel {name}"] = path
        build = plan.derivations[path]
        for place, used in build.inputs if isinstance(build, Build) else ():
            if place == "environment" and isinstance(plan.derivations[used], Build):
                keys[f"environment {name}"] = used
            elif place.partition("/")[0] == "source":
                # Fetched or changed: it is one or the other as edits come and go.
                keys[f"source {name}"] = used
    keys |= {f"stamp {name}": path for name, path in plan.builds}
    keys |= {f"root {name}": path for name, path in plan.roots}
    keys |= {f"prefix {name}": path for name, path in plan.prefixes}
    sources = ((name, path) for name, path in plan.sources if isinstance(plan.derivations[path], Build))
    return keys | {f"source {name}": path for name, path in sources}


def former_of(text: str | None) -> Build | Reason | None:
    """Return the build that *text* tells of; why there is nothing to compare with; or none where nobody remembers."""
    if text is None:
        return None
    try:
        derivation = parse_derivation(text)
    except ValueError:
        sandbox = _sandbox(text)
        if sandbox != SANDBOX_VERSION:
            return Reason(text=f"sandbox: version {sandbox} -> {SANDBOX_VERSION}")
        return None
    return derivation if isinstance(derivation, Build) else None


def _sandbox(text: str) -> object:
    try:
        return json.loads(text)[2]
    except (IndexError, KeyError, TypeError, ValueError):
        return SANDBOX_VERSION


def reasons_for(
    build: Build, former: str | None, plan: Plan, text_of: Callable[[StorePath], str | None]
) -> tuple[Reason, ...]:
    """Return why *build* is built.

    Args:
        former: Text of the derivation that was realised in its place before; none where there was none.
        plan: Whose build it is.
        text_of: Gives the text of any derivation that was realised before.
    """
    before = former_of(former)
    if before is None:
        origin = _parsed(former)
        if build.kind == "source" and isinstance(origin, Fetch):
            return tuple(_first_edits(origin, build, plan))
        return (Reason(text="never built here"),)
    if isinstance(before, Reason):
        return (before,)
    if before.path == build.path:
        return (Reason(text="its output is no longer in the store"),)
    return tuple(_differences(before, build, plan, text_of))


def _differences(
    before: Build, build: Build, plan: Plan, text_of: Callable[[StorePath], str | None]
) -> Iterator[Reason]:
    yield from _pairs("env", dict(before.env), dict(build.env))
    # How a source is unpacked follows from what it is, which its input tells.
    unpacked = [
        [place for place, _ in one.inputs if place.startswith("source")] for one in (before, build)
    ]
    commands = tuple(_commands(before, build)) if unpacked[0] == unpacked[1] else ()
    yield from commands
    if before.system != build.system:
        yield Reason(text=f"system: {before.system} -> {build.system}")
    if before.toolchain != build.toolchain:
        yield from _input("toolchain", before.toolchain, build.toolchain, plan, text_of)
    olds, news = _named_inputs(before), _named_inputs(build)
    # A package whose version changes is another file as well, which need not be said again.
    said = {f"input {reason.text.partition(': ')[0]}" for reason in commands}
    for name in sorted({*olds, *news}):
        if olds.get(name) != news.get(name) and name not in said:
            yield from _input(name, olds.get(name), news.get(name), plan, text_of)
    if before.name != build.name and before.kind in ("wheel", "rootfs"):
        yield Reason(text=f"name: {before.name} -> {build.name}")


def _named_inputs(build: Build) -> dict[str, StorePath]:
    """Return inputs by names that no version changes: `wheels/torch`, `source`, `libc6`."""
    found: dict[str, StorePath] = {}
    for place, path in build.inputs:
        folder, _, file = place.rpartition("/")
        name = place
        if file.endswith(".whl") and folder == "wheels":
            name = f"wheel {re.sub(r'[-_.]+', '-', file.split('-')[0]).lower()}"
        elif file.endswith(".deb"):
            name = f"package {file.partition('_')[0]}"
        elif place.startswith("source"):
            name = "source"
        elif folder == "patches" and build.kind == "source":
            name = f"patch {file.partition('-')[2] or file}"
        elif folder in ("built", "grafts"):
            name = f"{folder.removesuffix('s')} {file}"
        found[f"input {name}"] = path
    return found


def _input(
    name: str,
    old: StorePath | None,
    new: StorePath | None,
    plan: Plan,
    text_of: Callable[[StorePath], str | None],
) -> Iterator[Reason]:
    if new is None or old is None:
        what = old or new
        yield Reason(
            text=f"{name}: {'no longer' if new is None else 'added'}: {what.name if what else ''}"
        )
        return
    derivation, former = plan.derivations.get(new), _parsed(text_of(old))
    if isinstance(former, Build) and former.kind == "source" and isinstance(derivation, Fetch):
        children = (*_edits(former.command, None), *_origin(former, derivation, text_of))
        yield Reason(text=f"{name}: nothing is changed in it any more", because=children)
    elif isinstance(derivation, Build):
        children = reasons_for(derivation, text_of(old), plan, text_of)
        if text_of(old) is None:
            children = (Reason(text=f"{old.name} -> {new.name}"),)
        yield Reason(text=f"needs {derivation.name}, which changes", because=children)
    elif old.name != new.name:
        called = (_called(old.name), _called(new.name))
        # Wheels of one version may be for other Pythons.
        before, after = called if called[0] != called[1] else (old.name, new.name)
        yield Reason(text=f"{name}: {before} -> {after}")
    else:
        yield Reason(text=f"{name}: {_content(text_of(old), derivation)}")


def _first_edits(origin: Fetch, build: Build, plan: Plan) -> Iterator[Reason]:
    """Yield what is new about a source that was taken as it came before."""
    yield from _edits(None, build.command)
    now = _named_inputs(build).get("input source")
    if now and now != origin.path:
        yield Reason(
            text=f"input source: {_content(derivation_text(origin), plan.derivations.get(now))}"
        )


def _origin(former: Build, fetch: Fetch, text_of: Callable[[StorePath], str | None]) -> Iterator[Reason]:
    before = _named_inputs(former).get("input source")
    if before and before != fetch.path:
        yield Reason(text=f"input source: {_content(text_of(before), fetch)}")


def _parsed(text: str | None) -> Derivation | None:
    """Return the derivation that *text* tells of; none where nobody remembers, or it is of another sandbox."""
    try:
        return parse_derivation(text) if text else None
    except ValueError:
        return None


def _called(filename: str) -> str:
    """Return the version in a wheel's or Debian package's file name; other names as they are."""
    if filename.endswith(".whl"):
        return filename.split("-")[1]
    if filename.endswith(".deb"):
        return filename.split("_")[1]
    return filename


def _content(text: str | None, new: Derivation | None) -> str:
    """Return how content of the same name differs."""
    old = _parsed(text)
    if not isinstance(new, Fetch) or not isinstance(old, Fetch):
        return "its content changed"
    if isinstance(new.where, GitTree) and isinstance(old.where, GitTree):
        commits = (old.where.commit, new.where.commit)
        if commits[0] != commits[1]:
            return f"commit {commits[0][:12]} -> {commits[1][:12]}"
        return "another part of the same commit"
    return f"sha256 {old.sha256[:12]} -> {new.sha256[:12]}"


def _pairs(what: str, old: Mapping[str, str], new: Mapping[str, str]) -> Iterator[Reason]:
    for name in sorted({*old, *new}):
        if name not in new:
            yield Reason(text=f"{what} {name}: no longer set, was {_short(old[name])}")
        elif name not in old:
            yield Reason(text=f"{what} {name}: now {_short(new[name])}")
        elif old[name] != new[name]:
            yield Reason(text=f"{what} {name}: {_changed(old[name], new[name])}")


def _changed(old: str, new: str) -> str:
    """Return how a value changed: both, and of long ones the words that only one of them has."""
    if max(len(old), len(new)) <= _LONG:
        return f"{_short(old)} -> {_short(new)}"
    gone = " ".join(word for word in old.split() if word not in new.split())
    come = " ".join(word for word in new.split() if word not in old.split())
    if gone and come:
        return f"{_short(gone)} -> {_short(come)}"
    if gone or come:
        return f"now without {_short(gone)}" if gone else f"now also {_short(come)}"
    return "the same words in another order or number"


def _short(text: str) -> str:
    line = " ".join(text.split()) or '""'
    return line if len(line) <= _LONG else f"{line[: _LONG - 3]}..."


# ---- commands --------------------------------------------------------------------------------------


def _commands(before: Build, build: Build) -> Iterator[Reason]:
    if before.command == build.command:
        return
    if build.kind == "rootfs":
        yield from _pairs("package", *(_words(one.command) for one in (before, build)))
    elif build.kind == "source":
        yield from _edits(before.command, build.command)
    elif build.kind == "stamped":
        yield from _stamps(before, build)
    elif build.kind == "prefix":
        for word in sorted({*before.command} ^ {*build.command}):
            yield Reason(text=f"package {word}: {'added' if word in build.command else 'no longer'}")
    else:
        old, new = _first_difference("\n".join(before.command), "\n".join(build.command))
        yield Reason(text=f"command: {_short(old)} -> {_short(new)}")


def _words(command: Sequence[str]) -> dict[str, str]:
    return {name: value or "" for name, _, value in (word.partition("=") for word in command)}


def _edits(old: Sequence[str] | None, new: Sequence[str] | None) -> Iterator[Reason]:
    """Yield how the commands of two changed sources differ; none where it is taken as it comes."""
    if old and new and old[:-1] != new[:-1]:
        yield Reason(text="the program that applies edits changed")
    before, after = (_numbered(command[-1]) if command else {} for command in (old, new))
    for name in sorted({*before, *after}):
        if before.get(name) != after.get(name):
            how = "changed" if name in before and name in after else "added"
            yield Reason(text=f"{name} {how if name in after else 'is no longer made'}")


def _numbered(described: str) -> dict[str, list[Any]]:
    """Return edits by what they change, in their order."""
    found: dict[str, list[Any]] = {}
    edits = json.loads(described)
    for edit in edits:
        if edit["kind"] == "patch":
            name = f"patch {edit['input'].partition('-')[2]}"
        elif edit["kind"] == "graft":
            name = f"graft of {edit['source']} to {edit['put']}"
        else:
            name = f"edit of {edit['file']}"
        found.setdefault(name, []).append({**edit, "input": None})
    return found


def _stamps(before: Build, build: Build) -> Iterator[Reason]:
    old, new = (_words(one.command[:-1]) for one in (before, build))
    labels = [words.get("--version", "") for words in (old, new)]
    if labels[0] != labels[1]:
        yield Reason(text=f"version: {labels[0]} -> {labels[1]}")
    if old.get("--format") != new.get("--format"):
        yield Reason(text="the form of the record changed")
    elif before.inputs == build.inputs and labels[0] == labels[1]:
        yield Reason(text="the record says another place where something was looked for")


def _first_difference(old: str, new: str) -> tuple[str, str]:
    """Return the lines at which two texts begin to differ, from where they do."""
    place = next(
        (i for i, (a, b) in enumerate(zip(old, new, strict=False)) if a != b), min(len(old), len(new))
    )
    start = max(old.rfind(" ", 0, place), old.rfind("\n", 0, place)) + 1
    return old[start : start + 2 * _LONG], new[start : start + 2 * _LONG]
