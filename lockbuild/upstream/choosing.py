"""Which Python, CUDA, torch and base a draft is for, out of all that upstream says of them. Pure.

What says it more binding wins: a declared environment over a package's metadata, that over a Dockerfile,
that over commands in scripts and pages, those over words; and the top of the repository over its folders.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import TYPE_CHECKING

from packaging.requirements import Requirement as Parsed
from packaging.version import InvalidVersion, Version

from lockbuild.upstream.findings import Claim, Project, Requirement
from lockbuild.upstream.knowledge import (
    ARCHIVES,
    BASES,
    TORCH_FAMILY,
    UBUNTU_PYTHON,
    Archive,
    Base,
    torch_release,
)
from lockbuild.upstream.requirements import cuda_of_url

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from lockbuild.upstream.findings import Finding, Kind, Place

__all__ = ["Chosen", "Machine", "choose", "exact_version", "is_nested", "rank"]

_KINDS: tuple[Kind, ...] = ("declared", "project", "image", "command", "prose")
_TOP = frozenset(
    {".devcontainer", "conda", "docker", "env", "environment", "environments", "envs", "install"}
    | {"requirements", "scripts", "setup"}
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Chosen:
    """A value, who says it, and what is to be said about it."""

    value: str
    place: Place | None = None
    notes: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class Machine:
    """What the draft is made for."""

    python: Chosen
    archive: Archive | None
    """None where the base has this Python itself."""
    base: Base
    base_notes: tuple[str, ...]
    cuda: Chosen | None
    architectures: tuple[str, ...]
    torch: Chosen | None
    """Its version, without a local part; none where nothing wants it."""
    torch_cuda: str
    """CUDA of torch's wheels, where they come from an index of their own; else empty."""


def is_nested(file: str) -> bool:
    """Tell whether a file speaks for a part of the repository only, by its folder."""
    return any(part not in _TOP for part in file.split("/")[:-1])


def rank(kind: Kind, place: Place) -> tuple[bool, int, str, int]:
    """Return by what two texts that differ are put in order: the more binding first."""
    return is_nested(place.file), _KINDS.index(kind), place.file, place.line


def exact_version(text: str) -> str:
    """Return the one version that a requirement allows; empty where it allows others."""
    specifiers = list(Parsed(text).specifier)
    if len(specifiers) == 1 and specifiers[0].operator == "==":
        return specifiers[0].version.removesuffix(".*")
    return ""


def choose(findings: Sequence[Finding], *, compiles: bool) -> Machine:
    """Return the machine that *findings* speak of.

    Args:
        compiles: Whether there is CUDA to compile, so that the base must have a fitting nvcc.
    """
    torch = _torch(findings)
    cuda = _cuda(findings, torch)
    torch_cuda = _torch_cuda(torch, cuda)
    if torch_cuda and cuda is not None and torch_cuda != cuda.value and torch is not None:
        cuda = Chosen(
            value=cuda.value,
            place=cuda.place,
            notes=(
                *cuda.notes,
                f"decide: torch {torch.value} has no wheels for CUDA {cuda.value}, but for {torch_cuda}, which are taken",
            ),
        )
    base, base_notes = _base(cuda, compiles=compiles)
    python, archive = _python(findings, torch, base)
    return Machine(
        python=python,
        archive=archive,
        base=base,
        base_notes=base_notes,
        cuda=cuda,
        architectures=_architectures(cuda) if compiles else (),
        torch=torch,
        torch_cuda=torch_cuda,
    )


# ---- torch and CUDA -------------------------------------------------------------------------------


