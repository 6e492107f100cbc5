"""What an image shall hold, file by file: it follows from lock, store and rendering. Runs nothing.

It is told as layers, one for each part, so that links in the base lead where they lead in the image.
"""

from __future__ import annotations

import json
import re
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Literal, NamedTuple

from lockbuild.audit.contents import STATUS, conda_record
from lockbuild.audit.installing import installed_files, true_contents
from lockbuild.derivation import PREFIX_TAR, ROOTFS_TAR
from lockbuild.digest import sha256_of
from lockbuild.dockerfile import BILL_FOLDER, PREFIX, run_settings
from lockbuild.errors import ImageError, LockbuildError, StoreError
from lockbuild.image.archive import Reading, read_tar
from lockbuild.image.layers import Layer, LayerFile, final
from lockbuild.packing import bundled_assets, make_manifest, object_file
from lockbuild.placing import source_trees
from lockbuild.preflight import FOLDER, preflight_texts

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Mapping

    from lockbuild.audit.installing import Wanted
    from lockbuild.digest import StorePath
    from lockbuild.dockerfile import BundledAsset, RunSettings
    from lockbuild.image.layers import FileKind
    from lockbuild.lock import Lock
    from lockbuild.plan import Plan
    from lockbuild.stack import Stack
    from lockbuild.store import Store

__all__ = ["MADE", "Expected", "PartName", "Want", "expected_of"]

PartName = Literal["base", "conda", "asset", "source", "package", "own", "sbom"]
MADE = frozenset({""})
"""The content of what is made in the image, and is known by nobody before: it must come with the environment."""

_NOTE = "files-2.json"
_REPAIR = "`lockbuild store repair`, then `lockbuild build`"
_LISTS = re.compile(r"var/lib/dpkg/info/([^/]+)\.list")
_KEPT = re.compile(
    r"var/lib/dpkg/(?:status|info/[^/]+\.list)|etc/(?:passwd|group)|(?:.*/)?conda-meta/[^/]+\.json"
)
_TOP = PREFIX.removeprefix("/")


