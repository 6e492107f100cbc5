"""The apt solver, with the real apt against archives that the tests make and sign."""

from __future__ import annotations

import hashlib
import shutil
import socket
from functools import partial
from http.server import BaseHTTPRequestHandler, SimpleHTTPRequestHandler, ThreadingHTTPServer
from threading import Thread
from typing import TYPE_CHECKING

import pytest

from lockbuild.errors import ResolveError, ToolMissing
from lockbuild.resolvers import AptAnswer, AptQuestion
from lockbuild.resolvers.apt import archive_address, configured_mirrors, default_keyring, resolve
from lockbuild.stack import DebianBase
from tests.debs import SUITE, Archive, SigningKey
from tests.needs import missing, need

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path


@pytest.fixture(scope="module")
def key(tmp_path_factory: pytest.TempPathFactory) -> Iterator[SigningKey]:
    """A key that signs the archives."""
    need("apt-get", "dpkg-deb", "gpg", "gpgv")
    made = SigningKey(tmp_path_factory.mktemp("key") / "gpg")
    yield made
    made.close()


@pytest.fixture(scope="module")
def published(tmp_path_factory: pytest.TempPathFactory, key: SigningKey) -> Archive:
    """An archive with one package of each kind; never altered."""
    archive = Archive(tmp_path_factory.mktemp("archive") / "root", key)
    depends = "runtime-lib, usrmerge | usr-is-merged"
    archive.add("base", Essential="yes", Depends=depends, Recommends="extra", Suggests="extra")
    archive.add("runtime-lib", "2:1.2-3", Source="runtime (2:1.2)")
    archive.add("usrmerge", Depends="extra")
    archive.add("usr-is-merged")
    archive.add("tool", "0.9")
    archive.add("tool", "1.0", Depends="engine-a | engine-b")
    archive.add("engine-a")
    archive.add("engine-b", Conflicts="engine-a")
    archive.add("extra")
    archive.add("picky", Depends="runtime-lib (>= 2:9)")
    archive.publish()
    return archive


@pytest.fixture
def archive(tmp_path: Path, key: SigningKey) -> Archive:
    """A small archive of the test's own."""
    own = Archive(tmp_path / "own", key)
    own.add("base", Essential="yes")
    own.publish()
    return own


def ask(*mirrors: str, keyring: Path, work: Path, **roots: tuple[str, ...]) -> AptAnswer:
    """Resolve *roots* in the suite of the tests."""
    return resolve(
        question(roots=tuple(sorted(roots.items()))), mirrors=mirrors, keyring=keyring, work=work
    )


def question(
    *, roots: tuple[tuple[str, tuple[str, ...]], ...], snapshot: str | None = None
) -> AptQuestion:
    """Return a question about the suite of the tests."""
    base = DebianBase(suite=SUITE, snapshot=snapshot)
    return AptQuestion(base=base, architecture="amd64", roots=roots)


def names(answer: AptAnswer) -> list[str]:
    """Return the packages of *answer* in its order."""
    return [deb.package for deb in answer]


@pytest.fixture
def solve(published: Archive, key: SigningKey, tmp_path: Path) -> partial[AptAnswer]:
    """Ask the archive that is never altered."""
    return partial(ask, published.address, keyring=key.keyring, work=tmp_path / "work")


# ---- closures ----------------------------------------------------------------------------------------


def test_root_holds_essential_packages_and_what_they_need(solve: partial[AptAnswer]) -> None:
    assert names(solve(runtime=())) == ["base", "runtime-lib", "usr-is-merged"]


def test_wanted_package_brings_what_it_needs(solve: partial[AptAnswer]) -> None:
    found = names(solve(runtime=("tool",)))
    assert found == ["base", "engine-a", "runtime-lib", "tool", "usr-is-merged"]


def test_wanted_alternative_is_taken_instead_of_the_first(solve: partial[AptAnswer]) -> None:
    found = names(solve(runtime=("engine-b", "tool")))
    assert "engine-b" in found
    assert "engine-a" not in found


def test_converting_to_merged_usr_is_left_out_unless_wanted(solve: partial[AptAnswer]) -> None:
    assert "usrmerge" in names(solve(runtime=("usrmerge",)))


def test_newest_version_is_taken(solve: partial[AptAnswer]) -> None:
    versions = [deb.version for deb in solve(runtime=("tool",)) if deb.package == "tool"]
    assert versions == ["1.0"]


