"""What makers of virtual environments put into one beside the packages that were asked for. Pure."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from lockbuild.digest import sha256_of

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator
    from pathlib import Path

    from lockbuild.audit.installing import Program

__all__ = ["ACTIVATION", "HOOKS", "PYTHON", "SEEDS", "is_hook", "script_fault", "seed_names", "starts"]

_SETUPTOOLS = ("setuptools", "pkg_resources", "_distutils_hack", "distutils-precedence.pth")
SEEDS = {
    "packaging": frozenset({"packaging"}),
    "pip": frozenset({"pip"}),
    "setuptools": frozenset({*_SETUPTOOLS, "easy_install.py"}),
    "wheel": frozenset({"wheel"}),
}
"""What is there whatever is installed later -> what it has in `site-packages`; packaging is there for wheel."""

ACTIVATION = re.compile(
    r"(de)?activate(\.(bat|csh|fish|nu|ps1|sh|xsh))?|Activate\.ps1|activate_this\.py|pydoc\.bat"
)
"""What they write into `bin`, with the environment's own path in it."""
PYTHON = re.compile(r"python(\d+(\.\d+)?t?)?")

HOOKS = frozenset({"_virtualenv.pth", "_virtualenv.py"})
"""Run at every start: they keep distutils from installing outside of the environment."""
_HOOK = b"import _virtualenv"
_HOOKED = frozenset(
    (
        "0278334cdcfab4c746b4416fbd5c2b6e7da937c81e132397d62c361d404ebe0e",
        "02943e192823d75212f206e1f2991ac572119882683a95dfbb7a1b913d7b14b5",
        "095a1099733d28c837bca584f5fb3eb3724e357f8846c015083dc6e9a7b985f3",
        "0aeb86546345c1d0fada097536e35525714d5cdbcc2d8eb3f9912a955044fcff",
        "0f20351ea7e90039c46d3fabdef991f28b1e3ff33eb13ee6f0d5cd21ea0e8b14",
        "119e4eb9c1a39e6ffd220840844bd326fa1bd3acf2f1c9fa0612949aedc228a5",
        "460589e83387d4dfe5fd84d41c5f6979599f5cd080983d73c832549161c80435",
        "65de6a7145016299fba5fc2f113d278b53db54fa9a4f32ff4b837d5ee2a4608a",
        "6cf30c56faf2a55228914dbbd17f8088ed371ebb08f5e7fa6fd931f913fcaf1d",
        "684b8c07932ba4a84ac2e5ae9afe49ef04e92bac3d8d4191d455cf09d093e5fc",
        "7169dab6537491cb9c573ff83ea0112955fd5180d8535cac70d4c987398dbeef",
        "82944bb74841efbcfdc3539e7d60df63f43cc023041eb183abbd56f44e071b45",
        "956a757e912269c3a2537374d07e70b8faa04ace69b54df88a21f749c5fd4233",
        "96245d9e9c0b16fdcd99b470abe101863858120c9bf57752278ec4d7f9b09a94",
        "bd9633de3d8122488d66fcfa0c7f0c9cd0b58e9147938ddf1f8fa76ca12b6ad5",
        "bec6155ff7bfc88f8e79e481f27fd7ee0a3b40eeca9bfeb41f4c4b997b2f8100",
        "c9199315871b11b12df226f890a38e66e63191e1adbfb11a66e6861151b33fca",
        "ce57d5e0d9b5d7356cb42da7450ba8f9359bdf693e335f4c921626943c77e64d",
        "cfe56cafbd68fd31a0e87100f111d7d2f6b7157241096500013c07e88d80a22f",
        "d1ea23a2be4bcbac5e75c69bc03926397bf53ae16e35c58d7c3b73306cb1a81e",
        "e3db5fe06ab41ca9b95dd6463b83836787028a1b55562cc383803bb83001a45c",
        "e8c426ce260f866254ff35cefedc8b3efbd6d1446d99d7a4cdeb0095f98a8b8f",
        "f4dfaeb9efc1614890cfa94ed15bbe9b2ee15fbe76d569ef5e435e93e4987dc7",
    )
)
"""The sha256 of each `_virtualenv.py` that virtualenv 20.0 to 21.15 and uv have written: the histories of
https://github.com/pypa/virtualenv/blob/main/src/virtualenv/create/via_global_ref/_virtualenv.py and
https://github.com/astral-sh/uv/blob/main/crates/uv-virtualenv/src/_virtualenv.py
"""

