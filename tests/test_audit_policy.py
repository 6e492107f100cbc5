"""What a stack says of its audit: levels, waivers, and what is wrong about them."""

from __future__ import annotations

from datetime import date

from lockbuild.audit import policy
from lockbuild.findings import Finding, Report
from lockbuild.stack.audit import AuditPolicy, LevelChange, Waiver

TODAY = date(2026, 6, 1)
KNOWN = {"moving-ref", "open", "wheel-tags", *(check.id for check in policy.CHECKS)}


def finding(check: str = "moving-ref", subject: str = "app", message: str = "`main` moves") -> Finding:
    return Finding(check=check, level="warning", subject=subject, message=message, mend="mend it")


def report(*findings: Finding) -> Report:
    return Report(findings=findings, passed=("open",), skipped=())


def waiver(**values: object) -> Waiver:
    return Waiver(
        **{"check": "moving-ref", "reason": "we know", "until": date(2026, 12, 31), **values}  # type: ignore[arg-type]
    )


def applied(
    given: Report, *, levels: tuple[LevelChange, ...] = (), waivers: tuple[Waiver, ...] = ()
) -> Report:
    return policy.apply(AuditPolicy(levels=levels, waivers=waivers), given, known=KNOWN, today=TODAY)


def checks(found: Report) -> list[str]:
    return [one.check for one in found.findings]


def test_without_a_word_of_the_stack_nothing_changes() -> None:
    found = applied(report(finding()))
    assert found.findings == (finding(),)
    assert found.passed == ("open", "waiver-expired", "waiver-unused", "check-unknown")


def test_a_level_is_raised() -> None:
    found = applied(
        report(finding()), levels=(LevelChange(check="moving-ref", level="error", reason="x"),)
    )
    assert found.errors == 1


def test_a_check_that_is_off_finds_nothing_and_says_why() -> None:
    found = applied(
        report(finding()), levels=(LevelChange(check="moving-ref", level="off", reason="why"),)
    )
    assert checks(found) == []
    assert ("moving-ref", "switched off by the stack: why") in found.skipped


def test_a_waiver_is_not_unused_where_its_check_could_not_look_at_all() -> None:
    given = Report(findings=(finding(subject="ENV"),), passed=(), skipped=(("moving-ref", "no store"),))
    assert checks(applied(given, waivers=(waiver(subject="/srv/key"),))) == ["moving-ref"]


def test_of_two_waivers_that_fit_the_one_that_has_not_expired_counts() -> None:
    former = waiver(until=date(2026, 5, 1))
    found = applied(report(finding()), waivers=(former, waiver(subject="a*")))
    assert found.findings[0].waived == "until 2026-12-31: we know"
    assert checks(found) == ["moving-ref", "waiver-expired"]


def test_a_check_that_is_off_is_not_passed() -> None:
    found = applied(report(), levels=(LevelChange(check="open", level="off", reason="why"),))
    assert "open" not in found.passed


def test_a_waived_finding_stays_and_counts_no_more() -> None:
    found = applied(report(finding()), waivers=(waiver(),))
    assert found.findings[0].waived == "until 2026-12-31: we know"
    assert found.count(warnings=True) == 0


def test_a_waiver_holds_on_its_last_day() -> None:
    assert applied(report(finding()), waivers=(waiver(until=TODAY),)).count(warnings=True) == 0


def test_an_expired_waiver_is_an_error_and_waives_nothing() -> None:
    found = applied(report(finding()), waivers=(waiver(until=date(2026, 5, 31)),))
    assert checks(found) == ["moving-ref", "waiver-expired"]
    assert found.errors == 1
    assert not found.findings[0].waived


def test_a_waiver_is_for_its_subject_and_message_alone() -> None:
    given = report(finding(), finding(subject="other"), finding(message="`dev` moves"))
    found = applied(given, waivers=(waiver(subject="a*", message="*main*"),))
    assert [bool(one.waived) for one in found.findings] == [True, False, False]


def test_a_waiver_that_nothing_fits_is_told() -> None:
    found = applied(report(finding()), waivers=(waiver(subject="other"),))
    assert "waiver-unused" in checks(found)


def test_a_waiver_whose_check_did_not_run_is_not_unused() -> None:
    assert "waiver-unused" not in checks(applied(report(), waivers=(waiver(check="wheel-tags"),)))


def test_names_that_no_check_has_are_errors() -> None:
    found = applied(
        report(),
        levels=(LevelChange(check="mooving-ref", level="off", reason="x"),),
        waivers=(waiver(check="oopen"),),
    )
    assert [(one.check, one.subject) for one in found.findings] == [
        ("check-unknown", "audit.waive of oopen"),
        ("check-unknown", "audit.levels.mooving-ref"),
    ]


# ---- the policy's own checks -----------------------------------------------------------------------


def level(check: str, level: str) -> LevelChange:
    return LevelChange(check=check, level=level, reason="why")


def test_a_check_of_the_policy_itself_is_switched_off() -> None:
    found = applied(
        report(finding()), levels=(level("waiver-unused", "off"),), waivers=(waiver(subject="other"),)
    )
    assert checks(found) == ["moving-ref"]
    assert "waiver-unused" not in found.passed
    assert found.skipped == (("waiver-unused", "switched off by the stack: why"),)


def test_a_check_of_the_policy_itself_has_another_level() -> None:
    found = applied(
        report(),
        levels=(level("waiver-unused", "error"), level("check-unknown", "warning")),
        waivers=(waiver(check="open"), waiver(check="oopen")),
    )
    assert [(one.check, one.level) for one in found.findings] == [
        ("check-unknown", "warning"),
        ("waiver-unused", "error"),
    ]


def test_a_check_of_the_policy_itself_is_waived() -> None:
    kept = waiver(check="waiver-unused", subject="audit.waive of moving-ref")
    found = applied(report(finding()), waivers=(waiver(subject="other"), kept))
    assert [(one.check, bool(one.waived)) for one in found.findings] == [
        ("moving-ref", False),
        ("waiver-unused", True),
    ]


def test_a_waiver_of_unused_ones_may_be_unused_itself_and_does_not_waive_that() -> None:
    found = applied(report(finding()), waivers=(waiver(), waiver(check="waiver-unused")))
    assert [(one.subject, one.waived) for one in found.findings[1:]] == [
        ("audit.waive of waiver-unused", "")
    ]


def test_all_waivers_that_fit_one_finding_are_used() -> None:
    found = applied(report(finding()), waivers=(waiver(subject="a*"), waiver(message="*main*")))
    assert checks(found) == ["moving-ref"]
    assert found.findings[0].waived == "until 2026-12-31: we know"
