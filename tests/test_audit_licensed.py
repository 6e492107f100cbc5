"""What an audit says of licences: each check with what breaks it and what passes."""

from __future__ import annotations

from datetime import date
from typing import TYPE_CHECKING, Any

import pytest

from lockbuild.audit import Subject, licensed
from lockbuild.audit.rules import Skip
from lockbuild.components import Component, LicenceFile, ref_of
from lockbuild.plan import make_plan
from lockbuild.store import Store
from tests.values import sha, small_lock, small_stack

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from lockbuild.audit.rules import Found
    from lockbuild.components import Kind

    Ask = Callable[..., list[Found]]

SOURCE = {
    "name": "app",
    "git": "https://example.org/app.git",
    "commit": "1" * 40,
    "path": "/app",
    "submodules": True,
}
WEIGHTS = {"name": "weights", "path": "/w", "url": ["https://example.org/w"], "sha256": sha("w")}


@pytest.fixture
def ask(tmp_path: Path) -> Iterator[Ask]:
    """Ask a check about parts, with what the stack says."""
    with Store(tmp_path / "store") as store:

        def found(check: str, *parts: Component, licenses: Any = None, **document: Any) -> list[Found]:
            stack = small_stack(audit={"licenses": licenses or {}}, **document)
            plan = make_plan(small_stack(), small_lock())
            subject = Subject(
                stack=stack,
                lock=small_lock(),
                plan=plan,
                store=store,
                wheelhouse=tmp_path,
                manifest=None,
                dockerfile=None,
                rendered="",
                image=None,
                today=date(2026, 1, 1),
                components=parts,
            )
            (rule,) = (rule for rule in licensed.RULES if rule.check.id == check)
            return list(rule.find(subject))

        yield found


def part(licence: str = "", *, kind: Kind = "wheel", name: str = "alpha", **more: Any) -> Component:
    """Return a part of the image."""
    defaults = {"version": "1.0", "purl": "", "sha256": None, "size": None, "installed_size": 5}
    values = {**defaults, "licence": licence, **more}
    return Component(ref=ref_of(kind, name, values["version"]), kind=kind, name=name, **values)


def said(found: list[Found]) -> list[str]:
    return [f"{one.subject}: {one.message}" for one in found]


def test_every_check_is_tested_here() -> None:
    tested = {name.removeprefix("test_").partition("__")[0].replace("_", "-") for name in globals()}
    assert {rule.check.id for rule in licensed.RULES} <= tested


# ---- unknown ---------------------------------------------------------------------------------------


def test_licence_unknown__where_nothing_tells(ask: Ask) -> None:
    assert said(ask("licence-unknown", part())) == [
        "wheel:alpha@1.0: nothing that is known tells its licence"
    ]


def test_licence_unknown__says_what_there_is_to_read(ask: Ask) -> None:
    file = LicenceFile(name="alpha-1.0.dist-info/LICENSE", sha256=sha("own words"))
    (found,) = ask("licence-unknown", part(declared="BSD", licence_files=(file,)))
    assert found.message == (
        "`BSD` is all that it says, which does not tell its licence; see `alpha-1.0.dist-info/LICENSE`"
    )


def test_licence_unknown__of_what_was_not_read(ask: Ask) -> None:
    (found,) = ask("licence-unknown", part(installed_size=None))
    assert found.message == "the store has not got it, so nothing tells its licence: `lockbuild fetch`"


@pytest.mark.parametrize("level", ["warning", "error"])
def test_licence_unknown__as_grave_as_the_stack_says(level: str, ask: Ask) -> None:
    assert [one.level for one in ask("licence-unknown", part(), licenses={"unknown": level})] == [level]


def test_licence_unknown__switched_off(ask: Ask) -> None:
    with pytest.raises(Skip, match=r"`audit\.licenses\.unknown`"):
        ask("licence-unknown", part(), licenses={"unknown": "off"})


def test_licence_unknown__only_of_what_the_image_holds(ask: Ask) -> None:
    outside = part(in_image=False)
    base = part(kind="base", name="docker.io/library/debian:12")
    assert ask("licence-unknown", outside, base, part("MIT")) == []


# ---- denied and allowed ----------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("licence", "denied"),
    [
        ("GPL-3.0-or-later", True),
        ("MIT", False),
        ("MIT OR GPL-3.0-or-later", False),
        ("MIT AND GPL-3.0-or-later", True),
        ("AGPL-3.0-only OR GPL-2.0-only", True),
        ("(MIT OR GPL-2.0-only) AND BSD-3-Clause", False),
        ("GPL-3.0-or-later WITH GCC-exception-3.1", True),
        ("LGPL-2.1-or-later", False),
    ],
)
def test_licence_denied__as_the_expression_is_joined(licence: str, *, denied: bool, ask: Ask) -> None:
    found = ask("licence-denied", part(licence), licenses={"deny": ["GPL-*", "AGPL-*"]})
    assert bool(found) is denied


@pytest.mark.parametrize(
    ("licence", "pattern"),
    [
        ("GPL-3.0-only", "gpl-3.0-only"),
        ("GPL-3.0-only", "gpl-*"),
        ("LicenseRef-Lab", "licenseref-LAB"),
        ("GPL-2.0-only WITH Classpath-exception-2.0", "gpl-* WITH classpath-*"),
    ],
)
def test_licence_denied__in_upper_or_lower_case(licence: str, pattern: str, ask: Ask) -> None:
    assert ask("licence-denied", part(licence), licenses={"deny": [pattern]})


