"""What a draft builds: folders with extensions, submodules that are installed, and sources by sdist. Pure."""

from __future__ import annotations

import re
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from packaging.requirements import InvalidRequirement
from packaging.requirements import Requirement as Parsed
from packaging.utils import canonicalize_name
from packaging.version import InvalidVersion, Version

from lockbuild.upstream.choosing import exact_version, is_nested
from lockbuild.upstream.findings import (
    GitRequirement,
    LocalPackage,
    Project,
    Submodule,
    VersionLine,
)
from lockbuild.upstream.knowledge import ONLY_SDIST
from lockbuild.upstream.packages import stated
from lockbuild.upstream.text import listed

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

    from lockbuild.upstream.findings import Finding, Place

__all__ = ["Build", "Moving", "Origin", "builds", "moving"]

_FORCED = ("FORCE_CUDA", "HOME", "PATH", "TORCH_CUDA_ARCH_LIST")
_NO_NEED = frozenset({"setuptools", "wheel", "pip", "distutils", "pkg_resources"})


@dataclass(frozen=True, slots=True, kw_only=True)
class Origin:
    """Where a tree is to be had."""

    git: str
    """Empty where nobody says."""
    commit: str
    """Empty likewise."""
    subdirectory: str = ""
    sdist: str = ""

    @property
    def pinned(self) -> bool:
        """Whether a stack file can name it."""
        return bool(self.sdist or (self.git and self.commit))


@dataclass(frozen=True, slots=True, kw_only=True)
class Build:
    """A package to be built."""

    name: str
    version: str
    origin: Origin
    place: Place
    submodules: bool = False
    needs: tuple[str, ...] = ()
    build_requires: tuple[str, ...] = ()
    requires: tuple[str, ...] = ()
    env: tuple[tuple[str, str], ...] = ()
    expects: tuple[str, ...] = ()
    imports: tuple[str, ...] = ()
    """Modules that must import once it is installed."""
    cuda: bool = False
    notes: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class Moving:
    """A package from a repository as it is now: to be frozen by a person."""

    requirement: GitRequirement
    places: tuple[Place, ...]


def builds(findings: Sequence[Finding], *, own: Origin, torch: str) -> tuple[Build, ...]:
    """Return what is to be built, each name once; folders of the same name are noted at the first.

    Args:
        own: Where the repository itself is to be had.
        torch: The chosen torch: since 2.1 it needs C++17.
    """
    submodules = {f.path: f for f in findings if isinstance(f, Submodule)}
    projects = _projects(findings)
    versions = {f.folder: f.version for f in findings if isinstance(f, VersionLine)}
    installed = _installed(findings, projects, submodules)
    found: dict[str, Build] = {}
    for folder, project in sorted(projects.items(), key=lambda item: (item[0].count("/"), item[0])):
        # A package without extensions is built where somebody installs it; else its code is a source.
        if project.extensions or (folder in installed and folder != "."):
            project = _with_version(project, versions)  # noqa: PLW2901 - the same project, told more
            build = _of_project(project, _origin(folder, own, submodules), torch=torch)
            _add(found, replace(build, submodules=bool(submodules)))
    for path, place in installed.items():
        if path in submodules and path not in projects:
            _add(found, _of_submodule(submodules[path], place))
    for build in _of_sdists(findings):
        _add(found, build)
    return tuple(found.values())


def _add(found: dict[str, Build], build: Build) -> None:
    twin = found.get(build.name)
    if twin is None:
        found[build.name] = build
        return
    note = f"decide: {build.place.file} makes a package of the same name; one wheel must serve both, or they overwrite each other"
    found[build.name] = replace(twin, notes=(*twin.notes, note))


def _projects(findings: Sequence[Finding]) -> dict[str, Project]:
    """Return folder -> its project: what `setup.py`, `setup.cfg` and `pyproject.toml` say together."""
    found: dict[str, Project] = {}
    order = ("setup.py", "pyproject.toml", "setup.cfg")
    projects = [f for f in findings if isinstance(f, Project)]
    for project in sorted(projects, key=lambda p: order.index(p.place.file.rpartition("/")[2])):
        known = found.get(project.folder)
        found[project.folder] = (
            replace(
                known,
                name=known.name or project.name,
                version=known.version or project.version,
                requires=known.requires or project.requires,
                build_requires=known.build_requires or project.build_requires,
            )
            if known
            else project
        )
    return found


