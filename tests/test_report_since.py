"""What has changed since an earlier report."""

from __future__ import annotations

import json
import math
from dataclasses import replace
from typing import TYPE_CHECKING

import pytest

from lockbuild.errors import UsageError
from lockbuild.report import html, parse_earlier
from lockbuild.report.since import audited, changes
from lockbuild.results import json_document
from tests.reports import component, finding, large_result, small_result
from tests.test_report import TEXTS
from tests.values import sha

if TYPE_CHECKING:
    from lockbuild.components import Component
    from lockbuild.findings import Finding
    from lockbuild.report.since import Changes


def between(before: tuple[Finding, ...], after: tuple[Finding, ...]) -> Changes:
    return changes(
        audited(json_document(small_result(*before))), audited(json_document(small_result(*after)))
    )


def parts(before: tuple[Component, ...], after: tuple[Component, ...]) -> Changes:
    return changes(
        audited(json_document(small_result(parts=before))),
        audited(json_document(small_result(parts=after))),
    )


def test_a_page_and_its_json_say_the_same() -> None:
    result = large_result()
    from_page = parse_earlier(html(result, templates=TEXTS), label="x")
    from_json = parse_earlier(json.dumps(json_document(result)), label="x")
    assert from_page == from_json == audited(json_document(result))


def test_nothing_changes_since_the_same() -> None:
    now = audited(json_document(large_result()))
    found = changes(now, now)
    assert not any((found.came, found.went, found.altered, found.added, found.removed, found.changed))


@pytest.mark.parametrize("text", ["", "<html></html>", "[]", "{}", '{"stack": 1}', '{"findings": 7}'])
def test_what_is_no_report_is_refused(text: str) -> None:
    with pytest.raises(UsageError, match="old.html is not a report"):
        parse_earlier(text, label="old.html")


def test_a_report_of_endless_depth_or_size_is_refused() -> None:
    document = json_document(small_result(parts=(component("wheel", "a"),)))
    document["components"][0]["size"] = math.inf
    document["components"][0]["installed-size"] = None
    for text in ("[" * 100_000, json.dumps(document)):
        with pytest.raises(UsageError, match="is not a report"):
            parse_earlier(text, label="x")


def test_a_report_with_parts_that_are_none_is_refused() -> None:
    document = json_document(small_result(parts=(component("wheel", "a"),)))
    document["components"][0]["size"] = "large"
    with pytest.raises(UsageError, match="is not a report"):
        parse_earlier(json.dumps(document), label="x")


def test_findings_come_and_go() -> None:
    stays, goes, comes = (finding("secrets", name, "found") for name in "abc")
    found = between((goes, stays), (stays, comes))
    assert [one.subject for one in found.came] == ["c"]
    assert [one.subject for one in found.went] == ["b"]
    assert found.altered == ()


def test_new_errors_come_before_new_warnings() -> None:
    found = between((), (finding("moving-ref", "a", "b"), finding("secrets", "c", "d")))
    assert [one.level for one in found.came] == ["error", "warning"]


def test_equal_findings_are_counted() -> None:
    one = finding("secrets", "a", "found")
    assert len(between((one,), (one, one)).came) == 1


def test_a_finding_that_is_told_otherwise_is_no_new_one() -> None:
    before = finding("secrets", "a", "12 days old")
    after = replace(before, message="13 days old", level="warning", waived="until 2030-01-01: x")
    found = between((before,), (after,))
    assert (found.came, found.went) == ((), ())
    (change,) = found.altered
    assert (change.kind, change.name) == ("secrets", "a")
    assert change.what == (
        ("level", "error", "warning"),
        ("waiver", "none", "until 2030-01-01: x"),
        ("found", "12 days old", "13 days old"),
    )


def test_two_findings_of_one_subject_are_not_mixed_up() -> None:
    first, second = finding("secrets", "a", "1"), finding("secrets", "a", "2")
    found = between((first, second), (second,))
    assert [one.message for one in found.went] == ["1"]
    assert (found.came, found.altered) == ((), ())


def test_components_are_added_removed_and_changed() -> None:
    same = component("wheel", "same")
    found = parts(
        (same, component("wheel", "old"), component("wheel", "moves", "1.0", licence="MIT", size=1000)),
        (
            same,
            component("deb", "old"),
            component("wheel", "moves", "2.0", licence="", installed_size=9000),
        ),
    )
    assert [one.ref for one in found.added] == ["deb:old@1.0"]
    assert [one.ref for one in found.removed] == ["wheel:old@1.0"]
    (change,) = found.changed
    assert change.what == (
        ("version", "1.0", "2.0"),
        ("licence", "MIT", "unknown"),
        ("size", "1.0 kB", "9.0 kB"),
    )


def test_other_bytes_of_the_same_version_are_a_change() -> None:
    before = component("wheel", "a", sha256=sha("1"))
    (change,) = parts((before,), (replace(before, sha256=None),)).changed
    assert change.what == (("sha256", sha("1")[:12], "none"),)


def test_what_leaves_the_image_is_removed_from_it() -> None:
    before = component("wheel", "a", "1.0")
    found = parts((before,), (component("wheel", "a", "2.0", in_image=False),))
    assert (len(found.added), len(found.removed)) == (1, 1)
