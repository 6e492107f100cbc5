"""Assets in a lock: what is written is what is read, and nothing in it can lead out of a folder."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from lockbuild.assetlock import LockedArchive, LockedAsset, asset_table, parse_asset
from lockbuild.errors import LockError
from lockbuild.lock import LOCK_FILE, lock_texts, parse_lock
from tests.values import sha, small_lock, small_stack

FILE = LockedAsset(name="model.pth", sha256=sha("model"), size=7)
MEMBERS = LockedAsset(
    name="data", sha256=sha("tree"), size=3, archive=LockedArchive(sha256=sha("zip"), size=9)
)
OPEN = LockedAsset(name="drive", reason="drive.example.org: HTTP 403")


@pytest.mark.parametrize("asset", [FILE, replace(FILE, size=None), MEMBERS, OPEN], ids=lambda a: a.name)
def test_an_asset_is_read_as_it_was_written(asset: LockedAsset) -> None:
    assert parse_asset(asset_table(asset)) == asset


def test_a_lock_keeps_its_assets() -> None:
    lock = replace(small_lock(), assets=(MEMBERS, OPEN, FILE))
    texts = lock_texts(lock, name="small", target=small_stack().target, wheels="wheels")
    assert parse_lock(texts).assets == lock.assets


def test_a_changed_hash_of_an_asset_is_noticed() -> None:
    lock = replace(small_lock(), assets=(FILE,))
    texts = lock_texts(lock, name="small", target=small_stack().target, wheels="wheels")
    texts[LOCK_FILE] = texts[LOCK_FILE].replace(sha("model"), sha("another"))
    with pytest.raises(LockError, match="not as it was written"):
        parse_lock(texts)


@pytest.mark.parametrize(
    "change",
    [
        {"name": "../model"},
        {"name": ".hidden"},
        {"sha256": "12"},
        {"archive": {"sha256": "x", "size": 1}},
    ],
)
def test_what_is_no_asset_is_refused(change: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match="not "):
        parse_asset(asset_table(FILE) | change)
