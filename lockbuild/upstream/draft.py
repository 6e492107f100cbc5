"""The first stack file for an upstream repository, with what is left to decide in its comments. Pure."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import TYPE_CHECKING

from lockbuild.cells.tables import nvcc_release, suite_of
from lockbuild.upstream.builds import Origin, builds, moving
from lockbuild.upstream.choosing import choose, is_nested
from lockbuild.upstream.findings import (
    Clone,
    HubName,
    Index,
    Note,
    Setting,
    Submodule,
)
from lockbuild.upstream.knowledge import TORCH_FAMILY
from lockbuild.upstream.packages import (
    contradictions,
    debian_packages,
    undeclared,
    wanted_packages,
)
from lockbuild.upstream.text import comment, listed, quoted, said, strings
from lockbuild.upstream.weights import HUB_FOLDER, put_by_hand, weights

if TYPE_CHECKING:
    from collections.abc import Collection, Iterable, Iterator, Sequence

    from lockbuild.upstream.builds import Build, Moving
    from lockbuild.upstream.choosing import Chosen, Machine
    from lockbuild.upstream.findings import Finding
    from lockbuild.upstream.knowledge import Base
    from lockbuild.upstream.packages import Debs, Wanted
    from lockbuild.upstream.weights import Weights

__all__ = ["Upstream", "draft"]

_MOST_ASSETS = 40
_MOST_LINES = 60
_VARIABLE = re.compile(r"[A-Za-z_][A-Za-z0-9_]*", re.ASCII)
_BUILDERS = frozenset(
    {"DEBIAN_FRONTEND", "FORCE_CUDA", "HOME", "LANG", "LC_ALL", "PATH", "TORCH_CUDA_ARCH_LIST", "TZ"}
)
_CAPABILITIES = re.compile(r"\d+\.\d+a?(\+PTX)?", re.ASCII)


@dataclass(frozen=True, slots=True, kw_only=True)
class Upstream:
    """A repository, and all that was found in it."""

    name: str
    """What it is called."""
    git: str
    """Where everybody can have it; empty where nobody says."""
    commit: str
    """Empty likewise."""
    findings: tuple[Finding, ...]
    modules: frozenset[str]
    """Names under which its own code may be imported."""
    licences: tuple[str, ...] = ()
    """Files of its top that say under which licence it is."""
    notes: tuple[str, ...] = ()
    """What was not read, and why."""


def draft(upstream: Upstream, *, name: str, standard: Collection[str]) -> str:
    """Return the text of a stack file: accepted by the schema, and complete but for what it says is open.

    Args:
        name: The stack's name.
        standard: Modules of Python itself.
    """
    findings = _in_order(upstream.findings)
    own = Origin(git=upstream.git, commit=upstream.commit)
    first = choose(findings, compiles=False)
    torch = first.torch.value if first.torch else ""
    built = builds(findings, own=own, torch=torch)
    cuda = any(build.cuda for build in built)
    machine = choose(findings, compiles=cuda) if cuda else first
    names = {build.name for build in built}
    packages = wanted_packages(findings, machine, built=names)
    frozen = moving(findings, names=(upstream.name, name))
    imported = undeclared(findings, standard=standard, local=upstream.modules, built=names)
    data = weights(findings, name=upstream.name, git=upstream.git, commit=upstream.commit)
    debs = debian_packages(findings, packages, machine, compiles=bool(built))
    pinned = [build for build in built if build.origin.pinned]
    body = [
        *_head(upstream, name, machine),
        *_target(machine, findings, compiles=cuda),
        *_base(machine, cuda=cuda),
        *(_toolchain(machine.base) if cuda else ()),
        *_debian(debs),
        *_python(packages, pinned, imported, machine, findings),
        *_builds(built, frozen),
        *_source(upstream, findings, taken=names),
        *_assets(data, findings),
        *_by_hand(put_by_hand(findings, data, name=upstream.name)),
        *_env(data, findings),
        *_preflight(pinned, packages, machine),
    ]
    differ = contradictions(findings)
    opening = _opening(upstream, differ, body)
    return "\n".join([*opening, *body]) + "\n"


def _in_order(findings: Iterable[Finding]) -> list[Finding]:
    """Return findings sorted by what they say and where, so that no order of files shows."""
    return sorted(set(findings), key=lambda one: (type(one).__name__, repr(one)))


# ---- head -----------------------------------------------------------------------------------------


def _opening(upstream: Upstream, differ: Sequence[str], body: Sequence[str]) -> Iterator[str]:
    count = sum("decide" in line for line in (*body, *differ))
    yield from comment(
        f"A first draft by `lockbuild init`, from {upstream.name or 'a repository'}"
        + (f" at {upstream.commit[:12]}" if upstream.commit else "")
        + f". Behind each line is where upstream says it; {count} lines say `decide`."
    )
    for note in upstream.notes:
        yield from comment(note)
    if differ:
        yield "#"
        yield "# Upstream's files contradict one another; the first of each line was taken:"
        for line in differ:
            yield from comment(line, first="#  - ", rest="#    ")
    yield ""


def _head(upstream: Upstream, name: str, machine: Machine) -> Iterator[str]:
    words = [upstream.name or name]
    if machine.cuda:
        words.append(f"CUDA {machine.cuda.value}")
    if machine.torch and machine.torch.value:
        words.append(f"PyTorch {machine.torch.value}")
    yield f"name = {quoted(name)}"
    yield f"summary = {quoted(said(': '.join([words[0], ', '.join(words[1:])]) if words[1:] else words[0]))}"
    yield ""


def _notes(notes: Iterable[str], *, indent: str = "") -> Iterator[str]:
    for note in notes:
        if note:
            yield from comment(note, first=f"{indent}# ", rest=f"{indent}#   ")


def _target(machine: Machine, findings: Sequence[Finding], *, compiles: bool) -> Iterator[str]:
    yield "[target]"
    yield from _notes(machine.python.notes)
    yield f"python = {quoted(machine.python.value)}{_at(None if machine.python.notes else machine.python.place)}"
    yield 'platform = "linux_x86_64"'
    yield f"glibc = {quoted(machine.base.glibc)}  # of {machine.base.suite}"
    if machine.cuda:
        yield from _notes(machine.cuda.notes)
        yield _cuda(machine.cuda, machine.base, compiles=compiles)
    if compiles:
        yield from _architectures(machine, findings)
    yield ""


def _cuda(cuda: Chosen, base: Base, *, compiles: bool) -> str:
    """Return the CUDA of the target: that of the base's nvcc where that is compiled with."""
    if not compiles or cuda.value == base.nvcc or _major(cuda.value) != _major(base.nvcc):
        return f"cuda = {quoted(cuda.value)}{_at(cuda.place)}"
    place = f" ({cuda.place})" if cuda.place else ""
    return f"cuda = {quoted(base.nvcc)}  # {said(f'nvcc of {base.suite}; upstream has {cuda.value}{place}')}"


