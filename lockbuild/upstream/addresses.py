"""Addresses of weights and other data in any text. Pure."""

from __future__ import annotations

import re
from dataclasses import replace
from typing import TYPE_CHECKING
from urllib.parse import unquote, urlsplit

from lockbuild.upstream.findings import Download, Place

if TYPE_CHECKING:
    from collections.abc import Iterator

__all__ = ["ADDRESS", "DATA_ENDING", "download_of", "downloads_in", "drive_download"]

ADDRESS = re.compile(r"https?://[^\s\"'`<>(){}\[\]\\|^]{3,600}")
_DRIVE = re.compile(
    r"https?://(?:drive|docs)\.google\.com/(?:file/d/|(?:open|uc)\?(?:[\w=&;-]*&(?:amp;)?)?id=)([\w-]{20,60})"
)
_DETECTRON = re.compile(r"\bdetectron2://([\w./-]+)", re.ASCII)
"""Detectron2's own names for what lies on its server."""
_FOLDER = re.compile(r"https?://drive\.google\.com/drive/(?:u/\d/)?folders/([\w-]{20,60})")
DATA_ENDING = (
    r"\.(?:pth|pt|ckpt|pkl|npz|npy|pb|h5|hdf5|onnx|bin|safetensors|weights|caffemodel|t7|mat|zip|tar|tgz|7z"
    r"|pth\.tar|tar\.(?:gz|xz|bz2)|dat\.bz2|task|tflite)"
)
"""Pattern of how names of weights and data end."""
_WEIGHTS = re.compile(f"{DATA_ENDING}$", re.IGNORECASE)
_NO_WEIGHTS = re.compile(r"/archive/|/zipball/|/tarball/|codeload\.|/actions/|shields\.io|\.whl$")


def drive_download(one: str) -> str:
    """Return the address that gives the bytes of a file of Google Drive, also of a large one."""
    return f"https://drive.usercontent.google.com/download?id={one}&export=download&confirm=t"


def download_of(
    url: str, place: Place, *, target: str = "", told: bool = False, hub: bool = False
) -> Download | None:
    """Return what *url* is a download of; none where it does not look like weights or data.

    Args:
        target: Where it is to lie: a file, or a folder that ends in a slash.
        told: Whether a command fetches it, so that it is one whatever it looks like.
        hub: Whether `torch.hub` does.
    """
    url = url.strip().rstrip(".,;:!?*_").replace("&amp;", "&")
    if found := _DRIVE.match(url):
        url, filename = drive_download(found[1]), ""
    elif not re.match(r"https?://[\w.-]+(:\d+)?/", url):
        return None
    elif url.startswith("https://drive.usercontent.google.com/"):
        filename = ""
    else:
        try:
            filename = unquote(urlsplit(url).path.rpartition("/")[2])
        except ValueError:
            return None
        if not _WEIGHTS.search(filename) and not (told and "." in filename):
            return None
        if _NO_WEIGHTS.search(url):
            return None
    if target and not target.endswith("/"):
        filename = target.rpartition("/")[2]
    return Download(url=url, filename=filename, target=target, hub=hub, place=place)


def _words(line: str, position: int) -> str:
    """Return the text that leads to an address, without the marks of Markdown and HTML."""
    before = re.sub(r"<[^>]*>?|[\[\]()*`|#!]|https?://\S+", " ", line[max(0, position - 160) : position])
    return " ".join(before.split())[-100:]


def downloads_in(text: str, file: str) -> Iterator[Download]:
    """Yield every download whose address stands in *text*, and folders of Google Drive."""
    for number, line in enumerate(text.splitlines(), 1):
        if "://" not in line:
            continue
        line = _DETECTRON.sub(r"https://dl.fbaipublicfiles.com/detectron2/\1", line[:20_000])  # noqa: PLW2901 - the address behind the name
        for found in ADDRESS.finditer(line):
            place = Place(file=file, line=number)
            if folder := _FOLDER.match(found[0]):
                url = f"https://drive.google.com/drive/folders/{folder[1]}"
                yield Download(url=url, filename="", target="", hub=False, place=place)
            elif download := download_of(found[0], place):
                words = "" if download.filename else _words(line, found.start())
                yield replace(download, words=words)
