"""Wheels: equal content gives equal bytes, faults are found, hostile archives go no further."""

from __future__ import annotations

import base64
import errno
import hashlib
import os
import random
import stat
import struct
import subprocess
import sys
import zipfile
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from lockbuild.errors import BuildError
from lockbuild.target import Target
from lockbuild.wheels import (
    WheelFacts,
    check_wheel,
    inspect_wheel,
    normalise_wheel,
    place_of,
    wheel_matches,
)
from tests import needs
from tests.test_store import mounted

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

EPOCH = 1_700_000_000
INFO = "demo-1.0.dist-info"
NAME = "demo-1.0-py3-none-any.whl"
METADATA = (
    "Metadata-Version: 2.1\nName: Demo\nVersion: 1.0\nRequires-Python: >=3.8\n"
    "Requires-Dist: numpy (>=1.20)\nRequires-Dist: torch; extra == 'cuda'\n\nName: not a header\n"
)
WHEEL = (
    "Wheel-Version: 1.0\nGenerator: hand (1)\nRoot-Is-Purelib: true\n"
    "Tag: py3-none-any\nTag: py2-none-any\n"
)
CONTENT = {
    "demo/__init__.py": b"print('demo')\n" * 99,
    "demo/_C.cpython-311-x86_64-linux-gnu.so": b"\x7fELF" + bytes(5000),
    "demo/é.txt": "é\n".encode(),
    f"{INFO}/METADATA": METADATA.encode(),
    f"{INFO}/WHEEL": WHEEL.encode(),
}


def record_of(content: Mapping[str, bytes]) -> bytes:
    rows = []
    for name, data in content.items():
        digest = base64.urlsafe_b64encode(hashlib.sha256(data).digest()).decode().rstrip("=")
        rows.append(f"{name},sha256={digest},{len(data)}\n")
    return "".join([*rows, f"{INFO}/RECORD,,\n"]).encode()


def make_wheel(
    path: Path,
    content: Mapping[str, bytes] = CONTENT,
    *,
    seed: int | None = None,
    record: bytes | None = None,
    executable: str = "",
) -> Path:
    """Write a wheel; a *seed* shuffles members, dates and compression."""
    path.parent.mkdir(parents=True, exist_ok=True)
    chance = random.Random(seed)
    members = {**content, f"{INFO}/RECORD": record_of(content) if record is None else record}
    names = list(members)
    if seed is not None:
        chance.shuffle(names)
    with zipfile.ZipFile(path, "w") as archive:
        for name in names:
            info = zipfile.ZipInfo(name)
            info.external_attr = (stat.S_IFREG | (0o775 if name == executable else 0o664)) << 16
            if seed is not None:
                info.date_time = (chance.randint(1980, 2100), 1, 1, 0, 0, 0)
                info.compress_type = chance.choice([zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED])
            archive.writestr(info, members[name], compresslevel=chance.randint(1, 9))
    return path


def normalised(source: Path) -> bytes:
    destination = source.with_name(f"out-{source.name}")
    normalise_wheel(source, destination, epoch=EPOCH)
    return destination.read_bytes()


def bundled_pip() -> Path:
    """Return a wheel that others made: the one that comes with CPython."""
    import ensurepip  # Debian splits it off

    found = sorted(Path(ensurepip.__file__).parent.glob("_bundled/pip-*.whl"))
    if not found:
        needs.missing("this Python bundles no pip")
    return found[0]


# ---- normalising -----------------------------------------------------------------------------------


def test_normalised_wheel_has_pinned_bytes(tmp_path: Path) -> None:
    data = normalised(make_wheel(tmp_path / NAME))
    assert hashlib.sha256(data).hexdigest() == (
        "01f0f1a285be63b8c068717668f2c40697db19ea2f931139c730e683133018ad"
    )


@settings(max_examples=25, deadline=None)
@given(st.integers())
def test_normalising_forgets_order_dates_and_compression(
    tmp_path_factory: pytest.TempPathFactory, seed: int
) -> None:
    folder = tmp_path_factory.mktemp("wheels")
    plain, shuffled = make_wheel(folder / "a.whl"), make_wheel(folder / "b.whl", seed=seed)
    assert normalised(plain) == normalised(shuffled)


def test_normalising_twice_changes_nothing(tmp_path: Path) -> None:
    once = normalised(make_wheel(tmp_path / NAME, seed=1))
    (tmp_path / "once.whl").write_bytes(once)
    assert normalised(tmp_path / "once.whl") == once


