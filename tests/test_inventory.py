"""The parts of a stack: all that the lock names, and what wheels, .debs, conda packages and trees tell."""

from __future__ import annotations

import io
import tarfile
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from identify.vendor.licenses import LICENSES
from packageurl import PackageURL

from lockbuild.assetlock import LockedAsset
from lockbuild.condalock import LockedConda
from lockbuild.digest import sha256_of
from lockbuild.errors import StoreError
from lockbuild.folders import StackFolder
from lockbuild.inventory import components
from lockbuild.inventory.conda import read_package
from lockbuild.inventory.systems import read_deb, read_system
from lockbuild.inventory.texts import is_licence_file
from lockbuild.inventory.wheels import read_wheel
from lockbuild.lock import LockedFile, LockedSource
from lockbuild.plan import make_plan
from lockbuild.stack import from_document
from lockbuild.store import Store
from tests.conda import CondaPackage, archive_bytes
from tests.debs import make_deb
from tests.fakes import ScriptedBuilder
from tests.needs import need
from tests.values import HOST, pin, sha, small_lock, small_stack, stack_document
from tests.wheels import make_wheel
from tests.worlds import World, make_world

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from lockbuild.components import Component
    from lockbuild.derivation import BuildTask
    from lockbuild.digest import StorePath
    from lockbuild.lock import Lock
    from lockbuild.stack import Stack

STACKS = Path(__file__).parent.parent / "stacks"
MIT, ISC = dict(LICENSES)["MIT"], dict(LICENSES)["ISC"]
COMMIT = "44f764299fa305faf6ec5ebd99939e0508331503"
STATUS = """\
Package: libc6
Status: install ok installed
Version: 2.36-9+deb12u10
Architecture: amd64
Source: glibc
Installed-Size: 12
Depends: libgcc-s1

Package: python3
Status: install ok installed
Version: 3.11.2-1+b1
Architecture: amd64
Source: python3-defaults (3.11.2-1)
Pre-Depends: python3-minimal (= 3.11.2-1+b1) | libc6:any (>= 2.3)
Depends: absent | timezones, libc6 (>= 2.36), absent-too, python3
Installed-Size: 3

Package: tzdata
Status: install ok installed
Version: 2025b-0+deb12u1
Architecture: all
Provides: timezones (= 1), tz
Installed-Size: 1

Package: came-along
Status: install ok installed
Version: 2:1.0-1
Architecture: amd64
Depends: libc6

Package: left
Status: deinstall ok config-files
Version: 1
Architecture: amd64
"""


@pytest.fixture
def world(tmp_path: Path) -> Iterator[World]:
    with make_world(tmp_path) as made:
        yield made


@pytest.fixture
def store(tmp_path: Path) -> Iterator[Store]:
    """A store that holds nothing."""
    with Store(tmp_path / "empty") as empty:
        yield empty


def inventory(stack: Stack, lock: Lock, store: Store) -> dict[str, Component]:
    return {one.ref: one for one in components(stack, lock, make_plan(stack, lock), store)}


def of_world(world: World) -> dict[str, Component]:
    return inventory(world.stack, world.lock, world.store)


def write_tar(path: Path, files: Mapping[str, str], links: Mapping[str, str] | None = None) -> Path:
    with tarfile.open(path, "w") as tar:
        for name, text in files.items():
            member = tarfile.TarInfo(f"./{name}")
            member.size = len(text.encode())
            tar.addfile(member, io.BytesIO(text.encode()))
        for name, target in (links or {}).items():
            member = tarfile.TarInfo(f"./{name}")
            member.type, member.linkname = tarfile.SYMTYPE, target
            tar.addfile(member)
    return path


# ---- what the lock tells ---------------------------------------------------------------------------


def test_all_that_the_lock_names_is_there_without_a_store(store: Store) -> None:
    assert list(inventory(small_stack(), small_lock(), store)) == [
        "deb:g++@4:12.2.0-3",
        "deb:libc6@2.36-9+deb12u10",
        "deb:python3@3.11.2-1+b1",
        "deb:tzdata@2025b-0+deb12u1",
        "source:delta@0.1",
        "source:gamma@2.0",
        "wheel:alpha@1.2",
        "wheel:beta@0.9",
        "wheel:delta@0.1",
        "wheel:gamma@2.0",
        "wheel:pip@25.0",
        "wheel:setuptools@80.0",
    ]


