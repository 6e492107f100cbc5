"""Images of registries, by way of skopeo: what a tag stands for, and every blob of an image.

skopeo talks to the registry: tokens, credentials (`docker login`, `skopeo login`, credential helpers),
certificates and `registries.conf` are the user's own, and none is ever written down. What comes is judged
here: a manifest by its digest, and all else by the manifest.
"""

from __future__ import annotations

import re
import shutil
import subprocess
import time
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass
from ipaddress import ip_address
from typing import TYPE_CHECKING, Literal
from urllib.parse import urlsplit

from lockbuild.baseimage import (
    Manifest,
    Reference,
    blob_name,
    config_env,
    layout_texts,
    parse_index,
    parse_manifest,
    parse_reference,
)
from lockbuild.digest import sha256_of
from lockbuild.errors import FetchError, ResolveError
from lockbuild.hashing import sha256_of_file
from lockbuild.process import need_tool

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable
    from pathlib import Path
    from typing import TypeVar

    from lockbuild.derivation import Fetch
    from lockbuild.progress import Phase
    from lockbuild.sources.places import Mirrors

    _T = TypeVar("_T")

__all__ = ["Described", "describe", "pull"]

_PURPOSE = "asking registries for base images"
_ASK_TIMEOUT_S = 300
_POLL_S = 0.2
_HASHING = 4

_Kind = Literal["absent", "broken", "busy", "damaged", "denied", "full", "unreachable"]

# What skopeo, and registries through it, say. The first that fits counts.
_SAID: tuple[tuple[_Kind, str], ...] = (
    ("full", r"no space left|quota exceeded"),
    ("busy", r"toomanyrequests|too many requests|\b429\b"),
    ("denied", r"unauthorized|authentication required|denied|\b40[13]\b|invalid username"),
    ("absent", r"(manifest|name|blob) unknown|not known to registry|\b404\b"),
    ("damaged", r"did not match|doesn't match|does not match"),
    (
        "unreachable",
        (
            r"pinging container registry|dial tcp|no such host|connection re(fused|set)|unreachable"
            r"|time(d )?out|deadline exceeded|\bEOF\b|x509|\btls\b|proxyconnect|\b5\d\d\b"
        ),
    ),
)
_WORDS: dict[_Kind, str] = {
    "absent": "there is no such image",
    "broken": "skopeo cannot read it",
    "busy": "the registry lets nobody pull so often (429 Too Many Requests)",
    "damaged": "wrong bytes",
    "denied": "the registry wants credentials, or there is no such image",
    "full": "the store's disk is full",
    "unreachable": "the registry cannot be reached",
}
_NO_ANSWER = frozenset({"busy", "denied", "unreachable"})
"""With these nobody knows whether the image is there."""


class _Fault(Exception):
    """One registry could not give what it was asked for."""

    def __init__(self, kind: _Kind, said: str) -> None:
        super().__init__(said)
        self.kind = kind


