"""Every rule of the gate on real wheels: a good one passes them all, and each test spoils one thing."""

from __future__ import annotations

import struct
import zipfile
from dataclasses import replace
from typing import TYPE_CHECKING

import pytest

from lockbuild.binaries import Binary, DeviceCode
from lockbuild.gate.facts import Contents, Expected, Imported, Runtime, Torch
from lockbuild.gate.reading import read_wheel
from lockbuild.gate.rules import CHECKS, judge, uses_old_strings
from lockbuild.target import Target
from tests.libraries import compiled, fat_binary
from tests.needs import need
from tests.wheels import make_wheel

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping
    from pathlib import Path

TAG = "cp311-cp311-linux_x86_64"
MODULE = "gamma/_ext.cpython-311-x86_64-linux-gnu.so"
OLD = "_ZN3c106detail14torchCheckFailEPKcS2_jRKSs"
NEW = "_ZN3c106detail14torchCheckFailEPKcS2_jRKNSt7__cxx1112basic_stringIcSt11char_traitsIcESaIcEEE"
GROWN = "_ZN2at4_ops10frobnicate4callERKNS_6TensorE"
GOOD = Imported(faults=())
IDS = [check.id for check in CHECKS]
CODE = fat_binary((86, "cubin"), (86, "ptx"))
EXPECTED = Expected(name="gamma", version="2.0", patterns=("gamma/_ext*.so",), device_code=True)
HOST_CODE = replace(EXPECTED, device_code=False)
RUNTIME = Runtime(
    stack="small",
    target=Target(
        python="3.11",
        platform="linux_x86_64",
        glibc="2.36",
        cuda="11.8",
        cuda_architectures=("8.6+PTX",),
    ),
    base_libraries=frozenset({"libc.so.6", "libstdc++.so.6"}),
    base_versions={"libstdc++.so.6": frozenset({"GLIBCXX_3.4", "GLIBCXX_3.4.30", "CXXABI_1.3"})},
    wheel_libraries=frozenset({"libc10.so", "libcudart.so.11.0"}),
    owners={
        "torch/__init__.py": ("torch",),
        "torch/lib/libc10.so": ("torch",),
        "torch-2.0.1.dist-info/METADATA": ("torch",),
        "numpy/__init__.py": ("numpy",),
        "PIL/__init__.py": ("pillow",),
        "six.py": ("six",),
        "LICENSE": ("six",),
        "tests/__init__.py": ("numpy",),
        "nvidia/__init__.py": ("nvidia-cudnn-cu11", "nvidia-nccl-cu11"),
        "plugins/other.py": ("numpy",),
        "../../../bin/torchrun": ("torch",),
        "../../../share/doc/readme": ("torch",),
        "gamma/__init__.py": ("gamma",),
        MODULE: ("gamma",),
    },
    installed={"torch": "2.0.1", "numpy": "1.26.4", "pillow": "11.0", "gamma": "2.0+pt20cu118"},
    torch=Torch(
        version="2.0.1",
        cuda="11",
        symbols=frozenset({OLD, "_ZN5torch3jit6parseeERKSs", "_ZN2at4_ops3add4callERKNS_6TensorE"}),
    ),
)


def source(symbol: str = OLD) -> str:
    return f"extern int {symbol}(void); int PyInit__ext(void) {{ return {symbol}(); }}"


@pytest.fixture
def made(tmp_path: Path) -> Callable[..., Contents]:
    """Return what makes and reads the good wheel, or one in which something is different."""
    need("gcc")

    def make(
        files: Mapping[str, bytes] | None = None,
        *,
        name: str = "gamma",
        version: str = "2.0",
        tag: str = TAG,
        code: bytes = CODE,
        symbol: str = OLD,
        needs: tuple[str, ...] = ("libc10.so", "libcudart.so.11.0", "libc.so.6"),
        rpath: str | None = None,
        requires: tuple[str, ...] = (),
        requires_python: str | None = None,
    ) -> Contents:
        extension = compiled(tmp_path / "it", source(symbol), needs=needs, fat=code, rpath=rpath)
        content = {"gamma/__init__.py": b"", MODULE: extension} if files is None else files
        wheel = make_wheel(
            tmp_path,
            name,
            version,
            tag=tag,
            files=content,
            requires=requires,
            requires_python=requires_python,
        )
        return read_wheel(wheel)

    return make


def extension(tmp_path: Path, text: str = "", *, soname: str | None = None) -> bytes:
    return compiled(tmp_path / "more", text, soname=soname)


def faults(
    contents: Contents,
    *,
    expected: Expected | None = EXPECTED,
    runtime: Runtime = RUNTIME,
    imported: Imported | str = GOOD,
) -> dict[str, list[str]]:
    """Return rule -> what it found: member, colon, message."""
    found: dict[str, list[str]] = {}
    for finding in judge(contents, expected, runtime, imported).findings:
        where = finding.subject.removeprefix(contents.filename).removeprefix(": ")
        found.setdefault(finding.check, []).append(f"{where}: {finding.message}")
    return found


def only(contents: Contents, rule: str, **given: object) -> str:
    """Return the one thing that *rule* found, having seen that no other found any."""
    found = faults(contents, **given)  # type: ignore[arg-type]
    assert list(found) == [rule]
    (line,) = found[rule]
    return line


# ---- the whole -------------------------------------------------------------------------------------


