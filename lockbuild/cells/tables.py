"""What is known of CUDA's compilers and of PyTorch's releases, each with its source. Pure.

A version that is not here is unknown: whoever asks gets none, and says so.
"""

from __future__ import annotations

from dataclasses import dataclass

__all__ = [
    "GCC_OF_STANDARD",
    "NVCC_OF_STANDARD",
    "Nvcc",
    "Suite",
    "Torch",
    "nvcc_release",
    "suite_of",
    "torch_architectures",
    "torch_release",
]


# ---- nvcc -----------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True, kw_only=True)
class Nvcc:
    """A minor release of CUDA's compiler."""

    gcc: int
    """Newest major version of GCC that it takes: its `crt/host_config.h` refuses later ones."""
    architectures: frozenset[str]
    """Compute capabilities that it has code for."""


def _nvcc(gcc: int, architectures: str) -> Nvcc:
    return Nvcc(gcc=gcc, architectures=frozenset(architectures.split()))


_FROM_5 = "5.0 5.2 5.3 6.0 6.1 6.2 7.0 7.2 7.5"
_CUDA_11 = f"3.5 3.7 {_FROM_5} 8.0"
_CUDA_12 = f"{_FROM_5} 8.0 8.6 8.7 8.9 9.0 9.0a"
_CUDA_13 = "7.5 8.0 8.6 8.7 8.8 8.9 9.0 9.0a 10.0 10.0a 10.0f 10.3 10.3a 10.3f 11.0 11.0a 11.0f 12.0 12.0a 12.0f 12.1 12.1a 12.1f"
_CUDA_13_4 = f"{_CUDA_13} 10.7 10.7a 10.7f"

# From 11.7 on GCC as the error text in `crt/host_config.h` of PyPI's wheels of nvcc has it ("gcc versions later than N are not
# supported"), and architectures as `ptxas --help` of the same wheels lists them (of CUDA 13, `nvcc --list-gpu-code`: its ptxas
# still takes 7.0). Before 11.7 GCC as `torch.utils.cpp_extension.CUDA_GCC_VERSIONS` and, of 10.x, the "CUDA Installation Guide for
# Linux", section "System Requirements", of that release; architectures as "nvcc", section "GPU Feature List", of that release.
_NVCC = {
    "10.1": _nvcc(8, f"3.0 3.2 3.5 3.7 {_FROM_5}"),
    "10.2": _nvcc(8, f"3.0 3.2 3.5 3.7 {_FROM_5}"),
    "11.0": _nvcc(9, _CUDA_11),
    "11.1": _nvcc(10, f"{_CUDA_11} 8.6"),
    "11.2": _nvcc(10, f"{_CUDA_11} 8.6"),
    "11.3": _nvcc(10, f"{_CUDA_11} 8.6"),
    "11.4": _nvcc(11, f"{_CUDA_11} 8.6 8.7"),
    "11.5": _nvcc(11, f"{_CUDA_11} 8.6 8.7"),
    "11.6": _nvcc(11, f"{_CUDA_11} 8.6 8.7"),
    "11.7": _nvcc(11, f"{_CUDA_11} 8.6 8.7"),
    "11.8": _nvcc(11, f"{_CUDA_11} 8.6 8.7 8.9 9.0"),
    "12.0": _nvcc(12, _CUDA_12),
    "12.1": _nvcc(12, _CUDA_12),
    "12.2": _nvcc(12, _CUDA_12),
    "12.3": _nvcc(12, _CUDA_12),
    "12.4": _nvcc(13, _CUDA_12),
    "12.5": _nvcc(13, _CUDA_12),
    "12.6": _nvcc(13, _CUDA_12),
    "12.8": _nvcc(14, f"{_CUDA_12} 10.0 10.0a 10.1 10.1a 12.0 12.0a"),
    "12.9": _nvcc(
        14,
        f"{_CUDA_12} 10.0 10.0a 10.0f 10.1 10.1a 10.1f 10.3 10.3a 10.3f 12.0 12.0a 12.0f 12.1 12.1a 12.1f",
    ),
    "13.0": _nvcc(15, _CUDA_13),
    "13.1": _nvcc(15, _CUDA_13),
    "13.2": _nvcc(15, _CUDA_13),
    "13.3": _nvcc(15, _CUDA_13),
    "13.4": _nvcc(16, _CUDA_13_4),
    "13.5": _nvcc(16, _CUDA_13_4),
}


def nvcc_release(version: str) -> Nvcc | None:
    """Return what is known of the nvcc of *version*, `11.8`."""
    return _NVCC.get(version)


# ---- torch ----------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True, kw_only=True)
class Torch:
    """A minor release of PyTorch."""

    cuda: str
    """Of its wheels on the default index."""
    standard: int | None = None
    """Version of C++ that its headers want; none where that is unknown."""