def test_wanted_version_is_taken(solve: partial[AptAnswer]) -> None:
    versions = [deb.version for deb in solve(runtime=("tool=0.9",)) if deb.package == "tool"]
    assert versions == ["0.9"]


def test_each_package_says_which_roots_hold_it(solve: partial[AptAnswer]) -> None:
    answer = solve(runtime=("extra",), toolchain=("tool",))
    assert {deb.package: deb.roots for deb in answer} == {
        "base": ("runtime", "toolchain"),
        "engine-a": ("toolchain",),
        "extra": ("runtime",),
        "runtime-lib": ("runtime", "toolchain"),
        "tool": ("toolchain",),
        "usr-is-merged": ("runtime", "toolchain"),
    }


def test_record_is_that_of_the_bytes_in_the_pool(solve: partial[AptAnswer], published: Archive) -> None:
    deb = next(deb for deb in solve(runtime=()) if deb.package == "runtime-lib")
    data = (published.root / deb.path).read_bytes()
    assert (deb.version, deb.architecture, deb.size) == ("2:1.2-3", "amd64", len(data))
    assert deb.sha256 == hashlib.sha256(data).hexdigest()


@pytest.mark.parametrize(("package", "source"), [("runtime-lib", "runtime 2:1.2"), ("base", "base 1.0")])
def test_source_package_is_recorded_with_its_version(
    solve: partial[AptAnswer], package: str, source: str
) -> None:
    assert [deb.source for deb in solve(runtime=()) if deb.package == package] == [source]


def test_same_question_has_the_same_answer_with_warm_and_with_new_indexes(
    published: Archive, key: SigningKey, tmp_path: Path
) -> None:
    wanted = ("extra", "tool")
    works = (tmp_path / "one", tmp_path / "one", tmp_path / "two")
    answers = [ask(published.address, keyring=key.keyring, work=work, runtime=wanted) for work in works]
    assert answers[0] == answers[1] == answers[2]


def test_answer_does_not_name_the_mirror(solve: partial[AptAnswer], published: Archive) -> None:
    assert str(published.root) not in repr(solve(runtime=("tool",)))


