"""Assets from stack file to build context: a real store, a server on bad days, and archives with what is not ours."""

from __future__ import annotations

import hashlib
import io
import json
import re
import tarfile
import tomllib
import zipfile
from typing import TYPE_CHECKING, Any

import pytest

from lockbuild.assetlock import LockedAsset
from lockbuild.digest import Sha256
from lockbuild.dockerfile import Contents, render_context
from lockbuild.dockerfile.steps import network_steps
from lockbuild.documents import toml_text
from lockbuild.errors import FetchError, UsageError
from lockbuild.folders import STACK_FILE
from lockbuild.locking import Resolved, ResolveOptions, resolve
from lockbuild.packing import bundled_assets, fill_context, make_manifest
from lockbuild.plan import missing
from lockbuild.progress import Silent
from tests.servers.faulty import Fault, FaultyServer, faulty_server
from tests.test_dockerfile import TEMPLATE_TEXTS
from tests.values import stack_document
from tests.worlds import World, make_world, unconfigured

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

WEIGHTS = b"\x80\x02weights" * 1000
LICENSED = b"SMPL, which may not be passed on"
MEMBERS = {"data/model.pth": "models/model.pth", "data/mean.npz": "mean.npz"}


@pytest.fixture
def server(tmp_path: Path) -> Iterator[FaultyServer]:
    root = tmp_path / "www"
    root.mkdir()
    (root / "w.pth").write_bytes(WEIGHTS)
    files = {"data/model.pth": WEIGHTS, "data/mean.npz": b"mean", "data/smpl/SMPL_NEUTRAL.pkl": LICENSED}
    with zipfile.ZipFile(root / "data.zip", "w") as archive:
        for name, data in files.items():
            archive.writestr(name, data)
    with tarfile.open(root / "data.tar.gz", "w:gz") as tar:
        for name, data in files.items():
            member = tarfile.TarInfo(name)
            member.size = len(data)
            tar.addfile(member, io.BytesIO(data))
    with faulty_server(root) as made:
        yield made


