"""The stack file as people write it: what is accepted, and a JSON Schema for editors. Pure.

The pydantic models here only accept or refuse; values and defaults are those of `lockbuild.stack`.
"""

from __future__ import annotations

import re
import tomllib
from typing import TYPE_CHECKING, Annotated, Any, Literal

from packaging.requirements import InvalidRequirement, Requirement
from packaging.utils import InvalidWheelFilename, canonicalize_name, parse_wheel_filename
from packaging.version import Version
from pydantic import AfterValidator, BaseModel, ConfigDict, Field, ValidationError, model_validator
from pydantic_core import PydanticCustomError

from lockbuild.errors import StackError
from lockbuild.stack import file_name_of
from lockbuild.stack.asset_tables import AssetTable, check_places
from lockbuild.stack.faults import described

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

__all__ = ["StackDocument", "json_schema", "parse_stack_text"]


# ---- words: strings that must have a certain form -------------------------------------------------


def _fault(expected: str) -> PydanticCustomError:
    return PydanticCustomError("lockbuild", "{expected}", {"expected": expected})


def _matching(pattern: str, expected: str) -> Callable[[str], str]:
    compiled = re.compile(pattern, re.ASCII)

    def check(text: str) -> str:
        if not compiled.fullmatch(text):
            raise _fault(expected)
        return text

    return check


def _requirement(text: str) -> str:
    try:
        requirement = Requirement(text)
    except InvalidRequirement as error:
        raise _fault(f"a requirement such as `numpy>=1.26,<2` ({str(error).splitlines()[0]})") from error
    if requirement.url:
        raise _fault("a requirement without an address: a file from elsewhere is a `[[build]]` or an index")
    return text


def _sdist(text: str) -> str:
    name, _, version = text.partition("==")
    try:
        canonicalize_name(name, validate=True)
    except ValueError as error:
        raise _fault("an sdist as `NAME==VERSION`") from error
    if not _is_version(version):
        raise _fault("an sdist as `NAME==VERSION`")
    return text


def _version(text: str) -> str:
    if not _is_version(text):
        raise _fault("a version such as `2.0.10`")
    return text


def _is_version(text: str) -> bool:
    try:
        Version(text)
    except ValueError:
        return False
    # `packaging` overlooks spaces around a version; file names and shell commands would not.
    return text == text.strip()


def _project(text: str) -> str:
    if canonicalize_name(text) != text or not re.fullmatch(r"[a-z0-9]([a-z0-9-]*[a-z0-9])?", text):
        raise _fault(f"a normalised project name: `{canonicalize_name(text)}`")
    return text


def _inside(expected: str) -> Callable[[str], str]:
    def check(text: str) -> str:
        parts = [part for part in text.split("/") if part not in {"", "."}]
        if text.startswith("/") or ".." in parts or "\\" in text or not parts:
            raise _fault(expected)
        return text

    return check


def _one_path(text: str) -> str:
    if "*" in text or "?" in text:
        raise _fault("one path: patterns are not for edits")
    return text


def _in_tree(text: str) -> str:
    expected = "a path inside the other source, with forward slashes; `.` is all of it"
    return text if text == "." else _inside(expected)(text)


