"""Is what is locked still served? Asks those that serve it, and only where `--online` says so."""

from __future__ import annotations

import json
import tempfile
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

from lockbuild.audit.hosts import name_of
from lockbuild.audit.rules import Found, Rule, Skip
from lockbuild.derivation import ChannelFile, IndexFile, PoolFile
from lockbuild.findings import Check
from lockbuild.sources.serving import served

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping
    from datetime import date

    from lockbuild.audit.rules import Subject
    from lockbuild.derivation import Fetch
    from lockbuild.digest import StorePath
    from lockbuild.progress import Progress
    from lockbuild.sources import Mirrors
    from lockbuild.sources.serving import Served

__all__ = ["RULES", "Upstream"]

_NOTE = "index"


@dataclass(slots=True, kw_only=True)
class Upstream:
    """Who asks those that serve what is locked; each is asked once."""

    mirrors: Callable[[frozenset[str]], Mirrors]
    progress: Progress
    connections: int = 8
    _answers: Mapping[StorePath, Served] | None = field(default=None, init=False)

    def answers(self, subject: Subject) -> Mapping[StorePath, Served]:
        """Return what was said of each fetch of the stack, and note in the store what indexes said."""
        if self._answers is None:
            fetches = subject.plan.fetches()
            wheres = [fetch.where for fetch in fetches]
            names = {where.index for where in wheres if isinstance(where, IndexFile)}
            names |= {where.vendor for where in wheres if isinstance(where, PoolFile)}
            with (
                tempfile.TemporaryDirectory(prefix="lockbuild-audit-") as work,
                self.progress.phase("asking upstream", total=len(fetches), unit="artifacts") as phase,
            ):
                self._answers = served(
                    fetches,
                    mirrors=self.mirrors(frozenset(names)),
                    work=Path(work),
                    phase=phase,
                    connections=self.connections,
                )
            for fetch in fetches:
                answer = self._answers.get(fetch.path)
                if (
                    answer
                    and isinstance(fetch.where, IndexFile)
                    and answer.state in ("served", "yanked")
                ):
                    reason = answer.said if answer.state == "yanked" else None
                    _note(subject, fetch, reason)
        return self._answers


def _note(subject: Subject, fetch: Fetch, reason: str | None) -> None:
    text = json.dumps({"asked": subject.today.isoformat(), "yanked": reason})
    subject.store.write_note(fetch.path, _NOTE, text)


def _noted(subject: Subject, fetch: Fetch) -> tuple[str, str | None] | None:
    """Return on which day an index was asked for a file, and why it was withdrawn, if it was."""
    try:
        note = json.loads(subject.store.note(fetch.path, _NOTE) or "")
        return str(note["asked"]), note["yanked"]
    except (LookupError, RecursionError, TypeError, ValueError):
        return None


def _gone_upstream(subject: Subject) -> Iterator[Found]:
    if subject.upstream is None:
        raise Skip("only `--online` asks a network")
    answers = subject.upstream.answers(subject)
    held = subject.store.valid(answers)
    for fetch in sorted(subject.plan.fetches(), key=lambda fetch: fetch.filename):
        answer = answers.get(fetch.path)
        if answer is None or answer.state in ("served", "yanked"):
            continue
        what = {
            "gone": "it is gone",
            "other": "it is another now",
            "unknown": "nobody tells whether it is there",
        }[answer.state]
        here = fetch.path in held
        kept = "this machine's store has it" if here else "this machine's store has it not"
        # One index or channel serves many files, of which one is gone.
        shared = isinstance(fetch.where, ChannelFile | IndexFile)
        yield Found(
            fetch.filename if shared else name_of(subject, fetch),
            f"{what}: {answer.said}; {kept}",
            level="warning" if here or answer.state == "unknown" else "error",
            facts=(("state", answer.state),),
        )


def _yanked(subject: Subject) -> Iterator[Found]:
    told: list[tuple[Fetch, str | None, str | date]] = []
    answers = subject.upstream.answers(subject) if subject.upstream else {}
    for fetch in subject.plan.fetches():
        answer = answers.get(fetch.path)
        if answer and isinstance(fetch.where, IndexFile) and answer.state in ("served", "yanked"):
            told.append((fetch, answer.said if answer.state == "yanked" else None, subject.today))
        elif isinstance(fetch.where, IndexFile) and (note := _noted(subject, fetch)):
            told.append((fetch, note[1], note[0]))
    if not told and any(isinstance(fetch.where, IndexFile) for fetch in subject.plan.fetches()):
        raise Skip("no index was asked since the lock was made: `--online` asks")
    for fetch, reason, day in sorted(told, key=lambda one: one[0].filename):
        if reason is not None:
            yield Found(
                fetch.filename, f"withdrawn, as its index said on {day}: {reason or 'no reason given'}"
            )


RULES = (
    Rule(
        Check(
            id="gone-upstream",
            level="error",
            what="everything that is locked is still served as it was locked",
            why="what nobody serves any more exists in stores alone, and only until they are cleaned",
            mend="keep the store, and name a mirror of it; where the store has it not, resolve to what there is",
        ),
        _gone_upstream,
    ),
    Rule(
        Check(
            id="yanked",
            level="warning",
            what="no release was withdrawn from its index since it was locked",
            why="its authors took it back: it is broken, or does harm",
            mend="`lockbuild resolve --upgrade-package NAME`",
        ),
        _yanked,
    ),
)
