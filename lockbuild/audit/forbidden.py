"""What no layer may hold, whatever else holds: licensed data, rights of others, secrets, leftovers. Pure."""

from __future__ import annotations

import posixpath
import re
from fnmatch import fnmatchcase
from typing import TYPE_CHECKING

from lockbuild.audit.compared import Difference, size_of
from lockbuild.audit.leaks import SECRET

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from lockbuild.audit.compared import Compared
    from lockbuild.image.layers import LayerFile
    from lockbuild.stack import Mount

__all__ = [
    "LICENSED",
    "forbidden",
    "marks",
    "replaced_in_place",
    "why_forbidden",
    "why_licensed",
    "why_not",
]

LICENSED = "image-licensed"
"""The check of what no layer may hold. What it needs to know of the image is less than for all else."""
_NO_LAYER = -1
"""Number for a file that no program sees in any layer, so that nothing is believed of it for where it came from."""
# What only building needs, by the names that tools give it.
_LEFTOVERS = re.compile(
    r"(?:.*/)?[^/]+\.(?:whl|deb)"
    r"|(?:root|home/[^/]+)/\.cache/(?:pip|uv|ccache|conda)/.+|(?:.*/)?\.ccache/.+"
    r"|build/.+|(?:var/)?tmp/(?:pip-|tmpxft_|build-env-|cc[A-Za-z0-9]{6}\.)[^/]*(?:/.*)?"
    r"|var/cache/apt/(?:archives/.+|[^/]+\.bin)|var/lib/apt/lists/.+|(?:.*/)?conda/pkgs/.+"
)


_Why = tuple[str, str] | None
"""The check that forbids a file, and what it says; none where nothing does."""


def forbidden(
    compared: Compared, why: Callable[[Compared, int, LayerFile], _Why]
) -> Iterator[Difference]:
    """Yield files of any layer that must not be there whatever else holds, each once."""
    for number, layer in enumerate(compared.image.layers):
        for file in layer.content.files:
            if file.kind == "folder":
                continue
            found = why(compared, number, file)
            if found:
                path = compared.shown.get((number, file.path))
                yield Difference(
                    check=found[0],
                    way="added",
                    path=path or file.path,
                    message=found[1] + ("" if path else compared.later(number, file.path)),
                    layer=number,
                )


def replaced_in_place(
    compared: Compared, why: Callable[[Compared, int, LayerFile], _Why]
) -> Iterator[Difference]:
    """Yield files in whose place their own layer brings another: whoever has the layer can read both."""
    for number, layer in enumerate(compared.image.layers):
        for file in layer.content.replaced:
            if found := why(compared, _NO_LAYER, file):
                yield Difference(
                    check=found[0],
                    way="added",
                    path=file.path,
                    message=f"{found[1]}; the layer has another file in its place, and it is still shipped",
                    layer=number,
                )


def why_licensed(compared: Compared, number: int, file: LayerFile) -> _Why:
    """Return why a file must not be there for its licence alone."""
    mount = None if compared.ours(number, file) else _licensed(compared, file.path)
    if mount is None:
        return None
    return LICENSED, f"belongs to `{mount.path}`, which must be mounted: {mount.why or 'its licence'}"


def why_forbidden(compared: Compared, number: int, file: LayerFile) -> _Why:
    """Return why a file must not be there, whatever else holds."""
    privileged = compared.expected.privileged.get(file.path)
    rights = (file.mode, file.capability)
    if file.privileged and privileged != rights:
        what = "has capabilities" if file.capability else f"has mode {file.mode:04o}"
        was = f"; the base has mode {privileged[0]:04o}" if privileged else ""
        return "image-setuid", f"{what}, which gives rights of others{was}"
    if compared.ours(number, file):
        return None
    if found := why_licensed(compared, number, file):
        return found
    if file.kind == "file" and (seen := marks(file, SECRET)):
        return "image-secrets", f"holds {', '.join(seen)}"
    if (
        file.kind == "file"
        and _LEFTOVERS.fullmatch(file.path)
        and file.path not in compared.expected.held
    ):
        return "image-leftovers", f"{file.size:,} bytes that only building needs"
    return None


def why_not(compared: Compared, number: int, file: LayerFile) -> _Why:
    """Return why a file must not be there that is nobody's."""
    found = why_forbidden(compared, number, file)
    if found or compared.ours(number, file):
        return found
    return "image-extra", f"{size_of(file)} that the lock does not bring"


def marks(file: LayerFile, kind: str) -> list[str]:
    """Return what was seen of one *kind* in a file: `leaks.SECRET`, `leaks.PATH`."""
    return [words.removeprefix(kind) for words in file.seen if words.startswith(kind)]


def _licensed(compared: Compared, path: str) -> Mount | None:
    """Return the mount that a file belongs to: by where it lies, or by a name that only its data has."""
    for mount in compared.mounts:
        place = mount.path.strip("/")
        if path == place or path.startswith(f"{place}/"):
            return mount
        for pattern in mount.holds:
            # A pattern without a word of its own, such as `*.pkl`, says something below its mount alone.
            words = re.sub(r"\[[^]]*\]|[*?]", "", posixpath.basename(pattern)).rpartition(".")[0]
            if len(words) > len("data") and fnmatchcase(f"/{path}", f"*/{pattern}"):
                return mount
    return None
