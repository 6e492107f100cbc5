"""What mends a build that failed, as far as the words of other programs in its log tell. Pure."""

from __future__ import annotations

import re

__all__ = ["remedies"]

_FILE = r"([^\s'`]+)"
_KNOWN = tuple(
    (re.compile(said), mend)
    for said, mend in (
        (
            r"ModuleNotFoundError: No module named '([\w.]+)'",
            "its environment has no module `{}`: name the package under `needs` if the image has it, else under `build-requires`",
        ),
        (
            r"error: invalid command '(bdist_wheel)'",
            "setuptools before 70.1 has no `{}` of its own: name `wheel` under `build-requires`",
        ),
        (
            rf"fatal error: {_FILE}: No such file or directory",
            "there is no `{}` to include: `apt.toolchain` lacks its Debian package, or the source its `submodules = true`",
        ),
        (
            r"ld: cannot find -l([^\s:']+)",
            "there is no library `{}` to link: `apt.toolchain` lacks its Debian package, mostly one called `-dev`",
        ),
        (
            rf"error: command '{_FILE}' failed: No such file or directory",
            "there is no compiler `{}`: `apt.toolchain` lacks its Debian package, such as `g++`",
        ),
    )
)


def remedies(log: str) -> tuple[str, ...]:
    """Return what to do of each kind of complaint in *log* that is known: of the last one, which nobody caught."""
    found = ((mend, [*said.finditer(log)]) for said, mend in _KNOWN)
    return tuple(mend.format(matches[-1][1]) for mend, matches in found if matches)
