"""The store: what it accepts, keeps, finds damaged, and what a death at any moment leaves behind."""

from __future__ import annotations

import io
import json
import os
import shutil
import socket
import stat
import subprocess
import sys
import tarfile
import tempfile
import textwrap
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from lockbuild.digest import Sha256, StorePath, sha256_of, store_path
from lockbuild.errors import StoreError
from lockbuild.store import Entry, Kept, Root, Store, difference, listing, listing_sha256, remove_tree
from lockbuild.store.trees import listing_text
from tests import needs
from tests.fakes import RecordingProgress

if TYPE_CHECKING:
    from collections.abc import Iterator

    from lockbuild.derivation import PathInfo

ROOT = Path(__file__).parent.parent


def path_of(name: str) -> StorePath:
    return store_path(["test", name], name)


@pytest.fixture
def store(tmp_path: Path) -> Iterator[Store]:
    with Store(tmp_path / "store") as opened:
        yield opened


def write(file: Path, data: bytes = b"data\n", *, mode: int = 0o644) -> Path:
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_bytes(data)
    file.chmod(mode)
    return file


def sample_folder(folder: Path) -> Path:
    write(folder / "a.whl", b"a wheel\n")
    write(folder / "bin" / "run", b"#!/bin/sh\n", mode=0o755)
    write(folder / "é" / "ü.txt", "ü\n".encode())
    (folder / "empty").mkdir()
    (folder / "link").symlink_to("bin/../bin//run")
    return folder


def add_text(store: Store, tmp_path: Path, name: str, *references: StorePath) -> PathInfo:
    file = write(tmp_path / name, name.encode())
    return store.add_file(path_of(name), file, sha256=sha256_of(name.encode()), references=references)


def in_child(program: str, *arguments: str | Path) -> subprocess.Popen[str]:
    """Run a Python program that may import lockbuild."""
    return subprocess.Popen(
        [sys.executable, "-c", textwrap.dedent(program), *map(str, arguments)],
        cwd=ROOT,
        text=True,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
    )


def as_user(program: str) -> None:
    """Run a program as a user without rights, in a folder of that user's own."""
    prelude = """
        import os, sys, tarfile, io
        from pathlib import Path
        from lockbuild.digest import store_path
        from lockbuild.store import Store, remove_tree

        def write(file):
            file.parent.mkdir(parents=True, exist_ok=True)
            file.write_text("x")

        os.chdir(sys.argv[1])
        if os.geteuid() == 0:
            os.setgroups([])
            os.setgid(12345)
            os.setuid(12345)
    """
    with tempfile.TemporaryDirectory() as folder:
        if os.geteuid() == 0:
            os.chown(folder, 12345, 12345)
        text = textwrap.dedent(prelude) + textwrap.dedent(program)
        with in_child(text, folder) as child:
            assert child.wait(timeout=60) == 0


def mounted(folder: Path, options: str) -> Iterator[Path]:
    """Mount a small file system; for fixtures."""
    needs.need("mount", "umount")
    folder.mkdir()
    command = ["mount", "-t", "tmpfs", "-o", options, "tmpfs", str(folder)]
    if os.geteuid() != 0 or subprocess.run(command, check=False).returncode != 0:
        needs.missing("mounting a file system needs root and its rights")
    try:
        yield folder
    finally:
        subprocess.run(["umount", str(folder)], check=True)


@pytest.fixture
def tiny(tmp_path: Path) -> Iterator[Path]:
    yield from mounted(tmp_path / "tiny", "size=512k")


# ---- listings --------------------------------------------------------------------------------------


def test_listing_has_the_documented_bytes(tmp_path: Path) -> None:
    entries = listing(sample_folder(tmp_path / "tree"))
    assert listing_text(entries).decode() == (
        '["tree",1,['
        '["a.whl","file","c8d27a58c983d63f54eb1a984251ffd58f5c3e993f28582340275e5b1a26a2c0"],'
        '["bin","folder",""],'
        '["bin/run","executable","a8076d3d28d21e02012b20eaf7dbf75409a6277134439025f282e368e3305abf"],'
        '["empty","folder",""],'
        '["link","symlink","bin/../bin//run"],'
        '["é","folder",""],'
        '["é/ü.txt","file","599c7c0c70071ddf9568a4b07213a61a06ddb301f494a3477c69aaf04c1ad1cd"]]]'
    )
    assert listing_sha256(entries) == (
        "2672056e49968f06da06c3ab9118176e378f16f2a3b954fc2c9c376d767d2f98"
    )


def test_listing_knows_neither_times_nor_other_mode_bits(tmp_path: Path) -> None:
    one, other = sample_folder(tmp_path / "one"), sample_folder(tmp_path / "other")
    os.utime(other / "a.whl", (5, 5))
    (other / "a.whl").chmod(0o600)
    assert listing(one) == listing(other)


