"""What nobody means to leave in a layer: secrets, and paths of the machine that built it. Pure; shows no secret."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable, Collection

    from lockbuild.digest import Sha256

__all__ = ["PATH", "SECRET", "looker", "secret_name", "secrets_in", "secrets_said", "veiled"]

SECRET, PATH = "secret: ", "path: "
"""What the words of `looker` begin with."""

# Forms that their issuers publish, so that scanners find them. What each begins with is looked for first: that is
# many times as fast as a pattern.
_FORMS = (
    ("a private key", (b"PRIVATE KEY",), rb"-----BEGIN (?:[A-Z]+ )*PRIVATE KEY(?: BLOCK)?-----"),
    ("an access key of AWS", (b"AKIA", b"ASIA"), rb"\b(?:AKIA|ASIA)[A-Z2-7]{16}\b"),
    ("a key of a Google API", (b"AIza",), rb"\bAIza[0-9A-Za-z_-]{35}(?![0-9A-Za-z_-])"),
    (
        "a token of GitHub",
        (b"ghp_", b"gho_", b"ghs_", b"ghr_", b"ghu_", b"github_pat_"),
        rb"\b(?:gh[opsru]_[A-Za-z0-9]{36}|github_pat_[A-Za-z0-9_]{82})\b",
    ),
    ("a token of GitLab", (b"glpat-",), rb"\bglpat-[A-Za-z0-9_-]{20}"),
    ("a token of Hugging Face", (b"hf_",), rb"\bhf_[A-Za-z]{34}\b"),
    ("a token of npm", (b"npm_",), rb"\bnpm_[A-Za-z0-9]{36}\b"),
    ("a token of PyPI", (b"pypi-AgE",), rb"\bpypi-AgE[A-Za-z0-9_-]{60}"),
    ("a token of Slack", (b"xox",), rb"\bxox[abeoprs]-[0-9]+-[0-9A-Za-z-]{20}"),
)
# What is a secret where it stands in a file of that name. No pattern here goes over the same bytes again for each
# place where it may begin: files of strangers are made for those that do.
_NAMES = (
    (r"(^|/)[._]netrc$", rb"\bpassword\s+\S", "a password for a server"),
    (r"(^|/)\.git-credentials$", rb"://[^\s/@:]+:[^\s/@]+@", "a password for a repository"),
    (
        r"(^|/)(pip\.conf|\.?pydistutils\.cfg|uv\.toml)$",
        rb"://[^\s/@:]+:[^\s/@]+@",
        "a password for an index",
    ),
    (r"(^|/)\.pypirc$", rb"(?m)^[ \t]*password[ \t]*[=:]\s*\S", "a password for an index"),
    (r"(^|/)\.npmrc$", rb"_(authToken|password|auth)\s*=\s*\S", "a token for an index"),
    (r"(^|/)\.condarc$", rb"://[^\s/@:]+:[^\s/@]+@|/t/[\w-]{8}", "a token for a channel"),
    (r"(^|/)\.docker/config\.json$", rb'"auth"\s*:\s*"[^"]', "a password for a registry"),
    (r"(^|/)\.aws/credentials$", rb"aws_secret_access_key\s*=\s*\S", "a secret key of AWS"),
    (r"(^|/)\.kube/config$", rb"(client-key-data|token)\s*:\s*\S", "a key of a cluster"),
    (r"(^|/)(\.cache/huggingface|\.huggingface)/token$", rb"\S", "a token of Hugging Face"),
    (r"(^|/)\.ssh/id_[a-z0-9]+$", rb"\S", "a private key"),
)
_NAMED = tuple((re.compile(name), re.compile(content), words) for name, content, words in _NAMES)
_VARIABLE = re.compile(r"(?i)(^|_)(password|passwd|secret|token|api_?key|access_?key|credentials?)(_|$)")
_IN_ADDRESS = re.compile(r"(?<=://)[^\s/@:$<{]+:[^\s/@$<{]+(?=@)")
# Where instructions and settings say one without a form of its own: the name before it, and the secret.
_NAMED_IN_TEXT = re.compile(r"(?P<name>\b\w+)=(?:\"[^\"]*\"|'[^']*'|[^\s\"']+)")
_TOLD_IN_TEXT = re.compile(
    r"(?i)(?P<before>--?(?:password|passwd|secret|token|api-?key)[ =]|\bauthorization: *(?:(?:bearer|basic|token) *)?)"
    r"[^\s\"']+"
)
_KEY_IN_TEXT = re.compile(r"-----BEGIN (?:[A-Z]+ )*PRIVATE KEY.*", re.DOTALL)
_NOT_SHOWN = "(not shown)"
_PATH_OF = re.compile(rb"(?<![\w.~/-])/(?:home|Users)/[A-Za-z][\w.-]{0,31}/[\w./+-]{1,120}")


def looker(known: Collection[str], *, home: str) -> Callable[[str, Sha256, bytes], tuple[str, ...]]:
    """Return what looks into files: it answers in words that begin with `SECRET` or `PATH`.

    Args:
        known: Sha256 of what the lock itself brings, which is not looked into.
        home: The home folder of the image's own user.
    """
    own = f"{home}/".encode()

    def look(path: str, sha256: Sha256, data: bytes) -> tuple[str, ...]:
        # Bytecode has what its module has, examples in its texts among it.
        if sha256 in known or path.endswith(".pyc"):
            return ()
        seen = [f"{SECRET}{words}" for words in secrets_in(path, data)]
        homes = b"/home/" in data or b"/Users/" in data
        found = (match[0] for match in _PATH_OF.finditer(data if homes else b""))
        paths = next((one for one in found if not one.startswith(own)), None)
        if paths is not None:
            seen.append(f"{PATH}{paths.decode('ascii', 'replace')}")
        return tuple(seen)

    return look


def secrets_in(path: str, data: bytes) -> tuple[str, ...]:
    """Return what secrets *data* holds, in words; nothing of them is in the words."""
    found = {
        words
        for words, beginnings, form in _FORMS
        if any(beginning in data for beginning in beginnings) and re.search(form, data)
    }
    found |= {words for name, content, words in _NAMED if name.search(path) and content.search(data)}
    return tuple(sorted(found))


def secrets_said(text: str) -> tuple[str, ...]:
    """Return what secrets an instruction or a setting holds, in words; nothing of them is in the words."""
    found = secrets_in("", text.encode("utf-8", "surrogatepass"))
    return (*found, "a password in an address") if _IN_ADDRESS.search(text) else found


def veiled(text: str) -> str:
    """Return an instruction or a setting without the secrets that it says."""
    text = _KEY_IN_TEXT.sub(_NOT_SHOWN, text)
    text = _IN_ADDRESS.sub(_NOT_SHOWN, text)
    text = _TOLD_IN_TEXT.sub(rf"\g<before>{_NOT_SHOWN}", text)
    text = _NAMED_IN_TEXT.sub(
        lambda found: f"{found['name']}={_NOT_SHOWN}" if secret_name(found["name"]) else found[0], text
    )
    data = text.encode("utf-8", "surrogatepass")
    for _, _, form in _FORMS:
        data = re.sub(form, _NOT_SHOWN.encode(), data)
    return data.decode("utf-8", "surrogatepass")


def secret_name(variable: str) -> bool:
    """Whether a variable of that name holds something that is not to be shown."""
    return _VARIABLE.search(variable) is not None
