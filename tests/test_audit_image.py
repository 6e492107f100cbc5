"""What an audit says of images: nothing of the untampered one, and one thing of each that was tampered with."""

from __future__ import annotations

import tarfile
from dataclasses import replace
from datetime import date
from typing import TYPE_CHECKING

import pytest

from lockbuild.audit import Subject, audit
from lockbuild.derivation import PREFIX_TAR
from lockbuild.errors import ImageError
from tests.audited import APP, SITE, STATUS, audited_world, installed, made_image, seen, write_archive
from tests.images import Member, layer
from tests.test_condalock import package as conda_package
from tests.values import any_build
from tests.wheels import make_wheel

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from lockbuild.audit import ImageContents
    from lockbuild.findings import About, Finding, Report
    from tests.audited import Made
    from tests.worlds import World

AGAINST: tuple[About, ...] = ("image",)


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> Iterator[World]:
    with audited_world(tmp_path_factory.mktemp("world")) as made:
        yield made


def audited(world: World, image: ImageContents) -> list[Finding]:
    report = audited_report(world, image)
    assert report.skipped == ()
    return list(report.findings)


def audited_report(world: World, image: ImageContents) -> Report:
    subject = Subject(
        stack=world.stack,
        lock=world.lock,
        plan=world.plan,
        store=world.store,
        wheelhouse=world.folder.wheels,
        manifest=None,
        dockerfile=None,
        rendered="",
        image=image,
        today=date(2026, 1, 1),
    )
    return audit(subject, AGAINST)


@pytest.fixture
def found(world: World, tmp_path: Path) -> Callable[[Made], list[Finding]]:
    """Return what an audit finds in an image."""
    return lambda image: audited(world, seen(world, write_archive(tmp_path / "image.tar", image)))


def test_an_image_as_it_was_made_gives_no_finding(
    world: World, found: Callable[[Made], list[Finding]]
) -> None:
    assert found(made_image(world)) == []


# ---- nine ways -------------------------------------------------------------------------------------


def upgraded(image: Made, folder: Path) -> Made:
    wheel = make_wheel(folder, "alpha", "1.3", files={"alpha.py": b"new = 1\n", "alpha_more.py": b""})
    gone = [
        Member(name=f"{SITE}/alpha-1.2.dist-info/.wh.{name}", content=b"")
        for name in ("METADATA", "RECORD", "WHEEL", "INSTALLER", "REQUESTED")
    ]
    return image.above("RUN pip install --no-index alpha==1.3", *gone, *installed(wheel))


def edited(image: Made, _: Path) -> Made:
    return image.above(
        "RUN sed -i s/a/b/ alpha.py", Member(name=f"{SITE}/alpha.py", content=b"evil = 1\n")
    )


def deb_added(image: Made, _: Path) -> Made:
    status = f"{STATUS}Package: netcat\nStatus: install ok installed\nVersion: 1.10-47\n\n"
    return image.above(
        "RUN dpkg -i netcat.deb",
        Member(name="bin/nc", content=b"netcat", mode=0o755),
        Member(name="var/lib/dpkg/status", content=status.encode()),
        Member(name="var/lib/dpkg/status-old", content=STATUS.encode()),
        Member(name="var/lib/dpkg/info/netcat.list", content=b"/.\n/bin\n/bin/nc\n"),
        Member(name="var/lib/dpkg/info/netcat.md5sums", content=b"0  bin/nc\n"),
        Member(name="var/log/dpkg.log", content=b"installed netcat\n"),
    )


def env_changed(image: Made, _: Path) -> Made:
    env = [text if not text.startswith("OMP_") else "OMP_NUM_THREADS=64" for text in image.config["Env"]]
    return image.configured("ENV OMP_NUM_THREADS=64", Env=env)


def weights_swapped(image: Made, _: Path) -> Made:
    return image.above(
        "COPY model.bin /app/weights/", Member(name="app/weights/model.bin", content=b"others")
    )


def licensed(image: Made, _: Path) -> Made:
    added = image.above(
        "COPY smpl /app/body_models", Member(name="app/body_models/SMPL_NEUTRAL.pkl", content=b"smpl")
    )
    return added.above("RUN rm -r /app/body_models", Member(name="app/.wh.body_models", content=b""))


def label_forged(image: Made, _: Path) -> Made:
    labels = {**image.config["Labels"], "io.lockbuild.lock": "sha256:forged"}
    return image.configured("LABEL io.lockbuild.lock=sha256:forged", Labels=labels)


def wheel_left(image: Made, _: Path) -> Made:
    return image.above(
        "COPY wheels /wheels", Member(name="wheels/alpha-1.2-py3-none-any.whl", content=b"PK")
    )


def setuid_added(image: Made, _: Path) -> Made:
    return image.above(
        "RUN chmod u+s /usr/bin/python3.11",
        Member(name="usr/bin/python3.11", content=b"python", mode=0o4755),
    )