@pytest.mark.parametrize("kind", ["pipe", "socket"])
def test_listing_refuses_what_is_neither_file_nor_folder(
    tmp_path: Path, kind: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    if kind == "pipe":
        os.mkfifo("strange")
    else:
        with socket.socket(socket.AF_UNIX) as server:
            server.bind("strange")
    with pytest.raises(StoreError, match=f"`strange` is a {kind}"):
        listing(tmp_path)


def test_listing_refuses_names_that_are_not_utf8(tmp_path: Path) -> None:
    with open(os.fsencode(tmp_path) + b"/caf\xe9", "wb"):
        pass
    with pytest.raises(StoreError, match="not UTF-8"):
        listing(tmp_path)


def test_listing_of_many_bytes_is_that_of_few_at_a_time(tmp_path: Path) -> None:
    for number in range(9):
        write(tmp_path / f"{number}", bytes([number]) * 2_000_000)
    expected = [sha256_of(bytes([number]) * 2_000_000) for number in range(9)]
    assert [entry.content for entry in listing(tmp_path)] == expected


names = st.text(st.characters(codec="utf-8", exclude_characters="/\0"), min_size=1, max_size=8)


@settings(max_examples=50, deadline=None)
@given(
    st.dictionaries(names.filter(lambda n: n not in (".", "..")), st.binary(max_size=9)), st.randoms()
)
def test_listing_does_not_depend_on_the_order_of_writing(
    tmp_path_factory: pytest.TempPathFactory, content: dict[str, bytes], random: object
) -> None:
    folders = tmp_path_factory.mktemp("one"), tmp_path_factory.mktemp("other")
    order = list(content)
    for folder in folders:
        for name in order:
            (folder / name).write_bytes(content[name])
        random.shuffle(order)  # type: ignore[attr-defined]
    assert listing(folders[0]) == listing(folders[1])
    assert [e.path for e in listing(folders[0])] == sorted(content)


def test_difference_names_members(tmp_path: Path) -> None:
    before = listing(sample_folder(tmp_path / "tree"))
    (tmp_path / "tree" / "empty").rmdir()
    write(tmp_path / "tree" / "new")
    write(tmp_path / "tree" / "a.whl", b"another\n")
    (tmp_path / "tree" / "bin" / "run").chmod(0o644)
    assert [line.split(":")[:2] for line in difference(before, listing(tmp_path / "tree"))] == [
        ["changed", " a.whl"],
        ["changed", " bin/run"],
        ["missing", " empty"],
        ["added", " new"],
    ]


# ---- adding ----------------------------------------------------------------------------------------


def test_add_file_takes_it_over_read_only(store: Store, tmp_path: Path) -> None:
    info = add_text(store, tmp_path, "one")
    place = store.locate(info.path)
    assert not (tmp_path / "one").exists()
    assert place.read_bytes() == b"one"
    assert stat.S_IMODE(place.stat().st_mode) == 0o444
    assert place.stat().st_mtime == 1
    assert store.info(info.path) == info


def test_add_file_refuses_other_bytes_and_shows_both_hashes(store: Store, tmp_path: Path) -> None:
    file = write(tmp_path / "file", b"other")
    with pytest.raises(StoreError) as caught:
        store.add_file(path_of("file"), file, sha256=sha256_of(b"wanted"))
    assert sha256_of(b"wanted") in caught.value.details[0]
    assert sha256_of(b"other") in caught.value.details[1]
    assert file.exists()
    assert store.leftovers() == ()


def test_add_file_refuses_another_size(store: Store, tmp_path: Path) -> None:
    file = write(tmp_path / "file", b"four")
    with pytest.raises(StoreError) as caught:
        store.add_file(path_of("file"), file, sha256=sha256_of(b"four"), size=5, trusted_hash=True)
    assert caught.value.details == ("expected 5 bytes", "found    4 bytes")


def test_add_file_breaks_other_names_of_the_same_bytes(store: Store, tmp_path: Path) -> None:
    file = write(tmp_path / "file", b"data")
    (tmp_path / "second").hardlink_to(file)
    info = store.add_file(path_of("file"), file, sha256=sha256_of(b"data"))
    (tmp_path / "second").write_bytes(b"evil")
    assert store.check(info.path) == info


def test_add_file_refuses_a_symlink(store: Store, tmp_path: Path) -> None:
    write(tmp_path / "file", b"data")
    (tmp_path / "link").symlink_to("file")
    with pytest.raises(StoreError, match="is not a file"):
        store.add_file(path_of("file"), tmp_path / "link", sha256=sha256_of(b"data"))


def test_add_file_from_another_file_system(store: Store, tiny: Path) -> None:
    file = write(tiny / "file", b"data")
    info = store.add_file(path_of("file"), file, sha256=sha256_of(b"data"))
    assert store.check(info.path) == info
    assert not file.exists()


def test_add_file_hashes_a_copy_even_if_the_hash_is_trusted(store: Store, tiny: Path) -> None:
    file = write(tiny / "file", b"data")
    with pytest.raises(StoreError, match="refused"):
        store.add_file(path_of("file"), file, sha256=sha256_of(b"else"), trusted_hash=True)
    assert file.exists()
    assert list((store.root / "scratch").iterdir()) == []


def test_add_folder_records_its_top_files(store: Store, tmp_path: Path) -> None:
    reference = add_text(store, tmp_path, "input").path
    info = store.add_folder(
        path_of("out"), sample_folder(tmp_path / "out"), references=[reference, reference]
    )
    assert info.outputs == (("a.whl", sha256_of(b"a wheel\n"), 8),)
    assert info.references == (reference,)
    assert info.kind == "folder"
    assert store.check(info.path) == info


def test_add_folder_normalises_modes_and_times(store: Store, tmp_path: Path) -> None:
    folder = sample_folder(tmp_path / "out")
    (folder / "bin" / "run").chmod(0o6711)
    place = store.locate(store.add_folder(path_of("out"), folder).path)
    modes = {p.relative_to(place).as_posix(): stat.S_IMODE(p.lstat().st_mode) for p in place.rglob("*")}
    assert modes["bin/run"] == 0o555
    assert modes["a.whl"] == 0o444
    assert modes["bin"] == 0o555
    assert stat.S_IMODE(place.stat().st_mode) == 0o555
    assert {p.lstat().st_mtime for p in [place, *place.rglob("*")]} == {1}


def test_add_folder_does_not_touch_other_names_of_its_files(store: Store, tmp_path: Path) -> None:
    outside = write(tmp_path / "outside", b"data")
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "file").hardlink_to(outside)
    store.add_folder(path_of("out"), tmp_path / "out")
    assert stat.S_IMODE(outside.stat().st_mode) == 0o644


