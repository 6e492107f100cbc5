"""Digests and store paths: what they follow from, and what is refused."""

from __future__ import annotations

import base64
import copy
import hashlib
import json
import pickle
from typing import TYPE_CHECKING, Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lockbuild.digest import StorePath, canonical_json, parse_sha256, sha256_of, store_path

if TYPE_CHECKING:
    from collections.abc import Callable
    from random import Random

RFC_4648 = "ABCDEFGHIJKLMNOPQRSTUVWXYZ234567"
NIX = "0123456789abcdfghijklmnpqrsvwxyz"
DIGEST = "0" * 31 + "z"

texts = st.text(st.characters(codec="utf-8"), max_size=8)
# Without bounds on its parts, most values have too many leaves and are drawn again, which takes seconds.
json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | texts,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(texts, inner, max_size=3),
    max_leaves=10,
)


# ---- canonical JSON --------------------------------------------------------------------------------


def test_canonical_json_is_sorted_dense_and_utf8() -> None:
    value = canonical_json({"b": [1, True, None], "a": "ü"})
    assert value == '{"a":"ü","b":[1,true,null]}'.encode()


@pytest.mark.property
@given(st.dictionaries(texts, json_values, max_size=8), st.randoms())
def test_canonical_json_does_not_depend_on_order(value: dict[str, Any], random: Random) -> None:
    keys = list(value)
    random.shuffle(keys)
    assert canonical_json({key: value[key] for key in keys}) == canonical_json(value)


@pytest.mark.property
@given(json_values)
def test_canonical_json_keeps_the_value(value: Any) -> None:
    assert json.loads(canonical_json(value)) == value


def test_canonical_json_tells_a_number_from_its_text() -> None:
    assert canonical_json([1]) != canonical_json(["1"])


def test_canonical_json_refuses_what_is_no_number() -> None:
    with pytest.raises(ValueError, match="JSON compliant"):
        canonical_json(float("nan"))  # type: ignore[arg-type]


# ---- sha256 ----------------------------------------------------------------------------------------


def test_sha256_of_nothing_is_the_known_one() -> None:
    assert sha256_of(b"") == "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855"


def test_sha256_is_read_in_either_case() -> None:
    assert parse_sha256("AB" * 32) == "ab" * 32


@pytest.mark.parametrize(
    "text", ["", "ab" * 31, "ab" * 33, "zz" * 32, "ab" * 32 + "\n", "sha256:" + "ab" * 32]
)
def test_anything_else_is_no_sha256(text: str) -> None:
    with pytest.raises(ValueError, match="not a sha256"):
        parse_sha256(text)


# ---- store paths -----------------------------------------------------------------------------------


def test_store_path_has_a_digest_and_a_name() -> None:
    path = StorePath(f"{DIGEST}-torch-2.4.1-cp311.whl")
    assert (path.digest, path.name) == (DIGEST, "torch-2.4.1-cp311.whl")


@pytest.mark.parametrize(
    "text",
    [
        "",
        "torch",
        DIGEST,
        f"{DIGEST}-",
        f"{DIGEST}.torch",
        f"{DIGEST[1:]}-torch",
        f"0{DIGEST}-torch",
        f"{DIGEST[:-1]}e-torch",
        f"{DIGEST[:-1]}Z-torch",
        f"{DIGEST}-.hidden",
        f"{DIGEST}-..",
        f"{DIGEST}-a/b",
        f"{DIGEST}-../../etc",
        f"{DIGEST}-a b",
        f"{DIGEST}-a\n",
        f"{DIGEST}-a\0",
        f"{DIGEST}-{'a' * 181}",
    ],
)
def test_anything_else_is_no_store_path(text: str) -> None:
    with pytest.raises(ValueError, match="not a store path"):
        StorePath(text)


def test_store_path_cannot_be_given_more() -> None:
    with pytest.raises(AttributeError):
        StorePath(f"{DIGEST}-a").more = 1  # type: ignore[attr-defined]


@pytest.mark.parametrize("again", [copy.deepcopy, lambda path: pickle.loads(pickle.dumps(path))])
def test_store_path_stays_one_when_copied(again: Callable[[StorePath], StorePath]) -> None:
    copied = again(StorePath(f"{DIGEST}-a"))
    assert type(copied) is StorePath
    assert copied == f"{DIGEST}-a"


@pytest.mark.property
@given(st.lists(json_values), st.text())
def test_every_identity_and_name_gives_a_store_path(identity: list[Any], name: str) -> None:
    path = store_path(identity, name)
    assert StorePath(str(path)) == path


@pytest.mark.property
@given(st.lists(json_values))
def test_digest_is_160_bits_of_sha256_in_nix_letters(identity: list[Any]) -> None:
    bits = hashlib.sha256(canonical_json(identity)).digest()[:20]
    expected = base64.b32encode(bits).decode().translate(str.maketrans(RFC_4648, NIX))
    assert store_path(identity, "a").digest == expected


@pytest.mark.parametrize(
    ("name", "shown"),
    [
        ("torch-2.4.1+cu121.whl", "torch-2.4.1+cu121.whl"),
        ("a b/c~d", "a_b_c_d"),
        ("ü", "_"),
        (".hidden", "hidden"),
        ("", "_"),
        ("...", "_"),
        ("a" * 200 + ".whl", "a" * 176 + ".whl"),
        ("a" + "." * 180, "_"),
    ],
)
def test_name_is_made_fit_for_a_file(name: str, shown: str) -> None:
    assert store_path([], name).name == shown


def test_name_is_no_part_of_the_digest() -> None:
    assert store_path(["a"], "one").digest == store_path(["a"], "two").digest