def test_a_good_wheel_passes_every_rule(made: Callable[..., Contents]) -> None:
    report = judge(made(), EXPECTED, RUNTIME, GOOD)
    assert (report.findings, report.skipped) == ((), ())
    assert list(report.passed) == IDS


def test_a_pure_wheel_passes_every_rule(made: Callable[..., Contents]) -> None:
    contents = made({"gamma/__init__.py": b""}, tag="py3-none-any")
    pure = replace(EXPECTED, patterns=("gamma/__init__.py",))
    assert judge(contents, pure, RUNTIME, GOOD).findings == ()


def test_a_stack_without_torch_asks_nothing_of_it(made: Callable[..., Contents]) -> None:
    assert faults(made(symbol=GROWN), runtime=replace(RUNTIME, torch=None)) == {}


def test_every_rule_says_what_it_looks_at_why_and_how_it_is_mended() -> None:
    assert all(check.what and check.why and check.mend for check in CHECKS)
    assert len(set(IDS)) == len(IDS)


def test_every_rule_has_a_test_of_its_own() -> None:
    tested = {name.removeprefix("test_").partition("__")[0].replace("_", "-") for name in globals()}
    assert set(IDS) <= tested


def test_what_could_not_be_tried_is_no_pass(made: Callable[..., Contents]) -> None:
    report = judge(made(), EXPECTED, RUNTIME, "nowhere to try")
    assert report.skipped == (("imports", "nowhere to try"),)
    assert "imports" not in report.passed


# ---- the wheel -------------------------------------------------------------------------------------


def test_wheel__whose_record_is_not_true_is_not_looked_into(
    made: Callable[..., Contents], tmp_path: Path
) -> None:
    contents = made()
    path = tmp_path / contents.filename
    with zipfile.ZipFile(path, "a") as archive:
        archive.writestr("gamma/more.py", b"")
    report = judge(read_wheel(path), EXPECTED, RUNTIME, GOOD)
    (finding,) = report.findings
    assert (finding.check, finding.message) == ("wheel", "`gamma/more.py` is not listed in RECORD")
    assert report.passed == ("declared",)
    assert {check for check, _ in report.skipped} == set(IDS) - {"wheel", "declared"}


def test_wheel__that_installs_a_file_twice(made: Callable[..., Contents], tmp_path: Path) -> None:
    bad = {f"gamma-2.0.data/platlib/{MODULE}": b"\x7fELF", MODULE: extension(tmp_path)}
    line = only(made(bad), "wheel")
    assert line == (
        f": `gamma-2.0.data/platlib/{MODULE}` and `{MODULE}` are installed to the same place"
    )


def test_wheel__that_is_none(tmp_path: Path) -> None:
    path = tmp_path / f"gamma-2.0-{TAG}.whl"
    path.write_bytes(b"something else")
    assert "not a readable zip archive" in only(read_wheel(path), "wheel")


def test_wheel__with_a_damaged_library(made: Callable[..., Contents]) -> None:
    contents = made({"gamma/_ext.so": b"\x7fELF and no more"})
    assert "`gamma/_ext.so` cannot be read as an ELF file" in only(contents, "wheel")


def test_declared__by_no_build_of_the_stack(made: Callable[..., Contents]) -> None:
    found = faults(made(), expected=None)["declared"]
    assert found == [": found a wheel of `gamma`, expected one that stack `small` builds"]


def test_declared__in_another_version(made: Callable[..., Contents]) -> None:
    assert only(made(version="2.1"), "declared") == ": found version 2.1, expected 2.0"


@pytest.mark.parametrize("version", ["2.0", "2.0+pt113cu113"])
def test_declared__with_the_label_of_another_cell(made: Callable[..., Contents], version: str) -> None:
    line = only(made(version=version), "declared", expected=replace(EXPECTED, version="2.0+pt20cu118"))
    assert line == (
        f": found version {version}, which is compiled for another cell, expected 2.0+pt20cu118"
    )


def test_modules__without_the_extension(made: Callable[..., Contents]) -> None:
    line = only(made({"gamma/__init__.py": b""}), "modules", expected=HOST_CODE)
    assert line == ": expected `gamma/_ext*.so`: found no compiled module at all"


def test_members_stand_where_they_are_installed(made: Callable[..., Contents]) -> None:
    contents = made({"gamma-2.0.data/platlib/gamma/_ext.so": b"", "gamma/__init__.py": b""})
    assert "gamma/_ext.so" in contents.members
    assert contents.top_levels == {"gamma"}


# ---- where it is installed -------------------------------------------------------------------------


@pytest.fixture
def with_file(made: Callable[..., Contents], tmp_path: Path) -> Callable[..., Contents]:
    """Return what makes the good wheel with further files."""
    library = extension(tmp_path)
    good = {"gamma/__init__.py": b"", MODULE: library}
    return lambda *names: made(good | {name: library if name.endswith(".so") else b"" for name in names})


@pytest.mark.parametrize(
    "name",
    [
        *("evil.pth", "sitecustomize.py", "usercustomize/__init__.py"),
        *("sitecustomize.cpython-311-x86_64-linux-gnu.so", "gamma-2.0.data/purelib/evil.pth"),
        *("gamma-2.0.data/scripts/python3", "gamma-2.0.data/data/bin/python3.11"),
        *("gamma-2.0.data/data/pyvenv.cfg", "gamma-2.0.data/data/lib/python3.11/os.py"),
        "gamma-2.0.data/data/lib/python3.11/site-packages/evil.pth",
    ],
)
def test_startup__of_every_program(with_file: Callable[..., Contents], name: str) -> None:
    line = only(with_file(name), "startup", expected=HOST_CODE)
    assert "found a file that Python runs or reads at every start" in line


