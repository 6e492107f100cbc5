"""Derivations as text, and strangers' texts."""

from __future__ import annotations

import json
from dataclasses import fields, replace
from typing import TYPE_CHECKING, Any, get_args

import pytest

from lockbuild.derivation import (
    SANDBOX_VERSION,
    Addresses,
    ArchiveMembers,
    BesideFile,
    ChannelFile,
    Derivation,
    Fetch,
    FolderArchive,
    GitTree,
    HostInterpreter,
    IndexFile,
    PoolFile,
    RegistryImage,
    Where,
)
from lockbuild.derivationtext import WHERE, derivation_text, parse_derivation
from lockbuild.digest import canonical_json
from lockbuild.plan import make_plan
from lockbuild.sources.kinds import KINDS
from tests.values import any_build, sha, small_lock, small_stack

if TYPE_CHECKING:
    from collections.abc import Callable

WHERES: tuple[Where, ...] = (
    Addresses(urls=("https://example.org/a.whl", "ftp://example.org/a.whl"), type="zip"),
    ArchiveMembers(
        urls=("https://example.org/a.zip",),
        archive=sha("zip"),
        archive_size=7,
        members=(("in/a", "out/a"),),
    ),
    BesideFile(path="patches/load.patch"),
    ChannelFile(channel="conda-forge", subdir="linux-64", url="https://example.org/conda-forge"),
    FolderArchive(path="extension"),
    GitTree(
        url="git@example.org:a/b.git",
        commit="0" * 40,
        submodules=True,
        include=("a/**",),
        exclude=("b",),
    ),
    IndexFile(index="extra", project="beta", url="https://example.org/simple"),
    IndexFile(index="pypi", project="alpha"),
    PoolFile(vendor="debian", path="pool/main/z/zlib/z.deb", snapshot="20250601T000000Z"),
    RegistryImage(reference="docker.io/nvidia/cuda:11.3.1", architecture="amd64"),
    HostInterpreter(command="python3.12"),
)


def fetch(where: Where, **changes: Any) -> Fetch:
    return replace(Fetch(filename="a.whl", sha256=sha("a"), size=3, where=where), **changes)


def refusal(document: Any) -> str:
    with pytest.raises(ValueError, match=".") as caught:
        parse_derivation(canonical_json(document).decode())
    return str(caught.value)


def changed(derivation: Derivation, place: int, value: Any) -> list[Any]:
    document: list[Any] = json.loads(derivation_text(derivation))
    document[place] = value
    return document


@pytest.mark.parametrize("where", WHERES, ids=lambda where: type(where).__name__)
def test_fetch_is_read_as_it_was_written(where: Where) -> None:
    assert parse_derivation(derivation_text(fetch(where))) == fetch(where)


def test_plan_is_read_as_it_was_written() -> None:
    for derivation in make_plan(small_stack(), small_lock()).derivations.values():
        assert parse_derivation(derivation_text(derivation)) == derivation


def test_text_of_a_build_is_what_its_path_is_the_digest_of() -> None:
    build = any_build()
    assert json.loads(derivation_text(build)) == build.identity


def test_texts_are_the_golden_ones(golden: Callable[[str, str], None]) -> None:
    derivations = [*(fetch(where) for where in WHERES), any_build()]
    golden("derivations.txt", "".join(f"{derivation_text(one)}\n" for one in derivations))


def test_every_place_and_every_field_of_it_can_be_written() -> None:
    assert {kind for kind, _ in WHERE.values()} == set(get_args(Where))
    for kind, read in WHERE.values():
        assert set(read) == {field.name for field in fields(kind)}


# ---- strangers -------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "document",
    [
        {},
        [],
        ["fetch"],
        ["fetch", 2, "a", sha("a"), 1, {"kind": "beside", "path": "a"}],
        ["realise", 1],
        ["fetch", 1, "a", sha("a"), 1],
        ["build", 1],
        [[[[[[1]]]]]],
    ],
    ids=str,
)
def test_what_is_no_derivation_is_refused(document: Any) -> None:
    assert refusal(document)


@pytest.mark.parametrize("filename", ["../a", "a/b", "", ".a", "a\nb", "a" * 300, 7, None])
def test_name_that_leads_out_of_a_folder_is_refused(filename: Any) -> None:
    assert refusal(changed(fetch(WHERES[2]), 2, filename)).startswith("expected a")
    assert refusal(changed(any_build(), 4, filename)).startswith("expected a")


@pytest.mark.parametrize("place", ["/etc/passwd", "../x", "a/../../x", "a//b", ".", "", "a\0b", "a\nb"])
def test_input_outside_of_the_inputs_is_refused(place: str) -> None:
    path = str(any_build().path)
    assert "expected a" in refusal(changed(any_build(), 9, [[place, path]]))


