"""May the parts of an image be passed on under the licences that they tell?"""

from __future__ import annotations

from typing import TYPE_CHECKING

from lockbuild.audit.rules import Found, Rule, Skip
from lockbuild.findings import Check
from lockbuild.licences.expressions import acceptable, licences_in
from lockbuild.licences.patterns import fits
from lockbuild.stack.assets import forbids_redistribution

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from lockbuild.audit.rules import Subject
    from lockbuild.components import Component

__all__ = ["RULES"]

_SHOWN = 3


def _parts(subject: Subject) -> Iterator[Component]:
    # A base image is judged by the packages that it brings along.
    return (one for one in subject.components if one.in_image and one.kind != "base")


def _licence_unknown(subject: Subject) -> Iterator[Found]:
    level = subject.stack.audit.licences.unknown
    if level == "off":
        raise Skip("switched off by the stack: `audit.licenses.unknown`")
    for one in _parts(subject):
        if not one.licence:
            yield Found(one.ref, _silence(one), level="error" if level == "error" else "warning")


def _silence(component: Component) -> str:
    """Return in words why the licence of *component* is not known, and where to look."""
    if component.installed_size is None and component.kind in ("wheel", "deb", "conda", "interpreter"):
        return "the store has not got it, so nothing tells its licence: `lockbuild fetch`"
    said = "nothing that is known tells its licence"
    if component.declared:
        said = f"`{component.declared}` is all that it says, which does not tell its licence"
    files = _listed(file.name for file in component.licence_files[:_SHOWN])
    return f"{said}; see {files}" if files else said


def _licence_denied(subject: Subject) -> Iterator[Found]:
    deny = subject.stack.audit.licences.deny
    for one in _parts(subject):
        if one.licence and not acceptable(one.licence, lambda name: not fits(name, deny)):
            denied = [name for name in licences_in(one.licence) if fits(name, deny)]
            yield Found(one.ref, _words(one, f"`audit.licenses.deny` has {_listed(denied)}"))


def _licence_not_allowed(subject: Subject) -> Iterator[Found]:
    allow = subject.stack.audit.licences.allow
    for one in _parts(subject):
        if allow and one.licence and not acceptable(one.licence, lambda name: fits(name, allow)):
            other = [name for name in licences_in(one.licence) if not fits(name, allow)]
            yield Found(one.ref, _words(one, f"`audit.licenses.allow` has no {_listed(other)}"))


def _words(component: Component, why: str) -> str:
    told = f" (told by: {component.told_by})" if component.told_by else ""
    return f"is under `{component.licence}`{told}: {why}"


def _listed(names: Iterable[str]) -> str:
    return ", ".join(f"`{name}`" for name in names)


def _licence_redistribution(subject: Subject) -> Iterator[Found]:
    stack = subject.stack
    said = {f"asset:{one.name}": one for one in stack.bundles}
    said_of_sources = {one.name: one for one in stack.placed}
    for one in _parts(subject):
        if one.kind not in ("asset", "source", "wheel", "conda"):
            continue
        # A submodule is accepted with the source that it is in.
        stated = said.get(one.ref) or (
            said_of_sources.get(one.name.partition("/")[0]) if one.kind == "source" else None
        )
        if stated and stated.accept_license:
            continue
        # Of a `LicenseRef-…` in its own `license` the stack has already said that it may be passed on.
        own = stated is None or stated.license == one.licence
        licence = one.licence or (stated.license if stated else "")
        if licence and forbids_redistribution(licence, redistributable=True if own else None):
            yield Found(one.ref, f"is in the image, and `{licence}` does not let everybody pass it on")


def _licence_conflicting_words(subject: Subject) -> Iterator[Found]:
    for one in _parts(subject):
        if one.doubt and one.told_by != "stack":
            yield Found(one.ref, f"is under `{one.licence}` by its {one.told_by}; {one.doubt}")


def _licence_of_nobody(subject: Subject) -> Iterator[Found]:
    if not subject.components:
        raise Skip("nothing is known of what the stack is made of")
    names = {name for one in subject.components for name in (one.name, f"{one.kind}:{one.name}")}
    for name, licence in subject.stack.audit.licences.of:
        if name not in names:
            yield Found(
                f"audit.licenses.of.{name}", f"`{licence}` is told of what the stack has not got"
            )


RULES = (
    Rule(
        Check(
            id="licence-unknown",
            level="warning",
            what="every part of the image tells its licence",
            why="without one nobody but its authors may pass it on, or even use it",
            mend="read its licence, and write that into `audit.licenses.of` of the stack; `unknown` sets the level",
        ),
        _licence_unknown,
    ),
    Rule(
        Check(
            id="licence-denied",
            level="error",
            what="no part of the image is under a licence that the stack denies",
            why="the image may not be used for what it is meant for",
            mend="take another package or version; `audit.licenses.of` where its licence is told wrongly",
        ),
        _licence_denied,
    ),
    Rule(
        Check(
            id="licence-not-allowed",
            level="error",
            what="every part of the image is under licences that the stack allows, where it lists any",
            why="nobody has looked at that licence yet",
            mend="look at it, then add it to `audit.licenses.allow`, or take another package",
        ),
        _licence_not_allowed,
    ),
    Rule(
        Check(
            id="licence-redistribution",
            level="error",
            what="everybody may pass on what the image bundles, or the stack says why it may hold it",
            why="whoever pushes the image passes it on",
            mend="mount it instead (`policy`), or `accept-license` with the reason",
        ),
        _licence_redistribution,
    ),
    Rule(
        Check(
            id="licence-conflicting-words",
            level="warning",
            what="metadata and licence files of a part name the same licence",
            why="one of them is wrong, and only its authors know which",
            mend="read its licence, and write that into `audit.licenses.of` of the stack",
        ),
        _licence_conflicting_words,
    ),
    Rule(
        Check(
            id="licence-of-nobody",
            level="warning",
            what="every licence that the stack tells is that of a part",
            why="a misspelt name changes nothing, and nobody would know",
            mend="correct the name in `audit.licenses.of`, or take it out",
        ),
        _licence_of_nobody,
    ),
)
