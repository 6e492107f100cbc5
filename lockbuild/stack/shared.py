"""Builds that several stacks share: said once, in a file of their own, and included by name. Pure."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from lockbuild.errors import StackError

if TYPE_CHECKING:
    from collections.abc import Mapping

__all__ = ["INCLUDE", "SHARED", "check_shared", "expand", "included"]

SHARED = "_builds"
"""Folder beside the stacks' that holds a `NAME.toml` for each shared build."""

INCLUDE = "include"
"""Key of a `[[build]]` that names one."""


def included(document: Mapping[str, Any]) -> tuple[str, ...]:
    """Return the names of the shared builds that a stack's *document* includes, sorted."""
    return tuple(sorted({table[INCLUDE] for table in _including(document)}))


def expand(document: Mapping[str, Any], shared: Mapping[str, Mapping[str, Any]]) -> dict[str, Any]:
    """Return *document* with each `[[build]]` that includes a shared one written out.

    Keys beside `include` take the place of the shared build's, but for `env`, of which they do so name by
    name, and `edits`, which come after the shared ones. What has no such shape is left for who checks it.

    Args:
        shared: Name of each shared build that is included -> its table.
    """
    including = _including(document)
    if not including:
        return dict(document)
    builds = [
        _joined(shared[table[INCLUDE]], table) if table in including else table
        for table in document["build"]
    ]
    return {**document, "build": builds}


def _including(document: Mapping[str, Any]) -> list[Mapping[str, Any]]:
    builds = document.get("build", ())
    tables = [table for table in builds if isinstance(table, dict)] if isinstance(builds, list) else []
    return [table for table in tables if isinstance(table.get(INCLUDE), str)]


def _joined(shared: Mapping[str, Any], own: Mapping[str, Any]) -> dict[str, Any]:
    joined = {**shared, **{key: value for key, value in own.items() if key != INCLUDE}}
    if isinstance(own.get("env"), dict) and isinstance(shared.get("env"), dict):
        joined["env"] = {**shared["env"], **own["env"]}
    if isinstance(own.get("edits"), list) and isinstance(shared.get("edits"), list):
        joined["edits"] = [*shared["edits"], *own["edits"]]
    return joined


def check_shared(table: Mapping[str, Any], *, file: str) -> None:
    """Refuse a shared build that needs files which lie beside a stack; what has no such shape is left for who checks it.

    Raises:
        StackError: It names a patch or a folder.
    """
    source, edits = table.get("source"), table.get("edits")
    beside = (
        [f"`source.path` is `{source['path']}`"] if isinstance(source, dict) and "path" in source else []
    )
    beside += [
        f"`edits` has the patch `{edit['patch']}`"
        for edit in (edits if isinstance(edits, list) else ())
        if isinstance(edit, dict) and "patch" in edit
    ]
    if INCLUDE in table:
        beside.append(f"`{INCLUDE}` is `{table[INCLUDE]}`")
    if beside:
        raise StackError(
            f"{file}: a shared build stands alone",
            details=tuple(beside),
            hint="say it in the stack, beside `include`",
        )
