"""Reading images layer by layer: every form of archive gives the same, and a damaged one a reason."""

from __future__ import annotations

import gzip
import hashlib
import io
import json
import tarfile
from typing import TYPE_CHECKING, Any

import pytest
from backports import zstd

from lockbuild.errors import ImageError
from lockbuild.image.archive import Reading, read_archive
from lockbuild.image.layers import Layer, LayerFile, Room, final, read_layer
from lockbuild.image.tarstream import Source
from tests.images import DOCKER, OCI, Member, config_text, described, layer, packed, write_layout

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence
    from pathlib import Path

    from lockbuild.image.layers import FileKind
    from lockbuild.image.manifests import LayeredImage

BELOW = layer(
    Member(name="bin", link="usr/bin"),
    Member(name="etc/"),
    Member(name="etc/config", content=b"one"),
    Member(name="etc/gone", content=b"deleted later"),
    Member(name="usr/bin/tool", content=b"tool", mode=0o4755, owner=(0, 7)),
    Member(name="usr/bin/same", hard="usr/bin/tool"),
    Member(name="data/a", content=b"a"),
    Member(name="data/b", content=b"b"),
    Member(name="dev/null", kind=tarfile.CHRTYPE),
)
ABOVE = layer(
    Member(name="etc/config", content=b"two"),
    Member(name="etc/.wh.gone", content=b""),
    Member(name="data/.wh..wh..opq", content=b""),
    Member(name="data/c", content=b"c"),
    Member(name="bin/more", content=b"through a link"),
    Member(name="long/" + "x" * 120 + "/" + "ä" * 90, content=b"long"),
    Member(name="ping", content=b"ping", xattrs={"security.capability": "\x01"}),
    Member(name="big", content=bytes(3_000_000)),
)
LAYERS = (BELOW, ABOVE)
MEGA = 1 << 20


