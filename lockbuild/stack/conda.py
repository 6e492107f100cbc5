"""Conda packages that a stack asks for, and the machine that they are solved for. Pure."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from lockbuild.target import Target

__all__ = ["Conda", "channel_name"]

_KERNEL = "5.10"
"""Of the Linux that runs the image, which no stack can know: the one that conda-lock takes for granted."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Conda:
    """Channels, the more important first, and what is wanted of them."""

    channels: tuple[str, ...]
    """Addresses."""
    packages: tuple[str, ...] = ()
    """As conda writes them: `ffmpeg`, `openh264 ==2.1`."""
    virtual_packages: tuple[tuple[str, str], ...] = ()
    """Name -> version, or `VERSION=BUILD`, in the place of what follows from the target."""

    def named_channels(self) -> tuple[tuple[str, str], ...]:
        """Return name and address of each channel, in their order."""
        return tuple((channel_name(url), url) for url in self.channels)

    def virtual(self, target: Target) -> tuple[tuple[str, str], ...]:
        """Return name -> version of every virtual package, sorted: what *target* is to a conda solver."""
        found = {
            "__archspec": f"1={target.machine}",
            "__glibc": target.glibc,
            "__linux": _KERNEL,
            "__unix": "0",
        }
        if target.cuda:
            found["__cuda"] = target.cuda
        return tuple(sorted((found | dict(self.virtual_packages)).items()))


def channel_name(url: str) -> str:
    """Return what the channel at *url* is called in locks and settings: the last part of its address."""
    return url.rstrip("/").rpartition("/")[2]
