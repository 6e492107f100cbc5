"""Fetching over bad lines, from bad servers, with credentials and through proxies."""

from __future__ import annotations

import base64
import hashlib
import socket
import threading
from typing import TYPE_CHECKING

import pytest
from urllib3.connection import HTTPConnection
from urllib3.exceptions import NameResolutionError

from lockbuild.derivation import PoolFile
from lockbuild.errors import UsageError
from lockbuild.process import run
from lockbuild.sources import Limits
from lockbuild.sources.http import Client, _check_redirect, _fault, redact
from lockbuild.sources.http import Fault as Unavailable
from tests.fetching import (
    DATA,
    LIMITS,
    PATH,
    SIZE,
    archives,
    failure,
    get,
    has_data,
    own_environment,
    ranges,
    served_folder,
    wanted,
)
from tests.needs import need
from tests.servers.faulty import Fault, faulty_server

if TYPE_CHECKING:
    from pathlib import Path


@pytest.fixture(autouse=True)
def _own_environment(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    own_environment(monkeypatch, tmp_path / "home")


@pytest.fixture
def root(tmp_path: Path) -> Path:
    return served_folder(tmp_path)


@pytest.fixture
def into(tmp_path: Path) -> Path:
    return tmp_path / "into"


# ---- bad lines and bad servers -----------------------------------------------------------------------


@pytest.mark.parametrize("kind", ["truncate", "reset", "stall"])
def test_broken_transfer_goes_on_where_it_broke(root: Path, into: Path, kind: str) -> None:
    with faulty_server(root, {PATH: (Fault(kind=kind, after=300_000),)}) as server:  # type: ignore[arg-type]
        assert has_data(get(wanted(), into, archives(server.url)))
        assert ranges(server) == [None, "bytes=300000-"]


def test_truncation_without_a_length_goes_on_too(root: Path, into: Path) -> None:
    with faulty_server(root, {PATH: (Fault(kind="truncate", after=300_000, length=False),)}) as server:
        assert has_data(get(wanted(), into, archives(server.url)))
        assert ranges(server) == [None, "bytes=300000-"]


def test_server_without_ranges_is_asked_from_the_beginning(root: Path, into: Path) -> None:
    bad = (Fault(kind="truncate", after=300_000, ranges=False), Fault(ranges=False))
    with faulty_server(root, {PATH: bad}) as server:
        assert has_data(get(wanted(), into, archives(server.url)))
        assert server.sent[PATH] == SIZE + 300_000


def test_line_that_always_breaks_gets_through_while_it_gains(root: Path, into: Path) -> None:
    always = Fault(kind="truncate", after=SIZE // (2 * LIMITS.attempts) + 1)
    with faulty_server(root, {PATH: always}) as server:
        assert has_data(get(wanted(), into, archives(server.url)))
        assert len(server.asked(PATH)) == 2 * LIMITS.attempts


def test_server_that_never_gets_further_is_given_up(root: Path, into: Path) -> None:
    with faulty_server(root, {PATH: Fault(kind="truncate", after=1000, ranges=False)}) as server:
        error = failure(wanted(), into, archives(server.url))
        assert len(server.asked(PATH)) == LIMITS.attempts + 1
    assert "before the end, after 1000 of 700000 bytes (3 tries)" in error.details[0]


def test_server_errors_pass(root: Path, into: Path) -> None:
    with faulty_server(root, {PATH: (Fault(kind="status"), Fault(kind="status", status=503))}) as server:
        assert has_data(get(wanted(), into, archives(server.url)))
        assert len(server.asked(PATH)) == 3


class Waits(threading.Event):
    """Remembers how long it was waited for, and does not wait."""

    def __init__(self) -> None:
        super().__init__()
        self.asked: list[float] = []

    def wait(self, timeout: float | None = None) -> bool:
        self.asked.append(timeout or 0)
        return False


def test_server_that_asks_to_wait_is_waited_for(root: Path) -> None:
    busy = Fault(kind="status", status=429, headers=(("Retry-After", "7"),))
    with faulty_server(root, {PATH: (busy,)}) as server:
        stop = Waits()
        client = Client(limits=LIMITS, connections=1, stop=stop)
        assert client.read(server.url + PATH, accept="*/*")[0] == DATA
    assert stop.asked == [7]


@pytest.mark.parametrize("pause", ["9" * 400, "9" * 5000, "Fri, 31 Dec 99999 23:59:59 GMT", "soon"])
def test_pause_that_nobody_can_mean_is_no_reason_to_fail_otherwise(
    root: Path, into: Path, pause: str
) -> None:
    busy = Fault(kind="status", status=503, headers=(("Retry-After", pause),))
    with faulty_server(root, {PATH: busy}) as server:
        error = failure(wanted(), into, archives(server.url))
    assert "HTTP 503" in error.details[0]
    assert error.unreachable


def test_pauses_grow_and_are_spread(root: Path) -> None:
    with faulty_server(root, {PATH: Fault(kind="status")}) as server:
        stop = Waits()
        client = Client(limits=Limits(attempts=5, backoff_s=1), connections=1, stop=stop)
        with pytest.raises(Unavailable, match="5 tries"):
            client.read(server.url + PATH, accept="*/*")
    assert len(stop.asked) == 4
    assert all(0.75 <= pause / 2**n <= 1.25 for n, pause in enumerate(stop.asked))
    assert len(set(stop.asked)) == 4


def test_host_that_was_unreachable_once_is_tried_once_more_only() -> None:
    stop = Waits()
    client = Client(limits=LIMITS, connections=1, stop=stop)
    for _ in range(3):
        with pytest.raises(Unavailable, match="connection refused"):
            client.read("http://127.0.0.1:9/", accept="*/*")
    assert len(stop.asked) == LIMITS.attempts - 1


def test_server_that_asks_for_an_hour_is_given_up(root: Path, into: Path) -> None:
    busy = Fault(kind="status", status=503, headers=(("Retry-After", "3600"),))
    with faulty_server(root, {PATH: busy}) as server:
        error = failure(wanted(), into, archives(server.url))
        assert len(server.asked(PATH)) == 1
    assert error.details == (
        f"{server.url}{PATH}: HTTP 503 Service Unavailable; it asks to wait for 3600 s",
    )


def test_404_is_not_asked_for_again(root: Path, into: Path) -> None:
    with faulty_server(root, {PATH: Fault(kind="status", status=404)}) as server:
        failure(wanted(), into, archives(server.url))
        assert len(server.asked(PATH)) == 1


def test_redirect_is_followed(root: Path, into: Path) -> None:
    with faulty_server(root, {"/moved": Fault(kind="redirect", location=PATH)}) as server:
        one = wanted(where=PoolFile(vendor="debian", path="moved"))
        assert has_data(get(one, into, archives(server.url)))


def test_redirect_loop_ends(root: Path, into: Path) -> None:
    with faulty_server(root, {PATH: Fault(kind="redirect", location=PATH)}) as server:
        error = failure(wanted(), into, archives(server.url))
    assert "more than 10 redirects" in error.details[0]


def test_redirect_to_a_file_of_this_machine_is_refused(root: Path, into: Path) -> None:
    location = (root / PATH.lstrip("/")).as_uri()
    with faulty_server(root, {PATH: Fault(kind="redirect", location=location)}) as server:
        error = failure(wanted(), into, archives(server.url))
    assert "refused: a redirect to `file:`" in error.details[0]


def test_redirect_from_https_to_http_is_refused_unless_loopback() -> None:
    with pytest.raises(Unavailable, match="from https down to"):
        _check_redirect("https://a.invalid/x", "http://a.invalid/x")
    _check_redirect("https://a.invalid/x", "http://127.0.0.1:8080/x")
    _check_redirect("http://a.invalid/x", "https://a.invalid/x")


def test_html_page_instead_of_the_file_is_recognised(root: Path, into: Path) -> None:
    with faulty_server(root, {PATH: Fault(kind="html")}) as server:
        error = failure(wanted(), into, archives(server.url))
    assert error.details[0].endswith(": an HTML page came instead of the file: `Sign in`")


def test_html_page_of_unknown_size_is_recognised(root: Path, into: Path) -> None:
    with faulty_server(root, {PATH: Fault(kind="html")}) as server:
        error = failure(wanted(size=None), into, archives(server.url))
    assert error.details[0].endswith(": an HTML page came instead of the file: `Sign in`")


def test_no_network_is_told_with_a_hint(into: Path) -> None:
    error = failure(wanted(), into, archives("http://127.0.0.1:9"))
    assert error.details == (f"http://127.0.0.1:9{PATH}: connection refused (3 tries)",)
    assert error.hint is not None
    assert "network" in error.hint


def test_name_that_cannot_be_resolved_is_said_without_the_librarys_own_words() -> None:
    cause = socket.gaierror(socket.EAI_NONAME, "Name or service not known")
    error = NameResolutionError("h.invalid", HTTPConnection("h.invalid"), cause)
    error.__cause__ = cause
    fault = _fault(error)
    assert str(fault) == "the host's name cannot be resolved: Name or service not known"
    assert fault.again
    assert fault.unreachable


# ---- credentials, proxies, certificates --------------------------------------------------------------

BASIC = "Basic " + base64.b64encode(b"us er:s3cret").decode()


def with_credentials(url: str) -> str:
    return url.replace("://", "://us%20er:s3cret@")


def test_credentials_of_the_address_are_used(root: Path, into: Path) -> None:
    with faulty_server(root, {PATH: Fault(credentials=BASIC)}) as server:
        assert has_data(get(wanted(), into, archives(with_credentials(server.url))))


def test_credentials_of_netrc_are_used(root: Path, into: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    netrc = into.parent / "netrc"
    netrc.write_text("machine 127.0.0.1 login me password s3cret\n")
    netrc.chmod(0o600)
    monkeypatch.setenv("NETRC", str(netrc))
    expected = "Basic " + base64.b64encode(b"me:s3cret").decode()
    with faulty_server(root, {PATH: Fault(credentials=expected)}) as server:
        assert has_data(get(wanted(), into, archives(server.url)))


def test_credentials_do_not_follow_a_redirect_to_another_host(root: Path, into: Path) -> None:
    with faulty_server(root) as other, faulty_server(root) as server:
        server.faults[PATH] = Fault(kind="redirect", location=f"{other.url}{PATH}")
        assert has_data(get(wanted(), into, archives(with_credentials(server.url))))
        assert "Authorization" in server.requests[0].headers
        assert "Authorization" not in other.requests[0].headers


@pytest.mark.parametrize(
    "bad",
    [Fault(credentials="other"), Fault(kind="wrong"), Fault(kind="redirect", location=PATH)],
    ids=["denied", "wrong", "loop"],
)
def test_no_message_shows_a_secret(root: Path, into: Path, bad: Fault) -> None:
    with faulty_server(root, {PATH: bad}) as server:
        error = failure(wanted(), into, archives(with_credentials(server.url)))
    said = " ".join((error.message, *error.details, error.hint or ""))
    assert "s3cret" not in said
    assert "***@127.0.0.1" in said


def test_denied_file_hints_at_credentials(root: Path, into: Path) -> None:
    with faulty_server(root, {PATH: Fault(credentials="other")}) as server:
        error = failure(wanted(), into, archives(server.url))
    assert error.hint == "give credentials for 127.0.0.1 in the configured address or in ~/.netrc"


def test_queries_are_struck_out() -> None:
    text = "https://u:p@h.invalid/a?X-Signature=s3cret: HTTP 403 from http://h.invalid/b"
    assert redact(text) == "https://***@h.invalid/a?*** HTTP 403 from http://h.invalid/b"


def test_proxy_of_the_environment_is_asked(
    root: Path, into: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    # A proxy is asked with the whole address; the path in it is that of the file.
    with faulty_server(root) as proxy:
        monkeypatch.setenv("http_proxy", proxy.url)
        assert has_data(get(wanted(), into, archives("http://archive.invalid")))
        assert [request.path for request in proxy.requests] == [PATH]


def test_no_proxy_is_honoured(root: Path, into: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("http_proxy", "http://127.0.0.1:9")
    monkeypatch.setenv("no_proxy", "127.0.0.1")
    with faulty_server(root) as server:
        assert has_data(get(wanted(), into, archives(server.url)))


def test_proxy_that_cannot_be_used_is_named(into: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("http_proxy", "socks5://me:s3cret@127.0.0.1:9")
    with pytest.raises(UsageError, match=r"proxy socks5://127.0.0.1:9: found `socks5`"):
        get(wanted(), into, archives("http://archive.invalid"))


def test_certificate_bundle_that_is_not_there_is_named(
    into: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("REQUESTS_CA_BUNDLE", raising=False)
    monkeypatch.setenv("SSL_CERT_FILE", str(into / "absent.pem"))
    with pytest.raises(UsageError, match=r"SSL_CERT_FILE: .*absent\.pem"):
        get(wanted(), into, archives("https://127.0.0.1:9"))


@pytest.fixture
def certificate(tmp_path: Path) -> Path:
    """Return a PEM file with a key and a certificate for 127.0.0.1 that nobody has signed."""
    need("openssl")
    key, cert = tmp_path / "key.pem", tmp_path / "cert.pem"
    made = run(
        [
            "openssl",
            "req",
            "-x509",
            "-newkey",
            "rsa:2048",
            "-nodes",
            "-days",
            "2",
            "-subj",
            "/CN=loopback",
            "-addext",
            "subjectAltName=IP:127.0.0.1",
            "-keyout",
            str(key),
            "-out",
            str(cert),
        ]
    )
    assert made.returncode == 0, made.stderr
    both = tmp_path / "both.pem"
    both.write_bytes(key.read_bytes() + cert.read_bytes())
    return both


@pytest.mark.parametrize("variable", ["SSL_CERT_FILE", "REQUESTS_CA_BUNDLE"])
def test_certificate_that_the_user_names_is_trusted(
    root: Path, into: Path, certificate: Path, monkeypatch: pytest.MonkeyPatch, variable: str
) -> None:
    monkeypatch.delenv("REQUESTS_CA_BUNDLE", raising=False)
    monkeypatch.setenv(variable, str(certificate.with_name("cert.pem")))
    with faulty_server(root, certificate=certificate) as server:
        assert has_data(get(wanted(), into, archives(server.url)))


def test_certificate_that_nobody_signed_is_refused_at_once(
    root: Path, into: Path, certificate: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("REQUESTS_CA_BUNDLE", raising=False)
    monkeypatch.delenv("SSL_CERT_FILE", raising=False)
    with faulty_server(root, certificate=certificate) as server:
        error = failure(wanted(), into, archives(server.url))
        assert server.requests == []
    assert "certificate verify failed" in error.details[0]
    assert error.details[0].endswith("SSL_CERT_FILE names the certificates to trust")


def test_local_mirror_with_wrong_bytes_tells_both_hashes(root: Path, into: Path) -> None:
    (root / PATH.lstrip("/")).write_bytes(b"x" * SIZE)
    error = failure(wanted(), into, archives(root.as_uri()))
    assert error.details[1:] == (
        f"  expected sha256 {wanted().sha256}",
        f"  found    sha256 {hashlib.sha256(b'x' * SIZE).hexdigest()}",
    )
    assert list(into.iterdir()) == []


def test_local_mirror_without_the_file_is_told(root: Path, into: Path) -> None:
    (root / PATH.lstrip("/")).unlink()
    error = failure(wanted(), into, archives(root.as_uri()))
    assert "there is no file" in error.details[0]
