"""`lockbuild graph`."""

from __future__ import annotations

import difflib
from dataclasses import dataclass
from typing import TYPE_CHECKING

import click

from lockbuild.cli.graphing import named, warn_of_unread
from lockbuild.cli.session import console_of, open_realiser, stack_argument
from lockbuild.cli.words import counted, in_bytes
from lockbuild.derivation import Build, Fetch
from lockbuild.errors import UsageError

if TYPE_CHECKING:
    from collections.abc import Collection, Iterable, Mapping, Sequence

    from lockbuild.cli.console import Console
    from lockbuild.components import Component
    from lockbuild.digest import StorePath
    from lockbuild.drawing import Node, Picture
    from lockbuild.folders import StackFolder
    from lockbuild.plan import Plan
    from lockbuild.realise import Realiser

_KINDS = {
    "wheel": ("Python packages", "#cfe2ff"),
    "deb": ("Debian packages", "#f8d7da"),
    "conda": ("Conda packages", "#d1e7dd"),
    "source": ("Sources", "#fff3cd"),
    "asset": ("Assets", "#e2d9f3"),
    "base": ("Base images", "#dee2e6"),
    "interpreter": ("Interpreter", "#d2f4ea"),
}
_BUILDS = {
    "rootfs": ("Root file systems", "#dee2e6"),
    "prefix": ("Conda prefix", "#d1e7dd"),
    "source": ("Edited sources", "#fff3cd"),
    "environment": ("Environments", "#d2f4ea"),
    "wheel": ("Wheels, compiled", "#cfe2ff"),
    "stamped": ("Wheels, labelled", "#e2d9f3"),
}
_SHORT = 20
_MOST_ARROWS = 500


@click.command()
@stack_argument
@click.option(
    "--format",
    "format_",
    type=click.Choice(("dot", "mermaid", "svg")),
    default="dot",
    show_default=True,
    help="What to print: graphviz's language, mermaid's, or an SVG made by graphviz.",
)
@click.option(
    "--kind", "kinds", type=click.Choice(tuple(_KINDS)), multiple=True, help="Only these kinds."
)
@click.option("--builds", is_flag=True, help="The graph of builds instead.")
@click.option("--around", metavar="NAME", help="Only what is near NAME.")
@click.option(
    "--depth",
    type=click.IntRange(min=0),
    help="How far from NAME, both ways (1); without `--around`, from what the stack asks for.",
)
@click.option(
    "--all", "every", is_flag=True, help="Also what the image has not: what builds are compiled with."
)
@click.option("--reduce", is_flag=True, help="Leave out arrows that longer ways imply.")
@click.option("--sizes", is_flag=True, help="Draw components by their bytes in the image.")
@click.pass_context
def graph(  # noqa: PLR0913 - the options, as keywords
    ctx: click.Context,
    folder: StackFolder,
    *,
    format_: str,
    kinds: tuple[str, ...],
    builds: bool,
    around: str | None,
    depth: int | None,
    every: bool,
    reduce: bool,
    sizes: bool,
) -> None:
    """Print the graph of STACK's components, or of its builds: an arrow leads to what is needed.

    A thick border is what the stack asks for, a dashed one what the image has not.
    """
    from lockbuild.drawing import dot_text, mermaid_text  # noqa: PLC0415 - not needed for --help

    if builds and (kinds or sizes or every):
        raise UsageError(
            "`--builds`: found beside `--kind`, `--sizes` or `--all`, which are of components"
        )
    console = console_of(ctx)
    realiser = open_realiser(ctx, folder, console)
    chosen = _Chosen(around=around, depth=depth, reduce=reduce, label=folder.label)
    if builds:
        picture = _of_builds(realiser, chosen)
    else:
        picture = _of_components(realiser, chosen, console, kinds=kinds, every=every, sizes=sizes)
    if format_ == "mermaid" and len(picture.arrows) > _MOST_ARROWS:
        console.warn(
            f"mermaid draws {_MOST_ARROWS} arrows and these are {len(picture.arrows)}:"
            " `--reduce`, `--kind` or `--around`, or its setting `maxEdges`"
        )
    if format_ == "svg":
        from lockbuild.graphviz import svg  # noqa: PLC0415 - few want one

        click.echo(svg(dot_text(picture)), nl=False)
    else:
        click.echo(dot_text(picture) if format_ == "dot" else mermaid_text(picture), nl=False)


@dataclass(frozen=True, slots=True)
class _Chosen:
    """What of a graph is wanted."""

    around: str | None
    depth: int | None
    reduce: bool
    label: str
    """Of the stack."""

    def of(
        self,
        needs: Mapping[str, tuple[str, ...]],
        *,
        near: Collection[str],
        asked: Iterable[str],
    ) -> dict[str, tuple[str, ...]]:
        """Return the part of *needs* that is wanted.

        Args:
            near: What `--around` names; nothing without it.
            asked: What the stack asks for.

        Raises:
            UsageError: Nothing that `--around` names is among *needs*.
        """
        from lockbuild.graph import around, behind, reduced  # noqa: PLC0415 - heavy

        kept = frozenset(needs)
        if self.around is not None:
            here = [ref for ref in near if ref in needs]
            if not here:
                raise UsageError(
                    f"`{self.around}` is not among what is drawn of {self.label}",
                    hint="`--all` also draws what the image has not; `--kind` leaves others out",
                )
            kept = around(needs, here, depth=1 if self.depth is None else self.depth)
        elif self.depth is not None:
            kept = behind(needs, [ref for ref in asked if ref in needs], depth=self.depth)
        # First reduced, then cut: what a way outside implies is implied.
        left = reduced(needs) if self.reduce else needs
        return {
            ref: tuple(one for one in needed if one in kept)
            for ref, needed in left.items()
            if ref in kept
        }


