"""Words of a stack file: strings that must have a certain form, and lists without doubles. Pure."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Annotated, Any

from packaging.requirements import InvalidRequirement, Requirement
from packaging.utils import canonicalize_name
from packaging.version import Version
from pydantic import AfterValidator
from pydantic_core import PydanticCustomError

from lockbuild.baseimage import parse_reference

if TYPE_CHECKING:
    from collections.abc import Callable

__all__ = [
    "TABLE",
    "TEXT",
    "Absolute",
    "Address",
    "Capability",
    "Commit",
    "DebianPackage",
    "Digest",
    "Held",
    "HostCommand",
    "ImageCommand",
    "ImageReference",
    "InSource",
    "InTree",
    "Inside",
    "Module",
    "Moment",
    "MountPoint",
    "Name",
    "PackageVersion",
    "Pattern",
    "Project",
    "PythonVersion",
    "Reason",
    "Ref",
    "RequirementText",
    "Sdist",
    "Snapshot",
    "SourceName",
    "Suite",
    "TreePattern",
    "UpdatesSuite",
    "User",
    "Value",
    "Variable",
    "VersionPair",
    "WheelName",
    "fault",
    "matching",
    "not_default",
    "text_or_table",
    "unique",
    "unique_paths",
    "wheel_name",
]


def fault(expected: str) -> PydanticCustomError:
    """Return the error that says what was *expected* in place of a value."""
    return PydanticCustomError("lockbuild", "{expected}", {"expected": expected})


def matching(pattern: str, expected: str) -> Callable[[str], str]:
    """Return the check that a whole text fits *pattern*; else it was to be what *expected* says."""
    compiled = re.compile(pattern, re.ASCII)

    def check(text: str) -> str:
        if not compiled.fullmatch(text):
            raise fault(expected)
        return text

    return check


def _requirement(text: str) -> str:
    try:
        requirement = Requirement(text)
    except InvalidRequirement as error:
        raise fault(f"a requirement such as `numpy>=1.26,<2` ({str(error).splitlines()[0]})") from error
    if requirement.url:
        raise fault(
            "a requirement without an address: a file from elsewhere is a `[[build]]` or an index"
        )
    return text


def _sdist(text: str) -> str:
    """Accept `NAME==VERSION`."""
    name, _, version = text.partition("==")
    try:
        canonicalize_name(name, validate=True)
    except ValueError as error:
        raise fault("an sdist as `NAME==VERSION`") from error
    if not _is_version(version):
        raise fault("an sdist as `NAME==VERSION`")
    return text


def _version(text: str) -> str:
    if not _is_version(text):
        raise fault("a version such as `2.0.10`")
    return text


def _image(text: str) -> str:
    try:
        parse_reference(text)
    except ValueError as error:
        raise fault(str(error)) from error
    return text


def _is_version(text: str) -> bool:
    try:
        Version(text)
    except ValueError:
        return False
    # `packaging` overlooks spaces around a version; file names and shell commands would not.
    return text == text.strip()


def _project(text: str) -> str:
    if canonicalize_name(text) != text or not re.fullmatch(r"[a-z0-9]([a-z0-9-]*[a-z0-9])?", text):
        raise fault(f"a normalised project name: `{canonicalize_name(text)}`")
    return text


def _inside(expected: str) -> Callable[[str], str]:
    def check(text: str) -> str:
        parts = [part for part in text.split("/") if part not in {"", "."}]
        if text.startswith("/") or ".." in parts or "\\" in text or not parts:
            raise fault(expected)
        return text

    return check


def _one_path(text: str) -> str:
    if "*" in text or "?" in text:
        raise fault("one path: patterns are not for edits")
    return text


def _in_tree(text: str) -> str:
    expected = "a path inside the other source, with forward slashes; `.` is all of it"
    return text if text == "." else _inside(expected)(text)


Name = Annotated[
    str,
    AfterValidator(matching(r"[a-z0-9][a-z0-9._-]{0,62}", "lower-case letters, digits, `.`, `_`, `-`")),
]
Project = Annotated[str, AfterValidator(_project)]
Sdist = Annotated[str, AfterValidator(_sdist)]
PackageVersion = Annotated[str, AfterValidator(_version)]
RequirementText = Annotated[str, AfterValidator(_requirement)]
VersionPair = Annotated[str, AfterValidator(matching(r"\d+\.\d+", "`MAJOR.MINOR`, such as `2.36`"))]
PythonVersion = Annotated[
    str, AfterValidator(matching(r"3\.\d+", "a Python as `3.MINOR`, such as `3.11`"))
]
Capability = Annotated[
    str,
    AfterValidator(matching(r"\d+\.\d+a?(\+PTX)?", "a compute capability such as `8.6` or `8.6+PTX`")),
]
DebianPackage = Annotated[
    str, AfterValidator(matching(r"[a-z0-9][a-z0-9+.-]+", "a Debian package's name, without version"))
]
Suite = Annotated[
    str,
    AfterValidator(
        matching(
            r"[a-z]+",
            "a release suite such as `bookworm` (its updates and security suites are not used)",
        )
    ),
]
UpdatesSuite = Annotated[
    str,
    AfterValidator(
        matching(r"[a-z]+-[a-z]+", "a further suite of the same archive, such as `focal-updates`")
    ),
]
ImageReference = Annotated[str, AfterValidator(_image)]
HostCommand = Annotated[
    str,
    AfterValidator(
        matching(r"python[A-Za-z0-9._+-]*", "a Python on this machine's PATH, such as `python3.12`")
    ),
]
ImageCommand = Annotated[
    str,
    AfterValidator(
        matching(
            r"(/(?!\.\.?(/|$))[A-Za-z0-9._+-]+)+|[A-Za-z0-9._+-]+",
            "a command of the image, such as `python3.8`, or its absolute path",
        )
    ),
]
Snapshot = Annotated[
    str, AfterValidator(matching(r"\d{8}T\d{6}Z", "a time stamp such as `20250601T000000Z`"))
]
Moment = Annotated[
    str,
    AfterValidator(
        matching(
            r"\d{4}-\d\d-\d\d(T\d\d:\d\d:\d\dZ)?",
            "a date such as `2025-06-01` or `2025-06-01T00:00:00Z`",
        )
    ),
]
Address = Annotated[
    str,
    AfterValidator(matching(r"(https?|file)://\S+", "an address that begins with `https://`")),
    AfterValidator(
        matching(
            r"[a-z]+://[^/?#@\s]*(?:[/?#].*)?",
            "an address without a user's name or password, which would stand in locks and wheels: they belong"
            " into each machine's ~/.netrc or git's credential helper",
        )
    ),
]
Variable = Annotated[
    str, AfterValidator(matching(r"[A-Za-z_][A-Za-z0-9_]*", "an environment variable's name"))
]
Value = Annotated[str, AfterValidator(matching(r"[^\x00\n]*", "one line of text"))]
Module = Annotated[
    str,
    AfterValidator(matching(r"[A-Za-z_]\w*(\.[A-Za-z_]\w*)*", "a module's name such as `mmcv.ops`")),
]
Commit = Annotated[
    str, AfterValidator(matching(r"[0-9a-f]{40}", "a whole commit: 40 lower-case hexadecimal digits"))
]
Ref = Annotated[
    str,
    AfterValidator(
        matching(
            r"(?![0-9a-f]{40}$)(?!.*(\.\.|//|/$|\.lock$))[A-Za-z0-9_][A-Za-z0-9_./+@-]*",
            "a branch or a tag, such as `v2.0`; a whole commit is a `commit`",
        )
    ),
]
TreePattern = Annotated[
    str,
    AfterValidator(
        matching(
            r"(?!/)(?!.*(^|/)\.\.(/|$))[^\x00\n\\]+",
            "a path pattern from the top of the tree: `projects/**`",
        )
    ),
]
Digest = Annotated[str, AfterValidator(matching(r"[0-9a-f]{64}", "a sha256: 64 hexadecimal digits"))]
wheel_name = matching(r"[A-Za-z0-9._+!-]+\.whl", "a wheel's file name")
WheelName = Annotated[str, AfterValidator(wheel_name)]
Inside = Annotated[str, AfterValidator(_inside("a path below the stack's folder, with forward slashes"))]
Pattern = Annotated[
    str, AfterValidator(_inside("a pattern of files in the wheel, such as `mmcv/_ext*.so`"))
]
InSource = Annotated[
    str,
    AfterValidator(_one_path),
    AfterValidator(_inside("a path inside the source, with forward slashes")),
]
InTree = Annotated[str, AfterValidator(_in_tree)]
SourceName = Annotated[
    str, AfterValidator(matching(r"[A-Za-z0-9][A-Za-z0-9._-]{0,62}", "the name of a source"))
]
Reason = Annotated[str, AfterValidator(matching(r"[^\x00\n]*\S[^\x00\n]*", "one line that says why"))]
User = Annotated[
    str, AfterValidator(matching(r"[a-z_][a-z0-9_-]{0,31}", "a user's name such as `lockbuild`"))
]
Absolute = Annotated[
    str, AfterValidator(matching(r"/[A-Za-z0-9._/-]*", "an absolute path in the image"))
]
MountPoint = Annotated[
    str,
    AfterValidator(
        matching(
            r"(/(?!\.\.?(/|$))[A-Za-z0-9._-]+)+",
            "an absolute path in the image, such as `/app/data/smpl`",
        )
    ),
]
Held = Annotated[
    str, AfterValidator(_inside("a path or pattern below the mount, such as `models/*.pkl`"))
]


def not_default(text: str) -> str:
    """Accept the name of an index that is not the default one."""
    if text == "pypi":
        raise fault("another name: `pypi` is the default index as configured on the machine")
    return text


TEXT, TABLE = "<text>", "<table>"
"""Which of both a value is that may be either: no keys, and left out of key paths."""


def text_or_table(value: object) -> str:
    """Return `TABLE` for a table, else `TEXT`."""
    return TABLE if isinstance(value, dict) else TEXT


def unique(tables: list[Any]) -> list[Any]:
    """Accept tables whose names differ."""
    _no_twins([table.name for table in tables], "name")
    return tables


def unique_paths(tables: list[Any]) -> list[Any]:
    """Accept tables whose paths differ."""
    _no_twins([table.path for table in tables], "path")
    return tables


def _no_twins(names: list[str], what: str) -> None:
    twice = sorted({name for name in names if names.count(name) > 1})
    if twice:
        raise fault(f"each {what} once; twice: {', '.join(f'`{name}`' for name in twice)}")
