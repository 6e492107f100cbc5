"""Images and the engine that makes them: the values that the modules here give and take."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from pathlib import Path

__all__ = ["BindMount", "Engine", "ImageFacts"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Engine:
    """A Docker Engine that has answered."""

    host: str
    """Its address as DOCKER_HOST takes it: `unix:///run/docker.sock`."""
    version: str
    storage_driver: str
    root: str
    """The folder on the engine's machine that holds its images."""
    certificates: Path | None = None
    """Folder with the client's TLS files; none for an engine that wants none."""
    free: int | None = None
    """Bytes left where its images lie; none where that cannot be known from here."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ImageFacts:
    """An image as the engine describes it."""

    id: str
    """Digest of the image's configuration: `sha256:…`."""
    tags: tuple[str, ...]
    size: int
    """Bytes of all layers, unpacked."""
    layers: tuple[str, ...]
    """Digest of each layer's content, from the base up."""
    labels: tuple[tuple[str, str], ...]
    """Sorted by name."""
    env: tuple[tuple[str, str], ...]
    """As the image lists them."""
    user: str
    workdir: str
    entrypoint: tuple[str, ...]
    command: tuple[str, ...]
    architecture: str
    created: str

    def label(self, name: str) -> str | None:
        """Return the label called *name*, if the image has it."""
        return dict(self.labels).get(name)


@dataclass(frozen=True, slots=True, kw_only=True)
class BindMount:
    """A folder or file of the machine as a container sees it."""

    source: Path
    target: str
    writable: bool = False
