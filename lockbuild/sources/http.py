"""One HTTP client for all of `lockbuild.sources`: redirects, retries, and what went wrong in words.

urllib3, and not requests or httpx, because the Docker SDK brings it anyway, it is well kept, reads a
body in large pieces without decoding it, and leaves redirects to the caller, who must judge them.
No address leaves this module with a secret in it.
"""

from __future__ import annotations

import ipaddress
import random
import re
from contextlib import contextmanager
from http.client import IncompleteRead
from typing import TYPE_CHECKING, TypeVar
from urllib.parse import urljoin, urlsplit

from urllib3 import exceptions
from urllib3.util import Retry, Timeout

from lockbuild.sources.access import Credentials, Pools, bare, origin
from lockbuild.sources.places import Limits

if TYPE_CHECKING:
    import threading
    from collections.abc import Callable, Iterable, Iterator, Mapping

    from urllib3.response import BaseHTTPResponse

__all__ = ["Answer", "Client", "Fault", "Limits", "is_file", "redact"]

_MAX_REDIRECTS = 10
_REDIRECTS = frozenset({301, 302, 303, 307, 308})
_AGAIN = frozenset({408, 425, 429, 500, 502, 503, 504})
_DENIED = frozenset({401, 403, 407, 451})
_AGES_S = 1e9
_PAGE_LIMIT = 256 * 1024 * 1024
_USER_INFO = re.compile(r"(?<=://)[^/?#\s]*@")


class Fault(Exception):
    """One address could not give what it was asked for; `str()` says why, without secrets."""

    def __init__(  # noqa: PLR0913 - each is a fact of its own
        self,
        reason: str,
        *,
        again: bool = False,
        unreachable: bool = False,
        status: int | None = None,
        pause_s: float | None = None,
        details: tuple[str, ...] = (),
        no_answer: bool = False,
        other_file: bool = False,
    ) -> None:
        super().__init__(reason)
        self.again = again  # whether the same address may answer better later
        self.unreachable = unreachable  # whether there was no connection at all
        self.status = status
        self.pause_s = pause_s  # what the server asked for
        self.details = details
        self.other_file = other_file  # whether a page or a pointer came in the file's place
        # Whether the address may have what is wanted all the same: it was not reached, or let nobody in.
        self.no_answer = no_answer or again or unreachable or status in _DENIED or (status or 0) >= 500  # noqa: PLR2004


def redact(text: str) -> str:
    """Return *text* with the credentials of every address in it struck out, and the queries too."""
    # Signed addresses carry their secret in the query.
    return re.sub(r"(://[^\s?#`]*)\?[^\s#`]*", r"\1?***", _USER_INFO.sub("***@", text))


def is_file(url: str) -> bool:
    """Tell whether *url* is a folder or file of this machine."""
    return urlsplit(url).scheme == "file"


class Answer:
    """A response whose body has not been read yet."""

    def __init__(self, response: BaseHTTPResponse, url: str) -> None:
        self.url = url  # after redirects
        self.status = response.status
        self.headers = response.headers
        self._response = response

    def chunks(self, size: int) -> Iterator[bytes]:
        """Yield the body as it comes, undecoded, at most *size* bytes at a time.

        Raises:
            Fault: The connection broke.
        """
        while True:
            try:
                # One system call each: what has arrived is kept even if the line breaks next.
                chunk = self._response.read1(size)
            except (exceptions.HTTPError, OSError) as error:
                raise _fault(error) from error
            if not chunk:
                return
            yield chunk

    def text(self, limit: int) -> bytes:
        """Return the whole body, decoded.

        Raises:
            Fault: The connection broke, or the body has more than *limit* bytes.
        """
        try:
            body = self._response.read(limit + 1, decode_content=True)
        except (exceptions.HTTPError, OSError) as error:
            raise _fault(error) from error
        if len(body) > limit:
            raise Fault(f"the answer has more than {limit} bytes")
        return body


