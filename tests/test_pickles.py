"""Pickles are read and never loaded: what they would import is found in files of every kind, however they hide it."""

from __future__ import annotations

import bz2
import gzip
import io
import lzma
import os
import pickle
import pickletools
import struct
import tarfile
import zipfile
import zlib
from collections import OrderedDict
from typing import TYPE_CHECKING, Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lockbuild.pickles import Suspect, suspects
from lockbuild.pickles.opcodes import Reader, TooMuch, trace
from lockbuild.pickles.words import judged

if TYPE_CHECKING:
    from collections.abc import Callable

PROTOCOLS = range(pickle.HIGHEST_PROTOCOL + 1)
MAGIC = 0x1950A86A20F9469CFC6C


class Evil:
    """Runs a command when it is loaded; no test loads it."""

    def __reduce__(self) -> tuple[Any, ...]:
        return os.system, ("echo loaded",)


def evil(protocol: int = 2) -> bytes:
    return pickle.dumps({"weight": [1.0], "hook": Evil()}, protocol=protocol)


def found(data: bytes, name: str = "weights.pkl") -> list[Suspect]:
    return list(suspects(io.BytesIO(data), name))


def grave(data: bytes, name: str = "weights.pkl") -> tuple[str, ...]:
    (suspect,) = found(data, name)
    assert suspect.kind == "grave", suspect
    return suspect.what


# ---- bare pickles ----------------------------------------------------------------------------------


@pytest.mark.parametrize("protocol", PROTOCOLS)
def test_a_call_of_the_system_is_found(protocol: int) -> None:
    assert grave(evil(protocol)) == ("posix.system",)


@pytest.mark.parametrize("protocol", PROTOCOLS)
def test_plain_data_is_nothing(protocol: int) -> None:
    data = {
        "a": [1, 2.5, None, True],
        "b": b"bytes",
        "c": {1, 2},
        "d": OrderedDict(x=(1,)),
        "e": 1 << 99,
    }
    assert found(pickle.dumps(data, protocol=protocol)) == []


VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text() | st.binary(),
    lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner) | st.tuples(inner, inner),
    max_leaves=30,
)


@given(VALUES, st.sampled_from(PROTOCOLS))
def test_every_pickle_of_data_is_read_to_its_end(value: object, protocol: int) -> None:
    data = pickle.dumps(value, protocol=protocol)
    reader = Reader(io.BytesIO(data + b"rest"), 1 << 30)
    seen = trace(reader)
    assert (seen.ended, seen.hidden, reader.peek(9)) == ("stopped", {}, b"rest")
    assert set(seen.names.values()) <= {"data"}


@given(VALUES, VALUES, st.sampled_from(PROTOCOLS))
def test_a_call_is_found_wherever_it_is(before: object, behind: object, protocol: int) -> None:
    data = pickle.dumps([before, {"x": Evil()}, behind, before], protocol=protocol)
    assert grave(data) == ("posix.system",)
    assert grave(pickletools.optimize(data)) == ("posix.system",)


@given(st.binary(max_size=300))
def test_no_bytes_at_all_are_too_much(data: bytes) -> None:
    for head in (b"", b"\x80\x02", b"\x80\x04\x95"):
        found(head + data)


def test_what_another_package_brings_is_told_as_code() -> None:
    data = b"\x80\x02cmodels.yolo\nModel\n)\x81}b."
    assert found(data) == [Suspect(member="weights.pkl", kind="code", what=("models.yolo.Model",))]


# ---- pickles that hide it --------------------------------------------------------------------------

STRING = b"\x8c\x05posix\x8c\x06system"


@pytest.mark.parametrize(
    ("data", "what"),
    [
        (b"cos\nsystem\n(S'x'\ntR.", "os.system"),
        (b"(S'x'\nios\nsystem\n.", "os.system"),
        (b"(cos\nsystem\nS'x'\no.", "os.system"),
        (b"\x80\x04" + STRING + b"\x93\x8c\x01x\x85R.", "posix.system"),
        # Through the memo, with numbers in no order.
        (
            b"\x80\x04\x8c\x05posixq\x000\x8c\x06systemr\x99\x00\x00\x000h\x00j\x99\x00\x00\x00\x93.",
            "posix.system",
        ),
        # MEMOIZE counts what PUT took.
        (b"\x80\x04\x8c\x05posixq\x050\x8c\x06system\x940h\x05h\x01\x93.", "posix.system"),
        # Doubled, and something thrown away between.
        (b"\x80\x04\x8c\x05posixK\x010\x8c\x06systemN0\x93.", "posix.system"),
        # A name with a dot, which protocol 4 follows.
        (b"\x80\x04\x8c\x05torch\x8c\x09hub._load\x93.", "torch.hub._load"),
        (b"\x80\x02c__builtin__\neval\n.", "builtins.eval"),
        (b"\x80\x02ccommands\ngetoutput\n.", "subprocess.getoutput"),
        (b"\x80\x02ctorch.storage\n_load_from_bytes\n.", "torch.storage._load_from_bytes"),
        (b"\x80\x02cbuiltins\nset.__class__\n.", "builtins.set.__class__"),
    ],
)
def test_a_name_is_found_in_every_way_of_saying_it(data: bytes, what: str) -> None:
    assert grave(data) == (what,)


