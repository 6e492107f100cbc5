"""Where the files of a wheel are installed. Pure."""

from __future__ import annotations

import re

__all__ = ["installed_name", "place_of"]

# Installers take every folder of that ending for the wheel's, whatever is in front of it.
_DATA = re.compile(r"[^/]+\.data/(purelib|platlib|scripts|headers|data)/(.+)", re.DOTALL)
_SITE = re.compile(r"lib(?:64)?/python3\.\d+/(?:site|dist)-packages/(.+)", re.DOTALL)
_FOLDERS = {"scripts": "bin/", "headers": "include/site/"}
_PREFIX = "../../../"


def place_of(member: str) -> str:
    """Return where a member of a wheel is installed, as pip writes it into RECORD: seen from site-packages.

    `a-1.data/platlib/a/b.so` is `a/b.so`, `a-1.data/scripts/run` is `../../../bin/run`.
    """
    found = _DATA.fullmatch(member)
    if found is None:
        return member
    scheme, path = found.groups()
    if scheme in {"purelib", "platlib"}:
        return path
    inside = _FOLDERS.get(scheme, "") + path
    site = _SITE.fullmatch(inside)
    return site[1] if site else f"{_PREFIX}{inside}"


def installed_name(member: str) -> str:
    """Return where in site-packages a member of a wheel is installed; its own name where it is elsewhere."""
    place = place_of(member)
    return member if place.startswith(_PREFIX) else place
