"""The second Python engine: pip-compile under the target's Python, to agree or disagree with uv.

Versions and graph are pip's own; file names and hashes of what it chose are then looked up with uv.
pip can only resolve for the machine it runs on: that one's C library decides which wheels it sees, not
the target's `glibc`. That every chosen version has a wheel for the target is checked afterwards, so a
newer version that pip would have taken on another machine is the one thing that can be missed.
"""

from __future__ import annotations

import json
import os
import re
import sys
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

from lockbuild.documents import toml_text
from lockbuild.errors import LockbuildError, ResolveError, ToolMissing
from lockbuild.process import clean_env, home_folder, run
from lockbuild.resolvers import default_index
from lockbuild.resolvers._compile import Compilation, Forced
from lockbuild.resolvers._configured import find_uv, tool_env, uv_settings
from lockbuild.resolvers._faults import fault_of, lines_of, unreachable, unreadable, yanked
from lockbuild.resolvers._python import answer_of, cutoff, index_names, parse_via, write_stub
from lockbuild.resolvers._router import serve_router

if TYPE_CHECKING:
    from collections.abc import Iterator

    from lockbuild.process import Completed
    from lockbuild.resolvers import PythonAnswer, PythonQuestion

__all__ = ["resolve"]

# pip has no overrides. The one place where every requirement of a package passes is the distribution's
# `iter_dependencies`, the same since pip 22.2; both of pip's readers of metadata have it.
_RUNNER = """\
import json, runpy, sys
overrides = json.load(open(sys.argv.pop(1), encoding="utf-8"))
if overrides:
    from pip._internal.metadata import get_default_environment
    from pip._internal.metadata.base import BaseDistribution
    from pip._vendor.packaging.requirements import Requirement
    from pip._vendor.packaging.utils import canonicalize_name
    get_default_environment()  # loads the reader that this pip uses
    def patch(kind):
        original = kind.iter_dependencies
        def iter_dependencies(self, extras=()):
            for requirement in original(self, extras):
                found = overrides.get(canonicalize_name(requirement.name))
                yield from [requirement] if found is None else map(Requirement, found)
        kind.iter_dependencies = iter_dependencies
    for kind in BaseDistribution.__subclasses__():
        patch(kind)
sys.argv[0] = "piptools"
runpy.run_module("piptools", run_name="__main__", alter_sys=True)
"""

# What lockbuild knows to work; `exclude-newer` needs a pip that can be told of it.
_LEAST_PIP = {False: 22, True: 26}
_HAS_PIP_TOOLS = """\
import sys
from importlib.metadata import version
def has(name, least):
    return [int(part) for part in version(name).split(".")[:2]] >= least
sys.exit(not (has("pip-tools", [7, 5]) and has("pip", [int(sys.argv[1]), 0])))
"""


def resolve(
    question: PythonQuestion, *, work: Path, interpreter: Path | None = None, offline: bool = False
) -> PythonAnswer:
    """Resolve *question* with pip-compile.

    Args:
        work: An empty folder for whatever the tools read and write.
        interpreter: Python of the target's version; none to look for one.
        offline: Refused, as pip keeps no index: uv can answer offline.

    Raises:
        ResolveError: There is no answer, or an index cannot be asked.
        ToolMissing: There is no Python of the target's version, or no pip-tools for it.
    """
    if offline:
        raise ResolveError("pip-tools cannot resolve offline", hint="resolve with the engine `uv`")
    found = (interpreter or _find_python(question.target.python)).absolute()
    least_pip = _LEAST_PIP[question.exclude_newer is not None]
    python = _pip_tools(found, work / "tools", least_pip=least_pip)
    folder = work / "pip-compile"
    folder.mkdir()
    stubs = {
        str(canonicalize_name(stub.name)): write_stub(stub, folder / "stubs") for stub in question.stubs
    }
    urls = {index.name: index.url for index in question.indexes}
    elsewhere = {name: urls[index] for name, index in index_names(question).items() if index}
    default = default_index()
    if not default.startswith(("http://", "https://")):
        raise ResolveError(
            f"pip-tools takes the default index by http only, found `{default}`",
            hint="resolve with the engine `uv`",
        )
    with serve_router(default=default, elsewhere=elsewhere, stubs=stubs) as router:
        ended = _pip_compile(question, python, folder, router)
    if ended.returncode:
        raise _pip_fault(ended, question, folder, router)
    pins, graph = parse_via((folder / "requirements.txt").read_text(encoding="utf-8"))
    pinned = replace(
        question,
        requirements=tuple(f"{name}=={version}" for name, version in sorted(pins.items())),
        constraints=(),
        overrides=(),
        preferences=(),
    )
    packages = _look_up(pinned, work / "files")
    return answer_of(question, packages, graph)


