"""What all tests share: the golden files, small stacks on disk, and a guard over sockets."""

from __future__ import annotations

import ipaddress
import os
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import hypothesis
import pytest

from lockbuild.documents import toml_text
from lockbuild.folders import STACK_FILE, StackFolder
from lockbuild.lock import lock_texts
from lockbuild.stack import from_document, inputs_of
from tests import values

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping
    from typing import Any

    from lockbuild.lock import Lock

DATA = Path(__file__).parent / "data"

PURE = frozenset(
    {
        "assetlock",
        "attestation",
        "audit_policy",
        "baseimage",
        "cells",
        "cells_tables",
        "condalock",
        "derivation",
        "derivationtext",
        "changes",
        "differences",
        "description",
        "digest",
        "dockerfile",
        "documents",
        "drawing",
        "edits",
        "errors",
        "findings",
        "graph",
        "imagelock",
        "labels",
        "licences",
        "lock",
        "osv",
        "plan",
        "preflight",
        "progress",
        "provenance",
        "purls",
        "remedies",
        "report",
        "report_pictures",
        "report_sarif",
        "report_since",
        "sbom",
        "stack",
        "stack_schema",
        "strangers",
        "target",
        "upstream",
        "wheelhouse",
    }
)
"""`NAME` of each `test_NAME.py` whose module is of levels 0 to 2, which ask nothing of the outside."""

# Examples take as long as they take; failures print what reproduces them; nothing is kept beside the tests.
hypothesis.settings.register_profile(
    "lockbuild",
    deadline=None,
    database=None,
    print_blob=True,
    derandomize=os.environ.get("CI") == "true",
)
hypothesis.settings.load_profile("lockbuild")


# ---- side by side --------------------------------------------------------------------------------


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_make_scheduler(config: pytest.Config, log: Any) -> Any:
    """Keep the tests of a file in one process, and all end-to-end tests: they share what takes minutes to make."""
    from xdist.scheduler import LoadScopeScheduling  # type: ignore[import-untyped]

    class ByRoom(LoadScopeScheduling):  # type: ignore[misc]
        def _split_scope(self, nodeid: str) -> str:
            file = nodeid.partition("::")[0]
            folder = file.rpartition("/")[0]
            return file if folder == "tests" else folder

    return ByRoom(config, log)


# ---- golden files --------------------------------------------------------------------------------


def pytest_addoption(parser: pytest.Parser) -> None:
    """Add the switch that renews golden files."""
    parser.addoption("--accept", action="store_true", help="write what tests found to tests/data/")


@pytest.fixture
def accept(request: pytest.FixtureRequest) -> bool:
    """Tell whether golden files are to be written instead of compared."""
    return bool(request.config.getoption("--accept"))


@pytest.fixture
def golden(*, accept: bool) -> Callable[[str, str], None]:
    """Return a function that compares a text with a file below tests/data, or renews the file."""

    def check(name: str, text: str) -> None:
        path = DATA / name
        if accept:
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(text.encode())
        assert path.is_file(), f"{name} is not there: `pytest --accept` writes it, then review it"
        assert text == path.read_bytes().decode(), "review the change, then `pytest --accept`"

    return check


# ---- stacks --------------------------------------------------------------------------------------


@pytest.fixture
def stacks(tmp_path: Path) -> Callable[..., StackFolder]:
    """Return a function that writes a stack and its lock below a project folder of the test's own."""

    def make(
        name: str = "small",
        *,
        document: Mapping[str, Any] | None = None,
        lock: Lock | None = None,
        locked: bool = True,
    ) -> StackFolder:
        """Write `stacks/NAME`; the inputs of its lock are those of *document* and the files beside it."""
        content = {**(document or values.stack_document()), "name": name}
        folder = StackFolder(path=tmp_path / "stacks" / name)
        folder.path.mkdir(parents=True)
        (folder.path / STACK_FILE).write_text(toml_text(content), encoding="utf-8")
        for path, text in values.FILES.items():
            (folder.path / path).parent.mkdir(parents=True, exist_ok=True)
            (folder.path / path).write_text(text, encoding="utf-8")
        if locked:
            inputs = inputs_of(content, folder.used_files(content))
            chosen = values.with_inputs(lock or values.small_lock(), inputs)
            stack = from_document(content)
            folder.write_texts(
                lock_texts(chosen, name=name, target=stack.target, wheels=folder.wheels_from_here)
            )
        return folder

    return make


# ---- sockets -------------------------------------------------------------------------------------


class _Guard:
    """What tests may reach now. An audit hook cannot be taken away, so there is one, and it asks here."""

    def __init__(self) -> None:
        self.reach: Literal["nothing", "loopback"] = "loopback"

    def __call__(self, event: str, arguments: tuple[Any, ...]) -> None:
        """Fail the test, in a way that no `except Exception` swallows, when it reaches too far."""
        if not event.startswith("socket."):
            return
        if self.reach == "nothing":
            if event == "socket.__new__":
                pytest.fail("a test of levels 0 to 2 opens a socket")
        elif event in {"socket.connect", "socket.bind", "socket.sendto", "socket.sendmsg"}:
            # Addresses of internet sockets are tuples that begin with a host.
            address = arguments[1]
            if isinstance(address, tuple) and isinstance(address[0], str):
                _only_loopback(address[0])
        elif event in {"socket.getaddrinfo", "socket.gethostbyname", "socket.gethostbyaddr"}:
            _only_loopback(arguments[0])


def _only_loopback(host: str | bytes | None) -> None:
    name = host.decode() if isinstance(host, bytes) else host
    if name in {None, "localhost"}:
        return
    try:
        outside = not ipaddress.ip_address(str(name)).is_loopback
    except ValueError:
        outside = True
    if outside:
        pytest.fail(f"a test asks for `{name}`: tests reach this machine's loopback only")


_guard = _Guard()
sys.addaudithook(_guard)


@pytest.fixture(autouse=True)
def _sockets(request: pytest.FixtureRequest) -> Iterator[None]:
    """Block every socket in tests of levels 0 to 2, and all but loopback and local ones elsewhere."""
    _guard.reach = "nothing" if request.path.stem.removeprefix("test_") in PURE else "loopback"
    yield
    _guard.reach = "loopback"
