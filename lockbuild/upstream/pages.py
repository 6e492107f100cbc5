"""Pages and scripts: versions that they name, commands that they show, addresses that they link. Pure."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from lockbuild.upstream.addresses import DATA_ENDING, downloads_in
from lockbuild.upstream.commands import Session
from lockbuild.upstream.findings import ByHand, Claim, Download, Place

if TYPE_CHECKING:
    from collections.abc import Iterator

    from lockbuild.upstream.findings import Finding

__all__ = ["page_findings", "script_findings"]

_LEAST = r"(?P<bound>≥|>=|&gt;=|\\geq?\s*\$?|>|at least)?\s?v?"
_VERSIONS = {
    "cuda": re.compile(
        rf"\bCUDA(?:[ -]?(?:toolkit|version))?[\s:=v(-]{{0,6}}{_LEAST}(?P<version>\d{{1,2}}\.\d)\b",
        re.IGNORECASE,
    ),
    "python": re.compile(
        rf"\bpython(?:\s+version)?[\s:=(]{{0,6}}{_LEAST}=?\s?(?P<version>3\.\d{{1,2}}(?:\.\d+)?)\b",
        re.IGNORECASE,
    ),
    "torch": re.compile(
        rf"\b(?:py)?torch(?:\s+version)?[\s:=(]{{0,6}}{_LEAST}(?P<version>[12]\.\d{{1,2}}(?:\.\d+)?)\b",
        re.IGNORECASE,
    ),
    "ubuntu": re.compile(rf"\bubuntu[\s:]{{0,6}}{_LEAST}(?P<version>\d\d\.04)\b", re.IGNORECASE),
}
_COMMAND = re.compile(
    r"^\s*(?:[-*]\s+|\d+\.\s+|>\s*)?(?:[$%!]\s*)?`{0,3}(?:sudo\s+)?(?:[A-Z_]+=\S+\s+)*"
    r"(?:(?:uv )?pip[\d.]* |python[\d.]* (?:-m |\S*setup\.py)|(?:conda|mamba|micromamba) (?:install|create)|mim install|apt(?:-get)? "
    r"|wget |curl |gdown |git clone|cd |aria2c )"
)
_BY_HAND = re.compile(
    rf"\b(?:copy|put|place|move|save|store)\s[^.;]{{0,60}}?(?P<file>[\w][\w.+-]*{DATA_ENDING})\b['\"`*]*"
    r"\s+(?:file\s+)?(?:in|into|to|under|at|inside|below)\s+(?:the\s+)?(?:folder\s+|directory\s+)?"
    r"['\"`*]*(?P<target>(?:\./)?[\w.-]+(?:/[\w.-]+)*/)(?![\w<{$*])",
    re.IGNORECASE,
)
_INLINE = re.compile(r"`((?:pip[\d.]*|conda|mamba|mim|apt(?:-get)?|wget|gdown|git clone)\s[^`]{3,400})`")
_LONGEST = 4000


def page_findings(text: str, file: str) -> Iterator[Finding]:
    """Yield what a README or another page for people says."""
    session = Session(file, "command")
    for number, line in _joined(text):
        if line.lstrip().startswith("```"):
            session = Session(file, "command")
        if _COMMAND.match(line):
            yield from session.read(line, number)
            continue
        for found in _INLINE.finditer(line):
            yield from Session(file, "command").read(found[1], number)
        yield from _claims(line, file, number)
        for found in _BY_HAND.finditer(line):
            yield ByHand(
                filename=found["file"], target=found["target"], place=Place(file=file, line=number)
            )
    yield from downloads_in(text, file)


def script_findings(text: str, file: str) -> Iterator[Finding]:
    """Yield what a shell script does, and which file a `gdown` leaves behind."""
    session = Session(file, "command")
    lines = list(_joined(text))
    for position, (number, line) in enumerate(lines):
        if line.lstrip().startswith("#"):
            continue
        for found in session.read(line, number):
            if isinstance(found, Download) and not found.filename:
                yield _named(found, [after for _, after in lines[position + 1 : position + 4]])
            else:
                yield found
    yield from downloads_in(text, file)


def _named(found: Download, after: list[str]) -> Download:
    """Return a download with the name that the next lines unpack, where it has none of its own."""
    for line in after:
        if name := re.match(
            r"\s*(?:unzip|tar|7z|unrar)\s(?:.*\s)?([\w./-]+\.(?:zip|tar|tgz|gz|7z))\b", line
        ):
            filename = name[1].rpartition("/")[2]
            return Download(
                url=found.url, filename=filename, target=found.target, hub=False, place=found.place
            )
    return found


def _joined(text: str) -> Iterator[tuple[int, str]]:
    """Yield lines with their number, those that a backslash continues as one."""
    lines = text.splitlines()
    number = 0
    while number < len(lines):
        begin, parts = number + 1, [lines[number]]
        while parts[-1].endswith("\\") and number + 1 < len(lines) and len(parts) < 50:  # noqa: PLR2004 - a command's
            number += 1
            parts[-1] = parts[-1][:-1]
            parts.append(lines[number].strip())
        number += 1
        yield begin, " ".join(parts)[:_LONGEST]


def _claims(line: str, file: str, number: int) -> Iterator[Finding]:
    for what, pattern in _VERSIONS.items():
        for found in pattern.finditer(line):
            exact = not found["bound"] and not re.match(
                r"\s*(\+|or (higher|later|newer|above))", line[found.end() :]
            )
            version, place = found["version"], Place(file=file, line=number)
            match what:
                case "cuda" | "python" | "torch" | "ubuntu":
                    yield Claim(what=what, version=version, exact=exact, kind="prose", place=place)
