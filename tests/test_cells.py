"""What of a cell cannot be: found in stack and lock, with both sides named."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from lockbuild import cells
from lockbuild.errors import ResolveError
from lockbuild.imagelock import LockedImage
from lockbuild.lock import Lock, LockedFile, OpenPart
from lockbuild.stack import from_document
from tests.values import HOST, deb, package, sha

if TYPE_CHECKING:
    from lockbuild.lock import LockedDeb, LockedPackage
    from lockbuild.stack import Stack

APT = {"nvcc": {"apt": "nvidia-cuda-toolkit"}, "compiler": "g++-11"}
IMAGE = {"nvcc": {"image": "/usr/local/cuda"}}
WHEELS = {"nvcc": {"wheels": ["cuda-toolkit[nvcc,nvvm,crt]==13.0.2"]}, "compiler": "g++-11"}


def document(**changes: Any) -> dict[str, Any]:
    """Return a stack file with one extension of torch: torch 2.0.1, nvcc 11.8 and g++-11 of bookworm."""
    content: dict[str, Any] = {
        "name": "cell",
        "target": {
            "python": "3.11",
            "platform": "linux_x86_64",
            "glibc": "2.36",
            "cuda": "11.8",
            "cuda-architectures": ["8.6+PTX"],
        },
        "base": {"debian": {"suite": "bookworm", "components": ["main", "non-free"]}},
        "interpreter": {"apt": "python3"},
        "toolchain": APT,
        "python": {"requires": ["torch==2.0.1"]},
        "build": [build()],
    }
    target = content["target"] | changes.pop("target", {})
    return {**content, **changes, "target": target}


def stack(**changes: Any) -> Stack:
    """Return that stack, with some top-level keys replaced and some of its target's."""
    return from_document(document(**changes))


def build(name: str = "extension", **changes: Any) -> dict[str, Any]:
    """Return a build that needs torch."""
    source = {"sdist": f"{name}==1.0"}
    return {"name": name, "version": "1.0", "source": source, "needs": ["torch"], **changes}


def lock(
    torch: str = "2.0.1",
    *,
    runtime: str | None = "nvidia-cuda-runtime-cu11==11.7.99",
    nvcc: str | None = "11.8.89~11.8.0-5~deb12u1",
    gcc: tuple[LockedDeb, ...] = (deb("g++-11", "toolchain", version="11.3.0-12"),),
    libc: str = "2.36-9+deb12u10",
    build: tuple[LockedPackage, ...] = (),
) -> Lock:
    """Return a lock of that stack."""
    name, _, version = (runtime or "").partition("==")
    parts = (package(name, version),) if runtime else ()
    needs = tuple(one.name for one in parts)
    extension = package("extension", index="", dependencies=("torch",), requested=True)
    packages = (package("torch", torch, dependencies=needs, requested=True), *parts, extension)
    toolkit = (deb("nvidia-cuda-toolkit", "toolchain", version=nvcc),) if nvcc else ()
    return Lock(
        inputs=(),
        runtime=packages,
        build=(("", (*packages[:-1], *build)),),
        sources=(),
        debs=(*gcc, deb("libc6", "runtime", "toolchain", version=libc), *toolkit),
    )


def found(one: Stack, its_lock: Lock | None) -> dict[str, tuple[str, ...]]:
    """Return check -> messages of all findings."""
    messages: dict[str, tuple[str, ...]] = {}
    for finding in cells.findings(one, its_lock):
        messages[finding.check] = (*messages.get(finding.check, ()), finding.message)
    return messages


def only(one: Stack, its_lock: Lock | None, check: str) -> str:
    """Return the one message there is."""
    ((name, (message,)),) = found(one, its_lock).items()
    assert name == check
    return message


def fitting(**changes: Any) -> Lock:
    """Return a lock with which nothing is wrong: torch for CUDA 11.8."""
    return lock(**{"torch": "2.0.1+cu118", "runtime": None, **changes})


def test_every_check_is_tested() -> None:
    told = Path(__file__).read_text(encoding="utf-8")
    assert [check.id for check in cells.CHECKS if f'"{check.id}"' not in told] == []


def test_what_goes_together_is_not_complained_of() -> None:
    assert found(stack(), fitting()) == {}
    assert {check.level for check in cells.CHECKS} == {"error", "warning"}


# ---- CUDA of torch and of nvcc -------------------------------------------------------------------------


