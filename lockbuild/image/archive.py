"""Images as their layers, read out of `docker save` archives, OCI layouts and engines; nothing of them runs.

One pass, whatever order the parts come in: what is a layer is read as one when it comes by, and its digests are
compared once manifest and configuration are known. Layers are plain, gzip or zstd.
"""

from __future__ import annotations

import hashlib
import sys
import zlib
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from queue import SimpleQueue
from threading import Thread
from typing import TYPE_CHECKING, Any

from lockbuild.digest import Sha256
from lockbuild.errors import ImageError
from lockbuild.image.layers import read_layer
from lockbuild.image.manifests import MAX_DOCUMENTS, Parts, image_of
from lockbuild.image.tarstream import Source, is_tar, members, path_of

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator
    from pathlib import Path

    from lockbuild.image import Engine
    from lockbuild.image.layers import Layer
    from lockbuild.image.manifests import LayeredImage

__all__ = ["Reading", "read_archive", "read_saved", "read_tar"]

_BLOCK = 1 << 20
_GZIP, _ZSTD = b"\x1f\x8b", b"\x28\xb5\x2f\xfd"
_MAX_DOCUMENT = 16 << 20
"""Bytes of a manifest or configuration; registries take 4 MiB."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Reading:
    """What is wanted of an image beside the listing of its layers."""

    keep: Callable[[str], bool] = lambda _: False
    """Whether the content of the file of a path is kept."""
    look: Callable[[str, Sha256, bytes], tuple[str, ...]] | None = None
    """Told path, sha256 and bytes of each file, of a big one the first and the last; the answer is kept with it."""
    architecture: str = "amd64"
    """Which image, where there is one for each of several machines."""


def read_archive(place: Path, reading: Reading) -> LayeredImage:
    """Return the image in *place*: an archive of `docker save`, or an OCI layout as a folder or a tar.

    Raises:
        ImageError: It cannot be read, holds no image or several, or is not what its digests say.
    """
    what = place.name or str(place)
    try:
        if place.is_dir():
            return _read(_folder_members(place), reading, what)
        with place.open("rb") as stream:
            return _read_tar(_file_blocks(stream), reading, what)
    except OSError as error:
        raise ImageError(f"{place} cannot be read: {error.strerror}") from error


def read_saved(reference: str, reading: Reading, *, engine: Engine) -> LayeredImage:
    """Return the image that an engine calls *reference*, streamed from it.

    Raises:
        ImageError: The engine does not have it.
    """
    from lockbuild.image.containers import saved  # noqa: PLC0415 - imports the engine's SDK

    with saved(reference, engine=engine) as blocks:
        return _read_tar(blocks, reading, reference)


def _read_tar(blocks: Iterable[bytes], reading: Reading, what: str) -> LayeredImage:
    source = Source(_gunzipped(blocks), f"`{what}`")
    if not is_tar(source.peek(512)):
        raise ImageError(
            f"`{what}` is no archive of an image",
            hint="`docker save` writes them; an OCI layout is a folder or tar with `index.json`",
        )

    def found() -> Iterator[tuple[str, str, Source]]:
        for header, content in members(source):
            path = path_of(header.name, source.what)
            if header.kind in ("symlink", "link"):
                yield (
                    path,
                    _beside(path, header.target, symbolic=header.kind == "symlink"),
                    Source((), ""),
                )
            elif header.kind == "file":
                yield path, "", Source(content, f"`{what}`: {path}")
        for _ in source.drain():
            pass

    return _read(found(), reading, what)


def _beside(path: str, target: str, *, symbolic: bool) -> str:
    """Return the member that a link means: archives of older engines have equal layers once."""
    parts = path.split("/")[:-1] if symbolic else []
    for part in target.split("/"):
        if part == "..":
            del parts[-1:]
        elif part not in ("", "."):
            parts.append(part)
    return "/".join(parts)


def _folder_members(folder: Path) -> Iterator[tuple[str, str, Source]]:
    for file in sorted(folder.rglob("*")):
        if file.is_file():
            path = file.relative_to(folder).as_posix()
            with file.open("rb") as stream:
                yield path, "", Source(_file_blocks(stream), f"`{folder.name}`: {path}")


def _file_blocks(stream: Any) -> Iterator[bytes]:  # noqa: ANN401 - a file or what reads like one
    while block := stream.read(_BLOCK):
        yield block


def _gunzipped(blocks: Iterable[bytes]) -> Iterator[bytes | memoryview]:
    """Yield an archive that was packed as a whole, unpacked; others as they are."""
    source = Source(blocks, "the archive")
    packed = source.peek(2) == _GZIP
    yield from _inflated(source.drain(), source.what) if packed else source.drain()


# ---- one pass --------------------------------------------------------------------------------------


def _read(found: Iterator[tuple[str, str, Source]], reading: Reading, what: str) -> LayeredImage:
    parts = Parts()
    for path, link, source in found:
        if link:
            parts.links[path] = link
            continue
        try:
            _read_part(path, source, reading, parts)
        except ImageError as error:
            # It may be no layer at all: bills of materials and signatures lie beside images. Who needs it is told.
            # Not what stood on the stack then, which has blocks of the file.
            parts.faults[path] = error.with_traceback(None)
            error.__cause__ = error.__context__ = None
        for _ in source.drain():
            pass
    return image_of(parts, what=what, architecture=reading.architecture)


def _read_part(path: str, source: Source, reading: Reading, parts: Parts) -> None:
    head = source.peek(512)
    if head.startswith((_GZIP, _ZSTD)) or is_tar(head):
        _read_blob(path, source, reading, parts)
    elif len(head) and head.lstrip()[:1] in (b"{", b"["):
        data = b"".join(_limited(source))
        if not parts.room_for_documents.take(len(data)):
            raise ImageError(
                f"{source.what}: with it all documents have more than {MAX_DOCUMENTS:,} bytes",
                hint="save one image into an archive of its own",
            )
        parts.documents[path] = data


def _limited(source: Source) -> Iterator[memoryview]:
    size = 0
    for block in source.drain():
        size += len(block)
        if size > _MAX_DOCUMENT:
            raise ImageError(
                f"{source.what} has more than {_MAX_DOCUMENT:,} bytes, too many for a document"
            )
        yield block


def _read_blob(path: str, source: Source, reading: Reading, parts: Parts) -> None:
    head = source.peek(4)
    packed = head.startswith((_GZIP, _ZSTD))
    read = partial(read_layer, keep=reading.keep, look=reading.look, room=parts.room_for_texts)
    with _hashed(source.drain()) as (blocks, digest_of_blob):
        if not packed:
            layer = read(Source(blocks, source.what))
            sha256 = inner = digest_of_blob
        else:
            unpack = _inflated if head.startswith(_GZIP) else _unzstd
            with _hashed(unpack(blocks, source.what)) as (plain, inner):
                layer = read(Source(plain, source.what))
            sha256 = digest_of_blob
    parts.blobs[path] = (sha256(), inner(), layer)


@contextmanager
def _hashed(
    blocks: Iterable[bytes | memoryview],
) -> Iterator[tuple[Iterator[bytes | memoryview], Callable[[], Sha256]]]:
    """Give the same blocks, hashed in a thread of its own while they are read, and then their sha256.

    hashlib lets go of the interpreter's lock: what hashes single files meanwhile is not held up.
    """
    digest = hashlib.sha256()
    queue: SimpleQueue[bytes | memoryview | None] = SimpleQueue()
    free: SimpleQueue[None] = SimpleQueue()
    for _ in range(_AHEAD):
        free.put(None)

    def work() -> None:
        while (block := queue.get()) is not None:
            digest.update(block)
            free.put(None)

    worker = Thread(target=work, daemon=True)
    worker.start()

    def passed() -> Iterator[bytes | memoryview]:
        for block in blocks:
            free.get()
            queue.put(block)
            yield block

    def result() -> Sha256:
        queue.put(None)
        worker.join()
        return Sha256(digest.hexdigest())

    try:
        yield passed(), result
    finally:
        queue.put(None)
        worker.join()


_AHEAD = 8
"""Blocks that the reader may be ahead of the hash of the whole."""


def _inflated(blocks: Iterable[bytes | memoryview], what: str) -> Iterator[bytes]:
    """Yield what gzip's blocks hold, also where several members follow one another."""
    stream = zlib.decompressobj(wbits=31)
    begun = False
    try:
        for block in blocks:
            data: bytes | memoryview = block
            while data:
                begun = True
                plain = stream.decompress(data, _BLOCK)
                if plain:
                    yield plain
                if stream.eof:
                    data, stream, begun = stream.unused_data, zlib.decompressobj(wbits=31), False
                    if not any(data):
                        break  # padding
                else:
                    data = stream.unconsumed_tail
    except zlib.error as error:
        raise ImageError(f"{what} is damaged: {error}") from error
    if begun:
        raise ImageError(f"{what} is cut short")


