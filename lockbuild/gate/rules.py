"""The gate's rules: each looks at what was read of a wheel and says what was found and what was expected. Pure.

`CHECKS` is the one table of what is looked at, why, and how it is mended.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from packaging.utils import parse_wheel_filename
from packaging.version import Version

from lockbuild.findings import Check, Finding, Report
from lockbuild.gate.metadata import python_fault, unmet_requirements
from lockbuild.gate.paths import paths_of_builders, run_paths_elsewhere
from lockbuild.gate.places import is_expected, overwritten, shared, startup_files
from lockbuild.target import libc_of
from lockbuild.wheels import missing_members

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Mapping

    from lockbuild.binaries import DeviceCode
    from lockbuild.gate.facts import Contents, Expected, Imported, Runtime

__all__ = ["CHECKS", "RULES_VERSION", "TORCH_SYMBOL", "judge", "uses_old_strings"]

RULES_VERSION = 7
"""Raised whenever a rule may judge a wheel otherwise than before: what was judged is judged again."""

CHECKS = (
    Check(
        id="wheel",
        level="error",
        what="it is a wheel of the name, the version and the RECORD that it claims",
        why="installers believe what a wheel says",
        mend="build it again from its source; what hands it out must not repack it",
    ),
    Check(
        id="declared",
        level="error",
        what="the stack builds a package of this name and version",
        why="a wheel of another stack is compiled against another torch, CUDA or Python",
        mend="build it for this stack: declare it in a `[[build]]`; or delete the file",
    ),
    Check(
        id="modules",
        level="error",
        what="it holds the files that `build.expects` names",
        why="many a setup.py leaves extensions out when it finds no compiler or GPU, and says nothing",
        mend="look into the build's log for what was left out; `FORCE_CUDA` and `build.needs` are often absent",
    ),
    Check(
        id="startup",
        level="error",
        what="it holds no file that Python runs or reads at every start: `*.pth`, `sitecustomize`, `pyvenv.cfg`",
        why="such a file changes every program of the image, whether it imports the wheel or not",
        mend="leave it out of the wheel, or name it in `build.expects` where it is meant",
    ),
    Check(
        id="overwrites",
        level="error",
        what="it brings no file of another wheel of the lock, and none into the package that has that wheel's name",
        why="which of two files stays is up to the installer, and what was locked as torch would be another torch",
        mend="leave the file out of the wheel: `packages` of its setup.py; a module for another package: `build.expects`",
    ),
    Check(
        id="shared-files",
        level="warning",
        what="no other wheel of the lock brings a file to the same place or owns the package that it is put into",
        why="one of two files is lost: of folders like `tests` nobody misses it, of others somebody may",
        mend="leave the folder out of one of the wheels: `packages` of its setup.py",
    ),
    Check(
        id="requires",
        level="warning",
        what="the lock has every package that its METADATA requires, in a version that fits",
        why="pip refuses to install it with its requirements, and `pip check` complains; some of its modules may not import",
        mend="name it in `build.requires`, then `lockbuild resolve`; or edit setup.py where it is not needed",
    ),
    Check(
        id="python-abi",
        level="error",
        what="its tags and `Requires-Python` fit the target, and its extensions are ELF files that fit its tags",
        why="an extension for another Python or machine is there and cannot be imported",
        mend="build it with the stack's own interpreter",
    ),
    Check(
        id="elf-needs",
        level="error",
        what="the root file system, the wheel itself or wheels of the lock have every library that it needs",
        why="what is missing shows only when it is imported in the image",
        mend="add the Debian package to `apt.runtime`, or the wheel to `python.requires`",
    ),
    Check(
        id="torch-symbols",
        level="error",
        what="the locked torch defines every symbol of torch that it uses, with the same C++11 ABI",
        why="torch keeps no ABI between versions",
        mend="build it against the locked torch: name torch in `build.needs`",
    ),
    Check(
        id="glibc",
        level="error",
        what="it needs no newer C and C++ libraries than the image has and its manylinux tag promises",
        why="the linker refuses it there",
        mend="compile on a toolchain that is no newer than the runtime, or raise both; let it be tagged as what it is",
    ),
    Check(
        id="cuda-runtime",
        level="error",
        what="it uses the CUDA runtime that torch uses",
        why="two CUDA runtimes in one process do not share memory or streams",
        mend="compile with the nvcc of torch's CUDA major version",
    ),
    Check(
        id="architectures",
        level="error",
        what="its device code is for the stack's `target.cuda-architectures`, neither fewer nor more",
        why="a GPU without code fails at its first kernel; code for others is size, and a sign of another build",
        mend="let TORCH_CUDA_ARCH_LIST be the stack's: take it out of `build.env` and of what setup.py sets",
    ),
    Check(
        id="device-code",
        level="warning",
        what="what is compiled with torch and nvcc holds device code, where the stack names GPUs, or the stack says that it has none",
        why="many a setup.py leaves all kernels out when it finds no GPU; then it imports, and fails at the first call",
        mend='`build.env`: `FORCE_CUDA = "1"` where its setup.py asks for that; `FORCE_CUDA = "0"` where it has no kernels',
    ),
    Check(
        id="driver",
        level="error",
        what="it holds no library of the NVIDIA driver",
        why="the driver's libraries belong to the kernel of the machine that runs the image",
        mend="leave libcuda.so.1 and its like out of the wheel: they are mounted into the container",
    ),
    Check(
        id="build-path",
        level="error",
        what="it holds no path of the machine or sandbox that built it, and no name of its user and host",
        why="such a path leads nowhere in the image, and makes two builds differ, as a name does",
        mend="map it with -ffile-prefix-map, or link with an rpath of `$ORIGIN` alone; let setup.py ask for no name",
    ),
    Check(
        id="imports",
        level="error",
        what="its modules import in the image's root file system, beside the lock's wheels, without a GPU",
        why="nothing else shows that it loads",
        mend="add what is missing to `build.requires`, `python.requires` or `apt.runtime`",
    ),
)

TORCH_SYMBOL = re.compile(
    r"_Z(?:T[VTIS]|GV|GR|T[hv][n\d_]*)?N[KVRO]*(?:2at|3c10|5torch|6caffe2)[\da-zL]"
    r"|(?:_Z\d+)?THP[A-Z]|aoti_torch_"
)
"""Matches the mangled names that torch's libraries define: of the namespaces at, c10, torch and caffe2, and its C names."""

