"""Prefixes of conda packages: the same as py-rattler installs, the same bytes twice, and nothing hostile."""

from __future__ import annotations

import asyncio
import json
import os
import subprocess
import tarfile
import zipfile
from dataclasses import replace
from io import BytesIO
from typing import TYPE_CHECKING, Any

import pytest

from lockbuild.builders.prefix import PrefixBuilder, zstd_module
from lockbuild.derivation import PREFIX_TAR, BuildTask
from lockbuild.store.trees import listing
from tests.conda import PLACEHOLDER, CondaPackage, archive_bytes, make_channel
from tests.needs import need
from tests.test_store import mounted

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence
    from pathlib import Path

    from lockbuild.derivation import BuildOutcome

PREFIX = PLACEHOLDER.encode()
EPOCH = 315532800
TOOL = CondaPackage(
    name="tool",
    version="2.1",
    files={
        "bin/tool": b"#!/bin/sh\nexec cat " + PREFIX + b"/share/tool/words\n",
        "share/tool/words": b"out of the prefix\n",
        "lib/libtool.so.1": b"\x7fELF\0"
        + PREFIX
        + b"/lib:"
        + PREFIX
        + b"/lib64\0after\0"
        + PREFIX
        + b"\0",
        "etc/plain.bin": b"no prefix\0in here",
    },
    links={"lib/libtool.so": "libtool.so.1", "bin/also": "../bin/tool"},
)
PYTHON = CondaPackage(name="python", version="3.11.7", files={"bin/python3.11": b"#!/bin/sh\n"})
SCRIPT = CondaPackage(
    name="script",
    version="1.0",
    noarch="python",
    depends=("python >=3.8", "tool"),
    files={
        "site-packages/script/__init__.py": b"def main():\n    return 3\n",
        "python-scripts/other": b"#!" + PREFIX + b"/bin/python\n",
        "share/script.txt": b"data\n",
    },
    entry_points=("script = script:main", "deep-script = script.inner:Class.run"),
)


def task_of(
    folder: Path,
    packages: Sequence[CondaPackage],
    *,
    place: str = "/opt/conda",
    archives: dict[str, bytes] | None = None,
) -> BuildTask:
    """Return the task of installing *packages* in their order."""
    (folder / "scratch").mkdir(parents=True)
    inputs = []
    for package in packages:
        path = folder / package.filename
        path.write_bytes((archives or {}).get(package.filename) or archive_bytes(package))
        inputs.append((package.filename, path))
    return BuildTask(
        name="conda",
        kind="prefix",
        rootfs=None,
        rootfs_name=None,
        command=(f"--place={place}", *(f"main/{p.subdir}/{p.filename}" for p in packages)),
        env=(("SOURCE_DATE_EPOCH", str(EPOCH)),),
        inputs=tuple(sorted(inputs)),
        scratch=folder / "scratch",
        log=folder / "log",
    )


def build(folder: Path, *packages: CondaPackage, **options: Any) -> BuildOutcome:
    return PrefixBuilder().build(task_of(folder, packages, **options))


def made(outcome: BuildOutcome) -> Path:
    assert outcome.output is not None, outcome.message
    return outcome.output / PREFIX_TAR


def members(outcome: BuildOutcome) -> dict[str, tarfile.TarInfo]:
    with tarfile.open(made(outcome)) as tar:
        return {member.name.removeprefix("opt/conda").lstrip("/"): member for member in tar}


def content(outcome: BuildOutcome, path: str) -> bytes:
    with tarfile.open(made(outcome)) as tar:
        file = tar.extractfile(f"opt/conda/{path}")
        assert file is not None
        return file.read()


def unpacked(outcome: BuildOutcome, folder: Path) -> Path:
    folder.mkdir()
    subprocess.run(["tar", "--extract", "--file", made(outcome), "--directory", folder], check=True)
    return folder


# ---- what is in it ---------------------------------------------------------------------------------------


@pytest.mark.parametrize("suffix", [".conda", ".tar.bz2"])
def test_prefix_is_what_rattler_installs(tmp_path: Path, suffix: str) -> None:
    packages = [replace(package, suffix=suffix) for package in (TOOL, PYTHON, SCRIPT)]
    channel = make_channel(tmp_path / "main", packages)
    environment = tmp_path / "environment"
    asyncio.run(_install(channel, environment, tmp_path / "cache"))
    outcome = build(tmp_path / "ours", *packages, place=str(environment))
    ours = unpacked(outcome, tmp_path / "unpacked") / str(environment).lstrip("/")
    # What installers write about themselves is theirs.
    left_out = ("CACHEDIR.TAG", "conda-meta")
    theirs = [entry for entry in listing(environment) if not entry.path.startswith(left_out)]
    assert [entry for entry in listing(ours) if not entry.path.startswith(left_out)] == theirs
    assert len(theirs) > 15


