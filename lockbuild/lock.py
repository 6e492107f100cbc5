"""The lock of a stack: frozen values, and the text of the files that hold them. Pure.

Four kinds of file make one lock: `pylock.toml` and `pylock.build[-NAME].toml` (PEP 751),
`requirements.txt` (pip's hash-checking mode) and `lockbuild.lock` for all that those cannot say. The
last one holds the sha256 of the others and a digest of its own content, so that an edited or damaged
file is named before anything follows from it.
"""

from __future__ import annotations

import re
import tomllib
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, TypeVar

from lockbuild.assetlock import LockedAsset, asset_table, parse_asset
from lockbuild.digest import Sha256, StorePath, canonical_json, parse_sha256, sha256_of
from lockbuild.documents import toml_text
from lockbuild.errors import LockError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping

    from lockbuild.target import Target

__all__ = [
    "LOCK_FILE",
    "BuiltPin",
    "Lock",
    "LockedDeb",
    "LockedFile",
    "LockedPackage",
    "LockedSource",
    "build_lock_name",
    "closure",
    "lock_texts",
    "parse_lock",
]

LOCK_FILE = "lockbuild.lock"
_LOCK_VERSION = 1
_RUNTIME_LOCK = "pylock.toml"
_REQUIREMENTS = "requirements.txt"
_NOT_WRITTEN = Sha256("")
_FILENAME = re.compile(r"[A-Za-z0-9_][A-Za-z0-9._+!~:%-]*")


@dataclass(frozen=True, slots=True, kw_only=True)
class LockedFile:
    """A file by name and content."""

    filename: str
    sha256: Sha256
    size: int | None = None
    """Bytes; none where the index does not tell."""


@dataclass(frozen=True, slots=True, kw_only=True)
class LockedPackage:
    """A Python package as resolved for the target."""

    name: str
    """Normalised."""
    version: str
    index: str = "pypi"
    """Name of the index that serves it; empty for a package that is built or has `urls`."""
    urls: tuple[str, ...] = ()
    """Where its wheel may be had, for one that the stack pins itself."""
    wheel: LockedFile | None = None
    """The best wheel for the target; none for a package that is built."""
    dependencies: tuple[str, ...] = ()
    """Normalised names of the packages it requires on the target, sorted."""
    requested: bool = False
    """Whether the stack itself asks for it."""


@dataclass(frozen=True, slots=True, kw_only=True)
class LockedSource:
    """The source of a build, or a source that is not built itself."""

    name: str
    """The build's name, or the source's own."""
    version: str
    """Of the build; empty for a source that is not built."""
    index: str
    """Name of the index that serves an sdist; empty for the others."""
    file: LockedFile
    """An sdist; the archive that lockbuild makes of a folder; for a commit, the tree, whose sha256 is that
    of its canonical listing."""
    path: str | None = None
    """Folder below the stack's folder."""
    commit: str | None = None
    """For a tree of a repository."""
    submodules: tuple[tuple[str, str, str], ...] = ()
    """Path, address and commit of each submodule that is part of the tree."""
    patches: tuple[tuple[str, LockedFile], ...] = ()
    """Path below the stack's folder and content of each patch that edits it, sorted."""


@dataclass(frozen=True, slots=True, kw_only=True)
class LockedDeb:
    """A Debian package and the root file systems that hold it."""

    package: str
    version: str
    architecture: str
    path: str
    """Path below the archive's root."""
    sha256: Sha256
    size: int
    source: str
    """Source package and version: `zlib 1:1.2.13.dfsg-1`."""
    roots: tuple[str, ...]
    """`runtime`, `toolchain`: sorted."""

    @property
    def filename(self) -> str:
        """The file's name in the archive."""
        return self.path.rpartition("/")[2]


@dataclass(frozen=True, slots=True, kw_only=True)
class BuiltPin:
    """The bytes that a build gave when it was pinned."""

    name: str
    derivation: StorePath
    wheel: LockedFile


