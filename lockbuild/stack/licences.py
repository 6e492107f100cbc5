"""What a stack file says of licences, and what it must say of whatever an image passes on. Pure."""

from __future__ import annotations

from typing import Annotated

from packaging.licenses import InvalidLicenseExpression, canonicalize_license_expression
from pydantic import AfterValidator

from lockbuild.stack.assets import forbids_redistribution
from lockbuild.stack.words import fault

__all__ = ["Expression", "Licence", "refuse_unaccepted"]

_UNSTATED = ("NONE", "NOASSERTION")


def _expression(text: str) -> str:
    if text in _UNSTATED:
        return text
    try:
        canonicalize_license_expression(text)
    except InvalidLicenseExpression as error:
        raise fault(
            f"an SPDX expression, `LicenseRef-…`, or `NOASSERTION` where upstream says nothing ({error})"
        ) from error
    return text


def _as_spdx_writes_it(text: str) -> str:
    canonical = text if text in _UNSTATED else canonicalize_license_expression(text)
    if canonical != text:
        raise fault(f"the licence as SPDX writes it: `{canonical}`")
    return text


Expression = Annotated[str, AfterValidator(_expression)]
"""In upper or lower case, which are the same to SPDX."""
Licence = Annotated[Expression, AfterValidator(_as_spdx_writes_it)]


def refuse_unaccepted(
    licence: str | None, *, redistributable: bool | None, accepted: str | None, instead: str
) -> None:
    """Refuse what an image would pass on though its licence forbids it and nobody has accepted that.

    Args:
        redistributable: What the stack says of a licence that SPDX does not list.
        accepted: The stack's reason to hold it all the same.
        instead: What else the stack could say.
    """
    if licence is None:
        raise fault("`license` of what the image passes on; `NOASSERTION` where upstream says nothing")
    known = licence not in _UNSTATED and "licenseref-" not in licence.lower()
    if redistributable and known and forbids_redistribution(licence):
        raise fault(
            f"no `redistributable = true`: {licence} says otherwise; `accept-license` has the reason"
        )
    if accepted is None and forbids_redistribution(licence, redistributable=redistributable):
        raise fault(
            f"{instead}, as `{licence}` does not let everybody pass it on; "
            "or `accept-license` with the reason why this image may hold it"
        )