@pytest.mark.parametrize(
    "data",
    [
        # Both texts come out of a call.
        b"\x80\x04\x8c\x08builtins\x8c\x03str\x93\x8c\x05posix\x85R\x8c\x06system\x93.",
        # Out of a memo that nothing was put into, and off an empty stack.
        b"\x80\x04h\x63h\x64\x93.",
        b"\x80\x04\x93.",
        # A text that is no name: it may be one of a module whose file is called so.
        b"\x80\x04\x8c\x07../evil\x8c\x01x\x93.",
    ],
)
def test_a_name_that_is_put_together_is_grave(data: bytes) -> None:
    assert "a name that is put together when it is loaded" in grave(data)


@pytest.mark.parametrize("opcode", [b"\x82\x01", b"\x83\x01\x00", b"\x84\x01\x00\x00\x00"])
def test_a_number_in_place_of_a_name_is_grave(opcode: bytes) -> None:
    assert grave(b"\x80\x02" + opcode + b".") == ("a number of copyreg's that stands for a name",)


@pytest.mark.parametrize("rest", [b"", b"\xff\xff\xff", b"\x8d\xff\xff\xff\xff\xff\xff\xff\x7f"])
def test_what_is_done_before_a_fault_counts(rest: bytes) -> None:
    assert "posix.system" in {one for suspect in found(evil()[:-1] + rest) for one in suspect.what}


def test_a_pickle_that_is_cut_off_is_told() -> None:
    data = pickle.dumps({"weight": [1.0] * 100}, protocol=2)[:50]
    assert found(data) == [Suspect(member="weights.pkl", kind="unread", what=("it is cut off",))]


def test_a_second_pickle_is_read_as_well() -> None:
    assert grave(pickle.dumps({}, protocol=4) + evil(0)) == ("posix.system",)


def test_bytes_behind_a_pickle_are_no_pickle() -> None:
    assert found(pickle.dumps({}, protocol=4) + os.urandom(0) + b"\xff\x00\x13\x37" * 999) == []


@pytest.mark.parametrize(
    "text",
    [
        b"import sys; exec('x')\n",
        b"import _virtualenv\nimport os\n",
        b"./src\n",
        b"config\nfoo\nbar\n",
        b"",
        b"version https://git-lfs.github.com/spec/v1\noid sha256:1\n",
    ],
)
def test_a_text_is_no_pickle(text: bytes) -> None:
    assert found(text, "paths.pth") == []


class Endless(io.RawIOBase):
    """A stream of one byte, for ever, behind a head."""

    def __init__(self, head: bytes, byte: bytes) -> None:
        super().__init__()
        self.head, self.byte, self.given = head, byte, 0

    def readable(self) -> bool:
        return True

    def read(self, size: int = -1) -> bytes:
        data, self.head = self.head[:size] or self.byte * size, self.head[size:]
        self.given += len(data)
        return data


def test_what_never_ends_is_given_up() -> None:
    with pytest.raises(TooMuch):
        trace(Reader(Endless(b"\x80\x04", b"N"), 1 << 30))  # type: ignore[arg-type]


def test_a_value_is_skipped_and_not_kept() -> None:
    size = 1 << 40
    stream = Endless(b"\x80\x04\x8e" + struct.pack("<Q", size), b"x")
    with pytest.raises(TooMuch):
        trace(Reader(stream, 64 << 20))  # type: ignore[arg-type]
    assert stream.given <= (64 << 20) + 1


# ---- files that hold pickles -----------------------------------------------------------------------


def zipped(members: dict[str, bytes], compression: int = zipfile.ZIP_STORED) -> bytes:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", compression) as archive:
        for name, data in members.items():
            archive.writestr(name, data)
    return buffer.getvalue()