NINE: dict[Callable[[Made, Path], Made], tuple[str, str, str]] = {
    upgraded: ("image-packages", "alpha-1.3.dist-info/METADATA", "6: RUN pip install"),
    edited: ("image-package-files", f"/{SITE}/alpha.py", "6: RUN sed"),
    deb_added: ("image-debs", "/var/lib/dpkg/info/netcat.list", "6: RUN dpkg -i netcat.deb"),
    env_changed: ("image-env", "OMP_NUM_THREADS", "configuration, above layer 5: ENV OMP_NUM_THREADS"),
    weights_swapped: ("image-assets", "/app/weights/model.bin", "6: COPY model.bin"),
    licensed: ("image-licensed", "/app/body_models/SMPL_NEUTRAL.pkl", "6: COPY smpl /app/body_models"),
    label_forged: (
        "image-lock",
        "io.lockbuild.lock",
        "configuration, above layer 5: LABEL io.lockbuild.lock",
    ),
    wheel_left: ("image-leftovers", "/wheels/alpha-1.2-py3-none-any.whl", "6: COPY wheels /wheels"),
    setuid_added: ("image-setuid", "/usr/bin/python3.11", "6: RUN chmod u+s /usr/bin/python3.11"),
}


@pytest.mark.parametrize("tamper", NINE, ids=lambda tamper: tamper.__name__)
def test_each_way_of_tampering_is_one_finding_that_names_file_and_layer(
    world: World,
    found: Callable[[Made], list[Finding]],
    tmp_path: Path,
    tamper: Callable[[Made, Path], Made],
) -> None:
    check, named, layer = NINE[tamper]
    (finding,) = found(tamper(made_image(world), tmp_path))
    assert (finding.check, finding.level) == (check, "error")
    assert named in f"{finding.subject} {finding.message}"
    assert finding.layer.startswith(layer)


def test_nine_ways_at_once_are_nine_findings(
    world: World, found: Callable[[Made], list[Finding]], tmp_path: Path
) -> None:
    image = made_image(world)
    for tamper in (one for one in NINE if one is not edited):
        image = tamper(image, tmp_path)
    # What belongs to a package of another version is said with that: the edit is another package's.
    image = image.above("RUN sed", Member(name=f"{SITE}/beta.py", content=b"evil = 1\n"))
    assert sorted(finding.check for finding in found(image)) == sorted(
        check for check, _, _ in NINE.values()
    )


# ---- what strangers say that they brought ----------------------------------------------------------


def stranger(record: bytes, place: str = SITE) -> tuple[Member, ...]:
    """Return a package that nobody locked, and that lists what it likes."""
    folder = f"{place}/foo-1.dist-info"
    return (
        Member(name=f"{folder}/METADATA", content=b"Name: foo\nVersion: 1\n"),
        Member(name=f"{folder}/RECORD", content=record),
    )


def subjects(findings: list[Finding]) -> set[str]:
    return {one.subject for one in findings}


def test_a_package_that_nobody_locked_hides_no_file_of_the_lock(
    world: World, found: Callable[[Made], list[Finding]]
) -> None:
    record = (
        b"alpha.py,,\n../../../../../../usr/bin/python3.11,,\n../../../../../../srv/x,,\nevil.pth,,\n"
    )
    image = made_image(world).above(
        "COPY foo /",
        Member(name=f"{SITE}/alpha.py", content=b"evil = 1\n"),
        Member(name="usr/bin/python3.11", content=b"evil", mode=0o755),
        Member(name="srv/x", content=b"nowhere that packages are"),
        Member(name=f"{SITE}/evil.pth", content=b"import evil\n"),
        *stranger(record),
    )
    assert subjects(found(image)) == {"foo", f"/{SITE}/alpha.py", "/usr/bin/python3.11", "/srv/x"}


def test_a_package_at_the_top_hides_nothing_but_its_own_folder(
    world: World, found: Callable[[Made], list[Finding]]
) -> None:
    image = made_image(world).above(
        "COPY", Member(name="app/evil.py", content=b"evil"), *stranger(b"evil.py,,\n", "app")
    )
    assert subjects(found(image)) == {"foo", "/app/evil.py"}


def test_a_second_version_hides_no_file_of_the_locked_one(
    world: World, found: Callable[[Made], list[Finding]]
) -> None:
    image = made_image(world).above(
        "COPY",
        Member(name=f"{SITE}/alpha.py", content=b"evil = 1\n"),
        Member(name=f"{SITE}/alpha-9.dist-info/METADATA", content=b"Name: alpha\nVersion: 9\n"),
    )
    assert subjects(found(image)) == {"alpha", f"/{SITE}/alpha.py"}


def test_a_deb_that_nobody_locked_hides_no_file_of_the_lock(
    world: World, found: Callable[[Made], list[Finding]]
) -> None:
    paths = ("usr/lib/libc.so.6", f"{SITE}/gamma/_ext.so", "opt/venv/bin/evil", "usr/bin/nc")
    status = f"{STATUS}Package: netcat\nStatus: install ok installed\nVersion: 1.10-47\n\n"
    image = made_image(world).above(
        "RUN dpkg -i netcat.deb",
        *(Member(name=path, content=b"evil") for path in paths),
        Member(name="var/lib/dpkg/status", content=status.encode()),
        Member(
            name="var/lib/dpkg/info/netcat.list",
            content="".join(f"/{path}\n" for path in paths).encode(),
        ),
    )
    assert subjects(found(image)) == {"netcat", *(f"/{path}" for path in paths if path != "usr/bin/nc")}


