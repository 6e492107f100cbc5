"""Which image an audit looks into: one of an engine, or an archive."""

from __future__ import annotations

from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

from lockbuild.errors import ToolMissing, UsageError

if TYPE_CHECKING:
    from collections.abc import Callable

    from lockbuild.audit import ImageContents
    from lockbuild.components import Component
    from lockbuild.image.archive import Reading
    from lockbuild.image.manifests import LayeredImage
    from lockbuild.realise import Realiser

__all__ = ["image_contents", "venv_of"]


def image_contents(
    realiser: Realiser, parts: tuple[Component, ...], *, against: str | None, where: str | None
) -> tuple[ImageContents | None, str]:
    """Return what the image or archive holds, or none and why.

    Args:
        parts: What stack and image are made of.
        where: Name of an image, or path of an archive; none for the image of the lock.
    """
    from lockbuild.audit.looking import look_into  # noqa: PLC0415 - heavy
    from lockbuild.audit.rules import Skip  # noqa: PLC0415
    from lockbuild.cli.imaging import templates  # noqa: PLC0415
    from lockbuild.packing import documents  # noqa: PLC0415

    reference, read, reason = _reader(realiser, against, where)
    if read is None:
        return None, reason
    try:
        contents = look_into(
            reference,
            read,
            stack=realiser.stack,
            lock=realiser.lock,
            plan=realiser.plan,
            store=realiser.store,
            templates=templates(),
            documents=partial(documents, realiser.stack, realiser.lock, realiser.store, parts),
        )
    except Skip as skipped:
        # A lock that has moved away from its stack makes no image that others could be compared with.
        return None, str(skipped)
    return contents, ""


def _reader(
    realiser: Realiser, against: str | None, where: str | None
) -> tuple[str, Callable[[Reading], LayeredImage] | None, str]:
    """Return the image's name and what reads it; none, and why, where there is none."""
    from lockbuild.cli.imaging import image_tag  # noqa: PLC0415 - heavy
    from lockbuild.image import containers  # noqa: PLC0415
    from lockbuild.image.archive import read_archive, read_saved  # noqa: PLC0415
    from lockbuild.image.engine import find_engine  # noqa: PLC0415

    if against == "archive" and where is not None:
        return where, partial(read_archive, Path(where)), ""
    name = where or image_tag(realiser.stack.name, realiser.lock)
    try:
        engine = find_engine()
    except ToolMissing as error:
        if against == "image":
            raise
        return name, None, error.message
    if where is None and containers.find(name, engine=engine) is None:
        return name, None, f"the engine has no image `{name}`: `lockbuild image`"
    return name, partial(read_saved, name, engine=engine), ""


def venv_of(against: str | None, where: str | None) -> Path | None:
    """Return the virtual environment to look into, if one is named.

    Raises:
        UsageError: It is none.
    """
    if against != "venv" or where is None:
        return None
    if not (Path(where) / "pyvenv.cfg").is_file():
        raise UsageError(f"`{where}` is no virtual environment: it has no pyvenv.cfg")
    return Path(where)
