"""What a stack compiles with, as values: nvcc, the host compiler, and what builds are told of them. Pure."""

from __future__ import annotations

from dataclasses import dataclass, field

__all__ = ["Nvcc", "Toolchain"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Nvcc:
    """Where CUDA's compiler comes from: at most one of these."""

    apt: str | None = None
    """Debian package: `nvidia-cuda-toolkit`."""
    image: str | None = None
    """Folder in the toolchain's base image: `/usr/local/cuda`."""
    wheels: tuple[str, ...] = ()
    """Requirements that bring it, as part of the environments of builds that need torch."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Toolchain:
    """Compilers of extensions, as far as the stack says."""

    nvcc: Nvcc = field(default_factory=Nvcc)
    compiler: str | None = None
    """C++ compiler: `g++-11`. That of C is its sibling."""

    @property
    def packages(self) -> tuple[str, ...]:
        """Debian packages that it is made of: each compiler is packaged under its own name."""
        return tuple(name for name in (self.nvcc.apt, self.compiler) if name)

    def env(self) -> dict[str, str]:
        """Return the variables that tell every build of it.

        Of an nvcc from wheels only builds have one whose environment holds them.
        """
        env = {}
        if self.compiler:
            env = {"CC": self.compiler.replace("g++", "gcc"), "CXX": self.compiler}
        if self.nvcc.apt:
            env["CUDA_HOME"] = "/usr"
        elif self.nvcc.image:
            env["CUDA_HOME"] = self.nvcc.image
        return env
