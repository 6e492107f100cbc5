"""A compiler cache for builds: ccache of the toolchain, with a folder of the machine that outlives the build.

Its variables and its files are in no digest: what a compiler would give, the cache gives. ccache is found by name in
front of gcc and g++. Before nvcc it is put by PYTORCH_NVCC, which PyTorch heeds since 2.1; Debian's nvcc, which
is a line of shell that hands over to the real one, hands over to ccache instead.
"""

from __future__ import annotations

import re
from contextlib import suppress
from dataclasses import replace
from typing import TYPE_CHECKING

from lockbuild.builders import BUILD, environment
from lockbuild.builders.turns import is_compiler

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from lockbuild.derivation import BuildTask

__all__ = ["mounts", "with_cache"]

_CCACHE = "usr/bin/ccache"
_CACHE = f"{BUILD}/.ccache"
_LINKS = f"{BUILD}/.compilers"
_CUDA_HOMES = ("/usr/local/cuda", "/usr")
_HANDS_OVER = re.compile(r'#!/bin/sh\s+exec (/\S+/nvcc) "\$@"\s*')


def with_cache(task: BuildTask) -> BuildTask:
    """Return *task* with the variables that its compiler cache needs; without one where the toolchain has no ccache."""
    if task.compiler_cache is None:
        return task
    if task.rootfs is None or not (task.rootfs / _CCACHE).is_file():
        return replace(task, compiler_cache=None)
    env = dict(task.env)
    nvcc = _nvcc(task, task.rootfs)
    if nvcc and not _real_nvcc(task.rootfs, nvcc):
        env.setdefault("PYTORCH_NVCC", f"/{_CCACHE} {nvcc}")
    env |= {"CCACHE_DIR": _CACHE, "PATH": f"{_LINKS}:{environment(task)['PATH']}"}
    return replace(task, env=tuple(sorted(env.items())))


def mounts(task: BuildTask) -> Iterator[str]:
    """Yield bubblewrap's arguments for the cache of *task*, if it has one.

    Links of our own, and not those of /usr/lib/ccache: whoever looks for CUDA beside an nvcc on
    PATH must not find one there.
    """
    if task.compiler_cache is None or task.rootfs is None:
        return
    task.compiler_cache.mkdir(parents=True, exist_ok=True)
    yield from ("--dir", _LINKS)
    for name in _compilers(task.rootfs):
        yield from ("--symlink", f"/{_CCACHE}", f"{_LINKS}/{name}")
    yield from ("--bind", str(task.compiler_cache), _CACHE)
    nvcc = _nvcc(task, task.rootfs)
    real = nvcc and _real_nvcc(task.rootfs, nvcc)
    if nvcc and real:
        script = task.scratch / "nvcc"
        script.write_text(f'#!/bin/sh\nexec /{_CCACHE} {real} "$@"\n', encoding="utf-8")
        script.chmod(0o755)
        yield from ("--ro-bind", str(script), nvcc)


def _compilers(rootfs: Path) -> tuple[str, ...]:
    names = {file.name for file in (rootfs / "usr/bin").iterdir() if is_compiler(file.name)}
    return tuple(sorted(name for name in names if "nvcc" not in name and "rustc" not in name))


def _nvcc(task: BuildTask, rootfs: Path) -> str | None:
    """Return where PyTorch finds the toolchain's nvcc; none where it has none."""
    own = dict(task.env).get("CUDA_HOME")
    places = (f"{home}/bin/nvcc" for home in ((own,) if own else _CUDA_HOMES))
    return next((place for place in places if (rootfs / place.lstrip("/")).is_file()), None)


def _real_nvcc(rootfs: Path, nvcc: str) -> str | None:
    """Return the program that the script *nvcc* hands over to; none where it is no such script."""
    with suppress(UnicodeDecodeError), (rootfs / nvcc.lstrip("/")).open(encoding="utf-8") as stream:
        found = _HANDS_OVER.fullmatch(stream.read(1000))
        return found[1] if found else None
    return None
