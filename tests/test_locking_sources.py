"""Pinning sources: what is looked at, what is kept, and what moves."""

from __future__ import annotations

import shutil
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any

import pytest

from lockbuild.derivation import IndexFile
from lockbuild.documents import toml_text
from lockbuild.errors import FetchError, ResolveError
from lockbuild.folders import STACK_FILE, StackFolder
from lockbuild.lock import lock_texts
from lockbuild.locking import _moved
from lockbuild.locking.former import Former, ResolveOptions
from lockbuild.locking.gaps import Gaps
from lockbuild.locking.sources import SourcePinner
from lockbuild.plan import make_plan
from lockbuild.sources import Mirrors
from lockbuild.stack import from_document, inputs_of
from lockbuild.stack.schema import parse_stack_text
from lockbuild.store import Store
from lockbuild.store.trees import listing, listing_sha256
from tests.fakes import RecordingProgress
from tests.repositories import commit, configure, git, gitmodules, new, own_git
from tests.servers.index import serve_index
from tests.values import FILES, small_lock, stack_document, with_inputs

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from lockbuild.digest import StorePath
    from lockbuild.lock import Lock, LockedSource

TREE = {"setup.py": b"import setuptools\n", "csrc/a.c": b"int a;\n", "docs/a.md": b"a\n"}
PATCH = "--- a/setup.py\n+++ b/setup.py\n@@ -1 +1,2 @@\n import setuptools\n+more = 1\n"


