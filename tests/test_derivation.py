"""What a store path follows from, and what stays out of it."""

from __future__ import annotations

import pickle
from dataclasses import fields, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from lockbuild.derivation import (
    SANDBOX_VERSION,
    Addresses,
    Build,
    BuildTask,
    Fetch,
    FolderArchive,
    IndexFile,
    PoolFile,
    rootfs_command,
)
from lockbuild.digest import JsonValue, StorePath, canonical_json, sha256_of, store_path
from lockbuild.documents import json_text
from tests.values import any_build, deb, sha

if TYPE_CHECKING:
    from collections.abc import Callable

FETCH = Fetch(
    filename="numpy-2.2.6-cp311-cp311-manylinux_2_17_x86_64.manylinux2014_x86_64.whl",
    sha256=sha("numpy"),
    size=16_800_000,
    where=IndexFile(index="pypi", project="numpy"),
)
ROOTFS = any_build(
    name="small-toolchain",
    kind="rootfs",
    toolchain=None,
    command=("--suite=bookworm", "--architecture=amd64", "libc6=2.36-9+deb12u10"),
    env=(("SOURCE_DATE_EPOCH", "315532800"),),
    inputs=(("libc6_2.36-9+deb12u10_amd64.deb", StorePath("3" * 32 + "-libc6.deb")),),
)


def identity_of_fetch(fetch: Fetch) -> list[JsonValue]:
    return ["fetch", 1, fetch.filename, fetch.sha256]


def identity_of_build(build: Build) -> list[JsonValue]:
    """Return the list of a build, written by hand once more: the specification of its digest."""
    return [
        "build",
        1,
        SANDBOX_VERSION,
        build.kind,
        build.name,
        build.system,
        build.toolchain,
        list(build.command),
        [[name, value] for name, value in build.env],
        [[name, path] for name, path in build.inputs],
    ]


def test_digests_are_the_golden_ones(golden: Callable[[str, str], None]) -> None:
    examples: list[tuple[list[JsonValue], StorePath]] = [
        (identity_of_fetch(FETCH), FETCH.path),
        (identity_of_build(any_build()), any_build().path),
        (identity_of_build(ROOTFS), ROOTFS.path),
    ]
    shown = [
        {
            "canonical": canonical_json(identity).decode(),
            "sha256": sha256_of(canonical_json(identity)),
            "path": path,
        }
        for identity, path in examples
    ]
    golden("digests.json", json_text(shown))


# ---- fetches ---------------------------------------------------------------------------------------


def test_fetch_follows_from_name_and_content_alone() -> None:
    assert FETCH.path == store_path(identity_of_fetch(FETCH), FETCH.filename)


@pytest.mark.parametrize(
    "where",
    [
        IndexFile(index="mirror", project="numpy", url="https://mirror.example.org/simple"),
        PoolFile(vendor="debian", path="pool/main/n/numpy", snapshot="20250601T000000Z"),
        FolderArchive(path="numpy"),
        Addresses(urls=("https://files.example.org/numpy.whl",)),
    ],
)
def test_fetch_does_not_follow_from_where_it_is_looked_for(where: Any) -> None:
    assert replace(FETCH, where=where).path == FETCH.path


def test_fetch_does_not_follow_from_the_size_it_is_thought_to_have() -> None:
    assert replace(FETCH, size=None).path == FETCH.path


@pytest.mark.parametrize("changes", [{"filename": "numpy-2.2.5.whl"}, {"sha256": sha("other")}])
def test_fetch_follows_from(changes: dict[str, Any]) -> None:
    assert replace(FETCH, **changes).path.digest != FETCH.path.digest


# ---- builds ----------------------------------------------------------------------------------------

CHANGES: dict[str, list[Any]] = {
    "name": ["gamma-2.1"],
    "kind": ["environment"],
    "system": ["aarch64-linux"],
    "toolchain": [None, StorePath("4" * 32 + "-small-toolchain")],
    "command": [("/bin/sh", "-euc", "make all"), ("/bin/sh", "-euc"), ("/bin/sh -euc make",)],
    "env": [
        (),
        (("FORCE_CUDA", "0"), ("PATH", "/usr/bin:/bin")),
        (("FORCE_CUDA", "1"),),
        (("FORCE_CUDB", "1"), ("PATH", "/usr/bin:/bin")),
    ],
    "inputs": [
        (),
        any_build().inputs[:1],
        (("environmenu", any_build().inputs[0][1]), any_build().inputs[1]),
        (("environment", StorePath("5" * 32 + "-gamma-environment")), any_build().inputs[1]),
    ],
}


def test_every_field_of_a_build_is_tried() -> None:
    assert list(CHANGES) == [field.name for field in fields(Build)]


@pytest.mark.parametrize(
    ("field", "value"), [(field, value) for field, values in CHANGES.items() for value in values]
)
def test_build_follows_from(field: str, value: Any) -> None:
    assert any_build(**{field: value}).path.digest != any_build().path.digest


def test_build_follows_from_nothing_else() -> None:
    build = any_build()
    assert build.path == store_path(identity_of_build(build), build.name)


@pytest.mark.parametrize("field", ["env", "inputs"])
def test_unsorted_build_is_refused(field: str) -> None:
    backwards = tuple(reversed(getattr(any_build(), field)))
    with pytest.raises(ValueError, match=r"`gamma-2.0` are not sorted"):
        any_build(**{field: backwards})


def test_references_are_toolchain_and_inputs_once_each() -> None:
    twice = StorePath("1" * 32 + "-a")
    build = any_build(inputs=(("a", twice), ("b", twice)))
    assert build.references == (StorePath("0" * 32 + "-small-toolchain"), twice)


def test_references_of_a_root_file_system_are_its_inputs() -> None:
    assert ROOTFS.references == (ROOTFS.inputs[0][1],)


# ---- the command of a root file system ---------------------------------------------------------------


def test_rootfs_command_pins_every_package() -> None:
    debs = [deb("zlib1g", version="1:1.2.13-1"), deb("adduser", version="3.134", architecture="all")]
    assert rootfs_command("bookworm", debs) == (
        "--suite=bookworm",
        "--architecture=amd64",
        "adduser=3.134",
        "zlib1g=1:1.2.13-1",
    )


def test_rootfs_command_does_not_depend_on_order() -> None:
    debs = [deb("a"), deb("b"), deb("c")]
    assert rootfs_command("sid", iter(debs)) == rootfs_command("sid", reversed(debs))


@pytest.mark.parametrize(
    ("architectures", "found"), [((), r"\[\]"), (("all",), r"\[\]"), (("amd64", "arm64"), "arm64")]
)
def test_rootfs_is_of_one_architecture(architectures: tuple[str, ...], found: str) -> None:
    debs = [deb(f"p-{architecture}", architecture=architecture) for architecture in architectures]
    with pytest.raises(ValueError, match=f"one architecture were expected, found .*{found}"):
        rootfs_command("bookworm", debs)


# ---- tasks -----------------------------------------------------------------------------------------


def test_task_goes_to_another_process_and_back() -> None:
    task = BuildTask(
        name="gamma-2.0",
        kind="wheel",
        rootfs=Path("/rootfs"),
        rootfs_name="small-toolchain",
        command=("make",),
        env=(("A", "1"),),
        inputs=(("source/a.tar", Path("/a.tar")),),
        scratch=Path("/scratch"),
        log=Path("/log"),
    )
    assert pickle.loads(pickle.dumps(task)) == task
