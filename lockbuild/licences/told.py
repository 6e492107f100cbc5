"""A licence, and what tells it. Pure."""

from __future__ import annotations

from dataclasses import dataclass

__all__ = ["Told"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Told:
    """What a part of a stack tells of its licence; see the fields of the same names of a `Component`."""

    licence: str = ""
    declared: str = ""
    told_by: str = ""
    doubt: str = ""
