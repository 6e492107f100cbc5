"""The local store: a folder of objects that are whole, read-only, and named by what they follow from.

    lockbuild-store         marker; says which layout this is
    objects/PATH            the objects: read-only files and folders
    records/PATH.json       one for each valid object; written last, by a rename
    listings/PATH           canonical listing of a folder object: names what differs in a damaged one
    notes/PATH/NAME         what was found out about an object and would take long to find out again
    unpacked/PATH/MEMBER    a tar inside an object, unpacked once, with MEMBER.json written last
    roots/NAME              store paths that garbage collection keeps
    durations/ verdicts/    how long builds took; what checking them found
    derivations/ realised/  what gave objects, as text; what was realised last for each stack
    ccache/                 results of compilers, where a user wants them kept
    scratch/ locks/ jobs/   of processes that run now
    downloads/ logs/        unfinished downloads; the output of builds

An object is valid exactly when its record exists: data reaches the disk before its record does, so a
process or a machine that dies at any moment leaves garbage at worst, and never a half object that is
taken for a whole one.
"""

from __future__ import annotations

import fcntl
import os
import weakref
from contextlib import ExitStack, contextmanager, suppress
from typing import TYPE_CHECKING, Self

from lockbuild.derivation import PathInfo
from lockbuild.documents import json_text
from lockbuild.errors import StoreError
from lockbuild.progress import Silent
from lockbuild.store import records
from lockbuild.store.adding import Prepared, drop_same, prepare_file, prepare_folder
from lockbuild.store.damage import Damage, damage_of, find_damages
from lockbuild.store.disk import has_text, move_in, open_marker, write_whole
from lockbuild.store.faults import REPAIR, damaged_record, full_in_words, in_words
from lockbuild.store.garbage import (
    Collected,
    Kept,
    Leftover,
    closure,
    kept_by,
    leftovers,
    logs_of_others,
    read_roots,
    write_root,
)
from lockbuild.store.history import History
from lockbuild.store.locks import fresh_folder, locked, sweep, try_locked
from lockbuild.store.records import Root
from lockbuild.store.trees import (
    Entry,
    difference,
    flush_one,
    listing,
    listing_sha256,
    remove_tree,
)
from lockbuild.store.unpack import unpack_checked

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Iterable, Iterator
    from pathlib import Path

    from lockbuild.digest import Sha256, StorePath
    from lockbuild.progress import Progress

__all__ = [
    "Collected",
    "Damage",
    "Entry",
    "Kept",
    "Root",
    "Store",
    "difference",
    "listing",
    "listing_sha256",
    "remove_tree",
]

_FOLDERS = (
    *("objects", "records", "listings", "notes", "scratch"),
    *("downloads", "locks", "logs", "roots"),
)


