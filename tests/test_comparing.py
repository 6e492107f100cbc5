"""How two archives differ: members, sections of ELF members, and what stands around them."""

from __future__ import annotations

import io
import tarfile
import zipfile
from typing import TYPE_CHECKING

import pytest

from lockbuild.comparing import difference_of_tars, difference_of_wheels
from lockbuild.errors import BuildError
from tests.libraries import compiled
from tests.needs import need
from tests.test_wheels import CONTENT, NAME, make_wheel, record_of

if TYPE_CHECKING:
    from pathlib import Path


def test_equal_wheels_do_not_differ(tmp_path: Path) -> None:
    one, other = make_wheel(tmp_path / "a" / NAME), make_wheel(tmp_path / "b" / NAME)
    assert difference_of_wheels(one, other) == ()


def test_difference_names_members_and_the_first_byte(tmp_path: Path) -> None:
    changed = {**CONTENT, "demo/new": b"x", "demo/__init__.py": b"print('DEMO')\n" * 100}
    del changed["demo/é.txt"]
    one = make_wheel(tmp_path / "a" / NAME, record=b"")
    other = make_wheel(tmp_path / "b" / NAME, changed, record=b"")
    assert difference_of_wheels(one, other) == (
        "changed: demo/__init__.py: 1386 and 1400 bytes, first difference at byte 7",
        "added: demo/new",
        "missing: demo/é.txt",
    )


def test_difference_behind_the_first_chunk_has_its_offset(tmp_path: Path) -> None:
    one = make_wheel(tmp_path / "a.whl", {"x": bytes(3_000_000) + b"a"}, record=b"")
    other = make_wheel(tmp_path / "b.whl", {"x": bytes(3_000_000) + b"b"}, record=b"")
    (line,) = difference_of_wheels(one, other)
    assert line.endswith("first difference at byte 3000000")


def test_shorter_member_differs_at_its_end(tmp_path: Path) -> None:
    one = make_wheel(tmp_path / "a.whl", {"x": b"abc"}, record=b"")
    other = make_wheel(tmp_path / "b.whl", {"x": b"ab"}, record=b"")
    assert difference_of_wheels(one, other) == ("changed: x: 3 and 2 bytes, first difference at byte 2",)


def test_difference_of_order_and_dates_alone_is_said(tmp_path: Path) -> None:
    one, other = make_wheel(tmp_path / "a.whl"), make_wheel(tmp_path / "b.whl", seed=3)
    lines = "\n".join(difference_of_wheels(one, make_wheel(other, seed=3, record=record_of(CONTENT))))
    assert "another order" in lines
    assert "`date_time` of 6 members differs" in lines
    assert "changed:" not in lines


def test_difference_outside_all_members_is_said(tmp_path: Path) -> None:
    one, other = make_wheel(tmp_path / "a.whl"), make_wheel(tmp_path / "b.whl")
    with zipfile.ZipFile(other, "a") as archive:
        archive.comment = b"here"
    assert difference_of_wheels(one, other) == (
        "the members are equal, the archives around them are not",
    )


def test_what_cannot_be_read_is_not_compared(tmp_path: Path) -> None:
    other = tmp_path / "b.whl"
    with zipfile.ZipFile(other, "w") as archive:
        archive.writestr("demo/\u00e9", b"x")
    # The directory's name is good, that before the member is no text.
    other.write_bytes(other.read_bytes().replace(b"\xc3\xa9", b"\xc3\x28", 1))
    with pytest.raises(BuildError, match="cannot be compared"):
        difference_of_wheels(other, other)


def test_libraries_differ_section_by_section(tmp_path: Path) -> None:
    need("gcc")
    wheels = [
        make_wheel(
            tmp_path / f"{number}.whl",
            {"x/_C.so": compiled(tmp_path / "it", f"int number(void) {{ return {number}; }}")},
            record=b"",
        )
        for number in (1, 2)
    ]
    lines = difference_of_wheels(wheels[0], wheels[1])
    assert lines[0].startswith("changed: x/_C.so: ")
    assert any(line.startswith("  changed: .text: ") for line in lines[1:])
    assert not any(".dynsym" in line for line in lines)


def test_what_only_begins_like_a_library_differs_by_bytes_alone(tmp_path: Path) -> None:
    one = make_wheel(tmp_path / "a.whl", {"x.so": b"\x7fELF one"}, record=b"")
    other = make_wheel(tmp_path / "b.whl", {"x.so": b"\x7fELF two"}, record=b"")
    changed, why = difference_of_wheels(one, other)
    assert changed == "changed: x.so: 8 and 8 bytes, first difference at byte 5"
    assert "cannot be compared" in why


# ---- tars ------------------------------------------------------------------------------------------


def make_tar(path: Path, *members: tarfile.TarInfo | tuple[str, bytes]) -> Path:
    with tarfile.open(path, "w") as archive:
        for member in members:
            if isinstance(member, tarfile.TarInfo):
                archive.addfile(member)
            else:
                info = tarfile.TarInfo(member[0])
                info.size = len(member[1])
                archive.addfile(info, io.BytesIO(member[1]))
    return path


def special(name: str, **attributes: object) -> tarfile.TarInfo:
    info = tarfile.TarInfo(name)
    for attribute, value in attributes.items():
        setattr(info, attribute, value)
    return info


def test_equal_tars_do_not_differ(tmp_path: Path) -> None:
    members = (("a", b"1"), special("b", type=tarfile.SYMTYPE, linkname="a"))
    assert difference_of_tars(*(make_tar(tmp_path / name, *members) for name in "xy")) == ()


def test_difference_of_tars_names_members(tmp_path: Path) -> None:
    one = make_tar(tmp_path / "a.tar", ("etc/b", b"abc"), ("etc/gone", b""))
    other = make_tar(tmp_path / "b.tar", ("etc/a", b""), ("etc/b", b"abd"))
    assert difference_of_tars(one, other) == (
        "added: etc/a",
        "changed: etc/b: 3 and 3 bytes, first difference at byte 2",
        "missing: etc/gone",
    )


def test_difference_of_tars_tells_modes_times_and_kinds(tmp_path: Path) -> None:
    one = make_tar(tmp_path / "a.tar", special("a"), special("b", mtime=1), special("c", mode=0o755))
    link = special("a", type=tarfile.SYMTYPE, linkname="b")
    other = make_tar(tmp_path / "b.tar", link, special("b", mtime=2), special("c", mode=0o4755))
    assert difference_of_tars(one, other) == (
        "`kind` of 1 members differs: a: file and link",
        "`mode` of 1 members differs: c: 0755 and 4755",
        "`mtime` of 1 members differs: b: 1 and 2",
        "`linkname` of 1 members differs: a:  and b",
    )


def test_what_is_no_tar_is_not_compared(tmp_path: Path) -> None:
    (tmp_path / "a.tar").write_bytes(b"no tar")
    with pytest.raises(BuildError, match="`a.tar` cannot be compared"):
        difference_of_tars(tmp_path / "a.tar", tmp_path / "a.tar")