def _major(version: str) -> str:
    return version.partition(".")[0]


def _architectures(machine: Machine, findings: Sequence[Finding]) -> Iterator[str]:
    for found in findings:
        if isinstance(found, Setting) and found.name == "TORCH_CUDA_ARCH_LIST":
            words = re.split(r"[\s;,]+", found.value.strip())
            if all(map(_CAPABILITIES.fullmatch, words)):
                yield f"{next(strings('cuda-architectures', words))}{_at(found.place)}"
                return
            yield from _notes([f"{found.place} compiles for {found.value}"])
    yield "# decide: the GPUs that it is for; nothing else says which"
    yield from strings("cuda-architectures", machine.architectures)


def _at(place: object) -> str:
    return f"  # {said(str(place))}" if place else ""


def _base(machine: Machine, *, cuda: bool) -> Iterator[str]:
    parts = ["main", "contrib", "non-free"] if cuda else ["main"]
    yield "[base]"
    yield from _notes(machine.base_notes)
    components = ", ".join(map(quoted, parts))
    yield f"debian = {{ suite = {quoted(machine.base.suite)}, components = [{components}] }}"
    yield ""
    yield "[interpreter]"
    if machine.archive is None:
        yield 'apt = "python3"'
    else:
        yield f"# CPython {machine.archive.version} of python-build-standalone: {machine.base.suite} has {machine.base.python}."
        url, sha256 = quoted(machine.archive.url), quoted(machine.archive.sha256)
        yield f"standalone = {{ url = [{url}], sha256 = {sha256} }}"
    yield ""