def test_a_file_of_startup_may_be_expected(with_file: Callable[..., Contents]) -> None:
    named = replace(HOST_CODE, patterns=("distutils-precedence.pth",))
    assert faults(with_file("distutils-precedence.pth"), expected=named) == {}
    fine = ("gamma/data/x.pth", "gamma/sitecustomize.py", "gamma-2.0.data/scripts/python-gamma")
    assert faults(with_file(*fine), expected=HOST_CODE) == {}


@pytest.mark.parametrize(
    ("name", "owner"),
    [
        ("torch/__init__.py", "torch"),
        ("PIL/__init__.py", "pillow"),
        ("six.py", "six"),
        ("gamma-2.0.data/purelib/torch/lib/libc10.so", "torch"),
        ("gamma-2.0.data/platlib/torch-2.0.1.dist-info/METADATA", "torch"),
        ("gamma-2.0.data/data/lib/python3.11/site-packages/torch/__init__.py", "torch"),
        ("gamma-2.0.data/scripts/torchrun", "torch"),
    ],
)
def test_overwrites__a_file_of_another_wheel(
    with_file: Callable[..., Contents], name: str, owner: str
) -> None:
    line = only(with_file(name), "overwrites", expected=HOST_CODE)
    assert f": found a file that comes with {owner} as well, expected none of another wheel" in line


def test_overwrites__by_what_is_put_into_another_package(with_file: Callable[..., Contents]) -> None:
    line = only(with_file("numpy/core/x.py", "numpy/y.py"), "overwrites", expected=HOST_CODE)
    assert line == (
        "numpy/core/x.py: found this file and 1 more in `numpy`, a package of numpy, "
        "expected none that `expects` does not name"
    )
    described = with_file("gamma-2.0.data/purelib/torch-2.0.1.dist-info/entry_points.txt")
    assert "a package of torch" in only(described, "overwrites", expected=HOST_CODE)
    named = replace(HOST_CODE, patterns=("numpy/core/x.py", "numpy/y.py"))
    assert faults(with_file("numpy/core/x.py", "numpy/y.py"), expected=named) == {}


@pytest.mark.parametrize(
    ("name", "said"),
    [
        ("tests/__init__.py", "found a file that comes with numpy as well; which one stays is chance"),
        ("LICENSE", "found a file that comes with six as well"),
        (
            "nvidia/__init__.py",
            "found a file that comes with nvidia-cudnn-cu11, nvidia-nccl-cu11 as well",
        ),
        ("gamma-2.0.data/data/share/doc/readme", "found a file that comes with torch as well"),
        ("PIL/more.py", "found this file in `PIL`, a package of pillow"),
    ],
)
def test_shared_files__are_a_warning(with_file: Callable[..., Contents], name: str, said: str) -> None:
    line = only(with_file(name), "shared-files", expected=HOST_CODE)
    assert said in line
    assert {check.id: check.level for check in CHECKS}["shared-files"] == "warning"


def test_namespaces_and_own_files_are_nobody_elses(with_file: Callable[..., Contents]) -> None:
    names = ("nvidia/gamma/x.py", "plugins/gamma.py", "tests/test_gamma.py", "gamma/six.py")
    assert faults(with_file(*names), expected=HOST_CODE) == {}


# ---- what it requires ------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("requirement", "said"),
    [
        ("black", "needs `black`, expected in the lock"),
        ("opencv-python>=3", "needs `opencv-python>=3`, expected in the lock"),
        ("NumPy<1.20", "needs `NumPy<1.20`, expected what NumPy 1.26.4 fits, the lock's"),
        ('torch>=2.1; python_version >= "3.8"', "needs `torch>=2.1;"),
        ("not a requirement!", "found `Requires-Dist: not a requirement!`, expected a requirement"),
    ],
)
def test_requires__what_the_lock_has_not(
    made: Callable[..., Contents], requirement: str, said: str
) -> None:
    assert only(made(requires=(requirement,)), "requires").startswith(f": {said}")
    assert {check.id: check.level for check in CHECKS}["requires"] == "warning"


def test_requirements_that_are_met_or_meant_for_others_pass(made: Callable[..., Contents]) -> None:
    met = (
        *("numpy", "Pillow>=7.1", "torch==2.0.1", "gamma==2.0", "numpy[extra]>=1.2"),
        *('typing; python_version < "3.5"', 'black; extra == "dev"', 'regex; sys_platform == "win32"'),
    )
    assert faults(made(requires=met)) == {}


@pytest.mark.parametrize("said", [">=3.13", "<3.11", "==3.10.*", ">=3.12,<4"])
def test_python_abi__that_another_python_is_required_for(
    made: Callable[..., Contents], said: str
) -> None:
    contents = made(requires_python=said)
    line = only(contents, "python-abi")
    assert line == (
        f": found `Requires-Python: {contents.requires_python}`, expected one that Python 3.11 fits"
    )


def test_python_abi__of_no_python_that_there_is(made: Callable[..., Contents]) -> None:
    line = only(made(requires_python="three"), "python-abi")
    assert line == ": found `Requires-Python: three`, expected versions of Python"