def tarred(members: dict[str, bytes]) -> bytes:
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w") as archive:
        for name, data in members.items():
            info = tarfile.TarInfo(name)
            info.size = len(data)
            archive.addfile(info, io.BytesIO(data))
    return buffer.getvalue()


def legacy(last: bytes, protocol: int = 2) -> bytes:
    """Return a file as torch.save wrote it before 1.6."""
    parts = [MAGIC, 1001, {"little_endian": True}]
    return (
        b"".join(pickle.dumps(part, protocol=2) for part in parts) + last + pickle.dumps(["0"], protocol)
    )


def npy(described: str, rest: bytes) -> bytes:
    header = (
        f"{{'descr': {described}, 'fortran_order': False, 'shape': (1,), }}".ljust(117).encode() + b"\n"
    )
    return b"\x93NUMPY\x01\x00" + struct.pack("<H", len(header)) + header + rest


PLAIN = b"cos\nsystem\n(S'id'\ntR."
NAMES = (
    "pytorch_model.bin",
    "m.ckpt",
    "m.model",
    "m.pyt",
    "m.npy",
    "m.weights",
    "no-ending",
    "m.safetensors",
)


def old_tar(members: dict[str, bytes]) -> bytes:
    """Return a tar archive from before POSIX, which has no magic number."""
    data = bytearray(tarred(members))
    for start in range(0, len(data), 512):
        head = data[start : start + 512]
        if head[257:262] == b"ustar":
            head[257:265] = bytes(8)
            head[148:156] = b" " * 8
            head[148:156] = b"%06o\0 " % sum(head)
            data[start : start + 512] = head
    return bytes(data)


POLYGLOT = b"\x80\x02X" + struct.pack("<I", 300) + b"ustar".rjust(255).ljust(300) + b"0cos\nsystem\n."
"""A pickle that says it is a tar archive."""


@pytest.mark.parametrize(
    ("data", "name", "member"),
    [
        (
            zipped({"archive/data.pkl": evil(), "archive/data/0": b"\x80\x02"}),
            "m.pt",
            "m.pt!archive/data.pkl",
        ),
        (zipped({"a.pkl": evil()}, zipfile.ZIP_DEFLATED), "m.zip", "m.zip!a.pkl"),
        (zipped({"in.pt": zipped({"x/data.pkl": evil()})}), "m.zip", "m.zip!in.pt!x/data.pkl"),
        (zipped({"arr.npy": npy("'|O'", evil())}), "m.npz", "m.npz!arr.npy"),
        (npy("'|O'", evil()), "m.npy", "m.npy"),
        (npy("[('a', '<f4'), ('b', '|O')]", evil()), "m.npy", "m.npy"),
        (npy("[('a', [('b', '|O')])]", evil()), "m.npy", "m.npy"),
        (legacy(evil()), "m.pth", "m.pth"),
        (legacy(evil(0)), "m.pth", "m.pth"),
        (tarred({"pickle": evil(), "sys_info": b""}), "m.pth", "m.pth!pickle"),
        (tarred({"x/weights.pkl": evil()}), "m.tar", "m.tar!x/weights.pkl"),
        (gzip.compress(evil(), mtime=0), "m.pkl.gz", "m.pkl.gz"),
        (bz2.compress(evil()), "m.pkl", "m.pkl"),
        (lzma.compress(evil()), "m.pkl", "m.pkl"),
        (zlib.compress(evil(4)), "m.joblib", "m.joblib"),
        (gzip.compress(tarred({"x.pkl": evil()}), mtime=0), "m.tar.gz", "m.tar.gz!x.pkl"),
        # A pickle that is an archive as well: which it is, only its loader knows.
        (POLYGLOT, "m.pt", "m.pt"),
        (evil(), "weights.bin", "weights.bin"),
        (evil(), "no-ending", "no-ending"),
        # Before protocol 2 no pickle says that it is one, and people name them as they like.
        *((data, name, name) for data in (PLAIN, b"\x80\x01" + PLAIN) for name in NAMES),
        (PLAIN[:-1] + b"\xff", "m.bin", "m.bin"),
        (PLAIN[:-1] + b"cnot a name\nx\n.", "m.bin", "m.bin"),
        (PLAIN[:-1] + b"cnot a name\nx\n.", "m.pkl", "m.pkl"),
        (b"L%dL\n." % MAGIC + PLAIN, "m.bin", "m.bin"),
        (b"I1\n." + PLAIN, "m.bin", "m.bin"),
        (gzip.compress(PLAIN, mtime=0), "m.bin", "m.bin"),
        (old_tar({"pickle": evil()}), "model.pth", "model.pth!pickle"),
        (old_tar({"x.bin": PLAIN}), "model", "model!x.bin"),
    ],
)
def test_a_pickle_is_found_in(data: bytes, name: str, member: str) -> None:
    suspects = [(one.member, one.kind) for one in found(data, name) if one.kind != "unread"]
    assert suspects == [(member, "grave")]


