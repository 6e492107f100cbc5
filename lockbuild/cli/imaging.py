"""`lockbuild render` and `lockbuild image`."""

from __future__ import annotations

from typing import TYPE_CHECKING

import click

from lockbuild.baseimage import is_image_name
from lockbuild.cli.building import fill_wheelhouse
from lockbuild.cli.session import (
    console_of,
    json_option,
    open_lines,
    open_realiser,
    print_json,
    refuse_impossible,
    refuse_open,
    stack_argument,
)
from lockbuild.cli.templates import template_text
from lockbuild.digest import canonical_json, sha256_of
from lockbuild.dockerfile import (
    BILL_LABEL,
    TEMPLATES,
    Contents,
    bill_name,
    notice_name,
    render_context,
)
from lockbuild.dockerfile import render as render_texts
from lockbuild.errors import StoreError, UsageError
from lockbuild.folders import write_text
from lockbuild.packing import (
    bundled_assets,
    documents,
    fill_context,
    make_manifest,
    verify_wheelhouse,
)
from lockbuild.placing import source_trees
from lockbuild.plan import EPOCH
from lockbuild.stack import from_document

if TYPE_CHECKING:
    from collections.abc import Mapping

    from lockbuild.folders import StackFolder
    from lockbuild.lock import Lock
    from lockbuild.realise import Realiser
    from lockbuild.stack import Stack

__all__ = ["image", "image_tag", "render", "rendered_texts"]

# An image of the same lock, but of other templates, is another image.
_CONTEXT_LABEL = "io.lockbuild.context"


def templates() -> dict[str, str]:
    """Return name -> text of what a build context is rendered from."""
    return {name: template_text(name) for name in TEMPLATES}


def rendered_texts(stack: Stack, lock: Lock) -> Mapping[str, str]:
    """Return name -> text of what `render` writes beside the stack file."""
    return render_texts(stack, lock, templates=templates())


def image_tag(name: str, lock: Lock) -> str:
    """Return the name that an image of *lock* has: it changes whenever the lock does."""
    return f"lockbuild/{name}:{lock.digest[:12]}"


def _write_committed(folder: StackFolder, texts: Mapping[str, str]) -> tuple[str, ...]:
    """Write what stands beside the stack file, and return the names of what has changed."""
    changed = []
    for name, text in texts.items():
        target = folder.path / name
        if not target.is_file() or target.read_bytes() != text.encode():
            write_text(target, text)
            changed.append(name)
    return tuple(changed)


def _write_context(realiser: Realiser, folder: StackFolder) -> tuple[tuple[str, ...], dict[str, str]]:
    """Fill wheelhouse and build context.

    Returns the committed files that changed, and the labels that only the context tells: digests of its bill of
    materials, and of all rendered texts. They name every file of the context by its hash, so the same digest
    makes the same image.
    """
    from lockbuild.inventory import components  # noqa: PLC0415 - heavy, and `render` alone needs it not

    refuse_open(realiser)
    refuse_impossible(realiser)
    stack, lock, plan, store = realiser.stack, realiser.lock, realiser.plan, realiser.store
    realiser.build(plan.targets)
    fill_wheelhouse(realiser, folder)
    manifest = make_manifest(stack, lock, plan, store)
    faults = verify_wheelhouse(folder.wheels, manifest)
    if faults:
        raise StoreError(
            f"the wheelhouse {folder.wheels} is not what was locked",
            details=faults,
            hint="delete the files named above and run `lockbuild build` again",
        )
    assets, trees = bundled_assets(stack, plan, store), source_trees(stack, plan, store)
    papers = documents(stack, lock, store, components(stack, lock, plan, store))
    bill = papers[bill_name(stack)]
    contents = Contents(
        manifest=manifest,
        bill=bill,
        notice=papers[notice_name(stack)],
        assets=assets,
        sources={tree.name: tree.sha256 for tree in trees},
    )
    texts = render_context(stack, lock, contents, templates=templates())
    fill_context(
        folder.context,
        texts=texts,
        manifest=manifest,
        plan=plan,
        store=store,
        assets=assets,
        sources=trees,
    )
    changed = _write_committed(folder, rendered_texts(stack, lock))
    return changed, {
        BILL_LABEL: f"sha256:{sha256_of(bill.encode())}",
        _CONTEXT_LABEL: sha256_of(canonical_json(dict(texts))),
    }


