"""Where a built wheel comes from: a CycloneDX record inside of it, and reading that record. Pure.

The record follows from the wheel's version and the derivations of what was compiled, and from nothing else: no
time, no serial number, no machine. It is written by hand, as its bytes are part of what is pinned; a library's
would change with its releases. CycloneDX's `components` are what the wheel holds; what it was made with stands
under `formulation`, where nobody takes a compiler for something that was installed.
"""

from __future__ import annotations

import json
import re
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from lockbuild.derivation import (
    IMAGE_INPUT,
    Addresses,
    ArchiveMembers,
    BesideFile,
    Build,
    ChannelFile,
    Derivation,
    Fetch,
    GitTree,
    IndexFile,
    PoolFile,
    RegistryImage,
)
from lockbuild.derivationtext import derivation_text, parse_derivation
from lockbuild.digest import StorePath, canonical_json
from lockbuild.purls import package_url, place_and_tag, url_of_commit, url_of_image
from lockbuild.strangers import refuse_unsafe

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

__all__ = [
    "FOLDER",
    "RECORD",
    "Material",
    "Provenance",
    "closure_of",
    "materials",
    "parse_record",
    "record_text",
    "stamped_build",
]

RECORD = "sboms/lockbuild.cdx.json"
"""Where the record is below a wheel's .dist-info: the place that PEP 770 reserves."""

FOLDER = "lockbuild"
"""Where patches are below a wheel's .dist-info, each named by its sha256."""

_FORMAT = "1"
"""Raised whenever equal derivations would give another record, or an equal record another wheel."""

_DERIVATION = "lockbuild:derivation"
_BUILD = "lockbuild:build"
_FORMAT_WORD = "lockbuild:format"
_ROLE = "lockbuild:role"

_COMPILERS = re.compile(r"(gcc|g\+\+|clang|gfortran)(-[0-9.]+)?")
_NVCC = re.compile(r"nvidia-cuda-toolkit|cuda-nvcc-.*|nvidia-cuda-nvcc.*|cuda-nvcc")
_NVCC_WHEEL = re.compile(r"nvidia_cuda_nvcc(_cu[0-9]+)?-")
_PYTHON = re.compile(r"python3(\.[0-9]+)?(-minimal)?|python")


@dataclass(frozen=True, slots=True, kw_only=True)
class Provenance:
    """What a stamped wheel says of itself."""

    name: str
    """Normalised."""
    version: str
    """With its label."""
    build: StorePath
    """What compiled it."""
    derivations: Mapping[StorePath, Derivation]
    """That build and all that it needs, directly or not."""

    def fetches(self) -> tuple[Fetch, ...]:
        """Return every fetch, sorted by store path."""
        return tuple(one for _, one in sorted(self.derivations.items()) if isinstance(one, Fetch))

    def patches(self) -> tuple[Fetch, ...]:
        """Return the files beside the stack file that went in: the wheel brings them along."""
        return tuple(fetch for fetch in self.fetches() if isinstance(fetch.where, BesideFile))


@dataclass(frozen=True, slots=True, kw_only=True)
class Material:
    """A fetch that a wheel was made of or with."""

    role: str
    """`source`, `patch`, `host compiler`, `build environment`, …"""
    name: str
    purl: str
    fetch: Fetch


def closure_of(
    path: StorePath, derivations: Mapping[StorePath, Derivation]
) -> dict[StorePath, Derivation]:
    """Return the derivation of *path* and of all that it needs, directly or not, sorted.

    Raises:
        KeyError: One is missing.
    """
    found: dict[StorePath, Derivation] = {}
    waiting = [path]
    while waiting:
        one = waiting.pop()
        if one not in found:
            derivation = found[one] = derivations[one]
            waiting.extend(derivation.references if isinstance(derivation, Build) else ())
    return dict(sorted(found.items()))


def stamped_build(provenance: Provenance, *, epoch: int) -> Build:
    """Return the build that writes version and record into the compiled wheel."""
    compiled = provenance.derivations[provenance.build]
    if not isinstance(compiled, Build):
        msg = f"`{provenance.build}` is nothing that is built"
        raise TypeError(msg)
    patches = {(f"patches/{one.sha256}.patch", one.path) for one in provenance.patches()}
    return Build(
        name=f"{provenance.name}-{provenance.version}-stamped",
        kind="stamped",
        system=compiled.system,
        toolchain=None,
        command=(
            f"--format={_FORMAT}",
            f"--version={provenance.version}",
            record_text(provenance),
        ),
        env=(("SOURCE_DATE_EPOCH", str(epoch)),),
        inputs=tuple(sorted({("wheel", provenance.build), *patches})),
    )


