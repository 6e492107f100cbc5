"""The stack file as people write it: what is accepted, and a JSON Schema for editors. Pure.

The pydantic models here only accept or refuse; values and defaults are those of `lockbuild.stack`.
"""

from __future__ import annotations

import re
import tomllib
from typing import TYPE_CHECKING, Annotated, Any, Literal

from packaging.utils import InvalidWheelFilename, canonicalize_name, parse_wheel_filename
from packaging.version import Version
from pydantic import AfterValidator, BaseModel, ConfigDict, Field, ValidationError, model_validator
from pydantic_core import PydanticCustomError

from lockbuild.errors import StackError
from lockbuild.stack import file_name_of
from lockbuild.stack.asset_tables import AssetTable, check_places
from lockbuild.stack.faults import described
from lockbuild.stack.words import (
    Absolute,
    Address,
    Capability,
    Commit,
    DebianPackage,
    Digest,
    Held,
    Inside,
    InSource,
    InTree,
    Module,
    Moment,
    MountPoint,
    Name,
    PackageVersion,
    Pattern,
    Project,
    PythonVersion,
    Reason,
    RequirementText,
    Sdist,
    Snapshot,
    SourceName,
    Suite,
    TreePattern,
    User,
    Value,
    Variable,
    VersionPair,
    WheelName,
    fault,
    matching,
    not_default,
    unique,
    unique_paths,
    wheel_name,
)

if TYPE_CHECKING:
    from collections.abc import Iterable

__all__ = ["StackDocument", "json_schema", "parse_stack_text"]


# ---- tables ---------------------------------------------------------------------------------------


class _Table(BaseModel):
    model_config = ConfigDict(
        extra="forbid",
        frozen=True,
        strict=True,
        alias_generator=lambda name: name.replace("_", "-"),
        title=None,
    )


class TargetTable(_Table):
    """The machine that the stack is made for."""

    python: PythonVersion
    platform: Literal["linux_x86_64"]
    glibc: VersionPair
    """C library of the image; decides which manylinux wheels fit."""
    cuda: VersionPair | None = None
    cuda_architectures: list[Capability] = []


class DebianTable(_Table):
    """Root file systems made from locked .debs."""

    suite: Suite
    vendor: Literal["debian", "ubuntu"] = "debian"
    components: list[Literal["main", "contrib", "non-free", "non-free-firmware", "universe"]] = ["main"]
    snapshot: Snapshot | None = None


class BaseTable(_Table):
    """What toolchain and runtime stand on."""

    debian: DebianTable


def _archive_first(urls: list[str]) -> list[str]:
    if not re.fullmatch(r"[A-Za-z0-9._+-]+\.(tar\.gz|tgz)", file_name_of(urls[0]), re.ASCII):
        raise fault("a first address that ends in the name of a `.tar.gz` archive")
    return urls


class StandaloneTable(_Table):
    """An archive of a CPython that works wherever it is unpacked."""

    url: Annotated[list[Address], Field(min_length=1), AfterValidator(_archive_first)]
    """Where it may be had, asked in order."""
    sha256: Digest
    size: Annotated[int, Field(gt=0)] | None = None


class InterpreterTable(_Table):
    """Where Python comes from."""

    apt: DebianPackage | None = None
    standalone: StandaloneTable | None = None

    @model_validator(mode="after")
    def _one(self) -> InterpreterTable:
        if (self.apt is None) == (self.standalone is None):
            raise fault("exactly one of `apt` and `standalone`")
        return self


class AptTable(_Table):
    """Debian packages beside the essential ones and the interpreter."""

    toolchain: list[DebianPackage] = []
    runtime: list[DebianPackage] = []


class IndexTable(_Table):
    """A package index that serves only what is named."""

    name: Annotated[Name, AfterValidator(not_default)]
    url: Address
    only: Annotated[list[Project], Field(min_length=1)]


