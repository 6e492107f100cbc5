"""Images built from a rendered context by a real engine of the tests' own."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
import tarfile
import time
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from lockbuild.audit.contents import debs_of, kept, pythons_of
from lockbuild.digest import sha256_of
from lockbuild.dockerfile import BILL_FOLDER, PREFIX, TEMPLATES, Contents, render_context
from lockbuild.errors import ImageError, ToolMissing, UsageError
from lockbuild.image import BindMount, Engine, ImageFacts
from lockbuild.image.archive import Reading, read_saved
from lockbuild.image.building import build
from lockbuild.image.clients import find_client
from lockbuild.image.containers import inspect, load, run, save
from lockbuild.image.engine import find_engine, own_engine
from lockbuild.image.layers import final
from lockbuild.lock import LockedFile, LockedSource
from lockbuild.placing import write_archive
from lockbuild.plan import EPOCH
from lockbuild.process import run as run_program
from lockbuild.stack import Image, Mount
from tests.fakes import RecordingProgress
from tests.needs import missing, need
from tests.test_dockerfile import BILL, LOCK, MANIFEST, NOTICE, STACK
from tests.wheels import make_wheel

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    from lockbuild.condalock import LockedConda
    from lockbuild.dockerfile import BundledAsset
    from lockbuild.folders import StackFolder
    from lockbuild.placing import SourceTree
    from lockbuild.process import Completed
    from lockbuild.stack import Stack
    from lockbuild.wheelhouse import Manifest

ENV = (("QUOTED", """it's "$HOME" \\ `x` ${PATH}"""), ("SPACES", "  a b "))


@dataclass(frozen=True, slots=True, kw_only=True)
class Small:
    """A small image and what it was made of."""

    context: Path
    manifest: Manifest
    facts: ImageFacts


@pytest.fixture(scope="session")
def rootfs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a root file system with Python, made from the archive that this machine uses."""
    need("mmdebstrap", "apt-get")
    file = tmp_path_factory.mktemp("rootfs") / "runtime.tar"
    listed = run_program(["apt-get", "indextargets", "--format", "$(REPO_URI) $(CODENAME) $(COMPONENT)"])
    mirror = re.search(r"^(\S+) bookworm main$", listed.stdout, re.MULTILINE)
    if mirror is None:
        missing("this machine's apt knows no archive of Debian 12")
        raise AssertionError
    made = run_program(
        [
            *("mmdebstrap", "--variant=essential", "--include=python3", "--quiet"),
            *("bookworm", file, f"deb {mirror[1]} bookworm main"),
        ],
        env=os.environ | {"SOURCE_DATE_EPOCH": str(EPOCH)},
        timeout_s=300,
    )
    if made.returncode:
        missing(f"no root file system can be made here: {made.stderr[-300:]}")
    return file


@pytest.fixture(scope="session")
def installer(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a wheel of pip from the index that this machine uses."""
    folder = tmp_path_factory.mktemp("installer")
    got = run_program(
        [sys.executable, "-m", "pip", "download", "--quiet", "--no-deps", "--dest", folder, "pip"],
        timeout_s=120,
    )
    if got.returncode:
        missing(f"no pip can be downloaded here: {got.stderr[-300:]}")
    return next(folder.glob("pip-*.whl"))


@pytest.fixture(scope="module")
def engine(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Engine]:
    """Run an engine for all tests here."""
    need("dockerd")
    if os.geteuid() != 0:
        missing("a Docker Engine of one's own needs root")
    folder = tmp_path_factory.mktemp("engine")
    with own_engine(folder) as found:
        try:
            with find_client(found):
                pass
        except ToolMissing as error:
            missing(" / ".join((error.message, *error.details)))
        yield found
    # A gigabyte of images, and the next module has an engine of its own.
    shutil.rmtree(folder, ignore_errors=True)


