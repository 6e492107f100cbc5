"""The two sides of a comparison: stacks and locks as they are, or as a git revision has them."""

from __future__ import annotations

import difflib
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING

from lockbuild.errors import LockbuildError, UsageError
from lockbuild.folders import STACK_FILE, StackFolder, find_stack, moved_inputs
from lockbuild.lock import LOCK_FILE
from lockbuild.stack import from_document, inputs_of
from lockbuild.stack.shared import SHARED
from lockbuild.stack.unlocked import check_unlocked

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from lockbuild.lock import Lock
    from lockbuild.plan import Plan
    from lockbuild.revisions import Repository
    from lockbuild.stack import Stack

__all__ = ["Side", "read_sides"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Side:
    """A stack and its lock, or a lock alone."""

    label: str
    """What people call it: `stacks/cpu`, `HEAD~3:stacks/cpu`."""
    commit: str
    """Empty for what lies on disk."""
    folder: Path
    """Gone once both sides were compared, for a revision."""
    lock: Lock
    stack: Stack | None
    """None where the lock stands alone."""
    plan: Plan | None
    """None where nobody could build it."""
    no_plan: tuple[str, ...] = ()
    """Why there is no plan; a line for each reason."""


@dataclass(frozen=True, slots=True, kw_only=True)
class _Place:
    """Where a side is."""

    folder: Path
    """The stack's; of a revision, where it is in the work tree, whether it is still there or not."""
    revision: str = ""


@contextmanager
def read_sides(places: Sequence[str], *, stack: str | None, here: Path) -> Iterator[tuple[Side, Side]]:
    """Read both sides; what is written out of revisions is there until the block ends.

    Args:
        places: One or two stacks, lock files, `REVISION:PATH` or revisions. Of one, HEAD is the other.
        stack: The stack that all of *places* are revisions of; none where they say it themselves.

    Raises:
        LockError: A lock is missing or damaged.
        StackError: A stack file of a revision is none that this lockbuild knows.
        UsageError: There is no such stack, revision or file.
    """
    old, new = _places(places, stack=stack, here=here)
    with TemporaryDirectory(prefix="lockbuild-diff-") as scratch:
        yield _read(old, Path(scratch), "old", here), _read(new, Path(scratch), "new", here)


def _places(places: Sequence[str], *, stack: str | None, here: Path) -> tuple[_Place, _Place]:
    if not 1 <= len(places) <= 2:  # noqa: PLR2004 - two sides
        raise UsageError(
            f"found {len(places)} sides, expected two",
            hint="lockbuild diff stacks/cu118 stacks/cu130, or lockbuild diff HEAD~3 stacks/cpu",
        )
    if stack is not None:
        folder = find_stack(stack, here=here).path
        found = [_Place(folder=folder, revision=text) for text in places]
        return (found[0], found[1]) if len(found) > 1 else (found[0], _Place(folder=folder))
    fixed = [_fixed(text, here) for text in places]
    known = next((place for place in fixed if place), None)
    if known is None:
        raise UsageError(
            f"`{places[0]}` is no stack and no lock file",
            hint=_nearest(places[0], here)
            or f"of revisions, say which stack: `lockbuild diff --stack STACK {' '.join(places)}`",
        )
    if len(fixed) == 1:
        return _Place(folder=known.folder, revision="HEAD"), known
    # A revision alone means the other side's stack.
    old, new = (
        place or _Place(folder=known.folder, revision=text)
        for place, text in zip(fixed, places, strict=True)
    )
    return old, new


def _fixed(text: str, here: Path) -> _Place | None:
    """Return the place that *text* says by itself; none for what can only be a revision."""
    try:
        return _Place(folder=find_stack(text, here=here).path)
    except UsageError:
        given = (here / text).resolve()
    if given.name == LOCK_FILE and given.is_file():
        return _Place(folder=given.parent)
    if (given / LOCK_FILE).is_file():
        return _Place(folder=given)
    revision, colon, path = text.partition(":")
    if not colon or not revision:
        return None
    repository = _repository(here)
    commit = _commit(repository, revision)
    path = path.rstrip("/").removesuffix(f"/{STACK_FILE}").removesuffix(f"/{LOCK_FILE}")
    # As git has it a path begins at the top; a name is one of the stacks there.
    for found in (path, f"{repository.prefix}{path}", f"{repository.prefix}stacks/{path}"):
        if any(repository.has(commit, f"{found}/{name}") for name in (STACK_FILE, LOCK_FILE)):
            return _Place(folder=repository.top / found, revision=revision)
    raise _absent(repository, commit, revision, path)


def _read(place: _Place, scratch: Path, name: str, here: Path) -> Side:
    if not place.revision:
        return _side(StackFolder(path=place.folder), commit="")
    repository = _repository(place.folder if place.folder.is_dir() else here)
    commit = _commit(repository, place.revision)
    path = place.folder.relative_to(repository.top).as_posix()
    if not any(repository.has(commit, f"{path}/{name}") for name in (STACK_FILE, LOCK_FILE)):
        raise _absent(repository, commit, place.revision, path)
    into = scratch / name
    into.mkdir()
    beside = (place.folder.parent / SHARED).relative_to(repository.top).as_posix()
    repository.write(commit, (path, beside), into)
    label = f"{place.revision}:{path}"
    return _side(StackFolder(path=into / "tree" / path, called=label), commit=commit)


def _side(folder: StackFolder, *, commit: str) -> Side:
    alone = Side(
        label=folder.label,
        commit=commit,
        folder=folder.path,
        lock=folder.read_lock(),
        stack=None,
        plan=None,
        no_plan=(f"there is no {STACK_FILE} beside {LOCK_FILE}",),
    )
    if not (folder.path / STACK_FILE).is_file():
        return alone
    try:
        return _planned(alone, folder)
    except LockbuildError as error:
        # What people wrote there and then is another matter: what was locked can be compared.
        return replace(alone, no_plan=(error.message, *error.details))


def _planned(alone: Side, folder: StackFolder) -> Side:
    """Return the side with its stack, and with the plan that `lockbuild build` would carry out, unless it would refuse."""
    from lockbuild.plan import make_plan  # noqa: PLC0415 - not needed for --help

    document, locked = folder.read_document(), dict(alone.lock.inputs)
    files = {key: digest for key, digest in locked.items() if key.startswith("file ")}
    written = {key: digest for key, digest in locked.items() if key not in files}
    moved = moved_inputs(written, inputs_of(document, {}))
    if moved or alone.commit:
        from lockbuild.stack.schema import check_document  # noqa: PLC0415 - slow; what was locked was checked

        # A stack file of long ago may say what this lockbuild has no words for.
        check_document(document, file=folder.stack_file)
    else:
        check_unlocked(document, file=folder.stack_file)
    side = replace(alone, stack=from_document(document))
    try:
        moved = moved or moved_inputs(locked, inputs_of(document, folder.used_files(document)))
        if moved:
            return replace(side, no_plan=("the lock is stale", *moved))
        return replace(side, plan=make_plan(from_document(document), alone.lock), no_plan=())
    except LockbuildError as error:
        return replace(side, no_plan=(error.message, *error.details))


def _repository(folder: Path) -> Repository:
    from lockbuild.revisions import repository_of  # noqa: PLC0415 - most comparisons need no git

    found = repository_of(folder)
    if found is None:
        raise UsageError(f"{folder} is in no git repository", hint="a revision needs one")
    return found


def _commit(repository: Repository, revision: str) -> str:
    commit = repository.commit(revision)
    if commit is None:
        raise UsageError(
            f"`{revision}` is no stack, no lock file and no revision of {repository.top}",
            hint=_nearest(revision, repository.top),
        )
    return commit


def _nearest(text: str, here: Path) -> str | None:
    known = sorted(path.parent.name for path in (here / "stacks").glob(f"*/{STACK_FILE}"))
    nearest = difflib.get_close_matches(Path(text).name, known, n=1, cutoff=0.6)
    return f"did you mean `{nearest[0]}`?" if nearest else None


def _absent(repository: Repository, commit: str, revision: str, path: str) -> UsageError:
    known = repository.folders_with(commit, STACK_FILE)
    nearest = difflib.get_close_matches(path, known, n=1, cutoff=0.4)
    hint = f"did you mean `{revision}:{nearest[0]}`?" if nearest else None
    if known and not hint:
        hint = f"its stacks are: {', '.join(known)}"
    return UsageError(f"{revision} ({commit[:12]}) has no stack at `{path}`", hint=hint)
