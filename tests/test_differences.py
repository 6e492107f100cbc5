"""What differs between two locks, on the small ones."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from lockbuild.assetlock import LockedAsset
from lockbuild.components import Component, Kind, ref_of
from lockbuild.condalock import LockedConda
from lockbuild.differences import (
    GROUPS,
    Change,
    Part,
    changes,
    download_size,
    installed_size,
    licences,
    parts_of,
    vulnerabilities,
)
from lockbuild.imagelock import LockedImage
from lockbuild.lock import Lock, LockedFile
from lockbuild.osv import Package, Vulnerability
from tests.values import HOST, deb, package, pin, sha, small_lock, small_stack


def between(
    old: Lock, new: Lock, before: dict[str, Any] | None = None, after: dict[str, Any] | None = None
) -> list[tuple[str, str, str, str, str]]:
    sides = [parts_of(lock, small_stack(**(more or {}))) for lock, more in ((old, before), (new, after))]
    return [(one.kind, one.name, one.how, one.old, one.new) for one in changes(*sides)]


def test_the_same_is_no_change() -> None:
    assert between(small_lock(), small_lock()) == []


def test_versions_are_ordered_by_the_rules_of_their_kind() -> None:
    lock = small_lock()
    # By PEP 440 1.10 is later than 1.2, and 2.0+cu118 than 2.0; by dpkg ~rc1 is earlier than nothing.
    first = replace(
        lock,
        runtime=(package("a", "1.2"), package("b", "2.0"), package("c", "1!1.0"), package("d", "odd-1")),
        debs=(deb("x", "runtime", version="1.0"), deb("y", "runtime", version="1:1.0")),
    )
    second = replace(
        lock,
        runtime=(
            package("a", "1.10"),
            package("b", "2.0+cu118"),
            package("c", "2.0"),
            package("d", "odd-2"),
        ),
        debs=(deb("x", "runtime", version="1.0~rc1"), deb("y", "runtime", version="1:1.0-0.1")),
    )
    assert between(first, second) == [
        ("wheel", "a", "up", "1.2", "1.10"),
        ("wheel", "b", "up", "2.0", "2.0+cu118"),
        ("wheel", "c", "down", "1!1.0", "2.0"),
        ("wheel", "d", "changed", "odd-1", "odd-2"),
        ("deb", "x", "down", "1.0", "1.0~rc1"),
        ("deb", "y", "up", "1:1.0", "1:1.0-0.1"),
    ]


def test_other_bytes_of_the_same_version_are_told() -> None:
    lock = small_lock()
    alpha = lock.runtime[0]
    assert alpha.wheel
    other = replace(alpha, wheel=replace(alpha.wheel, sha256=sha("another")))
    found = between(lock, replace(lock, runtime=(other, *lock.runtime[1:])))
    assert found == [
        ("wheel", "alpha", "bytes", "1.2", "1.2"),
        # The build environment has what shipped until now.
        ("build-wheel", "alpha", "added", "", "1.2"),
        ("build-wheel", "alpha (native)", "added", "", "1.2"),
    ]


def test_a_built_wheel_has_bytes_once_it_is_pinned() -> None:
    lock = small_lock()
    pinned = replace(lock, pins=(pin("gamma", "2.0"),))
    other = replace(pinned.pins[0], wheel=replace(pinned.pins[0].wheel, sha256=sha("another")))
    assert between(lock, pinned) == []
    assert between(pinned, replace(lock, pins=(other,))) == [("wheel", "gamma", "bytes", "2.0", "2.0")]


def test_each_kind_stands_in_its_group() -> None:
    lock = small_lock()
    conda = LockedConda(
        name="ffmpeg",
        version="6.1",
        build="h0_0",
        channel="forge",
        subdir="linux-64",
        filename="ffmpeg-6.1-h0_0.conda",
        md5="0" * 32,
        sha256=sha("ffmpeg"),
        size=5,
    )
    more = replace(
        lock,
        runtime=(*lock.runtime, package("zeta")),
        build=((lock.build[0][0], (*lock.build[0][1], package("ninja"))), lock.build[1]),
        debs=(*lock.debs, deb("libgl1", "runtime"), deb("cmake", "toolchain")),
        sources=(replace(lock.sources[0], patches=(("p", LockedFile(filename="p", sha256=sha("p"))),)),),
        conda=(conda,),
        assets=(LockedAsset(name="weights", sha256=sha("w"), size=7), LockedAsset(name="soon")),
        interpreter=HOST,
    )
    after = {"env": {"OMP_NUM_THREADS": "2"}, "toolchain": {"compiler": "g++-11"}}
    found = between(lock, more, after=after)
    assert [(kind, name, how) for kind, name, how, _, _ in found] == [
        ("interpreter", "host", "added"),
        ("wheel", "zeta", "added"),
        ("deb", "libgl1", "added"),
        ("conda", "ffmpeg", "added"),
        ("source", "delta", "removed"),
        ("source", "gamma: p", "added"),
        ("asset", "soon", "added"),
        ("asset", "weights", "added"),
        ("toolchain", "cmake", "added"),
        ("toolchain", "compiler", "added"),
        ("build-wheel", "ninja", "added"),
        ("env", "OMP_NUM_THREADS", "changed"),
    ]


def test_what_a_stack_decides_is_compared() -> None:
    target = {"python": "3.12", "platform": "linux_x86_64", "glibc": "2.41"}
    standalone = {"url": ["https://example.org/cpython-3.12.tar.gz"], "sha256": sha("python")}
    after = {
        "target": target,
        "base": {"debian": {"suite": "trixie"}},
        "interpreter": {"standalone": standalone},
        "toolchain": {"nvcc": {"apt": "nvidia-cuda-toolkit"}},
    }
    found = between(small_lock(), small_lock(), after=after)
    assert [(kind, name, how) for kind, name, how, _, _ in found] == [
        ("target", "cuda", "removed"),
        ("target", "cuda-architectures", "removed"),
        ("target", "glibc", "changed"),
        ("target", "python", "changed"),
        ("base", "archive", "changed"),
        ("interpreter", "apt", "removed"),
        ("interpreter", "standalone", "added"),
        ("toolchain", "nvcc", "added"),
    ]


def test_settings_of_the_image_are_compared() -> None:
    before: dict[str, Any] = {
        "image": {"user": "me", "entrypoint": ["tini", "--"]},
        "mount": [{"path": "/data", "holds": ["a", "b c"], "why": "the\n  data"}],
        "asset": [
            {"name": "weights", "path": "/app/weights.pth", "url": ["https://e.org/w"]},
            {
                "name": "many",
                "path": "/m",
                "url": ["https://e.org/m"],
                "members": {"a": "x/a", "b": "b"},
            },
        ],
        "source": [{"name": "app", "git": "https://e.org/app.git", "commit": "a" * 40, "path": "/app"}],
    }
    after = {
        "summary": "two of each",
        "image": {"user": "root", "workdir": "/app", "command": ["python3", "run me.py"]},
        "preflight": {
            "gpu": "required",
            "imports": ["gamma", "delta"],
            "checks": ["import delta\nx = 1"],
        },
        "mount": [{"path": "/data", "holds": ["a"], "optional": True}, {"path": "/more"}],
        "asset": [{**before["asset"][0], "path": "/app/w.pth"}, before["asset"][1]],
        "source": [{**before["source"][0], "writable": True}],
    }
    found = between(small_lock(), small_lock(), before, after)
    assert {one[0] for one in found} == {"image"}
    assert [one[1:] for one in found] == [
        ("asset weights", "changed", "/app/weights.pth", "/app/w.pth"),
        ("image.command", "changed", '["python3"]', '["python3", "run me.py"]'),
        ("image.entrypoint", "removed", '["tini", "--"]', ""),
        ("image.user", "changed", "me", "root"),
        ("image.workdir", "changed", "/workspace", "/app"),
        ("mount /data", "changed", 'required; holds ["a", "b c"]; the data', 'optional; holds ["a"]'),
        ("mount /more", "added", "", "required"),
        ("preflight.checks", "changed", '["import delta"]', '["import delta\\nx = 1"]'),
        ("preflight.gpu", "changed", "none", "required"),
        ("preflight.imports", "changed", '["gamma"]', '["gamma", "delta"]'),
        ("source app", "changed", "/app", "/app, writable"),
        ("summary", "changed", "two wheels and two builds", "two of each"),
    ]


def test_images_are_compared_by_reference_and_digest() -> None:
    def on(tag: str, digest: str) -> tuple[Lock, dict[str, Any]]:
        reference = f"docker.io/library/debian:{tag}"
        image = LockedImage(root="runtime", reference=reference, digest=f"sha256:{digest * 64}")
        base = {"runtime": reference, "toolchain": reference}
        return replace(small_lock(), images=(image,)), {
            "base": base,
            "interpreter": {"image": "python3"},
        }

    (first, said), (moved, _), (other, later) = on("12", "a"), on("12", "b"), on("13", "c")
    assert between(first, moved, said, said) == [
        ("base", "runtime", "bytes", "docker.io/library/debian:12", "docker.io/library/debian:12")
    ]
    assert [one[:3] for one in between(first, other, said, later)] == [("base", "runtime", "changed")]


def test_vulnerabilities_are_compared_whatever_the_version() -> None:
    def found(name: str, id_: str, version: str = "1") -> Vulnerability:
        package = Package(ecosystems=("PyPI",), name=name, version=version, components=())
        return Vulnerability(
            package=package, id=id_, aliases=(), severity="", score=None, fixes=(), summary=""
        )

    told = vulnerabilities(
        [found("a", "CVE-1"), found("b", "CVE-2")],
        [found("a", "CVE-1", "2"), found("c", "CVE-2")],
    )
    assert [(one.package.name, one.id) for one in told.gained] == [("c", "CVE-2")]
    assert [(one.package.name, one.id) for one in told.lost] == [("b", "CVE-2")]
    assert told.both == 1


def test_a_lock_alone_says_nothing_of_what_a_stack_decides() -> None:
    kinds = {part.kind for part in parts_of(small_lock(), None)}
    assert kinds == {"wheel", "deb", "toolchain", "source", "build-wheel"}
    assert kinds <= GROUPS.keys()


def test_commits_are_no_versions() -> None:
    lock = small_lock()
    old, new = (
        replace(lock, sources=(replace(lock.sources[0], commit=one * 40, version=""),)) for one in "ab"
    )
    assert between(old, new) == [("source", "gamma", "changed", "a" * 12, "b" * 12)]


def test_a_file_that_is_in_two_places_is_downloaded_once() -> None:
    one = Part(kind="wheel", name="a", version="1", content=sha("a"), size=5)
    assert download_size((one, replace(one, kind="build-wheel"), replace(one, content="x", size=2))) == 7


def test_sizes_are_told() -> None:
    (change,) = changes(
        [Part(kind="wheel", name="a", version="1", size=5)],
        [Part(kind="wheel", name="a", version="2", size=7)],
    )
    assert change == Change(
        kind="wheel", name="a", how="changed", old="1", new="2", old_size=5, new_size=7
    )


# ---- components ------------------------------------------------------------------------------------


def component(name: str, licence: str = "", *, kind: Kind = "wheel", **more: Any) -> Component:
    values = {"purl": "", "sha256": None, "size": None, "installed_size": 10, **more}
    return Component(
        ref=ref_of(kind, name, "1"), kind=kind, name=name, version="1", licence=licence, **values
    )


def test_licences_that_change_come_and_go() -> None:
    old = [component("a", "MIT"), component("b", "MIT"), component("c", "ISC")]
    new = [component("a", "MIT"), component("b", "AGPL-3.0-only"), component("d", "")]
    found = licences(old, new)
    assert [(one.name, one.old, one.new) for one in found.changed] == [("b", "MIT", "AGPL-3.0-only")]
    assert found.gained == (("", ("d",)), ("AGPL-3.0-only", ("b",)))
    assert found.lost == (("ISC", ("c",)),)


def test_what_nobody_looked_into_has_no_other_licence() -> None:
    old, new = [component("a", "MIT")], [component("a", installed_size=None)]
    assert licences(old, new).changed == ()
    assert licences(old, new).unknown == (0, 1)


def test_a_wheel_and_a_deb_of_one_name_are_two() -> None:
    both = [component("a", "MIT"), component("a", "ISC", kind="deb")]
    assert licences(both, both[::-1]).changed == ()


@pytest.mark.parametrize("in_image", [True, False])
def test_what_the_image_has_not_counts_nothing(*, in_image: bool) -> None:
    one = component("a", "AGPL-3.0-only", in_image=in_image)
    assert bool(licences([], [one]).gained) == in_image
    assert installed_size([one, component("b", installed_size=None)]) == (10 * in_image, 1)
