"""Makes the prefix of conda packages, as one tar: what conda's installers do, but for running anything.

Pure computing on the bytes of the packages: no network, no cache, no clock, no program of theirs. It is done
here and not by conda, mamba or rattler because the prefix is made in one place and used in another, and
because what such a tool leaves behind hangs on its version, its cache and the moment.
"""

from __future__ import annotations

import hashlib
import json
import sys
import tarfile
import time
import zipfile
import zlib
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field, replace
from posixpath import dirname, join, normpath
from typing import IO, TYPE_CHECKING, Any

from lockbuild.builders.relocate import entry_point, in_prefix, noarch_place
from lockbuild.condalock import LINK_SCRIPT
from lockbuild.derivation import PREFIX_TAR, BuildOutcome
from lockbuild.errors import FULL_DISK, ToolMissing

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence
    from pathlib import Path
    from types import ModuleType

    from lockbuild.derivation import BuildTask

__all__ = ["PrefixBuilder", "zstd_module"]

_TAIL_LINES = 40


def zstd_module() -> ModuleType:
    """Return the module that reads zstd: Python's own from 3.14 on, before that its backport.

    Raises:
        ToolMissing: The backport is not installed.
    """
    try:
        if sys.version_info >= (3, 14):
            from compression import zstd  # noqa: PLC0415 - only where there are conda packages
        else:
            from backports import zstd  # noqa: PLC0415
    except ImportError:
        raise ToolMissing(
            "`backports.zstd` is not installed; unpacking conda packages needs it",
            hint="pip install 'lockbuild[conda]'",
        ) from None
    module: ModuleType = zstd
    return module


class PrefixBuilder:
    """Makes prefixes; the same packages in the same order give the same bytes."""

    name = "prefix"

    def probe(self) -> None:
        """Check that packages can be unpacked.

        Raises:
            ToolMissing: They cannot.
        """
        zstd_module()

    def build(self, task: BuildTask) -> BuildOutcome:
        """Make the prefix that *task* describes, into `scratch/out/conda.tar`.

        Raises:
            ToolMissing: What unpacks zstd is not installed.
        """
        self.probe()
        start = time.monotonic()
        out = task.scratch / "out"
        out.mkdir(parents=True, exist_ok=True)
        task.log.parent.mkdir(parents=True, exist_ok=True)
        prefix = _Prefix(place=_place(task.command), work=task.scratch / "files")
        prefix.work.mkdir()
        message = ""
        try:
            prefix.install(task)
            prefix.write(out / PREFIX_TAR, epoch=int(dict(task.env)["SOURCE_DATE_EPOCH"]))
        except _Refused as error:
            message = str(error)
            prefix.say(message)
        lines = "".join(f"{line}\n" for line in prefix.lines)
        task.log.write_text(lines, encoding="utf-8", errors="backslashreplace")
        return BuildOutcome(
            name=task.name,
            status="failed" if message else "built",
            output=None if message else out,
            message=message,
            tail=tuple(prefix.lines[-_TAIL_LINES:]),
            log=task.log,
            duration_s=time.monotonic() - start,
        )


def _place(command: Sequence[str]) -> str:
    return next(word.removeprefix("--place=") for word in command if word.startswith("--place="))


class _Refused(Exception):
    """A package that is not installed, and why."""


@dataclass(frozen=True, slots=True, kw_only=True)
class _File:
    """A file or a link, of an archive or of the prefix."""

    content: Path | None = None
    """None for a link."""
    target: str = ""
    """Of a link, as it is written there."""
    executable: bool = False
    time: int = 0
    package: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class _Package:
    """An unpacked archive."""

    channel: str
    subdir: str
    filename: str
    sha256: str
    index: Mapping[str, Any]
    files: Mapping[str, _File]
    entry_points: tuple[str, ...]

    @property
    def name(self) -> str:
        return str(self.index["name"])


