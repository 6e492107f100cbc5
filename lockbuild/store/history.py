"""What a store remembers of builds: what they were, how long they took, what checking found. Losing it loses no object."""

from __future__ import annotations

import json
import os
import threading
from contextlib import suppress
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any

from lockbuild.digest import Sha256, StorePath, parse_sha256, store_path
from lockbuild.documents import json_text
from lockbuild.store.disk import PARTIAL, write_whole

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping
    from pathlib import Path

__all__ = ["History", "Verdict"]

_SCHEMA = 1


@dataclass(frozen=True, slots=True, kw_only=True)
class Verdict:
    """What building an object again gave."""

    name: str
    path: StorePath
    sha256: Sha256
    """Of the object that it was compared with."""
    identical: bool
    differences: tuple[str, ...] = ()
    """A line for each member that differs, and how."""
    seconds: float = 0.0
    """How long building again took."""
    when: str
    """Its end: `2026-01-31T23:59:59Z`."""
    where: str
    """Engine, kernel and processor."""
    kept: bool = False
    """Whether it is of a former check, and comes out of the store."""


class History:
    """The folders `derivations`, `durations`, `realised` and `verdicts` of a store.

    Args:
        root: The store's folder.
    """

    def __init__(self, root: Path) -> None:
        self._derivations = root / "derivations"
        self._durations = root / "durations"
        self._realised = root / "realised"
        self._verdicts = root / "verdicts"

    def durations(self, names: Iterable[str]) -> dict[str, float]:
        """Return name -> seconds of those builds that were built before, under any digest."""
        found = {}
        for name in names:
            document = _read(self._durations / f"{name}.json")
            with suppress(KeyError, TypeError, ValueError):
                found[name] = float(document["seconds"])
        return found

    def took(self, name: str, seconds: float) -> None:
        """Remember how long the build called *name* took."""
        _write(self._durations / f"{name}.json", {"schema": _SCHEMA, "seconds": round(seconds, 1)})

    def verdict(self, path: StorePath, sha256: Sha256) -> Verdict | None:
        """Return what the last check of *path* found; none where there was none, or the object was another."""
        document = _read(self._verdict(path))
        document.pop("schema", None)
        try:
            parse_sha256(document["sha256"])
            differences = tuple(document["differences"])
            verdict = Verdict(**{**document, "differences": differences, "kept": True})
        except (KeyError, TypeError, ValueError):
            return None
        return verdict if (verdict.path, verdict.sha256) == (path, sha256) else None

    def keep(self, verdict: Verdict) -> None:
        """Remember *verdict*, in place of a former one of the same object."""
        _write(self._verdict(verdict.path), {"schema": _SCHEMA, **asdict(verdict)})

    def forget(self, path: StorePath) -> None:
        """Forget the verdict of *path*."""
        self._verdict(path).unlink(missing_ok=True)

    def derivation(self, path: StorePath) -> str | None:
        """Return the text of what gave *path*; none where nobody kept it, or it is damaged."""
        with suppress(IndexError, KeyError, OSError, TypeError, ValueError):
            text = (self._derivations / path).read_text(encoding="utf-8")
            document = json.loads(text)
            # A fetch's text has two further parts, which are no part of its identity.
            identity = document[:4] if document[0] == "fetch" else document
            return text if store_path(identity, path.name) == path else None
        return None

    def keep_derivation(self, path: StorePath, text: str) -> None:
        """Remember the text of what gives *path*."""
        file = self._derivations / path
        if not file.exists():
            file.parent.mkdir(exist_ok=True)
            write_whole(file, text.encode(), _of_this_thread())

    def realised(self, root: str) -> dict[str, StorePath]:
        """Return what a build is to the stack of *root* -> the path that was realised for it last."""
        found = {}
        for key, path in _read(self._realised / f"{root}.json").items():
            with suppress(TypeError, ValueError, AttributeError):
                found[key] = StorePath(path)
        return found

    def keep_realised(self, root: str, paths: Mapping[str, StorePath]) -> None:
        """Remember *paths* beside those of other builds that were realised before."""
        former = self.realised(root)
        if {**former, **paths} != former:
            _write(self._realised / f"{root}.json", {"schema": _SCHEMA, **former, **paths})

    def forget_realised(self, root: str) -> None:
        """Forget what was realised for the stack of *root*."""
        (self._realised / f"{root}.json").unlink(missing_ok=True)

    def forget_derivations(self, kept: Iterable[StorePath]) -> None:
        """Forget the texts of all but *kept* and what was realised last for a stack."""
        wanted: set[str] = set(kept)
        for file in self._realised.glob("*.json"):
            wanted |= {*self.realised(file.stem).values()}
        for file in self._derivations.glob("*"):
            if file.name not in wanted:
                file.unlink(missing_ok=True)

    def _verdict(self, path: StorePath) -> Path:
        return self._verdicts / f"{path}.json"


def _read(file: Path) -> dict[str, Any]:
    """Return the document in *file*; an empty one where it is absent or of another kind."""
    with suppress(OSError, ValueError):
        document = json.loads(file.read_text(encoding="utf-8"))
        if isinstance(document, dict) and document.get("schema") == _SCHEMA:
            return document
    return {}


def _write(file: Path, document: dict[str, Any]) -> None:
    file.parent.mkdir(exist_ok=True)
    # Two runs may end the same build at once.
    write_whole(file, json_text(document).encode(), _of_this_thread())


def _of_this_thread() -> str:
    return f"{os.getpid()}-{threading.get_ident()}{PARTIAL}"