def test_minor_versions_that_differ_are_a_warning() -> None:
    assert only(stack(), lock(), "cuda-minor") == (
        "torch 2.0.1 is CUDA 11.7 (`nvidia-cuda-runtime-cu11` 11.7.99 in pylock.toml); "
        "nvcc is 11.8 (`nvidia-cuda-toolkit` 11.8.89~11.8.0-5~deb12u1 in lockbuild.lock)"
    )
    assert [finding.level for finding in cells.findings(stack(), lock())] == ["warning"]


def test_major_versions_that_differ_are_an_error() -> None:
    trixie = stack(target={"cuda": "12.4"})
    assert only(trixie, lock(nvcc="12.4.131~12.4.1-2"), "cuda-major") == (
        "torch 2.0.1 is CUDA 11.7 (`nvidia-cuda-runtime-cu11` 11.7.99 in pylock.toml); "
        "nvcc is 12.4 (`nvidia-cuda-toolkit` 12.4.131~12.4.1-2 in lockbuild.lock)"
    )


def test_nvcc_of_wheels_is_the_locked_one() -> None:
    wheels = (package("nvidia-cuda-nvcc", "13.0.88"), package("nvidia-nvvm", "13.0.88"))
    one = stack(toolchain=WHEELS, target={"cuda": "13.0"})
    assert "nvcc is 13.0 (`nvidia-cuda-nvcc` 13.0.88 in pylock.build.toml)" in only(
        one, lock(nvcc=None, build=wheels), "cuda-major"
    )


def test_image_says_its_cuda_itself() -> None:
    image = LockedImage(
        root="toolchain", reference="example.org/cuda:12.1.1-devel", env=(("CUDA_VERSION", "11.8.0"),)
    )
    one = stack(base=images("example.org/cuda:12.1.1-devel"), toolchain=IMAGE)
    same = replace(fitting(nvcc=None, gcc=()), images=(image,))
    assert set(found(one, same)) == {"cell-unknown"}
    assert (
        "nvcc is 12.1 (`base.toolchain` 12.1.1-devel)"
        in found(one, replace(same, images=()))["cuda-major"][0]
    )


def images(toolchain: str) -> dict[str, Any]:
    return {"toolchain": toolchain, "runtime": "example.org/cuda:runtime"}


def test_torch_for_the_cpu_alone_has_nothing_for_extensions_with_device_code() -> None:
    assert only(stack(), lock("2.0.1+cpu", runtime=None), "cuda-major") == (
        "torch 2.0.1+cpu is one without CUDA (`torch` 2.0.1+cpu in pylock.toml); "
        "nvcc is 11.8 (`nvidia-cuda-toolkit` 11.8.89~11.8.0-5~deb12u1 in lockbuild.lock)"
    )


def test_torch_for_the_cpu_alone_goes_with_every_nvcc_where_no_gpu_is_named() -> None:
    one = stack(target={"cuda-architectures": []})
    assert found(one, lock("2.0.1+cpu", runtime=None)) == {}


def test_torch_that_bundles_its_cuda_has_that_of_the_default_index() -> None:
    message = found(stack(), lock("1.12.1", runtime=None))["cuda-major"][0]
    assert message.startswith("torch 1.12.1 is CUDA 10.2 (what the default index has of torch 1.12); ")


def test_torch_whose_label_says_more_than_its_cuda_has_that_cuda() -> None:
    message = only(stack(), lock("2.0.1+cu117.with.pypi.cudnn", runtime=None), "cuda-minor")
    assert message.startswith("torch 2.0.1+cu117.with.pypi.cudnn is CUDA 11.7 (")


def test_torch_of_another_index_that_says_nothing_is_unknown() -> None:
    python = {"index": [{"name": "own", "url": "https://example.org/simple", "only": ["torch"]}]}
    message = only(stack(python=python), lock(runtime=None), "cell-unknown")
    assert message == "nobody says which CUDA torch 2.0.1 is for (`torch` 2.0.1 in pylock.toml)"


@pytest.mark.parametrize("cuda", ["11.7", "12.4"])
def test_target_is_what_is_compiled_with(cuda: str) -> None:
    message = only(stack(target={"cuda": cuda}), fitting(), "target-cuda")
    assert message.startswith(f"`target.cuda` is {cuda}; nvcc is 11.8 (")


def test_target_without_nvcc_is_what_torch_brings() -> None:
    one = stack(toolchain={}, target={"cuda": "12.4", "cuda-architectures": []})
    assert set(found(one, lock(nvcc=None))) == {"target-cuda"}
    other = stack(toolchain={}, target={"cuda": "11.7", "cuda-architectures": []})
    assert found(other, lock(nvcc=None)) == {}


