"""Which names a pickle of weights may import. Pure.

A pickle calls what it imports with what it likes, so of Python's own modules all count as grave but few: whoever lists
what is bad forgets `pathlib.Path.write_text`. Beyond them all that is in the lists of others is grave:
https://github.com/mmaitre314/picklescan/blob/main/src/picklescan/scanner.py and
https://github.com/protectai/modelscan/blob/main/modelscan/settings.py, but `functools.partial`, which weights of honest
people have: what it calls is a name of the same pickle, and is judged itself.
"""

from __future__ import annotations

import re
import sys
from typing import Literal

__all__ = ["VERSION", "Verdict", "judged"]

VERSION = 3
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


def _words(text: str) -> frozenset[str]:
    return frozenset(text.split())


_MODEST = _words(
    """
    abc _abc array bisect calendar cmath collections _collections colorsys copy datetime _datetime
    decimal _decimal enum errno fractions functools _functools heapq _heapq ipaddress itertools json
    math numbers queue _queue random _random re statistics struct _struct time weakref _weakref
    _weakrefset zlib zoneinfo __main__
    """
)
"""Modules of Python's own in which nothing reaches files, processes, other modules or attributes by name."""

_GRAVE_MODULES = _words(
    """
    builtins os posix nt sys subprocess _posixsubprocess pty shutil importlib _frozen_importlib
    runpy code codeop pickle _pickle marshal shelve dill cloudpickle joblib types operator _operator
    inspect gc ctypes _ctypes cffi socket _socket socketserver ssl http urllib urllib3 requests
    httpx aiohttp ftplib smtplib telnetlib poplib imaplib xmlrpc webbrowser antigravity pdb bdb
    timeit cProfile profile trace doctest pydoc idlelib lib2to3 asyncio multiprocessing concurrent
    threading _thread signal atexit site pip ensurepip venv setuptools distutils zipimport commands
    popen2 platform logging tempfile mmap fcntl resource readline IPython pkgutil linecache symtable
    test unittest turtle tkinter httplib urllib2 imp asyncore asynchat pipes nntplib cgi jsonpickle
    yaml numexpr sympy numba pyximport cython Cython execnet pexpect ptyprocess psutil sh plumbum
    invoke fabric paramiko git huggingface_hub fsspec s3fs boto3 botocore pkg_resources pytest
    _pytest
    """
)
"""Those of Python 2, of any version of Python, and of packages that run, load or fetch what they are told to."""
_BUFFER = re.compile(r"_?io\.(BytesIO|StringIO)")
_GRAVE = re.compile(
    r"torch\.(load|save|compile|hub|hub\..*|serialization\.(?!_get_layout).*|storage\._load_from_bytes)"
    r"|torch\.(_inductor|_dynamo|fx|package|ops|_ops|classes|_classes|onnx|export|distributed)\..*"
    r"|torch\.(multiprocessing|testing)\..*|torch\.jit\.(?!_pickle\.).*"
    r"|torch\.utils\.(_config_module|bottleneck|collect_env|cpp_extension|data\.datapipes|hipify).*"
    r"|torch\.utils\.(model_zoo|tensorboard).*|torchvision\.datasets\..*"
    r"|numpy\.(load\w*|save\w*|fromfile|genfromtxt|memmap|DataSource)"
    r"|numpy\.(testing|f2py|distutils|ctypeslib|lib|rec)\..*"
    r"|numpy\._?core\.((memmap|records)\..*|\w*multiarray\w*\.fromfile)"
    r"|pandas\.(eval|read_\w+|io\..*)|sklearn\.externals\..*|(copyreg|_?codecs)\..*"
    r"|transformers\.(dynamic_module_utils|file_utils|pipelines|utils)\..*"
    r"|(tensorflow|keras|tf_keras)\.(.*\.)?((io|gfile|saving|save|raw_ops)\b.*|load_\w+|deserialize\w*)"
)


def judged(module: str, name: str) -> Verdict:
    """Return what it means that a pickle imports *name* of *module*."""
    whole, (*way, last) = f"{module}.{name}", name.split(".")
    if any(_is_no_class(one) for one in way) or (way and last.startswith("__")):
        # From protocol 4 on a name is looked up step by step: `os.system` of any module that imports `os`.
        return "grave"
    if _DATA.fullmatch(whole):
        return "data"
    top = module.partition(".")[0]
    own = top in sys.stdlib_module_names and top not in _MODEST and not _BUFFER.fullmatch(whole)
    return "grave" if own or top in _GRAVE_MODULES or _GRAVE.fullmatch(whole) else "code"


def _is_no_class(name: str) -> bool:
    """Tell whether a step on the way to a name is a module, or Python's own: modules are in lower case, by any alias."""
    return name in _GRAVE_MODULES or name.startswith("__") or not name.lstrip("_")[:1].isupper()
