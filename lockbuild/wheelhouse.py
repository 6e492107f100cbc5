"""The manifest of a wheelhouse: which wheels it holds and where each comes from. Pure."""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import Any, Literal

from lockbuild.digest import Sha256, StorePath, parse_sha256
from lockbuild.documents import json_text
from lockbuild.errors import LockError

__all__ = ["MANIFEST", "Manifest", "WheelEntry", "manifest_text", "parse_manifest"]

MANIFEST = "manifest.json"
_SCHEMA = 1


@dataclass(frozen=True, slots=True, kw_only=True)
class WheelEntry:
    """A wheel in a wheelhouse."""

    name: str
    version: str
    filename: str
    sha256: Sha256
    size: int
    origin: Literal["fetched", "built"]
    path: StorePath
    """Of the fetch, or of the build that gave it."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Manifest:
    """All wheels of a stack, sorted by name."""

    stack: str
    lock: Sha256
    """Digest of the lock that the wheels fulfil."""
    wheels: tuple[WheelEntry, ...]


def manifest_text(manifest: Manifest) -> str:
    """Return the text of `manifest.json`."""
    return json_text(
        {
            "schema": _SCHEMA,
            "stack": manifest.stack,
            "lock": manifest.lock,
            "wheels": [
                {
                    "name": wheel.name,
                    "version": wheel.version,
                    "filename": wheel.filename,
                    "sha256": wheel.sha256,
                    "size": wheel.size,
                    "origin": wheel.origin,
                    "path": str(wheel.path),
                }
                for wheel in manifest.wheels
            ],
        }
    )


def parse_manifest(text: str) -> Manifest:
    """Return the manifest that *text* holds.

    Raises:
        LockError: It is no manifest of this schema.
    """
    try:
        document: dict[str, Any] = json.loads(text)
        if document["schema"] != _SCHEMA:
            raise LockError(
                f"{MANIFEST}: `schema`: found {document['schema']!r}, expected {_SCHEMA}",
                hint="`lockbuild build` writes it anew",
            )
        wheels = tuple(map(_entry, document["wheels"]))
        return Manifest(stack=document["stack"], lock=parse_sha256(document["lock"]), wheels=wheels)
    except (AttributeError, KeyError, RecursionError, TypeError, ValueError) as error:
        raise LockError(
            f"{MANIFEST} is not a wheelhouse manifest: {error!r}",
            hint="`lockbuild build` writes it anew",
        ) from error


def _entry(table: dict[str, Any]) -> WheelEntry:
    texts = [table[key] for key in ("name", "version", "filename")]
    plain = all(isinstance(text, str) for text in texts) and isinstance(table["size"], int)
    if not plain or table["origin"] not in ("fetched", "built"):
        raise ValueError(f"no wheel: {table!r}")
    return WheelEntry(
        **{**table, "sha256": parse_sha256(table["sha256"]), "path": StorePath(table["path"])}
    )
