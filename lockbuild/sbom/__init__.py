"""Bills of materials: what a stack and its image are made of, in the field's two languages. Pure.

A document follows from stack, lock and components, and from nothing else: no time, no random number, no machine.
What nobody knows of a component, as the store has it not, is left out, and the document says that it is incomplete.
`cyclonedx` and `spdx` write it with the models of each standard's own library; what both say is here.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal
from uuid import UUID, uuid5

from lockbuild.digest import canonical_json, sha256_of
from lockbuild.edits import Graft, Patch

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from lockbuild.components import Component
    from lockbuild.digest import Sha256
    from lockbuild.edits import Edit
    from lockbuild.findings import Finding
    from lockbuild.lock import Lock, LockedFile
    from lockbuild.stack import Stack

__all__ = ["Bill", "Edited", "Part", "bill_of", "own_words", "uuid_of", "version_of"]

Role = Literal["held", "mounted", "used"]

_NAMESPACE = UUID("6f2f3c9e-8b0c-5d5e-9a57-3d6c1c5a7f10")
"""Of the names that documents are given: drawn once, never changed."""

_OWN_WORDS = frozenset({"License-Expression", "License", "classifiers", "copyright"})
_COMMIT = re.compile(r"[0-9a-f]{40}")
# A repository, a file, or an image of a registry: its host, and whose it is there.
_ADDRESS = re.compile(r"(?:https?://)?([^/?#\s]+\.[^/?#\s]+)(?:/([^/?#]+)/)?.*")
_SUPPLIERS = {"pypi": "PyPI", "debian": "Debian", "ubuntu": "Ubuntu"}


@dataclass(frozen=True, slots=True, kw_only=True)
class Edited:
    """How a source was changed before it was compiled or went into the image."""

    patches: tuple[tuple[str, LockedFile], ...]
    """Path below the stack's folder, and content."""
    notes: tuple[str, ...]
    """A line for each edit: what it changes, and why."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Part:
    """A component as both standards see it."""

    component: Component
    role: Role
    tree: bool
    """Whether its hash is that of a listing, which nobody else could compute."""
    edited: Edited | None
    source: Component | None
    """What it was compiled from."""
    supplier: str
    """Who gives it out; of what was compiled here, who gives out its source. Empty where nobody says it."""

    @property
    def ref(self) -> str:
        """Its component's ref."""
        return self.component.ref


@dataclass(frozen=True, slots=True, kw_only=True)
class Bill:
    """What a document says."""

    stack: str
    summary: str
    lock: Sha256
    parts: tuple[Part, ...]
    """Sorted by ref."""
    findings: tuple[Finding, ...] = ()
    """Vulnerabilities that an audit found; CycloneDX has a place for them."""

    def of(self, role: Role) -> tuple[Part, ...]:
        """Return the parts of that *role*."""
        return tuple(part for part in self.parts if part.role == role)

    @property
    def edges(self) -> dict[str, tuple[str, ...]]:
        """Ref of each part of the image -> refs of those of the image that it needs; no part needs itself.

        Parts of which that is not known are left out.
        """
        held, unread = {part.ref for part in self.of("held")}, set(self.unread)
        return {
            part.ref: tuple(sorted({need for need in part.component.needs if need in held} - {part.ref}))
            for part in self.of("held")
            if part.ref not in unread
        }

    @property
    def roots(self) -> tuple[str, ...]:
        """Refs of what the stack asks for itself, and of what nothing else needs; sorted.

        A part may be needed by any of its kind whose needs are not known.
        """
        needed = {need for needs in self.edges.values() for need in needs}
        unread = set(self.unread)
        blind = {part.component.kind for part in self.of("held") if part.ref in unread}
        return tuple(
            part.ref
            for part in self.of("held")
            if part.component.requested or not (part.ref in needed or part.component.kind in blind)
        )

    @property
    def unread(self) -> tuple[str, ...]:
        """Refs of the parts of the image of which nobody knows what they need; sorted."""
        return tuple(
            part.ref for part in self.of("held") if not (part.component.needs_known or _is_base(part))
        )

    @property
    def base_unread(self) -> bool:
        """Whether the image holds what a base brings along, and nobody knows what that is."""
        return any(_is_base(part) and not part.component.needs_known for part in self.of("held"))


def bill_of(
    stack: Stack, lock: Lock, components: Iterable[Component], findings: Iterable[Finding] = ()
) -> Bill:
    """Return what there is to say of *components*, those of *stack* and *lock*."""
    components = sorted(components, key=lambda component: component.ref)
    sources = {one.name: one for one in components if one.kind == "source"}
    edited = {
        **{spec.name: _edited(spec.edits, spec.name, lock) for spec in stack.builds if spec.edits},
        **{one.name: _edited(one.edits, one.name, lock) for one in stack.placed if one.edits},
    }
    listings = {source.name for source in lock.sources if source.commit}
    members = {asset.name for asset in lock.assets if asset.archive}
    return Bill(
        stack=stack.name,
        summary=stack.summary,
        lock=lock.digest,
        findings=tuple(findings),
        parts=tuple(
            Part(
                component=one,
                role=_role(one),
                tree=one.name in {"source": listings, "asset": members}.get(one.kind, ()),
                # What is only compiled with is as it was fetched.
                edited=edited.get(one.name) if one.built or one.in_image else None,
                source=sources.get(one.name) if one.built else None,
                supplier=_supplier(sources.get(one.name, one) if one.built else one, stack.name),
            )
            for one in components
        ),
    )


def _is_base(part: Part) -> bool:
    return part.component.kind == "base"


def _edited(edits: Iterable[Edit], name: str, lock: Lock) -> Edited:
    files = next((source.patches for source in lock.sources if source.name == name), ())
    return Edited(patches=files, notes=tuple(_noted(edit, dict(files)) for edit in edits))


def _noted(edit: Edit, files: Mapping[str, LockedFile]) -> str:
    if isinstance(edit, Patch):
        sha256 = f" sha256:{files[edit.path].sha256}" if edit.path in files else ""
        return f"patch {edit.path}{sha256}: {edit.reason}"
    if isinstance(edit, Graft):
        return f"{edit.put} is {edit.take} of {edit.source}: {edit.reason}"
    return f"text replaced in {edit.file}: {edit.reason}"


def _role(component: Component) -> Role:
    """Tell whether the image holds *component*, whoever runs it brings it along, or it was only compiled with."""
    if component.in_image:
        return "held"
    return "mounted" if component.kind == "asset" else "used"


def version_of(component: Component) -> str:
    """Return a version: where there is none, the content is what tells one from another."""
    return component.version or (f"sha256:{component.sha256[:12]}" if component.sha256 else "")


def _supplier(component: Component, stack: str) -> str:
    """Return who gives it out: an index, an archive, an account of a host, or the *stack*; empty where nobody says it."""
    origin = component.origin
    if component.kind == "source" and component.purl.startswith("pkg:generic/") and "://" not in origin:
        return stack  # A folder beside the stack file.
    if "/" in origin and (address := _ADDRESS.fullmatch(origin)):
        return "/".join(part for part in address.groups() if part)
    words = origin.split()
    return _SUPPLIERS.get(words[0], words[0]) if words else ""


def own_words(component: Component) -> bool:
    """Tell whether a component's licence is what it says of itself, and not what was read out of a text."""
    return component.told_by in _OWN_WORDS


def uuid_of(document: Mapping[str, Any]) -> UUID:
    """Return the name of a *document* that has none yet: another content is another document."""
    return uuid5(_NAMESPACE, sha256_of(canonical_json(dict(document))))
