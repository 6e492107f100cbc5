"""Is what an image holds what was locked?"""

from __future__ import annotations

from typing import TYPE_CHECKING

from lockbuild.audit.rules import Found, Rule, Skip
from lockbuild.findings import Check

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from lockbuild.audit.rules import ImageContents, Subject

__all__ = ["LOCK_LABEL", "RULES"]

_SHOWN = 5
LOCK_LABEL = "io.lockbuild.lock"


def _image(subject: Subject) -> ImageContents:
    if subject.image is None:
        raise Skip(subject.no_image or "there is no image yet: `lockbuild image`")
    return subject.image


def _compare(found: Mapping[str, str], locked: Mapping[str, str]) -> Iterator[Found]:
    for name in sorted({*found, *locked}):
        if name not in locked:
            yield Found(name, f"{found[name]} is in the image, but not in the lock")
        elif name not in found:
            yield Found(name, f"{locked[name]} is locked, but not in the image")
        elif found[name] != locked[name]:
            yield Found(name, f"the image has {found[name]}, the lock {locked[name]}")


def _image_packages(subject: Subject) -> Iterator[Found]:
    locked = {package.name: package.version for package in subject.lock.runtime}
    yield from _compare(_image(subject).packages, locked)


def _image_debs(subject: Subject) -> Iterator[Found]:
    locked = {deb.package: deb.version for deb in subject.lock.debs if "runtime" in deb.roots}
    found = _image(subject).debs
    if not subject.stack.base.debian:
        # The others came with the base image, whose digest is locked.
        found = {name: version for name, version in found.items() if name in locked}
    yield from _compare(found, locked)


def _image_sources(subject: Subject) -> Iterator[Found]:
    found = _image(subject).sources
    if subject.trees is None:
        raise Skip("the store has not got every source: `lockbuild build`")
    for tree in subject.trees:
        files = found.get(tree.name, {})
        wrong = [
            f"{entry.path} {'is another' if entry.path in files else 'is missing'}"
            for entry in tree.entries
            if entry.kind != "folder" and files.get(entry.path) != entry.content
        ]
        more = [f"{len(wrong) - _SHOWN} more"] if len(wrong) > _SHOWN else []
        if wrong:
            yield Found(tree.name, f"below {tree.path}: {', '.join([*wrong[:_SHOWN], *more])}")


def _image_conda(subject: Subject) -> Iterator[Found]:
    locked = {package.name: f"{package.version} {package.build}" for package in subject.lock.conda}
    yield from _compare(_image(subject).conda, locked)


def _image_lock(subject: Subject) -> Iterator[Found]:
    image = _image(subject)
    found = image.labels.get(LOCK_LABEL, "absent")
    if found != f"sha256:{subject.lock.digest}":
        yield Found(
            image.reference,
            f"label {LOCK_LABEL} is {found}, the lock's digest sha256:{subject.lock.digest}",
        )


RULES = (
    Rule(
        Check(
            id="image-packages",
            level="error",
            what="the image's Python packages are those of the lock",
            why="what runs must be what was resolved",
            mend="`lockbuild image`",
            about="image",
        ),
        _image_packages,
    ),
    Rule(
        Check(
            id="image-debs",
            level="error",
            what="the image's Debian packages are those of the lock",
            why="what runs must be what was resolved",
            mend="`lockbuild image`",
            about="image",
        ),
        _image_debs,
    ),
    Rule(
        Check(
            id="image-sources",
            level="error",
            what="the image has every file of its sources as the lock and its edits make it",
            why="a file that was changed is another program",
            mend="`lockbuild image`",
            about="image",
        ),
        _image_sources,
    ),
    Rule(
        Check(
            id="image-conda",
            level="error",
            what="the image's conda packages are those of the lock",
            why="what runs must be what was resolved",
            mend="`lockbuild image`",
            about="image",
        ),
        _image_conda,
    ),
    Rule(
        Check(
            id="image-lock",
            level="error",
            what="the image was made from this lock",
            why="an image of an older lock looks the same from outside",
            mend="`lockbuild image`",
            about="image",
        ),
        _image_lock,
    ),
)
