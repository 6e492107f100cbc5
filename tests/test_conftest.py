"""What tests may not do: reach past this machine's loopback."""

from __future__ import annotations

import socket
from typing import TYPE_CHECKING

import pytest

from tests import conftest

if TYPE_CHECKING:
    from collections.abc import Callable

Refused = pytest.fail.Exception


@pytest.mark.parametrize("host", ["192.0.2.1", "2001:db8::1", "example.org"])
def test_hosts_elsewhere_cannot_be_connected_to(host: str) -> None:
    with pytest.raises(Refused, match="loopback only"):
        socket.create_connection((host, 80), timeout=1)


def test_nothing_is_sent_elsewhere() -> None:
    with socket.socket(type=socket.SOCK_DGRAM) as sender, pytest.raises(Refused):
        sender.sendto(b"", ("192.0.2.1", 9))


def test_servers_listen_on_loopback_only() -> None:
    with socket.socket() as server, pytest.raises(Refused):
        server.bind(("0.0.0.0", 0))


@pytest.mark.parametrize("host", ["127.0.0.1", "localhost"])
def test_loopback_is_open(host: str) -> None:
    with (
        socket.create_server(("127.0.0.1", 0)) as server,
        socket.create_connection((host, server.getsockname()[1]), timeout=10) as client,
    ):
        assert client.getpeername()[0] == "127.0.0.1"


def test_levels_below_3_open_no_socket(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(conftest._guard, "reach", "nothing")
    with pytest.raises(Refused, match="levels 0 to 2"):
        socket.socket()


def test_golden_text_must_be_the_files_text(golden: Callable[[str, str], None], *, accept: bool) -> None:
    if accept:
        pytest.skip("golden files are being written")
    with pytest.raises(AssertionError, match="pytest --accept"):
        golden("digests.json", "something else")
