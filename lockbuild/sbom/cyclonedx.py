"""A bill of materials as CycloneDX 1.6, by the models of CycloneDX's own library. Pure.

What the image holds stands under `components`. What it was only compiled with stands under `formulation`, where no
scanner takes a compiler for something that was installed; the library has no model of that, and its components are
put there one by one. Output is sorted here, so that the order in which a release of the library writes counts for nothing.
"""

from __future__ import annotations

import json
from datetime import UTC, datetime
from decimal import Decimal
from typing import TYPE_CHECKING, Any

from cyclonedx.model import (
    ExternalReference,
    ExternalReferenceType,
    HashAlgorithm,
    HashType,
    Property,
    XsUri,
)
from cyclonedx.model.bom import Bom, BomMetaData
from cyclonedx.model.component import (
    Component as CdxComponent,
)
from cyclonedx.model.component import (
    ComponentScope,
    ComponentType,
    Diff,
    Patch,
    PatchClassification,
    Pedigree,
)
from cyclonedx.model.contact import OrganizationalEntity
from cyclonedx.model.dependency import Dependency
from cyclonedx.model.impact_analysis import ImpactAnalysisAffectedStatus
from cyclonedx.model.license import DisjunctiveLicense, LicenseAcknowledgement, LicenseExpression
from cyclonedx.model.lifecycle import LifecyclePhase, PredefinedLifecycle
from cyclonedx.model.tool import ToolRepository
from cyclonedx.model.vulnerability import (
    BomTarget,
    BomTargetVersionRange,
    Vulnerability,
    VulnerabilityAnalysis,
    VulnerabilityRating,
    VulnerabilityReference,
    VulnerabilitySeverity,
    VulnerabilitySource,
)
from cyclonedx.output.json import JsonV1Dot6
from cyclonedx.schema import SchemaVersion
from cyclonedx.schema.schema import SCHEMA_VERSIONS
from packageurl import PackageURL

from lockbuild.plan import EPOCH
from lockbuild.sbom import own_words, uuid_of, version_of

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

    from lockbuild.components import Component
    from lockbuild.findings import Finding
    from lockbuild.sbom import Bill, Part

__all__ = ["LOCK_PROPERTY", "cyclonedx_text"]

LOCK_PROPERTY = "lockbuild:lock"
"""Property of the image: digest of the lock that it is of."""

_ROOT = "image"
_VIEW = SCHEMA_VERSIONS[SchemaVersion.V1_6]
_TYPES = {
    "asset": ComponentType.DATA,
    "base": ComponentType.OPERATING_SYSTEM,
    "interpreter": ComponentType.PLATFORM,
}
_SEVERITIES = {
    **{one.value: one for one in VulnerabilitySeverity},
    "malicious": VulnerabilitySeverity.CRITICAL,
    "negligible": VulnerabilitySeverity.INFO,
    "unimportant": VulnerabilitySeverity.INFO,
}
"""Words of databases that CycloneDX has not are those that come nearest."""


def cyclonedx_text(bill: Bill) -> str:
    """Return the document: JSON in ASCII, with sorted keys, a newline at its end."""
    root = _root(bill)
    components = {part.ref: _component(part) for part in bill.parts}
    listed = [components[part.ref] for part in (*bill.of("held"), *bill.of("mounted"))]
    edges = {_ROOT: (*bill.roots, *(part.ref for part in bill.of("mounted"))), **bill.edges}
    refs = {ref: one.bom_ref for ref, one in {_ROOT: root, **components}.items()}
    bom = Bom(
        metadata=BomMetaData(
            component=root,
            lifecycles=[PredefinedLifecycle(LifecyclePhase.BUILD)],
            timestamp=datetime.fromtimestamp(EPOCH, UTC),
            tools=ToolRepository(
                components=[CdxComponent(name="lockbuild", type=ComponentType.APPLICATION)]
            ),
        ),
        components=listed,
        dependencies=[
            Dependency(refs[ref], [Dependency(refs[need]) for need in needs])
            for ref, needs in edges.items()
        ],
        vulnerabilities=list(_vulnerabilities(bill)),
    )
    document: dict[str, Any] = json.loads(JsonV1Dot6(bom).output_as_string())
    used = [json.loads(components[part.ref].as_json(view_=_VIEW)) for part in bill.of("used")]  # type: ignore[attr-defined]
    if used:
        document["formulation"] = [{"bom-ref": "build", "components": used}]
    for key, by in (("components", "bom-ref"), ("dependencies", "ref"), ("vulnerabilities", "bom-ref")):
        if key in document:
            document[key].sort(key=lambda one, by=by: one[by])
    # An entry without `dependsOn` is taken for one of a part that needs nothing: none says that nobody knows.
    unread = set(bill.unread)
    document["dependencies"] = [one for one in document["dependencies"] if one["ref"] not in unread]
    for entry in document["dependencies"]:
        # Said, not left out: it is known that nothing is needed, and readers stumble over what is absent.
        entry.setdefault("dependsOn", [])
    if incomplete := _incomplete(bill):
        document["compositions"] = [incomplete]
    del document["serialNumber"]
    document["serialNumber"] = uuid_of(document).urn
    return json.dumps(document, indent=2, sort_keys=True) + "\n"


def _incomplete(bill: Bill) -> dict[str, Any]:
    """Return the composition that says of what more is to be known; the library has no model of it."""
    found: dict[str, Any] = {}
    if bill.unread:
        found["dependencies"] = [_ROOT, *bill.unread]
    if bill.base_unread:
        found["assemblies"] = [_ROOT]
    return {"aggregate": "incomplete", **found} if found else {}


