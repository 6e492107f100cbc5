"""What a stack and its image are made of, one value for each part. Pure.

Everything that asks "what is in it?" looks at these: licences, vulnerabilities, SBOMs, the report, `diff`, `why`
and `graph`. `lockbuild.inventory` finds them out from lock and store.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

if TYPE_CHECKING:
    from lockbuild.digest import Sha256, StorePath

__all__ = ["Component", "Kind", "LicenceFile", "ref_of"]

Kind = Literal["wheel", "deb", "conda", "source", "asset", "base", "interpreter"]


@dataclass(frozen=True, slots=True, kw_only=True)
class LicenceFile:
    """A text that has to go along with a component."""

    name: str
    """Its path in the component: `torch-2.0.1.dist-info/LICENSE`, `usr/share/doc/zlib1g/copyright`."""
    sha256: Sha256
    """Equal texts of several components are one."""
    path: StorePath | None = None
    """The store object that has it."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Component:
    """One part of a stack: what the lock names, with what the store knows of it."""

    ref: str
    """Unique in the stack: see `ref_of`."""
    kind: Kind
    name: str
    """Normalised for wheels; as the archive, the channel or the stack calls it for all else."""
    version: str
    """Of a .deb with epoch and revision, of a wheel with its local label, of a source its commit; may be empty."""
    purl: str
    """Package URL; empty for what no type of it fits."""
    sha256: Sha256 | None
    """Of the file as it was fetched or built; of the listing for trees; none where the lock has none."""
    size: int | None
    """Bytes of that file."""
    installed_size: int | None = None
    """Bytes that it takes in the image; none where the store has not got it."""
    in_image: bool = True
    """Whether the image holds it; else it was only compiled with, or is mounted."""
    built: bool = False
    """Whether lockbuild compiled it."""
    path: StorePath | None = None
    """Of its fetch, or of the build that gave it."""
    origin: str = ""
    """Where it is from, for people: `pypi`, `debian bookworm`, an address of a repository or file."""
    source_name: str = ""
    """Debian's source package of a .deb; empty for other kinds."""
    source_version: str = ""
    """Its version: vulnerabilities of .debs are told by source package."""
    needs: tuple[str, ...] = ()
    """Refs of the components that it needs to run, sorted."""
    needs_known: bool = True
    """Whether that is all: what a .deb needs, and what a base image brings along, nobody knows before the store has it."""
    requested: bool = False
    """Whether the stack itself asks for it."""
    licence: str = ""
    """SPDX expression; empty where nothing tells."""
    declared: str = ""
    """What it says of itself, word for word and on one line: a classifier, a free text, a short name of Debian's."""
    told_by: str = ""
    """What the expression comes from: `License-Expression`, `License`, `classifiers`, `licence file`, `copyright`,
    `stack`; empty where nothing tells."""
    doubt: str = ""
    """What else it says of its licence that contradicts `licence`, word for word; empty where all agrees."""
    licence_files: tuple[LicenceFile, ...] = ()


def ref_of(kind: Kind, name: str, version: str = "") -> str:
    """Return the ref of a component: `wheel:torch@2.0.1`, `deb:libc6@2.36-9`, `asset:weights`."""
    return f"{kind}:{name}@{version}" if version else f"{kind}:{name}"
