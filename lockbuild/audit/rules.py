"""What the checks of an audit have in common: what they look at, and what they say."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from lockbuild.progress import Silent

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping
    from datetime import date
    from pathlib import Path

    from lockbuild.audit.drift import Drift
    from lockbuild.audit.expected import Expected
    from lockbuild.audit.online import Upstream
    from lockbuild.components import Component
    from lockbuild.findings import Check, Level
    from lockbuild.image.manifests import LayeredImage
    from lockbuild.lock import Lock
    from lockbuild.osv import Database
    from lockbuild.plan import Plan
    from lockbuild.progress import Progress
    from lockbuild.stack import Stack
    from lockbuild.store import Store
    from lockbuild.wheelhouse import Manifest

__all__ = ["Found", "ImageContents", "LockDrift", "NoPlan", "Rule", "Skip", "Subject", "manifest_of"]


@dataclass(frozen=True, slots=True, kw_only=True)
class ImageContents:
    """What an image holds, read without running it, and where that is not what was locked."""

    reference: str
    image: LayeredImage
    expected: Expected
    drift: Drift


@dataclass(frozen=True, slots=True, kw_only=True)
class LockDrift:
    """How a lock is not what `resolve` wrote, or no more what the stack asks for; false when all is well."""

    moved: tuple[str, ...] = ()
    """A line for each input of the stack that has changed since."""
    edited: tuple[tuple[str, tuple[str, ...]], ...] = ()
    """What is wrong with each file that was edited, and the digests that tell."""
    texts: Mapping[str, str] = field(default_factory=dict)
    """File name -> text of every lock file."""

    def __bool__(self) -> bool:
        return bool(self.moved or self.edited)


class NoPlan:
    """Stands for a plan that cannot be made of a drifted lock: a check that looks at it is skipped."""

    def __init__(self, reason: str) -> None:
        self._reason = reason

    def __getattr__(self, name: str) -> Any:  # noqa: ANN401 - of a plan
        raise Skip(self._reason)


@dataclass(frozen=True, slots=True, kw_only=True)
class Subject:
    """What is audited. What is not there yet is none, and the checks that need it say so."""

    stack: Stack
    lock: Lock
    plan: Plan
    store: Store
    wheelhouse: Path
    manifest: Manifest | None
    """None also where it cannot be read."""
    dockerfile: str | None
    rendered: str
    """The Dockerfile as it would be rendered now."""
    image: ImageContents | None
    today: date
    """Waivers end at a day."""
    venv: Path | None = None
    """A virtual environment to look into."""
    no_image: str = ""
    """Why there is no image to look at."""
    components: tuple[Component, ...] = ()
    """What stack and image are made of."""
    upstream: Upstream | None = None
    """Who asks those that serve what is locked; none unless that was asked for."""
    drift: LockDrift = field(default_factory=LockDrift)
    """How the lock has moved from the stack, and from what was written."""
    progress: Progress = field(default_factory=Silent)
    """Told of what takes long."""
    no_manifest: str = ""
    """Why the manifest that is there cannot be read."""
    osv: Database | None = None
    """What a local OSV export says of its packages; none where nobody named one."""


@dataclass(frozen=True, slots=True)
class Found:
    """One thing that a rule found; `audit` makes a `Finding` of it."""

    subject: str
    message: str
    layer: str = ""
    facts: tuple[tuple[str, str], ...] = ()
    level: Level | None = None
    """Where it is not as grave, or graver, than its check says."""


@dataclass(frozen=True, slots=True)
class Rule:
    """A check, and what finds where it does not hold."""

    check: Check
    find: Callable[[Subject], Iterator[Found]]


class Skip(Exception):
    """A check cannot run, for the reason given."""


def manifest_of(subject: Subject) -> Manifest:
    """Return the manifest of the wheelhouse.

    Raises:
        Skip: There is none, or it cannot be read.
    """
    if subject.manifest is None:
        unread = "the wheelhouse's manifest cannot be read: `lockbuild build` writes it anew"
        raise Skip(unread if subject.no_manifest else "there is no wheelhouse yet: `lockbuild build`")
    return subject.manifest
