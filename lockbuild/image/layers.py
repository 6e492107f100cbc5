"""Layers of an image: what each of them brings and takes away, and the file system that they make together.

What layers mean is said by https://github.com/opencontainers/image-spec/blob/v1.1.0/layer.md. Nothing is unpacked:
a layer is read once, from its beginning to its end, and every file is hashed while it goes by.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Literal, NamedTuple

from lockbuild.digest import Sha256
from lockbuild.errors import ImageError
from lockbuild.image.tarstream import members, path_of

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Mapping

    from lockbuild.image.tarstream import Header, Source

__all__ = ["MAX_FILES", "FileKind", "Layer", "LayerFile", "Placed", "Room", "final", "read_layer"]

FileKind = Literal["file", "symlink", "folder", "special"]
_WHITEOUT, _OPAQUE, _AUFS = ".wh.", ".wh..wh..opq", ".wh..wh."
_MAX_LINKS = 255
MAX_FILES = 5_000_000
"""Files of an image, those that layers take away among them."""
_MAX_PATH = 4096  # Linux's PATH_MAX
_MAX_STEPS = 4_000_000
"""Folders that links may lead through, for all paths of an image: a folder below `/lib` makes two such steps."""
_LOOKED_AT = 1 << 20
"""Bytes at the beginning and at the end of a file that are looked into: what people must not leave is text."""
_MOST_KEPT = 256 << 20
"""Bytes of all files of an image whose content is kept. Lists of what is installed have a few million a layer."""


class LayerFile(NamedTuple):
    """A file, link or folder as a layer brings it."""

    path: str
    """Below the top, without a slash before it."""
    kind: FileKind
    mode: int
    """Permissions, with setuid, setgid and sticky bits."""
    uid: int
    gid: int
    size: int
    content: str
    """Sha256 of a file, target of a symlink; empty for all else."""
    capability: bool = False
    seen: tuple[str, ...] = ()
    """What `look` saw in it."""

    @property
    def privileged(self) -> bool:
        """Whether who runs it gets rights of somebody else."""
        return self.kind == "file" and (self.capability or bool(self.mode & 0o6000))


@dataclass(frozen=True, slots=True, kw_only=True)
class Layer:
    """What a layer brings and takes away."""

    files: tuple[LayerFile, ...]
    """In the order of the layer; of several at one path the last, which counts."""
    replaced: tuple[LayerFile, ...] = ()
    """Files in whose place the same layer brings something else: no program sees them, and they are shipped."""
    removed: tuple[str, ...] = ()
    """Paths that layers below have and this one hides."""
    emptied: tuple[str, ...] = ()
    """Folders of which nothing from below is left."""
    texts: Mapping[str, bytes] = field(default_factory=dict)
    """Content of each file that was asked for."""


class Placed(NamedTuple):
    """A file of the file system that layers make, and where it comes from."""

    file: LayerFile
    layer: int
    """From 0."""


@dataclass(slots=True)
class Room:
    """How many bytes may still be kept in memory."""

    left: int = _MOST_KEPT

    def take(self, size: int) -> bool:
        """Whether *size* bytes more fit in; they are counted."""
        self.left -= size
        return self.left >= 0


def _keep_none(_: str) -> bool:
    return False


def read_layer(
    source: Source,
    *,
    keep: Callable[[str], bool] = _keep_none,
    look: Callable[[str, Sha256, bytes], tuple[str, ...]] | None = None,
    room: Room | None = None,
) -> Layer:
    """Read a layer, a tar, to its end.

    Args:
        keep: Whether the content of the file of a path is wanted.
        look: Told path, sha256 and bytes of each file, of a big one the first and the last; what it answers is kept
            with the file.
        room: For what is kept of this layer and others.

    Raises:
        ImageError: It is no tar, is damaged, or holds what no layer may.
    """
    found: dict[str, LayerFile] = {}
    replaced: list[LayerFile] = []
    asked = _Asked(keep, look, source.what, room or Room())
    removed: list[str] = []
    emptied: list[str] = []
    for count, (header, content) in enumerate(members(source)):
        path = path_of(header.name, source.what)
        folder, _, name = path.rpartition("/")
        if header.size and (not path or name.startswith(_WHITEOUT)):
            raise ImageError(
                f"{source.what}: {header.name!r} has content, which no file can get from it"
            )
        if not path:
            continue
        if count >= MAX_FILES or max(len(path), len(header.target)) > _MAX_PATH:
            raise ImageError(
                f"{source.what}: more than {MAX_FILES:,} files, or a path of more than {_MAX_PATH:,} characters"
            )
        if name.startswith(_WHITEOUT):
            if name == _OPAQUE:
                emptied.append(folder)
            elif not name.startswith(_AUFS) and name != _WHITEOUT:
                removed.append(f"{folder}/{name[len(_WHITEOUT) :]}".removeprefix("/"))
            continue
        file = _brought(header, path, content, found, asked)
        before = found.pop(path, file)
        if before != file and before.kind != "folder":
            replaced.append(before)
        found[path] = file
    if any(bytes(block).strip(b"\0") for block in source.drain()):
        raise ImageError(f"{source.what}: there is something behind its end")
    return Layer(
        files=tuple(found.values()),
        replaced=tuple(replaced),
        removed=tuple(removed),
        emptied=tuple(emptied),
        texts=asked.texts,
    )


@dataclass(slots=True)
class _Asked:
    """What is wanted of the files of a layer beside the listing, and what was kept so far."""

    keep: Callable[[str], bool]
    look: Callable[[str, Sha256, bytes], tuple[str, ...]] | None
    what: str
    room: Room
    texts: dict[str, bytes] = field(default_factory=dict)

    def is_kept(self, path: str, size: int) -> bool:
        """Whether the content of a file is to be kept.

        Raises:
            ImageError: There would be more than fits into memory.
        """
        if not self.keep(path):
            return False
        if not self.room.take(size):
            raise ImageError(
                f"{self.what}: `{path}` and others like it have more than {_MOST_KEPT:,} bytes, too many for"
                " lists of what is installed"
            )
        return True


def _brought(
    header: Header,
    path: str,
    content: Iterator[memoryview],
    found: Mapping[str, LayerFile],
    asked: _Asked,
) -> LayerFile:
    if header.kind == "file":
        return _read_file(header, path, content, asked)
    if header.kind == "link":
        file, other = _linked(found, header, path, asked.what)
        if asked.keep(path) and other in asked.texts:
            # Installers that have a cache link what they install to it.
            asked.texts[path] = asked.texts[other]
        return file
    target = header.target if header.kind == "symlink" else ""
    return LayerFile(path, header.kind, header.mode, header.uid, header.gid, 0, target)


def _read_file(header: Header, path: str, content: Iterator[memoryview], asked: _Asked) -> LayerFile:
    digest = hashlib.sha256()
    kept: list[memoryview] | None = [] if asked.is_kept(path, header.size) else None
    ends = _Ends(header.size) if asked.look else None
    for part in content:
        digest.update(part)
        if kept is not None:
            kept.append(part)
        if ends:
            ends.add(part)
    sha256 = Sha256(digest.hexdigest())
    if kept is not None:
        asked.texts[path] = b"".join(kept)
    seen = asked.look(path, sha256, ends.data()) if asked.look and ends and header.size else ()
    return LayerFile(
        path,
        "file",
        header.mode,
        header.uid,
        header.gid,
        header.size,
        sha256,
        header.capability,
        seen,
    )


class _Ends:
    """What is looked into of a file that goes by: all of it, or its first and last part."""

    def __init__(self, size: int) -> None:
        self._first = size if size <= 2 * _LOOKED_AT else _LOOKED_AT
        self._last = max(self._first, size - _LOOKED_AT)
        self._parts: tuple[list[memoryview], list[memoryview]] = ([], [])
        self._place = 0

    def add(self, part: memoryview) -> None:
        first, last = self._parts
        if self._place < self._first:
            first.append(part[: self._first - self._place])
        if self._place + len(part) > self._last:
            last.append(part[max(0, self._last - self._place) :])
        self._place += len(part)

    def data(self) -> bytes:
        """Return both parts, with a zero byte where something was left out."""
        first, last = (b"".join(parts) for parts in self._parts)
        return b"\0".join((first, last)) if last else first


def _linked(
    found: Mapping[str, LayerFile], header: Header, path: str, what: str
) -> tuple[LayerFile, str]:
    """Return the file that a hard link is, another name of one that came before it, and that other name."""
    other = path_of(header.target.removeprefix("/"), what)
    target = found.get(other)
    if target is None or target.kind == "folder":
        raise ImageError(f"{what}: `{path}` is a hard link to `{header.target}`, which is no file of it")
    return target._replace(path=path), other


# ---- together --------------------------------------------------------------------------------------


class _Node:
    """A place in the file system: what is there, and what is below it."""

    __slots__ = ("below", "placed")

    def __init__(self, placed: Placed | None) -> None:
        self.placed = placed
        self.below: dict[str, _Node] | None = None

    @property
    def link(self) -> str | None:
        """Target of a symlink."""
        placed = self.placed
        return placed.file.content if placed and placed.file.kind == "symlink" else None


class _System:
    """A file system under construction."""

    def __init__(self) -> None:
        self.top = _Node(None)
        self.top.below = {}
        self._folders: dict[str, _Node] = {}
        self._steps = _MAX_STEPS

    def folder(self, path: str, *, make: bool) -> _Node | None:
        """Return the folder at *path*, links followed as seen from the top; none where it is not."""
        if (known := self._folders.get(path)) is not None:
            return known
        waiting, here, links = path.split("/")[::-1] if path else [], [self.top], 0
        while waiting:
            part = waiting.pop()
            if part in ("", "."):
                continue
            if part == "..":
                del here[max(1, len(here) - 1) :]
                continue
            below = here[-1].below
            if below is None:
                raise TypeError(path)
            child = below.get(part)
            if child is not None and child.link is not None:
                links += 1
                if links > _MAX_LINKS:
                    raise ImageError(f"`{path}`: links lead in a circle")
                here = [self.top] if child.link.startswith("/") else here
                way = child.link.split("/")
                self._steps -= len(way)
                if self._steps < 0:
                    raise ImageError(f"`{path}`: links lead through too many folders")
                waiting += way[::-1]
                continue
            if child is None or child.below is None:
                if not make:
                    return None
                child = below[part] = _Node(None)
                child.below = {}
            here.append(child)
        self._folders[path] = here[-1]
        return here[-1]

    def put(self, placed: Placed) -> None:
        parent, _, name = placed.file.path.rpartition("/")
        folder = self.folder(parent, make=True)
        if folder is None or folder.below is None:
            raise TypeError(parent)
        there = folder.below.get(name)
        if placed.file.kind == "folder" and there is not None and there.below is not None:
            there.placed = placed
            return
        node = folder.below[name] = _Node(placed)
        if placed.file.kind == "folder":
            node.below = {}
        if there is not None and (there.below is not None or there.link is not None):
            self._folders.clear()

    def hide(self, path: str) -> None:
        parent, _, name = path.rpartition("/")
        folder = self.folder(parent, make=False)
        if folder is not None and folder.below is not None and name in folder.below:
            del folder.below[name]
            self._folders.clear()

    def empty(self, path: str) -> None:
        folder = self.folder(path, make=False)
        if folder is not None and folder.below:
            folder.below = {}
            self._folders.clear()


def final(layers: Iterable[Layer]) -> dict[str, Placed]:
    """Return path -> what is there in the file system that *layers* make, the lowest first; sorted.

    A path is the one that a program sees: links on the way are followed.

    Raises:
        ImageError: Links lead in a circle, or too far.
    """
    system = _System()
    for number, layer in enumerate(layers):
        # A whiteout hides what layers below have, never what its own brings, wherever it stands in it.
        for path in layer.emptied:
            system.empty(path)
        for path in layer.removed:
            system.hide(path)
        for file in layer.files:
            system.put(Placed(file, number))
    found: dict[str, Placed] = {}
    waiting = [("", system.top)]
    while waiting:
        prefix, folder = waiting.pop()
        for name, node in (folder.below or {}).items():
            if node.placed:
                found[f"{prefix}{name}"] = node.placed
            if node.below is not None:
                waiting.append((f"{prefix}{name}/", node))
    return dict(sorted(found.items()))
