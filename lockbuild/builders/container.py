"""Builds in containers of the Docker Engine, through its Python SDK, with `--network none`.

The toolchain is imported once as an image; the root file system is read-only and everything a build
writes lies in its scratch folder, so a container leaves nothing in the engine. The engine must run
on this machine, since folders are bound into containers; `DOCKER_HOST` is honoured. That a build tried
the network is seen as in the sandbox; who tried what is not, since a container descends from the
engine and not from lockbuild, so that only the log may tell.
"""

from __future__ import annotations

import hashlib
import os
import re
import shutil
import struct
import subprocess
import threading
import time
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import TYPE_CHECKING

import docker
from docker.errors import APIError, DockerException, ImageNotFound, NotFound
from docker.types import Mount

from lockbuild.builders import (
    HOME,
    HOSTNAME,
    INPUTS,
    OUT,
    SOURCE,
    TMP,
    UID,
    Scratch,
    judge,
    launch_arguments,
    prepare,
    pump,
    timed_out,
)
from lockbuild.errors import BuildError, ToolMissing
from lockbuild.process import install_hint, need_tool

if TYPE_CHECKING:
    import socket
    from collections.abc import Iterator

    from docker import DockerClient
    from docker.models.containers import Container

    from lockbuild.derivation import BuildOutcome, BuildTask

__all__ = ["ContainerBuilder"]

_REPOSITORY = "lockbuild-toolchain"
_LABEL = "lockbuild.build"
_SHARED_MEMORY = "1g"
# The engine switches IPv6 off in a container without network; then attempts would not be counted.
_SIXTH = {"net.ipv6.conf.all.disable_ipv6": "0", "net.ipv6.conf.lo.disable_ipv6": "0"}
_SIXTH_SWITCH = Path("/proc/sys/net/ipv6/conf/all/disable_ipv6")
_PATIENCE_S = 900  # importing a large toolchain answers nothing until it is done
# Run by uid 1000 when the build has ended, where lockbuild itself could not do it.
_GIVE_BACK = (
    f"find {OUT} {SOURCE} {HOME} {TMP} -mindepth 1 -type d -exec chmod a+rwx {{}} + ;"
    f"find {OUT} -type f -exec chmod a+r,ug-s {{}} +"
)
_FRAME = struct.Struct(">BxxxI")


class ContainerBuilder:
    """The engine for machines where user namespaces are not to be had.

    Args:
        docker_host: Address of the engine; none for `DOCKER_HOST` or the local default.
    """

    name = "container"

    def __init__(self, docker_host: str | None = None) -> None:
        self._docker_host = docker_host
        self._importing = threading.Lock()

    def probe(self) -> None:
        """Ask the engine for its version.

        Raises:
            ToolMissing: No engine answers.
            BuildError: It runs elsewhere, or its containers are not Linux's.
        """
        with self._client() as client:
            address = str(client.api.base_url)
            if not address.startswith("http+docker://localhost"):
                raise BuildError(
                    f"the Docker Engine at {address} is not on this machine, and cannot see its folders",
                    hint="unset DOCKER_HOST, or point it to a unix:// socket",
                )
            system = client.version().get("Os")
            if system != "linux":
                raise BuildError(f"the Docker Engine runs containers for `{system}`, not `linux`")

    def build(self, task: BuildTask) -> BuildOutcome:
        """Run *task* in a container of its own.

        Raises:
            ToolMissing: No engine answers.
            BuildError: The engine refuses the toolchain or the container.
        """
        scratch = prepare(task)
        _open_to_builder(scratch)
        with self._client() as client:
            try:
                image = self._toolchain(client, task)
                started = time.monotonic()
                ended = _run(client, image, task, scratch)
            except APIError as error:
                raise BuildError(
                    f"the Docker Engine refused build `{task.name}`: {error.explanation or error}"
                ) from error
        if not ended:
            return timed_out(task, started=started)
        _take_back(scratch)
        return judge(task, scratch, started=started)

    @contextmanager
    def _client(self) -> Iterator[DockerClient]:
        try:
            if self._docker_host is None:
                client = docker.from_env(timeout=_PATIENCE_S)
            else:
                client = docker.DockerClient(base_url=self._docker_host, timeout=_PATIENCE_S)
            client.ping()
        except DockerException as error:
            raise ToolMissing(
                f"no Docker Engine answers: {error}",
                hint=(
                    f"{install_hint('dockerd')}; start it; be in group `docker`; "
                    "or build with the sandbox engine"
                ),
            ) from error
        try:
            yield client
        finally:
            client.close()

    def _toolchain(self, client: DockerClient, task: BuildTask) -> str:
        """Return the name of the image that holds the toolchain; import it where it is not there."""
        if task.rootfs is None or task.rootfs_name is None:
            msg = f"build `{task.name}` has no toolchain to run in"
            raise ValueError(msg)
        image = f"{_REPOSITORY}:{_tag(task.rootfs_name)}"
        with self._importing:
            try:
                client.images.get(image)
            except ImageNotFound:
                _import(client, task.rootfs, image)
        return image


def _tag(name: str) -> str:
    # A tag may hold fewer characters than a name: the digest keeps what the replacing loses.
    readable = re.sub(r"[^A-Za-z0-9_.-]", "_", name)[:80].lstrip(".-")
    return f"{readable}-{hashlib.sha256(name.encode()).hexdigest()[:12]}"


