"""A bill of materials as SPDX 2.3, by the models of SPDX's own library. Pure.

The image CONTAINS what it holds. What it was only compiled with is a BUILD_TOOL_OF it, a built wheel is GENERATED_FROM its
source, and what whoever runs the image brings along is a PROVIDED_DEPENDENCY_OF it.
"""

from __future__ import annotations

import json
import re
from collections import Counter
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

from license_expression import get_spdx_licensing
from spdx_tools.spdx.jsonschema.document_converter import DocumentConverter
from spdx_tools.spdx.model import (
    Actor,
    ActorType,
    Checksum,
    ChecksumAlgorithm,
    CreationInfo,
    Document,
    ExternalPackageRef,
    ExternalPackageRefCategory,
    ExtractedLicensingInfo,
    Package,
    PackagePurpose,
    Relationship,
    RelationshipType,
    SpdxNoAssertion,
)

from lockbuild.digest import sha256_of
from lockbuild.plan import EPOCH
from lockbuild.sbom import own_words, uuid_of, version_of

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping

    from license_expression import LicenseExpression

    from lockbuild.components import Component
    from lockbuild.lock import LockedFile
    from lockbuild.sbom import Bill, Part

__all__ = ["spdx_text"]

_DOCUMENT = "SPDXRef-DOCUMENT"
_ROOT = "SPDXRef-image"
_UNNAMED = "urn:uuid:00000000-0000-0000-0000-000000000000"
_PURPOSES = {
    "asset": PackagePurpose.OTHER,
    "base": PackagePurpose.OPERATING_SYSTEM,
    "interpreter": PackagePurpose.APPLICATION,
    "source": PackagePurpose.SOURCE,
}
_OWN_LICENCE = re.compile(r"(?:DocumentRef-[A-Za-z0-9.-]+:)?LicenseRef-[A-Za-z0-9.-]+")


def spdx_text(bill: Bill) -> str:
    """Return the document: JSON in ASCII, with sorted keys, a newline at its end."""
    patches = {path: file for part in bill.parts if part.edited for path, file in part.edited.patches}
    ids = _ids([*(part.ref for part in bill.parts), *(f"patch:{path}" for path in patches)])
    document = Document(
        creation_info=CreationInfo(
            spdx_version="SPDX-2.3",
            spdx_id=_DOCUMENT,
            name=bill.stack,
            document_namespace=_UNNAMED,
            creators=[Actor(ActorType.TOOL, "lockbuild")],
            # The library takes a time without zone for UTC.
            created=datetime.fromtimestamp(EPOCH, UTC).replace(tzinfo=None),
        ),
        packages=[
            _root(bill),
            *(_package(part, ids) for part in bill.parts),
            *(_patch(path, file, ids) for path, file in sorted(patches.items())),
        ],
        relationships=list(_relationships(bill, ids)),
        extracted_licensing_info=list(_own_licences(part.component for part in bill.parts)),
    )
    converted: dict[str, Any] = DocumentConverter().convert(document)  # type: ignore[no-untyped-call]
    converted["documentNamespace"] = uuid_of(converted).urn
    return json.dumps(converted, indent=2, sort_keys=True) + "\n"


def _ids(refs: Iterable[str]) -> dict[str, str]:
    """Return ref -> identifier, in which SPDX allows letters, digits, dots and dashes alone."""
    plain = {ref: "SPDXRef-" + re.sub(r"[^A-Za-z0-9.]+", "-", ref) for ref in refs}
    taken = Counter(plain.values())
    return {
        ref: f"{text}-{sha256_of(ref.encode())[:8]}" if taken[text] > 1 else text
        for ref, text in plain.items()
    }


def _root(bill: Bill) -> Package:
    return Package(
        spdx_id=_ROOT,
        name=bill.stack,
        version=bill.lock[:12],
        download_location=SpdxNoAssertion(),
        files_analyzed=False,
        supplier=Actor(ActorType.ORGANIZATION, bill.stack),
        license_concluded=SpdxNoAssertion(),
        license_declared=SpdxNoAssertion(),
        copyright_text=SpdxNoAssertion(),
        summary=bill.summary or None,
        comment=f"lock sha256:{bill.lock}",
        primary_package_purpose=PackagePurpose.CONTAINER,
    )


