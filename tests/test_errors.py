"""Every fault comes back whole from another process, and ends the program with its own code."""

from __future__ import annotations

import copy
import importlib
import pickle
import pkgutil

import pytest

import lockbuild
from lockbuild import errors
from lockbuild.errors import LockbuildError


def every_kind() -> list[type[LockbuildError]]:
    """Return every class of error that any module of the package defines."""
    for module in pkgutil.walk_packages(lockbuild.__path__, "lockbuild."):
        if module.name != "lockbuild.__main__":
            importlib.import_module(module.name)
    waiting: list[type[LockbuildError]] = [LockbuildError]
    found: dict[str, type[LockbuildError]] = {}
    while waiting:
        kind = waiting.pop()
        if kind.__module__.startswith("lockbuild"):
            found[f"{kind.__module__}.{kind.__qualname__}"] = kind
        waiting += kind.__subclasses__()
    return [found[name] for name in sorted(found)]


KINDS = every_kind()


@pytest.mark.parametrize("kind", KINDS, ids=lambda kind: kind.__name__)
def test_error_pickles_with_details_and_hint(kind: type[LockbuildError]) -> None:
    error = kind("a message", details=("one", "two"), hint="do this")
    again = pickle.loads(pickle.dumps(error))
    assert type(again) is kind
    assert (str(again), again.message) == ("a message", "a message")
    assert (again.details, again.hint) == (("one", "two"), "do this")


@pytest.mark.parametrize("kind", KINDS, ids=lambda kind: kind.__name__)
def test_error_needs_no_more_than_a_message(kind: type[LockbuildError]) -> None:
    error = copy.copy(kind("a message"))
    assert (error.details, error.hint) == ((), None)


def test_exit_codes_are_those_of_the_design() -> None:
    public = [kind for kind in KINDS if kind is not LockbuildError and kind.__name__ in errors.__all__]
    found = {kind.__name__: kind.exit_code for kind in public}
    assert found == {
        "StackError": 2,
        "UsageError": 2,
        "LockError": 3,
        "ResolveError": 4,
        "FetchError": 5,
        "BuildError": 6,
        "StoreError": 7,
        "ImageError": 8,
        "AuditError": 9,
        "PreflightError": 78,
        "ToolMissing": 10,
    }


def test_an_error_of_no_kind_is_unforeseen() -> None:
    assert LockbuildError.exit_code == 1
