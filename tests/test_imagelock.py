"""Base images in a lock, there and back."""

from __future__ import annotations

from typing import Any

import pytest

from lockbuild.baseimage import Blob, Manifest
from lockbuild.digest import sha256_of
from lockbuild.imagelock import LockedImage, image_table, parse_image


def blob(name: str) -> Blob:
    return Blob(media_type=f"type/{name}", sha256=sha256_of(name.encode()), size=len(name))


OPEN = LockedImage(root="runtime", reference="docker.io/a/b:1")
PINNED = LockedImage(root="runtime", reference="docker.io/a/b:1", digest=f"sha256:{'a' * 64}")
WHOLE = LockedImage(
    root="toolchain",
    reference="docker.io/a/b",
    digest=f"sha256:{'a' * 64}",
    manifest=Manifest(blob=blob("manifest"), config=blob("config"), layers=(blob("one"), blob("two"))),
    env=(("LD_LIBRARY_PATH", "/lib"), ("PATH", "/bin")),
)


@pytest.mark.parametrize("image", [OPEN, PINNED, WHOLE], ids=["open", "pinned", "whole"])
def test_an_image_is_read_as_it_was_written(image: LockedImage) -> None:
    assert parse_image(image_table(image)) == image


@pytest.mark.parametrize(
    "changes",
    [
        {"root": "../elsewhere"},
        {"reference": "no reference"},
        {"digest": "sha256:../.."},
        {"manifest": {"digest": "sha256:1", "size": 1, "media-type": "t"}},
    ],
)
def test_what_a_lock_may_not_hold_is_refused(changes: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match="not a|an image with"):
        parse_image({**image_table(WHOLE), **changes})


def test_where_it_looks_for_commands() -> None:
    assert (WHOLE.path, OPEN.path) == ("/bin", "")
