"""The layers of an image as one file system: reading them, and unpacking what they make together.

A program too, which `rootfs` runs in namespaces of its own: `layers.py LAYOUT FOLDER`. It therefore knows
nothing but Python's standard library. What layers mean is said by the OCI image specification:
https://github.com/opencontainers/image-spec/blob/v1.1.0/layer.md

Layers are only read here, into a tree in memory in which every path is below the top, whatever links and
names they hold. The tar that is unpacked is written from that tree.
"""

from __future__ import annotations

import gzip
import json
import subprocess
import sys
import tarfile
import zlib
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO, TYPE_CHECKING, cast

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

__all__ = ["LayerFault", "Tree", "layer_files", "merge", "unpack", "write_tar"]

_WHITEOUT = ".wh."
_OPAQUE = ".wh..wh..opq"
_AUFS = ".wh..wh."
_MAX_LINKS = 255
_BUFFER = 256 * 1024
"""Bytes copied at once: layers have gigabytes."""
_GZIP, _ZSTD = b"\x1f\x8b", b"\x28\xb5\x2f\xfd"
_CAPABILITY = "SCHILY.xattr.security.capability"

# Folders that are there in every root, with nothing in the first: whoever runs it mounts its own.
_FOLDERS = {"dev": 0o755, "build": 0o755, "proc": 0o755, "run": 0o755, "sys": 0o755, "tmp": 0o1777}


class LayerFault(Exception):
    """A layer is damaged, or holds what no layer may."""


@dataclass(slots=True)
class Node:
    """A file, folder or link. A file that has several names is in several folders."""

    info: tarfile.TarInfo
    origin: tuple[int, int] | None = None
    """Layer, and place in it; none for a folder that no layer describes."""
    children: dict[str, Node] | None = None
    """Of a folder."""
    content: bytes | None = None
    """Of a file that was asked for."""


def _folder(mode: int = 0o755) -> Node:
    info = tarfile.TarInfo()
    info.type, info.mode = tarfile.DIRTYPE, mode
    return Node(info, children={})


@dataclass(slots=True)
class Tree:
    """A file system."""

    top: Node = field(default_factory=_folder)

    def parent(self, parts: Sequence[str], *, make: bool) -> dict[str, Node] | None:
        """Return what is in the folder at *parts*, following links as seen from the top.

        Args:
            make: Make folders that are missing; else there is none.

        Raises:
            LayerFault: There is a file on the way, or links lead in a circle.
        """
        waiting, here, links = list(reversed(parts)), [self.top], 0
        while waiting:
            part = waiting.pop()
            if part in {"", "."}:
                continue
            if part == "..":
                here = here[:-1] or here
                continue
            children = _children(here[-1])
            child = children.get(part)
            if child is None:
                if not make:
                    return None
                child = children[part] = _folder()
            if child.info.issym():
                links += 1
                if links > _MAX_LINKS:
                    raise LayerFault(f"`{'/'.join(parts)}`: links lead in a circle")
                target = child.info.linkname
                here = [self.top] if target.startswith("/") else here
                waiting += reversed(target.split("/"))
                continue
            if child.children is None:
                if not make:
                    return None
                raise LayerFault(f"`{'/'.join(parts)}`: `{part}` is no folder")
            here.append(child)
        return _children(here[-1])

    def find(self, path: str) -> Node | None:
        """Return what is at *path*; links on the way are followed, a link at its end is not."""
        *parts, name = _parts(path)
        folder = self.parent(parts, make=False)
        return folder.get(name) if folder is not None else None

    def walk(self) -> Iterator[tuple[str, Node]]:
        """Yield path and node of everything below the top, folders before what is in them, sorted."""
        waiting = [("", self.top)]
        while waiting:
            prefix, folder = waiting.pop()
            below = []
            for name, child in sorted(_children(folder).items()):
                yield f"{prefix}{name}", child
                if child.children is not None:
                    below.append((f"{prefix}{name}/", child))
            waiting += reversed(below)


def _children(node: Node) -> dict[str, Node]:
    if node.children is None:
        raise TypeError(node)
    return node.children


