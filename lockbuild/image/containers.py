"""Images that are there: what they are, what they hold, running them, and carrying them as files."""

from __future__ import annotations

import os
from contextlib import closing, contextmanager, suppress
from typing import TYPE_CHECKING, Any

from docker.errors import APIError, DockerException, ImageNotFound, NotFound
from docker.types import DeviceRequest, Mount
from requests.exceptions import ConnectionError as NoConnection
from requests.exceptions import RequestException, Timeout

from lockbuild.errors import ImageError
from lockbuild.image import ImageFacts
from lockbuild.image.engine import connect
from lockbuild.process import Completed

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping, Sequence
    from pathlib import Path

    import docker
    from docker.models.containers import Container

    from lockbuild.image import BindMount, Engine

__all__ = ["find", "inspect", "load", "run", "save", "saved"]

_BLOCK = 1 << 20


def inspect(ref: str, *, engine: Engine) -> ImageFacts:
    """Return what the engine says of an image.

    Raises:
        ImageError: The engine does not have it.
    """
    with _session(engine, ref) as docker:
        facts: dict[str, Any] = docker.images.get(ref).attrs
    config = facts["Config"] or {}
    return ImageFacts(
        id=facts["Id"],
        tags=tuple(sorted(facts.get("RepoTags") or ())),
        size=facts["Size"],
        layers=tuple(facts["RootFS"].get("Layers") or ()),
        labels=tuple(sorted((config.get("Labels") or {}).items())),
        env=tuple(_pair(text) for text in config.get("Env") or ()),
        user=config.get("User") or "",
        workdir=config.get("WorkingDir") or "",
        entrypoint=tuple(config.get("Entrypoint") or ()),
        command=tuple(config.get("Cmd") or ()),
        architecture=facts["Architecture"],
        created=facts.get("Created") or "",
    )


def find(ref: str, *, engine: Engine) -> ImageFacts | None:
    """Return what the engine says of an image; none when it does not have it."""
    with _session(engine, ref) as docker:
        known = {tag for image in docker.images.list() for tag in image.tags}
    return inspect(ref, engine=engine) if ref in known else None


def _pair(text: str) -> tuple[str, str]:
    name, _, value = text.partition("=")
    return name, value


@contextmanager
def _session(engine: Engine, ref: str) -> Iterator[docker.DockerClient]:
    """Give a client; what the engine refuses becomes an `ImageError` about *ref*."""
    try:
        with closing(connect(engine)) as docker:
            yield docker
    except ImageNotFound as error:
        raise ImageError(
            f"there is no image `{ref}` on the engine at {engine.host}",
            hint="`lockbuild image` builds the stack's; `docker images` lists those that are there",
        ) from error
    except APIError as error:
        said = str(error.explanation or error)
        # The engine's words where no NVIDIA runtime is registered with it.
        no_gpu = "could not select device driver" in said and "gpu" in said
        raise ImageError(
            f"image `{ref}`: {said}",
            hint="GPUs need the NVIDIA Container Toolkit on the engine's machine" if no_gpu else None,
        ) from error
    except (DockerException, RequestException) as error:
        raise ImageError(f"image `{ref}`: the engine at {engine.host}: {error}") from error


@contextmanager
def _container(docker: docker.DockerClient, ref: str, **options: Any) -> Iterator[Container]:  # noqa: ANN401
    """Give a container that was created and not started; it is gone after the block."""
    container = docker.containers.create(ref, **options)
    try:
        yield container
    finally:
        with suppress(NotFound):
            container.remove(force=True, v=True)


def run(  # noqa: PLR0913 - each says another thing about the container
    ref: str,
    command: Sequence[str] = (),
    *,
    engine: Engine,
    network: str = "none",
    env: Mapping[str, str] | None = None,
    mounts: Iterable[BindMount] = (),
    entrypoint: Sequence[str] | None = None,
    user: str | None = None,
    gpus: bool = False,
    timeout_s: float | None = None,
) -> Completed:
    """Run a command in a new container of an image and return what it printed; failing is no exception.

    Args:
        command: None for the image's own.
        network: Name of an engine's network; `none` for none at all.
        env: Variables beside the image's.
        entrypoint: In place of the image's own; an empty one runs *command* itself.
        gpus: Whether the container gets all GPUs of the engine's machine.

    Raises:
        ImageError: There is no such image, the command cannot be started, or it takes too long.
    """
    options: dict[str, Any] = {
        "command": list(command) or None,
        "network_mode": network,
        "environment": dict(env or {}),
        "mounts": [
            Mount(mount.target, str(mount.source), type="bind", read_only=not mount.writable)
            for mount in mounts
        ],
        "stdin_open": False,
    }
    if entrypoint is not None:
        # The engine takes an empty string for "no entry point", an empty list for "the image's".
        options["entrypoint"] = list(entrypoint) or ""
    if user is not None:
        options["user"] = user
    if gpus:
        options["device_requests"] = [DeviceRequest(count=-1, capabilities=[["gpu"]])]
    with _session(engine, ref) as docker, _container(docker, ref, **options) as container:
        container.start()
        try:
            status = container.wait(timeout=timeout_s)["StatusCode"]
        except (NoConnection, Timeout) as error:
            raise ImageError(
                f"image `{ref}`: `{' '.join(command)}` did not end within {timeout_s} s"
            ) from error
        return Completed(
            argv=tuple(command),
            returncode=status,
            stdout=container.logs(stdout=True, stderr=False).decode(errors="replace"),
            stderr=container.logs(stdout=False, stderr=True).decode(errors="replace"),
        )


@contextmanager
def saved(ref: str, *, engine: Engine) -> Iterator[Iterator[bytes]]:
    """Give the blocks of what `docker save` would write of an image.

    Raises:
        ImageError: The engine does not have the image.
    """
    with _session(engine, ref) as docker:
        yield docker.images.get(ref).save(chunk_size=_BLOCK)


def save(ref: str, file: Path, *, engine: Engine) -> None:
    """Write an image as a file that `docker load` takes; *file* is there only once it is whole.

    Raises:
        ImageError: The engine does not have the image, or the file cannot be written.
    """
    partial = file.with_name(f".{file.name}.{os.getpid()}.partial")
    try:
        with _session(engine, ref) as docker, partial.open("wb") as output:
            for block in docker.images.get(ref).save(chunk_size=_BLOCK, named=ref):
                output.write(block)
            output.flush()
            os.fsync(output.fileno())
        partial.replace(file)
    except OSError as error:
        raise ImageError(f"image `{ref}` cannot be saved as {file}: {error.strerror}") from error
    finally:
        partial.unlink(missing_ok=True)


def load(file: Path, *, engine: Engine) -> ImageFacts:
    """Give the engine the image that *file* holds and return what it says of it.

    Raises:
        ImageError: The file cannot be read or holds no image.
    """
    try:
        with _session(engine, str(file)) as docker, file.open("rb") as source:
            # The SDK hands the file to the HTTP library, which reads it in blocks.
            images = docker.images.load(source)
    except OSError as error:
        raise ImageError(f"{file} cannot be read: {error.strerror}") from error
    if not images:
        raise ImageError(f"{file} holds no image", hint="`docker save` writes such files")
    return inspect(str(images[0].id), engine=engine)