def _toolchain(base: Base) -> Iterator[str]:
    nvcc, suite = nvcc_release(base.nvcc), suite_of(base.suite)
    yield "[toolchain]"
    yield f'nvcc = {{ apt = "nvidia-cuda-toolkit" }}  # nvcc {base.nvcc}'
    if nvcc and suite and suite.gcc > nvcc.gcc:
        yield f'compiler = "g++-{nvcc.gcc}"  # the newest that nvcc {base.nvcc} takes'
    yield ""


def _debian(debs: Debs) -> Iterator[str]:
    if not (debs.toolchain or debs.runtime or debs.left_out):
        return
    yield "[apt]"
    for key, packages in (("toolchain", debs.toolchain), ("runtime", debs.runtime)):
        if packages:
            yield f"{key} = ["
            yield from (f"  {quoted(name)},  # {said(why)}" for name, why in packages)
            yield "]"
    if debs.left_out:
        left = ", ".join(f"{name} ({why})" for name, why in debs.left_out)
        yield from comment(f"Upstream installs these, too, which the image may do without: {left}")
    yield ""


# ---- Python ---------------------------------------------------------------------------------------


def _python(
    packages: Sequence[Wanted],
    built: Sequence[Build],
    imported: Sequence[Wanted],
    machine: Machine,
    findings: Sequence[Finding],
) -> Iterator[str]:
    yield "[python]"
    yield "requires = ["
    for one in (one for one in packages if one.asked):
        yield from _notes(one.notes, indent="  ")
        yield f"  {quoted(one.text)},  # {said(listed(one.places))}"
    for build in built:
        yield f"  {quoted(f'{build.name}=={build.version}')},  # built below"
    nested = [one for one in packages if not one.asked]
    if nested:
        yield "  # decide: what only files of its folders ask for"
        yield from (
            f"  # {quoted(one.text)},  # {said(listed(one.places))}" for one in nested[:_MOST_LINES]
        )
    if imported:
        yield "  # decide: what is imported and no file asks for"
        for one in imported[:_MOST_LINES]:
            yield f"  # {quoted(one.text)},  # {said(f'{one.notes[0]}: {listed(one.places)}')}"
    yield "]"
    yield ""
    yield from _indexes(packages, machine, findings)


def _indexes(packages: Sequence[Wanted], machine: Machine, findings: Sequence[Finding]) -> Iterator[str]:
    label = f"cu{machine.torch_cuda.replace('.', '')}"
    if machine.torch_cuda:
        yield "[[python.index]]"
        yield f'name = "pytorch-{label}"'
        yield f'url = "https://download.pytorch.org/whl/{label}"'
        yield from strings("only", [one.name for one in packages if one.name in TORCH_FAMILY])
        yield ""
    others: dict[str, Index] = {}
    for found in findings:
        if isinstance(found, Index) and "download.pytorch.org" not in found.url:
            others.setdefault(found.url, found)
    for number, found in enumerate(others.values(), 1):
        near = sorted(
            {n for f in findings if isinstance(f, Index) and f.url == found.url for n in f.near}
        )
        if "nvidia" in found.url:
            near = [one for one in near if re.search(r"^(nvidia|cu|py?cu)|-cu\d+$", one)]
        yield "# decide: what comes from this index, and from no other"
        yield f"# [[python.index]]  # {said(str(found.place))}"
        yield f'# name = "other-{number}"'
        yield f"# url = {quoted(found.url)}"
        yield from (f"# {line}" for line in strings("only", near or ["decide"]))
        yield ""


# ---- builds and sources ---------------------------------------------------------------------------


def _builds(built: Sequence[Build], frozen: Sequence[Moving]) -> Iterator[str]:
    for build in built:
        if build.origin.pinned:
            yield from _build(build)
        else:
            yield "# decide: git address and commit of its source: `lockbuild init --git URL` of a git repository says both"
            yield from (f"# {line}" if line else line for line in _build(build))
    for one in frozen:
        yield from _moving(one)


