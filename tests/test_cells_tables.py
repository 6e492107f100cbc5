"""Tables of versions agree with themselves, and with what drafts of stacks go by."""

from __future__ import annotations

import pytest

from lockbuild.cells import tables
from lockbuild.upstream import knowledge


@pytest.mark.parametrize("version", knowledge._TORCH)
def test_torch_has_one_default_cuda(version: str) -> None:
    release = tables.torch_release(f"{version}.1")
    assert release is not None
    assert release.cuda == knowledge._TORCH[version].default


@pytest.mark.parametrize("base", knowledge.BASES, ids=lambda base: base.suite)
def test_suite_has_one_nvcc(base: knowledge.Base) -> None:
    suite = tables.suite_of(base.suite)
    assert suite is not None
    assert suite.nvcc == base.nvcc


@pytest.mark.parametrize(("version", "gcc", "newest"), [("13.3", 15, "12.1f"), ("13.5", 16, "10.7f")])
def test_nvcc_of_wheels_is_known(version: str, gcc: int, newest: str) -> None:
    nvcc = tables.nvcc_release(version)
    assert nvcc is not None
    assert nvcc.gcc == gcc
    assert newest in nvcc.architectures


@pytest.mark.parametrize("version", tables._TORCH)
def test_what_torch_wants_is_known_throughout(version: str) -> None:
    release = tables._TORCH[version]
    assert tables.nvcc_release(release.cuda) is not None
    if release.standard:
        assert release.standard in tables.GCC_OF_STANDARD.keys() & tables.NVCC_OF_STANDARD.keys()


@pytest.mark.parametrize("row", tables._TORCH_ARCHITECTURES, ids=lambda row: f"{row[0]} to {row[1]}")
def test_torch_has_code_for_what_its_nvcc_knows(row: tuple[str, str, tuple[str, ...], str]) -> None:
    _, _, cudas, architectures = row
    for cuda in cudas:
        nvcc = tables.nvcc_release(cuda)
        assert nvcc is not None
        assert set(architectures.split()) <= nvcc.architectures, cuda


def test_ubuntu_s_numbers_are_suites() -> None:
    assert tables.suite_of("22.04") == tables.suite_of("jammy")
    assert tables.suite_of("unheard-of") is None


@pytest.mark.parametrize(
    ("torch", "cuda", "newest"),
    [("2.0.1", "11.7", "8.6"), ("2.0.1+cu118", "11.8", "9.0"), ("2.11.0", "13.0", "12.0")],
)
def test_architectures_depend_on_torch_and_cuda(torch: str, cuda: str, newest: str) -> None:
    found = tables.torch_architectures(torch, cuda)
    assert found is not None
    assert found[-1] == newest


def test_pairs_that_were_never_released_are_unknown() -> None:
    assert tables.torch_architectures("2.0.1", "13.0") is None
    assert tables.torch_architectures("9.9", "13.0") is None
