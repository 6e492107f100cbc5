"""What of a cell cannot be, and what may not be meant. Pure."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from packaging.utils import InvalidWheelFilename, parse_wheel_filename

from lockbuild.cells.facts import cell_of
from lockbuild.cells.tables import (
    GCC_OF_STANDARD,
    NVCC_OF_STANDARD,
    nvcc_release,
    torch_architectures,
    torch_release,
)
from lockbuild.errors import ResolveError
from lockbuild.findings import Check, Finding
from lockbuild.target import libc_of

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping, Sequence

    from lockbuild.cells.facts import Cell, Compiler
    from lockbuild.lock import Lock, LockedPackage
    from lockbuild.stack import Stack

__all__ = ["CHECKS", "findings", "refused"]

CHECKS = (
    Check(
        id="nvcc-absent",
        level="error",
        what="nvcc comes from where the stack says",
        why="without it extensions are compiled for the CPU alone, or not at all",
        mend="correct `toolchain.nvcc`, then `lockbuild resolve`; where nothing is for GPUs, take out `target.cuda-architectures`",
    ),
    Check(
        id="nvcc-parts",
        level="error",
        what="the wheels that nvcc is made of are of one release",
        why="headers and optimiser of another release are not what its nvcc writes for",
        mend="name all parts with one pin: `cuda-toolkit[nvcc,nvvm,crt,cudart,cccl]==13.0.2`",
    ),
    Check(
        id="cuda-major",
        level="error",
        what="nvcc has the major version of torch's CUDA",
        why="torch refuses to compile extensions with another, whose libraries it does not load; one without CUDA has none",
        mend="take a torch for nvcc's CUDA, or an nvcc for torch's",
    ),
    Check(
        id="cuda-minor",
        level="warning",
        what="nvcc has the minor version of torch's CUDA",
        why="minor versions go together by NVIDIA's promise, but nobody tested just these two",
        mend="take a torch for nvcc's CUDA, or an nvcc for torch's, where there is one",
    ),
    Check(
        id="target-cuda",
        level="error",
        what="`target.cuda` is the CUDA that is compiled with, or that torch brings where nothing is",
        why="the preflight asks for a driver of that version, and labels of wheels tell it",
        mend="correct `target.cuda`",
    ),
    Check(
        id="host-compiler",
        level="error",
        what="nvcc takes the host compiler",
        why="it stops at the first file otherwise: `unsupported GNU version!`",
        mend="name an older one: `toolchain.compiler`",
    ),
    Check(
        id="cxx-standard",
        level="error",
        what="nvcc, host compiler and flags have the C++ that torch's headers want",
        why="no file that includes torch's headers compiles without",
        mend="take newer compilers, or the flag out of the build's `env`",
    ),
    Check(
        id="architecture-nvcc",
        level="error",
        what="nvcc knows every architecture of `target.cuda-architectures`, and there is one to compile for",
        why="it refuses to compile for others; without any, torch asks the GPU of the machine that builds, and there is none",
        mend="name those of your GPUs that nvcc knows; `+PTX` on the newest known one serves later ones",
    ),
    Check(
        id="architecture-torch",
        level="warning",
        what="torch's own kernels run on every architecture of `target.cuda-architectures`",
        why="extensions would run there and torch would not: `no kernel image is available`",
        mend="take the architecture out, or another build of torch",
    ),
    Check(
        id="glibc",
        level="error",
        what="the image's C library is `target.glibc`, and every locked wheel and a host's Python fit it",
        why="a wheel for a later C library does not load, and a program for one does not start",
        mend="correct `target.glibc`, or take a base with that C library, then `lockbuild resolve`",
    ),
    Check(
        id="interpreter-version",
        level="error",
        what="the interpreter is the Python of `target.python`",
        why="wheels for another Python do not install, and so no environment can be made",
        mend="correct `target.python`; or take such a Python: `interpreter.standalone`, or a base that has it",
    ),
    Check(
        id="cell-unknown",
        level="warning",
        what="lockbuild knows the versions that must go together",
        why="what it does not know it cannot judge",
        mend="see upstream's notes, or a later lockbuild",
    ),
)

_FLAG_VARIABLES = (
    "CFLAGS",
    "CXXFLAGS",
    "NVCC_FLAGS",
    "NVCC_PREPEND_FLAGS",
    "NVCC_APPEND_FLAGS",
    "TORCH_NVCC_FLAGS",
)
_STANDARD = re.compile(r"[-/]+std(?:[=:]|\s+)(?:c|gnu)\+\+(\d\w)")
_STANDARDS = {"98": 3, "03": 3, "0x": 11, "1y": 14, "1z": 17, "2a": 20, "2b": 23}

_Found = tuple[str, str]


def findings(stack: Stack, lock: Lock | None) -> tuple[Finding, ...]:
    """Return everything that speaks against the cell of *stack*, errors first.

    Args:
        lock: None before there is one: then only what the stack file pins is judged, and nothing is unknown.
    """
    cell = cell_of(stack, lock)
    found = [
        Finding(check=check.id, level=check.level, subject=subject, message=message, mend=check.mend)
        for check in CHECKS
        for subject, message in _RULES[check.id](cell, stack, lock)
    ]
    return tuple(sorted(found, key=lambda finding: finding.level))


def refused(name: str, found: Sequence[Finding], *, what: str) -> ResolveError | None:
    """Return the error that tells all errors among *found*; none where there is none.

    Args:
        name: How the stack is called in messages.
        what: What is not done, for the message.
    """
    errors = [finding for finding in found if finding.level == "error"]
    if not errors:
        return None
    lines = tuple(
        line
        for finding in errors
        for line in (f"{finding.check}: {finding.message}", f"  mend: {finding.mend}")
    )
    return ResolveError(
        f"{name}: what is to go together cannot; {what}",
        details=lines,
        hint="docs/stack-file.md, `What goes together`, has the rules",
    )


# ---- rules ------------------------------------------------------------------------------------------


def _nvcc_absent(cell: Cell, stack: Stack, lock: Lock | None) -> Iterator[_Found]:
    nvcc = stack.toolchain.nvcc
    if cell.nvcc is not None or lock is None:
        return
    if nvcc.wheels and cell.compilers:
        yield (
            "toolchain.nvcc",
            f"{cell.nvcc_wanted} brings no `nvidia-cuda-nvcc`: those of CUDA 11 and 12 lack nvcc itself",
        )
    elif nvcc.apt and not lock.open_of("apt"):
        yield "toolchain.nvcc", f"{cell.nvcc_wanted} is not among the locked packages"
    elif cell.nvcc_wanted is None and stack.base.debian and cell.compilers and cell.has_cuda:
        wanted, builds = stack.target.cuda_architectures, _builds_of(cell)
        if wanted and not lock.open_of("apt"):
            yield (
                "toolchain.nvcc",
                f"nothing in the toolchain is nvcc; to be compiled for {', '.join(wanted)}: {builds}",
            )


def _nvcc_parts(cell: Cell, _stack: Stack, _lock: Lock | None) -> Iterator[_Found]:
    for part in cell.nvcc_parts if cell.nvcc else ():
        if cell.nvcc and part.text != cell.nvcc.text:
            yield (
                "toolchain.nvcc",
                f"nvcc is {cell.nvcc.text} ({cell.nvcc.source}), and a part of it {part.text} ({part.source})",
            )


def _both(cell: Cell) -> str:
    """Return torch's CUDA and nvcc's as a sentence."""
    torch, cuda, nvcc = cell.torch, cell.torch_cuda, cell.nvcc
    said = f"torch {torch.text if torch else ''} is CUDA {cuda.text if cuda else ''} ({cuda.source if cuda else ''})"
    return f"{said}; nvcc is {nvcc.text} ({nvcc.source})" if nvcc else said


def _cuda_major(cell: Cell, stack: Stack, _lock: Lock | None) -> Iterator[_Found]:
    torch, nvcc = cell.torch, cell.nvcc
    if torch and nvcc and not cell.has_cuda and cell.compilers and stack.target.cuda_architectures:
        yield (
            "torch",
            f"torch {torch.text} is one without CUDA ({torch.source}); nvcc is {nvcc.text} ({nvcc.source})",
        )
    elif cell.torch_cuda and nvcc and cell.torch_cuda.major != nvcc.major:
        yield "torch", _both(cell)


def _cuda_minor(cell: Cell, _stack: Stack, _lock: Lock | None) -> Iterator[_Found]:
    torch, nvcc = cell.torch_cuda, cell.nvcc
    if torch and nvcc and torch.major == nvcc.major and torch.text != nvcc.text:
        yield "torch", _both(cell)


def _target_cuda(cell: Cell, stack: Stack, _lock: Lock | None) -> Iterator[_Found]:
    wanted = stack.target.cuda
    if wanted is None:
        if cell.nvcc and cell.compilers and cell.has_cuda:
            yield (
                "target.cuda",
                f"`target.cuda` is not there; nvcc is {cell.nvcc.text} ({cell.nvcc.source}), for {_builds_of(cell)}",
            )
        return
    if cell.nvcc:
        if cell.nvcc.text != wanted:
            yield (
                "target.cuda",
                f"`target.cuda` is {wanted}; nvcc is {cell.nvcc.text} ({cell.nvcc.source})",
            )
    elif cell.torch_cuda and cell.torch_cuda.major != int(wanted.partition(".")[0]):
        yield "target.cuda", f"`target.cuda` is {wanted}; {_both(cell)}"


def _host_compiler(cell: Cell, _stack: Stack, _lock: Lock | None) -> Iterator[_Found]:
    release = nvcc_release(cell.nvcc.text) if cell.nvcc else None
    if cell.nvcc is None or release is None:
        return
    for compiler in cell.compilers:
        version = compiler.version if compiler.of_nvcc and not compiler.unchecked else None
        if version and version.major > release.gcc:
            yield (
                compiler.name,
                (
                    f"nvcc {cell.nvcc.text} ({cell.nvcc.source}) takes GCC up to {release.gcc}; {_of_builds(compiler)} "
                    f'is GCC {version.text} ({version.source}): `toolchain.compiler = "g++-{release.gcc}"`'
                ),
            )


def _builds_of(cell: Cell) -> str:
    """Return the extensions of torch as a sentence has them."""
    return ", ".join(sorted({name for compiler in cell.compilers for name in compiler.builds}))


def _of_builds(compiler: Compiler) -> str:
    return f"`{compiler.name}` of {', '.join(compiler.builds)}"


def _cxx_standard(cell: Cell, stack: Stack, _lock: Lock | None) -> Iterator[_Found]:
    release = torch_release(cell.torch.text) if cell.torch else None
    wanted = release.standard if release else None
    if cell.torch is None or wanted is None:
        return
    headers = f"the headers of torch {cell.torch.text} want C++{wanted}"
    oldest = GCC_OF_STANDARD[wanted]
    for compiler in cell.compilers:
        version = compiler.version
        # Of `g++-11` in a stack file alone nobody knows the minor version.
        if version and version.parts < oldest[: len(version.parts)]:
            least = ".".join(map(str, oldest))
            yield (
                compiler.name,
                f"{headers}, and so GCC {least} or later; {_of_builds(compiler)} is {version.text} ({version.source})",
            )
    if cell.compilers and cell.nvcc:
        least = NVCC_OF_STANDARD[wanted]
        if cell.nvcc.parts < tuple(map(int, least.split("."))):
            yield (
                "nvcc",
                f"{headers}, and so nvcc {least} or later; it is {cell.nvcc.text} ({cell.nvcc.source})",
            )
    compiled = {name for compiler in cell.compilers for name in compiler.builds}
    for spec in stack.builds:
        for variable, flags in spec.env if spec.name in compiled else ():
            for said in _STANDARD.findall(flags) if variable in _FLAG_VARIABLES else ():
                if _STANDARDS.get(said, int(said) if said.isdigit() else wanted) < wanted:
                    yield spec.name, f"{headers}; `build[{spec.name}].env.{variable}` asks for C++{said}"


def _architecture_nvcc(cell: Cell, stack: Stack, _lock: Lock | None) -> Iterator[_Found]:
    release = nvcc_release(cell.nvcc.text) if cell.nvcc else None
    if cell.nvcc is None or release is None:
        return
    known = ", ".join(
        sorted((one for one in release.architectures if one[-1].isdigit()), key=_capability)
    )
    if not stack.target.cuda_architectures and cell.compilers and cell.has_cuda:
        yield (
            "target.cuda-architectures",
            f"`target.cuda-architectures` is empty; nvcc {cell.nvcc.text} ({cell.nvcc.source}) is to compile {_builds_of(cell)}",
        )
    for wanted in stack.target.cuda_architectures:
        if wanted.removesuffix("+PTX") not in release.architectures:
            yield (
                "target.cuda-architectures",
                f"`{wanted}` is none that nvcc {cell.nvcc.text} ({cell.nvcc.source}) knows: {known}",
            )


def _architecture_torch(cell: Cell, stack: Stack, _lock: Lock | None) -> Iterator[_Found]:
    if cell.torch is None or cell.torch_cuda is None:
        return
    has = torch_architectures(cell.torch.text, cell.torch_cuda.text) or ()
    for wanted in stack.target.cuda_architectures if has else ():
        major, minor = _capability(wanted.removesuffix("+PTX"))
        # Machine code runs on its own major version from its own minor version on: CUDA C++ Programming Guide, "Binary Compatibility".
        if not any(one[0] == major and one[1] <= minor for one in map(_capability, has)):
            yield (
                "target.cuda-architectures",
                f"torch {cell.torch.text} for CUDA {cell.torch_cuda.text} has no code for `{wanted}`: it has {', '.join(has)}",
            )


def _capability(text: str) -> tuple[int, int]:
    major, _, minor = text.rstrip("af").partition(".")
    return int(major), int(minor)


def _glibc(cell: Cell, stack: Stack, lock: Lock | None) -> Iterator[_Found]:
    target = stack.target
    wanted = tuple(map(int, target.glibc.split(".")))
    if cell.libc and cell.libc.parts < wanted:
        yield (
            "target.glibc",
            f"`target.glibc` is {target.glibc}; the image's is {cell.libc.text} ({cell.libc.source})",
        )
    own = lock.interpreter if lock else None
    there = cell.libc.parts if cell.libc else wanted
    if own and own.glibc and tuple(map(int, own.glibc.split("."))) > there:
        found = cell.libc.text if cell.libc else target.glibc
        yield (
            "interpreter.host",
            f"`{own.file.filename}` wants glibc {own.glibc} or later; the image's is {found}",
        )
    seen = set()
    for package in _wheels(lock):
        filename = package.wheel.filename if package.wheel else ""
        levels = [] if filename in seen else _levels(filename)
        seen.add(filename)
        if levels and min(levels) > wanted:
            least = ".".join(map(str, min(levels)))
            yield (
                package.name,
                f"`{filename}` wants glibc {least} or later; `target.glibc` is {target.glibc}",
            )


def _wheels(lock: Lock | None) -> Iterator[LockedPackage]:
    for packages in (lock.runtime, *(packages for _, packages in lock.build)) if lock else ():
        yield from packages


def _levels(filename: str) -> list[tuple[int, int]]:
    """Return the C libraries that a wheel says it is for; nothing where any will do."""
    try:
        tags = parse_wheel_filename(filename)[3]
    except InvalidWheelFilename:
        return []
    levels = [libc_of(platform) for platform in {tag.platform for tag in tags}]
    named = [level for level in levels if level]
    return named if len(named) == len(levels) else []


def _interpreter_version(cell: Cell, stack: Stack, _lock: Lock | None) -> Iterator[_Found]:
    python = cell.python
    if python and python.text != stack.target.python:
        yield (
            "target.python",
            f"`target.python` is {stack.target.python}; the interpreter is {python.text} ({python.source})",
        )


def _unknown(cell: Cell, stack: Stack, lock: Lock | None) -> Iterator[_Found]:
    if lock is None or not (cell.compilers or cell.nvcc):
        return
    nvcc, torch = cell.nvcc, cell.torch
    if nvcc and nvcc_release(nvcc.text) is None:
        yield (
            "nvcc",
            f"nothing is known of nvcc {nvcc.text} ({nvcc.source}): which GCC it takes, which architectures it knows",
        )
    elif nvcc is None and cell.nvcc_wanted:
        yield "nvcc", f"the version of nvcc is not known: {cell.nvcc_wanted}"
    for compiler in cell.compilers if nvcc else ():
        if compiler.version is None:
            yield compiler.name, f"the version of {_of_builds(compiler)} is not known"
    if torch is None or not cell.has_cuda or not cell.compilers:
        return
    release = torch_release(torch.text)
    if release is None or release.standard is None:
        yield "torch", f"nothing is known of the C++ that torch {torch.text} wants"
    if cell.torch_cuda is None:
        yield "torch", f"nobody says which CUDA torch {torch.text} is for ({torch.source})"
    elif stack.target.cuda_architectures and not torch_architectures(torch.text, cell.torch_cuda.text):
        yield (
            "torch",
            f"nothing is known of the architectures of torch {torch.text} for CUDA {cell.torch_cuda.text}",
        )


_RULES: Mapping[str, Callable[[Cell, Stack, Lock | None], Iterator[_Found]]] = {
    "nvcc-absent": _nvcc_absent,
    "nvcc-parts": _nvcc_parts,
    "cuda-major": _cuda_major,
    "cuda-minor": _cuda_minor,
    "target-cuda": _target_cuda,
    "host-compiler": _host_compiler,
    "cxx-standard": _cxx_standard,
    "architecture-nvcc": _architecture_nvcc,
    "architecture-torch": _architecture_torch,
    "glibc": _glibc,
    "interpreter-version": _interpreter_version,
    "cell-unknown": _unknown,
}
