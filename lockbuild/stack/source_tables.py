"""`[[source]]` and `[[build]]` as people write them: where code comes from, and how it is changed. Pure."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

from packaging.utils import canonicalize_name
from packaging.version import Version
from pydantic import AfterValidator, Field, model_validator

from lockbuild.stack.licences import Licence, refuse_unaccepted
from lockbuild.stack.places import Place, refuse_reserved
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
    Ref,
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


class OriginTable(Table):
    """Where code comes from, beside a folder of the stack's own."""

    sdist: Sdist | None = None
    git: Address | None = None
    commit: Commit | None = None
    ref: Ref | None = None
    submodules: bool = False
    include: list[TreePattern] = []
    exclude: list[TreePattern] = []
    subdirectory: Inside | None = None

    def _check_origin(self, folder: str) -> None:
        """Refuse anything but one whole origin.

        Args:
            folder: The key that names a folder beside the stack file.
        """
        if sum(getattr(self, origin) is not None for origin in ("sdist", folder, "git")) != 1:
            raise fault(f"exactly one of `sdist`, `{folder}` and `git`")
        if sum(one is not None for one in (self.commit, self.ref)) != (self.git is not None):
            raise fault("`git` together with one of `commit` and `ref`")
        of_git = sorted(self.model_fields_set & {"submodules", "include", "exclude"})
        if self.git is None and of_git:
            raise fault(f"{listed(of_git)} only beside `git`")


class SourceTable(OriginTable):
    """Where a build's source comes from."""

    path: Inside | None = None

    @model_validator(mode="after")
    def _one(self) -> SourceTable:
        self._check_origin("path")
        return self


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


class NamedSourceTable(OriginTable):
    """A pinned source that is not built itself: application code in the image, or something to graft from."""

    name: SourceName
    folder: Inside | None = None
    path: Place | None = None
    edits: list[EditTable] = []
    writable: bool = False
    license: Licence | None = None
    redistributable: bool | None = None
    accept_license: Reason | None = None

    @model_validator(mode="after")
    def _one(self) -> NamedSourceTable:
        self._check_origin("folder")
        return self

    @model_validator(mode="after")
    def _in_the_image(self) -> NamedSourceTable:
        if self.path is None:
            unfit = sorted(self.model_fields_set & {"edits", "subdirectory", "writable"})
            if unfit:
                raise fault(
                    f"{listed(unfit)} only beside `path`: without it the image has no such source"
                )
            return self
        refuse_reserved(self.path)
        refuse_unaccepted(
            self.license,
            redistributable=self.redistributable,
            accepted=self.accept_license,
            instead="a `[[mount]]` in place of `path`",
        )
        return self


def listed(keys: Iterable[str]) -> str:
    """Return keys as a sentence has them."""
    return " and ".join(f"`{key}`" for key in sorted(keys))


_LABEL = r"(?:[a-z0-9]+(?:\.[a-z0-9]+)*)?"
"""A local version label as PEP 440 normalises it, or nothing."""


_MACHINES = "how many compilers run is for each machine to say, `cores` in its configuration"
_GIVEN = {
    "CMAKE_BUILD_PARALLEL_LEVEL": _MACHINES,
    "MAKEFLAGS": _MACHINES,
    "MAX_JOBS": _MACHINES,
    "TORCH_CUDA_ARCH_LIST": "`target.cuda-architectures` says it for all extensions",
}
"""Variables of builds that something else gives, and what."""


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
    label: (
        Annotated[
            str, AfterValidator(matching(_LABEL, "lower-case letters and digits, with dots between"))
        ]
        | None
    ) = None

    @model_validator(mode="after")
    def _one_label(self) -> BuildTable:
        if self.label and Version(self.version).local:
            raise fault(f"no `label`, as the version `{self.version}` has one of its own")
        return self

    @model_validator(mode="after")
    def _given_by_others(self) -> BuildTable:
        for name, instead in _GIVEN.items():
            if name in self.env:
                raise fault(f"no `{name}` in `env`: {instead}")
        return self

    @model_validator(mode="after")
    def _own_sdist(self) -> BuildTable:
        name, _, version = (self.source.sdist or f"{self.name}=={self.version}").partition("==")
        if canonicalize_name(name) != self.name or Version(version) != Version(self.version):
            raise fault(f"`source.sdist` to be `{self.name}=={self.version}`, not `{self.source.sdist}`")
        return self
