"""Where an artifact may be looked for on this machine, in order. Pure: asks nobody."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal
from urllib.parse import quote

from lockbuild.derivation import Addresses, ChannelFile, Fetch, IndexFile, PoolFile

if TYPE_CHECKING:
    from collections.abc import Sequence

__all__ = ["Limits", "Mirrors", "Place", "index_addresses", "page_address", "places"]

Named = tuple[tuple[str, tuple[str, ...]], ...]

_TIMESTAMP = "{timestamp}"


@dataclass(frozen=True, slots=True, kw_only=True)
class Limits:
    """How long to wait and how often to try again."""

    connect_s: float = 15.0
    """Seconds for a connection to stand."""
    read_s: float = 30.0
    """Seconds without a single byte."""
    attempts: int = 5
    """Tries at one address in a row that bring nothing new."""
    backoff_s: float = 0.5
    """Pause before the second try; doubled for each further one."""
    longest_pause_s: float = 60.0
    """A server that asks for a longer one is given up."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Mirrors:
    """What this machine's user has configured. None of it enters a lock or a digest."""

    indexes: Named = ()
    """Name of an index -> its addresses, asked in order; `pypi` is the default index."""
    archives: Named = ()
    """`debian` or `ubuntu` -> roots of its archive."""
    snapshots: Named = ()
    """`debian` or `ubuntu` -> roots of snapshot archives, with `{timestamp}` where it belongs."""
    channels: Named = ()
    """Name of a conda channel -> addresses asked before its own."""
    limits: Limits = Limits()
    registries: Named = ()
    """Host of a registry, with `-` for `.` and `:` -> registries or folders of them that are asked before it."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Place:
    """One address that may lead to an artifact."""

    kind: Literal["file", "page"]
    """Whether the address is the file's own, or that of the index page which names the file's."""
    address: str


def places(fetch: Fetch, mirrors: Mirrors) -> tuple[Place, ...]:
    """Return every place that may have *fetch*, the one to ask first in front."""
    where = fetch.where
    if isinstance(where, IndexFile):
        addresses = index_addresses(where.index, where.url, mirrors)
        return tuple(Place(kind="page", address=page_address(a, where.project)) for a in addresses)
    if isinstance(where, PoolFile):
        return tuple(Place(kind="file", address=address) for address in _pool(where, mirrors))
    if isinstance(where, ChannelFile):
        channels = (*dict(mirrors.channels).get(where.channel, ()), where.url)
        file = f"{where.subdir}/{fetch.filename}"
        addresses = tuple(dict.fromkeys(f"{channel.rstrip('/')}/{file}" for channel in channels))
        return tuple(Place(kind="file", address=address) for address in addresses)
    if isinstance(where, Addresses):
        return tuple(Place(kind="file", address=address) for address in where.urls)
    return ()


def index_addresses(name: str, url: str | None, mirrors: Mirrors) -> tuple[str, ...]:
    """Return the addresses of the index called *name*: the configured ones, then its own *url*."""
    configured = dict(mirrors.indexes).get(name, ())
    return tuple(dict.fromkeys((*configured, url) if url else configured))


def page_address(index: str, project: str) -> str:
    """Return the address of a project's page, as PEP 503 lays an index out."""
    return f"{index.rstrip('/')}/{project}/"


def _pool(where: PoolFile, mirrors: Mirrors) -> Sequence[str]:
    bases = list(dict(mirrors.archives).get(where.vendor, ()))
    for template in dict(mirrors.snapshots).get(where.vendor, ()):
        if where.snapshot is not None:
            bases.append(template.replace(_TIMESTAMP, where.snapshot))
        elif _TIMESTAMP not in template:
            bases.append(template)
    # `+` and `~` stand in pool paths as they are; a `%` would be taken for an escape.
    path = quote(where.path.lstrip("/"), safe="/+~:=@,")
    return [f"{base.rstrip('/')}/{path}" for base in bases]
