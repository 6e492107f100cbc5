"""Digests and store paths. Pure: reads and writes no files.

A digest is taken over a list written by hand, never over what a library serialises, so that no
library can change it. `tests/data/digests.json` pins the bytes.
"""

from __future__ import annotations

import hashlib
import json
import re
from typing import NewType

__all__ = ["Sha256", "StorePath", "canonical_json", "parse_sha256", "sha256_of", "store_path"]

Sha256 = NewType("Sha256", str)
"""64 lower-case hexadecimal digits that have been checked."""

JsonValue = str | int | bool | None | list["JsonValue"] | dict[str, "JsonValue"]

# Nix's alphabet: digits and lower-case letters without e, o, u and t.
_ALPHABET = "0123456789abcdfghijklmnpqrsvwxyz"
_DIGEST_CHARACTERS = 32
_NAME = re.compile(r"[A-Za-z0-9+\-._?=]{1,180}")


class StorePath(str):
    """The name of a store object: 32 base-32 characters, a dash, and a name.

    The constructor is the only door, so a `StorePath` is always well formed.

    Raises:
        ValueError: The text is not a store path.
    """

    __slots__ = ()

    def __new__(cls, text: str) -> StorePath:  # noqa: D102 - documented with the class
        digest, dash, name = text.partition("-")
        if (
            len(digest) != _DIGEST_CHARACTERS
            or not dash
            or not _NAME.fullmatch(name)
            or name.startswith(".")
            or any(character not in _ALPHABET for character in digest)
        ):
            msg = f"not a store path: {text!r}"
            raise ValueError(msg)
        return super().__new__(cls, text)

    def __getnewargs__(self) -> tuple[str]:
        return (str(self),)

    @property
    def digest(self) -> str:
        """The 32 characters in front of the dash."""
        return self[:_DIGEST_CHARACTERS]

    @property
    def name(self) -> str:
        """What follows the dash."""
        return self[_DIGEST_CHARACTERS + 1 :]


def canonical_json(value: JsonValue) -> bytes:
    """Return *value* as JSON with sorted keys, no spaces and UTF-8, so that equal values give equal bytes.

    Floats are not accepted: their text differs between languages.
    """
    return json.dumps(
        value, sort_keys=True, separators=(",", ":"), ensure_ascii=False, allow_nan=False
    ).encode()


def sha256_of(data: bytes) -> Sha256:
    """Return the sha256 of *data* in hexadecimal."""
    return Sha256(hashlib.sha256(data).hexdigest())


def parse_sha256(text: str) -> Sha256:
    """Return *text* as a checked sha256.

    Raises:
        ValueError: It is not 64 hexadecimal digits.
    """
    lowered = text.lower()
    if not re.fullmatch(r"[0-9a-f]{64}", lowered):
        msg = f"not a sha256 (64 hexadecimal digits): {text!r}"
        raise ValueError(msg)
    return Sha256(lowered)


def store_path(identity: list[JsonValue], name: str) -> StorePath:
    """Return the store path whose digest is that of *identity*, the hand-written list.

    The first 160 bits of the sha256 of its canonical JSON, five bits a character, most significant
    first. Characters that a file name could not hold are replaced by `_` in *name*.
    """
    number = int.from_bytes(hashlib.sha256(canonical_json(identity)).digest()[:20], "big")
    shifts = range(5 * (_DIGEST_CHARACTERS - 1), -1, -5)
    digest = "".join(_ALPHABET[(number >> shift) & 31] for shift in shifts)
    safe = re.sub(r"[^A-Za-z0-9+\-._?=]", "_", name)[-180:].lstrip(".") or "_"
    return StorePath(f"{digest}-{safe}")
