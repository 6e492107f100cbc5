"""Layers as one file system: what they make together, and what no layer may do."""

from __future__ import annotations

import io
import subprocess
import tarfile
from typing import TYPE_CHECKING

import pytest

from lockbuild.builders.layers import LayerFault, merge, settle, write_tar
from tests.images import Member, layer
from tests.needs import need

if TYPE_CHECKING:
    from pathlib import Path


def written(tmp_path: Path, *layers: bytes) -> list[Path]:
    paths = []
    for number, data in enumerate(layers):
        path = tmp_path / f"layer-{number}"
        path.write_bytes(data)
        paths.append(path)
    return paths


def merged(tmp_path: Path, *layers: bytes) -> dict[str, tarfile.TarInfo]:
    """Return path -> header of the tar that *layers* give, the top left out."""
    with tarfile.open(fileobj=io.BytesIO(packed(tmp_path, *layers))) as archive:
        return {info.name: info for info in archive if info.name != "."}


def packed(tmp_path: Path, *layers: bytes) -> bytes:
    paths = written(tmp_path, *layers)
    output = io.BytesIO()
    write_tar(merge(paths), paths, output)
    return output.getvalue()


def content(tmp_path: Path, name: str, *layers: bytes) -> bytes | None:
    with tarfile.open(fileobj=io.BytesIO(packed(tmp_path, *layers))) as archive:
        stream = archive.extractfile(name)
        return stream.read() if stream else None


def file(name: str, text: str = "x", **more: object) -> Member:
    return Member(name=name, content=text.encode(), **more)  # type: ignore[arg-type]


def test_upper_layers_replace_and_add(tmp_path: Path) -> None:
    lower = layer(Member(name="etc/"), file("etc/a", "old"), file("etc/b"))
    upper = layer(file("./etc/a", "new"), file("/opt/c"))
    assert sorted(merged(tmp_path, lower, upper)) == ["etc", "etc/a", "etc/b", "opt", "opt/c"]
    assert content(tmp_path, "etc/a", lower, upper) == b"new"


def test_a_whiteout_removes_a_file_or_a_whole_folder(tmp_path: Path) -> None:
    lower = layer(file("etc/a"), file("etc/b"), file("opt/deep/c"), file("opt/d"))
    upper = layer(file("etc/.wh.a", ""), file("opt/.wh.deep", ""), file("none/.wh.x", ""))
    assert sorted(merged(tmp_path, lower, upper)) == ["etc", "etc/b", "opt", "opt/d"]


def test_an_opaque_folder_hides_all_below_it_of_lower_layers_only(tmp_path: Path) -> None:
    lower = layer(file("opt/a"), file("opt/deep/b"))
    # Wherever it stands in its layer, it is about the layers below.
    upper = layer(file("opt/new"), file("opt/.wh..wh..opq", ""), file("opt/deep/c"))
    assert sorted(merged(tmp_path, lower, upper)) == ["opt", "opt/deep", "opt/deep/c", "opt/new"]


def test_a_whiteout_does_not_hide_what_its_own_layer_brings(tmp_path: Path) -> None:
    lower = layer(file("etc/a", "old"))
    upper = layer(file("etc/a", "new"), file("etc/.wh.a", ""))
    assert content(tmp_path, "etc/a", lower, upper) == b"new"


def test_a_file_takes_the_place_of_a_folder_and_the_reverse(tmp_path: Path) -> None:
    lower = layer(file("a/b"), file("c"))
    upper = layer(file("a"), Member(name="c/"))
    found = merged(tmp_path, lower, upper)
    assert sorted(found) == ["a", "c"]
    assert (found["a"].isreg(), found["c"].isdir()) == (True, True)


def test_a_folder_told_again_keeps_what_is_in_it(tmp_path: Path) -> None:
    lower = layer(Member(name="etc/", mode=0o755), file("etc/a"))
    upper = layer(Member(name="etc/", mode=0o700))
    found = merged(tmp_path, lower, upper)
    assert sorted(found) == ["etc", "etc/a"]
    assert found["etc"].mode == 0o700