# ---- writing ---------------------------------------------------------------------------------------


def record_text(provenance: Provenance) -> str:
    """Return the text of the record: CycloneDX 1.6 as JSON."""
    # A file name without epoch is not the version that the package is called by.
    versions = _full_versions(provenance)
    held, used = (
        [_component(path, fetch, role, provenance, versions) for role, path, fetch in found]
        for found in _sorted_roles(provenance)
    )
    used += [
        _built(one, "build environment")
        for path, one in sorted(provenance.derivations.items())
        if isinstance(one, Build) and one.kind == "wheel" and path != provenance.build
    ]
    document: dict[str, Any] = {
        "$schema": "http://cyclonedx.org/schema/bom-1.6.schema.json",
        "bomFormat": "CycloneDX",
        "specVersion": "1.6",
        "version": 1,
        "metadata": {
            "lifecycles": [{"phase": "build"}],
            "tools": {"components": [{"type": "application", "name": "lockbuild"}]},
            "component": {
                "bom-ref": "wheel",
                "type": "library",
                "name": provenance.name,
                "version": provenance.version,
                "purl": package_url("pypi", provenance.name, provenance.version),
            },
        },
        "components": held,
        "formulation": [
            {
                "components": used,
                "properties": [
                    _property(_FORMAT_WORD, _FORMAT),
                    _property(_BUILD, provenance.build),
                    *(
                        _property(_DERIVATION, derivation_text(one))
                        for _, one in sorted(provenance.derivations.items())
                    ),
                ],
            }
        ],
    }
    return f"{canonical_json(document).decode()}\n"


def materials(provenance: Provenance) -> tuple[Material, ...]:
    """Return every fetch of *provenance*: what the wheel holds first, then what it was made with; sorted by role."""
    versions = _full_versions(provenance)
    found = []
    for role, _, fetch in (one for used in _sorted_roles(provenance) for one in used):
        name, _, purl = _named(fetch, versions)
        found.append(Material(role=role, name=name, purl=purl, fetch=fetch))
    return tuple(found)


def _property(name: str, value: str) -> dict[str, str]:
    return {"name": name, "value": value}


_Used = list[tuple[str, StorePath, Fetch]]


def _sorted_roles(provenance: Provenance) -> tuple[_Used, _Used]:
    """Return role, path and fetch of what the wheel holds, and of what it was made with; sorted."""
    held: dict[StorePath, str] = {}
    used: dict[StorePath, str] = {}
    for path, build in sorted(provenance.derivations.items()):
        if isinstance(build, Build):
            for place, needed in build.inputs:
                chosen = held if _is_code(provenance, path, place) else used
                chosen.setdefault(needed, _role(build, place, needed.name))

    def listed(roles: Mapping[StorePath, str]) -> _Used:
        found = ((role, path, provenance.derivations[path]) for path, role in roles.items())
        return sorted(
            ((role, path, one) for role, path, one in found if isinstance(one, Fetch)),
            key=lambda one: (one[0], one[2].filename, one[1]),
        )

    return listed(held), listed({path: used[path] for path in used.keys() - held.keys()})


def _is_code(provenance: Provenance, path: StorePath, place: str) -> bool:
    """Tell whether what stands at *place* of the build at *path* is what the wheel was compiled from."""
    if path == provenance.build:
        return place.startswith("source")
    compiled = provenance.derivations[provenance.build]
    return isinstance(compiled, Build) and dict(compiled.inputs).get("source") == path


def _role(build: Build, place: str, filename: str) -> str:
    if build.kind == "environment":
        return "nvcc" if _NVCC_WHEEL.match(filename) else "build environment"
    if build.kind == "source":
        return {"patches": "patch", "grafts": "graft"}.get(place.partition("/")[0], "source")
    if build.kind == "wheel":
        return "source"
    if place == IMAGE_INPUT:
        return "base image"
    package = filename.partition("_")[0]
    for role, pattern in (
        ("host compiler", _COMPILERS),
        ("nvcc", _NVCC),
        ("interpreter", _PYTHON),
    ):
        if filename.endswith(".deb") and pattern.fullmatch(package):
            return role
    return "toolchain" if filename.endswith((".deb", ".conda", ".tar.bz2")) else "interpreter"


