"""A stack's folder: finding it, refusing a stale or damaged lock, and writing files whole or not at all."""

from __future__ import annotations

import errno
import hashlib
import os
import signal
import socket
import stat
import subprocess
import sys
import tarfile
import time
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from lockbuild.documents import toml_text
from lockbuild.errors import LockbuildError, LockError, StackError, UsageError
from lockbuild.folders import (
    STACK_FILE,
    StackFolder,
    archive_folder,
    find_stack,
    moved_inputs,
    write_output,
    write_text,
)
from lockbuild.lock import LOCK_FILE, lock_texts
from tests.values import FILES, small_lock, small_stack, stack_document

if TYPE_CHECKING:
    from collections.abc import Callable

    Stacks = Callable[..., StackFolder]

ROOT = Path(__file__).parents[1]
LOCKS = (LOCK_FILE, "pylock.toml", "pylock.build.toml", "pylock.build-native.toml", "requirements.txt")


def rewrite(folder: StackFolder, **changes: object) -> None:
    """Edit the stack file: replace some of its top-level keys."""
    text = toml_text({**stack_document(), **changes})
    (folder.path / STACK_FILE).write_text(text, encoding="utf-8")


# ---- finding -----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "argument", ["small", "stacks/small", "stacks/small/stack.toml", "stacks/small/"]
)
def test_stack_is_found_by_name_folder_and_file(argument: str, stacks: Stacks, tmp_path: Path) -> None:
    folder = stacks("small")
    assert find_stack(argument, here=tmp_path) == folder


def test_stack_is_found_from_anywhere_by_an_absolute_path(stacks: Stacks) -> None:
    folder = stacks("small")
    assert find_stack(str(folder.path), here=Path("/")) == folder


def test_stack_is_found_where_one_stands(stacks: Stacks) -> None:
    folder = stacks("small")
    assert find_stack(".", here=folder.path) == folder


def test_folder_here_is_stronger_than_a_name(stacks: Stacks, tmp_path: Path) -> None:
    stacks("small")
    (tmp_path / "small").mkdir()
    (tmp_path / "small" / STACK_FILE).write_text("", encoding="utf-8")
    assert find_stack("small", here=tmp_path).path == tmp_path / "small"


@pytest.mark.parametrize(
    ("argument", "hint"),
    [
        ("smal", "did you mean `small`?"),
        ("stacks/smal", "did you mean `small`?"),
        ("zzz", "the stacks here are: other, small"),
    ],
)
def test_unknown_stack_is_answered_with_those_there(
    argument: str, hint: str, stacks: Stacks, tmp_path: Path
) -> None:
    stacks("small", locked=False)
    stacks("other", locked=False)
    with pytest.raises(UsageError, match=f"no stack at `{argument}`: there is no stack.toml") as caught:
        find_stack(argument, here=tmp_path)
    assert caught.value.hint == hint


def test_name_that_no_file_can_have_is_no_stack(stacks: Stacks, tmp_path: Path) -> None:
    stacks("small")
    with pytest.raises(UsageError, match=r"there is no stack\.toml"):
        find_stack("a" * 300, here=tmp_path)


def test_links_in_a_circle_are_no_stack(tmp_path: Path) -> None:
    (tmp_path / "round").symlink_to("round")
    with pytest.raises(UsageError, match="no stack at `round`"):
        find_stack("round", here=tmp_path)


def test_unknown_stack_where_there_are_none_says_where_names_are_looked_for(tmp_path: Path) -> None:
    with pytest.raises(UsageError) as caught:
        find_stack("small", here=tmp_path)
    assert (caught.value.hint or "").startswith("names are looked for in `stacks` of the folder")


# ---- names and places --------------------------------------------------------------------------------


def test_wheelhouse_is_beside_the_stacks_of_a_project(stacks: Stacks, tmp_path: Path) -> None:
    folder = stacks("small", locked=False)
    assert folder.wheels == tmp_path / "wheels" / "small"
    assert folder.wheels_from_here == "../../wheels/small"


def test_wheelhouse_of_a_folder_that_stands_alone_is_in_it(tmp_path: Path) -> None:
    folder = StackFolder(path=tmp_path / "alone")
    assert folder.wheels == tmp_path / "alone" / "wheels"
    assert folder.wheels_from_here == "wheels"


def test_build_context_is_in_the_folder(tmp_path: Path) -> None:
    assert StackFolder(path=tmp_path).context == tmp_path / "context"


