"""`[toolchain]` as people write it. Pure."""

from __future__ import annotations

from typing import Annotated

from pydantic import AfterValidator, model_validator

from lockbuild.stack.table import Table
from lockbuild.stack.words import DebianPackage, MountPoint, RequirementText, fault, matching

__all__ = ["ToolchainTable"]

Compiler = Annotated[
    str, AfterValidator(matching(r"g\+\+(-\d+)?", "GCC's C++ compiler, such as `g++-11`"))
]


class NvccTable(Table):
    """Where CUDA's compiler comes from."""

    apt: DebianPackage | None = None
    image: MountPoint | None = None
    wheels: list[RequirementText] = []

    @model_validator(mode="after")
    def _one(self) -> NvccTable:
        if sum(map(bool, (self.apt, self.image, self.wheels))) != 1:
            raise fault("exactly one of `apt`, `image` and `wheels`")
        return self


class ToolchainTable(Table):
    """What extensions are compiled with."""

    nvcc: NvccTable | None = None
    compiler: Compiler | None = None
