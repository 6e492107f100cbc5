"""What needs what among the parts of a stack, and by which ways the stack comes to a part. Pure."""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass
from functools import cache
from typing import TYPE_CHECKING

from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

from lockbuild.components import ref_of
from lockbuild.edits import Graft
from lockbuild.plan import INSTALLER, nvcc_wheels

if TYPE_CHECKING:
    from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence

    from lockbuild.components import Component
    from lockbuild.lock import Lock, LockedPackage
    from lockbuild.stack import Stack

__all__ = [
    "Ask",
    "Chain",
    "Place",
    "around",
    "behind",
    "chains",
    "component_needs",
    "count_chains",
    "places",
    "reduced",
]


@dataclass(frozen=True, slots=True, kw_only=True)
class Ask:
    """Something that is there because it is asked for, and not only because another part needs it."""

    who: str
    """Key of the stack file that asks: `python.requires`, `build[gamma].needs`."""
    says: str
    """What it says there: `torch==2.0.1`."""
    ref: str
    """Of the component."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Place:
    """Where components are, and need one another: the image, a build environment, the toolchain."""

    name: str
    needs: Mapping[str, tuple[str, ...]]
    """Ref of each component there -> refs of those that it needs, all of them there."""
    asks: tuple[Ask, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Chain:
    """A way from what is asked for to a component."""

    ask: Ask
    refs: tuple[str, ...]
    """From what is asked for to the component, each needing the next; one where it is asked for itself."""


# ---- ways through a graph --------------------------------------------------------------------------


def chains(place: Place, ref: str) -> Iterator[Chain]:
    """Yield, for everything that is asked for, every shortest chain from there to *ref*; the shortest first.

    No chain leads through something else that is asked for, which has chains of its own.
    """
    nearer, distances = _towards(place, ref)

    def ways(start: str) -> Iterator[tuple[str, ...]]:
        if start == ref:
            yield (ref,)
        for following in nearer.get(start, ()):
            yield from ((start, *rest) for rest in ways(following))

    asks = [ask for ask in place.asks if ask.ref in distances]
    for ask in sorted(asks, key=lambda ask: distances[ask.ref]):
        yield from (Chain(ask=ask, refs=way) for way in ways(ask.ref))


def count_chains(place: Place, ref: str) -> int:
    """Return how many chains `chains` yields, without making them: there may be very many."""
    nearer, distances = _towards(place, ref)

    @cache
    def ways(start: str) -> int:
        return 1 if start == ref else sum(ways(following) for following in nearer[start])

    return sum(ways(ask.ref) for ask in place.asks if ask.ref in distances)


def _towards(place: Place, ref: str) -> tuple[dict[str, list[str]], dict[str, int]]:
    """Return the next steps on the shortest ways to *ref*, and how far it is, for whatever leads there."""
    asked, users = {ask.ref for ask in place.asks}, _users(place.needs)
    distances = {ref: 0} if ref in place.needs else {}
    nearer: dict[str, list[str]] = {}
    waiting = deque(distances)
    while waiting:
        one = waiting.popleft()
        for user in users.get(one, ()) if one == ref or one not in asked else ():
            if user not in distances:
                distances[user] = distances[one] + 1
                waiting.append(user)
            if distances[user] == distances[one] + 1:
                nearer.setdefault(user, []).append(one)
    return nearer, distances


def around(needs: Mapping[str, Sequence[str]], refs: Iterable[str], *, depth: int) -> frozenset[str]:
    """Return *refs*, and all that is at most *depth* steps before or behind them."""
    refs = tuple(refs)
    return frozenset(_reach(needs, refs, depth)) | frozenset(_reach(_users(needs), refs, depth))


def behind(needs: Mapping[str, Sequence[str]], refs: Iterable[str], *, depth: int) -> frozenset[str]:
    """Return *refs*, and all that they need in at most *depth* steps."""
    return frozenset(_reach(needs, refs, depth))


def _reach(edges: Mapping[str, Sequence[str]], refs: Iterable[str], depth: int) -> set[str]:
    found, edge = set(refs), set(refs)
    for _ in range(depth):
        edge = {other for one in edge for other in edges.get(one, ())} - found
        found |= edge
    return found


def _users(needs: Mapping[str, Sequence[str]]) -> dict[str, list[str]]:
    found: dict[str, list[str]] = {}
    for user, needed in needs.items():
        for one in needed:
            found.setdefault(one, []).append(user)
    return found


def reduced(needs: Mapping[str, Sequence[str]]) -> dict[str, tuple[str, ...]]:
    """Return *needs* without what others imply: no step is left out that longer ways do not make as well.

    What needs one another in a circle keeps its steps.
    """
    after = {ref: _reach(needs, needed, len(needs)) for ref, needed in needs.items()}

    def implied(ref: str, needed: str) -> bool:
        return any(
            needed in after.get(other, ())
            for other in needs[ref]
            # Of a circle nothing is implied by its own members.
            if other != needed and other not in after.get(needed, ()) and ref not in after.get(other, ())
        )

    return {
        ref: tuple(one for one in needed if one != ref and not implied(ref, one))
        for ref, needed in needs.items()
    }


# ---- places ----------------------------------------------------------------------------------------


def places(
    stack: Stack, lock: Lock, components: Iterable[Component], *, essential: Collection[str] = ()
) -> tuple[Place, ...]:
    """Return where the components of a stack are: image, toolchain, build environments, sources of builds.

    Args:
        essential: Names of the Debian packages that every system must have.
    """
    components = tuple(components)
    image = _edges(one for one in components if one.in_image)
    compiling = {
        ref_of("deb", deb.package, deb.version) for deb in lock.debs if "toolchain" in deb.roots
    }
    toolchain = _edges(
        one for one in components if one.ref in compiling or (one.kind == "base" and not one.in_image)
    )
    mounted = _edges(one for one in components if one.kind == "asset" and not one.in_image)
    sources = _edges(one for one in components if one.kind == "source" and not one.in_image)
    return (
        Place(
            name="the image",
            needs=image,
            asks=_there(
                image,
                (
                    *_of_python(stack, lock),
                    *_of_root("runtime", stack, components, essential),
                    *_of_conda(stack, lock),
                    *_of_named(stack, components),
                ),
            ),
        ),
        Place(
            name="the toolchain",
            needs=toolchain,
            asks=_there(toolchain, _of_root("toolchain", stack, components, essential)),
        ),
        *(_environment(name, packages, stack, lock) for name, packages in lock.build),
        Place(
            name="what is compiled from",
            needs=sources,
            asks=_there(sources, _of_sources(stack, components)),
        ),
        Place(
            name="what whoever runs the image brings along",
            needs=mounted,
            asks=_there(mounted, _of_named(stack, components)),
        ),
    )


def component_needs(components: Iterable[Component]) -> dict[str, tuple[str, ...]]:
    """Return what *components* need of one another; a wheel that is built also needs what it is compiled from."""
    components = tuple(components)
    sources = {canonicalize_name(one.name): one.ref for one in components if one.kind == "source"}
    needs = _edges(components)
    for one in components:
        if one.kind == "wheel" and one.built and one.in_image and one.name in sources:
            needs[one.ref] = (*needs[one.ref], sources[canonicalize_name(one.name)])
    return needs


def _edges(components: Iterable[Component]) -> dict[str, tuple[str, ...]]:
    found = {one.ref: one.needs for one in components}
    return {ref: tuple(one for one in needs if one in found) for ref, needs in found.items()}


def _there(needs: Mapping[str, Sequence[str]], asks: Iterable[Ask]) -> tuple[Ask, ...]:
    return tuple(dict.fromkeys(ask for ask in asks if ask.ref in needs))


def _environment(name: str, packages: Sequence[LockedPackage], stack: Stack, lock: Lock) -> Place:
    refs = {one.name: ref_of("wheel", one.name, one.version) for one in packages}
    needs = {
        refs[one.name]: tuple(refs[other] for other in one.dependencies if other in refs)
        for one in packages
    }
    asks: list[Ask] = []
    for spec in stack.builds:
        if spec.environment == name:
            here = f"build[{spec.name}]"
            asks += _requirements(f"{here}.build-requires", spec.build_requires, refs, stack)
            asks += [
                Ask(who=f"{here}.needs", says=needed, ref=refs[canonicalize_name(needed)])
                for needed in spec.needs
                if canonicalize_name(needed) in refs
            ]
            wheels = nvcc_wheels(stack, lock.runtime, spec)
            asks += _requirements("toolchain.nvcc.wheels", wheels, refs, stack)
    if INSTALLER in refs:
        asks.append(Ask(who="lockbuild", says=f"{INSTALLER} installs wheels", ref=refs[INSTALLER]))
    label = f"the build environment `{name}`" if name else "the build environment"
    return Place(name=label, needs=needs, asks=_there(needs, asks))


def _requirements(
    who: str, texts: Iterable[str], refs: Mapping[str, str], stack: Stack
) -> Iterator[Ask]:
    environment = stack.target.marker_environment()
    for text in texts:
        requirement = Requirement(text)
        ref = refs.get(canonicalize_name(requirement.name))
        if ref and (requirement.marker is None or requirement.marker.evaluate(environment)):
            yield Ask(who=who, says=text, ref=ref)


def _of_python(stack: Stack, lock: Lock) -> Iterator[Ask]:
    refs = {one.name: ref_of("wheel", one.name, one.version) for one in lock.runtime}
    yield from _requirements("python.requires", stack.python.requires, refs, stack)
    for spec in stack.builds:
        if ref := refs.get(canonicalize_name(spec.name)):
            yield Ask(who=f"build[{spec.name}]", says=f"{spec.name} {spec.version}", ref=ref)


def _of_root(
    root: str, stack: Stack, components: Iterable[Component], essential: Collection[str]
) -> Iterator[Ask]:
    """Yield what a root file system is asked to hold."""
    own = stack.toolchain
    asked = {stack.interpreter.apt: "interpreter.apt"}
    if root == "toolchain":
        asked |= {own.nvcc.apt: "toolchain.nvcc.apt", own.compiler: "toolchain.compiler"}
        asked |= dict.fromkeys(stack.apt.toolchain, "apt.toolchain")
    else:
        asked |= dict.fromkeys(stack.apt.runtime, "apt.runtime")
    images = dict(stack.base.images)
    for one in components:
        if one.kind == "base" and one.in_image == (root == "runtime"):
            yield Ask(who=f"base.{root}", says=images.get(root, one.name), ref=one.ref)
        if one.kind != "deb":
            continue
        if one.name in asked:
            yield Ask(who=asked[one.name], says=one.name, ref=one.ref)
        if one.name in essential:
            yield Ask(who="base", says="essential in every system", ref=one.ref)
        if one.sha256 is None:
            yield Ask(who=f"base.{root}", says=f"{images.get(root, 'the image')} brings it", ref=one.ref)


def _of_conda(stack: Stack, lock: Lock) -> Iterator[Ask]:
    refs = {one.name: ref_of("conda", one.name, one.version) for one in lock.conda}
    for text in stack.conda.packages if stack.conda else ():
        if ref := refs.get(text.split()[0].lower()):
            yield Ask(who="conda.packages", says=text, ref=ref)
    if stack.interpreter.conda in refs:
        python = stack.interpreter.conda
        yield Ask(who="interpreter.conda", says=f"{python} {stack.target.python}", ref=refs[python])


def _of_named(stack: Stack, components: Iterable[Component]) -> Iterator[Ask]:
    """Yield assets, sources of the image and its interpreter, each of which the stack names itself."""
    kind = "standalone" if stack.interpreter.standalone else "host"
    for one in components:
        if one.kind == "asset":
            yield Ask(who=f"asset[{one.name}]", says=one.origin or one.name, ref=one.ref)
        elif one.kind == "source" and one.requested:
            yield Ask(who=f"source[{one.name}]", says=one.origin or one.name, ref=one.ref)
        elif one.kind == "interpreter":
            yield Ask(who=f"interpreter.{kind}", says=one.origin, ref=one.ref)


def _of_sources(stack: Stack, components: Iterable[Component]) -> Iterator[Ask]:
    refs = {one.name: one.ref for one in components if one.kind == "source"}
    for spec in stack.builds:
        if spec.name in refs:
            says = spec.source.sdist or spec.source.git or spec.source.path or spec.name
            yield Ask(who=f"build[{spec.name}].source", says=says, ref=refs[spec.name])
    edited = [(f"build[{one.name}]", one.edits) for one in stack.builds]
    edited += [(f"source[{one.name}]", one.edits) for one in stack.sources]
    for who, edits in edited:
        for edit in edits:
            if isinstance(edit, Graft) and edit.source in refs:
                says = f"{edit.take} to {edit.put}"
                yield Ask(who=f"{who}.edits", says=f"graft of {says}", ref=refs[edit.source])