Name = Annotated[str, AfterValidator(_matching(r"[a-z0-9][a-z0-9._-]{0,62}", "lower-case letters, digits, `.`, `_`, `-`"))]
Project = Annotated[str, AfterValidator(_project)]
PackageVersion = Annotated[str, AfterValidator(_version)]
RequirementText = Annotated[str, AfterValidator(_requirement)]
VersionPair = Annotated[str, AfterValidator(_matching(r"\d+\.\d+", "`MAJOR.MINOR`, such as `2.36`"))]
PythonVersion = Annotated[str, AfterValidator(_matching(r"3\.\d+", "a Python as `3.MINOR`, such as `3.11`"))]
Capability = Annotated[str, AfterValidator(_matching(r"\d+\.\d+a?(\+PTX)?", "a compute capability such as `8.6` or `8.6+PTX`"))]
DebianPackage = Annotated[str, AfterValidator(_matching(r"[a-z0-9][a-z0-9+.-]+", "a Debian package's name, without version"))]
Suite = Annotated[str, AfterValidator(_matching(r"[a-z]+", "a release suite such as `bookworm` (its updates and security suites are not used)"))]
Snapshot = Annotated[str, AfterValidator(_matching(r"\d{8}T\d{6}Z", "a time stamp such as `20250601T000000Z`"))]
Moment = Annotated[str, AfterValidator(_matching(r"\d{4}-\d\d-\d\d(T\d\d:\d\d:\d\dZ)?", "a date such as `2025-06-01` or `2025-06-01T00:00:00Z`"))]
Address = Annotated[str, AfterValidator(_matching(r"(https?|file)://\S+", "an address that begins with `https://`"))]
Variable = Annotated[str, AfterValidator(_matching(r"[A-Za-z_][A-Za-z0-9_]*", "an environment variable's name"))]
Value = Annotated[str, AfterValidator(_matching(r"[^\x00\n]*", "one line of text"))]
Module = Annotated[str, AfterValidator(_matching(r"[A-Za-z_]\w*(\.[A-Za-z_]\w*)*", "a module's name such as `mmcv.ops`"))]
Commit = Annotated[str, AfterValidator(_matching(r"[0-9a-f]{40}", "a whole commit: 40 lower-case hexadecimal digits"))]
TreePattern = Annotated[str, AfterValidator(_matching(r"(?!/)(?!.*(^|/)\.\.(/|$))[^\x00\n\\]+", "a path pattern from the top of the tree: `projects/**`"))]
Digest = Annotated[str, AfterValidator(_matching(r"[0-9a-f]{64}", "a sha256: 64 hexadecimal digits"))]
_wheel_name = _matching(r"[A-Za-z0-9._+!-]+\.whl", "a wheel's file name")
WheelName = Annotated[str, AfterValidator(_wheel_name)]
Inside = Annotated[str, AfterValidator(_inside("a path below the stack's folder, with forward slashes"))]
Pattern = Annotated[str, AfterValidator(_inside("a pattern of files in the wheel, such as `mmcv/_ext*.so`"))]
InSource = Annotated[str, AfterValidator(_one_path), AfterValidator(_inside("a path inside the source, with forward slashes"))]
InTree = Annotated[str, AfterValidator(_in_tree)]
SourceName = Annotated[str, AfterValidator(_matching(r"[A-Za-z0-9][A-Za-z0-9._-]{0,62}", "the name of a source"))]
Reason = Annotated[str, AfterValidator(_matching(r"[^\x00\n]*\S[^\x00\n]*", "one line that says why"))]
User = Annotated[str, AfterValidator(_matching(r"[a-z_][a-z0-9_-]{0,31}", "a user's name such as `lockbuild`"))]
Absolute = Annotated[str, AfterValidator(_matching(r"/[A-Za-z0-9._/-]*", "an absolute path in the image"))]
MountPoint = Annotated[str, AfterValidator(_matching(r"(/(?!\.\.?(/|$))[A-Za-z0-9._-]+)+", "an absolute path in the image, such as `/app/data/smpl`"))]
Held = Annotated[str, AfterValidator(_inside("a path or pattern below the mount, such as `models/*.pkl`"))]


def _not_default(text: str) -> str:
    if text == "pypi":
        raise _fault("another name: `pypi` is the default index as configured on the machine")
    return text


def _unique(tables: list[Any]) -> list[Any]:
    _no_twins([table.name for table in tables], "name")
    return tables


def _unique_paths(tables: list[Any]) -> list[Any]:
    _no_twins([table.path for table in tables], "path")
    return tables


def _no_twins(names: list[str], what: str) -> None:
    twice = sorted({name for name in names if names.count(name) > 1})
    if twice:
        raise _fault(f"each {what} once; twice: {', '.join(f'`{name}`' for name in twice)}")


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
        raise _fault("a first address that ends in the name of a `.tar.gz` archive")
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
            raise _fault("exactly one of `apt` and `standalone`")
        return self


class AptTable(_Table):
    """Debian packages beside the essential ones and the interpreter."""

    toolchain: list[DebianPackage] = []
    runtime: list[DebianPackage] = []


