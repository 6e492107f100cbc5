"""What is wrong with a stack file, in words: key path, what was found and expected, the nearest name. Pure."""

from __future__ import annotations

import difflib
import json
import re
from datetime import date, time
from typing import TYPE_CHECKING, Any, Literal, get_args, get_origin

from pydantic import BaseModel

from lockbuild.errors import StackError
from lockbuild.stack.words import TABLE, TEXT
from lockbuild.target import MACHINES

if TYPE_CHECKING:
    from collections.abc import Mapping

    from pydantic import ValidationError
    from pydantic_core import ErrorDetails

__all__ = ["refused"]

_Location = tuple[int | str, ...]
"""Keys and positions that lead to a value."""

_USER_INFO = re.compile(r"://[^/?#\s]*@")
_EXPECTED = {
    "string_type": "a string",
    "bool_type": "`true` or `false`",
    "list_type": "a list",
    "dict_type": "a table",
    "int_type": "a whole number",
    "date_type": "a date such as `2027-06-30`, without quotes or time",
    "greater_than": "a number above 0",
    "greater_than_equal": "0 or more",
    "too_short": "at least one entry",
}


def refused(
    error: ValidationError, document: Mapping[str, Any], model: type[BaseModel], *, file: str
) -> StackError:
    """Return the error with a line for each fault that *model* found in *document*, sorted.

    Args:
        file: How the stack file is called in messages.
    """
    faults = sorted({_describe(fault, document, model) for fault in error.errors(include_url=False)})
    count = "1 fault" if len(faults) == 1 else f"{len(faults)} faults"
    return StackError(
        f"{file}: {count}",
        details=tuple(faults),
        hint="`lockbuild schema` prints every key that a stack may have",
    )


def _describe(fault: ErrorDetails, document: Mapping[str, Any], model: type[BaseModel]) -> str:
    # The last part of a dictionary key's fault is the marker "[key]".
    of_key = fault["loc"][-1:] == ("[key]",)
    location = tuple(part for part in fault["loc"] if part not in {TEXT, TABLE})
    location = location[:-1] if of_key else location
    # What is wrong with tables together has no place of its own.
    path = _key_path(location, document) or "stack"
    kind = fault["type"]
    if kind == "missing":
        return f"`{path}`: missing, expected {_wanted(location, model)}"
    if kind == "extra_forbidden":
        known = _keys_of(_model_at(location[:-1], model))
        nearest = difflib.get_close_matches(str(location[-1]), known, n=1, cutoff=0.5)
        suggestion = (
            f"; did you mean `{nearest[0]}`?" if nearest else f"; known keys: {', '.join(known)}"
        )
        return f"`{path}`: unknown key{suggestion}"
    found = _shown(location[-1] if of_key else fault["input"])
    if kind == "literal_error":
        return f"`{path}`: found {found}, expected {_choices(location, fault, model)}"
    expected = _wanted(location, model) if kind == "model_type" else _EXPECTED.get(kind, fault["msg"])
    return f"`{path}`: found {found}, expected {expected}{_as_toml(kind, fault['input'], location)}"


def _as_toml(kind: str, value: Any, location: _Location) -> str:  # noqa: ANN401 - whatever the file holds
    """Return how TOML writes what was expected, where a slip of the pen is likely."""
    if kind == "string_type" and isinstance(value, int | float | date | time):
        return ", in quotes"
    if kind == "list_type" and isinstance(value, dict) and len(location) == 1:
        return f" of tables: `[[{location[0]}]]`"
    return ""


def _choices(location: _Location, fault: ErrorDetails, model: type[BaseModel]) -> str:
    choices = [str(choice) for choice in _literals(_field_at(location, model))] or [
        fault["ctx"]["expected"]
    ]
    if location[-1] == "platform":
        choices = sorted(MACHINES)
    nearest = difflib.get_close_matches(str(fault["input"]), choices, n=1, cutoff=0.5)
    listed = (
        "one of " + ", ".join(f"`{choice}`" for choice in choices)
        if len(choices) > 1
        else f"`{choices[0]}`"
    )
    return listed + (f"; did you mean `{nearest[0]}`?" if nearest and len(choices) > 1 else "")


def _literals(annotation: Any) -> list[Any]:  # noqa: ANN401 - a typing form
    if getattr(annotation, "__origin__", None) is Literal:
        return list(get_args(annotation))
    return [found for argument in get_args(annotation) for found in _literals(argument)]


def _shown(value: Any) -> str:  # noqa: ANN401 - whatever the file holds
    if isinstance(value, dict):
        return "a table" if value else "an empty table"
    if isinstance(value, list) and any(isinstance(entry, dict) for entry in value):
        return "a list of tables"
    # JSON writes strings, numbers, booleans and lists as TOML does; times are not quoted in TOML.
    moment = isinstance(value, date | time)
    text = str(value) if moment else json.dumps(value, ensure_ascii=False, default=str)
    text = _USER_INFO.sub("://***@", text)
    return text if len(text) <= 80 else text[:77] + "…"  # noqa: PLR2004 - what fits on a line


def _key_path(location: _Location, document: Mapping[str, Any]) -> str:
    """Return `build[pycocotools].env.FOO` for a location, naming tables by their `name` where they have one."""
    path = ""
    here: Any = document
    for part in location:
        here = _step(here, part)
        if isinstance(part, int):
            label = (
                here.get("name")
                if isinstance(here, dict) and isinstance(here.get("name"), str)
                else part
            )
            path += f"[{label}]"
        else:
            path += f".{part}" if path else str(part)
    return path


def _step(value: Any, part: int | str) -> Any:  # noqa: ANN401 - whatever the file holds
    try:
        return value[part]
    except (KeyError, IndexError, TypeError):
        return None


def _model_at(location: _Location, model: type[BaseModel]) -> type[BaseModel] | None:
    """Return the model of the table at *location*, below *model*."""
    return _model_in(_field_at(location, model))


def _model_in(annotation: Any) -> type[BaseModel] | None:  # noqa: ANN401 - a typing form
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        return annotation
    return next((found for argument in get_args(annotation) if (found := _model_in(argument))), None)


def _keys_of(model: type[BaseModel] | None) -> list[str]:
    return sorted(field.alias or name for name, field in model.model_fields.items()) if model else []


def _field_at(location: _Location, model: type[BaseModel]) -> Any:  # noqa: ANN401 - a typing form
    """Return the type of the value at *location*, or of the entries of the list there."""
    found: Any = model
    for part in location:
        if isinstance(part, int):
            continue
        table, entries = _model_in(found), _entries_of(found)
        if entries is not None:
            found = entries
        else:
            fields = table.model_fields.values() if table else ()
            found = next((field.annotation for field in fields if field.alias == part), None)
    return found


def _entries_of(annotation: Any) -> Any:  # noqa: ANN401 - typing forms
    """Return the type of the values of a table whose keys are free; none for other types."""
    arguments = get_args(annotation)
    if get_origin(annotation) is dict:
        return arguments[1]
    return next((found for one in arguments if (found := _entries_of(one)) is not None), None)


def _wanted(location: _Location, model: type[BaseModel]) -> str:
    annotation = _field_at(location, model)
    table = _model_in(annotation)
    if table is not None:
        return f"a table with {', '.join(f'`{key}`' for key in _keys_of(table))}"
    choices = _literals(annotation)
    if choices:
        return f"`{choices[0]}`"
    if annotation is date:
        return _EXPECTED["date_type"]
    return "a list" if get_origin(annotation) is list else "a string"
