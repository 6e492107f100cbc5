"""Both Python engines against a real index on loopback: one contract, the same answers."""

from __future__ import annotations

import importlib.metadata
import importlib.util
import os
import re
import subprocess
import sys
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import pytest

from lockbuild.errors import ResolveError, ToolMissing
from lockbuild.resolvers import (
    PythonAnswer,
    PythonQuestion,
    Stub,
    default_index,
    differences,
    pip_tools,
    uv,
)
from lockbuild.resolvers._python import cutoff
from lockbuild.stack import Index
from lockbuild.target import Target
from tests.needs import missing
from tests.servers.index import IndexServer, serve_index
from tests.wheels import make_wheel

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

# pip-compile resolves for the Python it runs under, so that is what all questions are for.
PYTHON = f"{sys.version_info.major}.{sys.version_info.minor}"
CP = f"cp{PYTHON.replace('.', '')}"
TARGET = Target(python=PYTHON, platform="linux_x86_64", glibc="2.36")
OLD, NEW = "2024-01-01T00:00:00Z", "2025-07-01T12:00:00Z"


@pytest.fixture(autouse=True)
def _unconfigured(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Take away whatever uv and pip are configured to do on this machine."""
    for name in list(os.environ):
        if re.match(r"(?i)UV_|PIP_|(all|https?|no)_proxy$|XDG_", name):
            monkeypatch.delenv(name)
    home = tmp_path / "home"
    home.mkdir()
    for name, value in {
        "HOME": str(home),
        "PIP_CONFIG_FILE": os.devnull,
        "PIP_RETRIES": "0",
        "UV_CONFIG_FILE": str(home / "uv.toml"),
        "UV_HTTP_RETRIES": "0",
        "XDG_CONFIG_DIRS": str(home / "etc"),
    }.items():
        monkeypatch.setenv(name, value)
    (home / "uv.toml").write_text("")


@pytest.fixture
def wheels(tmp_path: Path) -> Path:
    """Return the folder of the default index."""
    folder = tmp_path / "wheels"
    folder.mkdir()
    return folder


@pytest.fixture
def index(wheels: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[IndexServer]:
    """Serve the default index."""
    times = {f"dated-{v}-py3-none-any.whl": t for v, t in (("1.0", OLD), ("2.0", NEW))}
    yanked = {"withdrawn-1.0-py3-none-any.whl": "it deletes files"}
    with serve_index(wheels, upload_times=times, yanked=yanked) as server:
        monkeypatch.setenv("UV_DEFAULT_INDEX", server.url)
        yield server


def ask(
    engine: Any, work: Path, *requirements: str, target: Target = TARGET, **rest: Any
) -> PythonAnswer:
    """Put a question to *engine*, each time with a folder of its own."""
    folder = work / f"question-{len(list(work.glob('question-*')))}"
    folder.mkdir()
    options = {name: rest.pop(name) for name in ("interpreter", "offline") if name in rest}
    question = PythonQuestion(target=target, requirements=requirements, **rest)
    answer: PythonAnswer = engine.resolve(question, work=folder, **options)
    return answer


def pins(answer: PythonAnswer) -> dict[str, str]:
    return {package.name: package.version for package in answer.packages}


def graph(answer: PythonAnswer) -> dict[str, tuple[str, ...]]:
    return {package.name: package.dependencies for package in answer.packages}


def everything(error: ResolveError) -> str:
    return "\n".join((error.message, *error.details, error.hint or ""))


@pytest.fixture(params=["uv", "pip-tools"])
def engine(request: pytest.FixtureRequest) -> Any:
    """Return one engine after the other."""
    if request.param == "uv":
        return uv
    if importlib.util.find_spec("piptools") is None:
        missing("pip-tools is not installed beside lockbuild: pip install 'lockbuild[pip-tools]'")
    return pip_tools


@pytest.mark.usefixtures("index")
class TestPythonEngine:
    """What every Python engine must do."""

    def test_takes_the_newest_version(self, engine: Any, wheels: Path, tmp_path: Path) -> None:
        for version in ("1.0", "1.10", "1.9"):
            make_wheel(wheels, "a", version)
        assert pins(ask(engine, tmp_path, "a")) == {"a": "1.10"}

    def test_answers_with_file_hash_size_and_url(
        self, engine: Any, wheels: Path, index: IndexServer, tmp_path: Path
    ) -> None:
        wheel = make_wheel(wheels, "Some.Name", "1.0")
        answer = ask(engine, tmp_path, "some_name")
        (package,) = answer.packages
        assert package.wheel is not None
        assert (package.name, package.index, package.requested) == ("some-name", "pypi", True)
        assert (package.wheel.filename, package.wheel.size) == (wheel.name, wheel.stat().st_size)
        assert len(package.wheel.sha256) == 64
        assert answer.urls == ((wheel.name, index.url.replace("/simple", f"/files/{wheel.name}")),)

    def test_tells_who_requires_whom(self, engine: Any, wheels: Path, tmp_path: Path) -> None:
        make_wheel(wheels, "a", "1.0", requires=["b", "C_c"])
        make_wheel(wheels, "b", "1.0", requires=["c-c"])
        make_wheel(wheels, "c_c", "1.0")
        answer = ask(engine, tmp_path, "a")
        assert graph(answer) == {"a": ("b", "c-c"), "b": ("c-c",), "c-c": ()}
        assert [package.requested for package in answer.packages] == [True, False, False]

    def test_judges_markers_on_the_target(self, engine: Any, wheels: Path, tmp_path: Path) -> None:
        make_wheel(
            wheels,
            "a",
            "1.0",
            requires=[
                "windows; sys_platform == 'win32'",
                "linux; sys_platform == 'linux' and platform_machine == 'x86_64'",
                f"old; python_version < '{PYTHON}'",
                f"current; python_version >= '{PYTHON}'",
            ],
        )
        for name in ("windows", "linux", "old", "current"):
            make_wheel(wheels, name, "1.0")
        answer = ask(engine, tmp_path, "a", "old; python_version < '3'")
        assert pins(answer) == {"a": "1.0", "current": "1.0", "linux": "1.0"}
        assert graph(answer)["a"] == ("current", "linux")

    def test_follows_extras(self, engine: Any, wheels: Path, tmp_path: Path) -> None:
        requires = ["dx; extra == 'x'", "dy; extra == 'y'"]
        make_wheel(wheels, "a", "1.0", extras=["x", "y"], requires=requires)
        make_wheel(wheels, "user", "1.0", requires=["a[x]"])
        for name in ("dx", "dy"):
            make_wheel(wheels, name, "1.0")
        answer = ask(engine, tmp_path, "user")
        assert graph(answer) == {"a": ("dx",), "dx": (), "user": ("a",)}

    def test_takes_the_best_wheel_for_the_target(
        self, engine: Any, wheels: Path, tmp_path: Path
    ) -> None:
        tags = ("py3-none-any", f"{CP}-{CP}-manylinux_2_17_x86_64", f"{CP}-{CP}-manylinux_2_28_x86_64")
        for tag in (*tags, f"{CP}-{CP}-manylinux_2_17_aarch64"):
            make_wheel(wheels, "a", "1.0", tag=tag)
        (package,) = ask(engine, tmp_path, "a").packages
        assert package.wheel is not None
        assert package.wheel.filename == f"a-1.0-{CP}-{CP}-manylinux_2_28_x86_64.whl"

    def test_takes_a_stub_over_the_index(self, engine: Any, wheels: Path, tmp_path: Path) -> None:
        make_wheel(wheels, "Ext", "9.0", requires=["wrong"])
        make_wheel(wheels, "dep", "1.0")
        stub = Stub(name="Ext", version="1.0", requires=("dep",))
        answer = ask(engine, tmp_path, "ext", stubs=(stub,))
        assert graph(answer) == {"dep": (), "ext": ("dep",)}
        assert (answer.packages[1].version, answer.packages[1].index) == ("1.0", "")
        assert answer.packages[1].wheel is None

    def test_takes_a_stub_for_a_transitive_requirement(
        self, engine: Any, wheels: Path, tmp_path: Path
    ) -> None:
        make_wheel(wheels, "ext", "9.0")
        make_wheel(wheels, "app", "1.0", requires=["ext"])
        answer = ask(engine, tmp_path, "app", stubs=(Stub(name="ext", version="1.0"),))
        assert pins(answer) == {"app": "1.0", "ext": "1.0"}
        assert graph(answer)["app"] == ("ext",)

    def test_leaves_out_a_stub_that_nobody_requires(
        self, engine: Any, wheels: Path, tmp_path: Path
    ) -> None:
        make_wheel(wheels, "app", "1.0")
        assert pins(ask(engine, tmp_path, "app", stubs=(Stub(name="ext", version="1.0"),))) == {
            "app": "1.0"
        }

    def test_refuses_a_stub_of_another_version(self, engine: Any, wheels: Path, tmp_path: Path) -> None:
        make_wheel(wheels, "ext", "2.0")
        make_wheel(wheels, "app", "1.0", requires=["ext>=2"])
        with pytest.raises(ResolveError) as caught:
            ask(engine, tmp_path, "app", stubs=(Stub(name="ext", version="1.0"),))
        assert "ext" in everything(caught.value)

    def test_takes_what_an_index_serves_from_there_alone(
        self, engine: Any, wheels: Path, tmp_path: Path
    ) -> None:
        make_wheel(wheels, "torch", "9.0")
        make_wheel(wheels, "vision", "1.0", requires=["torch"])
        tag = f"{CP}-{CP}-manylinux_2_28_x86_64"
        make_wheel(tmp_path / "own", "torch", "2.0+cu1", tag=tag, requires=["dep"])
        make_wheel(tmp_path / "own", "dep", "9.0")
        make_wheel(wheels, "dep", "1.0")
        with serve_index(tmp_path / "own", form="html") as own:
            indexes = (Index(name="own", url=own.url, only=("torch", "unused")),)
            direct = ask(engine, tmp_path, "torch>=2", indexes=indexes)
            transitive = ask(engine, tmp_path, "vision", indexes=indexes)
        assert pins(direct) == {"dep": "1.0", "torch": "2.0+cu1"}
        assert pins(transitive) == {"dep": "1.0", "torch": "2.0+cu1", "vision": "1.0"}
        assert [p.index for p in transitive.packages] == ["pypi", "own", "pypi"]
        assert [p.requested for p in transitive.packages] == [False, False, True]

    def test_takes_a_transitive_package_that_only_its_index_has(
        self, engine: Any, wheels: Path, tmp_path: Path
    ) -> None:
        make_wheel(wheels, "vision", "1.0", requires=["torch==2.0+cu1"])
        make_wheel(tmp_path / "own", "torch", "2.0+cu1")
        with serve_index(tmp_path / "own") as own:
            indexes = (Index(name="own", url=own.url, only=("torch",)),)
            assert pins(ask(engine, tmp_path, "vision", indexes=indexes))["torch"] == "2.0+cu1"

    def test_an_override_replaces_every_requirement(
        self, engine: Any, wheels: Path, tmp_path: Path
    ) -> None:
        make_wheel(wheels, "a", "1.0", requires=["dep<2"])
        make_wheel(wheels, "dep", "1.0")
        make_wheel(wheels, "dep", "3.0")
        answer = ask(engine, tmp_path, "a", "dep==1.0", overrides=("dep==3.0",))
        assert pins(answer) == {"a": "1.0", "dep": "3.0"}
        assert graph(answer)["a"] == ("dep",)

    def test_a_constraint_bounds_what_is_required(
        self, engine: Any, wheels: Path, tmp_path: Path
    ) -> None:
        make_wheel(wheels, "a", "1.0", requires=["dep"])
        for version in ("1.0", "2.0"):
            make_wheel(wheels, "dep", version)
        answer = ask(engine, tmp_path, "a", constraints=("dep<2", "unused==5"))
        assert graph(answer) == {"a": ("dep",), "dep": ()}
        assert pins(answer)["dep"] == "1.0"

    def test_keeps_former_pins_that_fit(self, engine: Any, wheels: Path, tmp_path: Path) -> None:
        for name in ("a", "b"):
            for version in ("1.0", "2.0"):
                make_wheel(wheels, name, version)
        answer = ask(engine, tmp_path, "a", "b>1", preferences=(("a", "1.0"), ("b", "1.0")))
        assert pins(answer) == {"a": "1.0", "b": "2.0"}

    def test_exclude_newer_hides_later_files(self, engine: Any, wheels: Path, tmp_path: Path) -> None:
        _need_upload_times(engine)
        for version in ("1.0", "2.0"):
            make_wheel(wheels, "dated", version)
        assert pins(ask(engine, tmp_path, "dated", exclude_newer="2025-06-30")) == {"dated": "1.0"}
        assert pins(ask(engine, tmp_path, "dated", exclude_newer="2025-07-01")) == {"dated": "2.0"}

    def test_exclude_newer_that_hides_all_says_so(
        self, engine: Any, wheels: Path, tmp_path: Path
    ) -> None:
        _need_upload_times(engine)
        make_wheel(wheels, "dated", "2.0")
        with pytest.raises(ResolveError, match="exclude-newer = 2020-01-01.*`dated`") as caught:
            ask(engine, tmp_path, "dated", exclude_newer="2020-01-01")
        assert "later `exclude-newer`" in (caught.value.hint or "")

    def test_a_conflict_names_both_sides(self, engine: Any, wheels: Path, tmp_path: Path) -> None:
        make_wheel(wheels, "a", "1.0", requires=["dep<2"])
        make_wheel(wheels, "b", "1.0", requires=["dep>=2"])
        for version in ("1.0", "2.0"):
            make_wheel(wheels, "dep", version)
        with pytest.raises(ResolveError, match="cannot be met together") as caught:
            ask(engine, tmp_path, "a", "b")
        assert re.search(r"dep\s?<2", everything(caught.value))
        assert re.search(r"dep\s?>=2", everything(caught.value))
        assert str(tmp_path) not in everything(caught.value)

    def test_a_missing_package_is_named(self, engine: Any, wheels: Path, tmp_path: Path) -> None:
        make_wheel(wheels, "a", "1.0", requires=["nosuch"])
        with pytest.raises(ResolveError, match="index `pypi` has no package `nosuch`"):
            ask(engine, tmp_path, "a")

    def test_a_missing_version_is_named(self, engine: Any, wheels: Path, tmp_path: Path) -> None:
        make_wheel(wheels, "a", "1.0")
        with pytest.raises(ResolveError, match="no version of `a` that fits `a==9`"):
            ask(engine, tmp_path, "a==9")

    def test_a_package_without_a_fitting_wheel_belongs_under_build(
        self, engine: Any, wheels: Path, tmp_path: Path
    ) -> None:
        make_wheel(wheels, "ext", "1.0", tag="cp27-cp27mu-manylinux_2_17_x86_64")
        with pytest.raises(ResolveError, match=r"`ext 1\.0` has no wheel for the target") as caught:
            ask(engine, tmp_path, "ext==1.0")
        assert "[[build]]" in (caught.value.hint or "")
        assert "manylinux_2_36_x86_64" in everything(caught.value)

    def test_an_sdist_is_never_taken(self, engine: Any, wheels: Path, tmp_path: Path) -> None:
        (wheels / "src-1.0.tar.gz").write_bytes(b"whoever opens this is wrong")
        with pytest.raises(ResolveError, match="`src 1.0` has no wheel for the target"):
            ask(engine, tmp_path, "src==1.0")

    def test_a_wheel_for_a_newer_c_library_is_refused(
        self, engine: Any, wheels: Path, tmp_path: Path
    ) -> None:
        make_wheel(wheels, "ext", "1.0", tag=f"{CP}-{CP}-manylinux_2_31_x86_64")
        with pytest.raises(ResolveError, match="`ext 1.0` has no wheel for the target"):
            ask(engine, tmp_path, "ext", target=replace(TARGET, glibc="2.28"))

    def test_an_unreachable_index_is_named(
        self, engine: Any, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
    ) -> None:
        with serve_index(tmp_path) as closed:
            pass
        monkeypatch.setenv("UV_DEFAULT_INDEX", closed.url.replace("://", "://me:secret@"))
        with pytest.raises(ResolveError, match="the default index cannot be reached") as caught:
            ask(engine, tmp_path, "a")
        assert "secret" not in everything(caught.value)
        assert "proxy" in (caught.value.hint or "")

    def test_an_unreachable_index_of_the_stack_is_named(self, engine: Any, tmp_path: Path) -> None:
        with serve_index(tmp_path) as closed:
            pass
        indexes = (Index(name="own", url=closed.url, only=("torch",)),)
        with pytest.raises(ResolveError, match="the index `own` cannot be reached"):
            ask(engine, tmp_path, "torch", indexes=indexes)

    def test_a_pinned_yanked_version_is_refused(self, engine: Any, wheels: Path, tmp_path: Path) -> None:
        make_wheel(wheels, "withdrawn", "1.0")
        with pytest.raises(ResolveError, match=r"`withdrawn 1\.0` was yanked") as caught:
            ask(engine, tmp_path, "withdrawn==1.0")
        assert "it deletes files" in everything(caught.value)

    def test_takes_nothing_else_that_is_configured(
        self, engine: Any, wheels: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
    ) -> None:
        make_wheel(wheels, "a", "1.0")
        make_wheel(tmp_path / "links", "a", "2.0")
        for name in ("UV_FIND_LINKS", "PIP_FIND_LINKS"):
            monkeypatch.setenv(name, str(tmp_path / "links"))
        monkeypatch.setenv("PIP_PRE", "1")
        assert pins(ask(engine, tmp_path, "a")) == {"a": "1.0"}

    def test_reads_an_html_index(
        self, engine: Any, wheels: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
    ) -> None:
        make_wheel(wheels, "a", "1.0")
        with serve_index(wheels, form="html") as server:
            monkeypatch.setenv("UV_DEFAULT_INDEX", server.url)
            answer = ask(engine, tmp_path, "a")
        assert [(name, "#" in url) for name, url in answer.urls] == [("a-1.0-py3-none-any.whl", False)]

    def test_a_page_that_is_not_what_it_says_is_named(
        self, engine: Any, wheels: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
    ) -> None:
        make_wheel(wheels, "a", "1.0")
        said = "application/vnd.pypi.simple.v1+json"
        with serve_index(wheels, form="html", content_type=said) as server:
            monkeypatch.setenv("UV_DEFAULT_INDEX", server.url)
            with pytest.raises(ResolveError, match=f"not a page of a package index: {server.url}"):
                ask(engine, tmp_path, "a")


class TestUv:
    """What only uv does."""

    def test_answers_the_same_under_another_interpreter(
        self, wheels: Path, index: IndexServer, tmp_path: Path
    ) -> None:
        others = _other_interpreters()
        if not others:
            missing("there is no second Python on this machine")
        make_wheel(
            wheels, "a", "1.0", requires=[f"b; python_version == '{PYTHON}'", "c; python_version < '3'"]
        )
        make_wheel(wheels, "b", "1.0", tag=f"{CP}-{CP}-manylinux_2_17_x86_64")
        answers = [ask(uv, tmp_path, "a", interpreter=path) for path in (None, *others)]
        assert pins(answers[0]) == {"a": "1.0", "b": "1.0"}
        assert all(answer == answers[0] for answer in answers)
        assert index.requests

    def test_answers_for_a_python_that_is_not_here(
        self, wheels: Path, index: IndexServer, tmp_path: Path
    ) -> None:
        make_wheel(wheels, "a", "1.0", tag="cp38-cp38-manylinux_2_31_x86_64")
        make_wheel(wheels, "a", "2.0", tag="cp38-cp38-manylinux_2_32_x86_64")
        target = replace(TARGET, python="3.8", glibc="2.31")
        assert pins(ask(uv, tmp_path, "a", target=target)) == {"a": "1.0"}
        assert index.requests

    def test_answers_offline_from_its_cache(
        self, wheels: Path, index: IndexServer, tmp_path: Path
    ) -> None:
        make_wheel(wheels, "a", "1.0")
        online = ask(uv, tmp_path, "a")
        asked = len(index.requests)
        assert ask(uv, tmp_path, "a", offline=True) == online
        assert len(index.requests) == asked

    @pytest.mark.usefixtures("index")
    def test_an_offline_miss_is_named(self, tmp_path: Path) -> None:
        with pytest.raises(ResolveError, match="`never-seen` is not in uv's cache"):
            ask(uv, tmp_path, "never-seen", offline=True)

    def test_an_index_of_the_stack_without_upload_times_is_exempt(
        self, wheels: Path, index: IndexServer, tmp_path: Path
    ) -> None:
        make_wheel(wheels, "dated", "1.0", requires=["torch"])
        make_wheel(wheels, "dated", "2.0")
        make_wheel(tmp_path / "own", "torch", "2.0+cu1")
        with serve_index(tmp_path / "own", form="html") as own:
            indexes = (Index(name="own", url=own.url, only=("torch",)),)
            answer = ask(uv, tmp_path, "dated", indexes=indexes, exclude_newer="2025-01-01")
        assert pins(answer) == {"dated": "1.0", "torch": "2.0+cu1"}
        assert index.requests

    def test_a_default_index_without_upload_times_is_blamed(
        self, wheels: Path, index: IndexServer, tmp_path: Path
    ) -> None:
        make_wheel(wheels, "a", "1.0")
        with pytest.raises(ResolveError) as caught:
            ask(uv, tmp_path, "a", exclude_newer="2025-01-01")
        assert "tells no upload times" in (caught.value.hint or "")
        assert index.requests

    def test_a_refused_login_is_told_from_a_missing_package(
        self, index: IndexServer, tmp_path: Path
    ) -> None:
        index.faults.status["a"] = 401
        with pytest.raises(ResolveError, match="401") as caught:
            ask(uv, tmp_path, "a")
        assert "credentials" in (caught.value.hint or "")


class TestPipTools:
    """What only pip-tools does."""

    def test_a_python_that_is_not_here_is_a_missing_tool(self, tmp_path: Path) -> None:
        with pytest.raises(ToolMissing, match=r"no Python 3\.2 on this machine"):
            ask(pip_tools, tmp_path, "a", target=replace(TARGET, python="3.2"))

    @pytest.mark.usefixtures("index")
    def test_a_python_without_pip_tools_gets_them_from_the_default_index(
        self, index: IndexServer, tmp_path: Path
    ) -> None:
        subprocess.run([sys.executable, "-m", "venv", "--without-pip", tmp_path / "bare"], check=True)
        with pytest.raises(ToolMissing, match="pip-tools cannot be installed"):
            ask(pip_tools, tmp_path, "a", interpreter=tmp_path / "bare/bin/python")
        assert "/simple/pip-tools/" in index.requests

    def test_refuses_to_work_offline(self, tmp_path: Path) -> None:
        with pytest.raises(ResolveError, match="cannot resolve offline"):
            ask(pip_tools, tmp_path, "a", offline=True)


class TestDefaultIndex:
    """Whose word counts, from the strongest down."""

    def test_uv_environment_comes_first(self, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
        (tmp_path / "home/uv.toml").write_text('[[index]]\nurl = "http://b.test/s"\ndefault = true\n')
        monkeypatch.setenv("UV_DEFAULT_INDEX", "named=http://a.test/simple")
        assert default_index() == "http://a.test/simple"

    def test_uv_file_comes_before_pip(self, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
        (tmp_path / "home/uv.toml").write_text('[[index]]\nurl = "http://b.test/s"\ndefault = true\n')
        monkeypatch.setenv("PIP_INDEX_URL", "http://c.test/simple")
        assert default_index() == "http://b.test/s"

    def test_an_index_that_is_not_the_default_does_not_count(
        self, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
    ) -> None:
        (tmp_path / "home/uv.toml").write_text('[[index]]\nurl = "http://b.test/s"\n')
        monkeypatch.setenv("PIP_INDEX_URL", "http://c.test/simple")
        assert default_index() == "http://c.test/simple"

    def test_pip_file_counts_where_uv_says_nothing(
        self, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
    ) -> None:
        (tmp_path / "pip.conf").write_text("[global]\nindex-url = http://d.test/a%20b\n")
        monkeypatch.setenv("PIP_CONFIG_FILE", str(tmp_path / "pip.conf"))
        assert default_index() == "http://d.test/a%20b"

    def test_uv_tells_its_own_where_nothing_is_configured(self) -> None:
        assert re.fullmatch(r"https://\S+/simple/?", default_index())

    @pytest.mark.usefixtures("index")
    def test_cache_that_cannot_be_made_is_not_taken_for_requirements(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        (tmp_path / "file").write_text("")
        monkeypatch.setenv("UV_CACHE_DIR", str(tmp_path / "file/uv"))
        with pytest.raises(ResolveError, match="`uv` cannot make its cache folder") as caught:
            ask(uv, tmp_path, "a")
        assert "UV_CACHE_DIR" in (caught.value.hint or "")
        monkeypatch.delenv("UV_DEFAULT_INDEX")
        with pytest.raises(ResolveError, match="`uv` cannot make its cache folder"):
            default_index()


def test_differences_are_told_package_by_package(
    wheels: Path, index: IndexServer, tmp_path: Path
) -> None:
    for version in ("1.0", "2.0"):
        make_wheel(wheels, "a", version)
    make_wheel(wheels, "b", "1.0")
    one, other = ask(uv, tmp_path, "a"), ask(uv, tmp_path, "a<2", "b")
    assert index.requests
    assert differences(one, other) == ("a: uv 2.0, pip-tools 1.0", "b: uv none, pip-tools 1.0")
    assert differences(one, one) == ()


@pytest.mark.parametrize(
    ("written", "expected"),
    [
        ("2025-06-30", "2025-07-01T00:00:00Z"),
        ("2025-06-30T12:00:00+02:00", "2025-06-30T10:00:00Z"),
        ("2025-06-30T12:00:00", "2025-06-30T12:00:00Z"),
    ],
)
def test_cutoff_does_not_depend_on_the_time_zone(written: str, expected: str) -> None:
    assert cutoff(written) == expected


def _need_upload_times(engine: Any) -> None:
    if engine is pip_tools and int(importlib.metadata.version("pip").split(".")[0]) < 26:
        missing("pip is older than 26, which knows no upload times: pip install --upgrade pip")


def _other_interpreters() -> list[Path]:
    """Return Pythons of other versions that really run."""
    versions = [f"3.{minor}" for minor in (11, 12, 13, 14) if f"3.{minor}" != PYTHON]
    found = []
    for version in versions:
        for candidate in pip_tools._candidates(version):
            if pip_tools._version_of(candidate) == version:
                found.append(candidate)
                break
    return found
