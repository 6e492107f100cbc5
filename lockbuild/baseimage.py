"""Base images as registries describe them: references, indexes, manifests, configurations, layouts. Pure.

The documents are those of the OCI image specification 1.1, and Docker's of its second schema, which have
the same fields: https://github.com/opencontainers/image-spec
"""

from __future__ import annotations

import json
import re
from dataclasses import dataclass
from typing import Any

from lockbuild.digest import JsonValue, Sha256, canonical_json, parse_sha256, sha256_of

__all__ = [
    "Blob",
    "Manifest",
    "Reference",
    "blob_name",
    "config_env",
    "is_image_name",
    "layout_texts",
    "parse_digest",
    "parse_index",
    "parse_manifest",
    "parse_reference",
]

_OCI = "application/vnd.oci.image."
_DOCKER = "application/vnd.docker.distribution."
_INDEXES = (f"{_OCI}index.v1+json", f"{_DOCKER}manifest.list.v2+json")
_MANIFESTS = (f"{_OCI}manifest.v1+json", f"{_DOCKER}manifest.v2+json")
_LAYERS = frozenset(
    {
        *(f"{_OCI}layer.v1.tar{packed}" for packed in ("", "+gzip", "+zstd")),
        *(f"application/vnd.docker.image.rootfs.diff.tar{packed}" for packed in ("", ".gzip", ".zstd")),
    }
)

# https://github.com/distribution/reference: a host has a dot or a port, or is `localhost`.
_REGISTRY = (
    r"(?P<registry>localhost(?::\d+)?|[a-zA-Z0-9-]+(?:\.[a-zA-Z0-9-]+)+(?::\d+)?|[a-zA-Z0-9-]+:\d+)"
)
_REPOSITORY = (
    r"(?P<repository>[a-z0-9]+(?:(?:\.|_|__|-+)[a-z0-9]+)*(?:/[a-z0-9]+(?:(?:\.|_|__|-+)[a-z0-9]+)*)*)"
)
_TAG = r"(?::(?P<tag>[A-Za-z0-9_][A-Za-z0-9_.-]{0,127}))?"
_REFERENCE = re.compile(
    rf"{_REGISTRY}/{_REPOSITORY}{_TAG}(?:@(?P<digest>sha256:[0-9a-f]{{64}}))?", re.ASCII
)
_NAME = re.compile(rf"(?:{_REGISTRY}/)?{_REPOSITORY}{_TAG}", re.ASCII)
_VARIABLE = re.compile(r"[A-Za-z_][A-Za-z0-9_]*", re.ASCII)
_UNPRINTABLE = re.compile(r"[\x00-\x1f\x7f]")


@dataclass(frozen=True, slots=True, kw_only=True)
class Reference:
    """The name of an image in a registry."""

    registry: str
    """Host, with its port where it has one: `docker.io`."""
    repository: str
    """`nvidia/cuda`."""
    tag: str | None
    digest: str | None
    """`sha256:…`."""

    @property
    def name(self) -> str:
        """Registry and repository."""
        return f"{self.registry}/{self.repository}"

    @property
    def tagged(self) -> str:
        """The name, with its tag where it has one."""
        return f"{self.name}:{self.tag}" if self.tag else self.name


def parse_reference(text: str) -> Reference:
    """Return the reference that *text* is.

    Raises:
        ValueError: It is none, or names neither tag nor digest; the message says what was expected.
    """
    found = _REFERENCE.fullmatch(text)
    if found is None or not (found["tag"] or found["digest"]):
        msg = "an image with its registry and a tag or digest: `docker.io/nvidia/cuda:TAG@sha256:…`"
        raise ValueError(msg)
    repository = found["repository"]
    if found["registry"] == "docker.io" and "/" not in repository:
        repository = f"library/{repository}"  # as Docker Hub calls its own
    return Reference(
        registry=found["registry"], repository=repository, tag=found["tag"], digest=found["digest"]
    )


def is_image_name(text: str) -> bool:
    """Return whether an engine takes *text* as a name for an image: `team/cpu:1.0`, its registry before it or not."""
    return _NAME.fullmatch(text) is not None


def parse_digest(text: str) -> Sha256:
    """Return the hexadecimal digits of a `sha256:…`.

    Raises:
        ValueError: It is none.
    """
    if not re.fullmatch(r"sha256:[0-9a-f]{64}", text):
        msg = f"not a digest (`sha256:` and 64 hexadecimal digits): {text!r}"
        raise ValueError(msg)
    return parse_sha256(text.removeprefix("sha256:"))


@dataclass(frozen=True, slots=True, kw_only=True)
class Blob:
    """A piece of an image, known by its content."""

    media_type: str
    sha256: Sha256
    size: int

    @property
    def digest(self) -> str:
        """The hash as registries write it."""
        return f"sha256:{self.sha256}"