# std::string as names have it: `Ss` by the old ABI, https://itanium-cxx-abi.github.io/cxx-abi/abi.html#mangling-compression
_OLD_STRING = re.compile(r"RKSs|[E_]Ss(?![a-z])")
_NEW_STRING = re.compile(r"NSt7__cxx11|B5cxx11")
_OF_ANY_FILE = ("wheel", "declared")
_DRIVER = re.compile(
    r"lib(?:cuda|cudadebugger|nvcuvid|nvoptix|nvidia-[a-z0-9-]+|(?:EGL|GLX|GLESv1_CM|GLESv2|glxserver|vdpau)_nvidia)"
    r"(?:-[0-9a-f]{8})?\.so(?:\.[\d.]+)?"
)
_CUDART = re.compile(r"libcudart(?:-[0-9a-f]{8})?\.so\.(\d+)(?:\.[\d.]+)?")
# PTX -> the CUDA whose nvcc writes it, major versions both: "PTX ISA", section "Release Notes".
_CUDA_OF_PTX = {7: "11", 8: "12", 9: "13"}
# Letters are those of ABIs: `t` without the GIL, `d` for debugging, `m` until 3.7.
_EXTENSION = re.compile(r"\.(?:cpython-(\d+[a-z]*)-[a-z0-9_-]+|abi3)\.so$")
# What a GPU's driver loads from a file of its own: NVIDIA's cubins, AMD's code objects.
_OF_GPUS = frozenset({"EM_CUDA", "EM_AMDGPU"})

_Found = tuple[str, str]


def judge(
    contents: Contents, expected: Expected | None, runtime: Runtime, imported: Imported | str
) -> Report:
    """Return what every rule says of a wheel.

    Args:
        expected: What the stack says of it; none for one that the stack does not build.
        imported: How its modules imported, or why that was not tried.
    """
    findings: list[Finding] = []
    passed: list[str] = []
    skipped: list[tuple[str, str]] = []
    for check in CHECKS:
        if contents.faults and check.id not in _OF_ANY_FILE:
            skipped.append((check.id, "it is no whole wheel"))
            continue
        if check.id == "imports":
            if isinstance(imported, str):
                skipped.append((check.id, imported))
                continue
            found = imported.faults
        else:
            found = tuple(_RULES[check.id](contents, expected, runtime))
        findings += _findings(check, contents, found)
        passed += [] if found else [check.id]
    return Report(findings=tuple(findings), passed=tuple(passed), skipped=tuple(skipped))


