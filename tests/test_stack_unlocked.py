"""What of a stack file is checked though its lock is not stale."""

from __future__ import annotations

import tomllib
from typing import Any

import pytest

from lockbuild.errors import StackError
from lockbuild.stack import from_document, inputs_of
from lockbuild.stack.schema import check_document
from lockbuild.stack.unlocked import check_unlocked, is_vouched_for
from tests.values import stack_document

FILE = "stacks/small/stack.toml"
WAIVER = '[[audit.waive]]\ncheck = "moving-ref"\nreason = "r"\n'
EXPIRED = "expected another check: an expired waiver stays an error until it goes, or its `until` moves"
A_DATE = "expected a date such as `2027-06-30`, without quotes or time"


def faults(document: dict[str, Any]) -> tuple[str, ...]:
    with pytest.raises(StackError) as caught:
        check_unlocked(document, file=FILE)
    assert caught.value.message.startswith(f"{FILE}: ")
    return caught.value.details


# ---- [audit] ---------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "fault"),
    [
        ("audit = 5", "`audit`: found 5, expected a table with `levels`, `licenses`, `waive`"),
        ("[audit]\nlevel = {}", "`audit.level`: unknown key; did you mean `levels`?"),
        ("[audit]\nwaiver = [1]", "`audit.waiver`: unknown key; did you mean `waive`?"),
        ('[audit]\nwaive = "x"', '`audit.waive`: found "x", expected a list'),
        (
            '[audit.levels]\nopen = "error"',
            '`audit.levels.open`: found "error", expected a table with `level`, `reason`',
        ),
        (
            '[audit.levels]\nopen = { level = "eror", reason = "r" }',
            '`audit.levels.open.level`: found "eror", expected one of `error`, `warning`, `off`; did you mean `error`?',
        ),
        (
            '[audit.levels]\nopen = { level = "error", reason = "" }',
            '`audit.levels.open.reason`: found "", expected one line that says why',
        ),
        (WAIVER, f"`audit.waive[0].until`: missing, {A_DATE}"),
        (f'{WAIVER}until = "soon"', f'`audit.waive[0].until`: found "soon", {A_DATE}'),
        (
            f"{WAIVER}until = 9999-12-31T00:00:00Z",
            f"`audit.waive[0].until`: found 9999-12-31 00:00:00+00:00, {A_DATE}",
        ),
        (
            '[[audit.waive]]\ncheck = "moving-ref"\nreason = " "\nuntil = 2027-06-30',
            '`audit.waive[0].reason`: found " ", expected one line that says why',
        ),
        (
            '[audit.levels]\nwaiver-expired = { level = "off", reason = "r" }',
            f'`audit.levels.waiver-expired`: found "waiver-expired", {EXPIRED}',
        ),
        (
            '[[audit.waive]]\ncheck = "waiver-expired"\nreason = "r"\nuntil = 2027-06-30',
            f'`audit.waive[0].check`: found "waiver-expired", {EXPIRED}',
        ),
        ('[audit.licenses]\ndeny = "MIT"', '`audit.licenses.deny`: found "MIT", expected a list'),
        (
            '[audit.licenses]\ndeni = ["*"]',
            "`audit.licenses.deni`: unknown key; did you mean `deny`?",
        ),
        (
            '[audit.licenses]\nunknown = "eror"',
            '`audit.licenses.unknown`: found "eror", expected one of `error`, `warning`, `off`; did you mean `error`?',
        ),
        ('[audit.licenses]\nof = ["x"]', '`audit.licenses.of`: found ["x"], expected a table'),
    ],
)
def test_a_policy_that_is_none_is_refused(text: str, fault: str) -> None:
    document = stack_document(**tomllib.loads(text))
    assert faults(document) == (fault,)
    with pytest.raises(StackError) as whole:
        check_document(document, file=FILE)
    assert whole.value.details == (fault,)


@pytest.mark.parametrize("licence", ["(", "GPL v3 ((((", "BSD License"])
def test_a_licence_that_is_no_expression_is_refused(licence: str) -> None:
    (fault,) = faults(stack_document(audit={"licenses": {"of": {"numpy": licence}}}))
    assert fault.startswith(f'`audit.licenses.of.numpy`: found "{licence}", expected an SPDX expression')


