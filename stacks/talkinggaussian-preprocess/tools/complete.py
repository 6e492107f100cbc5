"""Tells whether the preprocessing of a person is complete: python3 complete.py data/NAME.

Looks for every file that TalkingGaussian's training reads. Says all that is missing, and then ends with 1.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path

ONCE = {
    "transforms_train.json": "data_utils/process.py data/NAME/NAME.mp4 --task 9",
    "transforms_val.json": "data_utils/process.py data/NAME/NAME.mp4 --task 9",
    "track_params.pt": "data_utils/process.py data/NAME/NAME.mp4 --task 8",
    "bc.jpg": "data_utils/process.py data/NAME/NAME.mp4 --task 5",
    "aud_ds.npy": "data_utils/process.py data/NAME/NAME.mp4 --task 2",
    "au.csv": "OpenFace's FeatureExtraction, outside of this image",
}
"""File -> what makes it."""

EACH = {
    "ori_imgs/{}.jpg": "data_utils/process.py data/NAME/NAME.mp4 --task 3",
    "ori_imgs/{}.lms": "data_utils/process.py data/NAME/NAME.mp4 --task 7",
    "parsing/{}.png": "data_utils/process.py data/NAME/NAME.mp4 --task 4",
    "gt_imgs/{}.jpg": "data_utils/process.py data/NAME/NAME.mp4 --task 6",
    "torso_imgs/{}.png": "data_utils/process.py data/NAME/NAME.mp4 --task 6",
    "teeth_mask/{}.npy": "data_utils/easyportrait/create_teeth_mask.py data/NAME",
}
"""File of every frame that the transforms name -> what makes it."""


def missing(folder: Path) -> list[str]:
    """Return a line for each file, or kind of file, that is missing or empty in *folder*."""
    faults = [f"{name}: missing; {mend}" for name, mend in ONCE.items() if not there(folder / name)]
    frames: set[int] = set()
    for name in ("transforms_train.json", "transforms_val.json"):
        if there(folder / name):
            document = json.loads((folder / name).read_text(encoding="utf-8"))
            frames |= {frame["img_id"] for frame in document["frames"]}
    for form, mend in EACH.items():
        absent = [number for number in sorted(frames) if not there(folder / form.format(number))]
        if absent:
            place = form.format("N")
            faults.append(
                f"{place}: {len(absent)} of {len(frames)} missing, the first is {absent[0]}; {mend}"
            )
    return faults


def there(file: Path) -> bool:
    """Tell whether a file is there and holds something."""
    return file.is_file() and file.stat().st_size > 0


def main() -> int:
    """Check the folder that the command line names."""
    if len(sys.argv) != 2:  # noqa: PLR2004 - the program and its argument
        sys.stderr.write(__doc__ or "")
        return 2
    folder = Path(sys.argv[1])
    faults = missing(folder)
    for fault in faults:
        sys.stderr.write(f"{folder}/{fault}\n")
    sys.stderr.write(f"{folder}: {len(faults)} faults\n" if faults else f"{folder}: complete\n")
    return 1 if faults else 0


if __name__ == "__main__":
    sys.exit(main())