class WheelTable(_Table):
    """A wheel pinned by its bytes: resolving asks no index about it."""

    name: Project
    version: PackageVersion
    url: Annotated[list[Address], Field(min_length=1)]
    """Where it may be had, asked in order."""
    filename: WheelName | None = None
    """The wheel's name, where the address does not end in it."""
    sha256: Digest
    size: Annotated[int, Field(gt=0)] | None = None
    requires: list[RequirementText] = []
    """Its run-time requirements, as its own metadata says them."""

    @model_validator(mode="after")
    def _named(self) -> WheelTable:
        name = self.filename or file_name_of(self.url[0])
        try:
            project, version, _, _ = parse_wheel_filename(wheel_name(name))
        except (InvalidWheelFilename, PydanticCustomError) as error:
            raise fault("an address that ends in a wheel's name, or `filename`") from error
        if (project, version) != (self.name, Version(self.version)):
            raise fault(f"`name` and `version` of the wheel `{name}`")
        return self


class PythonTable(_Table):
    """Packages installed from wheels."""

    requires: list[RequirementText] = []
    constraints: list[RequirementText] = []
    overrides: list[RequirementText] = []
    exclude_newer: Moment | None = None
    index: Annotated[list[IndexTable], AfterValidator(unique)] = []
    wheel: Annotated[list[WheelTable], AfterValidator(unique)] = []


class GitTable(_Table):
    """A tree pinned by commit."""

    git: Address
    commit: Commit
    submodules: bool = False
    include: list[TreePattern] = []
    exclude: list[TreePattern] = []


class SourceTable(_Table):
    """Where a build's source comes from."""

    sdist: Sdist | None = None
    path: Inside | None = None
    git: Address | None = None
    commit: Commit | None = None
    submodules: bool = False
    include: list[TreePattern] = []
    exclude: list[TreePattern] = []
    subdirectory: Inside | None = None

    @model_validator(mode="after")
    def _one(self) -> SourceTable:
        if sum(origin is not None for origin in (self.sdist, self.path, self.git)) != 1:
            raise fault("exactly one of `sdist`, `path` and `git`")
        if (self.git is None) != (self.commit is None):
            raise fault("`git` and `commit` together")
        of_git = sorted(self.model_fields_set & {"submodules", "include", "exclude"})
        if self.git is None and of_git:
            raise fault(f"{_listed(of_git)} only beside `git`")
        return self


class NamedSourceTable(GitTable):
    """A pinned source that is not built itself: builds may graft parts of it."""

    name: SourceName


class EditTable(_Table):
    """A change to a build's source, made in the sandbox."""

    patch: Inside | None = None
    strip: Annotated[int, Field(ge=0)] | None = None
    file: InSource | None = None
    old: str | None = None
    new: str | None = None
    count: Annotated[int, Field(gt=0)] | None = None
    graft: SourceName | None = None
    take: InTree | None = None
    put: InSource | None = None
    replace: bool | None = None
    reason: Reason

    @model_validator(mode="after")
    def _one_kind(self) -> EditTable:
        given = {name for name in self.model_fields_set if name != "reason"}
        kinds = sorted(given & _EDITS.keys())
        if len(kinds) != 1:
            raise fault("exactly one of `patch`, `file` and `graft`")
        wanted, allowed = _EDITS[kinds[0]]
        if wanted - given:
            raise fault(f"{_listed(wanted)} beside `{kinds[0]}`")
        if given - wanted - allowed - {kinds[0]}:
            raise fault(f"no {_listed(given - wanted - allowed - {kinds[0]})} beside `{kinds[0]}`")
        if self.file and (not self.old or self.old == self.new):
            raise fault("`old` to be some text, and `new` another")
        return self


_EDITS: dict[str, tuple[frozenset[str], frozenset[str]]] = {
    "file": (frozenset({"old", "new"}), frozenset({"count"})),
    "graft": (frozenset({"take", "put"}), frozenset({"replace"})),
    "patch": (frozenset(), frozenset({"strip"})),
}
"""Key that says an edit's kind -> keys that it needs, keys that it may have."""


def _listed(keys: Iterable[str]) -> str:
    return " and ".join(f"`{key}`" for key in sorted(keys))