async def _install(channel: Path, environment: Path, cache: Path) -> None:
    import rattler

    records = await rattler.solve(
        [rattler.Channel(channel.as_uri())],
        ["script"],
        gateway=rattler.Gateway(cache_dir=cache / "index"),
        platforms=["linux-64", "noarch"],
        virtual_packages=[],
    )
    await rattler.install(
        records,
        environment,
        cache_dir=cache / "packages",
        show_progress=False,
        platform=rattler.Subdir("linux-64"),
    )


def test_rattler_reads_what_is_installed(tmp_path: Path) -> None:
    import rattler

    folder = unpacked(build(tmp_path / "ours", TOOL, PYTHON, SCRIPT), tmp_path / "unpacked")
    records = sorted((folder / "opt/conda/conda-meta").glob("*.json"))
    found = [rattler.PrefixRecord.from_path(record) for record in records]
    assert [(r.name.normalized, str(r.version)) for r in found] == [
        ("python", "3.11.7"),
        ("script", "1.0"),
        ("tool", "2.1"),
    ]
    assert (folder / "opt/conda/conda-meta/history").is_file()
    listed = {path for record in records for path in json.loads(record.read_text())["files"]}
    there = {e.path for e in listing(folder / "opt/conda") if e.kind != "folder"}
    assert {path for path in there if not path.startswith("conda-meta/")} == listed


def test_texts_and_binaries_get_the_prefix(tmp_path: Path) -> None:
    outcome = build(tmp_path, TOOL)
    assert content(outcome, "bin/tool") == b"#!/bin/sh\nexec cat /opt/conda/share/tool/words\n"
    binary = content(outcome, "lib/libtool.so.1")
    assert len(binary) == len(TOOL.files["lib/libtool.so.1"])
    texts = [text for text in binary.split(b"\0") if text]
    assert texts == [b"\x7fELF", b"/opt/conda/lib:/opt/conda/lib64", b"after", b"/opt/conda"]


def test_compiled_program_finds_its_prefix(tmp_path: Path) -> None:
    need("cc")
    source = tmp_path / "where.c"
    source.write_text(
        f'#include <stdio.h>\nstatic const char *volatile place = "{PLACEHOLDER}/share";\n'
        "int main(void) { return puts(place) < 0; }\n"
    )
    subprocess.run(["cc", "-o", tmp_path / "where", source], check=True)
    package = CondaPackage(
        name="where", version="1", files={"bin/where": (tmp_path / "where").read_bytes()}
    )
    outcome = build(tmp_path / "ours", package)
    program = unpacked(outcome, tmp_path / "unpacked") / "opt/conda/bin/where"
    assert (
        subprocess.run([program], capture_output=True, text=True, check=True).stdout
        == "/opt/conda/share\n"
    )


def test_package_for_any_python_goes_where_the_prefix_has_its_python(tmp_path: Path) -> None:
    found = members(build(tmp_path, PYTHON, TOOL, SCRIPT))
    assert found["lib/python3.11/site-packages/script/__init__.py"].isreg()
    assert found["bin/script"].mode == 0o755
    assert "site-packages" not in found


def test_entry_point_of_a_class_imports_the_class(tmp_path: Path) -> None:
    text = content(build(tmp_path, PYTHON, TOOL, SCRIPT), "bin/deep-script").decode()
    assert text.startswith("#!/opt/conda/bin/python3.11\n")
    assert "from script.inner import Class\n" in text
    assert "sys.exit(Class.run())\n" in text


def test_scripts_that_conda_would_run_are_named_and_not_run(tmp_path: Path) -> None:
    package = replace(TOOL, files={"bin/.tool-post-link.sh": b"#!/bin/sh\ntouch /tmp/run\n"}, links={})
    outcome = build(tmp_path, package)
    assert any("bin/.tool-post-link.sh` is not run" in line for line in outcome.tail)


def test_later_package_wins_over_an_earlier_one_and_the_log_says_so(tmp_path: Path) -> None:
    one = CondaPackage(name="one", version="1", files={"share/same": b"1", "share/equal": b"="})
    two = CondaPackage(name="two", version="1", files={"share/same": b"2", "share/equal": b"="})
    outcome = build(tmp_path, one, two)
    assert content(outcome, "share/same") == b"2"
    said = [line for line in outcome.tail if "gives way" in line]
    assert said == ["`share/same` of one gives way to that of two"]


