"""Does an image say of itself what it is? Its bill of materials, its NOTICE, and the label that vouches for them."""

from __future__ import annotations

from typing import TYPE_CHECKING

from lockbuild.audit.imaged import files_found, image_of, set_by
from lockbuild.audit.rules import Found, Rule
from lockbuild.dockerfile import BILL_FOLDER, BILL_LABEL, bill_name
from lockbuild.findings import Check

if TYPE_CHECKING:
    from collections.abc import Iterator

    from lockbuild.audit.rules import Subject
    from lockbuild.image.manifests import LayeredImage

__all__ = ["RULES"]

_ID = "image-sbom"


def _image_sbom(subject: Subject) -> Iterator[Found]:
    contents = image_of(subject)
    image, path = contents.image, f"{BILL_FOLDER}/{bill_name(subject.stack)}".removeprefix("/")
    yield from files_found(_ID, subject)
    if any(one.path == path for one in contents.drift.files):
        return  # Said once: whichever digest the label has, the file is not that of the lock.
    digest, label = _digest(image, path), dict(image.labels).get(BILL_LABEL, "")
    if digest and label != digest:
        said = f"is `{label}`" if label else "is not set"
        yield Found(
            BILL_LABEL,
            f"{said}, the bill of materials in the image has `{digest}`",
            layer=set_by(image, "LABEL", BILL_LABEL),
        )


def _digest(image: LayeredImage, path: str) -> str:
    """Return the digest of the file at *path*, as the last layer that has it; empty where none has."""
    for layer in reversed(image.layers):
        for file in layer.content.files:
            if file.path == path and file.kind == "file":
                return f"sha256:{file.content}"
    return ""


RULES = (
    Rule(
        Check(
            id=_ID,
            level="error",
            what="the image has bill of materials and NOTICE of its lock, and a label with the bill's digest",
            why="scanners and people believe what an image says of itself",
            mend="`lockbuild image`, also where another release of lockbuild made the image",
            about="image",
        ),
        _image_sbom,
    ),
)
