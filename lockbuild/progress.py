"""What long work tells whoever shows it. Nothing here prints."""

from __future__ import annotations

from contextlib import contextmanager
from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    from collections.abc import Iterator
    from contextlib import AbstractContextManager

__all__ = ["Phase", "Progress", "Silent"]


class Phase(Protocol):
    """One long phase, from its start to its end. Methods may be called from several threads."""

    def advance(self, amount: int) -> None:
        """Tell that *amount* more is done; negative when something must be done again."""

    def line(self, text: str) -> None:
        """Tell that one step of the phase ended, in words."""

    def steps(self, part: str, done: int, total: int | None) -> None:
        """Tell how far a part of the phase has come that has steps of its own: a build, and its compilers.

        Args:
            total: None where it is not known.
        """

    def ended(self, part: str) -> None:
        """Tell that a part is over, which may have told of steps."""


class Progress(Protocol):
    """Shows phases as they run."""

    def phase(self, name: str, *, total: int | None, unit: str) -> AbstractContextManager[Phase]:
        """Begin a phase.

        Args:
            name: What is being done: `fetching`.
            total: How much there is to do; none where that is not known.
            unit: `bytes`, or a noun in the plural: `packages`.
        """


class Silent:
    """Shows nothing: for libraries and tests."""

    def advance(self, amount: int) -> None:
        """Take no notice."""

    def line(self, text: str) -> None:
        """Take no notice."""

    def steps(self, part: str, done: int, total: int | None) -> None:
        """Take no notice."""

    def ended(self, part: str) -> None:
        """Take no notice."""

    @contextmanager
    def phase(self, name: str, *, total: int | None, unit: str) -> Iterator[Silent]:  # noqa: ARG002
        """Begin a phase that nobody sees."""
        yield self
