"""A Docker Engine of the tests' own: its images and containers go with it; no other is touched."""

from __future__ import annotations

import os
import shutil
import socket
import subprocess
import tempfile
import time
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

import docker
from docker.errors import DockerException

from lockbuild.process import find_tool, run
from tests.needs import missing, need

if TYPE_CHECKING:
    from collections.abc import Iterator

__all__ = ["private_engine"]

_START_S = 60
_STOP_S = 30


@contextmanager
def private_engine(folder: Path) -> Iterator[str]:
    """Run an engine that keeps everything below *folder*, without network, and give its DOCKER_HOST.

    Skips the test where the engine is not installed, or lockbuild's tests do not run as root.
    """
    need("dockerd", "containerd")
    if os.getuid() != 0:
        missing("a Docker Engine of one's own needs root")
    # The address of a socket holds 107 bytes, fewer than the tests' folders may need.
    short = Path(tempfile.mkdtemp(prefix="lockbuild-engine-"))
    host = f"unix://{short}/docker.sock"
    log = folder / "dockerd.log"
    folder.mkdir(parents=True, exist_ok=True)
    with log.open("wb") as stream:
        engine = subprocess.Popen(_command(folder, short, host), stdout=stream, stderr=stream)
    try:
        _wait_for(engine, host, log)
        yield host
    finally:
        _stop(engine)
        _unmount(folder, short)
        shutil.rmtree(short, ignore_errors=True)
        shutil.rmtree(folder / "data", ignore_errors=True)


def _command(folder: Path, short: Path, host: str) -> list[str]:
    return [
        # However the tests end, the engine ends with them.
        *("setpriv", "--pdeathsig", "TERM", "--", str(find_tool("dockerd"))),
        *("--config-file", str(_empty_settings(short))),
        *("--data-root", str(folder / "data")),
        *("--exec-root", str(short / "exec")),
        *("--pidfile", str(short / "docker.pid")),
        *("--host", host),
        *("--bridge", "none", "--iptables=false", "--ip-forward=false"),
    ]


def _empty_settings(short: Path) -> Path:
    settings = short / "daemon.json"
    settings.write_text("{}\n", encoding="utf-8")
    return settings


def _wait_for(engine: subprocess.Popen[bytes], host: str, log: Path) -> None:
    deadline = time.monotonic() + _START_S
    while time.monotonic() < deadline and engine.poll() is None:
        if _answers(host.removeprefix("unix://")):
            return
        time.sleep(0.1)
    last = log.read_text(encoding="utf-8", errors="replace").splitlines()[-3:]
    missing(f"the Docker Engine does not start here: {' / '.join(last)}")


def _answers(address: str) -> bool:
    # The SDK leaves open each socket that could not connect, so it is not what asks.
    with socket.socket(socket.AF_UNIX) as knock:
        if knock.connect_ex(address) != 0:
            return False
    client = docker.DockerClient(base_url=f"unix://{address}")
    try:
        return bool(client.ping())
    except DockerException:
        return False
    finally:
        client.close()


def _stop(engine: subprocess.Popen[bytes]) -> None:
    engine.terminate()
    try:
        engine.wait(_STOP_S)
    except subprocess.TimeoutExpired:
        engine.kill()
        engine.wait()


def _unmount(*folders: Path) -> None:
    # An engine that was killed leaves its mounts, and a folder with mounts cannot be removed.
    mounts = Path("/proc/self/mounts").read_text(encoding="utf-8").splitlines()
    for place in sorted((line.split()[1] for line in mounts), reverse=True):
        if any(place.startswith(f"{folder}/") for folder in folders):
            run(["umount", "--lazy", place])