def _installed(
    findings: Sequence[Finding], projects: Mapping[str, Project], submodules: Mapping[str, Submodule]
) -> dict[str, Place]:
    """Return the folders that something installs, each with where that is said."""
    found: dict[str, Place] = {}
    locals_ = [f for f in findings if isinstance(f, LocalPackage)]
    for local in sorted(locals_, key=lambda f: (is_nested(f.place.file), f.place)):
        base = local.place.file.rpartition("/")[0]
        # A script may be run in its own folder.
        for path in (_below(base, local.path), local.path):
            if path in projects or path in submodules:
                found.setdefault(path, local.place)
                break
    return found


def _below(base: str, path: str) -> str:
    return base or "." if path == "." else f"{base}/{path}" if base else path


def _with_version(project: Project, versions: Mapping[str, str]) -> Project:
    if project.version:
        return project
    base = "" if project.folder == "." else f"{project.folder}/"
    for name in (project.name, project.name.replace("-", "_"), f"src/{project.name}"):
        if version := versions.get(f"{base}{name}"):
            return replace(project, version=version)
    return project


def _origin(folder: str, own: Origin, submodules: Mapping[str, Submodule]) -> Origin:
    """Return where a folder is to be had: in the submodule around it, else in the repository."""
    around = [path for path in submodules if folder == path or folder.startswith(f"{path}/")]
    if not around:
        return replace(own, subdirectory="" if folder == "." else folder)
    outer = min(around, key=len)
    rest = folder.removeprefix(outer).strip("/")
    return Origin(git=submodules[outer].url, commit=submodules[outer].commit, subdirectory=rest)


def _of_project(project: Project, origin: Origin, *, torch: str) -> Build:
    cuda = any(one.cuda for one in project.extensions)
    needs = ["torch"] if "torch" in project.imports or cuda else []
    own = canonicalize_name(project.name or project.folder.rpartition("/")[2] or "unnamed")
    build_requires = [text for text in map(_requirement, project.build_requires) if text]
    names = {canonicalize_name(Parsed(text).name) for text in build_requires}
    if "setuptools" not in names:
        build_requires.append("setuptools<81" if "pkg_resources" in project.imports else "setuptools<70")
    if "wheel" not in names:
        build_requires.append("wheel")
    for module in project.imports:
        if module in {"numpy", "Cython"}:
            (needs if module == "numpy" else build_requires).append(module.lower())
    modules = [
        one.module
        for one in project.extensions
        if re.fullmatch(r"[A-Za-z_]\w*(\.[A-Za-z_]\w*)*", one.module, re.ASCII)
    ]
    return Build(
        name=_project_name(own),
        version=project.version or "0.0.0",
        origin=origin,
        place=project.place,
        needs=tuple(dict.fromkeys(needs)),
        build_requires=tuple(dict.fromkeys(build_requires)),
        requires=tuple(text for text in map(_requirement, project.requires) if text),
        env=(("FORCE_CUDA", "1"),) if "FORCE_CUDA" in project.asks_env else (),
        expects=tuple(dict.fromkeys(f"{module.replace('.', '/')}*.so" for module in modules)),
        imports=tuple(dict.fromkeys(modules)),
        cuda=cuda,
        notes=tuple(_remarks(project, torch, cuda=cuda)),
    )


def _remarks(project: Project, torch: str, *, cuda: bool) -> Iterator[str]:
    if project.extensions:
        what = ", ".join(
            one.module or "(a name that only running it would say)" for one in project.extensions
        )
        yield f"{'CUDA' if cuda else 'C++'} extension {what} ({listed(one.place for one in project.extensions)})"
    if project.sources:
        yield f"compiles {listed(project.sources, most=6)}"
    if "version" in project.computed and not project.version:
        yield "decide: version: only running its setup.py would say it"
    elif not project.version:
        yield "decide: no version is said: setuptools makes it 0.0.0"
    if "install_requires" in project.computed and not project.requires:
        yield "decide: requires: only running its setup.py would say them"
    if project.standards:
        words = listed(
            (f"-std={standard} at line {line}" for standard, line in project.standards), most=4
        )
        old = _at_least(torch, (2, 1)) and any(s in {"c++11", "c++14"} for s, _ in project.standards)
        yield f"{words}" + (
            "; decide: torch 2.1 and later need C++17: an edit in `edits`" if old else ""
        )
    forced = "FORCE_CUDA" in project.asks_env
    if project.asks_gpu and not forced and cuda:
        yield f"decide: line {project.asks_gpu} looks for a GPU, which no sandbox has, and knows no FORCE_CUDA: it needs an edit"
    others = [name for name in project.asks_env if name not in _FORCED]
    if others:
        yield f"looks at the variables {', '.join(others)}"
    missing = [m for m in project.imports if m == "pkg_resources"]
    if missing:
        yield "imports pkg_resources, which setuptools 81 and later lack"