# ---- the same bytes --------------------------------------------------------------------------------------


def test_same_packages_give_the_same_bytes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    first = build(tmp_path / "first", TOOL, PYTHON, SCRIPT)
    os.utime(tmp_path / "first" / TOOL.filename, (1, 1))
    monkeypatch.setenv("TZ", "Asia/Tokyo")
    before = os.umask(0o077)
    try:
        again = build(tmp_path / "a-longer-name" / "again", TOOL, PYTHON, SCRIPT)
    finally:
        os.umask(before)
    assert made(again).read_bytes() == made(first).read_bytes()


def test_nothing_of_this_machine_is_in_it(tmp_path: Path) -> None:
    outcome = build(tmp_path, TOOL, PYTHON, SCRIPT)
    assert str(tmp_path).encode() not in made(outcome).read_bytes()
    for member in members(outcome).values():
        assert (member.uid, member.gid, member.uname, member.gname) == (0, 0, "", "")
        assert member.mode & 0o7000 == 0
    # Compiled Python is found by the time of its source.
    assert members(outcome)["etc/plain.bin"].mtime == 1_700_000_000
    assert members(outcome)["etc"].mtime == EPOCH


def test_archives_stay_as_they_are(tmp_path: Path) -> None:
    task = task_of(tmp_path, [TOOL])
    before = {name: path.read_bytes() for name, path in task.inputs}
    PrefixBuilder().build(task)
    assert {name: path.read_bytes() for name, path in task.inputs} == before
    assert {path.stat().st_nlink for _, path in task.inputs} == {1}


# ---- what is refused -------------------------------------------------------------------------------------


def special(name: str, kind: bytes, link: str = "") -> tarfile.TarInfo:
    member = tarfile.TarInfo(name)
    member.type, member.linkname = kind, link
    return member


@pytest.mark.parametrize("suffix", [".conda", ".tar.bz2"])
@pytest.mark.parametrize(
    ("member", "expected"),
    [
        (special("../outside", tarfile.REGTYPE), "is no path below the prefix"),
        (special("/etc/passwd", tarfile.REGTYPE), "is no path below the prefix"),
        (special("a/../../b", tarfile.REGTYPE), "is no path below the prefix"),
        (special("dev", tarfile.CHRTYPE), "is neither file, folder nor link"),
        (special("pipe", tarfile.FIFOTYPE), "is neither file, folder nor link"),
        (special("hard", tarfile.LNKTYPE, "/etc/shadow"), "is a hard link to `/etc/shadow`"),
        (special("share/tool/words", tarfile.REGTYPE), "is there twice"),
    ],
)
def test_hostile_member_is_refused(
    tmp_path: Path, member: tarfile.TarInfo, expected: str, suffix: str
) -> None:
    package = replace(TOOL, extra=(member,), suffix=suffix)
    outcome = build(tmp_path, package)
    assert outcome.status == "failed"
    assert outcome.output is None
    assert outcome.message.startswith(f"`{package.filename}`: ")
    assert expected in outcome.message


def test_name_that_is_no_text_is_refused_and_logged(tmp_path: Path) -> None:
    member = special("../\udcff", tarfile.REGTYPE)
    outcome = build(tmp_path, replace(TOOL, extra=(member,), suffix=".tar.bz2"))
    assert "is no path below the prefix" in outcome.message
    assert outcome.log is not None
    assert "`../\\udcff`" in outcome.log.read_text()


@pytest.mark.parametrize("target", ["/etc/passwd", "../../../etc/passwd", "/opt/conda-other"])
def test_link_out_of_the_prefix_is_refused(tmp_path: Path, target: str) -> None:
    outcome = build(tmp_path, replace(TOOL, links={"lib/astray": target}))
    assert f"`lib/astray` is a link to `{target}`, out of the prefix" in outcome.message


def test_nothing_is_put_below_a_link(tmp_path: Path) -> None:
    one = CondaPackage(name="one", version="1", links={"lib": "share"}, files={"share/a": b""})
    two = CondaPackage(name="two", version="1", files={"lib/b": b""})
    assert build(tmp_path / "a", one, two).message == "`lib/b` is below `lib`, which is no folder"


