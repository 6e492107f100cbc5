"""Index pages, the files they name, sdists and sizes."""

from __future__ import annotations

import base64
import hashlib
import json
from typing import TYPE_CHECKING

import pytest

from lockbuild.derivation import Fetch, IndexFile
from lockbuild.errors import FetchError, ResolveError
from lockbuild.progress import Silent
from lockbuild.sources import Mirrors, fetch, project_files, sdist, sizes
from lockbuild.sources.index import parse_page
from tests.fetching import (
    DATA,
    LIMITS,
    PATH,
    SIZE,
    failure,
    get,
    has_data,
    own_environment,
    served_folder,
    wanted,
)
from tests.servers.faulty import Fault, FaultyServer, faulty_server

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path


@pytest.fixture(autouse=True)
def _own_environment(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    own_environment(monkeypatch, tmp_path / "home")


@pytest.fixture
def root(tmp_path: Path) -> Path:
    return served_folder(tmp_path)


@pytest.fixture
def into(tmp_path: Path) -> Path:
    return tmp_path / "into"


# ---- index pages -------------------------------------------------------------------------------------

WHEEL = "demo-1.0-py3-none-any.whl"
SDIST = "demo-1.0.tar.gz"


def index_root(root: Path, page: str, files: Sequence[str] = (WHEEL, SDIST)) -> Path:
    (root / "simple" / "demo").mkdir(parents=True)
    (root / "simple" / "demo" / "index.html").write_text(page, encoding="utf-8")
    (root / "files").mkdir()
    for name in files:
        (root / "files" / name).write_bytes(DATA)
    return root


def links(*names: str, fragment: str = "") -> str:
    return "<!DOCTYPE html>" + "".join(f'<a href="../../files/{n}{fragment}">{n}</a>' for n in names)


def indexes(server: FaultyServer) -> Mirrors:
    return Mirrors(indexes=(("pypi", (f"{server.url}/simple",)),))


def wheel(url: str | None = None, index: str = "pypi", name: str = WHEEL) -> Fetch:
    return wanted(name=name, where=IndexFile(index=index, project="demo", url=url))


def test_index_file_is_found_on_the_projects_page(root: Path, into: Path) -> None:
    with faulty_server(index_root(root, links(WHEEL))) as server:
        assert has_data(get(wheel(), into, indexes(server)))


def test_index_that_the_stack_names_needs_no_configuration(root: Path, into: Path) -> None:
    with faulty_server(index_root(root, links(WHEEL))) as server:
        assert has_data(get(wheel(f"{server.url}/simple/", index="own"), into, Mirrors()))


def test_index_in_a_local_folder_works(root: Path, into: Path) -> None:
    index_root(root, links(WHEEL))
    mirrors = Mirrors(indexes=(("pypi", ((root / "simple").as_uri(),)),))
    assert has_data(get(wheel(), into, mirrors))


def test_page_is_asked_for_once_for_all_files_of_a_project(root: Path, into: Path) -> None:
    index_root(root, links(WHEEL, "demo-1.0-cp311-cp311-linux_x86_64.whl"))
    other = b"other"
    (root / "files" / "demo-1.0-cp311-cp311-linux_x86_64.whl").write_bytes(other)
    where = IndexFile(index="pypi", project="demo")
    fetches = [wheel(), wanted(other, name="demo-1.0-cp311-cp311-linux_x86_64.whl", where=where)]
    with faulty_server(root) as server:
        ended = list(fetch(fetches, into=into, mirrors=indexes(server), progress=Silent()))
        assert [one.error for one in ended] == [None, None]
        assert len(server.asked("/simple/demo/")) == 1


def test_index_that_serves_other_bytes_is_not_downloaded_from(root: Path, into: Path) -> None:
    page = links(WHEEL, fragment=f"#sha256={'0' * 64}")
    with faulty_server(index_root(root, page)) as server:
        error = failure(wheel(), into, indexes(server))
        assert server.asked(f"/files/{WHEEL}") == []
    assert error.details == (
        f"{server.url}/simple/demo/: the index now serves other bytes",
        f"  expected sha256 {wheel().sha256}",
        f"  found    sha256 {'0' * 64}",
    )


def test_file_gone_from_the_index_is_told(root: Path, into: Path) -> None:
    with faulty_server(index_root(root, links(SDIST))) as server:
        error = failure(wheel(), into, indexes(server))
    assert error.details == (f"{server.url}/simple/demo/: the project's page does not list this file",)
    assert error.hint is not None
    assert "indexes.pypi" in error.hint


def test_page_from_the_network_cannot_name_a_file_of_this_machine(root: Path, into: Path) -> None:
    page = f'<html><a href="{(root / "files" / WHEEL).as_uri()}">{WHEEL}</a>'
    with faulty_server(index_root(root, page)) as server:
        error = failure(wheel(), into, indexes(server))
    assert "does not list" in error.details[0]


def test_page_that_is_no_index_page_is_told(root: Path, into: Path) -> None:
    with faulty_server(index_root(root, "Service temporarily off")) as server:
        error = failure(wheel(), into, indexes(server))
    assert error.details[0].endswith(": not an index page: neither HTML nor JSON")


def test_page_that_is_nested_without_end_is_told(root: Path, into: Path) -> None:
    with faulty_server(index_root(root, '{"files":' + "[" * 100_000)) as server:
        error = failure(wheel(), into, indexes(server))
    assert error.details[0].endswith(": not an index page: JSON that is nested too deeply")


def test_html_page_gives_every_field() -> None:
    page = f"""<!DOCTYPE html><html><head><base href="https://files.invalid/x/"></head><body>
    <a href="../p/demo-1.0%2Bcu113.tar.gz#sha256={"A" * 64}" data-yanked="broken &amp; old"
       data-upload-time="2024-01-02T03:04:05Z">demo-1.0+cu113.tar.gz</a>
    <a href="b.whl" data-yanked data-dist-info-metadata="true">b.whl</a></body></html>"""
    first, second = parse_page(page.encode(), url="https://index.invalid/simple/demo/")
    assert first.filename == "demo-1.0+cu113.tar.gz"
    assert first.url == "https://files.invalid/p/demo-1.0%2Bcu113.tar.gz"
    assert first.sha256 == "a" * 64
    assert first.yanked == "broken & old"
    assert first.upload_time == "2024-01-02T03:04:05Z"
    assert (second.url, second.sha256, second.yanked) == ("https://files.invalid/x/b.whl", None, "")


def test_json_page_gives_every_field() -> None:
    entry = {
        "filename": "demo-1.0.tar.gz",
        "url": "../../p/demo-1.0.tar.gz#x",
        "hashes": {"sha256": "b" * 64},
        "size": 12,
        "yanked": "old",
        "upload-time": "2024-01-02T03:04:05Z",
    }
    body = json.dumps({"meta": {"api-version": "1.1"}, "name": "demo", "files": [entry, {"odd": 1}]})
    (file,) = parse_page(body.encode(), url="https://index.invalid/simple/demo/")
    assert (file.url, file.sha256) == ("https://index.invalid/p/demo-1.0.tar.gz", "b" * 64)
    assert (file.size, file.yanked, file.upload_time) == (12, "old", "2024-01-02T03:04:05Z")


def test_json_file_that_is_not_yanked_is_not() -> None:
    entry = {"filename": "a.whl", "url": "a.whl", "hashes": {}, "yanked": False}
    (file,) = parse_page(json.dumps({"files": [entry]}).encode(), url="https://i.invalid/simple/a/")
    assert (file.yanked, file.sha256) == (None, None)


@pytest.mark.parametrize(
    ("body", "claimed"),
    [
        (links(WHEEL), "application/vnd.pypi.simple.v1+json"),
        (json.dumps({"files": [{"filename": WHEEL, "url": f"../../files/{WHEEL}"}]}), "text/html"),
    ],
    ids=["html-as-json", "json-as-html"],
)
def test_mislabelled_page_is_read_for_what_it_is(root: Path, body: str, claimed: str) -> None:
    index_root(root, body)
    label = Fault(headers=(("Content-Type", claimed),))
    with faulty_server(root, {"/simple/demo/": label}) as server:
        (file,) = project_files("Demo", mirrors=indexes(server), limits=LIMITS)
    assert (file.filename, file.url) == (WHEEL, f"{server.url}/files/{WHEEL}")


def test_links_are_relative_to_where_the_page_was_redirected(root: Path) -> None:
    index_root(root, links(WHEEL))
    moved = Fault(kind="redirect", location="/simple/demo/")
    with faulty_server(root, {"/old/x/y/demo/": moved}) as server:
        mirrors = Mirrors(indexes=(("pypi", (f"{server.url}/old/x/y",)),))
        (file,) = project_files("demo", mirrors=mirrors)
        assert file.url == f"{server.url}/files/{WHEEL}"


def test_credentials_of_an_index_hold_for_its_files(root: Path, into: Path) -> None:
    index_root(root, links(WHEEL))
    credentials = "Basic " + base64.b64encode(b"us er:s3cret").decode()
    guarded = {path: Fault(credentials=credentials) for path in ("/simple/demo/", f"/files/{WHEEL}")}
    with faulty_server(root, guarded) as server:
        url = server.url.replace("://", "://us%20er:s3cret@")
        mirrors = Mirrors(indexes=(("pypi", (f"{url}/simple",)),))
        assert has_data(get(wheel(), into, mirrors))


# ---- sdists ------------------------------------------------------------------------------------------


def test_sdist_takes_the_indexs_hash(root: Path) -> None:
    page = links(WHEEL, SDIST, fragment=f"#sha256={'c' * 64}")
    with faulty_server(index_root(root, page)) as server:
        file, url = sdist("demo", "1.0.0", mirrors=indexes(server))
        assert server.asked(f"/files/{SDIST}") == []
    assert (file.filename, file.sha256, url) == (SDIST, "c" * 64, f"{server.url}/files/{SDIST}")


def test_sdist_without_a_hash_is_downloaded_and_hashed(root: Path) -> None:
    with faulty_server(index_root(root, links(SDIST))) as server:
        file, _ = sdist("demo", "1.0", mirrors=indexes(server))
    assert (file.sha256, file.size) == (hashlib.sha256(DATA).hexdigest(), SIZE)


def test_sdist_without_a_hash_in_a_local_folder_is_hashed(root: Path) -> None:
    index_root(root, links(SDIST))
    file, _ = sdist("demo", "1.0", index="own", url=(root / "simple").as_uri(), mirrors=Mirrors())
    assert (file.sha256, file.size) == (hashlib.sha256(DATA).hexdigest(), SIZE)


def test_sdist_of_an_old_style_name_is_found(root: Path) -> None:
    page = '<html><a href="mmcv-full-1.7.1.tar.gz">x</a>'
    index_root(root, page)
    (root / "simple" / "demo").rename(root / "simple" / "mmcv-full")
    (root / "simple" / "mmcv-full" / "mmcv-full-1.7.1.tar.gz").write_bytes(DATA)
    with faulty_server(root) as server:
        file, _ = sdist("mmcv_full", "1.7.1", mirrors=indexes(server))
    assert file.filename == "mmcv-full-1.7.1.tar.gz"


def test_absent_sdist_names_those_there_are(root: Path) -> None:
    index_root(root, links(WHEEL, SDIST, "demo-2.0.tar.gz"))
    expected = pytest.raises(ResolveError, match=r"no sdist of `demo==1\.5`")
    with faulty_server(root) as server, expected as caught:
        sdist("demo", "1.5", mirrors=indexes(server))
    assert caught.value.hint == "there are sdists of 1.0, 2.0"


def test_yanked_sdist_is_refused_with_the_reason(root: Path) -> None:
    page = f'<html><a data-yanked="broken" href="{SDIST}">x</a>'
    index_root(root, page)
    expected = pytest.raises(ResolveError, match="yanked from index `pypi`: broken")
    with faulty_server(root) as server, expected:
        sdist("demo", "1.0", mirrors=indexes(server))


def test_unknown_project_cannot_be_resolved(root: Path) -> None:
    with faulty_server(root) as server, pytest.raises(ResolveError, match="no project `demo`"):
        sdist("demo", "1.0", mirrors=indexes(server))


def test_index_that_does_not_answer_cannot_be_fetched() -> None:
    mirrors = Mirrors(indexes=(("pypi", ("http://127.0.0.1:9/simple",)),))
    with pytest.raises(FetchError, match="cannot be asked for `demo`"):
        sdist("demo", "1.0", mirrors=mirrors, limits=LIMITS)


# ---- sizes -------------------------------------------------------------------------------------------


@pytest.mark.parametrize("head", [True, False])
def test_size_is_told_with_and_without_head(root: Path, head: bool) -> None:
    with faulty_server(root, {PATH: Fault(head=head)}) as server:
        assert sizes([server.url + PATH], limits=LIMITS) == {server.url + PATH: SIZE}
        assert server.sent[PATH] <= 1


def test_size_that_nobody_tells_is_left_out(root: Path) -> None:
    with faulty_server(root, {"/x": Fault(length=False, ranges=False)}) as server:
        urls = [f"{server.url}/absent", server.url + PATH, (root / "absent").as_uri()]
        assert sizes(urls, limits=LIMITS) == {server.url + PATH: SIZE}


def test_size_of_a_local_file_is_its_own(root: Path) -> None:
    url = (root / PATH.lstrip("/")).as_uri()
    assert sizes([url]) == {url: SIZE}
