"""Which Python and Debian packages a draft asks for, and where upstream's own files contradict one another. Pure."""

from __future__ import annotations

from collections import defaultdict
from dataclasses import dataclass
from typing import TYPE_CHECKING

from packaging.requirements import InvalidRequirement
from packaging.requirements import Requirement as Parsed
from packaging.utils import canonicalize_name

from lockbuild.upstream.choosing import exact_version, is_nested, rank
from lockbuild.upstream.findings import (
    AptPackage,
    Claim,
    GitRequirement,
    Import,
    Note,
    Place,
    Project,
    Requirement,
)
from lockbuild.upstream.knowledge import (
    APT_RENAMED,
    DEBS_OF_PROJECT,
    NOT_IN_IMAGES,
    ONLY_SDIST,
    PROJECT_OF_MODULE,
    TOOLCHAIN_ONLY,
    TORCH_FAMILY,
    torch_release,
)
from lockbuild.upstream.text import listed

if TYPE_CHECKING:
    from collections.abc import Collection, Iterator, Mapping, Sequence

    from lockbuild.upstream.choosing import Machine
    from lockbuild.upstream.findings import Finding

__all__ = [
    "Debs",
    "Wanted",
    "contradictions",
    "debian_packages",
    "stated",
    "undeclared",
    "wanted_packages",
]


@dataclass(frozen=True, slots=True, kw_only=True)
class Wanted:
    """A package that the draft asks for, or would if a person says so."""

    text: str
    name: str
    places: tuple[Place, ...]
    notes: tuple[str, ...] = ()
    asked: bool = True
    """Whether the draft asks for it; else it only names it."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Debs:
    """Debian packages of both root file systems, each with the reason."""

    toolchain: tuple[tuple[str, str], ...]
    runtime: tuple[tuple[str, str], ...]
    left_out: tuple[tuple[str, str], ...]


def stated(findings: Sequence[Finding]) -> dict[str, list[Requirement]]:
    """Return name -> who asks for it, the most binding first; what a project says of itself among it."""
    found: dict[str, list[Requirement]] = defaultdict(list)
    for each in findings:
        if isinstance(each, Requirement):
            found[each.name].append(each)
        elif isinstance(each, Project):
            for text in each.requires:
                if one := _parsed(text):
                    found[canonicalize_name(one.name)].append(
                        Requirement(
                            name=canonicalize_name(one.name),
                            text=_without_address(one),
                            kind="project",
                            place=each.place,
                        )
                    )
    return {name: sorted(of, key=lambda one: rank(one.kind, one.place)) for name, of in found.items()}


def _parsed(text: str) -> Parsed | None:
    try:
        return Parsed(text)
    except InvalidRequirement:
        return None


def _without_address(parsed: Parsed) -> str:
    extras = f"[{','.join(sorted(parsed.extras))}]" if parsed.extras else ""
    marker = f"; {parsed.marker}" if parsed.marker else ""
    return f"{canonicalize_name(parsed.name)}{extras}{parsed.specifier}{marker}"


# ---- what the draft asks for ----------------------------------------------------------------------


def wanted_packages(
    findings: Sequence[Finding], machine: Machine, *, built: Collection[str]
) -> tuple[Wanted, ...]:
    """Return the packages to ask for, sorted: those of the repository's top, then what its folders add.

    Args:
        built: Names of what the draft builds: they are asked for by their version.
    """
    found = []
    for name, requirements in sorted(stated(findings).items()):
        if name in built:
            continue
        if name in TORCH_FAMILY:
            found.append(_of_torch(name, requirements, machine))
            continue
        first = _telling(requirements)
        if first is None:
            continue
        nested = all(is_nested(one.place.file) for one in requirements)
        found.append(
            Wanted(
                text=first.text,
                name=name,
                places=tuple(one.place for one in requirements if one.text == first.text),
                notes=tuple(_remarks(first)),
                asked=not nested,
            )
        )
    names = {one.name for one in found}
    if "torch" not in names and machine.torch is not None:
        found.append(_of_torch("torch", [], machine))
    return tuple(sorted(found, key=lambda one: one.name))


def _telling(requirements: Sequence[Requirement]) -> Requirement | None:
    """Return the most binding text, or, where that bounds no version, the next that does."""
    read = [(one, parsed) for one in requirements if (parsed := _parsed(one.text))]
    if not read:
        return None
    first, said = read[0]
    for one, parsed in () if str(said.specifier) else read:
        # What a folder needs for itself is nothing that the whole has asked for.
        alike = is_nested(one.place.file) == is_nested(first.place.file)
        whole = said.extras <= parsed.extras and str(said.marker) == str(parsed.marker)
        if alike and whole and str(parsed.specifier):
            return one
    return first


def _remarks(requirement: Requirement) -> Iterator[str]:
    if requirement.name in ONLY_SDIST:
        yield "decide: no wheel for Linux on the default index: a `[[build]]` with `source.sdist` or git"
    if requirement.conda and requirement.name == "faiss-gpu":
        yield "decide: conda's faiss-gpu; PyPI's ends at 1.7.2"


def _of_torch(name: str, requirements: Sequence[Requirement], machine: Machine) -> Wanted:
    """Return a package of PyTorch's family, at the version that fits the chosen torch."""
    notes: list[str] = []
    chosen = machine.torch.value if machine.torch else ""
    places = [one.place for one in requirements]
    if name == "torch":
        version = chosen
        if machine.torch and machine.torch.place:
            places.insert(0, machine.torch.place)
        notes += machine.torch.notes if machine.torch else ()
    else:
        version = next(
            (v for one in requirements if (v := exact_version(one.text).partition("+")[0])), ""
        )
        release = torch_release(chosen)
        if not version and release and name == "torchvision":
            version = f"{release.vision}.*"
            notes.append(f"torch {chosen} goes with torchvision {release.vision}")
        elif not version and release and name == "torchaudio":
            version = f"{_audio(chosen)}.*"
        fitting = (
            release.vision if release and name == "torchvision" else _audio(chosen) if chosen else ""
        )
        if release and not f"{version}.".startswith(f"{fitting}."):
            notes.append(f"decide: torch {chosen} goes with {name} {fitting}, not {version}")
    # `==1.10` with a local version: which patch, only a whole version can say.
    whole = version and not version.endswith("*")
    if whole and version.count(".") < 2:  # noqa: PLR2004 - MAJOR.MINOR.PATCH
        version += ".0"
    local = f"+cu{machine.torch_cuda.replace('.', '')}" if machine.torch_cuda and whole else ""
    return Wanted(
        text=f"{name}=={version}{local}" if version else name,
        name=name,
        places=tuple(places),
        notes=tuple(note for note in notes if note),
        asked=not requirements or not all(is_nested(place.file) for place in places),
    )


