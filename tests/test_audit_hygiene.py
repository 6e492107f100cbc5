"""What was made once and can be made again, and what should not be in a stack."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Any

import pytest

from lockbuild.realise import BUILDER_NOTE
from lockbuild.stack import from_document
from lockbuild.stack.assets import ON_FIRST_FETCH, Asset
from tests.fakes import ScriptedBuilder
from tests.test_audit import broken, checked, only, subject, world  # noqa: F401 - fixtures
from tests.values import sha, small_stack, stack_document
from tests.wheels import make_wheel

if TYPE_CHECKING:
    from lockbuild.audit import Subject
    from tests.worlds import World


# ---- made again ------------------------------------------------------------------------------------


def test_never_checked__a_wheel(subject: Subject, world: World) -> None:
    world.store.history.forget(world.built("gamma"))
    assert only(subject, "never-checked") == "gamma: it was built once and never again to compare"


def test_never_checked__a_root_file_system(subject: Subject, world: World) -> None:
    world.store.history.forget(world.built("runtime"))
    assert only(subject, "never-checked").startswith("runtime: ")


def test_never_checked__since_it_was_built_anew(subject: Subject, world: World) -> None:
    verdict = checked(world, "gamma", world.built("gamma"))
    world.store.history.keep(replace(verdict, sha256=sha("the former object")))
    assert only(subject, "never-checked").startswith("gamma: ")


def test_not_reproducible__in_many_members(subject: Subject, world: World) -> None:
    differences = tuple(f"  member{number} differs" for number in range(5))
    verdict = checked(world, "gamma", world.built("gamma"), identical=False, differences=differences)
    world.store.history.keep(verdict)
    assert only(subject, "not-reproducible") == (
        "gamma: built again on 2026-01-31 (sandbox, Linux), it differed: "
        "member0 differs; member1 differs; member2 differs; 2 more"
    )


def test_a_build_notes_who_built(world: World) -> None:
    assert world.store.note(world.compiled("gamma"), BUILDER_NOTE) == "sandbox\n"
    assert world.store.note(world.built("gamma"), BUILDER_NOTE) == "stamper\n"


def test_never_checked__and_nobody_knows_what_built_it(subject: Subject, world: World) -> None:
    (world.store.root / "notes" / world.compiled("gamma") / BUILDER_NOTE).unlink()
    # A check that found the same bytes built it in a sandbox.
    assert not broken(subject)
    world.store.history.forget(world.built("gamma"))
    assert only(subject, "never-checked") == (
        "gamma: it was built once, nobody knows by what, and never again to compare"
    )


def test_built_elsewhere__without_a_sandbox(subject: Subject, world: World) -> None:
    world.store.write_note(world.compiled("gamma"), BUILDER_NOTE, "make\n")
    assert only(subject, "built-elsewhere") == "gamma: `make` built it, which is no sandbox"


# ---- the record in a wheel -------------------------------------------------------------------------


def test_wheel_provenance__of_a_wheel_without_a_record(subject: Subject) -> None:
    entry = entry_of(subject, "delta")
    (subject.wheelhouse / entry).unlink()
    make_wheel(subject.wheelhouse, "delta", "0.1", tag=entry.partition("0.1-")[2].removesuffix(".whl"))
    found = broken(subject)
    assert found["wheel-provenance"][0].startswith(f"{entry}: it does not say where it comes from")


def test_wheel_provenance__of_another_build(subject: Subject, world: World) -> None:
    """The wheel of the same name, compiled with another variable: its record is true, and not that of the lock."""
    document = stack_document()
    document["build"][1]["env"] = {"FORCE_CUDA": "2"}
    document["base"] = {"debian": {"suite": "bookworm", "snapshot": "20250601T000000Z"}}
    document["python"]["index"][0]["url"] = world.index.url
    other = from_document(document)
    realiser = world.realiser(ScriptedBuilder(name="sandbox"))
    from lockbuild.plan import make_plan

    plan = make_plan(other, replace(world.lock, pins=(), compiled=()))
    realiser = replace(realiser, stack=other, plan=plan, lock=replace(world.lock, pins=(), compiled=()))
    realiser.build([dict(plan.builds)["delta"]])
    entry = entry_of(subject, "delta")
    wheel = world.store.locate(dict(plan.builds)["delta"]) / entry
    (subject.wheelhouse / entry).unlink()
    (subject.wheelhouse / entry).write_bytes(wheel.read_bytes())
    (line,) = broken(subject)["wheel-provenance"]
    assert f"its record says {dict(plan.compiles)['delta']}, the lock asks for" in line


def entry_of(subject: Subject, name: str) -> str:
    assert subject.manifest is not None
    return next(entry.filename for entry in subject.manifest.wheels if entry.name == name)


# ---- the stack file --------------------------------------------------------------------------------


def test_weak_hash__that_upstream_publishes(subject: Subject) -> None:
    asset = Asset(name="weights", path="/w", checksums=(("sha1", "1" * 40),))
    weak = replace(subject, stack=replace(subject.stack, assets=(asset,)))
    assert only(weak, "weak-hash").startswith(
        "asset weights: sha1 is all that anybody but the server told"
    )
    strong = replace(asset, sha256=sha("weights"))
    assert not broken(replace(subject, stack=replace(subject.stack, assets=(strong,))))


def test_what_was_pinned_at_first_and_told_by_sha1_is_weak(subject: Subject) -> None:
    asset = Asset(name="w", path="/w", sha256=ON_FIRST_FETCH, checksums=(("git-blob", "1" * 40),))
    assert "weak-hash" in broken(replace(subject, stack=replace(subject.stack, assets=(asset,))))


@pytest.mark.parametrize("user", ["root", "0", "0:0", "root:root"])
def test_root_user__by_any_name(subject: Subject, user: str) -> None:
    image = replace(subject.stack.image, user=user)
    other = replace(subject, stack=replace(subject.stack, image=image))
    assert only(other, "root-user") == f"image.user: the image's command runs as `{user}`"


TOKEN = "hf_" + "a1B2" * 9


@pytest.mark.parametrize(
    ("changes", "place", "said"),
    [
        ({"env": {"HUB": TOKEN}}, "env.HUB", "it has a token of Hugging Face's"),
        ({"env": {"HF_TOKEN": "hunter2"}}, "env.HF_TOKEN", "a variable of that name holds a secret"),
        ({"env": {"WANDB_API_KEY": "0" * 40}}, "env.WANDB_API_KEY", "it has a key of Weights & Biases"),
        (
            {"env": {"X": "https://me:pass@example.org/simple"}},
            "env.X",
            "an address of example.org has credentials in it",
        ),
        (
            {"env": {"X": "https://example.org/x?X-Amz-Signature=abc"}},
            "env.X",
            "an address of example.org is signed: `X-Amz-Signature` in its query",
        ),
        (
            {"preflight": {"checks": [f"import x; x.login('{TOKEN}')"]}},
            "checks[0]",
            "it has a token of Hugging Face's",
        ),
    ],
)
def test_stack_secret__and_where_it_is(
    subject: Subject, changes: dict[str, Any], place: str, said: str
) -> None:
    stack = small_stack(**changes)
    kept = replace(subject.stack, env=stack.env, checks=stack.checks)
    line = only(replace(subject, stack=kept), "stack-secret")
    assert line == f"{place}: {said}"
    assert not any(secret in line for secret in (TOKEN, "hunter2", "pass@", "abc"))


def test_stack_secret__of_a_build(subject: Subject) -> None:
    builds = tuple(replace(spec, env=(("GIT_TOKEN", "s3cret"),)) for spec in subject.stack.builds[:1])
    stack = replace(subject.stack, builds=(*builds, *subject.stack.builds[1:]))
    assert only(replace(subject, stack=stack), "stack-secret").startswith("build[gamma].env.GIT_TOKEN: ")


@pytest.mark.parametrize(
    "env",
    [
        {"HF_TOKEN": ""},
        {"HF_TOKEN_PATH": "/run/secrets/token"},
        {"API_KEY": "/run/secrets/key"},
        {"TOKENIZERS_PARALLELISM": "false"},
        {"MAX_TOKENS": "4096"},
        {"X": "https://drive.usercontent.google.com/download?id=abc&export=download&confirm=t"},
        {"X": "git@github.com:a/b.git"},
    ],
)
def test_what_only_looks_like_a_secret_is_none(subject: Subject, env: dict[str, str]) -> None:
    stack = replace(subject.stack, env=tuple(sorted(env.items())))
    assert not broken(replace(subject, stack=stack))
