"""A package index on loopback, in a process of its own, over a folder of large files.

It hands files over with sendfile, so that it takes as little as can be from whom it serves.
"""

from __future__ import annotations

import hashlib
import multiprocessing
import random
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import TYPE_CHECKING
from urllib.parse import unquote

if TYPE_CHECKING:
    from collections.abc import Iterator
    from multiprocessing.connection import Connection
    from pathlib import Path

__all__ = ["random_file", "serve"]

_BLOCK = 1 << 20


def random_file(path: Path, size: int) -> str:
    """Write *size* bytes that nothing can compress, the same for the same name, and return their sha256."""
    source = random.Random(path.name)
    digest = hashlib.sha256()
    with path.open("wb") as stream:
        for start in range(0, size, _BLOCK):
            block = source.randbytes(min(_BLOCK, size - start))
            digest.update(block)
            stream.write(block)
    return digest.hexdigest()


@contextmanager
def serve(folder: Path) -> Iterator[str]:
    """Serve *folder* and give the address of its root; stop when the block ends."""
    ours, theirs = multiprocessing.Pipe()
    process = multiprocessing.Process(target=_serve, args=(folder, theirs), daemon=True)
    process.start()
    try:
        yield f"http://127.0.0.1:{ours.recv()}"
    finally:
        process.terminate()
        process.join()


def _serve(folder: Path, pipe: Connection) -> None:
    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_GET(self) -> None:
            path = folder / unquote(self.path.partition("?")[0]).strip("/")
            if path.is_dir():
                self._page(path)
            elif path.is_file():
                self._file(path)
            else:
                self.send_error(404)

        do_HEAD = do_GET  # noqa: N815 - the name that the library looks for

        def _page(self, path: Path) -> None:
            links = (
                f'<a href="{name}">{name}</a><br/>' for name in sorted(p.name for p in path.iterdir())
            )
            body = f"<!DOCTYPE html><html><body>{''.join(links)}</body></html>".encode()
            self.send_response(200)
            self.send_header("Content-Type", "text/html; charset=utf-8")
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            if self.command == "GET":
                self.wfile.write(body)

        def _file(self, path: Path) -> None:
            self.send_response(200)
            self.send_header("Content-Type", "application/octet-stream")
            self.send_header("Content-Length", str(path.stat().st_size))
            self.end_headers()
            if self.command == "GET":
                with path.open("rb") as stream:
                    self.connection.sendfile(stream)

        def log_message(self, format: str, *args: object) -> None:  # noqa: A002 - the library's name
            """Say nothing."""

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server.daemon_threads = True
    pipe.send(server.server_port)
    server.serve_forever()
