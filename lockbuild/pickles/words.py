"""Which names a pickle of weights may import. Pure."""

from __future__ import annotations

import re
from typing import Literal

__all__ = ["VERSION", "Verdict", "judged"]

VERSION = 2
"""Raised whenever a file may be judged otherwise."""

Verdict = Literal["data", "code", "grave"]
"""Plain data; code of some package; what can run whatever the file says."""

_BUILTINS = "bool bytearray bytes complex dict float frozenset int list object range set slice str tuple"
_DATA = re.compile(
    "|".join(
        (
            rf"builtins\.({_BUILTINS.replace(' ', '|')})",
            r"collections\.(Counter|OrderedDict|defaultdict|deque)",
            # What protocol 2 writes bytes with, and what it makes plain objects with.
            r"_codecs\.encode",
            r"copyreg\.(_reconstructor|__newobj__)",
            r"argparse\.Namespace",
            r"types\.SimpleNamespace",
            r"datetime\.(date|datetime|time|timedelta|timezone)",
            r"decimal\.Decimal",
            r"fractions\.Fraction",
            r"uuid\.UUID",
            r"pathlib\.(Pure)?(Posix|Windows)?Path",
            r"numpy\.(ndarray|dtype|matrix|recarray|bool_?|(u?int|float|complex)\d+|str_|bytes_|void)",
            r"numpy\.(datetime64|timedelta64|longlong|ulonglong|longdouble|clongdouble)",
            r"numpy\._?core\.multiarray\.(_reconstruct|scalar)",
            r"numpy\._?core\.numeric\._frombuffer",
            r"numpy\.matrixlib\.defmatrix\.matrix",
            r"numpy\.dtypes\.\w+DType",
            r"numpy\.ma\.core\.(MaskedArray|_mareconstruct)",
            r"numpy\.random\._pickle\.__(randomstate|generator|bit_generator)_ctor",
            r"numpy\.random\._(mt19937\.MT19937|pcg64\.PCG64)",
            r"joblib\.numpy_pickle\.(NumpyArray|NDArray|ZNDArray)Wrapper",
            r"scipy\.sparse\.(_?\w+\.)?\w+_(matrix|array)",
            # https://github.com/pytorch/pytorch/blob/main/torch/_weights_only_unpickler.py
            r"torch\.(cuda\.|sparse\.)?(\w+Storage|\w*Tensor)",
            r"torch\.storage\.(\w+Storage)",
            r"torch\.(Size|device|dtype|memory_format|strided|sparse_coo|per_tensor_affine|per_channel_affine)",
            r"torch\.(bool|bfloat16|half|float|double|short|int|long|(q?u?int|float|complex)\d+\w*)",
            r"torch\._utils\._rebuild_(tensor(_v[23])?|qtensor|(sparse|sparse_csr|nested)_tensor)",
            r"torch\._utils\._rebuild_(parameter(_with_state)?|wrapper_subclass|meta_tensor_no_storage)",
            r"torch\._utils\._rebuild_device_tensor_from_(cpu_tensor|numpy)",
            r"torch\._tensor\._rebuild_from_type_v2",
            r"torch\.nn\.parameter\.(Buffer|Parameter|Uninitialized(Buffer|Parameter))",
            r"torch\.serialization\._get_layout",
            r"torch\.jit\._pickle\.(build_\w+list|build_tensor_from_id|restore_type_tag)",
        )
    ),
    re.ASCII,
)

_GRAVE_MODULES = frozenset(
    (
        *(
            "builtins",
            "os",
            "posix",
            "nt",
            "sys",
            "subprocess",
            "_posixsubprocess",
            "pty",
            "shutil",
            "importlib",
        ),
        *(
            "_frozen_importlib",
            "runpy",
            "code",
            "codeop",
            "pickle",
            "_pickle",
            "marshal",
            "shelve",
            "dill",
        ),
        *("cloudpickle", "joblib", "types", "operator", "_operator", "inspect", "gc"),
        *(
            "ctypes",
            "_ctypes",
            "cffi",
            "socket",
            "_socket",
            "socketserver",
            "ssl",
            "http",
            "urllib",
            "urllib3",
        ),
        *(
            "requests",
            "httpx",
            "aiohttp",
            "ftplib",
            "smtplib",
            "telnetlib",
            "poplib",
            "imaplib",
            "xmlrpc",
        ),
        *(
            "webbrowser",
            "antigravity",
            "pdb",
            "bdb",
            "timeit",
            "cProfile",
            "profile",
            "trace",
            "doctest",
        ),
        *(
            "pydoc",
            "idlelib",
            "lib2to3",
            "asyncio",
            "multiprocessing",
            "concurrent",
            "threading",
            "_thread",
        ),
        *(
            "signal",
            "atexit",
            "site",
            "pip",
            "ensurepip",
            "venv",
            "setuptools",
            "distutils",
            "zipimport",
        ),
        *(
            "commands",
            "popen2",
            "platform",
            "logging",
            "tempfile",
            "mmap",
            "fcntl",
            "resource",
            "readline",
        ),
        *("IPython", "pkgutil", "linecache", "symtable", "test", "unittest", "turtle", "tkinter"),
    )
)
_GRAVE = re.compile(
    r"torch\.(load|hub\..*|storage\._load_from_bytes|serialization\.(?!_get_layout).*|utils\.(_config_module"
    r"|bottleneck|collect_env|cpp_extension|data\.datapipes).*|_inductor\..*|_dynamo\..*|fx\..*|package\..*"
    r"|jit\.(load|unsupported_tensor_ops).*|ops\.load_library|distributed\..*|multiprocessing\..*)"
    r"|numpy\.(load|fromfile|memmap|testing\..*|f2py\..*|distutils\..*|ctypeslib\..*|lib\..*)"
    r"|pandas\.(eval|read_pickle|io\..*)|sklearn\.externals\..*|copyreg\..*|_codecs\..*|codecs\..*"
)


def judged(module: str, name: str) -> Verdict:
    """Return what it means that a pickle imports *name* of *module*."""
    whole, (*way, last) = f"{module}.{name}", name.split(".")
    if any(one in _GRAVE_MODULES or one.startswith("__") for one in way) or (
        way and last.startswith("__")
    ):
        # From protocol 4 on a name is looked up step by step: `os.system` of any module that imports `os`.
        return "grave"
    if _DATA.fullmatch(whole):
        return "data"
    return "grave" if module.partition(".")[0] in _GRAVE_MODULES or _GRAVE.fullmatch(whole) else "code"
