"""What is known of the outside: which torch has which CUDA, what modules are called on PyPI, which Pythons there are. Pure.

Facts with a date on them (2026): what is not here is left to whoever reads the draft.
"""

from __future__ import annotations

from dataclasses import dataclass

__all__ = [
    "APT_OF_CONDA",
    "APT_RENAMED",
    "ARCHIVES",
    "BASES",
    "DEBS_OF_PROJECT",
    "NOT_IN_IMAGES",
    "NO_PYTHON",
    "ONLY_SDIST",
    "PROJECT_OF_CONDA",
    "PROJECT_OF_MODULE",
    "TOOLCHAIN_ONLY",
    "TORCH_FAMILY",
    "UBUNTU_PYTHON",
    "Archive",
    "Base",
    "TorchRelease",
    "torch_release",
]


@dataclass(frozen=True, slots=True, kw_only=True)
class Base:
    """A Debian release."""

    suite: str
    glibc: str
    python: str
    """Of its `python3`."""
    nvcc: str
    """CUDA of its `nvidia-cuda-toolkit`."""


BASES = (
    Base(suite="bookworm", glibc="2.36", python="3.11", nvcc="11.8"),
    Base(suite="trixie", glibc="2.41", python="3.13", nvcc="12.4"),
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Archive:
    """A CPython of python-build-standalone (`install_only`)."""

    version: str
    date: str
    sha256: str

    @property
    def url(self) -> str:
        """Where its release page has it."""
        return (
            f"https://github.com/astral-sh/python-build-standalone/releases/download/{self.date}/"
            f"cpython-{self.version}%2B{self.date}-x86_64-unknown-linux-gnu-install_only.tar.gz"
        )


# Hashes as bazel-contrib/rules_python has them, in `python/versions.bzl`.
ARCHIVES = {
    "3.8": Archive(
        version="3.8.20",
        date="20241002",
        sha256="285e141c36f88b2e9357654c5f77d1f8fb29cc25132698fe35bb30d787f38e87",
    ),
    "3.9": Archive(
        version="3.9.23",
        date="20250612",
        sha256="110ddaca41601b431041db6b4778584f671ca109ca25ef19fe32796026678358",
    ),
    "3.10": Archive(
        version="3.10.19",
        date="20251031",
        sha256="fb1caac917d7b6497bb6f5950da5f1e48d05c43a498948dd97f85760c4382d9f",
    ),
    "3.11": Archive(
        version="3.11.13",
        date="20250702",
        sha256="e04944e70637f9d82022c9a41ae31de306b0d5bbd3fb64b9eb3261b8b5e0b30c",
    ),
    "3.12": Archive(
        version="3.12.11",
        date="20250702",
        sha256="0919f8b5311765b4cf1342371724d7bf2a6eaf51f15f5cb2b9ad5fd0ee54271c",
    ),
    "3.13": Archive(
        version="3.13.5",
        date="20250702",
        sha256="9f5d5260f333fcb5372ec681851d92ddac79a33362aa85626b6cc96ffe75eeef",
    ),
}

UBUNTU_PYTHON = {
    "16.04": "3.5",
    "18.04": "3.6",
    "20.04": "3.8",
    "22.04": "3.10",
    "24.04": "3.12",
}


# ---- torch ----------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True, kw_only=True)
class TorchRelease:
    """A minor release of PyTorch."""

    vision: str
    """The torchvision that was made for it, up to the patch number."""
    pythons: tuple[int, int]
    """First and last minor version of Python 3 that it has wheels for."""
    default: str
    """CUDA of its wheels on the default index."""
    others: tuple[str, ...]
    """CUDA of those with a local version, on an index of their own."""


def _torch(
    vision: str, pythons: tuple[int, int], default: str, others: tuple[str, ...] = ()
) -> TorchRelease:
    return TorchRelease(vision=vision, pythons=pythons, default=default, others=others)


# https://github.com/pytorch/pytorch/blob/main/RELEASE.md and the "previous versions" page of pytorch.org.
_TORCH = {
    "1.4": _torch("0.5", (5, 8), "10.1", ("9.2",)),
    "1.5": _torch("0.6", (5, 8), "10.2", ("9.2", "10.1")),
    "1.6": _torch("0.7", (6, 8), "10.2", ("9.2", "10.1")),
    "1.7": _torch("0.8", (6, 9), "10.2", ("9.2", "10.1", "11.0")),
    "1.8": _torch("0.9", (6, 9), "10.2", ("10.1", "11.1")),
    "1.9": _torch("0.10", (6, 9), "10.2", ("11.1",)),
    "1.10": _torch("0.11", (6, 10), "10.2", ("11.1", "11.3")),
    "1.11": _torch("0.12", (7, 10), "10.2", ("11.3", "11.5")),
    "1.12": _torch("0.13", (7, 10), "10.2", ("11.3", "11.6")),
    "1.13": _torch("0.14", (7, 11), "11.7", ("11.6", "11.7")),
    "2.0": _torch("0.15", (8, 11), "11.7", ("11.7", "11.8")),
    "2.1": _torch("0.16", (8, 11), "12.1", ("11.8", "12.1")),
    "2.2": _torch("0.17", (8, 12), "12.1", ("11.8", "12.1")),
    "2.3": _torch("0.18", (8, 12), "12.1", ("11.8", "12.1")),
    "2.4": _torch("0.19", (8, 12), "12.1", ("11.8", "12.1", "12.4")),
    "2.5": _torch("0.20", (9, 12), "12.4", ("11.8", "12.1", "12.4")),
    "2.6": _torch("0.21", (9, 13), "12.4", ("11.8", "12.4", "12.6")),
    "2.7": _torch("0.22", (9, 13), "12.6", ("11.8", "12.6", "12.8")),
    "2.8": _torch("0.23", (9, 13), "12.8", ("12.6", "12.8", "12.9")),
}

TORCH_FAMILY = ("torch", "torchaudio", "torchvision")
"""Projects of PyTorch's own indexes, built for one torch and one CUDA."""


def torch_release(version: str) -> TorchRelease | None:
    """Return what is known of the torch with this version."""
    return _TORCH.get(".".join(version.split("+", maxsplit=1)[0].split(".")[:2]))


# ---- names ----------------------------------------------------------------------------------------

PROJECT_OF_CONDA = {
    "faiss-cpu": "faiss-cpu",
    "matplotlib-base": "matplotlib",
    "msgpack-python": "msgpack",
    "opencv": "opencv-python",
    "py-opencv": "opencv-python",
    "pytables": "tables",
    "pytorch": "torch",
    "pytorch-cpu": "torch",
    "pytorch-gpu": "torch",
    "tensorflow-gpu": "tensorflow-gpu",
}
"""conda package -> project on PyPI, where the names differ."""

NO_PYTHON = frozenset(
    {
        "_libgcc_mutex",
        "_openmp_mutex",
        "blas",
        "bzip2",
        "ca-certificates",
        "certifi",
        "cpuonly",
        "cudnn",
        "freetype",
        "gmp",
        "gnutls",
        "intel-openmp",
        "jpeg",
        "lame",
        "lcms2",
        "ld_impl_linux-64",
        "lerc",
        "llvm-openmp",
        "lz4-c",
        "mkl",
        "mkl-service",
        "mkl_fft",
        "mkl_random",
        "ncurses",
        "nettle",
        "ninja",
        "openh264",
        "openjpeg",
        "openssl",
        "pip",
        "python_abi",
        "pytorch-mutex",
        "readline",
        "setuptools",
        "sqlite",
        "tk",
        "wheel",
        "xz",
        "zlib",
        "zstd",
    }
)
"""conda packages that are no Python package, or none that anything asks for by name."""

APT_OF_CONDA = {
    "cmake": "cmake",
    "cxx-compiler": "g++",
    "eigen": "libeigen3-dev",
    "ffmpeg": "ffmpeg",
    "gcc": "gcc",
    "gcc_linux-64": "gcc",
    "git": "git",
    "gxx": "g++",
    "gxx_linux-64": "g++",
    "libsndfile": "libsndfile1",
    "make": "make",
    "portaudio": "libportaudio2",
    "sox": "sox",
}
"""conda package -> Debian package."""

APT_RENAMED = {
    "libgl1-mesa-dev": "libgl-dev",
    "libgl1-mesa-glx": "libgl1",
    "libglib2.0-0": "libglib2.0-0",
    "libjpeg8": "libjpeg62-turbo",
    "libjpeg8-dev": "libjpeg-dev",
    "libturbojpeg": "libturbojpeg0",
    "python": "python3",
    "ttf-mscorefonts-installer": "",
}
"""Package of an old Ubuntu or Debian -> its name in Debian 12; empty for none."""

NOT_IN_IMAGES = frozenset(
    {
        "apt-transport-https",
        "apt-utils",
        "ca-certificates",
        "curl",
        "emacs",
        "gnupg",
        "gnupg2",
        "htop",
        "less",
        "locales",
        "lsb-release",
        "nano",
        "openssh-client",
        "openssh-server",
        "rsync",
        "screen",
        "software-properties-common",
        "sudo",
        "tmux",
        "tree",
        "unzip",
        "vim",
        "wget",
        "zip",
    }
)
"""What a Dockerfile installs to fetch and to look around, which a built image does not need."""

TOOLCHAIN_ONLY = frozenset(
    {
        "autoconf",
        "automake",
        "bison",
        "build-essential",
        "clang",
        "cmake",
        "cython3",
        "flex",
        "g++",
        "gcc",
        "git",
        "gfortran",
        "libtool",
        "llvm",
        "make",
        "nasm",
        "ninja-build",
        "pkg-config",
        "swig",
        "yasm",
    }
)
"""Packages for compiling; those that end in `-dev` are, too."""

DEBS_OF_PROJECT = {
    "jpeg4py": ("libturbojpeg0",),
    "opencv-contrib-python": ("libgl1", "libglib2.0-0"),
    "opencv-python": ("libgl1", "libglib2.0-0"),
    "pyaudio": ("libportaudio2",),
    "pyopengl": ("libegl1", "libgl1"),
    "pyrender": ("libegl1", "libgl1", "libosmesa6"),
}
"""Project -> shared libraries that its wheels lack."""

ONLY_SDIST = frozenset(
    {
        "antlr4-python3-runtime",
        "chumpy",
        "detectron2",
        "filterpy",
        "fvcore",
        "glumpy",
        "jpeg4py",
        "mmcv-full",
        "pyaudio",
        "pydensecrf",
        "python-speech-features",
        "pytorch3d",
        "triangle",
    }
)
"""Projects of which the default index has no wheel for Linux: they must be built."""

PROJECT_OF_MODULE = {
    "Cython": "cython",
    "Imath": "openexr",
    "OpenEXR": "openexr",
    "OpenGL": "pyopengl",
    "PIL": "pillow",
    "antlr4": "antlr4-python3-runtime",
    "attr": "attrs",
    "bs4": "beautifulsoup4",
    "cityscapesscripts": "cityscapesscripts",
    "cv2": "opencv-python",
    "cuml": "cuml-cu11",
    "dateutil": "python-dateutil",
    "dotenv": "python-dotenv",
    "faiss": "faiss-gpu",
    "fastai": "fastai",
    "git": "gitpython",
    "google": "protobuf",
    "hydra": "hydra-core",
    "igl": "libigl",
    "kornia": "kornia",
    "mcubes": "pymcubes",
    "mmcv": "mmcv-full",
    "mpl_toolkits": "matplotlib",
    "mpi4py": "mpi4py",
    "pkg_resources": "setuptools",
    "png": "pypng",
    "pycocotools": "pycocotools",
    "pydensecrf": "pydensecrf",
    "pytorch_lightning": "pytorch-lightning",
    "serial": "pyserial",
    "skimage": "scikit-image",
    "sklearn": "scikit-learn",
    "skvideo": "scikit-video",
    "yaml": "pyyaml",
    "zmq": "pyzmq",
}
"""Module -> project, where the names differ in more than `_`."""