def make_context(
    folder: Path,
    stack: Stack,
    rootfs: Path,
    installer: Path,
    broken: bytes = b"",
    assets: Sequence[BundledAsset] = (),
    sources: Sequence[SourceTree] = (),
    conda: tuple[LockedConda, ...] = (),
) -> Manifest:
    """Write the whole context of *stack*, but for its assets, and return the manifest of its wheels."""
    wheels = (
        make_wheel(
            folder / "wheels",
            "alpha",
            "1.0",
            files={
                "alpha/__init__.py": b"import beta\ndef tool():\n    print('tool')\n" + broken,
                "alpha-1.0.dist-info/entry_points.txt": b"[console_scripts]\nalpha-tool=alpha:tool\n",
            },
        ),
        make_wheel(
            folder / "wheels",
            "beta",
            "1.0",
            files={"beta/__init__.py": b"", "beta/deep.py": b"x = 1\n", "beta/py2.py": b"print 1\n"},
        ),
    )
    manifest = replace(
        MANIFEST,
        wheels=tuple(
            replace(entry, sha256=sha256_of(file.read_bytes()))
            for entry, file in zip(MANIFEST.wheels, wheels, strict=True)
        ),
    )
    (folder / "tools").mkdir()
    shutil.copy(installer, folder / "tools")
    (folder / "rootfs").mkdir()
    (folder / "rootfs/runtime.tar").hardlink_to(rootfs)
    name, packages = LOCK.build[0]
    assert packages[0].wheel
    pip = replace(packages[0], wheel=replace(packages[0].wheel, filename=installer.name))
    locked = tuple(
        LockedSource(
            name=tree.name,
            version="",
            index="",
            file=LockedFile(filename=tree.name, sha256=tree.sha256),
            commit="c" * 40,
        )
        for tree in sources
    )
    lock = replace(LOCK, build=((name, (pip,)),), sources=locked, conda=conda)
    for tree in sources:
        (folder / "sources").mkdir(exist_ok=True)
        write_archive(tree, folder / f"sources/{tree.name}.tar")
    contents = Contents(
        manifest=manifest,
        bill=BILL,
        notice=NOTICE,
        assets=tuple(assets),
        sources={tree.name: tree.sha256 for tree in sources},
    )
    templates = {
        name: (Path(__file__).parents[1] / "templates" / name).read_text(encoding="utf-8")
        for name in TEMPLATES
    }
    for name, text in render_context(stack, lock, contents, templates=templates).items():
        (folder / name).parent.mkdir(exist_ok=True)
        (folder / name).write_text(text, encoding="utf-8")
    return manifest


@pytest.fixture(scope="module")
def small(
    engine: Engine, rootfs: Path, installer: Path, tmp_path_factory: pytest.TempPathFactory
) -> Small:
    """Build the image that most tests look at."""
    folder = tmp_path_factory.mktemp("small")
    context = folder / "context"
    context.mkdir()
    stack = replace(STACK, env=ENV, summary='says "$HOME" \\')
    manifest = make_context(context, stack, rootfs, installer)
    facts = build(context, tag="small:1", engine=engine, log=folder / "log", epoch=EPOCH)
    return Small(context=context, manifest=manifest, facts=facts)


# ---- building -------------------------------------------------------------------------------------


def test_second_build_from_nothing_gives_the_same_image(
    small: Small, engine: Engine, tmp_path: Path
) -> None:
    again = build(
        small.context, tag="small:2", engine=engine, log=tmp_path / "log", epoch=EPOCH, cache=False
    )
    assert again.layers == small.facts.layers
    assert again.id == small.facts.id


def test_time_of_creation_is_the_epoch(small: Small) -> None:
    assert small.facts.created == "1980-01-01T00:00:00Z"


def test_label_of_the_caller_joins_those_of_the_dockerfile(
    small: Small, engine: Engine, tmp_path: Path
) -> None:
    facts = build(
        small.context,
        tag="small:labelled",
        engine=engine,
        log=tmp_path / "log",
        epoch=EPOCH,
        labels={"io.example.note": 'a "b" $c'},
    )
    assert facts.label("io.example.note") == 'a "b" $c'
    assert facts.label("io.lockbuild.stack") == "small"
    assert facts.label("org.opencontainers.image.description") == 'says "$HOME" \\'


@pytest.mark.usefixtures("small")
def test_image_holds_its_bill_of_materials_for_everybody_to_read(engine: Engine) -> None:
    image = read_saved("small:1", Reading(), engine=engine)
    files = final([layer.content for layer in image.layers])
    for name, text in (("small.cdx.json", BILL), ("small.NOTICE", NOTICE)):
        file = files[f"{BILL_FOLDER}/{name}".removeprefix("/")].file
        assert (file.content, file.mode) == (sha256_of(text.encode()), 0o644)
    assert run("small:1", ["cat", f"{BILL_FOLDER}/small.cdx.json"], engine=engine).stdout == BILL


