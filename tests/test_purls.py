"""Package URLs, as another implementation of the standard reads them."""

from __future__ import annotations

import pytest
from packageurl import PackageURL

from lockbuild.purls import package_url, place_and_tag, url_of_commit, url_of_image


def test_what_is_special_is_encoded_and_what_is_empty_left_out() -> None:
    url = package_url("deb", "g++", "4:12.2.0-3+b1", "debian", arch="amd64", distro="")
    assert url == "pkg:deb/debian/g%2B%2B@4:12.2.0-3%2Bb1?arch=amd64"
    assert PackageURL.from_string(url).version == "4:12.2.0-3+b1"


@pytest.mark.parametrize(
    ("repository", "url"),
    [
        ("https://github.com/Example/App.git", "pkg:github/example/app@1"),
        ("https://github.com/Example/App/", "pkg:github/example/app@1"),
        (
            "https://gitlab.com/a/eigen.git",
            "pkg:generic/eigen@1?vcs_url=git%2Bhttps://gitlab.com/a/eigen.git%401",
        ),
    ],
)
def test_commits(repository: str, url: str) -> None:
    assert url_of_commit(repository, "1") == url
    assert PackageURL.from_string(url).version == "1"


@pytest.mark.parametrize(
    ("reference", "expected"),
    [
        ("docker.io/nvidia/cuda:11.3", ("docker.io/nvidia/cuda", "11.3")),
        ("registry.example.org:5000/cuda", ("registry.example.org:5000/cuda", "")),
        ("debian", ("debian", "")),
    ],
)
def test_places_and_tags_of_images(reference: str, expected: tuple[str, str]) -> None:
    assert place_and_tag(reference) == expected


def test_images() -> None:
    assert url_of_image("docker.io/nvidia/CUDA:11.3", "ab", "amd64") == (
        "pkg:oci/cuda@sha256:ab?arch=amd64&repository_url=docker.io/nvidia/CUDA&tag=11.3"
    )
