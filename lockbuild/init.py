"""Looking through an upstream repository: a folder, a git checkout, or a bare repository. Nothing of it is run.

Git is asked for objects only, with neither the repository's configuration nor the user's; references are
read as text. Links are not followed, and what leads out of the folder is not read.
"""

from __future__ import annotations

import codecs
import contextlib
import hashlib
import os
import re
import stat
import sys
from dataclasses import dataclass, field, replace
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

from lockbuild.errors import FetchError, LockbuildError, UsageError
from lockbuild.process import run
from lockbuild.sources.git.commands import Git
from lockbuild.sources.git.modules import resolve_url
from lockbuild.sources.git.objects import Absent, Damaged, Objects
from lockbuild.upstream import (
    Upstream,
    draft,
    is_aside,
    is_read,
    pointer_of,
    read_text,
    submodule_findings,
)
from lockbuild.upstream.findings import Submodule

if TYPE_CHECKING:
    from collections.abc import Iterator

    from lockbuild.sources.git.objects import Entry
    from lockbuild.upstream.findings import Finding

__all__ = ["draft_stack", "survey"]

_LONGEST = 1_000_000
"""Bytes of a file that is read; environments, READMEs and sources are far smaller."""
_MOST_FILES = 50_000
_POINTER_BYTES = 1024
_IGNORED = frozenset(
    {".git", ".hg", ".svn", ".tox", ".venv", "__pycache__", "node_modules", "site-packages"}
)
_COMMIT = re.compile(r"[0-9a-f]{40}")


@dataclass(slots=True)
class _Found:
    """What is collected file by file."""

    findings: list[Finding] = field(default_factory=list)
    modules: set[str] = field(default_factory=set)
    licences: set[str] = field(default_factory=set)
    too_long: list[str] = field(default_factory=list)
    changed: list[str] = field(default_factory=list)
    absent: list[str] = field(default_factory=list)

    def add(self, path: str, content: bytes) -> None:
        """Read one file."""
        if len(content) <= _POINTER_BYTES and (pointer := pointer_of(content, path)):
            self.findings.append(pointer)
            return
        name = path.rpartition("/")[2]
        if name == ".gitmodules":
            for found in submodule_findings(_text(content) or "", path):
                self.findings.append(found)
                self.modules.update(found.path.split("/"))
        text = _text(content) if is_read(path) and not is_aside(path) else None
        if text is not None:
            self.findings.extend(read_text(text, path))


def draft_stack(path: Path, *, name: str, git: str = "", revision: str = "") -> str:
    """Return a first stack file for the repository at *path*.

    Args:
        name: The stack's name.
        git: Where everybody can have the repository; none for what its `origin` says.
        revision: Branch, tag or commit of a git repository; none for the one that is checked out.

    Raises:
        UsageError: There is no such folder or revision.
        FetchError: The repository's commit cannot be read.
        ToolMissing: It is bare, and there is no git.
    """
    return draft(survey(path, git=git, revision=revision), name=name, standard=sys.stdlib_module_names)


def survey(path: Path, *, git: str = "", revision: str = "") -> Upstream:
    """Return all that is found in the repository at *path*; see `draft_stack`."""
    if not path.is_dir():
        raise UsageError(
            f"`{path}` is no folder", hint="`--from` wants a checkout or a bare git repository"
        )
    repository = next((one for one in (path / ".git", path) if _is_repository(one)), None)
    bare = repository == path
    found = _Found()
    entries: dict[str, Entry] = {}
    commit, url, notes = "", "", []
    if repository is not None:
        with TemporaryDirectory(prefix="lockbuild-init-") as work:
            try:
                commit, url = _commit(repository, revision, work=Path(work)), _origin(repository)
                entries = _listed(
                    repository, commit, found, work=Path(work), content=bare or bool(revision)
                )
            except LockbuildError as error:
                if bare or revision:
                    raise
                notes.append(f"git says nothing of it: {error.message}")
    elif revision:
        raise UsageError(f"`{path}` is no git repository, so that it has no `{revision}`")
    if repository is None or not (bare or revision):
        _walk(path, found, entries)
    address = git or url
    findings = tuple(_with_commit(one, entries, address) for one in found.findings)
    return Upstream(
        name=_name(address, path),
        git=address,
        commit=commit,
        findings=findings,
        modules=frozenset(found.modules),
        licences=tuple(sorted(found.licences)),
        notes=(*notes, *_notes(found)),
    )


