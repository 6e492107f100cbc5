"""Assets: weights and other data that an image brings along, or that whoever runs it must. Pure.

Whether a file may be passed on is judged by its licence alone, and on the safe side: a licence that allows
it only for some purposes forbids it here until the stack accepts that in words of its own.
"""

from __future__ import annotations

import re
from dataclasses import dataclass

from lockbuild.licences.expressions import acceptable

__all__ = ["ON_FIRST_FETCH", "Asset", "Checksum", "forbids_redistribution", "image_paths"]

ON_FIRST_FETCH = "on-first-fetch"
"""What stands for a sha256 that nobody publishes: the first bytes that come are pinned."""

Checksum = tuple[str, str]
"""`sha1` or `git-blob`, and hexadecimal digits: what upstream publishes where it has no sha256."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Asset:
    """A file, or members of an archive, at a place in the image."""

    name: str
    path: str
    """Where it is in the image; for members the folder that they are below."""
    policy: str = "bundle"
    """`bundle`: the image has it. `mount`, `optional-mount`: whoever runs the image brings it along."""
    url: tuple[str, ...] = ()
    """Where it may be had, asked in order."""
    sha256: str | None = None
    """Of the file, also of an archive; `ON_FIRST_FETCH` where nobody publishes one."""
    checksums: tuple[Checksum, ...] = ()
    """What upstream publishes instead."""
    size: int | None = None
    type: str | None = None
    """What the file must be, by its first bytes."""
    members: tuple[tuple[str, str], ...] = ()
    """Name in the archive and path below `path` of each file that is taken out; none for the file itself."""
    license: str = ""
    accept_license: str = ""
    """Why the image may hold it although its licence does not let everybody pass it on."""
    why: str = ""
    holds: tuple[str, ...] = ()
    """For a mount: paths and patterns below it that must be there."""

    @property
    def bundled(self) -> bool:
        """Whether the image has it."""
        return self.policy == "bundle"


def image_paths(path: str, members: tuple[tuple[str, str], ...]) -> tuple[str, ...]:
    """Return the path in the image of each file of a bundle, sorted."""
    return tuple(sorted(f"{path}/{target}" for _, target in members)) if members else (path,)


# ---- licences -------------------------------------------------------------------------------------

# Licences of https://spdx.org/licenses/ whose permission to pass a file on ends at a purpose, which no
# program can know. NONE and NOASSERTION are SPDX's words for "upstream grants nothing" and "not known".
_RESTRICTED = re.compile(
    r"(CC-BY-NC-.*|CC-BY-NC|Aladdin|NCGL-UK-2\.0|PolyForm-Noncommercial-.*|NONE|NOASSERTION)",
    re.IGNORECASE,
)


def forbids_redistribution(expression: str, *, redistributable: bool | None = None) -> bool:
    """Tell whether a file under a licence may not be passed on as part of an image.

    Args:
        expression: An SPDX expression, or NONE or NOASSERTION. Of licences joined by `OR` any may be
            chosen, those joined by `AND` hold together.
        redistributable: What the stack says of licences that SPDX does not list (`LicenseRef-…`); without
            a word they forbid it. `False` is stronger than any licence.
    """
    if redistributable is False:
        return True

    def grants(licence: str) -> bool:
        # An exception grants more than its licence, never less.
        word = licence.partition(" ")[0]
        if "licenseref-" in word.lower():
            return redistributable is True
        return _RESTRICTED.fullmatch(word) is None

    return not acceptable(expression, grants)
