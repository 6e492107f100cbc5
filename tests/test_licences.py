"""Licences by their own words: in metadata, in texts, in copyright files; and expressions of them."""

from __future__ import annotations

import pytest
from identify.vendor.licenses import LICENSES

from lockbuild.licences.copyrights import of_copyright
from lockbuild.licences.expressions import acceptable, all_of, canonical, licences_in
from lockbuild.licences.metadata import of_files, of_metadata, of_name_and_files
from lockbuild.licences.names import admits, is_exact, of_classifier, of_name
from lockbuild.licences.texts import recognise

TEXTS = dict(LICENSES)
"""SPDX -> text, as another program knows them."""
OSI = "License :: OSI Approved :: "
DEP5 = "Format: https://www.debian.org/doc/packaging-manuals/copyright-format/1.0/\n"

# ---- texts -----------------------------------------------------------------------------------------

# Of these the phrases are not known, or the other program's text is damaged.
_OTHERS = {"AFL-3.0", "Artistic-2.0", "ECL-2.0", "EUPL-1.1", "EUPL-1.2", "LPPL-1.3c", "MS-PL", "MS-RL"}
_OTHERS |= {"NCSA", "OSL-3.0", "UPL-1.0"}


@pytest.mark.parametrize("name", sorted(TEXTS))
def test_texts_are_what_another_program_takes_them_for(name: str) -> None:
    found = recognise(TEXTS[name])
    expected = f"{name}-only" if "GPL-" in name else name
    if name in _OTHERS:
        assert found.licences == ()
    else:
        assert (found.licences, found.whole) == ((expected,), True)


def test_marks_of_comments_and_line_breaks_say_nothing() -> None:
    wrapped = "".join(f" * {word}\n" for word in TEXTS["MIT"].split())
    assert recognise(f"/**\n{wrapped} */").licences == ("MIT",)


def test_several_licences_in_one_text_are_told_in_their_order() -> None:
    found = recognise("\n\n".join([TEXTS["BSD-3-Clause"], TEXTS["Apache-2.0"], TEXTS["BSD-2-Clause"]]))
    assert (found.licences, found.whole) == (("BSD-3-Clause", "Apache-2.0", "BSD-2-Clause"), True)


def test_a_text_that_says_more_is_not_understood_as_a_whole() -> None:
    for further in (
        "Use by a competitor is not permitted without a further licence.",
        "It may not be used for anything else.",
        "For research only: commercial use is another matter.",
    ):
        found = recognise(f"{TEXTS['MIT']}\n{further}\n")
        assert (found.licences, found.whole) == (("MIT",), False)


def test_a_notice_names_a_licence_whose_text_is_elsewhere() -> None:
    notice = (
        "Licensed under the Apache License, Version 2.0 (the License); you may not use this file except in"
        " compliance … See the License for the specific language governing permissions and limitations"
        " under the License."
    )
    assert recognise(notice).licences == ("Apache-2.0",)


def test_the_history_of_python_s_licences_belongs_to_its_text() -> None:
    agreements = (
        "PSF LICENSE AGREEMENT FOR PYTHON … BEOPEN.COM LICENSE AGREEMENT … CNRI LICENSE AGREEMENT … CWI LICENSE"
        " AGREEMENT … OR PERFORMANCE OF THIS SOFTWARE."
    )
    history = "A. HISTORY OF THE SOFTWARE\n===\n\nPython was created … All Python licenses, unlike the GPL, let you …"
    for text in (agreements, f"{history}\n{agreements}"):
        found = recognise(text)
        assert (found.licences, found.whole) == (("Python-2.0",), True)
    more = recognise(f"{history}\n{agreements}\nIt may not be used for anything else.")
    assert (more.licences, more.whole) == (("Python-2.0",), False)


def test_exceptions_belong_to_their_licence() -> None:
    gcc = (
        f"{TEXTS['GPL-3.0']}\nGCC RUNTIME LIBRARY EXCEPTION\nVersion 3.1, 31 March 2009 … consistent with the"
        " licensing of the Independent Modules."
    )
    assert recognise(gcc).licences == ("GPL-3.0-or-later WITH GCC-exception-3.1",)
    llvm = f"{TEXTS['Apache-2.0']}\n---- LLVM Exceptions to the Apache 2.0 License ----\n… either in whole or in part …"
    assert recognise(llvm).licences == ("Apache-2.0 WITH LLVM-exception",)


def test_licences_that_resemble_one_another_are_told_apart() -> None:
    advertising = TEXTS["BSD-3-Clause"].replace(
        "3. Neither",
        "3. All advertising materials mentioning features or use of this software must display an"
        " acknowledgement.\n\n4. Neither",
    )
    assert recognise(advertising).licences == ("BSD-4-Clause",)
    other = "3. His name may not be used to endorse anything.\n\nTHIS SOFTWARE IS PROVIDED"
    assert recognise(TEXTS["BSD-2-Clause"].replace("THIS SOFTWARE IS PROVIDED", other)).licences == ()
    assert recognise(TEXTS["MIT"].replace("subject to the following conditions:", "")).licences == ()
    assert recognise("nothing of the kind").licences == ()