@pytest.mark.parametrize("said", [">=3.8", ">=3.11.4", "~=3.11", "!=3.11.0", "<3.11.2"])
def test_pythons_of_the_target_are_any_patch_release(made: Callable[..., Contents], said: str) -> None:
    assert faults(made(requires_python=said)) == {}


# ---- Python ----------------------------------------------------------------------------------------


def test_python_abi__of_another_cell(made: Callable[..., Contents]) -> None:
    found = faults(made(tag="cp38-cp38-linux_x86_64"))["python-abi"]
    assert found[0] == (
        ": found tag cp38-cp38-linux_x86_64, expected one of Python 3.11 on linux_x86_64"
    )
    assert found[1] == f"{MODULE}: found an extension of CPython 311, expected ABI cp38"


def test_python_abi__of_a_library_in_a_pure_wheel(made: Callable[..., Contents]) -> None:
    line = only(made(tag="py3-none-any"), "python-abi")
    assert line == f"{MODULE}: found an ELF file, expected none in a wheel tagged py3-none-any"


@pytest.mark.parametrize("python", ["310", "311t", "311d"])
def test_python_abi__of_an_extension_for_another_python(
    made: Callable[..., Contents], tmp_path: Path, python: str
) -> None:
    other = f"gamma/_ext.cpython-{python}-x86_64-linux-gnu.so"
    contents = made({other: extension(tmp_path)}, tag=TAG)
    line = only(contents, "python-abi", expected=HOST_CODE)
    assert line == f"{other}: found an extension of CPython {python}, expected ABI cp311"


def test_extensions_of_early_pythons_have_letters_in_their_abi(
    made: Callable[..., Contents], tmp_path: Path
) -> None:
    early = {"gamma/_ext.cpython-37m-x86_64-linux-gnu.so": extension(tmp_path)}
    contents = made(early, tag="cp37-cp37m-linux_x86_64")
    runtime = replace(RUNTIME, target=replace(RUNTIME.target, python="3.7"))
    assert faults(contents, expected=HOST_CODE, runtime=runtime) == {}


def test_python_abi__of_a_wheel_that_was_renamed(made: Callable[..., Contents], tmp_path: Path) -> None:
    other = made(tag="cp310-cp310-linux_x86_64").filename
    renamed = (tmp_path / other).rename(tmp_path / f"gamma-2.0-{TAG}.whl")
    line = only(read_wheel(renamed), "python-abi")
    assert line == (
        f": found tag {TAG} in the file's name, expected those of its WHEEL: cp310-cp310-linux_x86_64"
    )


@pytest.mark.parametrize(
    ("name", "data"),
    [
        (MODULE, b"version https://git-lfs.github.com/spec/v1\n"),
        ("gamma/_ext.so", b""),
        ("gamma/other.abi3.so", b"\xcf\xfa\xed\xfe of another system"),
    ],
)
def test_python_abi__of_an_extension_that_is_no_elf_file(
    made: Callable[..., Contents], tmp_path: Path, name: str, data: bytes
) -> None:
    contents = made({MODULE: extension(tmp_path), name: data})
    line = only(contents, "python-abi", expected=HOST_CODE)
    assert line == f"{name}: found no ELF file, expected the extension that its name says"


def test_scripts_for_the_linker_are_no_extensions(made: Callable[..., Contents], tmp_path: Path) -> None:
    contents = made({MODULE: extension(tmp_path), "gamma/lib/libit.so": b"INPUT(libit.so.1)\n"})
    assert faults(contents, expected=HOST_CODE) == {}


def test_extensions_of_the_stable_abi_fit(made: Callable[..., Contents], tmp_path: Path) -> None:
    stable = {"gamma/_ext.abi3.so": extension(tmp_path), "gamma/lib/libhelp.so": extension(tmp_path)}
    contents = made(stable, tag="cp38-abi3-linux_x86_64")
    assert faults(contents, expected=HOST_CODE) == {}


def test_python_abi__of_another_machine(made: Callable[..., Contents], tmp_path: Path) -> None:
    data = bytearray(extension(tmp_path))
    data[18] = 183
    contents = made({MODULE: bytes(data)})
    line = only(contents, "python-abi", expected=HOST_CODE)
    assert line == f"{MODULE}: found 64 bits of EM_AARCH64, expected 64 bits of EM_X86_64"


@pytest.mark.parametrize("device_code", [None, True])
def test_files_that_gpus_load_are_for_no_machine(
    made: Callable[..., Contents], tmp_path: Path, device_code: bool | None
) -> None:
    cubin = bytearray(extension(tmp_path))
    cubin[18:20] = struct.pack("<H", 190)
    contents = made({MODULE: extension(tmp_path), "gamma/kernels.cubin": bytes(cubin)})
    expected = replace(EXPECTED, device_code=device_code, nvcc=True)
    assert faults(contents, expected=expected) == {}
    alone = made({"gamma/kernels.cubin": bytes(cubin)}, tag="py3-none-any")
    assert faults(alone, expected=replace(expected, patterns=())) == {}


# ---- what it is linked with ------------------------------------------------------------------------


def test_elf_needs__of_a_library_that_nobody_has(made: Callable[..., Contents]) -> None:
    line = only(made(needs=("libc10.so", "libopenblas.so.0")), "elf-needs")
    assert line == (
        f"{MODULE}: needs libopenblas.so.0, expected in the runtime root file system, the wheel or the lock's"
    )


