"""Source trees pinned by commit: real repositories, real git, git's own server on loopback."""

from __future__ import annotations

import os
import threading
from typing import TYPE_CHECKING

import pytest

from lockbuild.derivation import GitTree
from lockbuild.errors import FetchError, ResolveError
from lockbuild.progress import Silent
from lockbuild.sources.git import Submodule, checkout, resolve_ref, submodules
from lockbuild.sources.git.modules import check_url, resolve_url
from lockbuild.sources.git.selection import Selection, refuse_hostile
from lockbuild.store.trees import listing, listing_sha256
from tests.repositories import blob, commit, commit_index, configure, git, gitmodules, new, own_git
from tests.servers.git import git_server

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from tests.servers.git import GitServer


@pytest.fixture(autouse=True)
def _own_git(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    own_git(monkeypatch, tmp_path)


def got(folder: Path) -> dict[str, bytes]:
    return {
        entry.path: (folder / entry.path).read_bytes()
        for entry in listing(folder)
        if entry.kind in ("file", "executable")
    }


class Checkouts:
    """Checks trees out, each into its own new folder, with one cache."""

    def __init__(self, tmp_path: Path) -> None:
        self.cache = tmp_path / "cache"
        self.found: tuple[Submodule, ...] = ()
        self._parent = tmp_path

    def __call__(
        self,
        url: str | Path,
        commit: str,
        *,
        include: tuple[str, ...] = (),
        exclude: tuple[str, ...] = (),
        recurse: bool = False,
        assets: tuple[str, ...] = (),
    ) -> Path:
        into = self._parent / f"out{len(list(self._parent.glob('out*')))}"
        tree = GitTree(url=str(url), commit=commit, submodules=recurse, include=include, exclude=exclude)
        self.found = checkout(tree, into=into, cache=self.cache, phase=Silent(), assets=assets)
        return into


@pytest.fixture
def take(tmp_path: Path) -> Checkouts:
    return Checkouts(tmp_path)


@pytest.fixture
def root(tmp_path: Path) -> Path:
    return tmp_path / "served"


@pytest.fixture
def server(root: Path) -> Iterator[GitServer]:
    root.mkdir(exist_ok=True)
    with git_server(root) as running:
        yield running


FILES = {"README": b"hello\n", "src/a.c": b"int a;\n", "src/deep/b.c": b"int b;\n", "docs/x.gif": b"GIF"}


def filtering(repository: Path) -> None:
    git(repository, "config", "uploadpack.allowFilter", "true")


# ---- files -------------------------------------------------------------------------------------------


def test_files_are_those_of_the_commit(root: Path, take: Checkouts) -> None:
    made = commit(new(root / "a"), FILES)
    assert got(take(root / "a", made)) == FILES


def test_modes_are_the_tree_s_whatever_the_mask(root: Path, take: Checkouts) -> None:
    made = commit(new(root / "a"), {"run": b"#!/bin/sh\n", "data": b""}, executable=frozenset({"run"}))
    before = os.umask(0o077)
    try:
        out = take(root / "a", made)
    finally:
        os.umask(before)
    assert [(out / name).stat().st_mode & 0o777 for name in ("run", "data")] == [0o755, 0o644]


def test_symlink_is_written_as_it_stands_and_not_followed(root: Path, take: Checkouts) -> None:
    repository = new(root / "a")
    rows = {"away": ("120000", blob(repository, b"/nowhere//at/all"))}
    out = take(root / "a", commit_index(repository, rows))
    assert os.readlink(out / "away") == "/nowhere//at/all"


def test_attributes_and_configuration_change_no_byte(
    root: Path, tmp_path: Path, take: Checkouts
) -> None:
    configure(
        tmp_path, "[core]", "\tautocrlf = true", "\teol = crlf", '[filter "up"]', "\tsmudge = tr a-z A-Z"
    )
    files = {
        ".gitattributes": b"*.txt eol=crlf\n*.c ident\n*.up filter=up\n*.v export-subst\nhid export-ignore\n",
        "a.txt": b"one\ntwo\n",
        "a.c": b"$Id$\n",
        "a.up": b"small\n",
        "a.v": b"$Format:%H$\n",
        "hid": b"seen\n",
    }
    assert got(take(root / "a", commit(new(root / "a"), files))) == files


def test_replaced_object_does_not_take_the_place_of_the_pinned_one(root: Path, take: Checkouts) -> None:
    repository = new(root / "a")
    made = commit(repository, FILES)
    git(repository, "replace", made, commit(repository, {"README": b"other\n"}))
    assert got(take(root / "a", made)) == FILES


def test_no_git_folder_is_written(root: Path, take: Checkouts) -> None:
    sub = commit(new(root / "sub"), FILES)
    made = commit(new(root / "a"), {".gitmodules": gitmodules(sub="../sub")}, links={"sub": sub})
    assert not list(take(root / "a", made, recurse=True).rglob(".git"))


def test_same_tree_has_the_same_listing_from_server_folder_and_shallow_clone(
    root: Path, tmp_path: Path, server: GitServer, take: Checkouts
) -> None:
    repository = new(root / "a")
    made = commit(repository, FILES, parent=commit(repository, {"old": b""}))
    filtering(repository)
    git(tmp_path, "clone", "--quiet", "--depth=1", f"file://{repository}", "shallow")
    places = (f"{server.url}/a", repository, tmp_path / "shallow", f"file://{repository}")
    assert len({listing_sha256(listing(take(place, made))) for place in places}) == 1


def test_linked_work_tree_is_a_repository_too(root: Path, tmp_path: Path, take: Checkouts) -> None:
    repository = new(root / "a")
    made = commit(repository, FILES)
    git(repository, "worktree", "add", "--quiet", str(tmp_path / "linked"), made)
    assert got(take(tmp_path / "linked", made)) == FILES


def test_folder_with_something_in_it_is_refused(root: Path, tmp_path: Path) -> None:
    tree = GitTree(url=str(root), commit="0" * 40)
    with pytest.raises(FetchError, match="not empty"):
        checkout(tree, into=tmp_path, cache=tmp_path / "cache", phase=Silent())


def test_abbreviated_commit_is_no_tree() -> None:
    with pytest.raises(ValueError, match="not a commit"):
        GitTree(url="https://example.org/a", commit="abc123")


# ---- selection ---------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("include", "exclude", "paths"),
    [
        (("src",), (), {"src/a.c", "src/deep/b.c"}),
        (("src/*.c",), (), {"src/a.c"}),
        (("**/*.c",), (), {"src/a.c", "src/deep/b.c"}),
        (("/src/",), ("src/deep",), {"src/a.c"}),
        ((), ("**/*.gif", "src"), {"README"}),
        (("[A-Z]*",), (), {"README"}),
        (("[!A-Z]*/?.c",), (), {"src/a.c"}),
        (("src/**",), ("**/b.c",), {"src/a.c"}),
    ],
)
def test_patterns_select_files(
    root: Path, take: Checkouts, include: tuple[str, ...], exclude: tuple[str, ...], paths: set[str]
) -> None:
    made = commit(new(root / "a"), FILES)
    assert set(got(take(root / "a", made, include=include, exclude=exclude))) == paths


