"""Which torch, nvcc and compilers a stack has: as its lock says, else as the stack file alone lets know. Pure."""

from __future__ import annotations

import posixpath
import re
from dataclasses import dataclass
from typing import TYPE_CHECKING

from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

from lockbuild.cells.tables import suite_of, torch_release
from lockbuild.lock import LOCK_FILE, RUNTIME_LOCK, build_lock_name, closure
from lockbuild.plan import NVCC_WHEEL, TORCH

if TYPE_CHECKING:
    from collections.abc import Iterable

    from lockbuild.lock import Lock, LockedDeb
    from lockbuild.stack import BuildSpec, Stack
    from lockbuild.target import Target

__all__ = ["Cell", "Compiler", "Version", "cell_of"]

STACK_FILE = "stack.toml"
_NVCC_DEB = "nvidia-cuda-toolkit"
_NVCC_PARTS = ("nvidia-cuda-crt", "nvidia-nvvm")
"""Wheels with parts of nvcc that fit the nvcc of their own release alone."""
_GCC = re.compile(r"g(?:\+\+|cc)(?:-(\d+))?")
_NVCC_FLAGS = ("NVCC_PREPEND_FLAGS", "NVCC_FLAGS", "TORCH_NVCC_FLAGS", "NVCC_APPEND_FLAGS")
_UNCHECKED = "-allow-unsupported-compiler"
_BINDIR = re.compile(r"(?:^|\s)(?:-ccbin|--compiler-bindir)[=\s]\s*(\S+)")


@dataclass(frozen=True, slots=True, kw_only=True)
class Version:
    """A version, and what says so."""

    text: str
    """`11.8`; as precise as its source is."""
    source: str
    """`nvidia-cuda-toolkit 11.8.89~11.8.0-5 in lockbuild.lock`."""

    @property
    def parts(self) -> tuple[int, ...]:
        """The version as numbers."""
        return tuple(int(part) for part in self.text.split("."))

    @property
    def major(self) -> int:
        """Its first number."""
        return self.parts[0]