def test_a_conda_package_that_nobody_locked_hides_no_file_of_the_lock(
    conda: Callable[..., list[str]],
) -> None:
    other = (
        b'{"name": "foo", "version": "1", "build": "0", "files": ["bin/tool", "../../srv/x", "bin/foo"]}'
    )
    told = conda(
        b"evil",
        "1.0",
        Member(name="opt/conda/conda-meta/foo.json", content=other),
        Member(name="opt/conda/bin/foo", content=b"foo"),
        Member(name="srv/x", content=b"x"),
    )
    assert [line.split(": ")[1] for line in told] == ["foo", "/opt/conda/bin/tool", "/srv/x"]


# ---- each check ------------------------------------------------------------------------------------


def lines(findings: list[Finding]) -> list[str]:
    return [f"{one.check}: {one.subject}: {one.message}" for one in findings]


@pytest.mark.parametrize(
    ("gone", "said"),
    [
        ("beta-0.9.dist-info/.wh.METADATA", "image-packages: beta: 0.9 is locked, but not in the image"),
        ("gamma/.wh._ext.so", f"image-package-files: /{SITE}/gamma/_ext.so: of gamma: is missing"),
    ],
    ids=["package", "file"],
)
def test_image_packages__missing(
    world: World, found: Callable[[Made], list[Finding]], gone: str, said: str
) -> None:
    image = made_image(world).above("RUN rm", Member(name=f"{SITE}/{gone}", content=b""))
    assert lines(found(image)) == [said]


def test_image_packages__beside_the_environment(
    world: World, found: Callable[[Made], list[Finding]], tmp_path: Path
) -> None:
    wheel = make_wheel(tmp_path, "requests", "2.0")
    place = "usr/local/lib/python3.11/dist-packages"
    members = [replace(one, name=one.name.replace(SITE, place)) for one in installed(wheel)]
    (line,) = lines(found(made_image(world).above("RUN pip3 --version", *members)))
    assert line.startswith(
        "image-packages: requests: 2.0 is in the image, but not in the lock (/usr/local"
    )


def test_image_package_files__made_again_after_the_environment(
    world: World, found: Callable[[Made], list[Finding]]
) -> None:
    """Python never compares bytecode of this kind with its module, so a changed one runs unnoticed."""
    cached = f"{SITE}/gamma/__pycache__/__init__.cpython-311.pyc"
    image = made_image(world).above("COPY evil.pyc", Member(name=cached, content=b"evil"))
    (finding,) = found(image)
    assert lines([finding]) == [
        f"image-package-files: /{cached}: of gamma: bytecode that did not come with its module, and runs in its place"
    ]
    assert finding.layer == "6: COPY evil.pyc"


def test_image_own_files__a_console_script_that_was_changed(
    world: World, found: Callable[[Made], list[Finding]]
) -> None:
    image = made_image(world).above("RUN", Member(name="opt/venv/pyvenv.cfg", content=b"home = /evil"))
    assert "image-own-files" in {one.check for one in found(image)}


def test_image_sbom__label_of_another_bill_of_materials(
    world: World, found: Callable[[Made], list[Finding]]
) -> None:
    image = made_image(world)
    labels = {**image.config["Labels"], "io.lockbuild.sbom": "sha256:forged"}
    assert [one.check for one in found(image.configured("LABEL", Labels=labels))] == ["image-sbom"]


@pytest.mark.parametrize("kind", [tarfile.FIFOTYPE, tarfile.DIRTYPE], ids=["pipe", "folder"])
def test_image_own_files__made_into_something_else(
    world: World, found: Callable[[Made], list[Finding]], kind: bytes
) -> None:
    image = made_image(world).above("RUN", Member(name="opt/venv/bin/activate", kind=kind))
    (finding,) = found(image)
    assert (finding.check, finding.subject) == ("image-own-files", "/opt/venv/bin/activate")
    assert finding.message.endswith(", expected a file")


def test_image_own_files__a_user_too_many(world: World, found: Callable[[Made], list[Finding]]) -> None:
    image = made_image(world).above(
        "RUN useradd", Member(name="etc/passwd", content=b"evil:x:0:0::/:/bin/sh\n")
    )
    (line,) = lines(found(image))
    assert line.startswith("image-own-files: /etc/passwd: of the Dockerfile: found sha256 ")


def test_image_debs__of_another_version(world: World, found: Callable[[Made], list[Finding]]) -> None:
    status = STATUS.replace("2.36-9+deb12u10", "2.37-1")
    image = made_image(world).above(
        "RUN dpkg -i libc6.deb", Member(name="var/lib/dpkg/status", content=status.encode())
    )
    (line,) = lines(found(image))
    assert line == (
        "image-debs: libc6: the image has 2.37-1, the root file system of the lock 2.36-9+deb12u10"
        " (/var/lib/dpkg/status)"
    )


