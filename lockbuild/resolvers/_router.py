"""A package index on loopback that sends pip to the one place each package may come from.

pip looks for every package on every index it is given. Behind this one, a package that an index of the
stack serves is looked for there alone, a stub is served from its folder, and all others come from the
default index. Nothing but addresses passes through: pages and files go straight to pip.
"""

from __future__ import annotations

import json
import threading
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import TYPE_CHECKING
from urllib.parse import unquote

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping
    from pathlib import Path

__all__ = ["serve_router"]

_JSON = "application/vnd.pypi.simple.v1+json"
# A stub is older than any `exclude-newer`.
_LONG_AGO = "1980-01-01T00:00:00Z"


@contextmanager
def serve_router(
    *, default: str, elsewhere: Mapping[str, str], stubs: Mapping[str, Path]
) -> Iterator[str]:
    """Serve the index and yield its address; stop when the block ends.

    Args:
        default: Address of the index of all packages that are not named.
        elsewhere: Normalised name -> address of the index that serves it.
        stubs: Normalised name -> its wheel.
    """
    files = {path.name: path for path in stubs.values()}

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_GET(self) -> None:
            kind, _, rest = unquote(self.path).strip("/").partition("/")
            name = rest.strip("/")
            if kind == "stubs" and name in files:
                self._answer(files[name].read_bytes(), "application/octet-stream")
            elif kind == "simple" and name in stubs:
                self._answer(_page(name, stubs[name]), _JSON)
            elif kind == "simple" and name and "/" not in name:
                self._send_to(f"{elsewhere.get(name, default).rstrip('/')}/{name}/")
            else:
                self.send_error(404)

        do_HEAD = do_GET  # noqa: N815 - the name http.server looks for

        def _send_to(self, url: str) -> None:
            self.send_response(302)
            self.send_header("Location", url)
            self.send_header("Content-Length", "0")
            self.end_headers()

        def _answer(self, body: bytes, content_type: str) -> None:
            self.send_response(200)
            self.send_header("Content-Type", content_type)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            if self.command != "HEAD":
                self.wfile.write(body)

        def log_message(self, format: str, *args: object) -> None:  # noqa: A002 - the base class's name
            """Keep standard error for what matters."""

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server.daemon_threads = True
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.05}, daemon=True)
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_port}/simple"
    finally:
        server.shutdown()
        thread.join()
        server.server_close()


def _page(name: str, wheel: Path) -> bytes:
    file = {
        "filename": wheel.name,
        "url": f"/stubs/{wheel.name}",
        "hashes": {},
        "upload-time": _LONG_AGO,
        "size": wheel.stat().st_size,
    }
    page = {"meta": {"api-version": "1.1"}, "name": name, "versions": [], "files": [file]}
    return json.dumps(page).encode()
