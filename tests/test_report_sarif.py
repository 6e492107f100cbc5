"""Audits as SARIF: what is in the log, and that its own validator takes it."""

from __future__ import annotations

import json
import shutil
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import pytest

from lockbuild.documents import json_text
from lockbuild.process import run
from lockbuild.report.sarif import sarif_document
from tests.needs import missing, need
from tests.reports import CHECKS, finding, large_result, small_result

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from lockbuild.results import Result

VALIDATOR = "@microsoft/sarif-multitool@5.7.0"
LOCK = "stacks/small/lockbuild.lock"
# Advice that does not fit: there is no home page to name, and what is audited is text without lines.
ADVICE = {"SARIF2005", "SARIF2011"}


@pytest.fixture(scope="module")
def validator(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """Microsoft's validator, the one that the standard's editors wrote: the schema, and rules beyond it."""
    need("npm")
    folder = tmp_path_factory.mktemp("sarif")
    command = [
        "npm",
        "install",
        "--silent",
        "--no-audit",
        "--no-fund",
        "--prefix",
        str(folder),
        VALIDATOR,
    ]
    if run(command, timeout_s=300).returncode:
        missing(f"npm cannot install {VALIDATOR}")
    yield folder / "node_modules" / ".bin" / "sarif-multitool"
    shutil.rmtree(folder)


def complaints(validator: Path, folder: Path, document: dict[str, Any]) -> set[str]:
    """Return the ids of the rules that *document* breaks, with their messages."""
    log, verdict = folder / "audit.sarif", folder / "verdict.sarif"
    log.write_text(json_text(document), encoding="utf-8")
    options = ["-o", str(verdict), "--log", "ForceOverwrite"]
    ended = run([validator, "validate", str(log), *options], timeout_s=120)
    assert ended.returncode == 0, ended.stderr
    results = json.loads(verdict.read_bytes())["runs"][0]["results"]
    return {
        f"{one['ruleId']} {one['message'].get('text', one['message'].get('arguments'))}"
        for one in results
        if one["ruleId"] not in ADVICE
    }


def log_of(result: Result) -> dict[str, Any]:
    run_: dict[str, Any] = sarif_document(result, lock=LOCK)["runs"][0]
    return run_


def only(result: Result) -> dict[str, Any]:
    (one,) = log_of(result)["results"]
    assert isinstance(one, dict)
    return one


def test_its_validator_takes_a_large_log(validator: Path, tmp_path: Path) -> None:
    assert complaints(validator, tmp_path, sarif_document(large_result(), lock=LOCK)) == set()


def test_its_validator_takes_a_log_of_nothing_found(validator: Path, tmp_path: Path) -> None:
    assert complaints(validator, tmp_path, sarif_document(small_result(), lock=LOCK)) == set()


def test_its_validator_takes_texts_of_strangers(validator: Path, tmp_path: Path) -> None:
    one = finding("image-debs", "a\udcff {0} \u202e</script>", "", layer="1 {x}", facts=(("tags", "x"),))
    assert complaints(validator, tmp_path, sarif_document(small_result(one), lock=LOCK)) == set()


def test_its_validator_sees_a_fault(validator: Path, tmp_path: Path) -> None:
    document = sarif_document(large_result(), lock=LOCK)
    document["runs"][0]["results"][0]["ruleIndex"] = 999
    del document["runs"][0]["tool"]["driver"]["name"]
    assert complaints(validator, tmp_path, document)


def test_rules_are_the_checks() -> None:
    rules = log_of(small_result())["tool"]["driver"]["rules"]
    assert [rule["id"] for rule in rules] == [check.id for check in CHECKS]
    assert rules[0]["shortDescription"]["text"] == f"{CHECKS[0].what}."
    assert rules[0]["fullDescription"]["text"] == f"{CHECKS[0].why}."
    assert rules[0]["help"]["text"] == f"{CHECKS[0].mend}."
    assert rules[2]["defaultConfiguration"]["level"] == "warning"


def test_a_result_says_what_was_found_and_where() -> None:
    one = only(small_result(finding("image-debs", "openssl", "found 3, expected 2", layer="7 RUN x")))
    assert (one["ruleId"], one["ruleIndex"], one["level"]) == ("image-debs", 3, "error")
    assert one["message"]["text"] == "openssl: found 3, expected 2."
    (place,) = one["locations"]
    assert place["physicalLocation"]["artifactLocation"]["uri"] == LOCK
    assert place["logicalLocations"][0]["fullyQualifiedName"] == "openssl"
    assert one["properties"] == {"layer": "7 RUN x"}
    assert one["suppressions"] == []


def test_facts_are_properties() -> None:
    one = only(small_result(finding("vulnerability", "a", "b", facts=(("severity", "HIGH"),))))
    assert one["properties"] == {"facts": {"severity": "HIGH"}}


def test_a_waiver_is_a_suppression() -> None:
    one = only(small_result(finding("moving-ref", "a", "b", waived="until 2027-01-01: ours")))
    (suppression,) = one["suppressions"]
    assert suppression["justification"] == "until 2027-01-01: ours"
    assert suppression["status"] == "accepted"


def test_a_result_keeps_its_fingerprint_over_levels_waivers_and_days() -> None:
    before = finding("moving-ref", "a", "b")
    after = replace(before, level="error", waived="until 2027-01-01: ours", layer="2")
    assert prints(before) == prints(after)
    assert (
        len({prints(before), prints(replace(before, subject="c")), prints(replace(before, message="c"))})
        == 3
    )


def prints(one: Any) -> str:
    (fingerprint,) = only(small_result(one))["partialFingerprints"].values()
    assert isinstance(fingerprint, str)
    return fingerprint


def test_what_could_not_be_checked_is_a_notification() -> None:
    result = small_result()
    report = replace(result.report, skipped=(("secrets", "no image"), ("gone", "off")))
    first, second = log_of(replace(result, report=report))["invocations"][0][
        "toolExecutionNotifications"
    ]
    assert first["associatedRule"] == {"id": "secrets", "index": 4}
    assert first["message"]["text"] == "secrets was not checked: no image."
    assert second["associatedRule"] == {"id": "gone"}


def test_a_finding_of_no_known_check_has_a_rule() -> None:
    result = small_result(replace(finding("moving-ref", "a", "b"), check="of-tomorrow"))
    assert only(result)["ruleId"] == "of-tomorrow"
    assert log_of(result)["tool"]["driver"]["rules"][-1]["id"] == "of-tomorrow"