def _root(bill: Bill) -> CdxComponent:
    return CdxComponent(
        bom_ref=_ROOT,
        type=ComponentType.CONTAINER,
        name=bill.stack,
        version=bill.lock[:12],
        description=bill.summary or None,
        properties=[Property(name=LOCK_PROPERTY, value=f"sha256:{bill.lock}")],
    )


def _component(part: Part) -> CdxComponent:
    one = part.component
    purl = PackageURL.from_string(one.purl) if one.purl else None
    kind = _TYPES.get(one.kind, ComponentType.LIBRARY)
    if purl and purl.type == "oci":
        kind = ComponentType.CONTAINER
    elif one.kind == "source" and one.in_image:
        kind = ComponentType.APPLICATION
    hashed = one.sha256 and not part.tree
    return CdxComponent(
        bom_ref=one.ref,
        type=kind,
        name=one.name,
        version=version_of(one) or None,
        purl=purl,
        scope=ComponentScope.OPTIONAL if part.role == "mounted" else None,
        supplier=OrganizationalEntity(name=part.supplier) if part.supplier else None,
        hashes=[HashType(alg=HashAlgorithm.SHA_256, content=one.sha256)] if hashed else (),  # type: ignore[arg-type]
        licenses=list(_licences(one)),
        external_references=list(_references(one)),
        pedigree=_pedigree(part),
        properties=[Property(name=f"lockbuild:{key}", value=value) for key, value in _facts(part)],
    )


def _licences(one: Component) -> Iterator[LicenseExpression | DisjunctiveLicense]:
    if one.licence:
        said = LicenseAcknowledgement.DECLARED if own_words(one) else LicenseAcknowledgement.CONCLUDED
        yield LicenseExpression(one.licence, acknowledgement=said)
    elif one.declared:
        yield DisjunctiveLicense(name=one.declared, acknowledgement=LicenseAcknowledgement.DECLARED)


def _references(one: Component) -> Iterator[ExternalReference]:
    if "://" in one.origin:
        kind = ExternalReferenceType.VCS if one.kind == "source" else ExternalReferenceType.DISTRIBUTION
        yield ExternalReference(type=kind, url=XsUri(one.origin))


def _facts(part: Part) -> Iterator[tuple[str, str]]:
    one = part.component
    yield "kind", one.kind
    if one.built:
        yield "built", "true"
    if one.path:
        yield "store-path", one.path
    if one.source_name:
        yield "source", f"{one.source_name} {one.source_version}".strip()
    if one.installed_size is not None and part.role == "held":
        # What is not in the image may not be in the store either: the document must not change with that.
        yield "installed-size", str(one.installed_size)
    if one.sha256 and part.tree:
        yield "tree-sha256", one.sha256


def _pedigree(part: Part) -> Pedigree | None:
    """Return what it was compiled from, and how that was changed."""
    ancestors = []
    if part.source:
        source = part.source
        # Without a ref: the source itself stands under `formulation`, and refs are unique.
        ancestors.append(
            CdxComponent(
                name=source.name,
                version=version_of(source) or None,
                purl=PackageURL.from_string(source.purl) if source.purl else None,
            )
        )
    edited = part.edited
    if not ancestors and not edited:
        return None
    return Pedigree(
        ancestors=ancestors,
        patches=[
            Patch(type=PatchClassification.UNOFFICIAL, diff=Diff(url=XsUri(path)))
            for path, _ in (edited.patches if edited else ())
        ],
        notes="\n".join(edited.notes) if edited else None,
    )


# ---- vulnerabilities ------------------------------------------------------------------------------


def _vulnerabilities(bill: Bill) -> Iterator[Vulnerability]:
    known = {part.ref for part in (*bill.of("held"), *bill.of("mounted"))}
    taken: set[str] = set()
    for finding in bill.findings:
        if finding.check == "vulnerability":
            facts = dict(finding.facts)
            refs = [ref for ref in facts.get("components", "").split() if ref in known]
            if refs:
                # Two packages may have the same one, also a wheel and a .deb of one name.
                name = f"{facts['id']}:{facts['package']}"
                name = f"{facts['id']}:{refs[0]}" if name in taken else name
                taken.add(name)
                yield _vulnerability(finding, facts, refs, name=name)


def _vulnerability(
    finding: Finding, facts: Mapping[str, str], refs: Sequence[str], *, name: str
) -> Vulnerability:
    source = VulnerabilitySource(name="OSV")
    affected = BomTargetVersionRange(
        version=facts["version"], status=ImpactAnalysisAffectedStatus.AFFECTED
    )
    rating = VulnerabilityRating(
        severity=_SEVERITIES.get(facts["severity"], VulnerabilitySeverity.UNKNOWN),
        score=Decimal(facts["score"]) if facts["score"] else None,
    )
    return Vulnerability(
        bom_ref=name,
        id=facts["id"],
        source=source,
        references=[VulnerabilityReference(id=one, source=source) for one in facts["aliases"].split()],
        ratings=[rating],
        description=finding.message,
        recommendation=f"fixed in {', '.join(facts['fixed'].split())}" if facts["fixed"] else None,
        analysis=VulnerabilityAnalysis(detail=f"waived {finding.waived}") if finding.waived else None,
        affects=[BomTarget(ref=ref, versions=[affected]) for ref in refs],
    )