# ---- names -----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "licence"),
    [
        ("MIT", "MIT"),
        ("The MIT License", "MIT"),
        ("mit or apache-2.0", "MIT OR Apache-2.0"),
        ("Apache License, Version 2.0", "Apache-2.0"),
        ("Apache 2.0 License", "Apache-2.0"),
        ("Apache License v2.0", "Apache-2.0"),
        ("Apache", "Apache-*"),
        ("BSD", "BSD-*"),
        ("BSD License", "BSD-*"),
        ("3-Clause BSD License", "BSD-3-Clause"),
        ("new BSD", "BSD-3-Clause"),
        ("FreeBSD", "BSD-2-Clause"),
        ("GPL-3.0", "GPL-3.0-*"),
        ("GPLv3+", "GPL-3.0-or-later"),
        ("NVIDIA Proprietary Software", "LicenseRef-NVIDIA-Proprietary"),
        ("LicenseRef-NVIDIA-Proprietary", "LicenseRef-NVIDIA-Proprietary"),
        ("UNKNOWN", ""),
        ("Dual License", ""),
        ("", ""),
    ],
)
def test_names_that_projects_write(text: str, licence: str) -> None:
    assert of_name(text) == licence
    assert is_exact(licence) == (bool(licence) and "*" not in licence)


@pytest.mark.parametrize(
    ("classifier", "licence"),
    [
        (f"{OSI}MIT License", "MIT"),
        (f"{OSI}BSD License", "BSD-*"),
        (f"{OSI}Apache Software License", "Apache-*"),
        (f"{OSI}Python Software Foundation License", "PSF-2.0"),
        ("License :: Other/Proprietary License", "LicenseRef-*"),
        ("License :: OSI Approved", ""),
    ],
)
def test_classifiers_that_are_ambiguous_stay_so(classifier: str, licence: str) -> None:
    assert of_classifier(classifier) == licence


@pytest.mark.parametrize(
    ("candidate", "expression", "expected"),
    [
        ("BSD-*", "BSD-3-Clause AND MIT", True),
        ("BSD-*", "MIT", False),
        ("GPL-3.0-or-later", "GPL-3.0-only", True),
        ("Apache-2.0", "Apache-2.0 WITH LLVM-exception", True),
        ("MIT AND Apache-2.0", "Apache-2.0", True),
    ],
)
def test_vague_words_admit_what_they_may_mean(
    candidate: str, expression: str, *, expected: bool
) -> None:
    assert admits(candidate, expression) is expected


# ---- metadata --------------------------------------------------------------------------------------


def metadata(
    *classifiers: str, licence: str = "", expression: str = "", **texts: str
) -> tuple[str, str]:
    """Return the licence that METADATA and texts tell, and what tells it."""
    fields = {
        "License": [licence] if licence else [],
        "License-Expression": [expression] if expression else [],
        "Classifier": [f"{OSI}{name}" for name in classifiers],
    }
    told = of_metadata(fields, texts)
    return told.licence, told.told_by


def test_the_most_exact_words_are_believed_first() -> None:
    mit = TEXTS["MIT"]
    assert metadata("BSD License", licence="ISC", expression="Apache-2.0", LICENSE=mit) == (
        "Apache-2.0",
        "License-Expression",
    )
    assert metadata("BSD License", licence="ISC", LICENSE=mit) == ("ISC", "License")
    assert metadata("MIT License", LICENSE=TEXTS["ISC"]) == ("MIT", "classifiers")
    assert metadata(LICENSE=mit) == ("MIT", "licence file")


def test_an_expression_that_is_none_is_passed_over() -> None:
    assert metadata(expression="whatever", licence="MIT") == ("MIT", "License")


def test_vague_words_are_narrowed_down_by_texts() -> None:
    assert metadata("BSD License", licence="BSD", LICENSE=TEXTS["BSD-2-Clause"]) == (
        "BSD-2-Clause",
        "licence file",
    )
    assert metadata("BSD License", licence="BSD") == ("", "")


def test_a_licence_s_text_may_stand_in_the_metadata() -> None:
    assert metadata(licence=TEXTS["BSD-3-Clause"]) == ("BSD-3-Clause", "License")
    own = f"Our own licence: all is permitted, but for what follows.\n{TEXTS['MIT']}"
    assert metadata(licence=own) == ("", "")
    assert metadata("MIT License", licence=own) == ("MIT", "License")


