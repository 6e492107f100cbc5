"""`lockbuild why`, and what it shares with `lockbuild graph`."""

from __future__ import annotations

import difflib
from dataclasses import dataclass
from itertools import islice
from typing import TYPE_CHECKING, Any

import click

from lockbuild.cli.session import console_of, json_option, open_realiser, print_json, stack_argument
from lockbuild.cli.words import counted
from lockbuild.errors import UsageError

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence

    from lockbuild.cli.console import Console
    from lockbuild.components import Component
    from lockbuild.folders import StackFolder
    from lockbuild.graph import Chain, Place
    from lockbuild.inventory.requirements import Requirements
    from lockbuild.stack import Stack
    from lockbuild.store import Store

__all__ = ["named", "warn_of_unread", "why"]

_SHOWN = 10


@click.command()
@stack_argument
@click.argument("package")
@click.option("--all", "every", is_flag=True, help=f"Print every chain, not {_SHOWN} for each place.")
@json_option
@click.pass_context
def why(ctx: click.Context, folder: StackFolder, *, package: str, every: bool, as_json: bool) -> None:
    """Say why PACKAGE is in STACK: the shortest chains to it from all that the stack asks for.

    PACKAGE is a wheel, a Debian or conda package, a source, an asset or a base image, of the image or of
    what extensions are compiled with; `deb:NAME` tells it from a wheel of the same name. Each step says what
    is required there, as far as the store has what requires it.

    (Why something is built again says `lockbuild why-rebuild`.)
    """
    from lockbuild.graph import count_chains, places  # noqa: PLC0415 - heavy
    from lockbuild.inventory import components  # noqa: PLC0415
    from lockbuild.inventory.requirements import Requirements  # noqa: PLC0415

    console = console_of(ctx)
    realiser = open_realiser(ctx, folder, console)
    stack, lock, store = realiser.stack, realiser.lock, realiser.store
    everything = components(stack, lock, realiser.plan, store)
    chosen = named(everything, package, stack=folder.label, more=_unseen(everything))
    requirements = Requirements(stack, lock, store)
    debs = any(one.kind == "deb" for one in chosen)
    essential = requirements.essential(everything) if debs else frozenset()
    told = _Told({one.ref: one for one in everything}, requirements, every=every)
    found = [
        (one, place, count_chains(place, one.ref))
        for one in chosen
        for place in places(stack, lock, everything, essential=essential)
        if one.ref in place.needs
    ]
    kinds: set[str] = {one.kind for one in chosen}
    kinds |= {"base"} if "deb" in kinds else set()  # What it brings along are .debs.
    warn_of_unread(console, [one for one in everything if one.kind in kinds], store, stack=folder.label)
    if as_json:
        print_json([told.document(*each) for each in found])
        return
    for each in found:
        told.say(*each)
    for key, bound, reason in _bounds(stack, chosen):
        click.echo(f"bounded by {key}: {bound}{f' ({reason})' if reason else ''}")


def _unseen(components: Iterable[Component]) -> str | None:
    """Return a hint where nobody knows all components."""
    if all(one.needs_known for one in components if one.kind == "base"):
        return None
    return "what the base image brings is known once `lockbuild image` has made its root file system"


def warn_of_unread(
    console: Console, components: Sequence[Component], store: Store, *, stack: str
) -> None:
    """Say of how many of *components* nobody knows what they need.

    Args:
        stack: What people call the stack.
    """
    unread = [one for one in components if one.kind != "base" and not one.needs_known]
    damaged = sum(one.path is not None and store.info(one.path) is not None for one in unread)
    for count, one_is, they_are, mend in (
        (len(unread) - damaged, "is not fetched", "are not fetched", "fetch"),
        (damaged, "cannot be read", "cannot be read", "audit"),
    ):
        are, they = (one_is, "it needs") if count == 1 else (they_are, "they need")
        if count:
            console.warn(
                f"{counted(count, 'package')} {are}, so that what {they} is not known: `lockbuild {mend} {stack}`"
            )
    if unseen := _unseen(components):
        console.warn(unseen)


