"""The builder that writes version label and provenance into a compiled wheel. It runs nothing."""

from __future__ import annotations

import hashlib
import time
from typing import TYPE_CHECKING

from lockbuild import wheels
from lockbuild.derivation import BuildOutcome
from lockbuild.errors import BuildError
from lockbuild.provenance import FOLDER, RECORD

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from lockbuild.derivation import BuildTask

__all__ = ["Stamper"]


class Stamper:
    """Makes `stamped` wheels: a builder as those in `lockbuild.builders`, without a sandbox and without threads."""

    name = "stamper"

    def probe(self) -> None:
        """Work always."""

    def build(self, task: BuildTask) -> BuildOutcome:
        """Write the wheel of *task* anew."""
        began = time.monotonic()
        out = task.scratch / "out"
        out.mkdir(parents=True)
        inputs = dict(task.inputs)
        options = dict(word.removeprefix("--").split("=", 1) for word in task.command[:-1])
        try:
            (wheel,) = inputs["wheel"].glob("*.whl")
            stamped = wheels.stamp_wheel(
                wheel,
                out,
                version=options["version"],
                files={RECORD: task.command[-1].encode(), **dict(_patches(inputs))},
                epoch=int(dict(task.env)["SOURCE_DATE_EPOCH"]),
            )
        except BuildError as error:
            message = "; ".join((error.message, *error.details))
            return BuildOutcome(name=task.name, status="failed", message=message)
        task.log.parent.mkdir(parents=True, exist_ok=True)
        task.log.write_text(f"{wheel.name} -> {stamped.name}\n", encoding="utf-8")
        return BuildOutcome(
            name=task.name,
            status="built",
            output=out,
            log=task.log,
            duration_s=time.monotonic() - began,
        )


def _patches(inputs: dict[str, Path]) -> Iterator[tuple[str, bytes]]:
    for place, file in inputs.items():
        if place.startswith("patches/"):
            data = file.read_bytes()
            yield f"{FOLDER}/{hashlib.sha256(data).hexdigest()}.patch", data