def test_of_several_classifiers_nobody_says_whether_one_may_choose() -> None:
    two = ("BSD License", "Apache Software License")
    assert metadata(*two) == ("", "")
    assert metadata("MIT License", "ISC License (ISCL)") == ("", "")
    both = f"{TEXTS['Apache-2.0']}\n{TEXTS['BSD-3-Clause']}"
    assert metadata(*two, LICENSE=both) == ("Apache-2.0 AND BSD-3-Clause", "licence file")


def test_a_text_that_is_not_understood_as_a_whole_needs_words_beside_it() -> None:
    more = f"{TEXTS['MIT']}\nYou need another licence to sell it.\n"
    assert metadata(LICENSE=more) == ("", "")
    assert metadata("MIT License", LICENSE=more) == ("MIT", "classifiers")


def test_every_main_licence_file_has_to_be_understood() -> None:
    texts = {"LICENSE": TEXTS["MIT"], "COPYING": "our own words"}
    assert of_files(texts).licence == ""
    texts["COPYING"] = TEXTS["ISC"]
    assert of_files(texts).licence == "ISC AND MIT"
    # What is held is told by the main file, where there is one.
    assert of_files({"LICENSE": TEXTS["MIT"], "LICENSES_bundled.txt": "others' words"}).licence == "MIT"
    assert of_files({}).licence == ""


def test_words_that_contradict_one_another_are_kept() -> None:
    fields = {"License": ["ISC"], "Classifier": [f"{OSI}BSD License"]}
    told = of_metadata(fields, {"LICENSE": TEXTS["MIT"]})
    assert told.doubt == f"classifiers: {OSI}BSD License; licence file: MIT"
    assert told.declared == f"ISC; {OSI}BSD License"
    assert of_metadata(fields, {"LICENSE": TEXTS["ISC"]}).doubt == f"classifiers: {OSI}BSD License"
    assert of_metadata({"License": ["ISC"]}, {"LICENSE": TEXTS["ISC"]}).doubt == ""


def test_long_words_are_cut_and_unknown_ones_left_out() -> None:
    told = of_metadata({"License": ["word " * 100], "Classifier": [f"{OSI}MIT License"]}, {})
    assert len(told.declared.partition(";")[0]) == 200
    assert of_metadata({"License": ["UNKNOWN"], "Classifier": [f"{OSI}MIT License"]}, {}).declared == (
        f"{OSI}MIT License"
    )


def test_a_conda_package_s_name_of_its_licence() -> None:
    assert of_name_and_files("GPL-2.0-or-later", {}).licence == "GPL-2.0-or-later"
    assert (
        of_name_and_files("BSD", {"info/licenses/LICENSE": TEXTS["BSD-3-Clause"]}).licence
        == "BSD-3-Clause"
    )


# ---- Debian ----------------------------------------------------------------------------------------


def dep5(*short: str, **bodies: str) -> str:
    """Return the expression of a machine-readable copyright file."""
    files = "".join(
        f"\nFiles: {n}\nCopyright: 2020 X\nLicense: {name}\n" for n, name in enumerate(short)
    )
    texts = "".join(
        f"\nLicense: {name}\n" + "".join(f" {line or '.'}\n" for line in body.splitlines())
        for name, body in bodies.items()
    )
    told = of_copyright(f"{DEP5}Upstream-Name: x\n{files}{texts}", "libx")
    assert told.told_by == "copyright"
    return told.licence


@pytest.mark.parametrize(
    ("short", "expression"),
    [
        ("Expat", "MIT"),
        ("GPL-2+", "GPL-2.0-or-later"),
        ("GPL-3", "GPL-3.0-only"),
        ("LGPL-2.1+", "LGPL-2.1-or-later"),
        ("GPL", "GPL-1.0-or-later"),
        ("BSD-3-clause", "BSD-3-Clause"),
        ("zlib/libpng", "Zlib"),
        ("public-domain", "LicenseRef-public-domain"),
        ("GFDL-NIV-1.3+", "GFDL-1.3-no-invariants-or-later"),
        ("GPL-1+ or Artistic", "GPL-1.0-or-later OR Artistic-1.0-Perl"),
        ("GPL-1+ or Artistic, and Expat", "(GPL-1.0-or-later OR Artistic-1.0-Perl) AND MIT"),
        ("Expat or ISC and Zlib", "MIT OR ISC AND Zlib"),
        ("BSD-3-clause and/or GPL-3+", "BSD-3-Clause OR GPL-3.0-or-later"),
        ("GPL-3+ with Bison exception", "GPL-3.0-or-later WITH Bison-exception-2.2"),
        ("GPL-2+-autoconf-exception", "GPL-2.0-or-later WITH Autoconf-exception-2.0"),
        ("GPL-3+ with AutoConf exception", "GPL-3.0-or-later WITH Autoconf-exception-3.0"),
        ("GPL-2 with Linux-syscall-note exception", "GPL-2.0-only WITH Linux-syscall-note"),
        ("FSFULLR", "FSFULLR"),
        ("GPL-2+ with other exception", "LicenseRef-Debian-libx-GPL-2-with-other-exception"),
        ("Expat+", "LicenseRef-Debian-libx-Expat"),
        ("other", "LicenseRef-Debian-libx-other"),
    ],
)
def test_short_names_of_debian(short: str, expression: str) -> None:
    assert dep5(short) == expression


