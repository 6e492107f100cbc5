"""A registry of images on loopback: Debian's `docker-registry`, which is the reference implementation.

Images are put into it by plain HTTP, as the distribution specification has it: so an index, a damaged
layer or a manifest of Docker's schema is as easily made as any other.
"""

from __future__ import annotations

import hashlib
import json
import os
import signal
import socket
import subprocess
import time
import urllib.error
import urllib.request
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from lockbuild.process import need_tool
from tests.images import OCI, config_text, described, packed

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence
    from pathlib import Path

__all__ = ["Pushed", "Registry", "serve_registry"]

_START_S = 20


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

    def push(
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
        layer_type = types["layer"] if compress else types["layer"].removesuffix("+gzip")
        config = config_text(layers, env=env, architecture=architecture)
        manifest = {
            "schemaVersion": 2,
            "mediaType": types["manifest"],
            "config": self._blob(repository, config, types["config"]),
            "layers": [
                self._blob(repository, packed(data) if compress else data, layer_type) for data in layers
            ],
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
        return described(data, media_type)

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
    made = Registry(host=host, storage=storage, requests=log, process=process, credentials=credentials)
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
