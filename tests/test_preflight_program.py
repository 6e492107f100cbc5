"""The program in every image, run as it is there, by each Python that this machine has, with a driver of our own."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
import time
from dataclasses import dataclass, field
from hashlib import sha256
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from lockbuild.preflight import MISSING
from tests.needs import need

if TYPE_CHECKING:
    from collections.abc import Callable

PROGRAMS = Path(__file__).parents[1] / "templates" / "preflight"
USAGE = 64

# A driver: what the tests set in the environment is what it says.
DRIVER = r"""
#include <stdlib.h>
#include <string.h>
static int number(const char *name) { const char *v = getenv(name); return v ? atoi(v) : 0; }
int cuInit(unsigned flags) { (void)flags; return number("FAKE_INIT"); }
int cuDriverGetVersion(int *version) { *version = number("FAKE_VERSION"); return 0; }
int cuDeviceGetCount(int *count) { *count = number("FAKE_COUNT"); return number("FAKE_COUNT_RESULT"); }
int cuDeviceGet(int *device, int ordinal) { *device = ordinal; return 0; }
int cuDeviceGetName(char *name, int size, int device) {
    (void)device; strncpy(name, "Fake 9000", size); return 0;
}
int cuGetErrorName(int error, const char **text) { *text = "CUDA_ERROR_FAKE"; return error == 77; }
/* FAKE_CAPABILITIES is "8.6 9.0": the one of device N begins at character 4 N. */
int cuDeviceGetAttribute(int *value, int attribute, int device) {
    const char *all = getenv("FAKE_CAPABILITIES") + 4 * device;
    *value = attribute == 75 ? all[0] - '0' : attribute == 76 ? all[2] - '0' : -1;
    return 0;
}
"""


def pythons() -> list[str]:
    """Return this Python and the oldest one that images may have, where it is installed."""
    found = [sys.executable]
    places = [*Path.home().glob(".pyenv/versions/3.8.*/bin/python3.8"), shutil.which("python3.8")]
    found += [str(place) for place in places if place][:1]
    return found


@dataclass(frozen=True, slots=True, kw_only=True)
class Made:
    """What stands for an image: its `/opt`, and a folder for what is mounted."""

    opt: Path
    data: Path
    env: dict[str, str] = field(default_factory=dict)

    def write(self, **parts: Any) -> None:
        """Write the stack's data; what is left out asks for nothing."""
        gpu: dict[str, Any] = {"mode": "none", "cuda": None, "architectures": []}
        whole = {"name": "small", "gpu": gpu, "mounts": [], "assets": [], "imports": [], "checks": []}
        text = json.dumps(whole | parts, ensure_ascii=False)
        (self.opt / "lockbuild" / "preflight.json").write_text(text, encoding="utf-8")

    def command(self, *words: str) -> list[str]:
        return [str(self.opt / "lockbuild" / "entrypoint"), *words]

    def run(self, *words: str, **env: str) -> subprocess.CompletedProcess[str]:
        """Run the entry point, as an image would."""
        return subprocess.run(
            self.command(*words),
            env={"PATH": os.environ["PATH"], **self.env, **env},
            capture_output=True,
            text=True,
            encoding="utf-8",
            check=False,
            timeout=60,
        )

    def findings(self, *asks: str, **env: str) -> list[tuple[str, str]]:
        """Return state and line of everything that the preflight found."""
        ended = self.run("--preflight-only", "--preflight-json", *asks, **env)
        document = json.loads(ended.stdout)
        faulty = any(found["state"] == "fault" for found in document["findings"])
        assert (ended.returncode, document["ok"]) == (MISSING if faulty else 0, not faulty)
        return [
            (f["state"], f"{f['subject']}: {f['message']} -> {f['flag'] or f['mend']}")
            for f in document["findings"]
        ]

    def fault(self, *asks: str, **env: str) -> str:
        """Return the only fault."""
        (line,) = [line for state, line in self.findings(*asks, **env) if state == "fault"]
        return line


