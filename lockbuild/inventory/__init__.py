"""What a stack and its image are made of: every part that the lock names, with what the store knows of it.

Asks no network. What an object tells is noted in the store, so that it is read once.
"""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

from lockbuild.components import ref_of
from lockbuild.inventory.conda import conda_packages
from lockbuild.inventory.debs import debs
from lockbuild.inventory.others import assets, bases, interpreters
from lockbuild.inventory.sources import sources
from lockbuild.inventory.wheels import wheels
from lockbuild.licences.told import UNSTATED

if TYPE_CHECKING:
    from collections.abc import Mapping

    from lockbuild.components import Component
    from lockbuild.lock import Lock
    from lockbuild.plan import Plan
    from lockbuild.stack import Stack
    from lockbuild.store import Store

__all__ = ["components"]


def components(stack: Stack, lock: Lock, plan: Plan, store: Store) -> tuple[Component, ...]:
    """Return every part of *stack* and its image, sorted by ref.

    What the store has not got is told as far as the lock knows it. The stack's own word on a licence,
    `audit.licenses.of`, is stronger than what a part says itself.
    """
    found: dict[str, Component] = {}
    for component in (
        *wheels(stack, lock, plan, store),
        *debs(stack, lock, plan, store),
        *conda_packages(stack, lock, plan, store),
        *sources(stack, lock, plan, store),
        *assets(stack, lock, plan),
        *bases(stack, lock, plan, store),
        *interpreters(stack, lock, plan, store),
    ):
        # What is in the image comes first: the same wheel may also be in a build environment.
        found.setdefault(component.ref, component)
    said = dict(stack.audit.licences.of)
    return tuple(_as_said(found[ref], said) for ref in sorted(found))


def _as_said(component: Component, said: Mapping[str, str]) -> Component:
    # A wheel and a .deb may share a name: the kind before it says which is meant.
    licence = said.get(ref_of(component.kind, component.name)) or said.get(component.name)
    if not licence:
        return component
    if licence in UNSTATED:
        return replace(component, licence="", declared=licence, told_by="stack")
    return replace(component, licence=licence, told_by="stack")
