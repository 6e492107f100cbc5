"""What is said of builds that failed."""

from __future__ import annotations

from typing import TYPE_CHECKING

from lockbuild.errors import BuildError
from lockbuild.remedies import remedies

if TYPE_CHECKING:
    from collections.abc import Collection, Sequence

    from lockbuild.derivation import BuildOutcome

__all__ = ["failure"]

_FULL = "No space left on device"  # ENOSPC in the words of the C locale, which builds have
_LOG_BYTES = 64 * 1024


def failure(failed: Sequence[BuildOutcome], *, edited: Collection[str]) -> BuildError:
    """Return one fault for all *failed* builds.

    Args:
        edited: Names of the builds that apply edits to a source: those that fail do so for what the stack says.
    """
    details: list[str] = []
    for outcome in failed:
        details.append(f"{outcome.name}: {outcome.status}: {outcome.message}")
        details += [f"  | {line}" for line in outcome.tail]
        if outcome.log:
            details.append(f"  log: {outcome.log}")
    culprits = sum(outcome.status != "dependency-failed" for outcome in failed)
    count = "1 build" if culprits == 1 else f"{culprits} builds"
    hint = None
    if any(_FULL in line for outcome in failed for line in outcome.tail):
        hint = "make room on the store's disk, `lockbuild store gc` for one, and run it again: what is built is kept"
    elif any(outcome.status == "failed" and outcome.name in edited for outcome in failed):
        hint = (
            "correct the edit in the stack file, or the patch, and `lockbuild resolve`: all else is kept"
        )
    elif any(outcome.message.startswith("expected ") for outcome in failed):
        hint = (
            "correct name, version or `expects` of the build in the stack file, and `lockbuild resolve`; "
            "or find out in the log why the wheel is otherwise"
        )
    else:
        lines = (f"{one.name}: {mend}" for one in failed for mend in remedies(_end_of_log(one)))
        hint = "\n".join(lines) or None
    return BuildError(f"{count} failed", details=tuple(details), hint=hint)


def _end_of_log(outcome: BuildOutcome) -> str:
    """Return more of a log than is told: what compilers said stands before the traceback of the setup.py that ran them."""
    if outcome.log is None or not outcome.log.exists():
        return "\n".join(outcome.tail)
    with outcome.log.open("rb") as stream:
        stream.seek(max(0, outcome.log.stat().st_size - _LOG_BYTES))
        return stream.read().decode("utf-8", errors="replace")