@dataclass(slots=True, kw_only=True)
class _Prefix:
    """A prefix in the making: nothing of it is on the disk under its own name, so nothing can lead astray."""

    place: str
    work: Path
    files: dict[str, _File] = field(default_factory=dict)
    folders: set[str] = field(default_factory=set)
    lines: list[str] = field(default_factory=list)
    python: str = ""
    """Version of the prefix's Python, major and minor."""
    site_packages: str = ""
    number: int = 0

    def say(self, line: str) -> None:
        self.lines.append(line)

    # ---- installing --------------------------------------------------------------------------------

    def install(self, task: BuildTask) -> None:
        """Install the packages that the command names, in its order."""
        inputs = dict(task.inputs)
        words = [word for word in task.command if not word.startswith("--")]
        packages = []
        for word in words:
            channel, subdir, filename = word.split("/")
            if filename not in inputs:
                raise _Refused(f"`{filename}`: found none, expected the archive of a conda package")
            with _naming(filename):
                packages.append(self._unpack(inputs[filename], channel, subdir, filename))
        for package in packages:
            if package.name == "python":
                self.python = ".".join(str(package.index["version"]).split(".")[:2])
                own = package.index.get("python_site_packages_path")
                self.site_packages = own or f"lib/python{self.python}/site-packages"
        for package in packages:
            with _naming(package.filename):
                self._link(package)
        self._add("conda-meta/history", self._keep(b""))
        self._check_folders()

    def _link(self, package: _Package) -> None:
        is_python = package.index.get("noarch") == "python"
        if is_python and not self.python:
            raise _Refused("is a package for any Python, and the stack's conda packages have none")
        paths = []
        for entry in _paths(package):
            path = entry["_path"]
            place = noarch_place(path, self.site_packages) if is_python else path
            if entry.get("path_type") == "directory":
                self.folders.add(_checked(place))
                continue
            if path not in package.files:
                raise _Refused(f"`{path}` is listed and not there")
            paths.append(self._link_one(entry, place, package.files[path]))
        for text in package.entry_points if is_python else ():
            name, script = entry_point(text, f"{self.place}/bin/python{self.python}")
            file = replace(self._keep(script.encode()), executable=True, package=package.name)
            self._add(f"bin/{name}", file)
            paths.append({"_path": f"bin/{name}", "path_type": "unix_python_entry_point"})
        self.say(f"{package.filename}: {len(paths)} files")
        for entry in paths:
            if LINK_SCRIPT.search(entry["_path"]):
                self.say(f"{package.filename}: `{entry['_path']}` is not run")
        self._record(package, paths)

    def _link_one(self, entry: Mapping[str, Any], place: str, file: _File) -> dict[str, Any]:
        """Put one file where it belongs, with the prefix in it, and return its record."""
        record: dict[str, Any] = {
            "_path": place,
            "path_type": "softlink" if file.content is None else "hardlink",
        }
        if file.content is not None:
            placeholder = entry.get("prefix_placeholder")
            if placeholder:
                mode = entry.get("file_mode") or "text"
                data = file.content.read_bytes()
                try:
                    new = in_prefix(data, placeholder, self.place, mode=mode)
                except ValueError as error:
                    raise _Refused(f"`{place}`: {error}") from error
                kept = self._keep(new)
                file = replace(file, content=kept.content)
                record |= {"prefix_placeholder": placeholder, "file_mode": mode}
            if entry.get("sha256"):
                record["sha256"] = entry["sha256"]
            record["sha256_in_prefix"] = _sha256(file.content)
            record["size_in_bytes"] = file.content.stat().st_size if file.content else 0
        elif not _stays(place, file.target, self.place):
            raise _Refused(f"`{place}` is a link to `{file.target}`, out of the prefix")
        self._add(place, file)
        return record

    def _add(self, place: str, file: _File) -> None:
        _checked(place)
        before = self.files.get(place)
        if before is not None and not _same(before, file):
            # As conda has it, the later one wins.
            self.say(f"`{place}` of {before.package} gives way to that of {file.package}")
        self.files[place] = file

    def _record(self, package: _Package, paths: list[dict[str, Any]]) -> None:
        """Write what conda's tools know an installed package by, without addresses or times of this machine."""
        stem = package.filename.removesuffix(".conda").removesuffix(".tar.bz2")
        record = {
            **package.index,
            "channel": package.channel,
            "url": f"conda:{package.channel}/{package.subdir}/{package.filename}",
            "fn": package.filename,
            "subdir": package.subdir,
            "sha256": package.sha256,
            "files": [entry["_path"] for entry in paths],
            "paths_data": {"paths": paths, "paths_version": 1},
        }
        text = json.dumps(record, indent=2, sort_keys=True, ensure_ascii=False) + "\n"
        self._add(f"conda-meta/{stem}.json", self._keep(text.encode()))

    def _check_folders(self) -> None:
        for path in (*self.files, *self.folders):
            above = dirname(path)
            while above:
                if above in self.files:
                    raise _Refused(f"`{path}` is below `{above}`, which is no folder")
                self.folders.add(above)
                above = dirname(above)
        for path in sorted(self.folders & self.files.keys()):
            raise _Refused(f"`{path}` is both a folder and a file")

    def _keep(self, data: bytes) -> _File:
        """Return a file of the prefix that holds *data*, made here."""
        self.number += 1
        content = self.work / str(self.number)
        content.write_bytes(data)
        return _File(content=content)

    # ---- unpacking ---------------------------------------------------------------------------------

    def _unpack(self, archive: Path, channel: str, subdir: str, filename: str) -> _Package:
        files: dict[str, _File] = {}
        with archive.open("rb") as stream:
            sha256 = hashlib.file_digest(stream, "sha256").hexdigest()
        for tar in _tars(archive, filename):
            for member in tar:
                name = member.name.removeprefix("./").removesuffix("/")
                if member.isdir():
                    continue
                if name in files:
                    raise _Refused(f"`{name}` is there twice")
                files[_checked(name)] = self._member(tar, member, files)
        index = _json(files, "info/index.json")
        if not isinstance(index, dict) or not {"name", "version", "build"} <= index.keys():
            raise _Refused("`info/index.json` does not say what it is")
        link = _json(files, "info/link.json") if "info/link.json" in files else {}
        noarch = link.get("noarch") or {}
        return _Package(
            channel=channel,
            subdir=subdir,
            filename=filename,
            sha256=sha256,
            index=index,
            files={name: replace(file, package=str(index["name"])) for name, file in files.items()},
            entry_points=tuple(noarch.get("entry_points") or ()),
        )

    def _member(
        self, tar: tarfile.TarFile, member: tarfile.TarInfo, files: Mapping[str, _File]
    ) -> _File:
        if member.issym():
            return _File(target=member.linkname, time=int(member.mtime))
        if member.islnk():
            linked = files.get(member.linkname.removeprefix("./"))
            if linked is None or linked.content is None:
                raise _Refused(
                    f"`{member.name}` is a hard link to `{member.linkname}`, which is no file before it"
                )
            return linked
        source = tar.extractfile(member) if member.isreg() else None
        if source is None:
            raise _Refused(f"`{member.name}` is neither file, folder nor link")
        self.number += 1
        content = self.work / str(self.number)
        with content.open("wb") as file:
            while chunk := source.read(1024 * 1024):
                file.write(chunk)
        return _File(content=content, executable=bool(member.mode & 0o100), time=int(member.mtime))

    # ---- writing -----------------------------------------------------------------------------------

    def write(self, tar: Path, *, epoch: int) -> None:
        """Write the prefix as a tar to be unpacked at the root of a file system.

        Files keep the times that their packages give them: compiled Python is found by them.
        """
        top = self.place.lstrip("/")
        with tarfile.open(tar, "w", format=tarfile.PAX_FORMAT) as archive:
            # Those above it, too: unpacking into them would leave the moment in their times.
            for depth in range(top.count("/") + 1):
                name = "/".join(top.split("/")[: depth + 1])
                archive.addfile(_header(name, epoch, folder=True))
            for path in sorted((*self.files, *self.folders)):
                file = self.files.get(path)
                if file is None:
                    archive.addfile(_header(f"{top}/{path}", epoch, folder=True))
                elif file.content is None:
                    header = _header(f"{top}/{path}", file.time or epoch)
                    header.type, header.linkname, header.mode = tarfile.SYMTYPE, file.target, 0o777
                    archive.addfile(header)
                else:
                    header = _header(f"{top}/{path}", file.time or epoch, executable=file.executable)
                    header.size = file.content.stat().st_size
                    with file.content.open("rb") as stream:
                        archive.addfile(header, stream)


