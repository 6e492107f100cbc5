"""The page of an audit: what it says, that its own policy holds it, and that no stranger's text breaks out."""

from __future__ import annotations

import base64
import hashlib
import json
import re
from dataclasses import replace
from html.parser import HTMLParser
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from lockbuild.cli.reporting import report_text
from lockbuild.components import LicenceFile
from lockbuild.report import TEMPLATES, html
from lockbuild.report.since import audited
from lockbuild.report.words import brief, count, plain, short, size_text, visible
from lockbuild.results import json_document
from tests.reports import component, finding, large_result, small_result
from tests.values import small_lock, small_stack

if TYPE_CHECKING:
    from lockbuild.report.since import Audited
    from lockbuild.results import Result

FOLDER = Path(__file__).parents[1] / "templates"
TEXTS = {name: (FOLDER / name).read_text(encoding="utf-8") for name in TEMPLATES}
HOSTILE = "</script></style><img src=x onerror=alert(1)>\"'&{{ 7 * 7 }}\u202egpj.exe\u2028\udcff`<b>`"


def page(result: Result, earlier: Audited | None = None) -> str:
    return html(result, templates=TEXTS, earlier=earlier)


class Elements(HTMLParser):
    """The elements of a page with their attributes, the texts of those that hold raw text, and all other text."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.found: list[tuple[str, dict[str, str | None]]] = []
        self.raw: dict[str, list[str]] = {"script": [], "style": []}
        self.text = ""
        self._within = ""
        self.feed(text)
        self.close()

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.found.append((tag, dict(attrs)))
        self._within = tag
        self.text += " "

    def handle_endtag(self, tag: str) -> None:  # noqa: ARG002
        self._within = ""
        self.text += " "

    def handle_data(self, data: str) -> None:
        if self._within in self.raw:
            self.raw[self._within].append(data)
        else:
            self.text += data

    def all(self, tag: str) -> list[dict[str, str | None]]:
        return [attributes for name, attributes in self.found if name == tag]


def words(text: str) -> str:
    return " ".join(Elements(text).text.split())


def test_the_same_audit_gives_the_same_bytes() -> None:
    assert page(large_result()) == page(large_result())


def test_a_page_allows_its_own_style_and_program_and_nothing_else() -> None:
    found = Elements(page(large_result()))
    (policy,) = [
        meta["content"]
        for meta in found.all("meta")
        if meta.get("http-equiv") == "Content-Security-Policy"
    ]
    (style,), (_, program) = found.raw["style"], found.raw["script"]
    assert policy == (
        f"default-src 'none'; style-src '{hashed(style)}'; script-src '{hashed(program)}';"
        " img-src data:; base-uri 'none'; form-action 'none'"
    )


def hashed(text: str) -> str:
    return f"sha256-{base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()}"


def test_a_page_names_nothing_to_be_loaded() -> None:
    loading = {"src", "srcset", "action", "data", "poster", "background", "style", "ping"}
    for tag, attributes in Elements(page(large_result())).found:
        assert not loading & attributes.keys(), (tag, attributes)
        assert not any(name.startswith("on") for name in attributes), (tag, attributes)
        assert (attributes.get("href") or "#").startswith(("#", "data:image/svg+xml,")), attributes


def test_every_link_leads_somewhere_and_every_id_is_there_once() -> None:
    found = Elements(page(large_result())).found
    ids = [attributes["id"] for _, attributes in found if "id" in attributes]
    assert len(ids) == len(set(ids))
    links = {(attributes["href"] or "")[1:] for tag, attributes in found if tag == "a"}
    named = {
        name
        for _, attributes in found
        for key in ("aria-labelledby", "aria-describedby")
        for name in (attributes.get(key) or "").split()
    }
    assert links | named <= set(ids)


@pytest.mark.parametrize(
    ("findings", "title", "said"),
    [
        ((), "Passes", "8 checks ran, none of which found anything that counts."),
        (
            (finding("moving-ref", "a", "b"),),
            "Passes, with warnings",
            "1 warning in 8 checks.",
        ),
        (
            (finding("moving-ref", "a", "b", waived="until 2030-01-01: x"),),
            "Passes",
            "8 checks ran, none of which found anything that counts; 1 finding is waived.",
        ),
        (
            (
                finding("secrets", "a", "b"),
                finding("secrets", "c", "b"),
                finding("moving-ref", "a", "b"),
            ),
            "Fails",
            "2 errors and 1 warning in 8 checks.",
        ),
    ],
)
def test_the_verdict_is_said_first(findings: tuple[object, ...], title: str, said: str) -> None:
    text = page(small_result(*findings))  # type: ignore[arg-type]
    assert f"{title} {said}" in words(text)
    assert f"<title>small: {title.lower()} " in text


def test_what_was_not_checked_is_said_with_its_reason() -> None:
    result = small_result()
    report = replace(
        result.report, passed=("moving-ref",), skipped=(("secrets", "there is no `image`"),)
    )
    said = words(page(replace(result, report=report)))
    assert "1 check could not run" in said
    assert "there is no image \u2013 secrets" in said
    assert "no wheelhouse was looked into \u2013 wheel-bytes" in said
    assert "no environment was looked into \u2013 venv-packages" in said
    assert "Looked into lock and store Lock" in said


def test_the_age_of_the_vulnerability_database_is_said() -> None:
    assert "Vulnerability database osv.zip: 12 days old" in words(
        page(replace(small_result(), osv="osv.zip: 12 days old"))
    )
    assert "Vulnerability database none was asked" in words(page(small_result()))


def test_findings_are_grouped_by_check_errors_first() -> None:
    text = page(
        small_result(
            finding("moving-ref", "one", "b"),
            finding("secrets", "two", "b", layer="3 COPY x"),
            finding("moving-ref", "three", "b", facts=(("fixed", "2.0"),)),
        )
    )
    order = [text.index(f"<bdi>{subject}</bdi>") for subject in ("two", "one", "three")]
    assert order == sorted(order)
    said = words(text)
    assert "layer 3 COPY x" in said
    assert "fixed 2.0" in said
    assert "Mend: say the commit" in said


def test_waived_findings_stand_apart_with_their_reason() -> None:
    said = words(
        page(
            small_result(
                finding("moving-ref", "kept", "b", waived="until 2030-01-01: ours"),
                finding("moving-ref", "told", "b"),
            )
        )
    )
    assert said.index("told") < said.index("kept")
    assert "Waived until 2030-01-01: ours" in said


def test_a_component_says_why_it_is_there() -> None:
    parts = (
        component("wheel", "asked", requested=True, needs=("wheel:middle@1.0",)),
        component("wheel", "last"),
        component("wheel", "middle", needs=("wheel:last@1.0",), licence="MIT", told_by="stack"),
        component("deb", "lone"),
        component("deb", "tool", in_image=False),
    )
    said = words(page(small_result(parts=parts)))
    assert (
        "last wheel 1.0 unknown licence 1.0 kB asked \u203a middle \u203a last needed by middle" in said
    )
    assert (
        "middle wheel 1.0 MIT 1.0 kB asked \u203a middle needs last needed by asked licence as the stack says"
        in said
    )
    assert "lone deb 1.0 unknown licence 1.0 kB part of the base" in said
    assert "tool deb 1.0 unknown licence 1.0 kB not in the image: to build with" in said
    assert "asked 1.0 wheel brings 2 others 3.0 kB in all 3.0 kB only for it" in said


def test_facts_that_the_message_tells_are_not_told_twice() -> None:
    facts = (("fixed", "2.0"), ("id", "CVE-1"), ("reachable", "no"), ("score", ""))
    said = words(
        page(small_result(finding("vulnerability", "a", "1.0 has CVE-1; nothing known", facts=facts)))
    )
    assert "nothing known fixed 2.0 reachable no" in said
    assert "id CVE-1" not in said
    assert "score" not in said


def test_a_page_holds_the_json_of_its_audit() -> None:
    result = large_result()
    (text, _) = Elements(page(result)).raw["script"]
    assert json.loads(text) == json.loads(json.dumps(json_document(result)))


def test_a_page_without_components_or_findings_is_whole() -> None:
    found = Elements(page(small_result()))
    assert "Nothing was found that counts." in found.text
    assert not [
        one for one in found.all("section") if one["id"] in {"sizes", "dependencies", "components"}
    ]


def test_no_text_of_strangers_breaks_out() -> None:
    hostile = replace(
        component("wheel", "x"),
        name=HOSTILE,
        version=HOSTILE,
        requested=True,
        licence=HOSTILE,
        declared=HOSTILE + "!",
        told_by=HOSTILE,
        origin=HOSTILE,
        purl=HOSTILE,
        source_name=HOSTILE + "?",
        source_version=HOSTILE,
        licence_files=(
            LicenceFile(name=HOSTILE, sha256=component("wheel", "x").sha256 or large_result().lock),
        ),
    )
    needs = replace(component("deb", "x"), name=f"{HOSTILE}2", ref="deb:2")
    hostile = replace(hostile, ref="wheel:1", needs=("deb:2",))
    result = small_result(
        finding("secrets", HOSTILE, HOSTILE, layer=HOSTILE, facts=((HOSTILE, HOSTILE),), mend=HOSTILE),
        finding("moving-ref", HOSTILE, HOSTILE, waived=HOSTILE),
        parts=(needs, hostile),
    )
    result = replace(result, stack=HOSTILE, summary=HOSTILE, image=HOSTILE, osv=HOSTILE)
    result = replace(result, report=replace(result.report, skipped=((HOSTILE, HOSTILE),)))
    before = audited(json_document(replace(result, components=(replace(hostile, version="\u202e<b>"),))))
    text = page(result, before)
    found, plain_page = Elements(text), Elements(page(large_result(), before))
    assert "\u202e" not in text
    assert "\u2028" not in text
    assert "\\u202egpj.exe" in text
    assert "49" not in found.text
    allowed = {tag for tag, _ in plain_page.found}
    assert {tag for tag, _ in found.found} <= allowed
    assert len(found.all("script")) == 2
    names = {name for _, attributes in plain_page.found for name in attributes}
    assert {name for _, attributes in found.found for name in attributes} <= names
    text.encode()


def test_backticks_become_code() -> None:
    text = page(small_result(finding("secrets", "a", "`x < 1` and `y`, not ` alone")))
    assert "<code>x &lt; 1</code> and <code>y</code>, not ` alone" in text


def test_what_is_new_is_marked() -> None:
    old, new = finding("secrets", "old", "b"), finding("secrets", "new", "b")
    before = audited(json_document(small_result(old)))
    text = page(small_result(old, new), before)
    rows = re.findall(r'<tr role="row" data-level.*?</tr>', text, flags=re.DOTALL)
    assert ["new</span>" in row for row in rows] == [False, True]
    assert "Changes since 2026-01-02" in words(text)
    assert "Findings: 1 new, 0 gone, 0 told otherwise" in words(text)


def test_sizes_say_what_is_not_known() -> None:
    parts = (
        component("wheel", "a", installed_size=3000),
        component("wheel", "b", size=2000),
        component("wheel", "c", size=None),
        component("wheel", "d", size=5000, in_image=False),
    )
    said = words(page(small_result(parts=parts)))
    assert "3 parts of the image take 5.0 kB" in said
    assert "Of 1 only the size of the file is known" in said
    assert "1 of unknown size is left out" in said


@pytest.mark.parametrize(
    ("size", "said"),
    [
        (None, "-"),
        (0, "0 B"),
        (999, "999 B"),
        (1000, "1.0 kB"),
        (1_250_000, "1.2 MB"),
        (5 * 10**15, "5000.0 TB"),
    ],
)
def test_sizes_in_words(size: int | None, said: str) -> None:
    assert size_text(size) == said


def test_counts_in_words() -> None:
    assert count(1, "check") == "1 check"
    assert count(1234, "check") == "1,234 checks"
    assert count(2, "entry", "entries") == "2 entries"


@pytest.mark.parametrize(
    ("expression", "said"),
    [
        ("", ""),
        ("MIT", "MIT"),
        (
            "(GPL-1.0-or-later OR Artistic-1.0-Perl) AND MIT AND MIT AND Zlib",
            "GPL-1.0-or-later and 3 others",
        ),
        (
            "GPL-3.0-or-later WITH Bison-exception-2.2 AND ISC",
            "GPL-3.0-or-later WITH Bison-exception-2.2 and 1 other",
        ),
        ("LicenseRef-" + "x" * 60, "LicenseRef-" + "x" * 32 + "\u2026"),
    ],
)
def test_a_long_licence_is_told_in_brief(expression: str, said: str) -> None:
    assert brief(expression) == said


def test_a_licence_in_brief_is_told_whole_below() -> None:
    licence = " AND ".join(f"LicenseRef-{letter}" for letter in "abcdef")
    part = component("wheel", "a", licence=licence, told_by="copyright")
    text = page(small_result(parts=(part,)))
    assert "LicenseRef-a and 5 others" in words(text)
    assert f"{licence} , as its copyright file says" in words(text)
    assert f'data-all="{licence}"' in text


def test_a_commit_is_shortened_and_told_whole_below() -> None:
    commit = "0123456789abcdef0123456789abcdef01234567"
    text = page(small_result(parts=(component("source", "a", commit),)))
    assert "a source 0123456789ab unknown" in words(text)
    assert f"commit {commit}" in words(text)
    assert short("20230101") == "20230101"


def test_a_finding_about_a_component_leads_to_it() -> None:
    part = component("wheel", "a")
    found = Elements(page(small_result(finding("licence-unknown", part.ref, "x"), parts=(part,))))
    assert [one["href"] for one in found.all("a")].count("#part-1") == 2


def test_what_is_not_seen_is_written_out() -> None:
    assert visible("a\u202eb\u200bc\x00\n\t") == "a\\u202eb\\u200bc\\x00\n\t"
    assert plain("a\udcffb") == "a\\udcffb"


@pytest.mark.parametrize("terminal", [False, True])
def test_a_table_has_each_finding_on_one_line_and_nothing_that_a_terminal_obeys(
    *, terminal: bool
) -> None:
    hostile = finding("image-debs", "/srv/a\nok           open\x1b[2J\u202e\udcff", "is there")
    text = report_text(
        small_result(hostile),
        "table",
        lock=Path("lockbuild.lock"),
        stack=small_stack(),
        locked=small_lock(),
        terminal=terminal,
    )
    assert not any(line.startswith("ok           open") for line in text.splitlines())
    assert "\x1b[2J" not in text
    assert r"/srv/a\nok           open\x1b[2J\u202e\udcff: is there" in text
