"""The rendered Dockerfile: its bytes, its quoting, and what it may ask of a network."""

from __future__ import annotations

import json
import re
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from lockbuild.assetlock import LockedAsset
from lockbuild.digest import Sha256, StorePath, sha256_of
from lockbuild.dockerfile import BILL_LABEL, TEMPLATES, Contents, installer_wheel, render, render_context
from lockbuild.dockerfile.steps import network_steps
from lockbuild.edits import Substitute
from lockbuild.errors import ImageError
from lockbuild.lock import Lock, LockedDeb, LockedFile, LockedPackage, LockedSource, OpenPart
from lockbuild.preflight import ENTRYPOINT
from lockbuild.stack import (
    Asset,
    Image,
    Interpreter,
    NamedSource,
    Source,
    Stack,
    Standalone,
    from_document,
)
from lockbuild.wheelhouse import Manifest, WheelEntry
from tests.hadolint import complaints
from tests.values import HOST

if TYPE_CHECKING:
    from collections.abc import Callable

TEMPLATE_TEXTS = {
    name: (Path(__file__).parents[1] / "templates" / name).read_text(encoding="utf-8")
    for name in TEMPLATES
}
STACK = from_document(
    {
        "name": "small",
        "summary": "a stack for tests",
        "target": {"python": "3.11", "platform": "linux_x86_64", "glibc": "2.36"},
        "base": {"debian": {"suite": "bookworm", "components": ["main"]}},
        "interpreter": {"apt": "python3"},
        "python": {"requires": ["alpha", "beta"]},
        "env": {"MPLBACKEND": "Agg", "OMP_NUM_THREADS": "2"},
        "preflight": {"imports": ["alpha", "beta.deep"], "checks": ["import alpha\nassert alpha"]},
    }
)
MANIFEST = Manifest(
    stack="small",
    lock=Sha256("d" * 64),
    wheels=tuple(
        WheelEntry(
            name=name,
            version="1.0",
            filename=f"{name}-1.0-py3-none-any.whl",
            sha256=Sha256(digit * 64),
            size=10,
            origin="fetched",
            path=StorePath(f"{digit * 32}-{name}"),
        )
        for name, digit in (("alpha", "1"), ("beta", "2"))
    ),
)
NOTICE = "NOTICE\n"
BILL = '{"bomFormat": "CycloneDX"}\n'
LOCK = Lock(
    inputs=(),
    runtime=tuple(
        LockedPackage(
            name=entry.name,
            version=entry.version,
            wheel=LockedFile(filename=entry.filename, sha256=entry.sha256),
        )
        for entry in MANIFEST.wheels
    ),
    build=(
        (
            "",
            (
                LockedPackage(
                    name="pip",
                    version="25.0",
                    wheel=LockedFile(filename="pip-25.0-py3-none-any.whl", sha256=Sha256("3" * 64)),
                ),
            ),
        ),
    ),
    sources=(),
    debs=(
        LockedDeb(
            package="python3",
            version="3.11.2-1",
            architecture="amd64",
            path="pool/main/p/python3/python3_3.11.2-1_amd64.deb",
            sha256=Sha256("4" * 64),
            size=1,
            source="python3 3.11.2-1",
            roots=("runtime", "toolchain"),
        ),
    ),
    digest=Sha256("d" * 64),
)