class Want(NamedTuple):
    """What must be at a path."""

    kind: FileKind
    contents: frozenset[str]
    """Sha256 of a file, target of a symlink: one of these."""
    part: PartName
    owner: str
    """Package, .deb, source or asset that it is of; empty for none."""
    optional: bool = False
    rights: tuple[int, int, int] | None = None
    """Mode, user and group, where they are known."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Expected:
    """What an image shall hold."""

    files: Mapping[str, Want]
    """Path as a program sees it -> what must be there."""
    held: Mapping[str, frozenset[str]]
    """Path -> every content that some part of the image may bring there, also where another replaces it."""
    privileged: Mapping[str, tuple[int, bool]]
    """Path of each file of the base that gives rights of others: its mode, and whether it has capabilities."""
    settings: RunSettings
    status: bytes = b""
    """What dpkg says is installed in the base; empty where it is not known, or has no dpkg."""
    absent: tuple[str, ...] = ()
    """What the store has not got, so that files cannot be compared, and what brings it."""
    placed: bool = True
    """Whether the store has all that is put where the stack says: base, conda packages, assets and sources."""
    recheck: Callable[[str, str], frozenset[str]] = lambda _owner, _path: frozenset()
    """Told package and path: what the wheel itself has there, whatever its RECORD says."""

    @property
    def known(self) -> frozenset[str]:
        """Every content that there may be, wherever."""
        return frozenset(content for contents in self.held.values() for content in contents)


@dataclass(slots=True)
class _Parts:
    """Layers in the order of the image, and what is wanted of each file in them."""

    layers: list[Layer] = field(default_factory=list)
    wants: list[dict[str, Want]] = field(default_factory=list)

    def add(self, wants: Mapping[str, Want]) -> None:
        files = [
            LayerFile(path, want.kind, 0, 0, 0, 0, min(want.contents, default=""))
            for path, want in wants.items()
        ]
        self.layers.append(Layer(files=tuple(files)))
        self.wants.append(dict(wants))


def expected_of(  # noqa: PLR0913 - all that it follows from
    stack: Stack,
    lock: Lock,
    plan: Plan,
    store: Store,
    *,
    templates: Mapping[str, str],
    documents: Callable[[], Mapping[str, str]],
) -> Expected:
    """Return what the image of *stack* shall hold; what the store has not got is told, not guessed.

    Args:
        templates: As for rendering.
        documents: Makes what the image says of itself, file name -> text: bill of materials and NOTICE.
    """
    parts, absent = _Parts(), []
    base: Layer | None = None

    def attempt(make: Callable[[], Mapping[str, Want]]) -> None:
        try:
            parts.add(make())
        except LockbuildError as error:
            absent.append(_said(error))

    def base_wants() -> dict[str, Want]:
        nonlocal base
        path = dict(plan.roots).get("runtime")
        if path is None:
            raise StoreError("the runtime's root file system waits for open parts of the lock")
        base = _listing(store, path, ROOTFS_TAR)
        return _of_tar(base, "base", _owners(base.texts))

    attempt(base_wants)
    attempt(lambda: dict(_of_conda(plan, store)))
    bundles: tuple[BundledAsset, ...] = ()
    try:
        bundles = bundled_assets(stack, plan, store)
        if len(bundles) < len(stack.bundles):
            absent.append("an asset of the image is open in the lock: `lockbuild build`")
    except StoreError as error:
        absent.append(_said(error))
    parts.add(dict(_of_assets(bundles)))
    attempt(lambda: dict(_of_sources(stack, plan, store)))
    placed = not absent
    attempt(lambda: _of_wheels(stack, lock, plan, store))
    parts.add(dict(_own(stack, lock, base, bundles, templates)))
    attempt(lambda: dict(_of_documents(documents())))

    def recheck(owner: str, path: str) -> frozenset[str]:
        entries = make_manifest(stack, lock, plan, store).wheels
        (wheel,) = (object_file(store, entry) for entry in entries if entry.name == owner)
        return true_contents(wheel, path, prefix=_TOP, python=stack.target.python)

    settings = run_settings(stack, lock)
    return replace(_joined(parts, base, settings), absent=tuple(absent), placed=placed, recheck=recheck)


def _said(error: LockbuildError) -> str:
    """Return what is absent and what brings it: a build brings no object again that is damaged."""
    return f"{error.message}: {error.hint or '`lockbuild build`'}"


def _joined(parts: _Parts, base: Layer | None, settings: RunSettings) -> Expected:
    files: dict[str, Want] = {}
    held: dict[str, set[str]] = {}
    for path, placed in final(parts.layers).items():
        files[path] = parts.wants[placed.layer][placed.file.path]
    for wants in parts.wants:
        for path, want in wants.items():
            if want.kind != "folder":
                held.setdefault(path, set()).update(want.contents)
    for path, want in files.items():
        if want.kind != "folder":
            held.setdefault(path, set()).update(want.contents)
    privileged = {
        file.path: (file.mode, file.capability)
        for file in (base.files if base else ())
        if file.privileged
    }
    return Expected(
        files=files,
        held={path: frozenset(contents) for path, contents in held.items()},
        privileged=privileged,
        settings=settings,
        status=base.texts.get(STATUS, b"") if base else b"",
    )


# ---- tars of the store -----------------------------------------------------------------------------


def _listing(store: Store, path: StorePath, member: str) -> Layer:
    """Return what a tar of a store object holds: hashed once, then noted in the store.

    Raises:
        StoreError: The object is not in the store, or damaged.
    """
    info = store.info(path)
    if info is None:
        raise StoreError(f"`{path}` is not in the store", hint="`lockbuild build` makes it")
    noted = store.note(path, _NOTE)
    if noted is not None and (layer := _parse(noted)) is not None:
        return layer
    try:
        layer, sha256 = read_tar(
            store.locate(path) / member, Reading(keep=lambda name: _KEPT.fullmatch(name) is not None)
        )
    except ImageError as error:
        raise StoreError(f"store object `{path}` is damaged: {error.message}", hint=_REPAIR) from error
    if sha256 != {name: digest for name, digest, _ in info.outputs}.get(member):
        raise StoreError(
            f"store object `{path}` is damaged: {member} is not the recorded one", hint=_REPAIR
        )
    store.write_note(path, _NOTE, _text(layer))
    return layer


def _text(layer: Layer) -> str:
    files = [list(file[:-1]) for file in layer.files]
    texts = {path: data.decode("utf-8", "surrogateescape") for path, data in layer.texts.items()}
    # Names need not be UTF-8: in ASCII they come back as they were.
    return json.dumps({"files": files, "texts": texts}, separators=(",", ":"))


def _parse(text: str) -> Layer | None:
    try:
        document = json.loads(text)
        files = tuple(LayerFile(*row) for row in document["files"])
        texts = {
            path: data.encode("utf-8", "surrogateescape") for path, data in document["texts"].items()
        }
    except (AttributeError, KeyError, RecursionError, TypeError, ValueError):
        return None  # somebody else's, or half of one
    return Layer(files=files, texts=texts)


def _of_tar(layer: Layer, part: PartName, owners: Mapping[str, str]) -> dict[str, Want]:
    return {
        file.path: Want(
            kind=file.kind,
            contents=frozenset({file.content}),
            part=part,
            owner=owners.get(file.path, ""),
            rights=(file.mode, file.uid, file.gid),
        )
        for file in layer.files
    }


def _owners(texts: Mapping[str, bytes]) -> dict[str, str]:
    """Return path -> Debian package, as dpkg's own lists have them."""
    found: dict[str, str] = {}
    for path, text in texts.items():
        if listed := _LISTS.fullmatch(path):
            package = listed[1].partition(":")[0]
            for line in text.decode("utf-8", "surrogateescape").splitlines():
                name = line.removeprefix("/")
                found[name] = package
                # Packages from before /usr was merged say where their files were then.
                found.setdefault(f"usr/{name}", package)
    return found