def _component(
    path: StorePath,
    fetch: Fetch,
    role: str,
    provenance: Provenance,
    versions: Mapping[str, str],
) -> dict[str, Any]:
    name, version, purl = _named(fetch, versions)
    table: dict[str, Any] = {
        "bom-ref": str(path),
        "type": "container" if isinstance(fetch.where, RegistryImage) else "library",
        "name": name,
    }
    if role == "patch":
        table["type"] = "file"
    if version:
        table["version"] = version
    properties = [_property(_ROLE, role)]
    if isinstance(fetch.where, GitTree):
        # The sha256 of a listing is no hash of bytes that anybody else could compute.
        properties.append(_property("lockbuild:tree-sha256", fetch.sha256))
    else:
        table["hashes"] = [{"alg": "SHA-256", "content": fetch.sha256}]
    table["purl"] = purl
    if role == "source" and (pedigree := _pedigree(provenance)):
        table["pedigree"] = pedigree
    table["properties"] = properties
    return table


def _pedigree(provenance: Provenance) -> dict[str, Any]:
    """Return how the source was changed: CycloneDX's word for patches and edits."""
    compiled = provenance.derivations[provenance.build]
    source = dict(compiled.inputs).get("source") if isinstance(compiled, Build) else None
    edited = provenance.derivations.get(source) if source else None
    if not isinstance(edited, Build):
        return {}
    named = dict(edited.inputs)
    patches = [
        {"type": "unofficial", "diff": {"url": f"../{FOLDER}/{fetch.sha256}.patch"}}
        for place in sorted(named)
        if place.startswith("patches/")
        and isinstance(fetch := provenance.derivations[named[place]], Fetch)
    ]
    return {**({"patches": patches} if patches else {}), "notes": edited.command[-1]}


def _built(build: Build, role: str) -> dict[str, Any]:
    name, _, version = build.name.rpartition("-")
    return {
        "bom-ref": str(build.path),
        "type": "library",
        "name": name,
        "version": version,
        "purl": package_url("pypi", name, version),
        "properties": [_property(_ROLE, role)],
    }


def _named(fetch: Fetch, versions: Mapping[str, str]) -> tuple[str, str, str]:
    """Return name, version and package URL of what is fetched."""
    where, filename = fetch.where, fetch.filename
    if isinstance(where, PoolFile):
        name, _, rest = filename.partition("_")
        version, _, architecture = rest.removesuffix(".deb").rpartition("_")
        version = versions.get(name, version)
        return name, version, package_url("deb", name, version, where.vendor, arch=architecture)
    if isinstance(where, ChannelFile):
        stem = filename.removesuffix(".conda").removesuffix(".tar.bz2")
        name, version, build = ([*stem.rsplit("-", 2), "", ""])[:3]
        more = {"build": build, "channel": where.channel, "subdir": where.subdir}
        return name, version, package_url("conda", name, version, **more)
    if isinstance(where, RegistryImage):
        place, tag = place_and_tag(where.reference)
        return place, tag, url_of_image(where.reference, fetch.sha256, where.architecture)
    if isinstance(where, GitTree):
        name = where.url.rstrip("/").rpartition("/")[2].removesuffix(".git")
        return name, where.commit, url_of_commit(where.url, where.commit)
    if isinstance(where, IndexFile) or filename.endswith(".whl"):
        name, version = _distribution(filename)
        url = where.urls[0] if isinstance(where, Addresses) else ""
        project = where.project if isinstance(where, IndexFile) else name
        more = {"download_url": url, "file_name": filename}
        return project, version, package_url("pypi", project, version, **more)
    url = where.urls[0] if isinstance(where, Addresses) else ""
    more = {"checksum": f"sha256:{fetch.sha256}", "download_url": url}
    return filename, "", package_url("generic", filename, **more)


def _distribution(filename: str) -> tuple[str, str]:
    """Return normalised name and version of a wheel or an sdist, by its file name."""
    if filename.endswith(".whl"):
        name, version = filename.split("-")[:2]
    else:
        name, _, version = re.sub(r"\.(tar\.\w+|zip|tgz)$", "", filename).rpartition("-")
    return re.sub(r"[-_.]+", "-", name).lower(), version


