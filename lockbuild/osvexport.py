"""Reading an OSV export from disk: folders and zips of records, which may be anybody's. Nothing is unpacked.

What cannot be read is named and passed over. https://google.github.io/osv.dev/data/#data-dumps
"""

from __future__ import annotations

import errno
import os
import re
import stat
import struct
import zipfile
import zlib
from dataclasses import replace
from datetime import UTC, datetime, time, timedelta
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any, NoReturn

from pydantic import TypeAdapter, ValidationError
from pydantic_core import from_json

from lockbuild.errors import UsageError
from lockbuild.osv.records import Database, Name, Record, named
from lockbuild.progress import Silent

if TYPE_CHECKING:
    from collections.abc import Collection, Iterator
    from datetime import date

    from lockbuild.progress import Phase, Progress

__all__ = ["read_export"]

_MOST = 32 * 1024 * 1024
"""Bytes of one record: the largest have a few million."""
_LEAST, _RATIO = 1024**3, 50
"""How many times its size a zip may unpack to, beyond a first gigabyte."""
_ENCRYPTED = 1
_METHODS = (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED)
# What `zipfile` raises at bytes that no honest tool wrote: names that are no text, offsets beyond the end.
_BROKEN = (
    *(zipfile.BadZipFile, zlib.error, struct.error, EOFError, OSError),
    *(LookupError, NotImplementedError, OverflowError, RuntimeError, ValueError),
)
_ID = re.compile(r"[A-Za-z0-9][\w.:+-]*")
_NAMED_FAULTS = 20
_TELLING = 1024 * 1024
"""After how many bytes progress is told: a record is far less."""


class _NoRecord(ValueError):
    """It is not what the schema calls a record, for the reason given."""


class _Reading:
    """What has been read so far."""

    def __init__(self, names: Collection[Name], today: date, phase: Phase) -> None:
        self.names = frozenset(names)
        self._end = datetime.combine(today, time.min, UTC) + timedelta(days=1)
        self._phase, self._untold = phase, 0
        self.latest: dict[str, tuple[datetime, Record | None]] = {}
        """Id -> its newest record; none for one that is withdrawn or about other packages."""
        self.newest: dict[str, datetime | None] = {}
        self.faults: list[str] = []

    def take(self, where: str, data: bytes) -> None:
        """Take in one record."""
        try:
            table = from_json(data, allow_inf_nan=False, cache_strings="keys")
            id_, modified, families, wanted = self._looked_at(table)
            record = _with_true_ids(_adapter().validate_python(_said(table))) if wanted else None
        except ValidationError as error:
            first = error.errors(include_url=False, include_input=False)[0]
            place = ".".join(map(str, first["loc"]))
            self.fault(where, f"{place}: {first['msg']}")
        except ValueError as error:
            self.fault(where, str(error))
        else:
            for family in families:
                self._dated(family, modified)
            known = self.latest.get(id_)
            # Of two entries of one id, the later one counts.
            if known is None or known[0] < modified:
                self.latest[id_] = (modified, record if record and not record.withdrawn else None)

    def _dated(self, family: str, modified: datetime) -> None:
        """Take in the date of a record; one of days to come says nothing of how old the export is."""
        newest = self.newest.setdefault(family, None)
        if modified < self._end:
            self.newest[family] = max(modified, newest or modified)

    def _looked_at(self, table: Any) -> tuple[str, datetime, set[str], bool]:  # noqa: ANN401 - any JSON
        """Return id, date, families of ecosystems, and whether it is about a package that was asked for."""
        if not isinstance(table, dict):
            raise _NoRecord("found no JSON object")
        id_, modified, affected = table.get("id"), table.get("modified"), table.get("affected") or []
        if not isinstance(id_, str) or not _ID.fullmatch(id_):
            raise _NoRecord("`id` is missing or is none")
        if not isinstance(modified, str):
            raise _NoRecord("`modified` is missing")
        if not isinstance(affected, list):
            raise _NoRecord("`affected` is no list")
        packages = [one.get("package") for one in affected if isinstance(one, dict)]
        about = {
            named(str(package.get("ecosystem")), str(package.get("name")))
            for package in packages
            if isinstance(package, dict)
        }
        when = datetime.fromisoformat(modified)
        when = when if when.tzinfo else when.replace(tzinfo=UTC)
        return id_, when, {family for family, _ in about}, not about.isdisjoint(self.names)

    def advance(self, amount: int) -> None:
        """Tell that *amount* bytes of the export have been read, every now and then."""
        self._untold += amount
        if self._untold >= _TELLING:
            self._phase.advance(self._untold)
            self._untold = 0

    def fault(self, where: str, why: str) -> None:
        """Remember that something could not be read."""
        self.faults.append(f"{_shown(where)}: {why}")