@pytest.mark.parametrize(
    ("pattern", "nearest"),
    [
        ("AGLP-*", "AGPL-*"),
        ("GPL-3.0", "GPL-3.0-*"),
        ("LGPL-2.1+", "LGPL-2.1-or-later"),
        ("*AGLP-3.0*", "*AGPL-3.0-*"),
        ("MTI", "MIT"),
        ("gplv3", "GPL-3.0-*"),
        ("GPL-* WITH GC-exception-*", "GPL-* WITH GCC-exception-*"),
        ("No-Such-Licence", ""),
        ("MIT WITH Nothing-Like-It", ""),
        ("NOASSERTION", ""),
    ],
)
@pytest.mark.parametrize("key", ["allow", "deny"])
def test_a_pattern_that_fits_no_licence_is_refused(key: str, pattern: str, nearest: str) -> None:
    (fault,) = faults(stack_document(audit={"licenses": {key: ["MIT", pattern]}}))
    expected = "expected what fits a licence of SPDX's list, or begins with `LicenseRef-`"
    suggestion = f"; did you mean `{nearest}`?" if nearest else ""
    assert fault == f'`audit.licenses.{key}[1]`: found "{pattern}", {expected}{suggestion}'


@pytest.mark.parametrize(
    "pattern",
    [
        *("*", "mit", "GPL-3.0-only", "*gpl-*", "Apache-2.0+", "LicenseRef-*", "licenseref-lab"),
        "*GPL-* WITH GCC-exception-*",
    ],
)
def test_a_pattern_that_fits_a_licence_is_accepted(pattern: str) -> None:
    check_unlocked(stack_document(audit={"licenses": {"deny": [pattern]}}), file=FILE)


def test_a_licence_may_be_told_in_upper_or_lower_case() -> None:
    of = {"numpy": "mit or GPL-2.0-ONLY", "alpha": "NOASSERTION"}
    document = stack_document(audit={"licenses": {"of": of}})
    check_unlocked(document, file=FILE)
    assert from_document(document).audit.licences.of == (
        ("alpha", "NOASSERTION"),
        ("numpy", "MIT OR GPL-2.0-only"),
    )


def test_all_faults_are_said_at_once() -> None:
    audit = {"level": {}, "waive": [{"check": "open"}], "licenses": {"deny": "MIT"}}
    assert len(faults(stack_document(audit=audit))) == 4


# ---- all else --------------------------------------------------------------------------------------


def test_what_the_lock_vouches_for_is_not_checked_again() -> None:
    document = stack_document(target={"python": "any that a former lockbuild took"})
    check_unlocked(document, file=FILE)
    assert is_vouched_for(document)


@pytest.mark.parametrize(
    ("change", "fault"),
    [
        ({"pyton": {}}, "`pyton`: unknown key; did you mean `python`?"),
        ({"mount": [{}]}, "`mount[0].path`: missing, expected a string"),
        ({"conda": {}}, "`conda.channels`: missing, expected a list"),
        ({"env.OMP_NUM_THREADS": "1", "env": {"A": "1"}}, "`env.OMP_NUM_THREADS`: unknown key; known"),
        (
            {"build": {build["name"]: build for build in stack_document()["build"]}},
            "`build`: found a table, expected a list of tables: `[[build]]`",
        ),
        (
            {"build": [{"name": "gamma"}, *stack_document()["build"]]},
            "`build[gamma].source`: missing, expected a table",
        ),
        ({"mount": {"1": {"path": "/data"}}}, "`mount`: found a table, expected a list of tables"),
        (
            {"mount": {"/data": {"path": "/data"}}},
            "`mount`: found a table, expected a list of tables",
        ),
        (
            {"asset": [{"name": "a", "path": "/a", "members": {"b": {"pth": "b"}}}]},
            "`asset[a].members.b`: found a table, expected a string",
        ),
    ],
)
def test_what_leaves_no_trace_in_the_inputs_is_checked(change: dict[str, Any], fault: str) -> None:
    document = stack_document(**change)
    assert not is_vouched_for(document)
    assert [line for line in faults(document) if line.startswith(fault)]


def test_a_table_without_a_key_that_may_be_there_is_accepted() -> None:
    document = stack_document(conda=None, env={}, preflight={})
    del document["conda"]
    assert not is_vouched_for(document)
    check_unlocked(document, file=FILE)


def test_a_mistaken_table_has_the_inputs_of_the_right_one() -> None:
    right = stack_document()
    wrong = stack_document(pyton={}, build={build["name"]: build for build in right["build"]})
    assert inputs_of(wrong, {}) == inputs_of(right, {})
