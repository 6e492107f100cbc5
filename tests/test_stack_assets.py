"""`[[asset]]`: its faults, its licences, and what follows from its policy."""

from __future__ import annotations

from typing import Any, get_args

import pytest

from lockbuild.documents import toml_text
from lockbuild.errors import StackError
from lockbuild.sources.kinds import KINDS
from lockbuild.stack import Mount, Stack, from_document
from lockbuild.stack.asset_tables import AssetTable
from lockbuild.stack.assets import forbids_redistribution
from lockbuild.stack.schema import parse_stack_text
from tests.values import minimal_document

WEIGHTS: dict[str, Any] = {
    "name": "weights.pth",
    "path": "/app/weights.pth",
    "url": ["https://example.invalid/weights.pth"],
    "sha256": "a" * 64,
    "license": "MIT",
}
SMPL: dict[str, Any] = {
    "name": "smpl",
    "path": "/app/smpl",
    "policy": "mount",
    "holds": ["SMPL_*.pkl"],
    "license": "LicenseRef-SMPL",
    "why": "SMPL may not be passed on",
}


def read(*assets: dict[str, Any], **document: Any) -> Stack:
    text = toml_text({**minimal_document(), "asset": list(assets), **document})
    return from_document(parse_stack_text(text, file="stack.toml"))


def fault(*assets: dict[str, Any], **document: Any) -> str:
    with pytest.raises(StackError) as caught:
        read(*assets, **document)
    (line,) = caught.value.details
    return line


def without(*keys: str) -> dict[str, Any]:
    return {key: value for key, value in WEIGHTS.items() if key not in keys}


def test_a_bundle_is_read() -> None:
    (asset,) = read(WEIGHTS).bundles
    assert (asset.name, asset.path, asset.sha256, asset.url) == (
        "weights.pth",
        "/app/weights.pth",
        "a" * 64,
        ("https://example.invalid/weights.pth",),
    )


def test_an_lfs_oid_is_the_sha256_of_the_content() -> None:
    (asset,) = read({**without("sha256"), "lfs-oid": "b" * 64}).bundles
    assert asset.sha256 == "b" * 64


def test_what_upstream_publishes_instead_of_a_sha256_is_kept() -> None:
    (asset,) = read({**without("sha256"), "git-blob": "c" * 40}).bundles
    assert (asset.sha256, asset.checksums) == (None, (("git-blob", "c" * 40),))


def test_members_are_sorted() -> None:
    (asset,) = read({**WEIGHTS, "members": {"z/a": "1", "b/c": "2"}}).bundles
    assert asset.members == (("b/c", "2"), ("z/a", "1"))


@pytest.mark.parametrize(
    ("policy", "optional"), [("mount", False), ("optional-mount", True)], ids=["mount", "optional"]
)
def test_a_mounted_asset_is_a_mount_of_the_preflight(policy: str, *, optional: bool) -> None:
    stack = read({**SMPL, "policy": policy})
    assert stack.bundles == ()
    assert stack.mounts == (
        Mount(
            path="/app/smpl", holds=("SMPL_*.pkl",), why="SMPL may not be passed on", optional=optional
        ),
    )


def test_a_mount_without_a_reason_names_asset_and_licence() -> None:
    (mount,) = read({key: SMPL[key] for key in SMPL if key != "why"}).mounts
    assert mount.why == "`smpl`, licence LicenseRef-SMPL, is not in the image"


# ---- faults ----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("asset", "said"),
    [
        ({**WEIGHTS, "sha256": "12"}, '`asset[weights.pth].sha256`: found "12", expected a sha256'),
        (
            {**WEIGHTS, "sha1": "a" * 40},
            "expected exactly one of `sha256`, `sha1`, `git-blob` and `lfs-oid`",
        ),
        (without("sha256"), "expected exactly one of `sha256`, `sha1`, `git-blob` and `lfs-oid`"),
        (without("url"), "expected `url` with at least one address"),
        (without("path"), "`asset[weights.pth].path`: missing"),
        ({**WEIGHTS, "name": "../x"}, "`asset[../x].name`: found"),
        ({**WEIGHTS, "path": "weights"}, "expected an absolute path in the image"),
        ({**WEIGHTS, "path": "/app/../etc/passwd"}, "expected an absolute path in the image"),
        ({**WEIGHTS, "path": "/opt/venv/lib/x"}, "expected a path outside of `/opt/venv`"),
        ({**WEIGHTS, "size": 0}, "`asset[weights.pth].size`: found 0, expected a number above 0"),
        ({**WEIGHTS, "type": "zipp"}, "did you mean `zip`?"),
        ({**WEIGHTS, "members": {"a": "../b"}}, "`asset[weights.pth].members.a`"),
        ({**WEIGHTS, "members": {"a": "x", "b": "x/y"}}, "`x` and `x/y` cannot both be files"),
        ({**WEIGHTS, "members": {"a": "x", "b": "x"}}, "another place for each member"),
        ({**WEIGHTS, "members": {"./a": "x"}}, "without `./` and patterns"),
        ({**WEIGHTS, "holds": ["x"]}, "`holds` only beside"),
        ({**WEIGHTS, "licence": "MIT"}, "did you mean `license`?"),
        ({**SMPL, "url": ["https://x.invalid"]}, 'no `url` beside `policy = "mount"`'),
        ({**SMPL, "sha256": "a" * 64, "type": "zip"}, "no `sha256` and `type` beside"),
        ({**WEIGHTS, "license": "mit"}, "the licence as SPDX writes it: `MIT`"),
        ({**WEIGHTS, "license": "My own"}, "expected an SPDX expression"),
        (without("license"), "expected `license` of what the image passes on"),
        ({**WEIGHTS, "accept-license": " "}, "expected one line that says why"),
    ],
)
def test_a_wrong_asset_is_told_with_its_key(asset: dict[str, Any], said: str) -> None:
    assert said in fault(asset)