def sha256(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()


def saved(
    file: Path,
    layers: Sequence[bytes] = LAYERS,
    *,
    links: bool = False,
    changes: Mapping[str, bytes] | None = None,
) -> Path:
    """Write what `docker save` writes, with some of its members replaced."""
    config = config_text(layers, env=["A=b=c"])
    names = [f"{number}/layer.tar" for number in range(len(layers))]
    manifest = [{"Config": f"{sha256(config)}.json", "RepoTags": ["a:1"], "Layers": names}]
    members: dict[str, bytes] = dict(zip(names, layers, strict=True))
    members |= {f"{sha256(config)}.json": config, "manifest.json": json.dumps(manifest).encode()}
    members |= changes or {}
    with tarfile.open(file, "w") as archive:
        for name, data in members.items():
            info = tarfile.TarInfo(name)
            if links and name == names[-1]:
                info.type, info.linkname = tarfile.SYMTYPE, f"../{names[0]}"
                archive.addfile(info)
                continue
            info.size = len(data)
            archive.addfile(info, io.BytesIO(data))
    return file


def layout_of(folder: Path, pack: Callable[[bytes], bytes], kind: str) -> Path:
    """Write an OCI layout whose layers are packed in some way."""
    blobs = folder / "blobs/sha256"
    blobs.mkdir(parents=True)

    def put(data: bytes, media_type: str) -> dict[str, Any]:
        table = described(data, media_type)
        (blobs / sha256(data)).write_bytes(data)
        return table

    manifest = {
        "schemaVersion": 2,
        "config": put(config_text(LAYERS, env=["A=b=c"]), OCI["config"]),
        "layers": [put(pack(data), f"{OCI['layer'].removesuffix('+gzip')}{kind}") for data in LAYERS],
    }
    entry = put(json.dumps(manifest).encode(), OCI["manifest"])
    (folder / "index.json").write_text(json.dumps({"schemaVersion": 2, "manifests": [entry]}))
    (folder / "oci-layout").write_text('{"imageLayoutVersion":"1.0.0"}')
    return folder


def tarred(folder: Path, file: Path) -> Path:
    with tarfile.open(file, "w") as archive:
        archive.add(folder, ".")
    return file


FORMS: dict[str, Callable[[Path], Path]] = {
    "docker save": lambda folder: saved(folder / "image.tar"),
    "docker save, packed": lambda folder: _packed(saved(folder / "image.tar")),
    "layout, gzip": lambda folder: layout_of(folder / "image", packed, "+gzip"),
    "layout, gzip in two": lambda folder: layout_of(folder / "image", _in_two, "+gzip"),
    "layout, plain": lambda folder: layout_of(folder / "image", bytes, ""),
    "layout, zstd": lambda folder: layout_of(folder / "image", zstd.compress, "+zstd"),
    "layout as a tar": lambda folder: tarred(
        layout_of(folder / "image", packed, "+gzip"), folder / "image.tar"
    ),
}


def _packed(file: Path) -> Path:
    file.write_bytes(gzip.compress(file.read_bytes(), 1))
    return file


def _in_two(data: bytes) -> bytes:
    return gzip.compress(data[:700]) + gzip.compress(data[700:])


@pytest.fixture(params=FORMS)
def image(request: pytest.FixtureRequest, tmp_path: Path) -> LayeredImage:
    return read_archive(FORMS[request.param](tmp_path), Reading(keep=lambda path: path == "etc/config"))


def listed(image: LayeredImage) -> dict[str, tuple[int, str]]:
    """Return path -> layer and content of what a program sees, folders left out."""
    return {
        path: (placed.layer, placed.file.content)
        for path, placed in final([one.content for one in image.layers]).items()
        if placed.file.kind != "folder"
    }


# ---- what is read ----------------------------------------------------------------------------------


def test_every_form_gives_the_same_files(image: LayeredImage) -> None:
    assert listed(image) == {
        "bin": (0, "usr/bin"),
        "big": (1, sha256(bytes(3_000_000))),
        "data/c": (1, sha256(b"c")),
        "dev/null": (0, ""),
        "etc/config": (1, sha256(b"two")),
        "long/" + "x" * 120 + "/" + "ä" * 90: (1, sha256(b"long")),
        "ping": (1, sha256(b"ping")),
        "usr/bin/more": (1, sha256(b"through a link")),
        "usr/bin/same": (0, sha256(b"tool")),
        "usr/bin/tool": (0, sha256(b"tool")),
    }


def test_what_a_later_layer_deletes_is_still_told(image: LayeredImage) -> None:
    below = {file.path: file.content for file in image.layers[0].content.files}
    assert below["etc/gone"] == sha256(b"deleted later")
    assert image.layers[1].content.removed == ("etc/gone",)
    assert image.layers[1].content.emptied == ("data",)


def test_owner_mode_and_capabilities_are_told(image: LayeredImage) -> None:
    files = {file.path: file for layer in image.layers for file in layer.content.files}
    tool = files["usr/bin/tool"]
    assert (tool.mode, tool.uid, tool.gid, tool.size, tool.privileged) == (0o4755, 0, 7, 4, True)
    assert files["usr/bin/same"].privileged
    assert files["ping"].capability
    assert not files["etc/config"].privileged


def test_configuration_and_digest_are_told(image: LayeredImage) -> None:
    assert image.env == (("A", "b=c"),)
    assert image.entrypoint == ("/entrypoint",)
    assert image.digest == f"sha256:{sha256(config_text(LAYERS, env=['A=b=c']))}"
    assert [one.diff_id for one in image.layers] == [f"sha256:{sha256(data)}" for data in LAYERS]


def test_texts_that_are_asked_for_are_kept_of_each_layer(image: LayeredImage) -> None:
    assert [one.content.texts for one in image.layers] == [
        {"etc/config": b"one"},
        {"etc/config": b"two"},
    ]


@pytest.mark.parametrize(
    ("size", "looked_at"),
    [
        (0, 0),
        (1, 1),
        (MEGA, MEGA),
        (2 * MEGA, 2 * MEGA),
        (2 * MEGA + 1, 2 * MEGA + 1),
        (5 * MEGA, 2 * MEGA + 1),
    ],
)
def test_files_are_looked_into_and_of_big_ones_the_ends(
    tmp_path: Path, size: int, looked_at: int
) -> None:
    data = (b"a" + b"." * (size - 2) + b"z")[:size]
    told = {}

    def look(path: str, digest: str, seen: bytes) -> tuple[str, ...]:
        assert digest == sha256(data)
        told[path] = seen
        return (path,)

    big = layer(Member(name="big", content=data))
    image = read_archive(saved(tmp_path / "image.tar", (big,)), Reading(look=look))
    (file,) = image.layers[0].content.files
    assert file.seen == (("big",) if size else ())
    seen = told.get("big", b"")
    assert len(seen) == looked_at
    assert (seen[:1], seen[-1:]) == (data[:1], data[-1:])


def test_what_a_layer_replaces_itself_is_told(tmp_path: Path) -> None:
    """The last counts, as where engines unpack it: here a file stands where a folder was, and nothing below it."""
    twice = layer(
        Member(name="a", content=b"first"),
        Member(name="a", content=b"second"),
        Member(name="a", content=b"third"),
        Member(name="b/"),
        Member(name="b/below", content=b"below"),
        Member(name="b", content=b"file"),
        Member(name="c/", owner=(1, 1)),
        Member(name="c/"),
        Member(name="d", content=b"same"),
        Member(name="d", content=b"same"),
    )
    image = read_archive(saved(tmp_path / "image.tar", (twice,)), Reading())
    (only,) = image.layers
    replaced = [(file.path, file.content) for file in only.content.replaced]
    assert replaced == [("a", sha256(b"first")), ("a", sha256(b"second"))]
    assert listed(image) == {
        "a": (0, sha256(b"third")),
        "b": (0, sha256(b"file")),
        "d": (0, sha256(b"same")),
    }


@pytest.mark.parametrize(
    ("data", "said"),
    [
        (layer(Member(name="etc/.wh.gone", content=b"key")), "'etc/.wh.gone' has content"),
        (layer(Member(name="etc/.wh..wh..opq", content=b"key")), "'etc/.wh..wh..opq' has content"),
        (layer(Member(name=".", content=b"key")), "'.' has content"),
        (BELOW + b"key", "there is something behind its end"),
    ],
    ids=["whiteout", "opaque whiteout", "the top", "behind its end"],
)
def test_a_layer_that_hides_bytes_is_refused(tmp_path: Path, data: bytes, said: str) -> None:
    with pytest.raises(ImageError, match=said):
        read_archive(saved(tmp_path / "image.tar", (data,)), Reading())


@pytest.mark.parametrize(
    "member",
    [Member(name="a", link="b/" * 400_000), Member(name="a", hard="b/" * 400_000)],
    ids=["symbolic", "hard"],
)
def test_a_link_of_more_than_a_path_is_refused(tmp_path: Path, member: Member) -> None:
    long = layer(member)
    with pytest.raises(ImageError, match="a path of more than 4,096 characters"):
        read_archive(saved(tmp_path / "image.tar", (long,)), Reading())


def test_links_that_lead_through_too_many_folders_are_refused() -> None:
    def entry(path: str, kind: FileKind = "file", content: str = "") -> LayerFile:
        return LayerFile(path, kind, 0o644, 0, 0, 0, content)

    links = [
        entry("d", "folder"),
        entry("one", "symlink", "d/../" * 800),
        entry("two", "symlink", "one/" * 200),
    ]
    below = [entry(f"two/{number}/file") for number in range(300)]
    with pytest.raises(ImageError, match="links lead through too many folders"):
        final([Layer(files=(*links, *below))])


def test_a_link_of_an_archive_leads_back_many_times(tmp_path: Path) -> None:
    file = saved(tmp_path / "image.tar", (ABOVE, ABOVE), links=True)
    with tarfile.open(file, "a", format=tarfile.PAX_FORMAT) as archive:
        info = tarfile.TarInfo("0/other")
        info.type, info.linkname = tarfile.SYMTYPE, "a/" * 160_000 + "../" * 160_000 + "layer.tar"
        archive.addfile(info)
    assert len(read_archive(file, Reading()).layers) == 2


def test_documents_of_an_archive_are_kept_up_to_a_limit(tmp_path: Path) -> None:
    """Which of them are an image's is known at the end of the archive."""
    documents = dict.fromkeys(map(str, range(5)), b"{" + b" " * (13 << 20))
    file = _begun_with(saved(tmp_path / "image.tar", (BELOW,)), documents)
    with pytest.raises(ImageError, match="with it all documents have more than 67,108,864 bytes"):
        read_archive(file, Reading())


def _begun_with(file: Path, documents: Mapping[str, bytes]) -> Path:
    """Put *documents* in front of an archive."""
    output = io.BytesIO()
    with tarfile.open(fileobj=output, mode="w") as archive:
        for name, data in documents.items():
            info = tarfile.TarInfo(name)
            info.size = len(data)
            archive.addfile(info, io.BytesIO(data))
        size = archive.offset
    file.write_bytes(output.getvalue()[:size] + file.read_bytes())
    return file


def test_texts_of_all_layers_are_kept_up_to_a_limit() -> None:
    room, two = Room(20), layer(Member(name="a", content=bytes(8)), Member(name="b", content=bytes(8)))
    assert read_layer(Source([two], "one"), keep=lambda path: path == "a", room=room).texts
    with pytest.raises(ImageError, match="two: `b` and others like it have more than"):
        read_layer(Source([two], "two"), keep=lambda _: True, room=room)


def test_an_image_of_too_many_layers_is_refused(tmp_path: Path) -> None:
    """Each may be the same one, and be looked at again."""
    count = 501
    config = json.dumps(
        {"rootfs": {"type": "layers", "diff_ids": [f"sha256:{sha256(BELOW)}"] * count}}
    ).encode()
    manifest = [{"Config": "config.json", "Layers": ["0/layer.tar"] * count}]
    changes = {"config.json": config, "manifest.json": json.dumps(manifest).encode()}
    with pytest.raises(ImageError, match="has 501 layers, at most 500 are read"):
        read_archive(saved(tmp_path / "image.tar", (BELOW,), changes=changes), Reading())


def test_layers_that_are_equal_are_there_once(tmp_path: Path) -> None:
    """Engines before 25 write a symbolic link for the second."""
    file = saved(tmp_path / "image.tar", (ABOVE, ABOVE), links=True)
    assert len(read_archive(file, Reading()).layers) == 2


@pytest.mark.parametrize(
    ("history", "labels"),
    [
        (
            [
                {"created_by": "ADD rootfs.tar / # buildkit"},
                {"created_by": "ENV A=b=c", "empty_layer": True},
                {"created_by": "/bin/sh -c #(nop) COPY a b"},
            ],
            ["1: ADD rootfs.tar /", "2: COPY a b"],
        ),
        ([{"created_by": "ADD rootfs.tar /"}], ["1", "2"]),
        ([], ["1", "2"]),
    ],
    ids=["whole", "of other layers", "none"],
)
def test_a_layer_is_called_by_what_made_it(
    tmp_path: Path, history: list[Any], labels: list[str]
) -> None:
    document = {**json.loads(config_text(LAYERS)), "history": history}
    file = reconfigured(tmp_path, document)
    assert [one.label for one in read_archive(file, Reading()).layers] == labels


def reconfigured(folder: Path, document: Mapping[str, Any]) -> Path:
    config = json.dumps(document).encode()
    name = f"{sha256(config)}.json"
    manifest = [{"Config": name, "Layers": ["0/layer.tar", "1/layer.tar"]}]
    return saved(
        folder / "image.tar", changes={name: config, "manifest.json": json.dumps(manifest).encode()}
    )


def test_an_index_of_several_machines_gives_the_one_that_is_asked_for(tmp_path: Path) -> None:
    folder = write_layout(tmp_path / "image", [BELOW])
    index = json.loads((folder / "index.json").read_text())
    (entry,) = index["manifests"]
    missing = {
        **entry,
        "digest": f"sha256:{'0' * 64}",
        "platform": {"os": "linux", "architecture": "arm64"},
    }
    made = {**missing, "platform": {"os": "unknown", "architecture": "unknown"}}
    here = {**entry, "platform": {"os": "linux", "architecture": "amd64"}}
    (folder / "index.json").write_text(
        json.dumps({"schemaVersion": 2, "manifests": [missing, here, made]})
    )
    assert len(read_archive(folder, Reading()).layers) == 1
    with pytest.raises(ImageError, match="lacks blobs/sha256/000"):
        read_archive(folder, Reading(architecture="arm64"))
    with pytest.raises(ImageError, match="holds 0 images for linux/s390x"):
        read_archive(folder, Reading(architecture="s390x"))


def test_an_image_with_several_names_is_one_image(tmp_path: Path) -> None:
    """`docker save a:1 a:2` has an entry for each name in `index.json`."""
    folder = write_layout(tmp_path / "image", [BELOW])
    index = json.loads((folder / "index.json").read_text())
    (entry,) = index["manifests"]
    names = [{**entry, "annotations": {"io.containerd.image.name": name}} for name in ("a:1", "a:2")]
    (folder / "index.json").write_text(json.dumps({"schemaVersion": 2, "manifests": names}))
    assert len(read_archive(folder, Reading()).layers) == 1


@pytest.mark.parametrize(
    "data",
    [b"[" + b" " * (17 << 20), packed(b"a bill of materials"), BELOW[:700], packed(BELOW)[:-20]],
    ids=["a large document", "packed text", "a tar that is cut", "a packed tar that is cut"],
)
def test_what_is_of_no_image_is_not_read(tmp_path: Path, data: bytes) -> None:
    """Bills of materials, signatures and layers for other machines lie beside an image's own."""
    folder = write_layout(tmp_path / "image", LAYERS)
    (folder / "blobs/sha256" / sha256(data)).write_bytes(data)
    assert listed(read_archive(folder, Reading()))["data/c"] == (1, sha256(b"c"))
    file = tarred(folder, tmp_path / "image.tar")
    assert listed(read_archive(file, Reading()))["data/c"] == (1, sha256(b"c"))


def test_another_name_of_a_file_has_its_text(tmp_path: Path) -> None:
    """uv links what it installs to its cache."""
    linked = layer(
        Member(name="cache/a.dist-info/METADATA", content=b"Name: a"),
        Member(name="venv/a.dist-info/METADATA", hard="cache/a.dist-info/METADATA"),
    )
    reading = Reading(keep=lambda path: path.endswith("/METADATA"))
    (one,) = read_archive(saved(tmp_path / "image.tar", (linked,)), reading).layers
    assert one.content.texts["venv/a.dist-info/METADATA"] == b"Name: a"


# ---- as engines read it ----------------------------------------------------------------------------


def raw(name: str, content: bytes, *, kind: bytes = tarfile.REGTYPE) -> bytes:
    """Return a member as it is named, also where no tool would name it so."""
    info = tarfile.TarInfo("x" * len(name))
    info.type, info.size = kind, len(content)
    block = bytearray(info.tobuf(tarfile.USTAR_FORMAT))
    block[: len(name)] = name.encode()
    block[148:156] = b" " * 8
    block[148:156] = b"%06o\0 " % sum(block)
    return bytes(block) + content + bytes(-len(content) % 512)


def said_before(**said: str) -> bytes:
    """Return a pax header for the member that follows."""
    lines = [f"{key}={value}\n" for key, value in said.items()]
    text = "".join(f"{len(line) + (2 if len(line) < 8 else 3)} {line}" for line in lines).encode()
    return raw("pax", text, kind=tarfile.XHDTYPE)


@pytest.mark.parametrize(
    "hiding",
    [
        raw("folder/", bytes(512)),
        said_before(path=""),
        said_before(path="harmless") + said_before(uid="1"),
        raw("pax", b"17 path=harmless\n", kind=tarfile.XGLTYPE),
    ],
    ids=[
        "the end of a tar in a file called as a folder",
        "an empty name",
        "a name in a header before the last",
        "a name for all that follows",
    ],
)
def test_nothing_is_hidden_from_who_reads_a_layer(tmp_path: Path, hiding: bytes) -> None:
    data = hiding + raw("evil", b"evil") + bytes(1024)
    (one,) = read_archive(saved(tmp_path / "image.tar", (data,)), Reading()).layers
    assert one.content.files[-1].path == "evil"


def test_a_name_in_two_parts_is_of_the_format_that_has_them(tmp_path: Path) -> None:
    block = bytearray(tarfile.TarInfo("evil").tobuf(tarfile.USTAR_FORMAT))
    block[263:265], block[345:353] = b"xx", b"harmless"
    block[148:156] = b" " * 8
    block[148:156] = b"%06o\0 " % sum(block)
    data = bytes(block) + bytes(1024)
    (one,) = read_archive(saved(tmp_path / "image.tar", (data,)), Reading()).layers
    assert [file.path for file in one.content.files] == ["evil"]


# ---- what is refused -------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("member", "said"),
    [
        (Member(name="/etc/passwd", content=b""), "leads out of it"),
        (Member(name="a/../../b", content=b""), "leads out of it"),
        (Member(name="a", hard="nowhere"), "is a hard link to `nowhere`"),
        (Member(name="a", hard="../b"), "leads out of it"),
        (Member(name="a", kind=b"V"), "a member of type 'V'"),
        (Member(name="/".join("x" * 5000), content=b""), "a path of more than 4,096 characters"),
        (Member(name="a", content=b"", xattrs={"x": "y" * (2 << 20)}), "a header of "),
    ],
    ids=["absolute", "upwards", "link to nothing", "link upwards", "kind", "long path", "long header"],
)
def test_a_hostile_layer_is_refused(tmp_path: Path, member: Member, said: str) -> None:
    with pytest.raises(ImageError, match=said):
        read_archive(saved(tmp_path / "image.tar", (layer(member),)), Reading())


