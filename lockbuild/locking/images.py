"""Pinning base images: tags become digests, and digests all that follows from them."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from lockbuild.baseimage import parse_reference
from lockbuild.errors import FetchError
from lockbuild.imagelock import LockedImage

if TYPE_CHECKING:
    from collections.abc import Callable

    from lockbuild.baseimage import Reference
    from lockbuild.locking.former import Former
    from lockbuild.locking.gaps import Gaps
    from lockbuild.progress import Progress
    from lockbuild.sources import Mirrors
    from lockbuild.sources.registry import Described
    from lockbuild.stack import Stack

__all__ = ["ImagePinner"]


@dataclass(frozen=True, slots=True, kw_only=True)
class ImagePinner:
    """Asks registries, unless nothing that decides their answer has changed."""

    stack: Stack
    former: Former
    mirrors: Callable[[frozenset[str]], Mirrors]
    progress: Progress
    gaps: Gaps
    _answers: dict[Reference, Described | FetchError] = field(default_factory=dict)

    def pin(self) -> tuple[LockedImage, ...]:
        """Return the image of each root file system; one that cannot be had keeps its former pin, or is open.

        Raises:
            FetchError: A registry gave other bytes.
            ResolveError: There is no such image, or none for the target.
            ToolMissing: A registry must be asked, and there is no skopeo.
        """
        wanted = self.stack.base.images
        kept = {root: self._kept(root, parse_reference(text)) for root, text in wanted}
        unknown = [root for root in kept if kept[root] is None]
        if not unknown:
            return tuple(image for image in kept.values() if image)
        found = []
        with self.progress.phase("resolving base images", total=len(unknown), unit="images") as phase:
            for root, text in wanted:
                image = kept[root]
                if image is None:
                    image = self._find(root, parse_reference(text))
                    phase.advance(1)
                    phase.line(f"{root}: {image.reference} {image.digest or 'open'}")
                found.append(image)
        return tuple(found)

    def _kept(self, root: str, reference: Reference) -> LockedImage | None:
        """Return the former pin where it still holds; one by digest does not move."""
        image = self._former(root)
        if image is None or image.manifest is None:
            return None
        return None if self.former.options.upgrade and not reference.digest else image

    def _former(self, root: str) -> LockedImage | None:
        lock = self.former.same(f"base.{root}", "target.platform")
        return lock.image(root) if lock else None

    def _find(self, root: str, reference: Reference) -> LockedImage:
        try:
            found = self._ask(reference)
        except FetchError as error:
            if not error.unreachable:
                raise
            former = self._former(root)
            if former and former.manifest:
                # What a tag stood for when it could be asked.
                self.gaps.keep("base", root, error)
                return former
            if not (reference.digest and self.stack.packages_of(root)):
                self.gaps.leave("base", root, error)
            # Else nothing of the image itself is open; which packages go on top of it is.
            return LockedImage(root=root, reference=reference.tagged, digest=reference.digest)
        return LockedImage(
            root=root,
            reference=reference.tagged,
            digest=found.digest,
            manifest=found.manifest,
            env=found.env,
        )

    def _ask(self, reference: Reference) -> Described:
        from lockbuild.sources import registry  # noqa: PLC0415 - not loaded when the lock knows everything

        if reference not in self._answers:
            try:
                self._answers[reference] = registry.describe(
                    reference,
                    architecture=self.stack.target.debian_architecture,
                    mirrors=self.mirrors(frozenset()),
                )
            except FetchError as error:
                self._answers[reference] = error
        answer = self._answers[reference]
        if isinstance(answer, FetchError):
            raise answer
        return answer
