"""Checking what a stack file says that its lock does not vouch for. Pure.

All else was checked when the lock was made, and is not again: what one lockbuild has locked, a later one builds.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from lockbuild.stack import followed, input_values

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

__all__ = ["check_unlocked", "is_vouched_for"]


def check_unlocked(document: Mapping[str, Any], *, file: str) -> None:
    """Check `[audit]` of a stack's *document*, whose inputs are those of its lock, and all of it where those do not tell all.

    Args:
        file: How the stack file is called in messages.

    Raises:
        StackError: With one line per fault, as those of `lockbuild.stack.schema.check_document`.
    """
    if not is_vouched_for(document):
        from lockbuild.stack.schema import check_document  # noqa: PLC0415 - slow, and hardly ever needed

        check_document(document, file=file)
    elif "audit" in document:
        from lockbuild.stack.audit_tables import check_audit  # noqa: PLC0415 - slow

        check_audit(document, file=file)


def is_vouched_for(document: Mapping[str, Any]) -> bool:
    """Tell whether the inputs of *document* tell all that it says beside `audit`.

    An empty table has no input, and of two values with one key path only one has. Nor does a path tell whether
    a dot belongs to a key, and whether a number or a name is a key or leads to a table of a list.
    """
    rest = followed(document)
    paths = [path for path, _ in input_values(rest)]
    return len(paths) == len(set(paths)) and all(
        _is_plain(key, table) for key, table in _tables("stack", rest)
    )


def _tables(key: str, value: Any) -> Iterator[tuple[str, Mapping[str, Any]]]:  # noqa: ANN401 - any TOML value
    """Yield every table in *value*, with the key that it stands under."""
    if isinstance(value, dict):
        yield key, value
        for name, entry in value.items():
            yield from _tables(name, entry)
    elif isinstance(value, list):
        for entry in value:
            yield from _tables(key, entry)


def _is_plain(key: str, table: Mapping[str, Any]) -> bool:
    """Tell whether the paths of the values in *table* can be read in one way only."""
    tables = {name: entry for name, entry in table.items() if isinstance(entry, dict)}
    if key == "members":
        # Its keys are names of files, and its values texts.
        return bool(table) and not tables
    return (
        bool(table)
        and not any("." in name for name in table)
        and not any(
            name.isdigit() or name in (entry.get("name"), entry.get("path"))
            for name, entry in tables.items()
        )
    )
