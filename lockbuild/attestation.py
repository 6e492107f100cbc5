"""Where a built wheel comes from, as an in-toto Statement with a SLSA Provenance v1 predicate. Pure.

The third voice of one record: `lockbuild.provenance` writes it into the wheel for whoever makes it again, the bill of
materials names it for scanners, and this is for what verifies supply chains. It follows from the wheel's hash and the
derivations of what was compiled; it says no time and no machine, as neither is recorded. Whoever signs it says who ran it.
See https://github.com/in-toto/attestation/tree/main/spec/v1 and https://slsa.dev/spec/v1.0/provenance.
"""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

from lockbuild.derivation import SANDBOX_VERSION, Build, GitTree
from lockbuild.provenance import materials

if TYPE_CHECKING:
    from lockbuild.digest import StorePath
    from lockbuild.lock import LockedFile
    from lockbuild.provenance import Material, Provenance

__all__ = ["BUILD_TYPE", "statement"]

BUILD_TYPE = "https://lockbuild.io/build-types/wheel/v1"
"""What the parameters below mean: `docs/audit.md`."""

_BUILDER = f"https://lockbuild.io/sandbox/v{SANDBOX_VERSION}"
"""The sandbox, whose rules decide what a build can see; not the machine, which changes no byte."""


def statement(provenance: Provenance, wheel: LockedFile, *, stamped: StorePath) -> dict[str, Any]:
    """Return the Statement about *wheel*.

    Args:
        stamped: Store path of the wheel with its label and record.
    """
    compiled = provenance.derivations[provenance.build]
    if not isinstance(compiled, Build):
        msg = f"`{provenance.build}` is nothing that is built"
        raise TypeError(msg)
    return {
        "_type": "https://in-toto.io/Statement/v1",
        "subject": [{"name": wheel.filename, "digest": {"sha256": wheel.sha256}}],
        "predicateType": "https://slsa.dev/provenance/v1",
        "predicate": {
            "buildDefinition": {
                "buildType": BUILD_TYPE,
                "externalParameters": {
                    "package": provenance.name,
                    "version": provenance.version,
                    "system": compiled.system,
                    "command": list(compiled.command),
                    "environment": dict(compiled.env),
                    "edits": _edits(provenance, compiled),
                },
                "internalParameters": {"compiled": provenance.build, "stamped": stamped},
                "resolvedDependencies": [_dependency(one) for one in materials(provenance)],
            },
            "runDetails": {
                "builder": {"id": _BUILDER},
                # The same inputs are the same invocation, whoever makes it and however often.
                "metadata": {"invocationId": stamped},
            },
        },
    }


def _edits(provenance: Provenance, compiled: Build) -> Any:  # noqa: ANN401 - as the source's build was told
    path = dict(compiled.inputs).get("source")
    edited = provenance.derivations.get(path) if path else None
    return json.loads(edited.command[-1]) if isinstance(edited, Build) else []


def _dependency(one: Material) -> dict[str, Any]:
    fetch = one.fetch
    annotations = {"role": one.role, "store-path": fetch.path}
    if isinstance(fetch.where, GitTree):
        # The sha256 of a listing is no digest that anybody else could compute; the commit is.
        digest = {"gitCommit": fetch.where.commit}
        annotations["tree-sha256"] = fetch.sha256
    else:
        digest = {"sha256": fetch.sha256}
    return {"name": one.name, "uri": one.purl, "digest": digest, "annotations": annotations}