def _unzstd(blocks: Iterable[bytes | memoryview], what: str) -> Iterator[bytes]:
    if sys.version_info >= (3, 14):
        from compression import zstd  # noqa: PLC0415 - few layers are packed with it
    else:
        from backports import zstd  # noqa: PLC0415
    stream = zstd.ZstdDecompressor()
    try:
        for block in blocks:
            data: bytes = bytes(block)
            while data or not stream.needs_input:
                plain = stream.decompress(data, _BLOCK)
                data = b""
                if plain:
                    yield plain
                if stream.eof:
                    data, stream = stream.unused_data, zstd.ZstdDecompressor()
                    if not data:
                        break
    except zstd.ZstdError as error:
        raise ImageError(f"{what} is damaged: {error}") from error


# ---- a tar by itself -------------------------------------------------------------------------------


def read_tar(file: Path, reading: Reading) -> tuple[Layer, Sha256]:
    """Return what a tar holds, and the sha256 of the whole.

    Raises:
        ImageError: It cannot be read.
    """
    try:
        with file.open("rb") as stream, _hashed(_file_blocks(stream)) as (blocks, sha256):
            layer = read_layer(Source(blocks, file.name), keep=reading.keep, look=reading.look)
            return layer, sha256()
    except OSError as error:
        raise ImageError(f"{file} cannot be read: {error.strerror}") from error