@pytest.mark.parametrize(
    ("member", "said"),
    [
        (
            Member(name="usr/bin/python3.11", content=b"python", mode=0o777),
            "/usr/bin/python3.11: of the base (python3): found mode 0777 of 0:0, expected mode 0755 of 0:0",
        ),
        (
            Member(name="usr/lib/libc.so.6", content=b"libc", owner=(1000, 0)),
            "/usr/lib/libc.so.6: of the base: found mode 0644 of 1000:0, expected mode 0644 of 0:0",
        ),
        (
            Member(name="usr/bin/python3", link="/opt/evil"),
            "/usr/bin/python3: of the base: found target `/opt/evil`, expected `python3.11`",
        ),
        (
            Member(name="usr/lib/.wh.libc.so.6", content=b""),
            "/usr/lib/libc.so.6: of the base: is missing",
        ),
        (
            # Through the link of the base: what a program sees is what is told.
            Member(name="bin/su", link="python3"),
            "/usr/bin/su: of the base: is a symlink, expected a file",
        ),
    ],
    ids=["mode", "owner", "link", "deleted", "through a link"],
)
def test_image_base_files__changed(
    world: World, found: Callable[[Made], list[Finding]], member: Member, said: str
) -> None:
    (finding,) = found(made_image(world).above("RUN change", member))
    assert lines([finding]) == [f"image-base-files: {said}"]
    assert finding.layer == "6: RUN change"


@pytest.fixture
def conda(world: World, tmp_path: Path) -> Callable[..., list[str]]:
    """Return what an audit finds where the lock has a conda package: its file and version are the image's."""
    build = any_build(name=f"conda-{tmp_path.name}", kind="prefix", toolchain=None)
    derivations = {**world.plan.derivations, build.path: build}
    plan = replace(world.plan, derivations=derivations, prefix=build.path)
    lock = replace(world.lock, conda=(conda_package("tool"),))
    record = b'{"name": "tool", "version": "1.0", "build": "h1_0", "files": ["bin/tool"]}'

    def members(data: bytes, text: bytes) -> tuple[Member, ...]:
        return (
            Member(name="opt/conda/bin/tool", content=data, mode=0o755),
            Member(name="opt/conda/conda-meta/tool.json", content=text),
        )

    prefix = tmp_path / "prefix"
    prefix.mkdir()
    (prefix / PREFIX_TAR).write_bytes(layer(*members(b"tool", record)))
    world.store.add_folder(build.path, prefix)

    def look(data: bytes, version: str, *more: Member) -> list[str]:
        text = record.replace(b'"1.0"', f'"{version}"'.encode())
        image = made_image(world, lock).above("ADD conda/prefix.tar /", *members(data, text), *more)
        file = write_archive(tmp_path / "image.tar", image)
        return lines(audited(world, seen(world, file, lock=lock, plan=plan)))

    return look


def test_image_conda__of_another_version(conda: Callable[..., list[str]]) -> None:
    assert conda(b"tool", "1.0") == []
    assert conda(b"other", "1.1") == [
        "image-conda: tool: the image has 1.1 h1_0, the lock 1.0 h1_0 (/opt/conda/conda-meta/tool.json)"
    ]


def test_image_conda_files__edited(conda: Callable[..., list[str]]) -> None:
    (line,) = conda(b"evil", "1.0")
    assert line.startswith(
        "image-conda-files: /opt/conda/bin/tool: of the conda packages: found sha256 "
    )


def test_image_sources__edited(world: World, found: Callable[[Made], list[Finding]]) -> None:
    image = made_image(world).above("RUN sed", Member(name="app/main.py", content=b"evil"))
    (line,) = lines(found(image))
    assert line.startswith("image-sources: /app/main.py: of source `app`: found sha256 ")


def test_image_assets__missing(world: World, found: Callable[[Made], list[Finding]]) -> None:
    image = made_image(world).above("RUN rm", Member(name="app/weights/.wh..wh..opq", content=b""))
    (finding,) = found(image)
    assert (finding.subject, finding.layer) == ("/app/weights/model.bin", "6: RUN rm")


def test_image_extra__names_each_of_a_few_files(
    world: World, found: Callable[[Made], list[Finding]]
) -> None:
    members = [Member(name=f"srv/{n}.txt", content=b"x") for n in range(3)]
    findings = found(made_image(world).above("COPY srv /srv", *members))
    assert [(one.check, one.subject) for one in findings] == [
        ("image-extra", f"/srv/{n}.txt") for n in range(3)
    ]


def test_image_extra__counts_thousands(world: World, found: Callable[[Made], list[Finding]]) -> None:
    members = [Member(name=f"srv/data/{n:04}.txt", content=b"x") for n in range(2000)]
    findings = found(made_image(world).above("COPY srv /srv", *members))
    assert len(findings) == 6
    assert lines(findings)[-1] == "image-extra: /srv/data: 1,995 more files like these"


