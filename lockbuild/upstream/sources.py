"""Python sources: what they import, fetch, and load by name. Nothing is run. Pure."""

from __future__ import annotations

import ast
import re
from typing import TYPE_CHECKING

from lockbuild.upstream.addresses import download_of, downloads_in
from lockbuild.upstream.commands import Session
from lockbuild.upstream.findings import (
    Download,
    GitRequirement,
    HubName,
    Import,
    Note,
    Place,
    VersionLine,
)
from lockbuild.upstream.projects import parsed

if TYPE_CHECKING:
    from collections.abc import Iterator

    from lockbuild.upstream.findings import Finding

__all__ = ["source_findings"]

_REPOSITORY = re.compile(r"[\w.-]+/[\w.-]+(:[\w./-]+)?")
_ALIAS = re.compile(r"\b(?:np|numpy)\.(?:float|int|bool|object|str|complex|unicode)\b(?!_)(?!\w)")


def source_findings(text: str, file: str) -> Iterator[Finding]:
    """Yield what a Python source imports, downloads and loads."""
    yield from _lines(text, file)
    tree = parsed(text)
    if tree is None:
        for number, line in enumerate(text.splitlines(), 1):
            if found := re.match(
                r"\s*(?:import|from)\s+([A-Za-z_]\w*)(?:\.[\w.]+)?(?:\s+import|\s*$|\s+as)", line[:2000]
            ):
                place = Place(file=file, line=number)
                yield Import(module=found[1], guarded=line[:1].isspace(), place=place)
        yield from downloads_in(text, file)
        return
    fetched = _fetched_names(tree)
    for download in downloads_in(text, file):
        yield _through_hub(download) if fetched else download
    yield from _walk(tree, file)
    if file.endswith("/__init__.py") and (
        stated := re.search(r"^__version__\s*=\s*[\"']([^\"']+)[\"']", text, re.MULTILINE)
    ):
        number = text.count("\n", 0, stated.start()) + 1
        place = Place(file=file, line=number)
        yield VersionLine(folder=file.rpartition("/")[0], version=stated[1], place=place)


def _through_hub(found: Download) -> Download:
    return Download(
        url=found.url, filename=found.filename, target=found.target, hub=True, place=found.place
    )


def _fetched_names(tree: ast.Module) -> bool:
    """Tell whether the source fetches through `torch.hub`, whose cache is where its weights then lie."""
    names = {"load_state_dict_from_url", "load_url", "download_url_to_file"}
    return any(
        (isinstance(node, ast.Attribute) and node.attr in names)
        or (isinstance(node, ast.Name) and node.id in names)
        for node in ast.walk(tree)
    )


def _lines(text: str, file: str) -> Iterator[Finding]:
    """Yield what stands in lines, whatever their syntax: aliases that numpy dropped, commands in comments."""
    aliases = [n for n, line in enumerate(text.splitlines(), 1) if _ALIAS.search(line[:2000])]
    if aliases:
        more = f", and {len(aliases) - 1} more lines" if len(aliases) > 1 else ""
        yield Note(
            text=f"numpy: a name such as `np.float`, which numpy 1.24 dropped{more}",
            place=Place(file=file, line=aliases[0]),
        )
    for number, line in enumerate(text.splitlines(), 1):
        # `Please run pip install git+…`: what an import wants that no file declares.
        if found := re.search(r"\bpip3? install (?:-\S+ )*[\"']?git\+[^\s\"',]+", line[:2000]):
            for one in Session(file, "prose").read(found[0].rstrip(".)"), number):
                if isinstance(one, GitRequirement):
                    yield one


def _walk(tree: ast.Module, file: str) -> Iterator[Finding]:
    # An own stack: sources may be nested deeper than Python's own recursion goes.
    waiting: list[tuple[ast.AST, bool]] = [(tree, False)]
    while waiting:
        node, guarded = waiting.pop()
        if isinstance(node, ast.Import | ast.ImportFrom):
            yield from _imports(node, file, guarded=guarded)
        elif isinstance(node, ast.Call):
            yield from _loads(node, file)
        inside = guarded or isinstance(
            node, ast.FunctionDef | ast.AsyncFunctionDef | ast.Try | ast.Lambda | ast.If
        )
        waiting.extend((child, inside) for child in ast.iter_child_nodes(node))


def _imports(node: ast.Import | ast.ImportFrom, file: str, *, guarded: bool) -> Iterator[Finding]:
    place = Place(file=file, line=node.lineno)
    if isinstance(node, ast.Import):
        for alias in node.names:
            yield Import(module=alias.name.partition(".")[0], guarded=guarded, place=place)
    elif node.module and not node.level:
        yield Import(module=node.module.partition(".")[0], guarded=guarded, place=place)


def _loads(node: ast.Call, file: str) -> Iterator[Finding]:
    place = Place(file=file, line=node.lineno)
    name = node.func.attr if isinstance(node.func, ast.Attribute) else getattr(node.func, "id", "")
    first = _argument(node, 0, "repo_or_dir", "pretrained_model_name_or_path", "repo_id", "url")
    match name:
        case "load" if ast.unparse(node.func).endswith("hub.load") and _REPOSITORY.fullmatch(first):
            model = _argument(node, 1, "model")
            yield HubName(hub="torch.hub", name=f"{first} {model}".strip(), place=place)
        case "from_pretrained" if _REPOSITORY.fullmatch(first):
            yield HubName(hub="Hugging Face", name=first, place=place)
        case "hf_hub_download" | "snapshot_download":
            wanted = _argument(node, 9, "repo_id") or first
            file_ = _argument(node, 1, "filename")
            if wanted:
                yield HubName(hub="Hugging Face", name=f"{wanted} {file_}".strip(), place=place)
        case "load_state_dict_from_url" | "download_url_to_file" | "load_url":
            if found := download_of(first, place, hub=True, told=True):
                yield found


def _argument(node: ast.Call, position: int, *names: str) -> str:
    named = next((k.value for k in node.keywords if k.arg in names), None)
    found = named or (node.args[position] if len(node.args) > position else None)
    return found.value if isinstance(found, ast.Constant) and isinstance(found.value, str) else ""