ASSETS = (
    Asset(name="weights.pth", path="/app/weights.pth", url=("https://example.org/w",), license="MIT"),
    Asset(
        name="data",
        path="/app/data",
        url=("https://example.org/data.zip",),
        members=(("x/m.pth", "models/m.pth"), ("x/mean.npz", "mean.npz")),
        license="MIT",
    ),
)
SOURCES = (
    NamedSource(
        name="Talking",
        source=Source(git="https://example.org/talking", commit="a" * 40),
        path="/workspace/Talking",
        license="MIT",
    ),
    NamedSource(
        name="writes",
        source=Source(path="app"),
        path="/app",
        edits=(Substitute(file="a", old="b", new="c", reason="why"),),
        writable=True,
        license="MIT",
    ),
)
FULL = replace(
    STACK, assets=ASSETS, sources=SOURCES, image=Image(workdir="/app/run"), name="full", checks=()
)
FULL_LOCK = replace(
    LOCK,
    assets=(
        LockedAsset(name="data", reason="not to be had"),
        LockedAsset(name="weights.pth", sha256=Sha256("5" * 64), size=7),
    ),
    sources=(
        LockedSource(
            name="Talking",
            version="",
            index="",
            file=LockedFile(filename="Talking-aaaaaaaaaaaa", sha256=Sha256("6" * 64)),
            commit="a" * 40,
        ),
        LockedSource(
            name="writes",
            version="",
            index="",
            file=LockedFile(filename="writes.tar", sha256=Sha256("7" * 64)),
            path="app",
        ),
    ),
)


def texts(stack: Stack, lock: Lock = LOCK) -> dict[str, str]:
    contents = Contents(
        manifest=MANIFEST,
        bill=BILL,
        notice=NOTICE,
        sources={source.name: Sha256("8" * 64) for source in stack.placed},
    )
    return render_context(stack, lock, contents, templates=TEMPLATE_TEXTS)


def dockerfile(stack: Stack, lock: Lock = LOCK) -> str:
    return render(stack, lock, templates=TEMPLATE_TEXTS)["Dockerfile"]


def instructions(text: str) -> list[str]:
    """Return the words that begin a logical line, which is all that can have an effect."""
    joined = re.sub(r"^\s*#.*\n", "", text, flags=re.MULTILINE)
    joined = re.sub(r"\\\n", " ", joined)
    return [line.split()[0] for line in joined.splitlines() if line.strip()]


@pytest.mark.parametrize("file", ["Dockerfile", ".dockerignore", "docker-bake.json", "wheels.txt"])
def test_rendered_file_is_the_golden_one(file: str, golden: Callable[[str, str], None]) -> None:
    golden(f"dockerfile/{file.lstrip('.')}", texts(STACK)[file])


@pytest.mark.parametrize("file", ["Dockerfile", ".dockerignore", "sources.txt"])
def test_rendered_file_with_assets_and_sources_is_the_golden_one(
    file: str, golden: Callable[[str, str], None]
) -> None:
    golden(f"dockerfile/{file.lstrip('.')}-full", texts(FULL, FULL_LOCK)[file])


def test_bill_of_materials_and_notice_go_to_where_scanners_look_for_it() -> None:
    found = texts(STACK)
    assert found["sbom/small.cdx.json"] == BILL
    assert found["sbom/small.NOTICE"] == NOTICE
    assert "for name in small.cdx.json small.NOTICE;" in found["Dockerfile"]
    assert 'install -m 0644 "/build/sbom/$name" /usr/share/sbom;' in found["Dockerfile"]
    assert "COPY --from=sbom /image/ /" in found["Dockerfile"]


def test_its_digest_is_a_label_that_bake_gives() -> None:
    """The Dockerfile follows from stack and lock alone, and no lock knows what the store tells of licences."""
    override = json.loads(texts(STACK)["docker-bake.override.json"])
    label = {BILL_LABEL: f"sha256:{sha256_of(BILL.encode())}"}
    assert override == {"target": {"runtime": {"labels": label}}}
    assert "docker-bake.override.json" not in render(STACK, LOCK, templates=TEMPLATE_TEXTS)


def test_what_stands_beside_the_stack_file_is_part_of_the_context() -> None:
    committed = render(FULL, FULL_LOCK, templates=TEMPLATE_TEXTS)
    assert committed.items() <= texts(FULL, FULL_LOCK).items()


@pytest.mark.parametrize(
    "change",
    [
        {"path": "/app/x; reboot"},
        {"path": "/app/x\nRUN y"},
        {"members": (("x", "../x"),)},
        {"members": (("x", "a b"),)},
    ],
)
def test_asset_that_a_dockerfile_cannot_hold_is_refused(change: dict[str, Any]) -> None:
    with pytest.raises(ImageError, match="that a Dockerfile can hold"):
        dockerfile(replace(STACK, assets=(replace(ASSETS[1], **change),)))


