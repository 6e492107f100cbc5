"""Root file systems on top of an image: layers, .debs and the image's own Python, with the real tools."""

from __future__ import annotations

import subprocess
import tarfile
from dataclasses import dataclass
from typing import TYPE_CHECKING

import pytest

from lockbuild.builders.on_image import install_debs_command
from lockbuild.derivation import IMAGE_INPUT, BuildTask, image_rootfs_command
from lockbuild.digest import sha256_of
from lockbuild.errors import ResolveError
from lockbuild.resolvers import AptQuestion
from lockbuild.resolvers.apt import resolve
from lockbuild.stack import DebianBase
from tests.debs import SUITE, Archive, SigningKey
from tests.images import Member, layer, write_layout
from tests.standalone import make_archive
from tests.test_builders_rootfs import EPOCH, Debs, builder, essential, task_for

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from lockbuild.builders.rootfs import RootfsBuilder
    from lockbuild.derivation import BuildOutcome
    from lockbuild.lock import LockedDeb

__all__ = ["builder", "essential"]  # fixtures

_PATH = "/opt/bin:/usr/local/bin:/usr/bin:/bin"


def _python(version: str) -> bytes:
    """Return a program that answers as a Python of *version* does, when it is asked for that."""
    return f"#!/bin/sh\necho {version}\n".encode()


@dataclass(frozen=True, slots=True, kw_only=True)
class Base:
    """An image of a small Debian."""

    root: bytes
    """Its file system, as a tar: the lowest layer."""

    def layout(self, folder: Path, *upper: bytes) -> Path:
        """Write the image with *upper* layers on top."""
        return write_layout(folder, [self.root, *upper])


@pytest.fixture(scope="module")
def base(builder: RootfsBuilder, essential: Debs, tmp_path_factory: pytest.TempPathFactory) -> Base:
    """Debian's essential packages, as an image."""
    made = builder.build(task_for(essential, tmp_path_factory.mktemp("base") / "scratch"))
    assert made.status == "built", made.tail
    assert made.output is not None
    return Base(root=(made.output / "rootfs.tar").read_bytes())


@pytest.fixture(scope="module")
def archive(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Archive]:
    """A signed archive of what may be put on top."""
    key = SigningKey(tmp_path_factory.mktemp("key") / "gpg")
    made = Archive(tmp_path_factory.mktemp("archive"), key)
    made.add("top", Depends="libtop (>= 2), libc6")
    made.add("libtop", "2.0")
    made.add("greedy", Depends="dash (>= 99)")
    made.add("dash", "99.0")
    made.add("jealous", Conflicts="dash")
    made.publish()
    yield made
    key.close()


def asked(base: Base, archive: Archive, work: Path, *wanted: str) -> tuple[LockedDeb, ...]:
    """Return what apt locks for *wanted* on top of the image."""
    work.mkdir()
    (work / "root.tar").write_bytes(base.root)
    with tarfile.open(work / "root.tar") as tar:
        stream = tar.extractfile("./var/lib/dpkg/status")
        status = stream.read().decode() if stream else ""
    question = AptQuestion(
        base=DebianBase(suite=SUITE),
        architecture="amd64",
        roots=(("runtime", wanted),),
        installed=(("runtime", status),),
    )
    return resolve(question, mirrors=[archive.address], keyring=archive.key.keyring, work=work / "apt")


def task(
    layout: Path,
    scratch: Path,
    debs: tuple[LockedDeb, ...] = (),
    *,
    files: Path | None = None,
    python: tuple[str, str, str] | None = None,
    interpreter: Path | None = None,
) -> BuildTask:
    scratch.mkdir(parents=True)
    inputs = [(deb.filename, (files or scratch) / deb.path) for deb in debs]
    if interpreter:
        inputs.append((interpreter.name, interpreter))
    return BuildTask(
        name="image-runtime",
        kind="rootfs",
        rootfs=None,
        rootfs_name=None,
        command=image_rootfs_command(
            "sha256:0",
            debs,
            architecture="amd64",
            python=python,
            interpreter=("3.10", interpreter.name) if interpreter else None,
        ),
        env=(("SOURCE_DATE_EPOCH", EPOCH),),
        inputs=tuple(sorted([*inputs, (IMAGE_INPUT, layout)])),
        scratch=scratch,
        log=scratch.with_suffix(".log"),
    )


def built(outcome: BuildOutcome) -> bytes:
    assert outcome.status == "built", (outcome.message, outcome.tail)
    assert outcome.output is not None
    return (outcome.output / "rootfs.tar").read_bytes()


