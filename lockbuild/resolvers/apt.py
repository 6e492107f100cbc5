"""apt as the solver of .debs: which packages a root file system needs, and the bytes of each.

apt runs in a folder of its own with an empty dpkg status, or that of a base image, one source and one keyring. Nothing of this
machine's apt takes part but the way to the network (proxies, credentials), so every machine gives the
same answer. Nothing is installed, and root rights are not needed.
"""

from __future__ import annotations

import fcntl
import re
import subprocess
from contextlib import contextmanager
from dataclasses import dataclass
from difflib import get_close_matches
from pathlib import Path, PurePosixPath
from typing import TYPE_CHECKING
from urllib.parse import urlsplit, urlunsplit

from debian.deb822 import Packages

from lockbuild.digest import canonical_json, parse_sha256, sha256_of
from lockbuild.errors import ResolveError, ToolMissing
from lockbuild.lock import LockedDeb
from lockbuild.process import Completed, clean_env, find_tool, install_hint, need_tool, run

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence

    from lockbuild.resolvers import AptAnswer, AptQuestion
    from lockbuild.stack import DebianBase

__all__ = ["archive_address", "configured_mirrors", "default_keyring", "resolve"]

_PURPOSE = "solving Debian packages"
_UPDATE_TIMEOUT_S = 900
_PROXY_VARIABLES = ("http_proxy", "https_proxy", "no_proxy", "HTTP_PROXY", "HTTPS_PROXY", "NO_PROXY")
_KEYRINGS = Path("/usr/share/keyrings")

# What apt says when an index is not signed by the keyring; anything else is an archive out of reach.
_SIGNATURE = re.compile(
    r"GPG error|is not signed|NO_PUBKEY|BADSIG|EXPKEYSIG|REVKEYSIG|Clearsigned file|no valid OpenPGP"
    r"|Sub-process /usr/bin/sqv|NOSPLIT|NODATA",
)
# What apt says where nobody answered, or nobody was let in. It calls an index that it was refused "not
# signed" as well.
_NO_ANSWER = re.compile(
    r"no answer within|Failed to fetch \S+\s+(?:Could not (?:connect|handshake|resolve|wait)"
    r"|Connection (?:failed|timed out)|Unable to connect|Temporary failure|Cannot initiate|Certificate"
    r"|Error reading from server|Invalid response from proxy|SSL|(?:401|403|407|408|429|451|5\d\d) )"
)
_INSTALL = re.compile(
    r"^Inst (?P<name>[^ :]+)(?::\S+)? (?:\[(?P<before>\S+)\] )?\((?P<version>\S+) ", re.MULTILINE
)
_UNKNOWN = re.compile(
    r"Unable to locate package (?P<located>\S+)|Package '(?P<candidate>\S+)' has no installation"
    r"|Version '(?P<version>.+?)' for '(?P<versioned>\S+)' was not found"
)


@dataclass(frozen=True, slots=True, kw_only=True)
class _Apt:
    """An isolated apt whose indexes have been fetched."""

    env: dict[str, str]
    status: Path
    """What it takes for installed."""

    def run(self, *words: str) -> Completed:
        return run(words, env=self.env, timeout_s=_UPDATE_TIMEOUT_S)


def resolve(
    question: AptQuestion, *, mirrors: Sequence[str], keyring: Path | None, work: Path
) -> AptAnswer:
    """Return the closure of every root file system asked for, sorted by package.

    A root holds the essential packages, those wanted, and what they depend on; never a recommended one.

    Args:
        mirrors: Addresses of the archive, tried in order; see `archive_address` for snapshots. They
            leave no trace in the answer.
        keyring: Keys that may sign the archive; none for the vendor's own as this machine has it.
        work: Folder for indexes. One that stays makes later calls quicker, and may be shared.

    Raises:
        ResolveError: A package is unknown, wishes cannot be met together, no mirror can be reached, or
            an index is not signed by the keyring.
        ToolMissing: apt or the keyring is not on this machine.
    """
    need_tool("apt-get", purpose=_PURPOSE)
    base = question.base
    if not mirrors:
        raise ResolveError(
            f"no archive of `{base.vendor}` is configured on this machine",
            hint=f"set `archives.{base.vendor} = [...]` in lockbuild's configuration file,"
            f" or LOCKBUILD_ARCHIVE_{base.vendor.upper()}",
            unreachable=True,
        )
    keys = (keyring or default_keyring(base.vendor)).resolve()
    failures: list[str] = []
    for mirror in mirrors:
        address = archive_address(mirror, base.snapshot)
        folder = work / _cache_key(question, address)
        with _locked(folder):
            apt = _configure(folder, question, address, keys)
            fault = _update(apt, address, keys)
            if not fault:
                return _solve(apt, question)
            failures += fault
    raise ResolveError(
        f"no archive of `{base.vendor}` gives the suite `{base.suite}`",
        details=tuple(failures),
        hint="check the network, the suite's name and its components",
        unreachable=any(_NO_ANSWER.search(line) for line in failures),
    )


