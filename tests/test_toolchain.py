"""The table `[toolchain]`: what it adds to root file systems, environments and variables of builds."""

from __future__ import annotations

import subprocess
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import pytest

from lockbuild.derivation import Build
from lockbuild.documents import toml_text
from lockbuild.errors import StackError
from lockbuild.plan import make_plan, nvcc_wheels
from lockbuild.plan.commands import install_command, toolkit_command
from lockbuild.stack.schema import parse_stack_text
from tests.values import package, small_lock, small_stack, stack_document

if TYPE_CHECKING:
    from pathlib import Path

    from lockbuild.lock import Lock

APT = {"nvcc": {"apt": "nvidia-cuda-toolkit"}, "compiler": "g++-11"}
WHEELS = {"nvcc": {"wheels": ["cuda-toolkit[nvcc]==13.0.2"]}}
BY_HAND = {"CC": "gcc-11", "CUDA_HOME": "/usr", "CXX": "g++-11"}
STANDALONE = {"standalone": {"url": ["https://example.org/python.tar.gz"], "sha256": "a" * 64}}
IMAGES = {"toolchain": "example.org/cuda:1", "runtime": "example.org/cuda:2"}


def env_of(name: str, lock: Lock | None = None, **changes: Any) -> dict[str, str]:
    """Return the variables of a build of the small stack, with some top-level keys replaced."""
    plan = make_plan(small_stack(**changes), lock or small_lock())
    build = plan.derivations[dict(plan.compiles)[name]]
    assert isinstance(build, Build)
    return dict(build.env)


def with_env(env: dict[str, str]) -> list[dict[str, Any]]:
    """Return the builds of the small stack, the first with further variables."""
    gamma, delta = stack_document()["build"]
    return [{**gamma, "env": {**gamma["env"], **env}}, delta]


def refused(**changes: Any) -> str:
    with pytest.raises(StackError) as caught:
        parse_stack_text(toml_text(stack_document(**changes)), file="stack.toml")
    return "\n".join(caught.value.details)


def test_toolchain_gives_what_builds_would_say_by_hand() -> None:
    declared = make_plan(small_stack(toolchain=APT), small_lock())
    by_hand = make_plan(small_stack(build=with_env(BY_HAND)), small_lock())
    assert dict(declared.builds)["gamma"] == dict(by_hand.builds)["gamma"]


def test_own_env_of_a_build_is_stronger() -> None:
    env = env_of("gamma", toolchain=APT, build=with_env({"CXX": "g++-12", "CUDA_HOME": "/opt/cuda"}))
    assert (env["CC"], env["CXX"], env["CUDA_HOME"]) == ("gcc-11", "g++-12", "/opt/cuda")


def test_interpreter_from_elsewhere_links_with_the_declared_compiler() -> None:
    env = env_of("gamma", toolchain=APT, interpreter=STANDALONE)
    found = {name: env[name] for name in ("CC", "CXX", "LDSHARED", "LDCXXSHARED")}
    assert found == {
        "CC": "gcc-11",
        "CXX": "g++-11",
        "LDSHARED": "gcc-11 -shared",
        "LDCXXSHARED": "g++-11 -shared",
    }


@pytest.mark.parametrize("toolchain", [{}, {"compiler": "g++-11"}], ids=["none", "compiler alone"])
def test_nothing_is_said_that_is_not_declared(toolchain: dict[str, Any]) -> None:
    env = env_of("gamma", toolchain=toolchain)
    assert {"CC", "CXX", "CUDA_HOME"} & env.keys() == ({"CC", "CXX"} if toolchain else set())


def test_image_says_where_its_toolkit_is() -> None:
    stack = small_stack(toolchain={"nvcc": {"image": "/usr/local/cuda"}})
    assert stack.toolchain.env() == {"CUDA_HOME": "/usr/local/cuda"}


# ---- packages of the root file system ------------------------------------------------------------------


@pytest.mark.parametrize("listed", [["ccache"], ["ccache", "g++-11", "nvidia-cuda-toolkit"]])
def test_packages_need_not_be_listed_twice(listed: list[str]) -> None:
    stack = small_stack(toolchain=APT, apt={"toolchain": listed})
    assert stack.packages_of("toolchain") == ("ccache", "g++-11", "nvidia-cuda-toolkit", "python3")
    assert stack.packages_of("runtime") == ("python3",)


def test_image_without_an_archive_has_its_compilers_already() -> None:
    stack = small_stack(base=IMAGES, interpreter={"image": "python3"}, apt={}, toolchain=APT)
    assert stack.packages_of("toolchain") == ()


