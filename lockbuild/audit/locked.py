"""Is what lies here what was locked? Lock, wheelhouse, store and Dockerfile; hashes bytes again."""

from __future__ import annotations

import json
import tarfile
from contextlib import suppress
from functools import partial
from typing import TYPE_CHECKING

from lockbuild import cells, wheels
from lockbuild.assets import first_seen
from lockbuild.audit.rules import Found, Rule, Skip, manifest_of
from lockbuild.condalock import LINK_SCRIPT
from lockbuild.derivation import PREFIX_TAR, Build, Fetch
from lockbuild.dockerfile.steps import network_steps
from lockbuild.documents import json_text
from lockbuild.findings import Check
from lockbuild.hashing import sha256_of_file, side_by_side
from lockbuild.packing import strays, verify_wheelhouse

if TYPE_CHECKING:
    from collections.abc import Iterator

    from lockbuild.audit.rules import Subject
    from lockbuild.wheelhouse import WheelEntry

__all__ = ["RULES"]

_RECORD_NOTE = "record.json"
_RECORD_READING = 2
"""Raised whenever `wheels.check_wheel` looks at something else."""


def _wheel_bytes(subject: Subject) -> Iterator[Found]:
    manifest = manifest_of(subject)
    expected = {p.wheel.filename: p.wheel.sha256 for p in subject.lock.runtime if p.wheel}
    expected |= {pin.wheel.filename: pin.wheel.sha256 for pin in subject.lock.pins}
    for entry in manifest.wheels:
        locked = expected.get(entry.filename)
        if locked and locked != entry.sha256:
            yield Found(entry.filename, f"the manifest says sha256 {entry.sha256}, the lock {locked}")
    present = {entry.name for entry in manifest.wheels}
    for package in subject.lock.runtime:
        if package.name not in present:
            yield Found(package.name, f"{package.version} is locked, but not in the manifest")
    if manifest.wheels and not any((subject.wheelhouse / e.filename).exists() for e in manifest.wheels):
        yield Found(subject.wheelhouse.name, f"none of its {len(manifest.wheels)} wheels is there")
        return
    for fault in verify_wheelhouse(subject.wheelhouse, manifest):
        name, _, message = fault.partition(": ")
        yield Found(name, message)


def _wheel_extra(subject: Subject) -> Iterator[Found]:
    locked = {(package.name, package.version) for package in subject.lock.runtime}
    for entry in manifest_of(subject).wheels:
        if (entry.name, entry.version) not in locked:
            yield Found(entry.filename, "in the manifest, but not in the lock")
    for path in strays(subject.wheelhouse, manifest_of(subject)):
        yield Found(path.name, "not in the manifest")


def _wheel_record(subject: Subject) -> Iterator[Found]:
    expects = {spec.name: spec.expects for spec in subject.stack.builds}
    entries = [e for e in manifest_of(subject).wheels if (subject.wheelhouse / e.filename).is_file()]
    with subject.progress.phase(
        "reading wheels", total=sum(e.size for e in entries), unit="bytes"
    ) as phase:

        def look(entry: WheelEntry) -> tuple[str, ...]:
            faults = _record_faults(subject, entry, expects.get(entry.name, ()))
            phase.advance(entry.size)
            return faults

        for entry, faults in zip(entries, side_by_side(look, entries), strict=True):
            yield from (Found(entry.filename, fault) for fault in faults)


def _record_faults(subject: Subject, entry: WheelEntry, expects: tuple[str, ...]) -> tuple[str, ...]:
    """Return what is wrong with a wheel; what these very bytes were found to be before is in the store's note."""
    path = subject.wheelhouse / entry.filename
    if sha256_of_file(path) != entry.sha256:
        return wheels.check_wheel(path, expects=expects)
    asked = [_RECORD_READING, entry.sha256, *expects]
    note = subject.store.note(entry.path, _RECORD_NOTE)
    if note is not None:
        with suppress(LookupError, RecursionError, TypeError, ValueError):
            answered, faults = json.loads(note)
            if answered == asked:
                return tuple(map(str, faults))
    faults = wheels.check_wheel(path, expects=expects)
    subject.store.write_note(entry.path, _RECORD_NOTE, json_text([asked, list(faults)]))
    return faults


