"""Is the lock what `resolve` wrote, does it still fit the stack, and do its files say the same?"""

from __future__ import annotations

import re
import tomllib
from typing import TYPE_CHECKING, Any

from lockbuild.audit.rules import Found, Rule, Skip, manifest_of
from lockbuild.condalock import CONDA_LOCK
from lockbuild.findings import Check
from lockbuild.lock import LOCK_FILE, REQUIREMENTS, RUNTIME_LOCK, build_lock_name

if TYPE_CHECKING:
    from collections.abc import Iterator

    from lockbuild.audit.rules import Subject
    from lockbuild.digest import Sha256

__all__ = ["RULES"]

_PIN = re.compile(r"^([A-Za-z0-9._-]+)==(\S+)", re.MULTILINE)
_HASH = re.compile(r"--hash=sha256:([0-9a-f]{64})")

_Pins = dict[str, tuple[str, str]]
"""Package -> version and sha256, which is empty where there is none."""


def _stale(subject: Subject) -> Iterator[Found]:
    for line in subject.drift.moved:
        key, _, change = line.partition("` ")
        yield Found(key.lstrip("`"), f"{change} since the lock was made")


def _edited(subject: Subject) -> Iterator[Found]:
    for message, details in subject.drift.edited:
        file, _, fault = message.partition(" ")
        yield Found(file, "; ".join((fault, *details)))


# ---- files that contradict one another ------------------------------------------------------------


def _contradictions(subject: Subject) -> Iterator[Found]:
    texts = subject.drift.texts
    if RUNTIME_LOCK not in texts or LOCK_FILE not in texts:
        raise Skip(f"there is no text of {LOCK_FILE} and {RUNTIME_LOCK} to compare")
    runtime = _pylock_pins(texts[RUNTIME_LOCK])
    if REQUIREMENTS in texts:
        pinned = _requirement_pins(texts[REQUIREMENTS])
        installable = {name: pin for name, pin in runtime.items() if name not in _sources(subject)}
        for name in sorted({*pinned, *runtime}):
            one, other = pinned.get(name), runtime.get(name)
            if one and other and name not in installable:
                # What no wheel was built of yet has the hash of its source in one file, and none in the other.
                one, other = (one[0], ""), (other[0], "")
            if one != other:
                yield Found(name, f"{REQUIREMENTS} has {_said(one)}, {RUNTIME_LOCK} {_said(other)}")
    yield from _against_main(subject, runtime)
    for environment, _ in subject.lock.build:
        file = build_lock_name(environment)
        for name, pin in sorted(_pylock_pins(texts.get(file, "")).items()):
            # What is built has no label there.
            if name in runtime and name not in _built(subject) and runtime[name] != pin:
                yield Found(name, f"{file} has {_said(pin)}, {RUNTIME_LOCK} {_said(runtime[name])}")


def _against_main(subject: Subject, runtime: _Pins) -> Iterator[Found]:
    """Compare with what `lockbuild.lock` says of wheels that were built, of their sources, and of conda packages."""
    lock = subject.lock
    expected = _sources(subject) | {pin.name: pin.wheel.sha256 for pin in lock.pins}
    for name, sha256 in sorted(expected.items()):
        if name in runtime and runtime[name][1] not in ("", sha256):
            yield Found(
                name, f"{RUNTIME_LOCK} has sha256 {runtime[name][1]}, {LOCK_FILE} sha256 {sha256}"
            )
    for package in lock.conda:
        if package.sha256 not in subject.drift.texts.get(CONDA_LOCK, ""):
            yield Found(package.name, f"{LOCK_FILE} has sha256 {package.sha256}, {CONDA_LOCK} has not")


def _built(subject: Subject) -> frozenset[str]:
    return frozenset(spec.name for spec in subject.stack.builds)


def _sources(subject: Subject) -> dict[str, Sha256]:
    """Return package -> sha256 of the source of each that was not built yet."""
    pinned = {pin.name for pin in subject.lock.pins}
    names = _built(subject) - pinned
    return {one.name: one.file.sha256 for one in subject.lock.sources if one.name in names}


def _requirement_pins(text: str) -> _Pins:
    found: _Pins = {}
    ends = [match.start() for match in _PIN.finditer(text)]
    for start, end in zip(ends, [*ends[1:], len(text)], strict=True):
        part = text[start:end]
        pin, sha256 = _PIN.match(part), _HASH.search(part)
        if pin:
            found[pin[1]] = (pin[2], sha256[1] if sha256 else "")
    return found


def _pylock_pins(text: str) -> _Pins:
    try:
        packages: list[dict[str, Any]] = tomllib.loads(text).get("packages", [])
        return {table["name"]: (table["version"], _sha256(table)) for table in packages}
    except (AttributeError, LookupError, TypeError, ValueError) as error:
        raise Skip(f"a pylock file cannot be read: {error}") from error


def _sha256(table: dict[str, Any]) -> str:
    files = [*table.get("wheels", ()), table.get("sdist"), table.get("archive")]
    return next((str(file["hashes"]["sha256"]) for file in files if file), "")


def _said(pin: tuple[str, str] | None) -> str:
    if pin is None:
        return "no such package"
    return f"{pin[0]} with sha256 {pin[1]}" if pin[1] else pin[0]


# ---- the wheelhouse -------------------------------------------------------------------------------


def _manifest_lock(subject: Subject) -> Iterator[Found]:
    if subject.no_manifest:
        yield Found(subject.wheelhouse.name, f"its manifest cannot be read: {subject.no_manifest}")
        return
    manifest = manifest_of(subject)
    if manifest.stack != subject.stack.name:
        yield Found(subject.wheelhouse.name, f"its manifest is of the stack `{manifest.stack}`")
    elif manifest.lock != subject.lock.digest:
        yield Found(
            subject.wheelhouse.name,
            f"its manifest is of the lock sha256:{manifest.lock}, and this is sha256:{subject.lock.digest}",
        )


RULES = (
    Rule(
        Check(
            id="lock-stale",
            level="error",
            what="the lock was made for the stack as it is now",
            why="what is locked is not what the stack asks for, and no other command takes it",
            mend="`lockbuild resolve`, or undo the change in the stack",
        ),
        _stale,
    ),
    Rule(
        Check(
            id="lock-edited",
            level="error",
            what="every lock file is as `resolve` wrote it",
            why="a pin that somebody wrote by hand was never resolved, nor verified",
            mend="restore the file from version control, or `lockbuild resolve`",
        ),
        _edited,
    ),
    Rule(
        Check(
            id="lock-contradicts",
            level="error",
            what="pylock.toml, requirements.txt and lockbuild.lock name the same versions and bytes",
            why="which packages are installed would depend on which file a tool reads",
            mend="restore them from version control, or `lockbuild resolve`",
        ),
        _contradictions,
    ),
    Rule(
        Check(
            id="manifest-lock",
            level="error",
            what="the wheelhouse was filled for this lock",
            why="its wheels are those of another lock, wherever the two differ",
            mend="`lockbuild build`",
            about="wheelhouse",
        ),
        _manifest_lock,
    ),
)