def test_links_in_a_circle_are_refused(tmp_path: Path) -> None:
    circle = layer(
        Member(name="a", link="b"), Member(name="b", link="a"), Member(name="a/c", content=b"")
    )
    image = read_archive(saved(tmp_path / "image.tar", (circle,)), Reading())
    with pytest.raises(ImageError, match="links lead in a circle"):
        listed(image)


def test_a_sparse_file_is_refused(tmp_path: Path) -> None:
    info = tarfile.TarInfo("a")
    info.pax_headers = {"GNU.sparse.major": "1"}
    data = info.tobuf(tarfile.PAX_FORMAT) + bytes(1024)
    with pytest.raises(ImageError, match="is a sparse file"):
        read_archive(saved(tmp_path / "image.tar", (data,)), Reading())


def test_what_would_not_fit_into_memory_is_not_kept(tmp_path: Path) -> None:
    """A packed layer of a few megabytes may have a list of many gigabytes."""
    info = tarfile.TarInfo("METADATA")
    info.size = 300 << 20
    data = info.tobuf() + bytes(1024)
    file = saved(tmp_path / "image.tar", (data,))
    with pytest.raises(ImageError, match="more than 268,435,456 bytes, too many for lists"):
        read_archive(file, Reading(keep=lambda path: path == "METADATA"))


