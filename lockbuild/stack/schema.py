"""The stack file as people write it: what is accepted, and a JSON Schema for editors. Pure.

The pydantic models here only accept or refuse; values and defaults are those of `lockbuild.stack`.
"""

from __future__ import annotations

import re
import tomllib
from typing import TYPE_CHECKING, Annotated, Any, Literal

from pydantic import AfterValidator, Field, ValidationError, model_validator

from lockbuild.errors import StackError
from lockbuild.stack import file_name_of
from lockbuild.stack.asset_tables import AssetTable
from lockbuild.stack.audit_tables import AuditTable
from lockbuild.stack.conda_tables import CondaPackageName, CondaTable
from lockbuild.stack.faults import refused
from lockbuild.stack.places import check_places
from lockbuild.stack.python_tables import PythonTable
from lockbuild.stack.shared import INCLUDE, SHARED
from lockbuild.stack.source_tables import BuildTable, NamedSourceTable, listed
from lockbuild.stack.table import Table
from lockbuild.stack.toolchain_tables import ToolchainTable
from lockbuild.stack.words import (
    Absolute,
    Address,
    Capability,
    DebianPackage,
    Digest,
    Held,
    HostCommand,
    ImageCommand,
    ImageReference,
    Module,
    MountPoint,
    Name,
    PythonVersion,
    Snapshot,
    Suite,
    UpdatesSuite,
    User,
    Value,
    Variable,
    VersionPair,
    fault,
    unique,
    unique_paths,
)

if TYPE_CHECKING:
    from collections.abc import Mapping

__all__ = ["StackDocument", "check_document", "json_schema", "parse_stack_text"]


# ---- tables ---------------------------------------------------------------------------------------


def _capabilities_apart(found: list[str]) -> list[str]:
    """Accept capabilities that are there once, with PTX or without."""
    bare = [one.removesuffix("+PTX") for one in found]
    if twice := sorted({one for one in bare if bare.count(one) > 1}):
        raise fault(f"each capability once; twice: {', '.join(f'`{one}`' for one in twice)}")
    return found


class TargetTable(Table):
    """The machine that the stack is made for."""

    python: PythonVersion
    platform: Literal["linux_x86_64"]
    glibc: VersionPair
    """C library of the image; decides which manylinux wheels fit."""
    cuda: VersionPair | None = None
    cuda_architectures: Annotated[list[Capability], AfterValidator(_capabilities_apart)] = []


class DebianTable(Table):
    """Root file systems made from locked .debs."""

    suite: Suite
    vendor: Literal["debian", "ubuntu"] = "debian"
    components: list[Literal["main", "contrib", "non-free", "non-free-firmware", "universe"]] = ["main"]
    snapshot: Snapshot | None = None


class PackagesTable(DebianTable):
    """Where .debs come from that are installed on top of images."""

    updates: list[UpdatesSuite] = []


class BaseTable(Table):
    """What toolchain and runtime stand on."""

    debian: DebianTable | None = None
    toolchain: ImageReference | None = None
    runtime: ImageReference | None = None
    packages: PackagesTable | None = None

    @model_validator(mode="after")
    def _one(self) -> BaseTable:
        images = [image for image in (self.toolchain, self.runtime) if image is not None]
        if self.debian is None and None in (self.toolchain, self.runtime):
            raise fault("either `debian`, or the images `toolchain` and `runtime`")
        if self.debian is not None and (images or self.packages):
            raise fault("either `debian`, or images; both are there")
        return self


def _archive_first(urls: list[str]) -> list[str]:
    if not re.fullmatch(r"[A-Za-z0-9._+-]+\.(tar\.gz|tgz)", file_name_of(urls[0]), re.ASCII):
        raise fault("a first address that ends in the name of a `.tar.gz` archive")
    return urls


class StandaloneTable(Table):
    """An archive of a CPython that works wherever it is unpacked."""

    url: Annotated[list[Address], Field(min_length=1), AfterValidator(_archive_first)]
    """Where it may be had, asked in order."""
    sha256: Digest
    size: Annotated[int, Field(gt=0)] | None = None


class InterpreterTable(Table):
    """Where Python comes from."""

    apt: DebianPackage | None = None
    image: ImageCommand | None = None
    standalone: StandaloneTable | None = None
    conda: CondaPackageName | None = None
    host: HostCommand | None = None

    @model_validator(mode="after")
    def _one(self) -> InterpreterTable:
        kinds = (self.apt, self.image, self.standalone, self.conda, self.host)
        if sum(kind is not None for kind in kinds) != 1:
            raise fault("exactly one of `apt`, `image`, `standalone`, `conda` and `host`")
        return self