def test_add_folder_from_another_file_system(store: Store, tiny: Path) -> None:
    info = store.add_folder(path_of("out"), sample_folder(tiny / "out"))
    assert store.check(info.path) == info
    assert not (tiny / "out").exists()


def test_add_folder_refuses_special_files_and_leaves_nothing(store: Store, tmp_path: Path) -> None:
    folder = sample_folder(tmp_path / "out")
    os.mkfifo(folder / "pipe")
    with pytest.raises(StoreError, match="`pipe` is a pipe"):
        store.add_folder(path_of("out"), folder)
    assert store.info(path_of("out")) is None
    assert store.leftovers() == ()


def test_adding_the_same_again_changes_nothing(store: Store, tmp_path: Path) -> None:
    first = store.add_folder(path_of("out"), sample_folder(tmp_path / "one"))
    record = (store.root / "records" / f"{first.path}.json").read_bytes()
    assert store.add_folder(path_of("out"), sample_folder(tmp_path / "two")) == first
    assert (store.root / "records" / f"{first.path}.json").read_bytes() == record
    assert not (tmp_path / "two").exists()


def test_adding_another_content_to_a_valid_path_is_refused(store: Store, tmp_path: Path) -> None:
    first = store.add_folder(path_of("out"), sample_folder(tmp_path / "one"))
    write(tmp_path / "two" / "else")
    with pytest.raises(StoreError, match="another content") as caught:
        store.add_folder(path_of("out"), tmp_path / "two")
    assert first.sha256 in caught.value.details[0]
    assert store.check(first.path) == first
    assert store.members(first.path)


def test_garbage_in_the_way_is_replaced(store: Store, tmp_path: Path) -> None:
    write(store.locate(path_of("out")) / "half" / "file")
    info = store.add_folder(path_of("out"), sample_folder(tmp_path / "out"))
    assert store.check(info.path) == info


def test_record_text_is_the_same_in_every_store(tmp_path: Path) -> None:
    texts = []
    for name in ("one", "two"):
        with Store(tmp_path / name) as store:
            info = store.add_folder(path_of("out"), sample_folder(tmp_path / "out"))
            texts.append((store.root / "records" / f"{info.path}.json").read_text())
    assert texts[0] == texts[1]
    assert list(json.loads(texts[0])) == [
        *("schema", "path", "sha256", "size", "kind", "references", "outputs")
    ]


# ---- looking ---------------------------------------------------------------------------------------


def test_valid_tells_those_with_a_record(store: Store, tmp_path: Path) -> None:
    info = add_text(store, tmp_path, "one")
    write(store.locate(path_of("half")))
    assert store.valid([info.path, path_of("half"), path_of("absent")]) == {info.path}


@pytest.mark.parametrize("text", ["", "{}", "[]", "\udcff", '{"schema": 1, "path": 3}'])
def test_damaged_record_is_an_error(store: Store, tmp_path: Path, text: str) -> None:
    info = add_text(store, tmp_path, "one")
    (store.root / "records" / f"{info.path}.json").write_bytes(os.fsencode(text))
    with pytest.raises(StoreError, match="record of store object"):
        store.info(info.path)
    assert [damage.path for damage in store.verify()] == [info.path]


def test_record_of_another_object_is_an_error(store: Store, tmp_path: Path) -> None:
    one, two = add_text(store, tmp_path, "one"), add_text(store, tmp_path, "two")
    records = store.root / "records"
    shutil.copy(records / f"{one.path}.json", records / f"{two.path}.json")
    with pytest.raises(StoreError, match="it is the record of"):
        store.info(two.path)


def test_tampered_byte_is_found_with_both_hashes(store: Store, tmp_path: Path) -> None:
    info = add_text(store, tmp_path, "one")
    store.locate(info.path).chmod(0o644)
    store.locate(info.path).write_bytes(b"onf")
    with pytest.raises(StoreError) as caught:
        store.check(info.path)
    assert caught.value.exit_code == 7
    assert info.sha256 in caught.value.details[0]
    assert sha256_of(b"onf") in caught.value.details[1]
    assert "store repair" in (caught.value.hint or "")
    (damage,) = store.verify()
    assert (damage.expected, damage.found) == (info.sha256, sha256_of(b"onf"))


def test_tampered_folder_names_its_members(store: Store, tmp_path: Path) -> None:
    info = store.add_folder(path_of("out"), sample_folder(tmp_path / "out"))
    inner = store.locate(info.path) / "é"
    inner.chmod(0o755)
    (inner / "ü.txt").unlink()
    write(inner / "evil")
    (damage,) = store.verify([info.path])
    assert damage.members == ("added: é/evil", "missing: é/ü.txt")


