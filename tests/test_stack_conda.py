"""`[conda]` in the stack file: what is accepted, and the machine that packages are solved for."""

from __future__ import annotations

from typing import Any

import pytest

from lockbuild.documents import toml_text
from lockbuild.errors import StackError
from lockbuild.stack import Conda, from_document, inputs_of
from lockbuild.stack.schema import parse_stack_text
from tests.values import minimal_document

CHANNELS = ["https://conda.example.org/one", "https://conda.example.org/two/"]


def document(**conda: Any) -> dict[str, Any]:
    return {
        **minimal_document(),
        "conda": {"channels": CHANNELS, "packages": ["ffmpeg", "openh264 ==2.1"], **conda},
    }


def faults(**conda: Any) -> str:
    with pytest.raises(StackError) as caught:
        parse_stack_text(toml_text(document(**conda)), file="stack.toml")
    return "\n".join(caught.value.details)


def test_stack_has_what_the_file_says() -> None:
    text = toml_text(document(**{"virtual-packages": {"__cuda": "12.4"}}))
    stack = from_document(parse_stack_text(text, file="stack.toml"))
    assert stack.conda == Conda(
        channels=tuple(CHANNELS),
        packages=("ffmpeg", "openh264 ==2.1"),
        virtual_packages=(("__cuda", "12.4"),),
    )
    assert stack.conda.named_channels() == (("one", CHANNELS[0]), ("two", CHANNELS[1]))


def test_stack_without_it_has_none() -> None:
    assert from_document(minimal_document()).conda is None


@pytest.mark.parametrize(
    ("key", "value", "expected"),
    [
        ("channels", [], "conda.channels"),
        ("channels", ["conda-forge"], "a channel's address"),
        ("channels", ["https://me:secret@conda.example.org/one"], "without credentials"),
        ("channels", ["https://a.example.org/x", "https://b.example.org/x"], "twice: `x`"),
        ("packages", [], "conda.packages"),
        ("packages", ["other::ffmpeg"], "a conda package such as"),
        ("packages", ["ffmpeg[url=https://a.example.org/x]"], "a conda package such as"),
        ("packages", ["__cuda >=11"], "a conda package such as"),
        ("virtual-packages", {"cuda": "12.4"}, "a virtual package's name"),
        ("virtual-packages", {"__cuda": ">=12"}, "a version"),
    ],
)
def test_fault_names_key_and_what_was_expected(key: str, value: object, expected: str) -> None:
    found = faults(**{key: value})
    assert f"conda.{key}" in found
    assert expected in found


def test_virtual_packages_follow_from_the_target() -> None:
    stack = from_document(document())
    assert stack.conda
    assert dict(stack.conda.virtual(stack.target)) == {
        "__archspec": "1=x86_64",
        "__glibc": "2.36",
        "__linux": "5.10",
        "__unix": "0",
    }
    with_cuda = {**document(), "target": {**minimal_document()["target"], "cuda": "11.8"}}
    gpu = from_document(with_cuda)
    assert gpu.conda
    assert dict(gpu.conda.virtual(gpu.target))["__cuda"] == "11.8"


def test_virtual_packages_of_the_stack_are_stronger() -> None:
    stack = from_document(document(**{"virtual-packages": {"__glibc": "2.17", "__cuda": "12.4"}}))
    assert stack.conda
    found = dict(stack.conda.virtual(stack.target))
    assert (found["__glibc"], found["__cuda"]) == ("2.17", "12.4")


def test_order_of_channels_is_an_input_of_the_lock() -> None:
    one, other = document(), document(channels=list(reversed(CHANNELS)))
    assert inputs_of(one, {})["conda.channels"] != inputs_of(other, {})["conda.channels"]
