"""Under which licences a Debian package is, by its copyright file. Pure.

Most are in the machine-readable form (https://www.debian.org/doc/packaging-manuals/copyright-format/1.0/), whose short
names are looked up; a name that SPDX does not know becomes a `LicenseRef-` of the package, whose text the file has.
The others are prose: the licences whose words they have, or whose text in /usr/share/common-licenses they name.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from lockbuild.licences.expressions import all_of, canonical
from lockbuild.licences.texts import recognise, words_of
from lockbuild.licences.told import Told

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

__all__ = ["of_copyright"]

_TOLD_BY = "copyright"
_MOST_DECLARED = 200
_FIELD = re.compile(
    r"(?m)^(?P<name>[A-Za-z][A-Za-z-]*):[ \t]*(?P<first>[^\n]*)(?P<rest>(?:\n[ \t]+[^\n]*)*)"
)
_FORMAT = re.compile(
    r"(?i)^(format|format-specification):\s*\S*(copyright-format|dep5|dep-5|dep\.)", re.MULTILINE
)

# https://www.debian.org/doc/packaging-manuals/copyright-format/1.0/#license-short-name, and what packages write
# beside it. `+` is said apart from these.
_SHORT = {
    "0bsd": "0BSD",
    "afl-2.0": "AFL-2.0",
    "afl-2.1": "AFL-2.1",
    "agpl-3": "AGPL-3.0",
    "apache-2": "Apache-2.0",
    "apache-2.0": "Apache-2.0",
    "artistic": "Artistic-1.0-Perl",
    "artistic-1": "Artistic-1.0-Perl",
    "artistic-2": "Artistic-2.0",
    "artistic-2.0": "Artistic-2.0",
    "beerware": "Beerware",
    "bitstream-vera": "Bitstream-Vera",
    "boost-1.0": "BSL-1.0",
    "bsd-1-clause": "BSD-1-Clause",
    "bsd-2-clause": "BSD-2-Clause",
    "bsd-3-clause": "BSD-3-Clause",
    "bsd-3-clause-clear": "BSD-3-Clause-Clear",
    "bsd-4-clause": "BSD-4-Clause",
    "bsd-4-clause-uc": "BSD-4-Clause-UC",
    "bsl-1.0": "BSL-1.0",
    "bzip2-1.0.6": "bzip2-1.0.6",
    "cc-by-3.0": "CC-BY-3.0",
    "cc-by-4.0": "CC-BY-4.0",
    "cc-by-sa-3.0": "CC-BY-SA-3.0",
    "cc-by-sa-4.0": "CC-BY-SA-4.0",
    "cc0": "CC0-1.0",
    "cc0-1.0": "CC0-1.0",
    "expat": "MIT",
    "fsfap": "FSFAP",
    "fsful": "FSFUL",
    "fsfullr": "FSFULLR",
    "ftl": "FTL",
    "gfdl-1.1": "GFDL-1.1",
    "gfdl-1.2": "GFDL-1.2",
    "gfdl-1.3": "GFDL-1.3",
    "gfdl-niv-1.1": "GFDL-1.1-no-invariants",
    "gfdl-niv-1.2": "GFDL-1.2-no-invariants",
    "gfdl-niv-1.3": "GFDL-1.3-no-invariants",
    "gpl": "GPL",
    "gpl-1": "GPL-1.0",
    "gpl-2": "GPL-2.0",
    "gpl-2.0": "GPL-2.0",
    "gpl-3": "GPL-3.0",
    "gpl-3.0": "GPL-3.0",
    "icu": "ICU",
    "ijg": "IJG",
    "isc": "ISC",
    "latex2e": "Latex2e",
    "lgpl": "LGPL",
    "lgpl-2": "LGPL-2.0",
    "lgpl-2.0": "LGPL-2.0",
    "lgpl-2.1": "LGPL-2.1",
    "lgpl-3": "LGPL-3.0",
    "lgpl-3.0": "LGPL-3.0",
    "libpng": "Libpng",
    "libtiff": "libtiff",
    "mit": "MIT",
    "mpl-1.0": "MPL-1.0",
    "mpl-1.1": "MPL-1.1",
    "mpl-2.0": "MPL-2.0",
    "ms-pl": "MS-PL",
    "ntp": "NTP",
    "ofl-1.1": "OFL-1.1",
    "pd": "LicenseRef-public-domain",
    "public-domain": "LicenseRef-public-domain",
    "sleepycat": "Sleepycat",
    "sunpro": "SunPro",
    "tcl": "TCL",
    "unicode-dfs-2016": "Unicode-DFS-2016",
    "unlicense": "Unlicense",
    "wtfpl-2": "WTFPL",
    "x11": "X11",
    "zlib": "Zlib",
    "zlib/libpng": "Zlib",
}
_VERSIONED = re.compile(r"(A|L)?GPL-[0-9.]+|GFDL-[0-9.]+(-no-invariants)?")
# A name without a version means any: section 9 of the GPL's second version says so.
_ANY = {"GPL": "GPL-1.0-or-later", "LGPL": "LGPL-2.0-or-later"}
# Words after `with` -> exception, by the version of the GPL where that decides.
_EXCEPTIONS = (
    (re.compile(r"auto-?conf[ -]macros?"), {"": "Autoconf-exception-macro"}),
    (re.compile(r"auto-?conf"), {"2": "Autoconf-exception-2.0", "3": "Autoconf-exception-3.0"}),
    (re.compile(r"bison"), {"": "Bison-exception-2.2"}),
    (re.compile(r"classpath"), {"": "Classpath-exception-2.0"}),
    (re.compile(r"font"), {"2": "Font-exception-2.0"}),
    (re.compile(r"gcc"), {"3": "GCC-exception-3.1", "2": "GCC-exception-2.0"}),
    (re.compile(r"libtool"), {"": "Libtool-exception"}),
    (re.compile(r"linux-syscall"), {"": "Linux-syscall-note"}),
    (re.compile(r"llvm"), {"": "LLVM-exception"}),
    (re.compile(r"texinfo"), {"": "Texinfo-exception"}),
)
_WITH = re.compile(r"[ -]with[ -](.*?)(?:[ -]exceptions?)?$|-(\w+)-exceptions?$", re.IGNORECASE)
_JOINT = re.compile(r"(,? (?:and/or|and|or) )", re.IGNORECASE)

# What prose says of the GPL and its kin, in words alone.
_GNU_NOTICE = re.compile(
    r"gnu (?P<kind>general|lesser general|library general|affero general) public licen[cs]e"
    r"(?: (?!exception)\w+){0,14}? version (?P<version>2 [01]|[123])\b"
    r"(?P<later>(?: of the licen[cs]e)?(?: \w+){0,3}? or (?:\w+ ){0,4}?any later version)?"
)
# What comes before the name of a text where somebody only says where it is.
_POINTER = re.compile(
    r"(?:text|copy|copies|version) of (?:the )?$|\bthe latest version of the $|exception(?: \w+){0,3}$"
)
_GCC_EXCEPTION = "gcc runtime library exception"
_COMMON = re.compile(r"/usr/share/common-licenses/([A-Za-z0-9][A-Za-z0-9.+-]*[A-Za-z0-9+])")
_GNU_KINDS = {
    "general": "GPL",
    "lesser general": "LGPL",
    "library general": "LGPL",
    "affero general": "AGPL",
}
_COMMON_NAMES = {
    "Apache-2.0": "Apache-2.0",
    "Artistic": "Artistic-1.0-Perl",
    "BSD": "BSD-3-Clause",
    "CC0-1.0": "CC0-1.0",
    "GFDL-1.2": "GFDL-1.2",
    "GFDL-1.3": "GFDL-1.3",
    "GPL-1": "GPL-1.0",
    "GPL-2": "GPL-2.0",
    "GPL-3": "GPL-3.0",
    "LGPL-2": "LGPL-2.0",
    "LGPL-2.1": "LGPL-2.1",
    "LGPL-3": "LGPL-3.0",
    "MPL-1.1": "MPL-1.1",
    "MPL-2.0": "MPL-2.0",
}


def of_copyright(text: str, source: str) -> Told:
    """Return the licences that the copyright file *text* of a Debian *source* package tells, all together."""
    if _FORMAT.search(text[:2_000]):
        return _of_fields(text, source)
    expression = all_of(_of_prose(text))
    return Told(licence=expression, declared="", told_by=_TOLD_BY if expression else "")


# ---- the machine-readable form ---------------------------------------------------------------------


def _of_fields(text: str, source: str) -> Told:
    short: dict[str, None] = {}
    bodies: dict[str, str] = {}
    for paragraph in re.split(r"\n[ \t]*\n", text):
        fields = {
            match["name"].lower(): (match["first"].strip(), match["rest"])
            for match in _FIELD.finditer(paragraph)
        }
        name, body = fields.get("license", ("", ""))
        name = " ".join(name.split())
        if body.strip():
            bodies.setdefault(name.lower(), body)
        if name and ("files" in fields or "format" in fields):
            short.setdefault(name)
    expression = all_of(_spdx(name, bodies, source) for name in short)
    declared = ", ".join(short)
    if len(declared) > _MOST_DECLARED:
        declared = f"{declared[: _MOST_DECLARED - 1]}…"
    return Told(
        licence=canonical(expression) or "", declared=declared, told_by=_TOLD_BY if short else ""
    )


def _spdx(name: str, bodies: Mapping[str, str], source: str) -> str:
    """Return the expression that a `License` field's first line means.

    `and` binds more strongly than `or`, and both more strongly than what a comma is before.
    """
    groups: list[str] = []
    joints: list[str] = []
    words = _JOINT.split(name)
    current = _one(words[0], bodies, source)
    for joint, part in zip(words[1::2], words[2::2], strict=True):
        # `and/or`: whoever gets it may choose.
        word = "AND" if joint.strip(" ,").lower() == "and" else "OR"
        if joint.startswith(","):
            groups.append(current)
            joints.append(word)
            current = _one(part, bodies, source)
        else:
            current = f"{current} {word} {_one(part, bodies, source)}"
    groups.append(current)
    wrapped = [f"({one})" if " " in one and len(groups) > 1 else one for one in groups]
    return " ".join(
        [wrapped[0], *(f"{word} {one}" for word, one in zip(joints, wrapped[1:], strict=True))]
    )


def _one(name: str, bodies: Mapping[str, str], source: str) -> str:
    """Return the licence that a short name means, with its exception."""
    plain = name.strip(" ,").lower()
    own = bodies.get(plain, "")
    exception = _WITH.search(plain)
    licence = _licence(plain[: exception.start()] if exception else plain)
    if exception and licence:
        added = _exception((exception[1] or exception[2] or ""), licence)
        licence = f"{licence} WITH {added}" if added else ""
    if licence:
        return licence
    found = recognise(own)
    if found.whole:
        return all_of(found.licences)
    reference = re.sub(r"[^A-Za-z0-9.-]+", "-", name.strip(" ,")).strip("-.") or "unnamed"
    return f"LicenseRef-Debian-{re.sub(r'[^A-Za-z0-9.-]+', '-', source)}-{reference}"


def _licence(name: str) -> str:
    later = name.endswith("+")
    found = _SHORT.get(name.rstrip("+"), "")
    if found in _ANY:
        return _ANY[found]
    if _VERSIONED.fullmatch(found):
        return f"{found}-or-later" if later else f"{found}-only"
    if found:
        return "" if later else found
    # SPDX's own names are in use, too.
    return canonical(name) or "" if not later else ""


def _exception(words: str, licence: str) -> str:
    version = re.search(r"GPL-([0-9])", licence)
    for pattern, known in _EXCEPTIONS:
        if pattern.search(words):
            return known.get("") or known.get(version[1] if version else "", "")
    return ""


# ---- prose -----------------------------------------------------------------------------------------


def _of_prose(text: str) -> Iterator[str]:
    """Yield each licence that prose has the words of, or names a text of."""
    words = words_of(text)
    told: set[str] = set()
    for match in _GNU_NOTICE.finditer(words):
        later, pointer = match["later"], _POINTER.search(words[: match.start()])
        if later or not pointer:
            version = match["version"].replace(" ", ".")
            name = f"{_GNU_KINDS[match['kind']]}-{version if '.' in version else f'{version}.0'}"
            told.add(name)
            yield f"{name}-or-later" if later else f"{name}-only"
    if _GCC_EXCEPTION in words:
        yield "GPL-3.0-or-later WITH GCC-exception-3.1"
    yield from recognise(text).licences
    for mention in _COMMON.findall(text):
        name = _COMMON_NAMES.get(mention.rstrip("."), "")
        if name and name not in told:
            yield f"{name}-only" if _VERSIONED.fullmatch(name) else name