@dataclass(frozen=True, slots=True, kw_only=True)
class Lock:
    """Everything that was resolved for a stack."""

    inputs: tuple[tuple[str, str], ...]
    """Key path in the stack -> short digest, sorted; see `lockbuild.stack.inputs_of`."""
    runtime: tuple[LockedPackage, ...]
    build: tuple[tuple[str, tuple[LockedPackage, ...]], ...]
    """Name of a build environment -> its packages; both sorted by name."""
    sources: tuple[LockedSource, ...]
    debs: tuple[LockedDeb, ...]
    pins: tuple[BuiltPin, ...] = ()
    assets: tuple[LockedAsset, ...] = ()
    """Those that the image has, sorted by name."""
    digest: Sha256 = _NOT_WRITTEN
    """Digest of all files together."""

    def build_environment(self, name: str) -> tuple[LockedPackage, ...]:
        """Return the packages of the build environment called *name*.

        Raises:
            LockError: The lock has none of that name.
        """
        packages = dict(self.build).get(name)
        if packages is None:
            raise LockError(f"{LOCK_FILE} names no {build_lock_name(name)}", hint="`lockbuild resolve` writes it")
        return packages

    def pin(self, name: str) -> BuiltPin | None:
        """Return the pin of the build called *name*, if it has one."""
        return next((pin for pin in self.pins if pin.name == name), None)

    def source(self, name: str) -> LockedSource:
        """Return the source of the build called *name*.

        Raises:
            LockError: The lock has none.
        """
        found = next((source for source in self.sources if source.name == name), None)
        if found is None:
            raise LockError(f"{LOCK_FILE} has no source of `{name}`", hint="`lockbuild resolve` finds it")
        return found


def build_lock_name(environment: str) -> str:
    """Return the file name of a build environment's lock: `pylock.build.toml` for the unnamed one."""
    return f"pylock.build-{environment}.toml" if environment else "pylock.build.toml"


def closure(packages: Iterable[LockedPackage], names: Iterable[str]) -> tuple[LockedPackage, ...]:
    """Return the packages called *names* and all they require, sorted by name."""
    by_name = {package.name: package for package in packages}
    found: dict[str, LockedPackage] = {}
    waiting = list(names)
    while waiting:
        name = waiting.pop()
        if name not in found and name in by_name:
            found[name] = by_name[name]
            waiting.extend(by_name[name].dependencies)
    return tuple(found[name] for name in sorted(found))


# ---- writing ---------------------------------------------------------------------------------------


def lock_texts(lock: Lock, *, name: str, target: Target, wheels: str) -> dict[str, str]:
    """Return file name -> text of every file of *lock*.

    Args:
        name: The stack's name.
        target: What the lock was resolved for.
        wheels: The wheelhouse's folder as seen from the stack's folder, as PEP 751 `path` wants it.
    """
    texts = {
        _RUNTIME_LOCK: toml_text(_pylock(lock.runtime, lock, target, wheels)),
        _REQUIREMENTS: _requirements(lock, name, wheels),
    }
    for environment, packages in lock.build:
        texts[build_lock_name(environment)] = toml_text(_pylock(packages, lock, target, None))
    content: dict[str, Any] = {
        "lock-version": _LOCK_VERSION,
        "created-by": "lockbuild",
        "inputs": dict(lock.inputs),
        "files": {file: sha256_of(text.encode()) for file, text in sorted(texts.items())},
        "source": [_source_table(source) for source in lock.sources],
        "asset": [asset_table(asset) for asset in lock.assets],
        "built": [_pin_table(pin) for pin in lock.pins],
        "deb": [_deb_table(deb) for deb in lock.debs],
    }
    content["digest"] = _content_digest(content)
    order = ("lock-version", "created-by", "digest", "files", "inputs", "source", "asset", "built", "deb")
    texts[LOCK_FILE] = toml_text({key: content[key] for key in order if content[key] != []})
    return texts


def _content_digest(content: Mapping[str, Any]) -> Sha256:
    kept = {key: value for key, value in content.items() if key != "digest" and value != []}
    return sha256_of(canonical_json(kept))