def test_a_fetched_wheel(store: Store) -> None:
    alpha = inventory(small_stack(), small_lock(), store)["wheel:alpha@1.2"]
    assert (alpha.purl, alpha.origin, alpha.needs) == ("pkg:pypi/alpha@1.2", "pypi", ("wheel:beta@0.9",))
    assert (alpha.sha256, alpha.size) == (sha("alpha-1.2-py3-none-any.whl"), 5000)
    assert (alpha.in_image, alpha.built, alpha.requested, alpha.installed_size) == (
        True,
        False,
        True,
        None,
    )
    assert alpha.path is not None
    assert alpha.path.endswith("-alpha-1.2-py3-none-any.whl")


def test_a_wheel_of_an_index_of_its_own_is_no_other_project_s(store: Store) -> None:
    beta = inventory(small_stack(), small_lock(), store)["wheel:beta@0.9"]
    url = "https://packages.example.org/simple"
    assert (beta.purl, beta.origin) == (f"pkg:pypi/beta@0.9?repository_url={url}", "extra")


def test_a_built_wheel_has_the_bytes_that_the_lock_pins(store: Store) -> None:
    stack, lock = small_stack(), small_lock()
    path = dict(make_plan(stack, lock).builds)["gamma"]
    wheel = LockedFile(filename="gamma.whl", sha256=sha("built"), size=12)
    pinned = replace(lock, pins=(replace(pin("gamma", "2.0"), derivation=path, wheel=wheel),))
    gamma = inventory(stack, pinned, store)["wheel:gamma@2.0"]
    assert (gamma.sha256, gamma.size, gamma.built, gamma.path) == (sha("built"), 12, True, path)
    assert inventory(stack, lock, store)["wheel:gamma@2.0"].sha256 is None


def test_what_is_only_compiled_with_is_not_in_the_image(store: Store) -> None:
    found = inventory(small_stack(), small_lock(), store)
    outside = [ref for ref, one in found.items() if not one.in_image]
    assert outside == [
        "deb:g++@4:12.2.0-3",
        "source:delta@0.1",
        "source:gamma@2.0",
        "wheel:pip@25.0",
        "wheel:setuptools@80.0",
    ]


def test_a_deb_has_its_source_package_and_suite(store: Store) -> None:
    stack, lock = small_stack(), small_lock()
    (locked,) = (deb for deb in lock.debs if deb.package == "libc6")
    others = tuple(deb for deb in lock.debs if deb is not locked)
    lock = replace(lock, debs=(replace(locked, source="glibc 2.36-9"), *others))
    libc = inventory(stack, lock, store)["deb:libc6@2.36-9+deb12u10"]
    assert libc.purl == "pkg:deb/debian/libc6@2.36-9%2Bdeb12u10?arch=amd64&distro=bookworm"
    assert (libc.source_name, libc.source_version) == ("glibc", "2.36-9")
    assert (libc.origin, libc.requested) == ("debian bookworm", False)


def test_epochs_are_no_qualifiers(store: Store) -> None:
    gpp = inventory(small_stack(), small_lock(), store)["deb:g++@4:12.2.0-3"]
    assert gpp.purl == "pkg:deb/debian/g%2B%2B@4:12.2.0-3?arch=amd64&distro=bookworm"
    assert PackageURL.from_string(gpp.purl).version == "4:12.2.0-3"
    assert gpp.requested


def test_sources_of_an_image_and_their_submodules(store: Store) -> None:
    table = {
        "name": "app",
        "git": "https://github.com/Example/App",
        "commit": COMMIT,
        "submodules": True,
        "path": "/workspace",
        "license": "MIT",
    }
    locked = LockedSource(
        name="app",
        version="",
        index="",
        file=LockedFile(filename="app-44f764299fa3", sha256=sha("app")),
        commit=COMMIT,
        submodules=(("third/eigen", "https://gitlab.com/libeigen/eigen.git", "1" * 40),),
    )
    lock = small_lock()
    found = inventory(small_stack(source=[table]), replace(lock, sources=(*lock.sources, locked)), store)
    app, eigen = found[f"source:app@{COMMIT}"], found[f"source:app/third/eigen@{'1' * 40}"]
    assert (app.purl, app.licence, app.told_by) == (
        f"pkg:github/example/app@{COMMIT}",
        "MIT",
        "stack",
    )
    assert (app.in_image, app.needs, eigen.in_image) == (True, (eigen.ref,), True)
    assert eigen.purl.startswith(f"pkg:generic/eigen@{'1' * 40}?vcs_url=git%2Bhttps://gitlab.com/")