@pytest.fixture
def world(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[World]:
    document = stack_document()
    # Nothing that an engine would have to resolve, and nothing to compile.
    document["python"] = {"requires": ["alpha"], "index": document["python"]["index"]}
    folder = tmp_path / "world"
    folder.mkdir()
    with make_world(folder, document=document) as made:
        unconfigured(monkeypatch, tmp_path / "home")
        monkeypatch.setenv("UV_DEFAULT_INDEX", made.index.url)
        yield made


def sha256(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()


def declare(world: World, server: FaultyServer, *paths: str, **change: Any) -> None:
    """Put one asset into the stack file; a value of none takes the key away."""
    table = {
        "name": "weights",
        "path": "/app/weights.pth",
        "url": [server.url + path for path in paths or ("/w.pth",)],
        "sha256": "on-first-fetch",
        "license": "MIT",
        **change,
    }
    document = tomllib.loads(world.folder.read_stack_text())
    document["asset"] = [{key: value for key, value in table.items() if value is not None}]
    (world.folder.path / STACK_FILE).write_text(toml_text(document), encoding="utf-8")


def ask(world: World, **options: Any) -> Resolved:
    mirrors = world.mirrors
    return resolve(
        world.folder,
        options=ResolveOptions(**options),
        mirrors=lambda _names: mirrors,
        store=world.store,
        progress=Silent(),
    )


def pinned(world: World, **options: Any) -> LockedAsset:
    (asset,) = ask(world, **options).lock.assets
    return asset


def fetch(world: World) -> Path:
    """Fetch the asset alone and return where it lies in the store."""
    ((_, path),) = world.plan.assets
    world.realiser().fetch([path])
    return world.store.locate(path)


def forget(world: World) -> None:
    """Take the asset out of the store again, as on another machine."""
    for _, path in world.plan.assets:
        world.store.remove(path)


def said(error: FetchError) -> str:
    return "\n".join((error.message, *error.details, error.hint or ""))


def everything_in(folder: Path) -> bytes:
    return b"".join(path.read_bytes() for path in sorted(folder.rglob("*")) if path.is_file())


# ---- pinning ---------------------------------------------------------------------------------------


def test_a_sha256_of_the_stack_needs_no_fetch(world: World, server: FaultyServer) -> None:
    declare(world, server, sha256=sha256(WEIGHTS), size=len(WEIGHTS))
    assert pinned(world) == LockedAsset(
        name="weights", sha256=Sha256(sha256(WEIGHTS)), size=len(WEIGHTS)
    )
    assert server.requests == []


def test_a_lock_does_not_change_with_what_the_store_has(world: World, server: FaultyServer) -> None:
    declare(world, server, sha256=sha256(WEIGHTS))
    before = ask(world).lock
    fetch(world)
    assert ask(world).lock == before


@pytest.mark.parametrize(
    ("key", "digits"),
    [
        ("sha256", "on-first-fetch"),
        ("sha1", hashlib.sha1(WEIGHTS).hexdigest()),
        ("git-blob", hashlib.sha1(b"blob %d\0" % len(WEIGHTS) + WEIGHTS).hexdigest()),
    ],
)
def test_the_first_fetch_pins_our_own_sha256(
    world: World, server: FaultyServer, key: str, digits: str
) -> None:
    declare(world, server, **({"sha256": None} | {key: digits}))
    found = pinned(world)
    assert (found.sha256, found.size) == (sha256(WEIGHTS), len(WEIGHTS))
    assert fetch(world).read_bytes() == WEIGHTS


def test_what_was_pinned_is_not_asked_for_again(world: World, server: FaultyServer) -> None:
    declare(world, server)
    ask(world)
    asked = len(server.requests)
    assert ask(world).changed == ()
    assert len(server.requests) == asked


def test_a_pin_stays_though_the_server_has_other_bytes(world: World, server: FaultyServer) -> None:
    declare(world, server)
    before = pinned(world)
    (server.root / "w.pth").write_bytes(bytes(len(WEIGHTS)))
    declare(world, server, "/w.pth", "/mirror.pth", why="another word")
    assert pinned(world) == before
    forget(world)
    with pytest.raises(FetchError) as caught:
        fetch(world)
    assert sha256(WEIGHTS) in said(caught.value)
    assert "`lockbuild resolve --repin weights`" in said(caught.value)


def test_a_forgotten_pin_takes_what_is_there_now(world: World, server: FaultyServer) -> None:
    declare(world, server)
    ask(world)
    (server.root / "w.pth").write_bytes(b"others")
    resolved = ask(world, repin=frozenset({"weights"}))
    assert resolved.lock.assets[0].sha256 == sha256(b"others")
    assert resolved.moved == (f"weights (asset): {sha256(WEIGHTS)} -> {sha256(b'others')}",)


def test_an_unknown_name_to_forget_is_refused(world: World, server: FaultyServer) -> None:
    declare(world, server)
    with pytest.raises(UsageError, match="no build or asset called `weight`"):
        ask(world, repin=frozenset({"weight"}))


def test_a_changed_hash_in_the_stack_is_a_new_pin(world: World, server: FaultyServer) -> None:
    declare(world, server)
    ask(world)
    declare(world, server, sha256="a" * 64)
    assert pinned(world).sha256 == "a" * 64


# ---- open ------------------------------------------------------------------------------------------


def test_what_cannot_be_had_is_open_and_all_else_is_locked(world: World, server: FaultyServer) -> None:
    declare(world, server, "/absent.pth")
    resolved = ask(world)
    (part,) = resolved.open
    assert (part.label, part.reason) == (
        "asset weights",
        f"{server.url}/absent.pth: HTTP 404 Not Found",
    )
    assert world.lock.open_parts == resolved.open
    assert [package.name for package in world.lock.runtime]


def test_a_saved_page_is_open_with_that_reason(world: World, server: FaultyServer) -> None:
    server.faults["/w.pth"] = Fault(kind="html")
    declare(world, server)
    reason = ask(world).open[0].reason
    assert "an HTML page came instead of the file: `Sign in`" in reason


def test_a_redirect_loop_is_open_with_that_reason(world: World, server: FaultyServer) -> None:
    server.faults["/w.pth"] = Fault(kind="redirect", location="/w.pth")
    declare(world, server)
    reason = ask(world).open[0].reason
    assert "more than 10 redirects" in reason


def test_everything_but_what_is_open_can_be_fetched(world: World, server: FaultyServer) -> None:
    declare(world, server, "/absent.pth")
    ask(world)
    assert world.plan.assets == ()
    assert world.realiser().fetch()


def test_what_was_open_is_pinned_once_it_can_be_had(world: World, server: FaultyServer) -> None:
    server.faults["/w.pth"] = Fault(kind="status", status=403)
    declare(world, server)
    assert ask(world).open
    server.faults.clear()
    assert ask(world).open == ()
    assert pinned(world).sha256 == sha256(WEIGHTS)


def test_an_unreachable_server_leaves_a_former_pin(world: World, server: FaultyServer) -> None:
    declare(world, server)
    before = pinned(world)
    declare(world, server, "/absent.pth")
    assert pinned(world) == before


# ---- fetching --------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "fault",
    [
        Fault(kind="status", status=404),
        Fault(kind="html"),
        Fault(kind="wrong"),
        Fault(kind="redirect", location="/w.pth"),
    ],
    ids=lambda fault: fault.kind,
)
def test_the_next_address_is_asked(world: World, server: FaultyServer, fault: Fault) -> None:
    (server.root / "mirror.pth").write_bytes(WEIGHTS)
    server.faults["/w.pth"] = fault
    declare(world, server, "/w.pth", "/mirror.pth", sha256=sha256(WEIGHTS))
    ask(world)
    assert fetch(world).read_bytes() == WEIGHTS


def test_a_truncated_file_is_carried_on(world: World, server: FaultyServer) -> None:
    server.faults["/w.pth"] = (Fault(kind="truncate", after=1000), Fault())
    declare(world, server, sha256=sha256(WEIGHTS), size=len(WEIGHTS))
    ask(world)
    assert fetch(world).read_bytes() == WEIGHTS
    assert server.asked("/w.pth")[1].headers["Range"] == "bytes=1000-"


def test_a_page_whose_hash_was_pinned_is_refused_all_the_same(
    world: World, server: FaultyServer
) -> None:
    page = b"<!DOCTYPE html><html><head><title>Quota exceeded</title></head></html>"
    (server.root / "w.pth").write_bytes(page)
    declare(world, server, sha256=sha256(page))
    ask(world)
    with pytest.raises(FetchError) as caught:
        fetch(world)
    assert "an HTML page came instead of the file: `Quota exceeded`" in said(caught.value)
    assert sha256(page) not in {path.name for path in world.store.downloads.iterdir()}


def test_locked_bytes_of_another_type_are_refused(world: World, server: FaultyServer) -> None:
    declare(world, server, sha256=sha256(WEIGHTS), type="zip")
    ask(world)
    with pytest.raises(FetchError) as caught:
        fetch(world)
    assert "expected a file of type `zip`, found `pickle`" in said(caught.value)


def test_a_build_waits_for_no_asset(world: World, server: FaultyServer) -> None:
    declare(world, server, sha256=sha256(WEIGHTS))
    ask(world)
    wheels = [path for _, path in (*world.plan.wheels, *world.plan.builds)]
    assert "weights" not in {
        one.filename for one in missing(world.plan, wheels, valid=frozenset()).to_fetch
    }


# ---- members ---------------------------------------------------------------------------------------


def declare_members(world: World, server: FaultyServer, file: str = "data.zip", **change: Any) -> None:
    declare(world, server, f"/{file}", name="data", path="/app/data", members=MEMBERS, **change)


@pytest.mark.parametrize("file", ["data.zip", "data.tar.gz"])
def test_only_members_come_into_the_store(world: World, server: FaultyServer, file: str) -> None:
    declare_members(world, server, file)
    ask(world)
    place = fetch(world)
    assert (place / "models/model.pth").read_bytes() == WEIGHTS
    assert sorted(path.name for path in place.rglob("*")) == ["mean.npz", "model.pth", "models"]
    assert LICENSED not in everything_in(world.store.root)


@pytest.mark.parametrize("file", ["data.zip", "data.tar.gz"])
def test_members_are_fetched_again_as_they_were_pinned(
    world: World, server: FaultyServer, file: str
) -> None:
    declare_members(world, server, file)
    ask(world)
    forget(world)
    place = fetch(world)
    assert sorted(path.name for path in place.rglob("*")) == ["mean.npz", "model.pth", "models"]
    assert LICENSED not in everything_in(world.store.root)
    assert list(world.store.downloads.iterdir()) == []


def test_the_lock_has_hashes_of_archive_and_members(world: World, server: FaultyServer) -> None:
    declare_members(world, server)
    found = pinned(world)
    assert found.archive
    assert found.archive.sha256 == sha256((server.root / "data.zip").read_bytes())
    assert found.sha256 not in (None, found.archive.sha256)
    assert found.size == len(WEIGHTS) + len(b"mean")


def test_the_hash_of_an_archive_is_compared_before_it_is_opened(
    world: World, server: FaultyServer
) -> None:
    declare_members(world, server, sha256="0" * 64)
    reason = ask(world).open[0].reason
    assert "wrong bytes" in reason


def test_another_archive_than_the_pinned_one_is_refused(world: World, server: FaultyServer) -> None:
    declare_members(world, server)
    ask(world)
    forget(world)
    with zipfile.ZipFile(server.root / "data.zip", "a") as archive:
        archive.writestr("more", b"more")
    with pytest.raises(FetchError) as caught:
        fetch(world)
    assert re.search(
        r"^data +127\.0\.0\.1:\d+ +wrong size; expected \d+ bytes", said(caught.value), re.MULTILINE
    )


def test_an_absent_member_is_told(world: World, server: FaultyServer) -> None:
    declare_members(world, server)
    declare(world, server, "/data.zip", name="data", path="/app", members={"data/modle.pth": "x"})
    reason = ask(world).open[0].reason
    assert "did you mean `data/model.pth`?" in reason


def test_other_members_are_another_pin(world: World, server: FaultyServer) -> None:
    declare_members(world, server)
    before = pinned(world)
    declare(world, server, "/data.zip", name="data", path="/app", members={"data/model.pth": "x"})
    assert pinned(world).sha256 != before.sha256


# ---- the image -------------------------------------------------------------------------------------


def texts(world: World) -> dict[str, str]:
    manifest = make_manifest(world.stack, world.lock, world.plan, world.store)
    assets = bundled_assets(world.stack, world.plan, world.store)
    contents = Contents(manifest=manifest, bill="{}\n", notice="", assets=assets)
    return render_context(world.stack, world.lock, contents, templates=TEMPLATE_TEXTS)


def pack(world: World, context: Path) -> dict[str, str]:
    """Fill a build context and return its texts."""
    world.realiser().build(world.plan.targets)
    manifest = make_manifest(world.stack, world.lock, world.plan, world.store)
    rendered = texts(world)
    fill_context(
        context,
        texts=rendered,
        manifest=manifest,
        plan=world.plan,
        store=world.store,
        assets=bundled_assets(world.stack, world.plan, world.store),
    )
    return rendered


def test_a_context_holds_the_asset(world: World, server: FaultyServer, tmp_path: Path) -> None:
    declare(world, server)
    ask(world)
    rendered = pack(world, tmp_path / "context")
    assert (tmp_path / "context/assets/weights").read_bytes() == WEIGHTS
    assert 'put "" /app/weights.pth;' in rendered["Dockerfile"]
    assert network_steps(rendered["Dockerfile"]) == ()


def test_a_context_holds_members_and_nothing_else_of_an_archive(
    world: World, server: FaultyServer, tmp_path: Path
) -> None:
    declare_members(world, server)
    ask(world)
    rendered = pack(world, tmp_path / "context")
    assert (tmp_path / "context/assets/data/models/model.pth").read_bytes() == WEIGHTS
    assert 'put "/models/model.pth" /app/data/models/model.pth;' in rendered["Dockerfile"]
    assert LICENSED not in everything_in(tmp_path / "context")


def test_a_context_forgets_an_asset_that_became_members(
    world: World, server: FaultyServer, tmp_path: Path
) -> None:
    for members in (None, MEMBERS, None):
        declare(world, server, "/data.zip", members=members, path="/app/x")
        ask(world)
        pack(world, tmp_path / "context")
        assert (tmp_path / "context/assets/weights").is_dir() is (members is not None)


def test_the_preflight_knows_every_file_and_mount(
    world: World, server: FaultyServer, tmp_path: Path
) -> None:
    declare_members(world, server)
    document = tomllib.loads(world.folder.read_stack_text())
    smpl = {"name": "smpl", "path": "/app/smpl", "policy": "mount", "holds": ["*.pkl"], "why": "licence"}
    document["asset"].append(smpl)
    (world.folder.path / STACK_FILE).write_text(toml_text(document), encoding="utf-8")
    ask(world)
    data = json.loads(pack(world, tmp_path / "context")["preflight/preflight.json"])
    assert data["assets"] == [
        {"path": "/app/data/mean.npz", "size": 4, "sha256": sha256(b"mean")},
        {"path": "/app/data/models/model.pth", "size": len(WEIGHTS), "sha256": sha256(WEIGHTS)},
    ]
    assert data["mounts"] == [
        {"path": "/app/smpl", "holds": ["*.pkl"], "why": "licence", "optional": False}
    ]


def test_an_asset_comes_before_the_environment(
    world: World, server: FaultyServer, tmp_path: Path
) -> None:
    declare(world, server)
    ask(world)
    dockerfile = pack(world, tmp_path / "context")["Dockerfile"]
    assert dockerfile.index("COPY --from=asset-1") < dockerfile.index("COPY --from=environment")
