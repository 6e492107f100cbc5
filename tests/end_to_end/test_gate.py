"""The gate with its real sandbox: what `lockbuild build` lets into the wheelhouse, and what nobody may put there."""

from __future__ import annotations

import json
import shutil
import zipfile
from typing import TYPE_CHECKING

from lockbuild.wheels import normalise_wheel
from tests.end_to_end.project import NATIVE, Project
from tests.wheels import make_wheel

if TYPE_CHECKING:
    from pathlib import Path

    from tests.end_to_end.conftest import Filled

_RULES = (
    *("wheel", "declared", "modules", "startup", "overwrites", "shared-files", "requires"),
    *("python-abi", "elf-needs", "torch-symbols", "glibc"),
    *("cuda-runtime", "architectures", "device-code", "driver", "build-path", "imports"),
)


def _native(project: Project) -> Path:
    (path,) = project.wheels.glob("native_sum-*.whl")
    return path


def _rebuilt(project: Project, code: str) -> str:
    """Put *code* before the extension's methods, build, and return what refused it."""
    text = NATIVE["native_sum.c"].replace("static PyMethodDef", f"{code}\nstatic PyMethodDef")
    project.edit_native("native_sum.c", text)
    project.run("resolve", "small")
    return project.run("build", "small", exit_code=6).stderr


def test_built_wheels_pass_every_rule(project: Project) -> None:
    judged = json.loads(project.run("gate", "small", "--json").stdout)
    assert [one["wheel"].partition("-")[0] for one in judged] == ["greeting", "native_sum"]
    assert [one["passed"] for one in judged] == [list(_RULES), list(_RULES)]


def test_a_verdict_is_found_again(filled: Filled) -> None:
    assert "judging" in filled.steps["build"].stderr
    assert "judging" not in filled.steps["rebuild"].stderr


def test_a_wheel_that_does_not_import_stays_outside(project: Project) -> None:
    before = {path.name: path.read_bytes() for path in project.wheels.iterdir()}
    said = _rebuilt(project, "extern int nobody(void); int uses(void) { return nobody(); }")
    assert "1 wheel may not enter the wheelhouse: native_sum-1.0-" in said
    assert "imports: ImportError" in said
    assert "undefined symbol: nobody" in said
    assert "hint: imports: " in said
    assert {path.name: path.read_bytes() for path in project.wheels.iterdir()} == before


def test_a_wheel_that_knows_where_it_was_built_stays_outside(project: Project) -> None:
    said = _rebuilt(project, 'const char *home = "/build/home/.cache/x";')
    assert "build-path: found `/build/home/.cache/x` in .rodata" in said


def test_a_wheel_without_its_extension_is_refused_by_hand_too(project: Project, tmp_path: Path) -> None:
    whole, less = _native(project), tmp_path / "less" / _native(project).name
    less.parent.mkdir()
    shutil.copy(whole, less)
    with zipfile.ZipFile(whole) as old, zipfile.ZipFile(less, "w") as new:
        for info in old.infolist():
            if not info.filename.endswith(".so"):
                new.writestr(info, old.read(info))
    spoilt = tmp_path / less.name
    normalise_wheel(less, spoilt, epoch=0)
    ended = project.run("gate", "small", str(spoilt), exit_code=6)
    assert "modules" in ended.stdout
    assert "expected `native_sum*.so`: found no compiled module at all" in ended.stderr


def test_a_wheel_of_another_cell_is_refused_by_gate_and_audit(project: Project, tmp_path: Path) -> None:
    foreign = make_wheel(tmp_path, "native-sum", "1.0", tag="cp38-cp38-linux_x86_64")
    said = project.run("gate", "small", str(foreign), exit_code=6).stderr
    assert "found tag cp38-cp38-linux_x86_64, expected one of Python 3.11 on linux_x86_64" in said
    shutil.copy(foreign, project.wheels)
    found = json.loads(project.run("audit", "small", "--json", exit_code=9).stdout)["findings"]
    assert {"wheel-extra", "gate-python-abi"} <= {finding["check"] for finding in found}
