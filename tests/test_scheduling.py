"""Which builds run when, and how their compilers share the cores: bubblewrap, ninja and make in earnest."""

from __future__ import annotations

import os
import pickle
import platform
import signal
import subprocess
import sys
import tempfile
import threading
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from lockbuild import jobs
from lockbuild.builders import ccache, watch
from lockbuild.builders.sandbox import SandboxBuilder
from lockbuild.builders.turns import is_compiler
from lockbuild.derivation import Build, BuildTask, JobPool
from lockbuild.errors import BuildError
from lockbuild.scheduling import Work, longest_first, schedule
from tests.fakes import RecordingProgress
from tests.needs import missing, need
from tests.values import any_build

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from lockbuild.derivation import BuildOutcome

PATIENCE_S = 60.0

# ---- order -----------------------------------------------------------------------------------------


def a_build(name: str, *needs: Build) -> Build:
    inputs = tuple((need.name, need.path) for need in needs)
    return any_build(name=name, toolchain=None, inputs=inputs)


def names(builds: Iterable[Build]) -> list[str]:
    return [build.name for build in builds]


def test_longest_comes_first() -> None:
    builds = [a_build("short"), a_build("long"), a_build("middle")]
    ordered = longest_first(builds, {"short": 1, "middle": 5, "long": 9})
    assert names(ordered) == ["long", "middle", "short"]


def test_what_nobody_knows_comes_before_the_longest() -> None:
    builds = [a_build("long"), a_build("unknown")]
    assert names(longest_first(builds, {"long": 9000})) == ["unknown", "long"]


def test_what_waits_for_a_build_counts_for_it() -> None:
    root = a_build("root")
    builds = [a_build("alone"), root, a_build("user", root)]
    ordered = longest_first(builds, {"alone": 10, "root": 1, "user": 20})
    assert names(ordered).index("root") < names(ordered).index("alone")


def test_what_waits_counts_for_nothing_when_all_is_there() -> None:
    root = a_build("root")
    builds = [root, a_build("alone"), a_build("user", root)]
    ordered = longest_first(builds, {"alone": 10, "root": 1, "user": 20}, apart=True)
    assert names(ordered) == ["user", "alone", "root"]


def test_equally_long_ones_keep_their_order() -> None:
    builds = [a_build(name) for name in "dbca"]
    assert names(longest_first(builds, {})) == list("dbca")


def do_all(builds: Iterable[Build], *, bad: str = "", keep_going: bool = False) -> list[str]:
    """Schedule *builds* one by one, and return the names of those that were begun."""
    begun: list[str] = []

    def begin(build: Build, _count: int) -> str:
        begun.append(build.name)
        return build.name

    work = Work(run=begin, good=lambda name: name != bad, log=lambda _: Path("/nonexistent"))
    schedule(tuple(builds), work, RecordingProgress(), width=1, keep_going=keep_going)
    return begun


def test_a_build_waits_for_what_it_needs_though_it_comes_first() -> None:
    root = a_build("root")
    assert do_all([a_build("user", root), root]) == ["root", "user"]


def test_nothing_is_begun_after_a_bad_one() -> None:
    assert do_all([a_build("one"), a_build("two")], bad="one") == ["one"]


def test_keep_going_begins_what_does_not_need_the_bad_one() -> None:
    one = a_build("one")
    builds = [one, a_build("user", one), a_build("two")]
    assert do_all(builds, bad="one", keep_going=True) == ["one", "two"]


def test_steps_are_told_while_a_build_runs(tmp_path: Path) -> None:
    progress = RecordingProgress()
    seen = threading.Event()
    steps = progress.steps

    def tell(part: str, done: int, total: int | None) -> None:
        steps(part, done, total)
        seen.set()

    progress.steps = tell  # type: ignore[method-assign]

    def write(build: Build, _count: int) -> bool:
        (tmp_path / build.name).write_text("[57/129] nvcc a.cu\n")
        return seen.wait(PATIENCE_S)

    work = Work(run=write, good=bool, log=lambda build: tmp_path / build.name)
    results = schedule([a_build("mmcv")], work, progress, width=1, keep_going=False)
    assert list(results.values()) == [True]
    assert progress.parts == [("mmcv", 57, 129)]


