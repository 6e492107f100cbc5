"""Sources in an image that a real engine has built: their files, whose they are, and in which layers."""

from __future__ import annotations

import json
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import pytest

from lockbuild.digest import sha256_of
from lockbuild.errors import ImageError
from lockbuild.image.archive import Reading, read_saved
from lockbuild.image.building import build
from lockbuild.image.containers import run
from lockbuild.image.layers import final
from lockbuild.placing import SourceTree
from lockbuild.plan import EPOCH
from lockbuild.stack import Image, NamedSource, Source
from lockbuild.store.trees import listing
from tests.test_dockerfile import STACK
from tests.test_image import engine, installer, make_context, rootfs  # noqa: F401 - fixtures
from tests.test_image_assets import asset, declared

if TYPE_CHECKING:
    from pathlib import Path

    from lockbuild.image import Engine, ImageFacts

# Below a symbolic link of the base: /lib leads to /usr/lib.
LINKED = "/lib/linked"
TALKING = "/workspace/Talking"
WEIGHTS = f"{TALKING}/checkpoints/w.pth"


@dataclass(frozen=True, slots=True, kw_only=True)
class Made:
    """An image with sources, and its context."""

    context: Path
    facts: ImageFacts


def tree_of(folder: Path, path: str, content: str) -> SourceTree:
    """Write a tree and return it as the source that goes to *path*."""
    (folder / "data/empty").mkdir(parents=True)
    (folder / "main.py").write_text(content)
    (folder / "run me.sh").write_text("#!/bin/sh\nexec python3 main.py\n")
    (folder / "run me.sh").chmod(0o555)
    (folder / "link").symlink_to("main.py")
    return SourceTree(name=folder.name, path=path, entries=listing(folder), origin=folder)


def context_of(folder: Path, rootfs: Path, installer: Path, content: str = "print('hello')\n") -> Path:
    folder.mkdir()
    trees = (
        tree_of(folder.parent / "trees/Talking", TALKING, content),
        tree_of(folder.parent / "trees/plain", LINKED, content),
    )
    sources = tuple(
        NamedSource(
            name=tree.name,
            source=Source(git="https://example.org", commit="c" * 40),
            path=tree.path,
            writable=tree.path == TALKING,
        )
        for tree in trees
    )
    weights = asset(folder, "weights", {"": (WEIGHTS, b"weights")})
    stack = replace(
        STACK,
        sources=sources,
        assets=declared(weights),
        image=Image(workdir=f"{TALKING}/output"),
    )
    make_context(folder, stack, rootfs, installer, assets=(weights,), sources=trees)
    return folder


@pytest.fixture(scope="module")
def made(
    engine: Engine, rootfs: Path, installer: Path, tmp_path_factory: pytest.TempPathFactory
) -> Made:
    folder = tmp_path_factory.mktemp("sources")
    context = context_of(folder / "context", rootfs, installer)
    return Made(
        context=context,
        facts=build(context, tag="sources:1", engine=engine, log=folder / "log", epoch=EPOCH),
    )


LOOK = """
import json, os
def one(path):
    s = os.lstat(path)
    return [oct(s.st_mode), s.st_uid, s.st_gid, s.st_mtime]
found = {}
for top in (TOPS):
    for folder, folders, files in os.walk(top):
        for path in (folder, *(os.path.join(folder, name) for name in files)):
            found[path] = one(path)
print(json.dumps(found))
"""


@pytest.fixture(scope="module")
def found(made: Made, engine: Engine) -> dict[str, list[Any]]:
    """Return mode, owner, group and time of everything below the sources and beside."""
    program = LOOK.replace("TOPS", repr(("/workspace", LINKED)))
    ended = run(made.facts.id, ["--preflight-skip", "python3", "-c", program], engine=engine)
    assert (ended.returncode, ended.stderr) == (0, "")
    read: dict[str, list[Any]] = json.loads(ended.stdout)
    return read


