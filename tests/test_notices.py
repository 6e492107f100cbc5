"""The NOTICE of an image: every part with its licence, every text once, and nothing left out."""

from __future__ import annotations

import io
import tarfile
from typing import TYPE_CHECKING

import pytest

from lockbuild.components import Component, LicenceFile, ref_of
from lockbuild.digest import sha256_of, store_path
from lockbuild.errors import StoreError
from lockbuild.inventory.notices import notice_text
from lockbuild.store import Store
from tests.conda import CondaPackage, archive_bytes
from tests.debs import make_deb
from tests.needs import need
from tests.test_cli import builder, run, world  # noqa: F401 - fixtures
from tests.test_inventory import STATUS, write_tar
from tests.values import sha, small_stack
from tests.wheels import make_wheel

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path
    from typing import Any

    from lockbuild.components import Kind
    from lockbuild.derivation import BuildTask
    from lockbuild.digest import StorePath
    from tests.fakes import ScriptedBuilder
    from tests.test_cli import Run

WORDS = "Copyright 2020 X\nAll is permitted.\n"
LICENCE = "alpha-1.0.dist-info/LICENSE"


@pytest.fixture
def store(tmp_path: Path) -> Iterator[Store]:
    with Store(tmp_path / "store") as made:
        yield made


def added(store: Store, thing: Path, name: str | None = None) -> StorePath:
    """Put a file or folder into *store* and return its path."""
    path = store_path(["test", thing.name], name or thing.name)
    if thing.is_dir():
        store.add_folder(path, thing)
    else:
        store.add_file(path, thing, sha256=sha256_of(thing.read_bytes()))
    return path


def part(
    name: str, *files: LicenceFile, kind: Kind = "wheel", licence: str = "MIT", **more: Any
) -> Component:
    return Component(
        ref=ref_of(kind, name, "1.0"),
        kind=kind,
        name=name,
        version="1.0",
        purl="",
        sha256=None,
        size=None,
        licence=licence,
        licence_files=files,
        **{"installed_size": 1, **more},
    )


# ---- the text --------------------------------------------------------------------------------------


def test_every_text_stands_once_with_the_parts_that_it_goes_with(store: Store, tmp_path: Path) -> None:
    wheels = [
        added(store, make_wheel(tmp_path, name, "1.0", dist_info=texts))
        for name, texts in (
            ("alpha", {"LICENSE": WORDS.encode()}),
            ("beta", {"LICENSE": WORDS.encode(), "NOTICE": b"Thanks to Y.\r\n\r\n"}),
        )
    ]
    alpha = part("alpha", LicenceFile(name=LICENCE, sha256=sha(WORDS), path=wheels[0]))
    beta = part(
        "beta",
        LicenceFile(name="beta-1.0.dist-info/LICENSE", sha256=sha(WORDS), path=wheels[1]),
        LicenceFile(
            name="beta-1.0.dist-info/NOTICE", sha256=sha256_of(b"Thanks to Y.\r\n\r\n"), path=wheels[1]
        ),
        licence="MIT OR ISC",
    )
    silent = part("silent", licence="", declared="BSD", kind="deb")
    lost = part("lost", licence="", kind="asset", installed_size=None)
    outside = part("compiler", in_image=False, kind="deb")
    found = notice_text(small_stack(), [beta, outside, silent, alpha, lost], store)
    assert found == notice_text(small_stack(), [alpha, beta, silent, lost, outside], store)
    assert found.partition("once.\n")[2].splitlines() == [
        *("", "Assets", "------", "", "lost 1.0: licence not known"),
        *("", "Python packages", "---------------", ""),
        *("alpha 1.0: MIT [1]", "beta 1.0: MIT OR ISC [1, 2]"),
        *("", "Debian packages", "---------------", "", "silent 1.0: BSD"),
        *("", "=" * 100, "[1]", f"alpha 1.0: {LICENCE}", "beta 1.0: beta-1.0.dist-info/LICENSE"),
        *("-" * 100, "", "Copyright 2020 X", "All is permitted."),
        *("", "=" * 100, "[2]", "beta 1.0: beta-1.0.dist-info/NOTICE", "-" * 100, "", "Thanks to Y."),
    ]
    assert "holds 4 parts of others' making" in found


# ---- where texts are -------------------------------------------------------------------------------


def _wheel(folder: Path) -> tuple[Path, str]:
    return make_wheel(folder, "alpha", "1.0", dist_info={"LICENSE": WORDS.encode()}), LICENCE


def _built_wheel(folder: Path) -> tuple[Path, str]:
    make_wheel(folder / "alpha-1.0-stamped", "alpha", "1.0", dist_info={"LICENSE": WORDS.encode()})
    return folder / "alpha-1.0-stamped", LICENCE


def _tree(folder: Path) -> tuple[Path, str]:
    (folder / "tree/third").mkdir(parents=True)
    (folder / "tree/third/LICENSE").write_text(WORDS)
    return folder / "tree", "third/LICENSE"


def _source_of_a_wheel(folder: Path) -> tuple[Path, str]:
    return _tree(folder)[0], "source/third/LICENSE"


def _sdist(folder: Path) -> tuple[Path, str]:
    with tarfile.open(folder / "alpha-1.0.tar.gz", "w:gz") as tar:
        member = tarfile.TarInfo("alpha-1.0/LICENSE")
        member.size = len(WORDS)
        tar.addfile(member, io.BytesIO(WORDS.encode()))
    return folder / "alpha-1.0.tar.gz", "source/alpha-1.0/LICENSE"