def _pip_compile(question: PythonQuestion, python: Path, folder: Path, router: str) -> Completed:
    overrides: dict[str, list[str]] = {}
    environment = question.target.marker_environment()
    for override in map(Requirement, question.overrides):
        if override.marker is None or override.marker.evaluate(environment):
            override.marker = None
            overrides.setdefault(canonicalize_name(override.name), []).append(str(override))
    direct = list(_overridden(question.requirements, overrides))
    _write(folder / "overrides.json", json.dumps(overrides))
    _write(folder / "runner.py", _RUNNER)
    _write(folder / "requirements.in", "".join(f"{line}\n" for line in direct))
    _write(folder / "constraints.txt", "".join(f"{line}\n" for line in question.constraints))
    # pip-compile prefers the pins of the file that it is about to overwrite.
    former = [f"{name}=={version}\n" for name, version in question.preferences]
    _write(folder / "requirements.txt", "".join(former))
    words = ["compile", "--no-config", "--index-url", router, "--resolver", "backtracking"]
    words += ["--no-header", "--annotation-style", "split", "--allow-unsafe", "--strip-extras"]
    words += ["--no-emit-index-url", "--no-emit-options", "--no-color", "-c", "constraints.txt"]
    words += ["--uploaded-prior-to", cutoff(question.exclude_newer)] if question.exclude_newer else []
    argv = (
        str(python),
        "runner.py",
        "overrides.json",
        *words,
        "-o",
        "requirements.txt",
        "requirements.in",
    )
    return run(argv, env=_pip_env(), cwd=folder)


def _overridden(requirements: tuple[str, ...], overrides: dict[str, list[str]]) -> Iterator[str]:
    for text in requirements:
        requirement = Requirement(text)
        for found in overrides.get(canonicalize_name(requirement.name), [text]):
            marked = requirement.marker and found != text
            yield f"{found} ; {requirement.marker}" if marked else found


def _pip_env() -> dict[str, str]:
    names = ("HOME", "NETRC", "TMPDIR", "XDG_CACHE_HOME", "PIP_CACHE_DIR", "PIP_CERT", "PIP_CLIENT_CERT")
    proxies = ("HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY", "http_proxy", "https_proxy", "all_proxy")
    env = clean_env(*names, *proxies, "PIP_RETRIES", "PIP_TIMEOUT", "PIP_DEFAULT_TIMEOUT")
    if certificate := tool_env().get("SSL_CERT_FILE"):
        env |= {"SSL_CERT_FILE": certificate}
        env.setdefault("PIP_CERT", certificate)
    # The router is on loopback, wherever the proxy may be.
    direct = [os.environ.get("no_proxy") or os.environ.get("NO_PROXY", ""), "127.0.0.1"]
    trusted = " ".join(uv_settings().get("allow-insecure-host", ()))
    return {
        **env,
        **({"PIP_TRUSTED_HOST": trusted} if trusted else {}),
        "no_proxy": ",".join(filter(None, direct)),
        "NO_PROXY": ",".join(filter(None, direct)),
        "PIP_CONFIG_FILE": os.devnull,
        "PIP_DISABLE_PIP_VERSION_CHECK": "1",
        "PIP_NO_INPUT": "1",
        "PIP_ONLY_BINARY": ":all:",
        "PIP_USE_FEATURE": "fast-deps",
        "PYTHONNOUSERSITE": "1",
    }


def _look_up(pinned: PythonQuestion, folder: Path) -> tuple[dict[str, object], ...]:
    """Return name, version and wheels of every pin, as uv finds them for the target."""
    names = frozenset(name for name, index in index_names(pinned).items() if index)
    forced = Forced(names=names & {canonicalize_name(Requirement(r).name) for r in pinned.requirements})
    compilation = Compilation.prepare(pinned, folder, interpreter=None, offline=False, forced=forced)
    ended = compilation.lock("--no-deps")
    if ended.returncode or yanked(ended):
        raise fault_of(ended, pinned, folder=compilation.folder)
    return compilation.packages()


# ---- the interpreter and its pip-tools ---------------------------------------------------------------


def _find_python(version: str) -> Path:
    for candidate in _candidates(version):
        if _version_of(candidate) == version:
            return candidate
    raise ToolMissing(
        f"there is no Python {version} on this machine; pip-tools resolves under the target's own",
        hint=f"install it (`uv python install {version}`), or resolve with the engine `uv` alone",
    )