def _audio(torch: str) -> str:
    """Return the minor release of torchaudio that was made for a *torch*: 0.12 for 1.12, since 2.0 the same."""
    major, _, rest = torch.partition(".")
    return f"{'0' if major == '1' else major}.{rest.partition('.')[0]}"


# ---- contradictions -------------------------------------------------------------------------------


def contradictions(findings: Sequence[Finding]) -> tuple[str, ...]:
    """Return a line for each thing that upstream's own files say differently."""
    found = [*_of_claims(findings, "python", "Python"), *_of_claims(findings, "cuda", "CUDA")]
    for name, requirements in sorted(stated(findings).items()):
        texts: dict[str, list[Place]] = defaultdict(list)
        parsed: dict[str, Parsed] = {}
        for one in requirements:
            read = _parsed(one.text)
            if read is not None and str(read.specifier):
                texts[str(read.specifier)].append(one.place)
                parsed[str(read.specifier)] = read
        if len(texts) > 1 and _differ(parsed):
            found.append(f"{name}: " + "; ".join(f"{text} ({listed(of)})" for text, of in texts.items()))
    numpy = next((one for one in stated(findings).get("numpy", []) if exact_version(one.text)), None)
    aliases = [f for f in findings if isinstance(f, Note) and f.text.startswith("numpy: ")]
    pinned = exact_version(numpy.text) if numpy else ""
    if aliases and not _before(pinned, (1, 24)):
        places = listed(sorted(note.place for note in aliases))
        found.append(
            f"numpy: names such as `np.float`, gone since numpy 1.24 ({places}), and nothing that bounds numpy below it: decide `numpy<1.24`, or edits"
        )
    return tuple(found)


def _differ(parsed: Mapping[str, Parsed]) -> bool:
    """Tell whether no version can be all that is said of a package."""
    exact = [(text, version) for text, one in parsed.items() if (version := exact_version(str(one)))]
    if not exact:
        return False
    return any(
        not one.specifier.contains(version, prereleases=True)
        and not one.specifier.contains(version.partition("+")[0], prereleases=True)
        for own, version in exact
        for text, one in parsed.items()
        if text != own
    )


