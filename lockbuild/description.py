"""A stack's page for people: what its image holds, where that is from, and what it needs, as Markdown. Pure.

Everything on it follows from stack and lock, the template comes in as text.
"""

from __future__ import annotations

import posixpath
import re
from typing import TYPE_CHECKING

from lockbuild.edits import Edit, Graft, Patch
from lockbuild.errors import ImageError

if TYPE_CHECKING:
    from collections.abc import Iterator

    from lockbuild.assetlock import LockedAsset
    from lockbuild.lock import Lock, LockedPackage
    from lockbuild.stack import Asset, Source, Stack

__all__ = ["TEMPLATE", "describe"]

TEMPLATE = "stack.md.j2"
"""Name of the template."""

_SHORT = 12
_CLASSES = {"bundle": "bundled", "mount": "must be mounted", "optional-mount": "may be mounted"}
_UNITS = ("B", "kB", "MB", "GB")
_THOUSAND = 1000


def describe(stack: Stack, lock: Lock, *, template: str) -> str:
    """Return the page of a stack: the same text for the same values.

    Args:
        template: Text of `TEMPLATE`.

    Raises:
        ImageError: The template is wrong.
    """
    from jinja2 import Environment, StrictUndefined, TemplateError  # noqa: PLC0415 - as for a Dockerfile

    environment = Environment(  # noqa: S701 - Markdown is not HTML
        undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True, keep_trailing_newline=True
    )
    environment.filters |= {"cell": _cell, "code": _code, "size": _size}
    try:
        text = environment.from_string(template).render(_values(stack, lock))
    except TemplateError as error:
        raise ImageError(
            f"{TEMPLATE}:{getattr(error, 'lineno', '?')}: cannot be rendered: {error}",
            hint="templates/ holds the ones that lockbuild comes with",
        ) from error
    # Sections that a stack has not leave their empty lines.
    return re.sub(r"\n{3,}", "\n\n", text).rstrip("\n") + "\n"


def _values(stack: Stack, lock: Lock) -> dict[str, object]:
    return {
        "accepted": [(kind, name, why) for kind, name, why in _accepted(stack) if why],
        "assets": list(_assets(stack, lock)),
        "base": _base(stack, lock),
        "builds": list(_builds(stack, lock)),
        "changes": list(_changes(stack)),
        "debs": list(_debs(stack, lock)),
        "flags": _flags(stack),
        "interpreter": _interpreter(stack, lock),
        "lock": lock,
        "mounts": stack.mounts,
        "members": [
            (asset.name, [f"{asset.path}/{target}" for _, target in asset.members])
            for asset in stack.bundles
            if asset.members
        ],
        "open": [(part.label, part.reason) for part in lock.open_parts],
        "packages": [(one.name, one.version, _from(one, lock)) for one in lock.runtime],
        "sources": list(_sources(stack, lock)),
        "stack": stack,
        "bounds": list(_bounds(stack)),
    }


# ---- what is inside --------------------------------------------------------------------------------


def _base(stack: Stack, lock: Lock) -> str:
    base = stack.base.debian
    if base is None:
        image = lock.image("runtime")
        known = f", {_code(image.digest)}" if image and image.digest else ""
        is_open = ", open" if "runtime" in lock.open_of("base") else ""
        return (
            f"the image {_code(image.reference if image else stack.base.runtime or '')}{known}{is_open}"
        )
    at = f", as the archive was at {base.snapshot}" if base.snapshot else ""
    return f"{base.vendor.capitalize()} {base.suite} ({', '.join(base.components)}), made of locked .debs{at}"


def _interpreter(stack: Stack, lock: Lock) -> str:
    if standalone := stack.interpreter.standalone:
        return f"{_code(standalone.filename)}, sha256 {_code(standalone.sha256)}"
    if stack.interpreter.host:
        known = lock.interpreter.file if lock.interpreter else None
        which = f": {_code(known.filename)}, sha256 {_code(known.sha256)}" if known else ", open"
        return f"{_code(stack.interpreter.host)} of the machine that resolves{which}"
    if stack.interpreter.image:
        return f"the base image's {_code(stack.interpreter.image)}"
    if stack.interpreter.conda:
        return f"the conda package {_code(stack.interpreter.conda)}"
    return f"the Debian package {_code(stack.interpreter.apt or '')}"


def _from(package: LockedPackage, lock: Lock) -> str:
    if package.urls:
        is_open = package.name in lock.open_of("wheel")
        return "a wheel that the stack pins" + (", open" if is_open else "")
    if not package.index:
        return "compiled"
    return "the default index" if package.index == "pypi" else f"the index {_code(package.index)}"


def _builds(stack: Stack, lock: Lock) -> Iterator[tuple[str, str, str, str, bool]]:
    """Yield name, version, source, packages compiled against, and whether its bytes are pinned, of each build."""
    versions = {package.name: package.version for package in lock.runtime}
    for spec in stack.builds:
        origin = _origin(spec.name, spec.source, lock)
        needs = ", ".join(map(_code, spec.needs)) or "-"
        yield (
            spec.name,
            versions.get(spec.name, spec.version),
            origin,
            needs,
            lock.pin(spec.name) is not None,
        )


def _sources(stack: Stack, lock: Lock) -> Iterator[tuple[str, str, str, str, str]]:
    """Yield name, place, origin, licence and owner of each source of the image."""
    for source in stack.placed:
        owner = "the image's user" if source.writable else "root"
        origin = _origin(source.name, source.source, lock)
        yield source.name, source.path, origin, source.license, owner


