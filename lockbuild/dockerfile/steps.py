"""Reading a Dockerfile: its steps, and which of them could reach a network. Pure."""

from __future__ import annotations

import json
import re
from contextlib import suppress
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator

__all__ = ["asks_network", "network_steps", "stage_steps", "steps"]

# Commands that ask a network, and what keeps each of them from doing so.
_TOOLS = (
    (r"(apt|apt-get|aptitude)( -\S+){0,16} (update|install|\S*upgrade|build-dep)", r"--no-download"),
    (r"(pip[\d.]*|pip-\S{1,99}\.whl/pip)( -\S+){0,16} (install|download|wheel)", r"--no-index"),
    (r"uv( -\S+){0,16} (pip|sync|add|lock|run|tool)", r"--offline|--no-index"),
    (r"(conda|mamba|micromamba|pixi)( -\S+){0,16} (create|install|update|env)", r"--offline"),
    (r"git( -\S+){0,16} (clone|fetch|pull|submodule|ls-remote)", None),
    (r"(npm|pnpm|yarn|gem|cargo|go)( -\S+){0,16} (add|ci|install|get|fetch|mod|build)", r"--offline"),
    (r"(apk|dnf|yum|zypper|hf|huggingface-cli)( -\S+){0,16} (add|install|update|download)", None),
    (r"(curl|wget|aria2c|gdown|rsync|scp|ssh)", None),
    (r"(urllib\.request|urlretrieve|requests\.get|torch\.hub\.load)", None),
    (r"(hf_hub_download|snapshot_download)", None),
)
_HERE_DOCUMENT = re.compile(r"<<-?\s*([\"']?)([A-Za-z_]\w*)\1")
_SHOWN = 120


def network_steps(dockerfile: str) -> tuple[str, ...]:
    """Return the steps of a Dockerfile that could reach a network, each with its line.

    A base image named by digest counts as fixed; one named by tag does not. A RUN is judged by the
    programs it names, so this finds slips, not malice: the network is kept out by building without one.
    """
    found = []
    stages: set[str] = {"scratch"}
    for line, step in steps(dockerfile):
        if _reaches(step, stages):
            shown = step if len(step) <= _SHOWN else f"{step[: _SHOWN - 1]}…"
            found.append(f"line {line}: {shown}")
        stage = re.match(r"FROM\s.*\sAS\s+(\S+)", step, re.IGNORECASE)
        if stage:
            stages.add(stage[1].lower())
    return tuple(found)


def steps(dockerfile: str) -> Iterator[tuple[int, str]]:
    """Yield line and text of each instruction on one line, and of a `# syntax=` directive."""
    lines = iter(enumerate(dockerfile.splitlines(), 1))
    words: list[str] = []
    begin = 0
    for number, line in lines:
        text = line.strip()
        if not words and re.match(r"#\s*syntax\s*=", text, re.IGNORECASE):
            yield number, text
        if not text or text.startswith("#"):
            continue
        begin = begin if words else number
        words.append(text.removesuffix("\\").strip())
        if text.endswith("\\"):
            continue
        for _, end in _HERE_DOCUMENT.findall(text):
            for _, body in lines:
                if body.strip() == end:
                    break
                words.append(f"; {body.strip()}")
        yield begin, " ".join(words)
        words = []


def stage_steps(dockerfile: str, target: str) -> tuple[str, ...]:
    """Return the instructions that the stage *target* is made of, those of the stages below it first."""
    stages: dict[str, list[str]] = {}
    last: list[str] = []
    for _, step in steps(dockerfile):
        if begun := re.match(r"FROM\s+(?:--\S+\s+)*(\S+)(?:\s+AS\s+(\S+))?", step, re.IGNORECASE):
            last = [*stages.get(begun[1].lower(), [])]
            stages[(begun[2] or str(len(stages))).lower()] = last
        elif not step.startswith("#"):
            last.append(step)
    return tuple(stages.get(target.lower(), ()))


def asks_network(created_by: str) -> bool:
    """Whether a step of an image's history, as engines write it down, ran a program that asks a network."""
    command = re.sub(r"^(RUN\s+)?(\|\d+\s+([^\s=]+=\S*\s+)*)?(/bin/(ba)?sh -\S*c\s+)?", "", created_by)
    ran = command != created_by or created_by.startswith("RUN")
    return ran and "--network=none" not in created_by and any(map(_asks, _commands(command)))


def _reaches(step: str, stages: set[str]) -> bool:
    instruction, _, rest = step.partition(" ")
    match instruction.upper():
        case "FROM":
            return _moves(re.sub(r"--\S+\s+", "", rest).split()[0], stages)
        case "COPY":
            origin = re.search(r"--from=(\S+)", rest)
            return origin is not None and _moves(origin[1], stages)
        case "ADD":
            return re.search(r"(^|[\s\"])((https?|ftp|git|ssh)://|git@|github\.com/)", rest) is not None
        case "RUN":
            return "--network=none" not in rest and any(map(_asks, _commands(rest)))
    return instruction.startswith("#")


def _moves(image: str, stages: set[str]) -> bool:
    return image.lower() not in stages and "@sha256:" not in image and not image.isdigit()


def _commands(rest: str) -> list[str]:
    """Split a RUN where a shell would begin another command; in exec form, join the words."""
    plain = re.sub(r"^(--\S+\s+)+", "", rest)
    if plain.startswith("["):
        # As the engine does: what is no JSON is a shell command.
        with suppress(TypeError, ValueError):
            plain = " ".join(json.loads(plain))
    return re.split(r"&&|\|\|?|;|\n", plain)


def _asks(command: str) -> bool:
    return any(
        re.search(rf"(^|[\s/(\"'`]){tool}(?![\w.-])", command)
        and not (kept and re.search(kept, command))
        for tool, kept in _TOOLS
    )
