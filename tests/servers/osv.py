"""OSV's query service on loopback: answers what records of a test list a version, as the real one enumerates them."""

from __future__ import annotations

import json
import threading
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

__all__ = ["serve_osv"]


@contextmanager
def serve_osv(records: Sequence[dict[str, Any]]) -> Iterator[str]:
    """Serve *records*, and yield the address that queries are sent to; stop when the block ends."""

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            query = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
            found = [one for one in records if _lists(one, **query["package"], version=query["version"])]
            body = json.dumps({"vulns": found} if found else {}).encode()
            self.send_response(200)
            self.send_header("Content-Type", "application/json")
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, format: str, *args: object) -> None:  # noqa: A002
            """Keep the test's output clean."""

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server.daemon_threads = True
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02})
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_port}/v1/query"
    finally:
        server.shutdown()
        thread.join()
        server.server_close()


def _lists(record: dict[str, Any], *, name: str, ecosystem: str, version: str) -> bool:
    return any(
        affected["package"] == {"ecosystem": ecosystem, "name": name} and version in affected["versions"]
        for affected in record["affected"]
    )