@pytest.mark.usefixtures("small")
def test_no_layer_holds_a_wheel_or_a_package_file(engine: Engine, tmp_path: Path) -> None:
    save("small:1", tmp_path / "image.tar", engine=engine)
    names = []
    with tarfile.open(tmp_path / "image.tar") as image:
        for member in image:
            if member.isreg() and member.name.endswith("layer.tar"):
                with tarfile.open(fileobj=image.extractfile(member)) as layer:
                    names += layer.getnames()
    assert "opt/venv/lib/python3.11/site-packages/alpha/__init__.py" in names
    assert [name for name in names if name.endswith((".whl", ".deb", "wheels.txt"))] == []


def test_test_stage_passes_when_all_imports(small: Small, engine: Engine, tmp_path: Path) -> None:
    progress = RecordingProgress()
    build(
        small.context,
        tag="t:1",
        engine=engine,
        log=tmp_path / "log",
        epoch=EPOCH,
        target="test",
        progress=progress,
    )
    assert any(line.startswith("[test 1/2] RUN ") for line in progress.lines)
    assert max(map(len, progress.lines)) < len(": done 1000.0s") + 121


def test_test_stage_names_what_cannot_be_imported(
    engine: Engine, rootfs: Path, installer: Path, tmp_path: Path
) -> None:
    context = tmp_path / "context"
    context.mkdir()
    make_context(context, STACK, rootfs, installer, broken=b"import not_there\n")
    with pytest.raises(ImageError, match=r"step `\[test 1/2\]") as caught:
        build(context, tag="t:2", engine=engine, log=tmp_path / "log", epoch=EPOCH, target="test")
    assert "cannot be imported: alpha" in caught.value.details
    assert "ModuleNotFoundError: No module named 'not_there'" in caught.value.details
    assert "not_there" in (tmp_path / "log").read_text(encoding="utf-8")


def test_test_stage_says_what_a_missing_library_wants(
    engine: Engine, rootfs: Path, installer: Path, tmp_path: Path
) -> None:
    context = tmp_path / "context"
    context.mkdir()
    wants = b"import ctypes\nctypes.CDLL('libnot-there.so.6')\n"
    make_context(context, STACK, rootfs, installer, broken=wants)
    with pytest.raises(ImageError) as caught:
        build(context, tag="t:2", engine=engine, log=tmp_path / "log", epoch=EPOCH, target="test")
    first, last = (caught.value.hint or "").splitlines()
    assert first.startswith(
        "libnot-there.so.6: nothing in the image has it; add the Debian package that has it"
    )
    assert last.startswith("the whole output: ")


def test_failed_build_leaves_no_tag(engine: Engine, tmp_path: Path) -> None:
    (tmp_path / "Dockerfile").write_text("FROM scratch AS runtime\nCOPY absent /\n", encoding="utf-8")
    with pytest.raises(ImageError, match="cannot be built"):
        build(tmp_path, tag="failed:1", engine=engine, log=tmp_path / "log", epoch=EPOCH)
    with pytest.raises(ImageError, match="there is no image `failed:1`"):
        inspect("failed:1", engine=engine)


def test_changed_wheel_is_refused(engine: Engine, rootfs: Path, installer: Path, tmp_path: Path) -> None:
    make_context(tmp_path, STACK, rootfs, installer)
    make_wheel(tmp_path / "wheels", "alpha", "1.0", files={"alpha/__init__.py": b"evil = 1\n"})
    with pytest.raises(ImageError) as caught:
        build(tmp_path, tag="t:3", engine=engine, log=tmp_path / "log", epoch=EPOCH)
    assert "DO NOT MATCH THE HASHES" in "\n".join(caught.value.details)


def test_full_disk_is_told_as_such(rootfs: Path, tmp_path: Path) -> None:
    need("dockerd", "mount")
    disk = tmp_path / "disk"
    disk.mkdir()
    mounted = run_program(["mount", "-t", "tmpfs", "-o", "size=60m", "tmpfs", disk])
    if mounted.returncode:
        missing(f"no small disk can be mounted here: {mounted.stderr}")
    try:
        context = tmp_path / "context"
        context.mkdir()
        (context / "rootfs.tar").hardlink_to(rootfs)
        (context / "Dockerfile").write_text(
            "FROM scratch AS runtime\nADD rootfs.tar /\n", encoding="utf-8"
        )
        with (
            own_engine(disk / "engine") as engine,
            pytest.raises(ImageError, match=rf"disk is full \({disk}.* bytes are free\)"),
        ):
            build(context, tag="t:1", engine=engine, log=tmp_path / "log", epoch=EPOCH)
    finally:
        run_program(["umount", "--lazy", disk])


