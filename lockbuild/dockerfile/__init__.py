"""The Dockerfile of a stack and the files beside it, as text. Pure: templates come in as text too.

Whoever assembles the build context puts beside them what the Dockerfile names: `rootfs/runtime.tar`,
`rootfs/toolchain.tar`, every wheel of the manifest below `wheels/`, and the installer's wheel below
`tools/`.
"""

from __future__ import annotations

import json
import re
from dataclasses import dataclass
from typing import TYPE_CHECKING
from unicodedata import category

from lockbuild.derivation import INTERPRETER_FOLDER
from lockbuild.digest import canonical_json, sha256_of
from lockbuild.documents import json_text
from lockbuild.errors import ImageError
from lockbuild.plan import EPOCH, INSTALLER, ROOTS, compilers, image_env, search_path
from lockbuild.preflight import FOLDER, PROGRAMS, entrypoint, preflight_texts

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

    from jinja2 import Environment

    from lockbuild.digest import JsonValue, Sha256
    from lockbuild.lock import Lock
    from lockbuild.stack import Image, Stack
    from lockbuild.wheelhouse import Manifest

__all__ = [
    "PREFIX",
    "TEMPLATES",
    "AssetFile",
    "BundledAsset",
    "installer_wheel",
    "network_steps",
    "render",
]

TEMPLATES = ("Dockerfile.j2", "dockerignore.j2", "macros.j2", *PROGRAMS)
"""Names of the templates that `render` wants."""

PREFIX = "/opt/venv"
"""The virtual environment in the image."""

_PATH = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
_UID = 1000

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
class _Account:
    """The user that the image runs as."""

    name: str
    uid: int
    home: str


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


def render(
    stack: Stack,
    lock: Lock,
    manifest: Manifest,
    *,
    templates: Mapping[str, str],
    assets: Sequence[BundledAsset] = (),
) -> dict[str, str]:
    """Return file name -> text of what stands beside the wheels: the same text for the same values.

    Args:
        templates: Name -> text of each of `TEMPLATES`.
        assets: What the image brings beside its packages, and its preflight is to look for.

    Raises:
        ImageError: A template is missing or wrong, or a value of the stack cannot be written down.
    """
    from jinja2 import TemplateError  # noqa: PLC0415 - only rendering needs it

    values = _values(stack, lock, manifest, assets)
    environment = _environment(templates)
    try:
        dockerfile = environment.get_template("Dockerfile.j2").render(values)
        dockerignore = environment.get_template("dockerignore.j2").render(values)
    except TemplateError as error:
        place = f"{getattr(error, 'name', None)}:{getattr(error, 'lineno', '?')}: "
        raise ImageError(
            f"a template cannot be rendered: {place if 'None' not in place else ''}{error}",
            hint="templates/ holds the ones that lockbuild comes with",
        ) from error
    return {
        ".dockerignore": dockerignore,
        "Dockerfile": dockerfile,
        "docker-bake.json": json_text(_bake(stack)),
        "wheels.txt": _wheels(manifest),
        **preflight_texts(
            stack,
            templates=templates,
            assets=[(file.path, file.size, file.sha256) for asset in assets for file in asset.files],
        ),
    }


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


def _values(
    stack: Stack, lock: Lock, manifest: Manifest, assets: Sequence[BundledAsset]
) -> dict[str, object]:
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
    for asset in assets:
        _check("word", (asset.name,), "asset.name")
        _check("path", [file.path for file in asset.files], "asset.path")
        _check("asset", [file.context for file in asset.files if file.context], "asset.members")
    _check("variable", (name for name, _ in stack.env), "env")
    account = _account(stack.image)
    below = {root: lock.image(root) for root in ROOTS}
    common = {"LANG": "C.UTF-8", **image_env(below["runtime"]), "PATH": _path(lock)}
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
        "base": _base(stack, lock),
        "base_env": sorted(common.items()),
        "entrypoint": entrypoint(stack.image.entrypoint),
        "env": _image_env(stack, lock),
        "epoch": EPOCH,
        "installer": installer,
        "labels": _labels(stack, lock, manifest, assets),
        "manifest": manifest,
        "preflight": FOLDER,
        "prefix": PREFIX,
        "stack": stack,
        "python": _python(stack),
        "toolchain_env": sorted(toolchain.items()),
    }