def read_export(
    path: Path, names: Collection[Name], progress: Progress | None = None, *, today: date
) -> Database:
    """Return what the export at *path* has about packages: a record, a zip of them, or a folder of both.

    Args:
        names: Families of ecosystems and names in them; all else is counted only.
        progress: Shown to; none for nobody.
        today: In UTC. What is dated later tells nothing of the export's age.

    Raises:
        UsageError: It has no record at all, or a folder that cannot be read.
    """
    files = [(file, file.stat()) for file in _files(path)]
    total = sum(found.st_size for _, found in files)
    with (progress or Silent()).phase("reading vulnerabilities", total=total, unit="bytes") as phase:
        reading = _Reading(names, today, phase)
        for file, found in files:
            where = file.relative_to(path.parent).as_posix()
            try:
                if file.suffix == ".zip":
                    _read_zip(file, where, found.st_size, reading)
                else:
                    _read_file(file, where, reading)
            except _BROKEN as error:
                reading.fault(where, f"cannot be read: {error}")
    if not reading.latest:
        raise UsageError(
            f"{path}: found no OSV record, expected a folder or zip of them",
            details=tuple(reading.faults[:_NAMED_FAULTS]),
            hint="docs/audit.md says where exports are: one `all.zip` for each ecosystem",
        )
    return Database(
        label=str(path),
        records=tuple(record for _, (_, record) in sorted(reading.latest.items()) if record),
        total=len(reading.latest),
        newest=reading.newest,
        written=datetime.fromtimestamp(max(found.st_mtime for _, found in files), UTC).date(),
        faults=tuple(reading.faults),
    )


def _files(path: Path) -> Iterator[Path]:
    """Yield the zips and records at and below *path*, sorted in each folder, each folder once whatever links lead there."""
    if not path.is_dir():
        yield path
        return
    seen: set[tuple[int, int]] = set()

    def is_new(folder: Path) -> bool:
        found = folder.stat()
        known = (found.st_dev, found.st_ino) in seen
        seen.add((found.st_dev, found.st_ino))
        return not known

    for folder, folders, files in os.walk(path, onerror=_refuse, followlinks=True):
        here = Path(folder)
        try:
            if not is_new(here):
                folders.clear()
                continue
            found = [here / name for name in sorted(files) if _is_file(here / name)]
        except OSError as error:
            _refuse(error)
        folders.sort()
        yield from (file for file in found if file.suffix in (".json", ".zip"))


def _refuse(error: OSError) -> NoReturn:
    raise UsageError(
        f"{error.filename}: cannot be read: {error.strerror}",
        hint="what is in it would be missing: look at its owner and mode, or take it out of the export",
    ) from error


def _is_file(path: Path) -> bool:
    """Tell whether *path* is a file or leads to one: a link to nothing does not, nor one that leads back to itself."""
    try:
        return stat.S_ISREG(path.stat().st_mode)
    except OSError as error:
        if error.errno in (errno.ENOENT, errno.ENOTDIR, errno.ELOOP):
            return False
        raise


def _read_file(file: Path, where: str, reading: _Reading) -> None:
    with file.open("rb") as stream:
        data = stream.read(_MOST + 1)
    reading.advance(len(data))
    if len(data) > _MOST:
        reading.fault(where, f"has more than {_MOST} bytes")
    else:
        reading.take(where, data)


def _read_zip(file: Path, where: str, size: int, reading: _Reading) -> None:
    left = _LEAST + _RATIO * size
    with zipfile.ZipFile(file) as archive:
        for member in archive.infolist():
            if not member.filename.endswith(".json"):
                continue
            place = f"{where}: {member.filename}"
            reading.advance(member.compress_size)
            if member.flag_bits & _ENCRYPTED:
                reading.fault(place, "is encrypted")
                continue
            if member.compress_type not in _METHODS:
                reading.fault(place, f"is compressed by method {member.compress_type}")
                continue
            try:
                with archive.open(member) as stream:
                    data = stream.read(_MOST + 1)
            except _BROKEN as error:
                reading.fault(place, f"cannot be read: {error}")
                continue
            left -= len(data)
            if left < 0:
                reading.fault(where, "unpacks to far more than its size; the rest of it is not read")
                return
            if len(data) > _MOST:
                reading.fault(place, f"has more than {_MOST} bytes")
            else:
                reading.take(place, data)


@cache
def _adapter() -> TypeAdapter[Record]:
    return TypeAdapter(Record)


def _with_true_ids(record: Record) -> Record:
    """Return *record* without ids of others that are none: they are shown, and joined by spaces."""
    aliases, upstream = (
        tuple(id_ for id_ in ids if _ID.fullmatch(id_)) for ids in (record.aliases, record.upstream)
    )
    return replace(record, aliases=aliases, upstream=upstream)


def _said(value: Any) -> Any:  # noqa: ANN401 - any JSON
    """Return *value* without what is null: writers in other languages spell out what they do not say."""
    if isinstance(value, dict):
        return {key: _said(entry) for key, entry in value.items() if entry is not None}
    return [_said(entry) for entry in value] if isinstance(value, list) else value


def _shown(text: str) -> str:
    return text if text.isprintable() else ascii(text)
