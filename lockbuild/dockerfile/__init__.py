"""The Dockerfile of a stack and the files beside it, as text. Pure: templates come in as text too.

Whoever assembles the build context puts beside them what the Dockerfile names: `rootfs/runtime.tar`,
`rootfs/toolchain.tar`, every wheel of the manifest below `wheels/`, the installer's wheel below `tools/`,
and each source of the image as `sources/NAME.tar`. Bill of materials and NOTICE are among the texts here, and the
bill's digest beside it: no label in the Dockerfile can have that, as only the store knows what makes it.
"""

from __future__ import annotations

import json
import posixpath
import re
from dataclasses import dataclass, field
from typing import TYPE_CHECKING
from unicodedata import category

from lockbuild.derivation import CONDA_FOLDER, PREFIX_TAR
from lockbuild.digest import sha256_of
from lockbuild.dockerfile.running import (
    PREFIX,
    RunSettings,
    base_env,
    base_of,
    labels_of,
    origin_of,
    set_env,
)
from lockbuild.documents import json_text
from lockbuild.errors import ImageError
from lockbuild.plan import EPOCH, INSTALLER, ROOTS, compilers, image_env, search_path
from lockbuild.preflight import FOLDER, PROGRAMS, entrypoint, preflight_texts
from lockbuild.stack.assets import image_paths

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

    from jinja2 import Environment

    from lockbuild.digest import Sha256
    from lockbuild.lock import Lock
    from lockbuild.stack import Asset, Image, Stack
    from lockbuild.wheelhouse import Manifest

__all__ = [
    "BILL_FOLDER",
    "BILL_LABEL",
    "PREFIX",
    "TEMPLATES",
    "AssetFile",
    "BundledAsset",
    "Contents",
    "RunSettings",
    "bill_name",
    "installer_wheel",
    "network_steps",
    "notice_name",
    "render",
    "render_context",
    "run_settings",
]

TEMPLATES = ("Dockerfile.j2", "dockerignore.j2", "macros.j2", *PROGRAMS)
"""Names of the templates that `render` wants."""

BILL_FOLDER = "/usr/share/sbom"
"""Where an image has its bill of materials and its NOTICE."""

BILL_LABEL = "io.lockbuild.sbom"
"""The image's label with the digest of its bill of materials."""

_UID = 1000

# Runs each check in a Python of its own, and ends with the first that fails, whose text is the last that is said.
_CHECKER = """\
import subprocess, sys
for check in sys.argv[1:]:
    print(check, flush=True)
    subprocess.run([sys.executable, "-c", check], check=True)
"""

# What is written without quotes. The stack file is checked already; but a Dockerfile that one value
# could break out of is worth a second lock on the door.
_FORMS = {
    "command": re.compile(r"(/(?!\.\.?(/|$))[A-Za-z0-9._+-]+)+|[A-Za-z0-9._+-]+"),
    "asset": re.compile(r"(?!/)(?!.*(^|/)\.\.?(/|$))[A-Za-z0-9._/+-]+"),
    "module": re.compile(r"[^\W\d]\w*(\.[^\W\d]\w*)*"),
    "path": re.compile(r"/[A-Za-z0-9._/+-]*"),
    "user": re.compile(r"[a-z_][a-z0-9_-]{0,31}"),
    "variable": re.compile(r"[A-Za-z_][A-Za-z0-9_]*"),
    "version": re.compile(r"3\.\d+"),
    "wheel": re.compile(r"[A-Za-z0-9][A-Za-z0-9._+!-]*\.whl"),
    "word": re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]*"),
}


@dataclass(frozen=True, slots=True, kw_only=True)
class AssetFile:
    """A file that the image is given."""

    context: str
    """Where it lies below `assets/NAME`; empty where that is the file itself."""
    path: str
    """Where it goes in the image."""
    size: int
    sha256: Sha256