_T = TypeVar("_T")


class Client:
    """Asks servers. Safe to use from several threads."""

    def __init__(
        self, *, limits: Limits, connections: int, stop: threading.Event, addresses: Iterable[str] = ()
    ) -> None:
        """Make a client.

        Args:
            connections: How many are kept open to one host.
            stop: When set, nothing is tried again.
            addresses: Configured addresses; credentials in one hold for its whole host.
        """
        self.limits = limits
        self.stop = stop
        self._credentials = Credentials(addresses)
        self._pools = Pools(
            connections=connections, timeout=Timeout(connect=limits.connect_s, read=limits.read_s)
        )
        self._unreachable: set[tuple[str, str]] = set()

    def close(self) -> None:
        """Close idle connections."""
        self._pools.close()

    @contextmanager
    def open(
        self, url: str, *, method: str = "GET", headers: Mapping[str, str] | None = None
    ) -> Iterator[Answer]:
        """Ask once, following redirects.

        Raises:
            Fault: There is no answer, or it is an error.
        """
        try:
            response, final = self._follow(url, method, dict(headers or {}))
        except (exceptions.HTTPError, OSError, ValueError) as error:
            raise _fault(error) from error
        try:
            yield Answer(response, final)
        finally:
            if method == "HEAD":
                response.drain_conn()
            # A body read to its end has given its connection back already; any other is of no more use.
            response.close()

    def read(self, url: str, *, accept: str) -> tuple[bytes, str]:
        """Return the whole body at *url*, tried several times, and its final address.

        Raises:
            Fault: It cannot be had.
        """

        def attempt() -> tuple[bytes, str]:
            with self.open(url, headers={"Accept": accept, "Accept-Encoding": "gzip"}) as answer:
                return answer.text(_PAGE_LIMIT), answer.url

        return self.persist(url, attempt)

    def persist(
        self, url: str, attempt: Callable[[], _T], *, reached: Callable[[], int] = lambda: 0
    ) -> _T:
        """Return what *attempt* gives, trying again after faults that may pass.

        Args:
            url: The address that it asks.
            reached: How far the work has come; a try that got further starts the count anew, so that a
                long file comes through a bad line.

        Raises:
            Fault: The last one.
        """
        failed, furthest, host = 0, reached(), origin(url)
        while True:
            try:
                return attempt()
            except Fault as fault:
                further = reached() > furthest
                failed, furthest = (0 if further else failed + 1), max(furthest, reached())
                # With no network at all, only the first artifacts pay for the patience.
                attempts = 1 if host in self._unreachable else self.limits.attempts
                if not fault.again or self.stop.is_set():
                    raise
                if failed >= attempts:
                    if fault.unreachable:
                        self._unreachable.add(host)
                    raise _exhausted(fault, failed) from fault
                self.stop.wait(self._pause(fault, failed))

    def _pause(self, fault: Fault, failed: int) -> float:
        longest = self.limits.longest_pause_s
        # A server may ask for more than a float holds.
        asked = min(fault.pause_s or 0.0, _AGES_S)
        if asked > longest:
            raise Fault(
                f"{fault}; it asks to wait for {asked:.0f} s", status=fault.status, no_answer=True
            ) from fault
        # Jitter, so that many builders do not come back all at once.
        jitter = random.uniform(0.75, 1.25)  # noqa: S311 - nothing secret
        return max(asked, min(self.limits.backoff_s * float(1 << max(failed - 1, 0)), longest) * jitter)

    def _follow(self, url: str, method: str, headers: dict[str, str]) -> tuple[BaseHTTPResponse, str]:
        for _ in range(_MAX_REDIRECTS + 1):
            response = self._ask(url, method, headers)
            location = response.headers.get("Location")
            if response.status not in _REDIRECTS or not location:
                if response.status >= 400:  # noqa: PLR2004
                    response.close()
                    raise _refused(response)
                return response, url
            response.close()
            target = urljoin(url, location)
            _check_redirect(url, target)
            url = target
        raise Fault(f"more than {_MAX_REDIRECTS} redirects, the last to {redact(url)}")

    def _ask(self, url: str, method: str, headers: dict[str, str]) -> BaseHTTPResponse:
        parts = urlsplit(url)
        if parts.scheme not in ("http", "https") or not parts.hostname:
            raise Fault(f"{redact(url)} is not an http or https address")
        sent = {"Accept-Encoding": "identity", "User-Agent": "lockbuild", **headers}
        # Worked out for each hop, so that a redirect to another host takes no credentials along.
        credentials = self._credentials.header(url)
        if credentials:
            sent["Authorization"] = credentials
        return self._pools.for_url(url).urlopen(
            method,
            bare(url),
            headers=sent,
            redirect=False,
            retries=False,
            preload_content=False,
            decode_content=False,
        )