def test_every_pattern_that_matches_nothing_is_named(root: Path, take: Checkouts) -> None:
    made = commit(new(root / "a"), FILES)
    with pytest.raises(FetchError, match=r"matched by `lib`, `\*\.gif`"):
        take(root / "a", made, include=("src", "lib"), exclude=("*.gif",))


def test_selection_that_leaves_nothing_is_refused(root: Path, take: Checkouts) -> None:
    made = commit(new(root / "a"), FILES)
    with pytest.raises(FetchError, match="leave nothing"):
        take(root / "a", made, include=("docs",), exclude=("**/*.gif",))


def test_pattern_reaches_into_folders_that_it_may_match_below() -> None:
    selection = Selection(("lib/sub/*.c", "other/**/x"), ())
    answers = [selection.reaches(f) for f in ("lib/sub", "lib/else", "other/any", "lib")]
    assert answers == [True, False, True, True]


# ---- hostile trees -----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "path",
    [
        "../up",
        "a/../../up",
        ".git/config",
        "sub/.GIT/hooks/x",
        "git~1",
        ".g\u200cit/x",
        "/abs",
        "a//b",
        "\udcff",
    ],
)
def test_hostile_path_is_refused(path: str) -> None:
    with pytest.raises(FetchError, match="cannot be written"):
        refuse_hostile(["fine", path], where="it")


