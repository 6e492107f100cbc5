"""Servers, repositories and edits on their bad days: a clear error, and after the mend the next run goes on from there.

What is fetched is a stack whose lock names small files on loopback; what is built is the small project.
"""

from __future__ import annotations

import hashlib
import io
import os
import random
import re
import tomllib
import zipfile
from contextlib import contextmanager
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import pytest

from lockbuild.documents import toml_text
from tests.end_to_end.project import REPOSITORY, Project
from tests.repositories import blob, commit, git, gitmodules, new, own_git
from tests.servers.faulty import Fault, FaultyServer, faulty_server
from tests.servers.git import GitServer, git_server
from tests.worlds import make_world, unconfigured

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping
    from pathlib import Path

    from lockbuild.process import Completed

SIZE = 700_000
TAG = (("ETag", '"one"'),)
LOCKS = ("lockbuild.lock", "pylock.toml", "pylock.build.toml", "requirements.txt")


@dataclass(frozen=True, slots=True, kw_only=True)
class Site:
    """A project whose lock is of today, the servers that its stack names, and a folder for both."""

    project: Project
    server: FaultyServer
    git: GitServer

    def declare(self, **tables: list[dict[str, Any]]) -> None:
        """Put arrays of tables into the stack file; a value of none takes a key away."""
        file = self.project.stack / "stack.toml"
        document = tomllib.loads(file.read_text())
        for name, rows in tables.items():
            document[name] = [{k: v for k, v in row.items() if v is not None} for row in rows]
        file.write_text(toml_text(document))

    def serve(self, name: str, data: bytes | None = None) -> bytes:
        """Put a file on the server, and return what is in it."""
        data = data or random.Random(name).randbytes(SIZE)
        (self.server.root / name).write_bytes(data)
        return data

    def asset(self, name: str, **known: Any) -> dict[str, Any]:
        """Return the table of an asset of that name on the server."""
        url = f"{self.server.url}/{name}"
        return {"name": name, "path": f"/app/{name}", "url": [url], "license": "MIT", **known}

    def source(self, repository: str, **more: Any) -> dict[str, Any]:
        """Return the table of a source of the image that comes from a repository of the git server."""
        url = f"{self.git.url}/{repository}"
        return {"name": "app", "git": url, "path": "/src/app", "license": "MIT", **more}

    def file(self, name: str) -> bytes:
        """Return what the store has of an asset."""
        return self.project.locate(lambda found: found == name).read_bytes()

    def locks(self) -> list[bytes]:
        return [(self.project.stack / name).read_bytes() for name in LOCKS]

    def elsewhere(self) -> Project:
        """Return the project with a store in which nothing is."""
        return replace(self.project, store=self.project.root / "other-store")

    def ranges(self, name: str) -> list[str | None]:
        return [request.headers.get("Range") for request in self.server.asked(f"/{name}")]

    def well(self) -> None:
        """Mend the server."""
        self.server.faults.clear()
        self.server.requests.clear()


@contextmanager
def _make_site(folder: Path) -> Iterator[Site]:
    for name in ("project", "www", "repositories"):
        (folder / name).mkdir()
    with (
        pytest.MonkeyPatch.context() as patch,
        make_world(folder / "project") as world,
        faulty_server(folder / "www") as server,
        git_server(folder / "repositories") as repositories,
    ):
        unconfigured(patch, folder / "home")
        own_git(patch, folder / "home")
        env = {
            **os.environ,
            "LOCKBUILD_ARCHIVE_DEBIAN": world.archive.as_uri(),
            "LOCKBUILD_CONFIG": "",
            "LOCKBUILD_STALL_TIMEOUT": "1",
            "LOCKBUILD_TRIES": "2",
            "PYTHONPATH": str(REPOSITORY),
            "UV_DEFAULT_INDEX": world.index.url,
        }
        project = Project(root=folder / "project", store=folder / "project/store", env=env)
        yield Site(project=project, server=server, git=repositories)


@pytest.fixture
def site(tmp_path: Path) -> Iterator[Site]:
    with _make_site(tmp_path) as made:
        yield made


