"""Assets in a lock: their bytes, or why nobody knows them yet. Pure."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from lockbuild.digest import Sha256, parse_sha256

if TYPE_CHECKING:
    from collections.abc import Mapping

__all__ = ["LockedArchive", "LockedAsset", "asset_table", "parse_asset"]

_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]*")


@dataclass(frozen=True, slots=True, kw_only=True)
class LockedArchive:
    """The archive that members are taken out of; it is in no store and no image."""

    sha256: Sha256
    size: int


@dataclass(frozen=True, slots=True, kw_only=True)
class LockedAsset:
    """An asset that the image has."""

    name: str
    sha256: Sha256 | None = None
    """Of the file; of the canonical listing of an archive's members; none while it is open."""
    size: int | None = None
    """Bytes, of all members together; none until the file was seen."""
    archive: LockedArchive | None = None
    """Where members are taken from; none for a file, and while it is open."""
    reason: str = ""
    """Why it is open; empty when it is not."""


def asset_table(asset: LockedAsset) -> dict[str, Any]:
    """Return *asset* as the lock writes it."""
    if asset.sha256 is None:
        return {"name": asset.name, "open": True, "reason": asset.reason}
    table: dict[str, Any] = {"name": asset.name, "sha256": asset.sha256}
    if asset.size is not None:
        table["size"] = asset.size
    if asset.archive:
        table["archive"] = {"sha256": asset.archive.sha256, "size": asset.archive.size}
    return table


def parse_asset(table: Mapping[str, Any]) -> LockedAsset:
    """Return the asset in a lock's *table*.

    Raises:
        KeyError: Something is missing.
        ValueError: Its name could lead out of a folder, or a hash is none.
    """
    name = table["name"]
    if not _NAME.fullmatch(name):
        msg = f"not the name of an asset: {name!r}"
        raise ValueError(msg)
    if table.get("open"):
        return LockedAsset(name=name, reason=table["reason"])
    archive = table.get("archive")
    return LockedAsset(
        name=name,
        sha256=parse_sha256(table["sha256"]),
        size=table.get("size"),
        archive=LockedArchive(sha256=parse_sha256(archive["sha256"]), size=archive["size"])
        if archive
        else None,
    )
