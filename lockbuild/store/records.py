"""The texts a store keeps beside its objects: records, listings, roots, and its own marker. Pure."""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import Any, cast, get_args

from lockbuild.derivation import PathInfo
from lockbuild.digest import StorePath, canonical_json, parse_sha256
from lockbuild.documents import json_text
from lockbuild.store.trees import Entry, EntryKind

__all__ = [
    "SCHEMA",
    "Root",
    "marker_text",
    "parse_listing",
    "parse_marker",
    "parse_path",
    "parse_record",
    "parse_root",
    "record_text",
    "root_text",
]

SCHEMA = 1
"""Raised whenever a store of the former layout could be misread."""

_FOLDER = "# "


@dataclass(frozen=True, slots=True, kw_only=True)
class Root:
    """What garbage collection keeps for one stack folder."""

    paths: tuple[StorePath, ...]
    """Sorted. They are kept, and all that they refer to."""
    folder: str | None = None
    """Absolute; none where it was not recorded."""


def marker_text() -> str:
    """Return the text of the file that makes a folder a store."""
    return json_text({"schema": SCHEMA})


def parse_marker(text: str) -> int:
    """Return the schema of the store whose marker has this text.

    Raises:
        ValueError: It is no marker.
    """
    document = json.loads(text)
    if not isinstance(document, dict) or not isinstance(document.get("schema"), int):
        msg = "no `schema`"
        raise ValueError(msg)  # noqa: TRY004 - the text is wrong, not the caller
    return cast("int", document["schema"])


def record_text(info: PathInfo) -> str:
    """Return the text of an object's record: the same for equal objects, on every machine."""
    return json_text(
        {
            "schema": SCHEMA,
            "path": info.path,
            "sha256": info.sha256,
            "size": info.size,
            "kind": info.kind,
            "references": sorted(info.references),
            "outputs": [list(output) for output in sorted(info.outputs)],
        }
    )


def parse_record(text: str, path: StorePath) -> PathInfo:
    """Return what the record of *path* says.

    Raises:
        ValueError: It is not as `record_text` writes it, byte by byte.
    """
    document: Any = json.loads(text)
    try:
        info = PathInfo(
            path=StorePath(document["path"]),
            sha256=parse_sha256(document["sha256"]),
            size=int(document["size"]),
            references=tuple(StorePath(reference) for reference in document["references"]),
            kind=document["kind"],
            outputs=tuple(
                (str(name), parse_sha256(digest), int(size))
                for name, digest, size in document["outputs"]
            ),
        )
    except (KeyError, TypeError, AttributeError) as error:
        msg = f"a field is absent or not as expected: {error}"
        raise ValueError(msg) from error
    if info.path != path:
        msg = f"it is the record of `{info.path}`"
        raise ValueError(msg)
    if info.kind not in ("file", "folder") or record_text(info) != text:
        msg = "it is not as it was written"
        raise ValueError(msg)
    return info


def parse_listing(text: bytes) -> tuple[Entry, ...]:
    """Return the entries of a canonical listing; sizes are not in it.

    Raises:
        ValueError: It is no canonical listing.
    """
    document: Any = json.loads(text)
    try:
        tree, schema, rows = document
        entries = tuple(
            Entry(path=str(path), kind=kind, content=str(content)) for path, kind, content in rows
        )
    except TypeError as error:
        msg = "not a listing"
        raise ValueError(msg) from error
    kinds = {entry.kind for entry in entries} <= set(get_args(EntryKind))
    if (tree, schema) != ("tree", 1) or not kinds or canonical_json(document) != text:
        msg = "not a canonical listing"
        raise ValueError(msg)
    return entries


def parse_path(text: str) -> StorePath | None:
    """Return the store path that a file is named after; none where it is none's."""
    try:
        return StorePath(text)
    except ValueError:
        return None


def root_text(root: Root) -> str:
    """Return the text of a root: the folder behind `# `, then one store path a line, sorted."""
    folder = f"{_FOLDER}{json.dumps(root.folder)}\n" if root.folder else ""
    return folder + "".join(f"{path}\n" for path in sorted(set(root.paths)))


def parse_root(text: str) -> Root:
    """Return what a root keeps.

    Raises:
        ValueError: A line is no store path, or the folder no text.
    """
    lines, folder = text.splitlines(), None
    if lines and lines[0].startswith(_FOLDER):
        folder = json.loads(lines.pop(0).removeprefix(_FOLDER))
        if not isinstance(folder, str):
            msg = "its folder is no text"
            raise ValueError(msg)
    return Root(paths=tuple(StorePath(line) for line in lines), folder=folder)