def _findings(check: Check, contents: Contents, found: Iterable[_Found]) -> Iterator[Finding]:
    for subject, message in found:
        name = f"{contents.filename}: {subject}" if subject else contents.filename
        yield Finding(check=check.id, level=check.level, subject=name, message=message, mend=check.mend)


# ---- the wheel -------------------------------------------------------------------------------------


def _wheel(contents: Contents, _expected: Expected | None, _runtime: Runtime) -> Iterator[_Found]:
    yield from (("", fault) for fault in contents.faults)


def _declared(contents: Contents, expected: Expected | None, runtime: Runtime) -> Iterator[_Found]:
    if expected is None:
        yield "", f"found a wheel of `{contents.name}`, expected one that stack `{runtime.stack}` builds"
        return
    found, wanted = Version(contents.version), Version(expected.version)
    if found != wanted:
        why = ", which is compiled for another cell" if found.public == wanted.public else ""
        yield "", f"found version {contents.version}{why}, expected {expected.version}"


def _modules(contents: Contents, expected: Expected | None, _runtime: Runtime) -> Iterator[_Found]:
    patterns = expected.patterns if expected else ()
    yield from (("", fault) for fault in missing_members(contents.members, patterns))


def _python_abi(contents: Contents, expected: Expected | None, runtime: Runtime) -> Iterator[_Found]:
    target = runtime.target
    try:
        tags = parse_wheel_filename(contents.filename)[3]
    except ValueError as error:
        yield "", str(error)
        return
    if fault := python_fault(contents.requires_python, target):
        yield "", fault
    named = sorted(set(map(str, tags)) - set(contents.said_tags)) if contents.said_tags else ()
    if named:
        said = ", ".join(contents.said_tags)
        yield "", f"found tag {', '.join(named)} in the file's name, expected those of its WHEEL: {said}"
    if tags.isdisjoint(target.tags()):
        shown = ", ".join(contents.tags)
        yield "", f"found tag {shown}, expected one of Python {target.python} on {target.platform}"
    pure = all(tag.platform == "any" for tag in tags)
    for member, binary in contents.binaries.items():
        if binary.machine in _OF_GPUS:
            continue
        if pure:
            yield (
                member,
                f"found an ELF file, expected none in a wheel tagged {', '.join(contents.tags)}",
            )
            continue
        machine = {"x86_64": "EM_X86_64"}[target.machine]
        if (binary.machine, binary.bits) != (machine, 64):
            yield member, f"found {binary.bits} bits of {binary.machine}, expected 64 bits of {machine}"
        suffix = _EXTENSION.search(member)
        if suffix and suffix[1] and f"cp{suffix[1]}" not in {tag.abi for tag in tags}:
            yield member, f"found an extension of CPython {suffix[1]}, expected {_abis(tags)}"
    for member in contents.members:
        if member in contents.binaries or not member.endswith(".so"):
            continue
        # Other texts may be called so: scripts for the linker.
        if is_expected(member, expected) or (not pure and _EXTENSION.search(member)):
            yield member, "found no ELF file, expected the extension that its name says"


def _abis(tags: Iterable[object]) -> str:
    return " or ".join(sorted({f"ABI {tag.abi}" for tag in tags}))  # type: ignore[attr-defined]


# ---- what it is linked with ------------------------------------------------------------------------


def _elf_needs(contents: Contents, _expected: Expected | None, runtime: Runtime) -> Iterator[_Found]:
    own = {member.rpartition("/")[2] for member in contents.members}
    own |= {binary.soname for binary in contents.binaries.values() if binary.soname}
    known = own | runtime.base_libraries | runtime.wheel_libraries
    for member, binary in contents.binaries.items():
        for need in binary.needs:
            if _DRIVER.fullmatch(need):
                yield (
                    member,
                    f"needs {need}, which only the driver brings: expected to load without a GPU",
                )
            elif need not in known:
                yield (
                    member,
                    f"needs {need}, expected in the runtime root file system, the wheel or the lock's",
                )


