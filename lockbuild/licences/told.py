"""A licence, and what tells it. Pure."""

from __future__ import annotations

from dataclasses import dataclass

__all__ = ["UNSTATED", "Told"]

UNSTATED = frozenset({"NONE", "NOASSERTION"})
"""SPDX's words for "upstream grants nothing" and "not known"."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Told:
    """What a part of a stack tells of its licence; see the fields of the same names of a `Component`."""

    licence: str = ""
    declared: str = ""
    told_by: str = ""
    doubt: str = ""