@pytest.mark.parametrize("suffix", [".conda", ".tar.bz2"])
@pytest.mark.parametrize("keep", [0, 60, 400])
def test_truncated_archive_is_refused(tmp_path: Path, suffix: str, keep: int) -> None:
    package = replace(TOOL, suffix=suffix)
    data = archive_bytes(package)[:keep] or b"x"
    outcome = build(tmp_path, package, archives={package.filename: data})
    assert outcome.status == "failed"
    assert package.filename in outcome.message


@pytest.fixture
def tiny(tmp_path: Path) -> Iterator[Path]:
    yield from mounted(tmp_path / "tiny", "size=128k")


def test_a_full_disk_is_no_fault_of_a_package(tmp_path: Path, tiny: Path) -> None:
    big = CondaPackage(name="big", version="1", files={"share/big": bytes(200_000)})
    task = replace(task_of(tmp_path / "task", [big]), scratch=tiny)
    with pytest.raises(OSError, match="No space left"):
        PrefixBuilder().build(task)


def test_damaged_compression_is_refused(tmp_path: Path) -> None:
    data = bytearray(archive_bytes(TOOL))
    at = data.index(zstd_module().compress(b"")[:4]) + 30
    data[at : at + 20] = bytes(20)
    outcome = build(tmp_path, TOOL, archives={TOOL.filename: bytes(data)})
    assert outcome.status == "failed"
    assert "is not a whole conda package" in outcome.message


def repacked(package: CondaPackage, changes: dict[str, bytes | None]) -> bytes:
    """Return the archive of *package* with some members of its `info` replaced or left out."""
    old, new = BytesIO(archive_bytes(package)), BytesIO()
    zstd = zstd_module()
    with zipfile.ZipFile(old) as source, zipfile.ZipFile(new, "w") as target:
        for name in source.namelist():
            data = source.read(name)
            if name.startswith("info-"):
                stream = BytesIO()
                with (
                    tarfile.open(fileobj=BytesIO(zstd.decompress(data))) as before,
                    tarfile.open(fileobj=stream, mode="w") as after,
                ):
                    for member in before:
                        file = before.extractfile(member)
                        text = changes.get(member.name, file.read() if file else b"")
                        if text is not None:
                            member.size = len(text)
                            after.addfile(member, BytesIO(text))
                    for added in changes.keys() - set(before.getnames()):
                        member, text = tarfile.TarInfo(added), changes[added] or b""
                        member.size = len(text)
                        after.addfile(member, BytesIO(text))
                data = zstd.compress(stream.getvalue())
            target.writestr(name, data)
    return new.getvalue()


@pytest.mark.parametrize(
    ("changes", "expected"),
    [
        ({"info/index.json": None}, "has no `info/index.json`"),
        ({"info/index.json": b"[]"}, "does not say what it is"),
        ({"info/paths.json": None}, "has no `info/paths.json`"),
        ({"info/paths.json": b"{"}, "is not a whole conda package"),
        ({"info/paths.json": b'{"paths": [{"_path": 3}]}'}, "lists no paths"),
        (
            {"info/paths.json": b'{"paths": [{"_path": "bin/none"}]}'},
            "`bin/none` is listed and not there",
        ),
        (
            {
                "info/paths.json": json.dumps(
                    {"paths": [{"_path": "bin/tool", "prefix_placeholder": "/a", "file_mode": "binary"}]}
                ).encode()
            },
            "no room for the prefix",
        ),
        (
            {
                "info/paths.json": json.dumps(
                    {"paths": [{"_path": "bin/tool", "prefix_placeholder": ["/a"]}]}
                ).encode()
            },
            "is not a whole conda package",
        ),
        ({"info/link.json": b"[]"}, "is not a whole conda package"),
    ],
)
def test_wrong_description_is_refused(
    tmp_path: Path, changes: dict[str, bytes | None], expected: str
) -> None:
    outcome = build(tmp_path, TOOL, archives={TOOL.filename: repacked(TOOL, changes)})
    assert outcome.status == "failed"
    assert expected in outcome.message


def test_entry_point_that_is_none_is_refused(tmp_path: Path) -> None:
    outcome = build(tmp_path, PYTHON, replace(SCRIPT, entry_points=("script = script:main; import os",)))
    assert "not an entry point" in outcome.message


def test_package_for_any_python_needs_a_python(tmp_path: Path) -> None:
    outcome = build(tmp_path, SCRIPT)
    assert "the stack's conda packages have none" in outcome.message


def test_archive_that_is_not_given_is_named(tmp_path: Path) -> None:
    task = replace(task_of(tmp_path, [TOOL]), inputs=())
    assert "`tool-2.1-0.conda`: found none" in PrefixBuilder().build(task).message