def _notes(found: _Found) -> Iterator[str]:
    for what, paths in (
        ("not read, as they are too long", found.too_long),
        ("read as they are on disk, which is not as the commit has them", found.changed),
        ("not read, as the repository lacks their content", found.absent),
    ):
        if paths:
            shown = ", ".join(sorted(paths)[:5])
            more = f" and {len(paths) - 5} more" if len(paths) > 5 else ""  # noqa: PLR2004 - of the line above
            yield f"{what}: {shown}{more}"


def _name(address: str, path: Path) -> str:
    return address.rstrip("/").rpartition("/")[2].removesuffix(".git") or path.resolve().name


def _text(content: bytes) -> str | None:
    """Return the text of a file; none where it is no text."""
    if content.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)):
        return content.decode("utf-16", errors="replace")
    return None if b"\0" in content[:8192] else content.decode("utf-8-sig", errors="replace")


# ---- a folder -------------------------------------------------------------------------------------


def _walk(top: Path, found: _Found, entries: dict[str, Entry]) -> None:
    """Read the files below *top*; those of a commit only, where *entries* says what it has."""
    inside = tuple(f"{path}/" for path, entry in entries.items() if entry.kind == "submodule")
    count = 0
    for path in _files(top):
        if entries and path not in entries and not path.startswith(inside):
            continue
        count += 1
        if count > _MOST_FILES:
            found.too_long.append("what comes after the first fifty thousand files")
            return
        _note_name(path, found)
        content = _content(top / path, found, path)
        if content is None:
            continue
        if path in entries and entries[path].kind != "symlink" and entries[path].id != _blob(content):
            found.changed.append(path)
        found.add(path, content)


def _files(top: Path) -> Iterator[str]:
    """Yield the path of each regular file below *top*, sorted; no link is followed."""
    waiting = [""]
    while waiting:
        folder = waiting.pop()
        try:
            inside = sorted(os.scandir(top / folder), key=lambda entry: entry.name, reverse=True)
        except OSError:
            continue
        files = []
        for entry in inside:
            path = f"{folder}{entry.name}"
            if entry.is_dir(follow_symlinks=False):
                if entry.name not in _IGNORED:
                    waiting.append(f"{path}/")
            elif entry.is_file(follow_symlinks=False):
                files.append(path)
        yield from reversed(files)


