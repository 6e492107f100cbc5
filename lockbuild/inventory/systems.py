"""What the Debian packages of a root file system tell, installed in its tar or each in its .deb."""

from __future__ import annotations

import lzma
import posixpath
import re
import tarfile
import zlib
from dataclasses import dataclass, field, replace
from typing import IO, TYPE_CHECKING

from debian.arfile import ArError
from debian.deb822 import Deb822
from debian.debfile import DebError, DebFile

from lockbuild.components import LicenceFile
from lockbuild.digest import sha256_of
from lockbuild.errors import StoreError
from lockbuild.inventory.facts import Facts, PackageFacts
from lockbuild.inventory.texts import MOST_BYTES
from lockbuild.licences.copyrights import of_copyright

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping
    from pathlib import Path

__all__ = ["read_deb", "read_system", "texts_of_deb", "texts_of_system"]

_STATUS = "var/lib/dpkg/status"
_RELEASE = ("etc/os-release", "usr/lib/os-release")
"""One of them is a link to the other: os-release(5)."""
_DOC = "usr/share/doc/"
_COMMON = "usr/share/common-licenses/"
_TEXT = re.compile(
    r"usr/share/(doc/[^/]+/(copyright|licen[cs]e|notice)[^/]*|common-licenses/[^/]+)", re.IGNORECASE
)
_MENTIONED = re.compile(r"/usr/share/common-licenses/([A-Za-z0-9][A-Za-z0-9.+-]*[A-Za-z0-9+])")
_MOST_STATUS = 64 * 1024 * 1024
_BROKEN = (
    ArError,
    DebError,
    EOFError,
    OSError,
    ValueError,
    lzma.LZMAError,
    tarfile.TarError,
    zlib.error,
)


@dataclass(slots=True)
class _Texts:
    """Texts that go along with packages, and links to them, by path without a leading slash."""

    files: dict[str, bytes] = field(default_factory=dict)
    links: dict[str, str] = field(default_factory=dict)
    """Path -> the path that a link, also of a folder, stands for."""

    def take(self, tar: tarfile.TarFile, member: tarfile.TarInfo, name: str) -> None:
        """Keep *member* if it is such a text or may lead to one."""
        if member.issym() and name.startswith((_DOC, _COMMON)):
            target = posixpath.join("/", posixpath.dirname(name), member.linkname)
            self.links[name] = posixpath.normpath(target).lstrip("/")
        elif member.islnk() and _TEXT.fullmatch(name):
            self.links[name] = _plain(member.linkname)
        elif member.isreg() and _TEXT.fullmatch(name) and member.size <= MOST_BYTES:
            self.files[name] = _content(tar, member)

    def find(self, path: str) -> bytes | None:
        """Return the text at *path*, along links of it or of its folder."""
        for _ in range(8):  # Links may go in a circle.
            if path in self.files:
                return self.files[path]
            folder, _, name = path.rpartition("/")
            if path in self.links:
                path = self.links[path]
            elif folder in self.links:
                path = f"{self.links[folder]}/{name}"
            else:
                return None
        return None


def read_system(tar: Path) -> tuple[PackageFacts, ...]:
    """Return what dpkg says is installed in the root file system in *tar*, with licences; sorted by package.

    Raises:
        StoreError: It cannot be read.
    """
    texts, status, release = _Texts(), b"", b""
    try:
        with tarfile.open(tar, "r:") as archive:
            for member in archive:
                name = _plain(member.name)
                if name == _STATUS and member.isreg() and member.size <= _MOST_STATUS:
                    status = _content(archive, member)
                elif name in _RELEASE and member.isreg() and member.size <= MOST_BYTES:
                    release = _content(archive, member)
                else:
                    texts.take(archive, member, name)
    except _BROKEN as error:
        raise StoreError(f"`{tar.name}` cannot be read as a root file system: {error}") from error
    installed = (one for one in _paragraphs(status) if one.get("Status", "").endswith(" installed"))
    said = dict(
        re.findall(
            r'^(ID|VERSION_CODENAME)="?([a-z0-9._-]+)"?$', release.decode(errors="replace"), re.MULTILINE
        )
    )
    vendor, suite = said.get("ID", ""), said.get("VERSION_CODENAME", "")
    found = (replace(_package(one, texts), vendor=vendor, suite=suite) for one in installed)
    return tuple(sorted(found, key=lambda one: one.package))