def test_normalised_wheel_is_a_good_wheel(tmp_path: Path) -> None:
    normalise_wheel(make_wheel(tmp_path / "in" / NAME, seed=1), tmp_path / NAME, epoch=EPOCH)
    assert check_wheel(tmp_path / NAME, expects=["demo/_C*.so"]) == ()


def test_record_comes_last_and_is_sorted(tmp_path: Path) -> None:
    normalise_wheel(make_wheel(tmp_path / "in" / NAME, seed=1), tmp_path / NAME, epoch=EPOCH)
    with zipfile.ZipFile(tmp_path / NAME) as archive:
        listed = [line.split(",")[0] for line in archive.read(f"{INFO}/RECORD").decode().splitlines()]
        assert archive.namelist() == listed
    names = [name for name in sorted(CONTENT) if not name.startswith(INFO)]
    assert listed == [*names, *(f"{INFO}/{name}" for name in ("METADATA", "WHEEL", "RECORD"))]


def test_execute_bit_survives_and_other_bits_do_not(tmp_path: Path) -> None:
    source = make_wheel(tmp_path / "in" / NAME, executable="demo/__init__.py")
    normalise_wheel(source, tmp_path / NAME, epoch=EPOCH)
    with zipfile.ZipFile(tmp_path / NAME) as archive:
        modes = {info.filename: info.external_attr >> 16 for info in archive.infolist()}
    assert modes.pop("demo/__init__.py") == stat.S_IFREG | 0o755
    assert set(modes.values()) == {stat.S_IFREG | 0o644}


@pytest.mark.parametrize(
    "name",
    [
        f"{INFO}/INSTALLER",
        f"{INFO}/direct_url.json",
        f"{INFO}/uv_cache.json",
        f"{INFO}/RECORD.jws",
        "demo/__pycache__/x.pyc",
    ],
)
def test_traces_of_the_machine_are_dropped(tmp_path: Path, name: str) -> None:
    traced = make_wheel(tmp_path / "traced.whl", {**CONTENT, name: b"trace"})
    assert normalised(traced) == normalised(make_wheel(tmp_path / NAME))


def test_content_that_only_looks_like_a_trace_is_kept(tmp_path: Path) -> None:
    source = make_wheel(tmp_path / "in" / NAME, {**CONTENT, "demo/INSTALLER": b"mine"})
    normalise_wheel(source, tmp_path / NAME, epoch=EPOCH)
    assert "demo/INSTALLER" in inspect_wheel(tmp_path / NAME).members


@pytest.mark.parametrize(("epoch", "year"), [(0, 1980), (EPOCH, 2023), (2**40, 2107)])
def test_dates_stay_within_what_a_zip_can_hold(tmp_path: Path, epoch: int, year: int) -> None:
    normalise_wheel(make_wheel(tmp_path / "in" / NAME), tmp_path / NAME, epoch=epoch)
    with zipfile.ZipFile(tmp_path / NAME) as archive:
        assert {info.date_time[0] for info in archive.infolist()} == {year}


def test_normalising_corrects_a_wrong_record(tmp_path: Path) -> None:
    source = make_wheel(tmp_path / "wrong.whl", record=b"demo/__init__.py,sha256=AAAA,1\n")
    assert normalised(source) == normalised(make_wheel(tmp_path / NAME))


@pytest.mark.parametrize("data", [b"", b"no zip", b"PK\x05\x06" + bytes(18)])
def test_what_is_no_wheel_is_not_normalised(tmp_path: Path, data: bytes) -> None:
    (tmp_path / NAME).write_bytes(data)
    with pytest.raises(BuildError, match="cannot be normalised"):
        normalise_wheel(tmp_path / NAME, tmp_path / "out.whl", epoch=EPOCH)
    assert list(tmp_path.iterdir()) == [tmp_path / NAME]


@pytest.fixture
def tiny(tmp_path: Path) -> Iterator[Path]:
    yield from mounted(tmp_path / "tiny", "size=64k")


def test_a_full_disk_is_no_fault_of_the_wheel(tmp_path: Path, tiny: Path) -> None:
    wheel = make_wheel(tmp_path / NAME, {**CONTENT, "demo/data": bytes(100_000)})
    with pytest.raises(OSError, match="No space left") as caught:
        normalise_wheel(wheel, tiny / NAME, epoch=EPOCH)
    assert caught.value.errno == errno.ENOSPC
    assert list(tiny.iterdir()) == []


