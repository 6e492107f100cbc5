"""Python projects: `setup.py` as a syntax tree, `setup.cfg` and `pyproject.toml` as text. Nothing is run. Pure."""

from __future__ import annotations

import ast
import configparser
import re
import tomllib
import warnings
from typing import TYPE_CHECKING, Any

from lockbuild.upstream.findings import Extension, Place, Project

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

__all__ = ["cfg_project", "parsed", "pyproject_project", "setup_project"]

_EXTENSIONS = {"CUDAExtension": True, "CppExtension": False, "Extension": False}
_WIDEST = 20_000  # what no person wrote, and the parser would take minutes for
_COMPILED = re.compile(r"\.(cu|cuh|cpp|cxx|cc|c|pyx)$")


def parsed(text: str) -> ast.Module | None:
    """Return the syntax tree of Python *text*; none where it is no Python 3."""
    if any(len(line) > _WIDEST for line in text.splitlines()):
        return None
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        try:
            return ast.parse(text)
        except (SyntaxError, ValueError, RecursionError, MemoryError):
            return None


# ---- setup.py -------------------------------------------------------------------------------------


def setup_project(text: str, file: str) -> Project:
    """Return what a `setup.py` says of its package; what only running it would say is left out."""
    folder, place = file.rpartition("/")[0] or ".", Place(file=file, line=1)
    tree = parsed(text)
    lines = text.splitlines()
    standards = tuple(
        (found[1], number)
        for number, line in enumerate(lines, 1)
        for found in re.finditer(r"-std=(c\+\+\w+)", line[:2000])
    )
    gpu = next((n for n, line in enumerate(lines, 1) if "cuda.is_available(" in line), 0)
    common: dict[str, Any] = {"folder": folder, "standards": standards, "asks_gpu": gpu}
    if tree is None:
        name = re.search(r"\bname\s*=\s*[\"']([\w.-]+)[\"']", text)
        return Project(place=place, name=name[1] if name else "", **common)
    nodes = list(ast.walk(tree))
    constants = _constants(nodes)
    call = next((n for n in nodes if isinstance(n, ast.Call) and _called(n) == "setup"), None)
    keywords = {k.arg: k.value for k in call.keywords if k.arg} if call else {}
    literals = (ast.Constant, ast.List, ast.Tuple)
    computed = sorted(
        name
        for name, value in keywords.items()
        if not isinstance(constants.get(value.id) if isinstance(value, ast.Name) else value, literals)
    )
    requires = _texts(keywords.get("install_requires"), constants)
    return Project(
        place=Place(file=file, line=call.lineno if call else 1),
        name=_text(keywords.get("name"), constants),
        version=_text(keywords.get("version"), constants),
        requires=tuple(requires),
        build_requires=tuple(_texts(keywords.get("setup_requires"), constants)),
        requires_python=_text(keywords.get("python_requires"), constants),
        extensions=tuple(_extensions(nodes, constants, file)),
        sources=tuple(_sources(nodes)),
        asks_env=tuple(sorted(set(_asked(nodes)))),
        imports=tuple(sorted(set(_imported(nodes)))),
        computed=tuple(computed),
        **common,
    )


def _constants(nodes: list[ast.AST]) -> dict[str, ast.expr]:
    """Return name -> value of each name that is assigned, the first time."""
    found: dict[str, ast.expr] = {}
    for node in nodes:
        if (
            isinstance(node, ast.Assign)
            and len(node.targets) == 1
            and isinstance(node.targets[0], ast.Name)
        ):
            found.setdefault(node.targets[0].id, node.value)
    return found


def _called(node: ast.Call) -> str:
    if isinstance(node.func, ast.Attribute):
        return node.func.attr
    return node.func.id if isinstance(node.func, ast.Name) else ""


def _text(node: ast.expr | None, constants: Mapping[str, ast.expr]) -> str:
    """Return the text that an expression is, seen through one name; empty for what is no literal."""
    if isinstance(node, ast.Name):
        node = constants.get(node.id)
    return node.value if isinstance(node, ast.Constant) and isinstance(node.value, str) else ""


def _texts(node: ast.expr | None, constants: Mapping[str, ast.expr]) -> list[str]:
    if isinstance(node, ast.Name):
        node = constants.get(node.id)
    if isinstance(node, ast.List | ast.Tuple):
        return [text for element in node.elts if (text := _text(element, constants))]
    if isinstance(node, ast.Constant) and isinstance(node.value, str):
        return [line.strip() for line in node.value.splitlines() if line.strip()]
    return []


def _extensions(
    nodes: list[ast.AST], constants: Mapping[str, ast.expr], file: str
) -> Iterator[Extension]:
    # `extension = CppExtension`, which becomes `CUDAExtension` where there is a GPU.
    kinds: dict[str, bool] = dict(_EXTENSIONS)
    for node in nodes:
        if not isinstance(node, ast.Assign) or not isinstance(node.value, ast.Name | ast.Attribute):
            continue
        kind = node.value.id if isinstance(node.value, ast.Name) else node.value.attr
        for target in node.targets:
            if kind in _EXTENSIONS and isinstance(target, ast.Name):
                kinds[target.id] = kinds.get(target.id, False) or _EXTENSIONS[kind]
    for node in nodes:
        if isinstance(node, ast.Call) and _called(node) in kinds:
            named = next((k.value for k in node.keywords if k.arg == "name"), None)
            first = named if named is not None else (node.args[0] if node.args else None)
            yield Extension(
                module=_text(first, constants),
                cuda=kinds[_called(node)],
                place=Place(file=file, line=node.lineno),
            )


