"""A stack: the declared environment of a research system, as frozen values. Pure.

`from_document` takes a document that `lockbuild.stack.schema` has accepted, now or when the lock was made, and never
checks it again; what no lock vouches for, `lockbuild.stack.unlocked` has. Defaults stand here and nowhere else.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, TypeVar

from lockbuild.digest import JsonValue, canonical_json, sha256_of
from lockbuild.edits import Edit, Graft, Patch, Substitute
from lockbuild.licences.expressions import canonical
from lockbuild.stack.assets import Asset
from lockbuild.stack.audit import AuditPolicy, LevelChange, LicencePolicy, Waiver
from lockbuild.stack.conda import Conda
from lockbuild.stack.toolchain import Nvcc, Toolchain
from lockbuild.stack.values import (
    Apt,
    Base,
    BuildSpec,
    DebianBase,
    Image,
    Index,
    Interpreter,
    Mount,
    NamedSource,
    PinnedWheel,
    Python,
    Source,
    Stack,
    Standalone,
    file_name_of,
)
from lockbuild.target import Target

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

__all__ = [
    "Apt",
    "Asset",
    "AuditPolicy",
    "Base",
    "BuildSpec",
    "Conda",
    "DebianBase",
    "Image",
    "Index",
    "Interpreter",
    "Mount",
    "NamedSource",
    "Nvcc",
    "PinnedWheel",
    "Python",
    "Source",
    "Stack",
    "Standalone",
    "Toolchain",
    "file_name_of",
    "followed",
    "from_document",
    "input_values",
    "inputs_of",
]


def from_document(document: Mapping[str, Any]) -> Stack:
    """Return the stack that an accepted *document* describes."""
    python = document.get("python", {})
    preflight = document.get("preflight", {})
    assets = tuple(_asset(table) for table in document.get("asset", ()))
    return Stack(
        name=document["name"],
        summary=document.get("summary", ""),
        target=_make(Target, document["target"]),
        base=_base(document["base"]),
        interpreter=_interpreter(document["interpreter"]),
        apt=_make(Apt, document.get("apt", {})),
        toolchain=_toolchain(document.get("toolchain", {})),
        python=Python(
            requires=tuple(python.get("requires", ())),
            constraints=tuple(map(_bound, python.get("constraints", ()))),
            overrides=tuple(map(_bound, python.get("overrides", ()))),
            reasons=tuple(
                (bound["requirement"], bound["reason"])
                for key in ("constraints", "overrides")
                for bound in python.get(key, ())
                if isinstance(bound, dict)
            ),
            exclude_newer=python.get("exclude-newer"),
            indexes=tuple(_make(Index, table) for table in python.get("index", ())),
            wheels=tuple(_pinned_wheel(table) for table in python.get("wheel", ())),
        ),
        builds=tuple(
            _make(
                BuildSpec,
                {
                    **table,
                    "source": _make(Source, table["source"]),
                    "edits": [_edit(edit) for edit in table.get("edits", ())],
                },
            )
            for table in document.get("build", ())
        ),
        sources=tuple(_named_source(table) for table in document.get("source", ())),
        conda=_make(Conda, document["conda"]) if "conda" in document else None,
        env=_pairs(document.get("env", {})),
        mounts=(
            *(_make(Mount, table) for table in document.get("mount", ())),
            *(_mount(asset) for asset in assets if not asset.bundled),
        ),
        assets=assets,
        gpu=preflight.get("gpu", "none"),
        imports=tuple(preflight.get("imports", ())),
        checks=tuple(preflight.get("checks", ())),
        image=_make(Image, document.get("image", {})),
        audit=_audit(document.get("audit", {})),
    )


def _audit(table: Mapping[str, Any]) -> AuditPolicy:
    levels = ({"check": check, **change} for check, change in sorted(table.get("levels", {}).items()))
    return AuditPolicy(
        levels=tuple(_make(LevelChange, level) for level in levels),
        waivers=tuple(_make(Waiver, waiver) for waiver in table.get("waive", ())),
        licences=_licences(table.get("licenses", {})),
    )


def _licences(table: Mapping[str, Any]) -> LicencePolicy:
    said = {name: canonical(licence) or licence for name, licence in table.get("of", {}).items()}
    return _make(LicencePolicy, {**table, "of": said})


def _base(table: Mapping[str, Any]) -> Base:
    archives = {
        key: _make(DebianBase, table[key])
        for key in ("debian", "packages")
        if table.get(key) is not None
    }
    return Base(toolchain=table.get("toolchain"), runtime=table.get("runtime"), **archives)


def _bound(bound: str | Mapping[str, str]) -> str:
    return bound if isinstance(bound, str) else bound["requirement"]


def _interpreter(table: Mapping[str, Any]) -> Interpreter:
    standalone = table.get("standalone")
    return Interpreter(
        apt=table.get("apt"),
        conda=table.get("conda"),
        host=table.get("host"),
        image=table.get("image"),
        standalone=_make(Standalone, standalone) if standalone is not None else None,
    )


def _toolchain(table: Mapping[str, Any]) -> Toolchain:
    return Toolchain(nvcc=_make(Nvcc, table.get("nvcc", {})), compiler=table.get("compiler"))


def _pinned_wheel(table: Mapping[str, Any]) -> PinnedWheel:
    return _make(PinnedWheel, {"filename": file_name_of(table["url"][0]), **table})


def _named_source(table: Mapping[str, Any]) -> NamedSource:
    own = {
        key: table[key]
        for key in ("name", "path", "writable", "license", "accept-license")
        if key in table
    }
    origin = {key: table[key] for key in table if key in Source.__slots__ and key != "path"}
    # `path` is a place in the image here, as it is of an asset.
    origin |= {"path": table["folder"]} if "folder" in table else {}
    edits = [_edit(edit) for edit in table.get("edits", ())]
    return _make(NamedSource, {**own, "source": _make(Source, origin), "edits": edits})


def _asset(table: Mapping[str, Any]) -> Asset:
    # A pointer of Git LFS names the sha256 of the content.
    sha256 = table.get("sha256") or table.get("lfs-oid")
    plain = {
        key: table[key] for key in table if key.replace("-", "_") in Asset.__slots__ and key != "members"
    }
    checksums = tuple((key, table[key]) for key in ("sha1", "git-blob") if key in table)
    members = _pairs(table.get("members", {}))
    return _make(Asset, {**plain, "sha256": sha256, "checksums": checksums, "members": members})


def _mount(asset: Asset) -> Mount:
    licence = f", licence {asset.license}" if asset.license else ""
    return Mount(
        path=asset.path,
        holds=asset.holds,
        why=asset.why or f"`{asset.name}`{licence}, is not in the image",
        optional=asset.policy == "optional-mount",
    )


def _edit(table: Mapping[str, Any]) -> Edit:
    if "patch" in table:
        return _make(Patch, {"path" if key == "patch" else key: table[key] for key in table})
    if "graft" in table:
        return _make(Graft, {"source" if key == "graft" else key: table[key] for key in table})
    return _make(Substitute, table)


_T = TypeVar("_T")


def _make(kind: type[_T], table: Mapping[str, Any]) -> _T:
    """Return a *kind* from a table whose keys are its field names with dashes."""
    values: dict[str, Any] = {}
    for key, value in table.items():
        if isinstance(value, list):
            values[key.replace("-", "_")] = tuple(value)
        elif isinstance(value, dict):
            values[key.replace("-", "_")] = _pairs(value)
        else:
            values[key.replace("-", "_")] = value
    return kind(**values)


def _pairs(table: Mapping[str, str]) -> tuple[tuple[str, str], ...]:
    return tuple(sorted(table.items()))


# What a stack says of things that are made already.
_NOT_FOLLOWED = frozenset({"audit"})


def followed(document: Mapping[str, Any]) -> dict[str, Any]:
    """Return what a lock follows from in a stack's *document*."""
    return {key: value for key, value in document.items() if key not in _NOT_FOLLOWED}


