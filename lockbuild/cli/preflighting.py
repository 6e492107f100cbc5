"""`lockbuild preflight`."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import click

from lockbuild.cli.imaging import image_tag
from lockbuild.cli.session import json_option, stack_argument
from lockbuild.errors import ImageError, PreflightError, UsageError
from lockbuild.preflight import ENTRYPOINT, MISSING

if TYPE_CHECKING:
    from lockbuild.folders import StackFolder
    from lockbuild.image import BindMount, Engine

__all__ = ["preflight"]


def _mounts(
    _ctx: click.Context, _parameter: click.Parameter, values: tuple[str, ...]
) -> tuple[BindMount, ...]:
    from lockbuild.image import BindMount  # noqa: PLC0415 - not needed for --help

    found = []
    for value in values:
        source, _, rest = value.partition(":")
        target, _, mode = rest.partition(":")
        if not source or not target.startswith("/") or mode not in {"", "ro", "rw"}:
            raise UsageError(f"`-v`: found `{value}`, expected `SOURCE:/PATH/IN/IMAGE`")
        try:
            path = Path(source).expanduser().absolute()
            there = path.exists()
        except (OSError, RuntimeError) as error:
            raise UsageError(f"`-v`: found `{source}`, expected a path of this machine") from error
        if not there:
            raise UsageError(f"`-v`: {path} does not exist")
        found.append(BindMount(source=path, target=target, writable=mode == "rw"))
    return tuple(found)


@click.command()
@stack_argument
@click.option(
    "--image", "reference", metavar="NAME", help="The image to try; the one of this lock when left out."
)
@click.option(
    "--gpus", type=click.Choice(["all"]), help="Give it the machine's GPUs, as `docker run` does."
)
@click.option(
    "-v",
    "--volume",
    "mounts",
    multiple=True,
    metavar="SOURCE:PATH",
    callback=_mounts,
    help="Mount a folder or file, as `docker run` does, but read-only; may be repeated.",
)
@click.option("--full", is_flag=True, help="Hash every bundled file, too.")
@json_option
def preflight(  # noqa: PLR0913 - click's options
    *,
    folder: StackFolder,
    reference: str | None,
    gpus: str | None,
    mounts: tuple[BindMount, ...],
    full: bool,
    as_json: bool,
) -> None:
    """Run the preflight of STACK's image, without a network: is all there that its command needs?

    Ends with exit code 78 and the flags of `docker run` that mend it when something is missing.
    """
    from lockbuild.image import containers  # noqa: PLC0415 - the engine's modules are heavy
    from lockbuild.image.engine import find_engine  # noqa: PLC0415
    from lockbuild.stack import from_document  # noqa: PLC0415

    document, lock = folder.read_locked()
    name = reference or image_tag(from_document(document).name, lock)
    engine = find_engine()
    _refuse_without_preflight(name, engine)
    options = [
        "--preflight-only",
        *(["--preflight-full"] if full else []),
        *(["--preflight-json"] if as_json else []),
    ]
    ended = containers.run(name, options, engine=engine, mounts=mounts, gpus=gpus is not None)
    click.echo(ended.stdout, nl=False)
    click.echo(ended.stderr, nl=False, err=True)
    if ended.returncode == MISSING:
        raise PreflightError(f"image `{name}` does not have all that it needs")
    if ended.returncode:
        raise ImageError(f"image `{name}`: its preflight ended with exit code {ended.returncode}")


def _refuse_without_preflight(name: str, engine: Engine) -> None:
    """Refuse an image that would take the preflight's options for its command."""
    from lockbuild.image import containers  # noqa: PLC0415 - as above

    if containers.inspect(name, engine=engine).entrypoint[:1] != (ENTRYPOINT,):
        raise ImageError(
            f"image `{name}` has no preflight",
            hint=f"one that an older lockbuild made has none: `docker rmi {name}`, then `lockbuild image`",
        )