def test_a_source_is_roots_and_everybody_can_read_it(found: dict[str, list[Any]]) -> None:
    below = {path: facts for path, facts in found.items() if path.startswith(LINKED)}
    assert below == {
        LINKED: ["0o40755", 0, 0, EPOCH],
        f"{LINKED}/data": ["0o40755", 0, 0, EPOCH],
        f"{LINKED}/data/empty": ["0o40755", 0, 0, EPOCH],
        f"{LINKED}/link": ["0o120777", 0, 0, EPOCH],
        f"{LINKED}/main.py": ["0o100644", 0, 0, EPOCH],
        f"{LINKED}/run me.sh": ["0o100755", 0, 0, EPOCH],
    }


def test_a_writable_source_is_the_user_s_but_for_its_weights(found: dict[str, list[Any]]) -> None:
    owners = {path: facts[1] for path, facts in found.items() if path.startswith("/workspace")}
    assert owners == {
        "/workspace": 0,
        TALKING: 1000,
        f"{TALKING}/checkpoints": 1000,
        f"{TALKING}/checkpoints/w.pth": 0,
        f"{TALKING}/data": 1000,
        f"{TALKING}/data/empty": 1000,
        f"{TALKING}/link": 1000,
        f"{TALKING}/main.py": 1000,
        f"{TALKING}/output": 1000,
        f"{TALKING}/run me.sh": 1000,
    }


def test_a_program_of_a_source_runs_as_the_image_s_user(made: Made, engine: Engine) -> None:
    command = ["--preflight-skip", "sh", "-c", "cd .. && './run me.sh' > data/said && cat data/said"]
    ended = run(made.facts.id, command, engine=engine)
    assert (ended.returncode, ended.stdout) == (0, "hello\n")


def test_files_of_a_source_are_read_without_running_anything(made: Made, engine: Engine) -> None:
    image = read_saved(made.facts.id, Reading(), engine=engine)
    files = {f"/{path}": one.file for path, one in final([one.content for one in image.layers]).items()}
    # As a program sees it: through the link of the base.
    place = f"/usr{LINKED}/"
    found = {p: file for p, file in files.items() if p.startswith(place) and file.kind != "folder"}
    assert found[f"{place}main.py"].content == sha256_of(b"print('hello')\n")
    assert found[f"{place}link"].content == "main.py"
    assert set(found) == {f"{place}{name}" for name in ("link", "main.py", "run me.sh")}


def test_a_second_build_gives_the_same_layers(made: Made, engine: Engine, tmp_path: Path) -> None:
    again = build(
        made.context, tag="sources:2", engine=engine, log=tmp_path / "log", epoch=EPOCH, cache=False
    )
    assert again.id == made.facts.id


def test_another_source_changes_a_layer_of_its_own(
    made: Made, engine: Engine, rootfs: Path, installer: Path, tmp_path: Path
) -> None:
    context = context_of(tmp_path / "context", rootfs, installer, content="print('other')\n")
    other = build(context, tag="sources:3", engine=engine, log=tmp_path / "log", epoch=EPOCH)
    changed = [one == two for one, two in zip(other.layers, made.facts.layers, strict=True)]
    # The root file system, the asset, two sources, the environment; the preflight, whose data is the same.
    assert changed[:5] == [True, True, False, False, True]


def test_a_source_in_place_of_a_folder_of_the_base_is_refused(
    engine: Engine, rootfs: Path, installer: Path, tmp_path: Path
) -> None:
    context = tmp_path / "context"
    context.mkdir()
    tree = tree_of(tmp_path / "etc", "/etc", "")
    source = NamedSource(name="etc", source=Source(path="etc"), path="/etc")
    stack = replace(STACK, sources=(source,))
    make_context(context, stack, rootfs, installer, sources=(tree,))
    with pytest.raises(ImageError) as caught:
        build(context, tag="sources:4", engine=engine, log=tmp_path / "log", epoch=EPOCH)
    assert "the base has /etc already: give the source another path" in "\n".join(caught.value.details)
