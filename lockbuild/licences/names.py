"""What projects call their licences, as SPDX calls them. Pure.

A name that several licences go by is told as a pattern of them (`BSD-*`), which other words have to narrow down.
"""

from __future__ import annotations

import re
from fnmatch import fnmatchcase

from lockbuild.licences.expressions import canonical, licences_in

__all__ = ["admits", "is_exact", "of_classifier", "of_name"]

_NO_WORD = re.compile(r"[^a-z0-9+.]+")
_EMPTY = frozenset({"", "unknown", "none", "n/a", "see license", "license", "license.txt"})

# https://peps.python.org/pep-0639/appendix-mapping-classifiers/: the ambiguous ones are patterns, all others map
# to one licence.
_CLASSIFIERS = {
    "Academic Free License (AFL)": "AFL-*",
    "Apache Software License": "Apache-*",
    "Artistic License": "Artistic-*",
    "BSD License": "BSD-*",
    "Boost Software License 1.0 (BSL-1.0)": "BSL-1.0",
    "CC0 1.0 Universal (CC0 1.0) Public Domain Dedication": "CC0-1.0",
    "Eclipse Public License 1.0 (EPL-1.0)": "EPL-1.0",
    "Eclipse Public License 2.0 (EPL-2.0)": "EPL-2.0",
    "European Union Public Licence 1.2 (EUPL 1.2)": "EUPL-1.2",
    "GNU Affero General Public License v3": "AGPL-3.0-*",
    "GNU Affero General Public License v3 or later (AGPLv3+)": "AGPL-3.0-or-later",
    "GNU General Public License (GPL)": "GPL-*",
    "GNU General Public License v2 (GPLv2)": "GPL-2.0-*",
    "GNU General Public License v2 or later (GPLv2+)": "GPL-2.0-or-later",
    "GNU General Public License v3 (GPLv3)": "GPL-3.0-*",
    "GNU General Public License v3 or later (GPLv3+)": "GPL-3.0-or-later",
    "GNU Lesser General Public License v2 (LGPLv2)": "LGPL-2.*",
    "GNU Lesser General Public License v2 or later (LGPLv2+)": "LGPL-2.*-or-later",
    "GNU Lesser General Public License v3 (LGPLv3)": "LGPL-3.0-*",
    "GNU Lesser General Public License v3 or later (LGPLv3+)": "LGPL-3.0-or-later",
    "GNU Library or Lesser General Public License (LGPL)": "LGPL-*",
    "Historical Permission Notice and Disclaimer (HPND)": "HPND",
    "ISC License (ISCL)": "ISC",
    "MIT License": "MIT",
    "MIT No Attribution License (MIT-0)": "MIT-0",
    "Mozilla Public License 1.0 (MPL)": "MPL-1.0",
    "Mozilla Public License 1.1 (MPL 1.1)": "MPL-1.1",
    "Mozilla Public License 2.0 (MPL 2.0)": "MPL-2.0",
    "Open Software License 3.0 (OSL-3.0)": "OSL-3.0",
    "PostgreSQL License": "PostgreSQL",
    "Python License (CNRI Python License)": "CNRI-Python",
    "Python Software Foundation License": "PSF-2.0",
    "SIL Open Font License 1.1 (OFL-1.1)": "OFL-1.1",
    "The Unlicense (Unlicense)": "Unlicense",
    "Universal Permissive License (UPL)": "UPL-1.0",
    "University of Illinois/NCSA Open Source License": "NCSA",
    "Zope Public License": "ZPL-*",
    "zlib/libpng License": "Zlib",
}

