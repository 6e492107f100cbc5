"""Statements about built wheels: what they say, and that in-toto's and SLSA's own models take them."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import pytest
from google.protobuf.json_format import MessageToDict, ParseDict, ParseError
from in_toto_attestation.predicates.provenance.v1.provenance_pb2 import Provenance as Predicate
from in_toto_attestation.v1.resource_descriptor import ResourceDescriptor
from in_toto_attestation.v1.statement import Statement
from in_toto_attestation.v1.statement_pb2 import Statement as StatementMessage

from lockbuild.attestation import BUILD_TYPES, statement, system_statement
from lockbuild.derivation import Fetch
from lockbuild.lock import LockedFile
from lockbuild.provenance import Provenance, closure_of
from tests.test_provenance import COMMIT, edited_plan
from tests.values import sha

if TYPE_CHECKING:
    from collections.abc import Callable

    from lockbuild.plan import Plan

WHEEL = LockedFile(filename="gamma-2.0+ours-cp311-cp311-linux_x86_64.whl", sha256=sha("wheel"), size=7)


@pytest.fixture(scope="module")
def plan() -> Plan:
    return edited_plan()


def record_of(plan: Plan, name: str) -> Provenance:
    build = dict(plan.compiles)[name]
    return Provenance(
        name=name, version="2.0+ours", build=build, derivations=closure_of(build, plan.derivations)
    )


def document(plan: Plan, name: str = "gamma") -> dict[str, Any]:
    return statement(record_of(plan, name), WHEEL, stamped=dict(plan.builds)[name])


def definition(plan: Plan, name: str = "gamma") -> dict[str, Any]:
    found: dict[str, Any] = document(plan, name)["predicate"]["buildDefinition"]
    return found


def dependencies(plan: Plan) -> dict[str, dict[str, Any]]:
    return {one["name"]: one for one in definition(plan)["resolvedDependencies"]}


def test_statement_is_the_golden_one(plan: Plan, golden: Callable[[str, str], None]) -> None:
    golden("statement.json", json.dumps(document(plan), indent=2, sort_keys=True) + "\n")


@pytest.mark.parametrize("name", ["gamma", "delta"])
def test_models_of_in_toto_and_slsa_take_it(plan: Plan, name: str) -> None:
    """An unknown field is an error, and nothing is lost on the way through them."""
    found = document(plan, name)
    message = ParseDict(found, StatementMessage())
    Statement.copy_from_pb(message).validate()
    assert MessageToDict(message) == found
    predicate = ParseDict(found["predicate"], Predicate())
    for one in predicate.build_definition.resolved_dependencies:
        ResourceDescriptor.copy_from_pb(one).validate()
    assert MessageToDict(predicate) == found["predicate"]


def test_root_file_systems_have_one_too(plan: Plan) -> None:
    path = dict(plan.roots)["runtime"]
    record = Provenance(
        name="runtime", version="", build=path, derivations=closure_of(path, plan.derivations)
    )
    archive = LockedFile(filename="rootfs.tar", sha256=sha("rootfs"), size=7)
    found = system_statement(record, archive)
    message = ParseDict(found, StatementMessage())
    Statement.copy_from_pb(message).validate()
    assert MessageToDict(ParseDict(found["predicate"], Predicate())) == found["predicate"]
    assert found["subject"] == [{"name": "rootfs.tar", "digest": {"sha256": sha("rootfs")}}]
    definition = found["predicate"]["buildDefinition"]
    assert definition["buildType"] == BUILD_TYPES["rootfs"]
    assert definition["externalParameters"]["name"] == "runtime"
    fetches = [one for one in record.derivations.values() if isinstance(one, Fetch)]
    assert len(definition["resolvedDependencies"]) == len(fetches) > 0


def test_models_refuse_what_slsa_has_no_name_for(plan: Plan) -> None:
    with pytest.raises(ParseError):
        ParseDict({**document(plan)["predicate"], "builder": {}}, Predicate())


def test_subject_is_the_wheel_by_its_hash(plan: Plan) -> None:
    assert document(plan)["subject"] == [{"name": WHEEL.filename, "digest": {"sha256": WHEEL.sha256}}]


def test_every_fetch_of_the_closure_is_a_dependency_with_a_digest(plan: Plan) -> None:
    fetches = record_of(plan, "gamma").fetches()
    found = definition(plan)["resolvedDependencies"]
    assert {one["annotations"]["store-path"] for one in found} == {fetch.path for fetch in fetches}
    assert all(isinstance(fetch, Fetch) for fetch in fetches)
    assert all(one["digest"] and one["uri"].startswith("pkg:") for one in found)


def test_tree_is_known_by_its_commit(plan: Plan) -> None:
    source = dependencies(plan)["Gamma"]
    assert source["digest"] == {"gitCommit": COMMIT}
    assert source["annotations"]["tree-sha256"] == sha("tree")
    assert source["annotations"]["role"] == "source"


def test_parameters_are_what_the_stack_decides(plan: Plan) -> None:
    found = definition(plan)
    assert found["buildType"] == BUILD_TYPES["wheel"]
    parameters = found["externalParameters"]
    assert (parameters["package"], parameters["version"]) == ("gamma", "2.0+ours")
    assert parameters["environment"]["FORCE_CUDA"] == "1"
    assert [edit.get("file") for edit in parameters["edits"]][-1] == "setup.py"
    assert definition(plan, "delta")["externalParameters"]["edits"] == []


def test_neither_time_nor_machine_is_said(plan: Plan) -> None:
    run = document(plan)["predicate"]["runDetails"]
    assert set(run) == {"builder", "metadata"}
    assert run["metadata"] == {"invocationId": dict(plan.builds)["gamma"]}
