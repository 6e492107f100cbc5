"""A package index on loopback: PEP 503 (HTML) or PEP 691 (JSON) over a folder of wheels and sdists.

The folder is read at every request, so a test may add files while it is served. `faults` may be changed
at any time: a name in it is that of a project (its page) or of a file.
"""

from __future__ import annotations

import hashlib
import html
import json
import re
import threading
import zipfile
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import TYPE_CHECKING, Any, Literal
from urllib.parse import unquote

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping
    from pathlib import Path

__all__ = ["Faults", "IndexServer", "serve_index"]

_JSON = "application/vnd.pypi.simple.v1+json"
_HTML = "text/html; charset=utf-8"


@dataclass(slots=True)
class Faults:
    """What goes wrong, by name of a project or of a file."""

    status: dict[str, int] = field(default_factory=dict)
    """Answer with this HTTP status instead."""
    times: dict[str, int] = field(default_factory=dict)
    """How often `status` is still given before all is well; absent for ever."""
    cut: dict[str, int] = field(default_factory=dict)
    """Announce the whole file, send so many bytes, and hang up."""
    flip: set[str] = field(default_factory=set)
    """Send the file with its last byte changed, though the page tells the right hash."""


@dataclass(frozen=True, slots=True, kw_only=True)
class IndexServer:
    """A running index."""

    url: str
    """Address to be configured as an index, without a slash at its end."""
    faults: Faults
    requests: list[str]
    """Path of every request, in order of arrival."""


@contextmanager
def serve_index(
    folder: Path,
    *,
    form: Literal["html", "json"] = "json",
    content_type: str | None = None,
    hashes: bool = True,
    metadata: bool = False,
    upload_times: Mapping[str, str] | None = None,
    yanked: Mapping[str, str] | None = None,
) -> Iterator[IndexServer]:
    """Serve the wheels and sdists in *folder* as a simple index; stop when the block ends.

    Args:
        form: What a project's page is: HTML (PEP 503) or JSON (PEP 691 and 700).
        content_type: Said of project pages instead of the truth, as some mirrors do.
        hashes: Whether the pages tell sha256.
        metadata: Whether each wheel's METADATA is offered beside it (PEP 658).
        upload_times: File name -> RFC 3339 time; only JSON tells it (PEP 700), as the standards have it.
        yanked: File name -> reason.
    """
    faults, requests = Faults(), list[str]()
    lock = threading.Lock()

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_GET(self) -> None:
            requests.append(self.path)
            kind, _, name = unquote(self.path).strip("/").partition("/")
            name = name.strip("/")
            if (status := _take_fault(faults, name, lock)) is not None:
                self._answer(status, b"broken by the test", "text/plain")
            elif kind == "files" and (folder / name).is_file():
                self._file(name, (folder / name).read_bytes())
            elif kind == "files" and metadata and name.endswith(".whl.metadata"):
                self._answer(200, _metadata(folder / name.removesuffix(".metadata")), "text/plain")
            elif kind == "simple" and (found := _files_of(folder, name)):
                body, said = _page(name, found)
                self._answer(200, body, content_type or said)
            else:
                self._answer(404, b"not found", "text/plain")

        do_HEAD = do_GET  # noqa: N815 - the name http.server looks for

        def _file(self, name: str, data: bytes) -> None:
            if name in faults.flip:
                data = data[:-1] + bytes([data[-1] ^ 1])
            start, end = _range(self.headers.get("Range"), len(data))
            sent = data[start:end]
            self.send_response(200 if len(sent) == len(data) else 206)
            self.send_header("Content-Type", "application/octet-stream")
            self.send_header("Accept-Ranges", "bytes")
            self.send_header("Content-Length", str(len(sent)))
            if len(sent) != len(data):
                self.send_header("Content-Range", f"bytes {start}-{end - 1}/{len(data)}")
            self.end_headers()
            if self.command != "HEAD":
                self.wfile.write(sent[: faults.cut.get(name, len(sent))])
            if name in faults.cut:
                self.close_connection = True

        def _answer(self, status: int, body: bytes, said: str) -> None:
            self.send_response(status)
            self.send_header("Content-Type", said)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            if self.command != "HEAD":
                self.wfile.write(body)

        def log_message(self, format: str, *args: object) -> None:  # noqa: A002
            """Keep the test's output clean."""

    def _page(project: str, found: list[Path]) -> tuple[bytes, str]:
        tables = [_table(path, hashes, upload_times or {}, yanked or {}) for path in found]
        for table, path in zip(tables, found, strict=True):
            if metadata and path.suffix == ".whl":
                table["core-metadata"] = {"sha256": hashlib.sha256(_metadata(path)).hexdigest()}
        return _json_page(project, tables) if form == "json" else _html_page(tables)

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server.daemon_threads = True
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02})
    thread.start()
    try:
        yield IndexServer(
            url=f"http://127.0.0.1:{server.server_port}/simple", faults=faults, requests=requests
        )
    finally:
        server.shutdown()
        thread.join()
        server.server_close()


