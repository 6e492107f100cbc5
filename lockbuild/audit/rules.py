"""What the checks of an audit have in common: what they look at, and what they say."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping
    from datetime import date
    from pathlib import Path

    from lockbuild.components import Component
    from lockbuild.findings import Check, Level
    from lockbuild.lock import Lock
    from lockbuild.osv import Database
    from lockbuild.placing import SourceTree
    from lockbuild.plan import Plan
    from lockbuild.stack import Stack
    from lockbuild.store import Store
    from lockbuild.wheelhouse import Manifest

__all__ = ["Found", "ImageContents", "Rule", "Skip", "Subject"]


@dataclass(frozen=True, slots=True, kw_only=True)
class ImageContents:
    """What an image holds, read without running it."""

    reference: str
    packages: Mapping[str, str]
    """Normalised Python project -> version."""
    debs: Mapping[str, str]
    """Debian package -> version."""
    labels: Mapping[str, str]
    sources: Mapping[str, Mapping[str, str]]
    """Name of each source -> path below its folder -> sha256 of a file, or target of a link."""
    conda: Mapping[str, str] = field(default_factory=dict)
    """Conda package -> version and build."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Subject:
    """What is audited. What is not there yet is none, and the checks that need it say so."""

    stack: Stack
    lock: Lock
    plan: Plan
    store: Store
    wheelhouse: Path
    manifest: Manifest | None
    dockerfile: str | None
    rendered: str
    """The Dockerfile as it would be rendered now."""
    image: ImageContents | None
    today: date
    """Waivers end at a day."""
    trees: tuple[SourceTree, ...] | None = None
    """What the image must have of sources; none where the store has not got all of it."""
    no_image: str = ""
    """Why there is no image to look at."""
    components: tuple[Component, ...] = ()
    """What stack and image are made of."""
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
