"""What pages of an index, or of the folder that a file lies in, tell of one file."""

from __future__ import annotations

import hashlib
import threading
from typing import TYPE_CHECKING

from lockbuild.errors import FetchError
from lockbuild.sources.download import asked, told
from lockbuild.sources.http import Client, Fault, Limits
from lockbuild.sources.index import Pages
from lockbuild.sources.places import index_addresses, page_address

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from lockbuild.sources.index import ProjectFile
    from lockbuild.sources.places import Mirrors

__all__ = ["Listed", "listed"]


class Listed:
    """A file as the first page that tells its sha256 has it."""

    def __init__(self, *, file: ProjectFile, page: str, metadata: bytes | None) -> None:
        self.file = file
        self.page = page
        self.metadata = metadata
        """The wheel's METADATA (PEP 658), where the index offers it."""


def listed(  # noqa: PLR0913 - as keywords
    filename: str,
    *,
    project: str,
    index: str,
    index_url: str | None,
    urls: Sequence[str],
    mirrors: Mirrors,
    limits: Limits | None = None,
) -> Listed:
    """Return what is told of *filename*.

    Args:
        project: Its project, normalised.
        index: Name of the index that may list it.
        index_url: The index's own address, where it has one.
        urls: Addresses of the file itself: PEP 503 pages beside it, and the page of its folder, are asked too.

    Raises:
        FetchError: No page tells its sha256; unreachable, where one that might could not be asked.
    """
    addresses = index_addresses(index, index_url, mirrors)
    client = Client(
        limits=limits or mirrors.limits, connections=1, stop=threading.Event(), addresses=addresses
    )
    pages = [page_address(address, project) for address in addresses] if index_url else []
    pages += [page for url in urls for page in _beside(url, project)]
    pages += [page_address(address, project) for address in addresses]
    tried: list[tuple[str, Fault]] = []
    try:
        for page in dict.fromkeys(pages):
            try:
                found = _found(Pages(client).files(page), filename)
                return Listed(file=found, page=page, metadata=_metadata(client, found))
            except Fault as fault:
                tried.append((page, fault))
    finally:
        client.close()
    raise FetchError(
        f"`{filename}`: no page tells its sha256",
        details=told(tried),
        unreachable=any(fault.no_answer for _, fault in tried),
        tried=asked(tried),
    )


def _beside(url: str, project: str) -> Iterator[str]:
    folder = url.partition("#")[0].partition("?")[0].rpartition("/")[0]
    yield page_address(folder, project)
    yield f"{folder}/"


def _found(files: tuple[ProjectFile, ...], filename: str) -> ProjectFile:
    named = [file for file in files if file.filename == filename]
    if not named:
        raise Fault("the page does not list it", status=404)
    for file in named:
        if file.sha256 is not None:
            return file
    raise Fault("the page tells no sha256 of it")


def _metadata(client: Client, file: ProjectFile) -> bytes | None:
    if file.metadata is None:
        return None
    body, _ = client.read(f"{file.url}.metadata", accept="*/*")
    if file.metadata and hashlib.sha256(body).hexdigest() != file.metadata:
        raise Fault("its metadata is not what the page tells the sha256 of")
    return body
