"""What a stranger's derivations may be, so that nothing of the stranger's runs outside the sandbox. Pure.

Root file systems and prefixes are made outside of it: their commands, variables and inputs must be such as
lockbuild's own plans have, to the last word. What runs in the sandbox may be anything that can be started there.
The content of a Debian package cannot be judged here; `lockbuild.rebuilding` asks its archive for it.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from lockbuild.derivation import (
    CONDA_FOLDER,
    IMAGE_INPUT,
    INTERPRETER_FOLDER,
    PREFIX_TAR,
    Addresses,
    BesideFile,
    Build,
    ChannelFile,
    Derivation,
    Fetch,
    HostInterpreter,
    PoolFile,
    RegistryImage,
)

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

    from lockbuild.digest import StorePath

__all__ = ["refuse_unsafe"]

_VERSION = r"3\.[0-9]+"
_FOLDER = f"(?:{INTERPRETER_FOLDER}|{CONDA_FOLDER})"
_COMMAND = r"(?:/(?!\.\.?(?:/|$))[A-Za-z0-9._+-]+)+|[A-Za-z0-9_+][A-Za-z0-9._+-]*"
_OPTIONS = {
    "architecture": r"[a-z0-9]+",
    "image": r"sha256:[0-9a-f]{64}",
    "interpreter": rf"{_VERSION}:{_FOLDER}:[A-Za-z0-9_][A-Za-z0-9._+-]*(?:/{re.escape(PREFIX_TAR)})?",
    "path": r"[ -~]+",
    "python": rf"{_VERSION}:(?:{_COMMAND})",
    "suite": r"[a-z]+",
}
"""Option of a `rootfs` command -> its value; see `lockbuild.derivation.rootfs_command`."""

_PIN = r"[a-z0-9][a-z0-9+.-]*[a-z0-9+.]=[A-Za-z0-9][A-Za-z0-9.+~:-]*"
_CONDA_WORD = (
    r"[A-Za-z0-9][A-Za-z0-9._-]*/[a-z0-9-]+/([A-Za-z0-9_][A-Za-z0-9._+!~%-]*\.(?:conda|tar\.bz2))"
)
_EPOCH = r"[0-9]{1,10}"
_SNAPSHOT = r"[0-9]{8}T[0-9]{6}Z"
_VENDORS = ("debian", "ubuntu")

# Linux refuses longer arguments (MAX_ARG_STRLEN in <linux/binfmts.h>), and more than two megabytes of them together.
_LONGEST_WORD = 128 * 1024 - 4096
_LONGEST_COMMAND = 1024 * 1024
_LONGEST_PINS = 96 * 1024
_LONGEST_NAME = 200
_LONGEST_PLACE = 1000
_MOST_INPUTS = 1000
_MOST_BUILDS = 300


def refuse_unsafe(derivations: Mapping[StorePath, Derivation]) -> None:
    """Refuse derivations by which something of a stranger's could run outside the sandbox, or that cannot be built.

    Args:
        derivations: With all that they need.

    Raises:
        ValueError: There is one; the message says which, and goes on after `the record is not to be believed:`.
    """
    builds = [one for one in derivations.values() if isinstance(one, Build)]
    if len(builds) > _MOST_BUILDS:
        raise ValueError(f"it has {len(builds)} builds, at most {_MOST_BUILDS} are accepted")
    for one in derivations.values():
        if isinstance(one, Fetch):
            _check_fetch(one)
    for build in builds:
        _check_build(build, derivations)


# ---- fetches ---------------------------------------------------------------------------------------


def _check_fetch(fetch: Fetch) -> None:
    """Refuse a fetch that goes by the name of another kind: file name and hash are all that a store knows it by."""
    where, filename = fetch.where, fetch.filename
    if filename.endswith(".deb") and not isinstance(where, PoolFile):
        raise ValueError(f"it has a Debian package that comes from no archive: `{filename}`")
    if (filename == f"image-{fetch.sha256[:12]}") != isinstance(where, RegistryImage):
        raise ValueError(f"it has a base image under a strange name: `{filename}`")
    if isinstance(where, PoolFile):
        dated = where.snapshot is None or re.fullmatch(_SNAPSHOT, where.snapshot)
        if where.vendor not in _VENDORS or not dated or not filename.endswith(".deb"):
            raise ValueError(f"it has a Debian package of a strange archive: `{filename}`")


# ---- builds ----------------------------------------------------------------------------------------


def _check_build(build: Build, derivations: Mapping[StorePath, Derivation]) -> None:
    if len(build.name) > _LONGEST_NAME:
        raise ValueError(f"it has a build with an overlong name: `{build.name[:40]}…`")
    _check_places(build)
    beside = [place for place, path in build.inputs if _comes_from(derivations[path], BesideFile)]
    strange = [place for place in beside if build.kind != "source" or not place.startswith("patches/")]
    if strange:
        raise ValueError(f"it brings along what is no patch: `{strange[0]}`")
    if build.kind in ("prefix", "rootfs"):
        _check_unsandboxed(build, derivations)
    elif build.kind != "stamped":
        _check_sandboxed(build, derivations)


def _check_places(build: Build) -> None:
    """Refuse inputs that would stand in one another's place."""
    places = [place for place, _ in build.inputs]
    taken = frozenset(places)
    for place in places:
        parts = place.split("/")
        above = ("/".join(parts[:count]) for count in range(1, len(parts)))
        if any(folder in taken for folder in above) or len(taken) != len(places):
            raise ValueError(f"`{build.name}` has inputs that stand in one another's place: `{place}`")
        if len(place) > _LONGEST_PLACE or any(len(part.encode()) > 255 for part in parts):  # noqa: PLR2004 - NAME_MAX
            raise ValueError(f"`{build.name}` has an input with an overlong name: `{place[:40]}…`")