def test_tampered_folder_is_found_without_its_listing(store: Store, tmp_path: Path) -> None:
    info = store.add_folder(path_of("out"), sample_folder(tmp_path / "out"))
    (store.root / "listings" / info.path).write_bytes(b"junk")
    assert list(store.verify()) == []
    (store.locate(info.path) / "a.whl").chmod(0o555)
    (damage,) = store.verify()
    assert damage.members == ()


def test_missing_object_is_damage(store: Store, tmp_path: Path) -> None:
    info = add_text(store, tmp_path, "one")
    store.locate(info.path).unlink()
    (damage,) = store.verify()
    assert (damage.problem, damage.found) == ("it is missing", None)


def test_verify_looks_at_all_and_tells_of_their_bytes(store: Store, tmp_path: Path) -> None:
    names = ("one", "three", "two", "seventeen", "eleven")
    infos = [add_text(store, tmp_path, name) for name in names]
    for info in infos[1::2]:
        store.locate(info.path).unlink()
    progress = RecordingProgress()
    found = [damage.path for damage in store.verify(progress=progress)]
    assert found == sorted(info.path for info in infos[1::2])
    size = len("".join(names))
    assert (progress.phases, progress.done) == ([("hashing", size, "bytes")], size)


def test_object_replaced_by_a_symlink_is_damage(store: Store, tmp_path: Path) -> None:
    info = add_text(store, tmp_path, "one")
    store.locate(info.path).rename(tmp_path / "away")
    store.locate(info.path).symlink_to(tmp_path / "away")
    (damage,) = store.verify()
    assert damage.problem == "it is no longer a file"


def test_object_without_record_is_left_over_and_no_damage(store: Store) -> None:
    write(store.locate(path_of("half")) / "file")
    assert list(store.verify()) == []
    assert store.leftovers() == (f"objects/{path_of('half')}",)
    assert store.forget_invalid() == (f"objects/{path_of('half')}",)
    assert store.leftovers() == ()


def test_forget_invalid_leaves_what_another_process_is_adding(store: Store) -> None:
    write(store.locate(path_of("half")))
    program = """
        import sys
        from pathlib import Path
        from lockbuild.store.locks import locked
        with locked(Path(sys.argv[1])):
            print("held", flush=True)
            sys.stdin.read()
    """
    child = in_child(program, store.root / "locks" / f"{path_of('half')}.change")
    with child:
        assert child.stdout is not None
        assert child.stdout.readline() == "held\n"
        assert store.forget_invalid() == ()
        child.communicate("")
    assert store.forget_invalid() == (f"objects/{path_of('half')}",)


def test_removed_object_can_be_added_again(store: Store, tmp_path: Path) -> None:
    info = store.add_folder(path_of("out"), sample_folder(tmp_path / "out"))
    store.remove(info.path)
    assert store.info(info.path) is None
    assert store.leftovers() == ()
    assert store.add_folder(path_of("out"), sample_folder(tmp_path / "out")) == info


# ---- notes -----------------------------------------------------------------------------------------


def test_a_note_is_read_as_it_was_written(store: Store, tmp_path: Path) -> None:
    info = store.add_folder(path_of("out"), sample_folder(tmp_path / "out"))
    assert store.note(info.path, "seen") is None
    store.write_note(info.path, "seen", "first\n")
    store.write_note(info.path, "seen", "then\n")
    assert store.note(info.path, "seen") == "then\n"
    assert store.leftovers() == ()
    assert store.check(info.path) == info


def test_a_note_that_is_no_text_is_none(store: Store, tmp_path: Path) -> None:
    info = store.add_folder(path_of("out"), sample_folder(tmp_path / "out"))
    store.write_note(info.path, "seen", "text")
    (store.root / "notes" / info.path / "seen").write_bytes(b"\xff")
    assert store.note(info.path, "seen") is None
    store.write_note(info.path, "seen", "again")
    assert store.note(info.path, "seen") == "again"


def test_a_note_goes_with_its_object(store: Store, tmp_path: Path) -> None:
    info = store.add_folder(path_of("out"), sample_folder(tmp_path / "out"))
    store.write_note(info.path, "seen", "text")
    store.remove(info.path)
    assert store.note(info.path, "seen") is None
    assert store.leftovers() == ()


def test_nothing_is_noted_of_what_is_not_valid(store: Store) -> None:
    store.write_note(path_of("absent"), "seen", "text")
    assert store.note(path_of("absent"), "seen") is None


def test_notes_of_what_is_gone_are_swept(store: Store, tmp_path: Path) -> None:
    info = store.add_folder(path_of("out"), sample_folder(tmp_path / "out"))
    store.write_note(info.path, "seen", "text")
    (store.root / "records" / f"{info.path}.json").unlink()
    assert f"notes/{info.path}" in store.forget_invalid()
    assert store.note(info.path, "seen") is None


# ---- opening ---------------------------------------------------------------------------------------


def test_store_of_another_layout_is_refused(store: Store) -> None:
    (store.root / "lockbuild-store").write_text('{"schema": 99}\n')
    with pytest.raises(StoreError, match="layout 99"):
        Store(store.root)