def test_hostile_wheel_is_not_normalised(tmp_path: Path) -> None:
    source = make_wheel(tmp_path / NAME, {**CONTENT, "../evil.py": b""})
    with pytest.raises(BuildError) as caught:
        normalise_wheel(source, tmp_path / "out.whl", epoch=EPOCH)
    assert "evil.py" in caught.value.details[0]
    assert list(tmp_path.iterdir()) == [tmp_path / NAME]


def test_wheel_of_another_maker_can_be_installed_once_normalised(tmp_path: Path) -> None:
    source = bundled_pip()
    normalise_wheel(source, tmp_path / source.name, epoch=EPOCH)
    assert check_wheel(tmp_path / source.name, expects=["pip/__main__.py"]) == ()
    pip = [sys.executable, str(tmp_path / source.name) + "/pip", "install", "--quiet"]
    options = ["--no-index", "--no-deps", "--no-compile", "--target", str(tmp_path / "site")]
    environment = {**os.environ, "PIP_CONFIG_FILE": os.devnull, "PIP_DISABLE_PIP_VERSION_CHECK": "1"}
    subprocess.run([*pip, *options, str(tmp_path / source.name)], check=True, env=environment)
    assert (tmp_path / "site" / "pip" / "__main__.py").exists()


# ---- looking and checking --------------------------------------------------------------------------


def test_facts_of_a_wheel(tmp_path: Path) -> None:
    assert inspect_wheel(make_wheel(tmp_path / NAME)) == WheelFacts(
        name="demo",
        version="1.0",
        tags=("py2-none-any", "py3-none-any"),
        requires=("numpy (>=1.20)", "torch; extra == 'cuda'"),
        members=tuple(sorted([*CONTENT, f"{INFO}/RECORD"])),
        requires_python=">=3.8",
    )


def test_facts_of_what_is_no_wheel_are_an_error(tmp_path: Path) -> None:
    with zipfile.ZipFile(tmp_path / NAME, "w") as archive:
        archive.writestr("x", "x")
    with pytest.raises(BuildError, match=r"found 0 \.dist-info folders"):
        inspect_wheel(tmp_path / NAME)


def test_good_wheel_has_no_faults(tmp_path: Path) -> None:
    expects = ["demo/_C*.so", "demo/__init__.py"]
    assert check_wheel(make_wheel(tmp_path / NAME), expects=expects) == ()


def test_wheel_of_another_maker_has_no_faults() -> None:
    assert check_wheel(bundled_pip(), expects=[]) == ()


@pytest.mark.parametrize(
    ("record", "fault"),
    [
        (record_of({**CONTENT, "demo/é.txt": b"\xc3\xa8\n"}), "`demo/é.txt`: RECORD says sha256"),
        (record_of({**CONTENT, "demo/é.txt": b"x"}), "RECORD says 1 bytes, it has 3"),
        (record_of({**CONTENT, "demo/more": b"x"}), "`demo/more` is listed in RECORD and missing"),
        (record_of({**CONTENT, "demo/é.txt": b""}).replace(b"sha256=", b"md5="), "expected a sha256"),
        (record_of(CONTENT) * 2, "lists a file twice"),
        (b"one,two\n", "is not a RECORD"),
        (b"\xff\n", "is not a RECORD"),
    ],
)
def test_untrue_record_is_found(tmp_path: Path, record: bytes, fault: str) -> None:
    faults = check_wheel(make_wheel(tmp_path / NAME, record=record), expects=[])
    assert any(fault in line for line in faults), faults


def test_unlisted_member_is_found(tmp_path: Path) -> None:
    record = record_of(CONTENT)
    faults = check_wheel(
        make_wheel(tmp_path / NAME, {**CONTENT, "evil.pth": b"import os"}, record=record), expects=[]
    )
    assert faults == ("`evil.pth` is not listed in RECORD",)


@pytest.mark.parametrize(
    ("filename", "fault"),
    [
        ("other-1.0-py3-none-any.whl", "METADATA says name `Demo`, the file name says `other`"),
        ("demo-1.1-py3-none-any.whl", "METADATA says version `1.0`, the file name says `1.1`"),
        ("demo.whl", "Invalid wheel filename"),
    ],
)
def test_name_that_differs_from_metadata_is_found(tmp_path: Path, filename: str, fault: str) -> None:
    faults = check_wheel(make_wheel(tmp_path / filename), expects=[])
    assert any(fault in line for line in faults), faults


@pytest.mark.parametrize("name", ["METADATA", "WHEEL"])
def test_missing_metadata_is_found(tmp_path: Path, name: str) -> None:
    content = {key: data for key, data in CONTENT.items() if key != f"{INFO}/{name}"}
    faults = check_wheel(make_wheel(tmp_path / NAME, content), expects=[])
    assert faults == (f"`{INFO}/{name}` is missing",)