def members(tmp_path: Path, data: bytes) -> dict[str, tarfile.TarInfo]:
    path = tmp_path / "members.tar"
    path.write_bytes(data)
    with tarfile.open(path) as archive:
        return {info.name.removeprefix("./"): info for info in archive}


def text(tmp_path: Path, data: bytes, name: str) -> str:
    path = tmp_path / "text.tar"
    path.write_bytes(data)
    with tarfile.open(path) as archive:
        stream = archive.extractfile(f"./{name}")
        return stream.read().decode() if stream else ""


# ---- layers alone -----------------------------------------------------------------------------------


def test_layers_make_a_root_with_all_that_they_say(builder: RootfsBuilder, tmp_path: Path) -> None:
    layout = write_layout(
        tmp_path / "layout",
        [
            layer(
                Member(name="etc/hosts", content=b"own\n", owner=(7, 8)),
                Member(name="bin/su", content=b"x", mode=0o4755),
                Member(
                    name="bin/ping",
                    content=b"x",
                    xattrs={"security.capability": "\x01\0\0\x02\0 \0\0\0\0\0\0\0\0\0\0\0\0\0\0"},
                ),
                Member(name="gone", content=b"x"),
                Member(name="dev/null", content=b"x"),
            ),
            layer(
                Member(name=".wh.gone", content=b""),
                Member(name="bin/link", link="su"),
                Member(name="bin/hard", hard="bin/su"),
            ),
        ],
    )
    found = members(tmp_path, built(builder.build(task(layout, tmp_path / "scratch"))))
    assert set(found) - {"."} == {
        *("bin", "bin/hard", "bin/link", "bin/ping", "bin/su", "etc", "etc/hosts"),
        *("build", "dev", "proc", "run", "sys", "tmp"),
    }
    assert (found["etc/hosts"].uid, found["etc/hosts"].gid) == (7, 8)
    assert found["bin/su" if found["bin/su"].isreg() else "bin/hard"].mode == 0o4755
    assert "SCHILY.xattr.security.capability" in found["bin/ping"].pax_headers
    assert all(int(info.mtime) <= int(EPOCH) for info in found.values())


def test_the_same_bytes_twice(builder: RootfsBuilder, base: Base, tmp_path: Path) -> None:
    layout = base.layout(tmp_path / "layout", layer(Member(name="opt/a", content=b"x")))
    one = built(builder.build(task(layout, tmp_path / "one")))
    assert sha256_of(one) == sha256_of(built(builder.build(task(layout, tmp_path / "two"))))


def test_a_layer_that_reaches_out_fails_the_build_and_touches_nothing(
    builder: RootfsBuilder, tmp_path: Path
) -> None:
    victim = tmp_path / "victim"
    layout = write_layout(
        tmp_path / "layout",
        [layer(Member(name="out", link=str(tmp_path)), Member(name="out/victim", content=b"x"))],
    )
    built(builder.build(task(layout, tmp_path / "one")))
    assert not victim.exists()
    layout = write_layout(tmp_path / "worse", [layer(Member(name="../victim", content=b"x"))])
    outcome = builder.build(task(layout, tmp_path / "two"))
    assert outcome.status == "failed"
    assert "leads out of the layer" in outcome.message
    assert not victim.exists()


# ---- packages on top --------------------------------------------------------------------------------


def test_only_what_the_image_lacks_is_locked_and_installed(
    builder: RootfsBuilder, base: Base, archive: Archive, tmp_path: Path
) -> None:
    debs = asked(base, archive, tmp_path / "work", "top")
    assert [(deb.package, deb.version) for deb in debs] == [("libtop", "2.0"), ("top", "1.0")]
    assert asked(base, archive, tmp_path / "again", "dash", "bash") == ()

    layout = base.layout(tmp_path / "layout", layer(Member(name="etc/motto", content=b"kept\n")))
    one = built(builder.build(task(layout, tmp_path / "one", debs, files=archive.root)))
    two = built(builder.build(task(layout, tmp_path / "a second%20one", debs, files=archive.root)))
    status = text(tmp_path, one, "var/lib/dpkg/status")
    for package in ("top", "libtop"):
        assert f"Package: {package}\nStatus: install ok installed\n" in status
    assert text(tmp_path, one, "etc/motto") == "kept\n"
    found = members(tmp_path, one)
    assert [name for name in found if name.startswith(("build/", "dev/", "proc/"))] == []
    assert "usr/sbin/policy-rc.d" not in found
    assert sha256_of(one) == sha256_of(two)