def test_elf_needs__of_the_driver(made: Callable[..., Contents]) -> None:
    line = only(made(needs=("libcuda.so.1",)), "elf-needs")
    assert "needs libcuda.so.1, which only the driver brings" in line


def test_needs_may_be_met_by_the_wheel_itself(made: Callable[..., Contents], tmp_path: Path) -> None:
    user = compiled(tmp_path / "user", needs=["libown.so.2"])
    own = compiled(tmp_path / "own", soname="libown.so.2")
    contents = made({MODULE: user, "gamma.libs/libown-0a1b2c3d.so.2.1": own})
    assert faults(contents, expected=HOST_CODE) == {}


def test_torch_symbols__that_the_locked_torch_lacks(made: Callable[..., Contents]) -> None:
    line = only(made(symbol=GROWN), "torch-symbols")
    assert line == f"{MODULE}: found a use of `{GROWN}`, expected only what torch 2.0.1 defines"


def test_torch_symbols__of_the_other_abi(made: Callable[..., Contents]) -> None:
    line = only(made(symbol=NEW), "torch-symbols")
    assert "found _GLIBCXX_USE_CXX11_ABI=1, expected 0, that of torch 2.0.1" in line


def test_torch_symbols__of_the_old_abi_with_a_torch_of_the_new(made: Callable[..., Contents]) -> None:
    torch = Torch(version="2.7.1+cu118", cuda="11", symbols=frozenset({NEW}))
    line = only(made(), "torch-symbols", runtime=replace(RUNTIME, torch=torch))
    assert "found _GLIBCXX_USE_CXX11_ABI=0, expected 1, that of torch 2.7.1+cu118" in line


def test_symbols_of_others_that_speak_of_tensors_are_not_torchs(made: Callable[..., Contents]) -> None:
    assert faults(made(symbol="_ZN6vision3ops3nmsERKN2at6TensorES4_d")) == {}


def test_strings_tell_the_abi() -> None:
    assert uses_old_strings([OLD]) is True
    assert uses_old_strings([NEW]) is False
    assert uses_old_strings(["_ZNK2at10TensorBase3strB5cxx11Ev"]) is False
    assert uses_old_strings([GROWN]) is None
    # libstdc++'s own, which libc10 holds by the old ABI, too.
    assert uses_old_strings(["_ZNSt7__cxx1112basic_stringIcSt11char_traitsIcESaIcEE2atEm"]) is None


def binary(**facts: object) -> Binary:
    """Return an ELF file of which only *facts* matter."""
    empty = {
        "machine": "EM_X86_64",
        "bits": 64,
        "soname": None,
        "needs": (),
        "rpath": (),
        "versions_needed": (),
        "versions_defined": (),
        "undefined": frozenset(),
        "defined": frozenset(),
        "sections": (),
        "device_code": (),
    }
    return Binary(**{**empty, **facts})  # type: ignore[arg-type]


def holding(**facts: object) -> Contents:
    """Return a wheel with one such file."""
    return Contents(
        filename=f"gamma-2.0-{TAG}.whl",
        sha256="0" * 64,
        name="gamma",
        version="2.0",
        tags=(TAG,),
        members=("gamma/_ext.so",),
        binaries={"gamma/_ext.so": binary(**facts)},
    )


@pytest.mark.parametrize(
    ("library", "version", "said"),
    [
        ("libc.so.6", "GLIBC_2.38", "needs GLIBC_2.38 of libc.so.6, expected at most GLIBC_2.36"),
        (
            "libstdc++.so.6",
            "GLIBCXX_3.4.32",
            "needs GLIBCXX_3.4.32 of libstdc++.so.6, expected at most GLIBCXX_3.4.30, the runtime's",
        ),
        (
            "libstdc++.so.6",
            "CXXABI_1.3.15",
            "needs CXXABI_1.3.15 of libstdc++.so.6, expected at most CXXABI_1.3, the runtime's",
        ),
    ],
)
def test_glibc__too_new(library: str, version: str, said: str) -> None:
    contents = holding(versions_needed=((library, version),))
    assert only(contents, "glibc", expected=HOST_CODE) == f"gamma/_ext.so: {said}"


@pytest.mark.parametrize(
    ("platforms", "promised"),
    [
        ("manylinux1_x86_64", "2.5, as its tag manylinux1_x86_64"),
        ("manylinux2014_x86_64", "2.17, as its tag manylinux2014_x86_64"),
        ("manylinux_2_28_x86_64.manylinux2010_x86_64", "2.12, as its tag manylinux2010_x86_64"),
        ("linux_x86_64.manylinux_2_28_x86_64", "2.28, as its tag manylinux_2_28_x86_64"),
    ],
)
def test_glibc__that_is_newer_than_its_tag_promises(platforms: str, promised: str) -> None:
    tags = tuple(f"cp311-cp311-{platform}" for platform in platforms.split("."))
    needed = (("libc.so.6", "GLIBC_2.34"), ("libc.so.6", "GLIBC_2.2.5"))
    name = f"gamma-2.0-cp311-cp311-{platforms}.whl"
    contents = replace(holding(versions_needed=needed), filename=name, tags=tags)
    line = only(contents, "glibc", expected=HOST_CODE)
    assert line == (
        f"gamma/_ext.so: needs GLIBC_2.34 of libc.so.6, expected at most GLIBC_{promised} says"
    )