def test_what_runs_beside_an_exception_is_told_before_that_is_raised() -> None:
    raised, done, progress = threading.Event(), list[str](), RecordingProgress()

    def run(build: Build, _count: int) -> str:
        if build.name == "one":
            raise BuildError("the engine does not work")
        assert raised.wait(PATIENCE_S)
        return build.name

    def line(text: str) -> None:
        RecordingProgress.line(progress, text)
        raised.set()

    progress.line = line  # type: ignore[method-assign]
    builds = [a_build(name) for name in ("one", "two", "three")]
    work = Work(
        run=run,
        good=bool,
        log=lambda _: Path("/nonexistent"),
        done=lambda build, _: done.append(build.name),
    )
    with pytest.raises(BuildError, match="does not work"):
        schedule(builds, work, progress, width=2, keep_going=True)
    assert done == ["two"]
    assert progress.lines == ["one: the engine does not work"]


# ---- compilers share the cores ---------------------------------------------------------------------


@pytest.mark.parametrize(
    "program",
    [
        "/usr/bin/g++-11",
        "nvcc",
        "/usr/local/cuda/bin/nvcc",
        "cc",
        "x86_64-linux-gnu-gcc-12",
        "clang++",
        "rustc",
    ],
)
def test_compilers_are_known_by_name(program: str) -> None:
    assert is_compiler(program)


@pytest.mark.parametrize(
    "program",
    ["/usr/bin/ninja", "sh", "cc1plus", "ld", "gcc-ar", "cargo", "/opt/gcc/bin/make", "ccache"],
)
def test_other_programs_are_not_held_back(program: str) -> None:
    assert not is_compiler(program)


# Says when it ran, and runs for a moment.
COMPILER = """#!/bin/sh
begun=$(date +%s%N)
sleep 0.2
echo "$1 $begun $(date +%s%N)" >>/build/out/stamps
"""
TOOLS = {
    "ninja": "ninja -j $MAX_JOBS -f /build/inputs/rules",
    "make": "make -f /build/inputs/rules",
}


def rules_of(tool: str, objects: list[str]) -> str:
    if tool == "ninja":
        return "rule cc\n command = g++ $out\n" + "".join(f"build {name}: cc\n" for name in objects)
    return f"all: {' '.join(objects)}\n{' '.join(objects)}:\n\tg++ $@\n"


@pytest.fixture
def sandbox() -> SandboxBuilder:
    need("bwrap")
    made = SandboxBuilder()
    try:
        made.probe()
    except BuildError as error:
        missing(f"{error.message}: {error.hint}")
    return made


class Yard:
    """Makes builds on this machine's own tools, which share one pool."""

    def __init__(self, folder: Path, cores: int) -> None:
        self.folder = folder
        self.pool = JobPool(folder=folder / "jobs", jobs=cores, memory=1)
        (folder / "bin").mkdir()
        self.program("g++", COMPILER)

    def program(self, name: str, text: str) -> None:
        """Put a program first on the search path."""
        (self.folder / "bin" / name).write_text(text)
        (self.folder / "bin" / name).chmod(0o755)

    def task(self, name: str, script: str, *, rules: str = "", cache: Path | None = None) -> BuildTask:
        """Return a build that runs *script*."""
        file = self.folder / f"{name}.rules"
        file.write_text(rules)
        return BuildTask(
            name=name,
            kind="wheel",
            rootfs=Path("/"),
            rootfs_name="machine",
            command=("/bin/sh", "-ec", script),
            env=(("PATH", "/build/inputs/bin:/usr/bin:/bin"),),
            inputs=(("bin", self.folder / "bin"), ("rules", file)),
            scratch=self.folder / name / "scratch",
            log=self.folder / name / "log",
            pool=self.pool,
            timeout_s=PATIENCE_S,
            compiler_cache=cache,
        )

    def compiling(self, name: str, count: int, tool: str = "ninja") -> BuildTask:
        """Return a build of *count* compilers through ninja or make."""
        need(tool)
        objects = [f"{name}{number}" for number in range(count)]
        return self.task(name, TOOLS[tool], rules=rules_of(tool, objects))

    def build(self, builder: SandboxBuilder, *tasks: BuildTask) -> list[BuildOutcome]:
        """Run the builds side by side; all must be good."""
        with ThreadPoolExecutor(len(tasks)) as threads:
            outcomes = list(threads.map(builder.build, tasks))
        assert [(outcome.status, outcome.message) for outcome in outcomes] == [("built", "")] * len(
            tasks
        )
        return outcomes