def test_licence_denied__names_the_licence_and_what_tells_it(ask: Ask) -> None:
    gpl = part("MIT AND GPL-2.0-only", told_by="License", kind="deb", name="libx")
    (found,) = ask("licence-denied", gpl, licenses={"deny": ["GPL-*"]})
    assert found.subject == "deb:libx@1.0"
    assert found.message == (
        "is under `MIT AND GPL-2.0-only` (told by: License): `audit.licenses.deny` has `GPL-2.0-only`"
    )


def test_licence_denied__with_an_exception_alone(ask: Ask) -> None:
    parts = part("GPL-2.0-only WITH Classpath-exception-2.0"), part("GPL-2.0-only", name="beta")
    found = ask("licence-denied", *parts, licenses={"deny": ["GPL-* WITH Classpath-*"]})
    assert [one.subject for one in found] == ["wheel:alpha@1.0"]


def test_licence_denied__says_nothing_of_what_is_unknown_or_outside(ask: Ask) -> None:
    assert ask("licence-denied", part(), part("MIT", in_image=False), licenses={"deny": ["*"]}) == []


def test_licence_not_allowed__where_the_stack_lists_licences(ask: Ask) -> None:
    parts = part("MIT OR ISC"), part("MIT AND ISC", name="beta"), part(name="unknown")
    assert ask("licence-not-allowed", *parts) == []
    (found,) = ask("licence-not-allowed", *parts, licenses={"allow": ["MIT", "BSD-*"]})
    assert (found.subject, found.message) == (
        "wheel:beta@1.0",
        "is under `MIT AND ISC`: `audit.licenses.allow` has no `ISC`",
    )


def test_licence_not_allowed__with_an_exception_that_is_allowed(ask: Ask) -> None:
    runtime, plain = part("GPL-3.0-or-later WITH GCC-exception-3.1"), part("GPL-3.0-or-later", name="b")
    allow = {"allow": ["GPL-3.0-* WITH GCC-exception-*"]}
    assert [one.subject for one in ask("licence-not-allowed", runtime, plain, licenses=allow)] == [
        "wheel:b@1.0"
    ]


# ---- redistribution --------------------------------------------------------------------------------


def test_licence_redistribution__of_a_wheel(ask: Ask) -> None:
    (found,) = ask("licence-redistribution", part("CC-BY-NC-4.0"))
    assert found.message == "is in the image, and `CC-BY-NC-4.0` does not let everybody pass it on"
    assert ask("licence-redistribution", part("LicenseRef-NVIDIA-Proprietary")) == []


def test_licence_redistribution__of_an_asset_that_the_stack_accepts(ask: Ask) -> None:
    weights = part("CC-BY-NC-4.0", kind="asset", name="weights", version="")
    accepted = {**WEIGHTS, "license": "CC-BY-NC-4.0", "accept-license": "for research"}
    assert ask("licence-redistribution", weights, asset=[accepted]) == []


def test_licence_redistribution__of_an_asset_under_another_licence_than_it_was_declared(
    ask: Ask,
) -> None:
    weights = part("LicenseRef-research", kind="asset", name="weights", version="")
    assert said(ask("licence-redistribution", weights, asset=[{**WEIGHTS, "license": "MIT"}])) == [
        "asset:weights: is in the image, and `LicenseRef-research` does not let everybody pass it on"
    ]


def test_licence_redistribution__of_an_asset_that_may_be_passed_on(ask: Ask) -> None:
    weights = part("LicenseRef-free", kind="asset", name="weights", version="")
    table = {**WEIGHTS, "license": "LicenseRef-free", "redistributable": True}
    assert ask("licence-redistribution", weights, asset=[table]) == []


def test_licence_redistribution__of_a_submodule(ask: Ask) -> None:
    submodule = part("CC-BY-NC-SA-4.0", kind="source", name="app/third/model", version="2" * 40)
    free = {**SOURCE, "license": "MIT"}
    (found,) = ask("licence-redistribution", submodule, source=[free])
    assert found.subject == f"source:app/third/model@{'2' * 40}"
    accepted = {**SOURCE, "license": "CC-BY-NC-4.0", "accept-license": "for research"}
    assert ask("licence-redistribution", submodule, source=[accepted]) == []


# ---- what does not go together ---------------------------------------------------------------------


def test_licence_conflicting_words__of_metadata_and_files(ask: Ask) -> None:
    torn = part("Apache-2.0", told_by="License", doubt="licence file: MIT")
    assert said(ask("licence-conflicting-words", torn, part("MIT", name="beta"))) == [
        "wheel:alpha@1.0: is under `Apache-2.0` by its License; licence file: MIT"
    ]


def test_licence_conflicting_words__that_the_stack_has_settled(ask: Ask) -> None:
    settled = part("Apache-2.0", told_by="stack", doubt="licence file: MIT")
    assert ask("licence-conflicting-words", settled) == []


def test_licence_of_nobody__by_a_misspelt_name(ask: Ask) -> None:
    of = {"alfa": "MIT", "alpha": "MIT", "wheel:alpha": "MIT", "deb:alpha": "ISC"}
    assert said(ask("licence-of-nobody", part("MIT"), licenses={"of": of})) == [
        "audit.licenses.of.alfa: `MIT` is told of what the stack has not got",
        "audit.licenses.of.deb:alpha: `ISC` is told of what the stack has not got",
    ]


def test_licence_of_nobody__where_nothing_is_known(ask: Ask) -> None:
    with pytest.raises(Skip):
        ask("licence-of-nobody", licenses={"of": {"alfa": "MIT"}})