# The default index's CUDA: of 1.13 and later what its wheels require (`nvidia-cuda-runtime-cu11`, `-cu12`, `nvidia-cuda-runtime`);
# of earlier ones the "previous versions" page of pytorch.org. C++: pytorch/pytorch RELEASE.md, "Release Compatibility Matrix".
_TORCH = {
    "1.4": Torch(cuda="10.1"),
    "1.5": Torch(cuda="10.2"),
    "1.6": Torch(cuda="10.2"),
    "1.7": Torch(cuda="10.2"),
    "1.8": Torch(cuda="10.2"),
    "1.9": Torch(cuda="10.2"),
    "1.10": Torch(cuda="10.2"),
    "1.11": Torch(cuda="10.2"),
    "1.12": Torch(cuda="10.2", standard=14),
    "1.13": Torch(cuda="11.7", standard=14),
    "2.0": Torch(cuda="11.7", standard=14),
    "2.1": Torch(cuda="12.1", standard=17),
    "2.2": Torch(cuda="12.1", standard=17),
    "2.3": Torch(cuda="12.1", standard=17),
    "2.4": Torch(cuda="12.1", standard=17),
    "2.5": Torch(cuda="12.4", standard=17),
    "2.6": Torch(cuda="12.4", standard=17),
    "2.7": Torch(cuda="12.6", standard=17),
    "2.8": Torch(cuda="12.8", standard=17),
    "2.9": Torch(cuda="12.8", standard=17),
    "2.10": Torch(cuda="12.8", standard=17),
    "2.11": Torch(cuda="13.0", standard=17),
    "2.12": Torch(cuda="13.0", standard=17),
    "2.13": Torch(cuda="13.0", standard=20),
    "2.14": Torch(cuda="13.0", standard=20),
    "2.15": Torch(cuda="13.2"),
}

GCC_OF_STANDARD = {14: (5,), 17: (9,), 20: (11, 3)}
"""C++ -> oldest GCC that torch takes for it: `c10/util/C++17.h` of torch 2.0 ("We need GCC 5 or later") and of 2.6 ("GCC 9");
README.md of pytorch/pytorch ("gcc 11.3.0 or newer")."""

NVCC_OF_STANDARD = {14: "9.0", 17: "11.0", 20: "12.0"}
"""C++ -> oldest nvcc that has it: "nvcc", section "--std", and CUDA's release notes of these."""

_TO_8_6 = "3.7 5.0 6.0 7.0 7.5 8.0 8.6"
_TO_9 = "5.0 6.0 7.0 7.5 8.0 8.6 9.0"
_BLACKWELL = "7.5 8.0 8.6 9.0 10.0 12.0"

# First and last release, CUDA -> architectures of the wheels for x86_64. pytorch/builder, `manywheel/build_cuda.sh` of the release
# branches 1.11 to 2.5; pytorch/pytorch, `.ci/manywheel/build_cuda.sh` and RELEASE.md, "PyTorch CUDA Support Matrix", after these. Of
# 2.0 with 11.7 and of 2.6 with 12.4 the list is the one in PyPI's wheels (`torch.cuda.get_arch_list()`).
_TORCH_ARCHITECTURES: tuple[tuple[str, str, tuple[str, ...], str], ...] = (
    ("1.11", "1.12", ("10.2",), "3.7 5.0 6.0 7.0"),
    ("1.11", "2.0", ("11.3", "11.5", "11.6", "11.7"), _TO_8_6),
    ("2.0", "2.0", ("11.8",), f"{_TO_8_6} 9.0"),
    ("2.1", "2.7", ("11.8",), f"3.7 {_TO_9}"),
    ("2.1", "2.5", ("12.1",), _TO_9),
    ("2.4", "2.6", ("12.4",), _TO_9),
    ("2.6", "2.14", ("12.6",), _TO_9),
    ("2.7", "2.7", ("12.8",), _BLACKWELL),
    ("2.8", "2.10", ("12.8", "12.9"), f"7.0 {_BLACKWELL}"),
    ("2.11", "2.11", ("12.8",), _BLACKWELL),
    ("2.9", "2.14", ("13.0",), _BLACKWELL),
    ("2.12", "2.14", ("13.2",), _BLACKWELL),
)


def _minor(version: str) -> str:
    return ".".join(version.partition("+")[0].split(".")[:2])


def torch_release(version: str) -> Torch | None:
    """Return what is known of the torch with this *version*."""
    return _TORCH.get(_minor(version))


def torch_architectures(version: str, cuda: str) -> tuple[str, ...] | None:
    """Return the compute capabilities that the wheels of this torch have code for; none where nobody knows."""
    places = {name: place for place, name in enumerate(_TORCH)}
    place = places.get(_minor(version), -1)
    for first, last, cudas, architectures in _TORCH_ARCHITECTURES:
        if places[first] <= place <= places[last] and cuda in cudas:
            return tuple(architectures.split())
    return None


# ---- distributions ---------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True, kw_only=True)
class Suite:
    """A release of Debian or Ubuntu, whose versions stand still."""

    gcc: int
    """Major version of its `g++`."""
    python: str
    """Its `python3`."""
    nvcc: str | None = None
    """CUDA of its `nvidia-cuda-toolkit`."""


# Their package lists: `g++`, `python3` and `nvidia-cuda-toolkit`.
_SUITES = {
    "bullseye": Suite(gcc=10, python="3.9", nvcc="11.2"),
    "bookworm": Suite(gcc=12, python="3.11", nvcc="11.8"),
    "trixie": Suite(gcc=14, python="3.13", nvcc="12.4"),
    "bionic": Suite(gcc=7, python="3.6", nvcc="9.1"),
    "focal": Suite(gcc=9, python="3.8", nvcc="10.1"),
    "jammy": Suite(gcc=11, python="3.10", nvcc="11.5"),
    "noble": Suite(gcc=13, python="3.12", nvcc="12.0"),
}
_UBUNTU = {"18.04": "bionic", "20.04": "focal", "22.04": "jammy", "24.04": "noble"}


def suite_of(name: str) -> Suite | None:
    """Return what is known of the suite called `bookworm`, or of Ubuntu's `20.04`."""
    return _SUITES.get(_UBUNTU.get(name, name))
