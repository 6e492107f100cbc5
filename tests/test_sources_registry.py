"""Base images from a real registry, by way of the real skopeo."""

from __future__ import annotations

import json
import subprocess
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import TYPE_CHECKING

import pytest

from lockbuild.baseimage import parse_reference
from lockbuild.derivation import Fetch, RegistryImage
from lockbuild.digest import Sha256, sha256_of
from lockbuild.errors import FetchError, ResolveError, ToolMissing
from lockbuild.fetching import bring
from lockbuild.progress import Silent
from lockbuild.sources import Mirrors
from lockbuild.sources.registry import describe
from lockbuild.store import Store
from tests.images import DOCKER, OCI, Member, layer
from tests.needs import need
from tests.servers.registry import serve_registry

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from lockbuild.fetching import Failure
    from lockbuild.sources.registry import Described
    from tests.servers.registry import Pushed, Registry

BASE = layer(Member(name="etc/"), Member(name="etc/name", content=b"base\n"))
TOP = layer(Member(name="etc/top", content=b"top\n" * 1000))
# bcrypt of `secret`, as htpasswd -B makes it.
HTPASSWD = "anna:$2b$05$JTBc6uJK4SYw.e.jkIMrjuy9TKjMR.tntnlLxhHHMstMCLWGzs7aa"