def _candidates(version: str) -> Iterator[Path]:
    yield Path(sys.executable)
    for folder in os.get_exec_path():
        if (found := Path(folder) / f"python{version}").is_file():
            yield found
    # pyenv's entries on PATH work only for the version chosen there; all that it has lies here.
    pyenv = Path(os.environ.get("PYENV_ROOT") or home_folder() / ".pyenv")
    yield from sorted(pyenv.glob(f"versions/{version}.*/bin/python{version}"))
    words = ("python", "find", version, "--system", "--no-python-downloads", "--no-project")
    yield from map(Path, run((find_uv(), *words), env=tool_env(), cwd=Path("/")).stdout.split("\n")[:1])


def _version_of(python: Path) -> str | None:
    program = "import sys; print('%d.%d' % sys.version_info[:2], sys.implementation.name)"
    try:
        ended = run((python, "-I", "-c", program), env=clean_env("HOME", "PYENV_ROOT"))
    except ToolMissing:
        return None
    version, _, implementation = ended.stdout.strip().partition(" ")
    return version if implementation == "cpython" else None


def _pip_tools(interpreter: Path, folder: Path, *, least_pip: int) -> Path:
    """Return *interpreter* if it has pip-tools, else that of a new environment below *folder*."""
    asked = (interpreter, "-I", "-c", _HAS_PIP_TOOLS, str(least_pip))
    if run(asked, env=clean_env("HOME")).returncode == 0:
        return interpreter
    folder.mkdir()
    settings = folder / "uv.toml"
    settings.touch(mode=0o600)
    settings.write_text(toml_text(uv_settings()), encoding="utf-8")
    python = folder / "venv/bin/python"
    uv, options = find_uv(), ("--config-file", str(settings), "--no-progress", "--color", "never")
    steps: tuple[tuple[str | Path, ...], ...] = (
        (uv, "venv", *options, "--no-project", "--python", str(interpreter), str(folder / "venv")),
        (
            uv,
            "pip",
            "install",
            *options,
            "--python",
            str(python),
            "--only-binary",
            ":all:",
            "pip-tools>=7.5",
        ),
    )
    for step in steps:
        ended = run(step, env=tool_env(), cwd=folder)
        if ended.returncode:
            raise ToolMissing(
                f"pip-tools cannot be installed for {interpreter}",
                details=lines_of(ended.stderr, folder),
                hint="check the default index, or resolve with the engine `uv` alone",
            )
    return python


# ---- faults ------------------------------------------------------------------------------------------


def _pip_fault(ended: Completed, question: PythonQuestion, folder: Path, router: str) -> LockbuildError:
    text = (ended.stderr + ended.stdout).replace(router, "the index")
    # pip-compile lets pip's exceptions through: their last line alone says something.
    text = re.sub(r"Traceback \(most recent call last\):\n(?:[ \t].*\n|\n)*", "", text)
    text = re.sub(r"\n(?:During handling of|The above exception was) .*\n", "\n", text)
    details = lines_of(text, folder)
    if failed := re.search(r"NetworkConnectionError: .*?(\w+://\S+)", text):
        return unreachable(failed[1], question, details)
    if "JSONDecodeError" in text:
        return unreadable(default_index(), details)
    if "uploaded-prior-to" in text and re.search("No such option|requires pip", text):
        return ResolveError(
            f"pip-tools for Python {question.target.python} does not know `exclude-newer`",
            hint="resolve with the engine `uv` alone",
        )
    if "upload-time metadata" in text:
        return ResolveError(
            f"`exclude-newer = {question.exclude_newer}`: an index tells pip no upload times",
            details=details,
            hint="name a mirror that does, drop `exclude-newer`, or resolve with the engine `uv` alone",
        )
    absent = re.search(r"No matching distribution found for ([\w.-]+(?:\[[^]]*\])?[^\s;(]*)", text)
    if absent:
        # pip says the same of a package that is missing, yanked, too new, made for another machine, or
        # behind an index that does not answer. uv tells these apart.
        alone = replace(question, requirements=(absent[1],), overrides=(), preferences=())
        _look_up(alone, folder / "fault")
        return ResolveError(
            f"pip finds no version that fits `{absent[1]}`",
            details=details,
            hint="resolve with the engine `uv` alone, which finds one",
        )
    return ResolveError(
        "the requirements cannot be met together",
        details=details,
        hint="loosen one of the requirements above, or say which is right in `overrides`",
    )


def _write(path: Path, text: str) -> None:
    path.write_text(text, encoding="utf-8")
