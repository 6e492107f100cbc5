"""Which `docker` on this machine can build with BuildKit: each one is tried against the engine.

The Python SDK speaks only the classic builder, which has no `RUN --mount`. A client older than 23 has
BuildKit built in; a newer one needs the plug-in `buildx`.
"""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import tempfile
from contextlib import closing, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from docker.errors import DockerException, ImageNotFound

from lockbuild.errors import ToolMissing
from lockbuild.image.engine import connect
from lockbuild.process import clean_env, home_folder, install_hint, run

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping, Sequence

    from lockbuild.image import Engine

__all__ = ["BuildClient", "find_client"]

_FOLDERS = ("/usr/local/bin", "/usr/bin", "/bin", "/snap/bin", "/opt/homebrew/bin")
_TRIAL_S = 60
_BUILTIN_BELOW = 23
_BUSY = ": client or engine is busy, or hangs"


@dataclass(frozen=True, slots=True, kw_only=True)
class BuildClient:
    """A client that has built an image on the engine."""

    program: Path
    version: str
    buildx: bool
    env: Mapping[str, str]
    """Its whole environment."""

    def command(self, context: Path, iidfile: Path, options: Sequence[str]) -> list[str]:
        """Return the command that builds *context* without network or tag, and writes the image's id."""
        return [
            str(self.program),
            *(["buildx", "build", "--builder", "default", "--load"] if self.buildx else ["build"]),
            *(["--provenance=false", "--sbom=false"] if self.buildx else []),
            "--progress=plain",
            "--network=none",
            "--pull=false",
            f"--iidfile={iidfile}",
            *options,
            str(context),
        ]


@contextmanager
def find_client(engine: Engine, *, folders: Iterable[Path] | None = None) -> Iterator[BuildClient]:
    """Give the first client that can build on *engine*; its configuration is gone after the block.

    Args:
        folders: Where to look for clients; none for PATH and the usual places after it.

    Raises:
        ToolMissing: None can; the details say why each cannot.
    """
    with tempfile.TemporaryDirectory(prefix="lockbuild-docker-") as name:
        env = _environment(engine, Path(name))
        said: list[str] = []
        for program in _programs(_standard_folders() if folders is None else folders):
            found = _try(program, engine, env)
            if isinstance(found, BuildClient):
                yield found
                return
            said.append(f"{program}: {found}")
        again = "run the same command again when the machine has less to do\n"
        raise ToolMissing(
            "no Docker client on this machine can build with BuildKit",
            details=tuple(said) or ("`docker` is not installed",),
            hint=(again if any(line.endswith(_BUSY) for line in said) else "")
            + f"{install_hint('docker-buildx') if said else install_hint('docker')}"
            " (the plug-in is `docker-buildx-plugin` in Docker's own packages;"
            " clients older than 23 need none)",
        )


def _standard_folders() -> tuple[Path, ...]:
    names = (*os.environ.get("PATH", "").split(os.pathsep), *_FOLDERS)
    return tuple(Path(name) for name in names if name)


def _programs(folders: Iterable[Path]) -> Iterator[Path]:
    seen: set[Path] = set()
    for folder in folders:
        program = folder / "docker"
        real = program.resolve()
        if real not in seen and program.is_file() and os.access(program, os.X_OK):
            seen.add(real)
            yield program


def _environment(engine: Engine, folder: Path) -> dict[str, str]:
    """Return a client's environment: nothing of the user's configuration but where plug-ins are.

    That configuration could name another engine, or proxies that would become build arguments.
    """
    own = Path(os.environ.get("DOCKER_CONFIG") or home_folder() / ".docker")
    plugins = [str(own / "cli-plugins")] if (own / "cli-plugins").is_dir() else []
    configuration = {"cliPluginsExtraDirs": plugins} if plugins else {}
    (folder / "config.json").write_text(json.dumps(configuration), encoding="utf-8")
    extra = {"DOCKER_BUILDKIT": "1", "DOCKER_CONFIG": str(folder), "DOCKER_HOST": engine.host}
    if engine.certificates:
        extra |= {"DOCKER_CERT_PATH": str(engine.certificates), "DOCKER_TLS_VERIFY": "1"}
    # ssh:// engines are reached through the user's agent and known hosts.
    return clean_env("HOME", "SSH_AUTH_SOCK", **extra)


def _try(program: Path, engine: Engine, env: Mapping[str, str]) -> BuildClient | str:
    """Return *program* as a client once it has built an image, else why it cannot."""
    try:
        asked = run([program, "version", "--format", "{{.Client.Version}}"], env=env, timeout_s=_TRIAL_S)
        version = asked.stdout.strip()
        if not re.match(r"\d+\.", version):
            return f"does not tell its version: {_last_line(asked.stderr)}"
        buildx = run([program, "buildx", "version"], env=env, timeout_s=_TRIAL_S).returncode == 0
        if not buildx and int(version.partition(".")[0]) >= _BUILTIN_BELOW:
            return f"version {version} has no BuildKit of its own and the plug-in `buildx` is absent"
        client = BuildClient(program=program, version=version, buildx=buildx, env=env)
        fault = _trial(client, engine)
    except ToolMissing as error:
        return error.message
    except subprocess.TimeoutExpired:
        return f"did not build the smallest image within {_TRIAL_S} s{_BUSY}"
    return f"version {version} cannot build on this engine: {fault}" if fault else client


def _trial(client: BuildClient, engine: Engine) -> str | None:
    """Build the smallest image there is; return what went wrong, if anything did."""
    folder = Path(tempfile.mkdtemp(prefix="lockbuild-trial-"))
    try:
        (folder / "Dockerfile").write_text("FROM scratch\nCOPY Dockerfile /\n", encoding="utf-8")
        iidfile = folder / "id"
        ended = run(client.command(folder, iidfile, ()), env=client.env, timeout_s=_TRIAL_S)
        if ended.returncode:
            return _last_line(ended.stderr)
        image = iidfile.read_text(encoding="utf-8").strip()
        with closing(connect(engine)) as docker:
            docker.images.remove(image)
    except ImageNotFound:
        return "what it built is not on the engine"
    except (DockerException, OSError) as error:
        return str(error)
    finally:
        shutil.rmtree(folder, ignore_errors=True)
    return None


def _last_line(text: str) -> str:
    lines = [line for line in text.splitlines() if line.strip()]
    return lines[-1].strip() if lines else "it says nothing"
