"""Results of audits as large as those of real stacks: 200 components, findings of every sort. No file is read."""

from __future__ import annotations

from dataclasses import replace
from datetime import date

from lockbuild.components import Component, Kind, LicenceFile, ref_of
from lockbuild.findings import Check, Finding, Report
from lockbuild.results import Result
from tests.values import sha

__all__ = ["CHECKS", "component", "components", "finding", "large_result", "small_result"]

_WHEELS = """
torch 2.0.1 619.9 1208.0 * BSD-3-Clause < filelock typing-extensions sympy networkx jinja2 triton nvidia-cublas-cu11 \
nvidia-cudnn-cu11 nvidia-cuda-runtime-cu11 nvidia-cufft-cu11 nvidia-nccl-cu11
torchvision 0.15.2 6.0 13.0 * BSD-3-Clause < torch numpy requests pillow
mmcv-full 1.7.2+pt20cu118 30.6 92.0 * Apache-2.0 < torch addict numpy packaging pillow pyyaml yapf
pytorch3d 0.7.5+pt20cu118 56.7 141.0 * BSD-3-Clause < torch iopath fvcore
detectron2 0.6+pt20cu118 6.1 18.2 * Apache-2.0 < torch torchvision iopath fvcore pycocotools hydra-core omegaconf tabulate
opencv-python-headless 4.8.1.78 49.1 71.5 * Apache-2.0 < numpy
pillow 9.5.0 3.4 9.9 - HPND <
numpy 1.24.4 17.3 61.2 - BSD-3-Clause <
scipy 1.10.1 34.1 109.0 * BSD-3-Clause < numpy
scikit-image 0.21.0 13.8 43.0 * BSD-3-Clause < numpy scipy networkx pillow imageio tifffile packaging
imageio 2.31.6 0.3 1.4 - BSD-2-Clause < numpy pillow
tifffile 2023.7.10 0.2 0.9 - BSD-3-Clause < numpy
triton 2.0.0 63.3 224.0 - MIT < filelock torch cmake lit
cmake 3.27.7 26.1 61.0 - Apache-2.0 <
lit 17.0.6 0.1 0.5 - -
nvidia-cublas-cu11 11.10.3.66 317.1 549.0 - LicenseRef-NVIDIA <
nvidia-cudnn-cu11 8.5.0.96 557.1 1094.0 - LicenseRef-NVIDIA < nvidia-cublas-cu11
nvidia-cuda-runtime-cu11 11.7.99 0.8 2.9 - LicenseRef-NVIDIA <
nvidia-cufft-cu11 10.9.0.58 168.4 276.0 - LicenseRef-NVIDIA <
nvidia-nccl-cu11 2.14.3 177.1 372.0 - LicenseRef-NVIDIA <
sympy 1.12 5.7 32.4 - BSD-3-Clause < mpmath
mpmath 1.3.0 0.5 2.5 - BSD-3-Clause <
networkx 3.1 2.1 10.6 - BSD-3-Clause <
jinja2 3.1.2 0.1 0.5 - BSD-3-Clause < markupsafe
markupsafe 2.1.3 0.0 0.1 - BSD-3-Clause <
filelock 3.12.4 0.0 0.1 - Unlicense <
typing-extensions 4.8.0 0.0 0.1 - PSF-2.0 <
requests 2.31.0 0.1 0.2 - Apache-2.0 < certifi charset-normalizer idna urllib3
certifi 2023.7.22 0.2 0.3 - MPL-2.0 <
charset-normalizer 3.3.0 0.1 0.4 - MIT <
idna 3.4 0.1 0.3 - BSD-3-Clause <
urllib3 2.0.6 0.1 0.5 - MIT <
addict 2.4.0 0.0 0.0 - MIT <
pyyaml 6.0.1 0.7 2.7 * MIT <
yapf 0.40.2 0.3 1.1 - Apache-2.0 < tomli platformdirs
tomli 2.0.1 0.0 0.1 - MIT <
platformdirs 3.11.0 0.0 0.1 - MIT <
packaging 23.2 0.1 0.2 - Apache-2.0_OR_BSD-2-Clause <
iopath 0.1.10 0.0 0.2 - MIT < tqdm portalocker
fvcore 0.1.5.post20221221 0.0 0.3 * Apache-2.0 < iopath numpy pyyaml tabulate termcolor tqdm yacs
tqdm 4.66.1 0.1 0.3 * MPL-2.0_AND_MIT <
portalocker 2.8.2 0.0 0.1 - BSD-3-Clause <
tabulate 0.9.0 0.0 0.1 - MIT <
termcolor 2.3.0 0.0 0.0 - MIT <
yacs 0.1.8 0.0 0.1 - Apache-2.0 < pyyaml
pycocotools 2.0.7 0.4 1.3 - - < numpy matplotlib
matplotlib 3.7.3 11.6 26.0 * PSF-2.0 < contourpy cycler fonttools kiwisolver numpy packaging pillow pyparsing
contourpy 1.1.1 0.3 0.9 - BSD-3-Clause < numpy
cycler 0.12.1 0.0 0.0 - BSD-3-Clause <
fonttools 4.43.1 4.5 22.0 - MIT <
kiwisolver 1.4.5 1.6 4.6 - BSD-3-Clause <
pyparsing 3.1.1 0.1 0.4 - MIT <
hydra-core 1.3.2 0.2 0.6 - MIT < omegaconf antlr4-python3-runtime
omegaconf 2.3.0 0.1 0.4 - BSD-3-Clause < antlr4-python3-runtime pyyaml
antlr4-python3-runtime 4.9.3 0.1 0.6 - - <
simple-knn 0.0.0+pt20cu118 0.9 3.1 * LicenseRef-Gaussian-Splatting < torch
diff-gaussian-rasterization 0.0.0+pt20cu118 1.9 6.4 * LicenseRef-Gaussian-Splatting < torch
"""
"""Name, version, MB of the file, MB in the image, `*` where the stack asks for it, licence, `<`, what it needs."""

