"""Commands in scripts, pages and Dockerfiles: what they install, fetch and clone. Read, never run. Pure."""

from __future__ import annotations

import re
import shlex
from typing import TYPE_CHECKING

from lockbuild.upstream.addresses import download_of, drive_download
from lockbuild.upstream.findings import AptPackage, Claim, Clone, LocalPackage, Place
from lockbuild.upstream.requirements import (
    conda_findings,
    index_findings,
    pip_findings,
    web_address,
)

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from lockbuild.upstream.findings import Finding, Kind

__all__ = ["Session", "read_all"]

_LONGEST = 4000
_DEEPEST = 30  # folders that `cd` leads down; more are nobody's
_PIP_VALUES = frozenset(
    {
        "-r",
        "--requirement",
        "-c",
        "--constraint",
        "-t",
        "--target",
        "--prefix",
        "--root",
        "--src",
        "--timeout",
    }
    | {
        "--trusted-host",
        "--cache-dir",
        "--python",
        "--global-option",
        "--config-settings",
        "--progress-bar",
    }
)
_PIP_INDEXES = frozenset({"-i", "--index-url", "--extra-index-url", "-f", "--find-links"})
_CONDA_VALUES = frozenset(
    {"-n", "--name", "-p", "--prefix", "-c", "--channel", "-f", "--file", "--solver", "--platform"}
)
_DEBIAN = re.compile(r"[a-z0-9][a-z0-9+.-]+", re.ASCII)


class Session:
    """Commands that follow one another, as in one script: `cd` holds for those behind it."""

    def __init__(self, file: str, kind: Kind) -> None:
        self._file = file
        self._kind = kind
        self._folder = ""
        self._clones: dict[str, str] = {}
        self._clone = ""
        """Address of the repository that `cd` has led into, where that is not this one."""

    def read(self, text: str, line: int) -> Iterator[Finding]:
        """Yield what the commands of one *line* say."""
        if len(text) > _LONGEST:
            return
        place = Place(file=self._file, line=line)
        for command in re.split(r"&&|\|\|?|;", text):
            words = _words(command)
            if words:
                yield from self._command(words, place)

    def _command(self, words: list[str], place: Place) -> Iterator[Finding]:
        program, arguments = words[0].rpartition("/")[2], words[1:]
        if re.fullmatch(r"python[\d.]*", program):
            yield from self._python(program, arguments, place)
        elif re.fullmatch(r"pip[\d.]*|mim", program):
            if "install" in arguments[:4]:
                yield from self._pip(arguments[arguments.index("install") + 1 :], place)
        elif program in {"conda", "mamba", "micromamba"}:
            if arguments[:1] in (["install"], ["create"]):
                yield from self._conda(arguments[1:], place)
        elif program in {"apt", "apt-get", "aptitude"}:
            yield from _debian(arguments, place)
        elif program in {"wget", "curl", "gdown", "aria2c"}:
            yield from self._fetch(program, arguments, place)
        elif program == "uv" and arguments[:1] == ["pip"]:
            yield from self._command(arguments, place)
        elif program == "git" and "clone" in arguments:
            yield from self._git(arguments, place)
        elif program in {"cd", "pushd"} and arguments:
            self._enter(arguments[0])

    def _python(self, program: str, arguments: list[str], place: Place) -> Iterator[Finding]:
        if arguments[:1] == ["-m"]:
            yield from self._of_module(program, arguments[1:], place)
        elif arguments and arguments[0].endswith("setup.py") and set(arguments) & _BUILDING:
            yield from self._local(arguments[0].rpartition("/")[0] or ".", place)

    def _of_module(self, program: str, arguments: list[str], place: Place) -> Iterator[Finding]:
        if arguments[:1] == ["pip"]:
            yield from self._command(arguments, place)
        elif arguments[:1] == ["venv"] and (found := re.fullmatch(r"python(3\.\d+)", program)):
            yield Claim(what="python", version=found[1], exact=True, kind=self._kind, place=place)

    def _pip(self, arguments: list[str], place: Place) -> Iterator[Finding]:
        wanted: list[str] = []
        indexes: list[str] = []
        rest = iter(arguments)
        for word in rest:
            option, _, value = word.partition("=")
            if option in _PIP_INDEXES:
                indexes.append(value or next(rest, ""))
            elif word in _PIP_VALUES:
                next(rest, None)
            elif word in {"-e", "--editable"}:
                folder = next(rest, "")
                wanted.append(folder if re.search(r"://|^[.~/]|git@", folder) else f"./{folder}")
            elif not word.startswith(("-", ">", "<")) and "$" not in word:
                wanted.append(word)
        near = []
        for text in wanted:
            if self._clone and re.fullmatch(r"\.(/|\[.*\])?", text):
                yield from pip_findings(f"git+{self._clone}", kind=self._kind, place=place)
                continue
            for found in pip_findings(text, kind=self._kind, place=place, base=self._folder):
                near.append(getattr(found, "name", ""))
                if isinstance(found, LocalPackage):
                    yield from self._installed(found, place)
                else:
                    yield found
        for url in indexes:
            yield from index_findings(url, [name for name in near if name], place, self._kind)

    def _installed(self, found: LocalPackage, place: Place) -> Iterator[Finding]:
        """Yield the repository instead of the folder that it was cloned into: `pip install -e detectron2_repo`."""
        top = found.path.rpartition("/")[2]
        if top in self._clones:
            yield from pip_findings(f"git+{self._clones[top]}", kind=self._kind, place=place)
        elif not self._clone:
            yield found

    def _local(self, path: str, place: Place) -> Iterator[Finding]:
        if self._clone:
            yield from pip_findings(f"git+{self._clone}", kind=self._kind, place=place)
            return
        base = self._folder
        yield from pip_findings(
            path if path.startswith(".") else f"./{path}", kind=self._kind, place=place, base=base
        )

    def _conda(self, arguments: list[str], place: Place) -> Iterator[Finding]:
        rest = iter(arguments)
        for word in rest:
            if word in _CONDA_VALUES:
                next(rest, None)
            elif not word.startswith(("-", "$")) and re.match(r"[A-Za-z_]", word):
                yield from conda_findings(word, kind=self._kind, place=place)

    def _fetch(self, program: str, arguments: list[str], place: Place) -> Iterator[Finding]:
        target, urls = "", []
        rest = iter(arguments)
        for word in rest:
            if word in {"-O", "--output-document", "-o", "--output"} and not (
                program == "curl" and word == "-O"
            ):
                target = next(rest, "")
            elif word in {"-P", "--directory-prefix"}:
                target = f"{next(rest, '')}/"
            elif word == "--id" or (program == "gdown" and re.fullmatch(r"[\w-]{25,50}", word)):
                urls.append(drive_download(next(rest, "") if word == "--id" else word))
            elif not word.startswith("-"):
                urls.append(word)
        for url in urls:
            folder = f"{self._folder}/" if self._folder else ""
            found = download_of(
                url,
                place,
                target=f"{folder}{target.removeprefix('./')}" if target else folder,
                told=True,
            )
            if found:
                yield found

    def _git(self, arguments: list[str], place: Place) -> Iterator[Finding]:
        for position, word in enumerate(arguments):
            if re.match(r"(https?|git|ssh)://|git@", word):
                url = web_address(word)
                into = arguments[position + 1 : position + 2]
                name = into[0] if into and not into[0].startswith("-") else _stem(url)
                self._clones[name.rstrip("/").rpartition("/")[2]] = url
                yield Clone(url=url, place=place)
                return

    def _enter(self, folder: str) -> None:
        name = folder.rstrip("/").rpartition("/")[2]
        if name in self._clones and not self._folder:
            self._clone = self._clones[name]
            return
        parts = [] if folder.startswith(("/", "~", "$", "-")) else self._folder.split("/")
        for part in folder.split("/"):
            if part == "..":
                if not any(parts):
                    self._clone = ""
                del parts[-1:]
            elif part not in {"", "."} and not part.startswith(("~", "$", "-")):
                parts.append(part)
        self._folder = "/".join([part for part in parts if part][:_DEEPEST])


