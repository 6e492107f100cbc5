"""Under which licence a part of a stack may be passed on, by its own words. Pure.

What nothing tells stays empty: no licence is guessed from what a project usually has.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from packaging.licenses import InvalidLicenseExpression, canonicalize_license_expression

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

__all__ = ["Told", "of_conda", "of_copyright", "of_metadata"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Told:
    """A licence, and what tells it; see the fields of the same names of `lockbuild.components.Component`."""

    licence: str = ""
    declared: str = ""
    told_by: str = ""


def of_metadata(fields: Mapping[str, Sequence[str]]) -> Told:
    """Return the licence that a wheel's METADATA tells.

    Args:
        fields: Name -> values, in their order.
    """
    for text in fields.get("License-Expression", ()):
        try:
            licence = canonicalize_license_expression(text)
        except InvalidLicenseExpression:
            return Told(declared=text)
        return Told(licence=licence, declared=text, told_by="License-Expression")
    return Told()


def of_copyright(text: str) -> Told:  # noqa: ARG001
    """Return the licence that a Debian copyright file tells."""
    return Told()


def of_conda(declared: str) -> Told:
    """Return the licence that a conda package declares."""
    try:
        return Told(
            licence=canonicalize_license_expression(declared), declared=declared, told_by="License"
        )
    except InvalidLicenseExpression:
        return Told(declared=declared)
