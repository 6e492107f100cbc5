"""A compiler cache for builds: ccache of the toolchain, with a folder of the machine that outlives the build.

Its variables and its folder are in no digest: what a compiler would give, the cache gives. ccache is found
by name in front of g++ and gcc, and by PyTorch's own variable in front of nvcc.
"""

from __future__ import annotations

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


def with_cache(task: BuildTask) -> BuildTask:
    """Return *task* with the variables that its compiler cache needs; without one where the toolchain has no ccache."""
    if task.compiler_cache is None:
        return task
    if task.rootfs is None or not (task.rootfs / _CCACHE).is_file():
        return replace(task, compiler_cache=None)
    own = dict(task.env)
    variables = {"CCACHE_DIR": _CACHE, "PATH": f"{_LINKS}:{environment(task)['PATH']}"}
    homes = (own["CUDA_HOME"],) if own.get("CUDA_HOME") else _CUDA_HOMES
    for home in homes:
        nvcc = f"{home}/bin/nvcc"
        if "PYTORCH_NVCC" not in own and (task.rootfs / nvcc.lstrip("/")).is_file():
            variables["PYTORCH_NVCC"] = f"/{_CCACHE} {nvcc}"
            break
    return replace(task, env=tuple(sorted({**own, **variables}.items())))


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


def _compilers(rootfs: Path) -> tuple[str, ...]:
    names = {file.name for file in (rootfs / "usr/bin").iterdir() if is_compiler(file.name)}
    return tuple(sorted(name for name in names if "nvcc" not in name and "rustc" not in name))
