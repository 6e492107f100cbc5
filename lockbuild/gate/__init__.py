"""The gate: no built wheel enters a wheelhouse before it passes every rule of `CHECKS`.

It judges wheels that are built, after the fact, so that a changed rule never compiles anything again. What it
found is noted in the store beside the wheel, under a digest of all that it was judged by.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from itertools import chain
from typing import TYPE_CHECKING

from packaging.utils import InvalidWheelFilename, canonicalize_name, parse_wheel_filename

from lockbuild.derivation import ROOTFS_TAR
from lockbuild.digest import canonical_json, sha256_of
from lockbuild.documents import json_text
from lockbuild.errors import BuildError
from lockbuild.findings import Finding, Report
from lockbuild.gate import reading
from lockbuild.gate.facts import Expected, Runtime, Torch
from lockbuild.gate.importing import try_imports
from lockbuild.gate.rules import CHECKS, RULES_VERSION, judge
from lockbuild.lock import closure
from lockbuild.plan import image_env

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence
    from pathlib import Path

    from lockbuild.digest import JsonValue, Sha256, StorePath
    from lockbuild.gate.facts import Contents, Imported
    from lockbuild.realise import Realiser

__all__ = [
    "CHECKS",
    "Judgement",
    "Subject",
    "built_wheels",
    "judge_wheels",
    "judged",
    "ready",
    "refusal",
]

_TORCH = "torch"


@dataclass(frozen=True, slots=True, kw_only=True)
class Subject:
    """A wheel to be judged."""

    file: Path
    sha256: Sha256
    path: StorePath | None = None
    """The build that gave it; none for a wheel from elsewhere, whose verdict nobody keeps."""

    @property
    def name(self) -> str:
        """The normalised name of its project; the file's name where that is no wheel's."""
        try:
            return parse_wheel_filename(self.file.name)[0]
        except InvalidWheelFilename:
            return self.file.name


@dataclass(frozen=True, slots=True, kw_only=True)
class Judgement:
    """What the gate says of a wheel."""

    subject: Subject
    report: Report
    kept: bool = False
    """Whether it was found before, and only read."""


def built_wheels(realiser: Realiser) -> tuple[Subject, ...]:
    """Return the wheels of the plan's builds, as far as the store has them, sorted by name."""
    found = []
    for _, path in sorted(realiser.plan.builds):
        info = realiser.store.info(path)
        for filename, sha256, _ in info.outputs if info else ():
            if filename.endswith(".whl"):
                file = realiser.store.locate(path) / filename
                found.append(Subject(file=file, sha256=sha256, path=path))
    return tuple(found)


def ready(realiser: Realiser) -> bool:
    """Tell whether the store has what wheels are judged in."""
    wanted = _needed(realiser)
    return bool(wanted) and realiser.store.valid(wanted) == frozenset(wanted)


def judged(realiser: Realiser, subjects: Iterable[Subject]) -> bool:
    """Tell whether the verdicts on all of *subjects* are known already."""
    beside = built_wheels(realiser)
    return all(_noted(realiser, subject, beside) for subject in subjects)


def judge_wheels(realiser: Realiser, subjects: Sequence[Subject]) -> tuple[Judgement, ...]:
    """Return what every rule says of each of *subjects*, in their order.

    What was judged before by the same rules and beside the same wheels is not judged again. For the others, the
    runtime's root file system and the environment of fetched wheels are made where they are missing.

    Raises:
        BuildError: These cannot be made.
    """
    beside = built_wheels(realiser)
    kept = {subject: _noted(realiser, subject, beside) for subject in subjects}
    left = [subject for subject, report in kept.items() if report is None]
    found = {s: Judgement(subject=s, report=r, kept=True) for s, r in kept.items() if r is not None}
    if left:
        realiser.build(_needed(realiser))
        runtime = _runtime(realiser, beside)
        with realiser.progress.phase("judging", total=len(left), unit="wheels") as phase:
            for subject in left:
                report = _judged(realiser, subject, runtime, beside)
                found[subject] = Judgement(subject=subject, report=report)
                phase.advance(1)
                count = "1 fault" if report.errors == 1 else f"{report.errors} faults"
                errors = count if report.errors else "passed"
                phase.line(f"{subject.file.name}: {errors}")
                for finding in report.findings:
                    if finding.level == "warning":
                        phase.line(f"{finding.subject}: {finding.check}: {finding.message}")
    return tuple(found[subject] for subject in subjects)