def _pylock(
    packages: tuple[LockedPackage, ...], lock: Lock, target: Target, wheels: str | None
) -> dict[str, Any]:
    return {
        "lock-version": "1.0",
        "environments": [
            f"python_version == '{target.python}' and sys_platform == 'linux' and platform_machine == '{target.machine}'"
        ],
        "requires-python": f"=={target.python}.*",
        "created-by": "lockbuild",
        "packages": [_pylock_package(package, lock, wheels) for package in packages],
    }


def _pylock_package(package: LockedPackage, lock: Lock, wheels: str | None) -> dict[str, Any]:
    extras: dict[str, Any] = {"index": package.index} if package.index else {"built": True}
    if package.urls:
        extras = {"urls": list(package.urls)}
    if package.requested:
        extras["requested"] = True
    table: dict[str, Any] = {"name": package.name, "version": package.version}
    if package.dependencies:
        table["dependencies"] = [{"name": name} for name in package.dependencies]
    pin = None if package.index else lock.pin(package.name)
    file = package.wheel or (pin.wheel if pin else None)
    if file:
        # A build environment's wheels stay in the store; the name alone then says where they belong.
        path = f"{wheels}/{file.filename}" if wheels else file.filename
        table["wheels"] = [{**_file_table(file, name="name"), "path": path}]
    else:
        table |= _pylock_source(lock.source(package.name))
    table["tool"] = {"lockbuild": extras}
    return table


def _pylock_source(source: LockedSource) -> dict[str, Any]:
    file = source.file
    table = {**_file_table(file, name="name"), "path": file.filename}
    # PEP 751 knows an sdist by its file name; any other archive has only a place. A tree that no installer
    # can fetch by its listing is said to be an archive too: nobody but lockbuild builds it.
    return {"archive": {k: v for k, v in table.items() if k != "name"}} if not source.index else {"sdist": table}


def _file_table(file: LockedFile, *, name: str) -> dict[str, Any]:
    table: dict[str, Any] = {name: file.filename}
    if file.size is not None:
        table["size"] = file.size
    if name == "name":
        table["hashes"] = {"sha256": file.sha256}
    else:
        table["sha256"] = file.sha256
    return table


def _source_table(source: LockedSource) -> dict[str, Any]:
    table: dict[str, Any] = {"name": source.name, "version": source.version}
    if source.index:
        table["index"] = source.index
    if source.path:
        table["path"] = source.path
    if source.commit:
        table["commit"] = source.commit
    table |= _file_table(source.file, name="filename")
    if source.submodules:
        keys = ("path", "url", "commit")
        table["submodules"] = [dict(zip(keys, submodule, strict=True)) for submodule in source.submodules]
    if source.patches:
        table["patches"] = [{"path": path, **_file_table(file, name="filename")} for path, file in source.patches]
    return table


def _pin_table(pin: BuiltPin) -> dict[str, Any]:
    return {
        "name": pin.name,
        "derivation": str(pin.derivation),
        **_file_table(pin.wheel, name="filename"),
    }


def _deb_table(deb: LockedDeb) -> dict[str, Any]:
    return {
        "package": deb.package,
        "version": deb.version,
        "architecture": deb.architecture,
        "source": deb.source,
        "path": deb.path,
        "size": deb.size,
        "sha256": deb.sha256,
        "roots": list(deb.roots),
    }


def _requirements(lock: Lock, name: str, wheels: str) -> str:
    lines = [
        f"# Written by `lockbuild resolve {name}`. With the wheelhouse of `lockbuild build {name}`:",
        f"#   pip install --no-index --no-deps --find-links {wheels} --require-hashes -r {_REQUIREMENTS}",
    ]
    for package in lock.runtime:
        pin = lock.pin(package.name)
        file = package.wheel or (pin.wheel if pin else None)
        pinned = f"{package.name}=={package.version}"
        lines.append(f"{pinned} \\" if file else f"{pinned}  # no wheel was built yet")
        if file:
            lines.append(f"    --hash=sha256:{file.sha256}")
        via = [other.name for other in lock.runtime if package.name in other.dependencies]
        via += ["the stack"] if package.requested else []
        if len(via) == 1:
            lines.append(f"    # via {via[0]}")
        elif via:
            lines += ["    # via", *(f"    #   {origin}" for origin in via)]
    return "\n".join(lines) + "\n"