def test_folder_with_something_else_is_refused(tmp_path: Path) -> None:
    write(tmp_path / "thesis.tex")
    with pytest.raises(StoreError, match=r"found `thesis\.tex`"):
        Store(tmp_path)
    assert list(tmp_path.iterdir()) == [tmp_path / "thesis.tex"]


def test_store_that_cannot_be_made_is_an_error(tmp_path: Path) -> None:
    write(tmp_path / "file")
    with pytest.raises(StoreError, match="cannot be used") as caught:
        Store(tmp_path / "file" / "store")
    assert "LOCKBUILD_STORE" in str(caught.value.hint)


def test_full_disk_is_said_in_words_and_leaves_nothing_valid(tiny: Path, tmp_path: Path) -> None:
    with Store(tiny / "store") as store:
        data = os.urandom(1_000_000)
        file = write(tmp_path / "big", data)
        with pytest.raises(StoreError, match="no space is left"):
            store.add_file(path_of("big"), file, sha256=sha256_of(data))
        assert store.paths() == ()
        assert file.read_bytes() == data
        assert add_text(store, tmp_path, "small").path in store.paths()


def test_read_only_store_can_be_read_and_says_so_when_written(tiny: Path, tmp_path: Path) -> None:
    with Store(tiny / "store") as store:
        info = add_text(store, tmp_path, "one")
    subprocess.run(["mount", "-o", "remount,ro", str(tiny)], check=True)
    with Store(tiny / "store") as store:
        assert store.check(info.path) == info
        with pytest.raises(StoreError, match="cannot be written to"):
            add_text(store, tmp_path, "two")


# ---- dying -----------------------------------------------------------------------------------------

# Each child of the forking program dies by SIGKILL at its n-th step: every open, rename, chmod, utime,
# mkdir, unlink and listing of a folder raises an audit event, before the thing is done.
DYING = """
    import json, os, shutil, signal, sys
    from pathlib import Path
    from lockbuild.digest import store_path
    from lockbuild.store import Store

    root, source, fresh = (Path(argument) for argument in sys.argv[1:4])
    action = sys.argv[4]
    path = store_path(["test", "out"], "out")

    def work(store):
        if action == "add":
            store.add_folder(path, fresh)
        elif action == "remove":
            store.remove(path)
        else:
            store.unpacked(path, "rootfs.tar")

    def die_at(step):
        count = 0
        def hook(event, arguments):
            nonlocal count
            if event == "open" or event.startswith(("os.", "shutil.", "subprocess.")):
                count += 1
                if count == step:
                    os.kill(os.getpid(), signal.SIGKILL)
        sys.addaudithook(hook)

    for step in range(1, 2000):
        shutil.rmtree(fresh, ignore_errors=True)
        shutil.copytree(source, fresh, symlinks=True)
        if action != "add":
            with Store(root) as store:
                store.add_folder(path, fresh)
        child = os.fork()
        if child == 0:
            store = Store(root)
            die_at(step)
            work(store)
            os._exit(0)
        ended = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
        with Store(root) as store:
            damage = [str(found) for found in store.verify()]
            valid = store.info(path) is not None
            scratch = [name for name in os.listdir(root / "scratch")]
            if action == "unpack":
                tree = store.unpacked(path, "rootfs.tar")
                damage += [] if (tree / "etc" / "last").read_text() == "last" else ["half a tree"]
            store.forget_invalid()
            left = store.leftovers()
            if not valid:
                shutil.rmtree(fresh, ignore_errors=True)
                shutil.copytree(source, fresh, symlinks=True)
                store.add_folder(path, fresh)
            damage += [str(found) for found in store.verify()]
            store.remove(path)
        print(json.dumps([step, ended, valid, damage, scratch, left]), flush=True)
        if ended == 0:
            break
        assert ended == -signal.SIGKILL, ended
"""


def deaths(tmp_path: Path, action: str, source: Path) -> list[list[Any]]:
    child = in_child(DYING, tmp_path / "dying", source, tmp_path / "fresh", action)
    out, _ = child.communicate(timeout=300)
    assert child.returncode == 0
    return [json.loads(line) for line in out.splitlines()]


@pytest.mark.parametrize("action", ["add", "remove"])
def test_death_at_any_step_leaves_nothing_half_valid(tmp_path: Path, action: str) -> None:
    steps = deaths(tmp_path, action, sample_folder(tmp_path / "source"))
    assert len(steps) > 10
    assert steps[-1][1] == 0
    assert {(tuple(damage), tuple(scratch), tuple(left)) for *_, damage, scratch, left in steps} == {
        ((), (), ())
    }
    assert {valid for _, _, valid, *_ in steps} == {True, False}


def test_death_at_any_step_of_unpacking_leaves_no_half_tree(tmp_path: Path) -> None:
    rootfs_tar(tmp_path / "source" / "rootfs.tar")
    steps = deaths(tmp_path, "unpack", tmp_path / "source")
    assert len(steps) > 10
    assert steps[-1][1] == 0
    assert [damage for *_, damage, _, _ in steps if damage] == []