def _sha256(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()


def _pointer(data: bytes) -> bytes:
    spec = "version https://git-lfs.github.com/spec/v1"
    return f"{spec}\noid sha256:{_sha256(data)}\nsize {len(data)}\n".encode()


def _cut(*, after: int) -> tuple[Fault, ...]:
    """Break off in the middle once, and give nothing more as often as anybody tries."""
    nothing = Fault(kind="truncate", headers=TAG)
    return (Fault(kind="truncate", after=after, headers=TAG), nothing, nothing)


def _row(said: str, name: str) -> str:
    """Return the line of a table that is about *name*."""
    (line,) = re.findall(rf"^  (?:asset )?{re.escape(name)} .*$", said, re.MULTILINE)
    return str(line)


def _hint(said: str, name: str) -> str:
    """Return the hint that is for *name* among others."""
    (found,) = [line for line in said.splitlines() if re.match(rf"hint: .*\b{name}\b.*: ", line)]
    return found


# ---- assets: fetching --------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True, kw_only=True)
class Fetched:
    """One `fetch` from bad servers, and another from the same servers once they were well."""

    site: Site
    data: Mapping[str, bytes]
    first: Completed
    left: frozenset[str]
    """What the store had after the first."""
    damages: str
    """What `store verify` said after the first."""
    again: Completed


# Weights -> what happens to who asks for them.
_FAULTS: Mapping[str, Fault | tuple[Fault, ...]] = {
    "good.pth": (),
    "slow.pth": Fault(kind="slow"),
    "cut.pth": _cut(after=400_000),
    "silent.pth": (Fault(kind="stall", after=100_000), *[Fault(kind="stall")] * 2),
    "page.pth": Fault(kind="html"),
    "wrong.pth": Fault(kind="wrong"),
    "absent.pth": Fault(kind="status", status=404),
    "loop.pth": Fault(kind="redirect", location="/loop.pth"),
}


@pytest.fixture(scope="module")
def fetched(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Fetched]:
    with _make_site(tmp_path_factory.mktemp("faults")) as site:
        data = {name: site.serve(name) for name in (*_FAULTS, "pointer.pth")}
        site.declare(asset=[site.asset(name, sha256=_sha256(data[name])) for name in data])
        site.project.run("resolve", "small")
        site.server.faults.update({f"/{name}": fault for name, fault in _FAULTS.items()})
        site.serve("pointer.pth", _pointer(data["pointer.pth"]))
        # Longer than anybody waits for a byte, when all pauses are taken together.
        site.server.pause_s = 0.2
        first = site.project.run("fetch", "small", exit_code=5)
        left = frozenset(path.partition("-")[2] for path in site.project.objects(lambda _: True))
        damages = site.project.damages()
        site.well()
        site.serve("pointer.pth", data["pointer.pth"])
        again = site.project.run("fetch", "small")
        yield Fetched(site=site, data=data, first=first, left=left, damages=damages, again=again)


def test_one_table_names_all_that_did_not_come_and_all_else_is_there(fetched: Fetched) -> None:
    assert (
        "error: 7 artifacts of 19 could not be fetched; all else is in the store" in fetched.first.stderr
    )
    assert fetched.left.isdisjoint(fetched.data.keys() - {"good.pth", "slow.pth"})
    assert {"good.pth", "slow.pth"} <= fetched.left
    assert fetched.damages == ""


def test_what_was_mended_comes_and_nothing_else_again(fetched: Fetched) -> None:
    assert "fetched 7 artifacts" in fetched.again.stderr
    assert {name: fetched.site.file(name) for name in fetched.data} == fetched.data
    assert {name for name in fetched.data if fetched.site.ranges(name)} == (
        fetched.data.keys() - {"good.pth", "slow.pth"}
    )
    assert [*(fetched.site.project.store / "downloads").iterdir()] == []


def test_a_slow_server_is_no_fault_and_a_silent_one_is(fetched: Fetched) -> None:
    row = _row(fetched.first.stderr, "silent.pth")
    assert "the server went silent, after 100000 of 700000 bytes (2 tries)" in row
    assert "run the same again: what has come is kept" in _hint(fetched.first.stderr, "silent.pth")
    assert fetched.site.ranges("silent.pth") == ["bytes=100000-"]


def test_a_truncated_file_goes_on_where_it_broke_off(fetched: Fetched) -> None:
    row = _row(fetched.first.stderr, "cut.pth")
    assert (
        "the server closed the connection before the end, after 400000 of 700000 bytes (2 tries)" in row
    )
    assert "run the same again: what has come is kept" in _hint(fetched.first.stderr, "cut.pth")
    assert fetched.site.ranges("cut.pth") == ["bytes=400000-"]


def test_a_page_instead_of_weights_is_named_with_its_title(fetched: Fetched) -> None:
    row = _row(fetched.first.stderr, "page.pth")
    assert "an HTML page came instead of the file: `Sign in`" in row
    assert f"expected sha256 {_sha256(fetched.data['page.pth'])}" in row
    assert "one that gives the file itself" in _hint(fetched.first.stderr, "page.pth")


def test_a_pointer_instead_of_weights_is_named(fetched: Fetched) -> None:
    row = _row(fetched.first.stderr, "pointer.pth")
    assert "a pointer of Git LFS came instead of the file" in row
    assert "one that gives the file itself" in _hint(fetched.first.stderr, "pointer.pth")


def test_wrong_bytes_are_told_with_both_hashes(fetched: Fetched) -> None:
    row, data = _row(fetched.first.stderr, "wrong.pth"), fetched.data["wrong.pth"]
    wrong = bytes(byte ^ 1 for byte in data[:64]) + data[64:]
    assert f"wrong bytes; expected sha256 {_sha256(data)}; found    sha256 {_sha256(wrong)}" in row
    assert "find out why the bytes differ" in _hint(fetched.first.stderr, "wrong.pth")
    assert fetched.site.ranges("wrong.pth") == [None]


def test_a_404_asks_for_another_address(fetched: Fetched) -> None:
    assert "HTTP 404 Not Found" in _row(fetched.first.stderr, "absent.pth")
    assert "name another `url` in the stack" in _hint(fetched.first.stderr, "absent.pth")


def test_a_redirect_loop_asks_for_another_address_and_not_for_a_better_network(fetched: Fetched) -> None:
    row = _row(fetched.first.stderr, "loop.pth")
    assert f"more than 10 redirects, the last to {fetched.site.server.url}/loop.pth" in row
    assert "name another `url` in the stack" in _hint(fetched.first.stderr, "loop.pth")


# ---- assets: the first fetch, while resolving --------------------------------------------------------------


def _zip(data: bytes) -> bytes:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as archive:
        archive.writestr("model.pth", data)
    return buffer.getvalue()


def test_what_resolving_cannot_pin_is_open_with_the_reason_until_it_is_mended(site: Site) -> None:
    names = ("page.pth", "wrong.pth", "absent.pth", "loop.pth", "cut.pth", "good.pth")
    data = {name: site.serve(name) for name in names}
    sha1 = {name: hashlib.sha1(data[name], usedforsecurity=False).hexdigest() for name in names}
    packed = site.serve("packed.zip", _zip(b"weights"))
    members = {"model.pth": "model.pth"}
    site.declare(
        asset=[
            *(site.asset(name, sha1=sha1[name]) for name in names),
            site.asset("packed.zip", sha256=_sha256(packed), members=members),
        ]
    )
    site.server.faults.update({f"/{name}": _FAULTS[name] for name in names})
    site.server.faults |= {"/packed.zip": Fault(kind="wrong")}
    said = site.project.run("resolve", "small", exit_code=4).stderr

    assert "the lock is written, but 6 of its parts are open" in said
    for name, reason in {
        "page.pth": "an HTML page came instead of the file: `Sign in`",
        "wrong.pth": f"wrong bytes; expected sha1 {sha1['wrong.pth']}; found    sha1 ",
        "packed.zip": f"wrong bytes; expected sha256 {_sha256(packed)}; found    sha256 ",
        "absent.pth": "HTTP 404 Not Found",
        "loop.pth": "more than 10 redirects",
        "cut.pth": "never fetched yet, and not to be had from 127.0.0.1",
    }.items():
        assert reason in _row(said, name)
    assert "the server closed the connection before the end, after 400000 of 700000 bytes" in said
    assert "hint: name another `url` in the stack, one that gives the file itself" in said
    assert "find out why the bytes differ before you correct `sha1`" in said
    assert "find out why the bytes differ before you correct `sha256`" in said

    site.well()
    site.server.faults["/cut.pth"] = Fault(headers=TAG)
    site.project.run("resolve", "small")
    assert site.ranges("good.pth") == []
    assert site.ranges("cut.pth") == ["bytes=400000-"]
    site.project.run("fetch", "small")
    assert {name: site.file(name) for name in names} == data
    assert site.project.damages() == ""


# ---- repositories ------------------------------------------------------------------------------------------


def test_a_submodule_that_is_gone_is_named_and_what_came_is_not_fetched_again(site: Site) -> None:
    below = commit(new(site.git.root / "below.git"), {"b.c": b"int b;\n"})
    declared = gitmodules(**{"third/below": f"{site.git.url}/below.git"})
    files = {"a.c": b"int a;\n", ".gitmodules": declared}
    top = commit(new(site.git.root / "top.git"), files, links={"third/below": below})
    site.declare(source=[site.source("top.git", commit=top, submodules=True)])
    (site.git.root / "below.git").rename(site.git.root / "away")

    said = site.project.run("resolve", "small", exit_code=4).stderr
    submodule = f"submodule `third/below` of `{site.git.url}/top.git` at {top}"
    assert (
        f"source app  {submodule}: git repository `{site.git.url}/below.git` cannot be reached" in said
    )
    (site.git.root / "away").rename(site.git.root / "below.git")
    site.git.requests.clear()
    site.project.run("resolve", "small")
    assert not any("/top.git" in request for request in site.git.requests)

    (site.git.root / "below.git").rename(site.git.root / "away")
    other = site.elsewhere()
    said = other.run("fetch", "small", exit_code=5).stderr
    assert submodule in said
    assert "1 artifact of 11 could not be fetched; all else is in the store" in said
    assert "or leave `third/below` out with `exclude`" in said
    assert other.objects(lambda name: name.startswith("app-")) == ()
    (site.git.root / "away").rename(site.git.root / "below.git")
    site.git.requests.clear()
    assert "fetched 1 artifact\n" in other.run("fetch", "small").stderr
    assert not any("/top.git" in request for request in site.git.requests)
    tree = other.locate(lambda name: name.startswith("app-"))
    assert (tree / "third/below/b.c").read_bytes() == b"int b;\n"


def test_a_pointer_in_a_tree_is_an_error_until_it_is_an_asset(site: Site) -> None:
    weights = site.serve("w.pth")
    files = {"a.c": b"int a;\n", "m/w.pth": _pointer(weights)}
    made = commit(new(site.git.root / "top.git"), files)
    site.declare(source=[site.source("top.git", commit=made)])
    before = site.locks()

    said = site.project.run("resolve", "small", exit_code=5).stderr
    assert (
        f"error: source `app`: 1 file of `{site.git.url}/top.git` at {made} is a git-lfs pointer" in said
    )
    assert f"`m/w.pth`: sha256 {_sha256(weights)}, {SIZE} bytes" in said
    assert "leave them out with `exclude`" in said
    assert "an `[[asset]]` each, with the sha256 above as `lfs-oid`" in said
    assert site.locks() == before
    assert site.project.objects(lambda name: name.startswith("app-")) == ()

    site.git.requests.clear()
    site.declare(
        source=[site.source("top.git", commit=made, exclude=["m/w.pth"])],
        asset=[site.asset("w.pth", **{"lfs-oid": _sha256(weights), "path": "/src/app/m/w.pth"})],
    )
    site.project.run("resolve", "small")
    site.project.run("fetch", "small")
    assert site.git.packs == 0
    assert site.file("w.pth") == weights
    tree = site.project.locate(lambda name: name.startswith("app-"))
    assert [path.name for path in tree.rglob("*") if path.is_file()] == ["a.c"]


def test_wanted_files_that_a_repository_lacks_are_named(site: Site) -> None:
    top = new(site.git.root / "top.git")
    for key in ("allowFilter", "allowAnySHA1InWant"):
        git(top, "config", f"uploadpack.{key}", "true")
    made = commit(top, {"a.c": b"int a;\n", "data/b.bin": b"bytes", "data/c.bin": b"more"})
    lost = {name: blob(top, data) for name, data in (("b", b"bytes"), ("c", b"more"))}
    for one in lost.values():
        (top / "objects" / one[:2] / one[2:]).unlink()
    site.declare(source=[site.source("top.git", commit=made)])

    said = site.project.run("resolve", "small", exit_code=5).stderr
    assert (
        f"source `app`: git repository `{site.git.url}/top.git` lacks 2 of the files of commit {made}"
        in said
    )
    assert f"`data/b.bin`: blob {lost['b']}" in said
    assert f"`data/c.bin`: blob {lost['c']}" in said
    assert "leave them out with `exclude`, or name a mirror that is complete" in said
    for data in (b"bytes", b"more"):
        blob(top, data)
    site.project.run("resolve", "small")
    assert "fetched" in site.elsewhere().run("fetch", "small").stderr


def test_a_commit_that_was_pushed_away_is_named_and_may_come_back_under_any_name(site: Site) -> None:
    top = new(site.git.root / "top.git")
    made = commit(top, {"a.c": b"int a;\n"})
    site.declare(source=[site.source("top.git", ref="main")])
    site.project.run("resolve", "small")
    kept = git(top, "bundle", "create", "--quiet", str(site.git.root / "kept"), "main")
    assert kept == ""
    commit(top, {"a.c": b"long a;\n"})
    git(top, "reflog", "expire", "--expire=now", "--all")
    git(top, "gc", "--quiet", "--prune=now")

    # The branch stands elsewhere by now, and that is no reason to take something else.
    site.project.run("resolve", "small")
    other = site.elsewhere()
    said = other.run("fetch", "small", exit_code=5).stderr
    assert f"git repository `{site.git.url}/top.git` has no commit {made}" in said
    assert "it may have been force-pushed away" in said
    git(top, "fetch", "--quiet", str(site.git.root / "kept"), "main:refs/heads/rescued")
    assert "fetched 1 artifact\n" in other.run("fetch", "small").stderr


def test_all_sources_that_cannot_be_pinned_are_told_at_once(site: Site) -> None:
    pointers = commit(new(site.git.root / "pointers.git"), {"w.pth": _pointer(b"weights")})
    commit(new(site.git.root / "other.git"), {"a.c": b""})
    site.declare(
        source=[
            site.source("pointers.git", commit=pointers),
            site.source("other.git", name="other", path="/src/other", commit="1" * 40),
        ]
    )
    said = site.project.run("resolve", "small", exit_code=5).stderr
    assert "error: 2 sources cannot be pinned" in said
    assert "source `app`: 1 file of" in said
    assert f"source `other`: git repository `{site.git.url}/other.git` has no commit {'1' * 40}" in said
    assert len(re.findall(r"^hint: ", said, re.MULTILINE)) == 2


# ---- edits -------------------------------------------------------------------------------------------------

_PATCH = """\
--- a/native_sum.c
+++ b/native_sum.c
@@ -{line},3 +{line},3 @@
         return NULL;
-    return PyLong_FromLong({old});
+    return PyLong_FromLong(second + first);
 }}
"""


def _edit(project: Project, edit: str) -> None:
    """Let the one edit of the C extension be *edit*."""
    file = project.stack / "stack.toml"
    text = re.sub(r"^edits = .*\n", "", file.read_text(), flags=re.MULTILINE)
    file.write_text(
        text.replace(
            'expects = ["native_sum*.so"]\n', f'expects = ["native_sum*.so"]\nedits = [{edit}]\n'
        )
    )


def _mended(project: Project) -> None:
    """Lock what was changed and build it; nothing else is built again."""
    assert "is stale" in project.run("build", "small", "native-sum", exit_code=3).stderr
    project.run("resolve", "small")
    said = project.run("build", "small", "native-sum").stderr
    assert set(re.findall(r"^  (\S+): built", said, re.MULTILINE)) == {
        "native-sum-source",
        "native-sum-1.0",
        "native-sum-1.0-stamped",
    }
    assert project.damages() == ""


def test_a_patch_that_no_longer_applies_fails_the_build_until_it_does(project: Project) -> None:
    patch = project.stack / "sum.patch"
    patch.write_text(_PATCH.format(line=6, old="first - second"))
    _edit(project, '{ patch = "sum.patch", reason = "the other way round" }')
    project.run("resolve", "small")
    said = project.run("build", "small", "native-sum", exit_code=6).stderr
    assert "native-sum-source: failed" in said
    assert "error: edit 1 of 1, patch `1-sum.patch`: `native_sum.c`: hunk 1 of 1" in said
    assert (
        "line 7: expected `    return PyLong_FromLong(first - second);`, "
        "found `    return PyLong_FromLong(first + second);`"
    ) in said
    assert "hint: correct the edit in the stack file, or the patch, and `lockbuild resolve`" in said
    assert project.objects(lambda name: name.startswith("native-sum-source")) == ()

    patch.write_text(_PATCH.format(line=6, old="first + second"))
    _mended(project)
    tree = project.locate(lambda name: name.startswith("native-sum-source"))
    assert "second + first" in (tree / "native_sum.c").read_text()


def test_a_substitute_that_matches_twice_fails_the_build_until_that_is_said(project: Project) -> None:
    edit = '{{ file = "native_sum.c", old = "first", new = "one", count = {count}, reason = "shorter" }}'
    _edit(project, edit.format(count=2))
    project.run("resolve", "small")
    said = project.run("build", "small", "native-sum", exit_code=6).stderr
    assert (
        "error: edit 1 of 1, substitute: `native_sum.c`: the text is there 3 times (lines 4, 5, 7), "
        "expected 2 times"
    ) in said
    assert "hint: correct the edit in the stack file" in said
    assert project.objects(lambda name: name.startswith("native-sum-source")) == ()

    _edit(project, edit.format(count=3))
    _mended(project)
