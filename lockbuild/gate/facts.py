"""What the gate knows of a wheel, and of what the wheel will meet at run time, as frozen values."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Mapping

    from lockbuild.binaries import Binary
    from lockbuild.target import Target

__all__ = ["Contents", "Expected", "Imported", "Runtime", "Torch"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Contents:
    """A wheel, read."""

    filename: str
    sha256: str
    name: str
    """Normalised, of the file name, as version and tags."""
    version: str
    tags: tuple[str, ...]
    """Sorted."""
    members: tuple[str, ...]
    """Sorted; those of a `.data` folder that are installed to site-packages stand where they are there."""
    binaries: Mapping[str, Binary]
    """Member -> what it says, for each that is an ELF file."""
    paths: tuple[tuple[str, str, str], ...] = ()
    """Member, section and text of everything that looks like a path of a machine; no section outside of ELF files."""
    said_tags: tuple[str, ...] = ()
    """What its WHEEL file says, sorted."""
    requires: tuple[str, ...] = ()
    """`Requires-Dist`, in the order of its METADATA."""
    requires_python: str | None = None
    faults: tuple[str, ...] = ()
    """Why it is no wheel that installers should be given."""

    @property
    def modules(self) -> tuple[str, ...]:
        """The extension modules that Python can import from it, sorted."""
        found = []
        for member, binary in self.binaries.items():
            folder, _, file = member.rpartition("/")
            stem = file.partition(".")[0]
            if f"PyInit_{stem}" in binary.defined:
                found.append(".".join([*folder.split("/"), stem]) if folder else stem)
        return tuple(sorted(found))

    @property
    def top_levels(self) -> frozenset[str]:
        """The names that Python can import from it."""
        firsts = (member.partition("/") for member in self.members)
        return frozenset(
            first if slash else first.partition(".")[0]
            for first, slash, _ in firsts
            if not first.endswith((".dist-info", ".data"))
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class Expected:
    """What a stack says of a wheel that it builds."""

    name: str
    version: str
    """With the label that it has for this stack: `0.0.0+pt20cu118`."""
    patterns: tuple[str, ...] = ()
    """`build.expects`."""
    device_code: bool | None = None
    """Whether it is to hold code for GPUs, as `FORCE_CUDA` says; none where nothing says it."""
    nvcc: bool = False
    """Whether nvcc and torch were there when it was compiled."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Torch:
    """The torch that ships."""

    version: str
    cuda: str | None
    """CUDA's major version; none for one without CUDA."""
    symbols: frozenset[str]
    """What its libraries define, of its own names."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Runtime:
    """What a wheel meets where it is installed."""

    stack: str
    target: Target
    base_libraries: frozenset[str]
    """Names of the shared libraries that the root file system's linker finds."""
    base_versions: Mapping[str, frozenset[str]]
    """Library of C or of the compiler -> versions that it defines: `libstdc++.so.6`."""
    wheel_libraries: frozenset[str]
    """Names of the shared libraries in wheels of the lock."""
    owners: Mapping[str, tuple[str, ...]]
    """Place -> names of the lock's packages whose wheels install a file there, as `place_of` says it."""
    installed: Mapping[str, str]
    """Name -> version of each package of the lock, conda's among them."""
    torch: Torch | None
    """None where the lock has none that is fetched."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Imported:
    """How it went to import a wheel's modules where it will be installed."""

    faults: tuple[tuple[str, str], ...]
    """Module and what Python said, for each that did not import."""