# ---- wheels --------------------------------------------------------------------------------------------


def cuda_lock() -> Lock:
    """Return the small lock where `alpha`, which `gamma` needs, requires torch; with nvcc's wheels."""
    lock = small_lock()
    torch = package("torch", "2.11.0")
    alpha = package("alpha", "1.2", dependencies=("beta", "torch"), requested=True)
    toolkit = package("cuda-toolkit", "13.0.2", dependencies=("nvidia-cuda-nvcc",), requested=True)
    further = (torch, toolkit, package("nvidia-cuda-nvcc", "13.0.88"))
    known = tuple(one for one in lock.runtime if one.name != "alpha")
    build = tuple(
        (name, (alpha, *further, *(one for one in packages if one.name != "alpha")))
        for name, packages in lock.build
    )
    return replace(lock, runtime=(alpha, torch, *known), build=build)


def test_wheels_make_a_toolkit_in_the_environment_of_what_needs_torch() -> None:
    env = env_of("gamma", cuda_lock(), toolchain=WHEELS)
    assert env["CUDA_HOME"] == "/build/inputs/environment/nvidia/cu13"
    assert env["PATH"].split(":")[:2] == [
        "/build/inputs/environment/bin",
        "/build/inputs/environment/nvidia/cu13/bin",
    ]


def test_wheels_are_in_no_environment_that_has_no_torch() -> None:
    delta, gamma = (
        make_plan(small_stack(toolchain=toolchain), small_lock()).builds for toolchain in ({}, WHEELS)
    )
    assert delta == gamma


def test_what_needs_torch_by_way_of_a_build_has_nvcc_too() -> None:
    stack, lock = small_stack(toolchain=WHEELS), cuda_lock()
    assert [spec.name for spec in stack.builds if nvcc_wheels(stack, lock.runtime, spec)] == [
        "gamma",
        "delta",
    ]


def test_only_a_toolkit_of_wheels_changes_how_environments_are_made() -> None:
    plain = install_command("pip.whl", built=False)
    assert install_command("pip.whl", built=False, toolkit="nvidia/cu13") == (
        *plain[:-1],
        plain[-1] + toolkit_command("nvidia/cu13"),
    )


def test_toolkit_gets_the_links_that_linkers_look_for(tmp_path: Path) -> None:
    libraries = tmp_path / "nvidia" / "cu13" / "lib"
    libraries.mkdir(parents=True)
    for name in ("libcudart.so.13", "libnvrtc.alt.so.13", "libnvrtc-builtins.so.13.0", "libthere.so.1"):
        (libraries / name).touch()
    (libraries / "libthere.so").write_text("own")
    command = toolkit_command("nvidia/cu13").replace("/build/out", str(tmp_path))
    subprocess.run(["/bin/sh", "-euc", command], check=True)
    found = {
        path.name: str(path.readlink())
        for path in (*libraries.iterdir(), *libraries.parent.iterdir())
        if path.is_symlink()
    }
    assert found == {
        "lib64": "lib",
        "libcudart.so": "libcudart.so.13",
        "libnvrtc.alt.so": "libnvrtc.alt.so.13",
        "libnvrtc-builtins.so": "libnvrtc-builtins.so.13.0",
    }
    assert (libraries / "libthere.so").read_text() == "own"


# ---- what is refused -----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "nvcc", [{}, {"apt": "nvidia-cuda-toolkit", "image": "/usr/local/cuda"}], ids=["none", "two"]
)
def test_nvcc_comes_from_one_place(nvcc: dict[str, Any]) -> None:
    assert "exactly one of `apt`, `image` and `wheels`" in refused(toolchain={"nvcc": nvcc})


@pytest.mark.parametrize("compiler", ["gcc-11", "g++11", "/usr/bin/g++", "clang++-15"])
def test_compiler_is_gccs(compiler: str) -> None:
    assert "GCC's C++ compiler" in refused(toolchain={"compiler": compiler})


def test_nvcc_of_an_image_wants_an_image() -> None:
    found = refused(toolchain={"nvcc": {"image": "/usr/local/cuda"}})
    assert "`base.toolchain` and `base.runtime` beside `toolchain.nvcc.image`" in found


def test_nvcc_from_debs_on_an_image_wants_an_archive() -> None:
    found = refused(base=IMAGES, interpreter={"image": "python3"}, apt={}, toolchain=APT)
    assert "`base.packages`" in found
