"""Auditing: is what is there what was locked? Asks neither network nor engine; hashes bytes again.

`CHECKS` is the one table of what is looked at, why, and how it is mended.
"""

from __future__ import annotations

import tarfile
from dataclasses import dataclass, field
from functools import partial
from typing import TYPE_CHECKING

from lockbuild import cells, wheels
from lockbuild.assets import first_seen
from lockbuild.condalock import LINK_SCRIPT
from lockbuild.derivation import PREFIX_TAR, Build, Fetch
from lockbuild.dockerfile.steps import network_steps
from lockbuild.errors import LockbuildError
from lockbuild.findings import Check, Finding, Report
from lockbuild.packing import strays, verify_wheelhouse

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping
    from pathlib import Path

    from lockbuild.lock import Lock
    from lockbuild.placing import SourceTree
    from lockbuild.plan import Plan
    from lockbuild.stack import Stack
    from lockbuild.store import Store
    from lockbuild.wheelhouse import Manifest

__all__ = ["CHECKS", "Check", "Finding", "ImageContents", "Report", "Subject", "audit"]


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
    trees: tuple[SourceTree, ...] | None = None
    """What the image must have of sources; none where the store has not got all of it."""
    no_image: str = ""
    """Why there is no image to look at."""


CHECKS = (
    Check(
        id="wheel-bytes",
        level="error",
        what="every wheel of the wheelhouse has the bytes that the lock or the manifest names",
        why="a changed wheel is another program",
        mend="delete the file if it is there, then `lockbuild build`",
    ),
    Check(
        id="wheel-extra",
        level="error",
        what="the wheelhouse holds nothing beyond the lock",
        why="pip takes whatever it finds there",
        mend="delete the file, or run `lockbuild build`",
    ),
    Check(
        id="wheel-record",
        level="error",
        what="every wheel's RECORD is true of its members",
        why="installers trust RECORD; what it does not list is never checked or removed",
        mend="build the wheel again, or replace the release",
    ),
    Check(
        id="wheel-tags",
        level="error",
        what="every wheel fits the target",
        why="pip refuses it in the image",
        mend="`lockbuild resolve --upgrade-package NAME`, or correct `target` in the stack",
    ),
    Check(
        id="build-pinned",
        level="warning",
        what="the lock pins the bytes of every built wheel",
        why="only then is a build that gives other bytes noticed",
        mend="`lockbuild build`, then `lockbuild resolve`",
    ),
    Check(
        id="open",
        level="error",
        what="the lock pins all that the image is made of",
        why="what is open can be anything, and no image can be made without it",
        mend="`lockbuild resolve` where it can be had",
    ),
    Check(
        id="on-first-fetch",
        level="warning",
        what="the hash of every asset and pinned wheel is told by somebody beside the server that gave it",
        why="whatever the server gave at the first fetch was taken for the true file",
        mend="compare with what others have, then write the sha256 into the stack",
    ),
    Check(
        id="moving-ref",
        level="warning",
        what="the stack names the commit of every source from git",
        why="a branch or tag may stand for another commit at the next `lockbuild resolve --upgrade`",
        mend="write the commit into the stack, in place of `ref`",
    ),
    Check(
        id="interpreter-host",
        level="warning",
        what="Python can be fetched by everybody",
        why="what one machine has is nowhere else, and no other machine's Python is the same bytes",
        mend="take `interpreter.apt`, `standalone` or `conda`; or pass the store on with the lock",
    ),
    Check(
        id="store-bytes",
        level="error",
        what="every store object that the image is made of has the bytes of its record",
        why="disks and people change files",
        mend="`lockbuild store repair`, then run the command again",
    ),
    Check(
        id="base-pinned",
        level="error",
        what="both root file systems follow from locked .debs, or from locked images",
        why="a base that moves makes another image next year",
        mend="`lockbuild resolve`",
    ),
    Check(
        id="conda-scripts",
        level="warning",
        what="no conda package brings a script that is to run when it is installed",
        why="lockbuild runs none, and what such a script does is missing from the image",
        mend="see what it does, and do it in a build or before the image's command",
    ),
    Check(
        id="dockerfile-current",
        level="error",
        what="the Dockerfile is what the lock renders",
        why="an edited Dockerfile builds something that nobody locked",
        mend="`lockbuild render`",
    ),
    Check(
        id="dockerfile-network",
        level="error",
        what="no step of the Dockerfile can use a network",
        why="what a step downloads is in no lock",
        mend="take the step out; what it brings belongs into the stack",
    ),
    Check(
        id="image-packages",
        level="error",
        what="the image's Python packages are those of the lock",
        why="what runs must be what was resolved",
        mend="`lockbuild image`",
    ),
    Check(
        id="image-debs",
        level="error",
        what="the image's Debian packages are those of the lock",
        why="what runs must be what was resolved",
        mend="`lockbuild image`",
    ),
    Check(
        id="image-sources",
        level="error",
        what="the image has every file of its sources as the lock and its edits make it",
        why="a file that was changed is another program",
        mend="`lockbuild image`",
    ),
    Check(
        id="image-conda",
        level="error",
        what="the image's conda packages are those of the lock",
        why="what runs must be what was resolved",
        mend="`lockbuild image`",
    ),
    Check(
        id="image-lock",
        level="error",
        what="the image was made from this lock",
        why="an image of an older lock looks the same from outside",
        mend="`lockbuild image`",
    ),
    *cells.CHECKS,
)

