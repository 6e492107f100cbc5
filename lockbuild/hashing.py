"""Hashing files: one, or many side by side."""

from __future__ import annotations

import hashlib
import os
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING, TypeVar

from lockbuild.digest import Sha256

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator
    from pathlib import Path

__all__ = ["sha256_of_file", "side_by_side"]

_MOST_THREADS = 8
_One = TypeVar("_One")
_Other = TypeVar("_Other")


def sha256_of_file(path: Path) -> Sha256:
    """Return the sha256 of a file; a symlink is followed."""
    with path.open("rb") as stream:
        return Sha256(hashlib.file_digest(stream, "sha256").hexdigest())


def side_by_side(work: Callable[[_One], _Other], items: Iterable[_One]) -> Iterator[_Other]:
    """Yield what *work* gives for each of *items*, in their order, with a thread for each processor.

    For work that hashes or inflates: both let go of the interpreter's lock as soon as there are bytes to do.
    """
    with ThreadPoolExecutor(min(_MOST_THREADS, os.cpu_count() or 1)) as pool:
        yield from pool.map(work, items)