def _torch_symbols(contents: Contents, _expected: Expected | None, runtime: Runtime) -> Iterator[_Found]:
    torch = runtime.torch
    if torch is None:
        return
    own = {name for binary in contents.binaries.values() for name in binary.defined}
    for member, binary in contents.binaries.items():
        wanted = {name for name in binary.undefined if TORCH_SYMBOL.match(name)}
        absent = sorted(wanted - torch.symbols - own)
        if not absent:
            continue
        theirs, ours = uses_old_strings(torch.symbols), uses_old_strings(absent)
        if theirs is not None and ours is not None and theirs != ours:
            example = next(n for n in absent if (_OLD_STRING if ours else _NEW_STRING).search(n))
            differ = f"{len(absent)} symbols differ, as `{example}`"
            wanted_abi = f"{int(not theirs)}, that of torch {torch.version}: {differ}"
            yield member, f"found _GLIBCXX_USE_CXX11_ABI={int(not ours)}, expected {wanted_abi}"
            continue
        more = f" and {len(absent) - 1} more" if len(absent) > 1 else ""
        yield (
            member,
            f"found a use of `{absent[0]}`{more}, expected only what torch {torch.version} defines",
        )


def uses_old_strings(symbols: Iterable[str]) -> bool | None:
    """Tell whether names of torch were mangled with the C++ library's old strings; none where no name shows it.

    Names of `std` itself are left out: some are there by either ABI.
    """
    old = new = 0
    for name in symbols:
        if TORCH_SYMBOL.match(name):
            old += bool(_OLD_STRING.search(name))
            new += bool(_NEW_STRING.search(name))
    return None if old == new else old > new


def _glibc(contents: Contents, _expected: Expected | None, runtime: Runtime) -> Iterator[_Found]:
    limit, (promised, tag) = Version(runtime.target.glibc), _promised(contents)
    for member, binary in contents.binaries.items():
        for library, version in binary.versions_needed:
            kind, _, number = version.partition("_")
            if kind == "GLIBC" and number[:1].isdigit() and Version(number) > limit:
                yield member, f"needs {version} of {library}, expected at most GLIBC_{limit}"
                continue
            if promised and kind == "GLIBC" and number[:1].isdigit() and Version(number) > promised:
                most = f"at most GLIBC_{promised}, as its tag {tag} says"
                yield member, f"needs {version} of {library}, expected {most}"
                continue
            given = runtime.base_versions.get(library)
            if given is not None and version not in given:
                newest = _newest(given, kind)
                # `GLIBC_ABI_DT_RELR`: no number says which C library has it.
                most = f"at most {newest}" if number[:1].isdigit() else f"one that is in {newest}"
                yield member, f"needs {version} of {library}, expected {most}, the runtime's"


def _promised(contents: Contents) -> tuple[Version | None, str]:
    """Return the oldest C library that a wheel says it is for, and the tag that says it."""
    platforms = {tag.rpartition("-")[2] for tag in contents.tags}
    levels = [(level, platform) for platform in platforms if (level := libc_of(platform))]
    if not levels:
        return None, ""
    level, platform = min(levels)
    return Version(".".join(map(str, level))), platform


def _newest(versions: Iterable[str], kind: str) -> str:
    numbered = [v for v in versions if re.fullmatch(rf"{re.escape(kind)}_[\d.]+", v)]
    return max(numbered, key=lambda v: Version(v.partition("_")[2]), default=f"no {kind} at all")


def _cuda_runtime(contents: Contents, _expected: Expected | None, runtime: Runtime) -> Iterator[_Found]:
    torch = runtime.torch
    if torch is None:
        return
    wanted = f"{f'CUDA {torch.cuda}' if torch.cuda else 'no CUDA at all'}, as torch {torch.version}"
    for member, binary in contents.binaries.items():
        linked = [found for need in binary.needs if (found := _CUDART.fullmatch(need))]
        for found in linked:
            if found[1] != torch.cuda:
                yield member, f"found CUDA {found[1]} ({found[0]}), expected {wanted}"
        # A runtime that is linked in is no need; device code still tells whose it is.
        if linked:
            continue
        codes = (code for fat in binary.device_code for code in fat)
        for version in sorted({code.version for code in codes if code.version}):
            cuda = _CUDA_OF_PTX.get(version[0], torch.cuda)
            if cuda != torch.cuda:
                language = ".".join(map(str, version))
                yield member, f"found code by nvcc of CUDA {cuda} (PTX {language}), expected {wanted}"


# ---- device code -----------------------------------------------------------------------------------


