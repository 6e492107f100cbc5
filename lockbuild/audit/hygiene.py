"""Can it be made again, and is nothing in it that should not be? Store, wheelhouse and stack file; asks nobody."""

from __future__ import annotations

import re
from dataclasses import fields, is_dataclass
from typing import TYPE_CHECKING, Any
from urllib.parse import parse_qsl, urlsplit

from lockbuild.audit.rules import Found, Rule, Skip, manifest_of
from lockbuild.errors import LockbuildError
from lockbuild.findings import Check
from lockbuild.realise import BUILDER_NOTE
from lockbuild.rebuilding import read_claim
from lockbuild.stack.assets import ON_FIRST_FETCH

if TYPE_CHECKING:
    from collections.abc import Iterator

    from lockbuild.audit.rules import Subject
    from lockbuild.derivation import PathInfo
    from lockbuild.digest import StorePath
    from lockbuild.store.history import Verdict

__all__ = ["RULES"]

_SHOWN = 3
_SANDBOXES = ("container", "sandbox")
_ROOTS = ("0", "root")

# ---- made, and made again -------------------------------------------------------------------------


def _made(subject: Subject) -> Iterator[tuple[str, PathInfo, Verdict | None]]:
    """Yield each build that the store has, by name, with what the last check of it found."""
    made = [*subject.plan.builds, *subject.plan.roots, *subject.plan.prefixes]
    infos = [(name, info) for name, path in made if (info := subject.store.info(path))]
    if made and not infos:
        raise Skip("the store has none of the builds: `lockbuild build`")
    for name, info in infos:
        yield name, info, subject.store.history.verdict(info.path, info.sha256)


def _never_checked(subject: Subject) -> Iterator[Found]:
    compiles = dict(subject.plan.compiles)
    for name, _, verdict in _made(subject):
        if verdict is None:
            known = name not in compiles or _builder(subject, compiles[name])
            by = "" if known else ", nobody knows by what,"
            yield Found(name, f"it was built once{by} and never again to compare")


def _not_reproducible(subject: Subject) -> Iterator[Found]:
    for name, _, verdict in _made(subject):
        if verdict and not verdict.identical:
            lines = [line.strip() for line in verdict.differences]
            more = [f"{len(lines) - _SHOWN} more"] if len(lines) > _SHOWN else []
            said = "; ".join([*lines[:_SHOWN], *more])
            yield Found(
                name, f"built again on {verdict.when[:10]} ({verdict.where}), it differed: {said}"
            )


def _built_elsewhere(subject: Subject) -> Iterator[Found]:
    for name, path in subject.plan.compiles:
        # The wheel that people get was stamped; what compiled it is what matters.
        engine = _builder(subject, path)
        if engine and engine not in _SANDBOXES:
            yield Found(name, f"`{engine}` built it, which is no sandbox")


def _builder(subject: Subject, path: StorePath) -> str:
    """Return what built an object; empty where the store does not say: a former lockbuild, or somebody else."""
    return (subject.store.note(path, BUILDER_NOTE) or "").strip()


def _wheel_provenance(subject: Subject) -> Iterator[Found]:
    stamped, compiles = dict(subject.plan.builds), dict(subject.plan.compiles)
    waiting = {name for name, _ in subject.plan.blocked}
    for entry in manifest_of(subject).wheels:
        file = subject.wheelhouse / entry.filename
        if entry.origin != "built" or entry.name in waiting or not file.is_file():
            continue
        try:
            claim = read_claim(file)
        except LockbuildError as error:
            yield Found(entry.filename, error.message.replace(f"`{entry.filename}`", "it"))
            continue
        if claim.provenance.build != compiles.get(entry.name):
            yield Found(
                entry.filename,
                f"its record says {claim.provenance.build}, the lock asks for {compiles.get(entry.name)}",
            )
        elif claim.stamped.path != stamped[entry.name]:
            yield Found(
                entry.filename, f"it was stamped as {claim.stamped.path}, not {stamped[entry.name]}"
            )


# ---- the stack file -------------------------------------------------------------------------------


def _weak_hash(subject: Subject) -> Iterator[Found]:
    for asset in subject.stack.bundles:
        kinds = sorted({kind for kind, _ in asset.checksums})
        strong = asset.sha256 not in (None, ON_FIRST_FETCH) or "lfs-oid" in kinds
        if kinds and not strong:
            yield Found(
                f"asset {asset.name}",
                f"{' and '.join(kinds)} is all that anybody but the server told: SHA-1 can be forged",
            )


def _root_user(subject: Subject) -> Iterator[Found]:
    user = subject.stack.image.user
    if user.partition(":")[0] in _ROOTS:
        yield Found("image.user", f"the image's command runs as `{user}`")