def _torch(findings: Sequence[Finding]) -> Chosen | None:
    wanted = sorted(
        (f for f in findings if isinstance(f, Requirement) and f.name == "torch"),
        key=lambda found: rank(found.kind, found.place),
    )
    for found in wanted:
        if version := exact_version(found.text):
            return Chosen(value=version.partition("+")[0], place=found.place)
    # No pin of torch, but of what was made for one.
    for found in sorted(
        (f for f in findings if isinstance(f, Requirement) and f.name == "torchvision"),
        key=lambda found: rank(found.kind, found.place),
    ):
        version = exact_version(found.text).partition("+")[0]
        for minor in (f"1.{n}" for n in range(4, 14)) if version else ():
            release = torch_release(minor)
            if release and version.split(".")[:2] == release.vision.split("."):
                note = f"nothing pins torch; torchvision {version} was made for {minor}"
                return Chosen(
                    value=f"{minor}.{([*version.split('.'), '0'])[2]}", place=found.place, notes=(note,)
                )
    words = _claims(findings, "torch")
    if words:
        return Chosen(value=words[0].version, place=words[0].place, notes=(_least(words[0], "torch"),))
    if wanted or any(isinstance(f, Project) and f.extensions for f in findings):
        place = wanted[0].place if wanted else None
        return Chosen(value="", place=place, notes=("decide: nothing says which torch",))
    return None


def _least(claim: Claim, what: str) -> str:
    return "" if claim.exact else f"decide: only a bound is said: {what} {claim.version} or later"


def _cuda(findings: Sequence[Finding], torch: Chosen | None) -> Chosen | None:
    claims = _claims(findings, "cuda")
    local = [
        Claim(what="cuda", version=cuda, exact=True, kind=f.kind, place=f.place)
        for f in findings
        if isinstance(f, Requirement) and f.name in TORCH_FAMILY and (cuda := cuda_of_url(f.text))
    ]
    claims = sorted([*claims, *local], key=lambda c: (not c.exact, rank(c.kind, c.place)))
    if claims:
        found = claims[0]
        pair = _pair(found.version)
        return Chosen(value=pair, place=found.place, notes=(_least(found, "CUDA"),))
    if torch is None:
        return None
    release = torch_release(torch.value)
    if release is None:
        return Chosen(value="12.1", notes=("decide: nothing says which CUDA",))
    return Chosen(
        value=release.default,
        notes=(
            f"nothing says which CUDA; {release.default} is that of torch {torch.value} on the default index",
        ),
    )


def _pair(version: str) -> str:
    """Return `MAJOR.MINOR`, also of what says less."""
    parts = ([*re.findall(r"\d+", version), "0", "0"])[:2]
    return f"{int(parts[0])}.{int(parts[1])}"


def _torch_cuda(torch: Chosen | None, cuda: Chosen | None) -> str:
    """Return the CUDA whose index serves torch; empty where the default index does."""
    release = torch_release(torch.value) if torch else None
    if torch is None or cuda is None or release is None or cuda.value == release.default:
        return ""
    if cuda.value in release.others:
        return cuda.value
    # The nearest one that is not newer than the machine's, else the oldest.
    known = sorted({*release.others, release.default}, key=Version)
    below = [one for one in known if Version(one) <= Version(cuda.value)]
    nearest = below[-1] if below else known[0]
    return "" if nearest == release.default else nearest


def _architectures(cuda: Chosen | None) -> tuple[str, ...]:
    version = Version(cuda.value) if cuda else Version("11.8")
    for least, capabilities in (
        ("12.8", ("8.0", "8.6", "8.9", "9.0", "12.0+PTX")),
        ("11.8", ("8.0", "8.6", "8.9", "9.0+PTX")),
        ("11.1", ("7.5", "8.0", "8.6+PTX")),
        ("11.0", ("7.5", "8.0+PTX")),
    ):
        if version >= Version(least):
            return capabilities
    return ("7.0", "7.5+PTX")


# ---- base and Python ------------------------------------------------------------------------------


def _base(cuda: Chosen | None, *, compiles: bool) -> tuple[Base, tuple[str, ...]]:
    if cuda is None:
        return BASES[0], ()
    major = int(cuda.value.partition(".")[0])
    fitting = [base for base in BASES if base.nvcc.partition(".")[0] == str(major)]
    base = fitting[0] if fitting else BASES[0] if major < 12 else BASES[-1]  # noqa: PLR2004 - CUDA 12
    if not compiles or base.nvcc == cuda.value:
        return base, ()
    if fitting:
        return base, (
            f"nvcc of {base.suite} is {base.nvcc}: torch compiles with another minor version of its CUDA {major}, and warns",
        )
    return base, (
        (
            f"decide: nvcc of {base.suite} is {base.nvcc}, and torch for CUDA {cuda.value} refuses to compile with "
            "another major version: take a torch for CUDA 11 or 12, or another base"
        ),
    )