@pytest.mark.parametrize(
    ("name", "data", "said"),
    [
        ("0/layer.tar", BELOW[:-2000], "is not what the configuration names|cut short"),
        ("0/layer.tar", ABOVE, "is not what the configuration names"),
        ("0/layer.tar", b"{}", "or it is no tar"),
        ("0/layer.tar", BELOW[:100], "or it is no tar"),
        ("0/layer.tar", packed(BELOW)[:-20], "cut short|damaged"),
        ("0/layer.tar", packed(BELOW)[:40] + bytes(100), "damaged"),
        ("0/layer.tar", zstd.compress(BELOW)[:-20], "cut short|is not what"),
        ("0/layer.tar", BELOW[:512] + b"x" * 512 + BELOW[1024:], "damaged"),
        ("manifest.json", b"{", "manifest.json is no JSON"),
        ("manifest.json", b"[" * 100_000, "manifest.json is no JSON"),
        ("manifest.json", b"{}", "expected a list of tables"),
        ("manifest.json", b"[]", "holds 0 images"),
        ("manifest.json", b'[{"Config": "a"}, {"RepoTags": ["b:1"]}]', "holds 2 images: b:1"),
        ("manifest.json", b"[{}]", "its documents are damaged"),
        ("manifest.json", b'[{"Config": "nowhere", "Layers": []}]', "lacks nowhere"),
    ],
)
def test_a_damaged_archive_is_refused(tmp_path: Path, name: str, data: bytes, said: str) -> None:
    with pytest.raises(ImageError, match=said):
        read_archive(saved(tmp_path / "image.tar", changes={name: data}), Reading())


