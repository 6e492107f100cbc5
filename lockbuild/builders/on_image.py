"""Root file systems that stand on an image: its layers unpacked, .debs on top, and its own Python looked at.

The .debs are put on top by this machine's apt and the image's dpkg, as mmdebstrap does it. Nothing of the
image is removed or replaced: apt is told so, and the lock was made so.
"""

from __future__ import annotations

import re
import shlex
import sys
from dataclasses import dataclass
from typing import TYPE_CHECKING

from lockbuild.builders import layers

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

__all__ = ["ImagePython", "check_command", "install_debs_command", "unpack_command"]

# Everything that apt writes is in a folder of the root that is real, and empty otherwise: no link of the
# image leads it elsewhere.
_INSTALL = r"""
repository={repository} architecture={architecture} place="$root/build"
mkdir -p "$place/apt.conf.d" "$place/preferences.d" "$place/lists/partial" "$place/archives/partial" "$place/log"
if [ ! -e "$root/var/lib/dpkg/status" ]; then echo 'E: the image has no dpkg: packages cannot be put on top of it'; exit 1; fi
cat > "$place/sources.list" <<END
deb [trusted=yes] copy:$repository ./
END
cat > "$place/apt.conf" <<END
Dir "$place";
Dir::Cache "$place";
Dir::Etc "$place";
Dir::Etc::parts "apt.conf.d";
Dir::Etc::sourcelist "sources.list";
Dir::Log "$place/log";
Dir::State "$place";
Dir::State::status "$root/var/lib/dpkg/status";
Dir::Bin::dpkg "/usr/bin/dpkg";
DPkg::Chroot-Directory "$root";
DPkg::Options:: "--force-confdef";
DPkg::Options:: "--force-confold";
DPkg::Options:: "--force-unsafe-io";
APT::Architecture "$architecture";
APT::Architectures "$architecture";
APT::Install-Recommends "false";
APT::Sandbox::User "root";
APT::Get::Assume-Yes "true";
APT::Get::Remove "false";
Acquire::Languages "none";
pkgCacheGen::ForceEssential ",";
END
export APT_CONFIG="$place/apt.conf" DEBIAN_FRONTEND=noninteractive DEBCONF_NONINTERACTIVE_SEEN=true
for name in full null random tty urandom zero; do
  : > "$root/dev/$name"
  mount --bind "/dev/$name" "$root/dev/$name"
done
mkdir -p "$root/proc"
mount -t proc proc "$root/proc" 2>/dev/null || mount --rbind /proc "$root/proc"
policy=$(chroot "$root" /bin/sh -euc '
  if [ -e /usr/sbin/policy-rc.d ]; then exit; fi
  mkdir -p /usr/sbin
  printf "#!/bin/sh\nexit 101\n" > /usr/sbin/policy-rc.d
  chmod 0755 /usr/sbin/policy-rc.d
  echo made')
apt-get update
apt-get install {packages}
if [ -n "$policy" ]; then chroot "$root" rm /usr/sbin/policy-rc.d; fi
umount --lazy "$root/proc"
for name in full null random tty urandom zero; do umount "$root/dev/$name"; rm "$root/dev/$name"; done
unset APT_CONFIG DEBIAN_FRONTEND DEBCONF_NONINTERACTIVE_SEEN
find "$place" -mindepth 1 -delete
"""

# Builds and images start `python3`, and that must be the one that the stack names.
_CHECK = r"""
command=$1 version=$2 PATH=$3
version_of() { "$1" -I -B -c 'import sys; print("%d.%d" % sys.version_info[:2])'; }
place=$(command -v "$command") || { echo "E: the image has no command \`$command\` on its PATH, $PATH"; exit 1; }
found=$(version_of "$place") || { echo "E: the image's \`$command\` does not run"; exit 1; }
[ "$found" = "$version" ] || { echo "E: the image's \`$command\` is Python $found, expected $version"; exit 1; }
for name in python3 "python$version"; do
  if there=$(command -v "$name") && [ "$(version_of "$there")" = "$version" ]; then continue; fi
  mkdir -p /usr/local/bin
  ln -s "$place" "/usr/local/bin/$name" || { echo "E: the image has a \`$name\` of another version"; exit 1; }
  hash -r
  [ "$(command -v "$name")" = "/usr/local/bin/$name" ] || {
    echo "E: the image has a \`$name\` of another version before /usr/local/bin on its PATH"
    exit 1
  }
done
"""


@dataclass(frozen=True, slots=True, kw_only=True)
class ImagePython:
    """The options `--python` and `--path` of a `rootfs` command, read."""

    version: str
    """Major and minor, which it must have."""
    command: str
    path: str
    """Where the image looks for commands."""

    @classmethod
    def read(cls, options: Mapping[str, str], *, path: str) -> ImagePython | None:
        """Return what the options say; none where the Python is not the image's.

        Args:
            path: Where a system looks for commands, for an image that does not say it.
        """
        if "python" not in options:
            return None
        version, _, command = options["python"].partition(":")
        return cls(version=version, command=command, path=options.get("path") or path)


def unpack_command(layout: Path, root: Path) -> list[str]:
    """Return the command that unpacks the image of *layout* into *root*, which it makes."""
    program = (sys.executable, "-I", "-S", str(layers.__file__), str(layout), str(root))
    return ["/bin/sh", "-euc", f"mkdir {shlex.quote(str(root))}; {shlex.join(program)}"]


def install_debs_command(repository: str, packages: Mapping[str, str], *, architecture: str) -> str:
    """Return the shell command that installs *packages* into the root at `$root`; nothing for none.

    Args:
        repository: Folder with their index, as a part of an address.
        packages: Name -> version.

    Raises:
        ValueError: That is no architecture.
    """
    if not packages:
        return ""
    if not re.fullmatch(r"[a-z0-9-]+", architecture):
        # apt's configuration names programs, too.
        msg = f"not an architecture: {architecture!r}"
        raise ValueError(msg)
    pins = shlex.join(f"{name}={version}" for name, version in sorted(packages.items()))
    return (
        _INSTALL.replace("{repository}", shlex.quote(repository))
        .replace("{architecture}", architecture)
        .replace("{packages}", pins)
    )


def check_command(python: ImagePython) -> str:
    """Return the shell command that checks the Python of the root at `$root`, and lets `python3` be it."""
    words = ("/bin/sh", "-euc", _CHECK, "sh", python.command, python.version, python.path)
    return f'chroot "$root" {shlex.join(words)}\n'