_STARTS = re.compile(r"[^/]+\.pth|(sitecustomize|usercustomize)([./].*)?", re.IGNORECASE)


def starts(path: str) -> bool:
    """Tell whether Python runs the file *path* of `site-packages` at every start."""
    return _STARTS.fullmatch(path) is not None


def is_hook(name: str, data: bytes) -> bool:
    """Tell whether *data* is what a maker of environments writes as *name*, one of `HOOKS`."""
    return data.strip() == _HOOK if name.endswith(".pth") else sha256_of(data) in _HOOKED


# ---- scripts ---------------------------------------------------------------------------------------

_BY_SHELL = re.compile(rb"#!/bin/sh\n'''exec' ([^\n]+) \"\$0\" \"\$@\"\n' '''\n")
"""How a script names an interpreter whose path is too long for the kernel, or has spaces."""
_BESIDE = '"$(dirname -- "$(realpath -- "$0")")"/\'python\''
"""How uv names the Python of an environment that may be moved."""
_PATH = re.compile(r"/[\w./+ @:,~-]+")


def seed_names(name: str, python: str) -> Iterator[str]:
    """Yield the names that makers give to the script *name* of a seed."""
    major = python.partition(".")[0]
    yield from (name, f"{name}{major}", f"{name}{python}", f"{name}-{python}")


def script_fault(data: bytes, wanted: Iterable[Program], folder: Path) -> str:
    """Return what is wrong with a script of an environment; nothing where an installer would write it.

    Args:
        wanted: What it may be.
        folder: Where it is: the Python that it names must be there.
    """
    interpreter, rest = _divided(data)
    own = interpreter == _BESIDE or _is_beside(interpreter.strip("\"'"), folder)
    if any(_is(one, data, rest, own=own) for one in wanted):
        return ""
    return (
        "is not what installers make of its package"
        if own or not interpreter
        else f"is run by another program than the environment's Python: {interpreter}"
    )


def _is(program: Program, data: bytes, rest: bytes, *, own: bool) -> bool:
    """Tell whether a script, and *rest* behind its interpreter, is one that an installer makes of *program*."""
    if program.sha256:
        return program.sha256 == sha256_of(data)
    if program.script is None:
        return own and _calls(rest, program.calls)
    if not program.script.startswith(b"#!python"):
        return program.script == data
    return own and program.script.partition(b"\n")[2] == rest


def _divided(data: bytes) -> tuple[str, bytes]:
    """Return the interpreter that a script names, and what stands behind it."""
    if found := _BY_SHELL.match(data):
        return found[1].decode("utf-8", "replace"), data[found.end() :]
    first, _, rest = data.partition(b"\n")
    return (
        (first[2:].strip().decode("utf-8", "replace"), rest) if first.startswith(b"#!") else ("", data)
    )


def _is_beside(interpreter: str, folder: Path) -> bool:
    if not _PATH.fullmatch(interpreter):
        return False
    path = folder / interpreter
    return bool(PYTHON.fullmatch(path.name)) and path.parent.resolve() == folder.resolve()


def _calls(text: bytes, target: str) -> bool:
    """Tell whether a script does nothing but call *target*, in the words of pip, distlib, installer or uv."""
    module, _, attribute = target.partition("[")[0].replace(" ", "").partition(":")
    lines = {
        "",
        "# -*- coding: utf-8 -*-",
        "import re",
        "import sys",
        f"from {module} import {attribute.partition('.')[0]}",
        "if __name__ == '__main__':",
        r"sys.argv[0] = re.sub(r'(-script\.pyw|\.exe)?$', '', sys.argv[0])",
        r"sys.argv[0] = re.sub(r'(-script\.pyw?|\.exe)?$', '', sys.argv[0])",
        "sys.argv[0] = sys.argv[0].removesuffix('.exe')",
        "if sys.argv[0].endswith('-script.pyw'):",
        "sys.argv[0] = sys.argv[0][:-11]",
        "elif sys.argv[0].endswith('.exe'):",
        "sys.argv[0] = sys.argv[0][:-4]",
        f"sys.exit({attribute}())",
    }
    found = text.decode("utf-8", "replace").replace('"', "'").split("\n")
    return all(line.strip() in lines for line in found)
