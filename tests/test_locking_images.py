"""Pinning base images, with a real registry."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Any

import pytest

from lockbuild.errors import LockError, ResolveError
from lockbuild.lock import Lock, lock_texts, parse_lock
from lockbuild.locking.debs import DebPinner
from lockbuild.locking.former import Former, ResolveOptions
from lockbuild.locking.gaps import Gaps
from lockbuild.locking.images import ImagePinner
from lockbuild.plan import make_plan
from lockbuild.progress import Silent
from lockbuild.sources import Mirrors
from lockbuild.stack import from_document, inputs_of
from lockbuild.store import Store
from tests import values
from tests.images import Member, layer
from tests.needs import need
from tests.servers.registry import serve_registry

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from lockbuild.imagelock import LockedImage
    from tests.servers.registry import Registry

ONE = layer(Member(name="etc/one", content=b"1"))
TWO = layer(Member(name="etc/two", content=b"2"))


@pytest.fixture
def registry(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Registry]:
    need("skopeo", "docker-registry")
    monkeypatch.setenv("HOME", str(tmp_path))
    with serve_registry(tmp_path / "registry") as made:
        made.push("tests/base", [ONE], tag="1", env=("PATH=/cuda/bin:/bin", "LD_LIBRARY_PATH=/cuda/lib"))
        yield made


def document(runtime: str, toolchain: str | None = None, **base: Any) -> dict[str, Any]:
    small = {key: value for key, value in values.stack_document().items() if key != "apt"}
    images = {"runtime": runtime, "toolchain": toolchain or runtime}
    return {**small, "base": {**images, **base}, "interpreter": {"image": "python3"}}


def pinned(
    content: dict[str, Any], former: Lock | None = None, *, upgrade: bool = False
) -> tuple[tuple[LockedImage, ...], Gaps]:
    gaps = Gaps()
    pinner = ImagePinner(
        stack=from_document(content),
        former=Former(
            lock=former, inputs=inputs_of(content, {}), options=ResolveOptions(upgrade=upgrade)
        ),
        mirrors=lambda _names: Mirrors(),
        progress=Silent(),
        gaps=gaps,
    )
    return pinner.pin(), gaps


def locked(content: dict[str, Any], images: tuple[LockedImage, ...], gaps: Gaps) -> Lock:
    inputs = tuple(sorted(inputs_of(content, {}).items()))
    lock = replace(values.small_lock(), debs=(), inputs=inputs, images=images)
    return replace(lock, open=tuple(sorted(gaps.open)))


def read_again(content: dict[str, Any], lock: Lock) -> Lock:
    target = from_document(content).target
    return replace(
        parse_lock(lock_texts(lock, name="small", target=target, wheels="wheels")), digest=lock.digest
    )


def test_a_tag_becomes_a_digest_and_the_lock_holds_what_follows_from_it(registry: Registry) -> None:
    content = document(f"{registry.host}/tests/base:1")
    images, gaps = pinned(content)
    assert [image.root for image in images] == ["runtime", "toolchain"]
    assert images[0].env == (("LD_LIBRARY_PATH", "/cuda/lib"), ("PATH", "/cuda/bin:/bin"))
    lock = locked(content, images, gaps)
    assert read_again(content, lock) == lock
    # One image for both roots is asked about once.
    assert len([line for line in registry.asked() if "/manifests/1 " in line]) == 1


def test_a_tag_keeps_its_digest_until_an_upgrade(registry: Registry) -> None:
    content = document(f"{registry.host}/tests/base:1")
    before, gaps = pinned(content)
    lock = locked(content, before, gaps)
    moved = registry.push("tests/base", [TWO], tag="1")
    assert pinned(content, lock)[0] == before
    after, _ = pinned(content, lock, upgrade=True)
    assert {image.digest for image in after} == {moved.digest}


def test_a_digest_does_not_move_and_is_not_even_asked_about(registry: Registry) -> None:
    plain, _ = pinned(document(f"{registry.host}/tests/base:1"))
    content = document(f"{registry.host}/tests/base:1@{plain[0].digest}")
    images, gaps = pinned(content)
    assert images == plain
    registry.stop()
    assert pinned(content, locked(content, images, gaps), upgrade=True) == (images, Gaps())


def test_an_upgrade_without_the_registry_keeps_the_digest_and_says_so(registry: Registry) -> None:
    content = document(f"{registry.host}/tests/base:1")
    images, gaps = pinned(content)
    registry.stop()
    after, gaps = pinned(content, locked(content, images, gaps), upgrade=True)
    assert after == images
    assert [part.label for part in gaps.kept] == ["base runtime", "base toolchain"]
    assert gaps.open == []


def test_a_digest_is_locked_without_the_registry_and_the_rest_is_open(registry: Registry) -> None:
    known, _ = pinned(document(f"{registry.host}/tests/base:1"))
    content = document(
        f"{registry.host}/tests/base:1@{known[0].digest}", f"{registry.host}/tests/base:1"
    )
    registry.stop()
    images, gaps = pinned(content)
    assert [(image.root, image.digest) for image in images] == [
        ("runtime", known[0].digest),
        ("toolchain", None),
    ]
    assert [(part.label, part.reason.rpartition(": ")[2]) for part in sorted(gaps.open)] == [
        ("base runtime", "the registry cannot be reached"),
        ("base toolchain", "the registry cannot be reached"),
    ]
    lock = locked(content, images, gaps)
    assert read_again(content, lock) == lock
    # All else is planned; what needs the images waits.
    plan = make_plan(from_document(content), lock)
    assert plan.roots == ()
    assert {"runtime", "toolchain"} <= dict(plan.blocked).keys()
    assert plan.wheels
    # Nothing is asked of a lock that is open as if it were not.
    with pytest.raises(LockError, match="is open"):
        make_plan(from_document(content), replace(lock, open=()))


def test_what_is_open_is_closed_once_the_registry_answers(registry: Registry) -> None:
    content = document(f"{registry.host}/tests/base:1")
    gone = document("127.0.0.1:1/tests/base:1")
    images, gaps = pinned(gone)
    open_lock = replace(locked(gone, images, gaps), inputs=tuple(sorted(inputs_of(content, {}).items())))
    images, gaps = pinned(content, open_lock)
    assert all(image.manifest for image in images)
    assert gaps == Gaps()


def test_the_image_decides_the_roots_and_its_registry_does_not(registry: Registry) -> None:
    registry.push(
        "elsewhere/copy", [ONE], tag="9", env=("PATH=/cuda/bin:/bin", "LD_LIBRARY_PATH=/cuda/lib")
    )
    plans = []
    for name in ("tests/base:1", "elsewhere/copy:9"):
        content = document(f"{registry.host}/{name}")
        plans.append(make_plan(from_document(content), locked(content, *pinned(content))))
    assert plans[0].roots == plans[1].roots
    (build,) = (plans[0].derivations[path] for name, path in plans[0].compiles if name == "gamma")
    env = dict(build.env)  # type: ignore[union-attr]
    assert env["LD_LIBRARY_PATH"] == "/cuda/lib"
    assert env["PATH"].endswith("/bin:/cuda/bin:/bin")


# ---- packages on top ----------------------------------------------------------------------------------


def debs(content: dict[str, Any], images: tuple[LockedImage, ...], tmp_path: Path) -> Gaps:
    """Ask for the packages on top of *images*, of which no archive is known."""
    gaps = Gaps()
    scratch = tmp_path / "scratch"
    scratch.mkdir(exist_ok=True)
    with Store(tmp_path / "store") as store:
        DebPinner(
            stack=from_document(content),
            former=Former(lock=None, inputs=inputs_of(content, {})),
            mirrors=lambda _names: Mirrors(),
            progress=Silent(),
            scratch=scratch,
            gaps=gaps,
            images=images,
            store=store,
        ).pin()
    return gaps


def test_packages_wait_for_an_image_that_is_open(registry: Registry, tmp_path: Path) -> None:
    content = document(f"{registry.host}/tests/base:1", packages={"suite": "bookworm"})
    content |= {"apt": {"runtime": ["libgomp1"]}}
    registry.stop()
    images, _ = pinned(content)
    (part,) = debs(content, images, tmp_path).open
    assert part.label == "apt bookworm"
    assert "`base.runtime`" in part.reason
    assert "toolchain" not in part.reason


def test_an_image_without_dpkg_takes_no_packages(registry: Registry, tmp_path: Path) -> None:
    content = document(f"{registry.host}/tests/base:1", packages={"suite": "bookworm"})
    content |= {"apt": {"runtime": ["libgomp1"]}}
    images, _ = pinned(content)
    with pytest.raises(ResolveError, match="it has no dpkg"):
        debs(content, images, tmp_path)


def test_without_wishes_nothing_is_asked_nor_pulled(registry: Registry, tmp_path: Path) -> None:
    content = document(f"{registry.host}/tests/base:1")
    images, _ = pinned(content)
    assert debs(content, images, tmp_path) == Gaps()
    with Store(tmp_path / "store") as store:
        assert store.paths() == ()


def test_nothing_of_an_image_by_digest_is_open_where_packages_go_on_top_of_it(
    registry: Registry,
) -> None:
    known, _ = pinned(document(f"{registry.host}/tests/base:1"))
    suite = {"vendor": "debian", "suite": "bookworm"}
    content = document(f"{registry.host}/tests/base:1@{known[0].digest}", packages=suite)
    content = {**content, "apt": {"runtime": ["libgl1"]}}
    registry.stop()
    images, gaps = pinned(content)
    assert {image.digest for image in images} == {known[0].digest}
    # Which packages the runtime lacks is open instead; the toolchain waits for the image itself.
    assert [part.label for part in gaps.open] == ["base toolchain"]