class BuildTable(_Table):
    """A package compiled in the sandbox."""

    name: Project
    version: PackageVersion
    source: SourceTable
    edits: list[EditTable] = []
    needs: list[Project] = []
    build_requires: list[RequirementText] = []
    requires: list[RequirementText] = []
    environment: Annotated[
        str, AfterValidator(matching(r"[a-z0-9-]*", "lower-case letters, digits and `-`"))
    ] = ""
    env: dict[Variable, Value] = {}
    expects: list[Pattern] = []

    @model_validator(mode="after")
    def _own_sdist(self) -> BuildTable:
        name, _, version = (self.source.sdist or f"{self.name}=={self.version}").partition("==")
        if canonicalize_name(name) != self.name or Version(version) != Version(self.version):
            raise fault(f"`source.sdist` to be `{self.name}=={self.version}`, not `{self.source.sdist}`")
        return self


class MountTable(_Table):
    """What whoever runs the image brings along."""

    path: MountPoint
    holds: list[Held] = []
    why: Value = ""
    optional: bool = False


class PreflightTable(_Table):
    """What must hold in the image."""

    gpu: Literal["none", "optional", "required"] = "none"
    imports: list[Module] = []
    checks: list[str] = []


class ImageTable(_Table):
    """How the image is run."""

    user: User = "lockbuild"
    workdir: Absolute = "/workspace"
    entrypoint: list[Value] = []
    command: list[Value] = ["python3"]


class StackDocument(_Table):
    """A stack file."""

    name: Name
    summary: Value = ""
    target: TargetTable
    base: BaseTable
    interpreter: InterpreterTable
    apt: AptTable = AptTable()
    python: PythonTable = PythonTable()
    build: Annotated[list[BuildTable], AfterValidator(unique)] = []
    source: Annotated[list[NamedSourceTable], AfterValidator(unique)] = []
    env: dict[Variable, Value] = {}
    asset: Annotated[list[AssetTable], AfterValidator(unique)] = []
    mount: Annotated[list[MountTable], AfterValidator(unique_paths)] = []
    preflight: PreflightTable = PreflightTable()
    image: ImageTable = ImageTable()

    @model_validator(mode="after")
    def _places_apart(self) -> StackDocument:
        check_places(self.asset, (mount.path for mount in self.mount))
        return self

    @model_validator(mode="after")
    def _one_origin(self) -> StackDocument:
        both = sorted({build.name for build in self.build} & {wheel.name for wheel in self.python.wheel})
        if both:
            names = ", ".join(f"`{name}`" for name in both)
            raise fault(f"each package from one place; both `[[build]]` and `[[python.wheel]]`: {names}")
        return self

    @model_validator(mode="after")
    def _known_grafts(self) -> StackDocument:
        builds, named = {build.name for build in self.build}, {source.name for source in self.source}
        if builds & named:
            raise fault(f"other names for `[[source]]` than those of builds: {_listed(builds & named)}")
        wanted = {edit.graft for build in self.build for edit in build.edits if edit.graft}
        if wanted - builds - named:
            raise fault(
                f"a `[[source]]` or `[[build]]` for every graft; there is none for {_listed(wanted - builds - named)}"
            )
        return self


def json_schema() -> dict[str, Any]:
    """Return the JSON Schema of a stack file, for editors."""
    schema = StackDocument.model_json_schema(by_alias=True)
    return {
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        **schema,
        "title": "lockbuild stack",
    }


def parse_stack_text(text: str, *, file: str) -> dict[str, Any]:
    """Return the document in *text* once nothing is wrong with it.

    Args:
        file: How the stack file is called in messages.

    Raises:
        StackError: With one line per fault: key path, found, expected, nearest name.
    """
    try:
        document = tomllib.loads(text)
    except tomllib.TOMLDecodeError as error:
        raise StackError(f"{file} is not TOML: {error}") from error
    try:
        StackDocument.model_validate(document)
    except ValidationError as error:
        faults = described(error, document, StackDocument)
        count = "1 fault" if len(faults) == 1 else f"{len(faults)} faults"
        raise StackError(
            f"{file}: {count}",
            details=faults,
            hint="`lockbuild schema` prints every key that a stack may have",
        ) from error
    return document
