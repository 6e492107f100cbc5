"""The program that edits a source, run as a builder runs it: by its text, with a Python of its own."""

from __future__ import annotations

import os
import random
import shutil
import subprocess
import sys
import tarfile
from typing import TYPE_CHECKING, Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from lockbuild.digest import canonical_json
from lockbuild.edits import program
from lockbuild.edits_apply import Fault, main, parse
from tests.needs import need

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping
    from pathlib import Path

    Apply = Callable[..., "Applied"]

SETUP = """\
from setuptools import setup

setup(
    name="gamma",
    flags=["-std=c++14"],
    nvcc=["-std=c++14"],
)
"""
# The empty line is what editors that trim lines leave of a line of context.
PATCH = """\
--- a/setup.py
+++ b/setup.py
@@ -2,6 +2,6 @@

 setup(
     name="gamma",
-    flags=["-std=c++14"],
+    flags=["-std=c++17"],
     nvcc=["-std=c++14"],
 )
"""


class Applied:
    """What the program left and said."""

    def __init__(self, out: Path, ended: subprocess.CompletedProcess[bytes]) -> None:
        self.out = out
        self.status = ended.returncode
        self.said = ended.stdout.decode()
        self.errors = ended.stderr.decode()

    def text(self, name: str) -> str:
        return (self.out / name).read_bytes().decode()

    def fault(self) -> list[str]:
        """Return the lines about the edit that does not fit."""
        assert (self.status, self.errors) == (os.EX_DATAERR, "")
        lines = self.said.splitlines()
        first = next(n for n, line in enumerate(lines) if line.startswith("error: "))
        return lines[first:]


def _pythons() -> list[str]:
    """Return this Python, and the oldest that the program is for where there is one that starts."""
    found = shutil.which("python3.8")
    starts = (
        found and subprocess.run([found, "-c", ""], capture_output=True, check=False).returncode == 0
    )
    return [sys.executable, found] if found and starts else [sys.executable]


