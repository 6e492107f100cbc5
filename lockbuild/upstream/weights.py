"""Weights and other data, each as the `[[asset]]` that a person may accept. Pure."""

from __future__ import annotations

import re
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from lockbuild.upstream.findings import ByHand, Download, Pointer

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from lockbuild.upstream.findings import Finding, Place

__all__ = ["HUB_FOLDER", "Weights", "put_by_hand", "weights"]

HUB_FOLDER = "/workspace/.cache/torch"
"""TORCH_HOME in the image, where something loads through `torch.hub`."""

_MEDIA = re.compile(r"https://github\.com/([\w.-]+)/([\w.-]+?)(?:\.git)?/?", re.ASCII)


@dataclass(frozen=True, slots=True, kw_only=True)
class Weights:
    """A file to be had, and what is known of it."""

    name: str
    """Unlike every other's."""
    path: str
    """In the image; unlike every other's."""
    url: str
    """Empty where none is known."""
    places: tuple[Place, ...] = ()
    lfs: str = ""
    """sha256 that a pointer of Git LFS says."""
    size: int = 0
    told: bool
    """Whether code or a command fetches it, or the repository has it; else a page links it."""
    folder: bool = False
    """Whether the address is of a folder, which nothing can fetch."""
    notes: tuple[str, ...] = ()


def weights(findings: Sequence[Finding], *, name: str, git: str, commit: str) -> tuple[Weights, ...]:
    """Return what is downloaded, each address once: what code and commands fetch, then what pages link.

    Args:
        name: What the repository is called; it lies below `/workspace` under that name.
        git: Address of the repository, and *commit* of it: Git LFS serves its files from there.
    """
    found = [_of_pointer(f, name, git, commit) for f in findings if isinstance(f, Pointer)]
    urls: dict[str, list[Download]] = {}
    for each in (f for f in findings if isinstance(f, Download)):
        urls.setdefault(each.url, []).append(each)
    found += [_of_downloads(of, name) for of in urls.values()]
    ordered = sorted(found, key=lambda one: (not one.told, one.folder, one.path, one.url))
    return tuple(_apart(ordered))


def put_by_hand(
    findings: Sequence[Finding], data: Iterable[Weights], *, name: str
) -> tuple[Weights, ...]:
    """Return the files that people are told to put somewhere, but for those of *data*.

    Args:
        name: What the repository is called; it lies below `/workspace` under that name.
    """
    known = {one.name for one in data}
    told: dict[str, list[ByHand]] = {}
    for each in (f for f in findings if isinstance(f, ByHand)):
        told.setdefault(each.filename, []).append(each)
    found = [
        Weights(
            name=_word(filename),
            path=f"/workspace/{_word(name)}/{_below(f'{of[0].target}{filename}')}",
            url="",
            places=tuple(sorted({each.place for each in of})),
            told=True,
        )
        for filename, of in sorted(told.items())
        if _word(filename) not in known
    ]
    return tuple(_apart(found))


def _of_pointer(pointer: Pointer, name: str, git: str, commit: str) -> Weights:
    media = _MEDIA.fullmatch(git)
    url = ""
    if media and commit:
        url = f"https://media.githubusercontent.com/media/{media[1]}/{media[2]}/{commit}/{_spaceless(pointer.path)}"
    return Weights(
        name=_word(pointer.path.rpartition("/")[2]),
        path=f"/workspace/{_word(name)}/{_below(pointer.path)}",
        url=url,
        lfs=pointer.sha256,
        size=pointer.size,
        told=True,
        notes=(f"{pointer.path} is a pointer of Git LFS: a clone without it has a text of three lines",),
    )


def _of_downloads(of: Sequence[Download], name: str) -> Weights:
    first = of[0]
    target = next((each.target for each in of if each.target and not each.target.endswith("/")), "")
    target = target or next((each.target for each in of if each.target), "")
    filename = next((each.filename for each in of if each.filename), "")
    folder = "/drive/folders/" in first.url
    hub = any(each.hub for each in of)
    notes = []
    if not filename:
        one = re.search(r"(?:id=|folders/)([\w-]{6,})", first.url)
        filename = f"drive-{one[1][:10]}" if one else "unnamed"
        notes.append(
            "a folder of Google Drive, which nothing can fetch: name its files"
            if folder
            else "a file of Google Drive, whose name and kind the address does not say"
        )
    if words := next((each.words for each in of if each.words), ""):
        notes.append(f"upstream's words: … {words}")
    if hub:
        path = f"{HUB_FOLDER}/hub/checkpoints/{_word(filename)}"
    elif target:
        path = f"/workspace/{_word(name)}/{_below(f'{target}{filename}' if target.endswith('/') else target)}"
    else:
        path = f"/workspace/{_word(name)}/{_word(filename)}"
        notes.append("decide: path: nothing says where it is looked for")
    if digits := re.search(r"-([0-9a-f]{8,10})\.", filename):
        notes.append(f"the sha256 begins with {digits[1]}, its name says")
    if found := re.search(
        r"/(?:blob|raw|resolve)/(master|main)/|raw\.githubusercontent\.com/[^/]+/[^/]+/(master|main)/",
        first.url,
    ):
        notes.append(f"moves with the branch {found[1] or found[2]}")
    return Weights(
        name=_word(filename),
        path=path,
        url=first.url,
        places=tuple(sorted({each.place for each in of})),
        told=hub or bool(target) or any(each.place.file.endswith((".py", ".sh")) for each in of),
        folder=folder,
        notes=tuple(notes),
    )


def _apart(found: Iterable[Weights]) -> Iterable[Weights]:
    names: set[str] = set()
    paths: set[str] = set()
    for one in found:
        name, path, number = one.name, one.path, 2
        while name in names or path in paths:
            # The last digits of the address tell files of one name apart better than a number alone would.
            name, path = (
                f"{one.name[:90]}-{number}",
                f"{one.path}-{number}" if one.path in paths else one.path,
            )
            number += 1
        names.add(name)
        paths.add(path)
        yield replace(one, name=name, path=path)


def _word(text: str) -> str:
    return re.sub(r"[^A-Za-z0-9._-]+", "-", text).strip("-.")[:90] or "unnamed"


def _below(path: str) -> str:
    parts = [part for part in path.split("/") if part not in {"", ".", ".."}]
    return (
        "/".join(re.sub(r"[^A-Za-z0-9._+-]+", "-", part).lstrip(".") or "unnamed" for part in parts)
        or "unnamed"
    )


def _spaceless(path: str) -> str:
    return path.replace("%", "%25").replace(" ", "%20").replace("#", "%23").replace("?", "%3F")
