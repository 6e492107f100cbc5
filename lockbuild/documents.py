"""Text of TOML and JSON documents that people read and version control keeps. Pure."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Mapping

__all__ = ["json_text", "toml_text"]


def json_text(value: Any) -> str:  # noqa: ANN401 - any JSON value
    """Return *value* as indented JSON with a newline at its end; keys keep their order."""
    return json.dumps(value, indent=2, ensure_ascii=False) + "\n"


def toml_text(document: Mapping[str, Any]) -> str:
    """Return *document* as TOML; keys keep their order."""
    import tomli_w  # noqa: PLC0415 - only who writes a lock needs it

    return tomli_w.dumps(document, multiline_strings=False)
