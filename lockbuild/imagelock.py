"""Base images in a lock: their digests, and what follows from them. Pure."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from lockbuild.baseimage import Blob, Manifest, parse_digest, parse_reference

if TYPE_CHECKING:
    from collections.abc import Mapping

__all__ = ["LockedImage", "image_table", "parse_image"]


@dataclass(frozen=True, slots=True, kw_only=True)
class LockedImage:
    """The image that a root file system stands on."""

    root: str
    """`runtime` or `toolchain`."""
    reference: str
    """As the stack has it, without digest."""
    digest: str | None = None
    """`sha256:…`, of the stack or of the tag: of an index, or of the manifest itself; none while it is open."""
    manifest: Manifest | None = None
    """Of the target's platform; none while it is open."""
    env: tuple[tuple[str, str], ...] = ()
    """Environment variables that the image sets, sorted."""

    @property
    def path(self) -> str:
        """The folders in which the image looks for commands, as PATH says it."""
        return dict(self.env).get("PATH", "")


def image_table(image: LockedImage) -> dict[str, Any]:
    """Return *image* as the lock writes it."""
    table: dict[str, Any] = {"root": image.root, "reference": image.reference}
    if image.digest:
        table["digest"] = image.digest
    if image.manifest is None:
        return table
    return {
        **table,
        "manifest": _blob_table(image.manifest.blob),
        "config": _blob_table(image.manifest.config),
        "env": dict(image.env),
        "layers": [_blob_table(layer) for layer in image.manifest.layers],
    }


def parse_image(table: Mapping[str, Any]) -> LockedImage:
    """Return the image in a lock's *table*.

    Raises:
        KeyError: Something is missing.
        ValueError: A digest is none, or the root has no such name.
    """
    root, digest = table["root"], table.get("digest")
    if root not in {"runtime", "toolchain"}:
        msg = f"not a root file system: {root!r}"
        raise ValueError(msg)
    if digest is not None:
        parse_digest(digest)
    reference = parse_reference(f"{table['reference']}@sha256:{'0' * 64}").tagged
    if "manifest" not in table:
        return LockedImage(root=root, reference=reference, digest=digest)
    return LockedImage(
        root=root,
        reference=reference,
        digest=table["digest"],
        manifest=Manifest(
            blob=_parse_blob(table["manifest"]),
            config=_parse_blob(table["config"]),
            layers=tuple(_parse_blob(layer) for layer in table["layers"]),
        ),
        env=tuple(sorted(table["env"].items())),
    )


def _blob_table(blob: Blob) -> dict[str, Any]:
    return {"digest": blob.digest, "size": blob.size, "media-type": blob.media_type}


def _parse_blob(table: Mapping[str, Any]) -> Blob:
    return Blob(sha256=parse_digest(table["digest"]), size=table["size"], media_type=table["media-type"])
