"""From a stack file to an image that works without a network, command by command."""

from __future__ import annotations

import json
import tomllib
from contextlib import closing
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from cyclonedx.schema import SchemaVersion
from cyclonedx.validation.json import JsonStrictValidator
from docker import DockerClient
from packaging.pylock import Pylock

from lockbuild.digest import sha256_of
from lockbuild.dockerfile import BILL_FOLDER, BILL_LABEL
from lockbuild.wheelhouse import parse_manifest
from tests.end_to_end.audits import EXPECTED, UNASKED
from tests.end_to_end.project import Project, snapshot
from tests.needs import missing

if TYPE_CHECKING:
    from lockbuild.process import Completed
    from tests.end_to_end.conftest import Filled

LOCKS = ("lockbuild.lock", "pylock.build.toml", "pylock.toml", "requirements.txt")
PROOF = """
import greeting, markupsafe, native_sum, os, socket
assert greeting.TEXT == "&lt;hello&gt;" and native_sum.add(2, 3) == 5 and markupsafe._speedups
assert os.getuid() == 1000
try:
    socket.create_connection(("192.0.2.1", 80), timeout=5)
except OSError as error:
    print(error.strerror)
"""


@pytest.fixture(scope="module")
def imaged(filled: Filled, engine: str, no_network: tuple[str, ...]) -> tuple[Project, Completed]:
    """The filled project, and what `lockbuild image` said of it, run without a network."""
    project = filled.project.with_env(DOCKER_HOST=engine)
    cut_off = Project(root=project.root, store=project.store, env=project.env, prefix=no_network)
    return project, cut_off.run("image", "small")


# ---- what each step gives ------------------------------------------------------------------------------


def test_resolving_writes_the_four_files_of_a_lock(filled: Filled) -> None:
    assert f"wrote {', '.join(LOCKS)}" in filled.steps["resolve"].stderr


def test_a_lock_names_no_host_and_no_path_of_this_machine(filled: Filled) -> None:
    for name in LOCKS:
        text = (filled.project.stack / name).read_text()
        assert "://" not in text
        assert str(filled.project.root) not in text


def test_pylock_files_are_what_the_standard_says(filled: Filled) -> None:
    for name in LOCKS[1:3]:
        pylock = Pylock.from_dict(tomllib.loads((filled.project.stack / name).read_text()))
        assert {package.name for package in pylock.packages} >= {"markupsafe"}


def test_fetching_brings_everything_that_later_steps_need(filled: Filled) -> None:
    assert "small: fetched " in filled.steps["fetch"].stderr
    if not filled.offline:
        missing("this user may not make a network namespace: `unshare --net`")
    assert "built" in filled.steps["build"].stderr


def test_building_says_which_bytes_no_lock_pins_yet(filled: Filled) -> None:
    assert "does not yet pin the bytes of native-sum, greeting" in filled.steps["build"].stderr
    assert "does not yet pin" not in filled.steps["rebuild"].stderr


def test_the_wheelhouse_holds_what_its_manifest_says(filled: Filled) -> None:
    wheels = filled.project.wheels
    manifest = parse_manifest((wheels / "manifest.json").read_text())
    assert {(entry.name, entry.origin) for entry in manifest.wheels} == {
        ("greeting", "built"),
        ("markupsafe", "fetched"),
        ("native-sum", "built"),
    }
    assert {path.name for path in wheels.glob("*.whl")} == {entry.filename for entry in manifest.wheels}


def test_rendering_writes_a_dockerfile_and_its_context(filled: Filled) -> None:
    project = filled.project
    for name in ("Dockerfile", "docker-bake.json"):
        assert (project.context / name).read_bytes() == (project.stack / name).read_bytes()
    assert {path.name for path in project.context.glob("rootfs/*")} == {"runtime.tar", "toolchain.tar"}


def test_the_image_imports_everything_without_a_network(imaged: tuple[Project, Completed]) -> None:
    project, said = imaged
    with closing(DockerClient(base_url=project.env["DOCKER_HOST"])) as client:
        output = client.containers.run(
            said.stdout.strip(), ["python3", "-c", PROOF], network_mode="none", remove=True
        )
    assert output.decode().strip() == "Network is unreachable"


def test_the_image_has_a_bill_of_materials_and_its_digest_on_a_label(
    imaged: tuple[Project, Completed],
) -> None:
    project, said = imaged
    with closing(DockerClient(base_url=project.env["DOCKER_HOST"])) as client:
        label = client.images.get(said.stdout.strip()).labels[BILL_LABEL]
        text = client.containers.run(
            said.stdout.strip(), ["cat", f"{BILL_FOLDER}/small.cdx.json"], remove=True
        )
    assert label == f"sha256:{sha256_of(text)}"
    printed = project.run("audit", "small", "--against", "lock", "--format", "cyclonedx").stdout
    assert text.decode() == printed
    assert JsonStrictValidator(SchemaVersion.V1_6).validate_str(printed) is None
    assert {"libc6", "markupsafe", "native-sum"} <= {
        one["name"] for one in json.loads(text)["components"]
    }


def test_an_audit_finds_nothing_and_leaves_nothing_out(imaged: tuple[Project, Completed]) -> None:
    report = json.loads(imaged[0].run("audit", "small", "--json").stdout)
    assert {finding["check"] for finding in report["findings"]} <= EXPECTED
    assert {one["check"] for one in report["skipped"]} == UNASKED
    assert len(report["passed"]) > 10


# ---- again ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("verb", "said"),
    [
        ("resolve", "the lock is up to date"),
        ("fetch", "everything is fetched"),
        ("build", "nothing to do"),
        ("render", "the Dockerfile is up to date"),
        ("image", "the image is up to date"),
    ],
)
def test_a_second_run_says_that_nothing_is_to_do_and_touches_no_file(
    imaged: tuple[Project, Completed], verb: str, said: str
) -> None:
    project = imaged[0]
    before = snapshot(project.root, project.store)
    assert said in project.run(verb, "small").stderr
    assert snapshot(project.root, project.store) == before


@pytest.mark.parametrize(
    "words",
    [
        ("resolve", "small"),
        ("build", "small"),
        ("build", "small", "--dry-run"),
        ("check", "small", "greeting"),
        ("render", "small"),
        ("render", "--context", "small"),
        ("image", "small"),
        ("audit", "small"),
        ("store", "verify"),
        ("doctor",),
    ],
    ids=" ".join,
)
def test_json_is_all_that_stands_on_standard_output(
    imaged: tuple[Project, Completed], words: tuple[str, ...]
) -> None:
    json.loads(imaged[0].run(*words, "--json").stdout)


def test_quiet_says_nothing_where_there_is_nothing_to_say(filled: Filled) -> None:
    ended = filled.project.run("--quiet", "build", "small")
    assert (ended.stdout, ended.stderr) == ("", "")


def test_with_a_store_elsewhere_nothing_is_left_in_the_home_folder(filled: Filled) -> None:
    home = Path(filled.project.env["HOME"])
    assert not list(home.rglob("lockbuild*"))