def test_missing_record_is_found(tmp_path: Path) -> None:
    with zipfile.ZipFile(tmp_path / NAME, "w") as archive:
        for name, data in CONTENT.items():
            archive.writestr(name, data)
    assert check_wheel(tmp_path / NAME, expects=[]) == (f"`{INFO}/RECORD` is missing",)


def test_expected_module_that_is_missing_is_found(tmp_path: Path) -> None:
    faults = check_wheel(make_wheel(tmp_path / NAME), expects=["demo/ops/_C*.so", "*/_D*"])
    assert faults[0].startswith("expected `demo/ops/_C*.so`: found `demo/_C.cpython")
    assert len(faults) == 2


def test_expected_module_may_lie_in_a_data_folder(tmp_path: Path) -> None:
    content = {**CONTENT, "demo-1.0.data/platlib/demo/_x.so": b"x"}
    assert check_wheel(make_wheel(tmp_path / NAME, content), expects=["demo/_x*.so"]) == ()


def test_star_stays_in_one_folder(tmp_path: Path) -> None:
    assert check_wheel(make_wheel(tmp_path / NAME), expects=["*.so"]) != ()


def test_flipped_byte_is_found(tmp_path: Path) -> None:
    wheel = make_wheel(tmp_path / NAME)
    data = wheel.read_bytes()
    wheel.write_bytes(data.replace(b"print('demo')", b"print('evil')", 1))
    assert any("CRC" in line for line in check_wheel(wheel, expects=[]))


# ---- hostile archives ------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "name", ["/etc/passwd", "../x", "a/../../x", "./x", "a//b", "a\\..\\x", "C:/x", "a\nb"]
)
def test_path_out_of_the_folder_is_found(tmp_path: Path, name: str) -> None:
    faults = check_wheel(make_wheel(tmp_path / NAME, {**CONTENT, name: b"x"}), expects=[])
    assert faults == (f"{name!r} is not a path below the folder it is installed to",)


@pytest.mark.filterwarnings("ignore:Duplicate name")
def test_member_that_is_there_twice_is_found(tmp_path: Path) -> None:
    wheel = make_wheel(tmp_path / NAME)
    with zipfile.ZipFile(wheel, "a") as archive:
        archive.writestr("demo/__init__.py", b"evil")
    assert check_wheel(wheel, expects=[]) == ("`demo/__init__.py` is there twice",)


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ("demo-1.0.data/platlib/demo/_C.so", "demo/_C.so"),
        ("demo-1.0.data/platlib/demo/_C.so", "demo-1.0.data/purelib/demo/_C.so"),
        ("other.data/purelib/demo/_C.so", "demo/_C.so"),
        ("demo-1.0.data/data/lib/python3.11/site-packages/demo/_C.so", "demo/_C.so"),
        ("demo-1.0.data/scripts/run", "demo-1.0.data/data/bin/run"),
    ],
)
@pytest.mark.parametrize("turned", [False, True])
def test_members_that_are_installed_to_the_same_place_are_found(
    tmp_path: Path, one: str, other: str, *, turned: bool
) -> None:
    names = (other, one) if turned else (one, other)
    content = {**CONTENT, names[0]: b"bad", names[1]: b"good"}
    wheel = make_wheel(tmp_path / NAME, content)
    line = f"`{names[0]}` and `{names[1]}` are installed to the same place"
    assert check_wheel(wheel, expects=[]) == (line,)
    with pytest.raises(BuildError, match="is not a wheel to be used"):
        normalised(wheel)


def test_file_that_is_installed_to_where_a_folder_is_needed_is_found(tmp_path: Path) -> None:
    content = {**CONTENT, "demo-1.0.data/purelib/demo/more": b"", "demo/more/x.py": b""}
    faults = check_wheel(make_wheel(tmp_path / NAME, content), expects=[])
    assert faults == ("`demo/more/x.py` is below something that is a file",)


def test_files_of_one_name_in_several_places_are_no_fault(tmp_path: Path) -> None:
    names = ("purelib/demo/x", "scripts/x", "headers/x", "data/x", "data/include/x", "data/share/demo/x")
    content = {**CONTENT, **{f"demo-1.0.data/{name}": b"" for name in names}}
    assert check_wheel(make_wheel(tmp_path / NAME, content), expects=[]) == ()


def test_places_are_those_of_an_installed_wheels_record() -> None:
    assert place_of("demo/x.py") == "demo/x.py"
    assert place_of("demo-1.0.data/platlib/demo/x.so") == "demo/x.so"
    assert place_of("demo-1.0.data/scripts/run") == "../../../bin/run"
    assert place_of("demo-1.0.data/data/share/x") == "../../../share/x"