@pytest.mark.parametrize("change", [{"path": "/app/x; reboot"}, {"name": "x\nRUN y"}])
def test_source_that_a_dockerfile_cannot_hold_is_refused(change: dict[str, Any]) -> None:
    with pytest.raises(ImageError, match="that a Dockerfile can hold"):
        dockerfile(replace(STACK, sources=(replace(SOURCES[0], **change),)), FULL_LOCK)


def test_rendering_twice_gives_the_same_text() -> None:
    assert render(FULL, FULL_LOCK, templates=TEMPLATE_TEXTS) == render(
        FULL, FULL_LOCK, templates=dict(reversed(TEMPLATE_TEXTS.items()))
    )


@pytest.mark.parametrize(("stack", "lock"), [(STACK, LOCK), (FULL, FULL_LOCK)], ids=["small", "full"])
def test_rendered_dockerfile_needs_no_network(stack: Stack, lock: Lock) -> None:
    assert network_steps(dockerfile(stack, lock)) == ()


@pytest.mark.parametrize("variant", ["small", "full", "root", "standalone", "cuda"])
def test_hadolint_has_no_complaint(variant: str, tmp_path: Path) -> None:
    changed = {
        "small": STACK,
        "full": FULL,
        "root": replace(FULL, image=Image(user="root")),
        "standalone": STANDALONE,
        "cuda": replace(STACK, target=replace(STACK.target, cuda="11.8")),
    }
    assert complaints(dockerfile(changed[variant], FULL_LOCK), tmp_path) == []


def test_hadolint_complains_of_what_is_wrong(tmp_path: Path) -> None:
    text = dockerfile(STACK).replace('"$@" /image', "$@ /image")
    (line,) = complaints(text, tmp_path)
    assert "SC2068" in line


def test_rendered_dockerfile_names_every_file_that_the_ignore_file_lets_in() -> None:
    found = texts(FULL, FULL_LOCK)
    let_in = [line[1:] for line in found[".dockerignore"].splitlines() if line.startswith("!")]
    assert let_in == [
        *("assets", "preflight", "rootfs", "sbom", "sources", "tools"),
        *("wheels", "wheels.txt"),
    ]
    assert all(re.search(rf"(ADD |source=){name}\b", found["Dockerfile"]) for name in let_in)


def test_open_parts_are_named_and_nothing_of_them_is_left_out() -> None:
    part = OpenPart(kind="source", name="writes", reason="not to be had")
    text = dockerfile(FULL, replace(FULL_LOCK, sources=FULL_LOCK.sources[:1], open=(part,)))
    assert "sources/writes.tar,target=/build/source.tar" in text
    assert (
        "\n# The lock is open, and no image can be made until it has: asset data, source writes\n"
        in text
    )
    assert 'put "/models/m.pth" /app/data/models/m.pth;' in text
    assert "The lock is open" not in dockerfile(STACK)


def test_other_pin_of_an_asset_changes_the_label() -> None:
    other = replace(FULL_LOCK.assets[1], sha256=Sha256("9" * 64))
    label = re.compile(r'io\.lockbuild\.assets="(sha256:[0-9a-f]{64})"')
    locks = (FULL_LOCK, replace(FULL_LOCK, assets=(FULL_LOCK.assets[0], other)))
    before, after = (label.findall(dockerfile(FULL, lock)) for lock in locks)
    assert len(before) == len(after) == 1
    assert before != after


def test_label_says_where_sources_are_and_what_they_are() -> None:
    said = f"Talking=/workspace/Talking {'a' * 40}; writes=/app writes.tar sha256:{'7' * 64} with edits"
    assert f'io.lockbuild.sources="{said}"' in dockerfile(FULL, FULL_LOCK)


def test_working_directory_in_a_source_is_made_there_and_nowhere_else() -> None:
    text = dockerfile(FULL, FULL_LOCK)
    environment = text.partition("AS environment")[2].partition("FROM")[0]
    assert "/app/run" not in environment
    assert "mkdir -p /app/run; " in text.partition("AS source-2")[2]
    assert "mkdir -p /workspace; " in dockerfile(replace(FULL, image=Image()), FULL_LOCK)