@dataclass(frozen=True, slots=True, kw_only=True)
class Manifest:
    """An image for one platform."""

    blob: Blob
    """The manifest itself."""
    config: Blob
    layers: tuple[Blob, ...]
    """From the lowest to the topmost."""

    @property
    def size(self) -> int:
        """Bytes of all blobs together."""
        return sum(blob.size for blob in {*self.layers, self.config, self.blob})


def _document(data: bytes) -> dict[str, Any]:
    try:
        document = json.loads(data)
    except ValueError as error:
        msg = f"not JSON: {error}"
        raise ValueError(msg) from error
    if not isinstance(document, dict) or document.get("schemaVersion") != 2:  # noqa: PLR2004 - the standard's
        msg = "neither a manifest nor an index of the OCI's or of Docker's second schema"
        raise ValueError(msg)
    return document


def _media_type(document: dict[str, Any]) -> str:
    # In a document of the OCI's it may be left out.
    guess = _INDEXES[0] if "manifests" in document else _MANIFESTS[0]
    return str(document.get("mediaType") or guess)


def _blob(table: Any) -> Blob:  # noqa: ANN401 - whatever a registry sent
    try:
        size = table["size"]
        if not isinstance(size, int) or size < 0:
            raise ValueError(size)
        return Blob(
            media_type=str(table["mediaType"]), sha256=parse_digest(str(table["digest"])), size=size
        )
    except (KeyError, TypeError) as error:
        msg = f"a descriptor without digest, size or media type: {table!r}"
        raise ValueError(msg) from error


def parse_index(data: bytes, *, architecture: str) -> Blob | None:
    """Return the manifest for Linux on *architecture* that an index names; none where *data* is no index.

    Raises:
        ValueError: It is no document of a registry, or the index has no such manifest.
    """
    document = _document(data)
    if _media_type(document) not in _INDEXES:
        return None
    platforms = []
    for table in document.get("manifests") or ():
        platform = table.get("platform") or {}
        if (platform.get("os"), platform.get("architecture")) == ("linux", architecture):
            return _blob(table)
        platforms.append(f"{platform.get('os')}/{platform.get('architecture')}")
    listed = ", ".join(dict.fromkeys(platforms)) or "nothing"
    msg = f"the image is not made for linux/{architecture}, only for {listed}"
    raise ValueError(msg)


def parse_manifest(data: bytes) -> Manifest:
    """Return the manifest in *data*.

    Raises:
        ValueError: It is none, or a layer is of a kind that cannot be unpacked.
    """
    document = _document(data)
    media_type = _media_type(document)
    if media_type not in _MANIFESTS:
        msg = f"found a document of type `{media_type}`, expected an image's manifest"
        raise ValueError(msg)
    layers = tuple(_blob(table) for table in document.get("layers") or ())
    strange = sorted({layer.media_type for layer in layers} - _LAYERS)
    if strange:
        msg = f"layers of a kind that is not understood: {', '.join(strange)}"
        raise ValueError(msg)
    blob = Blob(media_type=media_type, sha256=sha256_of(data), size=len(data))
    return Manifest(blob=blob, config=_blob(document.get("config")), layers=layers)


def config_env(data: bytes, *, architecture: str) -> tuple[tuple[str, str], ...]:
    """Return the environment variables that an image's configuration sets, sorted.

    Raises:
        ValueError: It is none, or of an image for another machine.
    """
    document = json.loads(data)
    if not isinstance(document, dict):
        msg = "not an image's configuration"
        raise ValueError(msg)  # noqa: TRY004 - what a registry sends is a value
    if (found := document.get("architecture")) != architecture:
        msg = f"the image is made for {found}, expected {architecture}"
        raise ValueError(msg)
    pairs = (str(entry).partition("=") for entry in (document.get("config") or {}).get("Env") or ())
    # What no Dockerfile and no lock can hold on one line is of no use to a build either.
    env = {
        name: value
        for name, _, value in pairs
        if _VARIABLE.fullmatch(name) and not _UNPRINTABLE.search(value)
    }
    return tuple(sorted(env.items()))


# ---- layouts --------------------------------------------------------------------------------------


def blob_name(sha256: str) -> str:
    """Return where a blob is in a layout."""
    return f"blobs/sha256/{sha256}"


def layout_texts(manifest: Blob, *, architecture: str) -> dict[str, bytes]:
    """Return file name -> content of what an OCI image layout holds beside its blobs.

    It says nothing of where the image came from: the same image gives the same bytes.
    """
    entry: dict[str, JsonValue] = {
        "mediaType": manifest.media_type,
        "digest": manifest.digest,
        "size": manifest.size,
        "platform": {"architecture": architecture, "os": "linux"},
    }
    index: dict[str, JsonValue] = {"schemaVersion": 2, "mediaType": _INDEXES[0], "manifests": [entry]}
    return {
        "index.json": canonical_json(index),
        "oci-layout": canonical_json({"imageLayoutVersion": "1.0.0"}),
    }