def test_a_bundled_asset_is_in_the_image_and_a_mounted_one_is_not(store: Store) -> None:
    bundled = {
        "name": "weights",
        "url": ["https://example.org/weights.pth"],
        "sha256": sha("weights"),
        "path": "/weights.pth",
        "license": "CC-BY-4.0",
    }
    mounted = {"name": "body", "path": "/body", "policy": "mount", "why": "licensed", "holds": ["a.pkl"]}
    lock = replace(small_lock(), assets=(LockedAsset(name="weights", sha256=sha("weights"), size=9),))
    found = inventory(small_stack(asset=[bundled, mounted]), lock, store)
    weights, body = found["asset:weights"], found["asset:body"]
    assert (weights.in_image, weights.size, weights.licence) == (True, 9, "CC-BY-4.0")
    assert PackageURL.from_string(weights.purl).qualifiers == {
        "checksum": f"sha256:{sha('weights')}",
        "download_url": "https://example.org/weights.pth",
    }
    assert (body.in_image, body.sha256, body.licence) == (False, None, "")


def test_pythons_that_are_no_package(store: Store) -> None:
    archive = {
        "url": ["https://example.org/cpython-3.11.9+20240814-install_only.tar.gz"],
        "sha256": sha("cpython"),
    }
    found = inventory(small_stack(interpreter={"standalone": archive}), small_lock(), store)
    cpython = found["interpreter:cpython@3.11.9"]
    assert (cpython.sha256, cpython.in_image) == (sha("cpython"), True)
    lock = replace(small_lock(), interpreter=HOST)
    host = inventory(small_stack(interpreter={"host": "python3.11"}), lock, store)[cpython.ref]
    assert (host.sha256, host.purl) == (
        HOST.file.sha256,
        f"pkg:generic/cpython@3.11.9?checksum=sha256:{HOST.file.sha256}",
    )


def test_the_stack_s_word_on_a_licence_is_the_strongest(store: Store) -> None:
    of = {"alpha": "MIT", "beta": "NONE", "deb:libc6": "LGPL-2.1-or-later", "wheel:tzdata": "ISC"}
    found = inventory(small_stack(audit={"licenses": {"of": of}}), small_lock(), store)
    told = {ref: (one.licence, one.told_by) for ref, one in found.items() if one.told_by}
    assert told == {
        "deb:libc6@2.36-9+deb12u10": ("LGPL-2.1-or-later", "stack"),
        "wheel:alpha@1.2": ("MIT", "stack"),
        "wheel:beta@0.9": ("", "stack"),
    }


@pytest.mark.parametrize("name", sorted(path.parent.name for path in STACKS.glob("*/lockbuild.lock")))
def test_every_committed_lock(name: str, store: Store) -> None:
    document, lock = StackFolder(path=STACKS / name).read_locked()
    stack = from_document(document)
    found = components(stack, lock, make_plan(stack, lock), store)
    refs = [one.ref for one in found]
    assert refs == sorted(set(refs))
    assert {need for one in found for need in one.needs} <= set(refs)
    assert {one.name for one in found if one.kind == "wheel" and one.in_image} == {
        package.name for package in lock.runtime
    }
    assert {one.name for one in found if one.kind == "deb"} == {deb.package for deb in lock.debs}
    for one in found:
        assert one.purl == "" or PackageURL.from_string(one.purl)
        assert bool(one.purl) or one.kind == "base"


# ---- what sources tell -----------------------------------------------------------------------------


APP = {
    "name": "app",
    "git": "https://example.org/app.git",
    "commit": COMMIT,
    "submodules": True,
    "path": "/workspace",
}


def locked_app() -> Lock:
    file = LockedFile(filename="app-44f764299fa3", sha256=sha("app"))
    submodules = (("third/eigen", "https://gitlab.com/libeigen/eigen.git", "1" * 40),)
    app = LockedSource(name="app", version="", index="", file=file, commit=COMMIT, submodules=submodules)
    lock = small_lock()
    return replace(lock, sources=(*lock.sources, app))


def add_tree(store: Store, path: StorePath, files: Mapping[str, str], folder: Path) -> None:
    for name, text in files.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_text(text)
    store.add_folder(path, folder)