# Words of https://github.com/gitleaks/gitleaks and of GitHub's secret scanning: shapes that nothing else has.
_TOKENS = (
    ("a token of GitHub's", r"gh[pousr]_[A-Za-z0-9]{30,}|github_pat_[A-Za-z0-9_]{40,}"),
    ("a token of GitLab's", r"glpat-[A-Za-z0-9_-]{20,}"),
    ("a token of Hugging Face's", r"hf_[A-Za-z0-9]{30,}"),
    ("a token of PyPI's", r"pypi-[A-Za-z0-9_-]{50,}"),
    ("a token of npm's", r"npm_[A-Za-z0-9]{36}"),
    ("a token of Slack's", r"xox[abposr]-[A-Za-z0-9-]{10,}"),
    ("a key of AWS", r"\b(?:AKIA|ASIA)[A-Z0-9]{16}\b"),
    ("a key of Google's", r"AIza[A-Za-z0-9_-]{35}"),
    ("a key of OpenAI's or Anthropic's", r"\bsk-(?:proj-|ant-)?[A-Za-z0-9_-]{32,}"),
    ("a key of Weights & Biases", r"\bWANDB_API_KEY\s*=\s*[0-9a-f]{40}\b"),
    ("a JSON web token", r"\beyJ[A-Za-z0-9_-]{10,}\.eyJ[A-Za-z0-9_-]{10,}\.[A-Za-z0-9_-]{10,}"),
    ("a private key", r"-----BEGIN (?:[A-Z]+ )*PRIVATE KEY-----"),
)
_SECRET_NAME = re.compile(
    r"(^|_)(TOKEN|SECRET|PASSWORD|PASSWD|PASSPHRASE|CREDENTIALS?|(API|ACCESS|PRIVATE|SECRET)_?KEY)$"
)
_NO_SECRET = re.compile(r"|[0-9]{1,6}|true|false|none|yes|no|/.*|\$\{?\w+\}?", re.IGNORECASE)
_SECRET_QUERY = re.compile(
    r"(access_?|auth_?|private_)?token|sig|signature|secret|password|(api|access)_?key|x-(amz|goog)-signature",
    re.IGNORECASE,
)


def _stack_secret(subject: Subject) -> Iterator[Found]:
    found: dict[str, str] = {}
    for place, text in _strings(subject.stack, ""):
        for what, pattern in _TOKENS:
            if re.search(pattern, text):
                found.setdefault(place, f"it has {what}")
        for address in re.findall(r"\w[\w+.-]*://[^\s'\"<>]+", text):
            if fault := _secret_in(address):
                found.setdefault(place, fault)
    for place, env in (
        ("env", subject.stack.env),
        *((f"build[{spec.name}].env", spec.env) for spec in subject.stack.builds),
    ):
        for name, value in env:
            if _SECRET_NAME.search(name.upper()) and not _NO_SECRET.fullmatch(value):
                found.setdefault(f"{place}.{name}", "a variable of that name holds a secret")
    for place, fault in sorted(found.items()):
        yield Found(place, fault)


def _secret_in(address: str) -> str | None:
    """Return what secret is in an address, without saying it."""
    try:
        parts = urlsplit(address)
        if parts.password or (parts.username and parts.scheme.startswith("http")):
            return f"an address of {parts.hostname} has credentials in it"
        keys = [key for key, value in parse_qsl(parts.query) if value and _SECRET_QUERY.fullmatch(key)]
    except ValueError:
        return None
    return f"an address of {parts.hostname} is signed: `{keys[0]}` in its query" if keys else None


def _strings(value: Any, place: str) -> Iterator[tuple[str, str]]:  # noqa: ANN401 - any value of a stack
    """Yield every text of a stack, with its key path as people write it."""
    if isinstance(value, str):
        yield place, value
    elif is_dataclass(value):
        for field in fields(value):
            name = {"builds": "build", "sources": "source", "assets": "asset"}.get(
                field.name, field.name
            )
            yield from _strings(getattr(value, field.name), f"{place}.{name}".lstrip("."))
    elif isinstance(value, tuple):
        for number, item in enumerate(value):
            if place.rpartition(".")[2] == "env" and isinstance(item, tuple):
                # A token may be told by the name of its variable.
                yield f"{place}.{item[0]}", f"{item[0]}={item[1]}"
            else:
                yield from _strings(item, f"{place}[{getattr(item, 'name', number)}]")


RULES = (
    Rule(
        Check(
            id="never-checked",
            level="warning",
            what="everything that was built has been built a second time, and compared",
            why="nobody knows whether it can be made again until somebody did",
            mend="`lockbuild check STACK NAME`",
        ),
        _never_checked,
    ),
    Rule(
        Check(
            id="not-reproducible",
            level="error",
            what="what was built a second time had the same bytes",
            why="what cannot be made again cannot be verified by anybody else, nor pinned for good",
            mend="`lockbuild check STACK NAME` shows what differs; where nothing helps, `[audit.levels]`"
            " takes the reason",
        ),
        _not_reproducible,
    ),
    Rule(
        Check(
            id="built-elsewhere",
            level="warning",
            what="everything that was built was built in a sandbox without a network",
            why="what a machine's own compilers and downloads went into is known to that machine alone",
            mend="`lockbuild check STACK NAME` builds it in the sandbox and compares",
        ),
        _built_elsewhere,
    ),
    Rule(
        Check(
            id="wheel-provenance",
            level="error",
            what="the record in every built wheel is that of the build that the lock asks for",
            why="a wheel of another build, or of a machine's own toolchain, looks the same from outside",
            mend="delete the wheel, then `lockbuild build`",
            about="wheelhouse",
        ),
        _wheel_provenance,
    ),
    Rule(
        Check(
            id="weak-hash",
            level="warning",
            what="the hash of every asset that upstream publishes is a strong one",
            why="two files can be made that have the same SHA-1",
            mend="compare the sha256 in the lock with what others have, and write it into the stack",
        ),
        _weak_hash,
    ),
    Rule(
        Check(
            id="root-user",
            level="warning",
            what="the image's command does not run as root",
            why="whoever breaks out of the program has the whole container, and root's files on what is mounted",
            mend="leave `image.user` out; what must be written to is a mount, or `writable = true`",
        ),
        _root_user,
    ),
    Rule(
        Check(
            id="stack-secret",
            level="error",
            what="the stack has no secret in it",
            why="it goes into version control, the lock and the image, for all who can read those",
            mend="take it out, have it revoked, and give it to the running container or to the configuration",
        ),
        _stack_secret,
    ),
)
