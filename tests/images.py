"""Images made on the spot: layers as tars, and the documents that hold them together."""

from __future__ import annotations

import gzip
import hashlib
import io
import json
import tarfile
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from pathlib import Path

__all__ = ["DOCKER", "OCI", "Member", "config_text", "described", "layer", "packed", "write_layout"]

OCI = {
    "config": "application/vnd.oci.image.config.v1+json",
    "index": "application/vnd.oci.image.index.v1+json",
    "layer": "application/vnd.oci.image.layer.v1.tar+gzip",
    "manifest": "application/vnd.oci.image.manifest.v1+json",
}
DOCKER = {
    "config": "application/vnd.docker.container.image.v1+json",
    "index": "application/vnd.docker.distribution.manifest.list.v2+json",
    "layer": "application/vnd.docker.image.rootfs.diff.tar.gzip",
    "manifest": "application/vnd.docker.distribution.manifest.v2+json",
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Member:
    """One entry of a layer."""

    name: str
    content: bytes | None = None
    """Of a file; none for a folder, unless `link` or `hard` says what it is."""
    link: str | None = None
    hard: str | None = None
    mode: int = 0
    """0 for what is usual."""
    owner: tuple[int, int] = (0, 0)
    kind: bytes | None = None
    """tarfile's type, for devices and pipes."""
    xattrs: Mapping[str, str] = field(default_factory=dict)


def layer(*members: Member) -> bytes:
    """Return a tar of *members*, in this order."""
    output = io.BytesIO()
    with tarfile.open(fileobj=output, mode="w", format=tarfile.PAX_FORMAT) as archive:
        for member in members:
            info = tarfile.TarInfo(member.name)
            info.uid, info.gid = member.owner
            info.mtime = 1_600_000_000
            info.mode = member.mode or (0o755 if member.content is None else 0o644)
            info.pax_headers = {f"SCHILY.xattr.{name}": value for name, value in member.xattrs.items()}
            if member.kind is not None:
                info.type = member.kind
            elif member.link is not None:
                info.type, info.linkname = tarfile.SYMTYPE, member.link
            elif member.hard is not None:
                info.type, info.linkname = tarfile.LNKTYPE, member.hard
            elif member.content is None:
                info.type = tarfile.DIRTYPE
            info.size = len(member.content or b"")
            archive.addfile(info, io.BytesIO(member.content or b""))
    return output.getvalue()


def packed(data: bytes) -> bytes:
    """Return a layer compressed, always to the same bytes."""
    return gzip.compress(data, compresslevel=1, mtime=0)


def described(data: bytes, media_type: str) -> dict[str, Any]:
    """Return the descriptor of a blob."""
    digest = f"sha256:{hashlib.sha256(data).hexdigest()}"
    return {"mediaType": media_type, "digest": digest, "size": len(data)}


def config_text(
    layers: Sequence[bytes], *, env: Sequence[str] = (), architecture: str = "amd64"
) -> bytes:
    """Return the configuration of an image whose layers are these tars."""
    diffs = [f"sha256:{hashlib.sha256(data).hexdigest()}" for data in layers]
    document = {
        "architecture": architecture,
        "os": "linux",
        "config": {"Env": list(env), "Entrypoint": ["/entrypoint"]},
        "rootfs": {"type": "layers", "diff_ids": diffs},
    }
    return json.dumps(document).encode()


def write_layout(folder: Path, layers: Sequence[bytes]) -> Path:
    """Write an OCI image layout of *layers*, which are tars, and return its folder."""
    blobs = folder / "blobs/sha256"
    blobs.mkdir(parents=True)

    def put(data: bytes, media_type: str) -> dict[str, Any]:
        table = described(data, media_type)
        (blobs / table["digest"].removeprefix("sha256:")).write_bytes(data)
        return table

    manifest = {
        "schemaVersion": 2,
        "config": put(config_text(layers), OCI["config"]),
        "layers": [put(packed(data), OCI["layer"]) for data in layers],
    }
    entry = put(json.dumps(manifest).encode(), OCI["manifest"])
    (folder / "index.json").write_text(json.dumps({"schemaVersion": 2, "manifests": [entry]}))
    (folder / "oci-layout").write_text('{"imageLayoutVersion":"1.0.0"}')
    return folder
