"""`[[source]]` and `[[build]]` as people write them: where code comes from, and how it is changed. Pure."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

from packaging.utils import canonicalize_name
from packaging.version import Version
from pydantic import AfterValidator, Field, model_validator

from lockbuild.stack.table import Table
from lockbuild.stack.words import (
    Address,
    Commit,
    Inside,
    InSource,
    InTree,
    PackageVersion,
    Pattern,
    Project,
    Reason,
    RequirementText,
    Sdist,
    SourceName,
    TreePattern,
    Value,
    Variable,
    fault,
    matching,
)

if TYPE_CHECKING:
    from collections.abc import Iterable

__all__ = ["BuildTable", "NamedSourceTable", "SourceTable", "listed"]


class GitTable(Table):
    """A tree pinned by commit."""

    git: Address
    commit: Commit
    submodules: bool = False
    include: list[TreePattern] = []
    exclude: list[TreePattern] = []


class SourceTable(Table):
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
            raise fault(f"{listed(of_git)} only beside `git`")
        return self


class NamedSourceTable(GitTable):
    """A pinned source that is not built itself: builds may graft parts of it."""

    name: SourceName


class EditTable(Table):
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
            raise fault(f"{listed(wanted)} beside `{kinds[0]}`")
        if given - wanted - allowed - {kinds[0]}:
            raise fault(f"no {listed(given - wanted - allowed - {kinds[0]})} beside `{kinds[0]}`")
        if self.file and (not self.old or self.old == self.new):
            raise fault("`old` to be some text, and `new` another")
        return self


_EDITS: dict[str, tuple[frozenset[str], frozenset[str]]] = {
    "file": (frozenset({"old", "new"}), frozenset({"count"})),
    "graft": (frozenset({"take", "put"}), frozenset({"replace"})),
    "patch": (frozenset(), frozenset({"strip"})),
}
"""Key that says an edit's kind -> keys that it needs, keys that it may have."""


def listed(keys: Iterable[str]) -> str:
    """Return keys as a sentence has them."""
    return " and ".join(f"`{key}`" for key in sorted(keys))


class BuildTable(Table):
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
