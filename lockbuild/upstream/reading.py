"""Which reader a file of a repository is for. Pure."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from lockbuild.upstream.addresses import downloads_in
from lockbuild.upstream.containers import dockerfile_findings
from lockbuild.upstream.environments import (
    broken_yaml,
    cog_findings,
    environment_findings,
    is_environment,
)
from lockbuild.upstream.findings import Note, Place, Pointer, Submodule
from lockbuild.upstream.pages import page_findings, script_findings
from lockbuild.upstream.projects import cfg_project, pyproject_project, setup_project
from lockbuild.upstream.requirements import requirements_lines
from lockbuild.upstream.sources import source_findings

if TYPE_CHECKING:
    from collections.abc import Iterator

    from lockbuild.upstream.findings import Finding

__all__ = ["is_aside", "is_read", "pointer_of", "read_text", "submodule_findings"]

_REQUIREMENTS = re.compile(
    r"(.*[-_.])?requirements?([-_.].*)?\.(txt|in|pip)|requirements/[^/]+\.txt", re.IGNORECASE
)
_DOCKERFILE = re.compile(r"(Dockerfile|Containerfile)([.-].*)?|.*\.dockerfile", re.IGNORECASE)
_PAGES = (".md", ".markdown", ".rst")
_SCRIPTS = (".sh", ".bash")
_OTHERS = (".cfg", ".json", ".ini", ".toml", ".txt", ".yaml", ".yml")
_DEVELOPING = re.compile(
    r"requirements?[-_.](dev|develop|development|doc|docs|lint|test|tests)\.(txt|in)"
)
_ASIDE = frozenset({".circleci", ".github", "ci", "dev", "doc", "docs", "test", "tests"})


def is_aside(path: str) -> bool:
    """Tell whether a file is for documentation, tests or robots: it says nothing of the running system."""
    *folders, name = path.lower().split("/")
    return any(part in _ASIDE for part in folders) or bool(_DEVELOPING.fullmatch(name))


def is_read(path: str) -> bool:
    """Tell whether there is a reader for the file at *path*."""
    name = path.rpartition("/")[2]
    return name.endswith((".py", *_PAGES, *_SCRIPTS, *_OTHERS)) or bool(_DOCKERFILE.fullmatch(name))


def read_text(text: str, path: str) -> Iterator[Finding]:
    """Yield what the file at *path*, whose content is *text*, says."""
    base, _, name = path.rpartition("/")
    if name == "setup.py":
        yield setup_project(text, path)
    elif name.endswith(".py"):
        yield from source_findings(text, path)
    elif _DOCKERFILE.fullmatch(name):
        yield from dockerfile_findings(text, path)
    elif name.endswith(_PAGES):
        yield from page_findings(text, path)
    elif name.endswith(_SCRIPTS):
        yield from script_findings(text, path)
    elif _REQUIREMENTS.fullmatch(name) or (
        base.rpartition("/")[2] == "requirements" and name.endswith(".txt")
    ):
        yield from requirements_lines(text, file=path, base=base)
    elif name in {"setup.cfg", "pyproject.toml"}:
        yield from _project(text, path)
    else:
        yield from _yaml(text, path) if name.endswith((".yml", ".yaml")) else ()
        yield from downloads_in(text, path)


def _project(text: str, path: str) -> Iterator[Finding]:
    toml = path.endswith(".toml")
    if project := (pyproject_project if toml else cfg_project)(text, path):
        yield project
    elif toml:
        yield Note(text="says nothing of a package that can be read", place=Place(file=path, line=0))


def _yaml(text: str, path: str) -> Iterator[Finding]:
    if path.rpartition("/")[2] in {"cog.yaml", "cog.yml"}:
        yield from broken_yaml(text, path)
        yield from cog_findings(text, path)
    elif is_environment(text):
        yield from broken_yaml(text, path)
        yield from environment_findings(text, path)


# ---- what git has -----------------------------------------------------------------------------------

_POINTER = re.compile(
    rb"version https://git-lfs\.github\.com/spec/v1\n(?:ext-[^\n]*\n)*"
    rb"oid sha256:([0-9a-f]{64})\nsize ([0-9]{1,18})\n?"
)


def pointer_of(content: bytes, path: str) -> Pointer | None:
    """Return what the small file at *path* points to, if Git LFS keeps it elsewhere."""
    found = _POINTER.fullmatch(content)
    return Pointer(path=path, sha256=found[1].decode(), size=int(found[2])) if found else None


def submodule_findings(text: str, file: str) -> Iterator[Submodule]:
    """Yield each submodule that a `.gitmodules` declares; which commit it is at, only the tree knows."""
    base = file.rpartition("/")[0]
    path, url, line = "", "", 0
    for number, each in enumerate([*text.splitlines(), "["], 1):
        if each.lstrip().startswith("["):
            if path and url:
                whole = f"{base}/{path}" if base else path
                yield Submodule(path=whole, url=url, commit="", place=Place(file=file, line=line))
            path, url, line = "", "", number
        elif found := re.fullmatch(r"\s*(path|url)\s*=\s*\"?([^\"]*?)\"?\s*", each[:2000]):
            if found[1] == "path":
                path = found[2].strip("/")
            else:
                url = found[2]
