"""From the parts of an archive to the image that they are: manifests, configuration, and what their digests say.

Pure, but for what was read: documents come in as bytes, layers as they were read.
"""

from __future__ import annotations

import json
from dataclasses import dataclass, field, replace
from itertools import pairwise
from typing import TYPE_CHECKING, Any

from lockbuild.baseimage import parse_digest
from lockbuild.digest import sha256_of
from lockbuild.errors import ImageError
from lockbuild.image.layers import MAX_FILES, Room

if TYPE_CHECKING:
    from collections.abc import Mapping

    from lockbuild.digest import Sha256
    from lockbuild.image.layers import Layer

__all__ = ["MAX_DOCUMENTS", "ImageLayer", "LayeredImage", "Parts", "Step", "image_of"]

MAX_DOCUMENTS = 64 << 20
"""Bytes of all documents of an archive."""
_MAX_LAYERS = 500  # Linux's overlayfs has no more
_FURTHER = {
    "healthcheck": "HEALTHCHECK",
    "onbuild": "ONBUILD",
    "shell": "SHELL",
    "volumes": "VOLUME",
    "exposedports": "EXPOSE",
    "stopsignal": "STOPSIGNAL",
    "stoptimeout": "StopTimeout",
}
"""Settings of an image that are told as they are, and the instruction that makes each."""
_SHOWN = 160
"""Characters of an instruction that are shown."""


@dataclass(slots=True)
class Parts:
    """What an archive holds, by the names of its members."""

    documents: dict[str, bytes] = field(default_factory=dict)
    blobs: dict[str, tuple[Sha256, Sha256, Layer]] = field(default_factory=dict)
    """Sha256 as it lies there, sha256 unpacked, and what it holds."""
    links: dict[str, str] = field(default_factory=dict)
    faults: dict[str, ImageError] = field(default_factory=dict)
    """Why a member cannot be read. Archives hold things that are of no image, and of other machines' images."""
    room_for_documents: Room = field(default_factory=lambda: Room(MAX_DOCUMENTS))
    room_for_texts: Room = field(default_factory=Room)
    """Which members are an image's is known at the end alone, so each of an archive counts."""

    def fault(self, name: str, lacking: str) -> ImageError:
        """Return why there is no member called *name*: what is wrong with it, else that it is *lacking*."""
        return self.faults.get(name) or ImageError(lacking)