def test_nvcc_without_a_target_for_cuda_is_an_error() -> None:
    message = only(stack(target={"cuda": None}), fitting(), "target-cuda")
    assert message.startswith("`target.cuda` is not there; nvcc is 11.8 (")
    assert message.endswith("for extension")


# ---- nvcc itself ---------------------------------------------------------------------------------------


def test_architectures_without_nvcc_are_an_error() -> None:
    one = stack(toolchain={"compiler": "g++-11"}, target={"cuda": None})
    message = only(one, fitting(nvcc=None), "nvcc-absent")
    assert message == "nothing in the toolchain is nvcc; to be compiled for 8.6+PTX: extension"
    assert found(stack(toolchain={}, target={"cuda": None}, build=[]), fitting(nvcc=None)) == {}


def test_nvcc_without_architectures_is_an_error() -> None:
    message = only(stack(target={"cuda-architectures": []}), fitting(), "architecture-nvcc")
    assert message.startswith("`target.cuda-architectures` is empty; nvcc 11.8 (")
    assert message.endswith("is to compile extension")


def test_wheels_without_nvcc_are_an_error() -> None:
    one = stack(toolchain={"nvcc": {"wheels": ["nvidia-cuda-nvcc-cu12==12.4.131"]}})
    parts = (package("nvidia-cuda-nvcc-cu12", "12.4.131"),)
    message = found(one, fitting(nvcc=None, build=parts))["nvcc-absent"][0]
    assert (
        "`toolchain.nvcc.wheels` (nvidia-cuda-nvcc-cu12==12.4.131) brings no `nvidia-cuda-nvcc`"
        in message
    )


def test_deb_that_is_not_locked_is_an_error_unless_all_are_open() -> None:
    absent = fitting(nvcc=None)
    assert "nvcc-absent" in found(stack(), absent)
    waiting = replace(
        absent, debs=(), open=(OpenPart(kind="apt", name="bookworm", reason="no archive"),)
    )
    assert found(stack(), waiting) == {}
    assert "cuda-major" in found(stack(), replace(waiting, runtime=lock("1.12.1", runtime=None).runtime))


def test_parts_of_nvcc_are_of_its_release() -> None:
    wheels = (package("nvidia-cuda-nvcc", "13.0.88"), package("nvidia-nvvm", "13.2.78"))
    one = stack(toolchain=WHEELS, target={"cuda": "13.0"})
    message = only(
        one,
        lock("2.11.0", runtime="nvidia-cuda-runtime==13.0.96", nvcc=None, build=wheels),
        "nvcc-parts",
    )
    assert message == (
        "nvcc is 13.0 (`nvidia-cuda-nvcc` 13.0.88 in pylock.build.toml), and a part of it 13.2 "
        "(`nvidia-nvvm` 13.2.78 in pylock.build.toml)"
    )


# ---- host compilers ------------------------------------------------------------------------------------

GCC_12 = (deb("g++", "toolchain", version="4:12.2.0-3"),)


def test_newer_compiler_than_nvcc_takes_is_an_error() -> None:
    one = stack(toolchain={"nvcc": APT["nvcc"], "compiler": "g++-13"})
    message = only(one, fitting(gcc=(deb("g++-13", "toolchain", version="13.3.0-16"),)), "host-compiler")
    assert message == (
        "nvcc 11.8 (`nvidia-cuda-toolkit` 11.8.89~11.8.0-5~deb12u1 in lockbuild.lock) takes GCC up to 11; "
        '`g++-13` of extension is GCC 13.3 (`g++-13` 13.3.0-16 in lockbuild.lock): `toolchain.compiler = "g++-11"`'
    )


def test_compiler_of_the_suite_counts_where_none_is_named() -> None:
    message = only(stack(toolchain={"nvcc": APT["nvcc"]}), fitting(gcc=GCC_12), "host-compiler")
    assert "`g++` of extension is GCC 12.2 (`g++` 4:12.2.0-3 in lockbuild.lock)" in message


@pytest.mark.parametrize("env", [{"CC": "/usr/bin/gcc-12"}, {"CC": "ccache gcc-12", "CXX": "g++-11"}])
def test_compiler_of_one_build_alone_is_named_with_it(env: dict[str, str]) -> None:
    own = [build(), build("other", env=env, needs=["extension"])]
    message = only(stack(build=own), fitting(), "host-compiler")
    assert "`g++-12` of other is GCC 12 (`g++-12` in stack.toml)" in message


