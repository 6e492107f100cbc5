"""Tiny wheels that are valid in every respect, made in a moment and the same at every run."""

from __future__ import annotations

import base64
import hashlib
import zipfile
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping
    from pathlib import Path

__all__ = ["make_wheel"]

_TIME = (2020, 1, 1, 0, 0, 0)


def make_wheel(
    folder: Path,
    name: str,
    version: str,
    *,
    requires: Iterable[str] = (),
    extras: Iterable[str] = (),
    tag: str = "py3-none-any",
    requires_python: str | None = None,
    files: Mapping[str, bytes] | None = None,
    metadata: Iterable[str] = (),
    dist_info: Mapping[str, bytes] | None = None,
) -> Path:
    """Write a wheel into *folder* and return its path.

    Args:
        name: Distribution name; `-` and `.` become `_` in the file name.
        requires: Lines of `Requires-Dist`.
        extras: Lines of `Provides-Extra`.
        tag: Last three parts of the file name.
        requires_python: The line of that name in the metadata.
        files: Path in the wheel -> content; none for a module of the package's name.
        metadata: Further lines of METADATA: `License: MIT`.
        dist_info: Path below the .dist-info folder -> content of further files.
    """
    stem = name.replace("-", "_").replace(".", "_")
    folder_of_it = f"{stem}-{version}.dist-info"
    lines = [f"Metadata-Version: 2.1\nName: {name}\nVersion: {version}"]
    lines += [f"Requires-Python: {requires_python}"] if requires_python else []
    lines += [f"Provides-Extra: {extra}" for extra in extras]
    lines += [f"Requires-Dist: {requirement}" for requirement in requires]
    lines += metadata
    pure = str(tag.endswith("-none-any")).lower()
    tags = "\n".join(f"Tag: {single}" for single in _expand(tag))
    content = dict(files) if files is not None else {f"{stem.lower()}.py": b""}
    content |= {f"{folder_of_it}/{name}": data for name, data in (dist_info or {}).items()}
    content[f"{folder_of_it}/METADATA"] = ("\n".join(lines) + "\n").encode()
    content[f"{folder_of_it}/WHEEL"] = (
        f"Wheel-Version: 1.0\nGenerator: tests\nRoot-Is-Purelib: {pure}\n{tags}\n".encode()
    )
    content[f"{folder_of_it}/RECORD"] = _record(content, f"{folder_of_it}/RECORD")
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / f"{stem}-{version}-{tag}.whl"
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        for member, data in content.items():
            info = zipfile.ZipInfo(member, _TIME)
            info.external_attr = 0o100644 << 16
            archive.writestr(info, data)
    return path


def _expand(tag: str) -> list[str]:
    """Return the single tags of a compressed one, as WHEEL lists them."""
    pythons, abis, platforms = tag.split("-")[-3:]
    return [
        f"{python}-{abi}-{platform}"
        for python in pythons.split(".")
        for abi in abis.split(".")
        for platform in platforms.split(".")
    ]


def _record(content: Mapping[str, bytes], own: str) -> bytes:
    lines = []
    for member, data in content.items():
        digest = base64.urlsafe_b64encode(hashlib.sha256(data).digest()).rstrip(b"=").decode()
        lines.append(f"{member},sha256={digest},{len(data)}")
    return ("\n".join([*lines, f"{own},,"]) + "\n").encode()
