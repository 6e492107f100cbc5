"""Requirements as people write them: for pip, for conda, in a requirements file. Pure."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING
from urllib.parse import unquote

from packaging.requirements import InvalidRequirement
from packaging.requirements import Requirement as Parsed
from packaging.specifiers import InvalidSpecifier, SpecifierSet
from packaging.utils import InvalidWheelFilename, canonicalize_name, parse_wheel_filename

from lockbuild.upstream.findings import (
    AptPackage,
    Claim,
    GitRequirement,
    Index,
    LocalPackage,
    Note,
    Place,
    Requirement,
)
from lockbuild.upstream.knowledge import APT_OF_CONDA, NO_PYTHON, PROJECT_OF_CONDA

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from lockbuild.upstream.findings import Finding, Kind

__all__ = [
    "conda_findings",
    "cuda_of_url",
    "index_findings",
    "pip_findings",
    "requirements_lines",
    "web_address",
]

_CUDA_CONDA = frozenset(
    {
        "cuda",
        "cuda-nvcc",
        "cuda-toolkit",
        "cuda-version",
        "cudatoolkit",
        "cudatoolkit-dev",
        "pytorch-cuda",
    }
)
_PINS_CONDA = re.compile(
    r"(?:(?P<channel>[\w.-]+)::)?(?P<name>[A-Za-z0-9_](?:[\w.-]*[A-Za-z0-9])?)\s*(?P<version>[^\[]*?)\s*(?:\[.*)?",
    re.ASCII,
)
_LONGEST = 500


# ---- pip ------------------------------------------------------------------------------------------


def pip_findings(text: str, *, kind: Kind, place: Place, base: str = "") -> Iterator[Finding]:
    """Yield what one argument of `pip install`, or one line of a requirements file, wants.

    Args:
        base: Folder below the repository that relative paths begin at.
    """
    text = _unquoted(text.strip())
    if not text or len(text) > _LONGEST:
        return
    name, at, address = text.partition("@")
    if at and re.match(r"\s*(git\+|https?://|file:)", address):
        yield from _addressed(address.strip(), name.strip(), place)
    elif re.match(r"(git|hg|svn|bzr)\+|(git|https?|ssh|file)://|git@", text):
        yield from _addressed(text, "", place)
    elif _is_path(text):
        yield LocalPackage(path=_joined(base, re.sub(r"\[[^\]]*\]$", "", text)), place=place)
    else:
        yield from _plain(text, kind, place)


def _unquoted(text: str) -> str:
    whole = len(text) > 1 and text[0] == text[-1] and text[0] in "\"'"
    return text[1:-1].strip() if whole else text


def _plain(text: str, kind: Kind, place: Place) -> Iterator[Finding]:
    try:
        parsed = Parsed(text)
    except InvalidRequirement:
        # `torch ==1.8 --hash=…` and what else pip reads but the standard does not know.
        words = re.split(r"\s--|\s#|\s\\", text)[0].strip()
        if words == text:
            yield Note(text=f"no requirement that can be read: {text}", place=place)
        else:
            yield from _plain(words, kind, place)
        return
    if parsed.url:
        yield Note(text=f"a requirement with an address: {text}", place=place)
        return
    name = canonicalize_name(parsed.name)
    yield Requirement(name=name, text=_canonical(parsed), kind=kind, place=place)


def _canonical(parsed: Parsed) -> str:
    extras = f"[{','.join(sorted(parsed.extras))}]" if parsed.extras else ""
    marker = f"; {parsed.marker}" if parsed.marker else ""
    return f"{canonicalize_name(parsed.name)}{extras}{parsed.specifier}{marker}"


def _addressed(address: str, name: str, place: Place) -> Iterator[Finding]:
    plain, _, fragment = address.partition("#")
    plain = plain.strip("\"' ;")
    options = dict(re.findall(r"(\w+)=([^&\"']+)", fragment))
    if plain.split("?")[0].endswith(".whl"):
        yield from _wheel(plain, place)
        return
    url, revision = _split_revision(plain.removeprefix("git+"))
    stem = re.sub(r"(\.git|/archive/.*|\.zip|\.tar\.gz)$", "", url.rstrip("/")).rpartition("/")[2]
    yield GitRequirement(
        name=_project_name(name or options.get("egg", "").partition("[")[0] or stem),
        url=web_address(url),
        revision=revision,
        subdirectory=options.get("subdirectory", ""),
        place=place,
    )


def web_address(url: str) -> str:
    """Return the address that anybody can clone from: `https://` for what ssh and `git://` name."""
    if found := re.fullmatch(r"(?:ssh://)?git@([\w.-]+)[:/](.+)", url):
        return f"https://{found[1]}/{found[2]}"
    return re.sub(r"^(git|ssh)://(git@)?", "https://", url)


def _split_revision(url: str) -> tuple[str, str]:
    head, slash, tail = url.rpartition("/")
    if not slash or "://" not in head:
        return url, ""
    name, _, revision = tail.partition("@")
    # A branch may have slashes of its own: `…/repo.git@feature/one`.
    if not revision and (found := re.fullmatch(r"(\w+://[^@]*(?:[^@]*@)?[^@]*\.git)@(.+)", url)):
        return found[1], found[2]
    return f"{head}/{name}", revision


def _wheel(address: str, place: Place) -> Iterator[Finding]:
    filename = unquote(address.split("?", maxsplit=1)[0].rpartition("/")[2])
    try:
        name, version, _, _ = parse_wheel_filename(filename)
    except InvalidWheelFilename:
        yield Note(text=f"a wheel at {address}", place=place)
        return
    yield Requirement(name=name, text=f"{name}=={version}", kind="command", place=place)
    yield Note(
        text=f"{name} {version} comes as a wheel by its address, which `[[python.wheel]]` can pin: {address}",
        place=place,
    )


def _project_name(text: str) -> str:
    return canonicalize_name(re.sub(r"[^A-Za-z0-9._-]+", "-", text).strip("-._")) or "unnamed"


def _is_path(text: str) -> bool:
    if text in {".", ".."} or text.startswith(("./", "../", "/", ".[", "~")):
        return True
    return "/" in text and not re.search(r"[\s=<>~!;,@:]", text)


def _joined(base: str, path: str) -> str:
    """Return *path*, relative to *base*, below the repository; what leads out of it ends at its top."""
    parts: list[str] = []
    for part in f"{base}/{path}".split("/"):
        if part == "..":
            del parts[-1:]
        elif part not in {"", "."}:
            parts.append(part)
    return "/".join(parts) or "."


def index_findings(url: str, near: Sequence[str], place: Place, kind: Kind) -> Iterator[Finding]:
    """Yield what an index's address, or one of a page of links, says."""
    url = url.strip("\"' ")
    if cuda := cuda_of_url(url):
        yield Claim(what="cuda", version=cuda, exact=True, kind=kind, place=place)
    if re.match(r"https?://\S+$", url):
        yield Index(url=url, near=tuple(near), place=place)


