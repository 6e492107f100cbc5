"""What the tests of `lockbuild.sources` share: one .deb, a folder that serves it, and ways to ask for it."""

from __future__ import annotations

import hashlib
import os
import random
from typing import TYPE_CHECKING

from lockbuild.derivation import Fetch, PoolFile, Where
from lockbuild.digest import Sha256
from lockbuild.progress import Silent
from lockbuild.sources import Fetched, Limits, Mirrors, fetch

if TYPE_CHECKING:
    from pathlib import Path

    import pytest

    from lockbuild.errors import FetchError
    from tests.servers.faulty import FaultyServer

LIMITS = Limits(connect_s=5, read_s=0.5, attempts=3, backoff_s=0.01)
SIZE = 700_000
DATA = random.Random(7).randbytes(SIZE)
NAME = "zlib1g_1.2.13+dfsg-1_amd64.deb"
PATH = f"/pool/main/z/zlib/{NAME}"


def own_environment(monkeypatch: pytest.MonkeyPatch, home: Path) -> None:
    """Keep the machine's proxies and credentials out."""
    for name in [*os.environ]:
        if name.lower().endswith("_proxy") or name == "NETRC":
            monkeypatch.delenv(name)
    monkeypatch.setenv("HOME", str(home))


def served_folder(parent: Path) -> Path:
    """Return a new folder to serve, with one .deb in its pool."""
    file = parent / "www" / PATH.lstrip("/")
    file.parent.mkdir(parents=True)
    file.write_bytes(DATA)
    return parent / "www"


def wanted(
    data: bytes = DATA, *, name: str = NAME, size: int | None = -1, where: Where | None = None
) -> Fetch:
    return Fetch(
        filename=name,
        sha256=Sha256(hashlib.sha256(data).hexdigest()),
        size=len(data) if size == -1 else size,
        where=where or PoolFile(vendor="debian", path=PATH.lstrip("/")),
    )


def archives(*urls: str) -> Mirrors:
    return Mirrors(archives=(("debian", urls),))


def get(one: Fetch, into: Path, mirrors: Mirrors) -> Fetched:
    (ended,) = fetch([one], into=into, mirrors=mirrors, progress=Silent(), limits=LIMITS)
    return ended


def failure(one: Fetch, into: Path, mirrors: Mirrors) -> FetchError:
    error = get(one, into, mirrors).error
    assert error is not None
    return error


def has_data(ended: Fetched) -> bool:
    assert ended.error is None, ended.error.details
    assert ended.file is not None
    return ended.file.name == ended.fetch.sha256 and ended.file.read_bytes() == DATA


def ranges(server: FaultyServer) -> list[str | None]:
    return [request.headers.get("Range") for request in server.asked(PATH)]
