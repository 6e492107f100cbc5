"""Places in an image: what a stack puts there, and what must not hide or displace what. Pure."""

from __future__ import annotations

from itertools import pairwise
from typing import TYPE_CHECKING, Annotated

from pydantic import AfterValidator

from lockbuild.stack.words import fault, matching

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

__all__ = ["PART", "Place", "check_places", "clash", "refuse_reserved"]

_RESERVED = ("/opt/venv", "/opt/lockbuild", "/proc", "/sys", "/dev", "/build", "/image")
"""Folders of the image that belong to lockbuild, to its stages, or to the kernel."""

PART = r"(?!\.\.?(/|$))[A-Za-z0-9._+-]+"
"""Pattern of one name in a path."""

Place = Annotated[
    str,
    AfterValidator(
        matching(rf"(/{PART})+", "an absolute path in the image, such as `/app/weights/model.pth`")
    ),
]


def refuse_reserved(path: str) -> None:
    """Refuse a place that is not a stack's to fill."""
    if any(_covers(folder, path) for folder in _RESERVED):
        raise fault("a path outside of " + ", ".join(f"`{folder}`" for folder in _RESERVED))


def check_places(files: Sequence[str], mounts: Iterable[str], sources: Iterable[str]) -> None:
    """Refuse files, mounts and sources that would hide or displace one another in the image.

    Files and mounts inside a source are as they should be: weights go into the tree. Whether a file of the
    source is there already is seen when its tree is.

    Args:
        files: Path of each file that an asset brings.
        mounts: Path of each mount.
        sources: Folder of each source.
    """
    if found := clash(files):
        raise fault(
            f"a place of its own for each file of an asset; `{found[0]}` and `{found[1]}` cannot both be there"
        )
    mounts, sources = list(mounts), list(sources)
    if twin := _twin(mounts):
        raise fault(f"each mount once; twice: `{twin}`")
    if found := clash(sources):
        raise fault(
            f"a folder of its own for each source, not `{found[1]}` in `{found[0]}`: a graft puts one into another"
        )
    for place in mounts:
        for file in files:
            if _covers(place, file):
                raise fault(f"no bundle below a mount: mounting `{place}` would hide `{file}`")
        for source in sources:
            if _covers(place, source):
                raise fault(f"no source below a mount: mounting `{place}` would hide `{source}`")
    for file in files:
        for source in sources:
            if _covers(file, source):
                raise fault(f"no asset in place of a source's folder: `{file}` and `{source}`")


def clash(paths: Sequence[str]) -> tuple[str, str] | None:
    """Return two paths of which one would have to be both a file and a folder, or which are the same."""
    if twin := _twin(paths):
        return twin, twin
    ordered = sorted(f"{path}/" for path in paths)
    for first, second in pairwise(ordered):
        if second.startswith(first):
            return first[:-1], second[:-1]
    return None


def _covers(folder: str, path: str) -> bool:
    return path == folder or path.startswith(f"{folder}/")


def _twin(names: Sequence[str]) -> str | None:
    return next((name for name in sorted(names) if names.count(name) > 1), None)