# ---- reading ---------------------------------------------------------------------------------------


def parse_lock(texts: Mapping[str, str]) -> Lock:
    """Return the lock held by *texts*, file name -> text.

    Bytes that are not UTF-8 are lone surrogates in a text, as `surrogateescape` decodes them.

    Raises:
        LockError: A file is missing, is no lock, was edited, or is of a later version.
    """
    if LOCK_FILE not in texts:
        raise LockError(f"there is no {LOCK_FILE}", hint="`lockbuild resolve` writes it")
    main = _toml(LOCK_FILE, texts[LOCK_FILE])
    if main.get("lock-version") != _LOCK_VERSION:
        raise LockError(
            f"{LOCK_FILE}: `lock-version`: found {main.get('lock-version')!r}, expected {_LOCK_VERSION}",
            hint="it was written by another version of lockbuild: resolve again with this one",
        )
    try:
        _check_digest(main)
        for file, expected in main["files"].items():
            _check_file(file, texts.get(file), expected)
        return _assemble(main, texts)
    except (AttributeError, KeyError, TypeError, ValueError) as error:
        # Its digests are right, so whoever wrote it wanted it so: it is no lock of ours.
        raise LockError(
            f"{LOCK_FILE} and its files do not make a lock: {error!r}",
            hint="restore them from version control, or resolve again",
        ) from error


def _assemble(main: Mapping[str, Any], texts: Mapping[str, str]) -> Lock:
    prefix, suffix = "pylock.build", ".toml"
    # Files that the main one does not list were not checked, and are no part of the lock.
    listed = {file: _toml(file, texts[file]) for file in main["files"] if file != _REQUIREMENTS}
    build = {
        file.removeprefix(prefix).removesuffix(suffix).removeprefix("-"): document
        for file, document in listed.items()
        if file.startswith(prefix)
    }
    return Lock(
        inputs=tuple(sorted(main["inputs"].items())),
        runtime=_packages(listed[_RUNTIME_LOCK]),
        build=tuple((name, _packages(document)) for name, document in sorted(build.items())),
        sources=_each(main, "source", _parse_source),
        debs=_each(main, "deb", _parse_deb),
        pins=_each(main, "built", _parse_pin),
        assets=_each(main, "asset", parse_asset),
        digest=Sha256(main["digest"]),
    )


def _check_digest(main: Mapping[str, Any]) -> None:
    found = _content_digest(main)
    if main.get("digest") != found:
        raise LockError(
            f"{LOCK_FILE} is not as it was written",
            details=(f"`digest` says {main.get('digest')}", f"its content gives {found}"),
            hint="restore it from version control, or resolve again",
        )


def _check_file(file: str, text: str | None, expected: str) -> None:
    if text is None:
        raise LockError(f"{file} is missing", hint="restore it from version control, or resolve again")
    found = sha256_of(text.encode(errors="surrogateescape"))
    if found != expected:
        raise LockError(
            f"{file} is not as it was written",
            details=(f"{LOCK_FILE} says sha256 {expected}", f"its bytes give    sha256 {found}"),
            hint="restore it from version control, or resolve again",
        )


def _toml(file: str, text: str) -> dict[str, Any]:
    try:
        text.encode()
        return tomllib.loads(text)
    except ValueError as error:
        raise LockError(
            f"{file} is not TOML: {error}",
            hint="restore it from version control, or resolve again",
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
    if extras.get("built"):
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
        submodules=tuple((s["path"], s["url"], s["commit"]) for s in table.get("submodules", ())),
        patches=tuple((patch["path"], _parse_file(patch)) for patch in table.get("patches", ())),
    )


def _parse_pin(table: Mapping[str, Any]) -> BuiltPin:
    return BuiltPin(
        name=table["name"], derivation=StorePath(table["derivation"]), wheel=_parse_file(table)
    )


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