def test_a_tree_of_the_image_tells_its_licence_and_that_of_its_submodules(
    store: Store, tmp_path: Path
) -> None:
    stack, lock = small_stack(source=[APP]), locked_app()
    path = dict(make_plan(stack, lock).sources)["app"]
    texts = {"LICENSE": MIT, "a.py": "12345", "third/eigen/COPYING": ISC, "third/eigen/x/NOTICE": "y"}
    add_tree(store, path, texts, tmp_path / "tree")
    found = inventory(stack, lock, store)
    app, eigen = found[f"source:app@{COMMIT}"], found[f"source:app/third/eigen@{'1' * 40}"]
    assert (app.licence, app.told_by, eigen.licence) == ("MIT", "licence file", "ISC")
    assert [file.name for file in app.licence_files] == [
        name for name in sorted(texts) if name != "a.py"
    ]
    assert app.installed_size == sum(map(len, texts.values()))
    assert [(file.name, file.path) for file in eigen.licence_files] == [
        ("third/eigen/COPYING", path),
        ("third/eigen/x/NOTICE", path),
    ]
    said = inventory(small_stack(source=[{**APP, "license": "Apache-2.0"}]), lock, store)[app.ref]
    assert (said.licence, said.told_by, said.installed_size) == (
        "Apache-2.0",
        "stack",
        app.installed_size,
    )
    unstated = {**APP, "license": "NOASSERTION", "accept-license": "for ourselves"}
    said = inventory(small_stack(source=[unstated]), lock, store)[app.ref]
    assert (said.licence, said.declared, said.told_by) == ("", "NOASSERTION", "stack")


def test_a_folder_of_a_tree_tells_for_itself(store: Store, tmp_path: Path) -> None:
    stack, lock = small_stack(source=[{**APP, "subdirectory": "inner"}]), locked_app()
    path = dict(make_plan(stack, lock).sources)["app"]
    add_tree(store, path, {"LICENSE": MIT, "inner/LICENSE": ISC, "inner/b": "1"}, tmp_path / "tree")
    app = inventory(stack, lock, store)[f"source:app@{COMMIT}"]
    assert (app.licence, app.installed_size) == ("ISC", len(ISC) + 1)


def test_a_damaged_tree_tells_nothing(store: Store, tmp_path: Path) -> None:
    stack, lock = small_stack(source=[APP]), locked_app()
    path = dict(make_plan(stack, lock).sources)["app"]
    add_tree(store, path, {"LICENSE": MIT}, tmp_path / "tree")
    (store.root / "listings" / path).write_text("[]")
    assert inventory(stack, lock, store)[f"source:app@{COMMIT}"].licence == ""


def write_sdist(path: Path, files: Mapping[str, str]) -> Path:
    with tarfile.open(path, "w:gz") as tar:
        for name, text in files.items():
            member = tarfile.TarInfo(name)
            member.size = len(text.encode())
            tar.addfile(member, io.BytesIO(text.encode()))
    return path


def test_a_built_wheel_that_says_nothing_has_the_licence_of_its_sdist(
    store: Store, tmp_path: Path
) -> None:
    sdist = write_sdist(
        tmp_path / "gamma-2.0.tar.gz", {"gamma-2.0/LICENSE": MIT, "gamma-2.0/x/LICENSE": ISC}
    )
    lock = small_lock()
    file = LockedFile(filename=sdist.name, sha256=sha256_of(sdist.read_bytes()))
    lock = replace(lock, sources=(replace(lock.sources[0], file=file), *lock.sources[1:]))
    plan = make_plan(small_stack(), lock)
    (path,) = (fetch.path for fetch in plan.fetches() if fetch.filename == sdist.name)
    store.add_file(path, sdist, sha256=file.sha256)
    gamma = inventory(small_stack(), lock, store)["wheel:gamma@2.0"]
    assert (gamma.licence, gamma.told_by, gamma.installed_size) == ("MIT", "licence file", None)
    assert [(one.name, one.path) for one in gamma.licence_files] == [("source/gamma-2.0/LICENSE", path)]


def test_an_sdist_that_cannot_be_read_tells_nothing(world: World) -> None:
    world.realise()
    assert of_world(world)["wheel:gamma@2.0"].licence == ""


