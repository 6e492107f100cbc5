"""Programs that a stack brings along: they run in its image, and here just as well."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

PROJECT = Path(__file__).resolve().parent.parent
COMPLETE = PROJECT / "stacks/talkinggaussian-preprocess/tools/complete.py"
ONCE = ("track_params.pt", "bc.jpg", "aud_ds.npy", "au.csv")
EACH = ("ori_imgs/{}.jpg", "ori_imgs/{}.lms", "parsing/{}.png", "gt_imgs/{}.jpg", "torso_imgs/{}.png")


@pytest.fixture
def person(tmp_path: Path) -> Path:
    """Return a folder as the preprocessing leaves it."""
    files = [*ONCE, *(form.format(n) for form in (*EACH, "teeth_mask/{}.npy") for n in range(3))]
    for name in files:
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_text("x")
    for name, frames in (("train", [0, 1]), ("val", [2])):
        document = {"frames": [{"img_id": number} for number in frames]}
        (tmp_path / f"transforms_{name}.json").write_text(json.dumps(document))
    return tmp_path


def complete(folder: Path) -> tuple[int, list[str]]:
    ended = subprocess.run(
        [sys.executable, COMPLETE, folder], capture_output=True, text=True, check=False
    )
    return ended.returncode, ended.stderr.splitlines()


def test_preprocessing_is_complete_when_training_has_all_it_reads(person: Path) -> None:
    assert complete(person) == (0, [f"{person}: complete"])


def test_all_that_the_preprocessing_lacks_is_named_at_once(person: Path) -> None:
    (person / "au.csv").unlink()
    (person / "aud_ds.npy").write_bytes(b"")
    for number in (1, 2):
        (person / f"teeth_mask/{number}.npy").unlink()
    code, lines = complete(person)
    assert code == 1
    assert [line.partition(": ")[0] for line in lines] == [
        f"{person}/aud_ds.npy",
        f"{person}/au.csv",
        f"{person}/teeth_mask/N.npy",
        str(person),
    ]
    assert "2 of 3 missing, the first is 1; data_utils/easyportrait/create_teeth_mask.py" in lines[2]