def refusal(judgements: Iterable[Judgement]) -> BuildError | None:
    """Return the fault that keeps wheels with errors out of a wheelhouse; none where all passed."""
    findings = [f for one in judgements for f in one.report.findings if f.level == "error"]
    if not findings:
        return None
    refused = sorted({finding.subject.partition(": ")[0] for finding in findings})
    details = [f"{finding.subject}: {finding.check}: {finding.message}" for finding in findings]
    mends = dict.fromkeys(f"{finding.check}: {finding.mend}" for finding in findings)
    count = "1 wheel" if len(refused) == 1 else f"{len(refused)} wheels"
    return BuildError(
        f"{count} may not enter the wheelhouse: {', '.join(refused)}",
        details=tuple(details),
        hint="\n".join(mends),
    )


# ---- judging one -----------------------------------------------------------------------------------


def _needed(realiser: Realiser) -> tuple[StorePath, ...]:
    runtime = dict(realiser.plan.roots).get("runtime")
    return tuple(path for path in (runtime, realiser.plan.environment) if path)


def _judged(realiser: Realiser, subject: Subject, runtime: Runtime, beside: Sequence[Subject]) -> Report:
    contents = reading.read_wheel(subject.file, subject.sha256)
    expected = _expected(realiser, contents.name)
    imported = _imported(realiser, contents, subject, beside)
    report = judge(contents, expected, runtime, imported)
    if subject.path:
        text = _report_text(report)
        realiser.store.write_note(subject.path, _note_name(realiser, subject, beside), text)
    return report


def _imported(
    realiser: Realiser, contents: Contents, subject: Subject, beside: Sequence[Subject]
) -> Imported | str:
    if contents.faults:
        return "what is no whole wheel is not installed"
    asked = (name for name in realiser.stack.imports if name.partition(".")[0] in contents.top_levels)
    modules = sorted({*contents.modules, *asked})
    with realiser.store.scratch("gate") as scratch:
        built = {}
        for one in (subject, *(other for other in beside if other.name != subject.name)):
            built[one.name] = scratch / "built" / one.name
            reading.unpack_wheel(one.file, built[one.name])
        (scratch / "sandbox").mkdir()
        return try_imports(realiser, subject.name, modules, built, scratch / "sandbox")


def _expected(realiser: Realiser, name: str) -> Expected | None:
    spec = next((spec for spec in realiser.stack.builds if spec.name == name), None)
    if spec is None:
        return None
    forced = dict(spec.env).get("FORCE_CUDA")
    locked = (package.version for package in realiser.lock.runtime if package.name == name)
    nvcc = realiser.stack.toolchain.nvcc
    needed = {package.name for package in closure(realiser.lock.runtime, spec.needs)}
    return Expected(
        name=spec.name,
        version=next(locked, spec.version),
        patterns=spec.expects,
        device_code=None if forced is None else forced not in {"", "0"},
        nvcc=bool(nvcc.apt or nvcc.image or nvcc.wheels) and _TORCH in needed,
    )


# ---- what it is judged by --------------------------------------------------------------------------


