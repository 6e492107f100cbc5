"""py-rattler against channels that are served on loopback, and the text that conda-lock reads."""

from __future__ import annotations

import subprocess
import sys
from typing import TYPE_CHECKING, Any

import pytest

from lockbuild.errors import ResolveError
from lockbuild.resolvers import CondaQuestion
from lockbuild.resolvers.conda import resolve
from lockbuild.resolvers.conda_lock import conda_lock_text
from tests.conda import CondaPackage, add_package, archive_bytes, make_channel
from tests.fetching import own_environment
from tests.servers.faulty import Fault, faulty_server

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from lockbuild.condalock import LockedConda
    from tests.servers.faulty import FaultyServer

PACKAGES = (
    CondaPackage(name="tool", version="2.1", depends=("__cuda >=11.2", "lib >=1,<2", "lib !=1.5")),
    CondaPackage(name="tool", version="3.0", depends=("__cuda >=12", "lib")),
    CondaPackage(name="tool", version="1.0", depends=("lib",), suffix=".tar.bz2"),
    CondaPackage(name="lib", version="1.0", depends=("__glibc >=2.17",)),
    CondaPackage(name="script", version="1.0", noarch="generic", depends=("tool",)),
)
VIRTUAL = (("__archspec", "1=x86_64"), ("__cuda", "11.8"), ("__glibc", "2.31"), ("__unix", "0"))