@pytest.mark.parametrize("platform", ["manylinux_2_34_x86_64", "manylinux_2_35_x86_64", "linux_x86_64"])
def test_what_its_tag_promises_fits(platform: str) -> None:
    contents = replace(
        holding(versions_needed=(("libc.so.6", "GLIBC_2.34"),)),
        filename=f"gamma-2.0-cp311-cp311-{platform}.whl",
        tags=(f"cp311-cp311-{platform}",),
    )
    assert faults(contents, expected=HOST_CODE) == {}


def test_glibc__that_lacks_a_version_without_a_number() -> None:
    contents = holding(versions_needed=(("libc.so.6", "GLIBC_ABI_DT_RELR"),))
    versions = {"libc.so.6": frozenset({"GLIBC_2.2.5", "GLIBC_2.31"})}
    runtime = replace(RUNTIME, base_versions=versions)
    assert only(contents, "glibc", expected=HOST_CODE, runtime=runtime) == (
        "gamma/_ext.so: needs GLIBC_ABI_DT_RELR of libc.so.6, expected one that is in GLIBC_2.31, the runtime's"
    )


def test_older_and_unnumbered_versions_fit() -> None:
    needed = (
        ("libc.so.6", "GLIBC_2.9"),
        ("libc.so.6", "GLIBC_ABI_DT_RELR"),
        ("libcudart.so.11.0", "libcudart.so.11.0"),
        ("libstdc++.so.6", "GLIBCXX_3.4"),
    )
    assert faults(holding(versions_needed=needed), expected=HOST_CODE) == {}


def test_cuda_runtime__of_another_major_version(made: Callable[..., Contents]) -> None:
    wheels = RUNTIME.wheel_libraries | {"libcudart.so.12"}
    line = only(
        made(needs=("libc10.so", "libcudart.so.12")),
        "cuda-runtime",
        runtime=replace(RUNTIME, wheel_libraries=wheels),
    )
    assert line == f"{MODULE}: found CUDA 12 (libcudart.so.12), expected CUDA 11, as torch 2.0.1"


def test_cuda_runtime__with_a_torch_without_cuda(made: Callable[..., Contents]) -> None:
    torch = Torch(version="2.0.1+cpu", cuda=None, symbols=frozenset({OLD}))
    line = only(made(), "cuda-runtime", runtime=replace(RUNTIME, torch=torch))
    assert line.endswith("expected no CUDA at all, as torch 2.0.1+cpu")


def test_cuda_runtime__that_is_linked_in(made: Callable[..., Contents]) -> None:
    code = fat_binary((86, "cubin"), (86, "ptx"), language=(8, 0))
    line = only(made(needs=("libc10.so",), code=code), "cuda-runtime")
    assert line == (
        f"{MODULE}: found code by nvcc of CUDA 12 (PTX 8.0), expected CUDA 11, as torch 2.0.1"
    )


def test_a_cuda_runtime_of_torchs_version_may_be_linked_in(made: Callable[..., Contents]) -> None:
    assert faults(made(needs=("libc10.so",))) == {}


# ---- device code -----------------------------------------------------------------------------------


def test_architectures__of_another_gpu(made: Callable[..., Contents]) -> None:
    found = faults(made(code=fat_binary((75, "cubin"))))
    assert found == {
        "architectures": [
            f"{MODULE}: found code for 7.5, expected also 8.6, 8.6 PTX",
            f"{MODULE}: found code for 7.5, expected only 8.6, 8.6 PTX",
        ]
    }


def test_architectures__without_ptx(made: Callable[..., Contents]) -> None:
    line = only(made(code=fat_binary((86, "cubin"))), "architectures")
    assert line == f"{MODULE}: found code for 8.6, expected also 8.6 PTX"


def test_architectures__that_nobody_asked_for(made: Callable[..., Contents]) -> None:
    line = only(made(code=CODE + fat_binary((90, "cubin"), (86, "cubin"))), "architectures")
    assert line == f"{MODULE}: found code for 9.0, expected only 8.6, 8.6 PTX"


def test_architectures__of_one_object_alone(made: Callable[..., Contents]) -> None:
    code = CODE + fat_binary((86, "ptx"))
    line = only(made(code=code), "architectures")
    assert line == f"{MODULE}: found code for 8.6 PTX, expected also 8.6"


def test_architectures__of_none_where_cuda_is_forced(made: Callable[..., Contents]) -> None:
    line = only(made(code=b""), "architectures")
    assert line == ": found no device code at all, expected 8.6, 8.6 PTX, as `FORCE_CUDA` is set"


UNSAID = replace(EXPECTED, device_code=None)


def test_device_code__of_none_where_nothing_says_so(made: Callable[..., Contents]) -> None:
    line = only(made(code=b""), "device-code", expected=UNSAID)
    assert line == (
        f"{MODULE}: found no device code at all, expected 8.6, 8.6 PTX, or `FORCE_CUDA` to say that there is none"
    )
    assert {check.id: check.level for check in CHECKS}["device-code"] == "warning"


def test_device_code__of_none_where_nvcc_was_there_and_no_symbol_is_torchs() -> None:
    promised = replace(UNSAID, nvcc=True)
    line = only(holding(), "device-code", expected=promised)
    assert line.startswith("gamma/_ext.so: found no device code at all, expected 8.6, 8.6 PTX")
    assert faults(holding(), expected=replace(promised, device_code=False)) == {}
    unpromised = replace(promised, patterns=("gamma/__init__.py",))
    contents = replace(holding(), members=("gamma/__init__.py", "gamma/_ext.so"))
    assert faults(contents, expected=unpromised) == {}


