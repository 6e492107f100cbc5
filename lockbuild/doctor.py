"""Trying every tool that lockbuild needs: is it there, which version, and does it work when tried."""

from __future__ import annotations

import os
import shutil
import subprocess
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Literal

from lockbuild.builders.rootfs import RootfsBuilder
from lockbuild.builders.sandbox import SandboxBuilder
from lockbuild.errors import LockbuildError, ToolMissing
from lockbuild.image.clients import find_client
from lockbuild.image.engine import find_engine
from lockbuild.process import find_tool, install_hint, run
from lockbuild.resolvers._configured import default_index, find_uv
from lockbuild.resolvers.apt import configured_mirrors, default_keyring
from lockbuild.sources.access import bare

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from lockbuild.lock import Lock
    from lockbuild.settings import Settings

__all__ = ["Diagnosis", "examine", "of_lock"]

_LITTLE_SPACE = 5 * 10**9


@dataclass(frozen=True, slots=True, kw_only=True)
class Diagnosis:
    """What is known of one tool."""

    name: str
    purpose: str
    state: Literal["works", "absent", "broken", "warning"]
    detail: str
    """Version and place, or what went wrong."""
    mend: str = ""


def examine(settings: Settings, *, vendor: str, images: bool = False) -> Iterator[Diagnosis]:
    """Yield a diagnosis of each tool, tried for real; nothing is downloaded.

    Args:
        vendor: Whose archive the root file systems come from: `debian` or `ubuntu`.
        images: Whether base images of a registry are needed; else who fetches them may be absent.
    """
    yield _tried("uv", "resolves Python packages", lambda: _version(str(find_uv())))
    yield _tried("default index", "serves Python packages", lambda: bare(default_index()))
    yield _tool("apt-get", "solves Debian packages")
    yield _archive(settings, vendor)
    yield _tried("keyring", "checks the archive's signatures", lambda: str(default_keyring(vendor)))
    yield _tried("mmdebstrap", "makes root file systems", lambda: _probed(RootfsBuilder, "mmdebstrap"))
    skopeo = _tool("skopeo", "fetches base images")
    absent = skopeo.state == "absent" and not images
    yield (
        replace(skopeo, state="warning", detail="not installed; only base images of a registry need it")
        if absent
        else skopeo
    )
    yield _tried("bubblewrap", "is the sandbox of builds", lambda: _probed(SandboxBuilder, "bwrap"))
    yield _tried("docker engine", "makes and runs images", _engine)
    yield _tried("docker client", "hands builds to BuildKit", _client)
    yield _tool("git", "fetches sources")
    yield _store(settings.store)


def of_lock(lock: Lock) -> Iterator[Diagnosis]:
    """Yield a diagnosis of each part of a stack's lock that is open."""
    for part in lock.open_parts:
        yield Diagnosis(
            name="lock",
            purpose="says all that the image is made of",
            state="warning",
            detail=f"open: {part.label}: {part.reason}",
            mend="`lockbuild resolve` where it can be had",
        )


def _tried(name: str, purpose: str, attempt: Callable[[], str]) -> Diagnosis:
    try:
        return Diagnosis(name=name, purpose=purpose, state="works", detail=attempt())
    except LockbuildError as error:
        detail = "; ".join((error.message, *error.details))
        state: Literal["absent", "broken"] = "absent" if "not installed" in detail else "broken"
        return Diagnosis(name=name, purpose=purpose, state=state, detail=detail, mend=error.hint or "")


def _tool(name: str, purpose: str) -> Diagnosis:
    if find_tool(name) is None:
        return Diagnosis(
            name=name, purpose=purpose, state="absent", detail="not installed", mend=install_hint(name)
        )
    return _tried(name, purpose, lambda: _version(name))


def _version(program: str) -> str:
    try:
        said = run([program, "--version"], timeout_s=20)
    except subprocess.TimeoutExpired as error:
        raise ToolMissing(f"`{program} --version` does not end", hint=install_hint(program)) from error
    lines = (said.stdout or said.stderr).strip().splitlines()
    if said.returncode or not lines:
        detail = lines[0] if lines else f"exit code {said.returncode}"
        raise ToolMissing(f"`{program} --version` does not work: {detail}", hint=install_hint(program))
    return lines[0]


def _probed(builder: type[RootfsBuilder | SandboxBuilder], program: str) -> str:
    builder().probe()
    return _version(program)


def _engine() -> str:
    engine = find_engine()
    free = "" if engine.free is None else f", {engine.free / 1e9:.0f} GB free"
    return f"Docker Engine {engine.version} at {engine.host}{free}"


def _client() -> str:
    with find_client(find_engine()) as client:
        return f"{client.program} {client.version}{' with buildx' if client.buildx else ''}"


def _archive(settings: Settings, vendor: str) -> Diagnosis:
    places = dict(settings.archives).get(vendor) or configured_mirrors(vendor)
    if places:
        return Diagnosis(
            name=f"{vendor} archive",
            purpose="serves .debs",
            state="works",
            detail=", ".join(bare(place) for place in places),
        )
    return Diagnosis(
        name=f"{vendor} archive",
        purpose="serves .debs",
        state="absent",
        detail="apt is not configured for it",
        mend=f'set LOCKBUILD_ARCHIVE_{vendor.upper()}="URL", or `archives.{vendor}` in the configuration file',
    )


def _store(root: Path) -> Diagnosis:
    there = next(path for path in (root, *root.parents) if path.exists())
    free = shutil.disk_usage(there).free
    detail = f"{root}, {free / 1e9:.0f} GB free"
    if not os.access(there, os.W_OK):
        return Diagnosis(
            name="store",
            purpose="keeps everything",
            state="broken",
            detail=f"{there} cannot be written",
            mend="choose another place: LOCKBUILD_STORE=FOLDER",
        )
    return Diagnosis(
        name="store",
        purpose="keeps everything",
        state="works" if free > _LITTLE_SPACE else "warning",
        detail=detail,
        mend="" if free > _LITTLE_SPACE else "a stack with CUDA needs tens of GB",
    )