def _parts(name: str) -> list[str]:
    parts = [part for part in name.split("/") if part not in {"", "."}]
    if ".." in parts or "\0" in name:
        raise LayerFault(f"{name!r} leads out of the layer")
    return parts


# ---- merging --------------------------------------------------------------------------------------


def merge(layers: Sequence[Path], *, keep: Callable[[str], bool] = lambda _: False) -> Tree:
    """Return the file system that *layers* make, the lowest first.

    Args:
        keep: Whether the content of the file of a path is to be kept in memory.

    Raises:
        LayerFault: A layer is damaged, or holds what no layer may.
    """
    tree = Tree()
    for number, path in enumerate(layers):
        members: list[tuple[list[str], Node]] = []
        with _opened(path) as archive:
            for place, info in enumerate(archive):
                parts = _parts(info.name)
                node = Node(info, (number, place), {} if info.isdir() else None)
                if info.isreg() and keep("/".join(parts)):
                    stream = archive.extractfile(info)
                    node.content = stream.read() if stream else None
                members.append((parts, node))
        # A whiteout hides what layers below have, never what its own brings, wherever it stands in it.
        for parts, _ in members:
            if parts and parts[-1].startswith(_WHITEOUT):
                _hide(tree, parts)
        for parts, node in members:
            if not parts:
                tree.top.info = node.info if node.info.isdir() else tree.top.info
            elif not parts[-1].startswith(_WHITEOUT):
                _add(tree, parts, node)
    return tree


def _hide(tree: Tree, parts: Sequence[str]) -> None:
    folder = tree.parent(parts[:-1], make=False)
    if folder is None:
        return
    if parts[-1] == _OPAQUE:
        folder.clear()
    elif not parts[-1].startswith(_AUFS):
        folder.pop(parts[-1].removeprefix(_WHITEOUT), None)


def _add(tree: Tree, parts: Sequence[str], node: Node) -> None:
    info = node.info
    if info.ischr() or info.isblk():
        return  # a node of a device is a door; whoever runs a root brings its own
    folder = tree.parent(parts[:-1], make=True)
    if folder is None:
        raise TypeError(parts)
    if info.islnk():
        found = tree.find(info.linkname)
        if found is None or found.children is not None:
            raise LayerFault(f"`{info.name}` is a hard link to `{info.linkname}`, which is no file")
        node = found
    elif info.isdir():
        there = folder.get(parts[-1])
        if there is not None and there.children is not None:
            node.children = there.children
    elif not (info.isreg() or info.issym() or info.isfifo()):
        raise LayerFault(f"`{info.name}` is neither file, folder nor link")
    folder[parts[-1]] = node


@contextmanager
def _opened(path: Path) -> Iterator[tarfile.TarFile]:
    """Open a layer for reading from its beginning to its end."""
    with path.open("rb") as stream:
        head = stream.read(4)
    try:
        if head == _ZSTD:
            with _unpacked(path) as unpacked, tarfile.open(fileobj=unpacked, mode="r|") as archive:
                yield archive
        else:
            # tarfile's own way of reading gzip takes several times as long.
            unpack: Callable[[Path], IO[bytes]] = _ungzipped if head.startswith(_GZIP) else _plain
            with unpack(path) as plain, tarfile.open(fileobj=plain, mode="r:") as archive:
                yield archive
    except (tarfile.TarError, EOFError, OSError, UnicodeError, zlib.error) as error:
        raise LayerFault(f"the layer {path.name} cannot be read: {error}") from error


def _ungzipped(path: Path) -> IO[bytes]:
    return cast("IO[bytes]", gzip.open(path))


def _plain(path: Path) -> IO[bytes]:
    return path.open("rb")


@contextmanager
def _unpacked(path: Path) -> Iterator[IO[bytes]]:
    try:
        process = subprocess.Popen(["zstd", "-dcq", path], stdout=subprocess.PIPE)
    except FileNotFoundError as error:
        raise LayerFault(
            f"the layer {path.name} is packed with zstd, and `zstd` is not installed"
        ) from error
    with process:
        if process.stdout is None:
            raise TypeError(process)
        yield process.stdout
        process.stdout.close()
    # Ended by the closed pipe, once the archive was read, it is no fault.
    if process.returncode not in {0, 1, -13}:
        raise LayerFault(f"the layer {path.name} cannot be read: zstd ended with {process.returncode}")


