"""Pinning the Python of the machine that resolves: that of the tests, and those that will not do."""

from __future__ import annotations

import sys
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from lockbuild.derivation import Fetch, HostInterpreter
from lockbuild.errors import ResolveError
from lockbuild.lock import lock_texts, parse_lock
from lockbuild.locking.former import Former, ResolveOptions
from lockbuild.locking.gaps import Gaps
from lockbuild.locking.interpreter import InterpreterPinner
from lockbuild.progress import Silent
from lockbuild.stack import from_document, inputs_of
from lockbuild.store import Store
from tests.needs import missing
from tests.values import HOST, minimal_document, sha, small_lock

if TYPE_CHECKING:
    from collections.abc import Iterator

    from lockbuild.lock import Lock, LockedInterpreter

RUNNING = f"{sys.version_info.major}.{sys.version_info.minor}"


@pytest.fixture
def store(tmp_path: Path) -> Iterator[Store]:
    with Store(tmp_path / "store") as made:
        yield made


@pytest.fixture
def command(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> str:
    """A command of PATH that is the Python that runs the tests."""
    if sys.base_prefix == "/usr":
        missing("the tests run on a distribution's Python")
    name = "python-of-tests"
    (tmp_path / "bin").mkdir()
    (tmp_path / "bin" / name).symlink_to(Path(sys.base_prefix, "bin", f"python{RUNNING}"))
    monkeypatch.setenv("PATH", f"{tmp_path}/bin")
    return name


def pin(
    store: Store,
    command: str,
    former: Lock | None = None,
    *,
    python: str = RUNNING,
    upgrade: bool = False,
) -> tuple[LockedInterpreter | None, Gaps]:
    """Return what is pinned, by *former* for the same stack."""
    document: dict[str, Any] = {**minimal_document(), "interpreter": {"host": command}}
    document["target"] = {**document["target"], "python": python}
    inputs = inputs_of(document, {})
    lock = replace(former, inputs=tuple(sorted(inputs.items()))) if former else None
    gaps = Gaps()
    pinner = InterpreterPinner(
        stack=from_document(document),
        former=Former(lock=lock, inputs=inputs, options=ResolveOptions(upgrade=upgrade)),
        store=store,
        progress=Silent(),
        gaps=gaps,
    )
    return pinner.pin(), gaps


def with_host(interpreter: LockedInterpreter = HOST) -> Lock:
    return replace(small_lock(), interpreter=interpreter)


def path_of(interpreter: LockedInterpreter, command: str) -> Fetch:
    file = interpreter.file
    where = HostInterpreter(command=command)
    return Fetch(filename=file.filename, sha256=file.sha256, size=file.size, where=where)


def test_python_of_this_machine_is_locked_and_in_the_store(store: Store, command: str) -> None:
    found, gaps = pin(store, command)
    assert found is not None
    assert found.version.startswith(f"{RUNNING}.")
    assert found.file.filename == f"cpython-{found.version}-host.tar"
    info = store.info(path_of(found, command).path)
    assert info is not None
    assert (info.sha256, info.size) == (found.file.sha256, found.file.size)
    assert (gaps.open, gaps.kept) == ([], [])


def test_one_that_the_store_has_is_kept(store: Store, command: str, tmp_path: Path) -> None:
    archive = tmp_path / "archive"
    archive.write_bytes(b"host")
    store.add_file(path_of(HOST, command).path, archive, sha256=sha("host"))
    assert pin(store, command, with_host())[0] == HOST
    # ... unless everything may move.
    assert pin(store, command, with_host(), upgrade=True)[0] != HOST


def test_one_that_the_store_lacks_gives_way_to_this_machine_s(store: Store, command: str) -> None:
    found, _ = pin(store, command, with_host())
    assert found is not None
    assert found != HOST
    assert pin(store, command, with_host(found))[0] == found


def test_machine_without_it_keeps_the_former_pin(store: Store) -> None:
    found, gaps = pin(store, "python9.9", with_host())
    assert found == HOST
    assert [part.label for part in gaps.kept] == ["interpreter python9.9"]


def test_machine_without_it_leaves_it_open(store: Store) -> None:
    found, gaps = pin(store, "python9.9")
    assert found is None
    (part,) = gaps.open
    assert part.label == "interpreter python9.9"
    assert part.reason == "no machine that has `python9.9` has resolved yet"
    assert gaps.causes == {part.label: ("`python9.9` is not on this machine's PATH",)}


def test_other_version_is_refused_though_there_is_a_former_pin(store: Store, command: str) -> None:
    with pytest.raises(ResolveError, match=f"is Python {RUNNING}.* `target.python` wants 3.2$"):
        pin(store, command, with_host(), python="3.2")


def test_python_that_cannot_be_taken_along_is_no_gap(
    store: Store, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "broken").write_text("#!/bin/sh\nexit 1\n")
    (tmp_path / "broken").chmod(0o755)
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(ResolveError, match="`broken` is no Python that runs"):
        pin(store, "broken")


def test_stack_with_another_kind_asks_nobody(store: Store) -> None:
    document = minimal_document()
    pinner = InterpreterPinner(
        stack=from_document(document),
        former=Former(lock=with_host(), inputs=inputs_of(document, {})),
        store=store,
        progress=Silent(),
        gaps=Gaps(),
    )
    assert pinner.pin() is None


def test_lock_has_it() -> None:
    target = from_document(minimal_document()).target
    texts = lock_texts(with_host(), name="small", target=target, wheels="wheels")
    assert parse_lock(texts).interpreter == HOST
    assert "[interpreter]" in texts["lockbuild.lock"]