_SHOWN = 5
LOCK_LABEL = "io.lockbuild.lock"


class _Skip(Exception):
    """A check cannot run, for the reason given."""


def audit(subject: Subject) -> Report:
    """Run every check of `CHECKS` on *subject*."""
    findings: list[Finding] = []
    passed: list[str] = []
    skipped: list[tuple[str, str]] = []
    for check in CHECKS:
        try:
            found = [
                Finding(
                    check=check.id, level=check.level, subject=name, message=message, mend=check.mend
                )
                for name, message in _RULES[check.id](subject)
            ]
        except _Skip as reason:
            skipped.append((check.id, str(reason)))
            continue
        findings += found
        if not found:
            passed.append(check.id)
    return Report(findings=tuple(findings), passed=tuple(passed), skipped=tuple(skipped))


_Found = tuple[str, str]


def _manifest(subject: Subject) -> Manifest:
    if subject.manifest is None:
        raise _Skip("there is no wheelhouse yet: `lockbuild build`")
    return subject.manifest


def _wheel_bytes(subject: Subject) -> Iterator[_Found]:
    manifest = _manifest(subject)
    expected = {p.wheel.filename: p.wheel.sha256 for p in subject.lock.runtime if p.wheel}
    expected |= {pin.wheel.filename: pin.wheel.sha256 for pin in subject.lock.pins}
    for entry in manifest.wheels:
        locked = expected.get(entry.filename)
        if locked and locked != entry.sha256:
            yield entry.filename, f"the manifest says sha256 {entry.sha256}, the lock {locked}"
    present = {entry.name for entry in manifest.wheels}
    for package in subject.lock.runtime:
        if package.name not in present:
            yield package.name, f"{package.version} is locked, but not in the manifest"
    if manifest.wheels and not any((subject.wheelhouse / e.filename).exists() for e in manifest.wheels):
        yield subject.wheelhouse.name, f"none of its {len(manifest.wheels)} wheels is there"
        return
    for fault in verify_wheelhouse(subject.wheelhouse, manifest):
        name, _, message = fault.partition(": ")
        yield name, message


def _wheel_extra(subject: Subject) -> Iterator[_Found]:
    locked = {(package.name, package.version) for package in subject.lock.runtime}
    for entry in _manifest(subject).wheels:
        if (entry.name, entry.version) not in locked:
            yield entry.filename, "in the manifest, but not in the lock"
    for path in strays(subject.wheelhouse, _manifest(subject)):
        yield path.name, "not in the manifest"