# Without "the", "license" and "version", and with single spaces; seen in METADATA of wheels.
_NAMES = {
    "2 clause bsd": "BSD-2-Clause",
    "3 clause bsd": "BSD-3-Clause",
    "apache": "Apache-*",
    "apache 2": "Apache-2.0",
    "apache 2.0": "Apache-2.0",
    "apache 2.0 with llvm exception": "Apache-2.0 WITH LLVM-exception",
    "apache2": "Apache-2.0",
    "apache2.0": "Apache-2.0",
    "apache software": "Apache-*",
    "apache software 2.0": "Apache-2.0",
    "asl 2.0": "Apache-2.0",
    "agpl 3.0": "AGPL-3.0-*",
    "agpl3": "AGPL-3.0-*",
    "bsd": "BSD-*",
    "bsd 2": "BSD-2-Clause",
    "bsd 2 clause": "BSD-2-Clause",
    "bsd 3": "BSD-3-Clause",
    "bsd 3 clause": "BSD-3-Clause",
    "bsd like": "BSD-*",
    "bsd style": "BSD-*",
    # https://www.gnu.org/licenses/license-list.html#FreeBSD: another name of it.
    "freebsd": "BSD-2-Clause",
    "gpl": "GPL-*",
    "gpl 2": "GPL-2.0-*",
    "gpl 2.0": "GPL-2.0-*",
    "gpl 3": "GPL-3.0-*",
    "gpl 3.0": "GPL-3.0-*",
    "gplv2": "GPL-2.0-*",
    "gplv2+": "GPL-2.0-or-later",
    "gplv3": "GPL-3.0-*",
    "gplv3+": "GPL-3.0-or-later",
    "isc": "ISC",
    "lgpl": "LGPL-*",
    "lgpl 2.1": "LGPL-2.1-*",
    "lgpl 3.0": "LGPL-3.0-*",
    "lgplv2.1": "LGPL-2.1-*",
    "lgplv2.1+": "LGPL-2.1-or-later",
    "lgplv3": "LGPL-3.0-*",
    "lgplv3+": "LGPL-3.0-or-later",
    "mit": "MIT",
    "mit licensed as found in the file": "MIT",
    "modified bsd": "BSD-3-Clause",
    "mozilla public 2.0": "MPL-2.0",
    "mpl 2.0": "MPL-2.0",
    "new bsd": "BSD-3-Clause",
    "nvidia proprietary": "LicenseRef-NVIDIA-Proprietary",
    "nvidia proprietary software": "LicenseRef-NVIDIA-Proprietary",
    "proprietary": "LicenseRef-*",
    "psf": "PSF-*",
    "psf 2.0": "PSF-2.0",
    "psfl": "PSF-2.0",
    "python software foundation": "PSF-2.0",
    "revised bsd": "BSD-3-Clause",
    "simplified bsd": "BSD-2-Clause",
    "unlicense": "Unlicense",
    "zlib": "Zlib",
    "zpl 2.1": "ZPL-2.1",
}
_FILLING = re.compile(r"\b(?:the|licen[cs]e|version|v(?=[ .0-9]))\b ?")
_GNU = re.compile(r"(A|L)?GPL-[0-9.]+|GFDL-[0-9.]+")
_OF = " :: "


def of_classifier(classifier: str) -> str:
    """Return the licence, or the pattern of licences, that a trove classifier names; empty for none."""
    name = classifier.rpartition(_OF)[2]
    if classifier.startswith("License :: Other/Proprietary"):
        return "LicenseRef-*"
    return _CLASSIFIERS.get(name, "")


def of_name(text: str) -> str:
    """Return the licence, or the pattern of licences, that a free text names; empty for none that is known."""
    if text.strip().lower() in _EMPTY:
        return ""
    expression = canonical(text)
    if expression:
        # `GPL-3.0` names the text alone; SPDX has withdrawn it for that.
        return f"{expression}-*" if _GNU.fullmatch(expression) else expression
    words = _NO_WORD.sub(" ", text.lower()).replace("licence", "license").strip(" .")
    plain = _FILLING.sub("", words).strip()
    return _NAMES.get(plain, "") or _NAMES.get(re.sub(r"\bv(?=[0-9])", "", plain), "")


def is_exact(candidate: str) -> bool:
    """Tell whether *candidate* is a licence, and no pattern of them."""
    return bool(candidate) and "*" not in candidate


def admits(candidate: str, expression: str) -> bool:
    """Tell whether words that name *candidate* go together with *expression*."""
    wanted = licences_in(candidate)
    return any(
        fnmatchcase(licence.partition(" ")[0], pattern.partition(" ")[0])
        or _text_of(licence) == _text_of(pattern)
        for licence in licences_in(expression)
        for pattern in wanted
    )


def _text_of(licence: str) -> str:
    """Return the name of the licence's text, which is the same for this version alone and for later ones."""
    return licence.partition(" ")[0].removesuffix("-only").removesuffix("-or-later")
