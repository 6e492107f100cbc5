"""`[conda]` as people write it. Pure."""

from __future__ import annotations

from typing import Annotated

from pydantic import AfterValidator, Field

from lockbuild.stack.conda import channel_name
from lockbuild.stack.table import Table
from lockbuild.stack.words import fault, matching

__all__ = ["CondaPackageName", "CondaTable"]

_CHANNEL = r"(https?|file)://[^\s?#$@]+"
_SPECIFICATION = r"[a-z0-9][a-z0-9_.-]*([ =<>!~][^\[\]:]*)?"

ChannelAddress = Annotated[
    str,
    AfterValidator(
        matching(rf"{_CHANNEL}/[A-Za-z0-9][A-Za-z0-9._-]*/?", "a channel's address, without credentials")
    ),
]
CondaPackageText = Annotated[
    str, AfterValidator(matching(_SPECIFICATION, "a conda package such as `openh264 ==2.1`"))
]
CondaPackageName = Annotated[
    str, AfterValidator(matching(r"[a-z0-9][a-z0-9_.-]*", "a conda package's name such as `python`"))
]
VirtualName = Annotated[
    str, AfterValidator(matching(r"__[a-z0-9_]+", "a virtual package's name such as `__cuda`"))
]
VirtualVersion = Annotated[
    str,
    AfterValidator(matching(r"[0-9][A-Za-z0-9._]*(=[A-Za-z0-9_.+]+)?", "a version, or `VERSION=BUILD`")),
]


def _names_apart(urls: list[str]) -> list[str]:
    names = [channel_name(url) for url in urls]
    twice = sorted({name for name in names if names.count(name) > 1})
    if twice:
        raise fault(f"channels whose addresses end in names of their own; twice: `{twice[0]}`")
    return urls


class CondaTable(Table):
    """Conda packages of the image, and where they come from."""

    channels: Annotated[list[ChannelAddress], Field(min_length=1), AfterValidator(_names_apart)]
    """The first that has a package serves it."""
    packages: list[CondaPackageText] = []
    virtual_packages: dict[VirtualName, VirtualVersion] = {}
    """In the place of what follows from `target`."""