def _header(name: str, mtime: int, *, folder: bool = False, executable: bool = False) -> tarfile.TarInfo:
    header = tarfile.TarInfo(name)
    header.mtime = mtime
    header.type = tarfile.DIRTYPE if folder else tarfile.REGTYPE
    header.mode = 0o755 if folder or executable else 0o644
    return header


@contextmanager
def _naming(filename: str) -> Iterator[None]:
    """Put the name of the package before why it is refused, whoever finds the reason."""
    broken = (
        *(tarfile.TarError, zipfile.BadZipFile, EOFError, OSError, ValueError, zlib.error),
        *(NotImplementedError, RuntimeError, zstd_module().ZstdError),
        # What a package says of itself may be of any shape.
        *(ArithmeticError, AttributeError, LookupError, TypeError),
    )
    try:
        yield
    except _Refused as error:
        raise _Refused(f"`{filename}`: {error}") from error
    except broken as error:
        if isinstance(error, OSError) and error.errno in FULL_DISK:
            raise
        raise _Refused(f"`{filename}` is not a whole conda package: {error}") from error


def _tars(archive: Path, filename: str) -> Iterator[tarfile.TarFile]:
    """Yield the tars that make up an archive, to be read from front to end."""
    with ExitStack() as stack:
        if filename.endswith(".tar.bz2"):
            yield stack.enter_context(tarfile.open(archive, "r|bz2"))
            return
        whole = stack.enter_context(zipfile.ZipFile(archive))
        names = [name for name in whole.namelist() if name.endswith(".tar.zst")]
        kinds = sorted(name.split("-", 1)[0] for name in names)
        if kinds != ["info", "pkg"]:
            raise _Refused(f"expected one `info-….tar.zst` and one `pkg-….tar.zst`, found {names}")
        for name in sorted(names):
            packed: IO[bytes] = stack.enter_context(whole.open(name))
            plain = stack.enter_context(zstd_module().ZstdFile(packed))
            yield stack.enter_context(tarfile.open(fileobj=plain, mode="r|"))