@pytest.fixture(autouse=True)
def _own_git(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    own_git(monkeypatch, tmp_path)


@dataclass(slots=True, kw_only=True)
class Sources:
    """The small stack with `gamma` from a repository and the source `other` from another; both can change."""

    folder: Path
    store: Store
    gamma: dict[str, Any]
    """The build's `source`."""
    other: dict[str, Any]
    build: dict[str, Any] = field(default_factory=dict)
    """Further keys of the build `gamma`."""
    asked: list[tuple[str, int | None, str]] = field(default_factory=list)
    """Phases of the last time."""
    gaps: Gaps = field(default_factory=Gaps)
    """What could not be asked the last time."""

    @property
    def document(self) -> dict[str, Any]:
        gamma, delta = stack_document()["build"]
        builds = [{**gamma, "source": self.gamma, **self.build}, delta]
        text = toml_text(stack_document(build=builds, source=[{"name": "other", **self.other}]))
        return parse_stack_text(text, file=STACK_FILE)

    def pin(self, former: Lock | None = None, *, mirrors: Mirrors | None = None, **options: Any) -> Lock:
        """Return a lock with every source pinned, with the *options* of resolving."""
        document, folder = self.document, StackFolder(path=self.folder)
        inputs = inputs_of(document, folder.used_files(document))
        progress, gaps = RecordingProgress(), Gaps()
        with self.store.scratch("pinning") as scratch:
            pinner = SourcePinner(
                stack=from_document(document),
                folder=folder,
                former=Former(lock=former, inputs=inputs, options=ResolveOptions(**options)),
                mirrors=lambda _names: mirrors or Mirrors(),
                store=self.store,
                progress=progress,
                scratch=scratch,
                gaps=gaps,
            )
            found = pinner.pin()
        self.asked = progress.phases
        self.gaps = gaps
        return replace(with_inputs(small_lock(), inputs), sources=found, open=tuple(sorted(gaps.open)))

    def built(self, lock: Lock) -> StorePath:
        """Return the path of the build `gamma`."""
        return dict(make_plan(from_document(self.document), lock).compiles)["gamma"]

    def forget_repositories(self) -> None:
        """Remove every repository, and all that the store keeps of them."""
        shutil.rmtree(self.store.root / "git")
        for repository in self.folder.parent.glob("*.git"):
            shutil.rmtree(repository)


@pytest.fixture
def sources(tmp_path: Path) -> Iterator[Sources]:
    folder = tmp_path / "stack"
    for path, text in {**FILES, "patches/more.patch": PATCH}.items():
        (folder / path).parent.mkdir(parents=True, exist_ok=True)
        (folder / path).write_text(text, encoding="utf-8")
    gamma, other = new(tmp_path / "gamma.git"), new(tmp_path / "other.git")
    with Store(tmp_path / "store") as store:
        yield Sources(
            folder=folder,
            store=store,
            gamma={"git": gamma.as_uri(), "commit": commit(gamma, TREE)},
            other={"git": other.as_uri(), "commit": commit(other, {"deeplab/a.py": b"a = 1\n"})},
        )


def gamma_of(lock: Lock) -> LockedSource:
    return lock.source("gamma")


PATCHED: list[dict[str, Any]] = [
    {"patch": "patches/more.patch", "reason": "more"},
    {"graft": "other", "take": "deeplab", "put": "deeplab", "reason": "lacking"},
]

# ---- what is pinned ----------------------------------------------------------------------------------


def test_tree_is_pinned_by_its_listing_which_is_the_store_object_s(sources: Sources) -> None:
    lock = sources.pin()
    gamma, where = gamma_of(lock), sources.gamma["commit"]
    assert (gamma.version, gamma.index, gamma.commit) == ("2.0", "", where)
    assert gamma.file.filename == f"gamma-{where[:12]}"
    plan = make_plan(from_document(sources.document), lock)
    (tree,) = (fetch for fetch in plan.fetches() if fetch.filename == gamma.file.filename)
    info = sources.store.info(tree.path)
    assert info is not None
    assert info.sha256 == gamma.file.sha256 == listing_sha256(listing(sources.store.locate(tree.path)))


def test_every_source_is_pinned_in_the_order_of_the_stack_file(sources: Sources) -> None:
    pinned = sources.pin().sources
    assert [(source.name, source.version) for source in pinned] == [
        ("gamma", "2.0"),
        ("delta", "0.1"),
        ("other", ""),
    ]


def test_sdist_is_pinned_as_its_index_has_it(sources: Sources, tmp_path: Path) -> None:
    sources.gamma = {"sdist": "gamma==2.0"}
    (tmp_path / "index").mkdir()
    (tmp_path / "index/gamma-2.0.tar.gz").write_bytes(b"source of gamma")
    with serve_index(tmp_path / "index") as index:
        gamma = gamma_of(sources.pin(mirrors=Mirrors(indexes=(("pypi", (index.url,)),))))
    assert (gamma.index, gamma.file.filename, gamma.commit) == ("pypi", "gamma-2.0.tar.gz", None)


def test_submodules_are_told_where_they_are_part_of_the_tree(sources: Sources, tmp_path: Path) -> None:
    inner = new(tmp_path / "inner.git")
    one = commit(inner, {"a.h": b"int a;\n"})
    outer = new(tmp_path / "outer.git")
    files = {**TREE, ".gitmodules": gitmodules(vendored=inner.as_uri())}
    sources.gamma = {"git": outer.as_uri(), "commit": commit(outer, files, links={"vendored": one})}
    without = gamma_of(sources.pin())
    sources.gamma["submodules"] = True
    gamma = gamma_of(sources.pin())
    assert gamma.submodules == (("vendored", inner.as_uri(), one),)
    assert without.submodules == ()
    assert without.file.sha256 != gamma.file.sha256


def test_patches_are_pinned_once_each_in_the_order_of_paths(sources: Sources) -> None:
    (sources.folder / "patches/a.patch").write_text(PATCH)
    edits = [*PATCHED, {"patch": "patches/a.patch", "reason": "a"}, PATCHED[0]]
    sources.build = {"edits": edits}
    pinned = sources.pin()
    assert [path for path, _ in gamma_of(pinned).patches] == ["patches/a.patch", "patches/more.patch"]
    assert pinned.source("other").patches == ()


PLACED = {"path": "/workspace/other", "license": "MIT"}


def test_patch_of_a_source_of_the_image_is_pinned(sources: Sources) -> None:
    sources.other |= {**PLACED, "edits": PATCHED[:1]}
    assert [path for path, _ in sources.pin().source("other").patches] == ["patches/more.patch"]


def test_source_of_the_image_may_be_an_sdist_of_any_project(sources: Sources, tmp_path: Path) -> None:
    sources.other = {"sdist": "Talking.Head==2.0", **PLACED}
    (tmp_path / "index").mkdir()
    (tmp_path / "index/talking_head-2.0.tar.gz").write_bytes(b"source of talking")
    with serve_index(tmp_path / "index") as index:
        lock = sources.pin(mirrors=Mirrors(indexes=(("pypi", (index.url,)),)))
    assert lock.source("other").file.filename == "talking_head-2.0.tar.gz"
    plan = make_plan(from_document(sources.document), lock)
    (fetch,) = (f for f in plan.fetches() if f.filename == "talking_head-2.0.tar.gz")
    assert fetch.where == IndexFile(index="pypi", project="talking-head")


def test_source_of_the_image_may_be_a_folder_beside_the_stack_file(sources: Sources) -> None:
    sources.other = {"folder": "extension", **PLACED}
    other = sources.pin().source("other")
    assert (other.file.filename, other.path, other.version) == ("other.tar", "extension", "")


# ---- what cannot be reached --------------------------------------------------------------------------


def test_every_unreachable_repository_is_open_and_the_others_are_pinned(
    sources: Sources, tmp_path: Path
) -> None:
    shutil.rmtree(tmp_path / "gamma.git")
    lock = sources.pin()
    assert [source.name for source in lock.sources] == ["delta", "other"]
    (part,) = lock.open
    assert (part.kind, part.name) == ("source", "gamma")
    assert part.reason == (
        f"git repository `{sources.gamma['git']}` cannot be reached: there is none, or not for everybody"
    )


def test_reason_says_nothing_of_the_machine_s_mirror(sources: Sources, tmp_path: Path) -> None:
    configure(tmp_path, '[url "http://me:pw@127.0.0.1:9/"]', "\tinsteadOf = https://code.example.org/")
    sources.gamma["git"] = "https://code.example.org/gamma"
    (part,) = sources.pin().open
    assert part.reason == (
        "git repository `https://code.example.org/gamma` cannot be reached: no connection"
    )
    causes = "\n".join(sources.gaps.causes["source gamma"])
    assert "127.0.0.1:9" in causes
    assert "pw" not in causes


def test_submodule_that_is_gone_leaves_its_source_open(sources: Sources, tmp_path: Path) -> None:
    inner, outer = new(tmp_path / "inner.git"), new(tmp_path / "outer.git")
    one = commit(inner, {"a.h": b"int a;\n"})
    files = {**TREE, ".gitmodules": gitmodules(vendored=inner.as_uri())}
    made = commit(outer, files, links={"vendored": one})
    sources.gamma = {"git": outer.as_uri(), "commit": made, "submodules": True}
    shutil.rmtree(inner)
    (part,) = sources.pin().open
    assert part.name == "gamma"
    assert part.reason.startswith(f"submodule `vendored` of `{outer.as_uri()}`")


def test_commit_that_a_reachable_repository_lacks_is_no_open_part(
    sources: Sources, tmp_path: Path
) -> None:
    shutil.rmtree(tmp_path / "other.git")
    sources.gamma["commit"] = "1" * 40
    with pytest.raises(FetchError, match=f"has no commit {'1' * 40}"):
        sources.pin()


def test_index_that_cannot_be_asked_leaves_an_sdist_open(sources: Sources) -> None:
    sources.gamma = {"sdist": "gamma==2.0"}
    closed = Mirrors(indexes=(("pypi", ("http://user:pw@127.0.0.1:9/simple",)),))
    (part,) = sources.pin(mirrors=closed).open
    assert part.label == "source gamma"
    assert part.reason == "index `pypi` cannot be asked for `gamma`"


def test_sdist_that_an_index_lacks_is_no_open_part(sources: Sources, tmp_path: Path) -> None:
    sources.gamma = {"sdist": "gamma==2.0"}
    (tmp_path / "index").mkdir()
    with (
        serve_index(tmp_path / "index") as index,
        pytest.raises(ResolveError, match="no project `gamma`"),
    ):
        sources.pin(mirrors=Mirrors(indexes=(("pypi", (index.url,)),)))


def test_same_commit_keeps_its_pin_though_its_new_address_is_unreachable(
    sources: Sources, tmp_path: Path
) -> None:
    former = sources.pin()
    sources.gamma["git"] = (tmp_path / "fork.git").as_uri()
    lock = sources.pin(former)
    assert (gamma_of(lock), lock.open) == (gamma_of(former), ())
    assert [part.label for part in sources.gaps.kept] == ["source gamma"]


@pytest.mark.parametrize("change", [{"commit": "1" * 40}, {"exclude": ["docs"]}])
def test_other_content_behind_an_unreachable_address_is_open(
    sources: Sources, tmp_path: Path, change: dict[str, Any]
) -> None:
    former = sources.pin()
    shutil.rmtree(tmp_path / "gamma.git")
    shutil.rmtree(sources.store.root / "git", ignore_errors=True)
    sources.gamma |= change
    lock = sources.pin(former)
    assert [part.label for part in lock.open] == ["source gamma"]
    assert [source.name for source in lock.sources] == ["delta", "other"]


def test_open_source_is_pinned_once_it_can_be_reached(sources: Sources, tmp_path: Path) -> None:
    (tmp_path / "gamma.git").rename(tmp_path / "away")
    former = sources.pin()
    (tmp_path / "away").rename(tmp_path / "gamma.git")
    lock = sources.pin(former)
    assert lock.open == ()
    assert gamma_of(lock).commit == sources.gamma["commit"]


# ---- what is kept, and what moves --------------------------------------------------------------------


def test_nobody_is_asked_while_nothing_changes(sources: Sources) -> None:
    sources.build = {"edits": PATCHED}
    former = sources.pin()
    sources.forget_repositories()
    assert sources.pin(former).sources == former.sources
    assert sources.asked == [("resolving sources", 1, "sources")], "only the folder is looked at"


def test_change_of_something_else_keeps_the_pin(sources: Sources) -> None:
    former = sources.pin()
    sources.forget_repositories()
    sources.build = {"needs": [], "env": {"A": "1"}, "edits": PATCHED}
    assert replace(gamma_of(sources.pin(former)), patches=()) == gamma_of(former)


def test_place_in_the_image_and_edits_keep_the_pin(sources: Sources) -> None:
    former = sources.pin()
    sources.forget_repositories()
    sources.other |= {**PLACED, "writable": True, "edits": PATCHED[:1]}
    assert replace(sources.pin(former).source("other"), patches=()) == former.source("other")


def test_other_commit_moves_the_pin_and_the_build(sources: Sources, tmp_path: Path) -> None:
    former = sources.pin()
    before = sources.built(former)
    sources.gamma["commit"] = commit(tmp_path / "gamma.git", {**TREE, "csrc/a.c": b"int b;\n"})
    lock = sources.pin(former)
    assert gamma_of(lock).commit == sources.gamma["commit"]
    assert gamma_of(lock).file.sha256 != gamma_of(former).file.sha256
    assert sources.built(lock) != before
    assert lock.source("other") == former.source("other")


@pytest.mark.parametrize("change", [{"include": ["setup.py", "csrc"]}, {"exclude": ["docs"]}])
def test_other_selection_moves_the_pin(sources: Sources, change: dict[str, list[str]]) -> None:
    former = sources.pin()
    sources.gamma |= change
    gamma = gamma_of(sources.pin(former))
    assert gamma.commit == gamma_of(former).commit
    assert gamma.file.sha256 != gamma_of(former).file.sha256


def test_same_tree_from_elsewhere_is_the_same_build(sources: Sources, tmp_path: Path) -> None:
    former = sources.pin()
    before = sources.built(former)
    shutil.copytree(tmp_path / "gamma.git", tmp_path / "fork.git")
    sources.gamma["git"] = (tmp_path / "fork.git").as_uri()
    lock = sources.pin(former)
    assert ("resolving sources", 2, "sources") in sources.asked
    assert sources.built(lock) == before


def test_other_commit_of_a_grafted_source_moves_the_build(sources: Sources, tmp_path: Path) -> None:
    sources.build = {"edits": PATCHED}
    former = sources.pin()
    before = sources.built(former)
    sources.other["commit"] = commit(tmp_path / "other.git", {"deeplab/a.py": b"a = 2\n"})
    lock = sources.pin(former)
    assert gamma_of(lock) == gamma_of(former)
    assert sources.built(lock) != before


def test_changed_patch_moves_its_pin_and_the_build_but_not_the_tree(sources: Sources) -> None:
    sources.build = {"edits": PATCHED}
    former = sources.pin()
    before = sources.built(former)
    sources.forget_repositories()
    (sources.folder / "patches/more.patch").write_text(PATCH.replace("more = 1", "more = 2"))
    lock = sources.pin(former)
    assert gamma_of(lock).patches != gamma_of(former).patches
    assert replace(gamma_of(lock), patches=()) == replace(gamma_of(former), patches=())
    assert sources.built(lock) != before


def test_changed_folder_moves_its_pin(sources: Sources) -> None:
    former = sources.pin()
    (sources.folder / "extension/delta.c").write_text("int other;\n")
    assert sources.pin(former).source("delta").file.sha256 != former.source("delta").file.sha256


# ---- branches and tags -------------------------------------------------------------------------------


@pytest.fixture
def moved(sources: Sources, tmp_path: Path) -> tuple[Lock, str]:
    """The lock of gamma's branch as it was, and the commit that has taken its place by force."""
    sources.gamma = {"git": sources.gamma["git"], "ref": "main"}
    former = sources.pin()
    return former, commit(tmp_path / "gamma.git", {**TREE, "csrc/a.c": b"int b;\n"})


def test_branch_is_pinned_by_the_commit_that_it_stands_for(sources: Sources) -> None:
    made = sources.gamma.pop("commit")
    sources.gamma["ref"] = "main"
    gamma = gamma_of(sources.pin())
    assert (gamma.ref, gamma.commit) == ("main", made)
    assert gamma.file.filename == f"gamma-{made[:12]}"


def test_branch_stays_where_it_was_pinned(sources: Sources, moved: tuple[Lock, str]) -> None:
    sources.forget_repositories()
    assert gamma_of(sources.pin(moved[0])) == gamma_of(moved[0])


def test_branch_stays_though_its_selection_changes(sources: Sources, moved: tuple[Lock, str]) -> None:
    sources.gamma["exclude"] = ["docs"]
    gamma = gamma_of(sources.pin(moved[0]))
    assert gamma.commit == gamma_of(moved[0]).commit
    assert gamma.file.sha256 != gamma_of(moved[0]).file.sha256


@pytest.mark.parametrize(
    "options",
    [
        {"upgrade": True},
        {"upgrade_packages": frozenset({"gamma"})},
        {"repin": frozenset({"gamma"})},
    ],
)
def test_branch_moves_when_it_may(
    sources: Sources, moved: tuple[Lock, str], options: dict[str, Any]
) -> None:
    former, new_commit = moved
    lock = sources.pin(former, **options)
    assert gamma_of(lock).commit == new_commit
    before, after = (gamma_of(one).commit or "" for one in (former, lock))
    assert f"gamma (source) main: {before[:12]} -> {after[:12]}" in _moved(former, lock)


def test_upgrade_of_another_leaves_a_branch(sources: Sources, moved: tuple[Lock, str]) -> None:
    lock = sources.pin(moved[0], upgrade_packages=frozenset({"alpha"}))
    assert gamma_of(lock) == gamma_of(moved[0])


def test_tag_that_was_put_elsewhere_is_noticed(sources: Sources, tmp_path: Path) -> None:
    repository = tmp_path / "gamma.git"
    first = sources.gamma.pop("commit")
    git(repository, "tag", "v2.0", first)
    sources.gamma["ref"] = "v2.0"
    former = sources.pin()
    git(repository, "tag", "--force", "v2.0", commit(repository, {"setup.py": b"other\n"}))
    assert gamma_of(sources.pin(former)).commit == first
    assert gamma_of(sources.pin(former, upgrade=True)).commit != first


def test_branch_that_did_not_move_is_not_taken_again(sources: Sources) -> None:
    sources.gamma = {"git": sources.gamma["git"], "ref": "main"}
    former = sources.pin()
    lock = sources.pin(former, upgrade=True)
    assert gamma_of(lock) == gamma_of(former)


def test_branch_out_of_reach_keeps_its_pin(sources: Sources, moved: tuple[Lock, str]) -> None:
    sources.forget_repositories()
    lock = sources.pin(moved[0], upgrade=True)
    assert gamma_of(lock) == gamma_of(moved[0])
    assert [part.label for part in sources.gaps.kept] == ["source gamma"]


def test_branch_of_another_repository_out_of_reach_is_open(
    sources: Sources, moved: tuple[Lock, str], tmp_path: Path
) -> None:
    sources.gamma["git"] = (tmp_path / "fork.git").as_uri()
    assert [part.label for part in sources.pin(moved[0]).open] == ["source gamma"]


def test_branch_that_is_not_there_is_an_error_with_names_near_it(sources: Sources) -> None:
    sources.gamma = {"git": sources.gamma["git"], "ref": "mian"}
    with pytest.raises(ResolveError, match="has no branch, tag or commit `mian`") as caught:
        sources.pin()
    assert "`main`" in (caught.value.hint or "")


def test_credentials_of_an_address_are_never_recorded(sources: Sources, tmp_path: Path) -> None:
    configure(
        tmp_path, f'[url "{sources.gamma["git"]}"]', "\tinsteadOf = https://code.example.org/gamma"
    )
    configure(
        tmp_path, '[url "http://me:hunter2@127.0.0.1:9/"]', "\tinsteadOf = https://other.example.org/"
    )
    sources.gamma["git"] = "https://code.example.org/gamma"
    sources.other["git"] = "https://other.example.org/other"
    lock = sources.pin()
    texts = lock_texts(lock, name="small", target=from_document(sources.document).target, wheels="w")
    assert [part.label for part in lock.open] == ["source other"]
    assert "hunter2" not in "".join(texts.values())
    assert "hunter2" not in "".join(line for lines in sources.gaps.causes.values() for line in lines)
    kept = [path for path in (sources.store.root / "git").rglob("*") if path.is_file()]
    assert not any(b"hunter2" in path.read_bytes() for path in kept)
