"""Docker Engines: which one to use, and a private one where there is none."""

from __future__ import annotations

import os
import shutil
import socket
import subprocess
import tempfile
import time
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import docker
from docker.context import ContextAPI
from docker.errors import DockerException
from docker.tls import TLSConfig

from lockbuild.errors import ToolMissing
from lockbuild.image import Engine
from lockbuild.process import clean_env, find_tool, home_folder, install_hint, need_tool

if TYPE_CHECKING:
    from collections.abc import Iterator

__all__ = ["connect", "find_engine", "own_engine"]

_PROBE_S = 10
_LONG_S = 3600
_START_S = 60
_STOP_S = 30


def connect(engine: Engine, *, timeout_s: int = _LONG_S) -> docker.DockerClient:
    """Return a client of *engine*, to be closed by the caller (`with closing(…)`)."""
    return _client(engine.host, engine.certificates, timeout_s)


def find_engine() -> Engine:
    """Return the engine that Docker's own client would use, or the first standard one that answers.

    DOCKER_HOST decides alone where it is set; then the current Docker context; then the sockets of an
    engine run by root and of one run by this user.

    Raises:
        ToolMissing: None answers; the details say what each said.
    """
    said: list[str] = []
    for host, certificates in dict.fromkeys(_addresses()):
        try:
            return _probe(host, certificates)
        # The SDK lets out what Python says of a port that is no number.
        except (DockerException, OSError, ValueError) as error:
            said.append(f"{host}: {_reason(error)}")
    raise ToolMissing("no Docker Engine answers", details=tuple(said), hint=_hint(said))


def _addresses() -> Iterator[tuple[str, Path | None]]:
    if os.environ.get("DOCKER_HOST"):
        folder = os.environ.get("DOCKER_CERT_PATH") or home_folder() / ".docker"
        yield (
            os.environ["DOCKER_HOST"],
            Path(folder) if os.environ.get("DOCKER_TLS_VERIFY") else None,
        )
        return
    context = _current_context()
    if context is not None:
        yield context
    yield "unix:///var/run/docker.sock", None
    if os.environ.get("XDG_RUNTIME_DIR"):
        yield f"unix://{os.environ['XDG_RUNTIME_DIR']}/docker.sock", None


def _current_context() -> tuple[str, Path | None] | None:
    try:
        context: Any = ContextAPI.get_context(os.environ.get("DOCKER_CONTEXT") or None)
    except (DockerException, OSError, ValueError):
        return None  # a broken client configuration must not hide the standard socket
    if not context or not context.Host:
        return None
    tls = getattr(context.TLSConfig, "ca_cert", None)
    # The SDK says `http+unix`, Docker's own client `unix`.
    return context.Host.replace("http+unix://", "unix://"), Path(tls).parent if tls else None


def _client(host: str, certificates: Path | None, timeout_s: int) -> docker.DockerClient:
    if certificates is None:
        return docker.DockerClient(base_url=host, timeout=timeout_s)
    pair = (str(certificates / "cert.pem"), str(certificates / "key.pem"))
    tls = TLSConfig(client_cert=pair, ca_cert=str(certificates / "ca.pem"), verify=True)
    return docker.DockerClient(base_url=host, tls=tls, timeout=timeout_s)


def _probe(host: str, certificates: Path | None) -> Engine:
    if host.startswith("unix://"):
        # The SDK's constructor leaves its socket open when nothing answers.
        with socket.socket(socket.AF_UNIX) as probe:
            probe.settimeout(_PROBE_S)
            probe.connect(host.removeprefix("unix://"))
    client = _client(host, certificates, _PROBE_S)
    try:
        facts = client.info()
    finally:
        client.close()
    root = str(facts["DockerRootDir"])
    local = host.startswith("unix:") and Path(root).is_dir()
    return Engine(
        host=host,
        version=str(facts["ServerVersion"]),
        storage_driver=str(facts["Driver"]),
        root=root,
        certificates=certificates,
        free=shutil.disk_usage(root).free if local else None,
    )


def _reason(error: Exception) -> str:
    """Return what the operating system said below the layers of HTTP libraries."""
    text = str(error)
    known = ("Permission denied", "No such file or directory", "Connection refused", "timed out")
    first = next(iter(text.splitlines()), type(error).__name__)
    return next((words.lower() for words in known if words in text), first)


def _hint(said: list[str]) -> str:
    if any("permission denied" in line for line in said):
        return "this user may not use the socket: add it to the group `docker`, or run as root"
    if find_tool("dockerd") is None:
        return f"{install_hint('dockerd')}; or set DOCKER_HOST to an engine elsewhere"
    return "start it: `systemctl start docker` (or `dockerd` as root), or set DOCKER_HOST"


# ---- an engine of one's own -----------------------------------------------------------------------


@contextmanager
def own_engine(folder: Path) -> Iterator[Engine]:
    """Run a private engine for the time of the block: own images, own socket, no network at all.

    Args:
        folder: Where its images and its log lie; made if need be, kept afterwards.

    Raises:
        ToolMissing: `dockerd` is absent, may not be started, or does not come up.
    """
    dockerd = need_tool("dockerd", purpose="an engine of one's own")
    if os.geteuid() != 0:
        raise ToolMissing(
            "a private Docker Engine needs root", hint="run as root, or start Docker's rootless engine"
        )
    folder.mkdir(parents=True, exist_ok=True)
    # The name of a socket holds 107 bytes at most, and the engine puts further ones below its own.
    with tempfile.TemporaryDirectory(prefix="lockbuild-", dir="/tmp") as short:
        host = f"unix://{short}/docker.sock"
        log = folder / "dockerd.log"
        with log.open("ab") as output:
            daemon = subprocess.Popen(
                _daemon_command(dockerd, folder.resolve(), Path(short), host),
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=subprocess.STDOUT,
                env=clean_env() | {"PATH": f"{os.environ.get('PATH', '')}:/usr/sbin:/sbin"},
                start_new_session=True,
            )
        try:
            yield _await(daemon, host, log)
        finally:
            _stop(daemon)


def _daemon_command(dockerd: Path, folder: Path, short: Path, host: str) -> list[str]:
    # The machine's own daemon.json may name options that are given here, which dockerd refuses.
    configuration = short / "daemon.json"
    configuration.write_text("{}\n", encoding="utf-8")
    # Should lockbuild be killed, the kernel ends the engine.
    guard = find_tool("setpriv")
    return [
        *([str(guard), "--pdeathsig", "TERM"] if guard else []),
        str(dockerd),
        f"--config-file={configuration}",
        f"--data-root={folder / 'root'}",
        f"--exec-root={short / 'exec'}",
        f"--pidfile={short / 'pid'}",
        f"--host={host}",
        "--bridge=none",
        "--iptables=false",
        "--ip6tables=false",
        "--ip-forward=false",
        "--ip-masq=false",
    ]


def _await(daemon: subprocess.Popen[bytes], host: str, log: Path) -> Engine:
    deadline = time.monotonic() + _START_S
    while daemon.poll() is None and time.monotonic() < deadline:
        try:
            return _probe(host, None)
        except (DockerException, OSError):
            time.sleep(0.1)
    tail = log.read_text(encoding="utf-8", errors="replace").splitlines()[-5:]
    raise ToolMissing(
        "a private Docker Engine does not come up", details=tuple(tail), hint=f"its log: {log}"
    )


def _stop(daemon: subprocess.Popen[bytes]) -> None:
    daemon.terminate()
    try:
        daemon.wait(_STOP_S)
    except subprocess.TimeoutExpired:
        daemon.kill()
        daemon.wait()
