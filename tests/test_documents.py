"""Texts that version control keeps: the same bytes for the same value."""

from __future__ import annotations

import json
import tomllib
from typing import Any

from lockbuild.documents import json_text, toml_text


def test_json_keeps_order_and_letters_and_ends_its_line() -> None:
    assert json_text({"b": "ü", "a": [1]}) == '{\n  "b": "ü",\n  "a": [\n    1\n  ]\n}\n'


def test_json_is_read_back() -> None:
    value: dict[str, Any] = {"name": "line\nline", "more": [None, True, {}]}
    assert json.loads(json_text(value)) == value


def test_toml_keeps_order_and_letters_and_ends_its_line() -> None:
    assert toml_text({"b": "ü", "a": {"x": 1}}) == 'b = "ü"\n\n[a]\nx = 1\n'


def test_toml_keeps_a_text_of_several_lines_on_one() -> None:
    assert toml_text({"a": "line\nline"}) == 'a = "line\\nline"\n'


def test_toml_is_read_back() -> None:
    value: dict[str, Any] = {
        "list": [{"name": "a"}, {"name": "b"}],
        'odd "key".c': "\x7f\t\\",
        "none": [],
    }
    assert tomllib.loads(toml_text(value)) == value
