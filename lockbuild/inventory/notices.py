"""The NOTICE of an image: what it is made of, under which licences, and every text that has to go along."""

from __future__ import annotations

from typing import TYPE_CHECKING

from lockbuild.derivation import ROOTFS_TAR
from lockbuild.digest import sha256_of
from lockbuild.errors import StoreError
from lockbuild.inventory.conda import texts_of_package
from lockbuild.inventory.sources import texts_of_archive
from lockbuild.inventory.systems import texts_of_deb, texts_of_system
from lockbuild.inventory.wheels import SOURCE, wheel_file

if TYPE_CHECKING:
    from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence

    from lockbuild.components import Component, Kind
    from lockbuild.digest import Sha256, StorePath
    from lockbuild.stack import Stack
    from lockbuild.store import Store

__all__ = ["notice_text"]

_WIDTH = 100
_SHOWN = 10
_HEADINGS: Mapping[Kind, str] = {
    "source": "Sources",
    "asset": "Assets",
    "wheel": "Python packages",
    "conda": "Conda packages",
    "deb": "Debian packages",
    "interpreter": "Python",
    "base": "Base image",
}
_READ: Collection[Kind] = ("wheel", "conda", "deb", "interpreter")
"""What tells of itself only when the store has it."""


def notice_text(stack: Stack, components: Iterable[Component], store: Store) -> str:
    """Return the NOTICE of the image of *stack*: the same text whenever the parts are the same.

    Args:
        components: As `lockbuild.inventory.components` gives them; what is not in the image is passed over.

    Raises:
        StoreError: The store lacks a part, or a part cannot be read: a NOTICE that is not whole is none.
    """
    parts = sorted(
        (one for one in components if one.in_image),
        key=lambda one: ([*_HEADINGS].index(one.kind), one.name, one.ref),
    )
    _refuse_unread(stack, parts)
    numbers: dict[Sha256, int] = {}
    for part in parts:
        for file in part.licence_files:
            numbers.setdefault(file.sha256, len(numbers) + 1)
    texts = _texts(parts, store)
    lines = [*_opening(stack, parts), *_listing(parts, numbers)]
    for sha256, number in numbers.items():
        lines += ["", "=" * _WIDTH, *_belonging(sha256, number, parts), "-" * _WIDTH, ""]
        lines += _lines(texts[sha256])
    return "\n".join([*lines, ""])


def _refuse_unread(stack: Stack, parts: Sequence[Component]) -> None:
    unread = [part.ref for part in parts if part.kind in _READ and part.installed_size is None]
    if unread:
        more = ("…",) if len(unread) > _SHOWN else ()
        raise StoreError(
            f"the store lacks {len(unread)} parts of the image, whose licences would be missing from its NOTICE",
            details=(*unread[:_SHOWN], *more),
            hint=f"`lockbuild build {stack.name}` brings them",
        )


def _opening(stack: Stack, parts: Sequence[Component]) -> Iterator[str]:
    yield from ("NOTICE", "")
    yield f"The image of the stack `{stack.name}` holds {len(parts)} parts of others' making, each under the licence"
    yield "beside it, as it says itself. The numbers are those of the texts that go along with it, which follow below:"
    yield "licences and notices, each once."


def _listing(parts: Sequence[Component], numbers: Mapping[Sha256, int]) -> Iterator[str]:
    for kind, heading in _HEADINGS.items():
        chosen = [part for part in parts if part.kind == kind]
        if chosen:
            yield from ("", heading, "-" * len(heading), "")
        for part in chosen:
            found = sorted({numbers[file.sha256] for file in part.licence_files})
            texts = f" [{', '.join(map(str, found))}]" if found else ""
            yield f"{_name(part)}: {part.licence or part.declared or 'licence not known'}{texts}"


def _name(part: Component) -> str:
    return f"{part.name} {part.version}" if part.version else part.name


def _belonging(sha256: Sha256, number: int, parts: Sequence[Component]) -> Iterator[str]:
    yield f"[{number}]"
    for part in parts:
        names = [file.name for file in part.licence_files if file.sha256 == sha256]
        if names:
            yield f"{_name(part)}: {', '.join(names)}"


def _lines(data: bytes) -> list[str]:
    return [line.rstrip() for line in data.decode(errors="replace").strip("\r\n\f").splitlines()]


# ---- reading ---------------------------------------------------------------------------------------


def _texts(parts: Iterable[Component], store: Store) -> dict[Sha256, bytes]:
    """Return every text of *parts*; each object is read once, for what no other has given before.

    Raises:
        StoreError: One cannot be read, or is not what it was.
    """
    wanted: dict[StorePath, dict[Sha256, str]] = {}
    for part in parts:
        for file in part.licence_files:
            if file.path is not None:
                wanted.setdefault(file.path, {})[file.sha256] = file.name.removeprefix(SOURCE)
    found: dict[Sha256, bytes] = {}
    for path, names in wanted.items():
        left = {sha256: name for sha256, name in names.items() if sha256 not in found}
        if left:
            given = {sha256_of(data): data for data in _held(path, frozenset(left.values()), store)}
            lost = [name for sha256, name in left.items() if sha256 not in given]
            if lost:
                raise StoreError(
                    f"store object `{path}` has not got the text that it had: `{lost[0]}`",
                    hint="`lockbuild store repair`, then run the command again",
                )
            found |= {sha256: given[sha256] for sha256 in left}
    return found


def _held(path: StorePath, names: Collection[str], store: Store) -> Iterable[bytes]:
    """Return the texts called *names* in an object, with others perhaps.

    Raises:
        StoreError: It is not there, or cannot be read.
    """
    file = store.locate(path)
    tar, wheel = file / ROOTFS_TAR, wheel_file(path, store)
    try:
        if wheel is None:
            raise StoreError(f"`{path}` is not in the store", hint="`lockbuild fetch` brings it")
        if tar.is_file():
            return texts_of_system(tar)
        if wheel.is_dir():
            return [(file / name).read_bytes() for name in names]
        if path.name.endswith(".deb"):
            return texts_of_deb(file)
        if path.name.endswith(".conda"):
            return texts_of_package(file, path.name)
        return texts_of_archive(wheel, names)
    except OSError as error:
        raise StoreError(f"`{path}` cannot be read: {error}", hint="`lockbuild store repair`") from error