_DEBS = """
libc6 libgcc-s1 gcc-12-base zlib1g libstdc++6 libexpat1 libssl3 python3.11-minimal python3.11 libpython3.11-stdlib
libgl1 libglvnd0 libglx0 libx11-6 libxcb1 libx11-data libglib2.0-0 libffi8 libpcre2-8-0 libmount1 libblkid1
libselinux1 ffmpeg libavcodec59 libavformat59 libavutil57 libswscale6 libswresample4 libx264-164 libx265-199
libvpx7 libopus0 libmp3lame0 libass9 libfontconfig1 libfreetype6 fontconfig-config fonts-dejavu-core libpng16-16
libjpeg62-turbo libtiff6 libwebp7 libllvm15 libdrm2 libdrm-amdgpu1 libgl1-mesa-dri libgbm1 libwayland-client0
libpulse0 libasound2 libsndfile1 libflac12 libvorbis0a libogg0 libbluray2 libgnutls30 libnettle8 libhogweed6
libgmp10 libidn2-0 libunistring2 libp11-kit0 libtasn1-6 perl-base bash coreutils dash debianutils tar gzip sed
grep findutils ncurses-base libtinfo6 base-files base-passwd passwd login libpam0g libpam-modules libaudit1
libcap-ng0 libdb5.3 libcrypt1 libacl1 libattr1 liblzma5 libbz2-1.0 liblz4-1 libzstd1 libsystemd0 libudev1
tzdata ca-certificates openssl mawk util-linux libuuid1 libsmartcols1 sysvinit-utils init-system-helpers
"""
_ASKED_DEBS = frozenset({"libgl1", "libglib2.0-0", "ffmpeg", "python3.11", "ca-certificates"})
_MEGA = 1_000_000

