"""Does loading what is bundled run code? Its pickles are read and never loaded; what was found is noted in the store."""

from __future__ import annotations

import json
import zipfile
from dataclasses import asdict
from pathlib import PurePosixPath
from typing import TYPE_CHECKING, Literal, cast

from lockbuild.audit.rules import Found, Rule, Skip
from lockbuild.findings import Check
from lockbuild.pickles import BROKEN, MAY_HOLD, VERSION, Suspect, suspects, unreadable

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path
    from typing import BinaryIO

    from lockbuild.audit.rules import Subject
    from lockbuild.digest import StorePath
    from lockbuild.store import Store

__all__ = ["RULES"]

_NOTE = "pickles"
_SHOWN = 4

_Kind = Literal["asset", "source", "wheel"]


def _held(subject: Subject) -> Iterator[tuple[str, _Kind, StorePath]]:
    """Yield everything of the image that may hold weights: its name, what it is, and where it is."""
    plan, store = subject.plan, subject.store
    everything: list[tuple[str, _Kind, StorePath]] = [
        *((f"asset {name}", "asset", path) for name, path in plan.assets),
        *((f"source {name}", "source", path) for name, path in plan.sources),
        *((name, "wheel", path) for name, path in (*plan.wheels, *plan.builds)),
    ]
    valid = store.valid(path for _, _, path in everything)
    if everything and not valid:
        raise Skip("the store holds nothing of this stack: `lockbuild fetch`")
    yield from (one for one in everything if one[2] in valid)


def _found(subject: Subject) -> Iterator[tuple[str, Suspect]]:
    for name, kind, path in _held(subject):
        for suspect in _remembered(subject.store, kind, path):
            # Whoever made a package or an application runs code as it is: only what hides in its data is news.
            if kind == "asset" or (suspect.kind == "grave" and _foreign(suspect, name)):
                yield name, suspect


def _foreign(suspect: Suspect, package: str) -> bool:
    own = package.replace("-", "_")
    return any(one.partition(".")[0] != own for one in suspect.what)


def _remembered(store: Store, kind: _Kind, path: StorePath) -> tuple[Suspect, ...]:
    """Return what is suspicious about an object, out of the store's note where there is one."""
    note = store.note(path, _NOTE)
    if note is not None:
        try:
            version, found = json.loads(note)
            if version == VERSION:
                return tuple(Suspect(**{**one, "what": tuple(one["what"])}) for one in found)
        except (LookupError, RecursionError, TypeError, ValueError):
            pass
    try:
        looked = tuple(_look(store, kind, path))
    except BROKEN as error:
        # `store-bytes` tells of a damaged object. Nothing is noted: it may be repaired.
        return (unreadable(path.name, error),)
    store.write_note(path, _NOTE, json.dumps([VERSION, [asdict(one) for one in looked]]))
    return looked


def _look(store: Store, kind: _Kind, path: StorePath) -> Iterator[Suspect]:
    place = store.locate(path)
    if place.is_file() and kind == "asset":
        # Whoever put it there knows its name; whoever loads it may not care what that ends in.
        yield from _opened(place, path.name)
    elif place.is_file():
        yield from _wheel(place)
    elif kind == "wheel":
        for wheel in sorted(place.glob("*.whl")):
            yield from _wheel(wheel)
    else:
        for entry in store.members(path):
            if entry.kind in ("executable", "file") and (kind == "asset" or _may_hold(entry.path)):
                yield from _opened(place / entry.path, entry.path)


def _may_hold(name: str) -> bool:
    return PurePosixPath(name).suffix.lower() in MAY_HOLD


def _opened(file: Path, name: str) -> Iterator[Suspect]:
    with file.open("rb") as stream:
        yield from suspects(stream, name)


def _wheel(file: Path) -> Iterator[Suspect]:
    with zipfile.ZipFile(file) as archive:
        for info in archive.infolist():
            if _may_hold(info.filename):
                try:
                    with archive.open(info) as stream:
                        yield from suspects(cast("BinaryIO", stream), info.filename)
                except BROKEN as error:
                    yield unreadable(info.filename, error)


def _said(names: tuple[str, ...]) -> str:
    more = f" and {len(names) - _SHOWN} more" if len(names) > _SHOWN else ""
    return f"{', '.join(names[:_SHOWN])}{more}"


def _pickle_code(subject: Subject) -> Iterator[Found]:
    for name, suspect in _found(subject):
        if suspect.kind == "grave":
            yield Found(
                name,
                f"loading {suspect.member} imports {_said(suspect.what)}, which can run whatever the file says",
                facts=(("imports", " ".join(suspect.what)),),
            )
        elif suspect.kind == "code":
            yield Found(
                name,
                f"loading {suspect.member} runs code beside that of tensors and arrays: {_said(suspect.what)}",
                level="warning",
                facts=(("imports", " ".join(suspect.what)),),
            )


def _pickle_unread(subject: Subject) -> Iterator[Found]:
    for name, suspect in _found(subject):
        if suspect.kind == "unread":
            yield Found(name, f"{suspect.member}: {'; '.join(suspect.what)}")


RULES = (
    Rule(
        Check(
            id="pickle-code",
            level="error",
            what="no pickle among the weights and data imports anything but what tensors and arrays are made of",
            why="a pickle is a program: who loads the weights runs it",
            mend="do not load it: ask upstream for safetensors, or load it with `weights_only=True` and see that"
            " nothing is missing; where you know the code, `[[audit.waive]]` takes the reason",
        ),
        _pickle_code,
    ),
    Rule(
        Check(
            id="pickle-unread",
            level="warning",
            what="every pickle among the weights and data could be read to its end",
            why="what is behind that point nobody has looked at",
            mend="see what the file is; where it came broken, take another",
        ),
        _pickle_unread,
    ),
)