class AptTable(Table):
    """Debian packages beside the essential ones and the interpreter."""

    toolchain: list[DebianPackage] = []
    runtime: list[DebianPackage] = []


class MountTable(Table):
    """What whoever runs the image brings along."""

    path: MountPoint
    holds: list[Held] = []
    why: Value = ""
    optional: bool = False


class PreflightTable(Table):
    """What must hold in the image."""

    gpu: Literal["none", "optional", "required"] = "none"
    imports: list[Module] = []
    checks: list[str] = []


class ImageTable(Table):
    """How the image is run."""

    user: User = "lockbuild"
    workdir: Absolute = "/workspace"
    entrypoint: list[Value] = []
    command: list[Value] = ["python3"]


class StackDocument(Table):
    """A stack file."""

    name: Name
    summary: Value = ""
    target: TargetTable
    base: BaseTable
    interpreter: InterpreterTable
    apt: AptTable = AptTable()
    toolchain: ToolchainTable = ToolchainTable()
    python: PythonTable = PythonTable()
    build: Annotated[list[BuildTable], AfterValidator(unique)] = []
    source: Annotated[list[NamedSourceTable], AfterValidator(unique)] = []
    conda: CondaTable | None = None
    env: dict[Variable, Value] = {}
    asset: Annotated[list[AssetTable], AfterValidator(unique)] = []
    mount: Annotated[list[MountTable], AfterValidator(unique_paths)] = []
    preflight: PreflightTable = PreflightTable()
    image: ImageTable = ImageTable()
    audit: AuditTable = AuditTable()

    @model_validator(mode="after")
    def _fitting_base(self) -> StackDocument:
        if self.base.debian is not None:
            if self.interpreter.image is not None:
                raise fault("`base.toolchain` and `base.runtime` beside `interpreter.image`")
            if self._nvcc("image"):
                raise fault("`base.toolchain` and `base.runtime` beside `toolchain.nvcc.image`")
            return self
        wanted = self.apt.toolchain or self.apt.runtime or self.interpreter.apt or self._nvcc("apt")
        if wanted and self.base.packages is None:
            raise fault("`base.packages`, as Debian packages are wanted on top of images")
        return self

    def _nvcc(self, origin: str) -> bool:
        return self.toolchain.nvcc is not None and bool(getattr(self.toolchain.nvcc, origin))

    @model_validator(mode="after")
    def _places_apart(self) -> StackDocument:
        check_places(
            [path for table in self.asset for path in table.files],
            [
                *(table.path for table in self.asset if table.policy != "bundle"),
                *(mount.path for mount in self.mount),
            ],
            [source.path for source in self.source if source.path],
        )
        return self

    @model_validator(mode="after")
    def _conda_asked(self) -> StackDocument:
        if self.conda is None:
            if self.interpreter.conda:
                raise fault("a table `[conda]`, from whose channels `interpreter.conda` comes")
        elif not (self.conda.packages or self.interpreter.conda):
            raise fault("`conda.packages`, or Python from there: `interpreter.conda`")
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
            raise fault(f"other names for `[[source]]` than those of builds: {listed(builds & named)}")
        edits = [edit for build in self.build for edit in build.edits]
        edits += [edit for source in self.source for edit in source.edits]
        wanted = {edit.graft for edit in edits if edit.graft}
        if wanted - builds - named:
            raise fault(
                f"a `[[source]]` or `[[build]]` for every graft; there is none for {listed(wanted - builds - named)}"
            )
        return self


def json_schema() -> dict[str, Any]:
    """Return the JSON Schema of a stack file, for editors."""
    schema = StackDocument.model_json_schema(by_alias=True)
    whole = schema["$defs"]["BuildTable"]
    # Whatever a shared build says, the stack may say again; both together are checked as one.
    include = {"type": "string", "description": f"Name of a shared build: `../{SHARED}/NAME.toml`."}
    schema["$defs"]["IncludedBuild"] = {
        **whole,
        "description": "A shared build, and what takes the place of its own keys.",
        "title": "IncludedBuild",
        "properties": {INCLUDE: include, **whole["properties"]},
        "required": [INCLUDE],
    }
    builds = schema["properties"]["build"]
    builds["items"] = {"anyOf": [builds["items"], {"$ref": "#/$defs/IncludedBuild"}]}
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
    check_document(document, file=file)
    return document


def check_document(document: Mapping[str, Any], *, file: str) -> None:
    """Accept a stack's *document*, whose shared builds are written out, or say all that is wrong with it.

    Args:
        file: How the stack file is called in messages.

    Raises:
        StackError: With one line per fault: key path, found, expected, nearest name.
    """
    try:
        StackDocument.model_validate(document)
    except ValidationError as error:
        raise refused(error, document, StackDocument, file=file) from error