class Store:
    """A local store. Any number of processes and threads may use it at once.

    While an instance lives, its process holds a shared lock on the store: nothing is collected under
    the hands of a run.

    Args:
        root: The store's folder; made where it is missing.

    Raises:
        StoreError: It is of another layout, no store at all, or cannot be read or made.
    """

    def __init__(self, root: Path) -> None:
        self.root = root.absolute()
        with in_words(self.root):
            self._marker, self._writable = open_marker(self.root)
            self._close = weakref.finalize(self, os.close, self._marker)
            fcntl.flock(self._marker, fcntl.LOCK_SH)
            if self._writable:
                for name in _FOLDERS:
                    (self.root / name).mkdir(exist_ok=True)
                # Set-user-id programs of an unpacked system are nobody else's business.
                (self.root / "unpacked").mkdir(mode=0o700, exist_ok=True)
                sweep(self.root / "scratch")

    def close(self) -> None:
        """Let go of the store, so that it can be collected; this instance is not to be used again."""
        self._close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    # ---- looking -----------------------------------------------------------------------------------

    def locate(self, path: StorePath) -> Path:
        """Return where the object lies, or would lie."""
        return self.root / "objects" / path

    def log_file(self, path: StorePath) -> Path:
        """Return where the output of the build that makes *path* goes."""
        return self.root / "logs" / f"{path}.log"

    @property
    def history(self) -> History:
        """What is remembered of builds."""
        return History(self.root)

    @property
    def jobs(self) -> Path:
        """The folder of the jobs that builds share; see `lockbuild.jobs`."""
        return self.root / "jobs"

    def compiler_cache(self, key: StorePath) -> Path:
        """Return the folder for a compiler cache. No object is in it, and it can be removed at any time."""
        return self.root / "ccache" / key

    @property
    def downloads(self) -> Path:
        """The folder for unfinished downloads, on the file system of the objects."""
        return self.root / "downloads"

    def info(self, path: StorePath) -> PathInfo | None:
        """Return the record of *path*; none when it is not valid. No object is read.

        Raises:
            StoreError: The record is damaged.
        """
        with in_words(self.root):
            try:
                text = self._record(path).read_text(encoding="utf-8")
            except FileNotFoundError:
                return None
            except UnicodeDecodeError as error:
                raise damaged_record(path, error) from error
        try:
            return records.parse_record(text, path)
        except ValueError as error:
            raise damaged_record(path, error) from error

    def valid(self, paths: Iterable[StorePath]) -> frozenset[StorePath]:
        """Return those of *paths* that are valid."""
        with in_words(self.root):
            return frozenset(path for path in paths if self._record(path).exists())

    def paths(self) -> tuple[StorePath, ...]:
        """Return every valid path, sorted."""
        with in_words(self.root):
            names = [file.name.removesuffix(".json") for file in (self.root / "records").iterdir()]
        return tuple(sorted(path for path in map(records.parse_path, names) if path is not None))

    def members(self, path: StorePath) -> tuple[Entry, ...]:
        """Return what a folder object held when it was added; empty for a file.

        Raises:
            StoreError: Not valid, or its listing is damaged.
        """
        info = self._need(path)
        if info.kind == "file":
            return ()
        with in_words(self.root):
            text = (self.root / "listings" / path).read_bytes()
        try:
            entries = records.parse_listing(text)
        except ValueError as error:
            raise StoreError(f"the listing of `{path}` is damaged: {error}", hint=REPAIR) from error
        if listing_sha256(entries) != info.sha256:
            raise StoreError(f"the listing of `{path}` is not the recorded one", hint=REPAIR)
        return entries

    def check(self, path: StorePath) -> PathInfo:
        """Hash the object again, now, and return its record.

        Raises:
            StoreError: It is not valid or not what was recorded; both hashes are in the details.
        """
        damage = self._damage(path)
        if damage is None:
            return self._need(path)
        raise damage.fault()

    def verify(
        self, paths: Iterable[StorePath] | None = None, *, progress: Progress | None = None
    ) -> tuple[Damage, ...]:
        """Hash objects again, some at a time, and return the damaged ones, sorted by path.

        Args:
            paths: Which; none for all. What lies there without a record is no damage: see `leftovers`.
        """
        sizes = {path: self._size(path) for path in (self.paths() if paths is None else paths)}
        return find_damages(sizes, self._damage, progress or Silent())

    def leftovers(self) -> tuple[str, ...]:
        """Return what lies in the store and is not part of a valid object, relative to its root."""
        with in_words(self.root):
            return tuple(left.place for left in leftovers(self.root, frozenset(self.paths())))

    # ---- adding ------------------------------------------------------------------------------------

    def add_file(  # noqa: PLR0913 - what a file must be, each under its name
        self,
        path: StorePath,
        file: Path,
        *,
        sha256: Sha256,
        size: int | None = None,
        references: Iterable[StorePath] = (),
        trusted_hash: bool = False,
    ) -> PathInfo:
        """Take *file* over as the object *path*; it is gone from where it was.

        Args:
            size: Bytes it must have; none where that is not known.
            trusted_hash: The caller hashed these very bytes as it wrote them, and nobody else could
                write to the file since: they are not read a second time.

        Raises:
            StoreError: The bytes are others; the file stays where it is.
        """
        wanted = PathInfo(path=path, sha256=sha256, size=size or 0, references=_sorted(references))

        def prepare(source: Path) -> Prepared:
            # A copy from another file system is hashed in any case: who trusted meant the original.
            trusted = trusted_hash and source == file
            return prepare_file(source, wanted, size=size, trusted=trusted)

        return self._add(path, file, prepare)

    def add_folder(
        self, path: StorePath, folder: Path, *, references: Iterable[StorePath] = ()
    ) -> PathInfo:
        """Take *folder* over as the object *path*; it is gone from where it was.

        Raises:
            StoreError: It holds what no object may, or *path* is valid with another content.
        """
        inputs = _sorted(references)
        return self._add(path, folder, lambda source: prepare_folder(source, path, inputs))

    def remove(self, path: StorePath) -> None:
        """Make *path* invalid and remove all that belongs to it but its log."""
        with in_words(self.root), locked(self._changing(path)):
            self._record(path).unlink(missing_ok=True)
            flush_one(self.root / "records")
            for place in ("unpacked", "listings", "notes", "objects"):
                remove_tree(self.root / place / path)

    def forget_invalid(self) -> tuple[str, ...]:
        """Remove what is not part of a valid object and return it, as `leftovers` names it."""
        removed = []
        with in_words(self.root):
            sweep(self.root / "scratch")
            for left in list(leftovers(self.root, frozenset(self.paths()))):
                # A process that is just adding it holds its lock.
                with try_locked(self._changing(left.owner)) as free:
                    if free and not self._came_true(left):
                        remove_tree(self.root / left.place)
                        removed.append(left.place)
        return tuple(removed)

    # ---- working -----------------------------------------------------------------------------------

    @contextmanager
    def scratch(self, name: str) -> Iterator[Path]:
        """Give a fresh folder on the store's file system; it is removed at the end, whatever is in it."""
        with ExitStack() as stack:
            with in_words(self.root):
                folder = stack.enter_context(fresh_folder(self.root / "scratch", name))
            stack.enter_context(full_in_words(self.root))
            yield folder

    @contextmanager
    def lock(self, path: StorePath, on_wait: Callable[[str], None] | None = None) -> Iterator[None]:
        """Hold the right to make *path*; ask `valid` again once it is held.

        Args:
            on_wait: Told once who holds it, when there is somebody to wait for.
        """
        with ExitStack() as stack:
            with in_words(self.root):
                stack.enter_context(locked(self.root / "locks" / f"{path}.lock", on_wait))
            yield

    def unpacked(self, path: StorePath, member: str) -> Path:
        """Return the folder that the tar called *member* in the object *path* is unpacked in.

        The first call unpacks it, having hashed it again. As root files keep their owners; as a user
        they are the user's, without write bits. Nobody but this user can enter the tree.

        Raises:
            StoreError: *path* is not valid, has no such file, or the file is damaged.
        """
        outputs = {name: digest for name, digest, _ in self._need(path).outputs}
        expected = outputs.get(member)
        if expected is None:
            raise StoreError(f"store object `{path}` holds no file `{member}`")
        place = self.root / "unpacked" / path
        record, text = place / f"{member}.json", json_text({"schema": 1, "sha256": expected})
        with in_words(self.root):
            if not has_text(record, text):
                with locked(self._changing(path)):
                    if not has_text(record, text):
                        record.unlink(missing_ok=True)
                        unpack_checked(self.locate(path) / member, place / member, expected)
                        write_whole(record, text.encode())
        return place / member

    def note(self, path: StorePath, name: str) -> str | None:
        """Return the text noted under *name* about the object *path*; none where there is none, or no text."""
        with in_words(self.root):
            try:
                return (self.root / "notes" / path / name).read_text(encoding="utf-8")
            except (FileNotFoundError, UnicodeDecodeError):
                return None

    def write_note(self, path: StorePath, name: str, text: str) -> None:
        """Note *text* about the valid object *path*; it goes when the object goes.

        Nothing may lean on a note: a store that cannot be written to takes none.
        """
        if self._writable:
            with in_words(self.root), locked(self._changing(path)):
                if self._record(path).exists():
                    place = self.root / "notes" / path
                    place.mkdir(exist_ok=True)
                    write_whole(place / name, text.encode())

    # ---- garbage -----------------------------------------------------------------------------------

    def roots(self) -> dict[str, Root]:
        """Return name -> what it keeps, of every root, sorted by name."""
        with in_words(self.root):
            return read_roots(self.root / "roots")

    def kept(self) -> tuple[Kept, ...]:
        """Return what each root keeps, sorted by name.

        Raises:
            StoreError: A record or a root is damaged.
        """
        with in_words(self.root):
            return kept_by(self.roots(), self.info)

    def set_root(self, name: str, root: Root) -> None:
        """Keep what *root* says from garbage collection, in place of what *name* kept.

        Args:
            name: Whose it is. Two checkouts of one stack need two names.
        """
        with in_words(self.root), locked(self.root / "locks" / "roots"):
            write_root(self.root / "roots", name, root)

    def remove_root(self, name: str) -> None:
        """Forget the root called *name*, and what was realised for it, if there is one."""
        with in_words(self.root):
            (self.root / "roots" / name).unlink(missing_ok=True)
            self.history.forget_realised(name)

    def collect(
        self,
        keep: Iterable[StorePath] = (),
        *,
        without: Collection[str] = (),
        dry_run: bool = False,
    ) -> Collected:
        """Remove every object that neither *keep* nor a root refers to, directly or not.

        Args:
            without: Names of roots that are forgotten before.
            dry_run: Tell what would go, and remove nothing.

        Raises:
            StoreError: Another run uses the store; or a record or a root is damaged, so that what it
                refers to is not known.
        """
        with self._alone():
            roots = [root for name, root in self.roots().items() if name not in without]
            kept = closure([*keep, *(path for root in roots for path in root.paths)], self.info)
            dead = [self._need(path) for path in self.paths() if path not in kept]
            if not dry_run:
                for name in without:
                    self.remove_root(name)
                for info in dead:
                    self.remove(info.path)
                    self.history.forget(info.path)
                for log in list(logs_of_others(self.root / "logs", kept)):
                    log.unlink(missing_ok=True)
                self.history.forget_derivations(self.paths())
                self.forget_invalid()
        return Collected(paths=tuple(info.path for info in dead), size=sum(info.size for info in dead))

    @contextmanager
    def _alone(self) -> Iterator[None]:
        with in_words(self.root):
            try:
                fcntl.flock(self._marker, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError as error:
                # A lock that could not be raised may be lost: flock(2).
                fcntl.flock(self._marker, fcntl.LOCK_SH)
                raise StoreError(
                    f"the store is in use by another run: {self.root}", hint="wait until it has ended"
                ) from error
        try:
            yield
        finally:
            fcntl.flock(self._marker, fcntl.LOCK_SH)

    # ---- how ---------------------------------------------------------------------------------------

    def _record(self, path: str) -> Path:
        return self.root / "records" / f"{path}.json"

    def _changing(self, name: str) -> Path:
        # Not the lock of `lock`: who holds that one adds.
        return self.root / "locks" / f"{name[:220]}.change"

    def _need(self, path: StorePath) -> PathInfo:
        info = self.info(path)
        if info is None:
            raise StoreError(f"store object `{path}` is not valid", hint="build or fetch it first")
        return info

    def _size(self, path: StorePath) -> int:
        with suppress(StoreError):
            return self._need(path).size
        return 0

    def _came_true(self, left: Leftover) -> bool:
        """Tell whether a leftover has become part of a valid object since it was seen."""
        return not left.place.startswith("records/") and self._record(left.owner).exists()

    def _damage(self, path: StorePath) -> Damage | None:
        try:
            info = self.info(path)
        except StoreError as error:
            return Damage(path=path, problem=error.message)
        if info is None:
            return Damage(path=path, problem="it has no record")
        try:
            recorded = self.members(path)
        except StoreError:
            recorded = None
        return damage_of(info, self.locate(path), recorded)

    def _add(self, path: StorePath, source: Path, prepare: Callable[[Path], Prepared]) -> PathInfo:
        with in_words(self.root), locked(self._changing(path)):
            present = self.info(path)
            if present is not None:
                drop_same(source, prepare(source).info, present)
                return present
            remove_tree(self.locate(path))
            made = move_in(source, self.locate(path), self.root / "scratch", prepare)
            if made.listing is not None:
                # A folder that cannot be written to cannot be renamed.
                self.locate(path).chmod(0o555)
                flush_one(self.locate(path))
                write_whole(self.root / "listings" / path, made.listing)
            write_whole(self._record(path), records.record_text(made.info).encode())
            return made.info


def _sorted(paths: Iterable[StorePath]) -> tuple[StorePath, ...]:
    return tuple(sorted(set(paths)))
