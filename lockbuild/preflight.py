"""What an image checks before its command runs: the program, its data, and the entry point. Pure.

The program is the same in every image (`templates/preflight`); what differs is data, so that nothing of a
stack has to be quoted for a shell or for Python.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from lockbuild.documents import json_text
from lockbuild.errors import ImageError

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from lockbuild.digest import Sha256
    from lockbuild.stack import Stack

__all__ = ["ENTRYPOINT", "FOLDER", "MISSING", "PROGRAMS", "Bundled", "entrypoint", "preflight_texts"]

Bundled = tuple[str, int, "Sha256"]
"""Path in the image, size and sha256 of a file that the image brings."""

FOLDER = "/opt/lockbuild"
"""Where the preflight is in the image. Its Python is that of the environment beside it."""

ENTRYPOINT = f"{FOLDER}/entrypoint"

MISSING = 78
"""Exit code when something is missing: EX_CONFIG of sysexits.h."""

PROGRAMS = ("preflight/entrypoint", "preflight/preflight.py")
"""Names of the templates that are taken as they are."""


def entrypoint(own: Sequence[str]) -> tuple[str, ...]:
    """Return the image's entry point: the preflight's around the stack's *own*.

    How many words are the stack's is said, so that `docker run IMAGE --preflight-only` finds its option
    behind them, and nothing that belongs to the command is taken for one.
    """
    return (ENTRYPOINT, f"--wrap={len(own)}", *own) if own else (ENTRYPOINT,)


def preflight_texts(
    stack: Stack, *, templates: Mapping[str, str], assets: Sequence[Bundled] = ()
) -> dict[str, str]:
    """Return path in the build context -> text of what goes into `FOLDER`.

    Raises:
        ImageError: A program is missing among the templates.
    """
    absent = [name for name in PROGRAMS if name not in templates]
    if absent:
        raise ImageError(
            f"`{absent[0]}` is missing among the templates",
            hint="templates/ holds the ones that lockbuild comes with",
        )
    texts = {name: templates[name] for name in PROGRAMS}
    return texts | {"preflight/preflight.json": json_text(_data(stack, assets))}


def _data(stack: Stack, assets: Sequence[Bundled]) -> dict[str, object]:
    return {
        "name": stack.name,
        "gpu": {
            "mode": stack.gpu,
            "cuda": stack.target.cuda,
            "architectures": list(stack.target.cuda_architectures),
        },
        "mounts": [
            {
                "path": mount.path,
                "holds": list(mount.holds),
                "why": mount.why,
                "optional": mount.optional,
            }
            for mount in stack.mounts
        ],
        "assets": [{"path": path, "size": size, "sha256": sha256} for path, size, sha256 in assets],
        "imports": list(stack.imports),
        "checks": list(stack.checks),
    }