@pytest.fixture(autouse=True)
def _home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Nobody's credentials and nobody's registries.conf take part."""
    need("skopeo", "docker-registry")
    (tmp_path / "home").mkdir()
    for name in ("DOCKER_CONFIG", "REGISTRY_AUTH_FILE", "XDG_RUNTIME_DIR", "XDG_CONFIG_HOME"):
        monkeypatch.delenv(name, raising=False)
    for name in ("http_proxy", "https_proxy", "HTTP_PROXY", "HTTPS_PROXY", "all_proxy", "ALL_PROXY"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("HOME", str(tmp_path / "home"))


@pytest.fixture
def registry(tmp_path: Path) -> Iterator[Registry]:
    with serve_registry(tmp_path / "registry") as made:
        yield made


@pytest.fixture
def store(tmp_path: Path) -> Iterator[Store]:
    with Store(tmp_path / "store") as made:
        yield made


def asked(
    registry: Registry, what: str, *, mirrors: Mirrors | None = None, host: str | None = None
) -> Described:
    reference = parse_reference(f"{host or registry.host}/{what}")
    return describe(reference, architecture="amd64", mirrors=mirrors or Mirrors())


def image_of(registry: Registry, pushed: Pushed, repository: str = "tests/base") -> Fetch:
    return Fetch(
        filename="image-tests",
        sha256=Sha256(pushed.digest.removeprefix("sha256:")),
        size=None,
        where=RegistryImage(reference=f"{registry.host}/{repository}:1", architecture="amd64"),
    )


def pulled(fetch: Fetch, store: Store, mirrors: Mirrors | None = None) -> list[Failure]:
    return bring(
        [fetch],
        stack_folder=store.root,
        store=store,
        mirrors=lambda _names: mirrors or Mirrors(),
        progress=Silent(),
        connections=1,
    )


# ---- asking -----------------------------------------------------------------------------------------


def test_a_tag_is_told_with_all_that_follows_from_it(registry: Registry) -> None:
    pushed = registry.push("tests/base", [BASE, TOP], tag="1", env=("PATH=/opt/bin:/bin", "A=b=c"))
    found = asked(registry, "tests/base:1")
    assert found.digest == pushed.digest
    assert found.manifest.blob.digest == pushed.digest
    assert [blob.digest for blob in found.manifest.layers] == pushed.layers
    assert found.env == (("A", "b=c"), ("PATH", "/opt/bin:/bin"))


@pytest.mark.parametrize("types", [OCI, DOCKER], ids=["oci", "docker"])
def test_an_index_gives_the_image_of_the_target_s_machine(
    registry: Registry, types: dict[str, str]
) -> None:
    arm = registry.push("tests/base", [TOP], architecture="arm64", types=types)
    amd = registry.push("tests/base", [BASE], types=types)
    index = registry.push_index(
        "tests/base", {"linux/arm64": arm, "linux/amd64": amd}, tag="1", types=types
    )
    found = asked(registry, "tests/base:1")
    assert found.digest == index.digest
    assert found.manifest.blob.digest == amd.digest


def test_an_image_for_other_machines_is_refused(registry: Registry) -> None:
    arm = registry.push("tests/base", [TOP], architecture="arm64", tag="plain")
    registry.push_index("tests/base", {"linux/arm64": arm}, tag="index")
    with pytest.raises(ResolveError, match="not made for linux/amd64, only for linux/arm64"):
        asked(registry, "tests/base:index")
    with pytest.raises(ResolveError, match="made for arm64, expected amd64"):
        asked(registry, "tests/base:plain")


def test_a_digest_is_asked_for_whatever_the_tag_has_become(registry: Registry) -> None:
    first = registry.push("tests/base", [BASE], tag="1")
    second = registry.push("tests/base", [TOP], tag="1")
    assert asked(registry, f"tests/base:1@{first.digest}").digest == first.digest
    assert asked(registry, "tests/base:1").digest == second.digest


def test_an_unknown_tag_is_a_fault_of_the_stack(registry: Registry) -> None:
    registry.push("tests/base", [BASE], tag="1")
    with pytest.raises(ResolveError, match="there is no such image") as caught:
        asked(registry, "tests/base:2")
    assert not caught.value.unreachable


def test_a_registry_that_is_gone_is_unreachable(registry: Registry) -> None:
    registry.stop()
    with pytest.raises(FetchError, match="cannot be reached") as caught:
        asked(registry, "tests/base:1")
    assert caught.value.unreachable
    # What a lock may hold names neither this machine's network nor its moment.
    assert caught.value.message == f"`{registry.host}/tests/base:1`: the registry cannot be reached"


def test_credentials_are_asked_for_and_those_of_the_user_are_taken(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with serve_registry(
        tmp_path / "closed", credentials=("anna", "secret"), htpasswd=HTPASSWD
    ) as closed:
        pushed = closed.push("tests/base", [BASE], tag="1")
        with pytest.raises(FetchError, match="wants credentials") as caught:
            asked(closed, "tests/base:1")
        assert caught.value.unreachable
        assert f"skopeo login {closed.host}" in (caught.value.hint or "")

        words = ["skopeo", "login", "--tls-verify=false", "--username", "anna", "--password-stdin"]
        monkeypatch.setenv("REGISTRY_AUTH_FILE", str(tmp_path / "auth.json"))
        subprocess.run([*words, closed.host], input=b"secret", check=True, capture_output=True)
        assert asked(closed, "tests/base:1").digest == pushed.digest


def test_a_registry_that_is_asked_too_often_says_so() -> None:
    class Busy(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            body = b'{"errors":[{"code":"TOOMANYREQUESTS","message":"You have reached your pull rate limit."}]}'
            status = 200 if self.path == "/v2/" else 429
            self.send_response(status)
            self.send_header("Retry-After", "0")
            self.send_header("Content-Type", "application/json")
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, format: str, *args: object) -> None:  # noqa: A002
            """Keep the test's output clean."""

    server = ThreadingHTTPServer(("127.0.0.1", 0), Busy)
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02})
    thread.start()
    try:
        reference = parse_reference(f"127.0.0.1:{server.server_port}/tests/base:1")
        with pytest.raises(FetchError, match="429") as caught:
            describe(reference, architecture="amd64", mirrors=Mirrors())
        assert caught.value.unreachable
        assert "skopeo login" in (caught.value.hint or "")
    finally:
        server.shutdown()
        thread.join()
        server.server_close()


def test_a_mirror_is_asked_first_and_leaves_no_trace(registry: Registry) -> None:
    pushed = registry.push("copies/tests/base", [BASE], tag="1")
    mirrors = Mirrors(registries=(("registry-invalid", (f"http://{registry.host}/copies",)),))
    found = asked(registry, "tests/base:1", mirrors=mirrors, host="registry.invalid")
    assert found.digest == pushed.digest