@click.command()
@stack_argument
@click.option(
    "--context", "fill", is_flag=True, help="Build all that is missing, too, and fill the build context."
)
@json_option
@click.pass_context
def render(ctx: click.Context, folder: StackFolder, *, fill: bool, as_json: bool) -> None:
    """Write STACK's Dockerfile, which follows from stack file and lock alone.

    With --context also write the folder that it builds from: whoever has that needs neither lockbuild nor
    a network.
    """
    console = console_of(ctx)
    if fill:
        changed, _ = _write_context(open_realiser(ctx, folder, console), folder)
        result = {"changed": list(changed), "context": str(folder.context)}
    else:
        document, lock = folder.read_locked()
        changed = _write_committed(folder, rendered_texts(from_document(document), lock))
        result = {"changed": list(changed)}
        for line in open_lines(lock.open_parts):
            console.warn(f"no image can be made yet, as the lock is open: {line}")
    if as_json:
        print_json(result)
        return
    wrote = f"wrote {', '.join(changed)}" if changed else "the Dockerfile is up to date"
    console.note(
        f"{folder.label}: {wrote}" + (f"; the build context is {folder.context}" if fill else "")
    )


def _tags(_ctx: click.Context, _parameter: click.Parameter, values: tuple[str, ...]) -> tuple[str, ...]:
    for value in values:
        if not is_image_name(value):
            raise UsageError(
                f"`--tag`: found `{value}`, expected the name of an image: `registry.example.org/team/cpu:1.0`"
            )
    return values


@click.command()
@stack_argument
@click.option(
    "--tag",
    "tags",
    multiple=True,
    metavar="NAME",
    callback=_tags,
    help="A further name for the image; may be repeated.",
)
@click.option("--no-test", is_flag=True, help="Do not build the test stage first.")
@json_option
@click.pass_context
def image(
    ctx: click.Context, folder: StackFolder, *, tags: tuple[str, ...], no_test: bool, as_json: bool
) -> None:
    """Build STACK's image with networking off, once its test stage has passed."""
    from contextlib import closing  # noqa: PLC0415 - the engine's modules are heavy, and only needed here

    from lockbuild.image import building, containers  # noqa: PLC0415
    from lockbuild.image.engine import connect, find_engine  # noqa: PLC0415

    console = console_of(ctx)
    realiser = open_realiser(ctx, folder, console)
    engine = find_engine()
    tag = image_tag(realiser.stack.name, realiser.lock)
    _, labels = _write_context(realiser, folder)
    facts = containers.find(tag, engine=engine)
    made = facts is None or any(facts.label(name) != value for name, value in labels.items())
    if facts is None or made:
        log = realiser.store.root / "logs" / f"image-{realiser.stack.name}.log"
        if not no_test:
            building.build(
                folder.context,
                tag=f"{tag}-test",
                engine=engine,
                log=log,
                epoch=EPOCH,
                target="test",
                progress=console,
            )
        facts = building.build(
            folder.context,
            tag=tag,
            engine=engine,
            log=log,
            epoch=EPOCH,
            labels=labels,
            progress=console,
        )
    names = (f"lockbuild/{realiser.stack.name}:latest", *tags)
    with closing(connect(engine)) as client:
        for name in names:
            client.images.get(facts.id).tag(name)
    if as_json:
        print_json({"image": tag, "id": facts.id, "size": facts.size, "built": made})
    else:
        click.echo(tag)
        console.note(
            f"{facts.id}, {facts.size / 1e6:.0f} MB" + ("" if made else ": the image is up to date")
        )
