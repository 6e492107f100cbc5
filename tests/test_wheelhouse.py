"""The manifest of a wheelhouse: its bytes, and what is no manifest."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lockbuild.digest import StorePath
from lockbuild.errors import LockError
from lockbuild.wheelhouse import Manifest, WheelEntry, manifest_text, parse_manifest
from tests.values import sha

if TYPE_CHECKING:
    from collections.abc import Callable

MANIFEST = Manifest(
    stack="small",
    lock=sha("lock"),
    wheels=(
        WheelEntry(
            name="alpha",
            version="1.2",
            filename="alpha-1.2-py3-none-any.whl",
            sha256=sha("alpha"),
            size=5000,
            origin="fetched",
            path=StorePath("1" * 32 + "-alpha-1.2-py3-none-any.whl"),
        ),
        WheelEntry(
            name="gamma",
            version="2.0",
            filename="gamma-2.0-cp311-cp311-linux_x86_64.whl",
            sha256=sha("gamma"),
            size=4321,
            origin="built",
            path=StorePath("2" * 32 + "-gamma-2.0"),
        ),
    ),
)


def changed(**changes: Any) -> str:
    """Return the manifest's text with keys of its first wheel, or of itself, replaced."""
    document = json.loads(manifest_text(MANIFEST))
    for key, value in changes.items():
        (document if key in document else document["wheels"][0])[key] = value
    return json.dumps(document)


def test_text_is_the_golden_one(golden: Callable[[str, str], None]) -> None:
    golden("manifest.json", manifest_text(MANIFEST))


entries = st.builds(
    WheelEntry,
    name=st.text(),
    version=st.text(),
    filename=st.text(),
    sha256=st.text("0123456789abcdef", min_size=64, max_size=64),
    size=st.integers(),
    origin=st.sampled_from(["fetched", "built"]),
    path=st.just(MANIFEST.wheels[0].path),
)


@pytest.mark.property
@given(st.builds(Manifest, stack=st.text(), lock=st.just(sha("")), wheels=st.lists(entries).map(tuple)))
def test_manifest_is_read_back_as_it_was_written(manifest: Manifest) -> None:
    assert parse_manifest(manifest_text(manifest)) == manifest


def test_read_paths_are_store_paths() -> None:
    assert type(parse_manifest(manifest_text(MANIFEST)).wheels[0].path) is StorePath


@pytest.mark.parametrize(
    "text",
    [
        "",
        "[]",
        "{}",
        '{"schema": 1}',
        changed(wheels=[{}]),
        changed(wheels=None),
        changed(path="no-store-path"),
        changed(sha256="0123"),
        changed(sha256=None),
        changed(lock=""),
        changed(unknown=1),
        changed(filename=1),
        changed(name=None),
        changed(size="large"),
        changed(origin="found"),
        pytest.param("[" * 100_000, id="nested"),
    ],
)
def test_anything_else_is_no_manifest(text: str) -> None:
    with pytest.raises(LockError, match=r"^manifest.json is not a wheelhouse manifest") as caught:
        parse_manifest(text)
    assert caught.value.hint == "`lockbuild build` writes it anew"


def test_manifest_of_another_schema_is_refused() -> None:
    with pytest.raises(LockError, match="`schema`: found 2, expected 1"):
        parse_manifest(changed(schema=2))