@pytest.mark.usefixtures("small")
def test_interrupted_build_leaves_no_tag_and_no_client(engine: Engine, tmp_path: Path) -> None:
    script = tmp_path / "interrupted.py"
    script.write_text(_INTERRUPTED, encoding="utf-8")
    (tmp_path / "Dockerfile").write_text(
        "FROM small:1 AS runtime\nRUN echo waiting; sleep 300\n", encoding="utf-8"
    )
    process = subprocess.Popen(
        [sys.executable, script, engine.host, tmp_path],
        cwd=Path(__file__).parents[1],
        stderr=subprocess.PIPE,
        text=True,
    )
    log = tmp_path / "log"
    deadline = time.monotonic() + 60
    while not (log.exists() and "waiting" in log.read_text(encoding="utf-8").partition("DONE")[2]):
        assert process.poll() is None, process.communicate()[1]
        assert time.monotonic() < deadline
        time.sleep(0.1)
    process.send_signal(2)
    _, said = process.communicate(timeout=60)
    assert "KeyboardInterrupt" in said
    assert str(tmp_path) not in run_program(["ps", "-eo", "args"]).stdout
    with pytest.raises(ImageError, match="there is no image"):
        inspect("interrupted:1", engine=engine)


_INTERRUPTED = """
import sys
from pathlib import Path
sys.path.insert(0, ".")
import os
os.environ["DOCKER_HOST"] = sys.argv[1]
from lockbuild.image.building import build
from lockbuild.image.engine import find_engine
folder = Path(sys.argv[2])
build(folder, tag="interrupted:1", engine=find_engine(), log=folder / "log", epoch=0, cache=False)
"""


# ---- running and reading --------------------------------------------------------------------------


@pytest.mark.usefixtures("small")
def test_image_runs_without_network_as_its_user(engine: Engine) -> None:
    program = (
        "import os, getpass, alpha, socket; print(os.getuid(), os.getgid(), getpass.getuser(),"
        " os.getcwd(), os.environ['HOME'], os.access('.', os.W_OK), len(socket.if_nameindex()))"
    )
    ended = run("small:1", ["python3", "-c", program], engine=engine)
    assert (ended.returncode, ended.stderr) == (0, "")
    assert ended.stdout == "1000 1000 lockbuild /workspace /home/lockbuild True 1\n"


@pytest.mark.usefixtures("small")
def test_any_user_can_import(engine: Engine) -> None:
    ended = run("small:1", ["python3", "-c", "import alpha, beta.deep"], engine=engine, user="4242:4242")
    assert (ended.returncode, ended.stderr) == (0, "")


@pytest.mark.usefixtures("small")
def test_variables_are_as_the_stack_says(engine: Engine) -> None:
    program = "import os; print([os.environ['QUOTED'], os.environ['SPACES']])"
    ended = run("small:1", ["python3", "-c", program], engine=engine)
    assert ended.stdout == f"{[value for _, value in ENV]}\n"


@pytest.mark.usefixtures("small")
def test_script_of_a_wheel_runs(engine: Engine) -> None:
    assert run("small:1", ["alpha-tool"], engine=engine).stdout == "tool\n"


@pytest.mark.usefixtures("small")
def test_bytecode_is_found_by_hash(engine: Engine) -> None:
    program = "import beta.deep, pathlib; print(pathlib.Path(beta.deep.__cached__).read_bytes()[4])"
    assert run("small:1", ["python3", "-c", program], engine=engine).stdout == "1\n"


@pytest.mark.usefixtures("small")
def test_output_and_status_of_a_failing_command_are_told(engine: Engine) -> None:
    ended = run("small:1", ["sh", "-c", "echo out; echo err >&2; exit 7"], engine=engine)
    assert (ended.returncode, ended.stdout, ended.stderr) == (7, "out\n", "err\n")