@pytest.mark.parametrize(
    ("texts", "licence"),
    [
        ({"LICENSE": MIT, "ext/LICENSE": ISC}, "ISC"),
        ({"LICENSE": MIT, "ext/setup.py": ""}, "MIT"),
    ],
)
def test_a_built_wheel_that_says_nothing_has_the_licence_of_its_tree(
    texts: dict[str, str], licence: str, store: Store, tmp_path: Path
) -> None:
    source = {"git": "https://example.org/g.git", "commit": COMMIT, "subdirectory": "ext"}
    builds = [{**stack_document()["build"][0], "source": source}, stack_document()["build"][1]]
    lock, file = small_lock(), LockedFile(filename="gamma-44f764299fa3", sha256=sha("gamma"))
    locked = replace(lock.sources[0], file=file, commit=COMMIT, index="")
    lock, stack = replace(lock, sources=(locked, lock.sources[1])), small_stack(build=builds)
    (path,) = (one.path for one in make_plan(stack, lock).fetches() if one.filename == file.filename)
    add_tree(store, path, texts, tmp_path / "tree")
    gamma = inventory(stack, lock, store)["wheel:gamma@2.0"]
    assert (gamma.licence, gamma.origin) == (licence, "https://example.org/g.git")


def test_an_archive_of_python_tells_its_licence(store: Store, tmp_path: Path) -> None:
    files = {
        "python/bin/python3": "12",
        "python/lib/python3.11/LICENSE.txt": MIT,
        "python/lib/python3.11/site-packages/pip/LICENSE.txt": ISC,
    }
    packed = write_sdist(tmp_path / "cpython-3.11.9+20240814.tar.gz", files)
    archive = {
        "url": [f"https://example.org/{packed.name}"],
        "sha256": sha256_of(packed.read_bytes()),
    }
    stack = small_stack(interpreter={"standalone": archive})
    (path,) = (
        one.path for one in make_plan(stack, small_lock()).fetches() if one.filename == packed.name
    )
    store.add_file(path, packed, sha256=sha256_of(packed.read_bytes()))
    cpython = inventory(stack, small_lock(), store)["interpreter:cpython@3.11.9"]
    assert (cpython.licence, cpython.installed_size) == ("MIT", sum(map(len, files.values())))
    assert [file.name for file in cpython.licence_files] == ["python/lib/python3.11/LICENSE.txt"]
    note = next((store.root / "notes" / path).iterdir())
    note.unlink()
    place = store.locate(path)
    place.chmod(0o644)
    place.write_bytes(b"neither")
    assert inventory(stack, small_lock(), store)["interpreter:cpython@3.11.9"].licence == ""


# ---- wheels ----------------------------------------------------------------------------------------


def test_a_wheel_tells_its_size_and_texts(tmp_path: Path) -> None:
    wheel = make_wheel(
        tmp_path,
        "gamma",
        "1.0",
        metadata=["License-Expression: mit or apache-2.0"],
        dist_info={"licenses/src/mine.text": b"mine", "LICENSE": b"old place"},
        files={"gamma/a.py": b"1234", "gamma/third/NOTICE.txt": b"notice", "gamma/license.py": b"code"},
    )
    facts = read_wheel(wheel)
    assert [(file.name, file.sha256) for file in facts.files] == [
        ("gamma-1.0.dist-info/LICENSE", sha("old place")),
        ("gamma-1.0.dist-info/licenses/src/mine.text", sha("mine")),
        ("gamma/third/NOTICE.txt", sha("notice")),
    ]
    assert (facts.told.licence, facts.told.told_by) == ("MIT OR Apache-2.0", "License-Expression")
    assert facts.installed_size is not None
    assert facts.installed_size > len(b"1234noticecodeold placemine")


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("LICENSE", True),
        ("LICENCE.rst", True),
        ("LICENSES_bundled.txt", True),
        ("COPYING.LESSER", True),
        ("UNLICENSE", True),
        ("NOTICE", True),
        ("LICENSE-3RD-PARTY.txt", True),
        ("freeglut_COPYING.txt", True),
        ("license.py", False),
        ("licensed", False),
        ("noticeable.txt", False),
        ("haarcascade_license_plate_rus_16stages.xml", False),
    ],
)
def test_files_that_go_along_are_told_by_their_names(name: str, *, expected: bool) -> None:
    assert is_licence_file(name) is expected