def archive_address(mirror: str, snapshot: str | None) -> str:
    """Return the address of an archive's root, with a slash at its end.

    With a *snapshot*, `{timestamp}` in *mirror* is replaced by the time stamp; where it does not stand,
    the time stamp is appended as a folder.
    """
    address = mirror.rstrip("/")
    if snapshot is not None:
        address = address if "{timestamp}" in address else f"{address}/{{timestamp}}"
        address = address.replace("{timestamp}", snapshot)
    return f"{address}/"


def configured_mirrors(vendor: str) -> tuple[str, ...]:
    """Return the addresses of *vendor*'s archive that this machine's apt is configured for, in its order.

    The archive is known by what its signed index says of itself, or, where none was fetched yet, by an
    address that ends in the vendor's name. Archives of security updates alone do not count.
    """
    if find_tool("apt-get") is None:
        return ()
    # `--print-uris` reads every form of source and also answers on a machine without indexes.
    listed = run(("apt-get", "update", "--print-uris"))
    found = re.findall(r"^'((?:https?|file):\S+/)dists/([^/]+)/InRelease'", listed.stdout, re.MULTILINE)
    labels = _labels()
    release = (address for address, suite in found if "-" not in suite)
    return tuple(
        dict.fromkeys(
            address
            for address in release
            if labels.get(address, PurePosixPath(urlsplit(address).path).name).lower() == vendor
        )
    )


def default_keyring(vendor: str) -> Path:
    """Return the keyring of *vendor*'s archive.

    Raises:
        ToolMissing: It is not on this machine; the hint names the package that brings it.
    """
    package = f"{vendor}-archive-keyring"
    for suffix in (".gpg", ".pgp"):
        candidate = _KEYRINGS / f"{package}{suffix}"
        if candidate.is_file():
            return candidate
    raise ToolMissing(
        f"the keyring of `{vendor}`'s archive is not installed: {_KEYRINGS / package}.gpg",
        hint=install_hint(package),
    )


def _labels() -> dict[str, str]:
    """Return archive address -> label, for the archives whose indexes this machine has."""
    form = "$(REPO_URI) $(LABEL)"
    listed = run(("apt-get", "indextargets", "--format", form, "Created-By: Packages"))
    pairs = (line.partition(" ")[::2] for line in listed.stdout.splitlines())
    return {address: label for address, label in pairs if label}


# ---- an apt of its own -------------------------------------------------------------------------------


def _cache_key(question: AptQuestion, address: str) -> str:
    base = question.base
    identity = [address, base.suite, *base.updates, *base.components, question.architecture]
    return f"{base.vendor}-{base.suite}-{sha256_of(canonical_json([*identity]))[:16]}"


@contextmanager
def _locked(folder: Path) -> Iterator[None]:
    """Keep other processes out of *folder*: apt itself gives up when its lists are in use."""
    folder.mkdir(parents=True, exist_ok=True)
    with (folder / "lock").open("w") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        yield


def _configure(folder: Path, question: AptQuestion, address: str, keyring: Path) -> _Apt:
    root = folder.resolve() / "root"
    for name in ("apt.conf.d", "preferences.d", "sources.list.d"):
        (root / "etc/apt" / name).mkdir(parents=True, exist_ok=True)
    for name in ("var/lib/apt/lists/partial", "var/cache/apt/archives/partial", "var/log/apt"):
        (root / name).mkdir(parents=True, exist_ok=True)
    (root / "status").write_text("")
    source = _source(question.base, question.architecture, address, keyring)
    (root / "etc/apt/sources.list.d/archive.sources").write_text(source)
    configuration = root / "apt.conf"
    configuration.write_text(_network_settings() + _settings(root, question))
    # APT_CONFIG is read before the folders it names, so that none of the host's files are.
    env = clean_env(*_PROXY_VARIABLES, APT_CONFIG=str(configuration))
    return _Apt(env=env, status=root / "status")


def _source(base: DebianBase, architecture: str, address: str, keyring: Path) -> str:
    suites = " ".join((base.suite, *base.updates))
    return (
        f"Types: deb\nURIs: {address}\nSuites: {suites}\nComponents: {' '.join(base.components)}\n"
        f"Architectures: {architecture}\nSigned-By: {keyring}\n"
    )


