"""A lock from the text of its files, which must be as they were written. Pure."""

from __future__ import annotations

import re
import tomllib
from dataclasses import replace
from typing import TYPE_CHECKING, Any, TypeVar

from lockbuild.assetlock import parse_asset
from lockbuild.condalock import parse_conda
from lockbuild.digest import Sha256, StorePath, parse_sha256, sha256_of
from lockbuild.errors import LockError
from lockbuild.imagelock import parse_image
from lockbuild.lock.values import (
    LOCK_FILE,
    LOCK_VERSION,
    RUNTIME_LOCK,
    BuiltPin,
    Lock,
    LockedDeb,
    LockedFile,
    LockedInterpreter,
    LockedPackage,
    LockedSource,
    OpenPart,
    content_digest,
)

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping

__all__ = ["parse_lock"]

_RESTORE = "restore it from version control, or resolve again"
_FILENAME = re.compile(r"[A-Za-z0-9_][A-Za-z0-9._+!~:%-]*")


def parse_lock(texts: Mapping[str, str], *, edited: list[LockError] | None = None) -> Lock:
    """Return the lock held by *texts*, file name -> text.

    Bytes that are not UTF-8 are lone surrogates in a text, as `surrogateescape` decodes them.

    Args:
        edited: Takes what is wrong with files that were edited and still make a lock; without it such a lock is
            refused.

    Raises:
        LockError: A file is missing, is no lock, was edited, or is of a later version.
    """
    if LOCK_FILE not in texts:
        raise LockError(f"there is no {LOCK_FILE}", hint="`lockbuild resolve` writes it")
    main = _toml(LOCK_FILE, texts[LOCK_FILE])
    if main.get("lock-version") != LOCK_VERSION:
        raise LockError(
            f"{LOCK_FILE}: `lock-version`: found {main.get('lock-version')!r}, expected {LOCK_VERSION}",
            hint="it was written by another version of lockbuild: resolve again with this one",
        )
    try:
        faults = _edited(main, texts)
        if edited is None:
            for fault in faults:
                raise fault
        else:
            edited += faults
        return _assemble(main, texts)
    except (AttributeError, KeyError, TypeError, ValueError) as error:
        # Its digests are right, so whoever wrote it wanted it so: it is no lock of ours.
        raise LockError(
            f"{LOCK_FILE} and its files do not make a lock: {error!r}",
            hint="restore them from version control, or resolve again",
        ) from error


def _assemble(main: Mapping[str, Any], texts: Mapping[str, str]) -> Lock:
    prefix, suffix = "pylock.build", ".toml"
    # Files that the main one does not list were not checked, and are no part of the lock. Those in other
    # formats are for other tools: they say nothing that is not said here.
    listed = {file: _toml(file, texts[file]) for file in main["files"] if file.endswith(suffix)}
    build = {
        file.removeprefix(prefix).removesuffix(suffix).removeprefix("-"): document
        for file, document in listed.items()
        if file.startswith(prefix)
    }
    return Lock(
        inputs=tuple(sorted(main["inputs"].items())),
        runtime=_packages(listed[RUNTIME_LOCK]),
        build=tuple((name, _packages(document)) for name, document in sorted(build.items())),
        sources=_each(main, "source", _parse_source),
        debs=_each(main, "deb", _parse_deb),
        pins=_each(main, "built", _parse_pin),
        compiled=_each(main, "compiled", _parse_pin),
        assets=_each(main, "asset", parse_asset),
        images=_each(main, "image", parse_image),
        conda=_each(main, "conda", parse_conda),
        interpreter=_parse_interpreter(main["interpreter"]) if "interpreter" in main else None,
        open=_each(main, "open", _parse_open),
        digest=Sha256(main["digest"]),
    )