class IndexTable(_Table):
    """A package index that serves only what is named."""

    name: Annotated[Name, AfterValidator(_not_default)]
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
            project, version, _, _ = parse_wheel_filename(_wheel_name(name))
        except (InvalidWheelFilename, PydanticCustomError) as error:
            raise _fault("an address that ends in a wheel's name, or `filename`") from error
        if (project, version) != (self.name, Version(self.version)):
            raise _fault(f"`name` and `version` of the wheel `{name}`")
        return self


class PythonTable(_Table):
    """Packages installed from wheels."""

    requires: list[RequirementText] = []
    constraints: list[RequirementText] = []
    overrides: list[RequirementText] = []
    exclude_newer: Moment | None = None
    index: Annotated[list[IndexTable], AfterValidator(_unique)] = []
    wheel: Annotated[list[WheelTable], AfterValidator(_unique)] = []


class GitTable(_Table):
    """A tree pinned by commit."""

    git: Address
    commit: Commit
    submodules: bool = False
    include: list[TreePattern] = []
    exclude: list[TreePattern] = []


class SourceTable(_Table):
    """Where a build's source comes from."""

    sdist: Annotated[str, AfterValidator(_sdist)] | None = None
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
            raise _fault("exactly one of `sdist`, `path` and `git`")
        if (self.git is None) != (self.commit is None):
            raise _fault("`git` and `commit` together")
        of_git = sorted(self.model_fields_set & {"submodules", "include", "exclude"})
        if self.git is None and of_git:
            raise _fault(f"{_listed(of_git)} only beside `git`")
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
            raise _fault("exactly one of `patch`, `file` and `graft`")
        wanted, allowed = _EDITS[kinds[0]]
        if wanted - given:
            raise _fault(f"{_listed(wanted)} beside `{kinds[0]}`")
        if given - wanted - allowed - {kinds[0]}:
            raise _fault(f"no {_listed(given - wanted - allowed - {kinds[0]})} beside `{kinds[0]}`")
        if self.file and (not self.old or self.old == self.new):
            raise _fault("`old` to be some text, and `new` another")
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
    environment: Annotated[str, AfterValidator(_matching(r"[a-z0-9-]*", "lower-case letters, digits and `-`"))] = ""
    env: dict[Variable, Value] = {}
    expects: list[Pattern] = []

    @model_validator(mode="after")
    def _own_sdist(self) -> BuildTable:
        name, _, version = (self.source.sdist or f"{self.name}=={self.version}").partition("==")
        if canonicalize_name(name) != self.name or Version(version) != Version(self.version):
            raise _fault(f"`source.sdist` to be `{self.name}=={self.version}`, not `{self.source.sdist}`")
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
    build: Annotated[list[BuildTable], AfterValidator(_unique)] = []
    source: Annotated[list[NamedSourceTable], AfterValidator(_unique)] = []
    env: dict[Variable, Value] = {}
    asset: Annotated[list[AssetTable], AfterValidator(_unique)] = []
    mount: Annotated[list[MountTable], AfterValidator(_unique_paths)] = []
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
            raise _fault(f"each package from one place; both `[[build]]` and `[[python.wheel]]`: {names}")
        return self

    @model_validator(mode="after")
    def _known_grafts(self) -> StackDocument:
        builds, named = {build.name for build in self.build}, {source.name for source in self.source}
        if builds & named:
            raise _fault(f"other names for `[[source]]` than those of builds: {_listed(builds & named)}")
        wanted = {edit.graft for build in self.build for edit in build.edits if edit.graft}
        if wanted - builds - named:
            raise _fault(f"a `[[source]]` or `[[build]]` for every graft; there is none for {_listed(wanted - builds - named)}")
        return self


def json_schema() -> dict[str, Any]:
    """Return the JSON Schema of a stack file, for editors."""
    schema = StackDocument.model_json_schema(by_alias=True)
    return {"$schema": "https://json-schema.org/draft/2020-12/schema", **schema, "title": "lockbuild stack"}


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
            f"{file}: {count}", details=faults, hint="`lockbuild schema` prints every key that a stack may have"
        ) from error
    return document
