"""References, indexes, manifests and layouts as text."""

from __future__ import annotations

import json
from typing import Any

import pytest

from lockbuild.baseimage import (
    config_env,
    is_image_name,
    layout_texts,
    parse_index,
    parse_manifest,
    parse_reference,
)

_HEX = "a" * 64
_DIGEST = f"sha256:{_HEX}"
_LAYER = {"mediaType": "application/vnd.oci.image.layer.v1.tar+gzip", "digest": _DIGEST, "size": 7}
_CONFIG = {**_LAYER, "mediaType": "application/vnd.oci.image.config.v1+json"}


def manifest(**changes: Any) -> bytes:
    return json.dumps(
        {"schemaVersion": 2, "config": _CONFIG, "layers": [_LAYER, _LAYER], **changes}
    ).encode()


@pytest.mark.parametrize(
    ("text", "name", "tag", "digest"),
    [
        ("docker.io/nvidia/cuda:11.3", "docker.io/nvidia/cuda", "11.3", None),
        ("docker.io/ubuntu:20.04", "docker.io/library/ubuntu", "20.04", None),
        (f"ghcr.io/a/b__c/d@{_DIGEST}", "ghcr.io/a/b__c/d", None, _DIGEST),
        (f"localhost/a:1@{_DIGEST}", "localhost/a", "1", _DIGEST),
        ("localhost:5000/a:v1.0_2-x", "localhost:5000/a", "v1.0_2-x", None),
        ("registry:5000/a/b:1", "registry:5000/a/b", "1", None),
    ],
)
def test_a_reference_is_read(text: str, name: str, tag: str | None, digest: str | None) -> None:
    found = parse_reference(text)
    assert (found.name, found.tag, found.digest) == (name, tag, digest)
    assert found.tagged == (f"{name}:{tag}" if tag else name)


@pytest.mark.parametrize(
    "text",
    [
        *(
            "",
            "ubuntu",
            "ubuntu:20.04",
            "nvidia/cuda:1",
            "docker.io/a",
            "docker.io/A:1",
            "docker.io/a/:1",
        ),
        *("docker.io/a:1@sha256:aa", "docker.io/a@md5:1", "docker.io/a:1 b", "https://docker.io/a:1"),
        *("docker.io/../a:1", "docker.io/a:-1", "--help/a.b/c:1", f"docker.io/a:1@{_DIGEST}\n"),
    ],
)
def test_what_is_no_reference_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match="an image with its registry and a tag or digest"):
        parse_reference(text)


@pytest.mark.parametrize(
    "text",
    ["cpu", "cpu:1", "team/cpu:1.0", "ghcr.io/team/cpu", "localhost:5000/cpu:v1", "host:5000/cpu"],
)
def test_what_an_engine_takes_as_a_name(text: str) -> None:
    assert is_image_name(text)


@pytest.mark.parametrize(
    "text", ["", "Bad Tag!", "CPU", "cpu:", "cpu:a b", f"cpu@{_DIGEST}", "cpu:1\n", "/cpu"]
)
def test_what_no_engine_takes_as_a_name(text: str) -> None:
    assert not is_image_name(text)


def test_a_manifest_tells_its_blobs_and_their_size() -> None:
    found = parse_manifest(manifest())
    assert [layer.digest for layer in found.layers] == [_DIGEST, _DIGEST]
    # A layer that is there twice comes once.
    assert found.size == 7 + 7 + len(manifest())


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (b"<html>", "not JSON"),
        (b"[]", "neither a manifest nor an index"),
        (manifest(schemaVersion=1), "neither a manifest nor an index"),
        (manifest(mediaType="text/plain"), "expected an image's manifest"),
        (
            manifest(layers=[{**_LAYER, "mediaType": "application/x-helm"}]),
            "not understood: application/x-helm",
        ),
        (manifest(layers=[{**_LAYER, "digest": "sha256:../../etc"}]), "not a digest"),
        (manifest(layers=[{**_LAYER, "size": -1}]), "-1"),
        (manifest(layers=["x"]), "without digest, size or media type"),
        (manifest(config=None), "without digest, size or media type"),
    ],
)
def test_what_is_no_manifest_is_refused(data: bytes, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        parse_manifest(data)


def test_a_manifest_is_no_index() -> None:
    assert parse_index(manifest(), architecture="amd64") is None


def test_attestations_in_an_index_are_passed_over() -> None:
    entry = {"mediaType": "m", "digest": _DIGEST, "size": 1}
    entries = [
        {**entry, "platform": {"os": "unknown", "architecture": "unknown"}},
        {**entry, "size": 2, "platform": {"os": "linux", "architecture": "amd64"}},
    ]
    data = json.dumps({"schemaVersion": 2, "manifests": entries}).encode()
    found = parse_index(data, architecture="amd64")
    assert found is not None
    assert found.size == 2
    with pytest.raises(ValueError, match="only for unknown/unknown, linux/amd64"):
        parse_index(data, architecture="arm64")


def test_variables_that_no_line_can_hold_are_left_out() -> None:
    env = ["PATH=/bin", "A=1=2", "B=", "BAD NAME=x", "LINES=a\nb", "C"]
    data = json.dumps({"architecture": "amd64", "config": {"Env": env}}).encode()
    expected = (("A", "1=2"), ("B", ""), ("C", ""), ("PATH", "/bin"))
    assert config_env(data, architecture="amd64") == expected
    assert config_env(b'{"architecture": "amd64", "config": null}', architecture="amd64") == ()


def test_a_layout_says_nothing_of_where_it_came_from() -> None:
    blob = parse_manifest(manifest()).blob
    texts = layout_texts(blob, architecture="amd64")
    assert json.loads(texts["oci-layout"]) == {"imageLayoutVersion": "1.0.0"}
    (entry,) = json.loads(texts["index.json"])["manifests"]
    assert entry == {
        "mediaType": "application/vnd.oci.image.manifest.v1+json",
        "digest": blob.digest,
        "size": len(manifest()),
        "platform": {"architecture": "amd64", "os": "linux"},
    }
