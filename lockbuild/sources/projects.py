"""What an index has of a project: its files, and the sdist of one version."""

from __future__ import annotations

import hashlib
import threading
from contextlib import contextmanager
from typing import TYPE_CHECKING

from packaging.utils import InvalidSdistFilename, canonicalize_name, parse_sdist_filename
from packaging.version import InvalidVersion, Version

from lockbuild.digest import Sha256
from lockbuild.errors import FetchError, ResolveError
from lockbuild.lock import LockedFile
from lockbuild.sources.http import Client, Fault, Limits, is_file, redact
from lockbuild.sources.index import Pages, ProjectFile, local_path
from lockbuild.sources.places import Mirrors, index_addresses, page_address

if TYPE_CHECKING:
    from collections.abc import Iterator

__all__ = ["project_files", "sdist"]

_CHUNK = 1024 * 1024


def project_files(
    project: str,
    *,
    index: str = "pypi",
    url: str | None = None,
    mirrors: Mirrors,
    limits: Limits | None = None,
) -> tuple[ProjectFile, ...]:
    """Return the files that the first answering mirror of an index lists for *project*.

    Args:
        index: The index's name.
        url: Its own address, for one that the stack names; configured mirrors are asked before it.

    Raises:
        ResolveError: The index has no such project.
        FetchError: The index cannot be asked.
    """
    with _client(index, url, mirrors, limits) as client:
        return _files(client, project, index, index_addresses(index, url, mirrors))


def sdist(  # noqa: PLR0913 - as keywords
    project: str,
    version: str,
    *,
    index: str = "pypi",
    url: str | None = None,
    mirrors: Mirrors,
    limits: Limits | None = None,
) -> tuple[LockedFile, str]:
    """Return the sdist of one version, and the address where it was seen.

    The sha256 is the index's, which the first fetch verifies; where the index has none, the file is
    downloaded and hashed.

    Raises:
        ResolveError: There is none, or it was yanked.
        FetchError: The index cannot be asked.
    """
    with _client(index, url, mirrors, limits) as client:
        files = _files(client, project, index, index_addresses(index, url, mirrors))
        file = _choose(files, project, version, index)
        if file.sha256 is not None:
            return LockedFile(filename=file.filename, sha256=file.sha256, size=file.size), file.url
        try:
            sha256, size = _hash(client, file.url)
        except Fault as fault:
            raise FetchError(
                f"`{file.filename}`: the index tells no sha256, and the file cannot be downloaded",
                details=(f"{redact(file.url)}: {fault}",),
                unreachable=fault.no_answer,
                tried=((redact(file.url), str(fault)),),
            ) from fault
        return LockedFile(filename=file.filename, sha256=sha256, size=size), file.url


@contextmanager
def _client(index: str, url: str | None, mirrors: Mirrors, limits: Limits | None) -> Iterator[Client]:
    addresses = index_addresses(index, url, mirrors)
    client = Client(
        limits=limits or mirrors.limits, connections=1, stop=threading.Event(), addresses=addresses
    )
    try:
        yield client
    finally:
        client.close()


def _files(
    client: Client, project: str, index: str, addresses: tuple[str, ...]
) -> tuple[ProjectFile, ...]:
    if not addresses:
        raise FetchError(
            f"index `{index}`: no address is known",
            hint=f"configure one (key `indexes.{index}`)",
            unreachable=True,
        )
    pages = Pages(client)
    faults: list[tuple[str, Fault]] = []
    for address in addresses:
        page = page_address(address, canonicalize_name(project))
        try:
            return pages.files(page)
        except Fault as fault:
            faults.append((page, fault))
    details = tuple(f"{redact(page)}: {fault}" for page, fault in faults)
    if all(fault.status == 404 for _, fault in faults):  # noqa: PLR2004
        raise ResolveError(
            f"index `{index}` has no project `{project}`",
            details=details,
            hint="look at the spelling, or say which index has it (`[[python.index]]`)",
        )
    raise FetchError(
        f"index `{index}` cannot be asked for `{project}`",
        details=details,
        hint="look at the network and the proxy settings, then run the same again",
        unreachable=any(fault.no_answer for _, fault in faults),
        tried=tuple((redact(page), str(fault)) for page, fault in faults),
    )


def _choose(files: tuple[ProjectFile, ...], project: str, version: str, index: str) -> ProjectFile:
    try:
        wanted = Version(version)
    except InvalidVersion as error:
        raise ResolveError(f"`{project}=={version}`: `{version}` is not a version") from error
    found = [(v, file) for file in files if (v := _version(file.filename, project)) is not None]
    # Where a version has both, `.tar.gz` is the one that PEP 625 wants.
    named = sorted((file for v, file in found if v == wanted), key=lambda f: f.filename.endswith(".zip"))
    if not named:
        raise ResolveError(
            f"index `{index}` has no sdist of `{project}=={version}`", hint=_versions_hint(found, wanted)
        )
    usable = [file for file in named if file.yanked is None]
    if not usable:
        reason = named[0].yanked or "no reason given"
        raise ResolveError(
            f"the sdist of `{project}=={version}` was yanked from index `{index}`: {reason}",
            hint=_versions_hint([(v, f) for v, f in found if f.yanked is None], wanted),
        )
    return usable[0]


def _version(filename: str, project: str) -> Version | None:
    try:
        name, version = parse_sdist_filename(filename)
    except InvalidSdistFilename:
        return None
    return version if name == canonicalize_name(project) else None


def _versions_hint(found: list[tuple[Version, ProjectFile]], wanted: Version) -> str:
    versions = sorted({version for version, _ in found})
    if not versions:
        return "take the source from elsewhere: it has no sdist at all"
    near = [v for v in versions if v.release[:2] == wanted.release[:2]] or versions
    return f"there are sdists of {', '.join(str(v) for v in near[-5:])}"


def _hash(client: Client, url: str) -> tuple[Sha256, int]:
    if is_file(url):
        try:
            with local_path(url).open("rb") as stream:
                sha256 = Sha256(hashlib.file_digest(stream, "sha256").hexdigest())
                return sha256, stream.tell()
        except OSError as error:
            raise Fault(f"{error.filename}: {error.strerror}") from error

    def attempt() -> tuple[Sha256, int]:
        digest, size = hashlib.sha256(), 0
        with client.open(url) as answer:
            for chunk in answer.chunks(_CHUNK):
                digest.update(chunk)
                size += len(chunk)
        return Sha256(digest.hexdigest()), size

    return client.persist(url, attempt)