def test_image_extra__in_a_lower_layer_alone(
    world: World, found: Callable[[Made], list[Finding]]
) -> None:
    image = made_image(world).above("COPY notes /", Member(name="notes", content=b"x"))
    (finding,) = found(image.above("RUN rm /notes", Member(name=".wh.notes", content=b"")))
    assert finding.layer == "6: COPY notes /"
    assert finding.message.endswith("; layer 7 deletes it, and it is still shipped")


def test_image_extra__in_a_layer_that_a_later_one_empties(
    world: World, found: Callable[[Made], list[Finding]]
) -> None:
    image = made_image(world).above("COPY notes /", Member(name="notes", content=b"x"))
    findings = found(image.above("RUN rm -rf /*", Member(name=".wh..wh..opq", content=b"")))
    (notes,) = [one for one in findings if one.subject == "/notes"]
    assert notes.message.endswith("; layer 7 deletes it, and it is still shipped")
    (missing,) = [one for one in findings if one.subject == "/opt/venv/pyvenv.cfg"]
    assert missing.layer == "7: RUN rm -rf /*"


def test_image_extra__deleted_one_by_one(world: World, found: Callable[[Made], list[Finding]]) -> None:
    count = 2_000
    image = made_image(world).above(
        "COPY", *(Member(name=f"srv/{n}", content=b"x") for n in range(count))
    )
    gone = (Member(name=f"srv/.wh.{n}", content=b"") for n in range(count))
    first, *_, last = found(image.above("RUN rm", *gone))
    assert first.message.endswith("; layer 7 deletes it, and it is still shipped")
    assert (last.subject, last.message) == ("/srv", f"{count - 5:,} more files like these")


def test_image_licensed__somewhere_else_under_its_name(
    world: World, found: Callable[[Made], list[Finding]]
) -> None:
    image = made_image(world).above("COPY", Member(name="srv/SMPL_NEUTRAL.pkl", content=b"smpl"))
    (line,) = lines(found(image))
    assert line == (
        "image-licensed: /srv/SMPL_NEUTRAL.pkl: belongs to `/app/body_models`, which must be mounted:"
        " its licence forbids passing it on"
    )


@pytest.mark.parametrize(
    ("member", "what"),
    [
        (Member(name="srv/tool", content=b"x", mode=0o4755), "has mode 4755"),
        (Member(name="usr/bin/chage", content=b"chage", mode=0o6755, owner=(0, 42)), "has mode 6755"),
        (
            Member(name="srv/ping", content=b"x", xattrs={"security.capability": "\x01"}),
            "has capabilities",
        ),
    ],
    ids=["setuid", "more than before", "capabilities"],
)
def test_image_setuid__that_the_base_has_not(
    world: World, found: Callable[[Made], list[Finding]], member: Member, what: str
) -> None:
    (line,) = lines(found(made_image(world).above("RUN", member)))
    assert line.startswith(f"image-setuid: /{member.name}: {what}, which gives rights of others")


KEY = b"-----BEGIN OPENSSH PRIVATE KEY-----\nxxxx\n"


@pytest.mark.parametrize(
    ("name", "content", "what"),
    [
        ("root/.ssh/id_ed25519", KEY, "a private key"),
        ("root/.netrc", b"machine a.example login me password secret\n", "a password for a server"),
        ("root/.git-credentials", b"https://me:secret@git.example\n", "a password for a repository"),
        (
            "etc/pip.conf",
            b"[global]\nindex-url = https://me:secret@a.example/\n",
            "a password for an index",
        ),
        ("app/settings.env", b"AWS=AKIA" + b"A" * 16 + b"\n", "an access key of AWS"),
        ("app/token", b"hf_" + b"a" * 34, "a token of Hugging Face"),
        ("app/ci", b"ghp_" + b"a1" * 18, "a token of GitHub"),
    ],
)
def test_image_secrets__in_a_layer_that_a_later_one_hides(
    world: World, found: Callable[[Made], list[Finding]], name: str, content: bytes, what: str
) -> None:
    folder, _, last = name.rpartition("/")
    image = made_image(world).above("COPY secrets", Member(name=name, content=content))
    (finding,) = found(image.above("RUN rm", Member(name=f"{folder}/.wh.{last}", content=b"")))
    assert (finding.check, finding.subject, finding.layer) == (
        "image-secrets",
        f"/{name}",
        "6: COPY secrets",
    )
    assert finding.message.startswith(f"holds {what};")
    assert "secret@" not in finding.message


@pytest.mark.parametrize(
    "content", [KEY + bytes(5 << 20), bytes(5 << 20) + KEY], ids=["at its beginning", "at its end"]
)
def test_image_secrets__in_a_big_file(
    world: World, found: Callable[[Made], list[Finding]], content: bytes
) -> None:
    (line,) = lines(found(made_image(world).above("COPY", Member(name="srv/big", content=content))))
    assert line == "image-secrets: /srv/big: holds a private key"