def read_deb(file: Path, *, licences: bool) -> PackageFacts:
    """Return what the .deb in *file* tells.

    Args:
        licences: Whether to look for its copyright file too, for which all before it is unpacked.

    Raises:
        StoreError: It cannot be read.
    """
    texts = _Texts()
    try:
        with file.open("rb") as stream:
            deb = DebFile(fileobj=stream)
            (control,) = _paragraphs(deb.control.get_content("control") or b"")
            if licences:
                with deb.data.tgz() as tar:
                    for member in tar:
                        texts.take(tar, member, _plain(member.name))
    except _BROKEN as error:
        raise StoreError(f"`{file.name}` cannot be read as a .deb: {error}") from error
    return _package(control, texts)


def texts_of_system(tar: Path) -> Iterable[bytes]:
    """Return the texts that go along with what is installed in the root file system in *tar*.

    Raises:
        StoreError: It cannot be read.
    """
    texts = _Texts()
    try:
        with tarfile.open(tar, "r:") as archive:
            for member in archive:
                texts.take(archive, member, _plain(member.name))
    except _BROKEN as error:
        raise StoreError(f"`{tar.name}` cannot be read as a root file system: {error}") from error
    return texts.files.values()


def texts_of_deb(file: Path) -> Iterable[bytes]:
    """Return the texts that go along with the .deb in *file*.

    Raises:
        StoreError: It cannot be read.
    """
    texts = _Texts()
    try:
        with file.open("rb") as stream, DebFile(fileobj=stream).data.tgz() as tar:
            for member in tar:
                texts.take(tar, member, _plain(member.name))
    except _BROKEN as error:
        raise StoreError(f"`{file.name}` cannot be read as a .deb: {error}") from error
    return texts.files.values()


def _plain(name: str) -> str:
    return name.removeprefix("./").strip("/")


def _content(tar: tarfile.TarFile, member: tarfile.TarInfo) -> bytes:
    source: IO[bytes] | None = tar.extractfile(member)
    return source.read() if source else b""


def _paragraphs(data: bytes) -> Iterator[Mapping[str, str]]:
    yield from Deb822.iter_paragraphs(data.decode(errors="replace").splitlines(), use_apt_pkg=False)


def _package(fields: Mapping[str, str], texts: _Texts) -> PackageFacts:
    name, version = fields["Package"], fields["Version"]
    source, _, source_version = fields.get("Source", name).partition(" ")
    size = fields.get("Installed-Size", "")
    needs = (*_relations(fields.get("Pre-Depends", "")), *_relations(fields.get("Depends", "")))
    return PackageFacts(
        package=name,
        version=version,
        architecture=fields.get("Architecture", ""),
        source=f"{source} {source_version.strip('()') or version}",
        needs=tuple(dict.fromkeys(needs)),
        provides=tuple(n for names in _relations(fields.get("Provides", "")) for n in names),
        documented=texts.links.get(f"{_DOC}{name}", "").rpartition("/")[2],
        facts=_licensed(name, source, texts, size=int(size) * 1024 if size.isdecimal() else 0),
    )


def _relations(text: str) -> Iterator[tuple[str, ...]]:
    """Yield the names of each relation of a control field, without versions and architectures."""
    for relation in text.split(","):
        names = (re.split(r"[\s(:\[<]", one.strip(), maxsplit=1)[0] for one in relation.split("|"))
        if found := tuple(dict.fromkeys(name for name in names if name)):
            yield found


def _licensed(package: str, source: str, texts: _Texts, *, size: int) -> Facts:
    path = f"{_DOC}{package}/copyright"
    copyright_ = texts.find(path)
    if copyright_ is None:
        return Facts(installed_size=size)
    text = copyright_.decode(errors="replace")
    named = {path: copyright_}
    folder = f"{_DOC}{package}/"
    named |= {name: data for name, data in texts.files.items() if name.startswith(folder)}
    for mention in sorted(set(_MENTIONED.findall(text))):
        if (common := texts.find(f"{_COMMON}{mention}")) is not None:
            named[f"{_COMMON}{mention}"] = common
    return Facts(
        installed_size=size,
        told=of_copyright(text, source),
        files=tuple(
            LicenceFile(name=name, sha256=sha256_of(data)) for name, data in sorted(named.items())
        ),
    )