@pytest.mark.parametrize(
    ("data", "name"),
    [
        # Bytes of tensors, which may begin like anything.
        (
            zipped({"a/data.pkl": pickle.dumps({}, protocol=2), "a/data/0": evil(), "a/x.npy": evil()}),
            "m.pt",
        ),
        (npy("'<f4'", evil()), "m.npy"),
        (npy("[('Object', '<f4')]", evil()), "m.npy"),
        (npy("'<f4'", b"").replace(b"(1,)", b"(1L,)"), "m.npy"),
        (legacy(pickle.dumps({}, protocol=2)) + evil(), "m.pth"),
        (struct.pack("<Q", 2) + b"{}" + bytes(64), "m.safetensors"),
        (b"\x89HDF\r\n\x1a\n" + bytes(64), "m.h5"),
        (b"\x08\x07\x12\x07pytorch" + bytes(64), "m.onnx"),
    ],
)
def test_bytes_that_nobody_unpickles_are_no_pickle(data: bytes, name: str) -> None:
    assert found(data, name) == []


@pytest.mark.parametrize(
    "data",
    [
        b"config\nfoo\nbar\n",
        b"cat\ncabin\nRope\n.",
        b"cos\nacyclic_term\nish\nabolish\n",
        b"cab\n\n.",
        b"import os\nimport sys\n",
        b"input\nitems\noutput\n.\n",
        b"Some text. It goes on. And on.\n",
        b"# A list\n- one\n- two\n",
        b'{"model_type": "vit"}',
        b"(lp1\n.",
        b"\x93.",
        b"\x82\x01.",
        b"NNNN." * 100,
        b"." * 100,
        bytes(4096),
    ],
)
@pytest.mark.parametrize("name", ["vocab.txt", "config.json", "weights.bin"])
def test_what_begins_like_a_pickle_and_imports_nothing_is_none(data: bytes, name: str) -> None:
    assert found(data, name) == []


@given(st.binary(min_size=1, max_size=2000))
def test_no_bytes_at_random_are_a_pickle(data: bytes) -> None:
    if not data.startswith((b"\x80", b"\x1f\x8b", b"BZh", b"PK", b"\x78")):
        assert found(data, "weights.bin") == []


def forged(header: bytes, offset: int, data: bytes, method: int = zipfile.ZIP_STORED) -> bytes:
    """Return a zip of one pickle, with other bytes at *offset* of one of its headers."""
    output = io.BytesIO()
    with zipfile.ZipFile(output, "w", method) as archive:
        archive.writestr("a.pkl", pickle.dumps(list(range(99))))
    made = bytearray(output.getvalue())
    place = made.index(header) + offset
    made[place : place + len(data)] = data
    return bytes(made)


@pytest.mark.parametrize(
    ("data", "name", "said"),
    [
        (zipped({"a.pkl": evil()})[:-30], "m.pt", "begins as a zip archive and is none"),
        (
            zipped({"a/data.pkl": evil()}).replace(b"\x80\x02}", b"\x80\x02]", 1),
            "m.pt",
            "cannot be unpacked: Bad CRC",
        ),
        (gzip.compress(evil(), mtime=0)[:30], "m.pkl.gz", "cannot be unpacked"),
        (b"\x93NUMPY\x01\x00\x10\x00{{{{", "m.npy", "begins as an array of NumPy's and is none"),
        (b"\x93NUMPY\x01\x00\x60\xea{'descr': '|O'}", "m.npy", "cut off"),
        (forged(b"PK\x01\x02", 6, b"\xff"), "m.pt", "is none: zip file version"),
        (forged(b"PK\x03\x04", 44, bytes(9), zipfile.ZIP_LZMA), "m.pt", "cannot be unpacked"),
        (forged(b"PK\x01\x02", 20, b"\0\0\x10\0" * 2), "m.pt", "cannot be unpacked"),
        (b"\x28\xb5\x2f\xfd" + bytes(9), "m.pkl", "packed with zstd or lz4"),
    ],
)
def test_what_cannot_be_read_is_told(data: bytes, name: str, said: str) -> None:
    assert any(one.kind == "unread" and said in one.what[0] for one in found(data, name))