def _origin(name: str, source: Source, lock: Lock) -> str:
    locked = next((one for one in lock.sources if one.name == name), None)
    if source.git:
        # Of a branch or tag only the lock has the commit.
        commit = (locked.commit if locked else None) or source.commit
        named = ([_code(source.ref)] if source.ref else []) + (
            [_code(commit[:_SHORT])] if commit else []
        )
        what = " ".join([_link(source.git), *named])
        if locked and locked.submodules:
            commits = (
                f"{_code(path)} {_code(commit[:_SHORT])}" for path, _, commit in locked.submodules
            )
            what += f" with {', '.join(commits)}"
    elif source.path:
        what = f"the stack's folder {_code(source.path)}"
    else:
        what = f"the sdist {_code(source.sdist or '')}"
        what += f", sha256 {_code(locked.file.sha256[:_SHORT])}…" if locked else ""
    what += f", of it {_code(source.subdirectory)}" if source.subdirectory else ""
    return what if locked else f"{what}, open"


def _link(url: str) -> str:
    shown = url.partition("://")[2].removesuffix(".git")
    return f"[{shown}]({url})"


def _debs(stack: Stack, lock: Lock) -> Iterator[tuple[str, int | str, str]]:
    """Yield each root file system, how many Debian packages it has, and which of them the stack asks for."""
    compilers = stack.toolchain.packages if stack.base.archive else ()
    wishes = {"runtime": stack.apt.runtime, "toolchain": (*stack.apt.toolchain, *compilers)}
    for root, wanted in wishes.items():
        count = sum(root in deb.roots for deb in lock.debs)
        yield (
            root,
            "open" if lock.open_of("apt") else count,
            ", ".join(map(_code, sorted({*wanted}))) or "-",
        )


def _assets(stack: Stack, lock: Lock) -> Iterator[tuple[str, str, str, str, str, str]]:
    """Yield name, class, place, size, sha256 and licence of each asset and mount."""
    locked = {asset.name: asset for asset in lock.assets}
    for asset in stack.assets:
        if asset.bundled:
            yield asset.name, *_bundle(asset, locked.get(asset.name)), asset.license
        else:
            yield asset.name, _CLASSES[asset.policy], _code(asset.path), "-", "-", asset.license or "-"
    declared = {asset.path for asset in stack.assets}
    for mount in stack.mounts:
        if mount.path not in declared:
            kind = _CLASSES["optional-mount" if mount.optional else "mount"]
            yield posixpath.basename(mount.path), kind, _code(mount.path), "-", "-", "-"


def _bundle(asset: Asset, locked: LockedAsset | None) -> tuple[str, str, str, str]:
    kind = _CLASSES[asset.policy]
    place = _code(asset.path) + (f", {len(asset.members)} files" if asset.members else "")
    if locked is None or locked.sha256 is None:
        return kind, place, "-", "open"
    # Of members this is the hash of their listing; people can compare that of the archive.
    shown = locked.archive.sha256 if locked.archive else locked.sha256
    return kind, place, _size(locked.size), _code(shown) + (" (archive)" if locked.archive else "")


# ---- what was changed, and why ---------------------------------------------------------------------


def _changes(stack: Stack) -> Iterator[tuple[str, list[tuple[str, str]]]]:
    """Yield each source that is edited, and its edits with their reasons."""
    edited = [(spec.name, spec.edits) for spec in stack.builds]
    edited += [(source.name, source.edits) for source in stack.sources]
    for name, edits in edited:
        if edits:
            yield name, [(_edit(edit), edit.reason) for edit in edits]


def _edit(edit: Edit) -> str:
    if isinstance(edit, Patch):
        return f"patch {_code(edit.path)}"
    if isinstance(edit, Graft):
        verb = "replaced by" if edit.replace else "from"
        return f"{_code(edit.put)} {verb} {_code(edit.take)} of {_code(edit.source)}"
    return f"text in {_code(edit.file)}"


def _bounds(stack: Stack) -> Iterator[tuple[str, str, str]]:
    """Yield kind, requirement and reason of each override and constraint."""
    reasons = dict(stack.python.reasons)
    for kind, bounds in (
        ("override", stack.python.overrides),
        ("constraint", stack.python.constraints),
    ):
        for bound in bounds:
            yield kind, bound, reasons.get(bound, "-")


def _accepted(stack: Stack) -> Iterator[tuple[str, str, str]]:
    """Yield licence, name and reason of what the image may hold for a reason of the stack's own."""
    for source in stack.placed:
        yield source.license, source.name, source.accept_license
    for asset in stack.bundles:
        yield asset.license, asset.name, asset.accept_license


# ---- running it ------------------------------------------------------------------------------------


def _flags(stack: Stack) -> list[tuple[str, bool]]:
    """Return the flags of `docker run`, and whether the image is of no use without them."""
    flags = [] if stack.gpu == "none" else [("--gpus all", stack.gpu == "required")]
    for mount in stack.mounts:
        name = posixpath.basename(mount.path)
        flags.append((f"-v /path/to/{name}:{mount.path}", not mount.optional))
    return flags


# ---- Markdown --------------------------------------------------------------------------------------


def _cell(text: object) -> str:
    """Return *text* so that it ends no cell of a table."""
    return str(text).replace("|", "\\|").replace("\n", " ")


def _code(text: object) -> str:
    """Return *text* as code."""
    fence = "``" if "`" in str(text) else "`"
    return f"{fence}{text}{fence}" if fence == "`" else f"{fence} {text} {fence}"


def _size(size: int | None) -> str:
    """Return a number of bytes as people say it."""
    if size is None:
        return "-"
    value, units = float(size), list(_UNITS)
    while value >= _THOUSAND and len(units) > 1:
        value /= _THOUSAND
        del units[0]
    return f"{value:.0f} {units[0]}" if units[0] == "B" else f"{value:.1f} {units[0]}"
