"""The program that imports modules in the image's Python, run by the Python of the tests."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

from lockbuild import gate

PROGRAM = Path(gate.__file__).with_name("probe.py")


@pytest.fixture
def modules(tmp_path: Path) -> Path:
    folder = tmp_path / "place"
    folder.mkdir()
    texts = {
        "good": "",
        "bad": "raise RuntimeError('not here')",
        "deadly": "import os; os._exit(3)",
        "killed": "import os, signal; os.kill(os.getpid(), signal.SIGKILL)",
        "loud": "print('[1, 2')",
        "leaving": "raise SystemExit(0)",
        "hiding": "try:\n    import nowhere\nexcept ImportError as error:\n    raise ImportError('broken') from error",
        "printing": (
            "import sys\ntry:\n    import nowhere\nexcept ImportError as error:\n    sys.last_value = error\n"
            "raise ImportError('less')"
        ),
        "wants_first": "import sys; assert 'good' in sys.modules",
    }
    for name, text in texts.items():
        (folder / f"{name}.py").write_text(text)
    return folder


def faults(folder: Path, *modules: str, first: tuple[str, ...] = ()) -> list[list[str]]:
    return probe((folder,), folder.parent / "site", *modules, first=first)


def probe(
    places: tuple[Path, ...], site: Path, *modules: str, first: tuple[str, ...] = ()
) -> list[list[str]]:
    report = site.with_name("report.json")
    lists = (json.dumps([str(place) for place in places]), json.dumps(first), json.dumps(modules))
    command = [sys.executable, str(PROGRAM), str(report), str(site), *lists]
    subprocess.run(command, check=True, env={"PYTHONPATH": str(site)}, capture_output=True)
    found: list[list[str]] = json.loads(report.read_text())
    return found


def test_modules_that_import_are_not_named(modules: Path) -> None:
    assert faults(modules, "good", "loud") == []


def test_a_fault_is_told_as_python_tells_it(modules: Path) -> None:
    assert faults(modules, "bad", "good", "nowhere") == [
        ["bad", "RuntimeError: not here"],
        ["nowhere", "ModuleNotFoundError: No module named 'nowhere'"],
    ]


def test_a_fault_is_told_with_what_it_hides(modules: Path) -> None:
    absent = "ModuleNotFoundError: No module named 'nowhere'"
    assert faults(modules, "hiding", "printing", "bad") == [
        ["hiding", f"ImportError: broken; behind it: {absent}"],
        ["printing", f"ImportError: less; behind it: {absent}"],
        ["bad", "RuntimeError: not here"],
    ]


def test_a_module_that_leaves_does_not_hide_the_others(modules: Path) -> None:
    assert faults(modules, "deadly", "bad", "killed", "leaving", "good") == [
        ["deadly", "ended Python with exit code 3"],
        ["bad", "RuntimeError: not here"],
        ["killed", "ended Python with signal 9"],
        ["leaving", "SystemExit: 0"],
    ]


def test_what_comes_first_is_there_for_all(modules: Path) -> None:
    assert faults(modules, "wants_first", "deadly", "wants_first", first=("good",)) == [
        ["deadly", "ended Python with exit code 3"]
    ]


@pytest.mark.parametrize(
    ("first", "fault"),
    [("bad", "RuntimeError: not here"), ("deadly", "ended Python with exit code 3")],
)
def test_what_comes_first_and_fails_is_what_is_told(modules: Path, first: str, fault: str) -> None:
    assert faults(modules, "good", "bad", first=(first,)) == [[first, fault]]


def test_what_lies_in_another_place_is_found_beside_the_own_folder(tmp_path: Path) -> None:
    one, other, whole = (tmp_path / name for name in ("one", "other", "whole"))
    for file in (other / "beta/lib/data", whole / "gamma/lib/data", one / "alpha/deep/data"):
        file.parent.mkdir(parents=True)
        file.touch()
    # As the dynamic linker looks for `$ORIGIN/../beta/lib`.
    looks = "for name in ('beta', 'gamma'): open(f'{os.path.dirname(__file__)}/../{name}/lib/data')"
    (one / "alpha/it.py").write_text(f"import os\n{looks}\n")
    assert probe((one, other, whole), tmp_path / "site", "alpha.it") == []
    assert (tmp_path / "site/gamma").is_symlink(), "what everything else is in is not taken apart"


def test_what_lies_in_several_places_is_found_side_by_side(tmp_path: Path) -> None:
    one, other = tmp_path / "one", tmp_path / "other"
    for place, module in ((one, "here"), (other, "there")):
        (place / "shared").mkdir(parents=True)
        (place / "shared" / f"{module}.py").write_text("from pathlib import Path")
    beside = "assert (Path(__file__).parent / 'there.py').exists()"
    (one / "shared" / "here.py").write_text(f"from pathlib import Path; {beside}")
    assert probe((one, other), tmp_path / "site", "shared.here", "shared.there") == []