CHECKS = (
    Check(
        id="wheel-bytes",
        level="error",
        what="every wheel of the wheelhouse has the bytes of the manifest",
        why="what is installed would not be what was built",
        mend="`lockbuild build` fills the wheelhouse again",
        about="wheelhouse",
    ),
    Check(
        id="vulnerability",
        level="error",
        what="nothing in the image is known to be vulnerable",
        why="whoever reaches the program reaches the fault",
        mend="`lockbuild resolve -P NAME` takes a version that has it mended, where the stack's constraints let it",
    ),
    Check(
        id="licence-unknown",
        level="warning",
        what="every part of the image says its licence",
        why="what nobody gave leave to pass on may not be passed on",
        mend="say it under `audit.licenses.of` of the stack",
    ),
    Check(
        id="image-debs",
        level="error",
        what="the image has the .debs of the lock, and no others",
        why="what runs would not be what was audited",
        mend="`lockbuild image` builds it again",
        about="image",
    ),
    Check(
        id="secrets",
        level="error",
        what="no layer holds a password, token or private key",
        why="whoever has the image has it, also where a later layer deletes it",
        mend="take it out of the source, and change it where it is used",
        about="image",
    ),
    Check(
        id="moving-ref",
        level="warning",
        what="sources are pinned by commit, not by branch or tag",
        why="tomorrow it names something else",
        mend="say the commit",
    ),
    Check(
        id="store-bytes",
        level="error",
        what="what the store holds hashes to what its records say",
        why="a disk that forgets gives a different image",
        mend="`lockbuild store repair`",
    ),
    Check(
        id="venv-packages",
        level="error",
        what="the environment has the packages of the lock",
        why="what runs would not be what was locked",
        mend="`uv pip sync pylock.toml`",
        about="venv",
    ),
)


def component(kind: Kind, name: str, version: str = "1.0", **changes: object) -> Component:
    """Return a component with the rest filled in."""
    one = Component(
        ref=ref_of(kind, name, version),
        kind=kind,
        name=name,
        version=version,
        purl="",
        sha256=sha(f"{kind} {name} {version}"),
        size=1000,
    )
    return replace(one, **changes)  # type: ignore[arg-type]


def _wheels() -> list[Component]:
    rows = [line.split() for line in _WHEELS.replace("\\\n", " ").strip().splitlines()]
    versions = {row[0]: row[1] for row in rows}
    return [
        component(
            "wheel",
            name,
            version,
            purl=f"pkg:pypi/{name}@{version.replace('+', '%2B')}",
            size=int(float(size) * _MEGA) + 4000,
            installed_size=int(float(installed) * _MEGA) + 9000,
            requested=asked == "*",
            built="+pt20" in version,
            needs=tuple(sorted(ref_of("wheel", need, versions[need]) for need in rest[1:])),
            origin="git" if "+pt20" in version else "pypi",
            licence="" if licence == "-" else licence.replace("_", " "),
            declared="" if licence == "-" else licence.replace("_", " "),
            told_by="" if licence == "-" else "License-Expression",
            licence_files=(LicenceFile(name=f"{name}.dist-info/LICENSE", sha256=sha(licence)),),
        )
        for name, version, size, installed, asked, licence, *rest in rows
    ]