def _settings(root: Path, question: AptQuestion) -> str:
    settings = {
        "Dir": root,
        "Dir::State::status": root / "status",
        "APT::Architecture": question.architecture,
        "APT::Architectures": question.architecture,
        "APT::Install-Recommends": "false",
        "APT::Install-Suggests": "false",
        # The folder may be one that the user `_apt` cannot enter.
        "APT::Sandbox::User": "root",
        "APT::Update::Error-Mode": "any",
        # apt counts itself among the essential packages; Debian does not.
        "pkgCacheGen::ForceEssential": ",",
        "Acquire::AllowInsecureRepositories": "false",
        "Acquire::AllowWeakRepositories": "false",
        "Acquire::AllowDowngradeToInsecureRepositories": "false",
        "Acquire::Languages": "none",
        "Acquire::PDiffs": "false",
        "Acquire::Retries": "2",
        "Acquire::Check-Valid-Until": "false" if question.base.snapshot else "true",
    }
    return "".join(f'{key} "{value}";\n' for key, value in settings.items())


def _network_settings() -> str:
    """Return how this machine's apt reaches the network: proxies, certificates, credentials."""
    words = ("apt-config", "dump", "--format", '%F "%v";%n', "Acquire::http", "Acquire::https")
    settings = run(words).stdout if find_tool("apt-config") else ""
    return f'{settings}Dir::Etc::netrc "/etc/apt/auth.conf";\nDir::Etc::netrcparts "/etc/apt/auth.conf.d";\n'


def _update(apt: _Apt, address: str, keyring: Path) -> list[str]:
    """Fetch the indexes; return why they could not be had, one line per fact."""
    shown = _without_credentials(address)
    try:
        ended = apt.run("apt-get", "update")
    except subprocess.TimeoutExpired:
        return [f"{shown}: no answer within {_UPDATE_TIMEOUT_S} s"]
    faults = _lines(ended.stderr, "E:", "W:")
    refused = any(_NO_ANSWER.search(line) for line in faults)
    if any(
        _SIGNATURE.search(line) for line in faults if not (refused and line.endswith("is not signed."))
    ):
        raise ResolveError(
            f"the archive {shown} is not signed by the keys in `{keyring}`",
            details=tuple(faults),
            hint="its index was altered, or it is another archive: use a mirror that you trust",
        )
    if ended.returncode == 0:
        return []
    faults = [line for line in faults if not (refused and line.endswith("is not signed."))]
    return [f"{shown}: {line}" for line in faults or [f"apt-get update: exit {ended.returncode}"]]


def _without_credentials(address: str) -> str:
    parts = urlsplit(address)
    return urlunsplit(parts._replace(netloc=parts.netloc.rpartition("@")[2]))


def _lines(text: str, *prefixes: str) -> list[str]:
    """Return the lines that begin with one of *prefixes*, without it, each once."""
    found = (
        line.removeprefix(prefix).strip()
        for line in text.splitlines()
        for prefix in prefixes
        if line.startswith(prefix)
    )
    return list(dict.fromkeys(found))


# ---- solving -----------------------------------------------------------------------------------------


def _solve(apt: _Apt, question: AptQuestion) -> AptAnswer:
    names = frozenset(
        apt.run("apt-cache", "pkgnames", "-o", "APT::Cache::AllNames=false").stdout.split()
    )
    roots: dict[tuple[str, str], set[str]] = {}
    installed = dict(question.installed)
    for root, wanted in question.roots:
        if root in installed:
            found = _closure_over(apt, question, wanted, names, status=installed[root])
        else:
            found = _closure(apt, question, wanted, names)
        for pin in found:
            roots.setdefault(pin, set()).add(root)
    debs = _records(apt, roots)
    return tuple(sorted(debs, key=lambda deb: (deb.package, deb.version, deb.architecture)))


def _closure(
    apt: _Apt, question: AptQuestion, wanted: Sequence[str], names: frozenset[str]
) -> set[tuple[str, str]]:
    """Return name and version of all that a root with *wanted* holds."""
    _check_names(question, wanted, names)
    found = _simulate(apt, question, wanted, names)
    # `init-system-helpers` depends on `usrmerge | usr-is-merged`. The first converts a system that was
    # installed long ago, by means of all of Perl; a new root is merged from its first file on, as every
    # tool that bootstraps Debian has it.
    packages = {name for name, _ in found}
    if "usrmerge" in packages and "usrmerge" not in wanted and "usr-is-merged" in names:
        return _simulate(apt, question, [*wanted, "usr-is-merged"], names)
    return found