def _architectures(contents: Contents, expected: Expected | None, runtime: Runtime) -> Iterator[_Found]:
    wanted = _wanted(runtime.target.cuda_architectures)
    if not wanted:
        return
    coded = {member: b.device_code for member, b in contents.binaries.items() if b.device_code}
    loaded = any(binary.machine in _OF_GPUS for binary in contents.binaries.values())
    if not coded and not loaded and expected and expected.device_code and contents.binaries:
        yield "", f"found no device code at all, expected {_codes(wanted)}, as `FORCE_CUDA` is set"
    for member, fat in coded.items():
        found = set().union(*map(_pairs, fat))
        cubins = {code for code in wanted if code[1] == "cubin"}
        # Each object's code is for all; a device linker gives cubins alone.
        absent = _lacking(wanted, found).union(*(_lacking(cubins, _pairs(f)) for f in fat if f))
        if absent:
            lacking = next((f for f in fat if f and absent & _lacking(cubins, _pairs(f))), None)
            shown = _codes(_pairs(lacking) if lacking else found)
            yield member, f"found code for {shown}, expected also {_codes(absent)}"
        named = set(map(_plain, wanted))
        # Some kernels may be compiled for a variant as well.
        if more := {code for code in found if _plain(code) not in named}:
            yield member, f"found code for {_codes(more)}, expected only {_codes(wanted)}"


def _device_code(contents: Contents, expected: Expected | None, runtime: Runtime) -> Iterator[_Found]:
    wanted = _wanted(runtime.target.cuda_architectures)
    if not wanted or expected is None or expected.device_code is not None:
        return
    if any(b.device_code or b.machine in _OF_GPUS for b in contents.binaries.values()):
        return
    of_torch = [m for m, b in contents.binaries.items() if any(map(TORCH_SYMBOL.match, b.undefined))]
    promised = expected.nvcc and any(".so" in pattern for pattern in expected.patterns)
    if suspects := of_torch or ([*contents.binaries] if promised else []):
        says = f"found no device code at all, expected {_codes(wanted)}"
        yield suspects[0], f"{says}, or `FORCE_CUDA` to say that there is none"


def _wanted(architectures: Iterable[str]) -> set[tuple[str, str]]:
    """Return the code that TORCH_CUDA_ARCH_LIST asks for: `8.6+PTX` is a cubin and PTX."""
    wanted = set()
    for word in architectures:
        architecture, _, ptx = word.partition("+")
        wanted |= {(architecture, "cubin")} | ({(architecture, "ptx")} if ptx else set())
    return wanted


def _lacking(wanted: set[tuple[str, str]], found: set[tuple[str, str]]) -> set[tuple[str, str]]:
    """Return what of *wanted* is not there; where nvcc marks no variants, 9.0 may be 9.0a, never the other way."""
    return {code for code in wanted - found if _plain(code) not in found}


def _plain(code: tuple[str, str]) -> tuple[str, str]:
    return code[0].rstrip("af"), code[1]


def _codes(codes: Iterable[tuple[str, str]]) -> str:
    ordered = sorted(codes, key=lambda code: (Version(_plain(code)[0]), code))
    return ", ".join(a if kind == "cubin" else f"{a} {kind.upper()}" for a, kind in ordered)


def _pairs(container: Iterable[DeviceCode]) -> set[tuple[str, str]]:
    return {(code.architecture, code.kind) for code in container}


# ---- what must not be in it ------------------------------------------------------------------------


def _driver(contents: Contents, _expected: Expected | None, _runtime: Runtime) -> Iterator[_Found]:
    for member in contents.members:
        file = member.rpartition("/")[2]
        binary = contents.binaries.get(member)
        names = [file] + ([binary.soname] if binary and binary.soname else [])
        for name in names:
            if _DRIVER.fullmatch(name):
                yield member, f"found the driver's {name}, expected none of its libraries"
                break


def _build_path(contents: Contents, _expected: Expected | None, _runtime: Runtime) -> Iterator[_Found]:
    for member, binary in contents.binaries.items():
        yield from ((member, fault) for fault in run_paths_elsewhere(member, binary.rpath))
    for member, section, texts in paths_of_builders(contents):
        where = f" in {section}" if section else ""
        more = f" and {len(texts) - 1} more" if len(texts) > 1 else ""
        yield member, f"found `{texts[0]}`{more}{where}, expected nothing of who built it"


_RULES: Mapping[str, Callable[[Contents, Expected | None, Runtime], Iterator[_Found]]] = {
    "wheel": _wheel,
    "declared": _declared,
    "modules": _modules,
    "startup": startup_files,
    "overwrites": overwritten,
    "shared-files": shared,
    "requires": unmet_requirements,
    "python-abi": _python_abi,
    "elf-needs": _elf_needs,
    "torch-symbols": _torch_symbols,
    "glibc": _glibc,
    "cuda-runtime": _cuda_runtime,
    "architectures": _architectures,
    "device-code": _device_code,
    "driver": _driver,
    "build-path": _build_path,
}