def _runtime(realiser: Realiser, beside: Sequence[Subject]) -> Runtime:
    """Return what wheels of the stack meet at run time; root file system and wheels are in the store."""
    stack, lock, plan, store = realiser.stack, realiser.lock, realiser.plan, realiser.store
    rootfs = store.unpacked(dict(plan.roots)["runtime"], ROOTFS_TAR)
    env = {**image_env(lock.image("runtime")), **dict(stack.env)}
    folders = [folder for folder in env.get("LD_LIBRARY_PATH", "").split(":") if folder]
    if stack.interpreter.folder:
        folders.append(f"{stack.interpreter.folder}/lib")
    base = reading.base_libraries(rootfs, folders)
    files = [(name, store.locate(path)) for name, path in plan.wheels]
    files += [(one.name, one.file) for one in beside]
    places = [(name, reading.places_in(file)) for name, file in files]
    return Runtime(
        stack=stack.name,
        target=stack.target,
        base_libraries=frozenset(base),
        base_versions=reading.base_versions(rootfs, base),
        wheel_libraries=reading.libraries_among(chain.from_iterable(found for _, found in places)),
        owners=_owners(places),
        installed=_installed(realiser),
        torch=_torch(realiser),
    )


def _owners(places: Iterable[tuple[str, Iterable[str]]]) -> dict[str, tuple[str, ...]]:
    owners: dict[str, tuple[str, ...]] = {}
    for name, found in places:
        for place in found:
            owners[place] = (*owners.get(place, ()), name)
    return owners


def _installed(realiser: Realiser) -> dict[str, str]:
    lock = realiser.lock
    conda = {str(canonicalize_name(package.name)): package.version for package in lock.conda}
    return conda | {package.name: package.version for package in lock.runtime}


def _torch(realiser: Realiser) -> Torch | None:
    """Return the torch that ships, whose symbols are looked for once and then noted beside it."""
    lock, store, path = realiser.lock, realiser.store, dict(realiser.plan.wheels).get(_TORCH)
    if path is None:
        return None
    version = next(package.version for package in lock.runtime if package.name == _TORCH)
    name = f"symbols-{RULES_VERSION}"
    text = store.note(path, name)
    if text is None:
        with store.scratch("gate-torch") as scratch:
            text = "".join(f"{s}\n" for s in sorted(reading.read_torch(store.locate(path), scratch)))
        store.write_note(path, name, text)
    return Torch(
        version=version,
        cuda=reading.cuda_of(lock, version),
        symbols=frozenset(text.splitlines()),
    )


# ---- verdicts that are kept ------------------------------------------------------------------------


def _note_name(realiser: Realiser, subject: Subject, beside: Sequence[Subject]) -> str:
    """Return a name that changes whenever the verdict may: by other rules, another wheel, or other things around it."""
    stack, target, expected = realiser.stack, realiser.stack.target, _expected(realiser, subject.name)
    identity: list[JsonValue] = [
        *("gate", RULES_VERSION, subject.file.name, subject.sha256),
        [str(path) for path in _needed(realiser)],
        [target.python, target.platform, target.glibc, *target.cuda_architectures],
        [expected.version, expected.device_code, expected.nvcc, *expected.patterns]
        if expected
        else None,
        [*stack.imports],
        [[name, value] for name, value in stack.env],
        [[name, version] for name, version in sorted(_installed(realiser).items())],
        [[other.file.name, other.sha256] for other in beside],
    ]
    return f"gate-{sha256_of(canonical_json(identity))[:32]}.json"


def _noted(realiser: Realiser, subject: Subject, beside: Sequence[Subject]) -> Report | None:
    if subject.path is None:
        return None
    text = realiser.store.note(subject.path, _note_name(realiser, subject, beside))
    if text is None:
        return None
    checks = {check.id: check for check in CHECKS}
    try:
        noted = json.loads(text)
        return Report(
            findings=tuple(
                Finding(
                    check=check,
                    level=checks[check].level,
                    subject=name,
                    message=message,
                    mend=checks[check].mend,
                )
                for check, name, message in noted["findings"]
            ),
            passed=tuple(noted["passed"]),
            skipped=tuple((check, reason) for check, reason in noted["skipped"]),
        )
    except (KeyError, RecursionError, TypeError, ValueError):
        return None  # a damaged note is none


def _report_text(report: Report) -> str:
    return json_text(
        {
            "findings": [[f.check, f.subject, f.message] for f in report.findings],
            "passed": list(report.passed),
            "skipped": [list(one) for one in report.skipped],
        }
    )