def _debs() -> list[Component]:
    made: list[Component] = []
    for number, name in enumerate(_DEBS.split()):
        version = f"{1 + number % 9}.{number % 17}-{1 + number % 4}"
        # A chain of needs that branches: as deep and as wide as those of a real root file system.
        needs = {made[place].ref for place in (0, number // 2, number // 3) if place < number}
        size = int(sha(name)[:4], 16) * 60 + 20_000
        made.append(
            component(
                "deb",
                name,
                version,
                purl=f"pkg:deb/debian/{name}@{version}?distro=bookworm",
                size=size,
                installed_size=size * 4,
                requested=name in _ASKED_DEBS,
                needs=tuple(sorted(needs)),
                origin="debian bookworm",
                source_name=name.rstrip("0123456789.-"),
                source_version=version,
                licence=("LGPL-2.1-or-later", "MIT", "GPL-2.0-or-later")[number % 3],
                declared=("LGPL-2.1+", "Expat", "GPL-2+")[number % 3],
                told_by="copyright",
            )
        )
    return made


def components() -> tuple[Component, ...]:
    """Return about 200 components of every kind, with what a real stack of them needs."""
    tools = [
        component("deb", name, "11.8.89-5", size=40_000_000, in_image=False, origin="debian bookworm")
        for name in ("nvidia-cuda-toolkit", "g++-11", "ninja-build")
    ]
    builds = [
        component("wheel", name, "69.5.1", size=900_000, in_image=False, origin="pypi", licence="MIT")
        for name in ("setuptools", "wheel", "ninja", "cython", "build", "pyproject-hooks")
    ]
    others = [
        component("interpreter", "python", "3.11.2", installed_size=31_000_000, licence="PSF-2.0"),
        component("source", "TalkingGaussian", "9bd34f732e30", installed_size=3_000_000, requested=True),
        component(
            "asset",
            "yolov3.weights",
            "",
            size=248_007_048,
            installed_size=248_007_048,
            requested=True,
            sha256=sha("yolo"),
            licence="NOASSERTION",
        ),
        component(
            "asset", "lpips-alexnet", "", size=244_408_911, requested=True, licence="BSD-3-Clause"
        ),
        component("asset", "smpl", "", size=None, sha256=None, in_image=False, requested=True),
    ]
    padding = [
        component(
            "deb", f"libextra{number}", "1.2-3", size=90_000, installed_size=300_000, licence="MIT"
        )
        for number in range(30)
    ]
    return tuple(
        sorted((*_wheels(), *_debs(), *tools, *builds, *others, *padding), key=lambda one: one.ref)
    )


def finding(check: str, subject: str, message: str, **changes: object) -> Finding:
    """Return what a check of `CHECKS` found."""
    rule = next(one for one in CHECKS if one.id == check)
    one = Finding(check=check, level=rule.level, subject=subject, message=message, mend=rule.mend)
    return replace(one, **changes)  # type: ignore[arg-type]


_VULNERABLE = (
    (
        "pillow",
        "9.5.0",
        "CVE-2023-50447",
        "arbitrary code through `ImageMath.eval`",
        "10.2.0",
        "8.1 HIGH",
    ),
    ("pillow", "9.5.0", "CVE-2023-4863", "overflow of the heap in libwebp", "10.0.1", "8.8 HIGH"),
    (
        "torch",
        "2.0.1",
        "CVE-2025-32434",
        "`torch.load` runs code with `weights_only=True`",
        "2.6.0",
        "9.3 CRITICAL",
    ),
    (
        "jinja2",
        "3.1.2",
        "CVE-2024-22195",
        "attributes of `xmlattr` may be injected",
        "3.1.3",
        "5.4 MEDIUM",
    ),
    ("requests", "2.31.0", "CVE-2024-35195", "a session goes on not verifying", "2.32.0", "5.6 MEDIUM"),
)


def large_result() -> Result:
    """Return the audit of a stack of 200 parts, with errors, warnings, waivers and checks that could not run."""
    parts = components()
    vulnerable = [
        finding(
            "vulnerability",
            name,
            f"{version} has {cve}: {what}; mended in {fixed}",
            facts=(("severity", severity), ("fixed", fixed), ("aliases", f"GHSA-{sha(cve)[:4]}, {cve}")),
            level="error" if "MEDIUM" not in severity else "warning",
        )
        for name, version, cve, what, fixed, severity in _VULNERABLE
    ]
    vulnerable[1] = replace(vulnerable[1], waived="until 2027-06-30: no WebP of a stranger is ever read")
    unknown = [
        finding("licence-unknown", one.name, "says no licence, and has no licence file that tells")
        for one in parts
        if one.in_image and not one.licence
    ]
    findings = (
        *vulnerable,
        *unknown,
        finding(
            "image-debs",
            "openssl",
            "found 3.0.17-1~deb12u2, expected 3.0.11-1~deb12u2",
            layer="7 RUN apt-get upgrade",
        ),
        finding(
            "moving-ref", "source.TalkingGaussian", "`ref = main` stands for another commit tomorrow"
        ),
    )
    return Result(
        stack="cu118-bookworm",
        summary="Every CUDA extension of the five systems, with nvcc 11.8 of Debian",
        lock=sha("lock"),
        image="lockbuild/cu118-bookworm:1f0c",
        today=date(2026, 11, 21),
        report=Report(
            findings=findings,
            passed=("wheel-bytes", "store-bytes"),
            skipped=(
                (
                    "secrets",
                    "the engine has no image `lockbuild/cu118-bookworm:1f0c`: `lockbuild image`",
                ),
            ),
        ),
        checks=CHECKS,
        components=parts,
        osv="osv-2026-11-09.zip: 212,431 records, the newest of 2026-11-09, 12 days old",
    )


def small_result(*findings: Finding, parts: tuple[Component, ...] = ()) -> Result:
    """Return the audit of a stack of few parts."""
    found = {one.check for one in findings}
    return Result(
        stack="small",
        summary="",
        lock=sha("lock"),
        image="",
        today=date(2026, 1, 2),
        report=Report(
            findings=findings,
            passed=tuple(check.id for check in CHECKS if check.id not in found),
            skipped=(),
        ),
        checks=CHECKS,
        components=parts,
    )