def test_device_code_is_asked_of_extensions_of_torch_for_named_gpus(
    made: Callable[..., Contents],
) -> None:
    without = made(code=b"")
    assert faults(without, expected=HOST_CODE) == {}
    assert faults(made(), expected=UNSAID) == {}
    assert faults(holding(), expected=UNSAID) == {}
    of_no_gpu = replace(RUNTIME, target=replace(RUNTIME.target, cuda_architectures=()))
    assert faults(without, expected=UNSAID, runtime=of_no_gpu) == {}


def test_code_that_a_device_linker_made_has_no_ptx(made: Callable[..., Contents]) -> None:
    assert faults(made(code=CODE + fat_binary((86, "cubin")))) == {}


def for_gpus(*architectures: str) -> Runtime:
    return replace(RUNTIME, target=replace(RUNTIME.target, cuda_architectures=architectures))


def test_a_variant_may_be_marked_or_not() -> None:
    for marked in ("9.0a", "9.0"):
        code = frozenset(DeviceCode(architecture=a, kind="cubin") for a in (marked, "12.0"))
        assert faults(holding(device_code=(code,)), runtime=for_gpus("9.0a", "12.0")) == {}


def test_a_variant_may_stand_beside_its_architecture(made: Callable[..., Contents]) -> None:
    both = fat_binary((90, "cubin"), (90, "ptx")) + fat_binary((90, "cubin"), (90, "ptx"))
    assert faults(made(code=both), runtime=for_gpus("9.0+PTX", "9.0a+PTX")) == {}


def test_architectures__of_a_variant_that_runs_on_no_later_gpu(made: Callable[..., Contents]) -> None:
    code = fat_binary((90, "cubin"), (90, "ptx"), variant="a")
    line = only(made(code=code), "architectures", runtime=for_gpus("9.0+PTX"))
    assert line == f"{MODULE}: found code for 9.0a, 9.0a PTX, expected also 9.0, 9.0 PTX"
    more = CODE + fat_binary((86, "cubin"), (90, "cubin"), variant="a")
    assert "expected also 8.6" in faults(made(code=more))["architectures"][0]


def test_some_kernels_may_be_for_a_variant_as_well(made: Callable[..., Contents]) -> None:
    entries = fat_binary((86, "cubin"), (86, "ptx"), variant="a")[16:]
    whole = CODE[:8] + struct.pack("<Q", len(CODE) - 16 + len(entries)) + CODE[16:] + entries
    assert faults(made(code=CODE + whole)) == {}


# ---- what must not be in it ------------------------------------------------------------------------


@pytest.mark.parametrize(
    "name",
    [
        *("libcuda.so.1", "libcuda-0a1b2c3d.so.535.104.05", "libnvidia-ml.so.1", "libnvcuvid.so"),
        *("libGLX_nvidia.so.0", "libEGL_nvidia.so.535.104.05"),
    ],
)
def test_driver__in_the_wheel(made: Callable[..., Contents], tmp_path: Path, name: str) -> None:
    contents = made({f"gamma/lib/{name}": b"", MODULE: extension(tmp_path)})
    line = only(contents, "driver", expected=HOST_CODE)
    assert line == f"gamma/lib/{name}: found the driver's {name}, expected none of its libraries"


def test_driver__under_another_name(made: Callable[..., Contents], tmp_path: Path) -> None:
    hidden = {"gamma/_ext.so": extension(tmp_path, soname="libcuda.so.1")}
    line = only(made(hidden), "driver", expected=HOST_CODE)
    assert line.startswith("gamma/_ext.so: found the driver's libcuda.so.1")


def test_cudas_own_libraries_are_not_the_drivers(made: Callable[..., Contents], tmp_path: Path) -> None:
    names = ("libcudart.so.11.0", "libnvrtc.so.11.2", "libnvJitLink.so.12", "libnvToolsExt.so.1")
    files = {f"gamma/lib/{name}": b"" for name in names}
    assert faults(made({**files, MODULE: extension(tmp_path)}), expected=HOST_CODE) == {}


@pytest.mark.parametrize(
    "path",
    [
        "/build/source/gamma/src/it.cu",
        "/build/inputs/environment/torch/include/c10/util.h",
        "/tmp/tmpxft_00000007_00000000-6_it.cudafe1.cpp",
        "/tmp/ccAb12Xz.o",
        "/build/source:/build/inputs/environment",
        "/var/tmp/pip-req-build-0ab1cd2e/it.cpp",
        "/root/gamma/it.c",
        "/home/alice/src/it.c",
        "/home/alice",
        "/home/émilie/src/it.cu",
        "/Users/alice/it.cpp",
        "/workspace/gamma/csrc/it.cu",
        "/data/alice/src/it.cpp",
        "/mnt/build/it.cpp",
        "/mnt/größe/it.hpp",
        "/tmp/alice/it.cc",
        "/usr/../srv/alice/it.cuh",
        "/opt/alice/src/it.cxx",
        "builder@lockbuild",
    ],
)
def test_build_path__in_a_library(made: Callable[..., Contents], tmp_path: Path, path: str) -> None:
    files = {"gamma/_ext.so": extension(tmp_path, f'const char *file = "{path}";')}
    line = only(made(files), "build-path", expected=HOST_CODE)
    assert line.startswith(f"gamma/_ext.so: found `{path}` in .rodata")