def named(
    components: Sequence[Component], text: str, *, stack: str, more: str | None = None
) -> tuple[Component, ...]:
    """Return the components that *text* names: a name, `KIND:NAME`, or a whole ref.

    Args:
        more: A hint for what no component has.

    Raises:
        UsageError: There is none; the hint names the nearest.
    """
    from packaging.utils import canonicalize_name  # noqa: PLC0415 - not needed for --help

    kind, colon, name = text.partition(":")
    kinds = {one.kind for one in components}
    given = name if colon and kind in kinds else text

    def fits(one: Component) -> bool:
        if text == one.ref:
            return True
        wanted = canonicalize_name(given) if one.kind == "wheel" else given
        return wanted == one.name and (given == text or one.kind == kind)

    chosen = tuple(one for one in components if fits(one))
    if chosen:
        return chosen
    nearest = difflib.get_close_matches(given.lower(), sorted({one.name for one in components}), n=3)
    raise UsageError(
        f"`{text}` is no part of {stack}",
        hint=f"did you mean {' or '.join(f'`{name}`' for name in nearest)}?" if nearest else more,
    )


def _bounds(stack: Stack, chosen: Sequence[Component]) -> Iterator[tuple[str, str, str]]:
    """Yield key, text and reason of what the stack says of the versions of *chosen* beside asking for them."""
    from packaging.requirements import Requirement  # noqa: PLC0415 - not needed for --help
    from packaging.utils import canonicalize_name  # noqa: PLC0415

    wheels = {one.name for one in chosen if one.kind == "wheel"}
    reasons = dict(stack.python.reasons)
    said = (("constraints", stack.python.constraints), ("overrides", stack.python.overrides))
    for key, texts in said:
        for text in texts:
            if canonicalize_name(Requirement(text).name) in wheels:
                yield f"python.{key}", text, reasons.get(text, "")


@dataclass(frozen=True, slots=True)
class _Told:
    """Puts chains into words."""

    components: dict[str, Component]
    requirements: Requirements
    every: bool

    def _chains(self, one: Component, place: Place) -> Iterator[Chain]:
        from lockbuild.graph import chains  # noqa: PLC0415 - heavy

        found = chains(place, one.ref)
        return found if self.every else islice(found, _SHOWN)

    def _steps(self, chain: Chain) -> Iterator[tuple[Component, str]]:
        """Yield each component of *chain* but the last, and what it requires of the next."""
        for ref, following in zip(chain.refs, chain.refs[1:], strict=False):
            user, needed = self.components[ref], self.components[following]
            yield user, "; ".join(self.requirements.of(user, needed)) or needed.name

    def document(self, one: Component, place: Place, count: int) -> dict[str, Any]:
        """Return what `--json` prints."""
        return {
            "ref": one.ref,
            "kind": one.kind,
            "name": one.name,
            "version": one.version,
            "place": place.name,
            "count": count,
            "chains": [
                {
                    "asked-by": chain.ask.who,
                    "asks": chain.ask.says,
                    "steps": [
                        {"ref": user.ref, "requires": requires} for user, requires in self._steps(chain)
                    ],
                }
                for chain in self._chains(one, place)
            ],
        }

    def say(self, one: Component, place: Place, count: int) -> None:
        """Print it for people."""
        title = click.style(f"{one.name} {one.version}".rstrip(), bold=True)
        click.echo(f"{title} ({one.kind}) in {place.name}")
        if not count:
            blind = any(
                not other.needs_known for other in self.components.values() if other.kind == one.kind
            )
            known = " as far as is known, " if blind else " "
            click.echo(f" {known}nothing that the stack asks for leads to it")
        shown, heading = 0, None
        for chain in self._chains(one, place):
            shown += 1
            steps = [f"{user.name} {user.version} requires {text}" for user, text in self._steps(chain)]
            # One step each: what asks for all of them is said once.
            again = (chain.ask.who, chain.ask.says) if len(steps) == 1 else None
            if again is None or again != heading:
                click.echo(f"  {chain.ask.who}: {chain.ask.says}")
            heading = again
            for step in steps:
                click.echo(f"    {step}")
        if shown < count:
            click.echo(f"  and {count - shown} more: `--all`")
