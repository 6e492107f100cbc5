"""The preflight of an image: says all that is missing, and how it is mended, before the command runs.

Reads `preflight.json` beside it, which the stack renders. Needs Python 3.8 and its standard library; asks
no network, writes no file. Ends with 0, or with 78 (EX_CONFIG of sysexits.h) when something is missing.
"""

from __future__ import annotations

import json
import os
import signal
import sys

# Run before every command: what only some runs need is imported where it is used.
TYPE_CHECKING = False
if TYPE_CHECKING:
    import ctypes
    from typing import Any, Iterator, NoReturn

MISSING, USAGE, INTERRUPTED, TERMINATED = 78, 64, 130, 143
ASKS = {
    "only": "run everything but the hashes and no command",
    "imports": "also import the stack's modules",
    "full": "also import the modules, run the stack's checks and hash the bundled files",
    "verbose": "say what is there, too",
    "json": "say it as JSON on standard output",
    "skip": "check nothing",
}
LINE = 300


class Finding:
    """One thing that was looked at: there (`ok`), missing and not needed (`note`), or missing (`fault`)."""

    def __init__(  # noqa: PLR0913 - each says another thing
        self, state: str, check: str, subject: str, message: str, *, flag: str = "", mend: str = ""
    ) -> None:
        self.state = state
        self.check = check
        self.subject = subject
        self.message = message
        # What `docker run` wants; where no flag mends it, `mend` says what does.
        self.flag = flag
        self.mend = mend

    def line(self) -> str:
        """Return what was found, on one line."""
        return f"{' '.join(filter(None, (self.check, self.subject)))}: {self.message}"


def main() -> int:
    """Check what the first argument asks for, say what was found, and return the exit status."""
    asked = {word for word in ",".join(sys.argv[1:]).split(",") if word}
    unknown = sorted(asked - ASKS.keys())
    if unknown:
        say(f"error: preflight: unknown: {', '.join(unknown)}")
        for ask, meaning in ASKS.items():
            say(f"  --preflight-{ask:8} {meaning}")
        return USAGE
    if hasattr(sys.stdout, "reconfigure"):
        # Whatever the locale, a message is better than an error about its letters.
        sys.stdout.reconfigure(errors="backslashreplace")
    folder = os.path.dirname(os.path.abspath(__file__))
    with open(os.path.join(folder, "preflight.json"), encoding="utf-8") as file:
        stack = json.load(file)
    findings = list(examine(stack, asked))
    if "json" in asked:
        sys.stdout.write(as_json(stack["name"], findings))
    else:
        report(stack["name"], findings, asked)
    return MISSING if any(found.state == "fault" for found in findings) else 0


def examine(stack: dict[str, Any], asked: set[str]) -> Iterator[Finding]:
    """Look at everything that is asked for, the cheap things first."""
    yield from gpu(stack["gpu"])
    for mount in stack["mounts"]:
        yield look_at_mount(mount)
    for asset in stack["assets"]:
        yield look_at_asset(asset, hashed="full" in asked)
    if asked & {"only", "imports", "full"}:
        yield from imports(stack["imports"])
    if asked & {"only", "full"}:
        yield from checks(stack["checks"])


# ---- saying it ------------------------------------------------------------------------------------


def say(line: str) -> None:
    """Write *line* where it is not taken for the command's output."""
    sys.stderr.write(f"{line}\n")


def report(name: str, findings: list[Finding], asked: set[str]) -> None:
    """Say what is missing and, where that is wanted, what is there."""
    if asked & {"only", "verbose"}:
        # Where no command follows, this is the output.
        output = sys.stdout if "only" in asked else sys.stderr
        for found in findings:
            if found.state != "fault":
                output.write(f"{found.state:5} {found.line()}\n")
        output.flush()
    faults = [found for found in findings if found.state == "fault"]
    if not faults:
        return
    count = "1 fault" if len(faults) == 1 else f"{len(faults)} faults"
    say(
        f"error: preflight of `{name}`: {count}"
        + ("" if "only" in asked else "; the command was not run")
    )
    for fault in faults:
        say(f"  {fault.line()}")
        say(f"    mend: {fault.flag or fault.mend}")
    flags = " ".join(dict.fromkeys(fault.flag for fault in faults if fault.flag))
    if flags:
        say(f"hint: docker run {flags} …")