def test_two_processes_add_the_same_path(store: Store, tmp_path: Path) -> None:
    program = """
        import sys
        from pathlib import Path
        from lockbuild.digest import store_path
        from lockbuild.store import Store
        store = Store(Path(sys.argv[1]))
        sys.stdin.readline()
        print(store.add_folder(store_path(["test", "out"], "out"), Path(sys.argv[2])).sha256)
    """
    children = [in_child(program, store.root, sample_folder(tmp_path / name)) for name in ("one", "two")]
    for child in children:
        assert child.stdin is not None
        child.stdin.write("go\n")
        child.stdin.flush()
    answers = {child.communicate(timeout=60)[0].strip() for child in children}
    assert answers == {store.check(path_of("out")).sha256}
    assert store.leftovers() == ()


def test_threads_add_the_same_paths(store: Store, tmp_path: Path) -> None:
    def work(number: int) -> None:
        for name in ("a", "b", "c"):
            file = write(tmp_path / f"{number}" / name, name.encode())
            store.add_file(path_of(name), file, sha256=sha256_of(name.encode()))

    with ThreadPoolExecutor(6) as pool:
        list(pool.map(work, range(6)))
    assert len(store.paths()) == 3
    assert list(store.verify()) == []


# ---- scratch and locks -----------------------------------------------------------------------------


def test_scratch_is_on_the_store_and_removed(store: Store) -> None:
    with store.scratch("build") as folder:
        assert list(folder.iterdir()) == []
        assert folder.stat().st_dev == store.root.stat().st_dev
        inner = write(folder / "locked" / "file").parent
        inner.chmod(0o500)
    assert list((store.root / "scratch").iterdir()) == []


def test_scratch_is_removed_after_an_error(store: Store) -> None:
    with pytest.raises(ZeroDivisionError), store.scratch("build"):
        _ = 1 / 0
    assert list((store.root / "scratch").iterdir()) == []


def test_scratch_with_files_of_other_users_is_removed(store: Store) -> None:
    if os.geteuid() != 0:
        needs.missing("making files of another user needs root")
    with store.scratch("build") as folder:
        write(folder / "theirs" / "file", mode=0o400)
        os.chown(folder / "theirs", 12345, 12345)
        os.chown(folder / "theirs" / "file", 12345, 12345)
    assert list((store.root / "scratch").iterdir()) == []


def test_read_only_folders_are_removed_by_a_user() -> None:
    as_user(
        """
        write(Path("build/a/b/file"))
        for folder in ("build/a/b", "build/a", "build"):
            Path(folder).chmod(0o555)
        remove_tree(Path("build"))
        assert not Path("build").exists()
        """
    )


def test_scratch_of_a_dead_process_is_swept_and_that_of_a_living_one_is_not(store: Store) -> None:
    program = """
        import sys
        from pathlib import Path
        from lockbuild.store import Store
        with Store(Path(sys.argv[1])).scratch("theirs") as folder:
            (folder / "file").write_text("x")
            print(folder, flush=True)
            sys.stdin.read()
    """
    with in_child(program, store.root) as child:
        assert child.stdout is not None
        folder = Path(child.stdout.readline().strip())
        Store(store.root).close()
        assert folder.exists()
        child.kill()
    Store(store.root).close()
    assert list((store.root / "scratch").iterdir()) == []


def test_nothing_is_removed_through_a_mount(tmp_path: Path) -> None:
    inner = tmp_path / "scratch" / "inner"
    inner.parent.mkdir()
    for folder in mounted(inner, "size=64k"):
        write(folder / "precious")
        with pytest.raises(StoreError, match="is mounted there"):
            remove_tree(tmp_path / "scratch")
        assert (folder / "precious").exists()


def test_lock_keeps_others_out_and_says_who_holds_it(store: Store) -> None:
    program = """
        import sys
        from pathlib import Path
        from lockbuild.digest import store_path
        from lockbuild.store import Store
        def waiting(who):
            print("waiting for", who, flush=True)
        with Store(Path(sys.argv[1])).lock(store_path(["test", "x"], "x"), waiting):
            print("held", flush=True)
    """
    with store.lock(path_of("x")):
        child = in_child(program, store.root)
        assert child.stdout is not None
        assert f"waiting for process {os.getpid()} on" in child.stdout.readline()
    assert child.communicate(timeout=60)[0] == "held\n"
    assert list((store.root / "locks").iterdir()) == []


def test_lock_has_one_holder_at_a_time(store: Store, tmp_path: Path) -> None:
    count = write(tmp_path / "count", b"0")

    def work(_: int) -> None:
        for _ in range(40):
            with store.lock(path_of("x")):
                count.write_text(str(int(count.read_text()) + 1))

    with ThreadPoolExecutor(8) as pool:
        list(pool.map(work, range(8)))
    assert count.read_text() == "320"


def test_lock_of_a_dead_process_is_free(store: Store) -> None:
    program = """
        import os, signal, sys
        from pathlib import Path
        from lockbuild.digest import store_path
        from lockbuild.store import Store
        with Store(Path(sys.argv[1])).lock(store_path(["test", "x"], "x")):
            os.kill(os.getpid(), signal.SIGKILL)
    """
    in_child(program, store.root).communicate(timeout=60)
    waited: list[str] = []
    with store.lock(path_of("x"), waited.append):
        assert waited == []


def test_who_holds_the_lock_can_add(store: Store, tmp_path: Path) -> None:
    with store.lock(path_of("one")):
        assert add_text(store, tmp_path, "one").path in store.paths()


# ---- unpacking -------------------------------------------------------------------------------------


