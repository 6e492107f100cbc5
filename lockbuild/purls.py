"""Package URLs: https://github.com/package-url/purl-spec, PURL-SPECIFICATION. Pure.

Written here and not by a library, as those in the records of built wheels are part of what is pinned.
"""

from __future__ import annotations

import re
from urllib.parse import quote

__all__ = ["package_url", "place_and_tag", "url_of_commit", "url_of_image"]

_GITHUB = re.compile(r"https://github\.com/([\w.-]+)/([\w.-]+?)(?:\.git)?/?", re.ASCII)


def package_url(kind: str, name: str, version: str = "", namespace: str = "", **qualifiers: str) -> str:
    """Return a package URL; qualifiers that are empty are left out."""

    def encoded(text: str) -> str:
        return quote(text, safe=":")

    place = "/".join(encoded(part) for part in (namespace, name) if part)
    at = f"@{encoded(version)}" if version else ""
    query = "&".join(
        f"{key}={quote(value, safe=':/')}" for key, value in sorted(qualifiers.items()) if value
    )
    return f"pkg:{kind}/{place}{at}" + (f"?{query}" if query else "")


def url_of_commit(repository: str, commit: str) -> str:
    """Return the package URL of a commit of the *repository* at that address."""
    on_github = _GITHUB.fullmatch(repository)
    if on_github:
        return package_url("github", on_github[2].lower(), commit, on_github[1].lower())
    name = repository.rstrip("/").rpartition("/")[2].removesuffix(".git")
    return package_url("generic", name, commit, vcs_url=f"git+{repository}@{commit}")


def place_and_tag(reference: str) -> tuple[str, str]:
    """Split the reference of an image, without digest, into its place and its tag, which may be empty."""
    place, _, tag = reference.rpartition(":")
    return (reference, "") if "/" in tag or not place else (place, tag)


def url_of_image(reference: str, sha256: str, architecture: str) -> str:
    """Return the package URL of the image whose manifest has that hash."""
    place, tag = place_and_tag(reference)
    more = {"arch": architecture, "repository_url": place, "tag": tag}
    return package_url("oci", place.rpartition("/")[2].lower(), f"sha256:{sha256}", **more)
