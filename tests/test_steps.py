"""Reading from a log how far a build has come."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from lockbuild.steps import Follower, Steps, read_steps

if TYPE_CHECKING:
    from pathlib import Path


@pytest.mark.parametrize(
    ("text", "done", "total"),
    [
        (b"  [1/129] /usr/bin/nvcc -c a.cu\n  [57/129] /usr/bin/nvcc -c b.cu\n", 57, 129),
        (b"[ 45%] Building CXX object a.o\n[100%] Linking CXX\n", 100, 100),
        (
            b"  building 'a' extension\n  gcc -Wall -c a.c -o a.o\n  x86_64-linux-gnu-g++-11 -c b.cc\n",
            2,
            None,
        ),
        (b"[1/1] Cythonizing a.pyx\ngcc -c a.c\n", 1, None),
        (b"gcc -shared a.o -o a.so\ncopying a.py -> build\n", 0, None),
        (b"[INFO] nothing\nsee [12/13] above\n", 0, None),
        (b"/usr/bin/gcc -c a.c\n[1/3] g++ -c b.cc\ngcc -c c.c\n", 1, 3),
    ],
    ids=["ninja", "cmake", "setuptools", "cython", "links", "words", "both"],
)
def test_steps_are_read(text: bytes, done: int, total: int | None) -> None:
    expected = Steps(done=done, total=total) if done else None
    assert read_steps(text) == expected


@pytest.fixture
def log(tmp_path: Path) -> Path:
    return tmp_path / "build.log"


def add(log: Path, text: str) -> None:
    with log.open("a") as stream:
        stream.write(text)


def test_a_log_is_followed_as_it_grows(log: Path) -> None:
    follower = Follower(log)
    assert follower.look() is None
    add(log, "[1/9] a\n[2/9] b\n")
    assert follower.look() == Steps(done=2, total=9)
    add(log, "[3/9] c\n")
    assert follower.look() == Steps(done=3, total=9)
    assert follower.look() is None


def test_a_line_that_is_not_whole_waits(log: Path) -> None:
    follower = Follower(log)
    add(log, "[1/9] a\n[2")
    assert follower.look() == Steps(done=1, total=9)
    add(log, "/9] b\n")
    assert follower.look() == Steps(done=2, total=9)


def test_compilers_are_counted_across_looks(log: Path) -> None:
    follower = Follower(log)
    add(log, "gcc -c a.c\n")
    follower.look()
    add(log, "gcc -c b.c\n")
    assert follower.look() == Steps(done=2)


def test_the_log_of_a_former_build_tells_nothing(log: Path) -> None:
    add(log, "[9/9] former\n")
    follower = Follower(log)
    assert follower.look() is None
    log.write_text("")
    assert follower.look() is None
    add(log, "[1/9] now\n")
    assert follower.look() == Steps(done=1, total=9)
