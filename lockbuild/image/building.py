"""Building an image from a context, without network, with the same bytes for the same context."""

from __future__ import annotations

import io
import json
import os
import re
import shutil
import signal
import subprocess
import tarfile
import tempfile
import threading
from collections import deque
from contextlib import closing, contextmanager, suppress
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

from docker.errors import DockerException

from lockbuild.dockerfile.steps import stage_steps
from lockbuild.errors import ImageError
from lockbuild.image.clients import find_client
from lockbuild.image.containers import inspect
from lockbuild.image.engine import connect
from lockbuild.progress import Silent

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

    import docker

    from lockbuild.image import Engine, ImageFacts
    from lockbuild.image.clients import BuildClient
    from lockbuild.progress import Phase, Progress

__all__ = ["build"]

_TAIL = 20
_MOST = 120
"""Characters of a step that fit on a line."""
_STEP = re.compile(r"#(\d+) (\[.*?\d+/\d+\] .*)")
_DONE = re.compile(r"#(\d+) (DONE [\d.]+s|CACHED)")
_FAILED = re.compile(r" > (\[.*?\] .*?):?")
_ABSENT = re.compile(r"([\w+.-]+\.so[\d.]*): cannot open shared object file")
# A program's own words come after step number and seconds; what else has a number is the client's.
_WORDS = re.compile(r"#\d+ \d+\.\d+ ?(.*)")


def build(  # noqa: PLR0913 - each says another thing about the image
    context: Path,
    *,
    tag: str,
    engine: Engine,
    log: Path,
    epoch: int,
    target: str = "runtime",
    labels: Mapping[str, str] | None = None,
    cache: bool = True,
    progress: Progress | None = None,
) -> ImageFacts:
    """Build *target* of the Dockerfile in *context* and tag it once it is whole.

    Args:
        log: File that takes the whole output of the build.
        epoch: Seconds since 1970 that the image gives as its time of creation.
        labels: Labels beside those of the Dockerfile.
        cache: Whether steps that the engine remembers may be left out.

    Raises:
        ImageError: A step failed, or the engine's disk is full.
        ToolMissing: No client on this machine can build on *engine*.
    """
    options = [f"--target={target}", f"--build-arg=SOURCE_DATE_EPOCH={epoch}"]
    options += [f"--label={name}={value}" for name, value in sorted((labels or {}).items())]
    options += [] if cache else ["--no-cache"]
    with find_client(engine) as client, tempfile.TemporaryDirectory(prefix="lockbuild-image-") as name:
        iidfile = Path(name) / "id"
        command = client.command(context, iidfile, options)
        what = "building the image" if target == "runtime" else f"building the image's {target} stage"
        with (progress or Silent()).phase(what, total=None, unit="steps") as phase:
            tail = _run(command, client, log, phase)
        if tail:
            raise _failure(tail, engine, log)
        image = iidfile.read_text(encoding="utf-8").strip()
    with closing(connect(engine)) as docker, _engine_faults(engine):
        dockerfile = (context / "Dockerfile").read_text(encoding="utf-8")
        image = _settle(docker, image, engine, epoch, stage_steps(dockerfile, target))
        docker.api.tag(image, *_split(tag))
    return inspect(tag, engine=engine)


def _run(command: list[str], client: BuildClient, log: Path, phase: Phase) -> list[str] | None:
    """Run the client; return its last lines when it fails."""
    tail: deque[str] = deque(maxlen=400)
    names: dict[str, str] = {}
    log.parent.mkdir(parents=True, exist_ok=True)
    with (
        log.open("w", buffering=1, encoding="utf-8") as record,
        subprocess.Popen(
            command,
            env=dict(client.env),
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            encoding="utf-8",
            errors="replace",
            start_new_session=True,
        ) as process,
        _ended(process),
    ):
        for line in process.stdout or ():
            record.write(line)
            tail.append(line.rstrip())
            _report(line, names, phase)
        return list(tail) if process.wait() else None


@contextmanager
def _ended(process: subprocess.Popen[str]) -> Iterator[None]:
    """End the client, and with it the build in the engine, when the block is left by an exception."""
    try:
        yield
    except BaseException:
        with suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGTERM)
        killer = threading.Timer(10, process.kill)
        killer.start()
        process.wait()
        killer.cancel()
        raise


def _report(line: str, names: dict[str, str], phase: Phase) -> None:
    if step := _STEP.match(line):
        names[step[1]] = _shortened(step[2])
    elif (done := _DONE.match(line)) and done[1] in names:
        phase.advance(1)
        phase.line(f"{names.pop(done[1])}: {done[2].lower()}")


# ---- failure --------------------------------------------------------------------------------------


def _failure(tail: list[str], engine: Engine, log: Path) -> ImageError:
    text = "\n".join(tail)
    if "no space left on device" in text.lower():
        return _full(engine, log)
    shown = next((match[1] for line in reversed(tail) if (match := _FAILED.fullmatch(line))), None)
    said = _said(tail, shown)
    what = f"step `{_shortened(shown)}` failed" if shown else "the build failed"
    return ImageError(
        f"the image cannot be built: {what}",
        details=tuple(said[-_TAIL:]),
        hint="\n".join([*_mends(said), f"the whole output: {log}"]),
    )