def test_nvcc_never_calls_the_compiler_of_what_is_c_plus_plus_alone() -> None:
    # torch gives it CC; where there is none, it looks for its own.
    newer = stack(build=[build(env={"CXX": "g++-12"})])
    assert found(newer, fitting()) == {}
    older = stack(build=[build(env={"CXX": "g++-11"})], toolchain={"nvcc": APT["nvcc"]})
    message = only(older, fitting(gcc=GCC_12), "host-compiler")
    assert "`g++` of extension is GCC 12.2 (`g++` 4:12.2.0-3 in lockbuild.lock)" in message


def test_compiler_of_what_is_c_plus_plus_alone_has_the_standard_of_torch_s_headers() -> None:
    one = stack(build=[build(env={"CXX": "g++-8"})])
    message = only(one, fitting(torch="2.1.2+cu118"), "cxx-standard")
    assert "and so GCC 9 or later; `g++-8` of extension is 8 (`g++-8` in stack.toml)" in message


@pytest.mark.parametrize(
    "flag", ["-ccbin g++-12", "-O3 -ccbin=/usr/bin/g++-12", "--compiler-bindir gcc-12"]
)
def test_compiler_that_nvcc_is_told_to_take_counts(flag: str) -> None:
    message = only(stack(build=[build(env={"NVCC_PREPEND_FLAGS": flag})]), fitting(), "host-compiler")
    assert "`g++-12` of extension is GCC 12 (`g++-12` in stack.toml)" in message
    env = {"CC": "gcc-12", "NVCC_PREPEND_FLAGS": "-ccbin g++-11"}
    assert found(stack(build=[build(env=env)]), fitting()) == {}


def test_who_tells_nvcc_to_take_any_compiler_means_it() -> None:
    env = {"CC": "gcc-12", "NVCC_PREPEND_FLAGS": "-allow-unsupported-compiler"}
    assert found(stack(build=[build(env=env)]), fitting()) == {}


def test_builds_without_torch_may_have_any_compiler() -> None:
    assert found(stack(build=[build(needs=[], env={"CC": "gcc-12"})]), fitting()) == {}


def test_compiler_of_another_kind_is_unknown() -> None:
    message = only(stack(build=[build(env={"CXX": "clang++-15"})]), fitting(), "cell-unknown")
    assert message == "the version of `clang++-15` of extension is not known"


def test_compiler_older_than_torch_s_headers_is_an_error() -> None:
    gcc = (deb("g++-8", "toolchain", version="8.4.0-1"),)
    one = stack(toolchain={"nvcc": APT["nvcc"], "compiler": "g++-8"})
    message = only(one, fitting(torch="2.1.2+cu118", gcc=gcc), "cxx-standard")
    assert message == (
        "the headers of torch 2.1.2+cu118 want C++17, and so GCC 9 or later; `g++-8` of extension is 8.4 "
        "(`g++-8` 8.4.0-1 in lockbuild.lock)"
    )


def test_nvcc_without_the_standard_of_torch_s_headers_is_an_error() -> None:
    message = found(stack(), fitting(torch="2.13.0+cu118"))["cxx-standard"][0]
    assert "want C++20, and so nvcc 12.0 or later; it is 11.8 (" in message


@pytest.mark.parametrize(
    ("flags", "fits"),
    [
        ("-O3 -std=c++14", False),
        ("-std=gnu++1y", False),
        ("-std=c++98", False),
        ("-O2 -std c++11", False),
        ("-std c++17", True),
        ("-std=c++17 -O2", True),
        ("--std=c++20", True),
    ],
)
def test_flags_may_not_ask_for_an_older_standard(flags: str, *, fits: bool) -> None:
    for variable in ("NVCC_APPEND_FLAGS", "CFLAGS"):
        one = stack(build=[build(env={variable: flags})])
        assert ("cxx-standard" in found(one, fitting(torch="2.6.0+cu118"))) is not fits


# ---- architectures -------------------------------------------------------------------------------------


def test_architecture_that_nvcc_does_not_know_is_an_error() -> None:
    one = stack(target={"cuda-architectures": ["8.6", "12.0+PTX"]})
    message = found(one, fitting())["architecture-nvcc"][0]
    assert message == (
        "`12.0+PTX` is none that nvcc 11.8 (`nvidia-cuda-toolkit` 11.8.89~11.8.0-5~deb12u1 in lockbuild.lock) knows: "
        "3.5, 3.7, 5.0, 5.2, 5.3, 6.0, 6.1, 6.2, 7.0, 7.2, 7.5, 8.0, 8.6, 8.7, 8.9, 9.0"
    )


