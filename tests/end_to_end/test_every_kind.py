"""A small stack of every kind at once: fetched, then built, put into an image and run with no upstream left."""

from __future__ import annotations

import json
import shutil
import zipfile
from contextlib import closing
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import pytest
from docker import DockerClient
from docker.errors import ContainerError

from lockbuild.derivation import Build
from lockbuild.folders import StackFolder
from lockbuild.lock import parse_lock
from lockbuild.plan import make_plan
from lockbuild.stack import from_document
from tests.end_to_end.audits import EXPECTED, UNASKED
from tests.end_to_end.kinds import APP, MODELS, PATCH, upstreams
from tests.end_to_end.project import RUNTIME, TOOLCHAIN, Project, scratch_folder, snapshot
from tests.needs import need
from tests.servers.engine import private_engine
from tests.wheels import make_wheel

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping
    from pathlib import Path

    from lockbuild.process import Completed
    from tests.end_to_end.conftest import Filled


@dataclass(frozen=True, slots=True, kw_only=True)
class Made:
    """The stack and its image, and what was seen on the way."""

    project: Project
    """Without a network."""
    said: Mapping[str, Completed]
    """What each command said."""
    locks: tuple[Mapping[str, str], ...]
    """The lock's files after each `resolve`: twice with all upstreams there, then with none."""

    @property
    def image(self) -> str:
        """Its name."""
        return self.said["image"].stdout.strip()


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """Where all of it is."""
    with scratch_folder(tmp_path_factory.mktemp("every-kind")) as made:
        yield made


@pytest.fixture(scope="module")
def made(folder: Path, filled: Filled, engine: str, no_network: tuple[str, ...]) -> Made:
    """Resolve and fetch; then end every server, remove what it served, and go on without a network."""
    need("docker-registry", "git", "skopeo")
    env = {**filled.project.env, "DOCKER_HOST": engine}
    roots = {
        "runtime": filled.project.locate(RUNTIME.__eq__) / "rootfs.tar",
        "toolchain": filled.project.locate(TOOLCHAIN.__eq__) / "rootfs.tar",
    }
    online = Project(root=folder / "project", store=folder / "store", env=env)
    said, locks = {}, []
    (online.stack / "patches").mkdir(parents=True)
    (online.stack / "patches/native.patch").write_text(PATCH)
    with upstreams(folder / "upstreams", roots) as text:
        (online.stack / "stack.toml").write_text(text)
        for step in ("resolve", "resolve again"):
            said[step] = online.run("resolve", "small")
            locks.append(_lock_files(online))
        said["fetch"] = online.run("fetch", "small")
    shutil.rmtree(folder / "upstreams")
    offline = Project(root=online.root, store=online.store, env=env, prefix=no_network)
    for step, verb in (("build", "build"), ("pin", "resolve"), ("image", "image")):
        said[step] = offline.run(verb, "small")
    locks.append(_lock_files(offline))
    return Made(project=offline, said=said, locks=tuple(locks))


@pytest.fixture(scope="module")
def models(folder: Path) -> Path:
    """What the mount wants."""
    place = folder / "models"
    place.mkdir()
    (place / "neutral.pkl").write_bytes(b"a model")
    return place


def _lock_files(project: Project) -> dict[str, str]:
    return StackFolder(path=project.stack).read_lock_texts()


def _run(made: Made, *words: str, models: Path | None = None) -> str:
    """Run the image as `docker run --network none` does; *models* is what it gets mounted."""
    volumes = {str(models): {"bind": MODELS, "mode": "ro"}} if models else {}
    with closing(DockerClient(base_url=made.project.env["DOCKER_HOST"])) as client:
        output: bytes = client.containers.run(
            made.image, list(words), network_mode="none", volumes=volumes, remove=True
        )
    return output.decode()


def _id(project: Project, image: str) -> str:
    with closing(DockerClient(base_url=project.env["DOCKER_HOST"])) as client:
        return str(client.images.get(image).id)


