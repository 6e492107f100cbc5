"""A file whose sha256 nobody has told: fetched once, looked at closely, so that its bytes can be pinned."""

from __future__ import annotations

import hashlib
import os
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

from lockbuild.digest import Sha256
from lockbuild.errors import FetchError
from lockbuild.sources.download import (
    CHUNK,
    RANGE_NOT_SATISFIABLE,
    Stopped,
    asked,
    broken_off,
    extent,
    open_locked,
    told,
)
from lockbuild.sources.http import Client, Fault, Limits, is_file
from lockbuild.sources.index import local_path
from lockbuild.sources.kinds import HEAD, fault_of_kind

if TYPE_CHECKING:
    import threading
    from collections.abc import Callable, Sequence
    from pathlib import Path
    from typing import BinaryIO

    from lockbuild.sources.http import Answer

__all__ = ["First", "Unpinned", "first"]

_VALIDATORS = ("ETag", "Last-Modified")


@dataclass(frozen=True, slots=True, kw_only=True)
class Unpinned:
    """A file and what little is known of it."""

    name: str
    urls: tuple[str, ...]
    sha256: str | None = None
    checksums: tuple[tuple[str, str], ...] = ()
    """`sha1` or `git-blob`, and its digits."""
    size: int | None = None
    type: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class First:
    """The file that came, and its bytes."""

    file: Path
    sha256: Sha256
    size: int


def first(
    wanted: Unpinned,
    *,
    into: Path,
    keep: Path,
    stop: threading.Event,
    limits: Limits = Limits(),  # noqa: B008 - frozen
) -> First:
    """Fetch *wanted* from the first address that gives what fits all that is known of it.

    Args:
        into: A folder of the caller's own; the file is `<into>/file`.
        keep: Where a download that broke off waits for the next call, in this process or another, if the
            server can tell whether it still has the same file.
        stop: When set, the download ends.

    Raises:
        FetchError: No address gives it; the details say why, address by address.
        Stopped: *stop* was set.
    """
    client = Client(limits=limits, connections=1, stop=stop)
    tried: list[tuple[str, Fault]] = []
    file = into / "file"
    try:
        for url in wanted.urls:
            try:
                _bring(client, url, wanted, file, keep=keep, stop=stop)
                return _looked_at(wanted, file)
            except Fault as fault:
                if stop.is_set():
                    raise Stopped from fault
                tried.append((url, fault))
    finally:
        client.close()
    raise FetchError(
        f"`{wanted.name}`: no address gives the file",
        details=told(tried),
        hint=_hint(wanted, [fault for _, fault in tried]),
        unreachable=any(fault.no_answer for _, fault in tried),
        tried=asked(tried),
    )


def _hint(wanted: Unpinned, faults: Sequence[Fault]) -> str:
    if any(fault.other_file for fault in faults):
        return "name another `url` in the stack, one that gives the file itself"
    if any(fault.details for fault in faults):
        keys = ["size"] if wanted.size is not None else []
        keys += ["sha256"] if wanted.sha256 else [name for name, _ in wanted.checksums]
        return (
            "name another `url` in the stack; find out why the bytes differ before you correct "
            + " or ".join(f"`{key}`" for key in keys)
        )
    if any(fault.no_answer for fault in faults):
        return "name another `url` in the stack, or try again where it can be reached"
    return "name another `url` in the stack"


def _bring(  # noqa: PLR0913 - as keywords
    client: Client, url: str, wanted: Unpinned, file: Path, *, keep: Path, stop: threading.Event
) -> None:
    if is_file(url):
        _copy(url, file)
        return
    part = keep / f"{hashlib.sha256(url.encode()).hexdigest()[:32]}.first"
    # What tells whether the server still has the file whose beginning is in the part.
    tag = part.with_suffix(".tag")
    with open(open_locked(part, stop), "r+b") as target:  # the lock ends with it
        known = tag.read_text(encoding="utf-8") if tag.exists() else ""
        target.seek(0, os.SEEK_END if known else os.SEEK_SET)
        transfer = _Transfer(
            client=client, url=url, wanted=wanted, target=target, tag=tag, known=known, stop=stop
        )
        try:
            client.persist(url, transfer.once, reached=target.tell)
            target.flush()
            part.rename(file)
            tag.unlink(missing_ok=True)
        except BaseException:
            if not target.tell() or not tag.exists():
                part.unlink(missing_ok=True)
                tag.unlink(missing_ok=True)
            raise


def _copy(url: str, file: Path) -> None:
    try:
        source = local_path(url).open("rb")
    except FileNotFoundError as error:
        raise Fault(f"there is no file {error.filename}", status=404) from error
    except OSError as error:
        raise Fault(f"{error.filename}: {error.strerror}") from error
    with source, file.open("wb") as target:
        while chunk := source.read(CHUNK):
            target.write(chunk)


