"""Local version labels of built wheels: `1.7.2` compiled against torch 2.0 for CUDA 11.8 is `1.7.2+pt20cu118`. Pure."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

from packaging.version import Version

from lockbuild.lock import closure

if TYPE_CHECKING:
    from collections.abc import Iterable

    from lockbuild.lock import LockedPackage
    from lockbuild.stack import BuildSpec, Stack
    from lockbuild.target import Target

__all__ = ["label_of", "labelled", "unlabelled"]

_TORCH = "torch"


def label_of(spec: BuildSpec, target: Target, runtime: Iterable[LockedPackage]) -> str:
    """Return the label of what *spec* builds; empty for none.

    What the stack says holds; else an extension of torch has torch's version and CUDA's, as its binary interface
    changes with both. A version that has a local label of its own keeps that.
    """
    if spec.label is not None:
        return spec.label
    torch = next((one for one in closure(runtime, spec.needs) if one.name == _TORCH), None)
    if torch is None or Version(spec.version).local:
        return ""
    version = Version(torch.version)
    cuda = f"cu{target.cuda.replace('.', '')}" if target.cuda else "cpu"
    return f"pt{version.major}{version.minor}{cuda}"


def labelled(packages: Iterable[LockedPackage], stack: Stack) -> tuple[LockedPackage, ...]:
    """Return the packages of the runtime, those that the stack builds with their labels."""
    packages = tuple(packages)
    specs = {spec.name: spec for spec in stack.builds}

    def complete(package: LockedPackage) -> LockedPackage:
        spec = specs.get(package.name)
        if spec is None:
            return package
        label = label_of(spec, stack.target, packages)
        return replace(package, version=f"{spec.version}+{label}" if label else spec.version)

    return tuple(complete(package) for package in packages)


def unlabelled(packages: Iterable[LockedPackage], stack: Stack) -> tuple[LockedPackage, ...]:
    """Return the packages, those that the stack builds with the versions that resolvers know."""
    versions = {spec.name: spec.version for spec in stack.builds}
    return tuple(
        replace(package, version=versions.get(package.name, package.version)) for package in packages
    )
