"""`[[asset]]` as people write it: its model, and what must hold among all of them. Pure."""

from __future__ import annotations

from itertools import pairwise
from typing import TYPE_CHECKING, Annotated, Literal

from packaging.licenses import InvalidLicenseExpression, canonicalize_license_expression
from pydantic import AfterValidator, BaseModel, Field, model_validator

from lockbuild.stack.assets import ON_FIRST_FETCH, forbids_redistribution, image_paths
from lockbuild.stack.table import Table
from lockbuild.stack.words import Address, fault, matching

if TYPE_CHECKING:
    from collections.abc import Iterable

__all__ = ["AssetTable", "check_places"]

_RESERVED = ("/opt/venv", "/opt/lockbuild", "/proc", "/sys", "/dev", "/build", "/image")
"""Folders of the image that belong to lockbuild, to its stages, or to the kernel."""

_UNSTATED = ("NONE", "NOASSERTION")


# ---- words ----------------------------------------------------------------------------------------


def _licence(text: str) -> str:
    if text in _UNSTATED:
        return text
    try:
        canonical = canonicalize_license_expression(text)
    except InvalidLicenseExpression as error:
        raise fault(
            f"an SPDX expression, `LicenseRef-…`, or `NOASSERTION` where upstream says nothing ({error})"
        ) from error
    if canonical != text:
        raise fault(f"the licence as SPDX writes it: `{canonical}`")
    return text


_PART = r"(?!\.\.?(/|$))[A-Za-z0-9._+-]+"

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
Place = Annotated[
    str,
    AfterValidator(
        matching(rf"(/{_PART})+", "an absolute path in the image, such as `/app/weights/model.pth`")
    ),
]
Below = Annotated[
    str,
    AfterValidator(
        matching(rf"{_PART}(/{_PART})*", "a path below `path`, of letters, digits, `.`, `_`, `+`, `-`")
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
Reason = Annotated[str, AfterValidator(matching(r"[^\x00\n]*\S[^\x00\n]*", "one line that says why"))]
Licence = Annotated[str, AfterValidator(_licence)]


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
        if clash := _clash(targets):
            raise fault(
                f"another place for each member; `{clash[0]}` and `{clash[1]}` cannot both be files"
            )
        if self.path.startswith(tuple(f"{folder}/" for folder in _RESERVED)) or self.path in _RESERVED:
            raise fault("a path outside of " + ", ".join(f"`{folder}`" for folder in _RESERVED))
        return self

    @model_validator(mode="after")
    def _may_be_passed_on(self) -> AssetTable:
        if self.policy != "bundle":
            return self
        if self.license is None:
            raise fault(
                "`license` of what the image passes on; `NOASSERTION` where upstream says nothing"
            )
        known = self.license not in _UNSTATED and "licenseref-" not in self.license.lower()
        if self.redistributable and known and forbids_redistribution(self.license):
            raise fault(
                f"no `redistributable = true`: {self.license} says otherwise; `accept-license` has the reason"
            )
        if self.accept_license is None and forbids_redistribution(
            self.license, redistributable=self.redistributable
        ):
            raise fault(
                f'`policy = "mount"`, as `{self.license}` does not let everybody pass it on; '
                "or `accept-license` with the reason why this image may hold it"
            )
        return self

    @property
    def files(self) -> tuple[str, ...]:
        """The path in the image of each file that the image is given."""
        return image_paths(self.path, tuple(self.members.items())) if self.policy == "bundle" else ()


def _given(table: BaseModel, *names: str) -> str:
    found = sorted(table.model_fields_set & set(names))
    return " and ".join(f"`{name.replace('_', '-')}`" for name in found)


def check_places(assets: Iterable[AssetTable], mounts: Iterable[str]) -> None:
    """Refuse assets and mounts that would hide one another in the image.

    Args:
        mounts: Paths of the mounts that are declared elsewhere.
    """
    assets = list(assets)
    files = [path for table in assets for path in table.files]
    if clash := _clash(files):
        raise fault(
            f"a place of its own for each file of an asset; `{clash[0]}` and `{clash[1]}` cannot both be there"
        )
    places = [table.path for table in assets if table.policy != "bundle"]
    places += mounts
    if twin := _twin(places):
        raise fault(f"each mount once; twice: `{twin}`")
    for place in places:
        for file in files:
            if _covers(place, file):
                raise fault(f"no bundle below a mount: mounting `{place}` would hide `{file}`")


def _covers(folder: str, path: str) -> bool:
    return path == folder or path.startswith(f"{folder}/")


def _twin(names: list[str]) -> str | None:
    return next((name for name in sorted(names) if names.count(name) > 1), None)


def _clash(paths: list[str]) -> tuple[str, str] | None:
    """Return two paths of which one would have to be both a file and a folder, or which are the same."""
    if twin := _twin(paths):
        return twin, twin
    ordered = sorted(f"{path}/" for path in paths)
    for first, second in pairwise(ordered):
        if second.startswith(first):
            return first[:-1], second[:-1]
    return None
