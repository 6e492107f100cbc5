"""Importing a wheel's modules where they will be installed: in the image's root file system, without network and GPU."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING

from lockbuild.builders import INPUTS, OUT, SOURCE
from lockbuild.derivation import ROOTFS_TAR, BuildTask
from lockbuild.gate.facts import Imported
from lockbuild.plan import image_env, search_path

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from lockbuild.realise import Realiser

__all__ = ["try_imports"]

_REPORT = "imports.json"
_PROGRAM = "probe.py"
_ENVIRONMENT = "environment"
_SITE = f"{SOURCE}/site"
_TIMEOUT_S = 900.0
# What a stack sets for its image and would lead the probe elsewhere.
_OURS = frozenset({"LD_PRELOAD", "PATH", "PYTHONHOME", "PYTHONPATH"})


def try_imports(
    realiser: Realiser, name: str, modules: Sequence[str], built: Mapping[str, Path], scratch: Path
) -> Imported:
    """Import *modules* and return those that did not.

    Args:
        name: Of the wheel that has them.
        built: Name -> folder of each wheel that is not in the plan's environment, unpacked.
        scratch: An empty folder.
    """
    plan, store, stack = realiser.plan, realiser.store, realiser.stack
    if not modules:
        return Imported(faults=())
    image, runtime = realiser.lock.image("runtime"), dict(plan.roots)["runtime"]
    inputs = [(f"built/{other}", folder) for other, folder in sorted(built.items())]
    inputs.append((_PROGRAM, Path(__file__).with_name(_PROGRAM)))
    places = [f"{INPUTS}/built/{other}" for other in sorted(built, key=lambda other: other != name)]
    if plan.environment:
        inputs.append((_ENVIRONMENT, store.locate(plan.environment)))
        places.append(f"{INPUTS}/{_ENVIRONMENT}")
    env = {
        **image_env(image),
        **{key: value for key, value in stack.env if key not in _OURS},
        "PATH": search_path(stack.interpreter, image),
        "PYTHONPATH": _SITE,
    }
    first = [p.name for p in realiser.lock.runtime if p.name == "torch"]
    outcome = realiser.builder().build(
        BuildTask(
            name=f"gate-{name}",
            kind="environment",
            rootfs=store.unpacked(runtime, ROOTFS_TAR),
            rootfs_name=runtime.digest,
            command=(
                *("python3", f"{INPUTS}/{_PROGRAM}", f"{OUT}/{_REPORT}"),
                *(_SITE, json.dumps(places), json.dumps(first), json.dumps(list(modules))),
            ),
            env=tuple(sorted(env.items())),
            inputs=tuple(sorted(inputs)),
            scratch=scratch,
            log=scratch / "log",
            cores=realiser.cores,
            timeout_s=_TIMEOUT_S,
        )
    )
    if outcome.output is None:
        said = "; ".join((outcome.message, *outcome.tail[-3:]))
        return Imported(faults=((", ".join(modules), said),))
    try:
        report = json.loads((outcome.output / _REPORT).read_text(encoding="utf-8"))
        return Imported(faults=tuple((str(module), str(fault)) for module, fault in report))
    except (OSError, TypeError, ValueError) as error:
        # What is imported may do anything, also to the report.
        said = f"the program that imports left no report: {error}"
        return Imported(faults=((", ".join(modules), said),))
