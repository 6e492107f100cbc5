"""Declared environments: conda's `environment.yml` and cog's `cog.yaml`. Pure.

The YAML is composed into nodes and no further: nodes know their line, and no tag makes an object.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

import yaml

from lockbuild.upstream.commands import read_all
from lockbuild.upstream.findings import AptPackage, Claim, Note, Place
from lockbuild.upstream.requirements import conda_findings, index_findings, pip_findings

if TYPE_CHECKING:
    from collections.abc import Iterator

    from lockbuild.upstream.findings import Finding

__all__ = ["cog_findings", "environment_findings", "is_environment"]

_LONGEST = 200_000  # an environment exported by conda has some hundred lines


def is_environment(text: str) -> bool:
    """Tell whether a YAML file looks like a conda environment: `dependencies` at its top, as a list."""
    return len(text) < _LONGEST and bool(
        re.search(r"^dependencies:[ \t]*(#.*)?\n([ \t]*(#.*)?\n)*[ \t]*- ", text, re.MULTILINE)
    )


def environment_findings(text: str, file: str) -> Iterator[Finding]:
    """Yield what a conda environment wants."""
    base = file.rpartition("/")[0]
    for item in _items(_at(_composed(text), "dependencies")):
        if isinstance(item, yaml.ScalarNode):
            yield from conda_findings(item.value, kind="declared", place=_place(item, file))
            continue
        lines = list(_items(_at(item, "pip")))
        for number, line in enumerate(lines):
            if not isinstance(line, yaml.ScalarNode):
                continue
            place = _place(line, file)
            option, _, value = line.value.strip().partition(" ")
            option, equals, joined = (
                option.partition("=") if option.startswith("--") else (option, "", "")
            )
            if option in {"-i", "--index-url", "--extra-index-url", "-f", "--find-links"}:
                after = lines[number + 1 : number + 2]
                near = [
                    name
                    for one in after
                    if isinstance(one, yaml.ScalarNode)
                    for found in pip_findings(one.value, kind="declared", place=place)
                    if (name := getattr(found, "name", ""))
                ]
                yield from index_findings(joined if equals else value, near, place, "declared")
            elif option in {"-e", "--editable"}:
                yield from pip_findings(value, kind="declared", place=place, base=base)
            elif not option.startswith("-"):
                yield from pip_findings(line.value, kind="declared", place=place, base=base)


def cog_findings(text: str, file: str) -> Iterator[Finding]:
    """Yield what the `build` of a `cog.yaml` wants."""
    build = _at(_composed(text), "build")
    for key, what in (("python_version", "python"), ("cuda", "cuda")):
        node = _at(build, key)
        if isinstance(node, yaml.ScalarNode) and re.match(r"\d+\.\d+", node.value):
            place = _place(node, file)
            if what == "python":
                yield Claim(what="python", version=node.value, exact=True, kind="image", place=place)
            else:
                yield Claim(what="cuda", version=node.value, exact=True, kind="image", place=place)
    for node in _items(_at(build, "python_packages")):
        if isinstance(node, yaml.ScalarNode):
            yield from pip_findings(node.value, kind="image", place=_place(node, file))
    for node in _items(_at(build, "system_packages")):
        if isinstance(node, yaml.ScalarNode) and re.fullmatch(
            r"[a-z0-9][a-z0-9+.-]+", node.value, re.ASCII
        ):
            yield AptPackage(name=node.value, place=_place(node, file))
    commands = [
        (node.start_mark.line + 1, node.value)
        for node in _items(_at(build, "run"))
        if isinstance(node, yaml.ScalarNode)
    ]
    yield from read_all(commands, file, "image")


def broken_yaml(text: str, file: str) -> Iterator[Finding]:
    """Yield a note where YAML that should be read cannot be."""
    if text.strip() and _composed(text) is None:
        yield Note(text="is no YAML that can be read", place=Place(file=file, line=0))


def _composed(text: str) -> yaml.Node | None:
    if len(text) > _LONGEST:
        return None
    try:
        return yaml.compose(text, Loader=yaml.SafeLoader)  # type: ignore[no-any-return,unused-ignore]
    except (yaml.YAMLError, RecursionError, ValueError):
        return None


def _at(node: yaml.Node | None, key: str) -> yaml.Node | None:
    if not isinstance(node, yaml.MappingNode):
        return None
    return next((value for name, value in node.value if getattr(name, "value", None) == key), None)


def _items(node: yaml.Node | None) -> list[yaml.Node]:
    return list(node.value) if isinstance(node, yaml.SequenceNode) else []


def _place(node: yaml.Node, file: str) -> Place:
    return Place(file=file, line=node.start_mark.line + 1)