def rootfs_tar(file: Path) -> Path:
    file.parent.mkdir(parents=True, exist_ok=True)
    with tarfile.open(file, "w") as archive:

        def add(name: str, data: bytes = b"", **fields: object) -> None:
            member = tarfile.TarInfo(name)
            member.size = len(data)
            for field, value in fields.items():
                setattr(member, field, value)
            archive.addfile(member, io.BytesIO(data))

        add("./", type=tarfile.DIRTYPE, mode=0o755)
        add("./usr", type=tarfile.DIRTYPE, mode=0o755)
        add("./bin", type=tarfile.SYMTYPE, linkname="usr/bin")
        add("./usr/bin", type=tarfile.DIRTYPE, mode=0o755)
        add("./usr/bin/su", b"#!", mode=0o4755)
        add("./usr/theirs", b"x", mode=0o644, uid=1234, gid=1234)
        add("./dev", type=tarfile.DIRTYPE, mode=0o755)
        add("./dev/null", type=tarfile.CHRTYPE, devmajor=1, devminor=3, mode=0o666)
        add("./etc", type=tarfile.DIRTYPE, mode=0o555)
        add("./etc/last", b"last", mode=0o644)
    return file


def rootfs(store: Store, tmp_path: Path) -> StorePath:
    rootfs_tar(tmp_path / "out" / "rootfs.tar")
    return store.add_folder(path_of("rootfs"), tmp_path / "out").path


def test_tar_is_unpacked_once(store: Store, tmp_path: Path) -> None:
    path = rootfs(store, tmp_path)
    tree = store.unpacked(path, "rootfs.tar")
    assert (tree / "bin" / "su").read_bytes() == b"#!"
    inode = (tree / "etc" / "last").stat().st_ino
    assert store.unpacked(path, "rootfs.tar") == tree
    assert (tree / "etc" / "last").stat().st_ino == inode


def test_unpacked_tree_is_closed_to_other_users_and_has_no_devices(store: Store, tmp_path: Path) -> None:
    tree = store.unpacked(rootfs(store, tmp_path), "rootfs.tar")
    assert stat.S_IMODE((store.root / "unpacked").stat().st_mode) == 0o700
    assert list((tree / "dev").iterdir()) == []


def test_unpacking_as_root_keeps_owners(store: Store, tmp_path: Path) -> None:
    if os.geteuid() != 0:
        needs.missing("keeping owners needs root")
    tree = store.unpacked(rootfs(store, tmp_path), "rootfs.tar")
    assert (tree / "usr" / "theirs").stat().st_uid == 1234


def test_user_without_rights_adds_unpacks_and_removes(tmp_path: Path) -> None:
    archive = rootfs_tar(tmp_path / "rootfs.tar").read_bytes()
    with tempfile.NamedTemporaryFile() as file:
        file.write(archive)
        file.flush()
        Path(file.name).chmod(0o644)
        as_user(
            f"""
            write(Path("out/inner/file"))
            Path("out/rootfs.tar").write_bytes(Path({file.name!r}).read_bytes())
            store, path = Store(Path("store")), store_path(["test", "out"], "out")
            store.add_folder(path, Path("out"))
            tree = store.unpacked(path, "rootfs.tar")
            assert (tree / "usr/bin/su").stat().st_mode & 0o7777 == 0o555
            assert (tree / "etc/last").stat().st_mode & 0o7777 == 0o444
            assert (tree / "usr").stat().st_mode & 0o7777 == 0o555
            assert (tree / "usr/theirs").stat().st_uid == os.getuid()
            store.check(path)
            store.collect()
            assert store.paths() == () and store.leftovers() == ()
            assert not tree.exists()
            """
        )


def test_interrupted_unpacking_starts_anew(store: Store, tmp_path: Path) -> None:
    path = rootfs(store, tmp_path)
    half = write(store.root / "unpacked" / path / "rootfs.tar" / "half")
    tree = store.unpacked(path, "rootfs.tar")
    assert not half.exists()
    assert (tree / "etc" / "last").exists()


def test_damaged_tar_is_not_unpacked(store: Store, tmp_path: Path) -> None:
    path = rootfs(store, tmp_path)
    archive = store.locate(path) / "rootfs.tar"
    archive.chmod(0o644)
    archive.write_bytes(archive.read_bytes().replace(b"last", b"lost"))
    with pytest.raises(StoreError, match="damaged"):
        store.unpacked(path, "rootfs.tar")


def test_what_is_no_tar_is_refused_with_tars_words(store: Store, tmp_path: Path) -> None:
    write(tmp_path / "out" / "rootfs.tar", b"no tar" * 1000)
    path = store.add_folder(path_of("rootfs"), tmp_path / "out").path
    with pytest.raises(StoreError, match="`tar` ended with") as caught:
        store.unpacked(path, "rootfs.tar")
    assert any("tar" in line for line in caught.value.details)
    assert not (store.root / "unpacked" / path / "rootfs.tar").exists()


def test_unpacking_needs_a_member_of_a_valid_object(store: Store, tmp_path: Path) -> None:
    with pytest.raises(StoreError, match="is not valid"):
        store.unpacked(path_of("absent"), "rootfs.tar")
    with pytest.raises(StoreError, match="holds no file `other`"):
        store.unpacked(rootfs(store, tmp_path), "other")


# ---- garbage ---------------------------------------------------------------------------------------