def _import(client: DockerClient, rootfs: Path, image: str) -> None:
    tar = need_tool("tar", purpose="importing a toolchain into the Docker Engine")
    repository, _, tag = image.partition(":")
    # GNU tar keeps hard links and sparse files, which Python's tarfile would copy slowly.
    argv: list[str | Path] = [
        tar,
        "-C",
        rootfs,
        "--numeric-owner",
        "--owner=0",
        "--group=0",
        "-cf",
        "-",
        ".",
    ]
    with subprocess.Popen(argv, stdout=subprocess.PIPE, stderr=subprocess.PIPE) as packing:
        try:
            client.api.import_image_from_stream(packing.stdout, repository=repository, tag=tag)
            errors = packing.stderr.read() if packing.stderr else b""
        except BaseException:
            packing.kill()
            raise
    if packing.returncode != 0:
        client.images.remove(image)
        text = errors.decode(errors="replace").strip()
        raise BuildError(f"the toolchain cannot be read: {text}", hint="is all of it readable?")


def _run(client: DockerClient, image: str, task: BuildTask, scratch: Scratch) -> bool:
    """Run the container to its end, and tell whether it came to it in time."""
    container = _create(client, image, task, scratch)
    try:
        with _attached(client, container) as stream:
            container.start()
            ended = _copy(stream, task)
    except BaseException:
        _remove(container)
        raise
    if not ended:
        _remove(container)
    # The engine removes it; until then the scratch folder is in use.
    with suppress(NotFound):
        container.wait(condition="removed")
    return ended


def _create(client: DockerClient, image: str, task: BuildTask, scratch: Scratch) -> Container:
    inputs = ((f"{INPUTS}/{name}", path) for name, path in task.inputs)
    read_only = (*scratch.read_only, *inputs)
    mounts = [_bind(place, path, read_only=True) for place, path in read_only]
    mounts += [_bind(place, path, read_only=False) for place, path in scratch.writable]
    return client.containers.create(
        image,
        entrypoint=[],
        command=list(launch_arguments(task, finish=_GIVE_BACK if _is_stranger() else "")),
        auto_remove=True,  # by the engine, even if lockbuild has been killed
        cap_drop=["ALL"],
        hostname=HOSTNAME,
        ipc_mode="private",
        labels={_LABEL: task.name},
        mounts=mounts,
        network_mode="none",
        read_only=True,
        security_opt=["no-new-privileges"],
        shm_size=_SHARED_MEMORY,
        stdin_open=True,
        sysctls=_SIXTH if _SIXTH_SWITCH.exists() else {},
        tmpfs={"/sys": "ro,size=4k,mode=755"},
        user=f"{UID}:{UID}",
        working_dir=SOURCE,
    )


def _bind(place: str, path: Path, *, read_only: bool) -> Mount:
    # A "mount" of type bind fails where the source is absent; a "volume" would make an empty folder.
    return Mount(place, str(path.resolve()), type="bind", read_only=read_only)


@contextmanager
def _attached(client: DockerClient, container: Container) -> Iterator[socket.socket]:
    # Standard input is held open and never written to: when it closes, process 1 kills the build.
    # So a lockbuild that is killed leaves no build behind.
    parameters = {"stdin": 1, "stdout": 1, "stderr": 1, "stream": 1}
    attached = client.api.attach_socket(str(container.id), params=parameters)
    stream: socket.socket = getattr(attached, "_sock", attached)
    stream.settimeout(None)
    try:
        yield stream
    finally:
        attached.close()
        stream.close()


def _copy(stream: socket.socket, task: BuildTask) -> bool:
    """Copy the container's output to the log until it ends, and tell whether that came in time."""
    pending = bytearray()
    with task.log.open("wb", buffering=0) as log:

        def take(chunk: bytes) -> None:
            pending.extend(chunk)
            for text in _frames(pending):
                log.write(text)

        return pump(stream.fileno(), take, timeout_s=task.timeout_s)


def _frames(pending: bytearray) -> Iterator[bytes]:
    """Take the whole frames off *pending*: a byte of stream, three of nothing, four of length, text."""
    while len(pending) >= _FRAME.size:
        _, size = _FRAME.unpack_from(pending)
        end = _FRAME.size + size
        if len(pending) < end:
            return
        yield bytes(pending[_FRAME.size : end])
        del pending[:end]


def _remove(container: Container) -> None:
    with suppress(APIError):
        container.remove(force=True)


def _is_stranger() -> bool:
    """Tell whether what uid 1000 makes is neither lockbuild's own nor in its power."""
    return os.getuid() not in {0, UID}


def _open_to_builder(scratch: Scratch) -> None:
    for _, path in scratch.writable:
        if os.getuid() == 0:
            os.chown(path, UID, UID)
        elif _is_stranger():
            path.chmod(0o777 if path.is_dir() else 0o666)


def _take_back(scratch: Scratch) -> None:
    """Make the output lockbuild's own, so that both engines leave the same owner."""
    if _is_stranger():
        copy = scratch.out.with_name("out.own")
        try:
            shutil.copytree(scratch.out, copy, symlinks=True)
        except shutil.Error:
            return  # it holds a pipe or a socket, for which it will be rejected
        for folder, _, _ in os.walk(copy):
            Path(folder).chmod(0o755)
        shutil.rmtree(scratch.out)
        copy.rename(scratch.out)
    elif os.getuid() == 0:
        for _, path in scratch.writable:
            for folder, names, leaves in os.walk(path):
                for name in (*names, *leaves):
                    os.lchown(os.path.join(folder, name), 0, 0)
            os.lchown(path, 0, 0)
