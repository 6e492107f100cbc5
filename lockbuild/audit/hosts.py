"""Will what is locked still be served next year? Asks nobody: looks at the addresses that stack and lock name."""

from __future__ import annotations

import ipaddress
import re
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

from lockbuild.audit.rules import Found, Rule
from lockbuild.derivation import (
    Addresses,
    ArchiveMembers,
    ChannelFile,
    Fetch,
    GitTree,
    IndexFile,
    PoolFile,
    RegistryImage,
)
from lockbuild.findings import Check

if TYPE_CHECKING:
    from collections.abc import Iterator

    from lockbuild.audit.rules import Subject

__all__ = ["RULES", "addresses_of", "name_of", "on_this_machine"]

_OWNERS = {
    "GitHub": ("github.com", "githubusercontent.com", "github.io", "ghcr.io"),
    "GitLab": ("gitlab.com",),
    "Hugging Face": ("huggingface.co", "hf.co"),
    "Docker Hub": ("docker.io",),
    "NVIDIA": ("nvidia.com", "nvcr.io"),
    "PyTorch": ("pytorch.org",),
    "Meta": ("fbaipublicfiles.com",),
    "Google Storage": ("storage.googleapis.com",),
}
"""Who runs several hosts: they come and go together."""

_KEPT = (
    *("zenodo.org", "figshare.com", "archive.org", "softwareheritage.org", "osf.io", "dataverse.org"),
    "conda.anaconda.org",
)
"""Archives that promise to keep what they have, or that many mirror."""

_FRAGILE = {
    "drive.google.com": "downloads end at a quota, and the owner may withdraw the file at any time",
    "drive.usercontent.google.com": "downloads end at a quota, and the owner may withdraw the file at any time",
    "docs.google.com": "downloads end at a quota, and the owner may withdraw the file at any time",
    "dropbox.com": "the owner may withdraw the file at any time",
    "dropboxusercontent.com": "the owner may withdraw the file at any time",
    "1drv.ms": "the owner may withdraw the file at any time",
    "onedrive.live.com": "the owner may withdraw the file at any time",
    "sharepoint.com": "the owner may withdraw the file at any time",
    "mega.nz": "the owner may withdraw the file at any time",
    "pan.baidu.com": "the owner may withdraw the file at any time, and few can download it",
    "mediafire.com": "the owner may withdraw the file at any time",
    "bit.ly": "it may lead anywhere tomorrow",
    "tinyurl.com": "it may lead anywhere tomorrow",
}


def addresses_of(fetch: Fetch) -> tuple[str, ...]:
    """Return the addresses at which *fetch* may be had; none where many have it, or nobody but one machine."""
    where = fetch.where
    if isinstance(where, Addresses | ArchiveMembers):
        return where.urls
    if isinstance(where, GitTree | ChannelFile):
        return (where.url,)
    if isinstance(where, RegistryImage):
        return (f"https://{where.reference}",)
    if isinstance(where, IndexFile) and where.url:
        return (where.url,)
    return ()


def on_this_machine(address: str) -> bool:
    """Tell whether *address* is a folder of this machine or one of its loopback's."""
    parts = urlsplit(address)
    try:
        return parts.scheme == "file" or ipaddress.ip_address(parts.hostname or "").is_loopback
    except ValueError:
        return parts.hostname == "localhost"


def _host(address: str) -> str:
    # git takes `user@host:path` as well.
    scp = re.match(r"(?:[\w.-]+@)?([\w.-]+):(?!//)", address)
    return scp[1].lower() if scp else (urlsplit(address).hostname or "").lower()


def _below(host: str, domain: str) -> bool:
    return host == domain or host.endswith(f".{domain}")


def _owner(host: str) -> str:
    """Return who runs *host*: hosts of one owner are one place."""
    return next((o for o, domains in _OWNERS.items() if any(_below(host, d) for d in domains)), host)