def _rootfs(folder: Path) -> tuple[Path, str]:
    (folder / "runtime").mkdir()
    texts, links = {"usr/share/doc/base/copyright": WORDS}, {"usr/share/doc/alpha": "base"}
    write_tar(folder / "runtime/rootfs.tar", texts, links)
    return folder / "runtime", "usr/share/doc/alpha/copyright"


def _deb(folder: Path) -> tuple[Path, str]:
    need("dpkg-deb")
    path = "usr/share/doc/alpha/copyright"
    return make_deb(folder, "alpha", files={path: WORDS}), path


def _conda(suffix: str) -> Callable[[Path], tuple[Path, str]]:
    def make(folder: Path) -> tuple[Path, str]:
        texts = {"COPYING": WORDS.encode()}
        package = CondaPackage(name="alpha", version="1.0", license_files=texts, suffix=suffix)
        (folder / package.filename).write_bytes(archive_bytes(package))
        return folder / package.filename, "info/licenses/COPYING"

    return make


@pytest.mark.parametrize(
    "make",
    [
        *(_wheel, _built_wheel, _tree, _source_of_a_wheel, _sdist, _rootfs, _deb),
        *(_conda(".conda"), _conda(".tar.bz2")),
    ],
)
def test_texts_are_read_out_of_every_kind_of_object(
    make: Callable[[Path], tuple[Path, str]], store: Store, tmp_path: Path
) -> None:
    thing, name = make(tmp_path)
    file = LicenceFile(name=name, sha256=sha(WORDS), path=added(store, thing))
    assert notice_text(small_stack(), [part("alpha", file)], store).endswith(f"\n\n{WORDS}")


# ---- what is no NOTICE -----------------------------------------------------------------------------


def test_parts_that_the_store_lacks_are_named(store: Store) -> None:
    unread = [part(f"p{number:02}", installed_size=None) for number in range(12)]
    with pytest.raises(StoreError, match="the store lacks 12 parts of the image") as caught:
        notice_text(small_stack(), unread, store)
    assert caught.value.details == (*(f"wheel:p{number:02}@1.0" for number in range(10)), "…")


def test_a_text_that_is_not_what_it_was_is_refused(store: Store, tmp_path: Path) -> None:
    file = LicenceFile(name=LICENCE, sha256=sha("other words"), path=added(store, _wheel(tmp_path)[0]))
    with pytest.raises(StoreError, match=f"has not got the text that it had: `{LICENCE}`"):
        notice_text(small_stack(), [part("alpha", file)], store)


def test_an_object_that_is_gone_is_refused(store: Store, tmp_path: Path) -> None:
    path = added(store, _wheel(tmp_path)[0])
    alpha = part("alpha", LicenceFile(name=LICENCE, sha256=sha(WORDS), path=path))
    store.remove(path)
    with pytest.raises(StoreError, match="is not in the store"):
        notice_text(small_stack(), [alpha], store)


@pytest.mark.parametrize("name", ["x.whl", "x.deb", "x.conda", "x.tar.gz", "folder"])
def test_a_damaged_object_is_refused(name: str, store: Store, tmp_path: Path) -> None:
    thing = tmp_path / name
    if name == "folder":
        thing.mkdir()
        (thing / "kept").write_text("")
    else:
        thing.write_bytes(b"neither" * 99)
    file = LicenceFile(name="LICENSE", sha256=sha(WORDS), path=added(store, thing))
    with pytest.raises(StoreError, match="cannot be read"):
        notice_text(small_stack(), [part("alpha", file)], store)


# ---- the command -----------------------------------------------------------------------------------


def _system(_task: BuildTask, out: Path) -> None:
    write_tar(
        out / "rootfs.tar",
        {"var/lib/dpkg/status": STATUS, "usr/share/doc/libc6/copyright": "see the source"},
    )


def test_the_command_prints_the_notice_or_writes_it(
    run: Run,
    builder: ScriptedBuilder,
    tmp_path: Path,
) -> None:
    builder.recipes = {"bookworm-runtime": _system}
    assert run("build", "small").code == 0
    ended = run("notice", "small")
    assert (ended.code, ended.err) == (0, "")
    assert "came-along 2:1.0-1: licence not known" in ended.out.splitlines()
    assert "libc6 2.36-9+deb12u10: licence not known [1]" in ended.out.splitlines()
    assert ended.out.endswith("\n\nsee the source\n")
    written = run("notice", "small", "--output", str(tmp_path / "NOTICE"))
    assert (written.code, written.out) == (0, "")
    assert (tmp_path / "NOTICE").read_text() == ended.out
    (tmp_path / "link").symlink_to("linked")
    assert run("notice", "small", "--output", str(tmp_path / "link")).code == 0
    assert (tmp_path / "link").is_symlink()
    assert (tmp_path / "linked").read_text() == ended.out
    (tmp_path / "file").write_text("")
    refused = run("notice", "small", "--output", str(tmp_path / "file" / "NOTICE"))
    assert refused.code == 2
    assert "cannot be written: File exists" in refused.err


def test_the_command_refuses_what_is_not_whole(run: Run) -> None:
    ended = run("notice", "small")
    assert ended.code == 7
    assert "hint: `lockbuild build small` brings them" in ended.err