@pytest.fixture(autouse=True)
def _own_environment(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    own_environment(monkeypatch, tmp_path)
    # What a host has must never matter.
    monkeypatch.setenv("CONDA_OVERRIDE_CUDA", "12.9")


@pytest.fixture
def channel(tmp_path: Path) -> Path:
    return make_channel(tmp_path / "www" / "main", PACKAGES)


@pytest.fixture
def server(channel: Path) -> Iterator[FaultyServer]:
    with faulty_server(channel.parent) as served:
        yield served


@pytest.fixture
def ask(server: FaultyServer, tmp_path: Path) -> Any:
    """Return a function that asks about packages of the channel, each time from an empty cache."""
    counter = iter(range(100))

    def ask(*packages: str, **changes: Any) -> tuple[LockedConda, ...]:
        question: dict[str, Any] = {
            "channels": (("main", (f"{server.url}/main",)),),
            "subdir": "linux-64",
            "packages": packages,
            "virtual_packages": VIRTUAL,
            **changes,
        }
        return resolve(CondaQuestion(**question), cache=tmp_path / f"cache-{next(counter)}")

    return ask


def versions(found: tuple[LockedConda, ...]) -> dict[str, str]:
    return {package.name: package.version for package in found}


def virtual(**changes: str) -> tuple[tuple[str, str], ...]:
    return tuple(sorted({**dict(VIRTUAL), **changes}.items()))


@pytest.mark.parametrize(("cuda", "version"), [("11.8", "2.1"), ("12.4", "3.0"), ("11.1", "1.0")])
def test_target_decides_and_not_the_host(ask: Any, cuda: str, version: str) -> None:
    found = ask("tool", virtual_packages=virtual(__cuda=cuda))
    assert versions(found) == {"lib": "1.0", "tool": version}


def test_answer_says_all_that_a_lock_needs(ask: Any) -> None:
    (lib, tool) = ask("tool ==1.0")
    package = next(p for p in PACKAGES if p.name == "tool" and p.version == "1.0")
    assert (tool.channel, tool.subdir, tool.filename) == ("main", "linux-64", "tool-1.0-0.tar.bz2")
    assert tool.size == len(archive_bytes(package))
    assert (tool.requested, lib.requested) == (True, False)
    assert tool.depends == ("lib",)
    assert lib.depends == ("__glibc >=2.17",)


def test_package_for_any_machine_is_found_too(ask: Any) -> None:
    found = {package.name: package for package in ask("script")}
    assert found["script"].subdir == "noarch"
    assert found["tool"].version == "2.1"


def test_unsatisfiable_set_is_told_with_the_declared_virtual_packages(ask: Any) -> None:
    with pytest.raises(ResolveError) as caught:
        ask("tool >=3")
    text = "\n".join(caught.value.details)
    assert "__cuda >=12, for which no candidates were found" in text
    assert "virtual packages: __archspec 1=x86_64, __cuda 11.8, __glibc 2.31, __unix 0" in text
    assert "target" in (caught.value.hint or "")


def test_package_that_no_channel_has_is_named(ask: Any) -> None:
    with pytest.raises(ResolveError) as caught:
        ask("nonesuch")
    assert "nonesuch" in "\n".join(caught.value.details)


@pytest.mark.parametrize("text", ["tool = = 1", "tool >=>1"])
def test_what_is_no_specification_is_told(ask: Any, text: str) -> None:
    with pytest.raises(ResolveError, match="is not how conda names packages"):
        ask(text)


def test_former_pin_stays_while_nothing_speaks_against_it(ask: Any, channel: Path) -> None:
    former = ask("tool")
    add_package(channel, CondaPackage(name="lib", version="1.2"))
    assert versions(ask("tool", former=former))["lib"] == "1.0"
    assert versions(ask("tool"))["lib"] == "1.2"
    assert versions(ask("tool", "lib >=1.1", former=former)) == {"lib": "1.2", "tool": "2.1"}


def test_first_channel_that_has_a_package_serves_it(
    ask: Any, channel: Path, server: FaultyServer
) -> None:
    make_channel(channel.parent / "own", [CondaPackage(name="lib", version="0.9")])
    own, main = (("own", (f"{server.url}/own",)), ("main", (f"{server.url}/main",)))
    (found,) = ask("lib", channels=(own, main))
    assert (found.channel, found.version) == ("own", "0.9")
    (found,) = ask("lib", channels=(main, own))
    assert (found.channel, found.version) == ("main", "1.0")


def test_mirror_that_does_not_answer_is_passed_over(ask: Any, server: FaultyServer) -> None:
    expected = ask("tool")
    channels = (("main", ("http://127.0.0.1:9/main", f"{server.url}/main")),)
    assert ask("tool", channels=channels) == expected


def test_same_packages_from_a_mirror_are_the_same_pins(ask: Any, channel: Path) -> None:
    assert ask("tool", channels=(("main", (channel.as_uri(),)),)) == ask("tool")


def test_channel_that_cannot_be_asked_is_named_with_what_to_configure(ask: Any) -> None:
    with pytest.raises(ResolveError) as caught:
        ask("tool", channels=(("main", ("http://127.0.0.1:9/main",)),))
    assert "the conda channel `main` cannot be asked" in caught.value.message
    assert "refused" in "\n".join(caught.value.details)
    assert "channels.main" in (caught.value.hint or "")


@pytest.mark.parametrize(
    ("fault", "unreachable"),
    [
        (Fault(kind="status", status=503), True),
        (Fault(kind="status", status=401), True),
        (Fault(kind="reset", after=10), True),
        (Fault(kind="status", status=404), False),
        (Fault(kind="html"), False),
    ],
    ids=["busy", "locked", "reset", "absent", "page"],
)
def test_silence_is_told_from_a_wrong_answer(
    ask: Any, server: FaultyServer, fault: Fault, *, unreachable: bool
) -> None:
    names = ("repodata.json", "repodata.json.zst", "repodata.json.bz2", "repodata_shards.msgpack.zst")
    server.faults |= {f"/main/{s}/{name}": fault for s in ("linux-64", "noarch") for name in names}
    with pytest.raises(ResolveError) as caught:
        ask("tool")
    assert caught.value.unreachable is unreachable


def test_credentials_of_a_mirror_are_not_told(ask: Any) -> None:
    with pytest.raises(ResolveError) as caught:
        ask("tool", channels=(("main", ("http://me:secret@127.0.0.1:9/main",)),))
    assert "secret" not in "\n".join((caught.value.message, *caught.value.details))
    assert caught.value.unreachable


def test_package_without_a_sha256_is_refused(ask: Any, channel: Path) -> None:
    index = channel / "linux-64" / "repodata.json"
    index.write_text(index.read_text().replace('"sha256"', '"sha"'))
    with pytest.raises(ResolveError, match="does not say all of sha256"):
        ask("lib")


def test_panic_of_the_solver_is_a_fault_in_words(ask: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    import rattler

    class RustPanic(BaseException):
        pass

    async def solve(*_: object, **__: object) -> None:
        raise RustPanic("index out of bounds")

    monkeypatch.setattr(rattler, "solve", solve)
    with pytest.raises(ResolveError, match="index out of bounds"):
        ask("tool")


# ---- conda-lock ----------------------------------------------------------------------------------------


def text_of(packages: tuple[LockedConda, ...], work: Path) -> str:
    work.mkdir()
    return conda_lock_text(
        packages,
        name="small",
        channels={"main": "https://conda.example.org/main/"},
        subdir="linux-64",
        work=work,
    )


_REREAD = """
import sys
from pathlib import Path
from conda_lock.lockfile import parse_conda_lock_file, write_conda_lock_file
lock = parse_conda_lock_file(Path(sys.argv[1]))
write_conda_lock_file(lock, Path(sys.argv[2]), metadata_choices=None, include_help_text=False)
"""


def run(*words: object) -> str:
    done = subprocess.run([*map(str, words)], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_text_names_the_address_of_the_stack_and_no_mirror(
    ask: Any, server: FaultyServer, tmp_path: Path
) -> None:
    text = text_of(ask("tool"), tmp_path / "work")
    assert "url: https://conda.example.org/main/linux-64/tool-2.1-0.conda\n" in text
    assert server.url not in text
    assert str(tmp_path) not in text
    assert text_of(ask("tool"), tmp_path / "again") == text


def test_conda_lock_reads_and_writes_the_same(ask: Any, tmp_path: Path) -> None:
    text = text_of(ask("tool", "script"), tmp_path / "work")
    (tmp_path / "conda-lock.yml").write_text(text)
    run(sys.executable, "-c", _REREAD, tmp_path / "conda-lock.yml", tmp_path / "again.yml")
    body = "".join(line for line in text.splitlines(keepends=True) if not line.startswith("#"))
    assert (tmp_path / "again.yml").read_text() == body


def test_conda_lock_renders_addresses_and_hashes(ask: Any, tmp_path: Path) -> None:
    found = ask("tool")
    (tmp_path / "conda-lock.yml").write_text(text_of(found, tmp_path / "work"))
    done = subprocess.run(
        [
            *(sys.executable, "-m", "conda_lock", "render", "-k", "explicit"),
            *("--platform", "linux-64", "--filename-template", "explicit", "conda-lock.yml"),
        ],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    lines = next(tmp_path.glob("explicit*")).read_text().splitlines()
    for package in found:
        address = f"https://conda.example.org/main/linux-64/{package.filename}#{package.md5}"
        assert address in lines