@pytest.mark.usefixtures("small")
def test_mount_is_read_only_unless_said(engine: Engine, tmp_path: Path) -> None:
    tmp_path.chmod(0o777)
    write = ["sh", "-c", "echo x > /data/x"]
    read_only = BindMount(source=tmp_path, target="/data")
    assert run("small:1", write, engine=engine, mounts=[read_only]).returncode != 0
    writable = replace(read_only, writable=True)
    assert run("small:1", write, engine=engine, mounts=[writable]).returncode == 0
    assert (tmp_path / "x").read_text(encoding="utf-8") == "x\n"


@pytest.mark.usefixtures("small")
def test_command_that_takes_too_long_is_ended(engine: Engine) -> None:
    with pytest.raises(ImageError, match="did not end within 1 s"):
        run("small:1", ["sleep", "300"], engine=engine, timeout_s=1)


@pytest.mark.usefixtures("small")
def test_command_that_is_not_there_is_named(engine: Engine) -> None:
    ended = run("small:1", ["no-such-program"], engine=engine)
    assert ended.returncode == 127
    assert "no-such-program: not found" in ended.stderr


@pytest.mark.usefixtures("small")
def test_entry_point_that_is_not_there_is_named(engine: Engine) -> None:
    with pytest.raises(ImageError, match="no-such-program"):
        run("small:1", ["no-such-program"], engine=engine, entrypoint=())


@pytest.mark.usefixtures("small")
def test_installed_packages_are_read_without_running_anything(engine: Engine) -> None:
    image = read_saved("small:1", Reading(keep=kept), engine=engine)
    files = final([layer.content for layer in image.layers])
    top = PREFIX.removeprefix("/")
    pythons = [one for one in pythons_of(image, files) if one.path.startswith(top)]
    assert [(one.name, one.version) for one in pythons] == [("alpha", "1.0"), ("beta", "1.0")]
    debs = {one.name: one.version for one in debs_of(image, files)}
    assert debs["python3"].startswith("3.11.")


def test_a_layer_tells_which_instruction_made_it(small: Small, engine: Engine) -> None:
    image = read_saved("small:1", Reading(), engine=engine)
    labels = [layer.label for layer in image.layers]
    assert labels[:2] == ["1: ADD rootfs/runtime.tar /", "2: COPY --from=environment /image/ /"]
    assert tuple(layer.diff_id for layer in image.layers) == small.facts.layers
    assert image.digest == small.facts.id


def test_saved_image_loads_as_the_same(small: Small, engine: Engine, tmp_path: Path) -> None:
    save("small:1", tmp_path / "image.tar", engine=engine)
    with own_engine(tmp_path / "engine") as other:
        loaded = load(tmp_path / "image.tar", engine=other)
    assert (loaded.id, loaded.tags) == (small.facts.id, ("small:1",))


@pytest.mark.usefixtures("small")
def test_image_that_cannot_be_saved_leaves_no_file(engine: Engine, tmp_path: Path) -> None:
    with pytest.raises(ImageError, match="there is no image"):
        save("absent:1", tmp_path / "image.tar", engine=engine)
    assert list(tmp_path.iterdir()) == []


def test_file_that_holds_no_image_is_refused(engine: Engine, tmp_path: Path) -> None:
    (tmp_path / "x.tar").write_bytes(b"no tar")
    with pytest.raises(ImageError, match=r"x\.tar"):
        load(tmp_path / "x.tar", engine=engine)


# ---- preflight ------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def needy(
    engine: Engine, rootfs: Path, installer: Path, tmp_path_factory: pytest.TempPathFactory
) -> ImageFacts:
    """Build an image that is of no use without a mount, with an entry point of its own."""
    folder = tmp_path_factory.mktemp("needy")
    (folder / "context").mkdir()
    mount = Mount(path="/app/data/smpl", holds=("SMPL_*.pkl",), why="may not be passed on")
    stack = replace(STACK, name="needy", mounts=(mount,), image=Image(entrypoint=("env", "A=1")))
    make_context(folder / "context", stack, rootfs, installer)
    return build(folder / "context", tag="needy:1", engine=engine, log=folder / "log", epoch=EPOCH)


@pytest.fixture
def smpl(tmp_path: Path) -> BindMount:
    """Return the mount that `needy` needs."""
    (tmp_path / "SMPL_NEUTRAL.pkl").write_bytes(b"x")
    tmp_path.chmod(0o755)
    return BindMount(source=tmp_path, target="/app/data/smpl")


