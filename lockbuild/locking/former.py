"""What a resolution starts from: the former lock, and which of the stack's inputs have moved since. Pure."""

from __future__ import annotations

import difflib
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Literal

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from lockbuild.lock import Lock

__all__ = ["Former", "ResolveOptions", "nearest"]


@dataclass(frozen=True, slots=True, kw_only=True)
class ResolveOptions:
    """How a stack is resolved."""

    engine: Literal["uv", "pip-tools"] = "uv"
    cross_check: bool = False
    """Whether the other engine must pin the same versions."""
    upgrade: bool = False
    """Whether everything may move."""
    upgrade_packages: frozenset[str] = frozenset()
    """Normalised names of Python packages that may move though nothing else does."""
    verify_pins: bool = False
    """Whether pinned wheels are compared with what is published of them."""
    repin: frozenset[str] = frozenset()
    """Names of builds and assets whose pinned bytes are forgotten."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Former:
    """The lock as it was, beside the stack as it is."""

    lock: Lock | None
    """None where there is none, or it is damaged."""
    inputs: Mapping[str, str]
    """Key path in the stack -> digest, as they are now; see `lockbuild.stack.inputs_of`."""
    options: ResolveOptions = field(default_factory=ResolveOptions)

    def same(self, *prefixes: str) -> Lock | None:
        """Return the former lock when nothing in the stack under *prefixes* has moved since.

        A prefix that ends in a dot stands for what is below it; any other for one key, and what is below.
        """
        if self.lock is None:
            return None
        before = {key: value for key, value in self.lock.inputs if _is_of(key, prefixes)}
        now = {key: value for key, value in self.inputs.items() if _is_of(key, prefixes)}
        return self.lock if before == now else None

    def kept(self, *prefixes: str) -> Lock | None:
        """Return the former lock as `same` does, unless everything may move."""
        return None if self.options.upgrade else self.same(*prefixes)


def _is_of(key: str, prefixes: tuple[str, ...]) -> bool:
    return any(
        key.startswith(prefix)
        if prefix.endswith((".", " "))
        else key == prefix or key.startswith(f"{prefix}.")
        for prefix in prefixes
    )


def nearest(name: str, known: Iterable[str]) -> str | None:
    """Return a question whether the name most like *name* is meant, if there is one."""
    found = difflib.get_close_matches(name, sorted(known), n=1)
    return f"did you mean `{found[0]}`?" if found else None