def as_json(name: str, findings: list[Finding]) -> str:
    """Return all findings for programs."""
    ok = all(found.state != "fault" for found in findings)
    document = {"name": name, "ok": ok, "findings": [vars(found) for found in findings]}
    return json.dumps(document, indent=2) + "\n"


def shortened(text: str) -> str:
    """Return *text* on one line that can be read."""
    words = " ".join(text.split())
    return words if len(words) <= LINE else f"{words[: LINE - 1]}…"


# ---- GPU ------------------------------------------------------------------------------------------

# cuda.h: the results of cuInit that people meet, and what to do about each.
NO_DEVICE = {100, 34}
FAILURES = {
    802: "start the fabric manager on the host: `systemctl start nvidia-fabricmanager`",
    803: "restart the host: its driver was updated, but the old kernel module is still loaded",
    804: "this GPU takes no newer libcuda than its driver's: update the driver on the host",
    999: "see whether `nvidia-smi` works on the host; `nvidia-modprobe -u -c 0` there often helps",
}
CAPABILITY_MAJOR, CAPABILITY_MINOR = 75, 76


class Device:
    """A GPU that the driver shows."""

    def __init__(self, index: int, name: str, capability: tuple[int, int]) -> None:
        self.index = index
        self.name = name
        self.capability = capability


def gpu(wanted: dict[str, Any]) -> Iterator[Finding]:
    """Look for a GPU, and see whether driver and devices fit the code that the image holds."""
    if wanted["mode"] == "none":
        return
    try:
        driver, devices = ask_driver()
    except Absent as absent:
        state = "fault" if wanted["mode"] == "required" else "note"
        yield Finding(state, "gpu", "", str(absent), flag=absent.flag)
        return
    except Broken as broken:
        yield Finding("fault", "gpu", "", str(broken), mend=broken.mend)
        return
    yield look_at_driver(driver, devices, wanted)
    yield from look_at_devices(devices, wanted["architectures"])


class Absent(Exception):
    """The container has no GPU."""

    flag = "--gpus all"


class Broken(Exception):
    """The container has a GPU that does not work."""

    def __init__(self, message: str, mend: str) -> None:
        super().__init__(message)
        self.mend = mend


def ask_driver() -> tuple[int, list[Device]]:
    """Return the CUDA version that the driver is made for, as it counts them, and the GPUs it shows."""
    import ctypes  # noqa: PLC0415 - most runs need no GPU

    try:
        cuda = ctypes.CDLL("libcuda.so.1")
    except OSError as error:
        raise Absent(
            f"none in this container: the driver's library cannot be loaded ({error})"
        ) from error
    result = cuda.cuInit(0)
    if result in NO_DEVICE:
        raise no_device()
    if result:
        mend = FAILURES.get(result, "see whether `nvidia-smi` works on the host")
        raise Broken(f"the driver does not start: cuInit returned {result}{name_of(cuda, result)}", mend)
    count = number(cuda, "cuDeviceGetCount")
    if not count:
        raise no_device()
    return number(cuda, "cuDriverGetVersion"), [device(cuda, index) for index in range(count)]


def no_device() -> Absent:
    """Return why the driver shows no GPU."""
    visible = os.environ.get("CUDA_VISIBLE_DEVICES")
    if visible is None:
        return Absent("none in this container: the driver is there, but shows no GPU")
    absent = Absent(f"none can be seen: CUDA_VISIBLE_DEVICES is {visible!r}")
    absent.flag = "--gpus all -e CUDA_VISIBLE_DEVICES=0"
    return absent


def name_of(cuda: ctypes.CDLL, result: int) -> str:
    """Return the driver's own name of a result, in brackets."""
    import ctypes  # noqa: PLC0415 - as above

    text = ctypes.c_char_p()
    ask = getattr(cuda, "cuGetErrorName", None)
    if ask is None or ask(result, ctypes.byref(text)) or not text.value:
        return ""
    return f" ({text.value.decode(errors='replace')})"