@pytest.mark.usefixtures("needy")
def test_image_without_its_mount_names_the_flag_and_runs_nothing(engine: Engine) -> None:
    ended = run("needy:1", ["echo", "hi"], engine=engine)
    assert (ended.returncode, ended.stdout) == (78, "")
    assert "not mounted; it must hold `SMPL_*.pkl` (may not be passed on)" in ended.stderr
    assert "docker run -v /path/to/smpl:/app/data/smpl " in ended.stderr


@pytest.mark.usefixtures("needy")
def test_image_with_its_mount_runs_its_command(engine: Engine, smpl: BindMount) -> None:
    ended = run("needy:1", ["sh", "-c", 'echo "$A $0"; exit 3', "a  b"], engine=engine, mounts=[smpl])
    assert (ended.returncode, ended.stdout, ended.stderr) == (3, "1 a  b\n", "")


@pytest.mark.usefixtures("needy")
def test_preflight_only_tries_imports_and_checks_and_runs_nothing(
    engine: Engine, smpl: BindMount
) -> None:
    ended = run("needy:1", ["--preflight-only"], engine=engine, mounts=[smpl])
    assert (ended.returncode, ended.stderr) == (0, "")
    assert [line.split(":")[0].split() for line in ended.stdout.splitlines()] == [
        ["ok", "mount", "/app/data/smpl"],
        ["ok", "import", "alpha"],
        ["ok", "import", "beta.deep"],
        ["ok", "check", "1"],
    ]


@pytest.mark.usefixtures("needy")
def test_command_is_process_1_and_gets_its_signals(engine: Engine, smpl: BindMount) -> None:
    program = (
        "import os, signal, time\n"
        "signal.signal(signal.SIGUSR1, lambda *_: (print('caught'), os._exit(9)))\n"
        "os.kill(1, signal.SIGUSR1)\n"
        "time.sleep(60)\n"
    )
    ended = run("needy:1", ["python3", "-uc", program], engine=engine, mounts=[smpl])
    assert (ended.returncode, ended.stdout) == (9, "caught\n")


def lockbuild(engine: Engine, *words: str | Path) -> Completed:
    """Run a command of lockbuild's with the tests' own engine."""
    env = os.environ | {"DOCKER_HOST": engine.host}
    return run_program([sys.executable, "-m", "lockbuild", *words], env=env, timeout_s=120)


@pytest.mark.usefixtures("needy")
def test_preflight_command_passes_on_what_the_image_says(
    engine: Engine, stacks: Callable[..., StackFolder]
) -> None:
    ended = lockbuild(engine, "preflight", stacks().path, "--image", "needy:1")
    assert ended.returncode == 78
    assert "ok    import alpha: can be imported" in ended.stdout
    assert "mend: -v /path/to/smpl:/app/data/smpl" in ended.stderr
    assert "error: image `needy:1` does not have all that it needs" in ended.stderr


@pytest.mark.usefixtures("needy")
def test_preflight_command_takes_the_flags_that_mend(
    engine: Engine, stacks: Callable[..., StackFolder], smpl: BindMount
) -> None:
    volume = f"{smpl.source}:{smpl.target}"
    folder = stacks().path
    ended = lockbuild(
        engine, "preflight", folder, "--image", "needy:1", "-v", volume, "--full", "--json"
    )
    assert (ended.returncode, ended.stderr) == (0, "")
    found = json.loads(ended.stdout)
    assert (found["name"], found["ok"]) == ("needy", True)
    assert {finding["state"] for finding in found["findings"]} == {"ok"}


@pytest.mark.usefixtures("small")
def test_preflight_of_an_image_that_has_none_is_refused(
    engine: Engine, stacks: Callable[..., StackFolder], tmp_path: Path
) -> None:
    (tmp_path / "Dockerfile").write_text(
        'FROM small:1 AS runtime\nENTRYPOINT []\nCMD ["true"]\n', encoding="utf-8"
    )
    build(tmp_path, tag="without:1", engine=engine, log=tmp_path / "log", epoch=EPOCH)
    ended = lockbuild(engine, "preflight", stacks().path, "--image", "without:1")
    assert (ended.returncode, ended.stdout) == (ImageError.exit_code, "")
    assert "image `without:1` has no preflight" in ended.stderr