def _build(build: Build) -> Iterator[str]:
    yield f"[[build]]  # {said(str(build.place))}"
    yield from _notes(build.notes)
    yield f"name = {quoted(build.name)}"
    yield f"version = {quoted(build.version)}"
    if build.origin.sdist:
        yield f"source = {{ sdist = {quoted(build.origin.sdist)} }}"
    else:
        origin = build.origin
        parts = [
            f"git = {quoted(origin.git or 'https://…')}",
            f"commit = {quoted(origin.commit or '…')}",
        ]
        if build.submodules:
            parts.append("submodules = true")
        if origin.subdirectory:
            parts.append(f"subdirectory = {quoted(origin.subdirectory)}")
        yield f"source = {{ {', '.join(parts)} }}"
    for key, values in (
        ("needs", build.needs),
        ("build-requires", build.build_requires),
        ("requires", build.requires),
    ):
        if values:
            yield from strings(key, values)
    if build.env:
        yield f"env = {{ {', '.join(f'{name} = {quoted(value)}' for name, value in build.env)} }}"
    if build.expects:
        yield from strings("expects", build.expects)
    yield ""


def _moving(one: Moving) -> Iterator[str]:
    wanted = one.requirement
    fixed = bool(re.fullmatch(r"[0-9a-f]{40}", wanted.revision))
    where = wanted.revision or "its newest commit"
    if fixed:
        yield "# decide: version and requirements of what upstream installs from git"
    else:
        yield f"# decide: freeze what moves: upstream installs {said(where)}; `git ls-remote {said(wanted.url)}` says which commit that is"
    name = re.sub(r"[^a-z0-9-]+", "-", wanted.name).strip("-") or "unnamed"
    commit = wanted.revision if fixed else "…"
    parts = [f"git = {quoted(wanted.url)}", f"commit = {quoted(commit)}"]
    if wanted.subdirectory:
        parts.append(f"subdirectory = {quoted(wanted.subdirectory)}")
    yield f"# [[build]]  # {said(listed(one.places))}"
    yield f"# name = {quoted(name)}"
    yield '# version = "…"'
    yield f"# source = {{ {', '.join(parts)} }}"
    yield ""


def _source(upstream: Upstream, findings: Sequence[Finding], *, taken: Collection[str]) -> Iterator[str]:
    submodules = sorted((f for f in findings if isinstance(f, Submodule)), key=lambda f: f.path)
    clones = sorted({(f.url, f.place) for f in findings if isinstance(f, Clone)}, key=str)
    name = re.sub(r"[^A-Za-z0-9._-]+", "-", upstream.name).strip("-._")[:50] or "upstream"
    name = f"{name}-source" if name in taken else name
    if submodules:
        yield "# Submodules, and the commits that the tree pins:"
        for one in submodules:
            pin = one.commit or "(a commit that only git knows)"
            yield from comment(
                f"{one.path} = {one.url} at {pin} ({one.place})", first="#  - ", rest="#    "
            )
    for note in (
        f for f in findings if isinstance(f, Note) and f.text.startswith("begins with the image")
    ):
        yield from comment(f"{note.place} {note.text}")
    pinned = bool(upstream.git and upstream.commit)
    mark = "" if pinned else "# "
    if not pinned:
        yield "# decide: where the application's own code is to be had"
        yield from (f"# {said(str(place))} clones {said(url)}" for url, place in clones)
    yield f"{mark}[[source]]"
    yield f"{mark}name = {quoted(name)}"
    yield f"{mark}git = {quoted(upstream.git or 'https://…')}"
    yield f"{mark}commit = {quoted(upstream.commit or '…')}"
    if submodules:
        yield f"{mark}submodules = true"
    where = (
        f"{listed(upstream.licences)} says its licence"
        if upstream.licences
        else "no file says its licence"
    )
    yield f"# decide: whether the image has it; {said(where)}"
    yield f"# path = {quoted(f'/workspace/{name}')}"
    yield '# license = "NOASSERTION"'
    yield '# accept-license = "decide: why this image may hold it"'
    yield ""


# ---- weights --------------------------------------------------------------------------------------