def _checked(path: str) -> str:
    """Return *path* once it cannot lead out of the folder that it is relative to."""
    if not path or path.startswith(("/", "../")) or path in {".", ".."} or normpath(path) != path:
        raise _Refused(f"`{path}` is no path below the prefix")
    return path


def _stays(path: str, target: str, place: str) -> bool:
    there = normpath(join(f"{place}/{dirname(path)}", target))
    return there == place or there.startswith(f"{place}/")


def _same(one: _File, other: _File) -> bool:
    if one.content is None or other.content is None:
        return one.content is other.content and one.target == other.target
    return one.executable == other.executable and _sha256(one.content) == _sha256(other.content)


def _sha256(content: Path | None) -> str:
    if content is None:
        return ""
    with content.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()


def _json(files: Mapping[str, _File], name: str) -> Any:  # noqa: ANN401 - what others wrote
    file = files.get(name)
    if file is None or file.content is None:
        raise _Refused(f"has no `{name}`; packages without it are too old")
    return json.loads(file.content.read_bytes())


def _paths(package: _Package) -> list[dict[str, Any]]:
    listed = _json(package.files, "info/paths.json")
    paths = listed.get("paths") if isinstance(listed, dict) else None
    if not isinstance(paths, list) or not all(
        isinstance(entry, dict) and isinstance(entry.get("_path"), str) for entry in paths
    ):
        raise _Refused("`info/paths.json` lists no paths")
    return sorted(paths, key=lambda entry: str(entry["_path"]))