def _python(
    findings: Sequence[Finding], torch: Chosen | None, base: Base
) -> tuple[Chosen, Archive | None]:
    claims = [claim for claim in _claims(findings, "python") if claim.version.startswith("3.")]
    exact = [claim for claim in claims if claim.exact]
    bounds = [claim for claim in claims if not claim.exact]
    ubuntu = [claim for claim in _claims(findings, "ubuntu") if claim.kind == "image"]
    release = torch_release(torch.value) if torch else None
    known = {int(name.partition(".")[2]) for name in (*ARCHIVES, base.python)}
    fitting = sorted(
        m for m in known if release is None or release.pythons[0] <= m <= release.pythons[1]
    )
    notes: list[str] = []
    place: Place | None = None
    if exact:
        wanted, place = _minor(exact[0].version), exact[0].place
        origin = f"upstream's Python is {exact[0].version} ({place})"
        if is_nested(place.file):
            more = "; ".join(
                f"Ubuntu {one.version} of {one.place} has {UBUNTU_PYTHON.get(one.version, 'another')}"
                for one in ubuntu[:1]
            )
            notes.append(
                f"decide: only {place} says it, for its own folder" + (f"; {more}" if more else "")
            )
    elif ubuntu:
        wanted, place = _minor(UBUNTU_PYTHON.get(ubuntu[0].version, base.python)), ubuntu[0].place
        origin = f"nothing says which Python; that of Ubuntu {ubuntu[0].version} ({place}) is 3.{wanted}"
        notes.append(f"decide: {origin}")
    elif bounds:
        wanted, place = _minor(bounds[0].version), bounds[0].place
        origin = f"upstream's Python is 3.{wanted} or later ({place})"
        notes.append(f"decide: {origin}")
    else:
        wanted = release.pythons[1] if release else _minor(base.python)
        origin = "nothing says which Python"
        notes.append(
            f"decide: {origin}; the newest that torch has wheels for" if release else f"decide: {origin}"
        )
    taken = wanted
    if wanted not in known:
        # A newer Python runs what an older one did rather than the other way round.
        near = fitting or sorted(known)
        taken = min(near, key=lambda minor: (abs(minor - wanted), minor < wanted))
        notes = [
            f"decide: {origin}, for which no interpreter is known here; 3.{taken} is the nearest"
            + (f" that torch {torch.value} has wheels for" if release and torch else "")
        ]
    elif release and torch and not release.pythons[0] <= wanted <= release.pythons[1]:
        notes.append(f"decide: torch {torch.value} has no wheels for Python 3.{wanted}")
    version = f"3.{taken}"
    archive = None if version == base.python else ARCHIVES[version]
    return Chosen(value=version, place=place, notes=tuple(notes)), archive


def _minor(version: str) -> int:
    return int(_pair(version).partition(".")[2])


def _claims(findings: Iterable[Finding], what: str) -> list[Claim]:
    """Return what is claimed of one thing, the most binding first."""
    found = [f for f in findings if isinstance(f, Claim) and f.what == what and _is_version(f.version)]
    for project in (f for f in findings if isinstance(f, Project)):
        bound = re.search(r">=?\s*(3\.[0-9]{1,2})", project.requires_python)
        if what == "python" and bound:
            found.append(
                Claim(what="python", version=bound[1], exact=False, kind="project", place=project.place)
            )
    return sorted(found, key=lambda claim: rank(claim.kind, claim.place))


def _is_version(text: str) -> bool:
    try:
        return len(text) < 20 and Version(text).major < 100  # noqa: PLR2004 - what a person may have meant
    except InvalidVersion:
        return False