def _of_components(  # noqa: PLR0913 - the options, as keywords
    realiser: Realiser,
    chosen: _Chosen,
    console: Console,
    *,
    kinds: Collection[str],
    every: bool,
    sizes: bool,
) -> Picture:
    from lockbuild.drawing import Group, Node, Picture  # noqa: PLC0415 - heavy
    from lockbuild.graph import component_needs  # noqa: PLC0415
    from lockbuild.inventory import components  # noqa: PLC0415

    everything = components(realiser.stack, realiser.lock, realiser.plan, realiser.store)
    near = (
        {one.ref for one in named(everything, chosen.around, stack=chosen.label)}
        if chosen.around
        else set()
    )
    shown = [one for one in everything if (every or one.in_image) and (not kinds or one.kind in kinds)]
    warn_of_unread(console, shown, realiser.store, stack=chosen.label)
    needs = chosen.of(
        component_needs(shown), near=near, asked=[one.ref for one in shown if one.requested]
    )

    def node(one: Component) -> Node:
        size = one.installed_size or 0
        version = one.version if len(one.version) <= _SHORT else f"{one.version[:_SHORT]}…"
        lines = (f"{one.name} {version}".rstrip(), *([in_bytes(size)] if sizes else []))
        return Node(
            id=one.ref,
            lines=lines,
            size=size if sizes else None,
            strong=one.requested,
            dashed=not one.in_image,
            marked=one.ref in near,
        )

    groups = (
        Group(
            heading=heading,
            colour=colour,
            nodes=tuple(node(one) for one in shown if one.kind == kind and one.ref in needs),
        )
        for kind, (heading, colour) in _KINDS.items()
    )
    return Picture(
        title=realiser.stack.name,
        groups=tuple(group for group in groups if group.nodes),
        arrows=_arrows(needs),
    )


def _of_builds(realiser: Realiser, chosen: _Chosen) -> Picture:
    from lockbuild.drawing import Group, Picture  # noqa: PLC0415 - heavy
    from lockbuild.plan.reasons import keys_of  # noqa: PLC0415

    plan = realiser.plan
    builds = {path: one for path, one in plan.derivations.items() if isinstance(one, Build)}
    names: dict[str, set[StorePath]] = {}
    for key, path in ((key, path) for key, path in keys_of(plan).items() if path in builds):
        for name in (key, key.partition(" ")[2], plan.name_of(path)):
            names.setdefault(name, set()).add(path)
    near = names.get(chosen.around or "", set())
    if chosen.around and not near:
        nearest = difflib.get_close_matches(chosen.around, sorted(names), n=1)
        raise UsageError(
            f"`{chosen.around}` is nothing that {chosen.label} builds",
            hint=f"did you mean `{nearest[0]}`?"
            if nearest
            else f"it builds: {', '.join(sorted(names))}",
        )
    edges = {
        str(path): tuple(str(used) for used in build.references if used in builds)
        for path, build in builds.items()
    }
    needs = chosen.of(
        edges, near=[str(path) for path in near], asked=[str(path) for path in plan.targets]
    )
    valid = realiser.store.valid(builds)
    groups = (
        Group(
            heading=heading,
            colour=colour,
            nodes=tuple(
                _build_node(
                    path,
                    build,
                    plan,
                    strong=path in plan.targets,
                    dashed=path not in valid,
                    marked=path in near,
                )
                for path, build in sorted(builds.items())
                if build.kind == kind and path in needs
            ),
        )
        for kind, (heading, colour) in _BUILDS.items()
    )
    return Picture(
        title=f"{realiser.stack.name}: builds",
        groups=tuple(group for group in groups if group.nodes),
        arrows=_arrows(needs),
    )


def _build_node(path: StorePath, build: Build, plan: Plan, **looks: bool) -> Node:
    from lockbuild.drawing import Node  # noqa: PLC0415 - heavy

    used = (plan.derivations[one] for one in build.references)
    sizes = [one.size for one in used if isinstance(one, Fetch)]
    size = sum(size or 0 for size in sizes)
    fetched = counted(len(sizes), "file") + (f", {in_bytes(size)}" if size else "") if sizes else ""
    return Node(
        id=str(path), lines=(build.name.removesuffix("-stamped"), *filter(None, (fetched,))), **looks
    )


def _arrows(needs: Mapping[str, Sequence[str]]) -> tuple[tuple[str, str], ...]:
    return tuple((ref, needed) for ref in sorted(needs) for needed in sorted(needs[ref]))