@pytest.mark.parametrize(
    ("content", "what"),
    [
        (KEY, "image-secrets: /app/main.py: holds a private key"),
        (b"old", "image-extra: /app/main.py: 3 bytes that the lock does not bring"),
    ],
    ids=["key", "other"],
)
def test_a_file_that_its_own_layer_replaces_is_looked_at(
    world: World, found: Callable[[Made], list[Finding]], content: bytes, what: str
) -> None:
    first, last = (Member(name="app/main.py", content=data) for data in (content, APP["main.py"]))
    (finding,) = found(made_image(world).above("COPY", first, last))
    assert lines([finding]) == [
        f"{what}; the layer has another file in its place, and it is still shipped"
    ]
    assert finding.layer == "6: COPY"


def test_a_file_that_the_layer_of_the_environment_replaces_is_looked_at(
    world: World, found: Callable[[Made], list[Finding]]
) -> None:
    image = made_image(world)
    key = layer(Member(name="opt/venv/pyvenv.cfg", content=KEY))
    layers = [
        (step, key.rstrip(b"\0").ljust(1024, b"\0") + data) if "environment" in step else (step, data)
        for step, data in image.layers
    ]
    (finding,) = found(replace(image, layers=tuple(layers)))
    assert (finding.check, finding.subject) == ("image-secrets", "/opt/venv/pyvenv.cfg")


def test_image_licensed__that_its_own_layer_replaces(
    world: World, found: Callable[[Made], list[Finding]]
) -> None:
    name = "app/body_models/x.npz"
    image = made_image(world).above("COPY", *(Member(name=name, content=one) for one in (b"smpl", b"")))
    assert [one.check for one in found(image)] == ["image-licensed", "image-licensed"]


def test_a_file_that_is_there_twice_as_it_shall_be_gives_no_finding(
    world: World, found: Callable[[Made], list[Finding]]
) -> None:
    twice = [Member(name="app/main.py", content=APP["main.py"])] * 2
    assert found(made_image(world).above("COPY", *twice)) == []


def test_image_secrets__in_settings_and_steps(
    world: World, found: Callable[[Made], list[Finding]]
) -> None:
    token = "ghp_" + "a1" * 18
    image = made_image(world)
    image = image.configured(f"ENV TOKEN={token}", Env=[*image.config["Env"], f"TOKEN={token}"])
    findings = found(image)
    assert sorted({one.check for one in findings}) == ["image-env", "image-secrets"]
    assert not any(token in one.message for one in findings)


@pytest.mark.parametrize(
    ("step", "secret"),
    [
        ("RUN |1 TOKEN=hunter2 /bin/sh -c make", "hunter2"),
        ("RUN pip config set token ghp_" + "a1" * 18, "a1" * 18),
        ("COPY https://me:hunter2@a.example/x /srv", "hunter2"),
        ("RUN login --password hunter2", "hunter2"),
        ("RUN wget --header 'Authorization: Bearer hunter2' x", "hunter2"),
        ("RUN echo -----BEGIN RSA PRIVATE KEY----- hunter2 > /srv/file", "hunter2"),
    ],
)
def test_no_finding_shows_a_secret_of_the_instruction_that_made_its_layer(
    world: World, found: Callable[[Made], list[Finding]], step: str, secret: str
) -> None:
    findings = found(made_image(world).above(step, Member(name="srv/file", content=b"x")))
    (extra,) = [one for one in findings if one.check == "image-extra"]
    assert extra.layer.startswith(f"6: {step.split(maxsplit=1)[0]}")
    assert not any(secret in f"{one.subject} {one.message} {one.layer}" for one in findings)


def test_image_secrets__in_an_address(world: World, found: Callable[[Made], list[Finding]]) -> None:
    address = "https://me:hunter2@a.example/simple"
    image = made_image(world)
    image = image.configured(f"ENV INDEX={address}", Env=[*image.config["Env"], f"INDEX={address}"])
    findings = found(image)
    told = [one for one in findings if one.check == "image-secrets"]
    assert [(one.subject, one.message) for one in told] == [
        ("INDEX", "holds a password in an address"),
        ("history ENV", "holds a password in an address"),
    ]
    assert not any("hunter2" in one.message for one in findings)


def test_lists_that_cannot_be_read_are_of_packages_that_are_told(
    world: World, found: Callable[[Made], list[Finding]]
) -> None:
    """A stray quotation mark makes one field of all that follows, and Python's csv takes none that long."""
    folder = f"{SITE}/evil-1.dist-info"
    record = b'evil.py,sha256=\xc3\xa4,1\n"' + b"x" * 200_000
    image = made_image(world).above(
        "RUN pip",
        Member(name=f"{folder}/METADATA", content=b"Name: evil\nVersion: 1\n"),
        Member(name=f"{folder}/RECORD", content=record),
        Member(name="opt/conda/conda-meta/evil.json", content=b"[" * 100_000),
    )
    checks = {one.check: one.subject for one in found(image)}
    assert checks["image-packages"] == "evil"
    assert checks["image-conda"] == "evil.json"


def test_a_variable_that_is_no_text_is_told(
    world: World, found: Callable[[Made], list[Finding]]
) -> None:
    image = made_image(world)
    (one,) = found(image.configured("ENV A=b", Env=[*image.config["Env"], "A=\ud800"]))
    assert (one.check, one.subject) == ("image-env", "A")


