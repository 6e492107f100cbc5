"""A stack's page: what stands on it, and that nothing breaks its tables."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from lockbuild.assetlock import LockedArchive, LockedAsset
from lockbuild.description import TEMPLATE, describe
from lockbuild.digest import Sha256
from lockbuild.errors import ImageError
from lockbuild.lock import LockedFile, LockedSource, OpenPart
from lockbuild.stack import Stack, from_document
from tests.values import HOST, minimal_document, sha, small_lock, small_stack, stack_document

if TYPE_CHECKING:
    from collections.abc import Callable

    from lockbuild.lock import Lock

TEMPLATE_TEXT = (Path(__file__).parents[1] / "templates" / TEMPLATE).read_text(encoding="utf-8")
COMMIT = "0123456789" * 4


def document(**changes: Any) -> dict[str, Any]:
    """Return the small stack with a source, data of every class, edits and bounds."""
    gamma, delta = stack_document()["build"]
    edits = [
        {"file": "setup.py", "old": "14", "new": "17", "reason": "torch needs it"},
        {"patch": "patches/a.patch", "reason": "`load` moved"},
        {"graft": "app", "take": "a", "put": "b", "reason": "lacking"},
    ]
    python = {
        **stack_document()["python"],
        "overrides": [{"requirement": "opencv-python; python_version < '0'", "reason": "one OpenCV"}],
        "constraints": ["protobuf<3.21"],
    }
    return stack_document(
        python=python,
        build=[{**gamma, "edits": edits}, delta],
        source=[
            {
                "name": "app",
                "git": "https://git.example.org/app.git",
                "commit": COMMIT,
                "submodules": True,
                "path": "/workspace/app",
                "writable": True,
                "license": "LicenseRef-Research",
                "accept-license": "research | in our laboratory",
            }
        ],
        asset=[
            {
                "name": "weights.pth",
                "path": "/workspace/app/w.pth",
                "url": ["https://example.org/w.pth"],
                "sha256": "a" * 64,
                "license": "MIT",
            },
            {
                "name": "data",
                "path": "/workspace/data",
                "url": ["https://example.org/data.zip"],
                "sha256": "on-first-fetch",
                "members": {"x/a": "a", "x/b": "b"},
                "license": "MIT",
            },
            {
                "name": "lost",
                "path": "/workspace/lost",
                "url": ["https://example.org/lost"],
                "sha256": "on-first-fetch",
                "license": "MIT",
            },
            {
                "name": "smpl",
                "path": "/app/smpl",
                "policy": "mount",
                "holds": ["SMPL_*.pkl"],
                "license": "LicenseRef-SMPL",
                "why": "SMPL may not be passed on",
            },
        ],
        mount=[{"path": "/workspace/output", "optional": True, "why": "results"}],
        preflight={"gpu": "required", "imports": ["gamma"], "checks": ["import a\nassert a"]},
        **changes,
    )


def lock() -> Lock:
    small = small_lock()
    app = LockedSource(
        name="app",
        version="",
        index="",
        file=LockedFile(filename="app-012345678901", sha256=sha("app")),
        commit=COMMIT,
        submodules=(("vendored", "https://git.example.org/v", COMMIT[::-1]),),
    )
    assets = (
        LockedAsset(
            name="data",
            sha256=sha("tree"),
            size=5,
            archive=LockedArchive(sha256=Sha256("c" * 64), size=1_500_000),
        ),
        LockedAsset(name="lost", reason="https://example.org/lost: 404"),
        LockedAsset(name="weights.pth", sha256=Sha256("a" * 64), size=233_000_000),
    )
    return replace(small, sources=(*small.sources, app), assets=assets, digest=sha("lock"))


def page(stack: Stack | None = None) -> str:
    return describe(stack or from_document(document()), lock(), template=TEMPLATE_TEXT)


def test_page_is_the_golden_one(golden: Callable[[str, str], None]) -> None:
    golden("stack.md", page())


@pytest.mark.parametrize(
    "line",
    [
        "docker run --gpus all -v /path/to/smpl:/app/smpl lockbuild/small:latest",
        "| `-v /path/to/output:/workspace/output` | optional |",
        f"| weights.pth | bundled | `/workspace/app/w.pth` | 233.0 MB | `{'a' * 64}` | MIT |",
        f"| data | bundled | `/workspace/data`, 2 files | 5 B | `{'c' * 64}` (archive) | MIT |",
        "| lost | bundled | `/workspace/lost` | - | open | MIT |",
        "| smpl | must be mounted | `/app/smpl` | - | - | LicenseRef-SMPL |",
        "| output | may be mounted | `/workspace/output` | - | - | - |",
        "- `/app/smpl`: SMPL may not be passed on; it must hold `SMPL_*.pkl`",
        "- `/workspace/output` (optional): results",
        "- data: `/workspace/data/a`, `/workspace/data/b`",
        "| asset lost | https://example.org/lost: 404 |",
        "- text in `setup.py`: torch needs it",
        "- `b` from `a` of `app`: lacking",
        "| override | `opencv-python; python_version < '0'` | one OpenCV |",
        "| constraint | `protobuf<3.21` | - |",
        "| app | LicenseRef-Research | research \\| in our laboratory |",
        "| alpha | 1.2 | the default index |",
        "| beta | 0.9 | the index `extra` |",
        "| gamma | 2.0 | compiled |",
    ],
)
def test_page_says(line: str) -> None:
    assert line in page().splitlines()


def test_what_is_open_says_so_where_it_stands() -> None:
    stack = from_document(document())
    parts = (
        OpenPart(kind="apt", name="bookworm", reason="away"),
        OpenPart(kind="source", name="app", reason="away"),
        OpenPart(kind="wheel", name="beta", reason="away"),
    )
    full = lock()
    beta = replace(full.runtime[1], index="", urls=("https://example.org/beta.whl",))
    runtime = tuple(beta if package.name == "beta" else package for package in full.runtime)
    less = replace(full, sources=full.sources[:-1], debs=(), open=parts, runtime=runtime)
    lines = describe(stack, less, template=TEMPLATE_TEXT).splitlines()
    assert {"| apt bookworm | away |", "| runtime | open | - |"} <= set(lines)
    assert "| beta | 0.9 | a wheel that the stack pins, open |" in lines
    (app,) = (line for line in lines if line.startswith("| app | `/workspace/app`"))
    assert "`012345678901`, open |" in app


def test_source_by_branch_shows_the_commit_of_the_lock() -> None:
    stack = from_document(document())
    (app,) = stack.sources
    by_ref = replace(app, source=replace(app.source, commit=None, ref="main"))
    assert "`main` `012345678901` with" in page(replace(stack, sources=(by_ref,)))


def test_every_row_of_a_table_has_as_many_cells_as_its_head() -> None:
    width = 0
    for line in page().splitlines():
        cells = line.replace("\\|", "").count("|") if line.startswith("|") else 0
        assert not (width and cells) or cells == width, line
        width = cells


def test_sections_that_a_stack_has_not_are_left_out() -> None:
    text = describe(from_document(minimal_document()), small_lock(), template=TEMPLATE_TEXT)
    heads = [line for line in text.splitlines() if line.startswith("## ")]
    assert heads == ["## Build and run", "## Python packages", "## Debian packages"]
    assert "\n\n\n" not in text


def test_text_that_is_code_with_backticks_stays_code() -> None:
    text = page(replace(small_stack(), env=(("A", "`x`|y"),)))
    assert "| `A` | `` `x`\\|y `` |" in text.splitlines()


def test_wrong_template_is_named_with_its_line() -> None:
    with pytest.raises(ImageError, match=r"stack\.md\.j2:.*nothing_of_the_sort"):
        describe(small_stack(), small_lock(), template="\n{{ nothing_of_the_sort }}\n")


def test_machine_s_python_is_named_by_its_bytes_and_else_open() -> None:
    stack = from_document({**document(), "interpreter": {"host": "python3.11"}})
    known = describe(stack, replace(lock(), interpreter=HOST), template=TEMPLATE_TEXT)
    assert (
        f"`python3.11` of the machine that resolves: `{HOST.file.filename}`, sha256 `{HOST.file.sha256}`"
        in known
    )
    assert "`python3.11` of the machine that resolves, open" in page(stack)