@dataclass(frozen=True, slots=True, kw_only=True)
class Step:
    """An instruction of the image's history."""

    text: str
    layer: int | None
    """The layer that it made, from 1; none where it only set something."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ImageLayer:
    """A layer and its place in the image."""

    number: int
    """From 1."""
    instruction: str
    """What made it; empty where the history does not tell."""
    diff_id: str
    """Digest of its plain tar."""
    content: Layer

    @property
    def label(self) -> str:
        """What people call it: `3: COPY --from=environment /image/ /`."""
        text = self.instruction
        text = text if len(text) <= _SHOWN else f"{text[: _SHOWN - 1]}…"
        return f"{self.number}: {text}" if text else str(self.number)


@dataclass(frozen=True, slots=True, kw_only=True)
class LayeredImage:
    """An image as it would be run, and all of its layers."""

    digest: str
    """Of its configuration: what engines call its id."""
    tags: tuple[str, ...]
    architecture: str
    env: tuple[tuple[str, str], ...]
    labels: tuple[tuple[str, str], ...]
    """Sorted by name."""
    user: str
    workdir: str
    entrypoint: tuple[str, ...]
    command: tuple[str, ...]
    layers: tuple[ImageLayer, ...]
    """The lowest first."""
    further: tuple[tuple[str, str], ...] = ()
    """What else it sets that engines heed, by the instruction for it, and as JSON: health check, ports and the like."""
    history: tuple[Step, ...] = ()


def image_of(parts: Parts, *, what: str, architecture: str) -> LayeredImage:
    """Return the image that *parts* make.

    Raises:
        ImageError: They make none or several, or are not what their digests say.
    """
    try:
        return _image(parts, what, architecture)
    except (KeyError, TypeError, ValueError, AttributeError, IndexError, RecursionError) as error:
        said = str(error) if isinstance(error, ValueError) else f"{type(error).__name__}: {error}"
        raise ImageError(f"`{what}`: its documents are damaged: {said}") from error


def _image(parts: Parts, what: str, architecture: str) -> LayeredImage:
    named = [
        found
        for name, read in (("manifest.json", _docker), ("index.json", _layout))
        if name in parts.documents
        for found in [read(parts, what, architecture)]
    ]
    if not named:
        # What is cut short or damaged may have had one behind that point.
        raise next(iter(parts.faults.values()), None) or ImageError(
            f"`{what}` holds no image: it has neither `manifest.json` nor `index.json`",
            hint="`docker save` writes archives that can be read",
        )
    first = named[0]
    if any(_same(other) != _same(first) for other in named[1:]):
        raise ImageError(f"`{what}`: `manifest.json` and `index.json` name different images")
    config = _document(parts, first.config, what)
    digest = f"sha256:{sha256_of(_bytes(parts, first.config, what))}"
    layers = _layers(parts, first, config, what)
    # Engines heed no letter's case.
    settings = {key.casefold(): value for key, value in (config.get("config") or {}).items()}
    steps = _history(config, len(layers))
    made = {step.layer: step.text for step in steps if step.layer}
    return LayeredImage(
        digest=digest,
        tags=first.tags,
        architecture=str(config.get("architecture", "")),
        env=tuple(_pair(text) for text in settings.get("env") or ()),
        labels=tuple(sorted((str(k), str(v)) for k, v in (settings.get("labels") or {}).items())),
        user=str(settings.get("user") or ""),
        workdir=str(settings.get("workingdir") or ""),
        entrypoint=tuple(map(str, settings.get("entrypoint") or ())),
        command=tuple(map(str, settings.get("cmd") or ())),
        layers=tuple(replace(one, instruction=made.get(one.number, "")) for one in layers),
        further=tuple(
            (instruction, json.dumps(settings[key], sort_keys=True))
            for key, instruction in _FURTHER.items()
            if settings.get(key)
        ),
        history=steps,
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class _Named:
    """Where the parts of an image are in the archive."""

    config: str
    layers: tuple[str, ...]
    tags: tuple[str, ...] = ()


def _same(named: _Named) -> tuple[object, ...]:
    return (named.config.rpartition("/")[2].removesuffix(".json"), len(named.layers))


# ---- manifests -------------------------------------------------------------------------------------


def _docker(parts: Parts, what: str, _: str) -> _Named:
    """Return what `manifest.json` names, as `docker save` writes it."""
    images = _list(_document(parts, "manifest.json", what), what)
    if len(images) != 1:
        names = [str(tag) for image in images for tag in image.get("RepoTags") or ()]
        raise ImageError(
            f"`{what}` holds {len(images)} images: {', '.join(names) or 'without names'}",
            hint="save each into an archive of its own",
        )
    (image,) = images
    return _Named(
        config=str(image["Config"]),
        layers=tuple(map(str, image.get("Layers") or ())),
        tags=tuple(map(str, image.get("RepoTags") or ())),
    )


def _layout(parts: Parts, what: str, architecture: str) -> _Named:
    """Return what `index.json` names: the image for *architecture*, through indexes in it."""
    document, seen = _document(parts, "index.json", what), 0
    while "manifests" in document:
        seen += 1
        fitting = [d for d in _list(document["manifests"], what) if _fits(d, architecture)]
        # Of an image with several names there is an entry for each of them.
        chosen = tuple({str(d["digest"]): d for d in fitting}.values())
        if len(chosen) != 1 or seen > _MAX_INDEXES:
            raise ImageError(
                f"`{what}` holds {len(chosen)} images for linux/{architecture}, expected one",
                hint="save one image into a layout of its own",
            )
        document = _document(parts, _blob(parts, chosen[0], what), what)
    return _Named(
        config=_blob(parts, document["config"], what),
        layers=tuple(_blob(parts, one, what) for one in _list(document["layers"], what)),
    )


_MAX_INDEXES = 4


def _fits(descriptor: Mapping[str, Any], architecture: str) -> bool:
    platform = descriptor.get("platform")
    if not platform:
        return True
    # What says how an image was made stands among the images, for a machine that there is not.
    return (platform.get("os"), platform.get("architecture")) == ("linux", architecture)


def _blob(parts: Parts, descriptor: Mapping[str, Any], what: str) -> str:
    """Return the member that *descriptor* names, having compared its digest."""
    sha256 = parse_digest(str(descriptor["digest"]))
    name = _resolved(parts, f"blobs/sha256/{sha256}")
    if name in parts.blobs:
        found = parts.blobs[name][0]
    elif name in parts.documents:
        found = sha256_of(parts.documents[name])
    else:
        raise parts.fault(name, f"`{what}` lacks {name}")
    if found != sha256:
        raise ImageError(
            f"`{what}`: {name} is damaged",
            details=(f"expected sha256 {sha256}", f"found    sha256 {found}"),
        )
    return name


def _resolved(parts: Parts, name: str) -> str:
    for _ in range(_MAX_INDEXES):
        if name not in parts.links:
            break
        name = parts.links[name]
    return name


def _bytes(parts: Parts, name: str, what: str) -> bytes:
    if name not in parts.documents:
        raise parts.fault(name, f"`{what}` lacks {name}")
    return parts.documents[name]


def _document(parts: Parts, name: str, what: str) -> Any:  # noqa: ANN401 - any JSON value
    try:
        return json.loads(_bytes(parts, name, what), object_pairs_hook=_table)
    except (ValueError, RecursionError) as error:
        raise ImageError(f"`{what}`: {name} is no JSON: {error}") from error


def _table(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    """Return the table of these *pairs*: which of two equal keys counts, not all readers agree on."""
    table = dict(pairs)
    if len({key.casefold() for key in table}) < len(pairs):
        keys = sorted((key for key, _ in pairs), key=str.casefold)
        twice = next(b for a, b in pairwise(keys) if a.casefold() == b.casefold())
        msg = f"`{twice}` stands there twice"
        raise ValueError(msg)
    return table


def _list(value: Any, what: str) -> list[dict[str, Any]]:  # noqa: ANN401 - any JSON value
    if not isinstance(value, list) or not all(isinstance(item, dict) for item in value):
        raise ImageError(f"`{what}`: its documents are damaged: expected a list of tables")
    return value


# ---- layers ----------------------------------------------------------------------------------------


def _layers(parts: Parts, named: _Named, config: Mapping[str, Any], what: str) -> tuple[ImageLayer, ...]:
    expected = [str(digest) for digest in (config.get("rootfs") or {}).get("diff_ids") or ()]
    if len(expected) != len(named.layers):
        raise ImageError(
            f"`{what}`: its manifest names {len(named.layers)} layers, its configuration {len(expected)}"
        )
    if len(expected) > _MAX_LAYERS:
        raise ImageError(f"`{what}` has {len(expected):,} layers, at most {_MAX_LAYERS} are read")
    stem = named.config.rpartition("/")[2].removesuffix(".json")
    found = sha256_of(_bytes(parts, named.config, what))
    # The names of both kinds of archive are digests.
    if stem.isalnum() and len(stem) == len(found) and stem != found:
        raise ImageError(
            f"`{what}`: {named.config} is damaged",
            details=(f"expected sha256 {stem}", f"found    sha256 {found}"),
        )
    layers = []
    for number, (name, digest) in enumerate(zip(named.layers, expected, strict=True), 1):
        place = _resolved(parts, name)
        if place not in parts.blobs:
            raise parts.fault(place, f"`{what}` lacks layer {number}, {name}, or it is no tar")
        _, plain, content = parts.blobs[place]
        if f"sha256:{plain}" != digest:
            raise ImageError(
                f"`{what}`: layer {number}, {name}, is not what the configuration names",
                details=(f"expected {digest}", f"found    sha256:{plain}"),
            )
        layers.append(ImageLayer(number=number, instruction="", diff_id=digest, content=content))
        if sum(len(one.content.files) for one in layers) > MAX_FILES:
            raise ImageError(f"`{what}`: its layers have more than {MAX_FILES:,} files")
    return tuple(layers)


def _history(config: Mapping[str, Any], layers: int) -> tuple[Step, ...]:
    """Return the instructions and which layer each made; nothing where they are not of these layers."""
    entries = _list(config.get("history") or [], "the configuration")
    if sum(not entry.get("empty_layer") for entry in entries) != layers:
        return ()
    steps, number = [], 0
    for entry in entries:
        made = not entry.get("empty_layer")
        number += made
        text = _instruction(str(entry.get("created_by") or ""))
        steps.append(Step(text=text, layer=number if made else None))
    return tuple(steps)


def _instruction(text: str) -> str:
    """Return an instruction on one line, without what engines put around it."""
    words = " ".join("".join(c if c.isprintable() else " " for c in text).split())
    for prefix in ("/bin/sh -c #(nop) ", "RUN /bin/sh -c #(nop) "):
        words = words.removeprefix(prefix).strip()
    return words.removesuffix(" # buildkit")


def _pair(text: object) -> tuple[str, str]:
    name, _, value = str(text).partition("=")
    return name, value
