"""OSV records as the databases write them, planted by tests, and exports made of them."""

from __future__ import annotations

import json
import zipfile
from typing import TYPE_CHECKING, Any

from pydantic import TypeAdapter

from lockbuild.osv import Record

if TYPE_CHECKING:
    from collections.abc import Iterable
    from pathlib import Path

__all__ = ["CRITICAL", "MODIFIED", "about", "parsed", "record", "write_folder", "write_zip"]

MODIFIED = "2026-01-01T12:00:00.123456Z"
CRITICAL = {"type": "CVSS_V3", "score": "CVSS:3.1/AV:N/AC:L/PR:N/UI:N/S:U/C:H/I:H/A:H"}


def about(
    name: str,
    *events: tuple[str, str],
    ecosystem: str = "PyPI",
    versions: Iterable[str] = (),
    **more: Any,
) -> dict[str, Any]:
    """Return what a record says of a package: *events* are one range."""
    ranges = [{"type": "ECOSYSTEM", "events": [{kind: version} for kind, version in events]}]
    return {
        "package": {"ecosystem": ecosystem, "name": name},
        "ranges": ranges if events else [],
        "versions": list(versions),
        **more,
    }


def record(id_: str, *affected: dict[str, Any], **more: Any) -> dict[str, Any]:
    """Return a record about packages."""
    return {
        "schema_version": "1.7.3",
        "id": id_,
        "modified": MODIFIED,
        "published": "2025-06-01T00:00:00Z",
        "details": "Long words.",
        "affected": list(affected),
        **more,
    }


def parsed(*records: dict[str, Any]) -> tuple[Record, ...]:
    """Return records as they are when they have been read."""
    adapter = TypeAdapter(Record)
    return tuple(adapter.validate_python(one) for one in records)


def write_folder(folder: Path, *records: dict[str, Any]) -> Path:
    """Write an export as a folder with a folder for each ecosystem."""
    for one in records:
        families = {a["package"]["ecosystem"].partition(":")[0] for a in one["affected"]}
        for family in sorted(families):
            (folder / family).mkdir(parents=True, exist_ok=True)
            (folder / family / f"{one['id']}.json").write_text(json.dumps(one), encoding="utf-8")
    return folder


def write_zip(file: Path, *records: dict[str, Any]) -> Path:
    """Write an export as one zip."""
    with zipfile.ZipFile(file, "w", zipfile.ZIP_DEFLATED) as archive:
        for one in records:
            archive.writestr(f"{one['id']}.json", json.dumps(one))
    return file
