"""How an image is run, as its configuration says it: variables, labels, user and command. Pure."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from lockbuild.derivation import CONDA_FOLDER
from lockbuild.digest import canonical_json, sha256_of
from lockbuild.plan import image_env

if TYPE_CHECKING:
    from lockbuild.digest import JsonValue
    from lockbuild.lock import Lock
    from lockbuild.stack import NamedSource, Stack

__all__ = ["PREFIX", "RunSettings", "base_env", "base_of", "labels_of", "origin_of", "set_env"]

PREFIX = "/opt/venv"
"""The virtual environment in the image."""

_PATH = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"


@dataclass(frozen=True, slots=True, kw_only=True)
class RunSettings:
    """What an image's configuration says of how it is run."""

    env: tuple[tuple[str, str], ...]
    """Sorted by name, those of the base among them."""
    labels: tuple[tuple[str, str], ...]
    user: str
    workdir: str
    entrypoint: tuple[str, ...]
    command: tuple[str, ...]
    account: tuple[str, int] | None
    """Name and number of the user that the image is given; none where root runs it."""


def _path(lock: Lock) -> str:
    image = lock.image("runtime")
    return (image.path if image else "") or _PATH


def base_of(stack: Stack, lock: Lock) -> str:
    """Return what the image stands on, in words: an archive, or an image by its digest."""
    if base := stack.base.debian:
        return " ".join((base.vendor, base.suite, *base.components, base.snapshot or "")).strip()
    image = lock.image("runtime")
    if image is None:
        return ""
    return f"{image.reference}@{image.digest}" if image.digest else image.reference


def base_env(lock: Lock) -> dict[str, str]:
    """Return the variables of the stage that the image stands on."""
    return {"LANG": "C.UTF-8", **image_env(lock.image("runtime")), "PATH": _path(lock)}


def set_env(stack: Stack, lock: Lock) -> list[tuple[str, str]]:
    """Return the variables that the image's own stage sets, sorted by name."""
    own = dict(stack.env)
    conda = f"{CONDA_FOLDER}/bin:" if stack.conda else ""
    path = own.get("PATH", _path(lock))
    variables = {"PATH": f"{PREFIX}/bin:{conda}{path}", "VIRTUAL_ENV": PREFIX}
    if stack.target.cuda:
        # What NVIDIA's container runtime looks at; without it the image has no GPU.
        variables |= {"NVIDIA_DRIVER_CAPABILITIES": "compute,utility", "NVIDIA_VISIBLE_DEVICES": "all"}
    return sorted((variables | {name: own[name] for name in own if name != "PATH"}).items())


def labels_of(stack: Stack, lock: Lock) -> list[tuple[str, str]]:
    """Return the image's labels, sorted by name."""
    debs: list[JsonValue] = [
        [deb.package, deb.version, deb.sha256] for deb in lock.debs if "runtime" in deb.roots
    ]
    labels = {
        "io.lockbuild.base": base_of(stack, lock),
        "io.lockbuild.debs": f"sha256:{sha256_of(canonical_json(debs))}",
        "io.lockbuild.lock": f"sha256:{lock.digest}" if lock.digest else "",
        "io.lockbuild.python": stack.target.python,
        "io.lockbuild.stack": stack.name,
        "org.opencontainers.image.description": stack.summary,
        "org.opencontainers.image.title": stack.name,
    }
    if stack.bundles:
        assets: list[JsonValue] = [[asset.name, asset.sha256] for asset in lock.assets]
        labels["io.lockbuild.assets"] = f"sha256:{sha256_of(canonical_json(assets))}"
    if lock.conda:
        conda: list[JsonValue] = [[package.filename, package.sha256] for package in lock.conda]
        labels["io.lockbuild.conda"] = f"sha256:{sha256_of(canonical_json(conda))}"
    if stack.placed:
        places = (f"{source.name}={source.path} {origin_of(source, lock)}" for source in stack.placed)
        labels["io.lockbuild.sources"] = "; ".join(places)
    if standalone := stack.interpreter.standalone:
        labels["io.lockbuild.interpreter"] = f"{standalone.filename} sha256:{standalone.sha256}"
    if lock.interpreter:
        own = lock.interpreter.file
        labels["io.lockbuild.interpreter"] = f"{own.filename} sha256:{own.sha256}"
    if stack.target.cuda:
        labels["io.lockbuild.cuda"] = stack.target.cuda
    return sorted((name, value.strip()) for name, value in labels.items() if value)


def origin_of(source: NamedSource, lock: Lock) -> str:
    """Return where a source is from: its commit, else its archive's name and hash."""
    locked = next((one for one in lock.sources if one.name == source.name), None)
    archive = f"{locked.file.filename} sha256:{locked.file.sha256}" if locked else "open"
    commit = (locked.commit if locked else None) or source.source.commit
    return (commit or archive) + (" with edits" if source.edits else "")
