"""Stacks as values, and the inputs that a lock follows from."""

from __future__ import annotations

from datetime import date
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lockbuild.stack import (
    Apt,
    Base,
    DebianBase,
    Image,
    Index,
    Interpreter,
    Mount,
    PinnedWheel,
    Python,
    Source,
    Standalone,
    file_name_of,
    from_document,
    inputs_of,
)
from lockbuild.stack.schema import StackDocument
from lockbuild.target import Target
from tests.values import minimal_document, small_stack, stack_document

# ---- from a document -------------------------------------------------------------------------------


def test_target_is_read() -> None:
    assert small_stack().target == Target(
        python="3.11",
        platform="linux_x86_64",
        glibc="2.36",
        cuda="12.1",
        cuda_architectures=("8.6", "8.9+PTX"),
    )


def test_base_apt_and_interpreter_are_read() -> None:
    stack = small_stack(apt={"toolchain": ["g++"], "runtime": ["libgl1"]})
    assert stack.base == Base(debian=DebianBase(suite="bookworm", components=("main",)))
    assert stack.apt == Apt(toolchain=("g++",), runtime=("libgl1",))
    assert stack.interpreter == Interpreter(apt="python3")


def test_standalone_interpreter_is_read() -> None:
    url = ["https://example.org/cpython-3.8.20%2B1.tar.gz", "https://mirror.example.org/other.tar.gz"]
    stack = small_stack(interpreter={"standalone": {"url": url, "sha256": "a" * 64, "size": 7}})
    standalone = Standalone(url=tuple(url), sha256="a" * 64, size=7)
    assert stack.interpreter == Interpreter(standalone=standalone)
    assert standalone.filename == "cpython-3.8.20+1.tar.gz"


def test_python_is_read() -> None:
    table = {"constraints": ["numpy<2"], "overrides": ["six==1.17"], **stack_document()["python"]}
    assert small_stack(python=table).python == Python(
        requires=("alpha>=1",),
        constraints=("numpy<2",),
        overrides=("six==1.17",),
        exclude_newer="2025-06-01",
        indexes=(Index(name="extra", url="https://packages.example.org/simple", only=("beta",)),),
    )


def test_bounds_may_have_reasons() -> None:
    table = {
        "constraints": ["numpy<2", {"requirement": "six<2", "reason": "old"}],
        "overrides": [{"requirement": "six==1.17", "reason": "newer"}],
    }
    python = small_stack(python=table).python
    assert (python.constraints, python.overrides) == (("numpy<2", "six<2"), ("six==1.17",))
    assert dict(python.reasons) == {"six<2": "old", "six==1.17": "newer"}


def test_pinned_wheels_are_read() -> None:
    url = ("https://a.example.org/torch-2.7.1%2Bcu118-cp311-cp311-linux_x86_64.whl", "file:///b")
    table = {"name": "torch", "version": "2.7.1+cu118", "url": list(url), "sha256": "0" * 64}
    (wheel,) = small_stack(python={"wheel": [table]}).python.wheels
    filename = "torch-2.7.1+cu118-cp311-cp311-linux_x86_64.whl"
    assert wheel == PinnedWheel(
        name="torch", version="2.7.1+cu118", filename=filename, url=url, sha256="0" * 64
    )


@pytest.mark.parametrize(
    "url",
    ["https://a.example.org/x/a%2Bb.whl", "file:///a+b.whl", "https://a.example.org/a+b.whl?q=/#h=/"],
)
def test_file_name_is_what_an_address_ends_in(url: str) -> None:
    assert file_name_of(url) == "a+b.whl"


def test_builds_are_read_in_their_order() -> None:
    gamma, delta = small_stack().builds
    assert (gamma.name, gamma.version, gamma.source) == ("gamma", "2.0", Source(sdist="gamma==2.0"))
    assert (gamma.needs, gamma.build_requires) == (("alpha",), ("setuptools>=74",))
    assert (gamma.requires, gamma.expects) == (("alpha",), ("gamma/_ext*.so",))
    assert (delta.source, delta.environment) == (Source(path="extension"), "native")


def test_variables_are_sorted() -> None:
    variables = {"B": "2", "A": "1"}
    build = {**stack_document()["build"][0], "env": variables}
    stack = small_stack(env=variables, build=[build])
    assert stack.env == stack.builds[0].env == (("A", "1"), ("B", "2"))


def test_preflight_and_image_are_read() -> None:
    image = {"user": "me", "workdir": "/data", "entrypoint": ["tini", "--"], "command": ["bash"]}
    stack = small_stack(image=image)
    assert (stack.imports, stack.checks) == (("gamma",), ("import delta",))
    assert (stack.mounts, stack.gpu) == ((), "none")
    assert stack.image == Image(user="me", workdir="/data", entrypoint=("tini", "--"), command=("bash",))


