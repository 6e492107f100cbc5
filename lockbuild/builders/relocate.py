"""What installing a conda package changes in it: where its files go, and the prefix written into them."""

from __future__ import annotations

import re

__all__ = ["entry_point", "in_prefix", "noarch_place"]

_ENTRY_POINT = re.compile(r"\s*([A-Za-z0-9._-]+)\s*=\s*([\w.]+)\s*:\s*([\w.]+)\s*")

# To the byte what rattler writes, tabs and all; conda indents it otherwise.
_SCRIPT = """#!{python}
# -*- coding: utf-8 -*-
import re
import sys

from {module} import {name}

if __name__ == '__main__':
\tsys.argv[0] = re.sub(r'(-script\\.pyw?|\\.exe)?$', '', sys.argv[0])
\tsys.exit({function}())
"""


def noarch_place(path: str, site_packages: str) -> str:
    """Return where *path* of a package for any Python goes, in a prefix with this *site_packages*."""
    for old, new in (("site-packages/", f"{site_packages}/"), ("python-scripts/", "bin/")):
        if path.startswith(old):
            return new + path.removeprefix(old)
    return path


def entry_point(text: str, python: str) -> tuple[str, str]:
    """Return name and text of the script that an entry point, `NAME = MODULE:FUNCTION`, asks for.

    Raises:
        ValueError: It says something else.
    """
    found = _ENTRY_POINT.fullmatch(text)
    if found is None:
        msg = f"not an entry point: `{text}`"
        raise ValueError(msg)
    name, module, function = found.groups()
    imported = function.split(".", 1)[0]
    return name, _SCRIPT.format(python=python, module=module, name=imported, function=function)


def in_prefix(data: bytes, placeholder: str, prefix: str, *, mode: str) -> bytes:
    """Return *data* with *prefix* in the place of *placeholder*.

    In a binary every text keeps its room, which is filled up with NULs at its end.

    Raises:
        ValueError: There is no such mode, or a binary has no room.
    """
    old, new = placeholder.encode(), prefix.encode()
    if mode == "text":
        return data.replace(old, new)
    if mode != "binary":
        msg = f"not a way to write the prefix: `{mode}`"
        raise ValueError(msg)
    if len(new) > len(old):
        msg = f"no room for the prefix `{prefix}`"
        raise ValueError(msg)

    def settle(found: re.Match[bytes]) -> bytes:
        return found[0].replace(old, new).ljust(len(found[0]), b"\0")

    # Up to and with the NUL that ends the text, as other parts of it may follow the prefix.
    return re.sub(re.escape(old) + b"[^\0]*\0", settle, data)