def _debian(arguments: list[str], place: Place) -> Iterator[AptPackage]:
    if "install" in arguments:
        for word in arguments[arguments.index("install") + 1 :]:
            name = word.partition("=")[0]
            if not word.startswith("-") and _DEBIAN.fullmatch(name):
                yield AptPackage(name=name, place=place)


_BUILDING = frozenset({"bdist_wheel", "build", "build_ext", "develop", "install"})


def _stem(url: str) -> str:
    return url.rstrip("/").rpartition("/")[2].removesuffix(".git")


def _words(command: str) -> list[str]:
    """Return the words of a command, without what stands before its program."""
    command = (
        re.sub(r"^\s*(?:[-*+>]\s+|\d+\.\s+)?(?:[$%!]\s*)?", "", command).strip().strip("`").strip("()")
    )
    command = re.sub(r"(^|\s)#.*$", "", command)
    try:
        words = shlex.split(command)
    except ValueError:
        words = command.split()
    while words and (
        words[0] in {"sudo", "RUN", "exec", "time", "then", "do", "env"} or _ASSIGNED.match(words[0])
    ):
        del words[0]
    return words


_ASSIGNED = re.compile(r"[A-Za-z_]\w*=")


def read_all(lines: Iterable[tuple[int, str]], file: str, kind: Kind) -> Iterator[Finding]:
    """Yield what the commands of one script say, line by line."""
    session = Session(file, kind)
    for number, text in lines:
        yield from session.read(text, number)