class _Transfer:
    """One address; a try goes on where the one before it broke off, if the server says it is the same file."""

    def __init__(  # noqa: PLR0913 - as keywords
        self,
        *,
        client: Client,
        url: str,
        wanted: Unpinned,
        target: BinaryIO,
        tag: Path,
        known: str,
        stop: threading.Event,
    ) -> None:
        self._client = client
        self._url = url
        self._wanted = wanted
        self._target = target
        self._stop = stop
        self._tag = tag
        self._validator = known

    def once(self) -> None:
        """Ask for what is missing, and write it down."""
        target, headers = self._target, {}
        if target.tell() and self._validator:
            headers = {"Range": f"bytes={target.tell()}-", "If-Range": self._validator}
        try:
            with self._client.open(self._url, headers=headers) as answer:
                total = self._take(answer, begun_before=target.tell() if headers else 0)
        except Fault as fault:
            if fault.status != RANGE_NOT_SATISFIABLE or not headers:
                raise
            self._begin_again()
            raise Fault("the server has fewer bytes than an earlier try gave", again=True) from fault
        expected = total if total is not None else self._wanted.size
        if expected is not None and target.tell() < expected:
            ended = Fault("the server closed the connection before the end", again=True)
            raise broken_off(ended, target.tell(), expected)

    def _begin_again(self) -> None:
        self._target.seek(0)
        self._target.truncate()
        self._tag.unlink(missing_ok=True)
        self._validator = ""

    def _take(self, answer: Answer, *, begun_before: int) -> int | None:
        """Write down what an answer brings, and return how long the whole file is, if that is told."""
        start, total = extent(answer)
        validator = _validator(answer)
        # Not every server heeds `If-Range`.
        if start and (start != begun_before or validator not in ("", self._validator)):
            self._begin_again()
            raise Fault("the file has changed since an earlier try", again=True)
        if not start:
            self._begin_again()
            self._validator = validator
            if validator:
                self._tag.write_text(validator, encoding="utf-8")
        self._refuse_encoded(answer)
        ends = total is not None or "chunked" in answer.headers.get("Transfer-Encoding", "").lower()
        if not ends and self._wanted.size is None:
            raise Fault(
                "the server does not say how long the file is, and neither does `size` in the stack"
            )
        if self._wanted.size is not None and total not in (None, self._wanted.size):
            head = next(answer.chunks(HEAD), b"") if not start else b""
            raise _wrong_size(self._wanted.size, total, head)
        try:
            self._pour(answer)
        except Fault as fault:
            raise broken_off(fault, self._target.tell(), total or self._wanted.size) from fault
        return total

    def _refuse_encoded(self, answer: Answer) -> None:
        """Refuse bytes that are not the file's own where nothing is known that would tell.

        Raises:
            Fault: The server packed them, though it was asked not to. What is packed itself may be meant so.
        """
        encoding = answer.headers.get("Content-Encoding", "").strip().lower()
        known = self._wanted.sha256 or self._wanted.checksums
        packed = urlsplit(self._url).path.lower().endswith((".gz", ".tgz", ".bz2", ".xz", ".zst"))
        if encoding not in ("", "identity") and not known and not packed:
            raise Fault(
                f"the server sends the file packed (`Content-Encoding: {encoding[:20]}`), and not its own bytes",
                other_file=True,
            )

    def _pour(self, answer: Answer) -> None:
        seen = self._target.tell()
        for chunk in answer.chunks(CHUNK):
            if self._stop.is_set():
                raise Stopped
            # The first piece says whether the rest is worth the wait.
            if (
                not seen
                and len(chunk) >= HEAD
                and (fault := fault_of_kind(chunk[:HEAD], self._wanted.type))
            ):
                raise Fault(fault, other_file=True)
            seen += self._target.write(chunk)
            if self._wanted.size is not None and seen > self._wanted.size:
                self._begin_again()
                raise _wrong_size(self._wanted.size, None, chunk[:HEAD])


def _validator(answer: Answer) -> str:
    """Return what tells this file from a later one at the same address; a weak tag does not."""
    values = (answer.headers.get(name, "") for name in _VALIDATORS)
    return next((value for value in values if value and not value.startswith("W/")), "")


def _looked_at(wanted: Unpinned, file: Path) -> First:
    """Return the file, once nothing that is known of it speaks against it."""
    size = file.stat().st_size
    with file.open("rb") as stream:
        head = stream.read(HEAD)
    fault = fault_of_kind(head, wanted.type) or ("it is empty" if not size else None)
    if fault:
        raise Fault(fault, other_file=True)
    if wanted.size not in (None, size):
        raise _wrong_size(wanted.size or 0, size, head)
    hashes = _hashes(file, size)
    expected = ((("sha256", wanted.sha256),) if wanted.sha256 else ()) + wanted.checksums
    for name, digits in expected:
        if hashes[name] != digits:
            raise Fault(
                "wrong bytes", details=(f"expected {name} {digits}", f"found    {name} {hashes[name]}")
            )
    return First(file=file, sha256=Sha256(hashes["sha256"]), size=size)


def _hashes(file: Path, size: int) -> dict[str, str]:
    sha1: Callable[..., hashlib._Hash] = partial(hashlib.sha1, usedforsecurity=False)
    digests = {"sha256": hashlib.sha256(), "sha1": sha1(), "git-blob": sha1(b"blob %d\0" % size)}
    with file.open("rb") as stream:
        while chunk := stream.read(CHUNK):
            for digest in digests.values():
                digest.update(chunk)
    return {name: digest.hexdigest() for name, digest in digests.items()}


def _wrong_size(expected: int, found: int | None, head: bytes) -> Fault:
    length = f"{found} bytes" if found is not None else f"more than {expected} bytes"
    other = fault_of_kind(head, None)
    return Fault(
        other or "wrong size",
        details=(f"expected {expected} bytes", f"found    {length}"),
        other_file=other is not None,
    )