def inputs_of(document: Mapping[str, Any], files: Mapping[str, str]) -> dict[str, str]:
    """Return key path -> short digest of everything in a stack that a lock follows from.

    A lock keeps this table, so that a stale one can say which key moved. Tables with a `name` are
    addressed by it (`build.pycocotools.env.FOO`), others by their `path` or their
    place among the others, lists as a whole.

    Args:
        document: The stack file, parsed.
        files: Path below the stack's folder -> sha256, of what lies beside the stack file and is used.
    """
    values = {
        path: sha256_of(canonical_json(value))[:16] for path, value in input_values(followed(document))
    }
    return values | {f"file {path}": digest[:16] for path, digest in sorted(files.items())}


def input_values(table: Mapping[str, Any], prefix: str = "") -> Iterator[tuple[str, JsonValue]]:
    """Yield key path and value of everything in *table*; an empty table has none."""
    for key, value in sorted(table.items()):
        path = f"{prefix}{key}"
        if isinstance(value, dict):
            yield from input_values(value, f"{path}.")
        elif isinstance(value, list) and value and all(isinstance(v, dict) for v in value):
            for number, item in enumerate(value, 1):
                label = item.get("name") or item.get("path", number)
                yield from input_values(item, f"{path}.{label}.")
        else:
            yield path, _plain(value)


def _plain(value: Any) -> JsonValue:  # noqa: ANN401 - any TOML value
    """Return *value* in canonical JSON's types: a file edited since it was checked may hold a float or a date."""
    if isinstance(value, dict):
        return {key: _plain(entry) for key, entry in value.items()}
    if isinstance(value, list):
        return [_plain(entry) for entry in value]
    return value if isinstance(value, str | int) else f"{type(value).__name__} {value}"