@pytest.fixture
def yard(tmp_path: Path) -> Callable[[int], Yard]:
    return lambda cores: Yard(tmp_path, cores)


def stamps(outcome: BuildOutcome) -> list[tuple[int, int]]:
    """Return begin and end of each compiler of a build."""
    assert outcome.output is not None
    lines = (outcome.output / "stamps").read_text().splitlines()
    return [(int(begun), int(ended)) for _, begun, ended in map(str.split, lines)]


def most_at_once(spans: Iterable[tuple[int, int]]) -> int:
    events = sorted(event for begun, ended in spans for event in ((begun, 1), (ended, -1)))
    running = most = 0
    for _, change in events:
        running += change
        most = max(most, running)
    return most


@pytest.mark.parametrize("tool", TOOLS)
def test_builds_side_by_side_run_no_more_compilers_than_there_are_cores(
    yard: Callable[[int], Yard], sandbox: SandboxBuilder, tool: str
) -> None:
    two = yard(2)
    first, second = two.build(sandbox, two.compiling("a", 4, tool), two.compiling("b", 4, tool))
    assert len(stamps(first)) == len(stamps(second)) == 4
    assert most_at_once([*stamps(first), *stamps(second)]) == 2


def test_a_build_whose_neighbour_has_ended_has_all_cores(
    yard: Callable[[int], Yard], sandbox: SandboxBuilder
) -> None:
    two = yard(2)
    first, second = two.build(sandbox, two.compiling("a", 2), two.compiling("b", 16))
    over = max(ended for _, ended in stamps(first))
    assert most_at_once([*stamps(first), *stamps(second)]) == 2
    assert most_at_once(span for span in stamps(second) if span[0] > over) == 2


def test_a_build_may_start_as_many_jobs_as_the_pool_has(
    yard: Callable[[int], Yard], sandbox: SandboxBuilder
) -> None:
    three = yard(3)
    (outcome,) = three.build(sandbox, three.task("a", "echo $MAX_JOBS $MAKEFLAGS >/build/out/jobs"))
    assert outcome.output is not None
    assert (outcome.output / "jobs").read_text() == "3 -j3\n"


def test_what_a_compiler_runs_is_part_of_its_job(
    yard: Callable[[int], Yard], sandbox: SandboxBuilder
) -> None:
    one = yard(1)
    one.program("nvcc", "#!/bin/sh\ng++ inner\n")
    (outcome,) = one.build(sandbox, one.task("a", "nvcc a.cu"))
    assert len(stamps(outcome)) == 1


def test_compilers_joined_by_a_pipe_do_not_wait_for_one_another_for_ever(
    yard: Callable[[int], Yard], sandbox: SandboxBuilder
) -> None:
    one = yard(1)
    # More than a pipe holds: the writer cannot end before its reader has begun.
    one.program("gcc", "#!/bin/sh\nexec head -c 1000000 /dev/zero\n")
    one.program("cc", "#!/bin/sh\nwc -c >/build/out/read\n")
    (outcome,) = one.build(sandbox, one.task("a", "gcc | cc"))
    assert outcome.output is not None
    assert (outcome.output / "read").read_text() == "1000000\n"


def test_a_compiler_that_is_killed_gives_its_job_back_while_its_build_goes_on(
    yard: Callable[[int], Yard], sandbox: SandboxBuilder
) -> None:
    one = yard(1)
    one.program("gcc", "#!/bin/sh\nsleep 600\n")
    with ThreadPoolExecutor(1) as threads:
        wait = "until [ -e /build/inputs/bin/go ]; do sleep 0.1; done"
        killed = threads.submit(sandbox.build, one.task("a", f"gcc || {wait}"))
        while not (holders := jobs.holders(one.pool)):
            assert not killed.done()
        os.kill(holders[0], signal.SIGKILL)
        one.build(sandbox, one.compiling("b", 1))
        one.program("go", "")
        assert killed.result().status == "output-rejected", "it leaves nothing"
    assert jobs.holders(one.pool) == ()