def cuda_of_url(text: str) -> str:
    """Return the CUDA of an index such as `https://…/whl/cu113`, or of a local version; empty for none."""
    found = re.search(r"(?:^|[/+])cu(\d{2,3})(?=$|[/_.+&\s])", text, re.ASCII)
    return f"{found[1][:-1]}.{found[1][-1]}" if found else ""


def requirements_lines(text: str, *, file: str, base: str) -> Iterator[Finding]:
    """Yield what a requirements file wants; files that it includes are read for themselves."""
    lines = text.splitlines()
    number = 0
    near = [found.name for line in lines for found in _names(line)]
    while number < len(lines):
        line, begin = lines[number], number + 1
        number += 1
        while line.endswith("\\") and number < len(lines) and len(line) < _LONGEST:
            line = line[:-1] + lines[number]
            number += 1
        line = re.sub(r"(^|\s)#(?!egg=|subdirectory=).*$", "", line).strip()
        place = Place(file=file, line=begin)
        option, _, value = line.partition(" ")
        option, equals, joined = option.partition("=") if option.startswith("--") else (option, "", "")
        value = joined if equals else value.strip()
        if option in {"-i", "--index-url", "--extra-index-url", "-f", "--find-links"}:
            yield from index_findings(value, near if len(near) == 1 else (), place, "declared")
        elif option in {"-e", "--editable"}:
            yield from pip_findings(value, kind="declared", place=place, base=base)
        elif line and not line.startswith("-"):
            yield from pip_findings(line, kind="declared", place=place, base=base)


def _names(line: str) -> Iterator[Requirement]:
    if line and not line.lstrip().startswith(("#", "-")):
        for found in _plain(line.split("#", maxsplit=1)[0].strip(), "declared", Place(file="", line=0)):
            if isinstance(found, Requirement):
                yield found


# ---- conda ----------------------------------------------------------------------------------------


def conda_findings(text: str, *, kind: Kind, place: Place) -> Iterator[Finding]:
    """Yield what a conda package's specification wants: `pytorch::pytorch=1.12.1`."""
    match = (
        _PINS_CONDA.fullmatch(text.split("#", maxsplit=1)[0].strip().strip("\"'"))
        if len(text) < _LONGEST
        else None
    )
    if match is None:
        yield Note(text=f"no conda package that can be read: {text}", place=place)
        return
    name = match["name"].lower()
    specifier, version, exact = _conda_version(match["version"].strip())
    if name == "python":
        if version:
            yield Claim(what="python", version=version, exact=exact, kind=kind, place=place)
    elif name in _CUDA_CONDA:
        if version:
            yield Claim(what="cuda", version=version, exact=exact, kind=kind, place=place)
    elif name in APT_OF_CONDA:
        yield AptPackage(name=APT_OF_CONDA[name], place=place)
    elif name not in NO_PYTHON and not re.match(
        r"_|lib(?!rosa|igl|cst|sass|torrent)|cuda-|nvidia|xorg-", name
    ):
        project = canonicalize_name(PROJECT_OF_CONDA.get(name, name))
        yield Requirement(name=project, text=f"{project}{specifier}", kind=kind, place=place, conda=True)


def _conda_version(text: str) -> tuple[str, str, bool]:
    """Return a specifier, the first version that the text names, and whether it is that one."""
    # `name 1.2 build`, `=1.2=build`, `==1.2`, `>=1.2,<2`, `1.2.*`, `=11.3`
    text = re.sub(r"^=?(?=[\d])", "=", text.replace(" ", "=", 1) if re.match(r"[\d]", text) else text)
    version = (re.search(r"\d[\w.+!]*", text) or [""])[0].rstrip(".")
    bounds = re.findall(r"(>=|<=|!=|~=|>|<)\s*(\d[\w.]*\*?)", text)
    if bounds:
        specifier = ",".join(f"{operator}{bound}" for operator, bound in bounds)
        return (specifier if _is_specifier(specifier) else ""), version, False
    if not version:
        return "", "", False
    # One `=` is a prefix: `=1.26` is any 1.26, and `=1.12.1` is as good as exact.
    whole = text.startswith("==") or version.count(".") > 1 or re.search(r"[a-z]", version)
    specifier = f"=={version}" if whole else f"=={version}.*"
    return (specifier if _is_specifier(specifier) else ""), version, True


def _is_specifier(text: str) -> bool:
    try:
        SpecifierSet(text)
    except InvalidSpecifier:
        return False
    return True