@dataclass(frozen=True, slots=True, kw_only=True)
class BundledAsset:
    """An asset that lies in the build context."""

    name: str
    files: tuple[AssetFile, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Contents:
    """What a build context holds, which only the store tells."""

    manifest: Manifest
    bill: str
    """The bill of materials: CycloneDX."""
    notice: str
    """Licences, and the texts that go along with them."""
    assets: tuple[BundledAsset, ...] = ()
    sources: Mapping[str, Sha256] = field(default_factory=dict)
    """Name of each source of the image -> hash of its tree's listing."""


@dataclass(frozen=True, slots=True, kw_only=True)
class _Asset:
    """An asset of the image."""

    name: str
    files: tuple[tuple[str, str], ...]
    """Where each file lies below `assets/NAME`, empty for the file itself, and where it goes in the image."""


@dataclass(frozen=True, slots=True, kw_only=True)
class _Source:
    """A source of the image."""

    name: str
    path: str
    origin: str
    """Where it is from, in one word."""
    owner: int
    """Whose its files are."""
    folders: tuple[str, ...]
    """Folders inside it that are its owner's although it may have none such: those of assets."""
    workdir: str
    """The image's working directory, where it is this source or inside it."""


@dataclass(frozen=True, slots=True, kw_only=True)
class _Account:
    """The user that the image runs as."""

    name: str
    uid: int
    home: str


def run_settings(stack: Stack, lock: Lock) -> RunSettings:
    """Return the configuration that the Dockerfile of *stack* gives an image."""
    account = _account(stack.image)
    return RunSettings(
        env=tuple(sorted({**base_env(lock), **dict(set_env(stack, lock))}.items())),
        labels=tuple(labels_of(stack, lock)),
        user=f"{account.uid}:{account.uid}" if account else "",
        workdir=stack.image.workdir,
        entrypoint=entrypoint(stack.image.entrypoint),
        command=stack.image.command,
        account=(account.name, account.uid) if account else None,
    )


def bill_name(stack: Stack) -> str:
    """Return the file name of the bill of materials, by whose end scanners know it."""
    return f"{stack.name}.cdx.json"


def notice_name(stack: Stack) -> str:
    """Return the file name of the NOTICE beside it."""
    return f"{stack.name}.NOTICE"


def installer_wheel(lock: Lock) -> str:
    """Return the file name of the wheel below `tools/`: the locked pip of the unnamed build environment.

    Raises:
        ImageError: The lock has none.
    """
    for package in dict(lock.build).get("", ()):
        if package.name == INSTALLER and package.wheel:
            return package.wheel.filename
    raise ImageError(
        f"the lock has no wheel of `{INSTALLER}` in its build environment, which installs the others",
        hint="resolve the stack again",
    )


def render(stack: Stack, lock: Lock, *, templates: Mapping[str, str]) -> dict[str, str]:
    """Return file name -> text of what stands beside the stack file: the same text for the same values.

    It follows from stack and lock alone, so that it can be rendered, compared and reviewed where nothing is
    built, and while parts of the lock are open.

    Args:
        templates: Name -> text of each of `TEMPLATES`.

    Raises:
        ImageError: A template is missing or wrong, or a value of the stack cannot be written down.
    """
    values = _values(stack, lock)
    return {
        "Dockerfile": _rendered("Dockerfile.j2", values, templates),
        "docker-bake.json": json_text(_bake(stack)),
    }


def render_context(
    stack: Stack, lock: Lock, contents: Contents, *, templates: Mapping[str, str]
) -> dict[str, str]:
    """Return file name -> every text of the build context: those of `render`, and what names its contents.

    Raises:
        ImageError: As `render` does.
    """
    files = [file for asset in contents.assets for file in asset.files]
    return {
        **render(stack, lock, templates=templates),
        ".dockerignore": _rendered("dockerignore.j2", _values(stack, lock), templates),
        "wheels.txt": _wheels(contents.manifest),
        **({"sources.txt": _trees(stack, contents.sources)} if stack.placed else {}),
        f"sbom/{bill_name(stack)}": contents.bill,
        f"sbom/{notice_name(stack)}": contents.notice,
        # `docker buildx bake` reads it after docker-bake.json, without being told to.
        "docker-bake.override.json": json_text(_bake_override(contents.bill)),
        **preflight_texts(
            stack,
            templates=templates,
            assets=[(file.path, file.size, file.sha256) for file in files],
        ),
    }


def _rendered(name: str, values: Mapping[str, object], templates: Mapping[str, str]) -> str:
    from jinja2 import TemplateError  # noqa: PLC0415 - only rendering needs it

    try:
        return _environment(templates).get_template(name).render(values)
    except TemplateError as error:
        place = f"{getattr(error, 'name', None)}:{getattr(error, 'lineno', '?')}: "
        raise ImageError(
            f"a template cannot be rendered: {place if 'None' not in place else ''}{error}",
            hint="templates/ holds the ones that lockbuild comes with",
        ) from error


def _environment(templates: Mapping[str, str]) -> Environment:
    from jinja2 import DictLoader, Environment, StrictUndefined  # noqa: PLC0415 - as above

    environment = Environment(  # noqa: S701 - a Dockerfile is not HTML
        loader=DictLoader(dict(templates)),
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=True,
    )
    environment.filters |= {
        "json": _json_words,
        "quoted": _quoted,
    }
    return environment


def _values(stack: Stack, lock: Lock) -> dict[str, object]:
    installer = installer_wheel(lock)
    _check("wheel", (installer,), "tools/")
    _check("word", (stack.name,), "name")
    if stack.base.debian:
        _check("word", (stack.base.debian.suite,), "base.debian.suite")
    if stack.interpreter.image:
        _check("command", (stack.interpreter.image,), "interpreter.image")
    _check("version", (stack.target.python,), "target.python")
    _check("module", stack.imports, "preflight.imports")
    _check("path", (stack.image.workdir,), "image.workdir")
    assets = [_Asset(name=asset.name, files=_asset_files(asset)) for asset in stack.bundles]
    for asset in assets:
        _check("word", (asset.name,), "asset.name")
        _check("path", [path for _, path in asset.files], "asset.path")
        _check("asset", [context for context, _ in asset.files if context], "asset.members")
    for source in stack.placed:
        _check("word", (source.name,), "source.name")
        _check("path", (source.path,), "source.path")
    _check("variable", (name for name, _ in stack.env), "env")
    account = _account(stack.image)
    below = {root: lock.image(root) for root in ROOTS}
    toolchain = {
        "LANG": "C.UTF-8",
        **image_env(below["toolchain"]),
        "PATH": search_path(stack.interpreter, below["toolchain"]),
        "SOURCE_DATE_EPOCH": str(EPOCH),
        **compilers(stack.interpreter, {}),
    }
    return {
        "account": account,
        "assets": assets,
        "base": base_of(stack, lock),
        "base_env": sorted(base_env(lock).items()),
        "bill": bill_name(stack),
        "bill_folder": BILL_FOLDER,
        "bill_label": BILL_LABEL,
        "notice": notice_name(stack),
        "checker": _CHECKER,
        "conda": f"conda/{PREFIX_TAR}" if lock.conda and not stack.interpreter.conda else "",
        "conda_folder": CONDA_FOLDER,
        "conda_packages": lock.conda,
        "entrypoint": entrypoint(stack.image.entrypoint),
        "env": set_env(stack, lock),
        "epoch": EPOCH,
        "installer": installer,
        "labels": labels_of(stack, lock),
        "open": [part.label for part in lock.open_parts],
        "preflight": FOLDER,
        "sources": _sources(stack, lock, account),
        "prefix": PREFIX,
        "stack": stack,
        "python": _python(stack),
        "toolchain_env": sorted(toolchain.items()),
        "wheels": len(lock.runtime),
    }


def _asset_files(asset: Asset) -> tuple[tuple[str, str], ...]:
    """Return where each file of an asset lies below `assets/NAME`, empty for the file itself, and where it goes."""
    if not asset.members:
        return (("", asset.path),)
    return tuple(sorted((target, f"{asset.path}/{target}") for _, target in asset.members))


def _sources(stack: Stack, lock: Lock, account: _Account | None) -> list[_Source]:
    paths = [path for asset in stack.bundles for path in image_paths(asset.path, asset.members)]
    beside = {posixpath.dirname(path) for path in paths}
    workdir = posixpath.normpath(stack.image.workdir)
    found = []
    for source in stack.placed:
        owner = account.uid if account and source.writable else 0
        inside = f"{source.path}/"
        folders = sorted(folder for folder in beside if folder.startswith(inside)) if owner else []
        found.append(
            _Source(
                name=source.name,
                path=source.path,
                origin=origin_of(source, lock),
                owner=owner,
                folders=tuple(folders),
                workdir=workdir if f"{workdir}/".startswith(inside) else "",
            )
        )
    return found


def _python(stack: Stack) -> str:
    """Return the command that makes the virtual environment."""
    name = f"python{stack.target.python}"
    # An environment keeps where its Python was started: a link would lead an older one astray.
    if stack.interpreter.image:
        return stack.interpreter.image
    folder = stack.interpreter.folder
    return f"{folder}/bin/{name}" if folder else name


def _check(form: str, found: Sequence[str] | Iterator[str], key: str) -> None:
    for text in found:
        if not _FORMS[form].fullmatch(text):
            raise ImageError(f"`{key}`: found {text!r}, which is no {form} that a Dockerfile can hold")


def _account(image: Image) -> _Account | None:
    if image.user == "root":
        return None
    _check("user", (image.user,), "image.user")
    return _Account(name=image.user, uid=_UID, home=f"/home/{image.user}")


def _wheels(manifest: Manifest) -> str:
    """Return the wheels as requirements in pip's hash-checking mode, also those just built."""
    return "".join(
        f"{wheel.name}=={wheel.version} --hash=sha256:{wheel.sha256}\n" for wheel in manifest.wheels
    )


def _trees(stack: Stack, hashes: Mapping[str, Sha256]) -> str:
    """Return a line for each source of the image: hash of the tree's listing, name, and place."""
    return "".join(f"sha256:{hashes[s.name]}  {s.name}  {s.path}\n" for s in stack.placed)


def _bake(stack: Stack) -> dict[str, object]:
    runtime = {
        "context": ".",
        "dockerfile": "Dockerfile",
        "target": "runtime",
        "tags": [f"{stack.name}:latest"],
        "network": "none",
        "pull": False,
        "args": {"SOURCE_DATE_EPOCH": str(EPOCH)},
        "attest": ["type=provenance,disabled=true", "type=sbom,disabled=true"],
        "output": ["type=docker,rewrite-timestamp=true"],
    }
    test = {"inherits": ["runtime"], "target": "test", "tags": [], "output": ["type=cacheonly"]}
    return {
        "group": {"default": {"targets": ["runtime"]}},
        "target": {"runtime": runtime, "test": test},
    }


def _bake_override(bill: str) -> dict[str, object]:
    label = {BILL_LABEL: f"sha256:{sha256_of(bill.encode())}"}
    return {"target": {"runtime": {"labels": label}}}


# ---- quoting --------------------------------------------------------------------------------------


def _quoted(value: str) -> str:
    r"""Return *value* in double quotes, as ENV and LABEL read it: only `\`, `"` and `$` are special.

    Raises:
        ImageError: It has a line break or another control character, which no quoting can hold.
    """
    # Readers of Dockerfiles disagree on what ends a line, hence not `\n` alone.
    control = next((found for found in value if category(found) in {"Cc", "Cs", "Zl", "Zp"}), None)
    if control is not None:
        raise ImageError(f"a Dockerfile cannot hold {control!r} in the value {value!r}")
    return '"' + re.sub(r'([\\"$])', r"\\\1", value) + '"'


def _json_words(words: Sequence[str]) -> str:
    """Return an argument vector in exec form, on one line whatever the words hold."""
    # A reader that knows here-documents must not see one begin inside a string.
    return json.dumps(list(words), ensure_ascii=True).replace("<<", "\\u003c<")
