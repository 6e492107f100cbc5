"""How the components of a stack hang together: why each is there, and what each that is asked for brings. Pure."""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Collection, Iterable, Mapping, Sequence

    from lockbuild.components import Component

__all__ = ["Brought", "Parts", "taken"]


def taken(component: Component) -> int:
    """Return the bytes that a component takes: in the image where that is known, else as a file."""
    if component.installed_size is not None:
        return component.installed_size
    return component.size or 0


@dataclass(frozen=True, slots=True, kw_only=True)
class Brought:
    """What comes along with a component that the stack asks for."""

    component: Component
    steps: tuple[tuple[Component, ...], ...]
    """All that it needs: first what it needs itself, then what that needs, and so on; each once."""
    size: int
    """Bytes of it and all of that."""
    own: tuple[Component, ...]
    """What nothing else that the stack asks for needs, itself included."""

    @property
    def number(self) -> int:
        """How many components it brings, without itself."""
        return sum(len(step) for step in self.steps)

    @property
    def own_size(self) -> int:
        """Bytes that would not be there without it."""
        return sum(taken(one) for one in self.own)


@dataclass(frozen=True)  # no slots: what is found out once is kept
class Parts:
    """All components of a stack, as a graph."""

    components: tuple[Component, ...]

    @cached_property
    def by_ref(self) -> Mapping[str, Component]:
        """Every component by its ref."""
        return {one.ref: one for one in self.components}

    @cached_property
    def needs(self) -> Mapping[str, tuple[str, ...]]:
        """Ref -> refs of what it needs, and the stack has."""
        return {
            one.ref: tuple(need for need in one.needs if need in self.by_ref) for one in self.components
        }

    @cached_property
    def needed_by(self) -> Mapping[str, tuple[str, ...]]:
        """Ref -> refs of what needs it."""
        found: dict[str, list[str]] = {one.ref: [] for one in self.components}
        for ref, needs in self.needs.items():
            for need in needs:
                found[need].append(ref)
        return {ref: tuple(sorted(others)) for ref, others in found.items()}

    @cached_property
    def requested(self) -> tuple[str, ...]:
        """Refs of what the stack asks for."""
        return tuple(one.ref for one in self.components if one.requested)

    @cached_property
    def _image(self) -> frozenset[str]:
        return frozenset(one.ref for one in self.components if one.in_image)

    @cached_property
    def _before(self) -> Mapping[str, str | None]:
        """Ref -> the one before it on the shortest way from what the stack asks for.

        What the image holds is there for something in the image, whatever a compiler needs.
        """
        in_image = self._walk([ref for ref in self.requested if ref in self._image], within=self._image)
        return self._walk(self.requested) | in_image

    def why(self, ref: str) -> tuple[Component, ...]:
        """Return the shortest way to a component from one that the stack asks for, both included; empty for none."""
        way: list[Component] = []
        step: str | None = ref if ref in self._before else None
        while step is not None:
            way.append(self.by_ref[step])
            step = self._before[step]
        return tuple(reversed(way))

    @cached_property
    def brought(self) -> tuple[Brought, ...]:
        """What each component that the stack asks for brings, the largest first; into the image where it is in it."""
        return tuple(
            sorted(map(self._brought, self.requested), key=lambda one: (-one.size, one.component.ref))
        )

    def _brought(self, ref: str) -> Brought:
        within = self._image if ref in self._image else self.by_ref.keys()
        reached = self._walk([ref], within=within)
        others = self._walk(
            [one for one in self.requested if one != ref and one in within], within=within
        )
        return Brought(
            component=self.by_ref[ref],
            steps=self._steps(ref, reached),
            size=sum(taken(self.by_ref[one]) for one in reached),
            own=tuple(self.by_ref[one] for one in sorted(reached) if one not in others),
        )

    def edges(self, refs: Collection[str]) -> tuple[tuple[str, str], ...]:
        """Return who needs whom among *refs*."""
        return tuple((ref, need) for ref in sorted(refs) for need in self.needs[ref] if need in refs)

    def _walk(
        self, starts: Iterable[str], *, within: Collection[str] | None = None
    ) -> dict[str, str | None]:
        """Return every ref that *starts* lead to -> the one it was reached from, the nearest first."""
        before: dict[str, str | None] = dict.fromkeys(starts)
        waiting = deque(before)
        while waiting:
            ref = waiting.popleft()
            for need in self.needs[ref]:
                if need not in before and (within is None or need in within):
                    before[need] = ref
                    waiting.append(need)
        return before

    def _steps(self, start: str, before: Mapping[str, str | None]) -> tuple[tuple[Component, ...], ...]:
        far: dict[str, int] = {}
        for ref, last in before.items():
            far[ref] = 0 if last is None else far[last] + 1
        del far[start]
        deepest = max(far.values(), default=0)
        return tuple(
            _sorted(self.by_ref[ref] for ref, steps in far.items() if steps == step)
            for step in range(1, deepest + 1)
        )


def _sorted(components: Iterable[Component]) -> tuple[Component, ...]:
    ordered: Sequence[Component] = sorted(components, key=lambda one: one.ref)
    return tuple(ordered)
