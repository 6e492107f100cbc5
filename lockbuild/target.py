"""The machine that a stack is made for. Pure: nothing is asked of the machine that runs lockbuild."""

from __future__ import annotations

import re
from dataclasses import dataclass
from functools import lru_cache
from typing import TYPE_CHECKING

from packaging.tags import Tag, compatible_tags, cpython_tags

if TYPE_CHECKING:
    from collections.abc import Iterator

__all__ = ["MACHINES", "Target", "libc_of"]

MACHINES = {"linux_x86_64": ("x86_64", "amd64", "x86_64-linux", "linux-64")}
"""Platform -> machine as Python says it, as Debian, as derivations, and as conda say it."""

# Old names of manylinux levels, PEP 600: https://peps.python.org/pep-0600/#legacy-manylinux-tags
_LEGACY = {17: "manylinux2014", 12: "manylinux2010", 5: "manylinux1"}


@dataclass(frozen=True, slots=True, kw_only=True)
class Target:
    """Python, platform, C library and CUDA of the image that a stack describes."""

    python: str
    """Major and minor version: `3.11`."""
    platform: str
    """A key of `MACHINES`."""
    glibc: str
    """Version of the C library in the image: `2.36`."""
    cuda: str | None = None
    """CUDA runtime, major and minor; none for a CPU stack."""
    cuda_architectures: tuple[str, ...] = ()
    """Compute capabilities to compile for, as TORCH_CUDA_ARCH_LIST takes them: `8.6+PTX`."""

    @property
    def python_version(self) -> tuple[int, int]:
        """`(3, 11)` for `3.11`."""
        major, minor = self.python.split(".")
        return int(major), int(minor)

    @property
    def machine(self) -> str:
        """The machine's name in Python's words: `x86_64`."""
        return MACHINES[self.platform][0]

    @property
    def debian_architecture(self) -> str:
        """The machine's name in Debian's words: `amd64`."""
        return MACHINES[self.platform][1]

    @property
    def conda_subdir(self) -> str:
        """The machine's name in conda's words: `linux-64`."""
        return MACHINES[self.platform][3]

    @property
    def system(self) -> str:
        """The machine's name in derivations: `x86_64-linux`."""
        return MACHINES[self.platform][2]

    def platforms(self) -> Iterator[str]:
        """Yield the platform tags that fit, best first: manylinux levels down from the target's glibc."""
        major, minor = (int(part) for part in self.glibc.split("."))
        for level in range(minor, 4, -1):
            yield f"manylinux_{major}_{level}_{self.machine}"
            if level in _LEGACY:
                yield f"{_LEGACY[level]}_{self.machine}"
        yield f"linux_{self.machine}"

    def tags(self) -> tuple[Tag, ...]:
        """Return every wheel tag that the target can install, best first."""
        return _tags(self)

    def marker_environment(self) -> dict[str, str]:
        """Return the environment in which markers are judged, as PEP 508 names it."""
        return {
            "implementation_name": "cpython",
            "implementation_version": f"{self.python}.0",
            "os_name": "posix",
            "platform_machine": self.machine,
            "platform_python_implementation": "CPython",
            "platform_release": "",
            "platform_system": "Linux",
            "platform_version": "",
            "python_full_version": f"{self.python}.0",
            "python_version": self.python,
            "sys_platform": "linux",
            "extra": "",
        }


def libc_of(platform: str) -> tuple[int, int] | None:
    """Return the oldest C library that a wheel of a *platform* tag is for; none of a tag that promises none.

    `manylinux_2_28_x86_64` is for 2.28, `manylinux1_x86_64` for 2.5.
    """
    level = re.match(r"manylinux_(\d+)_(\d+)_", platform)
    if level:
        return int(level[1]), int(level[2])
    legacy = platform.partition("_")[0]
    return next(((2, minor) for minor, name in _LEGACY.items() if name == legacy), None)


@lru_cache(maxsize=16)
def _tags(target: Target) -> tuple[Tag, ...]:
    platforms = tuple(target.platforms())
    interpreter = f"cp{target.python.replace('.', '')}"
    # Said outright: left to itself, `packaging` takes the ABI of the Python that runs lockbuild.
    abi = interpreter + ("m" if target.python_version < (3, 8) else "")
    return (
        *cpython_tags(target.python_version, abis=[abi], platforms=platforms),
        *compatible_tags(target.python_version, interpreter=interpreter, platforms=platforms),
    )