def _edited(main: Mapping[str, Any], texts: Mapping[str, str]) -> Iterator[LockError]:
    """Yield a fault for each file that is not as it was written."""
    found = content_digest(main)
    if main.get("digest") != found:
        yield LockError(
            f"{LOCK_FILE} is not as it was written",
            details=(f"`digest` says {main.get('digest')}", f"its content gives {found}"),
            hint=_RESTORE,
        )
    for file, expected in main["files"].items():
        if file not in texts:
            raise LockError(f"{file} is missing", hint=_RESTORE)
        found = sha256_of(texts[file].encode(errors="surrogateescape"))
        if found != expected:
            yield LockError(
                f"{file} is not as it was written",
                details=(f"{LOCK_FILE} says sha256 {expected}", f"its bytes give    sha256 {found}"),
                hint=_RESTORE,
            )


def _toml(file: str, text: str) -> dict[str, Any]:
    try:
        text.encode()
        return tomllib.loads(text)
    except ValueError as error:
        raise LockError(
            f"{file} is not TOML: {error}",
            hint=_RESTORE,
        ) from error


_T = TypeVar("_T")


def _each(
    document: Mapping[str, Any], key: str, parse: Callable[[Mapping[str, Any]], _T]
) -> tuple[_T, ...]:
    return tuple(parse(table) for table in document.get(key, ()))


def _packages(document: Mapping[str, Any]) -> tuple[LockedPackage, ...]:
    return _each(document, "packages", _parse_package)


def _parse_package(table: Mapping[str, Any]) -> LockedPackage:
    extras = table["tool"]["lockbuild"]
    package = LockedPackage(
        name=table["name"],
        version=table["version"],
        index=extras.get("index", ""),
        urls=tuple(extras.get("urls", ())),
        dependencies=tuple(entry["name"] for entry in table.get("dependencies", ())),
        requested=extras.get("requested", False),
    )
    if extras.get("built") or extras.get("open"):
        return package
    wheel = table["wheels"][0]
    return replace(package, wheel=_locked_file(wheel["name"], wheel["hashes"]["sha256"], wheel))


def _parse_file(table: Mapping[str, Any]) -> LockedFile:
    return _locked_file(table["filename"], table["sha256"], table)


def _locked_file(filename: str, sha256: str, table: Mapping[str, Any]) -> LockedFile:
    """Return the file, once its name cannot lead out of the folder it is put into."""
    if not _FILENAME.fullmatch(filename):
        msg = f"not a file name: {filename!r}"
        raise ValueError(msg)
    return LockedFile(filename=filename, sha256=parse_sha256(sha256), size=table.get("size"))


def _parse_source(table: Mapping[str, Any]) -> LockedSource:
    return LockedSource(
        name=table["name"],
        version=table["version"],
        index=table.get("index", ""),
        file=_parse_file(table),
        path=table.get("path"),
        commit=table.get("commit"),
        ref=table.get("ref"),
        submodules=tuple((s["path"], s["url"], s["commit"]) for s in table.get("submodules", ())),
        patches=tuple((patch["path"], _parse_file(patch)) for patch in table.get("patches", ())),
    )


def _parse_interpreter(table: Mapping[str, Any]) -> LockedInterpreter:
    return LockedInterpreter(file=_parse_file(table), version=table["version"], glibc=table["glibc"])


def _parse_pin(table: Mapping[str, Any]) -> BuiltPin:
    return BuiltPin(
        name=table["name"], derivation=StorePath(table["derivation"]), wheel=_parse_file(table)
    )


def _parse_open(table: Mapping[str, Any]) -> OpenPart:
    return OpenPart(kind=table["kind"], name=table["name"], reason=table["reason"])


def _parse_deb(table: Mapping[str, Any]) -> LockedDeb:
    return LockedDeb(
        package=table["package"],
        version=table["version"],
        architecture=table["architecture"],
        path=table["path"],
        sha256=parse_sha256(table["sha256"]),
        size=table["size"],
        source=table["source"],
        roots=tuple(table["roots"]),
    )