def test_two_assets_of_one_name_are_refused() -> None:
    assert "each name once" in fault(WEIGHTS, {**WEIGHTS, "path": "/app/other"})


def test_two_assets_at_one_place_are_refused() -> None:
    assert "cannot both be there" in fault(WEIGHTS, {**WEIGHTS, "name": "other"})


def test_an_asset_below_the_file_of_another_is_refused() -> None:
    below = {**WEIGHTS, "name": "other", "path": "/app/weights.pth/more"}
    assert "`/app/weights.pth` and `/app/weights.pth/more` cannot both be there" in fault(WEIGHTS, below)


def test_an_asset_that_a_mount_would_hide_is_refused() -> None:
    hidden = {**WEIGHTS, "path": "/app/smpl/weights.pth"}
    assert "mounting `/app/smpl` would hide `/app/smpl/weights.pth`" in fault(hidden, SMPL)
    assert "would hide" in fault(hidden, mount=[{"path": "/app"}])


def test_a_mount_and_an_asset_at_one_place_are_refused() -> None:
    assert "each mount once; twice: `/app/smpl`" in fault(SMPL, mount=[{"path": "/app/smpl"}])


def test_members_beside_one_another_are_no_clash() -> None:
    members = {"a": "x", "b": "x-1", "c": "x.d/e"}
    assert read({**WEIGHTS, "members": members}).bundles


def test_the_types_are_those_that_can_be_told_apart() -> None:
    optional = AssetTable.model_fields["type"].annotation
    literal = get_args(optional)[0]
    assert set(get_args(literal)) == set(KINDS)


# ---- licences --------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "licence", ["CC-BY-NC-4.0", "LicenseRef-SMPL", "NOASSERTION", "NONE", "MIT AND CC-BY-NC-SA-4.0"]
)
def test_a_bundle_that_not_everybody_may_pass_on_is_refused(licence: str) -> None:
    said = fault({**WEIGHTS, "license": licence})
    assert f"`{licence}` does not let everybody pass it on" in said
    assert "`accept-license` with the reason" in said


def test_a_refused_bundle_may_be_accepted_with_a_reason() -> None:
    accepted = {**WEIGHTS, "license": "CC-BY-NC-4.0", "accept-license": "the image stays in this house"}
    assert read(accepted).bundles


def test_a_licence_of_ones_own_may_be_said_to_allow_it() -> None:
    assert read({**WEIGHTS, "license": "LicenseRef-Lab", "redistributable": True}).bundles


def test_a_known_licence_is_not_overruled() -> None:
    said = fault({**WEIGHTS, "license": "CC-BY-NC-4.0", "redistributable": True})
    assert "no `redistributable = true`: CC-BY-NC-4.0 says otherwise" in said


def test_what_is_said_to_be_forbidden_is() -> None:
    assert "does not let everybody" in fault({**WEIGHTS, "redistributable": False})


def test_a_mounted_asset_may_have_any_licence() -> None:
    assert read(SMPL).mounts


@pytest.mark.parametrize(
    ("expression", "forbidden"),
    [
        ("MIT", False),
        ("CC-BY-ND-4.0", False),
        ("CC-BY-NC-ND-4.0", True),
        ("MIT OR CC-BY-NC-4.0", False),
        ("MIT AND CC-BY-NC-4.0", True),
        ("(MIT OR CC-BY-NC-4.0) AND Apache-2.0", False),
        ("MIT OR (Apache-2.0 AND CC-BY-NC-4.0)", False),
        ("CC-BY-NC-4.0 AND MIT OR CC-BY-NC-4.0", True),
        ("GPL-3.0-only WITH Classpath-exception-2.0 AND MIT", False),
        ("DocumentRef-x:LicenseRef-y", True),
    ],
)
def test_an_expression_is_judged_as_a_whole(expression: str, *, forbidden: bool) -> None:
    assert forbids_redistribution(expression) is forbidden