def _check_sandboxed(build: Build, derivations: Mapping[StorePath, Derivation]) -> None:
    """Refuse what no sandbox can start."""
    toolchain = derivations[build.toolchain] if build.toolchain else None
    if not isinstance(toolchain, Build) or toolchain.kind != "rootfs":
        raise ValueError(f"`{build.name}` has no root file system to run in")
    words = (*build.command, *(f"{name}={value}" for name, value in build.env))
    lengths = [len(word.encode()) for word in words]
    if (
        not build.command
        or len(build.inputs) > _MOST_INPUTS
        or max(lengths) > _LONGEST_WORD
        or sum(lengths) > _LONGEST_COMMAND
    ):
        raise ValueError(f"`{build.name}` has a command that cannot be started")


def _check_unsandboxed(build: Build, derivations: Mapping[StorePath, Derivation]) -> None:
    """Refuse whatever lockbuild itself would not have planned so."""
    if build.toolchain is not None:
        raise ValueError(f"`{build.name}` has a toolchain, and runs in none")
    # Programs of this machine see these variables.
    if [name for name, _ in build.env] != ["SOURCE_DATE_EPOCH"] or not re.fullmatch(
        _EPOCH, build.env[0][1]
    ):
        raise ValueError(f"`{build.name}` has variables that no {build.kind} has")
    if build.kind == "prefix":
        _check_prefix(build, derivations)
    else:
        _check_root(build, derivations)


def _check_prefix(build: Build, derivations: Mapping[StorePath, Derivation]) -> None:
    place, *words = build.command or ("",)
    named = [re.fullmatch(_CONDA_WORD, word, re.ASCII) for word in words]
    if place != f"--place={CONDA_FOLDER}" or None in named:
        raise ValueError(f"`{build.name}` has a command that no prefix has")
    files = {found[1] for found in named if found}
    for place, path in build.inputs:
        if place not in files or not _comes_from(derivations[path], ChannelFile):
            raise ValueError(f"it has a conda package that comes from no channel: `{place}`")
    if len(files) != len(build.inputs):
        raise ValueError(f"`{build.name}` lacks a conda package that its command names")


def _check_root(build: Build, derivations: Mapping[StorePath, Derivation]) -> None:
    """Refuse a root file system of anything but packages from an archive, an interpreter and a base image."""
    options = _options(build)
    held = options.get("interpreter", "").rpartition(":")[2]
    interpreter, inside = held.partition("/")[::2]
    wanted = {name for name in (interpreter, IMAGE_INPUT if "image" in options else "") if name}
    if wanted - dict(build.inputs).keys() or ("image" in options and interpreter == IMAGE_INPUT):
        raise ValueError(f"`{build.name}` lacks an input that its command names")
    for place, path in build.inputs:
        one = derivations[path]
        if "image" in options and place == IMAGE_INPUT:
            if not _comes_from(one, RegistryImage) or options["image"] != f"sha256:{_sha256(one)}":
                raise ValueError(f"`{build.name}` stands on another image than its command says")
        elif place == interpreter:
            packed = isinstance(one, Build) and one.kind == "prefix"
            if not (packed if inside else _comes_from(one, Addresses, HostInterpreter)):
                raise ValueError(f"it has an interpreter that is none: `{place}`")
        elif not _comes_from(one, PoolFile):
            raise ValueError(f"it has a Debian package that comes from no archive: `{place}`")


def _options(build: Build) -> Mapping[str, str]:
    """Return the options of a root file system, once each word of its command is one that such a command has."""
    options: dict[str, str] = {}
    pins: list[str] = []
    for word in build.command:
        if not word.startswith("--"):
            pins.append(word)
            continue
        name, _, value = word.removeprefix("--").partition("=")
        if name in options or name not in _OPTIONS or not re.fullmatch(_OPTIONS[name], value, re.ASCII):
            raise _strange(build, word)
        options[name] = value
    if odd := [pin for pin in pins if not re.fullmatch(_PIN, pin, re.ASCII)]:
        raise _strange(build, odd[0])
    if not _fit(options) or sum(len(pin) + 3 for pin in pins) > _LONGEST_PINS:
        raise _strange(build, " ".join(build.command))
    return options


def _fit(options: Iterable[str]) -> bool:
    """Tell whether options go together: the image's own Python is not looked for where another was put."""
    given = frozenset(options)
    base = given & {"image", "suite"}
    return (
        "architecture" in given
        and len(base) == 1
        and len(given & {"interpreter", "python"}) < 2  # noqa: PLR2004 - both
        and not ("python" in given and "suite" in given)
        and not ("path" in given and "python" not in given)
    )


def _strange(build: Build, words: Sequence[str]) -> ValueError:
    return ValueError(f"`{build.name}` has a command that no root file system has: {words[:80]!r}")


def _comes_from(one: Derivation, *places: type) -> bool:
    return isinstance(one, Fetch) and isinstance(one.where, places)


def _sha256(one: Derivation) -> str:
    return one.sha256 if isinstance(one, Fetch) else ""