def _single_host(subject: Subject) -> Iterator[Found]:
    named: dict[str, list[Fetch]] = {}
    for fetch in subject.plan.fetches():
        named.setdefault(name_of(subject, fetch), []).append(fetch)
    for name, fetches in sorted(named.items()):
        hosts = sorted(
            {_host(one) for f in fetches for one in addresses_of(f) if not on_this_machine(one)}
        )
        owners = sorted({_owner(host) for host in hosts})
        if not owners or any(_below(host, kept) for host in hosts for kept in _KEPT):
            continue
        fragile = [reason for h in hosts for d, reason in _FRAGILE.items() if _below(h, d)]
        if len(owners) == 1 or len(fragile) == len(hosts):
            held = len(subject.store.valid([fetch.path for fetch in fetches])) == len(fetches)
            only = f"only {' and '.join(owners)} {'has' if len(owners) == 1 else 'have'} it"
            kept = "this machine's store has it, too" if held else "and not this machine's store"
            yield Found(
                name,
                "; ".join((only, *dict.fromkeys(fragile), kept)),
                facts=(("hosts", " ".join(hosts)),),
            )


def name_of(subject: Subject, fetch: Fetch) -> str:
    """Return what people call what is fetched; one name for all that one index or channel serves."""
    where = fetch.where
    if isinstance(where, IndexFile):
        return f"index {where.index}"
    if isinstance(where, ChannelFile):
        return f"channel {where.channel}"
    if isinstance(where, RegistryImage):
        return f"image {where.reference}"
    assets = {path: name for name, path in subject.plan.assets}
    if fetch.path in assets:
        return f"asset {assets[fetch.path]}"
    sources = {source.file.sha256: source.name for source in subject.lock.sources}
    return f"source {sources[fetch.sha256]}" if fetch.sha256 in sources else fetch.filename


def _plain_http(subject: Subject) -> Iterator[Found]:
    found: dict[str, str] = {}
    for fetch in subject.plan.fetches():
        for address in addresses_of(fetch):
            found.setdefault(address, name_of(subject, fetch))
    for asset in subject.stack.bundles:
        for address in asset.url:
            found.setdefault(address, f"asset {asset.name}")
    for source in subject.lock.sources:
        for path, address, _ in source.submodules:
            found.setdefault(address, f"source {source.name}, submodule {path}")
    for address, name in sorted(found.items(), key=lambda one: (one[1], one[0])):
        scheme = urlsplit(address).scheme
        if scheme in ("ftp", "git", "http") and not on_this_machine(address):
            yield Found(
                name, f"{scheme}://{_host(address)} proves to nobody that it is {_host(address)}"
            )


def _moving_archive(subject: Subject) -> Iterator[Found]:
    pools = [f.where for f in subject.plan.fetches() if isinstance(f.where, PoolFile)]
    for vendor in sorted({where.vendor for where in pools if not where.snapshot}):
        debs = [f for f in subject.plan.fetches() if isinstance(f.where, PoolFile)]
        held = len(subject.store.valid([fetch.path for fetch in debs]))
        archive = subject.stack.base.archive
        yield Found(
            f"{vendor} {archive.suite}" if archive else vendor,
            f"{len(debs)} .debs come from an archive that drops a version once there is a later one; "
            f"this machine's store has {held} of them",
        )


RULES = (
    Rule(
        Check(
            id="single-host",
            level="warning",
            what="everything can be had from two places, or from one that many mirror",
            why="a host that goes, or an owner who takes a file back, takes the stack along",
            mend="name a second address; where there is none, keep the store, or a mirror that the"
            " configuration names",
        ),
        _single_host,
    ),
    Rule(
        Check(
            id="plain-http",
            level="warning",
            what="every address is one of https",
            why="anybody on the way may answer; the hash tells, but what was pinned at a first fetch may be theirs",
            mend="write https, or another address",
        ),
        _plain_http,
    ),
    Rule(
        Check(
            id="moving-archive",
            level="warning",
            what="Debian packages come from a snapshot of their archive, which keeps them",
            why="at the next point release the locked versions are gone, and nobody without your store can build",
            mend="name a time stamp: `base.debian.snapshot` or `base.packages.snapshot`; or keep the store",
        ),
        _moving_archive,
    ),
)