def test_paths_go_through_links_and_stay_below_the_top(tmp_path: Path) -> None:
    lower = layer(
        Member(name="usr/lib/"),
        Member(name="lib", link="usr/lib"),
        Member(name="abs", link="/usr"),
        Member(name="out", link="../../../usr/lib"),
    )
    upper = layer(file("lib/a"), file("abs/b"), file("out/c"))
    found = merged(tmp_path, lower, upper)
    assert {"usr/lib/a", "usr/b", "usr/lib/c"} <= set(found)
    assert found["lib"].issym()


@pytest.mark.parametrize("name", ["../x", "a/../../x", "a/..", "/../x"])
def test_a_path_that_leads_out_is_refused(tmp_path: Path, name: str) -> None:
    with pytest.raises(LayerFault, match="leads out of the layer"):
        packed(tmp_path, layer(file(name)))


def test_links_in_a_circle_are_refused(tmp_path: Path) -> None:
    with pytest.raises(LayerFault, match="circle"):
        packed(tmp_path, layer(Member(name="a", link="b"), Member(name="b", link="a"), file("a/x")))


def test_hard_links_are_kept_across_layers(tmp_path: Path) -> None:
    lower = layer(file("a", "same"), Member(name="b", hard="a"))
    upper = layer(Member(name="c", hard="/a"), file("a", "other"))
    found = merged(tmp_path, lower, upper)
    assert found["a"].isreg()
    assert (found["b"].isreg(), found["c"].islnk(), found["c"].linkname) == (True, True, "b")
    assert content(tmp_path, "c", lower, upper) == b"same"


@pytest.mark.parametrize("target", ["none", "../../etc/passwd", "folder"])
def test_a_hard_link_to_no_file_is_refused(tmp_path: Path, target: str) -> None:
    with pytest.raises(LayerFault, match="hard link|leads out"):
        packed(tmp_path, layer(Member(name="folder/"), Member(name="a", hard=target)))


def test_devices_are_left_out_and_modes_and_owners_are_kept(tmp_path: Path) -> None:
    found = merged(
        tmp_path,
        layer(
            Member(name="dev/sda", kind=tarfile.BLKTYPE),
            Member(name="pipe", kind=tarfile.FIFOTYPE),
            file("su", mode=0o4755, owner=(0, 42)),
        ),
    )
    assert sorted(found) == ["pipe", "su"]
    assert (found["su"].mode, found["su"].gid) == (0o4755, 42)


def test_capabilities_are_kept_and_no_other_attribute(tmp_path: Path) -> None:
    attributes = {"security.capability": "\x01\x00\x00\x02\x00 \x00\x00", "user.note": "x"}
    found = merged(tmp_path, layer(file("ping", xattrs=attributes)))
    kept = {name for name in found["ping"].pax_headers if "xattr" in name}
    assert kept == {"SCHILY.xattr.security.capability"}


def test_what_every_root_has_is_there_and_nothing_of_devices(tmp_path: Path) -> None:
    paths = written(tmp_path, layer(file("dev/null"), Member(name="proc", link="/etc")))
    tree = merge(paths)
    settle(tree)
    names = {path for path, _ in tree.walk()}
    assert names == {"build", "dev", "proc", "run", "sys", "tmp"}
    assert tree.find("proc") is not None
    assert not tree.top.children["proc"].info.issym()  # type: ignore[index]


def test_a_damaged_layer_is_named(tmp_path: Path) -> None:
    data = layer(file("a", "x" * 5000))
    with pytest.raises(LayerFault, match="layer-0 cannot be read"):
        packed(tmp_path, data[:2000])


def test_layers_packed_with_zstd_are_read(tmp_path: Path) -> None:
    need("zstd")
    data = layer(file("a", "text"))
    squeezed = subprocess.run(["zstd", "-qc"], input=data, capture_output=True, check=True).stdout
    assert content(tmp_path, "a", squeezed) == b"text"


def test_gnu_tar_unpacks_it_as_it_is(tmp_path: Path) -> None:
    need("tar")
    data = packed(
        tmp_path,
        layer(Member(name="a/", mode=0o500), file("a/f", "text"), Member(name="l", link="a/f")),
        layer(Member(name="h", hard="a/f")),
    )
    folder = tmp_path / "out"
    folder.mkdir()
    subprocess.run(["tar", "-x", "--delay-directory-restore", "-C", folder], input=data, check=True)
    assert (folder / "l").read_text() == "text"
    assert (folder / "h").samefile(folder / "a/f")
    (folder / "a").chmod(0o700)