def _closure_over(
    apt: _Apt, question: AptQuestion, wanted: Sequence[str], names: frozenset[str], *, status: str
) -> set[tuple[str, str]]:
    """Return name and version of all that must be added to what *status* says is installed.

    Raises:
        ResolveError: Something that is installed would have to be removed or replaced.
    """
    _check_names(question, wanted, names | _installed_names(status))
    apt.status.write_text(status, encoding="utf-8")
    try:
        options = ("--no-remove", "--no-upgrade")
        ended = _install(apt, question, (*options, *wanted), names)
    finally:
        apt.status.write_text("")
    replaced = [match for match in _INSTALL.finditer(ended) if match["before"]]
    if replaced:
        raise ResolveError(
            "the base image's own packages would have to be replaced",
            details=tuple(f"{m['name']}: has {m['before']}, needs {m['version']}" for m in replaced),
            hint="take a newer base image, or an older suite or snapshot under `base.packages`",
        )
    return {(match["name"], match["version"]) for match in _INSTALL.finditer(ended)}


def _installed_names(status: str) -> frozenset[str]:
    return frozenset(re.findall(r"^Package: (\S+)", status, re.MULTILINE))


def _check_names(question: AptQuestion, wanted: Sequence[str], names: frozenset[str]) -> None:
    """Refuse what is no package name: apt would read `x-` as a removal and `x.*` as a pattern."""
    odd = [name for name in wanted if not re.fullmatch(r"[a-z0-9][a-z0-9+.-]+(=[^\s,]+)?", name)]
    odd += [name for name in wanted if name.endswith("-") and name not in names]
    if odd:
        _raise_unknown(question, odd, names)


def _simulate(
    apt: _Apt, question: AptQuestion, wanted: Sequence[str], names: frozenset[str]
) -> set[tuple[str, str]]:
    said = _install(apt, question, ("?essential", *wanted), names)
    return {(match["name"], match["version"]) for match in _INSTALL.finditer(said)}


def _install(apt: _Apt, question: AptQuestion, words: Sequence[str], names: frozenset[str]) -> str:
    """Return what apt says that it would do."""
    ended = apt.run("apt-get", "install", "--simulate", "-o", "Debug::NoLocking=true", *words)
    if ended.returncode == 0:
        return ended.stdout
    unknown = [next(filter(None, match.groups())) for match in _UNKNOWN.finditer(ended.stderr)]
    if unknown:
        _raise_unknown(question, unknown, names)
    chain = ended.stdout.partition("unmet dependencies:\n")[2].splitlines()
    on_image = "; an image may hold packages of an updates suite, which `base.packages.updates` names"
    raise ResolveError(
        f"apt finds no set of packages of `{question.base.suite}` that holds all that is wanted",
        details=(*(" ".join(line.split()) for line in chain), *_lines(ended.stderr, "E:")),
        hint=f"drop or change a package under `apt`, or take another suite under `{_key(question)}`"
        f"{on_image if question.installed else ''}",
    )


def _key(question: AptQuestion) -> str:
    return "base.packages" if question.installed else "base.debian"


def _raise_unknown(question: AptQuestion, unknown: Iterable[str], names: frozenset[str]) -> None:
    base = question.base
    details = []
    for name in dict.fromkeys(unknown):
        close = get_close_matches(name, names, n=3)
        nearest = ", ".join(f"`{match}`" for match in close)
        details.append(f"`{name}`" + (f": did you mean {nearest}?" if close else ""))
    raise ResolveError(
        f"the suite `{base.suite}` ({', '.join(base.components)}) has no such package",
        details=tuple(details),
        hint=f"correct the name under `apt`, or add the component that holds it to `{_key(question)}`",
    )


def _records(apt: _Apt, roots: dict[tuple[str, str], set[str]]) -> Iterator[LockedDeb]:
    """Yield the record of every package in *roots*, as the signed index has it."""
    if not roots:
        return
    pins = sorted(f"{name}={version}" for name, version in roots)
    shown = apt.run("apt-cache", "show", *pins)
    seen: set[tuple[str, str]] = set()
    for record in Packages.iter_paragraphs(shown.stdout, use_apt_pkg=False):
        pin = (record["Package"], record["Version"])
        if pin not in roots or pin in seen:
            continue
        seen.add(pin)
        yield LockedDeb(
            package=pin[0],
            version=pin[1],
            architecture=record["Architecture"],
            path=record["Filename"].removeprefix("./"),
            sha256=parse_sha256(record["SHA256"]),
            size=int(record["Size"]),
            source=_source_package(record),
            roots=tuple(sorted(roots[pin])),
        )
    if missing := sorted("=".join(pin) for pin in set(roots) - seen):
        raise ResolveError("apt gives no record of a package it chose", details=tuple(missing))


def _source_package(record: Packages) -> str:
    name, _, version = record.get("Source", record["Package"]).partition(" ")
    return f"{name} {version.strip('() ') or record['Version']}"
