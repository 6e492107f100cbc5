"""Who serves what is locked: one host or several, and whether what it has stays."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

import pytest

from lockbuild.derivation import (
    Addresses,
    ArchiveMembers,
    ChannelFile,
    Fetch,
    GitTree,
    IndexFile,
    PoolFile,
    RegistryImage,
    Where,
)
from tests.test_audit import broken, only, subject, world  # noqa: F401 - fixtures
from tests.values import sha

if TYPE_CHECKING:
    from lockbuild.audit import Subject


COMMIT = "1" * 40


def needing(subject: Subject, *wheres: Where) -> Subject:
    """Return *subject* with a further fetch for each place."""
    fetches = [
        Fetch(filename=f"file{number}.bin", sha256=sha(f"file{number}"), size=1, where=where)
        for number, where in enumerate(wheres)
    ]
    derivations = {**subject.plan.derivations, **{fetch.path: fetch for fetch in fetches}}
    return replace(subject, plan=replace(subject.plan, derivations=derivations))


def addresses(*urls: str) -> Addresses:
    return Addresses(urls=urls)


# ---- one host --------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("where", "name", "owner"),
    [
        (addresses("https://www.example.org/weights.pth"), "file0.bin", "www.example.org"),
        (
            addresses("https://github.com/a/b/raw/x", "https://media.githubusercontent.com/a/b/x"),
            "file0.bin",
            "GitHub",
        ),
        (
            GitTree(url="https://gitlab.inria.fr/bkerbl/simple-knn.git", commit=COMMIT),
            "file0.bin",
            "gitlab.inria.fr",
        ),
        (GitTree(url="git@github.com:a/b.git", commit=COMMIT), "file0.bin", "GitHub"),
        (
            RegistryImage(reference="docker.io/nvidia/cuda:11.3.1-base", architecture="amd64"),
            "image docker.io/nvidia/cuda:11.3.1-base",
            "Docker Hub",
        ),
        (
            IndexFile(index="own", project="torch", url="https://wheels.example.org/simple"),
            "index own",
            "wheels.example.org",
        ),
        (
            ChannelFile(channel="ours", subdir="noarch", url="https://conda.example.org/ours"),
            "channel ours",
            "conda.example.org",
        ),
        (
            ArchiveMembers(
                urls=("https://a.example.org/x.zip",), archive=sha("x"), archive_size=1, members=()
            ),
            "file0.bin",
            "a.example.org",
        ),
    ],
)
def test_single_host__has_it_alone(subject: Subject, where: Where, name: str, owner: str) -> None:
    line = only(needing(subject, where), "single-host")
    assert line == f"{name}: only {owner} has it; and not this machine's store"


def test_single_host__two_that_both_take_files_back(subject: Subject) -> None:
    urls = ("https://drive.google.com/uc?id=1", "https://www.dropbox.com/s/1/x?dl=1")
    line = only(needing(subject, addresses(*urls)), "single-host")
    assert "only drive.google.com and www.dropbox.com have it; downloads end at a quota" in line


def test_single_host__is_named_once_for_all_that_an_index_serves(subject: Subject) -> None:
    wheres = [
        IndexFile(index="own", project=name, url="https://wheels.example.org/simple") for name in "ab"
    ]
    assert only(needing(subject, *wheres), "single-host").startswith("index own: ")


def test_single_host__and_the_store_has_it(subject: Subject) -> None:
    fetch = Fetch(filename="x", sha256=sha("x"), size=1, where=addresses("https://www.example.org/x"))
    file = subject.store.root.parent / "given"
    file.write_bytes(b"x")
    subject.store.add_file(fetch.path, file, sha256=fetch.sha256, size=1)
    plan = replace(subject.plan, derivations={**subject.plan.derivations, fetch.path: fetch})
    line = only(replace(subject, plan=plan), "single-host")
    assert line == "x: only www.example.org has it; this machine's store has it, too"


@pytest.mark.parametrize(
    "where",
    [
        addresses("https://github.com/a/b/x", "https://mirror.example.org/x"),
        addresses("https://drive.google.com/uc?id=1", "https://www.example.org/x"),
        addresses("https://zenodo.org/records/1/files/x"),
        addresses("http://127.0.0.1:8000/x"),
        addresses("file:///srv/x"),
        IndexFile(index="pypi", project="numpy"),
        PoolFile(vendor="debian", path="pool/x", snapshot="20250601T000000Z"),
    ],
)
def test_what_many_have_is_well_kept(subject: Subject, where: Where) -> None:
    assert not broken(needing(subject, where))


# ---- https -----------------------------------------------------------------------------------------


@pytest.mark.parametrize("scheme", ["http", "ftp", "git"])
def test_plain_http__proves_nothing(subject: Subject, scheme: str) -> None:
    urls = (f"{scheme}://a.example.org/x", "https://b.example.org/x")
    assert only(needing(subject, addresses(*urls)), "plain-http") == (
        f"file0.bin: {scheme}://a.example.org proves to nobody that it is a.example.org"
    )


def test_plain_http__of_a_submodule(subject: Subject) -> None:
    source = replace(subject.lock.sources[0], submodules=(("glm", "git://a.example.org/glm", COMMIT),))
    lock = replace(subject.lock, sources=(source, *subject.lock.sources[1:]))
    line = only(replace(subject, lock=lock), "plain-http")
    assert line.startswith(f"source {source.name}, submodule glm: git://a.example.org")


# ---- archives --------------------------------------------------------------------------------------


def test_moving_archive__drops_versions(subject: Subject) -> None:
    moving = {
        path: replace(one, where=replace(one.where, snapshot=None))
        if isinstance(one, Fetch) and isinstance(one.where, PoolFile)
        else one
        for path, one in subject.plan.derivations.items()
    }
    line = only(replace(subject, plan=replace(subject.plan, derivations=moving)), "moving-archive")
    assert line.startswith("debian bookworm: 4 .debs come from an archive that drops a version")
    assert line.endswith("this machine's store has 4 of them")
