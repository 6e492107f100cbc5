"""Hashing files, one and many."""

from __future__ import annotations

import threading
from typing import TYPE_CHECKING

import pytest

from lockbuild.digest import sha256_of
from lockbuild.hashing import sha256_of_file, side_by_side

if TYPE_CHECKING:
    from pathlib import Path


def test_a_file_has_the_hash_of_its_bytes_whatever_link_leads_to_it(tmp_path: Path) -> None:
    data = bytes(range(256)) * 9000
    (tmp_path / "file").write_bytes(data)
    (tmp_path / "link").symlink_to("file")
    assert sha256_of_file(tmp_path / "file") == sha256_of_file(tmp_path / "link") == sha256_of(data)


def test_what_runs_side_by_side_comes_in_order(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("os.cpu_count", lambda: 2)
    second = threading.Event()

    def work(item: int) -> int:
        # The first ends only once the second has: one after the other, that would never be.
        if item == 1:
            assert second.wait(60)
        if item == 2:
            second.set()
        return item * 10

    assert list(side_by_side(work, [1, 2, 3])) == [10, 20, 30]


def test_a_fault_of_one_is_the_fault_of_all() -> None:
    with pytest.raises(ZeroDivisionError):
        list(side_by_side(lambda item: 1 // item, [1, 0, 2]))
