"""The lock of a stack: frozen values, and the text of the files that hold them. Pure.

Five kinds of file make one lock: `pylock.toml` and `pylock.build[-NAME].toml` (PEP 751),
`requirements.txt` (pip's hash-checking mode), `conda-lock.yml` where there are conda packages, and
`lockbuild.lock` for all that those cannot say, or say slowly. The last one holds the sha256 of the others and a digest of its own content, so that an edited or damaged
file is named before anything follows from it.
"""

from __future__ import annotations

from lockbuild.lock.reading import parse_lock
from lockbuild.lock.values import (
    LOCK_FILE,
    REQUIREMENTS,
    RUNTIME_LOCK,
    BuiltPin,
    Lock,
    LockedDeb,
    LockedFile,
    LockedInterpreter,
    LockedPackage,
    LockedSource,
    OpenPart,
    build_lock_name,
    closure,
)
from lockbuild.lock.writing import lock_texts

__all__ = [
    "LOCK_FILE",
    "REQUIREMENTS",
    "RUNTIME_LOCK",
    "BuiltPin",
    "Lock",
    "LockedDeb",
    "LockedFile",
    "LockedInterpreter",
    "LockedPackage",
    "LockedSource",
    "OpenPart",
    "build_lock_name",
    "closure",
    "lock_texts",
    "parse_lock",
]