def _sources(nodes: list[ast.AST]) -> Iterator[str]:
    for node in nodes:
        if (
            isinstance(node, ast.Constant)
            and isinstance(node.value, str)
            and _COMPILED.search(node.value)
        ):
            yield node.value


def _asked(nodes: list[ast.AST]) -> Iterator[str]:
    for node in nodes:
        of: ast.expr | None = None
        match node:
            case ast.Call(func=ast.Attribute(attr="getenv"), args=[of, *_]):
                pass
            case ast.Call(
                func=ast.Attribute(value=ast.Attribute(attr="environ"), attr="get"), args=[of, *_]
            ):
                pass
            case ast.Subscript(value=ast.Attribute(attr="environ"), slice=ast.expr() as of):
                pass
            case ast.Compare(
                left=of, ops=[ast.In() | ast.NotIn()], comparators=[ast.Attribute(attr="environ")]
            ):
                pass
            case _:
                continue
        if isinstance(of, ast.Constant) and isinstance(of.value, str):
            yield of.value


def _imported(nodes: list[ast.AST]) -> Iterator[str]:
    for node in nodes:
        if isinstance(node, ast.Import):
            yield from (alias.name.partition(".")[0] for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.module and not node.level:
            yield node.module.partition(".")[0]


# ---- setup.cfg, pyproject.toml --------------------------------------------------------------------


def cfg_project(text: str, file: str) -> Project | None:
    """Return what a `setup.cfg` says of its package; none where it does not speak of one."""
    reader = configparser.RawConfigParser(strict=False)
    try:
        reader.read_string(text)
    except (configparser.Error, ValueError):
        return None
    if not reader.has_section("metadata") and not reader.has_option("options", "install_requires"):
        return None
    version = reader.get("metadata", "version", fallback="")
    return Project(
        folder=file.rpartition("/")[0] or ".",
        place=Place(file=file, line=1),
        name=reader.get("metadata", "name", fallback="").strip(),
        version="" if ":" in version else version.strip(),
        requires=_lines(reader.get("options", "install_requires", fallback="")),
        build_requires=_lines(reader.get("options", "setup_requires", fallback="")),
        requires_python=reader.get("options", "python_requires", fallback="").strip(),
    )


def _lines(text: str) -> tuple[str, ...]:
    return tuple(line.strip() for line in text.splitlines() if line.strip() and not line.startswith("#"))


def pyproject_project(text: str, file: str) -> Project | None:
    """Return what a `pyproject.toml` says of its package; none where it does not speak of one."""
    try:
        document = tomllib.loads(text)
    except (tomllib.TOMLDecodeError, RecursionError, ValueError):
        return None
    table, build = _table(document, "project"), _table(document, "build-system")
    poetry = _table(_table(document, "tool"), "poetry")
    if not table and not build and not poetry:
        return None
    line = next(
        (
            n
            for n, text_ in enumerate(text.splitlines(), 1)
            if re.match(r"\[(project|tool\.poetry)\]", text_)
        ),
        1,
    )
    return Project(
        folder=file.rpartition("/")[0] or ".",
        place=Place(file=file, line=line),
        name=_string(table, "name") or _string(poetry, "name"),
        version=_string(table, "version") or _string(poetry, "version"),
        requires=_strings(table, "dependencies") or tuple(_poetry(poetry)),
        build_requires=_strings(build, "requires"),
        requires_python=_string(table, "requires-python"),
    )


def _table(document: object, key: str) -> dict[str, Any]:
    found = document.get(key) if isinstance(document, dict) else None
    return found if isinstance(found, dict) else {}


def _string(table: Mapping[str, Any], key: str) -> str:
    found = table.get(key)
    return found if isinstance(found, str) else ""


def _strings(table: Mapping[str, Any], key: str) -> tuple[str, ...]:
    found = table.get(key)
    return tuple(text for text in found if isinstance(text, str)) if isinstance(found, list) else ()


def _poetry(poetry: Mapping[str, Any]) -> Iterator[str]:
    """Yield poetry's own form of requirements as PEP 508 writes them: a caret is a bound on both sides."""
    for name, wanted in _table(poetry, "dependencies").items():
        version = (
            wanted
            if isinstance(wanted, str)
            else _string(wanted if isinstance(wanted, dict) else {}, "version")
        )
        found = re.fullmatch(r"\s*([~^]?)\s*(\d+)((?:\.\d+)*)\s*", version)
        if name == "python":
            continue
        if found and found[1]:
            minor = re.match(r"\.(\d+)", found[3])
            below = (
                f"{int(found[2]) + 1}"
                if found[1] == "^" and found[2] != "0"
                else f"{found[2]}.{int(minor[1]) + 1 if minor else 1}"
            )
            yield f"{name}>={found[2]}{found[3]},<{below}"
        elif found:
            yield f"{name}=={found[2]}{found[3]}"
        else:
            yield name if version in {"", "*"} else f"{name}{version}"