def _wheel_record(subject: Subject) -> Iterator[_Found]:
    expects = {spec.name: spec.expects for spec in subject.stack.builds}
    for entry in _manifest(subject).wheels:
        path = subject.wheelhouse / entry.filename
        if path.is_file():
            for fault in wheels.check_wheel(path, expects=expects.get(entry.name, ())):
                yield entry.filename, fault


def _wheel_tags(subject: Subject) -> Iterator[_Found]:
    target = subject.stack.target
    for entry in _manifest(subject).wheels:
        if not wheels.wheel_matches(entry.filename, target):
            yield (
                entry.filename,
                f"does not fit Python {target.python}, {target.platform}, glibc {target.glibc}",
            )


def _build_pinned(subject: Subject) -> Iterator[_Found]:
    for spec in subject.stack.builds:
        if subject.lock.pin(spec.name) is None:
            yield spec.name, "the lock does not pin its bytes"


def _open(subject: Subject) -> Iterator[_Found]:
    for part in subject.lock.open_parts:
        yield part.label, part.reason


def _on_first_fetch(subject: Subject) -> Iterator[_Found]:
    locked = {asset.name: asset.sha256 for asset in subject.lock.assets}
    pinned = {package.name: package.wheel for package in subject.lock.runtime}
    seen = [(name, locked.get(name)) for name in first_seen(subject.stack)]
    seen += [
        (one.name, file.sha256)
        for one in subject.stack.python.wheels
        if one.first_fetched and (file := pinned.get(one.name))
    ]
    for name, sha256 in seen:
        if sha256:
            yield name, f"nobody told its hash beforehand: sha256 {sha256}"


def _moving_ref(subject: Subject) -> Iterator[_Found]:
    for source in subject.lock.sources:
        if source.ref:
            yield source.name, f"`{source.ref}` stood for {source.commit} when it was resolved"


def _interpreter_host(subject: Subject) -> Iterator[_Found]:
    if interpreter := subject.lock.interpreter:
        yield (
            interpreter.file.filename,
            "comes from the machine that resolved; nobody else can fetch it",
        )


def _store_bytes(subject: Subject) -> Iterator[_Found]:
    fetched = [d.path for d in subject.plan.derivations.values() if isinstance(d, Fetch)]
    valid = subject.store.valid([*subject.plan.targets, *fetched])
    if not valid:
        raise _Skip("the store holds nothing of this stack: `lockbuild fetch`")
    for path in sorted(valid):
        try:
            subject.store.check(path)
        except LockbuildError as error:
            yield str(path), "; ".join((error.message, *error.details))


def _base_pinned(subject: Subject) -> Iterator[_Found]:
    bases = subject.lock.open_of("base")
    for root, reference in subject.stack.base.images:
        image = subject.lock.image(root)
        if root not in bases and (image is None or image.digest is None):
            yield root, f"the image `{reference}` is not locked"
    if bases or subject.lock.open_of("apt"):
        raise _Skip("base images or Debian packages are open")
    for root, _ in subject.plan.roots if subject.stack.base.debian else ():
        if not any(root in deb.roots for deb in subject.lock.debs):
            yield root, "no .deb is locked for it"


def _conda_scripts(subject: Subject) -> Iterator[_Found]:
    builds = (d for d in subject.plan.derivations.values() if isinstance(d, Build))
    for path in (build.path for build in builds if build.kind == "prefix"):
        if path not in subject.store.valid([path]):
            raise _Skip("the prefix of conda packages is not built yet: `lockbuild build`")
        with tarfile.open(subject.store.locate(path) / PREFIX_TAR) as tar:
            for name in tar.getnames():
                if LINK_SCRIPT.search(name):
                    yield f"/{name}", "is not run"


def _dockerfile_current(subject: Subject) -> Iterator[_Found]:
    if subject.dockerfile is None:
        raise _Skip("there is no Dockerfile yet: `lockbuild render`")
    if subject.dockerfile != subject.rendered:
        yield "Dockerfile", "is not what the lock renders"


