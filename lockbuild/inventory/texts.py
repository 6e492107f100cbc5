"""Which files go along with a part because they hold a licence or a notice. Pure."""

from __future__ import annotations

import re

__all__ = ["MOST_BYTES", "is_licence_file"]

MOST_BYTES = 4 * 1024 * 1024
"""No text of a licence is longer."""
_LICENCE_FILE = re.compile(
    r"(.*[-_.])?((un)?licen[cs]es?|copying|copyrights?|notices?|eula)([-_.].*)?|third.?party.*\.txt",
    re.IGNORECASE,
)
_CODE = re.compile(
    r".*\.(py|pyi|pyc|so|h|hpp|c|cc|cpp|cu|js|json|html|css|png|svg|toml|xml|ya?ml)", re.IGNORECASE
)


def is_licence_file(name: str) -> bool:
    """Tell whether a file of that name, without folders, holds a licence or a notice."""
    return bool(_LICENCE_FILE.fullmatch(name)) and not _CODE.fullmatch(name)