def _conda_owners(texts: Mapping[str, bytes]) -> dict[str, str]:
    """Return path -> conda package, as the prefix's own records have them."""
    found: dict[str, str] = {}
    for path, text in texts.items():
        below, _, record = path.rpartition("conda-meta/")
        if record.endswith(".json"):
            name, _, files = conda_record(text.decode("utf-8", "replace"), record)
            found |= dict.fromkeys((path, *(f"{below}{file}" for file in files)), name)
    return found


# ---- what stands on the base -----------------------------------------------------------------------


def _of_conda(plan: Plan, store: Store) -> Iterator[tuple[str, Want]]:
    for _, path in plan.prefixes:
        layer = _listing(store, path, PREFIX_TAR)
        yield from _of_tar(layer, "conda", _conda_owners(layer.texts)).items()


def _of_assets(bundles: Iterable[BundledAsset]) -> Iterator[tuple[str, Want]]:
    for asset in bundles:
        for file in asset.files:
            yield (
                file.path.removeprefix("/"),
                Want("file", frozenset({file.sha256}), "asset", asset.name),
            )


def _of_sources(stack: Stack, plan: Plan, store: Store) -> Iterator[tuple[str, Want]]:
    for tree in source_trees(stack, plan, store):
        for entry in tree.entries:
            kind: FileKind = "file" if entry.kind == "executable" else entry.kind
            path = f"{tree.path}/{entry.path}".removeprefix("/")
            yield path, Want(kind, frozenset({entry.content}), "source", tree.name)


def _of_wheels(stack: Stack, lock: Lock, plan: Plan, store: Store) -> dict[str, Want]:
    """Return what installing the wheels gives: where several bring one file, each of them may be there."""
    try:
        manifest = make_manifest(stack, lock, plan, store)
    except KeyError as error:
        raise StoreError(f"the wheel of `{error.args[0]}` is open in the lock") from error
    found: dict[str, Want] = {}
    for entry in manifest.wheels:
        try:
            wanted = installed_files(object_file(store, entry), prefix=_TOP, python=stack.target.python)
        except LockbuildError as error:
            raise StoreError(error.message, hint=error.hint) from error
        for path, one in wanted.items():
            found[path] = _either(found.get(path), one, entry.name)
    return found


def _either(there: Want | None, one: Wanted, owner: str) -> Want:
    contents = one.contents
    if there is not None:
        contents = MADE if MADE & (contents | there.contents) else contents | there.contents
    return Want("file", contents, "package", owner, optional=one.optional)


def _own(
    stack: Stack,
    lock: Lock,
    base: Layer | None,
    bundles: Iterable[BundledAsset],
    templates: Mapping[str, str],
) -> Iterator[tuple[str, Want]]:
    """Yield what the Dockerfile itself makes: the environment, the user, the preflight."""
    for name, optional in _environment(stack.target.python):
        yield name, Want("symlink" if _is_link(name) else "file", MADE, "own", "", optional=optional)
    account = run_settings(stack, lock).account
    for file in ("passwd", "group") if account else ():
        name, uid = account or ("", 0)
        line = (
            f"{name}:x:{uid}:{uid}::/home/{name}:/bin/sh\n" if file == "passwd" else f"{name}:x:{uid}:\n"
        )
        text = (base.texts.get(f"etc/{file}", b"") if base else b"") + line.encode()
        yield f"etc/{file}", Want("file", frozenset({sha256_of(text)}), "own", "")
    files = [(file.path, file.size, file.sha256) for asset in bundles for file in asset.files]
    for name, text_ in preflight_texts(stack, templates=templates, assets=files).items():
        path = f"{FOLDER}/{name.rpartition('/')[2]}".removeprefix("/")
        yield path, Want("file", frozenset({sha256_of(text_.encode())}), "own", "")


def _of_documents(documents: Mapping[str, str]) -> Iterator[tuple[str, Want]]:
    for name, text in documents.items():
        path = f"{BILL_FOLDER}/{name}".removeprefix("/")
        yield path, Want("file", frozenset({sha256_of(text.encode())}), "sbom", "")


def _is_link(path: str) -> bool:
    return path.startswith((f"{_TOP}/bin/python", f"{_TOP}/lib64"))


def _environment(python: str) -> Iterator[tuple[str, bool]]:
    """Yield the files that `python -m venv` makes, and whether a version of it may leave one out."""
    yield f"{_TOP}/pyvenv.cfg", False
    yield f"{_TOP}/bin/python", False
    for name in (
        "python3",
        f"python{python}",
        "activate",
        "activate.csh",
        "activate.fish",
        "Activate.ps1",
    ):
        yield f"{_TOP}/bin/{name}", True
    yield f"{_TOP}/.gitignore", True
    yield f"{_TOP}/lib64", True