def _at_least(version: str, bound: tuple[int, int]) -> bool:
    try:
        return Version(version).release[:2] >= bound
    except InvalidVersion:
        return False


def _of_submodule(submodule: Submodule, place: Place) -> Build:
    name = submodule.path.rpartition("/")[2]
    guess = bool(re.search(r"cuda|raster|knn|ops|grid|nerf", name))
    return Build(
        name=_project_name(name),
        version="0.0.0",
        origin=Origin(git=submodule.url, commit=submodule.commit),
        place=place,
        submodules=True,
        needs=("torch",) if guess else (),
        build_requires=("setuptools<70", "wheel"),
        cuda=guess,
        notes=(
            f"submodule {submodule.path} ({submodule.place}), installed at {place}",
            (
                "decide: name, version, requirements and extensions: its files are not here; "
                "`git submodule update --init --recursive`, then `lockbuild init` again, reads them"
            ),
        ),
    )


def _of_sdists(findings: Sequence[Finding]) -> Iterator[Build]:
    for name, requirements in sorted(stated(findings).items()):
        version = next((v for one in requirements if (v := exact_version(one.text))), "")
        # What only a folder asks for is named in a comment, as its other packages are.
        if all(is_nested(one.place.file) for one in requirements):
            continue
        if name not in ONLY_SDIST or not version or not _is_version(version):
            continue
        origin = Origin(git="", commit="", sdist=f"{name}=={version}")
        if name == "mmcv-full":
            yield _mmcv(version, origin, requirements[0].place)
            continue
        yield Build(
            name=name,
            version=version,
            origin=origin,
            place=requirements[0].place,
            build_requires=("setuptools<70", "wheel"),
            notes=(
                "the default index has no wheel of it for Linux",
                "decide: `requires`: what it needs when it runs, as its metadata says",
            ),
        )


def _mmcv(version: str, origin: Origin, place: Place) -> Build:
    """Return the one sdist that half of the field needs, and that goes wrong in silence: without torch or
    FORCE_CUDA it builds, and has no operators.
    """  # noqa: D205 - one sentence
    return Build(
        name="mmcv-full",
        version=version,
        origin=origin,
        place=place,
        needs=("torch",),
        build_requires=("cython", "setuptools<70", "wheel"),
        requires=("addict", "numpy", "packaging", "pillow", "pyyaml", "yapf"),
        env=(("FORCE_CUDA", "1"), ("MMCV_WITH_OPS", "1")),
        expects=("mmcv/_ext*.so",),
        imports=("mmcv.ops",),
        cuda=True,
        notes=("the default index has no wheel of it for Linux",),
    )


def _is_version(text: str) -> bool:
    try:
        Version(text)
    except InvalidVersion:
        return False
    return True


def _requirement(text: str) -> str:
    """Return a requirement as a stack file may hold it; empty for what is none."""
    try:
        parsed = Parsed(text)
    except InvalidRequirement:
        return ""
    return "" if parsed.url else str(parsed)


def _project_name(text: str) -> str:
    return re.sub(r"[^a-z0-9-]+", "-", canonicalize_name(text)).strip("-") or "unnamed"


def moving(findings: Sequence[Finding], *, names: Sequence[str]) -> tuple[Moving, ...]:
    """Return what is installed from repositories as they are now, without the repository itself.

    Args:
        names: What the repository is called.
    """
    own = {name.lower() for name in names}
    found: dict[str, Moving] = {}
    for each in (f for f in findings if isinstance(f, GitRequirement)):
        if (
            each.name in own
            or each.url.rstrip("/").rpartition("/")[2].removesuffix(".git").lower() in own
        ):
            continue
        key = each.url.removesuffix(".git").lower()
        known = found.get(key)
        found[key] = Moving(
            requirement=known.requirement if known else each,
            places=(*(known.places if known else ()), each.place),
        )
    return tuple(sorted(found.values(), key=lambda one: one.requirement.name))