def _full_versions(provenance: Provenance) -> dict[str, str]:
    """Return Debian package -> version: file names lack the epoch, the commands of root file systems have it."""
    words = (
        word
        for build in provenance.derivations.values()
        if isinstance(build, Build) and build.kind == "rootfs"
        for word in build.command
        if not word.startswith("--")
    )
    return {name: version for name, _, version in (word.partition("=") for word in words)}


# ---- reading ---------------------------------------------------------------------------------------


_MOST_DERIVATIONS = 20_000
_MOST_BYTES = 64 * 1024 * 1024
_MOST_FETCHED = 512 * 1024**3


def parse_record(text: str) -> Provenance:
    """Return what a record says, which is checked as a stranger's.

    Store paths are computed from the derivations, and the record from them: what does not agree is refused.

    Raises:
        ValueError: It is no record as `record_text` writes it, byte by byte.
    """
    if len(text) > _MOST_BYTES:
        raise ValueError(f"it has {len(text)} characters, at most {_MOST_BYTES} are accepted")
    document = _document(text)
    try:
        component = document["metadata"]["component"]
        name, version = component["name"], component["version"]
        properties = [(one["name"], one["value"]) for one in document["formulation"][0]["properties"]]
        if not all(isinstance(word, str) for pair in ((name, version), *properties) for word in pair):
            raise TypeError("a name or a value is no text")
    except (AttributeError, IndexError, KeyError, TypeError) as error:
        raise ValueError(f"it lacks what a record of lockbuild's has: {error!r}") from error
    found = dict(reversed(properties))
    if found.get(_FORMAT_WORD) != _FORMAT:
        raise ValueError(f"its format is {found.get(_FORMAT_WORD)!r}, this lockbuild knows {_FORMAT!r}")
    texts = [value for key, value in properties if key == _DERIVATION]
    if len(texts) > _MOST_DERIVATIONS:
        raise ValueError(f"it has {len(texts)} derivations, at most {_MOST_DERIVATIONS} are accepted")
    derivations = {one.path: one for one in map(parse_derivation, texts)}
    provenance = Provenance(
        name=_word(name),
        version=_word(version),
        build=StorePath(found.get(_BUILD, "")),
        derivations=derivations,
    )
    _check(provenance)
    if record_text(provenance) != text:
        raise ValueError("it does not follow from the derivations that it names")
    return provenance


def _document(text: str) -> Any:  # noqa: ANN401 - any JSON value
    try:
        return json.loads(text)
    except (RecursionError, ValueError) as error:
        raise ValueError(f"it is not JSON: {error}") from error


def _word(text: str) -> str:
    if not re.fullmatch(r"[A-Za-z0-9][A-Za-z0-9._+!-]{0,99}", text):
        raise ValueError(f"it names a strange package: {text[:80]!r}")
    return text


def _check(provenance: Provenance) -> None:
    """Refuse derivations that do not make one wheel, or that are not to be had."""
    compiled = provenance.derivations.get(provenance.build)
    if not isinstance(compiled, Build) or compiled.kind != "wheel":
        raise ValueError(f"it names `{provenance.build}`, and has no such build of a wheel")
    if any(isinstance(one, Build) and one.kind == "stamped" for one in provenance.derivations.values()):
        raise ValueError("it has a stamped wheel among what it is made of")
    for lacking in _lacking(provenance):
        raise ValueError(f"it needs `{lacking}`, and does not say how that is made")
    known = closure_of(provenance.build, provenance.derivations)
    if known.keys() != provenance.derivations.keys():
        stray = min(provenance.derivations.keys() - known.keys())
        raise ValueError(f"it has a derivation that nothing needs: `{stray}`")
    refuse_unsafe(provenance.derivations)
    total = sum(_bytes(fetch) for fetch in provenance.fetches())
    if total > _MOST_FETCHED:
        raise ValueError(f"{total} bytes would be fetched, at most {_MOST_FETCHED} are accepted")


def _bytes(fetch: Fetch) -> int:
    """Return how many bytes would come, as far as that is said."""
    where = fetch.where
    return where.archive_size if isinstance(where, ArchiveMembers) else fetch.size or 0


def _lacking(provenance: Provenance) -> Iterator[StorePath]:
    for one in provenance.derivations.values():
        if isinstance(one, Build):
            yield from (path for path in one.references if path not in provenance.derivations)