def test_sources_and_preferences_of_the_host_take_no_part(
    published: Archive, key: SigningKey, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    host = tmp_path / "host.conf"
    host.write_text('APT::Install-Recommends "true";\nAPT::Default-Release "other";\n')
    monkeypatch.setenv("APT_CONFIG", str(host))
    answer = ask(published.address, keyring=key.keyring, work=tmp_path / "work", runtime=())
    assert "extra" not in names(answer)


# ---- refusals ----------------------------------------------------------------------------------------


def test_unknown_packages_are_all_named_with_the_nearest_ones(solve: partial[AptAnswer]) -> None:
    with pytest.raises(ResolveError) as caught:
        solve(runtime=("engine", "xtra"))
    assert [line.partition(":")[0] for line in caught.value.details] == ["`engine`", "`xtra`"]
    assert "`engine-a`" in caught.value.details[0]
    assert "`extra`" in caught.value.details[1]


@pytest.mark.parametrize("word", ["tool-", "eng.*", "?all", "tool/harmony", "-o"])
def test_what_apt_would_not_read_as_a_name_is_refused(solve: partial[AptAnswer], word: str) -> None:
    with pytest.raises(ResolveError, match="no such package"):
        solve(runtime=(word,))


def test_unsatisfiable_wish_tells_the_chain(solve: partial[AptAnswer]) -> None:
    with pytest.raises(ResolveError) as caught:
        solve(runtime=("picky",))
    assert any("runtime-lib (>= 2:9)" in line for line in caught.value.details)


def test_conflicting_wishes_are_refused(solve: partial[AptAnswer]) -> None:
    with pytest.raises(ResolveError, match="holds all that is wanted"):
        solve(runtime=("engine-a", "engine-b"))


def test_altered_index_is_refused(archive: Archive, tmp_path: Path) -> None:
    signed = archive.dist / "InRelease"
    signed.write_text(signed.read_text().replace("Origin: Tests", "Origin: Other"))
    with pytest.raises(ResolveError, match="not signed by the keys"):
        ask(archive.address, keyring=archive.key.keyring, work=tmp_path / "work", runtime=())


def test_altered_index_is_refused_although_a_good_one_is_cached(
    archive: Archive, tmp_path: Path
) -> None:
    asked = partial(ask, keyring=archive.key.keyring, work=tmp_path / "work", runtime=())
    asked(archive.address)
    archive.publish(Description="newer")
    signed = archive.dist / "InRelease"
    signed.write_text(signed.read_text().replace("newer", "altered"))
    with pytest.raises(ResolveError, match="not signed by the keys"):
        asked(archive.address)


def test_unsigned_archive_is_refused(archive: Archive, tmp_path: Path) -> None:
    (archive.dist / "InRelease").unlink()
    with pytest.raises(ResolveError, match="not signed by the keys"):
        ask(archive.address, keyring=archive.key.keyring, work=tmp_path / "work", runtime=())


def test_archive_signed_by_another_key_is_refused(archive: Archive, tmp_path: Path) -> None:
    other = SigningKey(tmp_path / "gpg")
    other.close()
    with pytest.raises(ResolveError, match="not signed by the keys"):
        ask(archive.address, keyring=other.keyring, work=tmp_path / "work", runtime=())


def test_altered_list_of_packages_is_refused(archive: Archive, tmp_path: Path) -> None:
    archive.packages.write_text(archive.packages.read_text().replace("1.0", "6.6"))
    with pytest.raises(ResolveError, match="no archive of `debian` gives"):
        ask(archive.address, keyring=archive.key.keyring, work=tmp_path / "work", runtime=())


def test_no_mirror_says_how_to_name_one(tmp_path: Path) -> None:
    need("apt-get")
    with pytest.raises(ResolveError) as caught:
        ask(keyring=tmp_path / "keyring.gpg", work=tmp_path, runtime=())
    assert "LOCKBUILD_ARCHIVE_DEBIAN" in (caught.value.hint or "")


def test_suite_that_the_archive_lacks_is_told(published: Archive, tmp_path: Path) -> None:
    asked = AptQuestion(base=DebianBase(suite="discord"), architecture="amd64", roots=())
    with pytest.raises(ResolveError, match="discord"):
        resolve(asked, mirrors=[published.address], keyring=published.key.keyring, work=tmp_path)


def test_unknown_vendor_has_no_keyring() -> None:
    with pytest.raises(ToolMissing) as caught:
        default_keyring("nobody")
    assert "nobody-archive-keyring" in (caught.value.hint or "")


# ---- mirrors and snapshots ---------------------------------------------------------------------------


@pytest.fixture
def closed_address() -> str:
    """An address at which nobody listens."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]
    return f"http://127.0.0.1:{port}/"


@pytest.fixture
def served(published: Archive) -> Iterator[str]:
    """The address of the archive on a web server."""
    handler = partial(SimpleHTTPRequestHandler, directory=str(published.root))
    with ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        Thread(target=server.serve_forever, daemon=True).start()
        yield f"http://127.0.0.1:{server.server_port}"
        server.shutdown()


def test_next_mirror_is_asked_when_one_is_out_of_reach(
    served: str, closed_address: str, key: SigningKey, tmp_path: Path
) -> None:
    answer = ask(closed_address, served, keyring=key.keyring, work=tmp_path, runtime=())
    assert "base" in names(answer)


def test_unreachable_mirror_is_named_without_its_password(
    closed_address: str, key: SigningKey, tmp_path: Path
) -> None:
    address = closed_address.replace("//", "//user:secret@")
    with pytest.raises(ResolveError) as caught:
        ask(address, keyring=key.keyring, work=tmp_path, runtime=())
    told = "\n".join(caught.value.details)
    assert caught.value.unreachable
    assert closed_address in told
    assert "secret" not in told


class _Refusing(BaseHTTPRequestHandler):
    """Lets nobody in: apt then speaks of a missing signature, too."""

    def do_GET(self) -> None:
        self.send_error(403)

    def log_message(self, *_: object) -> None:
        """Keep still."""


@pytest.fixture
def refusing() -> Iterator[str]:
    with ThreadingHTTPServer(("127.0.0.1", 0), _Refusing) as server:
        Thread(target=server.serve_forever, daemon=True).start()
        yield f"http://127.0.0.1:{server.server_port}"
        server.shutdown()


def test_mirror_that_lets_nobody_in_is_out_of_reach_and_not_unsigned(
    refusing: str, served: str, key: SigningKey, tmp_path: Path
) -> None:
    with pytest.raises(ResolveError, match="no archive of `debian` gives") as caught:
        ask(refusing, keyring=key.keyring, work=tmp_path / "one", runtime=())
    assert caught.value.unreachable
    assert "403" in caught.value.details[0]
    assert "base" in names(ask(refusing, served, keyring=key.keyring, work=tmp_path / "two", runtime=()))


def test_suite_that_an_answering_archive_lacks_is_not_out_of_reach(
    served: str, key: SigningKey, tmp_path: Path
) -> None:
    asked = AptQuestion(base=DebianBase(suite="discord"), architecture="amd64", roots=())
    with pytest.raises(ResolveError) as caught:
        resolve(asked, mirrors=[served], keyring=key.keyring, work=tmp_path)
    assert not caught.value.unreachable


@pytest.mark.parametrize(
    ("mirror", "snapshot", "address"),
    [
        ("http://archive.example/debian", None, "http://archive.example/debian/"),
        ("http://s.example/debian/", "20250601T000000Z", "http://s.example/debian/20250601T000000Z/"),
        ("http://s.example/{timestamp}/d", "20250601T000000Z", "http://s.example/20250601T000000Z/d/"),
    ],
)
def test_address_of_a_snapshot_holds_its_time_stamp(
    mirror: str, snapshot: str | None, address: str
) -> None:
    assert archive_address(mirror, snapshot) == address


def test_expired_archive_counts_as_a_snapshot_only(archive: Archive, tmp_path: Path) -> None:
    archive.publish(Valid_Until="Thu, 01 Jan 2015 00:00:00 GMT")
    shutil.copytree(archive.root, tmp_path / "snapshots/20150101T000000Z")
    keyring = archive.key.keyring
    with pytest.raises(ResolveError, match="no archive"):
        ask(archive.address, keyring=keyring, work=tmp_path / "work", runtime=())
    asked = question(roots=(("runtime", ()),), snapshot="20150101T000000Z")
    snapshots = (tmp_path / "snapshots").as_uri()
    answer = resolve(asked, mirrors=[snapshots], keyring=keyring, work=tmp_path / "work")
    assert names(answer) == ["base"]


@pytest.fixture
def host_sources(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The folder of the sources of a host that has no indexes yet."""
    need("apt-get")
    for folder in ("sources.list.d", "lists/partial", "cache"):
        (tmp_path / folder).mkdir(parents=True)
    configuration = tmp_path / "apt.conf"
    configuration.write_text(
        f'Dir::Etc::SourceList "{tmp_path}/sources.list";\nDir::Cache "{tmp_path}/cache";\n'
        f'Dir::Etc::SourceParts "{tmp_path}/sources.list.d";\nDir::State::Lists "{tmp_path}/lists";\n'
    )
    monkeypatch.setenv("APT_CONFIG", str(configuration))
    return tmp_path


def test_archives_are_found_in_both_forms_of_sources(host_sources: Path) -> None:
    (host_sources / "sources.list").write_text(
        "deb http://one.example/debian bookworm main\n"
        "deb http://one.example/debian bookworm-updates main\n"
        "deb http://other.example/tools stable main\n"
    )
    (host_sources / "sources.list.d/two.sources").write_text(
        "Types: deb\nURIs: http://two.example/debian\nSuites: bookworm bookworm-updates\n"
        "Components: main\n"
    )
    found = {"http://one.example/debian/", "http://two.example/debian/"}
    assert set(configured_mirrors("debian")) == found


def test_archive_of_security_updates_does_not_count(host_sources: Path) -> None:
    (host_sources / "sources.list").write_text(
        "deb http://one.example/debian-security bookworm-security main\n"
    )
    assert configured_mirrors("debian") == ()


def test_archive_of_another_vendor_does_not_count(host_sources: Path) -> None:
    (host_sources / "sources.list").write_text("deb http://one.example/ubuntu jammy main\n")
    assert configured_mirrors("debian") == ()
    assert configured_mirrors("ubuntu") == ("http://one.example/ubuntu/",)


def test_configured_mirror_gives_the_essential_packages(tmp_path: Path) -> None:
    need("apt-get")
    mirrors = configured_mirrors("debian")
    if not mirrors:
        missing("apt is not configured for an archive of Debian on this machine")
    asked = AptQuestion(
        base=DebianBase(suite="bookworm"), architecture="amd64", roots=(("runtime", ("python3",)),)
    )
    found = names(resolve(asked, mirrors=mirrors, keyring=None, work=tmp_path))
    assert {"dpkg", "bash", "tar", "python3.11-minimal"} <= set(found)
    assert not {"apt", "usrmerge", "perl"} & set(found)