@dataclass(frozen=True, slots=True, kw_only=True)
class Compiler:
    """A host compiler and the extensions that are compiled with it."""

    name: str
    version: Version | None
    builds: tuple[str, ...]
    of_nvcc: bool
    """Whether nvcc calls it; else it compiles what has no code for GPUs."""
    unchecked: bool
    """Whether these builds tell nvcc to take any compiler."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Cell:
    """What must go together. What nobody tells is none."""

    torch: Version | None = None
    torch_cuda: Version | None = None
    has_cuda: bool = False
    """Whether torch is one for CUDA, as far as is known."""
    nvcc: Version | None = None
    nvcc_wanted: str | None = None
    """Where nvcc should come from, if the stack says so."""
    nvcc_parts: tuple[Version, ...] = ()
    compilers: tuple[Compiler, ...] = ()
    libc: Version | None = None
    """Of the image."""
    python: Version | None = None
    """Its interpreter."""


def cell_of(stack: Stack, lock: Lock | None) -> Cell:
    """Return what is known of a stack; without a *lock*, only what its stack file pins."""
    torch = _torch(stack, lock)
    cuda = _torch_cuda(stack, lock, torch) if torch else None
    label = torch.text.partition("+")[2] if torch else ""
    nvcc = _nvcc(stack, lock)
    return Cell(
        torch=torch,
        torch_cuda=cuda,
        has_cuda=torch is not None and not label.startswith(("cpu", "rocm", "xpu")),
        nvcc=nvcc,
        nvcc_wanted=_nvcc_wanted(stack),
        nvcc_parts=tuple(
            found for name in _NVCC_PARTS if (found := _build_wheel(lock, name)) is not None
        ),
        compilers=_compilers(stack, lock),
        libc=_deb(lock, "libc6", "runtime"),
        python=_python(stack, lock),
    )


# ---- interpreter ------------------------------------------------------------------------------------


def _python(stack: Stack, lock: Lock | None) -> Version | None:
    """Return the interpreter, as far as its archive, package, command or suite tells which Python it is."""
    interpreter, archive = stack.interpreter, stack.base.archive
    if standalone := interpreter.standalone:
        match = re.match(r"cpython-(\d+\.\d+)\.", standalone.filename)
        return Version(text=match[1], source=f"`{standalone.filename}`") if match else None
    name = interpreter.apt or posixpath.basename(interpreter.image or "")
    match = re.match(r"python3(?:(\.\d+)|$)", name)
    if match and match[1]:
        return Version(text=f"3{match[1]}", source=f"`{name}` in {STACK_FILE}")
    if match is None or interpreter.apt is None:
        return None
    if found := _deb(lock, name, "runtime"):
        return found
    suite = suite_of(archive.suite) if archive else None
    if archive is None or suite is None or (lock and not lock.open_of("apt")):
        return None
    return Version(text=suite.python, source=f"what {archive.suite} has of `{name}`")


# ---- torch ----------------------------------------------------------------------------------------


def _torch(stack: Stack, lock: Lock | None) -> Version | None:
    if lock is not None:
        found = next((package for package in lock.runtime if package.name == TORCH), None)
        return (
            Version(text=found.version, source=f"`torch` {found.version} in {RUNTIME_LOCK}")
            if found
            else None
        )
    return _pinned(TORCH, stack.python.requires, stack.target, key="python.requires")


def _torch_cuda(stack: Stack, lock: Lock | None, torch: Version) -> Version | None:
    public, _, label = torch.text.partition("+")
    # `cu117.with.pypi.cudnn`: what torch's wheels without libraries of their own are called.
    if match := re.match(r"cu(\d+)(\d)(?:\.|$)", label):
        return Version(text=".".join(match.groups()), source=torch.source)
    if label:
        return None
    if lock is not None:
        for package in closure(lock.runtime, [TORCH]):
            if re.fullmatch(r"nvidia-cuda-runtime(-cu\d+)?", package.name):
                source = f"`{package.name}` {package.version} in {RUNTIME_LOCK}"
                return Version(text=_minor(package.version), source=source)
    elsewhere = {name for index in stack.python.indexes for name in index.only}
    elsewhere |= {wheel.name for wheel in stack.python.wheels}
    release = torch_release(public)
    if release is None or TORCH in elsewhere:
        return None
    return Version(text=release.cuda, source=f"what the default index has of torch {_minor(public)}")


# ---- nvcc -----------------------------------------------------------------------------------------


def _nvcc_wanted(stack: Stack) -> str | None:
    nvcc = stack.toolchain.nvcc
    if nvcc.wheels:
        return f"`toolchain.nvcc.wheels` ({', '.join(nvcc.wheels)})"
    if nvcc.apt:
        return f"`toolchain.nvcc.apt` ({nvcc.apt})"
    return f"`toolchain.nvcc.image` ({nvcc.image})" if nvcc.image else None


def _nvcc(stack: Stack, lock: Lock | None) -> Version | None:
    nvcc = stack.toolchain.nvcc
    if nvcc.wheels:
        return _build_wheel(lock, NVCC_WHEEL) if lock else _stated_wheel(stack)
    if nvcc.image:
        return _of_image(stack, lock)
    package = nvcc.apt or _NVCC_DEB
    if found := _deb(lock, package, "toolchain"):
        return found
    wanted = package in stack.packages_of("toolchain")
    if wanted and (lock is None or lock.open_of("apt")):
        return _of_suite(stack, package)
    return None if nvcc.apt or wanted else _of_image(stack, lock)


def _of_suite(stack: Stack, package: str) -> Version | None:
    archive = stack.base.archive
    known = suite_of(archive.suite) if archive and package == _NVCC_DEB else None
    if archive is None or known is None or known.nvcc is None:
        return None
    return Version(text=known.nvcc, source=f"what {archive.suite} has of `{package}`")


def _of_image(stack: Stack, lock: Lock | None) -> Version | None:
    """Return the CUDA of the toolchain's base image: as the image itself says, else as its tag does."""
    reference = stack.base.toolchain
    if reference is None:
        return None
    image = lock.image("toolchain") if lock else None
    said = dict(image.env).get("CUDA_VERSION", "") if image else ""
    if re.match(r"\d+\.\d+", said):
        return Version(text=_minor(said), source=f"`CUDA_VERSION={said}` of the image in {LOCK_FILE}")
    repository, _, tag = reference.partition("@")[0].rpartition(":")
    match = re.match(r"\d+\.\d+", tag)
    if match and "cuda" in repository:
        return Version(text=match[0], source=f"`base.toolchain` {tag}")
    return None


def _build_wheel(lock: Lock | None, name: str) -> Version | None:
    for environment, packages in lock.build if lock else ():
        for package in packages:
            if package.name == name:
                source = f"`{name}` {package.version} in {build_lock_name(environment)}"
                return Version(text=_minor(package.version), source=source)
    return None