def test_what_the_image_has_is_never_replaced_nor_removed(
    base: Base, archive: Archive, tmp_path: Path
) -> None:
    with pytest.raises(ResolveError, match="would have to be replaced") as caught:
        asked(base, archive, tmp_path / "one", "greedy")
    assert any(line.startswith("dash: has ") for line in caught.value.details)
    with pytest.raises(ResolveError, match="no set of packages") as caught:
        asked(base, archive, tmp_path / "two", "jealous")
    assert "base.packages" in (caught.value.hint or "")


def test_an_image_without_dpkg_takes_no_packages(
    builder: RootfsBuilder, base: Base, archive: Archive, tmp_path: Path
) -> None:
    debs = asked(base, archive, tmp_path / "work", "top")
    layout = base.layout(tmp_path / "layout", layer(Member(name="var/lib/.wh.dpkg", content=b"")))
    outcome = builder.build(task(layout, tmp_path / "scratch", debs, files=archive.root))
    assert outcome.status == "failed"
    assert "the image has no dpkg" in outcome.message


def test_nothing_but_an_architecture_reaches_shell_and_apt() -> None:
    for word in ("amd64$(touch x)", 'amd64"; DPkg::Pre-Invoke {"id";}; //', "", "amd64\n"):
        with pytest.raises(ValueError, match="not an architecture"):
            install_debs_command("/repository", {"top": "1.0"}, architecture=word)


def test_folder_of_the_packages_is_no_text_of_the_shell(tmp_path: Path) -> None:
    script = install_debs_command("/a'$(touch x)`touch x`", {"top": "1.0"}, architecture="amd64")
    head = script.partition("\nexport ")[0].replace("exit 1", "true")
    words = ["sh", "-euc", head]
    subprocess.run(
        words, check=True, cwd=tmp_path, env={"root": str(tmp_path / "root"), "PATH": "/usr/bin:/bin"}
    )
    sources = (tmp_path / "root" / "build" / "sources.list").read_text()
    assert sources == "deb [trusted=yes] copy:/a'$(touch x)`touch x` ./\n"
    assert not (tmp_path / "x").exists()
    assert 'APT::Architecture "amd64";' in (tmp_path / "root" / "build" / "apt.conf").read_text()


# ---- the image's Python -----------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("programs", "command", "message"),
    [
        ({}, "python3.8", "the image has no command `python3.8`"),
        ({"usr/bin/python3.8": "3.6"}, "python3.8", "is Python 3.6, expected 3.8"),
        (
            {"usr/bin/python3.8": "3.8", "opt/bin/python3": "3.9"},
            "python3.8",
            "has a `python3` of another version before /usr/local/bin",
        ),
    ],
    ids=["absent", "other", "hidden"],
)
def test_a_python_that_is_not_as_the_stack_says_fails_the_build(
    builder: RootfsBuilder,
    base: Base,
    tmp_path: Path,
    programs: dict[str, str],
    command: str,
    message: str,
) -> None:
    upper = layer(*(Member(name=n, content=_python(v), mode=0o755) for n, v in programs.items()))
    layout = base.layout(tmp_path / "layout", upper)
    outcome = builder.build(task(layout, tmp_path / "scratch", python=("3.8", command, _PATH)))
    assert outcome.status == "failed"
    assert message in outcome.message


def test_python3_is_the_one_that_the_stack_names(
    builder: RootfsBuilder, base: Base, tmp_path: Path
) -> None:
    upper = layer(
        Member(name="opt/conda/bin/python3.8", content=_python("3.8"), mode=0o755),
        Member(name="usr/bin/python3", content=_python("3.6"), mode=0o755),
    )
    layout = base.layout(tmp_path / "layout", upper)
    command = "/opt/conda/bin/python3.8"
    data = built(builder.build(task(layout, tmp_path / "one", python=("3.8", command, _PATH))))
    found = members(tmp_path, data)
    assert found["usr/local/bin/python3"].linkname == command
    assert found["usr/local/bin/python3.8"].linkname == command


def test_a_standalone_python_goes_on_top_of_an_image(
    builder: RootfsBuilder, base: Base, tmp_path: Path
) -> None:
    archive = make_archive(tmp_path, "3.10")
    layout = base.layout(tmp_path / "layout")
    found = members(tmp_path, built(builder.build(task(layout, tmp_path / "one", interpreter=archive))))
    assert found["usr/local/bin/python3"].linkname == "/opt/python/bin/python3"
    assert "opt/python/bin/python3.10" in found
