"""A stack: the declared environment of a research system, as frozen values. Pure.

`from_document` takes a document that `lockbuild.stack.schema` has accepted, now or when the lock was
made, and never checks it again. Defaults stand here and nowhere else.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, TypeVar
from urllib.parse import unquote

from lockbuild.digest import JsonValue, canonical_json, sha256_of
from lockbuild.edits import Edit, Graft, Patch, Substitute
from lockbuild.stack.assets import Asset
from lockbuild.target import Target

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

__all__ = [
    "Apt",
    "Asset",
    "Base",
    "BuildSpec",
    "DebianBase",
    "Image",
    "Index",
    "Interpreter",
    "Mount",
    "NamedSource",
    "PinnedWheel",
    "Python",
    "Source",
    "Stack",
    "Standalone",
    "file_name_of",
    "from_document",
    "inputs_of",
]


@dataclass(frozen=True, slots=True, kw_only=True)
class DebianBase:
    """Root file systems made from locked .debs."""

    suite: str
    """`bookworm`: the release suite alone is used, whose versions stand still between point releases."""
    vendor: str = "debian"
    """Whose archive: `debian` or `ubuntu`."""
    components: tuple[str, ...] = ("main",)
    snapshot: str | None = None
    """Time stamp of a snapshot archive (`20250601T000000Z`); none for the archive as it is now."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Base:
    """What toolchain and runtime stand on."""

    debian: DebianBase


@dataclass(frozen=True, slots=True, kw_only=True)
class Standalone:
    """A CPython that works wherever it is unpacked: an `install_only` archive of python-build-standalone."""

    url: tuple[str, ...]
    """Where it may be had, asked in order."""
    sha256: str
    size: int | None = None

    @property
    def filename(self) -> str:
        """The archive's name: that of the first address."""
        return file_name_of(self.url[0])


@dataclass(frozen=True, slots=True, kw_only=True)
class Interpreter:
    """Where Python comes from: exactly one of these."""

    apt: str | None = None
    """Debian package: `python3`."""
    standalone: Standalone | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Apt:
    """Packages wanted in each root file system, beside Debian's essential ones."""

    toolchain: tuple[str, ...] = ()
    runtime: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class Index:
    """A package index that serves only what is named, so that no other package can come from it."""

    name: str
    url: str
    only: tuple[str, ...]
    """Normalised project names."""