def test_a_configuration_of_another_digest_is_refused(tmp_path: Path) -> None:
    name = f"{sha256(config_text(LAYERS, env=['A=b=c']))}.json"
    forged = config_text(LAYERS, env=["A=forged"])
    with pytest.raises(ImageError, match="is damaged") as caught:
        read_archive(saved(tmp_path / "image.tar", changes={name: forged}), Reading())
    assert caught.value.details[0] == f"expected sha256 {name.removesuffix('.json')}"


@pytest.mark.parametrize("which", ["manifest", "config", "layer"])
def test_a_blob_of_another_digest_is_refused(tmp_path: Path, which: str) -> None:
    folder = write_layout(tmp_path / "image", [BELOW])
    index = json.loads((folder / "index.json").read_text())
    manifest = folder / "blobs" / index["manifests"][0]["digest"].replace(":", "/")
    document = json.loads(manifest.read_text())
    described_by = {"config": document["config"], "layer": document["layers"][0]}
    file = (
        manifest
        if which == "manifest"
        else folder / "blobs" / described_by[which]["digest"].replace(":", "/")
    )
    data = packed(ABOVE) if which == "layer" else file.read_bytes().replace(b"{", b"{ ", 1)
    file.write_bytes(data)
    with pytest.raises(ImageError, match="is damaged"):
        read_archive(folder, Reading())