def _before(version: str, bound: tuple[int, int]) -> bool:
    parts = [int(part) for part in version.split(".")[:2] if part.isascii() and part.isdigit()]
    return bool(parts) and tuple(parts) < bound


def _of_claims(findings: Sequence[Finding], what: str, word: str) -> Iterator[str]:
    said: dict[str, list[Place]] = defaultdict(list)
    claims = [f for f in findings if isinstance(f, Claim) and f.what == what and f.exact]
    for claim in sorted(claims, key=lambda claim: rank(claim.kind, claim.place)):
        said[".".join(claim.version.split(".")[:2])].append(claim.place)
    if len(said) > 1:
        yield f"{word}: " + "; ".join(f"{version} ({listed(of)})" for version, of in said.items())


# ---- what nobody declares -------------------------------------------------------------------------


def undeclared(
    findings: Sequence[Finding],
    *,
    standard: Collection[str],
    local: Collection[str],
    built: Collection[str],
) -> tuple[Wanted, ...]:
    """Return the projects whose modules are imported and that no file asks for, sorted.

    Args:
        standard: Modules of Python itself.
        local: Modules of the repository.
        built: Names of what the draft builds.
    """
    declared = {*stated(findings), *built, *(f.name for f in findings if isinstance(f, GitRequirement))}
    # A fork of a package is called as it likes: `yolov3-pytorch` brings `yolov3`.
    loose = {name.replace("-", "").removesuffix("pytorch").removeprefix("py") for name in declared}
    imports: dict[str, list[Import]] = defaultdict(list)
    for found in findings:
        if isinstance(found, Import) and found.module not in standard and found.module not in local:
            imports[found.module].append(found)
    result: dict[str, Wanted] = {}
    for module, of in sorted(imports.items()):
        name = PROJECT_OF_MODULE.get(module, canonicalize_name(module))
        near = {name, name.replace("opencv-python", "opencv-python-headless"), canonicalize_name(module)}
        if near & declared or canonicalize_name(module).replace("-", "").removeprefix("py") in loose:
            continue
        # `mmcv-full` also is `mmcv`, `faiss-cpu` also `faiss`.
        # A package's module often is its name and more: `bop-toolkit` brings `bop_toolkit_lib`.
        if any(one.startswith(f"{name}-") or f"{name}-".startswith(f"{one}-") for one in declared):
            continue
        if not _parsed(name):
            continue
        places = tuple(sorted(one.place for one in of))
        guarded = all(one.guarded for one in of)
        notes = (
            f"import {module}" + (", only inside functions, conditions or `try`" if guarded else ""),
        )
        result.setdefault(name, Wanted(text=name, name=name, places=places, notes=notes, asked=False))
    return tuple(result.values())


# ---- Debian ---------------------------------------------------------------------------------------


def debian_packages(
    findings: Sequence[Finding],
    packages: Sequence[Wanted],
    machine: Machine,
    *,
    compiles: bool,
) -> Debs:
    """Return the Debian packages to ask for.

    Args:
        compiles: Whether there is anything to compile, and so a toolchain.
    """
    toolchain: dict[str, str] = {}
    runtime: dict[str, str] = {}
    left: dict[str, str] = {}
    if compiles:
        toolchain |= {"g++": "to compile with", "ninja-build": "torch's extensions compile with it"}
        if machine.archive is None:
            toolchain["python3-dev"] = "headers of the base's Python"
    for found in sorted((f for f in findings if isinstance(f, AptPackage)), key=lambda f: f.place):
        name = APT_RENAMED.get(found.name, found.name)
        if not name or name in NOT_IN_IMAGES or name.startswith("python") or is_nested(found.place.file):
            left.setdefault(found.name, str(found.place))
        elif name in TOOLCHAIN_ONLY or name.endswith("-dev"):
            toolchain.setdefault(name, str(found.place))
        else:
            runtime.setdefault(name, str(found.place))
    for package in packages:
        for name in DEBS_OF_PROJECT.get(package.name, ()) if package.asked else ():
            runtime.setdefault(name, f"{package.name} loads it")
    return Debs(
        toolchain=tuple(sorted(toolchain.items())),
        runtime=tuple(sorted(runtime.items())),
        left_out=tuple(sorted(left.items())),
    )