# ---- on the way ------------------------------------------------------------------------------------------


def test_resolving_again_changes_no_byte(made: Made) -> None:
    assert made.locks[1] == made.locks[0]
    assert "the lock is up to date" in made.said["resolve again"].stderr


def test_without_upstreams_resolving_only_adds_what_was_built(made: Made) -> None:
    before, after = map(parse_lock, made.locks[1:])
    assert replace(after, pins=(), compiled=(), digest=before.digest) == before
    assert before.pins == ()
    assert [pin.name for pin in after.pins] == ["greeting", "native-every"]


def test_the_lock_pins_one_of_every_kind(made: Made) -> None:
    lock = StackFolder(path=made.project.stack).read_lock()
    assert [image.root for image in lock.images] == ["runtime", "toolchain"]
    assert "libgomp1" in {deb.package for deb in lock.debs}
    assert {package.name for package in lock.conda} == {"tool", "words"}
    assert {package.name for package in lock.runtime} == {
        "greeting",
        "markupsafe",
        "native-every",
        "pinned",
    }
    commits = {source.name for source in lock.sources if source.commit}
    assert commits == {"app", "extras", "native-every"}
    assert {source.index for source in lock.sources if source.name == "greeting"} == {"ours"}
    assert {asset.name for asset in lock.assets} == {"tables", "weights"}


# ---- the image -------------------------------------------------------------------------------------------


def test_the_application_finds_all_it_needs_without_a_network(made: Made, models: Path) -> None:
    assert json.loads(_run(made, models=models)) == {
        "python": [[3, 10], "/opt/python"],
        "user": 1000,
        "base": "of a registry",
        "package": True,
        "network": "Network is unreachable",
        "wheel": True,
        "pinned wheel": "by its hash",
        "sdist": "&lt;hello&gt;",
        "git": {"submodule": 42, "patch": "patched", "substitute": "substituted", "graft": 7},
        "conda": "out of conda",
        "source": "cpu",
        "variable": "small",
        "bundle": "weights",
        "archive": ["/opt/tables/table.txt: rows"],
        "mount": ["neutral.pkl"],
        "optional mount": False,
    }


def test_without_its_mount_the_image_runs_nothing_and_says_the_flag(made: Made) -> None:
    with pytest.raises(ContainerError) as caught:
        _run(made)
    assert caught.value.exit_status == 78
    assert f"-v /path/to/models:{MODELS}" in str(caught.value)


def test_preflight_names_the_flag_of_the_mount(made: Made) -> None:
    said = made.project.run("preflight", "small", exit_code=78).stderr
    assert (
        f"mount {MODELS}: not mounted; it must hold `*.pkl` (its licence lets nobody pass it on)" in said
    )
    assert f"mend: -v /path/to/models:{MODELS}" in said
    assert "recordings" not in said


def test_preflight_passes_with_the_mount(made: Made, models: Path) -> None:
    words = ("preflight", "small", "-v", f"{models}:{MODELS}", "--full", "--json")
    found = {
        (one["check"], one["subject"]): one["state"]
        for one in json.loads(made.project.run(*words).stdout)["findings"]
    }
    assert found["mount", MODELS] == "ok"
    assert found["mount", f"{APP}/recordings"] == "note"
    assert found["asset", f"{APP}/weights/tiny.bin"] == "ok"
    assert found["import", "native_every"] == "ok"
    assert set(found.values()) == {"ok", "note"}


def test_audit_warns_of_what_no_one_publishes_and_finds_no_error(made: Made) -> None:
    report = json.loads(made.project.run("audit", "small", "--json").stdout)
    found = (one for one in report["findings"] if one["check"] not in EXPECTED)
    assert {(one["check"], one["subject"], one["level"]) for one in found} == {
        ("moving-ref", "extras", "warning"),
        ("on-first-fetch", "tables", "warning"),
    }
    assert {one["check"] for one in report["skipped"]} == UNASKED
    assert {"image-conda", "image-packages", "image-sources"} <= set(report["passed"])