def test_architecture_that_torch_has_no_code_for_is_a_warning() -> None:
    one = stack(target={"cuda-architectures": ["8.6", "9.0"]})
    messages = found(one, lock())
    assert messages["architecture-torch"] == (
        "torch 2.0.1 for CUDA 11.7 has no code for `9.0`: it has 3.7, 5.0, 6.0, 7.0, 7.5, 8.0, 8.6",
    )


def test_code_of_an_earlier_minor_version_runs_on_later_gpus() -> None:
    assert found(stack(target={"cuda-architectures": ["8.7", "8.9"]}), fitting()) == {}


# ---- the C library -------------------------------------------------------------------------------------


def test_wheel_for_a_later_c_library_is_an_error() -> None:
    wheel = LockedFile(
        filename="new-1.0-cp311-cp311-manylinux_2_39_x86_64.manylinux_2_40_x86_64.whl", sha256=sha("new")
    )
    more = replace(package("new"), wheel=wheel)
    its_lock = fitting()
    message = only(stack(), replace(its_lock, runtime=(*its_lock.runtime, more)), "glibc")
    assert message == f"`{wheel.filename}` wants glibc 2.39 or later; `target.glibc` is 2.36"


def test_image_with_an_earlier_c_library_than_the_target_s_is_an_error() -> None:
    message = only(stack(), fitting(libc="2.31-13"), "glibc")
    assert message == "`target.glibc` is 2.36; the image's is 2.31 (`libc6` 2.31-13 in lockbuild.lock)"


@pytest.mark.parametrize("tag", ["manylinux2014_x86_64", "manylinux1_x86_64", "linux_x86_64"])
def test_wheels_for_early_c_libraries_fit(tag: str) -> None:
    wheel = LockedFile(filename=f"old-1.0-cp311-cp311-{tag}.whl", sha256=sha("old"))
    its_lock = fitting()
    its_lock = replace(its_lock, runtime=(*its_lock.runtime, replace(package("old"), wheel=wheel)))
    assert found(stack(), its_lock) == {}


@pytest.mark.parametrize(("libc", "fits"), [("2.35-0ubuntu3", True), ("2.34-0ubuntu3", False)])
def test_machine_s_python_for_a_later_c_library_is_an_error(libc: str, fits: bool) -> None:
    its_lock = replace(fitting(libc=libc), interpreter=HOST)
    message = "`cpython-3.11.9-host.tar` wants glibc 2.35 or later; the image's is 2.34"
    expected = {} if fits else {"glibc": (message,)}
    assert found(stack(target={"glibc": "2.31"}), its_lock) == expected


# ---- the interpreter -----------------------------------------------------------------------------------

STANDALONE = "https://example.org/cpython-3.10.16+20250106-x86_64-unknown-linux-gnu-install_only.tar.gz"


def test_debian_s_python_that_is_not_the_target_s_is_an_error() -> None:
    its_lock = fitting()
    its_lock = replace(its_lock, debs=(*its_lock.debs, deb("python3", "runtime", version="3.11.2-1+b1")))
    assert only(stack(target={"python": "3.12"}), its_lock, "interpreter-version") == (
        "`target.python` is 3.12; the interpreter is 3.11 (`python3` 3.11.2-1+b1 in lockbuild.lock)"
    )
    assert found(stack(), its_lock) == {}


def test_python_of_a_suite_counts_until_there_is_a_lock_of_its_packages() -> None:
    of_suite = "`target.python` is 3.12; the interpreter is 3.11 (what bookworm has of `python3`)"
    one = stack(target={"python": "3.12"}, python={"requires": []})
    without = Lock(
        inputs=(),
        runtime=(),
        build=(),
        sources=(),
        debs=(),
        open=(OpenPart(kind="apt", name="bookworm", reason="unreachable"),),
    )
    assert only(one, None, "interpreter-version") == of_suite
    assert found(one, without)["interpreter-version"] == (of_suite,)
    assert "interpreter-version" not in found(one, replace(without, open=()))


