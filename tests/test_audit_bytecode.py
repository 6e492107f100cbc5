"""Bytecode is compared with what its module compiles to, and never loaded, whatever is in it."""

from __future__ import annotations

import marshal
import platform
import sys
from importlib.util import MAGIC_NUMBER
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lockbuild.audit.bytecode import judge

OWN = ".".join(platform.python_version_tuple()[:2])
MODULE = b"""
def one(a, *b, c=1.5):
    "Say so."
    return a in {"x", "yes", 1 << 99}, [*b], -2j, None, ..., b"bytes", "\xc3\xa9"

class Two(dict):
    three = lambda self: (True, (1, 2), self)
"""
STAMP = MAGIC_NUMBER + bytes(12)


def code(module: bytes, name: str = "module.py") -> bytes:
    return marshal.dumps(compile(module, name, "exec", dont_inherit=True))


def verdict(body: bytes, module: bytes = MODULE, *, stamp: bytes = STAMP, python: str = OWN) -> str:
    return judge(stamp + body, module, name="module.py", python=python)


@pytest.mark.parametrize("name", ["module.py", "/another/folder/module.py"])
def test_what_its_module_compiles_to_fits(name: str) -> None:
    assert verdict(code(MODULE, name)) == "fits"


def test_lines_are_not_compared() -> None:
    assert verdict(code(b"\n\n" + MODULE)) == "fits"


def test_the_order_of_a_set_is_chance() -> None:
    module = b"a in {'no', 'yes'}"
    body = code(module)
    first, second = sorted((b"\x02no", b"\x03yes"), key=body.index)
    start, middle = body.index(first) - 1, body.index(second) - 1
    end = middle + 1 + len(second)
    swapped = body[:start] + body[middle:end] + body[start:middle] + body[end:]
    assert verdict(swapped, module) == "fits"


@pytest.mark.parametrize(
    ("module", "said"),
    [
        (b"import os", "other"),
        (MODULE.replace(b"1.5", b"2.5"), "other"),
        (MODULE.replace(b"(True, ", b"(False, "), "other"),
        (MODULE.replace(b"a in {", b"a not in {"), "alike"),
    ],
)
def test_what_another_module_compiles_to_does_not(module: bytes, said: str) -> None:
    assert verdict(code(module)) == said


def test_bytecode_of_what_does_not_compile_is_another_s() -> None:
    assert verdict(code(MODULE), b"def") == "other"


@pytest.mark.parametrize(
    "stamp",
    [b"", b"\0\0\0\0", b"\0\0\r\n" + bytes(12), MAGIC_NUMBER + b"\x04" + bytes(11)],
)
def test_what_python_never_runs_fits(stamp: bytes) -> None:
    assert verdict(b"", stamp=stamp) == "fits"


def test_what_is_run_unseen_is_told_even_where_it_is_right() -> None:
    assert verdict(code(MODULE), stamp=MAGIC_NUMBER + b"\x01" + bytes(11)) == "unseen"
    assert verdict(code(MODULE), stamp=MAGIC_NUMBER + b"\x03" + bytes(11)) == "fits"


def test_bytecode_of_another_python_is_unknown() -> None:
    assert verdict(b"", python="3.99") == "unknown"


@pytest.mark.parametrize(
    "body",
    [
        b"",
        code(MODULE)[:-1],
        code(MODULE) + b"N",
        b"\xa9\x01r\0\0\0\0",  # a tuple that holds itself
        b"r\x09\0\0\0",
        b"r\xff\xff\xff\xff",
        b")\x01" * 100_000 + b"N",
        b"(\xff\xff\xff\x7f",
        b"s\xff\xff\xff\xff",
        b"?",
    ],
)
def test_what_is_no_bytecode_is_another_s(body: bytes) -> None:
    assert verdict(body) == "other"


@given(st.binary(max_size=200))
def test_no_bytes_at_all_are_too_much(body: bytes) -> None:
    assert verdict(body) == "other"


def test_modules_of_others_fit_their_bytecode() -> None:
    for file in sorted(Path(pytest.__file__).parent.glob("*.py")):
        module = file.read_bytes()
        assert verdict(code(module, "elsewhere.py"), module) == "fits", file


@pytest.mark.skipif(sys.version_info < (3, 14), reason="code has no slices before")
def test_a_slice_is_read() -> None:
    module = b"def f(x): return x[1:2]"
    assert verdict(code(module, "elsewhere.py"), module) == "fits"