_SITE = "/opt/venv/lib/python3.10/site-packages"
_TAMPERED = """\
FROM {image}
USER 0:0
RUN rm -r {site}/pinned-1.0+ours.dist-info
COPY site {site}
RUN echo evil >> {site}/markupsafe/__init__.py
RUN export PATH=$PATH:/usr/sbin:/sbin && mkdir -p /tmp/d/DEBIAN /tmp/d/usr/bin && cp /bin/true /tmp/d/usr/bin/sneaky && \\
    printf 'Package: sneaky\\nVersion: 1.0\\nArchitecture: all\\nMaintainer: a\\nDescription: b\\n' > /tmp/d/DEBIAN/control && \\
    dpkg-deb --build /tmp/d /tmp/d.deb && dpkg --install /tmp/d.deb && rm -r /tmp/d /tmp/d.deb
ENV APP_MODE=evil
RUN echo others > {app}/weights/tiny.bin
COPY models {models}
RUN rm -r {models}
LABEL io.lockbuild.lock=sha256:forged
COPY wheels /wheels
RUN chmod u+s /usr/bin/env
USER 1000:1000
"""


def test_an_image_tampered_with_in_nine_ways_gives_nine_findings(made: Made, folder: Path) -> None:
    context = folder / "tampered"
    (context / "models").mkdir(parents=True)
    (context / "models/neutral.pkl").write_bytes(b"a model")
    wheel = make_wheel(context / "wheels", "pinned", "2.0", files={"pinned.py": b"evil = 1\n"})
    with zipfile.ZipFile(wheel) as archive:
        archive.extractall(context / "site")
    (context / "Dockerfile").write_text(
        _TAMPERED.format(image=made.image, site=_SITE, app=APP, models=MODELS), encoding="utf-8"
    )
    with closing(DockerClient(base_url=made.project.env["DOCKER_HOST"])) as client:
        client.images.build(path=str(context), tag="tampered:1", network_mode="none", rm=True)
    words = ("audit", "small", "--against", "image", "tampered:1", "--json")
    found = json.loads(made.project.run(*words, exit_code=9).stdout)["findings"]
    assert {one["check"]: (one["subject"], bool(one["layer"])) for one in found} == {
        "image-assets": (f"{APP}/weights/tiny.bin", True),
        "image-debs": ("sneaky", True),
        "image-env": ("APP_MODE", True),
        "image-leftovers": ("/wheels/pinned-2.0-py3-none-any.whl", True),
        "image-licensed": (f"{MODELS}/neutral.pkl", True),
        "image-lock": ("tampered:1", True),
        "image-package-files": (f"{_SITE}/markupsafe/__init__.py", True),
        "image-packages": ("pinned", True),
        "image-setuid": ("/usr/bin/env", True),
    }
    assert len(found) == 9


def test_making_the_image_again_does_nothing(made: Made) -> None:
    before = snapshot(made.project.root, made.project.store)
    again = made.project.run("image", "small")
    assert "the image is up to date" in again.stderr
    assert again.stdout.strip() == made.image
    assert snapshot(made.project.root, made.project.store) == before


def test_another_store_and_another_engine_make_the_same_image(made: Made, folder: Path) -> None:
    other = made.project.copy(folder / "other")
    document, lock = StackFolder(path=other.stack).read_locked()
    plan = make_plan(from_document(document), lock)
    # The toolchain is in no image, and takes long to unpack.
    kept = dict(plan.roots)["toolchain"]
    builds = [p for p, one in plan.derivations.items() if isinstance(one, Build) and p != kept]
    other.forget({path.partition("-")[2] for path in builds}.__contains__)
    with private_engine(folder / "engine") as host:
        elsewhere = other.with_env(DOCKER_HOST=host)
        said = elsewhere.run("image", "small")
        # What the gate imports wheels in is in no image, and its verdicts are kept.
        assert f"building: {len(builds) - 1} builds" in said.stderr
        assert _id(elsewhere, said.stdout.strip()) == _id(made.project, made.image)