def test_file_used_as_a_folder_is_found(tmp_path: Path) -> None:
    wheel = make_wheel(tmp_path / NAME, {**CONTENT, "demo/é.txt/x": b""})
    assert check_wheel(wheel, expects=[]) == ("`demo/é.txt/x` is below something that is a file",)


def test_symlink_is_found(tmp_path: Path) -> None:
    wheel = make_wheel(tmp_path / NAME)
    with zipfile.ZipFile(wheel, "a") as archive:
        info = zipfile.ZipInfo("demo/link")
        info.external_attr = (stat.S_IFLNK | 0o777) << 16
        archive.writestr(info, "/etc/passwd")
    assert check_wheel(wheel, expects=[]) == ("`demo/link` is neither file nor folder",)


def test_member_that_grows_without_measure_is_found(tmp_path: Path) -> None:
    wheel = make_wheel(tmp_path / NAME)
    with zipfile.ZipFile(wheel, "a", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("demo/bomb", bytes(65 * 1024 * 1024))
    (fault,) = check_wheel(wheel, expects=[])
    assert fault.startswith("`demo/bomb` grows from")


def test_uncommon_compression_is_found(tmp_path: Path) -> None:
    wheel = make_wheel(tmp_path / NAME)
    with zipfile.ZipFile(wheel, "a", zipfile.ZIP_LZMA) as archive:
        archive.writestr("demo/x", "x")
    (fault,) = check_wheel(wheel, expects=[])
    assert "compressed by method 14" in fault


@pytest.mark.parametrize(
    ("name", "found", "count"),
    [
        pytest.param("demo/\u00e9\u00e9", b"\xc3\x28", 1, id="another-name-that-is-no-text"),
        pytest.param("emptied", b"\0mptied", -1, id="no-name"),
    ],
)
def test_names_that_are_none_are_found(tmp_path: Path, name: str, found: bytes, count: int) -> None:
    wheel = make_wheel(tmp_path / NAME, {**CONTENT, name: b"x"})
    real = name.encode()[-len(found) :]
    wheel.write_bytes(wheel.read_bytes().replace(real, found, count))
    assert check_wheel(wheel, expects=[]) != ()


def test_record_with_an_endless_field_is_found(tmp_path: Path) -> None:
    record = b"demo/" + b"x" * 200_000 + b",sha256=x,1\n"
    with zipfile.ZipFile(tmp_path / NAME, "w") as archive:
        for name, data in {**CONTENT, f"{INFO}/RECORD": record}.items():
            archive.writestr(name, data)
    (fault,) = check_wheel(tmp_path / NAME, expects=[])
    assert fault.startswith(f"`{INFO}/RECORD` is not a RECORD: field larger")


def test_members_that_share_bytes_are_found(tmp_path: Path) -> None:
    wheel = make_wheel(tmp_path / NAME)
    data = bytearray(wheel.read_bytes())
    # The directory's second entry is made to point at the first member's bytes.
    first = data.index(b"PK\x01\x02")
    second = data.index(b"PK\x01\x02", first + 4)
    data[second + 42 : second + 46] = struct.pack("<L", 0)
    wheel.write_bytes(data)
    assert any("share bytes" in line for line in check_wheel(wheel, expects=[]))


# ---- tags ------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("filename", "fits"),
    [
        ("torch-2.0.1+cu118-cp311-cp311-linux_x86_64.whl", True),
        ("numpy-1.26.4-cp311-cp311-manylinux_2_17_x86_64.manylinux2014_x86_64.whl", True),
        ("six-1.16.0-py2.py3-none-any.whl", True),
        ("demo-1.0-cp38-abi3-manylinux_2_36_x86_64.whl", True),
        ("demo-1.0-1-py3-none-any.whl", True),
        ("demo-1.0-cp311-cp311-manylinux_2_37_x86_64.whl", False),
        ("demo-1.0-cp310-cp310-linux_x86_64.whl", False),
        ("demo-1.0-cp311-cp311-macosx_11_0_arm64.whl", False),
        ("demo-1.0-cp311-cp311-musllinux_1_1_x86_64.whl", False),
        ("demo-1.0.tar.gz", False),
        ("demo.whl", False),
    ],
)
def test_wheel_matches_a_target(filename: str, fits: bool) -> None:
    target = Target(python="3.11", platform="linux_x86_64", glibc="2.36")
    assert wheel_matches(filename, target) is fits