@pytest.mark.parametrize(
    "paths", [("Makefile", "makefile"), ("a", "a"), ("a", "a/b"), ("A", "a/b"), ("\u00e9", "e\u0301")]
)
def test_paths_that_overwrite_one_another_are_refused(paths: tuple[str, ...]) -> None:
    with pytest.raises(FetchError) as caught:
        refuse_hostile(paths, where="it")
    assert len(caught.value.details) == 1


def test_ordinary_names_that_look_odd_are_fine() -> None:
    refuse_hostile([".gitignore", "..a", "a..", ".github/x", "a b", "\u0442"], where="it")


def test_tree_that_leads_out_of_its_folder_writes_nothing_there(
    root: Path, tmp_path: Path, take: Checkouts
) -> None:
    repository = new(root / "a")
    one = bytes.fromhex(blob(repository, b"evil"))
    raw = b"100644 ../evil\0" + one
    tree = git(repository, "hash-object", "-w", "-t", "tree", "--literally", "--stdin", stdin=raw)
    with pytest.raises(FetchError, match="cannot be written"):
        take(repository, git(repository, "commit-tree", "-m", "x", tree))
    assert not (tmp_path / "evil").exists()


def test_hostile_path_may_be_left_out(root: Path, take: Checkouts) -> None:
    made = commit(new(root / "a"), {"Makefile": b"1", "makefile": b"2"})
    assert got(take(root / "a", made, exclude=("makefile",))) == {"Makefile": b"1"}


@pytest.mark.parametrize(
    ("raw", "message"),
    [
        (b"100644 x", "malformed"),
        (b"644x y\0" + b"1" * 20, "malformed"),
        (b"10644 y\0" + b"1" * 20, "mode"),
    ],
)
def test_tree_that_no_git_writes_is_refused(
    root: Path, take: Checkouts, raw: bytes, message: str
) -> None:
    repository = new(root / "a")
    tree = git(repository, "hash-object", "-w", "-t", "tree", "--literally", "--stdin", stdin=raw)
    data = f"tree {tree}\nauthor a <a@b> 0 +0000\ncommitter a <a@b> 0 +0000\n\nx\n".encode()
    made = git(repository, "hash-object", "-w", "-t", "commit", "--literally", "--stdin", stdin=data)
    with pytest.raises(FetchError, match=message):
        take(repository, made)