def _dockerfile_network(subject: Subject) -> Iterator[_Found]:
    if subject.dockerfile is None:
        raise _Skip("there is no Dockerfile yet: `lockbuild render`")
    for step in network_steps(subject.dockerfile):
        yield "Dockerfile", step


def _image(subject: Subject) -> ImageContents:
    if subject.image is None:
        raise _Skip(subject.no_image or "there is no image yet: `lockbuild image`")
    return subject.image


def _compare(found: Mapping[str, str], locked: Mapping[str, str]) -> Iterator[_Found]:
    for name in sorted({*found, *locked}):
        if name not in locked:
            yield name, f"{found[name]} is in the image, but not in the lock"
        elif name not in found:
            yield name, f"{locked[name]} is locked, but not in the image"
        elif found[name] != locked[name]:
            yield name, f"the image has {found[name]}, the lock {locked[name]}"


def _image_packages(subject: Subject) -> Iterator[_Found]:
    locked = {package.name: package.version for package in subject.lock.runtime}
    yield from _compare(_image(subject).packages, locked)


def _image_debs(subject: Subject) -> Iterator[_Found]:
    locked = {deb.package: deb.version for deb in subject.lock.debs if "runtime" in deb.roots}
    found = _image(subject).debs
    if not subject.stack.base.debian:
        # The others came with the base image, whose digest is locked.
        found = {name: version for name, version in found.items() if name in locked}
    yield from _compare(found, locked)


def _image_sources(subject: Subject) -> Iterator[_Found]:
    found = _image(subject).sources
    if subject.trees is None:
        raise _Skip("the store has not got every source: `lockbuild build`")
    for tree in subject.trees:
        files = found.get(tree.name, {})
        wrong = [
            f"{entry.path} {'is another' if entry.path in files else 'is missing'}"
            for entry in tree.entries
            if entry.kind != "folder" and files.get(entry.path) != entry.content
        ]
        more = [f"{len(wrong) - _SHOWN} more"] if len(wrong) > _SHOWN else []
        if wrong:
            yield tree.name, f"below {tree.path}: {', '.join([*wrong[:_SHOWN], *more])}"


def _image_conda(subject: Subject) -> Iterator[_Found]:
    locked = {package.name: f"{package.version} {package.build}" for package in subject.lock.conda}
    yield from _compare(_image(subject).conda, locked)


def _image_lock(subject: Subject) -> Iterator[_Found]:
    image = _image(subject)
    found = image.labels.get(LOCK_LABEL, "absent")
    if found != f"sha256:{subject.lock.digest}":
        yield (
            image.reference,
            f"label {LOCK_LABEL} is {found}, the lock's digest sha256:{subject.lock.digest}",
        )


def _cell(check: str, subject: Subject) -> Iterator[_Found]:
    for finding in cells.findings(subject.stack, subject.lock):
        if finding.check == check:
            yield finding.subject, finding.message


_RULES: Mapping[str, Callable[[Subject], Iterator[_Found]]] = {
    "wheel-bytes": _wheel_bytes,
    "wheel-extra": _wheel_extra,
    "wheel-record": _wheel_record,
    "wheel-tags": _wheel_tags,
    "build-pinned": _build_pinned,
    "open": _open,
    "on-first-fetch": _on_first_fetch,
    "moving-ref": _moving_ref,
    "interpreter-host": _interpreter_host,
    "store-bytes": _store_bytes,
    "base-pinned": _base_pinned,
    "conda-scripts": _conda_scripts,
    "dockerfile-current": _dockerfile_current,
    "dockerfile-network": _dockerfile_network,
    "image-packages": _image_packages,
    "image-debs": _image_debs,
    "image-sources": _image_sources,
    "image-conda": _image_conda,
    "image-lock": _image_lock,
    **{check.id: partial(_cell, check.id) for check in cells.CHECKS},
}
