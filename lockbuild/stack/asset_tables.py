"""`[[asset]]` as people write it: weights and other data. Pure."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import AfterValidator, BaseModel, Field, model_validator

from lockbuild.stack.assets import ON_FIRST_FETCH, image_paths
from lockbuild.stack.licences import Licence, refuse_unaccepted
from lockbuild.stack.places import PART, Place, clash, refuse_reserved
from lockbuild.stack.table import Table
from lockbuild.stack.words import Address, Reason, fault, matching

__all__ = ["AssetTable"]


# ---- words ----------------------------------------------------------------------------------------

Name = Annotated[
    str, AfterValidator(matching(r"[A-Za-z0-9][A-Za-z0-9._-]{0,99}", "letters, digits, `.`, `_`, `-`"))
]
Digest = Annotated[
    str,
    AfterValidator(
        matching(
            rf"[0-9a-f]{{64}}|{ON_FIRST_FETCH}",
            f"a sha256 (64 hexadecimal digits) or `{ON_FIRST_FETCH}`",
        )
    ),
]
Oid = Annotated[
    str,
    AfterValidator(
        matching(r"[0-9a-f]{64}", "the sha256 that a pointer file says behind `oid sha256:`")
    ),
]
Sha1 = Annotated[str, AfterValidator(matching(r"[0-9a-f]{40}", "40 lower-case hexadecimal digits"))]
Below = Annotated[
    str,
    AfterValidator(
        matching(rf"{PART}(/{PART})*", "a path below `path`, of letters, digits, `.`, `_`, `+`, `-`")
    ),
]
Member = Annotated[
    str,
    AfterValidator(
        matching(
            r"(?!\./)[^\x00\n]*[^\x00\n/]",
            "the name of a file in the archive, without `./` and patterns",
        )
    ),
]
Held = Annotated[
    str,
    AfterValidator(
        matching(
            r"(?!/)(?!.*(^|/)\.\.(/|$))[^\x00\n\\]+",
            "a path or pattern below the mount, such as `models/*.pkl`",
        )
    ),
]
Line = Annotated[str, AfterValidator(matching(r"[^\x00\n]*", "one line of text"))]


# ---- the table ------------------------------------------------------------------------------------


class AssetTable(Table):
    """Weights or other data: in the image, or mounted into it."""

    name: Name
    path: Place
    policy: Literal["bundle", "mount", "optional-mount"] = "bundle"
    url: list[Address] = []
    sha256: Digest | None = None
    sha1: Sha1 | None = None
    git_blob: Sha1 | None = None
    lfs_oid: Oid | None = None
    size: Annotated[int, Field(gt=0)] | None = None
    type: (
        Literal["gzip", "hdf5", "npy", "npz", "pickle", "safetensors", "tar", "text", "torch", "zip"]
        | None
    ) = None
    members: dict[Member, Below] = {}
    license: Licence | None = None
    redistributable: bool | None = None
    accept_license: Reason | None = None
    why: Line = ""
    holds: list[Held] = []

    @model_validator(mode="after")
    def _fits_its_policy(self) -> AssetTable:
        if self.policy != "bundle":
            unfit = _given(
                self, "url", "sha256", "sha1", "git_blob", "lfs_oid", "size", "type", "members"
            )
            if unfit:
                raise fault(f'no {unfit} beside `policy = "{self.policy}"`: nothing is fetched')
            return self
        if self.holds:
            raise fault('`holds` only beside `policy = "mount"` or `"optional-mount"`')
        if not self.url:
            raise fault("`url` with at least one address")
        known = [key for key in (self.sha256, self.sha1, self.git_blob, self.lfs_oid) if key]
        if len(known) != 1:
            raise fault("exactly one of `sha256`, `sha1`, `git-blob` and `lfs-oid`")
        return self

    @model_validator(mode="after")
    def _members_apart(self) -> AssetTable:
        targets = list(self.members.values())
        if found := clash(targets):
            raise fault(
                f"another place for each member; `{found[0]}` and `{found[1]}` cannot both be files"
            )
        refuse_reserved(self.path)
        return self

    @model_validator(mode="after")
    def _may_be_passed_on(self) -> AssetTable:
        if self.policy != "bundle":
            return self
        refuse_unaccepted(
            self.license,
            redistributable=self.redistributable,
            accepted=self.accept_license,
            instead='`policy = "mount"`',
        )
        return self

    @property
    def files(self) -> tuple[str, ...]:
        """The path in the image of each file that the image is given."""
        return image_paths(self.path, tuple(self.members.items())) if self.policy == "bundle" else ()


def _given(table: BaseModel, *names: str) -> str:
    found = sorted(table.model_fields_set & set(names))
    return " and ".join(f"`{name.replace('_', '-')}`" for name in found)