def test_what_is_packed_into_itself_is_given_up() -> None:
    data = evil()
    for _ in range(6):
        data = gzip.compress(data)
    assert [one.kind for one in found(data)] == ["unread"]


def test_behind_an_array_of_joblib_s_nothing_is_seen() -> None:
    data = b"\x80\x03cjoblib.numpy_pickle\nNumpyArrayWrapper\n)\x81}b" + b"\xfe" * 64 + evil()
    assert "joblib's arrays" in found(data, "m.joblib")[0].what[0]


def test_types_of_torchscript_are_no_modules() -> None:
    data = b"\x80\x02c__torch__.net\nNet\n)\x81}b."
    assert found(zipped({"x/data.pkl": data, "x/constants.pkl": b"\x80\x02)."}), "m.pt") == []
    assert found(zipped({"x/data.pkl": data}), "m.pt")[0].kind == "code"


# ---- words -----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("module", "name", "verdict"),
    [
        ("torch._utils", "_rebuild_tensor_v2", "data"),
        ("torch", "FloatStorage", "data"),
        ("torch", "bfloat16", "data"),
        ("torch.nn.parameter", "Parameter", "data"),
        ("numpy._core.multiarray", "_reconstruct", "data"),
        ("numpy", "dtype", "data"),
        ("numpy", "load", "grave"),
        ("builtins", "getattr", "grave"),
        ("operator", "attrgetter", "grave"),
        ("functools", "partial", "code"),
        ("functools", "reduce", "code"),
        ("random", "Random", "code"),
        ("_io", "BytesIO", "code"),
        ("io", "BytesIO", "code"),
        ("keras.preprocessing.text", "Tokenizer", "code"),
        ("pathlib", "PosixPath", "data"),
        # Whatever of Python's own reaches files, processes or other names.
        ("pathlib", "Path.write_text", "grave"),
        ("pathlib", "_NormalAccessor", "grave"),
        ("io", "open", "grave"),
        ("_io", "FileIO", "grave"),
        ("fileinput", "input", "grave"),
        ("glob", "glob", "grave"),
        ("dataclasses", "_create_fn", "grave"),
        ("uuid", "_get_command_stdout", "grave"),
        ("typing", "get_type_hints", "grave"),
        ("string", "Formatter", "grave"),
        ("sqlite3", "connect", "grave"),
        ("zipfile", "ZipFile", "grave"),
        ("imp", "load_source", "grave"),
        ("telnetlib", "Telnet", "grave"),
        # By whatever name a module knows another.
        ("random", "_os.system", "grave"),
        ("enum", "bltns.eval", "grave"),
        # Of packages.
        ("numpy.f2py.crackfortran", "getlincoef", "grave"),
        ("numpy.testing._private.utils", "runstring", "grave"),
        ("numpy.core.records", "fromfile", "grave"),
        ("torch.hub", "load", "grave"),
        ("torch.jit", "load", "grave"),
        ("torch.jit._pickle", "build_intlist", "data"),
        ("torch.utils.collect_env", "run", "grave"),
        ("torch._inductor.codecache", "compile_file", "grave"),
        ("yaml", "unsafe_load", "grave"),
        ("keras.src.models.model", "load_model", "grave"),
        ("torch.serialization", "load", "grave"),
        ("torch.nn.modules.conv", "Conv2d", "code"),
        ("omegaconf.dictconfig", "DictConfig", "code"),
        ("collections", "OrderedDict.fromkeys", "code"),
        ("abc", "Outer.test", "code"),
        ("glob", "os.system", "grave"),
        ("torch", "os.path.os.popen", "grave"),
        ("glob", "glob.__globals__.get", "grave"),
        ("abc", "ABC.__subclasses__", "grave"),
    ],
)
def test_names_are_judged(module: str, name: str, verdict: str) -> None:
    assert judged(module, name) == verdict


@pytest.fixture(autouse=True)
def _nothing_is_loaded(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: object, **__: object) -> None:
        pytest.fail("a pickle was loaded")

    names: list[Callable[..., object]] = [pickle.load, pickle.loads, pickle.Unpickler]
    for one in names:
        monkeypatch.setattr(pickle, one.__name__, refuse)
