"""The documentation says what the code does: keys of the stack file, commands, and links that lead somewhere."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import click
import pytest

from lockbuild import settings
from lockbuild.audit import ALL_CHECKS
from lockbuild.cli import group
from lockbuild.stack.schema import json_schema

PROJECT = Path(__file__).parent.parent
CHECKS_BEGIN, CHECKS_END = "<!-- checks: begin -->", "<!-- checks: end -->"
PAGES = sorted([*PROJECT.glob("*.md"), *(PROJECT / "docs").rglob("*.md")])


def test_stack_file_page_has_every_key_with_type_and_default() -> None:
    page = (PROJECT / "docs" / "stack-file.md").read_text(encoding="utf-8")
    assert _rows_of_page(page) == _rows_of_schema()


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.relative_to(PROJECT).as_posix())
def test_links_lead_somewhere(page: Path) -> None:
    text = page.read_text(encoding="utf-8")
    for target in re.findall(r"\]\(([^)\s]+)\)", text):
        path, _, anchor = target.partition("#")
        if target.startswith(("https://", "http://")):
            continue
        found = (page.parent / path).resolve() if path else page
        assert found.exists(), target
        assert not anchor or anchor in _anchors(found), target


def test_audit_page_has_every_check(*, accept: bool) -> None:
    page = PROJECT / "docs" / "audit.md"
    text = page.read_text(encoding="utf-8")
    before, _, rest = text.partition(f"{CHECKS_BEGIN}\n")
    after = rest.partition(f"{CHECKS_END}\n")[2]
    whole = f"{before}{CHECKS_BEGIN}\n{_table_of_checks()}{CHECKS_END}\n{after}"
    if accept:
        page.write_text(whole, encoding="utf-8")
        text = whole
    assert text == whole, "`pytest tests/test_docs.py --accept` writes the table"


def test_readme_names_every_command() -> None:
    readme = (PROJECT / "README.md").read_text(encoding="utf-8")
    assert [name for name in _commands() if f"`lockbuild {name}" not in readme] == []


def test_readme_names_every_variable_of_the_settings() -> None:
    readme = (PROJECT / "README.md").read_text(encoding="utf-8")
    variables = re.findall(
        r'"(LOCKBUILD_[A-Z_]+[A-Z])"', Path(settings.__file__).read_text(encoding="utf-8")
    )
    assert "LOCKBUILD_STORE" in variables
    assert [name for name in variables if f"`{name}`" not in readme] == []


def test_architecture_stays_on_one_page() -> None:
    lines = (PROJECT / "docs" / "architecture.md").read_text(encoding="utf-8").splitlines()
    assert len(lines) <= 150


def _table_of_checks() -> str:
    rows = (
        f"| `{check.id}` | {check.level} | {check.about} | {check.what} | {check.why} | {check.mend} |\n"
        for check in ALL_CHECKS
    )
    return "".join(
        (
            "| check | level | about | what holds | why it matters | mend |\n",
            "|---|---|---|---|---|---|\n",
            *rows,
        )
    )


def _commands() -> list[str]:
    with click.Context(group) as context:
        return group.list_commands(context)


def _anchors(page: Path) -> set[str]:
    """Return the anchors of the page's headings, as the usual renderers make them."""
    headings = re.findall(r"^#+ (.+)$", page.read_text(encoding="utf-8"), re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings}


def _rows_of_page(page: str) -> dict[str, tuple[str, str]]:
    rows: dict[str, tuple[str, str]] = {}
    table = ""
    for line in page.splitlines():
        if line.startswith("## "):
            table = "" if line == "## Top level" else f"{line.removeprefix('## ')}."
        elif line.startswith("| `"):
            key, value, default = (cell.strip() for cell in line.split("|")[1:4])
            rows[table + key.strip("`")] = (value, default)
    return rows


def _rows_of_schema() -> dict[str, tuple[str, str]]:
    schema = json_schema()
    rows: dict[str, tuple[str, str]] = {}

    def visit(table: dict[str, Any], prefix: str) -> None:
        required = table.get("required", ())
        for key, value in table["properties"].items():
            inner = _table_in(value)
            rows[prefix + key] = (_kind(value), "required" if key in required else _default(value))
            if inner:
                visit(schema["$defs"][inner], f"{prefix}{key}.")

    visit(schema, "")
    return rows


def _table_in(value: dict[str, Any]) -> str | None:
    items = value.get("items", {})
    several = (*value.get("anyOf", ()), *items.get("oneOf", ()), *items.get("anyOf", ()))
    parts = (value, items, *several)
    reference = next((part["$ref"] for part in parts if "$ref" in part), None)
    return reference.rpartition("/")[2] if reference else None


def _kind(value: dict[str, Any]) -> str:
    if "$ref" in value:
        return "table"
    parts = value.get("anyOf") or value.get("oneOf")
    if parts:
        kinds = (_kind(part) for part in parts if part != {"type": "null"})
        return " or ".join(dict.fromkeys(kinds))
    if "const" in value:
        return f"`{value['const']}`"
    if "enum" in value:
        words = [f"`{word}`" for word in value["enum"]]
        return f"{', '.join(words[:-1])} or {words[-1]}"
    return _listed(value) if value["type"] == "array" else _plain(value)


def _listed(value: dict[str, Any]) -> str:
    inner = _kind(value["items"])
    if inner == "table":
        return "array of tables"
    return f"list of {'strings' if inner == 'string' else inner}"


def _plain(value: dict[str, Any]) -> str:
    if value["type"] == "object":
        return f"table of {_kind(value['additionalProperties'])}s"
    return "date" if value.get("format") == "date" else str(value["type"])


def _default(value: dict[str, Any]) -> str:
    default = value.get("default")
    return "" if default is None or "$ref" in value else f"`{json.dumps(default)}`"