def _mends(said: list[str]) -> list[str]:
    """Return what to do of each shared library that a module of Python did not find."""
    absent = dict.fromkeys(match[1] for line in said for match in _ABSENT.finditer(line))
    return [
        f"{library}: nothing in the image has it; add the Debian package that has it to `apt.runtime`, "
        f"or the wheel to `python.requires`"
        for library in absent
    ]


def _said(tail: list[str], shown: str | None) -> list[str]:
    """Return the words of the failing step itself, else the last lines of the client."""
    number = next(
        (
            step[1]
            for line in tail
            if shown and (step := _STEP.match(line)) and step[2].startswith(shown[:60])
        ),
        None,
    )
    words = [
        match[1]
        for line in tail
        if number and line.startswith(f"#{number} ") and (match := _WORDS.fullmatch(line))
    ]
    return [line for line in words or tail if line.strip()]


def _shortened(step: str) -> str:
    words = " ".join(step.split())
    return words if len(words) <= _MOST else f"{words[: _MOST - 1]}…"


def _full(engine: Engine, log: Path) -> ImageError:
    free = engine.free
    with suppress(OSError):
        free = shutil.disk_usage(engine.root).free if free is not None else None
    left = "" if free is None else f", {free:,} bytes are free"
    return ImageError(
        f"the image cannot be built: the engine's disk is full ({engine.root}{left})",
        hint=f"`docker builder prune` frees what former builds left; the whole output: {log}",
    )


@contextmanager
def _engine_faults(engine: Engine) -> Iterator[None]:
    try:
        yield
    except (DockerException, OSError) as error:
        raise ImageError(f"the engine at {engine.host} refused: {error}") from error


# ---- the same image for the same layers ------------------------------------------------------------


def _settle(
    docker: docker.DockerClient, image: str, engine: Engine, epoch: int, steps: Sequence[str]
) -> str:
    """Give the image a configuration that says nothing of when and by what it was built; return its id.

    Its history has the Dockerfile's own instructions, *steps*: each layer tells what made it.

    BuildKits before 0.11 write the time into it, so that equal layers would make different images. The
    engine takes an archive without layers as long as it has them. Engines with containerd's store do
    not; their BuildKit is new enough to take SOURCE_DATE_EPOCH.
    """
    if engine.storage_driver not in {"overlay2", "overlay", "vfs", "btrfs", "zfs", "fuse-overlayfs"}:
        return image
    facts: dict[str, Any] = docker.images.get(image).attrs
    text = json.dumps(
        _configuration(facts, epoch, steps), sort_keys=True, separators=(",", ":")
    ).encode()
    layers = len(facts["RootFS"]["Layers"])
    manifest = [
        {
            "Config": "config.json",
            "RepoTags": None,
            "Layers": [f"{number}/layer.tar" for number in range(layers)],
        }
    ]
    archive = io.BytesIO()
    with tarfile.open(fileobj=archive, mode="w") as tar:
        for name, data in (("config.json", text), ("manifest.json", json.dumps(manifest).encode())):
            member = tarfile.TarInfo(name)
            member.size = len(data)
            tar.addfile(member, io.BytesIO(data))
    loaded = str(docker.images.load(archive.getvalue())[0].id)
    if loaded != image:
        docker.images.remove(image)
    return loaded


def _configuration(facts: Mapping[str, Any], epoch: int, steps: Sequence[str]) -> dict[str, Any]:
    moment = datetime.fromtimestamp(epoch, UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
    # The classic builder's names of the container and image that a step ran in.
    volatile = {"Hostname", "Image"}
    layers = facts["RootFS"]["Layers"]
    return {
        "architecture": facts["Architecture"],
        "os": facts["Os"],
        "created": moment,
        "config": {
            name: value for name, value in facts["Config"].items() if value and name not in volatile
        },
        "rootfs": {"type": "layers", "diff_ids": layers},
        "history": [
            {"created": moment, "created_by": text, **({} if made else {"empty_layer": True})}
            for text, made in _history(steps, len(layers))
        ],
    }


def _history(steps: Sequence[str], layers: int) -> list[tuple[str, bool]]:
    """Return the image's instructions, and whether each made one of its layers.

    BuildKit makes a layer of WORKDIR where it makes the folder, and in some releases always.
    """
    for making in ({"ADD", "COPY", "RUN", "WORKDIR"}, {"ADD", "COPY", "RUN"}):
        made = [step.partition(" ")[0].upper() in making for step in steps]
        if sum(made) == layers:
            return list(zip(steps, made, strict=True))
    return [("lockbuild", True)] * layers


def _split(tag: str) -> tuple[str, str]:
    """Return repository and tag; a colon before a slash belongs to a registry's port."""
    head, colon, last = tag.rpartition(":")
    return (head, last) if colon and "/" not in last else (tag, "latest")