def test_what_is_no_wheel_is_refused(tmp_path: Path) -> None:
    (tmp_path / "a-1-py3-none-any.whl").write_bytes(b"PK\5\6" + bytes(18))
    with pytest.raises(StoreError, match=r"`a-1-py3-none-any.whl` cannot be read as a wheel"):
        read_wheel(tmp_path / "a-1-py3-none-any.whl")


def test_what_the_store_has_of_wheels_is_read_once(world: World) -> None:
    world.realise()
    before = of_world(world)
    alpha, gamma = before["wheel:alpha@1.2"], before["wheel:gamma@2.0"]
    assert alpha.installed_size
    assert gamma.installed_size
    assert alpha.path is not None
    note = next((world.store.root / "notes" / alpha.path).iterdir())
    assert of_world(world) == before
    note.write_text("[{}]")
    assert of_world(world) == before
    note.write_text(note.read_text().replace(str(alpha.installed_size), "77"))
    assert of_world(world)["wheel:alpha@1.2"].installed_size == 77


def test_a_damaged_object_tells_nothing(world: World) -> None:
    world.realise()
    path = world.store.locate(world.fetched("alpha-1.2-py3-none-any.whl"))
    path.chmod(0o644)
    path.write_bytes(b"not a zip")
    assert of_world(world)["wheel:alpha@1.2"].installed_size is None


# ---- Debian packages -------------------------------------------------------------------------------


def test_an_installed_system_tells_what_its_packages_need(tmp_path: Path) -> None:
    found = {
        one.package: one
        for one in read_system(write_tar(tmp_path / "rootfs.tar", {"var/lib/dpkg/status": STATUS}))
    }
    assert list(found) == ["came-along", "libc6", "python3", "tzdata"]
    python = found["python3"]
    assert python.needs == (
        ("python3-minimal", "libc6"),
        ("absent", "timezones"),
        ("libc6",),
        ("absent-too",),
        ("python3",),
    )
    assert (python.source, found["libc6"].source) == (
        "python3-defaults 3.11.2-1",
        "glibc 2.36-9+deb12u10",
    )
    assert found["tzdata"].provides == ("timezones", "tz")
    assert (python.facts.installed_size, found["came-along"].facts.installed_size) == (3072, 0)


def test_texts_of_packages_are_found_along_links(tmp_path: Path) -> None:
    tar = write_tar(
        tmp_path / "rootfs.tar",
        {
            "var/lib/dpkg/status": STATUS,
            "usr/share/doc/libc6/copyright": "see /usr/share/common-licenses/GPL.",
            "usr/share/doc/libc6/NOTICE.txt": "notice",
            "usr/share/doc/libc6/changelog": "no",
            "usr/share/common-licenses/GPL-3": "the GPL",
        },
        {
            "usr/share/common-licenses/GPL": "GPL-3",
            "usr/share/doc/python3": "libc6",
            "usr/share/doc/tzdata/copyright": "../libc6/copyright",
            "usr/share/doc/came-along/copyright": "copyright",
        },
    )
    found = {
        one.package: {file.name: file.sha256 for file in one.facts.files} for one in read_system(tar)
    }
    said, gpl = sha("see /usr/share/common-licenses/GPL."), sha("the GPL")
    assert found == {
        "came-along": {},
        "libc6": {
            "usr/share/common-licenses/GPL": gpl,
            "usr/share/doc/libc6/NOTICE.txt": sha("notice"),
            "usr/share/doc/libc6/copyright": said,
        },
        "python3": {"usr/share/common-licenses/GPL": gpl, "usr/share/doc/python3/copyright": said},
        "tzdata": {"usr/share/common-licenses/GPL": gpl, "usr/share/doc/tzdata/copyright": said},
    }


def test_needs_are_the_locked_packages_that_fulfil_them(world: World) -> None:
    def system(_task: BuildTask, out: Path) -> None:
        release = 'NAME="Ubuntu"\nID=ubuntu\nID_LIKE=debian\nVERSION_CODENAME=focal\n'
        files = {"var/lib/dpkg/status": STATUS, "usr/lib/os-release": release}
        write_tar(out / "rootfs.tar", files, {"etc/os-release": "../usr/lib/os-release"})

    world.realise(ScriptedBuilder(recipes={"bookworm-runtime": system}))
    found = of_world(world)
    python, along = found["deb:python3@3.11.2-1+b1"], found["deb:came-along@2:1.0-1"]
    assert python.needs == ("deb:libc6@2.36-9+deb12u10", "deb:tzdata@2025b-0+deb12u1")
    assert python.installed_size == 3072
    assert (along.in_image, along.sha256, along.needs) == (True, None, ("deb:libc6@2.36-9+deb12u10",))
    assert along.purl == "pkg:deb/ubuntu/came-along@2:1.0-1?arch=amd64&distro=focal"


