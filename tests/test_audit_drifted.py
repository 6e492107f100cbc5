"""The audit of a lock that was edited, has moved from its stack, or contradicts itself: it goes on with what is there."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

from lockbuild.audit import LockDrift, audit
from lockbuild.audit.rules import NoPlan
from tests.test_audit import broken, only, skips, subject, world  # noqa: F401 - fixtures
from tests.values import sha

if TYPE_CHECKING:
    from collections.abc import Callable

    from lockbuild.audit import Subject


OTHER = sha("another")


# ---- files that contradict one another -------------------------------------------------------------


def edited(subject: Subject, file: str, change: Callable[[str], str]) -> Subject:
    texts = {**subject.drift.texts, file: change(subject.drift.texts[file])}
    assert texts != subject.drift.texts
    return replace(subject, drift=LockDrift(texts=texts))


def test_lock_contradicts__by_another_version_in_the_requirements(subject: Subject) -> None:
    other = edited(subject, "requirements.txt", lambda text: text.replace("alpha==1.2", "alpha==1.3"))
    line = only(other, "lock-contradicts")
    assert line.startswith("alpha: requirements.txt has 1.3 with sha256 ")
    assert ", pylock.toml 1.2 with sha256 " in line


def test_lock_contradicts__by_other_bytes_in_the_requirements(subject: Subject) -> None:
    wheel = next(p.wheel for p in subject.lock.runtime if p.wheel)
    other = edited(subject, "requirements.txt", lambda text: text.replace(wheel.sha256, OTHER))
    assert f"with sha256 {OTHER}, pylock.toml" in only(other, "lock-contradicts")


def test_lock_contradicts__by_a_package_more(subject: Subject) -> None:
    other = edited(subject, "requirements.txt", lambda text: f"{text}evil==6.6.6\n")
    assert only(other, "lock-contradicts") == (
        "evil: requirements.txt has 6.6.6, pylock.toml no such package"
    )


def test_lock_contradicts__by_another_wheel_to_compile_against(subject: Subject) -> None:
    wheel = next(p.wheel for p in subject.lock.runtime if p.name == "alpha" and p.wheel)
    files = [
        name
        for name, text in subject.drift.texts.items()
        if "pylock.build" in name and wheel.sha256 in text
    ]
    other = edited(subject, files[0], lambda text: text.replace(wheel.sha256, OTHER))
    assert only(other, "lock-contradicts").startswith(f"alpha: {files[0]} has 1.2 with sha256 {OTHER}")


def test_lock_contradicts__by_another_pin_of_a_build(subject: Subject) -> None:
    pin = subject.lock.pins[0]
    texts = dict(subject.drift.texts)
    for file in ("pylock.toml", "requirements.txt"):
        texts[file] = texts[file].replace(pin.wheel.sha256, OTHER)
    line = only(replace(subject, drift=LockDrift(texts=texts)), "lock-contradicts")
    assert line == (
        f"{pin.name}: pylock.toml has sha256 {OTHER}, lockbuild.lock sha256 {pin.wheel.sha256}"
    )


def test_manifest_lock__of_another_lock(subject: Subject) -> None:
    assert subject.manifest is not None
    other = replace(subject, manifest=replace(subject.manifest, lock=OTHER))
    assert f"its manifest is of the lock sha256:{OTHER}" in only(other, "manifest-lock")


def test_manifest_lock__of_another_stack(subject: Subject) -> None:
    assert subject.manifest is not None
    other = replace(subject, manifest=replace(subject.manifest, stack="big"))
    assert only(other, "manifest-lock").endswith("its manifest is of the stack `big`")


# ---- locks that do not fit -------------------------------------------------------------------------


def test_lock_stale__names_each_key(subject: Subject) -> None:
    moved = ("`env.A` was added", "`summary` was changed")
    found = broken(replace(subject, drift=replace(subject.drift, moved=moved)))
    assert found == {
        "lock-stale": [
            "env.A: was added since the lock was made",
            "summary: was changed since the lock was made",
        ]
    }


def test_lock_edited__names_the_file(subject: Subject) -> None:
    fault = ("pylock.toml is not as it was written", ("a", "b"))
    drifted = replace(subject, drift=replace(subject.drift, edited=(fault,)))
    assert only(drifted, "lock-edited") == "pylock.toml: is not as it was written; a; b"


def test_without_a_plan_what_needs_none_is_still_looked_at(subject: Subject) -> None:
    drift = replace(subject.drift, moved=("`build` was changed",))
    report = audit(replace(subject, plan=NoPlan("no plan"), drift=drift))  # type: ignore[arg-type]
    assert {finding.check for finding in report.findings} == {"lock-stale"}
    assert dict(report.skipped)["store-bytes"] == "no plan"
    assert {"wheel-bytes", "image-packages", "open"} <= set(report.passed)


def test_a_stale_lock_says_nothing_of_the_dockerfile(subject: Subject) -> None:
    drift = replace(subject.drift, moved=("`env` was changed",))
    assert "stale" in skips(replace(subject, drift=drift))["dockerfile-current"]