@pytest.mark.parametrize("volume", ["/data", "/data:relative", ":/x", "/not/there:/x", "/tmp:/x:no"])
def test_mount_of_the_preflight_command_that_is_none_is_refused(
    engine: Engine, stacks: Callable[..., StackFolder], volume: str
) -> None:
    ended = lockbuild(engine, "preflight", stacks().path, "-v", volume)
    assert ended.returncode == UsageError.exit_code
    assert "error: `-v`: " in ended.stderr


def test_engine_without_gpus_says_what_it_lacks(needy: ImageFacts, engine: Engine) -> None:
    if shutil.which("nvidia-container-runtime-hook"):
        missing("this machine's engines can give GPUs")
    with pytest.raises(ImageError, match="gpu") as caught:
        run(needy.id, ["true"], engine=engine, gpus=True)
    assert "NVIDIA Container Toolkit" in str(caught.value.hint)


# ---- engines and clients --------------------------------------------------------------------------


def test_engine_is_found_where_docker_host_says(engine: Engine, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DOCKER_HOST", engine.host)
    found = find_engine()
    assert (found.host, found.version) == (engine.host, engine.version)
    assert found.free is not None
    assert found.free > 0


def test_engine_whose_port_is_no_number_does_not_answer(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DOCKER_HOST", "tcp://127.0.0.1:docker")
    with pytest.raises(ToolMissing, match="no Docker Engine answers") as caught:
        find_engine()
    assert caught.value.details[0].startswith("tcp://127.0.0.1:docker: ")


def test_absent_engine_is_told_with_its_address(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("DOCKER_HOST", f"unix://{tmp_path}/none.sock")
    with pytest.raises(ToolMissing, match="no Docker Engine answers") as caught:
        find_engine()
    assert caught.value.details == (f"unix://{tmp_path}/none.sock: no such file or directory",)
    assert caught.value.hint


def test_clients_that_cannot_build_are_named_with_the_reason(engine: Engine, tmp_path: Path) -> None:
    (tmp_path / "docker").write_text("#!/bin/sh\necho 28.2.2\n[ $1 = version ]\n", encoding="utf-8")
    (tmp_path / "docker").chmod(0o755)
    with (
        pytest.raises(ToolMissing, match="no Docker client") as caught,
        find_client(engine, folders=[tmp_path]),
    ):
        pass
    assert caught.value.details == (
        (
            f"{tmp_path}/docker: version 28.2.2 has no BuildKit of its own"
            " and the plug-in `buildx` is absent"
        ),
    )


def test_client_that_is_too_slow_may_be_tried_again(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr("lockbuild.image.clients._TRIAL_S", 1)
    (tmp_path / "docker").write_text("#!/bin/sh\nexec sleep 30\n", encoding="utf-8")
    (tmp_path / "docker").chmod(0o755)
    host = f"unix://{tmp_path}/docker.sock"
    busy = Engine(host=host, version="28.0.0", storage_driver="overlay2", root="/var/lib/docker")
    with pytest.raises(ToolMissing) as caught, find_client(busy, folders=[tmp_path]):
        pass
    assert "did not build the smallest image within 1 s" in caught.value.details[0]
    assert (caught.value.hint or "").startswith("run the same command again")


def test_client_of_a_user_with_proxies_does_not_see_them(
    engine: Engine, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    (tmp_path / "config.json").write_text('{"currentContext": "absent"}', encoding="utf-8")
    monkeypatch.setenv("DOCKER_CONFIG", str(tmp_path))
    monkeypatch.setenv("HTTP_PROXY", "http://proxy.invalid")
    with find_client(engine) as client:
        assert client.env["DOCKER_HOST"] == engine.host
        assert "HTTP_PROXY" not in client.env


def test_own_engine_ends_with_its_block(tmp_path: Path) -> None:
    need("dockerd")
    with own_engine(tmp_path / "engine") as engine:
        socket = Path(engine.host.removeprefix("unix://"))
        assert socket.exists()
    assert not socket.exists()
    assert str(tmp_path) not in run_program(["ps", "-eo", "args"]).stdout


def test_own_engines_stand_beside_each_other(engine: Engine, tmp_path: Path) -> None:
    with own_engine(tmp_path / "engine") as other:
        assert other.host != engine.host
        assert other.root != engine.root
