"""A file server on loopback that does what servers do on their bad days.

It serves a folder with ranges, HEAD and keep-alive; a `Fault` changes what one path gets: each request
the same one, or a row of them one request each, after which the server is well. It ends with its `with` block.
"""

from __future__ import annotations

import os
import re
import socket
import ssl
import struct
import threading
import time
from collections import Counter
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import TYPE_CHECKING, Literal
from urllib.parse import unquote, urlsplit

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping
    from pathlib import Path

__all__ = ["Fault", "FaultyServer", "Request", "faulty_server"]

_PAGE = b"<!DOCTYPE html><html><head><title>Sign in</title></head><body>please</body></html>"


@dataclass(frozen=True, slots=True, kw_only=True)
class Fault:
    """What one path gets instead of its file."""

    kind: Literal[
        "truncate", "reset", "stall", "slow", "wrong", "status", "html", "redirect", "plain"
    ] = "plain"
    """`truncate`, `reset`, `stall`: after `after` bytes of the answer the connection is closed, reset or silent.
    `slow`: a pause between pieces. `plain`: the file, with the other fields' changes."""
    after: int = 0
    status: int = 500
    location: str = ""
    headers: tuple[tuple[str, str], ...] = ()
    """Sent as well, and stronger than what the server would say."""
    ranges: bool = True
    """Whether the server can begin in the middle."""
    head: bool = True
    """Whether it answers HEAD."""
    length: bool = True
    """Whether it says how long its answer is."""
    credentials: str | None = None
    """The `Authorization` that it insists on."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Request:
    """One that came."""

    method: str
    path: str
    headers: Mapping[str, str]


@dataclass(slots=True, kw_only=True)
class FaultyServer:
    """A running server: its address, what was asked, and how many bytes of bodies went out for each path."""

    root: Path
    url: str = ""
    faults: dict[str, Fault | tuple[Fault, ...]] = field(default_factory=dict)
    requests: list[Request] = field(default_factory=list)
    sent: Counter[str] = field(default_factory=Counter)
    piece: int = 64 * 1024
    pause_s: float = 0.02
    guard: threading.Lock = field(default_factory=threading.Lock)
    closing: threading.Event = field(default_factory=threading.Event)

    def asked(self, path: str) -> list[Request]:
        """Return the requests for *path*, in order."""
        return [request for request in self.requests if request.path == path]

    def take(self, path: str) -> Fault:
        """Return what this request for *path* gets, and count it."""
        with self.guard:
            faults = self.faults.get(path, ())
            if isinstance(faults, Fault):
                return faults
            earlier = len(self.asked(path)) - 1
            return faults[earlier] if earlier < len(faults) else Fault()


@contextmanager
def faulty_server(
    root: Path,
    faults: Mapping[str, Fault | tuple[Fault, ...]] | None = None,
    *,
    certificate: Path | None = None,
) -> Iterator[FaultyServer]:
    """Serve *root* on loopback as long as the block runs.

    Args:
        certificate: PEM file with certificate and key; with one the server speaks https.
    """
    state = FaultyServer(root=root, faults=dict(faults or {}))
    handler = type("Handler", (_Handler,), {"state": state})
    server = ThreadingHTTPServer(("127.0.0.1", 0), handler)
    server.daemon_threads = True
    server.block_on_close = False
    if certificate:
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(certificate)
        server.socket = context.wrap_socket(
            server.socket, server_side=True, do_handshake_on_connect=False
        )
    state.url = f"{'https' if certificate else 'http'}://127.0.0.1:{server.server_address[1]}"
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.05}, daemon=True)
    thread.start()
    try:
        yield state
    finally:
        state.closing.set()
        server.shutdown()
        server.server_close()
        thread.join()


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    state: FaultyServer

    def log_message(self, format: str, *args: object) -> None:  # noqa: A002 - the base class names it
        """Say nothing."""

    def do_HEAD(self) -> None:
        self._answer()

    def do_GET(self) -> None:
        self._answer()

    def _answer(self) -> None:
        path = urlsplit(self.path).path
        with self.state.guard:
            self.state.requests.append(
                Request(method=self.command, path=path, headers=dict(self.headers.items()))
            )
        fault = self.state.take(path)
        if fault.credentials and self.headers.get("Authorization") != fault.credentials:
            self._simple(401, b"who are you?", {})
        elif self.command == "HEAD" and not fault.head:
            self._simple(405, b"", {})
        elif fault.kind == "status":
            self._simple(fault.status, b"no", dict(fault.headers))
        elif fault.kind == "redirect":
            self._simple(302, b"", {"Location": fault.location})
        elif fault.kind == "html":
            self._simple(200, _PAGE, {"Content-Type": "text/html"})
        else:
            self._file(path, fault)

    def _simple(self, status: int, body: bytes, headers: Mapping[str, str]) -> None:
        self._head(status, {"Content-Length": str(len(body)), **headers})
        if self.command == "GET":
            self._send(body)

    def _head(self, status: int, headers: Mapping[str, str]) -> None:
        self.send_response(status)
        for name, value in headers.items():
            self.send_header(name, value)
        self.end_headers()

    def _file(self, path: str, fault: Fault) -> None:
        file = self.state.root / unquote(path).lstrip("/")
        file = file / "index.html" if file.is_dir() else file
        if ".." in path or not file.is_file():
            self._simple(404, b"no such file", {})
            return
        data = file.read_bytes()
        if fault.kind == "wrong":
            data = bytes(byte ^ 1 for byte in data[:64]) + data[64:]
        start, total = 0, len(data)
        asked = (
            re.fullmatch(r"bytes=(\d+)-(\d*)", self.headers.get("Range", "")) if fault.ranges else None
        )
        headers = {"Content-Type": "application/octet-stream"}
        if asked:
            start = int(asked[1])
            if start >= total:
                self._simple(416, b"", {"Content-Range": f"bytes */{total}"})
                return
            end = min(int(asked[2]) + 1 if asked[2] else total, total)
            data = data[start:end]
            headers["Content-Range"] = f"bytes {start}-{end - 1}/{total}"
        if fault.length:
            headers["Content-Length"] = str(len(data))
        else:
            headers["Connection"] = "close"
        self._head(206 if asked else 200, headers | dict(fault.headers))
        if self.command == "GET":
            self._body(data, fault)

    def _body(self, data: bytes, fault: Fault) -> None:
        if fault.kind not in ("truncate", "reset", "stall"):
            self._send(data, pause=fault.kind == "slow")
            self.close_connection = not fault.length
            return
        self._send(data[: fault.after])
        self.close_connection = True
        if fault.kind == "stall":
            self.state.closing.wait()
        elif fault.kind == "reset":
            # Give what was sent time to be read: a reset throws away what still waits.
            time.sleep(0.2)
            linger = struct.pack("ii", 1, 0)
            self.connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, linger)
            # The handler's files hold the socket too; only the last one to close it sends the reset.
            os.close(self.connection.detach())

    def _send(self, data: bytes, *, pause: bool = False) -> None:
        path = urlsplit(self.path).path
        for begin in range(0, len(data), self.state.piece):
            piece = data[begin : begin + self.state.piece]
            # Counted first: who has read the last piece may ask for the sum at once.
            with self.state.guard:
                self.state.sent[path] += len(piece)
            try:
                self.wfile.write(piece)
            except OSError:
                self.close_connection = True
                return
            if pause and self.state.closing.wait(self.state.pause_s):
                return