def test_a_deb_tells_of_itself(tmp_path: Path) -> None:
    need("dpkg-deb")
    fields = {"Depends": "libc6 (>= 2.36)", "Source": "epoch (1:2-3)", "Installed-Size": "5"}
    files = {"usr/share/doc/small/copyright": "words"}
    deb = make_deb(tmp_path, "small", "2:1.0", fields=fields, files=files)
    one = read_deb(deb, licences=True)
    assert (one.package, one.version, one.source, one.needs) == (
        "small",
        "2:1.0",
        "epoch 1:2-3",
        (("libc6",),),
    )
    assert [(file.name, file.sha256) for file in one.facts.files] == [
        ("usr/share/doc/small/copyright", sha("words"))
    ]
    assert read_deb(deb, licences=False).facts.files == ()


def test_a_deb_names_the_package_whose_documents_it_shares(tmp_path: Path) -> None:
    need("dpkg-deb")
    deb = make_deb(tmp_path, "small", links={"usr/share/doc/small": "small-common"})
    assert read_deb(deb, licences=True).documented == "small-common"


def test_what_is_no_deb_or_root_file_system_is_refused(tmp_path: Path) -> None:
    (tmp_path / "x").write_bytes(b"neither" * 100)
    with pytest.raises(StoreError, match=r"`x` cannot be read as a \.deb"):
        read_deb(tmp_path / "x", licences=True)
    with pytest.raises(StoreError, match="`x` cannot be read as a root file system"):
        read_system(tmp_path / "x")


# ---- conda packages --------------------------------------------------------------------------------


@pytest.mark.parametrize("suffix", [".conda", ".tar.bz2"])
def test_a_conda_package_tells_of_itself(suffix: str, tmp_path: Path) -> None:
    package = CondaPackage(
        name="ffmpeg",
        version="7.1",
        files={"bin/ffmpeg": b"1234567"},
        license="GPL-2.0-or-later",
        license_files={"COPYING": b"words"},
        suffix=suffix,
    )
    (tmp_path / "object").write_bytes(archive_bytes(package))
    facts = read_package(tmp_path / "object", package.filename)
    assert (facts.installed_size, facts.told.licence) == (7, "GPL-2.0-or-later")
    assert [(file.name, file.sha256) for file in facts.files] == [
        ("info/licenses/COPYING", sha("words"))
    ]


@pytest.mark.parametrize("filename", ["a-1-0.conda", "a-1-0.tar.bz2"])
def test_what_is_no_conda_package_is_refused(filename: str, tmp_path: Path) -> None:
    (tmp_path / "object").write_bytes(b"neither")
    with pytest.raises(StoreError, match=f"`{filename}` cannot be read as a conda package"):
        read_package(tmp_path / "object", filename)


def test_conda_packages_of_a_lock(store: Store) -> None:
    package = LockedConda(
        name="ffmpeg",
        version="7.1",
        build="h1_0",
        channel="conda-forge",
        subdir="linux-64",
        filename="ffmpeg-7.1-h1_0.conda",
        md5="0" * 32,
        sha256=sha("ffmpeg"),
        size=5,
        depends=("libavif >=1", "__glibc >=2.17"),
        requested=True,
    )
    other = replace(
        package, name="libavif", filename="libavif-7.1-h1_0.conda", depends=(), requested=False
    )
    stack = small_stack(conda={"channels": ["https://example.org/conda-forge"], "packages": ["ffmpeg"]})
    found = inventory(stack, replace(small_lock(), conda=(package, other)), store)
    ffmpeg = found["conda:ffmpeg@7.1"]
    assert (ffmpeg.purl, ffmpeg.needs) == (
        "pkg:conda/ffmpeg@7.1?build=h1_0&channel=conda-forge&subdir=linux-64",
        ("conda:libavif@7.1",),
    )
    assert (ffmpeg.origin, ffmpeg.requested) == ("https://example.org/conda-forge", True)
