"""Looking into an image for an audit: what it shall hold, what it holds, and where these differ. Runs nothing."""

from __future__ import annotations

from typing import TYPE_CHECKING

from lockbuild.audit.contents import kept
from lockbuild.audit.drift import drift_of
from lockbuild.audit.expected import expected_of
from lockbuild.audit.leaks import looker
from lockbuild.audit.rules import ImageContents
from lockbuild.image.archive import Reading

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from lockbuild.image.manifests import LayeredImage
    from lockbuild.lock import Lock
    from lockbuild.plan import Plan
    from lockbuild.stack import Stack
    from lockbuild.store import Store

__all__ = ["look_into"]


def look_into(  # noqa: PLR0913 - what the image is compared with
    reference: str,
    read: Callable[[Reading], LayeredImage],
    *,
    stack: Stack,
    lock: Lock,
    plan: Plan,
    store: Store,
    templates: Mapping[str, str],
    documents: Callable[[], Mapping[str, str]],
) -> ImageContents:
    """Return what the image called *reference* holds.

    Args:
        read: Reads it: `lockbuild.image.archive`.
        templates: As for rendering.
        documents: Makes what the image says of itself, file name -> text: bill of materials and NOTICE.

    Raises:
        ImageError: It cannot be read, or is not what its digests say.
    """
    expected = expected_of(stack, lock, plan, store, templates=templates, documents=documents)
    account = expected.settings.account
    home = f"/home/{account[0]}" if account else "/root"
    reading = Reading(
        keep=kept,
        look=looker(expected.known, home=home),
        architecture=stack.target.debian_architecture,
    )
    image = read(reading)
    drift = drift_of(image, expected, stack=stack, lock=lock)
    return ImageContents(reference=reference, image=image, expected=expected, drift=drift)