def test_image_leftovers__of_installing(world: World, found: Callable[[Made], list[Finding]]) -> None:
    names = ("root/.cache/pip/http/ab/cd", "var/cache/apt/archives/curl.deb", "build/objects/a.o")
    image = made_image(world).above("RUN", *(Member(name=name, content=b"x") for name in names))
    assert sorted((one.check, one.subject) for one in found(image)) == sorted(
        ("image-leftovers", f"/{name}") for name in names
    )


def test_image_build_paths__of_whoever_built_it(
    world: World, found: Callable[[Made], list[Finding]]
) -> None:
    image = made_image(world).above(
        "COPY", Member(name="srv/config.ini", content=b"cache = /home/alice/project/cache\n")
    )
    assert [(one.check, one.level) for one in found(image)] == [
        ("image-extra", "error"),
        ("image-build-paths", "warning"),
    ]


def test_image_env__more_and_less(world: World, found: Callable[[Made], list[Finding]]) -> None:
    image = made_image(world)
    env = [text for text in image.config["Env"] if not text.startswith("LANG=")]
    image = image.configured("ENV LD_PRELOAD=/evil.so", Env=[*env, "LD_PRELOAD=/evil.so"])
    assert lines(found(image)) == [
        "image-env: LANG: is not set, the lock has `C.UTF-8`",
        "image-env: LD_PRELOAD: is `/evil.so`, the lock has none",
    ]


def test_image_labels__forged(world: World, found: Callable[[Made], list[Finding]]) -> None:
    image = made_image(world)
    labels = {**image.config["Labels"], "io.lockbuild.stack": "other"}
    assert lines(found(image.configured("LABEL io.lockbuild.stack=other", Labels=labels))) == [
        "image-labels: io.lockbuild.stack: is `other`, the lock has `small`"
    ]


def test_image_lock__absent(world: World, found: Callable[[Made], list[Finding]]) -> None:
    image = made_image(world)
    labels = {k: v for k, v in image.config["Labels"].items() if k != "io.lockbuild.lock"}
    (line,) = lines(found(image.configured("LABEL", Labels=labels)))
    assert line.startswith("image-lock: image.tar: label io.lockbuild.lock is absent, the lock's digest")


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"Cmd": ["sh"]}, "CMD: is `sh`, the lock has `python3`"),
        ({"Entrypoint": None}, "ENTRYPOINT: is ``, the lock has `/opt/lockbuild/entrypoint`"),
        ({"WorkingDir": "/"}, "WORKDIR: is `/`, the lock has `/workspace`"),
        ({"User": "2000"}, "USER: is `2000`, the lock has `1000:1000`"),
    ],
    ids=["command", "entry point", "folder", "user"],
)
def test_image_settings__of_another_image(
    world: World, found: Callable[[Made], list[Finding]], changes: dict[str, object], said: str
) -> None:
    word = said.partition(":")[0]
    (finding,) = found(made_image(world).configured(f"{word} x", **changes))
    assert lines([finding]) == [f"image-settings: {said}"]
    assert finding.layer == f"configuration, above layer 5: {word} x"


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        (
            {"Healthcheck": {"Test": ["CMD", "/evil"]}},
            'HEALTHCHECK: is `{"Test": ["CMD", "/evil"]}`, the lock has none',
        ),
        ({"OnBuild": ["RUN evil"]}, 'ONBUILD: is `["RUN evil"]`, the lock has none'),
        ({"Shell": ["/evil", "-c"]}, 'SHELL: is `["/evil", "-c"]`, the lock has none'),
        ({"Volumes": {"/opt": {}}}, 'VOLUME: is `{"/opt": {}}`, the lock has none'),
        ({"ExposedPorts": {"22/tcp": {}}}, 'EXPOSE: is `{"22/tcp": {}}`, the lock has none'),
        ({"StopSignal": "SIGCONT"}, 'STOPSIGNAL: is `"SIGCONT"`, the lock has none'),
        ({"StopTimeout": 9}, "StopTimeout: is `9`, the lock has none"),
        ({"healthcheck": {"Test": ["NONE"]}}, 'HEALTHCHECK: is `{"Test": ["NONE"]}`, the lock has none'),
        ({"Cmd": ["python3", ""]}, "CMD: is `python3 ''`, the lock has `python3`"),
    ],
    ids=lambda value: next(iter(value)) if isinstance(value, dict) else "",
)
def test_image_settings__that_the_lock_does_not_render(
    world: World, found: Callable[[Made], list[Finding]], changes: dict[str, object], said: str
) -> None:
    word = said.partition(":")[0]
    (finding,) = found(made_image(world).configured(f"{word} x", **changes))
    assert lines([finding]) == [f"image-settings: {said}"]
    assert finding.level == "error"
    assert finding.layer == f"configuration, above layer 5: {word} x"


def test_image_settings__that_say_nothing(world: World, found: Callable[[Made], list[Finding]]) -> None:
    nothing: dict[str, object] = {
        "Healthcheck": None,
        "OnBuild": None,
        "Volumes": {},
        "ExposedPorts": {},
        "Shell": [],
    }
    assert found(made_image(world).configured("ENV", **nothing)) == []