def _assets(data: Sequence[Weights], findings: Sequence[Finding]) -> Iterator[str]:
    if data:
        yield from comment(
            "Weights and other data. decide: which of them the image is to have, and under which licence: "
            'no program can know that. What may not be passed on is mounted (`policy = "mount"`).'
        )
    files = [one for one in data if not one.folder]
    for one in files[:_MOST_ASSETS]:
        yield f"# [[asset]]  # {said(listed(one.places) or 'Git LFS')}"
        for note in one.notes:
            yield from comment(note, first="# # ", rest="# #   ")
        yield f"# name = {quoted(one.name)}"
        yield f"# path = {quoted(one.path)}"
        yield f"# url = [{quoted(one.url or 'https://…')}]"
        yield f"# lfs-oid = {quoted(one.lfs)}" if one.lfs else '# sha256 = "on-first-fetch"'
        if one.size:
            yield f"# size = {one.size}"
        yield '# license = "NOASSERTION"'
        yield '# accept-license = "decide: why this image may hold it"'
        yield ""
    rest = [*files[_MOST_ASSETS:], *(one for one in data if one.folder)]
    if rest:
        yield "# And more addresses of data:"
        yield from (f"#  - {said(one.url)} ({said(listed(one.places))})" for one in rest[:_MOST_LINES])
        if len(rest) > _MOST_LINES:
            yield f"#  - and {len(rest) - _MOST_LINES} more"
        yield ""
    yield from _hubs(findings)


def _by_hand(files: Sequence[Weights]) -> Iterator[str]:
    if files:
        yield from comment(
            "Put there by hand, says upstream. decide: which of them are mounted, and what tells people where to get them."
        )
    for one in files[:_MOST_ASSETS]:
        yield f"# [[asset]]  # {said(listed(one.places))}"
        yield f"# name = {quoted(one.name)}"
        yield '# policy = "mount"'
        yield f"# path = {quoted(one.path)}"
        yield '# license = "NOASSERTION"'
        yield '# why = "decide: what it is, and where one who may use it gets it"'
        yield ""


def _hubs(findings: Sequence[Finding]) -> Iterator[str]:
    named: dict[tuple[str, str], list[object]] = {}
    for found in findings:
        if isinstance(found, HubName):
            named.setdefault((found.hub, found.name), []).append(found.place)
    for (hub, name), places in sorted(named.items()):
        repository = name.split(" ")[0].partition(":")[0].replace("/", "_")
        branch = name.split(" ")[0].partition(":")[2].replace("/", "_") or "main"
        how = (
            f"offline it wants a tree in {HUB_FOLDER}/hub/{repository}_{branch}, and the weights that its hubconf.py loads"
            if hub == "torch.hub"
            else "offline it wants its files in the cache below HF_HOME, and HF_HUB_OFFLINE"
        )
        yield from comment(f"decide: {hub} loads {name} ({listed(places)}): {how}")
    if named:
        yield ""


# ---- the image ------------------------------------------------------------------------------------


def _env(data: Sequence[Weights], findings: Sequence[Finding]) -> Iterator[str]:
    hub = any(one.path.startswith(HUB_FOLDER) for one in data)
    hub = hub or any(isinstance(f, HubName) and f.hub == "torch.hub" for f in findings)
    faces = any(isinstance(f, HubName) and f.hub == "Hugging Face" for f in findings)
    settings = [
        f
        for f in findings
        if isinstance(f, Setting) and f.name not in _BUILDERS and not is_nested(f.place.file)
    ]
    if not (hub or faces or settings):
        return
    yield "[env]"
    if faces:
        yield 'HF_HUB_OFFLINE = "1"'
    if hub:
        yield f"TORCH_HOME = {quoted(HUB_FOLDER)}"
    for found in settings:
        if _VARIABLE.fullmatch(found.name):
            yield f"# {found.name} = {quoted(said(found.value))}  # decide: {said(str(found.place))} sets it"
    yield ""


def _preflight(built: Sequence[Build], packages: Sequence[Wanted], machine: Machine) -> Iterator[str]:
    modules = ["torch"] if any(one.name == "torch" and one.asked for one in packages) else []
    modules += [module for build in built for module in build.imports]
    yield "[preflight]"
    if machine.cuda:
        yield 'gpu = "required"'
    if modules:
        yield from strings("imports", sorted(set(modules)))