def test_build_path__who_built_it_in_a_text(made: Callable[..., Contents], tmp_path: Path) -> None:
    text = b"BUILT_BY = 'builder@lockbuild'  # not builder@lockbuild-project.example, my-builder@lockbuild\n"
    contents = made({MODULE: extension(tmp_path), "gamma/config.py": text})
    line = only(contents, "build-path", expected=HOST_CODE)
    assert line == "gamma/config.py: found `builder@lockbuild`, expected nothing of who built it"


def test_build_path__in_a_text(made: Callable[..., Contents], tmp_path: Path) -> None:
    text = b"FLAGS = '-I/build/inputs/environment/include'\n"
    contents = made({MODULE: extension(tmp_path), "gamma/config.py": text})
    line = only(contents, "build-path", expected=HOST_CODE)
    assert line == (
        "gamma/config.py: found `/build/inputs/environment/include`, expected nothing of who built it"
    )


@pytest.mark.parametrize(
    "text",
    [
        "/tmp",
        "/tmp/detectron2_output",
        "/usr/include/cub/util_device.cuh",
        "/usr/lib/gcc/x86_64-linux-gnu/11/../../../../include/c++/11/bits/it.h",
        "/opt/conda/envs/it/include/python3.11/object.h",
        "/dvs/p4/build/sw/rel/gpgpu/toolkit/r11.7/nvJPEG/JPEG.h",
        "/build/reproducible-path/openssl-3.0.11/crypto/it.c",
        "/build/glibc-Ab12Cd/glibc-2.36/it.c",
        "/dev/null",
        "/proc/self/maps",
        "/include.h",
        "/tmp/kernel.cu",
        "/home/%s/.cache",
        "https://a/b.h",
        "https://example.org/data/b.cpp",
        "torch/include/c10/core/Device.h",
        "/data/alice/src/it.cppx",
        "https://example.org/home/alice/x",
        "third_party/build/source/x",
    ],
)
def test_paths_that_tell_nothing_of_the_builder_pass(
    made: Callable[..., Contents], tmp_path: Path, text: str
) -> None:
    files = {
        "gamma/_ext.so": extension(tmp_path, f'const char *text = "{text}";'),
        "gamma/text.py": f"A = '{text}'  # upstream's users write /home/alice/data\n".encode(),
    }
    assert faults(made(files), expected=HOST_CODE) == {}


def test_the_record_of_how_a_wheel_was_made_may_name_the_sandbox(
    made: Callable[..., Contents], tmp_path: Path
) -> None:
    files = {
        MODULE: extension(tmp_path),
        "gamma-2.0.dist-info/sboms/lockbuild.cdx.json": b'{"notes": "/build/source/x"}',
        "gamma-2.0.dist-info/lockbuild/0a.patch": b"+++ /build/source/x",
    }
    assert faults(made(files), expected=HOST_CODE) == {}


def test_build_path__as_rpath(made: Callable[..., Contents]) -> None:
    line = only(made(rpath="$ORIGIN/../torch/lib:/usr/local/cuda/lib64"), "build-path")
    assert line.startswith(f"{MODULE}: found rpath `/usr/local/cuda/lib64`, expected `$ORIGIN`")


@pytest.mark.parametrize("rpath", ["$ORIGIN:", ":$ORIGIN", "$ORIGIN::$ORIGIN/lib"])
def test_build_path__as_rpath_with_an_empty_part(made: Callable[..., Contents], rpath: str) -> None:
    line = only(made(rpath=rpath), "build-path")
    assert line.startswith(f"{MODULE}: found an empty part in its rpath, which is the current folder")


@pytest.mark.parametrize(
    "rpath",
    ["$ORIGIN/../../../../../../../home/alice/lib", "${ORIGIN}/a/../../../../../../home/alice/lib"],
)
def test_build_path__as_rpath_out_of_the_environment(made: Callable[..., Contents], rpath: str) -> None:
    line = only(made(rpath=rpath), "build-path")
    assert line.startswith(f"{MODULE}: found rpath `{rpath}`, which leads out of the environment")


@pytest.mark.parametrize(
    "rpath",
    [
        *("$ORIGIN", "${ORIGIN}/lib", "$ORIGIN/../torch/lib:$ORIGIN/../../torch/lib"),
        "$ORIGIN/../../../../lib",
    ],
)
def test_rpaths_within_the_environment_pass(made: Callable[..., Contents], rpath: str) -> None:
    assert faults(made(rpath=rpath)) == {}


# ---- imports ---------------------------------------------------------------------------------------


def test_imports__that_fail(made: Callable[..., Contents]) -> None:
    failed = Imported(faults=(("gamma._ext", "ImportError: undefined symbol: x"),))
    line = only(made(), "imports", imported=failed)
    assert line == "gamma._ext: ImportError: undefined symbol: x"


def test_modules_that_python_can_import_are_known_by_their_entry(
    made: Callable[..., Contents], tmp_path: Path
) -> None:
    assert made().modules == ("gamma._ext",)
    helper = {"gamma/libhelp.so": extension(tmp_path, "int help(void) { return 1; }")}
    assert made(helper).modules == ()
