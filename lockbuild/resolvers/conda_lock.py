"""The text of `conda-lock.yml`, by conda-lock's own models, so that conda-lock reads it as its own."""

from __future__ import annotations

import warnings
from typing import TYPE_CHECKING

from lockbuild.condalock import CONDA_LOCK
from lockbuild.digest import canonical_json, sha256_of
from lockbuild.errors import ToolMissing

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from pathlib import Path

    from lockbuild.condalock import LockedConda

__all__ = ["conda_lock_text"]


def conda_lock_text(
    packages: Sequence[LockedConda], *, name: str, channels: Mapping[str, str], subdir: str, work: Path
) -> str:
    """Return the text of the lock that conda-lock reads.

    Args:
        name: The stack's name.
        channels: Name -> address, as the stack says it, in their order.
        subdir: What the packages were solved for: `linux-64`.
        work: Folder to write in.

    Raises:
        ToolMissing: conda-lock is not installed.
    """
    try:
        with warnings.catch_warnings():
            # What it imports is old-fashioned here and there, which is no user's business.
            warnings.simplefilter("ignore")
            # Takes two seconds: only who writes this file waits for it.
            from conda_lock.lockfile import write_conda_lock_file  # noqa: PLC0415
            from conda_lock.lockfile.v1.models import HashModel, LockMeta  # noqa: PLC0415
            from conda_lock.lockfile.v2prelim.models import LockedDependency, Lockfile  # noqa: PLC0415
            from conda_lock.models.channel import Channel  # noqa: PLC0415
    except ImportError:
        raise ToolMissing(
            "`conda-lock` is not installed; writing the lock of conda packages needs it",
            hint="pip install 'lockbuild[conda]'",
        ) from None
    lock = Lockfile(
        package=[
            LockedDependency(
                name=package.name,
                version=package.version,
                manager="conda",
                platform=subdir,
                dependencies=_dependencies(package),
                url=f"{channels[package.channel].rstrip('/')}/{package.subdir}/{package.filename}",
                hash=HashModel(md5=package.md5, sha256=package.sha256),
                categories={"main"},
                build=package.build,
            )
            for package in packages
        ],
        metadata=LockMeta(
            content_hash={subdir: sha256_of(canonical_json([[p.name, p.sha256] for p in packages]))},
            channels=[Channel(url=url, used_env_vars=()) for url in channels.values()],
            platforms=[subdir],
            sources=["stack.toml"],
        ),
    )
    file = work / CONDA_LOCK
    write_conda_lock_file(lock, file, metadata_choices=None, include_help_text=False)
    head = f"# Written by `lockbuild resolve {name}`. Make an environment of it with:\n"
    return f"{head}#   conda-lock install -n {name} {CONDA_LOCK}\n{file.read_text(encoding='utf-8')}"


def _dependencies(package: LockedConda) -> dict[str, str]:
    found: dict[str, list[str]] = {}
    for depend in package.depends:
        name, _, bound = depend.partition(" ")
        found.setdefault(name, []).append(bound.strip())
    return {name: ",".join(filter(None, bounds)) for name, bounds in found.items()}
