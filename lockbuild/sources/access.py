"""How this machine reaches the network: certificates, proxies and credentials, from its environment."""

from __future__ import annotations

import base64
import netrc
import os
import ssl
from pathlib import Path
from typing import TYPE_CHECKING
from urllib.parse import unquote, urlsplit, urlunsplit
from urllib.request import getproxies_environment, proxy_bypass

import urllib3
from urllib3.util import Timeout, make_headers

from lockbuild.errors import UsageError

if TYPE_CHECKING:
    from collections.abc import Iterable

__all__ = ["Credentials", "Pools", "bare", "origin"]

# Where systems keep their certificates, for an interpreter that was built elsewhere and does not know.
_BUNDLES = (
    "/etc/ssl/certs/ca-certificates.crt",
    "/etc/pki/tls/certs/ca-bundle.crt",
    "/etc/ssl/cert.pem",
)


def origin(url: str) -> tuple[str, str]:
    """Return scheme and host with port: what credentials hold for."""
    parts = urlsplit(url)
    return parts.scheme, parts.netloc.rpartition("@")[2].lower()


def bare(url: str) -> str:
    """Return *url* without user name, password and fragment."""
    parts = urlsplit(url)
    return urlunsplit((parts.scheme, parts.netloc.rpartition("@")[2], parts.path, parts.query, ""))


class Credentials:
    """User names and passwords: of an address itself, of a configured one on the same host, of netrc."""

    def __init__(self, addresses: Iterable[str]) -> None:
        self._configured = {origin(a): found for a in addresses if (found := _userinfo(a))}
        self._netrc = _read_netrc()

    def header(self, url: str) -> str | None:
        """Return the `Authorization` for *url*; none where there are no credentials for its host."""
        found = _userinfo(url) or self._configured.get(origin(url))
        if found or self._netrc is None:
            return found
        entry = self._netrc.authenticators(urlsplit(url).hostname or "")
        return _basic(entry[0], entry[2] or "") if entry else None


def _userinfo(url: str) -> str | None:
    parts = urlsplit(url)
    if parts.username is None:
        return None
    return _basic(unquote(parts.username), unquote(parts.password or ""))


def _basic(user: str, password: str) -> str:
    return "Basic " + base64.b64encode(f"{user}:{password}".encode()).decode("ascii")


def _read_netrc() -> netrc.netrc | None:
    given = os.environ.get("NETRC")
    try:
        return netrc.netrc(given or str(Path("~/.netrc").expanduser()))
    except (OSError, RuntimeError, UnicodeDecodeError, netrc.NetrcParseError):
        # As curl and pip: a file that cannot be read gives no credentials, and the server says so.
        return None


class Pools:
    """Connections, kept open for each host, through the proxies of the environment."""

    def __init__(self, *, connections: int, timeout: Timeout) -> None:
        self._connections = connections
        self._timeout = timeout
        self._proxies = getproxies_environment()
        self._context: ssl.SSLContext | None = None
        self._pools: dict[tuple[str, str], urllib3.PoolManager] = {}

    def for_url(self, url: str) -> urllib3.PoolManager:
        """Return the pool that reaches *url*.

        Raises:
            UsageError: The environment names a proxy or certificates that cannot be used.
        """
        scheme, host = origin(url)
        proxy = self._proxies.get(scheme) or self._proxies.get("all", "")
        if proxy and proxy_bypass(host):
            proxy = ""
        if (scheme, proxy) not in self._pools:
            # Two threads may both make one; either will do.
            self._pools[scheme, proxy] = self._make(scheme, proxy)
        return self._pools[scheme, proxy]

    def close(self) -> None:
        """Close idle connections."""
        for pool in self._pools.values():
            pool.clear()

    def _make(self, scheme: str, proxy: str) -> urllib3.PoolManager:
        if "https" in (scheme, urlsplit(proxy).scheme) and self._context is None:
            # Reading all certificates takes a tenth of a second: only where they are needed.
            self._context = _tls_context()
        if not proxy:
            return urllib3.PoolManager(
                maxsize=self._connections, timeout=self._timeout, ssl_context=self._context
            )
        address = proxy if "://" in proxy else f"http://{proxy}"
        parts = urlsplit(address)
        if parts.scheme not in ("http", "https"):
            raise UsageError(
                f"proxy {bare(address)}: found `{parts.scheme}`, expected `http` or `https`",
                hint="set HTTPS_PROXY and HTTP_PROXY to an HTTP proxy",
            )
        user = f"{unquote(parts.username)}:{unquote(parts.password or '')}" if parts.username else None
        return urllib3.ProxyManager(
            bare(address),
            proxy_headers=make_headers(proxy_basic_auth=user) if user else None,
            maxsize=self._connections,
            timeout=self._timeout,
            ssl_context=self._context,
        )


def _tls_context() -> ssl.SSLContext:
    for variable in ("REQUESTS_CA_BUNDLE", "SSL_CERT_FILE"):
        bundle = os.environ.get(variable)
        if not bundle:
            continue
        try:
            if Path(bundle).is_dir():
                return ssl.create_default_context(capath=bundle)
            return ssl.create_default_context(cafile=bundle)
        except OSError as error:
            raise UsageError(
                f"{variable}: {bundle} is not a certificate bundle: {error.strerror or error}",
                hint=f"unset {variable}, or let it name a PEM file",
            ) from error
    context = ssl.create_default_context()
    if not context.cert_store_stats()["x509_ca"] and ssl.get_default_verify_paths().capath is None:
        bundle = next((path for path in _BUNDLES if Path(path).is_file()), None)
        if bundle:
            context.load_verify_locations(cafile=bundle)
    return context
