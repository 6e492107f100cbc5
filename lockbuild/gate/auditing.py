"""The gate's part of an audit: the wheels that lie in the wheelhouse, built here or put there by somebody."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

from lockbuild.findings import Report
from lockbuild.gate import CHECKS, Subject, judge_wheels, judged, ready
from lockbuild.hashing import sha256_of_file
from lockbuild.packing import strays

if TYPE_CHECKING:
    from pathlib import Path

    from lockbuild.realise import Realiser
    from lockbuild.wheelhouse import Manifest

__all__ = ["audit_wheelhouse"]

_GATE = "gate"


def audit_wheelhouse(realiser: Realiser, wheelhouse: Path, manifest: Manifest) -> Report:
    """Return what the gate's rules say of the built and the foreign wheels in *wheelhouse*: `gate-RULE`.

    Nothing is built for it: where the store has not got what wheels are judged in, that is said.
    """
    subjects = tuple(_subjects(realiser, wheelhouse, manifest))
    if not subjects:
        return Report(findings=(), passed=(), skipped=())
    if not ready(realiser) and not judged(realiser, subjects):
        return _skipped(
            "the store has no root file system and environment to judge wheels in: `lockbuild gate`"
        )
    findings = tuple(
        replace(finding, check=f"{_GATE}-{finding.check}")
        for one in judge_wheels(realiser, subjects)
        for finding in one.report.findings
    )
    found = {finding.check for finding in findings}
    names = (f"{_GATE}-{check.id}" for check in CHECKS)
    return Report(
        findings=findings, passed=tuple(name for name in names if name not in found), skipped=()
    )


def _subjects(realiser: Realiser, wheelhouse: Path, manifest: Manifest) -> list[Subject]:
    built = {path: realiser.store.info(path) for _, path in realiser.plan.builds}
    found = []
    for entry in manifest.wheels:
        file = wheelhouse / entry.filename
        if entry.origin == "built" and file.is_file():
            sha256, info = sha256_of_file(file), built.get(entry.path)
            ours = info is not None and (file.name, sha256) in {output[:2] for output in info.outputs}
            found.append(Subject(file=file, sha256=sha256, path=entry.path if ours else None))
    foreign = (file for file in strays(wheelhouse, manifest) if file.suffix == ".whl" and file.is_file())
    return [*found, *(Subject(file=file, sha256=sha256_of_file(file)) for file in foreign)]


def _skipped(reason: str) -> Report:
    return Report(findings=(), passed=(), skipped=((_GATE, reason),))