def test_without_skopeo_it_says_how_to_get_it(
    registry: Registry, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(ToolMissing, match="`skopeo` is not installed"):
        asked(registry, "tests/base:1")


# ---- pulling ----------------------------------------------------------------------------------------


@pytest.mark.parametrize("types", [OCI, DOCKER], ids=["oci", "docker"])
def test_an_image_becomes_a_layout_of_its_own_bytes(
    registry: Registry, store: Store, types: dict[str, str]
) -> None:
    pushed = registry.push("tests/base", [BASE, TOP], types=types)
    fetch = image_of(registry, pushed)
    assert pulled(fetch, store) == []
    layout = store.locate(fetch.path)
    names = {path.relative_to(layout).as_posix() for path in layout.rglob("*") if path.is_file()}
    config = json.loads(pushed.data)["config"]["digest"]
    blobs = {
        digest.replace("sha256:", "blobs/sha256/") for digest in (pushed.digest, config, *pushed.layers)
    }
    assert names == {"index.json", "oci-layout", *blobs}
    for blob in blobs:
        assert sha256_of((layout / blob).read_bytes()) == blob.rpartition("/")[2]
    # It is one that other tools read as well.
    shown = subprocess.run(
        ["skopeo", "inspect", "--raw", f"oci:{layout}"], capture_output=True, check=True
    )
    assert shown.stdout == pushed.data
    assert list(store.downloads.iterdir()) == []


def test_layers_that_are_not_compressed_stay_as_they_are(registry: Registry, store: Store) -> None:
    pushed = registry.push("tests/base", [BASE], compress=False)
    fetch = image_of(registry, pushed)
    assert pulled(fetch, store) == []
    assert (
        store.locate(fetch.path) / pushed.layers[0].replace("sha256:", "blobs/sha256/")
    ).read_bytes() == BASE


def test_a_layout_is_the_same_bytes_wherever_it_comes_from(registry: Registry, tmp_path: Path) -> None:
    one = registry.push("tests/base", [BASE])
    assert registry.push("elsewhere/copy", [BASE]).digest == one.digest
    found = []
    for number, repository in enumerate(("tests/base", "elsewhere/copy")):
        with Store(tmp_path / f"store-{number}") as store:
            fetch = image_of(registry, one, repository)
            assert pulled(fetch, store) == []
            info = store.info(fetch.path)
            found.append((fetch.path, info.sha256 if info else None))
    assert found[0] == found[1]


def test_what_is_in_the_store_is_never_asked_for_again(registry: Registry, store: Store) -> None:
    fetch = image_of(registry, registry.push("tests/base", [BASE]))
    assert pulled(fetch, store) == []
    before = registry.asked()
    assert pulled(fetch, store) == []
    assert registry.asked() == before
    registry.stop()
    assert pulled(fetch, store) == []


def test_layers_that_another_image_brought_are_not_pulled_again(
    registry: Registry, store: Store
) -> None:
    assert pulled(image_of(registry, registry.push("tests/base", [BASE])), store) == []
    before = len(registry.asked())
    pushed = registry.push("tests/base", [BASE, TOP])
    assert pulled(image_of(registry, pushed), store) == []
    again = [line for line in registry.asked()[before:] if pushed.layers[0] in line]
    assert again == []
    assert any(pushed.layers[1] in line for line in registry.asked()[before:])


@pytest.mark.parametrize("harm", ["flipped", "cut"])
def test_a_layer_with_other_bytes_is_refused_and_comes_whole_the_next_time(
    registry: Registry, store: Store, harm: str
) -> None:
    pushed = registry.push("tests/base", [BASE, TOP])
    blob = registry.blob_file(pushed.layers[1])
    good = blob.read_bytes()
    blob.write_bytes(good[:-9] if harm == "cut" else good[:-1] + bytes([good[-1] ^ 1]))
    fetch = image_of(registry, pushed)
    (failure,) = pulled(fetch, store)
    assert failure.error.message.endswith("wrong bytes"), failure.error.details
    assert not failure.error.unreachable
    assert store.info(fetch.path) is None
    blob.write_bytes(good)
    before = len(registry.asked())
    assert pulled(fetch, store) == []
    # The first layer was whole, and lay there.
    assert not any(pushed.layers[0] in line for line in registry.asked()[before:])


def test_a_manifest_with_other_bytes_is_refused(registry: Registry, store: Store) -> None:
    pushed = registry.push("tests/base", [BASE], tag="1")
    registry.blob_file(pushed.digest).write_bytes(pushed.data + b" ")
    (failure,) = pulled(image_of(registry, pushed), store)
    assert failure.error.message.endswith("wrong bytes"), failure.error.details
    assert not failure.error.unreachable
    assert store.info(image_of(registry, pushed).path) is None