@pytest.fixture(params=pythons(), ids=lambda python: Path(python).resolve().name)
def made(request: pytest.FixtureRequest, tmp_path: Path) -> Made:
    need("sh")
    shutil.copytree(PROGRAMS, tmp_path / "opt/lockbuild", ignore=shutil.ignore_patterns("__pycache__"))
    (tmp_path / "opt/lockbuild/entrypoint").chmod(0o755)
    (tmp_path / "opt/venv/bin").mkdir(parents=True)
    (tmp_path / "opt/venv/bin/python").symlink_to(request.param)
    (tmp_path / "data").mkdir()
    image = Made(opt=tmp_path / "opt", data=tmp_path / "data")
    image.write()
    return image


@pytest.fixture(scope="session")
def driver(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a folder with a driver that says what the environment tells it to."""
    need("gcc")
    folder = tmp_path_factory.mktemp("driver")
    (folder / "cuda.c").write_text(DRIVER, encoding="utf-8")
    subprocess.run(
        ["gcc", "-shared", "-fPIC", "-o", folder / "libcuda.so.1", folder / "cuda.c"],
        check=True,
        timeout=60,
    )
    return folder


@pytest.fixture
def gpu(made: Made, driver: Path) -> Callable[..., Made]:
    """Return a function that gives the image GPUs."""

    def give(
        *capabilities: str,
        version: int = 12010,
        cuda: str | None = "12.1",
        code: tuple[str, ...] = (),
        mode: str = "required",
    ) -> Made:
        made.write(gpu={"mode": mode, "cuda": cuda, "architectures": list(code)})
        made.env.update(
            LD_LIBRARY_PATH=str(driver),
            FAKE_COUNT=str(len(capabilities)),
            FAKE_CAPABILITIES=" ".join(capabilities),
            FAKE_VERSION=str(version),
        )
        return made

    return give


# ---- the entry point ------------------------------------------------------------------------------

WORDS = "import json, sys; print(json.dumps(sys.argv[1:]))"


def test_command_gets_its_words_as_they_are(made: Made) -> None:
    words = ["a  b", "", "*", "$HOME", "it's", "--preflight-only", "--wrap=1", "new\nline", "-n"]
    ended = made.run(sys.executable, "-c", WORDS, *words)
    assert (ended.returncode, json.loads(ended.stdout), ended.stderr) == (0, words, "")


def test_options_stand_behind_the_own_entry_point_of_the_stack(made: Made) -> None:
    made.write(imports=["json"])
    own = (sys.executable, "-c", WORDS)
    ended = made.run(
        "--wrap=3", *own, "--preflight-imports", "--preflight-verbose", "a  b", "--preflight-only"
    )
    assert json.loads(ended.stdout) == ["a  b", "--preflight-only"]
    assert ended.stderr == "ok    import json: can be imported\n"


def test_status_of_the_command_is_that_of_the_container(made: Made) -> None:
    assert made.run("sh", "-c", "exit 7").returncode == 7


def test_command_takes_the_place_of_the_entry_point(made: Made) -> None:
    with subprocess.Popen(
        made.command("/usr/bin/env", "sh", "-c", "echo $$; kill -9 $$"),
        stdout=subprocess.PIPE,
        text=True,
    ) as process:
        said, _ = process.communicate(timeout=60)
    assert (int(said), process.returncode) == (process.pid, -signal.SIGKILL)


def test_command_finds_signals_as_they_were(made: Made) -> None:
    # Python ignores SIGPIPE and what it starts inherits that: `yes | head` would not end.
    ended = made.run("sh", "-c", "grep SigIgn /proc/self/status")
    before = subprocess.run(
        ["sh", "-c", "grep SigIgn /proc/self/status"], capture_output=True, text=True, check=True
    )
    assert ended.stdout == before.stdout


def test_command_finds_the_variables_as_they_were(made: Made) -> None:
    program = "import json, os; print(json.dumps(dict(os.environ)))"
    given = {"lower": "x", "word": "y", "LC_ALL": "C"}
    ended = made.run(sys.executable, "-Ic", program, **given)
    added = json.loads(ended.stdout).keys() - {"PATH", *given}
    # The shell's own, and what the Python that prints them adds to its environment.
    assert added <= {"PWD", "OLDPWD", "SHLVL", "_", "LC_CTYPE"}


def test_command_that_is_not_there_ends_as_with_docker(made: Made) -> None:
    ended = made.run("no-such-program")
    assert ended.returncode == 127
    assert "no-such-program" in ended.stderr


def test_standard_input_is_left_to_the_command(made: Made) -> None:
    made.write(imports=["json"])
    ended = subprocess.run(
        made.command("--preflight-imports", "cat"),
        input="for cat\n",
        capture_output=True,
        text=True,
        check=True,
        timeout=60,
    )
    assert ended.stdout == "for cat\n"


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_signal_while_it_checks_ends_it(made: Made, number: signal.Signals, tmp_path: Path) -> None:
    slow = f"import pathlib, time; pathlib.Path({str(tmp_path / 'began')!r}).touch(); time.sleep(300)"
    made.write(checks=[slow])
    with subprocess.Popen(
        made.command("--preflight-only"), stderr=subprocess.PIPE, text=True, start_new_session=True
    ) as process:
        deadline = time.monotonic() + 60
        while not (tmp_path / "began").exists():
            assert time.monotonic() < deadline
            time.sleep(0.02)
        process.send_signal(number)
        _, said = process.communicate(timeout=60)
    assert (process.returncode, said) == (128 + number, "")


def test_variable_asks_as_the_options_do(made: Made) -> None:
    made.write(imports=["not_there"])
    assert made.run("true").returncode == 0
    assert made.run("true", LOCKBUILD_PREFLIGHT="imports").returncode == MISSING
    assert made.run("echo", "hi", LOCKBUILD_PREFLIGHT="skip,imports").stdout == "hi\n"
    assert "import not_there" in made.run("echo", "hi", LOCKBUILD_PREFLIGHT="only").stderr


def test_only_runs_no_command(made: Made) -> None:
    ended = made.run("echo", "hi", LOCKBUILD_PREFLIGHT="only")
    assert (ended.returncode, ended.stdout) == (0, "")


@pytest.mark.parametrize(
    ("words", "env"),
    [(["--preflight-onyl", "true"], {}), (["true"], {"LOCKBUILD_PREFLIGHT": "only full"})],
)
def test_unknown_option_is_refused_with_those_that_there_are(
    made: Made, words: list[str], env: dict[str, str]
) -> None:
    ended = made.run(*words, **env)
    assert (ended.returncode, ended.stdout) == (USAGE, "")
    assert "unknown: on" in ended.stderr
    assert "--preflight-only" in ended.stderr


def test_python_that_is_not_there_is_named(made: Made) -> None:
    (made.opt / "venv/bin/python").unlink()
    ended = made.run("true")
    assert ended.returncode == MISSING
    assert "Python" in ended.stderr


def test_nothing_is_written(made: Made) -> None:
    made.write(imports=["json"], checks=["pass"])
    before = sorted(made.opt.rglob("*"))
    assert made.run("--preflight-full", "true").returncode == 0
    assert sorted(made.opt.rglob("*")) == before


# ---- what it says -----------------------------------------------------------------------------------


def test_all_faults_are_told_at_once_with_one_command(made: Made) -> None:
    mount = {
        "path": f"{made.data}/smpl",
        "holds": ["a.pkl"],
        "why": "it is theirs: Ünï",
        "optional": False,
    }
    made.write(
        gpu={"mode": "required", "cuda": "12.1", "architectures": []},
        mounts=[mount, mount | {"path": f"{made.data}/other", "holds": [], "why": ""}],
    )
    for locale in ("C.UTF-8", "C", "POSIX"):
        ended = made.run("echo", "hi", LD_LIBRARY_PATH="", LC_ALL=locale)
        assert (ended.returncode, ended.stdout) == (MISSING, "")
        first, *lines = ended.stderr.splitlines()
        assert first == "error: preflight of `small`: 3 faults; the command was not run"
        assert [line.strip() for line in lines if "mend" in line] == [
            "mend: --gpus all",
            f"mend: -v /path/to/smpl:{made.data}/smpl",
            f"mend: -v /path/to/other:{made.data}/other",
        ]
        flags = f"-v /path/to/smpl:{made.data}/smpl -v /path/to/other:{made.data}/other"
        assert lines[-1].startswith(f"hint: docker run --gpus all {flags} ")


def test_nothing_is_said_when_all_is_there(made: Made) -> None:
    ended = made.run("true")
    assert (ended.returncode, ended.stdout, ended.stderr) == (0, "", "")


# ---- GPU --------------------------------------------------------------------------------------------


def test_absent_driver_is_mended_by_the_flag(made: Made) -> None:
    made.write(gpu={"mode": "required", "cuda": "12.1", "architectures": []})
    fault = made.fault(LD_LIBRARY_PATH="")
    assert "libcuda.so.1" in fault
    assert fault.endswith("-> --gpus all")


def test_driver_without_gpus_is_mended_by_the_flag(gpu: Callable[..., Made]) -> None:
    assert (
        gpu().fault() == ": none in this container: the driver is there, but shows no GPU -> --gpus all"
    )


@pytest.mark.parametrize("result", ["100", "34"])
def test_driver_that_finds_no_gpu_is_mended_by_the_flag(gpu: Callable[..., Made], result: str) -> None:
    assert gpu("8.6").fault(FAKE_INIT=result).endswith("shows no GPU -> --gpus all")


def test_hidden_gpus_are_told_as_such(gpu: Callable[..., Made]) -> None:
    fault = gpu("8.6").fault(FAKE_INIT="100", CUDA_VISIBLE_DEVICES="7")
    assert (
        fault
        == ": none can be seen: CUDA_VISIBLE_DEVICES is '7' -> --gpus all -e CUDA_VISIBLE_DEVICES=0"
    )


@pytest.mark.parametrize("mode", ["required", "optional"])
def test_driver_that_does_not_start_is_told_with_its_reason(gpu: Callable[..., Made], mode: str) -> None:
    fault = gpu("8.6", mode=mode).fault(FAKE_INIT="803")
    assert "cuInit returned 803 (CUDA_ERROR_FAKE) -> restart the host" in fault


def test_driver_that_fails_later_is_told(gpu: Callable[..., Made]) -> None:
    assert "cuDeviceGetCount returned 77 -> see" in gpu("8.6").fault(FAKE_COUNT_RESULT="77")


def test_optional_gpu_may_be_absent(made: Made) -> None:
    made.write(gpu={"mode": "optional", "cuda": "12.1", "architectures": []})
    ((state, line),) = made.findings(LD_LIBRARY_PATH="")
    assert (state, line[-10:]) == ("note", "--gpus all")


def test_gpu_is_not_looked_for_where_none_is_wanted(gpu: Callable[..., Made]) -> None:
    assert gpu("8.6", mode="none").findings(FAKE_INIT="999") == []


@pytest.mark.parametrize(
    ("cuda", "version", "code", "fits"),
    [
        ("12.1", 12010, (), True),
        ("12.4", 12000, (), True),  # same major version
        ("12.4", 13000, (), True),  # newer
        ("12.1", 11080, (), False),
        ("11.8", 11000, (), True),
        ("10.2", 10010, (), False),  # before 11, every release needs its own driver
        ("10.2", 10020, (), True),
        ("12.4", 12020, ("8.0+PTX",), True),  # machine code for 8.6
        ("12.4", 12020, ("7.5+PTX",), False),  # PTX needs a driver that knows it
        ("12.4", 12040, ("7.5+PTX",), True),
        (None, 9000, (), True),
    ],
)
def test_driver_is_new_enough(
    gpu: Callable[..., Made], cuda: str | None, version: int, code: tuple[str, ...], *, fits: bool
) -> None:
    found = gpu("8.6", version=version, cuda=cuda, code=code).findings()
    (driver,) = [(state, line) for state, line in found if line.startswith("driver")]
    assert (driver[0] == "ok") == fits
    assert fits or driver[1].endswith("-> update the NVIDIA driver on the host")


@pytest.mark.parametrize(
    ("capability", "code", "fits"),
    [
        ("8.6", ("8.6",), True),
        ("8.9", ("8.6",), True),
        ("8.0", ("8.6",), False),
        ("9.0", ("8.6",), False),
        ("9.0", ("8.6+PTX",), True),
        ("8.0", ("8.6+PTX",), False),
        ("7.5", ("8.6+PTX", "7.0"), True),
        ("9.0", ("9.0a",), True),
        ("9.2", ("9.0a+PTX",), False),
        ("6.1", (), True),
    ],
)
def test_code_for_the_gpu_is_there(
    gpu: Callable[..., Made], capability: str, code: tuple[str, ...], *, fits: bool
) -> None:
    found = gpu(capability, code=code).findings()
    states = [state for state, line in found if line.startswith("0 (Fake 9000")]
    assert states == ["ok" if fits else "fault"]


def test_gpu_without_code_is_told_what_the_image_holds(gpu: Callable[..., Made]) -> None:
    assert gpu("9.0", code=("8.0", "8.6")).fault() == (
        "0 (Fake 9000, 9.0): the image holds no code for it, only for compute capability 8.0, 8.6"
        " -> add `9.0` to `target.cuda-architectures` of the stack and build the image again"
    )


@pytest.mark.parametrize(
    ("visible", "chosen"), [({}, "0,2"), ({"CUDA_VISIBLE_DEVICES": "3,1,GPU-x"}, "3,GPU-x")]
)
def test_gpu_that_does_not_fit_can_be_hidden(
    gpu: Callable[..., Made], visible: dict[str, str], chosen: str
) -> None:
    fault = gpu("8.6", "6.1", "8.9", code=("8.6",)).fault(**visible)
    assert fault.endswith(f"-> -e CUDA_VISIBLE_DEVICES={chosen}")


# ---- mounts -----------------------------------------------------------------------------------------


def mount(made: Made, *holds: str, optional: bool = False) -> Path:
    path = made.data / "smpl"
    made.write(mounts=[{"path": str(path), "holds": list(holds), "why": "", "optional": optional}])
    return path


def fill(folder: Path, **files: str) -> None:
    for name, text in files.items():
        file = folder / name.replace("__", "/")
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(text, encoding="utf-8")


@pytest.mark.parametrize("pattern", ["a_pkl", "*_pkl", "deep/b", "**/b", "deep"])
def test_mount_that_holds_what_it_must_is_there(made: Made, pattern: str) -> None:
    fill(mount(made, pattern), a_pkl="x", deep__b="x")
    assert [state for state, _ in made.findings()] == ["ok"]


def test_missing_mount_is_told_with_what_it_must_hold(made: Made) -> None:
    path = mount(made, "a.pkl", "b.pkl")
    assert (
        made.fault() == f"{path}: not mounted; it must hold `a.pkl`, `b.pkl` -> -v /path/to/smpl:{path}"
    )


def test_empty_mount_is_told_with_the_likely_reason(made: Made) -> None:
    mount(made).mkdir()
    assert "empty folder; docker makes one" in made.fault()


def test_mount_that_lacks_files_names_them(made: Made) -> None:
    path = mount(made, "a", "b", "c")
    fill(path, a="x", c="")
    assert (
        made.fault()
        == f"{path}: holds no `b`, `c`; it must hold `a`, `b`, `c` -> -v /path/to/smpl:{path}"
    )


def test_mount_of_the_folder_above_is_seen(made: Made) -> None:
    fill(mount(made, "a"), inner__a="x")
    assert "holds no `a`, but its folder `inner` does: mount that one" in made.fault()


def test_mounted_file_is_enough_where_nothing_is_asked_of_it(made: Made) -> None:
    path = mount(made)
    path.write_text("x", encoding="utf-8")
    assert [state for state, _ in made.findings()] == ["ok"]


def test_empty_file_and_file_for_folder_are_faults(made: Made) -> None:
    path = mount(made)
    path.write_text("", encoding="utf-8")
    assert "is an empty file" in made.fault()
    assert mount(made, "a") == path
    assert "is a file, not a folder" in made.fault()


def test_mount_that_the_user_may_not_read_is_told_with_the_user(made: Made) -> None:
    path = mount(made, "a")
    fill(path, a="x")
    path.chmod(0)
    as_others = []
    if os.geteuid() == 0:
        need("setpriv")
        as_others = ["setpriv", "--bounding-set=-dac_override,-dac_read_search"]
    ended = subprocess.run(
        [*as_others, *made.command("true")], capture_output=True, text=True, check=False, timeout=60
    )
    path.chmod(0o755)
    assert f"{path}: cannot be read by user {os.geteuid()}" in ended.stderr
    assert 'mend: `--user "$(id -u):$(id -g)"`, or' in ended.stderr


def test_optional_mount_may_be_absent(made: Made) -> None:
    mount(made, "a", optional=True)
    assert [state for state, _ in made.findings()] == ["note"]
    assert made.run("true").stderr == ""


def test_empty_folder_of_the_image_is_no_optional_mount(made: Made) -> None:
    mount(made, "a", optional=True).mkdir()
    assert [state for state, _ in made.findings()] == ["note"]


def test_optional_mount_that_is_half_there_is_a_fault(made: Made) -> None:
    fill(mount(made, "a", optional=True), b="x")
    assert "holds no `a`" in made.fault()


# ---- bundled files ----------------------------------------------------------------------------------


def asset(made: Made, content: bytes = b"weights") -> Path:
    path = made.data / "weights.pth"
    path.write_bytes(content)
    digest = sha256(b"weights").hexdigest()
    made.write(assets=[{"path": str(path), "size": 7, "sha256": digest}])
    return path


def test_bundled_file_is_there(made: Made) -> None:
    asset(made)
    assert [state for state, _ in made.findings("--preflight-full")] == ["ok"]


def test_missing_bundled_file_is_told(made: Made) -> None:
    asset(made).unlink()
    assert "missing -> make the container anew" in made.fault()


def test_bundled_file_under_a_mount_is_told_with_the_mount(made: Made) -> None:
    # The kernel's own mounts are there in every container.
    made.write(assets=[{"path": "/proc/weights.pth", "size": 7, "sha256": "0" * 64}])
    assert (
        made.fault()
        == "/proc/weights.pth: missing -> leave out `-v …:/proc`, which covers what the image holds there"
    )


def test_bundled_file_of_another_size_is_told(made: Made) -> None:
    asset(made, b"cut")
    assert "has 3 bytes, expected 7" in made.fault()


def test_bundled_file_of_other_bytes_is_told_on_request(made: Made) -> None:
    asset(made, b"WEIGHTS")
    assert made.run("true").returncode == 0
    assert f"has sha256 {sha256(b'WEIGHTS').hexdigest()}, expected" in made.fault("--preflight-full")


# ---- imports and checks -----------------------------------------------------------------------------


def test_every_module_that_cannot_be_imported_is_named(made: Made) -> None:
    fill(
        made.data,
        **{
            "noisy.py": "import os, sys; print('noise'); os.write(1, b'more\\n'); sys.exit(3)",
            "killed.py": "import os, sys; print('last words', file=sys.stderr, flush=True); os.kill(os.getpid(), 11)",
            "fine.py": "print('fine')",
        },
    )
    made.write(imports=["absent", "noisy", "killed", "fine"])
    found = dict(line.split(": ", 1) for _, line in made.findings(PYTHONPATH=str(made.data)))
    assert found["absent"].startswith("ModuleNotFoundError: No module named 'absent' -> ")
    assert found["noisy"].startswith("SystemExit: 3")
    assert found["killed"].startswith("ended Python with signal SIGSEGV last words")
    assert found["fine"].startswith("can be imported")


def test_extensions_are_imported_after_torch(made: Made) -> None:
    wants = "import sys; assert 'torch' in sys.modules"
    killed = "import os; os.kill(os.getpid(), 11)"
    fill(made.data, **{"_early.py": wants, "killed.py": killed, "late.py": wants, "torch.py": ""})
    made.write(imports=["_early", "killed", "late", "torch"])
    lines = [line.split(" -> ")[0] for _, line in made.findings(PYTHONPATH=str(made.data))]
    assert lines == [
        "torch: can be imported",
        "_early: can be imported",
        "killed: ended Python with signal SIGSEGV",
        "late: can be imported",
    ]


def test_check_that_fails_is_told_with_its_last_line(made: Made) -> None:
    made.write(
        checks=["assert True", "import sys\nraise ValueError('no ops')", "import os; os._exit(4)"]
    )
    lines = [line for _, line in made.findings()]
    assert lines[0] == "1: assert True -> "
    assert lines[1].startswith("2: ValueError: no ops -> ")
    assert lines[2].startswith("3: ended with exit code 4 -> ")