def test_source_of_a_stack_that_runs_as_root_has_no_other_owner() -> None:
    text = dockerfile(replace(FULL, image=Image(user="root", workdir="/app")), FULL_LOCK)
    assert "chown" not in text


@pytest.mark.parametrize(
    "value",
    [
        'a" USER root "',
        "$(reboot) ${PATH} $PATH",
        "ends with a backslash \\",
        "it's `quoted` <<EOF",
        "Ünïcödé 🐍",
        "  spaces  ",
        "",
    ],
)
def test_value_stays_inside_its_instruction(value: str) -> None:
    plain = instructions(dockerfile(replace(STACK, env=(("A", "x"),), summary="x", checks=("x",))))
    hostile = replace(STACK, env=(("A", value),), summary=value or "x", checks=(f"{value}\nUSER root",))
    assert instructions(dockerfile(hostile)) == plain


@pytest.mark.parametrize("end", ["\n", "\r", "\x0b", "\x85", "\u2028", "\x00"])
def test_value_with_a_line_break_is_refused(end: str) -> None:
    with pytest.raises(ImageError, match="cannot hold"):
        dockerfile(replace(STACK, env=(("A", f"x{end}USER root"),)))


@pytest.mark.parametrize(
    "stack",
    [
        replace(STACK, name="small .\nRUN x"),
        replace(STACK, imports=("os; reboot",)),
        replace(STACK, env=(("A B", "x"),)),
        replace(STACK, image=Image(user="x\nRUN y")),
        replace(STACK, image=Image(workdir="/a b")),
        replace(STACK, target=replace(STACK.target, python="3.11 -c x")),
    ],
    ids=["name", "import", "variable", "user", "workdir", "python"],
)
def test_word_that_is_no_word_is_refused(stack: Stack) -> None:
    with pytest.raises(ImageError, match="that a Dockerfile can hold"):
        dockerfile(stack)


def test_entrypoint_and_command_are_vectors() -> None:
    image = Image(entrypoint=("/bin/sh", "-c", "echo \"$0\" 'x'"), command=("a b", "c"))
    text = dockerfile(replace(STACK, image=image))
    runtime = text.partition("AS runtime")[2]
    vectors = dict(re.findall(r"^(ENTRYPOINT|CMD) (\[.*\])$", runtime, re.MULTILINE))
    assert json.loads(vectors["ENTRYPOINT"]) == [ENTRYPOINT, "--wrap=3", *image.entrypoint]
    assert json.loads(vectors["CMD"]) == list(image.command)


def test_root_needs_no_account() -> None:
    text = dockerfile(replace(STACK, image=Image(user="root")))
    assert "USER" not in text
    assert "/etc/passwd" not in text


def test_cuda_stack_asks_for_the_gpu() -> None:
    text = dockerfile(replace(STACK, target=replace(STACK.target, cuda="11.8")))
    assert 'NVIDIA_VISIBLE_DEVICES="all"' in text
    assert "NVIDIA" not in dockerfile(STACK)


def test_path_of_the_stack_comes_after_the_environment() -> None:
    assert 'PATH="/opt/venv/bin:/srv/bin"' in dockerfile(replace(STACK, env=(("PATH", "/srv/bin"),)))


def test_lock_without_installer_is_named() -> None:
    with pytest.raises(ImageError, match="no wheel of `pip`"):
        installer_wheel(replace(LOCK, build=()))


def test_template_with_unknown_name_is_named_with_its_place() -> None:
    broken = TEMPLATE_TEXTS | {"Dockerfile.j2": "FROM scratch\n{{ nothing_of_the_sort }}\n"}
    with pytest.raises(ImageError, match="nothing_of_the_sort"):
        render(STACK, LOCK, templates=broken)


def test_missing_template_is_named() -> None:
    with pytest.raises(ImageError, match=r"dockerignore\.j2"):
        render_context(
            STACK,
            LOCK,
            Contents(manifest=MANIFEST, bill=BILL, notice=NOTICE),
            templates={"Dockerfile.j2": "FROM scratch\n"},
        )


