"""`lockbuild diff` on the small stack in a git repository: what it says, and that a build then does just that."""

from __future__ import annotations

import tomllib
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import pytest

from lockbuild.digest import sha256_of
from lockbuild.documents import toml_text
from lockbuild.folders import STACK_FILE
from lockbuild.imagelock import LockedImage
from lockbuild.lock import LockedFile, OpenPart
from tests.advisories import CRITICAL, about, record, write_folder
from tests.needs import need
from tests.repositories import git
from tests.test_cli import builder, run, world
from tests.values import deb, package, sha
from tests.wheels import make_wheel

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from lockbuild.lock import Lock
    from tests.test_cli import Run
    from tests.worlds import World

    Edit = Callable[[World], Lock | None]
    """Changes files of a stack, and gives the lock that resolving would, where another."""

__all__ = ["builder", "run", "world"]

EDIT = {"file": "setup.py", "old": "14", "new": "17", "reason": "why"}


@pytest.fixture(autouse=True)
def repository(world: World, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Put the small stack under version control, its build `gamma` shared with others."""
    need("git")
    for name, value in {
        "GIT_CONFIG_GLOBAL": "/dev/null",
        "GIT_CONFIG_NOSYSTEM": "1",
        **{f"GIT_{who}_NAME": "Nobody" for who in ("AUTHOR", "COMMITTER")},
        **{f"GIT_{who}_EMAIL": "nobody@example.org" for who in ("AUTHOR", "COMMITTER")},
    }.items():
        monkeypatch.setenv(name, value)
    document = tomllib.loads(world.folder.read_stack_text())
    share(world, document["build"][0])
    document["build"][0] = {"include": "gamma"}
    write(world, document)
    world.relock(world.lock)
    git(tmp_path, "init", "--quiet")
    commit(world)
    return tmp_path


def share(world: World, table: dict[str, Any]) -> None:
    file = world.folder.path.parent / "_builds" / "gamma.toml"
    file.parent.mkdir(exist_ok=True)
    file.write_text(toml_text(table))


def write(world: World, document: dict[str, Any]) -> None:
    (world.folder.path / STACK_FILE).write_text(toml_text(document), encoding="utf-8")


def commit(world: World) -> None:
    top = world.folder.path.parent.parent
    git(top, "add", "stacks")
    git(top, "commit", "--quiet", "--allow-empty", "--message", "a commit")


def said(change: Callable[[dict[str, Any]], object]) -> Edit:
    """Return an edit of the stack file."""

    def edit(world: World) -> None:
        document = tomllib.loads(world.folder.read_stack_text())
        change(document)
        write(world, document)

    return edit


def shared(change: Callable[[dict[str, Any]], object]) -> Edit:
    """Return an edit of the build that stacks share."""

    def edit(world: World) -> None:
        table = tomllib.loads((world.folder.path.parent / "_builds" / "gamma.toml").read_text())
        change(table)
        share(world, table)

    return edit


def file(path: str, text: str) -> Edit:
    """Return an edit of a file beside the stack file, which is in the archive of a build's source."""

    def edit(world: World) -> Lock:
        (world.folder.path / path).write_text(text)
        delta = world.lock.source("delta")
        moved = replace(delta, file=replace(delta.file, sha256=sha(text)))
        return replace(world.lock, sources=(*(s for s in world.lock.sources if s != delta), moved))

    return edit


def requirement(world: World) -> Lock:
    """Ask for a later beta, which alpha requires."""
    said(lambda document: document["python"].update(requires=["alpha>=1", "beta>=1.1"]))(world)
    lock = world.lock
    later = package("beta", "1.1", index="extra")

    def moved(packages: tuple[Any, ...]) -> tuple[Any, ...]:
        return tuple(later if one.name == "beta" else one for one in packages)

    build = tuple((name, moved(found)) for name, found in lock.build)
    return replace(lock, runtime=moved(lock.runtime), build=build)


def runtime_requirement(world: World) -> Lock:
    """Ask for a package that no build needs."""
    said(lambda document: document["python"].update(requires=["alpha>=1", "zeta"]))(world)
    return replace(world.lock, runtime=(*world.lock.runtime, package("zeta", requested=True)))


def compiler(world: World) -> Lock:
    """Compile with another compiler, which is a package of its own."""
    said(lambda document: document.update(toolchain={"compiler": "g++-11"}))(world)
    return replace(
        world.lock, debs=tuple(sorted((*world.lock.debs, deb("g++-11", "toolchain")), key=str))
    )


def label(world: World) -> Lock:
    """Label a wheel."""
    shared(lambda table: table.update(label="ours"))(world)
    lock = world.lock
    runtime = tuple(replace(p, version="2.0+ours") if p.name == "gamma" else p for p in lock.runtime)
    return replace(lock, runtime=runtime)


def opened(world: World) -> Lock:
    """Lose a source that nobody can reach any more."""
    shared(lambda table: table.update(version="3.0", source={"sdist": "gamma==3.0"}))(world)
    lock = world.lock
    part = OpenPart(kind="source", name="gamma", reason="no answer")
    sources = tuple(source for source in lock.sources if source.name != "gamma")
    return replace(lock, sources=sources, open=(part,))


def comment(world: World) -> None:
    """Write a comment."""
    path = world.folder.path / STACK_FILE
    path.write_text(f"# why\n{path.read_text()}")


def policy(document: dict[str, Any]) -> None:
    levels = {"moving-ref": {"level": "error", "reason": "we ship this"}}
    document["audit"] = {"levels": levels}


def patched(world: World) -> Lock:
    """Edit a source by a patch that lies beside the stack file."""
    (world.folder.path / "fix.patch").write_text("--- a/x\n+++ b/x\n@@ -1 +1 @@\n-1\n+2\n")
    said(lambda document: document["build"][0].update(edits=[{"patch": "fix.patch", "reason": "r"}]))(
        world
    )
    data = (world.folder.path / "fix.patch").read_bytes()
    gamma = world.lock.source("gamma")
    locked = LockedFile(filename="0-fix.patch", sha256=sha256_of(data), size=len(data))
    found = replace(gamma, patches=(("fix.patch", locked),))
    return replace(world.lock, sources=(*(s for s in world.lock.sources if s != gamma), found))


def names(*builds: str) -> frozenset[str]:
    return frozenset(builds)


GAMMA = names("gamma-2.0", "gamma-2.0-stamped")
DELTA = names("delta-0.1", "delta-0.1-stamped")
EVERYTHING = GAMMA | DELTA | {"environment"}
EDITS: dict[str, tuple[Edit, frozenset[str]]] = {
    "variable of one build": (said(lambda d: d["build"][1].update(env={"NEW": "1"})), DELTA),
    "shared build": (shared(lambda table: table["env"].update(FORCE_CUDA="0")), EVERYTHING),
    "edit of a shared build": (
        shared(lambda table: table.update(edits=[EDIT])),
        EVERYTHING | {"gamma-source"},
    ),
    "patch": (patched, EVERYTHING | {"gamma-source"}),
    "requirement of what is compiled against": (requirement, EVERYTHING),
    "requirement of nothing that is built": (runtime_requirement, names()),
    "compiler": (compiler, EVERYTHING | {"bookworm-toolchain"}),
    "architectures": (
        said(lambda d: d["target"].update({"cuda-architectures": ["9.0"]})),
        EVERYTHING,
    ),
    "file of a source": (file("extension/delta.c", "int delta = 2;\n"), DELTA),
    "label alone": (label, names("gamma-2.0+ours-stamped")),
    "address of an index alone": (
        said(lambda d: d["python"]["index"][0].update(url="http://127.0.0.1:9/")),
        names("gamma-2.0-stamped", "delta-0.1-stamped"),
    ),
    "variable of the image alone": (said(lambda d: d["env"].update(OMP_NUM_THREADS="2")), names()),
    "audit policy alone": (said(policy), names()),
    "comment alone": (comment, names()),
    "build taken out": (said(lambda d: d["build"].pop(1)), names()),
    "open source": (opened, names()),
}


def kinds(paths: list[str]) -> frozenset[str]:
    """Return the names of builds; of environments, which are called after what is in them, that they are some."""
    found = (path.partition("-")[2] for path in paths)
    return frozenset("environment" if name.startswith("environment-") else name for name in found)


@pytest.mark.parametrize(("edit", "expected"), EDITS.values(), ids=EDITS)
def test_diff_says_exactly_what_a_build_then_does(
    world: World, run: Run, edit: Edit, expected: frozenset[str]
) -> None:
    assert run("build", "small").code == 0
    world.relock(edit(world) or world.lock)
    commit(world)
    found = run("diff", "--stack", "small", "HEAD~1", "HEAD", "--json").json
    dry = run("build", "small", "--dry-run", "--json").json
    assert found["build"] == dry["build"]
    assert found["fetch"] == dry["fetch"]
    assert found["blocked"] == dry["blocked"]
    assert kinds(found["build"]) == expected


def alone(world: World) -> Lock:
    """Build nothing at all."""
    said(lambda document: document.update(build=[], preflight={}))(world)
    lock = world.lock
    runtime = tuple(one for one in lock.runtime if one.wheel)
    return replace(lock, runtime=runtime, build=lock.build[:1], sources=())


@pytest.mark.parametrize("first", [alone, opened], ids=["builds nothing", "is open"])
def test_what_the_former_never_needed_is_built_now(world: World, run: Run, first: Edit) -> None:
    whole, stack = world.lock, world.folder.read_stack_text()
    table = tomllib.loads((world.folder.path.parent / "_builds" / "gamma.toml").read_text())
    world.relock(first(world) or whole)
    commit(world)
    run("build", "small", "--keep-going")
    (world.folder.path / STACK_FILE).write_text(stack)
    share(world, table)
    world.relock(whole)
    # What is not committed counts, too.
    found = run("diff", "--stack", "small", "HEAD", "--json").json
    dry = run("build", "small", "--dry-run", "--json").json
    assert found["build"] == dry["build"]
    assert found["fetch"] == dry["fetch"]
    assert "gamma-2.0" in kinds(found["build"])


# ---- how sides are named ---------------------------------------------------------------------------


@pytest.fixture
def moved(world: World) -> World:
    """Commit another variable of the build `delta`."""
    said(lambda document: document["build"][1].update(env={"NEW": "1"}))(world)
    world.relock(world.lock)
    commit(world)
    return world


FORWARD = [
    ("--stack", "small", "HEAD~1", "HEAD"),
    ("--stack", "stacks/small", "HEAD~1"),
    ("HEAD~1:stacks/small", "HEAD:stacks/small"),
    ("HEAD~1:small", "small"),
    ("HEAD~1", "small"),
    ("HEAD~1", "stacks/small/lockbuild.lock"),
    ("HEAD~1:stacks/small/stack.toml", "HEAD"),
    ("HEAD^{/a commit}~1:stacks/small", "small"),
]


@pytest.mark.parametrize("words", FORWARD, ids=" ".join)
@pytest.mark.usefixtures("moved")
def test_sides_are_stacks_locks_and_revisions(run: Run, words: tuple[str, ...]) -> None:
    ended = run("diff", *words)
    assert ended.code == 0, ended.err
    lines = ended.out.splitlines()
    assert "  added        NEW (build delta)  1" in lines
    assert "Built again: 1 build" in lines
    assert lines[lines.index("Built again: 1 build") + 1 :] == ["  env NEW: now 1", "    delta-0.1"]


@pytest.mark.usefixtures("moved")
def test_a_revision_behind_a_stack_is_the_later_side(run: Run) -> None:
    assert "  removed      NEW (build delta)  1" in run("diff", "small", "HEAD~1").out.splitlines()


def test_a_stack_alone_is_compared_with_what_is_committed(world: World, run: Run) -> None:
    assert "the locks are the same" in run("diff", "small").out
    said(lambda document: document["build"][1].update(env={"NEW": "1"}))(world)
    world.relock(world.lock)
    assert "  added        NEW (build delta)  1" in run("diff", "small").out.splitlines()


def test_a_stack_that_only_a_revision_has(world: World, run: Run) -> None:
    top = world.folder.path.parent.parent
    git(top, "mv", "stacks/small", "stacks/other")
    git(top, "commit", "--quiet", "--message", "another name")
    assert "the locks are the same" in run("diff", "HEAD~1:stacks/small", "other").out


def test_a_lock_that_stands_alone_is_compared(world: World, run: Run, tmp_path: Path) -> None:
    alone_, given = tmp_path / "alone", world.folder.path
    alone_.mkdir()
    for path in (*given.glob("*lock*"), given / "requirements.txt"):
        (alone_ / path.name).write_bytes(path.read_bytes())
    found = run("diff", "alone/lockbuild.lock", "small", "--json").json
    assert found["build"] is None
    assert found["from"]["no-plan"] == ["there is no stack.toml beside lockbuild.lock"]
    # What the stack file says, and no lock, is on one side alone, and nobody knows what the other said.
    assert (found["changes"], found["no-stack"]) == ([], ["alone"])
    assert found["size"]["download"]["from"] == found["size"]["download"]["to"]
    lines = run("diff", "alone/lockbuild.lock", "small").out.splitlines()
    assert lines[1:3] == [
        "the locks are the same",
        "what only stack files say is not compared: there is none to be read of alone",
    ]


@pytest.mark.parametrize("words", [("HEAD", "small"), ("small", "HEAD")], ids=" ".join)
def test_a_stack_file_that_cannot_be_read_removes_nothing(
    world: World, run: Run, words: tuple[str, str]
) -> None:
    with (world.folder.path / STACK_FILE).open("ab") as stream:
        stream.write(b"\xff")
    out = run("diff", *words).out
    assert "removed" not in out
    assert "added" not in out
    assert out.count("what only stack files say is not compared") == 1
    assert run("diff", "HEAD", "HEAD:stacks/small", "--json").json["no-stack"] == []


def test_settings_of_the_image_are_told(world: World, run: Run) -> None:
    said(lambda document: document.update(image={"user": "root"}))(world)
    world.relock(world.lock)
    assert "  changed      image.user  lockbuild -> root" in run("diff", "small").out.splitlines()
    (change,) = run("diff", "small", "--json").json["changes"]
    assert (change["kind"], change["from"], change["to"]) == ("image", "lockbuild", "root")


def test_work_tree_and_index_are_left_alone(moved: World, run: Run) -> None:
    top = moved.folder.path.parent.parent
    (moved.folder.path / STACK_FILE).write_text("not TOML =")
    (top / "stacks" / "new").write_text("")
    git(top, "add", "stacks/new")
    index, before = (top / ".git" / "index").read_bytes(), git(top, "status", "--porcelain")
    assert run("diff", "--stack", "small", "HEAD~1", "HEAD").code == 0
    assert (top / ".git" / "index").read_bytes() == index
    assert git(top, "status", "--porcelain") == before


@pytest.mark.usefixtures("moved")
def test_comparing_makes_no_store(run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LOCKBUILD_STORE", str(tmp_path / "none"))
    assert run("diff", "HEAD~1", "small").code == 0
    assert not (tmp_path / "none").exists()


def test_what_took_long_is_told(moved: World, run: Run) -> None:
    moved.store.history.took("delta-0.1", 3725)
    out = run("diff", "HEAD~1", "small").out
    assert "Built again: 1 build, about 1 h 2 min one after another" in out
    assert "    delta-0.1  (1 h 2 min)" in out.splitlines()


# ---- what cannot be compared -----------------------------------------------------------------------


def test_a_stale_lock_is_compared_and_not_planned(moved: World, run: Run) -> None:
    said(lambda document: document["build"][1].update(env={"NEW": "2"}))(moved)
    out = run("diff", "small").out
    assert "  stacks/small: `build.delta.env.NEW` was changed" in out.splitlines()
    assert "Built again: nobody can say" in out


def test_a_stack_file_of_another_lockbuild_is_compared_and_not_planned(moved: World, run: Run) -> None:
    said(lambda document: document.update(unheard="of"))(moved)
    moved.relock(moved.lock)
    commit(moved)
    ended = run("diff", "--stack", "small", "HEAD~1", "HEAD")
    assert ended.code == 0
    assert "HEAD:stacks/small/stack.toml: 1 fault" in ended.out


@pytest.mark.parametrize(
    ("words", "message", "hint"),
    [
        (("small", "gone"), "`gone` is no stack, no lock file and no revision", None),
        (("small", "smal"), "`smal` is no stack, no lock file and no revision", "did you mean `small`?"),
        (("smal",), "`smal` is no stack and no lock file", "did you mean `small`?"),
        (("HEAD~1", "HEAD"), "`HEAD~1` is no stack and no lock file", "--stack STACK HEAD~1 HEAD"),
        (("HEAD:smal", "small"), "has no stack at `smal`", "did you mean `HEAD:stacks/small`?"),
        (("gone:small", "small"), "`gone` is no stack, no lock file and no revision", None),
        (("a", "b", "c"), "found 3 sides, expected two", "lockbuild diff"),
    ],
    ids=str,
)
@pytest.mark.usefixtures("moved")
def test_what_there_is_not_is_refused(
    run: Run, words: tuple[str, ...], message: str, hint: str | None
) -> None:
    ended = run("diff", *words)
    assert ended.code == 2
    assert message in ended.err
    assert hint is None or hint in ended.err


def test_a_revision_needs_a_repository(run: Run, tmp_path: Path) -> None:
    (tmp_path / ".git").rename(tmp_path / "elsewhere")
    ended = run("diff", "HEAD", "small")
    assert ended.code == 2
    assert "is in no git repository" in ended.err


def test_a_revision_without_a_lock_is_told(world: World, run: Run) -> None:
    git(world.folder.path, "rm", "--quiet", "--cached", "lockbuild.lock")
    git(world.folder.path, "commit", "--quiet", "--message", "no lock")
    ended = run("diff", "HEAD", "small")
    assert ended.code == 3
    assert "HEAD:stacks/small: there is no lockbuild.lock" in ended.err


# ---- what the store and a database know ------------------------------------------------------------


def test_vulnerabilities_are_gained_and_lost(world: World, run: Run, tmp_path: Path) -> None:
    records = (
        record("PYSEC-1", about("beta", ("introduced", "0"), ("fixed", "1.0"))),
        record("GHSA-1", about("beta", ("introduced", "1.0")), severity=[CRITICAL]),
        record("PYSEC-2", about("alpha", ("introduced", "0"))),
    )
    export = write_folder(tmp_path / "osv", *records)
    world.relock(requirement(world))
    found = run("diff", "small", "--osv", str(export), "--json").json["vulnerabilities"]
    assert [(one["id"], one["package"], one["version"]) for one in found["gained"]] == [
        ("GHSA-1", "beta", "1.1")
    ]
    assert [(one["id"], one["fixed"]) for one in found["lost"]] == [("PYSEC-1", ["1.0"])]
    out = run("diff", "small", "--osv", str(export)).out
    assert "  gained       beta 1.1: GHSA-1, critical 9.8" in out.splitlines()
    assert "  1 on both sides" in out.splitlines()
    # Nobody is to take for safe what was not looked up.
    assert "  not looked up: Debian: the database has no record of it" in out.splitlines()


def test_licences_are_told_of_what_the_store_has(world: World, run: Run) -> None:
    make_wheel(world.files, "zeta", "1.0", metadata=["License-Expression: AGPL-3.0-only"])
    data = (world.files / "zeta-1.0-py3-none-any.whl").read_bytes()
    lock = runtime_requirement(world)
    zeta = lock.runtime[-1]
    assert zeta.wheel
    wheel = replace(zeta.wheel, sha256=sha256_of(data), size=len(data))
    world.relock(replace(lock, runtime=(*lock.runtime[:-1], replace(zeta, wheel=wheel))))
    assert run("diff", "small", "--json").json["licences"]["unknown"] == {"from": 7, "to": 8}
    run("build", "small")
    assert "  gained       AGPL-3.0-only: zeta" in run("diff", "small").out.splitlines()


def test_everything_else_is_said(world: World, run: Run) -> None:
    world.store.history.took("gamma-2.0", 61)
    world.store.history.took("bookworm-runtime", 5)
    lock = compiler(world)
    beta = tuple(
        package("beta", "0.9.1", index="extra") if p.name == "beta" else p for p in lock.runtime
    )
    world.relock(replace(lock, runtime=beta, debs=(*lock.debs, deb("libgl1", "runtime"))))
    lines = run("diff", "small").out.splitlines()
    assert "Python packages: 1 up" in lines
    assert "  up           beta  0.9 -> 0.9.1  (+3.1 kB)" in lines
    assert "  added        libgl1  1.0-1  (600 B)" in lines
    assert "Toolchain: 2 added" in lines
    assert (
        "Built again: 5 builds, about 1 min 1 s one after another, and 4 builds of which nobody knows how long"
        in lines
    )
    assert "  package g++-11: now 1.0-1" in lines
    # What is changed is said once, above what needs it.
    assert lines.count("  package g++-11: now 1.0-1") == 1
    first, later = lines.index("    bookworm-toolchain"), lines.index("  env CC: now gcc-11")
    assert lines[first - 1] == "  package g++-11: now 1.0-1"
    assert lines[later + 1] == "  env CXX: now g++-11"
    gamma = "    gamma-2.0  (1 min 1 s; needs bookworm-toolchain, environment-"
    assert any(line.startswith(gamma) for line in lines[later + 2 : later + 4])
    assert "    bookworm-runtime  (5 s)" in lines
    assert any(line.endswith("of the gate  (needs bookworm-runtime)") for line in lines)
    assert "Fetched for the image: 1 file, 600 B" in lines


def test_labels_and_what_waits_are_said_apart(world: World, run: Run) -> None:
    world.relock(label(world))
    lines = run("diff", "small").out.splitlines()
    start = lines.index("Labelled or recorded anew, and compiled as they were:")
    assert lines[start + 1] == "  gamma-2.0+ours: version: 2.0 -> 2.0+ours"
    assert "Built again: nothing" in lines
    world.relock(opened(world))
    assert "waits: gamma: source gamma" in run("diff", "small").out.splitlines()


def test_what_a_base_image_holds_may_not_be_looked_up(world: World, run: Run, tmp_path: Path) -> None:
    export = write_folder(tmp_path / "osv", record("PYSEC-1", about("beta", ("introduced", "0"))))
    reference = "docker.io/library/debian:12"
    said(
        lambda d: d.update(
            base={"toolchain": reference, "runtime": reference}, interpreter={"image": "python3"}, apt={}
        )
    )(world)
    images = tuple(LockedImage(root=root, reference=reference) for root in ("runtime", "toolchain"))
    parts = tuple(OpenPart(kind="base", name=one.root, reason="no answer") for one in images)
    world.relock(replace(world.lock, debs=(), images=images, open=parts))
    out = run("diff", "small", "--osv", str(export)).out
    assert f"  not looked up: what {reference} holds: it is not in the store" in out.splitlines()