def _content(file: Path, found: _Found, path: str) -> bytes | None:
    """Return the bytes of a file that a reader is for, or that may be a pointer of Git LFS."""
    try:
        # It may have become a link or a pipe since it was listed.
        descriptor = os.open(file, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
    except OSError:
        return None
    with os.fdopen(descriptor, "rb") as stream:
        status = os.fstat(descriptor)
        wanted = is_read(path) or file.name == ".gitmodules"
        if not stat.S_ISREG(status.st_mode) or (status.st_size > _POINTER_BYTES and not wanted):
            return None
        if status.st_size > _LONGEST:
            found.too_long.append(path)
            return None
        try:
            return stream.read(_LONGEST)
        except OSError:
            return None


def _blob(content: bytes) -> str:
    return hashlib.sha1(b"blob %d\0" % len(content) + content, usedforsecurity=False).hexdigest()


def _note_name(path: str, found: _Found) -> None:
    """Keep what the name of a file says: a module, or a licence."""
    if re.match(r"(licen[cs]e|copying)[^/]*$", path, re.IGNORECASE):
        found.licences.add(path)
    if path.endswith(".py"):
        *folders, name = path.split("/")
        found.modules.update(folders)
        found.modules.add(name.removesuffix(".py"))


# ---- a repository ---------------------------------------------------------------------------------


def _is_repository(path: Path) -> bool:
    return (path / "HEAD").is_file() and (path / "objects").is_dir() and (path / "refs").is_dir()


def _listed(
    repository: Path, commit: str, found: _Found, *, work: Path, content: bool
) -> dict[str, Entry]:
    """Return path -> entry of what *commit* has, and read its files if *content* is wanted."""
    try:
        with Objects(Git.found(work), repository / "objects") as objects:
            entries = objects.tree(commit)
            if content:
                for entry in entries[:_MOST_FILES]:
                    _read_entry(objects, entry, found)
            return {entry.path: entry for entry in entries}
    except (Absent, Damaged) as error:
        raise FetchError(f"commit {commit} of `{repository}` cannot be read: {error}") from error


def _read_entry(objects: Objects, entry: Entry, found: _Found) -> None:
    if entry.kind not in {"executable", "file"}:
        return
    _note_name(entry.path, found)
    if Path(entry.path).suffix.lower() in _NEVER_TEXT:
        return
    try:
        content = objects.blob(entry.id)
    except Absent:
        found.absent.append(entry.path)
        return
    if len(content) > _LONGEST:
        if is_read(entry.path):
            found.too_long.append(entry.path)
        return
    found.add(entry.path, content)


_NEVER_TEXT = frozenset({".gif", ".jpeg", ".jpg", ".mov", ".mp4", ".pdf", ".png", ".svg", ".webp"})


def _commit(repository: Path, revision: str, *, work: Path) -> str:
    """Return the commit that *revision* names, or the one that is checked out.

    Raises:
        UsageError: There is none of that name.
    """
    asked = revision or "HEAD"
    one = asked if _COMMIT.fullmatch(asked) else _reference(repository, asked)
    if not one:
        raise UsageError(f"`{repository}` has no `{asked}`", hint="a branch, a tag, or a whole commit")
    # A tag may be an object of its own, which leads to the commit.
    git = Git.found(work)
    argv, env = git.reading(
        repository / "objects", "rev-parse", "--verify", "--quiet", f"{one}^{{commit}}"
    )
    ended = run(argv, env=env, cwd=work)
    return (
        ended.stdout.strip()
        if ended.returncode == 0 and _COMMIT.fullmatch(ended.stdout.strip())
        else one
    )


def _reference(repository: Path, name: str, *, depth: int = 5) -> str:
    """Return the object that a reference names, read as text; empty for none."""
    if ".." in name.split("/") or name.startswith("/") or not depth:
        return ""
    packed = {
        found[2]: found[1]
        for line in _small(repository / "packed-refs").splitlines()
        if (found := re.fullmatch(r"([0-9a-f]{40}) (\S+)", line))
    }
    for prefix in ("", "refs/heads/", "refs/tags/", "refs/remotes/origin/", "refs/"):
        whole = f"{prefix}{name}"
        text = _small(repository / whole).strip() or packed.get(whole, "")
        if text.startswith("ref: "):
            return _reference(repository, text.removeprefix("ref: "), depth=depth - 1)
        if _COMMIT.fullmatch(text):
            return text
    return ""


def _small(path: Path) -> str:
    try:
        if path.is_symlink() or not path.is_file() or path.stat().st_size > 10 * _LONGEST:
            return ""
        return path.read_bytes().decode("utf-8", errors="replace")
    except OSError:
        return ""


def _origin(repository: Path) -> str:
    """Return where `origin` is, as everybody can reach it; empty where it says nothing or a path."""
    section = ""
    for line in _small(repository / "config").splitlines():
        if line.strip().startswith("["):
            section = line.strip().lower()
        elif section == '[remote "origin"]' and (found := re.fullmatch(r"\s*url\s*=\s*(\S+)\s*", line)):
            return _public(found[1])
    return ""


def _public(url: str) -> str:
    """Return an address over https, without a user's name and password; empty for what is no such thing."""
    if scp := re.fullmatch(r"(?:ssh://)?[\w.-]+@([\w.-]+)[:/](.+)", url):
        return f"https://{scp[1]}/{scp[2]}"
    try:
        parts = urlsplit(url)
        host = f"{parts.hostname}:{parts.port}" if parts.port else parts.hostname
    except ValueError:
        return ""
    if parts.scheme not in {"git", "http", "https", "ssh"} or not parts.hostname:
        return ""
    scheme = parts.scheme if parts.scheme in {"http", "https"} else "https"
    return f"{scheme}://{host}{parts.path}"


def _with_commit(found: Finding, entries: dict[str, Entry], address: str) -> Finding:
    """Return a submodule with the commit that the tree pins, and an address that is no relative one."""
    if not isinstance(found, Submodule):
        return found
    entry = entries.get(found.path)
    url = found.url
    with contextlib.suppress(FetchError):
        url = resolve_url(address, url) if address else url
    url = url if url.startswith(("./", "../")) else _public(url) or url
    return replace(found, url=url, commit=entry.id if entry and entry.kind == "submodule" else "")
