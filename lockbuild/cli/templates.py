"""The templates: those of an installed package, or of the source tree."""

from __future__ import annotations

from importlib.resources import files
from pathlib import Path

__all__ = ["template_text"]


def template_text(name: str) -> str:
    """Return the text of the template called *name*."""
    inside = files("lockbuild") / "templates"
    folder = inside if inside.is_dir() else Path(__file__).parents[2] / "templates"
    return (folder / name).read_text(encoding="utf-8")
