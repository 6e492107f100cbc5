"""What is rendered for an image's preflight: its entry point and its data."""

from __future__ import annotations

import json
from dataclasses import replace
from typing import Any

import pytest

from lockbuild.digest import Sha256
from lockbuild.dockerfile import PREFIX
from lockbuild.errors import ImageError
from lockbuild.preflight import ENTRYPOINT, FOLDER, PROGRAMS, entrypoint, preflight_texts
from lockbuild.stack import Mount, Stack
from tests.values import small_stack

TEMPLATES = {name: f"text of {name}" for name in PROGRAMS}


def data(stack: Stack, **options: Any) -> Any:
    return json.loads(preflight_texts(stack, templates=TEMPLATES, **options)["preflight/preflight.json"])


def test_programs_are_taken_as_they_are() -> None:
    texts = preflight_texts(small_stack(), templates=TEMPLATES | {"other": "x"})
    assert {name: texts[name] for name in PROGRAMS} == TEMPLATES
    assert texts.keys() == {*PROGRAMS, "preflight/preflight.json"}


def test_program_finds_its_python_beside_its_folder() -> None:
    assert PREFIX.rpartition("/")[0] == FOLDER.rpartition("/")[0]
    assert PREFIX.endswith("/venv")


def test_data_is_that_of_the_stack() -> None:
    mount = Mount(path="/data/x", holds=("*.pkl",), why='it\'s "theirs" $x', optional=True)
    assert data(replace(small_stack(), mounts=(mount,), gpu="required")) == {
        "name": "small",
        "gpu": {"mode": "required", "cuda": "12.1", "architectures": ["8.6", "8.9+PTX"]},
        "mounts": [
            {"path": "/data/x", "holds": ["*.pkl"], "why": 'it\'s "theirs" $x', "optional": True}
        ],
        "assets": [],
        "imports": ["gamma"],
        "checks": ["import delta"],
    }


def test_bundled_files_are_named_with_size_and_hash() -> None:
    found = data(small_stack(), assets=[("/weights.pth", 12, Sha256("a" * 64))])["assets"]
    assert found == [{"path": "/weights.pth", "size": 12, "sha256": "a" * 64}]


def test_missing_program_is_named() -> None:
    with pytest.raises(ImageError, match=r"`preflight/preflight\.py` is missing"):
        preflight_texts(small_stack(), templates={"preflight/entrypoint": "x"})


@pytest.mark.parametrize(
    ("own", "expected"),
    [((), (ENTRYPOINT,)), (("tini", "--"), (ENTRYPOINT, "--wrap=2", "tini", "--"))],
)
def test_entry_point_of_the_stack_is_wrapped(own: tuple[str, ...], expected: tuple[str, ...]) -> None:
    assert entrypoint(own) == expected
