"""Imports modules and writes down what happens: a program for the image's Python, 3.8 or newer.

    python3 probe.py REPORT SITE PLACES FIRST MODULES

PLACES, FIRST and MODULES are JSON lists. What is in the folders PLACES, the largest last, is shown in the folder SITE
by links, as if it were installed together: extensions find libraries of other wheels beside themselves. FIRST are
imported before each of MODULES' processes begins its work, as every program that uses torch imports torch first. A
module that kills its process does not hide the others.
"""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

_IMPORTER = """
import importlib, json, os, sys, traceback
report = os.fdopen(os.dup(1), "w")
os.dup2(2, 1)
for name in sys.argv[1:]:
    fault = None
    try:
        importlib.import_module(name)
    except BaseException as error:
        # NumPy's C interface prints what it meets, which Python remembers, and raises another that says less.
        cause = getattr(sys, "last_value", None) or error
        while cause.__cause__ or cause.__context__:
            cause = cause.__cause__ or cause.__context__
        told = [traceback.format_exception_only(type(one), one)[-1].strip() for one in (error, cause)]
        fault = "; behind it: ".join(dict.fromkeys(told))
    sys.last_value = None
    report.write(json.dumps([name, fault]) + "\\n")
    report.flush()
os._exit(0)
"""


def lay_out(places: list[Path], site: Path, whole: Path) -> None:
    """Link what *places* hold into the folder *site*; where two have the same file, the first one's counts.

    Folders are made anew, since `..` of a link leads to where it points; those of *whole* alone are linked as they
    are, as nothing in it knows of other places.
    """
    site.mkdir(parents=True, exist_ok=True)
    for name in sorted({path.name for place in places for path in place.iterdir()}):
        found = [place / name for place in places if (place / name).exists()]
        shared = len(found) > 1 or any(whole not in path.parents for path in found)
        if shared and all(path.is_dir() for path in found):
            lay_out(found, site / name, whole)
        elif found:
            (site / name).symlink_to(found[0])


def faults(first: list[str], modules: list[str]) -> list[tuple[str, str]]:
    """Return module and fault of each of *modules* that does not import."""
    found: list[tuple[str, str]] = []
    left = list(modules)
    while left:
        ended = subprocess.run(
            [sys.executable, "-c", _IMPORTER, *first, *left],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            check=False,
        )
        told = [json.loads(line) for line in ended.stdout.decode().splitlines()]
        broken = [(name, fault) for name, fault in told[: len(first)] if fault]
        if broken or len(told) < len(first):
            name, fault = broken[0] if broken else (first[len(told)], ending(ended.returncode))
            return [*found, (name, fault)]
        found += [(name, fault) for name, fault in told[len(first) :] if fault]
        left = left[len(told) - len(first) :]
        if left:
            found.append((left.pop(0), ending(ended.returncode)))
    return found


def ending(status: int) -> str:
    """Return how a process ended, in words."""
    return f"ended Python with {f'signal {-status}' if status < 0 else f'exit code {status}'}"


if __name__ == "__main__":
    folders = [Path(place) for place in json.loads(sys.argv[3])]
    lay_out(folders, Path(sys.argv[2]), folders[-1])
    with open(sys.argv[1], "w", encoding="utf-8") as report:
        json.dump(faults(json.loads(sys.argv[4]), json.loads(sys.argv[5])), report)