def test_collect_keeps_the_closure_of_roots_and_of_what_is_named(store: Store, tmp_path: Path) -> None:
    deep = add_text(store, tmp_path, "deep").path
    middle = add_text(store, tmp_path, "middle", deep).path
    top = add_text(store, tmp_path, "top", middle).path
    named = add_text(store, tmp_path, "named").path
    dead = add_text(store, tmp_path, "dead", deep).path
    store.set_root("cu113", Root(paths=(top,)))
    assert store.collect([named], dry_run=True).paths == (dead,)
    collected = store.collect([named])
    assert (collected.paths, collected.size) == ((dead,), 4)
    assert set(store.paths()) == {deep, middle, top, named}


def test_collect_removes_what_belongs_to_an_object(store: Store, tmp_path: Path) -> None:
    path = rootfs(store, tmp_path)
    store.unpacked(path, "rootfs.tar")
    write(store.log_file(path))
    write(store.log_file(path).with_suffix(".check.log"))
    write(store.log_file(path_of("failed")))
    write(store.locate(path_of("half")))
    store.collect()
    files = [p for p in store.root.rglob("*") if not p.is_dir() and p.name != "lockbuild-store"]
    assert files == []


def test_collect_keeps_logs_of_what_roots_need(store: Store) -> None:
    store.set_root("cu113", Root(paths=(path_of("failed"),)))
    image = store.root / "logs" / "image-cu113.log"
    logs = {write(store.log_file(path_of("failed"))), write(image)}
    store.collect()
    assert {*(store.root / "logs").iterdir()} == logs


def test_collect_is_refused_while_another_run_uses_the_store(store: Store, tmp_path: Path) -> None:
    path = add_text(store, tmp_path, "one").path
    with Store(store.root), pytest.raises(StoreError, match="in use by another run"):
        store.collect()
    assert store.paths() == (path,)
    assert store.collect().paths == (path,)


def test_root_is_replaced_and_forgotten(store: Store) -> None:
    store.set_root("cu113", Root(paths=(path_of("b"), path_of("a"), path_of("a"))))
    assert store.roots() == {"cu113": Root(paths=tuple(sorted([path_of("a"), path_of("b")])))}
    root = Root(paths=(path_of("c"),), folder="/stacks of\nmine/cu113")
    store.set_root("cu113", root)
    assert store.roots() == {"cu113": root}
    store.remove_root("cu113")
    assert store.roots() == {}


def test_roots_tell_what_each_keeps_alone(store: Store, tmp_path: Path) -> None:
    shared = add_text(store, tmp_path, "shared").path
    here = add_text(store, tmp_path, "here", shared).path
    there = add_text(store, tmp_path, "there!", shared).path
    store.set_root("here", Root(paths=(here,), folder=str(tmp_path)))
    gone = Root(paths=(there, path_of("not made yet")), folder=str(tmp_path / "no more"))
    store.set_root("there", gone)
    first, second = store.kept()
    assert first == Kept(name="here", folder=str(tmp_path), objects=2, size=10, alone=4)
    assert (second.objects, second.size, second.alone) == (2, 12, 6)
    assert (first.gone, second.gone) == (False, True)
    assert not Kept(name="old", folder=None, objects=0, size=0, alone=0).gone


def test_collect_forgets_roots_that_are_named(store: Store, tmp_path: Path) -> None:
    one = add_text(store, tmp_path, "one").path
    other = add_text(store, tmp_path, "other").path
    store.set_root("one", Root(paths=(one,)))
    store.set_root("other", Root(paths=(other,)))
    store.history.keep_realised("one", {"wheel one": one})
    store.history.keep_realised("other", {"wheel other": other})
    assert store.collect(without=["one"], dry_run=True).paths == (one,)
    assert list(store.roots()) == ["one", "other"]
    assert store.collect(without=["one"]).paths == (one,)
    assert list(store.roots()) == ["other"]
    assert store.history.realised("one") == {}
    assert store.history.realised("other") == {"wheel other": other}


@pytest.mark.parametrize("name", ["", "../x", ".hidden", "a/b"])
def test_root_with_a_name_that_is_no_file_name_is_refused(store: Store, name: str) -> None:
    with pytest.raises(ValueError, match="not a name for a root"):
        store.set_root(name, Root(paths=()))


def test_damaged_root_stops_collecting(store: Store, tmp_path: Path) -> None:
    path = add_text(store, tmp_path, "one").path
    (store.root / "roots" / "cu113").write_text("what\n")
    with pytest.raises(StoreError, match="root `cu113`"):
        store.collect()
    assert store.paths() == (path,)


def test_entry_is_listed_by_path() -> None:
    entries = [Entry(path=name, kind="file", content=Sha256("0" * 64)) for name in ("b", "a/x", "a")]
    assert listing_text(entries) == listing_text(sorted(entries, key=lambda e: e.path))


def test_disk_that_fills_up_during_the_work_is_said_in_words(tiny: Path) -> None:
    with Store(tiny / "store") as store:
        with pytest.raises(StoreError, match="no space is left"), store.scratch("work") as folder:
            (folder / "file").write_bytes(bytes(1_000_000))
        assert [*(tiny / "store" / "scratch").iterdir()] == []


def test_other_faults_of_the_work_keep_their_words(tmp_path: Path) -> None:
    with Store(tmp_path / "store") as store, pytest.raises(FileNotFoundError):  # noqa: SIM117 - in this order
        with store.scratch("work") as folder:
            (folder / "absent").read_bytes()