def test_label_is_relative_where_it_can_be(
    stacks: Stacks, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = stacks("small", locked=False)
    monkeypatch.chdir(tmp_path)
    assert folder.stack_file == "stacks/small/stack.toml"
    monkeypatch.chdir("/usr")
    assert folder.label == str(folder.path)


# ---- reading -----------------------------------------------------------------------------------------


def test_stack_and_lock_are_read(stacks: Stacks) -> None:
    document, lock = stacks("small").read_locked()
    assert document == stack_document()
    assert lock.runtime == small_lock().runtime


@pytest.mark.parametrize("content", [None, b"\xff"])
def test_stack_file_that_cannot_be_read_is_named(content: bytes | None, tmp_path: Path) -> None:
    folder = StackFolder(path=tmp_path)
    if content is not None:
        (tmp_path / STACK_FILE).write_bytes(content)
    with pytest.raises(StackError, match=r"stack.toml cannot be read"):
        folder.read_stack_text()


def test_stack_file_that_is_not_toml_is_named(stacks: Stacks) -> None:
    folder = stacks("small")
    (folder.path / STACK_FILE).write_text("name", encoding="utf-8")
    with pytest.raises(StackError, match=r"stacks/small/stack.toml is not TOML"):
        folder.read_locked()


def test_missing_lock_says_how_to_make_one(
    stacks: Stacks, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = stacks("small", locked=False)
    monkeypatch.chdir(tmp_path)
    with pytest.raises(LockError, match=r"^stacks/small: there is no lockbuild.lock$") as caught:
        folder.read_locked()
    assert caught.value.hint == "lockbuild resolve stacks/small"


@pytest.mark.parametrize("file", LOCKS[1:])
def test_flipped_byte_is_refused_with_file_and_both_hashes(file: str, stacks: Stacks) -> None:
    folder = stacks("small")
    path = folder.path / file
    good = path.read_bytes()
    bad = good[:40] + bytes([good[40] ^ 0x80]) + good[41:]
    path.write_bytes(bad)
    with pytest.raises(LockError, match=f"{file} is not as it was written") as caught:
        folder.read_lock()
    said = " ".join(caught.value.details)
    assert hashlib.sha256(good).hexdigest() in said
    assert hashlib.sha256(bad).hexdigest() in said


def test_line_ends_of_another_system_are_refused(stacks: Stacks) -> None:
    path = stacks("small").path / "requirements.txt"
    path.write_bytes(path.read_bytes().replace(b"\n", b"\r\n"))
    with pytest.raises(LockError, match=r"requirements.txt is not as it was written"):
        StackFolder(path=path.parent).read_lock()


def test_lock_file_that_cannot_be_read_is_a_fault_of_the_lock(stacks: Stacks) -> None:
    folder = stacks("small")
    (folder.path / "pylock.toml").unlink()
    (folder.path / "pylock.toml").mkdir()
    with pytest.raises(LockError, match=r"cannot be read: .*pylock.toml"):
        folder.read_lock()


# ---- stale locks ---------------------------------------------------------------------------------------


def test_stale_lock_names_the_keys_that_moved(
    stacks: Stacks, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = stacks("small")
    monkeypatch.chdir(tmp_path)
    builds = stack_document()["build"]
    builds[0]["env"] = {"FORCE_CUDA": "0", "NEW": "1"}
    rewrite(folder, build=builds, python={"requires": ["alpha>=2"], "exclude-newer": "2025-06-01"})
    with pytest.raises(LockError, match=r"^the lock of stacks/small is stale") as caught:
        folder.read_locked()
    assert caught.value.details == (
        "`build.gamma.env.FORCE_CUDA` was changed",
        "`build.gamma.env.NEW` was added",
        "`python.index.extra.name` was removed",
        "`python.index.extra.only` was removed",
        "`python.index.extra.url` was removed",
        "`python.requires` was changed",
    )
    assert caught.value.hint == "lockbuild resolve stacks/small"


@pytest.mark.parametrize(
    ("edit", "line"),
    [
        (lambda folder: (folder / "delta.c").write_text("int other;\n"), "delta.c` was changed"),
        (lambda folder: (folder / "delta.c").chmod(0o755), "delta.c` was changed"),
        (lambda folder: (folder / "new.h").write_text(""), "new.h` was added"),
        (lambda folder: (folder / "delta.c").unlink(), "delta.c` was removed"),
    ],
)
def test_stale_lock_names_the_files_that_moved(
    edit: Callable[[Path], object], line: str, stacks: Stacks
) -> None:
    folder = stacks("small")
    edit(folder.path / "extension")
    with pytest.raises(LockError, match="is stale") as caught:
        folder.read_locked()
    assert caught.value.details == (f"`file extension/{line}",)


@pytest.mark.parametrize("name", ["__pycache__/a.pyc", ".git/HEAD"])
def test_files_that_are_no_source_move_nothing(name: str, stacks: Stacks) -> None:
    folder = stacks("small")
    file = folder.path / "extension" / name
    file.parent.mkdir()
    file.write_bytes(b"")
    assert folder.read_locked()


def test_missing_source_folder_is_named(stacks: Stacks) -> None:
    folder = stacks("small")
    (folder.path / "extension").rename(folder.path / "elsewhere")
    with pytest.raises(StackError, match=r"stack.toml: what lies beside it is not there") as caught:
        folder.read_locked()
    assert caught.value.details == ("`build[delta].source.path`: `extension` is not a folder",)
    assert str(folder.path) in (caught.value.hint or "")


def put_socket(path: Path) -> None:
    with socket.socket(socket.AF_UNIX) as door:
        door.bind(str(path))


@pytest.mark.parametrize("make", [os.mkfifo, put_socket])
def test_source_that_holds_a_pipe_or_a_socket_is_refused(
    make: Callable[[Path], None], stacks: Stacks, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = stacks()
    # A socket's path may not be long.
    monkeypatch.chdir(folder.path / "extension")
    make(Path("door"))
    with pytest.raises(StackError) as caught:
        folder.used_files(folder.read_document())
    assert "`extension/door` of a source is neither a file, a folder nor a link" in caught.value.message


@pytest.mark.parametrize(
    "changes", [{"build": 3}, {"build": [1]}, {"build": [{"source": {"path": "/"}}]}, {"python": []}]
)
def test_wrong_edit_makes_the_lock_stale_whatever_it_says(
    changes: dict[str, object], stacks: Stacks
) -> None:
    folder = stacks("small")
    rewrite(folder, **changes)
    with pytest.raises(LockError, match="is stale"):
        folder.read_locked()


def test_comment_in_the_stack_file_moves_nothing(stacks: Stacks) -> None:
    path = stacks("small").path / STACK_FILE
    path.write_text(f"# why\n{path.read_text(encoding='utf-8')}", encoding="utf-8")
    assert StackFolder(path=path.parent).read_locked()


def test_moved_inputs_are_sorted_by_key() -> None:
    assert moved_inputs({"c": "1", "a": "1", "d": "1"}, {"b": "1", "a": "2", "d": "1"}) == (
        "`a` was changed",
        "`b` was added",
        "`c` was removed",
    )


def test_link_is_told_from_a_file_that_says_the_same(stacks: Stacks) -> None:
    folder = stacks("small", locked=False)
    file = folder.path / "extension" / "same"
    file.write_text("delta.c", encoding="utf-8")
    before = folder.used_files(stack_document())
    file.unlink()
    file.symlink_to("delta.c")
    assert folder.used_files(stack_document())["extension/same"] != before["extension/same"]


def test_patch_of_an_edit_is_a_used_file(stacks: Stacks) -> None:
    folder = stacks("small", locked=False)
    edits = [{"patch": "patches/a.patch", "reason": "needed"}]
    gamma, *others = stack_document()["build"]
    document = stack_document(build=[{**gamma, "edits": edits}, *others])
    (folder.path / "extension").rename(folder.path / "elsewhere")
    with pytest.raises(StackError) as caught:
        folder.used_files(document)
    assert caught.value.details == (
        "`build[delta].source.path`: `extension` is not a folder",
        "`build[gamma].edits`: `patches/a.patch` is not a file",
    )
    (folder.path / "elsewhere").rename(folder.path / "extension")
    (folder.path / "patches").mkdir()
    (folder.path / "patches/a.patch").write_text("one", encoding="utf-8")
    before = folder.used_files(document)
    (folder.path / "patches/a.patch").write_text("two", encoding="utf-8")
    assert folder.used_files(document)["patches/a.patch"] != before["patches/a.patch"]


def test_files_of_a_source_and_its_patches_are_used_files(stacks: Stacks) -> None:
    folder = stacks("small", locked=False)
    table = {"name": "app", "folder": "app", "path": "/app", "license": "MIT"}
    edits = [{"patch": "patches/a.patch", "reason": "needed"}]
    document = stack_document(source=[{**table, "edits": edits}])
    for path in ("app/main.py", "patches/a.patch"):
        (folder.path / path).parent.mkdir()
        (folder.path / path).write_text("one", encoding="utf-8")
    assert {"app/main.py", "patches/a.patch"} <= folder.used_files(document).keys()
    (folder.path / "app/main.py").unlink()
    (folder.path / "app").rmdir()
    with pytest.raises(StackError) as caught:
        folder.used_files(document)
    assert caught.value.details == ("`source[app].folder`: `app` is not a folder",)


def test_file_name_that_is_not_utf8_can_be_written_to_a_lock(stacks: Stacks) -> None:
    folder = stacks("small", locked=False)
    Path(os.fsdecode(os.fsencode(folder.path / "extension") + b"/\xff.c")).write_bytes(b"")
    assert "extension/\\xff.c" in folder.used_files(stack_document())


# ---- writing -----------------------------------------------------------------------------------------


def texts_of(folder: StackFolder) -> dict[str, str]:
    stack = small_stack()
    return lock_texts(small_lock(), name="small", target=stack.target, wheels=folder.wheels_from_here)


def test_only_files_that_differ_are_written(tmp_path: Path) -> None:
    folder = StackFolder(path=tmp_path / "small")
    texts = texts_of(folder)
    assert folder.write_texts(texts) == tuple(sorted(LOCKS))
    assert folder.write_texts(texts) == ()
    (folder.path / "requirements.txt").write_text("", encoding="utf-8")
    assert folder.write_texts(texts) == ("requirements.txt",)


def test_lock_of_an_environment_that_is_gone_is_taken_away(tmp_path: Path) -> None:
    folder = StackFolder(path=tmp_path / "small")
    texts = texts_of(folder)
    folder.write_texts(texts)
    del texts["pylock.build-native.toml"]
    assert folder.write_texts(texts) == ("pylock.build-native.toml",)
    assert not (folder.path / "pylock.build-native.toml").exists()


def test_other_texts_take_no_lock_away(tmp_path: Path) -> None:
    folder = StackFolder(path=tmp_path / "small")
    folder.write_texts(texts_of(folder))
    assert folder.write_texts({"Dockerfile": "FROM scratch\n"}) == ("Dockerfile",)
    assert (folder.path / "pylock.build.toml").exists()


def test_main_file_is_written_last(tmp_path: Path) -> None:
    folder = StackFolder(path=tmp_path / "small")
    texts = texts_of(folder)
    (folder.path / "requirements.txt").mkdir(parents=True)
    with pytest.raises(UsageError, match="cannot be written: Is a directory"):
        folder.write_texts(texts)
    assert not (folder.path / LOCK_FILE).exists()
    with pytest.raises(LockError):
        folder.read_lock()


def test_text_is_utf8_with_its_own_line_ends(tmp_path: Path) -> None:
    write_text(tmp_path / "deep" / "file", "ü\nb\r\n")
    assert (tmp_path / "deep" / "file").read_bytes() == b"\xc3\xbc\nb\r\n"


def test_file_is_as_readable_as_any_new_one(tmp_path: Path) -> None:
    (tmp_path / "ordinary").write_text("", encoding="utf-8")
    write_text(tmp_path / "file", "")
    modes = [(tmp_path / name).stat().st_mode for name in ("file", "ordinary")]
    assert modes[0] == modes[1]


def test_text_that_cannot_be_written_leaves_the_old_file_and_nothing_else(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("old", encoding="utf-8")
    with pytest.raises(UnicodeEncodeError):
        write_text(tmp_path / "file", "new \udcff")
    assert [path.name for path in tmp_path.iterdir()] == ["file"]
    assert (tmp_path / "file").read_text(encoding="utf-8") == "old"


def test_full_disk_leaves_the_old_file_and_nothing_else(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("old", encoding="utf-8")
    program = (
        "import resource, signal, sys; from pathlib import Path\n"
        "from lockbuild.errors import UsageError; from lockbuild.folders import write_text\n"
        "signal.signal(signal.SIGXFSZ, signal.SIG_IGN)\n"
        "resource.setrlimit(resource.RLIMIT_FSIZE, (1000, 1000))\n"
        "try:\n    write_text(Path(sys.argv[1]), 'new' * 1000)\n"
        "except UsageError as error:\n    sys.exit(error.__cause__.errno)\n"
    )
    ended = subprocess.run(
        [sys.executable, "-c", program, tmp_path / "file"], check=False, timeout=60, cwd=ROOT
    )
    assert ended.returncode == errno.EFBIG
    assert [path.name for path in tmp_path.iterdir()] == ["file"]
    assert (tmp_path / "file").read_text(encoding="utf-8") == "old"


def test_what_is_in_the_way_of_a_file_is_named(tmp_path: Path) -> None:
    (tmp_path / "stacks").write_text("", encoding="utf-8")
    with pytest.raises(UsageError) as caught:
        write_text(tmp_path / "stacks" / "new" / STACK_FILE, "")
    assert caught.value.message.endswith("/stacks/new/stack.toml` cannot be written: Not a directory")
    assert caught.value.hint is not None


def test_killed_writer_leaves_a_whole_file(tmp_path: Path) -> None:
    program = (
        "import sys; from pathlib import Path; from lockbuild.folders import write_text\n"
        "for n in range(10**9):\n    write_text(Path(sys.argv[1]), str(n % 10) * 100_000)\n"
    )
    writer = subprocess.Popen([sys.executable, "-c", program, tmp_path / "file"], cwd=ROOT)
    try:
        while not (tmp_path / "file").exists():
            assert writer.poll() is None
            time.sleep(0.01)
    finally:
        writer.send_signal(signal.SIGKILL)
        writer.wait()
    text = (tmp_path / "file").read_text(encoding="utf-8")
    assert len(text) == 100_000
    assert len(set(text)) == 1


@pytest.mark.parametrize("there", [True, False])
def test_output_goes_to_where_a_link_leads(tmp_path: Path, *, there: bool) -> None:
    (tmp_path / "far").mkdir()
    if there:
        (tmp_path / "far" / "file").write_text("old", encoding="utf-8")
    (tmp_path / "middle").symlink_to("far/file")
    (tmp_path / "link").symlink_to(tmp_path / "middle")
    write_output(tmp_path / "link", "new")
    assert (tmp_path / "link").is_symlink()
    assert (tmp_path / "middle").is_symlink()
    assert [path.name for path in (tmp_path / "far").iterdir()] == ["file"]
    assert (tmp_path / "far" / "file").read_text(encoding="utf-8") == "new"


def test_output_that_cannot_be_written_leaves_what_a_link_leads_to(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("old", encoding="utf-8")
    (tmp_path / "link").symlink_to("file")
    with pytest.raises(UnicodeEncodeError):
        write_output(tmp_path / "link", "new \udcff")
    assert (tmp_path / "file").read_text(encoding="utf-8") == "old"


def test_output_into_a_pipe_is_read_at_its_other_end(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe")
    reader = os.open(tmp_path / "pipe", os.O_RDONLY | os.O_NONBLOCK)
    try:
        write_output(tmp_path / "pipe", "told")
        assert os.read(reader, 100) == b"told"
    finally:
        os.close(reader)
    assert (tmp_path / "pipe").is_fifo()
    assert [path.name for path in tmp_path.iterdir()] == ["pipe"]


def test_output_leaves_a_device_a_device(tmp_path: Path) -> None:
    null = tmp_path / "null"
    try:
        os.mknod(null, stat.S_IFCHR | 0o666, Path("/dev/null").stat().st_rdev)
        null.open("wb").close()
    except PermissionError:
        pytest.skip("making a device and opening it needs root, and a folder that may have devices")
    write_output(null, "told")
    assert null.is_char_device()
    assert [path.name for path in tmp_path.iterdir()] == ["null"]


@pytest.mark.parametrize("name", ["/dev/stdout", "/dev/fd/1", "/proc/self/fd/1"])
def test_output_to_standard_output_stands_between_what_others_write(name: str, tmp_path: Path) -> None:
    program = (
        "import os, sys; from pathlib import Path; from lockbuild.folders import write_output\n"
        "os.write(1, b'before, ')\nwrite_output(Path(sys.argv[1]), 'told')\nos.write(1, b', after')\n"
    )
    with (tmp_path / "file").open("wb") as stream:
        subprocess.run([sys.executable, "-c", program, name], stdout=stream, check=True, cwd=ROOT)
    assert (tmp_path / "file").read_text(encoding="utf-8") == "before, told, after"


def test_output_is_called_as_somebody_wrote_it(tmp_path: Path) -> None:
    (tmp_path / "folder").mkdir()
    (tmp_path / "circle").symlink_to("circle")
    (tmp_path / "link").symlink_to("folder")
    for name, reason in (("circle", "Too many levels of symbolic links"), ("link", "Is a directory")):
        with pytest.raises(UsageError) as caught:
            write_output(tmp_path / name, "", label=f"--output {name}")
        assert caught.value.message == f"`--output {name}` cannot be written: {reason}"
        assert caught.value.details == ()


def test_every_fault_here_is_foreseen(stacks: Stacks) -> None:
    # Whatever single lock file is cut off in the middle: a fault with a next step, never a traceback.
    for file in LOCKS:
        folder = stacks(f"cut-{file.partition('.')[0]}-{len(file)}")
        path = folder.path / file
        path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])
        with pytest.raises(LockbuildError) as caught:
            folder.read_lock()
        assert caught.value.hint is not None


# ---- packing a folder ----------------------------------------------------------------------------------


@pytest.fixture
def source(tmp_path: Path) -> Path:
    folder = tmp_path / "one" / "extension"
    for name, text in {
        **FILES,
        "extension/deep/er/a.txt": "a",
        "extension/run.sh": "#!/bin/sh\n",
    }.items():
        path = folder.parent / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text, encoding="utf-8")
    (folder / "run.sh").chmod(0o755)
    (folder / "link").symlink_to("run.sh")
    (folder / "dangling").symlink_to("nowhere")
    return folder


def test_archive_holds_the_files_below_one_folder(source: Path, tmp_path: Path) -> None:
    archive_folder(source, tmp_path / "a.tar")
    with tarfile.open(tmp_path / "a.tar") as archive:
        members = {member.name: member for member in archive.getmembers()}
        content = archive.extractfile("extension/setup.py")
        assert content is not None
        assert content.read() == FILES["extension/setup.py"].encode()
    assert sorted(members) == [
        "extension/dangling",
        "extension/deep/er/a.txt",
        "extension/delta.c",
        "extension/link",
        "extension/run.sh",
        "extension/setup.py",
    ]
    assert members["extension/link"].linkname == "run.sh"
    assert (members["extension/run.sh"].mode, members["extension/setup.py"].mode) == (0o755, 0o644)
    assert {(m.uid, m.gid, m.uname, m.gname, m.mtime) for m in members.values()} == {
        (0, 0, "", "", 315532800)
    }


def test_archive_says_its_hash_and_size(source: Path, tmp_path: Path) -> None:
    sha256, size = archive_folder(source, tmp_path / "a.tar")
    data = (tmp_path / "a.tar").read_bytes()
    assert (sha256, size) == (hashlib.sha256(data).hexdigest(), len(data))


def test_archive_follows_from_content_alone(source: Path, tmp_path: Path) -> None:
    first, _ = archive_folder(source, tmp_path / "a.tar")
    copy = tmp_path / "two" / "extension"
    copy.mkdir(parents=True)
    # Other order of creation, other times, other permissions, other owner's umask, and what is no source.
    for path in sorted(source.rglob("*"), reverse=True):
        target = copy / path.relative_to(source)
        target.parent.mkdir(parents=True, exist_ok=True)
        if path.is_symlink():
            target.symlink_to(path.readlink())
        elif path.is_file():
            target.write_bytes(path.read_bytes())
            target.chmod(0o700 if path.name == "run.sh" else 0o600)
            os.utime(target, (1, 1))
    (copy / "__pycache__").mkdir()
    (copy / "__pycache__" / "setup.pyc").write_bytes(b"")
    (copy / ".git").mkdir()
    (copy / "deep" / "empty").mkdir()
    again, _ = archive_folder(copy, tmp_path / "b.tar")
    assert again == first


@pytest.mark.parametrize(
    "edit",
    [
        lambda folder: (folder / "delta.c").write_text("int other;\n"),
        lambda folder: (folder / "delta.c").chmod(0o755),
        lambda folder: (folder / "delta.c").rename(folder / "omega.c"),
        lambda folder: (folder / "new").symlink_to("delta.c"),
    ],
)
def test_archive_changes_with_content(
    edit: Callable[[Path], object], source: Path, tmp_path: Path
) -> None:
    before, _ = archive_folder(source, tmp_path / "a.tar")
    edit(source)
    after, _ = archive_folder(source, tmp_path / "b.tar")
    assert after != before
