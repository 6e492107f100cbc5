"""A registry of images on loopback: Debian's `docker-registry`, which is the reference implementation.

Images are put into it by plain HTTP, as the distribution specification has it: so an index, a damaged
layer or a manifest of Docker's schema is as easily made as any other.
"""

from __future__ import annotations

import gzip
import hashlib
import io
import json
import os
import signal
import socket
import subprocess
import tarfile
import time
import urllib.error
import urllib.request
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from lockbuild.process import need_tool

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

__all__ = ["DOCKER", "OCI", "Member", "Pushed", "Registry", "layer", "serve_registry"]

_START_S = 20

OCI = {
    "config": "application/vnd.oci.image.config.v1+json",
    "index": "application/vnd.oci.image.index.v1+json",
    "layer": "application/vnd.oci.image.layer.v1.tar+gzip",
    "manifest": "application/vnd.oci.image.manifest.v1+json",
}
DOCKER = {
    "config": "application/vnd.docker.container.image.v1+json",
    "index": "application/vnd.docker.distribution.manifest.list.v2+json",
    "layer": "application/vnd.docker.image.rootfs.diff.tar.gzip",
    "manifest": "application/vnd.docker.distribution.manifest.v2+json",
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Member:
    """One entry of a layer."""

    name: str
    content: bytes | None = None
    """Of a file; none for a folder, unless `link` or `hard` says what it is."""
    link: str | None = None
    hard: str | None = None
    mode: int = 0
    """0 for what is usual."""
    owner: tuple[int, int] = (0, 0)
    kind: bytes | None = None
    """tarfile's type, for devices and pipes."""
    xattrs: Mapping[str, str] = field(default_factory=dict)


def layer(*members: Member) -> bytes:
    """Return a tar of *members*, in this order."""
    output = io.BytesIO()
    with tarfile.open(fileobj=output, mode="w", format=tarfile.PAX_FORMAT) as archive:
        for member in members:
            info = tarfile.TarInfo(member.name)
            info.uid, info.gid = member.owner
            info.mtime = 1_600_000_000
            info.mode = member.mode or (0o755 if member.content is None else 0o644)
            info.pax_headers = {f"SCHILY.xattr.{name}": value for name, value in member.xattrs.items()}
            if member.kind is not None:
                info.type = member.kind
            elif member.link is not None:
                info.type, info.linkname = tarfile.SYMTYPE, member.link
            elif member.hard is not None:
                info.type, info.linkname = tarfile.LNKTYPE, member.hard
            elif member.content is None:
                info.type = tarfile.DIRTYPE
            info.size = len(member.content or b"")
            archive.addfile(info, io.BytesIO(member.content or b""))
    return output.getvalue()


@dataclass(frozen=True, slots=True, kw_only=True)
class Pushed:
    """An image or an index in the registry."""

    media_type: str
    data: bytes

    @property
    def digest(self) -> str:
        """Its digest."""
        return f"sha256:{hashlib.sha256(self.data).hexdigest()}"

    @property
    def layers(self) -> list[str]:
        """Digests of an image's layers."""
        return [table["digest"] for table in json.loads(self.data)["layers"]]


@dataclass(frozen=True, slots=True, kw_only=True)
class Registry:
    """A running registry."""

    host: str
    """With its port."""
    storage: Path
    requests: Path
    """Its access log."""
    process: subprocess.Popen[bytes]
    credentials: tuple[str, str] | None = None

    def push(  # noqa: PLR0913 - what an image is made of
        self,
        repository: str,
        layers: Sequence[bytes],
        *,
        tag: str | None = None,
        env: Sequence[str] = ("PATH=/usr/bin:/bin",),
        architecture: str = "amd64",
        types: Mapping[str, str] = OCI,
        compress: bool = True,
    ) -> Pushed:
        """Put an image of *layers*, which are tars, into a repository."""
        blobs = [gzip.compress(data, mtime=0) if compress else data for data in layers]
        config = {
            "architecture": architecture,
            "os": "linux",
            "config": {"Env": list(env), "Entrypoint": ["/entrypoint"]},
            "rootfs": {
                "type": "layers",
                "diff_ids": [f"sha256:{hashlib.sha256(data).hexdigest()}" for data in layers],
            },
        }
        layer_type = types["layer"] if compress else types["layer"].removesuffix("+gzip")
        manifest = {
            "schemaVersion": 2,
            "mediaType": types["manifest"],
            "config": self._blob(repository, json.dumps(config).encode(), types["config"]),
            "layers": [self._blob(repository, blob, layer_type) for blob in blobs],
        }
        pushed = Pushed(media_type=types["manifest"], data=json.dumps(manifest).encode())
        self._manifest(repository, tag or pushed.digest, pushed)
        return pushed

    def push_index(
        self,
        repository: str,
        images: Mapping[str, Pushed],
        *,
        tag: str,
        types: Mapping[str, str] = OCI,
    ) -> Pushed:
        """Put an index of images that are there into a repository: platform (`linux/amd64`) -> image."""
        manifests = []
        for platform, image in images.items():
            system, _, architecture = platform.partition("/")
            manifests.append(
                {
                    "mediaType": image.media_type,
                    "digest": image.digest,
                    "size": len(image.data),
                    "platform": {"os": system, "architecture": architecture},
                }
            )
        index = {"schemaVersion": 2, "mediaType": types["index"], "manifests": manifests}
        pushed = Pushed(media_type=types["index"], data=json.dumps(index).encode())
        self._manifest(repository, tag, pushed)
        return pushed

    def blob_file(self, digest: str) -> Path:
        """Return where the registry keeps a blob."""
        kind, _, digits = digest.partition(":")
        return self.storage / f"docker/registry/v2/blobs/{kind}/{digits[:2]}/{digits}/data"

    def asked(self) -> list[str]:
        """Return method and path of every request until now that was not made by `push`."""
        lines = self.requests.read_text().splitlines()
        return [line.split('"')[1] for line in lines if "skopeo/" in line]

    def stop(self) -> None:
        """End the registry; nobody answers at its address any more."""
        if self.process.poll() is None:
            self.process.send_signal(signal.SIGTERM)
            self.process.wait()

    def _blob(self, repository: str, data: bytes, media_type: str) -> dict[str, Any]:
        digest = f"sha256:{hashlib.sha256(data).hexdigest()}"
        begun = self._ask("POST", f"/v2/{repository}/blobs/uploads/")
        place = begun.headers["Location"]
        path = place.removeprefix(f"http://{self.host}")
        self._ask("PUT", f"{path}{'&' if '?' in path else '?'}digest={digest}", data)
        return {"mediaType": media_type, "digest": digest, "size": len(data)}

    def _manifest(self, repository: str, reference: str, pushed: Pushed) -> None:
        self._ask("PUT", f"/v2/{repository}/manifests/{reference}", pushed.data, pushed.media_type)

    def _ask(
        self, method: str, path: str, data: bytes = b"", media_type: str = "application/octet-stream"
    ) -> Any:
        request = urllib.request.Request(f"http://{self.host}{path}", data=data, method=method)
        request.add_header("Content-Type", media_type)
        if self.credentials:
            import base64

            pair = base64.b64encode(":".join(self.credentials).encode()).decode()
            request.add_header("Authorization", f"Basic {pair}")
        # No proxy of this machine's environment is for loopback.
        opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
        with opener.open(request, timeout=20) as answer:
            answer.read()
            return answer


@contextmanager
def serve_registry(
    folder: Path, *, credentials: tuple[str, str] | None = None, htpasswd: str = ""
) -> Iterator[Registry]:
    """Run a registry with its storage in *folder*; it ends with the block.

    Args:
        credentials: User and password that it asks for.
        htpasswd: The line that says them, hashed by bcrypt.
    """
    program = need_tool("docker-registry", purpose="testing base images")
    folder.mkdir(parents=True, exist_ok=True)
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    host = f"127.0.0.1:{port}"
    storage = folder / "storage"
    document: dict[str, Any] = {
        "version": 0.1,
        "log": {"level": "error"},
        "storage": {"filesystem": {"rootdirectory": str(storage)}},
        "http": {"addr": host},
    }
    if credentials:
        (folder / "htpasswd").write_text(f"{htpasswd}\n")
        document["auth"] = {"htpasswd": {"realm": "tests", "path": str(folder / "htpasswd")}}
    (folder / "config.yml").write_text(json.dumps(document))  # JSON is YAML
    log = folder / "requests"
    env = {**os.environ, "OTEL_TRACES_EXPORTER": "none"}
    with log.open("wb") as output:
        process = subprocess.Popen(
            [program, "serve", str(folder / "config.yml")],
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=subprocess.STDOUT,
            env=env,
        )
    made = Registry(
        host=host, storage=storage, requests=log, process=process, credentials=credentials
    )
    try:
        _await(made)
        yield made
    finally:
        made.stop()


def _await(registry: Registry) -> None:
    end = time.monotonic() + _START_S
    while True:
        try:
            registry._ask("GET", "/v2/")
        except OSError as error:
            if isinstance(error, urllib.error.HTTPError):
                return
            if registry.process.poll() is not None or time.monotonic() > end:
                raise RuntimeError(registry.requests.read_text()) from error
            time.sleep(0.05)
        else:
            return