def _package(part: Part, ids: Mapping[str, str]) -> Package:
    one = part.component
    licence = _licence(one.licence)
    purpose = _PURPOSES.get(one.kind, PackagePurpose.LIBRARY)
    if one.purl.startswith("pkg:oci/"):
        purpose = PackagePurpose.CONTAINER
    return Package(
        spdx_id=ids[one.ref],
        name=one.name,
        version=version_of(one) or None,
        download_location=_address(one),
        files_analyzed=False,
        supplier=Actor(ActorType.ORGANIZATION, part.supplier) if part.supplier else SpdxNoAssertion(),
        checksums=[Checksum(ChecksumAlgorithm.SHA256, one.sha256)]
        if one.sha256 and not part.tree
        else [],
        source_info=_source_info(part) or None,
        license_concluded=licence,
        license_declared=licence if own_words(one) else SpdxNoAssertion(),
        license_comment=f"it says of itself: {one.declared}" if one.declared else None,
        copyright_text=SpdxNoAssertion(),
        comment=f"sha256 of the tree's listing: {one.sha256}" if one.sha256 and part.tree else None,
        external_references=[
            ExternalPackageRef(ExternalPackageRefCategory.PACKAGE_MANAGER, "purl", one.purl)
        ]
        if one.purl
        else [],
        primary_package_purpose=purpose,
    )


def _patch(path: str, file: LockedFile, ids: Mapping[str, str]) -> Package:
    return Package(
        spdx_id=ids[f"patch:{path}"],
        name=path,
        version=f"sha256:{file.sha256[:12]}",
        download_location=SpdxNoAssertion(),
        files_analyzed=False,
        supplier=SpdxNoAssertion(),
        checksums=[Checksum(ChecksumAlgorithm.SHA256, file.sha256)],
        license_concluded=SpdxNoAssertion(),
        license_declared=SpdxNoAssertion(),
        copyright_text=SpdxNoAssertion(),
        primary_package_purpose=PackagePurpose.FILE,
    )


def _address(one: Component) -> str | SpdxNoAssertion:
    if "://" not in one.origin:
        return SpdxNoAssertion()
    if one.kind == "source" and re.fullmatch(r"[0-9a-f]{40}", one.version):
        return f"git+{one.origin.removeprefix('git+')}@{one.version}"
    return one.origin


def _source_info(part: Part) -> str:
    one = part.component
    made = f"built from source package {one.source_name} {one.source_version}".strip()
    words = [made] if one.source_name else []
    words += ["compiled by lockbuild"] if one.built else []
    return "\n".join((*words, *(part.edited.notes if part.edited else ())))


# ---- licences -------------------------------------------------------------------------------------


def _licence(expression: str) -> LicenseExpression | SpdxNoAssertion:
    return get_spdx_licensing().parse(expression) if expression else SpdxNoAssertion()


def _own_licences(components: Iterable[Component]) -> Iterator[ExtractedLicensingInfo]:
    """Yield what stands for each licence that is on no list of SPDX's, with what its component says of itself."""
    words: dict[str, str] = {}
    for one in components:
        for name in _OWN_LICENCE.findall(one.licence):
            words.setdefault(name, one.declared)
    for name, declared in sorted(words.items()):
        yield ExtractedLicensingInfo(
            license_id=name,
            license_name=declared or SpdxNoAssertion(),
            extracted_text=declared
            or f"{name.removeprefix('LicenseRef-')}: see the component's licence files",
        )


# ---- relationships --------------------------------------------------------------------------------


def _relationships(bill: Bill, ids: Mapping[str, str]) -> Iterator[Relationship]:
    yield Relationship(_DOCUMENT, RelationshipType.DESCRIBES, _ROOT)
    for part in bill.of("held"):
        yield Relationship(_ROOT, RelationshipType.CONTAINS, ids[part.ref])
    for ref in bill.roots:
        yield Relationship(_ROOT, RelationshipType.DEPENDS_ON, ids[ref])
    for ref, needs in bill.edges.items():
        for need in needs:
            yield Relationship(ids[ref], RelationshipType.DEPENDS_ON, ids[need])
    # Known to be unknown, in the standard's words.
    if bill.base_unread:
        yield Relationship(_ROOT, RelationshipType.CONTAINS, SpdxNoAssertion())
    for one in (_ROOT, *(ids[ref] for ref in bill.unread)) if bill.unread else ():
        yield Relationship(one, RelationshipType.DEPENDS_ON, SpdxNoAssertion())
    for part in bill.of("mounted"):
        yield Relationship(ids[part.ref], RelationshipType.PROVIDED_DEPENDENCY_OF, _ROOT)
    compiled = {part.source.ref for part in bill.parts if part.source}
    for part in bill.of("used"):
        if part.ref not in compiled:
            yield Relationship(ids[part.ref], RelationshipType.BUILD_TOOL_OF, _ROOT)
    for part in bill.parts:
        if part.source:
            yield Relationship(ids[part.ref], RelationshipType.GENERATED_FROM, ids[part.source.ref])
        for path, _ in part.edited.patches if part.edited else ():
            yield Relationship(ids[f"patch:{path}"], RelationshipType.PATCH_FOR, ids[part.ref])
