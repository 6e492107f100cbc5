"""Wheels as files: looking into one, checking one, and giving equal content equal bytes.

`reading` says what a wheel says of itself, `places` where its files are installed, `checking` what is wrong with it,
and `normal` writes it in the one way that lockbuild writes wheels.
"""

from __future__ import annotations

from lockbuild.wheels.checking import check_wheel, missing_members
from lockbuild.wheels.normal import normalise_wheel, stamp_wheel
from lockbuild.wheels.places import installed_name, place_of
from lockbuild.wheels.reading import (
    WheelFacts,
    dist_info_of,
    headers_of,
    inspect_wheel,
    requires_of,
    wheel_matches,
)

__all__ = [
    "WheelFacts",
    "check_wheel",
    "dist_info_of",
    "headers_of",
    "inspect_wheel",
    "installed_name",
    "missing_members",
    "normalise_wheel",
    "place_of",
    "requires_of",
    "stamp_wheel",
    "wheel_matches",
]