def _python(stack: Stack) -> str:
    """Return the command that makes the virtual environment."""
    name = f"python{stack.target.python}"
    # An environment keeps where its Python was started: a link would lead an older one astray.
    if stack.interpreter.image:
        return stack.interpreter.image
    return f"{INTERPRETER_FOLDER}/bin/{name}" if stack.interpreter.standalone else name


def _check(form: str, found: Sequence[str] | Iterator[str], key: str) -> None:
    for text in found:
        if not _FORMS[form].fullmatch(text):
            raise ImageError(f"`{key}`: found {text!r}, which is no {form} that a Dockerfile can hold")


def _account(image: Image) -> _Account | None:
    if image.user == "root":
        return None
    _check("user", (image.user,), "image.user")
    return _Account(name=image.user, uid=_UID, home=f"/home/{image.user}")


def _path(lock: Lock) -> str:
    image = lock.image("runtime")
    return (image.path if image else "") or _PATH


def _base(stack: Stack, lock: Lock) -> str:
    """Return what the image stands on, in words: an archive, or an image by its digest."""
    if base := stack.base.debian:
        return " ".join((base.vendor, base.suite, *base.components, base.snapshot or "")).strip()
    image = lock.image("runtime")
    return f"{image.reference}@{image.digest}" if image else ""


def _image_env(stack: Stack, lock: Lock) -> list[tuple[str, str]]:
    own = dict(stack.env)
    variables = {"PATH": f"{PREFIX}/bin:{own.get('PATH', _path(lock))}", "VIRTUAL_ENV": PREFIX}
    if stack.target.cuda:
        # What NVIDIA's container runtime looks at; without it the image has no GPU.
        variables |= {"NVIDIA_DRIVER_CAPABILITIES": "compute,utility", "NVIDIA_VISIBLE_DEVICES": "all"}
    return sorted((variables | {name: own[name] for name in own if name != "PATH"}).items())


def _labels(
    stack: Stack, lock: Lock, manifest: Manifest, assets: Sequence[BundledAsset]
) -> list[tuple[str, str]]:
    wheels: list[JsonValue] = [[wheel.name, wheel.version, wheel.sha256] for wheel in manifest.wheels]
    debs: list[JsonValue] = [
        [deb.package, deb.version, deb.sha256] for deb in lock.debs if "runtime" in deb.roots
    ]
    labels = {
        "io.lockbuild.base": _base(stack, lock),
        "io.lockbuild.debs": f"sha256:{sha256_of(canonical_json(debs))}",
        "io.lockbuild.lock": f"sha256:{lock.digest}" if lock.digest else "",
        "io.lockbuild.python": stack.target.python,
        "io.lockbuild.stack": stack.name,
        "io.lockbuild.wheels": f"sha256:{sha256_of(canonical_json(wheels))}",
        "org.opencontainers.image.description": stack.summary,
        "org.opencontainers.image.title": stack.name,
    }
    if assets:
        files: list[JsonValue] = [[file.path, file.sha256] for asset in assets for file in asset.files]
        labels["io.lockbuild.assets"] = f"sha256:{sha256_of(canonical_json(files))}"
    if standalone := stack.interpreter.standalone:
        labels["io.lockbuild.interpreter"] = f"{standalone.filename} sha256:{standalone.sha256}"
    if stack.target.cuda:
        labels["io.lockbuild.cuda"] = stack.target.cuda
    return sorted((name, value.strip()) for name, value in labels.items() if value)


def _wheels(manifest: Manifest) -> str:
    """Return the wheels as requirements in pip's hash-checking mode, also those just built."""
    return "".join(
        f"{wheel.name}=={wheel.version} --hash=sha256:{wheel.sha256}\n" for wheel in manifest.wheels
    )


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