def test_a_setting_in_two_spellings_is_refused(
    world: World, found: Callable[[Made], list[Finding]]
) -> None:
    image = made_image(world).configured("ENTRYPOINT /evil", entrypoint=["/evil"])
    with pytest.raises(ImageError, match=r"`entrypoint` stands there twice"):
        found(image)


def test_image_env__set_twice(world: World, found: Callable[[Made], list[Finding]]) -> None:
    image = made_image(world)
    (path,) = (text for text in image.config["Env"] if text.startswith("PATH="))
    (finding,) = found(image.configured("ENV PATH=/evil", Env=["PATH=/evil", *image.config["Env"]]))
    assert lines([finding]) == [
        f"image-env: PATH: is set 2 times: `/evil`, then `{path.removeprefix('PATH=')}`"
    ]
    assert finding.layer == "configuration, above layer 5: ENV PATH"


def test_image_secrets__in_what_an_image_runs(
    world: World, found: Callable[[Made], list[Finding]]
) -> None:
    token = "ghp_" + "a1" * 18
    check = {"Test": ["CMD", "curl", token]}
    findings = found(made_image(world).configured("x", Healthcheck=check, Cmd=["run", token]))
    told = [one.subject for one in findings if one.check == "image-secrets"]
    assert told == ["CMD", "HEALTHCHECK"]
    assert not any(token in one.message for one in findings)


def test_image_user__root(world: World, found: Callable[[Made], list[Finding]]) -> None:
    assert lines(found(made_image(world).configured("USER root", User="root"))) == [
        "image-settings: USER: is `root`, the lock has `1000:1000`",
        "image-user: USER: is `root`",
    ]


@pytest.mark.parametrize(
    "step",
    [
        "RUN /bin/sh -c apt-get update && apt-get install curl # buildkit",
        "/bin/sh -c pip install requests",
    ],
)
def test_image_network__asked_by_a_step(
    world: World, found: Callable[[Made], list[Finding]], step: str
) -> None:
    (finding,) = found(made_image(world).above(step))
    assert finding.check == "image-network"
    assert finding.layer == f"6: {step.removesuffix(' # buildkit')}"


def test_what_the_store_has_not_is_not_guessed(world: World, tmp_path: Path) -> None:
    record = world.store.root / "records" / f"{world.built('runtime')}.json"
    text = record.read_text()
    record.unlink()
    try:
        contents = seen(world, write_archive(tmp_path / "image.tar", made_image(world)))
    finally:
        record.write_text(text)
    assert contents.drift.files == ()
    assert "bookworm-runtime" in contents.expected.absent[0]


@pytest.mark.parametrize(
    "damage",
    [lambda data: data.replace(b"libc", b"evil"), lambda data: data[:700]],
    ids=["edited", "cut"],
)
def test_what_is_damaged_in_the_store_is_to_be_repaired(
    world: World, tmp_path: Path, damage: Callable[[bytes], bytes]
) -> None:
    path = world.built("runtime")
    file = world.store.locate(path) / "rootfs.tar"
    data, mode = file.read_bytes(), file.stat().st_mode
    notes = [one for one in world.store.root.rglob("files-*.json") if path in str(one)]
    for note in notes:
        note.unlink()
    file.chmod(0o644)
    file.write_bytes(damage(data))
    try:
        report = audited_report(
            world, seen(world, write_archive(tmp_path / "image.tar", made_image(world)))
        )
    finally:
        file.write_bytes(data)
        file.chmod(mode)
    said = dict(report.skipped)["image-base-files"]
    assert said.startswith(f"store object `{path}` is damaged: ")
    assert said.endswith(": `lockbuild store repair`, then `lockbuild build`")


def test_image_licensed__is_looked_for_where_the_store_lacks_a_wheel(
    world: World, tmp_path: Path
) -> None:
    token = "ghp_" + "a1" * 18
    image = made_image(world)
    image = image.above("COPY", Member(name="app/body_models/x.npz", content=b"smpl"))
    image = image.above("RUN rm", Member(name="app/.wh.body_models", content=b""))
    image = image.configured(f"ENV A={token}", Env=[*image.config["Env"], f"A={token}"])
    record = world.store.root / "records" / f"{dict(world.plan.builds)['gamma']}.json"
    text = record.read_text()
    record.unlink()
    try:
        report = audited_report(world, seen(world, write_archive(tmp_path / "image.tar", image)))
    finally:
        record.write_text(text)
    (licensed,) = [one for one in report.findings if one.check == "image-licensed"]
    assert licensed.subject == "/app/body_models/x.npz"
    assert licensed.message.endswith("; layer 7 deletes it, and it is still shipped")
    secrets = [one.subject for one in report.findings if one.check == "image-secrets"]
    assert secrets == ["A", "history ENV"]
    skipped = {check for check, _ in report.skipped}
    assert "image-extra" in skipped
    assert "image-secrets" in skipped
    assert "image-licensed" not in skipped
