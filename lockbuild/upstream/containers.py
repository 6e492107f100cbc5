"""Dockerfiles: what they begin with, install and set. Pure."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from lockbuild.dockerfile.steps import steps
from lockbuild.upstream.commands import Session
from lockbuild.upstream.findings import Claim, Note, Place, Setting
from lockbuild.upstream.requirements import pip_findings

if TYPE_CHECKING:
    from collections.abc import Iterator

    from lockbuild.upstream.findings import Finding

__all__ = ["dockerfile_findings"]

_SETTING = re.compile(r"([A-Za-z_]\w*)=(\"(?:[^\"\\]|\\.)*\"|'[^']*'|\S*)")
_LONGEST = 20_000


def dockerfile_findings(text: str, file: str) -> Iterator[Finding]:
    """Yield what a Dockerfile says of Python, CUDA, packages and the environment."""
    session = Session(file, "image")
    for line, step in steps(text):
        place = Place(file=file, line=line)
        instruction, _, rest = step[:_LONGEST].partition(" ")
        match instruction.upper():
            case "FROM":
                yield from _image(rest, place)
            case "RUN":
                yield from session.read(re.sub(r"^(--\S+\s+)+", "", rest), line)
            case "ENV" | "ARG":
                yield from _settings(rest, place, argument=instruction.upper() == "ARG")
            case _:
                pass


def _image(rest: str, place: Place) -> Iterator[Finding]:
    words = [word for word in rest.split() if not word.startswith("--")]
    image = words[0] if words else ""
    if "/" in image or ":" in image:
        yield Note(text=f"begins with the image {image}", place=place)
    if found := re.search(r"\bcuda[:-]?(\d+\.\d+)", image):
        yield Claim(what="cuda", version=found[1], exact=True, kind="image", place=place)
    if found := re.search(r"ubuntu[:-]?(\d\d\.04)", image):
        yield Claim(what="ubuntu", version=found[1], exact=True, kind="image", place=place)
    if found := re.search(r"(?:^|/)python:(3\.\d+)", image):
        yield Claim(what="python", version=found[1], exact=True, kind="image", place=place)
    if found := re.search(r"(?:^|/)pytorch:(\d+\.\d+\.\d+)", image):
        yield from pip_findings(f"torch=={found[1]}", kind="image", place=place)


def _settings(rest: str, place: Place, *, argument: bool) -> Iterator[Finding]:
    pairs = _SETTING.findall(rest)
    if not pairs and (found := re.fullmatch(r"([A-Za-z_]\w*)\s+(.+)", rest)):
        pairs = [(found[1], found[2])]
    for name, value in pairs:
        plain = value.strip("\"'").strip()
        if "$" not in plain and (not argument or name == "TORCH_CUDA_ARCH_LIST"):
            yield Setting(name=name, value=plain, place=place)