def number(cuda: ctypes.CDLL, function: str, *arguments: int) -> int:
    """Return the number that a function of the driver writes through its first argument."""
    import ctypes  # noqa: PLC0415 - as above

    value = ctypes.c_int(0)
    result = getattr(cuda, function)(ctypes.byref(value), *arguments)
    if result:
        raise Broken(
            f"the driver does not work: {function} returned {result}{name_of(cuda, result)}",
            "see whether `nvidia-smi` works on the host",
        )
    return value.value


def device(cuda: ctypes.CDLL, index: int) -> Device:
    """Return what the driver says of one GPU."""
    import ctypes  # noqa: PLC0415 - as above

    handle = number(cuda, "cuDeviceGet", index)
    capability = (
        number(cuda, "cuDeviceGetAttribute", CAPABILITY_MAJOR, handle),
        number(cuda, "cuDeviceGetAttribute", CAPABILITY_MINOR, handle),
    )
    name = ctypes.create_string_buffer(128)
    known = cuda.cuDeviceGetName(name, len(name), handle) == 0
    return Device(index, name.value.decode(errors="replace") if known else "GPU", capability)


def look_at_driver(driver: int, devices: list[Device], wanted: dict[str, Any]) -> Finding:
    """See whether the driver is new enough for the CUDA that the image's programs are made with.

    Since CUDA 11 a driver for any release of the same major version will do, and a newer one always:
    https://docs.nvidia.com/deploy/cuda-compatibility/minor-version-compatibility.html. That does not
    hold where the driver must compile PTX: it reads none that a newer CUDA has written.
    """
    supports = f"the driver supports CUDA {driver // 1000}.{driver % 1000 // 10}"
    if not wanted["cuda"]:
        return Finding("ok", "gpu", "driver", supports)
    major, minor = (int(part) for part in wanted["cuda"].split("."))
    architectures = wanted["architectures"]
    by_ptx = [found.name for found in devices if covered(found.capability, architectures) == "PTX"]
    exact = major < 11 or bool(by_ptx)  # noqa: PLR2004 - see above
    least = (major, minor if exact else 0)
    if (driver // 1000, driver % 1000 // 10) >= least:
        return Finding("ok", "gpu", "driver", f"{supports}, the image has CUDA {major}.{minor}")
    why = f", because it must compile the image's PTX for {by_ptx[0]}" if by_ptx else ""
    return Finding(
        "fault",
        "gpu",
        "driver",
        f"{supports}, the image has CUDA {major}.{minor} and needs one for {least[0]}.{least[1]} or later{why}",
        mend="update the NVIDIA driver on the host",
    )


def look_at_devices(devices: list[Device], architectures: list[str]) -> Iterator[Finding]:
    """See which GPUs the image holds code for."""
    fitting = [
        found for found in devices if not architectures or covered(found.capability, architectures)
    ]
    for found in devices:
        subject = f"{found.index} ({found.name}, {found.capability[0]}.{found.capability[1]})"
        if found in fitting:
            yield Finding("ok", "gpu", subject, "the image holds code for it")
            continue
        shipped = ", ".join(architectures)
        message = f"the image holds no code for it, only for compute capability {shipped}"
        if fitting:
            yield Finding("fault", "gpu", subject, message, flag=visible_flag(fitting))
            continue
        capability = f"{found.capability[0]}.{found.capability[1]}"
        mend = (
            f"add `{capability}` to `target.cuda-architectures` of the stack and build the image again"
        )
        yield Finding("fault", "gpu", subject, message, mend=mend)


def visible_flag(fitting: list[Device]) -> str:
    """Return the flag that shows programs only those GPUs that fit."""
    now = os.environ.get("CUDA_VISIBLE_DEVICES")
    names = now.split(",") if now else []
    chosen = [names[one.index] if one.index < len(names) else str(one.index) for one in fitting]
    return f"-e CUDA_VISIBLE_DEVICES={','.join(chosen)}"


def covered(capability: tuple[int, int], architectures: list[str]) -> str:
    """Return whether one of *architectures* runs on a GPU as machine code (`SASS`) or as `PTX`; else nothing.

    Machine code runs on its major version from its minor version up, PTX on whatever is newer; code for
    features of one architecture (`9.0a`) runs there and nowhere else:
    https://docs.nvidia.com/cuda/blackwell-compatibility-guide/.
    """
    by_ptx = ""
    for text in architectures:
        plain, _, ptx = text.partition("+")
        major, minor = (int(part) for part in plain.rstrip("a").split("."))
        if plain.endswith("a"):
            if capability == (major, minor):
                return "SASS"
        elif capability[0] == major and capability[1] >= minor:
            return "SASS"
        elif ptx and capability >= (major, minor):
            by_ptx = "PTX"
    return by_ptx


# ---- mounts and bundled files ---------------------------------------------------------------------


def look_at_mount(mount: dict[str, Any]) -> Finding:
    """See whether a mount is there and holds what it must."""
    path = mount["path"]
    source = f"/path/to/{os.path.basename(path)}"
    flag = f"-v {source}:{path}"
    fault = fault_of_mount(path, mount["holds"])
    if not fault:
        return Finding("ok", "mount", path, "is there")
    message, mend = fault
    state = "fault"
    if mount["optional"] and not half_there(path):
        state, message = "note", "not mounted, which is optional"
    wanted = ", ".join(f"`{pattern}`" for pattern in mount["holds"])
    told = f"; it must hold {wanted}" if wanted and wanted not in message else ""
    why = f" ({mount['why']})" if mount["why"] else ""
    return Finding(state, "mount", path, f"{message}{told}{why}", flag="" if mend else flag, mend=mend)


def half_there(path: str) -> bool:
    """Whether somebody mounted something: an empty folder may be the image's own."""
    try:
        filled = not os.path.isdir(path) or bool(os.listdir(path))
    except OSError:
        return True
    return path in mount_points() or (os.path.lexists(path) and filled)


def fault_of_mount(path: str, patterns: list[str]) -> tuple[str, str] | None:
    """Return what is wrong with a mount, and what mends it where another folder would not."""
    try:
        if os.path.isdir(path):
            message = fault_of_folder(path, os.listdir(path), patterns)
        else:
            message = fault_of_file(path, patterns)
    except FileNotFoundError:
        message = "not mounted"
    except PermissionError:
        mend = '`--user "$(id -u):$(id -g)"`, or `chmod -R a+rX` on the host'
        return f"cannot be read by user {os.getuid()}", mend
    except OSError as error:
        return f"cannot be read: {error.strerror}", "mount it again"
    return (message, "") if message else None


def fault_of_file(path: str, patterns: list[str]) -> str:
    """Return what is wrong with a mounted file; nothing when all is well."""
    with open(path, "rb") as file:
        empty = not file.read(1)
    if patterns:
        return "is a file, not a folder"
    return "is an empty file" if empty else ""


def fault_of_folder(path: str, entries: list[str], patterns: list[str]) -> str:
    """Return what is wrong with a mounted folder; nothing when all is well."""
    if not entries:
        return "is an empty folder; docker makes one where the path before the colon does not exist"
    absent = [pattern for pattern in patterns if not matches(path, pattern)]
    if not absent:
        return ""
    deeper = [name for name in sorted(entries) if matches(os.path.join(path, name), absent[0])]
    where = f", but its folder `{deeper[0]}` does: mount that one" if deeper else ""
    return f"holds no {', '.join(f'`{pattern}`' for pattern in absent)}{where}"


def matches(folder: str, pattern: str) -> bool:
    """Whether *folder* holds something that is called like *pattern*; an empty file is nothing."""
    import glob  # noqa: PLC0415 - most runs need none

    found = glob.iglob(os.path.join(glob.escape(folder), pattern), recursive=True)
    return any(os.path.isdir(path) or (os.path.isfile(path) and os.path.getsize(path)) for path in found)


def look_at_asset(asset: dict[str, Any], *, hashed: bool) -> Finding:
    """See whether a file that the image brings is there as it was."""
    path = asset["path"]
    try:
        size = os.path.getsize(path)
        found = sha256_of(path) if hashed and size == asset["size"] else asset["sha256"]
    except OSError as error:
        message = (
            "missing" if isinstance(error, FileNotFoundError) else f"cannot be read: {error.strerror}"
        )
        return Finding("fault", "asset", path, message, mend=mend_of_asset(path))
    if size != asset["size"]:
        message = f"has {size} bytes, expected {asset['size']}"
        return Finding("fault", "asset", path, message, mend=mend_of_asset(path))
    if found != asset["sha256"]:
        message = f"has sha256 {found}, expected {asset['sha256']}"
        return Finding("fault", "asset", path, message, mend=mend_of_asset(path))
    return Finding("ok", "asset", path, "has its bytes" if hashed else "has its size")


def sha256_of(path: str) -> str:
    """Return the sha256 of a file."""
    import hashlib  # noqa: PLC0415 - only on request

    digest = hashlib.sha256()
    with open(path, "rb") as file:
        for block in iter(lambda: file.read(1 << 20), b""):
            digest.update(block)
    return digest.hexdigest()


def mend_of_asset(path: str) -> str:
    """Return what brings a bundled file back: a mount that covers it is the usual reason."""
    points = mount_points()
    while path not in points and path != "/":
        path = os.path.dirname(path)
    if path == "/":
        return "make the container anew from the image, which holds the file"
    return f"leave out `-v …:{path}`, which covers what the image holds there"


def mount_points() -> set[str]:
    """Return where something is mounted; nothing where the kernel does not say."""
    try:
        with open("/proc/self/mountinfo", "rb") as file:
            escaped = [line.split()[4] for line in file]
    except OSError:
        return set()
    # proc(5): spaces and the like are written in octal.
    return {os.fsdecode(path.decode("unicode_escape").encode("latin-1")) for path in escaped}


# ---- imports and checks ---------------------------------------------------------------------------

# Imports every module that it is given and tells, on its first standard output, how that went.
IMPORTER = """
import importlib, json, os, sys, traceback
report = os.fdopen(os.dup(1), "w")
os.dup2(2, 1)
for name in sys.argv[1:]:
    fault = None
    try:
        importlib.import_module(name)
    except BaseException as error:
        fault = traceback.format_exception_only(type(error), error)[-1]
    report.write(json.dumps([name, fault]) + "\\n")
    report.flush()
os._exit(0)
"""
REBUILD = "build the image again with `lockbuild image`, whose tests try this"


def imports(names: list[str]) -> Iterator[Finding]:
    """Import modules as a program of the image would; one that kills its process does not hide the others."""
    # An extension finds torch's libraries once torch is imported, as every program that uses it does first.
    left = sorted(names, key=lambda name: name != "torch")
    while left:
        again = [name for name in names if name == "torch" and name not in left]
        status, output, errors = run_python(IMPORTER, *again, *left)
        for line in output.splitlines():
            name, fault = json.loads(line)
            if name not in left:
                continue
            left.remove(name)
            if fault is None:
                yield Finding("ok", "import", name, "can be imported")
            else:
                yield Finding("fault", "import", name, shortened(fault), mend=REBUILD)
        if left:
            last = errors.strip().splitlines()[-1:]
            message = shortened(" ".join([f"ended Python with {ending(status)}", *last]))
            yield Finding("fault", "import", left.pop(0), message, mend=REBUILD)


def checks(programs: list[str]) -> Iterator[Finding]:
    """Run the stack's own programs."""
    for position, program in enumerate(programs, 1):
        status, _, errors = run_python(program)
        last = (errors.strip().splitlines() or [f"ended with {ending(status)}"])[-1]
        if status:
            yield Finding("fault", "check", str(position), shortened(last), mend=REBUILD)
        else:
            yield Finding("ok", "check", str(position), shortened(program))


def run_python(program: str, *arguments: str) -> tuple[int, str, str]:
    """Run a program with the environment that the command would have."""
    import subprocess  # noqa: PLC0415 - only on request

    ended = subprocess.run(
        [sys.executable, "-c", program, *arguments],
        stdin=subprocess.DEVNULL,
        capture_output=True,
        check=False,
    )
    return ended.returncode, ended.stdout.decode(errors="replace"), ended.stderr.decode(errors="replace")


def ending(status: int) -> str:
    """Return how a process ended, in words."""
    try:
        return f"signal {signal.Signals(-status).name}" if status < 0 else f"exit code {status}"
    except ValueError:
        return f"signal {-status}"


def terminated(_number: int, _frame: object) -> NoReturn:
    """End at once: as process 1 of a container, Python would not."""
    sys.exit(TERMINATED)


if __name__ == "__main__":
    signal.signal(signal.SIGTERM, terminated)
    try:
        code = main()
    except KeyboardInterrupt:
        code = INTERRUPTED
    sys.exit(code)