# ---- writing --------------------------------------------------------------------------------------


def settle(tree: Tree) -> None:
    """Give *tree* the folders that every root has, and take from it what whoever runs it brings along."""
    top = _children(tree.top)
    for name, mode in _FOLDERS.items():
        if name not in top or top[name].children is None:
            top[name] = _folder(mode)
    _children(top["dev"]).clear()


def write_tar(tree: Tree, layers: Sequence[Path], output: IO[bytes]) -> None:
    """Write *tree*, made of *layers*, as a tar that any tar may unpack: nothing in it leads anywhere else."""
    wanted: dict[tuple[int, int], list[str]] = {}
    with tarfile.open(fileobj=output, mode="w|", bufsize=_BUFFER, format=tarfile.PAX_FORMAT) as archive:
        archive.addfile(_header(tree.top, "."))
        for path, node in tree.walk():
            if node.children is not None:
                archive.addfile(_header(node, path))
            elif node.origin is not None:
                wanted.setdefault(node.origin, []).append(path)
        for number in sorted({number for number, _ in wanted}):
            _write_layer(layers[number], number, wanted, archive)


def _write_layer(
    layer: Path, number: int, wanted: dict[tuple[int, int], list[str]], archive: tarfile.TarFile
) -> None:
    with _opened(layer) as source:
        for place, info in enumerate(source):
            first, *others = wanted.get((number, place), [""])
            if not first:
                continue
            content = source.extractfile(info) if info.isreg() else None
            archive.addfile(_header(Node(info), first), content)
            for other in others:
                link = _header(Node(info), other)
                link.type, link.linkname, link.size, link.pax_headers = tarfile.LNKTYPE, first, 0, {}
                archive.addfile(link)


def _header(node: Node, path: str) -> tarfile.TarInfo:
    """Return what is kept of a node's header, under another name."""
    info, kept = node.info, tarfile.TarInfo(path)
    kept.type = tarfile.REGTYPE if info.isreg() else info.type
    kept.mode, kept.uid, kept.gid, kept.mtime = info.mode & 0o7777, info.uid, info.gid, int(info.mtime)
    kept.size = info.size if info.isreg() else 0
    kept.linkname = info.linkname if info.issym() else ""
    if _CAPABILITY in info.pax_headers:
        kept.pax_headers = {_CAPABILITY: info.pax_headers[_CAPABILITY]}
    return kept


# ---- layouts --------------------------------------------------------------------------------------


def layer_files(layout: Path) -> tuple[Path, ...]:
    """Return the layers of the one image of an OCI layout, the lowest first."""

    def blob(digest: str) -> Path:
        return layout / "blobs" / digest.replace(":", "/", 1)

    index = json.loads((layout / "index.json").read_bytes())
    manifest = json.loads(blob(index["manifests"][0]["digest"]).read_bytes())
    return tuple(blob(layer["digest"]) for layer in manifest["layers"])


def unpack(layout: Path, folder: Path) -> None:
    """Unpack the image of *layout* into the empty *folder*, with owners and modes.

    Raises:
        LayerFault: A layer is damaged, or tar cannot unpack them.
    """
    layers = layer_files(layout)
    tree = merge(layers)
    settle(tree)
    words = (
        *("tar", "--extract", "--file=-", "--directory", folder, "--delay-directory-restore"),
        *("--numeric-owner", "--same-owner", "--same-permissions"),
        *("--xattrs", "--xattrs-include=security.capability"),
    )
    tar = subprocess.Popen(words, stdin=subprocess.PIPE)
    # A tar that ended early has said why, and its exit status follows.
    with suppress(BrokenPipeError), tar:
        if tar.stdin is None:
            raise TypeError(tar)
        write_tar(tree, layers, tar.stdin)
    if tar.wait() != 0:
        raise LayerFault(f"tar ended with {tar.returncode}")


def _main(layout: str, folder: str) -> int:
    try:
        unpack(Path(layout), Path(folder))
    except LayerFault as fault:
        # As apt says what is wrong: the log's reader looks for it.
        sys.stderr.write(f"E: {fault}\n")
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(_main(*sys.argv[1:]))
