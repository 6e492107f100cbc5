"""What cannot be asked while a stack is resolved: parts that stay open, and parts that keep their former pins."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

from lockbuild.lock import OpenPart

if TYPE_CHECKING:
    from collections.abc import Sequence

    from lockbuild.errors import LockbuildError

__all__ = ["Gaps", "one_line", "unseen"]

_LONGEST_REASON = 300


@dataclass(frozen=True, slots=True, kw_only=True)
class Gaps:
    """Collects them while the parts are pinned, by several threads at once.

    A reason stands in the lock: it says nothing of this machine, its mirrors and its clock. What says more
    is for whoever resolves now.
    """

    open: list[OpenPart] = field(default_factory=list)
    kept: list[OpenPart] = field(default_factory=list)
    """Parts whose former pins hold on, and why they could not be looked at anew."""
    causes: dict[str, tuple[str, ...]] = field(default_factory=dict)
    """Label of such a part -> what was tried, and what came of it."""

    def leave(self, kind: str, name: str, error: LockbuildError, *, reason: str = "") -> None:
        """Note that a part stays open.

        Args:
            reason: For the lock, where the error's message says too little.
        """
        part = OpenPart(kind=kind, name=name, reason=reason or one_line(error.message))
        self.open.append(part)
        self.explain(part, error)

    def explain(self, part: OpenPart, error: LockbuildError) -> None:
        """Note what was tried for a part, unless its reason says just that, and what would close it."""
        causes = () if part.reason == _joined(error.details) else error.details
        # Who cannot be reached may be later; after a wrong answer, the stack is what can be changed.
        if error.hint and not error.unreachable:
            causes = (*causes, f"hint: {error.hint}")
        if causes:
            self.causes[part.label] = causes

    def keep(self, kind: str, name: str, error: LockbuildError) -> None:
        """Note that a part keeps its former pins."""
        part = OpenPart(kind=kind, name=name, reason=one_line(error.message))
        self.kept.append(part)
        self.explain(part, error)


def unseen(urls: Sequence[str], error: LockbuildError) -> str:
    """Return, for a lock, why a file stays open whose bytes nobody publishes and that was never fetched."""
    if not error.unreachable:
        return _joined(error.details) or one_line(error.message)
    hosts = dict.fromkeys(urlsplit(url).hostname or "" for url in urls)
    return one_line(f"never fetched yet, and not to be had from {', '.join(hosts)}")


def _joined(lines: Sequence[str]) -> str:
    return one_line("; ".join(line.strip() for line in lines))


def one_line(text: str) -> str:
    """Return *text* as a lock can hold it: printable, on one line, and not too long."""
    text = "".join(character if character.isprintable() else " " for character in text)
    return text if len(text) <= _LONGEST_REASON else f"{text[: _LONGEST_REASON - 1]}…"