def test_all_files_of_a_package_count_together() -> None:
    assert dep5("Expat", "GPL-2+ or ISC", "Expat", "Zlib and Expat") == (
        "MIT AND (GPL-2.0-or-later OR ISC) AND Zlib"
    )


def test_a_name_of_its_own_is_known_by_its_text() -> None:
    assert dep5("BSD-like", **{"BSD-like": TEXTS["BSD-2-Clause"]}) == "BSD-2-Clause"
    assert dep5("BSD-like", **{"BSD-like": "our own words"}) == "LicenseRef-Debian-libx-BSD-like"


def test_what_a_copyright_file_declares_is_kept_word_for_word() -> None:
    told = of_copyright(f"{DEP5}\nFiles: *\nLicense: Expat\n text\n\nFiles: b\nLicense: GPL-2+\n", "x")
    assert told.declared == "Expat, GPL-2+"
    many = "".join(f"\nFiles: {n}\nLicense: own-{n}\n" for n in range(60))
    assert len(of_copyright(f"{DEP5}{many}", "x").declared) == 200


@pytest.mark.parametrize(
    ("text", "expression"),
    [
        (
            (
                "This is free software; … under the terms of the GNU General Public License as published by the Free"
                " Software Foundation; either version 2 of the License, or (at your option) any later version.\n"
                "On Debian systems, the complete text of the GNU General Public License version 2 can be found in"
                " /usr/share/common-licenses/GPL-2."
            ),
            "GPL-2.0-or-later",
        ),
        (
            "under the terms of the GNU Lesser General Public License as published by the FSF, version 2.1",
            "LGPL-2.1-only",
        ),
        ("see /usr/share/common-licenses/Apache-2.0.", "Apache-2.0"),
        ("its licence is in /usr/share/common-licenses/LGPL-3", "LGPL-3.0-only"),
        (
            (
                "GNU General Public License, version 3 or (at your option) any later version, with the GCC Runtime"
                " Library Exception, version 3.1"
            ),
            "GPL-3.0-or-later AND GPL-3.0-or-later WITH GCC-exception-3.1",
        ),
        (TEXTS["MIT"], "MIT"),
        ("Nobody knows.", ""),
        ("see /usr/share/common-licenses/GPL", ""),
    ],
)
def test_prose_is_searched_for_words_of_licences(text: str, expression: str) -> None:
    told = of_copyright(text, "x")
    assert (told.licence, told.told_by) == (expression, "copyright" if expression else "")


# ---- expressions -----------------------------------------------------------------------------------


def test_expressions_are_written_as_spdx_has_them() -> None:
    assert canonical("mit OR gpl-2.0-only with classpath-exception-2.0") == (
        "MIT OR GPL-2.0-only WITH Classpath-exception-2.0"
    )
    assert canonical("BSD") is None


@pytest.mark.parametrize(
    ("expressions", "joined"),
    [
        ((), ""),
        (("MIT",), "MIT"),
        (("MIT", "", "MIT"), "MIT"),
        (("MIT OR ISC",), "MIT OR ISC"),
        (("(MIT OR ISC)",), "MIT OR ISC"),
        (("MIT OR ISC", "Zlib"), "(MIT OR ISC) AND Zlib"),
        (("MIT AND ISC", "ISC AND Zlib"), "MIT AND ISC AND Zlib"),
        (("(MIT AND (ISC OR Zlib))", "(ISC OR Zlib)"), "MIT AND (ISC OR Zlib)"),
        (("(MIT) AND (ISC)",), "MIT AND ISC"),
    ],
)
def test_expressions_are_joined_once_each(expressions: tuple[str, ...], joined: str) -> None:
    assert all_of(expressions) == joined


def test_licences_of_an_expression() -> None:
    assert licences_in("(MIT OR GPL-2.0-only WITH Classpath-exception-2.0) AND MIT AND ISC") == (
        "MIT",
        "GPL-2.0-only WITH Classpath-exception-2.0",
        "ISC",
    )


def test_an_expression_is_acceptable_as_it_is_joined() -> None:
    assert acceptable("(A OR B) AND C", lambda name: name != "A")
    assert not acceptable("(A OR B) AND C", lambda name: name != "C")
    assert not acceptable("", lambda _: True)
