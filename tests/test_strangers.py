"""A stranger's derivations: what lockbuild itself plans is accepted, and whatever would run outside the sandbox is not."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Any

import pytest

from lockbuild.derivation import (
    CONDA_FOLDER,
    Addresses,
    BesideFile,
    Build,
    ChannelFile,
    Fetch,
    FolderArchive,
    GitTree,
    HostInterpreter,
    IndexFile,
    PoolFile,
    RegistryImage,
)
from lockbuild.plan import make_plan
from lockbuild.provenance import closure_of
from lockbuild.stack import from_document
from lockbuild.strangers import refuse_unsafe
from tests.test_stacks import each_stack
from tests.values import any_build, sha, small_lock, small_stack

if TYPE_CHECKING:
    from lockbuild.derivation import Derivation, Where
    from lockbuild.folders import StackFolder
    from lockbuild.plan import Plan

EPOCH = (("SOURCE_DATE_EPOCH", "315532800"),)
BOOKWORM = ("--suite=bookworm", "--architecture=amd64")
DIGEST = sha("manifest")
ON_IMAGE = (f"--image=sha256:{DIGEST}", "--architecture=amd64")


def fetch(filename: str, where: Where, **changes: Any) -> Fetch:
    return replace(Fetch(filename=filename, sha256=sha(filename), size=1, where=where), **changes)


DEB = fetch("aa_1_amd64.deb", PoolFile(vendor="debian", path="pool/main/a/aa/aa_1_amd64.deb"))
PYTHON = fetch("cpython.tar.gz", Addresses(urls=("https://example.org/cpython.tar.gz",)))
HOST = fetch("cpython-3.12.1-host.tar", HostInterpreter(command="python3.12"))
IMAGE = fetch(
    f"image-{DIGEST[:12]}",
    RegistryImage(reference="docker.io/nvidia/cuda:11.3.1", architecture="amd64"),
    sha256=DIGEST,
)
CONDA = fetch(
    "python-3.8-0.conda",
    ChannelFile(channel="conda-forge", subdir="linux-64", url="https://example.org/c"),
)
TREE = fetch("evil", GitTree(url="https://example.org/evil", commit="0" * 40))


def a_root(*inputs: tuple[str, Derivation], command: tuple[str, ...], **changes: Any) -> Build:
    given = tuple(sorted((place, one.path) for place, one in inputs))
    return any_build(
        **{
            "kind": "rootfs",
            "toolchain": None,
            "env": EPOCH,
            "command": command,
            "inputs": given,
            **changes,
        }
    )


def a_prefix(*inputs: tuple[str, Derivation], command: tuple[str, ...], **changes: Any) -> Build:
    return a_root(*inputs, command=command, **{"kind": "prefix", **changes})


def refuse(*derivations: Derivation) -> None:
    refuse_unsafe({one.path: one for one in derivations})


def refusal(*derivations: Derivation) -> str:
    with pytest.raises(ValueError, match=".") as caught:
        refuse(*derivations)
    return str(caught.value)


PREFIX = a_prefix(
    (CONDA.filename, CONDA),
    command=(f"--place={CONDA_FOLDER}", f"conda-forge/linux-64/{CONDA.filename}"),
)
PLAIN = a_root((DEB.filename, DEB), command=(*BOOKWORM, "aa=1"))


# ---- what lockbuild plans --------------------------------------------------------------------------


def refuse_none_of(plan: Plan) -> None:
    for _, path in plan.compiles:
        refuse_unsafe(closure_of(path, plan.derivations))


def test_small_plan_is_accepted() -> None:
    refuse_none_of(make_plan(small_stack(), small_lock()))


@each_stack
def test_every_stack_is_accepted(folder: StackFolder) -> None:
    document, lock = folder.read_locked()
    refuse_none_of(make_plan(from_document(document), lock))


@pytest.mark.parametrize(
    "made_of",
    [
        (DEB, PLAIN),
        (
            DEB,
            PYTHON,
            a_root(
                (DEB.filename, DEB),
                (PYTHON.filename, PYTHON),
                command=(*BOOKWORM, f"--interpreter=3.8:/opt/python:{PYTHON.filename}", "aa=1"),
            ),
        ),
        (
            HOST,
            a_root(
                (HOST.filename, HOST),
                command=(*BOOKWORM, f"--interpreter=3.12:/opt/python:{HOST.filename}"),
            ),
        ),
        (
            CONDA,
            PREFIX,
            a_root(
                ("conda", PREFIX), command=(*BOOKWORM, "--interpreter=3.8:/opt/conda:conda/conda.tar")
            ),
        ),
        (
            DEB,
            IMAGE,
            a_root(
                (DEB.filename, DEB),
                ("image", IMAGE),
                command=(
                    *ON_IMAGE,
                    "--python=3.8:/opt/.venv/bin/python3.8",
                    "--path=/opt/bin:/bin",
                    "aa=1:2~3+b1",
                ),
            ),
        ),
        (IMAGE, a_root(("image", IMAGE), command=ON_IMAGE)),
    ],
    ids=["debs", "standalone", "host", "conda", "image", "image alone"],
)
def test_root_as_lockbuild_plans_it_is_accepted(made_of: tuple[Derivation, ...]) -> None:
    refuse(*made_of)


# ---- root file systems -----------------------------------------------------------------------------


@pytest.mark.parametrize(
    "where",
    [
        BesideFile(path="evil.patch"),
        Addresses(urls=("https://example.org/evil",)),
        IndexFile(index="extra", project="evil", url="https://example.org/simple"),
        FolderArchive(path="evil"),
        ChannelFile(channel="c", subdir="noarch", url="https://example.org/c"),
        GitTree(url="https://example.org/evil", commit="0" * 40),
        HostInterpreter(command="python3"),
    ],
    ids=lambda where: type(where).__name__,
)
@pytest.mark.parametrize("place", ["evil.bin", "evil_1_amd64.deb", "image"])
def test_package_from_anywhere_but_an_archive_is_refused(where: Where, place: str) -> None:
    evil = fetch("evil.patch", where)
    root = a_root((place, evil), command=(*BOOKWORM, "evil=1"))
    found = refusal(evil, root)
    assert "comes from no archive" in found or "brings along what is no patch" in found


def test_package_that_was_built_is_refused() -> None:
    built = any_build(toolchain=PLAIN.path, inputs=())
    root = a_root(("evil.deb", built), command=(*BOOKWORM, "evil=1"))
    assert "comes from no archive" in refusal(DEB, PLAIN, built, root)


@pytest.mark.parametrize(
    "where",
    [
        BesideFile(path="evil_1_amd64.deb"),
        Addresses(urls=("https://example.org/evil_1_amd64.deb",)),
        GitTree(url="https://example.org/evil", commit="0" * 40),
    ],
    ids=lambda where: type(where).__name__,
)
def test_nothing_else_goes_by_the_name_of_a_package(where: Where) -> None:
    assert "comes from no archive" in refusal(fetch("evil_1_amd64.deb", where))


@pytest.mark.parametrize(
    "changes",
    [{"vendor": "evil"}, {"snapshot": "{timestamp}"}, {"snapshot": "20250601T000000Z@evil"}],
    ids=str,
)
def test_package_of_a_strange_archive_is_refused(changes: dict[str, str]) -> None:
    where = replace(PoolFile(vendor="debian", path="a.deb"), **changes)
    assert "of a strange archive" in refusal(fetch("a.deb", where))


def test_tree_that_goes_by_the_name_of_an_image_is_refused() -> None:
    where = GitTree(url="https://example.org/evil", commit="0" * 40)
    assert "under a strange name" in refusal(replace(IMAGE, where=where))
    assert "under a strange name" in refusal(replace(IMAGE, filename="image-1"))


@pytest.mark.parametrize(
    "word",
    [
        "--suite=--setup-hook=touch /tmp/x",
        "--suite=-",
        "--suite=bookworm\n",
        "--architecture=amd64$(touch /tmp/x)",
        '--architecture=amd64"; DPkg::Pre-Invoke {"id";}; //',
        "--setup-hook=id",
        "--suite",
        "--interpreter=3.8:/usr/local/sbin:cpython.tar.gz",
        "--interpreter=3.8:/opt/python:/etc/passwd",
        "--interpreter=3.8:/opt/python:cpython.tar.gz",
        "--python=3.8:python3",
        "--path=/opt/python/bin",
        "--place=/opt/conda",
        "evil",
        "evil-=1",
        "evil=1 other=2",
        "?essential=1",
        "-x",
        "",
    ],
)
def test_strange_word_of_a_root_is_refused(word: str) -> None:
    name = word.partition("=")[0]
    kept = tuple(one for one in BOOKWORM if not one.startswith(f"{name}="))
    found = refusal(DEB, a_root((DEB.filename, DEB), command=(*kept, word, "aa=1")))
    assert "has a command that no root file system has" in found or "lacks an input" in found


@pytest.mark.parametrize(
    "command",
    [
        (),
        ("--suite=bookworm",),
        ("--architecture=amd64",),
        (*BOOKWORM, "--suite=trixie"),
        (*BOOKWORM, ON_IMAGE[0]),
        (*ON_IMAGE, "--path=/bin"),
        (*ON_IMAGE, "--python=3.8:python3", f"--interpreter=3.8:/opt/python:{PYTHON.filename}"),
    ],
    ids=str,
)
def test_options_that_do_not_go_together_are_refused(command: tuple[str, ...]) -> None:
    root = a_root(("image", IMAGE), (PYTHON.filename, PYTHON), command=command)
    assert "has a command that no root file system has" in refusal(IMAGE, PYTHON, root)


def test_more_packages_than_a_program_can_be_told_of_are_refused() -> None:
    pins = tuple(f"a{number}=1" for number in range(20_000))
    assert "has a command that no root" in refusal(
        DEB, a_root((DEB.filename, DEB), command=(*BOOKWORM, *pins))
    )


@pytest.mark.parametrize(
    "env",
    [
        (),
        (("SOURCE_DATE_EPOCH", "$(id)"),),
        (("SOURCE_DATE_EPOCH", "315532800"), ("TAR_OPTIONS", "--checkpoint-action=exec=id")),
        (("LD_PRELOAD", "/tmp/evil.so"),),
    ],
    ids=str,
)
def test_variable_that_programs_of_this_machine_would_see_is_refused(env: Any) -> None:
    assert "has variables that no rootfs has" in refusal(DEB, replace(PLAIN, env=env))
    assert "has variables that no prefix has" in refusal(CONDA, replace(PREFIX, env=env))


def test_root_in_a_toolchain_is_refused() -> None:
    assert "runs in none" in refusal(DEB, PLAIN, replace(PLAIN, name="other", toolchain=PLAIN.path))


@pytest.mark.parametrize("one", [TREE, PREFIX, DEB], ids=["tree", "prefix", "deb"])
def test_interpreter_that_is_none_is_refused(one: Derivation) -> None:
    root = a_root(
        ("cpython.tar.gz", one), command=(*BOOKWORM, "--interpreter=3.8:/opt/python:cpython.tar.gz")
    )
    assert "an interpreter that is none" in refusal(TREE, CONDA, PREFIX, DEB, root)


def test_prefix_that_no_prefix_build_has_made_is_refused() -> None:
    built = any_build(toolchain=PLAIN.path, inputs=())
    root = a_root(("conda", built), command=(*BOOKWORM, "--interpreter=3.8:/opt/conda:conda/conda.tar"))
    assert "an interpreter that is none" in refusal(DEB, PLAIN, built, root)


def test_image_is_the_one_that_the_command_names() -> None:
    other = replace(IMAGE, sha256=sha("other"), filename=f"image-{sha('other')[:12]}")
    assert "another image" in refusal(other, a_root(("image", other), command=ON_IMAGE))
    assert "another image" in refusal(TREE, a_root(("image", TREE), command=ON_IMAGE))
    assert "lacks an input" in refusal(a_root(command=ON_IMAGE))
    both = (*ON_IMAGE, "--interpreter=3.8:/opt/python:image")
    assert "lacks an input" in refusal(IMAGE, a_root(("image", IMAGE), command=both))


# ---- prefixes --------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "command",
    [
        (),
        ("--place=/etc",),
        (PREFIX.command[1],),
        (PREFIX.command[0], "python-3.8-0.conda"),
        (PREFIX.command[0], "a/../python-3.8-0.conda"),
        (PREFIX.command[0], "--place=/usr"),
    ],
    ids=str,
)
def test_strange_command_of_a_prefix_is_refused(command: tuple[str, ...]) -> None:
    assert "has a command that no prefix has" in refusal(CONDA, replace(PREFIX, command=command))


def test_prefix_is_made_of_what_its_command_names_and_of_channels_alone() -> None:
    other = fetch(CONDA.filename, Addresses(urls=("https://example.org/x",)))
    assert "comes from no channel" in refusal(other, PREFIX)
    assert "lacks a conda package" in refusal(CONDA, replace(PREFIX, inputs=()))
    unnamed = replace(PREFIX, command=PREFIX.command[:1])
    assert "comes from no channel" in refusal(CONDA, unnamed)


# ---- the sandbox -----------------------------------------------------------------------------------


@pytest.mark.parametrize("toolchain", [None, TREE, PREFIX], ids=["none", "tree", "prefix"])
@pytest.mark.parametrize("kind", ["environment", "source", "wheel"])
def test_toolchain_that_is_no_root_file_system_is_refused(
    kind: Any, toolchain: Derivation | None
) -> None:
    build = any_build(kind=kind, toolchain=toolchain.path if toolchain else None, inputs=())
    assert "has no root file system to run in" in refusal(TREE, CONDA, PREFIX, build)


@pytest.mark.parametrize(
    "changes",
    [
        {"command": ()},
        {"command": ("sh", "x" * 131_072)},
        {"command": ("x" * 100_000,) * 11},
        {"env": (("A", "x" * 131_072),)},
        {"inputs": tuple((f"{number:05}", DEB.path) for number in range(1001))},
    ],
    ids=["empty", "long word", "long", "long variable", "inputs"],
)
def test_command_that_cannot_be_started_is_refused(changes: dict[str, Any]) -> None:
    build = any_build(**{"toolchain": PLAIN.path, "inputs": (), **changes})
    assert "cannot be started" in refusal(DEB, PLAIN, build)


@pytest.mark.parametrize(
    ("places", "message"),
    [
        (("a", "a"), "stand in one another's place"),
        (("a", "a/b/c"), "stand in one another's place"),
        (("a/" + "b" * 300,), "overlong name"),
        (("/".join("a" * 600),), "overlong name"),
    ],
    ids=["twice", "below", "part", "path"],
)
def test_inputs_that_cannot_be_placed_are_refused(places: tuple[str, ...], message: str) -> None:
    build = any_build(toolchain=PLAIN.path, inputs=tuple((place, DEB.path) for place in places))
    assert message in refusal(DEB, PLAIN, build)


def test_overlong_name_is_refused() -> None:
    assert "overlong name" in refusal(DEB, PLAIN, replace(PLAIN, name="a" * 201))


@pytest.mark.parametrize(
    ("kind", "place"), [("source", "tree"), ("wheel", "patches/1-a"), ("wheel", "source")]
)
def test_what_a_wheel_brings_along_is_a_patch_of_a_source(kind: Any, place: str) -> None:
    brought = fetch("a.patch", BesideFile(path="a.patch"))
    build = any_build(kind=kind, toolchain=PLAIN.path, inputs=((place, brought.path),))
    assert "brings along what is no patch" in refusal(DEB, PLAIN, brought, build)
    patched = any_build(kind="source", toolchain=PLAIN.path, inputs=(("patches/1-a", brought.path),))
    refuse(DEB, PLAIN, brought, patched)


def test_more_builds_than_any_wheel_needs_are_refused() -> None:
    builds = [any_build(name=f"a{number}", toolchain=PLAIN.path, inputs=()) for number in range(301)]
    assert "301 builds" in refusal(*builds)