def _take_fault(faults: Faults, name: str, lock: threading.Lock) -> int | None:
    with lock:
        if name not in faults.status or faults.times.get(name, 1) < 1:
            return None
        if name in faults.times:
            faults.times[name] -= 1
        return faults.status[name]


def _range(header: str | None, size: int) -> tuple[int, int]:
    """Return first byte and the one after the last that a `Range` header asks for."""
    found = re.fullmatch(r"bytes=(\d*)-(\d*)", header or "")
    if not found or found.group(0) == "bytes=-":
        return 0, size
    first, last = found.groups()
    if not first:
        return max(0, size - int(last)), size
    return min(int(first), size), min(int(last) + 1, size) if last else size


def _files_of(folder: Path, project: str) -> list[Path]:
    return [
        path
        for path in sorted(folder.iterdir())
        if path.name.endswith((".whl", ".tar.gz", ".zip")) and _project(path.name) == project
    ]


def _project(filename: str) -> str:
    if filename.endswith(".whl"):
        stem = filename.split("-", maxsplit=1)[0]
    else:
        stem = filename.removesuffix(".zip").removesuffix(".tar.gz").rpartition("-")[0]
    return re.sub(r"[-_.]+", "-", stem).lower()


def _table(
    path: Path, hashes: bool, times: Mapping[str, str], yanked: Mapping[str, str]
) -> dict[str, Any]:
    data = path.read_bytes()
    table: dict[str, Any] = {
        "filename": path.name,
        "url": f"/files/{path.name}",
        "hashes": {"sha256": hashlib.sha256(data).hexdigest()} if hashes else {},
        "size": len(data),
        "yanked": yanked.get(path.name, False),
    }
    return table | ({"upload-time": times[path.name]} if path.name in times else {})


def _metadata(wheel: Path) -> bytes:
    with zipfile.ZipFile(wheel) as archive:
        (name,) = (name for name in archive.namelist() if name.endswith(".dist-info/METADATA"))
        return archive.read(name)


def _json_page(project: str, tables: list[dict[str, Any]]) -> tuple[bytes, str]:
    page = {"meta": {"api-version": "1.1"}, "name": project, "files": tables, "versions": []}
    return json.dumps(page).encode(), _JSON


def _html_page(tables: list[dict[str, Any]]) -> tuple[bytes, str]:
    links = []
    for table in tables:
        digest = table["hashes"].get("sha256")
        address = table["url"] + (f"#sha256={digest}" if digest else "")
        yanked = f' data-yanked="{html.escape(table["yanked"])}"' if table["yanked"] else ""
        told = table.get("core-metadata")
        core = f' data-core-metadata="sha256={told["sha256"]}"' if told else ""
        links.append(f'<a href="{address}"{yanked}{core}>{table["filename"]}</a><br/>')
    page = "<!DOCTYPE html><html><body>" + "\n".join(links) + "</body></html>"
    return page.encode(), _HTML