def test_gpu_and_mounts_are_read() -> None:
    table = {"path": "/data", "holds": ["a"], "why": "large", "optional": True}
    stack = small_stack(mount=[table, {"path": "/other"}], preflight={"gpu": "required"})
    assert stack.gpu == "required"
    assert stack.mounts == (
        Mount(path="/data", holds=("a",), why="large", optional=True),
        Mount(path="/other"),
    )


def test_mounts_move_by_their_path() -> None:
    mounts = [{"path": "/a", "why": "x"}, {"path": "/b", "why": "x"}]
    changed = [mounts[0], {"path": "/b", "why": "y"}]
    assert moved(stack_document(mount=mounts), stack_document(mount=changed)) == {"mount./b.why"}


def test_defaults_are_those_that_the_model_shows_to_editors() -> None:
    document = minimal_document()
    spelled = StackDocument.model_validate(document).model_dump(by_alias=True, exclude_none=True)
    assert from_document(spelled) == from_document(document)


def test_defaults_of_a_build_are_those_that_the_model_shows_to_editors() -> None:
    build = {"name": "gamma", "version": "1", "source": {"path": "gamma"}}
    document = {**minimal_document(), "build": [build]}
    spelled = StackDocument.model_validate(document).model_dump(by_alias=True, exclude_none=True)
    assert from_document(spelled) == from_document(document)


def test_build_is_found_by_name() -> None:
    assert small_stack().build("delta").version == "0.1"


def test_no_build_of_a_name_is_an_error() -> None:
    with pytest.raises(KeyError, match="omega"):
        small_stack().build("omega")


@pytest.mark.parametrize(
    ("named", "expected"), [((), ("",)), (("",), ("",)), (("b", "a", "b"), ("", "a", "b"))]
)
def test_unnamed_build_environment_is_always_there(
    named: tuple[str, ...], expected: tuple[str, ...]
) -> None:
    build = stack_document()["build"][0]
    builds = [{**build, "name": f"b{n}", "environment": name} for n, name in enumerate(named)]
    assert small_stack(build=builds).build_environments() == expected


# ---- inputs of a lock --------------------------------------------------------------------------------


def test_inputs_are_addressed_by_key_and_name() -> None:
    keys = inputs_of(stack_document(), {"extension/setup.py": "ab" * 32}).keys()
    assert {
        "name",
        "target.cuda-architectures",
        "base.debian.suite",
        "python.index.extra.url",
        "build.gamma.env.FORCE_CUDA",
        "build.delta.source.path",
        "file extension/setup.py",
    } <= keys


def moved(before: dict[str, Any], after: dict[str, Any]) -> set[str]:
    one, other = inputs_of(before, {}), inputs_of(after, {})
    return {key for key in one.keys() | other.keys() if one.get(key) != other.get(key)}


@pytest.mark.parametrize(
    ("changes", "expected"),
    [
        ({}, set()),
        ({"summary": "another"}, {"summary"}),
        ({"env": {"OMP_NUM_THREADS": "1", "NEW": "x"}}, {"env.NEW"}),
        ({"env": {}}, {"env.OMP_NUM_THREADS"}),
        ({"interpreter": {"apt": "python3.12"}}, {"interpreter.apt"}),
        (
            {"interpreter": {"standalone": {"url": ["https://a/b.tar.gz"], "sha256": "0" * 64}}},
            {"interpreter.apt", "interpreter.standalone.sha256", "interpreter.standalone.url"},
        ),
        ({"python": {"requires": ["alpha>=1", "z"]}}, {"python.requires"}),
    ],
)
def test_change_moves_its_own_key(changes: dict[str, Any], expected: set[str]) -> None:
    before = stack_document(python={"requires": ["alpha>=1"]})
    assert moved(before, {**before, **changes}) == expected


def test_order_of_builds_moves_nothing() -> None:
    builds = stack_document()["build"]
    assert moved(stack_document(), stack_document(build=builds[::-1])) == set()


def test_files_move_by_their_own_hash() -> None:
    one = inputs_of({}, {"a/b.c": "0" * 64})
    assert one == {"file a/b.c": "0" * 16}


toml_values = st.recursive(
    st.booleans() | st.integers() | st.floats() | st.text(st.characters(codec="utf-8")) | st.dates(),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(st.text(st.characters(codec="utf-8")), inner, max_size=3)
    ),
    max_leaves=10,
)


@pytest.mark.property
@given(st.dictionaries(st.text(st.characters(codec="utf-8")), toml_values, max_size=4))
def test_inputs_of_any_toml_document_can_be_taken(document: dict[str, Any]) -> None:
    # A file may have been edited into anything since its lock was made: it is stale, not a crash.
    assert inputs_of(document, {}) == inputs_of(dict(reversed(document.items())), {})


@pytest.mark.parametrize("other", [1.5, True, 1, date(2025, 6, 1), ["2025-06-01"]])
def test_text_is_told_from_what_looks_alike(other: Any) -> None:
    text = "2025-06-01" if isinstance(other, list) else str(other)
    assert moved({"key": text}, {"key": other}) == {"key"}
