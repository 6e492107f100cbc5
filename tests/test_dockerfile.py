"""The rendered Dockerfile: its bytes, its quoting, and what it may ask of a network."""

from __future__ import annotations

import json
import re
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from lockbuild.digest import Sha256, StorePath
from lockbuild.dockerfile import (
    TEMPLATES,
    AssetFile,
    BundledAsset,
    installer_wheel,
    render,
)
from lockbuild.dockerfile.steps import network_steps
from lockbuild.errors import ImageError
from lockbuild.lock import Lock, LockedDeb, LockedFile, LockedPackage
from lockbuild.preflight import ENTRYPOINT
from lockbuild.stack import Image, Interpreter, Stack, Standalone, from_document
from lockbuild.wheelhouse import Manifest, WheelEntry

DATA = Path(__file__).parent / "data"
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
LOCK = Lock(
    inputs=(),
    runtime=(),
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
    BundledAsset(
        name="weights.pth",
        files=(AssetFile(context="", path="/app/weights.pth", size=7, sha256=Sha256("5" * 64)),),
    ),
    BundledAsset(
        name="data",
        files=(
            AssetFile(context="mean.npz", path="/app/data/mean.npz", size=4, sha256=Sha256("6" * 64)),
            AssetFile(
                context="models/m.pth", path="/app/data/models/m.pth", size=5, sha256=Sha256("7" * 64)
            ),
        ),
    ),
)


def dockerfile(stack: Stack, manifest: Manifest = MANIFEST) -> str:
    return render(stack, LOCK, manifest, templates=TEMPLATE_TEXTS)["Dockerfile"]


def instructions(text: str) -> list[str]:
    """Return the words that begin a logical line, which is all that can have an effect."""
    joined = re.sub(r"^\s*#.*\n", "", text, flags=re.MULTILINE)
    joined = re.sub(r"\\\n", " ", joined)
    return [line.split()[0] for line in joined.splitlines() if line.strip()]


@pytest.mark.parametrize("file", ["Dockerfile", ".dockerignore", "docker-bake.json", "wheels.txt"])
def test_rendered_file_is_the_golden_one(file: str, *, accept: bool) -> None:
    golden = DATA / "dockerfile" / file.lstrip(".")
    text = render(STACK, LOCK, MANIFEST, templates=TEMPLATE_TEXTS)[file]
    if accept:
        golden.parent.mkdir(exist_ok=True)
        golden.write_text(text, encoding="utf-8")
    assert text == golden.read_text(encoding="utf-8")


@pytest.mark.parametrize("file", ["Dockerfile", ".dockerignore"])
def test_rendered_file_with_assets_is_the_golden_one(file: str, *, accept: bool) -> None:
    golden = DATA / "dockerfile" / f"{file.lstrip('.')}-assets"
    text = render(STACK, LOCK, MANIFEST, templates=TEMPLATE_TEXTS, assets=ASSETS)[file]
    if accept:
        golden.write_text(text, encoding="utf-8")
    assert text == golden.read_text(encoding="utf-8")


def test_rendered_dockerfile_with_assets_needs_no_network() -> None:
    text = render(STACK, LOCK, MANIFEST, templates=TEMPLATE_TEXTS, assets=ASSETS)["Dockerfile"]
    assert network_steps(text) == ()


@pytest.mark.parametrize(
    "change",
    [{"path": "/app/x; reboot"}, {"path": "/app/x\nRUN y"}, {"context": "../x"}, {"context": "a b"}],
)
def test_asset_that_a_dockerfile_cannot_hold_is_refused(change: dict[str, Any]) -> None:
    file = replace(ASSETS[1].files[0], **change)
    with pytest.raises(ImageError, match="that a Dockerfile can hold"):
        render(
            STACK, LOCK, MANIFEST, templates=TEMPLATE_TEXTS, assets=[replace(ASSETS[1], files=(file,))]
        )


def test_rendering_twice_gives_the_same_text() -> None:
    assert render(STACK, LOCK, MANIFEST, templates=TEMPLATE_TEXTS) == render(
        STACK, LOCK, MANIFEST, templates=dict(reversed(TEMPLATE_TEXTS.items()))
    )


def test_rendered_dockerfile_needs_no_network() -> None:
    assert network_steps(dockerfile(STACK)) == ()


def test_rendered_dockerfile_names_every_file_that_the_ignore_file_lets_in() -> None:
    texts = render(STACK, LOCK, MANIFEST, templates=TEMPLATE_TEXTS)
    let_in = [line[1:] for line in texts[".dockerignore"].splitlines() if line.startswith("!")]
    assert let_in == ["preflight", "rootfs", "tools", "wheels", "wheels.txt"]
    assert all(re.search(rf"(ADD |source=){name}\b", texts["Dockerfile"]) for name in let_in)


def test_other_wheel_changes_the_label() -> None:
    other = replace(
        MANIFEST, wheels=(replace(MANIFEST.wheels[0], sha256=Sha256("9" * 64)), MANIFEST.wheels[1])
    )
    label = re.compile(r'io\.lockbuild\.wheels="sha256:([0-9a-f]{64})"')
    before, after = (label.search(dockerfile(STACK, manifest)) for manifest in (MANIFEST, other))
    assert before
    assert after
    assert before[1] != after[1]


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
        render(STACK, LOCK, MANIFEST, templates=broken)


def test_missing_template_is_named() -> None:
    with pytest.raises(ImageError, match=r"dockerignore\.j2"):
        render(STACK, LOCK, MANIFEST, templates={"Dockerfile.j2": "FROM scratch\n"})


def test_missing_program_of_the_preflight_is_named() -> None:
    less = {name: text for name, text in TEMPLATE_TEXTS.items() if name != "preflight/preflight.py"}
    with pytest.raises(ImageError, match=r"`preflight/preflight\.py` is missing"):
        render(STACK, LOCK, MANIFEST, templates=less)


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
