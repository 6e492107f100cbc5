"""What an audit found, as documents that others show: a page for people, SARIF for code scanning. Pure.

The page is one file that needs no network: style and program are in it, and its own policy forbids all else. It
says everything without its program, which only filters, sorts and folds. The same values give the same bytes.
"""

from __future__ import annotations

import base64
import hashlib
import re
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from lockbuild import __version__
from lockbuild.report.layers import draw
from lockbuild.report.parts import Parts, taken
from lockbuild.report.since import EMBEDDED, Past, audited, changes, parse_earlier
from lockbuild.report.treemap import treemap
from lockbuild.report.verdict import check_states, groups, unchecked, verdict
from lockbuild.report.words import brief, count, plain, short, size_text, visible
from lockbuild.results import json_document

if TYPE_CHECKING:
    from collections.abc import Mapping

    from markupsafe import Markup

    from lockbuild.components import Component
    from lockbuild.findings import Finding
    from lockbuild.report.layers import Drawing
    from lockbuild.report.parts import Brought
    from lockbuild.report.since import Audited
    from lockbuild.results import Result

__all__ = ["TEMPLATES", "html", "parse_earlier"]

_PAGE, _STYLE, _PROGRAM = "report/report.html.j2", "report/report.css", "report/report.js"
TEMPLATES = (_PAGE, _STYLE, _PROGRAM, "report/macros.j2", "report/pictures.j2")
"""Names of the templates that `html` wants."""

_SHAPES = ((328, 760), (640, 620), (1080, 600))
"""Widths and heights of the treemap: one of them is shown, whichever fits the window."""
_LEGIBLE = 40
"""Nodes that a drawing may have; what brings more is listed only."""
_LARGEST = 20
_CODE = re.compile(r"`([^`\n]+)`")


@dataclass(frozen=True, slots=True, kw_only=True)
class _Row:
    """A component with its place in the table and in the graph."""

    component: Component
    id: str
    why: tuple[Component, ...]
    needs: tuple[Component, ...]
    needed_by: tuple[Component, ...]


def html(result: Result, *, templates: Mapping[str, str], earlier: Audited | None = None) -> str:
    """Return the page.

    Args:
        templates: Name -> text of each of `TEMPLATES`.
        earlier: An audit to compare with; none to compare with nothing.
    """
    from jinja2 import DictLoader, Environment, StrictUndefined  # noqa: PLC0415 - who prints no page needs it not
    from markupsafe import Markup  # noqa: PLC0415

    environment = Environment(
        loader=DictLoader(dict(templates)),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        # Texts of strangers do not turn around what stands beside them.
        finalize=lambda value: visible(value) if type(value) is str else value,
    )
    environment.filters |= {
        "bytes": size_text,
        "brief": brief,
        "short": short,
        "px": _px,
        "said": _said,
        "further": _further,
    }
    environment.globals |= {"count": count}
    style, program = templates[_STYLE], templates[_PROGRAM]
    text = environment.get_template(_PAGE).render(
        _values(result, earlier),
        style=Markup(style),  # noqa: S704 - ours
        program=Markup(program),  # noqa: S704
        policy=_policy(style, program),
        embedded=EMBEDDED,
        document=json_document(result),
        version=__version__,
    )
    return plain(text).rstrip("\n") + "\n"