def _check_redirect(origin: str, target: str) -> None:
    before, after = urlsplit(origin), urlsplit(target)
    if after.scheme not in ("http", "https"):
        raise Fault(f"refused: a redirect to `{after.scheme}:`, which is no web address")
    if before.scheme == "https" and after.scheme == "http" and not _is_loopback(after.hostname or ""):
        raise Fault(f"refused: a redirect from https down to {redact(target)}")


def _is_loopback(host: str) -> bool:
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"


def _refused(response: BaseHTTPResponse) -> Fault:
    reason = f"HTTP {response.status} {response.reason or ''}".strip()
    if response.status not in _AGAIN:
        return Fault(reason, status=response.status)
    try:
        pause = Retry().get_retry_after(response)
    except (exceptions.InvalidHeader, ValueError, OverflowError):
        pause = None
    return Fault(reason, again=True, status=response.status, pause_s=pause)


def _exhausted(fault: Fault, tries: int) -> Fault:
    if tries == 1:
        return fault
    return Fault(
        f"{fault} ({tries} tries)",
        status=fault.status,
        details=fault.details,
        no_answer=fault.no_answer,
        other_file=fault.other_file,
    )


_WORDS: tuple[tuple[type[Exception], str, bool], ...] = (
    (exceptions.ConnectTimeoutError, "no connection in time", True),
    (exceptions.ReadTimeoutError, "the server went silent", False),
    (IncompleteRead, "the server closed the connection before the end", False),
)
"""Exception, what it means, and whether there was no connection at all."""


def _fault(error: Exception) -> Fault:
    """Return what went wrong in a few words; urllib3's own texts hold object addresses and queries."""
    if isinstance(error, exceptions.ProtocolError) and isinstance(error.__cause__, Exception):
        # Only the envelope, unless it is the innermost itself.
        error = error.__cause__
    for kind, words, unreachable in _WORDS:
        if isinstance(error, kind) and not isinstance(error, exceptions.NewConnectionError):
            return Fault(words, again=True, unreachable=unreachable)
    text = _last(error)
    if isinstance(error, exceptions.ProxyError):
        return Fault(f"proxy: {text}", again=True, unreachable=True)
    if isinstance(error, exceptions.NewConnectionError):
        named = isinstance(error, exceptions.NameResolutionError)
        words = f"the host's name cannot be resolved: {text}" if named else text.lower()
        return Fault(words, again=True, unreachable=True)
    if isinstance(error, exceptions.SSLError):
        bad = "certificate" in text.lower()
        hint = "; SSL_CERT_FILE names the certificates to trust" if bad else ""
        return Fault(f"TLS: {text}{hint}", again=not bad, no_answer=True)
    if isinstance(error, ValueError):
        return Fault("not a valid address")
    return Fault(text, again=True)


def _last(error: BaseException) -> str:
    """Return the innermost cause in words."""
    while (inner := error.__cause__ or error.__context__) is not None:
        error = inner
    text = (error.strerror if isinstance(error, OSError) else None) or str(error) or type(error).__name__
    return redact(text)
