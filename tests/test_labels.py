"""Which local version label a built wheel gets."""

from __future__ import annotations

from dataclasses import replace

import pytest

from lockbuild.labels import label_of, labelled, unlabelled
from lockbuild.stack import BuildSpec, Source
from lockbuild.target import Target
from tests.values import package, small_lock, small_stack

GPU = Target(python="3.8", platform="linux_x86_64", glibc="2.31", cuda="11.3")
SPEC = BuildSpec(name="mmcv-full", version="1.7.2", source=Source(), needs=("torch",))
TORCH = package("torch", "1.12.1+cu113")


@pytest.mark.parametrize(
    ("torch", "cuda", "expected"),
    [
        ("2.0.1", "11.8", "pt20cu118"),
        ("1.12.1+cu113", "11.3", "pt112cu113"),
        ("2.10.0", "12.8", "pt210cu128"),
        ("2.8.0.dev20250601", "12.1", "pt28cu121"),
        ("2.0.1", None, "pt20cpu"),
    ],
)
def test_label_names_torch_and_cuda(torch: str, cuda: str | None, expected: str) -> None:
    assert label_of(SPEC, replace(GPU, cuda=cuda), [package("torch", torch)]) == expected


def test_who_does_not_need_torch_has_none() -> None:
    assert label_of(replace(SPEC, needs=("numpy",)), GPU, [TORCH, package("numpy")]) == ""


def test_what_needs_torch_by_way_of_another_package_is_labelled() -> None:
    vision = package("torchvision", "0.15.2", dependencies=("torch",))
    spec = replace(SPEC, needs=("torchvision",))
    assert label_of(spec, GPU, [TORCH, vision]) == label_of(SPEC, GPU, [TORCH]) != ""


def test_version_with_a_label_of_its_own_keeps_it() -> None:
    assert label_of(replace(SPEC, version="0.7.2+fork.1"), GPU, [TORCH]) == ""


@pytest.mark.parametrize("label", ["", "ours.2"])
def test_what_the_stack_says_holds(label: str) -> None:
    assert label_of(replace(SPEC, label=label), GPU, [TORCH]) == label


def test_packages_get_their_labels_and_lose_them_again() -> None:
    stack, lock = small_stack(), small_lock()
    builds = tuple(replace(b, label="ours" if b.name == "gamma" else None) for b in stack.builds)
    stack = replace(stack, builds=builds)
    found = labelled(lock.runtime, stack)
    assert [(p.name, p.version) for p in found] == [
        ("alpha", "1.2"),
        ("beta", "0.9"),
        ("delta", "0.1"),
        ("gamma", "2.0+ours"),
    ]
    assert labelled(found, stack) == found
    assert unlabelled(found, stack) == lock.runtime
