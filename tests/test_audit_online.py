"""What those that serve say of what is locked: real servers on loopback, asked only where that is wanted."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

import pytest

from lockbuild.audit import audit
from lockbuild.audit.hosts import addresses_of, on_this_machine
from lockbuild.audit.online import Upstream
from lockbuild.derivation import Addresses, ArchiveMembers, Fetch, GitTree, RegistryImage, Where
from lockbuild.progress import Silent
from lockbuild.sources import Limits, Mirrors
from tests.images import Member, layer
from tests.needs import need
from tests.repositories import commit, new, own_git
from tests.servers.git import git_server
from tests.servers.index import serve_index
from tests.servers.registry import serve_registry
from tests.test_audit import broken, only, subject, world  # noqa: F401 - fixtures
from tests.values import sha
from tests.worlds import unconfigured

if TYPE_CHECKING:
    from pathlib import Path

    from lockbuild.audit import Subject
    from tests.worlds import World

BASE = layer(Member(name="etc/"), Member(name="etc/name", content=b"base\n"))
HURRY = Limits(connect_s=5, read_s=5, backoff_s=0.01)


def online(subject: Subject, mirrors: Mirrors) -> Subject:
    """Return *subject*, which asks; what would be asked for outside of this machine is left out."""
    outside = {
        fetch.path
        for fetch in subject.plan.fetches()
        if not all(on_this_machine(one) for one in addresses_of(fetch))
    }
    kept = {path: one for path, one in subject.plan.derivations.items() if path not in outside}
    return replace(
        subject,
        plan=replace(subject.plan, derivations=kept),
        upstream=Upstream(mirrors=lambda _names: replace(mirrors, limits=HURRY), progress=Silent()),
    )


def alone(subject: Subject, where: Where, *, size: int | None = None, sha256: str = "") -> Subject:
    """Return *subject*, online, with one fetch and nothing else to ask for."""
    fetch = Fetch(filename="x.bin", sha256=sha256 or sha("x"), size=size, where=where)  # type: ignore[arg-type]
    other = replace(subject, plan=replace(subject.plan, derivations={fetch.path: fetch}))
    return online(other, Mirrors())


def gone(subject: Subject) -> list[tuple[str, str, str]]:
    """Return subject, message and level of what is gone."""
    found = audit(subject).findings
    return [(one.subject, one.message, one.level) for one in found if one.check == "gone-upstream"]


# ---- indexes and archives --------------------------------------------------------------------------


def test_without_a_word_nobody_is_asked(subject: Subject, world: World) -> None:
    world.index.requests.clear()
    reasons = dict(audit(subject).skipped)
    assert reasons["gone-upstream"] == "only `--online` asks a network"
    assert "`--online` asks" in reasons["yanked"]
    assert world.index.requests == []


def test_what_is_served_as_it_was_locked_is_nothing(subject: Subject, world: World) -> None:
    other = online(subject, world.mirrors)
    assert not broken(other)
    assert {"gone-upstream", "yanked"} <= set(audit(other).passed)


def test_gone_upstream__from_the_index(subject: Subject, world: World) -> None:
    (world.files / "alpha-1.2-py3-none-any.whl").unlink()
    line = only(online(subject, world.mirrors), "gone-upstream")
    assert line.startswith("alpha-1.2-py3-none-any.whl: it is gone: ")
    assert line.endswith("; this machine's store has it")


def test_gone_upstream__and_not_in_the_store(subject: Subject, world: World) -> None:
    (world.files / "alpha-1.2-py3-none-any.whl").unlink()
    world.store.remove(world.fetched("alpha-1.2-py3-none-any.whl"))
    ((name, message, level),) = gone(online(subject, world.mirrors))
    assert (name, level) == ("alpha-1.2-py3-none-any.whl", "error")
    assert message.endswith("this machine's store has it not")


def test_gone_upstream__with_other_bytes(subject: Subject, world: World) -> None:
    (world.files / "alpha-1.2-py3-none-any.whl").write_bytes(b"another")
    line = only(online(subject, world.mirrors), "gone-upstream")
    assert "it is another now: " in line
    assert "lists it with sha256 " in line


def test_gone_upstream__from_the_archive(subject: Subject, world: World) -> None:
    deb = subject.lock.debs[0]
    (world.archive / deb.path).unlink()
    line = only(online(subject, world.mirrors), "gone-upstream")
    assert line.startswith(f"{deb.filename}: it is gone: there is no file ")


def test_gone_upstream__as_nobody_tells(subject: Subject, world: World) -> None:
    mirrors = replace(world.mirrors, indexes=(("pypi", ("http://127.0.0.1:9/simple",)),))
    found = gone(online(subject, mirrors))
    assert {level for _, _, level in found} == {"warning"}
    assert all("nobody tells whether it is there" in message for _, message, _ in found)


def test_yanked__since_it_was_locked(subject: Subject, world: World) -> None:
    yanked = {"alpha-1.2-py3-none-any.whl": "it deletes files"}
    with serve_index(world.files, yanked=yanked) as server:
        mirrors = replace(world.mirrors, indexes=(("pypi", (server.url,)),))
        assert only(online(subject, mirrors), "yanked") == (
            "alpha-1.2-py3-none-any.whl: withdrawn, as its index said on 2026-01-01: it deletes files"
        )
    # The store remembers it, without a network.
    assert only(subject, "yanked").endswith("as its index said on 2026-01-01: it deletes files")
    assert not broken(online(subject, world.mirrors))
    assert not broken(subject)


# ---- single addresses ------------------------------------------------------------------------------


@pytest.fixture
def file(world: World) -> str:
    (world.files / "x.bin").write_bytes(b"12345")
    return f"{world.index.url.removesuffix('/simple')}/files/x.bin"


def test_an_address_that_has_it_is_enough(subject: Subject, file: str) -> None:
    urls = (f"{file}.gone", file)
    assert gone(alone(subject, Addresses(urls=urls), size=5)) == []
    members = ArchiveMembers(urls=urls, archive=sha("a"), archive_size=5, members=())
    assert gone(alone(subject, members)) == []


def test_another_size_is_another_file(subject: Subject, file: str) -> None:
    ((_, message, level),) = gone(alone(subject, Addresses(urls=(file,)), size=6))
    assert (level, "has 5 bytes, 6 are locked" in message) == ("error", True)


def test_every_address_is_told_when_none_has_it(subject: Subject, file: str) -> None:
    ((_, message, _),) = gone(alone(subject, Addresses(urls=(f"{file}.1", f"{file}.2"))))
    assert message.count("HTTP 404") == 2


# ---- repositories and registries -------------------------------------------------------------------


@pytest.fixture
def _nobody(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Nobody's credentials, and nobody's configuration of git and skopeo."""
    unconfigured(monkeypatch, tmp_path / "home")
    (tmp_path / "git-home").mkdir()
    for name in ("DOCKER_CONFIG", "REGISTRY_AUTH_FILE"):
        monkeypatch.delenv(name, raising=False)
    own_git(monkeypatch, tmp_path / "git-home")