@dataclass(frozen=True, slots=True, kw_only=True)
class PinnedWheel:
    """A wheel known by its bytes, so that resolving needs no access to the index it comes from."""

    name: str
    version: str
    """With its local label: `2.7.1+cu118`."""
    filename: str
    url: tuple[str, ...]
    """Where it may be had, asked in order."""
    sha256: str
    size: int | None = None
    requires: tuple[str, ...] = ()
    """Its run-time requirements, as its own metadata says them."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Python:
    """What is installed by wheels, and what may be said about resolving it."""

    requires: tuple[str, ...] = ()
    constraints: tuple[str, ...] = ()
    overrides: tuple[str, ...] = ()
    """Pins stronger than a package's own requirements."""
    exclude_newer: str | None = None
    """Files uploaded later than this date or time do not exist."""
    indexes: tuple[Index, ...] = ()
    wheels: tuple[PinnedWheel, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class Source:
    """Where a build's source comes from: an sdist, a folder beside the stack file, or a commit."""

    sdist: str | None = None
    """`NAME==VERSION`."""
    path: str | None = None
    """Folder below the stack's folder."""
    git: str | None = None
    """Address of a repository."""
    commit: str | None = None
    """40 hexadecimal digits; every commit's tree is one set of bytes, wherever it comes from."""
    submodules: bool = False
    include: tuple[str, ...] = ()
    """Path patterns of what is wanted of the tree; none for everything."""
    exclude: tuple[str, ...] = ()
    subdirectory: str | None = None
    """Folder of the tree that is built."""


@dataclass(frozen=True, slots=True, kw_only=True)
class NamedSource:
    """A pinned source that is not built itself: builds may graft parts of it."""

    name: str
    source: Source


@dataclass(frozen=True, slots=True, kw_only=True)
class BuildSpec:
    """A package compiled in the sandbox into a wheel."""

    name: str
    version: str
    source: Source
    edits: tuple[Edit, ...] = ()
    """Changes to the source, in order."""
    needs: tuple[str, ...] = ()
    """Packages of the runtime lock that the build imports or links: the very same bytes."""
    build_requires: tuple[str, ...] = ()
    requires: tuple[str, ...] = ()
    """Run-time requirements, said here so that resolving runs no setup.py."""
    environment: str = ""
    """Builds that name the same one share one lock of build requirements."""
    env: tuple[tuple[str, str], ...] = ()
    expects: tuple[str, ...] = ()
    """Patterns of files that the wheel must hold: `mmcv/_ext*.so`."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Mount:
    """A folder or file that whoever runs the image brings along."""

    path: str
    """Where it is in the image."""
    holds: tuple[str, ...] = ()
    """Paths and patterns below it that must be there; none for a file."""
    why: str = ""
    """What it is, and why the image does not have it: said when it is missing."""
    optional: bool = False
    """Whether the image is of use without it."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Image:
    """How the image is run."""

    user: str = "lockbuild"
    workdir: str = "/workspace"
    entrypoint: tuple[str, ...] = ()
    command: tuple[str, ...] = ("python3",)


@dataclass(frozen=True, slots=True, kw_only=True)
class Stack:
    """A declared environment."""

    name: str
    summary: str
    target: Target
    base: Base
    interpreter: Interpreter
    apt: Apt = field(default_factory=Apt)
    python: Python = field(default_factory=Python)
    builds: tuple[BuildSpec, ...] = ()
    sources: tuple[NamedSource, ...] = ()
    env: tuple[tuple[str, str], ...] = ()
    """Environment variables of the image, sorted by name."""
    mounts: tuple[Mount, ...] = ()
    """Those that assets ask for are among them."""
    assets: tuple[Asset, ...] = ()
    """In the order of the stack file."""
    gpu: str = "none"
    """Whether the image's command needs a GPU: `none`, `optional` or `required`."""
    imports: tuple[str, ...] = ()
    """Modules that must import in the image."""
    checks: tuple[str, ...] = ()
    """Python programs that must run in the image without an error."""
    image: Image = field(default_factory=Image)

    def build(self, name: str) -> BuildSpec:
        """Return the build called *name*.

        Raises:
            KeyError: There is none.
        """
        for spec in self.builds:
            if spec.name == name:
                return spec
        raise KeyError(name)

    @property
    def bundles(self) -> tuple[Asset, ...]:
        """The assets that the image has."""
        return tuple(asset for asset in self.assets if asset.bundled)

    def pinned_sources(self) -> tuple[NamedSource, ...]:
        """Return what every build is made of, then every further source, as the stack file has them."""
        return (
            *(NamedSource(name=spec.name, source=spec.source) for spec in self.builds),
            *self.sources,
        )

    def build_environments(self) -> tuple[str, ...]:
        """Return the names of the build environments, sorted.

        The unnamed one, the empty string, is always among them: it brings what installs wheels.
        """
        return tuple(sorted({"", *(spec.environment for spec in self.builds)}))


def from_document(document: Mapping[str, Any]) -> Stack:
    """Return the stack that an accepted *document* describes."""
    python = document.get("python", {})
    preflight = document.get("preflight", {})
    assets = tuple(_asset(table) for table in document.get("asset", ()))
    return Stack(
        name=document["name"],
        summary=document.get("summary", ""),
        target=_make(Target, document["target"]),
        base=Base(debian=_make(DebianBase, document["base"]["debian"])),
        interpreter=_interpreter(document["interpreter"]),
        apt=_make(Apt, document.get("apt", {})),
        python=Python(
            requires=tuple(python.get("requires", ())),
            constraints=tuple(python.get("constraints", ())),
            overrides=tuple(python.get("overrides", ())),
            exclude_newer=python.get("exclude-newer"),
            indexes=tuple(_make(Index, table) for table in python.get("index", ())),
            wheels=tuple(_pinned_wheel(table) for table in python.get("wheel", ())),
        ),
        builds=tuple(
            _make(
                BuildSpec,
                {
                    **table,
                    "source": _make(Source, table["source"]),
                    "edits": [_edit(edit) for edit in table.get("edits", ())],
                },
            )
            for table in document.get("build", ())
        ),
        sources=tuple(
            NamedSource(
                name=table["name"], source=_make(Source, {k: v for k, v in table.items() if k != "name"})
            )
            for table in document.get("source", ())
        ),
        env=_pairs(document.get("env", {})),
        mounts=(
            *(_make(Mount, table) for table in document.get("mount", ())),
            *(_mount(asset) for asset in assets if not asset.bundled),
        ),
        assets=assets,
        gpu=preflight.get("gpu", "none"),
        imports=tuple(preflight.get("imports", ())),
        checks=tuple(preflight.get("checks", ())),
        image=_make(Image, document.get("image", {})),
    )


def file_name_of(url: str) -> str:
    """Return the file name that an address ends in, without what follows it (`#sha256=…`)."""
    return unquote(url.partition("#")[0].partition("?")[0].rpartition("/")[2])


def _interpreter(table: Mapping[str, Any]) -> Interpreter:
    standalone = table.get("standalone")
    return Interpreter(
        apt=table.get("apt"),
        standalone=_make(Standalone, standalone) if standalone is not None else None,
    )


def _pinned_wheel(table: Mapping[str, Any]) -> PinnedWheel:
    return _make(PinnedWheel, {"filename": file_name_of(table["url"][0]), **table})


def _asset(table: Mapping[str, Any]) -> Asset:
    # A pointer of Git LFS names the sha256 of the content.
    sha256 = table.get("sha256") or table.get("lfs-oid")
    plain = {key: table[key] for key in table if key in Asset.__slots__ and key != "members"}
    checksums = tuple((key, table[key]) for key in ("sha1", "git-blob") if key in table)
    members = _pairs(table.get("members", {}))
    return _make(Asset, {**plain, "sha256": sha256, "checksums": checksums, "members": members})


def _mount(asset: Asset) -> Mount:
    licence = f", licence {asset.license}" if asset.license else ""
    return Mount(
        path=asset.path,
        holds=asset.holds,
        why=asset.why or f"`{asset.name}`{licence}, is not in the image",
        optional=asset.policy == "optional-mount",
    )


def _edit(table: Mapping[str, Any]) -> Edit:
    if "patch" in table:
        return _make(Patch, {"path" if key == "patch" else key: table[key] for key in table})
    if "graft" in table:
        return _make(Graft, {"source" if key == "graft" else key: table[key] for key in table})
    return _make(Substitute, table)


_T = TypeVar("_T")


def _make(kind: type[_T], table: Mapping[str, Any]) -> _T:
    """Return a *kind* from a table whose keys are its field names with dashes."""
    values: dict[str, Any] = {}
    for key, value in table.items():
        if isinstance(value, list):
            values[key.replace("-", "_")] = tuple(value)
        elif isinstance(value, dict):
            values[key.replace("-", "_")] = _pairs(value)
        else:
            values[key.replace("-", "_")] = value
    return kind(**values)


def _pairs(table: Mapping[str, str]) -> tuple[tuple[str, str], ...]:
    return tuple(sorted(table.items()))


def inputs_of(document: Mapping[str, Any], files: Mapping[str, str]) -> dict[str, str]:
    """Return key path -> short digest of everything in a stack that a lock follows from.

    A lock keeps this table, so that a stale one can say which key moved. Tables with a `name` are
    addressed by it (`build.pycocotools.env.FOO`), others by their `path` or their
    place among the others, lists as a whole.

    Args:
        document: The stack file, parsed.
        files: Path below the stack's folder -> sha256, of what lies beside the stack file and is used.
    """
    values = {key: sha256_of(canonical_json(value))[:16] for key, value in _flatten(document, "")}
    return values | {f"file {path}": digest[:16] for path, digest in sorted(files.items())}


def _flatten(table: Mapping[str, Any], prefix: str) -> Iterator[tuple[str, JsonValue]]:
    for key, value in sorted(table.items()):
        path = f"{prefix}{key}"
        if isinstance(value, dict):
            yield from _flatten(value, f"{path}.")
        elif isinstance(value, list) and value and all(isinstance(v, dict) for v in value):
            for number, item in enumerate(value, 1):
                label = item.get("name") or item.get("path", number)
                yield from _flatten(item, f"{path}.{label}.")
        else:
            yield path, _plain(value)


def _plain(value: Any) -> JsonValue:  # noqa: ANN401 - any TOML value
    """Return *value* in canonical JSON's types: a file edited since it was checked may hold a float or a date."""
    if isinstance(value, dict):
        return {key: _plain(entry) for key, entry in value.items()}
    if isinstance(value, list):
        return [_plain(entry) for entry in value]
    return value if isinstance(value, str | int) else f"{type(value).__name__} {value}"
