"""Where what was built comes from, as an in-toto Statement with a SLSA Provenance v1 predicate. Pure.

Of a wheel it is the third voice of one record: `lockbuild.provenance` writes it into the wheel for whoever makes it again,
the bill of materials names it for scanners, and this is for what verifies supply chains. It follows from the hash of what
was built and the derivations of all that it needs; it says no time and no machine, as neither is recorded. Whoever signs it says who ran it.
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

__all__ = ["BUILD_TYPES", "statement", "system_statement"]

BUILD_TYPES = {
    kind: f"https://lockbuild.io/build-types/{kind}/v1" for kind in ("wheel", "rootfs", "prefix")
}
"""What the parameters below mean: `docs/audit.md`."""

_BUILDER = f"https://lockbuild.io/sandbox/v{SANDBOX_VERSION}"
"""The sandbox, whose rules decide what a build can see; not the machine, which changes no byte."""


def statement(provenance: Provenance, wheel: LockedFile, *, stamped: StorePath) -> dict[str, Any]:
    """Return the Statement about *wheel*.

    Args:
        stamped: Store path of the wheel with its label and record.
    """
    compiled = _build(provenance)
    external: dict[str, Any] = {
        "package": provenance.name,
        "version": provenance.version,
        "edits": _edits(provenance, compiled),
    }
    internal: dict[str, str] = {"compiled": provenance.build, "stamped": stamped}
    return _document(provenance, wheel, external, internal, invocation=stamped)


def system_statement(provenance: Provenance, archive: LockedFile) -> dict[str, Any]:
    """Return the Statement about *archive*: a root file system, or the prefix of conda packages."""
    return _document(
        provenance,
        archive,
        {"name": provenance.name},
        {"built": provenance.build},
        invocation=provenance.build,
    )


def _build(provenance: Provenance) -> Build:
    found = provenance.derivations[provenance.build]
    if not isinstance(found, Build):
        msg = f"`{provenance.build}` is nothing that is built"
        raise TypeError(msg)
    return found


def _document(
    provenance: Provenance,
    made: LockedFile,
    external: dict[str, Any],
    internal: dict[str, str],
    *,
    invocation: StorePath,
) -> dict[str, Any]:
    build = _build(provenance)
    parameters = {
        **external,
        "system": build.system,
        "command": list(build.command),
        "environment": dict(build.env),
    }
    return {
        "_type": "https://in-toto.io/Statement/v1",
        "subject": [{"name": made.filename, "digest": {"sha256": made.sha256}}],
        "predicateType": "https://slsa.dev/provenance/v1",
        "predicate": {
            "buildDefinition": {
                "buildType": BUILD_TYPES[build.kind],
                "externalParameters": parameters,
                "internalParameters": internal,
                "resolvedDependencies": [_dependency(one) for one in materials(provenance)],
            },
            "runDetails": {
                "builder": {"id": _BUILDER},
                # The same inputs are the same invocation, whoever makes it and however often.
                "metadata": {"invocationId": invocation},
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