@pytest.mark.parametrize(
    "where",
    [
        {"kind": "beside", "path": "../../secret"},
        {"kind": "beside", "path": "/etc/passwd"},
        {"kind": "beside"},
        {"kind": "beside", "path": "a", "more": 1},
        {"kind": "shell", "command": "id"},
        {"kind": "host", "command": "id"},
        {"kind": "host", "command": "python/../../tmp/evil"},
        {"kind": "addresses", "urls": ["-oProxyCommand=id"]},
        {"kind": "addresses", "urls": "https://example.org"},
        {"kind": "git", "url": "--upload-pack=id", "commit": "0" * 40},
        {"kind": "git", "url": "ext::sh -c id", "commit": "0" * 40},
        {"kind": "git", "url": "https://example.org/a b", "commit": "0" * 40},
        {"kind": "git", "url": "https://example.org/a", "commit": "main"},
        {"kind": "pool", "vendor": "debian", "path": "../x"},
        {"kind": ["beside"], "path": "a"},
        {"kind": {"beside": 1}, "path": "a"},
        {"kind": "addresses", "urls": ["http://[x"]},
        {"kind": "addresses", "urls": ["https://example.org:x/"]},
        {"kind": "addresses", "urls": ["https://example.org:99999/"]},
        {"kind": "addresses", "urls": ["file:///%00"]},
        {"kind": "addresses", "urls": ["https://example.org/a"], "type": "program"},
        {"kind": "archive-members", "urls": [], "archive": 3, "archive_size": 1, "members": []},
        {"kind": "archive-members", "urls": [], "archive": "x", "archive_size": 1, "members": [["a"]]},
        {"kind": "registry", "reference": "-o", "architecture": "amd64"},
        {"kind": "registry", "reference": "docker.io/a:1@sha256:x", "architecture": "amd64"},
        "beside",
        None,
    ],
    ids=str,
)
def test_strange_place_to_look_is_refused(where: Any) -> None:
    assert refusal(changed(fetch(WHERES[2]), 5, where))


@pytest.mark.parametrize("size", [-1, "3", True, 1.5, [3]])
def test_strange_size_is_refused(size: Any) -> None:
    text = json.dumps(changed(fetch(WHERES[2]), 4, size), separators=(",", ":"))
    with pytest.raises(ValueError, match="number of bytes"):
        parse_derivation(text)


@pytest.mark.parametrize("kind", ["shell", "", None, 3, ["wheel"]])
def test_strange_kind_of_build_is_refused(kind: Any) -> None:
    assert "no kind of build" in refusal(changed(any_build(), 3, kind))


def test_other_sandbox_is_told_apart() -> None:
    found = refusal(changed(any_build(), 2, SANDBOX_VERSION + 1))
    assert f"version {SANDBOX_VERSION + 1} of the sandbox; this lockbuild has" in found


@pytest.mark.parametrize("word", ["--place=/../../home", "--interpreter=3.8:../x:a", "a\nb", "../a=1"])
def test_word_that_leads_a_builder_out_of_its_folder_is_refused(word: str) -> None:
    root = any_build(kind="rootfs", command=("--suite=bookworm", word))
    assert "leads out of its folder" in refusal(json.loads(derivation_text(root)))


def test_what_is_not_written_canonically_is_refused() -> None:
    text = derivation_text(any_build())
    with pytest.raises(ValueError, match="not written canonically"):
        parse_derivation(text.replace(",", ", ", 1))


def test_unsorted_inputs_are_refused() -> None:
    build = any_build()
    assert "not sorted" in refusal(
        changed(build, 9, [[name, str(path)] for name, path in reversed(build.inputs)])
    )


@pytest.mark.parametrize("depth", [*range(100, 1000, 25)])
def test_nesting_that_is_just_read_is_refused(depth: int) -> None:
    nested = "[" * depth + "]" * depth
    for text in (nested, f'["fetch",1,{nested},"",1,null]', f'["build",1,{nested},1,1,1,1,1,1,1]'):
        with pytest.raises(ValueError, match="."):
            parse_derivation(text)


def test_types_of_files_are_those_that_are_known() -> None:
    for kind in KINDS:
        where = Addresses(urls=("https://example.org/a",), type=kind)
        assert parse_derivation(derivation_text(fetch(where))) == fetch(where)


def test_deep_nesting_is_refused() -> None:
    with pytest.raises(ValueError, match="not a derivation"):
        parse_derivation("[" * 100_000)