@dataclass(frozen=True, slots=True, kw_only=True)
class Described:
    """What a registry says of an image, all of it checked."""

    digest: str
    """`sha256:…`, of what the reference stands for: an index or a manifest."""
    manifest: Manifest
    env: tuple[tuple[str, str], ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class _Place:
    """A repository that may have an image."""

    name: str
    """Host and path, without scheme and tag."""
    checked: bool
    """Whether its certificate must be right; else it need not even have one."""

    def read(self, what: str, *options: str) -> bytes:
        """Return a document of the image `NAME:TAG` or `NAME@DIGEST`; `what` is the part after the name."""
        words = [*_skopeo(), "inspect", "--raw", *options, f"--tls-verify={str(self.checked).lower()}"]
        try:
            ended = subprocess.run(
                [*words, f"docker://{self.name}{what}"],
                stdin=subprocess.DEVNULL,
                capture_output=True,
                check=False,
                timeout=_ASK_TIMEOUT_S,
            )
        except subprocess.TimeoutExpired as error:
            raise _Fault("unreachable", f"no answer within {_ASK_TIMEOUT_S} s") from error
        if ended.returncode != 0:
            raise _fault(ended.stderr.decode(errors="replace"))
        return ended.stdout

    def manifest(self, digest: str) -> bytes:
        """Return the index or manifest that has *digest*, and no other."""
        data = self.read(f"@{digest}")
        if (found := f"sha256:{sha256_of(data)}") != digest:
            raise _Fault("damaged", f"expected {digest}, found {found}")
        return data

    def config(self, manifest: Manifest) -> bytes:
        """Return the image's configuration."""
        data = self.read(f"@{manifest.blob.digest}", "--config")
        if sha256_of(data) != manifest.config.sha256:
            raise _Fault("damaged", f"expected {manifest.config.digest}, found sha256:{sha256_of(data)}")
        return data


def describe(reference: Reference, *, architecture: str, mirrors: Mirrors) -> Described:
    """Return what *reference* stands for on Linux and *architecture*, without its layers.

    Raises:
        FetchError: No registry tells: it cannot be reached, wants credentials, or is asked too often.
        ResolveError: There is no such image, or none for that architecture.
        ToolMissing: There is no skopeo.
    """

    def ask(place: _Place) -> Described:
        wanted = reference.digest
        data = place.manifest(wanted) if wanted else place.read(f":{reference.tag}")
        digest = f"sha256:{sha256_of(data)}"
        try:
            chosen = parse_index(data, architecture=architecture)
            manifest = parse_manifest(place.manifest(chosen.digest) if chosen else data)
            env = config_env(place.config(manifest), architecture=architecture)
        except ValueError as error:
            raise ResolveError(
                f"`{reference.tagged}` cannot be a base: {error}", hint="name another image under `base`"
            ) from error
        return Described(digest=digest, manifest=manifest, env=env)

    return _first(reference, mirrors, ask)


def pull(  # noqa: PLR0913 - as keywords
    fetch: Fetch,
    *,
    reference: str,
    architecture: str,
    into: Path,
    work: Path,
    mirrors: Mirrors,
    known: Iterable[Path],
    phase: Phase,
) -> None:
    """Make the empty folder *into* an OCI image layout of the image whose manifest *fetch* names.

    Every blob is hashed once it is there.

    Args:
        work: Folder for blobs on the way, on the file system of *into*. What an interrupted pull left there
            is not pulled again.
        known: Layouts whose blobs need not be pulled again either.
        phase: Told the bytes that came.

    Raises:
        FetchError: No registry gives the image.
        ToolMissing: There is no skopeo.
    """
    digest = f"sha256:{fetch.sha256}"
    layouts = tuple(known)

    def ask(place: _Place) -> None:
        data = place.manifest(digest)
        manifest = parse_manifest(data)
        blobs = work / "blobs"
        _seed(manifest, blobs, layouts)
        _copy(place, digest, work, blobs, phase)
        for name, content in (
            *layout_texts(manifest.blob, architecture=architecture).items(),
            (blob_name(manifest.blob.sha256), data),
            (blob_name(manifest.config.sha256), place.config(manifest)),
        ):
            (into / name).parent.mkdir(parents=True, exist_ok=True)
            (into / name).write_bytes(content)
        _take(manifest, blobs, into)

    work.mkdir(parents=True, exist_ok=True)
    _first(parse_reference(f"{reference}@{digest}"), mirrors, ask)
    shutil.rmtree(work, ignore_errors=True)


def _first(reference: Reference, mirrors: Mirrors, ask: Callable[[_Place], _T]) -> _T:
    """Return what the first place gives.

    Raises:
        FetchError: None gives anything.
        ResolveError: Whoever answered has no such image.
    """
    need_tool("skopeo", purpose=_PURPOSE)
    tried: list[tuple[_Place, _Fault]] = []
    for place in _places(reference, mirrors):
        try:
            return ask(place)
        except _Fault as fault:
            tried.append((place, fault))
    name = f"{reference.tagged}@{reference.digest}" if reference.digest else reference.tagged
    # Only who is asked last is the registry itself: a mirror may lack what it has.
    kind = tried[-1][1].kind
    error = ResolveError if kind == "absent" and not reference.digest else FetchError
    raise error(
        f"`{name}`: {_WORDS[kind]}",
        details=tuple(f"{place.name}: {fault}" for place, fault in tried),
        hint=_hint(kind, reference),
        unreachable=kind in _NO_ANSWER,
        tried=tuple((f"https://{place.name}", str(fault)) for place, fault in tried),
    )


def _hint(kind: _Kind, reference: Reference) -> str:
    mirror = f'a mirror: `registries."{reference.registry}"` in the configuration file'
    hints: dict[_Kind, str] = {
        "absent": f"correct it under `base`, or name {mirror}",
        "broken": "see what it says above; `skopeo --version` tells whether it is an old one",
        "busy": f"wait, log in with `skopeo login {reference.registry}`, or name {mirror}",
        "damaged": f"run the same again, or name {mirror}",
        "denied": f"`skopeo login {reference.registry}` or `docker login {reference.registry}`, then run the same again",
        "full": "make room there, or choose another store with LOCKBUILD_STORE",
        "unreachable": f"look at the network and the proxy settings, or name {mirror}",
    }
    return hints[kind]


def _places(reference: Reference, mirrors: Mirrors) -> Iterable[_Place]:
    """Yield the repositories that may have an image: at the mirrors first, then its own."""
    key = re.sub(r"[.:]", "-", reference.registry)
    for address in dict(mirrors.registries).get(key, ()):
        parts = urlsplit(address if "://" in address else f"https://{address}")
        name = f"{parts.netloc}{parts.path.rstrip('/')}/{reference.repository}"
        yield _Place(name=name, checked=parts.scheme == "https" and not _is_loopback(parts.hostname))
    host = urlsplit(f"https://{reference.registry}").hostname
    yield _Place(name=reference.name, checked=not _is_loopback(host))


def _is_loopback(host: str | None) -> bool:
    try:
        return ip_address(host or "").is_loopback
    except ValueError:
        return host == "localhost"


# ---- skopeo ---------------------------------------------------------------------------------------


def _skopeo() -> list[str]:
    # Its policy is about signatures; here the digest decides.
    return [str(need_tool("skopeo", purpose=_PURPOSE)), "--insecure-policy"]


def _copy(place: _Place, digest: str, work: Path, blobs: Path, phase: Phase) -> None:
    """Have skopeo put every layer that is not there yet into *blobs*.

    The layout it makes is thrown away: to write one it changes manifests of Docker's schema.
    """
    layout = work / "layout"
    shutil.rmtree(layout, ignore_errors=True)
    layout.mkdir()
    words = [
        *(*_skopeo(), "copy", "--quiet", "--retry-times", "2", "--remove-signatures"),
        *("--dest-oci-accept-uncompressed-layers", "--dest-shared-blob-dir", str(blobs)),
        *(f"--src-tls-verify={str(place.checked).lower()}", f"docker://{place.name}@{digest}"),
        f"oci:{layout}:image",
    ]
    with (work / "said").open("w+", encoding="utf-8", errors="replace") as said:
        process = subprocess.Popen(
            words, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=said
        )
        try:
            seen = 0
            while process.poll() is None:
                # skopeo shows how far it is to terminals alone; its files tell.
                size = _size(blobs) + _size(layout)
                phase.advance(size - seen)
                seen = size
                time.sleep(_POLL_S)
        finally:
            if process.poll() is None:
                process.kill()
                process.wait()
        phase.advance(_size(blobs) - seen)
        said.seek(0)
        text = said.read()
    if process.returncode != 0:
        raise _fault(text)


def _size(folder: Path) -> int:
    total = 0
    for path in folder.rglob("*"):
        with suppress(FileNotFoundError):  # renamed meanwhile
            total += path.stat().st_size if path.is_file() else 0
    return total


def _fault(said: str) -> _Fault:
    """Return what skopeo's last words mean."""
    found = re.findall(r'msg="((?:[^"\\]|\\.)*)"', said)
    text = re.sub(r'\\(["\\])', r"\1", found[-1]) if found else said.strip() or "skopeo said nothing"
    text = re.sub(r'^(Error parsing image name "[^"]*"|initializing source \S+): ', "", text)
    kinds = (kind for kind, pattern in _SAID if re.search(pattern, text, re.IGNORECASE))
    kind: _Kind = next(kinds, "broken")
    return _Fault(kind, text.replace("\\n", " "))


# ---- blobs ----------------------------------------------------------------------------------------


def _seed(manifest: Manifest, blobs: Path, layouts: Iterable[Path]) -> None:
    """Copy the layers that other layouts have: base images of one family share most of theirs."""
    for layer in manifest.layers:
        target = blobs / "sha256" / layer.sha256
        origins = (layout / blob_name(layer.sha256) for layout in layouts)
        origin = next((path for path in origins if path.is_file()), None)
        if origin is not None and not target.exists():
            target.parent.mkdir(parents=True, exist_ok=True)
            fresh = target.with_suffix(".new")
            shutil.copyfile(origin, fresh)
            fresh.replace(target)


def _take(manifest: Manifest, blobs: Path, into: Path) -> None:
    """Move the layers into the layout, each hashed.

    Raises:
        _Fault: One has other bytes; it is removed, so that it will be pulled again.
    """

    def take(sha256: str) -> str | None:
        source = blobs / "sha256" / sha256
        try:
            found = sha256_of_file(source)
        except FileNotFoundError:
            return f"sha256:{sha256} did not come"
        if found != sha256:
            source.unlink()
            return f"expected sha256:{sha256}, found sha256:{found}"
        source.replace(into / blob_name(sha256))
        return None

    with ThreadPoolExecutor(max_workers=_HASHING) as pool:
        wanted = sorted({layer.sha256 for layer in manifest.layers})
        faults = [fault for fault in pool.map(take, wanted) if fault]
    if faults:
        raise _Fault("damaged", "; ".join(faults))