@pytest.mark.parametrize("place", ["8", "-1"])
def test_a_program_without_a_name_holds_nobody_up(
    yard: Callable[[int], Yard], sandbox: SandboxBuilder, place: str
) -> None:
    need("perl")
    one = yard(1)
    execve = {"x86_64": 59, "aarch64": 221}[platform.machine()]
    (outcome,) = one.build(sandbox, one.task("a", f"perl -e 'syscall({execve}, {place}, 0, 0)'; g++ it"))
    assert len(stamps(outcome)) == 1


def test_a_pool_that_cannot_be_used_holds_nobody_up(
    yard: Callable[[int], Yard], sandbox: SandboxBuilder
) -> None:
    one = yard(1)
    one.pool.folder.write_text("no folder")
    (outcome,) = one.build(sandbox, one.task("a", "g++ it"))
    assert len(stamps(outcome)) == 1


def test_a_job_that_a_stopped_lockbuild_does_not_give_back_holds_nobody_up_for_ever(
    yard: Callable[[int], Yard], sandbox: SandboxBuilder
) -> None:
    one = yard(1)
    with subprocess.Popen(["true"]) as ended:
        # Its lockbuild would close this; it is stopped, as by Ctrl-Z.
        job = jobs.take(one.pool, ended.pid, first=True)
    assert job is not None
    (outcome,) = one.build(sandbox, one.task("a", "g++ it"))
    assert len(stamps(outcome)) == 1
    os.close(job)


def test_a_build_that_takes_too_long_gives_its_jobs_back(
    yard: Callable[[int], Yard], sandbox: SandboxBuilder
) -> None:
    one = yard(1)
    one.program("gcc", "#!/bin/sh\nsleep 600\n")
    slow = replace(one.task("a", "gcc & gcc"), timeout_s=1.0)
    assert sandbox.build(slow).status == "timed-out"
    assert jobs.holders(one.pool) == ()


def saying_its_jobs(task: BuildTask) -> str:
    """Return a program that runs *task* and prints the file `jobs` that it left."""
    return (
        "import pickle, sys; from lockbuild.builders.sandbox import SandboxBuilder;"
        f"print((SandboxBuilder().build(pickle.loads({pickle.dumps(task)!r})).output / 'jobs').read_text())"
    )


def test_where_nobody_can_watch_a_build_keeps_to_its_share(
    yard: Callable[[int], Yard], sandbox: SandboxBuilder
) -> None:
    del sandbox
    program = saying_its_jobs(yard(4).task("a", "echo $MAX_JOBS >/build/out/jobs"))
    # A process that one listener watches can have no other.
    ready, tell_ready = os.pipe()
    go, tell_go = os.pipe()
    watcher = watch.Watcher()
    with subprocess.Popen(
        [
            *(sys.executable, "-I", "-S", watch.__file__, str(tell_ready), str(go), watch.SENDING),
            *(sys.executable, "-c", program),
        ],
        pass_fds=(tell_ready, go),
        stdout=subprocess.PIPE,
    ) as process:
        os.close(tell_ready)
        assert watcher.start(process.pid, ready)
        os.write(tell_go, b"1")
        printed, _ = process.communicate()
    watcher.attempts()
    for descriptor in (ready, go, tell_go):
        os.close(descriptor)
    assert printed.split() == [b"1"]


# Puts on a filter for which pidfd_getfd(2), of one number everywhere, is not permitted: Docker's own is like that.
FORBID = """
import ctypes, struct
steps = ((0x20, 0, 0, 0), (0x15, 0, 1, 438), (0x06, 0, 0, 0x50001), (0x06, 0, 0, 0x7FFF0000))
code = b"".join(struct.pack("=HBBI", *step) for step in steps)
class Filter(ctypes.Structure):
    _fields_ = (("length", ctypes.c_ushort), ("program", ctypes.c_char_p))
library = ctypes.CDLL(None)
assert library.prctl(38, 1, 0, 0, 0) == library.prctl(22, 2, ctypes.byref(Filter(4, code))) == 0
"""


@pytest.mark.parametrize("shared", [True, False])
def test_a_listener_that_nobody_may_take_is_not_missed(
    yard: Callable[[int], Yard], sandbox: SandboxBuilder, *, shared: bool
) -> None:
    del sandbox
    need("perl")
    task = yard(4).task("a", "perl -MPOSIX=getpid -e 'print getpid() > 1' >/build/out/jobs")
    program = FORBID + saying_its_jobs(task if shared else replace(task, pool=None))
    ended = subprocess.run([sys.executable, "-c", program], stdout=subprocess.PIPE, check=False)
    assert ended.stdout.split() == [b"1"]