def test_missing_program_of_the_preflight_is_named() -> None:
    less = {name: text for name, text in TEMPLATE_TEXTS.items() if name != "preflight/preflight.py"}
    with pytest.raises(ImageError, match=r"`preflight/preflight\.py` is missing"):
        render_context(
            STACK, LOCK, Contents(manifest=MANIFEST, bill=BILL, notice=NOTICE), templates=less
        )


@pytest.mark.parametrize(
    "step",
    [
        "# syntax=docker/dockerfile:1",
        "FROM debian:bookworm",
        "FROM --platform=linux/amd64 debian AS x",
        "FROM scratch\nCOPY --from=debian:12 /a /b",
        "ADD https://example.org/x /x",
        "ADD git@example.org:x/y.git /x",
        "RUN apt-get -qq update",
        "RUN true && \\\n    apt-get install -y g++",
        "RUN pip install numpy",
        "RUN python3 -m pip install numpy",
        "RUN /opt/venv/bin/pip3 download numpy",
        "RUN pip install --no-index a && pip install b",
        'RUN ["pip", "install", "numpy"]',
        "RUN --mount=type=cache,target=/c curl -O example.org/x",
        "RUN x=$(wget -O- example.org)",
        "RUN git clone example.org/x",
        "RUN <<EOF\ntrue\nuv pip install x\nEOF",
        "RUN conda install -y x",
        "run npm install x",
        "RUN python3 -c 'import urllib.request as r'",
    ],
)
def test_step_that_could_reach_a_network_is_found(step: str) -> None:
    assert len(network_steps(f"{step}\n")) == 1


@pytest.mark.parametrize(
    "step",
    [
        "FROM scratch AS base\nFROM base\nCOPY --from=base /a /b",
        f"FROM debian@sha256:{'0' * 64}",
        "# RUN curl -O x\nRUN true",
        "RUN --network=none curl -O x",
        "RUN pip install --no-index numpy",
        "RUN apt-get install --no-download -y ./x.deb",
        "RUN test -d curl-7.0 && echo github",
        "ADD rootfs/runtime.tar /",
        "COPY wget.txt /",
    ],
)
def test_step_that_cannot_reach_a_network_is_not_found(step: str) -> None:
    assert network_steps(f"{step}\n") == ()


def test_found_step_tells_its_line() -> None:
    assert network_steps("FROM scratch\n\nRUN true; \\\n    curl x\n") == ("line 3: RUN true; curl x",)


# ---- a standalone interpreter -------------------------------------------------------------------------

STANDALONE = replace(
    STACK,
    interpreter=Interpreter(
        standalone=Standalone(url=("https://example.org/cpython.tar.gz",), sha256="a" * 64)
    ),
)


def test_environment_is_made_by_the_standalone_python_itself() -> None:
    # Made by way of the link in /usr/local/bin, one of Python 3.10 or older does not find its library.
    assert "    /opt/python/bin/python3.11 -m venv " in dockerfile(STANDALONE)


def test_toolchain_has_the_standalone_python_and_its_compilers() -> None:
    toolchain = dockerfile(STANDALONE).partition("AS toolchain")[2].partition("FROM")[0]
    assert 'PATH="/opt/python/bin:/usr/local/sbin:' in toolchain
    assert ' LDSHARED="gcc -shared"' in toolchain


def test_label_names_the_standalone_interpreter() -> None:
    assert f'io.lockbuild.interpreter="cpython.tar.gz sha256:{"a" * 64}"' in dockerfile(STANDALONE)


def test_label_names_the_machine_s_interpreter() -> None:
    stack = replace(STANDALONE, interpreter=Interpreter(host="python3.11"))
    text = dockerfile(stack, replace(LOCK, interpreter=HOST))
    assert f'io.lockbuild.interpreter="{HOST.file.filename} sha256:{HOST.file.sha256}"' in text
    assert "made of Debian packages and a machine's Python" in text
