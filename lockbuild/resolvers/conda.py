"""Solving conda packages with py-rattler, for the target and never for the machine that runs lockbuild."""

from __future__ import annotations

import asyncio
import re
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from lockbuild.condalock import LockedConda
from lockbuild.digest import parse_sha256
from lockbuild.errors import ResolveError, ToolMissing

if TYPE_CHECKING:
    from collections.abc import Iterable
    from pathlib import Path
    from types import ModuleType

    from lockbuild.resolvers import CondaQuestion

__all__ = ["resolve"]

# What pyo3 and py-rattler call the end of a Rust thread: no `Exception`, so that nobody catches it by chance.
_PANICS = frozenset({"PanicException", "RustPanic"})


# How rattler, through reqwest, says that there was no connection, and what a server says that has no time,
# or that lets nobody in.
_NO_ANSWER = re.compile(
    r"error sending request|\b(401|403|407|429|5\d\d) [A-Z]|timed out|reading a body"
)
_USER_INFO = re.compile(r"(?<=://)[^/?#\s]*@")


@dataclass(frozen=True, slots=True)
class _Channel:
    """A channel at the address that answered."""

    name: str
    channel: Any
    records: list[Any]
    """What it has of the packages that are named."""


def resolve(question: CondaQuestion, *, cache: Path) -> tuple[LockedConda, ...]:
    """Return the packages that *question* asks for and all they require, sorted by name.

    Args:
        cache: Folder that keeps what channels say about themselves, for the next time.

    Raises:
        ResolveError: A channel cannot be asked, or the packages cannot be had together.
        ToolMissing: py-rattler is not installed.
    """
    rattler = _rattler()
    cache.mkdir(parents=True, exist_ok=True)
    try:
        return asyncio.run(_solve(rattler, question, cache))
    except BaseException as error:
        if type(error).__name__ not in _PANICS:
            raise
        raise ResolveError(
            f"py-rattler broke off while it solved conda packages: {error}",
            hint="try another version of py-rattler, and tell its maintainers",
        ) from error


def _rattler() -> ModuleType:
    try:
        import rattler  # noqa: PLC0415 - only stacks with conda packages need it
    except ImportError:
        raise ToolMissing(
            "`py-rattler` is not installed; solving conda packages needs it",
            hint="pip install 'lockbuild[conda]'",
        ) from None
    return rattler


async def _solve(rattler: ModuleType, question: CondaQuestion, cache: Path) -> tuple[LockedConda, ...]:
    from rattler.exceptions import GatewayError, SolverError  # noqa: PLC0415 - as above

    specifications = [_specification(rattler, text) for text in question.packages]
    gateway = rattler.Gateway(cache_dir=cache)
    asked = {spec.name.normalized for spec in specifications}
    names = sorted({*asked, *(package.name for package in question.former)})
    channels = [
        await _reached(rattler, gateway, question.subdir, name, addresses, names)
        for name, addresses in question.channels
    ]
    former = {package.sha256 for package in question.former}
    try:
        found = await rattler.solve(
            [channel.channel for channel in channels],
            specifications,
            gateway=gateway,
            platforms=[question.subdir, "noarch"],
            locked_packages=[r for c in channels for r in c.records if _sha256(r) in former],
            virtual_packages=[_virtual(rattler, *pair) for pair in question.virtual_packages],
            channel_priority=rattler.ChannelPriority.Strict,
            # Nothing but the channels that the stack names, whatever these say of others.
            channel_relations="disabled",
        )
    except SolverError as error:
        raise _unsatisfiable(question, error) from error
    except GatewayError as error:
        raise ResolveError(
            "a conda channel stopped answering", details=_lines(error), unreachable=_no_answer(error)
        ) from error
    by_address = {channel.channel.base_url.rstrip("/"): channel.name for channel in channels}
    return tuple(sorted((_locked(record, by_address, asked) for record in found), key=lambda p: p.name))


def _specification(rattler: ModuleType, text: str) -> Any:  # noqa: ANN401 - py-rattler's own
    from rattler.exceptions import InvalidMatchSpecError  # noqa: PLC0415 - as above

    try:
        return rattler.MatchSpec(text, strict=True)
    except InvalidMatchSpecError as error:
        raise ResolveError(
            f"`conda.packages`: `{text}` is not how conda names packages: {error}",
            hint="write `NAME`, `NAME VERSION` or `NAME VERSION BUILD`, such as `openh264 >=2.1,<3`",
        ) from error


async def _reached(  # noqa: PLR0913, PLR0917 - of which only two vary
    rattler: ModuleType,
    gateway: Any,  # noqa: ANN401 - py-rattler's own
    subdir: str,
    name: str,
    addresses: Iterable[str],
    wanted: list[str],
) -> _Channel:
    """Return the channel called *name* at the first address that answers."""
    from rattler.exceptions import GatewayError  # noqa: PLC0415 - as above

    details: list[str] = []
    unreachable = False
    for address in addresses:
        channel = rattler.Channel(address)
        try:
            found = await gateway.query(
                [channel], [subdir, "noarch"], wanted, recursive=False, channel_relations="disabled"
            )
        except GatewayError as error:
            details += _lines(error)
            unreachable = unreachable or _no_answer(error)
            continue
        return _Channel(name, channel, [record for records in found for record in records])
    raise ResolveError(
        f"the conda channel `{name}` cannot be asked",
        details=tuple(details),
        hint=f'`channels.{name} = ["ADDRESS"]` in the configuration file names a mirror of it',
        unreachable=unreachable,
    )


def _virtual(rattler: ModuleType, name: str, text: str) -> Any:  # noqa: ANN401 - py-rattler's own
    version, _, build = text.partition("=")
    return rattler.GenericVirtualPackage(
        rattler.PackageName(name), rattler.Version(version), rattler.BuildString(build or "0")
    )


def _unsatisfiable(question: CondaQuestion, error: Exception) -> ResolveError:
    declared = ", ".join(f"{name} {text}" for name, text in question.virtual_packages)
    tree = str(error).removeprefix("Cannot solve the request because of: ")
    return ResolveError(
        "conda packages cannot be had together",
        details=(
            *(line for line in tree.splitlines() if line.strip()),
            f"virtual packages: {declared}",
        ),
        hint="they follow from `target`; `conda.virtual-packages` says others",
    )


def _no_answer(error: Exception) -> bool:
    """Tell whether nobody answered, or let nobody in: a channel that says 404 has answered."""
    return _NO_ANSWER.search(str(error)) is not None


def _lines(error: Exception) -> tuple[str, ...]:
    """Return what *error* says, without the credentials of a mirror."""
    text = _USER_INFO.sub("***@", str(error))
    return tuple(line for line in text.splitlines() if line.strip())


def _sha256(record: Any) -> str:  # noqa: ANN401 - py-rattler's own
    return record.sha256.hex() if record.sha256 else ""


def _locked(record: Any, channels: dict[str, str], asked: set[str]) -> LockedConda:  # noqa: ANN401
    if record.sha256 is None or record.md5 is None or record.size is None:
        raise ResolveError(
            f"the channel does not say all of sha256, md5 and size of `{record.file_name}`",
            hint="ask for a later build of it, or for another channel's",
        )
    return LockedConda(
        name=record.name.normalized,
        version=str(record.version),
        build=str(record.build),
        channel=channels[str(record.channel).rstrip("/")],
        subdir=str(record.subdir),
        filename=record.file_name,
        md5=record.md5.hex(),
        sha256=parse_sha256(record.sha256.hex()),
        size=record.size,
        depends=tuple(str(depend) for depend in record.depends),
        requested=record.name.normalized in asked,
    )