def test_trees_that_hold_one_another_without_end_are_refused(
    root: Path, take: Checkouts, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("lockbuild.sources.git.objects._MOST_PATHS", 5000)
    repository = new(root / "a")
    one = f"100644 blob {blob(repository, b'x')}"
    for _ in range(9):
        rows = "".join(f"{one}\t{name}\n" for name in "abcdefghij")
        one = f"040000 tree {git(repository, 'mktree', stdin=rows.encode())}"
    made = git(repository, "commit-tree", "-m", "a thousand million files", one.split()[-1])
    with pytest.raises(FetchError, match="has more than 5000 files"):
        take(repository, made)


@pytest.mark.parametrize("target", [b"", b"\xff", b"a\0b"])
def test_symlink_without_a_path_is_refused(root: Path, take: Checkouts, target: bytes) -> None:
    repository = new(root / "a")
    with pytest.raises(FetchError, match="symlink `s` leads to what is no path"):
        take(repository, commit_index(repository, {"s": ("120000", blob(repository, target))}))


# ---- submodules --------------------------------------------------------------------------------------


@pytest.fixture
def nested(root: Path) -> tuple[str, tuple[Submodule, ...]]:
    """Return the commit of repository `top`, whose submodule `mid` has the submodule `leaf`."""
    leaf = commit(new(root / "leaf.git"), {"leaf.h": b"leaf\n", "big.bin": b"0" * 99})
    mid = commit(
        new(root / "mid"),
        {".gitmodules": gitmodules(leaf="../leaf.git"), "mid.h": b"mid\n"},
        links={"leaf": leaf},
    )
    top = commit(
        new(root / "top"),
        {".gitmodules": gitmodules(mid="./../mid"), "top.c": b"top\n"},
        links={"mid": mid},
    )
    return top, (
        Submodule(path="mid", url=f"{root}/mid", commit=mid),
        Submodule(path="mid/leaf", url=f"{root}/leaf.git", commit=leaf),
    )


def test_submodules_without_end_are_refused(
    root: Path, take: Checkouts, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("lockbuild.sources.git._MOST_SUBMODULES", 20)
    made = commit(new(root / "a"), {"x": b"x"})
    for _ in range(3):
        links = {f"m{number}": made for number in range(4)}
        made = commit(
            root / "a", {".gitmodules": gitmodules(**dict.fromkeys(links, "../a"))}, links=links
        )
    with pytest.raises(FetchError, match="has more than 20 submodules in submodules"):
        take(root / "a", made, recurse=True)


def test_submodules_are_found_in_submodules(
    root: Path, tmp_path: Path, nested: tuple[str, tuple[Submodule, ...]]
) -> None:
    tree = GitTree(url=f"{root}/top", commit=nested[0])
    assert submodules(tree, work=tmp_path / "work") == nested[1]


def test_submodules_are_written_at_their_gitlinks(
    root: Path, take: Checkouts, nested: tuple[str, tuple[Submodule, ...]]
) -> None:
    commit(root / "mid", {"moved": b"on\n"}, parent=nested[1][0].commit)
    out = take(root / "top", nested[0], recurse=True)
    assert {"top.c", "mid/mid.h", "mid/leaf/leaf.h"} <= set(got(out))
    assert not (out / "mid/moved").exists()
    assert take.found == nested[1]


def test_submodules_come_through_a_server(
    root: Path, server: GitServer, take: Checkouts, nested: tuple[str, tuple[Submodule, ...]]
) -> None:
    out = take(f"{server.url}/top", nested[0], recurse=True)
    assert listing(out) == listing(take(root / "top", nested[0], recurse=True))


def test_submodules_that_nobody_asked_for_are_empty_folders(
    root: Path, take: Checkouts, nested: tuple[str, tuple[Submodule, ...]]
) -> None:
    out = take(root / "top", nested[0])
    assert list((out / "mid").iterdir()) == []
    assert take.found == ()


def test_submodule_that_is_left_out_is_not_asked_for(
    root: Path, take: Checkouts, nested: tuple[str, tuple[Submodule, ...]]
) -> None:
    (root / "leaf.git").rename(root / "gone")
    out = take(root / "top", nested[0], recurse=True, exclude=("mid/leaf",))
    assert [one.path for one in take.found] == ["mid"]
    assert not (out / "mid/leaf").exists()


def test_patterns_select_within_submodules(
    root: Path, take: Checkouts, nested: tuple[str, tuple[Submodule, ...]]
) -> None:
    out = take(root / "top", nested[0], recurse=True, include=("mid/leaf/*.h", "top.c"))
    assert set(got(out)) == {"top.c", "mid/leaf/leaf.h"}


def test_submodule_that_is_gone_is_named_with_its_parent(
    root: Path, take: Checkouts, nested: tuple[str, tuple[Submodule, ...]]
) -> None:
    (root / "leaf.git").rename(root / "gone")
    with pytest.raises(FetchError, match=r"submodule `mid/leaf` of `.*/top` at .*cannot be reached"):
        take(root / "top", nested[0], recurse=True)


def test_gitlink_without_an_address_is_named(root: Path, take: Checkouts) -> None:
    made = commit(new(root / "a"), {"x": b""}, links={"stray": "1" * 40})
    with pytest.raises(FetchError, match="says nothing of its submodules `stray`"):
        take(root / "a", made, recurse=True)


@pytest.mark.parametrize(
    ("parent", "url", "expected"),
    [
        ("https://host/a/b.git", "../c.git", "https://host/a/c.git"),
        ("https://host/a/b/", "../../c/d", "https://host/c/d"),
        ("https://host/a/b", "./c", "https://host/a/b/c"),
        ("git@host:a/b", "../c", "git@host:a/c"),
        ("git@host:b", "../c", "git@host:c"),
        ("/srv/a", "../c", "/srv/c"),
        ("https://host/a", "https://other/c", "https://other/c"),
    ],
)
def test_relative_address_is_the_one_that_git_means(parent: str, url: str, expected: str) -> None:
    assert resolve_url(parent, url) == expected


def test_relative_address_stays_on_its_host() -> None:
    with pytest.raises(FetchError, match="leads out of the host"):
        resolve_url("https://host/a", "../../other/c")


@pytest.mark.parametrize(
    "url", ["ext::sh -c id", "-oProxyCommand=id", "--upload-pack=id", "fd::3", "x/y", "ftp://h/x"]
)
def test_address_that_could_run_a_program_is_refused(url: str) -> None:
    with pytest.raises(FetchError, match="not an address"):
        check_url(url, local=True)


@pytest.mark.parametrize("url", ["https://h/x\ny", "https://h/\udcff", "/srv/\x1b[31mx", "git@h:x\ty"])
def test_address_that_is_no_line_of_text_is_refused(url: str) -> None:
    with pytest.raises(FetchError, match="not an address"):
        check_url(url, local=True)


def test_submodule_of_a_server_is_not_read_from_this_machine(
    root: Path, server: GitServer, take: Checkouts
) -> None:
    secret = commit(new(root / "secret"), {"key": b"!"})
    made = commit(
        new(root / "a"), {".gitmodules": gitmodules(s=f"file://{root}/secret")}, links={"s": secret}
    )
    with pytest.raises(FetchError, match="path of this machine"):
        take(f"{server.url}/a", made, recurse=True)


def test_submodule_may_be_on_this_machine_where_the_user_maps_it(
    root: Path, tmp_path: Path, server: GitServer, take: Checkouts
) -> None:
    sub = commit(new(root / "sub"), FILES)
    made = commit(new(root / "a"), {".gitmodules": gitmodules(s="/upstream/sub")}, links={"s": sub})
    configure(tmp_path, f'[url "{root}/"]', "\tinsteadOf = /upstream/")
    assert (take(f"{server.url}/a", made, recurse=True) / "s/README").exists()


# ---- where repositories are --------------------------------------------------------------------------


def test_configured_mirror_takes_the_place_of_the_address(
    root: Path, tmp_path: Path, take: Checkouts, nested: tuple[str, tuple[Submodule, ...]]
) -> None:
    configure(tmp_path, f'[url "{root}/"]', "\tinsteadOf = https://code.example.org/team/")
    out = take("https://code.example.org/team/top", nested[0], recurse=True)
    assert (out / "mid/leaf/leaf.h").exists()
    assert [one.url for one in take.found] == [
        "https://code.example.org/team/mid",
        "https://code.example.org/team/leaf.git",
    ]


def test_unreachable_host_is_named_as_it_was_asked_without_secrets(
    tmp_path: Path, take: Checkouts
) -> None:
    configure(
        tmp_path, '[url "http://me:hunter2@127.0.0.1:9/"]', "\tinsteadOf = https://code.example.org/"
    )
    with pytest.raises(FetchError, match="cannot be reached") as caught:
        take("https://code.example.org/top", "1" * 40)
    told = "\n".join((caught.value.message, *caught.value.details))
    assert "http://***@127.0.0.1:9/top" in told
    assert "hunter2" not in told


def test_hooks_of_the_user_do_not_run(root: Path, tmp_path: Path, take: Checkouts) -> None:
    hooks = tmp_path / "hooks"
    hooks.mkdir()
    (hooks / "reference-transaction").write_text(f"#!/bin/sh\ntouch {tmp_path}/ran\n", encoding="utf-8")
    (hooks / "reference-transaction").chmod(0o755)
    configure(tmp_path, "[core]", f"\thooksPath = {hooks}")
    repository = new(root / "a")
    older = commit(repository, FILES)
    commit(repository, {"newer": b""}, parent=older)
    (tmp_path / "ran").unlink()  # by the commits above, whose hooks are the user's
    # An old server gives references, and writing those is what the hook is for.
    with git_server(root, protocol=0) as running:
        take(f"{running.url}/a", older)
    assert not (tmp_path / "ran").exists()


def test_surrounding_repository_has_no_say(
    root: Path, server: GitServer, take: Checkouts, monkeypatch: pytest.MonkeyPatch
) -> None:
    made = commit(new(root / "a"), FILES)
    monkeypatch.setenv("GIT_DIR", "/nonexistent")
    monkeypatch.setenv("GIT_OBJECT_DIRECTORY", "/nonexistent")
    assert got(take(f"{server.url}/a", made)) == FILES


# ---- servers -----------------------------------------------------------------------------------------


def test_only_wanted_files_travel_and_in_one_request(
    root: Path, server: GitServer, take: Checkouts
) -> None:
    repository = new(root / "a")
    filtering(repository)
    files = {f"src/{n}.c": f"int a{n};\n".encode() for n in range(30)}
    made = commit(repository, files | {"demo.mp4": os.urandom(200_000)})
    assert got(take(f"{server.url}/a", made, include=("src",))) == files
    assert sum(file.stat().st_size for file in take.cache.rglob("*.pack")) < 100_000
    # The commit and its trees, then all the files; a POST more where references are listed first.
    assert server.packs <= 4


def test_history_does_not_travel(root: Path, server: GitServer, take: Checkouts) -> None:
    repository = new(root / "a")
    first = commit(repository, {"old": b"old\n"})
    made = commit(repository, FILES, parent=first)
    take(f"{server.url}/a", made)
    (cached,) = take.cache.glob("*[0-9a-f].git")
    assert git(cached, "rev-list", "--count", made) == "1"


def test_second_checkout_asks_nobody(root: Path, take: Checkouts) -> None:
    made = commit(new(root / "a"), FILES)
    with git_server(root) as running:
        take(f"{running.url}/a", made)
    assert got(take(f"{running.url}/a", made)) == FILES


def test_commit_that_only_a_pull_request_has_is_found(
    root: Path, server: GitServer, take: Checkouts
) -> None:
    repository = new(root / "a")
    commit(repository, {"main": b""})
    older = commit(repository, FILES, ref="refs/pull/7/head")
    commit(repository, {"newer": b""}, parent=older, ref="refs/pull/7/head")
    assert got(take(f"{server.url}/a", older)) == FILES


@pytest.mark.parametrize("ref", ["refs/heads/main", "refs/pull/7/head"])
def test_old_server_that_gives_only_references_is_asked_for_more(
    root: Path, take: Checkouts, ref: str
) -> None:
    repository = new(root / "a")
    commit(repository, {"main": b""})
    older = commit(repository, FILES, ref=ref)
    commit(repository, {"newer": b""}, parent=older, ref=ref)
    with git_server(root, protocol=0) as running:
        assert got(take(f"{running.url}/a", older)) == FILES


def test_old_server_is_asked_for_more_also_where_a_shallow_copy_is_cached(
    root: Path, take: Checkouts
) -> None:
    repository = new(root / "a")
    older = commit(repository, FILES)
    tip = commit(repository, {"newer": b""}, parent=older)
    with git_server(root, protocol=0) as running:
        take(f"{running.url}/a", tip)
        assert got(take(f"{running.url}/a", older)) == FILES


def test_server_that_leaves_files_out_but_gives_none_is_asked_for_all(
    root: Path, take: Checkouts
) -> None:
    repository = new(root / "a")
    filtering(repository)
    made = commit(repository, FILES)
    with git_server(root, protocol=0) as running:
        assert got(take(f"{running.url}/a", made)) == FILES


def test_bundle_is_a_repository_too(root: Path, tmp_path: Path, take: Checkouts) -> None:
    repository = new(root / "a")
    made = commit(repository, FILES)
    git(repository, "bundle", "create", "--quiet", str(tmp_path / "a.bundle"), "--all")
    assert got(take(tmp_path / "a.bundle", made)) == FILES


def test_commit_that_was_forced_away_is_said_to_be(
    root: Path, server: GitServer, take: Checkouts
) -> None:
    repository = new(root / "a")
    gone = commit(repository, {"old": b"old"})
    commit(repository, FILES)
    git(repository, "gc", "--quiet", "--prune=now")
    for url in (f"{server.url}/a", str(repository)):
        with pytest.raises(FetchError, match=f"has no commit {gone}") as caught:
            take(url, gone)
        assert "force-pushed" in str(caught.value.hint)


def test_id_of_an_annotated_tag_is_no_commit(root: Path, take: Checkouts) -> None:
    repository = new(root / "a")
    made = commit(repository, FILES)
    git(repository, "tag", "-a", "-m", "one", "v1", made)
    with pytest.raises(FetchError, match=f"annotated tag, not a commit; it names {made}"):
        take(repository, git(repository, "rev-parse", "v1"))


# ---- partial snapshots, damage, and git-lfs ----------------------------------------------------------


def without(repository: Path, *data: bytes) -> list[str]:
    """Take the blobs with these bytes out of a repository."""
    gone = [blob(repository, one) for one in data]
    for one in gone:
        (repository / "objects" / one[:2] / one[2:]).unlink()
    return gone


def test_missing_blob_that_nobody_wants_does_no_harm(root: Path, take: Checkouts) -> None:
    repository = new(root / "a")
    made = commit(repository, FILES)
    without(repository, b"GIF")
    assert set(got(take(repository, made, exclude=("docs",)))) == set(FILES) - {"docs/x.gif"}


def test_missing_blobs_that_are_wanted_are_all_named(root: Path, take: Checkouts) -> None:
    repository = new(root / "a")
    made = commit(repository, FILES)
    gif, readme = without(repository, b"GIF", b"hello\n")
    with pytest.raises(FetchError, match="lacks 2 of the files") as caught:
        take(repository, made)
    assert caught.value.details == (f"`README`: blob {readme}", f"`docs/x.gif`: blob {gif}")


def test_blobs_that_the_server_lacks_are_all_named(
    root: Path, server: GitServer, take: Checkouts
) -> None:
    repository = new(root / "a")
    filtering(repository)
    made = commit(repository, FILES)
    gif, code = without(repository, b"GIF", b"int a;\n")
    with pytest.raises(FetchError, match="lacks 2 of the files") as caught:
        take(f"{server.url}/a", made)
    assert caught.value.details == (f"`docs/x.gif`: blob {gif}", f"`src/a.c`: blob {code}")
    assert "README" in got(take(f"{server.url}/a", made, exclude=("docs", "src/a.c")))


def test_blob_with_other_bytes_is_refused(root: Path, take: Checkouts) -> None:
    repository = new(root / "a")
    made = commit(repository, FILES)
    (gone,) = without(repository, b"GIF")
    other = blob(repository, b"EVIL")
    objects = repository / "objects"
    (objects / gone[:2]).mkdir(exist_ok=True)
    (objects / gone[:2] / gone[2:]).write_bytes((objects / other[:2] / other[2:]).read_bytes())
    with pytest.raises(FetchError, match="cannot be used"):
        take(repository, made)


@pytest.mark.parametrize("broken", ["config", "HEAD", "shallow", "pack"])
def test_broken_cache_is_made_anew(root: Path, server: GitServer, take: Checkouts, broken: str) -> None:
    repository = new(root / "a")
    made = commit(repository, FILES)
    newer = commit(repository, FILES | {"more": b"more"}, parent=made)
    take(f"{server.url}/a", made)
    (cached,) = take.cache.glob("*[0-9a-f].git")
    match broken:
        case "pack":
            (pack,) = cached.glob("objects/pack/*.pack")
            pack.chmod(0o644)
            pack.write_bytes(b"\0" * pack.stat().st_size)
        case _:
            (cached / broken).write_bytes(b"\0\0\0")
    assert got(take(f"{server.url}/a", newer)) == FILES | {"more": b"more"}
    assert got(take(f"{server.url}/a", made)) == FILES


def test_what_a_killed_process_left_costs_nothing(
    root: Path, server: GitServer, take: Checkouts
) -> None:
    repository = new(root / "a")
    made = commit(repository, FILES)
    take(f"{server.url}/a", made)
    (cached,) = take.cache.glob("*[0-9a-f].git")
    (cached / "shallow.lock").touch()
    (cached / "still-the-same").touch()
    take(f"{server.url}/a", commit(repository, {"more": b"more"}, parent=made))
    assert (cached / "still-the-same").exists()


def test_two_may_share_a_cache(root: Path, server: GitServer, tmp_path: Path) -> None:
    made = commit(new(root / "a"), FILES)
    tree = GitTree(url=f"{server.url}/a", commit=made)

    together = threading.Barrier(8)

    def one(number: int) -> None:
        together.wait()
        checkout(tree, into=tmp_path / f"out{number}", cache=tmp_path / "cache", phase=Silent())

    threads = [threading.Thread(target=one, args=(number,)) for number in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert [got(tmp_path / f"out{number}") for number in range(8)] == [FILES] * 8


OID = "ab" * 32
POINTER = f"version https://git-lfs.github.com/spec/v1\noid sha256:{OID}\nsize 12345\n".encode()


def test_lfs_pointer_is_named_with_its_hash(root: Path, take: Checkouts) -> None:
    made = commit(new(root / "a"), {"w/model.pth": POINTER, "about-lfs.md": b"# version\n" + POINTER})
    with pytest.raises(FetchError, match=r"1 file of .* is a git-lfs pointer") as caught:
        take(root / "a", made)
    assert caught.value.details == (f"`w/model.pth`: sha256 {OID}, 12345 bytes",)


def test_lfs_pointer_in_a_submodule_has_its_whole_path(root: Path, take: Checkouts) -> None:
    sub = commit(new(root / "sub"), {"m": POINTER})
    made = commit(new(root / "a"), {".gitmodules": gitmodules(s="../sub")}, links={"s": sub})
    with pytest.raises(FetchError) as caught:
        take(root / "a", made, recurse=True)
    assert caught.value.details[0].startswith("`s/m`")


def test_lfs_pointer_may_stay_where_an_asset_will_stand_or_be_left_out(
    root: Path, take: Checkouts
) -> None:
    made = commit(new(root / "a"), {"w/model.pth": POINTER, "a": b""})
    assert "w/model.pth" in got(take(root / "a", made, assets=("w/model.pth",)))
    assert "w/model.pth" not in got(take(root / "a", made, exclude=("w",)))


# ---- references --------------------------------------------------------------------------------------


@pytest.fixture(params=["folder", "server"])
def place(request: pytest.FixtureRequest, root: Path, server: GitServer) -> str:
    """Return the address of repository `a`, on this machine or not."""
    new(root / "a")
    return f"{root}/a" if request.param == "folder" else f"{server.url}/a"


def test_branch_tag_and_full_reference_are_resolved(root: Path, tmp_path: Path, place: str) -> None:
    made = commit(root / "a", FILES)
    newer = commit(root / "a", {"x": b""}, parent=made, ref="refs/heads/feature/x")
    git(root / "a", "tag", "-a", "-m", "one", "v1", made)
    git(root / "a", "tag", "-a", "-m", "two", "v1-again", "v1")
    asked = (
        "main",
        "feature/x",
        "v1",
        "v1-again",
        "refs/heads/main",
        "HEAD",
        "heads/main",
        newer.upper(),
    )
    answers = [resolve_ref(place, ref, work=tmp_path / "work") for ref in asked]
    assert answers == [made, newer, made, made, made, made, made, newer]


def test_abbreviated_commit_is_looked_for_in_the_history(root: Path, tmp_path: Path, place: str) -> None:
    older = commit(root / "a", FILES)
    commit(root / "a", {"x": b""}, parent=older)
    assert resolve_ref(place, older[:8], work=tmp_path / "work") == older


def test_renamed_branch_is_told_with_names_near_it(root: Path, tmp_path: Path, place: str) -> None:
    commit(root / "a", FILES, ref="refs/heads/release-2")
    with pytest.raises(ResolveError, match="no branch, tag or commit `release-1`") as caught:
        resolve_ref(place, "release-1", work=tmp_path / "work")
    assert caught.value.hint == "near names: `release-2`"


def test_name_of_a_branch_and_another_tag_is_ambiguous(root: Path, tmp_path: Path, place: str) -> None:
    made = commit(root / "a", FILES, ref="refs/tags/x")
    commit(root / "a", {}, parent=made, ref="refs/heads/x")
    with pytest.raises(ResolveError, match="means several commits") as caught:
        resolve_ref(place, "x", work=tmp_path / "work")
    assert f"refs/tags/x: {made}" in caught.value.details


def test_reference_of_a_repository_that_is_gone_is_a_fetch_error(
    tmp_path: Path, server: GitServer
) -> None:
    with pytest.raises(FetchError, match="cannot be reached"):
        resolve_ref(f"{server.url}/none", "main", work=tmp_path / "work")


def test_root_of_the_machine_s_folders_is_no_repository(tmp_path: Path) -> None:
    tree = GitTree(url="file:///", commit="0" * 40)
    with pytest.raises(FetchError):
        checkout(tree, into=tmp_path / "out", cache=tmp_path / "cache", phase=Silent())
