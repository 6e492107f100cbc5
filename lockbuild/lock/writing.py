"""The text of a lock's files. Pure."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from lockbuild.assetlock import asset_table
from lockbuild.condalock import conda_table
from lockbuild.digest import sha256_of
from lockbuild.documents import toml_text
from lockbuild.imagelock import image_table
from lockbuild.lock.values import (
    LOCK_FILE,
    LOCK_VERSION,
    REQUIREMENTS,
    RUNTIME_LOCK,
    build_lock_name,
    content_digest,
)

if TYPE_CHECKING:
    from collections.abc import Mapping

    from lockbuild.lock.values import (
        BuiltPin,
        Lock,
        LockedDeb,
        LockedFile,
        LockedInterpreter,
        LockedPackage,
        LockedSource,
    )
    from lockbuild.target import Target

__all__ = ["lock_texts"]


def lock_texts(
    lock: Lock, *, name: str, target: Target, wheels: str, further: Mapping[str, str] | None = None
) -> dict[str, str]:
    """Return file name -> text of every file of *lock*.

    Args:
        name: The stack's name.
        target: What the lock was resolved for.
        wheels: The wheelhouse's folder as seen from the stack's folder, as PEP 751 `path` wants it.
        further: File name -> text of what others write and this lock answers for.
    """
    texts = {
        RUNTIME_LOCK: toml_text(_pylock(lock.runtime, lock, target, wheels)),
        REQUIREMENTS: _requirements(lock, name, wheels),
        **(further or {}),
    }
    for environment, packages in lock.build:
        texts[build_lock_name(environment)] = toml_text(_pylock(packages, lock, target, None))
    content: dict[str, Any] = {
        "lock-version": LOCK_VERSION,
        "created-by": "lockbuild",
        "inputs": dict(lock.inputs),
        "files": {file: sha256_of(text.encode()) for file, text in sorted(texts.items())},
        "open": [
            {"kind": part.kind, "name": part.name, "reason": part.reason} for part in sorted(lock.open)
        ],
        "source": [_source_table(source) for source in lock.sources],
        "asset": [asset_table(asset) for asset in lock.assets],
        "image": [image_table(image) for image in lock.images],
        "built": [_pin_table(pin) for pin in lock.pins],
        "compiled": [_pin_table(pin) for pin in lock.compiled],
        "conda": [conda_table(package) for package in lock.conda],
        "deb": [_deb_table(deb) for deb in lock.debs],
    }
    if lock.interpreter:
        content["interpreter"] = _interpreter_table(lock.interpreter)
    content["digest"] = content_digest(content)
    order = (
        "lock-version",
        "created-by",
        "digest",
        "files",
        "inputs",
        "interpreter",
        "open",
        "source",
        "asset",
        "image",
        "built",
        "compiled",
        "conda",
        "deb",
    )
    texts[LOCK_FILE] = toml_text({key: content[key] for key in order if content.get(key, []) != []})
    return texts


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
    # A build environment has what was compiled, before it gets its label: no pinned wheel.
    pin = None if package.index or wheels is None else lock.pin(package.name)
    file = package.wheel or (pin.wheel if pin else None)
    if file:
        # A build environment's wheels stay in the store; the name alone then says where they belong.
        path = f"{wheels}/{file.filename}" if wheels else file.filename
        table["wheels"] = [{**_file_table(file, name="name"), "path": path}]
    elif package.urls or package.name in lock.open_of("source"):
        # PEP 751 has no word for what nobody knows yet: installers refuse such a file, and should.
        extras["open"] = True
    else:
        table |= _pylock_source(lock.source(package.name))
    table["tool"] = {"lockbuild": extras}
    return table


def _pylock_source(source: LockedSource) -> dict[str, Any]:
    file = source.file
    table = {**_file_table(file, name="name"), "path": file.filename}
    # PEP 751 knows an sdist by its file name; any other archive has only a place. A tree that no installer
    # can fetch by its listing is said to be an archive too: nobody but lockbuild builds it.
    return (
        {"archive": {k: v for k, v in table.items() if k != "name"}}
        if not source.index
        else {"sdist": table}
    )


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
    if source.ref:
        table["ref"] = source.ref
    table |= _file_table(source.file, name="filename")
    if source.submodules:
        keys = ("path", "url", "commit")
        table["submodules"] = [
            dict(zip(keys, submodule, strict=True)) for submodule in source.submodules
        ]
    if source.patches:
        table["patches"] = [
            {"path": path, **_file_table(file, name="filename")} for path, file in source.patches
        ]
    return table


def _interpreter_table(interpreter: LockedInterpreter) -> dict[str, Any]:
    table = _file_table(interpreter.file, name="filename")
    return {"version": interpreter.version, "glibc": interpreter.glibc, **table}


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
        f"#   pip install --no-index --no-deps --find-links {wheels} --require-hashes -r {REQUIREMENTS}",
    ]
    for package in lock.runtime:
        pin = lock.pin(package.name)
        file = package.wheel or (pin.wheel if pin else None)
        pinned = f"{package.name}=={package.version}"
        absent = "its bytes are not known yet" if package.urls else "no wheel was built yet"
        lines.append(f"{pinned} \\" if file else f"{pinned}  # {absent}")
        if file:
            lines.append(f"    --hash=sha256:{file.sha256}")
        via = [other.name for other in lock.runtime if package.name in other.dependencies]
        via += ["the stack"] if package.requested else []
        if len(via) == 1:
            lines.append(f"    # via {via[0]}")
        elif via:
            lines += ["    # via", *(f"    #   {origin}" for origin in via)]
    return "\n".join(lines) + "\n"
