"""Which paths of a tree are wanted, and which may not be written. Pure: reads and writes no files."""

from __future__ import annotations

import re
import unicodedata
from fnmatch import fnmatchcase
from typing import TYPE_CHECKING

from lockbuild.errors import FetchError

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

__all__ = ["Selection", "refuse_hostile"]

# What file systems of other machines take for `.git`: Windows's short name, and Apple's, which sees
# through characters of no width.
_INVISIBLE = re.compile("[\u200b-\u200f\u202a-\u202e\u206a-\u206f\ufeff]")
_GIT_NAMES = frozenset({".git", "git~1"})
_SHOWN = 20


class Selection:
    """The include and exclude patterns of one tree, and which of them have matched something."""

    def __init__(self, include: Sequence[str], exclude: Sequence[str]) -> None:
        self._include = [(pattern, _compiled(pattern)) for pattern in include]
        self._exclude = [(pattern, _compiled(pattern)) for pattern in exclude]
        self._used: set[str] = set()

    def wants(self, path: str) -> bool:
        """Tell whether *path* is part of the tree that is wanted."""
        included = self._matches(self._include, path) or not self._include
        return not self._matches(self._exclude, path) and included

    def reaches(self, folder: str) -> bool:
        """Tell whether something below *folder*, whose content is not known yet, could be wanted."""
        included = self._matches(self._include, folder) or not self._include
        if self._matches(self._exclude, folder):
            return False
        return included or any(_reaches(pattern, folder) for pattern, _ in self._include)

    def unused(self) -> tuple[str, ...]:
        """Return the patterns that have matched nothing so far."""
        return tuple(p for p, _ in (*self._include, *self._exclude) if p not in self._used)

    def _matches(self, patterns: Iterable[tuple[str, re.Pattern[str]]], path: str) -> bool:
        matching = [pattern for pattern, compiled in patterns if compiled.fullmatch(path)]
        self._used.update(matching)
        return bool(matching)


def _compiled(pattern: str) -> re.Pattern[str]:
    segments = pattern.strip("/").split("/")
    text = "".join(
        (r"(?:[^/]+/)*" if segment == "**" else _segment(segment) + "/") for segment in segments[:-1]
    )
    text += ".+" if segments[-1] == "**" else _segment(segments[-1])
    # A match of a folder selects all below it.
    return re.compile(rf"{text}(?:/.*)?", re.DOTALL)


def _segment(segment: str) -> str:
    text, at = "", 0
    while at < len(segment):
        character = segment[at]
        end = segment.find("]", at + 2) if character == "[" else -1
        if end > 0:
            inside = segment[at + 1 : end].replace("\\", "\\\\").replace("[", "\\[")
            negated = inside[0] in "!^" and len(inside) > 1
            # A class may not match the `/` between names either.
            inside = inside[1:] if negated else inside
            text += f"(?!/)[{'^' if negated else ''}{inside.replace('^', chr(92) + '^')}]"
            at = end + 1
            continue
        text += {"*": "[^/]*", "?": "[^/]"}.get(character, re.escape(character))
        at += 1
    return text


def _reaches(pattern: str, folder: str) -> bool:
    wanted, names = pattern.strip("/").split("/"), folder.split("/")
    for segment, name in zip(wanted, names, strict=False):
        if segment == "**":
            return True
        if not fnmatchcase(name, segment):
            return False
    return len(wanted) > len(names)


def refuse_hostile(paths: Iterable[str], *, where: str) -> None:
    """Refuse paths that would leave the folder, make a repository of it, or overwrite one another.

    Args:
        where: Which tree they are of, in words.

    Raises:
        FetchError: There are some; all are named.
    """
    faults: list[str] = []
    seen: dict[str, str] = {}
    for path in paths:
        reason = next((r for name in path.split("/") if (r := _fault(name))), None)
        other = seen.get(_folded(path))
        seen.setdefault(_folded(path), path)
        if reason:
            faults.append(f"{path!a}: {reason}")
        elif other is not None:
            same = (
                "is there twice" if other == path else f"differs from `{other}` in case or accents only"
            )
            faults.append(f"`{path}`: {same}")
    # A tree with both `a` and `a/b` would have the second written through the first, a symlink.
    faults += [
        f"{path!a}: is below `{up}`, no folder" for path in seen.values() if (up := _above(path, seen))
    ]
    if faults:
        more = () if len(faults) <= _SHOWN else (f"… and {len(faults) - _SHOWN} more",)
        raise FetchError(
            f"{where} has paths that cannot be written everywhere as they are",
            details=(*faults[:_SHOWN], *more),
            hint="leave them out with `exclude`",
        )


def _above(path: str, seen: Mapping[str, str]) -> str | None:
    parts = _folded(path).split("/")
    return next((seen[up] for n in range(1, len(parts)) if (up := "/".join(parts[:n])) in seen), None)


def _fault(name: str) -> str | None:
    if name in {"", ".", ".."}:
        return "leads elsewhere"
    if _folded(_INVISIBLE.sub("", name)).rstrip(". ") in _GIT_NAMES:
        return "would make the folder a git repository"
    try:
        name.encode()
    except UnicodeEncodeError:
        return "is not UTF-8"
    return None


def _folded(path: str) -> str:
    return unicodedata.normalize("NFC", unicodedata.normalize("NFC", path).casefold())