@pytest.mark.parametrize(
    ("interpreter", "source"),
    [
        ({"standalone": {"url": [STANDALONE], "sha256": "a" * 64}}, STANDALONE.rpartition("/")[2]),
        ({"apt": "python3.10"}, "python3.10` in stack.toml"),
        ({"image": "/usr/bin/python3.10"}, "python3.10` in stack.toml"),
    ],
)
def test_interpreter_whose_name_tells_another_python_is_an_error(
    interpreter: dict[str, Any], source: str
) -> None:
    changes: dict[str, Any] = {"interpreter": interpreter, "python": {"requires": []}}
    if "image" in interpreter:
        changes["base"] = images("docker.io/nvidia/cuda:11.8.0-devel-ubuntu22.04")
    message = only(stack(**changes), None, "interpreter-version")
    assert message.startswith("`target.python` is 3.11; the interpreter is 3.10 (")
    assert source in message
    assert "interpreter-version" not in found(stack(**changes, target={"python": "3.10"}), None)


@pytest.mark.parametrize(
    "interpreter",
    [
        {"apt": "pypy3"},
        {"standalone": {"url": ["https://example.org/python.tar.gz"], "sha256": "a" * 64}},
        {"host": "python3.10"},
    ],
)
def test_interpreter_whose_python_no_name_tells_is_not_judged(interpreter: dict[str, Any]) -> None:
    assert found(stack(interpreter=interpreter), fitting()) == {}


# ---- what is not known ---------------------------------------------------------------------------------


def test_what_tables_do_not_have_is_said() -> None:
    messages = found(stack(target={"cuda": "14.0"}), lock("3.1.0", runtime=None, nvcc="14.0.1-1"))
    assert set(messages) == {"cell-unknown"}
    assert [message.split(" (")[0] for message in messages["cell-unknown"]] == [
        "nothing is known of nvcc 14.0",
        "nothing is known of the C++ that torch 3.1.0 wants",
        "nobody says which CUDA torch 3.1.0 is for",
    ]


def test_architectures_of_a_torch_that_nobody_knows_are_unknown() -> None:
    messages = found(
        stack(target={"cuda": "13.2"}),
        lock("2.15.0", runtime="nvidia-cuda-runtime==13.2.86", nvcc="13.2.78-1"),
    )
    assert messages["cell-unknown"] == (
        "nothing is known of the C++ that torch 2.15.0 wants",
        "nothing is known of the architectures of torch 2.15.0 for CUDA 13.2",
    )


# ---- before there is a lock ----------------------------------------------------------------------------

EARLY: dict[str, tuple[dict[str, Any], str]] = {
    "nvcc 13 from wheels with torch 2.0.1": (
        {"toolchain": WHEELS, "target": {"cuda": "13.0"}},
        "cuda-major",
    ),
    "nvcc 12.4 of trixie with torch 2.0.1": (
        {"base": {"debian": {"suite": "trixie"}}, "target": {"cuda": "12.4", "python": "3.13"}},
        "cuda-major",
    ),
    "gcc 13 with nvcc 11.8": ({"toolchain": {**APT, "compiler": "g++-13"}}, "host-compiler"),
    "the compiler of the suite": ({"toolchain": {"nvcc": APT["nvcc"]}}, "host-compiler"),
    "Python 3.12 on bookworm": ({"target": {"python": "3.12"}}, "interpreter-version"),
    "sm_90 with CUDA 11.3": (
        {
            "base": images("docker.io/nvidia/cuda:11.3.1-cudnn8-devel-ubuntu20.04"),
            "interpreter": {"image": "python3"},
            "toolchain": IMAGE,
            "python": {"requires": ["torch==1.12.1+cu113"]},
            "target": {"cuda": "11.3", "cuda-architectures": ["9.0"]},
        },
        "architecture-nvcc",
    ),
}


@pytest.mark.parametrize("case", EARLY)
def test_stack_file_alone_rules_out(case: str) -> None:
    changes, check = EARLY[case]
    early = cells.findings(stack(**changes), None)
    assert {finding.check for finding in early if finding.level == "error"} == {check}


def test_stack_file_that_pins_nothing_rules_nothing_out() -> None:
    open_stack = stack(python={"requires": ["torch>=2", "torch==1.4; python_version < '3'"]})
    assert found(open_stack, None) == {}


def test_error_tells_all_errors_with_their_mends() -> None:
    one = stack(toolchain={**APT, "compiler": "g++-13"}, target={"cuda": "12.4"})
    error = cells.refused("cell", cells.findings(one, lock()), what="nothing is written")
    assert isinstance(error, ResolveError)
    assert [line.split(":")[0] for line in error.details] == [
        "target-cuda",
        "  mend",
        "host-compiler",
        "  mend",
    ]
    assert cells.refused("cell", cells.findings(stack(), lock()), what="nothing") is None