def _wheel_tags(subject: Subject) -> Iterator[Found]:
    target = subject.stack.target
    for entry in manifest_of(subject).wheels:
        if not wheels.wheel_matches(entry.filename, target):
            yield Found(
                entry.filename,
                f"does not fit Python {target.python}, {target.platform}, glibc {target.glibc}",
            )


def _build_pinned(subject: Subject) -> Iterator[Found]:
    for spec in subject.stack.builds:
        if subject.lock.pin(spec.name) is None:
            yield Found(spec.name, "the lock does not pin its bytes")


def _open(subject: Subject) -> Iterator[Found]:
    for part in subject.lock.open_parts:
        yield Found(part.label, part.reason)


def _on_first_fetch(subject: Subject) -> Iterator[Found]:
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
            yield Found(name, f"nobody told its hash beforehand: sha256 {sha256}")


def _moving_ref(subject: Subject) -> Iterator[Found]:
    for source in subject.lock.sources:
        if source.ref:
            yield Found(source.name, f"`{source.ref}` stood for {source.commit} when it was resolved")


def _interpreter_host(subject: Subject) -> Iterator[Found]:
    if interpreter := subject.lock.interpreter:
        yield Found(
            interpreter.file.filename,
            "comes from the machine that resolved; nobody else can fetch it",
        )


def _store_bytes(subject: Subject) -> Iterator[Found]:
    fetched = [d.path for d in subject.plan.derivations.values() if isinstance(d, Fetch)]
    valid = subject.store.valid([*subject.plan.targets, *fetched])
    if not valid:
        raise Skip("the store holds nothing of this stack: `lockbuild fetch`")
    for damage in subject.store.verify(valid, progress=subject.progress):
        fault = damage.fault()
        yield Found(str(damage.path), "; ".join((fault.message, *fault.details)))


def _base_pinned(subject: Subject) -> Iterator[Found]:
    bases = subject.lock.open_of("base")
    for root, reference in subject.stack.base.images:
        image = subject.lock.image(root)
        if root not in bases and (image is None or image.digest is None):
            yield Found(root, f"the image `{reference}` is not locked")
    if bases or subject.lock.open_of("apt"):
        raise Skip("base images or Debian packages are open")
    for root, _ in subject.plan.roots if subject.stack.base.debian else ():
        if not any(root in deb.roots for deb in subject.lock.debs):
            yield Found(root, "no .deb is locked for it")


def _conda_scripts(subject: Subject) -> Iterator[Found]:
    builds = (d for d in subject.plan.derivations.values() if isinstance(d, Build))
    for path in (build.path for build in builds if build.kind == "prefix"):
        if path not in subject.store.valid([path]):
            raise Skip("the prefix of conda packages is not built yet: `lockbuild build`")
        try:
            with tarfile.open(subject.store.locate(path) / PREFIX_TAR, "r:") as tar:
                names = tar.getnames()
        except (OSError, ValueError, tarfile.TarError) as error:
            raise Skip(f"the prefix of conda packages cannot be read: {error}") from error
        for name in names:
            if LINK_SCRIPT.search(name):
                yield Found(f"/{name}", "is not run")


def _dockerfile_current(subject: Subject) -> Iterator[Found]:
    if subject.dockerfile is None:
        raise Skip("there is no Dockerfile yet: `lockbuild render`")
    if subject.drift.moved:
        raise Skip("the lock is stale, and so is what follows from it")
    if subject.dockerfile != subject.rendered:
        yield Found("Dockerfile", "is not what the lock renders")


def _dockerfile_network(subject: Subject) -> Iterator[Found]:
    if subject.dockerfile is None:
        raise Skip("there is no Dockerfile yet: `lockbuild render`")
    for step in network_steps(subject.dockerfile):
        yield Found("Dockerfile", step)


def _cell(check: str, subject: Subject) -> Iterator[Found]:
    for finding in cells.findings(subject.stack, subject.lock):
        if finding.check == check:
            yield Found(finding.subject, finding.message)


