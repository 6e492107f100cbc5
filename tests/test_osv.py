"""Known vulnerabilities: evaluation of ranges, merging of records, severity, and whether a fix is let in."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from packaging.version import Version

from lockbuild.components import Component, ref_of
from lockbuild.osv import (
    Package,
    Reach,
    Vulnerability,
    bounds_on,
    ecosystems_of,
    packages_of,
    reach,
    vulnerabilities,
)
from lockbuild.osv.records import Affected, Event, PackageName, Range
from lockbuild.osv.versions import affects
from lockbuild.stack import Stack, from_document
from tests.advisories import CRITICAL, about, parsed, record
from tests.values import package, small_lock, stack_document

if TYPE_CHECKING:
    from lockbuild.lock import Lock

BOOKWORM = "Debian:12"


def wheel(name: str = "torch", version: str = "1.12.1+cu113") -> Package:
    return Package(
        ecosystems=("PyPI",), name=name, version=version, components=(f"wheel:{name}@{version}",)
    )


def source(name: str = "zlib", version: str = "1:1.2.13.dfsg-1", *ecosystems: str) -> Package:
    return Package(
        ecosystems=ecosystems or (BOOKWORM,), name=name, version=version, components=("deb:zlib1g",)
    )


def found(one: Package, *records: dict[str, Any]) -> tuple[Vulnerability, ...]:
    return vulnerabilities([one], parsed(*records))


def ids(one: Package, *records: dict[str, Any]) -> list[str]:
    return [vulnerability.id for vulnerability in found(one, *records)]


# ---- versions --------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("version", "events", "expected"),
    [
        ("1.12.1", [("introduced", "0"), ("fixed", "1.13.1")], True),
        ("1.13.1", [("introduced", "0"), ("fixed", "1.13.1")], False),
        ("1.13.1rc1", [("introduced", "0"), ("fixed", "1.13.1")], True),
        ("1.12.1", [("introduced", "1.12.1")], True),
        ("1.12.0", [("introduced", "1.12.1")], False),
        ("1.12.1", [("introduced", "0"), ("last_affected", "1.12.1")], True),
        ("1.12.2", [("introduced", "0"), ("last_affected", "1.12.1")], False),
        ("2.1", [("introduced", "0"), ("fixed", "1.5"), ("introduced", "2.0"), ("fixed", "2.2")], True),
        ("1.7", [("introduced", "0"), ("fixed", "1.5"), ("introduced", "2.0"), ("fixed", "2.2")], False),
        ("2.1", [("fixed", "2.2"), ("introduced", "2.0"), ("fixed", "1.5"), ("introduced", "0")], True),
        ("1.5", [("introduced", "0"), ("limit", "1.5")], False),
        ("1.4", [("introduced", "0"), ("limit", "1.5")], True),
        ("1.5", [("introduced", "0"), ("limit", "1.0"), ("limit", "2.0")], True),
        ("1.5", [("introduced", "0"), ("limit", "*")], True),
        ("1.0", [("introduced", "1.0"), ("fixed", "1.0")], False),
        ("2.0", [("introduced", "0"), ("fixed", "2.0"), ("introduced", "2.0")], True),
        ("1!0.1", [("introduced", "0"), ("fixed", "99")], False),
    ],
)
def test_range_of_python_versions(
    version: str, events: list[tuple[str, str]], *, expected: bool
) -> None:
    assert bool(ids(wheel(version=version), record("GHSA-1", about("torch", *events)))) is expected


@pytest.mark.parametrize(
    ("version", "fixed", "expected"),
    [
        ("1:1.2.13.dfsg-1", "1:1.2.13.dfsg-1+deb12u1", True),
        ("1:1.2.13.dfsg-1+deb12u1", "1:1.2.13.dfsg-1+deb12u1", False),
        ("2.0-1", "1:1.0-1", True),
        ("1.0~rc1-1", "1.0-1", True),
        ("3.0.17-1~deb12u2", "3.0.17-1", True),
        ("1.10-1", "1.9-1", False),
        ("1.10-1", "0", False),
    ],
)
def test_range_of_debian_versions(version: str, fixed: str, *, expected: bool) -> None:
    told = about("zlib", ("introduced", "0"), ("fixed", fixed), ecosystem=BOOKWORM)
    assert bool(ids(source(version=version), record("DEBIAN-CVE-2023-1", told))) is expected


def test_a_semver_range_is_evaluated_as_well() -> None:
    told = about("torch", ("introduced", "0"), ("fixed", "1.13.1"))
    told["ranges"][0]["type"] = "SEMVER"
    assert ids(wheel(), record("GHSA-1", told)) == ["GHSA-1"]


def test_what_is_told_of_commits_besides_changes_nothing() -> None:
    told = about("torch", ("introduced", "0"), ("fixed", "1.13.1"))
    commits = {"type": "GIT", "events": [{"introduced": "0"}, {"fixed": "2"}]}
    told["ranges"].insert(0, commits)
    (one,) = found(wheel(), record("GHSA-1", {"ranges": [commits]}, told))
    assert [fix.version for fix in one.fixes] == ["1.13.1"]


def test_commits_are_not_versions() -> None:
    told = about("torch", ("introduced", "0"))
    told["ranges"][0]["type"] = "GIT"
    assert ids(wheel(), record("GHSA-1", told)) == []


def test_a_version_without_a_range_may_be_listed() -> None:
    assert ids(wheel(), record("GHSA-1", about("torch", versions=["1.12", "1.12.1"]))) == ["GHSA-1"]
    assert ids(wheel(), record("GHSA-1", about("torch", versions=["1.12"]))) == []


def test_a_listed_version_may_be_written_otherwise() -> None:
    assert ids(wheel(version="1.0"), record("GHSA-1", about("torch", versions=["v1.0.0"]))) == ["GHSA-1"]


def test_a_local_version_may_be_listed_itself() -> None:
    assert ids(wheel(), record("GHSA-1", about("torch", versions=["1.12.1+cu113"]))) == ["GHSA-1"]
    assert ids(wheel(), record("GHSA-1", about("torch", versions=["1.12.1+cpu"]))) == []


def test_a_local_version_of_the_last_affected_one_is_affected() -> None:
    told = record("GHSA-1", about("torch", ("introduced", "0"), ("last_affected", "1.12.1")))
    assert ids(wheel(), told) == ["GHSA-1"]


@pytest.mark.parametrize("end", ["fixed", "last_affected", "limit"])
def test_what_cannot_be_read_as_a_version_hides_nothing(end: str) -> None:
    told = about("torch", ("introduced", "what"), (end, "<unfixed>"))
    (one,) = found(wheel(), record("GHSA-1", told))
    assert one.fixes == ()


def test_names_of_python_projects_are_normalised() -> None:
    told = record("GHSA-1", about("Foo_Bar", ("introduced", "0")))
    assert ids(wheel("foo-bar", "1"), told) == ["GHSA-1"]


def test_names_of_debian_packages_are_not() -> None:
    told = record("DEBIAN-CVE-1", about("Zlib", ("introduced", "0"), ecosystem=BOOKWORM))
    assert ids(source(), told) == []


def test_another_release_or_ecosystem_is_another_package() -> None:
    told = record(
        "X-1",
        about("zlib", ("introduced", "0"), ecosystem="Debian:11"),
        about("zlib", ("introduced", "0"), ecosystem="PyPI"),
        about("zlib", ("introduced", "0"), ecosystem="Ubuntu:22.04:LTS"),
    )
    assert ids(source(), told) == []


def test_an_ecosystem_without_a_release_is_about_all_of_them() -> None:
    told = record("X-1", about("zlib", ("introduced", "0"), ecosystem="Debian"))
    assert ids(source(), told) == ["X-1"]


# A range evaluated slowly: time goes by from the first version to the one that is asked about, and events happen.
VERSIONS = [f"{major}.{minor}{pre}" for major in range(3) for minor in range(3) for pre in ("rc1", "")]
points = st.tuples(
    st.sampled_from(["introduced", "fixed", "last_affected", "limit"]), st.sampled_from(["0", *VERSIONS])
).filter(lambda event: event[0] == "introduced" or event[1] != "0")
timelines = st.lists(points, max_size=6, unique_by=lambda event: event[1])


def _slowly(version: str, told: list[tuple[str, str]]) -> bool:
    happens = {point: kind for kind, point in told}
    vulnerable, ends_here = happens.get("0") == "introduced", False
    limits = [VERSIONS.index(point) for kind, point in told if kind == "limit"]
    for number, now in enumerate(VERSIONS):
        if ends_here:
            vulnerable, ends_here = False, False
        kind = happens.get(now)
        if kind == "introduced":
            vulnerable = True
        elif kind == "fixed":
            vulnerable = False
        ends_here = kind == "last_affected"
        if now == version:
            return vulnerable and (not limits or number < max(limits))
    raise AssertionError(version)


@pytest.mark.property
@given(version=st.sampled_from(VERSIONS), told=timelines)
def test_ranges_are_evaluated_as_a_slow_walk_does(version: str, told: list[tuple[str, str]]) -> None:
    range_ = Range(type="ECOSYSTEM", events=tuple(Event(**{kind: point}) for kind, point in told))
    affected = Affected(package=PackageName(ecosystem="PyPI", name="torch"), ranges=(range_,))
    assert affects(affected, version, "PyPI") == _slowly(version, told)
    assert affects(affected, f"{version}+cu118", "PyPI") == _slowly(version, told)


@pytest.mark.property
@given(version=st.sampled_from(VERSIONS), told=timelines)
def test_no_version_that_is_called_fixed_is_affected(version: str, told: list[tuple[str, str]]) -> None:
    hits = found(wheel(version=version), record("X-1", about("torch", *told)))
    for fix in hits[0].fixes if hits else ():
        assert Version(fix.version) > Version(version)
        assert not _slowly(fix.version, told)
        assert not fix.before or Version(fix.before) > Version(fix.version)


# ---- merging ---------------------------------------------------------------------------------------

ALL = ("introduced", "0")


def debian(id_: str, *upstream: str, name: str = "zlib", **more: Any) -> dict[str, Any]:
    return record(id_, about(name, ALL, ecosystem=BOOKWORM), upstream=list(upstream), **more)


def test_aliases_are_one_vulnerability_called_by_its_cve() -> None:
    (one,) = found(
        wheel(),
        record("PYSEC-2022-43015", about("torch", ALL), aliases=["CVE-2022-45907"]),
        record("GHSA-47fc", about("torch", ALL), aliases=["CVE-2022-45907"]),
    )
    assert (one.id, one.aliases) == ("CVE-2022-45907", ("GHSA-47fc", "PYSEC-2022-43015"))


def test_aliases_are_followed_through_a_record_that_is_not_in_range() -> None:
    hits = found(
        wheel(),
        record("GHSA-a", about("torch", ALL), aliases=["CVE-1-1"]),
        record("GHSA-b", about("torch", ALL), aliases=["CVE-2-2"]),
        record("PYSEC-c", about("torch", ("introduced", "9")), aliases=["CVE-1-1", "CVE-2-2"]),
    )
    assert [one.id for one in hits] == ["CVE-1-1"]


def test_other_vulnerabilities_stay_others() -> None:
    hits = ids(
        wheel(),
        record("GHSA-a", about("torch", ALL), aliases=["CVE-2022-1"]),
        record("GHSA-b", about("torch", ALL), aliases=["CVE-2022-2"]),
    )
    assert hits == ["CVE-2022-1", "CVE-2022-2"]


def test_a_distribution_s_record_is_its_cve() -> None:
    (one,) = found(source(), debian("DEBIAN-CVE-2023-45853"))
    assert (one.id, one.aliases) == ("CVE-2023-45853", ("DEBIAN-CVE-2023-45853",))


def test_an_advisory_of_one_thing_is_that_thing() -> None:
    (one,) = found(source(), debian("DSA-1-1", "CVE-2023-1"), debian("DEBIAN-CVE-2023-1", "CVE-2023-1"))
    assert (one.id, one.aliases) == ("CVE-2023-1", ("DEBIAN-CVE-2023-1", "DSA-1-1"))


def test_two_names_of_one_thing_upstream_are_one_thing() -> None:
    (one,) = found(
        source(), debian("DSA-1-1", "CVE-2023-1", "DEBIAN-CVE-2023-1"), debian("DEBIAN-CVE-2023-1")
    )
    assert (one.id, one.aliases) == ("CVE-2023-1", ("DEBIAN-CVE-2023-1", "DSA-1-1"))


def test_an_advisory_of_several_things_goes_along_with_each() -> None:
    first, second = found(
        source(),
        debian("DSA-1-1", "CVE-2023-1", "CVE-2023-2"),
        debian("DEBIAN-CVE-2023-1"),
        debian("DEBIAN-CVE-2023-2"),
    )
    assert (first.id, first.aliases) == ("CVE-2023-1", ("DEBIAN-CVE-2023-1", "DSA-1-1"))
    assert (second.id, second.aliases) == ("CVE-2023-2", ("DEBIAN-CVE-2023-2", "DSA-1-1"))


def test_an_advisory_of_several_things_is_not_lost_where_one_has_no_record() -> None:
    first, second = found(
        source(), debian("DSA-1-1", "CVE-2023-1", "CVE-2023-2"), debian("DEBIAN-CVE-2023-1")
    )
    assert (first.id, first.aliases) == ("CVE-2023-1", ("DEBIAN-CVE-2023-1",))
    assert (second.id, second.aliases) == ("DSA-1-1", ("CVE-2023-1", "CVE-2023-2", "DEBIAN-CVE-2023-1"))


def test_an_alias_of_another_package_is_no_bond_between_packages() -> None:
    hits = vulnerabilities(
        [wheel(), source()],
        parsed(
            record("GHSA-a", about("torch", ALL), aliases=["CVE-2023-1"]), debian("DEBIAN-CVE-2023-1")
        ),
    )
    assert [(one.package.name, one.id) for one in hits] == [
        ("torch", "CVE-2023-1"),
        ("zlib", "CVE-2023-1"),
    ]


ID = st.sampled_from([f"CVE-2025-{n}" for n in range(4)] + [f"GHSA-{n}" for n in range(4)])


@pytest.mark.property
@given(st.dictionaries(ID, st.lists(ID, max_size=2), min_size=1))
def test_aliases_are_joined_as_neighbours_of_neighbours_are(aliases: dict[str, list[str]]) -> None:
    records = [record(id_, about("torch", ALL), aliases=others) for id_, others in aliases.items()]
    neighbours = {(one, two) for id_, others in aliases.items() for one in others for two in [id_]}
    groups = []
    for id_ in aliases:
        group, size = {id_}, 0
        while len(group) > size:
            size = len(group)
            group |= {b for pair in neighbours for a, b in (pair, pair[::-1]) if a in group}
        groups.append(frozenset(group))
    hits = found(wheel(), *records)
    assert {frozenset((one.id, *one.aliases)) for one in hits} == set(groups)
    assert len(hits) == len(set(groups))


def test_a_fix_is_a_later_version_that_no_alias_calls_affected() -> None:
    (one,) = found(
        wheel(),
        record("GHSA-a", about("torch", ALL, ("fixed", "1.13.1")), aliases=["CVE-1-1"]),
        record(
            "PYSEC-b", about("torch", ALL, ("fixed", "1.11.1"), ("introduced", "1.12"), ("fixed", "2.0"))
        ),
        record("OSV-c", about("torch", ALL, ("fixed", "2.0")), aliases=["CVE-1-1", "PYSEC-b"]),
    )
    assert [fix.version for fix in one.fixes] == ["2.0"]


def test_a_fix_knows_where_it_ends() -> None:
    told = about("torch", ALL, ("fixed", "1.13"), ("introduced", "2.0"), ("fixed", "2.1"))
    (one,) = found(wheel(), record("X-1", told))
    assert [(fix.version, fix.before) for fix in one.fixes] == [("1.13", "2.0"), ("2.1", "")]


# ---- severity --------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("severities", "expected"),
    [
        ([CRITICAL], ("critical", 9.8)),
        ([{"type": "CVSS_V2", "score": "AV:L/AC:M/Au:N/C:N/I:P/A:C"}], ("medium", 5.4)),
        (
            [
                {
                    "type": "CVSS_V4",
                    "score": "CVSS:4.0/AV:N/AC:L/AT:N/PR:H/UI:N/VC:L/VI:L/VA:N/SC:N/SI:N/SA:N",
                }
            ],
            ("medium", 5.1),
        ),
        ([{"type": "CVSS_V3", "score": "CVSS:3.1/AV:N/AC:L"}], ("", None)),
        ([{"type": "Ubuntu", "score": "medium"}], ("medium", None)),
        ([{"type": "Ubuntu", "score": "\x1b[2J"}], ("", None)),
        ([], ("", None)),
    ],
)
def test_severity(severities: list[dict[str, str]], expected: tuple[str, float | None]) -> None:
    (one,) = found(wheel(), record("X-1", about("torch", ALL), severity=severities))
    assert (one.severity, one.score) == expected


def test_severity_of_a_package_is_stronger_than_that_of_its_record() -> None:
    told = about("torch", ALL, severity=[{"type": "CVSS_V2", "score": "AV:L/AC:M/Au:N/C:N/I:P/A:C"}])
    (one,) = found(wheel(), record("X-1", told, severity=[CRITICAL]))
    assert one.score == 5.4


def test_the_highest_score_of_all_aliases_counts() -> None:
    low = {"type": "CVSS_V2", "score": "AV:L/AC:M/Au:N/C:N/I:P/A:C"}
    (one,) = found(
        wheel(),
        record("X-1", about("torch", ALL), severity=[low]),
        record("X-2", about("torch", ALL), severity=[CRITICAL], aliases=["X-1"]),
    )
    assert (one.severity, one.score, one.serious) == ("critical", 9.8, True)


def test_without_a_score_the_database_s_own_word_counts() -> None:
    (one,) = found(
        wheel(), record("X-1", about("torch", ALL), database_specific={"severity": "MODERATE"})
    )
    assert (one.severity, one.serious) == ("medium", False)
    (one,) = found(wheel(), record("X-1", about("torch", ALL), database_specific={"severity": "HIGH"}))
    assert (one.severity, one.serious) == ("high", True)


def test_what_a_distribution_calls_unimportant_is_not_serious() -> None:
    told = about("zlib", ALL, ecosystem=BOOKWORM, ecosystem_specific={"urgency": "unimportant"})
    (one,) = found(source(), record("DEBIAN-CVE-2020-1", told, severity=[CRITICAL]))
    assert (one.severity, one.score, one.serious) == ("unimportant", 9.8, False)


def test_a_malicious_package_is_serious() -> None:
    (one,) = found(wheel(), record("MAL-2024-1", about("torch", versions=["1.12.1"])))
    assert (one.severity, one.serious) == ("malicious", True)


@pytest.mark.property
@given(
    kind=st.sampled_from(["CVSS_V2", "CVSS_V3", "CVSS_V4"]),
    text=st.text(max_size=40),
    cut=st.integers(0, 50),
)
def test_no_vector_of_anybody_stops_the_audit(kind: str, text: str, cut: int) -> None:
    for score in (text, CRITICAL["score"][:cut] + text):
        (one,) = found(
            wheel(), record("X-1", about("torch", ALL), severity=[{"type": kind, "score": score}])
        )
        assert one.score is None or 0 <= one.score <= 10


# ---- parts of a stack ------------------------------------------------------------------------------


def component(kind: Any, name: str, version: str, **more: Any) -> Component:
    return Component(
        ref=ref_of(kind, name, version),
        kind=kind,
        name=name,
        version=version,
        purl="",
        sha256=None,
        size=None,
        **more,
    )


def test_packages_are_wheels_and_sources_of_debs_that_the_image_holds() -> None:
    of_zlib = {"source_name": "zlib", "source_version": "1:1.2-1"}
    parts = [
        component("wheel", "torch", "2.0"),
        component("wheel", "setuptools", "80", in_image=False),
        component("deb", "zlib1g", "1:1.2-1+b1", **of_zlib),
        component("deb", "minizip", "1:1.2-1+b1", **of_zlib),
        component("deb", "zlib1g-dev", "1:1.2-1+b1", in_image=False, **of_zlib),
        component("asset", "weights", ""),
    ]
    debs = ("deb:minizip@1:1.2-1+b1", "deb:zlib1g@1:1.2-1+b1")
    assert packages_of(parts, (BOOKWORM,)) == (
        Package(ecosystems=(BOOKWORM,), name="zlib", version="1:1.2-1", components=debs),
        Package(ecosystems=("PyPI",), name="torch", version="2.0", components=("wheel:torch@2.0",)),
    )


@pytest.mark.parametrize(
    ("base", "expected"),
    [
        ({"debian": {"suite": "bookworm"}}, ("Debian:12",)),
        ({"debian": {"suite": "trixie"}}, ("Debian:13",)),
        ({"debian": {"suite": "sid"}}, ()),
        (
            {"runtime": "a", "toolchain": "b", "packages": {"vendor": "ubuntu", "suite": "focal"}},
            ("Ubuntu:20.04:LTS", "Ubuntu:Pro:20.04:LTS"),
        ),
        ({"runtime": "a", "toolchain": "b"}, ()),
    ],
)
def test_ecosystems_of_a_base(base: dict[str, Any], expected: tuple[str, ...]) -> None:
    assert ecosystems_of(from_document(stack_document(base=base)).base) == expected


def test_a_suite_without_a_name_has_no_vulnerabilities() -> None:
    unnamed = replace(source(), ecosystems=())
    assert ids(unnamed, debian("DEBIAN-CVE-2023-1")) == []


# ---- reachable -------------------------------------------------------------------------------------


def _reached(stack: Stack, lock: Lock, metadata: dict[str, tuple[str, ...]]) -> Reach:
    told = about("alpha", ALL, ("fixed", "2.0"), ("introduced", "3.0"))
    (one,) = found(wheel("alpha", "1.2"), record("X-1", told))
    return reach(one, stack, bounds_on("alpha", stack, lock, metadata))


def lock_with(*others: Any) -> Lock:
    return replace(small_lock(), runtime=(package("alpha", "1.2"), *others))


def test_reachable_where_nothing_forbids_it() -> None:
    lock = lock_with()
    stack = from_document(stack_document(python={"requires": ["alpha>=1"]}, build=[]))
    assert _reached(stack, lock, {}) == Reach(answer="yes", why="")


@pytest.mark.parametrize(
    ("python", "why"),
    [
        ({"requires": ["alpha<2"]}, "python.requires says `alpha<2`"),
        ({"requires": ["Alpha==1.2"]}, "python.requires says `Alpha==1.2`"),
        ({"requires": ["alpha>=3.1"]}, "python.requires says `alpha>=3.1`"),
        ({"requires": ["alpha"], "constraints": ["alpha<1.9"]}, "python.constraints says `alpha<1.9`"),
        ({"requires": ["alpha"], "overrides": ["alpha==1.2"]}, "python.overrides says `alpha==1.2`"),
        (
            {"requires": ["alpha>2.5"], "constraints": ["alpha<2.4"]},
            "python.requires says `alpha>2.5`; python.constraints says `alpha<2.4`",
        ),
    ],
)
def test_not_reachable_past_what_the_stack_says(python: dict[str, Any], why: str) -> None:
    stack = from_document(stack_document(python=python, build=[]))
    assert _reached(stack, lock_with(), {}) == Reach(answer="no", why=why)


def test_an_override_takes_the_place_of_all_else() -> None:
    python = {"requires": ["alpha<2"], "constraints": ["alpha<2"], "overrides": ["alpha<3"]}
    stack = from_document(stack_document(python=python, build=[]))
    lock = lock_with(package("beta", "0.9", dependencies=("alpha",)))
    assert _reached(stack, lock, {"beta": ("alpha<2",)}).answer == "yes"


def test_what_is_said_for_another_target_does_not_count() -> None:
    python = {
        "requires": ["alpha", "alpha<2; python_version < '3.8'", "alpha<2; sys_platform == 'win32'"]
    }
    stack = from_document(stack_document(python=python, build=[]))
    assert _reached(stack, lock_with(), {}).answer == "yes"


def test_not_reachable_past_what_another_wheel_requires() -> None:
    stack = from_document(stack_document(python={"requires": ["beta"]}, build=[]))
    lock = lock_with(package("beta", "0.9", dependencies=("alpha",)))
    lines = ("other", "alpha<2; extra == 'not-asked'", "alpha[fast]<1.5", "not a requirement")
    assert _reached(stack, lock, {"beta": lines}) == Reach(
        answer="no", why="beta 0.9 says `alpha[fast]<1.5`"
    )


def test_what_an_extra_requires_counts_where_nothing_else_asks() -> None:
    stack = from_document(stack_document(python={"requires": ["beta[fast]"]}, build=[]))
    lock = lock_with(package("beta", "0.9", dependencies=("alpha",)))
    assert _reached(stack, lock, {"beta": ("alpha<2; extra == 'fast'",)}).answer == "no"


def test_unknown_where_the_store_lacks_a_wheel_that_requires_it() -> None:
    stack = from_document(stack_document(python={"requires": ["beta"]}, build=[]))
    lock = lock_with(package("beta", "0.9", dependencies=("alpha",)))
    assert _reached(stack, lock, {}) == Reach(
        answer="unknown", why="the store has no metadata of beta 0.9"
    )


def test_what_is_known_to_forbid_it_needs_no_further_metadata() -> None:
    stack = from_document(stack_document(python={"requires": ["beta", "alpha<2"]}, build=[]))
    lock = lock_with(package("beta", "0.9", dependencies=("alpha",)))
    assert _reached(stack, lock, {}).answer == "no"


def test_builds_and_pinned_wheels_say_in_the_stack_what_they_require() -> None:
    pinned = {
        "name": "beta",
        "version": "0.9",
        "url": ["https://example.org/beta-0.9-py3-none-any.whl"],
        "sha256": "0" * 64,
        "requires": ["alpha<1.5"],
    }
    stack = from_document(stack_document(python={"requires": ["beta"], "wheel": [pinned]}))
    (build,) = [build for build in stack.builds if build.name == "gamma"]
    gamma = replace(build, requires=("alpha<1.7",))
    lock = lock_with(
        package("beta", "0.9", dependencies=("alpha",)), package("gamma", "2.0", dependencies=("alpha",))
    )
    assert _reached(replace(stack, builds=(gamma,)), lock, {}) == Reach(
        answer="no", why="beta 0.9 says `alpha<1.5`; gamma 2.0 says `alpha<1.7`"
    )


def test_what_the_stack_pins_itself_is_not_reachable() -> None:
    pinned = {
        "name": "alpha",
        "version": "1.2+cu113",
        "url": ["https://example.org/alpha-1.2+cu113-py3-none-any.whl"],
        "sha256": "0" * 64,
    }
    stack = from_document(stack_document(python={"requires": ["alpha"], "wheel": [pinned]}, build=[]))
    assert _reached(stack, lock_with(), {}) == Reach(
        answer="no", why="python.wheel says `alpha==1.2+cu113`"
    )


def test_what_the_stack_builds_is_not_reachable() -> None:
    stack = from_document(stack_document(python={"requires": []}))
    (one,) = found(wheel("gamma", "2.0"), record("X-1", about("gamma", ALL, ("fixed", "2.1"))))
    told = reach(one, stack, bounds_on("gamma", stack, small_lock(), {}))
    assert told == Reach(answer="no", why="build.gamma says `gamma==2.0`")


@pytest.mark.parametrize(("version", "answer"), [("1.12", "yes"), ("2.2", "no")])
def test_a_range_may_begin_and_end_with_local_versions(version: str, answer: str) -> None:
    """No specifier takes one, and no record promises that there is none."""
    told = about("torch", ALL, ("fixed", "1.13"), ("introduced", "2.0+cu118"), ("fixed", "2.1+cu118"))
    (one,) = found(wheel("torch", "1.12"), record("X-1", told))
    stack = from_document(stack_document(python={"requires": [f"torch>={version}"]}))
    assert reach(one, stack, bounds_on("torch", stack, small_lock(), {})).answer == answer


def test_without_a_fixed_version_there_is_nothing_to_reach() -> None:
    (one,) = found(wheel("alpha", "1.2"), record("X-1", about("alpha", ALL)))
    told = reach(one, from_document(stack_document()), ())
    assert told == Reach(answer="no", why="no record tells of a fixed version")


def fixed_deb(base: dict[str, Any], ecosystem: str) -> Reach:
    (one,) = found(
        source("zlib", "1.0-1", ecosystem),
        record("X-1", about("zlib", ALL, ("fixed", "1.0-1+u1"), ecosystem=ecosystem)),
    )
    return reach(one, from_document(stack_document(base=base)), ())


def test_whether_a_suite_has_a_fixed_deb_by_now_is_not_known() -> None:
    told = fixed_deb({"debian": {"suite": "bookworm"}}, BOOKWORM)
    assert told.answer == "unknown"
    assert "next point release" in told.why


def test_a_snapshot_of_the_archive_may_be_older_than_the_fix() -> None:
    told = fixed_deb({"debian": {"suite": "bookworm", "snapshot": "20250601T000000Z"}}, BOOKWORM)
    assert told == Reach(
        answer="unknown", why="the stack takes the archive as it was at 20250601T000000Z"
    )


def test_a_fix_for_subscribers_is_not_reachable() -> None:
    base = {"runtime": "a", "toolchain": "b", "packages": {"vendor": "ubuntu", "suite": "focal"}}
    assert fixed_deb(base, "Ubuntu:Pro:20.04:LTS").answer == "no"
    assert fixed_deb(base, "Ubuntu:20.04:LTS").answer == "unknown"
