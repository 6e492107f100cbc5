"""Pages of a Python package index: PEP 503's HTML and PEP 691's JSON, told apart by the body.

Read with the standard library. mousebender, which parses such pages too, goes by the content type that
the server claims, and mirrors are known to send one and mean the other; it knows neither `<base>` nor
upload times in HTML.
"""

from __future__ import annotations

import json
import threading
from dataclasses import dataclass
from html.parser import HTMLParser
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import parse_qs, unquote, urldefrag, urljoin, urlsplit
from urllib.request import url2pathname

from lockbuild.digest import Sha256, parse_sha256
from lockbuild.sources.http import Fault, is_file

if TYPE_CHECKING:
    from lockbuild.sources.http import Client

__all__ = ["Pages", "ProjectFile", "local_path", "parse_page"]

_ACCEPT = (
    "application/vnd.pypi.simple.v1+json, application/vnd.pypi.simple.v1+html;q=0.2, text/html;q=0.1"
)
_GUARD = b"\xef\xbb\xbf \t\r\n"


@dataclass(frozen=True, slots=True, kw_only=True)
class ProjectFile:
    """One file on a project's page."""

    filename: str
    """As the index says it. Never used as a path."""
    url: str
    """Absolute, without a fragment."""
    sha256: Sha256 | None = None
    """As the index says it; none where it says nothing usable."""
    size: int | None = None
    yanked: str | None = None
    """Why the file was withdrawn, empty when no reason is given; none for a file that was not."""
    upload_time: str | None = None
    metadata: str | None = None
    """sha256 of the wheel's METADATA that lies beside it (PEP 658), empty where it is not told; none where the
    index offers none."""


def parse_page(body: bytes, *, url: str) -> tuple[ProjectFile, ...]:
    """Return the files on a project's page.

    Args:
        url: The page's address after redirects; links are relative to it.

    Raises:
        ValueError: It is no such page.
    """
    text = body.lstrip(_GUARD).decode(errors="replace")
    if text.startswith("{"):
        try:
            document = json.loads(text)
        except RecursionError as error:
            msg = "JSON that is nested too deeply"
            raise ValueError(msg) from error
        return _parse_json(document, url)
    if text.startswith("<"):
        return _parse_html(text, url)
    msg = "neither HTML nor JSON"
    raise ValueError(msg)


def _parse_json(document: dict[str, Any], url: str) -> tuple[ProjectFile, ...]:
    files = document.get("files")
    if not isinstance(files, list):
        msg = "JSON without a list of `files`"
        raise ValueError(msg)  # noqa: TRY004 - the text is wrong, not a type of ours
    return tuple(_from_json(entry, url) for entry in files if _usable(entry))


def _usable(entry: object) -> bool:
    return (
        isinstance(entry, dict)
        and isinstance(entry.get("filename"), str)
        and isinstance(entry.get("url"), str)
    )


def _from_json(entry: dict[str, Any], url: str) -> ProjectFile:
    yanked = entry.get("yanked") or None
    hashes = entry.get("hashes")
    size = entry.get("size")
    upload_time = entry.get("upload-time")
    return ProjectFile(
        filename=entry["filename"],
        url=urldefrag(urljoin(url, entry["url"])).url,
        sha256=_sha256(hashes.get("sha256")) if isinstance(hashes, dict) else None,
        size=size if isinstance(size, int) else None,
        yanked=yanked if isinstance(yanked, str) or yanked is None else "",
        upload_time=upload_time if isinstance(upload_time, str) else None,
        metadata=_metadata(entry.get("core-metadata", entry.get("dist-info-metadata"))),
    )


def _metadata(value: object) -> str | None:
    """Return what is told of a wheel's metadata: `true`, or hashes; in HTML, where all is text, one of them."""
    if isinstance(value, dict):
        return _sha256(value.get("sha256")) or ""
    if isinstance(value, str) and value.startswith("sha256="):
        return _sha256(value.removeprefix("sha256=")) or ""
    return "" if value is True or value == "true" else None


class _Anchors(HTMLParser):
    """Collects the links of a page and its `<base>`."""

    def __init__(self) -> None:
        super().__init__()
        self.base: str | None = None
        self.links: list[dict[str, str | None]] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        values = dict(attrs)
        if tag == "base" and self.base is None:
            self.base = values.get("href")
        elif tag == "a" and values.get("href"):
            self.links.append(values)


def _parse_html(text: str, url: str) -> tuple[ProjectFile, ...]:
    anchors = _Anchors()
    anchors.feed(text)
    anchors.close()
    base = urljoin(url, anchors.base) if anchors.base else url
    return tuple(_from_html(link, base) for link in anchors.links)


def _from_html(link: dict[str, str | None], base: str) -> ProjectFile:
    address, fragment = urldefrag(urljoin(base, (link["href"] or "").strip()))
    yanked = link.get("data-yanked") if "data-yanked" in link else None
    return ProjectFile(
        # PEP 503: the link's text is the last part of its address; the address is what is asked for.
        filename=unquote(urlsplit(address).path.rpartition("/")[2]),
        url=address,
        sha256=_sha256(parse_qs(fragment).get("sha256", [None])[0]),
        yanked=(yanked or "") if "data-yanked" in link else None,
        upload_time=link.get("data-upload-time"),
        metadata=_metadata(link.get("data-core-metadata", link.get("data-dist-info-metadata"))),
    )


def _sha256(text: object) -> Sha256 | None:
    try:
        return parse_sha256(text) if isinstance(text, str) else None
    except ValueError:
        return None


class Pages:
    """The pages seen in one run: each is asked for once, however many threads want it."""

    def __init__(self, client: Client) -> None:
        self._client = client
        self._guard = threading.Lock()
        self._locks: dict[str, threading.Lock] = {}
        self._seen: dict[str, tuple[ProjectFile, ...]] = {}
        self._faults: dict[str, Fault] = {}

    def files(self, url: str) -> tuple[ProjectFile, ...]:
        """Return the files on the page at *url*.

        Raises:
            Fault: There is no such page.
        """
        with self._guard:
            lock = self._locks.setdefault(url, threading.Lock())
        with lock:
            if url in self._faults:
                raise self._faults[url]
            if url not in self._seen:
                try:
                    self._seen[url] = self._read(url)
                except Fault as fault:
                    self._faults[url] = Fault(str(fault), status=fault.status, no_answer=fault.no_answer)
                    raise
            return self._seen[url]

    def _read(self, url: str) -> tuple[ProjectFile, ...]:
        if is_file(url):
            body, final = _read_local(url), url
        else:
            body, final = self._client.read(url, accept=_ACCEPT)
        try:
            files = parse_page(body, url=final)
        except ValueError as error:
            raise Fault(f"not an index page: {error}") from error
        if is_file(final):
            return files
        # A page from the network may not lead to files of this machine.
        return tuple(file for file in files if not is_file(file.url))


def local_path(url: str) -> Path:
    """Return the path that a `file:` address names."""
    return Path(url2pathname(urlsplit(url).path))


def _read_local(url: str) -> bytes:
    path = local_path(url)
    try:
        return (path / "index.html" if path.is_dir() else path).read_bytes()
    except FileNotFoundError as error:
        raise Fault(f"there is no file {error.filename}", status=404) from error
    except OSError as error:
        raise Fault(f"{error.filename}: {error.strerror}") from error
