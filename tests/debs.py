"""Debian packages and archives made on the spot: real .debs, a real index, a real signature."""

from __future__ import annotations

import hashlib
import subprocess
from email.utils import formatdate
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Mapping

SUITE = "harmony"
_INDEX = "main/binary-amd64/Packages"


def make_deb(
    folder: Path,
    name: str,
    version: str = "1.0",
    *,
    fields: Mapping[str, str] | None = None,
    postinst: str | None = None,
    files: Mapping[str, str] | None = None,
    links: Mapping[str, str] | None = None,
) -> Path:
    """Build a .deb in *folder*, without files if none are given.

    Args:
        fields: Further control fields: `Depends`, `Essential`, …
        postinst: Script that runs once the package is installed.
        files: Path without a leading slash -> text.
        links: Likewise -> target.
    """
    tree = folder / f"{name}-{version.replace(':', '.')}"
    (tree / "DEBIAN").mkdir(parents=True)
    control = {
        "Package": name,
        "Version": version,
        "Architecture": "amd64",
        "Maintainer": "Nobody <nobody@example.org>",
        "Description": "a package of the tests",
        **(fields or {}),
    }
    text = "".join(f"{field}: {value}\n" for field, value in control.items())
    (tree / "DEBIAN/control").write_text(text)
    if postinst is not None:
        (tree / "DEBIAN/postinst").write_text(postinst)
        (tree / "DEBIAN/postinst").chmod(0o755)
    for path, content in (files or {}).items():
        (tree / path).parent.mkdir(parents=True, exist_ok=True)
        (tree / path).write_text(content)
    for path, target in (links or {}).items():
        (tree / path).parent.mkdir(parents=True, exist_ok=True)
        (tree / path).symlink_to(target)
    words = ["dpkg-deb", "--root-owner-group", "--build", str(tree), str(folder)]
    built = subprocess.run(words, capture_output=True, text=True, check=True).stdout
    return folder / Path(built.split("'")[3]).name


class SigningKey:
    """A throw-away OpenPGP key."""

    def __init__(self, home: Path) -> None:
        home.mkdir(mode=0o700)
        self._home = home
        self._gpg("--quick-gen-key", "Tests <tests@example.org>", "ed25519", "sign", "never")
        self.keyring = home / "keyring.gpg"
        self.keyring.write_bytes(self._gpg("--export"))

    def sign(self, path: Path, output: Path) -> None:
        """Write the text in *path*, signed, to *output*."""
        output.unlink(missing_ok=True)
        self._gpg("--clearsign", "--output", str(output), str(path))

    def close(self) -> None:
        """End the agent that gpg has started."""
        subprocess.run(["gpgconf", "--homedir", self._home, "--kill", "all"], check=True)

    def _gpg(self, *words: str) -> bytes:
        begin = ["gpg", "--homedir", str(self._home), "--batch", "--quiet", "--passphrase", ""]
        ended = subprocess.run(
            [*begin, "--pinentry-mode", "loopback", *words], capture_output=True, check=True
        )
        return ended.stdout


class Archive:
    """A signed archive of one suite in a folder."""

    def __init__(self, root: Path, key: SigningKey) -> None:
        self.root = root
        self.key = key
        self.pool = root / "pool"
        self.pool.mkdir(parents=True)
        self.dist = root / "dists" / SUITE
        (self.dist / _INDEX).parent.mkdir(parents=True)

    @property
    def address(self) -> str:
        """Where apt finds it."""
        return self.root.as_uri()

    @property
    def packages(self) -> Path:
        """The list of packages."""
        return self.dist / _INDEX

    def add(self, name: str, version: str = "1.0", **fields: str) -> None:
        """Put a package into the pool; `Pre_Depends` stands for `Pre-Depends`."""
        make_deb(
            self.pool,
            name,
            version,
            fields={field.replace("_", "-"): value for field, value in fields.items()},
        )

    def publish(self, **fields: str) -> None:
        """Write the index of what is in the pool, signed; *fields* go into the Release file."""
        self.packages.write_text("".join(map(self._stanza, sorted(self.pool.glob("*.deb")))))
        index = self.packages.read_bytes()
        release = {
            "Origin": "Tests",
            "Suite": SUITE,
            "Codename": SUITE,
            "Date": formatdate(0, usegmt=True),
            "Architectures": "amd64",
            "Components": "main",
            **{field.replace("_", "-"): value for field, value in fields.items()},
            "SHA256": f"\n {hashlib.sha256(index).hexdigest()} {len(index)} {_INDEX}",
        }
        path = self.dist / "Release"
        path.write_text("".join(f"{field}: {value}\n" for field, value in release.items()))
        self.key.sign(path, self.dist / "InRelease")

    def _stanza(self, deb: Path) -> str:
        control = subprocess.run(
            ["dpkg-deb", "--field", deb], capture_output=True, text=True, check=True
        ).stdout
        data = deb.read_bytes()
        return (
            f"{control}Filename: {deb.relative_to(self.root)}\nSize: {len(data)}\n"
            f"SHA256: {hashlib.sha256(data).hexdigest()}\n\n"
        )