RULES = (
    Rule(
        Check(
            id="wheel-bytes",
            level="error",
            what="every wheel of the wheelhouse has the bytes that the lock or the manifest names",
            why="a changed wheel is another program",
            mend="delete the file if it is there, then `lockbuild build`",
            about="wheelhouse",
        ),
        _wheel_bytes,
    ),
    Rule(
        Check(
            id="wheel-extra",
            level="error",
            what="the wheelhouse holds nothing beyond the lock",
            why="pip takes whatever it finds there",
            mend="delete the file, or run `lockbuild build`",
            about="wheelhouse",
        ),
        _wheel_extra,
    ),
    Rule(
        Check(
            id="wheel-record",
            level="error",
            what="every wheel's RECORD is true of its members",
            why="installers trust RECORD; what it does not list is never checked or removed",
            mend="build the wheel again, or replace the release",
            about="wheelhouse",
        ),
        _wheel_record,
    ),
    Rule(
        Check(
            id="wheel-tags",
            level="error",
            what="every wheel fits the target",
            why="pip refuses it in the image",
            mend="`lockbuild resolve --upgrade-package NAME`, or correct `target` in the stack",
            about="wheelhouse",
        ),
        _wheel_tags,
    ),
    Rule(
        Check(
            id="build-pinned",
            level="warning",
            what="the lock pins the bytes of every built wheel",
            why="only then is a build that gives other bytes noticed",
            mend="`lockbuild build`, then `lockbuild resolve`",
        ),
        _build_pinned,
    ),
    Rule(
        Check(
            id="open",
            level="error",
            what="the lock pins all that the image is made of",
            why="what is open can be anything, and no image can be made without it",
            mend="`lockbuild resolve` where it can be had",
        ),
        _open,
    ),
    Rule(
        Check(
            id="on-first-fetch",
            level="warning",
            what="the hash of every asset and pinned wheel is told by somebody beside the server that gave it",
            why="whatever the server gave at the first fetch was taken for the true file",
            mend="compare with what others have, then write the sha256 into the stack",
        ),
        _on_first_fetch,
    ),
    Rule(
        Check(
            id="moving-ref",
            level="warning",
            what="the stack names the commit of every source from git",
            why="a branch or tag may stand for another commit at the next `lockbuild resolve --upgrade`",
            mend="write the commit into the stack, in place of `ref`",
        ),
        _moving_ref,
    ),
    Rule(
        Check(
            id="interpreter-host",
            level="warning",
            what="Python can be fetched by everybody",
            why="what one machine has is nowhere else, and no other machine's Python is the same bytes",
            mend="take `interpreter.apt`, `standalone` or `conda`; or pass the store on with the lock",
        ),
        _interpreter_host,
    ),
    Rule(
        Check(
            id="store-bytes",
            level="error",
            what="every store object that the image is made of has the bytes of its record",
            why="disks and people change files",
            mend="`lockbuild store repair`, then run the command again",
        ),
        _store_bytes,
    ),
    Rule(
        Check(
            id="base-pinned",
            level="error",
            what="both root file systems follow from locked .debs, or from locked images",
            why="a base that moves makes another image next year",
            mend="`lockbuild resolve`",
        ),
        _base_pinned,
    ),
    Rule(
        Check(
            id="conda-scripts",
            level="warning",
            what="no conda package brings a script that is to run when it is installed",
            why="lockbuild runs none, and what such a script does is missing from the image",
            mend="see what it does, and do it in a build or before the image's command",
        ),
        _conda_scripts,
    ),
    Rule(
        Check(
            id="dockerfile-current",
            level="error",
            what="the Dockerfile is what the lock renders",
            why="an edited Dockerfile builds something that nobody locked",
            mend="`lockbuild render`",
        ),
        _dockerfile_current,
    ),
    Rule(
        Check(
            id="dockerfile-network",
            level="error",
            what="no step of the Dockerfile can use a network",
            why="what a step downloads is in no lock",
            mend="take the step out; what it brings belongs into the stack",
        ),
        _dockerfile_network,
    ),
    *(Rule(check, partial(_cell, check.id)) for check in cells.CHECKS),
)