# ---- the compiler cache ----------------------------------------------------------------------------

SOURCE = "int answer(void) { return 42; }\n"


def cached(yard: Yard, name: str, script: str) -> BuildTask:
    need("ccache", "gcc")
    (yard.folder / "bin/g++").unlink()
    return yard.task(name, script, rules=SOURCE, cache=yard.folder / "ccache")


COMPILE = (
    "cp /build/inputs/rules a.c; gcc -c a.c -o /build/out/a.o;"
    "ccache --print-stats | sed -n 's/^direct_cache_hit/hits/p'"
)


def test_a_cached_object_has_the_same_bytes(
    yard: Callable[[int], Yard], sandbox: SandboxBuilder
) -> None:
    two = yard(2)
    plain = cached(two, "plain", "cp /build/inputs/rules a.c; gcc -c a.c -o /build/out/a.o")
    (uncached,) = two.build(sandbox, replace(plain, compiler_cache=None))
    two.program("g++", COMPILER)
    (first,) = two.build(sandbox, cached(two, "first", COMPILE))
    two.program("g++", COMPILER)
    (second,) = two.build(sandbox, cached(two, "second", COMPILE))
    contents = {(one.output / "a.o").read_bytes() for one in (uncached, first, second) if one.output}
    assert len(contents) == 1
    assert "hits\t0" in first.tail
    assert "hits\t1" in second.tail


def test_a_toolchain_without_ccache_has_no_cache(yard: Callable[[int], Yard], tmp_path: Path) -> None:
    task = replace(cached(yard(1), "a", "env"), rootfs=tmp_path)
    bare = ccache.with_cache(task)
    assert bare == replace(task, compiler_cache=None)
    assert list(ccache.mounts(bare)) == []


def test_pytorch_is_told_of_nvcc_by_way_of_the_cache(
    yard: Callable[[int], Yard], tmp_path: Path
) -> None:
    for name in ("usr/bin/ccache", "opt/cuda/bin/nvcc"):
        (tmp_path / name).parent.mkdir(parents=True)
        (tmp_path / name).touch()
    task = replace(cached(yard(1), "a", "env"), rootfs=tmp_path, env=(("CUDA_HOME", "/opt/cuda"),))
    assert dict(ccache.with_cache(task).env)["PYTORCH_NVCC"] == "/usr/bin/ccache /opt/cuda/bin/nvcc"


def test_debians_nvcc_goes_by_way_of_the_cache(
    yard: Callable[[int], Yard], sandbox: SandboxBuilder
) -> None:
    # Not below /tmp, of which a build has its own. A compiler that ccache takes for nvcc, without CUDA.
    with tempfile.TemporaryDirectory(dir="/var/tmp") as place:
        home = Path(place)
        for folder, text in {
            "bin": f'#!/bin/sh\n\nexec {home}/lib/nvcc "$@"\n',
            "lib": '#!/bin/sh\nexec /usr/bin/gcc -x c "$@"\n',
        }.items():
            (home / folder).mkdir()
            (home / folder / "nvcc").write_text(text)
            (home / folder / "nvcc").chmod(0o755)
        home.chmod(0o755)
        two = yard(2)
        script = COMPILE.replace("gcc -c a.c", f"cp a.c a.cu; {home}/bin/nvcc -c a.cu")
        for name, hits in (("first", "hits\t0"), ("second", "hits\t1")):
            two.program("g++", COMPILER)
            task = cached(two, name, script)
            task = replace(task, env=(*task.env, ("CUDA_HOME", str(home))))
            (outcome,) = two.build(sandbox, task)
            assert hits in outcome.tail


def test_no_nvcc_stands_before_the_toolchains_own_on_the_search_path(
    yard: Callable[[int], Yard], tmp_path: Path
) -> None:
    (tmp_path / "usr/bin").mkdir(parents=True)
    for name in ("ccache", "nvcc", "g++-11", "ld"):
        (tmp_path / "usr/bin" / name).touch()
    arguments = list(ccache.mounts(replace(cached(yard(1), "a", "env"), rootfs=tmp_path)))
    links = [word for word in arguments if word.startswith("/build/.compilers/")]
    assert links == ["/build/.compilers/g++-11"]
