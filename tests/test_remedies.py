"""What mends a build that failed: of the words of pip, setuptools, compilers and linkers."""

from __future__ import annotations

import pytest

from lockbuild.remedies import remedies


@pytest.mark.parametrize(
    ("log", "expected"),
    [
        (
            "  ModuleNotFoundError: No module named 'torch'\n  error: subprocess-exited-with-error",
            "no module `torch`: ",
        ),
        ("  ╰─> ModuleNotFoundError: No module named 'setuptools'", "no module `setuptools`: "),
        ("  error: invalid command 'bdist_wheel'", "name `wheel` under `build-requires`"),
        (
            "src/a.c:2:10: fatal error: glm/glm.hpp: No such file or directory",
            "no `glm/glm.hpp` to include: ",
        ),
        ("/usr/bin/ld: cannot find -lGL: No such file or directory", "no library `GL` to link: "),
        ("/usr/bin/ld: cannot find -lstdc++\ncollect2: error", "no library `stdc++` to link: "),
        (
            "error: command 'x86_64-linux-gnu-gcc' failed: No such file or directory",
            "no compiler `x86_64-linux-gnu-gcc`: ",
        ),
    ],
)
def test_known_complaint_comes_with_what_mends_it(log: str, expected: str) -> None:
    (line,) = remedies(f"building\n{log}\nthe end\n")
    assert expected in line


def test_last_complaint_of_a_kind_counts_and_each_kind_is_told() -> None:
    log = """
    No module named 'triton', going on without
    ModuleNotFoundError: No module named 'wheel'
    a.c:1: fatal error: a.h: No such file or directory
    ModuleNotFoundError: No module named 'numpy'
    """
    assert [line.split("`")[1] for line in remedies(log)] == ["numpy", "a.h"]


def test_what_nobody_knows_has_no_remedy() -> None:
    assert remedies("a.c:1:1: error: 'foo' was not declared in this scope\nninja: build stopped\n") == ()