def _stated_wheel(stack: Stack) -> Version | None:
    wheels = stack.toolchain.nvcc.wheels
    for name in (NVCC_WHEEL, "cuda-toolkit"):
        found = _pinned(name, wheels, stack.target, key="toolchain.nvcc.wheels")
        if found:
            return Version(text=_minor(found.text), source=found.source)
    return None


# ---- host compilers --------------------------------------------------------------------------------


def _compilers(stack: Stack, lock: Lock | None) -> tuple[Compiler, ...]:
    """Return the compiler of every extension of torch, as far as it is GCC's."""
    used: dict[tuple[str, bool, bool], list[str]] = {}
    for spec in stack.builds:
        if _needs_torch(spec, lock):
            env = {**stack.toolchain.env(), **dict(spec.env)}
            flags = " ".join(env.get(name, "") for name in _NVCC_FLAGS)
            # `torch.utils.cpp_extension` hands CC to nvcc, unless flags name another, and never CXX.
            of_nvcc = set(map(_plain, _BINDIR.findall(flags))) or {_command(env, "CC")}
            for compiler in {_command(env, "CXX", "CC"), *of_nvcc}:
                key = (compiler, compiler in of_nvcc, _UNCHECKED in flags)
                used.setdefault(key, []).append(spec.name)
    return tuple(
        Compiler(
            name=name,
            version=_compiler_version(stack, lock, name),
            builds=tuple(builds),
            of_nvcc=of_nvcc,
            unchecked=unchecked,
        )
        for (name, of_nvcc, unchecked), builds in sorted(used.items())
    )


def _needs_torch(spec: BuildSpec, lock: Lock | None) -> bool:
    if lock is None:
        return TORCH in spec.needs
    return TORCH in {package.name for package in closure(lock.runtime, spec.needs)}


def _command(env: dict[str, str], *variables: str) -> str:
    """Return the C++ compiler that the first of *variables* names, `ccache /usr/bin/gcc-11` being `g++-11`."""
    named = (env[name] for name in variables if env.get(name))
    return _plain(next(named, "g++").split()[-1])


def _plain(command: str) -> str:
    name = posixpath.basename(command)
    return name.replace("gcc", "g++") if _GCC.fullmatch(name) else name


def _compiler_version(stack: Stack, lock: Lock | None, name: str) -> Version | None:
    match = _GCC.fullmatch(name)
    if match is None or stack.interpreter.conda:
        return None
    if found := _deb(lock, name, "toolchain"):
        return found
    if match[1]:
        return Version(text=match[1], source=f"`{name}` in {STACK_FILE}")
    release = re.search(r"ubuntu(\d\d\.\d\d)", stack.base.toolchain or "")
    archive = stack.base.archive
    name_of_suite = archive.suite if archive else release[1] if release else None
    suite = suite_of(name_of_suite) if name_of_suite else None
    return Version(text=str(suite.gcc), source=f"`g++` of {name_of_suite}") if suite else None


# ---- versions ---------------------------------------------------------------------------------------


def _deb(lock: Lock | None, name: str, root: str) -> Version | None:
    found = _locked_deb(lock, name, root)
    # `4:12.2.0-3`, `11.8.89~11.8.0-5~deb12u1`: behind an epoch, and what follows is Debian's.
    match = re.match(r"(?:\d+:)?(\d+\.\d+)", found.version) if found else None
    if found is None or match is None:
        return None
    return Version(text=match[1], source=f"`{name}` {found.version} in {LOCK_FILE}")


def _locked_deb(lock: Lock | None, name: str, root: str) -> LockedDeb | None:
    debs = lock.debs if lock else ()
    return next((deb for deb in debs if deb.package == name and root in deb.roots), None)


def _pinned(name: str, requirements: Iterable[str], target: Target, *, key: str) -> Version | None:
    """Return the version of a project that *requirements* pin exactly."""
    environment = target.marker_environment()
    for text in requirements:
        requirement = Requirement(text)
        if requirement.marker and not requirement.marker.evaluate(environment):
            continue
        pins = [one for one in requirement.specifier if one.operator in {"==", "==="}]
        if canonicalize_name(requirement.name) == name and pins and "*" not in pins[0].version:
            return Version(text=pins[0].version, source=f"`{text}` in `{key}`")
    return None


def _minor(version: str) -> str:
    return ".".join(version.split(".")[:2])