def _values(result: Result, earlier: Audited | None) -> dict[str, Any]:
    parts = Parts(result.components)
    rows = _rows(parts)
    held = [one for one in result.components if one.in_image]
    states = check_states(result)
    return {
        "result": result,
        "verdict": verdict(result),
        "groups": groups(result, waived=False),
        "waived": groups(result, waived=True),
        "states": states,
        "passed": sum(one.state == "passed" for one in states),
        "ran": sum(one.state not in {"skipped", "not asked"} for one in states),
        "unchecked": unchecked(states),
        "looked_into": _looked_into(result),
        "rows": rows,
        "by_ref": parts.by_ref,
        "ids": {row.component.ref: row.id for row in rows},
        "kinds": sorted({one.kind for one in result.components}),
        "held": held,
        "size": sum(map(taken, held)),
        "unsized": sum(one.installed_size is None and one.size is None for one in held),
        "packed": sum(one.installed_size is None and one.size is not None for one in held),
        "treemaps": [treemap(held, width=width, height=height) for width, height in _SHAPES],
        "largest": sorted(held, key=lambda one: (-taken(one), one.ref))[:_LARGEST],
        "taken": taken,
        "brought": [(one, _drawing(one, parts)) for one in parts.brought if one.component.in_image],
        "tools": [
            (one, _drawing(one, parts))
            for one in parts.brought
            if not one.component.in_image and one.number
        ],
        "changes": None if earlier is None else changes(earlier, audited(json_document(result))),
        "is_new": _news(result, earlier),
    }


def _rows(parts: Parts) -> tuple[_Row, ...]:
    def named(refs: tuple[str, ...]) -> tuple[Component, ...]:
        return tuple(parts.by_ref[ref] for ref in refs)

    return tuple(
        _Row(
            component=one,
            id=f"part-{number}",
            why=parts.why(one.ref),
            needs=named(parts.needs[one.ref]),
            needed_by=named(parts.needed_by[one.ref]),
        )
        for number, one in enumerate(sorted(parts.components, key=_by_name), start=1)
    )


def _by_name(component: Component) -> tuple[str, str]:
    return component.name.lower(), component.ref


def _drawing(brought: Brought, parts: Parts) -> Drawing | None:
    if not 0 < brought.number < _LEGIBLE:
        return None
    start = brought.component.ref
    refs = {start, *(one.ref for step in brought.steps for one in step)}
    labels = {ref: visible(parts.by_ref[ref].name) for ref in refs}
    return draw(start, parts.edges(refs), labels)


def _looked_into(result: Result) -> tuple[str, ...]:
    """Return what checks ran on."""
    ran = {*result.report.passed, *(one.check for one in result.report.findings)}
    abouts = {check.about for check in result.checks if check.id in ran}
    names = {
        "lock": "lock and store",
        "wheelhouse": "wheelhouse",
        "venv": "environment",
        "image": "image",
    }
    return tuple(name for about, name in names.items() if about in abouts)


def _news(result: Result, earlier: Audited | None) -> frozenset[tuple[str, str, str]]:
    """Return check, subject and message of what was not found before."""
    if earlier is None:
        return frozenset()
    new = changes(earlier, audited(json_document(result))).came
    return frozenset(map(_key, new))


def _key(one: Past) -> tuple[str, str, str]:
    return one.check, one.subject, one.message


def _policy(style: str, program: str) -> str:
    """Return what the page may do: nothing but its own style and program."""
    return (
        f"default-src 'none'; style-src {_source(style)}; script-src {_source(program)};"
        " img-src data:; base-uri 'none'; form-action 'none'"
    )


def _source(text: str) -> str:
    return f"'sha256-{base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()}'"


def _said(text: str) -> Markup:
    """Return *text* with what stands in backticks as code."""
    from markupsafe import Markup, escape  # noqa: PLC0415 - as in `html`

    return Markup(_CODE.sub(r"<code>\1</code>", str(escape(visible(text)))))  # noqa: S704 - escaped


def _further(finding: Finding) -> list[tuple[str, str]]:
    """Return the facts of a finding that its text does not tell already."""
    told = f" {finding.subject} {finding.message} "
    return [
        (name, value)
        for name, value in finding.facts
        if value and not re.search(rf"(?<!\w){re.escape(value)}(?!\w)", told)
    ]


def _px(value: float) -> str:
    """Return a length as SVG takes it, without digits that nobody sees."""
    return f"{value:.1f}".rstrip("0").rstrip(".")
