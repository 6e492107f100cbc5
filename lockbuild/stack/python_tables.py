"""`[python]` as people write it: packages installed from wheels. Pure."""

from __future__ import annotations

from typing import Annotated

from packaging.utils import InvalidWheelFilename, parse_wheel_filename
from packaging.version import Version
from pydantic import AfterValidator, Discriminator, Field, Tag, model_validator
from pydantic_core import PydanticCustomError

from lockbuild.stack import file_name_of
from lockbuild.stack.asset_tables import Digest
from lockbuild.stack.assets import ON_FIRST_FETCH
from lockbuild.stack.table import Table
from lockbuild.stack.words import (
    TABLE,
    TEXT,
    Address,
    Moment,
    Name,
    PackageVersion,
    Project,
    Reason,
    RequirementText,
    WheelName,
    fault,
    not_default,
    text_or_table,
    unique,
    wheel_name,
)

__all__ = ["PythonTable", "WheelTable"]


class IndexTable(Table):
    """A package index that serves only what is named."""

    name: Annotated[Name, AfterValidator(not_default)]
    url: Address
    only: Annotated[list[Project], Field(min_length=1)]


class WheelTable(Table):
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
        if self.name == "pip" and self.sha256 == ON_FIRST_FETCH:
            raise fault("the sha256 of `pip`, which installs all others")
        return self


class BoundTable(Table):
    """A constraint or an override, and why it is there."""

    requirement: RequirementText
    reason: Reason


Bound = Annotated[
    Annotated[RequirementText, Tag(TEXT)] | Annotated[BoundTable, Tag(TABLE)],
    Discriminator(text_or_table),
]


class PythonTable(Table):
    """Packages installed from wheels."""

    requires: list[RequirementText] = []
    constraints: list[Bound] = []
    overrides: list[Bound] = []
    exclude_newer: Moment | None = None
    index: Annotated[list[IndexTable], AfterValidator(unique)] = []
    wheel: Annotated[list[WheelTable], AfterValidator(unique)] = []