@pytest.mark.usefixtures("_nobody")
def test_a_commit_is_asked_for(subject: Subject, tmp_path: Path) -> None:
    need("git")
    made = commit(new(tmp_path / "served" / "tool.git"), {"a.txt": b"text"})
    with git_server(tmp_path / "served") as server:
        url = f"{server.url}/tool.git"
        assert gone(alone(subject, GitTree(url=url, commit=made))) == []
        ((_, message, level),) = gone(alone(subject, GitTree(url=url, commit="1" * 40)))
        assert (level, f"has no commit {'1' * 40}" in message) == ("error", True)
    ((_, message, level),) = gone(alone(subject, GitTree(url=url, commit=made)))
    assert (level, "nobody tells whether it is there" in message) == ("warning", True)


@pytest.mark.usefixtures("_nobody")
def test_a_manifest_is_asked_for(subject: Subject, tmp_path: Path) -> None:
    need("docker-registry", "skopeo")
    with serve_registry(tmp_path / "registry") as registry:
        pushed = registry.push("tests/base", [BASE], tag="1")
        where = RegistryImage(reference=f"{registry.host}/tests/base:1", architecture="amd64")
        assert gone(alone(subject, where, sha256=pushed.digest.removeprefix("sha256:"))) == []
        ((_, message, level),) = gone(alone(subject, where, sha256=sha("another")))
        assert (level, "there is no such image" in message) == ("error", True)