@pytest.fixture(params=_pythons(), ids=lambda path: path.rpartition("/")[2])
def python(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture
def apply(tmp_path: Path, python: str) -> Apply:
    """Return a function that edits a tree of the test's own."""

    def run(
        *edits: dict[str, Any],
        files: Mapping[str, bytes | str] | None = None,
        patches: Mapping[str, bytes | str] | None = None,
        prepare: Callable[[Path], object] = lambda _: None,
    ) -> Applied:
        write(tmp_path / "inputs/tree", files if files is not None else {"setup.py": SETUP})
        write(tmp_path / "inputs/patches", patches or {})
        for folder in ("out", "source"):
            (tmp_path / folder).mkdir()
        prepare(tmp_path / "inputs")
        ended = subprocess.run(
            [python, "-I", "-c", program(), tmp_path, canonical_json(list(edits)).decode()],
            capture_output=True,
            check=False,
            timeout=60,
        )
        return Applied(tmp_path / "out", ended)

    return run


def write(folder: Path, files: Mapping[str, bytes | str]) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    for name, content in files.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_bytes(content if isinstance(content, bytes) else content.encode())


def names(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


def substitute(old: str, new: str, *, file: str = "setup.py", count: int = 1) -> dict[str, Any]:
    return {"kind": "substitute", "file": file, "old": old, "new": new, "count": count}


def patch(name: str = "1-a.patch", *, strip: int = 1) -> dict[str, Any]:
    return {"kind": "patch", "input": name, "strip": strip}


def graft(
    take: str = "deeplab", put: str = "projects/deeplab", *, replace: bool = False
) -> dict[str, Any]:
    return {"kind": "graft", "source": "other", "take": take, "put": put, "replace": replace}


# ---- the tree --------------------------------------------------------------------------------------


def test_tree_is_copied_with_links_and_executables(apply: Apply) -> None:
    def prepare(inputs: Path) -> None:
        (inputs / "tree/run.sh").write_text("#!/bin/sh\n")
        (inputs / "tree/run.sh").chmod(0o555)
        (inputs / "tree/setup.py").chmod(0o444)
        (inputs / "tree/link").symlink_to("/opt/gone")
        (inputs / "tree/empty").mkdir(0o555)

    out = apply(prepare=prepare).out
    assert (out / "run.sh").stat().st_mode & 0o777 == 0o755
    assert (out / "setup.py").stat().st_mode & 0o777 == 0o644
    assert str((out / "link").readlink()) == "/opt/gone"
    assert (out / "empty").is_dir()


def test_edits_are_applied_in_order(apply: Apply) -> None:
    applied = apply(
        substitute("gamma", "delta"),
        patch(),
        substitute("c++17", "c++20"),
        patches={"1-a.patch": PATCH.replace("gamma", "delta")},
    )
    assert applied.status == 0, applied.said
    assert applied.text("setup.py") == SETUP.replace("gamma", "delta").replace("c++14", "c++20", 1)


def test_archive_is_taken_without_its_folder(apply: Apply) -> None:
    def prepare(inputs: Path) -> None:
        (inputs / "tree").rename(inputs / "gamma-2.0")
        with tarfile.open(inputs / "tree", "w:gz") as archive:
            archive.add(inputs / "gamma-2.0", "gamma-2.0")

    applied = apply(substitute("gamma", "delta"), prepare=prepare)
    assert applied.text("setup.py") == SETUP.replace("gamma", "delta")


def test_zip_archive_is_taken(apply: Apply) -> None:
    def prepare(inputs: Path) -> None:
        shutil.make_archive(str(inputs / "made"), "zip", inputs, "tree")
        shutil.rmtree(inputs / "tree")
        (inputs / "made.zip").rename(inputs / "tree")

    assert apply(prepare=prepare).text("setup.py") == SETUP


# ---- substitute ------------------------------------------------------------------------------------


def test_text_is_replaced_and_told(apply: Apply) -> None:
    applied = apply(substitute("c++14", "c++17", count=2))
    assert applied.text("setup.py") == SETUP.replace("14", "17")
    assert "edit 1 of 1, substitute: `setup.py`: replaced 2 times, lines 5, 6" in applied.said


def test_bytes_that_are_no_text_stay(apply: Apply) -> None:
    applied = apply(substitute("é", "e"), files={"setup.py": b"\xff \xc3\xa9 \xe9\r\n\0"})
    assert (applied.out / "setup.py").read_bytes() == b"\xff e \xe9\r\n\0"


@pytest.mark.parametrize(
    ("edit", "expected"),
    [
        (
            substitute("c++14", "x"),
            ["the text is there 2 times (lines 5, 6), expected once", "text: `c++14`"],
        ),
        (
            substitute('name="gama"', "x"),
            [
                "the text is not there, expected once",
                'text: `name="gama"`',
                'the nearest is line 4: `    name="gamma",`',
            ],
        ),
        (
            substitute("beta", "gamma"),
            [
                "the text is not there, expected once",
                "text: `beta`",
                "the new text is there already, line 4",
            ],
        ),
        (
            substitute("setup(\r\n", "x"),
            [
                "the text is not there, expected once",
                r"text: `setup(\r\n`",
                "it is there with other line ends: the file's are LF",
            ],
        ),
        (
            substitute("setup(\n\tname", "x"),
            [
                "the text is not there, expected once",
                "text: `setup(\\n\tname`",
                "it is there with other white space",
            ],
        ),
    ],
)
def test_count_that_is_off_is_told(apply: Apply, edit: dict[str, Any], expected: list[str]) -> None:
    first, *rest = expected
    found = apply(edit).fault()
    assert found[0] == f"error: edit 1 of 1, substitute: `setup.py`: {first}"
    assert [line.strip(" ") for line in found[1:]][: len(rest)] == rest


def test_nearest_line_is_counted_with_long_ones_before_it(apply: Apply) -> None:
    found = apply(
        substitute("int gama;", "x"), files={"setup.py": f"{'x' * 1000}\nint gamma;\n"}
    ).fault()
    assert found[-1] == "  the nearest is line 2: `int gamma;`"


def test_absent_file_is_told_with_the_nearest_name(apply: Apply) -> None:
    (line,) = apply(substitute("a", "b", file="lib/setup.py")).fault()
    assert line.endswith("`lib/setup.py` is not there; the nearest is `setup.py`")


@pytest.mark.parametrize("file", ["/etc/passwd", "../outside", "a/../../outside", "a//b", "."])
def test_path_outside_is_refused(apply: Apply, file: str) -> None:
    (line,) = apply(substitute("a", "b", file=file)).fault()
    assert line.endswith(f"`{file}` is not a path inside the tree")


def test_links_are_not_followed(apply: Apply, tmp_path: Path) -> None:
    write(tmp_path / "outside", {"file": "a"})

    def prepare(inputs: Path) -> None:
        (inputs / "tree/away").symlink_to(tmp_path / "outside")

    (line,) = apply(substitute("a", "b", file="away/file"), prepare=prepare).fault()
    assert "`away/file`: links are not followed, and `away` is one" in line
    assert (tmp_path / "outside/file").read_text() == "a"


def test_link_itself_is_not_edited(apply: Apply) -> None:
    def prepare(inputs: Path) -> None:
        (inputs / "tree/link").symlink_to("setup.py")

    (line,) = apply(substitute("gamma", "b", file="link"), prepare=prepare).fault()
    assert line.endswith("`link` is a link to `setup.py`: edit the file itself")


# ---- graft -----------------------------------------------------------------------------------------


def other(inputs: Path) -> None:
    write(
        inputs / "grafts/other", {"deeplab/__init__.py": "x = 1\n", "deeplab/run": "", "one.py": "one\n"}
    )
    (inputs / "grafts/other/deeplab/run").chmod(0o755)
    (inputs / "grafts/other/deeplab/link").symlink_to("/etc/passwd")


def test_folder_is_grafted(apply: Apply) -> None:
    out = apply(graft(), prepare=other).out / "projects/deeplab"
    assert (out / "__init__.py").read_text() == "x = 1\n"
    assert (out / "run").stat().st_mode & 0o777 == 0o755
    assert str((out / "link").readlink()) == "/etc/passwd"


def test_file_and_whole_source_are_grafted(apply: Apply) -> None:
    applied = apply(graft("one.py", "two.py"), graft(".", "third_party/other"), prepare=other)
    assert (applied.text("two.py"), applied.text("third_party/other/one.py")) == ("one\n", "one\n")


def test_graft_takes_the_place_of_what_is_there(apply: Apply) -> None:
    files = {"projects/deeplab/old.py": "old\n"}
    applied = apply(graft(replace=True), prepare=other, files=files)
    assert applied.status == 0, applied.said
    assert names(applied.out / "projects/deeplab") == ["__init__.py", "link", "run"]


@pytest.mark.parametrize(
    ("edit", "expected"),
    [
        (
            graft(put="setup.py"),
            "`setup.py` is there already; with `replace = true` the graft takes its place",
        ),
        (graft("deplab"), "in source `other`, `deplab` is not there; the nearest is `deeplab`"),
        (
            graft(put="setup/py", replace=True),
            "nothing to replace: `setup/py` is not there; the nearest is `setup.py`",
        ),
        (graft(put="setup.py/deeplab"), "`setup.py/deeplab`: `setup.py` is a file, expected a folder"),
        (graft("deeplab/link"), "in source `other`, `deeplab/link` is a link to `/etc/passwd`"),
    ],
)
def test_graft_that_does_not_fit_is_told(apply: Apply, edit: dict[str, Any], expected: str) -> None:
    assert apply(edit, prepare=other).fault() == [f"error: edit 1 of 1, graft: {expected}"]


# ---- patches ---------------------------------------------------------------------------------------


def test_patch_changes_a_file(apply: Apply) -> None:
    applied = apply(patch(), patches={"1-a.patch": PATCH})
    assert applied.text("setup.py") == SETUP.replace("c++14", "c++17", 1)


def test_hunk_is_found_where_its_lines_are(apply: Apply) -> None:
    applied = apply(patch(), patches={"1-a.patch": PATCH.replace("@@ -2,6 +2,6 @@", "@@ -1,6 +1,6 @@")})
    assert applied.status == os.EX_DATAERR  # what begins at the first line belongs there
    assert "its lines are at line 2, expected at the beginning of the file" in applied.said


def test_moved_hunk_is_told(apply: Apply) -> None:
    text = "# a\n# b\n" + SETUP + "# end\n"
    diff = PATCH.replace("@@ -2,6 +2,6 @@", "@@ -2,7 +2,7 @@") + " # end\n"
    applied = apply(patch(), files={"setup.py": text}, patches={"1-a.patch": diff})
    assert applied.text("setup.py") == text.replace("c++14", "c++17", 1)
    assert "`setup.py` changed, hunk 1 at line 4 instead of 2" in applied.said


def test_hunk_with_two_possible_places_is_refused(apply: Apply) -> None:
    block = "a\nb\nc\n"
    diff = "--- a/f\n+++ b/f\n@@ -9,3 +9,3 @@\n a\n-b\n+B\n c\n"
    found = apply(patch(), files={"f": f"0\n{block}1\n{block}2\n"}, patches={"1-a.patch": diff}).fault()
    assert found == [
        "error: edit 1 of 1, patch `1-a.patch`: `f`: hunk 1 of 1, `@@ -9,3 +9,3 @@`, does not apply",
        "    not at line 9, but its lines are there 2 times: lines 2, 6",
    ]


def test_hunk_that_does_not_apply_is_told_with_what_is_there(apply: Apply) -> None:
    found = apply(
        patch(), files={"setup.py": SETUP.replace("14", "11")}, patches={"1-a.patch": PATCH}
    ).fault()
    assert [line.strip() for line in found[1:]] == [
        "the nearest place is line 2, where 4 of its 6 lines are",
        'line 5: expected `    flags=["-std=c++14"],`, found `    flags=["-std=c++11"],`',
        'line 6: expected `    nvcc=["-std=c++14"],`, found `    nvcc=["-std=c++11"],`',
    ]


def test_all_hunks_and_files_that_do_not_apply_are_told(apply: Apply) -> None:
    diff = PATCH + PATCH.replace("setup.py", "gone.py")
    found = apply(patch(), files={"setup.py": "x\n"}, patches={"1-a.patch": diff}).fault()
    assert [line for line in found if "hunk 1 of 1" in line]
    assert [line for line in found if "`gone.py` is not there" in line]


def test_patch_that_is_applied_already_is_told(apply: Apply) -> None:
    found = apply(patch(), patch(), patches={"1-a.patch": PATCH}).fault()
    assert found[0].startswith("error: edit 2 of 2, patch `1-a.patch`: ")
    assert "    what it makes is there already, line 2" in found


def test_other_line_ends_are_told(apply: Apply) -> None:
    found = apply(
        patch(), files={"setup.py": SETUP.replace("\n", "\r\n")}, patches={"1-a.patch": PATCH}
    ).fault()
    assert found[1] == "    only line ends differ (CRLF, LF, or none at the end of the file)"


def test_long_faults_fit_into_what_a_builder_repeats(apply: Apply) -> None:
    diff = "".join(PATCH.replace("setup.py", f"gone{n}.py") for n in range(40))
    found = apply(patch(), patches={"1-a.patch": diff}).fault()
    assert (len(found), found[-1]) == (25, "  … and 16 lines more")


@pytest.mark.parametrize(
    ("diff", "expected"),
    [
        ("", "it holds no unified diff"),
        ("--- a/f\n+++ b/f\n@@ nonsense\n", "line 3 of the patch is no hunk's header: `@@ nonsense`"),
        (PATCH[:-5], "the hunk on line 3 of the patch has not the lines its header counts"),
        (PATCH + "+more\n", "line 11 of the patch goes beyond what its hunk's header says: `+more`"),
        (
            "diff --git a/f b/f\nnew file mode 120000\n--- /dev/null\n+++ b/f\n@@ -0,0 +1 @@\n+to\n",
            "`f` has mode 120000: a link or submodule, expected a file",
        ),
        (
            "diff --git a/f b/f\nindex 1..2 100644\nGIT binary patch\nliteral 1\n",
            "the patch has binary content for `f`, expected text: use a graft",
        ),
        (
            "diff --git a/f b/g\ncopy from f\ncopy to g\n",
            "the patch copies a file: make it with `git diff --no-renames`",
        ),
        (
            "--- f\n+++ f\n@@ -0,0 +1 @@\n+a\n",
            "the patch names `f`, from which `strip = 1` leaves nothing",
        ),
        ("--- a/../f\n+++ b/../f\n@@ -0,0 +1 @@\n+a\n", "`../f` is not a path inside the tree"),
        (
            "--- /dev/null\n+++ b/setup.py\n@@ -0,0 +1 @@\n+a\n",
            "`setup.py` is there already, expected to create it",
        ),
    ],
)
def test_patch_that_cannot_be_used_is_told(apply: Apply, diff: str, expected: str) -> None:
    found = apply(patch(), patches={"1-a.patch": diff}).fault()
    assert found == [f"error: edit 1 of 1, patch `1-a.patch`: {expected}"]


def test_hunk_without_context_is_refused(apply: Apply) -> None:
    diff = "--- a/setup.py\n+++ b/setup.py\n@@ -3,0 +4 @@\n+    more,\n"
    assert (
        "it has no context to find its place by"
        in apply(patch(), patches={"1-a.patch": diff}).fault()[1]
    )


def test_patch_writes_through_no_link(apply: Apply, tmp_path: Path) -> None:
    (tmp_path / "outside").mkdir()
    diff = "--- /dev/null\n+++ b/away/f\n@@ -0,0 +1 @@\n+a\n"

    def prepare(inputs: Path) -> None:
        (inputs / "tree/away").symlink_to(tmp_path / "outside")

    (line,) = apply(patch(), patches={"1-a.patch": diff}, prepare=prepare).fault()
    assert "links are not followed" in line
    assert names(tmp_path / "outside") == []


def test_files_that_gnu_diff_dates_to_the_beginning_are_made_and_removed(apply: Apply) -> None:
    never = "1970-01-01 01:00:00.000000000 +0100"
    diff = (
        f"--- a/new\t{never}\n+++ b/new\t2024-01-01 00:00:00\n@@ -0,0 +1 @@\n+a\n"
        f"--- a/old\t2024-01-01 00:00:00\n+++ b/old\t{never}\n@@ -1 +0,0 @@\n-b\n"
    )
    applied = apply(patch(), files={"old": "b\n"}, patches={"1-a.patch": diff})
    assert (applied.text("new"), names(applied.out)) == ("a\n", ["new"])


def test_mail_around_a_patch_is_passed_over(apply: Apply) -> None:
    mail = f"From: someone\nSubject: c++17\n\n---\n setup.py | 2 +-\n\n{PATCH}-- \n2.39.5\n\n"
    assert apply(patch(), patches={"1-a.patch": mail}).status == 0


# ---- against git -----------------------------------------------------------------------------------


def git(folder: Path, *words: str) -> bytes:
    env = {"PATH": os.environ["PATH"], "HOME": str(folder), "GIT_CONFIG_NOSYSTEM": "1"}
    return subprocess.run(["git", *words], cwd=folder, env=env, check=True, capture_output=True).stdout


def listing(folder: Path) -> dict[str, tuple[bytes, bool]]:
    files = (path for path in folder.rglob("*") if path.is_file() and ".git" not in path.parts)
    return {
        p.relative_to(folder).as_posix(): (p.read_bytes(), bool(p.stat().st_mode & 0o100)) for p in files
    }


def test_all_that_git_says_of_text_is_understood(apply: Apply, tmp_path: Path) -> None:
    need("git")
    work = tmp_path / "work"
    numbers = "".join(f"{n}\n" for n in range(40))
    before: dict[str, bytes | str] = {
        "a b/é\tname.txt": numbers,
        "crlf": "one\r\ntwo\r\nthree\r\n",
        "end": "one\ntwo",
        "latin": b"caf\xe9\nfin\n",
        "gone/deep/file": "gone\n",
        "moved/from": numbers,
        "mode": "#!/bin/sh\n",
        "emptied": "a\n",
        "empty": "",
    }
    write(work, before)
    git(work, "init", "--quiet")
    git(work, "add", ".")
    tree = git(work, "write-tree").decode().strip()
    after: dict[str, bytes | str] = {
        "a b/é\tname.txt": numbers.replace("7\n", "seven\n").replace("33\n", ""),
        "crlf": "one\r\n2\r\nthree\r\n",
        "end": "one\n2",
        "latin": b"th\xe9\nfin\n",
        "moved/to x": "first\n" + numbers,
        "mode": "#!/bin/sh\n",
        "emptied": "",
        "new/file": "new",
    }
    shutil.rmtree(work / "gone")
    (work / "moved/from").unlink()
    (work / "empty").unlink()
    write(work, after)
    (work / "mode").chmod(0o755)
    git(work, "add", "--all")
    diff = git(work, "diff", "--cached", "--find-renames", tree)
    assert b"rename from" in diff
    applied = apply(patch(), files=before, patches={"1-a.patch": diff})
    assert applied.status == 0, applied.said
    assert listing(applied.out) == listing(work)
    assert not (applied.out / "gone").exists()


@pytest.mark.property
@settings(max_examples=60)
@given(seed=st.integers(0, 2**32), context=st.integers(1, 4), drift=st.booleans())
def test_what_applies_is_what_git_makes(
    tmp_path_factory: pytest.TempPathFactory, seed: int, context: int, *, drift: bool
) -> None:
    need("git")
    folder = tmp_path_factory.mktemp("git")
    chance = random.Random(seed)
    old = _lines(chance, chance.randrange(30))
    write(folder, {"old/f": "".join(old), "new/f": "".join(_changed(chance, old))})
    ended = subprocess.run(
        ["git", "diff", "--no-index", f"-U{context}", "old/f", "new/f"],
        cwd=folder,
        capture_output=True,
        check=False,
    )
    if ended.returncode == 0:
        return
    diff = ended.stdout.replace(b"new/f", b"old/f")
    start = "".join(_changed(chance, old)) if drift else "".join(old)
    write(
        folder, {"git/old/f": start, "inputs/tree/old/f": start, "inputs/patches/1": diff, "patch": diff}
    )
    (folder / "out").mkdir()
    theirs = subprocess.run(
        ["git", "apply", "-p1", "../patch"], cwd=folder / "git", capture_output=True, check=False
    )
    ours = main(str(folder), [patch("1")])
    assert ours == 0 or drift
    if ours == 0:
        assert theirs.returncode == 0
        assert listing(folder / "out") == listing(folder / "git")


def _lines(chance: random.Random, count: int) -> list[str]:
    lines = [f"{chance.choice('abcdefgh')}{chance.choice(['', chr(13)])}\n" for _ in range(count)]
    if lines and chance.random() < 0.3:
        lines[-1] = lines[-1].rstrip("\n")
    return lines


def _changed(chance: random.Random, lines: list[str]) -> list[str]:
    changed = [line if line.endswith("\n") else f"{line}\n" for line in lines]
    for _ in range(chance.randrange(4)):
        at = chance.randrange(len(changed) + 1)
        changed[at : at + chance.randrange(3)] = _lines(chance, chance.randrange(3))
        changed = [line if line.endswith("\n") else f"{line}\n" for line in changed]
    if changed and chance.random() < 0.3:
        changed[-1] = changed[-1].rstrip("\n")
    return changed


@pytest.mark.property
@given(
    st.binary(max_size=200)
    | st.lists(st.sampled_from(PATCH.splitlines())).map(lambda x: "\n".join(x).encode())
)
def test_any_bytes_are_a_patch_or_a_fault(content: bytes) -> None:
    try:
        parse(content, 1)
    except Fault:
        return
