"""A small stack and its lock: one index of its own, two builds of which one needs the other, four .debs.

small.alpha  wheel of the default index, asked for
small.beta   wheel of the index `extra`, required by alpha
small.gamma  built from an sdist, compiled against alpha
small.delta  built from a folder beside the stack file, compiled against gamma
"""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Any

from lockbuild.derivation import Build
from lockbuild.digest import Sha256, StorePath, sha256_of, store_path
from lockbuild.lock import (
    BuiltPin,
    Lock,
    LockedDeb,
    LockedFile,
    LockedInterpreter,
    LockedPackage,
    LockedSource,
)
from lockbuild.stack import Stack, from_document

if TYPE_CHECKING:
    from collections.abc import Mapping

__all__ = [
    "FILES",
    "HOST",
    "any_build",
    "deb",
    "minimal_document",
    "package",
    "pin",
    "sha",
    "small_lock",
    "small_stack",
    "stack_document",
    "with_inputs",
]

FILES = {"extension/setup.py": "import setuptools\n", "extension/delta.c": "int delta;\n"}
"""Path below the stack's folder -> text of the files that `stack_document` uses."""


def sha(text: str) -> Sha256:
    """Return the sha256 of *text*: an easy way to a hash that differs from others."""
    return sha256_of(text.encode())


HOST = LockedInterpreter(
    file=LockedFile(filename="cpython-3.11.9-host.tar", sha256=sha("host"), size=7),
    version="3.11.9",
    glibc="2.35",
)
"""The Python of a machine."""


def minimal_document() -> dict[str, Any]:
    """Return a stack with nothing but what every stack must have."""
    return {
        "name": "minimal",
        "target": {"python": "3.11", "platform": "linux_x86_64", "glibc": "2.36"},
        "base": {"debian": {"suite": "bookworm"}},
        "interpreter": {"apt": "python3"},
    }


def stack_document(**changes: Any) -> dict[str, Any]:
    """Return the small stack as `tomllib` gives it, with some top-level keys replaced."""
    return {
        "name": "small",
        "summary": "two wheels and two builds",
        "target": {
            "python": "3.11",
            "platform": "linux_x86_64",
            "glibc": "2.36",
            "cuda": "12.1",
            "cuda-architectures": ["8.6", "8.9+PTX"],
        },
        "base": {"debian": {"suite": "bookworm", "components": ["main"]}},
        "interpreter": {"apt": "python3"},
        "apt": {"toolchain": ["g++"], "runtime": []},
        "python": {
            "requires": ["alpha>=1"],
            "exclude-newer": "2025-06-01",
            "index": [{"name": "extra", "url": "https://packages.example.org/simple", "only": ["beta"]}],
        },
        "build": [
            {
                "name": "gamma",
                "version": "2.0",
                "source": {"sdist": "gamma==2.0"},
                "needs": ["alpha"],
                "build-requires": ["setuptools>=74"],
                "requires": ["alpha"],
                "env": {"FORCE_CUDA": "1"},
                "expects": ["gamma/_ext*.so"],
            },
            {
                "name": "delta",
                "version": "0.1",
                "source": {"path": "extension"},
                "needs": ["gamma"],
                "build-requires": ["Setuptools", "tomli; python_version < '3.11'"],
                "environment": "native",
            },
        ],
        "env": {"OMP_NUM_THREADS": "1"},
        "preflight": {"imports": ["gamma"], "checks": ["import delta"]},
        **changes,
    }


def small_stack(**changes: Any) -> Stack:
    """Return the small stack, with some top-level keys replaced."""
    return from_document(stack_document(**changes))


def package(
    name: str,
    version: str = "1.0",
    *,
    index: str = "pypi",
    dependencies: tuple[str, ...] = (),
    requested: bool = False,
) -> LockedPackage:
    """Return a package with a wheel, or one that is built where *index* is empty."""
    filename = f"{name}-{version}-py3-none-any.whl"
    wheel = LockedFile(filename=filename, sha256=sha(filename), size=len(name) * 1000)
    return LockedPackage(
        name=name,
        version=version,
        index=index,
        wheel=wheel if index else None,
        dependencies=dependencies,
        requested=requested,
    )


def deb(name: str, *roots: str, version: str = "1.0-1", architecture: str = "amd64") -> LockedDeb:
    """Return a Debian package that is in *roots*."""
    filename = f"{name}_{version}_{architecture}.deb"
    return LockedDeb(
        package=name,
        version=version,
        architecture=architecture,
        path=f"pool/main/{name[0]}/{name}/{filename}",
        sha256=sha(filename),
        size=len(name) * 100,
        source=f"{name} {version}",
        roots=roots,
    )


def small_lock() -> Lock:
    """Return the lock of the small stack, of which nothing was built yet."""
    gamma = package("gamma", "2.0", index="", dependencies=("alpha",), requested=True)
    delta = package("delta", "0.1", index="", requested=True)
    alpha = package("alpha", "1.2", dependencies=("beta",), requested=True)
    beta = package("beta", "0.9", index="extra")
    pip, setuptools = package("pip", "25.0"), package("setuptools", "80.0")
    asked = replace(setuptools, requested=True)
    return Lock(
        inputs=(("name", "0123456789abcdef"), ("target.python", "fedcba9876543210")),
        runtime=(alpha, beta, delta, gamma),
        build=(
            ("", (alpha, beta, pip, asked)),
            ("native", (alpha, beta, gamma, pip, asked)),
        ),
        sources=(
            LockedSource(
                name="gamma",
                version="2.0",
                index="pypi",
                file=LockedFile(filename="gamma-2.0.tar.gz", sha256=sha("gamma"), size=7000),
            ),
            LockedSource(
                name="delta",
                version="0.1",
                index="",
                file=LockedFile(filename="delta-0.1.tar", sha256=sha("delta"), size=10240),
                path="extension",
            ),
        ),
        debs=(
            deb("g++", "toolchain", version="4:12.2.0-3"),
            deb("libc6", "runtime", "toolchain", version="2.36-9+deb12u10"),
            deb("python3", "runtime", "toolchain", version="3.11.2-1+b1"),
            deb("tzdata", "runtime", "toolchain", version="2025b-0+deb12u1", architecture="all"),
        ),
    )


def with_inputs(lock: Lock, inputs: Mapping[str, str]) -> Lock:
    """Return *lock* as one that was resolved from *inputs*."""
    return replace(lock, inputs=tuple(sorted(inputs.items())))


def pin(name: str, version: str) -> BuiltPin:
    """Return the pin of a build, with a path and bytes of its own."""
    filename = f"{name}-{version}-cp311-cp311-linux_x86_64.whl"
    wheel = LockedFile(filename=filename, sha256=sha(filename), size=4321)
    return BuiltPin(name=name, derivation=store_path([name], f"{name}-{version}"), wheel=wheel)


def any_build(**changes: Any) -> Build:
    """Return a build of which every field says something, with some fields replaced."""
    build = Build(
        name="gamma-2.0",
        kind="wheel",
        system="x86_64-linux",
        toolchain=StorePath("0" * 32 + "-small-toolchain"),
        command=("/bin/sh", "-euc", "make"),
        env=(("FORCE_CUDA", "1"), ("PATH", "/usr/bin:/bin")),
        inputs=(
            ("environment", StorePath("1" * 32 + "-gamma-environment")),
            ("source/gamma-2.0.tar.gz", StorePath("2" * 32 + "-gamma-2.0.tar.gz")),
        ),
    )
    return replace(build, **changes)