def test_two_manifests_that_name_different_images_are_refused(tmp_path: Path) -> None:
    folder = write_layout(tmp_path / "image", [BELOW])
    config = config_text([ABOVE])
    (folder / "config.json").write_bytes(config)
    (folder / "layer.tar").write_bytes(ABOVE)
    (folder / "manifest.json").write_text('[{"Config": "config.json", "Layers": ["layer.tar"]}]')
    with pytest.raises(ImageError, match=r"`manifest.json` and `index.json` name different images"):
        read_archive(folder, Reading())


@pytest.mark.parametrize("cut", [0.3, 0.9])
def test_an_archive_that_is_cut_short_is_refused(tmp_path: Path, cut: float) -> None:
    file = saved(tmp_path / "image.tar")
    data = file.read_bytes()
    file.write_bytes(data[: int(len(data) * cut)])
    with pytest.raises(ImageError, match="cut short|holds no image|lacks"):
        read_archive(file, Reading())


@pytest.mark.parametrize(
    ("data", "said"),
    [
        (b"", "is no archive of an image"),
        (b"text" * 300, "is no archive"),
        (bytes(1024), "holds no image"),
    ],
    ids=["empty", "text", "zeros"],
)
def test_what_is_no_archive_is_refused(tmp_path: Path, data: bytes, said: str) -> None:
    file = tmp_path / "image.tar"
    file.write_bytes(data)
    with pytest.raises(ImageError, match=said):
        read_archive(file, Reading())


def test_a_file_that_is_not_there_is_told(tmp_path: Path) -> None:
    with pytest.raises(ImageError, match="cannot be read: No such file"):
        read_archive(tmp_path / "image.tar", Reading())


def test_docker_s_own_types_are_read(tmp_path: Path) -> None:
    folder = write_layout(tmp_path / "image", [BELOW])
    index = (folder / "index.json").read_text()
    (folder / "index.json").write_text(index.replace(OCI["manifest"], DOCKER["manifest"]))
    assert len(read_archive(folder, Reading()).layers) == 1
